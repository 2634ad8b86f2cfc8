//! The negative test: an attempt to destroy what a locked store holds, with the credentials that backups use.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::domain::bucket::LockMode;
use crate::domain::check::Broke;
use crate::domain::config::StorePlace;
use crate::domain::ids::{PlaceName, PolicyName};
use crate::domain::immutability::Immutability;
use crate::domain::observed::Observed;
use crate::domain::policy::Policy;
use crate::domain::run::Event;
use crate::judge::drift::second;

use super::House;
use super::house::new_run;

/// What came of one trial.
#[derive(Debug)]
pub struct Tried {
    /// For which policy.
    pub policy: PolicyName,
    /// In which store.
    pub store: PlaceName,
    /// The lock that the probe had.
    pub mode: LockMode,
    /// What came of it; absent: the store knows no lock.
    pub found: Result<Observed<Immutability>, Broke>,
}

/// The stores of a policy that are said to be locked.
pub fn locked_stores(house: &House, policy: &Policy) -> BTreeSet<PlaceName> {
    let is_locked = |name: &PlaceName| {
        house.config.stores.get(name).is_some_and(|store| match &store.place {
            StorePlace::S3(bucket) => bucket.locked,
            StorePlace::File { .. } => false,
        })
    };
    House::places_of(policy).into_iter().filter(is_locked).collect()
}

/// Whether the stores of a policy withstand deletion, as far as that was tried lately.
pub async fn known(
    house: &House,
    policy: &Policy,
    now: Timestamp,
) -> Result<BTreeMap<PlaceName, Observed<bool>>, Broke> {
    let trials = house.catalog.immutability(&policy.name).await?;
    Ok(trials.into_iter().map(|(store, at, found)| (store, second::withstands(at, &found, now))).collect())
}

/// Tries every locked store of these policies, and writes down what came of it.
pub async fn try_all(house: &House, policies: &[&Policy]) -> Result<Vec<Tried>, Broke> {
    let mut trials = Vec::new();
    for policy in policies {
        let mode = policy.lock.as_ref().map_or(LockMode::Governance, |lock| lock.mode);
        for name in locked_stores(house, policy) {
            let found = match house.store_to_fill(policy, &name).await {
                Ok(store) => store.try_to_destroy(mode).await.map_err(Broke::from),
                Err(broke) => Err(broke),
            };
            let event = match &found {
                Ok(found) => found.clone(),
                Err(broke) => Observed::Unknown(broke.error.clone()),
            };
            let event = Event::ImmutabilityTried { store: name.clone(), found: event };
            house.record(&policy.name, new_run(), event).await?;
            trials.push(Tried { policy: policy.name.clone(), store: name, mode, found });
        }
    }
    Ok(trials)
}
