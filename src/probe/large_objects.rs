//! Large objects, all together.

use tokio_postgres::Client;

use super::ProbeError;
use super::error::Fault;
use super::session::{cell, row};
use crate::domain::inventory::LargeObjects;
use crate::domain::observed::Observed;

/// The pages as they are stored.
const BY_PAGES: &str = "select loid, pageno, substr(data || zeros, 1, page) as data,
                               pageno::int8 * page + length(data) as until, zeros
                          from pg_largeobject, size";

/// The same pages, cut from whole objects.
const BY_OBJECTS: &str =
    "select o.oid as loid, g as pageno, substr(substr(o.whole, g * page + 1, page) || zeros, 1, page) as data,
                                 octet_length(o.whole)::int8 as until, zeros
                            from (select oid, lo_get(oid) as whole from pg_largeobject_metadata offset 0) o, size,
                                 generate_series(0, (octet_length(o.whole) - 1) / page) g";

/// Counts them, and digests identifiers and content.
///
/// Content is read by pages of `pg_largeobject`, so that one of terabytes needs no memory. How an object is cut into pages may differ
/// between a source and a dump of it (holes are pages that are not there; a dump fills them with zeros), so each page is
/// padded to its full length, pages of zeros are left out, and the length of the object is digested beside them.
/// The sums are those of the content digest. Reading `pg_largeobject` takes a superuser; a role that may read every object (it is granted,
/// or `lo_compat_privileges` is on for the role) reads them one by one, each whole; for others the digest is unknown.
pub async fn large_objects(client: &Client) -> Result<LargeObjects, ProbeError> {
    let doing = "reading the large objects";
    let count: i64 = cell(&row(client, doing, "select count(*) as n from pg_largeobject_metadata").await?, "n")?;
    let count = count.unsigned_abs();
    let may = "select has_table_privilege('pg_largeobject', 'SELECT') as may";
    let pages = if cell::<bool>(&row(client, doing, may).await?, "may")? { BY_PAGES } else { BY_OBJECTS };
    let sql = format!(
        "with size as (select (current_setting('block_size')::int8 / 4)::int4 as page,
                       decode(repeat('00', (current_setting('block_size')::int8 / 4)::int4), 'hex') as zeros),
      pages as ({pages}),
      ends as (select loid, max(until) as until from pages group by loid),
      texts as (select row('page', loid, pageno, data)::text as t from pages where data <> zeros
                union all
                select row('size', m.oid, coalesce(e.until, 0))::text
                  from pg_largeobject_metadata m left join ends e on e.loid = m.oid),
      hashes as (select ('x' || encode(sha256(convert_to(t, getdatabaseencoding())), 'hex'))::bit(256) as h
                   from texts offset 0)
      select concat_ws(':', count(*), coalesce(sum(substring(h, 1, 64)::int8), 0), coalesce(sum(substring(h, 65, 64)::int8), 0),
                       coalesce(sum(substring(h, 129, 64)::int8), 0), coalesce(sum(substring(h, 193, 64)::int8), 0)) as sums
        from hashes"
    );
    let digest = match row(client, doing, &sql).await {
        Ok(row) => Observed::Known(digest_of(&cell::<String>(&row, "sums")?)),
        Err(error) if error.fault() == Fault::Denied => Observed::Unknown(error.to_string()),
        Err(error) => return Err(error),
    };
    Ok(LargeObjects { count, digest })
}

fn digest_of(sums: &str) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(sums.as_bytes()))
}
