//! `drills/*.toml`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::RawScalar;
use super::policy::RawMethod;
use crate::domain::check::CheckName;
use crate::domain::drill::{IsolationDemand, Loss, Pick, ScratchKind, Target};
use crate::domain::ids::{DrillName, PlaceName};
use crate::domain::policy::Method;
use crate::domain::units::Span;
use crate::load::format::{Words, Written};

/// A recovery rehearsal: what is lost, where it is brought back, what is checked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawDrill {
    /// Which drill this is.
    pub(in crate::load) drill: RawHead,
    /// The disposable place where the backup is brought back.
    pub(in crate::load) scratch: RawScratch,
    /// What is done, in order. Each step is a table with one key.
    #[schemars(length(min = 1))]
    pub(in crate::load) steps: Vec<RawStep>,
}

/// Which drill this is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawHead {
    /// The name by which policies use it.
    pub(in crate::load) name: Written<DrillName>,
    /// What it rehearses, for people.
    #[serde(default)]
    pub(in crate::load) description: String,
    /// How many steps the file has. A file that was cut off at the end of a step is a good file with fewer checks: with this it is an error.
    #[expect(dead_code, reason = "the rules hold it against the file; the drill itself has its steps")]
    steps: Option<u32>,
    /// Which backup is brought back.
    #[serde(default)]
    pub(in crate::load) backup: RawBackup,
    /// When the loss is taken to happen: "now", "random" (any moment that the log can bring back), or a time with its offset. Default: now.
    pub(in crate::load) loss: Option<Written<Loss>>,
    /// The only store that may be used, by its name in lifeboat.toml: a drill of the copies. Left out: the stores of the policy's jobs.
    pub(in crate::load) from: Option<Written<PlaceName>>,
    /// With which keys of lifeboat.toml it is opened, and with no others. Default: working.
    #[serde(default)]
    pub(in crate::load) keys: RawKeyChoice,
}

/// With which keys a backup is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::load) enum RawKeyChoice {
    /// `[keys] identities`.
    #[default]
    Working,
    /// `[keys] escrow`.
    Escrow,
}

/// Which backup is brought back.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawBackup {
    /// latest, oldest, random, or a backup's own id. Default: latest.
    pub(in crate::load) pick: Option<Written<Pick>>,
    /// Only backups that were taken in this way. Left out: any.
    #[schemars(with = "Option<RawMethod>")]
    pub(in crate::load) method: Option<Method>,
}

/// The disposable place where the backup is brought back.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawScratch {
    /// cluster: an own sandboxed server. database: a fresh database on a scratch server of lifeboat.toml. folder: for lifeboat itself, whose catalog
    /// and configuration need no server.
    #[schemars(with = "RawScratchKind")]
    pub(in crate::load) kind: ScratchKind,
    /// The scratch server, by its name in lifeboat.toml (kind database only).
    pub(in crate::load) server: Option<Written<PlaceName>>,
    /// required: without a network of its own the scratch is not started. Default: required for a cluster.
    #[schemars(with = "Option<RawIsolation>")]
    pub(in crate::load) isolation: Option<IsolationDemand>,
}

/// The words of [`ScratchKind`], for the schema.
#[derive(JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(dead_code, reason = "only its schema is used; the domain's own type is what is read")]
enum RawScratchKind {
    /// An own sandboxed server.
    Cluster,
    /// A fresh database on a scratch server.
    Database,
    /// A folder, for lifeboat itself.
    Folder,
}

/// The words of [`IsolationDemand`], for the schema.
#[derive(JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(dead_code, reason = "only its schema is used; the domain's own type is what is read")]
enum RawIsolation {
    /// Without a network of its own, the scratch is not started.
    Required,
    /// What was had is recorded.
    Preferred,
}

/// The words of [`Target`], for the schema.
#[derive(JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(dead_code, reason = "only its schema is used; the domain's own type is what is read")]
enum RawTarget {
    /// As far as the backup itself goes: what comes back is compared with what the source had then.
    Backup,
    /// And then as far as the log behind it goes, if the policy's stores hold one.
    Latest,
    /// To the moment of the loss ("random" or a time), and no further.
    Moment,
}

/// One step.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(in crate::load) enum RawStep {
    /// Fetch, verify, decrypt, put back, start.
    Restore(RawRestore),
    /// Wait until the readiness query answers within its latency.
    AwaitReady(RawAwaitReady),
    /// Check one thing.
    Check(RawCheck),
    /// Break the scratch on purpose, to see that the checks turn red. A drill with this step is never proven.
    Sabotage(RawSabotage),
}

/// How far a restore goes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawRestore {
    /// backup: as far as the backup itself goes; latest: and then as far as the log behind it goes; moment: to the moment of the loss and no further.
    #[schemars(with = "RawTarget")]
    pub(in crate::load) until: Target,
}

/// Ready is when this query answers within its latency.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawAwaitReady {
    /// A query that a working application would ask.
    pub(in crate::load) query: Written<Words>,
    /// In which database. Default: the policy's.
    pub(in crate::load) database: Option<Written<Words>>,
    /// The latency that counts as ready. Default: 1s.
    pub(in crate::load) within: Option<Written<Span>>,
    /// When to give up. Default: 10m.
    pub(in crate::load) timeout: Option<Written<Span>>,
}

/// One check.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawCheck {
    /// Which check.
    pub(in crate::load) name: Written<CheckName>,
    /// Whether the verdict depends on it. Default: true.
    #[serde(default = "yes")]
    pub(in crate::load) required: bool,
    /// amcheck only: also verify that every row is in its index.
    #[serde(default)]
    pub(in crate::load) heapallindexed: bool,
    /// How long it may take. Left out: as long as it needs.
    pub(in crate::load) timeout: Option<Written<Span>>,
    /// assert only: one statement that returns one row with one column.
    pub(in crate::load) sql: Option<Written<Words>>,
    /// assert only: the answer must be this truth value.
    pub(in crate::load) is: Option<bool>,
    /// assert only: the answer must be exactly this, as PostgreSQL prints it.
    pub(in crate::load) equals: Option<RawScalar>,
    /// assert only: the answer must be a number from the first to the second, both included.
    #[schemars(length(equal = 2))]
    pub(in crate::load) within: Option<Vec<f64>>,
    /// assert only: in which database. Default: the policy's.
    pub(in crate::load) database: Option<Written<Words>>,
}

fn yes() -> bool {
    true
}

/// SQL that is run in the scratch to break it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawSabotage {
    /// What is run, as the scratch's superuser.
    pub(in crate::load) sql: Written<Words>,
    /// In which database. Default: the policy's.
    pub(in crate::load) database: Option<Written<Words>>,
}
