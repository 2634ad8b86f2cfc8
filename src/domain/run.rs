//! Runs and what happened to them: the events of the catalog.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::artifact::Manifest;
use super::copies::CopyRecord;
use super::hole::Acknowledged;
use super::ids::{BackupId, DrillName, JobName, PlaceName, PolicyName, RunId};
use super::immutability::Immutability;
use super::mark::Mark;
use super::mutation::{DrillTest, Mutation};
use super::observed::Observed;
use super::policy::Method;
use super::transcript::{Transcript, Verdict};
use super::units::{ByteSize, Span};
use super::wal::WalName;

/// What a run does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Takes a backup.
    Backup {
        /// By which job.
        job: JobName,
    },
    /// Rehearses a recovery.
    Drill {
        /// Which.
        drill: DrillName,
    },
    /// Tests a drill by known faults, or is one of the drills in such a test: neither proves anything about a backup.
    Mutate {
        /// Which drill.
        drill: DrillName,
        /// The fault; none: the test as a whole.
        mutation: Option<Mutation>,
    },
    /// Brings a backup back for real.
    Restore,
    /// Seeks the last moment at which something held, by restores into scratches; or is one of those restores, to a moment.
    Find {
        /// Which; none: the search as a whole.
        at: Option<Timestamp>,
    },
    /// Reads artifacts back.
    Verify,
    /// Deletes what no retention keeps.
    Prune,
    /// Copies backups and their log into second stores.
    Copy,
    /// Reads a part of all that is stored back, and goes on where the one before it ended.
    ReadBack,
    /// Compares what the policy declares with what is there.
    Drift,
}

impl Work {
    /// One word, and the name of job or drill.
    pub fn title(&self) -> String {
        match self {
            Work::Backup { job } => format!("backup {job}"),
            Work::Drill { drill } => format!("drill {drill}"),
            Work::Mutate { drill, mutation: None } => format!("test of drill {drill}"),
            Work::Mutate { drill, mutation: Some(mutation) } => format!("drill {drill} with {mutation}"),
            Work::Restore => "restore".to_owned(),
            Work::Find { at: None } => "find".to_owned(),
            Work::Find { at: Some(at) } => format!("find, a look at {at}"),
            Work::Verify => "verify".to_owned(),
            Work::Prune => "prune".to_owned(),
            Work::Copy => "copy".to_owned(),
            Work::ReadBack => "verify with a budget".to_owned(),
            Work::Drift => "drift".to_owned(),
        }
    }
}

/// The name of one event: however often it is delivered, it is written once. The newer sorts after the older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(pub uuid::Uuid);

impl EventId {
    /// A fresh one.
    #[expect(clippy::new_without_default, reason = "a default that differs each time would be a surprise")]
    pub fn new() -> EventId {
        EventId(uuid::Uuid::now_v7())
    }
}

impl std::fmt::Display for EventId {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(to)
    }
}

/// Something that happened. Events are only ever appended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It is going to be done. Written before anything is begun: an omission shows.
    Planned {
        /// What.
        work: Work,
        /// The scheduled instant; none: by hand.
        scheduled_for: Option<Timestamp>,
    },
    /// It was begun, by this process.
    Started {
        /// Host and process, to tell a killed run from a running one.
        host: String,
        /// The process.
        pid: u32,
        /// When that process began, in clock ticks since boot: a recycled pid has another.
        pid_started: u64,
    },
    /// A scratch was made; until `ScratchDestroyed` it is owed a sweep.
    ScratchMade {
        /// Its name.
        name: String,
    },
    /// A scratch is gone: the copy of production data that it held no longer exists.
    ScratchDestroyed {
        /// Its name.
        name: String,
        /// Whether a later start swept what a killed run had left.
        swept: bool,
    },
    /// An artifact exists: its manifest is durable.
    Committed(ArtifactRecord),
    /// A drill ended; here is all of it.
    Drilled(Box<Transcript>),
    /// A drill was tested by known faults; here is what came of each.
    DrillTested(Box<DrillTest>),
    /// Somebody answers for a hole of the log. What counts is the same in the store.
    HoleAcknowledged(Box<Acknowledged>),
    /// Somebody tried to destroy what a store holds, on an object of our own.
    ImmutabilityTried {
        /// In which store.
        store: PlaceName,
        /// What came of it; absent: the store knows no lock.
        found: Observed<Immutability>,
    },
    /// A backup was held, released, deleted or brought back. What counts is the same in the store.
    Marked {
        /// In which store.
        store: PlaceName,
        /// What was said, by whom and why.
        mark: Box<Mark>,
    },
    /// A backup that was deleted is gone from a store.
    Removed(Removed),
    /// Files of the log that nothing needed are gone from a store.
    LogRemoved {
        /// From which.
        store: PlaceName,
        /// The first by its place in the log, and the last.
        first: WalName,
        /// See there.
        last: WalName,
        /// How many.
        files: u64,
        /// How long their objects were.
        bytes: ByteSize,
        /// Why.
        why: String,
    },
    /// Objects that belonged to no backup are gone from a store.
    OrphansRemoved {
        /// From which.
        store: PlaceName,
        /// Of which backup that never was; none: of no backup.
        backup: Option<BackupId>,
        /// How many.
        objects: u64,
        /// How long they were.
        bytes: ByteSize,
    },
    /// A backup became durable in a second store.
    Copied(CopyRecord),
    /// It ended.
    Finished {
        /// How.
        outcome: RunOutcome,
    },
    /// It never ended: its process is gone, or its lease ran out. Written by whoever saw that.
    Abandoned {
        /// What was seen.
        why: String,
    },
    /// It was never begun, and will not be.
    Missed {
        /// Why.
        why: String,
    },
    /// Instants of its schedule before its own for which there is no run: nobody was there to plan them.
    CaughtUp {
        /// How many.
        instants: u64,
        /// The first of them.
        since: Timestamp,
    },
}

impl Event {
    /// Whether it ends its run.
    pub fn ends(&self) -> bool {
        matches!(self, Event::Finished { .. } | Event::Abandoned { .. } | Event::Missed { .. })
    }
}

impl Event {
    /// The word under which it is found.
    pub fn kind(&self) -> &'static str {
        match self {
            Event::Planned { .. } => "planned",
            Event::Started { .. } => "started",
            Event::ScratchMade { .. } => "scratch_made",
            Event::ScratchDestroyed { .. } => "scratch_destroyed",
            Event::Committed(_) => "committed",
            Event::Copied(_) => "copied",
            Event::Drilled(_) => "drilled",
            Event::DrillTested(_) => "drill_tested",
            Event::HoleAcknowledged(_) => "hole_acknowledged",
            Event::ImmutabilityTried { .. } => "immutability_tried",
            Event::Marked { .. } => "marked",
            Event::Removed(_) => "removed",
            Event::LogRemoved { .. } => "log_removed",
            Event::OrphansRemoved { .. } => "orphans_removed",
            Event::Finished { .. } => "finished",
            Event::Abandoned { .. } => "abandoned",
            Event::Missed { .. } => "missed",
            Event::CaughtUp { .. } => "caught_up",
        }
    }

    /// In a few words for a log: what a program or a database said is not among them.
    pub fn in_short(&self) -> String {
        match self {
            Event::Planned { work, .. } => format!("planned: {}", work.title()),
            Event::Started { host, pid, .. } => format!("started on {host} as process {pid}"),
            Event::Finished { outcome } => match outcome {
                RunOutcome::Succeeded => "finished".to_owned(),
                RunOutcome::Judged(verdict) => format!("finished: {}", verdict.as_str()),
                RunOutcome::Found(findings) => format!("finished with {findings} findings"),
                RunOutcome::Broke { .. } => "finished: it broke".to_owned(),
            },
            Event::Committed(record) => format!("backup {} is durable in {}", record.backup, record.store),
            Event::Copied(record) => format!("backup {} is durable in {}", record.backup, record.store),
            Event::ScratchMade { name } => format!("scratch {name} is made"),
            Event::ScratchDestroyed { name, .. } => format!("scratch {name} is gone"),
            Event::Drilled(_)
            | Event::DrillTested(_)
            | Event::HoleAcknowledged(_)
            | Event::ImmutabilityTried { .. }
            | Event::Marked { .. }
            | Event::Removed(_)
            | Event::LogRemoved { .. }
            | Event::OrphansRemoved { .. }
            | Event::Abandoned { .. }
            | Event::Missed { .. }
            | Event::CaughtUp { .. } => self.kind().replace('_', " "),
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// What was to be done was done (a backup was taken, a restore made, a verification found nothing).
    Succeeded,
    /// A drill's verdict.
    Judged(Verdict),
    /// Findings (a verification).
    Found(u64),
    /// It could not be done.
    Broke {
        /// What went wrong.
        error: String,
        /// What to do about it.
        hint: Option<String>,
    },
}

/// What the catalog keeps of an artifact; the manifest in the store is the truth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRecord {
    /// Which backup.
    pub backup: BackupId,
    /// Of which policy.
    pub policy: PolicyName,
    /// By which job.
    pub job: JobName,
    /// How.
    pub method: Method,
    /// Where.
    pub store: PlaceName,
    /// Counts up with every backup of the policy.
    pub sequence: u64,
    /// When it was begun.
    pub started_at: Timestamp,
    /// When it was durable.
    pub finished_at: Timestamp,
    /// The moment that it brings back.
    pub recovery_point: Timestamp,
    /// Plaintext.
    pub plain_bytes: ByteSize,
    /// Stored.
    pub sealed_bytes: ByteSize,
    /// SHA-256 of its manifest.
    pub manifest_sha256: String,
    /// System identifier of the source.
    pub system_identifier: String,
}

impl ArtifactRecord {
    /// Of a manifest with this SHA-256 (hexadecimal), in this store.
    pub fn of(manifest: &Manifest, manifest_sha256: &str, store: &PlaceName) -> ArtifactRecord {
        ArtifactRecord {
            backup: manifest.backup.clone(),
            policy: manifest.policy.clone(),
            job: manifest.job.clone(),
            method: manifest.method,
            store: store.clone(),
            sequence: manifest.sequence,
            started_at: manifest.started_at,
            finished_at: manifest.finished_at,
            recovery_point: manifest.recovery_point.at,
            plain_bytes: manifest.plain_bytes(),
            sealed_bytes: manifest.sealed_bytes(),
            manifest_sha256: manifest_sha256.to_owned(),
            system_identifier: manifest.fingerprint.server.system_identifier.clone(),
        }
    }
}

/// A backup that is gone from a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Which.
    pub backup: BackupId,
    /// From which store.
    pub store: PlaceName,
    /// How many objects.
    pub objects: u64,
    /// How long they were.
    pub bytes: ByteSize,
    /// Why.
    pub reasons: Vec<String>,
}

/// A drill that proved a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Which backup.
    pub backup: BackupId,
    /// When the newest drill that proved it ended.
    pub at: Timestamp,
}

/// A run, as its events add up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Which.
    pub id: RunId,
    /// Of which policy.
    pub policy: PolicyName,
    /// What it does.
    pub work: Work,
    /// When it was planned.
    pub planned_at: Timestamp,
    /// The scheduled instant; none: by hand.
    pub scheduled_for: Option<Timestamp>,
    /// When it was begun.
    pub started_at: Option<Timestamp>,
    /// When it ended or was found dead.
    pub ended_at: Option<Timestamp>,
    /// Where it stands.
    pub state: RunState,
    /// Time from start to end, by the runner's clock.
    pub took: Option<Span>,
}

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Written down, not begun.
    Planned,
    /// Begun, not ended.
    Running {
        /// On which host.
        host: String,
        /// By which process.
        pid: u32,
        /// When that process began, in clock ticks since boot.
        pid_started: u64,
    },
    /// Ended.
    Ended(RunOutcome),
    /// Its process went away.
    Abandoned(String),
    /// It was never begun, and will not be.
    Missed(String),
}
