//! `pg_dump` under an exported snapshot, and `pg_restore`.

mod restore;
mod take;

pub use restore::{PutBack, put_back};
pub use take::take;
