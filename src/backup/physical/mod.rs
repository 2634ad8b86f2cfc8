//! A base backup as one tar stream, and back into a data folder.

mod prints;
mod restore;
mod sampler;
mod source;
mod take;

pub mod base;
pub mod label;
pub mod local;
pub mod page;
pub mod pages;
pub mod pump;

pub use restore::{INCOMPLETE, PutBack, plan_findings, put_back};
pub use take::{by_program, pg_basebackup, stream_base, take, wal_of};
