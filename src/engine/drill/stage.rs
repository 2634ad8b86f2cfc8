//! What a drill is performed on: a server that is restored, or lifeboat itself.

use std::time::Instant;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::check::{Broke, CheckResult, Stop};
use crate::domain::drill::{AwaitReady, Check, Restore, Sabotage};
use crate::domain::transcript::{Ended, LogReplayed, Phase, ScratchUsed, Transcript};
use crate::domain::units::Span;
use crate::progress::Progress;

/// One half of a restore: the bytes, or what is started on them.
pub struct RestorePart {
    /// To which part of the recovery time it counts.
    pub phase: Phase,
    /// When it began.
    pub began: Instant,
    /// How long it took.
    pub took: Span,
    /// How it ended.
    pub ended: Ended,
    /// What is to be told of it.
    pub facts: Vec<String>,
}

impl RestorePart {
    /// One that ends now.
    pub fn ended(phase: Phase, began: Instant, done: Result<Vec<String>, Stop>) -> RestorePart {
        let (ended, facts) = match done {
            Ok(facts) => (Ended::Done, facts),
            Err(stop) => (super::ended(stop), Vec::new()),
        };
        RestorePart { phase, began, took: Span::from_std(began.elapsed()), ended, facts }
    }
}

/// The steps of one drill, each as it is performed.
#[async_trait]
pub trait Stage: Send + Sync {
    /// Makes the place, and writes down that it is owed a sweep.
    async fn provision(&mut self, transcript: &Transcript) -> Result<Vec<String>, Stop>;
    /// Brings the backup back: each part is timed. What comes after one that did not end well is not begun.
    async fn restore(&mut self, restore: &Restore, lost_at: Timestamp, progress: &dyn Progress) -> Vec<RestorePart>;
    /// Asks until the answer comes within its latency.
    async fn await_ready(&self, ready: &AwaitReady) -> Result<Vec<String>, Stop>;
    /// Makes one check.
    async fn check(&self, check: &Check) -> CheckResult;
    /// Breaks what came back, on purpose.
    async fn sabotage(&self, sabotage: &Sabotage) -> Result<Vec<String>, Stop>;
    /// What the log behind the backup added.
    fn log_replayed(&self) -> Option<LogReplayed>;
    /// What the transcript says about the scratch, as it is now.
    fn scratch_used(&self) -> Option<ScratchUsed>;
    /// The name of the scratch, if one was made.
    fn scratch_name(&self) -> Option<String>;
    /// Destroys it.
    async fn destroy(self: Box<Self>) -> Result<(), Broke>;
}
