//! What a source has finished of its log, and where that is: in the store, on its way there, late, or nowhere.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;

use crate::domain::lsn::Lsn;
use crate::domain::observed::Observed;
use crate::domain::units::Span;
use crate::domain::wal::{Segment, SourceLog};

/// A segment that was finished no longer ago than this is on its way, and not late.
pub const TOLERANCE: Span = Span::from_secs(60);
/// So many segments are named one by one.
const NAMED: usize = 100;

/// A segment that the source has finished and the store does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outstanding {
    /// Which.
    pub segment: String,
    /// When it was finished, at the latest: by the source's clock.
    pub finished_by: Timestamp,
    /// How long ago that was at least.
    pub age: Span,
    /// What became of it, as far as the source says.
    pub why: String,
}

/// What was found of the segments that the source has finished.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Underway {
    /// Finished a moment ago.
    pub young: Vec<Outstanding>,
    /// Finished longer ago than is tolerated.
    pub late: Vec<Outstanding>,
    /// Neither the store nor the source has them.
    pub gone: Vec<Segment>,
    /// Finished, and nobody can say when.
    pub undated: Vec<Segment>,
}

/// Looks for every segment that the source has finished on its timeline, from the one that holds `from` on. `there`: what the stores or a spool have.
pub fn underway(source: &SourceLog, from: Lsn, there: &BTreeSet<Segment>, tolerance: Span) -> Underway {
    let mut found = Underway::default();
    let current = source.current;
    let at_source = source.finished.known().map(|all| all.as_slice());
    let own = |segment: &&Segment| segment.timeline == current.timeline;
    // A timeline's own segments begin where the first of them that anybody has does.
    let known = there.iter().copied().chain(at_source.unwrap_or_default().iter().map(|one| one.segment));
    let first_own = known.filter(|segment| own(&segment)).map(|segment| (segment.log, segment.segment)).min();
    let from = Segment::holding(current.timeline, from, source.segment_bytes);
    let begins = first_own.map_or((from.log, from.segment), |first| first.max((from.log, from.segment)));
    let mut at = Some(Segment { timeline: current.timeline, log: begins.0, segment: begins.1 });
    let archived = source.archiver.as_ref();
    while let Some(segment) = at.filter(|at| (at.log, at.segment) < (current.log, current.segment)) {
        at = segment.next(source.segment_bytes);
        if there.contains(&segment) {
            continue;
        }
        let here = at_source.and_then(|all| all.iter().find(|one| one.segment == segment));
        let told = |pair: Option<(Segment, Timestamp)>| pair.filter(|(last, _)| *last >= segment).map(|(_, at)| at);
        let (by, why) = match (here, archived.and_then(|one| told(one.last))) {
            (Some(one), _) if one.ready => (one.at, "the source waits for its archive_command".to_owned()),
            (Some(one), Some(_)) => (one.at, "the source was told that it is archived".to_owned()),
            (Some(one), None) => (one.at, "the source still has it".to_owned()),
            (None, _) if at_source.is_some() => {
                if found.gone.len() < NAMED {
                    found.gone.push(segment);
                }
                continue;
            }
            (None, Some(at)) => (at, "the source was told that it is archived".to_owned()),
            // That it failed a moment ago does not say for how long it has.
            (None, None) => {
                if found.undated.len() < NAMED {
                    found.undated.push(segment);
                }
                continue;
            }
        };
        let age = Span::between(by, source.clock).max(Span::ZERO);
        let list = if age > tolerance { &mut found.late } else { &mut found.young };
        if list.len() < NAMED {
            list.push(Outstanding { segment: segment.to_string(), finished_by: by, age, why });
        }
    }
    found
}

/// What a person should know of how much the source could be asked, and of what it said.
pub fn remarks(source: &SourceLog) -> Vec<String> {
    let unknown = match &source.finished {
        Observed::Known(_) | Observed::Absent => None,
        Observed::Unknown(why) => Some(why.clone()),
    };
    let failed =
        source.archiver.and_then(|one| one.failed.filter(|(_, at)| one.last.is_none_or(|(_, last)| last < *at)));
    let failed = failed.map(|(segment, at)| format!("its archive_command failed last with {segment}, at {at:.0}"));
    unknown.into_iter().chain(failed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::wal::{Archived, Finished};

    const MIB: u64 = 1 << 20;

    fn seg(number: u64) -> Segment {
        Segment::holding(1, Lsn(number * MIB), MIB)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// It writes segment 9 and was asked at second 1000; segment n was finished at 100 n.
    fn source(here: &[(u64, bool)], last: Option<u64>, failed: Option<u64>) -> SourceLog {
        let when = |number: u64| at(i64::try_from(number).unwrap() * 100);
        let finished =
            here.iter().map(|(number, ready)| Finished { segment: seg(*number), at: when(*number), ready: *ready });
        SourceLog {
            system_identifier: "7".to_owned(),
            clock: at(1000),
            segment_bytes: MIB,
            current: seg(9),
            archiver: Some(Archived {
                last: last.map(|number| (seg(number), when(number))),
                failed: failed.map(|number| (seg(number), at(990))),
            }),
            finished: Observed::Known(finished.collect()),
            receiver: None,
        }
    }

    fn names(list: &[Outstanding]) -> Vec<(String, i64)> {
        list.iter().map(|one| (one.segment.clone(), one.finished_by.as_second())).collect()
    }

    #[test]
    fn each_finished_segment_is_there_or_young_or_late_or_gone() {
        let all: Vec<(u64, bool)> = (3..=9).map(|number| (number, number > 6)).collect();
        let there: BTreeSet<Segment> = (3..=6).map(seg).collect();
        let found = underway(&source(&all, Some(6), None), Lsn(3 * MIB), &there, Span::from_secs(250));
        assert_eq!(
            (names(&found.late), names(&found.young)),
            (vec![(seg(7).to_string(), 700)], vec![(seg(8).to_string(), 800)])
        );
        assert!(found.late[0].why.contains("archive_command") && found.gone.is_empty() && found.undated.is_empty());
        // The one that is being written is never late, and what lies before the backup does not count.
        let found = underway(&source(&all, None, None), Lsn(8 * MIB + 5), &BTreeSet::new(), Span::ZERO);
        assert_eq!(names(&found.late), [(seg(8).to_string(), 800)]);
        // It was told of success, and the store does not have it: the store's loss shows.
        let found = underway(&source(&all, Some(8), None), Lsn(6 * MIB), &there, Span::ZERO);
        assert_eq!(found.late.len(), 2);
        // Neither side has it.
        let found = underway(&source(&[(8, true), (9, false)], Some(6), None), Lsn(3 * MIB), &there, Span::ZERO);
        assert_eq!((found.gone, found.late.len()), (vec![seg(7)], 1));
    }

    #[test]
    fn without_the_folders_only_what_the_archiver_says_is_known() {
        let there: BTreeSet<Segment> = (3..=5).map(seg).collect();
        let mut blind = source(&[], Some(6), Some(7));
        blind.finished = Observed::Unknown("no right".to_owned());
        let found = underway(&blind, Lsn(3 * MIB), &there, Span::from_secs(60));
        assert_eq!(names(&found.late), [(seg(6).to_string(), 600)]);
        // That it failed a moment ago does not say for how long it has been finished.
        assert_eq!((found.young.len(), found.undated, found.gone), (0, vec![seg(7), seg(8)], vec![]));
        blind.archiver = None;
        let found = underway(&blind, Lsn(3 * MIB), &there, Span::from_secs(60));
        assert_eq!((found.undated.len(), found.late.len(), remarks(&blind)), (3, 0, vec!["no right".to_owned()]));
    }

    #[test]
    fn what_became_of_it_is_told_as_the_source_says() {
        let none = BTreeSet::new();
        let why = |source: &SourceLog| {
            let found = underway(source, Lsn(7 * MIB), &none, Span::from_secs(250));
            found.late.iter().chain(&found.young).map(|one| one.why.clone()).collect::<Vec<_>>()
        };
        assert_eq!(
            why(&source(&[(7, false), (8, true)], Some(7), None)),
            ["the source was told that it is archived", "the source waits for its archive_command"]
        );
        assert_eq!(why(&source(&[(7, false), (8, false)], None, None)), ["the source still has it"; 2]);
        // As old as is tolerated is not late.
        let found = underway(&source(&[(8, true)], None, None), Lsn(8 * MIB), &none, Span::from_secs(200));
        assert_eq!((found.late.len(), found.young.len()), (0, 1));
    }

    #[test]
    fn of_what_lies_far_behind_a_hundred_are_named() {
        let mut far = source(&[], None, None);
        far.current = seg(500);
        let gone = underway(&far, Lsn(0), &BTreeSet::new(), Span::ZERO);
        assert_eq!((gone.gone.len(), gone.gone[0], gone.gone[99]), (100, seg(0), seg(99)));
        far.finished = Observed::Unknown("no right".to_owned());
        assert_eq!(underway(&far, Lsn(0), &BTreeSet::new(), Span::ZERO).undated.len(), 100);
        far.finished =
            Observed::Known((0..500).map(|n| Finished { segment: seg(n), at: at(0), ready: true }).collect());
        assert_eq!(underway(&far, Lsn(0), &BTreeSet::new(), Span::ZERO).late.len(), 100);
    }

    #[test]
    fn an_archive_command_that_failed_last_is_told_and_one_that_has_succeeded_since_is_not() {
        let told = |last: Option<i64>| {
            let mut source = source(&[], None, Some(7));
            let archiver = source.archiver.as_mut().unwrap();
            archiver.last = last.map(|second| (seg(6), at(second)));
            remarks(&source).len()
        };
        assert_eq!([told(None), told(Some(989)), told(Some(990)), told(Some(991))], [1, 1, 0, 0]);
    }

    #[test]
    fn a_new_timeline_begins_with_its_first_segment() {
        let mut source = source(&[(7, false), (8, true), (9, false)], None, None);
        source.current.timeline = 2;
        if let Observed::Known(all) = &mut source.finished {
            all.iter_mut().for_each(|one| one.segment.timeline = 2);
        }
        let found = underway(&source, Lsn(3 * MIB), &(3..=7).map(seg).collect(), Span::ZERO);
        assert_eq!(found.late.len(), 2);
        assert!(found.gone.is_empty());
    }
}
