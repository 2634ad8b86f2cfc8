//! The way in: cut, compress, encrypt, hash, store.

use std::sync::Arc;

use crate::domain::artifact::{MemberKind, Stream, StreamKind};
use crate::store::Store;

use super::SealError;

/// How parts are made.
#[derive(Clone, Debug)]
pub struct SealOptions {
    /// age recipients.
    pub recipients: Vec<String>,
    /// zstd's level.
    pub level: i32,
    /// Plaintext of one part.
    pub part_bytes: usize,
    /// Parts that are sealed at once.
    pub threads: usize,
}

/// Seals the streams of one backup into `<prefix>/…` of a store.
pub struct Sealer {}

/// A tar member whose data comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Relative path without `.` and `..`.
    pub path: String,
    /// What it is.
    pub kind: MemberKind,
    /// Permission bits.
    pub mode: u32,
    /// Its whole size.
    pub size: u64,
}

impl Sealer {
    /// `prefix` is `<policy>/<backup-id>`. Must be called on a tokio runtime; fails on a bad recipient.
    pub fn new(store: Arc<dyn Store>, prefix: String, options: SealOptions) -> Result<Sealer, SealError> {
        let _ = (store, prefix, options);
        todo!()
    }

    /// Begins a stream. The globals stream (`name` = `globals`) is the one object `globals.sql.zst.age`; all others are
    /// `<name>/00000.zst.age` and so on.
    pub fn stream(&self, name: &str, kind: StreamKind) -> StreamWriter {
        let _ = (name, kind);
        todo!()
    }
}

/// Takes the bytes of one stream. **Blocking**: use it on a blocking thread. Dropping it abandons the stream.
pub struct StreamWriter {}

impl StreamWriter {
    /// Takes bytes; waits while all parts in flight are busy.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SealError> {
        let _ = bytes;
        todo!()
    }

    /// Says that the next `member.size` bytes that are written are the data of this tar member (the header has been
    /// written already; padding is not part of the data). A member of size 0 is recorded all the same.
    pub fn member(&mut self, member: Member) -> Result<(), SealError> {
        let _ = member;
        todo!()
    }

    /// The producer ended well: closes the last part and waits until every part is durable. A stream of no bytes has no
    /// parts.
    pub fn finish(self) -> Result<Stream, SealError> {
        todo!()
    }
}
