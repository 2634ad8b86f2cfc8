//! The heartbeat: a numbered row that is committed in the source every few seconds. What of it comes back measures the recovery point.

use std::time::Duration;

use crate::domain::check::Broke;
use crate::domain::units::Span;
use crate::probe::Endpoint;
use crate::probe::heartbeat::Beater;
use crate::progress::Progress;

/// A beat that takes longer is given up, and the connection with it.
const AT_MOST: Duration = Duration::from_secs(30);

/// Beats for ever. A source that is away is waited for; it is told of once.
pub async fn keep_beating(endpoint: &Endpoint, every: Span, progress: &dyn Progress) {
    let every = every.to_std().max(Duration::from_millis(100));
    let mut told = false;
    loop {
        let Err(broke) = beat_until_lost(endpoint, every, &mut told, progress).await;
        if !told {
            told = true;
            progress.say(&format!("no heartbeat: {}", broke.error));
        }
        tokio::time::sleep(every).await;
    }
}

async fn beat_until_lost(
    endpoint: &Endpoint,
    every: Duration,
    told: &mut bool,
    progress: &dyn Progress,
) -> Result<std::convert::Infallible, Broke> {
    let mut beater = Beater::begin(endpoint).await?;
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let beaten = tokio::time::timeout(AT_MOST, beater.beat()).await;
        beaten.map_err(|_| Broke::new(format!("{endpoint} took longer than 30 s for a heartbeat")))??;
        if std::mem::take(told) {
            progress.say("the heartbeat goes on");
        }
    }
}
