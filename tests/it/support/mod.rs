//! What the tests stand on: a real PostgreSQL server each, and a working folder with a configuration.

#[path = "../../../src/domain/sample.rs"]
pub mod sample;
pub mod server;
