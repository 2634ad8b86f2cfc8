//! Which process does a run: to tell a killed run from one that is still at work.

use crate::domain::run::{Event, RunState};

/// The event that says that this process begins a run.
pub fn started() -> Event {
    let pid = std::process::id();
    Event::Started { host: host(), pid, pid_started: birth(pid).unwrap_or(0) }
}

/// This machine's name.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Whether a run's process is certainly gone. A run of another machine is never called dead from here.
pub fn is_gone(state: &RunState) -> bool {
    match state {
        RunState::Running { host: theirs, pid, pid_started } => {
            *theirs == host() && (birth(*pid).is_none_or(|birth| *pid_started != 0 && birth != *pid_started))
        }
        RunState::Planned | RunState::Ended(_) | RunState::Abandoned(_) | RunState::Missed(_) => false,
    }
}

/// When a process began, in clock ticks since boot (proc(5), field 22 of `stat`); none: there is no such process. A pid
/// that was given to a new process has another birth.
fn birth(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, and may hold anything: fields are counted from its end.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_process_is_not_gone_and_a_recycled_pid_is() {
        let Event::Started { host, pid, pid_started } = started() else { panic!("another event") };
        assert!(pid_started > 0);
        let running = |pid, pid_started| RunState::Running { host: host.clone(), pid, pid_started };
        assert!(!is_gone(&running(pid, pid_started)));
        assert!(is_gone(&running(pid, pid_started + 1)), "the same pid, born at another time");
        let elsewhere = RunState::Running { host: format!("not-{host}"), pid: 4_000_000, pid_started: 1 };
        assert!(!is_gone(&elsewhere), "another machine's processes cannot be seen from here");
        assert!(is_gone(&running(4_000_000_000, 1)));
    }
}
