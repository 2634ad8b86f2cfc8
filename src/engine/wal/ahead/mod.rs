//! Segments that a server is going to ask for, fetched, verified and opened while it replays the one before.
//!
//! A server asks for one segment at a time and waits. So `wal fetch` leaves a process behind that fills the folder `lifeboat.ahead`
//! beside the destination, and the next `wal fetch` looks there first, before any configuration, key or store is touched:
//!
//! - `at`: the segment that was given out last, and for whom. Each fetch writes it; the filling process follows it.
//! - `lock`: held by the one process that fills.
//! - `<segment>.<hash>`: a whole segment. The hash is that of its bytes' BLAKE3, keyed by the segment's name and by all that led to it ([`Origin`]), so a file that
//!   was changed, renamed, cut, or fetched for another policy, store or key has a wrong name, and is removed instead of given out.
//!
//! Only presence is ever answered from there. What is absent, damaged or out of reach is for the fetch itself to find, each time.

mod fill;
mod folder;
mod serve;

pub use fill::{Fill, fill};
pub use serve::{Served, begin, end, serve};

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::wal::Segment;
use crate::store::Store;

/// So many segments are held at most, if nobody says otherwise.
pub const SEGMENTS: usize = 16;
/// And so many bytes at most, whatever anybody says: they are in the server's `pg_wal`.
const BYTES: u64 = 256 << 20;
/// The folder.
const FOLDER: &str = "lifeboat.ahead";
/// Of the file `at`; hashes depend on it too.
const FORMAT: &str = "lifeboat.ahead/1";

/// All that decides which bytes a name stands for: the arguments, and how the files and folders looked that these led to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    call: Vec<String>,
    seen: Vec<(PathBuf, String)>,
}

impl Origin {
    /// Looks at the files (configuration, keys) and at where the stores are.
    pub fn new(call: Vec<String>, files: Vec<PathBuf>, stores: &[Arc<dyn Store>]) -> Origin {
        let folders = stores.iter().map(|store| PathBuf::from(store.url().trim_start_matches("file://")));
        let seen = files.into_iter().chain(folders).map(|path| {
            // The same in whichever folder it is looked at again.
            let path = std::path::absolute(&path).unwrap_or(path);
            let look = look(&path);
            (path, look)
        });
        Origin { call, seen: seen.collect() }
    }

    /// Whether all of it still looks as it did.
    fn is_unchanged(&self) -> bool {
        self.seen.iter().all(|(path, before)| look(path) == *before)
    }

    /// What hashes of a segment are keyed with.
    fn key(&self, segment: Segment) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(FORMAT);
        // Each text with its length, so that no two origins run together to the same bytes.
        let seen = self.seen.iter().flat_map(|(path, look)| [path.as_os_str().as_encoded_bytes(), look.as_bytes()]);
        for text in self.call.iter().map(String::as_bytes).chain(seen) {
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text);
        }
        hasher.update(segment.to_string().as_bytes());
        *hasher.finalize().as_bytes()
    }
}

/// A file by all that a change of it changes; a folder by its place alone, for its times change whenever something is stored.
fn look(path: &Path) -> String {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => format!("folder {}:{}", meta.dev(), meta.ino()),
        Ok(meta) => {
            let (modified, changed) = ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
            format!("file {}:{} {} {modified:?} {changed:?}", meta.dev(), meta.ino(), meta.len())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => "nothing".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// How far a server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct At {
    format: String,
    /// What it was given last.
    #[serde(with = "by_name")]
    segment: Segment,
    /// How long its segments are.
    segment_bytes: u64,
    /// Where that came from.
    origin: Origin,
}

/// How many segments of a length are held ahead, if somebody wants `wanted`.
fn depth(wanted: usize, segment_bytes: u64) -> usize {
    wanted.min(usize::try_from(BYTES / segment_bytes.max(1)).unwrap_or(usize::MAX))
}

/// The place of a segment, whatever its timeline.
fn place(segment: &Segment) -> (u32, u32) {
    (segment.log, segment.segment)
}

/// Where the folder is, for a destination.
fn beside(to: &Path) -> PathBuf {
    to.with_file_name(FOLDER)
}

mod by_name {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::domain::wal::{Segment, WalName};

    pub(super) fn serialize<S: Serializer>(segment: &Segment, to: S) -> Result<S::Ok, S::Error> {
        WalName::Segment(*segment).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Segment, D::Error> {
        match WalName::deserialize(from)? {
            WalName::Segment(segment) => Ok(segment),
            other => Err(serde::de::Error::custom(format!("{other} is no segment"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(call: &[&str], seen: &[(&str, &str)]) -> Origin {
        let seen = seen.iter().map(|(path, look)| (PathBuf::from(path), (*look).to_owned()));
        Origin { call: call.iter().map(|word| (*word).to_owned()).collect(), seen: seen.collect() }
    }

    #[test]
    fn every_part_of_an_origin_is_in_its_key() {
        let segment = Segment { timeline: 1, log: 0, segment: 5 };
        let other = Segment { timeline: 2, ..segment };
        let all = [
            origin(&["orders", "config"], &[("/a", "file 1")]).key(segment),
            origin(&["orders", "config"], &[("/a", "file 1")]).key(other),
            origin(&["orders", "config"], &[("/a", "file 2")]).key(segment),
            origin(&["orders", "config"], &[("/b", "file 1")]).key(segment),
            origin(&["ordersconfig"], &[("/a", "file 1")]).key(segment),
            origin(&["orders", "config", "/a"], &[("file 1", "")]).key(segment),
            origin(&["orders", "config"], &[]).key(segment),
        ];
        for (at, key) in all.iter().enumerate() {
            assert_eq!(all.iter().filter(|other| *other == key).count(), 1, "{at}");
        }
    }

    #[test]
    fn a_changed_file_is_a_changed_origin_and_a_filled_store_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let (file, store) = (folder.path().join("config"), folder.path().join("store"));
        std::fs::write(&file, "a").unwrap();
        std::fs::create_dir(&store).unwrap();
        let origin = Origin::new(vec![], vec![file.clone(), store.clone(), folder.path().join("none")], &[]);
        std::fs::write(store.join("object"), "b").unwrap();
        assert!(origin.is_unchanged());
        std::fs::write(&file, "other").unwrap();
        assert!(!origin.is_unchanged());
        std::fs::write(&file, "a").unwrap();
        let origin = Origin::new(vec![], vec![store.clone()], &[]);
        std::fs::rename(&store, folder.path().join("away")).unwrap();
        assert!(!origin.is_unchanged());
        std::fs::create_dir(&store).unwrap();
        assert!(!origin.is_unchanged());
    }

    #[test]
    fn few_large_segments_are_held_and_none_that_is_too_large() {
        let mib = |mib: u64| mib << 20;
        assert_eq!([16, 16, 4, 1, 0], [1, 16, 64, 256, 1024].map(|bytes| depth(16, mib(bytes))));
        assert_eq!((depth(0, mib(16)), depth(100, mib(1)), depth(1000, mib(1))), (0, 100, 256));
    }
}
