//! What the tests stand on: a real PostgreSQL server each, and a working folder with a configuration.

pub mod server;
pub mod sink;
