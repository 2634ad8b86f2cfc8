//! Metrics and health, as a scraper sees them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use lifeboat::domain::transcript::Verdict;
use lifeboat::domain::units::Span;

use super::{Bench, policy};

/// `lifeboat metrics --serve` on a port of its own choice; ended when it is dropped.
pub struct Served {
    child: Child,
    pub address: String,
}

impl Served {
    pub fn start(bench: &Bench) -> Served {
        Served::of(bench.command(&["metrics", "--serve", "127.0.0.1:0"]))
    }

    pub fn of(mut command: Command) -> Served {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("it says where it listens").unwrap();
            if let Some(address) = line.strip_prefix("metrics and health at ") {
                break address.to_owned();
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Served { child, address: address.trim_start_matches("http://").to_owned() }
    }

    pub fn get(&self, path: &str, accept: &str) -> (u16, String) {
        let stream = TcpStream::connect(&self.address).unwrap();
        ask(stream, path, accept)
    }

    /// Asks it to stop; gives its exit code.
    pub fn stop(mut self) -> i32 {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(mut stream: impl Read + Write, path: &str, accept: &str) -> (u16, String) {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split_whitespace().nth(1).unwrap().parse().unwrap();
    (status, whole(answer))
}

/// The answer with its body in one piece; one that was broken off in the middle is no answer.
fn whole(answer: String) -> String {
    let (head, mut rest) = answer.split_once("\r\n\r\n").unwrap();
    if !head.to_lowercase().contains("transfer-encoding: chunked") {
        return answer;
    }
    let mut text = format!("{head}\r\n\r\n");
    loop {
        let (size, after) = rest.split_once("\r\n").expect("another piece");
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return text;
        }
        text.push_str(&after[..size]);
        rest = after[size..].strip_prefix("\r\n").expect("the end of a piece");
    }
}

/// Whether a program of Debian's is here.
pub fn here(program: &str) -> bool {
    let here = Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success());
    if !here {
        eprintln!("SKIPPED: {program} is not here: run deploy/watchers.sh");
    }
    here
}

/// Held against Prometheus' own conventions.
pub fn promtool_checks(text: &str) {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && said.trim().is_empty(), "{said}");
}

#[tokio::test]
async fn metrics_follow_the_conventions_and_the_same_is_said_in_every_form() {
    let bench = Bench::new("");
    let opened = bench.opened();
    bench.backed_up(&opened, "orders", Span::from_secs(3_600)).await;
    bench.drilled(&opened, "orders", Verdict::Failed).await;
    let printed = bench.run(&["metrics"]).expect(0).stdout;
    for line in [
        "lifeboat_policy_verdict{policy=\"orders\",verdict=\"failed\"} 1",
        "lifeboat_policy_verdict{policy=\"orders\",verdict=\"proven\"} 0",
        "lifeboat_objective_rpo_seconds{policy=\"orders\"} 86400",
        "lifeboat_drill_verdict{policy=\"orders\",drill=\"restore-latest\",verdict=\"failed\"} 1",
        "lifeboat_runs_ended_total{how=\"finished\"} 2",
        "lifeboat_backup_last_attempt_success{policy=\"orders\",job=\"nightly\"} 1",
        "lifeboat_policy_info{policy=\"orders\",owner=\"dba\",tier=\"critical\"} 1",
        "lifeboat_queue_oldest_due_seconds 0",
        "lifeboat_catalog_up 1",
    ] {
        assert!(printed.lines().any(|one| one.trim_end_matches(".0") == line), "{line} is not in\n{printed}");
    }
    // There never was a proof, and nobody looked for drift: not 0, but nothing.
    for absent in ["lifeboat_proof_age_seconds", "lifeboat_drift_checked_timestamp_seconds", "lifeboat_spool_files"] {
        assert!(!printed.contains(absent), "{absent}");
    }
    let exposure = printed.lines().find_map(|line| line.strip_prefix("lifeboat_exposure_seconds{policy=\"orders\"} "));
    assert!((3_000.0..20_000.0).contains(&exposure.unwrap().parse::<f64>().unwrap()), "{exposure:?}");

    let document = bench.run(&["metrics", "--output", "json"]).expect(0).json();
    assert_eq!(document["schema"], "lifeboat.metrics/1");
    let open = bench.run(&["metrics", "--openmetrics"]).expect(0).stdout;
    assert!(open.ends_with("# EOF\n"));
    bench.run(&["metrics", "--textfile", "lifeboat.prom"]).expect(0);
    let file = std::fs::read_to_string(bench.path("lifeboat.prom")).unwrap();
    assert_eq!(file.lines().count(), printed.lines().count());
    let left = std::fs::read_dir(bench.folder.path()).unwrap().flatten();
    assert!(left.into_iter().all(|entry| !entry.file_name().to_string_lossy().starts_with(".lifeboat-")));
    if here("promtool") {
        promtool_checks(&printed);
    }
}

#[tokio::test]
async fn metrics_and_health_are_answered_and_a_catalog_that_is_gone_shows() {
    let bench = Bench::new("");
    let opened = bench.opened();
    bench.backed_up(&opened, "orders", Span::from_secs(3_600)).await;
    let served = Served::start(&bench);
    let (status, text) = served.get("/metrics", "text/plain");
    assert_eq!(status, 200);
    assert!(text.contains("text/plain; version=0.0.4") && text.contains("no-store"), "{text}");
    let (_, text) = served.get("/metrics", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
    assert!(text.contains("application/openmetrics-text") && text.ends_with("# EOF\n"), "{text}");
    assert_eq!(served.get("/healthz", "*/*").0, 200);
    assert_eq!(served.get("/readyz", "*/*").0, 200);
    assert_eq!(served.get("/", "*/*").0, 404);
    // The catalog breaks while it is served.
    drop(opened);
    rusqlite::Connection::open(bench.path("lifeboat.db")).unwrap().execute_batch("drop trigger event_is_never_removed; drop view artifact; drop view run; drop view proof; alter table event rename to gone").unwrap();
    assert_eq!(served.get("/readyz", "*/*").0, 503);
    assert_eq!(served.get("/healthz", "*/*").0, 200);
    assert_eq!(served.stop(), 0);
}

#[test]
fn a_socket_will_do() {
    let bench = Bench::new("[serve]\nlisten = \"unix:metrics.sock\"");
    // One that a killed process left is in nobody's way.
    drop(std::os::unix::net::UnixListener::bind(bench.path("metrics.sock")).unwrap());
    let served = Served::of(bench.command(&["metrics", "--serve"]));
    let path = served.address.strip_prefix("unix:").unwrap().to_owned();
    let (status, text) = ask(UnixStream::connect(&path).unwrap(), "/metrics", "*/*");
    assert!(status == 200 && text.contains("lifeboat_build_info"), "{text}");
    assert_eq!(served.stop(), 0);
    assert!(!std::path::Path::new(&path).exists());
}

/// The long form: `LIFEBOAT_MANY=10000`. What a scrape costs is printed.
#[tokio::test]
async fn many_policies_are_one_scrape() {
    let many: usize = std::env::var("LIFEBOAT_MANY").map_or(60, |many| many.parse().unwrap());
    let bench = Bench::new("");
    for number in 1..many {
        bench.write(&format!("policies/p{number}.toml"), &policy(&format!("p{number}"), "low"));
    }
    let opened = bench.opened();
    for number in 1..many {
        bench.backed_up(&opened, &format!("p{number}"), Span::from_secs(60)).await;
    }
    let served = Served::start(&bench);
    let took = |what: &str| {
        let begun = std::time::Instant::now();
        let (status, text) = served.get("/metrics", "*/*");
        assert_eq!(status, 200);
        println!("{what}: {:?}, {} bytes", begun.elapsed(), text.len());
        text
    };
    let text = took("the first scrape");
    assert_eq!(text.lines().filter(|line| line.starts_with("lifeboat_exposure_seconds{")).count(), many - 1);
    took("the next");
    if many > 1_000 {
        std::thread::sleep(std::time::Duration::from_secs(3));
        took("one after three seconds");
        std::thread::sleep(std::time::Duration::from_secs(60));
        took("one after a minute");
    }
}
