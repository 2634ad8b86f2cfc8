//! Writing: once, whole, and never over something.

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{ChecksumAlgorithm, ObjectLockMode, ServerSideEncryption, StorageClass};
use bytes::Bytes;

use super::S3Store;
use super::fault::Fault;
use crate::domain::bucket::{LockMode, ServerEncryption};
use crate::store::StoreError;

/// The metadata by which a write knows its own object again.
pub(super) const WRITE_MARK: &str = "lifeboat-write";

/// What every new object is told, in single writes and in those by pieces; the same builder methods under two types.
macro_rules! dressed {
    ($request:expr, $dress:expr) => {{
        let dress = $dress;
        $request
            .metadata(WRITE_MARK, &dress.mark)
            .set_server_side_encryption(dress.encryption.clone())
            .set_ssekms_key_id(dress.kms_key.clone())
            .set_storage_class(dress.storage_class.clone())
            .set_tagging(dress.tags.clone())
            .set_object_lock_mode(dress.lock.as_ref().map(|(mode, _)| mode.clone()))
            .set_object_lock_retain_until_date(dress.lock.as_ref().map(|(_, until)| *until))
    }};
}

pub(super) use dressed;

/// How a new object is written.
pub(super) struct Dress {
    /// This write's own word.
    pub(super) mark: String,
    pub(super) encryption: Option<ServerSideEncryption>,
    pub(super) kms_key: Option<String>,
    pub(super) storage_class: Option<StorageClass>,
    pub(super) tags: Option<String>,
    pub(super) lock: Option<(ObjectLockMode, DateTime)>,
}

impl S3Store {
    pub(super) async fn write(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        if !self.bucket.conditional_writes && self.mark_of(key).await?.is_some() {
            return Err(self.already_there(key));
        }
        let dress = self.dress(key)?;
        let piece = self.piece_for(bytes.len() as u64);
        let written = if bytes.len() as u64 > piece.saturating_mul(2) {
            self.write_in_pieces(key, &bytes, piece, &dress).await?
        } else {
            self.write_at_once(key, &bytes, &dress).await?
        };
        if let Err(fault) = written {
            let taken = fault.is_taken();
            // The answer to a write may be lost, and the next attempt then finds the key taken: by itself.
            let ours = (taken || fault.is_open() || fault.is(&["NoSuchUpload"]))
                && matches!(self.mark_of(key).await, Ok(Some(mark)) if mark == dress.mark);
            match (ours, taken) {
                (true, _) => {}
                (false, true) => return Err(self.already_there(key)),
                (false, false) => return Err(self.failed("write", key, fault)),
            }
        }
        if self.bucket.read_back {
            let there = self.read(key, None).await?;
            if there != bytes {
                return Err(self.broken("write", key, "what was read back is not what was written"));
            }
        }
        Ok(())
    }

    fn already_there(&self, key: &str) -> StoreError {
        StoreError::AlreadyThere { key: key.to_owned(), store: self.bucket.url() }
    }

    fn dress(&self, key: &str) -> Result<Dress, StoreError> {
        let random = getrandom::u64().map_err(|error| self.broken("write", key, error.to_string()))?;
        let (encryption, kms_key) = match &self.bucket.encryption {
            ServerEncryption::Bucket => (None, None),
            ServerEncryption::S3 => (Some(ServerSideEncryption::Aes256), None),
            ServerEncryption::Kms(key) => (Some(ServerSideEncryption::AwsKms), key.clone()),
        };
        let lock = match &self.lock {
            None => None,
            Some(lock) => {
                let until = crate::clock::now().checked_add(lock.keep.0);
                let until = until.map_err(|error| self.broken("write", key, format!("its lock: {error}")))?;
                let mode = match lock.mode {
                    LockMode::Governance => ObjectLockMode::Governance,
                    LockMode::Compliance => ObjectLockMode::Compliance,
                };
                // Up to the next second: a lock is never shorter than was promised.
                Some((mode, DateTime::from_secs(until.as_second().saturating_add(1))))
            }
        };
        let mut tags = ::url::form_urlencoded::Serializer::new(String::new());
        tags.extend_pairs(&self.bucket.tags);
        Ok(Dress {
            mark: format!("{random:016x}"),
            encryption,
            kms_key,
            storage_class: self.bucket.storage_class.as_deref().map(StorageClass::from),
            tags: (!self.bucket.tags.is_empty()).then(|| tags.finish()),
            lock,
        })
    }

    async fn write_at_once(&self, key: &str, bytes: &Bytes, dress: &Dress) -> Result<Result<(), Fault>, StoreError> {
        let free = self.bucket.conditional_writes.then(|| "*".to_owned());
        // A locked object is taken only with a checksum.
        let checksum = dress.lock.is_some().then_some(ChecksumAlgorithm::Crc32);
        let done = self
            .ask(|client| {
                let request = client
                    .put_object()
                    .bucket(&self.bucket.bucket)
                    .key(self.bucket.whole_key(key))
                    .set_if_none_match(free.clone())
                    .set_checksum_algorithm(checksum.clone())
                    .body(ByteStream::from(bytes.clone()));
                dressed!(request, dress).send()
            })
            .await?;
        Ok(done.map(|_| ()))
    }

    /// The word of the write that an object came by; none: there is no such object. Empty: it has none.
    async fn mark_of(&self, key: &str) -> Result<Option<String>, StoreError> {
        let head = self
            .ask(|client| client.head_object().bucket(&self.bucket.bucket).key(self.bucket.whole_key(key)).send())
            .await?;
        match head {
            Ok(head) => {
                let mark = head.metadata.and_then(|mut metadata| metadata.remove(WRITE_MARK));
                Ok(Some(mark.unwrap_or_default()))
            }
            Err(fault) if fault.is_absence() => Ok(None),
            Err(fault) => Err(self.failed("read", key, fault)),
        }
    }
}
