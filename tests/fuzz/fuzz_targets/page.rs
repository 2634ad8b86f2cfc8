//! Names of files, and pages: the first line is a path of the data folder, the rest is what stands in that file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lifeboat::backup::physical::page::first_block;
use lifeboat::backup::physical::pages::{Again, PageWatch};
use lifeboat::domain::lsn::Lsn;

fuzz_target!(|data: &[u8]| {
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (path, bytes) = data.split_at(at);
    let path = String::from_utf8_lossy(path);
    let block = first_block(&path);
    let (mut whole, mut cut) = (PageWatch::default(), PageWatch::default());
    whole.begin(&path);
    cut.begin(&path);
    // The same page over and over, so that short inputs fill some.
    for _ in 0..3 {
        whole.pass(bytes);
        bytes.chunks(61).for_each(|piece| cut.pass(piece));
    }
    whole.end();
    cut.end();
    let again: Vec<Again> = whole.suspects().iter().map(|_| Again::of(bytes, block.unwrap_or(0))).collect();
    assert_eq!(whole.suspects(), cut.suspects());
    let (start, end) = (Lsn(0x100), Lsn(0x1_0000_0000));
    assert_eq!(whole.settle(start, end, &again), cut.settle(start, end, &again));
});
