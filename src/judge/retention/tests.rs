//! The rules one by one, then all of them over random histories.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::domain::mark::{Act, MARK_FORMAT};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn mark(act: Act, when: Timestamp) -> Mark {
    Mark {
        format: MARK_FORMAT.to_owned(),
        policy: "orders".parse().unwrap(),
        backup: BackupId::new(when, 0),
        number: 1,
        act,
        by: "ada".to_owned(),
        reason: "case 7".to_owned(),
        at: when,
    }
}

fn taken(job: &str, number: u32, point: Timestamp) -> Kept {
    Kept {
        id: BackupId::new(point, number),
        says: Ok(Says { job: job.parse().unwrap(), recovery_point: point, finished_at: point }),
        proven: None,
        holds: Vec::new(),
        doubts: Vec::new(),
        lock: Lock::Free,
        deleted: None,
    }
}

fn job(name: &str, retention: Option<Retention>) -> Job {
    Job { name: name.parse().unwrap(), retention, zone: TimeZone::UTC }
}

const DAY: i64 = 86_400;

fn days(count: i64) -> Option<Span> {
    Some(Span::from_secs(count * DAY))
}

/// One a day at 03:00, up to the 31st of March.
fn daily(count: u32) -> Vec<Kept> {
    let last = at("2026-03-31T03:00:00Z");
    let point = |back: u32| last.checked_sub(Span::from_secs(i64::from(back) * DAY).0).unwrap();
    (0..count).rev().map(|back| taken("nightly", back, point(back))).collect()
}

fn now() -> Timestamp {
    at("2026-03-31T12:00:00Z")
}

fn decide(backups: &[Kept], jobs: &[Job]) -> Plan {
    plan(&Shelf { backups, jobs, rehearsed: false, clock: &[], grace: Span::from_secs(DAY) }, now())
}

/// Days of the backups with this fate.
fn days_with(plan: &Plan, fate: Fate) -> Vec<String> {
    plan.with(fate).map(|entry| entry.backup.as_str()[..8].to_owned()).collect()
}

fn reasons(plan: &Plan, day: &str) -> String {
    plan.backups.iter().find(|entry| entry.backup.as_str().starts_with(day)).unwrap().reasons.join("; ")
}

#[test]
fn age_and_calendar_keep_what_they_say_and_the_rest_goes_with_a_reason() {
    let retention = Retention { keep: days(3), weekly: 3, monthly: 2, at_least: 1, ..Retention::default() };
    let plan = decide(&daily(60), &[job("nightly", Some(retention))]);
    assert_eq!(days_with(&plan, Fate::Keep), ["20260228", "20260322", "20260329", "20260330", "20260331"]);
    assert_eq!(plan.with(Fate::Delete).count(), 55);
    assert_eq!(
        reasons(&plan, "20260331"),
        "the last one of job nightly; younger than 3d; the newest of week 2026-W14; the newest of month 2026-03"
    );
    assert_eq!(reasons(&plan, "20260228"), "the newest of month 2026-02");
    assert_eq!(
        reasons(&plan, "20260301"),
        "it is older than 3d, it is not the newest of one of the last 3 weeks, 2 months, newer ones are there"
    );
    assert!(plan.standstill.is_empty() && plan.findings.is_empty(), "{plan:?}");
}

#[test]
fn nothing_of_a_job_without_retention_or_without_policy_goes() {
    let mut backups = daily(30);
    for backup in backups.iter_mut().take(10) {
        backup.says.as_mut().unwrap().job = "gone".parse().unwrap();
    }
    let plan = decide(&backups, &[job("nightly", None)]);
    assert_eq!(plan.with(Fate::Keep).count(), 30);
    assert_eq!(reasons(&plan, "20260315"), "job nightly has no retention");
    assert!(reasons(&plan, "20260302").contains("the policy has no job gone any more"));
    assert!(plan.standstill.is_empty() && plan.findings.is_empty(), "{plan:?}");
}

#[test]
fn what_must_never_go_does_not() {
    let one = Some(Retention { at_least: 1, ..Retention::default() });
    let mut backups = daily(10);
    assert_eq!(days_with(&decide(&backups, &[job("nightly", one.clone())]), Fate::Keep), ["20260331"]);
    backups[0].holds = vec![mark(Act::Hold, at("2026-01-05T00:00:00Z"))];
    backups[1].lock = Lock::Until(at("2026-03-31T12:00:01Z"));
    backups[2].lock = Lock::Until(now());
    backups[3].lock = Lock::Hold;
    backups[4].lock = Lock::Unknown("503".to_owned());
    backups[5].says = Err("nobody signed it".to_owned());
    backups[6].doubts = vec!["it is not signed".to_owned()];
    backups[7].proven = Some(at("2026-03-30T00:00:00Z"));
    let plan = decide(&backups, &[job("nightly", one)]);
    assert_eq!(days_with(&plan, Fate::Delete), ["20260324", "20260330"]);
    for (day, why) in [
        ("20260322", "on hold by ada since 2026-01-05: case 7"),
        ("20260323", "its store has locked it until 2026-03-31T12:00:01Z"),
        ("20260325", "its store has a legal hold on it"),
        ("20260326", "it may be locked, its store could not be asked: 503"),
        ("20260327", "its manifest cannot be believed: nobody signed it"),
        ("20260328", "it may be on hold: it is not signed"),
        ("20260329", "the last proven one of job nightly (on 2026-03-30)"),
    ] {
        assert_eq!(reasons(&plan, day), why);
    }
    let codes: Vec<&str> = plan.findings.iter().map(|finding| finding.code.as_str()).collect();
    assert_eq!(codes, ["lock_unknown", "manifest_doubted", "mark_doubted"]);
}

#[test]
fn of_proven_ones_the_newest_and_the_one_proven_last_stay() {
    let mut backups = daily(10);
    for (index, proven) in [(1, "2026-03-30T00:00:00Z"), (3, "2026-03-28T00:00:00Z"), (5, "2026-03-27T00:00:00Z")] {
        backups[index].proven = Some(at(proven));
    }
    let plan = decide(&backups, &[job("nightly", Some(Retention { at_least: 1, ..Retention::default() }))]);
    assert_eq!(days_with(&plan, Fate::Keep), ["20260323", "20260327", "20260331"]);
    assert_eq!(reasons(&plan, "20260323"), "the one of job nightly that was proven last (on 2026-03-30)");
}

#[test]
fn nothing_goes_while_nothing_is_proven_or_the_clock_is_in_doubt() {
    let jobs = [job("nightly", Some(Retention { at_least: 1, ..Retention::default() }))];
    let mut backups = daily(5);
    backups[0].deleted = Some(Deleted { mark: mark(Act::Tombstone, at("2026-03-01T00:00:00Z")), at: now() });
    let clock = [Finding::new("clock_jump", "clock", "nothing was written for a year")];
    let shelf = Shelf { backups: &backups, jobs: &jobs, rehearsed: true, clock: &[], grace: Span::ZERO };
    for (shelf, code) in
        [(shelf.clone(), "nothing_proven"), (Shelf { rehearsed: false, clock: &clock, ..shelf }, "clock_jump")]
    {
        let plan = plan(&shelf, now());
        assert_eq!(plan.standstill[0].code, code);
        assert_eq!((plan.with(Fate::Delete).count(), plan.with(Fate::Remove).count()), (0, 0), "{plan:?}");
        assert!(reasons(&plan, "20260329").starts_with("nothing is deleted: "), "{plan:?}");
        assert_eq!(days_with(&plan, Fate::Wait), ["20260327"]);
    }
    backups[2].proven = Some(now());
    let shelf = Shelf { backups: &backups, jobs: &jobs, rehearsed: true, clock: &[], grace: Span::ZERO };
    assert_eq!(plan(&shelf, now()).with(Fate::Delete).count(), 2);
}

#[test]
fn where_nothing_would_go_anyway_nothing_stands_still() {
    let jobs = [job("nightly", Some(Retention { at_least: 1, ..Retention::default() }))];
    let stands = |backups: &[Kept]| {
        let shelf = Shelf { backups, jobs: &jobs, rehearsed: true, clock: &[], grace: Span::ZERO };
        plan(&shelf, now()).standstill.len()
    };
    assert_eq!(stands(&daily(1)), 0, "the only one stays");
    assert_eq!(stands(&daily(2)), 1);
    let mut backups = daily(2);
    backups[0].deleted = Some(Deleted { mark: mark(Act::Tombstone, at("2026-03-01T00:00:00Z")), at: now() });
    assert_eq!(stands(&backups), 1, "what was deleted would be removed");
    backups[0].holds = vec![mark(Act::Hold, at("2026-03-02T00:00:00Z"))];
    assert_eq!(stands(&backups), 0, "it is spared");
}

#[test]
fn too_few_are_a_finding_and_none_of_them_goes() {
    let retention = Retention { keep: days(1), at_least: 5, ..Retention::default() };
    let plan = decide(&daily(4), &[job("nightly", Some(retention.clone())), job("dump", Some(retention))]);
    assert_eq!(plan.with(Fate::Keep).count(), 4);
    assert_eq!(reasons(&plan, "20260328"), "one of the 5 that job nightly keeps at the least");
    let findings: Vec<_> = plan.findings.iter().map(|one| (one.code.as_str(), one.object.as_str())).collect();
    assert_eq!(findings, [("retention_shortfall", "job nightly"), ("retention_shortfall", "job dump")]);
    let enough = Retention { keep: days(1), at_least: 4, ..Retention::default() };
    assert_eq!(decide(&daily(4), &[job("nightly", Some(enough))]).findings, []);
}

#[test]
fn what_was_deleted_waits_then_goes_and_is_spared_when_it_is_needed_again() {
    let jobs = [job("nightly", Some(Retention { at_least: 2, ..Retention::default() }))];
    let mut backups = daily(4);
    let delete = |backup: &mut Kept, when: &str| {
        backup.deleted = Some(Deleted { mark: mark(Act::Tombstone, at(when)), at: at(when) });
    };
    delete(&mut backups[0], "2026-03-30T12:00:00Z");
    delete(&mut backups[1], "2026-03-30T12:00:01Z");
    let plan = decide(&backups, &jobs);
    assert_eq!(
        (days_with(&plan, Fate::Remove), days_with(&plan, Fate::Wait)),
        (vec!["20260328".to_owned()], vec!["20260329".to_owned()])
    );
    assert!(reasons(&plan, "20260329").starts_with("it can be brought back until 2026-03-31T12:00:01Z"));
    // Somebody took the others away by hand, or put a hold on it.
    let plan = decide(&backups[..3], &jobs);
    assert_eq!(days_with(&plan, Fate::Spare), ["20260329"], "{plan:?}");
    assert_eq!(plan.findings[0].code, "retention_shortfall");
    assert_eq!(days_with(&decide(&backups[..1], &jobs), Fate::Spare), ["20260328"], "the last one of all");
    backups[0].holds = vec![mark(Act::Hold, now())];
    backups[1].proven = Some(now());
    assert_eq!(days_with(&decide(&backups, &jobs), Fate::Spare), ["20260328", "20260329"]);
    // Those that count are not fewer for it.
    assert_eq!(days_with(&decide(&backups, &jobs), Fate::Keep), ["20260330", "20260331"]);
}

#[test]
fn a_source_with_a_wrong_clock_makes_no_backup_old() {
    let mut backups = daily(3);
    backups[2].says.as_mut().unwrap().recovery_point = at("2001-01-01T00:00:00Z");
    let plan = decide(&backups, &[job("nightly", Some(Retention { keep: days(2), ..Retention::default() }))]);
    assert_eq!(days_with(&plan, Fate::Keep), ["20260330", "20260331"], "{plan:?}");
}

/// Zones with odd clocks, and none.
const ZONES: [&str; 8] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Asia/Kathmandu",
    "America/St_Johns",
    "Pacific/Kiritimati",
];

fn random_backup() -> impl Strategy<Value = (u8, i64, u8, u8, u8, i64)> {
    // Job; seconds before the end; oddity; proof; deleted; finished later by.
    (0_u8..3, 0_i64..(900 * DAY), 0_u8..24, 0_u8..12, 0_u8..8, 0_i64..7_200)
}

fn random_retention() -> impl Strategy<Value = Option<Retention>> {
    let counts = (0_u32..9, 0_u32..6, 0_u32..6, 0_u32..4, 0_u32..6);
    let some =
        (proptest::option::of(0_i64..40), counts).prop_map(|(keep, (daily, weekly, monthly, yearly, at_least))| {
            Some(Retention { keep: keep.and_then(days), daily, weekly, monthly, yearly, at_least })
        });
    prop_oneof![9 => some, 1 => Just(None)]
}

fn history(raw: &[(u8, i64, u8, u8, u8, i64)], end: Timestamp) -> Vec<Kept> {
    let back = |seconds: i64| end.checked_sub(Span::from_secs(seconds).0).unwrap();
    (0..)
        .zip(raw)
        .map(|(number, (job, seconds, oddity, proof, deleted, later))| {
            let job = ["nightly", "dump", "gone"][usize::from(*job)];
            let mut backup = taken(job, number, back(*seconds));
            backup.says.as_mut().unwrap().finished_at = back((*seconds - *later).max(0));
            match oddity {
                0 => backup.holds = vec![mark(Act::Hold, back(*seconds))],
                1 => backup.lock = Lock::Until(back(-1)),
                2 => backup.lock = Lock::Until(back(0)),
                3 => backup.lock = Lock::Hold,
                4 => backup.lock = Lock::Unknown("?".to_owned()),
                5 => backup.says = Err("?".to_owned()),
                6 => backup.doubts = vec!["?".to_owned()],
                _ => {}
            }
            backup.proven = (*proof == 0).then(|| back(*seconds / 2));
            if *deleted == 0 {
                backup.deleted = Some(Deleted { mark: mark(Act::Tombstone, back(*seconds)), at: back(*seconds / 3) });
            }
            backup
        })
        .collect()
}

/// Distinct periods, counted apart from the code under test.
fn periods(points: &[Timestamp], zone: &TimeZone, form: &str) -> BTreeSet<String> {
    points.iter().map(|point| zone.to_datetime(*point).strftime(form).to_string()).collect()
}

const FORMS: [&str; 4] = ["%Y-%m-%d", "%G-%V", "%Y-%m", "%Y"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn over_any_history_nothing_goes_that_must_stay(
        raw in proptest::collection::vec(random_backup(), 0..50),
        nightly in random_retention(),
        dump in random_retention(),
        zone in 0..ZONES.len(),
        // 2023 to 2032, so that year ends, leap days and changes of clocks lie within.
        end in 1_672_531_200_i64..1_988_150_400,
        grace in 0_i64..(3 * DAY),
        rehearsed: bool,
    ) {
        let now = Timestamp::from_second(end).unwrap();
        let zone = TimeZone::get(ZONES[zone]).unwrap();
        let jobs = [
            Job { name: "nightly".parse().unwrap(), retention: nightly, zone: zone.clone() },
            Job { name: "dump".parse().unwrap(), retention: dump, zone: zone.clone() },
        ];
        let backups = history(&raw, now);
        let shelf = Shelf { backups: &backups, jobs: &jobs, rehearsed, clock: &[], grace: Span::from_secs(grace) };
        let first = plan(&shelf, now);
        prop_assert_eq!(first.backups.len(), backups.len());
        prop_assert!(first.backups.iter().all(|entry| !entry.reasons.is_empty()));
        let by_id: BTreeMap<&BackupId, &Kept> = backups.iter().map(|backup| (&backup.id, backup)).collect();
        let goes = |entry: &&Entry| matches!(entry.fate, Fate::Delete | Fate::Remove);
        for entry in first.backups.iter().filter(goes) {
            let backup = by_id[&entry.backup];
            prop_assert!(backup.holds.is_empty() && backup.doubts.is_empty(), "{:?}", entry);
            prop_assert!(match backup.lock { Lock::Free => true, Lock::Until(until) => until <= now, _ => false }, "{:?}", entry);
            let says = backup.says.as_ref().unwrap();
            let job = jobs.iter().find(|job| job.name == says.job);
            prop_assert!(job.is_some_and(|job| job.retention.is_some()), "{:?}", entry);
            prop_assert_eq!(entry.fate == Fate::Remove, backup.deleted.is_some());
        }
        // What stays and counts, and what did before.
        let live: Vec<&Kept> = backups.iter().filter(|backup| backup.deleted.is_none()).collect();
        let stays: BTreeSet<&BackupId> = first.with(Fate::Keep).map(|entry| &entry.backup).collect();
        for name in ["nightly", "dump", "gone"] {
            let of = |only: bool| -> Vec<&Kept> {
                let mut of: Vec<&Kept> = live.iter().copied().filter(|backup| {
                    backup.says.as_ref().is_ok_and(|says| says.job.as_str() == name) && (!only || stays.contains(&backup.id))
                }).collect();
                of.sort_by_key(|backup| backup.says.as_ref().unwrap().recovery_point);
                of
            };
            let (before, after) = (of(false), of(true));
            prop_assert_eq!(before.is_empty(), after.is_empty(), "the last one of {}", name);
            let last = |of: &[&Kept]| of.last().map(|backup| backup.says.as_ref().unwrap().recovery_point);
            prop_assert_eq!(last(&before), last(&after));
            let proven = |of: &[&Kept]| of.iter().filter(|backup| backup.proven.is_some()).map(|backup| backup.says.as_ref().unwrap().recovery_point).max();
            prop_assert_eq!(proven(&before), proven(&after), "the last proven one of {}", name);
            let latest = |of: &[&Kept]| of.iter().filter_map(|backup| backup.proven).max();
            prop_assert_eq!(latest(&before), latest(&after));
            let Some(retention) = jobs.iter().find(|job| job.name.as_str() == name).and_then(|job| job.retention.as_ref()) else { continue };
            let wanted = usize::try_from(retention.at_least).unwrap();
            prop_assert!(after.len() >= wanted.min(before.len()), "{} of {} stay, {} wanted", after.len(), before.len(), wanted);
            let points = |of: &[&Kept]| of.iter().map(|backup| backup.says.as_ref().unwrap().recovery_point).collect::<Vec<_>>();
            for (form, count) in FORMS.iter().zip([retention.daily, retention.weekly, retention.monthly, retention.yearly]) {
                let (could, do_now) = (periods(&points(&before), &zone, form), periods(&points(&after), &zone, form));
                let count = usize::try_from(count).unwrap();
                prop_assert!(do_now.len() >= count.min(could.len()), "{}: {} of {}, {} wanted", form, do_now.len(), could.len(), count);
                // And they are the newest of those there were.
                let newest: Vec<&String> = could.iter().rev().take(count).collect();
                prop_assert!(newest.iter().all(|period| do_now.contains(*period)), "{}: {:?} of {:?}", form, do_now, could);
            }
            if let Some(keep) = retention.keep {
                for backup in &before {
                    let says = backup.says.as_ref().unwrap();
                    let young = now.duration_since(says.finished_at.max(says.recovery_point)) <= keep.0;
                    prop_assert!(!young || stays.contains(&backup.id), "{} is young", backup.id);
                }
            }
        }
        if rehearsed && live.iter().all(|backup| backup.proven.is_none()) {
            prop_assert_eq!(first.backups.iter().filter(goes).count(), 0);
        }
        // Done and planned again at the same moment: nothing more goes, and what was kept is kept.
        let done: Vec<Kept> = backups.iter().filter_map(|backup| {
            let entry = first.backups.iter().find(|entry| entry.backup == backup.id).unwrap();
            match entry.fate {
                Fate::Remove => None,
                Fate::Delete => Some(Kept { deleted: Some(Deleted { mark: mark(Act::Tombstone, now), at: now }), ..backup.clone() }),
                Fate::Keep | Fate::Wait | Fate::Spare => Some(backup.clone()),
            }
        }).collect();
        let again = plan(&Shelf { backups: &done, ..shelf }, now);
        prop_assert_eq!(again.with(Fate::Delete).count(), 0, "{:?}", again);
        let still: BTreeSet<&BackupId> = again.with(Fate::Keep).map(|entry| &entry.backup).collect();
        prop_assert_eq!(still, stays);
        // What was only just deleted goes unless it is needed, once its time is over.
        let later = now.checked_add(Span::from_secs(grace).0).unwrap();
        let much_later = plan(&Shelf { backups: &done, ..shelf }, later);
        for entry in first.with(Fate::Delete) {
            let then = much_later.backups.iter().find(|one| one.backup == entry.backup).unwrap();
            prop_assert!(matches!(then.fate, Fate::Remove), "{:?}", then);
        }
    }

    #[test]
    fn over_any_log_nothing_goes_that_a_backup_needs(
        bases in proptest::collection::vec((0_i64..60, 1_u32..4, 0_u64..120, 0_u64..4, 0_u8..2, 0_u8..6), 1..12),
        files in proptest::collection::vec((1_u32..4, 0_u64..140, 0_u8..12), 0..200),
        keep in proptest::option::of(0_i64..50),
    ) {
        use crate::domain::artifact::WalRange;
        use crate::domain::lsn::Lsn;
        use crate::domain::wal::{Segment, WalName};
        const MIB: u64 = 1 << 20;
        let day = |number: i64| Timestamp::from_second(1_767_225_600 + number * DAY).unwrap();
        let bases: Vec<log::Base> = bases.into_iter().map(|(taken, timeline, first, length, cluster, deleted)| log::Base {
            system_identifier: cluster.to_string(),
            range: WalRange { timeline, start: Lsn(first * MIB + 17), end: Lsn((first + length) * MIB + 99) },
            segment_bytes: MIB,
            recovery_point: day(taken),
            started_at: day(taken),
            deleted: deleted == 0,
        }).collect();
        let files: Vec<log::File> = files.into_iter().map(|(timeline, number, of)| log::File {
            name: WalName::Segment(Segment::holding(timeline, Lsn(number * MIB), MIB)),
            written: day(70),
            of: match of { 0 => Err("?".to_owned()), 1 => Ok(None), other => Ok(Some((other % 2).to_string())) },
        }).collect();
        let (now, keep) = (day(60), keep.and_then(days));
        let needs = log::Needs::of(&bases, keep, now);
        let decided = log::plan(&files, &needs, 0, keep);
        let gone: BTreeSet<&WalName> = decided.delete.iter().collect();
        for file in files.iter().filter(|file| gone.contains(&file.name)) {
            // Two files of one name do not occur in a store: the one that counts is any that allowed it.
            let WalName::Segment(segment) = file.name else { unreachable!() };
            let same: Vec<&log::File> = files.iter().filter(|other| other.name == file.name).collect();
            prop_assert!(same.iter().any(|one| one.of.is_ok()));
            if same.len() > 1 { continue; }
            let (start, end) = (segment.start(MIB).unwrap(), segment.start(MIB).unwrap().0 + MIB);
            for base in bases.iter().filter(|base| file.of.as_ref().unwrap().as_ref().is_none_or(|of| *of == base.system_identifier)) {
                // Its own stretch.
                prop_assert!(end <= base.range.start.0 || start > base.range.end, "{segment} is needed by {base:?}");
                // The way forward from it, if it lies in the window or nothing older does.
                let horizon = keep.map(|keep| now.checked_sub(keep.0).unwrap());
                let in_window = horizon.is_none_or(|horizon| base.recovery_point > horizon);
                let anchor = bases.iter().filter(|other| other.system_identifier == base.system_identifier && !other.deleted && horizon.is_some_and(|horizon| other.recovery_point <= horizon)).max_by_key(|other| (other.recovery_point, other.range.start));
                if let Some(anchor) = anchor {
                    prop_assert!(end <= anchor.range.start.0, "{segment} lies behind {anchor:?}");
                } else if in_window {
                    prop_assert!(end <= base.range.start.0, "{segment} lies behind {base:?}");
                }
            }
        }
        // Done and planned again: nothing more goes. Without a window nobody has to answer for anything.
        let left: Vec<log::File> = files.iter().filter(|file| !gone.contains(&file.name)).cloned().collect();
        prop_assert!(log::plan(&left, &needs, 0, keep).delete.is_empty());
        prop_assert!(keep.is_some() || decided.holes.is_empty());
        for file in &files {
            prop_assert!(!gone.contains(&file.name) || needs.may_go(file.name, file.written));
        }
    }
}
