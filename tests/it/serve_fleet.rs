//! Three worker processes on one PostgreSQL catalog, killed, stopped past their lease, cut off from it: each run has one outcome, who comes back late writes nothing
//! and says so, and no scratch is left. First each of these befalls a worker in the middle of a drill, for sure; then all of them at random.
//! `LIFEBOAT_FLEET_RUNS=1000` is the long form, `LIFEBOAT_FLEET_SEED` another one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use lifeboat::catalog::{Opened, Queue};
use lifeboat::domain::queue::{Planned, RunKey};
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
use crate::support::way::{Forwarder, Way};

const WORKERS: usize = 3;
const LEASE: Duration = Duration::from_secs(3);
/// Longer than anything here takes on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(180);
/// So long after a fault there is no other, unless something was done meanwhile.
const CALM: Duration = Duration::from_secs(8);
/// All that is planned was due long ago.
const EPOCH: &str = "2020-01-01T00:00:00Z";

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// The run with this number.
fn planned(n: u64, work: Work, attempt: u32) -> Planned {
    let scheduled_for = at(EPOCH) + SignedDuration::from_secs(i64::try_from(n).unwrap());
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
}

/// Mostly what is cheap; drills leave something behind when they are killed.
fn some_work(n: u64) -> Work {
    if n % 6 == 5 { Work::Drill { drill: "restore-logical".parse().unwrap() } } else { Work::ReadBack }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    killed: u64,
    stopped: u64,
    held_up: u64,
    cut_off: u64,
    terminated: u64,
}

struct Fleet {
    home: Home,
    server: Server,
    opened: Opened,
    ways: Vec<Forwarder>,
    workers: Vec<Service>,
    counts: Counts,
    /// What workers said that are no more.
    said: String,
}

impl Fleet {
    async fn new() -> Fleet {
        let server = Server::start();
        server.sql("postgres", "create database orders");
        server.sql("orders", "create table orders as select n id from generate_series(1, 500) n");
        let opened = catalog::opened(&server, "lifeboat").await;
        let home = Home::new(&server, "orders");
        let url = server.url("postgres");
        home.use_catalog(&url, "timeout = \"5s\"");
        home.edit_config(|text| {
            format!("{text}\n[serve]\nlease = \"{}s\"\nworkers = 2\ndrain = \"60s\"\n", LEASE.as_secs())
        });
        let drill = std::fs::read_to_string(home.path().join("drills/restore-logical.toml")).unwrap();
        let drill = drill.replacen("name = \"restore-logical\"", "name = \"slow\"", 1);
        let slow = "[[steps]]\ncheck = { name = \"assert\", sql = \"select pg_sleep(20) is not null\", is = true }\n";
        home.write_drill("slow", &format!("{drill}\n{slow}"));
        home.run(&["backup", POLICY]).expect(0);
        let ways: Vec<Forwarder> = (0..WORKERS).map(|_| Forwarder::to(&server)).collect();
        // Each worker has a way of its own to the catalog.
        let config = std::fs::read_to_string(home.path().join("lifeboat.toml")).unwrap();
        for (at, way) in ways.iter().enumerate() {
            let text = config.replacen(&url, &way.url("postgres"), 1);
            std::fs::write(home.path().join(format!("worker-{at}.toml")), text).unwrap();
        }
        let (workers, counts) = (Vec::new(), Counts::default());
        let mut fleet = Fleet { home, server, opened, ways, workers, counts, said: String::new() };
        fleet.workers = (0..WORKERS).map(|at| fleet.worker(at)).collect();
        fleet
    }

    fn worker(&self, at: usize) -> Service {
        let mut command = self.home.command(&["worker"]);
        command.env("LIFEBOAT_CONFIG", self.home.path().join(format!("worker-{at}.toml")));
        Service::of(command)
    }

    fn queue(&self) -> &dyn Queue {
        &*self.opened.queue
    }

    /// As a planner does.
    async fn lapse(&self) -> Timestamp {
        let now = self.queue().now().await.unwrap();
        self.queue().lapse(now).await.unwrap();
        now
    }

    async fn plan(&self, runs: Vec<Planned>) {
        let wanted = runs.len();
        let now = self.queue().now().await.unwrap();
        assert_eq!(self.queue().plan(now, runs).await.unwrap().len(), wanted);
    }

    /// What the catalog says, line by line.
    fn ask(&self, sql: &str) -> Vec<String> {
        let sql = format!("set search_path = lifeboat; {sql}");
        self.server.sql("postgres", &sql).lines().map(str::to_owned).collect()
    }

    fn kill(&mut self, at: usize) {
        self.counts.killed += 1;
        self.workers[at].signal(Signal::KILL);
        let new = self.worker(at);
        let (_, words) = std::mem::replace(&mut self.workers[at], new).end();
        self.said.push_str(&words);
    }

    /// In the middle of a drill one worker is stopped, one is held up, and one is cut off, until their leases have run out. Each of them is fenced when it is back.
    async fn in_the_middle_of_a_drill(&mut self) {
        let slow = |n: u64| planned(2_000_000 + n, Work::Drill { drill: "slow".parse().unwrap() }, 1);
        let mut many = WORKERS as u64;
        self.plan((0..many).map(slow).collect()).await;
        // Each worker may do one drill at a time, so in the end each has one.
        let until = Instant::now() + PATIENCE;
        let held = loop {
            let held = self.ask(
                "select worker || ' ' || run from queue where token is not null and work like '%slow%'
                   and exists (select from event where event.run = queue.run and kind = 'scratch_made') order by 1",
            );
            if held.len() == WORKERS {
                break held;
            }
            assert!(Instant::now() < until, "not every worker is at a drill: {held:?}");
            let open = self.ask("select run from queue where not ended and work like '%slow%'").len();
            for _ in open..WORKERS {
                self.plan(vec![slow(many)]).await;
                many += 1;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let run_of = |worker: &Service| {
            let pid = format!("/{}/", worker.child.id());
            let line = held.iter().find(|line| line.contains(&pid)).unwrap_or_else(|| panic!("{pid}: {held:?}"));
            line.split_once(' ').unwrap().1.to_owned()
        };
        let runs: Vec<String> = self.workers.iter().map(run_of).collect();
        self.workers[0].signal(Signal::STOP);
        self.ways[1].set(Way::Held);
        self.ways[2].set(Way::Cut);
        self.counts.stopped += 1;
        self.counts.held_up += 1;
        self.counts.cut_off += 1;
        let until = Instant::now() + PATIENCE;
        for run in &runs {
            let how = format!("select how from queue where run = '{run}' and ended");
            while self.ask(&how) != ["abandoned"] {
                assert!(Instant::now() < until, "{run} was not given up: {:?}", self.ask(&how));
                self.lapse().await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        self.workers[0].signal(Signal::CONT);
        self.ways[1].set(Way::Open);
        self.ways[2].set(Way::Open);
        for (worker, run) in self.workers.iter_mut().zip(&runs) {
            worker.hear(&format!("the lease of run {run} was lost"));
        }
    }

    /// Does so many runs, each until it comes to its end, whatever befalls those who do them.
    async fn at_random(&mut self, count: u64, seed: u64) {
        let mut dice = Dice::new(seed);
        self.plan((0..count).map(|n| planned(n, some_work(n), 1)).collect()).await;
        let mut stopped: BTreeMap<usize, Instant> = BTreeMap::new();
        let mut closed: BTreeMap<usize, Instant> = BTreeMap::new();
        let (mut done, mut seen) = (BTreeSet::new(), 0);
        // How many were done at the last fault, and when that was.
        let mut last = (0, Instant::now());
        let patience = Instant::now() + Duration::from_secs(120 + count * 12);
        let most = i32::try_from(LEASE.as_millis() * 2).unwrap();
        while (done.len() as u64) < count {
            assert!(Instant::now() < patience, "seed {seed}: {} of {count} are done", done.len());
            tokio::time::sleep(Duration::from_millis(400)).await;
            self.lapse().await;
            // The drill looks at a backup that is good: whatever it found, it came to its end.
            let ended = self.ask(&format!(
                "select ended_no || ' ' || (scheduled_for / 1000000 - extract(epoch from timestamptz '{EPOCH}'))::int8 || ' ' || attempt || ' ' || how
                 from queue where ended_no > {seen} and scheduled_for < (extract(epoch from timestamptz '{EPOCH}') + {count}) * 1000000 order by ended_no"
            ));
            let mut again = Vec::new();
            for line in ended {
                let parts: Vec<&str> = line.split(' ').collect();
                let n: u64 = parts[1].parse().unwrap();
                seen = parts[0].parse::<u64>().unwrap();
                match parts[3] {
                    "succeeded" | "found" => assert!(done.insert(n), "seed {seed}: {n} was done twice"),
                    "unproven" | "broke" | "abandoned" => {
                        again.push(planned(n, some_work(n), parts[2].parse::<u32>().unwrap() + 1));
                    }
                    other => panic!("seed {seed}: run {n} is {other}"),
                }
            }
            self.plan(again).await;
            let over = |all: &BTreeMap<usize, Instant>| {
                all.iter().filter(|(_, until)| **until < Instant::now()).map(|(at, _)| *at).collect::<Vec<_>>()
            };
            for at in over(&stopped) {
                stopped.remove(&at);
                self.workers[at].signal(Signal::CONT);
            }
            for at in over(&closed) {
                closed.remove(&at);
                self.ways[at].set(Way::Open);
            }
            // On a machine with much else to do a drill takes longer than two faults lie apart: something comes to its end between them.
            if done.len() == last.0 && last.1.elapsed() < CALM {
                continue;
            }
            let before = self.counts;
            let at = dice.below(WORKERS);
            let for_a_while =
                Instant::now() + Duration::from_millis(dice.below(usize::try_from(most).unwrap()) as u64) + LEASE / 2;
            match dice.below(24) {
                0 | 1 => {
                    stopped.remove(&at);
                    self.kill(at);
                }
                2 | 3 if !stopped.contains_key(&at) => {
                    self.counts.stopped += 1;
                    self.workers[at].signal(Signal::STOP);
                    stopped.insert(at, for_a_while);
                }
                4 if !closed.contains_key(&at) => {
                    self.counts.held_up += 1;
                    self.ways[at].set(Way::Held);
                    closed.insert(at, for_a_while);
                }
                5 if !closed.contains_key(&at) => {
                    self.counts.cut_off += 1;
                    self.ways[at].set(Way::Cut);
                    closed.insert(at, for_a_while);
                }
                6 => {
                    self.counts.terminated += 1;
                    self.ask("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'");
                }
                _ => {}
            }
            if self.counts != before {
                last = (done.len(), Instant::now());
            }
        }
        for at in stopped.into_keys() {
            self.workers[at].signal(Signal::CONT);
        }
        for way in &self.ways {
            way.set(Way::Open);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_are_killed_stopped_and_cut_off_do_each_run_once() {
    let (count, seed) = (number("LIFEBOAT_FLEET_RUNS", 24), number("LIFEBOAT_FLEET_SEED", 1));
    let mut fleet = Fleet::new().await;
    fleet.in_the_middle_of_a_drill().await;
    fleet.at_random(count, seed).await;
    for worker in &fleet.workers {
        worker.signal(Signal::TERM);
    }
    for worker in std::mem::take(&mut fleet.workers) {
        let (code, words) = worker.end();
        assert_eq!(code, Some(0), "seed {seed}: {words}");
        fleet.said.push_str(&words);
    }
    // What a killed worker left is swept by whoever begins next on this machine.
    fleet.home.run(&["backup", POLICY]).expect(0);
    let runs: usize = fleet.ask("select count(*) from queue")[0].parse().unwrap();
    let ends = fleet.ask(
        "select n || ':' || count(*) from (
            select count(*) filter (where kind in ('finished', 'abandoned', 'missed')) n
            from event where run in (select run from queue) group by run
         ) all_runs group by n order by n",
    );
    assert_eq!(ends, [format!("1:{runs}")], "seed {seed}: each run has one outcome");
    let twice = fleet.ask("select run from event where kind = 'started' group by run having count(*) > 1");
    assert!(twice.is_empty(), "seed {seed}: {twice:?} were begun twice");
    // Whoever was late wrote nothing after that; only what it left is said to be gone.
    let late = fleet.ask(
        "select event.run || ' ' || event.kind from event
         join (select run, min(seq) as seq from event where kind in ('finished', 'abandoned', 'missed') group by run) ended
           on ended.run = event.run and ended.seq < event.seq
         where event.kind <> 'scratch_destroyed'",
    );
    assert!(late.is_empty(), "seed {seed}: {late:?}");
    let owed = fleet.opened.catalog.scratches_owed().await.unwrap();
    assert!(owed.is_empty(), "seed {seed}: {owed:?}");
    assert!(walk(&fleet.home.scratch()).is_empty(), "seed {seed}: {:?}", walk(&fleet.home.scratch()));
    let lost = fleet.said.split("the lease of run ").skip(1).filter_map(|rest| rest.get(..36));
    let fenced: BTreeSet<&str> = lost.collect();
    assert!(fenced.len() >= WORKERS, "seed {seed}: {fenced:?}");
    let abandoned = fleet.ask("select count(*) from queue where how = 'abandoned'")[0].clone();
    println!(
        "seed {seed}: {count} planned, {runs} runs, {abandoned} abandoned, {} fenced, {:?}",
        fenced.len(),
        fleet.counts
    );
}
