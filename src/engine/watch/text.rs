//! Metrics as text, written part after part as they are read: of thousands of policies all of it at once would need much room.

use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Mutex;

use crate::domain::check::Broke;
use crate::judge::metrics::{World, samples_of};
use crate::telemetry::metrics::{Form, write};

/// What is still to be written.
pub struct Text {
    pub(super) world: Arc<World>,
    pub(super) now: Timestamp,
    pub(super) form: Form,
    pub(super) parts: Box<dyn Iterator<Item = Range<usize>> + Send>,
    /// Of all who read, one part is written at a time.
    pub(super) writing: Arc<Mutex<()>>,
}

impl Text {
    /// The next part; none: that was all.
    pub async fn next(&mut self) -> Option<Result<String, Broke>> {
        let part = self.parts.next()?;
        let _one = self.writing.lock().await;
        let (world, now, form) = (Arc::clone(&self.world), self.now, self.form);
        // With thousands of policies this takes a while: other tasks go on meanwhile.
        let text = tokio::task::spawn_blocking(move || {
            write(part.clone(), samples_of(part, &world, env!("CARGO_PKG_VERSION"), now), form)
        });
        let broke = || Broke::new("the metrics could not be written");
        Some(text.await.map_err(|_| broke()).and_then(|text| text.map_err(|_| broke())))
    }

    /// All that is left, at once.
    pub async fn whole(mut self) -> Result<String, Broke> {
        let mut all = String::new();
        while let Some(part) = self.next().await {
            all.push_str(&part?);
        }
        Ok(all)
    }
}
