//! Key files: age identities, signing keys, public keys, recipients. No error repeats a secret.
#![no_main]

use std::cell::RefCell;
use std::os::unix::fs::PermissionsExt as _;

use libfuzzer_sys::fuzz_target;
use lifeboat::seal::{Opener, Signer, TrustedSigners, recipient_of};

thread_local! {
    static FILE: RefCell<Option<tempfile::NamedTempFile>> = const { RefCell::new(None) };
}

fuzz_target!(|data: &[u8]| {
    FILE.with_borrow_mut(|kept| {
        let file = kept.get_or_insert_with(|| {
            let memory = std::path::Path::new("/dev/shm");
            let file =
                if memory.is_dir() { tempfile::NamedTempFile::new_in(memory) } else { tempfile::NamedTempFile::new() };
            let file = file.expect("a file");
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o600)).expect("its mode");
            file
        });
        std::fs::write(file.path(), data).expect("a file");
        let path = file.path().to_owned();
        for error in
            [Opener::read(&[path.clone()]).err(), Signer::read(&path).err(), TrustedSigners::read(&[path]).err()]
        {
            let Some(error) = error else { continue };
            let said = format!("{error} {error:?}");
            let secret = data
                .split(|byte| byte.is_ascii_whitespace())
                .find(|word| word.starts_with(b"AGE-SECRET-KEY-1") && word.len() > 24);
            let repeats =
                secret.is_some_and(|secret| said.as_bytes().windows(secret.len()).any(|window| window == secret));
            assert!(!repeats, "an error repeats a secret");
        }
        if let Ok(text) = std::str::from_utf8(data) {
            let _ = recipient_of(text.trim());
        }
    });
});
