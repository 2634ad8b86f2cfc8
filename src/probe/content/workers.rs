//! Several connections under one snapshot, and one queue of work: the largest tables first, cut into ranges.

use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_postgres::{Client, CopyOutStream};

use super::hashing::{Hashing, Sums};
use super::query;
use super::{Digested, RowFilter, Sample, Target, Writes};
use crate::domain::inventory::{Table, UNREADABLE};
use crate::domain::observed::Observed;
use crate::probe::error::Fault;
use crate::probe::session::{read_only, run};
use crate::probe::{OpenSnapshot, ProbeError};

/// Blocks of one piece of work: 128 MiB of 8 KiB pages, some seconds of hashing.
const RANGE_BLOCKS: u64 = 16_384;
/// Rows go to the hashing thread in batches: of this size, unless one row is larger, and of this many rows.
const BATCH_BYTES: usize = 128 << 10;
const BATCH_ROWS: usize = 1024;
/// So much may wait to be hashed on each connection, in KiB. A row that is larger waits alone.
const WAITING_KIB: u32 = 1024;

struct Piece<'a> {
    target: &'a Target,
    percent: u8,
    range: Option<(u64, Option<u64>)>,
}

/// What is known so far, by table.
#[derive(Default)]
struct Found {
    sums: BTreeMap<u32, Sums>,
    unknown: BTreeMap<u32, String>,
}

pub(super) async fn digest(
    snapshot: &OpenSnapshot,
    targets: Vec<Target>,
    sample: &Sample<'_>,
    filter: &RowFilter,
    parallel: usize,
) -> Result<Vec<Digested>, ProbeError> {
    let pieces: VecDeque<Piece<'_>> = targets.iter().flat_map(|target| cut(target, sample, parallel)).collect();
    let workers = parallel.min(pieces.len());
    let (queue, found) = (Mutex::new(pieces), Mutex::new(Found::default()));
    let working = (0..workers).map(|_| work(snapshot, filter, &queue, &found));
    futures_util::future::try_join_all(working).await?;
    let mut found = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut tables = Vec::with_capacity(targets.len());
    for target in &targets {
        let sums = found.sums.remove(&target.oid).unwrap_or_default();
        let content = match (target.known(sample), found.unknown.remove(&target.oid)) {
            (Some(known), _) => known,
            (None, Some(why)) => Observed::Unknown(why),
            (None, None) => Observed::Known(sums.content(target.percent(sample))),
        };
        let writes = Writes { meanwhile: sums.meanwhile, own: sums.own, remade: target.remade };
        let table = Table { name: target.name.clone(), content, bytes: target.bytes };
        tables.push(Digested { table, writes });
    }
    tables.sort_by(|a, b| a.table.name.cmp(&b.table.name));
    Ok(tables)
}

fn cut<'a>(target: &'a Target, sample: &Sample<'_>, parallel: usize) -> Vec<Piece<'a>> {
    if target.known(sample).is_some() {
        return Vec::new();
    }
    let percent = target.percent(sample);
    let count = if target.ranges && parallel > 1 { target.blocks.div_ceil(RANGE_BLOCKS) } else { 1 };
    if count <= 1 {
        return vec![Piece { target, percent, range: None }];
    }
    // The last range is open: a table may have grown since its size was asked.
    (0..count)
        .map(|at| {
            let to = (at + 1 < count).then(|| (at + 1) * RANGE_BLOCKS);
            Piece { target, percent, range: Some((at * RANGE_BLOCKS, to)) }
        })
        .collect()
}

async fn work(
    snapshot: &OpenSnapshot,
    filter: &RowFilter,
    queue: &Mutex<VecDeque<Piece<'_>>>,
    found: &Mutex<Found>,
) -> Result<(), ProbeError> {
    let client = read_only(&snapshot.endpoint).await?;
    loop {
        // Not `while let`: the lock must not be held while the server works.
        let next = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front();
        let Some(piece) = next else { return Ok(()) };
        let answer = one(&client, snapshot, &piece, filter).await;
        let mut found = found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match answer {
            Ok(sums) => found.sums.entry(piece.target.oid).or_default().add(&sums),
            Err(error) => match error.fault() {
                Fault::Damaged => drop(found.unknown.insert(piece.target.oid, format!("{UNREADABLE}{error}"))),
                Fault::Denied => drop(found.unknown.insert(piece.target.oid, error.to_string())),
                Fault::TooLong | Fault::Other => return Err(error),
            },
        }
    }
}

/// Each piece has a transaction of its own under the common snapshot: thousands of tables in one would fill the server's lock table.
async fn one(
    client: &Client,
    snapshot: &OpenSnapshot,
    piece: &Piece<'_>,
    filter: &RowFilter,
) -> Result<Sums, ProbeError> {
    let doing = format!("digesting {}", piece.target.name);
    let begin = format!(
        "begin transaction isolation level repeatable read, read only; set transaction snapshot '{}'",
        snapshot.exported.replace('\'', "''")
    );
    run(client, &doing, &begin).await?;
    let answer = rows(client, &doing, piece, filter).await;
    run(client, &doing, "rollback").await?;
    answer
}

/// Reads the rows of a piece in the transaction that is open, and hashes them on a thread of their own.
async fn rows(client: &Client, doing: &str, piece: &Piece<'_>, filter: &RowFilter) -> Result<Sums, ProbeError> {
    let failed = |error: tokio_postgres::Error| ProbeError::sql(doing, &error);
    let sql = query::copy(piece.target, piece.percent, filter, piece.range);
    let copy = client.prepare(&sql).await.map_err(failed)?;
    // Names were understood as this connection writes them, in UTF-8. Rows are to come as the database has them: SQL_ASCII stands for
    // no conversion, and only until the transaction is over.
    run(client, doing, "set local client_encoding = 'SQL_ASCII'").await?;
    let stream = client.copy_out(&copy).await.map_err(failed)?;
    // No table has more than 1,600 columns.
    let fields = u16::try_from(piece.target.columns.len()).unwrap_or(u16::MAX).saturating_add(1);
    let (send, mut receive) = mpsc::unbounded_channel::<(Vec<Bytes>, OwnedSemaphorePermit)>();
    let hashing = tokio::task::spawn_blocking(move || {
        let mut hashing = Hashing::new(fields);
        while let Some((batch, _waiting)) = receive.blocking_recv() {
            batch.iter().try_for_each(|chunk| hashing.feed(chunk))?;
        }
        hashing.finish()
    });
    let sent = batches(stream, &send).await;
    drop(send);
    let sums = hashing.await;
    // What the server said comes first: a stream that it broke off is not whole either.
    sent.map_err(failed)?;
    sums.map_err(|error| ProbeError::Answer { doing: doing.to_owned(), why: format!("hashing stopped: {error}") })?
}

/// Ends early, and well, when nobody takes them any more: then the thread has an error to tell.
async fn batches(
    stream: CopyOutStream,
    send: &mpsc::UnboundedSender<(Vec<Bytes>, OwnedSemaphorePermit)>,
) -> Result<(), tokio_postgres::Error> {
    let waiting = Arc::new(Semaphore::new(WAITING_KIB as usize));
    let mut stream = pin!(stream);
    let mut more = true;
    while more {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES && batch.len() < BATCH_ROWS {
            let Some(chunk) = stream.next().await.transpose()? else {
                more = false;
                break;
            };
            bytes += chunk.len();
            batch.push(chunk);
        }
        let share = u32::try_from(bytes >> 10).unwrap_or(u32::MAX).clamp(1, WAITING_KIB);
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&waiting).acquire_many_owned(share).await else { return Ok(()) };
        if send.send((batch, permit)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
