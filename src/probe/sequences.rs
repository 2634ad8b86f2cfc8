//! The values of sequences.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::session::{cell, read_only, rows};
use super::{Endpoint, ProbeError};
use crate::domain::inventory::Sequence;
use crate::domain::observed::Observed;

/// How many sequences one statement reads: each takes a lock until it ends, and the lock table is small.
const AT_ONCE: usize = 200;

const LIST: &str = "select quote_ident(n.nspname) || '.' || quote_ident(c.relname) as name,
       has_sequence_privilege(c.oid, 'SELECT') and has_schema_privilege(n.oid, 'USAGE') as readable,
       s.seqincrement as increment, s.seqcycle as cycles, c.relpersistence = 'u' as unlogged
  from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_sequence s on s.seqrelid = c.oid
 where c.oid >= 16384 and c.relpersistence <> 't' order by 1";

/// How a sequence moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// By how much each value differs from the one before.
    pub increment: i64,
    /// Whether it begins again at its end.
    pub cycles: bool,
    /// Whether it is outside of the log (PostgreSQL 15 and newer): recovery sets it back to its start.
    pub unlogged: bool,
}

/// All sequences of the database, by name.
pub async fn sequences(client: &Client) -> Result<Vec<Sequence>, ProbeError> {
    let doing = "reading the sequences";
    let mut all = Vec::new();
    let mut readable = Vec::new();
    for row in rows(client, doing, LIST).await? {
        let name: String = cell(&row, "name")?;
        if cell(&row, "readable")? {
            readable.push(name);
        } else {
            let why = "the role may not read it: GRANT SELECT ON ALL SEQUENCES, or pg_read_all_data";
            all.push(Sequence {
                name,
                last_value: Observed::Unknown(why.to_owned()),
                is_called: false,
                moved_to: None,
            });
        }
    }
    for names in readable.chunks(AT_ONCE) {
        let each = names
            .iter()
            .enumerate()
            .map(|(at, name)| format!("select {at}::int8 as at, last_value, is_called from {name}"));
        let sql = each.collect::<Vec<_>>().join(" union all ");
        for row in rows(client, doing, &sql).await? {
            let at: i64 = cell(&row, "at")?;
            let name = usize::try_from(at).ok().and_then(|at| names.get(at)).ok_or_else(|| ProbeError::Answer {
                doing: doing.to_owned(),
                why: format!("number {at} was not asked for"),
            })?;
            let last_value = Observed::Known(cell(&row, "last_value")?);
            let is_called = cell(&row, "is_called")?;
            all.push(Sequence { name: name.clone(), last_value, is_called, moved_to: None });
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// Looks again once the backup is over, and notes where each sequence of the fingerprint stands now.
pub async fn note_moves(endpoint: &Endpoint, sequences: &mut [Sequence]) -> Result<(), ProbeError> {
    let client = read_only(endpoint).await?;
    let now: BTreeMap<String, Observed<i64>> =
        self::sequences(&client).await?.into_iter().map(|one| (one.name, one.last_value)).collect();
    for sequence in sequences {
        sequence.moved_to = now.get(&sequence.name).and_then(Observed::known).copied();
    }
    Ok(())
}

/// How each sequence moves, by name.
pub async fn paces(client: &Client) -> Result<BTreeMap<String, Pace>, ProbeError> {
    let mut paces = BTreeMap::new();
    for row in rows(client, "reading the sequences", LIST).await? {
        let pace = Pace {
            increment: cell(&row, "increment")?,
            cycles: cell(&row, "cycles")?,
            unlogged: cell(&row, "unlogged")?,
        };
        paces.insert(cell(&row, "name")?, pace);
    }
    Ok(paces)
}
