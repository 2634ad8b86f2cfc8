//! Reads the data folder itself, in parallel, where lifeboat runs on the source's own machine.
//!
//! The server is put into backup mode, all files are read as `pg_basebackup` would send them (`src/backend/backup/basebackup.c`),
//! and the log of that time is added from `pg_wal`. One thread lays the archive out; the threads that seal its parts read
//! the files, so no thread is a bottleneck and nothing is copied. The artifact is the same as that of the stream.

mod control;
mod file;
mod ground;
mod listing;
mod log;
mod mode;
mod reader;
mod walk;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_postgres::Client;

use super::pump::Pumped;
use crate::backup::moved::Moved;
use crate::backup::session;
use crate::domain::check::Broke;
use crate::probe::Endpoint;
use crate::seal::StreamWriter;

pub use ground::{Ground, choose};
pub use reader::Reader;

/// How often the session that holds the server in backup mode is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a server that is to leave backup mode after a failure is waited for; the end of the session does it too.
const LEAVE_AT_MOST: Duration = Duration::from_secs(5);

/// Tells the reader to stop when this is dropped: a dropped future leaves no thread at work.
struct StopWhenDropped(Arc<AtomicBool>);

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Takes the base backup: backup mode, the files, the log. `pages`: whether page checksums are verified.
pub async fn read(
    ground: Arc<Ground>,
    endpoint: &Endpoint,
    label: &str,
    writer: StreamWriter,
    pages: bool,
    moved: &Moved,
) -> Result<Pumped<StreamWriter>, Broke> {
    let client = session::plain(endpoint).await?;
    mode::start(&client, endpoint, ground.major, label).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let _guard = StopWhenDropped(Arc::clone(&stop));
    let major = ground.major;
    let reader = Reader::new(ground, writer, pages, moved.clone(), Arc::clone(&stop));
    let read = watched(endpoint, &client, &stop, move || reader.files()).await;
    let reader = match read {
        Ok(reader) => reader,
        Err(broke) => {
            let _ = tokio::time::timeout(LEAVE_AT_MOST, mode::stop(&client, endpoint, major)).await;
            return Err(broke);
        }
    };
    let stopped = mode::stop(&client, endpoint, major).await?;
    let finishing = tokio::task::spawn_blocking(move || reader.finish(&stopped));
    finishing.await.map_err(|error| Broke::new(format!("the thread that reads the log died: {error}")))?
}

/// Does the work on a thread of its own; a session that ends meanwhile stops it, for the server has then left backup mode.
async fn watched<T: Send + 'static>(
    endpoint: &Endpoint,
    client: &Client,
    stop: &AtomicBool,
    work: impl FnOnce() -> Result<T, Broke> + Send + 'static,
) -> Result<T, Broke> {
    let working = tokio::task::spawn_blocking(work);
    tokio::pin!(working);
    let mut tick = tokio::time::interval(LOOK_EVERY);
    let done = loop {
        tokio::select! {
            done = &mut working => break done,
            _ = tick.tick() => if client.is_closed() {
                stop.store(true, Ordering::Relaxed);
            },
        }
    };
    if client.is_closed() {
        return Err(Broke::hinted(
            format!("{endpoint} ended the session while its files were read"),
            "the source went away or was restarted; see its log, and take the backup again",
        ));
    }
    done.map_err(|error| Broke::new(format!("the thread that reads the data folder died: {error}")))?
}
