//! Progress of runs that nobody sits in front of: into the log.

use crate::progress::Progress;

/// Tells the log, with the name of the work.
pub(super) struct Logged {
    /// Of which work: `orders backup nightly`.
    pub title: String,
    /// Its run; empty: it has none.
    pub run: String,
}

impl Progress for Logged {
    fn stage(&self, what: &str) {
        tracing::debug!(run = self.run, of = self.title, "stage: {what}");
    }

    fn expect(&self, _bytes: u64) {}

    fn moved(&self, _bytes: u64) {}

    fn say(&self, sentence: &str) {
        tracing::info!(run = self.run, of = self.title, "{sentence}");
    }
}
