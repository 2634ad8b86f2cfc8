//! What stands before a catalog and changes some of its answers: the rest goes through.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::recorded::{self, Asked, Reach, Recorded};
use super::{Catalog, Trial};
use crate::domain::check::Broke;
use crate::domain::copies::CopyRecord;
use crate::domain::exposure::Covered;
use crate::domain::ids::{BackupId, PlaceName, PolicyName, RunId};
use crate::domain::ledger::{LastRead, Reading, Shelf, ShelfRead};
use crate::domain::mutation::DrillTest;
use crate::domain::run::{ArtifactRecord, Event, EventId, Proof, Run};
use crate::domain::summary::DrillSummary;
use crate::domain::transcript::Transcript;

/// Something before a catalog. Whatever is not said here is the catalog's own answer.
#[async_trait]
pub trait Before: Send + Sync {
    /// The catalog behind.
    fn behind(&self) -> &Arc<dyn Catalog>;
    /// Comes before every call.
    async fn first(&self) {}
    /// See [`Catalog::deliver`].
    async fn says(
        &self,
        id: EventId,
        at: Timestamp,
        policy: &PolicyName,
        run: RunId,
        event: Event,
    ) -> Result<(), Broke> {
        self.behind().deliver(id, at, policy, run, event).await
    }
    /// See [`Catalog::read_back`].
    async fn has_read(&self, readings: Vec<Reading>) -> Result<(), Broke> {
        self.behind().read_back(readings).await
    }
    /// See [`Catalog::cover`].
    async fn covers(&self, policy: &PolicyName, covered: Covered) -> Result<(), Broke> {
        self.behind().cover(policy, covered).await
    }
    /// See [`Catalog::artifacts`].
    async fn knows(&self, policy: &PolicyName) -> Result<Vec<ArtifactRecord>, Broke> {
        self.behind().artifacts(policy).await
    }
    /// See [`Catalog::copies`].
    async fn knows_copies(&self, policy: &PolicyName) -> Result<Vec<CopyRecord>, Broke> {
        self.behind().copies(policy).await
    }
    /// See [`Catalog::recorded`]. One by one, for some answers may be changed here.
    async fn tells(&self, asked: &[Asked], reach: Reach) -> Result<Vec<Recorded>, Broke>
    where
        Self: Sized,
    {
        recorded::one_by_one(self, asked, reach).await
    }
    /// See [`Catalog::adopt`].
    async fn adopts(&self, at: Timestamp, records: Vec<ArtifactRecord>) -> Result<u64, Broke> {
        self.behind().adopt(at, records).await
    }
    /// See [`Catalog::read_back_late`].
    async fn has_read_late(&self, readings: Vec<Reading>) -> Result<(), Broke> {
        self.behind().read_back_late(readings).await
    }
    /// See [`Catalog::forget_read`].
    async fn forgets(&self, store: &PlaceName, keys: Vec<String>) -> Result<(), Broke> {
        self.behind().forget_read(store, keys).await
    }
}

#[async_trait]
impl<T: Before> Catalog for T {
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
        self.first().await;
        self.says(id, at, policy, run, event).await
    }
    async fn runs(&self, policy: Option<&PolicyName>, limit: usize) -> Result<Vec<Run>, Broke> {
        self.first().await;
        self.behind().runs(policy, limit).await
    }
    async fn run(&self, run: RunId) -> Result<Option<Run>, Broke> {
        self.first().await;
        self.behind().run(run).await
    }
    async fn transcript(&self, run: RunId) -> Result<Option<Transcript>, Broke> {
        self.first().await;
        self.behind().transcript(run).await
    }
    async fn transcripts(&self, policy: &PolicyName, limit: usize) -> Result<Vec<Transcript>, Broke> {
        self.first().await;
        self.behind().transcripts(policy, limit).await
    }
    async fn drills(&self, policy: &PolicyName, limit: usize) -> Result<Vec<DrillSummary>, Broke> {
        self.first().await;
        self.behind().drills(policy, limit).await
    }
    async fn newest_runs(&self, policy: &PolicyName, of_each: usize) -> Result<Vec<Run>, Broke> {
        self.first().await;
        self.behind().newest_runs(policy, of_each).await
    }
    async fn drill_tests(&self, policy: &PolicyName, limit: usize) -> Result<Vec<DrillTest>, Broke> {
        self.first().await;
        self.behind().drill_tests(policy, limit).await
    }
    async fn drill_test(&self, run: RunId) -> Result<Option<DrillTest>, Broke> {
        self.first().await;
        self.behind().drill_test(run).await
    }
    async fn artifacts(&self, policy: &PolicyName) -> Result<Vec<ArtifactRecord>, Broke> {
        self.first().await;
        self.knows(policy).await
    }
    async fn copies(&self, policy: &PolicyName) -> Result<Vec<CopyRecord>, Broke> {
        self.first().await;
        self.knows_copies(policy).await
    }
    async fn recorded(&self, asked: &[Asked], reach: Reach) -> Result<Vec<Recorded>, Broke> {
        self.first().await;
        self.tells(asked, reach).await
    }
    async fn scratches_owed(&self) -> Result<Vec<(PolicyName, RunId, String)>, Broke> {
        self.first().await;
        self.behind().scratches_owed().await
    }
    async fn adopt(&self, at: Timestamp, records: Vec<ArtifactRecord>) -> Result<u64, Broke> {
        self.first().await;
        self.adopts(at, records).await
    }
    async fn cover(&self, policy: &PolicyName, covered: Covered) -> Result<(), Broke> {
        self.first().await;
        self.covers(policy, covered).await
    }
    async fn covered(&self, policy: &PolicyName, since: Timestamp) -> Result<Vec<Covered>, Broke> {
        self.first().await;
        self.behind().covered(policy, since).await
    }
    async fn immutability(&self, policy: &PolicyName) -> Result<Vec<Trial>, Broke> {
        self.first().await;
        self.behind().immutability(policy).await
    }
    async fn read_back(&self, readings: Vec<Reading>) -> Result<(), Broke> {
        self.first().await;
        self.has_read(readings).await
    }
    async fn read_back_late(&self, readings: Vec<Reading>) -> Result<(), Broke> {
        self.first().await;
        self.has_read_late(readings).await
    }
    async fn last_read(&self, policy: &PolicyName, store: &PlaceName, shelf: &Shelf) -> Result<Vec<LastRead>, Broke> {
        self.first().await;
        self.behind().last_read(policy, store, shelf).await
    }
    async fn read_wrong(&self, policy: &PolicyName) -> Result<Vec<LastRead>, Broke> {
        self.first().await;
        self.behind().read_wrong(policy).await
    }
    async fn shelves_read(&self, policy: &PolicyName, since: Timestamp) -> Result<Vec<ShelfRead>, Broke> {
        self.first().await;
        self.behind().shelves_read(policy, since).await
    }
    async fn forget_read(&self, store: &PlaceName, keys: Vec<String>) -> Result<(), Broke> {
        self.first().await;
        self.forgets(store, keys).await
    }
    async fn next_sequence(&self, policy: &PolicyName) -> Result<u64, Broke> {
        self.first().await;
        self.behind().next_sequence(policy).await
    }
    async fn taken(&self, policy: &PolicyName) -> Result<Vec<Timestamp>, Broke> {
        self.first().await;
        self.behind().taken(policy).await
    }
    async fn proofs(&self, policy: &PolicyName) -> Result<Vec<Proof>, Broke> {
        self.first().await;
        self.behind().proofs(policy).await
    }
    async fn find(&self, backup: &BackupId) -> Result<Vec<(PolicyName, PlaceName)>, Broke> {
        self.first().await;
        self.behind().find(backup).await
    }
}
