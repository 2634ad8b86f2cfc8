//! Alarms, letters and what drift was seen: their rows, out and in.

use rusqlite::{Row, Transaction, params};

use super::outbox::{json, moment, number, place, sql_number, waiting};
use super::{QueryError, policy_name};
use crate::catalog::carry::Carried;
use crate::catalog::fold::portable;
use crate::domain::ids::PolicyName;

/// How a row of such a question is carried.
type Reads = fn(&Row<'_>) -> Result<Carried, QueryError>;

/// What is asked for, in the order of an export.
pub(super) const CARRIED: [(&str, Reads); 4] = [
    ("select body from alarm order by key", |row| Ok(Carried::Alarm(Box::new(json(&row.get::<_, String>(0)?)?)))),
    ("select seq, body, tries, next_try, last_error from letter where done_at is null order by seq", |row| {
        Ok(Carried::Letter(Box::new(waiting(row)?)))
    }),
    ("select notifier, delivered, delivered_at, given_up, given_up_at from post order by notifier", |row| {
        Ok(Carried::Post {
            to: place(&row.get::<_, String>(0)?)?,
            delivered: number(row.get(1)?)?,
            delivered_at: row.get::<_, Option<i64>>(2)?.map(moment).transpose()?,
            given_up: number(row.get(3)?)?,
            given_up_at: row.get::<_, Option<i64>>(4)?.map(moment).transpose()?,
        })
    }),
    ("select policy, at, body from drift_seen order by policy", |row| {
        let name: String = row.get(0)?;
        let policy = if name.is_empty() { None } else { Some(policy_name(&name)?) };
        Ok(Carried::DriftSeen { policy, at: moment(row.get(1)?)?, found: json(&row.get::<_, String>(2)?)? })
    }),
];

/// Takes such a row in; others are not for here.
pub(super) fn insert(transaction: &Transaction<'_>, carried: &Carried) -> Result<(), QueryError> {
    match carried {
        Carried::Alarm(alarm) => {
            let body = portable(alarm).map_err(QueryError::Event)?;
            transaction
                .prepare_cached("insert into alarm (key, body) values (?1, ?2)")?
                .execute(params![alarm.what.key.to_string(), body])?;
            // Who decided before this on an empty catalog is refused.
            transaction.prepare_cached("update alarm_version set version = version + 1")?.execute([])?;
        }
        Carried::Letter(waiting) => {
            let letter = &waiting.letter;
            let body = portable(letter).map_err(QueryError::Event)?;
            transaction
                .prepare_cached(
                    "insert into letter (id, notifier, body, at, tries, next_try, last_error) values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    letter.id.to_string(),
                    letter.to.as_str(),
                    body,
                    letter.at.as_microsecond(),
                    waiting.tries,
                    waiting.next_try.as_microsecond(),
                    waiting.last_error,
                ])?;
        }
        Carried::Post { to, delivered, delivered_at, given_up, given_up_at } => {
            transaction
                .prepare_cached(
                    "insert into post (notifier, delivered, delivered_at, given_up, given_up_at) values (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![
                    to.as_str(),
                    sql_number(*delivered),
                    delivered_at.map(jiff::Timestamp::as_microsecond),
                    sql_number(*given_up),
                    given_up_at.map(jiff::Timestamp::as_microsecond),
                ])?;
        }
        Carried::DriftSeen { policy, at, found } => {
            let policy = policy.as_ref().map_or("", PolicyName::as_str);
            let body = portable(found).map_err(QueryError::Event)?;
            transaction
                .prepare_cached("insert into drift_seen (policy, at, body) values (?1, ?2, ?3)")?
                .execute(params![policy, at.as_microsecond(), body])?;
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
