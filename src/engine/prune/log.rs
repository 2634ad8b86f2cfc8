//! The log: what no backup in any store of the policy needs.

use futures_util::StreamExt;
use jiff::Timestamp;

use super::act::{Means, PRUNE, Steady};
use super::report::LogPruned;
use super::survey::{AT_ONCE, Survey};
use super::{Found, StorePruned};
use crate::domain::check::{Broke, Stop};
use crate::domain::hole::{Acknowledged, HOLE_FORMAT};
use crate::domain::policy::Policy;
use crate::domain::run::Event;
use crate::domain::units::{ByteSize, Span};
use crate::domain::wal::{Segment, WalName};
use crate::judge::retention::log::{self, Base, File, Needs, Stretch};
use crate::seal::{self, TrustedSigners};

/// Files that are written down and taken away together.
const TOGETHER: usize = 256;

/// Decides. Backups that other stores have count as well: a restore takes the log from wherever it is.
pub(super) async fn plan(
    policy: &Policy,
    all: &[Survey],
    seen: &Survey,
    trusted: &TrustedSigners,
    may: bool,
    now: Timestamp,
) -> Result<LogPruned, Broke> {
    let keep = keep(policy);
    let backups = || all.iter().flat_map(|survey| &survey.backups);
    let bases: Vec<Base> = backups().filter_map(|backup| backup.base.clone()).collect();
    let unread = backups().filter(|backup| backup.may_need_log && backup.kept.says.is_err()).count();
    let needs = Needs::of(&bases, keep, now);
    let mut files = Vec::new();
    if may && unread == 0 {
        let named = seen.objects.iter().filter_map(|object| {
            let name = seal::wal_record_in(&policy.name, &object.key)?;
            needs.may_go(name, object.modified).then_some((name, object.modified))
        });
        let reading = named.map(async |(name, written)| {
            let record = seal::load_wal_record(&*seen.store, &policy.name, name, trusted).await;
            (name, written, record)
        });
        let mut reading = futures_util::stream::iter(reading.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
        while let Some((name, written, record)) = reading.next().await {
            let of = match record {
                Ok(Some(record)) => Ok(record.system_identifier),
                Ok(None) => continue,
                Err(Stop::Found(findings)) => {
                    Err(findings.first().map_or("?", |finding| finding.message.as_str()).to_owned())
                }
                Err(Stop::Broke(broke)) => return Err(broke),
            };
            files.push(File { name, written, of });
        }
    }
    Ok(LogPruned { plan: log::plan(&files, &needs, unread, keep), ..LogPruned::default() })
}

fn keep(policy: &Policy) -> Option<Span> {
    policy.wal.as_ref().and_then(|wal| wal.keep)
}

/// Takes away what the plan says. Somebody answers for a stretch before it goes: `verify --wal` never finds it missing.
pub(super) async fn remove(
    means: &Means<'_>,
    found: &Found,
    seen: &Survey,
    steady: &Steady,
    pruned: &mut StorePruned,
) -> Result<(), Broke> {
    let plan = pruned.log.plan.clone();
    if plan.delete.is_empty() || found.seen.is_empty() {
        return Ok(());
    }
    means.or_stop(steady).await?;
    for hole in &plan.holes {
        answer_for(means, seen, *hole).await?;
    }
    for names in plan.delete.chunks(TOGETHER) {
        let (Some(first), Some(last)) = (names.first(), names.last()) else { continue };
        means.or_stop(steady).await?;
        let bytes: u64 = names.iter().map(|name| length(means, seen, *name)).sum();
        // Written down before: of what is gone there is a record, whatever comes between.
        let event = Event::LogRemoved {
            store: seen.place.clone(),
            first: *first,
            last: *last,
            files: names.len() as u64,
            bytes: ByteSize(bytes),
            why: plan.reasons.join("; "),
        };
        means.record(event).await?;
        for name in names {
            pruned.log.bytes.0 += seal::remove_wal(&*seen.store, &means.policy.name, *name).await?;
            pruned.log.removed += 1;
        }
    }
    Ok(())
}

/// How long the objects of a file are.
fn length(means: &Means<'_>, seen: &Survey, name: WalName) -> u64 {
    let prefix = format!("{}/wal/{:08X}/{name}.", means.policy.name, name.timeline());
    let mine = seen.objects.iter().filter(|object| object.key.starts_with(&prefix) && object.key.ends_with(".age"));
    mine.map(|object| object.bytes).sum()
}

/// Signs that a stretch is gone on purpose. One that begins where another does goes on from its end.
async fn answer_for(means: &Means<'_>, seen: &Survey, stretch: Stretch) -> Result<(), Broke> {
    let keep = keep(means.policy).unwrap_or(Span::ZERO);
    let place = |segment: Segment| (segment.log, segment.segment);
    let mut from = Some(stretch.from);
    while let Some(first) = from.filter(|first| place(*first) <= place(stretch.to)) {
        let hole = Acknowledged {
            format: HOLE_FORMAT.to_owned(),
            policy: means.policy.name.clone(),
            from: first,
            to: stretch.to,
            segment_bytes: stretch.segment_bytes,
            owner: PRUNE.to_owned(),
            reason: format!(
                "not kept: the log reaches back {keep} ([wal] keep), and no backup needs this stretch for itself"
            ),
            at: means.now,
        };
        if seal::put_hole(&*seen.store, &hole, means.signer).await? {
            return means.record(Event::HoleAcknowledged(Box::new(hole))).await;
        }
        let (holes, _) = seal::load_holes(&*seen.store, &means.policy.name, means.trusted).await?;
        let there = holes.iter().find(|hole| hole.from == first).ok_or_else(|| {
            let hint = "look at it with `lifeboat wal acknowledge POLICY --list`; nothing was taken away";
            Broke::hinted(format!("what is acknowledged from {first} on cannot be believed"), hint)
        })?;
        from = there.to.next(stretch.segment_bytes);
    }
    Ok(())
}
