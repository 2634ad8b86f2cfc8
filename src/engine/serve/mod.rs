//! The service: who plans, who does what was planned, who receives the log; and how all of that is begun and ended in good order.
//!
//! ```text
//! sweep → planner (ended → again, agenda → plan, hopeless → miss, leases → lapse)
//!       → workers (claim → perform under a fence → end)       → receivers of the log       → policies read again
//! asked to stop: no more claims → what runs comes to its end → what is left is stopped cleanly → the rest is stopped
//! ```

mod background;
mod log;
mod perform;
mod planner;
mod receivers;
mod reload;
mod shared;
mod worker;

use std::sync::Arc;

use tokio::sync::watch;

use super::{House, interrupt, sweep};
use crate::domain::check::Broke;

pub use background::{Background, Part};
pub use perform::{Engines, Performer};
pub use planner::{Planner, Ticked};
pub use reload::Source;
pub use shared::{Refused, Shared, Standing};
pub use worker::{Workers, name};

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Plans, does what was planned, receives the log.
    Serve,
    /// Only does what was planned.
    Worker,
}

/// What else runs as long as the service does; the receiver becomes true when it is to end.
pub type More = Box<dyn FnOnce(&Arc<Shared>, &watch::Receiver<bool>) -> Vec<Background> + Send>;

/// Serves until it is asked to stop. `source`: where policies are read again; `more`: what runs beside it.
pub async fn run(house: House, source: Source, role: Role, more: More) -> Result<(), Broke> {
    interrupt::drain_first();
    let house = Arc::new(house);
    let shared = Shared::new(Arc::clone(&house));
    // What a killed process left; a catalog that is away is waited for, as everything else here does.
    if let Err(broke) = sweep_up(&shared).await {
        tracing::warn!(error = %broke.error, "what killed runs left could not be swept yet");
    }
    let limits = &house.config.serve;
    tracing::info!(
        policies = house.policies.len(),
        workers = limits.workers,
        role = ?role,
        labels = ?limits.labels.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "lifeboat serves"
    );
    // Claims end with the first signal; everything else when nothing runs any more.
    let (draining, drain) = watch::channel(false);
    let (ending, end) = watch::channel(false);
    let mut parts = background::parts(&shared, source, role, &end);
    parts.extend(more(&shared, &end));
    let parts: Vec<_> = parts.into_iter().map(|part| (part.name, tokio::spawn(part.work))).collect();
    let workers = Workers::new(Arc::clone(&shared), Arc::new(Engines));
    let working = tokio::spawn(Arc::clone(&workers).run(drain));

    let signal = interrupt::asked_to_drain().await;
    tracing::info!(signal, running = shared.running().len(), "asked to stop: nothing new is begun");
    draining.send_replace(true);
    workers.drain(limits.drain.to_std()).await;
    ending.send_replace(true);
    if let Err(error) = working.await {
        tracing::error!(%error, "the workers did not end well");
    }
    for (name, part) in parts {
        if let Err(error) = part.await {
            tracing::error!(part = name, %error, "a part did not end well");
        }
    }
    // A scratch whose making was cut short is owed and was never there.
    if let Err(broke) = sweep_up(&shared).await {
        tracing::warn!(error = %broke.error, "what was left could not be swept; the next start does it");
    }
    tracing::info!("stopped");
    Ok(())
}

/// Removes what killed runs left on this machine; the runs of this process are left alone.
async fn sweep_up(shared: &Arc<Shared>) -> Result<(), Broke> {
    let house = shared.house();
    let ours = Arc::clone(shared);
    let swept = sweep::sweep_but(&house, move || ours.running()).await?;
    for run in &swept.abandoned {
        tracing::warn!(run, "a run was abandoned: its process went away before it ended");
    }
    for name in &swept.scratches {
        tracing::info!(scratch = name, "swept");
    }
    for trouble in &swept.troubles {
        tracing::warn!(trouble, "what a killed run left could not be removed");
    }
    Ok(())
}
