//! From one store into a second one: nothing is written that was not verified, and nothing counts that was not read back.

use std::sync::Arc;

use bytes::Bytes;

use super::manifest::{Written, load_manifest_bytes};
use super::open::{fetch, on_thread};
use super::{SealedManifest, TrustedSigners, check_sealed};
use crate::domain::artifact::{MANIFEST_NAME, Part, SIGNATURE_NAME};
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::ids::{BackupId, PolicyName};
use crate::store::{Store, StoreError};

/// From where to where.
#[derive(Clone)]
pub struct Way {
    /// Where it is.
    pub from: Arc<dyn Store>,
    /// Where it goes, opened to read.
    pub to: Arc<dyn Store>,
    /// The same store, opened to write what is new.
    pub into: Arc<dyn Store>,
}

/// What came of bringing an object over. Either way it was read where it is now, and is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brought {
    /// It was written.
    Copied,
    /// It was there.
    Already,
}

/// A backup that may be spread: somebody who is trusted has signed it, and nothing is wrong with its manifest.
pub struct Original {
    /// Its manifest.
    pub sealed: SealedManifest,
    written: Written,
}

impl Original {
    /// Reads it where it is. What nobody trusted has signed is a finding: a forgery is not spread.
    pub async fn open(
        store: &dyn Store,
        policy: &PolicyName,
        backup: &BackupId,
        trusted: &TrustedSigners,
    ) -> Result<Original, Stop> {
        let (sealed, written) = load_manifest_bytes(store, policy, backup, trusted).await?;
        if !sealed.findings.is_empty() {
            return Err(Stop::Found(sealed.findings));
        }
        if !sealed.signer_trusted {
            let message = "no key that is trusted has signed it: anybody can make such a backup";
            return Err(Finding::new("signer_untrusted", "manifest", message).into());
        }
        Ok(Original { sealed, written })
    }

    /// Length of manifest and signature, in bytes.
    pub fn bytes(&self) -> u64 {
        self.written.manifest.len() as u64 + self.written.signature.as_ref().map_or(0, |text| text.len() as u64)
    }

    fn key(&self, name: &str) -> String {
        format!("{}/{}/{name}", self.sealed.manifest.policy, self.sealed.manifest.backup)
    }

    /// Whether the second store has this very manifest and signature; other ones under their names are findings.
    pub async fn is_named(&self, way: &Way) -> Result<bool, Stop> {
        let mut there = true;
        for (name, ours) in self.both() {
            match way.to.get(&self.key(name)).await {
                Ok(theirs) if theirs == ours => {}
                Ok(_) => return Err(differs(name).into()),
                Err(StoreError::NotFound { .. }) => there = false,
                Err(error) => return Err(Broke::from(error).into()),
            }
        }
        Ok(there)
    }

    /// Brings one part over. `there`: the second store listed it.
    pub async fn bring(&self, way: &Way, part: &Part, there: bool) -> Result<Brought, Stop> {
        let manifest = &self.sealed.manifest;
        bring(way, &format!("{}/{}", manifest.policy, manifest.backup), part, there).await
    }

    /// Makes the copy exist: signature, then manifest, both read back. To be called when every part is there.
    pub async fn name(&self, way: &Way) -> Result<Brought, Stop> {
        let mut brought = Brought::Already;
        for (name, bytes) in self.both() {
            if put_verbatim(way, &self.key(name), bytes, name).await? == Brought::Copied {
                brought = Brought::Copied;
            }
        }
        Ok(brought)
    }

    /// In the order in which they are written.
    fn both(&self) -> Vec<(&'static str, Bytes)> {
        let signature = self.written.signature.clone().map(|text| (SIGNATURE_NAME, text));
        signature.into_iter().chain([(MANIFEST_NAME, self.written.manifest.clone())]).collect()
    }
}

/// Brings an object over whose length and hash are known: read, verified, written, read back, verified.
pub(super) async fn bring(way: &Way, prefix: &str, part: &Part, there: bool) -> Result<Brought, Stop> {
    let key = format!("{prefix}/{}", part.key);
    if there && is_right_there(way, &key, part).await? {
        return Ok(Brought::Already);
    }
    let sealed = fetch(&*way.from, prefix, part).await?;
    let sealed = verified(part, sealed).await?;
    let brought = match way.into.put_new(&key, sealed).await {
        Ok(()) => Brought::Copied,
        // Somebody else was quicker.
        Err(StoreError::AlreadyThere { .. }) => Brought::Already,
        Err(error) => return Err(Broke::from(error).into()),
    };
    if is_right_there(way, &key, part).await? {
        return Ok(brought);
    }
    let message = "it was written a moment ago, and the copy's store does not have it";
    Err(Finding::new("copy_object_missing", part_name(part), message).into())
}

/// Whether the second store has an object, which is then right; a wrong one stays where it is and is a finding.
async fn is_right_there(way: &Way, key: &str, part: &Part) -> Result<bool, Stop> {
    let theirs = match way.to.get(key).await {
        Ok(theirs) => theirs,
        Err(StoreError::NotFound { .. }) => return Ok(false),
        Err(error) => return Err(Broke::from(error).into()),
    };
    match verified(part, theirs).await {
        Ok(_) => Ok(true),
        Err(Stop::Found(findings)) => Err(Stop::Found(findings.into_iter().map(in_the_copy).collect())),
        Err(stop) => Err(stop),
    }
}

/// The bytes again, if their length and hash are right.
async fn verified(part: &Part, sealed: Bytes) -> Result<Bytes, Stop> {
    let part = part.clone();
    on_thread(move || {
        check_sealed(&part, &sealed)?;
        Ok(sealed)
    })
    .await
}

fn in_the_copy(finding: Finding) -> Finding {
    let message = "the copy's store has other bytes under this name; nothing is ever replaced, so they stay";
    Finding { code: "copy_corrupt".to_owned(), message: message.to_owned(), ..finding }
}

fn part_name(part: &Part) -> String {
    format!("part {}", part.key)
}

fn differs(name: &str) -> Finding {
    let message = "the copy's store has another one under this name; nothing is ever replaced, so it stays";
    Finding::new("copy_corrupt", name, message)
}

/// Writes small bytes as they are, and reads them back.
pub(super) async fn put_verbatim(way: &Way, key: &str, bytes: Bytes, name: &str) -> Result<Brought, Stop> {
    let brought = match way.into.put_new(key, bytes.clone()).await {
        Ok(()) => Brought::Copied,
        Err(StoreError::AlreadyThere { .. }) => Brought::Already,
        Err(error) => return Err(Broke::from(error).into()),
    };
    match way.to.get(key).await {
        Ok(theirs) if theirs == bytes => Ok(brought),
        Ok(_) => Err(differs(name).into()),
        Err(StoreError::NotFound { .. }) => {
            let message = "it was written a moment ago, and the copy's store does not have it";
            Err(Finding::new("copy_object_missing", name, message).into())
        }
        Err(error) => Err(Broke::from(error).into()),
    }
}
