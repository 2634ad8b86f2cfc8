//! Object keys: one that is let pass names one place below the store's folder.
#![no_main]

use std::path::{Component, Path};

use libfuzzer_sys::fuzz_target;
use lifeboat::seal::is_inside;
use lifeboat::store::key_fault;

fuzz_target!(|key: &str| {
    let inside = |key: &str| {
        let path = Path::new(key);
        path.components().all(|part| matches!(part, Component::Normal(_)))
            && path.components().count() == key.split('/').count()
    };
    if key_fault(key).is_none() {
        assert!(inside(key) && is_inside(key), "{key:?}");
    }
    if is_inside(key) {
        assert!(inside(key), "{key:?}");
    }
});
