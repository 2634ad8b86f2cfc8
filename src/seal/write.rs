//! The way in: cut, compress, encrypt, hash, store.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use age::x25519::Recipient;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use crate::domain::artifact::{MemberKind, Part, Slice, Stream, StreamKind};
use crate::store::{Store, key_fault};

use super::keys::parse_recipient;
use super::{GLOBALS_STREAM, MAX_GLOBALS_BYTES, MAX_PART_BYTES, MAX_PARTS, SealError, is_inside, part_key};

/// How parts are made.
#[derive(Clone, Debug)]
pub struct SealOptions {
    /// age recipients.
    pub recipients: Vec<String>,
    /// zstd's level, 1 to 22.
    pub level: i32,
    /// Plaintext of one part, in bytes: 1 to 1 GiB.
    pub part_bytes: usize,
    /// Parts that are sealed at once, in all streams of this sealer together.
    pub threads: usize,
}

/// Seals the streams of one backup into `<prefix>/…` of a store.
pub struct Sealer {
    yard: Arc<Yard>,
    part_bytes: usize,
}

/// What all streams of a sealer share.
struct Yard {
    store: Arc<dyn Store>,
    prefix: String,
    recipients: Vec<Recipient>,
    level: i32,
    runtime: Handle,
    /// How many more parts may be sealed now.
    free: Mutex<usize>,
    freed: Condvar,
    /// Tools that are not in use: making them anew for each part would cost a tenth of the time, in page faults.
    tools: Mutex<Vec<Tools>>,
}

/// What one part needs while it is sealed.
struct Tools {
    compressor: Compressor<'static>,
    compressed: Vec<u8>,
    /// The last part's plaintext, emptied: the next part is filled into it.
    plain: Vec<u8>,
}

/// A tar member whose data comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Relative path without `.` and `..`. (The `/` at the end of a folder's name in a tar is dropped.)
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
        let refused = |why: String| Err(SealError::Refused(why));
        if let Some(why) = key_fault(&prefix) {
            return refused(format!("`{prefix}` cannot be the folder of a backup: {why}"));
        }
        if options.part_bytes == 0 || options.part_bytes as u64 > MAX_PART_BYTES {
            return refused(format!("part_size must be from 1 byte to 1 GiB, not {} bytes", options.part_bytes));
        }
        if !(1..=22).contains(&options.level) {
            return refused(format!("zstd's level must be from 1 to 22, not {}", options.level));
        }
        if options.recipients.is_empty() {
            return Err(SealError::Key("nobody could open the backup: no age recipient is named".to_owned()));
        }
        let recipients = options.recipients.iter().map(|text| parse_recipient(text)).collect::<Result<_, _>>();
        let runtime = Handle::try_current().map_err(|_| SealError::Stopped)?;
        let yard = Yard {
            store,
            prefix,
            recipients: recipients.map_err(SealError::Key)?,
            level: options.level,
            runtime,
            free: Mutex::new(options.threads.max(1)),
            freed: Condvar::new(),
            tools: Mutex::default(),
        };
        Ok(Sealer { yard: Arc::new(yard), part_bytes: options.part_bytes })
    }

    /// Begins a stream. The globals stream (`name` = `globals`) is the one object `globals.sql.zst.age`; all others are
    /// `<name>/00000.zst.age` and so on.
    pub fn stream(&self, name: &str, kind: StreamKind) -> StreamWriter {
        let single = name == GLOBALS_STREAM;
        StreamWriter {
            yard: Arc::clone(&self.yard),
            name: name.to_owned(),
            kind,
            part_bytes: if single { MAX_GLOBALS_BYTES as usize } else { self.part_bytes },
            max_parts: if single { 1 } else { MAX_PARTS },
            plain: Vec::new(),
            slices: Vec::new(),
            open: None,
            cut: 0,
            plain_bytes: 0,
            shared: Arc::default(),
        }
    }
}

/// Takes the bytes of one stream. **Blocking**: use it on a blocking thread. Dropping it abandons the stream: the last part
/// is never stored, and those that wait to be sealed are not either.
pub struct StreamWriter {
    yard: Arc<Yard>,
    name: String,
    kind: StreamKind,
    part_bytes: usize,
    max_parts: usize,
    /// The part that is being filled.
    plain: Vec<u8>,
    slices: Vec<Slice>,
    /// The member whose data comes now, and how much of it came already.
    open: Option<(Member, u64)>,
    /// Parts that were handed over.
    cut: usize,
    plain_bytes: u64,
    shared: Arc<Shared>,
}

/// What a stream's writer and its sealing threads share.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    done: BTreeMap<usize, Part>,
    in_flight: usize,
    /// The first cause; it is given out once.
    error: Option<SealError>,
    failed: bool,
    abandoned: bool,
}

impl StreamWriter {
    /// Takes bytes; waits while all parts in flight are busy.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SealError> {
        self.shared.check()?;
        let mut rest = bytes;
        while !rest.is_empty() {
            // A full part is handed over only when more comes: the last one is closed by `finish` alone.
            if self.plain.len() == self.part_bytes {
                if self.max_parts == 1 {
                    return Err(self.refused("is larger than 256 MiB: globals are roles and settings, not data"));
                }
                self.hand_over()?;
            }
            let mut room = rest.len().min(self.part_bytes - self.plain.len());
            if let Some((member, taken)) = &mut self.open {
                room = room.min(usize::try_from(member.size - *taken).unwrap_or(usize::MAX));
                self.slices.push(slice(member, *taken, room, self.plain.len()));
                *taken += room as u64;
                if *taken == member.size {
                    self.open = None;
                }
            }
            let (now, later) = rest.split_at(room);
            self.plain.extend_from_slice(now);
            self.plain_bytes += now.len() as u64;
            rest = later;
        }
        Ok(())
    }

    /// Says that the next `member.size` bytes that are written are the data of this tar member (the header has been
    /// written already; padding is not part of the data). A member of size 0 is recorded all the same.
    pub fn member(&mut self, member: Member) -> Result<(), SealError> {
        self.shared.check()?;
        let mut member = member;
        if member.kind == MemberKind::Folder && member.path.ends_with('/') {
            member.path.pop();
        }
        if let Some((open, taken)) = &self.open {
            let (path, left) = (&open.path, open.size - taken);
            return Err(
                self.refused(&format!("began member {:?} while {left} bytes of {path:?} are missing", member.path))
            );
        }
        if self.kind != StreamKind::Tar {
            return Err(self.refused("is no tar, and has no members"));
        }
        if !is_inside(&member.path) {
            return Err(self.refused(&format!("holds a member whose path could leave its folder: {:?}", member.path)));
        }
        if member.size > 0 && member.kind == MemberKind::Folder {
            return Err(self.refused(&format!("holds the folder {:?} with {} bytes", member.path, member.size)));
        }
        if member.size == 0 {
            self.slices.push(slice(&member, 0, 0, self.plain.len()));
        } else {
            self.open = Some((member, 0));
        }
        Ok(())
    }

    /// The producer ended well: closes the last part and waits until every part is durable. A stream of no bytes has no
    /// parts.
    pub fn finish(mut self) -> Result<Stream, SealError> {
        self.shared.check()?;
        if let Some((member, taken)) = &self.open {
            let left = member.size - taken;
            return Err(self.refused(&format!("ended while {left} bytes of member {:?} are missing", member.path)));
        }
        if !self.plain.is_empty() || !self.slices.is_empty() {
            self.hand_over()?;
        }
        let mut state = self.shared.lock();
        while state.in_flight > 0 {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.check()?;
        let parts: Vec<Part> = std::mem::take(&mut state.done).into_values().collect();
        drop(state);
        // A thread that died without a word leaves a gap.
        if parts.len() != self.cut {
            return Err(SealError::Stopped);
        }
        Ok(Stream { name: self.name.clone(), kind: self.kind.clone(), parts, plain_bytes: self.plain_bytes })
    }

    /// Gives the filled part to a sealing thread, once one is free.
    fn hand_over(&mut self) -> Result<(), SealError> {
        if self.cut == self.max_parts {
            return Err(self.refused(&format!("needs more than {MAX_PARTS} parts: make part_size larger")));
        }
        let index = self.cut;
        let slot = self.yard.take_slot();
        // It may have failed while we waited.
        self.shared.check()?;
        let mut tools = self.yard.take_tools().map_err(|source| self.seal_error(index, source))?;
        let mut plain = std::mem::take(&mut tools.plain);
        std::mem::swap(&mut plain, &mut self.plain);
        self.plain.reserve_exact(if self.max_parts == 1 { 0 } else { self.part_bytes });
        let job = Job {
            index,
            key: part_key(&self.name, index),
            plain,
            members: std::mem::take(&mut self.slices),
            tools,
            flight: Flight::begin(&self.shared),
            slot,
        };
        self.cut += 1;
        self.yard.runtime.spawn_blocking(move || job.run());
        Ok(())
    }

    fn seal_error(&self, index: usize, source: io::Error) -> SealError {
        SealError::Seal { key: part_key(&self.name, index), source }
    }

    fn refused(&self, why: &str) -> SealError {
        SealError::Refused(format!("the stream {} {why}", self.name))
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        self.shared.lock().abandoned = true;
    }
}

fn slice(member: &Member, offset: u64, bytes: usize, at: usize) -> Slice {
    Slice {
        path: member.path.clone(),
        kind: member.kind,
        mode: member.mode,
        size: member.size,
        offset,
        bytes: bytes as u64,
        at: at as u64,
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> Result<(), SealError> {
        self.lock().check()
    }
}

impl State {
    /// The first failure, with its real cause the first time it is asked for.
    fn check(&mut self) -> Result<(), SealError> {
        if self.failed { Err(self.error.take().unwrap_or(SealError::Stopped)) } else { Ok(()) }
    }
}

impl Yard {
    fn take_slot(self: &Arc<Yard>) -> Slot {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Slot { yard: Arc::clone(self) }
    }

    fn take_tools(&self) -> io::Result<Tools> {
        if let Some(tools) = self.tools.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(tools);
        }
        let mut compressor = Compressor::new(self.level)?;
        compressor.set_parameter(CParameter::ContentSizeFlag(true))?;
        compressor.set_parameter(CParameter::ChecksumFlag(true))?;
        Ok(Tools { compressor, compressed: Vec::new(), plain: Vec::new() })
    }

    /// zstd, then age, of one part: one whole frame in one whole age file.
    fn seal(&self, plain: &[u8], tools: &mut Tools) -> io::Result<Vec<u8>> {
        tools.compressed.clear();
        tools.compressed.reserve(zstd::zstd_safe::compress_bound(plain.len()));
        tools.compressor.compress_to_buffer(plain, &mut tools.compressed)?;
        let recipients = self.recipients.iter().map(|recipient| recipient as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
        // 16 bytes of tag a chunk of 64 KiB, and a header of some 130 bytes a recipient.
        let length = tools.compressed.len();
        let mut sealed = Vec::with_capacity(length + length / 4096 + 1024 + 256 * self.recipients.len());
        let mut writer = encryptor.wrap_output(&mut sealed)?;
        writer.write_all(&tools.compressed)?;
        writer.finish()?;
        Ok(sealed)
    }
}

/// The right to seal one part; given back when dropped, even by a thread that panics.
struct Slot {
    yard: Arc<Yard>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        *self.yard.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.yard.freed.notify_all();
    }
}

/// A part on its way; counted down when dropped, even by a thread that panics.
struct Flight {
    shared: Arc<Shared>,
}

impl Flight {
    fn begin(shared: &Arc<Shared>) -> Flight {
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
struct Job {
    index: usize,
    key: String,
    plain: Vec<u8>,
    members: Vec<Slice>,
    tools: Tools,
    slot: Slot,
    flight: Flight,
}

impl Job {
    fn run(self) {
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
        tools.plain = plain;
        tools.plain.clear();
        yard.tools.lock().unwrap_or_else(PoisonError::into_inner).push(tools);
        drop(slot);
        drop(flight);
    }
}

impl State {
    /// Whether nothing more needs to be sealed: nobody wants this stream any more.
    fn stops(&self) -> bool {
        self.failed || self.abandoned
    }
}

impl Yard {
    /// Hashes, seals and stores one part; nothing is stored when its stream was given up meanwhile.
    fn make_part(
        &self,
        key: String,
        plain: &[u8],
        members: Vec<Slice>,
        tools: &mut Tools,
        shared: &Shared,
    ) -> Result<Option<Part>, SealError> {
        let plain_blake3 = blake3::hash(plain).to_hex().to_string();
        let sealed = self.seal(plain, tools).map_err(|source| SealError::Seal { key: key.clone(), source })?;
        let (sealed_bytes, sealed_sha256) = (sealed.len() as u64, hex::encode(Sha256::digest(&sealed)));
        if shared.lock().stops() {
            return Ok(None);
        }
        let object = format!("{}/{key}", self.prefix);
        self.runtime.block_on(self.store.put_new(&object, Bytes::from(sealed)))?;
        let plain_bytes = plain.len() as u64;
        Ok(Some(Part { key, plain_bytes, plain_blake3, sealed_bytes, sealed_sha256, members }))
    }
}
