//! The log in a store: put there by the source's `archive_command`, looked through, and brought back.

mod audit;
mod fetch;
mod log;
mod push;

pub use audit::{Audit, Stretch, audit};
pub use fetch::{Fetched, fetch};
pub use log::{Bring, Log, owner_of};
pub use push::{Pushed, push};

use crate::domain::ids::PlaceName;
use crate::domain::policy::{BackupJob, Method, Policy};

/// The job whose store, level and keys the log shares: the first physical one, for only its backups can use the log.
fn job(policy: &Policy) -> Option<&BackupJob> {
    policy.backups.iter().find(|job| job.method == Method::Physical)
}

/// Where a policy's log goes.
pub fn store_of(policy: &Policy) -> Option<&PlaceName> {
    job(policy).map(|job| &job.store)
}
