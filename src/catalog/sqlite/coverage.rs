//! The series of what the stores could bring back.

use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use super::QueryError;
use crate::domain::exposure::Covered;
use crate::domain::ids::PolicyName;

pub(super) fn insert(connection: &Connection, policy: &PolicyName, covered: Covered) -> Result<(), QueryError> {
    let sql = "insert into coverage (policy, at, covered, until) values (?1, ?2, ?3, ?4) on conflict do nothing";
    let until = covered.until.map(|lsn| lsn.to_string());
    let times = (covered.at.as_microsecond(), covered.covered.as_microsecond());
    connection.execute(sql, params![policy.as_str(), times.0, times.1, until])?;
    Ok(())
}

pub(super) fn since(
    connection: &Connection,
    policy: &PolicyName,
    since: Timestamp,
) -> Result<Vec<Covered>, QueryError> {
    let sql = "select at, covered, until from coverage where policy = ?1 \
               and at >= coalesce((select max(at) from coverage where policy = ?1 and at < ?2), ?2) order by at";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![policy.as_str(), since.as_microsecond()])?;
    let mut series = Vec::new();
    while let Some(row) = rows.next()? {
        series.push(read(row)?);
    }
    Ok(series)
}

pub(super) fn read(row: &Row<'_>) -> Result<Covered, QueryError> {
    let moment = |microseconds: i64| {
        Timestamp::from_microsecond(microseconds)
            .map_err(|error| QueryError::Row(format!("a moment of coverage: {error}")))
    };
    let until: Option<String> = row.get(2)?;
    let until = until.map(|text| text.parse()).transpose();
    Ok(Covered {
        at: moment(row.get(0)?)?,
        covered: moment(row.get(1)?)?,
        until: until.map_err(|error| QueryError::Row(format!("a place of coverage: {error}")))?,
    })
}
