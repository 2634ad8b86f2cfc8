//! The catalog as a mutated drill sees it: it reads what is there, and leaves nothing by which a policy could be judged.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::catalog::{Before, Catalog};
use crate::domain::check::Broke;
use crate::domain::exposure::Covered;
use crate::domain::ids::{BackupId, PlaceName, PolicyName, RunId};
use crate::domain::ledger::Reading;
use crate::domain::run::{ArtifactRecord, Event, EventId, RunOutcome, Work};

/// Beside the real catalog.
pub struct Aside {
    /// The real one.
    pub catalog: Arc<dyn Catalog>,
    /// What a drill is written down as, so that a sweep knows its scratch and nobody takes it for a drill.
    pub work: Work,
    /// A backup whose manifest was signed anew: the catalog of such a source would know that one.
    pub resigned: Option<(BackupId, String)>,
}

#[async_trait]
impl Before for Aside {
    fn behind(&self) -> &Arc<dyn Catalog> {
        &self.catalog
    }

    async fn says(
        &self,
        id: EventId,
        at: Timestamp,
        policy: &PolicyName,
        run: RunId,
        event: Event,
    ) -> Result<(), Broke> {
        let event = match event {
            Event::Planned { scheduled_for, .. } => Event::Planned { work: self.work.clone(), scheduled_for },
            Event::Finished { outcome: RunOutcome::Judged(_) } => Event::Finished { outcome: RunOutcome::Succeeded },
            Event::Drilled(_) | Event::DrillTested(_) | Event::Committed(_) | Event::Copied(_) => return Ok(()),
            event @ (Event::Started { .. }
            | Event::ScratchMade { .. }
            | Event::ScratchDestroyed { .. }
            | Event::HoleAcknowledged(_)
            | Event::ImmutabilityTried { .. }
            | Event::Marked { .. }
            | Event::Removed(_)
            | Event::LogRemoved { .. }
            | Event::OrphansRemoved { .. }
            | Event::Finished { .. }
            | Event::Abandoned { .. }
            | Event::Missed { .. }
            | Event::CaughtUp { .. }) => event,
        };
        self.catalog.deliver(id, at, policy, run, event).await
    }

    async fn knows(&self, policy: &PolicyName) -> Result<Vec<ArtifactRecord>, Broke> {
        let mut records = self.catalog.artifacts(policy).await?;
        if let Some((backup, sha256)) = &self.resigned {
            for record in records.iter_mut().filter(|record| record.backup == *backup) {
                record.manifest_sha256.clone_from(sha256);
            }
        }
        Ok(records)
    }

    async fn adopts(&self, _at: Timestamp, _records: Vec<ArtifactRecord>) -> Result<u64, Broke> {
        Ok(0)
    }

    async fn covers(&self, _policy: &PolicyName, _covered: Covered) -> Result<(), Broke> {
        Ok(())
    }

    /// What was read here has a known fault: nothing follows for the store.
    async fn has_read(&self, _readings: Vec<Reading>) -> Result<(), Broke> {
        Ok(())
    }

    async fn has_read_late(&self, _readings: Vec<Reading>) -> Result<(), Broke> {
        Ok(())
    }

    async fn forgets(&self, _store: &PlaceName, _keys: Vec<String>) -> Result<(), Broke> {
        Ok(())
    }
}
