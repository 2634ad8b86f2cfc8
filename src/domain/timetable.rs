//! On what terms scheduled runs are begun, what of the house is kept by schedule, and how much a machine does at once.

use std::collections::BTreeSet;

use jiff::civil::{Time, Weekday};

use super::ids::PlaceName;
use super::ledger::Budget;
use super::policy::Schedule;
use super::units::Span;

/// Labels that begin so are lifeboat's own.
pub const OWN_LABELS: &str = "lifeboat-";

/// On what terms a scheduled run is begun.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Begun so much after its instant at most: the same on every machine, different for every run; none: at its instant.
    pub jitter: Option<Span>,
    /// Begun so long after its instant at most, else it is missed; none: however late.
    pub catch_up: Option<Span>,
    /// Begun only then; none: at any time.
    pub window: Option<Window>,
    /// What a machine must offer.
    pub needs: BTreeSet<PlaceName>,
}

/// A part of the day in which runs may be begun, by the wall clock of the schedule's zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// From this time on.
    pub from: Time,
    /// Until just before this time; when it is not after `from`, that of the next day.
    pub to: Time,
    /// On these days, by the day on which it opens; none: on every day.
    pub days: Vec<Weekday>,
}

/// What is done for every policy by schedule; nothing of it unless it is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Housekeeping {
    /// Deletes what no retention keeps.
    pub prune: Option<Schedule>,
    /// Copies what is missing in second stores.
    pub copy: Option<Schedule>,
    /// Reads back what was not read for the longest time.
    pub verify: Option<Schedule>,
    /// How much of it each time.
    pub budget: Budget,
    /// Compares what is declared with what is there.
    pub drift: Option<Schedule>,
    /// Spreads all of these over so much time.
    pub jitter: Option<Span>,
    /// How often what broke or was abandoned is done at all, the first time included.
    pub attempts: u32,
    /// So long after it ended it is tried again; twice as long after each further attempt.
    pub backoff: Span,
}

impl Default for Housekeeping {
    fn default() -> Housekeeping {
        Housekeeping {
            prune: None,
            copy: None,
            verify: None,
            budget: Budget::Share(500),
            drift: None,
            jitter: Some(Span::from_secs(900)),
            attempts: 3,
            backoff: Span::from_secs(300),
        }
    }
}

/// How much one machine does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serve {
    /// Runs at once; none: it only plans.
    pub workers: usize,
    /// Backups at once.
    pub backups: usize,
    /// Drills at once.
    pub drills: usize,
    /// Prunes, copies, verifications, looks at drift at once.
    pub housekeeping: usize,
    /// So long what runs may take to its end when the service is asked to stop.
    pub drain: Span,
    /// So long after its last sign of life a worker is taken for gone.
    pub lease: Span,
    /// What this machine offers.
    pub labels: BTreeSet<PlaceName>,
}

impl Default for Serve {
    fn default() -> Serve {
        Serve {
            workers: 4,
            backups: 2,
            drills: 1,
            housekeeping: 1,
            drain: Span::from_secs(600),
            lease: Span::from_secs(60),
            labels: BTreeSet::new(),
        }
    }
}
