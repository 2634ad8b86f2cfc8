//! Which backup a drill brings back: from what the stores hold, not from what the catalog remembers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::super::House;
use crate::domain::artifact::MANIFEST_NAME;
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::drill::{Drill, Pick};
use crate::domain::ids::{BackupId, PlaceName};
use crate::domain::policy::{Method, Policy};
use crate::domain::units::Span;
use crate::engine::restore::choose::deleted_one;
use crate::seal;
use crate::store::Store;

/// The backup that was chosen, and why.
pub struct Picked {
    /// Which.
    pub backup: BackupId,
    /// Where it lies.
    pub store: Arc<dyn Store>,
    /// What that store is called.
    pub place: PlaceName,
    /// One sentence.
    pub why: String,
}

/// What is known of a candidate without opening it.
struct Candidate {
    backup: BackupId,
    place: PlaceName,
    store: Arc<dyn Store>,
    /// None: its manifest cannot be read, so it may be any.
    method: Option<Method>,
    recovery_point: Timestamp,
    durable_at: Timestamp,
}

/// Whether the catalog or a store of the policy knows this backup.
pub async fn is_known(house: &House, policy: &Policy, backup: &BackupId) -> Result<bool, Broke> {
    if house.catalog.artifacts(&policy.name).await?.iter().any(|record| record.backup == *backup) {
        return Ok(true);
    }
    for store in house.stores_of(policy)?.values() {
        let held = seal::list_backups(&**store, Some(&policy.name), &house.trusted()?).await.map_err(Broke::from)?;
        if held.iter().any(|(_, held)| held == backup) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Picks. A backup that became durable after the loss does not count: it would not have been there.
pub async fn pick(house: &House, policy: &Policy, drill: &Drill, lost_at: Timestamp) -> Result<Picked, Stop> {
    let mut candidates = candidates(house, policy).await?;
    candidates.retain(|candidate| match (drill.method, candidate.method) {
        (Some(wanted), Some(method)) => wanted == method,
        (None, _) | (_, None) => true,
    });
    if let Pick::Id(id) = &drill.pick {
        let named = candidates.into_iter().find(|candidate| candidate.backup == *id);
        let Some(candidate) = named else { return Err(not_there(house, policy, id).await) };
        return Ok(picked(candidate, "the drill names it".to_owned()));
    }
    candidates.retain(|candidate| candidate.durable_at <= lost_at);
    candidates.sort_by_key(|candidate| candidate.recovery_point);
    let count = candidates.len();
    let method = drill.method.map_or(String::new(), |method| format!("{} ", method.as_str()));
    let (index, why) = match drill.pick {
        Pick::Latest | Pick::Id(_) => (count.saturating_sub(1), format!("the newest of {count} {method}backups")),
        Pick::Oldest => (0, format!("the oldest of {count} {method}backups")),
        Pick::Random => {
            let index = random_below(count)?;
            (index, format!("number {} of {count} {method}backups, by chance", index + 1))
        }
    };
    if index >= count {
        let job = policy.backups.iter().find(|job| drill.method.is_none_or(|method| method == job.method));
        let hint = match job {
            Some(job) => format!("take one: lifeboat backup {} --job {}", policy.name, job.name),
            None => format!("no job of policy {} makes {method}backups", policy.name),
        };
        let error =
            format!("policy {} has no {method}backup that was durable before the loss at {lost_at}", policy.name);
        return Err(Broke::hinted(error, hint).into());
    }
    Ok(picked(candidates.swap_remove(index), why))
}

/// Why a backup that is asked for by its id is none that can be had.
async fn not_there(house: &House, policy: &Policy, id: &BackupId) -> Stop {
    let deleted = async {
        let trusted = house.trusted()?;
        for store in house.stores_of(policy)?.values() {
            let mut tombstones = seal::list_tombstones(&**store, Some(&policy.name), &trusted).await?;
            if let Some(mark) = tombstones.remove(&(policy.name.clone(), id.clone())) {
                return Ok(Some(deleted_one(id, &mark)));
            }
        }
        Ok::<_, Broke>(None)
    };
    match deleted.await {
        Ok(Some(broke)) | Err(broke) => broke.into(),
        Ok(None) => {
            let message = "the drill asks for this backup, and no store of the policy holds it";
            Finding::new("artifact_missing", format!("backup {id}"), message).into()
        }
    }
}

fn picked(candidate: Candidate, why: String) -> Picked {
    Picked { backup: candidate.backup, store: candidate.store, place: candidate.place, why }
}

/// The stores say which backups exist; the catalog saves opening manifests that it knows. What the catalog knows and no
/// store holds is kept as a candidate: a lost artifact must be found, not skipped over.
async fn candidates(house: &House, policy: &Policy) -> Result<Vec<Candidate>, Stop> {
    let known = house.catalog.artifacts(&policy.name).await?;
    let stores = house.stores_of(policy)?;
    let mut found: BTreeMap<(PlaceName, BackupId), Candidate> = BTreeMap::new();
    let trusted = house.trusted()?;
    let mut deleted = BTreeSet::new();
    for (name, store) in &stores {
        let tombstones = seal::list_tombstones(&**store, Some(&policy.name), &trusted).await.map_err(Broke::from)?;
        deleted.extend(tombstones.into_keys().map(|(_, backup)| (name.clone(), backup)));
    }
    for record in known {
        let Some(store) = stores.get(&record.store) else { continue };
        // The catalog of another machine may not have heard of it.
        if deleted.contains(&(record.store.clone(), record.backup.clone())) {
            continue;
        }
        let store = Arc::clone(store);
        found.insert(
            (record.store.clone(), record.backup.clone()),
            Candidate {
                backup: record.backup,
                place: record.store,
                store,
                method: Some(record.method),
                recovery_point: record.recovery_point,
                durable_at: record.finished_at,
            },
        );
    }
    for (name, store) in &stores {
        for (_, backup) in seal::list_backups(&**store, Some(&policy.name), &trusted).await.map_err(Broke::from)? {
            if found.contains_key(&(name.clone(), backup.clone())) {
                continue;
            }
            let store = Arc::clone(store);
            let candidate = match seal::load_manifest(&*store, &policy.name, &backup, &trusted).await {
                Ok(sealed) => Candidate {
                    backup: backup.clone(),
                    place: name.clone(),
                    store,
                    method: Some(sealed.manifest.method),
                    recovery_point: sealed.manifest.recovery_point.at,
                    durable_at: sealed.manifest.finished_at,
                },
                // A damaged backup is still a backup that somebody counts on: if it would be picked, the drill fails on it. An
                // older one must not be proven in its place.
                Err(Stop::Found(_)) => {
                    let began = backup.began_at().unwrap_or(Timestamp::MIN);
                    let backup = backup.clone();
                    // Its id tells the second; taken at that second's end, it is never thought older than it is.
                    let recovery_point = began.saturating_add(Span::from_secs(1).0).unwrap_or(began);
                    let place = name.clone();
                    Candidate { backup, place, store, method: None, recovery_point, durable_at: began }
                }
                Err(stop) => return Err(stop),
            };
            found.insert((name.clone(), backup), candidate);
        }
    }
    let mut candidates: Vec<Candidate> = found.into_values().collect();
    arrivals(house, policy, &mut candidates).await?;
    Ok(candidates)
}

/// In a second store a backup is durable only when its copy is: by what was written down of it, else by the store's own date.
async fn arrivals(house: &House, policy: &Policy, candidates: &mut [Candidate]) -> Result<(), Broke> {
    let copies = house.catalog.copies(&policy.name).await?;
    for candidate in candidates.iter_mut().filter(|one| House::is_copy(policy, &one.place)) {
        let mut copied = copies.iter().filter(|one| one.store == candidate.place && one.backup == candidate.backup);
        let arrived = match copied.next() {
            Some(copy) => Some(copy.durable_at),
            None => {
                let key = format!("{}/{}/{MANIFEST_NAME}", policy.name, candidate.backup);
                let listed = candidate.store.list(&key).await?;
                listed.into_iter().find(|object| object.key == key).map(|object| object.modified)
            }
        };
        candidate.durable_at = candidate.durable_at.max(arrived.unwrap_or(candidate.durable_at));
    }
    Ok(())
}

fn random_below(count: usize) -> Result<usize, Broke> {
    let random = getrandom::u64().map_err(|error| Broke::new(format!("no random number could be had: {error}")))?;
    // Anything but an empty list: then the caller says that there is none.
    Ok(usize::try_from(random % count.max(1) as u64).unwrap_or(0))
}
