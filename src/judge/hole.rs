//! Whether somebody answers for what is missing.

use super::wal::{Archive, Hole};
use crate::domain::wal::Segment;

/// Whether somebody answers for every segment of a hole that is not there.
pub fn answered(hole: &Hole, archive: &Archive) -> bool {
    let covered = |segment: Segment| archive.holes.iter().any(|one| one.covers(segment));
    let mut at = Some(hole.from).filter(|from| covered(*from));
    while let Some(segment) = at {
        if (segment.log, segment.segment) >= (hole.next.log, hole.next.segment) {
            return true;
        }
        at = segment.next(archive.segment_bytes).filter(|next| {
            let place = (next.log, next.segment);
            place >= (hole.next.log, hole.next.segment) || archive.segments.contains_key(next) || covered(*next)
        });
    }
    false
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::artifact::WalRange;
    use crate::domain::hole::Acknowledged;
    use crate::domain::lsn::Lsn;
    use crate::domain::wal::{Commit, Contents};
    use crate::judge::wal::{Follow, Until, reach, within};

    const MIB: u64 = 1 << 20;

    fn seg(timeline: u32, number: u64) -> Segment {
        Segment::holding(timeline, Lsn(number * MIB), MIB)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn contents(number: u64, whole: bool) -> Option<Contents> {
        let end = Lsn((number + 1) * MIB - 100);
        let commit = Some(Commit { at: at(i64::try_from(number).unwrap() * 10), lsn: Lsn(end.0 - 50) });
        let (first_commit, last_commit, start) = (commit, commit, Lsn(number * MIB));
        Some(Contents { start, end, whole, first_commit, last_commit, restore_points: vec![] })
    }

    fn archive(numbers: &[u64]) -> Archive {
        let segments = numbers.iter().map(|number| (seg(1, *number), contents(*number, true))).collect();
        Archive { segment_bytes: MIB, segments, ..Archive::default() }
    }

    fn backup(timeline: u32, end: u64) -> WalRange {
        WalRange { timeline, start: Lsn(end - 400), end: Lsn(end) }
    }

    #[test]
    fn a_hole_that_is_answered_for_still_stops_it_and_has_a_name() {
        let hole = |from: u64, to: u64| Acknowledged {
            format: String::new(),
            policy: "orders".parse().unwrap(),
            from: seg(1, from),
            to: seg(1, to),
            segment_bytes: MIB,
            owner: "dba".to_owned(),
            reason: "the disk died".to_owned(),
            at: at(0),
        };
        let mut less = archive(&[3, 4, 5, 8, 9]);
        let plain = reach(&backup(1, 5 * MIB), &less, Follow::Latest).unwrap();
        let found = plain.hole.unwrap();
        assert!(!answered(&found, &less) && plain.acknowledged.is_none());
        for (holes, all) in [
            (vec![hole(6, 7)], true),
            (vec![hole(6, 6), hole(7, 7)], true),
            (vec![hole(5, 9)], true),
            (vec![hole(6, 6)], false),
            (vec![hole(7, 7)], false),
            (vec![hole(3, 5)], false),
        ] {
            less.holes = holes;
            assert_eq!(answered(&found, &less), all, "{:?}", less.holes);
            let told = reach(&backup(1, 5 * MIB), &less, Follow::Latest).unwrap();
            assert_eq!((told.until, told.hole), (plain.until, plain.hole));
            let why = within(&told, &Until::Time(at(85)), false).unwrap_err();
            assert_eq!(why.contains("acknowledged by dba on 1970-01-01: the disk died"), told.acknowledged.is_some());
            assert_eq!(told.acknowledged.is_some(), less.holes[0].covers(seg(1, 6)));
        }
        // One that is there but not whole is answered for as well.
        let mut torn = archive(&[3, 4, 5, 6, 7, 8, 9]);
        torn.segments.insert(seg(1, 7), contents(7, false));
        let found = reach(&backup(1, 5 * MIB), &torn, Follow::Latest).unwrap().hole.unwrap();
        assert!(!answered(&found, &torn));
        torn.holes = vec![hole(7, 7)];
        assert!(answered(&found, &torn));
    }
}
