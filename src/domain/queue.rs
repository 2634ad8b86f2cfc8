//! Runs that are to be done, and who does them: what several machines must agree on.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ids::{PlaceName, PolicyName, RunId};
use super::run::{Event, RunOutcome, Work};
use super::transcript::Verdict;

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
    /// Instants before its own that nobody planned: told with it, by the event `caught_up`.
    pub caught_up: Option<CaughtUp>,
}

/// Instants of a schedule for which there is no run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaughtUp {
    /// How many.
    pub instants: u64,
    /// The first of them.
    pub since: Timestamp,
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

/// How much is in the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Runs that somebody does.
    pub running: u64,
    /// When each of the others is due, or was.
    pub due_at: Vec<Timestamp>,
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

/// A run whose place ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Grows with every place that ends in this catalog.
    pub number: u64,
    /// What was to be done.
    pub planned: Planned,
    /// When it ended, by the queue's own clock.
    pub at: Timestamp,
    /// How.
    pub how: EndedAs,
}

/// How a place ended, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedAs {
    /// What was to be done was done, or a drill proved its backup.
    Succeeded,
    /// A finding: a drill that failed, a verification that found something.
    Found,
    /// A drill that proved nothing.
    Unproven,
    /// It could not be done.
    Broke,
    /// Its worker went away.
    Abandoned,
    /// It was never begun.
    Missed,
}

impl EndedAs {
    /// Whether what was wanted of the run is still to be had, so that it may be tried again.
    pub fn is_undone(self) -> bool {
        match self {
            EndedAs::Succeeded | EndedAs::Found => false,
            EndedAs::Unproven | EndedAs::Broke | EndedAs::Abandoned | EndedAs::Missed => true,
        }
    }

    /// Every word.
    pub const ALL: [EndedAs; 6] =
        [EndedAs::Succeeded, EndedAs::Found, EndedAs::Unproven, EndedAs::Broke, EndedAs::Abandoned, EndedAs::Missed];

    /// What an event means for the place of its run; none: the place goes on.
    pub fn of(event: &Event) -> Option<EndedAs> {
        match event {
            Event::Finished { outcome: RunOutcome::Succeeded | RunOutcome::Judged(Verdict::Proven) } => {
                Some(EndedAs::Succeeded)
            }
            Event::Finished { outcome: RunOutcome::Found(_) | RunOutcome::Judged(Verdict::Failed) } => {
                Some(EndedAs::Found)
            }
            Event::Finished { outcome: RunOutcome::Judged(Verdict::Unproven) } => Some(EndedAs::Unproven),
            Event::Finished { outcome: RunOutcome::Broke { .. } } => Some(EndedAs::Broke),
            Event::Abandoned { .. } => Some(EndedAs::Abandoned),
            Event::Missed { .. } => Some(EndedAs::Missed),
            _ => None,
        }
    }

    /// The one that is stored as this word.
    pub fn named(word: &str) -> Result<EndedAs, String> {
        let known = EndedAs::ALL.into_iter().find(|one| one.as_str() == word);
        known.ok_or_else(|| format!("`{word}` is no way to end"))
    }

    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            EndedAs::Succeeded => "succeeded",
            EndedAs::Found => "found",
            EndedAs::Unproven => "unproven",
            EndedAs::Broke => "broke",
            EndedAs::Abandoned => "abandoned",
            EndedAs::Missed => "missed",
        }
    }
}
