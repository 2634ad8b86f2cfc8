//! The way in: cut, compress, encrypt, hash, store.

use std::io;
use std::sync::{Arc, Condvar, Mutex};

use tokio::runtime::Handle;

use crate::domain::artifact::{MemberKind, Part, Slice, Stream, StreamKind};
use crate::store::{Store, key_fault};

use super::keys::parse_recipient;
use super::yard::{Fill, Flight, Job, Later, Plain, Shared, Yard};
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
            later: Vec::new(),
            later_bytes: 0,
            slices: Vec::new(),
            open: None,
            cut: 0,
            plain_bytes: 0,
            shared: Arc::default(),
        }
    }
}

/// Takes the bytes of one stream. **Blocking**: use it (and drop it) on a blocking thread. Dropping it abandons the stream:
/// the last part is never stored, and those that wait to be sealed are not either; what was stored before stays.
pub struct StreamWriter {
    yard: Arc<Yard>,
    name: String,
    kind: StreamKind,
    part_bytes: usize,
    max_parts: usize,
    /// The part that is being filled: the bytes that are known.
    plain: Vec<u8>,
    /// And those that its sealing thread gets for itself.
    later: Vec<Later>,
    later_bytes: usize,
    slices: Vec<Slice>,
    /// The member whose data comes now, and how much of it came already.
    open: Option<(Member, u64)>,
    /// Parts that were handed over.
    cut: usize,
    plain_bytes: u64,
    shared: Arc<Shared>,
}

impl StreamWriter {
    /// Takes bytes; waits while all parts in flight are busy.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SealError> {
        self.shared.check()?;
        let mut rest = bytes;
        while !rest.is_empty() {
            // A full part is handed over only when more comes: the last one is closed by `finish` alone.
            if self.length() == self.part_bytes {
                if self.max_parts == 1 {
                    return Err(self.refused("is larger than 256 MiB: globals are roles and settings, not data"));
                }
                self.hand_over()?;
            }
            let room = self.note(rest.len().min(self.part_bytes - self.length()));
            let (now, later) = rest.split_at(room);
            self.plain.extend_from_slice(now);
            self.plain_bytes += now.len() as u64;
            rest = later;
        }
        Ok(())
    }

    /// Takes so many bytes of the open member that are not read yet: the threads that seal the parts get them from `fill`,
    /// each its own piece. The member is cut only at multiples of `grain`, so that no page lies in two parts; a part may
    /// therefore be a little shorter than others.
    pub fn write_later(&mut self, bytes: u64, grain: usize, fill: &Arc<dyn Fill>) -> Result<(), SealError> {
        self.shared.check()?;
        let left_of_member = self.open.as_ref().map_or(0, |(member, taken)| member.size - taken);
        if bytes > left_of_member || grain == 0 || grain > self.part_bytes {
            return Err(self.refused("was given bytes for later that are of no member, or do not fit into its parts"));
        }
        let mut offset = 0;
        while offset < bytes {
            let mut room = self.part_bytes - self.length();
            match usize::try_from(bytes - offset) {
                Ok(left) if left <= room => room = left,
                _ => room -= room % grain,
            }
            if room == 0 {
                self.hand_over()?;
                continue;
            }
            let later = Later { at: self.length(), bytes: room, offset, fill: Arc::clone(fill) };
            self.note(room);
            self.later.push(later);
            self.later_bytes += room;
            self.plain_bytes += room as u64;
            offset += room as u64;
        }
        Ok(())
    }

    /// The plaintext of a full part, in bytes.
    pub fn part_bytes(&self) -> usize {
        self.part_bytes
    }

    /// Closes the part that is being filled, and waits until all that was written is read, sealed and durable.
    pub fn settle(&mut self) -> Result<(), SealError> {
        self.shared.check()?;
        if self.length() > 0 {
            self.hand_over()?;
        }
        self.shared.landed().check()
    }

    /// Bytes of the part that is being filled.
    fn length(&self) -> usize {
        self.plain.len() + self.later_bytes
    }

    /// Writes down to which member the next bytes belong: `room` of them, or fewer if the member ends before. Gives how many.
    fn note(&mut self, mut room: usize) -> usize {
        let at = self.length();
        if let Some((member, taken)) = &mut self.open {
            room = room.min(usize::try_from(member.size - *taken).unwrap_or(usize::MAX));
            self.slices.push(slice(member, *taken, room, at));
            *taken += room as u64;
            if *taken == member.size {
                self.open = None;
            }
        }
        room
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
            self.slices.push(slice(&member, 0, 0, self.length()));
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
        if self.length() > 0 || !self.slices.is_empty() {
            self.hand_over()?;
        }
        let mut state = self.shared.landed();
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
            plain: Plain { known: plain, later: std::mem::take(&mut self.later) },
            members: std::mem::take(&mut self.slices),
            tools,
            flight: Flight::begin(&self.shared),
            slot,
        };
        self.cut += 1;
        self.later_bytes = 0;
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
    /// Waits for the parts that are on their way, so that afterwards nothing of this stream is written any more and what
    /// is there can be removed.
    fn drop(&mut self) {
        self.shared.lock().abandoned = true;
        drop(self.shared.landed());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::FileStore;

    #[tokio::test(flavor = "multi_thread")]
    async fn more_parts_than_five_digits_can_name_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(FileStore::open(&folder.path().join("store")).unwrap());
        let recipients = vec![crate::seal::generate_identity().1];
        let options = SealOptions { recipients, level: 3, part_bytes: 1, threads: 2 };
        let sealer = Sealer::new(store, "orders/x".to_owned(), options).unwrap();
        let error = tokio::task::spawn_blocking(move || {
            let mut writer = sealer.stream("base", StreamKind::Tar);
            // As if so many had gone before.
            writer.cut = MAX_PARTS - 1;
            writer.write(b"12")?;
            writer.finish()
        });
        let error = error.await.unwrap().unwrap_err().to_string();
        assert!(error.contains("100000 parts") && error.contains("part_size"), "{error}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn globals_beyond_their_limit_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(FileStore::open(&folder.path().join("store")).unwrap());
        let recipients = vec![crate::seal::generate_identity().1];
        let options = SealOptions { recipients, level: 3, part_bytes: 1, threads: 2 };
        let sealer = Sealer::new(store, "orders/x".to_owned(), options).unwrap();
        let mut writer = sealer.stream("globals", StreamKind::Globals);
        writer.part_bytes = 10;
        writer.write(b"1234567890").unwrap();
        let error = writer.write(b"1").unwrap_err().to_string();
        assert!(error.contains("256 MiB"), "{error}");
    }
}
