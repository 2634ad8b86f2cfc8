//! Alarms: what somebody must hear of, from when it was first seen until it is over. And the letters that tell of them.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::drift::Severity;
use super::ids::{PlaceName, PolicyName};

/// What kind of thing is wrong. Never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmKind {
    /// The newest run of a drill failed: the backup is bad, or an objective was missed.
    DrillFailed,
    /// The newest run of a drill proved nothing.
    DrillUnproven,
    /// The newest proof of a drill is too old to be one.
    ProofExpired,
    /// More would be lost now than is allowed.
    ExposureOverRpo,
    /// There is no backup at all.
    NoBackup,
    /// The newest run of a backup job could not be done.
    BackupBroke,
    /// A run was never begun, and will not be.
    RunMissed,
    /// A run never ended: its process is gone, or its lease ran out.
    RunAbandoned,
    /// Something is not as it was declared.
    Drift,
    /// A letter could not be delivered, and is not tried any more.
    LetterGivenUp,
}

impl AlarmKind {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            AlarmKind::DrillFailed => "drill_failed",
            AlarmKind::DrillUnproven => "drill_unproven",
            AlarmKind::ProofExpired => "proof_expired",
            AlarmKind::ExposureOverRpo => "exposure_over_rpo",
            AlarmKind::NoBackup => "no_backup",
            AlarmKind::BackupBroke => "backup_broke",
            AlarmKind::RunMissed => "run_missed",
            AlarmKind::RunAbandoned => "run_abandoned",
            AlarmKind::Drift => "drift",
            AlarmKind::LetterGivenUp => "letter_given_up",
        }
    }
}

impl fmt::Display for AlarmKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What makes an alarm the same alarm: of one key at most one is open.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AlarmKey {
    /// Of which policy; none: of lifeboat itself.
    pub policy: Option<PolicyName>,
    /// What kind of thing.
    pub kind: AlarmKind,
    /// Of what: a job, a drill, a drift's code and object; empty: of the policy.
    pub subject: String,
}

impl fmt::Display for AlarmKey {
    /// `orders/drill_failed/restore-latest`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.policy {
            Some(policy) => write!(f, "{policy}/{}", self.kind)?,
            None => write!(f, "lifeboat/{}", self.kind)?,
        }
        if self.subject.is_empty() { Ok(()) } else { write!(f, "/{}", self.subject) }
    }
}

/// Something that is wrong now. Its words hold names, numbers and moments, and nothing that a program or a database said: that may be row content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// What.
    pub key: AlarmKey,
    /// How bad.
    pub severity: Severity,
    /// In one sentence.
    pub summary: String,
    /// What to do next.
    pub hint: String,
    /// Since when, as far as it is known.
    pub since: Option<Timestamp>,
    /// How much the business depends on the policy.
    pub tier: Option<String>,
    /// Who answers for the policy.
    pub owner: String,
}

/// An alarm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// What is wrong, as it was last seen.
    pub what: Condition,
    /// When it was first seen.
    pub opened_at: Timestamp,
    /// When it was over; none: it is not.
    pub resolved_at: Option<Timestamp>,
    /// Why it is taken for over.
    pub resolved_why: Option<String>,
    /// Who has taken it on.
    pub acknowledged: Option<Acknowledgement>,
    /// Who was told of it.
    pub told: BTreeMap<PlaceName, Told>,
    /// How often it was open, this time included.
    pub episode: u32,
}

impl Alarm {
    /// Whether it is not over.
    pub fn is_open(&self) -> bool {
        self.resolved_at.is_none()
    }

    /// Whether somebody has taken it on, for as long as was said.
    pub fn is_acknowledged(&self, now: Timestamp) -> bool {
        self.acknowledged.as_ref().is_some_and(|ack| ack.until.is_none_or(|until| now < until))
    }
}

/// Somebody has taken an alarm on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// Why, or what is being done.
    pub why: Option<String>,
    /// Until when; none: until it is over.
    pub until: Option<Timestamp>,
}

/// What somebody was told of an alarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// When first.
    pub first: Timestamp,
    /// When last.
    pub last: Timestamp,
    /// How bad it was then.
    pub severity: Severity,
    /// Whether the acknowledgement was told.
    pub acknowledged: bool,
    /// Whether its end was told.
    pub resolved: bool,
}

/// Why a letter is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// It is over.
    Resolved,
    /// Somebody has taken it on.
    Acknowledged,
    /// It stays open.
    Repeated,
    /// Nobody has acknowledged it in time.
    Escalated,
    /// It is worse than was told.
    Worsened,
    /// It is new.
    Opened,
    /// Nothing is wrong: somebody tries whether letters arrive.
    Test,
}

impl News {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            News::Opened => "opened",
            News::Worsened => "worsened",
            News::Escalated => "escalated",
            News::Repeated => "repeated",
            News::Acknowledged => "acknowledged",
            News::Resolved => "resolved",
            News::Test => "test",
        }
    }
}

/// One alarm in a letter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Why it is told.
    pub news: News,
    /// What is wrong, or was.
    pub what: Condition,
    /// Since when it is open.
    pub opened_at: Timestamp,
    /// When it was over.
    pub resolved_at: Option<Timestamp>,
    /// How often it was open, this time included.
    pub episode: u32,
    /// Who has taken it on.
    pub acknowledged: Option<Acknowledgement>,
    /// Why it is told now: a sentence.
    pub why: String,
}

/// What somebody is told, once. Made with the alarms' new state, in one transaction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Letter {
    /// Its own name: a receiver that has seen it knows that it is the same letter.
    pub id: LetterId,
    /// To whom.
    pub to: PlaceName,
    /// When it was written.
    pub at: Timestamp,
    /// How often its alarms are told again while they are open; none: never.
    pub repeat_seconds: Option<i64>,
    /// What it tells: at least one.
    pub items: Vec<Item>,
}

impl Letter {
    /// How bad the worst is of what it tells.
    pub fn severity(&self) -> Severity {
        self.items.iter().map(|item| item.what.severity).max().unwrap_or(Severity::Unproven)
    }

    /// Whether it only tries whether letters arrive.
    pub fn is_test(&self) -> bool {
        self.items.iter().all(|item| item.news == News::Test)
    }
}

/// The identity of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LetterId(pub Uuid);

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A letter in the outbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// What is told.
    pub letter: Letter,
    /// How often it was tried.
    pub tries: u32,
    /// Not tried before.
    pub next_try: Timestamp,
    /// What came of the last attempt; none: it was not tried.
    pub last_error: Option<String>,
}

/// What became of the letters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post {
    /// By notifier.
    pub by_notifier: BTreeMap<PlaceName, PostCount>,
}

/// What became of one notifier's letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostCount {
    /// Letters that wait.
    pub waiting: u64,
    /// Since when the oldest of them waits.
    pub waiting_since: Option<Timestamp>,
    /// Letters that a receiver answered for.
    pub delivered: u64,
    /// Letters that were given up.
    pub given_up: u64,
    /// When the last was delivered.
    pub delivered_at: Option<Timestamp>,
    /// When the last was given up.
    pub given_up_at: Option<Timestamp>,
}
