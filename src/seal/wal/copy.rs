//! Files of the log in a second store: the object first, its record last, both as they are in the first.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::hole::{self, HOLE};
use super::{RECORD, part_of, read_wal_record, record_key};
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::ids::PolicyName;
use crate::domain::wal::{WalName, WalRecord};
use crate::seal::TrustedSigners;
use crate::seal::copy::{Brought, Way, bring, put_verbatim};
use crate::store::{Store, StoreError};

/// What a store's list tells of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogList {
    /// Files that have a record, with the record's length.
    pub files: BTreeMap<WalName, u64>,
    /// Acknowledged holes by their first segment, with the length of what is said.
    pub holes: BTreeMap<String, u64>,
    /// Every other object below the log's folder, by its key from there, with its length.
    pub objects: BTreeMap<String, u64>,
}

/// A file of the log that is signed by somebody who is trusted, and the text that says so.
pub struct LogFile {
    /// What its record says.
    pub record: WalRecord,
    text: Bytes,
}

/// What a second store has under a file's name.
pub enum Theirs {
    /// The same record.
    Same,
    /// A record of its own, over the same plaintext.
    Equal(Box<WalRecord>),
}

impl LogList {
    /// Lists the log of a policy.
    pub async fn of(store: &dyn Store, policy: &PolicyName) -> Result<LogList, Broke> {
        let prefix = format!("{policy}/wal/");
        let mut list = LogList::default();
        for object in store.list(&prefix).await? {
            let Some(key) = object.key.strip_prefix(&prefix) else { continue };
            let named = key.split_once('/').and_then(|(folder, file)| Some((folder, file.strip_suffix(RECORD)?)));
            match named {
                Some((folder, name)) if name.ends_with(HOLE) && name.starts_with(folder) => {
                    list.holes.insert(name.trim_end_matches(HOLE).to_owned(), object.bytes);
                }
                Some((folder, name)) => match name.parse::<WalName>() {
                    Ok(name) if folder == format!("{:08X}", name.timeline()) => {
                        list.files.insert(name, object.bytes);
                    }
                    _ => {}
                },
                None => drop(list.objects.insert(key.to_owned(), object.bytes)),
            }
        }
        Ok(list)
    }

    /// Whether a file, or what is in it, lies there as a whole segment.
    pub fn is_superfluous(&self, name: &WalName) -> bool {
        matches!(name, WalName::Piece(piece) if self.files.contains_key(&WalName::Segment(piece.segment)))
    }

    /// The length of a file's object under the name that it nearly always has; none: it is not there, or has another.
    pub fn object(&self, name: WalName) -> Option<u64> {
        self.objects.get(&super::object_key(name, 0)).copied()
    }
}

impl LogFile {
    /// Reads a file's record: `None`, if it is certainly not there.
    pub async fn open(
        store: &dyn Store,
        policy: &PolicyName,
        name: WalName,
        trusted: &TrustedSigners,
    ) -> Result<Option<LogFile>, Stop> {
        match store.get(&record_key(policy, name)).await {
            Ok(text) => {
                let record = read_wal_record(&text, policy, name, trusted)?;
                Ok(Some(LogFile { record, text }))
            }
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(Broke::from(error).into()),
        }
    }

    /// Brings the object over. `there`: the second store listed something by its name. False: it is not in the first store any
    /// more, nor its record.
    pub async fn bring(&self, way: &Way, there: bool) -> Result<Option<Brought>, Stop> {
        let WalRecord { policy, name, .. } = &self.record;
        match bring(way, &format!("{policy}/wal"), &part_of(&self.record), there).await {
            Ok(brought) => Ok(Some(brought)),
            Err(Stop::Found(findings)) if findings.iter().any(|finding| finding.code == "part_missing") => {
                // A piece goes when its segment is whole: its record first.
                match way.from.get(&record_key(policy, *name)).await {
                    Err(StoreError::NotFound { .. }) => Ok(None),
                    _ => Err(Stop::Found(findings.into_iter().map(|finding| self.named(finding)).collect())),
                }
            }
            Err(Stop::Found(findings)) => {
                Err(Stop::Found(findings.into_iter().map(|finding| self.named(finding)).collect()))
            }
            Err(stop) => Err(stop),
        }
    }

    /// What the second store has under its name; none: no record. One that was sealed by itself there, and holds the same log, is
    /// as good as ours: its own object must be there.
    pub async fn is_named(&self, way: &Way, trusted: &TrustedSigners) -> Result<Option<Theirs>, Stop> {
        let WalRecord { policy, name, plain_blake3, .. } = &self.record;
        let key = record_key(policy, *name);
        let theirs = match way.to.get(&key).await {
            Ok(theirs) => theirs,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(Broke::from(error).into()),
        };
        if theirs == self.text {
            return Ok(Some(Theirs::Same));
        }
        match read_wal_record(&theirs, policy, *name, trusted) {
            Ok(record) if record.plain_blake3 == *plain_blake3 => Ok(Some(Theirs::Equal(Box::new(record)))),
            Ok(record) => {
                let message = "the copy's store has another file of the log under this name; nothing is ever replaced";
                let finding = Finding::new("copy_corrupt", format!("log {name}"), message);
                Err(finding.with(plain_blake3.clone(), record.plain_blake3).into())
            }
            Err(finding) => Err(finding.into()),
        }
    }

    fn named(&self, finding: Finding) -> Finding {
        Finding { object: format!("log {}", self.record.name), ..finding }
    }

    /// Makes the file exist in the second store. One that was sealed by itself there, and holds the same log, will do.
    pub async fn name(&self, way: &Way, trusted: &TrustedSigners) -> Result<Brought, Stop> {
        let WalRecord { policy, name, plain_blake3, .. } = &self.record;
        let key = record_key(policy, *name);
        match put_verbatim(way, &key, self.text.clone(), &format!("log {name}")).await {
            Err(Stop::Found(findings)) => match LogFile::open(&*way.to, policy, *name, trusted).await {
                Ok(Some(theirs)) if theirs.record.plain_blake3 == *plain_blake3 => Ok(Brought::Already),
                Ok(_) | Err(Stop::Found(_)) => Err(Stop::Found(findings)),
                Err(stop) => Err(stop),
            },
            done => done,
        }
    }
}

/// Brings an acknowledged hole over, by its first segment. False: it is not in the first store any more.
pub async fn bring_hole(way: &Way, policy: &PolicyName, first: &str, trusted: &TrustedSigners) -> Result<bool, Stop> {
    let key = hole::key(policy, first);
    let text = match way.from.get(&key).await {
        Ok(text) => text,
        Err(StoreError::NotFound { .. }) => return Ok(false),
        Err(error) => return Err(Broke::from(error).into()),
    };
    hole::read(&text, policy, first, trusted)?;
    put_verbatim(way, &key, text, &format!("hole of the log {first}")).await.map(|_| true)
}
