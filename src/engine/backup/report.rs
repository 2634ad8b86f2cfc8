//! What a backup came to.

use serde::Serialize;

use crate::domain::artifact::{Manifest, RecoveryPoint};
use crate::domain::check::{Broke, Finding};
use crate::domain::ids::{BackupId, JobName, PolicyName, RunId};
use crate::domain::policy::Method;
use crate::domain::units::{ByteSize, Span};
use crate::engine::copy::{self, Copied, LogCopied};

/// The `schema` of reports.
pub const REPORT_SCHEMA: &str = "lifeboat.backup/1";
/// What a backup came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BackupReport {
    /// [`REPORT_SCHEMA`].
    pub schema: &'static str,
    /// Which backup.
    pub backup: BackupId,
    /// By which run.
    pub run: RunId,
    /// Of which policy.
    pub policy: PolicyName,
    /// By which job.
    pub job: JobName,
    /// How.
    pub method: Method,
    /// Counts up with every backup of the policy.
    pub sequence: u64,
    /// The moment that it brings back, by the source's clock.
    pub recovery_point: RecoveryPoint,
    /// Plaintext, in bytes.
    pub plain_bytes: ByteSize,
    /// Stored, in bytes.
    pub sealed_bytes: ByteSize,
    /// Sealed parts.
    pub parts: u64,
    /// From the plan to the durable manifest, in seconds.
    pub took: Span,
    /// Plaintext a second, in bytes.
    pub rate: ByteSize,
    /// Runner's clock less source's clock, in seconds.
    pub clock_skew: Span,
    /// What the content digests cost.
    pub digest: DigestCost,
    /// Pages with wrong checksums in the source (physical).
    pub bad_pages: u64,
    /// What is wrong with the backup although it was taken: it holds damaged pages. None is a success.
    pub findings: Vec<Finding>,
    /// Where it is.
    pub store: String,
    /// SHA-256 of its manifest, hexadecimal.
    pub manifest_sha256: String,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// Its copies in second stores, once they were tried; each says how that went.
    pub copies: Vec<Copied>,
    /// The log in second stores, if this job carries it.
    pub logs: Vec<LogCopied>,
    /// Why there are no copies, or not all.
    pub copy_troubles: Vec<Broke>,
}

/// What the content digests cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DigestCost {
    /// Tables.
    pub tables: u64,
    /// Rows that were digested.
    pub rows: u64,
    /// Bytes on disk of their tables.
    pub bytes: ByteSize,
    /// How long it took, in seconds; a logical backup dumps at the same time.
    pub took: Span,
}

/// What a manifest does not say of itself.
pub struct Made {
    /// By which run.
    pub run: RunId,
    /// Where it is.
    pub store: String,
    /// SHA-256 of the manifest.
    pub manifest_sha256: String,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// From the plan to the durable manifest.
    pub took: Span,
    /// How long the content digests took.
    pub digest_took: Span,
}

impl BackupReport {
    /// Of a backup whose manifest is durable.
    pub fn of(manifest: &Manifest, made: Made) -> BackupReport {
        let plain_bytes = manifest.plain_bytes();
        let rate = plain_bytes.0 as f64 / made.took.as_secs_f64().max(0.001);
        BackupReport {
            schema: REPORT_SCHEMA,
            backup: manifest.backup.clone(),
            run: made.run,
            policy: manifest.policy.clone(),
            job: manifest.job.clone(),
            method: manifest.method,
            sequence: manifest.sequence,
            recovery_point: manifest.recovery_point.clone(),
            plain_bytes,
            sealed_bytes: manifest.sealed_bytes(),
            parts: manifest.streams.iter().map(|stream| stream.parts.len() as u64).sum(),
            took: made.took,
            rate: ByteSize(rate as u64),
            clock_skew: manifest.clock_skew,
            digest: digest_cost(manifest, made.digest_took),
            bad_pages: manifest.pages.as_ref().map_or(0, |pages| pages.bad_count),
            findings: findings(manifest),
            store: made.store,
            manifest_sha256: made.manifest_sha256,
            warnings: made.warnings,
            copies: Vec::new(),
            logs: Vec::new(),
            copy_troubles: Vec::new(),
        }
    }

    /// Takes in what came of its copies.
    pub fn copied(&mut self, copied: Result<Option<copy::Report>, Broke>) {
        match copied {
            Ok(report) => {
                let copy::Report { copies, logs, troubles, notes } = report.unwrap_or_default();
                (self.copies, self.logs, self.copy_troubles) = (copies, logs, troubles);
                self.warnings.extend(notes);
            }
            Err(broke) => self.copy_troubles.push(broke),
        }
    }

    /// The same as a report of copying.
    pub fn of_copies(&self) -> copy::Report {
        let (copies, logs) = (self.copies.clone(), self.logs.clone());
        copy::Report { copies, logs, troubles: self.copy_troubles.clone(), notes: Vec::new() }
    }

    /// For people: one line.
    pub fn one_line(&self) -> String {
        let mut line = format!(
            "{}/{}: {} backup {}, recovery point {:.0}, {} in {} parts ({} stored), {} at {}/s",
            self.policy,
            self.job,
            self.method.as_str(),
            self.backup,
            self.recovery_point.at,
            self.plain_bytes,
            self.parts,
            self.sealed_bytes,
            self.took,
            self.rate,
        );
        if self.bad_pages > 0 {
            line.push_str(&format!("; {} BAD PAGES IN THE SOURCE", self.bad_pages));
        }
        line
    }
}

fn digest_cost(manifest: &Manifest, took: Span) -> DigestCost {
    let tables = || manifest.fingerprint.databases.iter().flat_map(|database| &database.tables);
    let known = || tables().filter_map(|table| table.content.known().map(|content| (table, content)));
    DigestCost {
        tables: known().count() as u64,
        rows: known().map(|(_, content)| content.digested).sum(),
        bytes: ByteSize(known().map(|(table, _)| table.bytes).sum()),
        took,
    }
}

/// A backup of a damaged source is kept, for it may be the only one; it is not a success.
fn findings(manifest: &Manifest) -> Vec<Finding> {
    let Some(pages) = &manifest.pages else { return Vec::new() };
    let mut findings: Vec<Finding> = pages
        .bad
        .iter()
        .map(|page| Finding::new("page_checksum", page, "the page's checksum is wrong in the source itself"))
        .collect();
    let unnamed = pages.bad_count - pages.bad.len() as u64;
    if unnamed > 0 {
        findings.push(Finding::new(
            "page_checksum",
            "further pages",
            format!("{unnamed} more pages have wrong checksums"),
        ));
    }
    findings
}
