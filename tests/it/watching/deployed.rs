//! What is shipped to watch and to deploy with: every metric that is named exists, and each file is held against its own public tool where that is here.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use lifeboat::judge::metrics::{FAMILIES, Kind};

use super::seen::here;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn known() -> BTreeSet<String> {
    FAMILIES.iter().map(|family| family.name.to_owned()).collect()
}

/// Every word in a text that looks like a metric.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("lifeboat_") && word.len() > 9).map(str::to_owned).collect()
}

#[test]
fn rules_and_dashboard_name_only_metrics_that_there_are() {
    for file in [
        "deploy/prometheus/lifeboat.rules.yml",
        "deploy/prometheus/lifeboat.rules.test.yml",
        "deploy/grafana/lifeboat.json",
    ] {
        let (named, known) = (named(&read(file)), known());
        assert!(named.len() > 5, "{file}: {named:?}");
        let strange: Vec<_> = named.difference(&known).collect();
        assert!(strange.is_empty(), "{file}: {strange:?}");
    }
    let dashboard: serde_json::Value = serde_json::from_str(&read("deploy/grafana/lifeboat.json")).unwrap();
    assert!(
        dashboard["panels"].as_array().unwrap().iter().all(|panel| !panel["targets"].as_array().unwrap().is_empty())
    );
}

#[test]
fn the_page_lists_every_metric_with_its_kind_and_labels() {
    let page = read("docs/monitoring.md");
    for family in FAMILIES {
        let kind = if family.kind == Kind::Counter { "counter" } else { "gauge" };
        let labels = family.labels.join(", ");
        let line = format!("| `{}` | {kind} | {labels} | {} |", family.name, family.help.replace('|', "\\|"));
        assert!(page.lines().any(|one| one == line), "docs/monitoring.md does not have\n{line}");
    }
    let strange: Vec<String> = named(&page).difference(&known()).cloned().collect();
    assert!(strange.is_empty(), "{strange:?}");
}

#[test]
fn rules_do_what_their_own_tests_say() {
    if !here("promtool") {
        return;
    }
    for args in [["check", "rules", "lifeboat.rules.yml"], ["test", "rules", "lifeboat.rules.test.yml"]] {
        let out = Command::new("promtool").args(args).current_dir(root().join("deploy/prometheus")).output().unwrap();
        assert!(
            out.status.success(),
            "{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
    }
}

#[test]
fn manifests_promise_what_they_should() {
    let all: String = ["serve.yaml", "worker.yaml", "network.yaml"]
        .iter()
        .map(|file| read(&format!("deploy/kubernetes/{file}")))
        .collect();
    for part in [
        "runAsNonRoot: true",
        "readOnlyRootFilesystem: true",
        "allowPrivilegeEscalation: false",
        "automountServiceAccountToken: false",
        "path: /healthz",
        "path: /readyz",
        "kind: NetworkPolicy",
        "kind: PodDisruptionBudget",
        "kind: PersistentVolumeClaim",
        "secretName:",
        "drop: [ALL]",
        "limits:",
    ] {
        assert!(all.contains(part), "{part}");
    }
    for line in all.lines().filter(|line| line.trim().starts_with("image:")) {
        assert!(line.contains(concat!("lifeboat:", env!("CARGO_PKG_VERSION"))), "{line}");
    }
    assert!(!all.contains("kind: Role"), "nothing is asked of the cluster");
    let unit = read("deploy/systemd/lifeboat.service");
    for part in [
        "ExecStart=/usr/local/bin/lifeboat serve",
        "KillSignal=SIGTERM",
        "TimeoutStopSec=",
        "ProtectSystem=strict",
        "ExecReload=",
    ] {
        assert!(unit.contains(part), "{part}");
    }
    if here("yamllint") {
        let out = Command::new("yamllint")
            .args(["-d", "relaxed", "deploy", "docker-compose.yml"])
            .current_dir(root())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success() && !said.contains("error"), "{said}");
    }
}
