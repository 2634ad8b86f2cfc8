//! Writing: once, whole, and never over something.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{
    ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, ObjectLockMode, ServerSideEncryption, StorageClass,
};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::S3Store;
use super::fault::Fault;
use super::read::Markers;
use crate::domain::bucket::{LockMode, ServerEncryption};
use crate::store::key::TEMP_PREFIX;
use crate::store::{ObjectInfo, StoreError};

/// The metadata by which a write knows its own object again.
const WRITE_MARK: &str = "lifeboat-write";
/// S3 takes no more pieces in one object.
const PIECES_AT_MOST: u64 = 10_000;

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

/// How a new object is written.
struct Dress {
    /// This write's own word.
    mark: String,
    encryption: Option<ServerSideEncryption>,
    kms_key: Option<String>,
    storage_class: Option<StorageClass>,
    tags: Option<String>,
    lock: Option<(ObjectLockMode, DateTime)>,
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

    /// Pieces as they are declared, or as large as they must be.
    fn piece_for(&self, bytes: u64) -> u64 {
        self.bucket.piece.0.max(bytes.div_ceil(PIECES_AT_MOST)).max(1)
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

    async fn write_in_pieces(
        &self,
        key: &str,
        bytes: &Bytes,
        piece: u64,
        dress: &Dress,
    ) -> Result<Result<(), Fault>, StoreError> {
        let checksum = (self.bucket.checksums || dress.lock.is_some()).then_some(ChecksumAlgorithm::Crc32);
        let begun = self
            .ask(|client| {
                let request = client
                    .create_multipart_upload()
                    .bucket(&self.bucket.bucket)
                    .key(self.bucket.whole_key(key))
                    .set_checksum_algorithm(checksum.clone());
                dressed!(request, dress).send()
            })
            .await?;
        let upload = match begun.map(|begun| begun.upload_id) {
            Ok(Some(upload)) => upload,
            Ok(None) => return Err(self.broken("write", key, "the service began an upload without a name for it")),
            Err(fault) => return Ok(Err(fault)),
        };
        let begun = Begun { store: self, key, upload: &upload, ended: AtomicBool::new(false) };
        let done = self.send_pieces(key, bytes, piece, &upload, checksum).await;
        // What was completed, or may be, is not there to be aborted; the service says so, and nothing is lost by asking.
        if !matches!(done, Ok(Ok(()))) {
            let _ = self.abort(key, &upload).await;
        }
        begun.ended.store(true, Relaxed);
        done
    }

    async fn send_pieces(
        &self,
        key: &str,
        bytes: &Bytes,
        piece: u64,
        upload: &str,
        checksum: Option<ChecksumAlgorithm>,
    ) -> Result<Result<(), Fault>, StoreError> {
        let piece = usize::try_from(piece).unwrap_or(usize::MAX);
        let cuts = (1_i32..).zip((0..bytes.len()).step_by(piece));
        let sent = stream::iter(cuts)
            .map(|(number, from)| {
                let bytes = bytes.slice(from..bytes.len().min(from.saturating_add(piece)));
                let checksum = checksum.clone();
                async move {
                    let sent = self
                        .ask(|client| {
                            client
                                .upload_part()
                                .bucket(&self.bucket.bucket)
                                .key(self.bucket.whole_key(key))
                                .upload_id(upload)
                                .part_number(number)
                                .set_checksum_algorithm(checksum.clone())
                                .body(ByteStream::from(bytes.clone()))
                                .send()
                        })
                        .await
                        .map_err(Err)?
                        .map_err(Ok)?;
                    let done = CompletedPart::builder()
                        .part_number(number)
                        .set_e_tag(sent.e_tag)
                        .set_checksum_crc32(sent.checksum_crc32);
                    Ok::<_, Result<Fault, StoreError>>(done.build())
                }
            })
            .buffered(self.bucket.parallel.max(1))
            .try_collect::<Vec<_>>()
            .await;
        let parts = match sent {
            Ok(parts) => parts,
            Err(Ok(fault)) => return Ok(Err(fault)),
            Err(Err(error)) => return Err(error),
        };
        let whole = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let free = self.bucket.conditional_writes.then(|| "*".to_owned());
        let done = self
            .ask(|client| {
                client
                    .complete_multipart_upload()
                    .bucket(&self.bucket.bucket)
                    .key(self.bucket.whole_key(key))
                    .upload_id(upload)
                    .set_if_none_match(free.clone())
                    .multipart_upload(whole.clone())
                    .send()
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

    /// Ends an upload and throws away what came of it. One that is not there is no error.
    pub(super) async fn abort(&self, key: &str, upload: &str) -> Result<(), StoreError> {
        let aborted = self
            .ask(|client| {
                client
                    .abort_multipart_upload()
                    .bucket(&self.bucket.bucket)
                    .key(self.bucket.whole_key(key))
                    .upload_id(upload)
                    .send()
            })
            .await?;
        match aborted {
            Ok(_) => Ok(()),
            Err(fault) if fault.is(&["NoSuchUpload"]) || fault.is_absence() => Ok(()),
            Err(fault) => Err(self.failed("delete", key, fault)),
        }
    }

    /// Uploads that were begun and not ended.
    pub(super) async fn uploads(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let mut found = Vec::new();
        let mut from = Markers::default();
        loop {
            let page = self
                .ask(|client| {
                    client
                        .list_multipart_uploads()
                        .bucket(&self.bucket.bucket)
                        .prefix(self.bucket.whole_key(prefix))
                        .set_key_marker(from.0.clone())
                        .set_upload_id_marker(from.1.clone())
                        .send()
                })
                .await?
                .map_err(|fault| self.failed("list", prefix, fault))?;
            for upload in page.uploads() {
                let Some(key) = upload.key().and_then(|key| self.bucket.own_key(key)) else { continue };
                let Some(id) = upload.upload_id() else { continue };
                let modified = upload.initiated().and_then(|at| Timestamp::from_second(at.secs()).ok());
                // Some servers take the prefix for a folder.
                if key.starts_with(prefix) {
                    let modified = modified.unwrap_or_else(crate::clock::now);
                    found.push(ObjectInfo { key: name_upload(key, id), bytes: 0, modified });
                }
            }
            let more = page.is_truncated();
            if !self.go_on(prefix, more, &mut from, (page.next_key_marker, page.next_upload_id_marker))? {
                break;
            }
        }
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }
}

/// An upload in pieces that was begun: dropped before its end, it is aborted behind its back.
struct Begun<'a> {
    store: &'a S3Store,
    key: &'a str,
    upload: &'a str,
    ended: AtomicBool,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if self.ended.load(Relaxed) {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (store, key, upload) = (self.store.clone(), self.key.to_owned(), self.upload.to_owned());
            runtime.spawn(async move { store.abort(&key, &upload).await });
        }
    }
}

/// The key under which an upload is listed, and can be deleted.
fn name_upload(key: &str, upload: &str) -> String {
    let (folder, name) = match key.rsplit_once('/') {
        Some((folder, name)) => (format!("{folder}/"), name),
        None => (String::new(), key),
    };
    format!("{folder}{TEMP_PREFIX}{}", hex::encode(format!("{name}\0{upload}")))
}

/// Which upload of which key this name is.
pub(super) fn upload_named(key: &str) -> Option<(String, String)> {
    let (folder, name) = key.rsplit_once('/').map_or(("", key), |(folder, name)| (folder, name));
    let named = hex::decode(name.strip_prefix(TEMP_PREFIX)?).ok()?;
    let named = String::from_utf8(named).ok()?;
    let (object, upload) = named.split_once('\0')?;
    let slash = if folder.is_empty() { "" } else { "/" };
    Some((format!("{folder}{slash}{object}"), upload.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_named_and_known_again() {
        for key in ["orders/one/base/00000.zst.age", "top"] {
            let named = name_upload(key, "2~abc/+=_upload");
            assert!(crate::store::key::check_key_to_delete(&named).is_ok(), "{named}");
            assert!(crate::store::key_fault(&named).is_some(), "no object can have that name");
            assert_eq!(upload_named(&named), Some((key.to_owned(), "2~abc/+=_upload".to_owned())));
        }
        for other in ["orders/one/manifest.json", "orders/.lifeboat-tmp-0123", ".lifeboat-tmp-zz"] {
            assert_eq!(upload_named(other), None, "{other}");
        }
    }
}
