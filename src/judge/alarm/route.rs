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
