//! The prune: what no retention keeps is deleted, in two steps, and nothing else.

mod act;
mod log;
mod marks;
mod report;
mod survey;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::domain::check::{Broke, Finding};
use crate::domain::ids::PlaceName;
use crate::domain::policy::Policy;
use crate::domain::run::{Event, Proof, RunOutcome, RunState, Work};
use crate::domain::units::Span;
use crate::judge::retention::clock::{self, Written};
use crate::judge::retention::{self, Job, Shelf};
use crate::judge::schedule;
use crate::seal::TrustedSigners;
use crate::store::{self, Store};
use crate::telemetry::run_span;
use tracing::Instrument;

use super::House;
use super::process;

pub use marks::{HoldOf, Marked, Marking, holds, mark};
pub use report::{PRUNE_SCHEMA, Pruned, StorePruned, Trouble};
use survey::Survey;

/// Runs that are looked back over for a backup that is being taken.
const RUNS_LOOKED_AT: usize = 1_000;

/// How it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Only in this store.
    pub only: Option<PlaceName>,
    /// Only tell what would be done.
    pub dry_run: bool,
    /// For how long what was deleted can be brought back.
    pub grace: Span,
    /// How long what belongs to nothing is left alone.
    pub orphans_after: Span,
}

/// The stores of a policy, as far as they could be opened, and those that could not.
pub struct Stores {
    /// By name.
    pub open: BTreeMap<PlaceName, Arc<dyn Store>>,
    /// Which may hold something that matters, and why they could not be opened.
    pub unseen: Vec<Trouble>,
}

/// All stores that a policy's backups and their copies go to, to delete from them.
pub async fn stores(house: &House, policy: &Policy) -> Result<Stores, Broke> {
    let known = house.catalog.artifacts(&policy.name).await?;
    let mut stores = Stores { open: BTreeMap::new(), unseen: Vec::new() };
    for name in &House::places_of(policy) {
        match house.store_to_prune(name) {
            Ok(store) => drop(stores.open.insert(name.clone(), store)),
            // The first backup makes the folder. Once one is known, its absence is trouble: the disk may not be mounted.
            Err(broke) => {
                let never = house.config.stores.get(name).is_some_and(store::is_missing)
                    && !known.iter().any(|artifact| artifact.store == *name);
                if !never {
                    stores.unseen.push(Trouble::of(name.as_str(), broke));
                }
            }
        }
    }
    Ok(stores)
}

/// Prunes a policy: makes a plan for each of its stores, and does it unless it is only asked for. What was done is in the catalog.
pub async fn prune(house: &House, policy: &Policy, asked: &Asked, now: Timestamp) -> Result<Pruned, Broke> {
    let stores = stores(house, policy).await?;
    if let Some(only) = asked.only.as_ref().filter(|only| !stores.open.contains_key(*only)) {
        if let Some(trouble) = stores.unseen.iter().find(|trouble| trouble.place == only.as_str()) {
            return Err(Broke { error: trouble.error.clone(), hint: trouble.hint.clone() });
        }
        let known = stores.open.keys().map(PlaceName::as_str);
        return Err(super::house::unknown("store of this policy", only.as_str(), known));
    }
    prune_in(house, policy, stores, asked, now).await
}

/// The same in these stores.
pub async fn prune_in(
    house: &House,
    policy: &Policy,
    stores: Stores,
    asked: &Asked,
    now: Timestamp,
) -> Result<Pruned, Broke> {
    let trusted = house.trusted()?;
    if asked.dry_run {
        let found = look(house, policy, stores, &trusted, asked, now).await?;
        return Ok(found.pruned(policy, None, true));
    }
    let signer = marks::signer(house, &trusted)?;
    let run = house.begin(&policy.name, Work::Prune).await?;
    let done = async {
        let mut found = look(house, policy, stores, &trusted, asked, now).await?;
        let proofs = std::mem::take(&mut found.proofs);
        let (trusted, signer, proofs, away) = (&trusted, &signer, &proofs, OnceLock::new());
        let means = act::Means { house, policy, run, trusted, signer, asked, now, proofs, away };
        for at in 0..found.seen.len() {
            act::act(&means, &mut found, at).await;
        }
        Ok::<_, Broke>(found.pruned(policy, Some(run), false))
    };
    let done = done.instrument(run_span(Some(&policy.name), run, &Work::Prune)).await;
    let outcome = match &done {
        Ok(pruned) => pruned.outcome(),
        Err(broke) => RunOutcome::Broke { error: broke.error.clone(), hint: broke.hint.clone() },
    };
    let finished = house.record(&policy.name, run, Event::Finished { outcome }).await;
    let pruned = done?;
    finished?;
    Ok(pruned)
}

/// What was seen, and what is decided about it.
struct Found {
    /// Each store that could be looked into.
    seen: Vec<Survey>,
    /// For each that is meant, what is to be done and what was done.
    stores: BTreeMap<PlaceName, StorePruned>,
    troubles: Vec<Trouble>,
    /// By which the plans were made.
    proofs: Vec<Proof>,
}

impl Found {
    fn pruned(self, policy: &Policy, run: Option<crate::domain::ids::RunId>, dry_run: bool) -> Pruned {
        Pruned {
            policy: policy.name.clone(),
            run,
            dry_run,
            stores: self.stores.into_values().collect(),
            troubles: self.troubles,
        }
    }
}

/// Looks at all stores, and makes the plans.
async fn look(
    house: &House,
    policy: &Policy,
    stores: Stores,
    trusted: &TrustedSigners,
    asked: &Asked,
    now: Timestamp,
) -> Result<Found, Broke> {
    let proofs = house.catalog.proofs(&policy.name).await?;
    let taken = house.catalog.taken(&policy.name).await?;
    let mut found = Found { seen: Vec::new(), stores: BTreeMap::new(), troubles: stores.unseen, proofs: Vec::new() };
    for (place, store) in stores.open {
        match survey::survey(&place, store, &policy.name, trusted, &proofs).await {
            Ok(seen) => found.seen.push(seen),
            Err(broke) => found.troubles.push(Trouble::of(place.as_str(), broke)),
        }
    }
    survey::share_holds(&mut found.seen);
    let at_work = at_work(house, policy).await?;
    let against: Vec<Finding> = found.troubles.iter().map(unseen).collect();
    let jobs = jobs(policy);
    for seen in &found.seen {
        if asked.only.as_ref().is_some_and(|only| *only != seen.place) {
            continue;
        }
        let mut clock = against.clone();
        clock.extend(doubts(policy, seen, &taken, now));
        let kept: Vec<retention::Kept> = seen.backups.iter().map(|backup| backup.kept.clone()).collect();
        let shelf = Shelf {
            backups: &kept,
            jobs: &jobs,
            rehearsed: !policy.drills.is_empty(),
            clock: &clock,
            grace: asked.grace,
        };
        let plan = retention::plan(&shelf, now);
        let may = plan.standstill.is_empty();
        let mut pruned = StorePruned::begin(seen, plan);
        let rest = async {
            let log = log::plan(policy, &found.seen, seen, trusted, may, now).await?;
            Ok::<_, Broke>((log, survey::orphans(policy, seen, trusted, at_work, asked.orphans_after, now).await?))
        };
        match rest.await {
            Ok((log, orphans)) => {
                (pruned.log, pruned.orphans, pruned.unknown) = (log, orphans.orphans, orphans.unknown);
            }
            // Its log and its orphans stay; what is decided of its backups stands.
            Err(broke) => pruned.troubles.push(Trouble::of(seen.place.as_str(), broke)),
        }
        pruned.leaving = seen.leaving.keys().cloned().collect();
        found.stores.insert(seen.place.clone(), pruned);
    }
    found.proofs = proofs;
    Ok(found)
}

/// A store that cannot be looked into may have a hold on what another one would lose.
fn unseen(trouble: &Trouble) -> Finding {
    let message = format!("the store {} could not be looked into: there may be a hold in it", trouble.place);
    Finding::new("store_unseen", format!("store {}", trouble.place), message)
}

/// What speaks against the clock.
fn doubts(policy: &Policy, seen: &Survey, taken: &[Timestamp], now: Timestamp) -> Vec<Finding> {
    let says = || seen.backups.iter().filter_map(|backup| backup.kept.says.as_ref().ok());
    let mut all: Vec<Timestamp> = taken.iter().copied().chain(says().map(|says| says.finished_at)).collect();
    all.sort();
    all.dedup();
    let points: Vec<Timestamp> = says().map(|says| says.recovery_point).collect();
    let today = TimeZone::UTC.to_datetime(now).date();
    let schedules = policy.backups.iter().filter_map(|job| job.schedule.as_ref());
    let waits = schedules.filter_map(|schedule| schedule::parse(&schedule.text).ok());
    let due = waits.map(|cadence| cadence.longest_wait(today)).min();
    clock::doubts(&Written { objects: &seen.written, taken: &all, points: &points, due }, now)
}

fn jobs(policy: &Policy) -> Vec<Job> {
    let zone = |name: &str| TimeZone::get(name).ok();
    let jobs = policy.backups.iter().map(|job| {
        let named = job.schedule.as_ref().map(|schedule| schedule.timezone.as_str());
        Job {
            name: job.name.clone(),
            retention: job.retention.clone(),
            zone: named.and_then(zone).unwrap_or(TimeZone::UTC),
        }
    });
    jobs.collect()
}

/// When the oldest backup of the policy that is being taken right now was begun.
async fn at_work(house: &House, policy: &Policy) -> Result<Option<Timestamp>, Broke> {
    let runs = house.catalog.runs(Some(&policy.name), RUNS_LOOKED_AT).await?;
    let taking = runs.iter().filter(|run| {
        matches!(run.work, Work::Backup { .. })
            && matches!(run.state, RunState::Running { .. } | RunState::Planned)
            && !process::is_gone(&run.state)
    });
    Ok(taking.map(|run| run.planned_at).min())
}
