//! Transcripts and facts to pictures. Pure: text in, text out.

pub mod drift;
pub mod html;
mod instruct;
mod layout;
pub mod letter;
pub mod mutations;
pub mod narrate;
mod place;
pub mod report;
pub mod runbook;
pub mod status;
mod words;

pub use words::{ago, plain};
