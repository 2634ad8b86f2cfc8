//! A drill as one self-contained HTML page that prints well.

use crate::domain::transcript::Transcript;

/// The page.
pub fn page(transcript: &Transcript) -> String {
    let _ = transcript;
    todo!()
}
