//! Terms of scheduled runs, `[schedule]`, `[serve]` and `[worker]`: their rules, and their way into the domain.

use std::collections::BTreeSet;

use jiff::civil::Weekday;

use super::document::{Document, Node};
use super::format::{When, Written};
use super::problem::Problems;
use super::raw::timetable::{RawDay, RawSchedule, RawServe, RawWindow, RawWorker};
use crate::domain::ids::PlaceName;
use crate::domain::policy::Schedule;
use crate::domain::timetable::{Housekeeping, OWN_LABELS, Serve, Terms, Window};
use crate::domain::units::Span;

/// The shortest lease: heartbeats must come through on a busy machine.
const SHORTEST_LEASE: Span = Span::from_secs(3);

/// Of a job or a drill that a policy runs.
pub(super) fn terms_rules(document: &Document, table: &Node, problems: &mut Problems) {
    for key in ["jitter", "catch_up", "window"] {
        if let Some(entry) = table.entry(key)
            && table.get("schedule").is_none()
        {
            let message = format!("`{key}` without `schedule` says nothing");
            let hint = "add schedule = \"0 3 * * *\"; or leave both out, to run it only by hand";
            problems.add(document.problem(&entry.span, message).hint(hint));
        }
    }
    document.more_than_none(table, "catch_up", problems);
    let text = |key: &str| table.get(key).and_then(Node::text);
    if let (Some(from), Some(to)) = (text("window.from"), text("window.to"))
        && from == to
        && let Some(window) = table.entry("window")
    {
        let hint = "leave it out, when runs may be begun at any time";
        problems.add(document.problem(&window.span, "this window ends when it begins").hint(hint));
    }
    labels_rules(document, table.get("needs"), problems);
}

/// Of `lifeboat.toml`.
pub(super) fn rules(document: &Document, problems: &mut Problems) {
    let root = &document.root;
    document.more_than_none(root, "schedule.backoff", problems);
    for (key, needs) in [("schedule.verify_budget", "schedule.verify")] {
        if let Some(node) = root.get(key).filter(|_| root.get(needs).is_none()) {
            let hint = "add verify = \"0 5 * * *\", when it is to be done; or leave both out";
            problems.add(document.problem(&node.span, format!("`{key}` without `{needs}` says nothing")).hint(hint));
        }
    }
    if let Some(node) = root.get("serve.lease")
        && node.text().and_then(|text| text.parse::<Span>().ok()).is_some_and(|lease| lease < SHORTEST_LEASE)
    {
        let message = "a lease this short runs out under a worker that is only busy";
        problems.add(document.problem(&node.span, message).hint(format!("the shortest is \"{SHORTEST_LEASE}\"")));
    }
    labels_rules(document, root.get("worker.labels"), problems);
}

fn labels_rules(document: &Document, labels: Option<&Node>, problems: &mut Problems) {
    for label in labels.map(Node::items).unwrap_or_default() {
        if label.text().is_some_and(|text| text.starts_with(OWN_LABELS)) {
            let message = format!("labels that begin with `{OWN_LABELS}` are lifeboat's own");
            problems.add(document.problem(&label.span, message).hint("choose another word"));
        }
    }
}

pub(super) fn terms(
    jitter: Option<Written<Span>>,
    catch_up: Option<Written<Span>>,
    window: Option<RawWindow>,
    needs: Vec<Written<PlaceName>>,
) -> Terms {
    Terms {
        jitter: jitter.map(|span| span.0),
        catch_up: catch_up.map(|span| span.0),
        window: window.map(|raw| Window {
            from: raw.from.0.0,
            to: raw.to.0.0,
            days: raw.days.into_iter().map(day).collect(),
        }),
        needs: labels(needs),
    }
}

pub(super) fn housekeeping(raw: RawSchedule) -> Housekeeping {
    let zone = raw.timezone.map_or_else(|| "UTC".to_owned(), |zone| zone.0.0);
    let at = |when: Option<Written<When>>| when.map(|when| Schedule { text: when.0.0, timezone: zone.clone() });
    let usual = Housekeeping::default();
    Housekeeping {
        prune: at(raw.prune),
        copy: at(raw.copy),
        verify: at(raw.verify),
        drift: at(raw.drift),
        budget: raw.verify_budget.map_or(usual.budget, |budget| budget.0),
        jitter: raw.jitter.map_or(usual.jitter, |span| Some(span.0)),
        attempts: raw.attempts.map_or(usual.attempts, u32::from),
        backoff: raw.backoff.map_or(usual.backoff, |span| span.0),
    }
}

pub(super) fn serve(raw: RawServe, worker: RawWorker) -> Serve {
    let usual = Serve::default();
    Serve {
        workers: raw.workers.map_or(usual.workers, usize::from),
        backups: raw.backups.map_or(usual.backups, usize::from),
        drills: raw.drills.map_or(usual.drills, usize::from),
        housekeeping: raw.housekeeping.map_or(usual.housekeeping, usize::from),
        drain: raw.drain.map_or(usual.drain, |span| span.0),
        lease: raw.lease.map_or(usual.lease, |span| span.0),
        labels: labels(worker.labels),
    }
}

fn labels(written: Vec<Written<PlaceName>>) -> BTreeSet<PlaceName> {
    written.into_iter().map(|name| name.0).collect()
}

fn day(raw: RawDay) -> Weekday {
    match raw {
        RawDay::Mon => Weekday::Monday,
        RawDay::Tue => Weekday::Tuesday,
        RawDay::Wed => Weekday::Wednesday,
        RawDay::Thu => Weekday::Thursday,
        RawDay::Fri => Weekday::Friday,
        RawDay::Sat => Weekday::Saturday,
        RawDay::Sun => Weekday::Sunday,
    }
}
