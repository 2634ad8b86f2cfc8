//! Lays the archive out: headers, files, the log, the label, the manifest.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tar::{EntryType, Header};

use super::super::page::PAGE_BYTES;
use super::super::pump::{self, Pumped};
use super::control;
use super::file::{self, Shared, Source};
use super::ground::Ground;
use super::listing::Listing;
use super::log;
use super::mode::Stopped;
use super::walk::{self, CONTROL, Found, unreadable};
use crate::backup::moved::Moved;
use crate::domain::artifact::MemberKind;
use crate::domain::check::Broke;
use crate::seal::{Fill, Member, StreamWriter};

/// Files up to this size are read at once, and not kept open until their part is sealed: most files of most clusters.
const SMALL: u64 = 128 << 10;
/// Files that are open at once; beyond that many, larger ones are read at once, too.
const OPEN_AT_MOST: usize = 256;
/// How much of a file is read at a time when it is read at once.
const CHUNK: usize = 1 << 20;
/// Odd files that are named.
const ODD_AT_MOST: usize = 20;

/// One reading of a data folder. Blocking: it belongs onto a thread of its own.
pub struct Reader {
    ground: Arc<Ground>,
    writer: StreamWriter,
    shared: Arc<Shared>,
    members: u64,
    /// Files that must be in the manifest in the end.
    listed: u64,
    odd: Vec<String>,
    chunk: Vec<u8>,
}

impl Reader {
    /// Reads into `writer`. `pages`: whether page checksums are verified; `stop` ends it early.
    pub fn new(ground: Arc<Ground>, writer: StreamWriter, pages: bool, moved: Moved, stop: Arc<AtomicBool>) -> Reader {
        let shared = Shared {
            listing: Listing::default(),
            pages: pages.then(Mutex::default),
            moved,
            open: AtomicUsize::new(0),
            stop,
        };
        Reader { ground, writer, shared: Arc::new(shared), members: 0, listed: 0, odd: Vec::new(), chunk: Vec::new() }
    }

    /// Reads all files while the server is in backup mode; when this is done, every byte of them has been read.
    pub fn files(mut self) -> Result<Reader, Broke> {
        let ground = Arc::clone(&self.ground);
        walk::walk(&ground, &mut |found| {
            self.shared.go_on()?;
            match found {
                Found::Made(path) => self.folder(path, 0o700, 0),
                Found::Folder(path, place) => match std::fs::symlink_metadata(&place) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    Err(error) => Err(unreadable(&place, &error)),
                    Ok(found) => self.folder(path, found.permissions().mode(), found.mtime()),
                },
                Found::File(path, place) => self.file(&path, place),
                Found::Odd(path) => {
                    self.odd.push(path);
                    self.odd.truncate(ODD_AT_MOST);
                    Ok(())
                }
            }
        })?;
        self.writer.settle()?;
        self.control()?;
        Ok(self)
    }

    /// The server has left backup mode: adds the label, the log of that time and the manifest. The stream is not finished.
    pub fn finish(mut self, stopped: &Stopped) -> Result<Pumped<StreamWriter>, Broke> {
        self.same_tablespaces(&stopped.map)?;
        let wal = log::range(stopped)?;
        self.small("backup_label", stopped.label.as_bytes(), true)?;
        let segments = log::segments(&wal, self.ground.segment_bytes);
        let pg_wal = self.ground.place("pg_wal");
        for segment in &segments {
            self.shared.go_on()?;
            let file = segment.open(&pg_wal, self.ground.segment_bytes)?;
            self.opened(&format!("pg_wal/{}", segment.name), pg_wal.join(&segment.name), file, false)?;
            self.small(&format!("pg_wal/archive_status/{}.done", segment.name), b"", false)?;
        }
        for name in histories(&pg_wal)? {
            let place = pg_wal.join(&name);
            let file = file::open(&place).map_err(|error| unreadable(&place, &error))?;
            self.opened(&format!("pg_wal/{name}"), place, file, false)?;
            self.small(&format!("pg_wal/archive_status/{name}.done"), b"", false)?;
        }
        self.writer.settle()?;
        // A segment that was recycled while it was read is not where it was.
        for segment in &segments {
            segment.open(&pg_wal, self.ground.segment_bytes)?;
        }
        let identifier = self.identifier()?;
        if self.shared.listing.files() != self.listed {
            return Err(Broke::new(format!(
                "{} files were laid out and {} read whole: this is a mistake in lifeboat, and nothing is kept",
                self.listed,
                self.shared.listing.files()
            )));
        }
        let text = self.shared.listing.finish(self.ground.major, identifier, &wal);
        let member = "backup_manifest".to_owned();
        self.announce(MemberKind::File, member, 0o600, 0, text.len() as u64)?;
        for piece in [&text.head, &text.files, &text.tail] {
            self.writer.write(piece.as_bytes())?;
        }
        self.pad(text.len() as u64)?;
        self.writer.write(&[0; 2 * pump::BLOCK])?;
        let pages = self.shared.pages.as_ref();
        let pages = pages.map(|pages| std::mem::take(&mut *pages.lock().unwrap_or_else(PoisonError::into_inner)));
        Ok(Pumped {
            sink: self.writer,
            pages,
            label: stopped.label.clone().into_bytes(),
            manifest_tail: text.tail.into_bytes(),
            members: self.members,
            left_out: self.odd,
        })
    }

    /// The link of a tablespace that was made while the backup began would be missing: its files are in no folder that was read.
    fn same_tablespaces(&self, map: &str) -> Result<(), Broke> {
        let began_with = map.lines().filter_map(|line| line.split(' ').next()?.parse::<u32>().ok());
        for oid in began_with {
            if !self.ground.tablespaces.contains(&oid) {
                return Err(Broke::hinted("a tablespace was made while the backup began", "take the backup again"));
            }
        }
        Ok(())
    }

    fn identifier(&self) -> Result<u64, Broke> {
        let place = self.ground.place(CONTROL);
        let control = control::read(&self.ground.data_dir).map_err(|error| unreadable(&place, &error))?;
        Ok(control.system_identifier)
    }

    fn folder(&mut self, path: String, mode: u32, modified: i64) -> Result<(), Broke> {
        self.announce(MemberKind::Folder, path, mode, modified, 0)
    }

    fn file(&mut self, path: &str, place: PathBuf) -> Result<(), Broke> {
        match file::open(&place) {
            // It was dropped since its folder was listed; a link that took its place is not followed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(unreadable(&place, &error)),
            Ok(file) => self.opened(path, place, file, true),
        }
    }

    /// The bytes that are in the file now: those of a large one are read by the threads that seal.
    fn opened(&mut self, path: &str, place: PathBuf, file: std::fs::File, listed: bool) -> Result<(), Broke> {
        let found = file.metadata().map_err(|error| unreadable(&place, &error))?;
        if !found.is_file() {
            return Err(unreadable(&place, &io::Error::other("it became something else than a file")));
        }
        let size = found.len();
        self.announce(MemberKind::File, path.to_owned(), found.permissions().mode(), found.mtime(), size)?;
        self.listed += u64::from(listed);
        let source = Arc::new(Source::new(path, place, file, &found, listed, &self.shared));
        let at_once = size <= SMALL
            || self.shared.open.load(Ordering::Relaxed) > OPEN_AT_MOST
            || self.writer.part_bytes() < PAGE_BYTES;
        if at_once {
            self.read_at_once(&source, size)?;
        } else {
            let fill: Arc<dyn Fill> = source;
            self.writer.write_later(size, PAGE_BYTES, &fill)?;
        }
        self.pad(size)
    }

    fn read_at_once(&mut self, source: &Source, size: u64) -> Result<(), Broke> {
        if self.chunk.is_empty() {
            self.chunk = vec![0; CHUNK];
        }
        let mut offset = 0;
        loop {
            // At most a chunk, which is in memory. A file of no bytes is read too: so it comes into the manifest.
            let now = (size - offset).min(CHUNK as u64) as usize;
            source.fill(offset, &mut self.chunk[..now])?;
            self.writer.write(&self.chunk[..now])?;
            offset += now as u64;
            if offset == size {
                return Ok(());
            }
        }
    }

    /// `global/pg_control`, when everything else has been read.
    fn control(&mut self) -> Result<(), Broke> {
        let place = self.ground.place(CONTROL);
        let control = control::read(&self.ground.data_dir).map_err(|error| unreadable(&place, &error))?;
        let found = std::fs::symlink_metadata(&place).map_err(|error| unreadable(&place, &error))?;
        self.literal(CONTROL, &control.bytes, (found.permissions().mode(), found.mtime()), true)
    }

    fn small(&mut self, path: &str, bytes: &[u8], listed: bool) -> Result<(), Broke> {
        let now = crate::clock::now().as_second();
        self.literal(path, bytes, (0o600, now), listed)
    }

    fn literal(&mut self, path: &str, bytes: &[u8], (mode, modified): (u32, i64), listed: bool) -> Result<(), Broke> {
        self.announce(MemberKind::File, path.to_owned(), mode, modified, bytes.len() as u64)?;
        self.writer.write(bytes)?;
        self.pad(bytes.len() as u64)?;
        if listed {
            self.listed += 1;
            self.shared.listing.add(path, bytes.len() as u64, modified, crc32c::crc32c(bytes));
        }
        Ok(())
    }

    fn announce(&mut self, kind: MemberKind, path: String, mode: u32, modified: i64, size: u64) -> Result<(), Broke> {
        let mut header = Header::new_ustar();
        header.set_entry_type(if kind == MemberKind::Folder { EntryType::Directory } else { EntryType::Regular });
        header.set_mode(mode & 0o777);
        header.set_mtime(modified.max(0).unsigned_abs());
        header.set_size(size);
        pump::name(&mut header, &path, kind)?;
        self.writer.write(header.as_bytes())?;
        self.members += 1;
        Ok(self.writer.member(Member { path, kind, mode: mode & 0o777, size })?)
    }

    fn pad(&mut self, size: u64) -> Result<(), Broke> {
        Ok(self.writer.write(&[0; pump::BLOCK][..pump::padding_after(size)])?)
    }
}

/// The files that say where timelines branched.
fn histories(pg_wal: &Path) -> Result<Vec<String>, Broke> {
    let listed = std::fs::read_dir(pg_wal).and_then(|listed| {
        let names = listed.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()));
        names.collect::<io::Result<Vec<String>>>()
    });
    let mut names = listed.map_err(|error| unreadable(pg_wal, &error))?;
    names.retain(|name| log::is_history(name));
    names.sort();
    Ok(names)
}
