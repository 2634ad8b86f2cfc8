//! `lifeboat wal fetch`: one file of the log out of the stores, for a server's `restore_command`.

use std::path::Path;
use std::sync::Arc;

use super::write_whole;
use crate::domain::check::{Broke, Stop};
use crate::domain::ids::PolicyName;
use crate::domain::wal::WalName;
use crate::seal::{self, Opener, TrustedSigners};
use crate::store::Store;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// It is where it was wanted, whole and verified.
    Written,
    /// It is certainly in none of the stores, which hold other things of this policy.
    Absent,
}

/// Brings a file back to `to`. Only certain absence is [`Fetched::Absent`]: a server that hears of it takes the log to end there.
pub async fn fetch(
    stores: &[Arc<dyn Store>],
    policy: &PolicyName,
    name: WalName,
    trusted: &TrustedSigners,
    opener: &Opener,
    to: &Path,
) -> Result<Fetched, Stop> {
    for store in stores {
        if let Some((_, bytes)) = seal::fetch_wal(&**store, policy, name, trusted, opener).await? {
            let path = to.to_owned();
            let written = tokio::task::spawn_blocking(move || write_whole(&path, &bytes, None)).await;
            let written = written.map_err(|error| Broke::new(format!("the writing thread stopped: {error}")))?;
            written.map_err(|error| {
                Broke::hinted(format!("{} cannot be written: {error}", to.display()), "restore_command gives it as %p")
            })?;
            return Ok(Fetched::Written);
        }
    }
    for store in stores {
        // A store that holds nothing at all of the policy may be an empty folder where a disk is not mounted.
        let known = !seal::list_wal(&**store, policy).await?.is_empty()
            || !seal::list_backups(&**store, Some(policy)).await.map_err(Broke::from)?.is_empty();
        if !known {
            let error =
                format!("{} holds nothing of policy {policy}: it cannot be said that {name} is not there", store.url());
            return Err(Broke::hinted(error, "is it mounted, and is it the right store?").into());
        }
    }
    if stores.is_empty() {
        return Err(Broke::new("no store is named").into());
    }
    Ok(Fetched::Absent)
}
