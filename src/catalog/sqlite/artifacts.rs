//! Artifacts of one policy. The view of all would be made whole for each policy that is asked for: SQLite does not look into its halves for a condition.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use rusqlite::{Connection, TransactionBehavior};
use uuid::Uuid;

use super::{QueryError, insert};
use crate::domain::ids::{PolicyName, RunId};
use crate::domain::run::{ArtifactRecord, Event};

/// As the view `artifact` has them: the newest mark of one that is newer than it decides whether it is there.
const SQL: &str = "
    with mark as materialized (
        select max(seq) as seq, backup, store, gone
        from (
            select seq, body ->> '$.marked.mark.backup' as backup, body ->> '$.marked.store' as store,
                   body ->> '$.marked.mark.act' = 'tombstone' as gone
            from event
            where policy = ?1 and kind = 'marked' and body ->> '$.marked.mark.act' in ('tombstone', 'undelete')
            union all
            select seq, body ->> '$.removed.backup', body ->> '$.removed.store', 1
            from event
            where policy = ?1 and kind = 'removed'
        )
        group by backup, store
    )
    select ever.record
    from artifact_ever ever
    left join mark on mark.backup = ever.backup and mark.store = ever.store and mark.seq > ever.seq
    where ever.policy = ?1 and coalesce(mark.gone, 0) = 0";

/// Those that were not deleted, newest recovery point first.
pub(super) fn of(connection: &Connection, policy: &str) -> Result<Vec<ArtifactRecord>, QueryError> {
    let rows: Vec<String> =
        connection.prepare_cached(SQL)?.query_map([policy], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut records: Vec<ArtifactRecord> = rows
        .iter()
        .map(|row| serde_json::from_str(row).map_err(|error| QueryError::Row(error.to_string())))
        .collect::<Result<_, _>>()?;
    // As times, not as text: fractions of a second have no fixed width.
    records.sort_by_key(|record| std::cmp::Reverse((record.recovery_point, record.sequence)));
    Ok(records)
}

/// Takes in those that are not known yet; how many were not.
pub(super) fn adopt(
    connection: &mut Connection,
    at: Timestamp,
    records: Vec<ArtifactRecord>,
) -> Result<u64, QueryError> {
    // Immediate: between the question and the insert nobody else may answer it.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let run = RunId(Uuid::now_v7());
    let key = |record: &ArtifactRecord| (record.backup.clone(), record.store.clone());
    let mut known: BTreeMap<PolicyName, BTreeSet<_>> = BTreeMap::new();
    let mut taken = 0;
    for record in records {
        let policy = record.policy.clone();
        if !known.contains_key(&policy) {
            known.insert(policy.clone(), of(&transaction, policy.as_str())?.iter().map(key).collect());
        }
        if known.entry(policy.clone()).or_default().insert(key(&record)) {
            insert(&transaction, at, &policy, run, &Event::Committed(record))?;
            taken += 1;
        }
    }
    transaction.commit()?;
    Ok(taken)
}
