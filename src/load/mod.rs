//! TOML text to domain. Every error of every file is collected, with its place.
//!
//! A file goes through four hands: [`document`] reads it into a tree in which everything knows its place, [`walk`] holds
//! the tree against the schema that is generated from [`raw`], the rules between keys come next, and what passed is
//! converted to the domain. The first three go on after an error; the last is reached only by files without one.

mod catalog;
mod config;
mod document;
mod drill;
mod format;
mod login;
mod policy;
mod problem;
mod raw;
mod store;
mod timetable;
mod walk;
mod watch;

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use self::document::{Document, Node};
use self::format::nearest;
use self::problem::{Problem, Problems};
use crate::domain::config::Config;
use crate::domain::drill::{Drill, ScratchKind, Step};
use crate::domain::ids::PlaceName;
use crate::domain::policy::{Method, Policy};

pub use self::problem::LoadErrors;
pub use self::raw::{FileKind, schema};

pub(crate) use self::format::slug;

/// All of a machine's configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// `lifeboat.toml`.
    pub config: Config,
    /// All policies, by name.
    pub policies: Vec<Policy>,
    /// All drills, by name.
    pub drills: Vec<Drill>,
    /// What is valid but not what one should want, and what this version does not do yet: one sentence each.
    pub warnings: Vec<String>,
}

/// Reads `lifeboat.toml`, and the policies and drills that it points to.
pub fn load(config: &Path) -> Result<Loaded, LoadErrors> {
    read(config, true)
}

/// The same, and no drill is looked at: for who needs none, and must not be kept waiting, or stopped by an error in one.
pub fn load_without_drills(config: &Path) -> Result<Loaded, LoadErrors> {
    read(config, false)
}

fn read(config: &Path, with_drills: bool) -> Result<Loaded, LoadErrors> {
    let mut problems = Problems::default();
    let mut warnings = Vec::new();
    // As people named it, for messages; and the whole path, for everything else.
    let shown = config.parent().unwrap_or(Path::new(""));
    let file = std::path::absolute(config).unwrap_or_else(|_| config.to_owned());
    let folder = file.parent().unwrap_or(Path::new("/")).to_owned();

    let main = Document::read(config, &mut problems);
    let raw_config = main.as_ref().and_then(|document| shape(document, FileKind::Config, &mut problems, config::rules));
    let [policy_folder, drill_folder] = config::folders(main.as_ref());
    let policies = documents(&shown.join(&policy_folder), "policy", &mut problems, &mut warnings);
    let drills = match with_drills {
        true => documents(&shown.join(&drill_folder), "drill", &mut problems, &mut warnings),
        false => Vec::new(),
    };

    let raw_policies: Vec<_> = readable(&policies)
        .map(|document| (document, shape(document, FileKind::Policy, &mut problems, policy::rules)))
        .collect();
    let raw_drills: Vec<_> =
        readable(&drills).map(|document| shape(document, FileKind::Drill, &mut problems, drill::rules)).collect();
    across(main.as_ref(), &policies, &drills, with_drills, &mut problems);
    escrow_is_there(main.as_ref(), &drills, &mut problems);
    if let Some(errors) = problems.finish() {
        return Err(errors);
    }

    // Nothing is wrong, so every file was read; a configuration that was not would have been a problem.
    let config = config::convert(raw_config.unwrap_or_default(), &file, &folder, &mut warnings);
    let mut drills: Vec<Drill> =
        raw_drills.into_iter().flatten().map(|raw| drill::convert(raw, &mut warnings)).collect();
    drills.sort_by(|a, b| a.name.cmp(&b.name));
    let mut policies: Vec<Policy> = raw_policies
        .into_iter()
        .filter_map(|(document, raw)| {
            let file = std::path::absolute(&document.path).unwrap_or_else(|_| document.path.clone());
            let folder = file.parent().unwrap_or(&folder).to_owned();
            Some(policy::convert(raw?, document, &file, &folder, &mut warnings))
        })
        .collect();
    policies.sort_by(|a, b| a.name.cmp(&b.name));
    warn_of_hopeless_drills(&policies, &drills, &mut warnings);
    Ok(Loaded { config, policies, drills, warnings })
}

/// Holds a file against its schema and its rules; what passes is read.
fn shape<T: DeserializeOwned>(
    document: &Document,
    kind: FileKind,
    problems: &mut Problems,
    rules: fn(&Document, &mut Problems),
) -> Option<T> {
    let before = problems.len();
    walk::walk(document, raw::schema_of(kind), problems);
    rules(document, problems);
    if problems.len() > before {
        return None;
    }
    match serde_json::from_value(document.root.json()) {
        Ok(raw) => Some(raw),
        Err(error) => {
            // The walker is as strict as serde, or should be; what slips through must still be an error.
            problems.add(Problem::of_file(
                &document.path,
                error.to_string(),
                "see the JSON Schema: lifeboat check --schema",
            ));
            None
        }
    }
}

/// A file of a folder: none when it could not be read, which has been told.
type Files = Vec<(PathBuf, Option<Document>)>;

/// The `*.toml` files of a folder, by name.
fn documents(folder: &Path, what: &str, problems: &mut Problems, warnings: &mut Vec<String>) -> Files {
    let shown = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = match std::fs::read_dir(shown) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            warnings.push(format!("there is no folder {}, so there is no {what}", shown.display()));
            return Vec::new();
        }
        Err(error) => {
            let hint = "check the folder's owner and mode, and [folders] in lifeboat.toml";
            problems.add(Problem::of_file(shown, format!("this folder cannot be read: {error}"), hint));
            return Vec::new();
        }
    };
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => paths.push(entry.path()),
            Err(error) => {
                let message = format!("this folder cannot be read: {error}");
                problems.add(Problem::of_file(shown, message, "check the file system"));
            }
        }
    }
    let hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml") && !hidden(path));
    paths.sort();
    if paths.is_empty() {
        warnings.push(format!("the folder {} holds no {what}", shown.display()));
    }
    let mut files = Vec::new();
    for path in paths {
        let before = problems.len();
        let document = Document::read(&path, problems);
        // What is left of a file with syntax errors would only give errors that follow from them.
        files.push((path, document.filter(|_| problems.len() == before)));
    }
    files
}

fn readable(files: &Files) -> impl Iterator<Item = &Document> {
    files.iter().filter_map(|(_, document)| document.as_ref())
}

/// Rules between files: names are unique, and what is named is there.
fn across(main: Option<&Document>, policies: &Files, drills: &Files, with_drills: bool, problems: &mut Problems) {
    unique(policies, "policy", "policy.name", problems);
    unique(drills, "drill", "drill.name", problems);
    let keys = |path: &str| -> Vec<String> {
        let table = main.and_then(|document| document.root.get(path));
        table.map(Node::entries).unwrap_or_default().iter().map(|entry| entry.key.clone()).collect()
    };
    let (stores, servers) = (keys("stores"), keys("scratch.servers"));
    let drill_names: Vec<String> =
        readable(drills).filter_map(|file| Some(file.root.get("drill.name")?.text()?.to_owned())).collect();
    // A drill that could not be read may be the one that is named: an error would only follow from the other.
    let all_drills_known = with_drills && drill_names.len() == drills.len();
    let mut known = |document: &Document, node: &Node, what: &str, names: &[String], how: &str| {
        let Some(text) = node.text().filter(|text| !names.iter().any(|name| name == text)) else { return };
        let hint = match nearest(text, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None if names.is_empty() => how.to_owned(),
            None => format!("there are: {}; or {how}", names.join(", ")),
        };
        problems.add(document.problem(&node.span, format!("there is no {what} `{text}`")).hint(hint));
    };
    for document in readable(policies) {
        for job in document.root.get("backup").map(Node::items).unwrap_or_default() {
            let how = "write [stores.NAME] kind = \"file\", path = \"…\" in lifeboat.toml";
            let copies = job.get("copies").map(Node::items).unwrap_or_default();
            for node in job.get("store").into_iter().chain(copies).filter(|_| main.is_some()) {
                known(document, node, "store", &stores, how);
            }
        }
        for drill in document.root.get("drill").map(Node::items).unwrap_or_default() {
            if let Some(node) = drill.get("use").filter(|_| all_drills_known) {
                known(document, node, "drill", &drill_names, "write drills/NAME.toml");
            }
        }
    }
    for document in readable(drills) {
        if let Some(node) = document.root.get("drill.from").filter(|_| main.is_some()) {
            known(document, node, "store", &stores, "write [stores.NAME] in lifeboat.toml");
        }
        if let Some(node) = document.root.get("scratch.server").filter(|_| main.is_some()) {
            known(
                document,
                node,
                "scratch server",
                &servers,
                "write [scratch.servers.NAME] url = \"…\" in lifeboat.toml",
            );
        }
    }
}

/// A drill that is to use the escrow keys alone needs one.
fn escrow_is_there(main: Option<&Document>, drills: &Files, problems: &mut Problems) {
    if main.is_none_or(|main| main.root.get("keys.escrow").is_some_and(|keys| !keys.items().is_empty())) {
        return;
    }
    for document in readable(drills) {
        if let Some(node) = document.root.get("drill.keys").filter(|node| node.text() == Some("escrow")) {
            let hint = "name it in lifeboat.toml: [keys] escrow = [\"…\"]";
            let message = "there is no escrow key for this drill to open anything with";
            problems.add(document.problem(&node.span, message).hint(hint));
        }
    }
}

fn unique(files: &Files, what: &str, key: &str, problems: &mut Problems) {
    let mut seen: Vec<(String, &Path)> = Vec::new();
    for document in readable(files) {
        let Some(node) = document.root.get(key) else { continue };
        let Some(name) = node.text() else { continue };
        match seen.iter().find(|(earlier, _)| earlier == name) {
            Some((_, file)) => {
                let message = format!("there is already a {what} `{name}`, in {}", file.display());
                problems.add(document.problem(&node.span, message).hint(format!("give each {what} a name of its own")));
            }
            None => seen.push((name.to_owned(), &document.path)),
        }
    }
}

/// Drills that can never find a backup that they can restore.
fn warn_of_hopeless_drills(policies: &[Policy], drills: &[Drill], warnings: &mut Vec<String>) {
    for policy in policies {
        for used in &policy.drills {
            let Some(drill) = drills.iter().find(|drill| drill.name == used.drill) else { continue };
            let wanted = match (drill.method, drill.scratch.kind) {
                (Some(method), _) => Some(method),
                (None, ScratchKind::Database) => Some(Method::Logical),
                (None, ScratchKind::Folder) => Some(Method::ControlPlane),
                (None, ScratchKind::Cluster) => None,
            };
            if let Some(method) = wanted
                && !policy.backups.iter().any(|job| job.method == method)
            {
                let (policy, drill, method) = (&policy.name, &drill.name, method.as_str());
                warnings.push(format!(
                    "policy {policy}: drill {drill} restores {method} backups, and no job takes one: it can only be unproven"
                ));
            }
            let gets =
                |from: &PlaceName| policy.backups.iter().any(|job| job.store == *from || job.copies.contains(from));
            if let Some(from) = drill.from.as_ref().filter(|from| !gets(from)) {
                let (policy, drill) = (&policy.name, &drill.name);
                warnings.push(format!(
                    "policy {policy}: drill {drill} uses the store {from} alone, and no job's backups get there: it can only be unproven"
                ));
            }
            if drill.steps.iter().any(|step| matches!(step, Step::Sabotage(_))) && used.schedule.is_some() {
                let (policy, drill) = (&policy.name, &drill.name);
                warnings.push(format!(
                    "policy {policy}: drill {drill} breaks its scratch on purpose, so it never proves anything"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests;
