//! Three worker processes on one PostgreSQL catalog, killed, stopped past their lease, cut off from it, at random: each run has one outcome, who comes back late
//! writes nothing, and no scratch is left. `LIFEBOAT_FLEET_RUNS=1000` is the long form, `LIFEBOAT_FLEET_SEED` another one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use lifeboat::domain::queue::{EndedAs, Planned, RunKey};
use lifeboat::domain::run::Work;
use lifeboat::engine::house::new_run;
use lifeboat::judge::due::{Class, label};
use rustix::process::Signal;

use crate::faults::Dice;
use crate::serve::Service;
use crate::support::catalog;
use crate::support::home::{Home, POLICY, walk};
use crate::support::sample::at;
use crate::support::server::Server;

const WORKERS: usize = 3;
const LEASE_SECONDS: u64 = 3;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_are_killed_stopped_and_cut_off_do_each_run_once() {
    let (count, seed) = (number("LIFEBOAT_FLEET_RUNS", 24), number("LIFEBOAT_FLEET_SEED", 1));
    let mut dice = Dice::new(seed);
    let server = Server::start();
    server.sql("postgres", "create database orders");
    server.sql("orders", "create table orders as select n id from generate_series(1, 500) n");
    let opened = catalog::opened(&server, "lifeboat").await;
    let home = Home::new(&server, "orders");
    let url = server.url("postgres");
    home.edit_config(|text| {
        let lines = text.lines().filter(|line| !line.starts_with("path = \"lifeboat.db\""));
        let text = lines.collect::<Vec<_>>().join("\n");
        let text = text.replacen("[catalog]", &format!("[catalog]\nurl = \"{url}\"\nschema = \"lifeboat\""), 1);
        assert!(text.contains(&url), "{text}");
        format!("{text}\n[serve]\nlease = \"{LEASE_SECONDS}s\"\nworkers = 2\ndrain = \"60s\"\n")
    });
    home.run(&["backup", POLICY]).expect(0);

    let planned = |n: u64, attempt: u32| {
        // Mostly what is cheap; drills leave something behind when they are killed.
        let work = if n % 6 == 5 { Work::Drill { drill: "restore-logical".parse().unwrap() } } else { Work::ReadBack };
        let scheduled_for = at("2026-11-20T00:00:00Z") + SignedDuration::from_secs(i64::try_from(n).unwrap());
        Planned {
            run: new_run(),
            needs: BTreeSet::from([label(Class::of(&work)).unwrap()]),
            key: RunKey { policy: POLICY.parse().unwrap(), work, scheduled_for, attempt },
            due_at: scheduled_for,
            not_after: None,
            priority: 40,
            alone_on: None,
            caught_up: None,
        }
    };
    let queue = &*opened.queue;
    let begin = queue.now().await.unwrap();
    let first: Vec<Planned> = (0..count).map(|n| planned(n, 1)).collect();
    assert_eq!(queue.plan(begin, first).await.unwrap().len() as u64, count);

    let mut workers: Vec<Service> = (0..WORKERS).map(|_| Service::start(&home, "worker")).collect();
    let mut stopped: BTreeMap<usize, Instant> = BTreeMap::new();
    let (mut kills, mut stops, mut cuts, mut done) = (0, 0, 0, BTreeSet::new());
    let patience = Instant::now() + Duration::from_secs(120 + count * 12);
    while (done.len() as u64) < count {
        assert!(Instant::now() < patience, "seed {seed}: {} of {count} are done", done.len());
        tokio::time::sleep(Duration::from_millis(400)).await;
        let now = queue.now().await.unwrap();
        queue.lapse(now).await.unwrap();
        let mut again = Vec::new();
        for ended in queue.ended(begin).await.unwrap() {
            let key = ended.planned.key;
            let n = u64::try_from(key.scheduled_for.duration_since(at("2026-11-20T00:00:00Z")).as_secs()).unwrap();
            match ended.how {
                // The drill looks at a backup that is good: whatever it found, it came to its end.
                EndedAs::Succeeded | EndedAs::Found => drop(done.insert(n)),
                EndedAs::Unproven | EndedAs::Broke | EndedAs::Abandoned => again.push(planned(n, key.attempt + 1)),
                EndedAs::Missed => panic!("seed {seed}: {key} was missed"),
            }
        }
        queue.plan(now, again).await.unwrap();
        for (at, worker) in workers.iter().enumerate() {
            if stopped.get(&at).is_some_and(|until| *until < Instant::now()) {
                stopped.remove(&at);
                worker.signal(Signal::CONT);
            }
        }
        let at = dice.below(WORKERS);
        match dice.below(24) {
            0 | 1 => {
                kills += 1;
                stopped.remove(&at);
                workers[at].signal(Signal::KILL);
                workers[at] = Service::start(&home, "worker");
            }
            2 | 3 if !stopped.contains_key(&at) => {
                stops += 1;
                workers[at].signal(Signal::STOP);
                stopped.insert(at, Instant::now() + Duration::from_secs(LEASE_SECONDS * 2));
            }
            4 => {
                cuts += 1;
                let all = "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'";
                server.sql("postgres", all);
            }
            _ => {}
        }
    }
    for at in stopped.keys() {
        workers[*at].signal(Signal::CONT);
    }
    for worker in &workers {
        worker.signal(Signal::TERM);
    }
    let mut said = String::new();
    for worker in workers {
        let (code, words) = worker.end();
        assert_eq!(code, Some(0), "seed {seed}: {words}");
        said.push_str(&words);
    }
    // What a killed worker left is swept by whoever begins next on this machine.
    home.run(&["backup", POLICY]).expect(0);
    let ends = server.sql(
        "postgres",
        "select n || ':' || count(*) from (
            select count(*) filter (where kind in ('finished', 'abandoned', 'missed')) n
            from lifeboat.event where run in (select run from lifeboat.queue) group by run
         ) all_runs group by n order by n",
    );
    let runs = server.sql("postgres", "select count(*) from lifeboat.queue");
    assert_eq!(ends.trim(), format!("1:{}", runs.trim()), "seed {seed}: each run has one outcome");
    let started = "select run from lifeboat.event where kind = 'started' group by run having count(*) > 1";
    assert_eq!(server.sql("postgres", started).trim(), "", "seed {seed}: none was begun twice");
    let owed = opened.catalog.scratches_owed().await.unwrap();
    assert!(owed.is_empty(), "seed {seed}: {owed:?}");
    assert!(walk(&home.scratch()).is_empty(), "seed {seed}: {:?}", walk(&home.scratch()));
    let fenced = said.matches("the lease of run").count();
    println!(
        "seed {seed}: {count} planned, {} runs, {kills} killed, {stops} stopped, {cuts} cut off, {fenced} times fenced",
        runs.trim()
    );
}
