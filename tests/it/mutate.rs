//! Tests of drills: each known fault turns the shipped drills red, each check is needed for one of them, and nothing is left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::data::{DATABASE, fill};
use crate::support::home::{Home, POLICY, walk};
use crate::support::server::Server;

/// A home with two backups of this job's method, so that there is an older one.
fn home(job: &str) -> (Server, Home) {
    let server = Server::start();
    fill(&server);
    // Of the collations that a database has from the start, none has a version here.
    server.sql(DATABASE, "create collation shop.german (provider = icu, locale = 'de')");
    let home = Home::new(&server, DATABASE);
    for _ in 0..2 {
        home.run(&["backup", POLICY, "--job", job]).expect(0);
    }
    (server, home)
}

fn hashes(folder: &Path) -> BTreeMap<PathBuf, blake3::Hash> {
    walk(folder).into_iter().map(|path| (path.clone(), blake3::hash(&std::fs::read(&path).unwrap()))).collect()
}

/// What is red for each mutation, by name.
fn reds(test: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let one = |mutated: &Value| {
        let red = mutated["red"].as_array().unwrap().iter().map(|red| red["title"].as_str().unwrap().to_owned());
        (mutated["mutation"].as_str().unwrap().to_owned(), red.collect())
    };
    test["mutations"].as_array().unwrap().iter().map(one).collect()
}

/// The whole test of a shipped drill: all that applies is caught, by what is meant for it; and each of these checks alone
/// catches something.
fn all_is_caught(home: &Home, drill: &str, alone: &[&str], not_applied: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let before = hashes(&home.store());
    let ran = home.run(&["drill", POLICY, "--drill", drill, "--mutate", "--seed", "7", "--output", "json"]);
    let document = ran.json();
    let test = &document["tests"][0];
    let not_caught: Vec<&Value> = test["mutations"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|mutated| mutated["came"]["caught"]["as_expected"] != true)
        .collect();
    assert!(not_caught.is_empty(), "{not_caught:#?}");
    ran.expect(0);
    let skipped: Vec<&str> =
        test["not_mutated"].as_array().unwrap().iter().map(|one| one["what"].as_str().unwrap()).collect();
    assert_eq!(skipped, not_applied);
    assert_eq!(test["score"]["caught"], test["score"]["applied"]);
    let red = reds(test);
    for check in alone {
        let only = BTreeSet::from([(*check).to_owned()]);
        assert!(red.values().any(|titles| *titles == only), "nothing is caught by {check} alone: {red:#?}");
    }
    assert_eq!(hashes(&home.store()), before, "the store is as it was");
    assert!(walk(&home.scratch()).is_empty(), "no scratch is left");
    red
}

/// The same drill without one check; its name.
fn drill_without(home: &Home, drill: &str, check: &str) -> String {
    let file = home.path().join(format!("drills/{drill}.toml"));
    let text = std::fs::read_to_string(file).unwrap();
    let name = format!("{drill}-without-{}", check.replace('_', "-"));
    let step = text.lines().find(|line| line.contains(&format!("\"{check}\""))).unwrap();
    let text = text
        .replace(&format!("[[steps]]\n{step}\n"), "")
        .replace(&format!("name = \"{drill}\""), &format!("name = \"{name}\""));
    assert!(!text.contains(&format!("\"{check}\"")), "{text}");
    home.write_drill(&name, &text);
    name
}

/// Without any one of these checks the score falls: the fault that this check alone sees is not caught, and is named.
fn each_is_needed(home: &Home, drill: &str, checks: &[&str], red: &BTreeMap<String, BTreeSet<String>>) {
    for check in checks {
        let name = drill_without(home, drill, check);
        let (mutation, _) = red.iter().find(|(_, titles)| **titles == BTreeSet::from([(*check).to_owned()])).unwrap();
        let ran = home.run(&["drill", POLICY, "--drill", &name, "--mutate", "--only", mutation, "--seed", "7"]);
        assert_eq!(ran.code, 3, "{check}: {ran:?}");
        assert!(ran.stdout.contains("DETECTED 0 of 1") && ran.stdout.contains(mutation.as_str()), "{}", ran.stdout);
    }
    // What the check of the artifact sees, the restore refuses too: without the check it is caught, but not by what is meant for it.
    let name = drill_without(home, drill, "manifest");
    let args = ["drill", POLICY, "--drill", &name, "--mutate", "--only", "part_flipped", "--seed", "7"];
    let document = home.run(&[&args[..], &["--output", "json"]].concat()).json();
    let score = &document["tests"][0]["score"];
    assert_eq!((&score["applied"], &score["by_others"]), (&1.into(), &1.into()), "{document:#}");
}

#[test]
fn every_fault_of_a_physical_backup_turns_its_drill_red() {
    let (_server, home) = home("physical");
    let alone = [
        "page_checksums",
        "completeness",
        "content",
        "sequences",
        "extensions",
        "collations",
        "encodings",
        "settings",
        "amcheck",
    ];
    let red = all_is_caught(&home, "restore-latest", &alone, &["globals_lost", "heartbeat_lost"]);
    each_is_needed(&home, "restore-latest", &alone, &red);

    let status = home.run(&["status", POLICY]);
    assert!(status.stdout.contains("detection of restore-latest: "), "{}", status.stdout);
    let ran = home.run(&["status", POLICY, "--output", "json"]).json();
    let detection = &ran["policies"][0]["detection"][0];
    assert_eq!(detection["score"]["caught"], detection["score"]["applied"], "one of a few mutations does not count");
    let drills = ran["policies"][0]["drills"].as_array().unwrap();
    assert!(
        drills.iter().all(|drill| drill["verdict"] == "proven"),
        "no mutated drill is among the drills: {drills:#?}"
    );
    let page = home.path().join("test.html");
    let run = detection["run"].as_str().unwrap();
    home.run(&["report", run, "--html", page.to_str().unwrap()]).expect(0);
    assert!(std::fs::read_to_string(page).unwrap().contains("unread_page_flipped"));
}

#[test]
fn every_fault_of_a_logical_backup_turns_its_drill_red() {
    let (_server, home) = home("logical");
    let alone =
        ["completeness", "content", "sequences", "extensions", "collations", "encodings", "settings", "amcheck"];
    let not_applied = ["wal_lost", "page_flipped", "unread_page_flipped", "heartbeat_lost"];
    let red = all_is_caught(&home, "restore-logical", &alone, &not_applied);
    each_is_needed(&home, "restore-logical", &alone, &red);
}

#[test]
fn what_is_asked_for_wrongly_is_said() {
    let server = Server::start();
    fill(&server);
    let home = Home::new(&server, DATABASE);
    let drill = ["drill", POLICY, "--drill", "restore-logical"];
    let run = |more: &[&str]| home.run(&[&drill, more].concat());
    let ran = run(&["--mutate", "--only", "row_chnged"]).expect(2);
    assert!(ran.stderr.contains("did you mean `row_changed`"), "{}", ran.stderr);
    run(&["--only", "row_changed"]).expect(2);
    let ran = run(&["--mutate", "--only", "row_changed"]).expect(4);
    assert!(ran.stdout.contains("NOT MEASURED"), "without a backup: {}", ran.stdout);
    let text = std::fs::read_to_string(home.path().join("drills/restore-logical.toml")).unwrap();
    let text = text.replace("name = \"restore-logical\"", "name = \"broken\"");
    home.write_drill("broken", &format!("{text}\n[[steps]]\nsabotage.sql = \"select 1\"\n"));
    let ran = home.run(&["drill", POLICY, "--drill", "broken", "--mutate"]).expect(2);
    assert!(ran.stderr.contains("never proven"), "{}", ran.stderr);

    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    let list = run(&["--mutate", "--list", "--seed", "3", "--output", "json"]).expect(0).json();
    assert_eq!(list["schema"], "lifeboat.mutation-list/1");
    let listed = list["drills"][0]["mutations"].as_array().unwrap();
    let of = |name: &str| listed.iter().find(|one| one["mutation"] == name).unwrap();
    assert!(of("wal_lost")["why_not"].as_str().unwrap().contains("dump"), "{list}");
    assert!(of("row_changed")["victim"]["name"].as_str().unwrap().starts_with("shop."), "{list}");
    assert!(walk(&home.scratch()).is_empty());
}

#[test]
fn a_test_that_is_ended_leaves_nothing_behind() {
    let (_server, home) = home("logical");
    let before = hashes(&home.store());
    let mut command =
        home.command(&["drill", POLICY, "--drill", "restore-logical", "--mutate", "--only", "row_changed"]);
    let mut child = command.stderr(std::process::Stdio::null()).stdout(std::process::Stdio::null()).spawn().unwrap();
    // Its second scratch: the first is that of the drill as it is.
    let mut seen = BTreeSet::new();
    let deadline = Instant::now() + Duration::from_secs(120);
    while seen.len() < 2 {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "two scratches: {seen:?}");
        let folders = std::fs::read_dir(home.scratch()).into_iter().flatten().flatten();
        seen.extend(folders.filter(|folder| folder.path().join("data").is_dir()).map(|folder| folder.file_name()));
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(4));
    assert!(std::fs::read_dir(home.scratch()).unwrap().next().is_none(), "a scratch is left");
    assert_eq!(hashes(&home.store()), before);
    let status = home.run(&["status", POLICY, "--output", "json"]).json();
    assert_eq!(status["policies"][0]["detection"], serde_json::json!([]), "half a test has no score");
}
