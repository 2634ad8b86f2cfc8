//! All of a policy's log in the stores, as far as it is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::{Sync, write_whole};
use crate::domain::artifact::Manifest;
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::hole::Acknowledged;
use crate::domain::ids::PolicyName;
use crate::domain::wal::{History, Piece, Segment, WalName};
use crate::judge::wal::{Archive, Reach};
use crate::progress::Progress;
use crate::seal::{self, Opener, TrustedSigners};
use crate::store::Store;

/// Records that are read at once: they are small, and what takes time is to ask for them.
const AT_ONCE: usize = 16;

/// What is brought, and where to.
#[derive(Clone, Copy)]
pub struct Bring<'a> {
    /// What is replayed.
    pub reach: &'a Reach,
    /// Where the histories are.
    pub archive: &'a Archive,
    /// What opens the files.
    pub opener: &'a Opener,
    /// The folder. Whoever owns it will own the files.
    pub into: &'a Path,
    /// Files at once.
    pub parallel: usize,
}

/// Names of files, each with the first store that has it.
pub struct Log {
    policy: PolicyName,
    trusted: TrustedSigners,
    names: BTreeMap<WalName, Arc<dyn Store>>,
    holes: Vec<Acknowledged>,
}

impl Log {
    /// Lists what there is.
    pub async fn list(stores: &[Arc<dyn Store>], policy: &PolicyName, trusted: &TrustedSigners) -> Result<Log, Broke> {
        Log::list_by(stores, policy, trusted, None).await
    }

    /// The same; with `by`, only what was there at that moment by the store's own dates.
    pub async fn list_by(
        stores: &[Arc<dyn Store>],
        policy: &PolicyName,
        trusted: &TrustedSigners,
        by: Option<Timestamp>,
    ) -> Result<Log, Broke> {
        let (mut names, mut holes) = (BTreeMap::new(), Vec::new());
        for store in stores {
            // What is wrong with a record of them is for `verify` to say: they bring nothing back.
            holes.extend(seal::load_holes(&**store, policy, trusted).await?.0);
            for name in seal::list_wal_by(&**store, policy, by).await? {
                names.entry(name).or_insert_with(|| Arc::clone(store));
            }
        }
        Ok(Log { policy: policy.clone(), trusted: trusted.clone(), names, holes })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// A piece of a segment that is there as a whole.
    fn is_superfluous(&self, name: &WalName) -> bool {
        matches!(name, WalName::Piece(piece) if self.names.contains_key(&WalName::Segment(piece.segment)))
    }

    fn store_of_pieces(&self, segment: Segment) -> Option<&Arc<dyn Store>> {
        let mut named = self.names.iter();
        named
            .find(|(name, _)| matches!(name, WalName::Piece(piece) if piece.segment == segment))
            .map(|(_, store)| store)
    }

    /// A file, opened and verified; a segment that is there in pieces is put together, and zeros follow, as in the server's own file.
    async fn open(&self, name: WalName, archive: &Archive, opener: &Opener) -> Result<Vec<u8>, Stop> {
        let missing = || Stop::from(Finding::new("wal_missing", format!("log {name}"), "it was there a moment ago"));
        let (policy, trusted) = (&self.policy, &self.trusted);
        if let WalName::Segment(segment) = name
            && let Some(pieces) = archive.pieces.get(&segment)
        {
            let store = self.store_of_pieces(segment).ok_or_else(missing)?;
            return match put_together(&**store, policy, pieces, archive.segment_bytes, trusted, opener).await? {
                Some(bytes) => Ok(bytes),
                // It came to be there as a whole meanwhile: what was in the pieces is its beginning.
                None => {
                    let whole = seal::fetch_wal(&**store, policy, name, trusted, opener).await?;
                    whole.map(|(_, bytes)| bytes).ok_or_else(missing)
                }
            };
        }
        let store = self.names.get(&name).ok_or_else(missing)?;
        let fetched = seal::fetch_wal(&**store, policy, name, trusted, opener).await?;
        fetched.map(|(_, bytes)| bytes).ok_or_else(missing)
    }

    /// What it holds from the end of a backup on. Files whose record is not what its signer signed, or is of another cluster, are not
    /// counted: they come back as findings. `by`: what came into the store after this moment is not there yet.
    pub async fn behind(
        &self,
        manifest: &Manifest,
        opener: &Opener,
        by: Option<Timestamp>,
    ) -> Result<(Archive, Vec<Finding>), Stop> {
        let (segment_bytes, identifier) =
            (manifest.fingerprint.server.wal_segment_bytes, &manifest.fingerprint.server.system_identifier);
        let end = manifest.wal.as_ref().map(|wal| Segment::holding(wal.timeline, wal.end, segment_bytes));
        let wanted = self.names.iter().filter(|(name, _)| match (name, end) {
            (WalName::Segment(segment) | WalName::Piece(Piece { segment, .. }), Some(end)) => {
                (segment.log, segment.segment) >= (end.log, end.segment) && !self.is_superfluous(name)
            }
            _ => false,
        });
        let read = wanted.map(async |(name, store)| {
            (*name, seal::load_wal_record(&**store, &self.policy, *name, &self.trusted).await)
        });
        let mut records = futures_util::stream::iter(read.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
        let (mut archive, mut findings) =
            (Archive { segment_bytes, holes: self.holes.clone(), ..Archive::default() }, Vec::new());
        let (mut pieces, mut gone) = (BTreeMap::new(), BTreeSet::new());
        while let Some((name, record)) = records.next().await {
            match (name, record) {
                (_, Ok(Some(record))) if record.system_identifier.as_ref().is_some_and(|of| of != identifier) => {
                    let finding = Finding::new("wal_foreign", format!("log {name}"), "it is of another cluster");
                    findings.push(finding.with(identifier.clone(), record.system_identifier.unwrap_or_default()));
                }
                (_, Ok(Some(record))) if by.is_some_and(|by| record.stored() > by) => {}
                (WalName::Segment(segment), Ok(Some(record))) => archive.add_segment(segment, record.contents),
                (WalName::Piece(piece), Ok(Some(record))) => drop(pieces.insert(piece, record.contents)),
                (WalName::Piece(piece), Ok(None)) => drop(gone.insert(piece.segment)),
                (_, Ok(_)) => {}
                (_, Err(Stop::Found(found))) => findings.extend(found),
                (_, Err(Stop::Broke(broke))) => return Err(broke.into()),
            }
        }
        // Pieces go when their segment is there as a whole: since this was listed, maybe.
        for segment in gone {
            let Some(store) = self.store_of_pieces(segment) else { continue };
            match seal::load_wal_record(&**store, &self.policy, WalName::Segment(segment), &self.trusted).await {
                Ok(Some(record)) if by.is_none_or(|by| record.stored() <= by) => {
                    archive.add_segment(segment, record.contents);
                }
                Ok(_) => {}
                Err(Stop::Found(found)) => findings.extend(found),
                Err(Stop::Broke(broke)) => return Err(broke.into()),
            }
        }
        archive.add_pieces(&pieces);
        for (name, store) in &self.names {
            let WalName::History { timeline } = name else { continue };
            match seal::fetch_wal(&**store, &self.policy, *name, &self.trusted, opener).await {
                Ok(Some((record, _))) if by.is_some_and(|by| record.stored() > by) => {}
                Ok(Some((_, bytes))) => match History::parse(&String::from_utf8_lossy(&bytes)) {
                    Ok(history) => drop(archive.histories.insert(*timeline, history)),
                    Err(why) => findings.push(Finding::new("wal_history", format!("log {name}"), why)),
                },
                Ok(None) => {}
                Err(Stop::Found(found)) => findings.extend(found),
                Err(Stop::Broke(broke)) => return Err(broke.into()),
            }
        }
        Ok((archive, findings))
    }

    /// Writes the segments of a reach, and the histories of its timelines, into `pg_wal`: each opened and verified before it has its name.
    pub async fn bring(&self, what: &Bring<'_>, progress: &dyn Progress) -> Result<(), Stop> {
        let Bring { reach, archive, opener, into, parallel } = *what;
        let owner = owner_of(into)?;
        let histories = archive.histories.keys().filter(|timeline| **timeline <= reach.timeline);
        let histories = histories.map(|timeline| WalName::History { timeline: *timeline });
        let names: Vec<WalName> = reach.segments.iter().copied().map(WalName::Segment).chain(histories).collect();
        let fetching = names.iter().map(async |name| {
            let bytes = self.open(*name, archive, opener).await?;
            let (path, count) = (into.join(name.to_string()), bytes.len() as u64);
            let to = path.clone();
            // It takes the place of what the backup brought under that name: the beginning of the same segment.
            let written = tokio::task::spawn_blocking(move || write_whole(&to, &bytes, owner, Sync::Ours)).await;
            let written = written.map_err(|error| Broke::new(format!("the writing thread stopped: {error}")))?;
            written.map_err(|error| {
                let hint = "see whether its disk has room, and what the system's log says";
                Broke::hinted(format!("{} cannot be written: {error}", path.display()), hint)
            })?;
            progress.moved(count);
            Ok::<(), Stop>(())
        });
        let fetching = futures_util::stream::iter(fetching.collect::<Vec<_>>()).buffer_unordered(parallel.max(1));
        fetching.try_collect::<Vec<()>>().await?;
        Ok(())
    }
}

/// A segment out of its pieces, filled up with zeros; none if one of them is not there any more.
pub(super) async fn put_together(
    store: &dyn Store,
    policy: &PolicyName,
    pieces: &[Piece],
    segment_bytes: u64,
    trusted: &TrustedSigners,
    opener: &Opener,
) -> Result<Option<Vec<u8>>, Stop> {
    let length = usize::try_from(segment_bytes).unwrap_or_default();
    let mut whole = Vec::with_capacity(length);
    for piece in pieces {
        let name = WalName::Piece(*piece);
        let Some((_, bytes)) = seal::fetch_wal(store, policy, name, trusted, opener).await? else { return Ok(None) };
        if whole.len() != piece.from as usize || whole.len() + bytes.len() != piece.to as usize {
            let why = format!("it has {} bytes, and its name says another length", bytes.len());
            return Err(Finding::new("wal_length", format!("log {name}"), why).into());
        }
        whole.extend_from_slice(&bytes);
    }
    if whole.len() > length {
        let why = format!("its pieces are longer than a segment of {segment_bytes} bytes");
        let object = pieces.first().map_or(String::new(), |piece| format!("log {}", piece.segment));
        return Err(Finding::new("wal_length", object, why).into());
    }
    whole.resize(length, 0);
    Ok(Some(whole))
}

/// Who owns a folder, for root to give files to; nobody else gives anything away.
pub fn owner_of(dir: &Path) -> Result<Option<(u32, u32)>, Broke> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let found = std::fs::metadata(dir).map_err(|error| Broke::new(format!("{}: {error}", dir.display())))?;
    Ok(Some((found.uid(), found.gid())))
}
