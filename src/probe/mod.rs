//! Asks a database: connections, fingerprints, digests. The same questions serve source and scratch.
//!
//! This room only ever reads. Everything is asked in read-only transactions with fixed settings, so that an answer does
//! not depend on how a role or a database was set up.

pub mod endpoint;
pub mod tls;

pub use endpoint::{Endpoint, EndpointError};

mod content;
mod database;
mod server;
mod snapshot;

pub use content::{RowFilter, digest_tables};
pub use database::database;
pub use server::{roles, server, tablespaces};
pub use snapshot::{OpenSnapshot, clock_skew};

impl From<EndpointError> for crate::domain::check::Broke {
    fn from(error: EndpointError) -> crate::domain::check::Broke {
        crate::domain::check::Broke { error: error.to_string(), hint: Some(error.hint()) }
    }
}
