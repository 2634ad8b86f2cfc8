//! Buckets that are open: credentials are fetched and connections made once for each place and duty, however often it is asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Duty, S3Store, Store, StoreError, open, open_existing};
use crate::domain::bucket::{Lock, LockMode};
use crate::domain::config::{StoreConfig, StorePlace};
use crate::domain::ids::PlaceName;

/// A place, what for, and with which lock what is written there is locked.
type Key = (PlaceName, Duty, Option<(bool, i128)>);

/// The buckets of one configuration. Folders are not kept: whether one is there is asked each time, for a disk may be gone.
#[derive(Clone, Debug, Default)]
pub struct Buckets(Arc<Mutex<BTreeMap<Key, S3Store>>>);

impl Buckets {
    /// As [`open_existing`].
    pub fn open_existing(
        &self,
        name: &PlaceName,
        config: &StoreConfig,
        duty: Duty,
    ) -> Result<Arc<dyn Store>, StoreError> {
        match self.bucket(name, config, duty, None) {
            Some(bucket) => Ok(bucket),
            None => open_existing(config, duty),
        }
    }

    /// As [`open`].
    pub fn open(
        &self,
        name: &PlaceName,
        config: &StoreConfig,
        duty: Duty,
        lock: Option<&Lock>,
    ) -> Result<Arc<dyn Store>, StoreError> {
        match self.bucket(name, config, duty, lock) {
            Some(bucket) => Ok(bucket),
            None => open(config, duty, lock),
        }
    }

    fn bucket(
        &self,
        name: &PlaceName,
        config: &StoreConfig,
        duty: Duty,
        lock: Option<&Lock>,
    ) -> Option<Arc<dyn Store>> {
        let StorePlace::S3(bucket) = &config.place else { return None };
        let locked = lock.map(|lock| (lock.mode == LockMode::Compliance, lock.keep.0.as_nanos()));
        let mut opened = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let store = opened.entry((name.clone(), duty, locked));
        let store = store.or_insert_with(|| S3Store::new((**bucket).clone(), duty, lock.cloned()));
        Some(Arc::new(store.clone()))
    }
}
