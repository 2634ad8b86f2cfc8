//! The spool: a folder on this machine in which sealed files of the log wait while the store takes none.
//!
//! It is laid out as a store. Whoever writes in it holds its lock, so that what a killed one left can be told from what another is writing now.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;

use super::cover::cover;
use super::job;
use crate::domain::check::{Broke, Finding};
use crate::domain::ids::PolicyName;
use crate::domain::policy::{self, Policy};
use crate::domain::units::ByteSize;
use crate::domain::wal::{Waiting, WalName, WalRecord};
use crate::engine::House;
use crate::seal::{self, Carried, CarryError, Placed, SealError, TrustedSigners, WalFile, WalSealer};
use crate::store::{FileStore, ObjectInfo, Store, StoreError};

/// Its name is no object's: keys of objects begin with a policy.
const LOCK: &str = ".lifeboat-spool.lock";
/// One file is written or carried at a time, and so long is waited for that.
const LOCK_WAIT: Duration = Duration::from_secs(60);
const RECORD: &str = ".jsonl";

/// A policy's spool.
pub(super) struct Spool {
    dir: PathBuf,
    max: ByteSize,
    policy: PolicyName,
}

/// What came of emptying a spool.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Flushed {
    /// The records of what is in the store now.
    #[serde(skip)]
    pub(super) records: Vec<WalRecord>,
    /// What the store has now, in the order in which it was brought there.
    pub moved: Vec<WalName>,
    /// Why files stay although the store takes others: a sentence each.
    pub stuck: Vec<String>,
    /// Why the store took nothing more.
    pub down: Option<Broke>,
    /// What still waits.
    pub left: Option<Waiting>,
}

/// What waits in the spool of a policy; none: nothing, or it has no spool. A spool that cannot be looked at is an error.
pub async fn waiting(policy: &Policy) -> Result<Option<Waiting>, Broke> {
    match policy.wal.as_ref().and_then(|wal| wal.spool.as_ref()) {
        Some(plan) => Spool::new(plan, &policy.name).waiting().await,
        None => Ok(None),
    }
}

/// The names of what waits in the spool of a policy.
pub(super) async fn names(policy: &Policy) -> Result<BTreeSet<WalName>, Broke> {
    let Some(plan) = policy.wal.as_ref().and_then(|wal| wal.spool.as_ref()) else { return Ok(BTreeSet::new()) };
    match Spool::new(plan, &policy.name).open()? {
        Some(store) => seal::list_wal(&*store, &policy.name).await,
        None => Ok(BTreeSet::new()),
    }
}

/// Empties the spool of a policy into its store; none: it has no spool.
pub async fn flush(house: &House, policy: &Policy) -> Result<Option<Flushed>, Broke> {
    let plan = policy.wal.as_ref().and_then(|wal| wal.spool.as_ref());
    let Some((plan, job)) = plan.zip(job(policy)) else { return Ok(None) };
    let spool = Spool::new(plan, &policy.name);
    if spool.waiting().await?.is_none() {
        return Ok(Some(Flushed::default()));
    }
    let (signer, trusted) = (house.signer()?, house.trusted()?);
    let store = match house.store_to_fill(policy, &job.store).await {
        Ok(store) => store,
        Err(down) => {
            return Ok(Some(Flushed { down: Some(down), left: spool.waiting().await?, ..Flushed::default() }));
        }
    };
    let sealer = WalSealer::new(store, policy.name.clone(), &policy.encryption.recipients, job.level, signer)?;
    let flushed = spool.drain(&sealer, &trusted).await?;
    for record in &flushed.records {
        cover(house, policy, &job.store, record).await?;
    }
    Ok(Some(flushed))
}

/// The same before a receiver begins, whom a spool does not keep from receiving: gives what is to be said.
pub(super) async fn empty_first(policy: &Policy, sealer: &WalSealer, trusted: &TrustedSigners) -> Vec<String> {
    let Some(plan) = policy.wal.as_ref().and_then(|wal| wal.spool.as_ref()) else { return Vec::new() };
    match Spool::new(plan, &policy.name).drain(sealer, trusted).await {
        Ok(flushed) => {
            let down = flushed.down.map(|broke| format!("the store takes nothing: {}", broke.error));
            flushed.stuck.into_iter().chain(down).chain(flushed.left.as_ref().map(sentence)).collect()
        }
        Err(broke) => vec![broke.error],
    }
}

/// What a person must know of it.
pub(super) fn sentence(waiting: &Waiting) -> String {
    let Waiting { dir, files, bytes, since, room, max } = waiting;
    let dir = dir.display();
    format!(
        "In {dir} now: {files} of the log ({bytes}) since {since}, {room} of {max} left. The store does NOT have them: if this machine is lost now, so are they"
    )
}

impl Spool {
    pub fn new(plan: &policy::Spool, policy: &PolicyName) -> Spool {
        Spool { dir: plan.dir.clone(), max: plan.max, policy: policy.clone() }
    }

    pub fn url(&self) -> String {
        format!("the spool {}", self.dir.display())
    }

    /// Only certain absence is none: a folder that cannot be looked at is not an empty one.
    fn open(&self) -> Result<Option<Arc<dyn Store>>, Broke> {
        match self.dir.try_exists() {
            Ok(false) => Ok(None),
            _ => {
                let open = FileStore::open_existing(&self.dir).map_err(|error| self.broke(error))?;
                Ok(Some(Arc::new(open) as Arc<dyn Store>))
            }
        }
    }

    fn broke(&self, error: StoreError) -> Broke {
        let broke = Broke::from(error);
        Broke { error: format!("{}: {}", self.url(), broke.error), hint: broke.hint }
    }

    /// While it is held nobody else writes here; a killed process lets go of it.
    async fn lock(&self) -> Result<File, Broke> {
        let path = self.dir.join(LOCK);
        let failed = |why: String| {
            let hint = "let this user write there, or name another folder: [wal] spool in the policy";
            Broke::hinted(format!("{} cannot be locked: {why}", self.url()), hint)
        };
        let open = File::options().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = open.map_err(|error| failed(error.to_string()))?;
        let begun = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::WOULDBLOCK) if begun.elapsed() < LOCK_WAIT => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(failed(format!("another lifeboat has held it for {} s", LOCK_WAIT.as_secs())));
                }
                Err(error) => return Err(failed(error.to_string())),
            }
        }
    }

    /// What waits, as it is now; none: nothing.
    pub async fn waiting(&self) -> Result<Option<Waiting>, Broke> {
        let Some(store) = self.open()? else { return Ok(None) };
        let all = store.list("").await.map_err(|error| self.broke(error))?;
        let ours = self.ours(&all);
        let since = ours.values().map(|record| record.modified).min();
        let prefix = format!("{}/wal/", self.policy);
        let bytes = all.iter().filter(|object| object.key.starts_with(&prefix)).map(|object| object.bytes).sum();
        Ok(since.map(|since| Waiting {
            dir: self.dir.clone(),
            files: ours.len() as u64,
            bytes: ByteSize(bytes),
            since,
            room: ByteSize(self.max.0.saturating_sub(used(&all))),
            max: self.max,
        }))
    }

    /// The records that are here, by name.
    fn ours<'a>(&self, all: &'a [ObjectInfo]) -> BTreeMap<WalName, &'a ObjectInfo> {
        let prefix = format!("{}/wal/", self.policy);
        let name = |key: &str| key.strip_prefix(&prefix)?.split_once('/')?.1.strip_suffix(RECORD)?.parse().ok();
        all.iter().filter_map(|object| name(&object.key).map(|name| (name, object))).collect()
    }

    /// Puts a file here, sealed as it would be in the store, unless it would be more than may lie here.
    pub async fn put(
        &self,
        file: &WalFile,
        sealer: impl FnOnce(Arc<dyn Store>) -> Result<WalSealer, SealError>,
    ) -> Result<(Placed, Waiting), Broke> {
        let store: Arc<dyn Store> = Arc::new(FileStore::open(&self.dir).map_err(|error| self.broke(error))?);
        let sealer = sealer(Arc::clone(&store))?;
        let _lock = self.lock().await?;
        self.sweep(&*store).await?;
        let room = self.max.0.saturating_sub(used(&store.list("").await.map_err(|error| self.broke(error))?));
        let placed = match sealer.put_within(file, crate::clock::now(), room).await {
            Ok(placed) => placed,
            Err(SealError::NoRoom { bytes, .. }) => {
                let (wanted, room, max) = (ByteSize(bytes), ByteSize(room), self.max);
                return Err(Broke::hinted(
                    format!("{} is full: {} needs {wanted}, and {room} of {max} are left", self.url(), file.name),
                    "bring the store back; until then the source keeps its log itself: watch its disk",
                ));
            }
            Err(error) => return Err(error.into()),
        };
        // A killed carrier may have left the record of a file that the store has: while the store is away that cannot be told.
        if let Placed::Already(record) = &placed
            && store.get(&format!("{}/wal/{}", self.policy, record.key)).await.is_err()
        {
            return Err(Broke::hinted(
                format!("{} has a record of {} and not the file itself", self.url(), file.name),
                "it was being brought into the store: ask again when that is back",
            ));
        }
        let waiting = self.waiting().await?;
        let waiting = waiting.ok_or_else(|| Broke::new(format!("{}: what was put there is gone", self.url())))?;
        Ok((placed, waiting))
    }

    /// Brings what waits into the store, the oldest first. What stays is told; nothing is taken away that was not seen in the store.
    pub async fn drain(&self, sealer: &WalSealer, trusted: &TrustedSigners) -> Result<Flushed, Broke> {
        let mut flushed = Flushed::default();
        let Some(store) = self.open()? else { return Ok(flushed) };
        let all = store.list("").await.map_err(|error| self.broke(error))?;
        let mut names: Vec<_> = self.ours(&all).into_iter().map(|(name, record)| (record.modified, name)).collect();
        if names.is_empty() {
            return Ok(flushed);
        }
        names.sort();
        for (_, name) in names {
            // Let go of between two files: a push need not wait for all of them.
            let _lock = self.lock().await?;
            match sealer.carry(&*store, name, trusted, crate::clock::now()).await {
                Ok(Carried::Stored(record)) => {
                    flushed.moved.push(name);
                    flushed.records.push(record);
                }
                Ok(Carried::Gone) => {}
                Ok(Carried::Differs(record)) => flushed.stuck.push(format!(
                    "{name} waits in {} and is in the store with other bytes, sealed at {}: both stay. Find out which is the source's own, and take the other away by hand",
                    self.url(),
                    record.sealed_at
                )),
                Err(CarryError::Found(findings)) => {
                    let said = |one: &Finding| format!("{}: {} [{}]", one.object, one.message, one.code);
                    let said = findings.iter().map(said).collect::<Vec<_>>().join("; ");
                    flushed.stuck.push(format!("{name} stays in {}: {said}", self.url()));
                }
                Err(CarryError::Stays(broke)) => {
                    flushed.stuck.push(format!("{name} stays in {}: {}", self.url(), broke.error));
                }
                Err(CarryError::Store(error)) => {
                    flushed.down = Some(error.into());
                    break;
                }
            }
        }
        {
            let _lock = self.lock().await?;
            self.sweep(&*store).await?;
        }
        flushed.left = self.waiting().await?;
        Ok(flushed)
    }

    /// Takes away what killed writers left: it has no record, so nobody was told of it. The lock is held.
    async fn sweep(&self, store: &dyn Store) -> Result<(), Broke> {
        let failed = |error| self.broke(error);
        let prefix = format!("{}/wal/", self.policy);
        for half in store.half_written(&prefix).await.map_err(failed)? {
            store.delete(&half.key).await.map_err(failed)?;
        }
        let all = store.list(&prefix).await.map_err(failed)?;
        let records = self.ours(&all);
        let object = |key: &str| {
            let name = key.strip_prefix(&prefix)?.split_once('/')?.1.strip_suffix(".zst.age")?;
            // Under its own name, or with the number of an attempt behind it.
            let own = name.rsplit_once('.').filter(|(_, number)| number.parse::<usize>().is_ok()).map(|(own, _)| own);
            name.parse::<WalName>().ok().or_else(|| own?.parse().ok())
        };
        for info in &all {
            if object(&info.key).is_some_and(|name| !records.contains_key(&name)) {
                store.delete(&info.key).await.map_err(failed)?;
            }
        }
        Ok(())
    }
}

/// Everything counts that takes room.
fn used(all: &[ObjectInfo]) -> u64 {
    all.iter().map(|object| object.bytes).sum()
}
