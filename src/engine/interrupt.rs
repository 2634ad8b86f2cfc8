//! How this process is asked to stop.
//!
//! Being asked is remembered: work that begins after the signal came ends at once, and work that must not be cut in the
//! middle (a commit, the destruction of a scratch) is let come to its end first.

use std::sync::OnceLock;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The first signal that came. None inside the lock: signals cannot be listened to, and end the process as they always do.
static ASKED: OnceLock<Option<watch::Receiver<Option<&'static str>>>> = OnceLock::new();

/// From here on Ctrl-C and SIGTERM are remembered, and do not end the process by themselves.
pub fn listen() {
    asked();
}

/// Returns when the process is asked to stop, or at once if it was already (Ctrl-C or SIGTERM), with the signal's name.
pub async fn asked_to_stop() -> &'static str {
    if let Some(mut asked) = asked().clone()
        && let Ok(name) = asked.wait_for(Option::is_some).await
        && let Some(name) = *name
    {
        return name;
    }
    std::future::pending().await
}

/// The signal that asked the process to stop, if one has.
pub fn heard() -> Option<&'static str> {
    asked().as_ref().and_then(|asked| *asked.borrow())
}

fn asked() -> &'static Option<watch::Receiver<Option<&'static str>>> {
    ASKED.get_or_init(|| {
        // A thread of its own: it outlives any runtime, and hears signals while all others are busy.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().ok()?;
        let streams = {
            let _inside = runtime.enter();
            (signal(SignalKind::interrupt()).ok()?, signal(SignalKind::terminate()).ok()?)
        };
        let (sender, receiver) = watch::channel(None);
        let hear = move || {
            let (mut interrupt, mut terminate) = streams;
            runtime.block_on(async {
                loop {
                    let name = tokio::select! {
                        Some(()) = interrupt.recv() => "SIGINT",
                        Some(()) = terminate.recv() => "SIGTERM",
                        else => return,
                    };
                    sender.send_if_modified(|first| first.is_none().then(|| *first = Some(name)).is_some());
                }
            });
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(hear).ok()?;
        Some(receiver)
    })
}
