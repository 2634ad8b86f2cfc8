//! What must hold of a working folder after any fault.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use lifeboat::catalog::{Catalog, SqliteCatalog};
use sha2::{Digest, Sha256};

use super::home::{Home, POLICY, walk};

/// The bytes of every file of the store, by path: what was good before a fault.
pub type Good = BTreeMap<PathBuf, Vec<u8>>;

/// Remembers what is good now.
pub fn remember(home: &Home) -> Good {
    walk(&home.store()).into_iter().map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect()
}

/// Store and catalog as they were, to begin the next try from.
pub struct Kept {
    pub store: Good,
    catalog: Good,
}

impl Kept {
    pub fn of(home: &Home) -> Kept {
        let files = std::fs::read_dir(home.path()).unwrap().flatten().map(|entry| entry.path());
        let catalog = files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("lifeboat.db"));
        Kept {
            store: remember(home),
            catalog: catalog.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect(),
        }
    }

    /// The paths of the manifests in the store.
    pub fn manifests(&self) -> BTreeSet<PathBuf> {
        self.store.keys().filter(|path| path.ends_with("manifest.json")).cloned().collect()
    }

    pub fn put_back(&self, home: &Home) {
        let now = Kept::of(home);
        for path in now.store.keys().chain(now.catalog.keys()) {
            std::fs::remove_file(path).unwrap();
        }
        for (path, bytes) in self.store.iter().chain(&self.catalog) {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
}

/// What does not hold; empty when all is well. `good` is what was in the store before the fault.
pub async fn broken(home: &Home, good: &Good) -> Vec<String> {
    let mut broken = vec![];
    for (path, bytes) in good {
        if std::fs::read(path).ok().as_ref() != Some(bytes) {
            broken.push(format!("{} was good before and is not the same now", path.display()));
        }
    }
    for path in walk(&home.store()).iter().filter(|path| path.ends_with("manifest.json")) {
        broken.extend(incomplete(path));
    }
    match SqliteCatalog::open(&home.path().join("lifeboat.db")) {
        Err(error) => broken.push(format!("the catalog does not open: {error}")),
        Ok(catalog) => {
            for record in catalog.artifacts(&POLICY.parse().unwrap()).await.unwrap() {
                let manifest = home.store().join(format!("{}/{}/manifest.json", record.policy, record.backup));
                if !manifest.is_file() {
                    broken.push(format!("the catalog has {} and the store has no manifest of it", record.backup));
                }
            }
        }
    }
    let catalog = rusqlite::Connection::open(home.path().join("lifeboat.db")).unwrap();
    let word: String = catalog.query_row("pragma integrity_check", [], |row| row.get(0)).unwrap();
    if word != "ok" {
        broken.push(format!("the catalog's integrity check says {word}"));
    }
    broken
}

/// Parts that a manifest names and that are not there, whole.
fn incomplete(path: &PathBuf) -> Vec<String> {
    let manifest: serde_json::Value = match serde_json::from_slice(&std::fs::read(path).unwrap()) {
        Ok(manifest) => manifest,
        Err(error) => return vec![format!("{}: {error}", path.display())],
    };
    let streams = manifest["streams"].as_array().unwrap();
    assert!(!streams.is_empty(), "a manifest without streams: {}", path.display());
    let parts = streams.iter().flat_map(|stream| stream["parts"].as_array().unwrap());
    let mut wrong = vec![];
    for part in parts {
        let file = path.parent().unwrap().join(part["key"].as_str().unwrap());
        let bytes = std::fs::read(&file).unwrap_or_default();
        let whole = Some(bytes.len() as u64) == part["sealed_bytes"].as_u64()
            && Some(hex::encode(Sha256::digest(&bytes)).as_str()) == part["sealed_sha256"].as_str();
        if !whole {
            wrong.push(format!("a manifest without its part {}", file.display()));
        }
    }
    wrong
}

/// What is left of scratches: folders, and processes that name the scratch folder.
pub fn left(home: &Home) -> Vec<String> {
    let scratch = home.scratch().display().to_string();
    let folders =
        std::fs::read_dir(home.scratch()).into_iter().flatten().flatten().map(|e| e.path().display().to_string());
    let lines = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = lines.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    folders.chain(lines.filter(|line| line.contains(&scratch))).collect()
}
