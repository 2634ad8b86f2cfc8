//! What the stores hold of a policy's backups, beside each other: the ground on which copies are judged. Nothing is written but what was read, into the
//! ledger.

mod backup;
mod log;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::catalog::Catalog;
use crate::domain::artifact::MANIFEST_NAME;
use crate::domain::check::Broke;
use crate::domain::copies::{CopyRecord, CopyTerms, LogSpread, Place, Spread};
use crate::domain::ids::{BackupId, PlaceName, PolicyName};
use crate::domain::ledger::Shelf as ReadShelf;
use crate::domain::observed::Observed;
use crate::domain::policy::Policy;
use crate::domain::run::ArtifactRecord;
use crate::judge;
use crate::judge::copies::{Ground, Judged};
use crate::judge::ledger::ReadBack;
use crate::progress::Progress;
use crate::seal::{TrustedSigners, list_backups};
use crate::store::{self, Store};

use super::house::House;
use super::ledger::Record;
use super::{copy, wal};

/// How the stores are looked at.
#[derive(Clone, Copy)]
pub struct Looking<'a> {
    /// Read every byte and compare its hash; else only lists and manifests are read.
    pub read: bool,
    /// What is not read in this look was read if the ledger says so.
    pub ledger: bool,
    /// Of stores that were tried: whether what is in them cannot be deleted.
    pub immutable: &'a BTreeMap<PlaceName, Observed<bool>>,
    /// Who watches.
    pub progress: &'a dyn Progress,
}

/// What was seen of a policy's copies.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Seen {
    /// Whose.
    pub policy: PolicyName,
    /// Where the source stands.
    pub source_site: Option<PlaceName>,
    /// The stores.
    pub places: Vec<Place>,
    /// What each job promises.
    pub terms: Vec<CopyTerms>,
    /// Each backup and where it is, the newest first.
    pub backups: Vec<Spread>,
    /// The log in each second store.
    pub logs: Vec<LogSpread>,
}

impl Seen {
    /// What is to be thought of it.
    pub fn judged(&self, now: Timestamp) -> Judged {
        judge::copies::judge(&Ground {
            policy: &self.policy,
            source_site: self.source_site.as_ref(),
            places: &self.places,
            terms: &self.terms,
            backups: &self.backups,
            logs: &self.logs,
            now,
        })
    }
}

/// A store that is looked at, or why it cannot be.
struct Shelf {
    store: Result<Arc<dyn Store>, String>,
    /// What it has a manifest of.
    held: BTreeSet<BackupId>,
    /// It was never made: certainly nothing is in it.
    empty: bool,
}

/// What all looks share.
struct Look<'a> {
    policy: &'a Policy,
    trusted: TrustedSigners,
    known: Vec<ArtifactRecord>,
    copies: Vec<CopyRecord>,
    shelves: BTreeMap<PlaceName, Shelf>,
    parallel: usize,
    read: bool,
    /// Who is asked what was read before; none: nobody.
    ledger: Option<&'a dyn Catalog>,
    /// Who is told what is read.
    record: Arc<Record>,
    progress: &'a dyn Progress,
}

/// What a policy promises of its copies, job by job.
pub fn terms(policy: &Policy) -> Vec<CopyTerms> {
    let of = |job: &crate::domain::policy::BackupJob| CopyTerms {
        job: job.name.clone(),
        store: job.store.clone(),
        copies: job.copies.clone(),
        within: job.copy_within.unwrap_or(policy.objectives.rpo),
    };
    policy.backups.iter().map(of).collect()
}

/// Looks at every store of the policy.
pub async fn look(house: &House, policy: &Policy, looking: Looking<'_>) -> Result<Seen, Broke> {
    let terms = terms(policy);
    let known = house.catalog.artifacts(&policy.name).await?;
    let names: BTreeSet<&PlaceName> =
        terms.iter().flat_map(|terms| std::iter::once(&terms.store).chain(&terms.copies)).collect();
    let mut shelves = BTreeMap::new();
    for name in names {
        shelves.insert(name.clone(), shelf(house, policy, name, &known).await);
    }
    let look = Look {
        policy,
        trusted: copy::trusted(house)?,
        known,
        copies: house.catalog.copies(&policy.name).await?,
        shelves,
        parallel: house.config.limits.parallel.max(1),
        read: looking.read,
        ledger: (looking.ledger && !looking.read).then_some(&*house.catalog),
        record: Record::new(house, crate::clock::now(), BTreeMap::from([(policy.name.clone(), None)])),
        progress: looking.progress,
    };
    let mut places = Vec::new();
    for (name, shelf) in &look.shelves {
        places.extend(look.place(house, name, shelf, looking.immutable).await);
    }
    let mut backups = Vec::new();
    for id in look.all().into_iter().rev() {
        backups.push(look.spread(&terms, &id).await);
        look.note().await;
    }
    let mut logs = Vec::new();
    if let Some(carrier) = wal::job(policy) {
        for to in &carrier.copies {
            logs.push(look.log(&carrier.store, to).await);
            look.note().await;
        }
    }
    let (policy, source_site) = (policy.name.clone(), policy.source.site.clone());
    Ok(Seen { policy, source_site, places, terms, backups, logs })
}

async fn shelf(house: &House, policy: &Policy, name: &PlaceName, known: &[ArtifactRecord]) -> Shelf {
    let mut shelf = Shelf { store: Err(String::new()), held: BTreeSet::new(), empty: false };
    let store = match house.store(name) {
        Ok(store) => store,
        Err(broke) => {
            // The first copy makes the folder. Once one is known, its absence is trouble: the disk may not be mounted.
            let never_made = house.config.stores.get(name).is_some_and(store::is_missing);
            shelf.empty =
                never_made && House::is_copy(policy, name) && !known.iter().any(|record| record.store == *name);
            shelf.store = Err(broke.error);
            return shelf;
        }
    };
    let trusted = match house.trusted() {
        Ok(trusted) => trusted,
        Err(broke) => {
            shelf.store = Err(broke.error);
            return shelf;
        }
    };
    match list_backups(&*store, Some(&policy.name), &trusted).await {
        Ok(held) => {
            shelf.held = held.into_iter().map(|(_, backup)| backup).collect();
            shelf.store = Ok(store);
        }
        Err(error) => shelf.store = Err(Broke::from(error).error),
    }
    shelf
}

impl Look<'_> {
    /// Writes down what was read; that it cannot be written changes nothing of what was seen.
    async fn note(&self) {
        if let Err(broke) = self.record.flush().await {
            self.progress.say(&format!("warning: what was read back could not be written down: {broke}"));
        }
    }

    /// What the ledger says of these objects in a store.
    async fn by_ledger(&self, name: &PlaceName, shelf: &ReadShelf, objects: &[(String, Option<u64>)]) -> ReadBack {
        let Some(ledger) = self.ledger else {
            return ReadBack::Not("it was only listed, and not read".to_owned());
        };
        match ledger.last_read(&self.policy.name, name, shelf).await {
            Ok(read) => judge::ledger::read_back(objects, &read, self.policy.read_back_within, crate::clock::now()),
            Err(broke) => {
                ReadBack::Not(format!("it was only listed; whether it was read back is not known: {}", broke.error))
            }
        }
    }

    /// What any store has, and what the catalog knows to be in one of these, oldest first.
    fn all(&self) -> BTreeSet<BackupId> {
        let held = self.shelves.values().flat_map(|shelf| shelf.held.iter());
        let known = self.known.iter().filter(|record| self.shelves.contains_key(&record.store));
        held.chain(known.map(|record| &record.backup)).cloned().collect()
    }

    async fn place(
        &self,
        house: &House,
        name: &PlaceName,
        shelf: &Shelf,
        tried: &BTreeMap<PlaceName, Observed<bool>>,
    ) -> Option<Place> {
        let config = house.config.stores.get(name)?;
        let immutable = match (tried.get(name), &shelf.store, shelf.held.last()) {
            (Some(tried), _, _) => tried.clone(),
            (None, Ok(store), Some(backup)) => {
                let key = format!("{}/{backup}/{MANIFEST_NAME}", self.policy.name);
                match store.protection(&key).await {
                    Ok(Observed::Absent) => Observed::Absent,
                    // What a store says of itself is not what was tried.
                    Ok(Observed::Known(_)) => Observed::Unknown("deleting from it was not tried".to_owned()),
                    Ok(Observed::Unknown(why)) => Observed::Unknown(why),
                    Err(error) => Observed::Unknown(Broke::from(error).error),
                }
            }
            (None, Ok(_), None) => Observed::Unknown("it holds nothing to be tried with".to_owned()),
            (None, Err(why), _) => Observed::Unknown(why.clone()),
        };
        let unseen = shelf.store.as_ref().err().filter(|_| !shelf.empty).cloned();
        Some(Place { name: name.clone(), media: config.media.clone(), site: config.site.clone(), immutable, unseen })
    }
}
