//! Puts a logical backup back.
//!
//! A dump can run code: constraint and index functions, triggers, event triggers. So in a scratch that is all ours it is
//! restored in this order, and by these:
//!
//! 1. globals, statement by statement, by the superuser;
//! 2. definitions and rows, by a role that owns the new database and has no other right; only what no such role can make
//!    (extensions, foreign servers, functions in C, …) by the superuser, and listed;
//! 3. owners and grants, by the superuser, who runs nothing else of the dump's text;
//! 4. materialized views, whose queries then run as their owners; event triggers and the database's own settings last.

mod globals;
mod one;
mod plainly;
mod programs;
mod roles;
pub mod statements;
pub mod toc;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio_postgres::Client;

use self::one::OneDatabase;
use self::programs::{Runner, WorkFile};
use crate::domain::artifact::{Manifest, Stream, StreamKind};
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::transcript::RestoreFacts;
use crate::probe::Endpoint;
use crate::probe::endpoint::root_cause;
use crate::programs::Programs;
use crate::progress::Progress;
use crate::seal::{self, Opener};
use crate::store::Store;

/// The role that restores: made for it, and dropped at the end.
const RESTORER: &str = "lifeboat_restorer";
/// A script of roles that is larger than this is no script of roles.
const GLOBALS_BYTES: usize = 256 << 20;
const TOLD_AT_MOST: usize = 100;

/// What is put back, and where.
pub struct PutBack<'a> {
    /// Where the artifact is.
    pub store: Arc<dyn Store>,
    /// What it is.
    pub manifest: &'a Manifest,
    /// What opens it.
    pub opener: &'a Opener,
    /// The server, as a role that may create databases and roles. Its database is ignored.
    pub server: Endpoint,
    /// Whether globals are restored too, and the dump as a role that is not superuser (a scratch cluster that is all ours).
    pub whole_server: bool,
    /// On a server that is not all ours: whether roles that it lacks are made first, and owners and grants kept.
    pub with_roles: bool,
    /// Names of the databases to make, by the name they had: empty means the same names.
    pub rename: Vec<(String, String)>,
    /// A private folder for dumps while they are restored; must have room for the largest database.
    pub work_dir: PathBuf,
    /// Programs of the server's major version.
    pub programs: &'a Programs,
    /// Arguments put before a client program so that it runs in the sandbox too; empty: as it is.
    pub wrap: Vec<std::ffi::OsString>,
    /// Parallel jobs.
    pub parallel: usize,
    /// Who listens.
    pub progress: &'a dyn Progress,
}

/// Restores globals and databases.
pub async fn put_back(what: &PutBack<'_>) -> Result<RestoreFacts, Stop> {
    let mut facts = RestoreFacts::default();
    let admin = administrate(&what.server).await?;
    let client = admin.connect().await.map_err(Broke::from)?;
    let major = column(&client, "select current_setting('server_version_num')").await?;
    let major = major.first().and_then(|text| text.parse::<u32>().ok()).unwrap_or_default() / 10_000;
    let mut no_tablespaces = !what.whole_server;
    if what.whole_server {
        let script = fetch_globals(what, &mut facts).await?;
        let done = globals::run(&client, &script, &what.server.user, major).await?;
        no_tablespaces = done.no_tablespaces;
        facts.warnings.extend(done.notes);
    } else if !what.with_roles {
        facts.warnings.push(
            "roles, owners and grants are not part of this restore: everything belongs to the role that restored it"
                .to_owned(),
        );
    }
    let roles = match what.with_roles && !what.whole_server {
        true => Some(roles::Roles::read(&client, &fetch_globals(what, &mut facts).await?).await?),
        false => None,
    };
    let older_server = programs::newer_setting(what.programs.major_of("pg_restore"), major);
    if older_server {
        facts.warnings.push(format!(
            "pg_restore {} is newer than the server ({major}): it restores one entry after the other",
            what.programs.major_of("pg_restore")
        ));
    }
    let restorer = match what.whole_server {
        true => Some(make_restorer(&client).await?),
        false => None,
    };
    for stream in &what.manifest.streams {
        let StreamKind::Dump { database } = &stream.kind else { continue };
        what.progress.stage(&format!("restore {database}"));
        let dump = fetch_dump(what, stream, &mut facts).await?;
        let runner = Runner {
            programs: what.programs,
            wrap: &what.wrap,
            work_dir: &what.work_dir,
            dump: &dump.path,
            jobs: what.parallel.max(1),
            no_tablespaces,
            older_server,
            no_locale_provider: major < 15,
        };
        let name = what.rename.iter().find(|(old, _)| old == database).map_or(database, |(_, new)| new);
        let one = OneDatabase { runner, admin: &admin, client: &client, name, original: database };
        match &restorer {
            Some(restorer) => {
                let_into_tablespaces(&client, restorer).await?;
                one.restore_apart(restorer, &mut facts).await?;
            }
            None => {
                let known = what.manifest.fingerprint.databases.iter().find(|known| known.name == *database);
                let owner = known.map(|known| known.owner.as_str()).filter(|_| what.with_roles);
                one.restore_plainly(roles.as_ref(), owner, &mut facts).await?;
            }
        }
    }
    if let Some(restorer) = restorer {
        run(&client, &format!("drop role {}", quoted(&restorer))).await?;
    }
    Ok(facts)
}

/// The server, in a database that is not one of those to be made.
async fn administrate(server: &Endpoint) -> Result<Endpoint, Broke> {
    let mut last = None;
    for database in ["template1", "postgres", server.database.as_str()] {
        let there = server.with_database(database);
        match there.connect().await {
            Ok(_) => return Ok(there),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| Broke::new("there is no database to connect to"), Broke::from))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn refused(doing: &str, error: &tokio_postgres::Error) -> Broke {
    globals::gone(error).unwrap_or_else(|| {
        let why = root_cause(error);
        let hint = programs::environment(&why).unwrap_or("see what rights the role has there");
        Broke::hinted(format!("the server refused to {doing}: {why}"), hint)
    })
}

async fn run(client: &Client, sql: &str) -> Result<(), Broke> {
    client.simple_query(sql).await.map(drop).map_err(|error| refused(sql, &error))
}

async fn column(client: &Client, sql: &str) -> Result<Vec<String>, Broke> {
    let rows = client.simple_query(sql).await.map_err(|error| refused("answer", &error))?;
    let texts = rows.iter().filter_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
        _ => None,
    });
    Ok(texts.collect())
}

/// A role that may log in by the socket and has no other right. A source that has one of that name keeps it.
async fn make_restorer(client: &Client) -> Result<String, Broke> {
    let taken = column(client, "select rolname from pg_roles").await?;
    let mut names = (1..).map(|n| if n == 1 { RESTORER.to_owned() } else { format!("{RESTORER}_{n}") });
    let name = names.find(|name| !taken.contains(name)).unwrap_or_else(|| RESTORER.to_owned());
    let sql =
        format!("create role {} login nosuperuser nocreatedb nocreaterole noreplication nobypassrls", quoted(&name));
    run(client, &sql).await?;
    Ok(name)
}

/// Tables and indexes may lie there. The grants go with the role's other rights whenever one database is done.
async fn let_into_tablespaces(client: &Client, restorer: &str) -> Result<(), Broke> {
    let spaces = "select spcname from pg_tablespace where spcname not in ('pg_default', 'pg_global')";
    for space in column(client, spaces).await? {
        run(client, &format!("grant create on tablespace {} to {}", quoted(&space), quoted(restorer))).await?;
    }
    Ok(())
}

async fn fetch_globals(what: &PutBack<'_>, facts: &mut RestoreFacts) -> Result<String, Stop> {
    let Some(stream) = what.manifest.streams.iter().find(|stream| stream.kind == StreamKind::Globals) else {
        return Err(Finding::new("globals_missing", "globals.sql", "the backup holds no roles and settings").into());
    };
    let script = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&script);
    fetch(what, stream, facts, move |bytes| {
        let mut script = into.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if script.len() + bytes.len() > GLOBALS_BYTES {
            return Err(Broke::new("globals.sql is larger than roles and settings can be"));
        }
        script.extend_from_slice(&bytes);
        Ok(())
    })
    .await?;
    let script = std::mem::take(&mut *script.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    let damaged = |_| Finding::new("globals_damaged", "globals.sql", "it is not UTF-8 text").into();
    String::from_utf8(script).map_err(damaged)
}

async fn fetch_dump(what: &PutBack<'_>, stream: &Stream, facts: &mut RestoreFacts) -> Result<WorkFile, Stop> {
    let dump = WorkFile::make(&what.work_dir, &format!("dump-{}", uuid::Uuid::now_v7()))?;
    let mut file = dump.file.try_clone().map_err(|error| Broke::new(error.to_string()))?;
    let path = dump.path.clone();
    fetch(what, stream, facts, move |bytes| {
        file.write_all(&bytes).map_err(|error| {
            let hint = "make room: the largest database must fit there while it is restored";
            Broke::hinted(format!("could not write {}: {error}", path.display()), hint)
        })
    })
    .await?;
    Ok(dump)
}

async fn fetch<F>(what: &PutBack<'_>, stream: &Stream, facts: &mut RestoreFacts, use_bytes: F) -> Result<(), Stop>
where
    F: FnMut(Vec<u8>) -> Result<(), Broke> + Send + 'static,
{
    let prefix = format!("{}/{}", what.manifest.policy, what.manifest.backup);
    let store = Arc::clone(&what.store);
    let (parts, plain, sealed) =
        seal::read_stream(store, &prefix, stream, what.opener, what.parallel.max(1), use_bytes).await?;
    facts.parts += parts;
    facts.plain_bytes += plain;
    facts.sealed_bytes += sealed;
    what.progress.moved(plain);
    Ok(())
}

/// A database that is there may be restored into only if nobody has put anything into it.
async fn refuse_unless_empty(here: &Endpoint) -> Result<(), Broke> {
    match taken(&here.connect().await?, &here.database).await? {
        None => Ok(()),
        Some(broke) => Err(broke),
    }
}

/// Why a database cannot be restored into, if somebody has put anything into it.
pub async fn taken(client: &Client, database: &str) -> Result<Option<Broke>, Broke> {
    let count = column(
        client,
        "select (select count(*) from pg_class c join pg_namespace n on n.oid = relnamespace \
                 where nspname !~ '^pg_' and nspname <> 'information_schema') \
              + (select count(*) from pg_proc p join pg_namespace n on n.oid = pronamespace \
                 where nspname !~ '^pg_' and nspname <> 'information_schema') \
              + (select count(*) from pg_namespace where nspname !~ '^pg_' and nspname not in ('information_schema', 'public')) \
              + (select count(*) from pg_largeobject_metadata) \
              + (select count(*) from pg_extension where extname <> 'plpgsql')",
    )
    .await?;
    if count.first().map(String::as_str) == Some("0") {
        return Ok(None);
    }
    Ok(Some(Broke::hinted(
        format!("database {database} is not empty, and nothing is ever replaced"),
        "name a database that does not exist yet: it is made",
    )))
}
