//! One object of a shelf, read back.

use super::survey::{Held, What, parts};
use crate::domain::artifact::Part;
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::ledger::{Depth, Shelf};
use crate::domain::units::ByteSize;
use crate::domain::wal::WalName;
use crate::seal::{self, Opener, TrustedSigners};

/// What came of one object.
pub(super) enum Came {
    /// It is as it was signed.
    Right,
    /// It is not, and at which depth that was seen.
    Wrong(Depth, Finding),
    /// Nothing names it any more: it was removed.
    Gone,
    /// It could not be read, which says nothing about it.
    Broke(Broke),
}

/// A shelf whose objects can be read.
pub(super) struct Open<'a> {
    held: &'a Held,
    prefix: String,
    parts: Vec<Part>,
}

/// Opens a shelf: of a backup the manifest is read again, for only parts that are in their turn are kept in memory. A backup that is there no more has no parts.
pub(super) async fn open<'a>(held: &'a Held, trusted: &TrustedSigners) -> Result<Open<'a>, Broke> {
    let prefix = format!("{}/{}", held.policy, held.shelf);
    let Shelf::Backup(backup) = &held.shelf else { return Ok(Open { held, prefix, parts: Vec::new() }) };
    let parts = match seal::load_manifest(&*held.store, &held.policy, backup, trusted).await {
        Ok(sealed) if sealed.findings.is_empty() => parts(&sealed.manifest).map(without_members).collect(),
        // It went, or was changed, since it was looked at a moment ago: the next look says which.
        Ok(_) | Err(Stop::Found(_)) => Vec::new(),
        Err(Stop::Broke(broke)) => return Err(broke),
    };
    Ok(Open { held, prefix, parts })
}

fn without_members(part: &Part) -> Part {
    Part { members: Vec::new(), ..part.clone() }
}

impl Open<'_> {
    /// Reads one object: its key, how long it must be, and what came of it.
    pub(super) async fn read(
        &self,
        at: usize,
        trusted: &TrustedSigners,
        opener: Option<&Opener>,
    ) -> (String, ByteSize, Came) {
        match &self.held.what {
            What::Backup(_) => match self.parts.get(at) {
                Some(part) => {
                    let came = self.part(part, trusted, opener).await;
                    (format!("{}/{}", self.prefix, part.key), ByteSize(part.sealed_bytes), came)
                }
                None => (self.prefix.clone(), ByteSize(0), Came::Gone),
            },
            What::Log(names) => match names.get(at) {
                Some(name) => {
                    let (bytes, came) = self.file(*name, trusted, opener).await;
                    (seal::wal_key(&self.held.policy, *name), bytes, came)
                }
                None => (self.prefix.clone(), ByteSize(0), Came::Gone),
            },
        }
    }

    async fn part(&self, part: &Part, trusted: &TrustedSigners, opener: Option<&Opener>) -> Came {
        let looked = if opener.is_some() { Depth::Opened } else { Depth::Sealed };
        let came = seal::read_part(&*self.held.store, &self.prefix, part, opener).await;
        match (wrong(looked, came), &self.held.shelf) {
            (Came::Wrong(_, finding), Shelf::Backup(backup)) if finding.code == "part_missing" => {
                // Removed with its whole backup, or lost from one that still names it?
                match seal::load_manifest(&*self.held.store, &self.held.policy, backup, trusted).await {
                    Err(Stop::Found(findings)) if findings.iter().all(|one| one.code == "manifest_missing") => {
                        Came::Gone
                    }
                    Ok(_) | Err(Stop::Found(_)) => Came::Wrong(Depth::Sealed, finding),
                    Err(Stop::Broke(broke)) => Came::Broke(broke),
                }
            }
            (came, _) => came,
        }
    }

    async fn file(&self, name: WalName, trusted: &TrustedSigners, opener: Option<&Opener>) -> (ByteSize, Came) {
        let (store, policy) = (&*self.held.store, &self.held.policy);
        let (looked, came) = match opener {
            Some(opener) => {
                let fetched = seal::fetch_wal(store, policy, name, trusted, opener).await;
                (Depth::Opened, fetched.map(|there| there.map(|(record, _)| record)))
            }
            None => (Depth::Sealed, seal::check_wal(store, policy, name, trusted, None).await),
        };
        match came {
            Ok(None) => (ByteSize(0), Came::Gone),
            Ok(Some(record)) => (ByteSize(record.sealed_bytes), Came::Right),
            Err(stop) => {
                let came = match wrong::<()>(looked, Err(stop)) {
                    Came::Wrong(depth, finding) if finding.code == "wal_missing" => {
                        match seal::load_wal_record(store, policy, name, trusted).await {
                            Ok(None) => Came::Gone,
                            Ok(Some(_)) | Err(Stop::Found(_)) => Came::Wrong(depth, finding),
                            Err(Stop::Broke(broke)) => Came::Broke(broke),
                        }
                    }
                    came => came,
                };
                (ByteSize(0), came)
            }
        }
    }
}

/// Right, wrong, or not to be had.
fn wrong<T>(looked: Depth, came: Result<T, Stop>) -> Came {
    let depth = seal::depth_of(looked, &came).map_or(looked, |(depth, _)| depth);
    match came {
        Ok(_) => Came::Right,
        Err(Stop::Broke(broke)) => Came::Broke(broke),
        Err(Stop::Found(findings)) => match findings.into_iter().next() {
            Some(finding) => Came::Wrong(depth, finding),
            None => Came::Broke(Broke::new("it is wrong, and nobody says how")),
        },
    }
}
