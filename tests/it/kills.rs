//! kill -9 in the middle: no manifest, nothing counted, the next run is fine, the scratch is swept, leftovers are listed.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lifeboat::catalog::{Catalog, SqliteCatalog};
use lifeboat::domain::run::{RunOutcome, RunState, Work};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::data::{self, DATABASE};
use crate::support::home::{Home, POLICY, walk};
use crate::support::server::Server;

/// A server with enough data that a backup takes a while.
fn slow() -> (Server, Home) {
    let server = Server::start();
    data::fill(&server);
    server.sql(
        DATABASE,
        "create table shop.bulk as select n, md5(n::text) || md5((n + 1)::text) as text from generate_series(1, 1200000) n",
    );
    let home = Home::new(&server, DATABASE);
    (server, home)
}

/// Waits for a process of this program among the descendants of `ancestor`.
pub fn descendant(ancestor: u32, program: &str) -> Option<Pid> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<_> = command.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
            // A program that is only asked for its version is not the one at work.
            let at_work = words[0].ends_with(program) && !words.iter().any(|word| word == "--version" || word == "-V");
            if at_work && has_ancestor(pid, ancestor) {
                return Pid::from_raw(pid.cast_signed());
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    None
}

fn has_ancestor(mut pid: u32, ancestor: u32) -> bool {
    while pid > 1 {
        if pid == ancestor {
            return true;
        }
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
        let Some((_, fields)) = stat.rsplit_once(')') else { return false };
        pid = fields.split_whitespace().nth(1).and_then(|parent| parent.parse().ok()).unwrap_or(0);
    }
    false
}

pub fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn manifests(home: &Home) -> usize {
    walk(&home.store()).iter().filter(|path| path.ends_with("manifest.json")).count()
}

#[test]
fn a_killed_producer_leaves_no_backup() {
    let (_server, home) = slow();
    // On the source's own machine there would be no producer.
    home.edit_policy(|text| text.replace("method = \"physical\"\n", "method = \"physical\"\nread = \"stream\"\n"));
    for (job, program) in [("logical", "pg_dump"), ("physical", "pg_basebackup")] {
        let mut child = start(&mut home.command(&["backup", POLICY, "--job", job]));
        let producer = descendant(child.id(), program).unwrap_or_else(|| panic!("{program} was never seen"));
        kill_process(producer, Signal::KILL).unwrap();
        let ended = child.wait().unwrap();
        assert_eq!(ended.code(), Some(1), "{program}");
        assert_eq!(manifests(&home), 0, "{program}: a backup without all of its bytes must not exist");
        assert!(walk(&home.store()).is_empty(), "{program}: parts are removed: {:?}", walk(&home.store()));
    }
    home.run(&["status"]).expect(4);
    home.run(&["backup", POLICY]).expect(0);
    assert_eq!(manifests(&home), 2);
    home.run(&["drill", POLICY]).expect(0);
}

#[test]
fn lifeboat_killed_in_a_backup_leaves_an_orphan_that_is_listed_and_not_counted() {
    let (_server, home) = slow();
    for job in ["logical", "physical"] {
        let before = walk(&home.store()).len();
        let mut child = start(&mut home.command(&["backup", POLICY, "--job", job]));
        let deadline = Instant::now() + Duration::from_secs(30);
        while walk(&home.store()).len() <= before && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(manifests(&home), 0, "{job}");
        home.run(&["verify", POLICY]).expect(4);
        let drill = home.run(&["drill", POLICY]).expect(4);
        assert!(drill.stderr.contains("died"), "the dead run is said: {drill:?}");
    }
    let next = home.run(&["backup", POLICY]).expect(0);
    assert!(next.stderr.contains("leftover"), "and what they left: {next:?}");
    assert_eq!(manifests(&home), 2);
    home.run(&["drill", POLICY]).expect(0);
}

#[test]
fn lifeboat_killed_in_a_drill_leaves_a_scratch_that_is_swept() {
    let (_server, home) = slow();
    home.run(&["backup", POLICY]).expect(0);
    for (name, program) in [("restore-logical", "pg_restore"), ("restore-latest", "postgres")] {
        let mut child = start(&mut home.command(&["drill", POLICY, "--drill", name]));
        descendant(child.id(), program).unwrap_or_else(|| panic!("{program} was never seen"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(std::fs::read_dir(home.scratch()).unwrap().next().is_some(), "{name}: the copy is still there");
        let next = home.run(&["drill", POLICY, "--drill", name]).expect(0);
        assert!(next.stderr.contains("swept"), "{next:?}");
        let left: Vec<_> = std::fs::read_dir(home.scratch()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(servers_in(&home).is_empty(), "no server of the dead run is left: {:?}", servers_in(&home));
    }
}

/// Command lines of processes that have a file of the scratch folder in them.
pub fn servers_in(home: &Home) -> Vec<String> {
    let scratch = home.scratch().display().to_string();
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&scratch))
        .collect()
}

#[test]
fn a_signal_ends_a_backup_and_a_drill_cleanly() {
    let (_server, home) = slow();
    let mut child = start(&mut home.command(&["backup", POLICY, "--job", "logical"]));
    descendant(child.id(), "pg_dump").expect("pg_dump");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(walk(&home.store()).is_empty(), "{:?}", walk(&home.store()));

    home.run(&["backup", POLICY]).expect(0);
    let mut child = start(&mut home.command(&["drill", POLICY, "--drill", "restore-logical"]));
    descendant(child.id(), "pg_restore").expect("pg_restore");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(4), "an interrupted drill is unproven");
    let left: Vec<_> = std::fs::read_dir(home.scratch()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// What the catalog says of the newest restore.
async fn restore_ended(home: &Home) -> RunState {
    let catalog = SqliteCatalog::open(&home.path().join("lifeboat.db")).unwrap();
    let runs = catalog.runs(None, 20).await.unwrap();
    runs.into_iter().find(|run| run.work == Work::Restore).unwrap().state
}

#[tokio::test]
async fn a_restore_that_does_not_come_to_its_end_says_that_it_is_not_whole() {
    let (server, home) = slow();
    home.run(&["backup", POLICY]).expect(0);
    for (name, signal, code) in [("asked", Signal::TERM, Some(1)), ("killed", Signal::KILL, None)] {
        let target = home.path().join(name);
        let mark = target.join("RESTORE-INCOMPLETE.txt");
        let mut child = start(&mut home.command(&["restore", POLICY, "--to", target.to_str().unwrap()]));
        let deadline = Instant::now() + Duration::from_secs(60);
        while !mark.exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), code, "{name}");
        assert!(mark.exists() && !target.join("global/pg_control").exists(), "{name}");
        if signal == Signal::TERM {
            let ended = restore_ended(&home).await;
            assert!(
                matches!(&ended, RunState::Ended(RunOutcome::Broke { error, .. }) if error.contains("SIGTERM")),
                "{ended:?}"
            );
        }
    }
    let mut child = start(&mut home.command(&["restore", POLICY, "--to-database", &server.url("back")]));
    let program = descendant(child.id(), "pg_restore").expect("pg_restore");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(matches!(restore_ended(&home).await, RunState::Ended(RunOutcome::Broke { .. })));
    std::thread::sleep(Duration::from_millis(500));
    let line = std::fs::read(format!("/proc/{}/cmdline", program.as_raw_nonzero())).unwrap_or_default();
    assert!(line.is_empty(), "pg_restore is gone too");
}
