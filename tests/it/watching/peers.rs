//! Prometheus and Alertmanager, as Debian has them: a real drill that fails becomes a firing alert, and a later pass resolves it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::seen::{Served, here};
use crate::support::data::{self, DATABASE};
use crate::support::ears::Ears;
use crate::support::home::{Home, POLICY};
use crate::support::server::Server;

/// A program in the background, ended when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(program: &str, args: &[String]) -> Running {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Running(command.spawn().unwrap())
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits for something to be so; what was seen last is told when it is not.
fn until<T: std::fmt::Debug>(what: &str, look: impl Fn() -> Result<(), T>) {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(()) => return,
            Err(seen) => assert!(begun.elapsed() < Duration::from_secs(120), "{what}: {seen:?}"),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// What Alertmanager's webhook said of an alert: `firing` or `resolved`, by name and drill or alarm.
fn routed(ears: &Ears, name: &str) -> Vec<String> {
    let of = |document: Value| {
        let alerts = document["alerts"].as_array().cloned().unwrap_or_default();
        alerts
            .into_iter()
            .filter(|alert| alert["labels"]["alertname"] == name)
            .map(|alert| alert["status"].as_str().unwrap().to_owned())
    };
    ears.heard().iter().flat_map(|heard| of(heard.json())).collect()
}

fn drill(home: &Home, query: &str) {
    home.write_drill(
        "mine",
        &format!(
            "[drill]\nname = \"mine\"\ndescription = \"x\"\nbackup = {{ pick = \"latest\", method = \"logical\" }}\nloss = \"now\"\n\
             [scratch]\nkind = \"cluster\"\nisolation = \"preferred\"\n[[steps]]\nrestore.until = \"latest\"\n\
             [[steps]]\nawait-ready = {{ query = \"select 1\", within = \"5s\", timeout = \"2m\" }}\n\
             [[steps]]\ncheck.name = \"manifest\"\n[[steps]]\ncheck = {{ name = \"assert\", sql = \"{query}\", is = true }}\n"
        ),
    );
}

#[test]
fn a_drill_that_fails_fires_and_one_that_passes_resolves() {
    if !here("prometheus") || !here("prometheus-alertmanager") {
        return;
    }
    let (ears, server) = (Ears::open(), Server::start());
    data::fill(&server);
    let home = Home::new(&server, DATABASE);
    let (prometheus, alertmanager) = (free_port(), free_port());
    home.edit_config(|text| {
        format!(
            "{text}\n[[notify]]\nname = \"am\"\nkind = \"alertmanager\"\nurl = \"http://127.0.0.1:{alertmanager}\"\n\
             [[notify]]\nname = \"boss\"\nkind = \"webhook\"\nurl = \"{}/boss\"\n\
             [[route]]\nto = [\"am\"]\nescalate = [{{ after = \"1s\", to = [\"boss\"] }}]\n",
            ears.url()
        )
    });
    drill(&home, "select count(*) < 0 from shop.customer");
    home.edit_policy(|text| text.replace("use = \"restore-logical\"", "use = \"mine\""));
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    home.run(&["drill", POLICY, "--drill", "mine"]).expect(3);

    // Prometheus with the rules that are shipped, Alertmanager with a receiver of ours.
    let served = Served::of(home.command(&["metrics", "--serve", "127.0.0.1:0"]));
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus/lifeboat.rules.yml");
    let write = |name: &str, text: String| {
        let path = home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let config = write(
        "prometheus.yml",
        format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\n\
             scrape_configs: [{{job_name: lifeboat, static_configs: [{{targets: ['{}']}}]}}]\n\
             alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{alertmanager}']}}]}}]}}\n",
            rules.display(),
            served.address
        ),
    );
    let routes = write(
        "alertmanager.yml",
        format!(
            "route: {{receiver: ears, group_wait: 0s, group_interval: 1s, repeat_interval: 1h, group_by: ['...']}}\n\
             receivers: [{{name: ears, webhook_configs: [{{url: '{}/am', send_resolved: true}}]}}]\n",
            ears.url()
        ),
    );
    let _alertmanager = start(
        "prometheus-alertmanager",
        &[
            format!("--config.file={routes}"),
            format!("--storage.path={}", home.path().join("am").display()),
            format!("--web.listen-address=127.0.0.1:{alertmanager}"),
            "--cluster.listen-address=".to_owned(),
        ],
    );
    let _prometheus = start(
        "prometheus",
        &[
            format!("--config.file={config}"),
            format!("--storage.tsdb.path={}", home.path().join("tsdb").display()),
            format!("--web.listen-address=127.0.0.1:{prometheus}"),
        ],
    );
    let has = |name: &str, wanted: &str| {
        let seen = routed(&ears, name);
        if seen.last().is_some_and(|last| last == wanted) { Ok(()) } else { Err(seen) }
    };
    until("the failed drill fires, by the rules", || has("LifeboatDrillFailed", "firing"));
    // The same by lifeboat's own letter to Alertmanager.
    until("Alertmanager takes letters", || home.run(&["notify", "--test", "am"]).code.eq(&0).then_some(()).ok_or(()));
    home.run(&["notify", "--once"]);
    until("the failed drill fires, by letter", || has("Lifeboat", "firing"));

    // Somebody takes all of it on before the second step of the escalation: the boss is not told, then or later.
    home.run(&["ack", POLICY, "--by", "ann"]).expect(0);
    std::thread::sleep(Duration::from_millis(1_100));
    home.run(&["notify", "--once"]).expect(0);
    assert!(ears.heard().iter().all(|heard| heard.path != "/boss"), "an acknowledged alarm is not escalated");

    drill(&home, "select count(*) > 0 from shop.customer");
    home.run(&["drill", POLICY, "--drill", "mine"]).expect(0);
    home.run(&["notify", "--once"]).expect(0);
    until("the later pass resolves it, by letter", || {
        let seen: Vec<String> = ears.heard().iter().map(|heard| heard.text()).collect();
        let over = |text: &&String| text.contains("drill_failed") && text.contains("\"status\":\"resolved\"");
        seen.iter().find(over).map(drop).ok_or(seen.len())
    });
    until("the later pass resolves it, by the rules", || has("LifeboatDrillFailed", "resolved"));
    assert_eq!(served.stop(), 0);
}
