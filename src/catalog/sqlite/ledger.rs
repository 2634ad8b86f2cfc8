//! What was read back from the stores, when, and what was wrong.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use super::{QueryError, run_id};
use crate::domain::ids::{PlaceName, PolicyName};
use crate::domain::ledger::{Depth, LastRead, Reading, Shelf, ShelfRead, Wrong};
use crate::domain::units::ByteSize;

/// A right reading clears what was wrong only if it was as deep: bytes that are as they were stored say nothing of what is in them.
const RIGHT: &str = "
    insert into ledger (store, key, policy, shelf, bytes, sealed_at, sealed_run, opened_at)
    values (?1, ?2, ?3, ?4, ?5, ?6, ?7, case when ?8 = 1 then ?6 end)
    on conflict do update set policy = excluded.policy, shelf = excluded.shelf, bytes = excluded.bytes,
        sealed_at = excluded.sealed_at, sealed_run = excluded.sealed_run, opened_at = coalesce(excluded.opened_at, opened_at),
        wrong_since = case when wrong_depth > ?8 then wrong_since end, wrong_at = case when wrong_depth > ?8 then wrong_at end,
        wrong_run = case when wrong_depth > ?8 then wrong_run end, wrong = case when wrong_depth > ?8 then wrong end,
        wrong_depth = case when wrong_depth > ?8 then wrong_depth end";

/// Since when it is wrong is what was known first; of two depths the deeper must be right again.
const WRONG: &str = "
    insert into ledger (store, key, policy, shelf, bytes, wrong_since, wrong_at, wrong_run, wrong_depth, wrong)
    values (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8, ?9)
    on conflict do update set policy = excluded.policy, shelf = excluded.shelf, bytes = max(bytes, excluded.bytes),
        wrong_since = coalesce(wrong_since, excluded.wrong_since), wrong_at = excluded.wrong_at, wrong_run = excluded.wrong_run,
        wrong_depth = max(coalesce(wrong_depth, 0), excluded.wrong_depth), wrong = excluded.wrong";

const COLUMNS: &str = "store, shelf, key, bytes, sealed_at, sealed_run, opened_at, wrong_since, wrong_at, wrong_depth, \
    wrong_run, wrong";

/// Whether something newer is known of an object. What was right is older than any newer word; what was wrong is only mended by a newer
/// reading that was right, and as deep.
const NEWER: &str = "
    select case when ?5 then coalesce(opened_at > ?3, 0) or (?4 = 0 and coalesce(sealed_at > ?3, 0))
                else coalesce(sealed_at > ?3, 0) or coalesce(wrong_at > ?3, 0) end
    from ledger where store = ?1 and key = ?2";

/// All of them or none.
pub(super) fn write(connection: &mut Connection, readings: &[Reading]) -> Result<(), QueryError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    insert(&transaction, readings)?;
    Ok(transaction.commit()?)
}

/// The same, without those about whose objects something newer is known.
pub(super) fn write_late(connection: &mut Connection, readings: &[Reading]) -> Result<(), QueryError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for one in readings {
        let asked =
            params![one.store.as_str(), one.key, one.at.as_microsecond(), number(one.depth), one.finding.is_some()];
        let newer: Option<bool> = transaction.prepare_cached(NEWER)?.query_row(asked, |row| row.get(0)).optional()?;
        if newer != Some(true) {
            insert(&transaction, std::slice::from_ref(one))?;
        }
    }
    Ok(transaction.commit()?)
}

fn insert(transaction: &Transaction<'_>, readings: &[Reading]) -> Result<(), QueryError> {
    let (mut right, mut wrong) = (transaction.prepare_cached(RIGHT)?, transaction.prepare_cached(WRONG)?);
    for one in readings {
        let bytes = i64::try_from(one.bytes.0).unwrap_or(i64::MAX);
        let (shelf, run) = (one.shelf.to_string(), one.run.map(|run| run.to_string()));
        let (at, depth) = (one.at.as_microsecond(), number(one.depth));
        let (store, policy) = (one.store.as_str(), one.policy.as_str());
        match &one.finding {
            None => right.execute(params![store, one.key, policy, shelf, bytes, at, run, depth])?,
            Some(finding) => {
                let finding = serde_json::to_string(finding).map_err(QueryError::Event)?;
                wrong.execute(params![store, one.key, policy, shelf, bytes, at, run, depth, finding])?
            }
        };
    }
    Ok(())
}

/// Of one shelf, by key.
pub(super) fn of_shelf(
    connection: &Connection,
    policy: &PolicyName,
    store: &PlaceName,
    shelf: &Shelf,
) -> Result<Vec<LastRead>, QueryError> {
    let sql = format!("select {COLUMNS} from ledger where policy = ?1 and store = ?2 and shelf = ?3 order by key");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![policy.as_str(), store.as_str(), shelf.to_string()])?;
    collect(&mut rows)
}

/// Objects that are wrong, by store and key.
pub(super) fn wrong(connection: &Connection, policy: &PolicyName) -> Result<Vec<LastRead>, QueryError> {
    let sql = format!("select {COLUMNS} from ledger where policy = ?1 and wrong is not null order by store, key");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([policy.as_str()])?;
    collect(&mut rows)
}

fn collect(rows: &mut rusqlite::Rows<'_>) -> Result<Vec<LastRead>, QueryError> {
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// Sums of each shelf. What is wrong was not right lately, whenever it was right before.
pub(super) fn shelves(
    connection: &Connection,
    policy: &PolicyName,
    since: Timestamp,
) -> Result<Vec<ShelfRead>, QueryError> {
    let sql = "select store, shelf, count(sealed_at), sum(case when sealed_at is not null then bytes else 0 end),
            sum(case when wrong is null and sealed_at >= ?2 then bytes else 0 end),
            min(case when wrong is null then sealed_at end), count(wrong)
        from ledger where policy = ?1 group by store, shelf order by store, shelf";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![policy.as_str(), since.as_microsecond()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let unsigned = |column: usize| row.get::<_, i64>(column).map(i64::unsigned_abs);
        found.push(ShelfRead {
            store: name(row, 0)?,
            shelf: shelf(row, 1)?,
            objects: unsigned(2)?,
            bytes: ByteSize(unsigned(3)?),
            recent: ByteSize(unsigned(4)?),
            oldest: moment(row, 5)?,
            wrong: unsigned(6)?,
        });
    }
    Ok(found)
}

/// Takes out what is there no more.
pub(super) fn forget(connection: &mut Connection, store: &PlaceName, keys: &[String]) -> Result<(), QueryError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut statement = transaction.prepare_cached("delete from ledger where store = ?1 and key = ?2")?;
        for key in keys {
            statement.execute(params![store.as_str(), key])?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// One row of [`COLUMNS`].
fn read(row: &Row<'_>) -> Result<LastRead, QueryError> {
    let wrong = match (moment(row, 7)?, moment(row, 8)?, row.get::<_, Option<String>>(11)?) {
        (Some(since), Some(at), Some(finding)) => Some(Wrong {
            since,
            at,
            depth: if row.get::<_, Option<i64>>(9)? == Some(1) { Depth::Opened } else { Depth::Sealed },
            run: row.get::<_, Option<String>>(10)?.map(|run| run_id(&run)).transpose()?,
            finding: serde_json::from_str(&finding).map_err(|error| QueryError::Row(error.to_string()))?,
        }),
        _ => None,
    };
    Ok(LastRead {
        store: name(row, 0)?,
        shelf: shelf(row, 1)?,
        key: row.get(2)?,
        bytes: ByteSize(row.get::<_, i64>(3)?.unsigned_abs()),
        sealed_at: moment(row, 4)?,
        opened_at: moment(row, 6)?,
        run: row.get::<_, Option<String>>(5)?.map(|run| run_id(&run)).transpose()?,
        wrong,
    })
}

fn number(depth: Depth) -> i64 {
    match depth {
        Depth::Sealed => 0,
        Depth::Opened => 1,
    }
}

fn name(row: &Row<'_>, column: usize) -> Result<PlaceName, QueryError> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error: crate::domain::ids::BadId| QueryError::Row(error.to_string()))
}

fn shelf(row: &Row<'_>, column: usize) -> Result<Shelf, QueryError> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error: crate::domain::ids::BadId| QueryError::Row(error.to_string()))
}

fn moment(row: &Row<'_>, column: usize) -> Result<Option<Timestamp>, QueryError> {
    let microseconds: Option<i64> = row.get(column)?;
    microseconds
        .map(Timestamp::from_microsecond)
        .transpose()
        .map_err(|error| QueryError::Row(format!("a moment of the ledger: {error}")))
}
