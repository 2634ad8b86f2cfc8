//! The folder beside the destination. It belongs to this user alone, and nothing in it is followed anywhere else.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{At, FORMAT};
use crate::backup::wal::header;
use crate::domain::wal::{Segment, WalName};

const AT: &str = "at";
const LOCK: &str = "lock";
/// What half-written files begin with.
const HALF: &str = ".half-";
/// No `at` is longer.
const AT_BYTES: u64 = 1 << 20;
/// Read at once: it stays in the processor's cache between being read and being hashed.
const CHUNK: usize = 256 << 10;

pub(super) struct Folder {
    dir: File,
    path: PathBuf,
}

impl Folder {
    /// Opens it, if it is a folder of this user that nobody else can enter.
    pub(super) fn open(path: &Path) -> io::Result<Folder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&dir)?;
        if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o777 != 0o700 {
            return Err(Errno::PERM.into());
        }
        Ok(Folder { dir: dir.into(), path: path.to_owned() })
    }

    /// The same; it is made if need be.
    pub(super) fn make(path: &Path) -> io::Result<Folder> {
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Folder::open(path),
            Err(error) => Err(error.into()),
        }
    }

    /// A file of this user, and no link.
    fn open_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&file)?;
        let plain = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if !plain || stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(Errno::PERM.into());
        }
        Ok(file.into())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let entries = Dir::read_from(&self.dir)?.collect::<rustix::io::Result<Vec<_>>>()?;
        let names = entries.iter().filter_map(|entry| entry.file_name().to_str().ok());
        Ok(names.filter(|name| *name != "." && *name != "..").map(str::to_owned).collect())
    }

    /// The segments that are in it, by their names.
    pub(super) fn segments(&self) -> io::Result<Vec<(Segment, String)>> {
        let segment = |name: &str| match name.split_once('.')?.0.parse() {
            Ok(WalName::Segment(segment)) => Some(segment),
            _ => None,
        };
        Ok(self.names()?.into_iter().filter_map(|name| Some((segment(&name)?, name))).collect())
    }

    /// Removes a file. That it cannot be removed changes nothing: it is verified whenever it is looked at.
    pub(super) fn remove(&self, name: &str) {
        let _ = rustix::fs::unlinkat(&self.dir, name, AtFlags::empty());
    }

    /// How far the server is: none if it cannot be told.
    pub(super) fn at(&self) -> Option<At> {
        let mut text = Vec::new();
        self.open_file(AT).ok()?.take(AT_BYTES).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok().filter(|at: &At| at.format == FORMAT)
    }

    pub(super) fn set_at(&self, at: &At) -> io::Result<()> {
        let half = format!("{HALF}{AT}-{}", std::process::id());
        self.write(&half, &serde_json::to_vec(at)?).and_then(|_| self.rename(&half, AT))
    }

    /// Somebody who sees no `at` ends.
    pub(super) fn forget_at(&self) {
        self.remove(AT);
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<File> {
        // What a killed one left. Made anew, and never through a link.
        self.remove(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, name, flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = File::from(file);
        let written = file.write_all(bytes);
        written.inspect_err(|_| self.remove(name))?;
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.dir, from, &self.dir, to)?)
    }

    /// Puts a verified segment in, whose BLAKE3 is known from having verified it, under the name that it has by this key.
    pub(super) fn put(&self, segment: Segment, key: &[u8; 32], hash: &blake3::Hash, bytes: &[u8]) -> io::Result<()> {
        let half = format!("{HALF}{segment}");
        let file = self.write(&half, bytes)?;
        // The server makes it durable before it replays it, and waits for that. Here nobody waits, and then there is little left to do.
        let synced = file.sync_data();
        synced.and_then(|()| self.rename(&half, &name_of(segment, key, hash)))
    }

    /// Whether a file is that segment, whole: read again, for it was written by another process at another time.
    pub(super) fn verifies(&self, name: &str, segment: Segment, segment_bytes: u64, key: &[u8; 32]) -> bool {
        let read = || -> io::Result<bool> {
            let mut file = self.open_file(name)?;
            let (mut hasher, mut chunk, mut length) = (blake3::Hasher::new(), vec![0; CHUNK], 0);
            loop {
                let count = file.read(&mut chunk)?;
                let Some(bytes) = chunk.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
                if length == 0 && !begins(bytes, segment, segment_bytes) {
                    return Ok(false);
                }
                hasher.update(bytes);
                length += count as u64;
            }
            Ok(length == segment_bytes && name == name_of(segment, key, &hasher.finalize()))
        };
        read().unwrap_or(false)
    }

    /// Gives a file out.
    pub(super) fn give(&self, name: &str, to: &Path) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.dir, name, CWD, to)?)
    }

    /// Held until the file is dropped, or its process has ended. None: another one has it.
    pub(super) fn lock(&self) -> io::Result<Option<File>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = File::from(rustix::fs::openat(&self.dir, LOCK, flags, Mode::RUSR | Mode::WUSR)?);
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // Whoever held it before may have taken it, and the folder, away in the meantime.
        let mine = rustix::fs::fstat(&lock)?;
        let there = rustix::fs::statat(CWD, self.path.join(LOCK), AtFlags::SYMLINK_NOFOLLOW);
        let same = there.is_ok_and(|there| (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino));
        Ok(same.then_some(lock))
    }

    /// Removes all but `at` and the lock. Only for whoever holds the lock.
    pub(super) fn empty(&self) {
        for name in self.names().unwrap_or_default() {
            if name != AT && name != LOCK {
                self.remove(&name);
            }
        }
    }

    /// Removes everything, and the folder. Only for whoever holds the lock; it goes last, so that nobody begins before.
    pub(super) fn clear(&self, lock: File) {
        self.empty();
        self.forget_at();
        self.remove(LOCK);
        // A fetch that just wrote an `at` keeps it.
        let _ = std::fs::remove_dir(&self.path);
        drop(lock);
    }
}

fn name_of(segment: Segment, key: &[u8; 32], hash: &blake3::Hash) -> String {
    format!("{segment}.{}", blake3::keyed_hash(key, hash.as_bytes()).to_hex())
}

/// Whether bytes begin like a segment of this name and length.
pub(super) fn begins(bytes: &[u8], segment: Segment, segment_bytes: u64) -> bool {
    header(bytes).is_ok_and(|header| {
        header.segment_bytes == segment_bytes
            && segment.start(segment_bytes) == Some(header.start)
            && header.timeline <= segment.timeline
    })
}
