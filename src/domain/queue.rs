//! Runs that are to be done, and who does them: what several machines must agree on.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ids::{PlaceName, PolicyName, RunId};
use super::run::Work;

/// What makes a planned run the same run, whoever plans it: of one key there is one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunKey {
    /// Of which policy.
    pub policy: PolicyName,
    /// What it does.
    pub work: Work,
    /// The instant of its schedule, without jitter.
    pub scheduled_for: Timestamp,
    /// Counts from 1; what was abandoned or broke may be tried again, as a run of its own.
    pub attempt: u32,
}

impl fmt::Display for RunKey {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}/{}/{}/{}", self.policy, self.work.title(), self.scheduled_for, self.attempt)
    }
}

/// A run that is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Its own name.
    pub run: RunId,
    /// What it is.
    pub key: RunKey,
    /// Not before: the instant of its schedule with jitter, or when its window opens.
    pub due_at: Timestamp,
    /// Not begun after; none: however late.
    pub not_after: Option<Timestamp>,
    /// The smaller goes first; backups before drills.
    pub priority: u8,
    /// What it must have for itself while it runs, such as the source of its policy; none: nothing.
    pub alone_on: Option<String>,
    /// What a machine must offer.
    pub needs: BTreeSet<PlaceName>,
}

/// Who does runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Unique: host, process, and when that began.
    pub name: String,
    /// What its machine offers.
    pub labels: BTreeSet<PlaceName>,
}

/// The right to do a run, for as long as its lease is renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What is to be done.
    pub planned: Planned,
    /// Grows with every claim of any run in this catalog; whoever holds an older one of this run has lost it.
    pub token: u64,
    /// Until when nobody else may have it, by the queue's own clock.
    pub until: Timestamp,
}

/// Whether a claim still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Hold {
    /// It does: what was asked for was done.
    Held,
    /// It does not: the run was given up or has ended, and nothing was written.
    Lost,
}

/// A run that has not ended, as the queue knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// What is to be done.
    pub planned: Planned,
    /// Who does it; none: it waits.
    pub holder: Option<Holder>,
}

/// Who does a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The worker's name.
    pub worker: String,
    /// Of its claim.
    pub token: u64,
    /// Until when, unless it renews.
    pub until: Timestamp,
}

/// Up to which instant a schedule was planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedUpTo {
    /// Of which policy.
    pub policy: PolicyName,
    /// What.
    pub work: Work,
    /// The newest scheduled instant that was ever planned.
    pub instant: Timestamp,
}
