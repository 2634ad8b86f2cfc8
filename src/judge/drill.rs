//! What a drill proved: recovery point, recovery time, verdict.

use crate::domain::transcript::{Judgement, Transcript};

/// Judges a finished drill from its transcript (whose own `judgement` is ignored).
pub fn judge(transcript: &Transcript) -> Judgement {
    let _ = transcript;
    todo!()
}
