//! The stream between database and store: cut into bounded parts, each compressed (zstd), encrypted (age), hashed
//! (BLAKE3 inside, SHA-256 outside) and stored on its own; and the same way back. Manifests are signed here.
//!
//! Invariants:
//! - a part is closed only when it is full (or, among others, its producer waits for all of them to land), and the last one
//!   only when [`StreamWriter::finish`] says that the producer ended well. A writer that is dropped leaves no last part
//!   behind, so a cut stream can never look whole;
//! - memory is bounded by the parts in flight, whatever the size of the database;
//! - hashes are taken while the bytes pass: nothing is read twice;
//! - nothing that comes out of a part is used before the part's last chunk is authenticated and its length and hash are
//!   those of the manifest.

mod copy;
mod keys;
mod manifest;
mod mark;
mod open;
mod shape;
mod wal;
mod witness;
mod write;
mod yard;

pub use copy::{Brought, Original, Way};
pub use keys::{Opener, Signer, TrustedSigners, generate_identity, generate_signing_key, recipient_of};
pub use manifest::{SealedManifest, list_backups, load_manifest, read_manifest, store_manifest};
pub use mark::{MARKS, Owner, list_tombstones, load_marks, owner_of, put_mark, tombstones_in};
pub use open::{check_sealed, for_each_part, for_each_sealed, read_part, read_stream};
pub use shape::{is_inside, manifest_findings};
pub use wal::{
    Carried, CarryError, LogFile, LogList, Placed, Theirs, WalFile, WalSealer, bring_hole, check_wal, fetch_wal,
    list_wal, list_wal_by, load_holes, load_wal_record, put_hole, remove_wal, wal_record_in,
};
pub use witness::{Seen, Witness, depth_of, wal_key};
pub use write::{Member, SealOptions, Sealer, StreamWriter};
pub use yard::Fill;

use crate::domain::check::Broke;
use crate::domain::wal::WalName;
use crate::store::{StoreError, with_causes};

/// Largest plaintext of one part, in bytes: what a reader must be ready to hold in memory.
pub const MAX_PART_BYTES: u64 = 1 << 30;
/// Largest globals stream, in bytes; it is one object, held in memory.
pub const MAX_GLOBALS_BYTES: u64 = 256 << 20;
/// Most parts of one stream: their numbers have five digits.
pub const MAX_PARTS: usize = 100_000;
/// The one object of the globals stream.
pub const GLOBALS_KEY: &str = "globals.sql.zst.age";
/// The name of the globals stream.
pub const GLOBALS_STREAM: &str = "globals";
/// So many findings are named; more say nothing new.
pub const MAX_FINDINGS: usize = 100;

/// The object of a stream's part, from the backup's own folder.
pub fn part_key(stream: &str, index: usize) -> String {
    if stream == GLOBALS_STREAM { GLOBALS_KEY.to_owned() } else { format!("{stream}/{index:05}.zst.age") }
}

/// What can go wrong while sealing. (What is wrong with an artifact is a finding.)
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// A recipient or a key cannot be read.
    #[error("{0}")]
    Key(String),
    /// What was asked for goes beyond a limit of the format, or makes no sense; the sentence says what to change.
    #[error("{0}")]
    Refused(String),
    /// Compression or encryption failed.
    #[error("could not seal {key}")]
    Seal {
        /// Which part.
        key: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Bytes that a part was to get for itself could not be had.
    #[error("{0}")]
    Source(Broke),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is longer than what there is room for.
    #[error("{name} is {bytes} bytes long when it is sealed, and there is no room for it")]
    NoRoom {
        /// Which file of the log.
        name: WalName,
        /// Object and record together.
        bytes: u64,
    },
    /// A worker went away.
    #[error("the sealing threads stopped early")]
    Stopped,
}

impl SealError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            SealError::Key(_) => {
                "recipients look like age1…; key files are PEM (signing) or age-keygen's (identities), with mode 0600; \
                 `lifeboat init` makes new ones"
            }
            SealError::Store(error) => return error.hint(),
            SealError::Seal { .. } => "the machine may be out of memory: lower part_size, or [limits] parallel",
            SealError::Stopped => "an earlier error in the log says why; nothing of this backup counts",
            SealError::Source(broke) => return broke.hint.clone(),
            SealError::Refused(_) | SealError::NoRoom { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

impl From<SealError> for Broke {
    fn from(error: SealError) -> Broke {
        Broke { error: with_causes(&error), hint: error.hint() }
    }
}
