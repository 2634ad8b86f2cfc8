//! `lifeboat verify --wal`: is all of the log there that the backups need to go on from, and can it be opened?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt;
use serde::Serialize;

use super::outside::{Outside, Uploading};
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::hole::Acknowledged;
use crate::domain::ids::{BackupId, PlaceName, PolicyName};
use crate::domain::lsn::Lsn;
use crate::domain::policy::Policy;
use crate::domain::wal::{Commit, History, Piece, Segment, WalName, WalRecord};
use crate::engine::ledger::Eyes;
use crate::judge::hole;
use crate::judge::underway::Outstanding;
use crate::judge::wal::{self, Archive, Follow};
use crate::seal::{self, Opener};
use crate::store::Store;

/// So many missing segments are named one by one.
const NAMED: usize = 100;

/// Segments of one timeline that follow each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stretch {
    /// The timeline.
    pub timeline: u32,
    /// The first.
    pub first: String,
    /// The last.
    pub last: String,
    /// How many.
    pub segments: u64,
    /// The latest commit in it, as far as that is known.
    pub last_commit: Option<Commit>,
}

/// A hole that somebody answers for, and what it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// Which, whose and why.
    pub hole: Acknowledged,
    /// Backups that cannot be brought beyond it.
    pub limits: Vec<BackupId>,
}

/// What was seen of the log in one store.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Audit {
    /// Where.
    pub store: PlaceName,
    /// Segments that are there, in stretches without a gap.
    pub found: Vec<Stretch>,
    /// Segments that are not there, although a backup needs them to go on.
    pub missing: Vec<String>,
    /// Holes that somebody answers for.
    pub acknowledged: Vec<Limit>,
    /// What is on its way there.
    pub uploading: Vec<Uploading>,
    /// What the source finished longer ago than is tolerated, and nobody has.
    pub delayed: Vec<Outstanding>,
    /// What could not be asked, and what else is to be known.
    pub remarks: Vec<String>,
    /// Files that were read and verified.
    pub verified: u64,
    /// Whether they were opened too, or only looked at from outside.
    pub opened: bool,
    /// How far each physical backup can be brought, and what stops it.
    pub reach: Vec<(BackupId, String)>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// What of the log one store holds.
pub(super) struct Held {
    pub records: BTreeMap<Segment, WalRecord>,
    pub pieces: BTreeMap<Piece, WalRecord>,
    pub histories: BTreeMap<u32, History>,
    /// What somebody answers for.
    pub holes: Vec<Acknowledged>,
    /// Segments that are there and not right: they are neither on their way nor late.
    pub damaged: BTreeSet<Segment>,
    /// Of which clusters the physical backups are, and where in the log they end.
    pub backups: Vec<(String, Lsn)>,
}

/// Reads the whole log of a policy in one store back; without an opener only lengths, hashes and signatures are looked at; a witness hears of each. `outside`: what the source
/// and the spool have, for the store that the log goes to.
pub async fn audit(
    store: &Arc<dyn Store>,
    place: &PlaceName,
    policy: &Policy,
    eyes: &Eyes<'_>,
    outside: Option<&Outside>,
    parallel: usize,
) -> Result<Audit, Broke> {
    let (plan, policy, trusted) = (policy, &policy.name, eyes.trusted);
    let watched = eyes.opener.map(|opener| match eyes.witness {
        Some(witness) => opener.watched(Arc::clone(witness)),
        None => opener.clone(),
    });
    let opener = watched.as_ref();
    let names = seal::list_wal(&**store, policy).await?;
    let mut audit = Audit {
        store: place.clone(),
        found: Vec::new(),
        missing: Vec::new(),
        acknowledged: Vec::new(),
        uploading: Vec::new(),
        delayed: Vec::new(),
        remarks: Vec::new(),
        verified: 0,
        opened: opener.is_some(),
        reach: Vec::new(),
        findings: Vec::new(),
    };
    let reading = names.iter().map(async |name| (*name, read(store, policy, *name, eyes, opener).await));
    let mut reading = futures_util::stream::iter(reading.collect::<Vec<_>>()).buffered(parallel.max(1));
    let (records, pieces, histories) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let (holes, wrong) = seal::load_holes(&**store, policy, trusted).await?;
    audit.findings.extend(wrong);
    audit.acknowledged = holes.iter().map(|hole| Limit { hole: hole.clone(), limits: Vec::new() }).collect();
    let mut held = Held { records, pieces, histories, holes, damaged: BTreeSet::new(), backups: Vec::new() };
    while let Some((name, read)) = reading.next().await {
        match read {
            Ok(Some((record, history))) => {
                audit.verified += 1;
                match name {
                    WalName::Segment(segment) => drop(held.records.insert(segment, record)),
                    WalName::Piece(piece) => drop(held.pieces.insert(piece, record)),
                    WalName::History { timeline } => held.histories.extend(history.map(|history| (timeline, history))),
                    WalName::Label { .. } | WalName::Partial(_) => {}
                }
            }
            // Pieces go when their segment is there as a whole.
            Ok(None) if matches!(name, WalName::Piece(_)) => {}
            // Taken away between the list and now.
            Ok(None) => audit.findings.push(Finding::new(
                "wal_missing",
                format!("log {name}"),
                "it is gone since it was listed",
            )),
            // That it is damaged is what is answered for.
            Err(Stop::Found(_)) if held.answers_for(name) => {}
            Err(Stop::Found(findings)) => {
                if let WalName::Segment(segment) = name {
                    held.damaged.insert(segment);
                }
                audit.findings.extend(findings);
            }
            Err(Stop::Broke(broke)) => return Err(broke),
        }
    }
    for limit in &audit.acknowledged {
        let back = held.records.iter().find(|(segment, record)| {
            limit.hole.covers(**segment) && record.contents.as_ref().is_none_or(|contents| contents.whole)
        });
        if let Some((segment, _)) = back {
            audit
                .remarks
                .push(format!("{segment} is there, although it lies in a hole that is {}", limit.hole.words()));
        }
    }
    let mut missing = BTreeSet::new();
    for (_, backup) in seal::list_backups(&**store, Some(policy), trusted).await? {
        let sealed = match seal::load_manifest(&**store, policy, &backup, trusted).await {
            Ok(sealed) => sealed,
            // That is for `verify` without --wal to say.
            Err(Stop::Found(_)) => continue,
            Err(Stop::Broke(broke)) => return Err(broke),
        };
        let (manifest, identifier) = (&sealed.manifest, &sealed.manifest.fingerprint.server.system_identifier);
        let Some(range) = &manifest.wal else { continue };
        held.backups.push((identifier.clone(), range.end));
        let bytes = manifest.fingerprint.server.wal_segment_bytes;
        let ours = |record: &WalRecord| record.system_identifier.as_ref().is_none_or(|of| of == identifier);
        let (histories, holes) = (held.histories.clone(), held.holes.clone());
        let mut archive = Archive { segment_bytes: bytes, histories, holes, ..Archive::default() };
        for (segment, record) in held.records.iter().filter(|(_, record)| ours(record)) {
            archive.add_segment(*segment, record.contents.clone());
        }
        let pieces = held.pieces.iter().filter(|(_, record)| ours(record));
        archive.add_pieces(&pieces.map(|(piece, record)| (*piece, record.contents.clone())).collect());
        match wal::reach(range, &archive, Follow::Latest) {
            Err(no) => audit.reach.push((backup, no.0)),
            Ok(reach) => {
                let commit = reach.last_commit.map(|last| format!(" ({})", last.at)).unwrap_or_default();
                let who = reach
                    .acknowledged
                    .as_ref()
                    .map(|words| format!("; behind it is a hole, {words}"))
                    .unwrap_or_default();
                let words = format!("to {}{commit} on timeline {}{who}", reach.until, reach.timeline);
                let stopped_by = reach.hole.map(|hole| hole.from).or(reach.branch_missing);
                for limit in
                    audit.acknowledged.iter_mut().filter(|limit| stopped_by.is_some_and(|at| limit.hole.covers(at)))
                {
                    limit.limits.push(backup.clone());
                }
                if let Some(hole) = reach.hole.filter(|hole| !hole::answered(hole, &archive)) {
                    let finding = Finding::new(
                        "wal_hole",
                        format!("log {}", hole.from),
                        format!("it is missing or not whole: backup {backup} cannot be brought beyond {}", reach.until),
                    );
                    audit.findings.push(finding.with(hole.from.to_string(), format!("next there: {}", hole.next)));
                    missing.extend(between(hole.from, hole.next, bytes, &archive));
                }
                if let Some(branch) =
                    reach.branch_missing.filter(|_| reach.hole.is_none() && reach.acknowledged.is_none())
                {
                    let why = format!(
                        "timeline {} begins with it, and it is not there: backup {backup} cannot be brought beyond {}",
                        branch.timeline, reach.until
                    );
                    audit.findings.push(Finding::new("wal_branch", format!("log {branch}"), why));
                    missing.insert(branch.to_string());
                }
                audit.reach.push((backup, words));
            }
        }
    }
    audit.found = stretches(&held.records);
    if let Some(outside) = outside {
        outside.compare(plan, &held, &mut missing, &mut audit);
    }
    audit.missing = missing.into_iter().take(NAMED).collect();
    Ok(audit)
}

/// One file: its record, its object from outside, and if there is a key, from inside; then a history as well.
async fn read(
    store: &Arc<dyn Store>,
    policy: &PolicyName,
    name: WalName,
    eyes: &Eyes<'_>,
    opener: Option<&Opener>,
) -> Result<Option<(WalRecord, Option<History>)>, Stop> {
    let trusted = eyes.trusted;
    let Some(opener) = opener else {
        let checked = seal::check_wal(&**store, policy, name, trusted, eyes.witness).await?;
        return Ok(checked.map(|record| (record, None)));
    };
    let history = |bytes: &[u8]| match name {
        WalName::History { .. } => {
            let parsed = History::parse(&String::from_utf8_lossy(bytes)).map(Some);
            parsed.map_err(|why| Finding::new("wal_history", format!("log {name}"), why))
        }
        WalName::Segment(_) | WalName::Piece(_) | WalName::Label { .. } | WalName::Partial(_) => Ok(None),
    };
    match seal::fetch_wal(&**store, policy, name, trusted, opener).await? {
        Some((record, bytes)) => Ok(Some((record, history(&bytes)?))),
        None => Ok(None),
    }
}

/// Names of what is missing from `from` to before `next`.
fn between(from: Segment, next: Segment, bytes: u64, archive: &Archive) -> Vec<String> {
    let mut names = Vec::new();
    let mut at = Some(from);
    while let Some(segment) = at.filter(|at| (at.log, at.segment) < (next.log, next.segment) && names.len() < NAMED) {
        if !archive.segments.contains_key(&segment) {
            names.push(segment.to_string());
        }
        at = segment.next(bytes);
    }
    names.retain(|name| archive.holes.iter().all(|hole| name.parse().is_ok_and(|segment| !hole.covers(segment))));
    names
}

impl Held {
    /// Whether a file lies in a hole that somebody answers for.
    fn answers_for(&self, name: WalName) -> bool {
        let segment = match name {
            WalName::Segment(segment) | WalName::Partial(segment) => segment,
            WalName::Piece(piece) => piece.segment,
            WalName::History { .. } | WalName::Label { .. } => return false,
        };
        self.holes.iter().any(|hole| hole.covers(segment))
    }
}

fn stretches(records: &BTreeMap<Segment, WalRecord>) -> Vec<Stretch> {
    let mut found: Vec<Stretch> = Vec::new();
    let mut expected: Option<Segment> = None;
    for (segment, record) in records {
        let commit = record.contents.as_ref().and_then(|contents| contents.last_commit);
        match found.last_mut().filter(|_| expected == Some(*segment)) {
            Some(stretch) => {
                stretch.last = segment.to_string();
                stretch.segments += 1;
                stretch.last_commit = [stretch.last_commit, commit].into_iter().flatten().max_by_key(|one| one.at);
            }
            None => found.push(Stretch {
                timeline: segment.timeline,
                first: segment.to_string(),
                last: segment.to_string(),
                segments: 1,
                last_commit: commit,
            }),
        }
        expected = segment.next(record.plain_bytes);
    }
    found
}
