//! An S3 bucket as a store.
//!
//! Nothing is replaced: a write says that its key must be free (`If-None-Match`), and carries a random word of its own, so that a
//! write whose answer was lost is told from somebody else's. What was begun and not ended is aborted.

mod client;
mod fault;
mod locked;
mod pieces;
mod read;
mod url;
mod versions;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{OnceCell, Semaphore};

use super::key::{check_key, check_key_to_delete, check_prefix};
use super::{Duty, ObjectInfo, Protection, Store, StoreError};
use crate::domain::bucket::{Bucket, Lock, LockMode};
use crate::domain::immutability::Immutability;
use crate::domain::observed::Observed;

use client::Speaker;

pub use url::{endpoint_fault, parse as bucket_of_url};

/// A bucket, or a part of one.
#[derive(Clone, Debug)]
pub struct S3Store {
    bucket: Arc<Bucket>,
    /// What new objects are locked with.
    lock: Option<Lock>,
    speaker: Arc<Speaker>,
    /// Requests at once.
    turns: Arc<Semaphore>,
    /// Whether the bucket keeps versions, once that was asked.
    versions: Arc<OnceCell<bool>>,
    /// Uploads that were begun, and whose end is not known.
    owed: pieces::Owed,
}

impl S3Store {
    /// Nothing is sent yet: the first request tells whether there is such a bucket.
    pub fn new(bucket: Bucket, duty: Duty, lock: Option<Lock>) -> S3Store {
        let login = match duty {
            Duty::Backup => bucket.backup.clone(),
            Duty::Prune => bucket.prune.clone(),
            Duty::Read => None,
        };
        let bucket = Arc::new(bucket);
        let login = login.unwrap_or_else(|| bucket.login.clone());
        let lock = lock.filter(|_| bucket.locked);
        let turns = Arc::new(Semaphore::new(bucket.parallel.max(1)));
        S3Store {
            speaker: Arc::new(Speaker::new(Arc::clone(&bucket), login)),
            bucket,
            lock,
            turns,
            versions: Arc::default(),
            owed: Arc::default(),
        }
    }

    /// One that only reads cannot be written.
    fn writable(&self) -> Result<(), StoreError> {
        match self.bucket.as_of {
            None => Ok(()),
            Some(at) => Err(StoreError::Unusable {
                store: self.bucket.url(),
                why: format!("it is looked at as it was on {at}, which nobody can change"),
            }),
        }
    }
}

#[async_trait]
impl Store for S3Store {
    fn url(&self) -> String {
        self.bucket.url()
    }

    async fn put_new(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        check_key(key)?;
        self.writable()?;
        self.write(key, bytes).await
    }

    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        check_key(key)?;
        match self.bucket.as_of {
            None => self.read(key, None).await,
            Some(at) => self.read_as_of(key, at).await,
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        check_prefix(prefix)?;
        match self.bucket.as_of {
            None => self.list_now(prefix).await,
            Some(at) => self.list_as_of(prefix, at).await,
        }
    }

    async fn half_written(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        check_prefix(prefix)?;
        if self.bucket.as_of.is_some() { Ok(Vec::new()) } else { self.uploads(prefix).await }
    }

    async fn settle(&self) -> Result<(), StoreError> {
        self.settle_all().await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        check_key_to_delete(key)?;
        self.writable()?;
        match pieces::upload_named(key) {
            Some((object, upload)) => self.abort(&object, &upload).await,
            None => self.remove(key).await,
        }
    }

    async fn protection(&self, key: &str) -> Result<Observed<Protection>, StoreError> {
        check_key(key)?;
        self.protected(key).await
    }

    async fn set_legal_hold(&self, key: &str, held: bool) -> Result<bool, StoreError> {
        check_key(key)?;
        self.writable()?;
        self.hold(key, held).await
    }

    async fn try_to_destroy(&self, mode: LockMode) -> Result<Observed<Immutability>, StoreError> {
        self.writable()?;
        self.try_it(mode).await.map(Observed::Known)
    }
}
