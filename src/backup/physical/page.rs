//! PostgreSQL's page checksum, and which files of a data folder have one.
//!
//! The algorithm is that of `src/include/storage/checksum_impl.h`; what is verified and what is not follows
//! `src/backend/backup/basebackup.c` and `pg_checksums`.

/// Bytes of a page. Servers built with another size are refused before anything is read.
pub const PAGE_BYTES: usize = 8192;

/// Pages of one segment file of a relation (1 GiB).
pub const SEGMENT_PAGES: u32 = 131_072;

/// Words that are mixed side by side: the algorithm is made for vector units.
const LANES: usize = 32;
/// One row of words, in bytes.
const ROW_BYTES: usize = LANES * 4;
const FNV_PRIME: u32 = 16_777_619;

/// Where each lane begins: `checksumBaseOffsets` of `checksum_impl.h`.
const BASE_OFFSETS: [u32; LANES] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];

/// The checksum of a page at block number `block` of its whole relation fork (not of its segment file).
///
/// Pages are read as a little-endian server writes them: all platforms that PostgreSQL is packaged for today but s390x.
pub fn checksum(page: &[u8; PAGE_BYTES], block: u32) -> u16 {
    let mut sums = BASE_OFFSETS;
    let (rows, _) = page.as_chunks::<ROW_BYTES>();
    let (first, others) = match rows.split_first() {
        Some((first, others)) => (*first, others),
        None => ([0; ROW_BYTES], rows),
    };
    // The field that holds the checksum counts as zero.
    let mut head = first;
    head[8] = 0;
    head[9] = 0;
    mix(&mut sums, &head);
    for row in others {
        mix(&mut sums, row);
    }
    // Two rounds of zeros, so that the last words are mixed as well as the first.
    for _ in 0..2 {
        mix(&mut sums, &[0; ROW_BYTES]);
    }
    let folded = sums.iter().fold(0, |all, sum| all ^ sum) ^ block;
    // 1 to 65535: zero stands for "has no checksum".
    (folded % 65_535) as u16 + 1
}

#[inline(always)]
fn mix(sums: &mut [u32; LANES], row: &[u8; ROW_BYTES]) {
    let (words, _) = row.as_chunks::<4>();
    for (sum, word) in sums.iter_mut().zip(words) {
        let mixed = *sum ^ u32::from_le_bytes(*word);
        *sum = mixed.wrapping_mul(FNV_PRIME) ^ (mixed >> 17);
    }
}

/// The checksum that a page carries.
pub fn stored_checksum(page: &[u8; PAGE_BYTES]) -> u16 {
    u16::from_le_bytes([page[8], page[9]])
}

/// The log sequence number that a page carries: where the last change to it ends in the log.
pub fn stored_lsn(page: &[u8; PAGE_BYTES]) -> u64 {
    let word = |at: usize| u64::from(u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]));
    word(0) << 32 | word(4)
}

/// Whether this path of a data folder (`base/5/1259_vm.2`, `pg_tblspc/16400/PG_15_202209061/5/16401`) is a file of pages;
/// gives the block number of its first page. Temporary relations (`t3_16384`) and everything with another shape is not.
pub fn first_block(path: &str) -> Option<u32> {
    let parts: Vec<&str> = path.split('/').collect();
    let name = match parts.as_slice() {
        ["global", name] => *name,
        ["base", database, name] if digits(database) => *name,
        ["pg_tblspc", space, version, database, name]
            if digits(space) && version.starts_with("PG_") && digits(database) =>
        {
            *name
        }
        _ => return None,
    };
    let (stem, segment) = match name.split_once('.') {
        Some((stem, segment)) if digits(segment) => (stem, segment.parse::<u32>().ok()?),
        Some(_) => return None,
        None => (name, 0),
    };
    let number = match stem.split_once('_') {
        Some((number, "fsm" | "vm" | "init")) => number,
        Some(_) => return None,
        None => stem,
    };
    digits(number).then(|| segment.checked_mul(SEGMENT_PAGES)).flatten()
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_pages_are_told_from_others() {
        for (path, block) in [
            ("base/5/1259", Some(0)),
            ("base/5/1259.2", Some(2 * SEGMENT_PAGES)),
            ("base/5/1259_vm", Some(0)),
            ("base/5/1259_fsm.1", Some(SEGMENT_PAGES)),
            ("base/5/16384_init", Some(0)),
            ("global/1262", Some(0)),
            ("pg_tblspc/16400/PG_15_202209061/5/16401.1", Some(SEGMENT_PAGES)),
            ("global/pg_control", None),
            ("global/pg_internal.init", None),
            ("base/5/pg_filenode.map", None),
            ("base/5/PG_VERSION", None),
            ("base/5/t3_16384", None),
            ("base/5/1259_other", None),
            ("base/5/1259.x", None),
            ("base/5/1259.99999999", None),
            ("base/pgsql_tmp/pgsql_tmp1.0", None),
            ("base/1259", None),
            ("pg_wal/000000010000000000000001", None),
            ("pg_xact/0000", None),
            ("backup_label", None),
        ] {
            assert_eq!(first_block(path), block, "{path}");
        }
    }

    #[test]
    fn the_block_number_and_every_bit_count() {
        let mut page = [0u8; PAGE_BYTES];
        for (at, byte) in page.iter_mut().enumerate() {
            *byte = (at * 31 % 251) as u8;
        }
        let right = checksum(&page, 7);
        assert_ne!(right, 0);
        assert_ne!(checksum(&page, 8), right);
        for at in [0, 7, 10, 11, 127, 128, 4095, 8191] {
            page[at] ^= 0x10;
            assert_ne!(checksum(&page, 7), right, "byte {at}");
            page[at] ^= 0x10;
        }
        // The field itself does not count.
        page[8] ^= 0xff;
        page[9] ^= 0xff;
        assert_eq!(checksum(&page, 7), right);
    }

    #[test]
    fn the_log_position_of_a_page_is_two_words() {
        let mut page = [0u8; PAGE_BYTES];
        page[..8].copy_from_slice(&[0x16, 0, 0, 0, 0x48, 0xd8, 0x74, 0xb3]);
        assert_eq!(crate::domain::lsn::Lsn(stored_lsn(&page)).to_string(), "16/B374D848");
    }
}
