//! Which catalog it is, is the configuration's business and nobody else's.

use std::sync::Arc;

use super::{Catalog, Outbox, PostgresCatalog, Queue, Spooling, SqliteCatalog};
use crate::domain::check::Broke;
use crate::domain::config::CatalogPlace;

/// A catalog, and the queue that is in it.
#[derive(Clone)]
pub struct Opened {
    /// Runs and artifacts.
    pub catalog: Arc<dyn Catalog>,
    /// Runs that are to be done.
    pub queue: Arc<dyn Queue>,
    /// Alarms and letters.
    pub outbox: Arc<dyn Outbox>,
}

impl From<SqliteCatalog> for Opened {
    fn from(catalog: SqliteCatalog) -> Opened {
        let catalog = Arc::new(catalog);
        let queue = Arc::clone(&catalog) as Arc<dyn Queue>;
        Opened { queue, outbox: Arc::clone(&catalog) as Arc<dyn Outbox>, catalog }
    }
}

impl From<PostgresCatalog> for Opened {
    fn from(catalog: PostgresCatalog) -> Opened {
        let catalog = Arc::new(catalog);
        let queue = Arc::clone(&catalog) as Arc<dyn Queue>;
        Opened { queue, outbox: Arc::clone(&catalog) as Arc<dyn Outbox>, catalog }
    }
}

/// Opens the catalog that the configuration names. One on a server may go away: what runs have to say meanwhile waits on this machine.
pub fn open(place: &CatalogPlace) -> Result<Opened, Broke> {
    match place {
        CatalogPlace::Sqlite(path) => Ok(SqliteCatalog::open(path)?.into()),
        CatalogPlace::Postgres(server) => {
            let opened = Opened::from(PostgresCatalog::open(server)?);
            let catalog = Arc::new(Spooling::before(opened.catalog, &server.spool));
            Ok(Opened { catalog, queue: opened.queue, outbox: opened.outbox })
        }
    }
}
