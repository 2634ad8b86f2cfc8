//! Faults of the artifact: a copy of it with exactly one.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::super::House;
use super::overlay::Overlay;
use super::{pages, unusable};
use crate::domain::artifact::{MANIFEST_NAME, Manifest, SIGNATURE_NAME};
use crate::domain::check::Broke;
use crate::domain::ids::{BackupId, PlaceName};
use crate::domain::mutation::{Mutation, Victim};
use crate::domain::policy::Policy;
use crate::domain::units::Span;
use crate::seal::{self, Opener, SealedManifest, Signer};
use crate::store::Store;

/// The backup whose copies are altered, and keys that are made for this test alone and die with it.
pub struct Original<'a> {
    /// Of this policy.
    pub policy: &'a Policy,
    /// In the store of this name.
    pub place: PlaceName,
    /// That store.
    pub store: Arc<dyn Store>,
    /// Its manifest.
    pub sealed: SealedManifest,
    /// What opens it.
    pub opener: Opener,
    /// An older backup in the same store.
    pub older: Option<BackupId>,
    keys: Keys,
}

/// The test needs no private key of the house: what it signs, it signs with one that only the copy's house trusts.
struct Keys {
    folder: tempfile::TempDir,
    trusted: Signer,
    stranger: Signer,
}

const TRUSTED_PUBLIC: &str = "trusted.pub.pem";
const STRANGE_IDENTITY: &str = "strange.agekey";

impl Keys {
    fn make() -> Result<Keys, Broke> {
        let broke = |error: std::io::Error| Broke::new(format!("keys for the test cannot be made: {error}"));
        let folder = tempfile::Builder::new().prefix("lifeboat-keys-").tempdir().map_err(broke)?;
        let signer = |name: &str| -> Result<(Signer, String), Broke> {
            let (private, public) = seal::generate_signing_key()?;
            let path = folder.path().join(name);
            write_private(&path, &private).map_err(broke)?;
            Ok((Signer::read(&path)?, public))
        };
        let ((trusted, public), (stranger, _)) = (signer("trusted.pem")?, signer("stranger.pem")?);
        std::fs::write(folder.path().join(TRUSTED_PUBLIC), public).map_err(broke)?;
        let (identity, _) = seal::generate_identity();
        write_private(&folder.path().join(STRANGE_IDENTITY), &identity).map_err(broke)?;
        Ok(Keys { folder, trusted, stranger })
    }
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

impl<'a> Original<'a> {
    /// Opens it where it lies.
    pub async fn open(house: &House, policy: &'a Policy, backup: &BackupId) -> Result<Original<'a>, Broke> {
        let trusted = house.trusted()?;
        for (place, store) in house.stores_of(policy)? {
            let held = seal::list_backups(&*store, Some(&policy.name), &trusted).await?;
            if !held.iter().any(|(_, held)| held == backup) {
                continue;
            }
            let sealed = seal::load_manifest(&*store, &policy.name, backup, &trusted).await.map_err(unusable)?;
            // By the second, as ids tell it: of two of the same second neither is the older one by its id.
            let older = |held: &BackupId| held != backup && held.began_at() <= backup.began_at();
            let older = held.into_iter().map(|(_, held)| held).rfind(older);
            let opener = house.opener()?;
            return Ok(Original { policy, place, store, sealed, opener, older, keys: Keys::make()? });
        }
        let hint = "a backup that is being pruned or moved cannot be tested with; run it again";
        Err(Broke::hinted(format!("no store of policy {} holds backup {backup} any more", policy.name), hint))
    }

    /// The key of an object of the backup.
    pub fn key(&self, name: &str) -> String {
        format!("{}/{}/{name}", self.policy.name, self.sealed.manifest.backup)
    }
}

/// A copy with a fault.
pub struct Altered {
    /// The store as the drill sees it.
    pub store: Arc<dyn Store>,
    /// The manifest's SHA-256, where it was rightly signed anew.
    pub manifest_sha256: Option<String>,
    /// A public key that the copy's house trusts too.
    pub trusted: Option<PathBuf>,
    /// The only identity that the copy's house has.
    pub identity: Option<PathBuf>,
}

impl Altered {
    /// Makes it. The victim's name becomes more exact where it is found only now.
    pub async fn make(original: &Original<'_>, mutation: Mutation, victim: &mut Victim) -> Result<Altered, Broke> {
        let overlay = Arc::new(Overlay::over(Arc::clone(&original.store)));
        let mut manifest = original.sealed.manifest.clone();
        let victim_key = original.key(&victim.name);
        let (mut identity, mut resigned) = (None, false);
        match mutation {
            Mutation::ManifestForged => {
                manifest.sequence = manifest.sequence.saturating_add(1);
                let forged = serde_json::to_vec(&manifest).map_err(|error| Broke::new(error.to_string()))?;
                overlay.replace(&original.key(MANIFEST_NAME), Bytes::from(forged));
            }
            Mutation::ManifestResigned => {
                manifest.sequence = manifest.sequence.saturating_add(1);
                sign(original, &overlay, &manifest, &original.keys.stranger).await?;
            }
            Mutation::SignatureMissing => overlay.remove(&original.key(SIGNATURE_NAME)),
            Mutation::IdentityChanged => {
                let other = format!("{}-2", manifest.policy);
                manifest.policy = other.parse().unwrap_or_else(|_| "another-policy".parse().unwrap_or(manifest.policy));
                resigned = true;
            }
            Mutation::ArtifactMissing => {
                for object in original.store.list(&original.key("")).await? {
                    overlay.remove(&object.key);
                }
            }
            Mutation::ArtifactReplayed => replay(original, &overlay).await?,
            Mutation::PartFlipped => {
                let mut bytes = original.store.get(&victim_key).await?.to_vec();
                let middle = bytes.len() / 2;
                bytes.get_mut(middle).map(|byte| *byte ^= 0x10).ok_or_else(|| Broke::new("the part is empty"))?;
                overlay.replace(&victim_key, Bytes::from(bytes));
            }
            Mutation::PartTruncated => {
                let bytes = original.store.get(&victim_key).await?;
                overlay.replace(&victim_key, bytes.slice(..bytes.len() / 2));
            }
            Mutation::PartMissing => overlay.remove(&victim_key),
            Mutation::PartsSwapped => {
                let parts = manifest.streams.iter().flat_map(|stream| &stream.parts);
                let last = parts.map(|part| original.key(&part.key)).next_back();
                let last = last.filter(|last| *last != victim_key);
                let last = last.ok_or_else(|| Broke::new("the backup has only one part"))?;
                overlay.replace(&victim_key, original.store.get(&last).await?);
                overlay.replace(&last, original.store.get(&victim_key).await?);
            }
            Mutation::PartOfAnother => {
                overlay.replace(&victim_key, part_of_older(original).await?);
            }
            Mutation::WrongKey => identity = Some(original.keys.folder.path().join(STRANGE_IDENTITY)),
            Mutation::GlobalsLost => {
                manifest.streams.retain(|stream| stream.name != seal::GLOBALS_STREAM);
                overlay.remove(&original.key(seal::GLOBALS_KEY));
                resigned = true;
            }
            Mutation::WalLost => {
                pages::blank(original, &overlay, &mut manifest, &victim.name).await?;
                resigned = true;
            }
            Mutation::BackupStale => {
                // Twice the RPO before the loss that the drill takes place after, whatever it was.
                let rpo = original.policy.objectives.rpo;
                let back = rpo.saturating_add(rpo).saturating_add(Span::from_secs(3600));
                let at = manifest.recovery_point.at.saturating_sub(back.0);
                manifest.recovery_point.at = at.map_err(|error| Broke::new(error.to_string()))?;
                resigned = true;
            }
            Mutation::PageFlipped | Mutation::UnreadPageFlipped => {
                let unread = mutation == Mutation::UnreadPageFlipped;
                victim.name = pages::flip(original, &overlay, &mut manifest, &victim.name, unread).await?;
                resigned = true;
            }
            // Done in the restored copy, by SQL.
            Mutation::RowChanged
            | Mutation::RowDeleted
            | Mutation::RowDoubled
            | Mutation::LargeObjectLost
            | Mutation::TableDropped
            | Mutation::IndexDropped
            | Mutation::ConstraintDropped
            | Mutation::FunctionChanged
            | Mutation::RoleMissing
            | Mutation::GrantRevoked
            | Mutation::IndexBroken
            | Mutation::SequenceShifted
            | Mutation::ExtensionMissing
            | Mutation::ExtensionChanged
            | Mutation::CollationChanged
            | Mutation::LocaleChanged
            | Mutation::SettingChanged
            | Mutation::HeartbeatLost => {}
        }
        let manifest_sha256 = match resigned {
            true => Some(sign(original, &overlay, &manifest, &original.keys.trusted).await?),
            false => None,
        };
        let trusted = resigned.then(|| original.keys.folder.path().join(TRUSTED_PUBLIC));
        Ok(Altered { store: overlay, manifest_sha256, trusted, identity })
    }
}

/// Signs a manifest in the place of the backup's own. Gives its SHA-256.
async fn sign(
    original: &Original<'_>,
    overlay: &Overlay,
    manifest: &Manifest,
    signer: &Signer,
) -> Result<String, Broke> {
    // Where it says that it belongs; from there to where the drill looks for it.
    let own = |name: &str| format!("{}/{}/{name}", manifest.policy, manifest.backup);
    for name in [MANIFEST_NAME, SIGNATURE_NAME] {
        overlay.remove(&own(name));
    }
    let sha256 = seal::store_manifest(overlay, manifest, signer).await?;
    for name in [MANIFEST_NAME, SIGNATURE_NAME] {
        let (from, to) = (own(name), original.key(name));
        if from != to {
            overlay.replace(&to, overlay.get(&from).await?);
            overlay.remove(&from);
        }
    }
    Ok(sha256)
}

/// Every object of an older backup in the place of this one's.
async fn replay(original: &Original<'_>, overlay: &Overlay) -> Result<(), Broke> {
    for object in original.store.list(&original.key("")).await? {
        overlay.remove(&object.key);
    }
    let prefix = older_prefix(original)?;
    for object in original.store.list(&prefix).await? {
        let name = object.key.strip_prefix(&prefix).unwrap_or(&object.key);
        // The drill ends at the manifest: the parts need not be held in memory to be there.
        let bytes = match name {
            MANIFEST_NAME | SIGNATURE_NAME => original.store.get(&object.key).await?,
            _ => Bytes::new(),
        };
        overlay.replace(&original.key(name), bytes);
    }
    Ok(())
}

async fn part_of_older(original: &Original<'_>) -> Result<Bytes, Broke> {
    let prefix = older_prefix(original)?;
    let parts = original.store.list(&prefix).await?;
    let part = parts.iter().find(|object| object.key.ends_with(".zst.age"));
    let part = part.ok_or_else(|| Broke::new("the older backup has no part"))?;
    Ok(original.store.get(&part.key).await?)
}

fn older_prefix(original: &Original<'_>) -> Result<String, Broke> {
    let older = original.older.as_ref().ok_or_else(|| Broke::new("the store holds no older backup"))?;
    Ok(format!("{}/{older}/", original.policy.name))
}
