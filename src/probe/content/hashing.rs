//! Rows to sums.

use super::Choice;
use super::copy::{BinaryCopy, Rows};
use crate::domain::inventory::Content;
use crate::probe::ProbeError;

/// Stands in front of each digest. Whoever changes what is hashed, or how, gives it another name: digests of two methods are never compared.
const METHOD: &str = "lb2";

/// 64-bit numbers that are taken of each row.
const LANES: usize = 16;

/// What a row begins with: an int2 (its length, its value) of these bits.
const MARK_BYTES: usize = 6;
/// The row belongs to the snapshot.
pub(super) const KEPT: u8 = 1;
/// It was written by a transaction that was not over at the source's snapshot.
pub(super) const MEANWHILE: u8 = 2;
/// It was written by the restored server itself.
pub(super) const OWN: u8 = 4;
/// It goes into the digest.
pub(super) const CHOSEN: u8 = 8;

/// What was found in some rows: adds up over the ranges of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) rows: u64,
    pub(super) digested: u64,
    lanes: [u128; LANES],
    pub(super) meanwhile: u64,
    pub(super) own: u64,
}

impl Sums {
    /// Sums of 64-bit numbers do not reach the end of 128 bits before 2^64 rows: wrapping is not reached. It is chosen over
    /// panicking because both sides would wrap alike.
    pub(super) fn add(&mut self, other: &Sums) {
        self.rows += other.rows;
        self.digested += other.digested;
        for (lane, more) in self.lanes.iter_mut().zip(other.lanes) {
            *lane = lane.wrapping_add(more);
        }
        self.meanwhile += other.meanwhile;
        self.own += other.own;
    }

    /// Rows that are only counted, all of this mark.
    pub(super) fn count(&mut self, mark: u8, rows: u64) {
        for (bit, counted) in [(KEPT, &mut self.rows), (MEANWHILE, &mut self.meanwhile), (OWN, &mut self.own)] {
            if mark & bit != 0 {
                *counted += rows;
            }
        }
    }

    pub(super) fn content(&self, Choice { percent, pages }: Choice) -> Content {
        let mut hasher = blake3::Hasher::new_derive_key("lifeboat lb2: the digest of a table");
        hasher.update(&self.digested.to_be_bytes());
        for lane in self.lanes {
            hasher.update(&lane.to_be_bytes());
        }
        let digest = format!("{METHOD}:{}", hasher.finalize().to_hex());
        Content { rows: self.rows, digested: self.digested, percent, pages, digest }
    }
}

/// Hashes the rows of one `COPY`.
pub(super) struct Hashing {
    copy: BinaryCopy,
    rows: RowSums,
}

impl Hashing {
    /// Of rows of so many fields, the mark among them.
    pub(super) fn new(fields: u16) -> Hashing {
        let hasher = blake3::Hasher::new_derive_key("lifeboat lb2: a row");
        let rows = RowSums { sums: Sums::default(), hasher, mark: [0; MARK_BYTES], marked: 0, unmarked: false };
        Hashing { copy: BinaryCopy::new(fields), rows }
    }

    pub(super) fn feed(&mut self, chunk: &[u8]) -> Result<(), ProbeError> {
        self.copy.feed(chunk, &mut self.rows).map_err(|bad| answer(bad.to_string()))
    }

    /// The sums, if the stream came to its end and each row was as asked for.
    pub(super) fn finish(self) -> Result<Sums, ProbeError> {
        self.copy.finish().map_err(|bad| answer(bad.to_string()))?;
        if self.rows.unmarked { Err(answer("a row came without its mark".to_owned())) } else { Ok(self.rows.sums) }
    }
}

fn answer(why: String) -> ProbeError {
    ProbeError::Answer { doing: "reading rows".to_owned(), why }
}

struct RowSums {
    sums: Sums,
    hasher: blake3::Hasher,
    mark: [u8; MARK_BYTES],
    /// So many bytes of the mark are here.
    marked: usize,
    unmarked: bool,
}

impl RowSums {
    fn has(&self, bit: u8) -> bool {
        self.mark[MARK_BYTES - 1] & bit != 0
    }
}

impl Rows for RowSums {
    fn bytes(&mut self, span: &[u8]) {
        let (mark, values) = span.split_at(span.len().min(MARK_BYTES - self.marked));
        for (to, byte) in self.mark.iter_mut().skip(self.marked).zip(mark) {
            *to = *byte;
        }
        self.marked += mark.len();
        if self.marked == MARK_BYTES && self.has(CHOSEN) {
            self.hasher.update(values);
        }
    }

    fn end(&mut self) {
        self.unmarked |= self.marked < MARK_BYTES || self.mark[..MARK_BYTES - 1] != [0, 0, 0, 2, 0];
        self.sums.rows += u64::from(self.has(KEPT));
        self.sums.meanwhile += u64::from(self.has(MEANWHILE));
        self.sums.own += u64::from(self.has(OWN));
        if self.has(CHOSEN) {
            let mut bytes = [0; LANES * 8];
            self.hasher.finalize_xof().fill(&mut bytes);
            self.hasher.reset();
            let (numbers, _) = bytes.as_chunks::<8>();
            for (lane, number) in self.sums.lanes.iter_mut().zip(numbers) {
                *lane = lane.wrapping_add(u128::from(u64::from_be_bytes(*number)));
            }
            self.sums.digested += 1;
        }
        self.marked = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(rows: &[(u8, &[u8])]) -> Result<Sums, ProbeError> {
        let mut stream = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
        for (mark, value) in rows {
            stream.extend_from_slice(&[0, 2, 0, 0, 0, 2, 0, *mark]);
            stream.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
            stream.extend_from_slice(value);
        }
        stream.extend_from_slice(&[0xFF, 0xFF]);
        let all = |size: usize| {
            let mut hashing = Hashing::new(2);
            stream.chunks(size).try_for_each(|chunk| hashing.feed(chunk))?;
            hashing.finish()
        };
        let whole = all(stream.len())?;
        for size in 1..20 {
            assert_eq!(all(size)?, whole, "cut every {size} bytes");
        }
        Ok(whole)
    }

    #[test]
    fn marks_say_what_is_counted_and_what_is_hashed() {
        let all = KEPT | CHOSEN;
        let base = sums(&[(all, b"a"), (all, b"b"), (MEANWHILE | OWN, b"c"), (KEPT, b"d")]).unwrap();
        assert_eq!((base.rows, base.digested, base.meanwhile, base.own), (3, 2, 1, 1));
        let digest = |rows: &[(u8, &[u8])]| sums(rows).unwrap().content(Choice::ALL).digest;
        let two = digest(&[(all, b"a"), (all, b"b")]);
        assert_eq!(base.content(Choice::ALL).digest, two, "rows that were not chosen are not in it");
        assert_eq!(digest(&[(all, b"b"), (all, b"a")]), two);
        assert_ne!(digest(&[(all, b"a"), (all, b"a")]), two);
        assert_ne!(digest(&[(all, b"a"), (all, b"b"), (all, b"")]), two);
        assert!(two.starts_with("lb2:") && two.len() == 68);
    }

    #[test]
    fn a_row_without_its_mark_is_an_error() {
        let mut hashing = Hashing::new(1);
        hashing.feed(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x01\xff\xff\xff\xff\xff\xff").unwrap();
        assert!(hashing.finish().is_err());
    }

    #[test]
    fn ranges_add_up_to_the_whole_in_any_order() {
        let all = KEPT | CHOSEN;
        let (mut one, other) = (sums(&[(all, b"a"), (OWN, b"")]).unwrap(), sums(&[(all, b"b")]).unwrap());
        let mut turned = other.clone();
        turned.add(&one);
        one.add(&other);
        assert_eq!(one, turned);
        assert_eq!(one, sums(&[(all, b"a"), (all, b"b"), (OWN, b"")]).unwrap());
    }

    #[test]
    fn each_lane_and_the_count_are_in_the_digest() {
        let base = Sums { rows: 3, digested: 3, ..Sums::default() };
        let digest = |sums: &Sums| sums.content(Choice::ALL).digest;
        for lane in 0..LANES {
            let mut changed = base.clone();
            changed.lanes[lane] += 1;
            assert_ne!(digest(&base), digest(&changed), "lane {lane}");
        }
        assert_ne!(digest(&base), digest(&Sums { digested: 4, ..base.clone() }));
    }
}
