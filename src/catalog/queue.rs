//! The queue: planned runs, claimed one by one by any number of workers.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::check::Broke;
use crate::domain::ids::RunId;
use crate::domain::queue::{Claim, Ended, Hold, Place, Planned, PlannedUpTo, Tally, Worker};
use crate::domain::run::{Event, EventId};
use crate::domain::units::Span;

/// The queue. Every implementation passes one contract suite.
///
/// `at` is always a moment of the queue's own clock ([`Queue::now`]), so that machines whose clocks differ agree on leases. Whatever is told
/// to be done is durable on return; what a call writes, it writes whole or not at all.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Now, by the clock that all who share this queue share: the database server's, or this machine's.
    async fn now(&self) -> Result<Timestamp, Broke>;
    /// Writes down runs that are to be done: the event `planned`, `caught_up` where there is something to tell, and a place in the queue. Of a key that was ever planned nothing is written. Gives
    /// those that are new.
    async fn plan(&self, at: Timestamp, runs: Vec<Planned>) -> Result<Vec<RunId>, Broke>;
    /// Up to which instant each schedule was ever planned, those of first attempts and of schedules that are no more included.
    async fn planned_up_to(&self) -> Result<Vec<PlannedUpTo>, Broke>;
    /// Gives a run that is due to a worker for the time of a lease: by priority, then by when it was due. Never one that needs what the worker does not
    /// offer, that is too late, or that must have something for itself which a claimed run has.
    async fn claim(&self, at: Timestamp, worker: &Worker, lease: Span) -> Result<Option<Claim>, Broke>;
    /// The lease goes on from now.
    async fn renew(&self, at: Timestamp, claim: &Claim, lease: Span) -> Result<Hold, Broke>;
    /// Appends an event of a claimed run. One that ends the run (`finished`, `abandoned`, `missed`) ends its place too. Of one id the first stands, and whoever asks
    /// again because an answer was lost hears that it was written, whatever became of the claim.
    async fn append_held(&self, at: Timestamp, claim: &Claim, id: EventId, event: Event) -> Result<Hold, Broke>;
    /// Gives a claimed run back that was not begun: it waits again.
    async fn let_go(&self, claim: &Claim) -> Result<Hold, Broke>;
    /// Gives up every run whose lease ran out before `at`: the event `abandoned`, and its place ends. Gives those. So it does with a lease that was granted later than a whole
    /// lease after `at`: by a clock that was ahead, and nobody has renewed it since that was set back.
    async fn lapse(&self, at: Timestamp) -> Result<Vec<RunId>, Broke>;
    /// Ends a run that waits and will not be done: the event `missed`. Gives whether it still waited.
    async fn miss(&self, at: Timestamp, run: RunId, why: String) -> Result<bool, Broke>;
    /// All runs that have not ended, in the order in which they would be claimed; those that are claimed first.
    async fn places(&self) -> Result<Vec<Place>, Broke>;
    /// Of these, those that are claimed and those whose instant is not after `by`: of thousands of schedules, all others wait for a time to come.
    async fn places_come(&self, by: Timestamp) -> Result<Vec<Place>, Broke>;
    /// How many there are, and when they are due.
    async fn tally(&self) -> Result<Tally, Broke>;
    /// Runs whose places ended without what was wanted of them ([`EndedAs::is_undone`]) and that have no further attempt yet, in the order in which they ended: what is
    /// to be tried again is decided from these. Those with a number greater than `after`, the first `at_most` of them; without one the newest.
    ///
    /// Numbers and not dates, for dates are no order where a clock was set: whoever has seen a number never sees a smaller one come.
    ///
    /// [`EndedAs::is_undone`]: crate::domain::queue::EndedAs::is_undone
    async fn undone(&self, after: Option<u64>, at_most: u32) -> Result<Vec<Ended>, Broke>;
    /// Returns when something may have changed for a worker or a planner, or after so long.
    async fn wait(&self, at_most: Duration);
}

/// What is written down of a run whose lease ran out.
pub(super) fn lapsed(worker: &str, until: Timestamp, at: Timestamp) -> String {
    if until < at {
        return format!("its lease ran out at {until}, and {worker} did not renew it");
    }
    format!(
        "its lease was granted until {until} by a clock that was ahead, and {worker} did not renew it since it was set back"
    )
}
