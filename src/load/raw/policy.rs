//! `policies/*.toml`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::RawDatabases;
use super::timetable::RawWindow;
use crate::domain::ids::{DrillName, JobName, PlaceName, PolicyName};
use crate::domain::policy::{Method, TlsMode};
use crate::domain::units::{ByteSize, Span};
use crate::load::format::{FilePath, Recipient, Url, Variable, When, Words, Written, Zone};

/// What is promised for one database: where it is, how it is backed up, what is demanded of its recovery, how that is
/// proved.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawPolicy {
    /// Which policy this is.
    pub(in crate::load) policy: RawHead,
    /// What is backed up.
    pub(in crate::load) source: RawSource,
    /// What is demanded of a recovery.
    pub(in crate::load) objectives: RawObjectives,
    /// The ways in which it is backed up.
    #[schemars(length(min = 1))]
    pub(in crate::load) backup: Vec<RawJob>,
    /// Continuous WAL.
    pub(in crate::load) wal: Option<RawWal>,
    /// Who can open the backups.
    pub(in crate::load) encryption: RawEncryption,
    /// How long what is written to a locked store cannot be deleted.
    pub(in crate::load) lock: Option<RawLock>,
    /// How often what is stored is read back.
    pub(in crate::load) verify: Option<RawVerify>,
    /// How tables are compared.
    pub(in crate::load) content: Option<RawContent>,
    /// The drills that prove it.
    #[serde(default)]
    pub(in crate::load) drill: Vec<RawDrillUse>,
}

/// Which policy this is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawHead {
    /// Unique among the policies; the first folder of its backups in a store.
    pub(in crate::load) name: Written<PolicyName>,
    /// Who answers for it.
    pub(in crate::load) owner: Written<Words>,
    /// How much the business depends on it, in your own words.
    pub(in crate::load) tier: Option<String>,
}

/// The database server that the policy protects.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawSource {
    /// What kind of server it is.
    #[serde(default)]
    pub(in crate::load) kind: SourceKind,
    /// Where it is, and as which role: a connection URL without a password. Left out for a control plane, and only for that.
    pub(in crate::load) url: Option<Written<Url>>,
    /// Which databases a logical backup holds: "all", or a list of names. Default: the one that the URL names.
    pub(in crate::load) databases: Option<RawDatabases>,
    /// A file in libpq's passfile form, mode 0600.
    pub(in crate::load) passfile: Option<Written<FilePath>>,
    /// A file whose first line is the password, mode 0600.
    pub(in crate::load) password_file: Option<Written<FilePath>>,
    /// The environment variable that holds the password.
    pub(in crate::load) password_env: Option<Written<Variable>>,
    /// How the server's identity is checked. Default: verify-full, but for sockets and loopback.
    #[schemars(with = "Option<RawTls>")]
    pub(in crate::load) tls: Option<TlsMode>,
    /// Certificate authorities in PEM form, instead of the machine's own.
    pub(in crate::load) tls_ca: Option<Written<FilePath>>,
    /// Where in the world it stands, in the words of the stores' `site`. Left out: nobody knows which copies are off-site.
    pub(in crate::load) site: Option<Written<PlaceName>>,
}

/// Kinds of source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::load) enum SourceKind {
    /// Any PostgreSQL server that can be connected to.
    #[default]
    Postgres,
    /// Amazon RDS.
    Rds,
    /// lifeboat's own catalog and configuration.
    ControlPlane,
}

/// The words of [`TlsMode`], for the schema.
#[derive(JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(dead_code, reason = "only its schema is used; the domain's own type is what is read")]
pub(in crate::load) enum RawTls {
    /// Certificate and host name are checked.
    VerifyFull,
    /// Encrypted, but anybody may answer.
    Require,
    /// In the clear.
    Disable,
}

/// The words of [`Method`], for the schema.
#[derive(JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(dead_code, reason = "only its schema is used; the domain's own type is what is read")]
pub(in crate::load) enum RawMethod {
    /// pg_dump of one or all databases, under one exported snapshot each.
    Logical,
    /// A base backup of the whole server, with the WAL that it needs.
    Physical,
    /// A snapshot of Amazon RDS (not done by this version).
    RdsSnapshot,
    /// A pgBackRest repository, adopted (not done by this version).
    Pgbackrest,
    /// A Barman catalogue, adopted (not done by this version).
    Barman,
    /// A dump made by somebody else, adopted (not done by this version).
    Dump,
    /// lifeboat's own catalog and configuration: with source.kind = "control-plane".
    ControlPlane,
}

/// The numbers that are demanded of a recovery.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawObjectives {
    /// Recovery point objective: the greatest loss of data, as time.
    pub(in crate::load) rpo: Written<Span>,
    /// Recovery time objective: the greatest time from the loss to a working database.
    pub(in crate::load) rto: Written<Span>,
    /// A proof older than this is no proof.
    pub(in crate::load) proof_max_age: Written<Span>,
    /// Parts of the recovery time that a drill does not exercise, by name: detect, decide, cut_over. They are added to what
    /// a drill measured.
    #[serde(default)]
    pub(in crate::load) allowances: BTreeMap<String, Written<Span>>,
}

/// One scheduled way of backing up.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawJob {
    /// Unique in the policy.
    pub(in crate::load) name: Written<JobName>,
    /// How the backup is taken.
    #[schemars(with = "RawMethod")]
    pub(in crate::load) method: Method,
    /// When: five cron fields, @daily, or "every 6h". Left out: only by hand.
    pub(in crate::load) schedule: Option<Written<When>>,
    /// The IANA time zone of the schedule. Default: UTC.
    pub(in crate::load) timezone: Option<Written<Zone>>,
    /// Begun so much after its instant at most, so that not all come at once: the same on every machine. Default: at its instant.
    pub(in crate::load) jitter: Option<Written<Span>>,
    /// Begun so long after its instant at most, else the run is missed. Default: however late.
    pub(in crate::load) catch_up: Option<Written<Span>>,
    /// Labels that a machine must offer to do it: [worker] labels in its lifeboat.toml.
    #[serde(default)]
    pub(in crate::load) needs: Vec<Written<PlaceName>>,
    /// The store, by its name in lifeboat.toml.
    pub(in crate::load) store: Written<PlaceName>,
    /// Second stores, into which every backup of the job is copied, and the log with the first physical job's.
    #[serde(default)]
    pub(in crate::load) copies: Vec<Written<PlaceName>>,
    /// How long after the backup a copy may become durable. Default: the RPO.
    pub(in crate::load) copy_within: Option<Written<Span>>,
    /// How long backups are kept.
    pub(in crate::load) retention: Option<RawRetention>,
    /// Plaintext of one part. Default: chosen from the size of the source.
    pub(in crate::load) part_size: Option<Written<ByteSize>>,
    /// zstd's level.
    #[schemars(range(min = 1, max = 19))]
    pub(in crate::load) level: Option<i32>,
    /// How the files of a physical backup are read. Default: auto.
    pub(in crate::load) read: Option<RawRead>,
}

/// How the files of a physical backup are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::load) enum RawRead {
    /// From the data folder, in parallel, where lifeboat runs on the source's machine and may read it; else from the server.
    Auto,
    /// From the data folder; where that cannot be, the backup fails.
    Local,
    /// From the server, over the replication protocol.
    Stream,
}

/// How long backups are kept.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawRetention {
    /// Every backup this young.
    pub(in crate::load) keep: Option<Written<Span>>,
    /// One a day, for so many days.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100_000))]
    pub(in crate::load) daily: u32,
    /// One a week, for so many weeks.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100_000))]
    pub(in crate::load) weekly: u32,
    /// One a month, for so many months.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100_000))]
    pub(in crate::load) monthly: u32,
    /// One a year, for so many years.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100_000))]
    pub(in crate::load) yearly: u32,
    /// Never fewer than this many.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100_000))]
    pub(in crate::load) at_least: u32,
}

/// Continuous WAL.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawWal {
    /// Whether lifeboat receives it, with `lifeboat wal stream`.
    #[serde(default)]
    pub(in crate::load) stream: bool,
    /// How long received log may wait before it is durable in the store. Default: 1s.
    pub(in crate::load) lag: Option<Written<Span>>,
    /// How often `wal stream` commits a heartbeat row in the source. Left out: never.
    pub(in crate::load) heartbeat: Option<Written<Span>>,
    /// Where `wal push` puts files while the store takes none. Left out: nowhere, the source keeps them.
    pub(in crate::load) spool: Option<RawSpool>,
    /// For how long every moment stays within reach: `lifeboat prune` takes away the log before that. Left out: from the oldest backup on.
    pub(in crate::load) keep: Option<Written<Span>>,
}

/// A folder on this machine in which files of the log wait for the store.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawSpool {
    /// The folder. It is made if its parent is there.
    pub(in crate::load) dir: Written<FilePath>,
    /// All that may lie in it.
    pub(in crate::load) max: Written<ByteSize>,
}

/// Who can open the backups.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawEncryption {
    /// age recipients. Two are wanted: a working key, and an escrow key that is kept elsewhere.
    #[schemars(length(min = 1))]
    pub(in crate::load) recipients: Vec<Written<Recipient>>,
}

/// How long what is written to a locked store cannot be deleted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawLock {
    /// Who may still take a lock away.
    pub(in crate::load) mode: RawLockMode,
    /// How long an object is locked, from the moment of its writing.
    pub(in crate::load) keep: Written<Span>,
}

/// Who may take a lock away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::load) enum RawLockMode {
    /// Who has the right to bypass it.
    Governance,
    /// Nobody, the account's owner included.
    Compliance,
}

/// How often what is stored is read back.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawVerify {
    /// In which time every stored byte is to be read back at least once; `lifeboat drift` says what was not.
    pub(in crate::load) within: Written<Span>,
}

/// How much of the tables' content is digested.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawContent {
    /// Tables above this size are sampled. Left out: every row of every table is looked at.
    pub(in crate::load) sample_over: Option<Written<ByteSize>>,
    /// How many of a hundred rows (in physical backups: pages) of a sampled table are digested. Default: 5.
    #[schemars(range(min = 1, max = 100))]
    pub(in crate::load) sample_percent: Option<u8>,
}

/// A drill that the policy runs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawDrillUse {
    /// The drill's name.
    #[serde(rename = "use")]
    pub(in crate::load) drill: Written<DrillName>,
    /// When: five cron fields, @weekly, or "every 6h". Left out: only by hand.
    pub(in crate::load) schedule: Option<Written<When>>,
    /// The IANA time zone of the schedule. Default: UTC.
    pub(in crate::load) timezone: Option<Written<Zone>>,
    /// Begun so much after its instant at most, so that not all come at once: the same on every machine. Default: at its instant.
    pub(in crate::load) jitter: Option<Written<Span>>,
    /// Begun so long after its instant at most, else the run is missed. Default: however late.
    pub(in crate::load) catch_up: Option<Written<Span>>,
    /// Begun only in this part of the day. Default: at any time.
    pub(in crate::load) window: Option<RawWindow>,
    /// Labels that a machine must offer to do it: [worker] labels in its lifeboat.toml.
    #[serde(default)]
    pub(in crate::load) needs: Vec<Written<PlaceName>>,
}
