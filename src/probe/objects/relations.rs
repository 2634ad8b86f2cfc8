//! Schemas, tables and what hangs on them.

use super::{lasting, of_users, qualified, role, through_a_dump};

pub(super) fn queries(major: u32) -> Vec<(&'static str, String)> {
    let mut all = vec![
        ("schemas", schemas()),
        ("tables and views", tables(major)),
        ("columns", columns(major)),
        ("indexes", indexes()),
        ("constraints", constraints()),
        ("sequences", sequences()),
    ];
    if major >= 14 {
        all.push(("pending detachments", detachments()));
    }
    all
}

fn schemas() -> String {
    format!(
        "select 'schema', quote_ident(n.nspname), null::text, {} from pg_namespace n
          where (n.nspname = 'public' or {}) and {}",
        role("n.nspowner"),
        of_users("pg_namespace", "n.oid"),
        lasting("n")
    )
}

/// The options of column `a`: all but the mark of the minor releases, see [`columns`].
const OPTIONS: &str = "array(select o from unnest(a.attoptions) o where o not like 'pg\\_attver=%' order by 1)";

/// A foreign table's options may name files or hosts: they go into the digest only.
fn tables(major: u32) -> String {
    let compression = if major >= 14 { "nullif(a.attcompression::text, '')" } else { "null" };
    format!(
        "select case c.relkind when 'v' then 'view' when 'm' then 'materialized view' when 'f' then 'foreign table' else 'table' end,
                {name},
                row(c.relkind, c.relpersistence, c.relispartition, am.amname, array(select unnest(c.reloptions) order by 1),
                    array(select unnest(t.reloptions) order by 1), c.relreplident, c.relrowsecurity, c.relforcerowsecurity,
                    case when c.reloftype <> 0 then format_type(c.reloftype, null) end,
                    pg_get_expr(c.relpartbound, c.oid), case when c.relkind = 'p' then pg_get_partkeydef(c.oid) end,
                    array(select {parent} from pg_inherits i join pg_class p on p.oid = i.inhparent
                            join pg_namespace pn on pn.oid = p.relnamespace where i.inhrelid = c.oid order by i.inhseqno),
                    fs.srvname, array(select unnest(ft.ftoptions) order by 1), {view},
                    case when c.relkind in ('v', 'm') then
                      array(select row(a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid),
                                       case when c.relkind = 'm' then
                                         row(a.attstorage, {compression}, nullif(a.attstattarget::int4, -1), {OPTIONS}) end)::text
                              from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
                             where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum) end)::text,
                {owner}
           from pg_class c join pg_namespace n on n.oid = c.relnamespace left join pg_am am on am.oid = c.relam
                left join pg_class t on t.oid = c.reltoastrelid
                left join pg_foreign_table ft on ft.ftrelid = c.oid left join pg_foreign_server fs on fs.oid = ft.ftserver
          where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relpersistence <> 't' and {users} and {lasting}",
        name = qualified("n", "c.relname"),
        parent = qualified("pn", "p.relname"),
        view = through_a_dump("case when c.relkind in ('v', 'm') then pg_get_viewdef(c.oid) end"),
        owner = role("c.relowner"),
        users = of_users("pg_class", "c.oid"),
        lasting = lasting("n"),
    )
}

/// Neither a column's number nor whether it was inherited is part of its definition: a dump changes both. Nor is the option `pg_attver`, by
/// which the minor releases from 15.20 on remember where in the log a column was last defined: `pg_dump` leaves it out, so it
/// differs in every restored dump. All other options count.
fn columns(major: u32) -> String {
    let compression = if major >= 14 { "nullif(a.attcompression::text, '')" } else { "null" };
    format!(
        "select 'column', {name} || '.' || quote_ident(a.attname),
                row(format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, {default},
                    case when a.attcollation <> ty.typcollation then {collation} end, a.attstorage, {compression},
                    nullif(a.attstattarget::int4, -1), {OPTIONS},
                    array(select unnest(a.attfdwoptions) order by 1))::text,
                null::text
           from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
                join pg_type ty on ty.oid = a.atttypid
                left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
                left join pg_collation co on co.oid = a.attcollation left join pg_namespace cn on cn.oid = co.collnamespace
          where c.relkind in ('r', 'p', 'f') and c.relpersistence <> 't' and a.attnum > 0 and not a.attisdropped
            and {users} and {lasting}",
        name = qualified("n", "c.relname"),
        default = through_a_dump("pg_get_expr(d.adbin, d.adrelid)"),
        collation = qualified("cn", "co.collname"),
        users = of_users("pg_class", "c.oid"),
        lasting = lasting("n"),
    )
}

/// Indexes that PostgreSQL itself holds for invalid are a kind of their own: they serve nobody, and a dump leaves them out.
/// Those of partitioned tables are in a dump either way: whether they are valid is a part of what they are.
fn indexes() -> String {
    format!(
        "select case when i.indisvalid or c.relkind = 'I' then 'index' else 'invalid index' end, {name},
                row({definition}, i.indisclustered, i.indisreplident, {parent}, case when c.relkind = 'I' then i.indisvalid end,
                    array(select row(a.attnum, a.attstattarget)::text from pg_attribute a
                           where a.attrelid = c.oid and nullif(a.attstattarget::int4, -1) is not null order by a.attnum))::text, null::text
           from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
                join pg_class r on r.oid = i.indrelid
                left join pg_inherits h on h.inhrelid = c.oid left join pg_class p on p.oid = h.inhparent
                left join pg_namespace pn on pn.oid = p.relnamespace
          where c.relpersistence <> 't' and r.relkind in ('r', 'p', 'm') and {users} and {of_table} and {lasting}",
        name = qualified("n", "c.relname"),
        definition = through_a_dump("pg_get_indexdef(c.oid)"),
        parent = qualified("pn", "p.relname"),
        users = of_users("pg_class", "c.oid"),
        of_table = of_users("pg_class", "r.oid"),
        lasting = lasting("n"),
    )
}

/// Partitions that `DETACH CONCURRENTLY` was interrupted over: their rows are no longer seen through the parent. A dump attaches them again.
fn detachments() -> String {
    format!(
        "select 'pending detachment', {name} || ' of ' || {parent}, null::text, null::text
           from pg_inherits h join pg_class c on c.oid = h.inhrelid join pg_namespace n on n.oid = c.relnamespace
                join pg_class p on p.oid = h.inhparent join pg_namespace pn on pn.oid = p.relnamespace
          where h.inhdetachpending and c.relkind in ('r', 'p', 'f')",
        name = qualified("n", "c.relname"),
        parent = qualified("pn", "p.relname"),
    )
}

/// Foreign keys that PostgreSQL copies to partitions are left out (it names them anew in every database); the one that was declared is there.
/// `NO INHERIT` of a check is in its printed definition; for keys the column says only whether a partition's key was made with the
/// table or attached later, which a dump changes.
fn constraints() -> String {
    format!(
        "select 'constraint', quote_ident(k.conname) || ' on ' || coalesce({table}, {domain}),
                row({definition}, k.convalidated, k.condeferrable, k.condeferred)::text, null::text
           from pg_constraint k
                left join pg_class c on c.oid = k.conrelid left join pg_namespace n on n.oid = c.relnamespace
                left join pg_type t on t.oid = k.contypid left join pg_namespace tn on tn.oid = t.typnamespace
          where k.contype <> 't' and not (k.contype = 'f' and k.conparentid <> 0) and k.oid >= 16384
            and coalesce(c.relpersistence, 'p') <> 't'
            and (k.conrelid = 0 or ({of_table} and {lasting})) and (k.contypid = 0 or ({of_type} and {type_lasting}))",
        table = qualified("n", "c.relname"),
        domain = qualified("tn", "t.typname"),
        definition = through_a_dump("pg_get_constraintdef(k.oid)"),
        of_table = of_users("pg_class", "c.oid"),
        lasting = lasting("n"),
        of_type = of_users("pg_type", "t.oid"),
        type_lasting = lasting("tn"),
    )
}

/// How a sequence moves and who owns it; where it stands is not part of its definition.
fn sequences() -> String {
    format!(
        "select 'sequence', {name},
                row(format_type(s.seqtypid, null), s.seqstart, s.seqincrement, s.seqmax, s.seqmin, s.seqcache, s.seqcycle,
                    c.relpersistence, d.deptype, {column})::text,
                {owner}
           from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_sequence s on s.seqrelid = c.oid
                left join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = c.oid and d.objsubid = 0
                      and d.refclassid = 'pg_class'::regclass and d.refobjsubid > 0 and d.deptype in ('a', 'i')
                left join pg_class t on t.oid = d.refobjid left join pg_namespace tn on tn.oid = t.relnamespace
                left join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
          where c.relpersistence <> 't' and {users} and {lasting}",
        name = qualified("n", "c.relname"),
        column = format_args!("{} || '.' || quote_ident(a.attname)", qualified("tn", "t.relname")),
        owner = role("c.relowner"),
        users = of_users("pg_class", "c.oid"),
        lasting = lasting("n"),
    )
}
