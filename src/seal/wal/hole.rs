//! Acknowledged holes in a store: `<policy>/wal/<timeline>/<first>.hole.jsonl`, signed as the records of files are.

use bytes::Bytes;

use super::{RECORD, WalSealer, signed, signed_line};
use crate::domain::check::{Broke, Finding};
use crate::domain::hole::{Acknowledged, HOLE_FORMAT};
use crate::domain::ids::PolicyName;
use crate::domain::wal::Segment;
use crate::seal::{SealError, Signer, TrustedSigners};
use crate::store::{Store, StoreError};

/// What the name of an acknowledgement ends with, before the ending of all records.
pub(super) const HOLE: &str = ".hole";

impl WalSealer {
    /// Signs an acknowledgement and stores it. One that begins with the same segment is never replaced: false.
    pub async fn put_hole(&self, hole: &Acknowledged) -> Result<bool, SealError> {
        put_hole(&*self.store, hole, &self.signer).await
    }
}

/// The same without anything to seal with.
pub async fn put_hole(store: &dyn Store, hole: &Acknowledged, signer: &Signer) -> Result<bool, SealError> {
    let text = signed(hole, signer)?;
    let key = key(&hole.policy, &hole.from.to_string());
    match store.put_new(&key, Bytes::from(text)).await {
        Ok(()) => Ok(true),
        Err(StoreError::AlreadyThere { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The holes of a policy's log that somebody answers for, in order. One that is not what its signer signed is a finding, and counts for nothing.
pub async fn load_holes(
    store: &dyn Store,
    policy: &PolicyName,
    trusted: &TrustedSigners,
) -> Result<(Vec<Acknowledged>, Vec<Finding>), Broke> {
    let prefix = format!("{policy}/wal/");
    let (mut holes, mut findings) = (Vec::new(), Vec::new());
    for object in store.list(&prefix).await? {
        let file = object.key.strip_prefix(&prefix).and_then(|key| key.split_once('/')).map(|(_, file)| file);
        let Some(first) = file.and_then(|file| file.strip_suffix(RECORD)?.strip_suffix(HOLE)) else { continue };
        let text = match store.get(&object.key).await {
            Ok(text) => text,
            Err(StoreError::NotFound { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        match read(&text, policy, first, trusted) {
            Ok(hole) => holes.push(hole),
            Err(finding) => findings.push(finding),
        }
    }
    holes.sort_by_key(|hole| hole.from);
    Ok((holes, findings))
}

/// Where the acknowledgement of a hole lies that begins with this segment; its first eight digits are its timeline.
pub(super) fn key(policy: &PolicyName, first: &str) -> String {
    format!("{policy}/wal/{}/{first}{HOLE}{RECORD}", first.get(..8).unwrap_or(first))
}

pub(super) fn read(
    text: &[u8],
    policy: &PolicyName,
    first: &str,
    trusted: &TrustedSigners,
) -> Result<Acknowledged, Finding> {
    let object = format!("hole of the log {first}");
    let line = signed_line(text, &object, trusted)?;
    let wrong = |why: String| Finding::new("wal_record", object.clone(), why);
    let hole: Acknowledged =
        serde_json::from_slice(line).map_err(|error| wrong(format!("its record cannot be read: {error}")))?;
    if hole.format != HOLE_FORMAT {
        return Err(wrong("its record is of another format".to_owned()).with(HOLE_FORMAT, hole.format));
    }
    if hole.policy != *policy || first.parse::<Segment>().ok() != Some(hole.from) {
        let why = "its record is that of another hole, under this one's name";
        let found = format!("{} of {}", hole.from, hole.policy);
        return Err(Finding::new("wal_swapped", object, why).with(format!("{first} of {policy}"), found));
    }
    hole.fault().map_or(Ok(()), |why| Err(wrong(why.to_owned())))?;
    Ok(hole)
}
