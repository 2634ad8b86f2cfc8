//! What is remembered of backups that are gone too, and which of them were proven.

use jiff::Timestamp;
use rusqlite::{Connection, TransactionBehavior, params};

use super::QueryError;
use crate::domain::run::Proof;

/// Goes on from the highest that was ever given, also to a backup that is gone or never came to be; from now on this one is given.
pub(super) fn next_sequence(connection: &mut Connection, policy: &str) -> Result<u64, QueryError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let highest: i64 = transaction
        .prepare_cached(
            "select max(coalesce((select max(sequence) from artifact_ever where policy = ?1), 0),
                        coalesce((select value from sequence_given where policy = ?1), 0))",
        )?
        .query_row([policy], |row| row.get(0))?;
    let out_of_range = || QueryError::Row("a sequence number is out of range".to_owned());
    let next = highest.checked_add(1).filter(|next| *next > 0).ok_or_else(out_of_range)?;
    transaction
        .prepare_cached(
            "insert into sequence_given (policy, value) values (?1, ?2) on conflict (policy) do update set value = excluded.value",
        )?
        .execute(params![policy, next])?;
    transaction.commit()?;
    u64::try_from(next).map_err(|_| out_of_range())
}

pub(super) fn taken(connection: &Connection, policy: &str) -> Result<Vec<Timestamp>, QueryError> {
    let mut statement = connection.prepare_cached("select finished_at from artifact_ever where policy = ?1")?;
    let mut rows = statement.query([policy])?;
    let mut moments = Vec::new();
    while let Some(row) = rows.next()? {
        moments.push(moment(&row.get::<_, String>(0)?)?);
    }
    moments.sort();
    Ok(moments)
}

pub(super) fn proofs(connection: &Connection, policy: &str) -> Result<Vec<Proof>, QueryError> {
    let mut statement = connection.prepare_cached("select backup, at from proof where policy = ?1 order by seq")?;
    let mut rows = statement.query([policy])?;
    let mut proofs = Vec::new();
    while let Some(row) = rows.next()? {
        let backup = row.get::<_, String>(0)?.parse();
        let backup = backup.map_err(|error: crate::domain::ids::BadId| QueryError::Row(error.to_string()))?;
        proofs.push(Proof { backup, at: moment(&row.get::<_, String>(1)?)? });
    }
    Ok(proofs)
}

fn moment(text: &str) -> Result<Timestamp, QueryError> {
    text.parse().map_err(|error: jiff::Error| QueryError::Row(format!("a moment of a backup: {error}")))
}
