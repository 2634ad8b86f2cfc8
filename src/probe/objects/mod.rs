//! Every object of a database, each with a digest of its definition: one set-based query a kind.
//!
//! A definition must come out the same on a source and on a faithful copy of it. So it never holds object identifiers, physical
//! column numbers, tablespaces, statistics, or names that PostgreSQL invents; and objects that belong to an extension are
//! not listed, since the extension is.

mod code;
mod grants;
mod other;
mod relations;
mod types;

use tokio_postgres::Client;

use super::ProbeError;
use super::session::{cell, rows, version_num};
use crate::domain::inventory::Object;

/// All objects, sorted.
pub async fn objects(client: &Client) -> Result<Vec<Object>, ProbeError> {
    let major = version_num(client).await? / 10_000;
    let mut all = Vec::new();
    for (what, sql) in queries(major) {
        // 128 bits of the SHA-256: enough that no two definitions meet by chance, and a manifest of 20,000 tables stays small.
        let digested = format!(
            "select kind, identity, case when definition is null then '' else left(encode(sha256(convert_to(definition, \
             getdatabaseencoding())), 'hex'), 32) end as definition, owner from ({sql}) of_kind(kind, identity, definition, owner)"
        );
        for row in rows(client, &format!("reading the {what}"), &digested).await? {
            all.push(object(&row)?);
        }
    }
    all.sort();
    Ok(all)
}

/// One row of such a query.
pub(super) fn object(row: &tokio_postgres::Row) -> Result<Object, ProbeError> {
    Ok(Object {
        kind: cell(row, "kind")?,
        identity: cell(row, "identity")?,
        definition: cell(row, "definition")?,
        owner: cell(row, "owner")?,
    })
}

/// What is asked, in words, and the query: kind, identity, definition, owner.
fn queries(major: u32) -> Vec<(&'static str, String)> {
    let mut all = relations::queries(major);
    all.extend(code::queries(major));
    all.extend(types::queries(major));
    all.extend(other::queries(major));
    all.extend(grants::queries(major));
    all
}

/// SQL: made by a user (or an extension), not by initdb; and not a member of an extension.
fn of_users(catalog: &str, oid: &str) -> String {
    format!(
        "{oid} >= 16384 and not exists (select from pg_depend member where member.classid = '{catalog}'::regclass \
         and member.objid = {oid} and member.objsubid = 0 and member.deptype = 'e')"
    )
}

/// SQL: in a schema that lasts, and that is not our own.
fn lasting(namespace: &str) -> String {
    format!("{namespace}.nspname !~ '^pg_(toast|temp)' and {namespace}.nspname <> '{}'", super::OWN_SCHEMA)
}

/// SQL: a qualified, quoted name.
fn qualified(namespace: &str, name: &str) -> String {
    format!("quote_ident({namespace}.nspname) || '.' || quote_ident({name})")
}

/// SQL: the name of a role, or none.
fn role(oid: &str) -> String {
    format!("pg_get_userbyid({oid})::text")
}

/// SQL: a printed expression that comes out the same when it has been through a dump.
///
/// PostgreSQL prints `status in ('a', 'b')` over a varchar as `(ARRAY['a'::varchar, 'b'::varchar])::text[]`; read back, it prints
/// `ARRAY[('a'::varchar)::text, ('b'::varchar)::text]`. Where a definition has an ARRAY, casts between the text types, parentheses and
/// spaces are left out; everywhere else it is taken to the letter.
fn through_a_dump(expression: &str) -> String {
    format!(
        "(select case when printed ~ 'ARRAY\\[' then regexp_replace(printed, \
         '::(text|character varying|bpchar|character)(\\([0-9]+\\))?(\\[\\])?|[() ]', '', 'g') else printed end \
         from (select {expression} as printed offset 0) as_printed)"
    )
}
