//! `lifeboat.toml`: the rules between its keys, and its way into the domain.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::catalog;
use super::document::Document;
use super::login;
use super::problem::Problems;
use super::raw::config::RawConfig;
use super::{store, timetable, watch};
use crate::domain::config::{Config, Keys, Limits, ScratchConfig, ScratchServer};
use crate::domain::ids::PlaceName;
use crate::domain::units::Span;

/// Nobody waits longer for a connection, when nothing is said.
const CONNECT_TIMEOUT: Span = Span::from_secs(10);
/// More threads than this only by the user's word: backups share the machine with the database.
const PARALLEL: usize = 4;

/// What the shape alone cannot say. Works on files that have other errors too.
pub(super) fn rules(document: &Document, problems: &mut Problems) {
    for server in document.root.get("scratch.servers").map(|servers| servers.entries()).unwrap_or_default() {
        login::rules(document, &server.node, problems);
    }
    document.more_than_none(&document.root, "limits.connect_timeout", problems);
    catalog::rules(document, problems);
    store::rules(document, problems);
    watch::rules(document, problems);
    timetable::rules(document, problems);
}

/// The folders of policies and drills, as far as they can be told.
pub(super) fn folders(document: Option<&Document>) -> [PathBuf; 2] {
    let said = |key: &str| document.and_then(|document| document.root.get(key)?.text().map(PathBuf::from));
    [said("folders.policies").unwrap_or("policies".into()), said("folders.drills").unwrap_or("drills".into())]
}

/// The domain's configuration, of a file in which nothing is wrong.
pub(super) fn convert(mut raw: RawConfig, file: &Path, folder: &Path, warnings: &mut Vec<String>) -> Config {
    let path = |written: Option<super::format::Written<super::format::FilePath>>, default: &str| match written {
        Some(path) => path.0.resolve(folder),
        None => folder.join(default),
    };
    let all = |list: Vec<super::format::Written<super::format::FilePath>>| -> Vec<PathBuf> {
        list.into_iter().map(|path| path.0.resolve(folder)).collect()
    };
    let stores = raw.stores.into_iter().filter_map(|(name, raw)| {
        // The walker has seen that every name is one.
        Some((PlaceName::from_str(&name).ok()?, store::convert(raw, folder)?))
    });
    let watch = watch::convert(
        (raw.serve.listen.take(), raw.serve.exposed),
        raw.log,
        raw.telemetry,
        raw.notify,
        raw.route,
        folder,
        warnings,
    );
    let servers = raw.scratch.servers.into_iter().filter_map(|(name, server)| {
        warnings.extend(login::tls_warning(&format!("scratch server {name}"), &server.url.0.0, server.tls));
        let password =
            login::password(folder, server.passfile.as_ref(), server.password_file.as_ref(), server.password_env);
        let tls_ca = server.tls_ca.map(|path| path.0.resolve(folder));
        let server = ScratchServer { url: server.url.0.0, password, tls: server.tls, tls_ca };
        Some((PlaceName::from_str(&name).ok()?, server))
    });
    let servers: BTreeMap<_, _> = servers.collect();
    let connect_timeout = raw.limits.connect_timeout.map_or(CONNECT_TIMEOUT, |span| span.0);
    Config {
        watch,
        file: file.to_owned(),
        catalog: catalog::convert(raw.catalog, folder, connect_timeout, warnings),
        policies: path(raw.folders.policies, "policies"),
        drills: path(raw.folders.drills, "drills"),
        reports: path(raw.folders.reports, "reports"),
        stores: stores.collect(),
        scratch: ScratchConfig {
            dir: raw.scratch.dir.map_or_else(scratch_dir, |path| path.0.resolve(folder)),
            user: raw.scratch.user.map_or_else(|| "postgres".to_owned(), |user| user.0.0),
            preload: raw.scratch.preload.into_iter().map(|name| name.0.0).collect(),
            servers,
        },
        keys: Keys {
            identities: all(raw.keys.identities),
            escrow: all(raw.keys.escrow),
            signing: raw.keys.signing.map(|path| path.0.resolve(folder)),
            trusted_signers: all(raw.keys.trusted_signers),
        },
        bin_dirs: all(raw.postgres.bin_dirs),
        limits: Limits { parallel: raw.limits.parallel.map_or_else(cores, usize::from), connect_timeout },
        schedule: timetable::housekeeping(raw.schedule),
        serve: timetable::serve(raw.serve, raw.worker),
    }
}

/// A folder of this user's own among the temporary files; `/var/tmp` first, for `/tmp` is often memory.
fn scratch_dir() -> PathBuf {
    let var = Path::new("/var/tmp");
    let base = if var.is_dir() { var.to_owned() } else { std::env::temp_dir() };
    base.join(format!("lifeboat-{}", rustix::process::geteuid().as_raw()))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(PARALLEL)
}
