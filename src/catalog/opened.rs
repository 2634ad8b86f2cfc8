//! Which catalog it is, is the configuration's business and nobody else's.

use std::sync::Arc;

use super::{Catalog, PostgresCatalog, Queue, Spooling, SqliteCatalog};
use crate::domain::check::Broke;
use crate::domain::config::CatalogPlace;

/// A catalog, and the queue that is in it.
#[derive(Clone)]
pub struct Opened {
    /// Runs and artifacts.
    pub catalog: Arc<dyn Catalog>,
    /// Runs that are to be done.
    pub queue: Arc<dyn Queue>,
}

impl From<SqliteCatalog> for Opened {
    fn from(catalog: SqliteCatalog) -> Opened {
        let catalog = Arc::new(catalog);
        Opened { queue: Arc::clone(&catalog) as Arc<dyn Queue>, catalog }
    }
}

impl From<PostgresCatalog> for Opened {
    fn from(catalog: PostgresCatalog) -> Opened {
        let catalog = Arc::new(catalog);
        Opened { queue: Arc::clone(&catalog) as Arc<dyn Queue>, catalog }
    }
}

/// Opens the catalog that the configuration names. One on a server may go away: what runs have to say meanwhile waits on this machine.
pub fn open(place: &CatalogPlace) -> Result<Opened, Broke> {
    match place {
        CatalogPlace::Sqlite(path) => Ok(SqliteCatalog::open(path)?.into()),
        CatalogPlace::Postgres(server) => {
            let opened = Opened::from(PostgresCatalog::open(server)?);
            Ok(Opened { catalog: Arc::new(Spooling::before(opened.catalog, &server.spool)), queue: opened.queue })
        }
    }
}
