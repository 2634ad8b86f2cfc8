//! A fingerprint: what a probe saw of a server and its databases. The same probe serves source and scratch.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::lsn::Lsn;
use super::observed::Observed;

/// Everything that a restored server is compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The server itself.
    pub server: Server,
    /// Its roles, but for those that PostgreSQL makes itself (`pg_*`).
    pub roles: Vec<Role>,
    /// Its tablespaces, but for PostgreSQL's own two.
    pub tablespaces: Vec<Tablespace>,
    /// Its databases, as far as the backup holds them.
    pub databases: Vec<Database>,
    /// Databases that nobody looked at: a physical backup holds them, a logical one of all databases does not. Nothing of them can be compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<Unseen>,
    /// Databases, roles and tablespaces that were otherwise when a physical backup was over than when it was begun.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed_meanwhile: Vec<Changed>,
    /// What belongs to the whole server and is none of the above; none: it was not looked at (older backups).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<Vec<Object>>,
}

/// A kind of [`Fingerprint::shared`]: what `ALTER DATABASE` sets and `pg_database` keeps. Its identity is the database's quoted name.
pub const ATTRIBUTES_OF_DATABASE: &str = "attributes of database";
/// The same for comments.
pub const COMMENT_ON_DATABASE: &str = "comment on database";
/// `ALTER ROLE ALL SET`.
pub const SETTING_OF_ALL_ROLES: &str = "setting of all roles";

/// A database without a fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unseen {
    /// Its name.
    pub database: String,
    /// Why it was not looked at.
    pub why: String,
    /// It was made, or dropped, while the backup was taken.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub meanwhile: bool,
}

/// Something that was not the same when a backup was over as when it was begun: a copy may have either.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Changed {
    /// The kind of an [`Object`]; or `extension`, `collation`, `role`, `tablespace`, `database`.
    pub kind: String,
    /// Its identity, or its name.
    pub identity: String,
    /// What happened to it.
    pub how: Change,
}

/// What happened to something while a backup was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It was not there at the beginning.
    Made,
    /// It was not there any more at the end.
    Gone,
    /// It was there both times, and not the same.
    Altered,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// `pg_control_system().system_identifier`: follows the data, not the host. As text: it exceeds JSON's numbers.
    pub system_identifier: String,
    /// `server_version_num`, such as 150018.
    pub version_num: u32,
    /// `server_version`, for people.
    pub version: String,
    /// Whether pages carry checksums.
    pub data_checksums: bool,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// The timeline.
    pub timeline: u32,
    /// Where the log was when the fingerprint was begun.
    pub lsn: Lsn,
    /// The server's clock then.
    pub clock: Timestamp,
    /// Size of a WAL segment in bytes: read, never assumed.
    pub wal_segment_bytes: u64,
    /// Settings that differ from their defaults, and those that recovery needs, by name, as `pg_settings` gives them.
    pub settings: BTreeMap<String, String>,
}

impl Server {
    /// The major version: 15 of 150018.
    pub fn major(&self) -> u32 {
        self.version_num / 10_000
    }
}

/// The major version in `15.18`, `19beta1`, `19devel`.
pub fn major_in(version: &str) -> Option<u32> {
    version.split(|letter: char| !letter.is_ascii_digit()).next().and_then(|digits| digits.parse().ok())
}

/// A role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Its attributes in a fixed order: `superuser login createdb`, connection limit, expiry. Never its password.
    pub attributes: String,
    /// Whether it has a password at all (only a superuser can see that).
    pub has_password: Observed<bool>,
    /// The roles that it is a member of, with the options of each membership.
    pub member_of: Vec<String>,
}

/// A tablespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tablespace {
    /// Its object identifier: a base backup names it so.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// Its folder on the source.
    pub location: String,
}

/// A database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Its object identifier.
    pub oid: u32,
    /// Its owner.
    pub owner: String,
    /// Its encoding: `UTF8`.
    pub encoding: String,
    /// Its locale: provider, collate, ctype, ICU locale.
    pub locale: String,
    /// The version of its collation provider as recorded in the catalog.
    pub collation_version: Option<String>,
    /// The version that the provider has now, on the server that was asked.
    pub collation_actual: Option<String>,
    /// Settings of `ALTER DATABASE … SET` and `ALTER ROLE … IN DATABASE … SET`, sorted.
    pub settings: Vec<String>,
    /// The snapshot under which everything below was read.
    pub snapshot: Snapshot,
    /// Extensions.
    pub extensions: Vec<Extension>,
    /// Collations made by users, and those of PostgreSQL's own that columns, domains or indexes use.
    pub collations: Vec<Collation>,
    /// All other objects, each with a digest of its definition, owner and grants.
    pub objects: Vec<Object>,
    /// Tables that hold rows.
    pub tables: Vec<Table>,
    /// Sequences.
    pub sequences: Vec<Sequence>,
    /// Large objects, all together.
    pub large_objects: LargeObjects,
    /// What was otherwise when a physical backup was over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed_meanwhile: Vec<Changed>,
}

/// A snapshot of the source: which transactions were visible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The source's clock at its **start**: the recovery point of a logical backup.
    pub taken_at: Timestamp,
    /// Every transaction below is over.
    pub xmin: u64,
    /// No transaction from here on is visible.
    pub xmax: u64,
    /// Transactions between that were still running.
    pub xip: Vec<u64>,
}

/// An extension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its schema.
    pub schema: String,
}

/// A collation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collation {
    /// Quoted and qualified.
    pub name: String,
    /// `libc`, `icu`, `builtin`.
    pub provider: String,
    /// The version recorded when it was made.
    pub recorded: Option<String>,
    /// The version that its provider has now.
    pub actual: Option<String>,
}

/// Any object that completeness looks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Object {
    /// `schema`, `table`, `column`, `view`, `index`, `constraint`, `function`, `trigger`, `policy`, `type`, `grant`, …
    pub kind: String,
    /// Quoted and qualified, as PostgreSQL would write it.
    pub identity: String,
    /// Digest of its definition as PostgreSQL prints it with fixed settings.
    pub definition: String,
    /// Its owner, where it has one.
    pub owner: Option<String>,
}

/// A table that holds rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Quoted and qualified.
    pub name: String,
    /// Its content.
    pub content: Observed<Content>,
    /// Bytes on disk at the source, with its TOAST: for sampling and for people, not compared.
    pub bytes: u64,
}

/// Stands in front of the reason of an [`Observed::Unknown`] content when the server itself says that the data are damaged: in a
/// restored copy that is a finding, while any other reason says nothing about the copy.
pub const UNREADABLE: &str = "unreadable: ";

/// Stands in front of the reason when a table's rows are not in its database at all: nobody promised them.
pub const FOREIGN: &str = "foreign: ";

/// Stands in front of the reason when a physical copy has no rows of a table because PostgreSQL keeps them out of its log.
pub const UNLOGGED: &str = "unlogged: ";

/// The content of a table under one snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// All rows, counted.
    pub rows: u64,
    /// Rows that went into the digest: all of them, unless the policy samples this table.
    pub digested: u64,
    /// Which of a hundred rows were digested: 100 is all.
    pub percent: u8,
    /// Of a sample: the pages whose rows were digested; none: the rows were chosen by their primary keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages: Option<Pages>,
    /// The order-independent digest, behind the name of its method: `lb2:…`. The first method's stand alone.
    pub digest: String,
}

/// A choice of pages that can be made again: one stretch in each 16,384 pages, as long as the percentage says, its place drawn from the seed. It
/// holds for copies in which each row lies where it lay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pages {
    /// Pages of the table when the choice was made.
    pub blocks: u32,
    /// What the places were drawn from. Each backup has another, so in time all pages have their turn.
    pub seed: u32,
}

impl Content {
    /// The method by which the digest was made. Digests of two methods say nothing about each other.
    pub fn method(&self) -> &str {
        self.digest.split_once(':').map_or("lb1", |(method, _)| method)
    }

    /// The digest without its method.
    pub fn value(&self) -> &str {
        self.digest.split_once(':').map_or(self.digest.as_str(), |(_, value)| value)
    }
}

/// A sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// Quoted and qualified.
    pub name: String,
    /// Its last value; unknown where the role may not read it.
    pub last_value: Observed<i64>,
    /// Whether that value was handed out.
    pub is_called: bool,
    /// Where it stood when the backup was over: sequences are outside of transactions, so a copy may hold any value from the
    /// first to this one, and no other. None: not looked at again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<i64>,
}

/// The large objects of a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeObjects {
    /// How many.
    pub count: u64,
    /// Digest over identifiers and content.
    pub digest: Observed<String>,
}
