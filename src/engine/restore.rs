//! The restore for the real day: from a store and a key alone, or with all of a configuration.
//!
//! ```text
//! choose a backup → is it what its signer signed? → is there room, and is the target free? → put it back → say how to go on
//! ```
//! Nothing is ever overwritten. What is not whole cannot be started, and says so.

pub(super) mod choose;
mod database;
mod folder;
pub(super) mod until;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use self::choose::Chosen;
use super::house::new_run;
use super::ledger::Record;
use super::{House, interrupt, process};
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::ids::{BackupId, PlaceName, PolicyName};
use crate::domain::observed::Observed;
use crate::domain::policy::{Method, Policy};
use crate::domain::run::{Event, RunOutcome, Work};
use crate::domain::units::{ByteSize, Span};
use crate::probe::Endpoint;
use crate::progress::Progress;
use crate::seal::{Opener, SealedManifest, TrustedSigners, Witness, list_backups};
use crate::store::Store;
use crate::telemetry::run_span;
use tracing::Instrument;

/// The `schema` of what a restore reports.
pub const RESTORE_SCHEMA: &str = "lifeboat.restore/1";
pub use until::Wanted;

/// What a folder is marked with until the restore into it has come to its end.
pub use crate::backup::physical::INCOMPLETE;

/// Where a backup is brought back to.
#[derive(Clone, Debug)]
pub enum Target {
    /// A data folder that is to be made (physical).
    Folder(PathBuf),
    /// A database that is to be made, or is empty (logical).
    Database(Box<Endpoint>),
}

/// What is wanted.
#[derive(Clone)]
pub struct Request {
    /// Where backups are looked for.
    pub stores: Vec<Arc<dyn Store>>,
    /// What opens them.
    pub opener: Opener,
    /// Who is trusted to have signed.
    pub trusted: TrustedSigners,
    /// Of which policy; none: the only one in the store.
    pub policy: Option<PolicyName>,
    /// Which; none: the newest that the target can take.
    pub backup: Option<BackupId>,
    /// By which method; none: physical for a folder, logical for a database.
    pub method: Option<Method>,
    /// Where to.
    pub target: Target,
    /// Folders for tablespaces, by name.
    pub tablespaces: Vec<(String, PathBuf)>,
    /// Go on although the signature is missing, wrong or a stranger's.
    pub accept_unsigned: bool,
    /// Make the roles that the server lacks, and keep owners and grants (a database).
    pub with_roles: bool,
    /// To a moment of the log behind the backup (a folder); none: what the backup itself brings back.
    pub until: Option<Wanted>,
    /// Folders of PostgreSQL's programs to look in first.
    pub bin_dirs: Vec<PathBuf>,
    /// Threads and jobs.
    pub parallel: usize,
}

/// What was brought back, and how to go on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Restored {
    /// [`RESTORE_SCHEMA`].
    pub schema: &'static str,
    /// Of which policy.
    pub policy: PolicyName,
    /// Which backup.
    pub backup: BackupId,
    /// Why this one.
    pub why: String,
    /// How it was taken.
    pub method: Method,
    /// The moment that it brings back, by the source's clock; with a log behind it, the backup alone.
    pub recovery_point: jiff::Timestamp,
    /// What the log behind it adds, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// The key that signed it, if its signature is right: base64.
    pub signed_by: Observed<String>,
    /// Whether that key is a trusted one.
    pub signer_trusted: bool,
    /// Where it is now.
    pub target: String,
    /// Plaintext.
    pub plain_bytes: ByteSize,
    /// How long it took, in seconds.
    pub took: Span,
    /// Pages that were verified on the way, and how many were wrong (physical).
    pub pages: Option<(u64, u64)>,
    /// What is to be done next: commands, in order.
    pub commands: Vec<String>,
    /// What a person should know before that.
    pub warnings: Vec<String>,
    /// What is wrong with the backup although it was brought back.
    pub findings: Vec<Finding>,
}

/// What one way of putting back has to tell.
struct Done {
    target: String,
    pages: Option<(u64, u64)>,
    commands: Vec<String>,
    warnings: Vec<String>,
    findings: Vec<Finding>,
}

/// Restores, and writes it down in the catalog.
pub async fn recorded(
    house: &House,
    policy: &PolicyName,
    request: &mut Request,
    progress: &dyn Progress,
) -> Result<Restored, Stop> {
    let (run, began) = (new_run(), crate::clock::now());
    let record = Record::new(house, began, BTreeMap::from([(policy.clone(), Some(run))]));
    // By what an unsigned manifest says of them, no part is right.
    if !request.accept_unsigned {
        request.opener = request.opener.watched(Arc::clone(&record) as Arc<dyn Witness>);
    }
    house.record(policy, run, Event::Planned { work: Work::Restore, scheduled_for: None }).await?;
    house.record(policy, run, process::started()).await?;
    let restored = restore(request, progress).instrument(run_span(Some(policy), run, &Work::Restore)).await;
    let outcome = match &restored {
        Ok(_) => RunOutcome::Succeeded,
        Err(Stop::Found(findings)) => RunOutcome::Found(findings.len() as u64),
        Err(Stop::Broke(broke)) => RunOutcome::Broke { error: broke.error.clone(), hint: broke.hint.clone() },
    };
    if let Err(broke) = record.flush().await {
        progress.say(&format!("warning: what was read back could not be written down: {broke}"));
    }
    // On the real day a catalog that cannot be written must not hide that the database is back.
    if let Err(broke) = house.record(policy, run, Event::Finished { outcome }).await {
        progress.say(&format!("warning: the catalog could not be written: {broke}"));
    }
    restored
}

/// Where copies of a policy's backups lie that can be reached, and how they are used; none: nowhere.
pub async fn copies_elsewhere(house: &House, policy: &Policy) -> Option<String> {
    let names: BTreeSet<&PlaceName> = policy.backups.iter().flat_map(|job| &job.copies).collect();
    let trusted = house.trusted().ok()?;
    let mut found = Vec::new();
    for name in names.into_iter().filter(|name| House::is_copy(policy, name)) {
        let Ok(store) = house.store(name) else { continue };
        let Ok(held) = list_backups(&*store, Some(&policy.name), &trusted).await else { continue };
        if let Some((_, newest)) = held.last() {
            let count = held.len();
            found.push(format!("{name} has {count}, the newest is {newest}: add --from {name}"));
        }
    }
    (!found.is_empty()).then(|| format!("there are copies in a second place: {}", found.join("; ")))
}

/// Why the target that was asked for cannot be used, if so: wrong usage. That a server cannot be asked is an error of another
/// kind.
pub async fn unusable_target(request: &Request) -> Result<Option<Broke>, Broke> {
    let wanted = match (request.method, &request.target) {
        (Some(Method::Physical), Target::Database(_)) => Some("physical"),
        (Some(Method::Logical), Target::Folder(_)) => Some("logical"),
        _ => None,
    };
    if let Some(method) = wanted {
        let hint = "a physical backup is brought back with --to DIR, a logical one with --to-database URL";
        return Ok(Some(Broke::hinted(format!("a {method} backup cannot be brought back to that target"), hint)));
    }
    match &request.target {
        Target::Folder(_) if request.with_roles => {
            Ok(Some(Broke::new("--with-roles is for --to-database; a data folder holds its roles")))
        }
        Target::Folder(dir) => {
            let mut places = request.tablespaces.iter().map(|(_, place)| place).chain([dir]);
            Ok(places.find_map(|place| folder::refuse_unless_free(place).err()))
        }
        Target::Database(_) if request.until.is_some() => {
            let hint = "restore a folder with --to DIR, start a server on it, and dump the database from there";
            Ok(Some(Broke::hinted("a dump cannot be brought to a moment of the log", hint)))
        }
        Target::Database(_) if !request.tablespaces.is_empty() => {
            Ok(Some(Broke::new("--tablespace is for --to DIR; a database goes where its server keeps it")))
        }
        Target::Database(endpoint) => database::unusable(endpoint).await,
    }
}

/// Whether a moment can be reached, and by what; nothing is restored.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Foretold {
    /// Whether it can be reached.
    pub reachable: bool,
    /// From which backup.
    pub backup: Option<BackupId>,
    /// How, or why not and how near it comes.
    pub words: String,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// Tells before it is begun how far a restore to `wanted` can get.
pub async fn foretell(request: &Request, wanted: &Wanted, progress: &dyn Progress) -> Result<Foretold, Stop> {
    let candidates = choose::candidates(request, &[Method::Physical], usize::MAX, progress).await?;
    Ok(match until::search(request, wanted, candidates).await? {
        Ok((chosen, course)) => Foretold {
            reachable: true,
            backup: Some(chosen.sealed.manifest.backup.clone()),
            words: course.words(),
            warnings: course.warnings.clone(),
        },
        Err(words) => Foretold { reachable: false, backup: None, words, warnings: Vec::new() },
    })
}

/// Restores. When it is asked to stop it does, and what it leaves says that it is not whole.
pub async fn restore(request: &Request, progress: &dyn Progress) -> Result<Restored, Stop> {
    tokio::select! {
        restored = to_the_end(request, progress) => restored,
        signal = interrupt::asked_to_stop() => {
            let hint = match &request.target {
                Target::Folder(dir) => format!("what is in {} is not whole: remove it, and restore again", dir.display()),
                Target::Database(endpoint) => {
                    format!("database {} is not whole if it is there: drop it, and restore again", endpoint.database)
                }
            };
            Err(Broke::hinted(format!("interrupted: the restore was stopped by {signal}"), hint).into())
        }
    }
}

async fn to_the_end(request: &Request, progress: &dyn Progress) -> Result<Restored, Stop> {
    let began = Instant::now();
    // Before a store is asked for anything: a target that cannot be used is the quickest thing to know.
    if let Some(broke) = unusable_target(request).await? {
        return Err(broke.into());
    }
    // A folder takes a server's copy, or lifeboat's own backup: a policy has the one or the other.
    let wanted: &[Method] = match &request.target {
        Target::Folder(_) => &[Method::Physical, Method::ControlPlane],
        Target::Database(_) => &[Method::Logical],
    };
    let is_own = |chosen: &Chosen| chosen.sealed.manifest.method == Method::ControlPlane;
    let (chosen, course) = match &request.until {
        None => (choose::choose(request, wanted, progress).await?, None),
        Some(until) => {
            let mut candidates = choose::candidates(request, wanted, usize::MAX, progress).await?;
            if candidates.first().is_some_and(is_own) {
                let error =
                    "behind lifeboat's own backup there is no log: it brings back the moment at which it was taken";
                return Err(Broke::hinted(error, "leave the moment out, or name an older backup with --backup").into());
            }
            candidates.retain(|one| !is_own(one));
            let (chosen, course) = until::choose(request, until, candidates).await?;
            (chosen, Some(course))
        }
    };
    let own = is_own(&chosen);
    progress
        .say(&format!("backup {} of {}: {}", chosen.sealed.manifest.backup, chosen.sealed.manifest.policy, chosen.why));
    let mut warnings = vouch(&chosen.sealed, request)?;
    warnings.extend(course.iter().flat_map(|course| course.warnings.clone()));
    for warning in &warnings {
        progress.say(&format!("warning: {warning}"));
    }
    let manifest = &chosen.sealed.manifest;
    if course.is_none() && manifest.method == Method::Physical {
        warnings.extend(until::left_behind(request, manifest).await);
    }
    progress.stage("restore");
    progress.expect(manifest.plain_bytes().0);
    let done = match &request.target {
        Target::Folder(dir) if own => folder::restore_own(request, &chosen, dir, progress).await?,
        Target::Folder(dir) => folder::restore(request, &chosen, course.as_deref(), dir, progress).await?,
        Target::Database(endpoint) => database::restore(request, &chosen, endpoint, progress).await?,
    };
    warnings.extend(done.warnings);
    Ok(Restored {
        schema: RESTORE_SCHEMA,
        policy: manifest.policy.clone(),
        backup: manifest.backup.clone(),
        why: chosen.why.clone(),
        method: manifest.method,
        recovery_point: manifest.recovery_point.at,
        log: course.as_ref().map(|course| course.words()),
        signed_by: chosen.sealed.signed_by.clone(),
        signer_trusted: chosen.sealed.signer_trusted,
        target: done.target,
        plain_bytes: manifest.plain_bytes(),
        took: Span::from_std(began.elapsed()),
        pages: done.pages,
        commands: done.commands,
        warnings,
        findings: done.findings,
    })
}

/// Whether somebody vouches for it. What is wrong stops the restore, unless the person says that it must go on.
pub(super) fn vouch(sealed: &SealedManifest, request: &Request) -> Result<Vec<String>, Stop> {
    let mut findings = sealed.findings.clone();
    if !request.trusted.is_empty() && !sealed.signer_trusted && findings.is_empty() {
        let message = "no key that is trusted has signed it: anybody can make such a backup";
        findings.push(Finding::new("signer_untrusted", "manifest", message));
    }
    if !findings.is_empty() && !request.accept_unsigned {
        return Err(Stop::Found(findings));
    }
    let mut warnings: Vec<String> =
        findings.iter().map(|finding| format!("accepted all the same: {}", finding.message)).collect();
    if request.trusted.is_empty() {
        let whose = match &sealed.signed_by {
            Observed::Known(key) => format!("its signature is right, but whose the key {key} is nobody said"),
            Observed::Absent | Observed::Unknown(_) => "it carries no right signature".to_owned(),
        };
        warnings.push(format!("nobody vouches for this backup: {whose} (name a key with --trusted-signer)"));
    }
    Ok(warnings)
}

/// Whether `bytes` fit onto the disk of `dir`.
fn refuse_without_room(dir: &std::path::Path, bytes: ByteSize, what: &str) -> Result<(), Broke> {
    // A file system that does not tell is tried all the same.
    let Ok(found) = rustix::fs::statvfs(dir) else { return Ok(()) };
    let free = ByteSize(found.f_bavail.saturating_mul(found.f_frsize));
    if free < bytes {
        return Err(Broke::hinted(
            format!("{what} needs {bytes}, and {} has {free} left", dir.display()),
            "make room, or name another place",
        ));
    }
    Ok(())
}
