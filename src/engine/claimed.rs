//! A planned run that was claimed: the right to do it, for as long as its lease is renewed, and a catalog through which nothing of it gets in after that.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::catalog::{Before, Catalog, Queue};
use crate::domain::check::Broke;
use crate::domain::ids::{PolicyName, RunId};
use crate::domain::queue::{Claim, Hold};
use crate::domain::run::{Event, EventId, Work};
use crate::domain::units::Span;

use super::interrupt;

/// What stops a run whose lease was lost, in the words of a signal.
pub const LOST: &str = "the loss of its lease";
/// Between two tries to reach a queue that does not answer.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// The right to do a run.
pub struct Fence {
    queue: Arc<dyn Queue>,
    claim: Claim,
    lease: Span,
    /// When the lease was last known to be renewed: before the question was sent.
    renewed: Mutex<Instant>,
    /// None: it holds. Else what ended it.
    stop: watch::Sender<Option<&'static str>>,
    ended: watch::Sender<bool>,
}

impl Fence {
    /// Of a claim that was made just now.
    pub fn new(queue: Arc<dyn Queue>, claim: Claim, lease: Span, claimed: Instant) -> Fence {
        let (stop, ended) = (watch::Sender::new(None), watch::Sender::new(false));
        Fence { queue, claim, lease, renewed: Mutex::new(claimed), stop, ended }
    }

    /// The run.
    pub fn run(&self) -> RunId {
        self.claim.planned.run
    }

    /// Whether this is what was claimed.
    pub fn is_for(&self, policy: &PolicyName, work: &Work) -> bool {
        let key = &self.claim.planned.key;
        key.policy == *policy && key.work == *work
    }

    /// Hears why the run is to be stopped.
    pub fn stopped(&self) -> watch::Receiver<Option<&'static str>> {
        self.stop.subscribe()
    }

    /// Stops the run; the first reason stands.
    pub fn stop(&self, why: &'static str) {
        self.stop.send_if_modified(|first| first.is_none().then(|| *first = Some(why)).is_some());
    }

    /// Whether its end was written down.
    pub fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Whether the lease was lost.
    pub fn is_lost(&self) -> bool {
        *self.stop.borrow() == Some(LOST)
    }

    /// Keeps the lease until the run has ended or the lease is lost.
    pub async fn keep(&self) {
        let mut ended = self.ended.subscribe();
        let every = self.lease.to_std() / 3;
        let mut wait = every;
        loop {
            tokio::select! {
                _ = ended.wait_for(|ended| *ended) => return,
                () = tokio::time::sleep(wait) => {}
            }
            wait = match self.renew().await {
                Ok(Hold::Held) => every,
                Ok(Hold::Lost) => return,
                Err(broke) => {
                    tracing::warn!(run = %self.run(), error = %broke.error, "the lease could not be renewed");
                    ASK_AGAIN.min(every)
                }
            };
        }
    }

    async fn renew(&self) -> Result<Hold, Broke> {
        let asked = Instant::now();
        let at = self.queue.now().await?;
        let hold = self.queue.renew(at, &self.claim, self.lease).await?;
        match hold {
            Hold::Held => *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = asked,
            // One that ended is not lost.
            Hold::Lost if self.has_ended() => {}
            Hold::Lost => self.stop(LOST),
        }
        Ok(hold)
    }

    /// Right before something that others will see: the run is still ours. Where the queue does not answer, a lease that cannot have run out yet is good; after
    /// that it is waited for, for nobody but the queue can say.
    pub async fn or_stop(&self) -> Result<(), Broke> {
        loop {
            match self.renew().await {
                Ok(Hold::Held) => return Ok(()),
                Ok(Hold::Lost) => return Err(lost(self.run())),
                Err(broke) => {
                    let renewed = *self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
                    // Half of it, for clocks of two machines run apart, and the question takes its time.
                    if renewed.elapsed() < self.lease.to_std() / 2 {
                        return Ok(());
                    }
                    self.wait_or_stop(broke).await?;
                }
            }
        }
    }

    /// Appends an event of the run. A queue that does not answer is waited for: what happened is not thrown away because it cannot be written down now.
    async fn append(&self, id: EventId, at: Timestamp, event: Event) -> Result<(), Broke> {
        loop {
            match self.queue.append_held(at, &self.claim, id, event.clone()).await {
                Ok(Hold::Held) => {
                    if event.ends() {
                        self.ended.send_replace(true);
                    }
                    return Ok(());
                }
                // Of two ends the first stands.
                Ok(Hold::Lost) if event.ends() && self.has_ended() => return Ok(()),
                Ok(Hold::Lost) => {
                    self.stop(LOST);
                    return Err(lost(self.run()));
                }
                Err(broke) => self.wait_or_stop(broke).await?,
            }
        }
    }

    /// Waits a little; an error when the process is to end at once.
    async fn wait_or_stop(&self, broke: Broke) -> Result<(), Broke> {
        tokio::select! {
            _ = interrupt::asked_at_once() => Err(broke),
            () = tokio::time::sleep(ASK_AGAIN) => Ok(()),
        }
    }
}

fn lost(run: RunId) -> Broke {
    Broke::hinted(
        format!("the lease of run {run} was lost: it was given up meanwhile, so nothing of it counts"),
        "another worker does it again; see whether this machine was stopped, or cut off from the catalog",
    )
}

/// The catalog of a house that does a claimed run.
pub struct Held {
    /// The real one.
    pub catalog: Arc<dyn Catalog>,
    /// By what right.
    pub fence: Arc<Fence>,
}

#[async_trait]
impl Before for Held {
    fn behind(&self) -> &Arc<dyn Catalog> {
        &self.catalog
    }

    async fn says(
        &self,
        id: EventId,
        at: Timestamp,
        policy: &PolicyName,
        run: RunId,
        event: Event,
    ) -> Result<(), Broke> {
        if run == self.fence.run() {
            return self.fence.append(id, at, event).await;
        }
        self.catalog.deliver(id, at, policy, run, event).await
    }
}
