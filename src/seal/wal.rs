//! Files of the log in a store: `<policy>/wal/<timeline>/<name>.zst.age`, and beside it `<name>.jsonl`, which makes it exist.
//!
//! The record has two lines: what it says, and the signature over the bytes of the first line. It is written last.

use std::collections::BTreeSet;
use std::sync::Arc;

use age::x25519::Recipient;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::domain::artifact::{Part, SIGNATURE_FORMAT, SignatureFile};
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::ids::PolicyName;
use crate::domain::ledger::Depth;
use crate::domain::wal::{Contents, WAL_FORMAT, WalName, WalRecord};
use crate::store::{Store, StoreError};

use super::keys::{parse_recipient, verify_signature};
use super::witness::Telling;
use super::yard::Tools;
use super::{MAX_PART_BYTES, Opener, SealError, Signer, TrustedSigners, Witness, is_inside};

mod carry;
mod copy;
mod hole;

pub use carry::{Carried, CarryError};
pub use copy::{LogFile, LogList, Theirs, bring_hole};
pub use hole::{load_holes, put_hole};

/// So often a killed writer may have left an object without its record behind.
const ATTEMPTS: usize = 100;
const RECORD: &str = ".jsonl";

/// A file of the log, read.
pub struct WalFile {
    /// What it is called.
    pub name: WalName,
    /// Of which cluster, as far as it is known.
    pub system_identifier: Option<String>,
    /// What a segment holds.
    pub contents: Option<Contents>,
    /// Its bytes.
    pub bytes: Bytes,
}

/// What came of putting a file into a store.
#[derive(Clone, Debug, PartialEq)]
pub enum Placed {
    /// It is there now.
    Stored(WalRecord),
    /// The same bytes were there already.
    Already(WalRecord),
    /// Other bytes are there under this name, and stay.
    Differs(WalRecord),
}

/// Seals files of one policy's log.
pub struct WalSealer {
    store: Arc<dyn Store>,
    policy: PolicyName,
    recipients: Arc<Vec<Recipient>>,
    level: i32,
    signer: Signer,
}

impl WalSealer {
    /// Fails on a bad recipient, or none.
    pub fn new(
        store: Arc<dyn Store>,
        policy: PolicyName,
        recipients: &[String],
        level: i32,
        signer: Signer,
    ) -> Result<WalSealer, SealError> {
        if recipients.is_empty() {
            return Err(SealError::Key("nobody could open the log: no age recipient is named".to_owned()));
        }
        let recipients = recipients.iter().map(|text| parse_recipient(text)).collect::<Result<_, _>>();
        let recipients = Arc::new(recipients.map_err(SealError::Key)?);
        Ok(WalSealer { store, policy, recipients, level, signer })
    }

    /// Seals and stores one file, unless it is there: object first, record last. Idempotent; nothing is ever replaced.
    pub async fn put(&self, file: &WalFile, now: Timestamp) -> Result<Placed, SealError> {
        self.put_within(file, now, u64::MAX).await
    }

    /// The same, but only if object and record are together no longer than `room` bytes: else [`SealError::NoRoom`], and nothing is written.
    pub async fn put_within(&self, file: &WalFile, now: Timestamp, room: u64) -> Result<Placed, SealError> {
        if file.bytes.len() as u64 > MAX_PART_BYTES {
            return Err(SealError::Refused(format!("{} is longer than 1 GiB: no file of the log is", file.name)));
        }
        let plain_blake3 = blake3::hash(&file.bytes).to_hex().to_string();
        if let Some(there) = self.there(file.name, &plain_blake3).await? {
            return Ok(there);
        }
        let key = object_key(file.name, 0);
        let (level, bytes, recipients) = (self.level, file.bytes.clone(), Arc::clone(&self.recipients));
        let sealing = tokio::task::spawn_blocking(move || {
            Tools::new(level).and_then(|mut tools| tools.seal(&bytes, &recipients))
        });
        let sealed = sealing.await.map_err(|_| SealError::Stopped)?;
        let sealed = sealed.map_err(|source| SealError::Seal { key, source })?;
        let (sealed_bytes, sealed_sha256) = (sealed.len() as u64, hex::encode(Sha256::digest(&sealed)));
        let mut record = WalRecord {
            format: WAL_FORMAT.to_owned(),
            policy: self.policy.clone(),
            system_identifier: file.system_identifier.clone(),
            name: file.name,
            key: object_key(file.name, 0),
            plain_bytes: file.bytes.len() as u64,
            plain_blake3,
            sealed_bytes,
            sealed_sha256,
            contents: file.contents.clone(),
            sealed_at: now,
            stored_at: None,
        };
        let bytes = sealed_bytes.saturating_add(self.signed(&record)?.len() as u64);
        if bytes > room {
            return Err(SealError::NoRoom { name: file.name, bytes });
        }
        record.key = self.put_object(file.name, Bytes::from(sealed)).await?;
        self.put_record(record).await
    }

    /// The last thing that is written: it makes the file exist.
    async fn put_record(&self, record: WalRecord) -> Result<Placed, SealError> {
        let text = self.signed(&record)?;
        match self.store.put_new(&record_key(&self.policy, record.name), Bytes::from(text)).await {
            Ok(()) => Ok(Placed::Stored(record)),
            // Somebody else was quicker. The object just written is an orphan that nothing names.
            Err(StoreError::AlreadyThere { .. }) => {
                self.there(record.name, &record.plain_blake3).await?.ok_or(SealError::Stopped)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What is there under this name. Its signature is for whoever brings it back to judge: here only bytes are compared.
    async fn there(&self, name: WalName, plain_blake3: &str) -> Result<Option<Placed>, SealError> {
        let key = record_key(&self.policy, name);
        let text = match self.store.get(&key).await {
            Ok(text) => text,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let record: WalRecord = serde_json::from_slice(line).map_err(|error| {
            SealError::Refused(format!("{key} in {} is there already and cannot be read: {error}", self.store.url()))
        })?;
        let same = record.plain_blake3 == plain_blake3 && record.name == name;
        Ok(Some(if same { Placed::Already(record) } else { Placed::Differs(record) }))
    }

    /// Under the first name that is free, or under which these very bytes are. What another writer left that was killed cannot be compared, for
    /// it cannot be opened here.
    async fn put_object(&self, name: WalName, bytes: Bytes) -> Result<String, SealError> {
        let mut taken = None;
        for attempt in 0..ATTEMPTS {
            let key = object_key(name, attempt);
            let whole = format!("{}/wal/{key}", self.policy);
            match self.store.put_new(&whole, bytes.clone()).await {
                Ok(()) => return Ok(key),
                Err(error @ StoreError::AlreadyThere { .. }) => {
                    if self.store.get(&whole).await.is_ok_and(|there| there == bytes) {
                        return Ok(key);
                    }
                    taken = Some(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(taken.map_or(SealError::Stopped, SealError::from))
    }

    /// Takes a file away that another one has made superfluous: its record first, so that there is never one without its object.
    pub async fn remove(&self, name: WalName) -> Result<(), SealError> {
        remove_wal(&*self.store, &self.policy, name).await.map(|_| ())
    }

    fn signed(&self, record: &impl Serialize) -> Result<Vec<u8>, SealError> {
        signed(record, &self.signer)
    }
}

/// Two lines: what is said, and the signature over the bytes of the first.
pub(super) fn signed(record: &impl Serialize, signer: &Signer) -> Result<Vec<u8>, SealError> {
    let json = |error: serde_json::Error| SealError::Refused(format!("the record cannot be written as JSON: {error}"));
    let mut text = serde_json::to_vec(record).map_err(json)?;
    let signature = signer.signature_file(&text);
    text.push(b'\n');
    serde_json::to_writer(&mut text, &signature).map_err(json)?;
    text.push(b'\n');
    Ok(text)
}

/// Takes a file of the log away: its record first, so that there is never one without its object. Gives how long the object was.
pub async fn remove_wal(store: &dyn Store, policy: &PolicyName, name: WalName) -> Result<u64, SealError> {
    let key = record_key(policy, name);
    let text = match store.get(&key).await {
        Ok(text) => text,
        Err(StoreError::NotFound { .. }) => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let record = serde_json::from_slice::<WalRecord>(line).ok().filter(|record| is_inside(&record.key));
    store.delete(&key).await?;
    let Some(record) = record else { return Ok(0) };
    store.delete(&format!("{policy}/wal/{}", record.key)).await?;
    Ok(record.sealed_bytes)
}

/// From the log's own folder; `attempt`: how many such names were taken.
pub(super) fn object_key(name: WalName, attempt: usize) -> String {
    let number = if attempt == 0 { String::new() } else { format!(".{attempt}") };
    format!("{:08X}/{name}{number}.zst.age", name.timeline())
}

fn record_key(policy: &PolicyName, name: WalName) -> String {
    format!("{policy}/wal/{:08X}/{name}{RECORD}", name.timeline())
}

/// The files of a policy's log that exist in a store: those with a record.
pub async fn list_wal(store: &dyn Store, policy: &PolicyName) -> Result<BTreeSet<WalName>, Broke> {
    list_wal_by(store, policy, None).await
}

/// The same; with `by`, only those whose record the store had at that moment, by its own dates.
pub async fn list_wal_by(
    store: &dyn Store,
    policy: &PolicyName,
    by: Option<Timestamp>,
) -> Result<BTreeSet<WalName>, Broke> {
    let objects = store.list(&format!("{policy}/wal/")).await?;
    let there = objects.iter().filter(|object| by.is_none_or(|by| object.modified <= by));
    Ok(there.filter_map(|object| wal_record_in(policy, &object.key)).collect())
}

/// The file of a policy's log whose record this key is.
pub fn wal_record_in(policy: &PolicyName, key: &str) -> Option<WalName> {
    let (folder, file) = key.strip_prefix(policy.as_str())?.strip_prefix("/wal/")?.split_once('/')?;
    let name: WalName = file.strip_suffix(RECORD)?.parse().ok()?;
    (folder == format!("{:08X}", name.timeline())).then_some(name)
}

/// The record of a file: `None`, if it is certainly not there. One that is not what its signer signed is a finding.
pub async fn load_wal_record(
    store: &dyn Store,
    policy: &PolicyName,
    name: WalName,
    trusted: &TrustedSigners,
) -> Result<Option<WalRecord>, Stop> {
    match store.get(&record_key(policy, name)).await {
        Ok(text) => read_wal_record(&text, policy, name, trusted).map(Some).map_err(Stop::from),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(Broke::from(error).into()),
    }
}

/// Pure: what the two lines of a record are worth.
fn read_wal_record(
    text: &[u8],
    policy: &PolicyName,
    name: WalName,
    trusted: &TrustedSigners,
) -> Result<WalRecord, Finding> {
    let object = format!("log {name}");
    let line = signed_line(text, &object, trusted)?;
    let wrong = |code: &str, why: String| Finding::new(code, object.clone(), why);
    let shape = |why: &dyn std::fmt::Display| wrong("wal_record", format!("its record cannot be read: {why}"));
    let record: WalRecord = serde_json::from_slice(line).map_err(|error| shape(&error))?;
    if record.format != WAL_FORMAT {
        return Err(wrong("wal_record", "its record is of another format".to_owned()).with(WAL_FORMAT, record.format));
    }
    if record.policy != *policy || record.name != name {
        let found = format!("{} of {}", record.name, record.policy);
        let why = "its record is that of another file, under this one's name";
        return Err(wrong("wal_swapped", why.to_owned()).with(format!("{name} of {policy}"), found));
    }
    if !is_inside(&record.key) {
        return Err(wrong("wal_record", "its object's key could leave the log's folder".to_owned()));
    }
    Ok(record)
}

/// Pure: the first of two lines, if the second is the signature over it of somebody who is trusted.
fn signed_line<'a>(text: &'a [u8], object: &str, trusted: &TrustedSigners) -> Result<&'a [u8], Finding> {
    let wrong = |code: &str, why: String| Finding::new(code, object, why);
    let shape = |why: &dyn std::fmt::Display| wrong("wal_record", format!("its record cannot be read: {why}"));
    let mut lines = text.split(|byte| *byte == b'\n');
    let (line, signature) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    if signature.is_empty() {
        return Err(wrong("wal_signature", "its record is not signed: nobody vouches for it".to_owned()));
    }
    let signature: SignatureFile = serde_json::from_slice(signature).map_err(|error| shape(&error))?;
    if signature.format != SIGNATURE_FORMAT {
        return Err(shape(&format!("its signature has the format {:?}", signature.format)));
    }
    verify_signature(line, &signature.public_key, &signature.signature).map_err(|why| wrong("wal_signature", why))?;
    if !trusted.is_empty() && !trusted.contains(&signature.public_key) {
        let why = "its record is signed by a key that is not trusted: anybody can make such a file";
        return Err(wrong("signer_untrusted", why.to_owned()).with("a trusted signer", signature.public_key));
    }
    Ok(line)
}

/// A file of the log, opened and verified: `None`, if it is certainly not there.
pub async fn fetch_wal(
    store: &dyn Store,
    policy: &PolicyName,
    name: WalName,
    trusted: &TrustedSigners,
    opener: &Opener,
) -> Result<Option<(WalRecord, Vec<u8>)>, Stop> {
    let telling = Telling::new(opener.witness(), store, &format!("{policy}/wal"), Depth::Opened);
    let fetched = async {
        let Some((record, part, sealed)) = sealed_wal(store, policy, name, trusted).await? else { return Ok(None) };
        let opener = opener.clone();
        let plain = tokio::task::spawn_blocking(move || opener.open_part(&part, &sealed)).await;
        let plain = plain.map_err(|error| Broke::new(format!("the opening thread stopped: {error}")))??;
        Ok(Some((record, plain)))
    };
    match fetched.await {
        Ok(None) => Ok(None),
        Ok(Some((record, plain))) => {
            telling.object(&object_key(name, 0), record.sealed_bytes, Ok(Some((record, plain))))
        }
        Err(stop) => telling.object(&object_key(name, 0), 0, Err(stop)),
    }
}

/// A file of the log, looked at from outside: its record, and its object's length and SHA-256. Whether it can be opened stays open.
pub async fn check_wal(
    store: &dyn Store,
    policy: &PolicyName,
    name: WalName,
    trusted: &TrustedSigners,
    witness: Option<&Arc<dyn Witness>>,
) -> Result<Option<WalRecord>, Stop> {
    let telling = Telling::new(witness, store, &format!("{policy}/wal"), Depth::Sealed);
    let checked = async {
        let Some((record, part, sealed)) = sealed_wal(store, policy, name, trusted).await? else { return Ok(None) };
        super::check_sealed(&part, &sealed)?;
        Ok(Some(record))
    };
    match checked.await {
        Ok(None) => Ok(None),
        Ok(Some(record)) => telling.object(&object_key(name, 0), record.sealed_bytes, Ok(Some(record))),
        Err(stop) => telling.object(&object_key(name, 0), 0, Err(stop)),
    }
}

/// A file's record, and its object as the store has it.
async fn sealed_wal(
    store: &dyn Store,
    policy: &PolicyName,
    name: WalName,
    trusted: &TrustedSigners,
) -> Result<Option<(WalRecord, Part, Bytes)>, Stop> {
    let Some(record) = load_wal_record(store, policy, name, trusted).await? else { return Ok(None) };
    let sealed = match store.get(&format!("{policy}/wal/{}", record.key)).await {
        Ok(sealed) => sealed,
        Err(StoreError::NotFound { .. }) => {
            let why = "its record is there and its object is not";
            return Err(Finding::new("wal_missing", format!("log {name}"), why).with(record.key, "nothing").into());
        }
        Err(error) => return Err(Broke::from(error).into()),
    };
    let part = part_of(&record);
    Ok(Some((record, part, sealed)))
}

/// What a record says of its object, as a manifest would say it of a part.
fn part_of(record: &WalRecord) -> Part {
    Part {
        key: record.key.clone(),
        plain_bytes: record.plain_bytes,
        plain_blake3: record.plain_blake3.clone(),
        sealed_bytes: record.sealed_bytes,
        sealed_sha256: record.sealed_sha256.clone(),
        members: Vec::new(),
    }
}
