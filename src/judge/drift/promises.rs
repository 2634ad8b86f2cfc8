//! Backups, exposure and proofs against what the policy promises.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::of;
use crate::domain::check::Broke;
use crate::domain::drift::{Drift, Severity};
use crate::domain::drill::{Drill, Step};
use crate::domain::policy::{BackupJob, Method, Policy};
use crate::domain::run::{ArtifactRecord, Run, RunOutcome, RunState, Work};
use crate::domain::timetable::Housekeeping;
use crate::domain::transcript::{Transcript, Verdict};
use crate::domain::units::Span;
use crate::domain::wal::Waiting;
use crate::judge::due;
use crate::judge::freshness::Standing;
use crate::judge::instants::Instants;

/// So long after it was due a backup may begin: cron's minute, a busy machine.
pub const GRACE: Span = Span::from_secs(600);

/// A drill's checks are held against those of its proofs of so long a time.
const REMEMBERED: Span = Span::from_secs(30 * 86_400);

/// The newest moment at which a schedule was due, at or before `until` and after `since`; none: it was not, or its zone is not known here.
pub fn last_due(text: &str, timezone: &str, since: Timestamp, until: Timestamp) -> Option<Timestamp> {
    Instants::of(text, timezone).ok()?.newest(since, until)
}

/// Whether there is a backup at all, and one of each job since it was last due. Artifacts and runs newest first.
pub fn backups(policy: &Policy, artifacts: &[ArtifactRecord], runs: &[Run], now: Timestamp) -> Vec<Drift> {
    let name = &policy.name;
    if artifacts.is_empty() {
        let drift = of(policy, "backup_missing", Severity::Critical, format!("policy {name}"));
        let drift = drift
            .saying(format!("an RPO of {}", policy.objectives.rpo), "no backup is known: nothing can be brought back");
        return vec![drift.mended_by(format!(
            "take one: lifeboat backup {name}; or, if its store holds backups already: lifeboat catalog rebuild"
        ))];
    }
    let done = |job: &&BackupJob| matches!(job.method, Method::Logical | Method::Physical);
    policy.backups.iter().filter(done).filter_map(|job| missed(policy, job, artifacts, runs, now)).collect()
}

fn missed(
    policy: &Policy,
    job: &BackupJob,
    artifacts: &[ArtifactRecord],
    runs: &[Run],
    now: Timestamp,
) -> Option<Drift> {
    let schedule = job.schedule.as_ref()?;
    let newest = artifacts.iter().filter(|one| one.job == job.name).max_by_key(|one| one.started_at);
    // Without one of this job it counts from when the policy's first backup shows that it was at work.
    let from = newest.or_else(|| artifacts.iter().min_by_key(|one| one.started_at))?.started_at;
    let late = now.checked_sub(GRACE.0).unwrap_or(now);
    let work = Work::Backup { job: job.name.clone() };
    let due = overdue(policy, &work, from, late)?;
    let run = runs.iter().filter(|run| run.work == work && run.planned_at > from).max_by_key(|run| run.planned_at);
    let then = match run.map(|run| &run.state) {
        // It is being taken.
        Some(RunState::Running { .. } | RunState::Planned) => return None,
        Some(RunState::Ended(RunOutcome::Broke { error, .. })) => format!("; the last attempt broke: {error}"),
        Some(RunState::Abandoned(why)) => format!("; the last attempt never ended: {why}"),
        Some(RunState::Missed(why)) => format!("; the last run was missed: {why}"),
        Some(RunState::Ended(_)) | None => String::new(),
    };
    let observed = match newest {
        Some(newest) => format!("the newest backup of it was begun at {:.0}{then}", newest.started_at),
        None => format!("it has never made a backup{then}"),
    };
    let drift = of(policy, "schedule_missed", Severity::Warning, format!("backup job {}", job.name));
    let declared = format!("{} ({}), last due at {due:.0}", schedule.text, schedule.timezone);
    let drift = drift.saying(declared, observed).since(Some(due));
    Some(drift.mended_by(format!("lifeboat backup {} --job {}; and see why it did not run", policy.name, job.name)))
}

/// The newest instant of a job whose run had to be begun by a moment: jitter and window put it off, as they do for whoever plans.
fn overdue(policy: &Policy, work: &Work, since: Timestamp, late: Timestamp) -> Option<Timestamp> {
    let lines = due::lines(std::slice::from_ref(policy), &Housekeeping::default());
    let line = lines.into_iter().find(|line| line.work == *work)?;
    let mut until = late;
    // Each step is one instant further back: a window may hold many of them up.
    loop {
        let instant = line.instants.newest(since, until)?;
        if line.begins(instant) <= late {
            return Some(instant);
        }
        until = instant.checked_sub(SignedDuration::from_millis(1)).ok()?;
    }
}

/// What would be lost now, against the RPO.
pub fn exposure(policy: &Policy, standing: &Standing, now: Timestamp) -> Vec<Drift> {
    let rpo = policy.objectives.rpo;
    let object = format!("policy {}", policy.name);
    let declared = format!("an RPO of {rpo}");
    match (standing.exposure, &standing.last_backup) {
        (Some(exposure), _) if exposure > rpo => {
            let since = now.checked_sub(exposure.0).ok().and_then(|at| at.checked_add(rpo.0).ok());
            let drift = of(policy, "rpo_exposed", Severity::Critical, object);
            let drift = drift.saying(declared, format!("{exposure} of data would be lost now")).since(since);
            vec![
                drift.mended_by(format!("lifeboat backup {}; or keep the log in the store (docs/wal.md)", policy.name)),
            ]
        }
        (None, Some(_)) => {
            let drift = of(policy, "exposure_unknown", Severity::Unproven, object);
            let drift =
                drift.saying(declared, "what the stores bring back is dated in a time to come: a clock is wrong");
            vec![drift.mended_by("compare the clocks of this machine and of the source")]
        }
        (Some(_), _) | (None, None) => Vec::new(),
    }
}

/// What waits in the spool: the store does not have it.
pub fn spool(policy: &Policy, waiting: Result<&Option<Waiting>, &Broke>, now: Timestamp) -> Vec<Drift> {
    let begin = |code: &str, severity| of(policy, code, severity, "wal.spool");
    match waiting {
        Ok(None) => Vec::new(),
        Ok(Some(waiting)) => {
            let drift = begin("spool_waits", Severity::Warning);
            let observed = format!(
                "{} files of the log ({}) wait for {}: the store does not have them",
                waiting.files,
                waiting.bytes,
                Span::between(waiting.since, now)
            );
            let drift = drift.saying("the log goes into the store", observed).since(Some(waiting.since));
            vec![drift.mended_by(format!("lifeboat wal flush {}", policy.name))]
        }
        Err(broke) => {
            let drift = begin("spool_unknown", Severity::Unproven);
            let observed = format!("what waits there is not known: {}", broke.error);
            vec![drift.saying("the log goes into the store", observed).mended_by("mend that first")]
        }
    }
}

/// The drills that are declared: whether they ever ran, what the newest said, and how old that is. Transcripts newest first.
pub fn proofs(policy: &Policy, transcripts: &[Transcript], now: Timestamp) -> Vec<Drift> {
    let name = &policy.name;
    if policy.drills.is_empty() {
        let drift = of(policy, "proof_missing", Severity::Unproven, format!("policy {name}"));
        let declared = format!("a proof no older than {}", policy.objectives.proof_max_age);
        let drift = drift.saying(declared, "no drill is declared, so nothing can be proved");
        return vec![drift.mended_by("declare one: [[drill]] use = \"restore-latest\"")];
    }
    let newest = |drill: &crate::domain::ids::DrillName| {
        transcripts.iter().find(|one| one.drill.name == *drill && !one.sabotages())
    };
    policy.drills.iter().filter_map(|used| proof(policy, used.drill.as_str(), newest(&used.drill), now)).collect()
}

fn proof(policy: &Policy, drill: &str, newest: Option<&Transcript>, now: Timestamp) -> Option<Drift> {
    let oldest = policy.objectives.proof_max_age;
    let declared = format!("a proof no older than {oldest}");
    let begin = |code, severity| of(policy, code, severity, format!("drill {drill}"));
    let again = format!("lifeboat drill {} --drill {drill}", policy.name);
    let Some(newest) = newest else {
        let drift = begin("proof_missing", Severity::Unproven).saying(declared, "it has never run");
        return Some(drift.mended_by(again));
    };
    let why = newest.judgement.reasons.first().map_or("it does not say why", String::as_str);
    let see = format!("see why: lifeboat report {}; then {again}", newest.run);
    let ended = Some(newest.finished_at);
    match newest.judgement.verdict {
        Verdict::Failed => {
            let drift = begin("drill_failed", Severity::Critical).saying(declared, format!("it failed: {why}"));
            return Some(drift.since(ended).mended_by(see));
        }
        Verdict::Unproven => {
            let drift =
                begin("drill_unproven", Severity::Unproven).saying(declared, format!("it proved nothing: {why}"));
            return Some(drift.since(ended).mended_by(see));
        }
        Verdict::Proven => {}
    }
    let age = Span::between(newest.finished_at, now);
    if age < Span::ZERO {
        let observed = format!("the proof is dated {} from now: a clock is wrong", Span(age.0.abs()));
        return Some(begin("proof_unknown", Severity::Unproven).saying(declared, observed).mended_by(again));
    }
    let expired = newest.finished_at.checked_add(oldest.0).unwrap_or(Timestamp::MAX);
    let expired = newest.judgement.valid_until.map_or(expired, |until| until.min(expired));
    (expired < now).then(|| {
        let drift = begin("proof_stale", Severity::Warning).saying(declared, format!("the newest proof is {age} old"));
        drift.since(Some(expired)).mended_by(again)
    })
}

/// Drills that check less than they did a while ago: a file that was cut off, or a check that was taken out. Transcripts newest first.
pub fn drills(policy: &Policy, drills: &[Drill], transcripts: &[Transcript], now: Timestamp) -> Vec<Drift> {
    let used = policy.drills.iter().filter_map(|used| drills.iter().find(|drill| drill.name == used.drill));
    used.filter_map(|drill| weaker(policy, drill, transcripts, now)).collect()
}

fn weaker(policy: &Policy, drill: &Drill, transcripts: &[Transcript], now: Timestamp) -> Option<Drift> {
    let since = now.checked_sub(REMEMBERED.0).unwrap_or(Timestamp::MIN);
    let had = transcripts.iter().filter(|one| {
        one.drill.name == drill.name && one.finished_at >= since && one.judgement.verdict == Verdict::Proven
    });
    let now_checked: BTreeSet<String> = demanded(drill).collect();
    let mut gone: BTreeMap<String, Timestamp> = BTreeMap::new();
    for transcript in had {
        for check in demanded(&transcript.drill).filter(|check| !now_checked.contains(check)) {
            gone.entry(check).or_insert(transcript.finished_at);
        }
    }
    let last = gone.values().max().copied()?;
    let names = gone.into_keys().collect::<Vec<_>>().join(", ");
    let declared = format!("{} checks, as its file says now", now_checked.len());
    let observed = format!("a proof of the last {REMEMBERED} rests on more: {names}");
    let drift = of(policy, "drill_weaker", Severity::Warning, format!("drill {}", drill.name));
    let mend = "put it back, if nobody took it out on purpose; `steps` in [drill] says how many steps the file has, so that one that is cut off is an error";
    Some(drift.saying(declared, observed).since(Some(last)).mended_by(mend))
}

/// What must hold for it to pass.
fn demanded(drill: &Drill) -> impl Iterator<Item = String> {
    drill.steps.iter().filter_map(|step| match step {
        Step::Check(check) if check.required => Some(check.title()),
        Step::AwaitReady(_) => Some("await-ready".to_owned()),
        Step::Check(_) | Step::Provision | Step::Restore(_) | Step::Sabotage(_) | Step::Destroy => None,
    })
}
