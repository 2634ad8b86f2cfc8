//! Tests against real servers and the real binary: one crate, one link.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panicking")]

mod support;

mod checks;
mod probe;
mod smoke;
