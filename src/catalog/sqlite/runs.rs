//! Runs, as their events add up. The view of all would be made whole for each policy that is asked for.

use rusqlite::{Connection, params};

use super::{QueryError, read_event, run_id, sql_limit};
use crate::catalog::fold::fold;
use crate::domain::ids::RunId;
use crate::domain::run::Run;

/// Runs of a policy or of all, newest first, at most so many.
pub(super) fn of(connection: &Connection, policy: Option<&str>, limit: usize) -> Result<Vec<Run>, QueryError> {
    // `?1 is null or` would keep SQLite from one index, and `kind` without the + lead it to another.
    let of = if policy.is_some() { "policy = ?1" } else { "?1 is null" };
    let sql = format!(
        "select run from event one
         where kind = 'planned' and {of}
           and not exists (
               select 1 from event earlier
               where earlier.run = one.run and +earlier.kind = 'planned' and earlier.seq < one.seq
           )
         order by seq desc limit ?2"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let ids: Vec<String> =
        statement.query_map(params![policy, sql_limit(limit)], |row| row.get(0))?.collect::<Result<_, _>>()?;
    all(connection, &ids)
}

/// The newest of each work of a policy, at most so many of each; all of them newest first.
pub(super) fn newest(connection: &Connection, policy: &str, of_each: usize) -> Result<Vec<Run>, QueryError> {
    const SQL: &str = "
        select run from (
            select run, seq, row_number() over (partition by body ->> '$.planned.work' order by seq desc) as nth
            from event one
            where kind = 'planned' and policy = ?1
              and not exists (
                  select 1 from event earlier
                  where earlier.run = one.run and +earlier.kind = 'planned' and earlier.seq < one.seq
              )
        )
        where nth <= ?2 order by seq desc";
    let mut statement = connection.prepare_cached(SQL)?;
    let ids: Vec<String> =
        statement.query_map(params![policy, sql_limit(of_each)], |row| row.get(0))?.collect::<Result<_, _>>()?;
    all(connection, &ids)
}

fn all(connection: &Connection, ids: &[String]) -> Result<Vec<Run>, QueryError> {
    let mut runs = Vec::with_capacity(ids.len());
    for id in ids {
        runs.extend(one(connection, run_id(id)?)?);
    }
    Ok(runs)
}

/// One, as its events add up.
pub(super) fn one(connection: &Connection, id: RunId) -> Result<Option<Run>, QueryError> {
    // Transcripts are large and say nothing about where a run stands.
    let mut statement = connection.prepare_cached(
        "select seq, at, policy, run, body from event
         where run = ?1 and kind in ('planned', 'started', 'finished', 'abandoned', 'missed') order by seq",
    )?;
    let mut rows = statement.query([id.to_string()])?;
    let mut events = Vec::new();
    let mut of = None;
    while let Some(row) = rows.next()? {
        let (policy, _, at, event) = read_event(row)?;
        of.get_or_insert(policy);
        events.push((at, event));
    }
    Ok(of.and_then(|policy| fold(id, &policy, &events)))
}
