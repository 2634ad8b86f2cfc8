//! What happened in a drill or a restore. Verdict, report, runbook times and status are derived from this alone.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::artifact::{Basis, PageTally};
use super::check::{CheckResult, Finding};
use super::drill::{Drill, Step};
use super::ids::{BackupId, PlaceName, PolicyName, RunId};
use super::lsn::Lsn;
use super::observed::Observed;
use super::policy::{Method, Objectives};
use super::units::{ByteSize, Span};

/// The `schema` of transcripts that this version writes and reads.
pub const TRANSCRIPT_SCHEMA: &str = "lifeboat.transcript/1";

/// A drill, as it went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transcript {
    /// [`TRANSCRIPT_SCHEMA`].
    pub schema: String,
    /// Which run.
    pub run: RunId,
    /// Of which policy.
    pub policy: PolicyName,
    /// Who answers for it.
    pub owner: String,
    /// What was demanded when it ran.
    pub objectives: Objectives,
    /// What was to be done.
    pub drill: Drill,
    /// When it began, by the runner's clock.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// The moment of the simulated loss.
    pub lost_at: Timestamp,
    /// The backup that was brought back, once one was chosen.
    pub backup: Option<BackupUsed>,
    /// What the log behind the backup added; none: it was not replayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogReplayed>,
    /// The scratch, once one was made.
    pub scratch: Option<ScratchUsed>,
    /// The steps that were begun, in order.
    pub steps: Vec<StepRecord>,
    /// Every check that the drill names, in order; those that were not reached are `unchecked`.
    pub checks: Vec<CheckResult>,
    /// Runner's clock less source's clock: as the backup measured it, or unknown.
    pub clock_skew: Observed<Span>,
    /// Versions of lifeboat, and of each program that took part.
    pub tools: BTreeMap<String, String>,
    /// What is wrong with the environment, not with the backup: old tools, no isolation.
    pub environment: Vec<Finding>,
    /// What was decided.
    pub judgement: Judgement,
}

impl Transcript {
    /// Whether it broke its scratch on purpose: then it says nothing about the backups, neither good nor bad.
    pub fn sabotages(&self) -> bool {
        self.drill.steps.iter().any(|step| matches!(step, Step::Sabotage(_)))
    }
}

/// The log that was replayed behind a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogReplayed {
    /// Segments of it.
    pub segments: u64,
    /// The timeline that was followed.
    pub timeline: u32,
    /// Where it had to end, by the records of its files.
    pub until: Lsn,
    /// The last transaction that was replayed, by the source's clock: everything committed before it is there. None: there was none.
    pub last_commit: Option<Timestamp>,
}

/// The backup that a drill brought back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackupUsed {
    /// Which.
    pub id: BackupId,
    /// How it was taken.
    pub method: Method,
    /// In which store.
    pub store: String,
    /// The name of that store; none: the transcript is older than the names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<PlaceName>,
    /// Public halves of the identities that were at hand and that it was sealed for; empty: not told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opened_by: Vec<String>,
    /// Why this one.
    pub why: String,
    /// When it was begun.
    pub started_at: Timestamp,
    /// When it was durable: what reaches the store after the loss does not count.
    pub finished_at: Timestamp,
    /// The moment that it brings back, by the source's clock.
    pub recovery_point: Timestamp,
    /// How that is known.
    pub basis: Basis,
    /// SHA-256 of its manifest.
    pub manifest_sha256: String,
    /// The key that signed it, if its signature is right: base64.
    pub signed_by: Observed<String>,
    /// Whether that key is one that the configuration trusts.
    pub signer_trusted: bool,
    /// Plaintext.
    pub plain_bytes: ByteSize,
    /// Stored.
    pub sealed_bytes: ByteSize,
    /// Server version of the source.
    pub server_version: String,
}

/// A scratch, as it was had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScratchUsed {
    /// `cluster` or `database`.
    pub kind: super::drill::ScratchKind,
    /// Its name, with the run in it.
    pub name: String,
    /// Version of the server it ran on.
    pub server_version: Option<String>,
    /// What isolation was really had.
    pub isolation: Isolation,
    /// When it was destroyed; none: it is still there, and why is in the findings of the environment.
    pub destroyed_at: Option<Timestamp>,
}

/// The isolation of a scratch: seen, not assumed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// It has a network namespace of its own, with nothing in it.
    pub network: bool,
    /// It has a process namespace of its own.
    pub processes: bool,
    /// It has files of its own: sockets and folders of the machine were seen to be out of reach.
    #[serde(default)]
    pub files: bool,
    /// The user that its server ran as.
    pub user: String,
    /// How it was had: `unshare -n, setpriv`.
    pub means: String,
}

/// Which part of the recovery time a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Make the place.
    Provision,
    /// Fetch, decrypt, verify, write.
    Restore,
    /// Start the server and replay the log.
    Start,
    /// Until the first useful query.
    Ready,
    /// The checks that are required before anybody is let in.
    Checks,
}

impl Phase {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Provision => "provision",
            Phase::Restore => "fetch, decrypt, restore",
            Phase::Start => "start and replay",
            Phase::Ready => "first useful query",
            Phase::Checks => "required checks",
        }
    }
}

/// One step, as it went. A `Restore` step is two records: the phases `Restore` and `Start`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// What was to be done.
    pub step: Step,
    /// Which part of the recovery time it is; none: it does not count (destroying the scratch, optional checks, sabotage).
    pub phase: Option<Phase>,
    /// When it began, since the drill began, by a monotonic clock.
    pub began: Span,
    /// How long it took, by a monotonic clock.
    pub took: Span,
    /// How it ended.
    pub ended: Ended,
    /// What it did, in sentences with numbers.
    pub facts: Vec<String>,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// As it should.
    Done,
    /// The backup is bad: nothing after this can be done.
    Found(Vec<Finding>),
    /// lifeboat or the environment could not: says nothing about the backup.
    Broke {
        /// What went wrong.
        error: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// An earlier step ended badly.
    Skipped,
}

/// What was decided about a drill, with the reasons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// In one word.
    pub verdict: Verdict,
    /// Why: one sentence each, the gravest first.
    pub reasons: Vec<String>,
    /// Recovery point actual: the loss less the recovery point. None: not measured.
    pub rpa: Option<Span>,
    /// Recovery time actual: the phases and the declared allowances. None: the clock had not stopped.
    pub rta: Option<Span>,
    /// The measured part of it.
    pub phases: Vec<(Phase, Span)>,
    /// When this proof is too old to be one.
    pub valid_until: Option<Timestamp>,
}

/// The word that stands over everything. What was not seen to work is `unproven`, never `proven`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was seen to work, within the objectives.
    Proven,
    /// A finding, or an objective missed.
    Failed,
    /// Broke, skipped, never ran, expired.
    Unproven,
}

impl Verdict {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Proven => "proven",
            Verdict::Failed => "failed",
            Verdict::Unproven => "unproven",
        }
    }
}

/// What putting a backup back showed, for the checks that are made while the bytes pass.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RestoreFacts {
    /// Parts that were fetched, verified and opened.
    pub parts: u64,
    /// Plaintext written.
    pub plain_bytes: u64,
    /// Stored bytes read.
    pub sealed_bytes: u64,
    /// Pages seen on the way (physical).
    pub pages: Option<PageTally>,
    /// What pg_restore said, warnings included, without row content.
    pub warnings: Vec<String>,
    /// Entries that had to be restored by the superuser: the listed exceptions (logical).
    pub superuser_entries: Vec<String>,
}
