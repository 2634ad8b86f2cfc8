//! The log behind a backup, in a drill: what the stores held of it at the moment of the loss.

use std::path::Path;

use jiff::Timestamp;

use crate::domain::check::{Broke, CheckName, CheckResult, Finding, Outcome, Stop};
use crate::domain::policy::Policy;
use crate::domain::transcript::LogReplayed;
use crate::engine::House;
use crate::engine::wal::{Bring, Log};
use crate::judge::wal::{self, Archive, Follow, Reach};
use crate::probe::Endpoint;
use crate::progress::Progress;
use crate::scratch::{Recovery, Started};
use crate::seal::{Opener, SealedManifest};

/// What goes on from the backup.
pub(super) struct Behind {
    log: Log,
    archive: Archive,
    reach: Reach,
}

/// What of the log was sealed before the loss; none: the stores hold none that goes on from this backup. A hole in it, a timeline that
/// cannot be followed, a file that its signer did not sign: findings, for what is behind them is lost.
pub(super) async fn behind(
    house: &House,
    policy: &Policy,
    sealed: &SealedManifest,
    opener: &Opener,
    lost_at: Timestamp,
) -> Result<Option<Behind>, Stop> {
    let manifest = &sealed.manifest;
    let Some(range) = &manifest.wal else { return Ok(None) };
    let stores: Vec<_> = house.stores_of(policy)?.into_values().collect();
    let log = Log::list(&stores, &policy.name, &house.trusted()?).await?;
    if log.is_empty() {
        return Ok(None);
    }
    let (archive, mut findings) = log.behind(manifest, opener, Some(lost_at)).await?;
    let reach = wal::reach(range, &archive, Follow::Latest)
        .map_err(|no| Finding::new("wal_timeline", "write-ahead log", no.0))?;
    if let Some(segment) = reach.branch_missing {
        let message = format!("timeline {} begins with it, and it is not in the store", segment.timeline);
        findings.push(Finding::new("wal_hole", format!("log {segment}"), message));
    } else if let Some(hole) = reach.hole {
        let message = format!("it is missing or not whole: nothing comes back from {} on", reach.until);
        let finding = Finding::new("wal_hole", format!("log {}", hole.from), message);
        findings.push(finding.with(hole.from.to_string(), format!("next there: {}", hole.next)));
    }
    if !findings.is_empty() {
        return Err(Stop::Found(findings));
    }
    Ok((!reach.segments.is_empty()).then_some(Behind { log, archive, reach }))
}

impl Behind {
    /// All of it.
    pub(super) fn recovery(&self) -> Recovery {
        Recovery { timeline: self.reach.timeline, until: None }
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
        if started.replayed_to < self.reach.until {
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
    pub(super) async fn told(&self, server: &Endpoint) -> Result<LogReplayed, Stop> {
        let broke =
            |error: tokio_postgres::Error| Broke::new(format!("the last transaction could not be asked for: {error}"));
        let client = server.connect().await.map_err(Broke::from)?;
        let sql = "select to_char(pg_last_xact_replay_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') as at";
        let row = client.query_one(sql, &[]).await.map_err(broke)?;
        let text: Option<String> = row.try_get("at").map_err(broke)?;
        let last_commit = text.map(|text| text.parse::<Timestamp>()).transpose();
        let last_commit =
            last_commit.map_err(|error| Broke::new(format!("the server's time cannot be read: {error}")))?;
        Ok(LogReplayed {
            segments: self.reach.segments.len() as u64,
            timeline: self.reach.timeline,
            until: self.reach.until,
            last_commit,
        })
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
        | CheckName::Assert
        | CheckName::Readiness => false,
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
