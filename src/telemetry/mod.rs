//! Logs, metrics, traces and signs of life: what goes out to those who watch. What it says is decided elsewhere.

pub mod log;
pub mod metrics;
pub mod redact;
pub mod traces;
pub mod vitals;

use crate::domain::ids::{PolicyName, RunId};
use crate::domain::run::Work;

/// The span of a run: each line that is logged in it carries the run and its policy, and it is one trace.
pub fn run_span(policy: Option<&PolicyName>, run: RunId, work: &Work) -> tracing::Span {
    let policy = policy.map_or("", PolicyName::as_str);
    tracing::error_span!(target: traces::TARGET, "run", %run, policy, work = work.title(), outcome = tracing::field::Empty)
}

/// The span of one step of a run.
pub fn step_span(name: &str) -> tracing::Span {
    tracing::error_span!(target: traces::TARGET, "step", otel.name = name, step = name, ended = tracing::field::Empty)
}
