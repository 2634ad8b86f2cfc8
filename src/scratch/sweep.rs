//! What killed runs left behind.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use super::{cluster, database, process};
use crate::domain::check::Broke;
use crate::domain::config::ScratchConfig;
use crate::domain::ids::{RunId, SCRATCH_PREFIX};

/// Finds and removes what killed runs left: folders and their servers in the scratch folder, databases on scratch servers. `alive` says whether a run still has its
/// process. Gives the names that were swept, and what could not be.
pub async fn sweep(config: &ScratchConfig, alive: &(dyn Fn(RunId) -> bool + Send + Sync)) -> (Vec<String>, Vec<Broke>) {
    let (mut swept, mut broken) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(&config.dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let Some(run) = name.strip_prefix(SCRATCH_PREFIX).and_then(|text| text.parse::<RunId>().ok()) else { continue };
        // A link with such a name is not a scratch, and what it points to is not ours.
        let real = entry.file_type().is_ok_and(|kind| kind.is_dir()) && run.scratch_name() == name;
        if !real || alive(run) || made_by_another(&entry.path()) {
            continue;
        }
        let folder = match entry.path().canonicalize() {
            Ok(folder) => folder,
            Err(error) => {
                broken.push(Broke::new(format!("scratch {name} cannot be looked at: {error}")));
                continue;
            }
        };
        let removed = tokio::task::spawn_blocking(move || {
            process::ask_to_end(&folder);
            let left = process::kill_all(&folder, Duration::from_secs(10));
            match left.first() {
                None => cluster::remove_folder(&folder),
                Some(process) => {
                    let error = format!("process {} in {} does not end", process.pid, folder.display());
                    Err(Broke::hinted(error, "end it by hand; the next start sweeps the folder"))
                }
            }
        })
        .await;
        match removed {
            Ok(Ok(())) => swept.push(name.to_owned()),
            Ok(Err(broke)) => broken.push(broke),
            Err(error) => broken.push(Broke::new(error.to_string())),
        }
    }
    for server in config.servers.values() {
        let endpoint = match database::open(server) {
            Ok(endpoint) => endpoint,
            Err(broke) => {
                broken.push(broke);
                continue;
            }
        };
        let (dropped, failed) = database::drop_databases(&endpoint, |run| !alive(run)).await;
        swept.extend(dropped);
        broken.extend(failed);
    }
    (swept, broken)
}

/// Whether nothing of a run's scratch is there: no folder, and no database on any scratch server. A folder of scratches that is itself
/// not there, or a server that does not answer, tells nothing: then it is not known to be absent.
pub async fn is_absent(config: &ScratchConfig, run: RunId) -> bool {
    let gone = |path: &Path| std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound);
    if !config.dir.is_dir() || !gone(&config.dir.join(run.scratch_name())) {
        return false;
    }
    for server in config.servers.values() {
        let Ok(endpoint) = database::open(server) else { return false };
        if !database::runs_on(&endpoint).await.is_ok_and(|runs| !runs.contains(&run)) {
            return false;
        }
    }
    true
}

/// Whether another process that still runs made this scratch: one with a catalog of its own, of which `alive` knows nothing.
fn made_by_another(folder: &Path) -> bool {
    let Ok(text) = std::fs::read_to_string(folder.join("maker")) else { return false };
    let mut words = text.split_whitespace();
    let pid = words.next().and_then(|word| word.parse::<u32>().ok());
    let began = words.next().and_then(|word| word.parse::<u64>().ok());
    pid.is_some_and(|pid| pid != std::process::id() && began.is_some() && process::started(pid) == began)
}
