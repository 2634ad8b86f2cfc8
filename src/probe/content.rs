//! Order-independent digests of tables.
//!
//! # The digest
//!
//! Rows come by `COPY (select …) TO STDOUT (FORMAT binary)` under the snapshot and are hashed here, row by row; nothing of them is kept. The
//! columns stand in the order of their *names* (a dump may restore the columns of an inherited table in another order). [`query`] says
//! in which form a value is sent. Of a row's bytes (each field's length and value, which can be read back in one way only) BLAKE3
//! gives 1,024 bits, read as sixteen 64-bit numbers; each of the sixteen is summed over all rows, exactly. The digest is the BLAKE3 of the
//! count and the sums, behind the name of the method: `lb2:…`.
//!
//! *Why sums*: they do not depend on the order of rows, and unlike XOR they count duplicates (two equal rows do not vanish). They add up,
//! so a large table is read in ranges of blocks by several connections at once.
//!
//! *Why it does not collide by accident*: two different multisets of rows have the same sums only if a sum of differences of evenly spread
//! 1,024-bit numbers is zero in each of sixteen coordinates; then the BLAKE3 of the sums decides: one chance in 2^256 for any given fault.
//!
//! *Against an adversary* who may choose rows freely, sums are much weaker than the hash under them: Wagner's generalised birthday finds
//! two multisets with the same sums of n bits in about 2^(2·√n) steps, exchanging 2^√n rows. With four lanes (256 bits) that would be some 2^32 steps,
//! within reach; with sixteen it is 2^64 steps and 2^32 rows. `docs/content.md` says what that means.
//!
//! *What it does not contain*: object identifiers of types (which arrays and records have in their binary form), any session's
//! settings, physical column numbers. Text is hashed in the database's own encoding, so `SQL_ASCII` works whatever the bytes are.

pub mod copy;
mod hashing;
mod pages;
mod query;
mod workers;

use std::collections::BTreeMap;

use super::{OpenSnapshot, ProbeError};
use crate::domain::check::Broke;
use crate::domain::inventory::{Content, Pages, Snapshot, Table};
use crate::domain::observed::Observed;
use crate::domain::policy::ContentPlan;

/// Which rows are digested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowFilter {
    /// All that the snapshot sees.
    All,
    /// In a restored physical copy: leave out rows that were written after the source's snapshot and before `own_from`, the first transaction of
    /// the restored server itself.
    ///
    /// A row carries only the lower 32 bits of its transaction. Ages are compared, not numbers, so the counter may wrap; a row frozen more
    /// than two thousand million transactions ago whose number falls into the window again is taken for one of the window:
    /// then the digest differs, and the table counts as written meanwhile, never as right.
    AsOf {
        /// The source's snapshot.
        snapshot: Snapshot,
        /// The first transaction identifier that the restored server gave out.
        own_from: u64,
    },
}

/// Which part of each table is digested.
#[derive(Clone, Debug)]
pub enum Sample<'a> {
    /// As the policy says; rows are chosen by their primary keys, and so are the same wherever they lie.
    Keys(&'a ContentPlan),
    /// As the policy says; rows are chosen by the pages they lie on, drawn from this number, which spares the server all others but for counting. For
    /// physical copies. What cannot be read by pages is chosen by keys.
    Pages(&'a ContentPlan, u32),
    /// As it was for these, by table. Tables that are not named are digested whole.
    Same(&'a BTreeMap<&'a str, &'a Content>),
}

/// Which rows of one table are digested, as its [`Content`] says it. All are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Choice {
    percent: u8,
    pages: Option<Pages>,
}

impl Choice {
    const ALL: Choice = Choice { percent: 100, pages: None };
}

/// A table, and what its rows say about who wrote them (always zero without [`RowFilter::AsOf`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Digested {
    /// The table.
    pub table: Table,
    /// What happened to it since the snapshot.
    pub writes: Writes,
}

/// Traces of writing in the rows that are there, in a table of a restored physical copy; [`super::traces`] sees the dead ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// Rows written by transactions that were not over at the source's snapshot, before the restored server's first.
    pub meanwhile: u64,
    /// Rows written by the restored server itself.
    pub own: u64,
    /// Whether the table itself was made or emptied in that time.
    pub remade: bool,
}

/// Digests all tables of the snapshot's database, `parallel` at once, each on a connection of its own under the same snapshot.
pub async fn digest_tables(
    snapshot: &OpenSnapshot,
    sample: &Sample<'_>,
    filter: &RowFilter,
    parallel: usize,
) -> Result<Vec<Table>, Broke> {
    let digested = digest(snapshot, sample, filter, parallel).await?;
    Ok(digested.into_iter().map(|digested| digested.table).collect())
}

/// The same, with the traces of writing, and an error that tells damage from other trouble.
///
/// A table that cannot be read is [`Observed::Unknown`]: with [`crate::domain::inventory::UNREADABLE`] in front if its data
/// are damaged, with another reason if the role may not read it or if its rows are not here (foreign tables; unlogged
/// tables of a physical copy, which PostgreSQL empties). A materialized view that was never filled is [`Observed::Absent`].
pub async fn digest(
    snapshot: &OpenSnapshot,
    sample: &Sample<'_>,
    filter: &RowFilter,
    parallel: usize,
) -> Result<Vec<Digested>, ProbeError> {
    let targets = query::targets(&snapshot.client, filter).await?;
    workers::digest(snapshot, targets, sample, filter, parallel.max(1)).await
}

/// A column that is stored.
#[derive(Clone, Debug)]
struct Column {
    /// Quoted.
    name: String,
    /// The object identifier of its type; of a domain, that of the type under it.
    root: u32,
}

/// A table that may hold rows.
#[derive(Clone, Debug)]
struct Target {
    oid: u32,
    name: String,
    bytes: u64,
    blocks: u64,
    /// In the order of their names.
    columns: Vec<Column>,
    /// The columns of its primary key, the same way.
    key: Option<String>,
    /// Whether it can be read by ranges of blocks.
    ranges: bool,
    /// What is known about its content without looking.
    foregone: Option<Observed<Content>>,
    remade: bool,
}

impl Target {
    /// Its content, as far as it is known without looking.
    fn known(&self, sample: &Sample<'_>) -> Option<Observed<Content>> {
        let choice = self.choice(sample);
        let why = match choice.pages {
            Some(_) => (!self.ranges).then_some("it was sampled by its pages, and cannot be read so any more"),
            None => (choice.percent < 100 && self.key.is_none())
                .then_some("it was sampled by its primary key, which it no longer has"),
        };
        self.foregone.clone().or_else(|| why.map(|why| Observed::Unknown(why.to_owned())))
    }

    fn choice(&self, sample: &Sample<'_>) -> Choice {
        let (plan, seed) = match sample {
            Sample::Keys(plan) => (plan, None),
            Sample::Pages(plan, seed) => (plan, Some(*seed)),
            Sample::Same(taken) => {
                let chosen = |one: &&Content| Choice { percent: one.percent, pages: one.pages };
                return taken.get(self.name.as_str()).map_or(Choice::ALL, chosen);
            }
        };
        let percent = plan.sample_percent.clamp(1, 100);
        if percent == 100 || plan.sample_over.is_none_or(|limit| self.bytes <= limit.0) {
            return Choice::ALL;
        }
        // PostgreSQL numbers the pages of a table with 32 bits.
        let blocks = u32::try_from(self.blocks).unwrap_or(u32::MAX);
        let pages = seed.filter(|_| self.ranges).map(|seed| Pages { blocks, seed });
        // Without pages and without a key there is no choice that is the same on both sides.
        if pages.is_some() || self.key.is_some() { Choice { percent, pages } } else { Choice::ALL }
    }
}
