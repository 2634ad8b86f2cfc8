//! Tries what is on this machine: stores, keys, programs, the scratch folder and the means of isolation.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use base64::Engine as _;
use bytes::Bytes;
use ed25519_dalek::VerifyingKey;
use ed25519_dalek::pkcs8::DecodePublicKey;

use super::source::Facts;
use super::tried::Tried;
use crate::catalog::{self, SqliteCatalog};
use crate::domain::check::Broke;
use crate::domain::config::{CatalogPlace, Config, StoreConfig};
use crate::domain::drill::{Drill, IsolationDemand, ScratchKind};
use crate::domain::policy::{Method, Policy};
use crate::domain::units::ByteSize;
use crate::judge;
use crate::load::Loaded;
use crate::programs::Programs;
use crate::scratch;
use crate::seal::{Opener, Signer, TrustedSigners};
use crate::store::{self, Duty};

/// Probe objects of stores lie here, and nowhere else.
const PROBE: &str = ".lifeboat-check";

/// Opens the catalog if there is one; else looks whether it could be made. `check` itself writes nothing down.
pub(super) async fn catalog(config: &Config) -> Tried {
    match &config.catalog {
        CatalogPlace::Sqlite(path) => Tried::of("catalog", "sqlite", sqlite(path)),
        CatalogPlace::Postgres(server) => {
            let looked = catalog::look(server).await.map(|there| match catalog::waiting(&server.spool) {
                waiting if waiting.files == 0 => there,
                waiting => format!("{there}; {} files wait for it in {}", waiting.files, server.spool.display()),
            });
            Tried::of("catalog", "postgres", looked)
        }
    }
}

fn sqlite(path: &Path) -> Result<String, Broke> {
    if path.exists() {
        return SqliteCatalog::open(path).map(|_| format!("{} can be opened", path.display()));
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    writable(folder, "let this user write there, or name another: [catalog] path")
        .map(|_| format!("{} will be made", path.display()))
}

/// Tries each store with a small object.
pub(super) async fn stores(config: &Config, tried: &mut Vec<Tried>) {
    for (name, store) in &config.stores {
        tried.push(Tried::of("store", name, probe_store(store).await));
    }
}

async fn probe_store(config: &StoreConfig) -> Result<String, Broke> {
    let store = store::open(config, Duty::Backup, None).map_err(Broke::from)?;
    let key = format!("{PROBE}/{}", uuid::Uuid::now_v7());
    let bytes = Bytes::from_static(b"lifeboat check: may be deleted\n");
    store.put_new(&key, bytes.clone()).await.map_err(Broke::from)?;
    // Whatever comes next, the object goes away again.
    let looked = async {
        let back = store.get(&key).await.map_err(Broke::from)?;
        let listed = store.list(PROBE).await.map_err(Broke::from)?;
        Ok::<_, Broke>((back == bytes, listed.iter().any(|object| object.key == key)))
    };
    let looked = looked.await;
    store.delete(&key).await.map_err(Broke::from)?;
    let hint = "nothing that is written there can be relied on: check the folder's file system";
    match looked? {
        (true, true) => Ok(format!("{}: an object was written, read, listed and deleted", store.url())),
        (false, _) => Err(Broke::hinted(format!("{}: what was read is not what was written", store.url()), hint)),
        (true, false) => Err(Broke::hinted(format!("{}: what was written is not listed", store.url()), hint)),
    }
}

/// Tries the folders in which the log waits for a store that is down.
pub(super) fn spools(loaded: &Loaded, tried: &mut Vec<Tried>) {
    for policy in &loaded.policies {
        let Some(spool) = policy.wal.as_ref().and_then(|wal| wal.spool.as_ref()) else { continue };
        let hint = "make its parent folder and let this user write there, or name another: [wal] spool in the policy";
        let look = || {
            // It is made when it is needed, but nothing above it is.
            let there = if spool.dir.exists() { &spool.dir } else { spool.dir.parent().unwrap_or(&spool.dir) };
            if writable(there, hint)? != there {
                return Err(Broke::hinted(format!("there is no folder {}", there.display()), hint));
            }
            let stat = rustix::fs::statvfs(there)
                .map_err(|error| Broke::hinted(format!("{}: {error}", there.display()), hint))?;
            let free = ByteSize(stat.f_bavail.saturating_mul(stat.f_frsize));
            let how = if spool.dir.exists() { "can be written" } else { "will be made" };
            Ok(format!("{} {how}: at most {}, and {free} are free", spool.dir.display(), spool.max))
        };
        tried.push(Tried::of("spool", &policy.name, look()));
    }
}

/// Tries each key, and whether keys and policies fit.
pub(super) fn keys(loaded: &Loaded, tried: &mut Vec<Tried>) {
    const AREA: &str = "key";
    let keys = &loaded.config.keys;
    let signer = match &keys.signing {
        None => {
            tried.push(Tried::not_tried(AREA, "signing", "none is configured: this machine can take no backup"));
            None
        }
        Some(path) => match Signer::read(path) {
            Ok(signer) => {
                tried.push(Tried::ok(AREA, "signing", path.display().to_string()));
                Some(signer.public_key())
            }
            Err(error) => {
                tried.push(Tried::wrong(AREA, "signing", Broke::from(error)));
                None
            }
        },
    };
    if keys.trusted_signers.is_empty() {
        tried.push(Tried::not_tried(AREA, "trusted signers", "none is configured: no backup can be trusted here"));
    } else {
        tried.push(Tried::of(AREA, "trusted signers", trusted(&keys.trusted_signers, signer.as_deref())));
    }
    if keys.identities.is_empty() {
        let why = "none is configured: this machine can open no backup, so it can neither drill nor restore";
        tried.push(Tried::not_tried(AREA, "identities", why));
        return;
    }
    match Opener::read(&keys.identities) {
        Err(error) => {
            tried.push(Tried::wrong(AREA, "identities", Broke::from(error)));
            for policy in &loaded.policies {
                tried.push(Tried::not_tried(AREA, format!("{}: recipients", policy.name), "no identity can be read"));
            }
        }
        Ok(_) => {
            let files: Vec<String> = keys.identities.iter().map(|path| path.display().to_string()).collect();
            tried.push(Tried::ok(AREA, "identities", files.join(", ")));
            let ours: BTreeSet<String> = keys.identities.iter().flat_map(|path| recipients_in(path)).collect();
            for policy in &loaded.policies {
                let result = openable(policy, &ours);
                tried.push(Tried::of(AREA, format!("{}: recipients", policy.name), result));
            }
        }
    }
}

fn trusted(paths: &[PathBuf], signer: Option<&str>) -> Result<String, Broke> {
    TrustedSigners::read(paths).map_err(Broke::from)?;
    let Some(signer) = signer else { return Ok(format!("{} readable", paths.len())) };
    let known = paths.iter().filter_map(|path| {
        let key = VerifyingKey::from_public_key_pem(&std::fs::read_to_string(path).ok()?).ok()?;
        Some(base64::engine::general_purpose::STANDARD.encode(key.as_bytes()))
    });
    if known.into_iter().any(|key| key == signer) {
        Ok(format!("{} readable, this machine's own among them", paths.len()))
    } else {
        Err(Broke::hinted(
            "this machine's signing key is not among them: what it backs up, it would call forged",
            "add the public key of [keys] signing to trusted_signers",
        ))
    }
}

/// The recipients of the identities in a file.
pub(super) fn recipients_in(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let identities = text.lines().filter_map(|line| age::x25519::Identity::from_str(line.trim()).ok());
    identities.map(|identity| identity.to_public().to_string()).collect()
}

pub(super) fn openable(policy: &Policy, ours: &BTreeSet<String>) -> Result<String, Broke> {
    let all = &policy.encryption.recipients;
    let opened = all.iter().filter(|recipient| ours.contains(*recipient)).count();
    if opened == 0 {
        return Err(Broke::hinted(
            format!("none of the {} recipients is a key of this machine: no drill could open these backups", all.len()),
            "add the identity's `age1…` to [encryption] recipients, or the right key file to [keys] identities",
        ));
    }
    Ok(format!("{opened} of {} can be opened here", all.len()))
}

/// Looks for PostgreSQL's programs, of the version of each server.
pub(super) fn programs(loaded: &Loaded, facts: &[(&Policy, Option<Facts>)], tried: &mut Vec<Tried>) {
    for (policy, facts) in facts {
        let subject = format!("{}: PostgreSQL's", policy.name);
        let wanted = wanted_programs(loaded, policy);
        match facts {
            _ if wanted.is_empty() => {}
            None => tried.push(Tried::not_tried("programs", subject, "the server's version is not known")),
            Some(facts) => {
                let found = Programs::for_server(&loaded.config.bin_dirs, facts.major, &wanted);
                let outdated = found.as_ref().ok().and_then(|programs| {
                    programs.folders().into_iter().find_map(|(_, version)| judge::tools::outdated(version))
                });
                let told = found.map(|programs| {
                    let folders = programs.folders();
                    let folders: Vec<String> =
                        folders.iter().map(|(dir, version)| format!("{version} in {}", dir.display())).collect();
                    format!("{}: {}", folders.join(", "), wanted.join(", "))
                });
                tried.push(Tried::of("programs", subject.clone(), told.map_err(Broke::from)));
                if let Some(finding) = outdated {
                    let wrong = Broke::hinted(
                        format!("{}: {}", finding.object, finding.message),
                        "update PostgreSQL's packages",
                    );
                    tried.push(Tried::of("programs", subject, Err(wrong)));
                }
            }
        }
    }
}

/// Everything that the policy's jobs and drills run.
fn wanted_programs(loaded: &Loaded, policy: &Policy) -> Vec<&'static str> {
    let takes = |method: Method| policy.backups.iter().any(|job| job.method == method);
    let drills: Vec<&Drill> = drills_of(loaded, policy);
    let own_server = drills.iter().any(|drill| drill.scratch.kind == ScratchKind::Cluster);
    let mut wanted = Vec::new();
    if takes(Method::Logical) {
        wanted.extend(["pg_dump", "pg_dumpall"]);
    }
    if takes(Method::Physical) {
        wanted.push("pg_basebackup");
    }
    if !drills.is_empty() && takes(Method::Logical) {
        wanted.push("pg_restore");
    }
    if own_server {
        wanted.extend(["initdb", "postgres"]);
    }
    wanted
}

fn drills_of<'a>(loaded: &'a Loaded, policy: &Policy) -> Vec<&'a Drill> {
    loaded.drills.iter().filter(|drill| policy.drills.iter().any(|used| used.drill == drill.name)).collect()
}

/// Tries the scratch folder, its room, its user, and the means of isolation.
pub(super) fn scratch(loaded: &Loaded, facts: &[(&Policy, Option<Facts>)], tried: &mut Vec<Tried>) {
    const AREA: &str = "scratch";
    let clusters: Vec<&Drill> =
        loaded.drills.iter().filter(|drill| drill.scratch.kind == ScratchKind::Cluster).collect();
    if clusters.is_empty() {
        tried.push(Tried::not_tried(AREA, "folder", "no drill makes a server of its own"));
        return;
    }
    let config = &loaded.config.scratch;
    tried.push(Tried::of(AREA, "folder", folder(&config.dir)));
    let largest = facts.iter().filter_map(|(_, facts)| facts.as_ref()).map(Facts::bytes).max();
    match largest {
        Some(bytes) => tried.push(Tried::of(AREA, "room", room(&config.dir, bytes))),
        None => tried.push(Tried::not_tried(AREA, "room", "no server could be asked for its size")),
    }
    let root = rustix::process::geteuid().is_root();
    if root {
        tried.push(Tried::of(AREA, "user", user(&config.user)));
    }
    let required = clusters.iter().any(|drill| drill.scratch.isolation == IsolationDemand::Required);
    tried.push(isolation(&loaded.config, required));
}

/// Starts a program as scratch servers are started, and says what it was kept from.
fn isolation(config: &Config, required: bool) -> Tried {
    const SUBJECT: &str = "isolation";
    let programs = match Programs::newest(&config.bin_dirs, &["postgres"]) {
        Ok(programs) => programs,
        Err(error) => return Tried::not_tried("scratch", SUBJECT, Broke::from(error).error),
    };
    let demand = if required { IsolationDemand::Required } else { IsolationDemand::Preferred };
    match scratch::try_out(&config.scratch.user, nearest_folder(&config.scratch.dir), &programs, demand) {
        Err(broke) => Tried::wrong("scratch", SUBJECT, broke),
        Ok(seen) => {
            let say = |apart: bool, word: &'static str| if apart { word } else { "within reach" };
            let (network, files) = (say(seen.network, "own"), say(seen.files, "hidden"));
            let text =
                format!("network: {network}, files of the machine: {files}, user {}, by {}", seen.user, seen.means);
            if seen.network && seen.files {
                Tried::ok("scratch", SUBJECT, text)
            } else {
                Tried::not_tried("scratch", SUBJECT, format!("{text}; no drill requires more"))
            }
        }
    }
}

/// The folder itself, or the nearest above it that is there.
fn nearest_folder(dir: &Path) -> &Path {
    dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

fn folder(dir: &Path) -> Result<String, Broke> {
    let there = writable(dir, "make it and let this user write there, or name another: [scratch] dir")?;
    let how = if there == dir { "can be written" } else { "will be made" };
    Ok(format!("{} {how}", dir.display()))
}

/// Makes something in a folder, or in the nearest above it that is there, and removes it again; gives that folder.
fn writable<'a>(dir: &'a Path, hint: &str) -> Result<&'a Path, Broke> {
    let there = nearest_folder(dir);
    if !there.is_dir() {
        return Err(Broke::hinted(format!("{} is not a folder", there.display()), hint));
    }
    match tempfile::Builder::new().prefix(PROBE).tempdir_in(there) {
        Ok(_) => Ok(there),
        Err(error) => Err(Broke::hinted(format!("nothing can be made in {}: {error}", there.display()), hint)),
    }
}

fn room(dir: &Path, wanted: u64) -> Result<String, Broke> {
    let there = nearest_folder(dir);
    let hint = "name a larger disk: [scratch] dir";
    let stat =
        rustix::fs::statvfs(there).map_err(|error| Broke::hinted(format!("{}: {error}", there.display()), hint))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let (free, wanted) = (ByteSize(free), ByteSize(wanted));
    if free < wanted {
        let error = format!("{free} are free in {}, and the largest server holds {wanted}", there.display());
        return Err(Broke::hinted(error, hint));
    }
    Ok(format!("{free} free; the largest server holds {wanted}"))
}

fn user(name: &str) -> Result<String, Broke> {
    let hint = "make it (`useradd --system NAME`), or name another: [scratch] user";
    match quiet("id", &["-u", name]).as_deref() {
        Ok("0") => Err(Broke::hinted(format!("user {name} is root: PostgreSQL does not run as root"), hint)),
        Ok(id) => Ok(format!("{name} ({id})")),
        Err(_) => Err(Broke::hinted(format!("there is no user {name}"), hint)),
    }
}

/// What a program prints; or why it failed.
fn quiet(program: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.trim().lines().last().map_or_else(|| format!("{program}: {}", output.status), str::to_owned))
}
