//! Tests against real servers and the real binary: one crate, one link.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panicking")]

mod support;

// `src/domain/sample.rs`, which some tests take in, names the nouns as the crate itself does.
use lifeboat::{domain, judge};

mod architecture;
mod backup_dump;
mod backup_local;
mod backup_physical;
mod backup_pump;
mod backup_whole;
mod bad_input;
mod catalog;
mod catalog_away;
mod catalog_away_rest;
mod catalog_carry;
mod catalog_postgres;
mod checks;
mod compose;
mod config_cli;
mod content;
mod control_plane;
mod copies;
mod copies_real;
mod demo;
mod drift;
mod faults;
mod find;
mod first_store;
mod hard_cluster;
mod hard_objects;
mod hostile;
mod kills;
mod ledger;
mod main_job;
mod majors;
mod mutate;
mod plain_source;
mod probe;
mod queue;
mod real_day;
mod render_cli;
mod restore_logical;
mod restore_physical;
mod retention;
mod s3;
mod s3_faults;
mod sampled;
mod schedule_sim;
mod scratch;
mod scratch_database;
mod seal;
mod seal_later;
mod seal_log;
mod seal_marks;
mod seal_shape;
mod serve;
mod serve_drift;
mod serve_fleet;
mod serve_parts;
mod shipped_files;
mod signals;
mod smoke;
mod store_contract;
mod traps;
mod verify_cli;
mod wal;
mod wal_ahead;
mod wal_audit;
mod wal_loss;
mod wal_spool;
mod wal_stream;
mod watching;
mod without_lifeboat;
