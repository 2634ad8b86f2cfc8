//! Order-independent digests of tables, computed inside PostgreSQL.
//!
//! # The digest
//!
//! Each row is printed as PostgreSQL prints a record, under the fixed settings of [`super::session`], its columns in the
//! order of their *names* (a dump may restore the columns of an inherited table in another order). Of that text a SHA-256
//! is taken, read as four signed 64-bit numbers, and each of the four is summed over all rows, exactly. The digest is the
//! SHA-256 of the count and the four sums. Only the sums leave the server, never a row.
//!
//! *Why sums*: they do not depend on the order of rows, and unlike XOR they count duplicates (two equal rows do not vanish).
//! *Why it does not collide by accident*: two different multisets of rows have the same four sums only if a difference of
//! independent, evenly spread 256-bit numbers is zero in each of four 64-bit coordinates: one chance in 2^256 for any given
//! fault, whatever the number of rows. *Against an adversary* who may choose rows freely, additive multiset hashes are weaker than
//! SHA-256 itself (Wagner's generalised birthday: some 2^64 rows and more for 256 bits within any table that can be stored),
//! which is far from what a fault, or a person with SQL, can do.
//!
//! *What it does not contain*: object identifiers of types (that `record_send` would bring in), the encoding of the client, physical
//! column numbers. Text is hashed in the database's own encoding, so `SQL_ASCII` works whatever the bytes are.
//!
//! Sums add up, so a large table is read in ranges of blocks by several connections at once.

mod query;
mod workers;

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::{OpenSnapshot, ProbeError};
use crate::domain::check::Broke;
use crate::domain::inventory::{Content, Snapshot, Table};
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
    /// As the policy says.
    Plan(&'a ContentPlan),
    /// As it was for the fingerprint, by table: `percent`. Tables that are not named are digested whole.
    Same(&'a BTreeMap<String, u8>),
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
    plan: &ContentPlan,
    filter: &RowFilter,
    parallel: usize,
) -> Result<Vec<Table>, Broke> {
    let digested = digest(snapshot, &Sample::Plan(plan), filter, parallel).await?;
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

/// What one query found: adds up over the ranges of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sums {
    rows: u64,
    digested: u64,
    lanes: [i128; 4],
    meanwhile: u64,
    own: u64,
}

impl Sums {
    /// A sum of 64-bit numbers stays far from the ends of 128 bits for any number of rows that PostgreSQL can hold (2^80 are needed to
    /// get there), so wrapping is not reached; it is chosen over panicking because both sides would wrap alike.
    fn add(&mut self, other: &Sums) {
        self.rows += other.rows;
        self.digested += other.digested;
        for (lane, more) in self.lanes.iter_mut().zip(other.lanes) {
            *lane = lane.wrapping_add(more);
        }
        self.meanwhile += other.meanwhile;
        self.own += other.own;
    }

    fn content(&self, percent: u8) -> Content {
        let [a, b, c, d] = self.lanes;
        let text = format!("{}:{a}:{b}:{c}:{d}", self.digested);
        Content {
            rows: self.rows,
            digested: self.digested,
            percent,
            digest: hex::encode(Sha256::digest(text.as_bytes())),
        }
    }
}

/// A table that may hold rows.
#[derive(Clone, Debug)]
struct Target {
    oid: u32,
    name: String,
    bytes: u64,
    blocks: u64,
    /// Quoted, in the order of their names.
    columns: String,
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
        let keyless = self.key.is_none() && self.percent(sample) < 100;
        let why = "it was sampled by its primary key, which it no longer has";
        self.foregone.clone().or_else(|| keyless.then(|| Observed::Unknown(why.to_owned())))
    }

    fn percent(&self, sample: &Sample<'_>) -> u8 {
        match sample {
            Sample::Plan(plan) => match plan.sample_over {
                // Rows are chosen by their primary key: without one there is no choice that is the same on both sides.
                Some(limit) if self.bytes > limit.0 && self.key.is_some() => plan.sample_percent.clamp(1, 100),
                Some(_) | None => 100,
            },
            Sample::Same(percents) => percents.get(&self.name).copied().unwrap_or(100),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_add_up_to_the_whole_in_any_order() {
        let part =
            |n: i128| Sums { rows: 2, digested: 1, lanes: [n, -n, i128::from(i64::MAX), 0], meanwhile: 1, own: 0 };
        let mut one = part(5);
        one.add(&part(7));
        let mut other = part(7);
        other.add(&part(5));
        assert_eq!(one, other);
        assert_eq!(one.content(100), other.content(100));
        assert_eq!((one.rows, one.digested, one.meanwhile), (4, 2, 2));
    }

    #[test]
    fn each_lane_and_the_count_are_in_the_digest() {
        let base = Sums { rows: 3, digested: 3, lanes: [1, 2, 3, 4], meanwhile: 0, own: 0 };
        let digest = |sums: &Sums| sums.content(100).digest;
        for lane in 0..4 {
            let mut changed = base.clone();
            changed.lanes[lane] += 1;
            assert_ne!(digest(&base), digest(&changed), "lane {lane}");
        }
        assert_ne!(digest(&base), digest(&Sums { digested: 4, ..base.clone() }));
    }
}
