//! Lifeboat under `strace`, with one system call hurt, and which program it hit.
//!
//! strace counts for each thread on its own, so "the Nth call" is that of whichever thread makes as many; in a later thread it
//! may fire again. Without `--seccomp-bpf`: with it, strace 6.1 says nothing and delivers no signal.

use std::process::{Command, Stdio};

use crate::support::home::{Home, Ran, ran};

/// What is done to which calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub calls: &'static str,
    pub effect: &'static str,
}

impl Fault {
    pub fn kills(self) -> bool {
        self.effect == "signal=KILL"
    }

    pub fn interrupts(self) -> bool {
        self.effect == "error=EINTR"
    }
}

const fn fault(calls: &'static str, effect: &'static str) -> Fault {
    Fault { calls, effect }
}

/// Every kind of fault.
pub const FAULTS: [Fault; 15] = [
    fault("fsync,fdatasync,syncfs", "signal=KILL"),
    fault("fsync,fdatasync,syncfs", "error=EIO"),
    fault("write,pwrite64", "signal=KILL"),
    fault("write,pwrite64", "error=ENOSPC"),
    fault("write,pwrite64", "error=EIO"),
    // Not `write`: Linux interrupts no write to an eventfd that does not block, and tokio waits for ever for one that strace did.
    fault("pwrite64", "error=EINTR"),
    fault("read,pread64", "error=EIO"),
    fault("read,pread64", "error=EINTR"),
    fault("rename,renameat,renameat2,link,linkat", "signal=KILL"),
    fault("rename,renameat,renameat2,link,linkat", "error=EIO"),
    fault("unlink,unlinkat,rmdir", "signal=KILL"),
    fault("mkdir,mkdirat", "error=EROFS"),
    fault("openat", "error=EMFILE"),
    fault("openat", "signal=KILL"),
    fault("statx,newfstatat", "error=EIO"),
];

/// How [`ran`] tells that it was killed.
pub const DEAD: i32 = -1;

/// How it went.
#[derive(Debug)]
pub struct Hurt {
    /// The programs that were hit, each as often as it was; empty: the fault did not fire.
    pub victims: Vec<String>,
    /// The call was one that cannot fail so: a write to an eventfd, by which a runtime wakes its own threads (it waits for ever then); a read of the
    /// pipe by which the standard library hears of a program that could not be started (it panics); an interrupted read of a file in a server.
    pub impossible: bool,
    pub ran: Ran,
}

impl Hurt {
    pub fn fired(&self) -> bool {
        !self.victims.is_empty()
    }

    pub fn hit_lifeboat(&self) -> bool {
        self.victims.iter().any(|name| name == "lifeboat")
    }

    /// Nobody but lifeboat itself was hit.
    pub fn only_lifeboat(&self) -> bool {
        self.fired() && self.victims.iter().all(|name| name == "lifeboat")
    }
}

pub fn is_here() -> bool {
    Command::new("strace").arg("--version").output().is_ok()
}

/// Runs lifeboat with the Nth of these calls hurt.
pub fn hurt(home: &Home, fault: Fault, nth: usize, args: &[&str]) -> Hurt {
    let log = home.path().join("strace.log");
    let trace = format!("trace=execve,clone,clone3,fork,vfork,{}", fault.calls);
    let inject = format!("inject={}:{}:when={nth}", fault.calls, fault.effect);
    // One that hangs ends with 124. What is killed takes strace and `timeout` with it.
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=5", "90", "strace", "-f", "-q", "-y", "-o"])
        .arg(&log)
        .args(["-e", &trace, "-e", &inject]);
    command.arg(assert_cmd::cargo::cargo_bin!("lifeboat")).args(args);
    command.current_dir(home.path()).stdin(Stdio::null()).env_remove("LIFEBOAT_CONFIG").env("NO_COLOR", "1");
    let ran = ran(&mut command);
    let text = String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
    let mut victims = victims(&text, fault);
    if fault.kills() && ran.code == DEAD && !victims.iter().any(|name| name == "lifeboat") {
        // All of its threads are logged as killed, and which of them made the call is not always told.
        victims.push("lifeboat".to_owned());
    }
    // A pipe cannot fail on being read, and no file of a disk interrupts its reader: the standard library and PostgreSQL rely on it.
    let pipe = ran.stderr.contains("std/src/sys/process") || ran.stdout.contains("panicked with message \"called");
    let interrupted =
        fault.interrupts() && victims.iter().any(|name| name != "lifeboat") && matches!(ran.code, 3 | 124);
    let impossible =
        pipe || interrupted || text.lines().any(|line| line.ends_with("(INJECTED)") && line.contains("[eventfd]>"));
    Hurt { victims, impossible, ran }
}

/// Which programs were hit, by strace's log.
fn victims(log: &str, fault: Fault) -> Vec<String> {
    let lines: Vec<(&str, &str)> =
        log.lines().filter_map(|line| line.split_once(' ')).map(|(pid, text)| (pid, text.trim_start())).collect();
    let is_hurt = |text: &str| fault.calls.split(',').any(|call| text.starts_with(&format!("{call}(")));
    let hit = |(at, (pid, text)): &(usize, &(&str, &str))| {
        if !fault.kills() {
            return text.ends_with("(INJECTED)");
        }
        // Lifeboat kills too: what counts is a thread whose last word is such a call, and does not return.
        let last = lines[..*at].iter().rev().find(|(other, _)| other == pid);
        text.starts_with("+++ killed by SIGKILL")
            && last
                .is_some_and(|(_, last)| is_hurt(last) && (last.ends_with("<unfinished ...>") || last.ends_with("= ?")))
    };
    lines.iter().enumerate().filter(hit).map(|(at, (pid, _))| program(&lines, pid, at)).collect()
}

/// What a process ran at this line: what it, or who made it, was last told to run.
fn program(lines: &[(&str, &str)], pid: &str, upto: usize) -> String {
    let told = |(who, text): &&(&str, &str)| *who == pid && text.starts_with("execve(\"") && !text.contains(" = -1 ");
    if let Some(path) = lines[..upto].iter().rev().find(told).and_then(|(_, text)| text.split('"').nth(1)) {
        return path.rsplit('/').next().unwrap_or(path).to_owned();
    }
    // Its maker's call may return after its own first ones.
    let made = |(_, (who, text)): &(usize, &(&str, &str))| {
        *who != pid && (text.contains("clone") || text.contains("fork")) && text.ends_with(&format!(" = {pid}"))
    };
    let maker = lines.iter().enumerate().find(made);
    maker.map_or_else(|| "?".to_owned(), |(at, (who, _))| program(lines, who, at))
}

#[test]
fn the_victim_is_read_from_the_log() {
    let log = "10 execve(\"/x/lifeboat\", [], 0x1) = 0\n\
               10 clone3({flags=CLONE_VFORK} <unfinished ...>\n\
               11 execve(\"/a/pg_dump\", [], 0x1) = -1 ENOENT (No such file or directory)\n\
               11 execve(\"/b/pg_dump\", [], 0x1) = 0\n\
               10 <... clone3 resumed>) = 11\n\
               11 write(1, \"x\", 1) = -1 EIO (Input/output error) (INJECTED)\n\
               10 clone3({flags=CLONE_THREAD}) = 12\n\
               12 write(1, \"x\", 1) = -1 EIO (Input/output error) (INJECTED)\n";
    let eio = fault("write,pwrite64", "error=EIO");
    assert_eq!(victims(log, eio), ["pg_dump", "lifeboat"]);
    let kill = fault("write,pwrite64", "signal=KILL");
    let killed = format!("{log}11 read(1,  <unfinished ...>\n11 +++ killed by SIGKILL +++\n");
    assert!(victims(&killed, kill).is_empty(), "killed elsewhere, by somebody else");
    let killed =
        format!("{log}12 write(1,  <unfinished ...>\n12 +++ killed by SIGKILL +++\n10 +++ killed by SIGKILL +++\n");
    assert_eq!(victims(&killed, kill), ["lifeboat"]);
}
