//! `global/pg_control`: which cluster a folder is of.
//!
//! The server rewrites it in place, so it can be read while it is written: its own checksum tells.

use std::io;
use std::path::Path;
use std::time::Duration;

/// Where `system_identifier` is, then `pg_control_version`, then `catalog_version_no`: `src/include/catalog/pg_control.h`.
const IDENTIFIER_AT: usize = 0;
const CATALOG_AT: usize = 12;
/// The checksum is the last field; where it is differs between versions: somewhere between these.
const CHECKSUM_FROM: usize = 128;
const CHECKSUM_TO: usize = 512;
/// A torn read is repaired by the next one.
const TRIES: u32 = 20;

/// What is used of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// The cluster.
    pub system_identifier: u64,
    /// The catalogue's version: a part of the names of tablespaces' folders.
    pub catalog_version: u32,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// Reads the file until its checksum is right.
pub fn read(data_dir: &Path) -> io::Result<Control> {
    let mut seen = None;
    for try_number in 0..TRIES {
        if try_number > 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        seen = parse(std::fs::read(data_dir.join("global/pg_control"))?);
        if seen.is_some() {
            break;
        }
    }
    seen.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "its own checksum is wrong"))
}

fn parse(bytes: Vec<u8>) -> Option<Control> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let mut sum = crc32c::crc32c(bytes.get(..CHECKSUM_FROM)?);
    let mut right = false;
    for at in (CHECKSUM_FROM..CHECKSUM_TO).step_by(4) {
        if word(at)? == sum {
            right = true;
            break;
        }
        sum = crc32c::crc32c_append(sum, bytes.get(at..at + 4)?);
    }
    let identifier = u64::from(word(IDENTIFIER_AT + 4)?) << 32 | u64::from(word(IDENTIFIER_AT)?);
    let catalog_version = word(CATALOG_AT)?;
    right.then_some(Control { system_identifier: identifier, catalog_version, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(identifier: u64, sum_at: usize) -> Vec<u8> {
        let mut bytes = vec![0; 8192];
        for (at, byte) in bytes[..sum_at].iter_mut().enumerate() {
            *byte = (at % 249) as u8;
        }
        bytes[..8].copy_from_slice(&identifier.to_le_bytes());
        bytes[12..16].copy_from_slice(&202_209_061_u32.to_le_bytes());
        let sum = crc32c::crc32c(&bytes[..sum_at]);
        bytes[sum_at..sum_at + 4].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    #[test]
    fn the_checksum_is_found_wherever_it_is_and_a_torn_file_is_not_believed() {
        for sum_at in [288, 292, 400] {
            let mut bytes = control(7_300_000_000_000_000_001, sum_at);
            let seen = parse(bytes.clone()).unwrap();
            assert_eq!((seen.system_identifier, seen.catalog_version), (7_300_000_000_000_000_001, 202_209_061));
            bytes[40] ^= 1;
            assert_eq!(parse(bytes), None);
        }
        assert_eq!(parse(vec![0; 100]), None);
        assert_eq!(parse(Vec::new()), None);
    }
}
