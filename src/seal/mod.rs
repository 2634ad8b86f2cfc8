//! The stream between database and store: cut into bounded parts, each compressed (zstd), encrypted (age), hashed
//! (BLAKE3 inside, SHA-256 outside) and stored on its own; and the same way back. Manifests are signed here.
//!
//! Invariants:
//! - a part is closed only when it is full, or when [`StreamWriter::finish`] says that the producer ended well. A writer
//!   that is dropped leaves no last part behind, so a cut stream can never look whole;
//! - memory is bounded by the parts in flight, whatever the size of the database;
//! - hashes are taken while the bytes pass: nothing is read twice;
//! - nothing that comes out of a part is used before the part's last chunk is authenticated and its length and hash are
//!   those of the manifest.

mod keys;
mod manifest;
mod open;
mod write;

pub use keys::{Signer, TrustedSigners, generate_identity, generate_signing_key, recipient_of};
pub use manifest::{SealedManifest, list_backups, load_manifest, store_manifest};
pub use open::{Opener, for_each_part, read_stream};
pub use write::{Member, SealOptions, Sealer, StreamWriter};

use crate::domain::check::Broke;
use crate::store::StoreError;

/// What can go wrong while sealing. (What is wrong with an artifact is a finding.)
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// A recipient or a key cannot be read.
    #[error("{0}")]
    Key(String),
    /// Compression or encryption failed.
    #[error("could not seal {key}")]
    Seal {
        /// Which part.
        key: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A worker went away.
    #[error("the sealing threads stopped early")]
    Stopped,
}

impl From<SealError> for Broke {
    fn from(error: SealError) -> Broke {
        let _ = &error;
        todo!()
    }
}
