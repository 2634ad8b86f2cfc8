//! Brings what is written to disk, while more is being written.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use super::failed;
use crate::domain::check::Broke;

/// A piece of this size is worth a flush of its own; smaller ones go with all the rest at the end.
const WORTH: usize = 1 << 20;
/// So many files may wait to be flushed; then whoever writes waits.
const WAITING: usize = 32;

/// A thread that flushes large pieces as they come, so that the disk works while parts are opened. At the end everything is flushed: what the
/// thread has brought to disk costs nothing then.
pub(super) struct Flush {
    /// Each file system that is written to, opened before the first byte is: an error that its writeback meets meanwhile is told at the end.
    folders: Vec<(PathBuf, File)>,
    thread: Mutex<Option<Thread>>,
}

struct Thread {
    files: SyncSender<(File, PathBuf)>,
    ended: JoinHandle<Result<(), Broke>>,
}

impl Flush {
    pub(super) fn begin<'a>(folders: impl Iterator<Item = &'a PathBuf>) -> Result<Flush, Broke> {
        let open = |dir: &PathBuf| File::open(dir).map(|file| (dir.clone(), file)).map_err(|e| failed("open", dir, &e));
        let folders = folders.map(open).collect::<Result<_, _>>()?;
        let (files, receive) = sync_channel::<(File, PathBuf)>(WAITING);
        let work = move || {
            let mut first = Ok(());
            // After an error too it takes what comes: a writer must not wait for ever, and nothing is said to be whole any more.
            for (file, path) in receive {
                if first.is_ok() {
                    first = file.sync_data().map_err(|error| failed("bring to disk", &path, &error));
                }
            }
            first
        };
        let ended = std::thread::Builder::new().name("flush".to_owned()).spawn(work);
        let ended = ended.map_err(|error| Broke::new(format!("could not start a thread: {error}")))?;
        Ok(Flush { folders, thread: Mutex::new(Some(Thread { files, ended })) })
    }

    /// A piece of a file is written.
    pub(super) fn written(&self, file: File, path: PathBuf, bytes: usize) {
        if bytes < WORTH {
            return;
        }
        let files = self.thread.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|one| one.files.clone());
        if let Some(files) = files {
            // A thread that is gone has panicked, which `all` tells.
            let _ = files.send((file, path));
        }
    }

    /// Waits until all that was written is on disk.
    pub(super) fn all(&self) -> Result<(), Broke> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Thread { files, ended }) = thread {
            drop(files);
            ended.join().unwrap_or_else(|_| Err(Broke::new("the thread that brings files to disk stopped")))?;
        }
        for (dir, file) in &self.folders {
            rustix::fs::syncfs(file).map_err(|error| failed("bring to disk", dir, &io::Error::from(error)))?;
        }
        Ok(())
    }

    /// The folder that a file was renamed in.
    pub(super) fn folder(&self, renamed: &Path) -> Result<(), Broke> {
        let Some(folder) = renamed.parent() else { return Ok(()) };
        let flushed = File::open(folder).and_then(|folder| folder.sync_all());
        flushed.map_err(|error| failed("bring to disk", folder, &error))
    }
}
