//! Drift: every difference that can be made here is made, seen, mended, and gone again.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::home::{Home, POLICY, Ran};
use crate::support::server::{Options, Server};

/// What `drift` says now: codes, and the document.
fn drift(home: &Home, args: &[&str]) -> (BTreeSet<String>, Value) {
    let mut all = vec!["drift", "--output", "json"];
    all.extend(args);
    let ran: Ran = home.run(&all);
    let document = ran.json();
    let found = document["drift"].as_array().unwrap().clone();
    let codes: BTreeSet<String> = found.iter().map(|one| one["code"].as_str().unwrap().to_owned()).collect();
    let known = found.iter().any(|one| one["severity"] != "unproven");
    let code = if known { 3 } else { 4 * i32::from(!found.is_empty()) };
    assert_eq!(
        (i64::from(ran.code), document["exit_code"].as_i64()),
        (i64::from(code), Some(i64::from(code))),
        "{ran:?}"
    );
    for one in &found {
        let said = |key: &str| one[key].as_str().is_some_and(|text| !text.is_empty());
        assert!(["object", "declared", "observed", "mend"].iter().all(|key| said(key)), "{one}");
    }
    (codes, document)
}

fn set(codes: &[&str]) -> BTreeSet<String> {
    codes.iter().map(|code| (*code).to_owned()).collect()
}

/// `fsync` is on here: all that is told must be true, and nothing must be told of a good home.
fn server() -> Server {
    Server::start_with(Options { conf: "fsync = on\n".to_owned(), ..Options::default() })
}

#[test]
fn a_fresh_home_tells_only_what_is_true_and_everything_vanishes_when_it_is_mended() {
    let mut server = server();
    server.sql("postgres", "create database orders");
    server
        .sql("orders", "create table orders as select g as id, repeat('x', 50) as text from generate_series(1, 500) g");
    let home = Home::new(&server, "orders");
    assert_eq!(drift(&home, &[]).0, set(&["backup_missing", "proof_missing"]));
    for job in ["logical", "physical"] {
        home.run(&["backup", POLICY, "--job", job]).expect(0);
    }
    // The two drills of the policy have not run; nothing else is wrong.
    let (codes, document) = drift(&home, &[POLICY]);
    assert_eq!(codes, set(&["proof_missing"]), "{document:#}");
    assert_eq!(document["drift"].as_array().unwrap().len(), 2);
    let fine = codes;
    let plus = |code: &str| -> BTreeSet<String> { fine.iter().cloned().chain([code.to_owned()]).collect() };

    // A drill that was run is a proof, and feeds the ledger: all of the backup was read.
    home.run(&["drill", POLICY, "--drill", "restore-latest"]).expect(0);
    let (_, document) = drift(&home, &[]);
    assert_eq!(document["drift"].as_array().unwrap().len(), 1, "{document:#}");
    let status = home.run(&["status", POLICY]);
    assert!(status.stdout.contains("backups read back:"), "{status:?}");

    // A byte of an object.
    let part = home.newest_backup().join("base/00000.zst.age");
    let good = std::fs::read(&part).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 4;
    std::fs::write(&part, bad).unwrap();
    assert_eq!(drift(&home, &[]).0, fine, "nobody has read it yet");
    let found = home.run(&["verify", "--budget", "100%"]).expect(3);
    assert!(found.stdout.contains("base/00000.zst.age"), "{found:?}");
    let (codes, document) = drift(&home, &[]);
    assert_eq!(codes, plus("read_back_wrong"));
    assert!(document.to_string().contains("part_hash"), "{document:#}");
    std::fs::write(&part, &good).unwrap();
    assert_eq!(drift(&home, &[]).0, plus("read_back_wrong"), "until it is read right again");
    home.run(&["verify", "--budget", "100%"]).expect(0);
    assert_eq!(drift(&home, &[]).0, fine);

    // Signatures and their keys.
    let signature = home.newest_backup().join("manifest.json.sig");
    let signed = std::fs::read(&signature).unwrap();
    std::fs::remove_file(&signature).unwrap();
    assert_eq!(drift(&home, &[]).0, plus("signature_missing"));
    std::fs::write(&signature, &signed).unwrap();
    let key = home.path().join("keys/signing.pub.pem");
    let trusted = std::fs::read(&key).unwrap();
    let (_, stranger) = lifeboat::seal::generate_signing_key().unwrap();
    std::fs::write(&key, stranger).unwrap();
    assert_eq!(drift(&home, &[]).0, plus("signer_untrusted"));
    std::fs::write(&key, trusted).unwrap();
    let line = |text: &str| text.lines().find(|line| line.starts_with("trusted_signers")).unwrap().to_owned();
    let before = line(&std::fs::read_to_string(home.path().join("lifeboat.toml")).unwrap());
    home.edit_config(|text| text.replace(&before, "trusted_signers = []"));
    assert_eq!(drift(&home, &[]).0, plus("signers_undeclared"));
    home.edit_config(|text| text.replace("trusted_signers = []", &before));
    assert_eq!(drift(&home, &[]).0, fine);

    // Another recipient is declared than the newest backups have.
    let (_, recipient) = lifeboat::seal::generate_identity();
    home.edit_policy(|text| text.replace("recipients = [", &format!("recipients = [ \"{recipient}\",")));
    assert_eq!(drift(&home, &[]).0, plus("recipients_differ"));
    home.edit_policy(|text| text.replace(&format!(" \"{recipient}\","), ""));

    // What was never finished; a backup that is gone; a store that is gone.
    let orphan = home.store().join("orders/20260101T000000Z-0000000a/base");
    std::fs::create_dir_all(&orphan).unwrap();
    std::fs::write(orphan.join("00000.zst.age"), "x").unwrap();
    assert_eq!(drift(&home, &[]).0, plus("orphans"));
    std::fs::remove_dir_all(orphan.parent().unwrap()).unwrap();
    let (newest, aside) = (home.newest_backup(), home.path().join("aside"));
    std::fs::rename(&newest, &aside).unwrap();
    assert!(drift(&home, &[]).0.contains("artifact_missing"));
    std::fs::rename(&aside, &newest).unwrap();
    std::fs::rename(home.store(), &aside).unwrap();
    assert_eq!(drift(&home, &[]).0, plus("store_missing"));
    std::fs::write(home.store(), "no folder").unwrap();
    let (codes, document) = drift(&home, &[]);
    assert_eq!(codes, plus("store_unreachable"), "{document:#}");
    std::fs::remove_file(home.store()).unwrap();
    std::fs::rename(&aside, home.store()).unwrap();
    assert_eq!(drift(&home, &[]).0, fine);

    // The promises: what would be lost, and how old a proof may be.
    for (from, to, code) in [
        ("rpo = \"24h\"", "rpo = \"1ms\"", "rpo_exposed"),
        ("proof_max_age = \"8d\"", "proof_max_age = \"1ms\"", "proof_stale"),
        ("[encryption]", "[verify]\nwithin = \"1ms\"\n[encryption]", "read_back_overdue"),
        ("[encryption]", "[wal]\nstream = true\n[encryption]", "receiver_missing"),
        ("[encryption]", "[wal]\nspool = { dir = \"spool\", max = \"1GiB\" }\n[encryption]", "archiving_off"),
    ] {
        home.edit_policy(|text| text.replace(from, to));
        assert_eq!(drift(&home, &[]).0, plus(code));
        home.edit_policy(|text| text.replace(to, from));
    }

    // The source: its settings, a database that nobody covers, and that it does not answer.
    let set_to = |setting: &str| {
        server.sql("postgres", &format!("alter system set {setting}"));
        server.sql("postgres", "select pg_reload_conf()");
    };
    for (off, on, code) in [
        ("fsync = off", "fsync = on", "fsync_off"),
        ("full_page_writes = off", "full_page_writes = on", "full_page_writes_off"),
    ] {
        set_to(off);
        eventually(&home, &plus(code));
        set_to(on);
        eventually(&home, &fine);
    }
    server.sql("postgres", "create database forgotten");
    assert_eq!(drift(&home, &[]).0, fine, "the physical backup holds every database");
    home.edit_policy(|text| {
        let (from, to) = (text.find("[[backup]]\nname = \"physical\"").unwrap(), text.find("[encryption]").unwrap());
        format!("{}{}", &text[..from], &text[to..])
    });
    assert!(drift(&home, &[]).0.contains("database_uncovered"));
    server.sql("postgres", "drop database forgotten");
    assert!(!drift(&home, &[]).0.contains("database_uncovered"));
    server.kill();
    let (codes, _) = drift(&home, &[]);
    assert!(codes.contains("source_unreachable"), "{codes:?}");
    let table = home.run(&["drift"]).expect(4);
    assert!(table.stdout.contains("unproven: no drift was seen"), "{table:?}");
}

/// A reload is taken in a moment later.
fn eventually(home: &Home, wanted: &BTreeSet<String>) {
    for _ in 0..100 {
        if drift(home, &[]).0 == *wanted {
            return;
        }
    }
    assert_eq!(drift(home, &[]).0, *wanted);
}

#[test]
fn an_archive_that_says_it_works_is_held_against_the_store() {
    let server = Server::start_with(Options {
        conf: "fsync = on\narchive_mode = on\narchive_command = 'true # wal push orders %p'\n".to_owned(),
        ..Options::default()
    });
    server.sql("postgres", "create database orders");
    let home = Home::new(&server, "orders");
    home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    server.sql("postgres", "select pg_switch_wal(); checkpoint");
    for _ in 0..500 {
        if server.sql("postgres", "select archived_count > 0 from pg_stat_archiver") == "t" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(drift(&home, &[]).0.contains("archived_not_stored"));
    server.sql("postgres", "alter system set archive_command = 'false # wal push orders %p'");
    server.sql("postgres", "select pg_reload_conf()");
    server.sql("postgres", "create table t (a int); select pg_switch_wal()");
    for _ in 0..500 {
        if drift(&home, &[]).0.contains("archive_fails") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(drift(&home, &[]).0.contains("archive_fails"));
    // A slot that nobody uses holds little: no drift yet.
    server.sql("postgres", "select pg_create_physical_replication_slot('idle', true)");
    assert!(!drift(&home, &[]).0.contains("slot_holds_log"));
}
