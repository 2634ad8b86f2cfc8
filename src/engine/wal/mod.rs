//! The log in a store: put there by the source's `archive_command`, looked through, and brought back.

pub mod ahead;

mod acknowledge;
mod audit;
mod cover;
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
use std::path::{Path, PathBuf};

use crate::domain::policy::{BackupJob, Method, Policy};

/// The job whose store, level and keys the log shares: the first physical one, for only its backups can use the log.
pub(super) fn job(policy: &Policy) -> Option<&BackupJob> {
    policy.backups.iter().find(|job| job.method == Method::Physical)
}

/// Who makes a file durable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sync {
    /// We do.
    Ours,
    /// Whoever asked for it: before a server replays a segment that `restore_command` brought, it gives it its place in `pg_wal` by
    /// `durable_rename` (`KeepFileRestoredFromArchive`, in all majors), which is an fsync of the file, of what was there, and of the folder.
    /// After a crash before that, it removes the file (`RestoreArchivedFile`) and asks again. To do it twice only makes it wait twice.
    Theirs,
}

/// What it is called while it is written.
fn temporary(to: &Path) -> PathBuf {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".lifeboat-tmp");
    to.with_file_name(name)
}

/// Writes a file of the log whole or not at all: under another name first. What is there under its name is replaced.
fn write_whole(to: &Path, bytes: &[u8], owner: Option<(u32, u32)>, sync: Sync) -> std::io::Result<()> {
    let temporary = temporary(to);
    // What a killed one left. Made anew, and never through a link.
    let _ = std::fs::remove_file(&temporary);
    let put = || {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        if let Some((uid, gid)) = owner {
            fchown(&file, Some(uid), Some(gid))?;
        }
        if sync == Sync::Ours {
            file.sync_all()?;
        }
        std::fs::rename(&temporary, to)
    };
    // Best effort: what matters is the error itself.
    put().inspect_err(|_| drop(std::fs::remove_file(&temporary)))
}
