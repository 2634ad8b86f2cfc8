//! `lifeboat init` and `lifeboat check`, as people run them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::server::{Options, Server};

fn lifeboat(folder: &Path, args: &[&str]) -> Output {
    Command::new(assert_cmd::cargo::cargo_bin!("lifeboat"))
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .env_remove("LIFEBOAT_CONFIG")
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

#[track_caller]
fn expect(output: &Output, code: i32) -> (String, String) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "\n--- stdout\n{out}\n--- stderr\n{err}");
    assert!(!err.contains("panicked"), "{err}");
    (out.into_owned(), err.into_owned())
}

fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A policy with one logical and one physical job, and the shipped drills.
fn configure(folder: &Path, url: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    write(folder, "lifeboat.toml", "[stores.primary]\nkind = \"file\"\npath = \"store\"\n");
    let policy = std::fs::read_to_string(root.join("policies/orders.toml")).unwrap();
    write(folder, "policies/orders.toml", &policy.replace("postgresql://lifeboat@/orders?host=/run/postgresql", url));
    for name in ["restore-latest", "restore-logical"] {
        let drill = std::fs::read_to_string(root.join(format!("drills/{name}.toml"))).unwrap();
        write(folder, &format!("drills/{name}.toml"), &drill);
    }
}

fn tried<'a>(document: &'a Value, area: &str, subject: &str) -> &'a Value {
    let all = document["tried"].as_array().unwrap();
    let found = all.iter().find(|one| one["area"] == area && one["subject"].as_str().unwrap().contains(subject));
    found.unwrap_or_else(|| panic!("{area} {subject} was not tried: {document:#}"))
}

#[test]
fn offline_check_says_what_is_there_and_tries_nothing() {
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path(), "postgresql://nobody@/nothing?host=/nowhere");
    let (out, err) = expect(&lifeboat(folder.path(), &["check", "--offline"]), 0);
    for part in ["1 policy, 2 drills, 1 store", "orders/nightly: a base backup", "orders/dump: a dump", "1 ok, 0 wrong"]
    {
        assert!(out.contains(part), "{part} is not in {out}");
    }
    assert!(err.is_empty(), "{err}");
    let (out, _) = expect(&lifeboat(folder.path(), &["check", "--offline", "--output", "json"]), 0);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&document["schema"], &document["valid"]), (&"lifeboat.check/1".into(), &true.into()));
    assert_eq!(document["jobs"].as_array().unwrap().len(), 2);
    assert!(!folder.path().join("store").exists() && !folder.path().join("lifeboat.db").exists());
}

#[test]
fn a_wrong_configuration_is_exit_2_with_every_place() {
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path(), "postgresql://nobody:hunter2@/nothing?host=/nowhere");
    let drill = folder.path().join("drills/restore-latest.toml");
    let text = std::fs::read_to_string(&drill).unwrap();
    std::fs::write(&drill, text.replace("isolation", "izolation").replace("\"manifest\"", "\"manifst\"")).unwrap();
    let (out, err) = expect(&lifeboat(folder.path(), &["check"]), 2);
    assert!(out.is_empty(), "{out}");
    for part in [
        "error: 3 things are wrong",
        "policies/orders.toml:10:7",
        "holds a password",
        "drills/restore-latest.toml:10:1",
        "did you mean `isolation`?",
        "did you mean \"manifest\"?",
    ] {
        assert!(err.contains(part), "{part} is not in {err}");
    }
    assert!(!err.contains("hunter2") && !err.contains('\u{1b}'), "{err}");

    let (out, err) = expect(&lifeboat(folder.path(), &["check", "--output", "json"]), 2);
    let document: Value = serde_json::from_str(&out).unwrap();
    let errors = document["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 3, "{document:#}");
    assert_eq!((&errors[0]["line"], &errors[0]["column"]), (&10.into(), &7.into()), "{document:#}");
    assert!(errors.iter().all(|error| error["hint"].is_string() && error["text"].is_string()), "{document:#}");
    assert!(!out.contains("hunter2") && !err.contains("hunter2"));
}

#[test]
fn no_configuration_is_exit_2_and_schemas_need_none() {
    let folder = tempfile::tempdir().unwrap();
    let (_, err) = expect(&lifeboat(folder.path(), &["check"]), 2);
    assert!(err.contains("lifeboat init"), "{err}");
    for kind in ["config", "policy", "drill"] {
        let (out, _) = expect(&lifeboat(folder.path(), &["check", "--schema", kind]), 0);
        let schema: Value = serde_json::from_str(&out).unwrap();
        assert!(schema["$schema"].as_str().unwrap().contains("json-schema.org"), "{kind}");
        assert_eq!(schema["type"], "object");
    }
    expect(&lifeboat(folder.path(), &["check", "--schema", "report"]), 2);
}

#[test]
fn init_writes_what_loads_and_check_finds_it_good() {
    let server = Server::start();
    server.sql("postgres", "create database \"Orders\"");
    server.sql("Orders", "create table t as select generate_series(1, 1000) as n");
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (out, _) = expect(&lifeboat(folder.path(), &["init", &server.url("Orders")]), 0);
    for part in ["policies/orders.toml", "lifeboat backup orders", "escrow.agekey off this machine"] {
        assert!(out.contains(part), "{part} is not in {out}");
    }
    let mode = |path: &str| std::fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
    for (path, wanted) in
        [("keys", 0o700), ("keys/working.agekey", 0o600), ("keys/escrow.agekey", 0o600), ("keys/signing.pem", 0o600)]
    {
        assert_eq!(mode(path), wanted, "{path}");
    }
    // A machine whose PostgreSQL is older than the newest fixes is told so, rightly.
    let outdated = lifeboat::judge::tools::outdated(&server.programs.version).is_some();
    let code = if outdated { 3 } else { 0 };
    let (out, _) = expect(&lifeboat(folder.path(), &["check", "--output", "json"]), code);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(document["warnings"], serde_json::json!([]), "{document:#}");
    let programs = if outdated { "wrong" } else { "ok" };
    // What is there is told first, and then what is wrong with it.
    let told: Vec<&Value> =
        document["tried"].as_array().unwrap().iter().filter(|one| one["area"] == "programs").collect();
    assert_eq!(told.last().unwrap()["result"], programs, "{document:#}");
    assert_eq!(told.len(), if outdated { 2 } else { 1 }, "{document:#}");
    for (area, subject) in [
        ("source", "orders"),
        ("rights", "dump of Orders"),
        ("rights", "base backup"),
        ("catalog", "sqlite"),
        ("store", "primary"),
        ("key", "signing"),
        ("key", "trusted signers"),
        ("key", "identities"),
        ("key", "recipients"),
        ("scratch", "folder"),
        ("scratch", "room"),
    ] {
        assert_eq!(tried(&document, area, subject)["result"], "ok", "{document:#}");
    }
    let left = walkdir::WalkDir::new(folder.path().join("store")).into_iter().flatten();
    assert_eq!(left.filter(|entry| entry.file_type().is_file()).count(), 0, "the probe is gone");
    for job in document["jobs"].as_array().unwrap() {
        assert!(job["bytes"].as_u64().unwrap() > 1_000_000, "{job}");
        assert!(job["parts"].as_u64().unwrap() >= 1, "{job}");
    }

    // A second time: nothing is replaced, and all that is there is named.
    let before = std::fs::read(folder.path().join("keys/working.agekey")).unwrap();
    let (_, err) = expect(&lifeboat(folder.path(), &["init", &server.url("Orders")]), 2);
    for part in ["lifeboat.toml", "policies/orders.toml", "keys/signing.pem", "nothing was written", "hint"] {
        assert!(err.contains(part), "{part} is not in {err}");
    }
    assert_eq!(std::fs::read(folder.path().join("keys/working.agekey")).unwrap(), before);
}

#[test]
fn init_refuses_what_it_cannot_use() {
    let folder = tempfile::tempdir().unwrap();
    for (args, part) in [
        (vec!["init", "postgresql://a:hunter2@h/d"], "passfile"),
        (vec!["init", "mysql://a@h/d"], "postgresql://"),
        (vec!["init", "postgresql://a@h/d", "--policy", "Not A Name"], "policy name"),
        (vec!["init", "postgresql://a@h/___"], "--policy"),
        (vec!["init", "postgresql://a@h/d", "--url", "postgresql://a@h/d"], "cannot be used with"),
        (vec!["init", "postgresql://a@h/d", "--store", ""], "store"),
    ] {
        let (_, err) = expect(&lifeboat(folder.path(), &args), 2);
        assert!(err.contains(part) && !err.contains("hunter2"), "{args:?}: {err}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{args:?} wrote something");
    }
    std::fs::write(folder.path().join(".gitignore"), "mine\n").unwrap();
    let (_, err) = expect(&lifeboat(folder.path(), &["init", "postgresql://a@h/d"]), 2);
    assert!(err.contains(".gitignore"), "{err}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn check_finds_what_a_backup_would_stumble_over() {
    let options = Options {
        checksums: false,
        conf: "wal_level = minimal\nmax_wal_senders = 0\n".to_owned(),
        ..Options::default()
    };
    let server = Server::start_with(options);
    server.sql("postgres", "create role weak login");
    server
        .sql("postgres", "create table secret (n int); create table visible (n int); grant select on visible to weak");
    server.sql("postgres", "alter table visible enable row level security");
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path(), &server.url("postgres").replace("postgres@", "weak@"));
    let config = format!(
        "[stores.primary]\nkind = \"file\"\npath = \"store\"\n[keys]\nsigning = \"no.pem\"\nidentities = [\"no.agekey\"]\n\
         [scratch]\nuser = \"no-such-user\"\n[scratch.servers.same]\nurl = \"{}\"\n",
        server.url("postgres")
    );
    write(folder.path(), "lifeboat.toml", &config);
    let (out, _) = expect(&lifeboat(folder.path(), &["check", "--output", "json"]), 3);
    let document: Value = serde_json::from_str(&out).unwrap();
    for (area, subject, part) in [
        ("rights", "dump of postgres", "may not read public.secret"),
        ("rights", "content of postgres", "drills of this backup will be unproven"),
        ("rights", "base backup", "REPLICATION"),
        ("source", "pages", "checksums are off"),
        ("scratch server", "same", "policy orders protects"),
        ("key", "signing", "no.pem"),
        ("key", "identities", "no.agekey"),
    ] {
        let one = tried(&document, area, subject);
        assert!(one["detail"].as_str().unwrap().contains(part), "{part}: {one:#}");
        assert_eq!(one["result"], "wrong", "{one:#}");
        assert!(one["hint"].is_string(), "{one:#}");
    }
    assert_eq!(tried(&document, "key", "trusted signers")["result"], "not_tried");

    server.sql("postgres", "grant select on secret to weak; alter role weak replication");
    let (out, _) = expect(&lifeboat(folder.path(), &["check", "--output", "json"]), 3);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert!(tried(&document, "rights", "dump of")["detail"].as_str().unwrap().contains("hides rows of public.visible"));
    assert!(tried(&document, "rights", "base backup")["detail"].as_str().unwrap().contains("wal_level is minimal"));
}

#[test]
fn a_server_that_cannot_be_reached_is_a_finding_and_what_follows_is_not_tried() {
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path(), "postgresql://nobody@/nothing?host=/nowhere");
    let (out, _) = expect(&lifeboat(folder.path(), &["check"]), 3);
    for part in ["wrong", "/nowhere", "hint:", "not tried", "What each backup would do"] {
        assert!(out.contains(part), "{part} is not in {out}");
    }
}
