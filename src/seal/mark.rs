//! Marks on a backup in a store: `<policy>/<backup>/marks/<number>.jsonl`, two lines each, as the records of the log are.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::keys::verify_signature;
use super::wal::signed;
use super::{SealError, Signer, TrustedSigners};
use crate::domain::artifact::{SIGNATURE_FORMAT, SignatureFile};
use crate::domain::check::Finding;
use crate::domain::ids::{BackupId, PolicyName};
use crate::domain::mark::{MARK_FORMAT, Mark, Marks};
use crate::store::{ObjectInfo, Store, StoreError};

/// The folder of a backup's marks, from its own.
pub const MARKS: &str = "marks/";
const MARK: &str = ".jsonl";
/// So many numbers may be taken, by those who were quicker or by what is not believed.
const ATTEMPTS: usize = 1_000;

/// Which backup an object belongs to, and what it is called there.
pub type Owner = (PolicyName, BackupId);

/// Signs a mark and adds it to those that are there, under the next number. What it says stands when this returns.
pub async fn put_mark(
    store: &dyn Store,
    mark: Mark,
    signer: &Signer,
    trusted: &TrustedSigners,
) -> Result<Mark, SealError> {
    let mut mark = mark;
    mark.number = 0;
    for _ in 0..ATTEMPTS {
        let marks = load_marks(store, &mark.policy, &mark.backup, trusted).await?;
        // What is not believed may have any number: it is stepped over.
        mark.number = marks.last.max(mark.number).saturating_add(1);
        let key = format!("{}/{}/{MARKS}{:05}{MARK}", mark.policy, mark.backup, mark.number);
        match store.put_new(&key, Bytes::from(signed(&mark, signer)?)).await {
            Ok(()) => return Ok(mark),
            Err(StoreError::AlreadyThere { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(SealError::Refused(format!("others mark backup {} again and again: try it once more", mark.backup)))
}

/// What the marks on one backup add up to. One that nobody who is trusted has signed is a doubt, and changes nothing.
pub async fn load_marks(
    store: &dyn Store,
    policy: &PolicyName,
    backup: &BackupId,
    trusted: &TrustedSigners,
) -> Result<Marks, SealError> {
    let objects = store.list(&format!("{policy}/{backup}/{MARKS}")).await?;
    let keys: Vec<&str> = objects.iter().map(|object| object.key.as_str()).collect();
    marks_at(store, &(policy.clone(), backup.clone()), &keys, trusted).await
}

/// Of these objects of a store: which backups are deleted, and by which mark.
pub async fn tombstones_in(
    store: &dyn Store,
    objects: &[ObjectInfo],
    trusted: &TrustedSigners,
) -> Result<BTreeMap<Owner, Mark>, SealError> {
    let mut keys: BTreeMap<Owner, Vec<&str>> = BTreeMap::new();
    for object in objects {
        if let Some((owner, name)) = owner_of(&object.key)
            && name.starts_with(MARKS)
        {
            keys.entry(owner).or_default().push(&object.key);
        }
    }
    let mut found = BTreeMap::new();
    for (owner, keys) in keys {
        if let Some(tombstone) = marks_at(store, &owner, &keys, trusted).await?.tombstone {
            found.insert(owner, tombstone);
        }
    }
    Ok(found)
}

/// Which backups of a store are deleted and not gone yet, and by which mark; of one policy or of all.
pub async fn list_tombstones(
    store: &dyn Store,
    policy: Option<&PolicyName>,
    trusted: &TrustedSigners,
) -> Result<BTreeMap<Owner, Mark>, SealError> {
    let prefix = policy.map_or_else(String::new, |policy| format!("{policy}/"));
    tombstones_in(store, &store.list(&prefix).await?, trusted).await
}

/// Which backup an object's key belongs to, and the rest of the key.
pub fn owner_of(key: &str) -> Option<(Owner, &str)> {
    let (policy, rest) = key.split_once('/')?;
    let (backup, name) = rest.split_once('/')?;
    Some(((policy.parse().ok()?, backup.parse().ok()?), name))
}

async fn marks_at(
    store: &dyn Store,
    owner: &Owner,
    keys: &[&str],
    trusted: &TrustedSigners,
) -> Result<Marks, SealError> {
    let (mut marks, mut read) = (Marks::default(), BTreeMap::new());
    let doubt = |key: &str, why: &str| Finding::new("mark_doubted", format!("mark {key}"), why);
    for key in keys {
        let name = key.rsplit('/').next().unwrap_or(key);
        let Some(number) = number_in(name) else {
            marks.doubts.push(doubt(key, "no mark of this version is called so"));
            continue;
        };
        match store.get(key).await {
            Ok(text) => match read_mark(&text, owner, number, trusted) {
                Ok(mark) => {
                    marks.last = marks.last.max(number);
                    read.insert(number, mark);
                }
                Err(why) => marks.doubts.push(doubt(key, &why)),
            },
            // Taken away between the list and now, with its backup.
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    read.into_values().for_each(|mark| marks.add(mark));
    Ok(marks)
}

fn number_in(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(MARK)?;
    let good = digits.len() == 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|number| good && *number > 0)
}

/// Pure: what the two lines of a mark are worth; the error says why nothing.
fn read_mark(text: &[u8], owner: &Owner, number: u32, trusted: &TrustedSigners) -> Result<Mark, String> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let (line, signature) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    if signature.is_empty() {
        return Err("it is not signed: nobody vouches for it".to_owned());
    }
    let signature: SignatureFile =
        serde_json::from_slice(signature).map_err(|error| format!("its signature cannot be read: {error}"))?;
    if signature.format != SIGNATURE_FORMAT {
        return Err(format!("its signature is of another format: {:?}", signature.format));
    }
    verify_signature(line, &signature.public_key, &signature.signature)?;
    if !trusted.contains(&signature.public_key) {
        return Err("it is signed by a key that is not trusted: anybody can make such a mark".to_owned());
    }
    let mark: Mark = serde_json::from_slice(line).map_err(|error| format!("it cannot be read: {error}"))?;
    if mark.format != MARK_FORMAT {
        return Err(format!("it is of another format: {:?}", mark.format));
    }
    if (&mark.policy, &mark.backup, mark.number) != (&owner.0, &owner.1, number) {
        return Err(format!("it is mark {} of {}/{}, under another's name", mark.number, mark.policy, mark.backup));
    }
    Ok(mark)
}
