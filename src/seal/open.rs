//! The way back: fetch, verify, decrypt, decompress.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use age::{DecryptError, Decryptor};
use bytes::Bytes;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::domain::artifact::{Part, Stream};
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::ledger::Depth;
use crate::store::{Store, StoreError};

use super::witness::Telling;
use super::{MAX_FINDINGS, MAX_PART_BYTES, Opener, Witness};

/// So many parts more are fetched than are opened: while one is on its way, every thread has one to open.
const AHEAD: usize = 1;

/// What zstd says when there are more bytes than room for them.
const NO_ROOM: &str = "Destination buffer is too small";

/// Verifies a part's object from outside: its length and SHA-256. It may still be impossible to open.
pub fn check_sealed(part: &Part, sealed: &[u8]) -> Result<(), Finding> {
    let found = sealed.len() as u64;
    if found != part.sealed_bytes {
        let finding = part_finding(part, "part_length", "the object does not have its length: it was cut or replaced");
        return Err(finding.with(format!("{} bytes", part.sealed_bytes), format!("{found} bytes")));
    }
    let hash = hex::encode(Sha256::digest(sealed));
    if hash != part.sealed_sha256 {
        let finding = part_finding(part, "part_hash", "the object's SHA-256 is wrong: its bytes were changed");
        return Err(finding.with(part.sealed_sha256.as_str(), hash));
    }
    Ok(())
}

fn part_finding(part: &Part, code: &str, message: impl Into<String>) -> Finding {
    Finding::new(code, format!("part {}", part.key), message)
}

impl Opener {
    /// Verifies and opens one part: the object's length and SHA-256, age, zstd, the plaintext's length and BLAKE3. The
    /// plaintext is given out only when all of that is right. A key that does not fit is a finding `wrong_key`.
    pub fn open_part(&self, part: &Part, sealed: &[u8]) -> Result<Vec<u8>, Stop> {
        check_sealed(part, sealed)?;
        Ok(self.open_verified(part, sealed)?)
    }

    fn open_verified(&self, part: &Part, sealed: &[u8]) -> Result<Vec<u8>, Finding> {
        // Before anything is allocated by what a manifest claims.
        let claimed = usize::try_from(part.plain_bytes.min(MAX_PART_BYTES)).unwrap_or(usize::MAX);
        if part.plain_bytes > MAX_PART_BYTES {
            return Err(part_finding(part, "part_size", "the part claims more than 1 GiB of plaintext"));
        }
        let undecryptable =
            |why: String| part_finding(part, "part_decrypt", format!("the part does not decrypt: {why}"));
        let decryptor = Decryptor::new_buffered(sealed).map_err(|error| undecryptable(error.to_string()))?;
        let mut decrypted = decryptor.decrypt(self.identities()).map_err(|error| match error {
            DecryptError::NoMatchingKeys => self.wrong_key(part),
            error => undecryptable(error.to_string()),
        })?;
        // Whole before it is decompressed: what is not authenticated to its last chunk is not looked into, and one call from
        // buffer to buffer is quicker than many through a window.
        let mut compressed = Vec::with_capacity(sealed.len());
        decrypted.read_to_end(&mut compressed).map_err(|error| undecryptable(error.to_string()))?;
        if compressed.is_empty() {
            return Err(part_finding(part, "part_decompress", "the part does not decompress: there is nothing in it"));
        }
        // One byte of room more than there may be, so that a longer plaintext is seen and a bomb goes no further.
        let (plain, length) = match zstd::bulk::decompress(&compressed, claimed + 1) {
            Ok(plain) => {
                let length = plain.len();
                (plain, length)
            }
            Err(error) if error.to_string().contains(NO_ROOM) => (Vec::new(), claimed + 1),
            Err(error) => {
                let message = format!("the part does not decompress: {error}");
                return Err(part_finding(part, "part_decompress", message));
            }
        };
        drop(compressed);
        if length != claimed {
            let found = if length > claimed { format!("more than {claimed} bytes") } else { format!("{length} bytes") };
            let finding = part_finding(part, "plain_length", "the part's plaintext does not have its length");
            return Err(finding.with(format!("{claimed} bytes"), found));
        }
        let hash = blake3::hash(&plain).to_hex();
        if hash.as_str() != part.plain_blake3 {
            let finding = part_finding(part, "plain_hash", "the BLAKE3 of the part's plaintext is wrong");
            return Err(finding.with(part.plain_blake3.as_str(), hash.as_str()));
        }
        Ok(plain)
    }

    fn wrong_key(&self, part: &Part) -> Finding {
        let message = "no identity that is configured opens this part: it was sealed for other recipients";
        part_finding(part, "wrong_key", message).with("sealed for one of ours", self.recipients().join(", "))
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
    let opener = opener.clone();
    let telling = Telling::new(opener.witness(), &*store, prefix, Depth::Opened);
    let tells = telling.clone();
    let open = move |index: usize, part: &Part, sealed: Bytes| {
        let plain = tells.part(part, opener.open_part(part, &sealed))?;
        drop(sealed);
        Ok(use_part(index, part, plain)?)
    };
    each_object(store, prefix, stream, threads, telling, open).await
}

/// The same without a key: only the objects' lengths and SHA-256 are verified; `seen` hears of each that is right, and a witness, if there is one, of
/// the others too.
pub async fn for_each_sealed<F>(
    store: Arc<dyn Store>,
    prefix: &str,
    stream: &Stream,
    threads: usize,
    witness: Option<&Arc<dyn Witness>>,
    seen: F,
) -> Result<(u64, u64, u64), Stop>
where
    F: Fn(usize, &Part) + Send + Sync + 'static,
{
    let telling = Telling::new(witness, &*store, prefix, Depth::Sealed);
    let tells = telling.clone();
    let check = move |index: usize, part: &Part, sealed: Bytes| {
        tells.part(part, check_sealed(part, &sealed).map_err(Stop::from))?;
        seen(index, part);
        Ok(())
    };
    each_object(store, prefix, stream, threads, telling, check).await
}

/// What the parts and what is wrong with them add up to.
#[derive(Default)]
struct Tally {
    parts: u64,
    plain_bytes: u64,
    sealed_bytes: u64,
    findings: Vec<(usize, Finding)>,
    broke: Option<Broke>,
}

impl Tally {
    /// Takes in what came of a part; gives its value if it was good.
    fn take<T>(&mut self, index: usize, part: &Part, done: Result<T, Stop>) -> Option<T> {
        match done {
            Ok(value) => {
                self.parts += 1;
                self.plain_bytes += part.plain_bytes;
                self.sealed_bytes += part.sealed_bytes;
                return Some(value);
            }
            Err(Stop::Found(found)) => self.findings.extend(found.into_iter().map(|finding| (index, finding))),
            // The first one is the cause; those after it may be its echo.
            Err(Stop::Broke(broke)) => {
                self.broke.get_or_insert(broke);
            }
        }
        None
    }

    fn end(mut self) -> Result<(u64, u64, u64), Stop> {
        if let Some(broke) = self.broke {
            return Err(Stop::Broke(broke));
        }
        if self.findings.is_empty() {
            return Ok((self.parts, self.plain_bytes, self.sealed_bytes));
        }
        self.findings.sort_by_key(|(index, _)| *index);
        let findings: Vec<Finding> = self.findings.into_iter().map(|(_, finding)| finding).take(MAX_FINDINGS).collect();
        Err(Stop::Found(findings))
    }
}

async fn each_object<F>(
    store: Arc<dyn Store>,
    prefix: &str,
    stream: &Stream,
    threads: usize,
    telling: Telling,
    work: F,
) -> Result<(u64, u64, u64), Stop>
where
    F: Fn(usize, &Part, Bytes) -> Result<(), Stop> + Send + Sync + 'static,
{
    let parts: Arc<[Part]> = stream.parts.clone().into();
    let (work, stop) = (Arc::new(work), Arc::new(AtomicBool::new(false)));
    let turns = Arc::new(Semaphore::new(threads.max(1)));
    let one = |index: usize| {
        let (store, parts, work, stop) = (store.clone(), parts.clone(), work.clone(), stop.clone());
        let (telling, turns) = (telling.clone(), turns.clone());
        async move {
            if stop.load(Ordering::Relaxed) {
                return (index, None);
            }
            let done = match telling.unless_there(&parts[index], fetch(&*store, prefix, &parts[index]).await) {
                Ok(sealed) => {
                    let _turn = turns.acquire().await;
                    on_thread(move || work(index, &parts[index], sealed)).await
                }
                Err(stopped) => Err(stopped),
            };
            (index, Some(done))
        }
    };
    let mut tally = Tally::default();
    let mut running = futures_util::stream::iter(0..parts.len()).map(one).buffer_unordered(threads.max(1) + AHEAD);
    // After a `Broke` nothing new is begun, but what runs is waited for: nobody writes behind the caller's back.
    while let Some((index, done)) = running.next().await {
        if let Some(done) = done {
            tally.take(index, &parts[index], done);
        }
        stop.store(tally.broke.is_some(), Ordering::Relaxed);
    }
    tally.end()
}

/// The same, but `use_bytes` gets the plaintext in order (parts are still opened in parallel, ahead, bounded). After the
/// first finding it gets no more; it is dropped before this returns.
pub async fn read_stream<F>(
    store: Arc<dyn Store>,
    prefix: &str,
    stream: &Stream,
    opener: &Opener,
    threads: usize,
    mut use_bytes: F,
) -> Result<(u64, u64, u64), Stop>
where
    F: FnMut(Vec<u8>) -> Result<(), Broke> + Send + 'static,
{
    let parts: Arc<[Part]> = stream.parts.clone().into();
    let stop = Arc::new(AtomicBool::new(false));
    let telling = Telling::new(opener.witness(), &*store, prefix, Depth::Opened);
    let turns = Arc::new(Semaphore::new(threads.max(1)));
    let one = |index: usize| {
        let (store, parts, stop, opener) = (store.clone(), parts.clone(), stop.clone(), opener.clone());
        let (telling, turns) = (telling.clone(), turns.clone());
        async move {
            if stop.load(Ordering::Relaxed) {
                return (index, None);
            }
            let done = match telling.unless_there(&parts[index], fetch(&*store, prefix, &parts[index]).await) {
                Ok(sealed) => {
                    let _turn = turns.acquire().await;
                    on_thread(move || telling.part(&parts[index], opener.open_part(&parts[index], &sealed))).await
                }
                Err(stopped) => Err(stopped),
            };
            (index, Some(done))
        }
    };
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Vec<u8>>(1);
    let user = tokio::task::spawn_blocking(move || {
        while let Some(bytes) = receiver.blocking_recv() {
            use_bytes(bytes)?;
        }
        Ok::<(), Broke>(())
    });
    let mut tally = Tally::default();
    let mut running = futures_util::stream::iter(0..parts.len()).map(one).buffered(threads.max(1) + AHEAD);
    while let Some((index, done)) = running.next().await {
        let plain = done.and_then(|done| tally.take(index, &parts[index], done));
        // Bytes after a gap are not the stream's.
        if let Some(plain) = plain.filter(|_| tally.findings.is_empty() && tally.broke.is_none()) {
            // A closed channel: the user broke, and is asked why below.
            if sender.send(plain).await.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
        }
        if tally.broke.is_some() {
            stop.store(true, Ordering::Relaxed);
        }
    }
    drop(sender);
    match user.await {
        Ok(Ok(())) => {}
        Ok(Err(broke)) => {
            tally.broke.get_or_insert(broke);
        }
        Err(error) => {
            tally.broke.get_or_insert(Broke::new(format!("the thread that takes the bytes died: {error}")));
        }
    }
    tally.end()
}

/// Reads one part back from its first byte to its last, and forgets it; without an opener only its outside is looked at.
pub async fn read_part(store: &dyn Store, prefix: &str, part: &Part, opener: Option<&Opener>) -> Result<(), Stop> {
    let sealed = fetch(store, prefix, part).await?;
    let (part, opener) = (part.clone(), opener.cloned());
    on_thread(move || match opener {
        Some(opener) => opener.open_part(&part, &sealed).map(drop),
        None => Ok(check_sealed(&part, &sealed)?),
    })
    .await
}

/// A part's object. One that is certainly not there is a finding; any other trouble with the store is not.
pub(super) async fn fetch(store: &dyn Store, prefix: &str, part: &Part) -> Result<Bytes, Stop> {
    match store.get(&format!("{prefix}/{}", part.key)).await {
        Ok(sealed) => Ok(sealed),
        Err(StoreError::NotFound { .. }) => {
            let message = format!("the manifest names this part, and {} does not have it", store.url());
            Err(part_finding(part, "part_missing", message).into())
        }
        Err(StoreError::BadKey(why)) => Err(part_finding(part, "part_key", why).into()),
        Err(error) => Err(Broke::from(error).into()),
    }
}

pub(super) async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Stop> + Send + 'static,
) -> Result<T, Stop> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Broke::new(format!("a thread that opens parts died: {error}")).into()),
    }
}
