//! The real planner and the real SQLite queue under a clock that is made up, with workers that only seem to work: crashes, outages, answers that are lost, clocks
//! that jump, workers that come back late. Every run that was planned has one outcome in the end, nothing is done twice, and nothing is lost.
//!
//! `LIFEBOAT_SIM_SEED` and `LIFEBOAT_SIM_YEARS` (schedule-years; `LIFEBOAT_SIM_DIR`: where the catalogs lie) make it long; a failure says how to see it again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use lifeboat::catalog::{Opened, Queue, SqliteCatalog};
use lifeboat::domain::check::Broke;
use lifeboat::domain::ids::RunId;
use lifeboat::domain::policy::{DrillUse, Policy, Schedule};
use lifeboat::domain::queue::{Claim, Ended, Hold, Place, Planned, PlannedUpTo, Tally, Worker};
use lifeboat::domain::run::{Event, EventId, RunOutcome, Work};
use lifeboat::domain::timetable::{Terms, Window};
use lifeboat::domain::transcript::Verdict;
use lifeboat::domain::units::Span;
use lifeboat::engine::House;
use lifeboat::engine::serve::Planner;
use lifeboat::judge::due::{self, Class, label};

use crate::faults::Dice;
use crate::support::sample::{self, at};

/// Instants that became runs, and stretches that were told as caught up.
type Covered = (BTreeSet<Timestamp>, Vec<(Timestamp, Timestamp)>);

const LEASE: Span = Span::from_secs(3_600);

/// The queue, with a clock that is made up, and faults.
struct Faulty {
    inner: Arc<dyn Queue>,
    weather: Mutex<Weather>,
}

struct Weather {
    now: Timestamp,
    down: bool,
    dice: Dice,
    /// Of a thousand answers so many are lost, after what was asked for was done.
    lost: usize,
}

impl Faulty {
    fn before(&self) -> Result<(), Broke> {
        let weather = self.weather.lock().unwrap();
        if weather.down { Err(Broke::new("the queue is away")) } else { Ok(()) }
    }

    fn after<T>(&self, done: Result<T, Broke>) -> Result<T, Broke> {
        let mut weather = self.weather.lock().unwrap();
        let lost = weather.lost;
        if lost > 0 && weather.dice.below(1_000) < lost { Err(Broke::new("the answer was lost")) } else { done }
    }
}

#[async_trait]
impl Queue for Faulty {
    async fn now(&self) -> Result<Timestamp, Broke> {
        self.before()?;
        Ok(self.weather.lock().unwrap().now)
    }
    async fn plan(&self, at: Timestamp, runs: Vec<Planned>) -> Result<Vec<RunId>, Broke> {
        self.before()?;
        self.after(self.inner.plan(at, runs).await)
    }
    async fn planned_up_to(&self) -> Result<Vec<PlannedUpTo>, Broke> {
        self.before()?;
        self.inner.planned_up_to().await
    }
    async fn claim(&self, at: Timestamp, worker: &Worker, lease: Span) -> Result<Option<Claim>, Broke> {
        self.before()?;
        self.after(self.inner.claim(at, worker, lease).await)
    }
    async fn renew(&self, at: Timestamp, claim: &Claim, lease: Span) -> Result<Hold, Broke> {
        self.before()?;
        self.after(self.inner.renew(at, claim, lease).await)
    }
    async fn append_held(&self, at: Timestamp, claim: &Claim, id: EventId, event: Event) -> Result<Hold, Broke> {
        self.before()?;
        self.after(self.inner.append_held(at, claim, id, event).await)
    }
    async fn let_go(&self, claim: &Claim) -> Result<Hold, Broke> {
        self.before()?;
        self.after(self.inner.let_go(claim).await)
    }
    async fn lapse(&self, at: Timestamp) -> Result<Vec<RunId>, Broke> {
        self.before()?;
        self.after(self.inner.lapse(at).await)
    }
    async fn miss(&self, at: Timestamp, run: RunId, why: String) -> Result<bool, Broke> {
        self.before()?;
        self.after(self.inner.miss(at, run, why).await)
    }
    async fn places(&self) -> Result<Vec<Place>, Broke> {
        self.before()?;
        self.inner.places().await
    }
    async fn places_come(&self, by: Timestamp) -> Result<Vec<Place>, Broke> {
        self.before()?;
        self.inner.places_come(by).await
    }
    async fn tally(&self) -> Result<Tally, Broke> {
        self.before()?;
        self.inner.tally().await
    }
    async fn undone(&self, after: Option<u64>, at_most: u32) -> Result<Vec<Ended>, Broke> {
        self.before()?;
        self.inner.undone(after, at_most).await
    }
    async fn wait(&self, _at_most: Duration) {}
}

/// Eight schedules of all kinds.
fn policies() -> Vec<Policy> {
    let policy = |name: &str, backup: (&str, &str), drill: Option<(&str, &str)>| {
        let schedule = |(text, zone): (&str, &str)| Schedule { text: text.to_owned(), timezone: zone.to_owned() };
        let mut policy = sample::policy();
        policy.name = name.parse().unwrap();
        policy.source.url = format!("postgresql://{name}@{name}.example.com/{name}");
        policy.backups.truncate(1);
        policy.backups[0].schedule = Some(schedule(backup));
        policy.drills = drill
            .map(|when| DrillUse {
                drill: "restore-latest".parse().unwrap(),
                schedule: Some(schedule(when)),
                terms: Terms::default(),
            })
            .into_iter()
            .collect();
        policy
    };
    let mut all = vec![
        policy("orders", ("0 3 * * *", "Europe/Berlin"), Some(("0 12 * * 0", "Europe/Berlin"))),
        policy("stock", ("30 2 * * *", "Australia/Lord_Howe"), Some(("@daily", "America/New_York"))),
        policy("users", ("every 6h", "UTC"), None),
        policy("audit", ("0 */4 * * *", "Asia/Kathmandu"), None),
        policy("ledger", ("15 1 1,15 * *", "Africa/Casablanca"), Some(("0 5 * * 1-5", "UTC"))),
    ];
    let time = |hour| jiff::civil::time(hour, 0, 0, 0);
    all[0].drills[0].terms.window = Some(Window { from: time(22), to: time(5), days: vec![] });
    all[1].backups[0].terms.jitter = Some("1h".parse().unwrap());
    all[1].drills[0].terms.needs = BTreeSet::from(["big-disk".parse().unwrap()]);
    all[3].backups[0].terms.catch_up = Some("2h".parse().unwrap());
    all
}

/// A run that a worker does, or believes to do.
struct Job {
    claim: Claim,
    until: Timestamp,
    begun: bool,
    /// What it writes next; it asks again with the same until it has an answer.
    next: (EventId, Event),
}

struct Hand {
    worker: Worker,
    job: Option<Job>,
    /// It does nothing until then, and then goes on as if nothing had been.
    stopped: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Counts {
    schedule_years: f64,
    steps: u64,
    planned: u64,
    succeeded: u64,
    found_or_unproven: u64,
    broke: u64,
    abandoned: u64,
    missed: u64,
    caught_up: u64,
    retries: u64,
    /// Ends that a worker was told are written.
    finished: u64,
    fenced: u64,
    crashes: u64,
    outages: u64,
    jumps: u64,
}

struct World {
    dice: Dice,
    truth: Timestamp,
    skew: SignedDuration,
    house: Arc<House>,
    queue: Arc<Faulty>,
    planners: [Option<Planner>; 2],
    hands: Vec<Hand>,
    begun: BTreeMap<RunId, u32>,
    seen: Option<Timestamp>,
    counts: Counts,
}

impl World {
    fn new(file: &Path, seed: u64) -> World {
        let opened: Opened = SqliteCatalog::open(file).unwrap().into();
        let truth = at("2025-09-20T10:00:00Z");
        let weather = Weather { now: truth, down: false, dice: Dice::new(seed ^ 0xfeed), lost: 0 };
        let queue = Arc::new(Faulty { inner: opened.queue, weather: Mutex::new(weather) });
        let mut config = sample::config();
        config.serve.lease = LEASE;
        let house = Arc::new(House {
            config,
            policies: policies().into(),
            drills: vec![],
            warnings: vec![],
            catalog: opened.catalog,
            queue: Arc::clone(&queue) as Arc<dyn Queue>,
            outbox: opened.outbox,
            stand_ins: BTreeMap::new(),
            only: None,
            buckets: Default::default(),
            fence: None,
        });
        let hands = (0..3).map(|n| {
            let kinds = Class::ALL.into_iter().filter_map(label);
            let labels = kinds.chain((n == 1).then(|| "big-disk".parse().unwrap())).collect();
            Hand { worker: Worker { name: format!("w{n}"), labels }, job: None, stopped: None }
        });
        World {
            dice: Dice::new(seed),
            truth,
            skew: SignedDuration::ZERO,
            planners: [Some(Planner::new(Arc::clone(&house))), None],
            house,
            queue,
            hands: hands.collect(),
            begun: BTreeMap::new(),
            seen: None,
            counts: Counts::default(),
        }
    }

    fn now(&self) -> Timestamp {
        self.truth + self.skew
    }

    fn chance(&mut self, of_ten_thousand: usize) -> bool {
        self.dice.below(10_000) < of_ten_thousand
    }

    fn some(&mut self, seconds: usize) -> SignedDuration {
        SignedDuration::from_secs(i64::try_from(1 + self.dice.below(seconds)).unwrap())
    }

    fn chaos(&mut self) {
        if self.chance(40) {
            self.counts.outages += 1;
            self.queue.weather.lock().unwrap().down = true;
        } else if self.chance(1_500) {
            self.queue.weather.lock().unwrap().down = false;
        }
        for at in 0..2 {
            if self.planners[at].is_some() && self.chance(60) {
                self.counts.crashes += 1;
                self.planners[at] = None;
            } else if self.planners[at].is_none() && self.chance(if at == 0 { 400 } else { 100 }) {
                self.planners[at] = Some(Planner::new(Arc::clone(&self.house)));
            }
        }
        for at in 0..self.hands.len() {
            if self.chance(50) {
                self.counts.crashes += 1;
                self.hands[at].job = None;
            }
            if self.chance(50) {
                self.hands[at].stopped = Some(self.truth + self.some(5 * 3_600));
            }
        }
        if self.chance(15) {
            self.counts.jumps += 1;
            let size = if self.chance(1_000) {
                200 * 86_400
            } else if self.chance(3_000) {
                3 * 86_400
            } else {
                1_200
            };
            let by = self.some(size);
            // What was set wrong is set right some time.
            self.skew = match self.dice.below(4) {
                0 => self.skew + by,
                1 => self.skew - by.min(SignedDuration::from_hours(72)),
                _ => SignedDuration::ZERO,
            };
        }
    }

    async fn step(&mut self, chaos: bool) {
        self.counts.steps += 1;
        let step = self.some(2_400);
        self.truth += step;
        if chaos {
            self.chaos();
        }
        let now = self.now();
        {
            let mut weather = self.queue.weather.lock().unwrap();
            (weather.now, weather.lost) = (now, if chaos { 4 } else { 0 });
        }
        let steady = Duration::try_from(self.truth.duration_since(at("2025-01-01T00:00:00Z"))).unwrap();
        for planner in self.planners.iter_mut().flatten() {
            // What it cannot do now it does later. Schedules count from when they were first seen.
            if planner.tick(steady).await.is_ok() {
                self.seen.get_or_insert(now);
            }
        }
        for at in 0..self.hands.len() {
            self.work(at).await;
        }
    }

    async fn work(&mut self, at: usize) {
        let (now, truth) = (self.now(), self.truth);
        let was_stopped = self.hands[at].stopped.is_some();
        if self.hands[at].stopped.is_some_and(|until| until > truth) {
            return;
        }
        self.hands[at].stopped = None;
        let Some(mut job) = self.hands[at].job.take() else {
            let worker = self.hands[at].worker.clone();
            if let Ok(Some(claim)) = self.queue.claim(now, &worker, LEASE).await {
                let until = truth + self.some(2 * 3_600);
                let started = Event::Started { host: "h".to_owned(), pid: 1, pid_started: 1 };
                self.hands[at].job = Some(Job { claim, until, begun: false, next: (EventId::new(), started) });
            }
            return;
        };
        if !job.begun {
            match self.queue.append_held(now, &job.claim, job.next.0, job.next.1.clone()).await {
                Ok(Hold::Held) => {
                    *self.begun.entry(job.claim.planned.run).or_default() += 1;
                    let outcome = self.outcome(&job.claim.planned.key.work);
                    (job.begun, job.next) = (true, (EventId::new(), Event::Finished { outcome }));
                    self.hands[at].job = Some(job);
                }
                Ok(Hold::Lost) => self.counts.fenced += 1,
                Err(_) => self.hands[at].job = Some(job),
            }
            return;
        }
        if job.until <= truth || was_stopped {
            match self.queue.append_held(now, &job.claim, job.next.0, job.next.1.clone()).await {
                Ok(Hold::Held) => self.counts.finished += 1,
                Ok(Hold::Lost) => self.counts.fenced += 1,
                Err(_) => self.hands[at].job = Some(job),
            }
            return;
        }
        match self.queue.renew(now, &job.claim, LEASE).await {
            Ok(Hold::Lost) => self.counts.fenced += 1,
            Ok(Hold::Held) | Err(_) => self.hands[at].job = Some(job),
        }
    }

    fn outcome(&mut self, work: &Work) -> RunOutcome {
        let drill = matches!(work, Work::Drill { .. });
        match self.dice.below(10) {
            0 => RunOutcome::Broke { error: "it broke".to_owned(), hint: None },
            1 if drill => RunOutcome::Judged(Verdict::Unproven),
            2 if drill => RunOutcome::Judged(Verdict::Failed),
            _ if drill => RunOutcome::Judged(Verdict::Proven),
            _ => RunOutcome::Succeeded,
        }
    }
}

/// What the events of a run say.
#[derive(Default)]
struct Told {
    key: Option<(String, Work, Timestamp)>,
    ends: Vec<Event>,
    caught_up: Vec<(u64, Timestamp)>,
}

fn told(file: &Path) -> BTreeMap<String, Told> {
    let connection = rusqlite::Connection::open(file).unwrap();
    let twice = "select count(*) from (select 1 from event where kind = 'started' group by run having count(*) > 1)";
    assert_eq!(connection.query_row(twice, [], |row| row.get::<_, i64>(0)).unwrap(), 0, "{file:?}: begun twice");
    let mut statement = connection.prepare("select policy, run, body from event order by seq").unwrap();
    let mut rows = statement.query([]).unwrap();
    let mut all: BTreeMap<String, Told> = BTreeMap::new();
    while let Some(row) = rows.next().unwrap() {
        let (policy, run, body): (String, String, String) =
            (row.get(0).unwrap(), row.get(1).unwrap(), row.get(2).unwrap());
        let told = all.entry(run).or_default();
        match serde_json::from_str(&body).unwrap() {
            Event::Planned { work, scheduled_for } => told.key = Some((policy, work, scheduled_for.unwrap())),
            Event::CaughtUp { instants, since } => told.caught_up.push((instants, since)),
            event if event.ends() => told.ends.push(event),
            _ => {}
        }
    }
    all
}

/// Lives through so many days, then some quiet ones; and looks at what is left.
async fn live(file: &Path, seed: u64, days: i64) -> Counts {
    let mut world = World::new(file, seed);
    let until = world.truth + SignedDuration::from_hours(24 * days);
    while world.truth < until {
        world.step(true).await;
    }
    // From here on nothing goes wrong.
    world.queue.weather.lock().unwrap().down = false;
    world.skew = SignedDuration::ZERO;
    world.planners[0] = Some(Planner::new(Arc::clone(&world.house)));
    for hand in &mut world.hands {
        (hand.job, hand.stopped) = (None, None);
    }
    let until = world.truth + SignedDuration::from_hours(24 * 3);
    while world.truth < until {
        world.step(false).await;
    }
    let now = world.now();
    let begin = world.seen.unwrap();
    check(file, seed, begin, now, &mut world).await;
    world.counts.schedule_years = 8.0 * days as f64 / 365.25;
    world.counts
}

async fn check(file: &Path, seed: u64, begin: Timestamp, now: Timestamp, world: &mut World) {
    let told = told(file);
    let again = format!("again: LIFEBOAT_SIM_SEED={seed}");
    let waiting: BTreeMap<String, Place> = world
        .queue
        .inner
        .places()
        .await
        .unwrap()
        .into_iter()
        .map(|place| (place.planned.run.to_string(), place))
        .collect();
    let (mut keys, mut done) = (BTreeSet::new(), BTreeSet::new());
    let mut covered: BTreeMap<(String, String), Covered> = BTreeMap::new();
    let lines = due::lines(&world.house.policies, &world.house.config.schedule);
    let counts = &mut world.counts;
    for (run, told) in &told {
        let (policy, work, instant) = told.key.clone().unwrap_or_else(|| panic!("{run} was never planned; {again}"));
        counts.planned += 1;
        // One outcome each; none only for what is still to come.
        match (told.ends.as_slice(), waiting.get(run)) {
            ([end], None) => match end {
                Event::Finished { outcome: RunOutcome::Succeeded | RunOutcome::Judged(Verdict::Proven) } => {
                    counts.succeeded += 1;
                    assert!(done.insert((policy.clone(), work.title(), instant)), "{run} was done before; {again}");
                }
                Event::Finished { outcome: RunOutcome::Broke { .. } } => counts.broke += 1,
                Event::Finished { .. } => counts.found_or_unproven += 1,
                Event::Abandoned { .. } => counts.abandoned += 1,
                _ => counts.missed += 1,
            },
            ([], Some(place)) => {
                let fresh = now - SignedDuration::from_hours(3);
                let busy = place.holder.is_some() || place.planned.due_at > fresh;
                assert!(busy, "{place:?} is forgotten; {again}");
            }
            (ends, place) => panic!("{run}: {ends:?}, {place:?}; {again}"),
        }
        let line = lines.iter().find(|line| line.policy.as_str() == policy && line.work == work).unwrap();
        let entry = covered.entry((policy.clone(), work.title())).or_default();
        if !keys.insert((policy, work.title(), instant)) {
            counts.retries += 1;
        }
        entry.0.insert(instant);
        for (instants, since) in &told.caught_up {
            let just_before = *since - SignedDuration::from_millis(1);
            let between = line.instants.between(just_before, instant).count() as u64 - 1;
            assert_eq!(*instants, between, "{run} makes up for what it says; {again}");
            counts.caught_up += instants;
            entry.1.push((*since, instant));
        }
    }
    // What a worker was told is written is written.
    let ends = counts.succeeded + counts.found_or_unproven + counts.broke;
    assert!(counts.finished <= ends, "{} ends were told, {ends} are there; {again}", counts.finished);
    for (run, times) in &world.begun {
        assert_eq!(*times, 1, "{run} was begun more than once; {again}");
    }
    // Nothing is lost: each instant of each schedule has a run, or is told as made up for.
    for line in &lines {
        let (planned, made_up) = covered.get(&(line.policy.to_string(), line.work.title())).unwrap();
        for instant in line.instants.between(begin, now - SignedDuration::from_hours(3)) {
            let told =
                planned.contains(&instant) || made_up.iter().any(|(since, run)| *since <= instant && instant < *run);
            assert!(told, "{} {} at {instant} is lost; {again}", line.policy, line.work.title());
        }
    }
}

/// 10,000 policies with a backup and a drill each: all that is due is found in far less than a person notices.
#[test]
#[ignore = "measures: cargo test --release --test it ten_thousand_policies -- --ignored --nocapture"]
fn ten_thousand_policies() {
    let zones = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"];
    let sample = policies().remove(0);
    let policies: Vec<Policy> = (0..10_000)
        .map(|n| {
            let mut policy = sample.clone();
            policy.name = format!("p{n}").parse().unwrap();
            let schedule = |text: String| Some(Schedule { text, timezone: zones[n % zones.len()].to_owned() });
            policy.backups[0].schedule = schedule(format!("{} {} * * *", n % 60, n % 24));
            policy.drills[0].schedule = schedule(format!("{} 5 * * {}", n % 60, n % 7));
            policy.drills[0].terms = Terms::default();
            policy
        })
        .collect();
    let now = at("2026-11-20T12:00:00Z");
    let began = Instant::now();
    let lines = due::lines(&policies, &Default::default());
    println!("{} schedules read in {:?}", lines.len(), began.elapsed());
    let planned = |line: &due::Line| {
        let (policy, work) = (line.policy.clone(), line.work.clone());
        PlannedUpTo { policy, work, instant: at("2026-11-19T12:00:00Z") }
    };
    let up_to: Vec<PlannedUpTo> = lines.iter().map(planned).collect();
    let began = Instant::now();
    let mut agenda = due::Agenda::new(lines, &up_to, now);
    println!("the next instant of each computed in {:?}", began.elapsed());
    let began = Instant::now();
    let found = agenda.look(now);
    println!("{} runs are due, found with what they make up for in {:?}", found.len(), began.elapsed());
    let began = Instant::now();
    assert_eq!(agenda.look(at("2026-11-20T12:00:01Z")), []);
    println!("looked again in {:?}", began.elapsed());
    assert!(found.len() > 10_000);
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[tokio::test]
async fn every_planned_run_has_one_outcome_whatever_happens() {
    let first = number("LIFEBOAT_SIM_SEED").unwrap_or(1);
    let years = number("LIFEBOAT_SIM_YEARS");
    let days = if years.is_some() { 180 } else { 12 };
    let folder = match std::env::var_os("LIFEBOAT_SIM_DIR") {
        Some(dir) => tempfile::tempdir_in(PathBuf::from(dir)).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let mut all = Counts::default();
    let mut seed = first;
    while all.steps == 0 || years.is_some_and(|years| all.schedule_years < years as f64) {
        let file = folder.path().join(format!("{seed}.db"));
        let one = live(&file, seed, days).await;
        println!("seed {seed}: {one:?}");
        std::fs::remove_file(&file).unwrap();
        all = Counts {
            schedule_years: all.schedule_years + one.schedule_years,
            steps: all.steps + one.steps,
            planned: all.planned + one.planned,
            succeeded: all.succeeded + one.succeeded,
            found_or_unproven: all.found_or_unproven + one.found_or_unproven,
            broke: all.broke + one.broke,
            abandoned: all.abandoned + one.abandoned,
            missed: all.missed + one.missed,
            caught_up: all.caught_up + one.caught_up,
            retries: all.retries + one.retries,
            finished: all.finished + one.finished,
            fenced: all.fenced + one.fenced,
            crashes: all.crashes + one.crashes,
            outages: all.outages + one.outages,
            jumps: all.jumps + one.jumps,
        };
        seed += 1;
    }
    println!("seeds {first} to {}: {all:?}", seed - 1);
    assert!(all.succeeded > 0 && all.planned > 50, "{all:?}");
}
