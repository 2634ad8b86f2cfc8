//! Puts a logical backup back.

use std::path::PathBuf;
use std::sync::Arc;

use crate::domain::artifact::Manifest;
use crate::domain::check::Stop;
use crate::domain::transcript::RestoreFacts;
use crate::probe::Endpoint;
use crate::programs::Programs;
use crate::progress::Progress;
use crate::seal::Opener;
use crate::store::Store;

/// What is put back, and where.
pub struct PutBack<'a> {
    /// Where the artifact is.
    pub store: Arc<dyn Store>,
    /// What it is.
    pub manifest: &'a Manifest,
    /// What opens it.
    pub opener: &'a Opener,
    /// The server, as a role that may create databases and roles. Its database is ignored.
    pub server: Endpoint,
    /// Whether globals are restored too, and the dump as a role that is not superuser (a scratch cluster that is all ours).
    pub whole_server: bool,
    /// Names of the databases to make, by the name they had: empty means the same names.
    pub rename: Vec<(String, String)>,
    /// A private folder for dumps while they are restored; must have room for the largest database.
    pub work_dir: PathBuf,
    /// Programs of the server's major version.
    pub programs: &'a Programs,
    /// Arguments put before a client program so that it runs in the sandbox too; empty: as it is.
    pub wrap: Vec<std::ffi::OsString>,
    /// Parallel jobs.
    pub parallel: usize,
    /// Who listens.
    pub progress: &'a dyn Progress,
}

/// Restores globals and databases.
pub async fn put_back(what: &PutBack<'_>) -> Result<RestoreFacts, Stop> {
    let _ = what;
    todo!()
}
