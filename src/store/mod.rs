//! Where artifacts live.
//!
//! The contract of a store, which every implementation passes (`tests/it/store_contract.rs`):
//! - keys are relative, `/`-separated, without empty, `.` or `..` segments; anything else is refused;
//! - `put_new` never replaces: an existing key is an error. When it returns, the object is whole and durable; when it
//!   fails or is killed, the key does not exist;
//! - `get` gives all of an object or an error, and tells certain absence from everything else;
//! - `list` is sorted, and shows nothing that is half written.

mod file;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use crate::domain::config::StoreConfig;

pub use file::FileStore;

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
    /// Removes an object; one that is not there is no error.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;
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
    /// Not a key.
    #[error("`{0}` is not an object key")]
    BadKey(String),
    /// The store's URL or folder is no good.
    #[error("the store {store} cannot be used: {why}")]
    Unusable {
        /// Which.
        store: String,
        /// Why.
        why: String,
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
        todo!()
    }
}

impl From<StoreError> for crate::domain::check::Broke {
    fn from(error: StoreError) -> crate::domain::check::Broke {
        crate::domain::check::Broke { error: error.to_string(), hint: error.hint() }
    }
}

/// Opens the store of a configuration.
pub fn open(config: &StoreConfig) -> Result<Arc<dyn Store>, StoreError> {
    match config {
        StoreConfig::File { path } => Ok(Arc::new(FileStore::open(path)?)),
    }
}

/// Opens a store by what a person types after `--store`: a folder, or `file:///…`.
pub fn open_url(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    let _ = (url, Path::new(""));
    todo!()
}
