//! What a drill proved: recovery point, recovery time, verdict.
//!
//! Two lists are kept apart until the end: what was *seen to be wrong* (failed) and what was *not seen to work*
//! (unproven). Failed beats unproven, unproven beats proven, and `proven` is what is left when both lists are empty.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::domain::check::{CheckName, CheckResult, Finding, Outcome, Unchecked};
use crate::domain::drill::{IsolationDemand, Step};
use crate::domain::heartbeat::Beat;
use crate::domain::observed::Observed;
use crate::domain::transcript::{
    BackupUsed, Ended, Judgement, Phase, StepRecord, TRANSCRIPT_SCHEMA, Transcript, Verdict,
};
use crate::domain::units::Span;

/// What speaks against a drill.
#[derive(Default)]
struct Against {
    /// Seen to be wrong.
    failed: Vec<String>,
    /// Not seen to work.
    unproven: Vec<String>,
}

/// Judges a finished drill from its transcript (whose own `judgement` is ignored).
pub fn judge(transcript: &Transcript) -> Judgement {
    let mut against = Against::default();
    let phases = phases(transcript);
    let rta = recovery_time(transcript, &phases);
    let rpa = recovery_point(transcript, &mut against);
    whole(transcript, &mut against);
    steps(transcript, &mut against);
    checks(transcript, &mut against);
    signature(transcript, &mut against);
    scratch(transcript, &mut against);
    objectives(transcript, rpa, rta, &mut against);

    let verdict = match (against.failed.is_empty(), against.unproven.is_empty()) {
        (false, _) => Verdict::Failed,
        (true, false) => Verdict::Unproven,
        (true, true) => Verdict::Proven,
    };
    let mut reasons = against.failed;
    reasons.append(&mut against.unproven);
    if verdict == Verdict::Proven {
        reasons.extend(proofs(transcript, rpa, rta));
    }
    reasons.extend(remarks(transcript));
    // A proof that is none has no date until which it holds.
    let valid_until = (verdict == Verdict::Proven)
        .then(|| transcript.finished_at.checked_add(transcript.objectives.proof_max_age.0).ok())
        .flatten();
    Judgement { verdict, reasons, rpa, rta, phases, valid_until }
}

/// The phase that a record counts to. Required checks and the wait for readiness count even if nobody said so: a recovery
/// time must never come out too short.
fn phase(record: &StepRecord) -> Option<Phase> {
    record.phase.or(match &record.step {
        Step::Check(check) if check.required => Some(Phase::Checks),
        Step::AwaitReady(_) => Some(Phase::Ready),
        Step::Provision | Step::Restore(_) | Step::Check(_) | Step::Sabotage(_) | Step::Destroy => None,
    })
}

fn phases(transcript: &Transcript) -> Vec<(Phase, Span)> {
    let mut sums: BTreeMap<Phase, Span> = BTreeMap::new();
    for record in &transcript.steps {
        if let Some(phase) = phase(record) {
            let sum = sums.entry(phase).or_default();
            *sum = sum.saturating_add(record.took);
        }
    }
    sums.into_iter().collect()
}

/// Phases and declared allowances; nothing while the clock had not stopped: a step that counts did not end well, or a
/// required check did not pass.
fn recovery_time(transcript: &Transcript, phases: &[(Phase, Span)]) -> Option<Span> {
    let done = transcript.steps.iter().filter(|record| phase(record).is_some()).all(|r| r.ended == Ended::Done);
    let restored = phases.iter().any(|(phase, _)| *phase == Phase::Restore);
    let required: Vec<&CheckResult> =
        with_demand(transcript).filter(|(_, required)| *required).map(|(c, _)| c).collect();
    let stopped = done && restored && !required.is_empty() && required.iter().all(|check| has_passed(check));
    let begun = missing_steps(transcript).is_empty() && missing_checks(transcript).is_empty();
    (stopped && begun).then(|| {
        let measured: Span = phases.iter().map(|(_, took)| *took).sum();
        measured.saturating_add(transcript.objectives.allowances.iter().map(|(_, span)| *span).sum())
    })
}

/// The loss less the recovery point, if the backup can have been there when the loss happened.
fn recovery_point(transcript: &Transcript, against: &mut Against) -> Option<Span> {
    let backup = transcript.backup.as_ref()?;
    // The log goes on from the backup: what it brings back is never older.
    let replayed = transcript.log.as_ref().and_then(|log| log.last_commit);
    let beat = newest_beat(transcript).map(|beat| beat.committed_at);
    let recovered = backup.recovery_point.max(replayed.unwrap_or(Timestamp::MIN)).max(beat.unwrap_or(Timestamp::MIN));
    let rpa = Span::between(recovered, transcript.lost_at);
    if rpa < Span::ZERO {
        against.unproven.push(format!(
            "the recovery point lies {} after the loss, so the loss of data cannot be measured",
            Span(rpa.0.abs())
        ));
        return None;
    }
    if backup.finished_at > transcript.lost_at {
        let late = Span::between(transcript.lost_at, backup.finished_at);
        against
            .unproven
            .push(format!("the backup was complete only {late} after the loss: what comes late does not count"));
        return None;
    }
    let tolerated = Span(transcript.objectives.rpo.0 / 10);
    match &transcript.clock_skew {
        Observed::Known(skew) if Span(skew.0.abs()) > tolerated => against.unproven.push(format!(
            "the clocks of runner and source were {} apart, more than a tenth of the RPO ({tolerated}), so the recovery point is uncertain",
            Span(skew.0.abs())
        )),
        Observed::Known(_) => {}
        Observed::Absent => against.unproven.push(
            "the clocks of runner and source were not compared, so the recovery point is uncertain".to_owned(),
        ),
        Observed::Unknown(why) => against.unproven.push(format!(
            "how far the clocks of runner and source were apart is not known ({why}), so the recovery point is uncertain"
        )),
    }
    Some(rpa)
}

/// The newest heartbeat that is there and was checked.
pub fn newest_beat(transcript: &Transcript) -> Option<Beat> {
    transcript
        .checks
        .iter()
        .filter(|check| check.name == CheckName::Heartbeat && has_passed(check))
        .find_map(|check| check.beat)
}

/// How the recovery point is known, in a few words.
pub fn how_known(transcript: &Transcript) -> String {
    let replayed = transcript.log.as_ref().and_then(|log| log.last_commit);
    match (newest_beat(transcript), replayed) {
        (Some(beat), _) => format!("measured: heartbeat {}, committed {}", beat.seq, beat.committed_at),
        (None, Some(commit)) => {
            format!("at most: the last transaction that came back was of {commit}, and no heartbeat was checked")
        }
        (None, None) => "by the recovery point of the backup alone".to_owned(),
    }
}

/// Whether the transcript is that of a drill that could prove something.
fn whole(transcript: &Transcript, against: &mut Against) {
    let unproven = &mut against.unproven;
    if transcript.schema != TRANSCRIPT_SCHEMA {
        unproven
            .push(format!("the transcript is written as `{}`, which this version does not know", transcript.schema));
    }
    if transcript.backup.is_none() {
        unproven.push("no backup was brought back".to_owned());
    }
    if !transcript.drill.steps.iter().any(|step| matches!(step, Step::Restore(_))) {
        unproven.push("the drill has no step that restores anything".to_owned());
    }
    if transcript.drill.steps.iter().chain(transcript.steps.iter().map(|record| &record.step)).any(is_sabotage) {
        unproven.push(
            "the drill breaks its scratch on purpose: it tests the checks, and proves nothing about the backup"
                .to_owned(),
        );
    }
}

fn is_sabotage(step: &Step) -> bool {
    matches!(step, Step::Sabotage(_))
}

fn steps(transcript: &Transcript, against: &mut Against) {
    let mut skipped = 0;
    for record in &transcript.steps {
        // What came of a check is judged by its result. The step itself breaks only when the drill was cut in it.
        let cut = matches!(record.ended, Ended::Broke { .. });
        let optional = matches!(&record.step, Step::Check(check) if !check.required) && !cut;
        if optional
            || (matches!(record.step, Step::Check(_)) && check_of(transcript, record).is_some_and(|c| !has_passed(c)))
        {
            continue;
        }
        let title = title(record);
        match &record.ended {
            Ended::Done => {}
            Ended::Found(findings) => {
                against.failed.push(format!("{title}: the backup is bad: {}", first_of(findings)));
            }
            Ended::Broke { error, .. } => against.unproven.push(format!("{title} could not be done: {error}")),
            Ended::Skipped => skipped += 1,
        }
    }
    for step in missing_steps(transcript) {
        against.unproven.push(format!("{} was not begun", step_title(step)));
    }
    if skipped > 0 {
        against
            .unproven
            .push(format!("{} skipped, because an earlier step ended badly", count(skipped, "step was", "steps were")));
    }
}

fn check_of<'a>(transcript: &'a Transcript, record: &StepRecord) -> Option<&'a CheckResult> {
    let Step::Check(check) = &record.step else { return None };
    transcript.checks.iter().find(|result| result.name == check.name && !has_passed(result))
}

/// Steps of the drill that have fewer records than they should.
fn missing_steps(transcript: &Transcript) -> Vec<&Step> {
    let planned = &transcript.drill.steps;
    let mut missing = Vec::new();
    for (index, step) in planned.iter().enumerate() {
        let until_here = planned[..=index].iter().filter(|other| *other == step).count();
        let begun = match step {
            // Two records make one restore.
            Step::Restore(_) => {
                let of = |r: &&StepRecord| r.step == *step && r.phase != Some(Phase::Start);
                transcript.steps.iter().filter(of).count()
            }
            _ => transcript.steps.iter().filter(|record| record.step == *step).count(),
        };
        if begun < until_here {
            missing.push(step);
        }
    }
    missing
}

/// Each result, and whether the verdict depends on it: because it says so itself, or because the drill does.
fn with_demand(transcript: &Transcript) -> impl Iterator<Item = (&CheckResult, bool)> {
    let mut seen: BTreeMap<CheckName, usize> = BTreeMap::new();
    transcript.checks.iter().map(move |result| {
        let nth = seen.entry(result.name).or_default();
        let demanded = planned_checks(transcript).filter(|(name, _)| *name == result.name).nth(*nth);
        *nth += 1;
        (result, result.required || demanded.is_some_and(|(_, required)| required))
    })
}

fn planned_checks(transcript: &Transcript) -> impl Iterator<Item = (CheckName, bool)> + '_ {
    transcript.drill.steps.iter().filter_map(|step| match step {
        Step::Check(check) => Some((check.name, check.required)),
        Step::Provision | Step::Restore(_) | Step::AwaitReady(_) | Step::Sabotage(_) | Step::Destroy => None,
    })
}

/// Checks of the drill that have no result at all.
fn missing_checks(transcript: &Transcript) -> Vec<CheckName> {
    let mut missing = Vec::new();
    for name in CheckName::ALL {
        let planned = planned_checks(transcript).filter(|(other, _)| *other == name).count();
        let made = transcript.checks.iter().filter(|result| result.name == name).count();
        if made < planned {
            missing.push(name);
        }
    }
    missing
}

/// A check that looked at nothing has not passed, whatever it says.
fn has_passed(check: &CheckResult) -> bool {
    check.outcome == Outcome::Passed && check.looked_at.iter().any(|measure| measure.count > 0)
}

fn checks(transcript: &Transcript, against: &mut Against) {
    let mut passed = false;
    for (check, _) in with_demand(transcript).filter(|(_, required)| *required) {
        let name = called(check);
        match &check.outcome {
            Outcome::Passed if has_passed(check) => {
                passed = true;
                against.unproven.extend(unseen(check));
            }
            Outcome::Passed => against.unproven.push(format!("check {name} looked at nothing")),
            Outcome::Failed(findings) => against.failed.push(format!("check {name} failed: {}", first_of(findings))),
            Outcome::Broke { error, .. } => against.unproven.push(format!("check {name} broke: {error}")),
            Outcome::Unchecked(why) => against.unproven.push(format!("check {name} was not made: {why}")),
        }
    }
    for name in missing_checks(transcript) {
        against.unproven.push(format!("check {name} has no result"));
    }
    if transcript.checks.is_empty() {
        against.unproven.push("no check was made".to_owned());
    } else if !passed {
        against.unproven.push("no check that the drill requires passed".to_owned());
    }
}

/// What a check that passed was meant to look at and could not see.
fn unseen(check: &CheckResult) -> Option<String> {
    let grave: Vec<&Unchecked> = check.unchecked.iter().filter(|one| one.grave).collect();
    let first = grave.first()?;
    let more = match grave.len() {
        1 => String::new(),
        all => format!(" (and {} more)", all - 1),
    };
    Some(format!("check {} could not see all that it must: {}: {}{more}", called(check), first.object, first.why))
}

/// What was in the backup and could not be compared because the source changed it while the backup was taken.
fn moved(transcript: &Transcript) -> Option<String> {
    let contents = transcript.checks.iter().filter(|check| check.name == CheckName::Content);
    let moved: BTreeSet<&str> = contents
        .flat_map(|check| &check.unchecked)
        .filter(|one| one.meanwhile)
        .map(|one| one.object.as_str())
        .collect();
    let mut what = Vec::new();
    for (kind, one, many) in [("table ", "table", "tables"), ("database ", "database", "databases")] {
        let found = moved.iter().filter(|object| object.starts_with(kind)).count();
        if found > 0 {
            what.push(count(found, one, many));
        }
    }
    if moved.iter().any(|object| object.starts_with("large objects")) {
        what.push("large objects".to_owned());
    }
    (!what.is_empty()).then(|| {
        let what = what.join(" and ");
        format!("not compared, because the source changed them while the backup was taken: {what}")
    })
}

fn signature(transcript: &Transcript, against: &mut Against) {
    let Some(BackupUsed { signed_by, signer_trusted, .. }) = &transcript.backup else { return };
    match signed_by {
        Observed::Known(_) if *signer_trusted => {}
        Observed::Known(key) => {
            against.failed.push(format!("the backup is signed by a key that is not trusted ({key}): it may be forged"));
        }
        Observed::Absent => against.unproven.push("the backup is not signed, so nobody knows who made it".to_owned()),
        Observed::Unknown(why) => {
            against.unproven.push(format!("the backup's signature is not known to be right: {why}"))
        }
    }
}

fn scratch(transcript: &Transcript, against: &mut Against) {
    let Some(scratch) = &transcript.scratch else {
        against.unproven.push("no scratch was made to restore into".to_owned());
        return;
    };
    let apart = scratch.isolation.network && scratch.isolation.files;
    if transcript.drill.scratch.isolation == IsolationDemand::Required && !apart {
        let missing = "the drill demands a scratch without network and without the machine's files, and it was not had";
        against.unproven.push(missing.to_owned());
    }
    if scratch.destroyed_at.is_none() {
        against
            .unproven
            .push(format!("the scratch {} was not destroyed: it still holds a copy of the data", scratch.name));
    }
}

fn objectives(transcript: &Transcript, rpa: Option<Span>, rta: Option<Span>, against: &mut Against) {
    let demanded = &transcript.objectives;
    if let Some(rpa) = rpa.filter(|rpa| *rpa > demanded.rpo) {
        against.failed.push(format!("RPO missed: {rpa} of data would be lost, and {} is allowed", demanded.rpo));
    }
    match rta {
        Some(rta) if rta > demanded.rto => {
            against.failed.push(format!("RTO missed: recovery takes {rta}, and {} is allowed", demanded.rto));
        }
        Some(_) => {}
        None => against.unproven.push("the recovery time is not known: its clock had not stopped".to_owned()),
    }
    if rpa.is_none() {
        against.unproven.push("the recovery point is not known".to_owned());
    }
}

/// What a proven drill proved.
fn proofs(transcript: &Transcript, rpa: Option<Span>, rta: Option<Span>) -> Vec<String> {
    let mut reasons = Vec::new();
    if let Some(backup) = &transcript.backup {
        let restore: Span =
            transcript.steps.iter().filter(|r| phase(r) == Some(Phase::Restore)).map(|record| record.took).sum();
        reasons.push(format!("restored {} in {restore}, from {}", backup.plain_bytes, backup.id));
    }
    let looked: Vec<String> = transcript
        .checks
        .iter()
        .filter(|check| has_passed(check))
        .flat_map(|check| &check.looked_at)
        .map(ToString::to_string)
        .collect();
    let passed = transcript.checks.iter().filter(|check| has_passed(check)).count();
    reasons.push(format!("{} passed; they looked at {}", count(passed, "check", "checks"), looked.join(", ")));
    reasons.extend(moved(transcript));
    if let Some(rpa) = rpa {
        let how = match (newest_beat(transcript), &transcript.log) {
            (None, None) => String::new(),
            _ => format!(" ({})", how_known(transcript)),
        };
        reasons.push(format!("{rpa} of data would have been lost{how}; {} is allowed", transcript.objectives.rpo));
    }
    if let Some(rta) = rta {
        let declared: Span = transcript.objectives.allowances.iter().map(|(_, span)| *span).sum();
        reasons.push(format!(
            "recovery takes {rta} ({} measured, {declared} declared); {} is allowed",
            Span(rta.0.saturating_sub(declared.0)),
            transcript.objectives.rto
        ));
    }
    reasons
}

/// What does not decide, but must not be passed over.
fn remarks(transcript: &Transcript) -> Vec<String> {
    with_demand(transcript)
        .filter(|(check, required)| !required && !has_passed(check))
        .map(|(check, _)| format!("not required, and {}: check {}", check.outcome.word(), called(check)))
        .collect()
}

fn called(check: &CheckResult) -> String {
    if check.title == check.name.as_str() || check.title.is_empty() {
        check.name.to_string()
    } else {
        format!("{} ({})", check.name, check.title)
    }
}

fn first_of(findings: &[Finding]) -> String {
    match findings {
        [] => "it does not say what".to_owned(),
        [only] => format!("{}: {}", only.object, only.message),
        [first, rest @ ..] => {
            format!("{}: {} (and {})", first.object, first.message, count(rest.len(), "more finding", "more findings"))
        }
    }
}

fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

fn title(record: &StepRecord) -> String {
    match (&record.step, record.phase) {
        (Step::Restore(_), Some(Phase::Start)) => "starting the restored server".to_owned(),
        (step, _) => step_title(step),
    }
}

/// What a step does, as the subject of a sentence.
fn step_title(step: &Step) -> String {
    match step {
        Step::Provision => "making the scratch".to_owned(),
        Step::Restore(_) => "the restore".to_owned(),
        Step::AwaitReady(_) => "waiting for the first useful query".to_owned(),
        Step::Check(check) => format!("check {}", check.name),
        Step::Sabotage(_) => "breaking the scratch".to_owned(),
        Step::Destroy => "destroying the scratch".to_owned(),
    }
}

#[cfg(test)]
#[path = "drill_tests.rs"]
mod tests;
