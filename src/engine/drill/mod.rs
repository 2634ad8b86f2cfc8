//! A drill: lose the database, bring a backup back into a sandbox, check it, judge it, remove the sandbox.
//!
//! The order of things is in [`run`]; how each step is performed is in [`perform`]. Whatever happens in between, the
//! scratch is destroyed, the transcript is written down, and the verdict is derived from the transcript alone.

mod perform;
mod pick;
mod rebuild;
mod replay;
mod stage;

pub use pick::is_known;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use jiff::Timestamp;
use tracing::Instrument;

use self::perform::Performance;
use self::rebuild::Rebuild;
use self::stage::Stage;
use super::ledger::Record;
use super::{House, interrupt};
use crate::catalog::Remembered;
use crate::clock::now;
use crate::domain::artifact::Manifest;
use crate::domain::check::{Broke, CheckName, CheckResult, Finding, Outcome, Stop};
use crate::domain::drill::{Drill, IsolationDemand, Loss, ScratchKind, Step};
use crate::domain::ids::{BackupId, RunId};
use crate::domain::observed::Observed;
use crate::domain::policy::{Method, Policy};
use crate::domain::run::{Event, RunOutcome, Work};
use crate::domain::transcript::{
    BackupUsed, Ended, Judgement, Phase, ScratchUsed, StepRecord, TRANSCRIPT_SCHEMA, Transcript, Verdict,
};
use crate::domain::units::Span;
use crate::judge;
use crate::programs::Programs;
use crate::progress::Progress;
use crate::seal::{self, Opener, SealedManifest};
use crate::store::Store;
use crate::telemetry::{run_span, step_span};

/// Programs that a drill needs. Those that make or run a server are of the backup's major version.
fn wanted(scratch: ScratchKind, method: Method) -> &'static [&'static str] {
    match (scratch, method) {
        (ScratchKind::Database, _) => &["pg_restore"],
        (ScratchKind::Cluster, Method::Physical) => &["postgres"],
        (ScratchKind::Cluster, _) => &["initdb", "postgres", "pg_restore"],
        (ScratchKind::Folder, _) => &[],
    }
}

/// Runs a drill to its end, and gives the transcript with its judgement.
pub async fn run(house: &House, policy: &Policy, drill: &Drill, progress: &dyn Progress) -> Result<Transcript, Broke> {
    // All that the catalog is asked for is asked for here: it may be away when it would be needed.
    let policies = house.policies.iter().map(|known| &known.name).chain(std::iter::once(&policy.name));
    let remembered = Remembered::of(&house.catalog, policies, &policy.name).await?;
    let run = house.begin(&policy.name, Work::Drill { drill: drill.name.clone() }).await?;

    let mut rehearsal = Rehearsal::begin(run, policy, drill);
    // What it reads of the stores is read back: it need not be read again to know that it is right.
    let runs = BTreeMap::from([(policy.name.clone(), Some(run))]);
    let record = Record::new(house, rehearsal.transcript.started_at, runs);
    let stage = House { catalog: Arc::new(remembered), ..house.of_drill(drill) };
    let span = run_span(Some(&policy.name), run, &Work::Drill { drill: drill.name.clone() });
    rehearsal.act(&stage, policy, &record, progress).instrument(span).await;
    if let Err(broke) = record.flush().await {
        progress.say(&format!("warning: what was read back could not be written down: {broke}"));
    }
    let transcript = rehearsal.end();

    house.record(&policy.name, run, Event::Drilled(Box::new(transcript.clone()))).await?;
    let outcome = RunOutcome::Judged(transcript.judgement.verdict);
    house.record(&policy.name, run, Event::Finished { outcome }).await?;
    Ok(transcript)
}

/// Which backup a drill would bring back if it ran now.
pub async fn would_bring_back(house: &House, policy: &Policy, drill: &Drill) -> Result<BackupId, Stop> {
    Ok(pick::pick(&house.of_drill(drill), policy, drill, lost_at(drill, now())).await?.backup)
}

/// The moment of the simulated loss, of a drill that begins `at` this one.
fn lost_at(drill: &Drill, at: Timestamp) -> Timestamp {
    match drill.loss {
        // Which moment that is, is chosen by what the stores hold.
        Loss::Now | Loss::Random => at,
        Loss::At(moment) => moment,
    }
}

/// A step's name in logs and traces: of no more than the kind of step, for what is in it may be the user's own words.
fn title(step: &Step) -> &'static str {
    match step {
        Step::Provision => "provision",
        Step::Restore(_) => "restore",
        Step::AwaitReady(_) => "await readiness",
        Step::Check(check) => check.name.as_str(),
        Step::Sabotage(_) => "sabotage",
        Step::Destroy => "destroy",
    }
}

/// A drill that is under way: the transcript so far, and the monotonic clock that times it.
struct Rehearsal {
    transcript: Transcript,
    began: Instant,
}

impl Rehearsal {
    fn begin(run: RunId, policy: &Policy, drill: &Drill) -> Rehearsal {
        let started_at = now();
        let lost_at = lost_at(drill, started_at);
        let unreached = Outcome::Unchecked("the drill ended before it came to this check".to_owned());
        let checks = drill.steps.iter().filter_map(|step| match step {
            Step::Check(check) => Some(CheckResult {
                name: check.name,
                title: check.title(),
                required: check.required,
                outcome: unreached.clone(),
                looked_at: Vec::new(),
                unchecked: Vec::new(),
                beat: None,
                took: Span::ZERO,
            }),
            Step::Provision | Step::Restore(_) | Step::AwaitReady(_) | Step::Sabotage(_) | Step::Destroy => None,
        });
        let transcript = Transcript {
            schema: TRANSCRIPT_SCHEMA.to_owned(),
            run,
            policy: policy.name.clone(),
            owner: policy.owner.clone(),
            objectives: policy.objectives.clone(),
            drill: drill.clone(),
            started_at,
            finished_at: started_at,
            lost_at,
            backup: None,
            log: None,
            scratch: None,
            steps: Vec::new(),
            checks: checks.collect(),
            clock_skew: Observed::Unknown("no backup was opened".to_owned()),
            tools: BTreeMap::from([("lifeboat".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]),
            environment: Vec::new(),
            judgement: nothing_judged(),
        };
        Rehearsal { transcript, began: Instant::now() }
    }

    /// Everything between the loss and the last step. Never fails: what goes wrong is in the transcript.
    async fn act(&mut self, house: &House, policy: &Policy, record: &Arc<Record>, progress: &dyn Progress) {
        let prepared = tokio::select! {
            prepared = self.prepare(house, policy, progress).instrument(step_span("choose a backup")) => prepared,
            signal = interrupt::asked_to_stop() => {
                Err(Broke::new(format!("the drill was interrupted by {signal}")).into())
            }
        };
        let (sealed, programs, store) = match prepared {
            Ok(prepared) => prepared,
            Err(stop) => return self.never_began(stop),
        };
        let performance: Result<Box<dyn Stage + '_>, Broke> = match &programs {
            Some(programs) => {
                Performance::new(house, policy, &sealed, programs, store, record).map(|one| Box::new(one) as _)
            }
            None => Rebuild::new(house, policy, &sealed, store, record).map(|one| Box::new(one) as _),
        };
        let mut performance = match performance {
            Ok(performance) => performance,
            Err(broke) => return self.never_began(broke.into()),
        };
        let steps = self.transcript.drill.steps.clone();
        let acts: Vec<&Step> = steps.iter().filter(|step| !matches!(step, Step::Destroy)).collect();
        let (mut going, begun) = (true, AtomicUsize::new(0));
        tokio::select! {
            signal = interrupt::asked_to_stop() => {
                // The step that was at work is the one that was cut; those after it were never begun.
                let mut why = Ended::Broke { error: format!("the drill was interrupted by {signal}"), hint: None };
                for step in acts.iter().skip(begun.load(Relaxed).saturating_sub(1)) {
                    self.record((*step).clone(), None, Instant::now(), why, Vec::new());
                    why = Ended::Skipped;
                }
            }
            () = async {
                for step in acts.iter().copied() {
                    begun.fetch_add(1, Relaxed);
                    if going {
                        let performed = self.perform(&mut *performance, step, progress);
                        going = performed.instrument(step_span(title(step))).await;
                    } else {
                        self.record(step.clone(), None, Instant::now(), Ended::Skipped, Vec::new());
                    }
                }
            } => {}
        }
        self.clean_up(house, policy, performance, progress).instrument(step_span(title(&Step::Destroy))).await;
    }

    /// Chooses a backup, reads its manifest, finds programs of its major version.
    async fn prepare(
        &mut self,
        house: &House,
        policy: &Policy,
        progress: &dyn Progress,
    ) -> Result<(SealedManifest, Option<Programs>, Arc<dyn Store>), Stop> {
        if self.transcript.drill.loss == Loss::Random {
            progress.stage("choose a moment");
            self.transcript.lost_at = replay::random_moment(house, policy).await?;
            progress.say(&format!("the moment of the loss, by chance: {}", self.transcript.lost_at));
        }
        progress.stage("choose a backup");
        let picked = pick::pick(house, policy, &self.transcript.drill, self.transcript.lost_at).await?;
        let sealed = seal::load_manifest(&*picked.store, &policy.name, &picked.backup, &house.trusted()?).await?;
        let manifest = &sealed.manifest;
        self.transcript.backup = Some(BackupUsed {
            id: manifest.backup.clone(),
            method: manifest.method,
            store: picked.store.url(),
            place: Some(picked.place.clone()),
            // Without an identity the drill ends before its first step, and says so.
            opened_by: house.opener().map_or_else(|_| Vec::new(), |opener| who_opens(&opener, manifest)),
            why: picked.why.clone(),
            started_at: manifest.started_at,
            finished_at: manifest.finished_at,
            recovery_point: manifest.recovery_point.at,
            basis: manifest.recovery_point.basis,
            manifest_sha256: sealed.sha256.clone(),
            signed_by: sealed.signed_by.clone(),
            signer_trusted: sealed.signer_trusted,
            plain_bytes: manifest.plain_bytes(),
            sealed_bytes: manifest.sealed_bytes(),
            server_version: manifest.fingerprint.server.version.clone(),
        });
        self.transcript.clock_skew = Observed::Known(manifest.clock_skew);
        progress.say(&format!("backup {} in {}: {}", manifest.backup, picked.place, picked.why));
        let mut findings = sealed.findings.clone();
        findings.extend(self.swapped(house, policy, &sealed).await?);
        if !findings.is_empty() {
            return Err(Stop::Found(findings));
        }
        if self.transcript.drill.scratch.kind == ScratchKind::Folder {
            return Ok((sealed, None, picked.store));
        }
        let wanted = wanted(self.transcript.drill.scratch.kind, manifest.method);
        let major = manifest.fingerprint.server.major();
        let programs = Programs::for_dump(&house.config.bin_dirs, major, manifest.dumped_by(), wanted);
        let programs = programs.map_err(Broke::from)?;
        self.transcript.tools.extend(programs.record(wanted));
        let outdated = programs.folders().into_iter().filter_map(|(_, version)| judge::tools::outdated(version));
        self.transcript.environment.extend(outdated);
        self.transcript.environment.extend(judge::tools::blind_source(&manifest.fingerprint.server));
        Ok((sealed, Some(programs), picked.store))
    }

    /// The catalog remembers the manifest that it saw being written: another one under the same name was put there since.
    async fn swapped(&self, house: &House, policy: &Policy, sealed: &SealedManifest) -> Result<Option<Finding>, Broke> {
        let known = house.catalog.artifacts(&policy.name).await?;
        let mut records = known.iter().filter(|record| record.backup == sealed.manifest.backup);
        let other = records.find(|record| record.manifest_sha256 != sealed.sha256);
        Ok(other.map(|record| {
            let message = "the manifest in the store is not the one that was written when the backup was taken";
            let finding = Finding::new("manifest_swapped", format!("manifest of backup {}", record.backup), message);
            finding.with(record.manifest_sha256.clone(), sealed.sha256.clone())
        }))
    }

    /// The drill ended before its first step. A bad manifest is the manifest check's finding, if the drill has one.
    fn never_began(&mut self, stop: Stop) {
        if let Stop::Found(findings) = &stop {
            self.blame_manifest(findings);
        }
        let steps = self.transcript.drill.steps.clone();
        for (index, step) in steps.into_iter().enumerate() {
            let ended = if index == 0 { ended(stop.clone()) } else { Ended::Skipped };
            self.record(step, None, Instant::now(), ended, Vec::new());
        }
    }

    /// Performs one step and writes it down; whether the drill can go on.
    async fn perform(&mut self, performance: &mut dyn Stage, step: &Step, progress: &dyn Progress) -> bool {
        let began = Instant::now();
        match step {
            Step::Provision => {
                progress.stage("provision a scratch");
                let done = performance.provision(&self.transcript).await;
                if let Some(used) = performance.scratch_used() {
                    self.note_isolation(&used);
                    self.transcript.scratch = Some(used);
                }
                self.settle(step, Some(Phase::Provision), began, done)
            }
            Step::Restore(restore) => {
                progress.stage("restore");
                for part in performance.restore(restore, self.transcript.lost_at, progress).await {
                    if let Ended::Found(findings) = &part.ended {
                        self.blame_manifest(findings);
                    }
                    let good = part.ended == Ended::Done;
                    self.record_timed(step.clone(), Some(part.phase), part.began, part.took, part.ended, part.facts);
                    if !good {
                        return false;
                    }
                }
                self.transcript.log = performance.log_replayed();
                if let (Some(scratch), Some(used)) = (self.transcript.scratch.as_mut(), performance.scratch_used()) {
                    *scratch = used;
                }
                true
            }
            Step::AwaitReady(ready) => {
                progress.stage("await readiness");
                let done = performance.await_ready(ready).await;
                self.settle(step, Some(Phase::Ready), began, done)
            }
            Step::Check(check) => {
                progress.stage(&format!("check {}", check.title()));
                let result = performance.check(check).await;
                let facts = vec![format!("{}: {}", result.title, result.outcome.word())];
                let phase = check.required.then_some(Phase::Checks);
                self.store_check(result);
                self.record(step.clone(), phase, began, Ended::Done, facts);
                true
            }
            Step::Sabotage(sabotage) => {
                progress.stage("sabotage");
                progress.say("sabotage on purpose: this drill cannot be proven");
                let done = performance.sabotage(sabotage).await;
                self.settle(step, None, began, done)
            }
            Step::Destroy => true,
        }
    }

    /// The scratch goes, whatever happened; that it is gone is evidence.
    async fn clean_up(
        &mut self,
        house: &House,
        policy: &Policy,
        performance: Box<dyn Stage + '_>,
        progress: &dyn Progress,
    ) {
        progress.stage("destroy the scratch");
        let began = Instant::now();
        let Some(name) = performance.scratch_name() else {
            return self.record(Step::Destroy, None, began, Ended::Skipped, vec!["there was none".to_owned()]);
        };
        let ended = match performance.destroy().await {
            Ok(()) => {
                let event = Event::ScratchDestroyed { name, swept: false };
                let recorded = house.record(&policy.name, self.transcript.run, event).await;
                if let Some(scratch) = &mut self.transcript.scratch {
                    scratch.destroyed_at = Some(now());
                }
                recorded.map_or_else(|broke| ended(broke.into()), |()| Ended::Done)
            }
            Err(broke) => ended(broke.into()),
        };
        self.record(Step::Destroy, None, began, ended, Vec::new());
    }

    fn end(mut self) -> Transcript {
        self.transcript.finished_at = now();
        self.transcript.judgement = judge::drill::judge(&self.transcript);
        self.transcript
    }

    fn settle(&mut self, step: &Step, phase: Option<Phase>, began: Instant, done: Result<Vec<String>, Stop>) -> bool {
        let (ended, facts) = match done {
            Ok(facts) => (Ended::Done, facts),
            Err(stop) => (ended(stop), Vec::new()),
        };
        let good = ended == Ended::Done;
        self.record(step.clone(), phase, began, ended, facts);
        good
    }

    fn record(&mut self, step: Step, phase: Option<Phase>, began: Instant, ended: Ended, facts: Vec<String>) {
        let took = if ended == Ended::Skipped { Span::ZERO } else { Span::from_std(began.elapsed()) };
        self.record_timed(step, phase, began, took, ended, facts);
    }

    fn record_timed(
        &mut self,
        step: Step,
        phase: Option<Phase>,
        began: Instant,
        took: Span,
        ended: Ended,
        facts: Vec<String>,
    ) {
        let began = Span::from_std(began.saturating_duration_since(self.began));
        self.transcript.steps.push(StepRecord { step, phase, began, took, ended, facts });
    }

    fn store_check(&mut self, result: CheckResult) {
        let waiting = |check: &&mut CheckResult| check.title == result.title && check.took == Span::ZERO;
        if let Some(place) = self.transcript.checks.iter_mut().find(waiting) {
            *place = result;
        }
    }

    /// Bad parts stop a restore before any check is made: they are what the check `manifest` would have found.
    fn blame_manifest(&mut self, findings: &[Finding]) {
        let of_the_artifact = |finding: &&Finding| {
            let code = finding.code.as_str();
            let families = ["part_", "wal_", "plain_", "manifest_", "signature_", "signer_", "artifact_", "member_"];
            families.iter().any(|family| code.starts_with(family)) || matches!(code, "wrong_key" | "identity")
        };
        let blamed: Vec<Finding> = findings.iter().filter(of_the_artifact).cloned().collect();
        let manifest = self.transcript.checks.iter_mut().find(|check| check.name == CheckName::Manifest);
        if let (Some(check), false) = (manifest, blamed.is_empty()) {
            check.outcome = Outcome::Failed(blamed);
        }
    }

    fn note_isolation(&mut self, used: &ScratchUsed) {
        let apart = used.isolation.network && used.isolation.files;
        let apart = apart || used.kind == ScratchKind::Folder;
        if !apart && self.transcript.drill.scratch.isolation == IsolationDemand::Preferred {
            let message = "the scratch was not cut off from network and files of the machine: what it held could have reached other systems";
            self.transcript.environment.push(Finding::new("isolation_missing", used.name.clone(), message));
        }
    }
}

/// Of the identities at hand those that a backup was sealed for, by their public halves.
fn who_opens(opener: &Opener, manifest: &Manifest) -> Vec<String> {
    opener.recipients().iter().filter(|ours| manifest.recipients.contains(ours)).cloned().collect()
}

fn ended(stop: Stop) -> Ended {
    match stop {
        Stop::Found(findings) => Ended::Found(findings),
        Stop::Broke(broke) => Ended::Broke { error: broke.error, hint: broke.hint },
    }
}

fn nothing_judged() -> Judgement {
    Judgement {
        verdict: Verdict::Unproven,
        reasons: vec!["not judged yet".to_owned()],
        rpa: None,
        rta: None,
        phases: Vec::new(),
        valid_until: None,
    }
}
