//! The table of contents of a dump, as `pg_restore --list` prints it: its names are whatever the dump's owner chose.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lifeboat::backup::logical::toc;

fuzz_target!(|list: &str| {
    let entries = toc::read(list);
    let shared: usize = toc::stretches(&entries).iter().map(|(_, list)| list.len()).sum();
    assert_eq!(shared, entries.len(), "an entry is lost or restored twice");
    for entry in &entries {
        let _ = (toc::is_data(&entry.title), toc::runs_code(&entry.title), toc::acts_outside(&entry.title));
        assert!(list.contains(&entry.line));
    }
    assert!(toc::left_out(&entries).len() <= entries.len());
});
