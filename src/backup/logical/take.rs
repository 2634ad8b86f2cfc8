//! Takes a logical backup.

use std::process::Command;
use std::time::Instant;

use crate::backup::moved::Moved;
use crate::backup::session::{self, Listed};
use crate::backup::{Taken, Taking, producer};
use crate::domain::artifact::{Basis, RecoveryPoint, Stream, StreamKind};
use crate::domain::check::Broke;
use crate::domain::inventory::{Database, Fingerprint, Snapshot};
use crate::domain::units::Span;
use crate::probe::{self, Endpoint, OpenSnapshot, RowFilter};
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
    let wanted = session::wanted(&session::databases(&client, endpoint).await?, &taking.databases, &endpoint.database)?;
    let mut warnings = Vec::new();
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
            unseen: Vec::new(),
            changed_meanwhile: Vec::new(),
        },
        tools,
        clock_skew,
        warnings,
        digest_took,
    })
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
        let tables = probe::digest_tables(&open, &taking.content, &RowFilter::All, taking.parallel).await?;
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
