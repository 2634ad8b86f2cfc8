//! Manifests in a store: written last and signed, read and verified.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::domain::artifact::{
    MANIFEST_FORMAT, MANIFEST_NAME, Manifest, SIGNATURE_FORMAT, SIGNATURE_NAME, SignatureFile,
};
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::ids::{BackupId, PolicyName};
use crate::domain::observed::Observed;
use crate::store::{Store, StoreError};

use super::keys::verify_signature;
use super::mark::{Owner, owner_of, tombstones_in};
use super::{SealError, Signer, TrustedSigners, manifest_findings};

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

/// Writes signature, then manifest: from here on the backup exists. Gives the manifest's SHA-256. A manifest that
/// [`load_manifest`] would find fault with is not written.
pub async fn store_manifest(store: &dyn Store, manifest: &Manifest, signer: &Signer) -> Result<String, SealError> {
    if let Some(finding) = manifest_findings(manifest, &manifest.policy, &manifest.backup).first() {
        let why =
            format!("the manifest is not written, as it is wrong itself: {}: {}", finding.object, finding.message);
        return Err(SealError::Refused(why));
    }
    let json =
        |error: serde_json::Error| SealError::Refused(format!("the manifest cannot be written as JSON: {error}"));
    let bytes = serde_json::to_vec(manifest).map_err(json)?;
    let signature = signer.signature_file(&bytes);
    let sha256 = signature.sha256.clone();
    let signature = serde_json::to_vec_pretty(&signature).map_err(json)?;
    let key = |name: &str| format!("{}/{}/{name}", manifest.policy, manifest.backup);
    store.put_new(&key(SIGNATURE_NAME), Bytes::from(signature)).await?;
    store.put_new(&key(MANIFEST_NAME), Bytes::from(bytes)).await?;
    Ok(sha256)
}

/// Reads a manifest and verifies shape, hash, signature, and that it is the policy and backup that was asked for.
/// A manifest that is not there or cannot be parsed is a finding; a store that cannot be read is not.
pub async fn load_manifest(
    store: &dyn Store,
    policy: &PolicyName,
    backup: &BackupId,
    trusted: &TrustedSigners,
) -> Result<SealedManifest, Stop> {
    Ok(load_manifest_bytes(store, policy, backup, trusted).await?.0)
}

/// The bytes of a manifest and of its signature, as a store has them.
pub(super) struct Written {
    pub manifest: Bytes,
    pub signature: Option<Bytes>,
}

/// The same, and the bytes themselves.
pub(super) async fn load_manifest_bytes(
    store: &dyn Store,
    policy: &PolicyName,
    backup: &BackupId,
    trusted: &TrustedSigners,
) -> Result<(SealedManifest, Written), Stop> {
    let key = |name: &str| format!("{policy}/{backup}/{name}");
    let Some(bytes) = get_if_there(store, &key(MANIFEST_NAME)).await? else {
        let message =
            format!("{} has no manifest of this backup: it does not exist, or was never finished", store.url());
        return Err(Finding::new("manifest_missing", format!("backup {policy}/{backup}"), message).into());
    };
    let signature = get_if_there(store, &key(SIGNATURE_NAME)).await?;
    let sealed = read_manifest(&bytes, signature.as_deref(), policy, backup, trusted).map_err(Stop::Found)?;
    Ok((sealed, Written { manifest: bytes, signature }))
}

/// An object, or certainly none.
async fn get_if_there(store: &dyn Store, key: &str) -> Result<Option<Bytes>, Broke> {
    match store.get(key).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Pure: what a manifest's bytes and its signature file's are worth. An error: not even a manifest.
pub fn read_manifest(
    bytes: &[u8],
    signature: Option<&[u8]>,
    policy: &PolicyName,
    backup: &BackupId,
    trusted: &TrustedSigners,
) -> Result<SealedManifest, Vec<Finding>> {
    let sha256 = hex::encode(Sha256::digest(bytes));
    let (signed_by, mut findings) = read_signature(bytes, &sha256, signature);
    let signer_trusted = signed_by.known().is_some_and(|key| trusted.contains(key));
    if let (Observed::Known(key), false, false) = (&signed_by, signer_trusted, trusted.is_empty()) {
        let message = "the manifest is signed by a key that is not trusted: anybody can make such a backup";
        findings.push(Finding::new("signer_untrusted", "manifest", message).with("a trusted signer", key.as_str()));
    }
    let manifest = match parse(bytes) {
        Ok(manifest) => manifest,
        Err(shape) => {
            findings.push(shape);
            return Err(findings);
        }
    };
    findings.extend(manifest_findings(&manifest, policy, backup));
    Ok(SealedManifest { manifest, sha256, signed_by, signer_trusted, findings })
}

fn parse(bytes: &[u8]) -> Result<Manifest, Finding> {
    let shape = |message: String| Finding::new("manifest_shape", "manifest", message);
    let (error, found) = match serde_json::from_slice::<Manifest>(bytes) {
        Ok(manifest) if manifest.format == MANIFEST_FORMAT => return Ok(manifest),
        Ok(manifest) => (None, Some(manifest.format)),
        Err(error) => (Some(error), format_of(bytes)),
    };
    Err(match (error, found) {
        (_, Some(format)) if format != MANIFEST_FORMAT => {
            shape("the manifest is of a format that this version does not know".to_owned())
                .with(MANIFEST_FORMAT, format)
        }
        (Some(error), _) => shape(format!("the manifest cannot be read: {error}")),
        (None, _) => shape("the manifest cannot be read".to_owned()),
    })
}

/// The `format` of a JSON document that is not a manifest as we know it.
fn format_of(bytes: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Head {
        format: String,
    }
    serde_json::from_slice::<Head>(bytes).ok().map(|head| head.format.chars().take(80).collect())
}

/// Who signed these bytes, and what is wrong with the signature.
fn read_signature(bytes: &[u8], sha256: &str, signature: Option<&[u8]>) -> (Observed<String>, Vec<Finding>) {
    let wrong = |why: String| {
        let finding = Finding::new("signature_wrong", "manifest signature", format!("the signature is wrong: {why}"));
        (Observed::Unknown(why), vec![finding])
    };
    let Some(signature) = signature else {
        let message = "the manifest is not signed: nobody vouches for it";
        return (Observed::Absent, vec![Finding::new("signature_missing", "manifest signature", message)]);
    };
    let file = match serde_json::from_slice::<SignatureFile>(signature) {
        Ok(file) if file.format == SIGNATURE_FORMAT => file,
        Ok(file) => return wrong(format!("its format is {:?}, not {SIGNATURE_FORMAT}", file.format)),
        Err(error) => return wrong(format!("{SIGNATURE_NAME} cannot be read: {error}")),
    };
    let (signed_by, mut findings) = match verify_signature(bytes, &file.public_key, &file.signature) {
        Ok(()) => (Observed::Known(file.public_key), Vec::new()),
        Err(why) => wrong(why),
    };
    if file.sha256 != sha256 {
        let message = "the manifest's SHA-256 is not the one beside its signature: its bytes were changed";
        findings.push(Finding::new("manifest_hash", "manifest", message).with(file.sha256, sha256));
    }
    (signed_by, findings)
}

/// The backups that exist in a store (those with a manifest), oldest first; of one policy or of all. Those that were deleted and
/// are not gone yet are left out, if somebody who is trusted has deleted them.
pub async fn list_backups(
    store: &dyn Store,
    policy: Option<&PolicyName>,
    trusted: &TrustedSigners,
) -> Result<Vec<(PolicyName, BackupId)>, SealError> {
    let prefix = policy.map_or_else(String::new, |policy| format!("{policy}/"));
    let objects = store.list(&prefix).await?;
    let deleted = tombstones_in(store, &objects, trusted).await?;
    let mut backups: Vec<_> = objects.iter().filter_map(|object| backup_of(&object.key)).collect();
    backups.retain(|backup| !deleted.contains_key(backup));
    backups.sort_by(|a, b| (&a.1, &a.0).cmp(&(&b.1, &b.0)));
    Ok(backups)
}

/// Which backup's manifest this key is.
fn backup_of(key: &str) -> Option<Owner> {
    owner_of(key).filter(|(_, name)| *name == MANIFEST_NAME).map(|(owner, _)| owner)
}
