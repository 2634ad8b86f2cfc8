//! What the tests stand on: a real PostgreSQL server each, and a working folder with a configuration.

pub mod artifacts;
pub mod catalog;
pub mod copies;
pub mod data;
pub mod ears;
pub mod faulty;
pub mod home;
pub mod invariants;
pub mod majors;
pub mod receiver;
pub mod recovered;
pub mod s3;
pub mod server;
pub mod sink;
pub mod way;

/// The fixed transcripts, artifacts and policies of the unit tests, compiled against the crate under test.
#[path = "../../../src/domain/sample.rs"]
pub mod sample;
