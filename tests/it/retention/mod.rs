//! Retention on a folder with really sealed backups: what is deleted, what never is, and what a kill leaves.

mod bench;
mod cli;
mod kills;
mod life;
mod log;

pub use cli::Days;
