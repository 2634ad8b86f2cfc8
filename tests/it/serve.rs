//! `lifeboat serve` on a real server: it plans and does backups and drills, is killed in the middle, takes no bad file, and ends in good order.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::home::{Home, POLICY, walk};
use crate::support::server::Server;

/// Longer than anything here takes on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(240);

/// A service that runs; killed when it is dropped.
pub struct Service {
    pub child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Service {
    pub fn start(home: &Home, verb: &str) -> Service {
        Service::of(home.command(&[verb]))
    }

    /// By this command.
    pub fn of(mut command: Command) -> Service {
        command.env("RUST_LOG", "lifeboat=debug").stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (say, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if say.send(line).is_err() {
                    return;
                }
            }
        });
        Service { child, lines, said: Vec::new() }
    }

    /// Waits until it says something.
    #[track_caller]
    pub fn hear(&mut self, part: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let heard = line.contains(part);
                    self.said.push(line);
                    if heard {
                        return;
                    }
                }
                Err(error) => panic!("`{part}` was never said ({error}):\n{}", self.said.join("\n")),
            }
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end, and gives the exit code.
    pub fn end(mut self) -> (Option<i32>, String) {
        let until = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "it does not end:\n{}", self.said.join("\n"));
            std::thread::sleep(Duration::from_millis(50));
        }
        let code = self.child.wait().unwrap().code();
        self.said.extend(self.lines.iter());
        (code, self.said.join("\n"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the catalog says, by SQL on a copy of nothing: the file is shared with the service.
pub fn ask(home: &Home, sql: &str) -> Vec<String> {
    let connection = rusqlite::Connection::open(home.path().join("lifeboat.db")).unwrap();
    connection.busy_timeout(Duration::from_secs(20)).unwrap();
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

#[track_caller]
pub fn wait_for(home: &Home, what: &str, sql: &str) -> Vec<String> {
    let until = Instant::now() + PATIENCE;
    loop {
        let found = ask(home, sql);
        if !found.is_empty() {
            return found;
        }
        assert!(Instant::now() < until, "{what} never came");
        std::thread::sleep(Duration::from_millis(200));
    }
}

const DRILL: &str = "work like '%drill%'";

pub fn ground() -> (Server, Home) {
    let server = Server::start();
    server.sql("postgres", "create database orders");
    server.sql("orders", "create table orders as select n id, repeat('x', 40) note from generate_series(1, 3000) n");
    let home = Home::new(&server, "orders");
    home.edit_config(|text| {
        format!("{text}\n[schedule]\nbackoff = \"1s\"\n\n[serve]\nlease = \"5s\"\ndrain = \"2m\"\n")
    });
    (server, home)
}

/// Sets the schedules of the policy's jobs and drills to one.
pub fn scheduled(home: &Home, jobs: &str, drills: &str) {
    home.edit_policy(|text| {
        let mut of = "";
        let lines = text.lines().filter_map(|line| {
            if line.starts_with('[') {
                of = if line == "[[backup]]" {
                    jobs
                } else if line == "[[drill]]" {
                    drills
                } else {
                    ""
                };
            }
            match line.split('=').next().unwrap_or_default().trim() {
                "schedule" if !of.is_empty() => Some(format!("schedule = \"{of}\"")),
                "timezone" => None,
                _ => Some(line.to_owned()),
            }
        });
        lines.collect::<Vec<_>>().join("\n") + "\n"
    });
}

#[test]
fn a_service_does_what_is_due_is_killed_and_goes_on() {
    let (_server, home) = ground();
    scheduled(&home, "every 1m", "every 1m");
    let mut service = Service::start(&home, "serve");
    service.hear("planned=");
    // What is planned is there before it is begun, and shown.
    let shown = home.run(&["schedule", "--output", "json"]).expect(0).json();
    assert_eq!(shown["schema"], "lifeboat.schedule/1");
    let stages: Vec<&str> =
        shown["runs"].as_array().unwrap().iter().map(|run| run["stage"].as_str().unwrap()).collect();
    assert!(stages.iter().any(|stage| *stage != "ahead"), "{shown}");
    wait_for(&home, "a backup", "select 'yes' from queue where how = 'succeeded' and work like '%backup%'");
    // In the middle of a drill.
    wait_for(&home, "a drill's scratch", "select name from scratch_owed");
    service.signal(Signal::KILL);
    let (code, _) = service.end();
    assert_eq!(code, None);
    let cut = ask(&home, &format!("select run from queue where token is not null and {DRILL}"));
    assert_eq!(cut.len(), 1, "it was at a drill");

    let mut service = Service::start(&home, "serve");
    service.hear("a run was abandoned");
    let how = format!("select how from queue where run = '{}' and ended = 1", cut[0]);
    assert_eq!(wait_for(&home, "its end", &how), ["abandoned"]);
    wait_for(
        &home,
        "a drill's verdict",
        &format!("select how from queue where ended = 1 and how = 'succeeded' and {DRILL}"),
    );

    // A bad file is not taken, and said loudly; what was there goes on.
    home.edit_policy(|text| text.replace("every 1m", "every minuet"));
    service.signal(Signal::HUP);
    service.hear("THE CHANGED CONFIGURATION IS NOT IN USE");
    let before = ask(&home, "select run from queue").len();
    wait_for(&home, "more runs", &format!("select 'yes' from (select count(*) n from queue) where n > {before}"));
    home.edit_policy(|text| text.replace("every minuet", "@yearly"));
    service.signal(Signal::HUP);
    service.hear("policies were read again");

    // Asked to stop: what runs comes to its end, nothing new is begun.
    service.signal(Signal::TERM);
    let (code, said) = service.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("nothing new is begun") && said.contains("stopped"), "{said}");
    assert_eq!(ask(&home, "select run from queue where token is not null"), Vec::<String>::new());
    assert_eq!(ask(&home, "select name from scratch_owed"), Vec::<String>::new());
    assert!(walk(&home.scratch()).is_empty(), "{:?}", walk(&home.scratch()));
    let twice =
        "select run from event where kind in ('finished', 'abandoned', 'missed') group by run having count(*) > 1";
    assert_eq!(ask(&home, twice), Vec::<String>::new());
    // The years to come.
    let page = home.run(&["schedule", "--next", "3", "--policy", POLICY]).expect(0).stdout;
    assert!(page.contains("ahead") || page.contains("waiting"), "{page}");
}

#[test]
fn a_second_signal_stops_at_once_and_leaves_nothing() {
    let (_server, home) = ground();
    home.run(&["backup", POLICY]).expect(0);
    scheduled(&home, "@yearly", "every 1m");
    let mut service = Service::start(&home, "serve");
    wait_for(&home, "a drill's scratch", "select name from scratch_owed");
    service.signal(Signal::TERM);
    service.hear("nothing new is begun");
    service.signal(Signal::TERM);
    let (_, said) = service.end();
    assert_eq!(ask(&home, "select run from queue where token is not null"), Vec::<String>::new(), "{said}");
    assert_eq!(ask(&home, "select name from scratch_owed"), Vec::<String>::new(), "{said}");
    assert!(walk(&home.scratch()).is_empty(), "{:?}", walk(&home.scratch()));
}

#[test]
fn a_service_begins_with_few_pools_of_memory_unless_somebody_says_how_many() {
    let home = Home::for_url("postgresql://nobody@/orders?host=/nowhere");
    for (said, wanted) in [(None, "MALLOC_ARENA_MAX=2"), (Some("7"), "MALLOC_ARENA_MAX=7")] {
        let mut command = home.command(&["worker"]);
        command.env_remove("GLIBC_TUNABLES").env_remove("MALLOC_ARENA_MAX");
        command.envs(said.map(|number| ("MALLOC_ARENA_MAX", number)));
        let mut service = Service::of(command);
        service.hear("lifeboat serves");
        let of = |what: &str| std::fs::read_to_string(format!("/proc/{}/{what}", service.child.id())).unwrap();
        assert_eq!(of("environ").split('\0').filter(|one| one.starts_with("MALLOC_")).collect::<Vec<_>>(), [wanted]);
        assert_eq!(of("cmdline").split('\0').nth(1), Some("worker"), "the same process, begun in the same way");
        service.signal(Signal::TERM);
        assert_eq!(service.end().0, Some(0));
    }
}

#[test]
fn what_cannot_be_served_is_said() {
    let home = Home::for_url("postgresql://nobody@/orders?host=/nowhere");
    home.edit_config(|text| format!("{text}\n[serve]\nworkers = 0\n"));
    let ran = home.run(&["worker"]).expect(2);
    assert!(ran.stderr.contains("does nothing") && ran.stderr.contains("hint:"), "{ran:?}");
    for (config, part) in [
        ("lease = \"1s\"", "runs out under a worker"),
        ("workers = 65", "64"),
        ("wrokers = 1", "did you mean `workers`"),
    ] {
        home.edit_config(|text| {
            let head = text.split("[serve]").next().unwrap().to_owned();
            format!("{head}[serve]\n{config}\n")
        });
        let ran = home.run(&["schedule"]).expect(2);
        assert!(ran.stderr.contains(part), "{config}: {ran:?}");
    }
    home.edit_config(|text| {
        let head = text.split("[serve]").next().unwrap().to_owned();
        format!("{head}[worker]\nlabels = [\"lifeboat-x\"]\n\n[schedule]\nverify_budget = \"10%\"\n")
    });
    let ran = home.run(&["schedule"]).expect(2);
    assert!(ran.stderr.contains("lifeboat's own") && ran.stderr.contains("without `schedule.verify`"), "{ran:?}");
    let ran = home.run(&["schedule", "--policy", "nobody"]).expect(2);
    assert!(!ran.stderr.is_empty());
}

#[test]
fn a_schedule_is_shown_with_its_reasons() {
    let home = Home::for_url("postgresql://nobody@/orders?host=/nowhere");
    scheduled(&home, "0 3 * * *", "0 12 * * 0");
    home.edit_policy(|text| {
        text.replace("[[drill]]", "[[drill]]\nwindow = { from = \"22:00\", to = \"05:00\" }\nneeds = [\"big-disk\"]")
    });
    let shown: Value = home.run(&["schedule", "--next", "40", "--output", "json"]).expect(0).json();
    let runs = shown["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 40, "{shown}");
    let due: Vec<&str> = runs.iter().map(|run| run["due_at"].as_str().unwrap()).collect();
    assert!(due.is_sorted(), "{due:?}");
    let drill = runs.iter().find(|run| run["title"].as_str().unwrap().starts_with("drill")).unwrap();
    let why = drill["why"].to_string();
    assert!(why.contains("waits for its window") && why.contains("big-disk"), "{drill}");
    assert!(drill["due_at"].as_str().unwrap().contains("T22:00:00"), "{drill}");
}
