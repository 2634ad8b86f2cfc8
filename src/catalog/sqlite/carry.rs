//! All of the file out, and all of another catalog in.

use std::path::Path;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, Row, Transaction, TransactionBehavior, params};
use tokio::sync::mpsc;

use super::{
    QueryError, SqliteCatalog, carry_outbox as outbox, coverage, ledger, open, policy_name, queue, read_event,
};
use crate::catalog::carry::{
    Carried, Carry, Load, OF_NOTHING, PlaceEnd, bad_row, broken_off, not_empty, summary_of, summary_of_nothing,
    unreadable,
};
use crate::catalog::error::CatalogError;
use crate::catalog::fold::{kind, portable};
use crate::domain::check::{Broke, Finding};
use crate::domain::queue::EndedAs;
use crate::domain::run::EventId;

#[async_trait]
impl Carry for SqliteCatalog {
    async fn export(&self, to: mpsc::Sender<Carried>) -> Result<(), Broke> {
        let path = self.path.clone();
        blocking(move || {
            // A connection of its own: the export is of one moment, however long it takes, and nobody waits for it.
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let sqlite = |error: rusqlite::Error| CatalogError::sqlite("export it", &path, &error);
            let mut connection = Connection::open_with_flags(&path, flags).map_err(sqlite)?;
            let transaction = connection.transaction().map_err(sqlite)?;
            match send_all(&transaction, &to) {
                // Who received has gone away, and knows why.
                Ok(()) | Err(Sending::Gone) => Ok(()),
                Err(Sending::Query(QueryError::Sqlite(error))) => Err(sqlite(error).into()),
                Err(Sending::Query(other)) => Err(other.at(&path).into()),
            }
        })
        .await
    }

    async fn inspect(&self) -> Result<Vec<Finding>, Broke> {
        self.with("examine it", |connection| {
            let mut found = Vec::new();
            let mut statement = connection.prepare("pragma integrity_check(20)")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let said: String = row.get(0)?;
                if said != "ok" {
                    found.push(Finding::new("file_damaged", "the catalog's file", said));
                }
            }
            let mut statement =
                connection.prepare(
                    "select event.seq, at, event.policy, run, body, kind, told.summary from event
                     left join drill_summary told on told.seq = event.seq and told.policy = event.policy order by event.seq",
                )?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let told: String = row.get(5)?;
                let why = match read_event(row) {
                    Ok((_, _, _, event)) if kind(&event) == told => {
                        found.extend(summary_of(row.get(0)?, &event, row.get::<_, Option<String>>(6)?.as_deref()));
                        continue;
                    }
                    Ok(_) => format!("it is listed as `{told}`, and is none"),
                    Err(QueryError::Row(why)) => why,
                    Err(other) => return Err(other),
                };
                found.push(unreadable(row.get(0)?, why));
            }
            let mut statement = connection.prepare(OF_NOTHING)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                found.push(summary_of_nothing(row.get(0)?));
            }
            Ok(found)
        })
        .await
    }

    async fn import(&self, from: mpsc::Receiver<Load>) -> Result<u64, Broke> {
        let path = self.path.clone();
        blocking(move || import(&path, from)).await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Broke> + Send + 'static) -> Result<T, Broke> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Broke::from(CatalogError::Stopped))?
}

enum Sending {
    Gone,
    Query(QueryError),
}

impl<E: Into<QueryError>> From<E> for Sending {
    fn from(error: E) -> Sending {
        Sending::Query(error.into())
    }
}

fn send_all(transaction: &Transaction<'_>, to: &mpsc::Sender<Carried>) -> Result<(), Sending> {
    send(transaction, to, "select seq, at, policy, run, body, id from event order by seq", |row| {
        let (policy, run, at, event) = read_event(row)?;
        let id: Option<String> = row.get(5)?;
        let id = id.map(|id| id.parse().map(EventId)).transpose();
        let id = id.map_err(|error| QueryError::Row(format!("the name of an event: {error}")))?;
        Ok(Carried::Event { id, at, policy, run, event: Box::new(event) })
    })?;
    send(transaction, to, "select at, covered, until, policy from coverage order by policy, at", |row| {
        Ok(Carried::Covered { policy: policy_name(&row.get::<_, String>(3)?)?, covered: coverage::read(row)? })
    })?;
    let sql = format!("select {}, policy from ledger order by store, key", ledger::COLUMNS);
    send(transaction, to, &sql, |row| {
        Ok(Carried::Read { policy: policy_name(&row.get::<_, String>(12)?)?, read: Box::new(ledger::read(row)?) })
    })?;
    send(transaction, to, "select planned, worker, token, until, ended_at, how from queue order by run", |row| {
        let place = queue::place(row)?;
        let ended = match (row.get::<_, Option<i64>>(4)?, row.get::<_, Option<String>>(5)?) {
            (Some(at), Some(how)) => {
                Some(PlaceEnd { at: queue::moment(at)?, how: EndedAs::named(&how).map_err(QueryError::Row)? })
            }
            _ => None,
        };
        Ok(Carried::Place { planned: Box::new(place.planned), ended, holder: place.holder })
    })?;
    send(transaction, to, "select policy, value from sequence_given order by policy", |row| {
        let given = row.get::<_, i64>(1)?.unsigned_abs();
        Ok(Carried::Sequence { policy: policy_name(&row.get::<_, String>(0)?)?, given })
    })?;
    send(transaction, to, "select value from counter where name = 'token'", |row| {
        Ok(Carried::Token { given: row.get::<_, i64>(0)?.unsigned_abs() })
    })?;
    for (sql, carried) in outbox::CARRIED {
        send(transaction, to, sql, carried)?;
    }
    Ok(())
}

fn send(
    transaction: &Transaction<'_>,
    to: &mpsc::Sender<Carried>,
    sql: &str,
    carried: impl Fn(&Row<'_>) -> Result<Carried, QueryError>,
) -> Result<(), Sending> {
    let mut statement = transaction.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        to.blocking_send(carried(row)?).map_err(|_| Sending::Gone)?;
    }
    Ok(())
}

fn import(path: &Path, mut from: mpsc::Receiver<Load>) -> Result<u64, Broke> {
    let sqlite = |error: rusqlite::Error| Broke::from(CatalogError::sqlite("import into it", path, &error));
    let mut connection = open(path)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
    let filled: bool = transaction
        .query_row(
            "select exists (select 1 from event) or exists (select 1 from coverage) or exists (select 1 from ledger)
                 or exists (select 1 from queue) or exists (select 1 from sequence_given)
                 or exists (select 1 from alarm) or exists (select 1 from letter) or exists (select 1 from post)
                 or exists (select 1 from drift_seen)",
            [],
            |row| row.get(0),
        )
        .map_err(sqlite)?;
    if filled {
        return Err(not_empty());
    }
    let mut rows = 0;
    loop {
        match from.blocking_recv() {
            Some(Load::One(carried)) => {
                insert(&transaction, &carried).map_err(|error| match error {
                    QueryError::Sqlite(error)
                        if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) =>
                    {
                        bad_row(&error.to_string())
                    }
                    QueryError::Sqlite(error) => sqlite(error),
                    other => other.at(path).into(),
                })?;
                rows += 1;
            }
            Some(Load::All) => break,
            None => return Err(broken_off()),
        }
    }
    transaction.commit().map_err(sqlite)?;
    Ok(rows)
}

fn insert(transaction: &Transaction<'_>, carried: &Carried) -> Result<(), QueryError> {
    let micros = |at: Option<Timestamp>| at.map(Timestamp::as_microsecond);
    match carried {
        Carried::Event { id, at, policy, run, event } => {
            let body = portable(event).map_err(QueryError::Event)?;
            let id = id.map(|id| id.to_string());
            transaction
                .prepare_cached("insert into event (id, at, policy, run, kind, body) values (?1, ?2, ?3, ?4, ?5, ?6)")?
                .execute(params![id, at.to_string(), policy.as_str(), run.to_string(), kind(event), body])?;
        }
        Carried::Covered { policy, covered } => {
            let until = covered.until.map(|lsn| lsn.to_string());
            let times = (covered.at.as_microsecond(), covered.covered.as_microsecond());
            transaction
                .prepare_cached("insert into coverage (policy, at, covered, until) values (?1, ?2, ?3, ?4)")?
                .execute(params![policy.as_str(), times.0, times.1, until])?;
        }
        Carried::Read { policy, read } => {
            let wrong = read.wrong.as_ref();
            let finding = wrong.map(|wrong| portable(&wrong.finding)).transpose().map_err(QueryError::Event)?;
            transaction
                .prepare_cached(
                    "insert into ledger (store, key, policy, shelf, bytes, sealed_at, sealed_run, opened_at, wrong_since, wrong_at,
                                         wrong_depth, wrong_run, wrong)
                     values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
                )?
                .execute(params![
                    read.store.as_str(),
                    read.key,
                    policy.as_str(),
                    read.shelf.to_string(),
                    i64::try_from(read.bytes.0).unwrap_or(i64::MAX),
                    micros(read.sealed_at),
                    read.run.map(|run| run.to_string()),
                    micros(read.opened_at),
                    micros(wrong.map(|wrong| wrong.since)),
                    micros(wrong.map(|wrong| wrong.at)),
                    wrong.map(|wrong| ledger::number(wrong.depth)),
                    wrong.and_then(|wrong| wrong.run).map(|run| run.to_string()),
                    finding,
                ])?;
        }
        Carried::Place { planned, ended, holder } => {
            if !queue::insert_place(transaction, planned)? {
                return Err(QueryError::Row("a run is planned twice".to_owned()));
            }
            let run = planned.run.to_string();
            if let Some(holder) = holder {
                let token = i64::try_from(holder.token).unwrap_or(i64::MAX);
                transaction
                    .prepare_cached("update queue set worker = ?2, token = ?3, until = ?4 where run = ?1")?
                    .execute(params![run, holder.worker, token, holder.until.as_microsecond()])?;
            }
            if let Some(PlaceEnd { at, how }) = ended {
                queue::end(transaction, &run, *at, *how)?;
            }
        }
        Carried::Sequence { policy, given } => {
            let given = i64::try_from(*given).unwrap_or(i64::MAX);
            transaction
                .prepare_cached("insert into sequence_given (policy, value) values (?1, ?2)")?
                .execute(params![policy.as_str(), given])?;
        }
        Carried::Token { given } => {
            let given = i64::try_from(*given).unwrap_or(i64::MAX);
            transaction.prepare_cached("update counter set value = ?1 where name = 'token'")?.execute([given])?;
        }
        Carried::Alarm(_) | Carried::Letter(_) | Carried::Post { .. } | Carried::DriftSeen { .. } => {
            outbox::insert(transaction, carried)?;
        }
    }
    Ok(())
}
