//! How this process is asked to stop.
//!
//! Being asked is remembered: work that begins after the signal came ends at once, and work that must not be cut in the
//! middle (a commit, the destruction of a scratch) is let come to its end first.
//!
//! A service hears the first signal itself ([`drain_first`]), and lets what runs come to its end; the second stops everything as ever. And it stops one
//! run without the others by saying so to that run alone ([`with`]).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

type Heard = watch::Receiver<Option<&'static str>>;

/// What was heard: what stops everything, and what asks a service to drain.
struct Ears {
    stop: Heard,
    drain: Heard,
}

/// The first signal that came. None inside the lock: signals cannot be listened to, and end the process as they always do.
static ASKED: OnceLock<Option<Ears>> = OnceLock::new();
/// Whether the first signal only drains.
static DRAINS: AtomicBool = AtomicBool::new(false);

tokio::task_local! {
    /// What asks this one run to stop.
    static OWN: Heard;
}

/// From here on Ctrl-C and SIGTERM are remembered, and do not end the process by themselves.
pub fn listen() {
    asked();
}

/// From here on the first signal is told by [`asked_to_drain`] alone.
pub fn drain_first() {
    DRAINS.store(true, Relaxed);
    asked();
}

/// Does some work that can be asked to stop by itself, in the words of a signal.
pub async fn with<F: Future>(stop: Heard, work: F) -> F::Output {
    OWN.scope(stop, work).await
}

/// Returns when the process, or this run, is asked to stop, or at once if it was already (Ctrl-C or SIGTERM), with the signal's name.
pub async fn asked_to_stop() -> &'static str {
    let own = async {
        match OWN.try_with(Clone::clone) {
            Ok(own) => hear(own).await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        name = asked_at_once() => name,
        name = own => name,
    }
}

/// Returns when the whole process is asked to stop.
pub async fn asked_at_once() -> &'static str {
    match asked() {
        Some(ears) => hear(ears.stop.clone()).await,
        None => std::future::pending().await,
    }
}

/// Returns when a service is asked to stop.
pub async fn asked_to_drain() -> &'static str {
    match asked() {
        Some(ears) => hear(ears.drain.clone()).await,
        None => std::future::pending().await,
    }
}

/// The signal that asked the process, or this run, to stop, if one has.
pub fn heard() -> Option<&'static str> {
    let own = OWN.try_with(|own| *own.borrow()).ok().flatten();
    own.or_else(|| asked().as_ref().and_then(|ears| *ears.stop.borrow()))
}

async fn hear(mut asked: Heard) -> &'static str {
    if let Ok(name) = asked.wait_for(Option::is_some).await
        && let Some(name) = *name
    {
        return name;
    }
    std::future::pending().await
}

fn asked() -> &'static Option<Ears> {
    ASKED.get_or_init(|| {
        // A thread of its own: it outlives any runtime, and hears signals while all others are busy.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().ok()?;
        let streams = {
            let _inside = runtime.enter();
            (signal(SignalKind::interrupt()).ok()?, signal(SignalKind::terminate()).ok()?)
        };
        let ((stop, stops), (drain, drains)) = (watch::channel(None), watch::channel(None));
        let listen = move || {
            let (mut interrupt, mut terminate) = streams;
            runtime.block_on(async {
                loop {
                    let name = tokio::select! {
                        Some(()) = interrupt.recv() => "SIGINT",
                        Some(()) = terminate.recv() => "SIGTERM",
                        else => return,
                    };
                    let told = |to: &watch::Sender<Option<&'static str>>| {
                        to.send_if_modified(|first| first.is_none().then(|| *first = Some(name)).is_some())
                    };
                    let first = told(&drain);
                    if !(first && DRAINS.load(Relaxed)) {
                        told(&stop);
                    }
                }
            });
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(listen).ok()?;
        Some(Ears { stop: stops, drain: drains })
    })
}
