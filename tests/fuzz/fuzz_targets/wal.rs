//! A segment of the log, a history file and names, as a server hands them to `wal push`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lifeboat::backup::wal::scan;
use lifeboat::domain::wal::{History, WalName};

fuzz_target!(|data: &[u8]| {
    if let Ok((header, contents)) = scan(data) {
        assert_eq!(header.start, contents.start);
        assert!(contents.start <= contents.end);
        // A record may be followed by up to seven bytes that only fill.
        assert!(contents.end.0 - contents.start.0 <= data.len() as u64 + 7);
        for commit in [contents.first_commit, contents.last_commit].into_iter().flatten() {
            assert!(contents.start < commit.lsn && commit.lsn <= contents.end);
        }
        assert_eq!(contents.first_commit.is_some(), contents.last_commit.is_some());
    }
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(history) = History::parse(text) {
            assert!(history.ancestors.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
        }
        if let Ok(name) = text.parse::<WalName>() {
            assert_eq!(name.to_string(), text);
        }
    }
});
