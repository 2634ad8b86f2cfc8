//! A user who has lost lifeboat gets the data back with `age`, `zstd`, `tar` and PostgreSQL's own programs.

use std::path::Path;
use std::process::Command;

use crate::support::data::{self, DATABASE};
use crate::support::home::{Home, POLICY, ran};
use crate::support::server::{Server, command, unprivileged};

fn shell(folder: &Path, script: &str) -> String {
    let ran = ran(Command::new("bash").args(["-euo", "pipefail", "-c", script]).current_dir(folder));
    assert_eq!(ran.code, 0, "{script}\n{ran:?}");
    ran.stdout
}

fn have(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        eprintln!("SKIPPED: {program} is not installed here");
    }
    found
}

#[test]
fn a_physical_backup_opens_with_public_tools_and_starts() {
    if !(have("age") && have("zstd")) {
        return;
    }
    let server = Server::start();
    data::fill(&server);
    let expected = server.sql(DATABASE, "select sum(total), count(*) from shop.orders");
    let home = Home::new(&server, DATABASE);
    home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    let backup = home.newest_backup();
    let key = home.path().join("keys/escrow.agekey");
    let copy = server.data_dir.parent().unwrap().join("copy");
    std::fs::create_dir(&copy).unwrap();
    let script = format!(
        r#"for p in base/*.age; do age -d -i {} "$p"; done | zstd -d | tar -x -C {} && chmod 0700 {}"#,
        key.display(),
        copy.display(),
        copy.display()
    );
    shell(&backup, &script);
    if let Some((uid, gid)) = unprivileged() {
        shell(&copy, &format!("chown -R {uid}:{gid} ."));
    }
    let verified = ran(command(&server.programs.path("pg_verifybackup")).arg(&copy));
    assert_eq!(verified.code, 0, "{verified:?}");
    let mut started = Server::adopt(&server, copy);
    started.launch();
    assert_eq!(started.sql(DATABASE, "select sum(total), count(*) from shop.orders"), expected);
}

#[test]
fn a_logical_backup_opens_with_public_tools_and_pg_restore_takes_it() {
    if !(have("age") && have("zstd")) {
        return;
    }
    let server = Server::start();
    data::fill(&server);
    let home = Home::new(&server, DATABASE);
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    let backup = home.newest_backup();
    let key = home.path().join("keys/working.agekey");
    let script = format!(
        r#"for p in base/*.age; do age -d -i {0} "$p"; done | zstd -d > dump; age -d -i {0} globals.sql.zst.age | zstd -d > globals.sql"#,
        key.display()
    );
    shell(&backup, &script);
    let target = Server::start();
    let globals = std::fs::read_to_string(backup.join("globals.sql")).unwrap();
    assert!(globals.contains("shop_owner"), "{globals}");
    for role in ["shop_owner", "shop_reader", r#""odd ""role""""#] {
        target.sql("postgres", &format!("create role {role}"));
    }
    target.sql("postgres", &format!("create database {DATABASE}"));
    std::fs::set_permissions(&backup, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let restored = ran(Command::new(target.programs.path("pg_restore"))
        .args(["-h", target.socket_dir.to_str().unwrap(), "-U", "postgres", "-d", DATABASE, "--exit-on-error"])
        .arg(backup.join("dump")));
    assert_eq!(restored.code, 0, "{restored:?}");
    for question in ["select sum(total), count(*) from shop.orders", "select count(*), min(name) from shop.customer"] {
        assert_eq!(target.sql(DATABASE, question), server.sql(DATABASE, question));
    }
}

#[test]
fn what_outsiders_verify_is_what_the_manifest_says() {
    let server = Server::start();
    data::fill(&server);
    let home = Home::new(&server, DATABASE);
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    let backup = home.newest_backup();
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(backup.join("manifest.json")).unwrap()).unwrap();
    let mut parts = 0;
    for stream in manifest["streams"].as_array().unwrap() {
        for part in stream["parts"].as_array().unwrap() {
            let key = part["key"].as_str().unwrap();
            let sum = shell(&backup, &format!("sha256sum {key} | cut -d' ' -f1"));
            assert_eq!(sum.trim(), part["sealed_sha256"].as_str().unwrap(), "{key}");
            parts += 1;
        }
    }
    assert!(parts >= 2, "a dump and the globals");
}
