//! What can be brought back: which backups, along which timeline, and to which moments.

use jiff::Timestamp;

use super::{Asked, Trouble};
use crate::domain::check::{Broke, Finding};
use crate::domain::policy::Method;
use crate::engine::restore::Request;
use crate::engine::restore::choose::{Chosen, candidates};
use crate::engine::wal::Log;
use crate::judge::search::{Moments, Reachable, window};
use crate::judge::wal::{Archive, Follow, Reach, far_enough, reach};
use crate::progress::Progress;

/// A backup, and the log that goes on from it.
pub(super) struct Base {
    pub chosen: Chosen,
    ended: Timestamp,
    /// The last commit that comes back.
    last: Timestamp,
    reach: Reach,
}

/// All that is needed to restore to any moment of the window.
pub(super) struct Ground {
    pub log: Log,
    pub archive: Archive,
    pub moments: Moments,
    pub timeline: u32,
    pub warnings: Vec<String>,
    /// The one that ended last first.
    bases: Vec<Base>,
}

impl Ground {
    /// Reads manifests and the records of the log; nothing is fetched.
    pub(super) async fn survey(request: &Request, asked: &Asked, progress: &dyn Progress) -> Result<Ground, Trouble> {
        let mut held = candidates(request, &[Method::Physical], usize::MAX, progress).await?;
        let mut warnings = Vec::new();
        // Of several clusters under one policy's name, the one that it has now.
        let newest = held.first().map(identifier);
        let foreign = held.len();
        held.retain(|one| Some(identifier(one)) == newest && one.sealed.manifest.wal.is_some());
        if held.len() < foreign {
            warnings
                .push(format!("{} backups are of another cluster, or hold no log: passed over", foreign - held.len()));
        }
        held.sort_by_key(|one| std::cmp::Reverse(one.sealed.manifest.ended()));
        // An older backup comes no further than a newer one, and needs more of the log.
        let oldest = asked.since.and_then(|since| held.iter().position(|one| one.sealed.manifest.ended() <= since));
        held.truncate(oldest.map_or(held.len(), |place| place + 1));
        let begins = held.iter().min_by_key(|one| one.sealed.manifest.wal.as_ref().map(|wal| wal.end));
        let begins = begins.ok_or_else(|| Broke::new("no physical backup holds its log"))?;
        let manifest = &begins.sealed.manifest;
        let log = Log::list(&request.stores, &manifest.policy, &request.trusted).await?;
        if log.is_empty() {
            let hint = "let the source push it (archive_command = 'lifeboat wal push …'): see docs/wal.md";
            return Err(Broke::hinted(
                "the store holds no log: no moment can be looked at but the ends of backups",
                hint,
            )
            .into());
        }
        let (archive, findings) = log.behind(manifest, &request.opener, None).await?;
        let said = |finding: &Finding| format!("passed over: {}: {}", finding.object, finding.message);
        warnings.extend(findings.iter().map(said));
        let (timeline, bases) = bases(held, &archive, asked.follow, &mut warnings)?;
        let reachable = bases.iter().map(|base| Reachable { from: base.ended, last: base.last }).collect::<Vec<_>>();
        let window = window(&reachable, asked.since, asked.before).map_err(|why| {
            let hint = "choose another --since or --before; `lifeboat verify POLICY --wal` shows what there is";
            Broke::hinted(format!("there is nothing to search: {why}"), hint)
        })?;
        warnings.extend(window.warnings);
        Ok(Ground { log, archive, moments: window.moments, timeline, warnings, bases })
    }

    /// Whether a restore must be told which timeline, to come to the same.
    pub(super) fn timeline_matters(&self) -> bool {
        !self.archive.histories.is_empty()
    }

    /// The newest backup that had ended by one of the moments and from which it can be reached, and as much of the log as that takes.
    pub(super) fn base(&self, index: u64) -> Option<(&Base, Reach)> {
        if self.moments.is_end_of_log(index) {
            let furthest = self.bases.iter().map(|base| base.last).max()?;
            let base = self.bases.iter().find(|base| base.last == furthest)?;
            return Some((base, base.reach.clone()));
        }
        let at = self.moments.at(index);
        let base = self.bases.iter().find(|base| base.ended <= at && at < base.last)?;
        Some((base, far_enough(&base.reach, &self.archive, at)))
    }
}

fn identifier(one: &Chosen) -> String {
    one.sealed.manifest.fingerprint.server.system_identifier.clone()
}

/// Each backup with how far it comes, all along one timeline: else a moment would have two pasts.
fn bases(
    held: Vec<Chosen>,
    archive: &Archive,
    follow: Follow,
    warnings: &mut Vec<String>,
) -> Result<(u32, Vec<Base>), Broke> {
    let wal = |one: &Chosen| one.sealed.manifest.wal.clone();
    let timeline = match follow {
        Follow::Timeline(wanted) => wanted,
        Follow::Latest => {
            let newest = |one: &Chosen| Some(reach(&wal(one)?, archive, Follow::Latest).ok()?.timeline);
            held.iter().filter_map(newest).max().ok_or_else(|| Broke::new("no timeline goes on from a backup"))?
        }
    };
    let (mut bases, mut last_why) = (Vec::new(), None);
    for chosen in held {
        let Some(range) = wal(&chosen) else { continue };
        let ended = whole_microsecond(chosen.sealed.manifest.ended());
        match reach(&range, archive, Follow::Timeline(timeline)) {
            Ok(reach) => match reach.last_commit.map(|last| last.at).filter(|last| *last > ended) {
                Some(last) => bases.push(Base { chosen, ended, last, reach }),
                None => {
                    last_why = Some(format!("no commit is in the log behind backup {}", chosen.sealed.manifest.backup))
                }
            },
            Err(no) => {
                let why = format!("backup {} is passed over: {}", chosen.sealed.manifest.backup, no.0);
                warnings.push(why.clone());
                last_why = Some(why);
            }
        }
    }
    if bases.is_empty() {
        let hint = "see what there is with `lifeboat verify POLICY --wal`";
        let why = last_why.unwrap_or_default();
        return Err(Broke::hinted(format!("no moment can be looked at but the ends of backups: {why}"), hint));
    }
    Ok((timeline, bases))
}

/// The first whole microsecond from then on: servers know no less.
fn whole_microsecond(at: Timestamp) -> Timestamp {
    let rest = at.subsec_nanosecond().rem_euclid(1000);
    let more = jiff::SignedDuration::from_nanos(if rest == 0 { 0 } else { i64::from(1000 - rest) });
    at.checked_add(more).unwrap_or(at)
}
