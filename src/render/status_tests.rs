//! Status of policies that keep, break and have not begun to keep their promises.

use super::*;
use crate::domain::policy::Method;
use crate::domain::sample::{self, at};
use crate::domain::transcript::Transcript;
use crate::judge::freshness::{Known, standing};

const NOW: &str = "2026-11-23T06:00:00Z";

fn stand<'a>(policy: &'a Policy, artifacts: Vec<ArtifactRecord>, transcripts: Vec<Transcript>) -> Stand<'a> {
    let drills = summaries(&transcripts);
    let standing = standing(
        policy,
        Known { artifacts: &artifacts, coverage: &[], drills: &drills, runs: &[] },
        Span::from_secs(30 * 86_400),
        at(NOW),
    );
    let (runs, tests, copies) = (Vec::new(), Vec::new(), Vec::new());
    Stand { policy, standing, artifacts, drills, runs, tests, copies, read_back: None }
}

fn summaries(transcripts: &[Transcript]) -> Vec<DrillSummary> {
    transcripts.iter().map(DrillSummary::from).collect()
}

fn logical_proof() -> Transcript {
    let mut transcript = sample::judged(sample::physical());
    transcript.drill.name = "restore-logical".parse().unwrap();
    transcript
}

#[test]
fn one_line_a_policy() {
    let (mut good, mut bad, mut new) = (sample::policy(), sample::policy(), sample::policy());
    good.objectives.rpo = Span::from_secs(7 * 86_400);
    bad.name = "billing".parse().unwrap();
    new.name = "archive".parse().unwrap();
    let artifacts = vec![sample::artifact(Method::Physical, "2026-11-20T03:00:00Z", 12)];
    let stands = [
        stand(&good, artifacts.clone(), vec![sample::judged(sample::physical()), logical_proof()]),
        stand(&bad, artifacts, vec![sample::judged(sample::logical_with_findings())]),
        stand(&new, Vec::new(), Vec::new()),
    ];
    assert_eq!(overall(&stands), Verdict::Failed);
    assert_eq!(overall(&stands[..1]), Verdict::Proven);
    insta::assert_snapshot!(lines(&stands, None, at(NOW), 110, false));
    insta::assert_json_snapshot!(document(&stands, None, at(NOW)));
}

#[test]
fn one_policy_in_full() {
    let policy = sample::policy();
    let artifacts = vec![
        sample::artifact(Method::Physical, "2026-11-20T03:00:00Z", 12),
        sample::artifact(Method::Logical, "2026-11-20T02:00:00Z", 11),
    ];
    let transcripts = vec![sample::judged(sample::broken_start()), sample::judged(sample::physical())];
    insta::assert_snapshot!(full(&stand(&policy, artifacts, transcripts), at(NOW), 110, false));
}

#[test]
fn a_backup_is_one_line_wherever_it_lies_and_its_copy_says_how_late_it_was() {
    let mut policy = sample::policy();
    policy.backups[0].copies = vec!["dr-region".parse().unwrap(), "tape".parse().unwrap()];
    policy.backups[0].copy_within = Some(Span::from_secs(3_600));
    let artifact = sample::artifact(Method::Physical, "2026-11-20T03:00:00Z", 12);
    let copied = ArtifactRecord { store: "dr-region".parse().unwrap(), ..artifact.clone() };
    let copy = CopyRecord {
        backup: artifact.backup.clone(),
        store: "dr-region".parse().unwrap(),
        from: "primary".parse().unwrap(),
        manifest_sha256: artifact.manifest_sha256.clone(),
        bytes: artifact.sealed_bytes,
        took: Span::from_secs(60),
        durable_at: at("2026-11-20T06:00:00Z"),
        lag: Span::from_secs(7_200),
        already: false,
    };
    let mut stand = stand(&policy, vec![artifact, copied], Vec::new());
    stand.copies = vec![copy];
    let text = full(&stand, at(NOW), 110, false);
    assert!(text.contains("primary, dr-region") && text.contains("2h after it (allowed 1h)"), "{text}");
    assert!(text.contains("nothing was ever copied"), "{text}");
    let json = document(&[stand], None, at(NOW));
    assert_eq!((&json["policies"][0]["backups"], &json["policies"][0]["copies"]), (&1.into(), &1.into()));
    assert_eq!(json["policies"][0]["newest_copies"][0]["copy"]["lag"], 7200.0);
}

#[test]
fn runs_are_listed_with_ids_that_can_be_copied() {
    let run = |n| Run {
        id: sample::run(n),
        policy: "orders".parse().unwrap(),
        work: crate::domain::run::Work::Drill { drill: "restore-logical".parse().unwrap() },
        planned_at: at(NOW),
        scheduled_for: None,
        started_at: None,
        ended_at: None,
        state: RunState::Planned,
        took: None,
    };
    for width in [60, 80, 120] {
        let text = runs(&[run(1), run(2)], width, false);
        assert!(text.contains(&sample::run(2).to_string()), "{width}:\n{text}");
        assert!(width < 120 || text.lines().count() == 3, "{width}:\n{text}");
    }
    assert_eq!(runs(&[], 80, false), "no run is known\n");
}

#[test]
fn an_empty_catalog_says_what_to_do() {
    let policy = sample::policy();
    let stands = [stand(&policy, Vec::new(), Vec::new())];
    assert_eq!(overall(&stands), Verdict::Unproven);
    assert!(lines(&stands, None, at(NOW), 80, false).contains("lifeboat backup orders"));
    assert!(full(&stands[0], at(NOW), 80, false).contains("restore-latest has never run"));
    assert!(lines(&[], None, at(NOW), 80, false).contains("lifeboat init"));
    assert_eq!(overall(&[]), Verdict::Unproven);
}

#[test]
fn percentiles_are_by_nearest_rank_and_never_the_best() {
    let transcripts: Vec<Transcript> = (1..=20)
        .map(|n| {
            let mut transcript = sample::physical();
            transcript.judgement.rta = Some(Span::from_secs(n));
            transcript
        })
        .collect();
    let seconds = Span::from_secs;
    let times = recovery_times(&summaries(&transcripts)).unwrap();
    assert_eq!((times.p50, times.p95, times.worst), (seconds(10), seconds(19), seconds(20)));
    let times = recovery_times(&summaries(&transcripts[..1])).unwrap();
    assert_eq!((times.p50, times.p95, times.worst), (seconds(1), seconds(1), seconds(1)));
    assert_eq!(recovery_times(&summaries(&[sample::physical()])), None);
}
