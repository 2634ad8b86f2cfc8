//! The way back: fetch, verify, decrypt, decompress.

use std::path::PathBuf;
use std::sync::Arc;

use crate::domain::artifact::{Part, Stream};
use crate::domain::check::{Broke, Stop};
use crate::store::Store;

use super::SealError;

/// Opens parts with age identities.
#[derive(Clone)]
pub struct Opener {}

impl Opener {
    /// Reads identity files; ones that others can read are refused.
    pub fn read(paths: &[PathBuf]) -> Result<Opener, SealError> {
        let _ = paths;
        todo!()
    }

    /// Verifies and opens one part: the object's length and SHA-256, age, zstd, the plaintext's length and BLAKE3. The
    /// plaintext is given out only when all of that is right. A key that does not fit is a finding `wrong_key`.
    pub fn open_part(&self, part: &Part, sealed: &[u8]) -> Result<Vec<u8>, Stop> {
        let _ = (part, sealed);
        todo!()
    }
}

/// Fetches and opens the parts of a stream in parallel, in any order, `threads` at once, and gives each to `use_part`
/// (on blocking threads) with its index. Every part is tried even after one had findings, so that all are named (the
/// first 100); a `Broke` stops at once. Returns (parts, plaintext bytes, sealed bytes).
pub async fn for_each_part<F>(
    store: Arc<dyn Store>,
    prefix: &str,
    stream: &Stream,
    opener: &Opener,
    threads: usize,
    use_part: F,
) -> Result<(u64, u64, u64), Stop>
where
    F: Fn(usize, &Part, Vec<u8>) -> Result<(), Broke> + Send + Sync + 'static,
{
    let _ = (store, prefix, stream, opener, threads, use_part);
    todo!()
}

/// The same, but `use_bytes` gets the plaintext in order (parts are still opened in parallel, ahead, bounded).
pub async fn read_stream<F>(
    store: Arc<dyn Store>,
    prefix: &str,
    stream: &Stream,
    opener: &Opener,
    threads: usize,
    use_bytes: F,
) -> Result<(u64, u64, u64), Stop>
where
    F: FnMut(Vec<u8>) -> Result<(), Broke> + Send + 'static,
{
    let _ = (store, prefix, stream, opener, threads, use_bytes);
    todo!()
}
