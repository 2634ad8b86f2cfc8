//! What is tried again.

use jiff::Timestamp;

use super::{Agenda, Due};
use crate::domain::queue::{Ended, EndedAs};
use crate::domain::run::Work;
use crate::domain::timetable::Housekeeping;
use crate::domain::units::Span;

/// Two attempts lie so far apart at most.
const LONGEST: Span = Span::from_secs(6 * 3_600);

/// The further attempts of what ended without having been done. The same whoever asks and however often: a key is planned once.
///
/// Not tried again: what was done; what has no schedule any more; what was too late; what a newer instant has taken the place of. A run whose window
/// closed waits for the next one.
pub fn again(agenda: &Agenda, ended: &[Ended], house: &Housekeeping, now: Timestamp) -> Vec<Due> {
    ended.iter().filter_map(|one| attempt(agenda, one, house, now)).collect()
}

fn attempt(agenda: &Agenda, ended: &Ended, house: &Housekeeping, now: Timestamp) -> Option<Due> {
    let key = &ended.planned.key;
    let (at, line) = agenda.line_of(key)?;
    let wait = match ended.how {
        EndedAs::Broke | EndedAs::Abandoned => backoff(house.backoff, key.attempt),
        EndedAs::Unproven if matches!(key.work, Work::Drill { .. }) => backoff(house.backoff, key.attempt),
        // Its window closed before a machine was free.
        EndedAs::Missed if line.terms.window.is_some() => Span::ZERO,
        EndedAs::Succeeded | EndedAs::Found | EndedAs::Unproven | EndedAs::Missed => return None,
    };
    if key.attempt >= house.attempts || agenda.planned_up_to(at, now).is_some_and(|newest| newest > key.scheduled_for) {
        return None;
    }
    // By a clock that was ahead it ended in a time to come.
    let from = ended.at.min(now).checked_add(wait.0).ok();
    let due = line.due(at, key.scheduled_for, key.attempt + 1, from, None);
    let limit = line.terms.catch_up.and_then(|span| key.scheduled_for.checked_add(span.0).ok());
    let in_time = limit.is_none_or(|limit| due.due_at <= limit);
    // The next of its own accord does what this one did not.
    let next = line.instants.next_after(key.scheduled_for).is_some_and(|next| next <= due.due_at);
    (in_time && !next).then_some(due)
}

/// Twice as long after each attempt.
fn backoff(first: Span, attempt: u32) -> Span {
    let times = 1_i32.checked_shl(attempt.saturating_sub(1).min(20)).unwrap_or(i32::MAX);
    Span(first.0.saturating_mul(times)).min(LONGEST)
}
