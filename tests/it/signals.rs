//! Ctrl-C and SIGTERM in every phase: a clean terminal, no scratch, no child left, nothing committed by halves, and a last
//! line that says what was stopped.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::data::{self, DATABASE};
use crate::support::home::{Home, POLICY, Ran, walk};
use crate::support::server::Server;

fn ground() -> (Server, Home) {
    let server = Server::start();
    data::fill(&server);
    server.sql(DATABASE, "create table shop.bulk as select n, md5(n::text) as text from generate_series(1, 200000) n");
    let home = Home::new(&server, DATABASE);
    (server, home)
}

/// Runs a command and signals it when it says that this stage begins.
fn stopped_in(home: &Home, args: &[&str], stage: &str, signal: Signal) -> Ran {
    let mut command = home.command(args);
    command.env("RUST_LOG", "lifeboat=debug").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut stderr = String::new();
    let wanted = format!("stage: {stage}");
    let mut reached = false;
    for line in lines.by_ref() {
        let line = line.unwrap();
        stderr.push_str(&line);
        stderr.push('\n');
        if line.contains(&wanted) {
            kill_process(Pid::from_child(&child), signal).unwrap();
            reached = true;
            break;
        }
    }
    assert!(reached, "the stage {stage} never came: {stderr}");
    for line in lines {
        stderr.push_str(&line.unwrap());
        stderr.push('\n');
    }
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    Ran { code: child.wait().unwrap().code().unwrap_or(-1), stdout, stderr }
}

/// Command lines of processes that name the home's folder or its server's socket for lifeboat's clients.
fn left_running(home: &Home) -> Vec<String> {
    naming(home.path())
}

/// Command lines of processes that name this folder, once they had time to go.
fn naming(folder: &std::path::Path) -> Vec<String> {
    let path = folder.display().to_string();
    let look = || -> Vec<String> {
        std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
            .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
            .filter(|line| line.contains(&path))
            .collect()
    };
    let deadline = Instant::now() + Duration::from_secs(5);
    while !look().is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    look()
}

fn manifests(home: &Home) -> usize {
    walk(&home.store()).iter().filter(|path| path.ends_with("manifest.json")).count()
}

#[track_caller]
fn says_so(ran: &Ran, verb: &str, signal: &str) {
    let last = ran.stderr.trim_end().lines().last().unwrap_or_default();
    assert_eq!(last, format!("interrupted: `lifeboat {verb}` was stopped by {signal}"), "{}", ran.stderr);
}

#[test]
fn a_backup_in_each_of_its_phases() {
    let (_server, home) = ground();
    let mut kept = 0;
    for (job, stages) in [
        ("logical", ["look at the source", "dump orders", "dump globals", "commit"]),
        ("physical", ["look at the source", "base backup", "seal the rest", "commit"]),
    ] {
        for (stage, (signal, name)) in
            stages.into_iter().zip([(Signal::INT, "SIGINT"), (Signal::TERM, "SIGTERM")].into_iter().cycle())
        {
            let ran = stopped_in(&home, &["backup", POLICY, "--job", job], stage, signal);
            match ran.code {
                // Too late to stop: it is whole.
                0 => {
                    assert!(!["look at the source", "base backup"].contains(&stage), "{job}, {stage}: {ran:?}");
                    kept += 1;
                }
                1 => says_so(&ran, "backup", name),
                _ => panic!("{job}, {stage}: {ran:?}"),
            }
            assert_eq!(manifests(&home), kept, "{job}, {stage}: nothing by halves: {ran:?}");
            assert_eq!(left_running(&home), Vec::<String>::new(), "{job}, {stage}");
            let folders = walk(&home.store()).iter().filter_map(|path| path.parent().map(ToOwned::to_owned)).count();
            assert_eq!(folders == 0, kept == 0, "{job}, {stage}: parts of no backup are removed");
        }
    }
    // A person who says stop means both jobs.
    let ran = stopped_in(&home, &["backup", POLICY], "look at the source", Signal::INT);
    assert_eq!((ran.code, manifests(&home)), (1, kept), "{ran:?}");
}

#[test]
fn a_drill_in_each_of_its_phases() {
    let (_server, home) = ground();
    home.run(&["backup", POLICY]).expect(0);
    let logical =
        ["choose a backup", "provision a scratch", "restore", "restore orders", "await readiness", "check Amcheck"];
    let physical = ["restore", "await readiness", "check Content"];
    let of = |name: &'static str, stages: &[&'static str]| -> Vec<(&'static str, &'static str)> {
        stages.iter().map(|stage| (name, *stage)).collect()
    };
    let all = [of("restore-logical", &logical), of("restore-latest", &physical)].concat();
    let signals = [(Signal::INT, "SIGINT"), (Signal::TERM, "SIGTERM")];
    for ((drill, stage), (signal, name)) in all.into_iter().zip(signals.into_iter().cycle()) {
        let stage =
            stage.strip_prefix("check ").map_or(stage.to_owned(), |check| format!("check {}", check.to_lowercase()));
        let ran = stopped_in(&home, &["drill", POLICY, "--drill", drill], &stage, signal);
        assert_eq!(ran.code, 4, "{drill}, {stage}: an interrupted drill is unproven: {ran:?}");
        says_so(&ran, "drill", name);
        assert!(ran.stdout.contains("interrupted"), "{drill}, {stage}: the report says it: {ran:?}");
        assert!(!ran.stdout.contains("could not be destroyed"), "{drill}, {stage}: and blames the right step: {ran:?}");
        let left: Vec<_> = std::fs::read_dir(home.scratch()).into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "{drill}, {stage}: {left:?}");
        assert_eq!(left_running(&home), Vec::<String>::new(), "{drill}, {stage}");
    }
    // While the scratch is destroyed nothing is cut: it goes, and what was proved before stands.
    let ran = stopped_in(&home, &["drill", POLICY, "--drill", "restore-logical"], "destroy the scratch", Signal::INT);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(std::fs::read_dir(home.scratch()).unwrap().next().is_none());
    // Who says stop in the first of two drills means the second too; and what did not run is not proven.
    let ran = stopped_in(&home, &["drill", POLICY], "destroy the scratch", Signal::INT);
    assert_eq!(ran.code, 4, "{ran:?}");
}

/// Statements that are under way in the scratch end with the drill, whoever wrote them.
#[test]
fn a_drill_in_the_middle_of_a_long_statement() {
    let (_server, home) = ground();
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    let text = std::fs::read_to_string(home.path().join("drills/restore-logical.toml")).unwrap();
    let text = text.replace("name = \"restore-logical\"", "name = \"long\"");
    home.write_drill("long", &format!("{text}\n[[steps]]\nsabotage.sql = \"select pg_sleep(600)\"\n"));
    for (signal, name) in [(Signal::INT, "SIGINT"), (Signal::TERM, "SIGTERM")] {
        let began = Instant::now();
        let ran = stopped_in(&home, &["drill", POLICY, "--drill", "long"], "sabotage", signal);
        assert!(began.elapsed() < Duration::from_secs(120), "it waited for the statement: {ran:?}");
        assert_eq!(ran.code, 4, "{ran:?}");
        says_so(&ran, "drill", name);
        assert!(std::fs::read_dir(home.scratch()).unwrap().next().is_none(), "no scratch is left");
        assert_eq!(left_running(&home), Vec::<String>::new());
    }
}

#[test]
fn the_demo_takes_its_server_with_it() {
    let home = tempfile::Builder::new().prefix("lb-demo-").tempdir().unwrap();
    std::fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for (chapter, signal, name) in
        [("lifeboat backup", Signal::INT, "SIGINT"), ("lifeboat drill", Signal::TERM, "SIGTERM")]
    {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("lifeboat"));
        command.args(["demo", "--reports", "reports"]).current_dir(home.path()).env("TMPDIR", home.path());
        command.env_remove("LIFEBOAT_CONFIG").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let reached = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .any(|line| line.unwrap().contains(&format!("s] {chapter}")));
        assert!(reached, "{chapter}");
        kill_process(Pid::from_child(&child), signal).unwrap();
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{chapter}: {stderr}");
        let last = stderr.trim_end().lines().last().unwrap_or_default().to_owned();
        assert_eq!(last, format!("interrupted: `lifeboat demo` was stopped by {name}"), "{chapter}: {stderr}");
        let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().flatten().map(|one| one.file_name()).collect();
        assert!(left.iter().all(|one| one == "reports"), "{chapter}: {left:?}");
        assert_eq!(naming(home.path()), Vec::<String>::new(), "{chapter}");
    }
}

/// `init` writes nothing or all, whenever it is stopped: what was written is a whole home, and else it can be run again.
#[test]
fn init_leaves_nothing_by_halves() {
    for after in [0, 1, 2, 4, 8, 16, 40] {
        let folder = tempfile::tempdir().unwrap();
        let init = || {
            let mut command = Command::new(assert_cmd::cargo::cargo_bin!("lifeboat"));
            command.args(["init", "postgresql://a@/orders?host=/nowhere", "--policy", POLICY, "--dir", "home"]);
            command.current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        let mut child = init().spawn().unwrap();
        std::thread::sleep(Duration::from_millis(after));
        // It may have ended by itself.
        let _ = kill_process(Pid::from_child(&child), Signal::INT);
        child.wait().unwrap();
        let whole = folder.path().join("home/keys/signing.pem").exists();
        let again = init().status().unwrap().code();
        assert_eq!(again, Some(if whole { 2 } else { 0 }), "after {after} ms");
        let files = walk(&folder.path().join("home")).len();
        assert_eq!(files, 9, "after {after} ms");
    }
}

#[test]
fn a_restore_and_a_verify() {
    let (server, home) = ground();
    home.run(&["backup", POLICY]).expect(0);
    let target = home.path().join("target");
    let ran = stopped_in(&home, &["restore", POLICY, "--to", target.to_str().unwrap()], "restore", Signal::INT);
    assert_eq!(ran.code, 1, "{ran:?}");
    says_so(&ran, "restore", "SIGINT");
    assert!(!target.join("global/pg_control").exists(), "nothing that starts");
    let url = server.url("back");
    let ran = stopped_in(&home, &["restore", POLICY, "--to-database", &url], "restore orders", Signal::TERM);
    assert_eq!(ran.code, 1, "{ran:?}");
    says_so(&ran, "restore", "SIGTERM");
    let ran = stopped_in(&home, &["verify", POLICY], "verify", Signal::INT);
    assert_eq!(ran.code, 4, "what was not read is unproven: {ran:?}");
    assert!(ran.stdout.contains("interrupted by SIGINT"), "{ran:?}");
    says_so(&ran, "verify", "SIGINT");
    assert_eq!(left_running(&home), Vec::<String>::new());
}

#[test]
fn verbs_that_only_read_end_at_once_and_leave_everything_whole() {
    let (_server, home) = ground();
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    for (args, after) in [
        (vec!["check"], 30),
        (vec!["check"], 120),
        (vec!["status"], 10),
        (vec!["runbook", POLICY], 10),
        (vec!["report", POLICY], 5),
        (vec!["report", POLICY], 15),
        (vec!["catalog", "rebuild"], 20),
        (vec!["catalog", "rebuild"], 60),
    ] {
        let mut child = home.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(after));
        let began = Instant::now();
        // It may have ended by itself.
        let _ = kill_process(Pid::from_child(&child), Signal::INT);
        child.wait().unwrap();
        assert!(began.elapsed() < Duration::from_secs(10), "{args:?}");
        let status = home.run(&["status", "--output", "json"]);
        assert!(status.stdout.contains(POLICY), "{args:?}: {status:?}");
    }
    home.run(&["drill", POLICY, "--drill", "restore-logical"]).expect(0);
}

/// On a terminal: the keys themselves, once and twice.
#[test]
fn ctrl_c_on_a_terminal_leaves_it_clean() {
    if Command::new("script").arg("--version").output().is_err() {
        println!("not tried: script (util-linux) is not installed");
        return;
    }
    let (_server, home) = ground();
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    for times in [1, 2] {
        let lifeboat = home.command(&[]).get_program().to_owned();
        // A shell that stays would get the key too, and `script` would tell of the shell's end.
        let line = format!("exec {} drill {POLICY} --drill restore-logical", lifeboat.display());
        let mut command = Command::new("script");
        command.args(["-q", "-e", "-c", &line, "/dev/null"]).env("SHELL", "/bin/sh").current_dir(home.path());
        command.env_remove("LIFEBOAT_CONFIG").env("NO_COLOR", "1").env("TERM", "xterm");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut keys = child.stdin.take().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let at_work = || std::fs::read_dir(home.scratch()).is_ok_and(|mut found| found.next().is_some());
        while !at_work() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        for nth in 0..times {
            let sent = keys.write_all(b"\x03").and_then(|()| keys.flush());
            // After the first one it may be over already, and the terminal with it.
            assert!(nth > 0 || sent.is_ok(), "{sent:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut seen = String::new();
        child.stdout.take().unwrap().read_to_string(&mut seen).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(4), "{seen}");
        drop(keys);
        // The second key may come when nobody listens any more: then the terminal shows it.
        let last = seen.trim_end().trim_end_matches("^C").trim_end().lines().last().unwrap_or_default();
        assert!(last.ends_with("interrupted: `lifeboat drill` was stopped by SIGINT"), "{seen:?}");
        assert_eq!(seen.matches("\x1b[?25l").count(), seen.matches("\x1b[?25h").count(), "the cursor is shown again");
        assert!(std::fs::read_dir(home.scratch()).unwrap().next().is_none(), "no scratch is left");
        assert_eq!(left_running(&home), Vec::<String>::new());
    }
}
