//! The write-ahead log: what a segment holds.

mod scan;

pub use scan::{BadSegment, Header, header, scan};
