//! The catalog in a SQLite file: write-ahead log, every commit synced, so several processes may use it at once and a
//! kill loses nothing that was committed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, TransactionBehavior, params};

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

use self::open::open;
use super::error::CatalogError;
use super::fold::{kind, portable};
use super::{Catalog, Migrated, Trial};

mod artifacts;
mod carry;
mod carry_outbox;
mod coverage;
mod ledger;
mod open;
mod outbox;
mod queue;
mod retention;
mod runs;

/// SQLite: nothing to set up.
pub struct SqliteCatalog {
    path: PathBuf,
    connection: Arc<Mutex<Connection>>,
    /// Counts what this process changed in the queue; other processes' changes are seen in the file.
    changes: tokio::sync::watch::Sender<u64>,
}

impl SqliteCatalog {
    /// Opens the file, which is made (mode 0600) with its folder if need be, and brings its schema up to date.
    ///
    /// A file that is damaged or is no catalog is an error with the hint to rebuild it.
    pub fn open(path: &Path) -> Result<SqliteCatalog, Broke> {
        let connection = open(path)?;
        Ok(SqliteCatalog {
            path: path.to_owned(),
            connection: Arc::new(Mutex::new(connection)),
            changes: tokio::sync::watch::Sender::new(0),
        })
    }

    /// The same, and tells from which version of the schema to which.
    pub fn migrate(path: &Path) -> Result<Migrated, Broke> {
        let from = if path.exists() { open::version(path)? } else { None };
        let connection = open(path)?;
        let to = open::version_of(&connection).map_err(|error| error.at(path))?;
        Ok(Migrated { from, to: to.unwrap_or(0) })
    }

    /// Reads every page of the file and every event in it; the error says what is damaged. Takes as long as reading the
    /// file does, so it is for `catalog rebuild`, not for every start.
    pub fn examine(path: &Path) -> Result<(), CatalogError> {
        let connection = open(path)?;
        let sqlite = |error: rusqlite::Error| CatalogError::sqlite("examine the file", path, &error);
        let verdict: String =
            connection.query_row("pragma integrity_check(1)", [], |row| row.get(0)).map_err(sqlite)?;
        if verdict != "ok" {
            return Err(CatalogError::Corrupt { path: path.to_owned(), why: verdict });
        }
        let mut statement = connection.prepare("select seq, at, policy, run, body from event").map_err(sqlite)?;
        let mut rows = statement.query([]).map_err(sqlite)?;
        while let Some(row) = rows.next().map_err(sqlite)? {
            read_event(row).map_err(|error| error.at(path))?;
        }
        Ok(())
    }

    /// Runs `work` with the connection on a blocking thread; one at a time in this process, others wait their turn.
    async fn with<T, F>(&self, doing: &'static str, work: F) -> Result<T, Broke>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, QueryError> + Send + 'static,
    {
        let connection = Arc::clone(&self.connection);
        let done = tokio::task::spawn_blocking(move || {
            // A panic elsewhere cannot leave the connection half way: SQLite rolls back what was not committed.
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut connection)
        });
        match done.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(QueryError::Sqlite(error))) => Err(CatalogError::sqlite(doing, &self.path, &error).into()),
            Ok(Err(other)) => Err(other.at(&self.path).into()),
            Err(_) => Err(CatalogError::Stopped.into()),
        }
    }
}

/// What a query can end with, before it is known of which file.
enum QueryError {
    Sqlite(rusqlite::Error),
    /// A row that lifeboat did not write so.
    Row(String),
    Event(serde_json::Error),
}

impl QueryError {
    fn at(self, path: &Path) -> CatalogError {
        match self {
            QueryError::Sqlite(error) => CatalogError::sqlite("read", path, &error),
            QueryError::Row(why) => CatalogError::Corrupt { path: path.to_owned(), why },
            QueryError::Event(error) => CatalogError::Event(error),
        }
    }
}

impl From<rusqlite::Error> for QueryError {
    fn from(error: rusqlite::Error) -> QueryError {
        QueryError::Sqlite(error)
    }
}

/// The view of that name, which would look through all that are gone for each that was made.
const SCRATCHES_OWED: &str = "
    select policy, run, body ->> '$.scratch_made.name' from event
    where kind = 'scratch_made'
      and body ->> '$.scratch_made.name' not in (
          select body ->> '$.scratch_destroyed.name' from event
          where kind = 'scratch_destroyed' and body ->> '$.scratch_destroyed.name' is not null
      )
    order by seq";

/// One row of `seq, at, policy, run, body`.
fn read_event(row: &rusqlite::Row<'_>) -> Result<(PolicyName, RunId, Timestamp, Event), QueryError> {
    let seq: i64 = row.get(0)?;
    let bad = |what: &str, why: String| QueryError::Row(format!("event {seq} has no good {what}: {why}"));
    let at = row.get::<_, String>(1)?.parse().map_err(|error: jiff::Error| bad("time", error.to_string()))?;
    let policy = policy_name(&row.get::<_, String>(2)?)?;
    let run = run_id(&row.get::<_, String>(3)?)?;
    let event = serde_json::from_str(&row.get::<_, String>(4)?).map_err(|error| bad("body", error.to_string()))?;
    Ok((policy, run, at, event))
}

fn policy_name(text: &str) -> Result<PolicyName, QueryError> {
    text.parse().map_err(|error: crate::domain::ids::BadId| QueryError::Row(error.to_string()))
}

fn run_id(text: &str) -> Result<RunId, QueryError> {
    text.parse().map_err(|error: crate::domain::ids::BadId| QueryError::Row(error.to_string()))
}

fn insert(
    connection: &Connection,
    at: Timestamp,
    policy: &PolicyName,
    run: RunId,
    event: &Event,
) -> Result<(), QueryError> {
    insert_once(connection, EventId::new(), at, policy, run, event)
}

/// Of one id the first stands, and of one run the first end: whoever comes later with another adds nothing. An event that ends a run ends its place in
/// the queue too.
fn insert_once(
    connection: &Connection,
    id: EventId,
    at: Timestamp,
    policy: &PolicyName,
    run: RunId,
    event: &Event,
) -> Result<(), QueryError> {
    const ANY: &str = "
        insert into event (id, at, policy, run, kind, body) values (?1, ?2, ?3, ?4, ?5, ?6)
        on conflict (id) where id is not null do nothing";
    const END: &str = "
        insert into event (id, at, policy, run, kind, body) select ?1, ?2, ?3, ?4, ?5, ?6
        where not exists (select 1 from event where run = ?4 and +kind in ('finished', 'abandoned', 'missed'))
        on conflict (id) where id is not null do nothing";
    let (body, ends) = (portable(event).map_err(QueryError::Event)?, EndedAs::of(event));
    let run = run.to_string();
    connection.prepare_cached(if ends.is_some() { END } else { ANY })?.execute(params![
        id.to_string(),
        at.to_string(),
        policy.as_str(),
        run,
        kind(event),
        body
    ])?;
    match ends {
        Some(how) => queue::end(connection, &run, at, how),
        None => Ok(()),
    }
}

/// The events of one kind, newest first.
fn events_where(
    connection: &Connection,
    kind: &str,
    condition: &str,
    value: &str,
    limit: usize,
) -> Result<Vec<Event>, QueryError> {
    let sql = format!(
        "select seq, at, policy, run, body from event where kind = '{kind}' and {condition} order by seq desc limit ?2"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![value, sql_limit(limit)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read_event(row)?.3);
    }
    Ok(found)
}

fn transcripts_where(
    connection: &Connection,
    condition: &str,
    value: &str,
    limit: usize,
) -> Result<Vec<Transcript>, QueryError> {
    let events = events_where(connection, "drilled", condition, value, limit)?;
    Ok(events.into_iter().filter_map(|event| if let Event::Drilled(one) = event { Some(*one) } else { None }).collect())
}

fn tests_where(
    connection: &Connection,
    condition: &str,
    value: &str,
    limit: usize,
) -> Result<Vec<DrillTest>, QueryError> {
    let events = events_where(connection, "drill_tested", condition, value, limit)?;
    let tests =
        events.into_iter().filter_map(|event| if let Event::DrillTested(one) = event { Some(*one) } else { None });
    Ok(tests.collect())
}

/// Drills of a policy in little, newest first.
fn summaries(connection: &Connection, policy: &str, limit: usize) -> Result<Vec<DrillSummary>, QueryError> {
    let sql = "select summary from drill_summary where policy = ?1 order by seq desc limit ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![policy, sql_limit(limit)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(
            serde_json::from_str(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)
                .map_err(QueryError::Event)?,
        );
    }
    Ok(found)
}

fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

#[async_trait]
impl Catalog for SqliteCatalog {
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
        let (policy, ends) = (policy.clone(), event.ends());
        self.with("write an event", move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            insert_once(&transaction, id, at, &policy, run, &event)?;
            Ok(transaction.commit()?)
        })
        .await?;
        if ends {
            self.changed();
        }
        Ok(())
    }

    async fn read_back_late(&self, readings: Vec<Reading>) -> Result<(), Broke> {
        self.with("write down what was read back", move |connection| ledger::write_late(connection, &readings)).await
    }

    async fn runs(&self, policy: Option<&PolicyName>, limit: usize) -> Result<Vec<Run>, Broke> {
        let policy = policy.map(|policy| policy.as_str().to_owned());
        self.with("read runs", move |connection| runs::of(connection, policy.as_deref(), limit)).await
    }

    async fn run(&self, run: RunId) -> Result<Option<Run>, Broke> {
        self.with("read a run", move |connection| runs::one(connection, run)).await
    }

    async fn transcript(&self, run: RunId) -> Result<Option<Transcript>, Broke> {
        let found = self
            .with("read a transcript", move |connection| transcripts_where(connection, "run = ?1", &run.to_string(), 1))
            .await?;
        Ok(found.into_iter().next())
    }

    async fn transcripts(&self, policy: &PolicyName, limit: usize) -> Result<Vec<Transcript>, Broke> {
        let policy = policy.as_str().to_owned();
        self.with("read transcripts", move |connection| transcripts_where(connection, "policy = ?1", &policy, limit))
            .await
    }

    async fn drills(&self, policy: &PolicyName, limit: usize) -> Result<Vec<DrillSummary>, Broke> {
        let policy = policy.as_str().to_owned();
        self.with("read drills", move |connection| summaries(connection, &policy, limit)).await
    }

    async fn newest_runs(&self, policy: &PolicyName, of_each: usize) -> Result<Vec<Run>, Broke> {
        let policy = policy.as_str().to_owned();
        self.with("read runs", move |connection| runs::newest(connection, &policy, of_each)).await
    }

    async fn drill_tests(&self, policy: &PolicyName, limit: usize) -> Result<Vec<DrillTest>, Broke> {
        let policy = policy.as_str().to_owned();
        self.with("read tests of drills", move |connection| tests_where(connection, "policy = ?1", &policy, limit))
            .await
    }

    async fn drill_test(&self, run: RunId) -> Result<Option<DrillTest>, Broke> {
        let found = self
            .with("read a test of a drill", move |connection| tests_where(connection, "run = ?1", &run.to_string(), 1))
            .await?;
        Ok(found.into_iter().next())
    }

    async fn artifacts(&self, policy: &PolicyName) -> Result<Vec<ArtifactRecord>, Broke> {
        let policy = policy.as_str().to_owned();
        self.with("read artifacts", move |connection| artifacts::of(connection, &policy)).await
    }

    async fn copies(&self, policy: &PolicyName) -> Result<Vec<CopyRecord>, Broke> {
        let policy = policy.as_str().to_owned();
        self.with("read copies", move |connection| {
            let events = events_where(connection, "copied", "policy = ?1", &policy, usize::MAX)?;
            let copies =
                events.into_iter().filter_map(|event| if let Event::Copied(one) = event { Some(one) } else { None });
            Ok(copies.collect())
        })
        .await
    }

    async fn scratches_owed(&self) -> Result<Vec<(PolicyName, RunId, String)>, Broke> {
        self.with("read scratches", |connection| {
            let rows: Vec<(String, String, String)> = connection
                .prepare_cached(SCRATCHES_OWED)?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<Result<_, _>>()?;
            rows.into_iter().map(|(policy, run, name)| Ok((policy_name(&policy)?, run_id(&run)?, name))).collect()
        })
        .await
    }

    async fn adopt(&self, at: Timestamp, records: Vec<ArtifactRecord>) -> Result<u64, Broke> {
        self.with("take in artifacts", move |connection| artifacts::adopt(connection, at, records)).await
    }

    async fn cover(&self, policy: &PolicyName, covered: Covered) -> Result<(), Broke> {
        let policy = policy.clone();
        self.with("write down what is covered", move |connection| coverage::insert(connection, &policy, covered)).await
    }

    async fn covered(&self, policy: &PolicyName, since: Timestamp) -> Result<Vec<Covered>, Broke> {
        let policy = policy.clone();
        self.with("read what was covered", move |connection| coverage::since(connection, &policy, since)).await
    }

    async fn read_back(&self, readings: Vec<Reading>) -> Result<(), Broke> {
        self.with("write down what was read back", move |connection| ledger::write(connection, &readings)).await
    }

    async fn last_read(&self, policy: &PolicyName, store: &PlaceName, shelf: &Shelf) -> Result<Vec<LastRead>, Broke> {
        let (policy, store, shelf) = (policy.clone(), store.clone(), shelf.clone());
        let read = move |connection: &mut Connection| ledger::of_shelf(connection, &policy, &store, &shelf);
        self.with("read what was read back", read).await
    }

    async fn read_wrong(&self, policy: &PolicyName) -> Result<Vec<LastRead>, Broke> {
        let policy = policy.clone();
        self.with("read what was wrong", move |connection| ledger::wrong(connection, &policy)).await
    }

    async fn shelves_read(&self, policy: &PolicyName, since: Timestamp) -> Result<Vec<ShelfRead>, Broke> {
        let policy = policy.clone();
        self.with("sum up what was read back", move |connection| ledger::shelves(connection, &policy, since)).await
    }

    async fn forget_read(&self, store: &PlaceName, keys: Vec<String>) -> Result<(), Broke> {
        let store = store.clone();
        self.with("forget what is gone", move |connection| ledger::forget(connection, &store, &keys)).await
    }

    async fn immutability(&self, policy: &PolicyName) -> Result<Vec<Trial>, Broke> {
        let policy = policy.as_str().to_owned();
        self.with("read trials of immutability", move |connection| {
            let mut statement = connection.prepare_cached(
                "select seq, at, policy, run, body from event
                 where policy = ?1 and kind = 'immutability_tried' order by seq desc",
            )?;
            let mut rows = statement.query([policy])?;
            let mut newest: Vec<Trial> = Vec::new();
            while let Some(row) = rows.next()? {
                if let (_, _, at, Event::ImmutabilityTried { store, found }) = read_event(row)?
                    && newest.iter().all(|(known, _, _)| *known != store)
                {
                    newest.push((store, at, found));
                }
            }
            Ok(newest)
        })
        .await
    }

    async fn next_sequence(&self, policy: &PolicyName) -> Result<u64, Broke> {
        let policy = policy.as_str().to_owned();
        self.with("give a sequence number", move |connection| retention::next_sequence(connection, &policy)).await
    }

    async fn taken(&self, policy: &PolicyName) -> Result<Vec<Timestamp>, Broke> {
        let policy = policy.as_str().to_owned();
        self.with("read artifacts", move |connection| retention::taken(connection, &policy)).await
    }

    async fn proofs(&self, policy: &PolicyName) -> Result<Vec<Proof>, Broke> {
        let policy = policy.as_str().to_owned();
        self.with("read proofs", move |connection| retention::proofs(connection, &policy)).await
    }

    async fn find(&self, backup: &BackupId) -> Result<Vec<(PolicyName, PlaceName)>, Broke> {
        let backup = backup.as_str().to_owned();
        self.with("find a backup", move |connection| {
            let rows: Vec<(String, String)> = connection
                .prepare_cached("select policy, store from artifact where backup = ?1 order by policy, store")?
                .query_map([backup], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<_, _>>()?;
            rows.into_iter()
                .map(|(policy, store)| {
                    let store =
                        store.parse().map_err(|error: crate::domain::ids::BadId| QueryError::Row(error.to_string()))?;
                    Ok((policy_name(&policy)?, store))
                })
                .collect()
        })
        .await
    }
}
