//! One connection: made, checked, lent, and thrown away when it is not known what it is still doing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use deadpool::managed::{Manager, Metrics, Object, RecycleError, RecycleResult};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::error::{ServerError, Trouble};
use super::migrate::{self, History};
use crate::domain::config::CatalogServer;
use crate::probe::{Endpoint, EndpointError};

/// How connections are made.
#[derive(Clone, Debug)]
pub(super) struct Link {
    server: CatalogServer,
}

impl Link {
    pub(super) fn new(server: &CatalogServer) -> Link {
        Link { server: server.clone() }
    }

    /// Read anew for each connection: passwords are changed while we run.
    pub(super) fn endpoint(&self) -> Result<Endpoint, EndpointError> {
        let server = &self.server;
        let (tls_ca, within) = (server.tls_ca.as_deref(), server.connect_timeout.min(server.timeout).to_std());
        Endpoint::open(&server.url, &server.password, server.tls, tls_ca, within)
    }

    pub(super) fn schema(&self) -> &str {
        &self.server.schema
    }

    pub(super) fn within(&self) -> Duration {
        self.server.timeout.to_std()
    }

    /// A session of our own settings. The server gives up when we do, so that nothing goes on that nobody waits for.
    pub(super) async fn session(&self, endpoint: &Endpoint, limit: Duration) -> Result<Client, Trouble> {
        let client = endpoint.connect().await.map_err(ServerError::from)?;
        let milliseconds = limit.as_millis().max(1);
        client
            .batch_execute(&format!(
                "set search_path = {}, pg_catalog; set statement_timeout = {milliseconds}; set lock_timeout = {milliseconds};
                 set idle_in_transaction_session_timeout = {}; set default_transaction_isolation = 'read committed'; set timezone = 'UTC';
                 select pg_catalog.set_config('synchronous_commit', 'on', false) where pg_catalog.current_setting('synchronous_commit') in ('off', 'local')",
                quoted(self.schema()),
                milliseconds.saturating_mul(2),
            ))
            .await?;
        Ok(client)
    }
}

/// An identifier between quotes.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A connection in the pool.
pub(super) struct Connection {
    client: Client,
    statements: Mutex<HashMap<&'static str, Statement>>,
    version: i32,
}

impl Manager for Link {
    type Type = Connection;
    type Error = Trouble;

    async fn create(&self) -> Result<Connection, Trouble> {
        let endpoint = self.endpoint().map_err(ServerError::from)?;
        let client = self.session(&endpoint, self.within()).await?;
        let history = migrate::history(&client, &endpoint, self.schema()).await?;
        let version = match history {
            History::Empty => {
                let schema = self.schema().to_owned();
                return Err(ServerError::Missing { target: endpoint.to_string(), schema }.into());
            }
            History::At(version) => version,
        };
        let (target, wanted) = (endpoint.to_string(), migrate::latest());
        match version.cmp(&wanted) {
            std::cmp::Ordering::Less => Err(ServerError::Older { target, found: version, wanted }.into()),
            std::cmp::Ordering::Greater => Err(ServerError::Newer { target, found: version, wanted }.into()),
            std::cmp::Ordering::Equal => Ok(Connection { client, statements: Mutex::default(), version }),
        }
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<Trouble> {
        if connection.client.is_closed() { Err(RecycleError::message("the connection is closed")) } else { Ok(()) }
    }
}

/// A connection that is lent. One on which something may still be under way, or whose transaction was not ended, does not go back.
pub(super) struct Lent {
    connection: Option<Object<Link>>,
    under_way: AtomicUsize,
    open: AtomicBool,
}

impl Drop for Lent {
    fn drop(&mut self) {
        let unsettled = self.under_way.load(Ordering::Relaxed) > 0 || self.open.load(Ordering::Relaxed);
        if let Some(connection) = self.connection.take()
            && unsettled
        {
            drop(Object::take(connection));
        }
    }
}

impl Lent {
    pub(super) fn new(connection: Object<Link>) -> Lent {
        Lent { connection: Some(connection), under_way: AtomicUsize::new(0), open: AtomicBool::new(false) }
    }

    fn connection(&self) -> Result<&Connection, Trouble> {
        // Taken only when this is dropped.
        self.connection.as_deref().ok_or_else(|| Trouble::Row("the connection was given back".to_owned()))
    }

    /// The schema's version.
    pub(super) fn version(&self) -> Result<i32, Trouble> {
        Ok(self.connection()?.version)
    }

    async fn statement(&self, sql: &'static str) -> Result<Statement, Trouble> {
        let connection = self.connection()?;
        let known = connection.statements.lock().unwrap_or_else(PoisonError::into_inner).get(sql).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = connection.client.prepare(sql).await?;
        connection.statements.lock().unwrap_or_else(PoisonError::into_inner).insert(sql, statement.clone());
        Ok(statement)
    }

    /// The rows of a question.
    pub(super) async fn rows(&self, sql: &'static str, with: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Trouble> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let answer = async {
            let statement = self.statement(sql).await?;
            Ok(self.connection()?.client.query(&statement, with).await?)
        }
        .await;
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        answer
    }

    /// At most one row.
    pub(super) async fn row(&self, sql: &'static str, with: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, Trouble> {
        Ok(self.rows(sql, with).await?.into_iter().next())
    }

    /// How many rows were changed.
    pub(super) async fn execute(&self, sql: &'static str, with: &[&(dyn ToSql + Sync)]) -> Result<u64, Trouble> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let answer = async {
            let statement = self.statement(sql).await?;
            Ok(self.connection()?.client.execute(&statement, with).await?)
        }
        .await;
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        answer
    }

    /// Begins a transaction; without a [`Lent::commit`] the connection is thrown away, and with it whatever was done.
    pub(super) async fn begin(&self) -> Result<(), Trouble> {
        self.open.store(true, Ordering::Relaxed);
        self.connection()?.client.batch_execute("begin").await?;
        Ok(())
    }

    /// Ends it; durable on return.
    pub(super) async fn commit(&self) -> Result<(), Trouble> {
        self.connection()?.client.batch_execute("commit").await?;
        self.open.store(false, Ordering::Relaxed);
        Ok(())
    }
}
