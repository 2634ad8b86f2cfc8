//! Where the world is not as it was declared.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ids::PolicyName;

/// One difference between what was declared and what was observed, or something that could not be observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// What kind of difference: `copies_too_few`. Never changes its meaning.
    pub code: String,
    /// How bad.
    pub severity: Severity,
    /// Of which policy; none: of the installation.
    pub policy: Option<PolicyName>,
    /// Of what: a store, a backup, a job.
    pub object: String,
    /// What was promised.
    pub declared: String,
    /// What was seen.
    pub observed: String,
    /// Since when, as far as it is known.
    pub since: Option<Timestamp>,
    /// How to mend it.
    pub mend: String,
}

/// How bad a drift is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It could not be looked at, so it is not known to be as declared.
    Unproven,
    /// Worth mending soon.
    Warning,
    /// A recovery may fail by it.
    Critical,
}
