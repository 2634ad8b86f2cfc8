//! A catalog on a real server.

use lifeboat::catalog::{Opened, PostgresCatalog, migrate};
use lifeboat::domain::config::CatalogServer;
use lifeboat::domain::policy::PasswordSource;
use lifeboat::domain::units::Span;

use super::server::Server;

/// In this schema of this server's database `postgres`; nothing is there yet.
pub fn place(server: &Server, schema: &str) -> CatalogServer {
    CatalogServer {
        url: server.url("postgres"),
        password: PasswordSource::Default,
        tls: None,
        tls_ca: None,
        schema: schema.to_owned(),
        timeout: Span::from_secs(30),
        connect_timeout: Span::from_secs(10),
        spool: server.socket_dir.join("spool"),
    }
}

/// The same, made.
pub async fn opened(server: &Server, schema: &str) -> Opened {
    let place = place(server, schema);
    migrate(&place).await.unwrap();
    PostgresCatalog::open(&place).unwrap().into()
}
