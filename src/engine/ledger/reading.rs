//! The objects of a plan are read, shelf by shelf, several at once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures_util::StreamExt;

use super::Record;
use super::shelf::{self, Came, Open};
use super::survey::{Found, Held, Survey, manifest_key};
use super::walk::Walk;
use crate::domain::check::Finding;
use crate::domain::ids::PlaceName;
use crate::domain::ledger::{Budget, Depth, Shelf};
use crate::domain::units::ByteSize;
use crate::engine::interrupt;
use crate::engine::verify::Reading as Eyesight;
use crate::seal::Opener;

/// Until when objects are begun.
struct Limit {
    began: Instant,
    time: Option<Duration>,
    begun: AtomicBool,
}

impl Limit {
    fn of(budget: Budget) -> Limit {
        let time = match budget {
            Budget::Time(span) => Some(span.to_std()),
            Budget::Share(_) | Budget::Bytes(_) => None,
        };
        Limit { began: Instant::now(), time, begun: AtomicBool::new(false) }
    }

    fn is_over(&self) -> bool {
        // The first one is always begun: a budget that is too small for it would never get any further.
        self.begun.load(Relaxed) && self.time.is_some_and(|time| self.began.elapsed() >= time)
    }

    /// Whether one more may be begun.
    fn begin(&self) -> bool {
        let goes_on = !self.is_over();
        self.begun.store(true, Relaxed);
        goes_on
    }
}

/// Reads them in this order. Gives which were read, and whether they were right.
pub(super) async fn read_all(
    seen: &Survey,
    order: &[usize],
    record: &Record,
    sight: &Eyesight,
    walk: &mut Walk,
) -> Vec<(usize, bool)> {
    let limit = Limit::of(walk.budget);
    let mut broken: BTreeSet<PlaceName> = BTreeSet::new();
    let mut done = Vec::new();
    for group in order.chunk_by(|a, b| seen.units[*a].key.0 == seen.units[*b].key.0) {
        let Some(held) = group.first().and_then(|at| seen.held.get(seen.units[*at].key.0)) else { continue };
        if limit.is_over() {
            break;
        }
        // A store that failed once is not asked for each of its objects: each would only repeat it.
        if broken.contains(&held.place) {
            continue;
        }
        let shelf = match shelf::open(held, &sight.trusted).await {
            Ok(shelf) => shelf,
            Err(broke) => {
                broken.insert(held.place.clone());
                walk.trouble(held.place.as_str(), broke);
                continue;
            }
        };
        if let Some(finding) = held.without_key(sight.opener.as_ref()) {
            let one = found(held, &key_of(held), finding);
            if !walk.found.contains(&one) {
                walk.found.push(one);
            }
        }
        let mut turn =
            Turn { held, opener: sight.opener.as_ref().filter(|_| held.opens()), record, walk, done: &mut done };
        match turn.read(&shelf, seen, group, sight, &limit).await {
            Went::On => {}
            Went::StoreBroke => {
                broken.insert(held.place.clone());
            }
            Went::Stopped => break,
        }
    }
    done
}

/// How a shelf's turn ended.
enum Went {
    On,
    StoreBroke,
    Stopped,
}

/// A shelf whose turn it is.
struct Turn<'a> {
    held: &'a Held,
    opener: Option<&'a Opener>,
    record: &'a Record,
    walk: &'a mut Walk,
    done: &'a mut Vec<(usize, bool)>,
}

impl Turn<'_> {
    async fn read(
        &mut self,
        shelf: &Open<'_>,
        seen: &Survey,
        group: &[usize],
        sight: &Eyesight,
        limit: &Limit,
    ) -> Went {
        let opener = self.opener;
        let one = async |at: usize| match limit.begin() {
            true => Some((at, shelf.read(seen.units[at].key.1, &sight.trusted, opener).await)),
            false => None,
        };
        let mut running =
            futures_util::stream::iter(group.iter().copied()).map(one).buffer_unordered(sight.threads.max(1));
        loop {
            let came = tokio::select! {
                biased;
                signal = interrupt::asked_to_stop() => {
                    self.walk.unproven.push(format!("interrupted by {signal}: the next run goes on from here"));
                    return Went::Stopped;
                }
                came = running.next() => came,
            };
            let Some(came) = came else { return Went::On };
            let Some((at, (key, bytes, came))) = came else { continue };
            if let Came::Broke(broke) = came {
                self.walk.trouble(self.held.place.as_str(), broke);
                return Went::StoreBroke;
            }
            if let Some(right) = self.take(&key, bytes, came) {
                sight.progress.moved(bytes.0);
                self.done.push((at, right));
            }
            if let Err(broke) = self.record.flush_if_due().await {
                self.walk.trouble("catalog", broke);
                return Went::Stopped;
            }
        }
    }

    /// Takes in what came of an object: whether it was right; none: it is there no more.
    fn take(&mut self, key: &str, bytes: ByteSize, came: Came) -> Option<bool> {
        let (depth, finding) = match came {
            Came::Right => (if self.opener.is_some() { Depth::Opened } else { Depth::Sealed }, None),
            Came::Wrong(depth, finding) => (depth, Some(finding)),
            Came::Gone | Came::Broke(_) => {
                self.walk.gone += 1;
                return None;
            }
        };
        self.walk.objects += 1;
        self.walk.bytes.0 = self.walk.bytes.0.saturating_add(bytes.0);
        // Bytes that are as they were stored are right, though nobody here has a key for them.
        let of_bytes = finding.clone().filter(|finding| finding.code != "wrong_key");
        self.record.object(&self.held.place, &self.held.policy, key, bytes, depth, of_bytes);
        let right = finding.is_none();
        self.walk.found.extend(finding.map(|finding| found(self.held, key, finding)));
        Some(right)
    }
}

fn key_of(held: &Held) -> String {
    match &held.shelf {
        Shelf::Backup(backup) => manifest_key(&held.policy, backup),
        Shelf::Log => format!("{}/wal", held.policy),
    }
}

fn found(held: &Held, key: &str, finding: Finding) -> Found {
    Found { store: held.place.clone(), policy: held.policy.clone(), key: key.to_owned(), finding }
}
