//! The sealing threads: what turns a part's plaintext into an object in the store, several at once.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use age::x25519::Recipient;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use crate::domain::artifact::{Part, Slice};
use crate::domain::check::Broke;
use crate::store::Store;

use super::SealError;

/// What all streams of a sealer share.
pub(super) struct Yard {
    pub(super) store: Arc<dyn Store>,
    pub(super) prefix: String,
    pub(super) recipients: Vec<Recipient>,
    pub(super) level: i32,
    pub(super) runtime: Handle,
    /// How many more parts may be sealed now.
    pub(super) free: Mutex<usize>,
    pub(super) freed: Condvar,
    /// Tools that are not in use: making them anew for each part would cost a tenth of the time, in page faults.
    pub(super) tools: Mutex<Vec<Tools>>,
}

/// What one part needs while it is sealed.
pub(super) struct Tools {
    pub(super) compressor: Compressor<'static>,
    pub(super) compressed: Vec<u8>,
    /// The last part's plaintext, emptied: the next part is filled into it.
    pub(super) plain: Vec<u8>,
    /// Where a part is put together, some bytes of which are got only now. Never shortened: its bytes are overwritten.
    pub(super) joined: Vec<u8>,
}

impl Tools {
    pub(super) fn new(level: i32) -> io::Result<Tools> {
        let mut compressor = Compressor::new(level)?;
        compressor.set_parameter(CParameter::ContentSizeFlag(true))?;
        compressor.set_parameter(CParameter::ChecksumFlag(true))?;
        Ok(Tools { compressor, compressed: Vec::new(), plain: Vec::new(), joined: Vec::new() })
    }

    /// zstd, then age: one whole frame in one whole age file.
    pub(super) fn seal(&mut self, plain: &[u8], recipients: &[Recipient]) -> io::Result<Vec<u8>> {
        self.compressed.clear();
        self.compressed.reserve(zstd::zstd_safe::compress_bound(plain.len()));
        self.compressor.compress_to_buffer(plain, &mut self.compressed)?;
        let count = recipients.len();
        let recipients = recipients.iter().map(|recipient| recipient as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
        // 16 bytes of tag a chunk of 64 KiB, and a header of some 130 bytes a recipient.
        let length = self.compressed.len();
        let mut sealed = Vec::with_capacity(length + length / 4096 + 1024 + 256 * count);
        let mut writer = encryptor.wrap_output(&mut sealed)?;
        writer.write_all(&self.compressed)?;
        writer.finish()?;
        Ok(sealed)
    }
}

/// Bytes that are got only when their part is sealed, by the thread that seals it: nobody else reads or copies them.
pub trait Fill: Send + Sync {
    /// Fills `into` with the bytes from `offset` on. Every piece is asked for once, in any order, from any thread.
    fn fill(&self, offset: u64, into: &mut [u8]) -> Result<(), Broke>;
}

/// A piece of a part that is got when the part is sealed.
pub(super) struct Later {
    /// Where in the part.
    pub(super) at: usize,
    pub(super) bytes: usize,
    /// Where in what `fill` gives.
    pub(super) offset: u64,
    pub(super) fill: Arc<dyn Fill>,
}

/// A part's plaintext: bytes that are known, in order, and between them pieces that are not.
pub(super) struct Plain {
    pub(super) known: Vec<u8>,
    pub(super) later: Vec<Later>,
}

impl Plain {
    /// Puts the part together in `joined`; gives its bytes.
    fn join<'j>(&'j self, joined: &'j mut Vec<u8>) -> Result<&'j [u8], Broke> {
        if self.later.is_empty() {
            return Ok(&self.known);
        }
        let length = self.known.len() + self.later.iter().map(|later| later.bytes).sum::<usize>();
        if joined.len() < length {
            joined.resize(length, 0);
        }
        let (mut rest, mut at) = (self.known.as_slice(), 0);
        for later in &self.later {
            let (now, after) = rest.split_at(later.at - at);
            joined[at..later.at].copy_from_slice(now);
            rest = after;
            at = later.at + later.bytes;
            later.fill.fill(later.offset, &mut joined[later.at..at])?;
        }
        joined[at..length].copy_from_slice(rest);
        Ok(&joined[..length])
    }
}

impl Yard {
    /// Waits until a part may be sealed.
    pub(super) fn take_slot(self: &Arc<Yard>) -> Slot {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Slot { yard: Arc::clone(self) }
    }

    /// Tools that nobody uses, or new ones.
    pub(super) fn take_tools(&self) -> io::Result<Tools> {
        if let Some(tools) = self.tools.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(tools);
        }
        Tools::new(self.level)
    }

    /// Hashes, seals and stores one part; nothing is stored when its stream was given up meanwhile.
    fn make_part(
        &self,
        key: String,
        plain: &Plain,
        members: Vec<Slice>,
        tools: &mut Tools,
        shared: &Shared,
    ) -> Result<Option<Part>, SealError> {
        let mut joined = std::mem::take(&mut tools.joined);
        let plain = plain.join(&mut joined).map_err(SealError::Source)?;
        let (plain_bytes, plain_blake3) = (plain.len() as u64, blake3::hash(plain).to_hex().to_string());
        let sealed =
            tools.seal(plain, &self.recipients).map_err(|source| SealError::Seal { key: key.clone(), source })?;
        tools.joined = joined;
        let (sealed_bytes, sealed_sha256) = (sealed.len() as u64, hex::encode(Sha256::digest(&sealed)));
        if shared.lock().stops() {
            return Ok(None);
        }
        let object = format!("{}/{key}", self.prefix);
        self.runtime.block_on(self.store.put_new(&object, Bytes::from(sealed)))?;
        Ok(Some(Part { key, plain_bytes, plain_blake3, sealed_bytes, sealed_sha256, members }))
    }
}

/// The right to seal one part; given back when dropped, even by a thread that panics.
pub(super) struct Slot {
    pub(super) yard: Arc<Yard>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        *self.yard.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.yard.freed.notify_all();
    }
}

/// A part on its way; counted down when dropped, even by a thread that panics.
pub(super) struct Flight {
    pub(super) shared: Arc<Shared>,
}

impl Flight {
    pub(super) fn begin(shared: &Arc<Shared>) -> Flight {
        shared.lock().in_flight += 1;
        Flight { shared: Arc::clone(shared) }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.shared.lock().in_flight -= 1;
        self.shared.changed.notify_all();
    }
}

/// A part that waits to be sealed. The fields are dropped in this order: the slot is free before the flight has landed.
pub(super) struct Job {
    pub(super) index: usize,
    pub(super) key: String,
    pub(super) plain: Plain,
    pub(super) members: Vec<Slice>,
    pub(super) tools: Tools,
    pub(super) slot: Slot,
    pub(super) flight: Flight,
}

impl Job {
    pub(super) fn run(self) {
        let Job { index, key, plain, members, mut tools, slot, flight } = self;
        let yard = Arc::clone(&slot.yard);
        if !flight.shared.lock().stops() {
            let done = yard.make_part(key, &plain, members, &mut tools, &flight.shared);
            let mut state = flight.shared.lock();
            match done {
                Ok(Some(part)) => {
                    state.done.insert(index, part);
                }
                Ok(None) => {}
                Err(error) => {
                    state.failed = true;
                    state.error.get_or_insert(error);
                }
            }
        }
        // What the pieces were read from is closed before anybody else is let in.
        let Plain { known, later } = plain;
        drop(later);
        tools.plain = known;
        tools.plain.clear();
        yard.tools.lock().unwrap_or_else(PoisonError::into_inner).push(tools);
        drop(slot);
        drop(flight);
    }
}

/// What a stream's writer and its sealing threads share.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) done: BTreeMap<usize, Part>,
    pub(super) in_flight: usize,
    /// The first cause; it is given out once.
    pub(super) error: Option<SealError>,
    pub(super) failed: bool,
    pub(super) abandoned: bool,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state once nothing is on its way.
    pub(super) fn landed(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        while state.in_flight > 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    pub(super) fn check(&self) -> Result<(), SealError> {
        self.lock().check()
    }
}

impl State {
    /// The first failure, with its real cause the first time it is asked for.
    pub(super) fn check(&mut self) -> Result<(), SealError> {
        if self.failed { Err(self.error.take().unwrap_or(SealError::Stopped)) } else { Ok(()) }
    }

    /// Whether nothing more needs to be sealed: nobody wants this stream any more.
    fn stops(&self) -> bool {
        self.failed || self.abandoned
    }
}
