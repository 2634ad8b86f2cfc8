//! `lifeboat restore`: for somebody who has lost everything but a store and a key.

use std::process::Command;

use crate::support::data::{self, DATABASE};
use crate::support::home::{Home, POLICY, ran};
use crate::support::server::Server;

const QUESTION: &str = "select sum(total), count(*) from shop.orders";

#[test]
fn a_store_and_a_key_bring_the_database_back() {
    let mut server = Server::start();
    data::fill(&server);
    let expected = server.sql(DATABASE, QUESTION);
    let home = Home::new(&server, DATABASE);
    home.run(&["backup", POLICY]).expect(0);
    server.destroy();

    // Another machine: no configuration, no catalog, no cache; the store, and the escrow key.
    let elsewhere = tempfile::Builder::new().prefix("lb-elsewhere-").tempdir().unwrap();
    std::fs::set_permissions(elsewhere.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let store = elsewhere.path().join("store");
    std::fs::rename(home.store(), &store).unwrap();
    let key = elsewhere.path().join("key");
    std::fs::rename(home.path().join("keys/escrow.agekey"), &key).unwrap();
    drop(home);
    let lifeboat = |args: &[&str]| {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("lifeboat"));
        command.arg("restore").args(["--store", store.to_str().unwrap(), "--identity", key.to_str().unwrap()]);
        command.args(args).current_dir(elsewhere.path()).env_remove("LIFEBOAT_CONFIG");
        ran(&mut command)
    };

    let target = elsewhere.path().join("data");
    let restored = lifeboat(&["--to", target.to_str().unwrap()]).expect(0);
    assert!(restored.stdout.contains("pg_ctl"), "the commands to start it: {restored:?}");
    let mut back = Server::adopt(&server, target.clone());
    back.launch();
    assert_eq!(back.sql(DATABASE, QUESTION), expected);

    let fresh = Server::start();
    let url = fresh.url("brought_back");
    lifeboat(&["--to-database", &url]).expect(0);
    assert_eq!(fresh.sql("brought_back", QUESTION), expected);

    // Nothing is ever overwritten.
    for again in [["--to", target.to_str().unwrap()], ["--to-database", &url]] {
        let refused = lifeboat(&again).expect(2);
        assert!(refused.stderr.contains("hint:"), "{refused:?}");
    }
    let nowhere = lifeboat(&["--to", "/nope/x"]).expect(2);
    assert!(nowhere.stderr.contains("hint:"), "{nowhere:?}");
    assert!(!target.join("RESTORE-INCOMPLETE.txt").exists());
    assert_eq!(fresh.sql("brought_back", QUESTION), expected);
    assert_eq!(back.sql(DATABASE, QUESTION), expected);
}

#[test]
fn a_damaged_artifact_leaves_nothing_that_could_be_started() {
    let server = Server::start();
    data::fill(&server);
    let home = Home::new(&server, DATABASE);
    home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    let part = home.newest_backup().join("base/00001.zst.age");
    let mut bytes = std::fs::read(&part).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    let target = home.path().join("target");
    let refused = home.run(&["restore", POLICY, "--to", target.to_str().unwrap()]).expect(3);
    assert!(refused.stderr.contains("base/00001.zst.age"), "{refused:?}");
    assert!(!target.join("global/pg_control").exists(), "it must not look like a data folder");
}

#[test]
fn the_catalog_is_made_again_from_the_store_alone() {
    let server = Server::start();
    data::fill(&server);
    let home = Home::new(&server, DATABASE);
    home.run(&["backup", POLICY]).expect(0);
    let before = home.run(&["status", POLICY, "--output", "json"]).json();
    std::fs::remove_file(home.path().join("lifeboat.db")).unwrap();
    for side in ["lifeboat.db-wal", "lifeboat.db-shm"] {
        let _ = std::fs::remove_file(home.path().join(side));
    }
    home.run(&["catalog", "rebuild"]).expect(0);
    let after = home.run(&["status", POLICY, "--output", "json"]).json();
    let backups = |status: &serde_json::Value| {
        let text = status.to_string();
        let mut ids: Vec<String> = text
            .split('"')
            .filter(|word| word.parse::<lifeboat::domain::ids::BackupId>().is_ok())
            .map(str::to_owned)
            .collect();
        ids.sort();
        ids.dedup();
        ids
    };
    assert!(!backups(&before).is_empty());
    assert_eq!(backups(&before), backups(&after));
    home.run(&["drill", POLICY]).expect(0);
}

#[test]
fn a_store_that_is_not_mounted_is_not_made_anew() {
    let server = Server::start();
    data::fill(&server);
    let home = Home::new(&server, DATABASE);
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    let away = home.path().join("away");
    std::fs::rename(home.store(), &away).unwrap();
    let target = home.path().join("target");
    let commands: [&[&str]; 5] = [
        &["backup", POLICY, "--job", "logical"],
        &["restore", POLICY, "--to", target.to_str().unwrap()],
        &["drill", POLICY, "--drill", "restore-logical"],
        &["catalog", "rebuild"],
        &["runbook", POLICY],
    ];
    for command in commands {
        let ran = home.run(command);
        assert!(command[0] == "runbook" || ran.code != 0, "{ran:?}");
        assert!(!home.store().exists(), "{command:?} made it: {ran:?}");
    }
    let refused = home.run(&["backup", POLICY, "--job", "logical"]).expect(1);
    assert!(refused.stderr.contains("is it mounted?"), "{refused:?}");
    std::fs::rename(&away, home.store()).unwrap();
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
}
