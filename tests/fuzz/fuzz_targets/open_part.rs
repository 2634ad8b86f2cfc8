//! The object of a part. The first byte chooses: the bytes as they are; or sealed for us, so that the decompressor gets
//! them; the second how long the manifest says the plaintext is. Nothing comes out but what has its length and hash.
#![no_main]

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use lifeboat::domain::artifact::Part;
use lifeboat::seal::{Opener, generate_identity};
use sha2::{Digest as _, Sha256};

static KEYS: OnceLock<(Opener, age::x25519::Recipient)> = OnceLock::new();

fn keys() -> &'static (Opener, age::x25519::Recipient) {
    KEYS.get_or_init(|| {
        let (text, recipient) = generate_identity();
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("a file");
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o600)).expect("its mode");
        let opener = Opener::read(&[file.path().to_owned()]).expect("a key that was just made");
        (opener, recipient.parse().expect("a recipient that was just made"))
    })
}

fuzz_target!(|data: &[u8]| {
    let [how, claim, rest @ ..] = data else { return };
    let (opener, recipient) = keys();
    let sealed = if how & 1 == 0 {
        rest.to_vec()
    } else {
        let to = std::iter::once(recipient as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(to).expect("one recipient");
        let mut sealed = Vec::new();
        let mut writer = encryptor.wrap_output(&mut sealed).expect("a Vec takes all");
        writer.write_all(rest).expect("a Vec takes all");
        writer.finish().expect("a Vec takes all");
        // A flip in the envelope too, now and then.
        if how & 2 == 2 {
            let at = usize::from(how >> 2) % sealed.len();
            sealed[at] ^= 1;
        }
        sealed
    };
    let plain_bytes = if *claim == 255 { u64::MAX } else { u64::from(*claim) * 64 };
    let part = Part {
        key: "base/00000.zst.age".to_owned(),
        plain_bytes,
        plain_blake3: blake3::hash(rest).to_hex().to_string(),
        sealed_bytes: sealed.len() as u64,
        sealed_sha256: hex::encode(Sha256::digest(&sealed)),
        members: Vec::new(),
    };
    if let Ok(plain) = opener.open_part(&part, &sealed) {
        assert_eq!(plain.len() as u64, plain_bytes);
        assert_eq!(blake3::hash(&plain).to_hex().as_str(), part.plain_blake3);
    }
});
