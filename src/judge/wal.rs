//! How far the log in a store brings a backup, and what stops it there.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::domain::artifact::WalRange;
use crate::domain::hole::Acknowledged;
use crate::domain::lsn::Lsn;
use crate::domain::wal::{self, Commit, Contents, History, Piece, Segment};

/// What a store holds of a log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Archive {
    /// How long segments are.
    pub segment_bytes: u64,
    /// Segments, and what each holds. Those that are there in pieces only are among them.
    pub segments: BTreeMap<Segment, Option<Contents>>,
    /// Of which pieces a segment is put together that is not there as a whole.
    pub pieces: BTreeMap<Segment, Vec<Piece>>,
    /// Timelines that branched off.
    pub histories: BTreeMap<u32, History>,
    /// Holes that somebody answers for: they bring nothing back.
    pub holes: Vec<Acknowledged>,
}

impl Archive {
    /// Takes in a segment that is there as a whole.
    pub fn add_segment(&mut self, segment: Segment, contents: Option<Contents>) {
        self.pieces.remove(&segment);
        self.segments.insert(segment, contents);
    }

    /// Takes in what is there of segments that are not whole yet. A segment that is there as a whole needs no pieces.
    pub fn add_pieces(&mut self, pieces: &BTreeMap<Piece, Option<Contents>>) {
        let mut by_segment: BTreeMap<Segment, Vec<Piece>> = BTreeMap::new();
        for piece in pieces.keys().filter(|piece| !self.segments.contains_key(&piece.segment)) {
            by_segment.entry(piece.segment).or_default().push(*piece);
        }
        for (segment, pieces_of_it) in by_segment {
            let chain = wal::chain(&pieces_of_it);
            let Some(last) = chain.last() else { continue };
            // Each piece tells of all that lies before it too. One of which nothing is known would seem to go on to the segment's end.
            if let Some(contents) = pieces.get(last).cloned().flatten() {
                self.segments.insert(segment, Some(contents));
                self.pieces.insert(segment, chain);
            }
        }
    }
}

/// Which timeline is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Follow {
    /// The newest that descends from the backup's.
    #[default]
    Latest,
    /// This one.
    Timeline(u32),
}

/// To where a recovery is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    /// As far as the log goes.
    Latest,
    /// A moment, by the source's clock.
    Time(Timestamp),
    /// A place in the log.
    Lsn(Lsn),
    /// A named restore point.
    Name(String),
    /// A transaction.
    Xid(u64),
}

/// How far it goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Reach {
    /// The timeline that is followed.
    pub timeline: u32,
    /// What is replayed, in order; the first holds the end of the backup.
    pub segments: Vec<Segment>,
    /// Where the last whole record ends.
    pub until: Lsn,
    /// The latest commit that comes back.
    pub last_commit: Option<Commit>,
    /// Restore points on the way.
    pub restore_points: Vec<(String, Lsn)>,
    /// What is missing although there is more behind it.
    pub hole: Option<Hole>,
    /// The segment with which a timeline on the way begins, if it is missing. The older timeline's segment at that place goes on behind the
    /// branch, and a server would replay it to its end, whatever timeline it was told to follow.
    pub branch_missing: Option<Segment>,
    /// Who answers for what is missing, and why, if somebody does.
    pub acknowledged: Option<String>,
}

/// A stretch that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The first segment that is missing, or that does not hold what it should.
    pub from: Segment,
    /// The next one that is there.
    pub next: Segment,
}

/// Why a timeline cannot be followed from a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoWay(pub String);

/// How far the log goes on from a backup that ends at `backup.end`.
pub fn reach(backup: &WalRange, archive: &Archive, follow: Follow) -> Result<Reach, NoWay> {
    let mut reach = followed(backup, archive, follow)?;
    let stopped_by = reach.hole.map(|hole| hole.from).or(reach.branch_missing);
    let hole = stopped_by.and_then(|segment| archive.holes.iter().find(|hole| hole.covers(segment)));
    reach.acknowledged = hole.map(Acknowledged::words);
    Ok(reach)
}

fn followed(backup: &WalRange, archive: &Archive, follow: Follow) -> Result<Reach, NoWay> {
    let timeline = match follow {
        Follow::Timeline(wanted) => {
            descends(backup, archive, wanted)?;
            wanted
        }
        Follow::Latest => {
            let newest = archive.histories.keys().rev().find(|timeline| descends(backup, archive, **timeline).is_ok());
            newest.copied().unwrap_or(backup.timeline)
        }
    };
    let path = path(backup, archive, timeline);
    let mut reach = Reach {
        timeline,
        segments: Vec::new(),
        until: backup.end,
        last_commit: None,
        restore_points: Vec::new(),
        hole: None,
        branch_missing: None,
        acknowledged: None,
    };
    let mut at = Segment::holding(backup.timeline, backup.end, archive.segment_bytes);
    loop {
        let Some((leg, segment, contents)) = there(&path, archive, at) else {
            reach.hole = next_there(&path, archive, at).map(|next| Hole { from: at, next });
            return Ok(reach);
        };
        reach.segments.push(segment);
        let Some(next) = segment.next(archive.segment_bytes) else { return Ok(reach) };
        let segment_ends = next.start(archive.segment_bytes).unwrap_or(leg.ends);
        let until = contents.as_ref().map_or(segment_ends, |contents| contents.end).min(leg.ends);
        reach.until = reach.until.max(until);
        if let Some(contents) = contents {
            let commits = [contents.last_commit, contents.first_commit].into_iter().flatten();
            let here = commits.filter(|commit| commit.lsn <= leg.ends).max_by_key(|commit| commit.at);
            reach.last_commit = reach.last_commit.into_iter().chain(here).max_by_key(|commit| commit.at);
            let points = contents.restore_points.iter().filter(|(_, lsn)| *lsn <= leg.ends);
            reach.restore_points.extend(points.cloned());
        }
        // The timeline is left in the middle of this segment: the one that goes on from there has it anew, and that one is not here.
        if leg.ends < segment_ends {
            let from = Segment { timeline: leg.next, ..segment };
            reach.hole = next_there(&path, archive, next).map(|next| Hole { from, next });
            reach.branch_missing = Some(from);
            return Ok(reach);
        }
        if contents.as_ref().is_some_and(|contents| !contents.whole) {
            reach.hole = next_there(&path, archive, next).map(|next| Hole { from: segment, next });
            return Ok(reach);
        }
        at = next;
    }
}

/// As much of a reach as a server needs to stop at a moment: up to the first segment that is known to hold a later commit.
pub fn far_enough(reach: &Reach, archive: &Archive, until: Timestamp) -> Reach {
    let later = |segment: &Segment| {
        let contents = archive.segments.get(segment).and_then(Option::as_ref);
        contents.and_then(|contents| contents.last_commit).is_some_and(|last| last.at > until)
    };
    let count = reach.segments.iter().position(later).map_or(reach.segments.len(), |place| place + 1);
    Reach { segments: reach.segments.iter().take(count).copied().collect(), ..reach.clone() }
}

/// Whether a timeline goes on from where the backup ends.
fn descends(backup: &WalRange, archive: &Archive, wanted: u32) -> Result<(), NoWay> {
    if wanted == backup.timeline {
        return Ok(());
    }
    let history = archive.histories.get(&wanted);
    let history = history.ok_or_else(|| NoWay(format!("the store holds no history of timeline {wanted}")))?;
    match history.ancestors.iter().find(|(timeline, _)| *timeline == backup.timeline) {
        None => Err(NoWay(format!("timeline {wanted} does not descend from timeline {}", backup.timeline))),
        Some((_, left)) if *left < backup.end => Err(NoWay(format!(
            "timeline {wanted} left timeline {} at {left}, before the backup ended at {}",
            backup.timeline, backup.end
        ))),
        Some(_) => Ok(()),
    }
}

/// A timeline that is followed, from where to where, and which one goes on there.
#[derive(Clone, Copy, Debug)]
struct Leg {
    timeline: u32,
    begins: Lsn,
    ends: Lsn,
    next: u32,
}

/// Timelines that are followed, the newest first.
fn path(backup: &WalRange, archive: &Archive, timeline: u32) -> Vec<Leg> {
    let ancestors = archive.histories.get(&timeline).map(|history| history.ancestors.as_slice()).unwrap_or_default();
    let mut begins = Lsn(0);
    let mut path = Vec::new();
    for (at, (ancestor, ends)) in ancestors.iter().enumerate() {
        let next = ancestors.get(at + 1).map_or(timeline, |(next, _)| *next);
        path.push(Leg { timeline: *ancestor, begins, ends: *ends, next });
        begins = *ends;
    }
    path.push(Leg { timeline, begins, ends: Lsn(u64::MAX), next: timeline });
    path.retain(|leg| leg.timeline >= backup.timeline);
    path.reverse();
    path
}

/// The segment at this place, as PostgreSQL chooses it: of the newest timeline that has begun by then, and never of one older than that of
/// the segment before.
fn there<'a>(path: &[Leg], archive: &'a Archive, at: Segment) -> Option<(Leg, Segment, &'a Option<Contents>)> {
    let begun = |begins: Lsn| {
        let first = Segment::holding(at.timeline, begins, archive.segment_bytes);
        (first.log, first.segment) <= (at.log, at.segment)
    };
    path.iter().filter(|leg| leg.timeline >= at.timeline && begun(leg.begins)).find_map(|leg| {
        let segment = Segment { timeline: leg.timeline, ..at };
        archive.segments.get(&segment).map(|contents| (*leg, segment, contents))
    })
}

/// The first that is there behind a place, on a timeline that still counts by then.
fn next_there(path: &[Leg], archive: &Archive, after: Segment) -> Option<Segment> {
    let on_the_way = |segment: &Segment| {
        let start = segment.start(archive.segment_bytes);
        path.iter().any(|leg| leg.timeline == segment.timeline && start.is_some_and(|start| start < leg.ends))
    };
    let behind = |segment: &&Segment| {
        segment.timeline >= after.timeline
            && (segment.log, segment.segment) >= (after.log, after.segment)
            && on_the_way(segment)
    };
    archive.segments.keys().filter(behind).min_by_key(|segment| (segment.log, segment.segment)).copied()
}

/// Whether a target lies within reach; the error says why not, and how far it goes.
pub fn within(reach: &Reach, until: &Until, before: bool) -> Result<(), String> {
    let nearest = match reach.last_commit {
        Some(last) => format!(
            "the nearest reachable moment is {} (log position {}, timeline {})",
            last.at, last.lsn, reach.timeline
        ),
        None => format!(
            "no commit after the backup is in the log, which ends at {} on timeline {}",
            reach.until, reach.timeline
        ),
    };
    let branch = reach.branch_missing.map(|segment| format!("; {segment} is missing"));
    let stopped = reach.hole.map(|hole| format!("; {} is missing or not whole, and {} is there", hole.from, hole.next));
    let who = reach.acknowledged.as_ref().map(|words| format!(" ({words})")).unwrap_or_default();
    let stopped = stopped.or(branch).map(|stopped| stopped + &who).unwrap_or_default();
    let beyond = |what: String| Err(format!("{what} cannot be reached: {nearest}{stopped}"));
    match until {
        Until::Latest | Until::Xid(_) => match reach.branch_missing {
            Some(segment) => Err(format!(
                "timeline {} cannot be followed to its end: {segment}, with which timeline {} begins, is not in the store; {nearest}",
                reach.timeline, segment.timeline
            )),
            None => Ok(()),
        },
        // A server stops only at a transaction that lies behind the moment: without one it says that the target was not reached.
        Until::Time(at) => match reach.last_commit {
            Some(last) if last.at > *at || (before && last.at == *at) => Ok(()),
            Some(_) | None => beyond(at.to_string()),
        },
        Until::Lsn(lsn) if *lsn < reach.until => Ok(()),
        Until::Lsn(lsn) => beyond(format!("log position {lsn}")),
        Until::Name(name) if reach.restore_points.iter().any(|(known, _)| known == name) => Ok(()),
        Until::Name(name) => {
            let known: Vec<&str> = reach.restore_points.iter().map(|(name, _)| name.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            beyond(format!("the restore point `{name}` (those on the way: {known})"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let restore_points = if number == 5 { vec![("five".to_owned(), Lsn(end.0 - 60))] } else { vec![] };
        Some(Contents {
            start: Lsn(number * MIB),
            end,
            whole,
            first_commit: commit,
            last_commit: commit,
            restore_points,
        })
    }

    /// Timeline 1 has segments 3 to 9; timeline 2 branched off in 6 and has 6 to 8; timeline 3 branched off in 4, and has 4 and 5.
    fn archive() -> Archive {
        let names = (3..=9).map(|n| (1, n)).chain((6..=8).map(|n| (2, n))).chain((4..=5).map(|n| (3, n)));
        let segments = names.map(|(timeline, number)| (seg(timeline, number), contents(number, true))).collect();
        let history = |ancestors: &[(u32, u64)]| History {
            ancestors: ancestors.iter().map(|(timeline, place)| (*timeline, Lsn(*place))).collect(),
        };
        let histories = BTreeMap::from([(2, history(&[(1, 6 * MIB + 500)])), (3, history(&[(1, 4 * MIB + 500)]))]);
        Archive { segment_bytes: MIB, segments, histories, ..Archive::default() }
    }

    fn backup(timeline: u32, end: u64) -> WalRange {
        WalRange { timeline, start: Lsn(end - 400), end: Lsn(end) }
    }

    #[test]
    fn no_more_of_the_log_is_taken_than_a_moment_needs() {
        let archive = archive();
        let all = reach(&backup(1, 5 * MIB), &archive, Follow::Timeline(1)).unwrap();
        let last = |second: i64| far_enough(&all, &archive, at(second)).segments.last().copied();
        assert_eq!((last(49), last(59), last(60)), (Some(seg(1, 5)), Some(seg(1, 6)), Some(seg(1, 7))));
        assert_eq!(far_enough(&all, &archive, at(90)), all);
    }

    #[test]
    fn pieces_stand_for_a_segment_until_it_is_there_as_a_whole() {
        let piece = |from, to| Piece { segment: seg(1, 5), from, to };
        let mut archive = Archive { segment_bytes: MIB, ..Archive::default() };
        let known = BTreeMap::from([(piece(0, 99), contents(5, false)), (piece(99, 200), contents(5, false))]);
        archive.add_pieces(&BTreeMap::from([(piece(0, 99), None)]));
        assert!(archive.segments.is_empty() && archive.pieces.is_empty(), "nothing is known of it");
        archive.add_pieces(&known);
        assert_eq!(archive.segments, BTreeMap::from([(seg(1, 5), contents(5, false))]));
        assert_eq!(archive.pieces[&seg(1, 5)], [piece(0, 99), piece(99, 200)]);
        archive.add_segment(seg(1, 5), contents(5, true));
        archive.add_pieces(&known);
        assert_eq!(archive.segments, BTreeMap::from([(seg(1, 5), contents(5, true))]));
        assert!(archive.pieces.is_empty());
    }

    #[test]
    fn a_timeline_that_is_left_at_the_end_of_a_segment_is_left_behind_it() {
        let left_at_six = |own: &[u64]| {
            let mut archive = archive();
            archive.histories = BTreeMap::from([(2, History { ancestors: vec![(1, Lsn(6 * MIB))] })]);
            archive.segments.retain(|segment, _| segment.timeline == 1);
            archive.segments.extend(own.iter().map(|number| (seg(2, *number), contents(*number, true))));
            reach(&backup(1, 4 * MIB + 5), &archive, Follow::Timeline(2)).unwrap()
        };
        let found = left_at_six(&[6, 7]);
        assert_eq!(found.segments, [seg(1, 4), seg(1, 5), seg(2, 6), seg(2, 7)]);
        assert_eq!((found.branch_missing, found.hole), (None, None));
        // Without the new timeline's first segment a server would take the old one's: nothing in it counts.
        let found = left_at_six(&[7]);
        assert_eq!(found.segments, [seg(1, 4), seg(1, 5), seg(1, 6)]);
        assert_eq!((found.until, found.branch_missing), (Lsn(6 * MIB), Some(seg(2, 6))));
        assert_eq!(found.hole.map(|hole| (hole.from, hole.next)), Some((seg(2, 6), seg(2, 7))));
        // Nor does it end a hole that begins before it.
        let mut holed = archive();
        holed.histories = BTreeMap::from([(2, History { ancestors: vec![(1, Lsn(6 * MIB))] })]);
        for gone in [seg(1, 5), seg(2, 6)] {
            holed.segments.remove(&gone);
        }
        let found = reach(&backup(1, 4 * MIB + 5), &holed, Follow::Timeline(2)).unwrap();
        assert_eq!(found.segments, [seg(1, 4)]);
        assert_eq!(found.hole.map(|hole| (hole.from, hole.next)), Some((seg(1, 5), seg(2, 7))));
        // A backup that ends in the very place where its timeline was left is gone on from; a byte later it is not.
        assert!(reach(&backup(1, 4 * MIB + 500), &archive(), Follow::Timeline(3)).is_ok());
        assert!(reach(&backup(1, 4 * MIB + 501), &archive(), Follow::Timeline(3)).is_err());
    }

    #[test]
    fn the_newest_timeline_that_descends_is_followed() {
        let names = |reach: &Reach| reach.segments.iter().map(|s| (s.timeline, s.segment)).collect::<Vec<_>>();
        // The backup ends behind the place where 3 left: 2 is the newest that can be followed.
        let found = reach(&backup(1, 5 * MIB + 600), &archive(), Follow::Latest).unwrap();
        assert_eq!((found.timeline, names(&found)), (2, vec![(1, 5), (2, 6), (2, 7), (2, 8)]));
        assert_eq!(found.hole, None);
        assert_eq!(found.last_commit.unwrap().at, at(80));
        let found = reach(&backup(1, 4 * MIB + 400), &archive(), Follow::Latest).unwrap();
        assert_eq!((found.timeline, names(&found)), (3, vec![(3, 4), (3, 5)]));
        let found = reach(&backup(1, 4 * MIB + 400), &archive(), Follow::Timeline(1)).unwrap();
        assert_eq!(names(&found), (4..=9).map(|n| (1, n)).collect::<Vec<_>>());
        let found = reach(&backup(2, 7 * MIB + 400), &archive(), Follow::Latest).unwrap();
        assert_eq!((found.timeline, names(&found)), (2, vec![(2, 7), (2, 8)]));
    }

    #[test]
    fn where_the_beginning_of_a_timeline_is_missing_it_goes_no_further_than_the_branch() {
        let mut less = archive();
        less.segments.remove(&seg(2, 6));
        let found = reach(&backup(1, 5 * MIB + 600), &less, Follow::Latest).unwrap();
        assert_eq!((found.timeline, found.until), (2, Lsn(6 * MIB + 500)));
        assert_eq!(found.segments, [seg(1, 5), seg(1, 6)]);
        assert_eq!(found.hole, Some(Hole { from: seg(2, 6), next: seg(2, 7) }));
        // The commit of 1 that lies behind the branch is none of timeline 2.
        assert_eq!(found.last_commit.unwrap().at, at(50));
        // A server would go on along the first timeline: only what it meets before the branch can be asked for.
        assert_eq!(found.branch_missing, Some(seg(2, 6)));
        for until in [Until::Latest, Until::Xid(7), Until::Time(at(55)), Until::Lsn(Lsn(6 * MIB + 500))] {
            let why = within(&found, &until, false).unwrap_err();
            assert!(why.contains("000000020000000000000006"), "{until:?}: {why}");
        }
        for until in [Until::Time(at(49)), Until::Lsn(Lsn(6 * MIB + 499))] {
            assert_eq!(within(&found, &until, false), Ok(()));
        }
        // Missing in the middle: what the first timeline has at that place is no substitute.
        let mut less = archive();
        less.segments.remove(&seg(2, 7));
        let found = reach(&backup(1, 5 * MIB + 600), &less, Follow::Latest).unwrap();
        assert_eq!(found.segments, [seg(1, 5), seg(2, 6)]);
        assert_eq!(found.hole, Some(Hole { from: seg(2, 7), next: seg(2, 8) }));
    }

    #[test]
    fn a_timeline_that_does_not_descend_is_refused_with_the_reason() {
        for (timeline, end, wanted, says) in [
            (1, 5 * MIB + 600, 3, "left timeline 1 at 0/4001F4, before"),
            (1, 5 * MIB, 9, "no history of timeline 9"),
            (2, 7 * MIB + 400, 3, "does not descend from timeline 2"),
        ] {
            let error = reach(&backup(timeline, end), &archive(), Follow::Timeline(wanted)).unwrap_err().0;
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_hole_stops_it_and_is_named_and_an_end_is_no_hole() {
        for number in 5..=9 {
            let mut less = archive();
            less.histories.clear();
            less.segments.remove(&seg(1, number));
            let found = reach(&backup(1, 4 * MIB + 400), &less, Follow::Latest).unwrap();
            let hole = (number < 9).then(|| Hole { from: seg(1, number), next: seg(1, number + 1) });
            assert_eq!(found.hole, hole);
            assert_eq!(found.until, contents(number - 1, true).unwrap().end);
        }
        // The segment in which the backup ends is not there: only the backup itself comes back.
        let mut less = archive();
        less.segments.remove(&seg(1, 5));
        let found = reach(&backup(1, 5 * MIB + 600), &less, Follow::Timeline(1)).unwrap();
        assert_eq!((found.segments.len(), found.until), (0, Lsn(5 * MIB + 600)));
        assert_eq!(found.hole, Some(Hole { from: seg(1, 5), next: seg(1, 6) }));
    }

    #[test]
    fn a_segment_that_is_not_whole_is_an_end_or_a_hole() {
        for (number, hole) in [(7, Some(Hole { from: seg(1, 7), next: seg(1, 8) })), (9, None)] {
            let mut torn = archive();
            torn.segments.insert(seg(1, number), contents(number, false));
            let found = reach(&backup(1, 5 * MIB), &torn, Follow::Timeline(1)).unwrap();
            assert_eq!((found.hole, found.until), (hole, contents(number, false).unwrap().end));
            assert_eq!(found.segments.last(), Some(&seg(1, number)));
        }
        // Of one whose records nobody has read, all is taken to be there.
        let mut blind = archive();
        blind.segments.insert(seg(1, 9), None);
        assert_eq!(reach(&backup(1, 5 * MIB), &blind, Follow::Timeline(1)).unwrap().until, Lsn(10 * MIB));
    }

    #[test]
    fn targets_are_within_reach_or_the_nearest_moment_is_named() {
        let found = reach(&backup(1, 5 * MIB), &archive(), Follow::Timeline(1)).unwrap();
        let end = found.until;
        for (until, before, good) in [
            (Until::Latest, false, true),
            (Until::Xid(7), false, true),
            (Until::Time(at(89)), false, true),
            (Until::Time(at(90)), false, false),
            (Until::Time(at(90)), true, true),
            (Until::Time(at(91)), true, false),
            (Until::Lsn(Lsn(end.0 - 1)), false, true),
            (Until::Lsn(end), false, false),
            (Until::Name("five".to_owned()), false, true),
            (Until::Name("six".to_owned()), false, false),
        ] {
            let judged = within(&found, &until, before);
            assert_eq!(judged.is_ok(), good, "{until:?} {before}: {judged:?}");
            if let Err(why) = judged {
                assert!(why.contains("nearest reachable moment is 1970-01-01T00:01:30Z"), "{why}");
            }
        }
        let mut less = archive();
        less.segments.remove(&seg(1, 7));
        let found = reach(&backup(1, 5 * MIB), &less, Follow::Timeline(1)).unwrap();
        let why = within(&found, &Until::Time(at(85)), false).unwrap_err();
        assert!(why.contains("000000010000000000000007 is missing") && why.contains("00:01:00Z"), "{why}");
    }
}
