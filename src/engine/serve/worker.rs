//! Workers: they claim runs, as many of each kind as this machine may do at once, and do each under a lease that is kept as long as it runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::{Performer, Shared, sweep_up};
use crate::domain::check::Broke;
use crate::domain::ids::RunId;
use crate::domain::queue::{Claim, Worker};
use crate::domain::run::{Event, RunOutcome};
use crate::engine::claimed::Fence;
use crate::engine::{House, interrupt, process};
use crate::judge::due::{Class, label};

/// The queue is asked at least so often whether something has come due.
const EVERY: Duration = Duration::from_secs(5);
/// After an error.
const AFTER_ERROR: Duration = Duration::from_secs(2);
/// What a run that came to no end in the time to drain hears.
const DRAINED: &str = "the end of the time to drain";

/// This process as a worker: its host, its id, and when it began.
pub fn name() -> String {
    match process::started() {
        Event::Started { host, pid, pid_started } => format!("{host}/{pid}/{pid_started}"),
        // It is that event.
        _ => process::host(),
    }
}

/// The workers of one process.
pub struct Workers {
    shared: Arc<Shared>,
    performer: Arc<dyn Performer>,
    name: String,
    fences: Mutex<BTreeMap<RunId, (Class, Arc<Fence>)>>,
    freed: Notify,
}

impl Workers {
    /// They do runs with this performer.
    pub fn new(shared: Arc<Shared>, performer: Arc<dyn Performer>) -> Arc<Workers> {
        let fences = Mutex::default();
        Arc::new(Workers { shared, performer, name: name(), fences, freed: Notify::new() })
    }

    /// Claims and does runs until it is told to drain; returns when the last of them has ended.
    pub async fn run(self: Arc<Workers>, mut drain: watch::Receiver<bool>) {
        let mut running = JoinSet::new();
        while !*drain.borrow() {
            let house = self.shared.house();
            let worker = Worker { name: self.name.clone(), labels: self.free(&house) };
            let wait = if worker.labels.is_empty() {
                // No slot is free: the end of a run is waited for.
                None
            } else {
                match self.claim(&house, &worker).await {
                    Ok(Some((claim, claimed))) => {
                        self.clone().begin(&house, claim, claimed, &mut running);
                        continue;
                    }
                    Ok(None) => Some(EVERY),
                    Err(broke) => {
                        tracing::error!(error = %broke.error, hint = broke.hint, "nothing can be claimed now");
                        tokio::select! {
                            _ = drain.wait_for(|drain| *drain) => {}
                            () = tokio::time::sleep(AFTER_ERROR) => {}
                        }
                        continue;
                    }
                }
            };
            tokio::select! {
                _ = drain.wait_for(|drain| *drain) => {}
                () = self.freed.notified() => {}
                () = async {
                    match wait {
                        Some(wait) => house.queue.wait(wait).await,
                        None => std::future::pending().await,
                    }
                } => {}
            }
            while running.try_join_next().is_some() {}
        }
        while running.join_next().await.is_some() {}
    }

    /// Lets what runs come to its end for so long, then stops it; returns when nothing runs.
    pub async fn drain(&self, at_most: Duration) {
        let over = async {
            while !self.all().is_empty() {
                self.freed.notified().await;
            }
        };
        tokio::pin!(over);
        tokio::select! {
            () = &mut over => return,
            () = tokio::time::sleep(at_most) => {}
        }
        for (_, fence) in self.all() {
            tracing::warn!(run = %fence.run(), "it did not end in the time to drain, and is stopped");
            fence.stop(DRAINED);
        }
        over.await;
    }

    fn all(&self) -> Vec<(Class, Arc<Fence>)> {
        self.fences.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The labels with which runs are claimed: the machine's own, and those of the kinds that have a free slot; none: nothing has.
    fn free(&self, house: &House) -> std::collections::BTreeSet<crate::domain::ids::PlaceName> {
        let serve = &house.config.serve;
        let all = self.all();
        let room = |class: Class| {
            let most = match class {
                Class::Backup => serve.backups,
                Class::Drill => serve.drills,
                Class::Housekeeping => serve.housekeeping,
            };
            all.iter().filter(|(of, _)| *of == class).count() < most
        };
        if all.len() >= serve.workers || !Class::ALL.into_iter().any(room) {
            return Default::default();
        }
        let kinds = Class::ALL.into_iter().filter(|class| room(*class)).filter_map(label);
        serve.labels.iter().cloned().chain(kinds).collect()
    }

    async fn claim(&self, house: &House, worker: &Worker) -> Result<Option<(Claim, Instant)>, Broke> {
        let now = house.queue.now().await?;
        let asked = Instant::now();
        let claim = house.queue.claim(now, worker, house.config.serve.lease).await?;
        Ok(claim.map(|claim| (claim, asked)))
    }

    fn begin(self: Arc<Workers>, house: &Arc<House>, claim: Claim, claimed: Instant, running: &mut JoinSet<()>) {
        let (run, class) = (claim.planned.run, Class::of(&claim.planned.key.work));
        let fence = Arc::new(Fence::new(Arc::clone(&house.queue), claim.clone(), house.config.serve.lease, claimed));
        self.shared.begins(run);
        self.fences.lock().unwrap_or_else(PoisonError::into_inner).insert(run, (class, Arc::clone(&fence)));
        let house = Arc::clone(house);
        running.spawn(async move {
            let me = Arc::clone(&self);
            let work = tokio::spawn(async move { me.perform(&house, &claim, &fence).await });
            if let Err(error) = work.await {
                tracing::error!(%run, %error, "a run came to no good end");
            }
            self.shared.ended(run);
            self.fences.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
            self.freed.notify_waiters();
            self.freed.notify_one();
        });
    }

    async fn perform(&self, house: &Arc<House>, claim: &Claim, fence: &Arc<Fence>) {
        let planned = &claim.planned;
        let (run, policy, work) = (planned.run, &planned.key.policy, planned.key.work.title());
        tracing::info!(%run, %policy, work, scheduled_for = %planned.key.scheduled_for, attempt = planned.key.attempt, "begun");
        let keeping = tokio::spawn({
            let fence = Arc::clone(fence);
            async move { fence.keep().await }
        });
        let inside = house.for_claim(Arc::clone(fence));
        let (performer, order) = (Arc::clone(&self.performer), planned.clone());
        let stopped = fence.stopped();
        // On a thread of its own: whatever an engine does there, leases are renewed. A panic of it is an error of its run, and of no other.
        let work_done = on_a_thread(move |here| {
            let done = here.block_on(interrupt::with(stopped, performer.perform(&inside, &order)));
            (inside, done)
        });
        let work_done = work_done.await;
        let (inside, done) = match work_done {
            Ok((inside, done)) => (inside, done),
            Err(error) => (house.for_claim(Arc::clone(fence)), Err(Broke::new(format!("it panicked: {error}")))),
        };
        if !fence.has_ended() && !fence.is_lost() {
            // It was never begun, or ended without a word.
            let broke = done.as_ref().err().cloned();
            let broke = broke.unwrap_or_else(|| Broke::new("it ended without saying how"));
            let outcome = RunOutcome::Broke { error: broke.error, hint: broke.hint };
            if let Err(broke) = inside.record(policy, run, Event::Finished { outcome }).await {
                tracing::error!(%run, error = %broke.error, "how it ended could not be written down");
            }
        }
        keeping.abort();
        match &done {
            Ok(()) => tracing::info!(%run, %policy, work, "ended"),
            Err(broke) => tracing::error!(%run, %policy, work, error = %broke.error, hint = broke.hint, "it broke"),
        }
        if fence.is_lost() {
            self.shared.tell(|standing| standing.leases_lost += 1);
            self.shared.ended(run);
            if let Err(broke) = sweep_up(&self.shared).await {
                tracing::warn!(error = %broke.error, "what it left could not be swept yet");
            }
        } else if done.is_ok() {
            let (performer, house, planned) = (Arc::clone(&self.performer), Arc::clone(house), planned.clone());
            let after = on_a_thread(move |here| here.block_on(performer.afterwards(&house, &planned)));
            if let Err(error) = after.await {
                tracing::error!(%run, %error, "what follows a run came to no good end");
            }
        }
    }
}

/// Work that waits and computes as it likes, on a thread of its own.
pub(super) fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce(tokio::runtime::Handle) -> T + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    let here = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || work(here))
}
