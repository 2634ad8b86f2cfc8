//! `lifeboat drift`: the declared world is compared with the observed one. Each source is asked here and judged in [`crate::judge::drift`]; one that
//! cannot be looked at is a drift of its own.

mod stored;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tracing::Instrument;

use super::copies::{self, Looking};
use super::ledger::{self, Eyes, Survey};
use super::prune::{self, Asked};
use super::standing::LOOK_BACK;
use super::{House, immutability, sweep, wal};
use crate::backup::wal::slot;
use crate::domain::check::Broke;
use crate::domain::drift::{Drift, Severity};
use crate::domain::ids::PolicyName;
use crate::domain::policy::{Method, Policy};
use crate::domain::posture::Posture;
use crate::domain::run::{Event, RunOutcome, Work};
use crate::domain::summary::DrillSummary;
use crate::domain::transcript::Verdict;
use crate::domain::units::Span;
use crate::judge::drift::{self, promises, second, source};
use crate::judge::freshness::{self, Known};
use crate::probe;
use crate::progress::Silent;
use crate::telemetry::run_span;

/// All that was looked at, before anything is judged. Sources are asked first: what is then not in a store was not there either when they answered.
struct World {
    sources: BTreeMap<PolicyName, Result<Posture, Broke>>,
    survey: Survey,
    nobody_vouches: bool,
}

/// Finds what is not as these policies declare it, the worst first. A catalog that cannot be read is an error: there is nothing to compare with.
pub async fn find(house: &House, policies: &[&Policy], now: Timestamp) -> Result<Vec<Drift>, Broke> {
    let mut sources = BTreeMap::new();
    for policy in house.policies.iter().filter(|policy| !policy.is_of_control_plane()) {
        // Those of other policies tell which databases are covered.
        sources.insert(policy.name.clone(), ask(house, policy).await);
    }
    let trusted = house.trusted()?;
    let eyes = Eyes { trusted: &trusted, opener: None, witness: None };
    let survey = ledger::survey(house, policies, None, &eyes).await?;
    let world = World { sources, survey, nobody_vouches: trusted.is_empty() };
    let mut found = Vec::new();
    for policy in policies {
        found.extend(of_promises(house, policy, now).await?);
        found.extend(stored::stores(&world, policy));
        found.extend(stored::manifests(&world, policy));
        found.extend(stored::readings(house, &world, policy, now).await?);
        found.extend(orphans(house, &world, policy).await?);
        found.extend(of_source(house, &world, policy).await);
        found.extend(of_second_places(house, policy, now).await?);
        found.extend(of_retention(house, policy, now).await?);
    }
    drift::sort(&mut found);
    Ok(found)
}

/// Looks at one policy as a run of its own, and writes down what was found: for metrics and alarms it stands until the next look.
pub async fn recorded(house: &House, policy: &Policy) -> Result<Vec<Drift>, Broke> {
    let now = crate::clock::now();
    let run = house.begin_at(now, &policy.name, Work::Drift).await?;
    let looked = async {
        let found = find(house, &[policy], now).await?;
        let of_it = found.iter().filter(|one| one.policy.as_ref() == Some(&policy.name)).cloned().collect();
        // A claim that was lost meanwhile: another one looks, or has looked later.
        house.still_ours().await?;
        house.outbox.note_drift(now, vec![(Some(policy.name.clone()), of_it)]).await?;
        Ok::<_, Broke>(found)
    };
    let looked = looked.instrument(run_span(Some(&policy.name), run, &Work::Drift)).await;
    let outcome = match &looked {
        Ok(found) => outcome(found),
        Err(broke) => RunOutcome::Broke { error: broke.error.clone(), hint: broke.hint.clone() },
    };
    let finished = house.record(&policy.name, run, Event::Finished { outcome }).await;
    let found = looked?;
    finished?;
    Ok(found)
}

/// What could not be looked at is no "no drift".
fn outcome(found: &[Drift]) -> RunOutcome {
    match found.iter().filter(|one| one.severity != Severity::Unproven).count() as u64 {
        0 if found.is_empty() => RunOutcome::Succeeded,
        0 => RunOutcome::Judged(Verdict::Unproven),
        count => RunOutcome::Found(count),
    }
}

async fn ask(house: &House, policy: &Policy) -> Result<Posture, Broke> {
    probe::posture(&house.source(&policy.source)?, &policy.name).await
}

/// Backups, exposure and proofs, by what the catalog knows.
async fn of_promises(house: &House, policy: &Policy, now: Timestamp) -> Result<Vec<Drift>, Broke> {
    let name = &policy.name;
    let artifacts = house.catalog.artifacts(name).await?;
    let transcripts = house.catalog.transcripts(name, LOOK_BACK).await?;
    let runs = house.catalog.runs(Some(name), LOOK_BACK).await?;
    let coverage = house.catalog.covered(name, now).await?;
    let drills: Vec<DrillSummary> = transcripts.iter().map(DrillSummary::from).collect();
    let known = Known { artifacts: &artifacts, coverage: &coverage, drills: &drills, runs: &runs };
    let standing = freshness::standing(policy, known, Span::ZERO, now);
    let mut found = promises::backups(policy, &artifacts, &runs, now);
    found.extend(promises::exposure(policy, &standing, now));
    found.extend(promises::proofs(policy, &transcripts, now));
    found.extend(promises::drills(policy, &house.drills, &transcripts, now));
    found.extend(promises::spool(policy, wal::waiting(policy).await.as_ref(), now));
    Ok(found)
}

/// What lies in the stores and belongs to no backup; what a backup that is being taken has written is none of it.
async fn orphans(house: &House, world: &World, policy: &Policy) -> Result<Vec<Drift>, Broke> {
    let unseen = |place| {
        world.survey.troubles.iter().any(|(broken, _)| broken == place) || world.survey.missing.contains_key(place)
    };
    let places = House::places_of(policy);
    // One of these was told already; a store that was never made holds none.
    if places.iter().any(unseen) || policy.backups.iter().any(|job| world.survey.empty.contains(&job.store)) {
        return Ok(Vec::new());
    }
    let busy: BTreeSet<Timestamp> =
        house.catalog.runs(Some(&policy.name), LOOK_BACK).await?.iter().filter_map(stored::at_work).collect();
    match sweep::leftovers(house, policy).await {
        Ok(left) => Ok(stored::orphans(policy, &left, busy.first().copied())),
        Err(broke) => {
            Ok(places.iter().take(1).map(|place| drift::stored::unreachable(policy, place, &broke)).collect())
        }
    }
}

/// Copies and locks.
async fn of_second_places(house: &House, policy: &Policy, now: Timestamp) -> Result<Vec<Drift>, Broke> {
    let tried = immutability::known(house, policy, now).await?;
    let mut found = second::locks(policy, immutability::locked_stores(house, policy), &tried);
    if policy.backups.iter().any(|job| !job.copies.is_empty()) {
        let looking = Looking { read: false, ledger: false, immutable: &tried, progress: &Silent };
        match copies::look(house, policy, looking).await {
            // Whether they were read is told by the ledger.
            Ok(seen) => {
                found.extend(seen.judged(now).compared.into_iter().filter(|drift| drift.code != "copies_unverified"))
            }
            Err(broke) => {
                let places = House::places_of(policy);
                found.extend(places.iter().take(1).map(|place| drift::stored::unreachable(policy, place, &broke)));
            }
        }
    }
    Ok(found)
}

/// What a prune would find standing against it; nothing is written or deleted.
async fn of_retention(house: &House, policy: &Policy, now: Timestamp) -> Result<Vec<Drift>, Broke> {
    if policy.backups.iter().all(|job| job.retention.is_none()) {
        return Ok(Vec::new());
    }
    let asked = Asked { only: None, dry_run: true, grace: Span::ZERO, orphans_after: Span::ZERO };
    let pruned = prune::prune(house, policy, &asked, now).await?;
    let taken = house.catalog.taken(&policy.name).await?.len();
    let found = pruned.stores.iter().flat_map(|store| second::retention(policy, &store.store, &store.plan, taken));
    Ok(found.collect())
}

async fn of_source(house: &House, world: &World, policy: &Policy) -> Vec<Drift> {
    let Some(asked) = world.sources.get(&policy.name) else { return Vec::new() };
    let place = policy.backups.iter().find(|job| job.method == Method::Physical).map(|job| &job.store);
    // What waits in the spool was archived, and is told of there.
    let spooled = !matches!(wal::waiting(policy).await, Ok(None));
    let stored = |name: &str| match place {
        _ if spooled => Some(true),
        Some(place) => stored::has(&world.survey, place, &policy.name, name),
        None => None,
    };
    let mut found = source::source(policy, asked.as_ref(), &slot::name_of(&policy.name), stored);
    if let Ok(posture) = asked {
        let servers = house.policies.iter().filter(|policy| !policy.is_of_control_plane());
        let all: Vec<(&Policy, Option<&Posture>)> = servers
            .map(|other| (other, world.sources.get(&other.name).and_then(|asked| asked.as_ref().ok())))
            .collect();
        found.extend(source::uncovered(policy, posture, &all));
    }
    found
}
