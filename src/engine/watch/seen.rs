//! What is known of all policies, looked up again only where something may be new: there may be thousands, and looking must cost next to nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use jiff::Timestamp;

use super::facts;
use crate::domain::check::Broke;
use crate::domain::drift::Drift;
use crate::domain::facts::PolicyFacts;
use crate::domain::ids::PolicyName;
use crate::domain::policy::Policy;
use crate::domain::units::Span;
use crate::engine::House;
use crate::engine::standing::{self, Question};

/// After so long a policy is looked at anew, whatever the events say: its spool and its log go on without any, and so does time.
const ANEW_AFTER: Duration = Duration::from_secs(600);
/// For so long in one look those are looked at of which no event tells; what does not fit is looked at first the next time.
const MOVING_FOR: Duration = Duration::from_millis(500);
/// When so many policies in a row cannot be looked at, it is not they: the others would only wait for the same.
const ENOUGH: usize = 5;
/// Where it is not known who cannot be looked at, so many are asked for one by one at the same time.
const SINGLE: usize = 8;

/// Nothing but where policies stand.
const QUESTION: Question = Question { back: Span::ZERO, whole: false };

/// What the newest look at a policy's drift found, if there was one.
type Drifted = Option<(Timestamp, Vec<Drift>)>;

/// Of a catalog's policies.
#[derive(Default)]
pub(super) struct Seen {
    /// Up to which event everything is known; none: nothing was ever looked at.
    up_to: Option<u64>,
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
        // Of two writers the later number may be seen first: a little is looked at twice.
        let since = self.up_to.map_or(u64::MAX >> 1, |up_to| up_to.saturating_sub(100));
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
        if self.up_to.is_some_and(|up_to| changed.up_to < up_to) {
            // Another catalog has taken its place.
            self.known.clear();
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
                    if policy.wal.is_some() || looked_at.elapsed() > ANEW_AFTER {
                        moving.push((*looked_at, policy, drift));
                    }
                }
            }
        }
        moving.sort_by_key(|(looked_at, _, _)| *looked_at);
        let looked = self.look_at(house, wanted, None, now).await;
        let moving = moving.into_iter().map(|(_, policy, drift)| (policy, drift)).collect();
        let moved = self.look_at(house, moving, Some(Instant::now() + MOVING_FOR), now).await;
        self.up_to = Some(changed.up_to);
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
        while in_a_row < ENOUGH && until.is_none_or(|until| Instant::now() < until) {
            let some: Vec<_> = rest.by_ref().take(standing::AT_ONCE).collect();
            if some.is_empty() {
                break;
            }
            for (name, looked) in ask(house, some, now).await {
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

/// Of each of these what was found. Asked for all at once; if that cannot be answered, one by one: whom it cannot be answered for is one of them, perhaps.
async fn ask<'a>(
    house: &House,
    policies: Vec<(&'a Policy, Drifted)>,
    now: Timestamp,
) -> Vec<(&'a PolicyName, Result<PolicyFacts, Broke>)> {
    let (wanted, drifts): (Vec<&Policy>, Vec<Drifted>) = policies.into_iter().unzip();
    if let Ok(stood) = standing::of(house, &wanted, QUESTION, now).await {
        return stood
            .into_iter()
            .zip(drifts)
            .map(|(one, drift)| (&one.policy.name, Ok(facts::of(one, drift))))
            .collect();
    }
    let mut all = Vec::with_capacity(wanted.len());
    let mut rest = wanted.into_iter().zip(drifts);
    while rest.len() > 0 {
        let some: Vec<_> =
            rest.by_ref().take(SINGLE).map(|(policy, drift)| ask_one(house, policy, drift, now)).collect();
        all.extend(join_all(some).await);
    }
    all
}

async fn ask_one<'a>(
    house: &House,
    policy: &'a Policy,
    drift: Drifted,
    now: Timestamp,
) -> (&'a PolicyName, Result<PolicyFacts, Broke>) {
    let stood = standing::of(house, &[policy], QUESTION, now).await;
    let only = stood.and_then(|stood| stood.into_iter().next().ok_or_else(|| Broke::new("the catalog did not answer")));
    (&policy.name, only.map(|one| facts::of(one, drift)))
}
