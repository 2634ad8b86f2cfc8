//! What is promised for one database (`policies/*.toml`).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::bucket::Lock;
use super::ids::{DrillName, JobName, PlaceName, PolicyName};
use super::timetable::Terms;
use super::units::{ByteSize, Span};

/// A promise for one database: where it is, how it is backed up, what is demanded of its recovery, how that is proved.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Unique among the policies.
    pub name: PolicyName,
    /// Who answers for it.
    pub owner: String,
    /// How much the business depends on it, in the user's own words (`critical`).
    pub tier: Option<String>,
    /// What is backed up.
    pub source: Source,
    /// What is demanded.
    pub objectives: Objectives,
    /// How it is backed up; at least one.
    pub backups: Vec<BackupJob>,
    /// Continuous WAL, if it is wanted.
    pub wal: Option<WalPlan>,
    /// Who can open the artifacts.
    pub encryption: Encryption,
    /// How long what is written to a locked store cannot be deleted; none: as the bucket itself says.
    pub lock: Option<Lock>,
    /// In which time all of its stored bytes are to be read back; none: nobody promised it.
    pub read_back_within: Option<Span>,
    /// How tables are compared.
    pub content: ContentPlan,
    /// How recovery is rehearsed.
    pub drills: Vec<DrillUse>,
    /// The file it was read from.
    pub file: PathBuf,
}

impl Policy {
    /// Whether it protects lifeboat itself, and there is no server behind it.
    pub fn is_of_control_plane(&self) -> bool {
        self.source.kind == SourceKind::ControlPlane
    }
}

/// What a policy protects: a database server, or lifeboat itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// What it is.
    pub kind: SourceKind,
    /// A connection URL without a password; empty for lifeboat itself.
    pub url: String,
    /// Where the password comes from.
    pub password: PasswordSource,
    /// How the server's identity is checked; none said: `verify-full`, but for sockets and loopback.
    pub tls: Option<TlsMode>,
    /// Certificate authorities in PEM form, instead of the machine's own.
    pub tls_ca: Option<PathBuf>,
    /// Which databases a logical backup holds.
    pub databases: Databases,
    /// Where in the world it stands, in the words of the stores' `site`; none: nobody knows which copies are off-site.
    pub site: Option<PlaceName>,
}

impl Source {
    /// What its URL names before the path, without the role, and what stands behind the question mark.
    pub fn authority_and_query(&self) -> (&str, &str) {
        let rest = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = place.split('/').next().unwrap_or_default();
        (authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts), query)
    }
}

/// What is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceKind {
    /// A PostgreSQL server.
    #[default]
    Server,
    /// lifeboat's own catalog and configuration.
    ControlPlane,
}

/// Where a password comes from: never argv, never the configuration itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PasswordSource {
    /// None is needed, or libpq's own places have it (`PGPASSFILE`, `~/.pgpass`).
    #[default]
    Default,
    /// A file in libpq's passfile form, mode 0600.
    Passfile(PathBuf),
    /// A file whose first line is the password, mode 0600.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

/// How a connection to a server is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// Certificate and host name are checked; a local socket needs none.
    #[default]
    VerifyFull,
    /// Encrypted, but anybody may answer: drift.
    Require,
    /// In the clear: drift, unless it is a socket or loopback.
    Disable,
}

/// Which databases a logical backup holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Databases {
    /// The one that the URL names.
    #[default]
    Url,
    /// Every database that accepts connections, but templates.
    All,
    /// These.
    Named(Vec<String>),
}

/// The numbers that are demanded of a recovery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Objectives {
    /// Greatest loss of data, as time.
    pub rpo: Span,
    /// Greatest time from the loss to a working database.
    pub rto: Span,
    /// A proof older than this is no proof.
    pub proof_max_age: Span,
    /// Parts of the recovery time that a drill does not exercise, by name (`detect`, `decide`, `cut_over`).
    pub allowances: Vec<(String, Span)>,
}

/// One scheduled way of backing up.
#[derive(Clone, Debug, PartialEq)]
pub struct BackupJob {
    /// Unique in the policy.
    pub name: JobName,
    /// How.
    pub method: Method,
    /// When, in five cron fields, `@daily` or `every 6h`; none: only by hand.
    pub schedule: Option<Schedule>,
    /// On what terms its scheduled runs are begun.
    pub terms: Terms,
    /// Where to.
    pub store: PlaceName,
    /// Second places.
    pub copies: Vec<PlaceName>,
    /// How long after the backup a copy may become durable; none: the RPO.
    pub copy_within: Option<Span>,
    /// How long it is kept.
    pub retention: Option<Retention>,
    /// Plaintext of one part; none: chosen from the size of the source.
    pub part_size: Option<ByteSize>,
    /// zstd's level, 1 to 19.
    pub level: i32,
    /// How the files of a physical backup are read.
    pub read: ReadBy,
}

/// How the files of a physical backup are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadBy {
    /// From the data folder where that is certainly the source's, else from the server.
    #[default]
    Auto,
    /// From the data folder; where that cannot be, there is no backup.
    Local,
    /// From the server, over the replication protocol.
    Stream,
}

/// A way to take a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// `pg_dump` under an exported snapshot.
    Logical,
    /// A base backup with its WAL.
    Physical,
    /// A snapshot of Amazon RDS.
    RdsSnapshot,
    /// A pgBackRest repository, adopted.
    Pgbackrest,
    /// A Barman catalogue, adopted.
    Barman,
    /// A dump made by somebody else, adopted.
    Dump,
    /// lifeboat's own catalog and configuration.
    ControlPlane,
}

impl Method {
    /// The word used in policies.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Logical => "logical",
            Method::Physical => "physical",
            Method::RdsSnapshot => "rds-snapshot",
            Method::Pgbackrest => "pgbackrest",
            Method::Barman => "barman",
            Method::Dump => "dump",
            Method::ControlPlane => "control-plane",
        }
    }
}

/// When a job is due: the text that was validated, and the zone in which it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// As written: five fields, a nickname, or `every 6h`.
    pub text: String,
    /// An IANA time zone.
    pub timezone: String,
}

/// How long backups are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Every backup this young.
    pub keep: Option<Span>,
    /// One a day, for so many days.
    pub daily: u32,
    /// One a week, for so many weeks.
    pub weekly: u32,
    /// One a month, for so many months.
    pub monthly: u32,
    /// One a year, for so many years.
    pub yearly: u32,
    /// Never fewer than this many.
    pub at_least: u32,
}

/// Continuous WAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalPlan {
    /// Whether lifeboat receives it.
    pub stream: bool,
    /// How long received log may wait before it is durable in the store; none: a second.
    pub lag: Option<Span>,
    /// How often a heartbeat row is committed in the source; none: never.
    pub heartbeat: Option<Span>,
    /// Where `wal push` puts files while the store takes none; none: nowhere, the source keeps them.
    pub spool: Option<Spool>,
    /// For how long every moment stays within reach; none: from the oldest backup on.
    pub keep: Option<Span>,
}

/// A folder on this machine in which files of the log wait for the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spool {
    /// The folder.
    pub dir: PathBuf,
    /// All that may lie in it.
    pub max: ByteSize,
}

/// Who can open an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encryption {
    /// age recipients (`age1…`), at least one; two are wanted: a working key and an escrow key.
    pub recipients: Vec<String>,
}

/// How much of the tables' content is digested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentPlan {
    /// Tables above this size are sampled; none: every row of every table.
    pub sample_over: Option<ByteSize>,
    /// How many of a hundred rows of a sampled table are digested.
    pub sample_percent: u8,
}

impl Default for ContentPlan {
    fn default() -> ContentPlan {
        ContentPlan { sample_over: None, sample_percent: 5 }
    }
}

/// A drill that this policy runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrillUse {
    /// Which.
    pub drill: DrillName,
    /// When; none: only by hand.
    pub schedule: Option<Schedule>,
    /// On what terms its scheduled runs are begun.
    pub terms: Terms,
}
