//! Receivers of the log: one for every policy that wants its log received, kept running.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Shared;
use super::log::Logged;
use super::worker::on_a_thread;
use crate::domain::ids::PolicyName;
use crate::domain::policy::Policy;
use crate::engine::{House, interrupt, wal};

/// Between two tries of a receiver that breaks at once.
const FIRST: Duration = Duration::from_secs(1);
/// Between two tries at most.
const LONGEST: Duration = Duration::from_secs(60);
/// What a receiver hears that is not wanted any more.
const NOT_WANTED: &str = "a change of its policy, or the end of the service";

struct Receiver {
    policy: Policy,
    stop: watch::Sender<Option<&'static str>>,
    work: JoinHandle<()>,
}

/// Keeps them until it is told to end; returns when the last of them has.
pub(super) async fn keep(shared: Arc<Shared>, mut end: watch::Receiver<bool>) {
    let mut houses = shared.houses();
    let mut all: BTreeMap<PolicyName, Receiver> = BTreeMap::new();
    loop {
        let house = Arc::clone(&houses.borrow_and_update());
        let wanted: BTreeMap<&PolicyName, &Policy> = house
            .policies
            .iter()
            .filter(|policy| policy.wal.as_ref().is_some_and(|plan| plan.stream))
            .map(|policy| (&policy.name, policy))
            .collect();
        let stale = all.iter().filter(|(name, one)| wanted.get(name).is_none_or(|policy| **policy != one.policy));
        let stale: Vec<PolicyName> = stale.map(|(name, _)| name.clone()).collect();
        for name in stale {
            if let Some(receiver) = all.remove(&name) {
                receiver.end().await;
            }
        }
        for (name, policy) in wanted {
            all.entry(name.clone()).or_insert_with(|| Receiver::begin(Arc::clone(&house), policy.clone()));
        }
        tokio::select! {
            _ = end.wait_for(|end| *end) => break,
            changed = houses.changed() => if changed.is_err() { break },
        }
    }
    for receiver in all.into_values() {
        receiver.end().await;
    }
}

impl Receiver {
    fn begin(house: Arc<House>, policy: Policy) -> Receiver {
        let stop = watch::Sender::new(None);
        let (of, stopped) = (policy.clone(), stop.subscribe());
        let work = on_a_thread(move |here| here.block_on(receive(house, of, stopped)));
        Receiver { policy, stop, work }
    }

    async fn end(self) {
        self.stop.send_replace(Some(NOT_WANTED));
        if let Err(error) = self.work.await {
            tracing::error!(policy = %self.policy.name, %error, "a receiver of the log did not end well");
        }
    }
}

async fn receive(house: Arc<House>, policy: Policy, stop: watch::Receiver<Option<&'static str>>) {
    let mut wait = FIRST;
    loop {
        let began = Instant::now();
        let progress = Logged { title: format!("{} wal stream", policy.name), run: String::new() };
        let received = interrupt::with(stop.clone(), wal::stream(&house, &policy, false, &progress)).await;
        if stop.borrow().is_some() {
            return;
        }
        // One that had worked for a while is tried again at once.
        wait = if began.elapsed() > LONGEST { FIRST } else { (wait * 2).min(LONGEST) };
        match received {
            Ok(()) => return,
            Err(broke) => {
                let again = wait.as_secs();
                tracing::error!(policy = %policy.name, error = %broke.error, hint = broke.hint, again, "the log is not received now");
            }
        }
        let mut stopped = stop.clone();
        tokio::select! {
            _ = stopped.wait_for(Option::is_some) => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}
