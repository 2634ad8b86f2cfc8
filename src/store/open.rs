//! Opening a store: by its configuration, or by what a person types.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Duty, FileStore, S3Store, Store, StoreError, bucket_of_url};
use crate::domain::bucket::Lock;
use crate::domain::config::{StoreConfig, StorePlace};

/// Opens the store of a configuration; a folder is made if need be. What is written to a locked bucket is locked.
pub fn open(config: &StoreConfig, duty: Duty, lock: Option<&Lock>) -> Result<Arc<dyn Store>, StoreError> {
    match &config.place {
        StorePlace::File { path } => Ok(Arc::new(FileStore::open(path)?)),
        StorePlace::S3(bucket) => Ok(Arc::new(S3Store::new((**bucket).clone(), duty, lock.cloned()))),
    }
}

/// The same, but a folder that is not there is an error: for those who only read.
pub fn open_existing(config: &StoreConfig, duty: Duty) -> Result<Arc<dyn Store>, StoreError> {
    match &config.place {
        StorePlace::File { path } => Ok(Arc::new(FileStore::open_existing(path)?)),
        StorePlace::S3(bucket) => Ok(Arc::new(S3Store::new((**bucket).clone(), duty, None))),
    }
}

/// Whether a store was never made: certainly no folder is there, but its parent is.
pub fn is_missing(config: &StoreConfig) -> bool {
    let certainly_not = |path: &Path| path.try_exists().is_ok_and(|there| !there);
    match &config.place {
        StorePlace::File { path } => certainly_not(path) && path.parent().is_some_and(Path::is_dir),
        // A bucket is made by hand.
        StorePlace::S3(_) => false,
    }
}

/// Opens an existing store by what a person types after `--store`: a folder, `file:///…`, or `s3://bucket/prefix?…`. Nothing is made here, so that
/// a misspelt path is an error and not an empty store.
pub fn open_url(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    let unusable = |why: &str| StoreError::Unusable { store: url.to_owned(), why: why.to_owned() };
    let path = match url.split_once("://") {
        None if url.is_empty() => return Err(unusable("its name is empty")),
        None => PathBuf::from(url),
        Some(("file", _)) => url::Url::parse(url)
            .map_err(|error| unusable(&error.to_string()))?
            .to_file_path()
            .map_err(|()| unusable("a file URL has three slashes and no host: file:///srv/backups"))?,
        Some(("s3", _)) => return Ok(Arc::new(S3Store::new(bucket_of_url(url)?, Duty::Read, None))),
        Some((scheme, _)) => return Err(unusable(&format!("{scheme}:// is no kind of store that this version knows"))),
    };
    Ok(Arc::new(FileStore::open_existing(&path)?))
}
