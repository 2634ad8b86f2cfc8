//! What a store holds of a policy, as far as it matters to what is deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt;
use jiff::Timestamp;

use crate::domain::artifact::{MANIFEST_NAME, Manifest};
use crate::domain::check::{Broke, Stop};
use crate::domain::ids::{BackupId, PlaceName, PolicyName};
use crate::domain::mark::Marks;
use crate::domain::observed::Observed;
use crate::domain::policy::{Method, Policy};
use crate::domain::run::Proof;
use crate::domain::units::Span;
use crate::domain::wal::WalName;
use crate::judge::retention::log::Base;
use crate::judge::retention::orphans::{self, CLOCK, Ground, LOG, Object, Orphans};
use crate::judge::retention::{Deleted, Kept, Lock, Says};
use crate::seal::{self, MARKS, TrustedSigners};
use crate::store::{ObjectInfo, Store};

/// Small questions that are put to a store at once.
pub(super) const AT_ONCE: usize = 16;

/// What was seen of a store.
pub(super) struct Survey {
    pub place: PlaceName,
    pub store: Arc<dyn Store>,
    /// Every object of the policy.
    pub objects: Vec<ObjectInfo>,
    /// What was never written to its end.
    pub half: Vec<ObjectInfo>,
    /// When objects were written, but for marks and the like.
    pub written: Vec<Timestamp>,
    /// Backups that have a manifest.
    pub backups: Vec<Backup>,
    /// Backups that were deleted and have no manifest any more: their removal came to no end.
    pub leaving: BTreeMap<BackupId, Leaving>,
    /// Marks of backups that have no manifest and were not deleted.
    pub marks: BTreeMap<BackupId, Marks>,
}

/// A backup, and what the log is held against.
pub(super) struct Backup {
    pub kept: Kept,
    pub base: Option<Base>,
    /// Physical, or not known to be anything else.
    pub may_need_log: bool,
}

/// What is left of a backup.
pub(super) struct Leaving {
    pub deleted: Deleted,
    pub held: bool,
}

/// Looks.
pub(super) async fn survey(
    place: &PlaceName,
    store: Arc<dyn Store>,
    policy: &PolicyName,
    trusted: &TrustedSigners,
    proofs: &[Proof],
) -> Result<Survey, Broke> {
    let prefix = format!("{policy}/");
    let (objects, half) = (store.list(&prefix).await?, store.half_written(&prefix).await?);
    let (mut there, mut marked, mut newest_mark) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
    let mut written = Vec::new();
    for object in &objects {
        let owned = seal::owner_of(&object.key).filter(|(owner, _)| owner.0 == *policy);
        match owned {
            Some(((_, backup), name)) if name.starts_with(MARKS) => {
                let newest = newest_mark.entry(backup.clone()).or_insert(object.modified);
                *newest = object.modified.max(*newest);
                marked.insert(backup);
                continue;
            }
            Some(((_, backup), MANIFEST_NAME)) => drop(there.insert(backup)),
            Some(_) | None => {}
        }
        if !object.key[prefix.len()..].starts_with(CLOCK) {
            written.push(object.modified);
        }
    }
    let mut seen = Survey {
        place: place.clone(),
        objects,
        half,
        written,
        backups: Vec::new(),
        leaving: BTreeMap::new(),
        marks: BTreeMap::new(),
        store,
    };
    for backup in marked {
        let marks = seal::load_marks(&*seen.store, policy, &backup, trusted).await?;
        seen.marks.insert(backup, marks);
    }
    // By the later of both clocks: what one of them says was long ago may have been a moment ago by the other.
    let deleted = |backup: &BackupId, marks: &Marks| {
        let mark = marks.tombstone.clone()?;
        let at = newest_mark.get(backup).map_or(mark.at, |stored| mark.at.max(*stored));
        Some(Deleted { mark, at })
    };
    let looking = there.iter().map(async |backup| look(&*seen.store, policy, backup, trusted).await);
    let mut looked = futures_util::stream::iter(looking.collect::<Vec<_>>()).buffered(AT_ONCE);
    let mut backups = Vec::new();
    let none = Marks::default();
    let mut ids = there.iter();
    while let Some(one) = looked.next().await {
        let ((says, base, method), lock) = one?;
        let Some(id) = ids.next() else { break };
        let marks = seen.marks.get(id).unwrap_or(&none);
        backups.push(Backup {
            may_need_log: method.is_none_or(|method| method == Method::Physical),
            base: base.map(|base| Base { deleted: marks.tombstone.is_some(), ..base }),
            kept: Kept {
                id: id.clone(),
                says,
                proven: proofs.iter().filter(|proof| proof.backup == *id).map(|proof| proof.at).max(),
                holds: marks.holds.clone(),
                doubts: marks.doubts.iter().map(|doubt| format!("{}: {}", doubt.object, doubt.message)).collect(),
                lock,
                deleted: deleted(id, marks),
            },
        });
    }
    drop(looked);
    seen.backups = backups;
    for (backup, marks) in seen.marks.iter().filter(|(backup, _)| !there.contains(*backup)) {
        if let Some(deleted) = deleted(backup, marks) {
            let held = !marks.holds.is_empty() || !marks.doubts.is_empty();
            seen.leaving.insert(backup.clone(), Leaving { deleted, held });
        }
    }
    Ok(seen)
}

type Looked = (Result<Says, String>, Option<Base>, Option<Method>);

/// What a backup's manifest says, and what its store has against its deletion.
async fn look(
    store: &dyn Store,
    policy: &PolicyName,
    backup: &BackupId,
    trusted: &TrustedSigners,
) -> Result<(Looked, Lock), Broke> {
    let looked = match seal::load_manifest(store, policy, backup, trusted).await {
        Ok(sealed) => {
            let manifest = &sealed.manifest;
            let doubt = sealed.findings.first().map(|finding| finding.message.clone());
            let doubt =
                doubt.or_else(|| (!sealed.signer_trusted).then(|| "nobody who is trusted signed it".to_owned()));
            match doubt {
                Some(why) => (Err(why), None, None),
                None => (Ok(says(manifest)), base(manifest), Some(manifest.method)),
            }
        }
        Err(Stop::Found(findings)) => {
            let why = findings.first().map_or("it cannot be read", |finding| finding.message.as_str());
            (Err(why.to_owned()), None, None)
        }
        Err(Stop::Broke(broke)) => return Err(broke),
    };
    Ok((looked, lock(store, &format!("{policy}/{backup}/{MANIFEST_NAME}")).await))
}

/// What a store has against the deletion of an object.
pub(super) async fn lock(store: &dyn Store, key: &str) -> Lock {
    match store.protection(key).await {
        Ok(Observed::Absent) => Lock::Free,
        Ok(Observed::Known(protection)) if protection.legal_hold => Lock::Hold,
        Ok(Observed::Known(protection)) => protection.until.map_or(Lock::Free, Lock::Until),
        Ok(Observed::Unknown(why)) => Lock::Unknown(why),
        Err(error) => Lock::Unknown(Broke::from(error).error),
    }
}

fn says(manifest: &Manifest) -> Says {
    Says { job: manifest.job.clone(), recovery_point: manifest.recovery_point.at, finished_at: manifest.finished_at }
}

fn base(manifest: &Manifest) -> Option<Base> {
    let server = &manifest.fingerprint.server;
    manifest.wal.as_ref().map(|range| Base {
        system_identifier: server.system_identifier.clone(),
        range: range.clone(),
        segment_bytes: server.wal_segment_bytes,
        recovery_point: manifest.recovery_point.at,
        started_at: manifest.started_at,
        deleted: false,
    })
}

/// A hold in one store holds in all: a copy may have been made after it.
pub(super) fn share_holds(seen: &mut [Survey]) {
    let mut all: BTreeMap<BackupId, (Vec<crate::domain::mark::Mark>, Vec<String>)> = BTreeMap::new();
    for survey in seen.iter() {
        for (backup, marks) in &survey.marks {
            let (holds, doubts) = all.entry(backup.clone()).or_default();
            holds.extend(marks.holds.iter().cloned());
            let told = marks.doubts.iter().map(|doubt| format!("{}: {}", doubt.object, doubt.message));
            doubts.extend(told.map(|doubt| format!("{doubt} ({})", survey.place)));
        }
    }
    for survey in seen.iter_mut() {
        for backup in &mut survey.backups {
            let Some((holds, doubts)) = all.get(&backup.kept.id) else { continue };
            // One that was put into several stores at once is told once.
            for hold in holds {
                let same = |other: &crate::domain::mark::Mark| (&other.by, other.at) == (&hold.by, hold.at);
                if !backup.kept.holds.iter().any(same) {
                    backup.kept.holds.push(hold.clone());
                }
            }
            if backup.kept.doubts.is_empty() {
                backup.kept.doubts.clone_from(doubts);
            }
        }
        for (backup, leaving) in &mut survey.leaving {
            leaving.held |= all.get(backup).is_some_and(|(holds, doubts)| !holds.is_empty() || !doubts.is_empty());
        }
    }
}

/// What belongs to nothing.
pub(super) async fn orphans(
    policy: &Policy,
    seen: &Survey,
    trusted: &TrustedSigners,
    at_work: Option<Timestamp>,
    after: Span,
    now: Timestamp,
) -> Result<Orphans, Broke> {
    let prefix = format!("{}/", policy.name);
    let object = |info: &ObjectInfo, half: bool| {
        let key = info.key.strip_prefix(&prefix)?.to_owned();
        Some(Object { key, bytes: info.bytes, written: info.modified, half })
    };
    let whole = seen.objects.iter().filter_map(|info| object(info, false));
    let objects: Vec<Object> = whole.chain(seen.half.iter().filter_map(|info| object(info, true))).collect();
    let records = records(policy, &objects, seen, trusted).await?;
    let there: BTreeSet<BackupId> = seen.backups.iter().map(|backup| backup.kept.id.clone()).collect();
    let leaving: BTreeSet<BackupId> = seen.leaving.keys().cloned().collect();
    let ground = Ground { there: &there, leaving: &leaving, at_work, records: &records, after };
    Ok(orphans::sort(&objects, &ground, now))
}

/// The records of the log. Only where a file has several objects must be read which one is meant.
async fn records(
    policy: &Policy,
    objects: &[Object],
    seen: &Survey,
    trusted: &TrustedSigners,
) -> Result<BTreeMap<WalName, Option<String>>, Broke> {
    let mut several: BTreeMap<WalName, usize> = BTreeMap::new();
    for object in objects {
        let file = object.key.strip_prefix(LOG).and_then(|key| key.rsplit_once('/')).map(|(_, file)| file);
        if let Some(name) = file.and_then(|file| file.strip_suffix(".zst.age")).and_then(orphans::wal_name) {
            *several.entry(name).or_default() += 1;
        }
    }
    let mut records = BTreeMap::new();
    for name in seen.objects.iter().filter_map(|info| seal::wal_record_in(&policy.name, &info.key)) {
        let meant = if several.get(&name).is_some_and(|count| *count > 1) {
            match seal::load_wal_record(&*seen.store, &policy.name, name, trusted).await {
                Ok(Some(record)) => Some(record.key),
                Ok(None) | Err(Stop::Found(_)) => None,
                Err(Stop::Broke(broke)) => return Err(broke),
            }
        } else {
            None
        };
        records.insert(name, meant);
    }
    Ok(records)
}
