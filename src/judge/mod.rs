//! The decisions. Pure: everything that counts is an argument, `now` among them, and every decision returns its reasons.

pub mod alarm;
pub mod books;
pub mod copies;
pub mod drift;
pub mod drill;
pub mod due;
pub mod exposure;
pub mod freshness;
pub mod hole;
pub mod instants;
pub mod integrity;
pub mod ledger;
pub mod metrics;
pub mod mutation;
pub mod retention;
pub mod schedule;
pub mod search;
pub mod spool;
pub mod stream;
pub mod tools;
pub mod underway;
pub mod wal;
