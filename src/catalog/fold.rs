//! How the events of a run add up.

use jiff::Timestamp;

use crate::domain::ids::{PolicyName, RunId};
use crate::domain::run::{Event, Run, RunState};
use crate::domain::units::Span;

/// One run from its events, oldest first; nothing if it was never planned.
///
/// The first end stands: a process that was found dead and comes back late changes nothing.
pub fn fold(id: RunId, policy: &PolicyName, events: &[(Timestamp, Event)]) -> Option<Run> {
    let mut run: Option<Run> = None;
    for (at, event) in events {
        match event {
            Event::Planned { work, scheduled_for } => {
                run.get_or_insert_with(|| Run {
                    id,
                    policy: policy.clone(),
                    work: work.clone(),
                    planned_at: *at,
                    scheduled_for: *scheduled_for,
                    started_at: None,
                    ended_at: None,
                    state: RunState::Planned,
                    took: None,
                });
            }
            Event::Started { host, pid, pid_started } => {
                if let Some(run) = &mut run
                    && run.ended_at.is_none()
                {
                    run.started_at = Some(*at);
                    run.state = RunState::Running { host: host.clone(), pid: *pid, pid_started: *pid_started };
                }
            }
            Event::Finished { outcome } => end(&mut run, *at, RunState::Ended(outcome.clone())),
            Event::Abandoned { why } => end(&mut run, *at, RunState::Abandoned(why.clone())),
            Event::Missed { why } => end(&mut run, *at, RunState::Missed(why.clone())),
            Event::ScratchMade { .. }
            | Event::ScratchDestroyed { .. }
            | Event::Committed(_)
            | Event::Copied(_)
            | Event::Drilled(_)
            | Event::DrillTested(_)
            | Event::HoleAcknowledged(_)
            | Event::ImmutabilityTried { .. }
            | Event::Marked { .. }
            | Event::Removed(_)
            | Event::LogRemoved { .. }
            | Event::OrphansRemoved { .. }
            | Event::CaughtUp { .. } => {}
        }
    }
    run
}

fn end(run: &mut Option<Run>, at: Timestamp, state: RunState) {
    if let Some(run) = run
        && run.ended_at.is_none()
    {
        run.ended_at = Some(at);
        run.took = run.started_at.map(|started| Span::between(started, at));
        run.state = state;
    }
}

/// The word under which an event is found.
pub fn kind(event: &Event) -> &'static str {
    event.kind()
}

/// A value as JSON that every kind of catalog takes: PostgreSQL has no NUL in its texts, so none is written anywhere.
pub fn portable<T: serde::Serialize>(value: &T) -> Result<String, serde_json::Error> {
    let text = serde_json::to_string(value)?;
    if !text.contains("\\u0000") {
        return Ok(text);
    }
    let mut value: serde_json::Value = serde_json::from_str(&text)?;
    without_nul(&mut value);
    serde_json::to_string(&value)
}

fn without_nul(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::String(text) if text.contains('\0') => *text = text.replace('\0', "\u{fffd}"),
        Value::Array(all) => all.iter_mut().for_each(without_nul),
        Value::Object(all) => {
            *all = std::mem::take(all)
                .into_iter()
                .map(|(key, mut value)| {
                    without_nul(&mut value);
                    (key.replace('\0', "\u{fffd}"), value)
                })
                .collect();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_nul_gets_into_a_catalog_and_nothing_else_is_changed() {
        let event = |error: &str| Event::Abandoned { why: error.to_owned() };
        assert_eq!(portable(&event("a\0b")).unwrap(), r#"{"abandoned":{"why":"a�b"}}"#);
        // A backslash and the letters are no NUL.
        let text = portable(&event("a\\u0000b")).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event("a\\u0000b"));
        assert_eq!(portable(&event("plain")).unwrap(), serde_json::to_string(&event("plain")).unwrap());
    }
}
