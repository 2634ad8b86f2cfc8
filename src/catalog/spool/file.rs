//! One file of the spool: a line a word, each with its own hash, locked by whoever writes or delivers it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::catalog::Catalog;
use crate::domain::check::Broke;
use crate::domain::exposure::Covered;
use crate::domain::ids::{PolicyName, RunId};
use crate::domain::ledger::Reading;
use crate::domain::run::{Event, EventId};

const ENDING: &str = "jsonl";
const DAMAGED: &str = "damaged";

/// Something that waits for the catalog.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    Event { id: EventId, at: Timestamp, policy: PolicyName, run: RunId, event: Box<Event> },
    Read { readings: Vec<Reading> },
    Cover { policy: PolicyName, covered: Covered },
}

impl Word {
    /// Says it to a catalog. Each can be said twice without harm.
    pub(super) async fn say(&self, catalog: &dyn Catalog, late: bool) -> Result<(), Broke> {
        match self {
            Word::Event { id, at, policy, run, event } => {
                catalog.deliver(*id, *at, policy, *run, (**event).clone()).await
            }
            Word::Read { readings } if late => catalog.read_back_late(readings.clone()).await,
            Word::Read { readings } => catalog.read_back(readings.clone()).await,
            Word::Cover { policy, covered } => catalog.cover(policy, *covered).await,
        }
    }

    fn line(&self) -> Result<String, std::io::Error> {
        let json = serde_json::to_string(self)?;
        Ok(format!("{} {json}\n", hash(&json)))
    }

    fn read(line: &str) -> Option<Word> {
        let (hashed, json) = line.split_once(' ')?;
        (hash(json) == hashed).then(|| serde_json::from_str(json).ok()).flatten()
    }
}

fn hash(json: &str) -> String {
    blake3::hash(json.as_bytes()).to_hex().to_string()
}

/// A file that is locked: to write to it, or to deliver what is in it.
pub(super) struct Pen {
    path: PathBuf,
    file: File,
}

impl Pen {
    /// A new file, which sorts after all that were made before it.
    pub(super) fn new(folder: &Path, subject: &str) -> std::io::Result<Pen> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let path = folder.join(format!("{}-{subject}.{ENDING}", uuid::Uuid::now_v7()));
        let file = OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(&path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        File::open(folder)?.sync_all()?;
        Ok(Pen { path, file })
    }

    /// Durable on return. What could only be written in part is taken back: a reader would call it damage.
    pub(super) fn write(&mut self, word: &Word) -> std::io::Result<()> {
        let line = word.line()?;
        let before = self.file.metadata()?.len();
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_all());
        if written.is_err() {
            // If that fails too, the hash of the line tells.
            let _ = self.file.set_len(before);
        }
        written
    }

    /// Delivers all of it and takes the file away; gives how much that was. Damage is kept beside, and what is whole is delivered.
    pub(super) async fn deliver(mut self, catalog: &dyn Catalog) -> Result<usize, (Broke, Pen)> {
        let mut bytes = Vec::new();
        let read = self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.read_to_end(&mut bytes));
        if let Err(error) = read {
            let broke = Broke::new(format!("{} cannot be read: {error}", self.path.display()));
            return Err((broke, self));
        }
        let (mut said, mut damaged) = (0, !bytes.is_empty() && !bytes.ends_with(b"\n"));
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let Some(word) = std::str::from_utf8(line).ok().and_then(Word::read) else {
                damaged = true;
                continue;
            };
            if let Err(broke) = word.say(catalog, true).await {
                return Err((broke, self));
            }
            said += 1;
        }
        let done = if damaged {
            let aside = self.path.with_extension(DAMAGED);
            tell_damaged(&aside);
            std::fs::rename(&self.path, &aside)
        } else {
            std::fs::remove_file(&self.path)
        };
        if let Err(error) = done {
            let why = "what was delivered cannot be taken away; it will be delivered again, which does no harm";
            tracing::warn!(file = %self.path.display(), %error, "{why}");
        }
        Ok(said)
    }
}

/// A file that a process left that is no more.
pub(super) struct Left(Pen);

impl Left {
    pub(super) async fn deliver(self, catalog: &dyn Catalog) -> Result<usize, Broke> {
        self.0.deliver(catalog).await.map_err(|(broke, _)| broke)
    }
}

/// The files that nobody holds, oldest first.
pub(super) fn leftovers(folder: &Path) -> impl Iterator<Item = Left> {
    files(folder, ENDING).into_iter().filter_map(|path| {
        let file = OpenOptions::new().read(true).append(true).open(&path).ok()?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
        // Whoever held it a moment ago may have delivered it and taken it away.
        (file.metadata().ok()?.nlink() > 0).then_some(Left(Pen { path, file }))
    })
}

/// Whether anything waits, whoever holds it.
pub(super) fn anything(folder: &Path) -> bool {
    !files(folder, ENDING).is_empty()
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect();
    paths.sort();
    paths
}

/// Loudly, each time that a process starts, until somebody has looked at it.
pub(super) fn warn_of_damaged(folder: &Path) {
    files(folder, DAMAGED).iter().for_each(|path| tell_damaged(path));
}

fn tell_damaged(path: &Path) {
    let file = path.display();
    tracing::error!(
        "{file} waited for the catalog and IS DAMAGED: what could be read of it was delivered. Look at it, then remove it"
    );
}

/// What waits on this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// Files, each with words of one run.
    pub files: usize,
    /// How long they are together, in bytes.
    pub bytes: u64,
    /// Files of which not all can be read.
    pub damaged: usize,
}

/// What waits in a spool folder; one that is not there holds nothing.
pub fn waiting(folder: &Path) -> Waiting {
    let files_waiting = files(folder, ENDING);
    let bytes = files_waiting.iter().filter_map(|path| std::fs::metadata(path).ok()).map(|meta| meta.len()).sum();
    Waiting { files: files_waiting.len(), bytes, damaged: files(folder, DAMAGED).len() }
}
