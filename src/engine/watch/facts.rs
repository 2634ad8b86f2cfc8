//! What is told of a policy that was looked up.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::catalog::Recorded;
use crate::domain::check::CheckName;
use crate::domain::drift::Drift;
use crate::domain::facts::{Attempt, AttemptState, DrillFacts, JobFacts, Judged, PolicyFacts, SpoolFacts, Success};
use crate::domain::ids::DrillName;
use crate::domain::observed::Observed;
use crate::domain::policy::{BackupJob, Policy};
use crate::domain::run::{ArtifactRecord, Run, RunOutcome, RunState, Work};
use crate::domain::summary::DrillSummary;
use crate::domain::transcript::Verdict;
use crate::domain::units::{ByteSize, Span};
use crate::engine::standing::Stood;

/// Files of scratch clusters that are counted at most.
const SCRATCH_FILES: usize = 200_000;

/// Of a policy that was looked up.
pub fn of(stood: Stood<'_>, drift: Option<(Timestamp, Vec<Drift>)>) -> PolicyFacts {
    let Stood { policy, standing, recorded, spool, .. } = stood;
    let Recorded { artifacts, drills: drilled, runs, .. } = recorded;
    let newest = standing.last_backup.as_ref().map(|artifact| artifact.recovery_point);
    PolicyFacts {
        name: policy.name.clone(),
        owner: policy.owner.clone(),
        tier: policy.tier.clone(),
        rpo: policy.objectives.rpo,
        rto: policy.objectives.rto,
        proof_max_age: policy.objectives.proof_max_age,
        verdict: standing.verdict,
        brings_back: newest.map(|newest| standing.covered.map_or(newest, |covered| covered.covered.max(newest))),
        first_backup_at: artifacts.iter().map(|artifact| artifact.finished_at).min(),
        stored_bytes: ByteSize(artifacts.iter().map(|artifact| artifact.sealed_bytes.0).sum()),
        backups: artifacts.len() as u64,
        jobs: policy.backups.iter().map(|one| job(one, &artifacts, &runs)).collect(),
        drills: drills(policy, &drilled, &runs),
        spool: match (policy.wal.as_ref().and_then(|wal| wal.spool.as_ref()), spool) {
            (None, _) => Observed::Absent,
            (Some(_), Ok(None)) => Observed::Known(SpoolFacts { files: 0, bytes: ByteSize(0) }),
            (Some(_), Ok(Some(waiting))) => Observed::Known(SpoolFacts { files: waiting.files, bytes: waiting.bytes }),
            (Some(_), Err(broke)) => Observed::Unknown(broke.error),
        },
        drift,
    }
}

fn job(job: &BackupJob, artifacts: &[ArtifactRecord], runs: &[Run]) -> JobFacts {
    let newest = artifacts.iter().filter(|one| one.job == job.name).max_by_key(|one| one.finished_at);
    JobFacts {
        name: job.name.clone(),
        method: job.method,
        scheduled: job.schedule.is_some(),
        attempt: attempt(runs, |work| matches!(work, Work::Backup { job: of } if *of == job.name)),
        success: newest.map(|one| Success {
            at: one.finished_at,
            plain_bytes: one.plain_bytes,
            sealed_bytes: one.sealed_bytes,
            took: Span::between(one.started_at, one.finished_at),
        }),
    }
}

/// The drills that the policy names, and others that were run by hand.
fn drills(policy: &Policy, drilled: &[DrillSummary], runs: &[Run]) -> Vec<DrillFacts> {
    let mut names: Vec<&DrillName> = policy.drills.iter().map(|used| &used.drill).collect();
    for summary in drilled {
        if !names.contains(&&summary.drill) {
            names.push(&summary.drill);
        }
    }
    let one = |name: &DrillName| {
        // One that breaks its scratch on purpose says nothing about the backups.
        let of = || drilled.iter().filter(|one| one.drill == *name && !one.sabotages);
        let used = policy.drills.iter().find(|used| used.drill == *name);
        DrillFacts {
            name: name.clone(),
            declared: used.is_some(),
            scheduled: used.is_some_and(|used| used.schedule.is_some()),
            attempt: attempt(runs, |work| matches!(work, Work::Drill { drill } if drill == name)),
            judged: of().next().map(judged),
            proven_at: of().find(|one| one.judgement.verdict == Verdict::Proven).map(|one| one.finished_at),
        }
    };
    names.into_iter().map(one).collect()
}

fn judged(summary: &DrillSummary) -> Judged {
    let words = |checks: &[CheckName]| checks.iter().map(ToString::to_string).collect();
    Judged {
        run: summary.run,
        at: summary.finished_at,
        verdict: summary.judgement.verdict,
        rpa: summary.judgement.rpa,
        rta: summary.judgement.rta,
        took: Span::between(summary.started_at, summary.finished_at),
        red: words(&summary.red),
        dark: words(&summary.dark),
        valid_until: summary.judgement.valid_until,
    }
}

/// The newest run of some work that has ended. `runs`: newest first.
fn attempt(runs: &[Run], of: impl Fn(&Work) -> bool) -> Option<Attempt> {
    runs.iter().filter(|run| of(&run.work)).find_map(|run| {
        let state = match &run.state {
            RunState::Planned | RunState::Running { .. } => return None,
            RunState::Ended(RunOutcome::Broke { .. }) => AttemptState::Broke,
            RunState::Ended(RunOutcome::Succeeded | RunOutcome::Judged(_) | RunOutcome::Found(_)) => AttemptState::Done,
            RunState::Abandoned(_) => AttemptState::Abandoned,
            RunState::Missed(_) => AttemptState::Missed,
        };
        Some(Attempt { run: run.id, at: run.ended_at.unwrap_or(run.planned_at), state, took: run.took })
    })
}

/// Bytes in the folder of scratch clusters; none: they could not be counted.
pub async fn scratch_bytes(dir: &Path) -> Option<ByteSize> {
    let dir: PathBuf = dir.to_owned();
    let count = tokio::task::spawn_blocking(move || {
        if !dir.exists() {
            return Some(ByteSize(0));
        }
        let mut bytes = 0_u64;
        for (number, entry) in walkdir::WalkDir::new(dir).into_iter().enumerate() {
            if number >= SCRATCH_FILES {
                return None;
            }
            match entry.and_then(|entry| entry.metadata()) {
                Ok(found) if found.is_file() => bytes = bytes.saturating_add(found.len()),
                Ok(_) => {}
                // A scratch that is being destroyed meanwhile.
                Err(error) if error.io_error().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound) => {}
                Err(_) => return None,
            }
        }
        Some(ByteSize(bytes))
    });
    count.await.unwrap_or(None)
}
