//! The verify: artifacts are read back, every byte of them, and nothing is restored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use crate::domain::artifact::{MANIFEST_NAME, Manifest, Part};
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::ids::{BackupId, PlaceName, PolicyName, RunId};
use crate::domain::ledger;
use crate::domain::run::{Event, Work};
use crate::domain::units::{ByteSize, Span};
use crate::progress::Progress;
use crate::seal::{self, Opener, TrustedSigners, Witness};
use crate::store::{self, Duty, Store};
use crate::telemetry::run_span;
use tracing::Instrument;

use super::House;
use super::house::new_run;
use super::ledger::Record;
use super::{interrupt, process};

mod report;

pub use report::{Conclusion, Depth, Report, Trouble, Verified};

/// What is to be verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every backup of a policy.
    Policy(PolicyName),
    /// One backup, wherever it lies.
    Backup(BackupId),
}

impl Target {
    /// Whether it is this one.
    fn wants(&self, policy: &PolicyName, backup: &BackupId) -> bool {
        match self {
            Target::Policy(name) => name == policy,
            Target::Backup(id) => id == backup,
        }
    }

    /// What a list can be narrowed to.
    fn policy(&self) -> Option<&PolicyName> {
        match self {
            Target::Policy(name) => Some(name),
            Target::Backup(_) => None,
        }
    }
}

/// With what artifacts are read.
#[derive(Clone)]
pub struct Reading {
    /// Opens them; without it only the outside of each part is verified, and the rest is unproven.
    pub opener: Option<Opener>,
    /// Who may have signed.
    pub trusted: TrustedSigners,
    /// Parts that are read at once.
    pub threads: usize,
    /// Who watches.
    pub progress: Arc<dyn Progress>,
}

/// Verifies what the target names in the stores of the configuration (or in `only` one of them), and writes the run down.
/// The run is none when there was nothing to run over.
pub async fn verify(
    house: &House,
    target: &Target,
    only: Option<&PlaceName>,
    reading: &Reading,
) -> Result<(Option<RunId>, Report), Broke> {
    let mut report = Report::default();
    let known = known_artifacts(house, target, only).await?;
    let stores = open_stores(house, target, only, &known, &mut report)?;
    let wanted = list_wanted(&stores, target, &known, &reading.trusted, &mut report).await;
    let policies: BTreeSet<&PolicyName> = wanted.iter().map(|(_, policy, _)| policy).collect();
    // One backup is of one policy; should two claim the same id, the run goes under the first.
    let policy = target.policy().or(policies.first().copied()).cloned();
    let (run, began) = (new_run(), crate::clock::now());
    if let Some(policy) = &policy {
        house.record(policy, run, Event::Planned { work: Work::Verify, scheduled_for: None }).await?;
        house.record(policy, run, process::started()).await?;
    }
    let runs = policies.iter().map(|policy| ((*policy).clone(), Some(run))).collect();
    let record = Record::new(house, began, runs);
    let span = run_span(policy.as_ref(), run, &Work::Verify);
    verify_all(&stores, &wanted, reading, Some(&record), &mut report).instrument(span).await;
    if let Err(broke) = record.flush().await {
        report.trouble("catalog", broke);
    }
    if let Some(policy) = &policy {
        // What was found out is not thrown away because it cannot be written down.
        if let Err(broke) = house.record(policy, run, Event::Finished { outcome: report.outcome() }).await {
            report.trouble("catalog", broke);
        }
    }
    Ok((policy.map(|_| run), report))
}

/// Where a backup lies, or must lie.
pub type Place = (PlaceName, PolicyName, BackupId);

/// The same without a house: verifies what is in these stores, and what is `known` to be there and is not.
pub async fn verify_stores(
    stores: &BTreeMap<PlaceName, Arc<dyn Store>>,
    target: &Target,
    known: &[Place],
    reading: &Reading,
) -> Report {
    let mut report = Report::default();
    let wanted = list_wanted(stores, target, known, &reading.trusted, &mut report).await;
    verify_all(stores, &wanted, reading, None, &mut report).await;
    report
}

/// The stores to look in. None is made: one that is not there must not look like an empty one.
fn open_stores(
    house: &House,
    target: &Target,
    only: Option<&PlaceName>,
    known: &[Place],
    report: &mut Report,
) -> Result<BTreeMap<PlaceName, Arc<dyn Store>>, Broke> {
    let names: BTreeSet<PlaceName> = match (only, target) {
        (Some(name), _) => BTreeSet::from([name.clone()]),
        (None, Target::Policy(name)) => House::places_of(house.policy(name.as_str())?),
        (None, Target::Backup(_)) => house.config.stores.keys().cloned().collect(),
    };
    let mut stores = BTreeMap::new();
    for name in names {
        let Some(config) = house.config.stores.get(&name) else {
            let known = house.config.stores.keys().map(PlaceName::as_str);
            return Err(super::house::unknown("store", name.as_str(), known));
        };
        match store::open_existing(config, Duty::Read) {
            Ok(store) => {
                stores.insert(name, store);
            }
            // The first backup makes the folder. Once one is known, its absence is trouble: the disk may not be mounted.
            Err(_) if store::is_missing(config) && !known.iter().any(|(place, _, _)| *place == name) => {
                report.unproven.push(format!("nothing was ever written to the store {name}"));
            }
            Err(error) => report.trouble(name.as_str(), error.into()),
        }
    }
    Ok(stores)
}

/// What the catalog says must be there.
async fn known_artifacts(house: &House, target: &Target, only: Option<&PlaceName>) -> Result<Vec<Place>, Broke> {
    let mut known: Vec<Place> = match target {
        Target::Policy(policy) => {
            let records = house.catalog.artifacts(policy).await?;
            records.into_iter().map(|record| (record.store, record.policy, record.backup)).collect()
        }
        Target::Backup(backup) => {
            let found = house.catalog.find(backup).await?;
            found.into_iter().map(|(policy, store)| (store, policy, backup.clone())).collect()
        }
    };
    known.retain(|(store, _, _)| only.is_none_or(|only| only == store));
    Ok(known)
}

/// What the stores hold of the target, and what is known to be in those that could be opened; by store, oldest first.
async fn list_wanted(
    stores: &BTreeMap<PlaceName, Arc<dyn Store>>,
    target: &Target,
    known: &[Place],
    trusted: &TrustedSigners,
    report: &mut Report,
) -> BTreeSet<Place> {
    let (mut wanted, mut deleted) = (BTreeSet::new(), BTreeSet::new());
    for (name, store) in stores {
        let listed = async {
            let backups = seal::list_backups(&**store, target.policy(), trusted).await?;
            Ok::<_, seal::SealError>((backups, seal::list_tombstones(&**store, target.policy(), trusted).await?))
        };
        match listed.await {
            Ok((backups, tombstones)) => {
                let mine = backups.into_iter().filter(|(policy, backup)| target.wants(policy, backup));
                wanted.extend(mine.map(|(policy, backup)| (name.clone(), policy, backup)));
                for ((policy, backup), mark) in tombstones {
                    if matches!(target, Target::Backup(id) if *id == backup) {
                        report.unproven.push(format!("{backup} in {name} is not verified: {}", mark.words()));
                    }
                    deleted.insert((name.clone(), policy, backup));
                }
            }
            Err(error) => report.trouble(name.as_str(), error.into()),
        }
    }
    // What was deleted need not be there.
    for place in known.iter().filter(|place| !deleted.contains(*place)) {
        if stores.contains_key(&place.0) {
            wanted.insert(place.clone());
        } else if !report.troubles.iter().any(|trouble| trouble.place == place.0.as_str()) {
            report.unproven.push(format!(
                "the catalog knows backup {} in the store {}, which was not looked into",
                place.2, place.0
            ));
        }
    }
    if wanted.is_empty() && report.unproven.is_empty() {
        report.unproven.push("there is no backup to verify".to_owned());
    }
    wanted
}

async fn verify_all(
    stores: &BTreeMap<PlaceName, Arc<dyn Store>>,
    wanted: &BTreeSet<Place>,
    reading: &Reading,
    record: Option<&Arc<Record>>,
    report: &mut Report,
) {
    for (index, (place, policy, backup)) in wanted.iter().enumerate() {
        // A store that could not be listed is a trouble already; each of its backups would only repeat it.
        if report.troubles.iter().any(|trouble| trouble.place == place.as_str()) {
            continue;
        }
        if let Some(store) = stores.get(place) {
            let verified = tokio::select! {
                verified = read_backup(Arc::clone(store), place, policy, backup, reading, record) => verified,
                signal = interrupt::asked_to_stop() => {
                    let left = wanted.len() - index;
                    report.unproven.push(format!(
                        "interrupted by {signal}: {left} of {} backups were not read to their end",
                        wanted.len()
                    ));
                    return;
                }
            };
            note_manifest(&verified, record);
            report.backups.push(verified);
            if let Some(record) = record
                && let Err(broke) = record.flush_if_due().await
            {
                report.trouble("catalog", broke);
                return;
            }
        }
    }
}

/// Whether a backup's manifest is there and right is a reading as well.
fn note_manifest(verified: &Verified, record: Option<&Arc<Record>>) {
    let Some(record) = record.filter(|_| verified.broke.is_none()) else { return };
    let of_manifest = |finding: &&Finding| {
        ["manifest_", "signature_", "signer_", "artifact_", "identity"].iter().any(|one| finding.code.starts_with(one))
    };
    let finding = verified.findings.iter().find(of_manifest).cloned();
    if finding.is_some() || verified.depth != Depth::Nothing {
        let key = format!("{}/{}/{MANIFEST_NAME}", verified.policy, verified.backup);
        let depth = if finding.is_some() { ledger::Depth::Sealed } else { ledger::Depth::Opened };
        record.object(&verified.store, &verified.policy, &key, ByteSize(0), depth, finding);
    }
}

/// Reads one backup back: manifest and signature, then every part once.
pub async fn verify_backup(
    store: Arc<dyn Store>,
    place: &PlaceName,
    policy: &PolicyName,
    backup: &BackupId,
    reading: &Reading,
) -> Verified {
    read_backup(store, place, policy, backup, reading, None).await
}

/// The same; the record hears of each part.
async fn read_backup(
    store: Arc<dyn Store>,
    place: &PlaceName,
    policy: &PolicyName,
    backup: &BackupId,
    reading: &Reading,
    record: Option<&Arc<Record>>,
) -> Verified {
    let begun = Instant::now();
    let mut verified = Verified::begin(place, policy, backup);
    reading.progress.stage(&format!("verify {backup}"));
    match seal::load_manifest(&*store, policy, backup, &reading.trusted).await {
        Ok(sealed) => {
            verified.signed_by = sealed.signed_by;
            verified.signer_trusted = sealed.signer_trusted;
            verified.findings = sealed.findings;
            if reading.trusted.is_empty() {
                verified.unproven.push(
                    "who made it: no trusted signer is configured ([keys] trusted_signers), and anybody can sign"
                        .to_owned(),
                );
            }
            match seal::load_marks(&*store, policy, backup, &reading.trusted).await {
                // Without anybody to trust nothing can be said of them.
                Ok(marks) if !reading.trusted.is_empty() => verified.findings.extend(marks.doubts),
                Ok(_) => {}
                Err(error) => verified.stopped(Stop::Broke(error.into())),
            }
            // By what an unsigned manifest says of them, no part is right.
            let witness =
                record.filter(|_| verified.findings.is_empty()).map(|one| Arc::clone(one) as Arc<dyn Witness>);
            verify_parts(store, &sealed.manifest, &mut verified, reading, witness.as_ref()).await;
        }
        Err(stop) => verified.stopped(stop),
    }
    verified.took = Span::from_std(begun.elapsed());
    verified
}

async fn verify_parts(
    store: Arc<dyn Store>,
    manifest: &Manifest,
    verified: &mut Verified,
    reading: &Reading,
    witness: Option<&Arc<dyn Witness>>,
) {
    let prefix = format!("{}/{}", verified.policy, verified.backup);
    verified.method = Some(manifest.method);
    verified.recovery_point = Some(manifest.recovery_point.at);
    verified.parts_of = manifest.streams.iter().map(|stream| stream.parts.len() as u64).sum();
    reading.progress.expect(manifest.sealed_bytes().0);
    let opener = match &reading.opener {
        None => {
            verified
                .unproven
                .push("that it decrypts, decompresses and is what was backed up: no key was used".to_owned());
            None
        }
        Some(opener) if manifest.recipients.iter().any(|recipient| opener.recipients().contains(recipient)) => {
            Some(opener)
        }
        Some(opener) => {
            // Said once, rather than of each of ten thousand parts; what can be seen without a key is still looked at.
            let message = "none of the configured identities can open this backup";
            let finding = Finding::new("wrong_key", format!("backup {prefix}"), message);
            verified.findings.push(finding.with(manifest.recipients.join(", "), opener.recipients().join(", ")));
            None
        }
    };
    let opener = match (opener, witness) {
        (Some(opener), Some(witness)) => Some(opener.watched(Arc::clone(witness))),
        (opener, _) => opener.cloned(),
    };
    verified.depth = if opener.is_some() { Depth::Opened } else { Depth::Sealed };
    for stream in &manifest.streams {
        let seen = Arc::new(Seen::default());
        let (count, progress) = (Arc::clone(&seen), Arc::clone(&reading.progress));
        let note = move |part: &Part| {
            count.add(part);
            progress.moved(part.sealed_bytes);
        };
        let done = match &opener {
            Some(opener) => {
                let note = move |_: usize, part: &_, _| {
                    note(part);
                    Ok(())
                };
                seal::for_each_part(Arc::clone(&store), &prefix, stream, opener, reading.threads, note).await
            }
            None => {
                let note = move |_: usize, part: &_| note(part);
                seal::for_each_sealed(Arc::clone(&store), &prefix, stream, reading.threads, witness, note).await
            }
        };
        seen.give_to(verified, opener.is_some());
        if let Err(stop) = done {
            verified.stopped(stop);
        }
        if verified.broke.is_some() {
            return;
        }
    }
}

/// The parts that were right, also of a stream that was not.
#[derive(Default)]
struct Seen {
    parts: AtomicU64,
    sealed_bytes: AtomicU64,
    plain_bytes: AtomicU64,
}

impl Seen {
    fn add(&self, part: &Part) {
        self.parts.fetch_add(1, Relaxed);
        self.sealed_bytes.fetch_add(part.sealed_bytes, Relaxed);
        self.plain_bytes.fetch_add(part.plain_bytes, Relaxed);
    }

    fn give_to(&self, verified: &mut Verified, opened: bool) {
        verified.parts += self.parts.load(Relaxed);
        verified.sealed_bytes.0 += self.sealed_bytes.load(Relaxed);
        if opened {
            verified.plain_bytes.0 += self.plain_bytes.load(Relaxed);
        }
    }
}
