//! A catalog as a run found it when it began: what it knew of backups then is what the run goes by, also when it goes away meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::Catalog;
use super::before::Before;
use crate::domain::check::Broke;
use crate::domain::copies::CopyRecord;
use crate::domain::ids::PolicyName;
use crate::domain::run::ArtifactRecord;

/// Answers of one moment, before the catalog that gave them.
pub struct Remembered {
    catalog: Arc<dyn Catalog>,
    artifacts: BTreeMap<PolicyName, Vec<ArtifactRecord>>,
    copies: BTreeMap<PolicyName, Vec<CopyRecord>>,
}

impl Remembered {
    /// Asks now for the backups of these policies, and for the copies of one.
    pub async fn of(
        catalog: &Arc<dyn Catalog>,
        policies: impl Iterator<Item = &PolicyName>,
        copied: &PolicyName,
    ) -> Result<Remembered, Broke> {
        let mut artifacts = BTreeMap::new();
        for policy in policies {
            artifacts.insert(policy.clone(), catalog.artifacts(policy).await?);
        }
        let copies = BTreeMap::from([(copied.clone(), catalog.copies(copied).await?)]);
        Ok(Remembered { catalog: Arc::clone(catalog), artifacts, copies })
    }
}

#[async_trait]
impl Before for Remembered {
    fn behind(&self) -> &Arc<dyn Catalog> {
        &self.catalog
    }

    async fn knows(&self, policy: &PolicyName) -> Result<Vec<ArtifactRecord>, Broke> {
        match self.artifacts.get(policy) {
            Some(known) => Ok(known.clone()),
            None => self.catalog.artifacts(policy).await,
        }
    }

    async fn knows_copies(&self, policy: &PolicyName) -> Result<Vec<CopyRecord>, Broke> {
        match self.copies.get(policy) {
            Some(known) => Ok(known.clone()),
            None => self.catalog.copies(policy).await,
        }
    }
}
