//! Copies: the same backup in several stores, as they were seen.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::check::Finding;
use super::ids::{BackupId, JobName, PlaceName};
use super::observed::Observed;
use super::units::{ByteSize, Span};

/// A backup that became durable in a second store: every object of it was read back there, and its hash was right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyRecord {
    /// Which backup.
    pub backup: BackupId,
    /// In which store.
    pub store: PlaceName,
    /// From which store.
    pub from: PlaceName,
    /// SHA-256 of its manifest.
    pub manifest_sha256: String,
    /// All objects of it, manifest and signature too.
    pub bytes: ByteSize,
    /// How long it took.
    pub took: Span,
    /// When the last object was durable and verified, by the runner's clock.
    pub durable_at: Timestamp,
    /// From the end of the backup to that moment.
    pub lag: Span,
    /// All of it was there already, and was only read: it was durable no later than this.
    pub already: bool,
}

/// A store, as far as copies are judged by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Its name.
    pub name: PlaceName,
    /// What it is made of.
    pub media: PlaceName,
    /// Where it stands; none: nobody said.
    pub site: Option<PlaceName>,
    /// Whether what is in it cannot be deleted, not even by who wrote it. Absent: the store knows no such thing.
    pub immutable: Observed<bool>,
    /// Why it could not be looked at, if so: what lies in it is not known.
    pub unseen: Option<String>,
}

/// What one store was seen to hold of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Which store.
    pub store: PlaceName,
    /// It is there, with what is wrong with it; absent: it certainly is not there.
    pub seen: Observed<Vec<Finding>>,
    /// When all of it was last read and every hash was right; absent: never.
    pub verified: Observed<Timestamp>,
    /// How that is known; none: it is not.
    pub read_by: Option<ReadBy>,
    /// How long after the backup it was durable there, if that was measured.
    pub lag: Option<Span>,
}

/// How it is known that a copy was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadBy {
    /// It was read in this look.
    Look,
    /// The ledger says so: of all its parts, within the declared time, and nothing was wrong.
    Ledger,
}

/// A backup, and what each store that should have it was seen to hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// Which.
    pub backup: BackupId,
    /// By which job.
    pub job: JobName,
    /// When it was durable where it was taken.
    pub finished_at: Timestamp,
    /// By store.
    pub held: Vec<Held>,
}

/// The log in a second store, beside the one where it is received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogSpread {
    /// Which store.
    pub store: PlaceName,
    /// Files of the log that the first store has.
    pub files: u64,
    /// Of those the second lacks: how many.
    pub missing: u64,
    /// The first and the last of them, by name.
    pub between: Option<(String, String)>,
    /// When the first of them was stored, as far as that could be read.
    pub missing_since: Option<Timestamp>,
    /// What is wrong with files that are there.
    pub findings: Vec<Finding>,
    /// Whether every file was read and its hash compared.
    pub read: bool,
    /// Why it could not be looked at.
    pub unseen: Option<String>,
}

/// What a job promises of its copies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CopyTerms {
    /// Which job.
    pub job: JobName,
    /// Where its backups are taken to.
    pub store: PlaceName,
    /// Where they are copied to.
    pub copies: Vec<PlaceName>,
    /// How long after the backup a copy may become durable.
    pub within: Span,
}
