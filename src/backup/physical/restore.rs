//! Puts a physical backup back into a folder.

use std::path::PathBuf;
use std::sync::Arc;

use crate::domain::artifact::Manifest;
use crate::domain::check::Stop;
use crate::domain::transcript::RestoreFacts;
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
    /// The data folder to make: must not exist, or be empty.
    pub data_dir: PathBuf,
    /// Tablespaces that get a folder of their own, by object identifier; all others stay inside the data folder.
    pub tablespaces: Vec<(u32, PathBuf)>,
    /// Whether to wait until everything is on disk (a real restore), or not (a scratch).
    pub durable: bool,
    /// Threads.
    pub parallel: usize,
    /// Who listens.
    pub progress: &'a dyn Progress,
}

/// Opens parts in parallel and writes files, verifying page checksums in the same pass. What can make a server start
/// (`global/pg_control`) is put in place last, when everything else is whole.
pub async fn put_back(what: &PutBack<'_>) -> Result<RestoreFacts, Stop> {
    let _ = what;
    todo!()
}
