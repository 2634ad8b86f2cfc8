//! A file of the data folder whose size is fixed, read piece by piece by whichever thread seals the piece.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::super::page::{self, PAGE_BYTES};
use super::super::pages::PageWatch;
use super::listing::Listing;
use super::walk::unreadable;
use crate::backup::moved::Moved;
use crate::domain::check::Broke;
use crate::seal::Fill;

/// How often a page that does not fit is read again at once: it may be being written just then.
const READ_AGAIN: u32 = 3;

/// What all files of a backup share.
pub struct Shared {
    /// Files that were read whole.
    pub listing: Listing,
    /// Pages that were seen; none: the source keeps no checksums.
    pub pages: Option<Mutex<PageWatch>>,
    /// Bytes, for whoever watches.
    pub moved: Moved,
    /// Files that are open now.
    pub open: AtomicUsize,
    /// Whether nobody wants the backup any more.
    pub stop: Arc<AtomicBool>,
}

impl Shared {
    /// An error when nobody wants the backup any more.
    pub fn go_on(&self) -> Result<(), Broke> {
        if self.stop.load(Ordering::Relaxed) { Err(Broke::new("the backup was given up")) } else { Ok(()) }
    }
}

/// Opens a file of the data folder; never through a link.
pub fn open(place: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()).open(place)
}

/// An open file, or the part of it that was there when it was opened.
pub struct Source {
    path: String,
    place: PathBuf,
    file: File,
    size: u64,
    modified: i64,
    first_block: Option<u32>,
    /// Whether it is to be in the manifest. (Segments of the log are not.)
    listed: bool,
    /// Pieces that were read: where each begins, its length and checksum.
    pieces: Mutex<BTreeMap<u64, (u64, u32)>>,
    shared: Arc<Shared>,
}

impl Source {
    /// Takes an open file, as long as it is now.
    pub fn new(path: &str, place: PathBuf, file: File, found: &Metadata, listed: bool, shared: &Arc<Shared>) -> Source {
        shared.open.fetch_add(1, Ordering::Relaxed);
        let first_block = page::first_block(path).filter(|_| shared.pages.is_some());
        Source {
            path: path.to_owned(),
            place,
            file,
            size: found.len(),
            modified: found.mtime(),
            first_block,
            listed,
            pieces: Mutex::default(),
            shared: Arc::clone(shared),
        }
    }

    /// Reads as many bytes as were promised. A file that has become shorter is padded with zeros, as `pg_basebackup` does:
    /// the record that cut it is in the log.
    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Broke> {
        let mut filled = 0;
        while filled < into.len() {
            match self.file.read_at(&mut into[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(&self.place, &error)),
            }
        }
        into[filled..].fill(0);
        Ok(())
    }

    /// Looks at the pages of a piece. Those that do not fit are read again at once, and what is then read takes their place;
    /// what still does not fit is a suspect.
    fn look(&self, first: u32, offset: u64, bytes: &mut [u8], pages: &Mutex<PageWatch>) -> Result<(), Broke> {
        let from = offset / PAGE_BYTES as u64;
        let mut watch = PageWatch::of_piece(&self.path, first, from, bytes);
        for _ in 0..READ_AGAIN {
            if watch.suspects().is_empty() {
                break;
            }
            for suspect in watch.suspects() {
                // Within the piece, which is in memory.
                let at = (suspect.block_in_file - from) as usize * PAGE_BYTES;
                let end = (at + PAGE_BYTES).min(bytes.len());
                self.read(offset + at as u64, &mut bytes[at..end])?;
            }
            watch = PageWatch::of_piece(&self.path, first, from, bytes);
        }
        pages.lock().unwrap_or_else(PoisonError::into_inner).add(watch);
        Ok(())
    }

    /// Writes down that a piece was read; with the last one the file is in the manifest.
    fn note(&self, offset: u64, bytes: &[u8]) {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        pieces.insert(offset, (bytes.len() as u64, crc32c::crc32c(bytes)));
        if pieces.values().map(|piece| piece.0).sum::<u64>() == self.size {
            let whole = pieces.values().fold(0, |sum, (length, crc)| {
                // Pieces are no longer than a part, which is in memory.
                crc32c::crc32c_combine(sum, *crc, *length as usize)
            });
            self.shared.listing.add(&self.path, self.size, self.modified, whole);
        }
    }
}

impl Fill for Source {
    fn fill(&self, offset: u64, into: &mut [u8]) -> Result<(), Broke> {
        self.shared.go_on()?;
        self.read(offset, into)?;
        if let (Some(first), Some(pages)) = (self.first_block, &self.shared.pages) {
            self.look(first, offset, into, pages)?;
        }
        if self.listed {
            self.note(offset, into);
        }
        self.shared.moved.add(into.len());
        Ok(())
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(pages: bool) -> Arc<Shared> {
        Arc::new(Shared {
            listing: Listing::default(),
            pages: pages.then(Mutex::default),
            moved: Moved::default(),
            open: AtomicUsize::new(0),
            stop: Arc::default(),
        })
    }

    fn source(path: &str, place: &Path, shared: &Arc<Shared>) -> Source {
        let file = open(place).unwrap();
        let found = file.metadata().unwrap();
        Source::new(path, place.to_owned(), file, &found, true, shared)
    }

    #[test]
    fn pieces_in_any_order_give_the_sum_of_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("x");
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n * 7 % 251) as u8).collect();
        std::fs::write(&place, &bytes).unwrap();
        let shared = shared(false);
        let source = source("pg_xact/0000", &place, &shared);
        for (from, to) in [(65_536, 100_000), (0, 8192), (8192, 65_536)] {
            assert_eq!(shared.listing.files(), 0);
            let mut into = vec![0xff; to - from];
            source.fill(from as u64, &mut into).unwrap();
            assert_eq!(into, bytes[from..to]);
        }
        assert_eq!((shared.listing.files(), shared.moved.so_far()), (1, 100_000));
        let wal = crate::domain::artifact::WalRange {
            timeline: 1,
            start: crate::domain::lsn::Lsn(0),
            end: crate::domain::lsn::Lsn(1),
        };
        let text = shared.listing.finish(15, 1, &wal);
        assert!(text.files.contains(&hex::encode(crc32c::crc32c(&bytes).to_le_bytes())), "{}", text.files);
        drop(source);
        assert_eq!(shared.open.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_file_that_became_shorter_is_padded_and_one_that_grew_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("x");
        for (length, now) in [(20_000, vec![7; 30_000]), (20_000, vec![7; 10_000])] {
            std::fs::write(&place, vec![7; length]).unwrap();
            let shared = shared(true);
            let source = source("base/5/1", &place, &shared);
            std::fs::write(&place, &now).unwrap();
            let mut into = vec![0xff; length];
            source.fill(0, &mut into).unwrap();
            let expected: Vec<u8> = now.iter().copied().chain(std::iter::repeat(0)).take(length).collect();
            assert_eq!(into, expected);
            assert_eq!(shared.listing.files(), 1);
        }
    }

    #[test]
    fn a_page_that_was_torn_is_replaced_by_what_is_read_next_and_damage_stays_a_suspect() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("x");
        let mut right = [3_u8; PAGE_BYTES];
        let sum = page::checksum(&right, 1);
        right[8..10].copy_from_slice(&sum.to_le_bytes());
        let mut wrong = [5_u8; PAGE_BYTES];
        let sum = page::checksum(&wrong, 2).wrapping_add(1);
        wrong[8..10].copy_from_slice(&sum.to_le_bytes());
        std::fs::write(&place, [[0; PAGE_BYTES], right, wrong].concat()).unwrap();
        let shared = shared(true);
        let source = source("base/5/1", &place, &shared);
        // As it was when the server was in the middle of writing its second page.
        let mut torn = [[0; PAGE_BYTES], right, wrong].concat();
        torn[PAGE_BYTES + 4096..2 * PAGE_BYTES].fill(9);
        source.look(0, 0, &mut torn, shared.pages.as_ref().unwrap()).unwrap();
        assert_eq!(torn[PAGE_BYTES..2 * PAGE_BYTES], right);
        let pages = shared.pages.as_ref().unwrap().lock().unwrap();
        let suspects: Vec<_> = pages.suspects().iter().map(|one| (one.path.as_str(), one.block_in_file)).collect();
        assert_eq!(suspects, [("base/5/1", 2)]);
    }

    #[test]
    fn a_stopped_reader_reads_nothing_more() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("x");
        std::fs::write(&place, "abc").unwrap();
        let shared = shared(false);
        let source = source("x", &place, &shared);
        shared.stop.store(true, Ordering::Relaxed);
        assert!(source.fill(0, &mut [0; 3]).is_err());
    }
}
