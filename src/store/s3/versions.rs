//! Object versions: what is deleted with them, and what is read from them.

use aws_sdk_s3::types::BucketVersioningStatus;
use bytes::Bytes;
use jiff::Timestamp;

use super::S3Store;
use super::read::Markers;
use crate::store::key::check_key;
use crate::store::{ObjectInfo, StoreError};

/// One version of an object.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) info: ObjectInfo,
    pub(super) id: String,
    /// It says that the object is deleted, and holds nothing.
    pub(super) is_marker: bool,
}

impl S3Store {
    /// Whether the bucket keeps versions; an error: it could not be asked.
    pub(super) async fn keeps_versions(&self) -> Result<bool, StoreError> {
        let answer = self.ask(|client| client.get_bucket_versioning().bucket(&self.bucket.bucket).send()).await?;
        match answer {
            // Suspended keeps those that there were.
            Ok(answer) => {
                Ok(matches!(answer.status, Some(BucketVersioningStatus::Enabled | BucketVersioningStatus::Suspended)))
            }
            Err(fault) if fault.is(&["NotImplemented", "MethodNotAllowed"]) => Ok(false),
            Err(fault) => Err(self.failed("read the versioning of", "the bucket", fault)),
        }
    }

    /// Removes an object for good: where there are versions, all of them.
    pub(super) async fn remove(&self, key: &str) -> Result<(), StoreError> {
        // Who may not ask for versions may not delete them either: what is left is to hide the object.
        if self.versions.get_or_try_init(|| self.keeps_versions()).await.is_ok_and(|keeps| *keeps)
            && let Ok(versions) = self.versions(key).await
        {
            for version in versions.iter().filter(|version| version.info.key == key) {
                self.remove_one(key, Some(&version.id)).await?;
            }
            return Ok(());
        }
        self.remove_one(key, None).await
    }

    pub(super) async fn remove_one(&self, key: &str, version: Option<&str>) -> Result<(), StoreError> {
        let removed = self
            .ask(|client| {
                client
                    .delete_object()
                    .bucket(&self.bucket.bucket)
                    .key(self.bucket.whole_key(key))
                    .set_version_id(version.map(str::to_owned))
                    .send()
            })
            .await?;
        match removed {
            Ok(_) => Ok(()),
            Err(fault) if fault.is_absence() || fault.is(&["NoSuchVersion"]) => Ok(()),
            Err(fault) => Err(self.failed("delete", key, fault)),
        }
    }

    /// All versions of the objects whose key begins so; of each object the newest first.
    pub(super) async fn versions(&self, prefix: &str) -> Result<Vec<Version>, StoreError> {
        let mut found = Vec::new();
        let mut from = Markers::default();
        loop {
            let page = self
                .ask(|client| {
                    client
                        .list_object_versions()
                        .bucket(&self.bucket.bucket)
                        .prefix(self.bucket.whole_key(prefix))
                        .set_key_marker(from.0.clone())
                        .set_version_id_marker(from.1.clone())
                        .send()
                })
                .await?
                .map_err(|fault| self.failed("list the versions of", prefix, fault))?;
            let own = |key: Option<&str>| {
                let key = key.and_then(|key| self.bucket.own_key(key))?;
                (check_key(key).is_ok() && key.starts_with(prefix)).then(|| key.to_owned())
            };
            for version in page.versions() {
                let (Some(key), Some(id)) = (own(version.key()), version.version_id()) else { continue };
                let modified = version.last_modified().map(|at| (at.secs(), at.subsec_nanos()));
                let info = self.info(&key, version.size(), modified)?;
                found.push(Version { info, id: id.to_owned(), is_marker: false });
            }
            for marker in page.delete_markers() {
                let (Some(key), Some(id)) = (own(marker.key()), marker.version_id()) else { continue };
                let modified = marker.last_modified().map(|at| (at.secs(), at.subsec_nanos()));
                found.push(Version { info: self.info(&key, Some(0), modified)?, id: id.to_owned(), is_marker: true });
            }
            let more = page.is_truncated();
            if !self.go_on(prefix, more, &mut from, (page.next_key_marker, page.next_version_id_marker))? {
                break;
            }
        }
        // Stable: of the same moment, the order in which the service told them, which is the newest first.
        found.sort_by(|a, b| a.info.key.cmp(&b.info.key).then(b.info.modified.cmp(&a.info.modified)));
        Ok(found)
    }

    /// What the bucket held at a moment.
    async fn held_at(&self, prefix: &str, at: Timestamp) -> Result<Vec<Version>, StoreError> {
        let mut versions = self.versions(prefix).await?;
        versions.retain(|version| version.info.modified <= at);
        versions.dedup_by(|later, first| later.info.key == first.info.key);
        versions.retain(|version| !version.is_marker);
        Ok(versions)
    }

    pub(super) async fn list_as_of(&self, prefix: &str, at: Timestamp) -> Result<Vec<ObjectInfo>, StoreError> {
        Ok(self.held_at(prefix, at).await?.into_iter().map(|version| version.info).collect())
    }

    pub(super) async fn read_as_of(&self, key: &str, at: Timestamp) -> Result<Bytes, StoreError> {
        let held = self.held_at(key, at).await?;
        match held.iter().find(|version| version.info.key == key) {
            Some(version) => self.read(key, Some(&version.id)).await,
            None => Err(StoreError::NotFound { key: key.to_owned(), store: self.bucket.url() }),
        }
    }
}
