//! `lifeboat wal stream`: receives the log as the source writes it, and has it durable in the store within a declared lag.
//!
//! The source is told only of what is durable: it keeps the rest, under a slot of the policy's own. So a receiver may be killed at any moment;
//! the next one begins with the segment that was not whole, and finds again what it has of it.

mod begin;
mod receive;
mod sealing;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use self::begin::{Ground, Means};
use self::receive::{End, Receiver};
use self::sealing::{Durable, Sealing};
use super::job;
use crate::backup::wire::Wire;
use crate::domain::check::Broke;
use crate::domain::policy::Policy;
use crate::domain::units::Span;
use crate::engine::heartbeat;
use crate::engine::{House, interrupt};
use crate::judge::stream::Place;
use crate::progress::Progress;
use crate::seal::WalSealer;

/// How long received bytes may wait before they are durable, when the policy does not say.
pub const LAG: Span = Span::from_secs(1);
/// Between two tries to reach a source that is away.
const RECONNECT: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
    Duration::from_secs(30),
];
/// SQLSTATE of a file that is not there: the log that was asked for has been recycled.
const UNDEFINED_FILE: &str = "58P01";

/// Receives until the process is asked to stop. `once`: a connection that is lost ends it.
pub async fn stream(house: &House, policy: &Policy, once: bool, progress: &dyn Progress) -> Result<(), Broke> {
    let plan = policy.wal.as_ref().filter(|plan| plan.stream).ok_or_else(|| {
        Broke::hinted(
            format!("policy {} does not receive the log", policy.name),
            "write [wal] stream = true in the policy; or use archive_command with `lifeboat wal push`",
        )
    })?;
    let job = job(policy).ok_or_else(|| {
        Broke::hinted(
            format!("policy {} takes no physical backup, and only those can use the log", policy.name),
            "add a [[backup]] with method = \"physical\" to the policy",
        )
    })?;
    let (endpoint, store) = (house.source(&policy.source)?, house.store_to_fill(policy, &job.store).await?);
    let (signer, trusted) = (house.signer()?, house.trusted()?);
    let sealer = || {
        let recipients = &policy.encryption.recipients;
        WalSealer::new(Arc::clone(&store), policy.name.clone(), recipients, job.level, signer.clone())
    };
    let own = sealer()?;
    // What `wal push` has left in the spool is in the store before anything is looked up there.
    for sentence in super::spool::empty_first(policy, &own, &trusted).await {
        progress.say(&sentence);
    }
    let known = house.catalog.artifacts(&policy.name).await?;
    let of = known.into_iter().map(|record| record.system_identifier).find(|identifier| !identifier.is_empty());
    let lag = plan.lag.unwrap_or(LAG);
    let beating = async {
        match plan.heartbeat {
            Some(every) => heartbeat::keep_beating(&endpoint, every, progress).await,
            None => std::future::pending().await,
        }
    };
    let receiving = async {
        let (mut tries, mut was_there) = (0, false);
        loop {
            let means = Means {
                endpoint: &endpoint,
                store: &store,
                policy: &policy.name,
                trusted: &trusted,
                sealer: &own,
                of: of.as_deref(),
            };
            let opened = tokio::select! {
                _ = interrupt::asked_to_stop() => return Ok(()),
                opened = open(house, means, lag, sealer()?, progress) => opened,
            };
            let mut receiver = match opened {
                Ok(receiver) => receiver,
                // What was never there may be misspelt; what was is away, and comes again.
                Err(broke) if once || !was_there => return Err(broke),
                Err(broke) => {
                    progress.say(&format!("{}; trying again", broke.error));
                    tokio::select! {
                        _ = interrupt::asked_to_stop() => return Ok(()),
                        () = tokio::time::sleep(RECONNECT[tries.min(RECONNECT.len() - 1)]) => {}
                    }
                    tries += 1;
                    continue;
                }
            };
            (tries, was_there) = (0, true);
            match receiver.receive().await? {
                End::Asked => return Ok(()),
                End::Timeline => {}
                End::Lost(broke) if once => return Err(broke),
                End::Lost(broke) => {
                    progress.say(&format!("{}; what had come is durable; trying again", broke.error));
                    tokio::time::sleep(RECONNECT[0]).await;
                }
            }
        }
    };
    // A store that takes nothing must not keep a process for ever that was asked to stop.
    let asked = async {
        interrupt::asked_to_stop().await;
        tokio::time::sleep(receive::LAST_WORDS).await;
    };
    tokio::select! {
        done = receiving => done,
        () = beating => Err(Broke::new("the heartbeat ended")),
        () = asked => Err(Broke::hinted(
            "not everything that had come was durable when the process was asked to stop",
            "the source keeps it under its slot: the next `lifeboat wal stream` goes on from there",
        )),
    }
}

/// Connects and begins to receive, at the best place that the server has kept.
async fn open<'a>(
    house: &'a House,
    means: Means<'a>,
    lag: Span,
    sealer: WalSealer,
    progress: &'a dyn Progress,
) -> Result<Receiver<'a>, Broke> {
    let mut ground = Ground::explore(means).await?;
    let places = ground.places();
    let mut first: Option<Broke> = None;
    for place in places {
        let slot = ground.slot.name.clone();
        let begun = async {
            ground.wire.receive(&slot, place.at, place.timeline).await?;
            // What the server has, it sends at once, or says that it has not kept it. Where there is nothing yet, nothing is amiss.
            if place.at < ground.identity.flushed { ground.wire.hear().await.map(Some) } else { Ok(None) }
        };
        let said = match begun.await {
            Ok(said) => said,
            Err(broke) if ground.wire.refused_with() == Some(UNDEFINED_FILE) => {
                first.get_or_insert(broke);
                ground.wire = Wire::connect(means.endpoint).await?;
                continue;
            }
            Err(broke) => return Err(broke),
        };
        if let Some(broke) = first {
            progress.say(&format!(
                "a HOLE in the log: {}; going on from {} on timeline {}. Take a physical backup now: no backup before it can be brought beyond the hole",
                broke.error, place.at, place.timeline
            ));
        }
        return receiver(house, means, ground, place, said, lag, sealer, progress).await;
    }
    Err(first.unwrap_or_else(|| Broke::new("the source keeps no log to begin with")))
}

#[expect(clippy::too_many_arguments, reason = "all of it is what one receiver is made of")]
async fn receiver<'a>(
    house: &'a House,
    means: Means<'a>,
    ground: Ground,
    place: Place,
    said: Option<crate::backup::wal::Said>,
    lag: Span,
    sealer: WalSealer,
    progress: &'a dyn Progress,
) -> Result<Receiver<'a>, Broke> {
    let there = begin::there(means, &ground, place).await?;
    progress.say(&format!(
        "receiving the log of {} from {} on timeline {}, under the slot {}",
        means.endpoint, place.at, place.timeline, ground.slot.name
    ));
    let (jobs, waiting) = mpsc::channel(1);
    let (told, durable) = watch::channel(Durable { until: Some(place.at), ..Durable::default() });
    let identifier = ground.identity.system_identifier.clone();
    let sealing = Sealing { sealer, system_identifier: identifier, pieces: there.pieces.clone() };
    tokio::spawn(sealing.run(waiting, told));
    Ok(Receiver::new(house, means, ground, place, said, lag, there, jobs, durable, progress))
}
