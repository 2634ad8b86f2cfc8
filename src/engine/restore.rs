//! The restore.
