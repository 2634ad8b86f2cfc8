//! One backup into a second store: parts in any order, then signature, then manifest. Killed anywhere, the next run goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures_util::StreamExt;

use super::report::{Copied, State};
use super::{Copying, Route};
use crate::domain::artifact::{MANIFEST_NAME, Part, SIGNATURE_NAME};
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::copies::CopyRecord;
use crate::domain::ids::{BackupId, JobName};
use crate::domain::run::{ArtifactRecord, Event};
use crate::domain::units::{ByteSize, Span};
use crate::seal::{Brought, MAX_FINDINGS, Original, Way, list_backups};
use crate::store::Store;

/// What came of looking at a backup.
pub(super) enum Looked {
    /// This.
    At(Box<Copied>),
    /// It is of a job whose copies lie elsewhere.
    NotOurs(JobName),
    /// Somebody removed it meanwhile.
    Gone,
    /// It is being removed from the second store: its manifest is there, and it does not count as a backup any more.
    Going,
}

impl Copying<'_> {
    /// Copies a backup, unless it is there.
    /// `there`: what the second store lists.
    pub(super) async fn backup(
        &self,
        route: &Route,
        way: &Way,
        id: &BackupId,
        there: &BTreeSet<BackupId>,
    ) -> Result<Looked, Broke> {
        let began = Instant::now();
        let mut copied = Copied::begin(id, &route.from, &route.to);
        let original = match Original::open(&*way.from, &self.policy.name, id, &self.trusted).await {
            Ok(original) => original,
            Err(stop) => {
                if self.is_gone(way, id).await? {
                    return Ok(Looked::Gone);
                }
                copied.stopped(stop);
                return Ok(Looked::At(Box::new(copied)));
            }
        };
        let manifest = &original.sealed.manifest;
        if !route.takes(&manifest.job) {
            return Ok(Looked::NotOurs(manifest.job.clone()));
        }
        copied.bytes = ByteSize(manifest.sealed_bytes().0.saturating_add(original.bytes()));
        if let Some(finding) = self.swapped(&original) {
            copied.stopped(finding.into());
            return Ok(Looked::At(Box::new(copied)));
        }
        match original.is_named(way).await {
            // Listed again: another process may have copied it since.
            Ok(true) if !there.contains(id) && self.lacks(&way.to, id).await? => return Ok(Looked::Going),
            Ok(_) => {}
            Err(stop) => {
                copied.stopped(stop);
                return Ok(Looked::At(Box::new(copied)));
            }
        }
        self.progress.stage(&format!("copy {id} to {}", route.to));
        self.progress.expect(manifest.sealed_bytes().0);
        if let Err(stop) = self.bring_all(route, way, &original, &mut copied).await {
            if self.is_gone(way, id).await? {
                return Ok(Looked::Gone);
            }
            copied.stopped(stop);
        }
        copied.took = Span::from_std(began.elapsed());
        if copied.durable_at.is_some() {
            self.write_down(&original, &mut copied).await?;
        }
        Ok(Looked::At(Box::new(copied)))
    }

    async fn bring_all(&self, route: &Route, way: &Way, original: &Original, copied: &mut Copied) -> Result<(), Stop> {
        let manifest = &original.sealed.manifest;
        let prefix = format!("{}/{}/", manifest.policy, manifest.backup);
        let listed = way.to.list(&prefix).await.map_err(Broke::from)?;
        let there: BTreeMap<&str, u64> =
            listed.iter().filter_map(|one| Some((one.key.strip_prefix(&prefix)?, one.bytes))).collect();
        let parts: Vec<&Part> = manifest.streams.iter().flat_map(|stream| &stream.parts).collect();
        let complete = parts.iter().all(|part| there.get(part.key.as_str()) == Some(&part.sealed_bytes));
        let named = there.contains_key(MANIFEST_NAME) && there.contains_key(SIGNATURE_NAME);
        if named && complete && self.is_known(original, route) {
            // Every object of it was read there when it was copied; reading it again is for `copies --read` and `verify`.
            copied.there = parts.len() as u64;
            return Ok(());
        }
        let (stop, mut findings, mut broke) = (AtomicBool::new(false), Vec::new(), None);
        let one = |part: &Part| {
            let listed = there.contains_key(part.key.as_str());
            let (part, stop) = (part.clone(), &stop);
            async move {
                if stop.load(Ordering::Relaxed) {
                    return None;
                }
                let brought = original.bring(way, &part, listed).await;
                self.progress.moved(part.sealed_bytes);
                Some(brought)
            }
        };
        let mut running = futures_util::stream::iter(parts).map(one).buffer_unordered(self.parallel);
        // After the first that is bad nothing new is begun, but what runs is waited for: nobody writes behind the caller's back.
        while let Some(brought) = running.next().await {
            match brought {
                Some(Ok(Brought::Copied)) => copied.written += 1,
                Some(Ok(Brought::Already)) => copied.there += 1,
                Some(Err(Stop::Found(found))) => findings.extend(found),
                Some(Err(Stop::Broke(why))) => drop(broke.get_or_insert(why)),
                None => {}
            }
            stop.store(!findings.is_empty() || broke.is_some(), Ordering::Relaxed);
        }
        if !findings.is_empty() {
            findings.truncate(MAX_FINDINGS);
            return Err(Stop::Found(findings));
        }
        if let Some(broke) = broke {
            return Err(broke.into());
        }
        let brought = original.name(way).await?;
        let wrote = copied.written > 0 || brought == Brought::Copied;
        copied.state = if wrote { State::Copied } else { State::Already };
        let durable_at = crate::clock::now();
        copied.durable_at = Some(durable_at);
        copied.lag = Some(Span::between(manifest.finished_at, durable_at));
        Ok(())
    }

    /// The catalog remembers the manifest that it saw being written: another one under the same name was put there since.
    fn swapped(&self, original: &Original) -> Option<Finding> {
        let ours = self.known.iter().filter(|record| record.backup == original.sealed.manifest.backup);
        let mut others = ours.filter(|record| record.manifest_sha256 != original.sealed.sha256);
        others.next().map(|record| {
            let message = "the manifest in the store is not the one that was written when the backup was taken";
            let finding = Finding::new("manifest_swapped", format!("manifest of backup {}", record.backup), message);
            finding.with(record.manifest_sha256.clone(), original.sealed.sha256.clone())
        })
    }

    fn is_known(&self, original: &Original, route: &Route) -> bool {
        let sealed = &original.sealed;
        self.copies.iter().any(|copy| {
            copy.store == route.to && copy.backup == sealed.manifest.backup && copy.manifest_sha256 == sealed.sha256
        })
    }

    /// Whether somebody is removing it, or has.
    async fn is_gone(&self, way: &Way, id: &BackupId) -> Result<bool, Broke> {
        self.lacks(&way.from, id).await
    }

    async fn lacks(&self, store: &Arc<dyn Store>, id: &BackupId) -> Result<bool, Broke> {
        let held = list_backups(&**store, Some(&self.policy.name), &self.trusted).await?;
        Ok(!held.iter().any(|(_, held)| held == id))
    }

    /// That it is there, and how late, in the catalog.
    async fn write_down(&self, original: &Original, copied: &mut Copied) -> Result<(), Broke> {
        let (Some(durable_at), Some(lag)) = (copied.durable_at, copied.lag) else { return Ok(()) };
        let sealed = &original.sealed;
        let record = CopyRecord {
            backup: copied.backup.clone(),
            store: copied.to.clone(),
            from: copied.from.clone(),
            manifest_sha256: sealed.sha256.clone(),
            bytes: copied.bytes,
            took: copied.took,
            durable_at,
            lag,
            already: copied.state == State::Already,
        };
        let artifact = ArtifactRecord::of(&sealed.manifest, &sealed.sha256, &copied.to);
        self.house.record(&self.policy.name, self.run, Event::Committed(artifact)).await?;
        self.house.record(&self.policy.name, self.run, Event::Copied(record)).await
    }
}
