//! The queue in the same file: each call is one immediate transaction, so what it decides is still so when it writes.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{QueryError, SqliteCatalog, insert, insert_once, policy_name, run_id};
use crate::catalog::Queue;
use crate::catalog::error::CatalogError;
use crate::domain::check::Broke;
use crate::domain::ids::RunId;
use crate::domain::queue::{CaughtUp, Claim, Ended, EndedAs, Hold, Holder, Place, Planned, PlannedUpTo, Tally, Worker};
use crate::domain::run::{Event, EventId, Work};
use crate::domain::units::Span;

/// How often the file is looked at for changes that other processes made.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The order in which runs are claimed.
const ORDER: &str = "priority, due_at, run";

/// The next run for a worker. Of what must be had alone, a claimed run has it until its claim ends, even when its lease ran out.
const NEXT: &str = "
    select run, planned from queue waits
    where ended = 0 and token is null and due_at <= ?1 and coalesce(not_after >= ?1, 1)
      and not exists (select 1 from json_each(needs) need
                      where need.value not in (select label.value from json_each(?2) label))
      and not exists (select 1 from queue held where held.token is not null and held.alone_on = waits.alone_on)
    order by priority, due_at, run limit 1";

/// What ended and was not done, and has no further attempt; the words are those of the index.
const UNDONE: &str = "
    select ended_no, planned, ended_at, how from queue gone
    where how in ('unproven', 'broke', 'abandoned', 'missed') and ended_no > ?1
      and not exists (select 1 from queue next where next.policy = gone.policy and next.work = gone.work
                      and next.scheduled_for = gone.scheduled_for and next.attempt = gone.attempt + 1)
    order by ended_no";

impl SqliteCatalog {
    /// Those that are claimed, and those whose instant is not after a moment.
    async fn places_by(&self, by: i64) -> Result<Vec<Place>, Broke> {
        self.with("read the queue", move |connection| {
            let sql = format!(
                "select planned, worker, token, until from queue
                 where ended = 0 and (token is not null or scheduled_for <= ?1) order by token is null, {ORDER}"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query([by])?;
            let mut places = Vec::new();
            while let Some(row) = rows.next()? {
                places.push(place(row)?);
            }
            Ok(places)
        })
        .await
    }
}

#[async_trait]
impl Queue for SqliteCatalog {
    async fn now(&self) -> Result<Timestamp, Broke> {
        Ok(crate::clock::now())
    }

    async fn plan(&self, at: Timestamp, runs: Vec<Planned>) -> Result<Vec<RunId>, Broke> {
        self.change("plan runs", move |transaction| {
            let mut new = Vec::new();
            for planned in &runs {
                if plan(transaction, at, planned)? {
                    new.push(planned.run);
                }
            }
            Ok(new)
        })
        .await
    }

    async fn planned_up_to(&self) -> Result<Vec<PlannedUpTo>, Broke> {
        self.with("read what was planned", |connection| {
            let sql = "select policy, work, max(scheduled_for) from queue group by policy, work order by policy, work";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query([])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let policy = policy_name(&row.get::<_, String>(0)?)?;
                let work: Work = parse(&row.get::<_, String>(1)?)?;
                found.push(PlannedUpTo { policy, work, instant: moment(row.get(2)?)? });
            }
            Ok(found)
        })
        .await
    }

    async fn claim(&self, at: Timestamp, worker: &Worker, lease: Span) -> Result<Option<Claim>, Broke> {
        let worker = worker.clone();
        self.with("claim a run", move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let claim = claim(&transaction, at, &worker, lease)?;
            transaction.commit()?;
            Ok(claim)
        })
        .await
    }

    async fn renew(&self, at: Timestamp, claim: &Claim, lease: Span) -> Result<Hold, Broke> {
        let (run, token) = (claim.planned.run.to_string(), number(claim.token)?);
        self.with("renew a lease", move |connection| {
            let until = end_of(at, lease)?.as_microsecond();
            let sql = "update queue set until = ?3, lease = ?4 where run = ?1 and token = ?2";
            let lease = until - at.as_microsecond();
            Ok(hold(connection.prepare_cached(sql)?.execute(params![run, token, until, lease])?))
        })
        .await
    }

    async fn append_held(&self, at: Timestamp, claim: &Claim, id: EventId, event: Event) -> Result<Hold, Broke> {
        let (run, policy, token) = (claim.planned.run, claim.planned.key.policy.clone(), number(claim.token)?);
        self.change("write an event of a claimed run", move |transaction| {
            if !is_held(transaction, run, token)? {
                let sql = "select exists (select 1 from event where id = ?1 and run = ?2)";
                let known: bool = transaction
                    .prepare_cached(sql)?
                    .query_row(params![id.to_string(), run.to_string()], |row| row.get(0))?;
                return Ok(if known { Hold::Held } else { Hold::Lost });
            }
            insert_once(transaction, id, at, &policy, run, &event)?;
            Ok(Hold::Held)
        })
        .await
    }

    async fn let_go(&self, claim: &Claim) -> Result<Hold, Broke> {
        let (run, token) = (claim.planned.run, number(claim.token)?);
        let held = self
            .change("give a run back", move |transaction| {
                if !is_held(transaction, run, token)? {
                    return Ok(Some(Hold::Lost));
                }
                let run = run.to_string();
                let begun: bool = transaction.query_row(
                    "select exists (select 1 from event where run = ?1 and kind = 'started')",
                    [&run],
                    |row| row.get(0),
                )?;
                if begun {
                    return Ok(None);
                }
                transaction
                    .prepare_cached(
                        "update queue set worker = null, token = null, until = null, lease = null where run = ?1",
                    )?
                    .execute([run])?;
                Ok(Some(Hold::Held))
            })
            .await?;
        held.ok_or_else(|| CatalogError::Begun { run }.into())
    }

    async fn lapse(&self, at: Timestamp) -> Result<Vec<RunId>, Broke> {
        self.change("give up lapsed runs", move |transaction| lapse(transaction, at)).await
    }

    async fn miss(&self, at: Timestamp, run: RunId, why: String) -> Result<bool, Broke> {
        self.change("give up a waiting run", move |transaction| {
            let policy: Option<String> = transaction
                .prepare_cached("select policy from queue where run = ?1 and ended = 0 and token is null")?
                .query_row([run.to_string()], |row| row.get(0))
                .optional()?;
            let Some(policy) = policy else { return Ok(false) };
            insert(transaction, at, &policy_name(&policy)?, run, &Event::Missed { why })?;
            Ok(true)
        })
        .await
    }

    async fn places(&self) -> Result<Vec<Place>, Broke> {
        self.places_by(i64::MAX).await
    }

    async fn places_come(&self, by: Timestamp) -> Result<Vec<Place>, Broke> {
        self.places_by(by.as_microsecond()).await
    }

    async fn tally(&self) -> Result<Tally, Broke> {
        self.with("count what waits", |connection| {
            let mut statement =
                connection.prepare_cached("select due_at, token is not null from queue where ended = 0")?;
            let mut rows = statement.query([])?;
            let mut tally = Tally::default();
            while let Some(row) = rows.next()? {
                match row.get(1)? {
                    true => tally.running += 1,
                    false => tally.due_at.push(moment(row.get(0)?)?),
                }
            }
            Ok(tally)
        })
        .await
    }

    async fn undone(&self, after: Option<u64>, at_most: u32) -> Result<Vec<Ended>, Broke> {
        let since = number(after.unwrap_or(0))?;
        let direction = if after.is_some() { "asc" } else { "desc" };
        self.with("read what ended", move |connection| {
            let sql = format!("{UNDONE} {direction} limit ?2");
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query(params![since, at_most])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(Ended {
                    number: row.get::<_, i64>(0)?.unsigned_abs(),
                    planned: parse(&row.get::<_, String>(1)?)?,
                    at: moment(row.get(2)?)?,
                    how: EndedAs::named(&row.get::<_, String>(3)?).map_err(QueryError::Row)?,
                });
            }
            found.sort_by_key(|one| one.number);
            Ok(found)
        })
        .await
    }

    async fn wait(&self, at_most: Duration) {
        let mut own = self.changes.subscribe();
        let others = async {
            let before = self.version().await;
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                // A file that cannot be looked at is no change; the caller will see for itself.
                if self.version().await != before {
                    return;
                }
            }
        };
        tokio::select! {
            _ = own.changed() => {}
            () = others => {}
            () = tokio::time::sleep(at_most) => {}
        }
    }
}

impl SqliteCatalog {
    /// One immediate transaction that may change the queue; whoever waits in this process is told.
    async fn change<T, F>(&self, doing: &'static str, work: F) -> Result<T, Broke>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, QueryError> + Send + 'static,
    {
        let done = self
            .with(doing, move |connection| {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let value = work(&transaction)?;
                transaction.commit()?;
                Ok(value)
            })
            .await?;
        self.changed();
        Ok(done)
    }

    /// Somebody in this process changed the queue.
    pub(super) fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Changes when another connection has written to the file.
    async fn version(&self) -> Option<i64> {
        self.with("look for changes", |connection| {
            Ok(connection.pragma_query_value(None, "data_version", |row| row.get(0))?)
        })
        .await
        .ok()
    }
}

/// `planned, worker, token, until`.
pub(super) fn place(row: &rusqlite::Row<'_>) -> Result<Place, QueryError> {
    let holder = match row.get::<_, Option<String>>(1)? {
        None => None,
        Some(worker) => {
            Some(Holder { worker, token: row.get::<_, i64>(2)?.unsigned_abs(), until: moment(row.get(3)?)? })
        }
    };
    Ok(Place { planned: parse(&row.get::<_, String>(0)?)?, holder })
}

/// Whether it is new.
fn plan(transaction: &Transaction<'_>, at: Timestamp, planned: &Planned) -> Result<bool, QueryError> {
    if !insert_place(transaction, planned)? {
        return Ok(false);
    }
    let key = &planned.key;
    let event = Event::Planned { work: key.work.clone(), scheduled_for: Some(key.scheduled_for) };
    insert(transaction, at, &key.policy, planned.run, &event)?;
    if let Some(CaughtUp { instants, since }) = planned.caught_up.clone() {
        insert(transaction, at, &key.policy, planned.run, &Event::CaughtUp { instants, since })?;
    }
    Ok(true)
}

/// The place alone; whether its key is new.
pub(super) fn insert_place(transaction: &Transaction<'_>, planned: &Planned) -> Result<bool, QueryError> {
    let key = &planned.key;
    let inserted = transaction
        .prepare_cached(
            "insert into queue (run, policy, work, scheduled_for, attempt, due_at, not_after, priority, alone_on, needs, planned)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
             on conflict (policy, work, scheduled_for, attempt) do nothing",
        )?
        .execute(params![
            planned.run.to_string(),
            key.policy.as_str(),
            portable_json(&key.work)?,
            key.scheduled_for.as_microsecond(),
            key.attempt,
            planned.due_at.as_microsecond(),
            planned.not_after.map(Timestamp::as_microsecond),
            planned.priority,
            planned.alone_on,
            json(&planned.needs)?,
            portable_json(planned)?,
        ])?;
    Ok(inserted == 1)
}

fn claim(
    transaction: &Transaction<'_>,
    at: Timestamp,
    worker: &Worker,
    lease: Span,
) -> Result<Option<Claim>, QueryError> {
    let next: Option<(String, String)> = transaction
        .prepare_cached(NEXT)?
        .query_row(params![at.as_microsecond(), json(&worker.labels)?], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((run, planned)) = next else { return Ok(None) };
    let token: i64 = transaction
        .prepare_cached("update counter set value = value + 1 where name = 'token' returning value")?
        .query_row([], |row| row.get(0))?;
    let until = end_of(at, lease)?;
    transaction
        .prepare_cached("update queue set worker = ?2, token = ?3, until = ?4, lease = ?5 where run = ?1")?
        .execute(params![
            run,
            worker.name,
            token,
            until.as_microsecond(),
            until.as_microsecond() - at.as_microsecond()
        ])?;
    Ok(Some(Claim { planned: parse(&planned)?, token: token.unsigned_abs(), until }))
}

fn lapse(transaction: &Transaction<'_>, at: Timestamp) -> Result<Vec<RunId>, QueryError> {
    let sql = format!(
        "select run, policy, worker, until from queue indexed by queue_held
         where token is not null and (until < ?1 or until - 2 * lease > ?1) order by {ORDER}"
    );
    let lapsed: Vec<(String, String, String, i64)> = transaction
        .prepare_cached(&sql)?
        .query_map([at.as_microsecond()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
        .collect::<Result<_, _>>()?;
    let mut runs = Vec::new();
    for (run, policy, worker, until) in lapsed {
        let run = run_id(&run)?;
        let why = crate::catalog::queue::lapsed(&worker, moment(until)?, at);
        insert(transaction, at, &policy_name(&policy)?, run, &Event::Abandoned { why })?;
        runs.push(run);
    }
    Ok(runs)
}

/// Ends the place of a run, if it has one.
pub(super) fn end(connection: &Connection, run: &str, at: Timestamp, how: EndedAs) -> Result<(), QueryError> {
    connection
        .prepare_cached(
            "update queue set ended = 1, ended_at = ?2, how = ?3, worker = null, token = null, until = null, lease = null
             where run = ?1 and ended = 0",
        )?
        .execute(params![run, at.as_microsecond(), how.as_str()])?;
    Ok(())
}

fn is_held(transaction: &Transaction<'_>, run: RunId, token: i64) -> Result<bool, QueryError> {
    let sql = "select exists (select 1 from queue where run = ?1 and token = ?2)";
    Ok(transaction.prepare_cached(sql)?.query_row(params![run.to_string(), token], |row| row.get(0))?)
}

fn hold(changed: usize) -> Hold {
    if changed == 1 { Hold::Held } else { Hold::Lost }
}

/// When a lease ends, as precisely as it is kept.
fn end_of(at: Timestamp, lease: Span) -> Result<Timestamp, QueryError> {
    let end = at.checked_add(lease.0).map_err(|error| QueryError::Row(format!("the end of a lease: {error}")))?;
    moment(end.as_microsecond())
}

fn number(token: u64) -> Result<i64, Broke> {
    i64::try_from(token).map_err(|_| Broke::new(format!("{token} is the token of no claim")))
}

pub(super) fn moment(microseconds: i64) -> Result<Timestamp, QueryError> {
    Timestamp::from_microsecond(microseconds)
        .map_err(|error| QueryError::Row(format!("a moment of the queue: {error}")))
}

fn json<T: serde::Serialize>(value: &T) -> Result<String, QueryError> {
    serde_json::to_string(value).map_err(QueryError::Event)
}

fn portable_json<T: serde::Serialize>(value: &T) -> Result<String, QueryError> {
    crate::catalog::fold::portable(value).map_err(QueryError::Event)
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, QueryError> {
    serde_json::from_str(text).map_err(|error| QueryError::Row(format!("a place in the queue: {error}")))
}
