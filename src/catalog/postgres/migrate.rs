//! The schema brought up to date: only by who asks for it, one at a time, each step whole.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Client;

use super::error::{ServerError, Trouble};
use super::link::{Link, quoted};
use crate::domain::check::Broke;
use crate::domain::config::CatalogServer;
use crate::probe::Endpoint;

mod migrations {
    refinery::embed_migrations!("src/catalog/migrations/postgres");
}

/// The key of the advisory lock that is held meanwhile ("lboa", and what for).
const LOCK: i64 = 0x6C62_6F61_0000_0001;
/// A migration may take longer than a question.
const WITHIN: Duration = Duration::from_secs(600);

/// From which version of the schema to which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Migrated {
    /// Before; none: there was no catalog.
    pub from: Option<i32>,
    /// Now.
    pub to: i32,
}

/// Where a schema stands.
pub(super) enum History {
    /// Nothing is in it, or it is not there.
    Empty,
    /// The newest migration that was applied.
    At(i32),
}

/// The version that this lifeboat knows.
pub(super) fn latest() -> i32 {
    migrations::migrations::runner().get_migrations().iter().map(refinery::Migration::version).max().unwrap_or(0)
}

/// Looks at a schema, and refuses one that is somebody else's.
pub(super) async fn history(client: &Client, endpoint: &Endpoint, schema: &str) -> Result<History, Trouble> {
    let foreign = |why: String| {
        Trouble::from(ServerError::Foreign { target: endpoint.to_string(), schema: schema.to_owned(), why })
    };
    let seen = client
        .query_one(
            "select count(*) filter (where c.relname = 'refinery_schema_history'), count(*)
             from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
             where n.nspname = $1 and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')",
            &[&schema],
        )
        .await?;
    let (ours, all): (i64, i64) = (seen.get(0), seen.get(1));
    if ours == 0 {
        return if all == 0 { Ok(History::Empty) } else { Err(foreign(format!("it holds {all} other relations"))) };
    }
    let rows = client
        .query(
            &format!(
                "select version::int4, name::text, applied_on::text, checksum::text from {}.refinery_schema_history order by version",
                quoted(schema)
            ),
            &[],
        )
        .await?;
    let runner = migrations::migrations::runner();
    let mut newest = None;
    for row in rows {
        let (version, name): (i32, String) = (row.get(0), row.get(1));
        let (applied_on, checksum): (String, String) = (row.get(2), row.get(3));
        // The migration library panics on a history that it cannot parse: look first.
        if applied_on.parse::<Timestamp>().is_err() || checksum.parse::<u64>().is_err() {
            return Err(foreign("the history of its schema cannot be read".to_owned()));
        }
        if let Some(known) = runner.get_migrations().iter().find(|known| known.version() == version)
            && (known.name() != name || known.checksum().to_string() != checksum)
        {
            return Err(foreign(format!("version {version} of its schema, {name}, is not lifeboat's")));
        }
        newest = Some(version);
    }
    // Made by one who was killed before the first step.
    Ok(newest.map_or(History::Empty, History::At))
}

/// Makes the schema if need be, and brings it up to date. Whoever comes meanwhile waits, and then finds it done.
pub async fn migrate(server: &CatalogServer) -> Result<Migrated, Broke> {
    let link = Link::new(server);
    let endpoint = link.endpoint().map_err(ServerError::from)?;
    let target = endpoint.to_string();
    let doing = "bring the schema up to date";
    let work = async {
        let mut client = link.session(&endpoint, WITHIN).await?;
        client.execute("select pg_catalog.pg_advisory_lock($1)", &[&LOCK]).await?;
        let before = match history(&client, &endpoint, link.schema()).await? {
            History::At(version) if version > latest() => {
                return Err(ServerError::Newer { target: target.clone(), found: version, wanted: latest() }.into());
            }
            History::At(version) => Some(version),
            History::Empty => {
                let known = client
                    .query_one(
                        "select exists (select from pg_catalog.pg_namespace where nspname = $1)",
                        &[&link.schema()],
                    )
                    .await?;
                if !known.get::<_, bool>(0) {
                    client.batch_execute(&format!("create schema {}", quoted(link.schema()))).await?;
                }
                None
            }
        };
        let done = migrations::migrations::runner().run_async(&mut client).await;
        match done {
            Ok(_) => Ok(Migrated { from: before, to: latest() }),
            Err(error) => Err(failed(doing, &target, &error)),
        }
    };
    match tokio::time::timeout(WITHIN, work).await {
        Ok(done) => done.map_err(|trouble| trouble.at(doing, &target)),
        Err(_) => Err(ServerError::Silent { target: target.clone(), doing, within: WITHIN }.into()),
    }
}

fn failed(doing: &'static str, target: &str, error: &refinery::Error) -> Trouble {
    use refinery::error::Kind;
    if let Kind::Connection(_, source) = error.kind()
        && let Some(error) = source.downcast_ref::<tokio_postgres::Error>()
    {
        return ServerError::of(doing, target, error).into();
    }
    ServerError::Server { doing, target: target.to_owned(), why: error.to_string() }.into()
}
