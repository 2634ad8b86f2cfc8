//! Which pages of a table were written in a stretch of the log. Needs a superuser: it reads the data folder through the server.

use tokio_postgres::Client;

use super::ProbeError;
use super::session::{cell, row};
use crate::domain::lsn::Lsn;

/// How many pages of the table were last written at `from` or after it and before `to`, on disk.
///
/// The first eight bytes of a page are its LSN, as two 32-bit numbers in the server's own byte order (little-endian on all that
/// PostgreSQL is packaged for; another order would only give a wrong count of traces, not a wrong digest). Asked before
/// anything else reads the table: a scan sets hint bits, and with checksums on that moves the LSN of a page.
pub async fn pages_written(client: &Client, table: &str, from: Lsn, to: Lsn) -> Result<u64, ProbeError> {
    let literal = format!("'{}'", table.replace('\'', "''"));
    let sql = format!(
        "with heap as (select pg_relation_filepath({literal}::regclass) as path, current_setting('block_size')::int8 as page,
                             pg_relation_size({literal}::regclass) / current_setting('block_size')::int8 as blocks,
                             (select setting::int8 from pg_settings where name = 'segment_size') as per_file),
              head as (select pg_read_binary_file(path || case when b / per_file = 0 then '' else '.' || b / per_file end,
                                                  (b % per_file) * page, 8, true) as bytes
                         from heap, generate_series(0, blocks - 1) b),
              lsn as (select (get_byte(bytes, 3)::int8 << 56) | (get_byte(bytes, 2)::int8 << 48)
                           | (get_byte(bytes, 1)::int8 << 40) | (get_byte(bytes, 0)::int8 << 32)
                           | (get_byte(bytes, 7)::int8 << 24) | (get_byte(bytes, 6)::int8 << 16)
                           | (get_byte(bytes, 5)::int8 << 8) | get_byte(bytes, 4)::int8 as at
                        from head where length(bytes) = 8)
         select count(*) as pages from lsn where at >= {} and at < {}",
        from.0.min(i64::MAX.unsigned_abs()),
        to.0.min(i64::MAX.unsigned_abs())
    );
    let pages: i64 = cell(&row(client, &format!("reading the page headers of {table}"), &sql).await?, "pages")?;
    Ok(pages.unsigned_abs())
}
