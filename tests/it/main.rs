//! Tests against real servers and the real binary: one crate, one link.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panicking")]

// The samples are written from inside the library, and know these rooms as `crate::…`.
use lifeboat::{domain, judge};

mod support;

mod catalog;
mod render_cli;
mod smoke;
