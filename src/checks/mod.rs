//! The assertions about a restored database.
//!
//! Each check gives passed / failed / broke / unchecked, with how much it looked at. A check that looked at nothing is
//! `unchecked`, whatever it was asked. Nothing that one check saw is kept for another: between two of them somebody may have
//! broken the copy, and that must show.

mod amcheck;
mod ask;
mod compare;
mod restored;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use futures_util::FutureExt;

use crate::domain::artifact::Manifest;
use crate::domain::check::{Broke, CheckName, CheckResult, Finding, Measure, Outcome, Stop};
use crate::domain::drill::Check;
use crate::domain::heartbeat::BeatTerms;
use crate::domain::policy::Method;
use crate::domain::transcript::RestoreFacts;
use crate::domain::units::Span;
use crate::judge::integrity::{Comparison, Terms};
use crate::probe::{Endpoint, Fault, ProbeError};
use crate::programs::Programs;
use crate::seal::SealedManifest;

pub use restored::manifest;

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
    /// What the heartbeat must be like.
    pub heartbeat: BeatTerms,
    /// Programs of the server's major version.
    pub programs: &'a Programs,
    /// Arguments put before a client program so that it runs in the sandbox too.
    pub wrap: Vec<std::ffi::OsString>,
    /// Parallel jobs.
    pub parallel: usize,
}

impl<'a> Subject<'a> {
    /// The manifest.
    pub fn manifest(&self) -> &'a Manifest {
        &self.sealed.manifest
    }

    fn terms(&self) -> Terms {
        Terms { physical: self.manifest().method == Method::Physical, whole_server: self.whole_server }
    }
}

/// How long a check may take when nothing is said.
const TIMEOUT: Span = Span::from_secs(3600);

/// How many findings of one check are kept one by one: a report of a lost schema must stay readable.
const FINDINGS: usize = 500;

/// Makes one check. Never panics, never returns early with a good word: an error is `broke`.
pub async fn run(check: &Check, subject: &Subject<'_>) -> CheckResult {
    let limit = check.timeout.unwrap_or(TIMEOUT);
    made(check, make(check, subject, limit)).await
}

/// The same for one that is made elsewhere.
pub async fn made(check: &Check, making: impl Future<Output = Result<Comparison, Stop>>) -> CheckResult {
    let began = Instant::now();
    let limit = check.timeout.unwrap_or(TIMEOUT);
    // Readiness has its own clock: there a late answer is a finding.
    let guard = if check.name == CheckName::Readiness { limit.saturating_add(TIMEOUT) } else { limit };
    let making = AssertUnwindSafe(making).catch_unwind();
    let mut beat = None;
    let (outcome, looked_at, unchecked) = match tokio::time::timeout(guard.to_std(), making).await {
        Ok(Ok(Ok(comparison))) => {
            beat = comparison.beat;
            (comparison.outcome(), comparison.looked_at, comparison.unchecked)
        }
        Ok(Ok(Err(Stop::Found(findings)))) => (Outcome::Failed(findings), Vec::new(), Vec::new()),
        Ok(Ok(Err(Stop::Broke(Broke { error, hint })))) => (Outcome::Broke { error, hint }, Vec::new(), Vec::new()),
        Ok(Err(_)) => {
            let error = "the check itself failed: this is an error in lifeboat".to_owned();
            (Outcome::Broke { error, hint: Some("report it, with the log".to_owned()) }, Vec::new(), Vec::new())
        }
        Err(_) => {
            let hint = "give it longer in the drill: timeout = \"2h\"".to_owned();
            (Outcome::Broke { error: format!("it took longer than {limit}"), hint: Some(hint) }, Vec::new(), Vec::new())
        }
    };
    CheckResult {
        name: check.name,
        title: check.title(),
        required: check.required,
        outcome: shortened(outcome),
        looked_at: looked_at.into_iter().filter(|measure: &Measure| measure.count > 0).collect(),
        unchecked,
        beat,
        took: Span::from_std(began.elapsed()),
    }
}

async fn make(check: &Check, subject: &Subject<'_>, limit: Span) -> Result<Comparison, Stop> {
    match check.name {
        CheckName::Manifest => restored::manifest(subject.sealed, subject.restored, subject.whole_server),
        CheckName::PageChecksums => restored::page_checksums(subject),
        CheckName::Amcheck => amcheck::amcheck(subject, check.heapallindexed).await,
        CheckName::Completeness => compare::completeness(subject).await,
        CheckName::Content => compare::content(subject).await,
        CheckName::Sequences => compare::sequences(subject).await,
        CheckName::Extensions => compare::extensions(subject).await,
        CheckName::Collations => compare::collations(subject).await,
        CheckName::Encodings => compare::encodings(subject).await,
        CheckName::Settings => compare::settings(subject).await,
        CheckName::Heartbeat => ask::heartbeat(subject).await,
        CheckName::Assert => ask::assert(subject, check.assertion.as_ref(), limit).await,
        CheckName::Readiness => ask::readiness(subject, check.assertion.as_ref(), check.timeout).await,
        CheckName::ControlPlane => {
            let hint = "use it in a drill with [scratch] kind = \"folder\"";
            Err(Broke::hinted("this check is for lifeboat itself, and a server was brought back", hint).into())
        }
    }
}

fn shortened(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Failed(mut findings) if findings.len() > FINDINGS => {
            let more = findings.len() - FINDINGS;
            findings.truncate(FINDINGS);
            let message = format!("{more} further findings of this check are not listed one by one");
            findings.push(Finding::new("more_findings", "restored copy", message));
            Outcome::Failed(findings)
        }
        other @ (Outcome::Passed | Outcome::Failed(_) | Outcome::Broke { .. } | Outcome::Unchecked(_)) => other,
    }
}

/// An error while a restored copy was asked: a finding if the server says that its data are damaged, else the checker's own trouble.
fn trouble(error: ProbeError, object: &str) -> Stop {
    match error.fault() {
        Fault::Damaged => Finding::new("unreadable", object, error.to_string()).into(),
        Fault::Denied | Fault::TooLong | Fault::Other => Stop::Broke(error.into()),
    }
}
