//! Several connections under one snapshot, and one queue of work: the largest tables first, cut into ranges.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use tokio_postgres::Client;

use super::query;
use super::{Digested, RowFilter, Sample, Sums, Target, Writes};
use crate::domain::inventory::{Table, UNREADABLE};
use crate::domain::observed::Observed;
use crate::probe::error::Fault;
use crate::probe::session::{read_only, run};
use crate::probe::{OpenSnapshot, ProbeError};

/// Blocks of one piece of work: 128 MiB of 8 KiB pages, some seconds of hashing.
const RANGE_BLOCKS: u64 = 16_384;

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
    let sql = query::digest(piece.target, piece.percent, filter, piece.range);
    let answer = client.query_one(&sql, &[]).await.map_err(|error| ProbeError::sql(&doing, &error));
    run(client, &doing, "rollback").await?;
    query::sums(&answer?)
}
