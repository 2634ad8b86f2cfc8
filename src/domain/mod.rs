//! The nouns of lifeboat, and nothing else: no clock, no file, no socket, no process.
//!
//! Everything here can be built in a test from literals, compared and serialised. Decisions over these nouns are in
//! [`crate::judge`], their TOML form is in [`crate::load`], their pictures are in [`crate::render`].

pub mod alarm;
pub mod artifact;
pub mod bucket;
pub mod check;
pub mod config;
pub mod copies;
pub mod drift;
pub mod drill;
pub mod exposure;
pub mod facts;
pub mod heartbeat;
pub mod hole;
pub mod ids;
pub mod immutability;
pub mod inventory;
pub mod ledger;
pub mod lsn;
pub mod mark;
pub mod mutation;
pub mod observed;
pub mod policy;
pub mod posture;
pub mod queue;
pub mod run;
pub mod summary;
pub mod timetable;
pub mod transcript;
pub mod units;
pub mod wal;
pub mod watch;

#[cfg(test)]
pub mod sample;
