//! How old backups and proofs are, against what was promised.

use jiff::Timestamp;

use crate::domain::policy::Policy;
use crate::domain::run::{ArtifactRecord, Run};
use crate::domain::transcript::{Transcript, Verdict};
use crate::domain::units::Span;

/// Where a policy stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// In one word: `proven` only if the newest judged drill proved it and that proof is young enough, and the newest backup is within the objective.
    pub verdict: Verdict,
    /// The newest backup.
    pub last_backup: Option<ArtifactRecord>,
    /// Now less the newest recovery point: what would be lost now.
    pub exposure: Option<Span>,
    /// Run, end and age of the newest drill that was `proven`.
    pub last_proven: Option<(crate::domain::ids::RunId, Timestamp, Span)>,
    /// RPA and RTA of the newest drill that measured them.
    pub rpa: Option<Span>,
    /// As above.
    pub rta: Option<Span>,
    /// What is wrong, gravest first; empty: nothing.
    pub wrong: Vec<String>,
}

/// Judges where a policy stands. `transcripts`, `artifacts` and `runs` are newest first.
pub fn standing(
    policy: &Policy,
    artifacts: &[ArtifactRecord],
    transcripts: &[Transcript],
    runs: &[Run],
    now: Timestamp,
) -> Standing {
    let _ = (policy, artifacts, transcripts, runs, now);
    todo!()
}
