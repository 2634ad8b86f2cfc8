//! Does a claimed run: with the engine of its work.

use std::sync::Arc;

use async_trait::async_trait;

use super::log::Logged;
use crate::domain::check::Broke;
use crate::domain::policy::Policy;
use crate::domain::queue::Planned;
use crate::domain::run::Work;
use crate::domain::units::Span;
use crate::engine::verify::Reading;
use crate::engine::{House, backup, copy, drift, drill, ledger, prune};
use crate::progress::Progress;

/// For how long what a scheduled prune marked can be brought back, and how long what belongs to nothing is left alone: as `lifeboat prune` does.
const GRACE: Span = Span::from_secs(24 * 3_600);
const ORPHANS_AFTER: Span = Span::from_secs(7 * 86_400);

/// Whoever does runs, on a thread of its own each. The engines; or, in a simulation, somebody who only seems to.
#[async_trait(?Send)]
pub trait Performer: Send + Sync {
    /// Does a run in a house that holds its claim. What came of it is in the catalog, if it was begun; an error says why it was not, or why it broke.
    async fn perform(&self, house: &House, planned: &Planned) -> Result<(), Broke>;
    /// What is done after a run has ended well, in a house without its claim.
    async fn afterwards(&self, house: &House, planned: &Planned);
}

/// The engines.
#[derive(Debug)]
pub struct Engines;

#[async_trait(?Send)]
impl Performer for Engines {
    async fn perform(&self, house: &House, planned: &Planned) -> Result<(), Broke> {
        let policy = known(house, planned)?;
        let progress = logged(planned);
        match &planned.key.work {
            Work::Backup { job } => {
                let job = policy.backups.iter().find(|known| known.name == *job).ok_or_else(|| not_here(planned))?;
                backup::run(house, policy, job, &progress).await.map(drop)
            }
            Work::Drill { drill } => drill::run(house, policy, house.drill(drill)?, &progress).await.map(drop),
            Work::Prune => {
                let asked = prune::Asked { only: None, dry_run: false, grace: GRACE, orphans_after: ORPHANS_AFTER };
                prune::prune(house, policy, &asked, crate::clock::now()).await.map(drop)
            }
            Work::Copy => copy::run(house, policy, &copy::Asked::default(), &progress).await.map(drop),
            Work::ReadBack => {
                let opener = if house.config.keys.identities.is_empty() { None } else { Some(house.opener()?) };
                let (trusted, threads) = (house.trusted()?, house.config.limits.parallel);
                let sight = Reading { opener, trusted, threads, progress: Arc::new(progress) as Arc<dyn Progress> };
                let budget = house.config.schedule.budget;
                ledger::walk(house, &[policy], None, budget, &sight, crate::clock::now()).await.map(drop)
            }
            Work::Drift => drift::recorded(house, policy).await.map(drop),
            Work::Mutate { .. } | Work::Restore | Work::Find { .. } | Work::Verify => {
                Err(Broke::new(format!("a {} is not done by schedule", planned.key.work.title())))
            }
        }
    }

    async fn afterwards(&self, house: &House, planned: &Planned) {
        let Work::Backup { job } = &planned.key.work else { return };
        let Ok(policy) = known(house, planned) else { return };
        let Some(job) = policy.backups.iter().find(|known| known.name == *job && !known.copies.is_empty()) else {
            return;
        };
        let newest = house.catalog.artifacts(&policy.name).await;
        let newest = newest.map(|all| all.into_iter().find(|one| one.job == job.name && one.store == job.store));
        let copied = match newest {
            Ok(Some(backup)) => {
                copy::after_backup(house, policy, job, &backup.backup, &logged(planned)).await.map(drop)
            }
            Ok(None) => Ok(()),
            Err(broke) => Err(broke),
        };
        if let Err(broke) = copied {
            tracing::error!(policy = %policy.name, job = %job.name, error = %broke.error, "the backup is taken, and not copied");
        }
    }
}

fn known<'a>(house: &'a House, planned: &Planned) -> Result<&'a Policy, Broke> {
    house.policies.iter().find(|policy| policy.name == planned.key.policy).ok_or_else(|| not_here(planned))
}

fn not_here(planned: &Planned) -> Broke {
    let (policy, work) = (&planned.key.policy, planned.key.work.title());
    Broke::hinted(
        format!("this machine knows no {work} of policy {policy}"),
        "every machine that serves one catalog needs the same policies and drills",
    )
}

fn logged(planned: &Planned) -> Logged {
    Logged { title: format!("{} {}", planned.key.policy, planned.key.work.title()), run: planned.run.to_string() }
}
