//! The write-ahead log in files: what they are called, and what is written down about each that is in a store.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ids::{BadId, PolicyName};
use super::lsn::Lsn;
use super::observed::Observed;
use super::units::ByteSize;

/// The `format` of a record.
pub const WAL_FORMAT: &str = "lifeboat.wal/1";
/// Lengths that a segment may have: powers of two from 1 MiB to 1 GiB.
pub const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 30;

/// A file that PostgreSQL archives, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum WalName {
    /// A segment: `000000010000000A000000FF`.
    Segment(Segment),
    /// Where a timeline branched off: `00000002.history`.
    History {
        /// The timeline that begins there.
        timeline: u32,
    },
    /// What the end of a base backup leaves: `000000010000000000000003.00000028.backup`.
    Label {
        /// The segment in which the backup begins.
        segment: Segment,
        /// Where in it.
        offset: u32,
    },
    /// A segment that was not full when its timeline ended: `000000010000000A000000FF.partial`.
    Partial(Segment),
    /// A stretch of a segment that the server has not finished yet: `000000010000000A000000FF.00000000-0001F4A8.piece`.
    Piece(Piece),
}

/// A stretch of a segment, in bytes from its beginning. Those of one segment, put end to end, are its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Piece {
    /// Of which segment.
    pub segment: Segment,
    /// The first byte.
    pub from: u32,
    /// The first byte behind it.
    pub to: u32,
}

/// A segment's name: which it is depends on how long segments are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Segment {
    /// Its timeline.
    pub timeline: u32,
    /// The upper half of its place in the log.
    pub log: u32,
    /// Which segment of the 4 GiB that begin there.
    pub segment: u32,
}

impl Segment {
    /// The segment that `lsn` lies in.
    pub fn holding(timeline: u32, lsn: Lsn, segment_bytes: u64) -> Segment {
        // Both halves have 32 bits: a segment is at least 1 MiB long.
        let (log, within) = (lsn.0 >> 32, lsn.0 & 0xFFFF_FFFF);
        let half = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Segment { timeline, log: half(log), segment: half(within / segment_bytes.max(1)) }
    }

    /// Where it begins; none if no segment of that length has such a name.
    pub fn start(&self, segment_bytes: u64) -> Option<Lsn> {
        let within = u64::from(self.segment).checked_mul(segment_bytes)?;
        (is_segment_length(segment_bytes) && within < 1 << 32).then(|| Lsn((u64::from(self.log) << 32) + within))
    }

    /// The one after it, on the same timeline; none at the very end of the log.
    pub fn next(&self, segment_bytes: u64) -> Option<Segment> {
        let after = self.start(segment_bytes)?.0.checked_add(segment_bytes)?;
        Some(Segment::holding(self.timeline, Lsn(after), segment_bytes))
    }
}

/// Whether PostgreSQL can have segments of this length.
pub fn is_segment_length(bytes: u64) -> bool {
    SEGMENT_BYTES.contains(&bytes) && bytes.is_power_of_two()
}

impl WalName {
    /// The timeline whose folder it belongs in.
    pub fn timeline(&self) -> u32 {
        match self {
            WalName::Segment(segment) | WalName::Partial(segment) | WalName::Label { segment, .. } => segment.timeline,
            WalName::Piece(piece) => piece.segment.timeline,
            WalName::History { timeline } => *timeline,
        }
    }
}

/// Of pieces of one segment those that, put end to end, reach furthest from its beginning without a gap.
pub fn chain(pieces: &[Piece]) -> Vec<Piece> {
    // The piece behind which each place can be reached, the first way that was found.
    let mut ways: BTreeMap<u32, Option<Piece>> = BTreeMap::from([(0, None)]);
    let mut sorted = pieces.to_vec();
    sorted.sort_by_key(|piece| (piece.from, std::cmp::Reverse(piece.to)));
    for piece in sorted.into_iter().filter(|piece| piece.from < piece.to) {
        if ways.contains_key(&piece.from) {
            ways.entry(piece.to).or_insert(Some(piece));
        }
    }
    let mut found = Vec::new();
    let mut at = ways.keys().next_back().copied();
    while let Some(piece) = at.and_then(|place| ways.get(&place).copied().flatten()) {
        found.push(piece);
        at = Some(piece.from);
    }
    found.reverse();
    found
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}{:08X}{:08X}", self.timeline, self.log, self.segment)
    }
}

impl fmt::Display for WalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WalName::Segment(segment) => write!(f, "{segment}"),
            WalName::History { timeline } => write!(f, "{timeline:08X}.history"),
            WalName::Label { segment, offset } => write!(f, "{segment}.{offset:08X}.backup"),
            WalName::Partial(segment) => write!(f, "{segment}.partial"),
            WalName::Piece(Piece { segment, from, to }) => write!(f, "{segment}.{from:08X}-{to:08X}.piece"),
        }
    }
}

/// Exactly eight upper-case hexadecimal digits, as PostgreSQL writes them.
fn eight(text: &str) -> Option<u32> {
    let digits = text.len() == 8 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
    digits.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

fn segment(text: &str) -> Option<Segment> {
    let parts = (text.get(..8)?, text.get(8..16)?, text.get(16..)?);
    // There is no timeline 0.
    let timeline = eight(parts.0).filter(|timeline| *timeline > 0)?;
    Some(Segment { timeline, log: eight(parts.1)?, segment: eight(parts.2)? })
}

fn piece(name: &str, stretch: &str) -> Option<WalName> {
    let (from, to) = stretch.split_once('-')?;
    let piece = Piece { segment: segment(name)?, from: eight(from)?, to: eight(to)? };
    (piece.from < piece.to && u64::from(piece.to) <= *SEGMENT_BYTES.end()).then_some(WalName::Piece(piece))
}

impl FromStr for WalName {
    type Err = BadId;

    fn from_str(text: &str) -> Result<WalName, BadId> {
        let parsed = match text.split_once('.') {
            None => segment(text).map(WalName::Segment),
            Some((name, "history")) => {
                eight(name).filter(|timeline| *timeline > 0).map(|timeline| WalName::History { timeline })
            }
            Some((name, "partial")) => segment(name).map(WalName::Partial),
            Some((name, rest)) => match rest.strip_suffix(".piece") {
                Some(stretch) => piece(name, stretch),
                None => rest
                    .strip_suffix(".backup")
                    .and_then(eight)
                    .zip(segment(name))
                    .map(|(offset, segment)| WalName::Label { segment, offset }),
            },
        };
        let rule = "such as 000000010000000A000000FF, 00000002.history";
        parsed.ok_or_else(|| BadId { text: text.to_owned(), what: "name of a file of the log", rule })
    }
}

impl FromStr for Segment {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Segment, BadId> {
        let rule = "24 hexadecimal digits: 000000010000000A000000FF";
        segment(text).ok_or_else(|| BadId { text: text.to_owned(), what: "name of a segment", rule })
    }
}

impl From<Segment> for String {
    fn from(segment: Segment) -> String {
        segment.to_string()
    }
}

impl TryFrom<String> for Segment {
    type Error = BadId;

    fn try_from(text: String) -> Result<Segment, BadId> {
        text.parse()
    }
}

impl From<WalName> for String {
    fn from(name: WalName) -> String {
        name.to_string()
    }
}

impl TryFrom<String> for WalName {
    type Error = BadId;

    fn try_from(text: String) -> Result<WalName, BadId> {
        text.parse()
    }
}

/// A commit (or an abort) that the log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// When, by the source's clock.
    pub at: Timestamp,
    /// Where its record ends: what a recovery must reach to have it.
    pub lsn: Lsn,
}

/// What a segment was seen to hold while it was sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    /// Where it begins.
    pub start: Lsn,
    /// Where the last whole record ends that begins in it.
    pub end: Lsn,
    /// Whether right records fill it up to its end, or to where the server switched to the next one.
    pub whole: bool,
    /// The earliest and the latest commit of which all is in it. One that lies across two segments is in neither.
    pub first_commit: Option<Commit>,
    /// See there.
    pub last_commit: Option<Commit>,
    /// Restore points that were named in it (`pg_create_restore_point`), and where their records end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restore_points: Vec<(String, Lsn)>,
}

/// What is known about a file of the log in a store. It is written last and signed: without it the file is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalRecord {
    /// [`WAL_FORMAT`].
    pub format: String,
    /// Whose.
    pub policy: PolicyName,
    /// Of which cluster. None for a file that does not say (a history, a label) when nobody else did.
    pub system_identifier: Option<String>,
    /// What it is called.
    pub name: WalName,
    /// Its object, from the log's own folder in the store: `00000001/000000010000000A000000FF.zst.age`.
    pub key: String,
    /// Length of the plaintext.
    pub plain_bytes: u64,
    /// BLAKE3 of the plaintext, hexadecimal.
    pub plain_blake3: String,
    /// Length of the object.
    pub sealed_bytes: u64,
    /// SHA-256 of the object, hexadecimal.
    pub sealed_sha256: String,
    /// What a segment holds; of a piece: what its segment holds from its beginning to the end of this piece.
    pub contents: Option<Contents>,
    /// When it was sealed, by the runner's clock. Never taken for a recovery point.
    pub sealed_at: Timestamp,
    /// When it came into the store, if it waited in a spool until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_at: Option<Timestamp>,
}

impl WalRecord {
    /// The moment before which the store certainly did not have it.
    pub fn stored(&self) -> Timestamp {
        self.stored_at.unwrap_or(self.sealed_at)
    }
}

/// Files of the log that wait in a spool: the store does not have them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// The folder.
    pub dir: PathBuf,
    /// How many.
    pub files: u64,
    /// How long they are together, sealed.
    pub bytes: ByteSize,
    /// When the oldest was put there, by the runner's clock.
    pub since: Timestamp,
    /// How much more the folder takes.
    pub room: ByteSize,
    /// How much it takes in all.
    pub max: ByteSize,
}

/// What a source says of its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLog {
    /// Of which cluster.
    pub system_identifier: String,
    /// Its clock.
    pub clock: Timestamp,
    /// How long its segments are.
    pub segment_bytes: u64,
    /// The segment that is being written: all before it on its timeline are finished.
    pub current: Segment,
    /// What its archiver did; none: archiving is off.
    pub archiver: Option<Archived>,
    /// The segments that it still has, finished or not.
    pub finished: Observed<Vec<Finished>>,
    /// Whether somebody receives under the policy's slot; none: there is no such slot.
    pub receiver: Option<bool>,
}

/// What an archiver did last with a segment, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Archived {
    /// It was told of success.
    pub last: Option<(Segment, Timestamp)>,
    /// It was not.
    pub failed: Option<(Segment, Timestamp)>,
}

/// A segment in a source's folder of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Which.
    pub segment: Segment,
    /// When it was last written to.
    pub at: Timestamp,
    /// Whether it waits to be archived.
    pub ready: bool,
}

/// A timeline's ancestors, as its history file has them: each with the place at which the next one branched off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// From the first on.
    pub ancestors: Vec<(u32, Lsn)>,
}

impl History {
    /// Reads a history file: a timeline, a place, and words on each line; `#` begins a comment.
    pub fn parse(text: &str) -> Result<History, String> {
        let mut ancestors: Vec<(u32, Lsn)> = Vec::new();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with('#')) {
            let mut words = line.split_whitespace();
            let Some(timeline) = words.next() else { continue };
            let wrong = |why: &str| format!("line {}: {why}", at + 1);
            let timeline: u32 = timeline.parse().map_err(|_| wrong("it does not begin with a timeline"))?;
            let place = words.next().and_then(|word| word.parse::<Lsn>().ok());
            let place = place.ok_or_else(|| wrong("no place in the log follows the timeline"))?;
            if ancestors.last().is_some_and(|(before, from)| *before >= timeline || *from > place) {
                return Err(wrong("timelines and places must grow from line to line"));
            }
            ancestors.push((timeline, place));
        }
        Ok(History { ancestors })
    }

    /// The timeline that `lsn` lies on, for a server that follows `newest`.
    pub fn timeline_at(&self, lsn: Lsn, newest: u32) -> u32 {
        self.ancestors.iter().find(|(_, until)| lsn < *until).map_or(newest, |(timeline, _)| *timeline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_postgresql_and_no_others() {
        for text in [
            "000000010000000A000000FF",
            "00000002.history",
            "000000010000000000000003.00000028.backup",
            "0000000A0000000000000003.partial",
            "000000010000000A000000FF.00000000-0001F4A8.piece",
        ] {
            let name = text.parse::<WalName>().unwrap();
            assert_eq!((name.to_string(), String::from(name)), (text.to_owned(), text.to_owned()));
            assert_eq!(format!("{:08X}", name.timeline()), text[..8]);
        }
        for text in [
            "",
            ".history",
            "000000000000000A000000FF",
            "00000000.history",
            "000000010000000a000000ff",
            "000000010000000A000000FF0",
            "000000010000000A000000F",
            "../0000010000000A000000FF",
            "000000010000000A000000FF.gz",
            "000000010000000A000000FF.28.backup",
            "00000002.history.partial",
            "000000010000000A000000FF.0001F4A8-0001F4A8.piece",
            "000000010000000A000000FF.00000000-40000001.piece",
            "000000010000000A000000FF.0-1.piece",
            "ä000000010000000A000000F",
        ] {
            assert!(text.parse::<WalName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn pieces_are_put_end_to_end_as_far_as_there_is_no_gap() {
        let segment = Segment { timeline: 1, log: 0, segment: 3 };
        let chained = |pieces: &[(u32, u32)]| {
            let pieces: Vec<Piece> = pieces.iter().map(|(from, to)| Piece { segment, from: *from, to: *to }).collect();
            chain(&pieces).iter().map(|piece| (piece.from, piece.to)).collect::<Vec<_>>()
        };
        assert_eq!(chained(&[]), []);
        assert_eq!(chained(&[(5, 9)]), []);
        assert_eq!(chained(&[(5, 9), (0, 5), (10, 12)]), [(0, 5), (5, 9)]);
        // What a longer one has made superfluous is passed over.
        assert_eq!(chained(&[(0, 5), (5, 9), (0, 9), (9, 12)]), [(0, 9), (9, 12)]);
        // The longest first step is not always the way that leads furthest.
        assert_eq!(chained(&[(0, 9), (0, 5), (5, 20)]), [(0, 5), (5, 20)]);
    }

    #[test]
    fn segments_follow_each_other_whatever_their_length() {
        for megabytes in [1_u64, 16, 64, 1024] {
            let bytes = megabytes << 20;
            let last = Segment { timeline: 3, log: 7, segment: u32::try_from((1 << 32) / bytes - 1).unwrap() };
            assert_eq!(last.next(bytes).unwrap(), Segment { timeline: 3, log: 8, segment: 0 });
            let start = last.start(bytes).unwrap();
            assert_eq!(start, Lsn((8 << 32) - bytes));
            for lsn in [start.0, start.0 + bytes - 1] {
                assert_eq!(Segment::holding(3, Lsn(lsn), bytes), last);
            }
            assert_ne!(Segment::holding(3, Lsn(start.0 + bytes), bytes), last);
            assert_eq!(Segment { segment: last.segment + 1, ..last }.start(bytes), None);
        }
        let end = Segment { timeline: 1, log: u32::MAX, segment: 255 };
        assert_eq!(end.next(16 << 20), None);
        for bytes in [0, 1, 3 << 20, 2 << 30] {
            assert_eq!(end.start(bytes), None, "{bytes}");
        }
    }

    #[test]
    fn a_history_says_which_timeline_a_place_lies_on() {
        let text = "1\t0/3000000\tbefore 2026-01-31\n\n# made by hand\n2\t0/5000060\tno recovery target specified\n";
        let history = History::parse(text).unwrap();
        for (lsn, timeline) in
            [(0, 1), (0x2FF_FFFF, 1), (0x300_0000, 2), (0x500_005F, 2), (0x500_0060, 4), (1 << 40, 4)]
        {
            assert_eq!(history.timeline_at(Lsn(lsn), 4), timeline, "{lsn:x}");
        }
        assert_eq!(History::parse("").unwrap().timeline_at(Lsn(5), 1), 1);
        // A timeline may be left where it began.
        assert_eq!(History::parse("1 0/3\n2 0/3").unwrap().timeline_at(Lsn(3), 3), 3);
        for text in ["x 0/0", "1", "1 here", "2 0/1\n1 0/2", "1 0/2\n2 0/1", "1 0/1\n1 0/2"] {
            assert!(History::parse(text).is_err(), "{text:?}");
        }
    }
}
