//! What was read back from the stores, when, and what was wrong: the same rules as in SQLite.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::error::Trouble;
use super::link::Lent;
use super::rows::{json, maybe_moment, text, to_json};
use crate::domain::ids::{PlaceName, PolicyName, RunId};
use crate::domain::ledger::{Depth, LastRead, Reading, Shelf, ShelfRead, Wrong};
use crate::domain::units::ByteSize;

/// A right reading clears what was wrong only if it was as deep: bytes that are as they were stored say nothing of what is in them.
const RIGHT: &str = "
    insert into ledger (store, key, policy, shelf, bytes, sealed_at, sealed_run, opened_at)
    values ($1, $2, $3, $4, $5, $6::int8, $7, case when $8::int2 = 1 then $6::int8 end)
    on conflict (store, key) do update set policy = excluded.policy, shelf = excluded.shelf, bytes = excluded.bytes,
        sealed_at = excluded.sealed_at, sealed_run = excluded.sealed_run,
        opened_at = coalesce(excluded.opened_at, ledger.opened_at),
        wrong_since = case when ledger.wrong_depth > $8 then ledger.wrong_since end,
        wrong_at = case when ledger.wrong_depth > $8 then ledger.wrong_at end,
        wrong_run = case when ledger.wrong_depth > $8 then ledger.wrong_run end,
        wrong = case when ledger.wrong_depth > $8 then ledger.wrong end,
        wrong_depth = case when ledger.wrong_depth > $8 then ledger.wrong_depth end";

/// Since when it is wrong is what was known first; of two depths the deeper must be right again.
const WRONG: &str = "
    insert into ledger (store, key, policy, shelf, bytes, wrong_since, wrong_at, wrong_run, wrong_depth, wrong)
    values ($1, $2, $3, $4, $5, $6::int8, $6::int8, $7, $8::int2, $9::text::jsonb)
    on conflict (store, key) do update set policy = excluded.policy, shelf = excluded.shelf,
        bytes = greatest(ledger.bytes, excluded.bytes), wrong_since = coalesce(ledger.wrong_since, excluded.wrong_since),
        wrong_at = excluded.wrong_at, wrong_run = excluded.wrong_run,
        wrong_depth = greatest(coalesce(ledger.wrong_depth, 0::int2), excluded.wrong_depth), wrong = excluded.wrong";

/// Whether something newer is known: see SQLite's.
const NEWER: &str = "
    select case when $5::bool then coalesce(opened_at > $3, false) or ($4::int2 = 0 and coalesce(sealed_at > $3, false))
                else coalesce(sealed_at > $3, false) or coalesce(wrong_at > $3, false) end
    from ledger where store = $1 and key = $2 for update";

/// All of them or none; late ones not where something newer is known.
pub(super) async fn write(lent: &Lent, readings: &[Reading], late: bool) -> Result<(), Trouble> {
    // In one order, whoever writes: two who wrote the same objects in different orders would wait for each other for ever.
    let mut order: Vec<&Reading> = readings.iter().collect();
    order.sort_by(|a, b| (&a.store, &a.key).cmp(&(&b.store, &b.key)));
    lent.begin().await?;
    for one in order {
        let (store, policy, shelf) = (one.store.as_str(), one.policy.as_str(), one.shelf.to_string());
        let (at, depth) = (one.at.as_microsecond(), depth_number(one.depth));
        if late {
            let asked: [&(dyn ToSql + Sync); 5] = [&store, &one.key, &at, &depth, &one.finding.is_some()];
            let newer = lent.row(NEWER, &asked).await?.map(|row| row.try_get::<_, bool>(0)).transpose()?;
            if newer == Some(true) {
                continue;
            }
        }
        let (bytes, run) = (i64::try_from(one.bytes.0).unwrap_or(i64::MAX), one.run.map(|run| run.0));
        match &one.finding {
            None => lent.execute(RIGHT, &[&store, &one.key, &policy, &shelf, &bytes, &at, &run, &depth]).await?,
            Some(finding) => {
                let finding = to_json(finding)?;
                lent.execute(WRONG, &[&store, &one.key, &policy, &shelf, &bytes, &at, &run, &depth, &finding]).await?
            }
        };
    }
    lent.commit().await
}

/// Of one shelf, by key.
pub(super) async fn of_shelf(
    lent: &Lent,
    policy: &PolicyName,
    store: &PlaceName,
    shelf: &Shelf,
) -> Result<Vec<LastRead>, Trouble> {
    const SQL: &str = "
        select store, shelf, key, bytes, sealed_at, sealed_run, opened_at, wrong_since, wrong_at, wrong_depth, wrong_run, wrong::text
        from ledger where policy = $1 and store = $2 and shelf = $3 order by key";
    lent.rows(SQL, &[&policy.as_str(), &store.as_str(), &shelf.to_string()]).await?.iter().map(read).collect()
}

/// Objects that are wrong, by store and key.
pub(super) async fn wrong(lent: &Lent, policy: &PolicyName) -> Result<Vec<LastRead>, Trouble> {
    const SQL: &str = "
        select store, shelf, key, bytes, sealed_at, sealed_run, opened_at, wrong_since, wrong_at, wrong_depth, wrong_run, wrong::text
        from ledger where policy = $1 and wrong is not null order by store, key";
    lent.rows(SQL, &[&policy.as_str()]).await?.iter().map(read).collect()
}

/// The sums of a shelf, from this column on.
pub(super) fn shelf_read(row: &Row, from: usize) -> Result<ShelfRead, Trouble> {
    let unsigned = |column: usize| row.try_get::<_, i64>(from + column).map(i64::unsigned_abs);
    Ok(ShelfRead {
        store: text(row, from)?,
        shelf: text(row, from + 1)?,
        objects: unsigned(2)?,
        bytes: ByteSize(unsigned(3)?),
        recent: ByteSize(unsigned(4)?),
        oldest: maybe_moment(row, from + 5)?,
        wrong: unsigned(6)?,
    })
}

pub(super) fn read(row: &Row) -> Result<LastRead, Trouble> {
    let run = |column: usize| Ok::<_, Trouble>(row.try_get::<_, Option<Uuid>>(column)?.map(RunId));
    let wrong = match (maybe_moment(row, 7)?, maybe_moment(row, 8)?, row.try_get::<_, Option<&str>>(11)?) {
        (Some(since), Some(at), Some(finding)) => Some(Wrong {
            since,
            at,
            depth: if row.try_get::<_, Option<i16>>(9)? == Some(1) { Depth::Opened } else { Depth::Sealed },
            run: run(10)?,
            finding: json(finding)?,
        }),
        _ => None,
    };
    Ok(LastRead {
        store: text(row, 0)?,
        shelf: text(row, 1)?,
        key: row.try_get(2)?,
        bytes: ByteSize(row.try_get::<_, i64>(3)?.unsigned_abs()),
        sealed_at: maybe_moment(row, 4)?,
        opened_at: maybe_moment(row, 6)?,
        run: run(5)?,
        wrong,
    })
}

pub(super) fn depth_number(depth: Depth) -> i16 {
    match depth {
        Depth::Sealed => 0,
        Depth::Opened => 1,
    }
}
