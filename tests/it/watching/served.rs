//! `lifeboat serve` answers for metrics and health, and tells whom it is to tell.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use lifeboat::domain::transcript::Verdict;
use lifeboat::domain::units::Span;
use rustix::process::{Pid, Signal, kill_process};

use super::{Bench, policy};
use crate::support::ears::Ears;

struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn get(bench: &Bench, path: &str) -> Option<String> {
    let mut stream = UnixStream::connect(bench.path("metrics.sock")).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Waits until a page holds a line.
fn until(bench: &Bench, path: &str, wanted: &str) {
    let begun = Instant::now();
    loop {
        let answer = get(bench, path);
        if answer.as_ref().is_some_and(|answer| answer.contains(wanted)) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{wanted} was not seen: {answer:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[tokio::test]
async fn the_service_is_watched_and_tells_by_itself() {
    let ears = Ears::open();
    let bench = Bench::new(&format!(
        "[serve]\nworkers = 0\nlisten = \"unix:metrics.sock\"\n[log]\nformat = \"json\"\nlevel = \"info\"\n\
         [[notify]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"{}\"\n",
        ears.url()
    ));
    let opened = bench.opened();
    bench.backed_up(&opened, "orders", Span::from_secs(3_600)).await;
    bench.drilled(&opened, "orders", Verdict::Failed).await;
    let child = bench.command(&["serve"]).stderr(Stdio::null()).spawn().unwrap();
    let mut service = Service(child);
    until(
        &bench,
        "/metrics",
        "lifeboat_drill_verdict{policy=\"orders\",drill=\"restore-latest\",verdict=\"failed\"} 1",
    );
    until(&bench, "/metrics", "lifeboat_planner_last_success_timestamp_seconds ");
    until(&bench, "/metrics", "lifeboat_config_reload_success 1");
    until(&bench, "/metrics", "lifeboat_leases_lost_total 0");
    until(&bench, "/healthz", "200 OK");
    until(&bench, "/readyz", "200 OK");
    until(&bench, "/metrics", "lifeboat_letters_delivered_total{notifier=\"hook\"} 1");
    assert!(ears.taken()[0].text().contains("orders/drill_failed/restore-latest"));

    // A policy more is one more in the metrics; a wrong one shows, and changes nothing.
    let pid = Pid::from_child(&service.0);
    bench.write("policies/billing.toml", &policy("billing", "low"));
    kill_process(pid, Signal::HUP).unwrap();
    until(&bench, "/metrics", "lifeboat_policy_info{policy=\"billing\",owner=\"dba\",tier=\"low\"} 1");
    bench.write("policies/wrong.toml", "[policy]\nname = 7\n");
    kill_process(pid, Signal::HUP).unwrap();
    until(&bench, "/metrics", "lifeboat_config_reload_success 0");
    until(&bench, "/metrics", "lifeboat_policies{seen=\"true\"} 2");
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(service.0.wait().unwrap().code(), Some(0));
    assert!(!bench.path("metrics.sock").exists());
}
