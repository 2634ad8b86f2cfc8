//! TOML text to domain. Every error of every file is collected, with its place.

use std::path::Path;

use crate::domain::config::Config;
use crate::domain::drill::Drill;
use crate::domain::policy::Policy;

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

/// Everything that is wrong with the configuration.
#[derive(Debug)]
pub struct LoadErrors {}

impl LoadErrors {
    /// For people: each with file, line, column, the offending text and a hint.
    pub fn render(&self, color: bool) -> String {
        let _ = color;
        todo!()
    }
    /// For machines.
    pub fn json(&self) -> serde_json::Value {
        todo!()
    }
    /// How many.
    pub fn len(&self) -> usize {
        todo!()
    }
    /// Never.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// Reads `lifeboat.toml`, and the policies and drills that it points to.
pub fn load(config: &Path) -> Result<Loaded, LoadErrors> {
    let _ = config;
    todo!()
}
