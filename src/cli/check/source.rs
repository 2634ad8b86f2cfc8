//! Tries the servers: can they be reached, and may the role do what the policy's backups need?

use std::process::Stdio;
use std::time::Duration;

use tokio_postgres::{Client, Row};

use super::tried::Tried;
use crate::domain::check::Broke;
use crate::domain::config::Config;
use crate::domain::policy::{Databases, Method, Policy, Source};
use crate::probe::Endpoint;
use crate::probe::endpoint::root_cause;
use crate::programs::Programs;

/// What a server said about itself.
#[derive(Debug)]
pub(super) struct Facts {
    /// `15`.
    pub(super) major: u32,
    /// From `pg_control_system()`; none when the role may not ask.
    pub(super) system_identifier: Option<String>,
    /// The database that the URL names.
    database: String,
    /// Every database that accepts connections, but templates: name, and size in bytes as far as it may be asked.
    databases: Vec<(String, Option<u64>)>,
}

impl Facts {
    /// Which databases a backup of this method holds.
    pub(super) fn databases_of(&self, method: Method, source: &Source) -> Vec<(String, Option<u64>)> {
        let named = |names: &[String]| {
            let size =
                |name: &String| self.databases.iter().find(|(known, _)| known == name).and_then(|(_, size)| *size);
            names.iter().map(|name| (name.clone(), size(name))).collect()
        };
        match (&source.databases, method) {
            (Databases::All, _) | (_, Method::Physical) => self.databases.clone(),
            (Databases::Url, _) => named(std::slice::from_ref(&self.database)),
            (Databases::Named(names), _) => named(names),
        }
    }

    /// Bytes of all databases, as far as they are known.
    pub(super) fn bytes(&self) -> u64 {
        self.databases.iter().filter_map(|(_, bytes)| *bytes).sum()
    }
}

/// Tables that cannot be read (the first one), and how many; and the same of those whose rows are hidden. A dump reads no materialized views
/// and no tables of extensions; the fingerprint of a physical backup does ($1).
const UNREADABLE: &str = "
    with relation as (
        select c.oid, n.oid as schema, n.nspname, c.relname, c.relrowsecurity
        from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where (c.relkind in ('r', 'p', 'S') or $1 and c.relkind = 'm') and c.relpersistence <> 't'
          and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
          and ($1 or not exists (select from pg_catalog.pg_depend d
                          where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'))
    ), denied as (
        select pg_catalog.format('%I.%I', nspname, relname) as name from relation
        where not (pg_catalog.has_schema_privilege(schema, 'USAGE') and pg_catalog.has_table_privilege(oid, 'SELECT'))
    ), hidden as (
        select pg_catalog.format('%I.%I', nspname, relname) as name from relation
        where relrowsecurity and pg_catalog.row_security_active(oid)
    )
    select (select count(*) from denied), (select min(name) from denied),
           (select count(*) from hidden), (select min(name) from hidden)";

const SERVER: &str = "
    select pg_catalog.current_setting('server_version'), pg_catalog.current_setting('server_version_num')::int4 / 10000,
           pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('wal_level'),
           pg_catalog.current_setting('data_checksums'), pg_catalog.current_setting('max_wal_senders')::int4,
           r.rolsuper or r.rolreplication, r.rolsuper, r.rolcreatedb, r.rolcreaterole
    from pg_catalog.pg_roles r where r.rolname = current_user";

const DATABASES: &str = "
    select datname, case when pg_catalog.has_database_privilege(oid, 'CONNECT')
                           or pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')
                    then pg_catalog.pg_database_size(oid) end
    from pg_catalog.pg_database where datallowconn and not datistemplate order by datname";

/// Tries a policy's source; what the server says is used by what comes after.
pub(super) async fn ask(policy: &Policy, config: &Config, tried: &mut Vec<Tried>) -> Option<Facts> {
    const AREA: &str = "source";
    let name = policy.name.as_str();
    let source = &policy.source;
    let timeout = config.limits.connect_timeout.to_std();
    let opened = Endpoint::open(&source.url, &source.password, source.tls, source.tls_ca.as_deref(), timeout);
    let (endpoint, client, server) = match connect(opened.map_err(Broke::from)).await {
        Ok(connected) => connected,
        Err(broke) => {
            tried.push(Tried::wrong(AREA, name, broke));
            tried.push(Tried::not_tried("rights", name, "the server cannot be reached"));
            return None;
        }
    };
    let (version, standby) = (version(&server), server.get::<_, bool>(2));
    let role = if standby { ", a standby" } else { "" };
    tried.push(Tried::ok(AREA, name, format!("{endpoint}: PostgreSQL {version}{role}")));
    let databases = match client.query(DATABASES, &[]).await {
        Ok(rows) => rows.iter().map(|row| (row.get(0), size(row))).collect(),
        Err(error) => {
            tried.push(Tried::wrong("rights", name, question_failed(&error)));
            Vec::new()
        }
    };
    let facts = Facts {
        major: u32::try_from(server.get::<_, i32>(1)).unwrap_or_default(),
        system_identifier: system_identifier(&client).await,
        database: endpoint.database.clone(),
        databases,
    };
    let takes = |method: Method| policy.backups.iter().any(|job| job.method == method);
    if takes(Method::Logical) {
        for (database, _) in facts.databases_of(Method::Logical, source) {
            let result = readable(&endpoint, &facts, &database, Method::Logical).await;
            tried.push(Tried::of("rights", format!("{name}: dump of {database}"), result));
        }
    }
    if takes(Method::Physical) {
        tried.push(Tried::of(
            "rights",
            format!("{name}: base backup"),
            replication(&endpoint, &server, &facts, config),
        ));
        for (database, _) in facts.databases_of(Method::Physical, source) {
            let result = readable(&endpoint, &facts, &database, Method::Physical).await;
            tried.push(Tried::of("rights", format!("{name}: content of {database}"), result));
        }
        let checksums = match server.get::<_, &str>(4) {
            "on" => Ok("data checksums are on".to_owned()),
            _ => Err(Broke::hinted(
                "data checksums are off: damage of pages on the source cannot be seen, and page_checksums proves nothing",
                "stop the server and run `pg_checksums --enable`; or drill with amcheck and content alone",
            )),
        };
        tried.push(Tried::of("source", format!("{name}: pages"), checksums));
    }
    super::log::check(policy, &client, standby, tried).await;
    Some(facts)
}

type Connected = (Endpoint, Client, Row);

async fn connect(endpoint: Result<Endpoint, Broke>) -> Result<Connected, Broke> {
    let endpoint = endpoint?;
    let client = endpoint.connect().await.map_err(Broke::from)?;
    // Only questions, none of which may hang; and nothing that the role's own settings could change.
    let settings =
        "set default_transaction_read_only = on; set statement_timeout = '30s'; set search_path = pg_catalog";
    client.batch_execute(settings).await.map_err(|error| question_failed(&error))?;
    let server = client.query_one(SERVER, &[]).await.map_err(|error| question_failed(&error))?;
    Ok((endpoint, client, server))
}

pub(super) fn question_failed(error: &tokio_postgres::Error) -> Broke {
    Broke::hinted(
        format!("the server did not answer a question about itself: {}", root_cause(error)),
        "see the server's log; the role needs no more than the right to connect for it",
    )
}

/// `15.20`, without what a packager adds to it.
fn version(server: &Row) -> String {
    let text: String = server.get(0);
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

fn size(row: &Row) -> Option<u64> {
    row.get::<_, Option<i64>>(1).and_then(|bytes| u64::try_from(bytes).ok())
}

async fn system_identifier(client: &Client) -> Option<String> {
    let row = client.query_one("select system_identifier::text from pg_catalog.pg_control_system()", &[]).await.ok()?;
    row.get(0)
}

/// Whether the role can read everything in the database: a dump must, and a physical backup's drills compare only what was read.
async fn readable(endpoint: &Endpoint, facts: &Facts, database: &str, method: Method) -> Result<String, Broke> {
    if !facts.databases.iter().any(|(name, _)| name == database) {
        let error = format!("the server has no database {database} that accepts connections");
        return Err(Broke::hinted(error, "correct `databases` or the URL of [source]"));
    }
    let (endpoint, client, _) = connect(Ok(endpoint.with_database(database))).await?;
    let all = method == Method::Physical;
    let then = if all { "drills of this backup will be unproven" } else { "the dump would fail" };
    let row = client.query_one(UNREADABLE, &[&all]).await.map_err(|error| question_failed(&error))?;
    let of = |at: usize| (row.get::<_, i64>(at), row.get::<_, Option<String>>(at + 1).unwrap_or_default());
    let ((denied, first_denied), (hidden, first_hidden)) = (of(0), of(2));
    let (user, others) =
        (&endpoint.user, |count: i64| if count > 1 { format!(" and {} more", count - 1) } else { String::new() });
    if denied > 0 {
        return Err(Broke::hinted(
            format!("role {user} may not read {first_denied}{}: {then}", others(denied)),
            format!("grant pg_read_all_data to \"{user}\""),
        ));
    }
    if hidden > 0 {
        return Err(Broke::hinted(
            format!("row-level security hides rows of {first_hidden}{} from role {user}: {then}", others(hidden)),
            format!("alter role \"{user}\" bypassrls"),
        ));
    }
    Ok(format!("role {user} may read every table and sequence"))
}

/// Whether a base backup could be taken: rights and settings, and a replication connection that is really made.
fn replication(endpoint: &Endpoint, server: &Row, facts: &Facts, config: &Config) -> Result<String, Broke> {
    let user = &endpoint.user;
    let (wal_level, senders, may): (&str, i32, bool) = (server.get(3), server.get(5), server.get(6));
    if !may {
        let error = format!("role {user} has not the REPLICATION attribute");
        return Err(Broke::hinted(error, format!("alter role \"{user}\" replication")));
    }
    if wal_level == "minimal" {
        let hint = "set wal_level = replica in postgresql.conf and restart the server";
        return Err(Broke::hinted("wal_level is minimal: no base backup can be taken", hint));
    }
    if senders < 2 {
        let error = format!("max_wal_senders is {senders}: a base backup with its WAL needs two");
        return Err(Broke::hinted(error, "set max_wal_senders = 10 in postgresql.conf and restart the server"));
    }
    let programs = Programs::for_server(&config.bin_dirs, facts.major, &["psql"]).map_err(Broke::from)?;
    let output = programs
        .client("psql", endpoint, &[])
        .args(["-X", "-A", "-t", "-w", "-d", "replication=true", "-c", "IDENTIFY_SYSTEM"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Broke::new(format!("psql could not be run: {error}")))?;
    if output.status.success() {
        return Ok(format!("role {user} may replicate; wal_level {wal_level}, {senders} WAL senders"));
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(Broke::hinted(
        format!("no replication connection: {}", why.trim().lines().last().unwrap_or("psql said nothing")),
        format!("let role {user} in for database `replication` in the server's pg_hba.conf, and reload it"),
    ))
}

/// Tries the servers on which drills make databases; one that a policy protects is wrong, whatever its name is.
pub(super) async fn scratch_servers(config: &Config, facts: &[(&Policy, Option<Facts>)], tried: &mut Vec<Tried>) {
    for (name, server) in &config.scratch.servers {
        let timeout: Duration = config.limits.connect_timeout.to_std();
        let opened = Endpoint::open(&server.url, &server.password, server.tls, server.tls_ca.as_deref(), timeout);
        let result = match connect(opened.map_err(Broke::from)).await {
            Ok((endpoint, client, row)) => usable(&endpoint, &client, &row, facts).await,
            Err(broke) => Err(broke),
        };
        tried.push(Tried::of("scratch server", name, result));
    }
}

async fn usable(
    endpoint: &Endpoint,
    client: &Client,
    row: &Row,
    facts: &[(&Policy, Option<Facts>)],
) -> Result<String, Broke> {
    let Some(identifier) = system_identifier(client).await else {
        let hint = format!("grant execute on function pg_control_system() to \"{}\"", endpoint.user);
        return Err(Broke::hinted("its system identifier cannot be asked, so it may be a source", hint));
    };
    let same =
        |facts: &Option<Facts>| facts.as_ref().and_then(|facts| facts.system_identifier.as_ref()) == Some(&identifier);
    if let Some((policy, _)) = facts.iter().find(|(_, facts)| same(facts)) {
        let error = format!("it is the server that policy {} protects (system identifier {identifier})", policy.name);
        return Err(Broke::hinted(error, "name another server: a drill must never touch a source"));
    }
    let untold = |facts: &Option<Facts>| facts.as_ref().is_none_or(|facts| facts.system_identifier.is_none());
    if let Some((policy, _)) = facts.iter().find(|(_, facts)| untold(facts)) {
        let error =
            format!("it may be the server that policy {} protects, which told no system identifier", policy.name);
        return Err(Broke::hinted(
            error,
            "mend that policy's source first; its role must be able to call pg_control_system()",
        ));
    }
    let (superuser, databases, roles): (bool, bool, bool) = (row.get(7), row.get(8), row.get(9));
    if !(superuser || databases && roles) {
        let error = format!("role {} may not create databases and roles", endpoint.user);
        return Err(Broke::hinted(error, format!("alter role \"{}\" createdb createrole", endpoint.user)));
    }
    Ok(format!("{endpoint}: PostgreSQL {}, system identifier {identifier}", version(row)))
}
