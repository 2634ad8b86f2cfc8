//! PostgreSQL's page checksum, and which files of a data folder have one.
//!
//! The algorithm is that of `src/include/storage/checksum_impl.h`; what is verified and what is not follows
//! `src/backend/backup/basebackup.c` and `pg_checksums`.

/// Bytes of a page. Servers built with another size are refused before anything is read.
pub const PAGE_BYTES: usize = 8192;

/// The checksum of a page at block number `block` of its whole relation fork (not of its segment file).
pub fn checksum(page: &[u8; PAGE_BYTES], block: u32) -> u16 {
    let _ = (page, block);
    todo!()
}
