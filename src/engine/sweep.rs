//! What killed runs left behind: found at the next start, removed or listed, and written down.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{House, process};
use crate::domain::artifact::MANIFEST_NAME;
use crate::domain::check::Broke;
use crate::domain::ids::{BackupId, PlaceName, RunId};
use crate::domain::policy::Policy;
use crate::domain::run::{Event, RunState};
use crate::domain::units::ByteSize;
use crate::scratch;

/// What a sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// Runs whose process was gone.
    pub abandoned: Vec<String>,
    /// Scratches that were removed.
    pub scratches: Vec<String>,
    /// What could not be removed, and why.
    pub troubles: Vec<String>,
}

/// Objects of a backup that has no manifest: a run died or is still at work. Harmless; not counted as a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Leftover {
    /// In which store.
    pub store: PlaceName,
    /// Which backup it would have been.
    pub backup: BackupId,
    /// How many objects.
    pub objects: u64,
    /// How much they hold.
    pub bytes: ByteSize,
}

/// Most runs that a sweep looks back over.
const RUNS_LOOKED_AT: usize = 10_000;

/// Writes down which runs died, and removes their scratches.
pub async fn sweep(house: &House) -> Result<Swept, Broke> {
    sweep_but(house, Vec::new).await
}

/// The same, in a process that does runs meanwhile: those are left alone, whatever the catalog says of them.
pub async fn sweep_but(house: &House, ours: impl Fn() -> Vec<RunId> + Send + Sync) -> Result<Swept, Broke> {
    let mut swept = Swept::default();
    let mut alive: Vec<RunId> = Vec::new();
    for run in house.catalog.runs(None, RUNS_LOOKED_AT).await? {
        if process::is_gone(&run.state) {
            let why = "its process went away before it ended".to_owned();
            house.record(&run.policy, run.id, Event::Abandoned { why }).await?;
            swept.abandoned.push(format!("{} of {} ({})", run.work.title(), run.policy, run.id));
        } else if matches!(run.state, RunState::Running { .. }) {
            alive.push(run.id);
        }
    }
    let living = |run| alive.contains(&run) || ours().contains(&run);
    let (removed, troubles) = scratch::sweep(&house.config.scratch, &living).await;
    for (policy, run, name) in house.catalog.scratches_owed().await? {
        // Looked for again, whatever was removed: of several databases one may still be there. What was destroyed by hand, or never
        // made because its run was killed before, is gone as well.
        let gone = removed.contains(&name) || (!living(run) && scratch::is_absent(&house.config.scratch, run).await);
        if gone {
            house.record(&policy, run, Event::ScratchDestroyed { name, swept: true }).await?;
        }
    }
    swept.scratches = removed;
    swept.troubles = troubles.into_iter().map(|trouble| trouble.error).collect();
    Ok(swept)
}

/// Lists what backups without a manifest hold in a policy's stores.
pub async fn leftovers(house: &House, policy: &Policy) -> Result<Vec<Leftover>, Broke> {
    let mut found = Vec::new();
    for (name, store) in house.stores_of(policy)? {
        let mut backups: BTreeMap<BackupId, (u64, u64, bool)> = BTreeMap::new();
        let prefix = format!("{}/", policy.name);
        let mut objects = store.list(&prefix).await?;
        objects.extend(store.half_written(&prefix).await?);
        for object in objects {
            let mut segments = object.key.splitn(3, '/').skip(1);
            let Some(Ok(backup)) = segments.next().map(str::parse::<BackupId>) else { continue };
            let entry = backups.entry(backup).or_default();
            entry.0 += 1;
            entry.1 += object.bytes;
            entry.2 |= segments.next() == Some(MANIFEST_NAME);
        }
        found.extend(backups.into_iter().filter(|(_, (_, _, whole))| !whole).map(|(backup, (objects, bytes, _))| {
            Leftover { store: name.clone(), backup, objects, bytes: ByteSize(bytes) }
        }));
    }
    Ok(found)
}
