//! The composition root: builds the adapters that a configuration names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use crate::catalog::{self, Catalog, Opened, Outbox, Queue};
use crate::domain::check::Broke;
use crate::domain::config::{Config, Keys, StoreConfig};
use crate::domain::drill::{Drill, KeyChoice};
use crate::domain::ids::{DrillName, PlaceName, PolicyName, RunId};
use crate::domain::policy::{Policy, Source, SourceKind};
use crate::domain::run::{Event, Work};
use crate::load::Loaded;
use crate::probe::Endpoint;
use crate::seal::{Opener, Signer, TrustedSigners};
use crate::store::{self, Buckets, Duty, Store};

use super::claimed::{Fence, Held};
use super::process;

/// A configured lifeboat.
pub struct House {
    /// Where things are.
    pub config: Config,
    /// All policies; houses of claimed runs and drills share them, for there may be thousands.
    pub policies: Arc<[Policy]>,
    /// All drills.
    pub drills: Vec<Drill>,
    /// What configuration's reader wants to be said.
    pub warnings: Vec<String>,
    /// Runs and artifacts.
    pub catalog: Arc<dyn Catalog>,
    /// Runs that are to be done.
    pub queue: Arc<dyn Queue>,
    /// Alarms and letters.
    pub outbox: Arc<dyn Outbox>,
    /// Stores that stand in for configured ones of that name: copies with a known fault, while a drill is tested. Else empty.
    pub stand_ins: BTreeMap<PlaceName, Arc<dyn Store>>,
    /// The only store that is opened, whatever is asked for: for a drill that is to get along with it. None: all are.
    pub only: Option<PlaceName>,
    /// Buckets that were opened.
    pub buckets: Buckets,
    /// The claimed run that it does, and by what right; none: what is begun here is planned here.
    pub fence: Option<Arc<Fence>>,
}

impl House {
    /// Builds it from what was loaded; opens the catalog.
    pub fn build(loaded: Loaded) -> Result<House, Broke> {
        let Opened { catalog, queue, outbox } = catalog::open(&loaded.config.catalog)?;
        Ok(House {
            config: loaded.config,
            policies: loaded.policies.into(),
            drills: loaded.drills,
            warnings: loaded.warnings,
            catalog,
            queue,
            outbox,
            stand_ins: BTreeMap::new(),
            only: None,
            buckets: Buckets::default(),
            fence: None,
        })
    }

    /// A policy by name.
    pub fn policy(&self, name: &str) -> Result<&Policy, Broke> {
        policy_named(&self.policies, name)
    }

    /// A drill by name.
    pub fn drill(&self, name: &DrillName) -> Result<&Drill, Broke> {
        let names = || self.drills.iter().map(|drill| drill.name.as_str());
        self.drills.iter().find(|drill| &drill.name == name).ok_or_else(|| unknown("drill", name.as_str(), names()))
    }

    /// The same house with nothing but what a drill may use: its only store, its only keys.
    pub fn of_drill(&self, drill: &Drill) -> House {
        let mut config = self.config.clone();
        match &drill.keys {
            KeyChoice::Working => {}
            KeyChoice::Escrow => config.keys.identities.clone_from(&config.keys.escrow),
            KeyChoice::Given(files) => config.keys.identities.clone_from(files),
        }
        House {
            config,
            policies: Arc::clone(&self.policies),
            drills: self.drills.clone(),
            warnings: Vec::new(),
            catalog: Arc::clone(&self.catalog),
            queue: Arc::clone(&self.queue),
            outbox: Arc::clone(&self.outbox),
            stand_ins: self.stand_ins.clone(),
            only: drill.from.clone().or_else(|| self.only.clone()),
            buckets: self.buckets.clone(),
            fence: self.fence.clone(),
        }
    }

    /// The same house for a claimed run: what it writes down of it counts as long as the lease is held.
    pub fn for_claim(&self, fence: Arc<Fence>) -> House {
        let catalog = Held { catalog: Arc::clone(&self.catalog), fence: Arc::clone(&fence) };
        House {
            config: self.config.clone(),
            policies: Arc::clone(&self.policies),
            drills: self.drills.clone(),
            warnings: Vec::new(),
            catalog: Arc::new(catalog),
            outbox: Arc::clone(&self.outbox),
            queue: Arc::clone(&self.queue),
            stand_ins: self.stand_ins.clone(),
            only: self.only.clone(),
            buckets: self.buckets.clone(),
            fence: Some(fence),
        }
    }

    /// Begins a run, and gives its name. What was claimed is planned already; all else is planned here, before anything of it is begun.
    pub async fn begin(&self, policy: &PolicyName, work: Work) -> Result<RunId, Broke> {
        self.begin_at(crate::clock::now(), policy, work).await
    }

    /// The same, for work from whose beginning something is counted.
    pub async fn begin_at(&self, at: Timestamp, policy: &PolicyName, work: Work) -> Result<RunId, Broke> {
        let claimed = self.fence.as_ref().filter(|fence| fence.is_for(policy, &work));
        let run = claimed.map_or_else(new_run, |fence| fence.run());
        if claimed.is_none() {
            self.catalog.append(at, policy, run, Event::Planned { work, scheduled_for: None }).await?;
        }
        self.record(policy, run, process::started()).await?;
        Ok(run)
    }

    /// Right before something that cannot be undone: a claimed run must still be ours.
    pub async fn still_ours(&self) -> Result<(), Broke> {
        match &self.fence {
            Some(fence) => fence.or_stop().await,
            None => Ok(()),
        }
    }

    /// Whether a policy's backups get into this store only as copies.
    pub fn is_copy(policy: &Policy, store: &PlaceName) -> bool {
        policy.backups.iter().all(|job| job.store != *store)
    }

    /// A store by name, which must be there: one that is not must never look like one without backups.
    pub fn store(&self, name: &PlaceName) -> Result<Arc<dyn Store>, Broke> {
        if let Some(only) = self.only.as_ref().filter(|only| *only != name) {
            return Err(Broke::new(format!("the store {name} is not opened: this is to get along with {only} alone")));
        }
        if let Some(stand_in) = self.stand_ins.get(name) {
            return Ok(Arc::clone(stand_in));
        }
        self.open(name, Duty::Read)
    }

    fn open(&self, name: &PlaceName, duty: Duty) -> Result<Arc<dyn Store>, Broke> {
        open(&self.buckets, &self.config, name, duty)
    }

    /// A store by name, to delete from it.
    pub fn store_to_prune(&self, name: &PlaceName) -> Result<Arc<dyn Store>, Broke> {
        if self.stand_ins.contains_key(name) {
            return Err(Broke::new("nothing is deleted while a drill is tested"));
        }
        self.open(name, Duty::Prune)
    }

    /// A store by name, to write there for a policy: a folder is made if need be, unless backups are known to be in it.
    pub async fn store_to_fill(&self, policy: &Policy, name: &PlaceName) -> Result<Arc<dyn Store>, Broke> {
        if self.stand_ins.contains_key(name) {
            return Err(Broke::new("no backup is taken while a drill is tested"));
        }
        let config = store_config(&self.config, name)?;
        if store::is_missing(config) {
            for known_policy in self.policies.iter() {
                let known = self.catalog.artifacts(&known_policy.name).await?;
                let count = known.iter().filter(|artifact| artifact.store == *name).count();
                if count > 0 {
                    return Err(Broke::hinted(
                        format!(
                            "the store {name} is not there, and the catalog knows {count} backups of {} in it",
                            known_policy.name
                        ),
                        "is it mounted? If it is lost for good, make an empty folder in its place by hand",
                    ));
                }
            }
        }
        self.buckets.open(name, config, Duty::Backup, policy.lock.as_ref()).map_err(Broke::from)
    }

    /// A store by name, to write a mark beside a backup: without a lock, for a mark goes when the backup goes.
    pub fn store_to_mark(&self, name: &PlaceName) -> Result<Arc<dyn Store>, Broke> {
        if self.stand_ins.contains_key(name) {
            return Err(Broke::new("no backup is marked while a drill is tested"));
        }
        self.open(name, Duty::Backup)
    }

    /// Every store that a policy's backups are taken to, by name; if only one may be used, that one.
    pub fn stores_of(&self, policy: &Policy) -> Result<BTreeMap<PlaceName, Arc<dyn Store>>, Broke> {
        if let Some(only) = &self.only {
            return Ok(BTreeMap::from([(only.clone(), self.store(only)?)]));
        }
        policy.backups.iter().map(|job| Ok((job.store.clone(), self.store(&job.store)?))).collect()
    }

    /// Every store that holds something of a policy: those that its backups go to, and their copies.
    pub fn places_of(policy: &Policy) -> BTreeSet<PlaceName> {
        policy.backups.iter().flat_map(|job| std::iter::once(&job.store).chain(&job.copies)).cloned().collect()
    }

    /// The source of a policy.
    pub fn source(&self, source: &Source) -> Result<Endpoint, Broke> {
        if source.kind == SourceKind::ControlPlane {
            let hint = "`lifeboat backup`, `drill`, `verify`, `restore --to DIR` work on it as on any other";
            return Err(Broke::hinted("the policy protects lifeboat itself: there is no server behind it", hint));
        }
        let timeout = self.config.limits.connect_timeout.to_std();
        Endpoint::open(&source.url, &source.password, source.tls, source.tls_ca.as_deref(), timeout)
            .map_err(Broke::from)
    }

    /// What signs manifests.
    pub fn signer(&self) -> Result<Signer, Broke> {
        let path = self.config.keys.signing.as_deref().ok_or_else(|| {
            Broke::hinted(
                "no signing key is configured",
                "name one in lifeboat.toml: [keys] signing = \"…\"; `lifeboat init` makes one",
            )
        })?;
        Signer::read(path).map_err(Broke::from)
    }

    /// What opens artifacts.
    pub fn opener(&self) -> Result<Opener, Broke> {
        opener(&self.config.keys)
    }

    /// Who is trusted to have signed.
    pub fn trusted(&self) -> Result<TrustedSigners, Broke> {
        TrustedSigners::read(&self.config.keys.trusted_signers).map_err(Broke::from)
    }

    /// Writes an event down.
    pub async fn record(&self, policy: &PolicyName, run: RunId, event: Event) -> Result<(), Broke> {
        tracing::info!(%run, %policy, event = event.kind(), "{}", event.in_short());
        self.catalog.append(crate::clock::now(), policy, run, event).await
    }
}

/// The stores that a policy's backups go to, for who only reads: no catalog is opened for it.
pub fn stores_to_read(config: &Config, policy: &Policy) -> Result<Vec<Arc<dyn Store>>, Broke> {
    let names: BTreeSet<&PlaceName> = policy.backups.iter().map(|job| &job.store).collect();
    let buckets = Buckets::default();
    names.into_iter().map(|name| open(&buckets, config, name, Duty::Read)).collect()
}

fn open(buckets: &Buckets, config: &Config, name: &PlaceName, duty: Duty) -> Result<Arc<dyn Store>, Broke> {
    let config = store_config(config, name)?;
    buckets.open_existing(name, config, duty).map_err(|error| {
        let missing = store::is_missing(config);
        let broke = Broke::from(error);
        let hint = format!("`lifeboat backup` makes it, if {name} never held one; else see whether it is mounted");
        Broke { hint: if missing { Some(hint) } else { broke.hint }, error: broke.error }
    })
}

fn store_config<'a>(config: &'a Config, name: &PlaceName) -> Result<&'a StoreConfig, Broke> {
    let names = || config.stores.keys().map(PlaceName::as_str);
    config.stores.get(name).ok_or_else(|| unknown("store", name.as_str(), names()))
}

/// A policy by name.
pub fn policy_named<'a>(policies: &'a [Policy], name: &str) -> Result<&'a Policy, Broke> {
    let names = || policies.iter().map(|policy| policy.name.as_str());
    policies.iter().find(|policy| policy.name.as_str() == name).ok_or_else(|| unknown("policy", name, names()))
}

/// A configured store's name.
pub fn place(house: &House, name: &str) -> Result<PlaceName, Broke> {
    let names = || house.config.stores.keys().map(PlaceName::as_str);
    let found = house.config.stores.keys().find(|known| known.as_str() == name);
    found.cloned().ok_or_else(|| unknown("store", name, names()))
}

/// What opens artifacts.
pub fn opener(keys: &Keys) -> Result<Opener, Broke> {
    if keys.identities.is_empty() {
        let hint = "name it in lifeboat.toml: [keys] identities = [\"…\"]";
        return Err(Broke::hinted("no age identity is configured, so nothing can be opened", hint));
    }
    Opener::read(&keys.identities).map_err(Broke::from)
}

/// A fresh run.
pub fn new_run() -> RunId {
    RunId(Uuid::now_v7())
}

/// A name that is not there, with the nearest one that is.
pub fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Broke {
    let known: Vec<&str> = known.collect();
    let nearest = known.iter().max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name)));
    let hint = match nearest {
        Some(near) if strsim::jaro(near, name) > 0.7 => format!("did you mean `{near}`?"),
        Some(_) => format!("there are: {}", known.join(", ")),
        None => format!("no {what} is configured yet"),
    };
    Broke::hinted(format!("there is no {what} `{name}`"), hint)
}

/// Whether `path` can be a configuration file's place.
pub fn config_missing(path: &Path) -> Option<Broke> {
    (!path.is_file()).then(|| {
        Broke::hinted(
            format!("there is no configuration at {}", path.display()),
            "`lifeboat init` writes one; or name it with --config FILE or LIFEBOAT_CONFIG",
        )
    })
}
