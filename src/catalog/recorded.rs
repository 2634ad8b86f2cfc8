//! All that is on record of a policy, asked for several policies at once: of thousands, a question for each would be most of the time.

use jiff::Timestamp;

use super::Catalog;
use crate::domain::check::Broke;
use crate::domain::copies::CopyRecord;
use crate::domain::exposure::Covered;
use crate::domain::ids::PolicyName;
use crate::domain::ledger::ShelfRead;
use crate::domain::mutation::DrillTest;
use crate::domain::run::{ArtifactRecord, Run};
use crate::domain::summary::DrillSummary;

/// Of which policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its name.
    pub policy: PolicyName,
    /// What was read back since then counts as lately.
    pub read_since: Timestamp,
}

/// How far back, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Drills and tests of drills of each policy, at most.
    pub look_back: usize,
    /// Runs of each work of each policy, at most.
    pub of_each: usize,
    /// What was covered since then, and the last before it.
    pub covered_since: Timestamp,
    /// Also tests of drills and copies, which say nothing about where a policy stands.
    pub whole: bool,
}

/// What is on record; each list as the catalog's question for it alone gives it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recorded {
    /// See [`Catalog::artifacts`].
    pub artifacts: Vec<ArtifactRecord>,
    /// See [`Catalog::drills`].
    pub drills: Vec<DrillSummary>,
    /// See [`Catalog::newest_runs`].
    pub runs: Vec<Run>,
    /// See [`Catalog::covered`].
    pub coverage: Vec<Covered>,
    /// See [`Catalog::shelves_read`].
    pub shelves: Vec<ShelfRead>,
    /// See [`Catalog::drill_tests`].
    pub tests: Vec<DrillTest>,
    /// See [`Catalog::copies`].
    pub copies: Vec<CopyRecord>,
}

/// The same by a question for each: for catalogs that are near, and for those that change some answers.
pub(super) async fn one_by_one<C: Catalog + ?Sized>(
    catalog: &C,
    asked: &[Asked],
    reach: Reach,
) -> Result<Vec<Recorded>, Broke> {
    let mut all = Vec::with_capacity(asked.len());
    for Asked { policy, read_since } in asked {
        let mut recorded = Recorded {
            artifacts: catalog.artifacts(policy).await?,
            drills: catalog.drills(policy, reach.look_back).await?,
            runs: catalog.newest_runs(policy, reach.of_each).await?,
            coverage: catalog.covered(policy, reach.covered_since).await?,
            shelves: catalog.shelves_read(policy, *read_since).await?,
            ..Recorded::default()
        };
        if reach.whole {
            recorded.tests = catalog.drill_tests(policy, reach.look_back).await?;
            recorded.copies = catalog.copies(policy).await?;
        }
        all.push(recorded);
    }
    Ok(all)
}
