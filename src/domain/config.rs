//! What `lifeboat.toml` says: where things are.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::bucket::Bucket;
use super::ids::PlaceName;
use super::policy::{PasswordSource, TlsMode};
use super::timetable::{Housekeeping, Serve};
use super::units::Span;
use super::watch::Watch;

/// The configuration of one machine. Paths are absolute: those in the file are read from the file's own folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// What ran and what came of it.
    pub catalog: CatalogPlace,
    /// Folder of the policies.
    pub policies: PathBuf,
    /// Folder of the drills.
    pub drills: PathBuf,
    /// Folder of reports.
    pub reports: PathBuf,
    /// Where artifacts live.
    pub stores: BTreeMap<PlaceName, StoreConfig>,
    /// Key files.
    pub keys: Keys,
    /// Where scratch clusters are made, and how.
    pub scratch: ScratchConfig,
    /// PostgreSQL programs: folders to look in before the usual ones.
    pub bin_dirs: Vec<PathBuf>,
    /// How much at once.
    pub limits: Limits,
    /// How it is watched.
    pub watch: Watch,
    /// What is done for every policy by schedule.
    pub schedule: Housekeeping,
    /// How much this machine does of what is planned.
    pub serve: Serve,
}

/// Where the catalog is.
#[derive(Clone, Debug, PartialEq)]
pub enum CatalogPlace {
    /// In a SQLite file.
    Sqlite(PathBuf),
    /// On a PostgreSQL server, for a fleet.
    Postgres(Box<CatalogServer>),
}

/// A catalog on a PostgreSQL server.
#[derive(Clone, Debug, PartialEq)]
pub struct CatalogServer {
    /// A connection URL without a password.
    pub url: String,
    /// Where the password comes from.
    pub password: PasswordSource,
    /// How the server's identity is checked; none said: `verify-full`, but for sockets and loopback.
    pub tls: Option<TlsMode>,
    /// Certificate authorities in PEM form.
    pub tls_ca: Option<PathBuf>,
    /// In which schema.
    pub schema: String,
    /// The longest time to wait for an answer, with the way there.
    pub timeout: Span,
    /// The longest time to wait for a connection.
    pub connect_timeout: Span,
    /// Where events wait on this machine while the server is away.
    pub spool: PathBuf,
}

impl From<PathBuf> for CatalogPlace {
    fn from(path: PathBuf) -> CatalogPlace {
        CatalogPlace::Sqlite(path)
    }
}

/// One store.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreConfig {
    /// Where it is.
    pub place: StorePlace,
    /// What it is made of: copies on one medium can be lost together.
    pub media: PlaceName,
    /// Where in the world it stands; none: nobody said, so nobody knows whether it is off-site.
    pub site: Option<PlaceName>,
}

/// Where a store is.
#[derive(Clone, Debug, PartialEq)]
pub enum StorePlace {
    /// A folder.
    File {
        /// Its path.
        path: PathBuf,
    },
    /// A bucket.
    S3(Box<Bucket>),
}

/// Files with keys. Private ones have mode 0600.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keys {
    /// age identities that open artifacts: for drills, restores and verification; the backup side needs none.
    pub identities: Vec<PathBuf>,
    /// age identities that are kept elsewhere, for the day on which the others are lost: only drills that demand them use them.
    pub escrow: Vec<PathBuf>,
    /// The ed25519 private key (PKCS#8 PEM) that signs manifests: for backups.
    pub signing: Option<PathBuf>,
    /// The ed25519 public keys (SPKI PEM) that are trusted to have signed: for drills, restores and verification.
    pub trusted_signers: Vec<PathBuf>,
}

/// Where scratch is made.
#[derive(Clone, Debug, PartialEq)]
pub struct ScratchConfig {
    /// Folder of scratch clusters.
    pub dir: PathBuf,
    /// The unprivileged user that runs scratch servers when lifeboat runs as root.
    pub user: String,
    /// Preload libraries that a scratch server may load.
    pub preload: Vec<String>,
    /// Scratch servers for the kind `database`.
    pub servers: BTreeMap<PlaceName, ScratchServer>,
}

/// A server on which a scratch database may be made.
#[derive(Clone, Debug, PartialEq)]
pub struct ScratchServer {
    /// A connection URL without a password; its role may create databases and roles.
    pub url: String,
    /// Where the password comes from.
    pub password: PasswordSource,
    /// How the server's identity is checked; none said: `verify-full`, but for sockets and loopback.
    pub tls: Option<TlsMode>,
    /// Certificate authorities in PEM form.
    pub tls_ca: Option<PathBuf>,
}

/// How much at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Threads that seal or open parts, and parallel jobs of restores and digests.
    pub parallel: usize,
    /// Longest time to wait for a connection.
    pub connect_timeout: Span,
}
