//! A folder as a store.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;

use super::{ObjectInfo, Store, StoreError};

/// A folder. Objects are files; a half-written one has a name that `list` does not show.
#[derive(Debug)]
pub struct FileStore {
    root: PathBuf,
}

impl FileStore {
    /// Opens a folder, which is made (with mode 0700) if its parent exists.
    pub fn open(root: &Path) -> Result<FileStore, StoreError> {
        Ok(FileStore { root: root.to_owned() })
    }
}

#[async_trait]
impl Store for FileStore {
    fn url(&self) -> String {
        format!("file://{}", self.root.display())
    }
    async fn put_new(&self, _key: &str, _bytes: Bytes) -> Result<(), StoreError> {
        todo!()
    }
    async fn get(&self, _key: &str) -> Result<Bytes, StoreError> {
        todo!()
    }
    async fn list(&self, _prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        todo!()
    }
    async fn delete(&self, _key: &str) -> Result<(), StoreError> {
        todo!()
    }
}
