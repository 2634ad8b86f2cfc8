//! The catalog as a mutated drill sees it: it reads what is there, and leaves nothing by which a policy could be judged.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::catalog::{Catalog, Trial};
use crate::domain::check::Broke;
use crate::domain::copies::CopyRecord;
use crate::domain::exposure::Covered;
use crate::domain::ids::{BackupId, PlaceName, PolicyName, RunId};
use crate::domain::ledger::{LastRead, Reading, Shelf, ShelfRead};
use crate::domain::mutation::DrillTest;
use crate::domain::run::{ArtifactRecord, Event, EventId, Proof, Run, RunOutcome, Work};
use crate::domain::transcript::Transcript;

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
impl Catalog for Aside {
    async fn append(&self, at: Timestamp, policy: &PolicyName, run: RunId, event: Event) -> Result<(), Broke> {
        self.deliver(EventId::new(), at, policy, run, event).await
    }

    async fn deliver(
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

    async fn runs(&self, policy: Option<&PolicyName>, limit: usize) -> Result<Vec<Run>, Broke> {
        self.catalog.runs(policy, limit).await
    }

    async fn run(&self, run: RunId) -> Result<Option<Run>, Broke> {
        self.catalog.run(run).await
    }

    async fn transcript(&self, run: RunId) -> Result<Option<Transcript>, Broke> {
        self.catalog.transcript(run).await
    }

    async fn transcripts(&self, policy: &PolicyName, limit: usize) -> Result<Vec<Transcript>, Broke> {
        self.catalog.transcripts(policy, limit).await
    }

    async fn drill_tests(&self, policy: &PolicyName, limit: usize) -> Result<Vec<DrillTest>, Broke> {
        self.catalog.drill_tests(policy, limit).await
    }

    async fn drill_test(&self, run: RunId) -> Result<Option<DrillTest>, Broke> {
        self.catalog.drill_test(run).await
    }

    async fn artifacts(&self, policy: &PolicyName) -> Result<Vec<ArtifactRecord>, Broke> {
        let mut records = self.catalog.artifacts(policy).await?;
        if let Some((backup, sha256)) = &self.resigned {
            for record in records.iter_mut().filter(|record| record.backup == *backup) {
                record.manifest_sha256.clone_from(sha256);
            }
        }
        Ok(records)
    }

    async fn copies(&self, policy: &PolicyName) -> Result<Vec<CopyRecord>, Broke> {
        self.catalog.copies(policy).await
    }

    async fn scratches_owed(&self) -> Result<Vec<(PolicyName, RunId, String)>, Broke> {
        self.catalog.scratches_owed().await
    }

    async fn adopt(&self, _at: Timestamp, _records: Vec<ArtifactRecord>) -> Result<u64, Broke> {
        Ok(0)
    }

    async fn cover(&self, _policy: &PolicyName, _covered: Covered) -> Result<(), Broke> {
        Ok(())
    }

    async fn covered(&self, policy: &PolicyName, since: Timestamp) -> Result<Vec<Covered>, Broke> {
        self.catalog.covered(policy, since).await
    }

    async fn immutability(&self, policy: &PolicyName) -> Result<Vec<Trial>, Broke> {
        self.catalog.immutability(policy).await
    }

    /// What was read here has a known fault: nothing follows for the store.
    async fn read_back(&self, _readings: Vec<Reading>) -> Result<(), Broke> {
        Ok(())
    }

    async fn read_back_late(&self, _readings: Vec<Reading>) -> Result<(), Broke> {
        Ok(())
    }

    async fn last_read(&self, policy: &PolicyName, store: &PlaceName, shelf: &Shelf) -> Result<Vec<LastRead>, Broke> {
        self.catalog.last_read(policy, store, shelf).await
    }

    async fn read_wrong(&self, policy: &PolicyName) -> Result<Vec<LastRead>, Broke> {
        self.catalog.read_wrong(policy).await
    }

    async fn shelves_read(&self, policy: &PolicyName, since: Timestamp) -> Result<Vec<ShelfRead>, Broke> {
        self.catalog.shelves_read(policy, since).await
    }

    async fn forget_read(&self, _store: &PlaceName, _keys: Vec<String>) -> Result<(), Broke> {
        Ok(())
    }

    async fn next_sequence(&self, policy: &PolicyName) -> Result<u64, Broke> {
        self.catalog.next_sequence(policy).await
    }

    async fn taken(&self, policy: &PolicyName) -> Result<Vec<Timestamp>, Broke> {
        self.catalog.taken(policy).await
    }

    async fn proofs(&self, policy: &PolicyName) -> Result<Vec<Proof>, Broke> {
        self.catalog.proofs(policy).await
    }

    async fn find(&self, backup: &BackupId) -> Result<Vec<(PolicyName, PlaceName)>, Broke> {
        self.catalog.find(backup).await
    }
}
