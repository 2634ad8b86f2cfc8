//! The search for the last moment at which something still held: which moments there are to be asked for, and which is asked for next.
//!
//! Each answer costs a restore. So what a restore shows beside its answer counts too: the transaction that stopped it says up to when nothing
//! changed, and that is certain; the last one that it replayed says since when, and that is only likely (commits are not quite in the order of
//! their times), so it steers the search and is asked for before it counts.

use jiff::Timestamp;

/// From when to when a backup and the log behind it bring back any moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reachable {
    /// The end of the backup.
    pub from: Timestamp,
    /// The last commit of the log behind it, which itself comes back only with all of the log.
    pub last: Timestamp,
}

/// What is searched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its moments.
    pub moments: Moments,
    /// Where it is smaller than what was asked for, and why.
    pub warnings: Vec<String>,
}

/// Moments, each at most a second after the one before it, unless nothing between them can be brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moments {
    /// Sorted and apart; in each its beginning is a moment, and every whole second before its end.
    stretches: Vec<Stretch>,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    from: Timestamp,
    to: Timestamp,
}

/// The last moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// This one.
    At(Timestamp),
    /// All that the log holds. The last commit that is known of is of this time.
    OfLog(Timestamp),
}

impl End {
    /// When.
    pub fn at(self) -> Timestamp {
        match self {
            End::At(at) | End::OfLog(at) => at,
        }
    }
}

/// The greatest step down.
const MICROSECOND: jiff::SignedDuration = jiff::SignedDuration::from_micros(1);

fn before(at: Timestamp) -> Timestamp {
    at.checked_sub(MICROSECOND).unwrap_or(at)
}

/// The first whole second that is not before `at`.
fn whole(at: Timestamp) -> i64 {
    at.as_second().saturating_add(i64::from(at.subsec_nanosecond() > 0))
}

impl Stretch {
    fn count(&self) -> u64 {
        1 + u64::try_from(whole(self.to).saturating_sub(1).saturating_sub(self.from.as_second())).unwrap_or(0)
    }

    fn at(&self, index: u64) -> Timestamp {
        let seconds = self.from.as_second().saturating_add(i64::try_from(index).unwrap_or(i64::MAX));
        if index == 0 { self.from } else { Timestamp::from_second(seconds).unwrap_or(self.to) }
    }

    /// The first of its moments that is not before `at`; as many as there are, if none is.
    fn first_from(&self, at: Timestamp) -> u64 {
        let seconds = u64::try_from(whole(at).saturating_sub(self.from.as_second())).unwrap_or(0);
        if at <= self.from { 0 } else { seconds.min(self.count()) }
    }
}

/// The moments between `since` and `before` that can be brought back; left out: all of them. An error says why there is nothing to be searched.
pub fn window(reachable: &[Reachable], since: Option<Timestamp>, until: Option<Timestamp>) -> Result<Window, String> {
    let mut all: Vec<Stretch> = reachable.iter().map(|one| Stretch { from: one.from, to: one.last }).collect();
    all.retain(|one| one.from < one.to);
    all.sort_by_key(|one| one.from);
    let mut apart: Vec<Stretch> = Vec::new();
    for one in all {
        match apart.last_mut().filter(|last| one.from <= last.to) {
            Some(last) => last.to = last.to.max(one.to),
            None => apart.push(one),
        }
    }
    let (Some(first), Some(last)) = (apart.first().copied(), apart.last().copied()) else {
        return Err("no commit after the end of a backup is in the log".to_owned());
    };
    let mut warnings = Vec::new();
    if let Some(since) = since.filter(|since| *since < first.from) {
        warnings.push(format!(
            "nothing before {} can be brought back: what was there at {since} is not looked at",
            first.from
        ));
    }
    let wanted_end = until.filter(|until| *until < last.to);
    if let Some(until) = until.filter(|until| *until > last.to) {
        warnings.push(format!("the log goes to {} only: what was there at {until} is not looked at", last.to));
    }
    let (since, until) = (since.unwrap_or(first.from), wanted_end.unwrap_or(last.to));
    let mut stretches: Vec<Stretch> = apart
        .iter()
        .map(|one| Stretch { from: one.from.max(since), to: one.to.min(until) })
        .filter(|one| one.from < one.to)
        .collect();
    let end = match wanted_end {
        None => End::OfLog(last.to),
        Some(until) if apart.iter().any(|one| one.from <= until && until < one.to) => End::At(until),
        // Nothing brings that moment back: the last one before it that something does.
        Some(until) => {
            let last = stretches.last().map_or(until, |one| before(one.to));
            warnings.push(format!(
                "{until} cannot be brought back: the log has a hole there. What was there after {last} is not looked at"
            ));
            End::At(last)
        }
    };
    stretches.retain_mut(|one| {
        one.to = one.to.min(end.at());
        one.from < one.to
    });
    if let Some(at) = stretches.first().map(|one| one.from).filter(|from| *from > since) {
        warnings.push(format!("{since} cannot be brought back: the log has a hole there. It is looked from {at} on"));
    }
    if stretches.is_empty() {
        return Err(format!(
            "no two moments between {since} and {until} can be brought back (what can begins at {}, and ends at {})",
            first.from, last.to
        ));
    }
    Ok(Window { moments: Moments { stretches, end }, warnings })
}

impl Moments {
    /// How many: at least two.
    pub fn count(&self) -> u64 {
        self.stretches.iter().map(Stretch::count).sum::<u64>() + 1
    }

    /// One of them, by its index; from [`Moments::count`] on the last.
    pub fn at(&self, index: u64) -> Timestamp {
        let mut left = index;
        for stretch in &self.stretches {
            if left < stretch.count() {
                return stretch.at(left);
            }
            left -= stretch.count();
        }
        self.end.at()
    }

    /// The last one.
    pub fn end(&self) -> End {
        self.end
    }

    /// Whether it is the end of the log, and not a moment before it.
    pub fn is_end_of_log(&self, index: u64) -> bool {
        index + 1 >= self.count() && matches!(self.end, End::OfLog(_))
    }

    /// The first that is not before `at`. The end of the log stands behind every moment.
    fn first_from(&self, at: Timestamp) -> u64 {
        let mut passed = 0;
        for stretch in &self.stretches {
            let here = stretch.first_from(at);
            if here < stretch.count() {
                return passed + here;
            }
            passed += stretch.count();
        }
        match self.end {
            End::At(end) if end < at => passed + 1,
            End::At(_) | End::OfLog(_) => passed,
        }
    }
}

/// What a restore to one of the moments showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which moment.
    pub index: u64,
    /// Whether it held.
    pub holds: bool,
    /// When the last transaction ended that was replayed, as far as it is known.
    pub last_replayed: Option<Timestamp>,
    /// When the first one ended that was not: up to there every moment brings back the same.
    pub stopped_before: Option<Timestamp>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Look at this moment.
    Look(u64),
    /// The search is over.
    Done(Outcome),
}

/// What came of it. Each moment that is named was seen, or brings back the same as one that was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It held at the first of two neighbours, and not at the second.
    Between(u64, u64),
    /// It did not hold at the first moment.
    Never,
    /// It held at the last moment.
    Still,
}

/// The same state has given two answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contradiction;

/// A search that is under way. It takes it that what holds no longer does not hold again.
#[derive(Clone, Debug)]
pub struct Search {
    moments: Moments,
    low: Edge,
    high: Edge,
    /// Between the two; likely, and not seen.
    guess: Option<u64>,
    outcome: Option<Outcome>,
}

#[derive(Clone, Copy, Debug)]
struct Edge {
    index: u64,
    seen: bool,
}

impl Search {
    /// Nothing is known yet.
    pub fn new(moments: Moments) -> Search {
        let high = Edge { index: moments.count() - 1, seen: false };
        Search { moments, low: Edge { index: 0, seen: false }, high, guess: None, outcome: None }
    }

    /// What is to be done next. An edge is looked at only when nothing is left between the two.
    pub fn next(&self) -> Next {
        if let Some(outcome) = self.outcome {
            return Next::Done(outcome);
        }
        let top = self.guess.unwrap_or(self.high.index);
        if top - self.low.index > 1 {
            return Next::Look(self.low.index + (top - self.low.index) / 2);
        }
        match (self.low.seen, self.guess, self.high.seen) {
            (false, ..) => Next::Look(self.low.index),
            (true, Some(guess), _) => Next::Look(guess),
            (true, None, false) => Next::Look(self.high.index),
            (true, None, true) => Next::Done(Outcome::Between(self.low.index, self.high.index)),
        }
    }

    /// Takes in what was seen.
    pub fn tell(&mut self, seen: Seen) -> Result<(), Contradiction> {
        if seen.holds {
            // The last moment before the transaction that stopped it.
            let same = seen.stopped_before.map_or(seen.index, |at| self.moments.first_from(at).saturating_sub(1));
            let same = same.max(seen.index);
            if same >= self.high.index {
                if self.high.seen {
                    return Err(Contradiction);
                }
                self.outcome = Some(Outcome::Still);
            }
            self.low = Edge { index: same, seen: true };
            self.guess = self.guess.filter(|guess| *guess > same);
            return Ok(());
        }
        if self.low.seen && seen.index <= self.low.index {
            return Err(Contradiction);
        }
        if seen.index == 0 {
            self.outcome = Some(Outcome::Never);
            return Ok(());
        }
        self.high = Edge { index: seen.index, seen: true };
        let likely = seen.last_replayed.map(|at| self.moments.first_from(at).max(self.low.index + 1));
        self.guess = likely.filter(|likely| *likely < seen.index);
        Ok(())
    }
}

/// The most restores that a window of so many seconds takes: it is halved until a second is left, and each of its ends may have to be looked at.
pub fn at_most(seconds: u64) -> u32 {
    seconds.max(1).next_power_of_two().trailing_zeros() + 2
}

#[cfg(test)]
#[path = "search_tests.rs"]
mod tests;
