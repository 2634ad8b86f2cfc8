//! A store seen through a layer of changes in memory. What is under it is only ever read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::store::{ObjectInfo, Store, StoreError};

/// A store that can be changed without changing it. Memory: the objects that were written, and those are few.
#[derive(Debug)]
pub struct Overlay {
    under: Arc<dyn Store>,
    /// By key: the bytes that are there instead, or nothing.
    changed: Mutex<BTreeMap<String, Option<Bytes>>>,
}

impl Overlay {
    /// Over this store, unchanged yet.
    pub fn over(under: Arc<dyn Store>) -> Overlay {
        Overlay { under, changed: Mutex::default() }
    }

    /// Puts other bytes in the place of an object, whether there is one or not.
    pub fn replace(&self, key: &str, bytes: Bytes) {
        self.changed().insert(key.to_owned(), Some(bytes));
    }

    /// Takes an object away.
    pub fn remove(&self, key: &str) {
        self.changed().insert(key.to_owned(), None);
    }

    fn changed(&self) -> MutexGuard<'_, BTreeMap<String, Option<Bytes>>> {
        // Each change is one insertion: a panic elsewhere cannot leave it half done.
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn absent(&self, key: &str) -> StoreError {
        StoreError::NotFound { key: key.to_owned(), store: self.url() }
    }
}

#[async_trait]
impl Store for Overlay {
    fn url(&self) -> String {
        self.under.url()
    }

    async fn put_new(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        match self.get(key).await {
            Ok(_) => Err(StoreError::AlreadyThere { key: key.to_owned(), store: self.url() }),
            Err(StoreError::NotFound { .. }) => {
                self.replace(key, bytes);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        let changed = self.changed().get(key).cloned();
        match changed {
            Some(Some(bytes)) => Ok(bytes),
            Some(None) => Err(self.absent(key)),
            None => self.under.get(key).await,
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let mut objects: BTreeMap<String, ObjectInfo> =
            self.under.list(prefix).await?.into_iter().map(|object| (object.key.clone(), object)).collect();
        for (key, bytes) in self.changed().iter().filter(|(key, _)| key.starts_with(prefix)) {
            let before = objects.remove(key);
            if let Some(bytes) = bytes {
                let modified = before.map_or_else(crate::clock::now, |object| object.modified);
                objects.insert(key.clone(), ObjectInfo { key: key.clone(), bytes: bytes.len() as u64, modified });
            }
        }
        Ok(objects.into_values().collect())
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.remove(key);
        Ok(())
    }
}
