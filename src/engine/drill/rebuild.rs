//! lifeboat itself is lost: catalog, configuration and machine. What is left are the stores and the keys.
//!
//! ```text
//! unpack → read the configuration → import the catalog → take in what the stores have beyond it → does it know all that is there?
//! ```

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use jiff::Timestamp;

use super::super::House;
use super::super::adopt::{self, Reads};
use super::super::carry::{self, Whole};
use super::super::control_plane::{Laid, lay_out};
use super::super::ledger::Record;
use super::stage::{RestorePart, Stage};
use crate::backup::control_plane;
use crate::catalog;
use crate::checks;
use crate::domain::check::{Broke, CheckName, CheckResult, Finding, Stop};
use crate::domain::drill::{AwaitReady, Check, Restore, Sabotage, ScratchKind};
use crate::domain::ids::BackupId;
use crate::domain::observed::Observed;
use crate::domain::policy::{Method, Policy};
use crate::domain::run::Event;
use crate::domain::transcript::{LogReplayed, Phase, RestoreFacts, ScratchUsed, Transcript};
use crate::domain::units::ByteSize;
use crate::judge::integrity::Comparison;
use crate::progress::Progress;
use crate::scratch::Scratch;
use crate::seal::{self, Opener, SealedManifest, Witness};
use crate::store::Store;

/// What the steps of one such drill share.
pub struct Rebuild<'a> {
    house: &'a House,
    policy: &'a Policy,
    sealed: &'a SealedManifest,
    store: Arc<dyn Store>,
    opener: Opener,
    scratch: Option<Scratch>,
    facts: RestoreFacts,
    back: Option<Back>,
}

/// lifeboat, brought back.
struct Back {
    house: House,
    /// What was read in.
    imported: Whole,
    /// What the catalog gave back when it was asked at once.
    again: Whole,
}

impl<'a> Rebuild<'a> {
    /// Before the first step. What opens the artifact is asked for here: without it nothing need be begun.
    pub fn new(
        house: &'a House,
        policy: &'a Policy,
        sealed: &'a SealedManifest,
        store: Arc<dyn Store>,
        record: &Arc<Record>,
    ) -> Result<Rebuild<'a>, Broke> {
        let opener = house.opener()?.watched(Arc::clone(record) as Arc<dyn Witness>);
        let (scratch, facts, back) = (None, RestoreFacts::default(), None);
        Ok(Rebuild { house, policy, sealed, store, opener, scratch, facts, back })
    }

    fn home(&self) -> Result<PathBuf, Broke> {
        let scratch = self.scratch.as_ref().ok_or_else(|| Broke::new("no scratch was made"))?;
        Ok(scratch.work_dir().join("home"))
    }

    async fn unpack(&mut self, progress: &dyn Progress) -> Result<Vec<String>, Stop> {
        let (manifest, home) = (&self.sealed.manifest, self.home()?);
        progress.expect(manifest.plain_bytes().0);
        let parallel = self.house.config.limits.parallel;
        let store = Arc::clone(&self.store);
        self.facts = control_plane::unpack(store, manifest, &self.opener, &home, parallel).await?;
        let (sealed, plain) = (ByteSize(self.facts.sealed_bytes), ByteSize(self.facts.plain_bytes));
        Ok(vec![format!("{} parts fetched, verified, decrypted: {sealed} stored, {plain} written", self.facts.parts)])
    }

    async fn bring_up(&mut self) -> Result<Vec<String>, Stop> {
        let Laid { loaded, origin, export } = lay_out(&self.home()?, &self.house.config.keys)?;
        let (policies, drills) = (loaded.policies.len(), loaded.drills.len());
        let mut house = House::build(loaded)?;
        // The loss took nothing of what a drill is kept from, and gave nothing to it.
        house.only.clone_from(&self.house.only);
        house.stand_ins.clone_from(&self.house.stand_ins);
        let imported = carry::import(catalog::carry(&house.config.catalog)?, &mut *open(&export)?).await?;
        let again = carry::export(catalog::carry(&house.config.catalog)?, &mut std::io::sink()).await?;
        let mut facts = vec![
            format!("configuration of {}: {policies} policies, {drills} drills", origin.config.display()),
            format!("catalog: {} records, digest {}", imported.rows, imported.sha256),
        ];
        // Those that were taken after the catalog was saved. One that is no good is not taken in; the check tells of it, and of stores that cannot be looked into.
        let newer = adopt::take_in(&house, Reads::Unknown, crate::clock::now()).await?.adopted;
        facts.push(format!("backups that only the stores knew: {newer}"));
        if !origin.needs.is_empty() {
            let needs: Vec<String> = origin.needs.iter().map(|path| path.display().to_string()).collect();
            facts.push(format!("secrets that must come from elsewhere: {}", needs.join(", ")));
        }
        self.back = Some(Back { house, imported, again });
        Ok(facts)
    }

    /// Whether what came back is all of it, and knows all that there is.
    async fn look(&self) -> Result<Comparison, Stop> {
        let back = self.back.as_ref().ok_or_else(|| Broke::new("nothing was brought back"))?;
        let mut seen = Comparison::default();
        if back.again != back.imported {
            let message = "what the catalog gives back is not what was exported";
            let finding = Finding::new("catalog_digest", "catalog", message);
            seen.findings.push(finding.with(back.imported.sha256.as_str(), back.again.sha256.as_str()));
        }
        seen.looked(back.imported.rows, "records of the catalog");
        seen.looked(back.house.drills.len() as u64, "drills");
        let (trusted, opener) = (back.house.trusted()?, &self.opener);
        for policy in back.house.policies.iter() {
            seen.looked(1, "policies");
            of_policy(&back.house, policy, &trusted, opener, &mut seen).await?;
        }
        Ok(seen)
    }
}

/// The pieces of an export, put end to end.
fn open(pieces: &[PathBuf]) -> Result<Box<dyn BufRead + Send>, Broke> {
    let mut whole: Box<dyn Read + Send> = Box::new(std::io::empty());
    for piece in pieces {
        let file =
            File::open(piece).map_err(|error| Broke::new(format!("{} cannot be read: {error}", piece.display())))?;
        whole = Box::new(whole.chain(file));
    }
    Ok(Box::new(BufReader::new(whole)))
}

/// What the catalog knows of a policy is in the stores, what is in the stores it knows, and the newest can be opened.
async fn of_policy(
    house: &House,
    policy: &Policy,
    trusted: &seal::TrustedSigners,
    opener: &Opener,
    seen: &mut Comparison,
) -> Result<(), Stop> {
    let known = house.catalog.artifacts(&policy.name).await?;
    for name in House::places_of(policy) {
        let object = |backup: &BackupId| format!("backup {backup} of {} in {name}", policy.name);
        let listed = match house.store(&name) {
            Ok(store) => seal::list_backups(&*store, Some(&policy.name), trusted)
                .await
                .map(|held| (store, held))
                .map_err(Broke::from),
            Err(broke) => Err(broke),
        };
        let (store, held) = match listed {
            Ok(listed) => listed,
            // A store that was never written to is not there, and nobody misses anything in it.
            Err(broke) => {
                if known.iter().any(|record| record.store == name) {
                    seen.blind(format!("store {name} of {}", policy.name), broke.error);
                } else {
                    seen.skip(format!("store {name} of {}", policy.name), broke.error);
                }
                continue;
            }
        };
        let held: BTreeSet<BackupId> = held.into_iter().map(|(_, backup)| backup).collect();
        let ours: BTreeSet<&BackupId> =
            known.iter().filter(|record| record.store == name).map(|record| &record.backup).collect();
        seen.looked(held.len() as u64, "backups in the stores");
        let tombstones = seal::list_tombstones(&*store, Some(&policy.name), trusted).await.map_err(Broke::from)?;
        for backup in ours.iter().filter(|backup| !held.contains(**backup)) {
            if tombstones.contains_key(&(policy.name.clone(), (**backup).clone())) {
                continue;
            }
            let message = "the catalog knows it, and the store does not have it";
            seen.findings.push(Finding::new("artifact_missing", object(backup), message));
        }
        for backup in held.iter().filter(|backup| !ours.contains(backup)) {
            let message = "the store has it, and it could not be taken into the catalog: its manifest is not right";
            seen.findings.push(Finding::new("artifact_unknown", object(backup), message));
        }
        if let Some(newest) = held.iter().next_back() {
            let sealed = seal::load_manifest(&*store, &policy.name, newest, trusted).await?;
            if let (Observed::Known(_), false) = (&sealed.signed_by, sealed.signer_trusted) {
                let message = "no key that is trusted has signed it";
                seen.findings.push(Finding::new("signer_untrusted", object(newest), message));
            }
            if !opener.recipients().iter().any(|ours| sealed.manifest.recipients.contains(ours)) {
                let message = "none of the keys that are at hand opens it";
                seen.findings.push(Finding::new("wrong_key", object(newest), message));
            }
            seen.looked(1, "newest backups");
        }
    }
    Ok(())
}

#[async_trait]
impl Stage for Rebuild<'_> {
    async fn provision(&mut self, transcript: &Transcript) -> Result<Vec<String>, Stop> {
        if self.sealed.manifest.method != Method::ControlPlane {
            let error = format!("backup {} is of a server, and a folder takes none", self.sealed.manifest.backup);
            return Err(Broke::hinted(error, "use scratch kind `cluster`").into());
        }
        let name = transcript.run.scratch_name();
        // Written down before it is made: a kill between the two leaves an owed sweep, never an unknown scratch.
        self.house.record(&self.policy.name, transcript.run, Event::ScratchMade { name: name.clone() }).await?;
        self.scratch = Some(Scratch::folder(transcript.run, &self.house.config.scratch)?);
        Ok(vec![format!("scratch {name}"), "an empty folder; nothing of the present catalog is used".to_owned()])
    }

    async fn restore(&mut self, _: &Restore, _: Timestamp, progress: &dyn Progress) -> Vec<RestorePart> {
        let began = Instant::now();
        let mut parts = vec![RestorePart::ended(Phase::Restore, began, self.unpack(progress).await)];
        if parts.iter().all(|part| part.ended == crate::domain::transcript::Ended::Done) {
            let began = Instant::now();
            parts.push(RestorePart::ended(Phase::Start, began, self.bring_up().await));
        }
        parts
    }

    async fn await_ready(&self, _: &AwaitReady) -> Result<Vec<String>, Stop> {
        Err(Broke::hinted("there is no server to ask", "leave `await-ready` out of this drill").into())
    }

    async fn check(&self, check: &Check) -> CheckResult {
        match check.name {
            CheckName::Manifest => {
                checks::made(check, async { checks::manifest(self.sealed, &self.facts, true) }).await
            }
            CheckName::ControlPlane => checks::made(check, self.look()).await,
            _ => {
                let hint = "use `manifest` and `control_plane`";
                checks::made(check, async { Err(Broke::hinted("this check is for a server", hint).into()) }).await
            }
        }
    }

    async fn sabotage(&self, _: &Sabotage) -> Result<Vec<String>, Stop> {
        Err(Broke::hinted("there is no server to break", "leave `sabotage` out of this drill").into())
    }

    fn log_replayed(&self) -> Option<LogReplayed> {
        None
    }

    fn scratch_used(&self) -> Option<ScratchUsed> {
        let scratch = self.scratch.as_ref()?;
        Some(ScratchUsed {
            kind: ScratchKind::Folder,
            name: scratch.name().to_owned(),
            server_version: None,
            isolation: scratch.isolation(),
            destroyed_at: None,
        })
    }

    fn scratch_name(&self) -> Option<String> {
        self.scratch.as_ref().map(|scratch| scratch.name().to_owned())
    }

    async fn destroy(self: Box<Self>) -> Result<(), Broke> {
        // The catalog in it is closed first.
        drop(self.back);
        match self.scratch {
            Some(scratch) => scratch.destroy().await,
            None => Ok(()),
        }
    }
}
