//! Tries the escrow identities: keys that nobody uses until the day on which nothing else is left.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::local::{openable, recipients_in};
use super::tried::Tried;
use crate::domain::artifact::Part;
use crate::domain::check::{Broke, Stop};
use crate::domain::config::Config;
use crate::domain::policy::Policy;
use crate::load::Loaded;
use crate::seal::{self, Opener, TrustedSigners};
use crate::store::{self, Duty};

const AREA: &str = "key";

/// Whether they can be read, belong to a recipient of each policy, and open the newest backup that is there. Without any, nothing is said: they are not to be on this machine.
pub(super) async fn tried(loaded: &Loaded, tried: &mut Vec<Tried>) {
    let (config, paths) = (&loaded.config, &loaded.config.keys.escrow);
    if paths.is_empty() {
        return;
    }
    let opener = match Opener::read(paths) {
        Ok(opener) => opener,
        Err(error) => {
            tried.push(Tried::wrong(AREA, "escrow", Broke::from(error)));
            for policy in &loaded.policies {
                tried.push(Tried::not_tried(AREA, subject(policy), "no escrow identity can be read"));
            }
            return;
        }
    };
    let files: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    tried.push(Tried::ok(AREA, "escrow", files.join(", ")));
    let theirs: BTreeSet<String> = paths.iter().flat_map(|path: &PathBuf| recipients_in(path)).collect();
    let hint = "add the escrow identity's `age1…` to [encryption] recipients, or the right key file to [keys] escrow";
    for policy in &loaded.policies {
        match openable(policy, &theirs) {
            Err(_) => {
                let count = policy.encryption.recipients.len();
                let error = format!(
                    "none of the {count} recipients is an escrow key: without the working key these backups are lost"
                );
                tried.push(Tried::wrong(AREA, subject(policy), Broke::hinted(error, hint)));
            }
            Ok(_) => tried.push(match newest(config, policy, &opener).await {
                Ok(Some(what)) => Tried::ok(AREA, subject(policy), what),
                Ok(None) => Tried::not_tried(
                    AREA,
                    subject(policy),
                    "it is a recipient; no backup is there to be opened with it",
                ),
                Err(broke) => Tried::wrong(AREA, subject(policy), broke),
            }),
        }
    }
}

fn subject(policy: &Policy) -> String {
    format!("{}: escrow", policy.name)
}

/// Opens the smallest part of the newest backup; none: there is no backup.
async fn newest(config: &Config, policy: &Policy, opener: &Opener) -> Result<Option<String>, Broke> {
    let trusted = TrustedSigners::read(&config.keys.trusted_signers).map_err(Broke::from)?;
    for job in &policy.backups {
        let Some(place) = config.stores.get(&job.store).filter(|place| !store::is_missing(place)) else { continue };
        let store = store::open_existing(place, Duty::Read).map_err(Broke::from)?;
        let held = seal::list_backups(&*store, Some(&policy.name), &trusted).await.map_err(Broke::from)?;
        let Some((_, backup)) = held.last() else { continue };
        let sealed = seal::load_manifest(&*store, &policy.name, backup, &trusted).await.map_err(told)?;
        let streams = sealed.manifest.streams.iter().flat_map(|stream| &stream.parts);
        let Some(part): Option<&Part> = streams.min_by_key(|part| part.sealed_bytes) else { continue };
        let prefix = format!("{}/{backup}", policy.name);
        seal::read_part(&*store, &prefix, part, Some(opener)).await.map_err(told)?;
        return Ok(Some(format!("a part of the newest backup in {}, {backup}, was opened with it alone", job.store)));
    }
    Ok(None)
}

/// A finding here says that the newest backup is bad, or that this key does not open it.
fn told(stop: Stop) -> Broke {
    match stop {
        Stop::Broke(broke) => broke,
        Stop::Found(findings) => {
            let what = findings.first().map_or_else(String::new, |one| format!("{}: {}", one.object, one.message));
            let hint = "take a new backup: it is sealed for the recipients of today; `lifeboat verify` tells what is wrong with this one";
            Broke::hinted(format!("the newest backup was not opened with the escrow key: {what}"), hint)
        }
    }
}
