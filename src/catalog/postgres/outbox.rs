//! The outbox on a server: the same tables and the same rules as in SQLite.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_postgres::Row;

use super::PostgresCatalog;
use super::error::Trouble;
use super::link::Lent;
use super::rows::{json, maybe_moment, moment, number, text, to_json};
use crate::catalog::outbox::{Changed, DriftSeen, Held, KnownAlarms, Outbox};
use crate::domain::alarm::{Alarm, Letter, LetterId, Post, PostCount, Waiting};
use crate::domain::check::Broke;
use crate::domain::drift::Drift;
use crate::domain::ids::{PlaceName, PolicyName};
use crate::domain::queue::Hold;
use crate::domain::units::Span;

/// How long a letter that is done is kept, to be looked at: thirty days.
const KEPT: i64 = 30 * 86_400 * 1_000_000;

const END: &str = "
    update letter set held_until = null, done_at = $3, outcome = $4, answer = $5
    where id = $1 and token = $2 and done_at is null";

#[async_trait]
impl Outbox for PostgresCatalog {
    async fn alarms(&self) -> Result<KnownAlarms, Broke> {
        // One statement sees one moment.
        const SQL: &str = "
            select version, (select coalesce(jsonb_agg(body order by key), '[]') from alarm)::text from alarm_version";
        self.bounded("read alarms", async {
            let row = self.lend().await?.row(SQL, &[]).await?;
            let row = row.ok_or_else(|| Trouble::Row("the alarms have no version".to_owned()))?;
            Ok(KnownAlarms { version: count(&row, 0)?, alarms: json(row.try_get(1)?)? })
        })
        .await
    }

    async fn settle(&self, version: u64, changed: Vec<Alarm>, letters: Vec<Letter>) -> Result<bool, Broke> {
        // Who comes second waits for the row, and finds another version in it.
        const GUARD: &str = "update alarm_version set version = version + 1 where version = $1";
        const ALARM: &str = "
            insert into alarm (key, body) values ($1, $2::text::jsonb) on conflict (key) do update set body = excluded.body";
        const LETTER: &str =
            "insert into letter (id, notifier, body, at, next_try) values ($1, $2, $3::text::jsonb, $4, $4)";
        self.bounded("write alarms", async {
            let lent = self.lend().await?;
            lent.begin().await?;
            if lent.execute(GUARD, &[&signed(version)]).await? != 1 {
                lent.commit().await?;
                return Ok(false);
            }
            for alarm in &changed {
                lent.execute(ALARM, &[&alarm.what.key.to_string(), &to_json(alarm)?]).await?;
            }
            for letter in &letters {
                let at = letter.at.as_microsecond();
                lent.execute(LETTER, &[&letter.id.0, &letter.to.as_str(), &to_json(letter)?, &at]).await?;
            }
            lent.commit().await?;
            Ok(true)
        })
        .await
    }

    async fn take(&self, to: &PlaceName, at: Timestamp, hold: Span) -> Result<Option<Held>, Broke> {
        // The row is locked until the end: of two who come at once the second sees that it is held.
        const OLDEST: &str = "
            select seq, body::text, tries, next_try, last_error, held_until, token from letter
            where notifier = $1 and done_at is null order by seq limit 1 for update";
        const HOLD: &str = "update letter set held_until = $2, token = token + 1, tries = tries + 1 where seq = $1";
        self.bounded("take a letter", async {
            let lent = self.lend().await?;
            lent.begin().await?;
            let Some(row) = lent.row(OLDEST, &[&to.as_str()]).await? else {
                lent.commit().await?;
                return Ok(None);
            };
            let waiting = waiting(&row)?;
            if waiting.next_try > at || maybe_moment(&row, 5)?.is_some_and(|until| until > at) {
                lent.commit().await?;
                return Ok(None);
            }
            let until = at.checked_add(hold.0).unwrap_or(Timestamp::MAX).as_microsecond();
            lent.execute(HOLD, &[&row.try_get::<_, i64>(0)?, &until]).await?;
            lent.commit().await?;
            let tries = waiting.tries.saturating_add(1);
            Ok(Some(Held { waiting: Waiting { tries, ..waiting }, token: count(&row, 6)?.saturating_add(1) }))
        })
        .await
    }

    async fn delivered(&self, held: &Held, at: Timestamp, answer: &str) -> Result<Hold, Broke> {
        self.bounded("mark a letter as delivered", self.end(held, at, "delivered", answer)).await
    }

    async fn put_off(&self, held: &Held, next_try: Timestamp, why: &str) -> Result<Hold, Broke> {
        const SQL: &str = "
            update letter set held_until = null, next_try = $3, last_error = $4
            where id = $1 and token = $2 and done_at is null";
        self.bounded("put a letter off", async {
            let (id, next_try) = (held.waiting.letter.id.0, next_try.as_microsecond());
            let changed = self.lend().await?.execute(SQL, &[&id, &signed(held.token), &next_try, &why]).await?;
            Ok(if changed == 1 { Hold::Held } else { Hold::Lost })
        })
        .await
    }

    async fn give_up(&self, held: &Held, at: Timestamp, why: &str) -> Result<Hold, Broke> {
        self.bounded("give a letter up", self.end(held, at, "given_up", why)).await
    }

    async fn waiting(&self, limit: usize) -> Result<Vec<Waiting>, Broke> {
        const SQL: &str = "
            select seq, body::text, tries, next_try, last_error from letter where done_at is null order by seq limit $1";
        self.bounded("read waiting letters", async {
            self.lend().await?.rows(SQL, &[&number(limit)]).await?.iter().map(waiting).collect()
        })
        .await
    }

    async fn given_up(&self, limit: usize) -> Result<Vec<(LetterId, PlaceName, Timestamp, String)>, Broke> {
        const SQL: &str = "
            select id, notifier, done_at, coalesce(answer, '') from letter where outcome = 'given_up' order by seq desc limit $1";
        let one = |row: &Row| Ok((LetterId(row.try_get(0)?), text(row, 1)?, moment(row, 2)?, row.try_get(3)?));
        self.bounded("read letters that were given up", async {
            self.lend().await?.rows(SQL, &[&number(limit)]).await?.iter().map(one).collect()
        })
        .await
    }

    async fn post(&self) -> Result<Post, Broke> {
        const DONE: &str = "select notifier, delivered, delivered_at, given_up, given_up_at from post";
        const OPEN: &str = "select notifier, count(*), min(at) from letter where done_at is null group by notifier";
        self.bounded("count letters", async {
            let lent = self.lend().await?;
            let mut post = Post::default();
            for row in lent.rows(DONE, &[]).await? {
                let counted = PostCount {
                    delivered: count(&row, 1)?,
                    delivered_at: maybe_moment(&row, 2)?,
                    given_up: count(&row, 3)?,
                    given_up_at: maybe_moment(&row, 4)?,
                    ..PostCount::default()
                };
                post.by_notifier.insert(text(&row, 0)?, counted);
            }
            for row in lent.rows(OPEN, &[]).await? {
                let one = post.by_notifier.entry(text(&row, 0)?).or_default();
                (one.waiting, one.waiting_since) = (count(&row, 1)?, Some(moment(&row, 2)?));
            }
            Ok(post)
        })
        .await
    }

    async fn note_drift(&self, at: Timestamp, seen: Vec<(Option<PolicyName>, Vec<Drift>)>) -> Result<(), Broke> {
        const SQL: &str = "
            insert into drift_seen (policy, at, body) values ($1, $2, $3::text::jsonb)
            on conflict (policy) do update set at = excluded.at, body = excluded.body where excluded.at >= drift_seen.at";
        // In one order, whoever writes.
        let mut order = seen;
        order.sort_by(|a, b| a.0.cmp(&b.0));
        self.bounded("write what drift was seen", async {
            let lent = self.lend().await?;
            lent.begin().await?;
            for (policy, drifts) in &order {
                let policy = policy.as_ref().map_or("", PolicyName::as_str);
                lent.execute(SQL, &[&policy, &at.as_microsecond(), &to_json(drifts)?]).await?;
            }
            lent.commit().await
        })
        .await
    }

    async fn drift_seen(&self) -> Result<Vec<DriftSeen>, Broke> {
        const SQL: &str = "select policy, at, body::text from drift_seen order by policy";
        let one = |row: &Row| {
            let name: &str = row.try_get(0)?;
            let policy = if name.is_empty() { None } else { Some(text(row, 0)?) };
            Ok((policy, moment(row, 1)?, json(row.try_get(2)?)?))
        };
        self.bounded("read what drift was seen", async {
            self.lend().await?.rows(SQL, &[]).await?.iter().map(one).collect()
        })
        .await
    }

    async fn changed(&self, since: u64) -> Result<Changed, Broke> {
        const SQL: &str = "
            select coalesce((select max(seq) from event), 0),
                   array(select distinct policy::text from event where seq > $1)";
        self.bounded("look what has changed", async {
            let row = self.lend().await?.row(SQL, &[&signed(since)]).await?;
            let row = row.ok_or_else(|| Trouble::Row("the events have no number".to_owned()))?;
            let names: Vec<String> = row.try_get(1)?;
            let policies = names.iter().map(|name| name.parse().map_err(Trouble::from)).collect::<Result<_, _>>()?;
            Ok(Changed { up_to: count(&row, 0)?, policies })
        })
        .await
    }

    async fn ended(&self) -> Result<BTreeMap<String, u64>, Broke> {
        const SQL: &str = "
            select kind, count(*) from event where kind in ('finished', 'abandoned', 'missed') group by kind";
        self.bounded("count runs", async {
            let rows = self.lend().await?.rows(SQL, &[]).await?;
            rows.iter().map(|row| Ok((row.try_get(0)?, count(row, 1)?))).collect()
        })
        .await
    }
}

impl PostgresCatalog {
    /// Ends a letter, and counts it; those that were done long ago go.
    async fn end(&self, held: &Held, at: Timestamp, outcome: &'static str, answer: &str) -> Result<Hold, Trouble> {
        const DELIVERED: &str = "
            insert into post (notifier, delivered, delivered_at) values ($1, 1, $2)
            on conflict (notifier) do update set delivered = post.delivered + 1, delivered_at = excluded.delivered_at";
        const GIVEN_UP: &str = "
            insert into post (notifier, given_up, given_up_at) values ($1, 1, $2)
            on conflict (notifier) do update set given_up = post.given_up + 1, given_up_at = excluded.given_up_at";
        let (letter, now) = (&held.waiting.letter, at.as_microsecond());
        let lent: Lent = self.lend().await?;
        lent.begin().await?;
        if lent.execute(END, &[&letter.id.0, &signed(held.token), &now, &outcome, &answer]).await? != 1 {
            lent.commit().await?;
            return Ok(Hold::Lost);
        }
        let sql = if outcome == "delivered" { DELIVERED } else { GIVEN_UP };
        lent.execute(sql, &[&letter.to.as_str(), &now]).await?;
        lent.execute("delete from letter where done_at < $1", &[&(now - KEPT)]).await?;
        lent.commit().await?;
        Ok(Hold::Held)
    }
}

/// Of `seq, body, tries, next_try, last_error, …`.
pub(super) fn waiting(row: &Row) -> Result<Waiting, Trouble> {
    Ok(Waiting {
        letter: json(row.try_get(1)?)?,
        tries: u32::try_from(row.try_get::<_, i64>(2)?).unwrap_or(u32::MAX),
        next_try: moment(row, 3)?,
        last_error: row.try_get(4)?,
    })
}

pub(super) fn count(row: &Row, column: usize) -> Result<u64, Trouble> {
    u64::try_from(row.try_get::<_, i64>(column)?).map_err(|_| Trouble::Row("a count is negative".to_owned()))
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
