//! Whether the clock can be believed by which backups are deleted.
//!
//! One that stands too early would keep too much, but what it deletes it deletes by mistake. One that jumped ahead makes everything old at once: then
//! there is a time in which nothing was written. A source that was not backed up for long looks the same, and there too nothing must be deleted.
//! What was written since such a time is believed once it covers days of its own.

use jiff::Timestamp;

use crate::domain::check::Finding;
use crate::domain::units::Span;

/// So far two clocks may be apart.
pub const TOLERANCE: Span = Span::from_secs(600);
/// So long must what was written after a time without anything reach before it is believed.
const SETTLED: Span = Span::from_secs(3 * 86_400);
/// A time without anything is never found strange below this.
const SHORTEST: Span = Span::from_secs(3 * 86_400);
/// As above, where no schedule says how often something is written.
const UNSCHEDULED: Span = Span::from_secs(35 * 86_400);

/// What is known of when things were written.
#[derive(Clone, Debug, Default)]
pub struct Written<'a> {
    /// When the objects of the policy in the store were written, by the store; but for what prune itself and holds write.
    pub objects: &'a [Timestamp],
    /// When each backup that was ever known was durable.
    pub taken: &'a [Timestamp],
    /// The moments that the backups bring back, by the source's clock.
    pub points: &'a [Timestamp],
    /// The longest time between two scheduled backups; none: none is scheduled.
    pub due: Option<Span>,
}

/// What speaks against the clock; nothing: it can be believed.
pub fn doubts(written: &Written<'_>, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    let sources = [
        ("an object in the store was written", written.objects),
        ("a backup was durable", written.taken),
        ("a backup brings back a moment", written.points),
    ];
    for (what, moments) in sources {
        if let Some(newest) = moments.iter().max().filter(|newest| Span::between(now, **newest) > TOLERANCE) {
            let ahead = Span::between(now, *newest);
            let message = format!("{what} {ahead} from now: this machine's clock is late, or that one was early");
            findings.push(Finding::new("clock_behind", "clock", message).with(newest.to_string(), now.to_string()));
        }
    }
    if findings.is_empty() {
        findings.extend(jump(written, now));
    }
    findings
}

/// A time in which nothing was written, so near that the clock may have jumped over it.
fn jump(written: &Written<'_>, now: Timestamp) -> Option<Finding> {
    let strange = strange(written);
    let mut moments: Vec<Timestamp> = written.objects.iter().chain(written.taken).copied().collect();
    moments.sort();
    let mut since = now;
    for moment in moments.into_iter().rev() {
        let nothing = Span::between(moment, since);
        if nothing > strange {
            let message = format!(
                "nothing was written between {moment:.0} and {since:.0}, for {nothing}: either the clock jumped ahead, or no backup was taken"
            );
            return Some(
                Finding::new("clock_jump", "clock", message).with(format!("at most {strange}"), nothing.to_string()),
            );
        }
        since = since.min(moment);
        if Span::between(since, now) >= SETTLED {
            return None;
        }
    }
    None
}

/// From when on a time without anything is strange.
fn strange(written: &Written<'_>) -> Span {
    match written.due {
        Some(due) => Span(due.0.saturating_mul(3)).max(SHORTEST),
        None => {
            let mut taken = written.taken.to_vec();
            taken.sort();
            let mut between: Vec<Span> = taken.windows(2).map(|pair| Span::between(pair[0], pair[1])).collect();
            between.sort();
            // The usual time between two, if there were enough to call any usual.
            let usual = between.get(between.len() / 2).filter(|_| between.len() >= 3);
            usual.map_or(UNSCHEDULED, |usual| Span(usual.0.saturating_mul(3)).max(UNSCHEDULED))
        }
    }
}

/// What the store's own date says of the clock: a store wrote something just now, between two readings of it.
pub fn against_store(before: Timestamp, stored: Timestamp, after: Timestamp) -> Option<Finding> {
    let (late, early) = (Span::between(stored, before), Span::between(after, stored));
    let apart = late.max(early);
    (apart > TOLERANCE).then(|| {
        let message = format!("the store's clock and this machine's are {apart} apart");
        Finding::new("clock_apart", "clock", message)
            .with(format!("{stored:.0}, as the store says"), format!("{after:.0}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(number: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + number * 86_400).unwrap()
    }

    fn codes(written: &Written<'_>, now: Timestamp) -> Vec<String> {
        doubts(written, now).into_iter().map(|finding| finding.code).collect()
    }

    const DAILY: Option<Span> = Some(Span::from_secs(86_400));

    #[test]
    fn a_late_clock_and_a_date_in_the_future_are_seen() {
        let taken: Vec<Timestamp> = (0..30).map(day).collect();
        let written = Written { taken: &taken, due: DAILY, ..Written::default() };
        assert_eq!(codes(&written, day(30)), [""; 0]);
        assert_eq!(codes(&written, day(29)), [""; 0]);
        assert_eq!(codes(&written, day(28)), ["clock_behind"]);
        let minute = |minutes: i64| day(29).checked_add(Span::from_secs(minutes * 60).0).unwrap();
        for (minutes, found) in [(10, 0), (11, 1)] {
            let at = [minute(minutes)];
            let objects = Written { objects: &at, ..written.clone() };
            let points = Written { points: &at, ..written.clone() };
            assert_eq!((codes(&objects, day(29)).len(), codes(&points, day(29)).len()), (found, found), "{minutes}");
        }
    }

    #[test]
    fn a_jump_ahead_is_seen_until_days_have_passed_behind_it() {
        let mut taken: Vec<Timestamp> = (0..30).map(day).collect();
        let codes_at =
            |taken: &[Timestamp], now: i64| codes(&Written { taken, due: DAILY, ..Written::default() }, day(now));
        assert_eq!(codes_at(&taken, 32), [""; 0], "a backup or two were missed");
        assert_eq!(codes_at(&taken, 33), ["clock_jump"]);
        assert_eq!(codes_at(&taken, 29 + 365), ["clock_jump"]);
        // Backups are taken by the wrong clock.
        taken.push(day(400));
        assert_eq!(codes_at(&taken, 400), ["clock_jump"]);
        taken.extend([day(401), day(402)]);
        assert_eq!(codes_at(&taken, 402), ["clock_jump"]);
        taken.push(day(403));
        assert_eq!(codes_at(&taken, 403), [""; 0], "days have passed: it is the clock that everybody lives by");
    }

    #[test]
    fn what_is_strange_follows_the_schedule() {
        let monthly: Vec<Timestamp> = (0..12).map(|month| day(month * 30)).collect();
        let due = |due| Written { taken: &monthly, due, ..Written::default() };
        assert_eq!(codes(&due(Some(Span::from_secs(31 * 86_400))), day(330 + 60)), [""; 0]);
        assert_eq!(codes(&due(Some(Span::from_secs(31 * 86_400))), day(330 + 94)), ["clock_jump"]);
        // By hand: three times what is usual.
        assert_eq!(codes(&due(None), day(330 + 89)), [""; 0]);
        assert_eq!(codes(&due(None), day(330 + 91)), ["clock_jump"]);
        // One that was quick, once: what is usual is what most of them were.
        let uneven = [0, 1, 21, 41, 61].map(day);
        assert_eq!(codes(&Written { taken: &uneven, ..Written::default() }, day(61 + 50)), [""; 0]);
        // However often something is due, three days of silence are nothing strange yet.
        let hourly = Written { taken: &uneven, due: Some(Span::from_secs(3_600)), ..Written::default() };
        assert_eq!((codes(&hourly, day(64)), codes(&hourly, day(65))), (vec![], vec!["clock_jump".to_owned()]));
        let few = [day(0)];
        assert_eq!(codes(&Written { taken: &few, ..Written::default() }, day(35)), [""; 0]);
        assert_eq!(codes(&Written { taken: &few, ..Written::default() }, day(36)), ["clock_jump"]);
        assert_eq!(codes(&Written::default(), day(36)), [""; 0]);
    }

    #[test]
    fn the_stores_own_date_is_held_against_ours() {
        let at = |seconds: i64| day(0).checked_add(Span::from_secs(seconds).0).unwrap();
        assert_eq!(against_store(at(0), at(1), at(2)), None);
        assert_eq!(against_store(at(0), at(-600), at(2)), None);
        assert_eq!(against_store(at(0), at(602), at(2)), None);
        for stored in [-601, 603, 365 * 86_400, -365 * 86_400] {
            assert_eq!(against_store(at(0), at(stored), at(2)).unwrap().code, "clock_apart", "{stored}");
        }
    }
}
