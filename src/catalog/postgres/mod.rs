//! The catalog on a PostgreSQL server, for any number of machines: the same tables, a pool of connections, and an end to every wait.

use std::time::Duration;

use deadpool::managed::{Pool, PoolError};
use tokio::sync::watch;

use self::error::Trouble;
use self::link::{Lent, Link};
use crate::domain::check::Broke;
use crate::domain::config::CatalogServer;

mod carry;
mod carry_outbox;
mod catalog;
mod error;
mod ledger;
mod link;
mod migrate;
mod notice;
mod outbox;
mod queue;
mod recorded;
mod rows;

pub use error::ServerError;
pub use migrate::{Migrated, migrate};

/// Connections of one process, at most. More would wait for the same rows.
const CONNECTIONS: usize = 6;

/// PostgreSQL: for a fleet.
pub struct PostgresCatalog {
    pool: Pool<Link>,
    target: String,
    /// The longest that one question may take, with the way there.
    within: Duration,
    /// Counts what was told of the queue; none: nobody listens.
    told: watch::Sender<notice::Told>,
    listener: std::sync::Mutex<Option<tokio::task::JoinHandle<()>>>,
    link: Link,
}

impl PostgresCatalog {
    /// Sets the pool up; nothing is connected until something is asked. A schema of another version is refused by then, and never changed
    /// from here: that is [`migrate`]'s.
    pub fn open(server: &CatalogServer) -> Result<PostgresCatalog, Broke> {
        let link = Link::new(server);
        // A password that cannot be read is told at once, and not when it is too late.
        let endpoint = link.endpoint().map_err(ServerError::from)?;
        let pool = Pool::builder(link.clone())
            .max_size(CONNECTIONS)
            .build()
            .map_err(|error| Broke::new(format!("the pool of connections to the catalog: {error}")))?;
        Ok(PostgresCatalog {
            pool,
            target: endpoint.to_string(),
            within: server.timeout.to_std(),
            told: watch::Sender::new(notice::Told::default()),
            listener: std::sync::Mutex::new(None),
            link,
        })
    }

    /// Does something with the catalog, in bounded time.
    async fn bounded<T>(
        &self,
        doing: &'static str,
        work: impl Future<Output = Result<T, Trouble>> + Send,
    ) -> Result<T, Broke> {
        match tokio::time::timeout(self.within, work).await {
            Ok(done) => done.map_err(|trouble| trouble.at(doing, &self.target)),
            Err(_) => Err(ServerError::Silent { target: self.target.clone(), doing, within: self.within }.into()),
        }
    }

    async fn lend(&self) -> Result<Lent, Trouble> {
        match self.pool.get().await {
            Ok(object) => Ok(Lent::new(object)),
            Err(PoolError::Backend(trouble)) => Err(trouble),
            // The pool sets no time limits of its own and is never closed.
            Err(_) => Err(Trouble::Other(Broke::new("the pool of connections to the catalog is closed"))),
        }
    }
}

impl Drop for PostgresCatalog {
    fn drop(&mut self) {
        let mut listener = self.listener.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(task) = listener.take() {
            task.abort();
        }
    }
}

/// Looks whether the catalog can be used: its server and its version, as words.
pub async fn look(server: &CatalogServer) -> Result<String, Broke> {
    let catalog = PostgresCatalog::open(server)?;
    let version = catalog.bounded("look at it", async { catalog.lend().await?.version() }).await?;
    Ok(format!("{}, schema {}, version {version}", catalog.target, server.schema))
}
