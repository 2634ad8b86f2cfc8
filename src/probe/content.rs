//! Order-independent digests of tables, computed inside PostgreSQL.

use crate::domain::check::Broke;
use crate::domain::inventory::Table;
use crate::domain::policy::ContentPlan;

use super::OpenSnapshot;

/// Which rows are digested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowFilter {
    /// All that the snapshot sees.
    All,
    /// In a restored physical copy: leave out rows that were written after the source's snapshot and before `own_from`, the first transaction of
    /// the restored server itself.
    AsOf {
        /// The source's snapshot.
        snapshot: crate::domain::inventory::Snapshot,
        /// The first transaction identifier that the restored server gave out.
        own_from: u64,
    },
}

/// Digests all tables of the snapshot's database, `parallel` at once, each on a connection of its own under the same snapshot.
pub async fn digest_tables(
    snapshot: &OpenSnapshot,
    plan: &ContentPlan,
    filter: &RowFilter,
    parallel: usize,
) -> Result<Vec<Table>, Broke> {
    let _ = (snapshot, plan, filter, parallel);
    todo!()
}
