//! Where policies stand, for terminals and machines.

mod document;

use jiff::Timestamp;

use crate::domain::check::Finding;
use crate::domain::copies::CopyRecord;
use crate::domain::ids::PlaceName;
use crate::domain::mutation::DrillTest;
use crate::domain::policy::Policy;
use crate::domain::run::{ArtifactRecord, Run, RunOutcome, RunState};
use crate::domain::summary::DrillSummary;
use crate::domain::transcript::Verdict;
use crate::domain::units::Span;
use crate::judge::freshness::Standing;
use crate::judge::ledger::Backups;

use super::layout::{Cell, Paint, Tone, hanging, table};
use super::mutations;
use super::report::tone;
use super::words::{self, ago, plain};

pub use document::{STATUS_SCHEMA, document};

/// A policy, where it stands, and what that was judged from (newest first).
pub struct Stand<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// Where it stands.
    pub standing: Standing,
    /// Its artifacts.
    pub artifacts: Vec<ArtifactRecord>,
    /// Its drills.
    pub drills: Vec<DrillSummary>,
    /// Its runs.
    pub runs: Vec<Run>,
    /// Tests of its drills.
    pub tests: Vec<DrillTest>,
    /// Its copies, as they became durable.
    pub copies: Vec<CopyRecord>,
    /// How much of its backups was read back; none: nobody ever did.
    pub read_back: Option<Backups>,
}

/// Recovery times of the drills that measured one: never the best alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryTimes {
    /// How many.
    pub drills: usize,
    /// Half of them were at most this.
    pub p50: Span,
    /// Nineteen of twenty were at most this.
    pub p95: Span,
    /// The worst.
    pub worst: Span,
}

/// Percentiles by nearest rank; none without a measurement.
pub fn recovery_times(drills: &[DrillSummary]) -> Option<RecoveryTimes> {
    let mut times: Vec<Span> = drills.iter().filter_map(|drill| drill.judgement.rta).collect();
    times.sort();
    let rank = |percent: usize| times.get((times.len() * percent).div_ceil(100).saturating_sub(1)).copied();
    Some(RecoveryTimes { drills: times.len(), p50: rank(50)?, p95: rank(95)?, worst: *times.last()? })
}

/// Which of many policies are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// This page; the first is 1.
    pub page: usize,
    /// Policies on a page.
    pub per_page: usize,
    /// Policies in all.
    pub policies: usize,
}

impl Paging {
    /// How many pages there are: one at least.
    pub fn pages(&self) -> usize {
        self.policies.div_ceil(self.per_page.max(1)).max(1)
    }

    fn words(&self) -> String {
        let Paging { page, policies, .. } = self;
        format!("page {page} of {}, of {policies} policies in all; the exit code is that of this page", self.pages())
    }
}

/// The worst of all: failed, then unproven; no policy at all proves nothing.
pub fn overall(stands: &[Stand<'_>]) -> Verdict {
    let is = |verdict| stands.iter().any(|stand| stand.standing.verdict == verdict);
    if is(Verdict::Failed) {
        Verdict::Failed
    } else if is(Verdict::Unproven) || stands.is_empty() {
        Verdict::Unproven
    } else {
        Verdict::Proven
    }
}

/// One line a policy, and under it what is wrong.
pub fn lines(stands: &[Stand<'_>], paging: Option<Paging>, now: Timestamp, width: usize, color: bool) -> String {
    let (width, paint) = (width.clamp(60, 160), Paint(color));
    if stands.is_empty() {
        return "no policy is configured: `lifeboat init URL` writes a first one\n".to_owned();
    }
    let mut out = String::new();
    let rows: Vec<Vec<Cell>> = stands.iter().map(|stand| line(stand, now)).collect();
    let heads = ["", "policy", "last backup", "last proven restore", "RPO allowed / would lose", "RTO allowed / took"];
    table(&mut out, &heads, &rows, width, paint);
    for stand in stands {
        let remarks = of_the_source(stand);
        if stand.standing.wrong.is_empty() && remarks.is_empty() && stand.read_back.is_none() {
            continue;
        }
        out.push('\n');
        out.push_str(&paint.paint(Tone::Strong, stand.policy.name.as_str()));
        out.push('\n');
        for wrong in &stand.standing.wrong {
            hanging(&mut out, "  - ", &plain(wrong), width);
        }
        for remark in remarks {
            hanging(&mut out, "  ! ", &plain(&remark.message), width);
        }
        if let Some(sentence) = read_back(stand, now) {
            hanging(&mut out, "  ", &sentence, width);
        }
        for step in next_steps(stand) {
            hanging(&mut out, "  → ", &step, width);
        }
    }
    if let Some(paging) = paging {
        out.push('\n');
        hanging(&mut out, "", &paging.words(), width);
    }
    out
}

/// How much of the backups was read back, in one sentence.
fn read_back(stand: &Stand<'_>, now: Timestamp) -> Option<String> {
    let backups = stand.read_back.as_ref()?;
    let when = stand.policy.read_back_within.map_or("at least once".to_owned(), |within| format!("within {within}"));
    let oldest = backups.oldest.map(|at| format!(", oldest {}", ago(Span::between(at, now)))).unwrap_or_default();
    Some(format!("backups read back: {}.{} % {when}{oldest}", backups.share / 100, backups.share % 100 / 10))
}

/// What the newest drill found about the source itself: it decides nothing about the backup, and must not be forgotten.
fn of_the_source<'a>(stand: &'a Stand<'_>) -> Vec<&'a Finding> {
    let newest = stand.drills.first().map(|drill| drill.environment.as_slice()).unwrap_or_default();
    newest.iter().filter(|finding| finding.code.starts_with("source_")).collect()
}

fn word(verdict: Verdict) -> Cell {
    (format!("{} {}", words::sign(verdict), verdict.as_str()), Some(tone(verdict)))
}

fn or_none(text: Option<String>) -> String {
    text.unwrap_or_else(|| "–".to_owned())
}

fn line(stand: &Stand<'_>, now: Timestamp) -> Vec<Cell> {
    let Standing { verdict, last_backup, exposure, last_proven, rta, .. } = &stand.standing;
    let objectives = &stand.policy.objectives;
    let backup = last_backup.as_ref().map(|backup| ago(Span::between(backup.finished_at, now)));
    let late = |actual: Option<Span>, demanded| actual.filter(|actual| *actual > demanded).map(|_| Tone::Bad);
    vec![
        word(*verdict),
        (stand.policy.name.to_string(), None),
        (backup.unwrap_or_else(|| "never".to_owned()), None),
        (last_proven.map_or_else(|| "never".to_owned(), |(_, _, age)| ago(age)), None),
        (
            format!("{} / {}", objectives.rpo, or_none(exposure.map(|span| span.to_string()))),
            late(*exposure, objectives.rpo),
        ),
        (format!("{} / {}", objectives.rto, or_none(rta.map(|span| span.to_string()))), late(*rta, objectives.rto)),
    ]
}

/// What to do about it: commands that can be copied.
pub fn next_steps(stand: &Stand<'_>) -> Vec<String> {
    let name = &stand.policy.name;
    let mut steps = Vec::new();
    if stand.standing.last_backup.is_none() {
        steps.push(format!("take a first backup: lifeboat backup {name}"));
        steps.push(format!(
            "or, if its store holds backups already: lifeboat catalog rebuild, then lifeboat status {name}"
        ));
        return steps;
    }
    if stand.standing.exposure.is_some_and(|exposure| exposure > stand.policy.objectives.rpo) {
        steps.push(format!("take a new backup: lifeboat backup {name}"));
    }
    match stand.drills.first().map(|drill| (drill.judgement.verdict, drill.run)) {
        Some((Verdict::Failed | Verdict::Unproven, run)) => steps.push(format!("see why: lifeboat report {run}")),
        _ if stand.standing.verdict == Verdict::Proven || !steps.is_empty() => {}
        _ => steps.push(format!("prove it: lifeboat drill {name}")),
    }
    steps
}

/// One policy in full.
pub fn full(stand: &Stand<'_>, now: Timestamp, width: usize, color: bool) -> String {
    let (width, paint) = (width.clamp(60, 160), Paint(color));
    let mut out = String::new();
    let (policy, standing) = (stand.policy, &stand.standing);
    let (text, _) = word(standing.verdict);
    out.push_str(&paint.paint(tone(standing.verdict), &text.to_uppercase()));
    out.push_str(&format!("   {} · {}", policy.name, plain(&policy.owner)));
    out.push_str(&policy.tier.as_ref().map(|tier| format!(" · {}", plain(tier))).unwrap_or_default());
    out.push('\n');
    section(&mut out, "What is wrong", paint);
    if standing.wrong.is_empty() {
        out.push_str("  nothing that is looked at\n");
    }
    for wrong in &standing.wrong {
        hanging(&mut out, "  - ", &plain(wrong), width);
    }
    for step in next_steps(stand) {
        hanging(&mut out, "  → ", &step, width);
    }
    section(&mut out, "Promised and achieved", paint);
    promises(&mut out, stand, now, width, paint);
    section(&mut out, "Backup jobs", paint);
    jobs(&mut out, stand, now, width, paint);
    section(&mut out, "Backups", paint);
    backups(&mut out, stand, now, width, paint);
    if stand.policy.backups.iter().any(|job| !job.copies.is_empty()) {
        section(&mut out, "Copies, as they were made", paint);
        copies(&mut out, stand, now, width, paint);
    }
    section(&mut out, "Drills", paint);
    drills(&mut out, stand, now, width, paint);
    for test in mutations::newest(&stand.tests) {
        hanging(&mut out, "  ", &mutations::line(test, now), width);
    }
    out
}

fn section(out: &mut String, name: &str, paint: Paint) {
    out.push('\n');
    out.push_str(&paint.paint(Tone::Strong, name));
    out.push('\n');
}

fn promises(out: &mut String, stand: &Stand<'_>, now: Timestamp, width: usize, paint: Paint) {
    let (objectives, standing) = (&stand.policy.objectives, &stand.standing);
    let row = |name: &str, demanded: Span, actual: Option<Span>, how: &str| -> Vec<Cell> {
        let tone = match actual {
            Some(actual) if actual > demanded => Tone::Bad,
            Some(_) => Tone::Good,
            None => Tone::Doubt,
        };
        vec![
            (name.to_owned(), None),
            (format!("at most {demanded}"), None),
            (or_none(actual.map(|span| span.to_string())), Some(tone)),
            (how.to_owned(), Some(Tone::Faint)),
        ]
    };
    let by_log = match (&standing.covered, &standing.last_backup) {
        (Some(covered), Some(backup)) => covered.covered > backup.recovery_point,
        _ => false,
    };
    let how = if by_log { "since the log in the store ended" } else { "since the newest recovery point" };
    let age = standing.last_proven.map(|(_, _, age)| age);
    let rows = [
        row("data that would be lost now", objectives.rpo, standing.exposure, how),
        row("data lost (RPA)", objectives.rpo, standing.rpa, "newest drill that measured it"),
        row("time to recover (RTA)", objectives.rto, standing.rta, "newest drill that measured it"),
        row("age of the proof", objectives.proof_max_age, age, "newest drill that was proven"),
    ];
    table(out, &["", "promised", "achieved", ""], &rows, width, paint);
    if let Some(window) = &standing.window {
        hanging(out, "  ", &words::exposure(window), width);
    }
    if let Some(sentence) = read_back(stand, now) {
        hanging(out, "  ", &sentence, width);
    }
    if let Some(times) = recovery_times(&stand.drills) {
        out.push_str(&format!(
            "  time to recover over {} drill{}: p50 {}, p95 {}, worst {}\n",
            times.drills,
            if times.drills == 1 { "" } else { "s" },
            times.p50,
            times.p95,
            times.worst
        ));
    }
}

fn jobs(out: &mut String, stand: &Stand<'_>, now: Timestamp, width: usize, paint: Paint) {
    let rows: Vec<Vec<Cell>> = stand
        .policy
        .backups
        .iter()
        .map(|job| {
            let work = crate::domain::run::Work::Backup { job: job.name.clone() };
            let last = stand.runs.iter().find(|run| run.work == work);
            let (state, tone) = last.map_or(("never ran".to_owned(), Some(Tone::Doubt)), |run| state(&run.state));
            let when = last.map_or(String::new(), |run| ago(Span::between(run.planned_at, now)));
            let schedule = job.schedule.as_ref().map_or("by hand".to_owned(), |s| format!("{} {}", s.text, s.timezone));
            vec![
                (job.name.to_string(), None),
                (job.method.as_str().to_owned(), None),
                (schedule, None),
                (job.store.to_string(), None),
                (when, Some(Tone::Faint)),
                (state, tone),
            ]
        })
        .collect();
    table(out, &["job", "method", "schedule", "store", "last run", ""], &rows, width, paint);
}

/// Where a run stands, in a few words.
pub(crate) fn state(state: &RunState) -> (String, Option<Tone>) {
    match state {
        RunState::Planned => ("planned".to_owned(), None),
        RunState::Running { host, pid, .. } => (format!("running ({}, process {pid})", plain(host)), None),
        RunState::Ended(RunOutcome::Succeeded) => ("succeeded".to_owned(), Some(Tone::Good)),
        RunState::Ended(RunOutcome::Judged(verdict)) => (verdict.as_str().to_owned(), Some(tone(*verdict))),
        RunState::Ended(RunOutcome::Found(n)) => (
            format!("{n} finding{}", if *n == 1 { "" } else { "s" }),
            Some(if *n == 0 { Tone::Good } else { Tone::Bad }),
        ),
        RunState::Ended(RunOutcome::Broke { error, .. }) => (format!("broke: {}", plain(error)), Some(Tone::Doubt)),
        RunState::Abandoned(why) => (format!("never ended: {}", plain(why)), Some(Tone::Doubt)),
        RunState::Missed(why) => (format!("missed: {}", plain(why)), Some(Tone::Doubt)),
    }
}

/// Runs, one line each.
pub fn runs(runs: &[Run], width: usize, color: bool) -> String {
    if runs.is_empty() {
        return "no run is known\n".to_owned();
    }
    let mut out = String::new();
    let rows: Vec<Vec<Cell>> = runs
        .iter()
        .map(|run| {
            let (text, tone) = state(&run.state);
            vec![
                (run.id.to_string(), None),
                (run.planned_at.strftime("%Y-%m-%d %H:%M").to_string(), Some(Tone::Faint)),
                (run.policy.to_string(), None),
                (run.work.title(), None),
                (or_none(run.took.map(|span| span.to_string())), None),
                (text, tone),
            ]
        })
        .collect();
    table(&mut out, &["run", "planned (UTC)", "policy", "work", "took", ""], &rows, width.clamp(60, 160), Paint(color));
    out
}

/// Each backup once, with all stores that have it.
fn by_backup(artifacts: &[ArtifactRecord]) -> Vec<(&ArtifactRecord, Vec<&str>)> {
    let mut each: Vec<(&ArtifactRecord, Vec<&str>)> = Vec::new();
    for artifact in artifacts {
        match each.iter_mut().find(|(known, _)| known.backup == artifact.backup) {
            Some((_, stores)) => stores.push(artifact.store.as_str()),
            None => each.push((artifact, vec![artifact.store.as_str()])),
        }
    }
    each
}

fn backups(out: &mut String, stand: &Stand<'_>, now: Timestamp, width: usize, paint: Paint) {
    const SHOWN: usize = 10;
    if stand.artifacts.is_empty() {
        out.push_str("  none\n");
        return;
    }
    let each = by_backup(&stand.artifacts);
    let rows: Vec<Vec<Cell>> = each
        .iter()
        .take(SHOWN)
        .map(|(artifact, stores)| {
            vec![
                (artifact.backup.to_string(), None),
                (artifact.method.as_str().to_owned(), None),
                (words::moment(artifact.recovery_point), None),
                (ago(Span::between(artifact.recovery_point, now)), Some(Tone::Faint)),
                (format!("{} ({} stored)", artifact.plain_bytes, artifact.sealed_bytes), None),
                (stores.join(", "), None),
            ]
        })
        .collect();
    table(out, &["backup", "method", "brings back", "", "size", "store"], &rows, width, paint);
    if each.len() > SHOWN {
        out.push_str(&format!("  and {} older ones\n", each.len() - SHOWN));
    }
}

/// The newest copy in each second store, and how late it was: by the catalog, which does not know what became of it since.
fn newest_copies<'a>(stand: &'a Stand<'_>) -> Vec<(&'a PlaceName, Span, Option<&'a CopyRecord>)> {
    let mut found: Vec<(&PlaceName, Span, Option<&CopyRecord>)> = Vec::new();
    for job in &stand.policy.backups {
        for store in job.copies.iter() {
            let within = job.copy_within.unwrap_or(stand.policy.objectives.rpo);
            match found.iter_mut().find(|(known, ..)| *known == store) {
                Some((_, least, _)) => *least = (*least).min(within),
                None => {
                    let of_store = stand.copies.iter().filter(|copy| copy.store == *store);
                    found.push((store, within, of_store.max_by_key(|copy| (&copy.backup, copy.durable_at))));
                }
            }
        }
    }
    found
}

fn copies(out: &mut String, stand: &Stand<'_>, now: Timestamp, width: usize, paint: Paint) {
    let rows: Vec<Vec<Cell>> = newest_copies(stand)
        .into_iter()
        .map(|(store, within, copy)| {
            let Some(copy) = copy else {
                let never = ("nothing was ever copied".to_owned(), Some(Tone::Doubt));
                return vec![(store.to_string(), None), never, (String::new(), None), (String::new(), None)];
            };
            let tone = if copy.already {
                Tone::Doubt
            } else if copy.lag > within {
                Tone::Bad
            } else {
                Tone::Good
            };
            let lag = if copy.already { "found there".to_owned() } else { format!("{} after it", copy.lag) };
            vec![
                (store.to_string(), None),
                (copy.backup.to_string(), None),
                (ago(Span::between(copy.durable_at, now)), Some(Tone::Faint)),
                (format!("{lag} (allowed {within})"), Some(tone)),
            ]
        })
        .collect();
    table(out, &["store", "newest backup", "durable there", ""], &rows, width, paint);
    hanging(out, "  → ", &format!("whether they are whole: lifeboat copies {} --read", stand.policy.name), width);
}

fn drills(out: &mut String, stand: &Stand<'_>, now: Timestamp, width: usize, paint: Paint) {
    const SHOWN: usize = 10;
    let ran: Vec<&str> = stand.drills.iter().map(|drill| drill.drill.as_str()).collect();
    for used in stand.policy.drills.iter().filter(|used| !ran.contains(&used.drill.as_str())) {
        out.push_str(&format!("  {} has never run\n", used.drill));
    }
    if stand.drills.is_empty() {
        return;
    }
    let rows: Vec<Vec<Cell>> = stand
        .drills
        .iter()
        .take(SHOWN)
        .map(|drill| {
            let judgement = &drill.judgement;
            vec![
                word(judgement.verdict),
                (drilled(drill), None),
                (ago(Span::between(drill.finished_at, now)), Some(Tone::Faint)),
                (or_none(judgement.rpa.map(|span| span.to_string())), None),
                (or_none(judgement.rta.map(|span| span.to_string())), None),
                (drill.run.to_string(), Some(Tone::Faint)),
            ]
        })
        .collect();
    table(out, &["", "drill", "when", "RPA", "RTA", "run"], &rows, width, paint);
    if stand.drills.len() > SHOWN {
        out.push_str(&format!("  and {} older ones\n", stand.drills.len() - SHOWN));
    }
}

/// Its name, and the store that it was made to get along with.
fn drilled(summary: &DrillSummary) -> String {
    let name = &summary.drill;
    let from = summary.from.as_ref().filter(|from| !name.as_str().contains(from.as_str()));
    from.map_or(name.to_string(), |from| format!("{name} (from {from} alone)"))
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
