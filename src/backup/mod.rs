//! Ways to take a backup and to put one back.
//!
//! `take` hands the streams of one backup to the sealer and returns what the manifest says about them; it never writes
//! the manifest. `put_back` gets streams from the opener and leaves files that a server can be started on (physical) or
//! restored databases (logical).

pub mod control_plane;
pub mod logical;
pub mod moved;
pub mod physical;
pub mod producer;
pub mod session;
pub mod wal;
pub mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::domain::artifact::{PageTally, RecoveryPoint, Stream, WalRange};
use crate::domain::inventory::Fingerprint;
use crate::domain::policy::{ContentPlan, Databases, ReadBy};
use crate::domain::units::Span;
use crate::probe::Endpoint;
use crate::progress::Progress;
use crate::seal::Sealer;

/// What a backup is taken of, and with what.
pub struct Taking<'a> {
    /// The source.
    pub endpoint: Endpoint,
    /// Which databases (logical).
    pub databases: Databases,
    /// How tables are digested.
    pub content: ContentPlan,
    /// Folders of PostgreSQL's programs to look in first.
    pub bin_dirs: &'a [PathBuf],
    /// Parallel digests.
    pub parallel: usize,
    /// How files are read (physical).
    pub read: ReadBy,
    /// Where the bytes go.
    pub sealer: &'a Sealer,
    /// Who listens.
    pub progress: &'a dyn Progress,
}

/// What was taken: all that a manifest says, but for its identity.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The streams, all durable.
    pub streams: Vec<Stream>,
    /// The moment that it brings back.
    pub recovery_point: RecoveryPoint,
    /// The WAL it needs and holds (physical).
    pub wal: Option<WalRange>,
    /// Pages seen on the way (physical).
    pub pages: Option<PageTally>,
    /// What the source was like.
    pub fingerprint: Fingerprint,
    /// Versions of the programs.
    pub tools: BTreeMap<String, String>,
    /// Runner's clock less source's clock.
    pub clock_skew: Span,
    /// What a person should know although the backup was taken: sentences, also said on the way.
    pub warnings: Vec<String>,
    /// How long the content digests took.
    pub digest_took: Span,
}
