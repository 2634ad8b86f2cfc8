//! The log in a store: put there by the source's `archive_command`, looked through, and brought back.

mod acknowledge;
mod audit;
mod fetch;
mod log;
mod outside;
mod push;
mod spool;
mod stream;

pub use acknowledge::{Answered, Asked, Place, Refusal, acknowledge, holes};
pub use audit::{Audit, Limit, Stretch, audit};
pub use fetch::{Fetched, fetch};
pub use log::{Bring, Log, owner_of};
pub use outside::{Outside, Uploading, outside};
pub use push::{Pushed, push};
pub use spool::{Flushed, flush, waiting};
pub use stream::{LAG, stream};

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::Path;

use crate::domain::policy::{BackupJob, Method, Policy};

/// The job whose store, level and keys the log shares: the first physical one, for only its backups can use the log.
fn job(policy: &Policy) -> Option<&BackupJob> {
    policy.backups.iter().find(|job| job.method == Method::Physical)
}

/// Writes a file of the log whole or not at all: under another name first. What is there under its name is replaced.
fn write_whole(to: &Path, bytes: &[u8], owner: Option<(u32, u32)>) -> std::io::Result<()> {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".lifeboat-tmp");
    let temporary = to.with_file_name(name);
    // What a killed one left. Made anew, and never through a link.
    let _ = std::fs::remove_file(&temporary);
    let put = || {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        if let Some((uid, gid)) = owner {
            fchown(&file, Some(uid), Some(gid))?;
        }
        file.sync_all()?;
        std::fs::rename(&temporary, to)
    };
    // Best effort: what matters is the error itself.
    put().inspect_err(|_| drop(std::fs::remove_file(&temporary)))
}
