//! Which backup is brought back: by what the stores hold.

use std::sync::Arc;

use super::Request;
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::ids::{BackupId, PolicyName};
use crate::domain::mark::Mark;
use crate::domain::policy::Method;
use crate::engine::house::unknown;
use crate::progress::Progress;
use crate::seal::{self, SealedManifest};
use crate::store::Store;

/// Backups whose recovery points are compared: they are looked at from the one that was begun last.
const COMPARED: usize = 5;

/// A backup, and why it is the one.
pub(in crate::engine) struct Chosen {
    pub store: Arc<dyn Store>,
    pub sealed: SealedManifest,
    pub why: String,
}

pub(super) async fn choose(request: &Request, wanted: &[Method], progress: &dyn Progress) -> Result<Chosen, Stop> {
    let found = candidates(request, wanted, COMPARED, progress).await?;
    let newest = found.into_iter().max_by_key(|chosen| chosen.sealed.manifest.recovery_point.at);
    let chosen = newest.ok_or_else(|| Broke::new("there is no backup to choose"))?;
    if request.backup.is_some() {
        return Ok(chosen);
    }
    let point = chosen.sealed.manifest.recovery_point.at;
    let method = chosen.sealed.manifest.method.as_str();
    let why = format!("the newest {method} one in {}, it brings back {point}", chosen.store.url());
    Ok(Chosen { why, ..chosen })
}

/// The one that was asked for, or the newest `count` of the wanted methods, the one begun last first. Never none. Of several methods the first is the one that is
/// told to be wanted.
pub(in crate::engine) async fn candidates(
    request: &Request,
    wanted: &[Method],
    count: usize,
    progress: &dyn Progress,
) -> Result<Vec<Chosen>, Stop> {
    let named = wanted.first().map_or("any", |method| method.as_str());
    let (policy, held) = held(request).await?;
    if let Some(id) = &request.backup {
        let mut stores = held.iter().filter(|(backup, _)| backup == id);
        let Some((_, store)) = stores.next() else {
            for store in &request.stores {
                let deleted = seal::list_tombstones(&**store, Some(&policy), &request.trusted).await;
                if let Some(mark) = deleted.map_err(Broke::from)?.get(&(policy.clone(), id.clone())) {
                    return Err(deleted_one(id, mark).into());
                }
            }
            return Err(
                unknown("backup", id.as_str(), held.iter().rev().take(5).map(|(backup, _)| backup.as_str())).into()
            );
        };
        let sealed = seal::load_manifest(&**store, &policy, id, &request.trusted).await?;
        if !wanted.contains(&sealed.manifest.method) {
            let error =
                format!("backup {id} is {}, and the target takes a {named} one", sealed.manifest.method.as_str());
            let hint = "a physical backup is brought back with --to DIR, a logical one with --to-database URL";
            return Err(Broke::hinted(error, hint).into());
        }
        return Ok(vec![Chosen { store: Arc::clone(store), sealed, why: "the one that was asked for".to_owned() }]);
    }
    let (mut found, mut passed_over): (Vec<Chosen>, Vec<Finding>) = (Vec::new(), Vec::new());
    for (id, store) in held.iter().rev() {
        let sealed = match seal::load_manifest(&**store, &policy, id, &request.trusted).await {
            Ok(sealed) => sealed,
            Err(Stop::Found(findings)) => {
                let why = findings.first().map_or("", |finding| finding.message.as_str());
                progress.say(&format!("warning: backup {id} in {} is passed over: {why}", store.url()));
                passed_over.extend(findings);
                continue;
            }
            Err(Stop::Broke(broke)) => return Err(broke.into()),
        };
        if wanted.contains(&sealed.manifest.method) {
            found.push(Chosen { store: Arc::clone(store), sealed, why: String::new() });
            if found.len() == count {
                break;
            }
        }
    }
    let looked = held.len();
    if found.is_empty() {
        // Manifests that cannot be read could be of the wanted method: that is a finding, not an empty store.
        if !passed_over.is_empty() {
            return Err(Stop::Found(passed_over));
        }
        let error = format!("none of the {looked} backups of policy {policy} is {named}");
        let hint = "a physical backup is brought back with --to DIR, a logical one with --to-database URL";
        return Err(Broke::hinted(error, hint).into());
    }
    Ok(found)
}

/// What is said of a backup that was deleted and is not gone yet.
pub(in crate::engine) fn deleted_one(backup: &BackupId, mark: &Mark) -> Broke {
    let hint = format!("until it is removed, `lifeboat backup undelete {backup} --by WHO` brings it back");
    Broke::hinted(format!("backup {backup} is {}", mark.words()), hint)
}

/// The backups of the policy, the one begun first first, each with the first store that has it.
async fn held(request: &Request) -> Result<(PolicyName, Vec<(BackupId, Arc<dyn Store>)>), Broke> {
    let mut held: Vec<(PolicyName, BackupId, Arc<dyn Store>)> = Vec::new();
    let mut policies: Vec<PolicyName> = Vec::new();
    for store in &request.stores {
        for (policy, backup) in seal::list_backups(&**store, request.policy.as_ref(), &request.trusted).await? {
            if !policies.contains(&policy) {
                policies.push(policy.clone());
            }
            if !held.iter().any(|(known, id, _)| *known == policy && *id == backup) {
                held.push((policy, backup, Arc::clone(store)));
            }
        }
    }
    let places = || request.stores.iter().map(|store| store.url()).collect::<Vec<_>>().join(", ");
    let policy = match (&request.policy, policies.as_slice()) {
        (Some(policy), [_, ..]) => policy.clone(),
        (None, [only]) => only.clone(),
        (None, [_, ..]) => {
            let names: Vec<&str> = policies.iter().map(PolicyName::as_str).collect();
            let hint = format!("name one of them: {}", names.join(", "));
            return Err(Broke::hinted("the store holds backups of several policies", hint));
        }
        (_, []) => {
            let whose = request.policy.as_ref().map(|policy| format!(" of policy {policy}")).unwrap_or_default();
            let hint = "see whether it is the right store, and whether a backup was ever finished (`lifeboat status`)";
            return Err(Broke::hinted(format!("there is no backup{whose} in {}", places()), hint));
        }
    };
    let mut ours: Vec<(BackupId, Arc<dyn Store>)> =
        held.into_iter().filter(|(of, ..)| *of == policy).map(|(_, backup, store)| (backup, store)).collect();
    ours.sort_by(|a, b| a.0.cmp(&b.0));
    Ok((policy, ours))
}
