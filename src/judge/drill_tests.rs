//! Tables and properties of the judge: one good drill, and every way that we know to make it worse.

use proptest::prelude::*;

use super::judge;
use crate::domain::check::{CheckName, Finding, Measure, Outcome, Unchecked};
use crate::domain::drill::{IsolationDemand, Sabotage, Step};
use crate::domain::observed::Observed;
use crate::domain::sample::{self, at};
use crate::domain::transcript::{Ended, Phase, Transcript, Verdict};
use crate::domain::units::Span;

type Spoil = fn(&mut Transcript);

fn findings() -> Vec<Finding> {
    vec![Finding::new("table_missing", "table public.orders", "it is not there")]
}

fn broke() -> Ended {
    Ended::Broke { error: "no space left".to_owned(), hint: None }
}

fn step(transcript: &mut Transcript, phase: Phase) -> &mut Ended {
    &mut transcript.steps.iter_mut().find(|record| record.phase == Some(phase)).unwrap().ended
}

fn backup(transcript: &mut Transcript) -> &mut crate::domain::transcript::BackupUsed {
    transcript.backup.as_mut().unwrap()
}

/// What makes a good drill worse, what it must come to, and a piece of the first reason.
const WORSE: &[(&str, Verdict, &str, Spoil)] = &[
    ("a required check failed", Verdict::Failed, "check content failed: table public.orders", |t| {
        t.checks[4].outcome = Outcome::Failed(findings());
    }),
    ("a failed check without findings", Verdict::Failed, "check manifest failed", |t| {
        t.checks[0].outcome = Outcome::Failed(Vec::new());
    }),
    ("the restore found the backup bad", Verdict::Failed, "the restore: the backup is bad", |t| {
        *step(t, Phase::Restore) = Ended::Found(findings());
    }),
    ("the start found the backup bad", Verdict::Failed, "starting the restored server: the backup is bad", |t| {
        *step(t, Phase::Start) = Ended::Found(findings());
    }),
    ("RPO missed", Verdict::Failed, "RPO missed: 1h 59m of data would be lost, and 1h is allowed", |t| {
        t.objectives.rpo = Span::from_secs(3_600);
    }),
    ("RTO missed", Verdict::Failed, "RTO missed: recovery takes 12m 23s, and 12m is allowed", |t| {
        t.objectives.rto = Span::from_secs(720);
    }),
    ("an untrusted signer", Verdict::Failed, "not trusted", |t| backup(t).signer_trusted = false),
    ("no signature", Verdict::Unproven, "not signed", |t| backup(t).signed_by = Observed::Absent),
    ("a signature that nobody could verify", Verdict::Unproven, "bad base64", |t| {
        backup(t).signed_by = Observed::Unknown("bad base64".to_owned());
    }),
    ("a required check broke", Verdict::Unproven, "check amcheck broke: timeout", |t| {
        t.checks[2].outcome = Outcome::Broke { error: "timeout".to_owned(), hint: None };
    }),
    (
        "a required check was not made",
        Verdict::Unproven,
        "check page_checksums was not made: the source has none",
        |t| {
            t.checks[1].outcome = Outcome::Unchecked("the source has none".to_owned());
        },
    ),
    ("a check that looked at nothing", Verdict::Unproven, "check content looked at nothing", |t| {
        t.checks[4].looked_at.clear();
    }),
    ("a check that looked at zero tables", Verdict::Unproven, "check content looked at nothing", |t| {
        t.checks[4].looked_at = vec![Measure::new(0, "tables")];
    }),
    ("most tables could not be read", Verdict::Unproven, "public.a: permission denied (and 1 more)", |t| {
        t.checks[4].unchecked.push(Unchecked::inherent("part of table public.b", "sampled"));
        for table in ["table public.a", "table public.c"] {
            t.checks[4].unchecked.push(Unchecked::grave(table, "permission denied"));
        }
    }),
    ("a result that calls itself optional", Verdict::Failed, "check content failed", |t| {
        t.checks[4].required = false;
        t.checks[4].outcome = Outcome::Failed(findings());
    }),
    ("a result is missing", Verdict::Unproven, "check content has no result", |t| {
        t.checks.remove(4);
    }),
    ("no checks", Verdict::Unproven, "no check was made", |t| {
        t.checks.clear();
        t.drill.steps.retain(|step| !matches!(step, Step::Check(_)));
        t.steps.retain(|record| !matches!(record.step, Step::Check(_)));
    }),
    ("optional checks only", Verdict::Unproven, "no check that the drill requires passed", |t| {
        t.checks.iter_mut().for_each(|check| check.required = false);
        let records = t.steps.iter_mut().map(|record| &mut record.step);
        for step in t.drill.steps.iter_mut().chain(records) {
            if let Step::Check(check) = step {
                check.required = false;
            }
        }
    }),
    ("the restore broke", Verdict::Unproven, "the restore could not be done: no space left", |t| {
        *step(t, Phase::Restore) = broke();
    }),
    ("never ready", Verdict::Unproven, "waiting for the first useful query could not be done", |t| {
        *step(t, Phase::Ready) = broke();
    }),
    ("a check's step broke though its result is good", Verdict::Unproven, "check manifest could not be done", |t| {
        *step(t, Phase::Checks) = broke();
    }),
    ("the drill was cut in a check that it could do without", Verdict::Unproven, "could not be done", |t| {
        let record = t.steps.iter_mut().rev().find(|record| matches!(record.step, Step::Check(_))).unwrap();
        if let Step::Check(check) = &mut record.step {
            check.required = false;
        }
        record.ended = broke();
    }),
    ("a step was skipped", Verdict::Unproven, "1 step was skipped", |t| *step(t, Phase::Ready) = Ended::Skipped),
    ("a step was never begun", Verdict::Unproven, "waiting for the first useful query was not begun", |t| {
        t.steps.retain(|record| record.phase != Some(Phase::Ready));
    }),
    ("the restore was never begun, only the start", Verdict::Unproven, "the restore was not begun", |t| {
        t.steps.retain(|record| record.phase != Some(Phase::Restore));
    }),
    ("no restore in the drill", Verdict::Unproven, "restores anything", |t| {
        t.drill.steps.retain(|step| !matches!(step, Step::Restore(_)));
        t.steps.retain(|record| !matches!(record.step, Step::Restore(_)));
    }),
    ("sabotage in the drill", Verdict::Unproven, "on purpose", |t| {
        let step = Step::Sabotage(Sabotage { sql: "drop table orders".to_owned(), database: None });
        t.steps.push(crate::domain::transcript::StepRecord { step: step.clone(), phase: None, ..t.steps[0].clone() });
        t.drill.steps.push(step);
    }),
    ("isolation demanded and not had", Verdict::Unproven, "without network", |t| {
        t.scratch.as_mut().unwrap().isolation.network = false;
    }),
    ("the machine's files not hidden", Verdict::Unproven, "files", |t| {
        t.scratch.as_mut().unwrap().isolation.files = false;
    }),
    ("the scratch is still there", Verdict::Unproven, "not destroyed", |t| {
        t.scratch.as_mut().unwrap().destroyed_at = None;
    }),
    ("destroying broke", Verdict::Unproven, "destroying the scratch could not be done", |t| {
        t.steps.last_mut().unwrap().ended = broke();
    }),
    ("no scratch", Verdict::Unproven, "no scratch", |t| t.scratch = None),
    ("no backup", Verdict::Unproven, "no backup", |t| t.backup = None),
    ("clocks apart", Verdict::Unproven, "the clocks of runner and source were 3h apart", |t| {
        t.clock_skew = Observed::Known(Span::from_secs(-10_800));
    }),
    ("clocks not compared", Verdict::Unproven, "not compared", |t| t.clock_skew = Observed::Absent),
    ("clocks unknown", Verdict::Unproven, "no answer", |t| t.clock_skew = Observed::Unknown("no answer".to_owned())),
    ("a recovery point after the loss", Verdict::Unproven, "38s after the loss", |t| {
        t.lost_at = backup(t).started_at;
    }),
    ("a backup that was complete after the loss", Verdict::Unproven, "only 1.5s after the loss", |t| {
        backup(t).finished_at = t.lost_at + Span::from_millis(1_500).0;
    }),
    ("a schema of the future", Verdict::Unproven, "lifeboat.transcript/9", |t| {
        t.schema = "lifeboat.transcript/9".to_owned();
    }),
];

#[test]
fn a_drill_in_which_everything_was_seen_to_work_is_proven() {
    let judgement = judge(&sample::physical());
    assert_eq!(judgement.verdict, Verdict::Proven, "{:?}", judgement.reasons);
    assert_eq!(judgement.rpa, Some(Span::from_secs(2 * 3_600 - 38)));
    // 120 + 14300 + 2100 + 40 measured, six required checks of 1200, and twelve minutes declared; not the optional check,
    // not the clean-up.
    assert_eq!(judgement.rta, Some(Span::from_millis(16_560 + 6 * 1_200 + 720_000)));
    assert_eq!(judgement.phases.len(), 5);
    assert_eq!(judgement.phases[1], (Phase::Restore, Span::from_millis(14_300)));
    assert_eq!(judgement.valid_until, Some(at("2026-11-27T05:00:26Z")));
    assert_eq!(judgement.reasons[0], "restored 1.2 GiB in 14s, from 20261120T030000Z-0000000c");
    assert!(judgement.reasons[1].contains("41 tables"), "{:?}", judgement.reasons);
}

#[test]
fn each_way_to_be_worse_is_seen_and_named() {
    for (what, verdict, reason, spoil) in WORSE {
        let mut transcript = sample::physical();
        spoil(&mut transcript);
        let judgement = judge(&transcript);
        assert_eq!(judgement.verdict, *verdict, "{what}: {:?}", judgement.reasons);
        assert!(judgement.reasons.iter().any(|r| r.contains(reason)), "{what}: {:?}", judgement.reasons);
        assert_eq!(judgement.valid_until, None, "{what}: there is no proof that could grow old");
    }
}

#[test]
fn there_is_no_recovery_time_while_the_clock_runs() {
    let failed: Spoil = |t| t.checks[4].outcome = Outcome::Failed(findings());
    let cold: Spoil = |t| *step(t, Phase::Start) = broke();
    let gone: Spoil = |t| {
        t.checks.pop();
        t.checks.pop();
    };
    for spoil in [failed, cold, gone] {
        let mut transcript = sample::physical();
        spoil(&mut transcript);
        assert_eq!(judge(&transcript).rta, None);
    }
}

#[test]
fn an_optional_check_is_reported_and_decides_nothing() {
    let mut transcript = sample::physical();
    let last = transcript.checks.last_mut().unwrap();
    assert_eq!(last.name, CheckName::Settings);
    last.outcome = Outcome::Failed(findings());
    let judgement = judge(&transcript);
    assert_eq!(judgement.verdict, Verdict::Proven);
    assert!(judgement.reasons.last().unwrap().contains("not required, and failed: check settings"));
}

#[test]
fn what_cannot_be_seen_by_its_nature_is_no_reason_and_what_moved_is_counted() {
    let mut transcript = sample::physical();
    let unchecked = &mut transcript.checks[4].unchecked;
    unchecked.push(Unchecked::inherent("table public.far", "foreign: its rows are on another server"));
    for object in ["table public.hot", "table public.hotter", "large objects"] {
        unchecked.push(Unchecked::meanwhile(object, "changed while it was being backed up"));
    }
    let optional = transcript.checks.last_mut().unwrap();
    optional.unchecked.push(Unchecked::grave("settings", "permission denied"));
    let judgement = judge(&transcript);
    assert_eq!(judgement.verdict, Verdict::Proven, "{:?}", judgement.reasons);
    assert!(judgement.reasons.iter().any(|r| r.ends_with(": 2 tables and large objects")), "{:?}", judgement.reasons);
}

#[test]
fn old_transcripts_have_no_grave_doubts() {
    let old: Unchecked = serde_json::from_str(r#"{"object":"index a","why":"gin"}"#).unwrap();
    assert_eq!(old, Unchecked::inherent("index a", "gin"));
}

#[test]
fn a_required_check_counts_even_when_its_record_does_not_say_so() {
    let mut transcript = sample::physical();
    let honest = judge(&transcript).rta;
    transcript.steps.iter_mut().filter(|r| r.phase == Some(Phase::Checks)).for_each(|record| record.phase = None);
    assert_eq!(judge(&transcript).rta, honest);
}

#[test]
fn an_objective_met_to_the_millisecond_is_met() {
    let mut transcript = sample::physical();
    let judgement = judge(&transcript);
    transcript.objectives.rpo = judgement.rpa.unwrap();
    transcript.objectives.rto = judgement.rta.unwrap();
    assert_eq!(judge(&transcript).verdict, Verdict::Proven);
    transcript.objectives.rto = Span::from_millis(judgement.rta.unwrap().0.as_millis() as i64 - 1);
    assert_eq!(judge(&transcript).verdict, Verdict::Failed);
}

#[test]
fn where_isolation_is_only_preferred_its_lack_is_no_reason() {
    let mut transcript = sample::physical();
    transcript.drill.scratch.isolation = IsolationDemand::Preferred;
    transcript.scratch.as_mut().unwrap().isolation.network = false;
    assert_eq!(judge(&transcript).verdict, Verdict::Proven);
}

#[test]
fn the_samples_are_what_they_are_called() {
    assert_eq!(judge(&sample::logical_with_findings()).verdict, Verdict::Failed);
    assert_eq!(judge(&sample::broken_start()).verdict, Verdict::Unproven);
}

#[test]
fn failed_beats_unproven_whatever_else_is_wrong() {
    for (what, _, _, spoil) in WORSE {
        let mut transcript = sample::physical();
        spoil(&mut transcript);
        let Some(check) = transcript.checks.first_mut() else { continue };
        check.required = true;
        check.outcome = Outcome::Failed(findings());
        let judgement = judge(&transcript);
        assert_eq!(judgement.verdict, Verdict::Failed, "{what}: {:?}", judgement.reasons);
    }
}

#[test]
fn bounds_belong_to_what_they_bound() {
    let mut transcript = sample::physical();
    // Nothing was lost, and the last part was durable in the very moment of the loss.
    transcript.lost_at = backup(&mut transcript).recovery_point;
    backup(&mut transcript).finished_at = transcript.lost_at;
    let judgement = judge(&transcript);
    assert_eq!((judgement.verdict, judgement.rpa), (Verdict::Proven, Some(Span::ZERO)), "{:?}", judgement.reasons);
    // Clocks apart by a tenth of the objective, to the second.
    let mut transcript = sample::physical();
    transcript.objectives.rpo = Span::from_secs(86_400);
    for (skew, verdict) in [(8_640, Verdict::Proven), (-8_640, Verdict::Proven), (8_641, Verdict::Unproven)] {
        transcript.clock_skew = Observed::Known(Span::from_secs(skew));
        assert_eq!(judge(&transcript).verdict, verdict, "{skew}");
    }
}

#[test]
fn a_restore_that_nobody_timed_has_no_recovery_time() {
    let mut transcript = sample::physical();
    transcript.steps.iter_mut().filter(|r| r.phase == Some(Phase::Restore)).for_each(|record| record.phase = None);
    assert_eq!(judge(&transcript).rta, None);
}

#[test]
fn a_check_that_did_not_pass_is_blamed_once_and_hides_no_other() {
    let mut transcript = sample::physical();
    transcript.checks[4].outcome = Outcome::Failed(findings());
    let of_checks = transcript.steps.iter_mut().filter(|record| matches!(record.step, Step::Check(_)));
    of_checks.for_each(|record| record.ended = broke());
    let behind = format!("check {} could not be done", transcript.checks.last().unwrap().name);
    let reasons = judge(&transcript).reasons;
    assert!(reasons.iter().any(|reason| reason.contains(&behind)), "{behind}: {reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("check content failed")), "{reasons:?}");
    assert!(!reasons.iter().any(|reason| reason.contains("check content could not be done")), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("check manifest could not be done")), "{reasons:?}");
}

#[test]
fn of_two_checks_of_one_name_each_has_its_own_demand() {
    for (first_required, second_required) in [(false, true), (true, false)] {
        let mut transcript = sample::physical();
        let at = transcript
            .drill
            .steps
            .iter()
            .position(|step| matches!(step, Step::Check(check) if check.name == CheckName::Content));
        let at = at.unwrap();
        let mut steps = [transcript.drill.steps[at].clone(), transcript.drill.steps[at].clone()];
        for (step, required) in steps.iter_mut().zip([first_required, second_required]) {
            if let Step::Check(check) = step {
                check.required = required;
            }
        }
        let record = transcript.steps.iter().position(|record| record.step == transcript.drill.steps[at]).unwrap();
        let mut second = transcript.steps[record].clone();
        second.step = steps[1].clone();
        transcript.steps[record].step = steps[0].clone();
        transcript.steps.insert(record + 1, second);
        transcript.drill.steps.splice(at..=at, steps);
        let mut result = transcript.checks[4].clone();
        result.required = false;
        transcript.checks[4].required = false;
        result.outcome = Outcome::Failed(findings());
        transcript.checks.insert(5, result);
        let verdict = if second_required { Verdict::Failed } else { Verdict::Proven };
        let judgement = judge(&transcript);
        assert_eq!(judgement.verdict, verdict, "{first_required} {second_required}: {:?}", judgement.reasons);
    }
}

#[test]
fn a_proven_drill_remarks_only_on_what_did_not_pass() {
    let mut transcript = sample::physical();
    let judgement = judge(&transcript);
    assert!(!judgement.reasons.iter().any(|reason| reason.starts_with("not required")), "{:?}", judgement.reasons);
    // A required check that failed is a reason of its own, not a remark.
    transcript.checks[4].outcome = Outcome::Failed(findings());
    let judgement = judge(&transcript);
    assert!(!judgement.reasons.iter().any(|reason| reason.starts_with("not required")), "{:?}", judgement.reasons);
}

proptest! {
    #[test]
    fn no_single_check_can_turn_red_and_the_drill_stay_proven(index in 0..6_usize, kind in 0..3_u8) {
        let mut transcript = sample::physical();
        transcript.checks[index].outcome = match kind {
            0 => Outcome::Failed(findings()),
            1 => Outcome::Broke { error: "x".to_owned(), hint: None },
            _ => Outcome::Unchecked("x".to_owned()),
        };
        let judgement = judge(&transcript);
        prop_assert_ne!(judgement.verdict, Verdict::Proven);
        prop_assert_eq!(judgement.rta, None);
    }

    #[test]
    fn proven_means_within_the_objectives(
        rpo in 1..200_000_i64, rto in 1..3_000_i64, took in 0..2_000_000_i64, lost in 0..200_000_i64, skew in -9_000..9_000_i64,
    ) {
        let mut transcript = sample::physical();
        transcript.objectives.rpo = Span::from_secs(rpo);
        transcript.objectives.rto = Span::from_secs(rto);
        transcript.steps[1].took = Span::from_millis(took);
        transcript.lost_at = at("2026-11-20T03:00:00Z") + Span::from_secs(lost).0;
        transcript.clock_skew = Observed::Known(Span::from_secs(skew));
        let judgement = judge(&transcript);
        let rta = Span::from_millis(2_260 + 7_200 + 720_000 + took);
        let rpa = Span::from_secs(lost - 38);
        let good = lost >= 40 && rpa <= transcript.objectives.rpo && rta <= transcript.objectives.rto
            && skew.abs() * 10 <= rpo;
        prop_assert_eq!(judgement.verdict == Verdict::Proven, good, "{:?}", judgement.reasons);
        prop_assert!(!judgement.reasons.is_empty());
    }

    #[test]
    fn every_allowance_is_in_the_recovery_time(extra in 0..100_000_i64) {
        let mut transcript = sample::physical();
        let before = judge(&transcript).rta.unwrap();
        transcript.objectives.allowances.push(("more".to_owned(), Span::from_secs(extra)));
        let after = judge(&transcript).rta.unwrap();
        prop_assert_eq!(after, before.saturating_add(Span::from_secs(extra)));
    }
}
