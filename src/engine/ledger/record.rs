//! Readings on their way into the catalog: collected while bytes pass, written in batches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::catalog::Catalog;
use crate::domain::check::{Broke, Finding};
use crate::domain::ids::{PlaceName, PolicyName, RunId};
use crate::domain::ledger::{Depth, Reading, owner_of};
use crate::domain::units::ByteSize;
use crate::engine::House;
use crate::seal::{Seen, Witness};
use crate::store;

/// So many readings are written at once: a database write for each would cost more than the reading.
const BATCH: usize = 256;
/// None waits longer than this, if another one comes: it is what a killed run loses.
const WAIT: Duration = Duration::from_secs(2);

/// Collects readings.
pub struct Record {
    catalog: Arc<dyn Catalog>,
    at: Timestamp,
    runs: BTreeMap<PolicyName, Option<RunId>>,
    places: BTreeMap<String, PlaceName>,
    waiting: Mutex<(Vec<Reading>, Instant)>,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").field("at", &self.at).field("runs", &self.runs).finish_non_exhaustive()
    }
}

impl Record {
    /// For runs of these policies that began at this moment; none: it is not written down as a run.
    pub fn new(house: &House, at: Timestamp, runs: BTreeMap<PolicyName, Option<RunId>>) -> Arc<Record> {
        // Of two names for one folder the first stands: they are the same bytes.
        let mut places = BTreeMap::new();
        let names: BTreeSet<PlaceName> =
            house.policies.iter().filter(|policy| runs.contains_key(&policy.name)).flat_map(House::places_of).collect();
        for (name, config) in house.config.stores.iter().filter(|(name, _)| names.contains(*name)) {
            if let Ok(store) = store::open_existing(config, store::Duty::Read) {
                places.entry(store.url()).or_insert_with(|| name.clone());
            }
        }
        let catalog = Arc::clone(&house.catalog);
        Arc::new(Record { catalog, at, runs, places, waiting: Mutex::new((Vec::new(), Instant::now())) })
    }

    /// Takes in what came of an object of a policy in a store. A key that names no such object is not for the ledger.
    pub fn object(
        &self,
        store: &PlaceName,
        policy: &PolicyName,
        key: &str,
        bytes: ByteSize,
        depth: Depth,
        finding: Option<Finding>,
    ) {
        let Some((_, shelf)) = owner_of(key) else { return };
        let (store, policy, key) = (store.clone(), policy.clone(), key.to_owned());
        let (run, at) = (self.runs.get(&policy).copied().flatten(), self.at);
        let reading = Reading { store, policy, shelf, key, bytes, at, depth, run, finding };
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).0.push(reading);
    }

    /// Writes what waits, if it is enough or waits long enough.
    pub async fn flush_if_due(&self) -> Result<(), Broke> {
        let due = {
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.0.len() >= BATCH || (!waiting.0.is_empty() && waiting.1.elapsed() >= WAIT)
        };
        if due { self.flush().await } else { Ok(()) }
    }

    /// Writes all that waits.
    pub async fn flush(&self) -> Result<(), Broke> {
        let readings = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.1 = Instant::now();
            std::mem::take(&mut waiting.0)
        };
        if readings.is_empty() { Ok(()) } else { self.catalog.read_back(readings).await }
    }
}

impl Witness for Record {
    fn saw(&self, seen: Seen<'_>) {
        if let (Some(store), Some((policy, _))) = (self.places.get(seen.store), owner_of(seen.key)) {
            self.object(store, &policy, seen.key, ByteSize(seen.bytes), seen.depth, seen.finding.cloned());
        }
    }
}
