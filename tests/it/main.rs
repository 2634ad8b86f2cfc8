//! Tests against real servers and the real binary: one crate, one link.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panicking")]

mod support;

mod architecture;
mod backup_dump;
mod backup_physical;
mod backup_pump;
mod smoke;
