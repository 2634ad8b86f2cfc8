//! The heartbeat: numbered rows that lifeboat commits in a source. What of them is in a restored copy measures the recovery point.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::observed::Observed;
use super::units::Span;

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beat {
    /// Its number: the next one has the next.
    pub seq: i64,
    /// When it was committed, by the source's clock.
    pub committed_at: Timestamp,
}

/// What is there of the heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beats {
    /// How many rows.
    pub count: i64,
    /// The lowest number.
    pub first: i64,
    /// The row with the highest number.
    pub last: Beat,
    /// The latest moment of all: that of another row, if the clock was set back.
    pub latest_at: Timestamp,
}

/// The rows on both sides of a moment, as the source has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Around {
    /// The last at or before it.
    pub before: Option<i64>,
    /// The first behind it.
    pub behind: Option<i64>,
}

/// What a restored copy is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeatTerms {
    /// The moment to which it was brought; none: to the end of what there is.
    pub moment: Option<Timestamp>,
    /// What the source says about that moment.
    pub around: Observed<Around>,
    /// How often the policy has it committed.
    pub every: Option<Span>,
}

impl Default for BeatTerms {
    /// To the end of what there is.
    fn default() -> BeatTerms {
        BeatTerms { moment: None, around: Observed::Absent, every: None }
    }
}
