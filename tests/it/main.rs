//! Tests against real servers and the real binary: one crate, one link.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panicking")]

mod support;

mod architecture;
mod bad_input;
mod catalog;
mod config_cli;
mod demo;
mod kills;
mod main_job;
mod probe;
mod real_day;
mod scratch;
mod seal;
mod shipped_files;
mod smoke;
mod store_contract;
mod without_lifeboat;
