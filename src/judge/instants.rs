//! The instants of a schedule: which comes next, whatever the clocks of its zone do.
//!
//! The `cron` crate finds the next minute of a wall clock that never changes; the zones are jiff's, and what becomes of a minute that a change of
//! clocks leaves out or brings twice is decided here, as cron(8) of Debian says (`docs/schedule.md`):
//!
//! * without a `*` in minute and hour, a time that is left out is due right after the gap, and one that comes twice is due the first time only;
//! * with one, every minute that there really is and that matches is due: nothing is made up, and an hour that comes twice has its runs twice;
//! * a clock that is moved by three hours or more is set right, and not changed: what is left out then is not made up for.

use std::sync::Arc;

use chrono::DateTime as Wall;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

use super::schedule::{self, BadSchedule, Cadence};
use crate::domain::policy::Schedule;

/// From here on a change of clocks is taken for a correction (cron(8)).
const CORRECTION: i32 = 3 * 3_600;
/// So far back the newest instant is looked for, step by step: most are found in the first.
const LOOK_BACK_HOURS: [i64; 6] = [1, 24, 32 * 24, 400 * 24, 1_500 * 24, 3_000 * 24];

/// A schedule in its zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Instants {
    cadence: Arc<Cadence>,
    zone: TimeZone,
}

impl Instants {
    /// Reads a schedule; the zone is an IANA name.
    pub fn read(schedule: &Schedule) -> Result<Instants, BadSchedule> {
        Instants::of(&schedule.text, &schedule.timezone)
    }

    /// The same, of two texts.
    pub fn of(text: &str, timezone: &str) -> Result<Instants, BadSchedule> {
        let zone = TimeZoneDatabase::bundled().get(timezone).map_err(|_| BadSchedule {
            text: text.to_owned(),
            why: format!("`{timezone}` is not a time zone"),
            hint: "write a name of the IANA database, such as \"UTC\" or \"Europe/Berlin\"".to_owned(),
        })?;
        Ok(Instants { cadence: Arc::new(schedule::parse(text)?), zone })
    }

    /// Its zone.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first instant after a moment; none: there is none before the year 2101.
    pub fn next_after(&self, moment: Timestamp) -> Option<Timestamp> {
        let second = moment.as_millisecond().div_euclid(1_000);
        match &*self.cadence {
            Cadence::Every(every) => {
                let every = i64::try_from(every.0.as_millis()).ok().filter(|every| *every > 0)?;
                let passed = moment.as_millisecond().div_euclid(every).checked_add(1)?;
                Timestamp::from_millisecond(passed.checked_mul(every)?).ok()
            }
            Cadence::Cron { any, starred: true } => self.next_there(any, moment, second),
            Cadence::Cron { any, starred: false } => self.next_once(any, moment, second),
        }
    }

    /// Its instants after a moment and up to another, in order.
    pub fn between(&self, after: Timestamp, until: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
        let next = move |last: &Timestamp| self.next_after(*last).filter(|instant| *instant <= until);
        std::iter::successors(next(&after), next)
    }

    /// The newest instant after a moment and up to another.
    pub fn newest(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        for hours in LOOK_BACK_HOURS {
            let from = until.checked_sub(SignedDuration::from_hours(hours)).unwrap_or(Timestamp::MIN).max(after);
            if let Some(newest) = self.between(from, until).last() {
                return Some(newest);
            }
            if from == after {
                return None;
            }
        }
        None
    }

    /// Every minute that there is and that matches: by stretches in which the zone's offset stays.
    fn next_there(&self, any: &[cron::Schedule], moment: Timestamp, second: i64) -> Option<Timestamp> {
        let (mut moment, mut last) = (moment, second);
        loop {
            let offset = i64::from(self.zone.to_offset(moment).seconds());
            let changes = self.zone.following(moment).next().map(|change| change.timestamp());
            let instant = next_minute(any, last + offset).map(|wall| wall - offset);
            match (instant, changes) {
                (Some(instant), None) => return Timestamp::from_second(instant).ok(),
                (Some(instant), Some(changes)) if instant < changes.as_second() => {
                    return Timestamp::from_second(instant).ok();
                }
                // The first second of the new offset counts.
                (_, Some(changes)) => (moment, last) = (changes, changes.as_second() - 1),
                (None, None) => return None,
            }
        }
    }

    /// Every time of the calendar, once.
    fn next_once(&self, any: &[cron::Schedule], moment: Timestamp, second: i64) -> Option<Timestamp> {
        let mut wall = second + i64::from(self.zone.to_offset(moment).seconds());
        loop {
            wall = next_minute(any, wall)?;
            // In an hour that comes for the second time, what came the first time is behind.
            if let Some(instant) = self.once(wall).filter(|instant| *instant > moment) {
                return Some(instant);
            }
        }
    }

    /// When a time of the wall clock (in seconds since 1970 on it) is due.
    fn once(&self, wall: i64) -> Option<Timestamp> {
        let at = |offset: Offset| Timestamp::from_second(wall - i64::from(offset.seconds())).ok();
        let civil = Offset::UTC.to_datetime(Timestamp::from_second(wall).ok()?);
        match self.zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => at(offset),
            AmbiguousOffset::Fold { before, .. } => at(before),
            AmbiguousOffset::Gap { before, after } if after.seconds() - before.seconds() < CORRECTION => {
                // Read by the offset after it, it lies before the change.
                self.zone.following(at(after)?).next().map(|change| change.timestamp())
            }
            AmbiguousOffset::Gap { .. } => None,
        }
    }
}

/// The first minute after a second of a wall clock that any of these matches.
fn next_minute(any: &[cron::Schedule], wall: i64) -> Option<i64> {
    let wall = Wall::from_timestamp(wall, 0)?;
    any.iter().filter_map(|schedule| schedule.after(&wall).next()).min().map(|next| next.timestamp())
}

#[cfg(test)]
#[path = "instants_tests.rs"]
mod tests;
