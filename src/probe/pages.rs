//! Which pages of the tables were written in a stretch of the log. Needs a superuser: it reads the data folder through the server.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::ProbeError;
use super::session::{cell, rows};
use crate::domain::lsn::Lsn;

/// How many pages of each table were last written at `from` or after it and before `to`, on disk: users' tables by name, and
/// `pg_catalog.pg_largeobject`. Tables without such a page are not in it.
///
/// The first eight bytes of a page are its LSN, as two 32-bit numbers in the server's own byte order (little-endian on all that
/// PostgreSQL is packaged for; another order would only give a wrong count of traces, never an equal digest). To be asked before
/// anything else reads the tables: a scan sets hint bits, and with checksums on that moves the LSN of a page.
pub async fn pages_written(client: &Client, from: Lsn, to: Lsn) -> Result<BTreeMap<String, u64>, ProbeError> {
    let top = i64::MAX.unsigned_abs();
    let sql = format!(
        "with heap as (select quote_ident(n.nspname) || '.' || quote_ident(c.relname) as name, pg_relation_filepath(c.oid) as path,
                              coalesce(pg_relation_size(c.oid), 0) / page as blocks, page, per_file
                         from pg_class c join pg_namespace n on n.oid = c.relnamespace,
                              (select current_setting('block_size')::int8 as page,
                                      (select setting::int8 from pg_settings where name = 'segment_size') as per_file) sizes
                        where c.relkind in ('r', 'm') and c.relpersistence = 'p'
                          and (c.oid >= 16384 or c.oid = 'pg_catalog.pg_largeobject'::regclass)),
              head as (select name, pg_read_binary_file(path || case when b / per_file = 0 then '' else '.' || b / per_file end,
                                                        (b % per_file) * page, 8, true) as bytes
                         from heap, generate_series(0, blocks - 1) b),
              lsn as (select name, (get_byte(bytes, 3)::int8 << 56) | (get_byte(bytes, 2)::int8 << 48)
                                 | (get_byte(bytes, 1)::int8 << 40) | (get_byte(bytes, 0)::int8 << 32)
                                 | (get_byte(bytes, 7)::int8 << 24) | (get_byte(bytes, 6)::int8 << 16)
                                 | (get_byte(bytes, 5)::int8 << 8) | get_byte(bytes, 4)::int8 as at
                        from head where length(bytes) = 8)
         select name, count(*) as pages from lsn where at >= {} and at < {} group by name",
        from.0.min(top),
        to.0.min(top)
    );
    let all = rows(client, "reading the page headers", &sql).await?;
    all.iter().map(|row| Ok((cell(row, "name")?, cell::<i64>(row, "pages")?.unsigned_abs()))).collect()
}
