//! What happens in which order: each main operation reads like a runbook.

pub mod adopt;
pub mod backup;
pub mod carry;
pub mod claimed;
pub mod control_plane;
pub mod copies;
pub mod copy;
pub mod drift;
pub mod drill;
pub mod examine;
pub mod find;
pub mod heartbeat;
pub mod house;
pub mod immutability;
pub mod interrupt;
pub mod ledger;
pub mod mutate;
pub mod process;
pub mod prune;
pub mod restore;
pub mod serve;
pub mod standing;
pub mod sweep;
pub mod verify;
pub mod wal;
pub mod watch;

pub use house::House;
