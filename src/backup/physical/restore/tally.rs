//! Page checksums of a restore: whole pages as their part passes, pages that a cut between parts splits when all is written.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::page::{self, PAGE_BYTES};
use crate::domain::artifact::{Manifest, PageTally};
use crate::domain::lsn::Lsn;

const NAMED_AT_MOST: usize = 100;
/// Suspects that are remembered; more are counted as bad.
const SUSPECTS_AT_MOST: usize = 10_000;

/// Counts pages, from many threads.
#[derive(Debug, Default)]
pub(super) struct Tally {
    verified: AtomicU64,
    empty: AtomicU64,
    beyond: AtomicU64,
    suspects: Mutex<Vec<(String, u64, Lsn)>>,
}

impl Tally {
    /// Looks at the whole pages among `bytes`, which begin at `offset` of the file. (What is cut is looked at later.)
    pub(super) fn pass(&self, path: &str, first_block: u32, offset: u64, bytes: &[u8]) {
        let page = PAGE_BYTES as u64;
        let skip = (page - offset % page) % page;
        let Some(whole) = usize::try_from(skip).ok().and_then(|skip| bytes.get(skip..)) else { return };
        let begins = (offset + skip) / page;
        let (pages, _) = whole.as_chunks::<PAGE_BYTES>();
        for (at, bytes) in pages.iter().enumerate() {
            self.look(path, first_block, begins + at as u64, bytes);
        }
    }

    /// Looks at one page. A page that is cut short at the end of its file is given with zeros behind it.
    pub(super) fn look(&self, path: &str, first_block: u32, block_in_file: u64, bytes: &[u8; PAGE_BYTES]) {
        // A file has at most SEGMENT_PAGES pages; the numbers of a longer one, which is not PostgreSQL's, may wrap.
        let block = first_block.wrapping_add(block_in_file as u32);
        if page::checksum(bytes, block) == page::stored_checksum(bytes) {
            self.verified.fetch_add(1, Ordering::Relaxed);
        } else if bytes.iter().all(|byte| *byte == 0) {
            self.empty.fetch_add(1, Ordering::Relaxed);
        } else {
            let mut suspects = self.suspects.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if suspects.len() < SUSPECTS_AT_MOST {
                suspects.push((path.to_owned(), block_in_file, Lsn(page::stored_lsn(bytes))));
            } else {
                self.beyond.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Judges the suspects. A page that carries a log position within the backup is brought back by the log. One that was
    /// torn while the backup read it can carry an older one: the backup then read it again and said so by its count, which is
    /// believed for that many pages and no more, and for none that the backup calls bad.
    pub(super) fn settle(&self, manifest: &Manifest) -> PageTally {
        let mut suspects =
            std::mem::take(&mut *self.suspects.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        suspects.sort();
        let wal = manifest.wal.as_ref();
        let in_log = |lsn: Lsn| wal.is_some_and(|wal| (wal.start..=wal.end).contains(&lsn));
        let named = |path: &str, block: u64| format!("{path} block {block}");
        let (young, old): (Vec<_>, Vec<_>) = suspects.into_iter().partition(|suspect| in_log(suspect.2));
        let known = manifest.pages.clone().unwrap_or_default();
        let (bad, torn): (Vec<_>, Vec<_>) =
            old.into_iter().map(|(path, block, _)| named(&path, block)).partition(|name| known.bad.contains(name));
        let excused = known.in_flight.saturating_sub(young.len() as u64);
        let complete = known.bad_count as usize <= known.bad.len();
        let beyond = self.beyond.load(Ordering::Relaxed);
        let (torn, bad) = if complete && torn.len() as u64 <= excused && beyond == 0 {
            (torn.len() as u64, bad)
        } else {
            (0, bad.into_iter().chain(torn).collect())
        };
        PageTally {
            enabled: true,
            verified: self.verified.load(Ordering::Relaxed),
            empty: self.empty.load(Ordering::Relaxed),
            in_flight: young.len() as u64 + torn,
            bad_count: bad.len() as u64 + beyond,
            bad: bad.into_iter().take(NAMED_AT_MOST).collect(),
        }
    }
}
