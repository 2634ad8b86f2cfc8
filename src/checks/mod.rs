//! The assertions about a restored database.
//!
//! Each check gives passed / failed / broke / unchecked, with how much it looked at. A check that looked at nothing is
//! `unchecked`, whatever it was asked.

use crate::domain::artifact::Manifest;
use crate::domain::check::{CheckResult, Finding};
use crate::domain::drill::Check;
use crate::domain::transcript::RestoreFacts;
use crate::probe::Endpoint;
use crate::programs::Programs;
use crate::seal::SealedManifest;

/// What the checks look at.
pub struct Subject<'a> {
    /// The artifact, and what its signature is worth.
    pub sealed: &'a SealedManifest,
    /// The policy that was asked for.
    pub restored: &'a RestoreFacts,
    /// The restored server, as its superuser (or as the scratch server's role).
    pub server: Endpoint,
    /// Databases of the artifact, by the name they had and the name they have now.
    pub databases: Vec<(String, String)>,
    /// The database that assertions ask when they do not name one: by the name it has now.
    pub default_database: String,
    /// Whether the whole server is ours, so that roles, tablespaces and server settings can be compared.
    pub whole_server: bool,
    /// The first transaction identifier that the restored server gave out (physical): rows from there on are not the source's.
    pub own_from: Option<u64>,
    /// Programs of the server's major version.
    pub programs: &'a Programs,
    /// Arguments put before a client program so that it runs in the sandbox too.
    pub wrap: Vec<std::ffi::OsString>,
    /// Parallel jobs.
    pub parallel: usize,
    /// Findings of the source that the page check must not hide.
    pub source_findings: Vec<Finding>,
}

impl<'a> Subject<'a> {
    /// The manifest.
    pub fn manifest(&self) -> &'a Manifest {
        &self.sealed.manifest
    }
}

/// Makes one check. Never panics, never returns early with a good word: an error is `broke`.
pub async fn run(check: &Check, subject: &Subject<'_>) -> CheckResult {
    let _ = (check, subject);
    todo!()
}
