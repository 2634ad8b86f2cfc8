//! The fingerprint of one database.

use tokio_postgres::Client;

use super::session::{cell, row, rows, setting, version_num};
use super::{OpenSnapshot, ProbeError, large_objects, objects};
use crate::domain::check::Broke;
use crate::domain::inventory::{Collation, Database, Extension, LargeObjects, Table};

/// Everything about the database but the content of its tables, which is given (from [`super::digest_tables`]; empty: not taken).
pub async fn database(snapshot: &OpenSnapshot, tables: Vec<Table>) -> Result<Database, Broke> {
    let client = &snapshot.client;
    let mut described = describe(snapshot).await?;
    described.extensions = extensions(client).await?;
    described.collations = collations(client).await?;
    described.objects = objects(client).await?;
    described.large_objects = large_objects(client).await?;
    described.tables = tables;
    Ok(described)
}

/// Only what the database itself is: owner, encoding, locale, settings, and the sequences of the snapshot.
pub async fn describe(snapshot: &OpenSnapshot) -> Result<Database, ProbeError> {
    let client = &snapshot.client;
    let major = version_num(client).await? / 10_000;
    let provider = if major >= 15 {
        "case datlocprovider when 'c' then 'libc' when 'i' then 'icu' when 'b' then 'builtin' end"
    } else {
        "'libc'"
    };
    let locale = match major {
        ..15 => "null",
        15 | 16 => "daticulocale",
        17.. => "datlocale",
    };
    let (recorded, actual) =
        if major >= 15 { ("datcollversion", "pg_database_collation_actual_version(d.oid)") } else { ("null", "null") };
    let sql = format!(
        "select d.oid::int8 as oid, d.datname::text as name, pg_get_userbyid(d.datdba)::text as owner,
                pg_encoding_to_char(d.encoding)::text as encoding, {recorded}::text as recorded, {actual}::text as actual,
                concat_ws(' ', {provider}, 'collate=' || d.datcollate, 'ctype=' || d.datctype, 'locale=' || {locale}) as locale,
                {settings} as settings
           from pg_database d where d.datname = current_database()",
        settings = settings()
    );
    let row = row(client, "reading what the database is", &sql).await?;
    Ok(Database {
        name: cell(&row, "name")?,
        oid: cell::<i64>(&row, "oid")?.try_into().unwrap_or_default(),
        owner: cell(&row, "owner")?,
        encoding: cell(&row, "encoding")?,
        locale: cell(&row, "locale")?,
        collation_version: cell(&row, "recorded")?,
        collation_actual: cell(&row, "actual")?,
        settings: cell(&row, "settings")?,
        snapshot: snapshot.snapshot.clone(),
        extensions: Vec::new(),
        collations: Vec::new(),
        objects: Vec::new(),
        tables: Vec::new(),
        sequences: snapshot.sequences.clone(),
        large_objects: LargeObjects {
            count: 0,
            digest: crate::domain::observed::Observed::Unknown("not read".to_owned()),
        },
        changed_meanwhile: Vec::new(),
    })
}

/// SQL for the settings of the database `d`, sorted.
fn settings() -> String {
    format!(
        "array(select case when s.setrole = 0 then '' else 'role ' || quote_ident(pg_get_userbyid(s.setrole)) || ': ' end || {}
                 from pg_db_role_setting s, unnest(s.setconfig) c where s.setdatabase = d.oid order by 1)",
        setting("c")
    )
}

/// What of a database can be altered at any time, by `ALTER DATABASE`.
pub(super) async fn owner_and_settings(client: &Client) -> Result<(String, Vec<String>), ProbeError> {
    let sql = format!(
        "select pg_get_userbyid(d.datdba)::text as owner, {} as settings from pg_database d where d.datname = current_database()",
        settings()
    );
    let row = row(client, "reading what the database is", &sql).await?;
    Ok((cell(&row, "owner")?, cell(&row, "settings")?))
}

/// The schema into which a check of ours installs what it needs for a while: never part of a fingerprint.
pub const OWN_SCHEMA: &str = "lifeboat_check";

/// Its extensions.
pub async fn extensions(client: &Client) -> Result<Vec<Extension>, ProbeError> {
    let sql = format!(
        "select e.extname::text as name, e.extversion as version, n.nspname::text as schema
           from pg_extension e join pg_namespace n on n.oid = e.extnamespace where n.nspname <> '{OWN_SCHEMA}' order by 1"
    );
    let all = rows(client, "reading the extensions", &sql).await?;
    all.iter()
        .map(|row| {
            Ok(Extension { name: cell(row, "name")?, version: cell(row, "version")?, schema: cell(row, "schema")? })
        })
        .collect()
}

/// Collations made by users, and those of PostgreSQL's own that columns, domains or indexes use.
pub async fn collations(client: &Client) -> Result<Vec<Collation>, ProbeError> {
    let sql = "select quote_ident(n.nspname) || '.' || quote_ident(c.collname) as name,
                      case c.collprovider when 'c' then 'libc' when 'i' then 'icu' when 'b' then 'builtin' else 'default' end as provider,
                      c.collversion as recorded, pg_collation_actual_version(c.oid) as actual
                 from pg_collation c join pg_namespace n on n.oid = c.collnamespace
                where c.collprovider <> 'd' and (c.oid >= 16384
                   or c.oid in (select attcollation from pg_attribute where attrelid >= 16384
                                union select typcollation from pg_type where oid >= 16384
                                union select unnest(indcollation) from pg_index where indexrelid >= 16384))
                order by 1";
    let all = rows(client, "reading the collations", sql).await?;
    all.iter()
        .map(|row| {
            Ok(Collation {
                name: cell(row, "name")?,
                provider: cell(row, "provider")?,
                recorded: cell(row, "recorded")?,
                actual: cell(row, "actual")?,
            })
        })
        .collect()
}
