//! Who hears of each object that was read back and verified, while its bytes pass: for that nothing is read twice.

use std::fmt::Debug;
use std::sync::Arc;

use crate::domain::artifact::Part;
use crate::domain::check::{Finding, Stop};
use crate::domain::ids::PolicyName;
use crate::domain::ledger::Depth;
use crate::domain::wal::WalName;
use crate::store::Store;

/// One object, read to its end.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// The store, as people name it.
    pub store: &'a str,
    /// The object's whole key.
    pub key: &'a str,
    /// How long it must be.
    pub bytes: u64,
    /// How deep it was looked into; of one that is wrong: where that was seen.
    pub depth: Depth,
    /// What was wrong; none: it was right.
    pub finding: Option<&'a Finding>,
}

/// Hears of every object that was read, right or wrong. What could not be read is not told: nothing is known of it. Called on any thread, and
/// must not wait.
pub trait Witness: Send + Sync + Debug {
    /// This one was read.
    fn saw(&self, seen: Seen<'_>);
}

/// What a file of the log is called in the ledger, whatever its object's name had to be: `<policy>/wal/<timeline>/<name>.zst.age`.
pub fn wal_key(policy: &PolicyName, name: WalName) -> String {
    format!("{policy}/wal/{}", super::wal::object_key(name, 0))
}

/// What came of reading an object, if that says something about it: how deep it was right, or where it was seen to be wrong. `looked`: how deep
/// it was to be looked into.
pub fn depth_of<T>(looked: Depth, came: &Result<T, Stop>) -> Option<(Depth, Option<&Finding>)> {
    match came {
        Ok(_) => Some((looked, None)),
        Err(Stop::Broke(_)) => None,
        Err(Stop::Found(findings)) => findings.first().map(|finding| match finding.code.as_str() {
            // Its bytes are as they were stored; that nobody here has a key for them is no damage of theirs.
            "wrong_key" => (Depth::Sealed, None),
            // Seen behind the hash of the object: reading its outside again says nothing of it.
            "part_decrypt" | "part_decompress" | "plain_length" | "plain_hash" | "part_size" => {
                (Depth::Opened, Some(finding))
            }
            _ => (Depth::Sealed, Some(finding)),
        }),
    }
}

/// Tells of the parts of one stream, where there is somebody to hear it.
#[derive(Clone)]
pub(super) struct Telling {
    witness: Option<Arc<dyn Witness>>,
    store: String,
    prefix: String,
    looked: Depth,
}

impl Telling {
    pub(super) fn new(witness: Option<&Arc<dyn Witness>>, store: &dyn Store, prefix: &str, looked: Depth) -> Telling {
        let (store, prefix) = if witness.is_some() { (store.url(), prefix.to_owned()) } else { Default::default() };
        Telling { witness: witness.cloned(), store, prefix, looked }
    }

    /// What came of a part.
    pub(super) fn part<T>(&self, part: &Part, came: Result<T, Stop>) -> Result<T, Stop> {
        self.object(&part.key, part.sealed_bytes, came)
    }

    /// What came of fetching a part: that it is there says nothing yet.
    pub(super) fn unless_there<T>(&self, part: &Part, fetched: Result<T, Stop>) -> Result<T, Stop> {
        if fetched.is_ok() { fetched } else { self.part(part, fetched) }
    }

    /// What came of an object of that key behind the prefix.
    pub(super) fn object<T>(&self, key: &str, bytes: u64, came: Result<T, Stop>) -> Result<T, Stop> {
        if let (Some(witness), Some((depth, finding))) = (&self.witness, depth_of(self.looked, &came)) {
            let key = format!("{}/{key}", self.prefix);
            witness.saw(Seen { store: &self.store, key: &key, bytes, depth, finding });
        }
        came
    }
}
