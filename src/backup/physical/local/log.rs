//! Which segments of the log a backup needs, and whether a file is the segment that its name says.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::super::label;
use super::file;
use super::mode::Stopped;
use crate::domain::artifact::WalRange;
use crate::domain::check::Broke;

/// A segment of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The file's name in `pg_wal`.
    pub name: String,
    timeline: u32,
    /// Where in the log it begins.
    begins: u64,
}

/// The stretch of the log that the backup needs, from what the server said when it ended.
pub fn range(stopped: &Stopped) -> Result<WalRange, Broke> {
    let start = label::start_of(stopped.label.as_bytes())?;
    let timeline = label::timeline_of(stopped.label.as_bytes())?;
    if start > stopped.end {
        return Err(Broke::hinted(
            format!("the source says that the backup began at {start} and ended at {}", stopped.end),
            "take it again; the server may have been restarted meanwhile",
        ));
    }
    Ok(WalRange { timeline, start, end: stopped.end })
}

/// The segments that hold it.
pub fn segments(wal: &WalRange, segment_bytes: u64) -> Vec<Segment> {
    // A log of 4 GiB has so many segments: their numbers are written in two halves.
    let in_one_log = (1 << 32) / segment_bytes;
    // The end is where the next record would begin.
    let last = wal.end.0.saturating_sub(1).max(wal.start.0) / segment_bytes;
    (wal.start.0 / segment_bytes..=last)
        .map(|number| Segment {
            name: format!("{:08X}{:08X}{:08X}", wal.timeline, number / in_one_log, number % in_one_log),
            timeline: wal.timeline,
            begins: number * segment_bytes,
        })
        .collect()
}

impl Segment {
    /// Opens it; a file that is missing, has another length or holds another stretch (it was recycled) is an error.
    pub fn open(&self, pg_wal: &Path, segment_bytes: u64) -> Result<File, Broke> {
        let opened = file::open(&pg_wal.join(&self.name)).and_then(|file| {
            let right = file.metadata()?.len() == segment_bytes && self.is_in(&file)?;
            if right { Ok(file) } else { Err(io::Error::other("it holds another stretch of the log")) }
        });
        opened.map_err(|error| {
            Broke::hinted(
                format!("the segment {} of the log, which the backup needs, cannot be used: {error}", self.name),
                "the source must keep its log while a backup is taken: raise max_slot_wal_keep_size; take it again",
            )
        })
    }

    /// Its first page says which stretch it is (`XLogPageHeaderData`: magic, flags, timeline, address). The timeline may be an
    /// older one, from which the segment was copied.
    fn is_in(&self, file: &File) -> io::Result<bool> {
        let mut head = [0; 16];
        file.read_exact_at(&mut head, 0)?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let address = u64::from(word(12)) << 32 | u64::from(word(8));
        Ok(address == self.begins && (1..=self.timeline).contains(&word(4)))
    }
}

/// `00000002.history`.
pub fn is_history(name: &str) -> bool {
    name.strip_suffix(".history")
        .is_some_and(|stem| stem.len() == 8 && stem.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::lsn::Lsn;

    fn names(start: u64, end: u64, segment_bytes: u64) -> Vec<String> {
        let wal = WalRange { timeline: 3, start: Lsn(start), end: Lsn(end) };
        segments(&wal, segment_bytes).into_iter().map(|one| one.name).collect()
    }

    #[test]
    fn segments_of_every_size_are_named() {
        assert_eq!(names(0x200_0028, 0x200_0100, 16 << 20), ["000000030000000000000002"]);
        // An end at the border needs nothing of the next.
        assert_eq!(names(0x200_0028, 0x300_0000, 16 << 20), ["000000030000000000000002"]);
        assert_eq!(names(0x200_0028, 0x300_0001, 16 << 20), ["000000030000000000000002", "000000030000000000000003"]);
        assert_eq!(
            names(0xffff_ff00, 0x1_0000_0028, 16 << 20),
            ["0000000300000000000000FF", "000000030000000100000000"]
        );
        assert_eq!(names(0x410_0028, 0x410_0100, 1 << 20), ["000000030000000000000041"]);
        assert_eq!(names(0x1_0410_0028, 0x1_0410_0100, 64 << 20), ["000000030000000100000001"]);
    }

    #[test]
    fn a_recycled_segment_is_not_the_one_that_its_name_says() {
        let folder = tempfile::tempdir().unwrap();
        let wal = WalRange { timeline: 1, start: Lsn(0x200_0028), end: Lsn(0x200_0100) };
        let segment = segments(&wal, 1 << 20).remove(0);
        let mut bytes = vec![0; 1 << 20];
        bytes[4..8].copy_from_slice(&1_u32.to_le_bytes());
        bytes[8..16].copy_from_slice(&0x200_0000_u64.to_le_bytes());
        let place = folder.path().join(&segment.name);
        std::fs::write(&place, &bytes).unwrap();
        assert!(segment.open(folder.path(), 1 << 20).is_ok());
        assert!(segment.open(folder.path(), 2 << 20).is_err(), "its length");
        bytes[8..16].copy_from_slice(&0x100_0000_u64.to_le_bytes());
        std::fs::write(&place, &bytes).unwrap();
        assert!(segment.open(folder.path(), 1 << 20).is_err(), "its address");
        std::fs::remove_file(&place).unwrap();
        assert!(segment.open(folder.path(), 1 << 20).unwrap_err().error.contains(&segment.name));
    }

    #[test]
    fn history_files_are_known() {
        assert!(is_history("00000002.history"));
        assert!(!is_history("2.history") && !is_history("000000010000000000000001") && !is_history("0000000x.history"));
    }
}
