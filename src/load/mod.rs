//! TOML text to domain. Every error of every file is collected, with its place.
//!
//! A file goes through four hands: [`document`] reads it into a tree in which everything knows its place, [`walk`] holds
//! the tree against the schema that is generated from [`raw`], the rules between keys come next, and what passed is
//! converted to the domain. The first three go on after an error; the last is reached only by files without one.

mod across;
mod catalog;
mod config;
mod document;
mod drill;
mod files;
mod format;
mod login;
mod policy;
mod problem;
mod raw;
mod store;
mod timetable;
mod walk;
mod watch;

use std::path::Path;

use serde::de::DeserializeOwned;

use self::across::Outline;
use self::document::Document;
use self::files::Kind;
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

/// Which files are read.
#[derive(Clone, Copy, Debug)]
enum Extent {
    All,
    /// No drill.
    WithoutDrills,
    /// Of the policies only those from this file on, and at most so many.
    Page {
        from: usize,
        at_most: usize,
    },
}

/// A part of a machine's configuration.
#[derive(Debug)]
pub struct Page {
    /// Everything but the policies, and those whose files are on the page.
    pub loaded: Loaded,
    /// Files of policies that there are.
    pub of: usize,
}

/// Reads `lifeboat.toml`, and the policies and drills that it points to.
pub fn load(config: &Path) -> Result<Loaded, LoadErrors> {
    read(config, Extent::All).map(|page| page.loaded)
}

/// The same, and no drill is looked at: for who needs none, and must not be kept waiting, or stopped by an error in one.
pub fn load_without_drills(config: &Path) -> Result<Loaded, LoadErrors> {
    read(config, Extent::WithoutDrills).map(|page| page.loaded)
}

/// The same as [`load`], but of the policies only those from a file on (files by name, from 0), and at most so many: errors in others are not found.
pub fn load_page(config: &Path, from: usize, at_most: usize) -> Result<Page, LoadErrors> {
    read(config, Extent::Page { from, at_most })
}

fn read(config: &Path, extent: Extent) -> Result<Page, LoadErrors> {
    let mut problems = Problems::default();
    let mut warnings = Vec::new();
    // As people named it, for messages; and the whole path, for everything else.
    let shown = config.parent().unwrap_or(Path::new(""));
    let file = std::path::absolute(config).unwrap_or_else(|_| config.to_owned());
    let folder = file.parent().unwrap_or(Path::new("/")).to_owned();

    let main = Document::read(config, &mut problems);
    let raw_config = main.as_ref().and_then(|document| shape(document, FileKind::Config, &mut problems, config::rules));
    let [policy_folder, drill_folder] = config::folders(main.as_ref());
    let policy_files = files::list(&shown.join(&policy_folder), "policy", &mut problems, &mut warnings);
    let of = policy_files.len();
    let policy_files = match extent {
        Extent::Page { from, at_most } => &policy_files[from.min(of)..from.saturating_add(at_most).min(of)],
        Extent::All | Extent::WithoutDrills => &policy_files[..],
    };
    let mut policies = files::read(policy_files, &POLICY, &mut problems);
    let drills = match extent {
        Extent::WithoutDrills => None,
        Extent::All | Extent::Page { .. } => {
            let paths = files::list(&shown.join(&drill_folder), "drill", &mut problems, &mut warnings);
            Some(files::read(&paths, &DRILL, &mut problems))
        }
    };
    let drill_outlines = drills.as_ref().map(|drills| drills.outlines.as_slice());
    across::rules(main.as_ref(), &policies.outlines, drill_outlines, &mut problems);
    if let Some(errors) = problems.finish() {
        return Err(errors);
    }

    // Nothing is wrong, so every file was read; a configuration that was not would have been a problem.
    let config = config::convert(raw_config.unwrap_or_default(), &file, &folder, &mut warnings);
    let mut drills = drills.map_or_else(Vec::new, |drills| {
        warnings.extend(drills.warnings);
        drills.values
    });
    warnings.append(&mut policies.warnings);
    let mut policies = policies.values;
    drills.sort_by(|a, b| a.name.cmp(&b.name));
    policies.sort_by(|a, b| a.name.cmp(&b.name));
    warn_of_hopeless_drills(&policies, &drills, &mut warnings);
    Ok(Page { loaded: Loaded { config, policies, drills, warnings }, of })
}

const POLICY: Kind<Policy> = Kind {
    outline: Outline::of_policy,
    value: |document, problems, warnings| {
        let raw = shape(document, FileKind::Policy, problems, policy::rules)?;
        let file = std::path::absolute(&document.path).unwrap_or_else(|_| document.path.clone());
        let folder = file.parent().unwrap_or(Path::new("/")).to_owned();
        Some(policy::convert(raw, document, &file, &folder, warnings))
    },
};

const DRILL: Kind<Drill> = Kind {
    outline: Outline::of_drill,
    value: |document, problems, warnings| {
        Some(drill::convert(shape(document, FileKind::Drill, problems, drill::rules)?, warnings))
    },
};

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
