//! The process that a fetch leaves behind: keeps the next segments ready, and ends when nobody wants them any more.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::folder::{Folder, begins};
use super::{Origin, beside, depth};
use crate::domain::ids::PolicyName;
use crate::domain::wal::{Segment, WalName};
use crate::seal::{self, Opener, TrustedSigners};
use crate::store::Store;

/// Nobody has asked for so long: the server was stopped, or has come to its end.
const IDLE: Duration = Duration::from_secs(30);
/// How often it is looked whether the server has gone on.
const PAUSE: Duration = Duration::from_millis(20);
/// Segments at once, at most. More than two or three make the first one late.
const AT_ONCE: usize = 4;
/// Above this length one at a time: each is in memory three times while it is opened.
const LARGE: u64 = 64 << 20;

/// What is kept ready.
pub struct Fill<'a> {
    /// Out of which stores; the first that has a segment gives it.
    pub stores: &'a [Arc<dyn Store>],
    /// Whose log.
    pub policy: &'a PolicyName,
    /// Who may have signed.
    pub trusted: &'a TrustedSigners,
    /// What opens it.
    pub opener: &'a Opener,
    /// All that decides what comes.
    pub origin: &'a Origin,
    /// The destination beside which they are kept.
    pub to: &'a Path,
    /// How many.
    pub ahead: usize,
}

/// Fills the folder, and follows the server, until recovery is over or nobody asks any more. At most one process does, for a destination.
pub async fn fill(what: &Fill<'_>) {
    let Ok(folder) = Folder::open(&beside(what.to)) else { return };
    let mut lock = folder.lock();
    for _ in 0..3 {
        // A fetch that looks whether anybody fills holds it for a moment too.
        if matches!(lock, Ok(None)) {
            tokio::time::sleep(PAUSE).await;
            lock = folder.lock();
        }
    }
    let Ok(Some(lock)) = lock else { return };
    let folder = Arc::new(folder);
    // What a killed one left is whole or nothing, but maybe for another origin: its names do not tell.
    folder.empty();
    let recovery = Recovery::of(what.to);
    let at_once = std::thread::available_parallelism().map_or(1, usize::from).min(AT_ONCE);
    let (mut last, mut since, mut stuck) = (None, Instant::now(), None);
    // On their way to the disk, while more are fetched.
    let mut writing = Writing::default();
    while let Some(at) = folder.at() {
        if at.origin != *what.origin {
            // Somebody asks for something else: that is for another process, once this one has ended.
            writing.rest().await;
            folder.empty();
            return;
        }
        if last != Some(at.segment) {
            (last, since, stuck) = (Some(at.segment), Instant::now(), None);
        }
        if since.elapsed() > IDLE || recovery.is_over() || !what.origin.is_unchanged() {
            break;
        }
        let wanted = window(at.segment, at.segment_bytes, depth(what.ahead, at.segment_bytes));
        let there = folder.segments().unwrap_or_default();
        let on_its_way = |segment: &Segment| writing.segments.contains(segment);
        for (_, name) in there.iter().filter(|(segment, _)| !wanted.contains(segment)) {
            folder.remove(name);
        }
        let missing =
            wanted.iter().filter(|segment| there.iter().all(|(one, _)| one != *segment) && !on_its_way(segment));
        let missing = missing.take_while(|segment| Some(**segment) != stuck);
        let missing = missing.take(if at.segment_bytes > LARGE { 1 } else { at_once }).copied().collect::<Vec<_>>();
        if missing.is_empty() {
            tokio::time::sleep(PAUSE).await;
            if writing.all_but(at_once).await.is_err() {
                break;
            }
            continue;
        }
        let fetching = missing.iter().map(|segment| what.fetch(*segment, at.segment_bytes));
        let fetched = futures_util::future::join_all(fetching).await;
        for (segment, bytes) in missing.into_iter().zip(fetched) {
            // Absent, damaged, out of reach: the fetch of it will say so. What lies behind a hole is not wanted.
            let Some((bytes, hash)) = bytes else {
                stuck = Some(segment);
                break;
            };
            writing.begin(&folder, segment, what.origin.key(segment), hash, bytes);
        }
        // No room, most likely: none is taken from the server.
        if writing.all_but(at_once).await.is_err() {
            break;
        }
    }
    writing.rest().await;
    folder.clear(lock);
}

/// Segments that are being written.
#[derive(Default)]
struct Writing {
    segments: Vec<Segment>,
    tasks: JoinSet<(Segment, io::Result<()>)>,
}

impl Writing {
    fn begin(&mut self, folder: &Arc<Folder>, segment: Segment, key: [u8; 32], hash: blake3::Hash, bytes: Vec<u8>) {
        let folder = Arc::clone(folder);
        self.segments.push(segment);
        self.tasks.spawn_blocking(move || (segment, folder.put(segment, &key, &hash, &bytes)));
    }

    /// Takes in what is written, and waits until no more than so many are left.
    async fn all_but(&mut self, left: usize) -> io::Result<()> {
        loop {
            let done = match self.tasks.try_join_next() {
                Some(done) => done,
                None if self.tasks.len() <= left => return Ok(()),
                None => match self.tasks.join_next().await {
                    Some(done) => done,
                    None => return Ok(()),
                },
            };
            let (segment, written) = done.map_err(io::Error::other)?;
            self.segments.retain(|one| *one != segment);
            written?;
        }
    }

    /// Waits for all: nobody writes behind the back of whoever clears up.
    async fn rest(&mut self) {
        while self.all_but(0).await.is_err() {}
    }
}

impl Fill<'_> {
    /// A whole segment, verified and opened, and the BLAKE3 by which it was verified: to hash it once more would be a tenth of all the work.
    async fn fetch(&self, segment: Segment, segment_bytes: u64) -> Option<(Vec<u8>, blake3::Hash)> {
        for store in self.stores {
            let name = WalName::Segment(segment);
            let fetched = seal::fetch_wal(&**store, self.policy, name, self.trusted, self.opener).await.ok()?;
            if let Some((record, bytes)) = fetched {
                let hash = blake3::Hash::from_hex(record.plain_blake3).ok()?;
                let right = bytes.len() as u64 == segment_bytes && begins(&bytes, segment, segment_bytes);
                return right.then_some((bytes, hash));
            }
        }
        None
    }
}

/// The segments behind one, on its timeline.
fn window(behind: Segment, segment_bytes: u64, depth: usize) -> Vec<Segment> {
    std::iter::successors(behind.next(segment_bytes), |segment| segment.next(segment_bytes)).take(depth).collect()
}

/// The files that tell a server to recover; it removes them when it has. Their folder is the one that `pg_wal` lies in.
struct Recovery {
    files: Vec<PathBuf>,
}

impl Recovery {
    /// None of them there, or no `pg_wal`: then nothing is known of a recovery.
    fn of(to: &Path) -> Recovery {
        let data = to.parent().filter(|folder| folder.ends_with("pg_wal")).and_then(Path::parent);
        let files = data.into_iter().flat_map(|data| ["recovery.signal", "standby.signal"].map(|file| data.join(file)));
        let files: Vec<PathBuf> = files.collect();
        Recovery { files: if files.iter().any(|file| file.exists()) { files } else { Vec::new() } }
    }

    fn is_over(&self) -> bool {
        !self.files.is_empty() && self.files.iter().all(|file| matches!(file.try_exists(), Ok(false)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_crosses_into_the_next_four_gigabytes_and_ends_with_the_log() {
        let names = |behind: &str, depth| {
            let Ok(WalName::Segment(behind)) = behind.parse() else { panic!("{behind}") };
            window(behind, 16 << 20, depth).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(names("0000000200000000000000FE", 2), ["0000000200000000000000FF", "000000020000000100000000"]);
        assert_eq!(names("00000001FFFFFFFF000000FE", 5), ["00000001FFFFFFFF000000FF"]);
        assert_eq!(names("000000010000000000000001", 0), [""; 0]);
    }

    #[test]
    fn a_recovery_is_over_when_the_server_has_removed_its_signals() {
        let folder = tempfile::tempdir().unwrap();
        let wal = folder.path().join("pg_wal");
        std::fs::create_dir(&wal).unwrap();
        let (to, signal) = (wal.join("RECOVERYXLOG"), folder.path().join("recovery.signal"));
        assert!(!Recovery::of(&to).is_over());
        std::fs::write(&signal, "").unwrap();
        let recovery = Recovery::of(&to);
        assert!(!recovery.is_over());
        std::fs::rename(&signal, folder.path().join("standby.signal")).unwrap();
        assert!(!recovery.is_over());
        std::fs::remove_file(folder.path().join("standby.signal")).unwrap();
        assert!(recovery.is_over() && !Recovery::of(&to).is_over());
        // A relative destination, as a server gives it.
        assert_eq!(Path::new("pg_wal/RECOVERYXLOG").parent().unwrap().parent().unwrap(), Path::new(""));
    }
}
