//! Takes a logical backup.

use std::process::Command;
use std::time::Instant;

use crate::backup::moved::Moved;
use crate::backup::session::{self, Listed};
use crate::backup::{Taken, Taking, producer};
use crate::domain::artifact::{Basis, RecoveryPoint, Stream, StreamKind};
use crate::domain::check::Broke;
use crate::domain::inventory::{Database, Fingerprint, Object, Snapshot, Unseen};
use crate::domain::policy::Databases;
use crate::domain::units::Span;
use crate::probe::{self, Endpoint, OpenSnapshot, RowFilter, Sample};
use crate::programs::Programs;
use crate::seal::StreamWriter;

use super::globals::{self, Globals};

/// One database, dumped and looked at under one snapshot.
struct Dumped {
    stream: Stream,
    database: Database,
    snapshot: Snapshot,
    digest_took: Span,
    words: String,
}

/// Dumps globals and databases under exported snapshots, with their fingerprint.
pub async fn take(taking: &Taking<'_>) -> Result<Taken, Broke> {
    let endpoint = &taking.endpoint;
    let progress = taking.progress;
    progress.stage("look at the source");
    let client = session::plain(endpoint).await?;
    let server = probe::server(&client).await?;
    let programs = Programs::for_server(taking.bin_dirs, server.major(), &["pg_dump", "pg_dumpall"])?;
    let (clock_skew, _) = probe::clock_skew(&client).await?;
    let tablespaces = probe::tablespaces(&client).await?;
    let listed = session::databases(&client, endpoint).await?;
    let wanted = session::wanted(&listed, &taking.databases, &endpoint.database)?;
    let unseen = match taking.databases {
        Databases::All => left_out(endpoint, &listed).await,
        Databases::Url | Databases::Named(_) => Vec::new(),
    };
    let said = |one: &Unseen| format!("database `{}` is not in the backup of all databases: {}", one.database, one.why);
    let mut warnings: Vec<String> = unseen.iter().map(said).collect();
    let mut dumped = Vec::new();
    for one in &wanted {
        progress.stage(&format!("dump {}", one.name));
        progress.expect(one.bytes.unwrap_or_default());
        let name = if wanted.len() == 1 { "base".to_owned() } else { format!("base/{}", one.oid) };
        let done = dump(taking, &programs, one, &name).await?;
        warnings.extend(done.words.lines().map(str::to_owned));
        dumped.push(done);
    }
    // Last: an object's owner that was made while databases were dumped is in it.
    progress.stage("dump globals");
    let globals = globals::globals(taking, &programs, &client).await?;
    if !globals.passwords {
        warnings.push(format!(
            "role {} may not read password hashes (pg_authid): roles come back without passwords",
            endpoint.user
        ));
    }
    for warning in &warnings {
        progress.say(warning);
    }
    let mut tools = programs.record(&["pg_dump", "pg_dumpall"]);
    if !globals.passwords {
        tools.insert("pg_dumpall".to_owned(), format!("{} --no-role-passwords", tools["pg_dumpall"]));
    }
    let recovery_point = recovery_point(dumped.iter().map(|one| &one.snapshot))?;
    let digest_took = dumped.iter().map(|one| one.digest_took).sum();
    let roles = globals.roles.clone();
    let shared = globals.shared.clone();
    let mut streams = vec![seal_globals(taking, globals).await?];
    let mut databases = Vec::new();
    for one in dumped {
        streams.push(one.stream);
        databases.push(one.database);
    }
    Ok(Taken {
        streams,
        recovery_point,
        wal: None,
        pages: None,
        fingerprint: Fingerprint {
            server,
            roles,
            tablespaces,
            databases,
            unseen,
            changed_meanwhile: Vec::new(),
            shared: Some(shared),
        },
        tools,
        clock_skew,
        warnings,
        digest_took,
    })
}

/// Databases that a backup of all databases does not hold, although somebody has put something into them: those that nobody can get into, and
/// `template1` once it is not as initdb made it.
async fn left_out(endpoint: &Endpoint, listed: &[Listed]) -> Vec<Unseen> {
    let mut all = Vec::new();
    for one in listed.iter().filter(|one| !one.connectable || session::is_builtin_template(&one.name)) {
        let why = match one.connectable {
            false => Some("it accepts no connections (datallowconn is off)".to_owned()),
            true => match is_pristine(&endpoint.with_database(&one.name)).await {
                Ok(true) => None,
                Ok(false) => Some(
                    "it holds objects of users, and a dump cannot bring a template of PostgreSQL's own back".to_owned(),
                ),
                Err(broke) => Some(format!("whether it holds objects of users could not be seen: {}", broke.error)),
            },
        };
        all.extend(why.map(|why| Unseen { database: one.name.clone(), why, meanwhile: false }));
    }
    all
}

/// Whether nothing in a database is of users. Left at once: while somebody is in a template, no database can be made from it.
async fn is_pristine(endpoint: &Endpoint) -> Result<bool, Broke> {
    let client = probe::session::read_only(endpoint).await?;
    let extensions = probe::extensions(&client).await?;
    // These two are initdb's own, and listed for every database.
    let initdb = [("schema", "public"), ("grant", "PUBLIC on database")];
    let objects = probe::objects(&client).await?;
    let own = |one: &Object| initdb.contains(&(one.kind.as_str(), one.identity.as_str()));
    let none = objects.iter().all(own) && probe::large_objects(&client).await?.count == 0;
    Ok(none && extensions.iter().all(|one| one.name == "plpgsql"))
}

/// All that was committed before the earliest snapshot is in every dump.
fn recovery_point<'a>(snapshots: impl Iterator<Item = &'a Snapshot>) -> Result<RecoveryPoint, Broke> {
    let at = snapshots.map(|snapshot| snapshot.taken_at).min().ok_or_else(|| Broke::new("no database was dumped"))?;
    Ok(RecoveryPoint { at, lsn: None, basis: Basis::SnapshotStart })
}

/// Dumps one database and digests its tables at the same time, both under the one snapshot that is open meanwhile.
async fn dump(taking: &Taking<'_>, programs: &Programs, one: &Listed, name: &str) -> Result<Dumped, Broke> {
    let endpoint = taking.endpoint.with_database(&one.name);
    let open = OpenSnapshot::open(&endpoint).await?;
    let writer = taking.sealer.stream(name, StreamKind::Dump { database: one.name.clone() });
    let command = pg_dump(programs, &endpoint, &open.exported);
    let moved = Moved::default();
    let dumping = moved.watch(taking.progress, stream_dump(command, writer, &moved));
    let looking = async {
        let began = Instant::now();
        let tables =
            probe::digest_tables(&open, &Sample::Keys(&taking.content), &RowFilter::All, taking.parallel).await?;
        let digest_took = Span::from_std(began.elapsed());
        Ok((probe::database(&open, tables).await?, digest_took))
    };
    let ((stream, words), (mut database, digest_took)) = tokio::try_join!(dumping, looking)?;
    // The dump read the sequences some time between: outside of its snapshot, as everybody does.
    probe::note_moves(&endpoint, &mut database.sequences).await?;
    Ok(Dumped { stream, database, snapshot: open.snapshot.clone(), digest_took, words })
}

/// `pg_dump` as it is run. Of the policy's own choices it has none: everything is dumped, uncompressed (zstd comes after), and
/// row security is off, so that a role that may not see all rows gets an error and not a part of them.
pub fn pg_dump(programs: &Programs, endpoint: &Endpoint, exported: &str) -> Command {
    let mut command = programs.client("pg_dump", endpoint, &[]);
    command.args(["--format=custom", "--compress=0", "--no-password"]);
    command.arg(format!("--snapshot={exported}"));
    command
}

async fn stream_dump(command: Command, writer: StreamWriter, moved: &Moved) -> Result<(Stream, String), Broke> {
    let moved = moved.clone();
    let ended = producer::run(command, writer, move |writer: &mut StreamWriter, bytes: &[u8]| {
        moved.add(bytes.len());
        writer.write(bytes).map_err(Broke::from)
    })
    .await?;
    Ok((finish(ended.state).await?, ended.words))
}

async fn seal_globals(taking: &Taking<'_>, globals: Globals) -> Result<Stream, Broke> {
    let mut writer = taking.sealer.stream("globals", StreamKind::Globals);
    let written = tokio::task::spawn_blocking(move || writer.write(&globals.sql).map(|()| writer));
    let writer = written.await.map_err(|error| Broke::new(format!("the sealing thread died: {error}")))??;
    finish(writer).await
}

async fn finish(writer: StreamWriter) -> Result<Stream, Broke> {
    let finishing = tokio::task::spawn_blocking(move || writer.finish());
    let finished = finishing.await.map_err(|error| Broke::new(format!("the sealing thread died: {error}")))?;
    finished.map_err(Broke::from)
}
