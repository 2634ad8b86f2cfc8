//! What the events of a catalog add up to, told apart from the catalog's own views: the two must agree.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::check::Finding;
use crate::domain::ids::{BackupId, PlaceName, PolicyName, RunId};
use crate::domain::mark::Act;
use crate::domain::queue::Planned;
use crate::domain::run::{ArtifactRecord, Event, Proof, Run, RunState};
use crate::domain::transcript::Verdict;

/// Where a run stands, by its events alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    Planned,
    Running,
    Ended,
}

#[derive(Debug)]
struct Known {
    stands: Stands,
    scheduled: bool,
}

/// The artifacts of a policy: whether each is there, and the hash of its manifest.
type Artifacts = BTreeMap<(BackupId, PlaceName), (bool, String)>;

/// Adds up.
#[derive(Debug, Default)]
pub struct Books {
    runs: BTreeMap<RunId, Known>,
    artifacts: BTreeMap<PolicyName, Artifacts>,
    made: BTreeSet<(RunId, String)>,
    destroyed: BTreeSet<String>,
    proven: BTreeMap<PolicyName, BTreeSet<BackupId>>,
    places: BTreeMap<RunId, bool>,
}

impl Books {
    /// Takes an event in, in the order in which they were written.
    pub fn event(&mut self, policy: &PolicyName, run: RunId, event: &Event) {
        match event {
            Event::Planned { scheduled_for, .. } => {
                self.runs.entry(run).or_insert(Known { stands: Stands::Planned, scheduled: scheduled_for.is_some() });
            }
            Event::Started { .. } => self.stands(run, Stands::Running),
            Event::Finished { .. } | Event::Abandoned { .. } | Event::Missed { .. } => self.stands(run, Stands::Ended),
            Event::ScratchMade { name } => {
                self.made.insert((run, name.clone()));
            }
            Event::ScratchDestroyed { name, .. } => {
                self.destroyed.insert(name.clone());
            }
            Event::Committed(record) => {
                let key = (record.backup.clone(), record.store.clone());
                let there = (true, record.manifest_sha256.clone());
                self.artifacts.entry(record.policy.clone()).or_default().insert(key, there);
            }
            Event::Marked { store, mark } => match mark.act {
                Act::Tombstone => self.there(policy, &mark.backup, store, false),
                Act::Undelete => self.there(policy, &mark.backup, store, true),
                Act::Hold | Act::Release => {}
            },
            Event::Removed(removed) => self.there(policy, &removed.backup, &removed.store, false),
            Event::Drilled(transcript) => {
                if let (Verdict::Proven, Some(backup)) = (transcript.judgement.verdict, &transcript.backup) {
                    self.proven.entry(policy.clone()).or_default().insert(backup.id.clone());
                }
            }
            Event::Copied(_)
            | Event::DrillTested(_)
            | Event::HoleAcknowledged(_)
            | Event::ImmutabilityTried { .. }
            | Event::LogRemoved { .. }
            | Event::OrphansRemoved { .. }
            | Event::CaughtUp { .. } => {}
        }
    }

    /// Takes a place in the queue in, which has ended or not.
    pub fn place(&mut self, planned: &Planned, ended: bool) {
        self.places.insert(planned.run, ended);
    }

    fn stands(&mut self, run: RunId, stands: Stands) {
        if let Some(known) = self.runs.get_mut(&run)
            && known.stands != Stands::Ended
        {
            known.stands = stands;
        }
    }

    fn there(&mut self, policy: &PolicyName, backup: &BackupId, store: &PlaceName, there: bool) {
        let known = self.artifacts.get_mut(policy).and_then(|all| all.get_mut(&(backup.clone(), store.clone())));
        if let Some(known) = known {
            known.0 = there;
        }
    }

    /// The policies that anything is known of.
    pub fn policies(&self) -> BTreeSet<PolicyName> {
        self.artifacts.keys().chain(self.proven.keys()).cloned().collect()
    }

    /// How many runs there are.
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Where the queue and the runs do not fit together.
    pub fn queue(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut say = |code: &str, run: &RunId, message: &str| {
            found.push(Finding::new(code, format!("run {run}"), message));
        };
        for (run, ended) in &self.places {
            match (self.runs.get(run).map(|known| known.stands), ended) {
                (None, _) => say(
                    "place_without_run",
                    run,
                    "it has a place in the queue, and nobody wrote down that it is planned",
                ),
                (Some(Stands::Ended), false) => {
                    say("place_of_ended_run", run, "it has ended, and waits in the queue all the same")
                }
                (Some(Stands::Planned | Stands::Running), true) => {
                    say(
                        "run_without_outcome",
                        run,
                        "its place in the queue has ended, and nobody wrote down how the run did",
                    );
                }
                (Some(Stands::Ended), true) | (Some(Stands::Planned | Stands::Running), false) => {}
            }
        }
        for (run, known) in &self.runs {
            if known.scheduled && known.stands == Stands::Planned && !self.places.contains_key(run) {
                say(
                    "run_without_place",
                    run,
                    "it is planned by a schedule, and has no place in the queue: nobody will do it",
                );
            }
        }
        found
    }

    /// Where the view of a policy's artifacts says something else.
    pub fn artifacts(&self, policy: &PolicyName, view: &[ArtifactRecord]) -> Vec<Finding> {
        let viewed: BTreeMap<_, _> =
            view.iter().map(|one| ((one.backup.clone(), one.store.clone()), one.manifest_sha256.as_str())).collect();
        let none = BTreeMap::new();
        let added: BTreeMap<_, _> = self
            .artifacts
            .get(policy)
            .unwrap_or(&none)
            .iter()
            .filter(|(_, (there, _))| *there)
            .map(|(key, (_, sha256))| (key.clone(), sha256.as_str()))
            .collect();
        let keys: BTreeSet<_> = viewed.keys().chain(added.keys()).collect();
        let differ = keys.into_iter().filter(|key| viewed.get(*key) != added.get(*key));
        differ
            .map(|(backup, store)| {
                let object = format!("backup {backup} of {policy} in {store}");
                disagrees(object, "the view of artifacts and the events disagree about it")
            })
            .collect()
    }

    /// Where the view of a policy's proofs says something else.
    pub fn proofs(&self, policy: &PolicyName, view: &[Proof]) -> Vec<Finding> {
        let viewed: BTreeSet<_> = view.iter().map(|proof| &proof.backup).collect();
        let none = BTreeSet::new();
        let added: BTreeSet<_> = self.proven.get(policy).unwrap_or(&none).iter().collect();
        let differ = viewed.symmetric_difference(&added);
        let say = |backup: &&BackupId| {
            disagrees(format!("backup {backup} of {policy}"), "the view of proofs and the events disagree about it")
        };
        differ.map(say).collect()
    }

    /// Where the view of owed scratches says something else.
    pub fn owed(&self, view: &[(PolicyName, RunId, String)]) -> Vec<Finding> {
        let viewed: BTreeSet<_> = view.iter().map(|(_, run, name)| (*run, name.clone())).collect();
        let added: BTreeSet<_> = self.made.iter().filter(|(_, name)| !self.destroyed.contains(name)).cloned().collect();
        let say = |(run, name): &(RunId, String)| {
            disagrees(format!("scratch {name} of run {run}"), "the view of scratches and the events disagree about it")
        };
        viewed.symmetric_difference(&added).map(say).collect()
    }

    /// Where the view of runs says something else.
    pub fn states(&self, view: &[Run]) -> Vec<Finding> {
        let of = |state: &RunState| match state {
            RunState::Planned => Stands::Planned,
            RunState::Running { .. } => Stands::Running,
            RunState::Ended(_) | RunState::Abandoned(_) | RunState::Missed(_) => Stands::Ended,
        };
        let viewed: BTreeMap<RunId, Stands> = view.iter().map(|run| (run.id, of(&run.state))).collect();
        let keys: BTreeSet<RunId> = viewed.keys().chain(self.runs.keys()).copied().collect();
        keys.into_iter()
            .filter(|run| viewed.get(run).copied() != self.runs.get(run).map(|known| known.stands))
            .map(|run| disagrees(format!("run {run}"), "the view of runs and the events disagree about it"))
            .collect()
    }
}

fn disagrees(object: String, message: &str) -> Finding {
    Finding::new("view_disagrees", object, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::mark::{MARK_FORMAT, Mark};
    use crate::domain::policy::Method;
    use crate::domain::queue::RunKey;
    use crate::domain::run::{Removed, RunOutcome, Work};
    use crate::domain::sample::{self, at};
    use crate::domain::units::ByteSize;

    fn planned(scheduled: bool) -> Event {
        Event::Planned { work: Work::Verify, scheduled_for: scheduled.then(|| at("2026-11-20T03:00:00Z")) }
    }

    fn place(run: RunId) -> Planned {
        let now = at("2026-11-20T03:00:00Z");
        Planned {
            run,
            key: RunKey { policy: "orders".parse().unwrap(), work: Work::Verify, scheduled_for: now, attempt: 1 },
            due_at: now,
            not_after: None,
            priority: 1,
            alone_on: None,
            needs: BTreeSet::new(),
            caught_up: None,
        }
    }

    fn codes(found: &[Finding]) -> Vec<&str> {
        found.iter().map(|finding| finding.code.as_str()).collect()
    }

    #[test]
    fn each_way_in_which_queue_and_runs_do_not_fit_is_told() {
        let orders: PolicyName = "orders".parse().unwrap();
        let done = Event::Finished { outcome: RunOutcome::Succeeded };
        let mut books = Books::default();
        // Sound: waits, has ended, was started by hand.
        for (n, ended) in [(1, false), (2, true)] {
            books.event(&orders, sample::run(n), &planned(true));
            books.place(&place(sample::run(n)), ended);
        }
        books.event(&orders, sample::run(2), &done);
        books.event(&orders, sample::run(3), &planned(false));
        assert!(books.queue().is_empty());
        books.place(&place(sample::run(10)), false);
        books.event(&orders, sample::run(11), &planned(true));
        books.event(&orders, sample::run(11), &done);
        books.place(&place(sample::run(11)), false);
        books.event(&orders, sample::run(12), &planned(true));
        books.place(&place(sample::run(12)), true);
        books.event(&orders, sample::run(13), &planned(true));
        assert_eq!(
            codes(&books.queue()),
            ["place_without_run", "place_of_ended_run", "run_without_outcome", "run_without_place"]
        );
    }

    #[test]
    fn views_that_lack_or_invent_something_are_told() {
        let orders: PolicyName = "orders".parse().unwrap();
        let mut books = Books::default();
        let record = sample::artifact(Method::Logical, "2026-11-20T03:00:00Z", 1);
        books.event(&orders, sample::run(1), &Event::Committed(record.clone()));
        assert!(books.artifacts(&orders, std::slice::from_ref(&record)).is_empty());
        assert_eq!(books.artifacts(&orders, &[]).len(), 1);
        let swapped = ArtifactRecord { manifest_sha256: "other".to_owned(), ..record.clone() };
        assert_eq!(books.artifacts(&orders, &[swapped]).len(), 1);
        assert_eq!((books.policies(), books.runs()), (BTreeSet::from([orders.clone()]), 0));
        // What was deleted is no more there, what was brought back is, and what was removed is gone.
        for (act, lacks) in [(Act::Tombstone, 0), (Act::Hold, 0), (Act::Undelete, 1), (Act::Release, 1)] {
            let mark = Mark {
                format: MARK_FORMAT.to_owned(),
                policy: orders.clone(),
                backup: record.backup.clone(),
                number: 1,
                act,
                by: "anna".to_owned(),
                reason: "asked for".to_owned(),
                at: at("2026-11-21T03:00:00Z"),
            };
            books.event(&orders, sample::run(1), &Event::Marked { store: record.store.clone(), mark: Box::new(mark) });
            assert_eq!(books.artifacts(&orders, &[]).len(), lacks, "{act:?}");
        }
        let removed = Removed {
            backup: record.backup.clone(),
            store: record.store.clone(),
            objects: 3,
            bytes: ByteSize(1),
            reasons: Vec::new(),
        };
        books.event(&orders, sample::run(1), &Event::Removed(removed));
        assert!(books.artifacts(&orders, &[]).is_empty());
        let name = "lifeboat-x".to_owned();
        books.event(&orders, sample::run(1), &Event::ScratchMade { name: name.clone() });
        assert_eq!(books.owed(&[]).len(), 1);
        assert!(books.owed(&[(orders.clone(), sample::run(1), name.clone())]).is_empty());
        books.event(&orders, sample::run(2), &Event::ScratchDestroyed { name, swept: true });
        assert!(books.owed(&[]).is_empty());
        let mut transcript = sample::physical();
        books.event(&orders, sample::run(3), &Event::Drilled(Box::new(transcript.clone())));
        assert!(books.proofs(&orders, &[]).is_empty(), "a drill that proved nothing");
        transcript.judgement.verdict = Verdict::Proven;
        let backup = transcript.backup.as_ref().unwrap().id.clone();
        books.event(&orders, sample::run(3), &Event::Drilled(Box::new(transcript)));
        assert_eq!(books.proofs(&orders, &[]).len(), 1);
        assert!(books.proofs(&orders, &[Proof { backup, at: at("2026-11-20T03:00:00Z") }]).is_empty());
        books.event(&orders, sample::run(4), &planned(false));
        assert_eq!(codes(&books.states(&[])), ["view_disagrees"]);
        assert_eq!(books.runs(), 1);
    }
}
