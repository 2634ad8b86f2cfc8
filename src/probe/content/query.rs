//! The SQL of digests.

use std::fmt::Write as _;

use tokio_postgres::{Client, Row};

use super::hashing::{CHOSEN, KEPT, MEANWHILE, OWN};
use super::pages::Range;
use super::{Column, RowFilter, Target};
use crate::domain::inventory::{FOREIGN, UNLOGGED};
use crate::domain::observed::Observed;
use crate::probe::ProbeError;
use crate::probe::session::{cell, rows, version_num};

/// Ordinary tables, leaves of partitioned ones, materialized views and foreign tables, of users and of extensions; largest first.
pub(super) async fn targets(client: &Client, filter: &RowFilter) -> Result<Vec<Target>, ProbeError> {
    let major = version_num(client).await? / 10_000;
    // Scans of a range of tuple identifiers read only that range from PostgreSQL 14 on.
    let ranges = if major >= 14 { "c.relkind = 'r' and am.amname = 'heap'" } else { "false" };
    let remade = match filter {
        RowFilter::All => "false".to_owned(),
        RowFilter::AsOf { snapshot, own_from } => in_window("c.xmin", snapshot.xmin, *own_from),
    };
    // What a virtual column (from PostgreSQL 18 on) gives is not in the table: it is computed, and may fail.
    let stored = "a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated <> 'v'";
    let sql = format!(
        "with recursive domain (type, root, kind, under) as (
           select oid, oid, typtype, typbasetype from pg_type where typtype = 'd'
           union all
           select d.type, t.oid, t.typtype, t.typbasetype from domain d join pg_type t on t.oid = d.under where d.kind = 'd')
         select c.oid::int8 as oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname) as name, c.relkind::text as kind,
                c.relpersistence::text as persistence, c.relispopulated as populated,
                coalesce(pg_table_size(c.oid), 0)::int8 as bytes,
                (coalesce(pg_relation_size(c.oid), 0) / current_setting('block_size')::int8)::int8 as blocks,
                {ranges} as ranges, {remade} as remade,
                array(select quote_ident(a.attname) from pg_attribute a where {stored} order by a.attname) as columns,
                array(select coalesce((select d.root from domain d where d.type = a.atttypid and d.kind <> 'd'), a.atttypid)::int8
                   from pg_attribute a where {stored} order by a.attname) as roots,
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
        columns: columns(row)?,
        key: cell(row, "key")?,
        ranges: cell(row, "ranges")?,
        foregone,
        remade: cell(row, "remade")?,
    })
}

fn columns(row: &Row) -> Result<Vec<Column>, ProbeError> {
    let (names, roots): (Vec<String>, Vec<i64>) = (cell(row, "columns")?, cell(row, "roots")?);
    let columns = names.into_iter().zip(roots);
    Ok(columns.map(|(name, root)| Column { name, root: root.try_into().unwrap_or_default() }).collect())
}

fn unsigned(row: &Row, column: &str) -> Result<u64, ProbeError> {
    let number: i64 = cell(row, column)?;
    u64::try_from(number)
        .map_err(|_| ProbeError::Answer { doing: format!("reading {column}"), why: format!("{number} is negative") })
}

/// What is said of each row of a table, which is called `lifeboat_row`: bits, as a number.
fn mark(target: &Target, percent: u8, filter: &RowFilter) -> String {
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
    // Of the rows that are kept, those that a sample picks; all, if there is nothing to pick by.
    let picked = match (&target.key, percent) {
        (_, 100..) => None,
        (Some(key), _) => {
            // Hashed as text under the C collation: the same rows on both sides, whatever the key's own collation is.
            let key = format!("row({key})::text collate \"C\"");
            Some(format!("(hashtextextended({key}, 0) & 2147483647) % 100 < {percent}"))
        }
        (None, _) => Some("false".to_owned()),
    };
    let chosen = picked.as_ref().map_or_else(|| kept.clone(), |picked| format!("({kept}) and {picked}"));
    match (percent, filter) {
        (100.., RowFilter::All) => (KEPT | CHOSEN).to_string(),
        _ => {
            let bits = |marks: &[(&String, u8)]| {
                let of = |(condition, bit): &(&String, u8)| format!("case when {condition} then {bit} else 0 end");
                marks.iter().map(of).collect::<Vec<_>>().join(" + ")
            };
            let all = bits(&[(&kept, KEPT), (&meanwhile, MEANWHILE), (&own, OWN), (&chosen, CHOSEN)]);
            match filter {
                // Almost all rows are older than the snapshot, and so kept, and nobody's own: one question answers all four.
                RowFilter::AsOf { snapshot, own_from } if snapshot.xmin <= *own_from => {
                    let old = format!("age(lifeboat_row.xmin) > age({})", xid(snapshot.xmin));
                    let (kept, chosen) = ("true".to_owned(), picked.unwrap_or_else(|| "true".to_owned()));
                    format!("case when {old} then {} else {all} end", bits(&[(&kept, KEPT), (&chosen, CHOSEN)]))
                }
                _ => all,
            }
        }
    }
}

/// A table whose rows are called `lifeboat_row`, or a range of its pages.
fn from(target: &Target, range: Option<Range>) -> String {
    let mut from = format!("only {} lifeboat_row", target.name);
    // Writing to a String cannot fail.
    if let Some((first, to)) = range {
        let _ = write!(from, " where lifeboat_row.ctid >= '({first},0)'");
        if let Some(to) = to {
            let _ = write!(from, " and lifeboat_row.ctid < '({to},0)'");
        }
    }
    from
}

/// Counts the rows of a range by their marks, without sending any.
pub(super) fn count(target: &Target, filter: &RowFilter, range: Range) -> String {
    let (mark, from) = (mark(target, 100, filter), from(target, Some(range)));
    match filter {
        RowFilter::All => format!("select ({mark})::int2 as mark, count(*)::int8 as rows from {from}"),
        RowFilter::AsOf { .. } => format!(
            "select of_rows.mark as mark, count(*)::int8 as rows from (select ({mark})::int2 as mark from {from}) of_rows group by of_rows.mark"
        ),
    }
}

/// The `COPY` of one table, or of a range of its pages.
pub(super) fn copy(target: &Target, percent: u8, filter: &RowFilter, range: Option<Range>) -> String {
    let (mark, mut from) = (mark(target, percent, filter), from(target, range));
    let mut values = format!("({mark})::int2");
    if percent >= 100 {
        for column in &target.columns {
            let _ = write!(values, ", {}", sent(&format!("lifeboat_row.{}", column.name), column.root));
        }
    } else {
        // All rows are counted, and only those that are chosen are sent. `offset 0` keeps the planner from merging the two
        // levels, which would choose once for each column.
        let mut inner = std::mem::replace(&mut values, "of_rows.mark".to_owned());
        inner.push_str(" as mark");
        for (at, column) in target.columns.iter().enumerate() {
            let _ = write!(inner, ", lifeboat_row.{} as c{at}", column.name);
            let value = sent(&format!("of_rows.c{at}"), column.root);
            let _ = write!(values, ", case when of_rows.mark >= {CHOSEN} then {value} end");
        }
        from = format!("(select {inner} from {from} offset 0) of_rows");
    }
    format!("copy (select {values} from {from}) to stdout (format binary)")
}

/// The form in which a value is sent.
///
/// Built-in types whose binary form holds no object identifiers, follows no setting and is the same in PostgreSQL 13 to 18 go as they
/// are; a domain goes like the type under it. A number that is none has many bit patterns (the processor makes negative ones) of which text
/// knows one: it is sent as that.
///
/// All others go as text: `row(…)::text` prints with the type's own output function, under the fixed settings of
/// [`crate::probe::session`]. `::text` on the value itself would run a cast that the type's owner has written; nobody but a superuser can write one
/// for `record`. Among them, for a reason: arrays, records, ranges (types' identifiers are in them), `xml` (its binary form names the
/// client's encoding), `regclass` and its kin (identifiers, which a dump does not keep), geometric types (numbers that are none),
/// `bit` (bits behind the end).
fn sent(value: &str, root: u32) -> String {
    let no_number = |name: &str| {
        format!("case when {value} operator(pg_catalog.=) 'NaN'::{name} then 'NaN'::{name} else {value} end")
    };
    match root {
        // float4, float8, numeric
        700 => no_number("pg_catalog.float4"),
        701 => no_number("pg_catalog.float8"),
        1700 => no_number("pg_catalog.numeric"),
        // bool, bytea, "char", name, int8, int2, int4, text, oid, json, cidr, macaddr8, money, macaddr, inet, bpchar, varchar
        16..=21 | 23 | 25 | 26 | 114 | 650 | 774 | 790 | 829 | 869 | 1042 | 1043
        // date, time, timestamp, timestamptz, interval, timetz, uuid, jsonb
        | 1082 | 1083 | 1114 | 1184 | 1186 | 1266 | 2950 | 3802 => value.to_owned(),
        _ => format!("row({value})::text"),
    }
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
