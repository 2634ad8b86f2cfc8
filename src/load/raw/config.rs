//! `lifeboat.toml`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::policy::RawTls;
use super::store::RawStore;
use super::timetable::{RawSchedule, RawServe, RawWorker};
use super::watch::{RawLog, RawNotify, RawRoute, RawTelemetry};
use crate::domain::policy::TlsMode;
use crate::domain::units::Span;
use crate::load::format::{FilePath, Url, Variable, Words, Written};

/// Where things are on this machine. Paths are read from this file's own folder.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawConfig {
    /// What ran and what came of it.
    #[serde(default)]
    pub(in crate::load) catalog: RawCatalog,
    /// Where policies, drills and reports lie.
    #[serde(default)]
    pub(in crate::load) folders: RawFolders,
    /// Where backups live, by name: [stores.primary].
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "type": "string", "format": "name" }))]
    pub(in crate::load) stores: BTreeMap<String, RawStore>,
    /// Key files. Private ones have mode 0600.
    #[serde(default)]
    pub(in crate::load) keys: RawKeys,
    /// Where the disposable targets of drills are made.
    #[serde(default)]
    pub(in crate::load) scratch: RawScratch,
    /// PostgreSQL's own programs.
    #[serde(default)]
    pub(in crate::load) postgres: RawPostgres,
    /// How much at once.
    #[serde(default)]
    pub(in crate::load) limits: RawLimits,
    /// What is done for every policy by schedule.
    #[serde(default)]
    pub(in crate::load) schedule: RawSchedule,
    /// How much this machine does of what is planned.
    #[serde(default)]
    pub(in crate::load) serve: RawServe,
    /// What this machine offers.
    #[serde(default)]
    pub(in crate::load) worker: RawWorker,
    /// How it logs.
    #[serde(default)]
    pub(in crate::load) log: RawLog,
    /// Where traces go.
    #[serde(default)]
    pub(in crate::load) telemetry: RawTelemetry,
    /// Who can be told: [[notify]].
    #[serde(default)]
    pub(in crate::load) notify: Vec<RawNotify>,
    /// Who is told of what, the first that fits: [[route]]. Default: everybody of everything.
    #[serde(default)]
    pub(in crate::load) route: Vec<RawRoute>,
}

/// What ran and what came of it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawCatalog {
    /// The catalog's SQLite file. Default: lifeboat.db.
    pub(in crate::load) path: Option<Written<FilePath>>,
    /// Instead of a file: a PostgreSQL database, for a fleet. A connection URL without a password. `lifeboat catalog migrate` makes the tables.
    pub(in crate::load) url: Option<Written<Url>>,
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
    /// The schema of the catalog's tables, which holds nothing else. Default: lifeboat.
    pub(in crate::load) schema: Option<Written<Words>>,
    /// The longest time to wait for an answer of the catalog's server. Default: 15s.
    pub(in crate::load) timeout: Option<Written<Span>>,
    /// The folder on this machine in which a run's events wait while the catalog's server is away. Default: catalog-spool.
    pub(in crate::load) spool: Option<Written<FilePath>>,
}

/// Where policies, drills and reports lie.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawFolders {
    /// Default: policies.
    pub(in crate::load) policies: Option<Written<FilePath>>,
    /// Default: drills.
    pub(in crate::load) drills: Option<Written<FilePath>>,
    /// Default: reports.
    pub(in crate::load) reports: Option<Written<FilePath>>,
}

/// Key files.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawKeys {
    /// The ed25519 private key (PKCS#8 PEM) that signs manifests: for backups.
    pub(in crate::load) signing: Option<Written<FilePath>>,
    /// age identities that open backups: for drills, restores and verification. The backup side needs none.
    #[serde(default)]
    pub(in crate::load) identities: Vec<Written<FilePath>>,
    /// age identities that are kept elsewhere: only drills with keys = "escrow" use them, and those use no others.
    #[serde(default)]
    pub(in crate::load) escrow: Vec<Written<FilePath>>,
    /// The ed25519 public keys (PEM) that are trusted to have signed.
    #[serde(default)]
    pub(in crate::load) trusted_signers: Vec<Written<FilePath>>,
}

/// Where the disposable targets of drills are made.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawScratch {
    /// The folder of scratch clusters. Default: lifeboat-UID in the system's folder for temporary files.
    pub(in crate::load) dir: Option<Written<FilePath>>,
    /// The unprivileged user that runs scratch servers when lifeboat runs as root. Default: postgres.
    pub(in crate::load) user: Option<Written<Words>>,
    /// Preload libraries that a scratch server may load.
    #[serde(default)]
    pub(in crate::load) preload: Vec<Written<Words>>,
    /// Servers on which scratch databases may be made, by name: [scratch.servers.spare].
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "type": "string", "format": "name" }))]
    pub(in crate::load) servers: BTreeMap<String, RawServer>,
}

/// A server on which scratch databases may be made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawServer {
    /// Where it is, and as which role, which may create databases and roles: a connection URL without a password.
    pub(in crate::load) url: Written<Url>,
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
}

/// PostgreSQL's own programs.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawPostgres {
    /// Folders to look in before the usual ones.
    #[serde(default)]
    pub(in crate::load) bin_dirs: Vec<Written<FilePath>>,
}

/// How much at once.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawLimits {
    /// Threads that seal and open, and parallel jobs. Default: the number of cores, at most 4.
    #[schemars(range(min = 1, max = 64))]
    pub(in crate::load) parallel: Option<u8>,
    /// The longest time to wait for a connection. Default: 10s.
    pub(in crate::load) connect_timeout: Option<Written<Span>>,
}
