//! What the tests stand on: a real PostgreSQL server each, and a working folder with a configuration.

pub mod artifacts;
pub mod copies;
pub mod data;
pub mod home;
pub mod server;
