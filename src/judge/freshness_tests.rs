//! Tables of where a policy stands.

use super::{Standing, standing};
use crate::domain::policy::{Method, Policy};
use crate::domain::run::{ArtifactRecord, Run, RunOutcome, RunState, Work};
use crate::domain::sample::{self, at};
use crate::domain::transcript::{Transcript, Verdict};
use crate::domain::units::Span;

struct Stage {
    policy: Policy,
    artifacts: Vec<ArtifactRecord>,
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
        transcripts: vec![sample::judged(sample::physical()), logical_proof()],
        runs: vec![run(1, backup(), RunState::Ended(RunOutcome::Succeeded))],
        now: "2026-11-20T15:00:38Z",
    }
}

fn judge(stage: &Stage) -> Standing {
    standing(&stage.policy, &stage.artifacts, &stage.transcripts, &stage.runs, at(stage.now))
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
