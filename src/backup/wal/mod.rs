//! The write-ahead log: received from a server, and what a segment holds.

mod scan;
pub mod slot;
mod stream;

pub use scan::{BadSegment, Header, header, scan};
pub use stream::{Identity, Said};
