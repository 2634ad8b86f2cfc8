//! Verifies page checksums while the bytes of a base backup pass.
//!
//! A checksum that does not fit says little by itself: a page can be read while it is being written. What is known only at
//! the end (where the backup began and ended in the log, what the page looks like when it is read again) decides. So the
//! stream only collects suspects, and [`PageWatch::settle`] judges them.

use super::page::{self, PAGE_BYTES};
use crate::domain::artifact::PageTally;
use crate::domain::lsn::Lsn;

/// Bad pages that are named; the rest is only counted.
const NAMED_AT_MOST: usize = 100;
/// Suspects that are remembered; more are counted as bad, for nothing but damage makes so many.
const SUSPECTS_AT_MOST: usize = 10_000;

/// A page whose checksum does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The file, from the data folder.
    pub path: String,
    /// The page's place in its file.
    pub block_in_file: u64,
    /// The log position that it carries, if that can be believed.
    pub lsn: Lsn,
}

/// A page as it was read again, after the backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Again {
    /// Its checksum fits, and this is its log position.
    Right(Lsn),
    /// Its checksum still does not fit.
    Wrong,
    /// It could not be read.
    Unread,
}

impl Again {
    /// Looks at the bytes of a page that were read again; `first` is the block number of the file's first page.
    pub fn of(bytes: &[u8], block: u32) -> Again {
        let Ok(bytes) = <&[u8; PAGE_BYTES]>::try_from(bytes) else { return Again::Unread };
        if page::checksum(bytes, block) == page::stored_checksum(bytes) {
            Again::Right(Lsn(page::stored_lsn(bytes)))
        } else {
            Again::Wrong
        }
    }
}

/// The file that is passing.
#[derive(Debug)]
struct Passing {
    path: String,
    first: u32,
    next: u64,
    /// Bytes of a page that is not yet whole.
    part: Vec<u8>,
}

impl Passing {
    fn at(path: &str, first: u32, next: u64) -> Passing {
        Passing { path: path.to_owned(), first, next, part: Vec::new() }
    }
}

/// Watches pages.
#[derive(Debug, Default)]
pub struct PageWatch {
    passing: Option<Passing>,
    verified: u64,
    empty: u64,
    suspects: Vec<Suspect>,
    /// Wrong pages beyond those that are remembered.
    uncounted: u64,
}

impl PageWatch {
    /// A file begins.
    pub fn begin(&mut self, path: &str) {
        self.passing = page::first_block(path).map(|first| Passing::at(path, first, 0));
    }

    /// Of the pages from `from` on of a file of pages whose first has the block number `first`.
    pub fn of_piece(path: &str, first: u32, from: u64, bytes: &[u8]) -> PageWatch {
        let mut watch = PageWatch { passing: Some(Passing::at(path, first, from)), ..PageWatch::default() };
        watch.pass(bytes);
        watch.end();
        watch
    }

    /// Takes in what another has seen.
    pub fn add(&mut self, other: PageWatch) {
        self.verified += other.verified;
        self.empty += other.empty;
        self.uncounted += other.uncounted;
        let room = SUSPECTS_AT_MOST.saturating_sub(self.suspects.len());
        self.uncounted += other.suspects.len().saturating_sub(room) as u64;
        self.suspects.extend(other.suspects.into_iter().take(room));
    }

    /// So many bytes of it pass.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        let Some(mut passing) = self.passing.take() else { return };
        if !passing.part.is_empty() {
            let wanted = (PAGE_BYTES - passing.part.len()).min(bytes.len());
            let (head, rest) = bytes.split_at(wanted);
            passing.part.extend_from_slice(head);
            bytes = rest;
            if let Ok(whole) = <&[u8; PAGE_BYTES]>::try_from(passing.part.as_slice()) {
                let whole = *whole;
                self.look(&mut passing, &whole);
                passing.part.clear();
            }
        }
        let (pages, rest) = bytes.as_chunks::<PAGE_BYTES>();
        for page in pages {
            self.look(&mut passing, page);
        }
        passing.part.extend_from_slice(rest);
        self.passing = Some(passing);
    }

    /// It ends. A last page that is cut short (the file was growing) is looked at as if zeros followed: it becomes a
    /// suspect like any other page that does not fit.
    pub fn end(&mut self) {
        let Some(mut passing) = self.passing.take() else { return };
        if !passing.part.is_empty() {
            let mut whole = [0u8; PAGE_BYTES];
            whole[..passing.part.len()].copy_from_slice(&passing.part);
            self.look(&mut passing, &whole);
        }
    }

    fn look(&mut self, passing: &mut Passing, page: &[u8; PAGE_BYTES]) {
        let block_in_file = passing.next;
        passing.next += 1;
        // Files have at most SEGMENT_PAGES pages; a longer one is not PostgreSQL's, and its numbers may wrap.
        let block = passing.first.wrapping_add(block_in_file as u32);
        if page::checksum(page, block) == page::stored_checksum(page) {
            self.verified += 1;
        } else if page.iter().all(|byte| *byte == 0) {
            self.empty += 1;
        } else if self.suspects.len() < SUSPECTS_AT_MOST {
            let lsn = Lsn(page::stored_lsn(page));
            self.suspects.push(Suspect { path: passing.path.clone(), block_in_file, lsn });
        } else {
            self.uncounted += 1;
        }
    }

    /// The pages that have to be judged.
    pub fn suspects(&self) -> &[Suspect] {
        &self.suspects
    }

    /// Judges the suspects. A page is *in flight* when the log from `start` to `end` brings it back: it carries a position
    /// in that stretch, or (its head being older than its tail) carries one when it is read `again`. A position beyond `end`
    /// is damage, not youth. Anything else is bad.
    pub fn settle(self, start: Lsn, end: Lsn, again: &[Again]) -> PageTally {
        let mut tally = PageTally { enabled: true, verified: self.verified, empty: self.empty, ..PageTally::default() };
        for (at, suspect) in self.suspects.iter().enumerate() {
            let young = (start..=end).contains(&suspect.lsn);
            let torn = matches!(again.get(at), Some(Again::Right(lsn)) if *lsn >= start);
            if young || torn {
                tally.in_flight += 1;
                continue;
            }
            tally.bad_count += 1;
            if tally.bad.len() < NAMED_AT_MOST {
                tally.bad.push(format!("{} block {}", suspect.path, suspect.block_in_file));
            }
        }
        tally.bad_count += self.uncounted;
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(block: u32, lsn: u64, fill: u8) -> [u8; PAGE_BYTES] {
        let mut page = [fill; PAGE_BYTES];
        page[..4].copy_from_slice(&((lsn >> 32) as u32).to_le_bytes());
        page[4..8].copy_from_slice(&(lsn as u32).to_le_bytes());
        let sum = page::checksum(&page, block);
        page[8..10].copy_from_slice(&sum.to_le_bytes());
        page
    }

    fn watch(path: &str, bytes: &[u8], piece: usize) -> PageWatch {
        let mut watch = PageWatch::default();
        watch.begin(path);
        for chunk in bytes.chunks(piece) {
            watch.pass(chunk);
        }
        watch.end();
        watch
    }

    #[test]
    fn pages_are_seen_however_they_are_cut() {
        let file = [page(0, 10, 1), [0; PAGE_BYTES], page(2, 10, 3)].concat();
        for piece in [1, 7, 4096, 8192, 8193, 100_000] {
            let tally = watch("base/5/16384", &file, piece).settle(Lsn(100), Lsn(200), &[]);
            assert_eq!((tally.verified, tally.empty, tally.bad_count, tally.in_flight), (2, 1, 0, 0), "{piece}");
        }
    }

    #[test]
    fn a_flipped_page_is_named_and_a_young_one_is_in_flight() {
        let mut file = [page(0, 10, 1), page(1, 10, 2), page(2, 150, 3), page(3, 250, 4)].concat();
        for block in 1..4 {
            file[block * PAGE_BYTES + 5000] ^= 1;
        }
        let watched = watch("base/5/16384", &file, 5000);
        assert_eq!(watched.suspects().len(), 3);
        let tally = watched.settle(Lsn(100), Lsn(200), &[]);
        assert_eq!((tally.verified, tally.in_flight, tally.bad_count), (1, 1, 2));
        assert_eq!(tally.bad, ["base/5/16384 block 1", "base/5/16384 block 3"], "a position beyond the end is damage");
    }

    #[test]
    fn a_page_that_is_right_when_read_again_was_torn_only_if_it_was_written_meanwhile() {
        let mut file = [page(0, 10, 1), page(1, 10, 2)].concat();
        file[5000] ^= 1;
        file[PAGE_BYTES + 5000] ^= 1;
        let again = [Again::Right(Lsn(120)), Again::Right(Lsn(10))];
        let tally = watch("base/5/16384", &file, 999).settle(Lsn(100), Lsn(200), &again);
        assert_eq!((tally.in_flight, tally.bad.as_slice()), (1, ["base/5/16384 block 1".to_owned()].as_slice()));
    }

    #[test]
    fn segments_count_on_and_a_cut_page_is_a_suspect() {
        let first = page::SEGMENT_PAGES;
        let mut file = page(first, 10, 1).to_vec();
        let tally = watch("base/5/16384.1", &file, 8192).settle(Lsn(1), Lsn(2), &[]);
        assert_eq!(tally.verified, 1);
        let tally = watch("base/5/16384", &file, 8192).settle(Lsn(100), Lsn(200), &[]);
        assert_eq!(tally.bad_count, 1, "the right page in the wrong place is wrong");
        file.truncate(5000);
        let tally = watch("base/5/16384.1", &file, 8192).settle(Lsn(100), Lsn(200), &[]);
        assert_eq!(tally.bad_count, 1);
    }

    #[test]
    fn other_files_are_not_looked_at() {
        let tally = watch("pg_xact/0000", &[7; 3 * PAGE_BYTES], 8192).settle(Lsn(1), Lsn(2), &[]);
        assert_eq!((tally.verified, tally.empty, tally.bad_count), (0, 0, 0));
    }
}
