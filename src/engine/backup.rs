//! The backup.
