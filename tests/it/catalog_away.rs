//! The catalog goes away in the middle of a run: the run ends well, what it had to say arrives, and nothing new is begun meanwhile.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lifeboat::catalog::{Catalog, PostgresCatalog, Spooling};
use lifeboat::domain::config::CatalogServer;
use lifeboat::domain::exposure::Covered;
use lifeboat::domain::run::{Event, RunOutcome, RunState, Work};
use lifeboat::domain::units::Span;

use crate::catalog_carry::home_on;
use crate::support::catalog::{opened, place};
use crate::support::data;
use crate::support::home::{Home, POLICY, Ran};
use crate::support::sample::{self, at};
use crate::support::server::Server;

pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !is() {
        assert!(Instant::now() < deadline, "it never came to this: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How the catalog goes away.
#[derive(Clone, Copy, Debug)]
enum Gone {
    Killed,
    Stopped,
}

fn go(catalog: &mut Server, how: Gone) {
    match how {
        Gone::Killed => catalog.kill_hard(),
        Gone::Stopped => catalog.pause(),
    }
}

fn come(catalog: &mut Server, how: Gone) {
    match how {
        Gone::Killed => catalog.launch(),
        Gone::Stopped => catalog.resume(),
    }
}

pub(crate) fn begin(home: &Home, args: &[&str]) -> Child {
    home.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

pub(crate) fn end(child: Child) -> Ran {
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub(crate) fn spooled(home: &Home) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(home.path().join("catalog-spool")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

pub(crate) fn events(catalog: &Server, kind: &str) -> String {
    catalog.sql("postgres", &format!("select count(*) from lifeboat.event where kind = '{kind}'"))
}

#[test]
fn a_backup_and_a_drill_end_well_without_the_catalog() {
    let (source, mut catalog) = (Server::start(), Server::start());
    data::fill(&source);
    let home = home_on(&source, data::DATABASE, &catalog);
    home.run(&["catalog", "migrate"]).expect(0);
    let mut taken = 0;
    for how in [Gone::Killed, Gone::Stopped] {
        // The dump waits for a table that somebody has locked: until then the catalog is there.
        let mut psql = crate::support::server::command(&source.programs.path("psql"));
        psql.args(["-X", "-q", "-U", "postgres", "-d", data::DATABASE, "-h"]).arg(&source.socket_dir);
        let mut keeper = psql.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut talk = keeper.stdin.take().unwrap();
        talk.write_all(b"begin; lock table shop.customer in access exclusive mode;\n").unwrap();
        let locked = "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and granted and relation = 'shop.customer'::regclass";
        until("the table is locked", || source.sql(data::DATABASE, locked) == "1");
        let running = begin(&home, &["backup", POLICY, "--job", "logical", "--output", "json"]);
        let waits = "select count(*) from pg_locks where not granted and relation = 'shop.customer'::regclass";
        until("the backup waits for the table", || source.sql(data::DATABASE, waits) != "0");
        go(&mut catalog, how);
        talk.write_all(b"commit;\n").unwrap();
        drop(talk);
        keeper.wait().unwrap();
        let ran = end(running).expect(0);
        taken += 1;
        assert_eq!(ran.json()["sequence"], taken, "{how:?}");
        assert!(ran.stderr.contains("waits in"), "it is said aloud: {}", ran.stderr);
        assert_eq!(spooled(&home).len(), 1, "one file a run");
        let mode = |path: &Path| {
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions()) & 0o777
        };
        assert_eq!((mode(&spooled(&home)[0]), mode(&home.path().join("catalog-spool"))), (0o600, 0o700));

        // Nothing new is begun, and that is said with what to do.
        for args in [&["backup", POLICY][..], &["drill", POLICY, "--drill", "restore-logical"], &["status"]] {
            let refused = home.run(args).expect(1);
            assert!(refused.stderr.contains("hint:"), "{args:?}: {}", refused.stderr);
        }
        assert_eq!(std::fs::read_dir(home.store().join(POLICY)).unwrap().count(), taken, "no new backup was begun");

        come(&mut catalog, how);
        // Whatever is run next delivers first.
        let status = home.run(&["status", "--output", "json"]);
        assert!(status.stderr.contains("delivered"), "{how:?}: {}", status.stderr);
        let status = status.json().to_string();
        assert!(status.contains(&format!("\"sequence\":{taken}")), "{how:?}: {status}");
        assert!(spooled(&home).is_empty());
        let runs = home.run(&["catalog", "runs", "--output", "json"]).expect(0).json();
        assert_eq!(runs["runs"][0]["state"]["ended"], "succeeded", "{runs}");
        assert_eq!(events(&catalog, "committed"), taken.to_string());

        // The same for a drill, once it has a scratch.
        let text = "[drill]\nname = \"slow\"\ndescription = \"takes its time\"\nbackup = { pick = \"latest\", method = \"logical\" }\n\
            [scratch]\nkind = \"cluster\"\nisolation = \"required\"\n[[steps]]\nrestore.until = \"latest\"\n[[steps]]\n\
            await-ready = { query = \"select pg_sleep(6)\", within = \"60s\", timeout = \"10m\" }\n[[steps]]\ncheck.name = \"content\"\n";
        home.write_drill("slow", text);
        let before: u32 = events(&catalog, "scratch_made").parse().unwrap();
        let running = begin(&home, &["drill", POLICY, "--drill", "slow", "--output", "json"]);
        until("the drill has a scratch", || events(&catalog, "scratch_made").parse::<u32>().unwrap() > before);
        go(&mut catalog, how);
        let ran = end(running).expect(0);
        assert_eq!(ran.json()["judgement"]["verdict"], "proven", "{how:?}");
        assert!(!spooled(&home).is_empty());
        come(&mut catalog, how);
        let runs = home.run(&["catalog", "runs", "--output", "json"]).expect(0).json();
        assert_eq!(runs["runs"][0]["state"]["ended"]["judged"], "proven", "{runs}");
        assert!(spooled(&home).is_empty());
        assert_eq!(
            catalog.sql("postgres", "select count(*) from lifeboat.scratch_owed"),
            "0",
            "its scratch is told to be gone"
        );
        let status = home.run(&["status"]);
        assert!(status.stdout.contains("proven"), "{status:?}");
        home.run(&["catalog", "check"]).expect(0);
    }
}

fn patient(server: &Server) -> CatalogServer {
    CatalogServer { timeout: Span::from_secs(2), ..place(server, "lifeboat") }
}

fn spooling(server: &Server, folder: &Path) -> Spooling {
    Spooling::before(Arc::new(PostgresCatalog::open(&patient(server)).unwrap()), folder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_delivered_in_order_and_once_and_damage_is_kept() {
    let mut server = Server::start();
    let direct = opened(&server, "lifeboat").await;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("spool");
    let policy = "orders".parse().unwrap();
    let (run, other) = (sample::run(1), sample::run(2));
    let made = |n: usize| Event::ScratchMade { name: format!("lifeboat-{n}") };
    let plan = || Event::Planned { work: Work::Verify, scheduled_for: None };
    let now = at("2026-11-20T03:00:00Z");
    let catalog = spooling(&server, &folder);
    for one in [run, other] {
        catalog.append(now, &policy, one, plan()).await.unwrap();
    }
    catalog.append(now, &policy, run, made(0)).await.unwrap();
    assert!(!folder.exists(), "nothing waits while the catalog answers");
    server.kill_hard();
    for n in 1..20 {
        catalog.append(now, &policy, run, made(n)).await.unwrap();
    }
    let covered = Covered { at: now, covered: now, until: None };
    catalog.cover(&policy, covered).await.unwrap();
    catalog.append(now, &policy, run, Event::Finished { outcome: RunOutcome::Succeeded }).await.unwrap();
    // What is only going to happen, and what is concluded about others, does not wait.
    for event in [plan(), Event::Abandoned { why: "no".to_owned() }, Event::Missed { why: "no".to_owned() }] {
        let broke = catalog.append(now, &policy, other, event).await.unwrap_err();
        assert!(broke.hint.is_some(), "{broke}");
    }
    assert!(catalog.runs(None, 10).await.is_err());
    assert_eq!(lifeboat::catalog::waiting(&folder).files, 2, "one of the run, one of the coverage");
    // Another process that looks meanwhile leaves them to their owner, who lives.
    let second = spooling(&server, &folder);
    assert!(second.runs(None, 10).await.is_err());
    server.launch();
    assert_eq!(second.runs(None, 10).await.unwrap().len(), 2);
    // The owner delivers by itself; the first question of a new process would as well.
    let deadline = Instant::now() + Duration::from_secs(60);
    while lifeboat::catalog::waiting(&folder).files > 0 {
        assert!(Instant::now() < deadline, "nothing is delivered");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let names = "select string_agg(body #>> '{scratch_made,name}', ',' order by seq) from lifeboat.event where kind = 'scratch_made'";
    let expected: Vec<String> = (0..20).map(|n| format!("lifeboat-{n}")).collect();
    assert_eq!(server.sql("postgres", names), expected.join(","), "all, in order, once");
    assert_eq!(direct.catalog.run(run).await.unwrap().unwrap().state, RunState::Ended(RunOutcome::Succeeded));
    assert_eq!(direct.catalog.covered(&policy, now).await.unwrap(), [covered]);

    // A process that dies with words in its spool; and one who delivers them dies before it can take the file away.
    server.kill_hard();
    drop(catalog);
    let dying = spooling(&server, &folder);
    for n in 20..23 {
        dying.append(now, &policy, other, made(n)).await.unwrap();
    }
    dying.append(now, &policy, other, Event::Finished { outcome: RunOutcome::Succeeded }).await.unwrap();
    // Somebody who has looked already, while its owner had it still.
    let sweeper = spooling(&server, &folder);
    assert!(sweeper.runs(None, 1).await.is_err());
    let file = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let kept = std::fs::read(&file).unwrap();
    drop(dying);
    let copy = folder.join("00000000-0000-7000-8000-000000000000-copy.jsonl");
    std::fs::write(&copy, &kept).unwrap();
    // And one whose middle is rubbish: what is whole arrives, and the file is kept.
    let mut lines: Vec<&[u8]> = kept.split_inclusive(|byte| *byte == b'\n').collect();
    let broken = String::from_utf8(lines[1].to_vec()).unwrap().replace("lifeboat-21", "lifeboat-xx");
    lines[1] = broken.as_bytes();
    let damaged = folder.join("ffffffff-ffff-7fff-8fff-ffffffffffff-damaged.jsonl");
    std::fs::write(&damaged, lines.concat()).unwrap();
    server.launch();
    // Whoever takes a run for dead hears first what it has left to say: the first end stands.
    sweeper.append(now, &policy, other, Event::Abandoned { why: "its process is gone".to_owned() }).await.unwrap();
    assert_eq!(direct.catalog.run(other).await.unwrap().unwrap().state, RunState::Ended(RunOutcome::Succeeded));
    let next = spooling(&server, &folder);
    next.runs(None, 1).await.unwrap();
    let count = "select count(*) from lifeboat.event where kind = 'scratch_made'";
    assert_eq!(server.sql("postgres", count), "23", "each once, however often it was delivered");
    let waiting = lifeboat::catalog::waiting(&folder);
    assert_eq!(waiting.damaged, 1, "{waiting:?}");
    assert!(damaged.with_extension("damaged").exists() && !copy.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spool_that_cannot_be_written_is_an_error_and_no_silence() {
    let mut server = Server::start();
    opened(&server, "lifeboat").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    std::fs::write(&file, "").unwrap();
    let catalog = spooling(&server, &file.join("spool"));
    server.kill_hard();
    let event = Event::ScratchMade { name: "lifeboat-x".to_owned() };
    let broke = catalog
        .append(at("2026-11-20T03:00:00Z"), &"orders".parse().unwrap(), sample::run(1), event)
        .await
        .unwrap_err();
    assert!(broke.error.contains("a-file") && broke.hint.unwrap().contains("spool"), "{}", broke.error);
}
