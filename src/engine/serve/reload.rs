//! Policies are read again when a file changes, or on SIGHUP: all of them or none.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::{Refused, Shared};
use crate::engine::House;
use crate::load::Loaded;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(10);

/// Where policies are read again.
pub struct Source {
    /// The configuration's file.
    pub file: PathBuf,
    /// Reads everything; an error is a text for people.
    pub load: fn(&Path) -> Result<Loaded, String>,
}

/// What tells whether anything has changed: names, lengths and times of all files.
type Look = u64;

/// Keeps the policies in use those of the files, until it is told to end.
pub(super) async fn keep(shared: Arc<Shared>, source: Source, mut end: watch::Receiver<bool>) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => Some(hangup),
        Err(error) => {
            tracing::warn!(%error, "SIGHUP cannot be listened to; files are looked at all the same");
            None
        }
    };
    let mut seen = look(&source.file, &shared.house());
    loop {
        let asked = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        let asked = tokio::select! {
            _ = end.wait_for(|end| *end) => return,
            _ = asked => true,
            () = tokio::time::sleep(EVERY) => false,
        };
        let now = look(&source.file, &shared.house());
        if asked || now != seen {
            seen = now;
            read_again(&shared, &source);
        }
    }
}

fn read_again(shared: &Arc<Shared>, source: &Source) {
    let old = shared.house();
    match (source.load)(&source.file) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                tracing::warn!("{warning}");
            }
            if loaded.config.catalog != old.config.catalog {
                refuse(shared, "the catalog is another one now: that takes a new start".to_owned());
                return;
            }
            tracing::info!(policies = loaded.policies.len(), drills = loaded.drills.len(), "policies were read again");
            shared.use_house(House {
                config: loaded.config,
                policies: loaded.policies.into(),
                drills: loaded.drills,
                warnings: loaded.warnings,
                catalog: Arc::clone(&old.catalog),
                queue: Arc::clone(&old.queue),
                outbox: Arc::clone(&old.outbox),
                stand_ins: BTreeMap::new(),
                only: None,
                buckets: Default::default(),
                fence: None,
            });
            shared.tell(|standing| standing.refused = None);
        }
        Err(why) => refuse(shared, why),
    }
}

/// Nothing of a set with an error is used.
fn refuse(shared: &Arc<Shared>, why: String) {
    tracing::error!("THE CHANGED CONFIGURATION IS NOT IN USE, the one before it is:\n{why}");
    let since = crate::clock::now();
    shared.tell(|standing| {
        let since = standing.refused.as_ref().map_or(since, |refused| refused.since);
        standing.refused = Some(Refused { since, why });
    });
}

fn look(file: &Path, house: &House) -> Look {
    let mut hasher = DefaultHasher::new();
    let mut note = |path: &Path| {
        let found = std::fs::metadata(path).ok();
        let at = found.as_ref().and_then(|found| found.modified().ok()).unwrap_or(SystemTime::UNIX_EPOCH);
        (path, found.map(|found| found.len()), at).hash(&mut hasher);
    };
    note(file);
    for folder in [&house.config.policies, &house.config.drills] {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths.iter().for_each(|path| note(path));
    }
    hasher.finish()
}
