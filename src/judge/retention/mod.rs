//! What is kept of a policy's backups in one store, what is deleted, and why.
//!
//! Deletion has two steps: a backup that nothing keeps is marked as deleted, and what was marked long enough ago is removed. Whatever the arithmetic
//! says, never deleted are: the last proven backup and the last one of each job, one on hold, one that its store has locked (or may have), one whose
//! manifest cannot be believed, and one of a job that has no retention. Nothing at all is deleted while the clock is in doubt, or while no backup is
//! known to be proven although drills are declared.

mod calendar;
pub mod clock;
pub mod log;
pub mod orphans;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::domain::check::Finding;
use crate::domain::ids::{BackupId, JobName};
use crate::domain::mark::Mark;
use crate::domain::policy::Retention;
use crate::domain::units::Span;

/// A backup in a store: it has a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Which.
    pub id: BackupId,
    /// What its manifest says; the error: why it cannot be believed.
    pub says: Result<Says, String>,
    /// When the newest drill that proved it ended.
    pub proven: Option<Timestamp>,
    /// Holds that stand, here or in another store of the policy.
    pub holds: Vec<Mark>,
    /// Marks on it that cannot be believed: they may be holds.
    pub doubts: Vec<String>,
    /// What its store has against its deletion.
    pub lock: Lock,
    /// It was deleted so, and is not removed yet.
    pub deleted: Option<Deleted>,
}

/// What counts of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Says {
    /// By which job it was taken.
    pub job: JobName,
    /// The moment that it brings back, by the source's clock.
    pub recovery_point: Timestamp,
    /// When it was durable, by the runner's clock.
    pub finished_at: Timestamp,
}

/// What a store has against a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Nothing.
    Free,
    /// Nobody may delete it before this moment.
    Until(Timestamp),
    /// Somebody has a hold on it there.
    Hold,
    /// It could not be asked; here is why.
    Unknown(String),
}

/// A deletion that is not done yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Deleted {
    /// By whom, when, why.
    pub mark: Mark,
    /// When it was deleted, by whichever of the runner's clock and the store's was later.
    pub at: Timestamp,
}

/// A backup job, as far as it counts here.
#[derive(Clone, Debug)]
pub struct Job {
    /// Which.
    pub name: JobName,
    /// How long its backups are kept; none: for ever.
    pub retention: Option<Retention>,
    /// In which zone its days, weeks, months and years are counted.
    pub zone: TimeZone,
}

/// What is decided about, all of one policy in one store.
#[derive(Clone, Debug)]
pub struct Shelf<'a> {
    /// Its backups.
    pub backups: &'a [Kept],
    /// Its jobs.
    pub jobs: &'a [Job],
    /// Whether drills are declared: then something can be proven, and something must be.
    pub rehearsed: bool,
    /// What was seen of the clock.
    pub clock: &'a [Finding],
    /// For how long what was deleted can be brought back.
    pub grace: Span,
}

/// What is done with a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It stays.
    Keep,
    /// It is marked as deleted.
    Delete,
    /// It was deleted, and can still be brought back.
    Wait,
    /// It was deleted long enough ago, and is removed.
    Remove,
    /// It was deleted, and must not be removed.
    Spare,
}

/// A backup, what is done with it, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Which.
    pub backup: BackupId,
    /// By which job; none: its manifest cannot be believed.
    pub job: Option<JobName>,
    /// The moment that it brings back.
    pub recovery_point: Option<Timestamp>,
    /// What is done.
    pub fate: Fate,
    /// Why: each a few words, the strongest first.
    pub reasons: Vec<String>,
}

/// What is done with the backups of a policy in a store.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Each backup, oldest first.
    pub backups: Vec<Entry>,
    /// Why nothing is deleted at all; empty: nothing stands against it.
    pub standstill: Vec<Finding>,
    /// What is wrong beside that.
    pub findings: Vec<Finding>,
}

impl Plan {
    /// The backups with this fate.
    pub fn with(&self, fate: Fate) -> impl Iterator<Item = &Entry> {
        self.backups.iter().filter(move |entry| entry.fate == fate)
    }
}

/// Decides.
pub fn plan(shelf: &Shelf<'_>, now: Timestamp) -> Plan {
    let live: Vec<&Kept> = shelf.backups.iter().filter(|backup| backup.deleted.is_none()).collect();
    let all: Vec<&Kept> = shelf.backups.iter().collect();
    // What was deleted satisfies no promise: it is left out. And it is looked at once more whether it would be kept today.
    let kept = must_stay(&live, &Reasons::new(), shelf.jobs, now);
    let spared = must_stay(&all, &kept, shelf.jobs, now);
    let goes = |backup: &Kept| match backup.deleted {
        None => !kept.contains_key(&backup.id),
        Some(_) => !spared.contains_key(&backup.id),
    };
    let standstill = standstill(shelf, &live, shelf.backups.iter().any(goes));
    let stop = standstill.first().map(|finding| format!("nothing is deleted: {}", finding.message));
    let mut backups: Vec<Entry> = shelf
        .backups
        .iter()
        .map(|backup| {
            let (fate, reasons) = match &backup.deleted {
                None => match (kept.get(&backup.id), &stop) {
                    (Some(reasons), _) => (Fate::Keep, reasons.clone()),
                    (None, Some(stop)) => (Fate::Keep, vec![stop.clone()]),
                    (None, None) => (Fate::Delete, vec![no_longer(backup, shelf.jobs)]),
                },
                Some(deleted) => after_deletion(deleted, spared.get(&backup.id), stop.as_ref(), shelf.grace, now),
            };
            let says = backup.says.as_ref().ok();
            Entry {
                backup: backup.id.clone(),
                job: says.map(|says| says.job.clone()),
                recovery_point: says.map(|says| says.recovery_point),
                fate,
                reasons,
            }
        })
        .collect();
    backups.sort_by(|a, b| a.backup.cmp(&b.backup));
    Plan { backups, standstill, findings: findings(shelf, &live) }
}

fn after_deletion(
    deleted: &Deleted,
    spared: Option<&Vec<String>>,
    stop: Option<&String>,
    grace: Span,
    now: Timestamp,
) -> (Fate, Vec<String>) {
    let words = deleted.mark.words();
    if let Some(reasons) = spared {
        return (Fate::Spare, reasons.iter().cloned().chain([words]).collect());
    }
    if let Some(stop) = stop {
        return (Fate::Wait, vec![stop.clone(), words]);
    }
    match deleted.at.checked_add(grace.0) {
        Ok(until) if until <= now => (Fate::Remove, vec![words]),
        Ok(until) => (Fate::Wait, vec![format!("it can be brought back until {until:.0}"), words]),
        Err(_) => (Fate::Wait, vec![words]),
    }
}

/// Backups that must stay, and why.
type Reasons = BTreeMap<BackupId, Vec<String>>;

fn keep(reasons: &mut Reasons, backup: &Kept, why: String) {
    reasons.entry(backup.id.clone()).or_default().push(why);
}

/// Which of these backups must stay, and why. `anyway`: those that stay whatever comes of this; they count where a number is to be reached.
fn must_stay(backups: &[&Kept], anyway: &Reasons, jobs: &[Job], now: Timestamp) -> Reasons {
    let mut reasons = Reasons::new();
    for backup in backups {
        for why in unconditional(backup, jobs, now) {
            keep(&mut reasons, backup, why);
        }
    }
    for name in jobs_of(backups) {
        // By the moment they bring back, the newest first.
        let mut of_job: Vec<(&Kept, &Says)> = backups
            .iter()
            .filter_map(|backup| backup.says.as_ref().ok().map(|says| (*backup, says)))
            .filter(|(_, says)| says.job == *name)
            .collect();
        of_job.sort_by_key(|(backup, says)| std::cmp::Reverse((says.recovery_point, &backup.id)));
        last_ones(&of_job, name, &mut reasons);
        if let Some((job, retention)) =
            jobs.iter().find(|job| job.name == *name).and_then(|job| Some((job, job.retention.as_ref()?)))
        {
            by_retention(&of_job, anyway, job, retention, now, &mut reasons);
        }
    }
    reasons
}

/// What keeps a backup whatever others there are.
fn unconditional(backup: &Kept, jobs: &[Job], now: Timestamp) -> Vec<String> {
    let mut reasons: Vec<String> = backup.holds.iter().map(Mark::words).collect();
    reasons.extend(backup.doubts.iter().map(|doubt| format!("it may be on hold: {doubt}")));
    match &backup.lock {
        Lock::Until(until) if *until > now => reasons.push(format!("its store has locked it until {until:.0}")),
        Lock::Hold => reasons.push("its store has a legal hold on it".to_owned()),
        Lock::Unknown(why) => reasons.push(format!("it may be locked, its store could not be asked: {why}")),
        Lock::Free | Lock::Until(_) => {}
    }
    match &backup.says {
        Err(why) => reasons.push(format!("its manifest cannot be believed: {why}")),
        Ok(says) => match jobs.iter().find(|job| job.name == says.job) {
            None => reasons.push(format!("the policy has no job {} any more", says.job)),
            Some(job) if job.retention.is_none() => reasons.push(format!("job {} has no retention", job.name)),
            Some(_) => {}
        },
    }
    reasons
}

/// The last one of a job, and the last proven one: by the moment that it brings back, and by when it was proven. `of_job`: the newest first.
fn last_ones(of_job: &[(&Kept, &Says)], name: &JobName, reasons: &mut Reasons) {
    if let Some((newest, _)) = of_job.first() {
        keep(reasons, newest, format!("the last one of job {name}"));
    }
    let proven = || of_job.iter().filter_map(|(backup, _)| Some((*backup, backup.proven?)));
    let Some((newest, at)) = proven().next() else { return };
    keep(reasons, newest, format!("the last proven one of job {name} (on {})", at.strftime("%Y-%m-%d")));
    if let Some((last, at)) = proven().max_by_key(|(_, at)| *at).filter(|(last, _)| last.id != newest.id) {
        keep(reasons, last, format!("the one of job {name} that was proven last (on {})", at.strftime("%Y-%m-%d")));
    }
}

/// What the job's retention keeps. `of_job`: the newest first.
fn by_retention(
    of_job: &[(&Kept, &Says)],
    anyway: &Reasons,
    job: &Job,
    retention: &Retention,
    now: Timestamp,
    reasons: &mut Reasons,
) {
    for (backup, says) in of_job {
        // A source whose clock is wrong makes no backup old.
        let age = Span::between(says.recovery_point.max(says.finished_at), now);
        if let Some(young) = retention.keep.filter(|young| age <= *young) {
            keep(reasons, backup, format!("younger than {young}"));
        }
    }
    for (backup, why) in calendar::representatives(of_job, retention, &job.zone) {
        keep(reasons, backup, why);
    }
    let wanted = usize::try_from(retention.at_least).unwrap_or(usize::MAX);
    let stays = |backup: &Kept| reasons.contains_key(&backup.id) || anyway.contains_key(&backup.id);
    let (stay, others): (Vec<&Kept>, Vec<&Kept>) = of_job.iter().map(|(backup, _)| *backup).partition(|one| stays(one));
    let short = wanted.saturating_sub(stay.len());
    for backup in others.into_iter().take(short) {
        keep(reasons, backup, format!("one of the {wanted} that job {} keeps at the least", job.name));
    }
}

fn jobs_of<'a>(backups: &[&'a Kept]) -> BTreeSet<&'a JobName> {
    backups.iter().filter_map(|backup| backup.says.as_ref().ok()).map(|says| &says.job).collect()
}

/// Why nothing keeps a backup any more.
fn no_longer(backup: &Kept, jobs: &[Job]) -> String {
    let job = backup.says.as_ref().ok().and_then(|says| jobs.iter().find(|job| job.name == says.job));
    let Some(retention) = job.and_then(|job| job.retention.as_ref()) else { return "nothing keeps it".to_owned() };
    let mut not: Vec<String> = retention.keep.map(|keep| format!("it is older than {keep}")).into_iter().collect();
    let periods = calendar::Period::ALL
        .iter()
        .filter(|period| period.count(retention) > 0)
        .map(|period| format!("{} {}", period.count(retention), period.plural()));
    let periods: Vec<String> = periods.collect();
    if !periods.is_empty() {
        not.push(format!("it is not the newest of one of the last {}", periods.join(", ")));
    }
    not.push("newer ones are there".to_owned());
    not.join(", ")
}

/// Why nothing at all may be deleted.
fn standstill(shelf: &Shelf<'_>, live: &[&Kept], something_goes: bool) -> Vec<Finding> {
    let mut findings = shelf.clock.to_vec();
    let proven = live.iter().any(|backup| backup.proven.is_some());
    if shelf.rehearsed && !proven && something_goes {
        let message = "drills are declared, and no backup that is there is known to be proven: any of them may be the only good one";
        findings.push(Finding::new("nothing_proven", "backups", message).with("a drill that proves one", "none"));
    }
    findings
}

/// What is wrong with single backups, and with their number.
fn findings(shelf: &Shelf<'_>, live: &[&Kept]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for backup in shelf.backups {
        let object = format!("backup {}", backup.id);
        if let Err(why) = &backup.says {
            findings.push(Finding::new("manifest_doubted", object.clone(), format!("it is kept unread: {why}")));
        }
        for doubt in &backup.doubts {
            findings.push(Finding::new("mark_doubted", object.clone(), doubt.clone()));
        }
        if let Lock::Unknown(why) = &backup.lock {
            let message = format!("whether its store has locked it is not known: {why}");
            findings.push(Finding::new("lock_unknown", object, message));
        }
    }
    for job in shelf.jobs {
        let Some(retention) = &job.retention else { continue };
        let of_job = |backup: &&&Kept| backup.says.as_ref().is_ok_and(|says| says.job == job.name);
        let there = live.iter().filter(of_job).count();
        let wanted = usize::try_from(retention.at_least).unwrap_or(usize::MAX);
        if there < wanted {
            let message = "fewer backups are there than are to be kept at the least";
            let finding = Finding::new("retention_shortfall", format!("job {}", job.name), message);
            findings.push(finding.with(format!("at least {wanted}"), there.to_string()));
        }
    }
    findings
}
