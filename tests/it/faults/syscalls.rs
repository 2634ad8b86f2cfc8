//! The Nth system call fails, or is the last. strace counts for each thread on its own, so `N` is the Nth call of whichever
//! thread makes as many first. Without `--seccomp-bpf`: with it, strace 6.1 says nothing and delivers no signal.

use std::process::{Command, Stdio};

use super::{Dice, seed, tries};
use crate::support::data::{self, DATABASE};
use crate::support::home::{Home, POLICY, Ran, ran};
use crate::support::invariants::{broken, left, remember};
use crate::support::server::Server;

/// What is done to which calls.
const FAULTS: [(&str, &str); 8] = [
    ("fsync,fdatasync", "signal=KILL"),
    ("fsync,fdatasync", "error=EIO"),
    ("write,pwrite64", "signal=KILL"),
    ("write,pwrite64", "error=ENOSPC"),
    ("linkat,rename,renameat,renameat2", "signal=KILL"),
    ("mkdir,mkdirat", "error=EROFS"),
    ("openat", "error=EMFILE"),
    ("openat", "signal=KILL"),
];

/// Runs lifeboat with one call hurt; says whether the fault fired.
fn hurt(home: &Home, calls: &str, fault: &str, nth: usize, args: &[&str]) -> (bool, Ran) {
    let log = home.path().join("strace.log");
    let inject = format!("inject={calls}:{fault}:when={nth}");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(&log).args(["-e", &format!("trace={calls}"), "-e", &inject]);
    command.arg(assert_cmd::cargo::cargo_bin!("lifeboat")).args(args);
    command.current_dir(home.path()).stdin(Stdio::null()).env_remove("LIFEBOAT_CONFIG").env("NO_COLOR", "1");
    let ran = ran(&mut command);
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    (text.contains("(INJECTED)") || text.contains("killed by SIGKILL"), ran)
}

/// So many faults, chosen by the seed, through backups and drills of both methods.
async fn run(tries: u64) {
    if Command::new("strace").arg("--version").output().is_err() {
        println!("SKIPPED: strace is not installed: no system call was hurt");
        return;
    }
    let seed = seed();
    let server = Server::start();
    data::fill(&server);
    let home = Home::new(&server, DATABASE);
    home.run(&["backup", POLICY]).expect(0);
    let works: [&[&str]; 4] = [
        &["backup", POLICY, "--job", "logical"],
        &["backup", POLICY, "--job", "physical"],
        &["drill", POLICY, "--drill", "restore-logical"],
        &["drill", POLICY, "--drill", "restore-latest"],
    ];
    let mut dice = Dice::new(seed);
    for number in 1..=tries {
        let work = works[dice.below(works.len())];
        let (calls, fault) = FAULTS[dice.below(FAULTS.len())];
        let nth = 1 + dice.below(if calls.starts_with("write") || calls == "openat" { 30 } else { 4 });
        let good = remember(&home);
        let (fired, ran) = hurt(&home, calls, fault, nth, work);
        let again = format!(
            "try {number}: {work:?} {calls}:{fault}:when={nth}; again: LIFEBOAT_FAULTS_SEED={seed} LIFEBOAT_FAULTS_TRIES={number} make faults\n{ran:#?}"
        );
        println!("syscalls seed={seed} {} {calls} {fault} when={nth} fired={fired} code={}", work[0], ran.code);
        assert!(!ran.stderr.contains("panicked"), "{again}");
        assert!([-1, 0, 1, 3, 4, 137].contains(&ran.code), "{again}");
        if fired && work[0] == "backup" && (calls, fault) == ("fsync,fdatasync", "error=EIO") {
            assert_ne!(ran.code, 0, "an fsync that failed, and a backup that is said to be good: {again}");
        }
        let wrong = broken(&home, &good).await;
        assert!(wrong.is_empty(), "{wrong:?}\n{again}");
        // The next ones are fine, and nothing is left of the hurt one.
        let job = if work.contains(&"logical") || work.contains(&"restore-logical") { "logical" } else { "physical" };
        let next = home.run(&["backup", POLICY, "--job", job]);
        assert_eq!(next.code, 0, "the next backup: {next:#?}\n{again}");
        let drill = if job == "logical" { "restore-logical" } else { "restore-latest" };
        let next = home.run(&["drill", POLICY, "--drill", drill]);
        assert_eq!(next.code, 0, "the next drill: {next:#?}\n{again}");
        assert!(left(&home).is_empty(), "{:?}\n{again}", left(&home));
    }
}

#[tokio::test]
async fn a_hurt_system_call_harms_nothing_that_was_good() {
    run(tries(4).min(4)).await;
}

#[tokio::test]
#[ignore = "long form: make faults"]
async fn long_hurt_system_calls_harm_nothing_that_was_good() {
    run(tries(200)).await;
}
