//! Several connections under one snapshot, and one queue of work: the largest tables first, cut into ranges.

use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use tokio::sync::oneshot;
use tokio_postgres::Client;

use super::hashing::{Hashing, Sums};
use super::pages::{self, Range};
use super::query;
use super::{Choice, Digested, RowFilter, Sample, Target, Writes};
use crate::domain::inventory::{Table, UNREADABLE};
use crate::domain::observed::Observed;
use crate::probe::endpoint::Endpoint;
use crate::probe::error::Fault;
use crate::probe::session::{cell, read_only, rows, run};
use crate::probe::{OpenSnapshot, ProbeError};

/// Blocks of one piece of work: 128 MiB of 8 KiB pages, some seconds of hashing.
const RANGE_BLOCKS: u64 = 16_384;

struct Piece {
    /// Its table's place in the list.
    target: usize,
    deed: Deed,
}

#[derive(Clone, Copy)]
enum Deed {
    /// To hash so many of a hundred rows, chosen by their keys, and to count them all.
    Hash(u8, Option<Range>),
    /// Only to count.
    Count(Range),
}

/// What the workers share.
struct Work {
    endpoint: Endpoint,
    exported: String,
    filter: RowFilter,
    targets: Vec<Target>,
    queue: Mutex<VecDeque<Piece>>,
    found: Mutex<Found>,
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
    let pieces: VecDeque<Piece> =
        targets.iter().enumerate().flat_map(|(at, target)| cut(at, target, sample, parallel)).collect();
    let workers = parallel.min(pieces.len());
    let work = Arc::new(Work {
        endpoint: snapshot.endpoint.clone(),
        exported: snapshot.exported.clone(),
        filter: filter.clone(),
        targets,
        queue: Mutex::new(pieces),
        found: Mutex::default(),
    });
    futures_util::future::try_join_all((0..workers).map(|_| on_own_thread(Arc::clone(&work)))).await?;
    let mut found = std::mem::take(&mut *work.found.lock().unwrap_or_else(PoisonError::into_inner));
    let targets = &work.targets;
    let mut tables = Vec::with_capacity(targets.len());
    for target in targets {
        let sums = found.sums.remove(&target.oid).unwrap_or_default();
        let content = match (target.known(sample), found.unknown.remove(&target.oid)) {
            (Some(known), _) => known,
            (None, Some(why)) => Observed::Unknown(why),
            (None, None) => Observed::Known(sums.content(target.choice(sample))),
        };
        let writes = Writes { meanwhile: sums.meanwhile, own: sums.own, remade: target.remade };
        let table = Table { name: target.name.clone(), content, bytes: target.bytes };
        tables.push(Digested { table, writes });
    }
    tables.sort_by(|a, b| a.table.name.cmp(&b.table.name));
    Ok(tables)
}

fn cut(at: usize, target: &Target, sample: &Sample<'_>, parallel: usize) -> Vec<Piece> {
    if target.known(sample).is_some() {
        return Vec::new();
    }
    let Choice { percent, pages } = target.choice(sample);
    if let Some(pages) = pages {
        let deed = |(hashed, range)| if hashed { Deed::Hash(100, Some(range)) } else { Deed::Count(range) };
        return pages::cut(pages, percent).into_iter().map(|one| Piece { target: at, deed: deed(one) }).collect();
    }
    let count = if target.ranges && parallel > 1 { target.blocks.div_ceil(RANGE_BLOCKS) } else { 1 };
    if count <= 1 {
        return vec![Piece { target: at, deed: Deed::Hash(percent, None) }];
    }
    // The last range is open: a table may have grown since its size was asked.
    (0..count)
        .map(|range| {
            let to = (range + 1 < count).then(|| (range + 1) * RANGE_BLOCKS);
            Piece { target: at, deed: Deed::Hash(percent, Some((range * RANGE_BLOCKS, to))) }
        })
        .collect()
}

/// A worker is one thread that reads its connection and hashes what comes, with nobody to wait for and nobody to wake: rows come in
/// messages of 8 KiB, and handing each from thread to thread costs as much as hashing it. What the server sends meanwhile waits in the socket.
async fn on_own_thread(work: Arc<Work>) -> Result<(), ProbeError> {
    let stopped = |why: String| ProbeError::Answer { doing: "reading rows".to_owned(), why };
    // Whoever stops waiting for this drops it, and the thread ends with its connection.
    let (_waiting, abandoned) = oneshot::channel::<()>();
    let thread = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| stopped(format!("no runtime could be made: {error}")))?;
        runtime.block_on(async {
            tokio::select! {
                ended = work.run() => ended,
                _ = abandoned => Err(stopped("nobody waits for it any more".to_owned())),
            }
        })
    });
    thread.await.map_err(|error| stopped(format!("hashing stopped: {error}")))?
}

impl Work {
    async fn run(&self) -> Result<(), ProbeError> {
        let client = read_only(&self.endpoint).await?;
        loop {
            // Not `while let`: the lock must not be held while the server works.
            let next = self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(piece) = next else { return Ok(()) };
            let target = &self.targets[piece.target];
            let answer = self.one(&client, target, piece.deed).await;
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            match answer {
                Ok(sums) => found.sums.entry(target.oid).or_default().add(&sums),
                Err(error) => match error.fault() {
                    Fault::Damaged => drop(found.unknown.insert(target.oid, format!("{UNREADABLE}{error}"))),
                    Fault::Denied => drop(found.unknown.insert(target.oid, error.to_string())),
                    Fault::TooLong | Fault::Other => return Err(error),
                },
            }
        }
    }

    /// Each piece has a transaction of its own under the common snapshot: thousands of tables in one would fill the server's lock table.
    async fn one(&self, client: &Client, target: &Target, deed: Deed) -> Result<Sums, ProbeError> {
        let doing = format!("digesting {}", target.name);
        let begin = format!(
            "begin transaction isolation level repeatable read, read only; set transaction snapshot '{}'",
            self.exported.replace('\'', "''")
        );
        run(client, &doing, &begin).await?;
        let answer = match deed {
            Deed::Hash(percent, range) => {
                self.hashed(client, &doing, target, &query::copy(target, percent, &self.filter, range)).await
            }
            Deed::Count(range) => counted(client, &doing, &query::count(target, &self.filter, range)).await,
        };
        run(client, &doing, "rollback").await?;
        answer
    }

    /// Reads the rows that a `COPY` sends in the transaction that is open, and hashes them.
    async fn hashed(&self, client: &Client, doing: &str, target: &Target, sql: &str) -> Result<Sums, ProbeError> {
        let failed = |error: tokio_postgres::Error| ProbeError::sql(doing, &error);
        let copy = client.prepare(sql).await.map_err(failed)?;
        // Names were understood as this connection writes them, in UTF-8. Rows are to come as the database has them: SQL_ASCII stands
        // for no conversion, and only until the transaction is over.
        run(client, doing, "set local client_encoding = 'SQL_ASCII'").await?;
        let mut stream = pin!(client.copy_out(&copy).await.map_err(failed)?);
        // No table has more than 1,600 columns.
        let fields = u16::try_from(target.columns.len()).unwrap_or(u16::MAX).saturating_add(1);
        let mut hashing = Hashing::new(fields);
        let mut refused = None;
        while let Some(chunk) = stream.next().await.transpose().map_err(failed)? {
            // What the server says comes first: a stream that it breaks off is not whole either.
            if refused.is_none() {
                refused = hashing.feed(&chunk).err();
            }
        }
        refused.map_or_else(|| hashing.finish(), Err)
    }
}

async fn counted(client: &Client, doing: &str, sql: &str) -> Result<Sums, ProbeError> {
    let mut sums = Sums::default();
    for row in rows(client, doing, sql).await? {
        let (mark, count): (i16, i64) = (cell(&row, "mark")?, cell(&row, "rows")?);
        let strange =
            || ProbeError::Answer { doing: doing.to_owned(), why: format!("{count} rows of the mark {mark}") };
        sums.count(u8::try_from(mark).map_err(|_| strange())?, u64::try_from(count).map_err(|_| strange())?);
    }
    Ok(sums)
}
