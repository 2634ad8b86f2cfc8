//! Copies in second places: what is missing there of a policy's backups, and of its log.
//!
//! ```text
//! signature and signer verified → each part: read, hash, write what is new, read back, hash → signature → manifest → written down
//! ```
//! No key opens anything here. Nothing is replaced, and a manifest is never there before its parts, so a run that was killed
//! anywhere is gone on with by the next one.

mod backup;
mod log;
mod report;

use std::collections::BTreeSet;

use crate::domain::check::Broke;
use crate::domain::copies::CopyRecord;
use crate::domain::ids::{BackupId, JobName, PlaceName, PolicyName, RunId};
use crate::domain::policy::{BackupJob, Policy};
use crate::domain::run::{ArtifactRecord, Event, RunOutcome, Work};
use crate::progress::Progress;
use crate::seal::{TrustedSigners, Way, list_backups};
use crate::telemetry::run_span;
use tracing::Instrument;

use super::house::House;
use super::{interrupt, wal};

use self::backup::Looked;

pub use report::{Conclusion, Copied, LogCopied, Report, State};

/// What is to be copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Only this backup, and not the log; none: all of them.
    pub backup: Option<BackupId>,
    /// From this store; none: from where each job takes its backups to.
    pub from: Option<PlaceName>,
    /// Into this one, whatever the jobs say; none: into the copies of each job.
    pub to: Option<PlaceName>,
}

/// From one store into another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Route {
    from: PlaceName,
    to: PlaceName,
    /// Whose backups; none: all.
    jobs: Option<Vec<JobName>>,
    /// The log too.
    log: bool,
}

impl Route {
    fn takes(&self, job: &JobName) -> bool {
        self.jobs.as_ref().is_none_or(|jobs| jobs.contains(job))
    }
}

/// A route whose two stores could be opened, and what there is to be copied.
struct Opened<'a> {
    route: &'a Route,
    way: Way,
    backups: Vec<(PolicyName, BackupId)>,
}

/// What all of it shares.
struct Copying<'a> {
    house: &'a House,
    policy: &'a Policy,
    run: RunId,
    trusted: TrustedSigners,
    known: Vec<ArtifactRecord>,
    copies: Vec<CopyRecord>,
    parallel: usize,
    progress: &'a dyn Progress,
}

/// Why what was asked for cannot be done at all: wrong usage.
pub fn misasked(policy: &Policy, asked: &Asked) -> Option<Broke> {
    routes(policy, asked).err()
}

/// Copies what is missing, and writes the run down.
pub async fn run(
    house: &House,
    policy: &Policy,
    asked: &Asked,
    progress: &dyn Progress,
) -> Result<(RunId, Report), Broke> {
    recorded(house, policy, &routes(policy, asked)?, asked.backup.as_ref(), progress).await
}

/// What a backup is followed by: itself, and the log if it is the job's that carries it, into every copy of the job. None: the job
/// has no copies.
pub async fn after_backup(
    house: &House,
    policy: &Policy,
    job: &BackupJob,
    backup: &BackupId,
    progress: &dyn Progress,
) -> Result<Option<Report>, Broke> {
    let jobs = Some(vec![job.name.clone()]);
    let log = carries_log(policy, job);
    let routes: Vec<Route> = job
        .copies
        .iter()
        .map(|to| Route { from: job.store.clone(), to: to.clone(), jobs: jobs.clone(), log })
        .collect();
    if routes.is_empty() {
        return Ok(None);
    }
    recorded(house, policy, &routes, Some(backup), progress).await.map(|(_, report)| Some(report))
}

async fn recorded(
    house: &House,
    policy: &Policy,
    routes: &[Route],
    only: Option<&BackupId>,
    progress: &dyn Progress,
) -> Result<(RunId, Report), Broke> {
    let run = house.begin(&policy.name, Work::Copy).await?;
    let copied = tokio::select! {
        copied = copy(house, policy, run, routes, only, progress).instrument(run_span(Some(&policy.name), run, &Work::Copy)) => copied,
        signal = interrupt::asked_to_stop() => Err(Broke::hinted(
            format!("interrupted: copying was stopped by {signal}"),
            "what is half copied counts for nothing; run it again, and it goes on from there",
        )),
    };
    let outcome = match &copied {
        Ok(report) => report.outcome(),
        Err(broke) => RunOutcome::Broke { error: broke.error.clone(), hint: broke.hint.clone() },
    };
    let finished = house.record(&policy.name, run, Event::Finished { outcome }).await;
    // Why it broke matters more than that the catalog broke too.
    let report = copied?;
    finished?;
    Ok((run, report))
}

async fn copy(
    house: &House,
    policy: &Policy,
    run: RunId,
    routes: &[Route],
    only: Option<&BackupId>,
    progress: &dyn Progress,
) -> Result<Report, Broke> {
    let copying = Copying {
        house,
        policy,
        run,
        trusted: trusted(house)?,
        known: house.catalog.artifacts(&policy.name).await?,
        copies: house.catalog.copies(&policy.name).await?,
        parallel: house.config.limits.parallel.max(1),
        progress,
    };
    let mut report = Report::default();
    // All stores are opened first, for the catalog is asked about those that are not there: it may be away when their turn comes.
    let mut open = Vec::new();
    for route in routes {
        match copying.open(route, only).await {
            Ok(opened) => open.push(opened),
            // One store that cannot be used does not cost the others their copies.
            Err(broke) => report.troubles.push(broke),
        }
    }
    for opened in open {
        if let Err(broke) = copying.along(opened, &mut report).await {
            report.troubles.push(broke);
        }
    }
    Ok(report)
}

/// Who may have signed what is spread: those who are trusted, and this machine itself. Nobody at all: then nothing is.
pub(super) fn trusted(house: &House) -> Result<TrustedSigners, Broke> {
    let mut trusted = house.trusted()?;
    if house.config.keys.signing.is_some() {
        trusted = trusted.and(&house.signer()?);
    }
    if trusted.is_empty() {
        return Err(Broke::hinted(
            "nobody is trusted to have signed the backups, so a forged one could not be told from a good one",
            "name who signs them in lifeboat.toml: [keys] trusted_signers = [\"…\"]",
        ));
    }
    Ok(trusted)
}

impl Copying<'_> {
    async fn open<'r>(&self, route: &'r Route, only: Option<&BackupId>) -> Result<Opened<'r>, Broke> {
        // Where it comes from first: no folder is made for the copies of what is not there.
        let from = self.house.store(&route.from)?;
        let mut backups = list_backups(&*from, Some(&self.policy.name), &self.trusted).await?;
        backups.retain(|(_, backup)| only.is_none_or(|only| only == backup));
        if let (Some(only), true) = (only, backups.is_empty()) {
            let hint = format!("`lifeboat copies {}` tells which store has which", self.policy.name);
            return Err(Broke::hinted(format!("the store {} has no backup {only}", route.from), hint));
        }
        let into = self.house.store_to_fill(self.policy, &route.to).await?;
        Ok(Opened { route, way: Way { from, to: self.house.store(&route.to)?, into }, backups })
    }

    async fn along(&self, opened: Opened<'_>, report: &mut Report) -> Result<(), Broke> {
        let Opened { route, way, backups } = opened;
        let brought = self.bring(route, &way, &backups, report).await;
        if let Err(error) = way.into.settle().await {
            report.notes.push(format!("something half written is left in {}: {error}", route.to));
        }
        brought
    }

    async fn bring(
        &self,
        route: &Route,
        way: &Way,
        backups: &[(PolicyName, BackupId)],
        report: &mut Report,
    ) -> Result<(), Broke> {
        let listed = list_backups(&*way.to, Some(&self.policy.name), &self.trusted).await?;
        let there: BTreeSet<BackupId> = listed.into_iter().map(|(_, backup)| backup).collect();
        // The newest first: it is what the second place is for, should the first be lost before this is done.
        for (_, backup) in backups.iter().rev() {
            self.house.still_ours().await?;
            match self.backup(route, way, backup, &there).await? {
                Looked::At(copied) => report.copies.push(*copied),
                Looked::NotOurs(job) if self.policy.backups.iter().any(|known| known.name == job) => {}
                Looked::NotOurs(job) => report.notes.push(format!(
                    "backup {backup} is of the job {job}, which the policy does not have: copy it with --to {}",
                    route.to
                )),
                Looked::Going => report.notes.push(format!("backup {backup} is being removed from {}", route.to)),
                Looked::Gone => report.notes.push(format!("backup {backup} was removed from {} meanwhile", route.from)),
            }
        }
        if route.log {
            report.logs.push(self.log(route, way).await);
        }
        Ok(())
    }
}

/// Whether the policy's log lies in the job's store.
fn carries_log(policy: &Policy, job: &BackupJob) -> bool {
    wal::job(policy).is_some_and(|carrier| carrier.name == job.name)
}

/// From where to where, each pair once.
fn routes(policy: &Policy, asked: &Asked) -> Result<Vec<Route>, Broke> {
    if let (Some(from), Some(to)) = (&asked.from, &asked.to)
        && from == to
    {
        return Err(Broke::hinted(format!("{from} would be copied into itself"), "name two different stores"));
    }
    let mut routes: Vec<Route> = Vec::new();
    for job in &policy.backups {
        let from = asked.from.as_ref().unwrap_or(&job.store);
        let into = asked.to.as_ref().map_or(job.copies.as_slice(), std::slice::from_ref);
        for to in into.iter().filter(|to| *to != from) {
            // A store that was named takes all that there is, also of jobs that the policy has no more.
            let of = asked.to.is_none().then(|| job.name.clone());
            let log = carries_log(policy, job) && asked.backup.is_none();
            match routes.iter_mut().find(|route| route.from == *from && route.to == *to) {
                Some(route) => {
                    route.log |= log;
                    if let (Some(jobs), Some(of)) = (&mut route.jobs, of) {
                        jobs.push(of);
                    }
                }
                None => routes.push(Route { from: from.clone(), to: to.clone(), jobs: of.map(|of| vec![of]), log }),
            }
        }
    }
    if routes.is_empty() {
        return Err(match (&asked.from, &asked.to) {
            (None, None) => Broke::hinted(
                format!("no job of policy {} has copies", policy.name),
                "declare them in the policy: [[backup]] copies = [\"STORE\"]; or name a store with --to",
            ),
            _ => Broke::hinted("there is nowhere to copy to from there", "name a store with --to"),
        });
    }
    Ok(routes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample;

    fn name(text: &str) -> PlaceName {
        text.parse().unwrap()
    }

    fn pairs(routes: &[Route]) -> Vec<(&str, &str, bool)> {
        routes.iter().map(|route| (route.from.as_str(), route.to.as_str(), route.log)).collect()
    }

    #[test]
    fn every_job_goes_to_its_own_copies_and_the_log_with_the_first_physical_one() {
        let mut policy = sample::policy();
        let none = Asked::default();
        assert!(routes(&policy, &none).unwrap_err().hint.unwrap().contains("copies ="));
        policy.backups[0].copies = vec![name("far"), name("tape")];
        policy.backups[1].copies = vec![name("far")];
        let all = routes(&policy, &none).unwrap();
        assert_eq!(pairs(&all), [("primary", "far", true), ("primary", "tape", true)]);
        assert!(policy.backups.iter().all(|job| all[0].takes(&job.name)));
        assert!(!all[1].takes(&policy.backups[1].name));

        let one = Asked { to: Some(name("usb")), ..Asked::default() };
        let to = routes(&policy, &one).unwrap();
        assert_eq!(pairs(&to), [("primary", "usb", true)]);
        assert!(to[0].takes(&"gone".parse().unwrap()), "a store that was named takes all that there is");

        let back = Asked { from: Some(name("far")), to: Some(name("primary")), backup: None };
        assert_eq!(pairs(&routes(&policy, &back).unwrap()), [("far", "primary", true)]);
        let from = Asked { from: Some(name("far")), ..Asked::default() };
        assert_eq!(pairs(&routes(&policy, &from).unwrap()), [("far", "tape", true)]);
        let itself = Asked { from: Some(name("far")), to: Some(name("far")), backup: None };
        assert!(routes(&policy, &itself).is_err());
        let single = Asked { backup: Some(sample::manifest().backup), ..Asked::default() };
        assert!(routes(&policy, &single).unwrap().iter().all(|route| !route.log));
    }
}
