//! Archives as a hostile server may send them, cut anywhere: the first byte is the length of the cuts, the second says
//! which archives belong to tablespaces. One byte at a time or all at once: the same tar, and nothing in it leaves the folder.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lifeboat::backup::physical::pump::{Pump, TarSink};
use lifeboat::domain::check::Broke;
use lifeboat::seal::Member;

#[derive(Debug, Default, PartialEq)]
struct Kept {
    bytes: Vec<u8>,
    members: Vec<(Member, usize)>,
}

impl TarSink for Kept {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Broke> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn member(&mut self, member: Member) -> Result<(), Broke> {
        self.members.push((member, self.bytes.len()));
        Ok(())
    }
}

/// The checksum of each header is set right, or nothing but the first refusal would ever be reached.
fn with_checksums(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    let mut at = 0;
    while let Some(block) = bytes.get_mut(at..at + 512) {
        if block.iter().all(|byte| *byte == 0) {
            at += 512;
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = std::str::from_utf8(&block[124..135])
            .ok()
            .and_then(|text| u64::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok());
        let size = usize::try_from(size.unwrap_or(0)).unwrap_or(usize::MAX);
        at = at.saturating_add(512).saturating_add(size.min(1 << 30).next_multiple_of(512));
    }
    bytes
}

fn pump(archives: &[(Option<u32>, Vec<u8>)], cut: usize) -> Result<Kept, String> {
    let mut pump = Pump::new(Kept::default(), true);
    let mut all = || {
        for (tablespace, bytes) in archives {
            pump.archive(*tablespace)?;
            for piece in bytes.chunks(cut) {
                pump.feed(piece)?;
            }
        }
        Ok(())
    };
    let done: Result<(), Broke> = all();
    done.and_then(|()| pump.finish()).map(|done| done.sink).map_err(|broke| broke.error)
}

fuzz_target!(|data: &[u8]| {
    let [cut, spaces, rest @ ..] = data else { return };
    let half = if spaces & 2 == 2 { rest.len() / 2 / 512 * 512 } else { rest.len() };
    let (first, second) = rest.split_at(half);
    let mut archives = vec![((spaces & 1 == 1).then_some(16_400), with_checksums(first))];
    if !second.is_empty() {
        archives.push((None, with_checksums(second)));
    }
    let whole = pump(&archives, usize::MAX);
    let cut = pump(&archives, usize::from(*cut).max(1));
    assert_eq!(whole, cut, "the cuts change what comes out");
    let Ok(kept) = whole else { return };
    for (member, _) in &kept.members {
        assert!(member.path.split('/').all(|segment| !matches!(segment, "" | "." | "..")), "{:?}", member.path);
        assert!(member.mode <= 0o777);
    }
    assert_eq!(kept.bytes.len() % 512, 0);
});
