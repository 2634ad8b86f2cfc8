//! Manifests in a store: written last and signed, read and verified.

use crate::domain::artifact::Manifest;
use crate::domain::check::{Finding, Stop};
use crate::domain::ids::{BackupId, PolicyName};
use crate::domain::observed::Observed;
use crate::store::Store;

use super::{SealError, Signer, TrustedSigners};

/// A manifest as it was found in a store, with what its signature is worth.
#[derive(Clone, Debug, PartialEq)]
pub struct SealedManifest {
    /// What it says.
    pub manifest: Manifest,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
    /// The key that signed it (base64), if the signature is right; `Absent` without a signature file.
    pub signed_by: Observed<String>,
    /// Whether that key is a trusted one.
    pub signer_trusted: bool,
    /// What is wrong with signature or identity: every one is a reason not to believe it.
    pub findings: Vec<Finding>,
}

/// Writes signature, then manifest: from here on the backup exists. Gives the manifest's SHA-256.
pub async fn store_manifest(store: &dyn Store, manifest: &Manifest, signer: &Signer) -> Result<String, SealError> {
    let _ = (store, manifest, signer);
    todo!()
}

/// Reads a manifest and verifies shape, hash, signature, and that it is the policy and backup that was asked for.
/// A manifest that is not there or cannot be parsed is a finding; a store that cannot be read is not.
pub async fn load_manifest(
    store: &dyn Store,
    policy: &PolicyName,
    backup: &BackupId,
    trusted: &TrustedSigners,
) -> Result<SealedManifest, Stop> {
    let _ = (store, policy, backup, trusted);
    todo!()
}

/// The backups that exist in a store (those with a manifest), oldest first; of one policy or of all.
pub async fn list_backups(
    store: &dyn Store,
    policy: Option<&PolicyName>,
) -> Result<Vec<(PolicyName, BackupId)>, SealError> {
    let _ = (store, policy);
    todo!()
}
