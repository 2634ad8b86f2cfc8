//! Writing in pieces: what was begun is completed or aborted, also where an answer was lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::S3Store;
use super::client::LONGEST_PAUSE;
use super::fault::Fault;
use super::read::Markers;
use super::write::{Dress, WRITE_MARK, dressed};
use crate::store::key::TEMP_PREFIX;
use crate::store::{ObjectInfo, StoreError};

/// S3 takes no more pieces in one object.
const PIECES_AT_MOST: u64 = 10_000;

/// So long is tried at the end of a piece of work to leave nothing behind.
const SETTLING: Duration = Duration::from_secs(10);

/// Uploads that were begun and may still be there, by key.
pub(super) type Owed = Arc<Mutex<BTreeMap<String, BTreeSet<Option<String>>>>>;

/// How often a request was sent.
#[derive(Clone, Debug, Default)]
struct Attempts(Arc<AtomicU32>);

impl Intercept for Attempts {
    fn name(&self) -> &'static str {
        "attempts"
    }

    fn read_before_attempt(
        &self,
        _request: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.fetch_add(1, Relaxed);
        Ok(())
    }
}

impl S3Store {
    /// Pieces as they are declared, or as large as they must be.
    pub(super) fn piece_for(&self, bytes: u64) -> u64 {
        self.bucket.piece.0.max(bytes.div_ceil(PIECES_AT_MOST)).max(1)
    }

    pub(super) async fn write_in_pieces(
        &self,
        key: &str,
        bytes: &Bytes,
        piece: u64,
        dress: &Dress,
    ) -> Result<Result<(), Fault>, StoreError> {
        let checksum = (self.bucket.checksums || dress.lock.is_some()).then_some(ChecksumAlgorithm::Crc32);
        let attempts = Attempts::default();
        let begun = self
            .ask(|client| {
                let request = client
                    .create_multipart_upload()
                    .bucket(&self.bucket.bucket)
                    .key(self.bucket.whole_key(key))
                    .set_checksum_algorithm(checksum.clone());
                dressed!(request, dress).customize().interceptor(attempts.clone()).send()
            })
            .await;
        // An answer that was lost may have named an upload that nobody knows now.
        if attempts.0.load(Relaxed) > 1 || matches!(&begun, Ok(Err(fault)) if fault.is_open()) {
            self.owe(key, None);
        }
        let upload = match begun?.map(|begun| begun.upload_id) {
            Ok(Some(upload)) => upload,
            Ok(None) => return Err(self.broken("write", key, "the service began an upload without a name for it")),
            Err(fault) => {
                self.settle_key(key).await;
                return Ok(Err(fault));
            }
        };
        let begun = Begun { store: self, key, upload: &upload, ended: AtomicBool::new(false) };
        let done = self.send_pieces(key, bytes, piece, &upload, checksum).await;
        // What was completed, or may be, is not there to be aborted; the service says so, and nothing is lost by asking.
        if !matches!(done, Ok(Ok(()))) {
            self.owe(key, Some(&upload));
        }
        begun.ended.store(true, Relaxed);
        self.settle_key(key).await;
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

    /// Remembers that an upload of this key may be left behind; `None`: one whose name was never heard.
    fn owe(&self, key: &str, upload: Option<&str>) {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        owed.entry(key.to_owned()).or_default().insert(upload.map(str::to_owned));
    }

    /// Aborts what may be left of uploads of this key, which nobody in this process is writing. What cannot be aborted stays owed.
    async fn settle_key(&self, key: &str) -> bool {
        let owed = |change: &dyn Fn(&mut BTreeSet<Option<String>>)| {
            let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
            let mut left = owed.remove(key).unwrap_or_default();
            change(&mut left);
            if !left.is_empty() {
                owed.insert(key.to_owned(), left.clone());
            }
            left
        };
        for upload in owed(&|_| {}) {
            let settled = match &upload {
                Some(upload) => self.abort(key, upload).await,
                None => self.abort_all(key).await,
            };
            match settled {
                Ok(()) => {
                    owed(&|left| {
                        left.remove(&upload);
                    });
                }
                Err(error) => tracing::debug!(key, %error, "an upload that was begun could not be aborted yet"),
            }
        }
        owed(&|_| {}).is_empty()
    }

    /// Aborts what may be left of this store's own uploads, with some patience, but not for long: whoever looks after half-written objects later
    /// finds them too.
    pub(super) async fn settle_all(&self) -> Result<(), StoreError> {
        let keys =
            || -> Vec<String> { self.owed.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect() };
        let all = async {
            let mut pause = self.bucket.patience.backoff.to_std();
            loop {
                let mut settled = true;
                for key in keys() {
                    settled &= self.settle_key(&key).await;
                }
                if settled {
                    return;
                }
                tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
                pause = pause.saturating_mul(2);
            }
        };
        if tokio::time::timeout(SETTLING, all).await.is_ok() {
            return Ok(());
        }
        let why = format!(
            "uploads of {} objects that were begun could not be aborted: `lifeboat prune` does it",
            keys().len()
        );
        Err(self.broken("delete", "what was half written", why))
    }

    async fn abort_all(&self, key: &str) -> Result<(), StoreError> {
        for upload in self.uploads(key).await? {
            if let Some((of, upload)) = upload_named(&upload.key).filter(|(of, _)| of == key) {
                self.abort(&of, &upload).await?;
            }
        }
        Ok(())
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
        self.store.owe(self.key, Some(self.upload));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (store, key) = (self.store.clone(), self.key.to_owned());
            runtime.spawn(async move { store.settle_key(&key).await });
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
