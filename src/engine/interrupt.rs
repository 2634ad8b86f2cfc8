//! How this process is asked to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Returns when the process is asked to stop (Ctrl-C or SIGTERM), with the signal's name.
pub async fn asked_to_stop() -> &'static str {
    let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) else {
        // Without handlers the signals end the process as they always do.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}
