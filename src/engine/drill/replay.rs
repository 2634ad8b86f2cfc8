//! The log behind a backup, in a drill: what the stores held of it at the moment of the loss.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use crate::domain::artifact::Manifest;
use crate::domain::check::{Broke, CheckName, CheckResult, Finding, Outcome, Stop};
use crate::domain::heartbeat::BeatTerms;
use crate::domain::observed::Observed;
use crate::domain::policy::Policy;
use crate::domain::transcript::LogReplayed;
use crate::engine::House;
use crate::engine::wal::{Bring, Log};
use crate::judge::wal::{self, Archive, Follow, Reach, Until};
use crate::probe;
use crate::progress::Progress;
use crate::scratch::{Recovery, Started};
use crate::seal::{self, Opener, SealedManifest};

/// What goes on from the backup.
pub(super) struct Behind {
    log: Log,
    archive: Archive,
    reach: Reach,
    until: Option<Timestamp>,
}

/// How much of the log is brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Far {
    /// All that was sealed by the loss.
    SealedBy(Timestamp),
    /// Up to a moment.
    Moment(Timestamp),
}

/// What goes on from the backup; none: the stores hold nothing that does. A hole on the way, a timeline that cannot be
/// followed, a file that its signer did not sign: findings, for what is behind them is lost.
pub(super) async fn behind(
    house: &House,
    policy: &Policy,
    sealed: &SealedManifest,
    opener: &Opener,
    far: Far,
) -> Result<Option<Behind>, Stop> {
    let manifest = &sealed.manifest;
    let Some(range) = &manifest.wal else { return Ok(None) };
    let log = list(house, policy, far).await?;
    if log.is_empty() {
        return match far {
            Far::SealedBy(_) => Ok(None),
            Far::Moment(_) => Err(no_log(policy).into()),
        };
    }
    let (by, until) = match far {
        Far::SealedBy(lost_at) => (Some(lost_at), None),
        Far::Moment(moment) => (None, Some(moment)),
    };
    let (archive, mut findings) = log.behind(manifest, opener, by).await?;
    let reach = wal::reach(range, &archive, Follow::Latest)
        .map_err(|no| Finding::new("wal_timeline", "write-ahead log", no.0))?;
    let reached = until.map(|moment| wal::within(&reach, &Until::Time(moment), false));
    if !matches!(reached, Some(Ok(()))) {
        if let Some(segment) = reach.branch_missing {
            let message = format!("timeline {} begins with it, and it is not in the store", segment.timeline);
            findings.push(Finding::new("wal_hole", format!("log {segment}"), message));
        } else if let Some(hole) = reach.hole {
            let who = reach.acknowledged.as_ref().map(|words| format!(" ({words})")).unwrap_or_default();
            let message = format!("it is missing or not whole: nothing comes back from {} on{who}", reach.until);
            let finding = Finding::new("wal_hole", format!("log {}", hole.from), message);
            findings.push(finding.with(hole.from.to_string(), format!("next there: {}", hole.next)));
        }
    }
    if !findings.is_empty() {
        return Err(Stop::Found(findings));
    }
    if let Some(Err(why)) = reached {
        return Err(Broke::hinted(
            why,
            "choose an earlier moment; `lifeboat find POLICY --reach latest` tells the last",
        )
        .into());
    }
    Ok((!reach.segments.is_empty()).then_some(Behind { log, archive, reach, until }))
}

/// What the stores hold of it. What reached a second store after the loss would not have been there, whenever the first had it.
async fn list(house: &House, policy: &Policy, far: Far) -> Result<Log, Broke> {
    let stores: Vec<_> = house.stores_of(policy)?.into_values().collect();
    let copy = house.only.as_ref().is_some_and(|only| House::is_copy(policy, only));
    let by = match far {
        Far::SealedBy(lost_at) if copy => Some(lost_at),
        Far::SealedBy(_) | Far::Moment(_) => None,
    };
    Log::list_by(&stores, &policy.name, &house.trusted()?, by).await
}

fn no_log(policy: &Policy) -> Broke {
    Broke::hinted(
        format!("no store of policy {} holds a log: there is no moment to go to behind a backup", policy.name),
        "see docs/wal.md: `lifeboat wal stream`, or archive_command with `lifeboat wal push`",
    )
}

/// Any moment from the end of the oldest physical backup (of the first from which all of the log is kept) to the last commit that the newest can be brought to.
pub(super) async fn random_moment(house: &House, policy: &Policy) -> Result<Timestamp, Stop> {
    let (trusted, opener) = (house.trusted()?, house.opener()?);
    let mut manifests = Vec::new();
    for store in house.stores_of(policy)?.values() {
        for (_, backup) in seal::list_backups(&**store, Some(&policy.name), &trusted).await.map_err(Broke::from)? {
            match seal::load_manifest(&**store, &policy.name, &backup, &trusted).await {
                Ok(sealed) => manifests.extend(sealed.manifest.wal.is_some().then_some(sealed.manifest)),
                // A bad one is found by who brings it back.
                Err(Stop::Found(_)) => {}
                Err(stop) => return Err(stop),
            }
        }
    }
    manifests.sort_by_key(Manifest::ended);
    let (Some(oldest), Some(newest)) = (manifests.first(), manifests.last()) else {
        let hint = format!("take one: lifeboat backup {}", policy.name);
        return Err(Broke::hinted(format!("policy {} has no physical backup", policy.name), hint).into());
    };
    let log = list(house, policy, Far::Moment(newest.ended())).await?;
    let (archive, _) = log.behind(newest, &opener, None).await?;
    let range = newest.wal.as_ref().ok_or_else(|| no_log(policy))?;
    let reach = wal::reach(range, &archive, Follow::Latest).map_err(|no| Broke::new(no.0))?;
    // Before the window of `[wal] keep` the log has gaps on purpose.
    let horizon =
        policy.wal.as_ref().and_then(|wal| wal.keep).and_then(|keep| crate::clock::now().checked_sub(keep.0).ok());
    let first = horizon.and_then(|at| manifests.iter().rev().find(|manifest| manifest.recovery_point.at <= at));
    let (from, last) = (first.unwrap_or(oldest).ended(), reach.last_commit.ok_or_else(|| no_log(policy))?.at);
    let window = u64::try_from(last.duration_since(from).as_micros()).ok().filter(|window| *window > 0);
    let window = window.ok_or_else(|| no_log(policy))?;
    let random = getrandom::u64().map_err(|error| Broke::new(format!("no random number could be had: {error}")))?;
    let into = SignedDuration::from_micros((random % window).cast_signed());
    Ok(from.checked_add(into).unwrap_or(from))
}

/// What the heartbeat must be like in the copy: what the source says of both sides of a moment, if it can be asked.
pub(super) async fn beat_terms(house: &House, policy: &Policy, moment: Option<Timestamp>) -> BeatTerms {
    let around = match moment {
        None => Observed::Absent,
        Some(moment) => {
            let asking = async {
                let client = house.source(&policy.source)?.connect().await?;
                probe::heartbeat::around(&client, moment).await
            };
            asking.await.map_or_else(|broke: Broke| Observed::Unknown(broke.error), Observed::Known)
        }
    };
    BeatTerms { moment, around, every: policy.wal.as_ref().and_then(|wal| wal.heartbeat) }
}

impl Behind {
    /// The moment to which it is brought; none: to its end.
    pub(super) fn moment(&self) -> Option<Timestamp> {
        self.until
    }

    /// How far the server is to replay it.
    pub(super) fn recovery(&self) -> Recovery {
        Recovery { timeline: self.reach.timeline, until: self.until }
    }

    /// Lays it into the restored folder.
    pub(super) async fn bring(
        &self,
        data_dir: &Path,
        opener: &Opener,
        parallel: usize,
        progress: &dyn Progress,
    ) -> Result<String, Stop> {
        let into = data_dir.join("pg_wal");
        let bring = Bring { reach: &self.reach, archive: &self.archive, opener, into: &into, parallel };
        self.log.bring(&bring, progress).await?;
        let count = self.reach.segments.len();
        Ok(format!("{count} segments of the log behind it fetched, verified, decrypted"))
    }

    /// A server that came up earlier than the log says has not replayed it: it opens over a hole without a word.
    pub(super) fn replayed(&self, started: &Started) -> Result<(), Finding> {
        // One that was to stop at a moment was seen to.
        if self.until.is_none() && started.replayed_to < self.reach.until {
            let message = "the restored server came up before it had replayed the log to its end";
            let finding = Finding::new("wal_short", "write-ahead log", message);
            return Err(finding.with(self.reach.until.to_string(), started.replayed_to.to_string()));
        }
        if started.timeline <= self.reach.timeline {
            let message = "the restored server did not branch off from the timeline that it was to follow";
            let finding = Finding::new("wal_timeline", "write-ahead log", message);
            return Err(finding.with(format!("above {}", self.reach.timeline), started.timeline.to_string()));
        }
        Ok(())
    }

    /// What came of it, by the server's own word.
    pub(super) fn told(&self, started: &Started) -> LogReplayed {
        LogReplayed {
            segments: self.reach.segments.len() as u64,
            timeline: self.reach.timeline,
            until: if self.until.is_some() { started.replayed_to } else { self.reach.until },
            last_commit: started.last_replayed,
        }
    }
}

/// What differs from the source as it was when the backup was taken may have been changed there since: that is no finding, and no proof.
pub(super) fn weigh(mut result: CheckResult) -> CheckResult {
    let compares = match result.name {
        CheckName::Completeness
        | CheckName::Content
        | CheckName::Sequences
        | CheckName::Extensions
        | CheckName::Collations
        | CheckName::Encodings
        | CheckName::Settings => true,
        CheckName::Manifest
        | CheckName::PageChecksums
        | CheckName::Amcheck
        | CheckName::Heartbeat
        | CheckName::Assert
        | CheckName::Readiness
        | CheckName::ControlPlane => false,
    };
    if let (true, Outcome::Failed(findings)) = (compares, &result.outcome) {
        let first = findings.first().map_or(String::new(), |one| format!("{}: {}", one.object, one.message));
        result.outcome = Outcome::Broke {
            error: format!(
                "the log behind the backup was replayed, and what differs may have been changed at the source since ({} in all): {first}",
                findings.len()
            ),
            hint: Some(
                "compare in a drill with restore.until = \"backup\"; this one proves how far the log brings it"
                    .to_owned(),
            ),
        };
    }
    result
}
