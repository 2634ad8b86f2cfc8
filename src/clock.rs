//! The one place that reads the wall clock.

use jiff::Timestamp;

/// Now.
#[expect(clippy::disallowed_methods, reason = "this is the clock adapter; everybody else is given the time")]
pub fn now() -> Timestamp {
    Timestamp::now()
}
