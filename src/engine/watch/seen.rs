//! What is known of all policies, looked up again only where something may be new: there may be thousands, and looking must cost next to nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use jiff::Timestamp;

use super::facts;
use crate::domain::check::Broke;
use crate::domain::config::CatalogPlace;
use crate::domain::drift::Drift;
use crate::domain::facts::PolicyFacts;
use crate::domain::ids::PolicyName;
use crate::domain::policy::Policy;
use crate::engine::House;

/// After so long everything is looked up anew, whatever the events say.
const ALL_AFTER: Duration = Duration::from_secs(600);
/// For so long in one look those are looked at that change without events; what does not fit is looked at first the next time.
const MOVING_FOR: Duration = Duration::from_millis(500);
/// Policies that are asked for at once: a catalog on a server answers several as quickly as one.
const AT_ONCE: usize = 8;
/// When so many policies in a row cannot be looked at, it is not they: the others would only wait for the same.
const ENOUGH: usize = 5;

/// What the newest look at a policy's drift found, if there was one.
type Drifted = Option<(Timestamp, Vec<Drift>)>;

/// Of a catalog's policies.
#[derive(Default)]
pub(super) struct Seen {
    up_to: u64,
    all_at: Option<Instant>,
    known: BTreeMap<PolicyName, (Arc<PolicyFacts>, Instant)>,
    unseen: BTreeSet<PolicyName>,
}

impl Seen {
    /// Of each policy that could be looked at, what is known of it.
    pub(super) fn all(&self) -> Vec<Arc<PolicyFacts>> {
        self.known.values().map(|(facts, _)| Arc::clone(facts)).collect()
    }

    /// How many could not.
    pub(super) fn unseen(&self) -> usize {
        self.unseen.len()
    }

    /// Looks up each policy of which there is something new. What cannot be looked up is not told as it was before.
    pub(super) async fn look(&mut self, house: &House, now: Timestamp) -> Result<(), Broke> {
        let all = self.all_at.is_none_or(|at| at.elapsed() > ALL_AFTER);
        // Of two writers the later number may be seen first: a little is looked at twice.
        let since = if all { u64::MAX >> 1 } else { self.up_to.saturating_sub(100) };
        let asked = async {
            let changed = house.outbox.changed(since).await?;
            let drifts = house.outbox.drift_seen().await?;
            let drifts = drifts.into_iter().filter_map(|(policy, at, found)| Some((policy?, (at, found))));
            Ok((changed, drifts.collect::<BTreeMap<_, _>>()))
        };
        let (changed, mut drifts) = asked.await.inspect_err(|broke: &Broke| {
            tracing::warn!("the catalog could not be asked: {broke}");
            *self = Seen::default();
            self.unseen = house.policies.iter().map(|policy| policy.name.clone()).collect();
        })?;
        if all {
            (self.known, self.all_at) = (BTreeMap::new(), Some(Instant::now()));
        }
        self.unseen.clear();
        let new: BTreeSet<&PolicyName> = changed.policies.iter().collect();
        let (mut wanted, mut moving) = (Vec::new(), Vec::new());
        for policy in house.policies.iter() {
            let drift = drifts.remove(&policy.name);
            match self.known.get_mut(&policy.name).filter(|_| !new.contains(&policy.name)) {
                None => wanted.push((policy, drift)),
                Some((known, looked_at)) => {
                    if known.drift != drift {
                        Arc::make_mut(known).drift.clone_from(&drift);
                    }
                    // Its log goes on without events, and so does its spool.
                    if policy.wal.is_some() {
                        moving.push((*looked_at, policy, drift));
                    }
                }
            }
        }
        moving.sort_by_key(|(looked_at, _, _)| *looked_at);
        let looked = self.look_at(house, wanted, None, now).await;
        let moving = moving.into_iter().map(|(_, policy, drift)| (policy, drift)).collect();
        let moved = self.look_at(house, moving, Some(Instant::now() + MOVING_FOR), now).await;
        self.up_to = changed.up_to;
        looked.and(moved)
    }

    /// Looks at these, until a moment if there is one.
    async fn look_at(
        &mut self,
        house: &House,
        policies: Vec<(&Policy, Drifted)>,
        until: Option<Instant>,
        now: Timestamp,
    ) -> Result<(), Broke> {
        let (mut broken, mut in_a_row) = (None, 0);
        let mut rest = policies.into_iter();
        // A file answers one question at a time.
        let at_once = if matches!(house.config.catalog, CatalogPlace::Sqlite(_)) { 1 } else { AT_ONCE };
        while in_a_row < ENOUGH && until.is_none_or(|until| Instant::now() < until) {
            let some: Vec<_> = rest.by_ref().take(at_once).collect();
            if some.is_empty() {
                break;
            }
            let names: Vec<&PolicyName> = some.iter().map(|(policy, _)| &policy.name).collect();
            let looks: Vec<_> = some.into_iter().map(|(policy, drift)| facts::of(house, policy, drift, now)).collect();
            for (name, looked) in names.into_iter().zip(join_all(looks).await) {
                match looked {
                    Ok(found) => {
                        in_a_row = 0;
                        self.known.insert(name.clone(), (Arc::new(found), Instant::now()));
                    }
                    Err(broke) => {
                        tracing::warn!(policy = %name, "it could not be looked at: {broke}");
                        in_a_row += 1;
                        self.forget(name);
                        broken = Some(broke);
                    }
                }
            }
        }
        if in_a_row >= ENOUGH {
            rest.for_each(|(policy, _)| self.forget(&policy.name));
        }
        broken.map_or(Ok(()), Err)
    }

    fn forget(&mut self, name: &PolicyName) {
        self.known.remove(name);
        self.unseen.insert(name.clone());
    }
}
