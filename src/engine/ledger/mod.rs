//! The coverage ledger: which bytes of which object in which store were last read back and found right, when, and how deep.
//!
//! Whoever reads whole objects and verifies them feeds it ([`Record`]); [`walk`] reads what was not read for the longest time.

mod reading;
mod record;
mod shelf;
mod survey;
mod walk;

pub use record::Record;
pub use survey::{Eyes, Facts, Found, Held, Survey, What, survey};
pub use walk::{Covered, Walk, walk};
