//! Runs, artifacts and events. Append-only; a cache of what the stores hold and the memory of what was done.

mod before;
mod carry;
mod error;
mod fold;
mod opened;
pub mod outbox;
mod postgres;
mod queue;
mod recorded;
mod remembered;
mod spool;
mod sqlite;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::check::Broke;
use crate::domain::copies::CopyRecord;
use crate::domain::exposure::Covered;
use crate::domain::ids::{BackupId, PlaceName, PolicyName, RunId};
use crate::domain::immutability::Immutability;
use crate::domain::ledger::{LastRead, Reading, Shelf, ShelfRead};
use crate::domain::mutation::DrillTest;
use crate::domain::observed::Observed;
use crate::domain::run::{ArtifactRecord, Event, EventId, Proof, Run};
use crate::domain::summary::DrillSummary;
use crate::domain::transcript::Transcript;

pub use before::Before;
pub use carry::{Carried, Carry, EXPORT_FORMAT, FORMATS_READ, Load, PlaceEnd, UNDER_WAY, UNREADABLE, carry};
pub use error::CatalogError;
pub use opened::{Opened, open};
pub use outbox::Outbox;
pub use postgres::{Migrated, PostgresCatalog, ServerError, look, migrate};
pub use queue::Queue;
pub use recorded::{Asked, Reach, Recorded};
pub use remembered::Remembered;
pub use spool::{Spooling, Waiting, waiting};
pub use sqlite::SqliteCatalog;

/// A trial of a store's immutability.
pub type Trial = (PlaceName, Timestamp, Observed<Immutability>);

/// The catalog. Every implementation passes one contract suite.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// Appends an event of a run; durable on return.
    async fn append(&self, at: Timestamp, policy: &PolicyName, run: RunId, event: Event) -> Result<(), Broke>;
    /// The same, with the event's own name: of one name the first stands, so that what may have been delivered can be delivered again.
    async fn deliver(
        &self,
        id: EventId,
        at: Timestamp,
        policy: &PolicyName,
        run: RunId,
        event: Event,
    ) -> Result<(), Broke>;
    /// All runs of a policy (or of all), newest first, as their events add up; at most `limit`.
    async fn runs(&self, policy: Option<&PolicyName>, limit: usize) -> Result<Vec<Run>, Broke>;
    /// One run.
    async fn run(&self, run: RunId) -> Result<Option<Run>, Broke>;
    /// The transcript of a drill's run.
    async fn transcript(&self, run: RunId) -> Result<Option<Transcript>, Broke>;
    /// Transcripts of a policy's drills, newest first; at most `limit`.
    async fn transcripts(&self, policy: &PolicyName, limit: usize) -> Result<Vec<Transcript>, Broke>;
    /// The same in little.
    async fn drills(&self, policy: &PolicyName, limit: usize) -> Result<Vec<DrillSummary>, Broke>;
    /// The newest runs of each work of a policy, at most `of_each`; all of them newest first.
    async fn newest_runs(&self, policy: &PolicyName, of_each: usize) -> Result<Vec<Run>, Broke>;
    /// Tests of a policy's drills, newest first; at most `limit`.
    async fn drill_tests(&self, policy: &PolicyName, limit: usize) -> Result<Vec<DrillTest>, Broke>;
    /// The test of a drill that this run was.
    async fn drill_test(&self, run: RunId) -> Result<Option<DrillTest>, Broke>;
    /// The artifacts of a policy that were not deleted, newest recovery point first.
    async fn artifacts(&self, policy: &PolicyName) -> Result<Vec<ArtifactRecord>, Broke>;
    /// The copies of a policy's backups that became durable, as they were written down, newest first.
    async fn copies(&self, policy: &PolicyName) -> Result<Vec<CopyRecord>, Broke>;
    /// All that is on record of several policies, in the order in which they were asked for.
    async fn recorded(&self, asked: &[Asked], reach: Reach) -> Result<Vec<Recorded>, Broke> {
        recorded::one_by_one(self, asked, reach).await
    }
    /// Scratches that were made and not yet destroyed: run and name.
    async fn scratches_owed(&self) -> Result<Vec<(PolicyName, RunId, String)>, Broke>;
    /// Takes in what a store holds (`catalog rebuild`): artifacts that are not known yet. Gives how many were new.
    async fn adopt(&self, at: Timestamp, records: Vec<ArtifactRecord>) -> Result<u64, Broke>;
    /// Writes down what the stores can bring back now; durable on return. Of two for the same moment the first stands.
    async fn cover(&self, policy: &PolicyName, covered: Covered) -> Result<(), Broke>;
    /// What was written down so since a moment, oldest first, and the last before it.
    async fn covered(&self, policy: &PolicyName, since: Timestamp) -> Result<Vec<Covered>, Broke>;
    /// What came of the newest trial of each store's immutability, and when that was.
    async fn immutability(&self, policy: &PolicyName) -> Result<Vec<Trial>, Broke>;
    /// Writes down what was read back: all of it or none; durable on return. Of one object the last that is written stands, but what was wrong
    /// stays so until it is right at the same depth.
    async fn read_back(&self, readings: Vec<Reading>) -> Result<(), Broke>;
    /// The same for readings that come late: one about whose object something newer is known is left out.
    async fn read_back_late(&self, readings: Vec<Reading>) -> Result<(), Broke>;
    /// What was read of one shelf in one store, by key.
    async fn last_read(&self, policy: &PolicyName, store: &PlaceName, shelf: &Shelf) -> Result<Vec<LastRead>, Broke>;
    /// A policy's objects that were wrong when they were last read, by store and key.
    async fn read_wrong(&self, policy: &PolicyName) -> Result<Vec<LastRead>, Broke>;
    /// What was read of each shelf of a policy; `since`: what counts as lately.
    async fn shelves_read(&self, policy: &PolicyName, since: Timestamp) -> Result<Vec<ShelfRead>, Broke>;
    /// Takes objects out of the ledger that are in that store no more.
    async fn forget_read(&self, store: &PlaceName, keys: Vec<String>) -> Result<(), Broke>;
    /// Gives a sequence number for the policy's next backup: it is never given again, whatever becomes of that backup.
    async fn next_sequence(&self, policy: &PolicyName) -> Result<u64, Broke>;
    /// When each backup of the policy that was ever known was durable, also of those that are gone.
    async fn taken(&self, policy: &PolicyName) -> Result<Vec<Timestamp>, Broke>;
    /// Every backup of the policy that a drill ever proved.
    async fn proofs(&self, policy: &PolicyName) -> Result<Vec<Proof>, Broke>;
    /// Finds an artifact by its id, in whichever policy and stores.
    async fn find(&self, backup: &BackupId) -> Result<Vec<(PolicyName, PlaceName)>, Broke>;
}
