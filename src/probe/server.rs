//! The fingerprint of a server.

use tokio_postgres::Client;

use crate::domain::check::Broke;
use crate::domain::inventory::{Role, Server, Tablespace};

/// The server itself.
pub async fn server(client: &Client) -> Result<Server, Broke> {
    let _ = client;
    todo!()
}

/// Its roles, but for PostgreSQL's own.
pub async fn roles(client: &Client) -> Result<Vec<Role>, Broke> {
    let _ = client;
    todo!()
}

/// Its tablespaces, but for PostgreSQL's own.
pub async fn tablespaces(client: &Client) -> Result<Vec<Tablespace>, Broke> {
    let _ = client;
    todo!()
}
