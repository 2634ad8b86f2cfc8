//! What is on record of several policies: a question for each kind of thing, and one way there and back for all of them.
//!
//! Each question is the one for a single policy, once for each row of `wanted`: so the server goes to each policy's own rows and through no others.

use std::cmp::Reverse;

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::catalog::{covered_of, runs_of};
use super::error::Trouble;
use super::ledger;
use super::link::Lent;
use super::rows::{self, json, number};
use crate::catalog::recorded::{Asked, Reach, Recorded};
use crate::domain::exposure::Covered;
use crate::domain::ids::PolicyName;
use crate::domain::ledger::ShelfRead;
use crate::domain::run::{ArtifactRecord, Event, Run};
use crate::domain::summary::DrillSummary;

const ARTIFACTS: &str = "
    select wanted.n, ever.record::text
    from unnest($1::text[]) with ordinality as wanted (policy, n)
    cross join lateral (select * from artifact_ever where policy = wanted.policy) ever
    left join lateral (select * from artifact_mark where policy = wanted.policy) mark
           on mark.backup = ever.backup and mark.store = ever.store and mark.seq > ever.seq
    where not coalesce(mark.gone, false)";

const EVENTS: &str = "
    select wanted.n, event.seq, at, event.policy, run, body::text
    from unnest($1::text[]) with ordinality as wanted (policy, n)
    cross join unnest($2::text[], $3::int8[]) as sought (kind, at_most)
    cross join lateral (
        select seq, at, policy, run, body from event
        where policy = wanted.policy and kind = sought.kind order by seq desc limit sought.at_most
    ) event
    order by wanted.n, event.seq desc";

const DRILLS: &str = "
    select wanted.n, found.summary::text
    from unnest($1::text[]) with ordinality as wanted (policy, n)
    cross join lateral (
        select seq, summary from drill_summary where policy = wanted.policy order by seq desc limit $2
    ) found
    order by wanted.n, found.seq desc";

const RUNS: &str = "
    with newest as (
        select wanted.n, found.run, found.seq
        from unnest($1::text[]) with ordinality as wanted (policy, n)
        cross join lateral (
            select run, seq, row_number() over (partition by body #> '{planned,work}' order by seq desc) as nth
            from event one
            where policy = wanted.policy and kind = 'planned'
              and not exists (
                  select 1 from event earlier
                  where earlier.run = one.run and earlier.kind = 'planned' and earlier.seq < one.seq
              )
        ) found
        where found.nth <= $2
    )
    select newest.n, event.seq, at, policy, event.run, body::text from newest join event on event.run = newest.run
    where kind in ('planned', 'started', 'finished', 'abandoned', 'missed') order by newest.n, newest.seq desc, event.seq";

const COVERED: &str = "
    select wanted.n, covered.at, covered.covered, covered.until
    from unnest($1::text[]) with ordinality as wanted (policy, n)
    cross join lateral (
        select at, covered, until from coverage
        where policy = wanted.policy
          and at >= coalesce((select max(at) from coverage where policy = wanted.policy and at < $2), $2)
    ) covered
    order by wanted.n, covered.at";

/// Sums of each shelf. What is wrong was not right lately, whenever it was right before.
const SHELVES: &str = "
    select wanted.n, shelf.*
    from unnest($1::text[], $2::int8[]) with ordinality as wanted (policy, since, n)
    cross join lateral (
        select store, shelf, count(sealed_at), coalesce(sum(bytes) filter (where sealed_at is not null), 0)::int8,
            coalesce(sum(bytes) filter (where wrong is null and sealed_at >= wanted.since), 0)::int8,
            min(sealed_at) filter (where wrong is null), count(wrong)
        from ledger where policy = wanted.policy group by store, shelf
    ) shelf
    order by wanted.n, shelf.store, shelf.shelf";

/// Of each that is asked for, in that order.
pub(super) async fn of(lent: &Lent, asked: &[Asked], reach: Reach) -> Result<Vec<Recorded>, Trouble> {
    let policies: Vec<&str> = asked.iter().map(|one| one.policy.as_str()).collect();
    let read_since: Vec<i64> = asked.iter().map(|one| one.read_since.as_microsecond()).collect();
    let (look_back, covered_since) = (number(reach.look_back), reach.covered_since.as_microsecond());
    let (kinds, limits): (&[&str], &[i64]) =
        if reach.whole { (&["drill_tested", "copied"], &[look_back, i64::MAX]) } else { (&[], &[]) };
    let of_each = number(reach.of_each);
    let with: [&[&(dyn ToSql + Sync)]; 6] = [
        &[&policies],
        &[&policies, &kinds, &limits],
        &[&policies, &of_each],
        &[&policies, &covered_since],
        &[&policies, &read_since],
        &[&policies, &look_back],
    ];
    let (artifacts, events, runs, covered, shelves, drills) = tokio::try_join!(
        lent.rows(ARTIFACTS, with[0]),
        lent.rows(EVENTS, with[1]),
        lent.rows(RUNS, with[2]),
        lent.rows(COVERED, with[3]),
        lent.rows(SHELVES, with[4]),
        lent.rows(DRILLS, with[5]),
    )?;
    let mut all: Vec<Recorded> = asked.iter().map(|_| Recorded::default()).collect();
    for row in &artifacts {
        let record: ArtifactRecord = json(row.try_get(1)?)?;
        place(&mut all, row)?.artifacts.push(record);
    }
    for row in &events {
        let recorded = place(&mut all, row)?;
        match rows::event_from(row, 1)?.3 {
            Event::DrillTested(one) => recorded.tests.push(*one),
            Event::Copied(one) => recorded.copies.push(one),
            _ => {}
        }
    }
    for row in &drills {
        let summary: DrillSummary = json(row.try_get(1)?)?;
        place(&mut all, row)?.drills.push(summary);
    }
    for of_one in runs.chunk_by(|a, b| numbered(a).is_some() && numbered(a) == numbered(b)) {
        if let Some(first) = of_one.first() {
            place(&mut all, first)?.runs = runs_of(of_one, 1)?;
        }
    }
    for row in &covered {
        let covered = covered_of(row, 1)?;
        place(&mut all, row)?.coverage.push(covered);
    }
    for row in &shelves {
        let shelf = ledger::shelf_read(row, 1)?;
        place(&mut all, row)?.shelves.push(shelf);
    }
    for recorded in &mut all {
        // As times, not as text: fractions of a second have no fixed width.
        recorded.artifacts.sort_by_key(|record| Reverse((record.recovery_point, record.sequence)));
    }
    Ok(all)
}

/// The same of one policy, each by its own question.
pub(super) async fn newest_runs(lent: &Lent, policy: &PolicyName, of_each: usize) -> Result<Vec<Run>, Trouble> {
    runs_of(&lent.rows(RUNS, &[&[policy.as_str()].as_slice(), &number(of_each)]).await?, 1)
}

pub(super) async fn drills(lent: &Lent, policy: &PolicyName, limit: usize) -> Result<Vec<DrillSummary>, Trouble> {
    let found = lent.rows(DRILLS, &[&[policy.as_str()].as_slice(), &number(limit)]).await?;
    found.iter().map(|row| json(row.try_get(1)?)).collect()
}

pub(super) async fn covered(lent: &Lent, policy: &PolicyName, since: Timestamp) -> Result<Vec<Covered>, Trouble> {
    let found = lent.rows(COVERED, &[&[policy.as_str()].as_slice(), &since.as_microsecond()]).await?;
    found.iter().map(|row| covered_of(row, 1)).collect()
}

pub(super) async fn shelves(lent: &Lent, policy: &PolicyName, since: Timestamp) -> Result<Vec<ShelfRead>, Trouble> {
    let (policies, since) = ([policy.as_str()], [since.as_microsecond()]);
    let found = lent.rows(SHELVES, &[&policies.as_slice(), &since.as_slice()]).await?;
    found.iter().map(|row| ledger::shelf_read(row, 1)).collect()
}

fn numbered(row: &Row) -> Option<i64> {
    row.try_get(0).ok()
}

/// Whose row it is.
fn place<'a>(all: &'a mut [Recorded], row: &Row) -> Result<&'a mut Recorded, Trouble> {
    let n = row.try_get::<_, i64>(0)?;
    let at = usize::try_from(n).ok().and_then(|n| n.checked_sub(1));
    at.and_then(|at| all.get_mut(at)).ok_or_else(|| Trouble::Row(format!("the {n}th of policies was not asked for")))
}
