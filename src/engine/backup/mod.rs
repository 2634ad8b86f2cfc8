//! The backup: what happens in which order.

mod report;

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use tracing::Instrument;

use crate::backup::{Taken, Taking, logical, physical, session};
use crate::domain::artifact::{MANIFEST_FORMAT, MANIFEST_NAME, Manifest, SIGNATURE_NAME};
use crate::domain::check::Broke;
use crate::domain::ids::{BackupId, RunId};
use crate::domain::policy::{BackupJob, Method, Policy};
use crate::domain::run::{ArtifactRecord, Event, RunOutcome, Work};
use crate::domain::units::Span;
use crate::probe::Endpoint;
use crate::progress::Progress;
use crate::seal::{SealOptions, Sealer, Signer, store_manifest};
use crate::store::Store;
use crate::telemetry::{run_span, step_span};

use super::house::House;
use super::{control_plane, interrupt};

pub use report::{BackupReport, DigestCost, REPORT_SCHEMA};

/// What a backup that was stopped by a signal says.
pub const INTERRUPTED: &str = "interrupted";

/// Parts when nobody said how long they are to be.
const PART_BYTES: u64 = 16 << 20;
/// Parts of one stream, at most: a store's list and a manifest stay handy.
const PARTS_AT_MOST: u64 = 50_000;

/// What one backup is taken for, with and into.
struct Order<'a> {
    house: &'a House,
    policy: &'a Policy,
    job: &'a BackupJob,
    run: RunId,
    started_at: Timestamp,
    began: Instant,
    progress: &'a dyn Progress,
}

/// What the catalog knew when the backup was begun.
struct Remembered {
    /// Given to this backup, and to no other whatever becomes of it.
    sequence: u64,
    artifacts: Vec<ArtifactRecord>,
}

/// Takes a backup by a job. What happened is in the catalog, whatever happened; a backup that could not be finished leaves
/// nothing in the store.
pub async fn run(
    house: &House,
    policy: &Policy,
    job: &BackupJob,
    progress: &dyn Progress,
) -> Result<BackupReport, Broke> {
    let (started_at, began) = (crate::clock::now(), Instant::now());
    let run = house.begin(&policy.name, Work::Backup { job: job.name.clone() }).await?;
    let order = Order { house, policy, job, run, started_at, began, progress };
    let span = run_span(Some(&policy.name), run, &Work::Backup { job: job.name.clone() });
    let result = order.take_and_commit().instrument(span).await;
    let outcome = match &result {
        Ok(_) => RunOutcome::Succeeded,
        Err(broke) => RunOutcome::Broke { error: broke.error.clone(), hint: broke.hint.clone() },
    };
    let finished = house.record(&policy.name, order.run, Event::Finished { outcome }).await;
    // Why the backup broke matters more than that the catalog broke too.
    let report = result?;
    finished?;
    Ok(report)
}

impl Order<'_> {
    async fn take_and_commit(&self) -> Result<BackupReport, Broke> {
        refuse_unknown_method(self.job.method)?;
        let signer = self.house.signer()?;
        let interrupted = |signal| {
            let error = format!("{INTERRUPTED}: the backup was stopped by {signal}");
            Broke::hinted(error, "nothing was kept; take it again")
        };
        let look = async {
            let store = self.house.store_to_fill(self.policy, &self.job.store).await?;
            let endpoint = match self.job.method {
                Method::ControlPlane => None,
                _ => Some(self.house.source(&self.policy.source)?),
            };
            let part_bytes = self.part_bytes(endpoint.as_ref()).await?;
            // All that the catalog is asked for is asked for here: it may be away when the bytes are there.
            let remembered = Remembered {
                sequence: self.house.catalog.next_sequence(&self.policy.name).await?,
                artifacts: self.house.catalog.artifacts(&self.policy.name).await?,
            };
            Ok::<_, Broke>((store, endpoint, part_bytes, remembered))
        };
        let (store, endpoint, part_bytes, remembered) = tokio::select! {
            looked = look.instrument(step_span("open the source and the store")) => looked?,
            signal = interrupt::asked_to_stop() => return Err(interrupted(signal)),
        };
        let backup = BackupId::new(self.started_at, fresh_number()?);
        let prefix = format!("{}/{backup}", self.policy.name);
        let taken = tokio::select! {
            taken = self.take(endpoint, Arc::clone(&store), &prefix, part_bytes).instrument(step_span("take")) => taken,
            signal = interrupt::asked_to_stop() => Err(interrupted(signal)),
        };
        let committed = match taken {
            Ok(taken) => {
                let committing = self.commit(&*store, backup, taken, remembered, &signer);
                committing.instrument(step_span("commit")).await
            }
            Err(broke) => Err(broke),
        };
        if let Err(error) = store.settle().await {
            tracing::warn!(%error, "something half written is left in the store");
        }
        match committed {
            Ok((manifest, sha256, warnings, digest_took)) => {
                self.write_down(&manifest, &sha256).await?;
                let took = Span::from_std(self.began.elapsed());
                let made = report::Made {
                    run: self.run,
                    store: store.url(),
                    manifest_sha256: sha256,
                    warnings,
                    took,
                    digest_took,
                };
                Ok(BackupReport::of(&manifest, made))
            }
            Err(broke) => {
                remove_parts(&*store, &prefix).await;
                Err(broke)
            }
        }
    }

    /// The bytes, all durable.
    async fn take(
        &self,
        endpoint: Option<Endpoint>,
        store: Arc<dyn Store>,
        prefix: &str,
        part_bytes: usize,
    ) -> Result<Taken, Broke> {
        let limits = &self.house.config.limits;
        let options = SealOptions {
            recipients: self.policy.encryption.recipients.clone(),
            level: self.job.level,
            part_bytes,
            threads: limits.parallel,
        };
        let sealer = Sealer::new(store, prefix.to_owned(), options)?;
        let Some(endpoint) = endpoint else {
            return control_plane::take(self.house, &sealer, self.progress).await;
        };
        let taking = Taking {
            endpoint,
            databases: self.policy.source.databases.clone(),
            content: self.policy.content.clone(),
            bin_dirs: &self.house.config.bin_dirs,
            parallel: limits.parallel,
            read: self.job.read,
            sealer: &sealer,
            progress: self.progress,
        };
        match self.job.method {
            Method::Physical => physical::take(&taking).await,
            _ => logical::take(&taking).await,
        }
    }

    /// The manifest, written last: from here on the backup exists.
    async fn commit(
        &self,
        store: &dyn Store,
        backup: BackupId,
        taken: Taken,
        remembered: Remembered,
        signer: &Signer,
    ) -> Result<(Manifest, String, Vec<String>, Span), Broke> {
        self.progress.stage("commit");
        let mut warnings = taken.warnings;
        warnings.extend(self.strange_source(&taken.fingerprint.server.system_identifier, &remembered.artifacts));
        let mut tools = taken.tools;
        tools.insert("lifeboat".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        let manifest = Manifest {
            format: MANIFEST_FORMAT.to_owned(),
            backup,
            policy: self.policy.name.clone(),
            job: self.job.name.clone(),
            sequence: remembered.sequence,
            method: self.job.method,
            started_at: self.started_at,
            finished_at: crate::clock::now(),
            recovery_point: taken.recovery_point,
            wal: taken.wal,
            streams: taken.streams,
            recipients: self.policy.encryption.recipients.clone(),
            pages: taken.pages,
            fingerprint: taken.fingerprint,
            tools,
            clock_skew: taken.clock_skew,
        };
        self.house.still_ours().await?;
        let sha256 = store_manifest(store, &manifest, signer).await?;
        Ok((manifest, sha256, warnings, taken.digest_took))
    }

    /// A policy whose earlier backups are of another server: somebody changed the URL, or what is behind it.
    fn strange_source(&self, identifier: &str, artifacts: &[ArtifactRecord]) -> Option<String> {
        let other = artifacts.iter().find(|artifact| artifact.system_identifier != identifier);
        other.map(|artifact| {
            let sentence = format!(
                "THE SOURCE IS ANOTHER SERVER: backup {} was of system {}, this one is of {identifier}. If that is right, give it a policy of its own",
                artifact.backup, artifact.system_identifier
            );
            self.progress.say(&sentence);
            sentence
        })
    }

    async fn write_down(&self, manifest: &Manifest, sha256: &str) -> Result<(), Broke> {
        let record = ArtifactRecord::of(manifest, sha256, &self.job.store);
        self.house.record(&self.policy.name, self.run, Event::Committed(record)).await.map_err(|broke| {
            Broke::hinted(
                format!("backup {} is in the store, but the catalog does not know it: {broke}", manifest.backup),
                "mend the catalog, then `lifeboat catalog rebuild`",
            )
        })
    }

    /// As the job says; else 16 MiB, and more for a source that would make too many parts of that.
    async fn part_bytes(&self, endpoint: Option<&Endpoint>) -> Result<usize, Broke> {
        let bytes = match (self.job.part_size, endpoint) {
            (Some(size), _) => size.0,
            (None, None) => PART_BYTES,
            (None, Some(endpoint)) => {
                let client = session::plain(endpoint).await?;
                let listed = session::databases(&client, endpoint).await?;
                part_bytes_for(listed.iter().filter_map(|one| one.bytes).sum())
            }
        };
        usize::try_from(bytes)
            .map_err(|_| Broke::hinted(format!("parts of {bytes} bytes do not fit into memory"), "lower part_size"))
    }
}

/// A dump can be longer than the tables that it is of; twice is more than was ever seen.
pub fn part_bytes_for(source_bytes: u64) -> u64 {
    let needed = source_bytes.saturating_mul(2).div_ceil(PARTS_AT_MOST);
    needed.next_multiple_of(1 << 20).max(PART_BYTES)
}

fn refuse_unknown_method(method: Method) -> Result<(), Broke> {
    match method {
        Method::Logical | Method::Physical | Method::ControlPlane => Ok(()),
        Method::RdsSnapshot | Method::Pgbackrest | Method::Barman | Method::Dump => Err(Broke::hinted(
            format!("this version of lifeboat does not take backups by the method `{}` yet", method.as_str()),
            "use method = \"logical\" or \"physical\"",
        )),
    }
}

/// Removes what a broken backup left: the manifest first, so that nothing ever looks whole that is not. Parts that were in
/// flight can still land after a list was made, so it is made until it stays empty. What cannot be removed is an orphan: harmless.
async fn remove_parts(store: &dyn Store, prefix: &str) {
    for name in [MANIFEST_NAME, SIGNATURE_NAME] {
        if let Err(error) = store.delete(&format!("{prefix}/{name}")).await {
            // As long as the manifest may be there, its parts stay: then all of it is there, or it counts for nothing.
            tracing::warn!(prefix, %error, "what a broken backup wrote could not be removed; `lifeboat prune` will");
            return;
        }
    }
    let mut empty = 0;
    for _ in 0..50 {
        let Ok(left) = store.list(&format!("{prefix}/")).await else { return };
        empty = if left.is_empty() { empty + 1 } else { 0 };
        if empty == 3 {
            return;
        }
        for object in left {
            let _ = store.delete(&object.key).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    tracing::warn!(prefix, "parts of a broken backup could not be removed; without a manifest they are harmless");
}

fn fresh_number() -> Result<u32, Broke> {
    getrandom::u32().map_err(|error| Broke::new(format!("the system gives no random numbers: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_grow_with_the_source_so_that_their_number_does_not() {
        assert_eq!(part_bytes_for(0), 16 << 20);
        assert_eq!(part_bytes_for(100 << 30), 16 << 20);
        for terabytes in [1u64, 10, 50] {
            let source = terabytes << 40;
            let part = part_bytes_for(source);
            assert!(source / part < PARTS_AT_MOST, "{terabytes} TiB in parts of {part}");
            assert_eq!(part % (1 << 20), 0);
        }
    }

    #[test]
    fn methods_that_are_not_there_yet_are_refused_in_words() {
        for method in [Method::RdsSnapshot, Method::Pgbackrest, Method::Barman, Method::Dump] {
            let broke = refuse_unknown_method(method).unwrap_err();
            assert!(broke.error.contains(method.as_str()) && broke.hint.is_some(), "{broke}");
        }
        assert!(refuse_unknown_method(Method::Physical).is_ok() && refuse_unknown_method(Method::Logical).is_ok());
    }
}
