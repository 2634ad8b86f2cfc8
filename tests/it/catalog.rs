//! The contract of a catalog, and what is SQLite's own: several handles, kills, damage.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use lifeboat::catalog::{Asked, Catalog, Reach, Recorded, SqliteCatalog};
use lifeboat::domain::check::{Finding, Outcome};
use lifeboat::domain::drill::{Sabotage, Step};
use lifeboat::domain::exposure::Covered;
use lifeboat::domain::ids::RunId;
use lifeboat::domain::ledger::{Depth, LastRead, Reading, Shelf};
use lifeboat::domain::policy::Method;
use lifeboat::domain::run::{Event, EventId, Removed, RunOutcome, RunState, Work};
use lifeboat::domain::summary::DrillSummary;
use lifeboat::domain::transcript::Verdict;
use lifeboat::domain::units::{ByteSize, Span};

use crate::support::sample::{self, at};

fn policy() -> lifeboat::domain::ids::PolicyName {
    "orders".parse().unwrap()
}

fn work(job: &str) -> Work {
    Work::Backup { job: job.parse().unwrap() }
}

fn planned(job: &str) -> Event {
    Event::Planned { work: work(job), scheduled_for: None }
}

fn started() -> Event {
    Event::Started { host: "db1".to_owned(), pid: 42, pid_started: 777 }
}

/// Every implementation passes this, from an empty catalog.
pub(crate) async fn contract(catalog: &dyn Catalog) {
    let orders = policy();
    let other = "billing".parse().unwrap();

    // An empty catalog answers every question.
    assert!(catalog.runs(None, 10).await.unwrap().is_empty());
    assert!(catalog.run(sample::run(1)).await.unwrap().is_none());
    assert!(catalog.transcript(sample::run(1)).await.unwrap().is_none());
    assert!(catalog.transcripts(&orders, 10).await.unwrap().is_empty());
    assert!(catalog.artifacts(&orders).await.unwrap().is_empty());
    assert!(catalog.scratches_owed().await.unwrap().is_empty());
    assert_eq!(catalog.next_sequence(&orders).await.unwrap(), 1);

    // Planned → Started → Finished; times are those of the events.
    let backup = sample::run(1);
    catalog.append(at("2026-11-20T03:00:00Z"), &orders, backup, planned("nightly")).await.unwrap();
    assert_eq!(catalog.run(backup).await.unwrap().unwrap().state, RunState::Planned);
    catalog.append(at("2026-11-20T03:00:01Z"), &orders, backup, started()).await.unwrap();
    let running = catalog.run(backup).await.unwrap().unwrap();
    assert_eq!(running.state, RunState::Running { host: "db1".to_owned(), pid: 42, pid_started: 777 });
    assert_eq!((running.ended_at, running.took), (None, None));
    let newest = sample::artifact(Method::Physical, "2026-11-20T03:00:01Z", 7);
    catalog.append(at("2026-11-20T03:00:41Z"), &orders, backup, Event::Committed(newest.clone())).await.unwrap();
    let done = Event::Finished { outcome: RunOutcome::Succeeded };
    catalog.append(at("2026-11-20T03:00:42.5Z"), &orders, backup, done).await.unwrap();
    let ended = catalog.run(backup).await.unwrap().unwrap();
    assert_eq!(ended.state, RunState::Ended(RunOutcome::Succeeded));
    assert_eq!(ended.took, Some(Span::from_millis(41_500)));
    assert_eq!(ended.work, work("nightly"));

    // Planned → Started → Abandoned; who comes back late changes nothing.
    let lost = sample::run(2);
    catalog.append(at("2026-11-20T04:00:00Z"), &orders, lost, planned("dump")).await.unwrap();
    catalog.append(at("2026-11-20T04:00:01Z"), &orders, lost, started()).await.unwrap();
    let dead = Event::Abandoned { why: "process 42 is gone".to_owned() };
    catalog.append(at("2026-11-20T06:00:00Z"), &orders, lost, dead).await.unwrap();
    let late = Event::Finished { outcome: RunOutcome::Succeeded };
    catalog.append(at("2026-11-20T07:00:00Z"), &orders, lost, late).await.unwrap();
    let lost = catalog.run(lost).await.unwrap().unwrap();
    assert_eq!(lost.state, RunState::Abandoned("process 42 is gone".to_owned()));
    assert_eq!(lost.ended_at, Some(at("2026-11-20T06:00:00Z")));

    // A drill leaves its whole transcript behind.
    let transcript = sample::physical();
    let drill = sample::run(3);
    let plan = Event::Planned {
        work: Work::Drill { drill: "restore-latest".parse().unwrap() },
        scheduled_for: Some(at("2026-11-20T05:00:00Z")),
    };
    catalog.append(at("2026-11-20T05:00:00Z"), &orders, drill, plan).await.unwrap();
    let made = |name: &str| Event::ScratchMade { name: name.to_owned() };
    let gone = |name: &str, swept| Event::ScratchDestroyed { name: name.to_owned(), swept };
    catalog.append(at("2026-11-20T05:00:01Z"), &orders, drill, made("lifeboat-a")).await.unwrap();
    catalog.append(at("2026-11-20T05:00:01Z"), &orders, drill, made("lifeboat-b")).await.unwrap();
    assert_eq!(catalog.scratches_owed().await.unwrap().len(), 2);
    catalog.append(at("2026-11-20T05:00:02Z"), &orders, drill, gone("lifeboat-a", false)).await.unwrap();
    let owed = catalog.scratches_owed().await.unwrap();
    assert_eq!(owed, [(orders.clone(), drill, "lifeboat-b".to_owned())]);
    // The sweep of a later run pays the debt too.
    catalog.append(at("2026-11-20T06:00:02Z"), &orders, sample::run(9), gone("lifeboat-b", true)).await.unwrap();
    assert!(catalog.scratches_owed().await.unwrap().is_empty());
    let body = Event::Drilled(Box::new(transcript.clone()));
    catalog.append(at("2026-11-20T05:01:00Z"), &orders, drill, body).await.unwrap();
    let outcome = RunOutcome::Judged(Verdict::Proven);
    catalog.append(at("2026-11-20T05:01:00Z"), &orders, drill, Event::Finished { outcome }).await.unwrap();
    assert_eq!(catalog.transcript(drill).await.unwrap(), Some(transcript.clone()));
    let second = sample::logical_with_findings();
    let body = Event::Drilled(Box::new(second.clone()));
    catalog.append(at("2026-11-20T08:00:00Z"), &orders, sample::run(4), body).await.unwrap();
    assert_eq!(catalog.transcripts(&orders, 10).await.unwrap(), [second.clone(), transcript]);
    assert_eq!(catalog.transcripts(&orders, 1).await.unwrap(), [second]);

    // Newest first, by policy, at most so many.
    catalog.append(at("2026-11-20T09:00:00Z"), &other, sample::run(5), planned("nightly")).await.unwrap();
    let ids = |runs: Vec<lifeboat::domain::run::Run>| runs.iter().map(|run| run.id).collect::<Vec<_>>();
    let all = ids(catalog.runs(None, 10).await.unwrap());
    assert_eq!(all, [sample::run(5), sample::run(3), sample::run(2), sample::run(1)]);
    assert_eq!(ids(catalog.runs(Some(&orders), 2).await.unwrap()), [sample::run(3), sample::run(2)]);

    // Artifacts come newest recovery point first, whatever the order in which they were written down.
    let oldest = sample::artifact(Method::Logical, "2026-11-18T02:00:00Z", 5);
    let middle = sample::artifact(Method::Logical, "2026-11-20T03:00:00.5Z", 6);
    let taken = catalog.adopt(at("2026-11-20T10:00:00Z"), vec![oldest.clone(), middle.clone(), newest.clone()]).await;
    assert_eq!(taken.unwrap(), 2, "one of the three was known");
    assert_eq!(catalog.artifacts(&orders).await.unwrap(), [newest.clone(), middle.clone(), oldest.clone()]);
    assert_eq!(catalog.adopt(at("2026-11-20T11:00:00Z"), vec![oldest.clone(), middle]).await.unwrap(), 0);
    let mut copy = oldest.clone();
    copy.store = "dr-region".parse().unwrap();
    assert_eq!(catalog.adopt(at("2026-11-20T12:00:00Z"), vec![copy]).await.unwrap(), 1, "the same in another store");
    let places = catalog.find(&oldest.backup).await.unwrap();
    assert_eq!(places, [(orders.clone(), "dr-region".parse().unwrap()), (orders.clone(), "primary".parse().unwrap())]);
    assert!(catalog.find(&"20200101T000000Z-00000000".parse().unwrap()).await.unwrap().is_empty());

    // Sequence numbers go on from the highest that was ever given, for each policy.
    assert_eq!(catalog.next_sequence(&orders).await.unwrap(), 8);
    assert_eq!(catalog.next_sequence(&other).await.unwrap(), 1);
    // A run that was adopted is no run that somebody planned.
    assert_eq!(catalog.runs(None, 10).await.unwrap().len(), 4);
}

/// Every implementation passes this as well: a drill in little is the one of its transcript, whatever that is, and of each work there are the newest runs.
pub(crate) async fn in_little(catalog: &dyn Catalog) {
    let orders = policy();
    let mut sabotaged = sample::physical();
    sabotaged.drill.steps.push(Step::Sabotage(Sabotage { sql: "drop table t".to_owned(), database: None }));
    sabotaged.drill.from = Some("tape".parse().unwrap());
    let mut dark = sample::physical();
    dark.checks[0].outcome = Outcome::Unchecked("it was not reached: \"quoted\"".to_owned());
    dark.checks[1].outcome = Outcome::Broke { error: "no".to_owned(), hint: None };
    let mut bare = sample::physical();
    (bare.checks, bare.drill.steps, bare.backup) = (Vec::new(), Vec::new(), None);
    bare.environment.push(Finding::new("source_old", "server", "15.1 has known faults"));
    let transcripts = [sample::physical(), sample::logical_with_findings(), sabotaged, dark, bare];
    for (nth, transcript) in (0_u32..).zip(&transcripts) {
        let body = Event::Drilled(Box::new(transcript.clone()));
        catalog.append(at("2026-11-20T03:00:00Z"), &orders, sample::run(u128::from(nth)), body).await.unwrap();
    }
    let told = catalog.drills(&orders, 10).await.unwrap();
    assert_eq!(told, transcripts.iter().rev().map(DrillSummary::from).collect::<Vec<_>>());
    assert_eq!(told.iter().filter(|one| one.sabotages).count(), 1);
    assert_eq!((told[1].red.len(), told[1].dark.len()), (told[4].red.len(), 2));
    assert!(!told[3].red.is_empty(), "{told:?}");
    assert_eq!(catalog.drills(&orders, 2).await.unwrap(), told[..2]);

    for n in 0..6_u32 {
        let when = at(&format!("2026-11-20T0{n}:00:00Z"));
        let job = if n == 0 { "weekly" } else { "nightly" };
        catalog.append(when, &orders, sample::run(u128::from(100 + n)), planned(job)).await.unwrap();
    }
    let newest = catalog.newest_runs(&orders, 2).await.unwrap();
    let ids: Vec<_> = newest.iter().map(|run| run.id).collect();
    assert_eq!(ids, [105, 104, 100].map(sample::run), "the one of another work, though older than three of the first");
    assert_eq!(
        newest,
        catalog
            .runs(Some(&orders), 100)
            .await
            .unwrap()
            .into_iter()
            .filter(|run| ids.contains(&run.id))
            .collect::<Vec<_>>()
    );
}

/// A drill in a catalog of a version that told nothing in little.
pub(crate) async fn leave_a_drill(catalog: &dyn Catalog) {
    let body = Event::Drilled(Box::new(sample::logical_with_findings()));
    catalog.append(at("2026-11-20T03:00:00Z"), &policy(), sample::run(77), body).await.unwrap();
}

/// What [`leave_a_drill`] left is told by a newer version.
pub(crate) async fn the_drill_is_told_in_little(catalog: &dyn Catalog) {
    let wanted = DrillSummary::from(&sample::logical_with_findings());
    assert_eq!(catalog.drills(&policy(), 10).await.unwrap(), [wanted]);
}

/// Every implementation passes this as well: asked for several policies at once it says what it says of each alone.
pub(crate) async fn recorded(catalog: &dyn Catalog) {
    let (orders, empty, other) = (policy(), "empty".parse().unwrap(), "billing".parse().unwrap());
    let shelf = "20261120T030000Z-00000007";
    for (n, policy) in [(1, &orders), (2, &other)] {
        for nth in 0..3_u32 {
            let run = sample::run(u128::from(n * 10 + nth));
            let when = at(&format!("2026-11-2{nth}T03:00:00Z"));
            catalog.append(when, policy, run, planned("nightly")).await.unwrap();
            catalog.append(when, policy, run, started()).await.unwrap();
            let mut artifact = sample::artifact(Method::Physical, &when.to_string(), u64::from(nth) + 1);
            artifact.policy = policy.clone();
            artifact.backup = format!("2026112{nth}T030000Z-0000000{n}").parse().unwrap();
            let backup = artifact.backup.clone();
            catalog.append(when, policy, run, Event::Committed(artifact)).await.unwrap();
            let mut transcript = sample::physical();
            (transcript.run, transcript.policy) = (run, policy.clone());
            catalog.append(when, policy, run, Event::Drilled(Box::new(transcript))).await.unwrap();
            if nth == 1 {
                let outcome = RunOutcome::Broke { error: "no room".to_owned(), hint: None };
                catalog.append(when, policy, run, Event::Finished { outcome }).await.unwrap();
                let store = "primary".parse().unwrap();
                let removed = Removed { backup, store, objects: 3, bytes: ByteSize(300), reasons: Vec::new() };
                catalog.append(when, policy, run, Event::Removed(removed)).await.unwrap();
            }
            catalog.cover(policy, Covered { at: when, covered: when, until: None }).await.unwrap();
        }
        let reading = Reading {
            store: "primary".parse().unwrap(),
            policy: policy.clone(),
            shelf: shelf.parse().unwrap(),
            key: format!("{policy}/{shelf}/part-1"),
            bytes: ByteSize(100),
            at: at("2026-11-20T04:00:00Z"),
            depth: Depth::Sealed,
            run: None,
            finding: None,
        };
        catalog.read_back(vec![reading]).await.unwrap();
    }
    let read_since = at("2026-11-20T00:00:00Z");
    let late = at("2026-11-21T00:00:00Z");
    for (look_back, of_each, whole) in [(100, 10, true), (2, 1, false)] {
        let reach = Reach { look_back, of_each, covered_since: at("2026-11-21T12:00:00Z"), whole };
        // In the order in which they are asked for, and one that is asked for twice is told twice.
        let asked = [(&other, late), (&empty, read_since), (&orders, read_since), (&other, read_since)];
        let asked = asked.map(|(policy, read_since)| Asked { policy: policy.clone(), read_since });
        let told = catalog.recorded(&asked, reach).await.unwrap();
        assert_eq!(told.len(), 4);
        for (Asked { policy, read_since }, told) in asked.iter().zip(&told) {
            assert_eq!(told.artifacts, catalog.artifacts(policy).await.unwrap());
            let transcripts = catalog.transcripts(policy, look_back).await.unwrap();
            assert_eq!(told.drills, transcripts.iter().map(DrillSummary::from).collect::<Vec<_>>());
            assert_eq!(told.drills, catalog.drills(policy, look_back).await.unwrap());
            assert_eq!(told.runs, catalog.newest_runs(policy, of_each).await.unwrap());
            assert_eq!(told.coverage, catalog.covered(policy, reach.covered_since).await.unwrap());
            assert_eq!(told.shelves, catalog.shelves_read(policy, *read_since).await.unwrap());
        }
        assert_eq!(told[1], Recorded::default());
        let lists = |one: &Recorded| (one.artifacts.len(), one.drills.len(), one.runs.len(), one.coverage.len());
        assert_eq!(lists(&told[2]), (2, look_back.min(3), of_each.min(3), 2));
        assert_eq!((told[0].shelves[0].recent, told[3].shelves[0].recent), (ByteSize(0), ByteSize(100)));
    }
    assert!(
        catalog
            .recorded(&[], Reach { look_back: 1, of_each: 1, covered_since: late, whole: true })
            .await
            .unwrap()
            .is_empty()
    );
}

/// Every implementation passes this as well: what was read back.
pub(crate) async fn ledger(catalog: &dyn Catalog) {
    let (orders, primary) = (policy(), "primary".parse().unwrap());
    let shelf: Shelf = "20261120T030000Z-00000007".parse().unwrap();
    assert!(catalog.last_read(&orders, &primary, &shelf).await.unwrap().is_empty());
    assert!(catalog.read_wrong(&orders).await.unwrap().is_empty());
    assert!(catalog.shelves_read(&orders, at("2026-01-01T00:00:00Z")).await.unwrap().is_empty());
    let reading = |key: &str, time: &str, depth: Depth, wrong: Option<&str>| Reading {
        store: "primary".parse().unwrap(),
        policy: policy(),
        shelf: "20261120T030000Z-00000007".parse().unwrap(),
        key: key.to_owned(),
        bytes: ByteSize(10),
        at: at(time),
        depth,
        run: Some(sample::run(3)),
        finding: wrong.map(|code| Finding::new(code, format!("part {key}"), "it is wrong").with("a", "b")),
    };
    let one = |found: Vec<LastRead>| -> LastRead {
        assert_eq!(found.len(), 1, "{found:?}");
        found.into_iter().next().unwrap()
    };
    let first = vec![
        reading("b", "2026-11-20T04:00:00.000001Z", Depth::Sealed, None),
        reading("a", "2026-11-20T04:00:00Z", Depth::Opened, None),
        Reading { shelf: Shelf::Log, ..reading("w", "2026-11-20T04:00:00Z", Depth::Opened, None) },
        Reading { store: "far".parse().unwrap(), ..reading("a", "2026-11-20T04:00:00Z", Depth::Sealed, None) },
    ];
    catalog.read_back(first).await.unwrap();
    let read = catalog.last_read(&orders, &primary, &shelf).await.unwrap();
    assert_eq!(read.iter().map(|one| one.key.as_str()).collect::<Vec<_>>(), ["a", "b"], "of this shelf, by key");
    assert_eq!((read[0].sealed_at, read[0].opened_at), (read[0].opened_at, Some(at("2026-11-20T04:00:00Z"))));
    assert_eq!((read[1].sealed_at, read[1].opened_at), (Some(at("2026-11-20T04:00:00.000001Z")), None));
    assert_eq!((read[0].bytes, read[0].run, &read[0].wrong), (ByteSize(10), Some(sample::run(3)), &None));

    // A shallower reading does not make the deeper one fresher.
    catalog.read_back(vec![reading("a", "2026-11-21T04:00:00Z", Depth::Sealed, None)]).await.unwrap();
    let read = catalog.last_read(&orders, &primary, &shelf).await.unwrap();
    assert_eq!(read[0].sealed_at, Some(at("2026-11-21T04:00:00Z")));
    assert_eq!(read[0].opened_at, Some(at("2026-11-20T04:00:00Z")));

    // Wrong inside: stays so until it was opened and right, and knows since when. The newest words stand.
    catalog.read_back(vec![reading("a", "2026-11-22T04:00:00Z", Depth::Opened, Some("plain_hash"))]).await.unwrap();
    catalog.read_back(vec![reading("a", "2026-11-23T04:00:00Z", Depth::Sealed, Some("part_hash"))]).await.unwrap();
    catalog.read_back(vec![reading("a", "2026-11-24T04:00:00Z", Depth::Sealed, None)]).await.unwrap();
    let wrong = one(catalog.read_wrong(&orders).await.unwrap());
    let told = wrong.wrong.clone().unwrap();
    assert_eq!((told.since, told.at), (at("2026-11-22T04:00:00Z"), at("2026-11-23T04:00:00Z")));
    assert_eq!((told.finding.code.as_str(), told.depth, told.run), ("part_hash", Depth::Opened, Some(sample::run(3))));
    assert_eq!((wrong.right_at(Depth::Sealed), wrong.sealed_at), (None, Some(at("2026-11-24T04:00:00Z"))));
    let sums = catalog.shelves_read(&orders, at("2026-11-20T04:00:00Z")).await.unwrap();
    let mine = sums.iter().find(|sum| sum.shelf == shelf && sum.store == primary).unwrap();
    assert_eq!((sums.len(), mine.objects, mine.bytes, mine.recent, mine.wrong), (3, 2, ByteSize(20), ByteSize(10), 1));
    assert_eq!(mine.oldest, Some(at("2026-11-20T04:00:00.000001Z")));
    let late = catalog.shelves_read(&orders, at("2026-11-20T04:00:01Z")).await.unwrap();
    assert!(late.iter().all(|sum| sum.recent == ByteSize(0)), "{late:?}");
    catalog.read_back(vec![reading("a", "2026-11-25T04:00:00Z", Depth::Opened, None)]).await.unwrap();
    assert!(catalog.read_wrong(&orders).await.unwrap().is_empty());

    // One that was never right; another policy's are its own.
    catalog.read_back(vec![reading("c", "2026-11-25T04:00:00Z", Depth::Sealed, Some("part_missing"))]).await.unwrap();
    assert_eq!(one(catalog.read_wrong(&orders).await.unwrap()).sealed_at, None);
    assert!(catalog.read_wrong(&"billing".parse().unwrap()).await.unwrap().is_empty());
    catalog.forget_read(&primary, vec!["c".to_owned(), "nowhere".to_owned()]).await.unwrap();
    assert!(catalog.read_wrong(&orders).await.unwrap().is_empty());
    assert_eq!(catalog.last_read(&orders, &primary, &shelf).await.unwrap().len(), 2);
}

/// Every implementation passes this as well, after the two before: what is delivered late, or twice, or never used.
pub(crate) async fn late(catalog: &dyn Catalog) {
    let (late, primary) = ("late".parse().unwrap(), "primary".parse().unwrap());
    // An event of one name is written once, whatever is said the second time.
    let (run, id) = (sample::run(50), EventId::new());
    for job in ["nightly", "dump"] {
        catalog.deliver(id, at("2026-11-20T03:00:00Z"), &late, run, planned(job)).await.unwrap();
    }
    let known = catalog.run(run).await.unwrap().unwrap();
    assert_eq!((known.work, known.planned_at), (work("nightly"), at("2026-11-20T03:00:00Z")));
    assert_eq!(catalog.runs(Some(&late), 10).await.unwrap().len(), 1);
    let other: RunId = sample::run(51);
    catalog.deliver(EventId::new(), at("2026-11-20T03:00:00Z"), &late, other, planned("nightly")).await.unwrap();
    assert_eq!(catalog.runs(Some(&late), 10).await.unwrap().len(), 2);
    // What only one kind of catalog could keep is kept by none.
    let error = RunOutcome::Broke { error: "a\0b".to_owned(), hint: None };
    catalog.append(at("2026-11-20T03:00:01Z"), &late, other, Event::Finished { outcome: error }).await.unwrap();
    let RunState::Ended(RunOutcome::Broke { error, .. }) = catalog.run(other).await.unwrap().unwrap().state else {
        panic!("it broke")
    };
    assert_eq!(error, "a\u{fffd}b");

    // A number that was given is never given again, whatever became of it.
    let numbers: Vec<u64> = futures_util::future::join_all((0..8).map(|_| catalog.next_sequence(&late)))
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(numbers.iter().copied().collect::<BTreeSet<_>>(), (1..=8).collect());
    let mut far = sample::artifact(Method::Physical, "2026-11-20T03:00:01Z", 20);
    far.policy = late.clone();
    catalog.adopt(at("2026-11-20T03:00:02Z"), vec![far]).await.unwrap();
    assert_eq!(catalog.next_sequence(&late).await.unwrap(), 21);

    // Readings that come late say nothing where something newer is known.
    let shelf: Shelf = "20261120T030000Z-00000050".parse().unwrap();
    let reading = |key: &str, day: u8, depth: Depth, wrong: bool| Reading {
        store: "primary".parse().unwrap(),
        policy: "late".parse().unwrap(),
        shelf: "20261120T030000Z-00000050".parse().unwrap(),
        key: format!("late/{key}"),
        bytes: ByteSize(10),
        at: at(&format!("2026-11-{day:02}T04:00:00Z")),
        depth,
        run: Some(sample::run(50)),
        finding: wrong.then(|| Finding::new("part_hash", "part", "it is wrong")),
    };
    let now = vec![
        reading("wrong", 20, Depth::Sealed, true),
        reading("right", 20, Depth::Opened, false),
        reading("outside", 20, Depth::Sealed, false),
    ];
    catalog.read_back(now).await.unwrap();
    let older = vec![
        reading("wrong", 10, Depth::Opened, false),
        reading("right", 10, Depth::Opened, true),
        // Nobody has looked inside since.
        reading("outside", 10, Depth::Opened, true),
        reading("new", 10, Depth::Sealed, false),
    ];
    for _ in 0..2 {
        catalog.read_back_late(older.clone()).await.unwrap();
    }
    let read = catalog.last_read(&late, &primary, &shelf).await.unwrap();
    let told: Vec<_> =
        read.iter().map(|one| (one.key.as_str(), one.sealed_at.is_some(), one.wrong.is_some())).collect();
    let expected = [
        ("late/new", true, false),
        ("late/outside", true, true),
        ("late/right", true, false),
        ("late/wrong", false, true),
    ];
    assert_eq!(told, expected);
    // One that is newer says all it has to say.
    catalog.read_back_late(vec![reading("wrong", 25, Depth::Sealed, false)]).await.unwrap();
    let read = catalog.last_read(&late, &primary, &shelf).await.unwrap();
    assert!(read[3].wrong.is_none() && read[3].sealed_at == Some(at("2026-11-25T04:00:00Z")));
}

/// Some coverage, for who carries a catalog.
pub(crate) async fn leave_coverage(catalog: &dyn Catalog) {
    for (second, until) in [(1, None), (2, Some("0/16B3748".parse().unwrap()))] {
        let moment = at(&format!("2026-11-20T03:00:0{second}.000001Z"));
        catalog.cover(&policy(), Covered { at: moment, covered: moment, until }).await.unwrap();
    }
    // Of two for one moment the first stands.
    let moment = at("2026-11-20T03:00:02.000001Z");
    catalog.cover(&policy(), Covered { at: moment, covered: at("2026-11-20T01:00:00Z"), until: None }).await.unwrap();
    let told = catalog.covered(&policy(), at("2026-11-20T03:00:02Z")).await.unwrap();
    assert_eq!(told.iter().map(|one| one.covered).collect::<Vec<_>>(), [at("2026-11-20T03:00:01.000001Z"), moment]);
}

#[tokio::test]
async fn sqlite_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/folder/lifeboat.db");
    contract(&SqliteCatalog::open(&path).unwrap()).await;
    ledger(&SqliteCatalog::open(&path).unwrap()).await;
    late(&SqliteCatalog::open(&path).unwrap()).await;
    recorded(&SqliteCatalog::open(&folder.path().join("second.db")).unwrap()).await;
    in_little(&SqliteCatalog::open(&folder.path().join("third.db")).unwrap()).await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for side in ["-wal", "-shm"] {
        if let Ok(meta) = std::fs::metadata(path.with_file_name(format!("lifeboat.db{side}"))) {
            assert_eq!(meta.permissions().mode() & 0o077, 0, "{side} is nobody else's business");
        }
    }
    SqliteCatalog::examine(&path).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_handles_on_one_new_file_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = Arc::new(folder.path().join("lifeboat.db"));
    let writers: Vec<_> = (0_u128..6)
        .map(|writer| {
            let path = Arc::clone(&path);
            tokio::spawn(async move {
                let catalog = SqliteCatalog::open(&path).unwrap();
                for n in 0..20 {
                    let run = sample::run(writer * 100 + n);
                    catalog.append(at("2026-11-20T03:00:00Z"), &policy(), run, planned("nightly")).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let runs = SqliteCatalog::open(&path).unwrap().runs(None, 1_000).await.unwrap();
    let distinct: BTreeSet<_> = runs.iter().map(|run| run.id).collect();
    assert_eq!((runs.len(), distinct.len()), (120, 120));
}

#[tokio::test]
async fn two_handles_that_adopt_the_same_store_take_each_artifact_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lifeboat.db");
    let (one, two) = (SqliteCatalog::open(&path).unwrap(), SqliteCatalog::open(&path).unwrap());
    let records: Vec<_> =
        (1..=9).map(|n| sample::artifact(Method::Logical, &format!("2026-11-0{n}T00:00:00Z"), n)).collect();
    let now = at("2026-11-20T00:00:00Z");
    let (first, second) = tokio::join!(one.adopt(now, records.clone()), two.adopt(now, records));
    assert_eq!(first.unwrap() + second.unwrap(), 9);
    assert_eq!(one.artifacts(&policy()).await.unwrap().len(), 9);
}

#[tokio::test]
async fn what_was_appended_is_there_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lifeboat.db");
    let catalog = SqliteCatalog::open(&path).unwrap();
    catalog.append(at("2026-11-20T03:00:00Z"), &policy(), sample::run(1), planned("nightly")).await.unwrap();
    // A killed process never closes its files: what is on disk at this moment is all that a next start has.
    let copy = folder.path().join("after-the-kill.db");
    for side in ["", "-wal"] {
        let from = path.with_file_name(format!("lifeboat.db{side}"));
        std::fs::copy(from, copy.with_file_name(format!("after-the-kill.db{side}"))).unwrap();
    }
    std::mem::forget(catalog);
    let reopened = SqliteCatalog::open(&copy).unwrap();
    assert_eq!(reopened.runs(None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn no_event_can_be_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lifeboat.db");
    let catalog = SqliteCatalog::open(&path).unwrap();
    catalog.append(at("2026-11-20T03:00:00Z"), &policy(), sample::run(1), planned("nightly")).await.unwrap();
    let raw = rusqlite::Connection::open(&path).unwrap();
    for sql in [
        "update event set at = '2020-01-01T00:00:00Z'",
        "update event set seq = seq + 1",
        "delete from event",
        "delete from event where seq = 1",
        "insert or replace into event (seq, at, policy, run, kind, body) values (1, 'x', 'x', 'x', 'x', '{}')",
        "insert into event (at, policy, run, kind, body) values ('x', 'x', 'x', 'x', 'not JSON')",
    ] {
        assert!(raw.execute(sql, []).is_err(), "{sql} must be refused");
    }
    assert_eq!(catalog.runs(None, 10).await.unwrap().len(), 1);
}

fn broke(path: &Path) -> lifeboat::domain::check::Broke {
    match SqliteCatalog::open(path) {
        Ok(_) => panic!("{} must not open", path.display()),
        Err(broke) => broke,
    }
}

#[tokio::test]
async fn a_file_that_is_no_catalog_is_told_from_a_damaged_one() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.db");
    std::fs::write(&text, "this is no database, but it is long enough to look like the header of one ".repeat(20))
        .unwrap();
    let error = broke(&text);
    assert!(error.hint.unwrap().contains("lifeboat catalog rebuild"), "{}", error.error);
    assert!(error.error.contains("text.db"));

    let foreign = folder.path().join("foreign.db");
    rusqlite::Connection::open(&foreign).unwrap().execute_batch("create table mine (a int)").unwrap();
    let error = broke(&foreign);
    assert!(error.error.contains("another program"), "{}", error.error);

    let newer = folder.path().join("newer.db");
    drop(SqliteCatalog::open(&newer).unwrap());
    let raw = rusqlite::Connection::open(&newer).unwrap();
    raw.execute("insert into refinery_schema_history values (99, 'later', '2030-01-01T00:00:00Z', '1')", []).unwrap();
    let error = broke(&newer);
    assert!(error.error.contains("newer lifeboat"), "{}", error.error);
    raw.execute("update refinery_schema_history set checksum = 'x' where version = 99", []).unwrap();
    assert!(broke(&newer).hint.unwrap().contains("rebuild"));
}

#[tokio::test]
async fn damage_in_the_middle_is_an_error_and_never_an_empty_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lifeboat.db");
    {
        let catalog = SqliteCatalog::open(&path).unwrap();
        for n in 0..200 {
            catalog.append(at("2026-11-20T03:00:00Z"), &policy(), sample::run(n), planned("nightly")).await.unwrap();
        }
    }
    let whole = std::fs::read(&path).unwrap();
    let (mut refused, mut same) = (0, 0);
    for page in 1..whole.len() / 4096 {
        let damaged = folder.path().join(format!("page-{page}.db"));
        let mut bytes = whole.clone();
        bytes[page * 4096..page * 4096 + 512].fill(0xA5);
        std::fs::write(&damaged, bytes).unwrap();
        let examined = SqliteCatalog::examine(&damaged);
        let answer = match SqliteCatalog::open(&damaged) {
            Ok(catalog) => catalog.runs(None, 1_000).await,
            Err(broke) => Err(broke),
        };
        match answer {
            Err(_) => refused += 1,
            Ok(runs) => {
                assert_eq!(runs.len(), 200, "page {page} was lost in silence");
                same += 1;
            }
        }
        assert!(examined.is_err(), "page {page} is damaged, and the examination did not see it");
    }
    assert!(refused > 0, "{refused} refused, {same} the same");
}

#[test]
fn places_that_cannot_be_written_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    std::fs::write(&file, "").unwrap();
    let error = broke(&file.join("below/lifeboat.db"));
    assert!(error.error.contains("a-file") && error.hint.is_some(), "{error}");
    let error = broke(folder.path());
    assert!(error.hint.is_some(), "{error}");
    // Root may write everywhere but here.
    let error = broke(Path::new("/proc/lifeboat.db"));
    assert!(error.error.contains("/proc/lifeboat.db") && error.hint.is_some(), "{error}");
}
