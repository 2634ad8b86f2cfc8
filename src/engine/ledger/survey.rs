//! What must be in the stores, by what is signed there, and when each object of it was last read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::artifact::{MANIFEST_NAME, Manifest};
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::ids::{BackupId, JobName, PlaceName, PolicyName};
use crate::domain::ledger::{Depth, LastRead, Shelf};
use crate::domain::policy::Policy;
use crate::domain::wal::WalName;
use crate::engine::House;
use crate::judge::ledger::Unit;
use crate::seal::{self, Opener, SealedManifest, TrustedSigners, Witness};
use crate::store::{self, Duty, ObjectInfo, Store};

/// Which object: the place of its shelf in the list, and its own in the shelf. Sorted as whole keys are.
pub type Key = (usize, usize);

/// The parts of one backup, or the files of one log, in one store.
pub struct Held {
    /// Where.
    pub place: PlaceName,
    /// Whose.
    pub policy: PolicyName,
    /// What.
    pub shelf: Shelf,
    /// Where it is read from.
    pub store: Arc<dyn Store>,
    /// What is in it.
    pub what: What,
}

impl Held {
    /// Whether a key that is configured opens it, as far as that is known before it is read.
    pub(super) fn opens(&self) -> bool {
        match &self.what {
            What::Backup(facts) => facts.openable,
            What::Log(_) => true,
        }
    }

    /// What is said once, rather than of each of ten thousand parts: that no key opens them. Without any key nothing is said.
    pub(super) fn without_key(&self, opener: Option<&Opener>) -> Option<Finding> {
        let (What::Backup(facts), Some(opener)) = (&self.what, opener) else { return None };
        (!facts.openable).then(|| {
            let message = "none of the configured identities can open this backup";
            Finding::new("wrong_key", format!("backup {}/{}", self.policy, self.shelf), message)
                .with(facts.recipients.join(", "), opener.recipients().join(", "))
        })
    }
}

/// What is on a shelf.
pub enum What {
    /// A backup, as its manifest says.
    Backup(Box<Facts>),
    /// Files of the log, by name.
    Log(Vec<WalName>),
}

/// What a manifest says, without its parts: those are read again when it is their turn.
pub struct Facts {
    /// By which job.
    pub job: JobName,
    /// When it was begun.
    pub started_at: Timestamp,
    /// Who can open it.
    pub recipients: Vec<String>,
    /// What is wrong with it or its signature.
    pub findings: Vec<Finding>,
    /// Whether a key that is configured opens it.
    pub openable: bool,
}

/// Something that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Found {
    /// In which store.
    pub store: PlaceName,
    /// Of which policy.
    pub policy: PolicyName,
    /// Which object.
    pub key: String,
    /// What.
    pub finding: Finding,
}

/// What the stores hold, and what is known of its readings.
#[derive(Default)]
pub struct Survey {
    /// Backups and logs, by store, policy, and name.
    pub held: Vec<Held>,
    /// Their objects.
    pub units: Vec<Unit<Key>>,
    /// Since when each of these is there: for a backup its start, for a file of the log what its store says.
    pub born: Vec<Timestamp>,
    /// What was wrong at once: manifests, and backups that are gone.
    pub found: Vec<Found>,
    /// Manifests that were read and are right: whose, and which.
    pub manifests: Vec<(PlaceName, PolicyName, BackupId)>,
    /// What the ledger knows and no store holds any more.
    pub gone: BTreeMap<PlaceName, Vec<String>>,
    /// Stores that could not be looked into.
    pub troubles: Vec<(PlaceName, Broke)>,
    /// Stores that are certainly not there, and how many backups are known in them.
    pub missing: BTreeMap<PlaceName, usize>,
    /// Stores that nothing was ever written to.
    pub empty: BTreeSet<PlaceName>,
}

/// With what it is looked.
pub struct Eyes<'a> {
    /// Who may have signed.
    pub trusted: &'a TrustedSigners,
    /// What opens; none: only the outside is looked at.
    pub opener: Option<&'a Opener>,
    /// Who hears of what was read.
    pub witness: Option<&'a Arc<dyn Witness>>,
}

/// The object that makes a backup exist.
pub fn manifest_key(policy: &PolicyName, backup: &BackupId) -> String {
    format!("{policy}/{backup}/{MANIFEST_NAME}")
}

/// The parts of all streams of a backup, in order.
pub fn parts(manifest: &Manifest) -> impl Iterator<Item = &crate::domain::artifact::Part> {
    manifest.streams.iter().flat_map(|stream| &stream.parts)
}

/// Surveys what these policies have in their stores, or in `only` one of them. A store that cannot be looked into is a trouble; a catalog that cannot,
/// an error.
pub async fn survey(
    house: &House,
    policies: &[&Policy],
    only: Option<&PlaceName>,
    eyes: &Eyes<'_>,
) -> Result<Survey, Broke> {
    let mut survey = Survey::default();
    let mut places: BTreeMap<PlaceName, Vec<&Policy>> = BTreeMap::new();
    for policy in policies {
        for place in House::places_of(policy).into_iter().filter(|place| only.is_none_or(|only| only == place)) {
            places.entry(place).or_default().push(policy);
        }
    }
    for (place, mut policies) in places {
        policies.sort_by(|a, b| a.name.cmp(&b.name));
        let mut known = BTreeMap::new();
        for policy in &policies {
            let artifacts = house.catalog.artifacts(&policy.name).await?;
            let here = artifacts.into_iter().filter(|artifact| artifact.store == place);
            known.insert(policy.name.clone(), here.map(|artifact| artifact.backup).collect::<BTreeSet<BackupId>>());
        }
        let store = match open(house, &place) {
            Ok(store) => store,
            Err(None) if known.values().all(BTreeSet::is_empty) => {
                survey.empty.insert(place);
                continue;
            }
            Err(None) => {
                survey.missing.insert(place, known.values().map(BTreeSet::len).sum());
                continue;
            }
            Err(Some(broke)) => {
                survey.troubles.push((place, broke));
                continue;
            }
        };
        for policy in policies {
            let known = known.remove(&policy.name).unwrap_or_default();
            match shelves(house, &store, &place, &policy.name, &known, eyes, &mut survey).await {
                Ok(()) => {}
                Err(Trouble::Store(broke)) => {
                    survey.troubles.push((place.clone(), broke));
                    break;
                }
                Err(Trouble::Catalog(broke)) => return Err(broke),
            }
        }
    }
    Ok(survey)
}

/// A store; no reason: it was certainly never made, or is gone.
fn open(house: &House, place: &PlaceName) -> Result<Arc<dyn Store>, Option<Broke>> {
    if let Some(stand_in) = house.stand_ins.get(place) {
        return Ok(Arc::clone(stand_in));
    }
    let Some(config) = house.config.stores.get(place) else {
        return Err(Some(Broke::new(format!("there is no store {place} in the configuration"))));
    };
    store::open_existing(config, Duty::Read).map_err(|error| (!store::is_missing(config)).then(|| error.into()))
}

enum Trouble {
    Store(Broke),
    Catalog(Broke),
}

/// All shelves of one policy in one store.
async fn shelves(
    house: &House,
    store: &Arc<dyn Store>,
    place: &PlaceName,
    policy: &PolicyName,
    known: &BTreeSet<BackupId>,
    eyes: &Eyes<'_>,
    survey: &mut Survey,
) -> Result<(), Trouble> {
    let prefix = format!("{policy}/");
    let objects = store.list(&prefix).await.map_err(|error| Trouble::Store(error.into()))?;
    let there: BTreeSet<BackupId> = objects.iter().filter_map(|object| backup_of(&object.key, &prefix)).collect();
    for backup in known.difference(&there) {
        let finding = Finding::new(
            "artifact_missing",
            format!("backup {policy}/{backup}"),
            format!("the catalog knows this backup in the store {place}, which lacks it"),
        );
        survey.finding(place, policy, manifest_key(policy, backup), finding);
    }
    let mut shelved: BTreeSet<Shelf> = known.iter().cloned().map(Shelf::Backup).collect();
    for backup in &there {
        let shelf = Shelf::Backup(backup.clone());
        let key = manifest_key(policy, backup);
        match seal::load_manifest(&**store, policy, backup, eyes.trusted).await {
            Ok(sealed) => {
                let read = last_read(house, policy, place, &shelf).await?;
                survey.backup(place, policy, backup, store, &sealed, read, eyes);
            }
            // It went between the list and now.
            Err(Stop::Found(findings)) if findings.iter().all(|one| one.code == "manifest_missing") => continue,
            Err(Stop::Found(findings)) => {
                for finding in findings {
                    survey.finding(place, policy, key.clone(), finding);
                }
            }
            Err(Stop::Broke(broke)) => return Err(Trouble::Store(broke)),
        }
        shelved.insert(shelf);
    }
    let log = log_of(&objects, policy);
    let read = last_read(house, policy, place, &Shelf::Log).await?;
    survey.log(place, policy, store, log, read, eyes);
    shelved.insert(Shelf::Log);
    // Whole backups that the ledger knows and nobody else.
    let summed = house.catalog.shelves_read(policy, Timestamp::MIN).await.map_err(Trouble::Catalog)?;
    for one in summed.into_iter().filter(|one| one.store == *place && !shelved.contains(&one.shelf)) {
        let read = last_read(house, policy, place, &one.shelf).await?;
        survey.gone.entry(place.clone()).or_default().extend(read.into_iter().map(|one| one.key));
    }
    Ok(())
}

async fn last_read(
    house: &House,
    policy: &PolicyName,
    place: &PlaceName,
    shelf: &Shelf,
) -> Result<Vec<LastRead>, Trouble> {
    house.catalog.last_read(policy, place, shelf).await.map_err(Trouble::Catalog)
}

/// Which backup's manifest this is.
fn backup_of(key: &str, prefix: &str) -> Option<BackupId> {
    let (backup, name) = key.strip_prefix(prefix)?.split_once('/')?;
    (name == MANIFEST_NAME).then(|| backup.parse().ok()).flatten()
}

/// The files of the log: those with a record; and how long each object is, as far as the list tells it.
fn log_of(objects: &[ObjectInfo], policy: &PolicyName) -> BTreeMap<WalName, (u64, Timestamp)> {
    let prefix = format!("{policy}/wal/");
    let file = |key: &str, ends: &str| -> Option<WalName> {
        let (folder, file) = key.strip_prefix(&prefix)?.split_once('/')?;
        let name: WalName = file.strip_suffix(ends)?.parse().ok()?;
        (folder == format!("{:08X}", name.timeline())).then_some(name)
    };
    let record = |object: &ObjectInfo| Some((file(&object.key, ".jsonl")?, (0, object.modified)));
    let mut log: BTreeMap<WalName, (u64, Timestamp)> = objects.iter().filter_map(record).collect();
    for object in objects {
        if let Some((bytes, _)) = file(&object.key, ".zst.age").and_then(|name| log.get_mut(&name)) {
            *bytes = object.bytes;
        }
    }
    log
}

impl Survey {
    fn finding(&mut self, place: &PlaceName, policy: &PolicyName, key: String, finding: Finding) {
        self.found.push(Found { store: place.clone(), policy: policy.clone(), key, finding });
    }

    #[expect(clippy::too_many_arguments, reason = "one shelf, all of whose facts come from different hands")]
    fn backup(
        &mut self,
        place: &PlaceName,
        policy: &PolicyName,
        backup: &BackupId,
        store: &Arc<dyn Store>,
        sealed: &SealedManifest,
        read: Vec<LastRead>,
        eyes: &Eyes<'_>,
    ) {
        let manifest = &sealed.manifest;
        let key = manifest_key(policy, backup);
        for finding in &sealed.findings {
            self.finding(place, policy, key.clone(), finding.clone());
        }
        if sealed.findings.is_empty() {
            self.manifests.push((place.clone(), policy.clone(), backup.clone()));
        }
        let ours = |opener: &Opener| manifest.recipients.iter().any(|one| opener.recipients().contains(one));
        let openable = eyes.opener.is_some_and(ours);
        let mut read: HashMap<String, LastRead> = read.into_iter().map(|one| (one.key.clone(), one)).collect();
        read.remove(&key);
        let shelf = self.held.len();
        // What an unsigned manifest says of its parts makes none of them right: they wait until that is mended.
        let vouched = if sealed.findings.is_empty() { usize::MAX } else { 0 };
        for (at, part) in parts(manifest).enumerate().take(vouched) {
            let last = read.remove(&format!("{policy}/{backup}/{}", part.key));
            self.unit((shelf, at), part.sealed_bytes, last.as_ref(), openable);
            self.born.push(manifest.started_at);
        }
        if vouched > 0 {
            self.gone(place, read);
        }
        self.held.push(Held {
            place: place.clone(),
            policy: policy.clone(),
            shelf: Shelf::Backup(backup.clone()),
            store: Arc::clone(store),
            what: What::Backup(Box::new(Facts {
                job: manifest.job.clone(),
                started_at: manifest.started_at,
                recipients: manifest.recipients.clone(),
                findings: sealed.findings.clone(),
                openable,
            })),
        });
    }

    fn log(
        &mut self,
        place: &PlaceName,
        policy: &PolicyName,
        store: &Arc<dyn Store>,
        log: BTreeMap<WalName, (u64, Timestamp)>,
        read: Vec<LastRead>,
        eyes: &Eyes<'_>,
    ) {
        let mut read: HashMap<String, LastRead> = read.into_iter().map(|one| (one.key.clone(), one)).collect();
        let shelf = self.held.len();
        for (at, (name, (bytes, modified))) in log.iter().enumerate() {
            self.born.push(*modified);
            let last = read.remove(&seal::wal_key(policy, *name));
            self.unit((shelf, at), *bytes, last.as_ref(), eyes.opener.is_some());
        }
        self.gone(place, read);
        if !log.is_empty() {
            self.held.push(Held {
                place: place.clone(),
                policy: policy.clone(),
                shelf: Shelf::Log,
                store: Arc::clone(store),
                what: What::Log(log.into_keys().collect()),
            });
        }
    }

    fn unit(&mut self, key: Key, bytes: u64, last: Option<&LastRead>, openable: bool) {
        let depth = if openable { Depth::Opened } else { Depth::Sealed };
        self.units.push(Unit {
            key,
            bytes,
            looked_at: last.and_then(LastRead::looked_at),
            right_at: last.and_then(|last| last.right_at(depth)),
        });
    }

    fn gone(&mut self, place: &PlaceName, read: HashMap<String, LastRead>) {
        if !read.is_empty() {
            self.gone.entry(place.clone()).or_default().extend(read.into_keys());
        }
    }
}
