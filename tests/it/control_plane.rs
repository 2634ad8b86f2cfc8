//! lifeboat's own recovery: catalog, configuration and machine are lost, and come back from a store and a key.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::home::{Home, POLICY};
use crate::support::server::Server;

/// A home with a backup of a real server and a policy for lifeboat itself.
fn home(server: &Server) -> Home {
    server
        .sql("postgres", "create table orders (id int primary key); insert into orders select generate_series(1, 100)");
    let home = Home::new(server, "postgres");
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    home.run(&["init", "--control-plane"]).expect(0);
    home
}

/// The folder of the newest backup of lifeboat itself. Two may be of one second, so names do not tell.
fn newest(home: &Home) -> PathBuf {
    let listed = std::fs::read_dir(home.store().join("lifeboat")).unwrap();
    let written = |folder: &PathBuf| folder.join("manifest.json").metadata().unwrap().modified().unwrap();
    listed.map(|entry| entry.unwrap().path()).max_by_key(written).expect("a backup")
}

fn reasons(document: &serde_json::Value) -> String {
    document["judgement"]["reasons"].to_string()
}

#[test]
fn lifeboat_itself_is_lost_and_comes_back() {
    let server = Server::start();
    let home = home(&server);
    home.run(&["backup", "lifeboat"]).expect(0);
    // Taken after it: only the store knows of this one.
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    let drilled = home.run(&["drill", "lifeboat", "--output", "json"]).expect(0).json();
    assert_eq!(drilled["judgement"]["verdict"], "proven", "{drilled:#}");
    assert!(drilled["judgement"]["rta"].as_f64().is_some_and(|seconds| seconds >= 600.0), "{drilled:#}");
    let facts = drilled["steps"].to_string();
    assert!(facts.contains("backups that only the stores knew: 2"), "{facts}");
    assert!(facts.contains("keys/signing.pem"), "{facts}");
    assert_eq!(std::fs::read_dir(home.scratch()).unwrap().count(), 0, "no scratch is left");
    // Status, report and runbook know it like any other.
    let status = home.run(&["status", "lifeboat", "--output", "json"]).expect(0).json();
    assert_eq!(status["policies"][0]["verdict"], "proven", "{status:#}");
    let runbook = home.run(&["runbook", "lifeboat"]).expect(0).stdout;
    assert!(runbook.contains("catalog import") && !runbook.contains("pg_isready"), "{runbook}");
    assert!(
        runbook.contains("what to do with the folder") && !runbook.contains("how to start the server"),
        "{runbook}"
    );
    home.run(&["verify", "lifeboat"]).expect(0);
    // Whatever the machine's PostgreSQL packages are worth: nobody asks a server behind lifeboat itself.
    let checked = home.run(&["check", "--output", "json"]).json();
    let tried = checked["tried"].as_array().unwrap();
    let of_lifeboat = |one: &&serde_json::Value| one["area"] == "source" && one["subject"] == "lifeboat";
    assert!(tried.iter().filter(of_lifeboat).count() == 0 && tried.len() > 5, "{checked:#}");

    // The real day: a new machine, which has the store, the keys and the runbook.
    let elsewhere = tempfile::tempdir().unwrap();
    let back = elsewhere.path().join("back");
    let (store, key) = (home.store(), home.path().join("keys/working.agekey"));
    let mut restore = home.command(&["restore", "lifeboat", "--store", store.to_str().unwrap()]);
    restore
        .args(["--identity", key.to_str().unwrap(), "--trusted-signer"])
        .arg(home.path().join("keys/signing.pub.pem"));
    let restored = restore.arg("--to").arg(&back).current_dir(elsewhere.path()).output().unwrap();
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let said = String::from_utf8_lossy(&restored.stdout).into_owned();
    assert!(said.contains("catalog import"), "{said}");
    let config = back.join("config");
    std::fs::create_dir(config.join("keys")).unwrap();
    for name in ["working.agekey", "signing.pem", "signing.pub.pem"] {
        std::fs::copy(home.path().join("keys").join(name), config.join("keys").join(name)).unwrap();
    }
    // The store is where it was: its path was relative, and is corrected by hand, as the runbook says.
    let text = std::fs::read_to_string(config.join("lifeboat.toml")).unwrap();
    std::fs::write(config.join("lifeboat.toml"), text.replace("path = \"store\"", &format!("path = {store:?}")))
        .unwrap();
    shell(&config, "cat ../catalog/*.jsonl > ../catalog.jsonl");
    run(&config, &["catalog", "import", "../catalog.jsonl"]);
    run(&config, &["catalog", "rebuild"]);
    let runs = run(&config, &["catalog", "runs", POLICY, "--output", "json"]);
    let runs: serde_json::Value = serde_json::from_str(&runs).unwrap();
    assert_eq!(runs["runs"].as_array().unwrap().len(), 1, "the run before the loss is on record: {runs:#}");
    let status: serde_json::Value = {
        let mut command = lifeboat(&config, &["status", POLICY, "--output", "json"]);
        serde_json::from_slice(&command.output().unwrap().stdout).unwrap()
    };
    assert!(status.to_string().contains("logical"), "{status:#}");
}

#[test]
fn what_is_wrong_with_it_is_found() {
    let server = Server::start();
    let home = home(&server);
    // A backup that the catalog knows, and somebody took away from the store.
    home.run(&["backup", "lifeboat"]).expect(0);
    let gone = home.newest_backup();
    let aside = home.path().join("aside");
    std::fs::rename(&gone, &aside).unwrap();
    let drilled = home.run(&["drill", "lifeboat", "--output", "json"]).expect(3).json();
    assert!(drilled["checks"].to_string().contains("artifact_missing"), "{drilled:#}");
    std::fs::rename(&aside, &gone).unwrap();
    home.run(&["drill", "lifeboat"]).expect(0);

    // A file that the configuration does not read is not in it, whatever it holds.
    let policy = home.path().join("policies/orders.toml");
    let good = std::fs::read_to_string(&policy).unwrap();
    std::fs::write(home.path().join("policies/.hidden.toml"), "not = [toml").unwrap();
    home.run(&["backup", "lifeboat"]).expect(0);
    home.run(&["drill", "lifeboat"]).expect(0);
    assert_eq!(std::fs::read_to_string(&policy).unwrap(), good);

    // A bit of it is changed.
    let part = newest(&home).join("base/00000.zst.age");
    let mut bytes = std::fs::read(&part).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    let drilled = home.run(&["drill", "lifeboat", "--output", "json"]).expect(3).json();
    assert_eq!(drilled["judgement"]["verdict"], "failed", "{}", reasons(&drilled));
    home.run(&["restore", "lifeboat", "--to", "broken"]).expect(3);
    assert!(home.path().join("broken/RESTORE-INCOMPLETE.txt").is_file() || !home.path().join("broken").exists());

    // The key is another.
    home.run(&["backup", "lifeboat"]).expect(0);
    let key = home.path().join("keys/working.agekey");
    std::fs::rename(&key, home.path().join("keys/lost")).unwrap();
    let drilled = home.run(&["drill", "lifeboat", "--output", "json"]).expect(4).json();
    assert_eq!(drilled["judgement"]["verdict"], "unproven", "{}", reasons(&drilled));
}

#[test]
fn it_is_asked_for_as_it_should_be() {
    let home = Home::for_url("postgresql://nobody@127.0.0.1:1/orders");
    home.run(&["init", "--control-plane", "--policy", "ordrs"]).expect(2);
    home.run(&["init", "--control-plane"]).expect(0);
    let again = home.run(&["init", "--control-plane"]).expect(2);
    assert!(again.stderr.contains("already a policy for lifeboat itself"), "{}", again.stderr);
    let none = home.run(&["drill", "lifeboat"]).expect(4);
    assert!(none.stderr.contains("lifeboat backup") || none.stdout.contains("lifeboat backup"), "{none:?}");
    home.run(&["backup", "lifeboat"]).expect(0);
    for (args, words) in [
        (&["restore", "lifeboat", "--to", "x", "--until", "2026-01-01T00:00:00Z"][..], "no log"),
        (&["find", "lifeboat", "--reach", "2026-01-01T00:00:00Z"], "lifeboat"),
        (&["wal", "stream", "lifeboat"], "hint"),
    ] {
        let ran = home.run(args);
        assert!(ran.code != 0 && ran.stderr.contains(words), "{args:?}: {ran:?}");
    }
    let wrong = |text: &str, words: &str| {
        let file = home.path().join("policies/wrong.toml");
        std::fs::write(&file, text).unwrap();
        let ran = home.run(&["check", "--offline"]).expect(2);
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
        std::fs::remove_file(file).unwrap();
    };
    let own = std::fs::read_to_string(home.path().join("policies/lifeboat.toml"))
        .unwrap()
        .replace("\"lifeboat\"", "\"other\"");
    wrong(
        &own.replace("kind = \"control-plane\"", "kind = \"control-plane\"\nurl = \"postgresql://a@b/c\""),
        "`url` is for a server",
    );
    wrong(&own.replace("method = \"control-plane\"", "method = \"logical\""), "lifeboat itself is none");
    wrong(&own.replace("kind = \"control-plane\"", "kind = \"postgres\""), "`source.url` is missing");
    home.write_drill("odd", "[drill]\nname = \"odd\"\n[scratch]\nkind = \"folder\"\n[[steps]]\nrestore.until = \"latest\"\n[[steps]]\ncheck.name = \"amcheck\"\n");
    let ran = home.run(&["check", "--offline"]).expect(2);
    assert!(
        ran.stderr.contains("there is no log") && ran.stderr.contains("this check is for a server"),
        "{}",
        ran.stderr
    );
}

fn lifeboat(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("lifeboat"));
    command.args(args).current_dir(folder).env_remove("LIFEBOAT_CONFIG").env("NO_COLOR", "1");
    command
}

#[track_caller]
fn run(folder: &Path, args: &[&str]) -> String {
    let done = lifeboat(folder, args).output().unwrap();
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[track_caller]
fn shell(folder: &Path, command: &str) {
    assert!(Command::new("sh").args(["-c", command]).current_dir(folder).status().unwrap().success(), "{command}");
}
