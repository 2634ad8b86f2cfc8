//! Exposure over a window: how much would have been lost at its worst, and for how much of the time no more than was allowed.

use jiff::Timestamp;

use crate::domain::exposure::Covered;
use crate::domain::units::Span;

/// Exposure over a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// From when.
    pub from: Timestamp,
    /// Until when.
    pub to: Timestamp,
    /// The greatest exposure; none, if for some of the time nothing at all could be brought back.
    pub worst: Option<Span>,
    /// When that was.
    pub worst_at: Timestamp,
    /// For how much of the time exposure was within the objective, in hundredths of a percent: 10,000 is always. Rounded down.
    pub within: u32,
    /// What would be lost at its end.
    pub last: Option<Span>,
}

/// Judges a series over a window. `series` in any order; what was covered never becomes less by a later entry.
pub fn window(series: &[Covered], from: Timestamp, to: Timestamp, rpo: Span) -> Option<Window> {
    if from >= to {
        return None;
    }
    let mut series: Vec<Covered> = series.iter().filter(|one| one.at <= to).copied().collect();
    series.sort_by_key(|one| one.at);
    let mut newest: Option<Timestamp> = None;
    let mut at = from;
    let (mut worst, mut worst_at, mut never) = (Span::ZERO, from, None);
    let mut within = Span::ZERO;
    let mut stretch = |begins: Timestamp, ends: Timestamp, newest: Option<Timestamp>| {
        let Some(newest) = newest else {
            never.get_or_insert(begins);
            return;
        };
        // A source's clock that is a little ahead of ours: nothing is exposed.
        let exposed = Span::between(newest, ends).max(Span::ZERO);
        if exposed > worst {
            (worst, worst_at) = (exposed, ends);
        }
        let good_until = newest.checked_add(rpo.0).unwrap_or(Timestamp::MAX).min(ends);
        if good_until > begins {
            within = Span(within.0 + Span::between(begins, good_until).0);
        }
    };
    for one in series {
        if one.at > at {
            stretch(at, one.at, newest);
            at = one.at;
        }
        newest = newest.max(Some(one.covered));
    }
    stretch(at, to, newest);
    let all = Span::between(from, to).0.as_millis().max(1);
    let share = (within.0.as_millis() * 10_000 / all).clamp(0, 10_000);
    Some(Window {
        from,
        to,
        worst: never.is_none().then_some(worst),
        worst_at: never.unwrap_or(worst_at),
        within: u32::try_from(share).unwrap_or_default(),
        last: newest.map(|newest| Span::between(newest, to).max(Span::ZERO)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn one(second: i64, covered: i64) -> Covered {
        Covered { at: at(second), covered: at(covered), until: None }
    }

    fn seconds(seconds: i64) -> Span {
        Span::from_secs(seconds)
    }

    #[test]
    fn exposure_is_a_sawtooth_and_its_worst_is_just_before_the_next_tooth() {
        let series = [one(160, 155), one(100, 90), one(130, 120)];
        let found = window(&series, at(100), at(200), seconds(40)).unwrap();
        assert_eq!(found.worst, Some(seconds(45)));
        assert_eq!(found.worst_at, at(200));
        assert_eq!(found.last, Some(seconds(45)));
        // Between 130 and 160 exposure grew from 10 to 40 and was still good; from 195 on it was not.
        assert_eq!(found.within, 9_500);
        let found = window(&series, at(100), at(150), seconds(25)).unwrap();
        assert_eq!((found.worst, found.worst_at), (Some(seconds(40)), at(130)));
        // Good from 100 to 115 and from 130 to 145.
        assert_eq!(found.within, 6_000);
    }

    #[test]
    fn a_time_of_which_nothing_is_known_is_not_a_good_one() {
        let found = window(&[one(150, 149)], at(100), at(200), seconds(60)).unwrap();
        assert_eq!((found.worst, found.worst_at, found.within), (None, at(100), 5_000));
        let found = window(&[], at(100), at(200), seconds(60)).unwrap();
        assert_eq!((found.worst, found.within, found.last), (None, 0, None));
        assert_eq!(window(&[], at(100), at(100), seconds(60)), None);
        // Nothing is known before the first entry, and from then on all is well.
        let found = window(&[one(100, 99)], at(100), at(110), seconds(60)).unwrap();
        assert_eq!((found.worst, found.within), (Some(seconds(11)), 10_000));
        // What was known before the window counts in it, for as long as nothing newer is.
        let found = window(&[one(50, 45), one(100, 99)], at(100), at(110), seconds(60)).unwrap();
        assert_eq!((found.worst, found.worst_at), (Some(seconds(11)), at(110)));
        let found = window(&[one(50, 45)], at(100), at(110), seconds(60)).unwrap();
        assert_eq!((found.worst, found.within), (Some(seconds(65)), 5_000));
    }

    #[test]
    fn coverage_never_becomes_less_and_a_later_entry_is_not_counted_before_its_time() {
        let found = window(&[one(100, 99), one(110, 50), one(190, 189)], at(100), at(150), seconds(60)).unwrap();
        assert_eq!((found.worst, found.within), (Some(seconds(51)), 10_000));
    }

    #[test]
    fn of_two_moments_that_were_as_bad_the_first_is_told() {
        let found = window(&[one(100, 90), one(120, 110)], at(100), at(140), seconds(60)).unwrap();
        assert_eq!((found.worst, found.worst_at), (Some(seconds(30)), at(120)));
    }

    #[test]
    fn a_source_whose_clock_is_ahead_exposes_nothing() {
        let found = window(&[one(100, 130)], at(100), at(120), seconds(5)).unwrap();
        assert_eq!((found.worst, found.within), (Some(Span::ZERO), 10_000));
    }
}
