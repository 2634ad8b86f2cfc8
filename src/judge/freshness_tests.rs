//! Tables of where a policy stands.

use jiff::Timestamp;

use super::{Known, Standing, standing};
use crate::domain::exposure::Covered;
use crate::domain::policy::{Method, Policy};
use crate::domain::run::{ArtifactRecord, Run, RunOutcome, RunState, Work};
use crate::domain::sample::{self, at};
use crate::domain::summary::DrillSummary;
use crate::domain::transcript::{Transcript, Verdict};
use crate::domain::units::Span;

struct Stage {
    policy: Policy,
    artifacts: Vec<ArtifactRecord>,
    coverage: Vec<Covered>,
    transcripts: Vec<Transcript>,
    runs: Vec<Run>,
    now: &'static str,
}

fn logical_proof() -> Transcript {
    let mut transcript = sample::judged(sample::physical());
    transcript.run = sample::run(20);
    transcript.drill.name = "restore-logical".parse().unwrap();
    transcript
}

fn run(n: u128, work: Work, state: RunState) -> Run {
    Run {
        id: sample::run(n),
        policy: "orders".parse().unwrap(),
        work,
        planned_at: at("2026-11-20T03:00:00Z"),
        scheduled_for: None,
        started_at: Some(at("2026-11-20T03:00:00Z")),
        ended_at: Some(at("2026-11-20T03:00:40Z")),
        state,
        took: Some(Span::from_secs(40)),
    }
}

fn backup() -> Work {
    Work::Backup { job: "nightly".parse().unwrap() }
}

/// All is well.
fn well() -> Stage {
    Stage {
        policy: sample::policy(),
        artifacts: vec![
            sample::artifact(Method::Physical, "2026-11-20T03:00:00Z", 12),
            sample::artifact(Method::Logical, "2026-11-20T02:00:00Z", 11),
        ],
        coverage: Vec::new(),
        transcripts: vec![sample::judged(sample::physical()), logical_proof()],
        runs: vec![run(1, backup(), RunState::Ended(RunOutcome::Succeeded))],
        now: "2026-11-20T15:00:38Z",
    }
}

fn judge_at(stage: &Stage, now: Timestamp) -> Standing {
    let Stage { artifacts, coverage, transcripts, runs, .. } = stage;
    let drills: Vec<DrillSummary> = transcripts.iter().map(DrillSummary::from).collect();
    let known = Known { artifacts, coverage, drills: &drills, runs };
    standing(&stage.policy, known, Span::from_secs(86_400), now)
}

fn judge(stage: &Stage) -> Standing {
    judge_at(stage, at(stage.now))
}

#[test]
fn a_policy_that_keeps_its_promise_is_proven() {
    let standing = judge(&well());
    assert_eq!(standing.verdict, Verdict::Proven, "{:?}", standing.wrong);
    assert!(standing.wrong.is_empty());
    assert_eq!(standing.exposure, Some(Span::from_secs(12 * 3_600)));
    assert_eq!(standing.last_backup.unwrap().sequence, 12);
    assert_eq!(
        standing.last_proven,
        Some((sample::run(1), at("2026-11-20T05:00:26Z"), Span::from_secs(10 * 3_600 + 12)))
    );
    assert!(standing.rpa.is_some() && standing.rta.is_some());
}

#[test]
fn each_broken_promise_is_seen_and_named() {
    type Spoil = fn(&mut Stage);
    let cases: &[(Verdict, &str, Spoil)] = &[
        (Verdict::Unproven, "there is no backup", |s| s.artifacts.clear()),
        (Verdict::Failed, "RPO missed: 1d 12h of data would be lost now, and 1d is allowed", |s| {
            s.now = "2026-11-21T15:00:38Z";
        }),
        (Verdict::Unproven, "the proof of restore-latest has expired: it is 8d", |s| {
            s.now = "2026-11-28T05:00:27Z";
            s.policy.objectives.rpo = Span::from_secs(100 * 86_400);
        }),
        (Verdict::Unproven, "was given for less", |s| s.transcripts[0].judgement.valid_until = None),
        (Verdict::Unproven, "the drill restore-latest has never run", |s| {
            s.transcripts.remove(0);
        }),
        (Verdict::Unproven, "the drill restore-logical has never run", |s| s.transcripts.truncate(1)),
        (Verdict::Unproven, "no drill is declared", |s| {
            s.transcripts.clear();
            s.policy.drills.clear();
        }),
        (Verdict::Failed, "the last drill restore-logical failed", |s| {
            s.transcripts.insert(0, sample::judged(sample::logical_with_findings()));
        }),
        (Verdict::Unproven, "the last drill restore-latest proved nothing", |s| {
            s.transcripts.insert(0, sample::judged(sample::broken_start()));
        }),
        (Verdict::Unproven, "the last backup nightly broke 11h", |s| {
            let broke = RunOutcome::Broke { error: "no space left".to_owned(), hint: None };
            s.runs.insert(0, run(5, backup(), RunState::Ended(broke)));
        }),
        (Verdict::Unproven, "the last backup nightly never ended: process 42 is gone", |s| {
            s.runs.insert(0, run(5, backup(), RunState::Abandoned("process 42 is gone".to_owned())));
        }),
        (Verdict::Unproven, "the last drill restore-latest never ended", |s| {
            let work = Work::Drill { drill: "restore-latest".parse().unwrap() };
            s.runs.insert(0, run(5, work, RunState::Abandoned("killed".to_owned())));
        }),
        (Verdict::Failed, "the last verify had 2 findings", |s| {
            s.runs.insert(0, run(5, Work::Verify, RunState::Ended(RunOutcome::Found(2))));
        }),
        (Verdict::Failed, "RTO missed: the drill restore-latest measured 12m 23s, and 10m is allowed now", |s| {
            s.policy.objectives.rto = Span::from_secs(600);
        }),
        (Verdict::Failed, "RPO missed: the drill restore-latest measured 1h 59m", |s| {
            s.policy.objectives.rpo = Span::from_secs(3_600);
        }),
        (Verdict::Unproven, "a clock is wrong", |s| s.now = "2026-11-19T05:00:00Z"),
    ];
    for (verdict, sentence, spoil) in cases {
        let mut stage = well();
        spoil(&mut stage);
        let standing = judge(&stage);
        assert_eq!(standing.verdict, *verdict, "{sentence}: {:?}", standing.wrong);
        assert!(standing.wrong.iter().any(|wrong| wrong.contains(sentence)), "{sentence}: {:?}", standing.wrong);
    }
}

#[test]
fn a_newer_proof_heals_an_older_failure() {
    let mut stage = well();
    stage.transcripts.push(sample::judged(sample::logical_with_findings()));
    stage.transcripts.push(sample::judged(sample::broken_start()));
    let broke = RunOutcome::Broke { error: "no space left".to_owned(), hint: None };
    stage.runs.push(run(5, backup(), RunState::Ended(broke)));
    assert_eq!(judge(&stage).verdict, Verdict::Proven);
}

#[test]
fn a_drill_that_breaks_its_scratch_on_purpose_says_nothing_about_the_backups() {
    let mut stage = well();
    let mut sabotaged = sample::physical();
    let step = crate::domain::drill::Sabotage { sql: "drop table orders".to_owned(), database: None };
    sabotaged.drill.steps.push(crate::domain::drill::Step::Sabotage(step));
    stage.transcripts.insert(0, sample::judged(sabotaged));
    assert_eq!(judge(&stage).verdict, Verdict::Proven);
    stage.transcripts.truncate(1);
    assert_eq!(judge(&stage).verdict, Verdict::Unproven);
}

#[test]
fn the_gravest_comes_first() {
    let mut stage = well();
    stage.transcripts.truncate(1);
    stage.now = "2026-11-22T15:00:38Z";
    let wrong = judge(&stage).wrong;
    assert!(wrong[0].contains("RPO missed") && wrong[1].contains("never run"), "{wrong:?}");
}

#[test]
fn a_source_clock_a_little_ahead_is_no_exposure() {
    let mut stage = well();
    stage.transcripts.iter_mut().for_each(|t| t.finished_at = at("2026-11-20T02:59:00Z"));
    stage.now = "2026-11-20T03:00:00Z";
    let standing = judge(&stage);
    assert_eq!(standing.exposure, Some(Span::ZERO));
    assert_eq!(standing.verdict, Verdict::Proven, "{:?}", standing.wrong);
}

#[test]
fn bounds_belong_to_what_they_bound() {
    // The newest recovery point is 2026-11-20T03:00:38Z less some seconds; objectives are met to the second.
    let mut stage = well();
    let exposure = judge(&stage).exposure.unwrap();
    stage.policy.objectives.rpo = exposure;
    assert_eq!(judge(&stage).verdict, Verdict::Proven, "{:?}", judge(&stage).wrong);
    // A proof is good until its last second, by both of its bounds.
    let mut stage = well();
    stage.policy.objectives.rpo = Span::from_secs(100 * 86_400);
    let until = stage.transcripts[0].judgement.valid_until.unwrap();
    stage.transcripts.iter_mut().for_each(|t| t.judgement.valid_until = Some(until));
    let oldest = stage.policy.objectives.proof_max_age;
    let stand = judge_at;
    assert_eq!(stand(&stage, until).verdict, Verdict::Proven, "{:?}", stand(&stage, until).wrong);
    let later = until + Span::from_secs(1).0;
    let wrong = stand(&stage, later).wrong;
    assert!(wrong.iter().any(|reason| reason.contains(&format!("{oldest} is allowed"))), "{wrong:?}");
    stage.policy.objectives.proof_max_age = Span::from_secs(400 * 86_400);
    let wrong = stand(&stage, later).wrong;
    assert!(wrong.iter().any(|reason| reason.contains("was given for less")), "{wrong:?}");
    // A proof of this very second is none of the future; one of the next second is.
    let mut stage = well();
    let ended = stage.transcripts[0].finished_at;
    assert_eq!(stand(&stage, ended).verdict, Verdict::Proven, "{:?}", stand(&stage, ended).wrong);
    stage.transcripts[0].finished_at = ended + Span::from_secs(1).0;
    let wrong = stand(&stage, ended).wrong;
    assert!(wrong.iter().any(|reason| reason.contains("1s from now: a clock is wrong")), "{wrong:?}");
}

#[test]
fn what_a_drill_measured_may_be_all_that_is_allowed() {
    let mut stage = well();
    let judgement = &stage.transcripts[0].judgement;
    let (rpa, rta) = (judgement.rpa.unwrap(), judgement.rta.unwrap());
    stage.policy.objectives.rto = rta;
    assert_eq!(judge(&stage).verdict, Verdict::Proven, "{:?}", judge(&stage).wrong);
    stage.policy.objectives.rpo = rpa;
    let wrong = judge(&stage).wrong;
    assert!(!wrong.iter().any(|reason| reason.contains("measured")), "{wrong:?}");
}

#[test]
fn the_future_is_believed_up_to_a_tenth_of_the_objective() {
    let mut stage = well();
    stage.policy.objectives.rpo = Span::from_secs(86_400);
    let newest = stage.artifacts[0].recovery_point;
    stage.transcripts.iter_mut().for_each(|t| t.finished_at = at("2026-11-19T00:00:00Z"));
    for (before, believed) in [(0, true), (8_640, true), (8_641, false), (80_000, false)] {
        let now = newest - Span::from_secs(before).0;
        let standing = judge_at(&stage, now);
        assert_eq!(standing.exposure, believed.then_some(Span::ZERO), "{before}");
        assert_eq!(standing.wrong.iter().any(|reason| reason.contains("a clock is wrong")), !believed, "{before}");
    }
}

#[test]
fn a_drill_run_by_hand_counts_where_none_is_declared() {
    let mut stage = well();
    stage.policy.drills.clear();
    assert_eq!(judge(&stage).verdict, Verdict::Proven, "{:?}", judge(&stage).wrong);
    stage.policy = sample::policy();
    stage.transcripts.clear();
    let wrong = judge(&stage).wrong;
    assert!(wrong.iter().all(|reason| reason.contains("has never run")) && !wrong.is_empty(), "{wrong:?}");
}

#[test]
fn runs_of_what_is_not_declared_say_nothing() {
    let broke = || RunState::Ended(RunOutcome::Broke { error: "no space left".to_owned(), hint: None });
    for work in [
        Work::Backup { job: "given-up".parse().unwrap() },
        Work::Drill { drill: "given-up".parse().unwrap() },
        Work::Restore,
        Work::Find { at: None },
    ] {
        let mut stage = well();
        stage.runs.insert(0, run(5, work.clone(), broke()));
        assert_eq!(judge(&stage).verdict, Verdict::Proven, "{work:?}: {:?}", judge(&stage).wrong);
    }
}

#[test]
fn a_run_that_found_nothing_or_left_a_transcript_says_nothing_more() {
    let mut stage = well();
    stage.runs.insert(0, run(5, Work::Verify, RunState::Ended(RunOutcome::Found(0))));
    // Its transcript says `proven`; the run's own word is not asked.
    let work = Work::Drill { drill: "restore-latest".parse().unwrap() };
    stage.runs.insert(0, run(1, work, RunState::Ended(RunOutcome::Judged(Verdict::Failed))));
    assert_eq!(judge(&stage).verdict, Verdict::Proven, "{:?}", judge(&stage).wrong);
    for (outcome, verdict) in [(Verdict::Failed, Verdict::Failed), (Verdict::Unproven, Verdict::Unproven)] {
        let mut stage = well();
        let work = Work::Drill { drill: "restore-latest".parse().unwrap() };
        stage.runs.insert(0, run(77, work, RunState::Ended(RunOutcome::Judged(outcome))));
        assert_eq!(judge(&stage).verdict, verdict);
    }
    let mut stage = well();
    stage.runs.insert(0, run(5, Work::Verify, RunState::Ended(RunOutcome::Found(1))));
    let wrong = judge(&stage).wrong;
    assert!(wrong.iter().any(|reason| reason.contains("had 1 finding ")), "{wrong:?}");
}

#[test]
fn a_log_in_the_store_covers_more_than_the_backup_and_nothing_without_one() {
    let covered = |at_: &str, covered: &str| Covered { at: at(at_), covered: at(covered), until: None };
    let mut stage = well();
    stage.policy.objectives.rpo = Span::from_secs(60);
    let alone = judge(&stage).exposure.unwrap();
    assert!(alone >= Span::from_secs(43_200), "{alone}");
    stage.coverage = vec![
        covered("2026-11-20T14:59:00Z", "2026-11-20T14:58:59Z"),
        covered("2026-11-20T15:00:30Z", "2026-11-20T15:00:28Z"),
    ];
    let found = judge(&stage);
    assert_eq!(found.exposure, Some(Span::from_secs(10)));
    assert!(!found.wrong.iter().any(|why| why.contains("would be lost now")), "{:?}", found.wrong);
    // It was nearly twelve hours before the log began.
    let window = found.window.unwrap();
    assert!(window.worst.unwrap() > Span::from_secs(43_000), "{window:?}");
    assert!(window.within < 1_000, "{window:?}");
    stage.artifacts.clear();
    let found = judge(&stage);
    assert_eq!((found.exposure, found.covered, found.window), (None, None, None));
}
