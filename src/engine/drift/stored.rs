//! What the stores hold, and what was read back from them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::World;
use crate::domain::artifact::MANIFEST_NAME;
use crate::domain::check::Broke;
use crate::domain::drift::Drift;
use crate::domain::ids::{JobName, PlaceName, PolicyName};
use crate::domain::ledger::{LastRead, Shelf};
use crate::domain::policy::Policy;
use crate::domain::run::{Run, RunState, Work};
use crate::engine::House;
use crate::engine::ledger::{Facts, Held, Survey, What};
use crate::engine::sweep::Leftover;
use crate::judge::drift::stored;
use crate::judge::ledger::Unit;

/// Stores that are not there or cannot be looked into.
pub(super) fn stores(world: &World, policy: &Policy) -> Vec<Drift> {
    let places = House::places_of(policy);
    let troubles = world.survey.troubles.iter().filter(|(place, _)| places.contains(place));
    let mut found: Vec<Drift> = troubles.map(|(place, broke)| stored::unreachable(policy, place, broke)).collect();
    let missing = world.survey.missing.iter().filter(|(place, _)| places.contains(*place));
    found.extend(missing.map(|(place, known)| stored::missing(policy, place, *known)));
    found
}

/// Signatures, recipients, and backups that are gone.
pub(super) fn manifests(world: &World, policy: &Policy) -> Vec<Drift> {
    let wrong = world.survey.found.iter().filter(|found| found.policy == policy.name);
    let mut found: Vec<Drift> = wrong.map(|one| stored::manifest(policy, &one.store, &one.key, &one.finding)).collect();
    let mine = || world.survey.held.iter().filter(|held| held.policy == policy.name);
    if world.nobody_vouches && mine().next().is_some() {
        found.push(stored::nobody_vouches(policy));
    }
    let mut newest: BTreeMap<&JobName, (&Held, &Facts)> = BTreeMap::new();
    for held in mine() {
        let What::Backup(facts) = &held.what else { continue };
        let known = newest.entry(&facts.job).or_insert((held, facts));
        if facts.started_at > known.1.started_at {
            *known = (held, facts);
        }
    }
    for (job, (held, facts)) in newest {
        let declared = policy.backups.iter().any(|one| one.name == *job);
        if let (Shelf::Backup(backup), true) = (&held.shelf, declared && facts.findings.is_empty()) {
            found.extend(stored::recipients(policy, backup, facts.started_at, &facts.recipients));
        }
    }
    found
}

/// What was not read back for too long, and what was wrong.
pub(super) async fn readings(
    house: &House,
    world: &World,
    policy: &Policy,
    now: Timestamp,
) -> Result<Vec<Drift>, Broke> {
    let survey = &world.survey;
    let mut units: BTreeMap<&PlaceName, Vec<(Unit<_>, Timestamp)>> = BTreeMap::new();
    for (unit, born) in survey.units.iter().zip(&survey.born) {
        if let Some(held) = survey.held.get(unit.key.0).filter(|held| held.policy == policy.name) {
            units.entry(&held.place).or_default().push((*unit, *born));
        }
    }
    let mut found: Vec<Drift> =
        units.iter().filter_map(|(place, units)| stored::overdue(policy, place, units, now)).collect();
    let wrong = house.catalog.read_wrong(&policy.name).await?;
    let places = House::places_of(policy);
    let gone: BTreeSet<(&PlaceName, &String)> =
        survey.gone.iter().flat_map(|(place, keys)| keys.iter().map(move |key| (place, key))).collect();
    // A manifest was looked at just now, and what is wrong with it is told already.
    let manifest = |one: &LastRead| one.key.ends_with(&format!("/{MANIFEST_NAME}")) && seen(survey, &one.store);
    let named =
        |one: &LastRead| places.contains(&one.store) && !gone.contains(&(&one.store, &one.key)) && !manifest(one);
    found.extend(stored::wrong(policy, &wrong, named));
    Ok(found)
}

/// Whether a store could be looked into.
fn seen(survey: &Survey, place: &PlaceName) -> bool {
    !survey.missing.contains_key(place) && survey.troubles.iter().all(|(broken, _)| broken != place)
}

/// Whether a store has a file of a policy's log; none: it could not be looked into.
pub(super) fn has(survey: &Survey, place: &PlaceName, policy: &PolicyName, name: &str) -> Option<bool> {
    if !seen(survey, place) {
        return None;
    }
    let log =
        survey.held.iter().find(|held| held.place == *place && held.policy == *policy && held.shelf == Shelf::Log);
    Some(log.is_some_and(|held| match &held.what {
        What::Log(names) => name.parse().is_ok_and(|name| names.contains(&name)),
        What::Backup(_) => false,
    }))
}

/// Since when a backup is being taken, if this is one that is.
pub(super) fn at_work(run: &Run) -> Option<Timestamp> {
    let taking = matches!(run.work, Work::Backup { .. }) && matches!(run.state, RunState::Running { .. });
    taking.then_some(run.planned_at).filter(|_| !crate::engine::process::is_gone(&run.state))
}

/// What is left over of backups that nobody is taking now. `busy`: since when the longest one is being taken.
pub(super) fn orphans(policy: &Policy, left: &[Leftover], busy: Option<Timestamp>) -> Vec<Drift> {
    let second = jiff::SignedDuration::from_secs(1);
    let mine = |one: &&Leftover| match (busy, one.backup.began_at()) {
        // Its id has the second in which it was begun.
        (Some(since), Some(began)) => began.saturating_add(second).is_ok_and(|began| began < since),
        _ => true,
    };
    let drift = |one: &Leftover| stored::orphan(policy, &one.store, &one.backup, one.objects, one.bytes);
    left.iter().filter(mine).map(drift).collect()
}
