//! `pg_dump` under an exported snapshot, and `pg_restore`.

mod globals;
mod restore;
mod take;

pub use restore::{PutBack, put_back, statements, taken, toc};
pub use take::{pg_dump, take};
