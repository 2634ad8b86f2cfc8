//! The structure of heaps and B-trees, by PostgreSQL's own `amcheck` (manual, appendix F).
//!
//! Its functions are called here and not by `pg_amcheck`, so that what was looked at is known object by object, and what amcheck cannot see
//! (other kinds of index, other table access methods) is listed and never taken for good.

use std::collections::VecDeque;
use std::sync::Mutex;

use tokio_postgres::Client;

use super::{Subject, trouble};
use crate::domain::check::{Broke, Finding, Stop};
use crate::judge::integrity::{self, Comparison};
use crate::probe::{Endpoint, Fault, OWN_SCHEMA, ProbeError, session};

/// Relations of one statement: each is locked until it ends.
const AT_ONCE: usize = 100;
/// And their bytes, so that a large one has a statement of its own.
const BYTES_AT_ONCE: u64 = 64 << 20;

/// A table larger than this is looked at in pieces, on several connections.
const BLOCKS_OF_A_PIECE: u64 = 32_768;
const BLOCK_BYTES: u64 = 8192;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Heap,
    Btree,
    /// One whose table a transaction that is prepared and not over holds, in a physical copy for ever: the check that takes no strong lock.
    HeldBtree,
}

#[derive(Clone, Debug)]
struct Relation {
    oid: i64,
    what: What,
    /// `table public.orders`, `index public.orders_pkey`.
    object: String,
    bytes: u64,
    /// Of a table that is looked at in pieces: the first and the last block, where it has an end.
    piece: Option<(u64, Option<u64>)>,
}

pub(super) async fn amcheck(subject: &Subject<'_>, heapallindexed: bool) -> Result<Comparison, Stop> {
    let mut all = Comparison::default();
    for (before, now) in &subject.databases {
        let object = format!("database {before}");
        let endpoint = subject.server.with_database(now);
        let client = session::fixed(&endpoint).await.map_err(|error| trouble(error, &object))?;
        let damaged = |error| trouble(error, &object);
        let Some((schema, ours)) = install(&client, subject.whole_server).await.map_err(damaged)? else {
            all.blind(
                object,
                "the extension amcheck is not in it, and on a scratch server that others use it is not installed",
            );
            continue;
        };
        let checking = Checking { endpoint: &endpoint, schema: &schema, heapallindexed, parallel: subject.parallel };
        let checked = checking.database(&client).await;
        // Whatever came of it: what was installed for the check must not be seen by the next one.
        let removed = if ours { remove(&client).await } else { Ok(()) };
        all.add(checked.map_err(damaged)?);
        removed.map_err(damaged)?;
    }
    all.add(integrity::unseen(&subject.manifest().fingerprint.unseen));
    if all.looked_at.is_empty() && all.unchecked.is_empty() && all.findings.is_empty() {
        return Err(Broke::new("there is no database to look at").into());
    }
    Ok(all)
}

/// The quoted schema of amcheck's functions, and whether it is there for us alone. A killed check may have left its own: it is used again.
async fn install(client: &Client, may_install: bool) -> Result<Option<(String, bool)>, ProbeError> {
    let doing = "looking for the extension amcheck";
    let sql = format!(
        "select quote_ident(n.nspname) as schema, n.nspname = '{OWN_SCHEMA}' as ours from pg_extension e \
         join pg_namespace n on n.oid = e.extnamespace where e.extname = 'amcheck'"
    );
    if let Some(row) = session::rows(client, doing, &sql).await?.first() {
        return Ok(Some((session::cell(row, "schema")?, session::cell(row, "ours")?)));
    }
    if !may_install {
        return Ok(None);
    }
    // As a replica: the restored database's own event triggers do not run on what is done here.
    let sql = format!(
        "set session_replication_role = replica; create schema if not exists {OWN_SCHEMA}; \
         create extension amcheck schema {OWN_SCHEMA}"
    );
    session::run(client, "installing the extension amcheck (of PostgreSQL's contrib) in the sandbox", &sql).await?;
    Ok(Some((OWN_SCHEMA.to_owned(), true)))
}

async fn remove(client: &Client) -> Result<(), ProbeError> {
    let sql = format!(
        "set session_replication_role = replica; set client_min_messages = warning; drop schema if exists {OWN_SCHEMA} cascade"
    );
    session::run(client, "removing the extension amcheck", &sql).await
}

struct Checking<'a> {
    endpoint: &'a Endpoint,
    schema: &'a str,
    heapallindexed: bool,
    parallel: usize,
}

impl Checking<'_> {
    async fn database(&self, client: &Client) -> Result<Comparison, ProbeError> {
        let (relations, comparison) = self.relations(client).await?;
        let batches = batches(relations);
        let workers = self.parallel.max(1).min(batches.len());
        let (queue, all) = (Mutex::new(batches), Mutex::new(comparison));
        futures_util::future::try_join_all((0..workers).map(|_| self.work(&queue, &all))).await?;
        Ok(all.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Everything that amcheck can look at, system catalogs too; and what it cannot.
    async fn relations(&self, client: &Client) -> Result<(Vec<Relation>, Comparison), ProbeError> {
        let sql = format!(
            "with held as materialized (select l.relation from pg_locks l where l.pid is null and l.mode <> 'AccessShareLock'
                       and l.database = (select oid from pg_database where datname = current_database()))
             select c.oid::int8 as oid, c.relkind::text as kind, am.amname::text as method, c.oid >= 16384 as users,
                    coalesce(i.indisvalid and i.indisready, true) as valid, coalesce(pg_relation_size(c.oid), 0)::int8 as bytes,
                    case when c.relkind = 't' then coalesce((select 'TOAST of table ' || quote_ident(on_.nspname) || '.' || quote_ident(o.relname)
                           from pg_class o join pg_namespace on_ on on_.oid = o.relnamespace where o.reltoastrelid = c.oid), 'table ' || c.oid::regclass)
                         else case when c.relkind = 'i' then 'index ' else 'table ' end || quote_ident(n.nspname) || '.' || quote_ident(c.relname)
                    end as object,
                    to_regprocedure('{}.verify_heapam(regclass,boolean,boolean,text,bigint,bigint)') is not null as heaps,
                    exists (select from held where held.relation in (i.indrelid, i.indexrelid)) as held
               from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_am am on am.oid = c.relam
                    left join pg_index i on i.indexrelid = c.oid
              where c.relkind in ('r', 'm', 't', 'i') and c.relpersistence <> 't' and n.nspname <> '{OWN_SCHEMA}'
              order by bytes desc, object",
            self.schema
        );
        let mut comparison = Comparison::default();
        let mut relations = Vec::new();
        let (mut old_heaps, mut other) = (0_u64, 0_u64);
        for row in session::rows(client, "listing tables and indexes", &sql).await? {
            let kind: String = session::cell(&row, "kind")?;
            let method: String = session::cell(&row, "method")?;
            let object: String = session::cell(&row, "object")?;
            let what = match (kind.as_str(), method.as_str()) {
                ("i", "btree") => What::Btree,
                ("i", _) if session::cell(&row, "users")? => {
                    comparison.skip(object, format!("amcheck cannot look into {method} indexes"));
                    continue;
                }
                ("i", _) => {
                    other += 1;
                    continue;
                }
                (_, "heap") => What::Heap,
                _ => {
                    comparison.skip(object, format!("amcheck cannot look into tables of access method {method}"));
                    continue;
                }
            };
            if what == What::Btree && !session::cell::<bool>(&row, "valid")? {
                comparison.skip(object, "the index is marked invalid: PostgreSQL does not use it");
                continue;
            }
            let held = what == What::Btree && session::cell::<bool>(&row, "held")?;
            if held {
                let why = "a prepared transaction holds its table: that parents and children agree was not looked at";
                comparison.skip(object.clone(), why);
            }
            let what = if held { What::HeldBtree } else { what };
            if what == What::Heap && !session::cell::<bool>(&row, "heaps")? {
                old_heaps += 1;
                continue;
            }
            let bytes: i64 = session::cell(&row, "bytes")?;
            let (oid, bytes) = (session::cell(&row, "oid")?, bytes.unsigned_abs());
            pieces(Relation { oid, what, object, bytes, piece: None }, &mut relations);
        }
        if old_heaps > 0 {
            comparison.skip(
                format!("{old_heaps} tables"),
                "this version of amcheck cannot look into tables (it can from 1.3, PostgreSQL 14, on)",
            );
        }
        if other > 0 {
            comparison.skip(format!("{other} system indexes"), "amcheck can look into B-trees only");
        }
        Ok((relations, comparison))
    }

    async fn work(&self, queue: &Mutex<VecDeque<Vec<Relation>>>, all: &Mutex<Comparison>) -> Result<(), ProbeError> {
        let client = session::fixed(self.endpoint).await?;
        loop {
            let next = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front();
            let Some(batch) = next else { return Ok(()) };
            let checked = self.batch(&client, &batch).await?;
            all.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(checked);
        }
    }

    /// All together first. One that is corrupt ends the statement for all of them, so then each is looked at by itself.
    async fn batch(&self, client: &Client, batch: &[Relation]) -> Result<Comparison, ProbeError> {
        if batch.len() > 1
            && let Ok(comparison) = self.together(client, batch).await
        {
            return Ok(comparison);
        }
        let mut comparison = Comparison::default();
        for relation in batch {
            match self.together(client, std::slice::from_ref(relation)).await {
                Ok(one) => comparison.add(one),
                Err(error) if error.fault() == Fault::Damaged => {
                    comparison.findings.push(corrupt(relation, error.to_string()));
                    counted(&mut comparison, relation);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(comparison)
    }

    async fn together(&self, client: &Client, batch: &[Relation]) -> Result<Comparison, ProbeError> {
        let mut comparison = Comparison::default();
        let Some(first) = batch.first() else { return Ok(comparison) };
        let list = |of: &dyn Fn(&Relation) -> String| batch.iter().map(of).collect::<Vec<_>>().join(",");
        let oids = list(&|relation| relation.oid.to_string());
        let doing = format!("checking {}", first.object);
        match first.what {
            What::Heap => {
                let number = |block: Option<u64>| block.map_or_else(|| "null".to_owned(), |block| block.to_string());
                let from = list(&|relation| number(relation.piece.map(|piece| piece.0)));
                let to = list(&|relation| number(relation.piece.and_then(|piece| piece.1)));
                // amcheck's words name transactions, offsets and lengths, never a value.
                let sql = format!(
                    "select o.oid::int8 as oid, v.blkno, v.offnum, v.msg
                       from unnest('{{{oids}}}'::oid[], '{{{from}}}'::int8[], '{{{to}}}'::int8[]) o(oid, first, last),
                     lateral {}.verify_heapam(o.oid::regclass, on_error_stop := false, check_toast := true, skip := 'none',
                       startblock := o.first, endblock := o.last) v limit 1000",
                    self.schema
                );
                for row in session::rows(client, &doing, &sql).await? {
                    let oid: i64 = session::cell(&row, "oid")?;
                    let block: Option<i64> = session::cell(&row, "blkno")?;
                    let message: String = session::cell(&row, "msg")?;
                    let relation = batch.iter().find(|relation| relation.oid == oid).unwrap_or(first);
                    let place = block.map_or_else(String::new, |block| format!("block {block}: "));
                    comparison.findings.push(corrupt(relation, format!("{place}{message}")));
                }
            }
            What::Btree | What::HeldBtree => {
                let function = if first.what == What::Btree { "bt_index_parent_check" } else { "bt_index_check" };
                let sql = format!(
                    "select count({}.{function}(o.oid::regclass, {})::text) as checked \
                     from unnest('{{{oids}}}'::oid[]) o(oid)",
                    self.schema, self.heapallindexed
                );
                session::row(client, &doing, &sql).await?;
            }
        }
        for relation in batch {
            counted(&mut comparison, relation);
        }
        Ok(comparison)
    }
}

fn counted(comparison: &mut Comparison, relation: &Relation) {
    let what = match relation.what {
        What::Heap => "tables",
        What::Btree | What::HeldBtree => "B-tree indexes",
    };
    // A table in pieces is one table.
    comparison.looked(u64::from(relation.piece.is_none_or(|piece| piece.0 == 0)), what);
    comparison.looked(relation.bytes, "bytes");
}

/// A large table in pieces, so that several connections look at it; anything else as it is. The last piece has no end: it
/// reaches to wherever the table ends when it is looked at.
fn pieces(relation: Relation, into: &mut Vec<Relation>) {
    let blocks = relation.bytes / BLOCK_BYTES;
    if relation.what != What::Heap || blocks <= BLOCKS_OF_A_PIECE {
        into.push(relation);
        return;
    }
    for from in (0..blocks).step_by(BLOCKS_OF_A_PIECE as usize) {
        let next = from + BLOCKS_OF_A_PIECE;
        let (to, bytes) = match next < blocks {
            true => (Some(next - 1), BLOCKS_OF_A_PIECE * BLOCK_BYTES),
            false => (None, relation.bytes - from * BLOCK_BYTES),
        };
        into.push(Relation { piece: Some((from, to)), bytes, ..relation.clone() });
    }
}

fn corrupt(relation: &Relation, message: String) -> Finding {
    let code = match relation.what {
        What::Heap => "heap_corrupt",
        What::Btree | What::HeldBtree => "index_corrupt",
    };
    Finding::new(code, relation.object.clone(), message)
}

/// Largest first; small ones together, heaps and indexes apart.
fn batches(relations: Vec<Relation>) -> VecDeque<Vec<Relation>> {
    let mut batches: Vec<Vec<Relation>> = Vec::new();
    for what in [What::Heap, What::Btree, What::HeldBtree] {
        let mut batch: Vec<Relation> = Vec::new();
        let mut bytes = 0_u64;
        for relation in relations.iter().filter(|relation| relation.what == what) {
            if batch.len() == AT_ONCE || (!batch.is_empty() && bytes + relation.bytes > BYTES_AT_ONCE) {
                batches.push(std::mem::take(&mut batch));
                bytes = 0;
            }
            bytes += relation.bytes;
            batch.push(relation.clone());
        }
        if !batch.is_empty() {
            batches.push(batch);
        }
    }
    batches.sort_by_key(|batch| std::cmp::Reverse(batch.iter().map(|relation| relation.bytes).sum::<u64>()));
    batches.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_relation_is_in_one_batch_and_large_ones_are_alone() {
        let relations: Vec<Relation> = (0..250)
            .map(|at| Relation {
                oid: at,
                what: if at % 5 == 0 { What::Btree } else { What::Heap },
                object: format!("{at}"),
                bytes: if at < 3 { BYTES_AT_ONCE * 2 } else { 8192 },
                piece: None,
            })
            .collect();
        let batches = batches(relations);
        let mut seen: Vec<i64> = batches.iter().flatten().map(|relation| relation.oid).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..250).collect::<Vec<_>>());
        assert!(batches.iter().all(|batch| batch.len() <= AT_ONCE));
        assert!(batches.iter().all(|batch| batch.iter().all(|one| one.what == batch[0].what)));
        assert!(batches.iter().filter(|batch| batch.iter().any(|one| one.bytes > 8192)).all(|batch| batch.len() == 1));
        assert!(batches[0][0].bytes > 8192, "the largest first");
    }

    #[test]
    fn large_tables_are_cut_and_every_block_is_in_one_piece() {
        let of = |what, bytes| {
            let mut into = Vec::new();
            pieces(Relation { oid: 1, what, object: String::new(), bytes, piece: None }, &mut into);
            into
        };
        let piece = BLOCKS_OF_A_PIECE * BLOCK_BYTES;
        for (what, bytes) in [(What::Heap, 0), (What::Heap, piece), (What::Btree, 10 * piece)] {
            assert_eq!(of(what, bytes).iter().map(|one| one.piece).collect::<Vec<_>>(), [None], "{bytes}");
        }
        for bytes in [piece + BLOCK_BYTES, 2 * piece, 5 * piece + 3 * BLOCK_BYTES] {
            let pieces = of(What::Heap, bytes);
            assert_eq!(pieces.iter().map(|one| one.bytes).sum::<u64>(), bytes);
            let mut next = 0;
            for (at, one) in pieces.iter().enumerate() {
                let (from, to) = one.piece.unwrap();
                assert_eq!((from, to.is_none()), (next, at + 1 == pieces.len()), "{bytes}");
                next = to.unwrap_or_default() + 1;
            }
        }
    }
}
