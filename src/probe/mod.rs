//! Asks a database: connections, fingerprints, digests. The same questions serve source and scratch.
//!
//! This room only ever reads. Everything is asked in read-only transactions with fixed settings, so that an answer does
//! not depend on how a role or a database was set up.

pub mod endpoint;
pub mod heartbeat;
pub mod tls;

pub use endpoint::{Endpoint, EndpointError, root_cause};

mod changes;
mod content;
mod database;
mod error;
mod large_objects;
mod log;
mod objects;
mod posture;
mod redact;
mod sequences;
mod server;
pub mod session;
mod shared;
mod snapshot;
mod traces;

pub use changes::{changed_objects, changed_roles, changed_tablespaces, note_changes};
pub use content::{Digested, RowFilter, Sample, Writes, copy, digest, digest_tables};
pub use database::{OWN_SCHEMA, collations, database, describe, extensions};
pub use error::{Fault, ProbeError};
pub use large_objects::large_objects;
pub use log::source_log;
pub use objects::objects;
pub use posture::posture;
pub use sequences::{Pace, note_moves, paces, sequences};
pub use server::{roles, server, tablespaces};
pub use shared::shared_objects;
pub use snapshot::{OpenSnapshot, Skew, clock_skew, measure_skew};
pub use traces::{Traces, traces};

impl From<EndpointError> for crate::domain::check::Broke {
    fn from(error: EndpointError) -> crate::domain::check::Broke {
        crate::domain::check::Broke { error: error.to_string(), hint: Some(error.hint()) }
    }
}
