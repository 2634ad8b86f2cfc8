//! Watching: what is known of every policy is looked up, told as metrics, held against what must be heard of, and the letters are delivered. Each part can
//! be run once, and by itself; `lifeboat serve` runs them as its background tasks (`cli/serve`).

mod facts;
mod post;
mod seen;
mod text;

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{Mutex, watch};

use super::House;
use super::serve::Shared;
use crate::clock::now;
use crate::domain::alarm::{Alarm, Condition};
use crate::domain::check::Broke;
use crate::domain::ids::PolicyName;
use crate::domain::units::Span;
use crate::judge::alarm::{self, Decision, Scene};
use crate::judge::metrics::{Reload, World};
use crate::telemetry::metrics::{Form, parts};
use crate::telemetry::vitals::Vitals;
use seen::Seen;

pub use post::{Delivery, Outcome, deliver};
pub use text::Text;

/// What was looked up is good for so long, and for ten times as long as it took: looking is never more than a tenth of a core.
const GOOD_FOR: Duration = Duration::from_secs(5);
/// So long is what is under way let come to its end.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How often alarms are decided on and letters delivered, at most.
const EVERY: Duration = Duration::from_secs(10);
/// And at least.
const AT_LEAST_EVERY: Duration = Duration::from_secs(60);
/// A planner looks once a minute at least; this long without a look, and it hangs.
const PLANNER_SILENT: Duration = Duration::from_secs(600);
/// How often who decides on alarms that changed meanwhile tries again.
const ATTEMPTS: usize = 8;

/// Watches one house.
pub struct Watcher {
    houses: watch::Receiver<Arc<House>>,
    service: Option<Arc<Shared>>,
    /// Signs of life of this process.
    pub vitals: Vitals,
    kept: Mutex<Kept>,
    /// What the last look found, for those who do not wait for the next.
    latest: std::sync::Mutex<Option<Arc<World>>>,
    writing: Arc<Mutex<()>>,
}

/// What was looked up, and when.
#[derive(Default)]
struct Kept {
    house: Option<Arc<House>>,
    since: Option<Timestamp>,
    looked_at: Option<Instant>,
    took: Duration,
    policies: Seen,
}

/// What came of deciding.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    /// Alarms that are not as they were.
    pub changed: Vec<Alarm>,
    /// Letters that were written.
    pub letters: usize,
    /// Policies that could not be looked at: nothing of theirs is over.
    pub unseen: Vec<PolicyName>,
}

impl Watcher {
    /// Of a house that stays.
    pub fn new(house: Arc<House>) -> Watcher {
        // What was sent last can be read when nobody sends any more.
        Watcher::of(watch::Sender::new(house).subscribe(), None)
    }

    /// Of a service, whose policies may be read again.
    pub fn of_service(shared: &Arc<Shared>) -> Watcher {
        Watcher::of(shared.houses(), Some(Arc::clone(shared)))
    }

    fn of(houses: watch::Receiver<Arc<House>>, service: Option<Arc<Shared>>) -> Watcher {
        let (vitals, kept, latest) = (Vitals::default(), Mutex::new(Kept::default()), std::sync::Mutex::default());
        Watcher { houses, service, vitals, kept, latest, writing: Arc::default() }
    }

    fn latest(&self) -> Option<Arc<World>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The house, with the policies in use.
    pub fn house(&self) -> Arc<House> {
        Arc::clone(&self.houses.borrow())
    }

    /// Loops of this process that have not moved for longer than they should, and for how long.
    pub fn stuck(&self) -> Vec<(&'static str, Duration)> {
        let mut stuck = self.vitals.stuck();
        // A planner that says why it cannot plan moves.
        let planner = self.service.as_ref().and_then(|service| service.standing().planner_moved);
        stuck.extend(planner.map(|at| ("planner", at.elapsed())).filter(|(_, silent)| *silent > PLANNER_SILENT));
        stuck
    }

    /// What is known, not older than a few seconds; while somebody looks, what was known before.
    pub async fn world(&self) -> Arc<World> {
        let mut kept = match (self.kept.try_lock(), self.latest()) {
            (Ok(kept), _) => kept,
            (Err(_), Some(latest)) => return latest,
            (Err(_), None) => self.kept.lock().await,
        };
        let good_for = GOOD_FOR.max(kept.took * 10);
        match self.latest() {
            Some(latest) if kept.looked_at.is_some_and(|at| at.elapsed() <= good_for) => latest,
            _ => self.look(&mut kept).await,
        }
    }

    /// The same, looked up now.
    pub async fn world_now(&self) -> Arc<World> {
        let mut kept = self.kept.lock().await;
        self.look(&mut kept).await
    }

    /// All metrics as text, part after part. What is known is a few seconds old at most.
    pub async fn metrics(&self, form: Form) -> Text {
        Text {
            world: self.world().await,
            now: now(),
            form,
            parts: Box::new(parts()),
            writing: Arc::clone(&self.writing),
        }
    }

    async fn look(&self, kept: &mut Kept) -> Arc<World> {
        let (house, began, now) = (self.house(), Instant::now(), now());
        if !kept.house.as_ref().is_some_and(|known| Arc::ptr_eq(known, &house)) {
            *kept = Kept { house: Some(Arc::clone(&house)), since: Some(now), ..Kept::default() };
        }
        let standing = self.service.as_ref().map(|service| service.standing());
        let catalog_up = kept.policies.look(&house, now).await.is_ok();
        kept.took = began.elapsed();
        kept.looked_at = Some(Instant::now());
        let told = |what: &str, broke: &Broke| tracing::warn!("{what} could not be looked up: {broke}");
        let alarms = house.outbox.alarms().await.inspect_err(|broke| told("alarms", broke)).ok();
        let queue = house.queue.tally().await.inspect_err(|broke| told("the queue", broke)).ok();
        let world = World {
            policies: kept.policies.all(),
            unseen: kept.policies.unseen() as u64,
            alarms: alarms.map(|known| known.alarms),
            post: house.outbox.post().await.ok(),
            queue,
            ended: house.outbox.ended().await.ok(),
            scratch: facts::scratch_bytes(&house.config.scratch.dir).await,
            reload: standing
                .as_ref()
                .zip(kept.since)
                .map(|(standing, taken_at)| Reload { ok: standing.refused.is_none(), taken_at }),
            leases_lost: standing.as_ref().map(|standing| standing.leases_lost),
            planned_at: standing.as_ref().and_then(|standing| standing.planned_at),
            catalog_up,
            gathered_at: Some(now),
            took: Some(Span::from_std(kept.took)),
        };
        let world = Arc::new(world);
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&world));
        world
    }

    /// Decides what is open and what is over, and writes that down with the letters that tell of it.
    pub async fn decide(&self) -> Result<Decided, Broke> {
        let world = self.world_now().await;
        let house = self.house();
        let configured: BTreeSet<PolicyName> = house.policies.iter().map(|policy| policy.name.clone()).collect();
        let looked_at: BTreeSet<PolicyName> = world.policies.iter().map(|facts| facts.name.clone()).collect();
        for _ in 0..ATTEMPTS {
            let (known, now) = (house.outbox.alarms().await?, now());
            let mut conditions: Vec<Condition> =
                world.policies.iter().flat_map(|facts| alarm::of_policy(facts, now)).collect();
            conditions.extend(alarm::lifeboat_itself(&house.outbox.post().await?));
            let scene = Scene {
                conditions: &conditions,
                looked_at: &looked_at,
                configured: &configured,
                notifiers: &house.config.watch.notifiers,
                routes: &house.config.watch.routes,
            };
            let Decision { changed, letters } = alarm::decide(scene, &known.alarms, now);
            let written = letters.len();
            if changed.is_empty() && letters.is_empty()
                || house.outbox.settle(known.version, changed.clone(), letters).await?
            {
                let unseen = configured.difference(&looked_at).cloned().collect();
                return Ok(Decided { changed, letters: written, unseen });
            }
        }
        Err(Broke::hinted("the alarms change faster than they can be decided on", "it is tried again in a while"))
    }

    /// Decides once and delivers once.
    pub async fn once(&self) -> Result<(Decided, Vec<Delivery>), Broke> {
        let decided = self.decide().await?;
        let house = self.house();
        let delivered = deliver(&*house.outbox, &house.config.watch.notifiers, &now).await?;
        Ok((decided, delivered))
    }

    /// Decides and delivers until it is told to stop. What cannot be done now is tried again.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        loop {
            self.vitals.beat("alarms", EVERY * 30);
            // What is being delivered comes to its end; a look at thousands of policies is not waited for.
            let asked_to_end = async {
                let _ = stop.wait_for(|stop| *stop).await;
                tokio::time::sleep(LAST_WORDS).await;
            };
            let began = Instant::now();
            let done = tokio::select! {
                done = self.once() => done,
                () = asked_to_end => break,
            };
            match done {
                Ok((decided, delivered)) => {
                    for alarm in &decided.changed {
                        let state = if alarm.is_open() { "open" } else { "over" };
                        tracing::info!(alarm = %alarm.what.key, state, "{}", alarm.what.summary);
                    }
                    for one in delivered.iter().filter(|one| !matches!(one.outcome, Outcome::Delivered(_))) {
                        tracing::warn!(notifier = %one.to, letter = %one.letter, "{}", one.outcome);
                    }
                }
                Err(broke) => tracing::warn!("alarms could not be decided on: {broke}"),
            }
            tokio::select! {
                // Watching thousands of policies is a small part of a core.
                () = tokio::time::sleep((began.elapsed() * 40).clamp(EVERY, AT_LEAST_EVERY)) => {}
                // A sender that is gone has stopped too.
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        self.vitals.ended("alarms");
    }
}
