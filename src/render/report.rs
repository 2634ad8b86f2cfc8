//! A drill on a terminal.

use crate::domain::transcript::Transcript;

/// The report; `width` in columns, `color` with ANSI escapes.
pub fn terminal(transcript: &Transcript, width: usize, color: bool) -> String {
    let _ = (transcript, width, color);
    todo!()
}
