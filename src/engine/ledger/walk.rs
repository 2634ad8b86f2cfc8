//! `lifeboat verify --budget`: reads what was not read for the longest time, until the budget is used up; the next run goes on from there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;
use tracing::Instrument;

use super::Record;
use super::reading::read_all;
use super::survey::{Eyes, Found, Key, Survey, manifest_key, survey};
use crate::domain::check::Broke;
use crate::domain::ids::{PlaceName, PolicyName, RunId};
use crate::domain::ledger::{Budget, Depth};
use crate::domain::policy::Policy;
use crate::domain::run::{Event, RunOutcome, Work};
use crate::domain::transcript::Verdict;
use crate::domain::units::{ByteSize, Span};
use crate::engine::House;
use crate::engine::verify::{Conclusion, Reading as Eyesight, Trouble};
use crate::judge::ledger::{self, Coverage, Forecast};
use crate::telemetry::{run_span, step_span};

/// Runs that are looked back on for how often such runs come.
const LOOK_BACK: usize = 1_000;

/// How much of one policy was read back, when the run had ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Covered {
    /// Which policy.
    pub policy: PolicyName,
    /// By which run.
    pub run: RunId,
    /// In which time it is promised to be read; none: nobody promised it.
    pub within: Option<Span>,
    /// How much of it was.
    pub coverage: Coverage,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Walk {
    /// How much was to be read.
    pub budget: Budget,
    /// Whether what was read was opened too.
    pub opened: bool,
    /// Objects that were to be read.
    pub planned: u64,
    /// Objects that were read, right or wrong.
    pub objects: u64,
    /// How long those are.
    pub bytes: ByteSize,
    /// Objects that were removed between the look into the store and their turn.
    pub gone: u64,
    /// What is wrong.
    pub found: Vec<Found>,
    /// How much of each policy was read back by now.
    pub policies: Vec<Covered>,
    /// How long it takes to read all, at this pace.
    pub forecast: Option<Forecast>,
    /// What could not be reached or read.
    pub troubles: Vec<Trouble>,
    /// What was not seen, so that it is not proven: one sentence each.
    pub unproven: Vec<String>,
    /// How long it took.
    pub took: Span,
}

impl Walk {
    /// The word over it. A finding is certain whatever else broke; nothing read is never good.
    pub fn conclusion(&self) -> Conclusion {
        if !self.found.is_empty() {
            Conclusion::Found
        } else if !self.troubles.is_empty() {
            Conclusion::Broke
        } else if self.objects == 0 || !self.unproven.is_empty() {
            Conclusion::Unproven
        } else {
            Conclusion::NothingFound
        }
    }

    fn outcome(&self, policy: &PolicyName) -> RunOutcome {
        let found = self.found.iter().filter(|one| one.policy == *policy).count() as u64;
        match (found, self.troubles.first(), self.conclusion()) {
            (1.., _, _) => RunOutcome::Found(found),
            (0, Some(trouble), _) => {
                let error = format!("{}: {}", trouble.place, trouble.error);
                RunOutcome::Broke { error, hint: trouble.hint.clone() }
            }
            (0, None, _) if self.objects == 0 || !self.unproven.is_empty() => RunOutcome::Judged(Verdict::Unproven),
            (0, None, _) => RunOutcome::Succeeded,
        }
    }

    pub(super) fn trouble(&mut self, place: impl Into<String>, broke: Broke) {
        let Broke { error, hint } = broke;
        self.troubles.push(Trouble { place: place.into(), error, hint });
    }
}

/// Reads what these policies have in their stores (or in `only` one of them), as far as the budget goes, and writes it down. `now`: the moment at which it begins,
/// from which every reading is counted.
pub async fn walk(
    house: &House,
    policies: &[&Policy],
    only: Option<&PlaceName>,
    budget: Budget,
    sight: &Eyesight,
    now: Timestamp,
) -> Result<Walk, Broke> {
    let began = Instant::now();
    let earlier = earlier(house, policies).await?;
    let mut runs: BTreeMap<PolicyName, RunId> = BTreeMap::new();
    let walked = async {
        for policy in policies {
            runs.insert(policy.name.clone(), house.begin_at(now, &policy.name, Work::ReadBack).await?);
        }
        // One trace a run, though one walk is all of them; its steps are in the first one's.
        let spans = runs.iter().map(|(policy, run)| run_span(Some(policy), *run, &Work::ReadBack));
        let spans: Vec<tracing::Span> = spans.collect();
        let first = spans.first().cloned().unwrap_or_else(tracing::Span::none);
        go(house, policies, only, budget, sight, (now, began), &earlier, &runs).instrument(first).await
    };
    let mut walked = walked.await;
    for (policy, run) in &runs {
        let outcome = match &walked {
            Ok(walk) => walk.outcome(policy),
            Err(broke) => RunOutcome::Broke { error: broke.error.clone(), hint: broke.hint.clone() },
        };
        // What was found out is not thrown away because it cannot be written down.
        if let (Err(broke), Ok(walk)) = (house.record(policy, *run, Event::Finished { outcome }).await, &mut walked) {
            walk.trouble("catalog", broke);
        }
    }
    walked
}

/// The runs are begun: what is to be read is looked up and read. After the look, nothing is asked of the catalog that the rest depends on.
#[expect(clippy::too_many_arguments, reason = "one call, and each is another thing")]
async fn go(
    house: &House,
    policies: &[&Policy],
    only: Option<&PlaceName>,
    budget: Budget,
    sight: &Eyesight,
    (now, began): (Timestamp, Instant),
    earlier: &[Timestamp],
    runs: &BTreeMap<PolicyName, RunId>,
) -> Result<Walk, Broke> {
    sight.progress.stage("look what there is");
    let eyes = Eyes { trusted: &sight.trusted, opener: sight.opener.as_ref(), witness: None };
    let mut seen = survey(house, policies, only, &eyes).instrument(step_span("look what there is")).await?;
    let plan = ledger::plan(&seen.units, budget, now);
    let record = Record::new(house, now, runs.iter().map(|(policy, run)| (policy.clone(), Some(*run))).collect());
    let mut walk = Walk {
        budget,
        opened: sight.opener.is_some(),
        planned: plan.order.len() as u64,
        objects: 0,
        bytes: ByteSize(0),
        gone: 0,
        found: Vec::new(),
        policies: Vec::new(),
        forecast: None,
        troubles: Vec::new(),
        unproven: Vec::new(),
        took: Span::ZERO,
    };
    note_survey(&mut seen, &record, sight, &mut walk);
    for (place, keys) in std::mem::take(&mut seen.gone) {
        // They are listed as gone again by the next look.
        if let Err(broke) = house.catalog.forget_read(&place, keys).await {
            tracing::warn!(store = %place, error = %broke.error, "what is gone from the store stays in the ledger for now");
        }
    }
    sight.progress.stage("read");
    sight.progress.expect(if matches!(budget, Budget::Time(_)) { 0 } else { plan.bytes });
    let reading = read_all(&seen, &plan.order, &record, sight, &mut walk).instrument(step_span("read"));
    for (at, right) in reading.await {
        seen.units[at].looked_at = Some(now);
        seen.units[at].right_at = right.then_some(now);
    }
    if let Err(broke) = record.flush().await {
        walk.trouble("catalog", broke);
    }
    let all = seen.units.iter().fold(0, |sum: u64, unit| sum.saturating_add(unit.bytes));
    walk.forecast = ledger::forecast(all, walk.bytes.0, earlier, now);
    for policy in policies {
        let of_it = |key: &Key| seen.held.get(key.0).is_some_and(|held| held.policy == policy.name);
        let units: Vec<_> = seen.units.iter().filter(|unit| of_it(&unit.key)).copied().collect();
        let coverage = ledger::coverage(&units, policy.read_back_within, now);
        let run = runs[&policy.name];
        walk.policies.push(Covered { policy: policy.name.clone(), run, within: policy.read_back_within, coverage });
    }
    walk.took = Span::from_std(began.elapsed());
    Ok(walk)
}

/// When such runs began before; of the policy that had most of them, for each run is one of every policy.
async fn earlier(house: &House, policies: &[&Policy]) -> Result<Vec<Timestamp>, Broke> {
    let mut most = Vec::new();
    for policy in policies {
        let runs = house.catalog.runs(Some(&policy.name), LOOK_BACK).await?;
        let began: Vec<Timestamp> =
            runs.iter().filter(|run| run.work == Work::ReadBack).map(|run| run.planned_at).collect();
        if began.len() > most.len() {
            most = began;
        }
    }
    Ok(most)
}

/// What was seen before the first part was read.
fn note_survey(seen: &mut Survey, record: &Record, sight: &Eyesight, walk: &mut Walk) {
    let mut told = BTreeSet::new();
    for found in std::mem::take(&mut seen.found) {
        // One row an object: its first finding.
        if told.insert((found.store.clone(), found.key.clone())) {
            let (place, policy, finding) = (&found.store, &found.policy, Some(found.finding.clone()));
            record.object(place, policy, &found.key, ByteSize(0), Depth::Sealed, finding);
        }
        walk.found.push(found);
    }
    for (place, policy, backup) in &seen.manifests {
        // Its bytes are none of the backup's: what of that was read is told by its parts alone.
        record.object(place, policy, &manifest_key(policy, backup), ByteSize(0), Depth::Opened, None);
    }
    for (place, broke) in std::mem::take(&mut seen.troubles) {
        walk.trouble(place.as_str(), broke);
    }
    for place in seen.missing.keys() {
        let hint = "is it mounted? If it is lost for good, make an empty folder in its place by hand";
        walk.trouble(place.as_str(), Broke::hinted("it is not there, and backups are known in it", hint));
    }
    walk.unproven.extend(seen.empty.iter().map(|place| format!("nothing was ever written to the store {place}")));
    if seen.units.is_empty() && walk.unproven.is_empty() {
        walk.unproven.push("there is nothing to read".to_owned());
    }
    if sight.trusted.is_empty() {
        let why = "who made it: no trusted signer is configured ([keys] trusted_signers), and anybody can sign";
        walk.unproven.push(why.to_owned());
    }
    if !walk.opened {
        let why = "that it decrypts, decompresses and is what was backed up: no key was used";
        walk.unproven.push(why.to_owned());
    }
}
