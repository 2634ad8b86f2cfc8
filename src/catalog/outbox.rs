//! The outbox: alarms as they were last decided on, and the letters that tell of them until somebody answers for their arrival.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::alarm::{Alarm, Letter, LetterId, Post, Waiting};
use crate::domain::check::Broke;
use crate::domain::drift::Drift;
use crate::domain::ids::{PlaceName, PolicyName};
use crate::domain::queue::Hold;
use crate::domain::units::Span;

/// Every alarm that was ever open, as it was last written down.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownAlarms {
    /// Grows with every change: who decides on an older state is refused.
    pub version: u64,
    /// The alarms.
    pub alarms: Vec<Alarm>,
}

/// A letter that somebody is delivering: nobody else does, for as long as was said.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// What is told, and how often that was tried.
    pub waiting: Waiting,
    /// Of this attempt; whoever holds an older one has lost the letter.
    pub token: u64,
}

/// What happened in the catalog since somebody looked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Up to which event.
    pub up_to: u64,
    /// Policies of which there is something new.
    pub policies: Vec<PolicyName>,
}

/// What the newest look at a policy's drift found; `None` as the policy: of the installation.
pub type DriftSeen = (Option<PolicyName>, Timestamp, Vec<Drift>);

/// The outbox, and the few questions that watching asks of a catalog. Every implementation passes one contract suite.
///
/// What a call writes, it writes whole or not at all, and it is durable on return.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// The alarms.
    async fn alarms(&self) -> Result<KnownAlarms, Broke>;
    /// Writes down what was decided on the alarms of that version: their new state and the letters, or nothing, if they have changed meanwhile.
    async fn settle(&self, version: u64, changed: Vec<Alarm>, letters: Vec<Letter>) -> Result<bool, Broke>;
    /// Gives the oldest letter to somebody that is not done, if its time has come and nobody is at it. A letter whose time has not come keeps those after it back.
    async fn take(&self, to: &PlaceName, at: Timestamp, hold: Span) -> Result<Option<Held>, Broke>;
    /// The receiver answered for it.
    async fn delivered(&self, held: &Held, at: Timestamp, answer: &str) -> Result<Hold, Broke>;
    /// It did not arrive, and is tried again.
    async fn put_off(&self, held: &Held, next_try: Timestamp, why: &str) -> Result<Hold, Broke>;
    /// It did not arrive, and is not tried again.
    async fn give_up(&self, held: &Held, at: Timestamp, why: &str) -> Result<Hold, Broke>;
    /// Letters that wait, oldest first; at most `limit`.
    async fn waiting(&self, limit: usize) -> Result<Vec<Waiting>, Broke>;
    /// Letters that were given up, newest first; at most `limit`.
    async fn given_up(&self, limit: usize) -> Result<Vec<(LetterId, PlaceName, Timestamp, String)>, Broke>;
    /// What became of the letters, by notifier.
    async fn post(&self) -> Result<Post, Broke>;
    /// Writes down what a look at drift found, over what the look before it found.
    async fn note_drift(&self, at: Timestamp, seen: Vec<(Option<PolicyName>, Vec<Drift>)>) -> Result<(), Broke>;
    /// What the newest looks at drift found.
    async fn drift_seen(&self) -> Result<Vec<DriftSeen>, Broke>;
    /// Which policies have new events since that one.
    async fn changed(&self, since: u64) -> Result<Changed, Broke>;
    /// How many runs ended so: by the word of the event.
    async fn ended(&self) -> Result<BTreeMap<String, u64>, Broke>;
}
