//! What of the log is not in the store yet: the source and the spool are asked, and only what they say is told.

use std::collections::BTreeSet;

use serde::Serialize;

use super::audit::{Audit, Held};
use super::{job, spool};
use crate::backup::wal::slot;
use crate::domain::check::{Broke, Finding};
use crate::domain::ids::PlaceName;
use crate::domain::observed::Observed;
use crate::domain::policy::Policy;
use crate::domain::units::Span;
use crate::domain::wal::{Piece, Segment, SourceLog, Waiting, WalName, chain};
use crate::engine::House;
use crate::judge::underway::{self, TOLERANCE};
use crate::probe;

/// A file that is on its way into the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Uploading {
    /// Which.
    pub name: String,
    /// Where it is, and how far.
    pub words: String,
}

/// What is known beside the store.
pub struct Outside {
    /// The store that the log goes to.
    pub place: PlaceName,
    source: Result<SourceLog, Broke>,
    names: Result<BTreeSet<WalName>, Broke>,
    waiting: Option<Waiting>,
}

/// Asks the source and looks into the spool. Done before the store is listed: what is then not in the store was not there either when they answered. None: the policy
/// can use no log.
pub async fn outside(house: &House, policy: &Policy) -> Option<Outside> {
    let place = job(policy)?.store.clone();
    let source = async {
        let endpoint = house.source(&policy.source)?;
        probe::source_log(&endpoint, &slot::name_of(&policy.name)).await
    };
    let source = source.await;
    let (names, waiting) = match (spool::names(policy).await, spool::waiting(policy).await) {
        (Ok(names), Ok(waiting)) => (Ok(names), waiting),
        (Err(broke), _) | (_, Err(broke)) => (Err(broke), None),
    };
    Some(Outside { place, source, names, waiting })
}

impl Outside {
    /// The segment that the source is writing.
    pub(super) fn current(&self) -> Option<Segment> {
        self.source.as_ref().ok().map(|source| source.current)
    }

    /// Why the source could not be asked for its segments.
    pub(super) fn unasked(&self) -> Option<String> {
        match &self.source {
            Err(broke) => Some(broke.error.clone()),
            Ok(source) => match &source.finished {
                Observed::Unknown(why) => Some(why.clone()),
                Observed::Known(_) | Observed::Absent => None,
            },
        }
    }

    /// Where a segment is that the store does not have, if it can still come from there.
    pub(super) fn still_has(&self, segment: Segment) -> Option<Broke> {
        if self.names.as_ref().is_ok_and(|names| names.contains(&WalName::Segment(segment))) {
            let hint = "bring it into the store: `lifeboat wal flush POLICY`";
            return Some(Broke::hinted(format!("{segment} waits in the spool: it is not lost"), hint));
        }
        let source = self.source.as_ref().ok()?;
        let place = |segment: Segment| (segment.log, segment.segment);
        // Files of later names are old ones that are to be written over.
        let finished = segment.timeline < source.current.timeline || place(segment) <= place(source.current);
        let has = source.finished.known().is_some_and(|all| all.iter().any(|one| one.segment == segment));
        (finished && has).then(|| {
            let hint = "push it there again: `lifeboat wal push POLICY DATA/pg_wal/NAME`";
            Broke::hinted(format!("the source still has {segment}: it is not lost"), hint)
        })
    }

    /// Adds the states of what the store does not have, or not whole.
    pub(super) fn compare(&self, policy: &Policy, held: &Held, missing: &mut BTreeSet<String>, audit: &mut Audit) {
        let rpo = policy.objectives.rpo;
        let none = BTreeSet::new();
        let spooled = match &self.names {
            Ok(names) => names,
            Err(broke) => {
                audit.remarks.push(format!("what waits in the spool is not known: {}", broke.error));
                &none
            }
        };
        for name in spooled {
            let words = "in the spool: the store does not have it".to_owned();
            audit.uploading.push(Uploading { name: name.to_string(), words });
        }
        if let Some(waiting) = &self.waiting {
            let age = Span::between(waiting.since, crate::clock::now());
            if age > rpo {
                let why = format!("{} of the log wait since {:.0}: {rpo} is allowed", waiting.files, waiting.since);
                audit.findings.push(Finding::new("wal_delayed", format!("spool {}", waiting.dir.display()), why));
            }
        }
        match &self.source {
            Err(broke) => {
                let why = &broke.error;
                audit.remarks.push(format!(
                    "the source could not be asked what it has finished ({why}): nothing is said of that"
                ));
                self.in_pieces(held, None, audit);
            }
            Ok(source) => {
                self.in_pieces(held, Some(source), audit);
                let stranger = held.backups.iter().any(|(of, _)| *of != source.system_identifier);
                let from =
                    held.backups.iter().filter(|(of, _)| *of == source.system_identifier).map(|(_, end)| *end).min();
                let Some(from) = from else {
                    let why = if stranger {
                        "the source is of another cluster than the backups"
                    } else {
                        "there is no physical backup"
                    };
                    audit.remarks.push(format!("{why}: nothing is said of what the source has finished"));
                    return;
                };
                audit.remarks.extend(underway::remarks(source));
                let spooled = spooled.iter().filter_map(|name| match name {
                    WalName::Segment(segment) => Some(*segment),
                    _ => None,
                });
                let there: BTreeSet<Segment> =
                    held.records.keys().chain(&held.damaged).copied().chain(spooled).collect();
                let kept = policy.wal.as_ref().is_some_and(|wal| wal.stream) || source.archiver.is_some();
                if there.is_empty() && !kept {
                    audit
                        .remarks
                        .push("nobody keeps a log of the source: it archives nothing, and none is received".to_owned());
                    return;
                }
                let found = underway::underway(source, from, &there, TOLERANCE.min(rpo));
                for one in &found.young {
                    let words = format!("the source finished it {} ago: {}", one.age, one.why);
                    audit.uploading.push(Uploading { name: one.segment.clone(), words });
                }
                for one in found.late.iter().filter(|one| one.age > rpo) {
                    let why = format!(
                        "the source finished it at least {} ago, and neither the store nor the spool has it ({}): {rpo} is allowed",
                        one.age, one.why
                    );
                    audit.findings.push(Finding::new("wal_delayed", format!("log {}", one.segment), why));
                }
                // What the source still has can still come.
                found.late.iter().chain(&found.young).for_each(|one| {
                    missing.remove(&one.segment);
                });
                audit.delayed = found.late;
                if let (Some(first), Some(last)) = (found.undated.first(), found.undated.last()) {
                    audit.remarks.push(format!(
                        "the source has finished {first} to {last}, the store does not have all of them, and since when cannot be told"
                    ));
                }
                // Where nothing was ever stored, no log is kept: that is said of the whole.
                let unanswered =
                    |segment: &&Segment| !there.is_empty() && !held.holes.iter().any(|hole| hole.covers(**segment));
                for segment in found.gone.iter().filter(unanswered) {
                    if missing.insert(segment.to_string()) {
                        let why = "the source has finished it and no longer has it, and it is neither in the store nor in the spool";
                        audit.findings.push(Finding::new("wal_missing", format!("log {segment}"), why));
                    }
                }
            }
        }
    }

    /// Segments of which only a beginning is there.
    fn in_pieces(&self, held: &Held, source: Option<&SourceLog>, audit: &mut Audit) {
        let segments: BTreeSet<Segment> = held.pieces.keys().map(|piece| piece.segment).collect();
        for segment in segments.into_iter().filter(|segment| !held.records.contains_key(segment)) {
            let pieces: Vec<Piece> = held.pieces.keys().filter(|piece| piece.segment == segment).copied().collect();
            let to = chain(&pieces).last().map_or(0, |piece| piece.to);
            let pieces = format!("in pieces, {to} bytes of it");
            let work = match source.map(|source| source.receiver) {
                Some(Some(true)) => "a receiver is at work",
                Some(_) => {
                    audit.remarks.push(format!(
                        "{segment} is there {pieces}; no receiver is at work: the rest is at the source alone"
                    ));
                    continue;
                }
                None => "whether a receiver is at work is not known",
            };
            audit.uploading.push(Uploading { name: segment.to_string(), words: format!("{pieces}; {work}") });
        }
    }
}
