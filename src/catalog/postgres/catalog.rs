//! The contract of a catalog, in PostgreSQL's words.

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::error::Trouble;
use super::link::Lent;
use super::rows::{self, moment, number, text, to_json};
use super::{PostgresCatalog, ledger, queue, recorded};
use crate::catalog::fold::{fold, kind};
use crate::catalog::{Asked, Catalog, Reach, Recorded, Trial};
use crate::domain::check::Broke;
use crate::domain::copies::CopyRecord;
use crate::domain::exposure::Covered;
use crate::domain::ids::{BackupId, PlaceName, PolicyName, RunId};
use crate::domain::ledger::{LastRead, Reading, Shelf, ShelfRead};
use crate::domain::mutation::DrillTest;
use crate::domain::queue::EndedAs;
use crate::domain::run::{ArtifactRecord, Event, EventId, Proof, Run};
use crate::domain::summary::DrillSummary;
use crate::domain::transcript::Transcript;

/// Whoever takes in what stores hold does so alone ("lboa", and what for).
const ADOPTING: i64 = 0x6C62_6F61_0000_0002;

/// Of one id the first stands, and of one run the first end: whoever comes later with another adds nothing. An event that ends a run ends its place in
/// the queue too. In a transaction, always: two who end one run wait for each other.
pub(super) async fn insert(
    lent: &Lent,
    id: EventId,
    at: Timestamp,
    policy: &PolicyName,
    run: RunId,
    event: &Event,
) -> Result<(), Trouble> {
    const ANY: &str = "
        insert into event (id, at, policy, run, kind, body) values ($1, $2, $3, $4, $5, $6::text::jsonb)
        on conflict (id) do nothing";
    const END: &str = "
        insert into event (id, at, policy, run, kind, body) select $1, $2, $3, $4, $5, $6::text::jsonb
        where not exists (select 1 from event where run = $4 and kind in ('finished', 'abandoned', 'missed'))
        on conflict (id) do nothing";
    let (written, body, ends) = (at.to_string(), to_json(event)?, EndedAs::of(event));
    if let Some(how) = ends {
        // The place first, as all who end a place do; the lock is for runs that have none. What was written before it was had is seen.
        queue::end(lent, run, at, how).await?;
        lent.rows("select pg_catalog.pg_advisory_xact_lock($1)", &[&ending(run)]).await?;
    }
    let sql = if ends.is_some() { END } else { ANY };
    lent.execute(sql, &[&id.0, &written, &policy.as_str(), &run.0, &kind(event), &body]).await?;
    Ok(())
}

/// Whoever ends a run does so alone: a number of its own, out of the random part of its name.
fn ending(run: RunId) -> i64 {
    const WHAT_FOR: u64 = 0x6C62_6F61_0000_0003;
    let (_, random) = run.0.as_u64_pair();
    (random ^ WHAT_FOR).cast_signed()
}

/// The events that some question finds.
async fn events(lent: &Lent, sql: &'static str, with: &[&(dyn ToSql + Sync)]) -> Result<Vec<Event>, Trouble> {
    lent.rows(sql, with).await?.iter().map(|row| Ok(rows::event(row)?.3)).collect()
}

/// Runs from their events, which lie together, oldest first; their columns from this one on.
pub(super) fn runs_of(rows: &[tokio_postgres::Row], from: usize) -> Result<Vec<Run>, Trouble> {
    let (mut runs, mut events) = (Vec::new(), Vec::new());
    let mut of: Option<(RunId, PolicyName)> = None;
    for row in rows {
        let (policy, run, at, event) = rows::event_from(row, from)?;
        if of.as_ref().is_none_or(|(last, _)| *last != run) {
            runs.extend(of.and_then(|(run, policy)| fold(run, &policy, &events)));
            events.clear();
            of = Some((run, policy));
        }
        events.push((at, event));
    }
    runs.extend(of.and_then(|(run, policy)| fold(run, &policy, &events)));
    Ok(runs)
}

fn transcripts(events: Vec<Event>) -> Vec<Transcript> {
    events.into_iter().filter_map(|event| if let Event::Drilled(one) = event { Some(*one) } else { None }).collect()
}

fn tests(events: Vec<Event>) -> Vec<DrillTest> {
    events.into_iter().filter_map(|event| if let Event::DrillTested(one) = event { Some(*one) } else { None }).collect()
}

#[async_trait]
impl Catalog for PostgresCatalog {
    async fn append(&self, at: Timestamp, policy: &PolicyName, run: RunId, event: Event) -> Result<(), Broke> {
        self.deliver(EventId::new(), at, policy, run, event).await
    }

    async fn deliver(
        &self,
        id: EventId,
        at: Timestamp,
        policy: &PolicyName,
        run: RunId,
        event: Event,
    ) -> Result<(), Broke> {
        self.bounded("write an event", async {
            let lent = self.lend().await?;
            lent.begin().await?;
            insert(&lent, id, at, policy, run, &event).await?;
            if event.ends() {
                queue::tell(&lent).await?;
            }
            lent.commit().await
        })
        .await
    }

    async fn runs(&self, policy: Option<&PolicyName>, limit: usize) -> Result<Vec<Run>, Broke> {
        // The view of runs would be made whole for each policy that is asked for. Transcripts are large and say nothing about where a run stands.
        const SQL: &str = "
            with newest as (
                select run, seq from event one
                where kind = 'planned' and ($1::text is null or policy = $1)
                  and not exists (
                      select 1 from event earlier
                      where earlier.run = one.run and earlier.kind = 'planned' and earlier.seq < one.seq
                  )
                order by seq desc limit $2
            )
            select event.seq, at, policy, event.run, body::text from newest join event on event.run = newest.run
            where kind in ('planned', 'started', 'finished', 'abandoned', 'missed') order by newest.seq desc, event.seq";
        let policy = policy.map(PolicyName::as_str);
        self.bounded("read runs", async {
            runs_of(&self.lend().await?.rows(SQL, &[&policy, &number(limit)]).await?, 0)
        })
        .await
    }

    async fn run(&self, run: RunId) -> Result<Option<Run>, Broke> {
        const SQL: &str = "
            select seq, at, policy, run, body::text from event
            where run = $1 and kind in ('planned', 'started', 'finished', 'abandoned', 'missed') order by seq";
        let found =
            self.bounded("read a run", async { runs_of(&self.lend().await?.rows(SQL, &[&run.0]).await?, 0) }).await?;
        Ok(found.into_iter().next())
    }

    async fn transcript(&self, run: RunId) -> Result<Option<Transcript>, Broke> {
        const SQL: &str = "select seq, at, policy, run, body::text from event where run = $1 and kind = 'drilled' order by seq desc limit 1";
        let found =
            self.bounded("read a transcript", async { events(&self.lend().await?, SQL, &[&run.0]).await }).await?;
        Ok(transcripts(found).into_iter().next())
    }

    async fn transcripts(&self, policy: &PolicyName, limit: usize) -> Result<Vec<Transcript>, Broke> {
        const SQL: &str = "select seq, at, policy, run, body::text from event where policy = $1 and kind = 'drilled' order by seq desc limit $2";
        let with: [&(dyn ToSql + Sync); 2] = [&policy.as_str(), &number(limit)];
        self.bounded("read transcripts", async { Ok(transcripts(events(&self.lend().await?, SQL, &with).await?)) })
            .await
    }

    async fn drills(&self, policy: &PolicyName, limit: usize) -> Result<Vec<DrillSummary>, Broke> {
        self.bounded("read drills", async { recorded::drills(&self.lend().await?, policy, limit).await }).await
    }

    async fn newest_runs(&self, policy: &PolicyName, of_each: usize) -> Result<Vec<Run>, Broke> {
        self.bounded("read runs", async { recorded::newest_runs(&self.lend().await?, policy, of_each).await }).await
    }

    async fn drill_tests(&self, policy: &PolicyName, limit: usize) -> Result<Vec<DrillTest>, Broke> {
        const SQL: &str = "select seq, at, policy, run, body::text from event where policy = $1 and kind = 'drill_tested' order by seq desc limit $2";
        let with: [&(dyn ToSql + Sync); 2] = [&policy.as_str(), &number(limit)];
        self.bounded("read tests of drills", async { Ok(tests(events(&self.lend().await?, SQL, &with).await?)) }).await
    }

    async fn drill_test(&self, run: RunId) -> Result<Option<DrillTest>, Broke> {
        const SQL: &str = "select seq, at, policy, run, body::text from event where run = $1 and kind = 'drill_tested' order by seq desc limit 1";
        let found =
            self.bounded("read a test of a drill", async { events(&self.lend().await?, SQL, &[&run.0]).await }).await?;
        Ok(tests(found).into_iter().next())
    }

    async fn artifacts(&self, policy: &PolicyName) -> Result<Vec<ArtifactRecord>, Broke> {
        const SQL: &str = "select record::text from artifact where policy = $1";
        self.bounded("read artifacts", async {
            let found = self.lend().await?.rows(SQL, &[&policy.as_str()]).await?;
            let mut records: Vec<ArtifactRecord> =
                found.iter().map(|row| rows::json(row.try_get(0)?)).collect::<Result<_, _>>()?;
            // As times, not as text: fractions of a second have no fixed width.
            records.sort_by_key(|record| std::cmp::Reverse((record.recovery_point, record.sequence)));
            Ok(records)
        })
        .await
    }

    async fn copies(&self, policy: &PolicyName) -> Result<Vec<CopyRecord>, Broke> {
        const SQL: &str = "select seq, at, policy, run, body::text from event where policy = $1 and kind = 'copied' order by seq desc";
        let found =
            self.bounded("read copies", async { events(&self.lend().await?, SQL, &[&policy.as_str()]).await }).await?;
        Ok(found
            .into_iter()
            .filter_map(|event| if let Event::Copied(one) = event { Some(one) } else { None })
            .collect())
    }

    async fn recorded(&self, asked: &[Asked], reach: Reach) -> Result<Vec<Recorded>, Broke> {
        self.bounded("read what is on record", async { recorded::of(&self.lend().await?, asked, reach).await }).await
    }

    async fn scratches_owed(&self) -> Result<Vec<(PolicyName, RunId, String)>, Broke> {
        const SQL: &str = "select policy, run, name from scratch_owed order by seq";
        self.bounded("read scratches", async {
            let found = self.lend().await?.rows(SQL, &[]).await?;
            found.iter().map(|row| Ok((text(row, 0)?, RunId(row.try_get::<_, Uuid>(1)?), row.try_get(2)?))).collect()
        })
        .await
    }

    async fn adopt(&self, at: Timestamp, records: Vec<ArtifactRecord>) -> Result<u64, Broke> {
        const KNOWN: &str = "select 1 from artifact where policy = $1 and backup = $2 and store = $3";
        let run = RunId(Uuid::now_v7());
        self.bounded("take in artifacts", async {
            let lent = self.lend().await?;
            lent.begin().await?;
            // Between the question and the insert nobody else may answer it.
            lent.rows("select pg_catalog.pg_advisory_xact_lock($1)", &[&ADOPTING]).await?;
            let mut taken = 0;
            for record in &records {
                let key: [&(dyn ToSql + Sync); 3] =
                    [&record.policy.as_str(), &record.backup.as_str(), &record.store.as_str()];
                if lent.row(KNOWN, &key).await?.is_none() {
                    insert(&lent, EventId::new(), at, &record.policy, run, &Event::Committed(record.clone())).await?;
                    taken += 1;
                }
            }
            lent.commit().await?;
            Ok(taken)
        })
        .await
    }

    async fn cover(&self, policy: &PolicyName, covered: Covered) -> Result<(), Broke> {
        const SQL: &str =
            "insert into coverage (policy, at, covered, until) values ($1, $2, $3, $4) on conflict do nothing";
        let until = covered.until.map(|lsn| lsn.to_string());
        let (at, reached) = (covered.at.as_microsecond(), covered.covered.as_microsecond());
        self.bounded("write down what is covered", async {
            self.lend().await?.execute(SQL, &[&policy.as_str(), &at, &reached, &until]).await
        })
        .await?;
        Ok(())
    }

    async fn covered(&self, policy: &PolicyName, since: Timestamp) -> Result<Vec<Covered>, Broke> {
        let work = async { recorded::covered(&self.lend().await?, policy, since).await };
        self.bounded("read what was covered", work).await
    }

    async fn immutability(&self, policy: &PolicyName) -> Result<Vec<Trial>, Broke> {
        const SQL: &str = "select seq, at, policy, run, body::text from event where policy = $1 and kind = 'immutability_tried' order by seq desc";
        self.bounded("read trials of immutability", async {
            let mut newest: Vec<Trial> = Vec::new();
            for row in &self.lend().await?.rows(SQL, &[&policy.as_str()]).await? {
                if let (_, _, at, Event::ImmutabilityTried { store, found }) = rows::event(row)?
                    && newest.iter().all(|(known, _, _)| *known != store)
                {
                    newest.push((store, at, found));
                }
            }
            Ok(newest)
        })
        .await
    }

    async fn read_back(&self, readings: Vec<Reading>) -> Result<(), Broke> {
        let work = async { ledger::write(&self.lend().await?, &readings, false).await };
        self.bounded("write down what was read back", work).await
    }

    async fn read_back_late(&self, readings: Vec<Reading>) -> Result<(), Broke> {
        let work = async { ledger::write(&self.lend().await?, &readings, true).await };
        self.bounded("write down what was read back", work).await
    }

    async fn last_read(&self, policy: &PolicyName, store: &PlaceName, shelf: &Shelf) -> Result<Vec<LastRead>, Broke> {
        let work = async { ledger::of_shelf(&self.lend().await?, policy, store, shelf).await };
        self.bounded("read what was read back", work).await
    }

    async fn read_wrong(&self, policy: &PolicyName) -> Result<Vec<LastRead>, Broke> {
        self.bounded("read what was wrong", async { ledger::wrong(&self.lend().await?, policy).await }).await
    }

    async fn shelves_read(&self, policy: &PolicyName, since: Timestamp) -> Result<Vec<ShelfRead>, Broke> {
        let work = async { recorded::shelves(&self.lend().await?, policy, since).await };
        self.bounded("sum up what was read back", work).await
    }

    async fn forget_read(&self, store: &PlaceName, keys: Vec<String>) -> Result<(), Broke> {
        const SQL: &str = "delete from ledger where store = $1 and key = any($2)";
        self.bounded("forget what is gone", async { self.lend().await?.execute(SQL, &[&store.as_str(), &keys]).await })
            .await?;
        Ok(())
    }

    async fn next_sequence(&self, policy: &PolicyName) -> Result<u64, Broke> {
        const SQL: &str = "
            insert into sequence_given (policy, value)
            values ($1, 1 + coalesce((select max(sequence) from artifact_ever where policy = $1), 0))
            on conflict (policy) do update set value = greatest(sequence_given.value + 1, excluded.value) returning value";
        self.bounded("give a sequence number", async {
            let row = self.lend().await?.row(SQL, &[&policy.as_str()]).await?;
            let given: Option<i64> = row.map(|row| row.try_get(0)).transpose()?;
            given
                .and_then(|given| u64::try_from(given).ok())
                .ok_or_else(|| Trouble::Row("a sequence number is out of range".to_owned()))
        })
        .await
    }

    async fn taken(&self, policy: &PolicyName) -> Result<Vec<Timestamp>, Broke> {
        const SQL: &str = "select finished_at from artifact_ever where policy = $1";
        self.bounded("read artifacts", async {
            let found = self.lend().await?.rows(SQL, &[&policy.as_str()]).await?;
            let mut moments: Vec<Timestamp> = found.iter().map(|row| text(row, 0)).collect::<Result<_, _>>()?;
            moments.sort();
            Ok(moments)
        })
        .await
    }

    async fn proofs(&self, policy: &PolicyName) -> Result<Vec<Proof>, Broke> {
        const SQL: &str = "select backup, at from proof where policy = $1 order by seq";
        self.bounded("read proofs", async {
            let found = self.lend().await?.rows(SQL, &[&policy.as_str()]).await?;
            found.iter().map(|row| Ok(Proof { backup: text(row, 0)?, at: text(row, 1)? })).collect()
        })
        .await
    }

    async fn find(&self, backup: &BackupId) -> Result<Vec<(PolicyName, PlaceName)>, Broke> {
        const SQL: &str = "select policy, store from artifact where backup = $1 order by policy, store collate \"C\"";
        self.bounded("find a backup", async {
            let found = self.lend().await?.rows(SQL, &[&backup.as_str()]).await?;
            found.iter().map(|row| Ok((text(row, 0)?, text(row, 1)?))).collect()
        })
        .await
    }
}

/// `at, covered, until`, from this column on.
pub(super) fn covered_of(row: &tokio_postgres::Row, from: usize) -> Result<Covered, Trouble> {
    let until: Option<&str> = row.try_get(from + 2)?;
    let until = until.map(str::parse).transpose();
    Ok(Covered {
        at: moment(row, from)?,
        covered: moment(row, from + 1)?,
        until: until.map_err(|error| Trouble::Row(format!("a place of coverage: {error}")))?,
    })
}
