//! The catalog in a SQLite file.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::check::Broke;
use crate::domain::ids::{BackupId, PlaceName, PolicyName, RunId};
use crate::domain::run::{ArtifactRecord, Event, Run};
use crate::domain::transcript::Transcript;

use super::Catalog;

/// SQLite: nothing to set up.
pub struct SqliteCatalog {}

impl SqliteCatalog {
    /// Opens the file, which is made with its folder if need be, and brings its schema up to date.
    pub fn open(path: &std::path::Path) -> Result<SqliteCatalog, Broke> {
        let _ = path;
        todo!()
    }
}

#[async_trait]
impl Catalog for SqliteCatalog {
    async fn append(&self, _at: Timestamp, _policy: &PolicyName, _run: RunId, _event: Event) -> Result<(), Broke> {
        todo!()
    }
    async fn runs(&self, _policy: Option<&PolicyName>, _limit: usize) -> Result<Vec<Run>, Broke> {
        todo!()
    }
    async fn run(&self, _run: RunId) -> Result<Option<Run>, Broke> {
        todo!()
    }
    async fn transcript(&self, _run: RunId) -> Result<Option<Transcript>, Broke> {
        todo!()
    }
    async fn transcripts(&self, _policy: &PolicyName, _limit: usize) -> Result<Vec<Transcript>, Broke> {
        todo!()
    }
    async fn artifacts(&self, _policy: &PolicyName) -> Result<Vec<ArtifactRecord>, Broke> {
        todo!()
    }
    async fn scratches_owed(&self) -> Result<Vec<(PolicyName, RunId, String)>, Broke> {
        todo!()
    }
    async fn adopt(&self, _at: Timestamp, _records: Vec<ArtifactRecord>) -> Result<u64, Broke> {
        todo!()
    }
    async fn next_sequence(&self, _policy: &PolicyName) -> Result<u64, Broke> {
        todo!()
    }
    async fn find(&self, _backup: &BackupId) -> Result<Vec<(PolicyName, PlaceName)>, Broke> {
        todo!()
    }
}
