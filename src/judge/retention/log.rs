//! What of the log nothing needs any more.
//!
//! A backup is brought forward by the log from where it begins. So, for each cluster, what lies before the beginning of its oldest backup is needed by
//! none, on whatever timeline it lies. With `[wal] keep` less stays: from the beginning of the newest backup that is older than that on, all of it, so
//! that every moment within can be reached; and of what lies before, the stretch that each backup needs for itself.
//!
//! Histories stay, and so does every file whose record cannot be believed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use crate::domain::artifact::WalRange;
use crate::domain::lsn::Lsn;
use crate::domain::units::Span;
use crate::domain::wal::{Piece, Segment, WalName};

/// A physical backup that is there, in whichever store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Of which cluster.
    pub system_identifier: String,
    /// The log that it needs for itself.
    pub range: WalRange,
    /// How long segments are.
    pub segment_bytes: u64,
    /// The moment that it brings back.
    pub recovery_point: Timestamp,
    /// When it was begun.
    pub started_at: Timestamp,
    /// Whether it was deleted, and can still be brought back.
    pub deleted: bool,
}

/// A file of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// What it is called.
    pub name: WalName,
    /// When the store wrote it.
    pub written: Timestamp,
    /// Of which cluster it is; none: its record does not say. The error: its record cannot be believed.
    pub of: Result<Option<String>, String>,
}

/// What goes, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LogPlan {
    /// Files that nothing needs, in the order in which they go.
    pub delete: Vec<WalName>,
    /// Why, in a sentence for each cluster.
    pub reasons: Vec<String>,
    /// Stretches behind a backup that stays: from now on somebody must answer for them, or they would be found missing.
    pub holes: Vec<Stretch>,
    /// Why nothing goes; or what stays although it may not be needed.
    pub remarks: Vec<String>,
}

/// A stretch that goes although an older backup could have been brought over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Stretch {
    /// The first segment.
    pub from: Segment,
    /// The last, on the same timeline.
    pub to: Segment,
    /// How long segments are.
    pub segment_bytes: u64,
}

/// What of one cluster's log is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Need {
    segment_bytes: u64,
    /// All from here on.
    from: Lsn,
    /// Where the oldest backup begins.
    oldest: Lsn,
    /// What single backups need before that.
    islands: Vec<(Lsn, Lsn)>,
    /// Timelines that backups are on.
    timelines: BTreeSet<u32>,
}

/// What is needed of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    clusters: BTreeMap<String, Need>,
    /// Clusters of which nothing may go, and why.
    mixed: Vec<String>,
    /// What was written before this is of no use to any backup of another cluster.
    oldest: Option<Timestamp>,
}

impl Needs {
    /// Of these backups. `keep`: for how long every moment must be within reach.
    pub fn of(bases: &[Base], keep: Option<Span>, now: Timestamp) -> Needs {
        let mut needs = Needs { oldest: bases.iter().map(|base| base.started_at).min(), ..Needs::default() };
        let mut clusters: BTreeMap<&str, Vec<&Base>> = BTreeMap::new();
        for base in bases {
            clusters.entry(&base.system_identifier).or_default().push(base);
        }
        for (cluster, bases) in clusters {
            let lengths: BTreeSet<u64> = bases.iter().map(|base| base.segment_bytes).collect();
            let (Some(segment_bytes), 1) = (lengths.first(), lengths.len()) else {
                needs.mixed.push(cluster.to_owned());
                continue;
            };
            let oldest = bases.iter().map(|base| base.range.start).min().unwrap_or(Lsn(0));
            let horizon = keep.map(|keep| now.checked_sub(keep.0).unwrap_or(Timestamp::MIN));
            // The newest that is older than the window: from it on, all of the window can be reached.
            let before = |horizon: Timestamp| {
                let older = bases.iter().filter(|base| !base.deleted && base.recovery_point <= horizon);
                older.max_by_key(|base| (base.recovery_point, base.range.start)).map(|base| base.range.start)
            };
            let from = horizon.and_then(before).unwrap_or(oldest);
            let need = Need {
                segment_bytes: *segment_bytes,
                from,
                oldest,
                islands: bases.iter().map(|base| (base.range.start, base.range.end)).collect(),
                timelines: bases.iter().map(|base| base.range.timeline).collect(),
            };
            needs.clusters.insert(cluster.to_owned(), need);
        }
        needs
    }

    /// Whether a file may go, as far as its name and its date tell: then its record must be read.
    pub fn may_go(&self, name: WalName, written: Timestamp) -> bool {
        let Some(segment) = segment_of(name) else { return false };
        self.oldest.is_some_and(|oldest| written < oldest)
            || self.clusters.values().any(|need| need.why_not(segment).is_none())
    }
}

impl Need {
    /// Why a segment is needed, in a few words; none: it is not.
    fn why_not(&self, segment: Segment) -> Option<&'static str> {
        let Some(start) = segment.start(self.segment_bytes) else { return Some("its name is not one of this cluster") };
        let end = Lsn(start.0.saturating_add(self.segment_bytes));
        if end > self.from {
            return Some("a backup is brought forward by it");
        }
        // A stretch that ends where a segment begins needs that one too: a recovery looks into it.
        let island = |(from, to): &(Lsn, Lsn)| end > *from && start <= *to;
        self.islands.iter().any(island).then_some("a backup needs it for itself")
    }
}

/// The segment whose fate a file shares; none: it stays.
fn segment_of(name: WalName) -> Option<Segment> {
    match name {
        WalName::Segment(segment)
        | WalName::Partial(segment)
        | WalName::Label { segment, .. }
        | WalName::Piece(Piece { segment, .. }) => Some(segment),
        WalName::History { .. } => None,
    }
}

/// Decides. `files`: those that [`Needs::may_go`], and any others; `unread`: backups whose manifest cannot be believed, which may need anything.
pub fn plan(files: &[File], needs: &Needs, unread: usize, keep: Option<Span>) -> LogPlan {
    let mut plan = LogPlan::default();
    if unread > 0 {
        plan.remarks.push(format!(
            "all of the log stays: it is not known what {unread} backups need, whose manifest cannot be believed"
        ));
        return plan;
    }
    let Some(oldest) = needs.oldest else {
        plan.remarks.push("all of the log stays: there is no physical backup".to_owned());
        return plan;
    };
    for cluster in &needs.mixed {
        plan.remarks.push(format!("the log of cluster {cluster} stays: its backups have segments of several lengths"));
    }
    let mut go: BTreeSet<(u32, u32, WalName)> = BTreeSet::new();
    let mut gone: BTreeMap<&str, BTreeSet<Segment>> = BTreeMap::new();
    let (mut foreign, mut doubted) = (0_usize, 0_usize);
    for file in files {
        let Some(segment) = segment_of(file.name) else { continue };
        match &file.of {
            Err(_) => doubted += 1,
            Ok(Some(cluster)) if needs.mixed.contains(cluster) => {}
            Ok(Some(cluster)) => match needs.clusters.get_key_value(cluster) {
                Some((cluster, need)) if need.why_not(segment).is_none() => {
                    go.insert((segment.log, segment.segment, file.name));
                    gone.entry(cluster).or_default().insert(segment);
                }
                Some(_) => {}
                // Of a cluster that no backup is of: it was of use to one that is gone. A first backup may still be on its way.
                None if file.written < oldest => {
                    foreign += 1;
                    go.insert((segment.log, segment.segment, file.name));
                }
                None => {}
            },
            // Whose it is was never said: it goes if it would be no use to any.
            Ok(None) => {
                if needs.mixed.is_empty() && needs.clusters.values().all(|need| need.why_not(segment).is_none()) {
                    go.insert((segment.log, segment.segment, file.name));
                }
            }
        }
    }
    for (cluster, segments) in gone {
        let Some(need) = needs.clusters.get(cluster) else { continue };
        plan.reasons.push(match keep.filter(|_| need.from > need.oldest) {
            None => format!("it lies before {}, where the oldest backup of cluster {cluster} begins", need.oldest),
            Some(keep) => format!(
                "it lies before {}, from where on the log reaches back {keep}, and no backup of cluster {cluster} needs it for itself",
                need.from
            ),
        });
        plan.holes.extend(stretches(&segments, need));
    }
    if foreign > 0 {
        plan.reasons.push("it is of a cluster that no backup is of, and older than the oldest backup".to_owned());
    }
    if doubted > 0 {
        plan.remarks.push(format!("{doubted} files stay whose record cannot be believed"));
    }
    plan.delete = go.into_iter().map(|(_, _, name)| name).collect();
    plan
}

/// What goes behind the beginning of the oldest backup, on every timeline that a backup could have been brought along.
fn stretches(segments: &BTreeSet<Segment>, need: &Need) -> Vec<Stretch> {
    let place = |segment: &Segment| (segment.log, segment.segment);
    let mut places: Vec<Segment> = segments
        .iter()
        .filter(|segment| segment.start(need.segment_bytes).is_some_and(|start| start >= need.oldest))
        .copied()
        .collect();
    places.sort_by_key(place);
    let timelines: BTreeSet<u32> =
        need.timelines.iter().copied().chain(places.iter().map(|segment| segment.timeline)).collect();
    // What a backup needs for itself lies between two stretches.
    let mut runs: Vec<(Segment, Segment)> = Vec::new();
    for segment in places {
        let joined = runs.last_mut().filter(|(_, to)| {
            let (Some(from), Some(until)) = (to.start(need.segment_bytes), segment.start(need.segment_bytes)) else {
                return false;
            };
            !need.islands.iter().any(|(start, _)| *start >= from && *start < until)
        });
        match joined {
            Some((_, to)) => *to = segment,
            None => runs.push((segment, segment)),
        }
    }
    let on = |timeline: u32, segment: Segment| Segment { timeline, ..segment };
    let all = runs.iter().flat_map(|(from, to)| {
        timelines.iter().map(|timeline| Stretch {
            from: on(*timeline, *from),
            to: on(*timeline, *to),
            segment_bytes: need.segment_bytes,
        })
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const CLUSTER: &str = "7300000000000000001";

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + day * 86_400).unwrap()
    }

    fn seg(timeline: u32, number: u64) -> Segment {
        Segment::holding(timeline, Lsn(number * MIB), MIB)
    }

    /// Taken on a day, in two segments.
    fn base(day: i64, timeline: u32, first: u64) -> Base {
        Base {
            system_identifier: CLUSTER.to_owned(),
            range: WalRange { timeline, start: Lsn(first * MIB + 40), end: Lsn((first + 1) * MIB + 500) },
            segment_bytes: MIB,
            recovery_point: at(day),
            started_at: at(day),
            deleted: false,
        }
    }

    fn file(timeline: u32, number: u64) -> File {
        File { name: WalName::Segment(seg(timeline, number)), written: at(1_000), of: Ok(Some(CLUSTER.to_owned())) }
    }

    fn numbers(plan: &LogPlan) -> Vec<u32> {
        let number = |name: &WalName| segment_of(*name).unwrap().segment;
        plan.delete.iter().map(number).collect()
    }

    fn decide(files: &[File], bases: &[Base], keep: Option<Span>, now: i64) -> LogPlan {
        let needs = Needs::of(bases, keep, at(now));
        for file in files {
            let alone = super::plan(std::slice::from_ref(file), &needs, 0, keep);
            assert!(alone.delete.is_empty() || needs.may_go(file.name, file.written), "{file:?} is never looked at");
        }
        super::plan(files, &needs, 0, keep)
    }

    const DAYS: fn(i64) -> Option<Span> = |days| Some(Span::from_secs(days * 86_400));

    #[test]
    fn what_lies_before_the_oldest_backup_goes_on_every_timeline() {
        let mut files: Vec<File> = (0..20).map(|number| file(1, number)).collect();
        files.extend((3..20).map(|number| file(2, number)));
        let history = WalName::History { timeline: 2 };
        let label = WalName::Label { segment: seg(1, 2), offset: 40 };
        let piece = WalName::Piece(Piece { segment: seg(1, 4), from: 0, to: 9 });
        files.extend([history, label, piece].map(|name| File { name, ..file(1, 0) }));
        let plan = decide(&files, &[base(1, 1, 5), base(3, 2, 9)], None, 10);
        assert_eq!(numbers(&plan), [0, 1, 2, 2, 3, 3, 4, 4, 4]);
        assert!(plan.delete.contains(&label) && plan.delete.contains(&piece) && !plan.delete.contains(&history));
        assert_eq!((plan.holes.len(), plan.reasons.len()), (0, 1), "{plan:?}");
        // Nothing is needed from before, and the oldest decides whatever its timeline is.
        let plan = decide(&files, &[base(1, 2, 5), base(3, 1, 9)], None, 10);
        assert_eq!(numbers(&plan), [0, 1, 2, 2, 3, 3, 4, 4, 4]);
    }

    #[test]
    fn with_a_window_it_reaches_back_so_far_and_backups_keep_what_is_theirs() {
        let files: Vec<File> = (0..40).map(|number| file(1, number)).collect();
        let bases = [base(1, 1, 5), base(5, 1, 12), base(10, 1, 20), base(20, 1, 30)];
        let plan = decide(&files, &bases, DAYS(9), 20);
        // Day 11 is the horizon: from the backup of day 10 on everything stays.
        assert_eq!(numbers(&plan), [0, 1, 2, 3, 4, 7, 8, 9, 10, 11, 14, 15, 16, 17, 18, 19]);
        let stretch = |from, to| Stretch { from: seg(1, from), to: seg(1, to), segment_bytes: MIB };
        assert_eq!(plan.holes, [stretch(7, 11), stretch(14, 19)]);
        // All backups are young: the oldest decides.
        assert_eq!(numbers(&decide(&files, &bases, DAYS(30), 20)), [0, 1, 2, 3, 4]);
        // One that was deleted is no ground to stand on, and keeps its own.
        let deleted = [Base { deleted: true, ..base(10, 1, 20) }, base(5, 1, 12), base(20, 1, 30)];
        let plan = decide(&files, &deleted, DAYS(9), 20);
        assert_eq!(numbers(&plan), (0..12).collect::<Vec<u32>>());
        assert_eq!(plan.holes, []);
    }

    #[test]
    fn a_stretch_that_ends_between_two_segments_needs_the_next() {
        let files: Vec<File> = (0..20).map(|number| file(1, number)).collect();
        let range = WalRange { timeline: 1, start: Lsn(3 * MIB), end: Lsn(5 * MIB) };
        let old = Base { range, ..base(1, 1, 3) };
        let plan = decide(&files, &[old, base(10, 1, 15)], DAYS(5), 20);
        assert_eq!(numbers(&plan), [0, 1, 2, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
    }

    #[test]
    fn what_ends_where_the_oldest_backup_begins_goes_and_each_reason_is_told() {
        let files: Vec<File> = (0..30).map(|number| file(1, number)).collect();
        let whole = |first: u64| WalRange { timeline: 1, start: Lsn(first * MIB), end: Lsn((first + 1) * MIB + 5) };
        let old = Base { range: whole(5), ..base(1, 1, 5) };
        let plan = decide(&files, std::slice::from_ref(&old), None, 10);
        assert_eq!(numbers(&plan), [0, 1, 2, 3, 4]);
        assert!(plan.reasons.len() == 1 && plan.reasons[0].contains("where the oldest backup"), "{plan:?}");
        // A window that all backups are younger than moves nothing; one that they are not says so.
        let plan = decide(&files, std::slice::from_ref(&old), DAYS(30), 10);
        assert!(plan.reasons[0].contains("where the oldest backup"), "{plan:?}");
        let moved = [old, Base { range: WalRange { timeline: 2, ..whole(20) }, ..base(10, 2, 20) }];
        let plan = decide(&files, &moved, DAYS(5), 20);
        assert!(plan.reasons.len() == 1 && plan.reasons[0].contains("the log reaches back 5d"), "{plan:?}");
        // A hole is one on every timeline that a backup could have been brought along.
        let on = |timeline| Stretch { from: seg(timeline, 7), to: seg(timeline, 19), segment_bytes: MIB };
        assert_eq!(plan.holes, [on(1), on(2)]);
    }

    #[test]
    fn a_date_alone_lets_a_file_be_looked_at_only_before_the_oldest_backup() {
        let needs = Needs::of(&[base(1, 1, 5)], None, at(10));
        let name = WalName::Segment(seg(1, 9));
        let may = |written| needs.may_go(name, written);
        assert_eq!([may(at(0)), may(at(1)), may(at(2))], [true, false, false]);
        assert!(!needs.may_go(WalName::History { timeline: 2 }, at(0)));
    }

    #[test]
    fn what_is_not_understood_stays() {
        let of = |of: Result<Option<String>, String>| File { of, ..file(1, 0) };
        let bases = [base(1, 1, 5)];
        let doubted = decide(&[of(Err("forged".to_owned()))], &bases, None, 10);
        assert_eq!((doubted.delete.len(), doubted.remarks.len()), (0, 1));
        assert_eq!(decide(&[of(Ok(None))], &bases, None, 10).delete.len(), 1, "it would be no use to anybody");
        // Of another cluster: as long as it may wait for its first backup, it stays.
        let other = of(Ok(Some("8".to_owned())));
        assert_eq!(decide(std::slice::from_ref(&other), &bases, None, 10).delete.len(), 0);
        let stays = decide(&[File { written: at(1), ..other.clone() }], &bases, None, 10);
        assert_eq!((stays.delete.len(), stays.reasons.len()), (0, 0));
        let goes = decide(&[File { written: at(0), ..other.clone() }], &bases, None, 10);
        assert_eq!((goes.delete.len(), goes.reasons.len()), (1, 1));
        assert!(goes.reasons[0].contains("no backup is of"), "{goes:?}");
        // Its backup is there: its own places count.
        let theirs = Base { system_identifier: "8".to_owned(), ..base(0, 1, 0) };
        assert_eq!(decide(&[File { written: at(-9), ..other }], &[theirs, base(1, 1, 5)], None, 10).delete.len(), 0);
        // Segments of two lengths, no backup, a backup that is not understood.
        let longer = Base { segment_bytes: 16 * MIB, ..base(3, 1, 9) };
        let older = File { written: at(-9), ..file(1, 1) };
        let mixed = decide(&[file(1, 0), older, of(Ok(None))], &[base(1, 1, 5), longer], None, 10);
        assert_eq!((mixed.delete.len(), mixed.remarks.len()), (0, 1));
        assert_eq!(decide(&[file(1, 0)], &[], None, 10).delete.len(), 0);
        let needs = Needs::of(&bases, None, at(10));
        assert_eq!(super::plan(&[file(1, 0)], &needs, 1, None).delete.len(), 0);
    }
}
