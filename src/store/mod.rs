//! Where artifacts live.
//!
//! The contract of a store, which every implementation passes (`tests/it/store_contract.rs`):
//! - keys are relative, `/`-separated, without empty, `.` or `..` segments; anything else is refused;
//! - `put_new` never replaces: an existing key is an error. When it returns, the object is whole and durable; when it
//!   fails or is killed, the key does not exist;
//! - `get` gives all of an object or an error, and tells certain absence from everything else;
//! - `list` is sorted, and shows nothing that is half written.

mod buckets;
mod file;
mod key;
mod open;
mod s3;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use crate::domain::bucket::LockMode;
use crate::domain::check::Broke;
use crate::domain::immutability::Immutability;
use crate::domain::observed::Observed;

pub use buckets::Buckets;
pub use file::FileStore;
pub use key::{MAX_KEY_BYTES, MAX_SEGMENT_BYTES, key_fault};
pub use open::{is_missing, open, open_existing, open_url};
pub use s3::{S3Store, bucket_of_url, endpoint_fault};

/// An object in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its key.
    pub key: String,
    /// Its length.
    pub bytes: u64,
    /// When the store says it was written. Never taken for a recovery point.
    pub modified: Timestamp,
}

/// What keeps an object from being deleted, as its store says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protection {
    /// Until when nobody may delete it; none: from now on anybody may.
    pub until: Option<Timestamp>,
    /// Whether somebody put a hold on it, which has no end.
    pub legal_hold: bool,
}

/// For what a store is opened. Each can have credentials of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Duty {
    /// Write what is new; nothing else is needed for a backup.
    Backup,
    /// Read: drills, restores, verification.
    Read,
    /// Delete.
    Prune,
}

/// A place for artifacts.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// How people name it: `file:///srv/backups`.
    fn url(&self) -> String;
    /// Writes a new object, whole and durable.
    async fn put_new(&self, key: &str, bytes: Bytes) -> Result<(), StoreError>;
    /// Reads an object.
    async fn get(&self, key: &str) -> Result<Bytes, StoreError>;
    /// All objects whose key begins with `prefix`, sorted by key.
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError>;
    /// What killed writers left half written, as `list` would show it; `delete` takes these keys too. A writer that is at
    /// work right now has some as well. Stores that know no such thing have none.
    async fn half_written(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let _ = prefix;
        Ok(Vec::new())
    }
    /// Takes away what writes of this very store left half written, because the service did not answer then. For the end of a piece of work; stores
    /// that leave nothing have nothing to do.
    async fn settle(&self) -> Result<(), StoreError> {
        Ok(())
    }
    /// Removes an object; one that is not there is no error.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;
    /// What keeps an object from being deleted; absent: this store knows no such thing.
    async fn protection(&self, key: &str) -> Result<Observed<Protection>, StoreError> {
        let _ = key;
        Ok(Observed::Absent)
    }
    /// Puts the store's own hold on an object, or takes it away. False: this store knows no such thing.
    async fn set_legal_hold(&self, key: &str, held: bool) -> Result<bool, StoreError> {
        let _ = (key, held);
        Ok(false)
    }
    /// Writes an object of its own under lock, and tries to destroy it in every way that its credentials have. Absent: this store
    /// knows no lock.
    async fn try_to_destroy(&self, mode: LockMode) -> Result<Observed<Immutability>, StoreError> {
        let _ = mode;
        Ok(Observed::Absent)
    }
}

/// What can go wrong with a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Certainly not there.
    #[error("{key} is not in {store}")]
    NotFound {
        /// Which object.
        key: String,
        /// Where.
        store: String,
    },
    /// Already there: nothing is ever replaced.
    #[error("{key} is already in {store}")]
    AlreadyThere {
        /// Which object.
        key: String,
        /// Where.
        store: String,
    },
    /// Not a key: which text, and why not.
    #[error("{0}")]
    BadKey(String),
    /// The store's URL or folder is no good.
    #[error("the store {store} cannot be used: {why}")]
    Unusable {
        /// Which.
        store: String,
        /// Why.
        why: String,
    },
    /// The service refused, or failed, or did not answer.
    #[error("could not {doing} {key} in {store}: {why}")]
    Service {
        /// `read`, `write`, `list`, `delete`.
        doing: &'static str,
        /// Which object.
        key: String,
        /// Where.
        store: String,
        /// What it said.
        why: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// Reading or writing failed.
    #[error("could not {doing} {key} in {store}")]
    Io {
        /// `read`, `write`, `list`, `delete`.
        doing: &'static str,
        /// Which object.
        key: String,
        /// Where.
        store: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl StoreError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            StoreError::NotFound { .. } => {
                "list what is there, and look whether it was moved, deleted, or never written"
            }
            StoreError::AlreadyThere { .. } => {
                "nothing is ever replaced; run again: every backup writes under a name of its own"
            }
            StoreError::BadKey(_) => {
                "a key is relative, of `/`-separated names without `.` and `..`, each at most 255 bytes"
            }
            StoreError::Service { hint, .. } => hint,
            StoreError::Unusable { store, .. } if store.starts_with("s3:") => {
                "look at the store in lifeboat.toml, or at the URL: docs/s3.md has what can stand there"
            }
            StoreError::Unusable { .. } => {
                "give an existing folder, or one whose parent exists, that this user may read and write; look whether \
                 the disk is mounted"
            }
            StoreError::Io { source, doing, .. } => return io_hint(source, doing),
        };
        Some(hint.to_owned())
    }
}

/// What to do about an error of the operating system.
fn io_hint(error: &std::io::Error, doing: &str) -> Option<String> {
    use rustix::io::Errno;
    let hint = match Errno::from_io_error(error)? {
        Errno::NOSPC => "the disk is full: free some space, then run again; nothing half-written was left",
        Errno::DQUOT => "this user's disk quota is used up: raise it or free some space, then run again",
        Errno::ROFS => "it is mounted read-only: look into the kernel's log why, and mount it read-write",
        Errno::ACCESS | Errno::PERM if doing == "read" || doing == "list" => {
            "this user may not read it: look at the owner and mode of the store's folder"
        }
        Errno::ACCESS | Errno::PERM => {
            "this user may not write there: look at the owner and mode of the store's folder"
        }
        Errno::IO => "the disk itself failed: look into the kernel's log, and do not trust it until you know why",
        Errno::FBIG => "files of this size are not allowed there: look at `ulimit -f`, or make part_size smaller",
        Errno::MFILE | Errno::NFILE => "too many files are open: raise `ulimit -n`, or lower [limits] parallel",
        Errno::STALE | Errno::TIMEDOUT | Errno::HOSTDOWN => {
            "the network file system does not answer: look at its mount"
        }
        Errno::LOOP => {
            "the store holds a symbolic link there; lifeboat follows none: put the folder itself in its place"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

/// An error and its causes in one sentence, as a `Broke` holds no chain.
pub(crate) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

impl From<StoreError> for Broke {
    fn from(error: StoreError) -> Broke {
        Broke { error: with_causes(&error), hint: error.hint() }
    }
}
