//! Days, weeks, months and years, and which backup stands for each.
//!
//! The newest of a period stands for it: it holds what happened in all of it, and once the period is over it does not change any more. Only periods
//! that have a backup are counted, so that a time without backups costs none of the older ones.

use jiff::tz::TimeZone;

use super::{Kept, Says};
use crate::domain::policy::Retention;

/// A period of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Period {
    Day,
    /// From Monday on (ISO 8601).
    Week,
    Month,
    Year,
}

impl Period {
    pub(super) const ALL: [Period; 4] = [Period::Day, Period::Week, Period::Month, Period::Year];

    /// For how many of them a backup is kept.
    pub(super) fn count(self, retention: &Retention) -> usize {
        let count = match self {
            Period::Day => retention.daily,
            Period::Week => retention.weekly,
            Period::Month => retention.monthly,
            Period::Year => retention.yearly,
        };
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    pub(super) fn plural(self) -> &'static str {
        match self {
            Period::Day => "days",
            Period::Week => "weeks",
            Period::Month => "months",
            Period::Year => "years",
        }
    }

    /// The period in which a backup's recovery point lies, in words: `month 2026-03`.
    pub(super) fn of(self, says: &Says, zone: &TimeZone) -> String {
        let date = zone.to_datetime(says.recovery_point).date();
        match self {
            Period::Day => format!("day {date}"),
            Period::Week => {
                let week = date.iso_week_date();
                format!("week {:04}-W{:02}", week.year(), week.week())
            }
            Period::Month => format!("month {:04}-{:02}", date.year(), date.month()),
            Period::Year => format!("year {:04}", date.year()),
        }
    }
}

/// The backups that stand for a period, and for which. `of_job`: the newest first.
pub(super) fn representatives<'a>(
    of_job: &[(&'a Kept, &'a Says)],
    retention: &Retention,
    zone: &TimeZone,
) -> Vec<(&'a Kept, String)> {
    let mut found = Vec::new();
    for period in Period::ALL {
        let (mut left, mut last) = (period.count(retention), None);
        for (backup, says) in of_job {
            if left == 0 {
                break;
            }
            let this = period.of(says, zone);
            if last.as_ref() != Some(&this) {
                found.push((*backup, format!("the newest of {this}")));
                (left, last) = (left - 1, Some(this));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(at: &str) -> Says {
        let at = at.parse().unwrap();
        Says { job: "nightly".parse().unwrap(), recovery_point: at, finished_at: at }
    }

    #[test]
    fn periods_are_those_of_the_zone() {
        let zone = |name: &str| TimeZone::get(name).unwrap();
        for (at, name, day, week, month, year) in [
            ("2024-02-29T12:00:00Z", "UTC", "day 2024-02-29", "week 2024-W09", "month 2024-02", "year 2024"),
            // Half past midnight in Berlin is still the year before in Greenwich, and both lie in the week of the old year.
            ("2026-12-31T23:30:00Z", "UTC", "day 2026-12-31", "week 2026-W53", "month 2026-12", "year 2026"),
            ("2026-12-31T23:30:00Z", "Europe/Berlin", "day 2027-01-01", "week 2026-W53", "month 2027-01", "year 2027"),
            ("2025-12-29T00:00:00Z", "UTC", "day 2025-12-29", "week 2026-W01", "month 2025-12", "year 2025"),
            // The hour that comes twice, and the one that never comes.
            ("2026-10-25T00:30:00Z", "Europe/Berlin", "day 2026-10-25", "week 2026-W43", "month 2026-10", "year 2026"),
            ("2026-10-25T01:30:00Z", "Europe/Berlin", "day 2026-10-25", "week 2026-W43", "month 2026-10", "year 2026"),
            ("2026-03-29T01:30:00Z", "Europe/Berlin", "day 2026-03-29", "week 2026-W13", "month 2026-03", "year 2026"),
            // The day that Samoa did not have.
            ("2011-12-30T10:30:00Z", "Pacific/Apia", "day 2011-12-31", "week 2011-W52", "month 2011-12", "year 2011"),
        ] {
            let periods = Period::ALL.map(|period| period.of(&says(at), &zone(name)));
            assert_eq!(periods, [day, week, month, year], "{at} in {name}");
        }
    }
}
