//! This process: how others know that it still runs, and how it is asked to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Host, process, and when the process began in clock ticks since boot: a recycled number has another (0 where the system
/// does not say).
pub fn ourselves() -> (String, u32, u64) {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let started = std::fs::read_to_string("/proc/self/stat").ok().and_then(|stat| start_of(&stat)).unwrap_or(0);
    (host, std::process::id(), started)
}

/// Field 22 of `/proc/<pid>/stat` (proc(5)). The second field is the program's name in parentheses, which can hold anything.
pub fn start_of(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_process_is_found_behind_any_name() {
        let fields: Vec<String> = (4..=52).map(|field| field.to_string()).collect();
        let stat = format!("17 (a) b ) S {}", fields.join(" "));
        assert_eq!(start_of(&stat), Some(22));
        assert_eq!(start_of("17 (x"), None);
        assert!(ourselves().2 > 0, "this system has /proc");
    }
}
