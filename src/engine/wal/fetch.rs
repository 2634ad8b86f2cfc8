//! `lifeboat wal fetch`: one file of the log out of the stores, for a server's `restore_command`.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

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
            let written = tokio::task::spawn_blocking(move || write(&path, &bytes)).await;
            written.map_err(|error| Broke::new(format!("the writing thread stopped: {error}")))??;
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

/// Whole or not at all: under another name first.
fn write(to: &Path, bytes: &[u8]) -> Result<(), Broke> {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".lifeboat-tmp");
    let temporary = to.with_file_name(name);
    let put = || -> std::io::Result<()> {
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, to)
    };
    put().map_err(|error| {
        // Best effort: what matters is the error itself.
        let _ = std::fs::remove_file(&temporary);
        Broke::hinted(format!("{} cannot be written: {error}", to.display()), "restore_command gives it as %p")
    })
}
