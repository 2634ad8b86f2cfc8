//! The stored bytes of one backup, and the manifest that describes them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ids::{BackupId, JobName, PolicyName};
use super::inventory::{Fingerprint, major_in};
use super::lsn::Lsn;
use super::policy::Method;
use super::units::{ByteSize, Span};

/// The `format` of manifests that this version writes and reads.
pub const MANIFEST_FORMAT: &str = "lifeboat.manifest/1";
/// The `format` of signature files.
pub const SIGNATURE_FORMAT: &str = "lifeboat.signature/1";
/// The object that makes a backup exist. Written last.
pub const MANIFEST_NAME: &str = "manifest.json";
/// Its hash and signature. Written before it.
pub const SIGNATURE_NAME: &str = "manifest.json.sig";

/// What an artifact is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`MANIFEST_FORMAT`].
    pub format: String,
    /// Which backup.
    pub backup: BackupId,
    /// Of which policy.
    pub policy: PolicyName,
    /// By which job.
    pub job: JobName,
    /// Counts up with every backup of the policy: an older artifact under a newer name is seen.
    pub sequence: u64,
    /// How it was taken.
    pub method: Method,
    /// When it was begun, by the runner's clock.
    pub started_at: Timestamp,
    /// When the last part was durable, by the runner's clock.
    pub finished_at: Timestamp,
    /// The moment that it brings back.
    pub recovery_point: RecoveryPoint,
    /// The WAL that a physical backup needs, all of which it holds.
    pub wal: Option<WalRange>,
    /// The streams, each cut into parts.
    pub streams: Vec<Stream>,
    /// Who can open it.
    pub recipients: Vec<String>,
    /// Page checksums as they were seen while the bytes passed (physical).
    pub pages: Option<PageTally>,
    /// What the source was like.
    pub fingerprint: Fingerprint,
    /// Versions of lifeboat, and of each program that took part.
    pub tools: BTreeMap<String, String>,
    /// Measured: runner's clock less source's clock.
    pub clock_skew: Span,
}

impl Manifest {
    /// When it ended, by the source's clock: the runner's, less how far that was ahead.
    pub fn ended(&self) -> Timestamp {
        self.finished_at.checked_sub(self.clock_skew.0).unwrap_or(self.finished_at)
    }

    /// Plaintext of all streams.
    pub fn plain_bytes(&self) -> ByteSize {
        // Saturating: the numbers come from a file that anybody may have written.
        ByteSize(self.streams.iter().fold(0, |sum, stream| sum.saturating_add(stream.plain_bytes)))
    }

    /// What it takes in the store, without manifest and signature.
    pub fn sealed_bytes(&self) -> ByteSize {
        let parts = self.streams.iter().flat_map(|stream| &stream.parts);
        ByteSize(parts.fold(0, |sum, part| sum.saturating_add(part.sealed_bytes)))
    }

    /// The major version of the `pg_dump` that wrote the dumps: no older `pg_restore` reads them. The source's own, when it is not told.
    pub fn dumped_by(&self) -> u32 {
        let told = self.tools.get("pg_dump").and_then(|version| major_in(version));
        told.unwrap_or_else(|| self.fingerprint.server.major())
    }
}

/// The moment that a backup brings back, by the **source's** clock: what was committed before it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoveryPoint {
    /// When.
    pub at: Timestamp,
    /// Where in the log, as far as it is known.
    pub lsn: Option<Lsn>,
    /// How it is known.
    pub basis: Basis,
}

/// How a recovery point is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// The start of the dump's snapshot.
    SnapshotStart,
    /// The last moment at which the source's log position was seen at or before the end of the base backup.
    EndOfBackup,
}

/// A stretch of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalRange {
    /// On which timeline.
    pub timeline: u32,
    /// From where.
    pub start: Lsn,
    /// To where, at the least, a restore must replay.
    pub end: Lsn,
}

/// One stream between database and store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// The folder of its parts (`base`, `base/16384`), or `globals` for the single object `globals.sql.zst.age`.
    pub name: String,
    /// What the parts are when put end to end.
    pub kind: StreamKind,
    /// The parts, in order.
    pub parts: Vec<Part>,
    /// Length of the plaintext.
    pub plain_bytes: u64,
}

/// What a stream is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamKind {
    /// A tar of a data folder.
    Tar,
    /// A custom-format `pg_dump` of this database.
    Dump {
        /// The database.
        database: String,
    },
    /// SQL of roles, memberships, tablespaces.
    Globals,
}

/// One part: a whole age file of whole zstd frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its object, from the backup's own folder: `base/00000.zst.age`.
    pub key: String,
    /// Length of the plaintext.
    pub plain_bytes: u64,
    /// BLAKE3 of the plaintext, hexadecimal.
    pub plain_blake3: String,
    /// Length of the object.
    pub sealed_bytes: u64,
    /// SHA-256 of the object, hexadecimal: `sha256sum` verifies it.
    pub sealed_sha256: String,
    /// Which members of the tar it holds, whole or in part (tar streams only).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Slice>,
}

/// The bytes of one tar member that lie in one part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// The member's path, relative, without `.` and `..`.
    pub path: String,
    /// What it is.
    pub kind: MemberKind,
    /// Its permission bits.
    pub mode: u32,
    /// Its whole size.
    pub size: u64,
    /// Where in the member these bytes begin.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
    /// Where in the part's plaintext they begin.
    pub at: u64,
}

/// Kinds of tar member that a data folder has. Links are not among them: tablespaces are folders in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberKind {
    /// A file.
    File,
    /// A folder.
    Folder,
}

/// A count of verified pages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageTally {
    /// Whether the source keeps page checksums at all.
    pub enabled: bool,
    /// Pages whose checksum was right.
    pub verified: u64,
    /// Pages that are all zeros: allocated, never written.
    pub empty: u64,
    /// Pages that were still being written and come from the log (their LSN is after the backup's start).
    pub in_flight: u64,
    /// Pages whose checksum was wrong: `base/5/1259 block 3`. The first hundred.
    pub bad: Vec<String>,
    /// How many were wrong.
    pub bad_count: u64,
}

/// `manifest.json.sig`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureFile {
    /// [`SIGNATURE_FORMAT`].
    pub format: String,
    /// SHA-256 of `manifest.json`, hexadecimal.
    pub sha256: String,
    /// The ed25519 public key that signed, base64 of its 32 bytes.
    pub public_key: String,
    /// The ed25519 signature over the bytes of `manifest.json`, base64.
    pub signature: String,
}

/// Whether an object of a backup's folder is called as lifeboat calls one: manifest, signature, globals, or a part.
pub fn is_object_name(name: &str) -> bool {
    let part = |name: &str| {
        let (folder, file) = name.rsplit_once('/')?;
        let number = file.strip_suffix(".zst.age")?;
        let numbered = number.len() == 5 && number.bytes().all(|byte| byte.is_ascii_digit());
        let database = |rest: &str| rest.strip_prefix('/').is_some_and(|oid| oid.parse::<u32>().is_ok());
        let stream = folder.strip_prefix("base").is_some_and(|rest| rest.is_empty() || database(rest));
        (numbered && stream).then_some(())
    };
    matches!(name, MANIFEST_NAME | SIGNATURE_NAME | "globals.sql.zst.age") || part(name).is_some()
}
