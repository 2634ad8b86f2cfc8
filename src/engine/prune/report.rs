//! What came of a prune.

use serde::Serialize;

use super::survey::Survey;
use crate::domain::check::Broke;
use crate::domain::ids::{BackupId, PlaceName, PolicyName, RunId};
use crate::domain::run::{Removed, RunOutcome};
use crate::domain::units::ByteSize;
use crate::judge::retention::log::LogPlan;
use crate::judge::retention::orphans::Orphan;
use crate::judge::retention::{Fate, Plan};

/// The `schema` of the JSON document.
pub const PRUNE_SCHEMA: &str = "lifeboat.prune/1";

/// What could not be done.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trouble {
    /// Which store, or which backup.
    pub place: String,
    /// What went wrong.
    pub error: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Trouble {
    /// Of something that broke.
    pub fn of(place: impl Into<String>, broke: Broke) -> Trouble {
        Trouble { place: place.into(), error: broke.error, hint: broke.hint }
    }
}

/// What came of a policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pruned {
    /// Which.
    pub policy: PolicyName,
    /// The run; none: nothing was done.
    pub run: Option<RunId>,
    /// Whether it was only to be told.
    pub dry_run: bool,
    /// Each store.
    pub stores: Vec<StorePruned>,
    /// Stores that could not be looked into.
    pub troubles: Vec<Trouble>,
}

/// What came of a policy in one store.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StorePruned {
    /// Which.
    pub store: PlaceName,
    /// Where.
    pub url: String,
    /// What was decided.
    pub plan: Plan,
    /// Backups that were deleted now: they no longer count, and can be brought back.
    pub deleted: Vec<BackupId>,
    /// Backups that are gone now.
    pub removed: Vec<Removed>,
    /// What was to go, and did not: something came between.
    pub spared: Vec<String>,
    /// Backups whose removal came to no end before.
    pub leaving: Vec<BackupId>,
    /// The log.
    pub log: LogPruned,
    /// What belongs to nothing.
    pub orphans: Vec<Orphan>,
    /// Objects of it that are gone now.
    pub orphans_removed: u64,
    /// Objects that lifeboat has no name for: they are left alone.
    pub unknown: Vec<String>,
    /// What could not be done.
    pub troubles: Vec<Trouble>,
}

/// What came of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LogPruned {
    /// What was decided.
    pub plan: LogPlan,
    /// Files that are gone now.
    pub removed: u64,
    /// How long their objects were.
    pub bytes: ByteSize,
}

impl StorePruned {
    pub(super) fn begin(seen: &Survey, plan: Plan) -> StorePruned {
        StorePruned {
            store: seen.place.clone(),
            url: seen.store.url(),
            plan,
            deleted: Vec::new(),
            removed: Vec::new(),
            spared: Vec::new(),
            leaving: Vec::new(),
            log: LogPruned::default(),
            orphans: Vec::new(),
            orphans_removed: 0,
            unknown: Vec::new(),
            troubles: Vec::new(),
        }
    }

    /// Takes in that something could not be done with a backup: the others are still gone on with.
    pub(super) fn trouble(&mut self, backup: &BackupId, done: Result<(), Broke>) {
        if let Err(broke) = done {
            self.troubles.push(Trouble::of(format!("{} {backup}", self.store), broke));
        }
    }

    /// How many things stand against what was declared.
    fn against(&self) -> usize {
        let spared = self.plan.with(Fate::Spare).count() + self.spared.len();
        self.plan.standstill.len() + self.plan.findings.len() + spared
    }
}

impl Pruned {
    /// Whether something could not be done.
    pub fn broke(&self) -> bool {
        !self.troubles.is_empty() || self.stores.iter().any(|store| !store.troubles.is_empty())
    }

    /// How many things stand against what was declared.
    pub fn against(&self) -> usize {
        self.stores.iter().map(StorePruned::against).sum()
    }

    /// For the catalog.
    pub(super) fn outcome(&self) -> RunOutcome {
        let troubles = self.troubles.iter().chain(self.stores.iter().flat_map(|store| &store.troubles));
        if let Some(trouble) = troubles.into_iter().next() {
            let error = format!("{}: {}", trouble.place, trouble.error);
            return RunOutcome::Broke { error, hint: trouble.hint.clone() };
        }
        match self.against() {
            0 => RunOutcome::Succeeded,
            count => RunOutcome::Found(count as u64),
        }
    }
}
