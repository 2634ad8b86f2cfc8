//! Alarms, letters and what drift was seen: their rows, out and in. The same as in SQLite.

use jiff::Timestamp;
use tokio_postgres::{Client, Row, Statement};

use super::error::Trouble;
use super::outbox::{count, signed, waiting};
use super::rows::{json, maybe_moment, moment, text, to_json};
use crate::catalog::carry::Carried;
use crate::domain::ids::PolicyName;

/// How a row of such a question is carried.
type Reads = fn(&Row) -> Result<Carried, Trouble>;

/// What is asked for, in the order of an export.
pub(super) const CARRIED: [(&str, Reads); 4] = [
    ("select body::text from alarm order by key", |row| Ok(Carried::Alarm(Box::new(json(row.try_get(0)?)?)))),
    ("select seq, body::text, tries, next_try, last_error from letter where done_at is null order by seq", |row| {
        Ok(Carried::Letter(Box::new(waiting(row)?)))
    }),
    ("select notifier, delivered, delivered_at, given_up, given_up_at from post order by notifier", |row| {
        Ok(Carried::Post {
            to: text(row, 0)?,
            delivered: count(row, 1)?,
            delivered_at: maybe_moment(row, 2)?,
            given_up: count(row, 3)?,
            given_up_at: maybe_moment(row, 4)?,
        })
    }),
    ("select policy, at, body::text from drift_seen order by policy", |row| {
        let name: &str = row.try_get(0)?;
        let policy = if name.is_empty() { None } else { Some(text(row, 0)?) };
        Ok(Carried::DriftSeen { policy, at: moment(row, 1)?, found: json(row.try_get(2)?)? })
    }),
];

/// What takes such rows in.
pub(super) struct Insert {
    alarm: Statement,
    version: Statement,
    letter: Statement,
    post: Statement,
    drift: Statement,
}

impl Insert {
    pub(super) async fn prepare(client: &Client) -> Result<Insert, Trouble> {
        let post =
            "insert into post (notifier, delivered, delivered_at, given_up, given_up_at) values ($1, $2, $3, $4, $5)";
        let letter = "
            insert into letter (id, notifier, body, at, tries, next_try, last_error) values ($1, $2, $3::text::jsonb, $4, $5, $6, $7)";
        Ok(Insert {
            alarm: client.prepare("insert into alarm (key, body) values ($1, $2::text::jsonb)").await?,
            version: client.prepare("update alarm_version set version = version + 1").await?,
            letter: client.prepare(letter).await?,
            post: client.prepare(post).await?,
            drift: client.prepare("insert into drift_seen (policy, at, body) values ($1, $2, $3::text::jsonb)").await?,
        })
    }

    /// Takes such a row in; others are not for here.
    pub(super) async fn one(&self, client: &Client, carried: &Carried) -> Result<(), Trouble> {
        let micros = |at: &Option<Timestamp>| at.map(Timestamp::as_microsecond);
        match carried {
            Carried::Alarm(alarm) => {
                client.execute(&self.alarm, &[&alarm.what.key.to_string(), &to_json(&**alarm)?]).await?;
                // Who decided before this on an empty catalog is refused.
                client.execute(&self.version, &[]).await?;
            }
            Carried::Letter(waiting) => {
                let letter = &waiting.letter;
                let (at, next_try) = (letter.at.as_microsecond(), waiting.next_try.as_microsecond());
                let (to, tries) = (letter.to.as_str(), i64::from(waiting.tries));
                let body = to_json(letter)?;
                let error = &waiting.last_error;
                client.execute(&self.letter, &[&letter.id.0, &to, &body, &at, &tries, &next_try, error]).await?;
            }
            Carried::Post { to, delivered, delivered_at, given_up, given_up_at } => {
                let (delivered, given_up) = (signed(*delivered), signed(*given_up));
                let times = (micros(delivered_at), micros(given_up_at));
                client.execute(&self.post, &[&to.as_str(), &delivered, &times.0, &given_up, &times.1]).await?;
            }
            Carried::DriftSeen { policy, at, found } => {
                let policy = policy.as_ref().map_or("", PolicyName::as_str);
                client.execute(&self.drift, &[&policy, &at.as_microsecond(), &to_json(found)?]).await?;
            }
            Carried::Event { .. }
            | Carried::Covered { .. }
            | Carried::Read { .. }
            | Carried::Place { .. }
            | Carried::Sequence { .. }
            | Carried::Token { .. } => {}
        }
        Ok(())
    }
}
