//! One schedule of a policy, with all that its runs need.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{Due, window};
use crate::domain::ids::{PlaceName, PolicyName, RunId};
use crate::domain::policy::{Method, Policy, Schedule, Source};
use crate::domain::queue::{CaughtUp, Planned, RunKey};
use crate::domain::run::Work;
use crate::domain::timetable::{Housekeeping, OWN_LABELS, Terms};
use crate::judge::instants::Instants;

/// Which kind of slot a run takes on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Backups.
    Backup,
    /// Drills.
    Drill,
    /// Prunes, copies, verifications.
    Housekeeping,
}

impl Class {
    /// Every kind.
    pub const ALL: [Class; 3] = [Class::Backup, Class::Drill, Class::Housekeeping];

    /// Of some work.
    pub fn of(work: &Work) -> Class {
        match work {
            Work::Backup { .. } => Class::Backup,
            Work::Drill { .. } | Work::Mutate { .. } | Work::Restore | Work::Find { .. } => Class::Drill,
            Work::Verify | Work::Prune | Work::Copy | Work::ReadBack | Work::Drift => Class::Housekeeping,
        }
    }

    /// Backups before drills before housekeeping; a drill whose policy has no valid proof goes before other drills.
    pub fn priority(self, overdue: bool) -> u8 {
        match self {
            Class::Backup => 20,
            Class::Drill if overdue => 30,
            Class::Drill => 40,
            Class::Housekeeping => 60,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Class::Backup => "backup",
            Class::Drill => "drill",
            Class::Housekeeping => "housekeeping",
        }
    }
}

/// The label of a kind of slot: every run needs that of its kind, and a worker offers those of which it has one free.
pub fn label(class: Class) -> Option<PlaceName> {
    format!("{OWN_LABELS}{}", class.word()).parse().ok()
}

/// Whether a policy has no proof that is valid.
pub fn overdue(proven_at: Option<Timestamp>, policy: &Policy, now: Timestamp) -> bool {
    let oldest = now.checked_sub(policy.objectives.proof_max_age.0).unwrap_or(Timestamp::MIN);
    proven_at.is_none_or(|at| at < oldest)
}

/// What a run that was not begun in time says first.
pub const TOO_LATE: &str = "too late";

/// One schedule.
#[derive(Clone, Debug)]
pub struct Line {
    /// Of which policy.
    pub policy: PolicyName,
    /// What.
    pub work: Work,
    /// As it is written.
    pub schedule: Schedule,
    /// When.
    pub instants: Instants,
    /// On what terms.
    pub terms: Terms,
    /// What its runs must have for themselves.
    pub alone_on: String,
}

/// Every schedule of these policies. A schedule that cannot be read is left out: whoever loads policies has refused it.
pub fn lines(policies: &[Policy], house: &Housekeeping) -> Vec<Line> {
    let mut all = Vec::new();
    // Thousands of policies have a few schedules between them, and each is large once it is read.
    let mut read: BTreeMap<(String, String), Option<Instants>> = BTreeMap::new();
    for policy in policies {
        let mut add = |work: Work, schedule: &Option<Schedule>, terms: Terms, alone_on: String| {
            let Some(schedule) = schedule else { return };
            let written = (schedule.text.clone(), schedule.timezone.clone());
            if let Some(instants) = read.entry(written).or_insert_with(|| Instants::read(schedule).ok()).clone() {
                let (policy, schedule) = (policy.name.clone(), schedule.clone());
                all.push(Line { policy, work, schedule, instants, terms, alone_on });
            }
        };
        let taken = |method| matches!(method, Method::Logical | Method::Physical | Method::ControlPlane);
        let source = match policy.is_of_control_plane() {
            true => "the control plane".to_owned(),
            false => format!("source {}", server(&policy.source)),
        };
        for job in policy.backups.iter().filter(|job| taken(job.method)) {
            add(Work::Backup { job: job.name.clone() }, &job.schedule, job.terms.clone(), source.clone());
        }
        for used in &policy.drills {
            let work = Work::Drill { drill: used.drill.clone() };
            add(work, &used.schedule, used.terms.clone(), format!("drills of {}", policy.name));
        }
        let spread = || Terms { jitter: house.jitter, ..Terms::default() };
        let stores = || format!("stores of {}", policy.name);
        add(Work::Prune, &house.prune, spread(), stores());
        if policy.backups.iter().any(|job| !job.copies.is_empty()) {
            add(Work::Copy, &house.copy, spread(), stores());
        }
        add(Work::ReadBack, &house.verify, spread(), stores());
        // What a prune or a copy is at work on would look like drift.
        add(Work::Drift, &house.drift, spread(), stores());
    }
    all
}

/// The server of a connection URL: two policies of one server share it, whatever the database and the role.
fn server(source: &Source) -> String {
    let (host, query) = source.authority_and_query();
    let named = query.split('&').filter(|pair| ["host=", "port=", "hostaddr="].iter().any(|key| pair.starts_with(key)));
    let mut words: Vec<&str> = std::iter::once(host).chain(named).filter(|word| !word.is_empty()).collect();
    words.sort_unstable();
    words.join(" ")
}

impl Line {
    /// When the run of an instant may be begun: after its jitter, in its window.
    pub fn begins(&self, instant: Timestamp) -> Timestamp {
        self.due(0, instant, 1, None, None).due_at
    }

    /// The run of an instant. `from`: not before this moment, whatever the instant; none: by the terms alone.
    pub(super) fn due(
        &self,
        line: usize,
        instant: Timestamp,
        attempt: u32,
        from: Option<Timestamp>,
        caught_up: Option<CaughtUp>,
    ) -> Due {
        let key = RunKey { policy: self.policy.clone(), work: self.work.clone(), scheduled_for: instant, attempt };
        let mut due_at = self.with_jitter(instant);
        due_at = from.map_or(due_at, |from| from.max(due_at));
        let limit = self.terms.catch_up.map(|span| instant.checked_add(span.0).unwrap_or(Timestamp::MAX));
        let mut not_after = limit;
        if let Some(window) = &self.terms.window {
            due_at = window::opens(window, self.instants.zone(), due_at);
            let closes = window::closes(window, self.instants.zone(), due_at);
            not_after = Some(limit.map_or(closes, |limit| limit.min(closes)));
        }
        Due { line, key, due_at, not_after, caught_up }
    }

    /// An instant with its jitter: a number that follows from the key alone, so that all machines agree.
    pub(super) fn with_jitter(&self, instant: Timestamp) -> Timestamp {
        let Some(most) = self.terms.jitter.and_then(|span| u64::try_from(span.0.as_secs()).ok()) else {
            return instant;
        };
        let hash = blake3::hash(format!("{}/{}/{instant}", self.policy, self.work.title()).as_bytes());
        let number = hash.as_bytes().iter().take(8).fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        let seconds = i64::try_from(number % (most + 1)).unwrap_or_default();
        instant.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(instant)
    }

    /// All that a machine must offer: a slot of its kind too.
    pub fn needs(&self) -> BTreeSet<PlaceName> {
        self.terms.needs.iter().cloned().chain(label(Class::of(&self.work))).collect()
    }

    /// Why a run that waits is not begun any more.
    pub(super) fn too_late(&self, planned: &Planned, now: Timestamp) -> String {
        let limit = self.terms.catch_up.and_then(|span| planned.key.scheduled_for.checked_add(span.0).ok());
        match (self.terms.catch_up, &self.terms.window) {
            (Some(span), _) if limit.is_some_and(|limit| limit < now) => {
                format!(
                    "{TOO_LATE}: it was due at {} and is not begun more than {span} after",
                    planned.key.scheduled_for
                )
            }
            (_, Some(_)) => "its window closed before it was begun".to_owned(),
            _ => format!("{TOO_LATE}: it was not to be begun any more"),
        }
    }
}

/// The run that is planned of something due.
pub fn place(due: Due, line: &Line, run: RunId, overdue: bool) -> Planned {
    let class = Class::of(&due.key.work);
    Planned {
        run,
        key: due.key,
        due_at: due.due_at,
        not_after: due.not_after,
        priority: class.priority(overdue),
        alone_on: Some(line.alone_on.clone()),
        needs: line.needs(),
        caught_up: due.caught_up,
    }
}
