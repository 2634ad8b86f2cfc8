//! Transcripts and facts to pictures. Pure: text in, text out.

pub mod html;
pub mod report;
pub mod runbook;
pub mod status;
