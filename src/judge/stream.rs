//! Where a receiver of the log goes on.

use std::collections::BTreeSet;

use crate::domain::lsn::Lsn;
use crate::domain::wal::{History, Segment, WalName};

/// Where receiving begins: always with a whole segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// On which timeline.
    pub timeline: u32,
    /// Where in it.
    pub at: Lsn,
}

/// What is known when a receiver begins.
#[derive(Clone, Debug)]
pub struct Known<'a> {
    /// How long segments are.
    pub segment_bytes: u64,
    /// The timeline that the server writes, and the ancestors of it.
    pub timeline: u32,
    /// See there.
    pub history: &'a History,
    /// What the store has.
    pub names: &'a BTreeSet<WalName>,
    /// Where backups end from which the log is to go on, the newest first.
    pub backups: &'a [Place],
    /// From where on the slot keeps the log.
    pub kept_from: Option<Lsn>,
    /// How far the server's log is.
    pub flushed: Lsn,
}

/// Places to begin at, the best first: each that follows is tried if the server has not kept the one before, and leaves a hole.
pub fn places(known: &Known<'_>) -> Vec<Place> {
    let mut found = Vec::new();
    let mut add = |place: Place| {
        if !found.contains(&place) {
            found.push(place);
        }
    };
    match behind_the_store(known) {
        Some(place) => add(place),
        None => {
            // The log of a backup that is on the way to the server's timeline.
            let on_the_way = known.backups.iter().find(|backup| leaves(known, backup.timeline).is_some());
            on_the_way.map(|backup| forward(known, *backup)).into_iter().for_each(&mut add);
        }
    }
    for lsn in known.kept_from.into_iter().chain([known.flushed]) {
        add(whole(known, Place { timeline: known.history.timeline_at(lsn, known.timeline), at: lsn }));
    }
    found
}

/// Where the server left a timeline: nowhere, if it is on it; none, if it never was.
fn leaves(known: &Known<'_>, timeline: u32) -> Option<Lsn> {
    if timeline == known.timeline {
        return Some(Lsn(u64::MAX));
    }
    known.history.ancestors.iter().find(|(ancestor, _)| *ancestor == timeline).map(|(_, at)| *at)
}

/// The segment behind the newest that is there, on the newest timeline on the server's way that has any.
fn behind_the_store(known: &Known<'_>) -> Option<Place> {
    let segments = known.names.iter().filter_map(|name| match name {
        WalName::Segment(segment) => segment.next(known.segment_bytes),
        // The first of them begins its segment, which is received from its beginning again.
        WalName::Piece(piece) => Some(piece.segment),
        WalName::History { .. } | WalName::Label { .. } | WalName::Partial(_) => None,
    });
    let next = segments.filter(|segment| leaves(known, segment.timeline).is_some()).max()?;
    Some(forward(known, Place { timeline: next.timeline, at: next.start(known.segment_bytes)? }))
}

/// A place in the segment in which its timeline ends, or behind it, is on the next one, which has all of that segment.
fn forward(known: &Known<'_>, place: Place) -> Place {
    let mut place = place;
    while let Some(at) = known.history.ancestors.iter().position(|(ancestor, _)| *ancestor == place.timeline) {
        let left = known.history.ancestors[at].1;
        let branch = whole(known, Place { timeline: place.timeline, at: left });
        if place.at < branch.at {
            break;
        }
        let next = known.history.ancestors.get(at + 1).map_or(known.timeline, |(next, _)| *next);
        place = Place { timeline: next, ..branch };
    }
    whole(known, place)
}

/// The beginning of the segment that a place lies in.
fn whole(known: &Known<'_>, place: Place) -> Place {
    let segment = Segment::holding(place.timeline, place.at, known.segment_bytes);
    Place { at: segment.start(known.segment_bytes).unwrap_or(place.at), ..place }
}

/// Whether segments are there, by name, from the one that `from` lies in up to before `to`, on timelines that the server was on.
pub fn continuous(known: &Known<'_>, from: Place, to: Place) -> bool {
    if leaves(known, from.timeline).is_none_or(|left| left < from.at) {
        return false;
    }
    let (from, to) = (whole(known, from), whole(known, to));
    let mut at = Some(Segment::holding(known.timeline, from.at, known.segment_bytes));
    while let Some(segment) = at {
        let Some(start) = segment.start(known.segment_bytes) else { return false };
        if start >= to.at {
            return true;
        }
        let mut timelines = known.history.ancestors.iter().map(|(ancestor, _)| *ancestor).chain([known.timeline]);
        if !timelines.any(|timeline| known.names.contains(&WalName::Segment(Segment { timeline, ..segment }))) {
            return false;
        }
        at = segment.next(known.segment_bytes);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn seg(timeline: u32, number: u64) -> WalName {
        WalName::Segment(Segment::holding(timeline, Lsn(number * MIB), MIB))
    }

    fn place(timeline: u32, number: u64) -> Place {
        Place { timeline, at: Lsn(number * MIB) }
    }

    fn begins(
        timeline: u32,
        ancestors: &[(u32, u64)],
        names: &[WalName],
        backups: &[Place],
        kept: Option<u64>,
    ) -> Vec<Place> {
        let history = History { ancestors: ancestors.iter().map(|(timeline, at)| (*timeline, Lsn(*at))).collect() };
        let names = names.iter().copied().collect();
        places(&Known {
            segment_bytes: MIB,
            timeline,
            history: &history,
            names: &names,
            backups,
            kept_from: kept.map(Lsn),
            flushed: Lsn(20 * MIB + 7),
        })
    }

    #[test]
    fn it_goes_on_behind_what_is_there() {
        let names = [seg(1, 3), seg(1, 4)];
        assert_eq!(begins(1, &[], &names, &[], Some(4 * MIB + 9)), [place(1, 5), place(1, 4), place(1, 20)]);
        // Of an unfinished segment there are pieces: it is received from its beginning again.
        let WalName::Segment(segment) = seg(1, 5) else { panic!() };
        let piece = WalName::Piece(crate::domain::wal::Piece { segment, from: 0, to: 99 });
        assert_eq!(begins(1, &[], &[seg(1, 4), piece], &[], None), [place(1, 5), place(1, 20)]);
    }

    #[test]
    fn with_nothing_there_it_begins_where_the_newest_backup_ends_or_with_what_the_slot_keeps() {
        let backup = Place { timeline: 1, at: Lsn(7 * MIB + 300) };
        assert_eq!(begins(1, &[], &[], &[backup], Some(9 * MIB + 1)), [place(1, 7), place(1, 9), place(1, 20)]);
        assert_eq!(begins(1, &[], &[], &[], Some(9 * MIB + 1)), [place(1, 9), place(1, 20)]);
        assert_eq!(begins(1, &[], &[], &[], None), [place(1, 20)]);
        // A backup of another branch is none to go on from.
        let stranger = Place { timeline: 2, at: Lsn(7 * MIB) };
        assert_eq!(begins(3, &[(1, 6 * MIB)], &[], &[stranger], None), [place(3, 20)]);
    }

    #[test]
    fn it_follows_the_server_from_timeline_to_timeline() {
        let names = [seg(1, 3), seg(1, 4)];
        // The server left timeline 1 in segment 6: that timeline is received to its end first.
        assert_eq!(begins(2, &[(1, 6 * MIB + 5)], &names, &[], None)[0], place(1, 5));
        // In segment 4, or before: the new timeline's own segment of the branch comes first.
        assert_eq!(begins(2, &[(1, 4 * MIB + 5)], &names, &[], None)[0], place(2, 4));
        assert_eq!(begins(2, &[(1, 5 * MIB)], &names, &[], None)[0], place(2, 5));
        assert_eq!(begins(2, &[(1, 5 * MIB + 5)], &names, &[], None)[0], place(2, 5));
        assert_eq!(begins(3, &[(1, 4 * MIB + 5), (2, 9 * MIB)], &names, &[], None)[0], place(2, 4));
        assert_eq!(begins(3, &[(1, 4 * MIB + 5), (2, 4 * MIB + 9)], &names, &[], None)[0], place(3, 4));
        // What is there of another branch does not count.
        assert_eq!(begins(3, &[(1, 8 * MIB)], &[seg(1, 5), seg(2, 7)], &[], None)[0], place(1, 6));
    }

    #[test]
    fn a_gap_between_a_backup_and_the_place_is_seen() {
        let history = History { ancestors: vec![(1, Lsn(5 * MIB + 100))] };
        let all = [seg(1, 3), seg(1, 4), seg(2, 5), seg(2, 6)];
        let check = |names: &[WalName], from: Place, to: Place| {
            let names = names.iter().copied().collect();
            let known = Known {
                segment_bytes: MIB,
                timeline: 2,
                history: &history,
                names: &names,
                backups: &[],
                kept_from: None,
                flushed: Lsn(0),
            };
            continuous(&known, from, to)
        };
        let backup = Place { timeline: 1, at: Lsn(3 * MIB + 7) };
        assert!(check(&all, backup, place(2, 7)));
        assert!(check(&all, backup, backup));
        assert!(!check(&all, backup, place(2, 8)));
        for gone in 0..4 {
            let mut less = all.to_vec();
            less.remove(gone);
            assert!(!check(&less, backup, place(2, 7)), "{gone}");
        }
        // It ended where the branch begins: the log goes on from there. Behind it, none does.
        assert!(check(&all, Place { timeline: 1, at: Lsn(5 * MIB + 100) }, place(2, 7)));
        assert!(!check(&all, Place { timeline: 1, at: Lsn(6 * MIB) }, place(2, 7)));
    }
}
