//! Bytes that moved on some other thread, told to whoever listens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::progress::Progress;

/// A count that a blocking thread adds to.
#[derive(Clone, Debug, Default)]
pub struct Moved(Arc<AtomicU64>);

impl Moved {
    /// So many more.
    pub fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Waits for `work`, and tells `progress` every tenth of a second what moved meanwhile.
    pub async fn watch<T>(&self, progress: &dyn Progress, work: impl Future<Output = T>) -> T {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut told = 0;
        let mut tell = || {
            let now = self.0.load(Ordering::Relaxed);
            if now > told {
                progress.moved(now - told);
                told = now;
            }
        };
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => {
                    tell();
                    return done;
                }
                _ = tick.tick() => tell(),
            }
        }
    }
}
