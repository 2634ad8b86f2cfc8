//! The plan is done, step by step. Whatever step is the last one that was come to, the store is consistent, and the next prune goes on from there.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::Instant;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::survey::{AT_ONCE, Survey, lock};
use super::{Asked, Found, StorePruned, Trouble, log};
use crate::domain::artifact::{MANIFEST_NAME, SIGNATURE_NAME, is_object_name};
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::ids::{BackupId, RunId};
use crate::domain::mark::{Act, MARK_FORMAT, MARK_WORDS, Mark, Marks};
use crate::domain::policy::Policy;
use crate::domain::run::{Event, Proof, Removed};
use crate::domain::units::{ByteSize, Span};
use crate::engine::{House, interrupt};
use crate::judge::retention::clock::{self, TOLERANCE};
use crate::judge::retention::orphans::{self, CLOCK, LOG, Orphan};
use crate::judge::retention::{Entry, Fate, Lock};
use crate::seal::{self, MARKS, Signer, TrustedSigners};
use crate::store::{ObjectInfo, Store};

/// Who signs a deletion.
pub(super) const PRUNE: &str = "lifeboat prune";

/// With what it is done.
pub(super) struct Means<'a> {
    pub house: &'a House,
    pub policy: &'a Policy,
    pub run: RunId,
    pub trusted: &'a TrustedSigners,
    pub signer: &'a Signer,
    pub asked: &'a Asked,
    pub now: Timestamp,
    /// By which proofs the plans were made.
    pub proofs: &'a [Proof],
    /// The catalog did not answer any more: nothing further is deleted, in no store.
    pub away: OnceLock<Broke>,
}

/// Does what is planned for one store.
pub(super) async fn act(means: &Means<'_>, found: &mut Found, at: usize) {
    let Some(seen) = found.seen.get(at) else { return };
    let Some(mut pruned) = found.stores.remove(&seen.place) else { return };
    if let Err(broke) = act_in(means, found, seen, &mut pruned).await {
        pruned.troubles.push(Trouble::of(seen.place.as_str(), broke));
    }
    let place = seen.place.clone();
    found.stores.insert(place, pruned);
}

async fn act_in(means: &Means<'_>, found: &Found, seen: &Survey, pruned: &mut StorePruned) -> Result<(), Broke> {
    means.proven_since().await?;
    tell_catalog(means, seen).await?;
    if !pruned.plan.standstill.is_empty() || nothing_to_do(means, seen, pruned) {
        return Ok(());
    }
    if let Some(finding) = ask_for_the_date(means, seen).await? {
        pruned.plan.standstill.push(finding);
        return Ok(());
    }
    let steady = Steady { wall: crate::clock::now(), began: Instant::now() };
    let with = |pruned: &StorePruned, fate| pruned.plan.with(fate).cloned().collect::<Vec<Entry>>();
    for entry in with(pruned, Fate::Delete) {
        if means.stays(&steady, &entry.backup, pruned).await? {
            continue;
        }
        let done = delete(means, seen, &entry, pruned).await;
        pruned.trouble(&entry.backup, done);
    }
    for entry in with(pruned, Fate::Remove) {
        if means.stays(&steady, &entry.backup, pruned).await? {
            continue;
        }
        let done = remove(means, seen, &entry.backup, entry.reasons, pruned).await;
        pruned.trouble(&entry.backup, done);
    }
    for (backup, leaving) in &seen.leaving {
        means.or_stop(&steady).await?;
        if leaving.held {
            pruned.spared.push(format!("{backup}: it is on hold, and its manifest is gone already"));
        } else if over(leaving.deleted.at, means.asked.grace, means.now) {
            let done = remove(means, seen, backup, vec![leaving.deleted.mark.words()], pruned).await;
            pruned.trouble(backup, done);
        }
    }
    for orphan in pruned.orphans.clone().iter().filter(|orphan| orphan.goes) {
        means.or_stop(&steady).await?;
        pruned.orphans_removed += remove_orphan(means, seen, orphan).await?;
    }
    log::remove(means, found, seen, &steady, pruned).await
}

/// Whether a time that began at a moment is over.
fn over(since: Timestamp, span: Span, now: Timestamp) -> bool {
    since.checked_add(span.0).is_ok_and(|until| until <= now)
}

fn nothing_to_do(means: &Means<'_>, seen: &Survey, pruned: &StorePruned) -> bool {
    let goes = pruned.plan.backups.iter().any(|entry| matches!(entry.fate, Fate::Delete | Fate::Remove));
    let leaves = seen.leaving.values().any(|leaving| over(leaving.deleted.at, means.asked.grace, means.now));
    let orphans = pruned.orphans.iter().any(|orphan| orphan.goes);
    !goes && !leaves && !orphans && pruned.log.plan.delete.is_empty()
}

/// What was deleted by another machine, or by a run that was killed before it could say so.
async fn tell_catalog(means: &Means<'_>, seen: &Survey) -> Result<(), Broke> {
    let known = means.house.catalog.artifacts(&means.policy.name).await?;
    let marks = seen.backups.iter().filter_map(|backup| Some((&backup.kept.id, &backup.kept.deleted.as_ref()?.mark)));
    let marks = marks.chain(seen.leaving.iter().map(|(backup, leaving)| (backup, &leaving.deleted.mark)));
    for (backup, mark) in marks {
        if known.iter().any(|artifact| artifact.backup == *backup && artifact.store == seen.place) {
            means.record(Event::Marked { store: seen.place.clone(), mark: Box::new(mark.clone()) }).await?;
        }
    }
    Ok(())
}

/// Puts an object into the store and looks when the store says that it was written.
async fn ask_for_the_date(means: &Means<'_>, seen: &Survey) -> Result<Option<Finding>, Broke> {
    let random =
        getrandom::u64().map_err(|error| Broke::new(format!("the system gives no random numbers: {error}")))?;
    let key = format!("{}/{CLOCK}{random:016x}", means.policy.name);
    let before = crate::clock::now();
    seen.store.put_new(&key, Bytes::from_static(b"lifeboat asks this store for its date\n")).await?;
    let listed = seen.store.list(&key).await;
    let after = crate::clock::now();
    // One that stays is an orphan.
    let deleted = seen.store.delete(&key).await;
    let stored = listed?.into_iter().find(|object| object.key == key).map(|object| object.modified);
    deleted?;
    let stored = stored.ok_or_else(|| {
        Broke::hinted(
            format!("{} does not list what was just put into it", seen.store.url()),
            "a store must list what it has; nothing is deleted from one that does not",
        )
    })?;
    // The moment that was decided by must be the one that is now.
    Ok(clock::against_store(before, stored, after)
        .or_else(|| clock::against_store(means.now, stored, after.max(means.now))))
}

/// Whether the clock goes on as time does.
pub(super) struct Steady {
    wall: Timestamp,
    began: Instant,
}

impl Steady {
    fn or_stop(&self) -> Result<(), Broke> {
        if let Some(signal) = interrupt::heard() {
            let hint = "what was done is whole; the next prune goes on from there";
            return Err(Broke::hinted(format!("stopped by {signal} before its end"), hint));
        }
        let passed = Span::between(self.wall, crate::clock::now());
        let apart = Span((passed.0 - Span::from_std(self.began.elapsed()).0).abs());
        if apart > TOLERANCE {
            let hint = "set the clock right, then prune again";
            return Err(Broke::hinted(
                format!("the clock jumped by {apart} while this ran: nothing more is deleted"),
                hint,
            ));
        }
        Ok(())
    }
}

impl Means<'_> {
    /// Before each thing that cannot be undone: the clock goes right, the run is still ours, and the catalog answers. Gives what was proven since the plans were made.
    pub(super) async fn or_stop(&self, steady: &Steady) -> Result<BTreeSet<BackupId>, Broke> {
        steady.or_stop()?;
        self.house.still_ours().await?;
        self.proven_since().await
    }

    /// The same before a backup goes: true if it was proven since, so that it stays.
    async fn stays(&self, steady: &Steady, backup: &BackupId, pruned: &mut StorePruned) -> Result<bool, Broke> {
        let proven = self.or_stop(steady).await?.contains(backup);
        if proven {
            pruned.spared.push(format!("{backup}: a drill proved it since the plan was made"));
        }
        Ok(proven)
    }

    /// Backups that a drill proved since the plans were made. Whether the last proven one stays can only be told while the catalog answers, so without it nothing is deleted.
    async fn proven_since(&self) -> Result<BTreeSet<BackupId>, Broke> {
        if let Some(broke) = self.away.get() {
            return Err(broke.clone());
        }
        match self.house.catalog.proofs(&self.policy.name).await {
            Ok(proofs) => {
                Ok(proofs.into_iter().filter(|proof| !self.proofs.contains(proof)).map(|proof| proof.backup).collect())
            }
            Err(broke) => {
                let error = format!("the catalog does not answer, so nothing more is deleted: {}", broke.error);
                let hint = "what was done is whole; the next prune goes on from there, when the catalog is back";
                Err(self.away.get_or_init(|| Broke::hinted(error, hint)).clone())
            }
        }
    }

    pub(super) async fn record(&self, event: Event) -> Result<(), Broke> {
        self.house.record(&self.policy.name, self.run, event).await
    }
}

/// The marks as they are right now; and why they forbid a deletion, if they do.
async fn marks_now(means: &Means<'_>, store: &dyn Store, backup: &BackupId) -> Result<(Marks, Option<String>), Broke> {
    let marks = seal::load_marks(store, &means.policy.name, backup, means.trusted).await?;
    let hold = marks.holds.first().map(Mark::words);
    let why = hold.or_else(|| marks.doubts.first().map(|doubt| format!("{}: {}", doubt.object, doubt.message)));
    Ok((marks, why))
}

/// The first step: from here on it no longer counts.
async fn delete(means: &Means<'_>, seen: &Survey, entry: &Entry, pruned: &mut StorePruned) -> Result<(), Broke> {
    let (marks, against) = marks_now(means, &*seen.store, &entry.backup).await?;
    if let Some(why) = against {
        pruned.spared.push(format!("{}: {why}", entry.backup));
        return Ok(());
    }
    if marks.tombstone.is_some() {
        return Ok(());
    }
    let mut reason = entry.reasons.join("; ");
    while reason.len() > MARK_WORDS {
        reason.pop();
    }
    let mark = Mark {
        format: MARK_FORMAT.to_owned(),
        policy: means.policy.name.clone(),
        backup: entry.backup.clone(),
        number: 0,
        act: Act::Tombstone,
        by: PRUNE.to_owned(),
        reason,
        at: means.now,
    };
    let mark = seal::put_mark(&*seen.store, mark, means.signer, means.trusted).await?;
    pruned.deleted.push(entry.backup.clone());
    means.record(Event::Marked { store: seen.place.clone(), mark: Box::new(mark) }).await
}

/// The second step: the manifest goes first, so that nothing ever looks whole that is not, and the marks last, so that it is known to be leaving.
async fn remove(
    means: &Means<'_>,
    seen: &Survey,
    backup: &BackupId,
    reasons: Vec<String>,
    pruned: &mut StorePruned,
) -> Result<(), Broke> {
    let store = &*seen.store;
    let (marks, against) = marks_now(means, store, backup).await?;
    let since = marks.tombstone.as_ref().map(|mark| mark.at);
    let against = match since {
        None => Some("somebody brought it back".to_owned()),
        Some(since) if !over(since, means.asked.grace, means.now) => Some("it was deleted anew".to_owned()),
        Some(_) => against,
    };
    let prefix = format!("{}/{backup}/", means.policy.name);
    let objects = store.list(&prefix).await?;
    let name = |object: &ObjectInfo| object.key.strip_prefix(&prefix).unwrap_or_default().to_owned();
    let (mine, rest): (Vec<_>, Vec<_>) = objects.into_iter().partition(|object| is_object_name(&name(object)));
    let against = match against {
        Some(why) => Some(why),
        None => locked(store, &mine, means.now).await,
    };
    if let Some(why) = against {
        pruned.spared.push(format!("{backup}: {why}"));
        return Ok(());
    }
    for first in [MANIFEST_NAME, SIGNATURE_NAME] {
        store.delete(&format!("{prefix}{first}")).await?;
    }
    let parts = mine.iter().filter(|object| ![MANIFEST_NAME, SIGNATURE_NAME].contains(&name(object).as_str()));
    let deleting: Vec<_> = parts.map(async |part| store.delete(&part.key).await).collect();
    futures_util::stream::iter(deleting).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    let removed = Removed {
        backup: backup.clone(),
        store: seen.place.clone(),
        objects: mine.len() as u64,
        bytes: ByteSize(mine.iter().fold(0, |sum, object| sum.saturating_add(object.bytes))),
        reasons,
    };
    means.record(Event::Removed(removed.clone())).await?;
    pruned.removed.push(removed);
    // In their order: a release goes after the hold that it ends, and the deletion itself is the last one.
    for mark in rest.iter().filter(|object| name(object).starts_with(MARKS)) {
        store.delete(&mark.key).await?;
    }
    Ok(())
}

/// Why one of these objects must not be deleted, as the store says right now.
async fn locked(store: &dyn Store, objects: &[ObjectInfo], now: Timestamp) -> Option<String> {
    let asking: Vec<_> = objects.iter().map(async |object| (&object.key, lock(store, &object.key).await)).collect();
    let mut asked = futures_util::stream::iter(asking).buffer_unordered(AT_ONCE);
    while let Some((key, lock)) = asked.next().await {
        match lock {
            Lock::Until(until) if until > now => return Some(format!("{key} is locked until {until:.0}")),
            Lock::Hold => return Some(format!("{key} has a legal hold in its store")),
            Lock::Unknown(why) => return Some(format!("{key} may be locked, its store could not be asked: {why}")),
            Lock::Free | Lock::Until(_) => {}
        }
    }
    None
}

/// Takes away what belongs to nothing, unless it came to belong to something since it was looked at. Gives how many objects.
async fn remove_orphan(means: &Means<'_>, seen: &Survey, orphan: &Orphan) -> Result<u64, Broke> {
    let (store, policy) = (&*seen.store, &means.policy.name);
    if let Some(backup) = &orphan.backup {
        let objects = store.list(&format!("{policy}/{backup}/")).await?;
        let news = |object: &ObjectInfo| {
            let key = object.key.strip_prefix(&format!("{policy}/")).unwrap_or_default();
            object.modified > orphan.written
                || (key.ends_with(MANIFEST_NAME) && !orphan.keys.iter().any(|one| one == key))
        };
        if objects.iter().any(news) {
            return Ok(0);
        }
    }
    for key in &orphan.keys {
        if is_named_now(means, store, key).await? {
            return Ok(0);
        }
    }
    let objects = orphan.keys.len() as u64;
    let event = Event::OrphansRemoved {
        store: seen.place.clone(),
        backup: orphan.backup.clone(),
        objects,
        bytes: orphan.bytes,
    };
    means.record(event).await?;
    for key in &orphan.keys {
        store.delete(&format!("{policy}/{key}")).await?;
    }
    Ok(objects)
}

/// Whether an object of the log has got a record meanwhile.
async fn is_named_now(means: &Means<'_>, store: &dyn Store, key: &str) -> Result<bool, Broke> {
    let name = key.strip_prefix(LOG).and_then(|key| key.rsplit_once('/')).map(|(_, file)| file);
    let Some(name) = name.and_then(|file| file.strip_suffix(".zst.age")).and_then(orphans::wal_name) else {
        return Ok(false);
    };
    match seal::load_wal_record(store, &means.policy.name, name, means.trusted).await {
        Ok(record) => Ok(record.is_some_and(|record| format!("{LOG}{}", record.key) == key)),
        Err(Stop::Found(_)) => Ok(true),
        Err(Stop::Broke(broke)) => Err(broke),
    }
}
