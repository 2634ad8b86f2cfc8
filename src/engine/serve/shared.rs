//! What the parts of a service share: the set of policies, what runs, and what is wrong.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::watch;

use crate::domain::ids::RunId;
use crate::engine::House;

/// Files that were changed and are not in use, because they are wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Since when.
    pub since: Timestamp,
    /// What is wrong with them.
    pub why: String,
}

/// How a service stands, for whoever watches it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The policies in use are not those of the files; none: they are.
    pub refused: Option<Refused>,
    /// When the planner last came to its end without an error.
    pub planned_at: Option<Timestamp>,
    /// When it last moved, whatever came of it; none: it has not begun, or there is none.
    pub planner_moved: Option<std::time::Instant>,
    /// Why it did not, if it did not the last time.
    pub planner_broke: Option<String>,
    /// Leases that this process lost.
    pub leases_lost: u64,
}

/// What the parts share.
pub struct Shared {
    house: watch::Sender<Arc<House>>,
    running: Mutex<BTreeSet<RunId>>,
    standing: watch::Sender<Standing>,
}

impl Shared {
    /// Of a house.
    pub fn new(house: Arc<House>) -> Arc<Shared> {
        let standing = watch::Sender::new(Standing::default());
        Arc::new(Shared { house: watch::Sender::new(house), running: Mutex::default(), standing })
    }

    /// The house with the policies in use.
    pub fn house(&self) -> Arc<House> {
        Arc::clone(&self.house.borrow())
    }

    /// Hears of every new set of policies.
    pub fn houses(&self) -> watch::Receiver<Arc<House>> {
        self.house.subscribe()
    }

    pub(super) fn use_house(&self, house: House) {
        self.house.send_replace(Arc::new(house));
    }

    /// The runs that this process does.
    pub fn running(&self) -> Vec<RunId> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    pub(super) fn begins(&self, run: RunId) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(run);
    }

    pub(super) fn ended(&self, run: RunId) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    pub(super) fn tell(&self, change: impl FnOnce(&mut Standing)) {
        self.standing.send_modify(change);
    }
}
