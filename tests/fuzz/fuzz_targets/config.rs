//! `lifeboat.toml`, a policy and a drill, cut from the input at lines of `===`. Whatever is wrong is an error with a place,
//! and every error can be shown.
#![no_main]

use std::cell::RefCell;
use std::fmt::Write as _;

use libfuzzer_sys::fuzz_target;

thread_local! {
    static FOLDER: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
}

fuzz_target!(|text: &str| {
    FOLDER.with_borrow_mut(|kept| {
        let folder = kept.get_or_insert_with(|| {
            let memory = std::path::Path::new("/dev/shm");
            let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
            let folder = folder.expect("a folder");
            for name in ["policies", "drills"] {
                std::fs::create_dir(folder.path().join(name)).expect("a folder");
            }
            folder
        });
        let mut texts = text.split("\n===\n");
        for name in ["lifeboat.toml", "policies/p.toml", "drills/d.toml"] {
            std::fs::write(folder.path().join(name), texts.next().unwrap_or_default()).expect("a file");
        }
        match lifeboat::load::load(&folder.path().join("lifeboat.toml")) {
            Ok(loaded) => drop(format!("{loaded:?}")),
            Err(errors) => {
                let mut shown = String::new();
                write!(shown, "{errors} {errors:?}").expect("a String takes all");
            }
        }
    });
});
