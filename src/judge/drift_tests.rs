use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::promises::{backups, drills, exposure, last_due, proofs, spool};
use super::stored;
use super::{source, *};
use crate::domain::check::{Broke, Finding};
use crate::domain::drill::{Check, Drill, Sabotage, Step};
use crate::domain::ledger::{Depth, LastRead, Shelf, Wrong};
use crate::domain::policy::{Databases, Method, Schedule, Spool, TlsMode, WalPlan};
use crate::domain::posture::{Archiver, Posture, Slot};
use crate::domain::run::{Run, RunOutcome, RunState, Work};
use crate::domain::sample::{self, at};
use crate::domain::transcript::Verdict;
use crate::domain::units::{ByteSize, Span};
use crate::domain::wal::Waiting;
use crate::judge::freshness::{Known, standing};
use crate::judge::ledger::Unit;

fn codes(found: &[Drift]) -> Vec<&str> {
    found.iter().map(|drift| drift.code.as_str()).collect()
}

/// What every drift must say.
fn whole(found: &[Drift]) {
    for drift in found {
        let said = [&drift.declared, &drift.observed, &drift.mend, &drift.object];
        assert!(said.iter().all(|text| !text.is_empty()) && drift.policy.is_some(), "{drift:?}");
    }
}

fn scheduled(text: &str, zone: &str) -> Policy {
    let mut policy = sample::policy();
    policy.backups[0].schedule = Some(Schedule { text: text.to_owned(), timezone: zone.to_owned() });
    policy
}

#[test]
fn a_schedule_was_last_due_by_the_wall_clock_of_its_zone() {
    for (text, zone, since, until, due) in [
        ("0 3 * * *", "UTC", "2026-11-18T00:00:00Z", "2026-11-20T02:59:59Z", Some("2026-11-19T03:00:00Z")),
        ("0 3 * * *", "UTC", "2026-11-18T00:00:00Z", "2026-11-20T03:00:00Z", Some("2026-11-20T03:00:00Z")),
        // Not after it was last begun.
        ("0 3 * * *", "UTC", "2026-11-20T03:00:00Z", "2026-11-20T23:00:00Z", None),
        ("0 3 * * *", "Europe/Berlin", "2026-11-18T00:00:00Z", "2026-11-20T12:00:00Z", Some("2026-11-20T02:00:00Z")),
        ("0 3 * * *", "Europe/Berlin", "2026-07-18T00:00:00Z", "2026-07-20T12:00:00Z", Some("2026-07-20T01:00:00Z")),
        // Left out by the change to summer time: due right after it.
        ("30 2 29 3 *", "Europe/Berlin", "2026-03-01T00:00:00Z", "2026-03-30T00:00:00Z", Some("2026-03-29T01:00:00Z")),
        ("@weekly", "UTC", "2026-11-01T00:00:01Z", "2026-11-20T00:00:00Z", Some("2026-11-15T00:00:00Z")),
        ("0 0 29 2 *", "UTC", "2024-01-01T00:00:00Z", "2026-11-20T00:00:00Z", Some("2024-02-29T00:00:00Z")),
        ("every 6h", "UTC", "2026-11-20T00:00:00Z", "2026-11-20T05:59:59Z", None),
        ("every 6h", "UTC", "2026-11-20T00:00:00Z", "2026-11-20T13:00:00Z", Some("2026-11-20T12:00:00Z")),
        ("nonsense", "UTC", "2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z", None),
    ] {
        assert_eq!(last_due(text, zone, at(since), at(until)), due.map(at), "{text} {zone} {until}");
    }
}

#[test]
fn a_missed_schedule_shows_until_there_is_a_backup_since() {
    let policy = scheduled("0 3 * * *", "UTC");
    let of_day = |day: u64| sample::artifact(Method::Physical, &format!("2026-11-{day:02}T03:00:02Z"), day);
    let now = at("2026-11-20T03:11:00Z");
    let missed = backups(&policy, &[of_day(18)], &[], now);
    assert_eq!((codes(&missed), missed[0].since), (vec!["schedule_missed"], Some(at("2026-11-20T03:00:00Z"))));
    whole(&missed);
    assert_eq!(backups(&policy, &[of_day(18), of_day(20)], &[], now), []);
    // A little late is not missed, and one that is being taken neither.
    assert_eq!(codes(&backups(&policy, &[of_day(19)], &[], at("2026-11-20T03:09:00Z"))), Vec::<&str>::new());
    let run = |state| Run {
        id: sample::run(1),
        policy: policy.name.clone(),
        work: Work::Backup { job: "nightly".parse().unwrap() },
        planned_at: at("2026-11-20T03:00:00Z"),
        scheduled_for: None,
        started_at: None,
        ended_at: None,
        state,
        took: None,
    };
    let running = run(RunState::Running { host: "h".to_owned(), pid: 1, pid_started: 1 });
    assert_eq!(backups(&policy, &[of_day(19)], &[running], now), []);
    let broke = run(RunState::Ended(RunOutcome::Broke { error: "disk full".to_owned(), hint: None }));
    let missed = backups(&policy, &[of_day(19)], std::slice::from_ref(&broke), now);
    assert!(missed[0].observed.contains("disk full"), "{missed:?}");
    // The run that took the newest backup, and runs of other work, say nothing of the one that is missed.
    let first = Run { planned_at: of_day(19).started_at, ..broke.clone() };
    let other = Run { work: Work::Verify, ..broke };
    assert!(!backups(&policy, &[of_day(19)], &[first, other], now)[0].observed.contains("disk full"));
    // The dump job has no schedule; a job that never made a backup is told when another shows that it should have.
    let dump = sample::artifact(Method::Logical, "2026-11-18T02:00:00Z", 1);
    assert!(backups(&policy, &[dump], &[], now)[0].observed.contains("never made a backup"));
    let none = backups(&policy, &[], &[], now);
    assert_eq!((codes(&none), none[0].severity), (vec!["backup_missing"], Severity::Critical));
    whole(&none);
}

#[test]
fn jitter_and_windows_put_off_what_is_late() {
    let mut policy = scheduled("0 3 * * *", "UTC");
    let of_day = |day: u64| sample::artifact(Method::Physical, &format!("2026-11-{day:02}T03:00:02Z"), day);
    let late = |policy: &Policy, moment: &str| {
        let found = backups(policy, &[of_day(19)], &[], at(moment));
        found.first().map(|drift| drift.since.unwrap().to_string())
    };
    let due = Some("2026-11-20T03:00:00Z".to_owned());
    assert_eq!(late(&policy, "2026-11-20T03:11:00Z"), due);
    policy.backups[0].terms.jitter = Some("2h".parse().unwrap());
    // When it begins is the same for whoever plans; the grace counts from there.
    let line = crate::judge::due::lines(&[policy.clone()], &Default::default()).remove(0);
    let begins = line.begins(at("2026-11-20T03:00:00Z"));
    assert!(begins > at("2026-11-20T03:05:00Z") && begins <= at("2026-11-20T05:00:00Z"), "{begins}");
    let just_before = begins + super::promises::GRACE.0 - SignedDuration::from_secs(1);
    assert_eq!(late(&policy, &just_before.to_string()), None);
    assert_eq!(late(&policy, &(just_before + SignedDuration::from_secs(1)).to_string()), due);

    // Every hour, but only from ten in the evening: none of the day's instants is late before that.
    let mut nightly = scheduled("0 * * * *", "UTC");
    let time = |hour: i8| jiff::civil::time(hour, 0, 0, 0);
    nightly.backups[0].terms.window =
        Some(crate::domain::timetable::Window { from: time(22), to: time(4), days: Vec::new() });
    assert_eq!(late(&nightly, "2026-11-19T03:50:00Z"), None, "begun at three");
    assert_eq!(late(&nightly, "2026-11-19T22:09:00Z"), None);
    assert_eq!(late(&nightly, "2026-11-19T22:10:00Z"), Some("2026-11-19T22:00:00Z".to_owned()));
    // An instant whose window was still open.
    assert_eq!(late(&nightly, "2026-11-20T03:15:00Z"), Some("2026-11-20T03:00:00Z".to_owned()));
    assert_eq!(late(&nightly, "2026-11-20T12:00:00Z"), Some("2026-11-20T03:00:00Z".to_owned()));
}

#[test]
fn exposure_over_the_rpo_is_drift_and_a_clock_that_is_wrong_is_not_known() {
    let policy = sample::policy();
    let artifacts = [sample::artifact(Method::Physical, "2026-11-20T03:00:00Z", 1)];
    let known = Known { artifacts: &artifacts, coverage: &[], drills: &[], runs: &[] };
    let judged = |now: Timestamp| exposure(&policy, &standing(&policy, known, Span::ZERO, now), now);
    let backed_up = artifacts[0].recovery_point;
    let rpo = policy.objectives.rpo;
    assert_eq!(judged(backed_up + rpo.0), []);
    let late = judged(backed_up + rpo.0 + SignedDuration::from_hours(3));
    assert_eq!((codes(&late), late[0].since), (vec!["rpo_exposed"], Some(backed_up + rpo.0)));
    whole(&late);
    assert_eq!(codes(&judged(backed_up - rpo.0)), ["exposure_unknown"]);
}

#[test]
fn proofs_go_stale_and_fail_and_are_mended_by_a_new_one() {
    let mut policy = sample::policy();
    policy.drills.truncate(1);
    let good = sample::judged(sample::physical());
    assert_eq!(good.judgement.verdict, Verdict::Proven);
    let then = good.finished_at;
    let age = policy.objectives.proof_max_age;
    assert_eq!(proofs(&policy, std::slice::from_ref(&good), then + age.0), []);
    let stale = proofs(&policy, std::slice::from_ref(&good), then + age.0 + SignedDuration::from_secs(1));
    assert_eq!((codes(&stale), stale[0].since), (vec!["proof_stale"], Some(then + age.0)));
    let mut failed = sample::judged(sample::logical_with_findings());
    failed.drill.name = good.drill.name.clone();
    let found = proofs(&policy, &[failed.clone(), good.clone()], then);
    assert_eq!((codes(&found), found[0].severity), (vec!["drill_failed"], Severity::Critical));
    assert_eq!(proofs(&policy, &[good.clone(), failed.clone()], then), [], "the newest counts");
    // What another drill found, and one that spoilt its copy on purpose, say nothing against it.
    let mut other = failed.clone();
    other.drill.name = "another".parse().unwrap();
    let mut spoilt = failed.clone();
    spoilt.drill.steps.push(Step::Sabotage(Sabotage { sql: "delete from orders".to_owned(), database: None }));
    assert_eq!(proofs(&policy, &[other, spoilt, good.clone()], then), []);
    failed.judgement.verdict = Verdict::Unproven;
    let unproven = proofs(&policy, &[failed], then);
    assert_eq!((codes(&unproven), unproven[0].severity), (vec!["drill_unproven"], Severity::Unproven));
    let never = proofs(&policy, &[], then);
    assert_eq!((codes(&never), never[0].severity), (vec!["proof_missing"], Severity::Unproven));
    assert_eq!(codes(&proofs(&policy, &[good], then - SignedDuration::from_hours(1))), ["proof_unknown"]);
    for found in [&stale, &found, &unproven, &never] {
        whole(found);
    }
    policy.drills.clear();
    assert_eq!(codes(&proofs(&policy, &[], then)), ["proof_missing"]);
}

#[test]
fn a_drill_that_checks_less_than_its_last_proofs_is_told() {
    let policy = sample::policy();
    let proof = sample::judged(sample::physical());
    let (whole_drill, then) = (proof.drill.clone(), proof.finished_at);
    assert_eq!(drills(&policy, std::slice::from_ref(&whole_drill), std::slice::from_ref(&proof), then), []);
    let mut cut = whole_drill.clone();
    let at = cut.steps.iter().rposition(|step| matches!(step, Step::Check(check) if check.required)).unwrap();
    let Step::Check(check) = cut.steps.remove(at) else { unreachable!() };
    // A newer proof by the weaker drill does not hide that there was a stronger one.
    let mut newer = proof.clone();
    (newer.drill, newer.finished_at) = (cut.clone(), then + SignedDuration::from_hours(24));
    let neighbour = Drill { name: "restore-logical".parse().unwrap(), ..whole_drill.clone() };
    let mut one = policy.clone();
    one.drills.truncate(1);
    let found = drills(&one, &[neighbour, cut.clone()], &[newer.clone(), proof.clone()], newer.finished_at);
    assert_eq!(
        (codes(&found), found[0].severity, found[0].since),
        (vec!["drill_weaker"], Severity::Warning, Some(then))
    );
    assert!(found[0].observed.ends_with(&format!("rests on more: {}", check.title())), "{found:?}");
    whole(&found);
    // Long ago it was decided; a run that proved nothing says nothing; a check that is not required is not missed.
    let month = SignedDuration::from_hours(30 * 24);
    assert_eq!(codes(&drills(&policy, &[cut.clone()], std::slice::from_ref(&proof), then + month)), ["drill_weaker"]);
    let later = then + month + SignedDuration::from_secs(1);
    assert_eq!(drills(&policy, &[cut.clone()], std::slice::from_ref(&proof), later), []);
    let mut failed = proof.clone();
    failed.judgement.verdict = Verdict::Failed;
    assert_eq!(drills(&policy, &[cut.clone()], &[failed], then), []);
    let mut optional = proof.clone();
    optional.drill.steps.retain(|step| !matches!(step, Step::Check(one) if one.title() == check.title()));
    optional.drill.steps.push(Step::Check(Check { required: false, ..check.clone() }));
    assert_eq!(drills(&policy, &[cut.clone()], &[optional], then), []);
    let mut other = proof;
    other.drill.name = "another".parse().unwrap();
    assert_eq!(drills(&policy, &[cut], &[other], then), []);
    let mut stronger = whole_drill;
    stronger.steps.insert(at, Step::Check(Check { required: true, ..check }));
    assert_eq!(drills(&policy, &[stronger], &[newer], later), [], "more than before is no drift");
}

#[test]
fn what_waits_in_a_spool_is_not_in_the_store() {
    let policy = sample::policy();
    let now = at("2026-11-20T03:00:00Z");
    assert_eq!(spool(&policy, Ok(&None), now), []);
    let waiting = Waiting {
        dir: "/spool".into(),
        files: 2,
        bytes: ByteSize(10),
        since: at("2026-11-20T02:00:00Z"),
        room: ByteSize(1),
        max: ByteSize(11),
    };
    let found = spool(&policy, Ok(&Some(waiting)), now);
    assert_eq!(codes(&found), ["spool_waits"]);
    let unknown = spool(&policy, Err(&Broke::new("gone")), now);
    assert_eq!((codes(&unknown), unknown[0].severity), (vec!["spool_unknown"], Severity::Unproven));
    whole(&found);
    whole(&unknown);
}

#[test]
fn stores_and_manifests_speak_for_themselves() {
    let (policy, place) = (sample::policy(), "primary".parse().unwrap());
    let unreachable = stored::unreachable(&policy, &place, &Broke::new("permission denied"));
    assert_eq!(unreachable.severity, Severity::Unproven);
    let missing = stored::missing(&policy, &place, 3);
    assert_eq!(missing.severity, Severity::Critical);
    let codes = ["signature_missing", "signer_untrusted", "artifact_missing", "manifest_shape"];
    let finding = |code: &str| Finding::new(code, "manifest", "it is so");
    let manifests = codes.map(|code| stored::manifest(&policy, &place, "orders/x/manifest.json", &finding(code)));
    assert!(
        manifests.iter().zip(codes).all(|(drift, code)| drift.code == code && drift.severity == Severity::Critical)
    );
    let orphan = stored::orphan(&policy, &place, &"20260131T030000Z-0a1b2c3d".parse().unwrap(), 3, ByteSize(9));
    assert_eq!(orphan.since, Some(at("2026-01-31T03:00:00Z")));
    whole(&[unreachable, missing, orphan, stored::nobody_vouches(&policy)]);
    whole(&manifests);
    // Each kind has its own way to be mended, and the two of signatures the same.
    assert_eq!(manifests[0].mend, manifests[1].mend);
    let ways: BTreeSet<&str> = manifests.iter().map(|drift| drift.mend.as_str()).collect();
    assert!(ways.len() == 3 && manifests[2].mend.contains("rebuild"), "{ways:?}");
}

#[test]
fn who_can_open_the_newest_backup_is_who_was_declared() {
    let policy = sample::policy();
    let (backup, began) = ("20260131T030000Z-0a1b2c3d".parse().unwrap(), at("2026-01-31T03:00:00Z"));
    let with = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        stored::recipients(&policy, &backup, began, &names)
    };
    assert_eq!(with(&["age1escrow", "age1working"]), None);
    assert_eq!(with(&["age1escrow"]).unwrap().severity, Severity::Critical);
    assert_eq!(with(&["age1escrow", "age1working", "age1gone"]).unwrap().severity, Severity::Warning);
    let other = with(&["age1escrow", "age1gone"]).unwrap();
    assert_eq!((other.severity, other.code.as_str()), (Severity::Critical, "recipients_differ"));
    whole(&[other]);
}

#[test]
fn what_was_not_read_back_in_time_is_overdue_and_what_has_just_come_is_not() {
    let mut policy = sample::policy();
    let place = "primary".parse().unwrap();
    let now = at("2026-11-20T00:00:00Z");
    let days_ago = |days: i64| now - SignedDuration::from_hours(24 * days);
    let unit = |key: u32, read: Option<i64>, born: i64| {
        let read = read.map(days_ago);
        (Unit { key, bytes: 10, looked_at: read, right_at: read }, days_ago(born))
    };
    let units = [unit(1, Some(5), 90), unit(2, None, 3), unit(3, Some(12), 90), unit(4, None, 20)];
    assert_eq!(stored::overdue(&policy, &place, &units, now), None, "nobody promised it");
    policy.read_back_within = Some("10d".parse().unwrap());
    let found = stored::overdue(&policy, &place, &units, now).unwrap();
    assert_eq!((found.code.as_str(), found.since), ("read_back_overdue", Some(days_ago(10))));
    assert!(found.observed.contains("2 of 4") && found.observed.contains("1 of them never"), "{}", found.observed);
    whole(&[found]);
    assert_eq!(stored::overdue(&policy, &place, &units[..2], now), None);
    // As long ago as is promised is not too long; where all was read once, nothing is said of never.
    assert_eq!(stored::overdue(&policy, &place, &[unit(1, Some(10), 90), unit(2, None, 10)], now), None);
    let read = stored::overdue(&policy, &place, &units[2..3], now).unwrap();
    assert!(!read.observed.contains("never"), "{}", read.observed);
    // A reading that is yet to come is none.
    assert!(stored::overdue(&policy, &place, &[unit(1, Some(-5), 90)], now).is_some());
    assert_eq!(stored::overdue(&policy, &place, &[] as &[(Unit<u32>, Timestamp)], now), None);
}

#[test]
fn what_was_wrong_stays_until_nothing_names_it_or_it_is_right() {
    let policy = sample::policy();
    let since = at("2026-11-19T00:00:00Z");
    let wrong =
        Wrong { since, at: since, depth: Depth::Sealed, run: None, finding: Finding::new("part_hash", "p", "bad") };
    let read = |key: String| LastRead {
        store: "primary".parse().unwrap(),
        shelf: Shelf::Log,
        key,
        bytes: ByteSize(1),
        sealed_at: None,
        opened_at: None,
        run: None,
        wrong: Some(wrong.clone()),
    };
    let found = stored::wrong(&policy, &[read("a".to_owned()), read("b".to_owned())], |one| one.key == "b");
    assert_eq!((found.len(), found[0].since), (1, Some(since)));
    assert!(found[0].object.contains(": b") && found[0].observed.contains("[part_hash]"), "{found:?}");
    whole(&found);
    let many: Vec<LastRead> = (0..NAMED + 5).map(|number| read(number.to_string())).collect();
    let found = stored::wrong(&policy, &many, |_| true);
    assert_eq!(found.len(), NAMED + 1);
    assert!(found[NAMED].observed.starts_with("5 more"));
    assert_eq!(stored::wrong(&policy, &many[..NAMED], |_| true).len(), NAMED);
}

fn posture() -> Posture {
    Posture {
        system_identifier: Some("7".to_owned()),
        in_recovery: false,
        wal_level: "replica".to_owned(),
        fsync: true,
        full_page_writes: true,
        data_checksums: true,
        archiver: None,
        databases: vec!["orders".to_owned()],
        database: "orders".to_owned(),
        slots: vec![],
    }
}

fn streaming() -> Policy {
    let mut policy = sample::policy();
    policy.wal = Some(WalPlan { stream: true, lag: None, heartbeat: None, keep: None, spool: None });
    policy
}

fn judged(policy: &Policy, posture: &Posture) -> Vec<Drift> {
    let found = source::source(policy, Ok(posture), "lifeboat_orders", |_| Some(true));
    whole(&found);
    found
}

#[test]
fn settings_on_which_a_recovery_depends_are_told() {
    let policy = sample::policy();
    assert_eq!(judged(&policy, &posture()), []);
    for (posture, code) in [
        (Posture { fsync: false, ..posture() }, "fsync_off"),
        (Posture { full_page_writes: false, ..posture() }, "full_page_writes_off"),
        (Posture { data_checksums: false, ..posture() }, "checksums_off"),
        (Posture { wal_level: "minimal".to_owned(), ..posture() }, "wal_level_minimal"),
    ] {
        assert_eq!(codes(&judged(&policy, &posture)), [code]);
    }
    let mut logical = sample::policy();
    logical.backups.remove(0);
    let bare = Posture { data_checksums: false, wal_level: "minimal".to_owned(), ..posture() };
    assert_eq!(judged(&logical, &bare), [], "a dump reads no pages");
    let unasked = source::source(&policy, Err(&Broke::new("refused")), "s", |_| None);
    assert_eq!((codes(&unasked), unasked[0].severity), (vec!["source_unreachable"], Severity::Unproven));
    whole(&unasked);
}

#[test]
fn an_archiver_is_believed_neither_by_its_own_word_nor_by_the_store_alone() {
    let mut policy = sample::policy();
    let name = "000000010000000000000005";
    let (early, late) = (at("2026-11-20T00:00:00Z"), at("2026-11-20T01:00:00Z"));
    let last = |at| Some((name.to_owned(), at));
    let with = |archiver: Archiver| Posture { archiver: Some(archiver), ..posture() };
    let good = with(Archiver { is_ours: true, last: last(late), failed: last(early) });
    assert_eq!(judged(&policy, &good), []);
    let failing = with(Archiver { is_ours: true, last: last(early), failed: last(late) });
    let found = judged(&policy, &failing);
    assert_eq!((codes(&found), found[0].since), (vec!["archive_fails"], Some(early)));
    let never = with(Archiver { is_ours: false, last: None, failed: last(late) });
    assert_eq!(codes(&judged(&policy, &never)), ["archive_fails"]);
    let lost = source::source(&policy, Ok(&good), "s", |_| Some(false));
    assert_eq!(codes(&lost), ["archived_not_stored"]);
    let unknown = source::source(&policy, Ok(&good), "s", |_| None);
    assert_eq!((codes(&unknown), unknown[0].severity), (vec!["archived_unknown"], Severity::Unproven));
    whole(&lost);
    whole(&unknown);
    // Another program's archive is none that a store of ours must have.
    let theirs = with(Archiver { is_ours: false, last: last(late), failed: None });
    assert_eq!(source::source(&policy, Ok(&theirs), "s", |_| Some(false)), []);
    policy.wal = Some(WalPlan {
        stream: false,
        lag: None,
        heartbeat: None,
        keep: None,
        spool: Some(Spool { dir: "/s".into(), max: ByteSize(1) }),
    });
    assert_eq!(codes(&judged(&policy, &posture())), ["archiving_off"]);
    let standby = Posture { in_recovery: true, ..failing };
    assert_eq!(judged(&policy, &standby), [], "its primary archives");
}

#[test]
fn slots_are_used_by_who_needs_them_and_kept_for_nobody_else() {
    let policy = streaming();
    let slot =
        |name: &str, active, held: u64, lost| Slot { name: name.to_owned(), active, holds: Some(ByteSize(held)), lost };
    let with = |slots: Vec<Slot>| Posture { slots, ..posture() };
    assert_eq!(judged(&policy, &with(vec![slot("lifeboat_orders", true, 5 << 30, false)])), []);
    assert_eq!(codes(&judged(&policy, &with(vec![]))), ["receiver_missing"]);
    assert_eq!(
        codes(&judged(&policy, &with(vec![slot("lifeboat_orders", false, 5 << 30, false)]))),
        ["receiver_missing"]
    );
    assert_eq!(codes(&judged(&policy, &with(vec![slot("lifeboat_orders", false, 0, true)]))), ["slot_lost"]);
    let plain = sample::policy();
    let found = judged(&plain, &with(vec![slot("replica", false, 1 << 30, false), slot("b", false, 1, false)]));
    assert_eq!((codes(&found), found[0].object.as_str()), (vec!["slot_holds_log"], "slot replica"));
    // Whoever streams has a slot of its own, and it alone; who does not has none.
    let both = vec![slot("lifeboat_orders", true, 0, false), slot("replica", false, 5 << 30, false)];
    assert_eq!(codes(&judged(&policy, &with(both))), ["slot_holds_log"]);
    assert_eq!(codes(&judged(&plain, &with(vec![slot("lifeboat_orders", false, 5 << 30, false)]))), ["slot_holds_log"]);
    assert_eq!(judged(&plain, &with(vec![slot("replica", true, 5 << 30, false)])), []);
}

#[test]
fn a_connection_whose_server_is_not_checked_is_drift() {
    let mut policy = sample::policy();
    for (url, tls, drift) in [
        ("postgresql://db.example/orders", None, false),
        ("postgresql://db.example/orders", Some(TlsMode::VerifyFull), false),
        ("postgresql://db.example/orders", Some(TlsMode::Require), true),
        ("postgresql://me@db.example:5432/orders", Some(TlsMode::Disable), true),
        ("postgresql://me@localhost/orders", Some(TlsMode::Disable), false),
        ("postgresql://me@/orders?host=/run/postgresql", Some(TlsMode::Disable), false),
        ("postgresql://me@%2Frun%2Fpostgresql/orders", Some(TlsMode::Disable), false),
        ("postgresql://me@/orders?host=%2frun", Some(TlsMode::Disable), false),
        ("postgresql:///orders", Some(TlsMode::Disable), false),
        ("postgresql://:5433/orders", Some(TlsMode::Disable), false),
        ("postgresql://127.0.0.1:5432/orders", Some(TlsMode::Disable), false),
        ("postgresql://me@[::1]:5432/orders", Some(TlsMode::Disable), false),
        // What only looks near.
        ("postgresql://me@localhost.example/orders", Some(TlsMode::Disable), true),
        ("postgresql://127.example/orders", Some(TlsMode::Disable), true),
        ("postgresql://me@/orders?host=db.example", Some(TlsMode::Disable), true),
        ("postgresql://localhost/orders?hostaddr=192.0.2.7", Some(TlsMode::Disable), true),
        ("postgresql://localhost,db.example/orders", Some(TlsMode::Disable), true),
        ("postgresql://me@[2001:db8::1]/orders", Some(TlsMode::Disable), true),
    ] {
        (policy.source.url, policy.source.tls) = (url.to_owned(), tls);
        assert_eq!(codes(&judged(&policy, &posture())) == ["tls_weak"], drift, "{url} {tls:?}");
    }
}

#[test]
fn databases_that_no_policy_holds_are_named() {
    let mut dump = sample::policy();
    dump.backups.remove(0);
    let all = Posture { databases: vec!["orders".to_owned(), "billing".to_owned()], ..posture() };
    let uncovered = |others: &[(&Policy, Option<&Posture>)]| {
        let found = source::uncovered(&dump, &all, others);
        whole(&found);
        found
    };
    let found = uncovered(&[(&dump, Some(&all))]);
    assert_eq!((codes(&found), found[0].object.as_str()), (vec!["database_uncovered"], "database billing"));
    // Another policy of the same server holds it; one of another server does not.
    let mut other = dump.clone();
    other.name = "other".parse().unwrap();
    other.source.databases = Databases::Named(vec!["billing".to_owned()]);
    assert_eq!(uncovered(&[(&dump, Some(&all)), (&other, Some(&all))]), []);
    let elsewhere = Posture { system_identifier: Some("8".to_owned()), ..all.clone() };
    assert_eq!(codes(&uncovered(&[(&dump, Some(&all)), (&other, Some(&elsewhere))])), ["database_uncovered"]);
    let unknown = uncovered(&[(&dump, Some(&all)), (&other, None)]);
    assert_eq!((codes(&unknown), unknown[0].severity), (vec!["database_unknown"], Severity::Unproven));
    // One whose server does not say which it is may be of this one.
    let silent = Posture { system_identifier: None, ..all.clone() };
    assert_eq!(codes(&uncovered(&[(&dump, Some(&all)), (&other, Some(&silent))])), ["database_unknown"]);
    // A physical backup holds all of them.
    let physical = sample::policy();
    assert_eq!(uncovered(&[(&dump, Some(&all)), (&physical, Some(&all))]), []);
    let untold = Posture { system_identifier: None, ..all };
    assert_eq!(codes(&source::uncovered(&dump, &untold, &[(&dump, Some(&untold))])), ["databases_unknown"]);
}

#[test]
fn the_worst_stands_first_and_nothing_twice() {
    let policy = sample::policy();
    let drift = |code: &str, severity| of(&policy, code, severity, "x").saying("a", "b").mended_by("c");
    let mut found = vec![
        drift("b", Severity::Unproven),
        drift("a", Severity::Warning),
        drift("z", Severity::Critical),
        drift("a", Severity::Warning),
    ];
    sort(&mut found);
    assert_eq!(codes(&found), ["z", "a", "b"]);
}
