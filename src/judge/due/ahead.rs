//! What will run when, and why: the same decisions as the planner's, shown before they are made.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{Agenda, Due, Had, Line, untaken};
use crate::domain::ids::{PlaceName, RunId};
use crate::domain::queue::{Holder, Place, PlannedUpTo, RunKey};
use crate::domain::timetable::OWN_LABELS;
use crate::domain::units::Span;

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// A worker does it.
    Running,
    /// It is in the queue.
    Waiting,
    /// It will be planned.
    Ahead,
}

/// One run that was not done yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name; none: it is not planned yet.
    pub run: Option<RunId>,
    /// What it is.
    pub key: RunKey,
    /// Where it stands.
    pub stage: Stage,
    /// Not before.
    pub due_at: Timestamp,
    /// Not after.
    pub not_after: Option<Timestamp>,
    /// Who does it.
    pub holder: Option<Holder>,
    /// Why then, and what it waits for.
    pub why: Vec<String>,
    /// As its schedule is written; none: its schedule is gone.
    pub schedule: Option<(String, String)>,
    /// The instant on the wall clock of its schedule.
    pub local: String,
}

/// What is claimed and waits now, and the `count` runs after that. `offered`: what the machines that are asked about offer.
pub fn ahead(
    lines: Vec<Line>,
    planned: &[PlannedUpTo],
    places: &[Place],
    offered: &BTreeSet<PlaceName>,
    count: usize,
    now: Timestamp,
) -> Vec<Entry> {
    let mut agenda = Agenda::new(lines, planned, now);
    let hopeless: BTreeMap<RunId, String> = agenda.hopeless(places, now).into_iter().collect();
    let had = Had::by(places);
    let mut entries: Vec<Entry> =
        places.iter().map(|place| queued(&agenda, place, (places, &had), &hopeless, offered, now)).collect();
    let known: BTreeSet<String> = places.iter().map(|place| place.planned.key.to_string()).collect();
    let due = agenda.look(now);
    let mut next: BTreeSet<(Timestamp, usize)> = BTreeSet::new();
    let lines: Vec<&Line> = agenda.lines().collect();
    let mut coming: Vec<Entry> = due.into_iter().map(|due| later(&lines, due, offered, now)).collect();
    for (at, line) in lines.iter().enumerate() {
        next.extend(line.instants.next_after(now).map(|instant| (instant, at)));
    }
    // Those that are planned ahead, or are in the queue, come once more.
    let wanted = count + known.len() + coming.len();
    while coming.len() < wanted
        && let Some((instant, at)) = next.pop_first()
        && let Some(line) = lines.get(at)
    {
        next.extend(line.instants.next_after(instant).map(|instant| (instant, at)));
        coming.push(later(&lines, line.due(at, instant, 1, None, None), offered, now));
    }
    let mut told = BTreeSet::new();
    coming.retain(|entry| !known.contains(&entry.key.to_string()) && told.insert(entry.key.to_string()));
    coming.sort_by_key(|entry| entry.due_at);
    coming.truncate(count);
    entries.extend(coming);
    entries.sort_by_key(|entry| (entry.stage, entry.due_at));
    entries
}

fn queued(
    agenda: &Agenda,
    place: &Place,
    (places, had): (&[Place], &Had<'_>),
    hopeless: &BTreeMap<RunId, String>,
    offered: &BTreeSet<PlaceName>,
    now: Timestamp,
) -> Entry {
    let planned = &place.planned;
    let line = agenda.line_of(&planned.key).map(|(_, line)| line);
    let mut why = Vec::new();
    if planned.key.attempt > 1 {
        why.push(format!("tried again, attempt {}", planned.key.attempt));
    }
    if let Some(caught_up) = &planned.caught_up {
        why.push(caught(caught_up.instants, caught_up.since));
    }
    match (&place.holder, hopeless.get(&planned.run)) {
        (Some(holder), _) => why.push(format!("{} does it", holder.worker)),
        (None, Some(reason)) => why.push(reason.clone()),
        (None, None) if planned.due_at > now => why.extend(line.map(|line| waits(line, &planned.key, planned.due_at))),
        (None, None) => {
            let alone = |other: &&Place| other.holder.is_some() && other.planned.alone_on == planned.alone_on;
            match (&planned.alone_on, places.iter().find(alone)) {
                (Some(thing), Some(other)) => why.push(format!(
                    "waits for {thing}: {} of {} has it",
                    other.planned.key.work.title(),
                    other.planned.key.policy
                )),
                _ => {
                    let untaken = untaken(place, had, now);
                    why.push(untaken.unwrap_or_else(|| "waits for a free worker".to_owned()));
                }
            }
        }
    }
    if place.holder.is_none() {
        why.extend(lacks(planned.needs.iter(), offered));
    }
    Entry {
        run: Some(planned.run),
        key: planned.key.clone(),
        stage: if place.holder.is_some() { Stage::Running } else { Stage::Waiting },
        due_at: planned.due_at,
        not_after: planned.not_after,
        holder: place.holder.clone(),
        why,
        schedule: line.map(|line| (line.schedule.text.clone(), line.schedule.timezone.clone())),
        local: local(line, planned.key.scheduled_for),
    }
}

fn later(lines: &[&Line], due: Due, offered: &BTreeSet<PlaceName>, now: Timestamp) -> Entry {
    let line = lines.get(due.line).copied();
    let mut why = Vec::new();
    if let Some(caught_up) = &due.caught_up {
        why.push(caught(caught_up.instants, caught_up.since));
    }
    match line {
        Some(_) if due.not_after.is_some_and(|limit| limit < now || limit < due.due_at) => {
            why.push("too late: it will be missed".to_owned());
        }
        Some(line) => why.push(waits(line, &due.key, due.due_at)),
        None => {}
    }
    why.extend(line.and_then(|line| lacks(line.needs().iter(), offered)));
    Entry {
        run: None,
        stage: Stage::Ahead,
        due_at: due.due_at,
        not_after: due.not_after,
        holder: None,
        why,
        schedule: line.map(|line| (line.schedule.text.clone(), line.schedule.timezone.clone())),
        local: local(line, due.key.scheduled_for),
        key: due.key,
    }
}

fn caught(instants: u64, since: Timestamp) -> String {
    let what = if instants == 1 {
        "one instant before it was".to_owned()
    } else {
        format!("{instants} instants before it were")
    };
    format!("caught up: {what} not planned, since {since}")
}

fn waits(line: &Line, key: &RunKey, due_at: Timestamp) -> String {
    let (with_jitter, instant) = (line.with_jitter(key.scheduled_for), key.scheduled_for);
    if due_at == instant {
        "scheduled".to_owned()
    } else if line.terms.window.is_some() && due_at > with_jitter {
        "waits for its window".to_owned()
    } else if due_at == with_jitter {
        format!("scheduled, with {} of jitter", Span::between(instant, due_at))
    } else {
        "waits until it is tried again".to_owned()
    }
}

fn lacks<'a>(needs: impl Iterator<Item = &'a PlaceName>, offered: &BTreeSet<PlaceName>) -> Option<String> {
    let lacking: Vec<&str> = needs
        .filter(|need| !need.as_str().starts_with(OWN_LABELS) && !offered.contains(*need))
        .map(PlaceName::as_str)
        .collect();
    (!lacking.is_empty()).then(|| format!("needs {}, which this machine does not offer", lacking.join(", ")))
}

fn local(line: Option<&Line>, instant: Timestamp) -> String {
    let zone = line.map_or(jiff::tz::TimeZone::UTC, |line| line.instants.zone().clone());
    format!("{} {}", zone.to_datetime(instant).strftime("%Y-%m-%d %H:%M"), zone.to_offset_info(instant).abbreviation())
}
