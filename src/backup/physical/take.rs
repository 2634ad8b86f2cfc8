//! Takes a physical backup.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use crate::backup::moved::Moved;
use crate::backup::session;
use crate::backup::{Taken, Taking, producer};
use crate::domain::artifact::{PageTally, Stream, StreamKind, WalRange};
use crate::domain::check::Broke;
use crate::domain::inventory::Fingerprint;
use crate::probe::{self, Endpoint};
use crate::programs::Programs;
use crate::seal::StreamWriter;

use super::base::Piece;
use super::local::{self, Ground};
use super::pages::{Again, PageWatch};
use super::prints::Prints;
use super::pump::{Pump, Pumped, TarSink};
use super::sampler::Sampler;
use super::{label, source};
use crate::backup::wire::Wire;

/// Pieces of a base backup that wait for the pump: a few megabytes.
const PIECES_AHEAD: usize = 32;
/// A manifest has about 150 bytes for each file; one of this length would be of two million files.
const MANIFEST_AT_MOST: usize = 320 << 20;

/// Takes a base backup with its WAL, from the data folder or as a stream, verifying page checksums as the bytes pass.
pub async fn take(taking: &Taking<'_>) -> Result<Taken, Broke> {
    let endpoint = &taking.endpoint;
    let progress = taking.progress;
    progress.stage("look at the source");
    let client = session::plain(endpoint).await?;
    let server = probe::server(&client).await?;
    source::refuse_early(&client, endpoint, &server).await?;
    let (clock_skew, _) = probe::clock_skew(&client).await?;
    let roles = probe::roles(&client).await?;
    let tablespaces = probe::tablespaces(&client).await?;
    let shared = probe::shared_objects(&client).await?;
    let listed = session::databases(&client, endpoint).await?;
    let mut warnings = Vec::new();
    if !server.data_checksums {
        warnings.push("the source keeps no page checksums: damaged pages cannot be seen".to_owned());
    }
    // The log is held before anything is begun; the snapshots are older than the backup, the first sample too.
    let tag = format!("{:016x}", fresh_number()?);
    let (holding, why_not) = source::hold_log(endpoint, &tag).await?;
    let held = why_not.is_none().then_some(tag.as_str());
    let by = local::choose(taking.read, (&client, endpoint), &server, &tablespaces, held).await?;
    let programs = match by {
        // pg_basebackup cannot put tablespaces into one stream.
        Err(_) if tablespaces.is_empty() => {
            Some(Programs::for_server(taking.bin_dirs, server.major(), &["pg_basebackup"])?)
        }
        _ => None,
    };
    if let Some(why) = why_not {
        warnings.push(format!("the source's log is not held during the backup, which fails if it is recycled: {why}"));
    }
    let mut prints = Prints::open(taking, &listed).await;
    let sampler = Sampler::start(endpoint).await?;

    progress.stage("base backup");
    progress.expect(listed.iter().filter_map(|one| one.bytes).sum());
    let writer = taking.sealer.stream("base", StreamKind::Tar);
    let label = format!("lifeboat {tag}");
    let (checksums, moved) = (server.data_checksums, Moved::default());
    let reading = moved.watch(progress, async {
        match &by {
            Ok(ground) => local::read(Arc::clone(ground), endpoint, &label, writer, checksums, &moved).await,
            Err(_) => {
                let pump = Pump::new(writer, checksums);
                stream_base(endpoint, server.major(), programs.as_ref(), &label, pump, &moved).await
            }
        }
    });
    let (pumped, ()) = tokio::try_join!(reading, async {
        prints.look_at_all(taking).await;
        Ok(())
    })?;

    for database in &mut prints.databases {
        // A database that went away meanwhile keeps what was seen of it: its sequences are then only compared with that.
        if let Err(error) = probe::note_moves(&endpoint.with_database(&database.name), &mut database.sequences).await {
            warnings.push(format!("the sequences of {} were not looked at again: {error}", database.name));
        }
    }
    let changed_meanwhile = prints.look_again(endpoint, &client, &listed, (&roles, &tablespaces, &shared)).await;
    let wal = wal_of(&pumped)?;
    if !pumped.left_out.is_empty() {
        let paths = pumped.left_out.join(", ");
        warnings.push(format!("left out, as pg_basebackup does, for they are neither files nor folders: {paths}"));
    }
    let pages = settle(&client, by.as_ref().ok(), pumped.pages, &wal).await;
    let recovery_point = sampler.recovery_point(wal.end);
    drop((sampler, holding));
    progress.stage("seal the rest");
    let stream = finish(pumped.sink).await?;
    warnings.append(&mut prints.warnings);
    for warning in &warnings {
        progress.say(warning);
    }
    if pages.bad_count > 0 {
        progress.say(&format!(
            "DAMAGE IN THE SOURCE: {} pages have wrong checksums, the first: {}. The backup is kept, but it holds the damage",
            pages.bad_count,
            pages.bad.first().map_or("(not named)", String::as_str)
        ));
    }
    Ok(Taken {
        streams: vec![stream],
        recovery_point,
        wal: Some(wal),
        pages: Some(pages),
        fingerprint: Fingerprint {
            server,
            roles,
            tablespaces,
            databases: prints.databases,
            unseen: prints.unseen,
            changed_meanwhile,
            shared: Some(shared),
        },
        tools: tools(by.as_ref().err(), programs.as_ref()),
        clock_skew,
        warnings,
        digest_took: prints.took,
    })
}

/// The base backup through the pump: by `pg_basebackup`, or, for the tablespaces that it cannot put into one stream, by the
/// replication protocol.
pub async fn stream_base<S: TarSink + 'static>(
    endpoint: &Endpoint,
    major: u32,
    programs: Option<&Programs>,
    label: &str,
    pump: Pump<S>,
    moved: &Moved,
) -> Result<Pumped<S>, Broke> {
    match programs {
        Some(programs) => by_program(pg_basebackup(programs, endpoint, label), pump, moved).await,
        None => by_wire(endpoint, major, label, pump, moved).await,
    }
}

/// `pg_basebackup` as it is run: one tar to standard output, with its log and its manifest.
pub fn pg_basebackup(programs: &Programs, endpoint: &Endpoint, label: &str) -> Command {
    let mut command = programs.client("pg_basebackup", endpoint, &[]);
    command.args([
        "--pgdata=-",
        "--format=tar",
        "--wal-method=fetch",
        "--checkpoint=fast",
        // Ours are stronger (BLAKE3 and SHA-256 of every part); these serve pg_verifybackup.
        "--manifest-checksums=CRC32C",
        // Verified here, where a wrong one is named and does not cost the backup.
        "--no-verify-checksums",
        "--no-password",
    ]);
    command.arg(format!("--label={label}"));
    command
}

/// Runs the program, and pumps what it gives out.
pub async fn by_program<S: TarSink + 'static>(
    command: Command,
    mut pump: Pump<S>,
    moved: &Moved,
) -> Result<Pumped<S>, Broke> {
    pump.archive(None)?;
    let moved = moved.clone();
    let ended = producer::run(command, pump, move |pump, bytes| {
        moved.add(bytes.len());
        pump.feed(bytes)
    })
    .await?;
    finish_pump(ended.state).await
}

async fn by_wire<S: TarSink + 'static>(
    endpoint: &Endpoint,
    major: u32,
    label: &str,
    mut pump: Pump<S>,
    moved: &Moved,
) -> Result<Pumped<S>, Broke> {
    let wire = Wire::connect(endpoint).await?;
    let (sender, mut pieces) = tokio::sync::mpsc::channel::<Piece>(PIECES_AHEAD);
    let counted = moved.clone();
    // The pump blocks while parts in flight are busy, so it has a thread of its own. When the pieces end early, what was
    // pumped is dropped and never finished: `whole` comes only after the server has said that the backup is complete.
    let pumping = tokio::task::spawn_blocking(move || {
        let mut manifest = Vec::new();
        while let Some(piece) = pieces.blocking_recv() {
            match piece {
                Piece::Archive(tablespace) => pump.archive(tablespace)?,
                Piece::Data(bytes) => {
                    counted.add(bytes.len());
                    pump.feed(&bytes)?;
                }
                Piece::Manifest(bytes) if manifest.len() + bytes.len() > MANIFEST_AT_MOST => {
                    return Err(Broke::hinted("the backup manifest is too long", "use a logical backup"));
                }
                Piece::Manifest(bytes) => manifest.extend_from_slice(&bytes),
            }
        }
        Ok((pump, manifest))
    });
    let whole = wire
        .base_backup(label, major, async |piece| {
            // The pump went away: why, it says itself.
            sender.send(piece).await.map_err(|_| Broke::new("the base backup was cut short"))
        })
        .await;
    drop(sender);
    let pumped = pumping.await.map_err(|error| Broke::new(format!("the thread that joins archives died: {error}")))?;
    // What the pump found comes first: it is the cause when both have something to say.
    let (mut pump, manifest) = pumped?;
    whole?;
    tokio::task::spawn_blocking(move || {
        pump.append_manifest(&manifest)?;
        pump.finish()
    })
    .await
    .map_err(|error| Broke::new(format!("the thread that joins archives died: {error}")))?
}

async fn finish_pump<S: TarSink + 'static>(pump: Pump<S>) -> Result<Pumped<S>, Broke> {
    let finishing = tokio::task::spawn_blocking(move || pump.finish());
    finishing.await.map_err(|error| Broke::new(format!("the thread that joins archives died: {error}")))?
}

async fn finish(writer: StreamWriter) -> Result<Stream, Broke> {
    let finishing = tokio::task::spawn_blocking(move || writer.finish());
    let finished = finishing.await.map_err(|error| Broke::new(format!("the sealing thread died: {error}")))?;
    finished.map_err(Broke::from)
}

/// The log that the backup needs. It must begin where `backup_label` says: two documents of one backup agree.
pub fn wal_of<S>(pumped: &Pumped<S>) -> Result<WalRange, Broke> {
    let wal = label::wal_of(&pumped.manifest_tail)?;
    let start = label::start_of(&pumped.label)?;
    if start != wal.start {
        return Err(Broke::hinted(
            format!("the base backup contradicts itself: it begins at {start} or at {}", wal.start),
            "take it again; two backups may have been mixed up on the way",
        ));
    }
    Ok(wal)
}

async fn settle(
    client: &tokio_postgres::Client,
    ground: Option<&Arc<Ground>>,
    pages: Option<PageWatch>,
    wal: &WalRange,
) -> PageTally {
    let Some(pages) = pages else { return PageTally::default() };
    let again: Vec<Again> = match ground {
        Some(ground) => {
            let (ground, suspects) = (Arc::clone(ground), pages.suspects().to_vec());
            let reading = tokio::task::spawn_blocking(move || ground.read_again(&suspects));
            // What was not read again is judged by what it was.
            reading.await.unwrap_or_default()
        }
        None => source::read_again(client, pages.suspects()).await,
    };
    pages.settle(wal.start, wal.end, &again)
}

/// What read the files: in every manifest it is seen which way they came, and why they came over the network.
fn tools(why_streamed: Option<&String>, programs: Option<&Programs>) -> BTreeMap<String, String> {
    let mut tools = match (why_streamed, programs) {
        (None, _) => [("files_read_by".to_owned(), "lifeboat, from the data folder".to_owned())].into(),
        (Some(_), Some(programs)) => programs.record(&["pg_basebackup"]),
        (Some(_), None) => [("base_backup".to_owned(), "lifeboat's own replication client".to_owned())].into(),
    };
    if let Some(why) = why_streamed {
        tools.insert("files_read_by".to_owned(), format!("the replication protocol: {why}"));
    }
    tools
}

fn fresh_number() -> Result<u64, Broke> {
    getrandom::u64().map_err(|error| Broke::new(format!("the system gives no random numbers: {error}")))
}
