//! The queue on a server: a row that somebody else is claiming is passed over, and what must be had alone is an index.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::PostgresCatalog;
use super::catalog::insert;
use super::error::Trouble;
use super::link::Lent;
use super::notice::CHANNEL;
use super::rows::{from_microseconds, json, moment, text, to_json};
use crate::catalog::Queue;
use crate::catalog::error::CatalogError;
use crate::catalog::queue::lapsed;
use crate::domain::check::Broke;
use crate::domain::ids::RunId;
use crate::domain::queue::{CaughtUp, Claim, Ended, EndedAs, Hold, Holder, Place, Planned, PlannedUpTo, Tally, Worker};
use crate::domain::run::{Event, EventId, Work};
use crate::domain::units::Span;

/// Those who claim at once and want the same thing for themselves try again: one of them got it, and the others see that.
const TRIES: usize = 20;

const CLAIM: &str = "
    update queue set worker = $3, token = nextval('queue_token'), until = $4, lease = $4 - $1
    where run = (
        select run from queue waits
        where not ended and token is null and due_at <= $1 and coalesce(not_after >= $1, true) and needs <@ $2
          and not exists (select 1 from queue held where held.token is not null and held.alone_on = waits.alone_on)
        order by priority, due_at, run limit 1 for update skip locked
    )
    returning planned::text, token";

/// What ended and was not done, and has no further attempt; the words are those of the index.
macro_rules! undone {
    ($direction:literal) => {
        concat!(
            "select ended_no, planned::text, ended_at, how from queue gone
             where how in ('unproven', 'broke', 'abandoned', 'missed') and ended_no > $1
               and not exists (select 1 from queue next where next.policy = gone.policy and next.work = gone.work
                               and next.scheduled_for = gone.scheduled_for and next.attempt = gone.attempt + 1)
             order by ended_no ",
            $direction,
            " limit $2"
        )
    };
}
const UNDONE_AFTER: &str = undone!("asc");
const UNDONE_NEWEST: &str = undone!("desc");

/// Ends the place of a run, if it has one.
pub(super) async fn end(lent: &Lent, run: RunId, at: Timestamp, how: EndedAs) -> Result<(), Trouble> {
    const SQL: &str = "
        update queue set ended = true, ended_at = $2, how = $3, worker = null, token = null, until = null, lease = null
        where run = $1 and not ended";
    lent.execute(SQL, &[&run.0, &at.as_microsecond(), &how.as_str()]).await?;
    Ok(())
}

/// Whoever waits is told when the transaction commits.
pub(super) async fn tell(lent: &Lent) -> Result<(), Trouble> {
    // The first schema of the search path is ours.
    lent.rows("select pg_catalog.pg_notify($1, pg_catalog.current_schema()::text)", &[&CHANNEL]).await?;
    Ok(())
}

/// Whether the claim holds; if so, nobody can take it away before the transaction ends.
async fn is_held(lent: &Lent, run: RunId, token: i64) -> Result<bool, Trouble> {
    Ok(lent.row("select 1 from queue where run = $1 and token = $2 for update", &[&run.0, &token]).await?.is_some())
}

fn number(token: u64) -> Result<i64, Broke> {
    i64::try_from(token).map_err(|_| Broke::new(format!("{token} is the token of no claim")))
}

/// `planned::text, worker, token, until`.
pub(super) fn place(row: &tokio_postgres::Row) -> Result<Place, Trouble> {
    let holder = match row.try_get::<_, Option<String>>(1)? {
        None => None,
        Some(worker) => Some(Holder {
            worker,
            token: row.try_get::<_, i64>(2)?.unsigned_abs(),
            until: from_microseconds(row.try_get(3)?)?,
        }),
    };
    Ok(Place { planned: json(row.try_get(0)?)?, holder })
}

/// When a lease ends, as precisely as it is kept.
fn end_of(at: Timestamp, lease: Span) -> Result<Timestamp, Broke> {
    let end = at.checked_add(lease.0).ok().and_then(|end| Timestamp::from_microsecond(end.as_microsecond()).ok());
    end.ok_or_else(|| Broke::new("the end of a lease is out of range"))
}

impl PostgresCatalog {
    /// Those that are claimed, and those whose instant is not after a moment.
    async fn places_by(&self, by: i64) -> Result<Vec<Place>, Broke> {
        const SQL: &str = "
            select planned::text, worker, token, until from queue
            where not ended and (token is not null or scheduled_for <= $1)
            order by token is null, priority, due_at, run";
        self.bounded("read the queue", async {
            let found = self.lend().await?.rows(SQL, &[&by]).await?;
            found.iter().map(place).collect()
        })
        .await
    }
}

#[async_trait]
impl Queue for PostgresCatalog {
    async fn now(&self) -> Result<Timestamp, Broke> {
        const SQL: &str = "select (extract(epoch from pg_catalog.clock_timestamp()) * 1000000)::int8";
        self.bounded("read the server's clock", async {
            let row = self.lend().await?.row(SQL, &[]).await?;
            row.as_ref().map_or_else(|| Err(Trouble::Row("the server has no clock".to_owned())), |row| moment(row, 0))
        })
        .await
    }

    async fn plan(&self, at: Timestamp, runs: Vec<Planned>) -> Result<Vec<RunId>, Broke> {
        const SQL: &str = "
            insert into queue (run, policy, work, scheduled_for, attempt, due_at, not_after, priority, alone_on, needs, planned)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text::jsonb)
            on conflict (policy, work, scheduled_for, attempt) do nothing";
        // In one order, whoever plans: two who planned the same keys in different orders would wait for each other for ever.
        let mut order: Vec<&Planned> = runs.iter().collect();
        order.sort_by_cached_key(|planned| planned.key.to_string());
        self.bounded("plan runs", async {
            let lent = self.lend().await?;
            lent.begin().await?;
            let mut new = Vec::new();
            for planned in order {
                let key = &planned.key;
                let needs: Vec<&str> = planned.needs.iter().map(|need| need.as_str()).collect();
                let (scheduled_for, due_at) = (key.scheduled_for.as_microsecond(), planned.due_at.as_microsecond());
                let not_after = planned.not_after.map(Timestamp::as_microsecond);
                let (attempt, priority) = (i64::from(key.attempt), i16::from(planned.priority));
                let inserted = lent
                    .execute(
                        SQL,
                        &[
                            &planned.run.0,
                            &key.policy.as_str(),
                            &to_json(&key.work)?,
                            &scheduled_for,
                            &attempt,
                            &due_at,
                            &not_after,
                            &priority,
                            &planned.alone_on,
                            &needs,
                            &to_json(planned)?,
                        ],
                    )
                    .await?;
                if inserted == 1 {
                    let event = Event::Planned { work: key.work.clone(), scheduled_for: Some(key.scheduled_for) };
                    insert(&lent, EventId::new(), at, &key.policy, planned.run, &event).await?;
                    if let Some(CaughtUp { instants, since }) = planned.caught_up.clone() {
                        let event = Event::CaughtUp { instants, since };
                        insert(&lent, EventId::new(), at, &key.policy, planned.run, &event).await?;
                    }
                    new.push(planned.run);
                }
            }
            if !new.is_empty() {
                tell(&lent).await?;
            }
            lent.commit().await?;
            // As they were asked for.
            Ok(runs.iter().map(|planned| planned.run).filter(|run| new.contains(run)).collect())
        })
        .await
    }

    async fn planned_up_to(&self) -> Result<Vec<PlannedUpTo>, Broke> {
        const SQL: &str =
            "select policy, work, max(scheduled_for) from queue group by policy, work order by policy, work";
        self.bounded("read what was planned", async {
            let found = self.lend().await?.rows(SQL, &[]).await?;
            found
                .iter()
                .map(|row| {
                    let work: Work = json(row.try_get(1)?)?;
                    Ok(PlannedUpTo { policy: text(row, 0)?, work, instant: moment(row, 2)? })
                })
                .collect()
        })
        .await
    }

    async fn claim(&self, at: Timestamp, worker: &Worker, lease: Span) -> Result<Option<Claim>, Broke> {
        let (until, now) = (end_of(at, lease)?, at.as_microsecond());
        let labels: Vec<&str> = worker.labels.iter().map(|label| label.as_str()).collect();
        self.bounded("claim a run", async {
            let lent = self.lend().await?;
            for _ in 0..TRIES {
                match lent.row(CLAIM, &[&now, &labels, &worker.name, &until.as_microsecond()]).await {
                    Ok(None) => return Ok(None),
                    Ok(Some(row)) => {
                        let planned: Planned = json(row.try_get(0)?)?;
                        return Ok(Some(Claim { planned, token: row.try_get::<_, i64>(1)?.unsigned_abs(), until }));
                    }
                    Err(trouble) if trouble.is(&SqlState::UNIQUE_VIOLATION) => {}
                    Err(trouble) => return Err(trouble),
                }
            }
            Ok(None)
        })
        .await
    }

    async fn renew(&self, at: Timestamp, claim: &Claim, lease: Span) -> Result<Hold, Broke> {
        const SQL: &str = "update queue set until = $3, lease = $4 where run = $1 and token = $2";
        let (token, until) = (number(claim.token)?, end_of(at, lease)?.as_microsecond());
        let lease = until - at.as_microsecond();
        let changed = self
            .bounded("renew a lease", async {
                self.lend().await?.execute(SQL, &[&claim.planned.run.0, &token, &until, &lease]).await
            })
            .await?;
        Ok(if changed == 1 { Hold::Held } else { Hold::Lost })
    }

    async fn append_held(&self, at: Timestamp, claim: &Claim, id: EventId, event: Event) -> Result<Hold, Broke> {
        const KNOWN: &str = "select 1 from event where id = $1 and run = $2";
        let (run, token) = (claim.planned.run, number(claim.token)?);
        self.bounded("write an event of a claimed run", async {
            let lent = self.lend().await?;
            lent.begin().await?;
            let mut held = is_held(&lent, run, token).await?;
            if held {
                insert(&lent, id, at, &claim.planned.key.policy, run, &event).await?;
                if event.ends() {
                    tell(&lent).await?;
                }
            } else {
                held = lent.row(KNOWN, &[&id.0, &run.0]).await?.is_some();
            }
            lent.commit().await?;
            Ok(if held { Hold::Held } else { Hold::Lost })
        })
        .await
    }

    async fn let_go(&self, claim: &Claim) -> Result<Hold, Broke> {
        const BEGUN: &str = "select 1 from event where run = $1 and kind = 'started' limit 1";
        const FREE: &str = "update queue set worker = null, token = null, until = null, lease = null where run = $1";
        let (run, token) = (claim.planned.run, number(claim.token)?);
        self.bounded("give a run back", async {
            let lent = self.lend().await?;
            lent.begin().await?;
            let held = is_held(&lent, run, token).await?;
            if held && lent.row(BEGUN, &[&run.0]).await?.is_some() {
                return Err(Trouble::Other(CatalogError::Begun { run }.into()));
            }
            if held {
                lent.execute(FREE, &[&run.0]).await?;
                tell(&lent).await?;
            }
            lent.commit().await?;
            Ok(if held { Hold::Held } else { Hold::Lost })
        })
        .await
    }

    async fn lapse(&self, at: Timestamp) -> Result<Vec<RunId>, Broke> {
        const SQL: &str = "
            select run, policy, worker, until from queue where token is not null and (until < $1 or until - 2 * lease > $1)
            order by priority, due_at, run for update skip locked";
        self.bounded("give up lapsed runs", async {
            let lent = self.lend().await?;
            lent.begin().await?;
            let mut runs = Vec::new();
            for row in lent.rows(SQL, &[&at.as_microsecond()]).await? {
                let (run, worker) = (RunId(row.try_get::<_, Uuid>(0)?), row.try_get::<_, &str>(2)?);
                let why = lapsed(worker, moment(&row, 3)?, at);
                insert(&lent, EventId::new(), at, &text(&row, 1)?, run, &Event::Abandoned { why }).await?;
                runs.push(run);
            }
            if !runs.is_empty() {
                tell(&lent).await?;
            }
            lent.commit().await?;
            Ok(runs)
        })
        .await
    }

    async fn miss(&self, at: Timestamp, run: RunId, why: String) -> Result<bool, Broke> {
        const SQL: &str = "select policy from queue where run = $1 and not ended and token is null for update";
        self.bounded("give up a waiting run", async {
            let lent = self.lend().await?;
            lent.begin().await?;
            let waits = lent.row(SQL, &[&run.0]).await?;
            if let Some(row) = &waits {
                insert(&lent, EventId::new(), at, &text(row, 0)?, run, &Event::Missed { why }).await?;
                tell(&lent).await?;
            }
            lent.commit().await?;
            Ok(waits.is_some())
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
        const SQL: &str = "select due_at, token is not null from queue where not ended";
        self.bounded("count what waits", async {
            let mut tally = Tally::default();
            for row in &self.lend().await?.rows(SQL, &[]).await? {
                match row.try_get(1)? {
                    true => tally.running += 1,
                    false => tally.due_at.push(moment(row, 0)?),
                }
            }
            Ok(tally)
        })
        .await
    }

    async fn undone(&self, after: Option<u64>, at_most: u32) -> Result<Vec<Ended>, Broke> {
        let (since, at_most) = (number(after.unwrap_or(0))?, i64::from(at_most));
        let sql = if after.is_some() { UNDONE_AFTER } else { UNDONE_NEWEST };
        self.bounded("read what ended", async {
            let found = self.lend().await?.rows(sql, &[&since, &at_most]).await?;
            let ended = |row: &tokio_postgres::Row| {
                let number = row.try_get::<_, i64>(0)?.unsigned_abs();
                let how = EndedAs::named(row.try_get(3)?).map_err(Trouble::Row)?;
                Ok(Ended { number, planned: json(row.try_get(1)?)?, at: moment(row, 2)?, how })
            };
            let mut ended = found.iter().map(ended).collect::<Result<Vec<_>, Trouble>>()?;
            ended.sort_by_key(|one| one.number);
            Ok(ended)
        })
        .await
    }

    async fn wait(&self, at_most: Duration) {
        self.until_told(at_most).await;
    }
}
