//! How old backups and proofs are, against what was promised.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::domain::exposure::Covered;
use crate::domain::ids::{DrillName, RunId};
use crate::domain::policy::Policy;
use crate::domain::run::{ArtifactRecord, Run, RunOutcome, RunState, Work};
use crate::domain::summary::DrillSummary;
use crate::domain::transcript::Verdict;
use crate::domain::units::Span;
use crate::judge::exposure::{self, Window};

/// Where a policy stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// In one word: `proven` only if the newest run of every drill of the policy proved it and those proofs are young
    /// enough, the newest backup is within the objective, and no job's newest run broke.
    pub verdict: Verdict,
    /// The newest backup.
    pub last_backup: Option<ArtifactRecord>,
    /// Now less the newest moment that the stores can bring back: what would be lost now.
    pub exposure: Option<Span>,
    /// How far the log in the stores covered the source when that was last written down; none: it never was.
    pub covered: Option<Covered>,
    /// Exposure over the window that was asked for, or since the first backup.
    pub window: Option<Window>,
    /// Run, end and age of the newest drill that was `proven`.
    pub last_proven: Option<(RunId, Timestamp, Span)>,
    /// RPA and RTA of the newest drill that measured them.
    pub rpa: Option<Span>,
    /// As above.
    pub rta: Option<Span>,
    /// What is wrong, gravest first; empty: nothing.
    pub wrong: Vec<String>,
}

#[cfg(test)]
impl Standing {
    /// One of which nothing is known but the word.
    pub(super) fn bare(verdict: Verdict) -> Standing {
        Standing {
            verdict,
            last_backup: None,
            exposure: None,
            covered: None,
            window: None,
            last_proven: None,
            rpa: None,
            rta: None,
            wrong: vec![],
        }
    }
}

/// What speaks against a policy, by gravity.
#[derive(Default)]
struct Wrong {
    failed: Vec<String>,
    unproven: Vec<String>,
}

/// What a policy is judged from: drills, artifacts and runs newest first.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Its backups.
    pub artifacts: &'a [ArtifactRecord],
    /// What the log in the stores covered, and when.
    pub coverage: &'a [Covered],
    /// Its drills.
    pub drills: &'a [DrillSummary],
    /// Its runs.
    pub runs: &'a [Run],
}

/// Judges where a policy stands. `back`: how far exposure is looked back on.
pub fn standing(policy: &Policy, known: Known<'_>, back: Span, now: Timestamp) -> Standing {
    let Known { artifacts, coverage, drills: drilled, runs } = known;
    let mut wrong = Wrong::default();
    // A drill that breaks its scratch on purpose says nothing about the backups, neither good nor bad.
    let honest: Vec<&DrillSummary> = drilled.iter().filter(|drill| !drill.sabotages).collect();
    let last_backup = artifacts.iter().max_by_key(|artifact| artifact.recovery_point).cloned();
    // A log brings nothing back without a backup.
    let covered = coverage.iter().filter(|_| last_backup.is_some()).max_by_key(|one| one.covered).copied();
    let exposure = exposure(policy, last_backup.as_ref(), covered, now, &mut wrong);
    drills(policy, &honest, now, &mut wrong);
    last_runs(policy, runs, &honest, now, &mut wrong);

    let last_proven = honest
        .iter()
        .find(|summary| summary.judgement.verdict == Verdict::Proven)
        .map(|t| (t.run, t.finished_at, Span::between(t.finished_at, now)));
    let verdict = match (wrong.failed.is_empty(), wrong.unproven.is_empty()) {
        (false, _) => Verdict::Failed,
        (true, false) => Verdict::Unproven,
        (true, true) => Verdict::Proven,
    };
    wrong.failed.append(&mut wrong.unproven);
    Standing {
        verdict,
        last_backup,
        exposure,
        covered,
        window: looked_back_on(policy, artifacts, coverage, back, now),
        last_proven,
        rpa: honest.iter().find_map(|summary| summary.judgement.rpa),
        rta: honest.iter().find_map(|summary| summary.judgement.rta),
        wrong: wrong.failed,
    }
}

/// Exposure over the last `back`; from the first backup on, if that is younger.
fn looked_back_on(
    policy: &Policy,
    artifacts: &[ArtifactRecord],
    coverage: &[Covered],
    back: Span,
    now: Timestamp,
) -> Option<Window> {
    let of_backup = |one: &ArtifactRecord| Covered { at: one.finished_at, covered: one.recovery_point, until: None };
    let first = artifacts.iter().map(|one| one.finished_at).min()?;
    let series: Vec<Covered> = artifacts.iter().map(of_backup).chain(coverage.iter().copied()).collect();
    let from = now.checked_sub(back.0).unwrap_or(Timestamp::MIN).max(first);
    exposure::window(&series, from, now, policy.objectives.rpo)
}

fn exposure(
    policy: &Policy,
    newest: Option<&ArtifactRecord>,
    covered: Option<Covered>,
    now: Timestamp,
    wrong: &mut Wrong,
) -> Option<Span> {
    let Some(newest) = newest else {
        wrong.unproven.push("there is no backup".to_owned());
        return None;
    };
    let rpo = policy.objectives.rpo;
    let brings_back = covered.map_or(newest.recovery_point, |one| one.covered.max(newest.recovery_point));
    let exposure = Span::between(brings_back, now);
    // The recovery point is by the source's clock: a little ahead of ours is no miracle, more is not to be believed.
    if exposure < Span(-(rpo.0 / 10)) {
        wrong.unproven.push(format!(
            "the stores say that they bring back a moment {} from now: a clock is wrong",
            Span(exposure.0.abs())
        ));
        return None;
    }
    let exposure = exposure.max(Span::ZERO);
    if exposure > rpo {
        wrong.failed.push(format!("RPO missed: {exposure} of data would be lost now, and {rpo} is allowed"));
    }
    Some(exposure)
}

fn drills(policy: &Policy, drilled: &[&DrillSummary], now: Timestamp, wrong: &mut Wrong) {
    if policy.drills.is_empty() && drilled.is_empty() {
        wrong.unproven.push("no drill is declared, so nothing can be proved".to_owned());
        return;
    }
    // The drills that are declared, and the newest of all, which may be one that was run by hand.
    let mut names: BTreeSet<&DrillName> = policy.drills.iter().map(|used| &used.drill).collect();
    names.extend(drilled.first().map(|summary| &summary.drill));
    for name in names {
        match drilled.iter().find(|summary| &summary.drill == name) {
            None => wrong.unproven.push(format!("the drill {name} has never run")),
            Some(summary) => drill(policy, summary, now, wrong),
        }
    }
}

fn drill(policy: &Policy, summary: &DrillSummary, now: Timestamp, wrong: &mut Wrong) {
    let name = &summary.drill;
    let judgement = &summary.judgement;
    let age = Span::between(summary.finished_at, now);
    let why = judgement.reasons.first().map_or("it does not say why", String::as_str);
    match judgement.verdict {
        Verdict::Failed => {
            wrong.failed.push(format!("the last drill {name} failed {age} ago: {why}"));
            return;
        }
        Verdict::Unproven => {
            wrong.unproven.push(format!("the last drill {name} proved nothing {age} ago: {why}"));
            return;
        }
        Verdict::Proven => {}
    }
    let oldest = policy.objectives.proof_max_age;
    if age < Span::ZERO {
        wrong.unproven.push(format!("the proof of {name} is dated {} from now: a clock is wrong", Span(age.0.abs())));
    } else if age > oldest {
        wrong.unproven.push(format!("the proof of {name} has expired: it is {age} old, and {oldest} is allowed"));
    } else if judgement.valid_until.is_none_or(|until| until < now) {
        wrong.unproven.push(format!("the proof of {name} has expired: it is {age} old, and was given for less"));
    }
    // The objectives may have been tightened since it ran.
    let demanded = &policy.objectives;
    if let Some(rpa) = judgement.rpa.filter(|rpa| *rpa > demanded.rpo) {
        wrong.failed.push(format!("RPO missed: the drill {name} measured {rpa}, and {} is allowed now", demanded.rpo));
    }
    if let Some(rta) = judgement.rta.filter(|rta| *rta > demanded.rto) {
        wrong.failed.push(format!("RTO missed: the drill {name} measured {rta}, and {} is allowed now", demanded.rto));
    }
}

/// The newest run of each backup job, of each drill, and of verification, where it left nothing else behind.
fn last_runs(policy: &Policy, runs: &[Run], drilled: &[&DrillSummary], now: Timestamp, wrong: &mut Wrong) {
    let ended = |run: &&Run| matches!(run.state, RunState::Ended(_) | RunState::Abandoned(_) | RunState::Missed(_));
    let mut seen: Vec<&Work> = Vec::new();
    for run in runs.iter().filter(ended) {
        if seen.contains(&&run.work) {
            continue;
        }
        seen.push(&run.work);
        let declared = match &run.work {
            Work::Backup { job } => policy.backups.iter().any(|declared| &declared.name == job),
            Work::Drill { drill } => policy.drills.iter().any(|declared| &declared.drill == drill),
            Work::Verify | Work::ReadBack => true,
            Work::Copy => policy.backups.iter().any(|declared| !declared.copies.is_empty()),
            // A restore that did not work is the business of who made it; the drills say whether the backup is good.
            Work::Restore => false,
            // What it could not delete is still there.
            Work::Prune => false,
            // What it found is an alarm of its own.
            Work::Drift => false,
            // What it sought is the business of who asked.
            Work::Find { .. } => false,
            // A test of a drill says something about the drill, and nothing about the backups.
            Work::Mutate { .. } => false,
        };
        // A drill that left a transcript is judged by that.
        if !declared || drilled.iter().any(|summary| summary.run == run.id) {
            continue;
        }
        let title = run.work.title();
        let age = Span::between(run.ended_at.unwrap_or(run.planned_at), now);
        match &run.state {
            RunState::Ended(RunOutcome::Broke { error, .. }) => {
                wrong.unproven.push(format!("the last {title} broke {age} ago: {error}"));
            }
            RunState::Abandoned(why) => wrong.unproven.push(format!("the last {title} never ended: {why}")),
            RunState::Missed(why) => wrong.unproven.push(format!("the last {title} was missed: {why}")),
            RunState::Ended(RunOutcome::Found(findings)) if *findings > 0 => {
                let noun = if *findings == 1 { "finding" } else { "findings" };
                wrong.failed.push(format!("the last {title} had {findings} {noun} {age} ago"));
            }
            RunState::Ended(RunOutcome::Judged(Verdict::Failed)) => {
                wrong.failed.push(format!("the last {title} failed {age} ago"));
            }
            RunState::Ended(RunOutcome::Judged(Verdict::Unproven)) => {
                wrong.unproven.push(format!("the last {title} proved nothing {age} ago"));
            }
            RunState::Ended(RunOutcome::Succeeded | RunOutcome::Found(_) | RunOutcome::Judged(Verdict::Proven))
            | RunState::Planned
            | RunState::Running { .. } => {}
        }
    }
}

#[cfg(test)]
#[path = "freshness_tests.rs"]
mod tests;
