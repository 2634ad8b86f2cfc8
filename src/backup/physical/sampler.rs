//! Which moment the end of a base backup is.
//!
//! A base backup ends at a place in the log, not at a time. So while it runs, the source is asked again and again for its
//! clock and, after that, its place in the log. The newest answer whose place is not beyond the backup's end gives the
//! recovery point: what was committed before that moment lies before that place, and so is in the backup.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::backup::session::{self, asked};
use crate::domain::artifact::{Basis, RecoveryPoint};
use crate::domain::check::Broke;
use crate::domain::lsn::Lsn;
use crate::probe::Endpoint;

const EVERY: Duration = Duration::from_millis(250);

/// One answer.
type Sample = (Timestamp, Lsn);

/// Asks until it is stopped or dropped.
#[derive(Debug)]
pub struct Sampler {
    samples: Arc<Mutex<Vec<Sample>>>,
    /// A moment that is in every backup that begins from now on.
    floor: Timestamp,
    task: JoinHandle<()>,
}

impl Sampler {
    /// Takes the first sample, which is before the backup begins, and goes on in a task of its own.
    pub async fn start(endpoint: &Endpoint) -> Result<Sampler, Broke> {
        let client = session::plain(endpoint).await?;
        let failed = |error: tokio_postgres::Error| asked(endpoint, &error);
        let first = session::clock_and_place(&client).await.map_err(failed)?;
        let floor = floor(&client, first.0).await.map_err(failed)?;
        let samples = Arc::new(Mutex::new(vec![first]));
        let kept = Arc::clone(&samples);
        let task = tokio::spawn(async move {
            let mut tick = tokio::time::interval(EVERY);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                tick.tick().await;
                // A source that no longer answers has no later recovery point; the backup itself says what is wrong.
                let Ok(sample) = session::clock_and_place(&client).await else { return };
                keep(&mut kept.lock().unwrap_or_else(PoisonError::into_inner), sample);
            }
        });
        Ok(Sampler { samples, floor, task })
    }

    /// The recovery point of a backup that ends at `end`.
    pub fn recovery_point(&self, end: Lsn) -> RecoveryPoint {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let at = newest_before(&samples, end).unwrap_or(self.floor);
        RecoveryPoint { at, lsn: Some(end), basis: Basis::EndOfBackup }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// On a primary the backup cannot end before the place where its beginning was asked for. On a standby it ends at the
/// minimum recovery point, which can lie before what is already replayed: there only the checkpoint from which the
/// backup's own log begins, or an earlier one, is certain.
async fn floor(client: &Client, first: Timestamp) -> Result<Timestamp, tokio_postgres::Error> {
    let question = "select pg_is_in_recovery(), (extract(epoch from checkpoint_time) * 1000000)::bigint from pg_control_checkpoint()";
    let row = client.query_one(question, &[]).await?;
    if row.get::<_, bool>(0) {
        Ok(Timestamp::from_microsecond(row.get(1)).unwrap_or(Timestamp::MIN))
    } else {
        Ok(first)
    }
}

/// Two samples at one place are one moment, the later: an idle source costs no memory, a busy one 16 bytes four times a second.
fn keep(samples: &mut Vec<Sample>, sample: Sample) {
    match samples.last_mut() {
        Some(last) if last.1 == sample.1 => *last = sample,
        _ => samples.push(sample),
    }
}

fn newest_before(samples: &[Sample], end: Lsn) -> Option<Timestamp> {
    samples.iter().filter(|(_, lsn)| *lsn <= end).map(|(at, _)| *at).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_sample_not_beyond_the_end_counts() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let mut samples = Vec::new();
        for (second, lsn) in [(1, 10), (2, 10), (3, 20), (4, 30)] {
            keep(&mut samples, (at(second), Lsn(lsn)));
        }
        assert_eq!(samples.len(), 3, "idle moments take no room");
        for (end, newest) in [(9, None), (10, Some(2)), (19, Some(2)), (20, Some(3)), (29, Some(3)), (99, Some(4))] {
            assert_eq!(newest_before(&samples, Lsn(end)), newest.map(at), "{end}");
        }
    }
}
