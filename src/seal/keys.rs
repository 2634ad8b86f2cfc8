//! Keys: age identities and recipients, ed25519 signing keys.

use std::path::{Path, PathBuf};

use super::SealError;

/// Signs manifests (ed25519, PKCS#8 PEM file of mode 0600).
pub struct Signer {}

impl Signer {
    /// Reads a private key file; one that others can read is refused.
    pub fn read(path: &Path) -> Result<Signer, SealError> {
        let _ = path;
        todo!()
    }
    /// base64 of the public key's 32 bytes.
    pub fn public_key(&self) -> String {
        todo!()
    }
}

/// The public keys that are trusted to have signed (SPKI PEM files).
#[derive(Clone, Debug, Default)]
pub struct TrustedSigners {}

impl TrustedSigners {
    /// Reads public key files.
    pub fn read(paths: &[PathBuf]) -> Result<TrustedSigners, SealError> {
        let _ = paths;
        todo!()
    }
}

/// A fresh age identity: (text of the identity file, recipient).
pub fn generate_identity() -> (String, String) {
    todo!()
}

/// A fresh signing key: (private PKCS#8 PEM, public SPKI PEM).
pub fn generate_signing_key() -> Result<(String, String), SealError> {
    todo!()
}

/// Whether this text is an age recipient; the error says why not.
pub fn recipient_of(text: &str) -> Result<(), String> {
    let _ = text;
    todo!()
}
