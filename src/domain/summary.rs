//! A drill in little: what lists tell of it and what the standing of a policy is judged by. A transcript may be megabytes, and there may be a thousand of them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::check::{CheckName, Finding, Outcome};
use super::ids::{DrillName, PlaceName, RunId};
use super::transcript::{Judgement, Transcript};

/// A drill in little. The catalog makes the same from the transcript when that is written down, so nothing is here that is not there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrillSummary {
    /// Which run.
    pub run: RunId,
    /// Which drill.
    pub drill: DrillName,
    /// The store that it was made to get along with; none: any.
    pub from: Option<PlaceName>,
    /// Whether it broke its scratch on purpose: then it says nothing about the backups, neither good nor bad.
    pub sabotages: bool,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// What was decided.
    pub judgement: Judgement,
    /// What is wrong with the environment, not with the backup.
    pub environment: Vec<Finding>,
    /// Checks that found something.
    pub red: Vec<CheckName>,
    /// Checks that neither passed nor found something: broken, or not reached.
    pub dark: Vec<CheckName>,
}

impl From<&Transcript> for DrillSummary {
    fn from(transcript: &Transcript) -> DrillSummary {
        let named = |wanted: fn(&Outcome) -> bool| {
            transcript.checks.iter().filter(|check| wanted(&check.outcome)).map(|check| check.name).collect()
        };
        DrillSummary {
            run: transcript.run,
            drill: transcript.drill.name.clone(),
            from: transcript.drill.from.clone(),
            sabotages: transcript.sabotages(),
            started_at: transcript.started_at,
            finished_at: transcript.finished_at,
            judgement: transcript.judgement.clone(),
            environment: transcript.environment.clone(),
            red: named(|outcome| matches!(outcome, Outcome::Failed(_))),
            dark: named(|outcome| !matches!(outcome, Outcome::Failed(_) | Outcome::Passed)),
        }
    }
}
