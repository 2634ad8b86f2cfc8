//! Windows in which runs may be begun.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::domain::timetable::Window;

/// So many days ahead a window is looked for: each day of the week comes, and a day that a zone leaves out does not matter.
const DAYS: i64 = 15;

/// When it opens on a day, and when it closes after that.
fn on(window: &Window, zone: &TimeZone, day: Date) -> Option<(Timestamp, Timestamp)> {
    let until = if window.to > window.from { day } else { day.checked_add(1.day()).ok()? };
    // A time that a change of clocks leaves out is the moment after it, and one that comes twice is the first.
    let at = |date: Date, time: Time| zone.to_ambiguous_timestamp(date.to_datetime(time)).compatible().ok();
    Some((at(day, window.from)?, at(until, window.to)?))
}

/// The windows around a moment, in order.
fn around<'a>(
    window: &'a Window,
    zone: &'a TimeZone,
    moment: Timestamp,
) -> impl Iterator<Item = (Timestamp, Timestamp)> + 'a {
    let today = zone.to_datetime(moment).date();
    let days = (-1..DAYS).filter_map(move |days| today.checked_add(days.days()).ok());
    days.filter(|day| window.days.is_empty() || window.days.contains(&day.weekday()))
        .filter_map(|day| on(window, zone, day))
        // One that a change of clocks leaves nothing of.
        .filter(|(opens, closes)| opens < closes)
}

/// The first moment from this one on at which it is open.
pub fn opens(window: &Window, zone: &TimeZone, moment: Timestamp) -> Timestamp {
    let next = around(window, zone, moment).find(|(_, closes)| *closes > moment);
    next.map_or(moment, |(opens, _)| opens.max(moment))
}

/// The last moment of the window that is open at a moment: a run is begun at or before it.
pub fn closes(window: &Window, zone: &TimeZone, moment: Timestamp) -> Timestamp {
    let open = around(window, zone, moment).find(|(opens, closes)| *opens <= moment && *closes > moment);
    open.and_then(|(_, closes)| closes.checked_sub(1.second()).ok()).unwrap_or(moment)
}
