//! The outbox in a SQLite file.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::{QueryError, SqliteCatalog, policy_name, sql_limit};
use crate::catalog::outbox::{Changed, DriftSeen, Held, KnownAlarms, Outbox};
use crate::domain::alarm::{Alarm, Letter, LetterId, Post, PostCount, Waiting};
use crate::domain::check::Broke;
use crate::domain::drift::Drift;
use crate::domain::ids::{PlaceName, PolicyName};
use crate::domain::queue::Hold;
use crate::domain::units::Span;

/// How long a letter that is done is kept, to be looked at.
const KEPT_DAYS: i64 = 30;

#[async_trait]
impl Outbox for SqliteCatalog {
    async fn alarms(&self) -> Result<KnownAlarms, Broke> {
        self.with("read alarms", |connection| {
            let transaction = connection.transaction()?;
            let version = version(&transaction)?;
            let mut statement = transaction.prepare_cached("select body from alarm order by key")?;
            let mut rows = statement.query([])?;
            let mut alarms = Vec::new();
            while let Some(row) = rows.next()? {
                alarms.push(json::<Alarm>(&row.get::<_, String>(0)?)?);
            }
            Ok(KnownAlarms { version, alarms })
        })
        .await
    }

    async fn settle(&self, at_version: u64, changed: Vec<Alarm>, letters: Vec<Letter>) -> Result<bool, Broke> {
        self.with("write alarms", move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if version(&transaction)? != at_version {
                return Ok(false);
            }
            transaction.execute("update alarm_version set version = version + 1", [])?;
            for alarm in &changed {
                transaction
                    .prepare_cached("insert into alarm (key, body) values (?1, ?2) on conflict (key) do update set body = excluded.body")?
                    .execute(params![alarm.what.key.to_string(), text(alarm)?])?;
            }
            for letter in &letters {
                transaction
                    .prepare_cached("insert into letter (id, notifier, body, at, next_try) values (?1, ?2, ?3, ?4, ?4)")?
                    .execute(params![letter.id.to_string(), letter.to.as_str(), text(letter)?, letter.at.as_microsecond()])?;
            }
            transaction.commit()?;
            Ok(true)
        })
        .await
    }

    async fn take(&self, to: &PlaceName, at: Timestamp, hold: Span) -> Result<Option<Held>, Broke> {
        let to = to.as_str().to_owned();
        let (now, until) = (at.as_microsecond(), at.checked_add(hold.0).unwrap_or(Timestamp::MAX).as_microsecond());
        self.with("take a letter", move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let oldest = transaction
                .prepare_cached(
                    "select seq, body, tries, next_try, last_error, held_until, token from letter
                     where notifier = ?1 and done_at is null order by seq limit 1",
                )?
                .query_row([&to], |row| {
                    Ok((row.get::<_, i64>(0)?, waiting(row), row.get::<_, Option<i64>>(5)?, row.get::<_, i64>(6)?))
                })
                .optional()?;
            let Some((seq, waiting, held_until, token)) = oldest else { return Ok(None) };
            let waiting = waiting?;
            if waiting.next_try.as_microsecond() > now || held_until.is_some_and(|until| until > now) {
                return Ok(None);
            }
            transaction
                .prepare_cached(
                    "update letter set held_until = ?2, token = token + 1, tries = tries + 1 where seq = ?1",
                )?
                .execute(params![seq, until])?;
            transaction.commit()?;
            let tries = waiting.tries.saturating_add(1);
            Ok(Some(Held { waiting: Waiting { tries, ..waiting }, token: number(token)?.saturating_add(1) }))
        })
        .await
    }

    async fn delivered(&self, held: &Held, at: Timestamp, answer: &str) -> Result<Hold, Broke> {
        let (held, answer) = (held.clone(), answer.to_owned());
        self.with("mark a letter as delivered", move |connection| end(connection, &held, at, "delivered", &answer))
            .await
    }

    async fn put_off(&self, held: &Held, next_try: Timestamp, why: &str) -> Result<Hold, Broke> {
        let (held, why) = (held.clone(), why.to_owned());
        self.with("put a letter off", move |connection| {
            let changed = connection
                .prepare_cached(
                    "update letter set held_until = null, next_try = ?3, last_error = ?4
                     where id = ?1 and token = ?2 and done_at is null",
                )?
                .execute(params![
                    held.waiting.letter.id.to_string(),
                    sql_number(held.token),
                    next_try.as_microsecond(),
                    why
                ])?;
            Ok(if changed == 1 { Hold::Held } else { Hold::Lost })
        })
        .await
    }

    async fn give_up(&self, held: &Held, at: Timestamp, why: &str) -> Result<Hold, Broke> {
        let (held, why) = (held.clone(), why.to_owned());
        self.with("give a letter up", move |connection| end(connection, &held, at, "given_up", &why)).await
    }

    async fn waiting(&self, limit: usize) -> Result<Vec<Waiting>, Broke> {
        self.with("read waiting letters", move |connection| {
            let mut statement = connection.prepare_cached(
                "select seq, body, tries, next_try, last_error from letter where done_at is null order by seq limit ?1",
            )?;
            let mut rows = statement.query([sql_limit(limit)])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(waiting(row)?);
            }
            Ok(found)
        })
        .await
    }

    async fn given_up(&self, limit: usize) -> Result<Vec<(LetterId, PlaceName, Timestamp, String)>, Broke> {
        self.with("read letters that were given up", move |connection| {
            let mut statement = connection.prepare_cached(
                "select body, done_at, coalesce(answer, '') from letter where outcome = 'given_up' order by seq desc limit ?1",
            )?;
            let mut rows = statement.query([sql_limit(limit)])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let letter: Letter = json(&row.get::<_, String>(0)?)?;
                found.push((letter.id, letter.to, moment(row.get(1)?)?, row.get(2)?));
            }
            Ok(found)
        })
        .await
    }

    async fn post(&self) -> Result<Post, Broke> {
        self.with("count letters", |connection| {
            let transaction = connection.transaction()?;
            let mut post = Post::default();
            let mut done = transaction
                .prepare_cached("select notifier, delivered, delivered_at, given_up, given_up_at from post")?;
            let mut rows = done.query([])?;
            while let Some(row) = rows.next()? {
                let count = post.by_notifier.entry(place(&row.get::<_, String>(0)?)?).or_default();
                *count = PostCount {
                    delivered: number(row.get(1)?)?,
                    delivered_at: row.get::<_, Option<i64>>(2)?.map(moment).transpose()?,
                    given_up: number(row.get(3)?)?,
                    given_up_at: row.get::<_, Option<i64>>(4)?.map(moment).transpose()?,
                    ..PostCount::default()
                };
            }
            let mut open = transaction.prepare_cached(
                "select notifier, count(*), min(at) from letter where done_at is null group by notifier",
            )?;
            let mut rows = open.query([])?;
            while let Some(row) = rows.next()? {
                let count = post.by_notifier.entry(place(&row.get::<_, String>(0)?)?).or_default();
                (count.waiting, count.waiting_since) = (number(row.get(1)?)?, Some(moment(row.get(2)?)?));
            }
            Ok(post)
        })
        .await
    }

    async fn note_drift(&self, at: Timestamp, seen: Vec<(Option<PolicyName>, Vec<Drift>)>) -> Result<(), Broke> {
        self.with("write what drift was seen", move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for (policy, drifts) in &seen {
                let policy = policy.as_ref().map_or("", PolicyName::as_str);
                // Of two that look at the same time the later look stands.
                transaction
                    .prepare_cached(
                        "insert into drift_seen (policy, at, body) values (?1, ?2, ?3)
                         on conflict (policy) do update set at = excluded.at, body = excluded.body where excluded.at >= drift_seen.at",
                    )?
                    .execute(params![policy, at.as_microsecond(), text(drifts)?])?;
            }
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    async fn drift_seen(&self) -> Result<Vec<DriftSeen>, Broke> {
        self.with("read what drift was seen", |connection| {
            let mut statement = connection.prepare_cached("select policy, at, body from drift_seen order by policy")?;
            let mut rows = statement.query([])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let name: String = row.get(0)?;
                let policy = if name.is_empty() { None } else { Some(policy_name(&name)?) };
                found.push((policy, moment(row.get(1)?)?, json(&row.get::<_, String>(2)?)?));
            }
            Ok(found)
        })
        .await
    }

    async fn changed(&self, since: u64) -> Result<Changed, Broke> {
        self.with("look what has changed", move |connection| {
            let transaction = connection.transaction()?;
            let up_to: i64 = transaction.query_row("select coalesce(max(seq), 0) from event", [], |row| row.get(0))?;
            let mut statement = transaction.prepare_cached("select distinct policy from event where seq > ?1")?;
            let mut rows = statement.query([sql_number(since)])?;
            let mut policies = Vec::new();
            while let Some(row) = rows.next()? {
                policies.push(policy_name(&row.get::<_, String>(0)?)?);
            }
            Ok(Changed { up_to: number(up_to)?, policies })
        })
        .await
    }

    async fn ended(&self) -> Result<BTreeMap<String, u64>, Broke> {
        self.with("count runs", |connection| {
            let mut statement = connection.prepare_cached(
                "select kind, count(*) from event where kind in ('finished', 'abandoned', 'missed') group by kind",
            )?;
            let mut rows = statement.query([])?;
            let mut found = BTreeMap::new();
            while let Some(row) = rows.next()? {
                found.insert(row.get(0)?, number(row.get(1)?)?);
            }
            Ok(found)
        })
        .await
    }
}

fn version(connection: &Connection) -> Result<u64, QueryError> {
    number(connection.query_row("select version from alarm_version", [], |row| row.get(0))?)
}

/// Ends a letter, and counts it; those that were done long ago go.
fn end(
    connection: &mut Connection,
    held: &Held,
    at: Timestamp,
    outcome: &str,
    answer: &str,
) -> Result<Hold, QueryError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let now = at.as_microsecond();
    let letter = &held.waiting.letter;
    let changed = transaction
        .prepare_cached(
            "update letter set held_until = null, done_at = ?3, outcome = ?4, answer = ?5
             where id = ?1 and token = ?2 and done_at is null",
        )?
        .execute(params![letter.id.to_string(), sql_number(held.token), now, outcome, answer])?;
    if changed != 1 {
        return Ok(Hold::Lost);
    }
    let sql = match outcome {
        "delivered" => {
            "insert into post (notifier, delivered, delivered_at) values (?1, 1, ?2)
             on conflict (notifier) do update set delivered = delivered + 1, delivered_at = excluded.delivered_at"
        }
        _ => {
            "insert into post (notifier, given_up, given_up_at) values (?1, 1, ?2)
             on conflict (notifier) do update set given_up = given_up + 1, given_up_at = excluded.given_up_at"
        }
    };
    transaction.prepare_cached(sql)?.execute(params![letter.to.as_str(), now])?;
    transaction
        .prepare_cached("delete from letter where done_at < ?1")?
        .execute([now - KEPT_DAYS * 86_400 * 1_000_000])?;
    transaction.commit()?;
    Ok(Hold::Held)
}

/// Of `seq, body, tries, next_try, last_error, …`.
pub(super) fn waiting(row: &Row<'_>) -> Result<Waiting, QueryError> {
    Ok(Waiting {
        letter: json(&row.get::<_, String>(1)?)?,
        tries: row.get(2)?,
        next_try: moment(row.get(3)?)?,
        last_error: row.get(4)?,
    })
}

pub(super) fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, QueryError> {
    serde_json::from_str(text).map_err(|error| QueryError::Row(format!("a row of the outbox: {error}")))
}

fn text<T: serde::Serialize>(value: &T) -> Result<String, QueryError> {
    serde_json::to_string(value).map_err(QueryError::Event)
}

pub(super) fn moment(microseconds: i64) -> Result<Timestamp, QueryError> {
    Timestamp::from_microsecond(microseconds).map_err(|error| QueryError::Row(error.to_string()))
}

pub(super) fn number(number: i64) -> Result<u64, QueryError> {
    u64::try_from(number).map_err(|_| QueryError::Row("a number of the outbox is out of range".to_owned()))
}

pub(super) fn sql_number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn place(text: &str) -> Result<PlaceName, QueryError> {
    text.parse().map_err(|error: crate::domain::ids::BadId| QueryError::Row(error.to_string()))
}
