//! Which processes belong to a scratch, and how they are ended.
//!
//! A process is never ended by its number alone: numbers are recycled, and a `postmaster.pid` that was restored with the
//! data names a process of another machine. What counts is the folder that the process works in. PostgreSQL changes into
//! its data folder and stays there, and so do the programs that it starts.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process that works inside a scratch folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inside {
    /// Its number, as this process sees it (the one in `postmaster.pid` is that of its own namespace).
    pub pid: i32,
    /// Its parent.
    pub parent: i32,
    /// The name of its program.
    pub program: String,
}

/// The processes that work inside `folder` (which must be canonical). A person's shell that happens to stand there is not
/// among them: it has a terminal, and a server has none but for the first process of one started from a terminal, which is
/// known by its program.
pub(super) fn inside(folder: &Path) -> Vec<Inside> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| look(pid, folder)).collect()
}

fn look(pid: i32, folder: &Path) -> Option<Inside> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let cwd = std::fs::read_link(proc.join("cwd")).ok()?;
    if !cwd.starts_with(folder) || pid == i32::try_from(std::process::id()).ok()? {
        return None;
    }
    let stat = std::fs::read_to_string(proc.join("stat")).ok()?;
    // "pid (name) state ppid pgrp session tty_nr …": the name may hold spaces and parentheses.
    let (head, tail) = stat.rsplit_once(')')?;
    let program = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let parent = fields.get(1)?.parse().ok()?;
    let has_terminal = *fields.get(4)? != "0";
    let ours = matches!(program.as_str(), "postgres" | "unshare" | "setpriv" | "initdb");
    (ours || !has_terminal).then_some(Inside { pid, parent, program })
}

/// Signals one of them, if it is still the process that works in `folder`: looked at again after the kernel has given a
/// handle that cannot be recycled.
fn signal(process: &Inside, folder: &Path, signal: Signal) {
    let Some(pid) = Pid::from_raw(process.pid) else { return };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if look(process.pid, folder).is_some() {
        // It may have ended by itself in between: nothing to do then.
        let _ = pidfd_send_signal(&handle, signal);
    }
}

/// Asks the topmost servers in `folder` to end at once (`SIGQUIT`: no checkpoint, the data are to be thrown away).
pub(super) fn ask_to_end(folder: &Path) {
    let all = inside(folder);
    let servers = all.iter().filter(|process| process.program == "postgres");
    for process in servers.filter(|one| !all.iter().any(|other| other.pid == one.parent && other.program == "postgres"))
    {
        signal(process, folder, Signal::QUIT);
    }
}

/// Kills whatever works in `folder` until nothing does, for at most `patience`. Gives what is left.
pub(super) fn kill_all(folder: &Path, patience: Duration) -> Vec<Inside> {
    let deadline = Instant::now() + patience;
    loop {
        let left = inside(folder);
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        for process in &left {
            signal(process, folder, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// When a process began, in clock ticks since boot: tells a recycled number from the process that had it.
pub(super) fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_folder_and_killed_only_there() {
        let here = tempfile::tempdir().unwrap();
        let there = tempfile::tempdir().unwrap();
        let sleep = |dir: &Path| std::process::Command::new("sleep").arg("60").current_dir(dir).spawn().unwrap();
        // Without a terminal, as a server's helper is; `setsid` gives that whatever the tests are run from.
        let mut inside_here =
            std::process::Command::new("setsid").args(["-w", "sleep", "60"]).current_dir(here.path()).spawn().unwrap();
        let mut elsewhere = sleep(there.path());
        let deadline = Instant::now() + Duration::from_secs(5);
        let folder = here.path().canonicalize().unwrap();
        while inside(&folder).is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!inside(&folder).is_empty());
        // Nobody waits for the child yet, and a dead child has no folder: it counts as gone.
        assert_eq!(kill_all(&folder, Duration::from_secs(5)), vec![]);
        assert!(!inside_here.wait().unwrap().success());
        assert!(elsewhere.try_wait().unwrap().is_none(), "a process of another folder lives");
        elsewhere.kill().unwrap();
        elsewhere.wait().unwrap();
    }
}
