//! When a schedule is due: five fields as crontab(5) means them, nicknames, and `every 6h`.
//!
//! The `cron` crate reads six or seven fields, counts the days of the week 1–7 from Sunday, and wants day of month *and*
//! day of week to match. crontab(5) has five fields, counts 0–7 (both ends are Sunday), and lets a day match by either
//! when both are given. So the five fields are read strictly here, and handed on as one or two expressions of the crate.

use std::str::FromStr;

use cron::TimeUnitSpec;
use jiff::ToSpan;
use jiff::civil::{Date, DateTime};

use crate::domain::units::Span;

/// When something is due.
#[derive(Clone, Debug, PartialEq)]
pub enum Cadence {
    /// At minutes of the wall clock.
    Cron {
        /// Any of these matches; there are two when a day matches by day of month *or* day of week.
        any: Vec<cron::Schedule>,
        /// Whether minute or hour are given with a `*`: such ones go on evenly when clocks change (cron(8)).
        starred: bool,
    },
    /// Again and again after so long, counted from the beginning of 1970 in UTC: so all machines agree, whoever ran when.
    Every(Span),
}

/// Why a text is not a schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a schedule: {why}")]
pub struct BadSchedule {
    /// What was written.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
    /// What to write instead.
    pub hint: String,
}

/// One of the five fields: its name, its least and greatest value, and names for values.
struct Field {
    what: &'static str,
    least: u32,
    greatest: u32,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const FIELDS: [Field; 5] = [
    Field { what: "minute", least: 0, greatest: 59, names: &[] },
    Field { what: "hour", least: 0, greatest: 23, names: &[] },
    Field { what: "day of month", least: 1, greatest: 31, names: &[] },
    Field { what: "month", least: 1, greatest: 12, names: &MONTHS },
    Field { what: "day of week", least: 0, greatest: 7, names: &WEEKDAYS },
];

const HOW: &str =
    "five fields: minute hour day-of-month month day-of-week, such as \"0 3 * * *\"; or \"@daily\"; or \"every 6h\"";

/// Reads a schedule.
pub fn parse(text: &str) -> Result<Cadence, BadSchedule> {
    let bad = |why: String, hint: &str| BadSchedule { text: text.to_owned(), why, hint: hint.to_owned() };
    let trimmed = text.trim();
    if let Some(rest) = trimmed.strip_prefix("every ") {
        let span: Span = rest.parse().map_err(|error| bad(format!("{error}"), "write it as \"every 6h\""))?;
        if span < Span::from_secs(60) {
            return Err(bad("it is shorter than a minute".to_owned(), "the shortest is \"every 1m\""));
        }
        return Ok(Cadence::Every(span));
    }
    let fields = match trimmed {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        "@reboot" => return Err(bad("a machine's start is not a moment that can be promised".to_owned(), HOW)),
        nickname if nickname.starts_with('@') => {
            let hint = "there are: @yearly, @monthly, @weekly, @daily, @hourly";
            return Err(bad("there is no such nickname".to_owned(), hint));
        }
        fields => fields,
    };
    let expressions = translate(fields).map_err(|why| bad(why, HOW))?;
    let schedules: Result<Vec<_>, _> = expressions.iter().map(|text| cron::Schedule::from_str(text)).collect();
    let any = schedules.map_err(|error| bad(error.to_string(), HOW))?;
    Ok(Cadence::Cron { any, starred: fields.split_whitespace().take(2).any(|field| field.contains('*')) })
}

/// Five fields of crontab(5) as one or two six-field expressions of the `cron` crate. Errors are sentences.
fn translate(text: &str) -> Result<Vec<String>, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let Ok([minute, hour, day, month, weekday]) = <[&str; 5]>::try_from(words.as_slice()) else {
        return Err(format!("it has {} fields, not five", words.len()));
    };
    let [minutes, hours, days, months, weekdays] = [
        values(&FIELDS[0], minute)?,
        values(&FIELDS[1], hour)?,
        values(&FIELDS[2], day)?,
        values(&FIELDS[3], month)?,
        values(&FIELDS[4], weekday)?,
    ];
    // 0 and 7 are both Sunday, which the crate calls 1.
    let mut weekdays: Vec<u32> = weekdays.into_iter().map(|day| day % 7 + 1).collect();
    weekdays.sort_unstable();
    weekdays.dedup();
    // "If both fields are restricted (that is, do not start with *), either may match" (crontab(5)): `*/2` is not restricted.
    let either = !day.starts_with('*') && !weekday.starts_with('*');
    let longest = |month: &u32| match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let comes = months.iter().any(|month| days.iter().any(|day| *day <= longest(month)));
    if !either && !comes {
        return Err("no such day ever comes".to_owned());
    }
    let list = |numbers: &[u32]| numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let head = format!("0 {} {}", list(&minutes), list(&hours));
    let (days, months, weekdays) = (list(&days), list(&months), list(&weekdays));
    Ok(if either && !comes {
        vec![format!("{head} * {months} {weekdays}")]
    } else if either {
        vec![format!("{head} {days} {months} *"), format!("{head} * {months} {weekdays}")]
    } else {
        vec![format!("{head} {days} {months} {weekdays}")]
    })
}

/// The values that a field names, ascending.
fn values(field: &Field, text: &str) -> Result<Vec<u32>, String> {
    let mut all = Vec::new();
    for item in text.split(',') {
        let (range, step) = match item.split_once('/') {
            None => (item, None),
            Some((range, step)) => (range, Some(step)),
        };
        let (first, last) = if range == "*" {
            // All days of the week are 0 to 6: 7 would name Sunday twice, and shift the steps after it.
            (field.least, if field.greatest == 7 { 6 } else { field.greatest })
        } else if let Some((first, last)) = range.split_once('-') {
            (value(field, first)?, value(field, last)?)
        } else if let Some(step) = step {
            let hint = format!("{range}-{}/{step}", field.greatest);
            return Err(format!("{} `{item}`: a step goes with * or a range, such as {hint}", field.what));
        } else {
            let only = value(field, range)?;
            (only, only)
        };
        if first > last {
            return Err(format!("{} `{range}` runs backwards", field.what));
        }
        let step = match step {
            None => 1,
            Some(step) => match step.parse::<usize>() {
                Ok(step) if step > 0 && step <= 60 => step,
                _ => return Err(format!("{} `{item}`: the step must be a number from 1 to 60", field.what)),
            },
        };
        all.extend((first..=last).step_by(step));
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

fn value(field: &Field, text: &str) -> Result<u32, String> {
    let lower = text.to_ascii_lowercase();
    if let Some(at) = field.names.iter().position(|name| *name == lower) {
        return Ok(u32::try_from(at).unwrap_or_default() + field.least);
    }
    let number = Some(text).filter(|text| text.len() <= 2 && text.bytes().all(|byte| byte.is_ascii_digit()));
    match number.and_then(|text| text.parse().ok()) {
        Some(number) if (field.least..=field.greatest).contains(&number) => Ok(number),
        _ => Err(format!("{} `{text}` is not one of {} to {}", field.what, field.least, field.greatest)),
    }
}

/// So many days are looked through for when something is due: leap days come at least so often, but for one time in a century.
const DAYS: i32 = 1_500;

impl Cadence {
    /// The longest time between two days of the years from `from` on at which it is due.
    pub fn longest_wait(&self, from: Date) -> Span {
        let schedules = match self {
            Cadence::Every(span) => return *span,
            Cadence::Cron { any, .. } => any,
        };
        let number = |value: i8| u32::try_from(value).unwrap_or_default();
        let due = |day: Date| {
            schedules.iter().any(|schedule| {
                schedule.days_of_month().includes(number(day.day()))
                    && schedule.months().includes(number(day.month()))
                    && schedule.days_of_week().includes(number(day.weekday().to_sunday_one_offset()))
            })
        };
        let (mut longest, mut last) = (0, None);
        for (at, day) in (0..DAYS).zip(from.series(1.day())) {
            if due(day) {
                longest = longest.max(at - last.unwrap_or(at));
                last = Some(at);
            }
        }
        // One that is due only once in all these days is waited for all of them.
        let days = if longest == 0 { DAYS } else { longest };
        Span::from_secs(i64::from(days) * 86_400)
    }

    /// Whether a minute of the wall clock matches. (`every` matches none: it goes by no wall clock.)
    pub fn matches(&self, at: DateTime) -> bool {
        let Cadence::Cron { any: schedules, .. } = self else { return false };
        let number = |value: i8| u32::try_from(value).unwrap_or_default();
        let weekday = number(at.weekday().to_sunday_one_offset());
        schedules.iter().any(|schedule| {
            schedule.minutes().includes(number(at.minute()))
                && schedule.hours().includes(number(at.hour()))
                && schedule.days_of_month().includes(number(at.day()))
                && schedule.months().includes(number(at.month()))
                && schedule.days_of_week().includes(weekday)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_fields_become_expressions_of_the_crate() {
        for (text, expressions) in [
            ("0 3 * * 0", vec!["0 0 3 ALLDAYS ALLMONTHS 1"]),
            ("0 3 * * 7", vec!["0 0 3 ALLDAYS ALLMONTHS 1"]),
            ("0 3 * * sun,7,0", vec!["0 0 3 ALLDAYS ALLMONTHS 1"]),
            ("0 3 * * 1-5", vec!["0 0 3 ALLDAYS ALLMONTHS 2,3,4,5,6"]),
            ("0 3 * * 5-7", vec!["0 0 3 ALLDAYS ALLMONTHS 1,6,7"]),
            ("0 3 * * MON-Fri/2", vec!["0 0 3 ALLDAYS ALLMONTHS 2,4,6"]),
            ("0 3 * * */2", vec!["0 0 3 ALLDAYS ALLMONTHS 1,3,5,7"]),
            ("*/20 1,2 1 jan-mar *", vec!["0 0,20,40 1,2 1 1,2,3 1,2,3,4,5,6,7"]),
            // Both days are given: a day matches by either.
            ("5 4 1,15 * fri", vec!["0 5 4 1,15 ALLMONTHS *", "0 5 4 * ALLMONTHS 6"]),
            // A step after a star does not restrict.
            ("5 4 */15 * fri", vec!["0 5 4 1,16,31 ALLMONTHS 6"]),
        ] {
            let days = (1..=31).map(|day| day.to_string()).collect::<Vec<_>>().join(",");
            let wanted: Vec<String> = expressions
                .iter()
                .map(|text| text.replace("ALLDAYS", &days).replace("ALLMONTHS", "1,2,3,4,5,6,7,8,9,10,11,12"))
                .collect();
            assert_eq!(translate(text).unwrap(), wanted, "{text}");
            assert!(parse(text).is_ok(), "{text}");
        }
    }

    /// Days of November 2026 (its first is a Sunday) on which a schedule is due.
    fn days_due(text: &str) -> Vec<i8> {
        let cadence = parse(text).unwrap();
        let at = |day| jiff::civil::date(2026, 11, day).at(3, 0, 0, 0);
        (1..=30).filter(|day| cadence.matches(at(*day))).collect()
    }

    #[test]
    fn days_match_as_crontab_means_them() {
        for (text, days) in [
            ("0 3 * * 0", vec![1, 8, 15, 22, 29]),
            ("0 3 * * 7", vec![1, 8, 15, 22, 29]),
            ("0 3 * * 6", vec![7, 14, 21, 28]),
            ("0 3 * * sat-sun", vec![]),
            ("0 3 13 * 5", vec![6, 13, 20, 27]),
            ("0 3 12 * 5", vec![6, 12, 13, 20, 27]),
            ("0 3 */10 * *", vec![1, 11, 21]),
            ("0 3 */10 * 3", vec![11]),
            ("0 3 31 * *", vec![]),
            ("0 3 * dec *", vec![]),
            ("0 4 * * *", vec![]),
            ("@weekly", vec![]),
        ] {
            if text == "0 3 * * sat-sun" {
                // 6-0 runs backwards, as in crontab(5); 6-7 is how it is written.
                assert!(parse(text).is_err());
                continue;
            }
            assert_eq!(days_due(text), days, "{text}");
        }
        assert_eq!(days_due("0 3 * * 6-7"), [1, 7, 8, 14, 15, 21, 22, 28, 29]);
    }

    #[test]
    fn the_longest_wait_is_that_of_the_calendar() {
        for (text, days) in [
            ("0 3 * * *", 1),
            ("@hourly", 1),
            ("0 3 * * 1-5", 3),
            ("@weekly", 7),
            ("@monthly", 31),
            ("0 0 31 * *", 61),
            ("@yearly", 366),
            ("0 0 29 2 *", 1_461),
            ("every 6h", 0),
        ] {
            let wait = parse(text).unwrap().longest_wait(jiff::civil::date(2026, 1, 1));
            let wanted = if days == 0 { Span::from_secs(21_600) } else { Span::from_secs(days * 86_400) };
            // The one leap day within reach has no other: then all that was looked through is waited.
            assert!(wait == wanted || (days == 1_461 && wait == Span::from_secs(1_500 * 86_400)), "{text}: {wait}");
        }
    }

    #[test]
    fn nicknames_and_intervals_are_read() {
        let midnight = jiff::civil::date(2026, 1, 1).at(0, 0, 0, 0);
        for (text, due) in [("@yearly", true), ("@annually", true), ("@monthly", true), ("@weekly", false)] {
            assert_eq!(parse(text).unwrap().matches(midnight), due, "{text}");
        }
        for text in ["@daily", "@midnight", "@hourly", " @daily "] {
            assert!(parse(text).unwrap().matches(midnight), "{text}");
        }
        assert_eq!(parse("every 1m").unwrap(), Cadence::Every(Span::from_secs(60)));
        assert_eq!(parse("every 6h").unwrap(), Cadence::Every(Span::from_secs(21_600)));
    }

    #[test]
    fn what_is_not_a_schedule_is_refused_with_the_field_named() {
        for (text, part) in [
            ("", "0 fields"),
            ("0 3 * *", "4 fields"),
            ("0 0 3 * * *", "6 fields"),
            ("60 3 * * *", "minute `60`"),
            ("0 24 * * *", "hour `24`"),
            ("0 3 0 * *", "day of month `0`"),
            ("0 3 32 * *", "day of month `32`"),
            ("0 3 * 13 *", "month `13`"),
            ("0 3 * * 8", "day of week `8`"),
            ("0 3 * * funday", "day of week `funday`"),
            ("0 3 * sunday *", "month `sunday`"),
            ("5-1 3 * * *", "backwards"),
            ("5/15 3 * * *", "a step goes with"),
            ("*/0 3 * * *", "the step must be"),
            ("*/x 3 * * *", "the step must be"),
            ("1,,2 3 * * *", "minute ``"),
            ("-5 3 * * *", "minute ``"),
            ("+5 3 * * *", "minute `+5`"),
            ("0 0 31 2 *", "no such day"),
            ("0 0 30,31 feb *", "no such day"),
            ("0 0 31 apr,jun,sep,nov *", "no such day"),
            ("? * * * *", "minute `?`"),
            ("@reboot", "start"),
            ("@fortnightly", "nickname"),
            ("every 5", "not a duration"),
            ("every 10s", "shorter than a minute"),
            ("every", "1 fields"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().contains(part), "{text:?}: {error}");
            assert!(!error.hint.is_empty());
        }
        assert!(parse("0 0 29 2 *").is_ok(), "leap days come");
        assert!(parse("0 0 31 2 mon").is_ok(), "Mondays come");
    }
}
