use super::*;
use crate::domain::alarm::PostCount;
use crate::domain::facts::{Judged, sample};
use crate::domain::observed::Observed;
use crate::domain::sample::{at, run};

const NOW: &str = "2026-01-01T00:30:00Z";

/// Half an hour after the backup, twenty minutes after the drill that proved it; an hour and a day are allowed.
fn facts() -> PolicyFacts {
    let mut facts = PolicyFacts {
        tier: Some("gold".to_owned()),
        first_backup_at: Some(at("2025-12-01T00:00:00Z")),
        spool: Observed::Absent,
        drift: Some((at("2026-01-01T00:20:00Z"), vec![])),
        ..sample()
    };
    facts.jobs[0].attempt = Some(attempt(1, "2026-01-01T00:00:10Z", AttemptState::Done));
    facts.drills[0].attempt = Some(attempt(2, "2026-01-01T00:10:00Z", AttemptState::Done));
    facts.drills[0].judged = Some(judged(Verdict::Proven));
    facts
}

fn attempt(number: u128, when: &str, state: AttemptState) -> Attempt {
    Attempt { run: run(number), at: at(when), state, took: None }
}

fn judged(verdict: Verdict) -> Judged {
    Judged { run: run(2), verdict, ..sample().drills.remove(0).judged.unwrap() }
}

/// The one alarm: its kind, subject, severity and words.
fn only(facts: &PolicyFacts, now: &str) -> (AlarmKind, String, Severity, String) {
    let mut found = of_policy(facts, at(now));
    assert_eq!(found.len(), 1, "{found:?}");
    let one = found.remove(0);
    assert_eq!((one.tier.as_deref(), one.owner.as_str()), (Some("gold"), "dba"));
    assert!(one.summary.starts_with("orders: ") && one.hint.contains("lifeboat "), "{one:?}");
    (one.key.kind, one.key.subject, one.severity, one.summary)
}

fn kinds(facts: &PolicyFacts, now: &str) -> Vec<AlarmKind> {
    of_policy(facts, at(now)).into_iter().map(|one| one.key.kind).collect()
}

fn with_drill(change: impl FnOnce(&mut DrillFacts)) -> PolicyFacts {
    let mut facts = facts();
    change(&mut facts.drills[0]);
    facts
}

fn with_job(change: impl FnOnce(&mut JobFacts)) -> PolicyFacts {
    let mut facts = facts();
    change(&mut facts.jobs[0]);
    facts
}

#[test]
fn nothing_is_wrong_with_what_is_as_it_should_be() {
    assert_eq!(of_policy(&facts(), at(NOW)), []);
    // To the second.
    assert_eq!(of_policy(&facts(), at("2026-01-01T01:00:00Z")), []);
}

#[test]
fn no_backup_is_grave_where_one_was_to_be_taken() {
    let mut none = PolicyFacts { brings_back: None, ..facts() };
    let (kind, _, severity, _) = only(&none, NOW);
    assert_eq!((kind, severity), (AlarmKind::NoBackup, Severity::Critical));
    none.jobs[0].scheduled = false;
    assert_eq!(only(&none, NOW).2, Severity::Warning);
}

#[test]
fn more_exposure_than_is_allowed_is_told_since_when_it_was() {
    let found = of_policy(&facts(), at("2026-01-01T01:00:01Z"));
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].key.kind, found[0].severity), (AlarmKind::ExposureOverRpo, Severity::Critical));
    assert_eq!(found[0].since, Some(at("2026-01-01T01:00:00Z")));
}

#[test]
fn how_the_newest_run_of_a_job_ended_is_told() {
    for (state, kind, subject) in [
        (AttemptState::Broke, AlarmKind::BackupBroke, "nightly"),
        (AttemptState::Abandoned, AlarmKind::RunAbandoned, "backup/nightly"),
        (AttemptState::Missed, AlarmKind::RunMissed, "backup/nightly"),
    ] {
        let facts = with_job(|job| job.attempt = Some(attempt(9, "2026-01-01T00:20:00Z", state)));
        let (found, of, severity, words) = only(&facts, NOW);
        assert_eq!((found, of.as_str(), severity), (kind, subject, Severity::Warning));
        assert!(words.contains("2026-01-01T00:20:00Z") && words.contains(&run(9).to_string()), "{words}");
    }
    assert_eq!(kinds(&with_job(|job| job.attempt = None), NOW), []);
}

#[test]
fn a_run_of_a_drill_that_was_not_judged_is_told_unless_a_later_one_was() {
    let later = |state| with_drill(|drill| drill.attempt = Some(attempt(9, "2026-01-01T00:20:00Z", state)));
    for (state, kind, subject) in [
        (AttemptState::Broke, AlarmKind::DrillUnproven, "restore-latest"),
        (AttemptState::Abandoned, AlarmKind::RunAbandoned, "drill/restore-latest"),
        (AttemptState::Missed, AlarmKind::RunMissed, "drill/restore-latest"),
    ] {
        let (found, of, severity, _) = only(&later(state), NOW);
        assert_eq!((found, of.as_str(), severity), (kind, subject, Severity::Warning));
    }
    assert_eq!(kinds(&later(AttemptState::Done), NOW), []);
    // It ended before, or as, another was judged; or it is the one that was.
    for when in ["2026-01-01T00:09:00Z", "2026-01-01T00:10:00Z"] {
        let facts = with_drill(|drill| drill.attempt = Some(attempt(9, when, AttemptState::Broke)));
        assert_eq!(kinds(&facts, NOW), [], "{when}");
    }
    let same = with_drill(|drill| drill.attempt = Some(attempt(2, "2026-01-01T00:20:00Z", AttemptState::Broke)));
    assert_eq!(kinds(&same, NOW), []);
    // None was ever judged.
    let mut never = later(AttemptState::Broke);
    never.drills[0].judged = None;
    never.first_backup_at = None;
    assert_eq!(kinds(&never, NOW), [AlarmKind::DrillUnproven]);
}

#[test]
fn how_the_newest_judgement_came_out_is_told_with_the_checks() {
    let judged = |verdict, red: &[&str], dark: &[&str]| {
        with_drill(|drill| {
            let words = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect();
            drill.judged = Some(Judged { red: words(red), dark: words(dark), ..judged(verdict) });
        })
    };
    let (kind, subject, severity, words) = only(&judged(Verdict::Failed, &["content", "amcheck"], &[]), NOW);
    assert_eq!((kind, subject.as_str(), severity), (AlarmKind::DrillFailed, "restore-latest", Severity::Critical));
    assert!(words.contains("found something: content, amcheck"), "{words}");
    assert!(only(&judged(Verdict::Failed, &[], &[]), NOW).3.contains("an objective was missed"));
    let (kind, _, severity, words) = only(&judged(Verdict::Unproven, &[], &["content"]), NOW);
    assert_eq!((kind, severity), (AlarmKind::DrillUnproven, Severity::Warning));
    assert!(words.contains(": content (run"), "{words}");
    assert!(only(&judged(Verdict::Unproven, &[], &[]), NOW).3.contains("00:10:00Z (run"));
    // A drill that was run by hand is nobody's promise.
    let mut by_hand = judged(Verdict::Failed, &["content"], &[]);
    by_hand.drills[0].declared = false;
    assert_eq!(kinds(&by_hand, NOW), []);
}

#[test]
fn a_proof_that_is_too_old_or_never_was_is_told() {
    let fresh = |now: &str| PolicyFacts { brings_back: Some(at(now)), ..facts() };
    assert_eq!(kinds(&fresh("2026-01-02T00:10:00Z"), "2026-01-02T00:10:00Z"), []);
    let (kind, subject, severity, words) = only(&fresh("2026-01-02T00:10:01Z"), "2026-01-02T00:10:01Z");
    assert_eq!((kind, subject.as_str(), severity), (AlarmKind::ProofExpired, "restore-latest", Severity::Warning));
    assert!(words.contains("has expired"), "{words}");
    let never = |first: &str| {
        let mut facts = with_drill(|drill| (drill.judged, drill.attempt) = (None, None));
        facts.first_backup_at = Some(at(first));
        facts
    };
    assert_eq!(kinds(&never("2025-12-31T00:30:00Z"), NOW), [], "a day old to the second");
    let (kind, _, _, words) = only(&never("2025-12-31T00:29:59Z"), NOW);
    assert_eq!(kind, AlarmKind::ProofExpired);
    assert!(words.contains("never been judged"), "{words}");
}

#[test]
fn drifts_of_one_code_are_one_alarm_as_grave_as_the_gravest() {
    let drift = |code: &str, severity, object: &str, since: Option<&str>| Drift {
        code: code.to_owned(),
        severity,
        policy: None,
        object: object.to_owned(),
        declared: String::new(),
        observed: String::new(),
        since: since.map(at),
        mend: String::new(),
    };
    let mut facts = facts();
    facts.drift = Some((
        at("2026-01-01T00:20:00Z"),
        vec![
            drift("orphans", Severity::Warning, "a", Some("2025-12-30T00:00:00Z")),
            drift("tls_weak", Severity::Critical, "source", None),
            drift("orphans", Severity::Unproven, "b", Some("2025-12-29T00:00:00Z")),
            drift("proof_stale", Severity::Critical, "told by its own kind", None),
        ],
    ));
    let found = of_policy(&facts, at(NOW));
    let told: Vec<_> = found.iter().map(|one| (one.key.subject.as_str(), one.severity, one.since)).collect();
    assert_eq!(
        told,
        [("orphans", Severity::Warning, Some(at("2025-12-29T00:00:00Z"))), ("tls_weak", Severity::Critical, None)]
    );
    assert!(found[0].summary.ends_with(": a and 1 more") && found[1].summary.ends_with(": source"), "{found:?}");
}

#[test]
fn letters_that_do_not_arrive_are_told_until_one_does() {
    let post = |given_up_at: Option<&str>, delivered_at: Option<&str>| {
        let count = PostCount {
            given_up: 3,
            given_up_at: given_up_at.map(at),
            delivered_at: delivered_at.map(at),
            ..PostCount::default()
        };
        Post { by_notifier: BTreeMap::from([("chat".parse().unwrap(), count)]) }
    };
    let (early, late) = (Some("2026-01-01T00:00:00Z"), Some("2026-01-01T00:10:00Z"));
    for (given_up, delivered, told) in
        [(None, None, 0), (None, late, 0), (early, None, 1), (late, early, 1), (early, late, 0), (early, early, 0)]
    {
        let found = lifeboat_itself(&post(given_up, delivered));
        assert_eq!(found.len(), told, "{given_up:?} {delivered:?}");
        assert!(found.iter().all(|one| one.key.subject == "chat" && one.severity == Severity::Critical), "{found:?}");
    }
}
