//! Rows, and what they mean.

use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::error::Trouble;
use crate::domain::ids::{PolicyName, RunId};
use crate::domain::run::Event;

/// One row of `seq, at, policy, run, body::text`.
pub(super) fn event(row: &Row) -> Result<(PolicyName, RunId, Timestamp, Event), Trouble> {
    event_from(row, 0)
}

/// The same from this column on.
pub(super) fn event_from(row: &Row, from: usize) -> Result<(PolicyName, RunId, Timestamp, Event), Trouble> {
    let seq: i64 = row.try_get(from)?;
    let bad = |what: &str, why: String| Trouble::Row(format!("event {seq} has no good {what}: {why}"));
    let at = row.try_get::<_, &str>(from + 1)?.parse().map_err(|error: jiff::Error| bad("time", error.to_string()))?;
    let policy = row.try_get::<_, &str>(from + 2)?.parse()?;
    let run = RunId(row.try_get::<_, Uuid>(from + 3)?);
    let body =
        serde_json::from_str(row.try_get::<_, &str>(from + 4)?).map_err(|error| bad("body", error.to_string()))?;
    Ok((policy, run, at, body))
}

/// Text that is a name or the like.
pub(super) fn text<T>(row: &Row, column: usize) -> Result<T, Trouble>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    row.try_get::<_, &str>(column)?.parse().map_err(|error: T::Err| Trouble::Row(error.to_string()))
}

/// Microseconds.
pub(super) fn moment(row: &Row, column: usize) -> Result<Timestamp, Trouble> {
    from_microseconds(row.try_get(column)?)
}

/// The same, where there may be none.
pub(super) fn maybe_moment(row: &Row, column: usize) -> Result<Option<Timestamp>, Trouble> {
    row.try_get::<_, Option<i64>>(column)?.map(from_microseconds).transpose()
}

pub(super) fn from_microseconds(microseconds: i64) -> Result<Timestamp, Trouble> {
    Timestamp::from_microsecond(microseconds).map_err(|error| Trouble::Row(format!("a moment: {error}")))
}

/// JSON text.
pub(super) fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Trouble> {
    serde_json::from_str(text).map_err(|error| Trouble::Row(error.to_string()))
}

/// As JSON text.
pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Result<String, Trouble> {
    crate::catalog::fold::portable(value).map_err(|error| Trouble::Row(error.to_string()))
}

pub(super) fn number(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
