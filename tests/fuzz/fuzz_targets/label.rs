//! `backup_label` and the end of `backup_manifest`, as a server sends them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lifeboat::backup::physical::label::{start_of, wal_of};

fuzz_target!(|data: &[u8]| {
    let _ = start_of(data);
    if let Ok(range) = wal_of(data) {
        assert!(range.start <= range.end);
    }
});
