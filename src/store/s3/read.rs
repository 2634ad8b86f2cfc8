//! Reading: all of an object, also over broken connections; and lists.

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use bytes::{Bytes, BytesMut};
use jiff::Timestamp;

use super::S3Store;
use super::client::LONGEST_PAUSE;
use crate::store::key::check_key;
use crate::store::{ObjectInfo, StoreError};

/// Memory that is set aside on the word of a header alone.
const ROOM_AT_FIRST: u64 = 64 << 20;

/// Where the next page of a list begins: a key or a token, and what tells things of one key apart.
pub(super) type Markers = (Option<String>, Option<String>);

/// What came of an object so far.
#[derive(Default)]
struct Got {
    bytes: BytesMut,
    /// How long it is.
    length: Option<u64>,
    /// Which content it is of: what comes later must be of the same.
    etag: Option<String>,
}

impl S3Store {
    /// Reads an object, or one version of it. A body that breaks off is asked for again from where it broke.
    pub(super) async fn read(&self, key: &str, version: Option<&str>) -> Result<Bytes, StoreError> {
        let mut got = Got::default();
        let mut pause = self.bucket.patience.backoff.to_std();
        let mut left = self.bucket.patience.attempts.max(1);
        loop {
            let before = got.bytes.len();
            let output = self.begin(key, version, &got).await?;
            let why = match self.take(output, &mut got).await {
                Ok(()) => return Ok(got.bytes.freeze()),
                Err(why) => why,
            };
            if got.length.is_some_and(|length| got.bytes.len() as u64 >= length) {
                // All of it came, and it is not what the service's own checksum says.
                got = Got::default();
            }
            // As long as something comes, it goes on.
            if got.bytes.len() <= before {
                left -= 1;
            }
            if left == 0 {
                return Err(self.broken("read", key, why));
            }
            tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
            pause = pause.saturating_mul(2);
        }
    }

    /// The answer to a request for what is missing.
    async fn begin(&self, key: &str, version: Option<&str>, got: &Got) -> Result<GetObjectOutput, StoreError> {
        let range = (!got.bytes.is_empty()).then(|| format!("bytes={}-", got.bytes.len()));
        let output = self
            .ask(|client| {
                client
                    .get_object()
                    .bucket(&self.bucket.bucket)
                    .key(self.bucket.whole_key(key))
                    .set_version_id(version.map(str::to_owned))
                    .set_range(range.clone())
                    .set_if_match(got.etag.clone())
                    .send()
            })
            .await?;
        output.map_err(|fault| {
            if fault.is_absence() {
                StoreError::NotFound { key: key.to_owned(), store: self.bucket.url() }
            } else {
                self.failed("read", key, fault)
            }
        })
    }

    /// Takes in a body; an error says why it ended too early.
    async fn take(&self, mut output: GetObjectOutput, got: &mut Got) -> Result<(), String> {
        let said = output.content_length().and_then(|length| u64::try_from(length).ok());
        let begun = got.bytes.len() as u64;
        if begun > 0 {
            // A server that knows no ranges gives everything again.
            let from = output.content_range().and_then(|range| range.strip_prefix("bytes ")?.split('-').next());
            if from.and_then(|from| from.parse::<u64>().ok()) != Some(begun) {
                got.bytes.clear();
                got.length = said;
            }
        } else {
            got.length = said;
            got.bytes.reserve(usize::try_from(said.unwrap_or(0).min(ROOM_AT_FIRST)).unwrap_or(0));
        }
        got.etag = output.e_tag().map(str::to_owned);
        let patience = self.bucket.patience.read.to_std();
        loop {
            match tokio::time::timeout(patience, output.body.next()).await {
                Ok(Some(Ok(bytes))) => got.bytes.extend_from_slice(&bytes),
                Ok(Some(Err(error))) => {
                    return Err(format!("the answer broke off: {}", crate::store::with_causes(&error)));
                }
                Ok(None) => break,
                Err(_) => return Err(format!("nothing came for {}", self.bucket.patience.read)),
            }
        }
        match got.length {
            Some(length) if length != got.bytes.len() as u64 => {
                Err(format!("{} of {length} bytes came", got.bytes.len()))
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn list_now(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let mut objects = Vec::new();
        let mut from = Markers::default();
        loop {
            let page = self
                .ask(|client| {
                    client
                        .list_objects_v2()
                        .bucket(&self.bucket.bucket)
                        .prefix(self.bucket.whole_key(prefix))
                        .set_continuation_token(from.0.clone())
                        .send()
                })
                .await?
                .map_err(|fault| self.failed("list", prefix, fault))?;
            for object in page.contents() {
                let Some(key) = object.key().and_then(|key| self.bucket.own_key(key)) else { continue };
                // What is no key of ours was not written by lifeboat.
                if check_key(key).is_err() || !key.starts_with(prefix) {
                    continue;
                }
                let (bytes, modified) =
                    (object.size(), object.last_modified().map(|at| (at.secs(), at.subsec_nanos())));
                objects.push(self.info(key, bytes, modified)?);
            }
            let more = page.is_truncated();
            if !self.go_on(prefix, more, &mut from, (page.next_continuation_token, None))? {
                break;
            }
        }
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    /// Whether a list has another page, and where that begins. A service that sends us round in circles is no good answer.
    pub(super) fn go_on(
        &self,
        prefix: &str,
        more: Option<bool>,
        from: &mut Markers,
        next: Markers,
    ) -> Result<bool, StoreError> {
        if more != Some(true) {
            return Ok(false);
        }
        if next.0.is_none() || next == *from {
            return Err(self.broken("list", prefix, "the service says that there is more, and not where"));
        }
        *from = next;
        Ok(true)
    }

    /// An object in a list; one without a length or a date is no good answer.
    pub(super) fn info(
        &self,
        key: &str,
        bytes: Option<i64>,
        modified: Option<(i64, u32)>,
    ) -> Result<ObjectInfo, StoreError> {
        let bytes = bytes.and_then(|bytes| u64::try_from(bytes).ok());
        let nanos = |nanos: u32| i32::try_from(nanos).unwrap_or(0);
        let modified = modified.and_then(|(second, rest)| Timestamp::new(second, nanos(rest)).ok());
        match (bytes, modified) {
            (Some(bytes), Some(modified)) => Ok(ObjectInfo { key: key.to_owned(), bytes, modified }),
            _ => Err(self.broken("list", key, "the service gave no length or no date of it")),
        }
    }
}
