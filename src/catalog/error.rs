//! What can go wrong with a catalog.

use std::path::{Path, PathBuf};

use crate::domain::check::Broke;
use crate::domain::ids::RunId;

/// What can go wrong with a catalog in a SQLite file.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The folder cannot be made.
    #[error("the catalog's folder {folder} cannot be made: {source}")]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file cannot be made or opened.
    #[error("the catalog {path} cannot be opened: {why}")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The file is no catalog, or is damaged.
    #[error("the catalog {path} is damaged or is no catalog: {why}")]
    Corrupt {
        /// Which.
        path: PathBuf,
        /// What was seen.
        why: String,
    },
    /// A database, but not ours.
    #[error("{path} is no catalog, but a SQLite file of another program")]
    Foreign {
        /// Which.
        path: PathBuf,
    },
    /// A later version of lifeboat wrote it.
    #[error("the catalog {path} was written by a newer lifeboat: {why}")]
    Newer {
        /// Which.
        path: PathBuf,
        /// What was seen.
        why: String,
    },
    /// Other processes kept it locked.
    #[error("the catalog {path} was locked by another process for more than {seconds} s")]
    Locked {
        /// Which.
        path: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
    /// It may not be written.
    #[error("the catalog {path} cannot be written: {why}")]
    ReadOnly {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Anything else that SQLite says.
    #[error("could not {doing} in the catalog {path}: {why}")]
    Sqlite {
        /// What was tried.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// An event cannot be written as JSON.
    #[error("an event could not be written as JSON: {0}")]
    Event(#[from] serde_json::Error),
    /// A run that was begun cannot be given back.
    #[error("the run {run} was begun, so it cannot be given back to the queue")]
    Begun {
        /// Which.
        run: RunId,
    },
    /// The thread that worked on it went away.
    #[error("the catalog's thread stopped early")]
    Stopped,
}

/// How long a lock of another process is waited for.
pub(super) const BUSY_SECONDS: u64 = 15;

impl CatalogError {
    /// From what SQLite says.
    pub(super) fn sqlite(doing: &'static str, path: &Path, error: &rusqlite::Error) -> CatalogError {
        use rusqlite::ErrorCode as Code;
        let (path, why) = (path.to_owned(), error.to_string());
        match error.sqlite_error_code() {
            Some(Code::NotADatabase | Code::DatabaseCorrupt) => CatalogError::Corrupt { path, why },
            Some(Code::DatabaseBusy | Code::DatabaseLocked) => CatalogError::Locked { path, seconds: BUSY_SECONDS },
            Some(Code::ReadOnly) => CatalogError::ReadOnly { path, why },
            Some(Code::CannotOpen | Code::PermissionDenied) => CatalogError::Open { path, why },
            _ => CatalogError::Sqlite { doing, path, why },
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            CatalogError::Folder { .. } => "name a folder that can be written: [catalog] in lifeboat.toml",
            CatalogError::Open { .. } => "look at the permissions of the file and of its folder",
            CatalogError::Corrupt { .. } => {
                "`lifeboat catalog rebuild` moves this file aside and makes the catalog again from the stores"
            }
            CatalogError::Foreign { .. } => {
                "name another file for the catalog in lifeboat.toml; this one is left alone"
            }
            CatalogError::Newer { .. } => "use that version, or a later one",
            CatalogError::Locked { .. } => "another lifeboat is writing; try again, or see who holds the file open",
            CatalogError::ReadOnly { .. } => "make the file and its folder writable for the user who runs lifeboat",
            CatalogError::Sqlite { .. } => "see whether the disk is full or failing",
            CatalogError::Event(_) | CatalogError::Begun { .. } | CatalogError::Stopped => return None,
        };
        Some(hint.to_owned())
    }
}

impl From<CatalogError> for Broke {
    fn from(error: CatalogError) -> Broke {
        Broke { error: error.to_string(), hint: error.hint() }
    }
}
