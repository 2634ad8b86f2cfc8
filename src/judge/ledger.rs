//! What is to be read back next, and how much of what is stored was read back lately.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::domain::ledger::{Budget, Depth, LastRead, ShelfRead, Wrong};
use crate::domain::run::ArtifactRecord;
use crate::domain::transcript::Verdict;
use crate::domain::units::{ByteSize, Span};
use crate::judge::freshness::Standing;

/// An object, as far as the order of reading is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit<K> {
    /// By what it is told from others; no two are the same.
    pub key: K,
    /// How long it is.
    pub bytes: u64,
    /// When it was last looked at; none: never.
    pub looked_at: Option<Timestamp>,
    /// When it was last right; none: never, or it was wrong when it was last looked at.
    pub right_at: Option<Timestamp>,
}

impl<K> Unit<K> {
    /// What reading it takes from a budget: even an object that is not there takes something, or it would never be its turn.
    fn cost(&self) -> u64 {
        self.bytes.max(1)
    }
}

/// What is to be read, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Places in the list that was given.
    pub order: Vec<usize>,
    /// Bytes of these.
    pub bytes: u64,
}

/// Chooses what is read with a budget: what was never looked at first, then what was not for the longest time; of the same by key. Objects are
/// taken until the budget is used up, and the one that uses it up is taken whole: so at least one is read, and with a tenth of all in each run
/// all of it in ten. A budget of time chooses everything: when it is used up, only a clock can tell. A moment that is yet to come is no moment at which
/// anything was looked at.
pub fn plan<K: Ord>(units: &[Unit<K>], budget: Budget, now: Timestamp) -> Plan {
    let mut order: Vec<usize> = (0..units.len()).collect();
    let looked = |unit: &Unit<K>| unit.looked_at.filter(|at| *at <= now);
    order.sort_by(|a, b| {
        let (a, b) = (&units[*a], &units[*b]);
        (looked(a), &a.key).cmp(&(looked(b), &b.key))
    });
    let room = match budget {
        Budget::Time(_) => u128::MAX,
        Budget::Bytes(bytes) => u128::from(bytes.0),
        Budget::Share(share) => (total(units) * u128::from(share)).div_ceil(10_000),
    };
    let mut used: u128 = 0;
    let taken = order.iter().take_while(|at| {
        let goes_on = used < room;
        used += u128::from(units[**at].cost());
        goes_on
    });
    let taken = taken.count();
    order.truncate(taken);
    let bytes = order.iter().fold(0, |sum: u64, at| sum.saturating_add(units[*at].bytes));
    Plan { order, bytes }
}

fn total<K>(units: &[Unit<K>]) -> u128 {
    units.iter().map(|unit| u128::from(unit.cost())).sum()
}

/// How much of what is stored was read back and right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Coverage {
    /// Objects that there are.
    pub objects: u64,
    /// How long they are.
    pub bytes: ByteSize,
    /// Objects that were never looked at.
    pub never: u64,
    /// How long those are.
    pub never_bytes: ByteSize,
    /// Objects that were right in the declared time; without one: ever.
    pub recent: u64,
    /// How long those are.
    pub recent_bytes: ByteSize,
    /// When that one was right that was not for the longest time.
    pub oldest: Option<Timestamp>,
    /// The recent share, in hundredths of a percent, rounded down: 10,000 is all.
    pub share: u32,
}

/// Judges how much was read back. `within`: the declared time; none: ever.
pub fn coverage<K>(units: &[Unit<K>], within: Option<Span>, now: Timestamp) -> Coverage {
    let since = since(within, now);
    let mut coverage = Coverage::default();
    for unit in units {
        coverage.objects += 1;
        coverage.bytes.0 = coverage.bytes.0.saturating_add(unit.bytes);
        if unit.looked_at.is_none() {
            coverage.never += 1;
            coverage.never_bytes.0 = coverage.never_bytes.0.saturating_add(unit.bytes);
        }
        // A moment that is yet to come is none at which anything was right.
        let Some(at) = unit.right_at.filter(|at| *at <= now) else { continue };
        coverage.oldest = Some(coverage.oldest.map_or(at, |oldest| oldest.min(at)));
        if at >= since {
            coverage.recent += 1;
            coverage.recent_bytes.0 = coverage.recent_bytes.0.saturating_add(unit.bytes);
        }
    }
    coverage.share = share(coverage.recent_bytes.0, coverage.bytes.0, coverage.recent == coverage.objects);
    coverage
}

/// From which moment on a reading counts.
pub fn since(within: Option<Span>, now: Timestamp) -> Timestamp {
    within.map_or(Timestamp::MIN, |within| now.checked_sub(within.0).unwrap_or(Timestamp::MIN))
}

/// In hundredths of a percent, rounded down; all of it only if it is really all.
fn share(part: u64, whole: u64, all: bool) -> u32 {
    if all && whole == part {
        return 10_000;
    }
    let share = u128::from(part) * 10_000 / u128::from(whole.max(1));
    u32::try_from(share).unwrap_or(9_999).min(9_999)
}

/// How long it takes to read all at the pace of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Forecast {
    /// So many runs like this one read everything.
    pub runs: u64,
    /// So long it takes, as such runs came so far; none: this was the first.
    pub every: Option<Span>,
}

/// Tells when all will have been read. `read`: bytes of this run; `earlier`: when such runs began before it, in any order. None: nothing was read, so
/// nothing follows.
pub fn forecast(all: u64, read: u64, earlier: &[Timestamp], now: Timestamp) -> Option<Forecast> {
    if read == 0 {
        return None;
    }
    let runs = all.div_ceil(read).max(1);
    let first = earlier.iter().filter(|at| **at < now).min();
    let gaps = i64::try_from(earlier.iter().filter(|at| **at < now).count()).unwrap_or(i64::MAX);
    let every = first.map(|first| {
        let pace = Span::between(*first, now).0.as_millis() / i128::from(gaps.max(1));
        let all = pace.saturating_mul(i128::from(runs)).min(i128::from(i64::MAX));
        Span::from_millis(i64::try_from(all).unwrap_or(i64::MAX))
    });
    Some(Forecast { runs, every })
}

/// How much of a policy's backups was read back, by what the catalog knows. What is known of no reading was never read.
pub fn of_backups(artifacts: &[ArtifactRecord], shelves: &[ShelfRead]) -> Option<Backups> {
    let mut backups = Backups { share: 0, oldest: None, wrong: 0 };
    let (mut bytes, mut recent, mut seen) = (0_u64, 0_u64, false);
    for artifact in artifacts {
        bytes = bytes.saturating_add(artifact.sealed_bytes.0);
        let of_it = |one: &&ShelfRead| one.store == artifact.store && one.shelf.to_string() == artifact.backup.as_str();
        if let Some(shelf) = shelves.iter().find(of_it) {
            seen = true;
            recent = recent.saturating_add(shelf.recent.0.min(artifact.sealed_bytes.0));
            backups.oldest = [backups.oldest, shelf.oldest].into_iter().flatten().min();
        }
    }
    for shelf in shelves {
        let known =
            artifacts.iter().any(|one| one.store == shelf.store && one.backup.as_str() == shelf.shelf.to_string());
        if known || shelf.shelf == crate::domain::ledger::Shelf::Log {
            backups.wrong += shelf.wrong;
        }
    }
    backups.share = share(recent, bytes, bytes > 0);
    (seen || backups.wrong > 0).then_some(backups)
}

/// What the ledger says of a number of objects together.
#[derive(Clone, Debug, PartialEq)]
pub enum ReadBack {
    /// All of them were right within the declared time; since this moment at the latest.
    Lately(Timestamp),
    /// One of them was wrong when it was last read.
    Wrong(Box<Wrong>, String),
    /// They were not all read lately: why.
    Not(String),
}

/// Judges whether all of these objects (their keys, and how long they must be; none: not known) were read and right within the declared time. Without a declared time nothing was.
pub fn read_back(
    objects: &[(String, Option<u64>)],
    read: &[LastRead],
    within: Option<Span>,
    now: Timestamp,
) -> ReadBack {
    let read: HashMap<&str, &LastRead> = read.iter().map(|one| (one.key.as_str(), one)).collect();
    let known = || objects.iter().filter_map(|(key, _)| read.get(key.as_str()));
    if let Some((one, wrong)) = known().find_map(|one| Some((one, one.wrong.as_ref()?))) {
        return ReadBack::Wrong(Box::new(wrong.clone()), one.key.clone());
    }
    let Some(within) = within else {
        return ReadBack::Not(
            "it was only listed, and not read: no time is declared in which a reading counts ([verify] within)"
                .to_owned(),
        );
    };
    let (since, mut oldest, mut missing) = (since(Some(within), now), None, 0_usize);
    for (key, bytes) in objects {
        let right = read.get(key.as_str()).filter(|one| bytes.is_none_or(|bytes| one.bytes.0 == bytes));
        // A moment that is yet to come is none at which anything was right.
        match right.and_then(|one| one.right_at(Depth::Sealed)).filter(|at| (since..=now).contains(at)) {
            Some(at) => oldest = Some(oldest.map_or(at, |oldest: Timestamp| oldest.min(at))),
            None => missing += 1,
        }
    }
    match (missing, oldest) {
        (0, Some(oldest)) => ReadBack::Lately(oldest),
        (0, None) => ReadBack::Not("it was only listed, and not read".to_owned()),
        (missing, _) => {
            ReadBack::Not(format!("{missing} of its {} objects were not read back within {within}", objects.len()))
        }
    }
}

/// See [`of_backups`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Backups {
    /// What was read back lately of all stored bytes, in hundredths of a percent, rounded down.
    pub share: u32,
    /// When the part was read that was not for the longest time, of those that were ever.
    pub oldest: Option<Timestamp>,
    /// Objects that were wrong when they were last read, those of the log among them.
    pub wrong: u64,
}

/// Adds to where a policy stands what was wrong when it was last read: a good run since then looked at other objects.
pub fn weigh(standing: &mut Standing, backups: Option<&Backups>) {
    let Some(wrong) = backups.map(|backups| backups.wrong).filter(|wrong| *wrong > 0) else { return };
    let noun = if wrong == 1 { "stored object was" } else { "stored objects were" };
    standing.verdict = Verdict::Failed;
    standing.wrong.insert(
        0,
        format!("{wrong} {noun} wrong when last read back, and not right since: `lifeboat drift` names what"),
    );
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
