//! A snapshot that is held open and exported, so that `pg_dump` and several connections see one state.

use jiff::Timestamp;
use tokio_postgres::Client;

use crate::domain::check::Broke;
use crate::domain::inventory::Snapshot;
use crate::domain::units::Span;

use super::Endpoint;

/// A read-only, repeatable-read transaction, open as long as this lives, with fixed session settings.
pub struct OpenSnapshot {
    /// Its connection.
    pub client: Client,
    /// How further connections get in.
    pub endpoint: Endpoint,
    /// For `pg_dump --snapshot` and `SET TRANSACTION SNAPSHOT`.
    pub exported: String,
    /// What it sees, and the source's clock at its start.
    pub snapshot: Snapshot,
}

impl OpenSnapshot {
    /// Opens it in the endpoint's database.
    pub async fn open(endpoint: &Endpoint) -> Result<OpenSnapshot, Broke> {
        let _ = endpoint;
        todo!()
    }
}

/// Runner's clock less the server's clock, from the round trip with the smallest error; and the runner's time of it.
pub async fn clock_skew(client: &Client) -> Result<(Span, Timestamp), Broke> {
    let _ = client;
    todo!()
}
