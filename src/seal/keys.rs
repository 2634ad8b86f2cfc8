//! Keys: age identities and recipients, ed25519 signing keys.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use age::secrecy::{ExposeSecret, SecretString};
use age::x25519::{Identity, Recipient};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use super::{SealError, Witness};
use crate::domain::artifact::{SIGNATURE_FORMAT, SignatureFile};

/// No key file is larger than this, in bytes.
const MAX_KEY_FILE: u64 = 1 << 20;

/// Signs manifests (ed25519, PKCS#8 PEM file of mode 0600). The key is wiped from memory when it is dropped.
#[derive(Clone)]
pub struct Signer {
    key: SigningKey,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("public_key", &self.public_key()).finish_non_exhaustive()
    }
}

impl Signer {
    /// Reads a private key file; one that others can read is refused.
    pub fn read(path: &Path) -> Result<Signer, SealError> {
        let text = read_secret(path, "signing key")?;
        let key = SigningKey::from_pkcs8_pem(text.expose_secret()).map_err(|_| {
            let what = pem_kind(text.expose_secret());
            SealError::Key(format!("{} is not an ed25519 private key in PKCS#8 PEM form: it is {what}", path.display()))
        })?;
        Ok(Signer { key })
    }

    /// base64 of the public key's 32 bytes.
    pub fn public_key(&self) -> String {
        STANDARD.encode(self.key.verifying_key().as_bytes())
    }

    /// What is stored beside these bytes: their hash, and the signature over them.
    pub(super) fn signature_file(&self, bytes: &[u8]) -> SignatureFile {
        SignatureFile {
            format: SIGNATURE_FORMAT.to_owned(),
            sha256: hex::encode(Sha256::digest(bytes)),
            public_key: self.public_key(),
            signature: self.sign(bytes),
        }
    }

    /// base64 of the signature over these bytes (RFC 8032, pure Ed25519).
    fn sign(&self, bytes: &[u8]) -> String {
        STANDARD.encode(self.key.sign(bytes).to_bytes())
    }
}

/// The public keys that are trusted to have signed (SPKI PEM files).
#[derive(Clone, Debug, Default)]
pub struct TrustedSigners {
    keys: Vec<VerifyingKey>,
}

impl TrustedSigners {
    /// Reads public key files.
    pub fn read(paths: &[PathBuf]) -> Result<TrustedSigners, SealError> {
        let keys = paths.iter().map(|path| read_public(path)).collect::<Result<_, _>>()?;
        Ok(TrustedSigners { keys })
    }

    /// These, and this machine's own.
    pub fn and(&self, signer: &Signer) -> TrustedSigners {
        let mut keys = self.keys.clone();
        keys.push(signer.key.verifying_key());
        TrustedSigners { keys }
    }

    /// Whether nobody is trusted: then a right signature only says that the bytes are those that *somebody* signed.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether this key (base64 of its 32 bytes) is one of them.
    pub fn contains(&self, public_key: &str) -> bool {
        self.keys.iter().any(|key| STANDARD.encode(key.as_bytes()) == public_key)
    }
}

/// Whether `signature` over `bytes` was made by `public_key` (both base64); the error says what is wrong.
pub(super) fn verify_signature(bytes: &[u8], public_key: &str, signature: &str) -> Result<(), String> {
    let key = STANDARD.decode(public_key).ok().and_then(|raw| <[u8; 32]>::try_from(raw).ok());
    let key = key.ok_or("its public key is not the base64 of 32 bytes")?;
    let key = VerifyingKey::from_bytes(&key).map_err(|_| "its public key is no ed25519 key")?;
    let raw = STANDARD.decode(signature).map_err(|_| "its signature is not base64")?;
    let signature = Signature::from_slice(&raw).map_err(|_| "its signature has not 64 bytes")?;
    // Strict: a key of small order would sign anything.
    key.verify_strict(bytes, &signature)
        .map_err(|_| "the signature does not belong to these bytes and this key".to_owned())
}

fn read_public(path: &Path) -> Result<VerifyingKey, SealError> {
    let bad = |why: String| SealError::Key(format!("{}: {why}", path.display()));
    let (text, _) = read_file(path, "public key")?;
    let key = VerifyingKey::from_public_key_pem(text.expose_secret()).map_err(|_| {
        let what = pem_kind(text.expose_secret());
        bad(format!("this is not an ed25519 public key in SPKI PEM form: it is {what}"))
    })?;
    if key.is_weak() {
        return Err(bad("this public key is a weak one, for which anybody can forge signatures".to_owned()));
    }
    Ok(key)
}

/// Opens parts with age identities.
#[derive(Clone)]
pub struct Opener {
    identities: Arc<Vec<Identity>>,
    witness: Option<Arc<dyn Witness>>,
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("recipients", &self.recipients()).finish_non_exhaustive()
    }
}

impl Opener {
    /// Reads identity files; ones that others can read are refused.
    pub fn read(paths: &[PathBuf]) -> Result<Opener, SealError> {
        let mut identities = Vec::new();
        for path in paths {
            identities.extend(read_identities(path)?);
        }
        if identities.is_empty() {
            return Err(SealError::Key("no age identity was given".to_owned()));
        }
        Ok(Opener { identities: Arc::new(identities), witness: None })
    }

    /// The same keys; the witness hears of every object that is read back with them.
    pub fn watched(&self, witness: Arc<dyn Witness>) -> Opener {
        Opener { identities: Arc::clone(&self.identities), witness: Some(witness) }
    }

    pub(super) fn witness(&self) -> Option<&Arc<dyn Witness>> {
        self.witness.as_ref()
    }

    /// The recipients that belong to these identities (`age1…`): public.
    pub fn recipients(&self) -> Vec<String> {
        self.identities.iter().map(|identity| identity.to_public().to_string()).collect()
    }

    pub(super) fn identities(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.identities.iter().map(|identity| identity as &dyn age::Identity)
    }
}

fn read_identities(path: &Path) -> Result<Vec<Identity>, SealError> {
    let text = read_secret(path, "age identity file")?;
    let mut identities = Vec::new();
    for (number, line) in text.expose_secret().lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The line itself is never repeated: it may be a secret with one letter wrong.
        let identity: Identity = line.parse().map_err(|_| {
            let why = not_an_identity(line);
            SealError::Key(format!("{}, line {}: {why}", path.display(), number + 1))
        })?;
        identities.push(identity);
    }
    if identities.is_empty() {
        return Err(SealError::Key(format!("{} holds no age identity", path.display())));
    }
    Ok(identities)
}

fn not_an_identity(line: &str) -> &'static str {
    if line.starts_with("age1") {
        "this is a recipient, which is public; the identity that belongs to it begins with AGE-SECRET-KEY-1"
    } else if line.starts_with("age-encryption.org/") || line.starts_with("-----BEGIN AGE ENCRYPTED FILE") {
        "this identity file is itself encrypted; decrypt it into a file of mode 0600 first (age -d)"
    } else if line.starts_with("AGE-PLUGIN-")
        || line.starts_with("AGE-SECRET-KEY-PQ-")
        || line.starts_with("-----BEGIN")
    {
        "identities of this kind (plugin, post-quantum, SSH) are not supported; use one made by age-keygen"
    } else {
        "this is not an age identity (AGE-SECRET-KEY-1…)"
    }
}

/// A fresh age identity: (text of the identity file, recipient).
pub fn generate_identity() -> (String, String) {
    let identity = Identity::generate();
    let recipient = identity.to_public().to_string();
    let text = format!("# public key: {recipient}\n{}\n", identity.to_string().expose_secret());
    (text, recipient)
}

/// A fresh signing key: (private PKCS#8 PEM, public SPKI PEM).
pub fn generate_signing_key() -> Result<(String, String), SealError> {
    let bad =
        |what: &str, error: &dyn fmt::Display| SealError::Key(format!("could not make a signing key: {what}: {error}"));
    let mut seed = [0_u8; 32];
    getrandom::fill(&mut seed).map_err(|error| bad("no random bytes", &error))?;
    let key = SigningKey::from_bytes(&seed);
    // Version 1 of PKCS#8, without the public key inside: OpenSSL before 3.2 reads no other.
    let pair = KeypairBytes { secret_key: seed, public_key: None };
    let private = pair.to_pkcs8_pem(LineEnding::LF).map_err(|error| bad("private key", &error))?;
    let public = key.verifying_key().to_public_key_pem(LineEnding::LF).map_err(|error| bad("public key", &error))?;
    Ok((private.to_string(), public))
}

/// Whether this text is an age recipient; the error says why not.
pub fn recipient_of(text: &str) -> Result<(), String> {
    parse_recipient(text).map(|_| ())
}

/// A recipient; the error never repeats what may be a secret.
pub(super) fn parse_recipient(text: &str) -> Result<Recipient, String> {
    if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
        return Err(
            "this is a secret identity, not a recipient: use its public key (age1…), and treat the identity as \
                    disclosed if this file was shared"
                .to_owned(),
        );
    }
    text.parse::<Recipient>().map_err(|why| {
        if text.starts_with("ssh-") || text.starts_with("age1yubikey") || text.starts_with("age1pq") {
            return "recipients of this kind (SSH, plugin, post-quantum) are not supported; use one made by age-keygen"
                .to_owned();
        }
        let shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
        format!("`{shown}` is not an age recipient (age1…): {why}")
    })
}

/// A private file's text; refused if anybody but its owner can read it.
fn read_secret(path: &Path, what: &str) -> Result<SecretString, SealError> {
    let (text, mode) = read_file(path, what)?;
    if mode & 0o077 != 0 {
        return Err(SealError::Key(format!(
            "the {what} {} can be read by others (mode {:04o}): chmod 600 it",
            path.display(),
            mode & 0o7777
        )));
    }
    Ok(text)
}

/// A key file's text and mode.
fn read_file(path: &Path, what: &str) -> Result<(SecretString, u32), SealError> {
    let bad = |why: &dyn fmt::Display| SealError::Key(format!("the {what} {} cannot be read: {why}", path.display()));
    let file = File::open(path).map_err(|error| bad(&error))?;
    let meta = file.metadata().map_err(|error| bad(&error))?;
    if meta.is_dir() {
        return Err(bad(&"it is a folder"));
    }
    // Room for all of it from the start, so that no half-filled buffer is left behind in memory.
    let mut text = String::with_capacity(usize::try_from(meta.len().min(MAX_KEY_FILE)).unwrap_or_default() + 1);
    file.take(MAX_KEY_FILE + 1).read_to_string(&mut text).map_err(|error| bad(&error))?;
    let long = text.len() as u64 > MAX_KEY_FILE;
    let text = SecretString::from(text);
    if long {
        return Err(bad(&"it is larger than any key file"));
    }
    if text.expose_secret().trim().is_empty() {
        return Err(bad(&"it is empty"));
    }
    Ok((text, meta.permissions().mode()))
}

/// What a PEM file holds, by its first line, for messages.
fn pem_kind(text: &str) -> String {
    let label = text.lines().find_map(|line| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----"));
    match label {
        Some("PRIVATE KEY") => "a private key (damaged, or not ed25519)".to_owned(),
        Some("PUBLIC KEY") => "a public key (damaged, or not ed25519)".to_owned(),
        Some(label) => format!("PEM of {}", label.chars().take(40).collect::<String>().to_lowercase()),
        None => "not PEM".to_owned(),
    }
}
