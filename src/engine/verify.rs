//! The verify.
