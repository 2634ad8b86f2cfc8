use std::collections::BTreeSet;

use super::*;
use crate::domain::policy::{DrillUse, Policy, Schedule};
use crate::domain::queue::{Ended, EndedAs, Holder, Planned};
use crate::domain::run::Work;
use crate::domain::sample::{self, at};
use crate::domain::timetable::{Housekeeping, Terms, Window};

fn schedule(text: &str) -> Option<Schedule> {
    Some(Schedule { text: text.to_owned(), timezone: "UTC".to_owned() })
}

/// One policy: a backup (the first job) and a drill by these schedules.
fn policy(backup: &str, drill: Option<&str>) -> Policy {
    let mut policy = sample::policy();
    policy.backups.truncate(1);
    policy.backups[0].schedule = schedule(backup);
    policy.drills = drill
        .map(|text| DrillUse {
            drill: "restore-latest".parse().unwrap(),
            schedule: schedule(text),
            terms: Terms::default(),
        })
        .into_iter()
        .collect();
    policy
}

fn agenda(policy: &Policy, up_to: Option<&str>, now: &str) -> Agenda {
    let lines = lines(std::slice::from_ref(policy), &Housekeeping::default());
    let work = lines[0].work.clone();
    let planned = up_to.map(|instant| PlannedUpTo { policy: policy.name.clone(), work, instant: at(instant) });
    Agenda::new(lines, planned.as_slice(), at(now))
}

fn instants(due: &[Due]) -> Vec<Timestamp> {
    due.iter().map(|due| due.key.scheduled_for).collect()
}

fn planned(due: &Due, line: &Line, run: u128) -> Planned {
    place(due.clone(), line, sample::run(run), false)
}

#[test]
fn a_new_schedule_is_planned_ahead_and_then_when_it_is_due() {
    let policy = policy("0 3 * * *", None);
    let mut agenda = agenda(&policy, None, "2026-11-20T12:00:00Z");
    assert_eq!(instants(&agenda.look(at("2026-11-20T12:00:00Z"))), [at("2026-11-21T03:00:00Z")]);
    assert_eq!(agenda.look(at("2026-11-20T12:00:30Z")), []);
    assert_eq!(agenda.look(at("2026-11-21T03:00:00Z")), [], "it is planned already");
    assert_eq!(agenda.next(), Some(at("2026-11-22T03:00:00Z")));
    assert_eq!(agenda.planned_up_to(0, at("2026-11-21T02:59:59Z")), None, "what is planned ahead has not come");
    assert_eq!(agenda.planned_up_to(0, at("2026-11-21T03:00:00Z")), Some(at("2026-11-21T03:00:00Z")));
    assert_eq!(agenda.planned_up_to(1, at("2026-11-21T03:00:00Z")), None, "there is no such line");
    let due = agenda.look(at("2026-11-22T03:00:00Z"));
    assert_eq!((instants(&due), due[0].caught_up.clone()), (vec![at("2026-11-22T03:00:00Z")], None));
}

#[test]
fn after_downtime_the_newest_instant_is_caught_up_and_those_before_it_are_told() {
    let policy = policy("0 3 * * *", None);
    let mut agenda = agenda(&policy, Some("2026-11-10T03:00:00Z"), "2026-11-20T12:00:00Z");
    let due = agenda.look(at("2026-11-20T12:00:00Z"));
    assert_eq!(instants(&due), [at("2026-11-20T03:00:00Z")]);
    let told = CaughtUp { instants: 9, since: at("2026-11-11T03:00:00Z") };
    assert_eq!(due[0].caught_up, Some(told));
    assert_eq!(agenda.look(at("2026-11-20T12:00:01Z")), []);
}

#[test]
fn clocks_that_jump_lose_nothing_and_repeat_nothing() {
    let policy = policy("0 * * * *", None);
    // A clock that was ahead planned a year too far; the next instant by the right clock is planned ahead, and so on.
    let mut agenda = agenda(&policy, Some("2027-11-20T12:00:00Z"), "2026-11-20T12:10:00Z");
    assert_eq!(instants(&agenda.look(at("2026-11-20T12:10:00Z"))), [at("2026-11-20T13:00:00Z")]);
    assert_eq!(instants(&agenda.look(at("2026-11-20T14:00:00Z"))), [at("2026-11-20T14:00:00Z")]);
    // Forward: the newest by that clock. Back: the next by this one, and what was planned is a key that is there already.
    assert_eq!(instants(&agenda.look(at("2027-05-01T00:30:00Z"))), [at("2027-05-01T00:00:00Z")]);
    assert_eq!(instants(&agenda.look(at("2026-11-20T14:30:00Z"))), [at("2026-11-20T15:00:00Z")]);
    assert_eq!(agenda.look(at("2026-11-20T15:30:00Z")), []);
    assert_eq!(instants(&agenda.look(at("2026-11-20T16:00:01Z"))), [at("2026-11-20T16:00:00Z")]);
    // A second or two is no jump.
    assert_eq!(agenda.look(at("2026-11-20T15:59:59Z")), []);
}

#[test]
fn a_schedule_that_becomes_denser_is_not_waited_for() {
    let policy = policy("0 * * * *", None);
    let mut agenda = agenda(&policy, Some("2026-11-22T03:00:00Z"), "2026-11-20T12:10:00Z");
    assert_eq!(instants(&agenda.look(at("2026-11-20T12:10:00Z"))), [at("2026-11-20T13:00:00Z")]);
}

#[test]
fn runs_that_will_not_be_done_say_why() {
    let mut policy = policy("0 3 * * *", None);
    policy.backups[0].terms.catch_up = Some("2h".parse().unwrap());
    let mut agenda = agenda(&policy, Some("2026-11-19T03:00:00Z"), "2026-11-20T03:00:00Z");
    let due = agenda.look(at("2026-11-20T03:00:00Z"));
    let line = agenda.lines().next().unwrap().clone();
    let waiting = Place { planned: planned(&due[0], &line, 1), holder: None };
    let why = |agenda: &Agenda, place: &Place, now: &str| {
        agenda.hopeless(std::slice::from_ref(place), at(now)).first().map(|(_, why)| why.clone())
    };
    assert_eq!(why(&agenda, &waiting, "2026-11-20T05:00:00Z"), None);
    let late = why(&agenda, &waiting, "2026-11-20T05:00:01Z").unwrap();
    assert!(late.starts_with(TOO_LATE) && late.contains("2h"), "{late}");
    let holder = Holder { worker: "a".to_owned(), token: 1, until: at("2026-11-20T06:00:00Z") };
    let held = Place { holder: Some(holder), ..waiting.clone() };
    assert_eq!(why(&agenda, &held, "2026-11-21T05:00:01Z"), None, "what is done is nobody's business here");
    // A newer instant takes its place.
    agenda.look(at("2026-11-21T03:00:00Z"));
    assert!(why(&agenda, &waiting, "2026-11-21T03:00:00Z").unwrap().contains("takes its place"));
    // What has no schedule any more, no job, no policy.
    let mut without = policy.clone();
    without.backups[0].schedule = None;
    let of =
        |policies: &[Policy]| Agenda::new(lines(policies, &Housekeeping::default()), &[], at("2026-11-20T03:10:00Z"));
    assert!(why(&of(&[]), &waiting, "2026-11-20T03:10:00Z").unwrap().contains("policy orders is gone"));
    let mut other = without.clone();
    other.drills = vec![DrillUse {
        drill: "restore-latest".parse().unwrap(),
        schedule: schedule("@daily"),
        terms: Terms::default(),
    }];
    let gone = why(&of(&[other]), &waiting, "2026-11-20T03:10:00Z").unwrap();
    assert!(gone.contains("does not schedule a backup"), "{gone}");
    // Planned ahead, and then the schedule was changed.
    let mut moved = policy.clone();
    moved.backups[0].schedule = schedule("0 4 * * *");
    let mut ahead = waiting.clone();
    ahead.planned.key.scheduled_for = at("2026-11-21T03:00:00Z");
    ahead.planned.not_after = None;
    let changed = why(&of(&[moved.clone()]), &ahead, "2026-11-20T03:10:00Z").unwrap();
    assert!(changed.contains("changed"), "{changed}");
    assert_eq!(why(&of(&[policy.clone()]), &ahead, "2026-11-20T03:10:00Z"), None);
    // Once it has come, it is done.
    assert_eq!(why(&of(&[moved]), &ahead, "2026-11-21T03:00:00Z"), None);
}

#[test]
fn what_broke_is_tried_again_later_and_later_and_not_for_ever() {
    let policy = policy("0 3 * * *", Some("0 3 * * *"));
    let mut agenda = agenda(&policy, Some("2026-11-19T03:00:00Z"), "2026-11-20T03:00:00Z");
    let now = at("2026-11-20T03:10:00Z");
    let due = agenda.look(now);
    let lines: Vec<Line> = agenda.lines().cloned().collect();
    let house = Housekeeping::default();
    let ended = |work: usize, attempt: u32, how| {
        let mut planned = planned(&due[0], &lines[work], 1);
        (planned.key.work, planned.key.attempt) = (lines[work].work.clone(), attempt);
        planned.key.scheduled_for = at("2026-11-20T03:00:00Z");
        Ended { number: 1, planned, at: now, how }
    };
    let tried = |ended: Ended| again(&agenda, &[ended], &house, now).pop();
    for (attempt, minutes) in [(1, 5), (2, 10)] {
        for how in [EndedAs::Broke, EndedAs::Abandoned] {
            let due = tried(ended(0, attempt, how)).unwrap();
            assert_eq!((due.key.attempt, due.key.scheduled_for), (attempt + 1, at("2026-11-20T03:00:00Z")));
            assert_eq!(due.due_at, now.checked_add(jiff::SignedDuration::from_mins(minutes)).unwrap());
        }
    }
    assert_eq!(tried(ended(0, 3, EndedAs::Broke)), None, "three times is enough");
    for how in [EndedAs::Succeeded, EndedAs::Found, EndedAs::Missed, EndedAs::Unproven] {
        assert_eq!(tried(ended(0, 1, how)), None, "{how:?}");
    }
    assert!(tried(ended(1, 1, EndedAs::Unproven)).is_some(), "a drill that proved nothing");
    assert_eq!(tried(ended(1, 1, EndedAs::Found)), None, "a finding is a finding");
    // A newer instant does it.
    let mut old = ended(0, 1, EndedAs::Broke);
    old.planned.key.scheduled_for = at("2026-11-19T03:00:00Z");
    assert_eq!(tried(old), None);
    // Not beyond what was allowed to be late.
    let mut strict = policy.clone();
    strict.backups[0].terms.catch_up = Some("12m".parse().unwrap());
    let agenda = Agenda::new(super::lines(&[strict], &house), &[], now);
    assert_eq!(again(&agenda, &[ended(0, 1, EndedAs::Broke)], &house, now), []);
}

#[test]
fn attempts_lie_six_hours_apart_at_most_and_a_newer_instant_or_window_counts() {
    let now = at("2026-11-20T03:10:00Z");
    let house = Housekeeping { attempts: 40, ..Housekeeping::default() };
    let tried = |policy: &Policy, attempt: u32, how, ended_at: &str, up_to: &str, now: Timestamp| {
        let agenda = agenda(policy, Some(up_to), &now.to_string());
        let line = agenda.lines().next().unwrap();
        let mut planned = planned(&line.due(0, at("2026-11-20T03:00:00Z"), 1, None, None), line, 1);
        planned.key.attempt = attempt;
        again(&agenda, &[Ended { number: 1, planned, at: at(ended_at), how }], &house, now).pop()
    };
    let daily = policy("0 3 * * *", None);
    let three = "2026-11-20T03:00:00Z";
    let due = tried(&daily, 12, EndedAs::Broke, "2026-11-20T03:10:00Z", three, now).unwrap();
    assert_eq!(due.due_at, at("2026-11-20T09:10:00Z"));
    // By a clock that was ahead it ended in a time to come.
    let due = tried(&daily, 1, EndedAs::Broke, "2026-11-20T19:10:00Z", three, now).unwrap();
    assert_eq!(due.due_at, at("2026-11-20T03:15:00Z"));
    // The next hour's has been planned meanwhile.
    let hourly = policy("0 * * * *", None);
    let later = at("2026-11-20T04:10:00Z");
    assert_eq!(tried(&hourly, 1, EndedAs::Broke, "2026-11-20T03:30:00Z", "2026-11-20T04:00:00Z", later), None);
    assert!(tried(&hourly, 1, EndedAs::Broke, "2026-11-20T03:30:00Z", three, at("2026-11-20T03:31:00Z")).is_some());
    // A window that closed before a machine was free: the next one comes before the next instant.
    let time = |hour| jiff::civil::time(hour, 0, 0, 0);
    let mut weekly = policy("0 3 * * 5", None);
    weekly.backups[0].terms.window = Some(Window { from: time(2), to: time(5), days: vec![] });
    let due = tried(&weekly, 1, EndedAs::Missed, "2026-11-20T05:00:00Z", three, at("2026-11-20T05:00:00Z")).unwrap();
    assert_eq!((due.due_at, due.key.attempt), (at("2026-11-21T02:00:00Z"), 2));
    assert_eq!(tried(&daily, 1, EndedAs::Missed, "2026-11-20T05:00:00Z", three, at("2026-11-20T05:00:00Z")), None);
}

#[test]
fn what_nobody_takes_is_told_with_what_it_needs() {
    let policy = policy("0 3 * * *", Some("0 3 * * *"));
    let mut agenda = agenda(&policy, Some("2026-11-19T03:00:00Z"), "2026-11-20T03:00:00Z");
    let due = agenda.look(at("2026-11-20T03:00:00Z"));
    let lines: Vec<Line> = agenda.lines().cloned().collect();
    let mut waits = Place { planned: planned(&due[0], &lines[0], 1), holder: None };
    let (soon, later) = (at("2026-11-20T03:09:59Z"), at("2026-11-20T05:00:00Z"));
    assert_eq!(untaken(&waits, &Had::default(), later), None, "anybody may take it");
    waits.planned.needs.extend(["pg17".parse().unwrap(), "big-disk".parse().unwrap()]);
    assert_eq!(untaken(&waits, &Had::default(), soon), None, "not for long");
    assert!(untaken(&waits, &Had::default(), at("2026-11-20T03:10:00Z")).is_some());
    let told = untaken(&waits, &Had::default(), later).unwrap();
    assert_eq!(told, "no machine that offers big-disk, pg17 has taken it for 2h");
    // When it is missed, that is in its reason.
    let gone = at("2026-11-21T03:00:00Z");
    agenda.look(gone);
    let missed = agenda.hopeless(&[waits.clone()], gone);
    assert!(
        missed[0].1.ends_with("takes its place; no machine that offers big-disk, pg17 has taken it for 1d"),
        "{missed:?}"
    );
    // Another has what it must have alone: it waits for that.
    let holder = Holder { worker: "w".to_owned(), token: 1, until: later };
    waits.planned.alone_on = Some("db1".to_owned());
    let other = Place { holder: Some(holder.clone()), ..waits.clone() };
    assert_eq!(untaken(&waits, &Had::by(&[other]), later), None);
    assert!(untaken(&waits, &Had::default(), later).is_some());
    assert_eq!(untaken(&Place { holder: Some(holder), ..waits }, &Had::default(), later), None, "somebody does it");
}

#[test]
fn windows_are_waited_for_and_close() {
    let mut policy = policy("0 3 * * *", Some("0 12 * * *"));
    let time = |hour| jiff::civil::time(hour, 0, 0, 0);
    let window = |from, to, days| Some(Window { from: time(from), to: time(to), days });
    policy.drills[0].terms.window = window(22, 5, vec![]);
    policy.drills[0].schedule = Some(Schedule { text: "0 12 * * *".to_owned(), timezone: "Europe/Berlin".to_owned() });
    let agenda = agenda(&policy, None, "2026-11-20T00:00:00Z");
    let line = agenda.lines().nth(1).unwrap();
    let due = line.due(1, at("2026-11-20T11:00:00Z"), 1, None, None);
    assert_eq!(due.due_at, at("2026-11-20T21:00:00Z"));
    assert_eq!(due.not_after, Some(at("2026-11-21T03:59:59Z")));
    // Inside of it: at once.
    let due = line.due(1, at("2026-11-20T02:00:00Z"), 1, None, None);
    assert_eq!((due.due_at, due.not_after), (at("2026-11-20T02:00:00Z"), Some(at("2026-11-20T03:59:59Z"))));
    // A run whose window closed is tried in the next one.
    let missed =
        Ended { number: 1, planned: planned(&due, line, 1), at: at("2026-11-20T04:10:00Z"), how: EndedAs::Missed };
    let again = again(&agenda, &[missed], &Housekeeping::default(), at("2026-11-20T04:10:00Z"));
    assert_eq!(again, [], "the next instant comes before the next window");
    // On some days only.
    let zone = jiff::tz::TimeZone::UTC;
    let saturday = window(8, 10, vec![jiff::civil::Weekday::Saturday]).unwrap();
    assert_eq!(opens(&saturday, &zone, at("2026-11-20T09:00:00Z")), at("2026-11-21T08:00:00Z"));
    assert_eq!(opens(&saturday, &zone, at("2026-11-21T10:00:00Z")), at("2026-11-28T08:00:00Z"));
    // Over midnight it belongs to the day on which it opens.
    let night = window(22, 5, vec![jiff::civil::Weekday::Saturday]).unwrap();
    assert_eq!(opens(&night, &zone, at("2026-11-22T04:00:00Z")), at("2026-11-22T04:00:00Z"));
    assert_eq!(opens(&night, &zone, at("2026-11-21T04:00:00Z")), at("2026-11-21T22:00:00Z"));
}

#[test]
fn a_window_from_five_to_five_is_a_whole_day_and_one_that_a_change_of_clocks_swallows_is_none() {
    let time = |hour| jiff::civil::time(hour, 0, 0, 0);
    let utc = jiff::tz::TimeZone::UTC;
    let day = Window { from: time(5), to: time(5), days: vec![] };
    for moment in ["2026-11-20T04:59:59Z", "2026-11-20T05:00:00Z"].map(at) {
        assert_eq!(opens(&day, &utc, moment), moment);
    }
    assert_eq!(window::closes(&day, &utc, at("2026-11-20T04:59:59Z")), at("2026-11-20T04:59:59Z"));
    assert_eq!(window::closes(&day, &utc, at("2026-11-20T05:00:00Z")), at("2026-11-21T04:59:59Z"));
    // In the night in which it goes from two to three at once.
    let berlin = jiff::tz::TimeZone::get("Europe/Berlin").unwrap();
    let gone = Window { from: time(2), to: time(3), days: vec![] };
    assert_eq!(opens(&gone, &berlin, at("2026-03-29T00:00:00Z")), at("2026-03-30T00:00:00Z"));
}

#[test]
fn jitter_follows_from_the_key_alone_and_spreads() {
    let mut policy = policy("0 3 * * *", None);
    policy.backups[0].terms.jitter = Some("1h".parse().unwrap());
    let line = lines(&[policy.clone()], &Housekeeping::default()).remove(0);
    let first = at("2026-11-20T03:00:00Z");
    let spread: BTreeSet<i64> = (0..200)
        .map(|day| first.checked_add(jiff::SignedDuration::from_hours(24 * day)).unwrap())
        .map(|instant| {
            let due = line.due(0, instant, 1, None, None);
            assert_eq!(
                due,
                lines(&[policy.clone()], &Housekeeping::default()).remove(0).due(0, instant, 1, None, None)
            );
            due.due_at.duration_since(instant).as_secs()
        })
        .collect();
    assert!(spread.iter().all(|seconds| (0..=3_600).contains(seconds)) && spread.len() > 150, "{spread:?}");
    // Neither end is left out.
    policy.backups[0].terms.jitter = Some("1s".parse().unwrap());
    let line = lines(&[policy], &Housekeeping::default()).remove(0);
    let days = (0..60).map(|day| first.checked_add(jiff::SignedDuration::from_hours(24 * day)).unwrap());
    let spread: BTreeSet<i64> = days.map(|day| line.with_jitter(day).duration_since(day).as_secs()).collect();
    assert_eq!(spread, BTreeSet::from([0, 1]));
}

#[test]
fn runs_exclude_each_other_where_they_must_and_go_in_their_order() {
    let mut policy = policy("0 3 * * *", Some("0 4 * * *"));
    policy.backups[0].copies = vec!["far".parse().unwrap()];
    policy.backups[0].terms.needs = BTreeSet::from(["pg17".parse().unwrap()]);
    let house = Housekeeping {
        prune: schedule("@daily"),
        copy: schedule("@daily"),
        verify: schedule("@daily"),
        drift: schedule("every 6h"),
        jitter: Some("30m".parse().unwrap()),
        ..Housekeeping::default()
    };
    let all = lines(&[policy.clone()], &house);
    let works: Vec<String> = all.iter().map(|line| line.work.title()).collect();
    assert_eq!(
        works,
        [
            format!("backup {}", policy.backups[0].name),
            "drill restore-latest".to_owned(),
            "prune".to_owned(),
            "copy".to_owned(),
            "verify with a budget".to_owned(),
            "drift".to_owned(),
        ]
    );
    assert!(all[2..].iter().all(|line| line.alone_on == all[2].alone_on), "what changes stores goes one by one");
    assert!(all[2..].iter().all(|line| line.terms.jitter == house.jitter) && all[0].terms.jitter.is_none());
    let needs: Vec<String> = all[0].needs().iter().map(ToString::to_string).collect();
    assert_eq!(needs, ["lifeboat-backup", "pg17"]);
    let order = |overdue| all.iter().map(|line| Class::of(&line.work).priority(overdue)).collect::<Vec<_>>();
    assert!(order(false).is_sorted() && order(true)[1] < order(false)[1]);
    // Policies of one server share it.
    let mut other = policy.clone();
    other.source.url = other.source.url.replace("lifeboat@/orders", "backup@/stock");
    assert_eq!(lines(&[other.clone()], &house)[0].alone_on, all[0].alone_on);
    other.source.url = "postgresql://backup@db2:5433/stock?sslmode=require".to_owned();
    assert_eq!(lines(&[other], &house)[0].alone_on, "source db2:5433");
    // Without being asked to, nothing is deleted.
    assert!(lines(&[policy], &Housekeeping::default()).iter().all(|line| line.work != Work::Prune));
}

#[test]
fn a_proof_that_is_too_old_makes_its_drill_go_first() {
    let (policy, now) = (sample::policy(), at("2026-11-20T00:00:00Z"));
    assert!(overdue(None, &policy, now));
    assert!(overdue(Some(at("2026-11-12T23:59:59Z")), &policy, now));
    assert!(!overdue(Some(at("2026-11-13T00:00:00Z")), &policy, now));
}

#[test]
fn what_comes_is_shown_with_its_reasons() {
    let mut policy = policy("0 3 * * *", Some("0 12 * * 0"));
    policy.drills[0].terms.needs = BTreeSet::from(["big-disk".parse().unwrap()]);
    let now = at("2026-11-20T12:00:00Z");
    let all = lines(&[policy.clone()], &Housekeeping::default());
    let up_to = [
        PlannedUpTo { policy: policy.name.clone(), work: all[0].work.clone(), instant: at("2026-11-18T03:00:00Z") },
        PlannedUpTo { policy: policy.name.clone(), work: all[1].work.clone(), instant: at("2026-11-15T12:00:00Z") },
    ];
    let running = all[1].due(1, at("2026-11-15T12:00:00Z"), 2, None, None);
    let holder = Holder { worker: "host/1/2".to_owned(), token: 1, until: now };
    let places = [Place { planned: planned(&running, &all[1], 1), holder: Some(holder) }];
    let shown = ahead(all, &up_to, &places, &BTreeSet::new(), 4, now);
    let told: Vec<(Stage, String, String)> =
        shown.iter().map(|entry| (entry.stage, entry.key.scheduled_for.to_string(), entry.why.join("; "))).collect();
    let ahead = |instant: &str, why: &str| (Stage::Ahead, instant.to_owned(), why.to_owned());
    assert_eq!(
        told,
        [
            (Stage::Running, "2026-11-15T12:00:00Z".to_owned(), "tried again, attempt 2; host/1/2 does it".to_owned()),
            ahead(
                "2026-11-20T03:00:00Z",
                "caught up: one instant before it was not planned, since 2026-11-19T03:00:00Z; scheduled"
            ),
            ahead("2026-11-21T03:00:00Z", "scheduled"),
            ahead("2026-11-22T03:00:00Z", "scheduled"),
            ahead("2026-11-22T12:00:00Z", "scheduled; needs big-disk, which this machine does not offer"),
        ]
    );
    assert_eq!(shown[1].local, "2026-11-20 03:00 UTC");
}

#[test]
fn what_is_planned_ahead_is_shown_once_and_beside_it_as_many_as_were_asked_for() {
    let policy = policy("0 3 * * *", None);
    let now = at("2026-11-20T12:00:00Z");
    let all = lines(std::slice::from_ref(&policy), &Housekeeping::default());
    let first = at("2026-11-21T03:00:00Z");
    let up_to = [PlannedUpTo { policy: policy.name.clone(), work: all[0].work.clone(), instant: first }];
    let planned = planned(&all[0].due(0, first, 1, None, None), &all[0], 1);
    let shown = ahead(all, &up_to, &[Place { planned, holder: None }], &BTreeSet::new(), 2, now);
    let told: Vec<(Stage, String)> =
        shown.iter().map(|entry| (entry.stage, entry.key.scheduled_for.to_string())).collect();
    let at = |stage, day| (stage, format!("2026-11-{day}T03:00:00Z"));
    assert_eq!(told, [at(Stage::Waiting, 21), at(Stage::Ahead, 22), at(Stage::Ahead, 23)]);
}

#[test]
fn each_run_that_comes_says_what_it_waits_for() {
    let time = |hour| jiff::civil::time(hour, 0, 0, 0);
    let shown = |change: &dyn Fn(&mut Terms), now: &str| {
        let mut policy = policy("0 3 * * *", None);
        change(&mut policy.backups[0].terms);
        let all = lines(&[policy.clone()], &Housekeeping::default());
        let up_to =
            [PlannedUpTo { policy: policy.name, work: all[0].work.clone(), instant: at("2026-11-20T03:00:00Z") }];
        let first = ahead(all, &up_to, &[], &BTreeSet::new(), 1, at(now)).remove(0);
        (first.due_at, first.why.join("; "))
    };
    let window = |from, to| Some(Window { from: time(from), to: time(to), days: vec![] });
    let before = "2026-11-20T12:00:00Z";
    let (due, why) = shown(&|terms| terms.window = window(5, 7), before);
    assert_eq!((due, why.as_str()), (at("2026-11-21T05:00:00Z"), "waits for its window"));
    for windows in [None, window(0, 23)] {
        let (due, why) = shown(
            &|terms| {
                terms.jitter = Some("1h".parse().unwrap());
                terms.window = windows.clone();
            },
            before,
        );
        assert!(due > at("2026-11-21T03:00:00Z") && why.starts_with("scheduled, with "), "{due} {why}");
    }
    // As late as it may be, and a second later.
    let two = |terms: &mut Terms| terms.catch_up = Some("2h".parse().unwrap());
    assert_eq!(shown(&two, "2026-11-21T05:00:00Z").1, "scheduled");
    assert_eq!(shown(&two, "2026-11-21T05:00:01Z").1, "too late: it will be missed");
    // Its window opens as late as that, or later.
    for (opens, why) in [(5, "waits for its window"), (6, "too late: it will be missed")] {
        let found = shown(
            &|terms| {
                two(terms);
                terms.window = window(opens, 9);
            },
            before,
        );
        assert_eq!(found.1, why, "{opens}");
    }
    // One that is tried again.
    let policy = policy("0 3 * * *", None);
    let all = lines(std::slice::from_ref(&policy), &Housekeeping::default());
    let mut planned = planned(&all[0].due(0, at("2026-11-20T03:00:00Z"), 2, None, None), &all[0], 1);
    planned.due_at = at("2026-11-20T03:20:00Z");
    let place = Place { planned, holder: None };
    let up_to = [PlannedUpTo { policy: policy.name, work: all[0].work.clone(), instant: at("2026-11-20T03:00:00Z") }];
    let first = ahead(all, &up_to, &[place], &BTreeSet::new(), 1, at("2026-11-20T03:10:00Z")).remove(0);
    assert_eq!(first.why, ["tried again, attempt 2", "waits until it is tried again"]);
}

#[test]
fn why_a_run_is_not_begun_any_more_is_what_stopped_it() {
    let time = |hour| jiff::civil::time(hour, 0, 0, 0);
    let mut policy = policy("0 3 * * *", None);
    let words = |policy: &Policy, now: &str| {
        let line = lines(std::slice::from_ref(policy), &Housekeeping::default()).remove(0);
        let planned = planned(&line.due(0, at("2026-11-20T03:00:00Z"), 1, None, None), &line, 1);
        line.too_late(&planned, at(now))
    };
    let day = "2026-11-20T09:00:00Z";
    assert_eq!(words(&policy, day), "too late: it was not to be begun any more");
    policy.backups[0].terms.window = Some(Window { from: time(2), to: time(4), days: vec![] });
    assert_eq!(words(&policy, day), "its window closed before it was begun");
    policy.backups[0].terms.catch_up = Some("2h".parse().unwrap());
    assert_eq!(words(&policy, "2026-11-20T05:00:00Z"), "its window closed before it was begun");
    let late = words(&policy, "2026-11-20T05:00:01Z");
    assert_eq!(late, "too late: it was due at 2026-11-20T03:00:00Z and is not begun more than 2h after");
}

#[test]
fn what_waits_says_for_whom() {
    let policy = policy("0 3 * * *", None);
    let all = lines(std::slice::from_ref(&policy), &Housekeeping::default());
    let three = at("2026-11-20T03:00:00Z");
    let up_to = [PlannedUpTo { policy: policy.name.clone(), work: all[0].work.clone(), instant: three }];
    let waits = Place { planned: planned(&all[0].due(0, three, 1, None, None), &all[0], 1), holder: None };
    let why = |others: &[Place], now: &str| {
        let places: Vec<Place> = std::iter::once(waits.clone()).chain(others.iter().cloned()).collect();
        let shown = ahead(all.clone(), &up_to, &places, &BTreeSet::new(), 1, at(now));
        shown.iter().find(|entry| entry.stage == Stage::Waiting).unwrap().why.join("; ")
    };
    assert_eq!(why(&[], "2026-11-20T02:59:59Z"), "scheduled");
    for now in ["2026-11-20T03:00:00Z", "2026-11-20T03:10:00Z"] {
        assert_eq!(why(&[], now), "waits for a free worker");
    }
    let has = |thing: &str| {
        let mut place = waits.clone();
        place.planned.run = sample::run(2);
        place.planned.key.policy = "billing".parse().unwrap();
        place.planned.alone_on = Some(thing.to_owned());
        place.holder = Some(Holder { worker: "w".to_owned(), token: 1, until: at("2026-11-20T06:00:00Z") });
        place
    };
    let (same, other) = (has(&all[0].alone_on), has("source of another"));
    assert_eq!(why(std::slice::from_ref(&other), "2026-11-20T03:10:00Z"), "waits for a free worker");
    let idle = Place { holder: None, ..same.clone() };
    assert_eq!(why(&[idle], "2026-11-20T03:10:00Z"), "waits for a free worker");
    let told = why(&[other, same], "2026-11-20T03:10:00Z");
    assert_eq!(told, format!("waits for {}: {} of billing has it", all[0].alone_on, all[0].work.title()));
}
