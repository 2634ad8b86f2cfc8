//! The log into a second store: objects several at once, their records one after the other in their order, so that what a killed
//! run leaves has no holes.

use std::time::Instant;

use futures_util::StreamExt;

use super::report::LogCopied;
use super::{Copying, Route};
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::units::Span;
use crate::domain::wal::WalName;
use crate::seal::{Brought, LogFile, LogList, MAX_FINDINGS, Theirs, Way, bring_hole};

/// One file on its way.
enum Step {
    /// Its object is there; its record is still to be written.
    Object(Box<LogFile>, Brought),
    /// All of it is there.
    There,
    /// It is not in the first store any more.
    Gone,
}

impl Copying<'_> {
    /// Copies what the second store lacks of the log.
    pub(super) async fn log(&self, route: &Route, way: &Way) -> LogCopied {
        let began = Instant::now();
        let mut copied = LogCopied::begin(&route.from, &route.to);
        if let Err(broke) = self.bring_log(way, &mut copied).await {
            copied.broke.get_or_insert(broke);
        }
        copied.findings.truncate(MAX_FINDINGS);
        copied.took = Span::from_std(began.elapsed());
        copied.settle();
        copied
    }

    async fn bring_log(&self, way: &Way, copied: &mut LogCopied) -> Result<(), Broke> {
        let policy = &self.policy.name;
        let (ours, theirs) = (LogList::of(&*way.from, policy).await?, LogList::of(&*way.to, policy).await?);
        let mut wanted: Vec<WalName> = Vec::new();
        for (name, record) in ours.files.iter().filter(|(name, _)| !ours.is_superfluous(name)) {
            // What is there by its list was verified when it was copied: the record is written after the object was read back.
            let there = theirs.files.get(name) == Some(record)
                && ours.object(*name).is_some()
                && ours.object(*name) == theirs.object(*name);
            if there { copied.there += 1 } else { wanted.push(*name) }
        }
        if !wanted.is_empty() {
            self.progress.stage(&format!("copy {} files of the log", wanted.len()));
        }
        let theirs = &theirs;
        let one = |name: WalName| async move { (name, self.bring_file(way, theirs, name).await) };
        let mut running = futures_util::stream::iter(wanted).map(one).buffered(self.parallel);
        while let Some((_, step)) = running.next().await {
            match step {
                Ok(Step::Object(file, object)) => match file.name(way, &self.trusted).await {
                    Ok(record) => {
                        let wrote = object == Brought::Copied || record == Brought::Copied;
                        copied.written += u64::from(wrote);
                        copied.there += u64::from(!wrote);
                        copied.bytes.0 += if wrote { file.record.sealed_bytes } else { 0 };
                    }
                    Err(Stop::Found(findings)) => copied.findings.extend(findings),
                    Err(Stop::Broke(broke)) => return Err(broke),
                },
                Ok(Step::There) => copied.there += 1,
                Ok(Step::Gone) => {}
                // One bad file does not keep the others from being copied: each stands by itself.
                Err(Stop::Found(findings)) => copied.findings.extend(findings),
                Err(Stop::Broke(broke)) => return Err(broke),
            }
        }
        for (first, bytes) in &ours.holes {
            if theirs.holes.get(first) == Some(bytes) {
                continue;
            }
            match bring_hole(way, policy, first, &self.trusted).await {
                Ok(brought) => copied.written += u64::from(brought),
                Err(Stop::Found(findings)) => copied.findings.extend(findings),
                Err(Stop::Broke(broke)) => return Err(broke),
            }
        }
        Ok(())
    }

    async fn bring_file(&self, way: &Way, theirs: &LogList, name: WalName) -> Result<Step, Stop> {
        let Some(file) = LogFile::open(&*way.from, &self.policy.name, name, &self.trusted).await? else {
            return Ok(Step::Gone);
        };
        if theirs.files.contains_key(&name)
            && let Some(Theirs::Equal(record)) = file.is_named(way, &self.trusted).await?
        {
            // Sealed by itself there: its own object must be there too, and nothing of ours is put beside it.
            return match theirs.objects.get(&record.key) {
                Some(bytes) if *bytes == record.sealed_bytes => Ok(Step::There),
                found => {
                    let message = "the copy's store has its record, and not its object";
                    let finding = Finding::new("copy_object_missing", format!("log {name}"), message);
                    let found = found.map_or("nothing".to_owned(), |bytes| format!("{bytes} bytes"));
                    Err(finding.with(format!("{} bytes", record.sealed_bytes), found).into())
                }
            };
        }
        let listed = theirs.objects.contains_key(&file.record.key);
        Ok(match file.bring(way, listed).await? {
            Some(brought) => Step::Object(Box::new(file), brought),
            None => Step::Gone,
        })
    }
}
