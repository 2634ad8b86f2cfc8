//! `lifeboat wal push`: one file of the log into the store.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::spool::{self, Spool};
use super::{cover, job};
use crate::backup::wal::scan;
use crate::domain::check::Broke;
use crate::domain::ids::PlaceName;
use crate::domain::policy::Policy;
use crate::domain::wal::{History, Segment, Waiting, WalName, WalRecord};
use crate::engine::House;
use crate::seal::{Placed, SealError, Signer, WalFile, WalSealer};
use crate::store::{Store, StoreError};

/// No file of the log is longer.
const MAX_BYTES: u64 = 1 << 30;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pushed {
    /// What is in the store, or in the spool.
    pub record: WalRecord,
    /// Whether it was there already, with the same bytes.
    pub already: bool,
    /// Whether it waits in the spool: the store does not have it.
    pub spooled: bool,
    /// What waits in the spool now.
    pub waiting: Option<Waiting>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// Seals a file and puts it into the store. The same bytes again are a success, others under its name an error: so it may be asked again
/// at any time, as PostgreSQL does until it hears of success. A store that takes nothing is stood in for by the policy's spool, if it has one;
/// what waits there goes first.
pub async fn push(house: &House, policy: &Policy, path: &Path) -> Result<Pushed, Broke> {
    let job = job(policy).ok_or_else(|| {
        Broke::hinted(
            format!("policy {} takes no physical backup, and only those can use the log", policy.name),
            "add a [[backup]] with method = \"physical\" to the policy",
        )
    })?;
    let name: WalName = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().parse().map_err(
        |error: crate::domain::ids::BadId| Broke::hinted(error.to_string(), "archive_command gives it as %p"),
    )?;
    let known = house.catalog.artifacts(&policy.name).await?;
    let known = known.into_iter().map(|record| record.system_identifier).find(|identifier| !identifier.is_empty());
    let (file, warnings) = {
        let (path, of) = (path.to_owned(), policy.name.clone());
        let read = tokio::task::spawn_blocking(move || read(&path, name, known.as_deref(), of.as_str())).await;
        read.map_err(|error| Broke::new(format!("the reading thread stopped: {error}")))??
    };
    let signer = house.signer()?;
    let sealer = |store: Arc<dyn Store>, signer: Signer| {
        WalSealer::new(store, policy.name.clone(), &policy.encryption.recipients, job.level, signer)
    };
    let spool = policy.wal.as_ref().and_then(|wal| wal.spool.as_ref()).map(|plan| Spool::new(plan, &policy.name));
    let mut pushed = Pushing { warnings, waiting: None };
    let down = match house.store_to_fill(policy, &job.store).await {
        Err(broke) => broke,
        Ok(store) => {
            let sealer = sealer(Arc::clone(&store), signer.clone())?;
            let drained = match &spool {
                Some(spool) => pushed.drain(spool, &sealer, house, policy, &job.store).await,
                None => None,
            };
            match drained {
                Some(broke) => broke,
                None => match sealer.put(&file, crate::clock::now()).await {
                    Ok(placed) => {
                        if let Placed::Stored(record) = &placed {
                            pushed.covers(house, policy, &job.store, record).await;
                        }
                        return pushed.placed(placed, &store.url(), false);
                    }
                    Err(SealError::Store(error)) if takes_nothing(&error) => error.into(),
                    Err(error) => return Err(error.into()),
                },
            }
        }
    };
    let Some(spool) = spool else { return Err(down) };
    let (placed, waiting) = spool.put(&file, |store| sealer(store, signer)).await.map_err(|full| Broke {
        error: format!("the store {} takes nothing: {}; and {}", job.store, down.error, full.error),
        hint: full.hint.or(down.hint.clone()),
    })?;
    pushed.warnings.push(format!(
        "the store {} takes nothing: {}; {name} is in the spool instead. {}",
        job.store,
        down.error,
        spool::sentence(&waiting)
    ));
    pushed.waiting = Some(waiting);
    pushed.placed(placed, &spool.url(), true)
}

/// Whether another store would have taken the file.
fn takes_nothing(error: &StoreError) -> bool {
    match error {
        StoreError::Unusable { .. } | StoreError::Service { .. } | StoreError::Io { .. } => true,
        StoreError::NotFound { .. } | StoreError::AlreadyThere { .. } | StoreError::BadKey(_) => false,
    }
}

/// What is known while a file is pushed.
struct Pushing {
    warnings: Vec<String>,
    waiting: Option<Waiting>,
}

impl Pushing {
    /// What waits goes first. What stays there is said, and only a store that takes nothing is in this file's way.
    async fn drain(
        &mut self,
        spool: &Spool,
        sealer: &WalSealer,
        house: &House,
        policy: &Policy,
        place: &PlaceName,
    ) -> Option<Broke> {
        let drained = match house.trusted() {
            Ok(trusted) => spool.drain(sealer, &trusted).await,
            Err(broke) => Err(broke),
        };
        match drained {
            Ok(flushed) => {
                for record in &flushed.records {
                    self.covers(house, policy, place, record).await;
                }
                self.warnings.extend(flushed.stuck);
                self.waiting = flushed.left;
                flushed.down
            }
            Err(broke) => {
                self.warnings.push(format!("the spool could not be emptied: {}", broke.error));
                None
            }
        }
    }

    /// It is durable: a series that could not be written makes exposure look worse than it is, and must not keep the log from the store.
    async fn covers(&mut self, house: &House, policy: &Policy, place: &PlaceName, record: &WalRecord) {
        if let Err(broke) = cover::cover(house, policy, place, record).await {
            self.warnings.push(format!("what is covered could not be written down: {}", broke.error));
        }
    }

    fn placed(self, placed: Placed, place: &str, spooled: bool) -> Result<Pushed, Broke> {
        let Pushing { warnings, waiting } = self;
        match placed {
            Placed::Stored(record) => Ok(Pushed { record, already: false, spooled, waiting, warnings }),
            Placed::Already(record) => Ok(Pushed { record, already: true, spooled, waiting, warnings }),
            Placed::Differs(record) => Err(Broke::hinted(
                format!(
                    "{} is in {place} already, with other bytes, sealed at {}: it stays as it is",
                    record.name, record.sealed_at
                ),
                "do two servers archive under one policy, or was this one restored without a new timeline? Give each a policy of its own",
            )),
        }
    }
}

/// Reads the file and sees that it is what its name says.
fn read(path: &Path, name: WalName, known: Option<&str>, policy: &str) -> Result<(WalFile, Vec<String>), Broke> {
    let failed = |error: std::io::Error| {
        Broke::hinted(
            format!("{} cannot be read: {error}", path.display()),
            "archive_command gives it as %p, from the data folder",
        )
    };
    let found = std::fs::metadata(path).map_err(failed)?;
    if !found.is_file() || found.len() > MAX_BYTES {
        return Err(Broke::new(format!(
            "{} is no file of the log: no such file, or longer than 1 GiB",
            path.display()
        )));
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    let mut file = WalFile { name, system_identifier: known.map(str::to_owned), contents: None, bytes: bytes.into() };
    let mut warnings = Vec::new();
    match name {
        WalName::Segment(segment) => {
            look(&mut file, segment, known, policy)?;
            if file.contents.as_ref().is_some_and(|contents| !contents.whole) {
                warnings.push(format!(
                    "the records of {name} end before the segment does: what follows it cannot be replayed"
                ));
            }
        }
        WalName::Partial(segment) => look(&mut file, segment, known, policy)?,
        WalName::History { timeline } => {
            let wrong = |why: String| Broke::new(format!("{name} is no history of a timeline: {why}"));
            let text = std::str::from_utf8(&file.bytes).map_err(|error| wrong(error.to_string()))?;
            let history = History::parse(text).map_err(wrong)?;
            if history.ancestors.last().is_none_or(|(before, _)| *before >= timeline) {
                return Err(wrong("it does not say which timeline came before".to_owned()));
            }
        }
        WalName::Label { .. } => {}
        WalName::Piece(_) => return Err(Broke::new(format!("{name} is no file that a server archives"))),
    }
    Ok((file, warnings))
}

/// A segment: of the right cluster, at the right place, of its whole length.
fn look(file: &mut WalFile, segment: Segment, known: Option<&str>, policy: &str) -> Result<(), Broke> {
    let name = file.name;
    let (header, contents) = scan(&file.bytes).map_err(|error| Broke::new(format!("{name}: {error}")))?;
    let identifier = header.system_identifier.to_string();
    if known.is_some_and(|known| known != identifier) {
        return Err(Broke::hinted(
            format!("{name} is of the cluster {identifier}, and the backups of policy {policy} are of another one"),
            "give each cluster a policy of its own",
        ));
    }
    if segment.start(header.segment_bytes) != Some(header.start) || header.timeline > segment.timeline {
        return Err(Broke::new(format!(
            "{name} says inside that it begins at {} on timeline {}: it is another segment under this name",
            header.start, header.timeline
        )));
    }
    if file.bytes.len() as u64 != header.segment_bytes {
        return Err(Broke::new(format!(
            "{name} has {} bytes, and segments of this cluster have {}",
            file.bytes.len(),
            header.segment_bytes
        )));
    }
    file.system_identifier = Some(identifier);
    file.contents = Some(contents);
    Ok(())
}
