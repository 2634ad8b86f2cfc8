//! A base backup as one tar stream, and back into a data folder.

mod restore;
mod take;

pub mod page;

pub use restore::{PutBack, put_back};
pub use take::take;
