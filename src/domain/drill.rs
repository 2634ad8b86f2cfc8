//! A recovery rehearsal, as data (`drills/*.toml`).
//!
//! [`Step`] is closed. It is folded three ways, and none of them has a wildcard arm: performed by `engine::drill`,
//! instructed by `render::runbook` (what a human does with public tools), narrated by `render::report`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::check::{Assertion, CheckName};
use super::ids::{BackupId, DrillName, PlaceName};
use super::units::Span;

/// A recovery rehearsal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drill {
    /// The name by which policies use it.
    pub name: DrillName,
    /// What it rehearses, for people.
    pub description: String,
    /// Which backup is brought back.
    pub pick: Pick,
    /// Which method's backups are considered; none: any.
    pub method: Option<super::policy::Method>,
    /// When the loss is taken to happen.
    pub loss: Loss,
    /// The only store that may be used; none: those of the policy's jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PlaceName>,
    /// With which keys the backup is opened.
    #[serde(default, skip_serializing_if = "KeyChoice::is_working")]
    pub keys: KeyChoice,
    /// Where to.
    pub scratch: ScratchPlan,
    /// What is done, in order: always `Provision` first and `Destroy` last.
    pub steps: Vec<Step>,
}

/// Which backup a drill brings back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pick {
    /// The newest.
    Latest,
    /// The oldest that is kept.
    Oldest,
    /// Any, by chance; which one is recorded.
    Random,
    /// This one.
    Id(BackupId),
}

/// With which keys a drill opens a backup: with no others, whatever else is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyChoice {
    /// `[keys] identities`.
    #[default]
    Working,
    /// `[keys] escrow`.
    Escrow,
    /// These files, named by hand.
    Given(Vec<PathBuf>),
}

impl KeyChoice {
    /// Whether it is what a drill does when nothing is said.
    pub fn is_working(&self) -> bool {
        *self == KeyChoice::Working
    }
}

/// The moment of the simulated loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// When the drill begins.
    Now,
    /// At any moment of those to which the log can bring back, by chance; which one is recorded.
    Random,
    /// At this moment.
    At(jiff::Timestamp),
}

/// The disposable target that a drill wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScratchPlan {
    /// What kind.
    pub kind: ScratchKind,
    /// On which scratch server (kind `database` only).
    pub server: Option<PlaceName>,
    /// Whether a scratch that is not cut off from the network may be started at all.
    pub isolation: IsolationDemand,
}

/// Kinds of scratch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScratchKind {
    /// An own sandboxed server.
    Cluster,
    /// A fresh database on a scratch server.
    Database,
    /// A folder in which lifeboat itself is brought back: no server.
    Folder,
}

/// What a drill demands of the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IsolationDemand {
    /// Without a network of its own, the scratch is not started.
    Required,
    /// What was had is recorded.
    Preferred,
}

/// One step of a drill. In TOML each is a table with one key: `restore.until = "latest"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Make the scratch. Added by itself.
    Provision,
    /// Fetch, verify, decrypt, put back, start.
    Restore(Restore),
    /// Wait until the readiness query answers within its latency.
    AwaitReady(AwaitReady),
    /// Check one thing.
    Check(Check),
    /// Break the scratch on purpose, to see that the checks turn red. A drill with this step is never `proven`.
    Sabotage(Sabotage),
    /// Remove the scratch and record that it is gone. Added by itself.
    Destroy,
}

/// How far a restore goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// The target.
    pub until: Target,
}

/// A recovery target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// As far as the backup itself goes: what comes back is compared with what the source had then.
    Backup,
    /// And then as far as the log behind it goes, if its stores hold one.
    Latest,
    /// To the moment of the loss, and no further: as after a mistake.
    Moment,
}

/// Ready is when this query answers within its latency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitReady {
    /// The policy's own readiness query.
    pub query: String,
    /// In which database; none: the policy's.
    pub database: Option<String>,
    /// The latency that counts as ready.
    pub within: Span,
    /// When to give up.
    pub timeout: Span,
}

/// One check of a drill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Which.
    pub name: CheckName,
    /// A check that is not required is reported, but its failure does not stop the clock or fail the drill.
    pub required: bool,
    /// For `assert` and `readiness`-like checks: the user's own question.
    pub assertion: Option<Assertion>,
    /// For `amcheck`: also verify that every heap tuple is in its index.
    pub heapallindexed: bool,
    /// How long it may take.
    pub timeout: Option<Span>,
}

impl Check {
    /// What reports call it: its name, and for the user's own question the question, on one line.
    pub fn title(&self) -> String {
        match &self.assertion {
            Some(assertion) => {
                format!("{}: {}", self.name, assertion.sql.split_whitespace().collect::<Vec<_>>().join(" "))
            }
            None => self.name.to_string(),
        }
    }
}

/// SQL that is run in the scratch to break it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sabotage {
    /// What is run, as the scratch's superuser.
    pub sql: String,
    /// In which database; none: the policy's.
    pub database: Option<String>,
}
