//! Clusters that are not easy, by both methods: each is backed up and drilled with the shipped drills, and broken in its copy.
//! What is covered, and by which test, is in `docs/coverage-cluster.md`.

mod busy;
mod hostile;
mod places;
mod rights;
mod sizes;

use std::fmt::Write as _;

use serde_json::Value;

use crate::support::home::{Home, POLICY};

const PHYSICAL: &str = "restore-latest";
const LOGICAL: &str = "restore-logical";

/// Makes a policy take another set of databases: `"all"`, `["one"]`.
fn databases(home: &Home, value: &str) {
    let policy = home.path().join(format!("policies/{POLICY}.toml"));
    let text = std::fs::read_to_string(&policy).unwrap();
    let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("databases = ")).collect();
    let text = kept.join("\n").replacen("[source]", &format!("[source]\ndatabases = {value}"), 1);
    std::fs::write(&policy, text).unwrap();
}

fn backup(home: &Home, job: &str) -> String {
    let ran = home.run(&["backup", POLICY, "--job", job]).expect(0);
    ran.stdout + &ran.stderr
}

fn drill(home: &Home, name: &str, code: i32) -> Value {
    home.run(&["drill", POLICY, "--drill", name, "--output", "json"]).expect(code).json()
}

/// A shipped drill that must be proven, with every check passed.
#[track_caller]
fn proven(home: &Home, name: &str) -> Value {
    let transcript = drill(home, name, 0);
    assert_eq!(transcript["judgement"]["verdict"], "proven", "{:#}", transcript["judgement"]);
    for check in transcript["checks"].as_array().unwrap() {
        assert_eq!(check["outcome"], "passed", "{check:#}");
    }
    transcript
}

fn check<'a>(transcript: &'a Value, name: &str) -> &'a Value {
    let checks = transcript["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no check {name}: {checks:#?}"))
}

/// What a check could not look at, sorted: only what is grave, or all of it.
fn unchecked(transcript: &Value, name: &str, grave: bool) -> Vec<String> {
    let all = check(transcript, name)["unchecked"].as_array().unwrap();
    let wanted = all.iter().filter(|one| !grave || one["grave"] == true);
    let mut names: Vec<String> = wanted.map(|one| one["object"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// Breaks the copy in all these ways at once (database, or none for the policy's; SQL), and gives what the checks found: `check: object`.
fn broken(home: &Home, method: &str, faults: &[(Option<&str>, &str)], checks: &[&str]) -> Vec<String> {
    let mut text = format!(
        "[drill]\nname = \"broken\"\ndescription = \"break the copy on purpose\"\nbackup = {{ pick = \"latest\", method = \"{method}\" }}\n\
         [scratch]\nkind = \"cluster\"\nisolation = \"required\"\n[[steps]]\nrestore.until = \"latest\"\n"
    );
    for (database, sql) in faults {
        text.push_str("[[steps]]\n[steps.sabotage]\n");
        if let Some(database) = database {
            writeln!(text, "database = '''{database}'''").unwrap();
        }
        writeln!(text, "sql = '''{sql}'''").unwrap();
    }
    for check in checks {
        writeln!(text, "[[steps]]\ncheck.name = \"{check}\"").unwrap();
    }
    home.write_drill("broken", &text);
    let transcript = drill(home, "broken", 3);
    let mut found = Vec::new();
    for name in checks {
        let outcome = &check(&transcript, name)["outcome"];
        for finding in outcome["failed"].as_array().map(Vec::as_slice).unwrap_or_default() {
            found.push(format!("{name}: {}", finding["object"].as_str().unwrap()));
        }
    }
    found
}

#[track_caller]
fn assert_named(found: &[String], wanted: &[&str]) {
    for name in wanted {
        assert!(found.iter().any(|one| one.contains(name)), "{name} was not found: {found:#?}");
    }
}
