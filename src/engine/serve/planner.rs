//! Who plans: what is due is written down before it is begun, what broke is tried again, what will not be done is said, and what a dead worker held is given up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::{Shared, sweep_up};
use crate::catalog::Queue;
use crate::domain::check::Broke;
use crate::domain::ids::RunId;
use crate::domain::queue::{Place, Planned};
use crate::domain::run::Work;
use crate::engine::House;
use crate::engine::house::new_run;
use crate::judge::due::{self, Agenda, Due, Had};

/// It looks at least so often: for what others ended, lapsed or changed.
const EVERY: Duration = Duration::from_secs(15);
/// And not more often than this, however much happens.
const PAUSE: Duration = Duration::from_millis(500);
/// So many runs are written down in one step.
const AT_ONCE: usize = 500;
/// A clock that goes by so much more or less than a steady one was set.
const SET: Duration = Duration::from_secs(5);
/// After an error.
const AFTER_ERROR: Duration = Duration::from_secs(2);
/// So many runs that ended without having been done are looked at in one look; by who begins, the newest of them.
const ENDED_AT_ONCE: u32 = 20_000;

/// After a look at all that waits, so many times as long as it took nobody looks again: of thousands of policies much waits.
const SPARING: u32 = 40;

/// What came of one look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ticked {
    /// Runs that are new in the queue.
    pub planned: usize,
    /// Runs that will not be done.
    pub missed: usize,
    /// Runs whose lease ran out.
    pub lapsed: usize,
    /// When there may be something to plan next.
    pub next: Option<Timestamp>,
}

/// The planner. It remembers nothing that it could not ask for again.
pub struct Planner {
    house: Arc<House>,
    agenda: Option<Agenda>,
    /// Up to which number what ended was looked at.
    ended_up_to: Option<u64>,
    /// Since when the queue has answered without a pause, and when it last did, by a steady clock; and what its own clock said then.
    answers: Option<(Duration, Duration, Timestamp)>,
    /// Runs of which it was said that nobody takes them.
    untaken: BTreeSet<RunId>,
    /// When what waits is to be looked at again; none: now, and all of it.
    waiting_at: Option<Duration>,
}

impl Planner {
    /// For a house.
    pub fn new(house: Arc<House>) -> Planner {
        Planner { house, agenda: None, ended_up_to: None, answers: None, untaken: BTreeSet::new(), waiting_at: None }
    }

    /// From here on with these policies.
    pub fn use_house(&mut self, house: Arc<House>) {
        (self.house, self.agenda, self.waiting_at) = (house, None, None);
    }

    /// Looks once. `steady`: a clock that is never set, such as the time since the process began. After an error everything is asked for again.
    pub async fn tick(&mut self, steady: Duration) -> Result<Ticked, Broke> {
        let ticked = self.look(steady).await;
        if ticked.is_err() {
            (self.agenda, self.answers, self.waiting_at) = (None, None, None);
        }
        ticked
    }

    async fn look(&mut self, steady: Duration) -> Result<Ticked, Broke> {
        let queue = Arc::clone(&self.house.queue);
        let now = queue.now().await?;
        let lapsed = if self.may_lapse(steady, now) { queue.lapse(now).await?.len() } else { 0 };
        let mut fresh = self.agenda.is_none();
        if fresh {
            self.ask().await?;
        }
        let mut due = self.due(now);
        if !fresh && due.iter().any(|one| one.caught_up.is_some()) {
            // Others may have planned meanwhile what is told here as planned by nobody.
            self.ask().await?;
            fresh = true;
            due = self.due(now);
        }
        let mut ticked = Ticked { lapsed, ..Ticked::default() };
        let Some(agenda) = &self.agenda else { return Ok(ticked) };
        let after = self.ended_up_to.filter(|_| !fresh);
        let ended = queue.undone(after, ENDED_AT_ONCE).await?;
        due.extend(due::again(agenda, &ended, &self.house.config.schedule, now));
        if !due.is_empty() {
            let runs = self.runs(agenda, due, now).await?;
            for some in runs.chunks(AT_ONCE) {
                ticked.planned += queue.plan(now, some.to_vec()).await?.len();
            }
        }
        ticked.next = agenda.next();
        if self.waiting_at.is_none_or(|at| steady >= at) {
            let began = Instant::now();
            // What waits for a time to come is as it was, as long as the policies are.
            let places = match self.waiting_at {
                Some(_) => queue.places_come(now).await?,
                None => queue.places().await?,
            };
            ticked.missed = self.look_at_waiting(&*queue, &places, now).await?;
            self.waiting_at = Some(steady + began.elapsed() * SPARING);
        }
        self.ended_up_to = ended.last().map(|newest| newest.number).or(after);
        Ok(ticked)
    }

    /// What is to be planned now.
    fn due(&mut self, now: Timestamp) -> Vec<Due> {
        let Some(agenda) = &mut self.agenda else { return Vec::new() };
        let began = Instant::now();
        let due = agenda.look(now);
        let (schedules, took) = (agenda.lines().len(), began.elapsed().as_micros());
        tracing::debug!(schedules, due = due.len(), took_microseconds = took, "what is due was computed");
        due
    }

    /// Tells of runs that nobody takes, and gives up those that will not be done; how many those are.
    async fn look_at_waiting(&mut self, queue: &dyn Queue, places: &[Place], now: Timestamp) -> Result<usize, Broke> {
        let Some(agenda) = &self.agenda else { return Ok(0) };
        let had = Had::by(places);
        let untaken: BTreeMap<RunId, String> =
            places.iter().filter_map(|place| Some((place.planned.run, due::untaken(place, &had, now)?))).collect();
        self.untaken.retain(|run| untaken.contains_key(run));
        for (run, why) in &untaken {
            if self.untaken.insert(*run) {
                tracing::warn!(%run, why, "a run waits for a machine that offers what it needs: see [worker] labels on every machine");
            }
        }
        let mut missed = 0;
        for (run, why) in agenda.hopeless(places, now) {
            tracing::warn!(%run, why, "a run is missed");
            missed += usize::from(queue.miss(now, run, why).await?);
        }
        Ok(missed)
    }

    /// Asks the queue how far everything was planned.
    async fn ask(&mut self) -> Result<(), Broke> {
        let planned = self.house.queue.planned_up_to().await?;
        let now = self.house.queue.now().await?;
        let lines = match self.agenda.take() {
            Some(agenda) => agenda.lines().cloned().collect(),
            None => due::lines(&self.house.policies, &self.house.config.schedule),
        };
        self.agenda = Some(Agenda::new(lines, &planned, now));
        Ok(())
    }

    /// Leases are given up only by who has seen the queue answer through a whole lease, and its clock go on as clocks do: after an outage, after this process was
    /// stopped, or after the clock was set, those who hold leases come first.
    fn may_lapse(&mut self, steady: Duration, now: Timestamp) -> bool {
        let lease = self.house.config.serve.lease.to_std();
        let since = match self.answers {
            Some((since, last, then)) => {
                let passed = steady.saturating_sub(last);
                let by_the_clock = now.duration_since(then);
                let was_set = SignedDuration::try_from(passed)
                    .map_or(true, |passed| (by_the_clock - passed).unsigned_abs() > SET);
                if passed < lease.max(EVERY * 2) && !was_set { since } else { steady }
            }
            None => steady,
        };
        self.answers = Some((since, steady, now));
        steady.saturating_sub(since) >= lease
    }

    async fn runs(&self, agenda: &Agenda, due: Vec<Due>, now: Timestamp) -> Result<Vec<Planned>, Broke> {
        let lines: Vec<_> = agenda.lines().collect();
        let mut runs = Vec::with_capacity(due.len());
        for one in due {
            let Some(line) = lines.get(one.line) else { continue };
            // Of a drill that is only planned ahead it is not known yet how old the proof will be.
            let overdue = matches!(line.work, Work::Drill { .. }) && one.key.scheduled_for <= now && {
                let proofs = self.house.catalog.proofs(&line.policy).await?;
                let policy = self.house.policies.iter().find(|policy| policy.name == line.policy);
                policy.is_some_and(|policy| due::overdue(proofs.iter().map(|proof| proof.at).max(), policy, now))
            };
            runs.push(due::place(one, line, new_run(), overdue));
        }
        Ok(runs)
    }
}

/// Plans until it is told to end.
pub(super) async fn keep(shared: Arc<Shared>, mut end: watch::Receiver<bool>) {
    let began = Instant::now();
    let mut houses = shared.houses();
    let mut planner = Planner::new(shared.house());
    loop {
        if houses.has_changed().unwrap_or(false) {
            planner.use_house(Arc::clone(&houses.borrow_and_update()));
        }
        let queue = Arc::clone(&shared.house().queue);
        shared.tell(|standing| standing.planner_moved = Some(Instant::now()));
        let wait = match planner.tick(began.elapsed()).await {
            Ok(ticked) => {
                let now = crate::clock::now();
                shared.tell(|standing| (standing.planned_at, standing.planner_broke) = (Some(now), None));
                if ticked != (Ticked { next: ticked.next, ..Ticked::default() }) {
                    let Ticked { planned, missed, lapsed, .. } = ticked;
                    tracing::info!(planned, missed, lapsed, "planned");
                }
                if ticked.lapsed > 0
                    && let Err(broke) = sweep_up(&shared).await
                {
                    tracing::warn!(error = %broke.error, "what an abandoned run left could not be swept yet");
                }
                let until =
                    ticked.next.map_or(EVERY, |next| Duration::try_from(next.duration_since(now)).unwrap_or_default());
                until.clamp(PAUSE, EVERY)
            }
            Err(broke) => {
                tracing::error!(error = %broke.error, hint = broke.hint, "nothing can be planned now");
                shared.tell(|standing| standing.planner_broke = Some(broke.error));
                AFTER_ERROR
            }
        };
        tokio::select! {
            _ = end.wait_for(|end| *end) => return,
            _ = houses.changed() => planner.use_house(Arc::clone(&houses.borrow_and_update())),
            () = async {
                // Not at every change, but soon after one.
                tokio::time::sleep(PAUSE).await;
                queue.wait(wait.saturating_sub(PAUSE)).await;
            } => {}
        }
    }
}
