//! Holds, releases, and bringing back: signed in every store that has the backup.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::Trouble;
use crate::domain::artifact::is_object_name;
use crate::domain::check::{Broke, Finding};
use crate::domain::ids::{BackupId, PlaceName, PolicyName};
use crate::domain::mark::{Act, MARK_FORMAT, Mark};
use crate::domain::policy::Policy;
use crate::domain::run::Event;
use crate::engine::House;
use crate::engine::house::new_run;
use crate::seal::{self, Signer, TrustedSigners};
use crate::store::{self, Store};

/// What is to be said of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marking {
    /// Which.
    pub backup: BackupId,
    /// What: not a deletion, for only a retention deletes.
    pub act: Act,
    /// Who says so.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Marked {
    /// Of which policy the backup is.
    pub policy: PolicyName,
    /// Each store that has it, and the mark that was added there.
    pub marks: Vec<(PlaceName, Mark)>,
    /// Stores in which nothing was to be changed.
    pub unchanged: Vec<PlaceName>,
    /// Objects on which the store itself has put a hold, or taken it away.
    pub objects: u64,
    /// What could not be done.
    pub troubles: Vec<Trouble>,
}

/// A hold that stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HoldOf {
    /// In which store.
    pub store: PlaceName,
    /// Who, when, why.
    pub mark: Mark,
}

/// What signs marks: one that nobody trusts would change nothing.
pub(super) fn signer(house: &House, trusted: &TrustedSigners) -> Result<Signer, Broke> {
    let signer = house.signer()?;
    if trusted.contains(&signer.public_key()) {
        return Ok(signer);
    }
    let hint = "name its public key in lifeboat.toml: [keys] trusted_signers = [\"…\"]";
    Err(Broke::hinted("the signing key is none of those that are trusted: what it marks would count for nothing", hint))
}

/// A store, if it could be opened.
type Opened = Result<Arc<dyn Store>, Broke>;

/// Every store that a policy's backups and their copies go to and that was ever written to.
fn stores_of<'a>(house: &'a House, policy: &'a Policy) -> Vec<(&'a PlaceName, Opened)> {
    let named = policy.backups.iter().flat_map(|job| std::iter::once(&job.store).chain(&job.copies));
    let names: std::collections::BTreeSet<&PlaceName> = named.collect();
    let written = |name: &&&PlaceName| !house.config.stores.get(**name).is_some_and(store::is_missing);
    names.iter().filter(written).map(|name| (*name, house.store(name))).collect()
}

/// The policy of a backup: the one in a store of which it lies.
async fn owner<'a>(house: &'a House, backup: &BackupId) -> Result<&'a Policy, Broke> {
    let mut troubles = Vec::new();
    for policy in house.policies.iter() {
        for (name, store) in stores_of(house, policy) {
            match store {
                Ok(store) if !store.list(&format!("{}/{backup}/", policy.name)).await?.is_empty() => return Ok(policy),
                Ok(_) => {}
                Err(broke) => troubles.push(format!("{name}: {broke}")),
            }
        }
    }
    if let Some(trouble) = troubles.first() {
        let hint = "see whether it is mounted";
        return Err(Broke::hinted(
            format!("backup {backup} was not found, and not every store could be looked into: {trouble}"),
            hint,
        ));
    }
    let hint = "`lifeboat prune --dry-run` lists what there is";
    Err(Broke::hinted(format!("no store holds a backup {backup}"), hint))
}

/// Adds a mark in every store that has the backup.
pub async fn mark(house: &House, marking: &Marking, now: Timestamp) -> Result<Marked, Broke> {
    let trusted = house.trusted()?;
    let signer = signer(house, &trusted)?;
    let policy = owner(house, &marking.backup).await?;
    let mut marked = Marked {
        policy: policy.name.clone(),
        marks: Vec::new(),
        unchanged: Vec::new(),
        objects: 0,
        troubles: Vec::new(),
    };
    for (name, store) in stores_of(house, policy) {
        let done = async { mark_in(house, policy, marking, name, store?, &signer, &trusted, now, &mut marked).await };
        if let Err(broke) = done.await {
            marked.troubles.push(Trouble::of(name.as_str(), broke));
        }
    }
    Ok(marked)
}

#[expect(clippy::too_many_arguments, reason = "one call, and each is another thing")]
async fn mark_in(
    house: &House,
    policy: &Policy,
    marking: &Marking,
    place: &PlaceName,
    store: Arc<dyn Store>,
    signer: &Signer,
    trusted: &TrustedSigners,
    now: Timestamp,
    marked: &mut Marked,
) -> Result<(), Broke> {
    let prefix = format!("{}/{}/", policy.name, marking.backup);
    let objects = store.list(&prefix).await?;
    let mine: Vec<&str> = objects
        .iter()
        .filter(|object| object.key.strip_prefix(&prefix).is_some_and(is_object_name))
        .map(|object| object.key.as_str())
        .collect();
    if mine.is_empty() {
        return Ok(());
    }
    let there =
        objects.iter().any(|object| object.key == format!("{prefix}{}", crate::domain::artifact::MANIFEST_NAME));
    let marks = seal::load_marks(&*store, &policy.name, &marking.backup, trusted).await?;
    if !there {
        return Err(Broke::hinted(
            format!("backup {} has no manifest in {place}: it is being removed, or was never finished", marking.backup),
            "what is left of it counts for nothing",
        ));
    }
    let changes = match marking.act {
        Act::Hold => true,
        Act::Release => !marks.holds.is_empty(),
        Act::Undelete => marks.tombstone.is_some(),
        Act::Tombstone => false,
    };
    if changes {
        let mark = Mark {
            format: MARK_FORMAT.to_owned(),
            policy: policy.name.clone(),
            backup: marking.backup.clone(),
            number: 0,
            act: marking.act,
            by: marking.by.trim().to_owned(),
            reason: marking.reason.trim().to_owned(),
            at: now,
        };
        let to_fill = house.store_to_mark(place)?;
        let mark = seal::put_mark(&*to_fill, mark, signer, trusted).await?;
        marked.marks.push((place.clone(), mark.clone()));
        // The store has it, and that is what counts.
        let event = Event::Marked { store: place.clone(), mark: Box::new(mark) };
        if let Err(broke) = house.record(&policy.name, new_run(), event).await {
            let error = format!("it is in the store, and could not be written into the catalog: {}", broke.error);
            marked.troubles.push(Trouble { place: place.to_string(), error, hint: broke.hint });
        }
    } else {
        marked.unchanged.push(place.clone());
    }
    // Repeated by a second try, should the first have been stopped.
    let held = match marking.act {
        Act::Hold => true,
        Act::Release => false,
        Act::Tombstone | Act::Undelete => return Ok(()),
    };
    let to_hold = if held { house.store_to_mark(place)? } else { house.store_to_prune(place)? };
    for key in mine {
        if !to_hold.set_legal_hold(key, held).await? {
            break;
        }
        marked.objects += 1;
    }
    Ok(())
}

/// The holds that stand, of one policy or of all, and the marks that cannot be believed.
pub async fn holds(house: &House, policies: &[&Policy]) -> Result<(Vec<HoldOf>, Vec<Finding>, Vec<Trouble>), Broke> {
    let trusted = house.trusted()?;
    let (mut holds, mut findings, mut troubles) = (Vec::new(), Vec::new(), Vec::new());
    for policy in policies {
        for (name, store) in stores_of(house, policy) {
            let looked = async {
                let store = store?;
                let mut backups = std::collections::BTreeSet::new();
                for object in store.list(&format!("{}/", policy.name)).await? {
                    let owned = seal::owner_of(&object.key).filter(|(_, name)| name.starts_with(seal::MARKS));
                    backups.extend(owned.map(|((_, backup), _)| backup));
                }
                for backup in backups {
                    let marks = seal::load_marks(&*store, &policy.name, &backup, &trusted).await?;
                    holds.extend(marks.holds.into_iter().map(|mark| HoldOf { store: name.clone(), mark }));
                    findings.extend(marks.doubts);
                }
                Ok::<(), Broke>(())
            };
            if let Err(broke) = looked.await {
                troubles.push(Trouble::of(name.as_str(), broke));
            }
        }
    }
    Ok((holds, findings, troubles))
}
