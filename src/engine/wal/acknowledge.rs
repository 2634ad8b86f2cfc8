//! `lifeboat wal acknowledge`: somebody answers for a stretch of the log that is lost for good.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use super::job;
use super::outside::{Outside, outside};
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::hole::{Acknowledged, HOLE_FORMAT};
use crate::domain::ids::BackupId;
use crate::domain::lsn::Lsn;
use crate::domain::policy::{BackupJob, Policy};
use crate::domain::run::Event;
use crate::domain::wal::{Segment, WalName};
use crate::engine::House;
use crate::engine::house::new_run;
use crate::seal::{self, Opener, TrustedSigners, WalSealer};
use crate::store::Store;

/// More segments than this are not looked at one by one.
const MOST: usize = 100_000;
/// Longest name of an owner, and longest reason, in bytes.
const WORDS: usize = 1_000;

/// A place in the log, as a person names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A segment.
    Segment(Segment),
    /// A position: the segment that it lies in.
    Lsn(Lsn),
}

/// What is to be acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// From where on.
    pub from: Place,
    /// Up to and with this; none: up to the next segment that is there.
    pub to: Option<Place>,
    /// Who answers for it.
    pub owner: String,
    /// Why it is lost.
    pub reason: String,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answered {
    /// What is in the store now.
    pub hole: Acknowledged,
    /// How many segments.
    pub segments: u64,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// Why it was not.
#[derive(Debug)]
pub enum Refusal {
    /// It was asked wrongly.
    Misasked(Broke),
    /// It is not lost, or could not be looked at.
    Broke(Broke),
}

impl From<Broke> for Refusal {
    fn from(broke: Broke) -> Refusal {
        Refusal::Broke(broke)
    }
}

/// The holes of a policy's log that somebody answers for, and what is wrong with their records.
pub async fn holes(house: &House, policy: &Policy) -> Result<(Vec<Acknowledged>, Vec<Finding>), Broke> {
    let store = house.store(&needs_log(policy)?.store)?;
    seal::load_holes(&*store, &policy.name, &house.trusted()?).await
}

fn needs_log(policy: &Policy) -> Result<&BackupJob, Broke> {
    job(policy).ok_or_else(|| {
        Broke::hinted(
            format!("policy {} takes no physical backup, and only those can use the log", policy.name),
            "a log that nothing needs has no holes",
        )
    })
}

/// Looks whether the stretch is really lost, signs that somebody answers for it, and writes that down in the store and in the catalog.
pub async fn acknowledge(
    house: &House,
    policy: &Policy,
    asked: &Asked,
    opener: Option<&Opener>,
) -> Result<Answered, Refusal> {
    for (what, text) in [("owner", &asked.owner), ("reason", &asked.reason)] {
        if text.trim().is_empty() || text.len() > WORDS || text.chars().any(char::is_control) {
            let hint = "it stands in every report: write a line of it";
            let error = format!("the {what} is empty, longer than {WORDS} bytes, or has more than one line");
            return Err(Refusal::Misasked(Broke::hinted(error, hint)));
        }
    }
    let job = needs_log(policy)?;
    let (store, trusted, signer) = (house.store_to_fill(policy, &job.store).await?, house.trusted()?, house.signer()?);
    // Asked before the store is looked at, as for `verify --wal`.
    let outside = outside(house, policy).await;
    let names = seal::list_wal(&*store, &policy.name).await?;
    if names.is_empty() {
        let error = format!("there is no log of {} in {}", policy.name, store.url());
        return Err(Broke::hinted(
            error,
            "a log that was never there has no holes: see docs/wal.md for how it gets there",
        )
        .into());
    }
    let ground = Ground { store, trusted, names, policy, outside: outside.as_ref(), opener };
    let backups = ground.backups().await?;
    let Some(&(_, timeline, newest, bytes)) = backups.last() else {
        let error = format!("there is no physical backup of {} that could use a log", policy.name);
        return Err(Broke::hinted(error, "take one: a log that nothing needs has no holes").into());
    };
    let earliest = backups.iter().map(|(_, _, end, _)| *end).min().unwrap_or(newest);
    let segment = |place: Place| match place {
        Place::Segment(segment) => segment,
        Place::Lsn(lsn) => Segment::holding(timeline, lsn, bytes),
    };
    let from = segment(asked.from);
    let to = asked.to.map(segment);
    for one in [Some(from), to].into_iter().flatten() {
        if one.start(bytes).is_none() {
            let error = format!("no segment is called {one} where segments are {bytes} bytes long");
            return Err(Refusal::Misasked(Broke::hinted(
                error,
                "`lifeboat verify POLICY --wal` names what is missing",
            )));
        }
    }
    if to.is_some_and(|to| to.timeline != from.timeline || to < from) {
        let error = format!("{} does not lie behind {from} on its timeline", to.unwrap_or(from));
        return Err(Refusal::Misasked(Broke::hinted(error, "--from comes first; each timeline has holes of its own")));
    }
    let needed = Segment::holding(from.timeline, earliest, bytes);
    let place = |segment: Segment| (segment.log, segment.segment);
    if place(from) < place(needed) {
        let hint = format!("the oldest backup ends in {needed}: what lies before it is not needed");
        return Err(Broke::hinted(format!("no backup needs {from}"), hint).into());
    }
    let (holes, _) = seal::load_holes(&*ground.store, &policy.name, &ground.trusted).await?;
    let (mut at, mut last, mut segments) = (Some(from), from, 0_u64);
    let behind = ground.behind();
    while let Some(segment) = at.filter(|at| to.is_none_or(|to| *at <= to)) {
        if segments as usize >= MOST {
            return Err(
                Broke::hinted(format!("more than {MOST} segments are not looked at at once"), "say --to").into()
            );
        }
        if let Some(hole) = holes.iter().find(|hole| hole.covers(segment)) {
            let hint = "an acknowledgement is never changed; see `lifeboat wal acknowledge POLICY --list`";
            return Err(Broke::hinted(format!("{segment} is {} already", hole.words()), hint).into());
        }
        match ground.why_not_lost(segment).await? {
            None if behind.is_some_and(|behind| place(segment) < place(behind)) => {}
            None => {
                let hint = "what comes next may still come: only a stretch that something follows is a hole";
                return Err(
                    Broke::hinted(format!("nothing behind {segment} is there: the log ends before it"), hint).into()
                );
            }
            // Without an end it ends here.
            Some(_) if to.is_none() && segments > 0 => break,
            Some(broke) => return Err(broke.into()),
        }
        (last, segments) = (segment, segments + 1);
        at = segment.next(bytes);
    }
    let hole = Acknowledged {
        format: HOLE_FORMAT.to_owned(),
        policy: policy.name.clone(),
        from,
        to: last,
        segment_bytes: bytes,
        owner: asked.owner.trim().to_owned(),
        reason: asked.reason.trim().to_owned(),
        at: crate::clock::now(),
    };
    let sealer = WalSealer::new(
        Arc::clone(&ground.store),
        policy.name.clone(),
        &policy.encryption.recipients,
        job.level,
        signer,
    );
    if !sealer.map_err(Broke::from)?.put_hole(&hole).await.map_err(Broke::from)? {
        let hint = "somebody was quicker, or its record is damaged: see `lifeboat wal acknowledge POLICY --list`";
        return Err(Broke::hinted(format!("a hole that begins with {from} is acknowledged already"), hint).into());
    }
    let mut warnings = ground.unasked();
    // The store has it, and that is what counts.
    if let Err(broke) = house.record(&policy.name, new_run(), Event::HoleAcknowledged(Box::new(hole.clone()))).await {
        warnings.push(format!("it is in the store, and could not be written into the catalog: {}", broke.error));
    }
    Ok(Answered { hole, segments, warnings })
}

/// What a stretch is held against.
struct Ground<'a> {
    store: Arc<dyn Store>,
    trusted: TrustedSigners,
    names: BTreeSet<WalName>,
    policy: &'a Policy,
    outside: Option<&'a Outside>,
    opener: Option<&'a Opener>,
}

impl Ground<'_> {
    /// Id, timeline, end and length of segments of each physical backup, oldest first.
    async fn backups(&self) -> Result<Vec<(BackupId, u32, Lsn, u64)>, Broke> {
        let mut found = Vec::new();
        for (_, backup) in seal::list_backups(&*self.store, Some(&self.policy.name), &self.trusted).await? {
            match seal::load_manifest(&*self.store, &self.policy.name, &backup, &self.trusted).await {
                Ok(sealed) => {
                    let bytes = sealed.manifest.fingerprint.server.wal_segment_bytes;
                    found.extend(sealed.manifest.wal.as_ref().map(|range| (backup, range.timeline, range.end, bytes)));
                }
                // That is for `verify` to say.
                Err(Stop::Found(_)) => {}
                Err(Stop::Broke(broke)) => return Err(broke),
            }
        }
        Ok(found)
    }

    /// The furthest that anybody has: what lies before it will not come by itself.
    fn behind(&self) -> Option<Segment> {
        let stored = self.names.iter().filter_map(|name| match name {
            WalName::Segment(segment) => Some(*segment),
            WalName::Piece(piece) => Some(piece.segment),
            WalName::History { .. } | WalName::Label { .. } | WalName::Partial(_) => None,
        });
        let source = self.outside.and_then(Outside::current);
        stored.chain(source).max_by_key(|segment| (segment.log, segment.segment))
    }

    /// None: it is lost, or damaged, or not whole.
    async fn why_not_lost(&self, segment: Segment) -> Result<Option<Broke>, Broke> {
        if let Some(broke) = self.outside.and_then(|outside| outside.still_has(segment)) {
            return Ok(Some(broke));
        }
        let name = WalName::Segment(segment);
        let (store, policy) = (&*self.store, &self.policy.name);
        let read = match self.opener {
            Some(opener) => seal::fetch_wal(store, policy, name, &self.trusted, opener)
                .await
                .map(|found| found.map(|(record, _)| record)),
            None => seal::check_wal(store, policy, name, &self.trusted, None).await,
        };
        match read {
            Ok(None) | Err(Stop::Found(_)) => Ok(None),
            Ok(Some(record)) if record.contents.as_ref().is_some_and(|contents| !contents.whole) => Ok(None),
            Ok(Some(_)) => Ok(Some(Broke::hinted(
                format!("{segment} is in {}, whole and right: it is not lost", store.url()),
                "`lifeboat verify POLICY --wal` names what is missing; --to is the last segment that is lost",
            ))),
            Err(Stop::Broke(broke)) => Err(broke),
        }
    }

    fn unasked(&self) -> Vec<String> {
        let unasked = self.outside.and_then(Outside::unasked);
        let warn = |why: String| format!("the source could not be asked whether it still has it: {why}");
        unasked.map(warn).into_iter().collect()
    }
}
