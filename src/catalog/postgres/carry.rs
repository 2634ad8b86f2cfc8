//! All of the schema out, and all of another catalog in.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, pin_mut};
use tokio::sync::mpsc;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::error::{ServerError, Trouble};
use super::rows::{self, text, to_json};
use super::{PostgresCatalog, carry_outbox as outbox, catalog, ledger, queue};
use crate::catalog::carry::{
    Carried, Carry, Load, OF_NOTHING, PlaceEnd, bad_row, broken_off, not_empty, summary_of, summary_of_nothing,
    unreadable,
};
use crate::catalog::fold::kind;
use crate::domain::check::{Broke, Finding};
use crate::domain::queue::{EndedAs, Planned};
use crate::domain::run::EventId;

/// A large catalog takes its time; a server that is silent for so long within it does not.
const WITHIN: Duration = Duration::from_secs(3_600);

const COVERAGE: &str = "select at, covered, until, policy from coverage order by policy, at";
const LEDGER: &str = "
    select store, shelf, key, bytes, sealed_at, sealed_run, opened_at, wrong_since, wrong_at, wrong_depth, wrong_run, wrong::text, policy
    from ledger order by store, key";
const QUEUE: &str = "select planned::text, worker, token, until, ended_at, how from queue order by run";

#[async_trait]
impl Carry for PostgresCatalog {
    async fn export(&self, to: mpsc::Sender<Carried>) -> Result<(), Broke> {
        self.apart("export it", async {
            let client = self.own_session().await?;
            // As of one moment, however long it takes.
            client.batch_execute("begin isolation level repeatable read read only").await?;
            match send_all(&client, &to).await {
                // Who received has gone away, and knows why.
                Ok(()) | Err(Sending::Gone) => Ok(()),
                Err(Sending::Trouble(trouble)) => Err(trouble),
            }
        })
        .await
    }

    async fn inspect(&self) -> Result<Vec<Finding>, Broke> {
        self.apart("examine it", async {
            let client = self.own_session().await?;
            client.batch_execute("begin isolation level repeatable read read only").await?;
            let mut found = guards(&client).await?;
            let none: [&(dyn ToSql + Sync); 0] = [];
            let sql = "select event.seq, at, event.policy, run, body::text, kind, told.summary::text from event
                       left join drill_summary told on told.seq = event.seq and told.policy = event.policy order by event.seq";
            let rows = client.query_raw(sql, none).await?;
            pin_mut!(rows);
            while let Some(row) = rows.next().await {
                let row = row?;
                let told: String = row.try_get(5)?;
                let why = match rows::event(&row) {
                    Ok((_, _, _, event)) if kind(&event) == told => {
                        found.extend(summary_of(row.try_get(0)?, &event, row.try_get(6)?));
                        continue;
                    }
                    Ok(_) => format!("it is listed as `{told}`, and is none"),
                    Err(Trouble::Row(why)) => why,
                    Err(other) => return Err(other),
                };
                found.push(unreadable(row.try_get(0)?, why));
            }
            for row in &client.query(OF_NOTHING, &[]).await? {
                found.push(summary_of_nothing(row.try_get(0)?));
            }
            Ok(found)
        })
        .await
    }

    async fn import(&self, from: mpsc::Receiver<Load>) -> Result<u64, Broke> {
        self.apart("import into it", async {
            let client = self.own_session().await?;
            import(&client, from).await
        })
        .await
    }
}

impl PostgresCatalog {
    async fn apart<T>(
        &self,
        doing: &'static str,
        work: impl Future<Output = Result<T, Trouble>> + Send,
    ) -> Result<T, Broke> {
        match tokio::time::timeout(WITHIN, work).await {
            Ok(done) => done.map_err(|trouble| trouble.at(doing, &self.target)),
            Err(_) => Err(ServerError::Silent { target: self.target.clone(), doing, within: WITHIN }.into()),
        }
    }

    /// Of a schema of our version: the pool has looked.
    async fn own_session(&self) -> Result<Client, Trouble> {
        drop(self.lend().await?);
        let endpoint = self.link.endpoint().map_err(ServerError::from)?;
        self.link.session(&endpoint, WITHIN).await
    }
}

/// What keeps the tables append-only, and what makes them quick and unique: whether all of it is there and at work.
async fn guards(client: &Client) -> Result<Vec<Finding>, Trouble> {
    const TRIGGERS: [&str; 9] = [
        "event_is_never_changed",
        "event_is_never_emptied",
        "coverage_is_never_changed",
        "coverage_is_never_emptied",
        "queue_is_kept",
        "queue_is_never_emptied",
        "drill_is_summarized",
        "drill_summary_is_never_changed",
        "drill_summary_is_never_emptied",
    ];
    let enabled = client
        .query(
            "select t.tgname::text from pg_catalog.pg_trigger t join pg_catalog.pg_class c on c.oid = t.tgrelid
             where c.relnamespace = pg_catalog.current_schema()::regnamespace and t.tgenabled in ('O', 'A')",
            &[],
        )
        .await?;
    let enabled: Vec<String> = enabled.iter().map(|row| row.get(0)).collect();
    let missing = TRIGGERS.iter().filter(|name| enabled.iter().all(|there| there != *name));
    let mut found: Vec<Finding> = missing
        .map(|name| {
            Finding::new(
                "guard_missing",
                format!("trigger {name}"),
                "it is not there or is disabled: rows can be changed",
            )
        })
        .collect();
    let invalid = client
        .query(
            "select c.relname::text from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
             where c.relnamespace = pg_catalog.current_schema()::regnamespace and not (i.indisvalid and i.indisready)",
            &[],
        )
        .await?;
    let invalid = invalid.iter().map(|row| row.get::<_, String>(0));
    found.extend(
        invalid.map(|name| Finding::new("index_invalid", format!("index {name}"), "it is not valid: make it anew")),
    );
    Ok(found)
}

enum Sending {
    Gone,
    Trouble(Trouble),
}

impl<E: Into<Trouble>> From<E> for Sending {
    fn from(error: E) -> Sending {
        Sending::Trouble(error.into())
    }
}

async fn send_all(client: &Client, to: &mpsc::Sender<Carried>) -> Result<(), Sending> {
    send(client, to, "select seq, at, policy, run, body::text, id from event order by seq", |row| {
        let (policy, run, at, event) = rows::event(row)?;
        let id = row.try_get::<_, Option<Uuid>>(5)?.map(EventId);
        Ok(Carried::Event { id, at, policy, run, event: Box::new(event) })
    })
    .await?;
    send(client, to, COVERAGE, |row| {
        Ok(Carried::Covered { policy: text(row, 3)?, covered: catalog::covered_of(row, 0)? })
    })
    .await?;
    send(client, to, LEDGER, |row| Ok(Carried::Read { policy: text(row, 12)?, read: Box::new(ledger::read(row)?) }))
        .await?;
    send(client, to, QUEUE, |row| {
        let place = queue::place(row)?;
        let ended = match (row.try_get::<_, Option<i64>>(4)?, row.try_get::<_, Option<&str>>(5)?) {
            (Some(_), Some(how)) => {
                Some(PlaceEnd { at: rows::moment(row, 4)?, how: EndedAs::named(how).map_err(Trouble::Row)? })
            }
            _ => None,
        };
        Ok(Carried::Place { planned: Box::new(place.planned), ended, holder: place.holder })
    })
    .await?;
    send(client, to, "select policy, value from sequence_given order by policy", |row| {
        Ok(Carried::Sequence { policy: text(row, 0)?, given: row.try_get::<_, i64>(1)?.unsigned_abs() })
    })
    .await?;
    send(client, to, "select case when is_called then last_value else 0 end from queue_token", |row| {
        Ok(Carried::Token { given: row.try_get::<_, i64>(0)?.unsigned_abs() })
    })
    .await?;
    for (sql, carried) in outbox::CARRIED {
        send(client, to, sql, carried).await?;
    }
    Ok(())
}

/// Row by row: the driver holds back what nobody has taken yet.
async fn send(
    client: &Client,
    to: &mpsc::Sender<Carried>,
    sql: &str,
    carried: impl Fn(&Row) -> Result<Carried, Trouble>,
) -> Result<(), Sending> {
    let none: [&(dyn ToSql + Sync); 0] = [];
    let rows = client.query_raw(sql, none).await?;
    pin_mut!(rows);
    while let Some(row) = rows.next().await {
        let one = carried(&row?)?;
        to.send(one).await.map_err(|_| Sending::Gone)?;
    }
    Ok(())
}

async fn import(client: &Client, mut from: mpsc::Receiver<Load>) -> Result<u64, Trouble> {
    // Whoever else would write now waits, and then finds a catalog that is not empty.
    client
        .batch_execute(
            "begin; lock table event, coverage, ledger, queue, sequence_given, alarm, alarm_version, letter, post, drift_seen
                 in exclusive mode",
        )
        .await?;
    let filled = client
        .query_one(
            "select exists (select from event) or exists (select from coverage) or exists (select from ledger)
                 or exists (select from queue) or exists (select from sequence_given)
                 or exists (select from alarm) or exists (select from letter) or exists (select from post)
                 or exists (select from drift_seen)",
            &[],
        )
        .await?;
    if filled.get::<_, bool>(0) {
        return Err(Trouble::Other(not_empty()));
    }
    let insert = Insert::prepare(client).await?;
    // A sequence knows no transaction: it is set when all the rest is there.
    let (mut rows, mut token) = (0, None);
    loop {
        match from.recv().await {
            Some(Load::One(Carried::Token { given })) => {
                token = Some(i64::try_from(given).unwrap_or(i64::MAX));
                rows += 1;
            }
            Some(Load::One(carried)) => {
                insert.one(client, &carried).await.map_err(|trouble| match &trouble {
                    Trouble::Driver(error) if is_constraint(error) => {
                        Trouble::Other(bad_row(&crate::probe::root_cause(error)))
                    }
                    _ => trouble,
                })?;
                rows += 1;
            }
            Some(Load::All) => break,
            // The connection goes away with what was done.
            None => return Err(Trouble::Other(broken_off())),
        }
    }
    if let Some(given) = token {
        client.query_one("select setval('queue_token', greatest($1::int8, 1), $1::int8 > 0)", &[&given]).await?;
    }
    client.batch_execute("commit").await?;
    Ok(rows)
}

fn is_constraint(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code: &SqlState| code.code().starts_with("23") || code.code().starts_with("22"))
}

struct Insert {
    event: tokio_postgres::Statement,
    coverage: tokio_postgres::Statement,
    ledger: tokio_postgres::Statement,
    queue: tokio_postgres::Statement,
    sequence: tokio_postgres::Statement,
    outbox: outbox::Insert,
}

impl Insert {
    async fn prepare(client: &Client) -> Result<Insert, Trouble> {
        Ok(Insert {
            event: client
                .prepare("insert into event (id, at, policy, run, kind, body) values ($1, $2, $3, $4, $5, $6::text::jsonb)")
                .await?,
            coverage: client.prepare("insert into coverage (policy, at, covered, until) values ($1, $2, $3, $4)").await?,
            ledger: client
                .prepare(
                    "insert into ledger (store, key, policy, shelf, bytes, sealed_at, sealed_run, opened_at, wrong_since, wrong_at,
                                         wrong_depth, wrong_run, wrong)
                     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13::text::jsonb)",
                )
                .await?,
            queue: client
                .prepare(
                    "insert into queue (run, policy, work, scheduled_for, attempt, due_at, not_after, priority, alone_on, needs, planned,
                                        worker, token, until, ended, ended_at, how)
                     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text::jsonb, $12, $13, $14, $15, $16, $17)",
                )
                .await?,
            sequence: client.prepare("insert into sequence_given (policy, value) values ($1, $2)").await?,
            outbox: outbox::Insert::prepare(client).await?,
        })
    }

    async fn one(&self, client: &Client, carried: &Carried) -> Result<(), Trouble> {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        match carried {
            Carried::Event { id, at, policy, run, event } => {
                let (id, at, body) = (id.map(|id| id.0), at.to_string(), to_json(event)?);
                client.execute(&self.event, &[&id, &at, &policy.as_str(), &run.0, &kind(event), &body]).await?;
            }
            Carried::Covered { policy, covered } => {
                let until = covered.until.map(|lsn| lsn.to_string());
                let (at, reached) = (covered.at.as_microsecond(), covered.covered.as_microsecond());
                client.execute(&self.coverage, &[&policy.as_str(), &at, &reached, &until]).await?;
            }
            Carried::Read { policy, read } => {
                let micros = |at: Option<jiff::Timestamp>| at.map(jiff::Timestamp::as_microsecond);
                let wrong = read.wrong.as_ref();
                let finding = wrong.map(|wrong| to_json(&wrong.finding)).transpose()?;
                let with: [&(dyn ToSql + Sync); 13] = [
                    &read.store.as_str(),
                    &read.key,
                    &policy.as_str(),
                    &read.shelf.to_string(),
                    &number(read.bytes.0),
                    &micros(read.sealed_at),
                    &read.run.map(|run| run.0),
                    &micros(read.opened_at),
                    &micros(wrong.map(|wrong| wrong.since)),
                    &micros(wrong.map(|wrong| wrong.at)),
                    &wrong.map(|wrong| ledger::depth_number(wrong.depth)),
                    &wrong.and_then(|wrong| wrong.run).map(|run| run.0),
                    &finding,
                ];
                client.execute(&self.ledger, &with).await?;
            }
            Carried::Place { planned, ended, holder } => {
                let Planned { run, key, due_at, not_after, priority, alone_on, needs, caught_up: _ } = &**planned;
                let needs: Vec<&str> = needs.iter().map(|need| need.as_str()).collect();
                let with: [&(dyn ToSql + Sync); 17] = [
                    &run.0,
                    &key.policy.as_str(),
                    &to_json(&key.work)?,
                    &key.scheduled_for.as_microsecond(),
                    &i64::from(key.attempt),
                    &due_at.as_microsecond(),
                    &not_after.map(jiff::Timestamp::as_microsecond),
                    &i16::from(*priority),
                    alone_on,
                    &needs,
                    &to_json(&**planned)?,
                    &holder.as_ref().map(|holder| holder.worker.as_str()),
                    &holder.as_ref().map(|holder| number(holder.token)),
                    &holder.as_ref().map(|holder| holder.until.as_microsecond()),
                    &ended.is_some(),
                    &ended.map(|end| end.at.as_microsecond()),
                    &ended.map(|end| end.how.as_str()),
                ];
                client.execute(&self.queue, &with).await?;
            }
            Carried::Sequence { policy, given } => {
                client.execute(&self.sequence, &[&policy.as_str(), &number(*given)]).await?;
            }
            // The import itself sees to it, at its end.
            Carried::Token { .. } => {}
            Carried::Alarm(_) | Carried::Letter(_) | Carried::Post { .. } | Carried::DriftSeen { .. } => {
                self.outbox.one(client, carried).await?;
            }
        }
        Ok(())
    }
}
