//! The SQL of digests.

use std::fmt::Write as _;

use tokio_postgres::{Client, Row};

use super::{RowFilter, Sums, Target};
use crate::domain::inventory::{FOREIGN, UNLOGGED};
use crate::domain::observed::Observed;
use crate::probe::ProbeError;
use crate::probe::session::{cell, parsed, rows, version_num};

/// Ordinary tables, leaves of partitioned ones, materialized views and foreign tables, of users and of extensions; largest first.
pub(super) async fn targets(client: &Client, filter: &RowFilter) -> Result<Vec<Target>, ProbeError> {
    let major = version_num(client).await? / 10_000;
    // Scans of a range of tuple identifiers read only that range from PostgreSQL 14 on.
    let ranges = if major >= 14 { "c.relkind = 'r' and am.amname = 'heap'" } else { "false" };
    let remade = match filter {
        RowFilter::All => "false".to_owned(),
        RowFilter::AsOf { snapshot, own_from } => in_window("c.xmin", snapshot.xmin, *own_from),
    };
    // An expression's name under which no column can hide is not needed: columns are always written out.
    let sql = format!(
        "select c.oid::int8 as oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname) as name, c.relkind::text as kind,
                c.relpersistence::text as persistence, c.relispopulated as populated,
                coalesce(pg_table_size(c.oid), 0)::int8 as bytes,
                (coalesce(pg_relation_size(c.oid), 0) / current_setting('block_size')::int8)::int8 as blocks,
                {ranges} as ranges, {remade} as remade,
                (select string_agg(quote_ident(a.attname), ', ' order by a.attname)
                   from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns,
                (select string_agg(quote_ident(a.attname), ', ' order by a.attname)
                   from pg_index i join pg_attribute a on a.attrelid = c.oid and a.attnum = any (i.indkey)
                  where i.indrelid = c.oid and i.indisprimary and i.indisvalid) as key
           from pg_class c join pg_namespace n on n.oid = c.relnamespace left join pg_am am on am.oid = c.relam
          where c.relkind in ('r', 'm', 'f') and c.oid >= 16384 and c.relpersistence <> 't'
            and n.nspname !~ '^pg_(toast|temp)'
          order by bytes desc, name"
    );
    rows(client, "listing the tables", &sql).await?.iter().map(|row| target(row, filter)).collect()
}

fn target(row: &Row, filter: &RowFilter) -> Result<Target, ProbeError> {
    let kind: String = cell(row, "kind")?;
    let persistence: String = cell(row, "persistence")?;
    let physical_copy = matches!(filter, RowFilter::AsOf { .. });
    let foregone = match (kind.as_str(), persistence.as_str()) {
        ("f", _) => Some(Observed::Unknown(format!("{FOREIGN}its rows are on another server"))),
        (_, "u") if physical_copy => {
            Some(Observed::Unknown(format!("{UNLOGGED}a physical backup does not hold its rows")))
        }
        ("m", _) if !cell::<bool>(row, "populated")? => Some(Observed::Absent),
        _ => None,
    };
    Ok(Target {
        oid: unsigned(row, "oid")?.try_into().unwrap_or_default(),
        name: cell(row, "name")?,
        bytes: unsigned(row, "bytes")?,
        blocks: unsigned(row, "blocks")?,
        columns: cell::<Option<String>>(row, "columns")?.unwrap_or_default(),
        key: cell(row, "key")?,
        ranges: cell(row, "ranges")?,
        foregone,
        remade: cell(row, "remade")?,
    })
}

fn unsigned(row: &Row, column: &str) -> Result<u64, ProbeError> {
    let number: i64 = cell(row, column)?;
    u64::try_from(number)
        .map_err(|_| ProbeError::Answer { doing: format!("reading {column}"), why: format!("{number} is negative") })
}

/// One query over one table, or over its blocks from `range.0` to before `range.1`.
pub(super) fn digest(target: &Target, percent: u8, filter: &RowFilter, range: Option<(u64, Option<u64>)>) -> String {
    let (kept, meanwhile, own) = match filter {
        RowFilter::All => ("true".to_owned(), "false".to_owned(), "false".to_owned()),
        RowFilter::AsOf { snapshot, own_from } => {
            let window = in_window("lifeboat_row.xmin", snapshot.xmin, *own_from);
            let unseen = format!(
                "(age(lifeboat_row.xmin) <= age({}) or lifeboat_row.xmin = any ('{{{}}}'::xid[]))",
                xid(snapshot.xmax),
                snapshot.xip.iter().map(|xid| low(*xid).to_string()).collect::<Vec<_>>().join(",")
            );
            let own = format!("age(lifeboat_row.xmin) between 1 and age({})", xid(*own_from));
            (format!("not ({window} and {unseen})"), window, own)
        }
    };
    let chosen = match (&target.key, percent) {
        (_, 100..) => kept.clone(),
        (Some(key), _) => {
            // Hashed as text under the C collation: the same rows on both sides, whatever the key's own collation is.
            let key = format!("row({key})::text collate \"C\"");
            format!("({kept}) and (hashtextextended({key}, 0) & 2147483647) % 100 < {percent}")
        }
        (None, _) => "false".to_owned(),
    };
    let mut sql = format!(
        "select count(*) filter (where kept) as rows, count(h) as digested, \
         coalesce(sum(substring(h, 1, 64)::int8), 0)::text as lane0, \
         coalesce(sum(substring(h, 65, 64)::int8), 0)::text as lane1, \
         coalesce(sum(substring(h, 129, 64)::int8), 0)::text as lane2, \
         coalesce(sum(substring(h, 193, 64)::int8), 0)::text as lane3, \
         count(*) filter (where meanwhile) as meanwhile, count(*) filter (where own) as own \
         from (select {kept} as kept, {meanwhile} as meanwhile, {own} as own, case when {chosen} then \
         ('x' || encode(sha256(convert_to(row({})::text, getdatabaseencoding())), 'hex'))::bit(256) end as h \
         from only {} lifeboat_row",
        target.columns, target.name
    );
    // Writing to a String cannot fail.
    if let Some((from, to)) = range {
        let _ = write!(sql, " where lifeboat_row.ctid >= '({from},0)'");
        if let Some(to) = to {
            let _ = write!(sql, " and lifeboat_row.ctid < '({to},0)'");
        }
    }
    // `offset 0` keeps the planner from merging the two levels, which would hash each row four times.
    sql + " offset 0) of_rows"
}

/// What that query answered.
pub(super) fn sums(row: &Row) -> Result<Sums, ProbeError> {
    Ok(Sums {
        rows: unsigned(row, "rows")?,
        digested: unsigned(row, "digested")?,
        lanes: [parsed(row, "lane0")?, parsed(row, "lane1")?, parsed(row, "lane2")?, parsed(row, "lane3")?],
        meanwhile: unsigned(row, "meanwhile")?,
        own: unsigned(row, "own")?,
    })
}

/// Whether the transaction in `column` is from `from` on and before `own_from`. `age()` of a transaction that is frozen for good is the
/// greatest number there is, so those never are; of one that is older than half of the circle it is negative, so those are not either.
fn in_window(column: &str, from: u64, own_from: u64) -> String {
    format!("(age({column}) > age({}) and age({column}) <= age({}))", xid(own_from), xid(from))
}

/// The 32 bits that a row carries.
fn low(xid: u64) -> u64 {
    xid & 0xFFFF_FFFF
}

fn xid(full: u64) -> String {
    format!("xid '{}'", low(full))
}
