//! Reads a segment of the log: whose it is, how far its records are right, and when its transactions committed.
//!
//! Source: `src/include/access/xlog_internal.h`, `xlogrecord.h`, `xact.h`; the same from PostgreSQL 13 to 18. Records are read as a
//! little-endian server writes them: all platforms that PostgreSQL is packaged for today but s390x, whose segments are refused by their magic.

use jiff::{SignedDuration, Timestamp};

use crate::domain::lsn::Lsn;
use crate::domain::wal::{Commit, Contents, is_segment_length};

/// The first byte of a page's magic, in every version of this century; the second counts versions.
const MAGIC: u8 = 0xD1;
/// A page begins in the middle of a record.
const CONTINUES: u16 = 0x0001;
/// The header is the long one of a segment's first page.
const LONG: u16 = 0x0002;
const SHORT_HEADER: usize = 24;
const LONG_HEADER: usize = 40;
const RECORD_HEADER: usize = 24;
/// `RM_XLOG_ID`, and its record that ends a segment early.
const OF_LOG: u8 = 0;
const SWITCH: u8 = 0x40;
const RESTORE_POINT: u8 = 0x70;
/// So many restore points of one segment are written down.
const RESTORE_POINTS: usize = 100;
/// `RM_XACT_ID`, and its two kinds of commit.
const OF_TRANSACTIONS: u8 = 1;
const COMMITS: [u8; 2] = [0x00, 0x30];
/// 1970-01-01 to 2000-01-01, in seconds.
pub(super) const POSTGRES_EPOCH: i64 = 946_684_800;

/// Why bytes are not a segment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it does not begin like a segment of the log: {0}")]
pub struct BadSegment(&'static str);

/// What the first page of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The timeline of its first page; an ancestor of the segment's own where a timeline begins in the middle of it.
    pub timeline: u32,
    /// Where the segment begins.
    pub start: Lsn,
    /// Of which cluster.
    pub system_identifier: u64,
    /// How long segments are.
    pub segment_bytes: u64,
    page_bytes: usize,
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

/// Reads the first page's header.
pub fn header(bytes: &[u8]) -> Result<Header, BadSegment> {
    let short = BadSegment("it is too short");
    let numbers = || Some((word(bytes, 4)?, long(bytes, 8)?, long(bytes, 24)?, word(bytes, 32)?, word(bytes, 36)?));
    let (timeline, start, system_identifier, segment_bytes, page_bytes) = numbers().ok_or(short)?;
    if bytes.get(1) != Some(&MAGIC) {
        return Err(BadSegment("its magic number is another"));
    }
    if half(bytes, 2).is_none_or(|flags| flags & LONG == 0) {
        return Err(BadSegment("its first page has no long header"));
    }
    let segment_bytes = u64::from(segment_bytes);
    if !is_segment_length(segment_bytes) || !start.is_multiple_of(segment_bytes) {
        return Err(BadSegment("its length and its place do not fit together"));
    }
    let page_bytes = page_bytes as usize;
    if !page_bytes.is_power_of_two() || !(1 << 10..=1 << 16).contains(&page_bytes) {
        return Err(BadSegment("its pages have a length that no server has"));
    }
    Ok(Header { timeline, start: Lsn(start), system_identifier, segment_bytes, page_bytes })
}

/// Walks all records of a segment. Bytes behind the last right one are not an error: they are not counted.
pub fn scan(bytes: &[u8]) -> Result<(Header, Contents), BadSegment> {
    let header = header(bytes)?;
    let mut walk = Walk { bytes, header, at: 0 };
    let place = |at: usize| Lsn(header.start.0.saturating_add(at as u64));
    let mut contents = Contents {
        start: header.start,
        end: header.start,
        whole: false,
        first_commit: None,
        last_commit: None,
        restore_points: Vec::new(),
    };
    let mut record = Vec::new();
    let mut next = walk.rest_of_the_one_before();
    loop {
        match next {
            Next::Record => {
                contents.end = place(walk.at);
                if let Some(at) = committed_at(&record) {
                    let commit = Commit { at, lsn: contents.end };
                    contents.last_commit = contents.last_commit.filter(|last| last.at > at).or(Some(commit));
                    contents.first_commit = contents.first_commit.filter(|first| first.at <= at).or(Some(commit));
                }
                if let Some(name) = restore_point(&record).filter(|_| contents.restore_points.len() < RESTORE_POINTS) {
                    contents.restore_points.push((name, contents.end));
                }
                if record.get(17) == Some(&OF_LOG) && record.get(16).is_some_and(|info| info & 0xF0 == SWITCH) {
                    contents.whole = true;
                    return Ok((header, contents));
                }
            }
            Next::Skipped => {}
            Next::Cut => {
                contents.whole = bytes.len() as u64 == header.segment_bytes;
                return Ok((header, contents));
            }
            Next::Wrong => return Ok((header, contents)),
        }
        next = walk.record(&mut record);
    }
}

/// What came.
enum Next {
    /// A right record.
    Record,
    /// The end of a record that began earlier, or the beginning of one that was given up.
    Skipped,
    /// The segment ends here, or in the middle of a record.
    Cut,
    /// No record: zeros, or what an earlier segment left in a recycled file.
    Wrong,
}

struct Walk<'a> {
    bytes: &'a [u8],
    header: Header,
    at: usize,
}

impl Walk<'_> {
    /// The header of the page that begins at `at`: its flags, how much of a record is still to come, its length.
    fn page(&self, at: usize) -> Option<(u16, usize, usize)> {
        let bytes = self.bytes.get(at..)?;
        let (flags, left) = (half(bytes, 2)?, word(bytes, 16)?);
        let right = bytes.get(1) == Some(&MAGIC) && long(bytes, 8)? == self.header.start.0.checked_add(at as u64)?;
        let length = if flags & LONG == 0 { SHORT_HEADER } else { LONG_HEADER };
        (right && (flags & LONG != 0) == (at == 0)).then_some((flags, left as usize, length))
    }

    fn rest_of_the_one_before(&mut self) -> Next {
        let Some((flags, left, length)) = self.page(0) else { return Next::Wrong };
        self.at = length;
        if flags & CONTINUES == 0 { Next::Skipped } else { self.take(left, None) }
    }

    /// Takes the next `wanted` bytes of a record, page by page.
    fn take(&mut self, mut wanted: usize, mut into: Option<&mut Vec<u8>>) -> Next {
        loop {
            let page_ends = (self.at / self.header.page_bytes + 1) * self.header.page_bytes;
            let here = wanted.min(page_ends - self.at);
            let Some(bytes) = self.bytes.get(self.at..self.at + here) else { return Next::Cut };
            if let Some(into) = &mut into {
                into.extend_from_slice(bytes);
            }
            self.at += here;
            wanted -= here;
            if wanted == 0 {
                self.at = self.at.next_multiple_of(8);
                return if into.is_some() { Next::Record } else { Next::Skipped };
            }
            if self.at >= self.bytes.len() {
                return Next::Cut;
            }
            match self.page(self.at) {
                // It was given up in the middle: what follows is another record.
                Some((flags, ..)) if flags & CONTINUES == 0 => return Next::Skipped,
                Some((_, left, length)) if left == wanted => self.at += length,
                Some(_) | None => return Next::Wrong,
            }
        }
    }

    fn record(&mut self, record: &mut Vec<u8>) -> Next {
        if self.at >= self.bytes.len() {
            return Next::Cut;
        }
        if self.at.is_multiple_of(self.header.page_bytes) {
            match self.page(self.at) {
                Some((flags, _, length)) if flags & CONTINUES == 0 => self.at += length,
                Some(_) | None => return Next::Wrong,
            }
        }
        record.clear();
        let length = word(self.bytes, self.at).unwrap_or(0) as usize;
        if length < RECORD_HEADER {
            return Next::Wrong;
        }
        match self.take(length, Some(record)) {
            Next::Record if is_right(record) => Next::Record,
            Next::Record => Next::Wrong,
            other => other,
        }
    }
}

/// The record's checksum: of what follows the header, then of the header up to the checksum itself.
fn is_right(record: &[u8]) -> bool {
    let body = crc32c::crc32c(record.get(RECORD_HEADER..).unwrap_or_default());
    let all = crc32c::crc32c_append(body, record.get(..20).unwrap_or_default());
    word(record, 20) == Some(all)
}

/// When the transaction committed, if the record is that of a commit.
fn committed_at(record: &[u8]) -> Option<Timestamp> {
    let (info, manager) = (*record.get(16)?, *record.get(17)?);
    if manager != OF_TRANSACTIONS || !COMMITS.contains(&(info & 0x70)) {
        return None;
    }
    let microseconds = long(record, main_data(record)?)?.cast_signed();
    let since = SignedDuration::from_micros(microseconds).checked_add(SignedDuration::from_secs(POSTGRES_EPOCH))?;
    Timestamp::UNIX_EPOCH.checked_add(since).ok()
}

/// The name of a restore point, if the record makes one: a time, and 64 bytes that end with the first zero.
fn restore_point(record: &[u8]) -> Option<String> {
    let (info, manager) = (*record.get(16)?, *record.get(17)?);
    if manager != OF_LOG || info & 0xF0 != RESTORE_POINT {
        return None;
    }
    let at = main_data(record)? + 8;
    let name = record.get(at..at + 64)?.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(name).into_owned())
}

/// Where a record's main data begin: behind the headers of what it holds. None if it touches pages, as commits and the log's own do not.
fn main_data(record: &[u8]) -> Option<usize> {
    let mut at = RECORD_HEADER;
    loop {
        match *record.get(at)? {
            0xFF => return Some(at + 2),
            0xFE => return Some(at + 5),
            0xFD => at += 3,
            0xFC => at += 5,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 8192;

    /// A segment of 1 MiB with these records, each given by info, manager and main data; zeros behind them.
    fn segment(records: &[(u8, u8, Vec<u8>)]) -> Vec<u8> {
        let start = 0x0500_0000_u64;
        let page_header = |at: usize, left: usize| {
            let mut header = vec![0x10, MAGIC];
            let flags = (u16::from(left > 0) * CONTINUES) | (u16::from(at == 0) * LONG);
            header.extend_from_slice(&flags.to_le_bytes());
            header.extend_from_slice(&1_u32.to_le_bytes());
            header.extend_from_slice(&(start + at as u64).to_le_bytes());
            header.extend_from_slice(&u32::try_from(left).unwrap().to_le_bytes());
            header.resize(SHORT_HEADER, 0);
            if at == 0 {
                header.extend_from_slice(&77_u64.to_le_bytes());
                header.extend_from_slice(&(1_u32 << 20).to_le_bytes());
                header.extend_from_slice(&8192_u32.to_le_bytes());
            }
            header
        };
        let mut bytes = page_header(0, 0);
        for (info, manager, data) in records {
            let mut record = vec![];
            let short = data.len() < 256;
            let head = if short { 2 } else { 5 };
            record.extend_from_slice(&u32::try_from(RECORD_HEADER + head + data.len()).unwrap().to_le_bytes());
            record.resize(16, 0);
            record.extend_from_slice(&[*info, *manager, 0, 0, 0, 0, 0, 0]);
            if short {
                record.extend_from_slice(&[0xFF, u8::try_from(data.len()).unwrap()]);
            } else {
                record.push(0xFE);
                record.extend_from_slice(&u32::try_from(data.len()).unwrap().to_le_bytes());
            }
            record.extend_from_slice(data);
            let crc = crc32c::crc32c_append(crc32c::crc32c(&record[RECORD_HEADER..]), &record[..20]);
            record[20..24].copy_from_slice(&crc.to_le_bytes());
            let mut rest = record.as_slice();
            while !rest.is_empty() {
                if bytes.len() % PAGE == 0 {
                    let left = if rest.len() == record.len() { 0 } else { rest.len() };
                    let header = page_header(bytes.len(), left);
                    bytes.extend_from_slice(&header);
                }
                let here = rest.len().min(PAGE - bytes.len() % PAGE);
                bytes.extend_from_slice(&rest[..here]);
                rest = &rest[here..];
            }
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        bytes.resize(1 << 20, 0);
        bytes
    }

    fn commit(at: &str) -> (u8, u8, Vec<u8>) {
        let at: Timestamp = at.parse().unwrap();
        let micros = at.as_microsecond() - POSTGRES_EPOCH * 1_000_000;
        (0x80, OF_TRANSACTIONS, [micros.to_le_bytes().as_slice(), &[0; 12]].concat())
    }

    fn other(length: usize) -> (u8, u8, Vec<u8>) {
        (0, 10, vec![7; length])
    }

    const EARLY: &str = "2026-01-31T03:00:00.000001Z";
    const LATE: &str = "2026-01-31T03:00:05Z";

    #[test]
    fn commits_are_found_across_pages_and_the_end_is_exact() {
        let records = [other(100), commit(EARLY), other(20_000), other(8_000), commit(LATE), other(300)];
        let bytes = segment(&records);
        let (header, contents) = scan(&bytes).unwrap();
        assert_eq!((header.system_identifier, header.segment_bytes, header.timeline), (77, 1 << 20, 1));
        assert_eq!(contents.first_commit.unwrap().at.to_string(), EARLY);
        assert_eq!(contents.last_commit.unwrap().at.to_string(), LATE);
        assert!(!contents.whole && contents.last_commit.unwrap().lsn < contents.end);
        // One wrong byte in the last record: it is not counted, those before are.
        let mut damaged = bytes.clone();
        let last = usize::try_from(contents.end.0 - contents.start.0).unwrap();
        damaged[last - 10] ^= 1;
        let (_, less) = scan(&damaged).unwrap();
        assert!(less.end < contents.end && less.last_commit == contents.last_commit, "{less:?}");
        // And in the one before it.
        let at = usize::try_from(contents.last_commit.unwrap().lsn.0 - contents.start.0).unwrap();
        damaged[at - 10] ^= 1;
        assert_eq!(scan(&damaged).unwrap().1.last_commit.unwrap().at.to_string(), EARLY);
    }

    #[test]
    fn commits_count_by_their_time_and_not_by_their_place() {
        let (_, contents) = scan(&segment(&[commit(LATE), commit(EARLY), other(9)])).unwrap();
        let (first, last) = (contents.first_commit.unwrap(), contents.last_commit.unwrap());
        assert_eq!((first.at.to_string(), last.at.to_string()), (EARLY.to_owned(), LATE.to_owned()));
        assert!(first.lsn > last.lsn);
        let aborted = (0x80 | 0x20, OF_TRANSACTIONS, commit(LATE).2);
        assert_eq!(scan(&segment(&[aborted, other(5)])).unwrap().1.last_commit, None);
    }

    #[test]
    fn a_segment_is_whole_to_its_end_or_to_a_switch() {
        let filling = || std::iter::repeat_with(|| other(4_000)).take(300).collect::<Vec<_>>();
        let mut full = segment(&filling());
        full.truncate(1 << 20);
        let (_, contents) = scan(&full).unwrap();
        assert!(contents.whole && contents.end.0 > contents.start.0 + (1 << 20) - 5_000, "{contents:?}");
        // The same, and the file was cut short.
        full.truncate(1 << 19);
        assert!(!scan(&full).unwrap().1.whole);
        assert!(scan(&segment(&[other(3), (SWITCH, OF_LOG, vec![]), other(3)])).unwrap().1.whole);
        assert!(!scan(&segment(&[other(3)])).unwrap().1.whole);
    }

    #[test]
    fn a_record_that_was_given_up_hides_none_behind_it() {
        let mut bytes = segment(&[other(8_100), other(500), commit(LATE)]);
        // The second page says that it continues nothing: as after a crash in the middle of a record. Behind its header another begins.
        let fresh = segment(&[commit(EARLY)]);
        bytes[PAGE + 2..PAGE + 4].copy_from_slice(&0_u16.to_le_bytes());
        bytes.splice(PAGE + SHORT_HEADER.., fresh[LONG_HEADER..].iter().copied());
        bytes.resize(1 << 20, 0);
        assert_eq!(scan(&bytes).unwrap().1.last_commit.unwrap().at.to_string(), EARLY);
    }

    #[test]
    fn restore_points_are_known_by_name() {
        let mut data = vec![0; 72];
        data[8..20].copy_from_slice(b"before again");
        let (_, contents) = scan(&segment(&[other(3), (RESTORE_POINT, OF_LOG, data), other(3)])).unwrap();
        assert_eq!(contents.restore_points.len(), 1);
        assert_eq!(contents.restore_points[0].0, "before again");
        assert!(contents.restore_points[0].1 < contents.end);
    }

    #[test]
    fn what_is_no_segment_is_refused() {
        let good = segment(&[commit(EARLY)]);
        for (says, at, byte) in
            [("magic", 1, 0), ("long header", 2, 0), ("fit", 34, 3), ("fit", 9, 1), ("pages", 37, 1)]
        {
            let mut bytes = good.clone();
            bytes[at] = byte;
            let error = scan(&bytes).unwrap_err().to_string();
            assert!(error.contains(says), "{says}: {error}");
        }
        for length in [0, 1, 39] {
            assert!(scan(&good[..length]).is_err());
        }
        assert!(scan(&good[..40]).is_ok());
    }
}
