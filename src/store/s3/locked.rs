//! Object lock: what it says of an object, and whether it holds when somebody tries.

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{
    ObjectLockEnabled, ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectLockRetention, ObjectLockRetentionMode,
};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use super::S3Store;
use super::fault::Fault;
use crate::domain::bucket::{Lock, LockMode};
use crate::domain::immutability::{Attempt, Immutability};
use crate::domain::observed::Observed;
use crate::domain::units::Span;
use crate::store::{Protection, StoreError};

/// Where the objects lie on which deletion is tried.
const PROBES: &str = "lifeboat-immutability";
/// How long such an object is locked: longer than the trial takes, and not much longer.
const PROBE_LOCK: Span = Span::from_secs(60);

/// The service knows no lock, or the bucket has none.
fn knows_no_lock(fault: &Fault) -> bool {
    fault.is(&[
        "NotImplemented",
        "MethodNotAllowed",
        "ObjectLockConfigurationNotFoundError",
        "ObjectLockConfigurationNotFound",
        "InvalidRequest",
    ])
}

impl S3Store {
    pub(super) async fn protected(&self, key: &str) -> Result<Observed<Protection>, StoreError> {
        let (bucket, whole) = (&self.bucket.bucket, self.bucket.whole_key(key));
        let retention = self.ask(|client| client.get_object_retention().bucket(bucket).key(&whole).send()).await?;
        let until = match retention {
            Ok(found) => found.retention.and_then(|retention| retention.retain_until_date),
            Err(fault) if fault.is(&["NoSuchObjectLockConfiguration"]) => None,
            Err(fault) if knows_no_lock(&fault) => return Ok(Observed::Absent),
            Err(fault) if fault.status == Some(403) => {
                return Ok(Observed::Unknown(self.failed("read the lock of", key, fault).to_string()));
            }
            Err(fault) if fault.is_absence() => {
                return Err(StoreError::NotFound { key: key.to_owned(), store: self.bucket.url() });
            }
            Err(fault) => return Err(self.failed("read the lock of", key, fault)),
        };
        let hold = self.ask(|client| client.get_object_legal_hold().bucket(bucket).key(&whole).send()).await?;
        let legal_hold = match hold {
            Ok(found) => found.legal_hold.and_then(|hold| hold.status) == Some(ObjectLockLegalHoldStatus::On),
            Err(fault) if fault.is(&["NoSuchObjectLockConfiguration"]) || knows_no_lock(&fault) => false,
            Err(fault) if fault.status == Some(403) => {
                return Ok(Observed::Unknown(self.failed("read the hold on", key, fault).to_string()));
            }
            Err(fault) => return Err(self.failed("read the hold on", key, fault)),
        };
        // What no calendar holds is locked for ever.
        let until = until.map(|at| Timestamp::from_second(at.secs()).unwrap_or(Timestamp::MAX));
        Ok(Observed::Known(Protection { until, legal_hold }))
    }

    pub(super) async fn hold(&self, key: &str, held: bool) -> Result<bool, StoreError> {
        let status = if held { ObjectLockLegalHoldStatus::On } else { ObjectLockLegalHoldStatus::Off };
        let hold = ObjectLockLegalHold::builder().status(status).build();
        let done = self
            .ask(|client| {
                client
                    .put_object_legal_hold()
                    .bucket(&self.bucket.bucket)
                    .key(self.bucket.whole_key(key))
                    .legal_hold(hold.clone())
                    .send()
            })
            .await?;
        match done {
            Ok(_) => Ok(true),
            Err(fault) if knows_no_lock(&fault) => Ok(false),
            Err(fault) if fault.is_absence() => {
                Err(StoreError::NotFound { key: key.to_owned(), store: self.bucket.url() })
            }
            Err(fault) => Err(self.failed("put a hold on", key, fault)),
        }
    }

    /// Whether the bucket can lock objects.
    async fn locks(&self) -> Result<bool, StoreError> {
        let found =
            self.ask(|client| client.get_object_lock_configuration().bucket(&self.bucket.bucket).send()).await?;
        match found {
            Ok(found) => {
                let enabled =
                    found.object_lock_configuration.and_then(|configuration| configuration.object_lock_enabled);
                Ok(enabled == Some(ObjectLockEnabled::Enabled))
            }
            Err(fault) if knows_no_lock(&fault) => Ok(false),
            Err(fault) => Err(self.failed("read the lock of", "the bucket", fault)),
        }
    }

    /// Writes an object of our own under lock, and tries to destroy it in every way that these credentials have.
    pub(super) async fn try_it(&self, mode: LockMode) -> Result<Immutability, StoreError> {
        let (versioning, locking) = (self.keeps_versions().await?, self.locks().await?);
        let mut tried = Immutability { versioning, locking, attempts: Vec::new() };
        if !versioning || !locking {
            return Ok(tried);
        }
        self.clear_old_probes().await;
        let random = getrandom::u64().map_err(|error| self.broken("write", PROBES, error.to_string()))?;
        let key = format!("{PROBES}/{random:016x}");
        let content = Bytes::from(format!("lifeboat tries to destroy this: {key}\n"));
        let mut probe = self.clone();
        probe.lock = Some(Lock { mode, keep: PROBE_LOCK });
        probe.write(&key, content.clone()).await?;
        let versions = self.versions(&key).await?;
        let Some(version) = versions.first().map(|version| version.id.clone()) else {
            return Err(self.broken("read", &key, "it has no version although the bucket keeps them"));
        };
        tried.attempts = vec![
            self.attempt_delete(&key, &version, false).await?,
            self.attempt_delete(&key, &version, true).await?,
            self.attempt_shorten(&key, &version, mode).await?,
            self.attempt_overwrite(&key, &version, &content).await?,
            self.attempt_hide(&key, &version, &content).await?,
        ];
        for version in self.versions(&key).await.unwrap_or_default() {
            let _ = self.remove_one(&key, Some(&version.id)).await;
        }
        Ok(tried)
    }

    async fn attempt_delete(&self, key: &str, version: &str, bypass: bool) -> Result<Attempt, StoreError> {
        let deleted = self
            .ask(|client| {
                client
                    .delete_object()
                    .bucket(&self.bucket.bucket)
                    .key(self.bucket.whole_key(key))
                    .version_id(version)
                    .set_bypass_governance_retention(bypass.then_some(true))
                    .send()
            })
            .await?;
        let what = if bypass { "delete the version, asking to bypass a governance lock" } else { "delete the version" };
        self.refused(what, "delete", key, deleted)
    }

    async fn attempt_shorten(&self, key: &str, version: &str, mode: LockMode) -> Result<Attempt, StoreError> {
        let mode = match mode {
            LockMode::Governance => ObjectLockRetentionMode::Governance,
            LockMode::Compliance => ObjectLockRetentionMode::Compliance,
        };
        let soon = crate::clock::now().checked_add(SignedDuration::from_secs(2)).unwrap_or(Timestamp::MAX);
        let shorter =
            ObjectLockRetention::builder().mode(mode).retain_until_date(DateTime::from_secs(soon.as_second())).build();
        let shortened = self
            .ask(|client| {
                client
                    .put_object_retention()
                    .bucket(&self.bucket.bucket)
                    .key(self.bucket.whole_key(key))
                    .version_id(version)
                    .retention(shorter.clone())
                    .bypass_governance_retention(true)
                    .send()
            })
            .await?;
        self.refused("shorten its lock, asking to bypass it", "shorten the lock of", key, shortened)
    }

    /// An attempt that must be refused. An answer that is neither yes nor no is an error, and no proof.
    fn refused<T>(
        &self,
        what: &str,
        doing: &'static str,
        key: &str,
        answer: Result<T, Fault>,
    ) -> Result<Attempt, StoreError> {
        let attempt = |withstood, answer| Attempt { what: what.to_owned(), withstood, answer };
        match answer {
            Ok(_) => Ok(attempt(false, "it was done".to_owned())),
            Err(fault) if fault.status.is_some_and(|status| (400..500).contains(&status)) => {
                Ok(attempt(true, format!("refused: {}", fault.words())))
            }
            Err(fault) => Err(self.failed(doing, key, fault)),
        }
    }

    /// A write over it may be taken: then both versions are there.
    async fn attempt_overwrite(&self, key: &str, version: &str, content: &Bytes) -> Result<Attempt, StoreError> {
        let written = self
            .ask(|client| {
                client
                    .put_object()
                    .bucket(&self.bucket.bucket)
                    .key(self.bucket.whole_key(key))
                    .body(ByteStream::from_static(b"written over\n"))
                    .send()
            })
            .await?;
        let said = match &written {
            Ok(_) => "taken as a new version".to_owned(),
            Err(fault) => format!("refused: {}", fault.words()),
        };
        self.still_there("write over it", said, key, version, content).await
    }

    /// A deletion without a version hides it: it must still be there behind that.
    async fn attempt_hide(&self, key: &str, version: &str, content: &Bytes) -> Result<Attempt, StoreError> {
        let hidden = self
            .ask(|client| client.delete_object().bucket(&self.bucket.bucket).key(self.bucket.whole_key(key)).send())
            .await?;
        let said = match &hidden {
            Ok(_) => "hidden by a marker".to_owned(),
            Err(fault) => format!("refused: {}", fault.words()),
        };
        self.still_there("delete it, and bring it back from its version", said, key, version, content).await
    }

    async fn still_there(
        &self,
        what: &str,
        said: String,
        key: &str,
        version: &str,
        content: &Bytes,
    ) -> Result<Attempt, StoreError> {
        let attempt = |withstood, answer| Attempt { what: what.to_owned(), withstood, answer };
        match self.read(key, Some(version)).await {
            Ok(there) if there == *content => Ok(attempt(true, format!("{said}; the first version reads as written"))),
            Ok(_) => Ok(attempt(false, format!("{said}; the first version reads otherwise than it was written"))),
            Err(StoreError::NotFound { .. }) => Ok(attempt(false, format!("{said}; the first version is gone"))),
            Err(error) => Err(error),
        }
    }

    /// Objects of earlier trials whose lock has ended.
    async fn clear_old_probes(&self) {
        for version in self.versions(&format!("{PROBES}/")).await.unwrap_or_default() {
            let _ = self.remove_one(&version.info.key, Some(&version.id)).await;
        }
    }
}
