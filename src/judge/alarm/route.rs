//! Which way an alarm goes, and when it must wait for the morning.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::domain::alarm::{Condition, LetterId};
use crate::domain::drift::Severity;
use crate::domain::units::Span;
use crate::domain::watch::{Group, Notifier, Quiet, Route, Tell};

/// The routes that an alarm goes, by their place: the first that fits, and those after it while they say so.
pub fn next_for(routes: &[Route], what: &Condition) -> Vec<usize> {
    let mut ways = Vec::new();
    for (at, route) in routes.iter().enumerate() {
        if fits(route, what) {
            ways.push(at);
            if !route.go_on {
                break;
            }
        }
    }
    ways
}

fn fits(route: &Route, what: &Condition) -> bool {
    let named = |list: &[String], word: Option<&str>| {
        list.is_empty() || word.is_some_and(|word| list.iter().any(|one| one == word))
    };
    what.severity >= route.at_least
        && named(&route.tiers, what.tier.as_deref())
        && named(&route.owners, Some(&what.owner))
        && (route.policies.is_empty() || what.key.policy.as_ref().is_some_and(|policy| route.policies.contains(policy)))
}

/// What holds where nobody wrote a route: everybody is told of everything at once.
pub(super) fn to_all(notifiers: &[Notifier]) -> Vec<Route> {
    let to = notifiers.iter().map(|notifier| notifier.name.clone()).collect();
    vec![Route {
        at_least: Severity::Unproven,
        tiers: Vec::new(),
        owners: Vec::new(),
        policies: Vec::new(),
        go_on: false,
        steps: vec![Tell { after: Span::ZERO, to }],
        repeat: None,
        wait: Span::ZERO,
        group: Group::Policy,
        quiet: Vec::new(),
    }]
}

/// Whether a moment lies in one of these stretches of the day. One whose zone is not known is not quiet: better woken than not told.
pub fn is_quiet(quiet: &[Quiet], now: Timestamp) -> bool {
    quiet.iter().any(|quiet| {
        let Ok(zone) = TimeZone::get(&quiet.timezone) else { return false };
        let local = zone.to_datetime(now);
        let minute = u16::try_from(i32::from(local.hour()) * 60 + i32::from(local.minute())).unwrap_or_default();
        if quiet.from <= quiet.to {
            (quiet.from..quiet.to).contains(&minute)
        } else {
            minute >= quiet.from || minute < quiet.to
        }
    })
}

/// When a letter that did not arrive is tried again: after ten seconds, then twice as long each time, and a quarter of an hour at most. Spread a little, by
/// the letter's own name, so that all letters of an outage do not come at once.
pub fn next_try(letter: LetterId, tries: u32, asked: Option<Span>, now: Timestamp) -> Timestamp {
    let seconds = 10_i64.saturating_mul(1 << tries.saturating_sub(1).min(10)).min(900);
    let spread = i64::from(letter.0.as_bytes()[0]) % 20;
    let wait = (seconds * (100 + spread) / 100).max(asked.map_or(0, |asked| asked.0.as_secs()));
    now.checked_add(jiff::SignedDuration::from_secs(wait)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample::at;

    fn letter(first: u8) -> LetterId {
        let mut bytes = [0; 16];
        bytes[0] = first;
        LetterId(uuid::Uuid::from_bytes(bytes))
    }

    #[test]
    fn letters_are_tried_again_later_and_later_a_quarter_of_an_hour_apart_at_most() {
        let now = at("2026-01-01T00:00:00Z");
        let wait = |first, tries, asked: Option<i64>| {
            next_try(letter(first), tries, asked.map(Span::from_secs), now).duration_since(now).as_secs()
        };
        let waits: Vec<i64> = [0, 1, 2, 3, 7, 8, 99].iter().map(|tries| wait(0, *tries, None)).collect();
        assert_eq!(waits, [10, 10, 20, 40, 640, 900, 900]);
        // Spread by up to a fifth.
        assert_eq!([wait(19, 3, None), wait(20, 3, None), wait(39, 8, None)], [47, 40, 1_071]);
        // As long as the receiver asks for, and no shorter than it would be.
        assert_eq!([wait(0, 1, Some(60)), wait(0, 8, Some(60))], [60, 900]);
    }

    #[test]
    fn quiet_hours_begin_with_their_first_minute_and_end_before_their_last() {
        let quiet = |from, to, now: &str| is_quiet(&[Quiet { from, to, timezone: "UTC".to_owned() }], at(now));
        let day = |now| quiet(12 * 60 + 30, 13 * 60, now);
        assert!(day("2026-01-01T12:30:00Z") && day("2026-01-01T12:59:59Z"));
        assert!(!day("2026-01-01T12:29:59Z") && !day("2026-01-01T13:00:00Z") && !day("2026-01-01T00:45:00Z"));
        let night = |now| quiet(22 * 60, 7 * 60, now);
        assert!(night("2026-01-01T22:00:00Z") && night("2026-01-01T06:59:59Z"));
        assert!(!night("2026-01-01T21:59:59Z") && !night("2026-01-01T07:00:00Z"));
        assert!(!quiet(600, 600, "2026-01-01T10:00:00Z"), "from ten to ten is never");
        let nowhere = Quiet { from: 0, to: 1_439, timezone: "Nowhere/Land".to_owned() };
        assert!(!is_quiet(&[nowhere], at("2026-01-01T10:00:00Z")));
    }
}
