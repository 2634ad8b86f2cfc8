//! What would be lost: a series of moments at which the stores came to hold more.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::lsn::Lsn;

/// At `at`, the stores could bring back everything that had been committed by `covered`.
///
/// Between two of them exposure grows by a second every second: the series is exact, however rarely it is written down. One that was left out only
/// makes exposure look worse than it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Covered {
    /// By the runner's clock.
    pub at: Timestamp,
    /// By the source's clock.
    pub covered: Timestamp,
    /// How far the log is durable in a store; none: a backup.
    pub until: Option<Lsn>,
}
