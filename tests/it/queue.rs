//! The contract of a queue: of one key one run, one claim at a time, and nothing by who came too late.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lifeboat::catalog::{Catalog, Opened, Queue, SqliteCatalog};
use lifeboat::domain::ids::{PolicyName, RunId};
use lifeboat::domain::queue::{CaughtUp, Claim, Ended, EndedAs, Hold, Planned, RunKey, Worker};
use lifeboat::domain::run::{Event, EventId, RunOutcome, RunState, Work};
use lifeboat::domain::units::Span;

use crate::support::sample::{self, at};

const NOON: &str = "2026-11-20T12:00:00Z";
const LEASE: Span = Span::from_secs(60);

fn noon(seconds: i64) -> Timestamp {
    at(NOON) + SignedDuration::from_secs(seconds)
}

/// The `n`th run: of policy orders, job `nightly`, scheduled `n` seconds after noon and due then.
fn planned(n: u32) -> Planned {
    let scheduled_for = noon(i64::from(n));
    Planned {
        run: sample::run(u128::from(n) + 1_000),
        key: RunKey {
            policy: "orders".parse().unwrap(),
            work: Work::Backup { job: "nightly".parse().unwrap() },
            scheduled_for,
            attempt: 1,
        },
        due_at: scheduled_for,
        not_after: None,
        priority: 10,
        alone_on: None,
        needs: BTreeSet::new(),
        caught_up: None,
    }
}

fn worker(name: &str, labels: &[&str]) -> Worker {
    Worker { name: name.to_owned(), labels: labels.iter().map(|label| label.parse().unwrap()).collect() }
}

fn done() -> Event {
    Event::Finished { outcome: RunOutcome::Succeeded }
}

fn started() -> Event {
    Event::Started { host: "db1".to_owned(), pid: 42, pid_started: 777 }
}

async fn claim(queue: &dyn Queue, seconds: i64, who: &Worker) -> Option<Claim> {
    queue.claim(noon(seconds), who, LEASE).await.unwrap()
}

/// Ends a claim well.
async fn finish(queue: &dyn Queue, claim: &Claim) {
    assert_eq!(queue.append_held(noon(900), claim, EventId::new(), done()).await.unwrap(), Hold::Held);
}

async fn state(catalog: &dyn Catalog, run: RunId) -> RunState {
    catalog.run(run).await.unwrap().unwrap().state
}

async fn order(queue: &dyn Queue) -> Vec<RunId> {
    queue.places().await.unwrap().iter().map(|place| place.planned.run).collect()
}

/// The number of what ended last without having been done.
async fn newest(queue: &dyn Queue) -> u64 {
    queue.undone(None, 1).await.unwrap().last().map_or(0, |one| one.number)
}

/// Whatever ended without having been done is told in the order in which it ended, with its key; and what nobody planned is told with the run that makes up for it.
async fn what_ended_is_told(opened: &Opened) {
    let (queue, catalog) = (&*opened.queue, &*opened.catalog);
    let worker = worker("teller", &["told"]);
    let run = |n: u32| {
        let mut planned = planned(n);
        planned.needs = worker.labels.clone();
        planned
    };
    let skipped = CaughtUp { instants: 3, since: noon(5_000) };
    let first = Planned { caught_up: Some(skipped), ..run(6_000) };
    let (second, third, fourth) = (run(6_001), run(6_002), run(6_003));
    queue.plan(noon(5_900), vec![first.clone(), second.clone(), third.clone(), fourth.clone()]).await.unwrap();
    assert_eq!(queue.plan(noon(5_901), vec![first.clone()]).await.unwrap(), [], "and told once");
    let before = newest(queue).await;
    let claims = [claim(queue, 6_010, &worker).await.unwrap(), claim(queue, 6_010, &worker).await.unwrap()];
    assert_eq!(queue.append_held(noon(6_020), &claims[0], EventId::new(), done()).await.unwrap(), Hold::Held);
    assert_eq!(queue.lapse(noon(6_090)).await.unwrap(), [claims[1].planned.run]);
    assert!(queue.miss(noon(6_091), third.run, "no".to_owned()).await.unwrap());
    let claimed = claim(queue, 6_100, &worker).await.unwrap();
    let outcome = RunOutcome::Broke { error: "x".to_owned(), hint: None };
    assert_eq!(
        queue.append_held(noon(6_101), &claimed, EventId::new(), Event::Finished { outcome }).await.unwrap(),
        Hold::Held
    );
    let told = |found: &[Ended]| found.iter().map(|one| (one.planned.key.clone(), one.at, one.how)).collect::<Vec<_>>();
    let all = [
        (second.key.clone(), noon(6_090), EndedAs::Abandoned),
        (third.key, noon(6_091), EndedAs::Missed),
        (fourth.key.clone(), noon(6_101), EndedAs::Broke),
    ];
    let found = queue.undone(Some(before), 100).await.unwrap();
    assert_eq!(told(&found), all, "what was done is not to be done");
    assert!(found.iter().map(|one| one.number).is_sorted_by(|one, next| one < next), "{found:?}");
    assert_eq!(queue.undone(Some(found[0].number), 100).await.unwrap(), found[1..]);
    assert_eq!(queue.undone(Some(before), 2).await.unwrap(), found[..2], "the first of those after it");
    assert_eq!(queue.undone(None, 2).await.unwrap(), found[1..], "the newest of all");
    assert_eq!(queue.undone(None, 3).await.unwrap(), found);
    assert_eq!(queue.undone(Some(found[2].number), 100).await.unwrap(), []);
    let mut further = Planned { run: RunId(uuid::Uuid::now_v7()), ..run(6_001) };
    further.key.attempt = 2;
    queue.plan(noon(6_102), vec![further.clone()]).await.unwrap();
    assert_eq!(queue.undone(Some(before), 100).await.unwrap(), found[1..], "what is tried again already is not told");
    // By a clock that is a year ahead, and by one that was set right again: the order is that in which they ended.
    let year = 366 * 86_400;
    assert!(queue.miss(noon(year), further.run, "no".to_owned()).await.unwrap());
    let last = run(6_004);
    queue.plan(noon(6_104), vec![last.clone()]).await.unwrap();
    assert!(queue.miss(noon(6_105), last.run, "no".to_owned()).await.unwrap());
    let after = queue.undone(Some(found[2].number), 100).await.unwrap();
    let both = [(further.key, noon(year), EndedAs::Missed), (last.key, noon(6_105), EndedAs::Missed)];
    assert_eq!(told(&after), both);
    assert_eq!(told(&queue.undone(None, 1).await.unwrap()), both[1..]);
    let up_to = queue.planned_up_to().await.unwrap();
    assert!(up_to.iter().any(|one| one.instant == noon(6_004)));
    assert!(catalog.run(first.run).await.unwrap().is_some());
}

/// Every implementation passes this, from an empty catalog.
pub(crate) async fn contract(opened: &Opened) {
    keys_are_planned_once(opened).await;
    claims_follow_the_order(opened).await;
    claims_follow_the_conditions(opened).await;
    what_is_alone_is_alone(opened).await;
    leases_lapse(opened).await;
    late_workers_write_nothing(opened).await;
    what_was_not_begun_can_be_given_back(opened).await;
    what_waits_can_be_missed(opened).await;
    what_ended_is_told(opened).await;
    ends_outside_of_the_queue_end_the_place(opened).await;
}

async fn keys_are_planned_once(Opened { catalog, queue, .. }: &Opened) {
    let who = worker("a", &[]);
    assert!(queue.places().await.unwrap().is_empty());
    assert!(queue.planned_up_to().await.unwrap().is_empty());
    assert!(claim(&**queue, 0, &who).await.is_none());
    assert!(queue.lapse(noon(0)).await.unwrap().is_empty());
    assert!(queue.plan(noon(0), vec![]).await.unwrap().is_empty());

    let mut first = planned(1);
    first.needs = BTreeSet::from(["pg17".parse().unwrap()]);
    first.alone_on = Some("orders-db".to_owned());
    first.not_after = Some(noon(500));
    first.due_at = noon(1) + SignedDuration::from_micros(250);
    assert_eq!(queue.plan(noon(-60), vec![first.clone(), planned(2)]).await.unwrap(), [first.run, planned(2).run]);
    let run = catalog.run(first.run).await.unwrap().unwrap();
    assert_eq!((run.state, run.scheduled_for), (RunState::Planned, Some(first.key.scheduled_for)));
    assert_eq!((run.planned_at, run.work), (noon(-60), first.key.work.clone()));
    // What comes out is what was put in.
    assert_eq!(queue.places().await.unwrap()[0].planned, first);

    // The same keys under other names, and one that is new among them.
    let again = |n: u32| Planned { run: RunId(uuid::Uuid::now_v7()), priority: 1, ..planned(n) };
    let third = again(3);
    assert_eq!(queue.plan(noon(-59), vec![again(1), third.clone(), again(2)]).await.unwrap(), [third.run]);
    assert_eq!(catalog.runs(None, 100).await.unwrap().len(), 3, "no event for what was known");

    // A second attempt is another run; another job and another policy too.
    let mut second = again(1);
    second.key.attempt = 2;
    let mut other_job = again(1);
    other_job.key.work = Work::Drill { drill: "restore-latest".parse().unwrap() };
    let mut other_policy = again(1);
    other_policy.key.policy = "billing".parse().unwrap();
    let all = vec![second.clone(), other_job.clone(), other_policy.clone()];
    assert_eq!(queue.plan(noon(-58), all).await.unwrap().len(), 3);
    let upto = queue.planned_up_to().await.unwrap();
    let told: BTreeSet<_> = upto.iter().map(|one| (one.policy.to_string(), one.work.title(), one.instant)).collect();
    let expected = [
        ("billing".to_owned(), "backup nightly".to_owned(), noon(1)),
        ("orders".to_owned(), "backup nightly".to_owned(), noon(3)),
        ("orders".to_owned(), "drill restore-latest".to_owned(), noon(1)),
    ];
    assert_eq!(told, BTreeSet::from(expected));

    // A key stays known after its run has ended.
    for run in [first.run, planned(2).run, third.run, second.run, other_job.run, other_policy.run] {
        assert!(queue.miss(noon(0), run, "the test is over".to_owned()).await.unwrap());
    }
    assert!(queue.places().await.unwrap().is_empty());
    assert!(queue.plan(noon(0), vec![again(1), again(2), again(3)]).await.unwrap().is_empty());
    assert_eq!(queue.planned_up_to().await.unwrap().len(), 3);
}

async fn claims_follow_the_order(Opened { queue, .. }: &Opened) {
    let who = worker("a", &[]);
    let mut urgent = planned(13);
    urgent.priority = 1;
    let mut jittered = planned(11);
    jittered.due_at = noon(14);
    let all = vec![planned(12), jittered.clone(), urgent.clone(), planned(15)];
    assert_eq!(queue.plan(noon(0), all).await.unwrap().len(), 4);
    let expected = [urgent.run, planned(12).run, jittered.run, planned(15).run];
    assert_eq!(order(&**queue).await, expected);
    assert!(claim(&**queue, 11, &who).await.is_none(), "nothing is due before its time");
    let mut claims = Vec::new();
    // At 14 s the last of them is not due yet.
    for run in [urgent.run, planned(12).run, jittered.run] {
        let one = claim(&**queue, 14, &who).await.unwrap();
        assert_eq!((one.planned.run, one.until), (run, noon(14 + 60)));
        claims.push(one);
    }
    assert!(claim(&**queue, 14, &who).await.is_none());
    let tokens: Vec<u64> = claims.iter().map(|one| one.token).collect();
    assert!(tokens.windows(2).all(|pair| pair[0] < pair[1]), "{tokens:?}");
    let last = claim(&**queue, 15, &who).await.unwrap();
    finish(&**queue, &last).await;
    // Those that are claimed come first, and say who has them.
    queue.plan(noon(0), vec![planned(10)]).await.unwrap();
    let places = queue.places().await.unwrap();
    assert_eq!(places.len(), 4);
    assert!(places[..3].iter().all(|place| place.holder.as_ref().is_some_and(|holder| holder.worker == "a")));
    assert_eq!(places[0].holder.as_ref().unwrap().token, tokens[0]);
    assert_eq!((places[3].planned.run, &places[3].holder), (planned(10).run, &None));
    // Those whose instant has come are the claimed ones and no others, as long as it has not.
    assert_eq!(queue.places_come(noon(9)).await.unwrap(), places[..3]);
    assert_eq!(queue.places_come(noon(10)).await.unwrap(), places);
    let tally = queue.tally().await.unwrap();
    assert_eq!((tally.running, tally.due_at), (3, vec![planned(10).due_at]));
    for one in &claims {
        finish(&**queue, one).await;
    }
    let one = claim(&**queue, 100, &who).await.unwrap();
    assert!(one.token > last.token, "also after earlier claims have ended");
    finish(&**queue, &one).await;
}

async fn claims_follow_the_conditions(Opened { queue, .. }: &Opened) {
    let mut needy = planned(20);
    needy.needs = ["pg17".parse().unwrap(), "big-disk".parse().unwrap()].into();
    let mut brief = planned(21);
    brief.not_after = Some(noon(30));
    queue.plan(noon(0), vec![needy.clone(), brief.clone()]).await.unwrap();
    // Needs: all of them, and more does no harm.
    let nobody = worker("n", &["pg17", "disk"]);
    let both = worker("b", &["big-disk", "eu", "pg17"]);
    assert!(claim(&**queue, 31, &nobody).await.is_none(), "one it may not have, the other is too late");
    let late = claim(&**queue, 31, &both).await.unwrap();
    assert_eq!(late.planned, needy);
    assert!(claim(&**queue, 31, &both).await.is_none());
    // The last moment is still in time.
    let last = claim(&**queue, 30, &nobody).await.unwrap();
    assert_eq!(last.planned.run, brief.run);
    finish(&**queue, &late).await;
    finish(&**queue, &last).await;
}

async fn what_is_alone_is_alone(Opened { queue, .. }: &Opened) {
    let who = worker("a", &[]);
    let on = |n: u32, what: &str| Planned { alone_on: Some(what.to_owned()), ..planned(n) };
    queue.plan(noon(0), vec![on(40, "db1"), on(41, "db1"), on(42, "db2"), planned(43)]).await.unwrap();
    let first = claim(&**queue, 50, &who).await.unwrap();
    let second = claim(&**queue, 50, &who).await.unwrap();
    let third = claim(&**queue, 50, &who).await.unwrap();
    let runs = [&first, &second, &third].map(|one| one.planned.run);
    assert_eq!(runs, [planned(40).run, planned(42).run, planned(43).run], "db1 is taken");
    assert!(claim(&**queue, 50, &who).await.is_none());
    // A lease that ran out frees nothing until the run is given up: its process may yet be at work.
    assert!(claim(&**queue, 500, &who).await.is_none());
    finish(&**queue, &first).await;
    let next = claim(&**queue, 50, &who).await.unwrap();
    assert_eq!(next.planned.run, planned(41).run);
    for one in [second, third, next] {
        finish(&**queue, &one).await;
    }
}

async fn leases_lapse(Opened { catalog, queue, .. }: &Opened) {
    let who = worker("slow", &[]);
    queue.plan(noon(0), vec![planned(60), planned(61), planned(62)]).await.unwrap();
    let (first, second) = (claim(&**queue, 100, &who).await.unwrap(), claim(&**queue, 100, &who).await.unwrap());
    assert_eq!(queue.renew(noon(150), &second, LEASE).await.unwrap(), Hold::Held);
    assert_eq!(queue.places().await.unwrap()[1].holder.as_ref().unwrap().until, noon(210));
    assert!(queue.lapse(noon(160)).await.unwrap().is_empty(), "its last moment is its own");
    assert_eq!(queue.lapse(noon(161)).await.unwrap(), [first.planned.run], "one was renewed, one waits");
    assert!(queue.lapse(noon(161)).await.unwrap().is_empty());
    let RunState::Abandoned(why) = state(&**catalog, first.planned.run).await else { panic!("it was given up") };
    assert!(why.contains("lease") && why.contains("slow"), "{why}");
    assert_eq!(order(&**queue).await, [second.planned.run, planned(62).run]);
    assert_eq!(queue.renew(noon(162), &first, LEASE).await.unwrap(), Hold::Lost);
    // A lease that ran out and was not given up yet can be renewed.
    assert_eq!(queue.renew(noon(300), &second, LEASE).await.unwrap(), Hold::Held);
    finish(&**queue, &second).await;
    // A clock that was a day ahead and is set back: whoever is there renews; a lease of who is not is not good for a day.
    let day = 86_400;
    queue.plan(noon(0), vec![planned(63)]).await.unwrap();
    let alive = claim(&**queue, day, &who).await.unwrap();
    let gone = claim(&**queue, day, &who).await.unwrap();
    assert!(queue.lapse(noon(day - 59)).await.unwrap().is_empty(), "set back a little, it is a lease as any");
    assert_eq!(queue.renew(noon(400), &alive, LEASE).await.unwrap(), Hold::Held);
    assert_eq!(queue.lapse(noon(401)).await.unwrap(), [gone.planned.run]);
    let RunState::Abandoned(why) = state(&**catalog, gone.planned.run).await else { panic!("it was given up") };
    assert!(why.contains("clock that was ahead"), "{why}");
    finish(&**queue, &alive).await;
}

async fn late_workers_write_nothing(Opened { catalog, queue, .. }: &Opened) {
    let who = worker("late", &[]);
    queue.plan(noon(0), vec![planned(70)]).await.unwrap();
    let held = claim(&**queue, 100, &who).await.unwrap();
    let run = held.planned.run;
    assert_eq!(queue.append_held(noon(101), &held, EventId::new(), started()).await.unwrap(), Hold::Held);
    assert!(matches!(state(&**catalog, run).await, RunState::Running { .. }));
    // Somebody else's token, of the same run.
    let forged = Claim { token: held.token + 1, ..held.clone() };
    for wrong in [&forged, &Claim { token: held.token - 1, ..held.clone() }] {
        assert_eq!(queue.append_held(noon(102), wrong, EventId::new(), done()).await.unwrap(), Hold::Lost);
        assert_eq!(queue.renew(noon(102), wrong, LEASE).await.unwrap(), Hold::Lost);
        assert_eq!(queue.let_go(wrong).await.unwrap(), Hold::Lost);
    }
    assert!(matches!(state(&**catalog, run).await, RunState::Running { .. }));
    assert_eq!(queue.lapse(noon(200)).await.unwrap(), [run]);
    let artifact = sample::artifact(lifeboat::domain::policy::Method::Logical, "2026-11-20T12:00:00Z", 77);
    for event in [Event::Committed(artifact), done()] {
        assert_eq!(queue.append_held(noon(201), &held, EventId::new(), event).await.unwrap(), Hold::Lost);
    }
    assert!(matches!(state(&**catalog, run).await, RunState::Abandoned(_)));
    let orders: PolicyName = "orders".parse().unwrap();
    assert!(catalog.artifacts(&orders).await.unwrap().is_empty(), "nothing of a late worker is written");

    // After an end in time, nothing more; and who asks again because an answer was lost on its way hears that it was written, and writes nothing twice.
    queue.plan(noon(0), vec![planned(71), planned(72)]).await.unwrap();
    let held = claim(&**queue, 100, &who).await.unwrap();
    let (made, ids) = (EventId::new(), [EventId::new(), EventId::new()]);
    let scratch = || Event::ScratchMade { name: "a scratch that is made once".to_owned() };
    for _ in 0..2 {
        assert_eq!(queue.append_held(noon(100), &held, ids[0], started()).await.unwrap(), Hold::Held);
        assert_eq!(queue.append_held(noon(100), &held, made, scratch()).await.unwrap(), Hold::Held);
    }
    assert_eq!(catalog.scratches_owed().await.unwrap().len(), 1, "written once");
    let gone = Event::ScratchDestroyed { name: "a scratch that is made once".to_owned(), swept: false };
    assert_eq!(queue.append_held(noon(100), &held, EventId::new(), gone).await.unwrap(), Hold::Held);
    for _ in 0..2 {
        assert_eq!(queue.append_held(noon(101), &held, ids[1], done()).await.unwrap(), Hold::Held);
    }
    assert_eq!(state(&**catalog, held.planned.run).await, RunState::Ended(RunOutcome::Succeeded));
    assert_eq!(
        queue.append_held(noon(102), &held, ids[0], started()).await.unwrap(),
        Hold::Held,
        "it was written then"
    );
    // What another run wrote is nothing of this one's.
    let other = claim(&**queue, 100, &who).await.unwrap();
    let forged = Claim { token: other.token + 1, ..other.clone() };
    assert_eq!(queue.append_held(noon(102), &forged, ids[1], done()).await.unwrap(), Hold::Lost);
    finish(&**queue, &other).await;
    let late = Event::Abandoned { why: "no".to_owned() };
    assert_eq!(queue.append_held(noon(202), &held, EventId::new(), late).await.unwrap(), Hold::Lost);
    assert!(queue.places().await.unwrap().is_empty());
    assert!(queue.lapse(noon(10_000)).await.unwrap().is_empty());
}

async fn what_was_not_begun_can_be_given_back(Opened { queue, .. }: &Opened) {
    let (one, two) = (worker("one", &[]), worker("two", &[]));
    queue.plan(noon(0), vec![planned(80)]).await.unwrap();
    let held = claim(&**queue, 100, &one).await.unwrap();
    assert_eq!(queue.let_go(&held).await.unwrap(), Hold::Held);
    assert_eq!(queue.places().await.unwrap()[0].holder, None);
    assert_eq!(queue.let_go(&held).await.unwrap(), Hold::Lost);
    assert_eq!(queue.append_held(noon(101), &held, EventId::new(), started()).await.unwrap(), Hold::Lost);
    let other = claim(&**queue, 102, &two).await.unwrap();
    assert_eq!(other.planned.run, held.planned.run);
    assert!(other.token > held.token);
    assert_eq!(queue.renew(noon(103), &held, LEASE).await.unwrap(), Hold::Lost);
    assert_eq!(queue.append_held(noon(103), &other, EventId::new(), started()).await.unwrap(), Hold::Held);
    assert!(queue.let_go(&other).await.is_err(), "what was begun is not begun again by another");
    finish(&**queue, &other).await;
}

async fn what_waits_can_be_missed(Opened { catalog, queue, .. }: &Opened) {
    let who = worker("a", &[]);
    queue.plan(noon(0), vec![planned(90), planned(91)]).await.unwrap();
    let why = || "its window closed".to_owned();
    assert!(queue.miss(noon(95), planned(90).run, why()).await.unwrap());
    assert!(!queue.miss(noon(95), planned(90).run, why()).await.unwrap(), "once");
    assert_eq!(state(&**catalog, planned(90).run).await, RunState::Missed(why()));
    let held = claim(&**queue, 100, &who).await.unwrap();
    assert_eq!(held.planned.run, planned(91).run);
    assert!(!queue.miss(noon(101), held.planned.run, why()).await.unwrap(), "it waits no more");
    assert!(!queue.miss(noon(101), sample::run(5), why()).await.unwrap(), "no such run");
    assert_eq!(state(&**catalog, held.planned.run).await, RunState::Planned);
    finish(&**queue, &held).await;
}

async fn ends_outside_of_the_queue_end_the_place(Opened { catalog, queue, .. }: &Opened) {
    queue.plan(noon(0), vec![planned(110)]).await.unwrap();
    let held = claim(&**queue, 111, &worker("a", &[])).await.unwrap();
    catalog.append(noon(112), &held.planned.key.policy, held.planned.run, done()).await.unwrap();
    assert!(queue.places().await.unwrap().is_empty());
    assert_eq!(queue.renew(noon(113), &held, LEASE).await.unwrap(), Hold::Lost);
}

/// Places that wait and one that is held, for who carries a queue.
pub(crate) async fn leave_something(Opened { queue, .. }: &Opened) {
    let mut rich = planned(500);
    rich.needs = ["pg17".parse().unwrap(), "big-disk".parse().unwrap()].into();
    rich.alone_on = Some("orders-db".to_owned());
    rich.not_after = Some(noon(9_000));
    queue.plan(noon(0), vec![rich, planned(501)]).await.unwrap();
    assert_eq!(claim(&**queue, 600, &worker("holder", &[])).await.unwrap().planned.run, planned(501).run);
}

/// Three places that ended, in another order than their dates.
pub(crate) async fn leave_ends(Opened { queue, .. }: &Opened) {
    queue.plan(noon(0), (600..604).map(planned).collect()).await.unwrap();
    for (n, ended_at) in [(600, 30), (601, 10), (602, 20)] {
        assert!(queue.miss(noon(ended_at), planned(n).run, "the test is over".to_owned()).await.unwrap());
    }
}

/// What ended before ends had numbers has them in the order of its dates; and the next has the next, whatever its date.
pub(crate) async fn ends_have_numbers(Opened { queue, .. }: &Opened) {
    let told = async || {
        let found = queue.undone(None, 100).await.unwrap();
        found.into_iter().map(|one| (one.number, one.planned.run)).collect::<Vec<_>>()
    };
    let mut all = vec![(1, planned(601).run), (2, planned(602).run), (3, planned(600).run)];
    assert_eq!(told().await, all);
    assert!(queue.miss(noon(5), planned(603).run, "the test is over".to_owned()).await.unwrap());
    all.push((4, planned(603).run));
    assert_eq!(told().await, all);
}

/// Many who end the same runs at once, with places in the queue and without: each run has one end in the books.
pub(crate) async fn enders_at_once(handles: Vec<Opened>) {
    let policy = "orders".parse().unwrap();
    let places: Vec<Planned> = (500..510).map(planned).collect();
    handles[0].queue.plan(noon(0), places.clone()).await.unwrap();
    let without: Vec<_> = (9_000..9_010).map(sample::run).collect();
    for run in &without {
        let event = Event::Planned { work: Work::Verify, scheduled_for: None };
        handles[0].catalog.append(noon(0), &policy, *run, event).await.unwrap();
    }
    let ends = |who: usize| match who % 3 {
        0 => Event::Abandoned { why: "its process is gone".to_owned() },
        1 => Event::Finished { outcome: RunOutcome::Succeeded },
        _ => Event::Missed { why: "it was too late".to_owned() },
    };
    let before: u64 = handles[0].outbox.ended().await.unwrap().values().sum();
    let runs: Vec<_> = places.iter().map(|place| place.run).chain(without).collect();
    let enders = handles.iter().enumerate().map(|(who, one)| {
        let (catalog, runs, policy) = (Arc::clone(&one.catalog), runs.clone(), policy.clone());
        let event = ends(who);
        tokio::spawn(async move {
            for run in runs {
                catalog.append(noon(1), &policy, run, event.clone()).await.unwrap();
            }
        })
    });
    for ender in enders.collect::<Vec<_>>() {
        ender.await.unwrap();
    }
    let after: u64 = handles[0].outbox.ended().await.unwrap().values().sum();
    assert_eq!(after - before, runs.len() as u64);
    let open = handles[0].queue.places().await.unwrap();
    assert!(open.iter().all(|place| !runs.contains(&place.planned.run)), "{open:?}");
}

/// Several workers on handles of their own claim the same runs at once: each run goes to one of them, in one claim.
pub(crate) async fn claimers_at_once(handles: Vec<Opened>) {
    let workers = handles.len();
    let queue = Arc::clone(&handles[0].queue);
    let wanted: BTreeSet<RunId> = (200..240).map(|n| planned(n).run).collect();
    let runs = (200..240)
        .map(|n| Planned { alone_on: (n % 4 == 0).then(|| format!("db{}", n % 3)), ..planned(n) })
        .collect::<Vec<_>>();
    // All of them plan too: of each key one is new.
    let planning = handles.iter().map(|handle| {
        let (queue, runs) = (Arc::clone(&handle.queue), runs.clone());
        tokio::spawn(async move { queue.plan(noon(0), runs).await.unwrap().len() })
    });
    let mut new = 0;
    for one in planning.collect::<Vec<_>>() {
        new += one.await.unwrap();
    }
    assert_eq!(new, 40);
    let working = handles.into_iter().enumerate().map(|(n, handle)| {
        tokio::spawn(async move {
            let who = worker(&format!("w{n}"), &[]);
            let mut claimed = Vec::new();
            let mut empty = 0;
            while empty < 3 {
                let Some(one) = claim(&*handle.queue, 1_000, &who).await else {
                    // What another has to itself may be free in a moment.
                    empty += 1;
                    handle.queue.wait(Duration::from_millis(200)).await;
                    continue;
                };
                empty = 0;
                if let Some(alone) = &one.planned.alone_on {
                    let places = handle.queue.places().await.unwrap();
                    let held = places
                        .iter()
                        .filter(|place| place.holder.is_some() && place.planned.alone_on.as_ref() == Some(alone));
                    assert_eq!(held.count(), 1, "{alone} is had by one");
                }
                assert_eq!(
                    handle.queue.append_held(noon(1_001), &one, EventId::new(), started()).await.unwrap(),
                    Hold::Held
                );
                finish(&*handle.queue, &one).await;
                claimed.push((one.planned.run, one.token));
            }
            claimed
        })
    });
    let mut claimed = Vec::new();
    for one in working.collect::<Vec<_>>() {
        claimed.extend(one.await.unwrap());
    }
    let runs: BTreeSet<RunId> = claimed.iter().map(|(run, _)| *run).collect();
    let tokens: BTreeSet<u64> = claimed.iter().map(|(_, token)| *token).collect();
    assert_eq!((claimed.len(), runs, tokens.len()), (40, wanted, 40), "{workers} workers");
    assert!(queue.places().await.unwrap().is_empty());
}

/// Who waits is woken by another handle's plan long before its time is up.
pub(crate) async fn waiters_wake(waiter: &Opened, planner: &Opened) {
    let queue = Arc::clone(&waiter.queue);
    let waiting = tokio::spawn(async move { queue.wait(Duration::from_secs(300)).await });
    let mut n = 300;
    // Planned again and again, for nobody can see from here that the waiter listens already.
    let woken = tokio::time::timeout(Duration::from_secs(60), async {
        while !waiting.is_finished() {
            planner.queue.plan(noon(0), vec![planned(n)]).await.unwrap();
            n += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(woken.await.is_ok(), "the waiter slept on");
    waiting.await.unwrap();
}

fn sqlite(path: &std::path::Path) -> Opened {
    SqliteCatalog::open(path).unwrap().into()
}

#[tokio::test]
async fn sqlite_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lifeboat.db");
    contract(&sqlite(&path)).await;
    SqliteCatalog::examine(&path).unwrap();
}

#[tokio::test]
async fn sqlite_numbers_what_ended_before_there_were_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lifeboat.db");
    leave_ends(&sqlite(&path)).await;
    crate::catalog::leave_a_drill(&*sqlite(&path).catalog).await;
    let older = "
        drop trigger drill_is_summarized; drop view drill_summarized; drop table drill_summary;
        drop trigger queue_end_is_numbered; drop trigger queue_ended_is_numbered; drop index queue_undone; drop index queue_held;
        alter table queue drop column ended_no; alter table queue drop column lease; delete from counter where name = 'ended';
        create index queue_ended on queue (ended_at) where ended = 1;
        delete from refinery_schema_history where version >= 8";
    rusqlite::Connection::open(&path).unwrap().execute_batch(older).unwrap();
    crate::catalog::the_drill_is_told_in_little(&*sqlite(&path).catalog).await;
    ends_have_numbers(&sqlite(&path)).await;
    // And it is found by them: what was done long ago is not read again and again.
    let connection = rusqlite::Connection::open(&path).unwrap();
    let sql = "explain query plan select run from queue
               where how in ('unproven', 'broke', 'abandoned', 'missed') and ended_no > 3 order by ended_no";
    let plan: String = connection.query_row(sql, [], |row| row.get(3)).unwrap();
    assert!(plan.contains("queue_undone"), "{plan}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_gives_each_run_to_one_of_many() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lifeboat.db");
    claimers_at_once((0..4).map(|_| sqlite(&path)).collect()).await;
    enders_at_once((0..4).map(|_| sqlite(&path)).collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_wakes_who_waits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lifeboat.db");
    let (one, two) = (sqlite(&path), sqlite(&path));
    waiters_wake(&one, &two).await;
    waiters_wake(&one, &one).await;
}

/// A process that was killed between two calls never closes its files: what is on disk at that moment is all that another has.
#[tokio::test]
async fn sqlite_loses_nothing_of_the_queue_in_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lifeboat.db");
    let before = sqlite(&path);
    before.queue.plan(noon(0), vec![planned(1), planned(2)]).await.unwrap();
    let held = claim(&*before.queue, 10, &worker("killed", &[])).await.unwrap();
    let copy = folder.path().join("after-the-kill.db");
    for side in ["", "-wal"] {
        let from = path.with_file_name(format!("lifeboat.db{side}"));
        std::fs::copy(from, copy.with_file_name(format!("after-the-kill.db{side}"))).unwrap();
    }
    std::mem::forget(before);
    let after = sqlite(&copy);
    assert_eq!(after.queue.places().await.unwrap().len(), 2);
    assert_eq!(after.queue.lapse(noon(71)).await.unwrap(), [held.planned.run]);
    let next = claim(&*after.queue, 71, &worker("alive", &[])).await.unwrap();
    assert!(next.token > held.token && next.planned.run == planned(2).run);
}
