//! What is due: from the schedules of the policies, from what was planned and how it ended, what is to be planned now.
//!
//! Every schedule is a [`Line`]. An [`Agenda`] knows of each up to which instant it was planned; asked at a moment, it gives the runs that are to be
//! planned then. It is always the newest instant that becomes a run: those before it that nobody planned are told with it. Of a schedule that was never
//! planned the *next* instant is planned ahead, so that from its first sight on nothing of it can be lost.
//!
//! Nothing here is remembered that cannot be had from the queue again, and a key is planned once, whoever asks: so planners may be killed, doubled,
//! and woken after days.

mod again;
mod ahead;
mod line;
mod untaken;
mod window;

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::domain::ids::{PolicyName, RunId};
use crate::domain::queue::{CaughtUp, Place, PlannedUpTo, RunKey};
use crate::domain::units::Span;

pub use again::again;
pub use ahead::{Entry, Stage, ahead};
pub use line::{Class, Line, TOO_LATE, label, lines, overdue, place};
pub use untaken::{Had, UNTAKEN_AFTER, untaken};
pub use window::{closes, opens};

/// A run that is to be planned: all but its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    /// Of which line, by its place in the list.
    pub line: usize,
    /// What makes it the same run, whoever plans it.
    pub key: RunKey,
    /// Not before.
    pub due_at: Timestamp,
    /// Not after.
    pub not_after: Option<Timestamp>,
    /// Instants before its own that nobody planned.
    pub caught_up: Option<CaughtUp>,
}

/// A line, and how far it was planned.
#[derive(Clone, Debug)]
struct Watch {
    line: Line,
    /// The newest instant that was planned, or is planned ahead.
    base: Timestamp,
    /// The one after it.
    next: Option<Timestamp>,
    /// To be planned ahead.
    ahead: Option<Timestamp>,
}

/// All lines, and how far they were planned.
#[derive(Clone, Debug)]
pub struct Agenda {
    watches: Vec<Watch>,
    index: BTreeMap<PolicyName, Vec<usize>>,
    looked_at: Timestamp,
}

/// A clock that goes back by more than this was set.
const SET_BACK: Span = Span::from_secs(5);

impl Agenda {
    /// From what the queue says. `now`, also below, by the queue's clock.
    pub fn new(lines: Vec<Line>, planned: &[PlannedUpTo], now: Timestamp) -> Agenda {
        let mut up_to: BTreeMap<&PolicyName, Vec<&PlannedUpTo>> = BTreeMap::new();
        for one in planned {
            up_to.entry(&one.policy).or_default().push(one);
        }
        let mut index: BTreeMap<PolicyName, Vec<usize>> = BTreeMap::new();
        let watches = lines.into_iter().enumerate().map(|(at, line)| {
            index.entry(line.policy.clone()).or_default().push(at);
            let known = up_to.get(&line.policy).into_iter().flatten();
            let known = known.filter(|one| one.work == line.work).map(|one| one.instant).max();
            Watch::new(line, known, now)
        });
        let watches = watches.collect();
        Agenda { watches, index, looked_at: now }
    }

    /// The lines.
    pub fn lines(&self) -> impl ExactSizeIterator<Item = &Line> {
        self.watches.iter().map(|watch| &watch.line)
    }

    /// The line of a key; none: its policy, job or drill is gone, or has no schedule any more.
    pub fn line_of(&self, key: &RunKey) -> Option<(usize, &Line)> {
        let at = self.index.get(&key.policy)?.iter().find(|at| self.watches[**at].line.work == key.work)?;
        Some((*at, &self.watches[*at].line))
    }

    /// What is to be planned now. What was given once is not given again: if it could not be planned, a new agenda gives it.
    pub fn look(&mut self, now: Timestamp) -> Vec<Due> {
        if now < self.looked_at.checked_sub(SET_BACK.0).unwrap_or(Timestamp::MIN) {
            // What was planned by a clock that was ahead is planned; from here on the clock is followed again.
            for watch in &mut self.watches {
                let known = watch.ahead.map_or(Some(watch.base), |_| None);
                *watch = Watch::new(watch.line.clone(), known, now);
            }
        }
        self.looked_at = now;
        let mut due = Vec::new();
        for (at, watch) in self.watches.iter_mut().enumerate() {
            due.extend(watch.look(now).map(|(instant, caught_up)| watch.line.due(at, instant, 1, None, caught_up)));
        }
        due
    }

    /// When there may be something to plan next; none: never.
    pub fn next(&self) -> Option<Timestamp> {
        self.watches.iter().filter_map(|watch| watch.ahead.or(watch.next)).min()
    }

    /// Of the runs that wait, those that will not be done, and why.
    pub fn hopeless(&self, places: &[Place], now: Timestamp) -> Vec<(RunId, String)> {
        let waiting = places.iter().filter(|place| place.holder.is_none());
        let had = Had::by(places);
        let why = |place: &Place| {
            let why = self.why_hopeless(place, now)?;
            Some(match untaken(place, &had, now) {
                Some(untaken) => format!("{why}; {untaken}"),
                None => why,
            })
        };
        waiting.filter_map(|place| Some((place.planned.run, why(place)?))).collect()
    }

    fn why_hopeless(&self, place: &Place, now: Timestamp) -> Option<String> {
        let planned = &place.planned;
        let key = &planned.key;
        let Some((at, line)) = self.line_of(key) else {
            let gone = match self.index.contains_key(&key.policy) {
                true => format!("policy {} does not schedule a {} any more", key.policy, key.work.title()),
                false => format!("policy {} is gone, or schedules nothing any more", key.policy),
            };
            return Some(gone);
        };
        let watch = &self.watches[at];
        if watch.base > key.scheduled_for && watch.base <= now {
            return Some(format!("it was not begun before the next was due: {} takes its place", watch.base));
        }
        if planned.not_after.is_some_and(|limit| limit < now) {
            return Some(line.too_late(planned, now));
        }
        let before = key.scheduled_for.checked_sub(Span::from_millis(1).0).unwrap_or(key.scheduled_for);
        if key.scheduled_for > now && line.instants.next_after(before) != Some(key.scheduled_for) {
            return Some("its schedule was changed before it came".to_owned());
        }
        None
    }

    /// Up to which instant a line was planned, as far as that lies behind `now`.
    pub fn planned_up_to(&self, line: usize, now: Timestamp) -> Option<Timestamp> {
        self.watches.get(line).map(|watch| watch.base).filter(|base| *base <= now)
    }
}

impl Watch {
    fn new(line: Line, known: Option<Timestamp>, now: Timestamp) -> Watch {
        let (base, ahead) = match known {
            Some(known) if known <= now => (known, None),
            // Never planned, or planned by a clock that was ahead, or less often than now: the next is planned ahead, if it is not yet.
            known => match line.instants.next_after(now) {
                Some(next) if known != Some(next) => (next, Some(next)),
                Some(next) => (next, None),
                None => (now, None),
            },
        };
        let next = line.instants.next_after(base);
        Watch { line, base, next, ahead }
    }

    fn look(&mut self, now: Timestamp) -> Option<(Timestamp, Option<CaughtUp>)> {
        if let Some(ahead) = self.ahead.take() {
            return Some((ahead, None));
        }
        let first = self.next.filter(|next| *next <= now)?;
        let newest = self.line.instants.newest(self.base, now).unwrap_or(first);
        let instants = self.line.instants.between(self.base, newest).count() as u64 - 1;
        self.base = newest;
        self.next = self.line.instants.next_after(newest);
        Some((newest, (instants > 0).then_some(CaughtUp { instants, since: first })))
    }
}

#[cfg(test)]
mod tests;
