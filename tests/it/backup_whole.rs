//! Whole backups by the real binary: sealed, signed, on record.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::data::{self, DATABASE};
use crate::support::home::{Home, POLICY, ran};
use crate::support::server::{Options, Server, command, unprivileged};

fn manifest(home: &Home) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(home.newest_backup().join("manifest.json")).unwrap()).unwrap()
}

fn shell(folder: &std::path::Path, script: &str) -> String {
    let ran = ran(Command::new("bash").args(["-euo", "pipefail", "-c", script]).current_dir(folder));
    assert_eq!(ran.code, 0, "{script}\n{ran:?}");
    ran.stdout
}

/// A tablespace beside the server's data folder.
fn tablespace(server: &Server, name: &str) {
    let place = server.data_dir.parent().unwrap().join(name);
    std::fs::create_dir(&place).unwrap();
    if let Some((uid, gid)) = unprivileged() {
        std::os::unix::fs::chown(&place, Some(uid), Some(gid)).unwrap();
    }
    server.sql("postgres", &format!("create tablespace {name} location '{}'", place.display()));
}

#[test]
fn a_physical_report_says_what_is_in_the_store() {
    let server = Server::start();
    data::fill(&server);
    let home = Home::new(&server, DATABASE);
    let before = server.sql("postgres", "select extract(epoch from clock_timestamp())");
    let report = home.run(&["backup", POLICY, "--job", "physical", "--output", "json"]).expect(0).json();
    let after = server.sql("postgres", "select extract(epoch from clock_timestamp())");
    let manifest = manifest(&home);
    assert_eq!(report["schema"], "lifeboat.backup/1");
    assert_eq!(report["backup"], manifest["backup"]);
    assert_eq!(report["recovery_point"], manifest["recovery_point"]);
    assert_eq!(report["recovery_point"]["basis"], "end-of-backup");
    assert_eq!(report["bad_pages"], 0);
    let at: jiff::Timestamp = report["recovery_point"]["at"].as_str().unwrap().parse().unwrap();
    let at = at.as_microsecond() as f64 / 1e6;
    assert!(before.parse::<f64>().unwrap() < at && at < after.parse::<f64>().unwrap(), "{before} {at} {after}");
    assert_eq!(report["recovery_point"]["lsn"], manifest["wal"]["end"]);
    let pages = &manifest["pages"];
    assert!(pages["enabled"] == true && pages["verified"].as_u64().unwrap() > 1500, "{pages}");
    assert!(report["digest"]["rows"].as_u64().unwrap() > 25_000, "{report:#}");
    let names: Vec<&str> = manifest["fingerprint"]["databases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&DATABASE) && names.contains(&"postgres"), "all databases are looked at: {names:?}");
    let slots = server.sql("postgres", "select count(*) from pg_replication_slots");
    assert_eq!(slots, "0", "the slot went with its session");
    let table = home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    assert_eq!(table.stdout.lines().count(), 1, "one line: {table:?}");
    assert!(table.stdout.contains("physical") && table.stdout.contains("recovery point"), "{table:?}");
}

#[test]
fn several_databases_with_odd_names_are_one_logical_backup() {
    let server = Server::start();
    data::fill(&server);
    let odd = "a=b 'ü' ☃";
    server.sql("postgres", &format!("create database \"{odd}\""));
    server.sql("postgres", "create database closed allow_connections false");
    let home = Home::new(&server, DATABASE);
    let policy = home.path().join("policies/orders.toml");
    let good = std::fs::read_to_string(&policy).unwrap();
    let with = |databases: &str| {
        let text = good.replace("[source]\n", &format!("[source]\ndatabases = {databases}\n"));
        assert_ne!(text, good);
        std::fs::write(&policy, text).unwrap();
    };
    with("\"all\"");
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    let manifest = manifest(&home);
    let dumps: Vec<&str> = manifest["streams"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|stream| stream["kind"]["dump"]["database"].as_str())
        .collect();
    assert_eq!(dumps.len(), 3, "{dumps:?}");
    assert!(dumps.contains(&odd) && dumps.contains(&DATABASE) && dumps.contains(&"postgres"), "{dumps:?}");
    let at: jiff::Timestamp = manifest["recovery_point"]["at"].as_str().unwrap().parse().unwrap();
    for database in manifest["fingerprint"]["databases"].as_array().unwrap() {
        let taken: jiff::Timestamp = database["snapshot"]["taken_at"].as_str().unwrap().parse().unwrap();
        assert!(at <= taken, "the earliest snapshot counts");
    }
    with("[\"closed\"]");
    let ran = home.run(&["backup", POLICY, "--job", "logical"]).expect(1);
    assert!(ran.stderr.contains("accepts no connections") && ran.stderr.contains("hint"), "{ran:?}");
    with("[\"order\"]");
    let ran = home.run(&["backup", POLICY, "--job", "logical"]).expect(1);
    assert!(ran.stderr.contains("did you mean `orders`"), "{ran:?}");
}

#[test]
fn tablespaces_go_through_public_tools_and_start() {
    let server = Server::start();
    data::fill(&server);
    for name in ["one", "two"] {
        tablespace(&server, name);
        server
            .sql(DATABASE, &format!("create table in_{name} tablespace {name} as select generate_series(1, 20000) n"));
    }
    let home = Home::new(&server, DATABASE);
    home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    let copy = server.data_dir.parent().unwrap().join("copy");
    std::fs::create_dir(&copy).unwrap();
    let key = home.path().join("keys/working.agekey");
    let script = format!(
        r#"for p in base/*.age; do age -d -i {0} "$p"; done | zstd -d | tar -x -C {1} && chmod 0700 {1}"#,
        key.display(),
        copy.display()
    );
    shell(&home.newest_backup(), &script);
    if let Some((uid, gid)) = unprivileged() {
        shell(&copy, &format!("chown -R {uid}:{gid} ."));
    }
    let verified = ran(command(&server.programs.path("pg_verifybackup")).arg(&copy));
    assert_eq!(verified.code, 0, "{verified:?}");
    shell(&copy, "echo 'allow_in_place_tablespaces = on' >> postgresql.conf");
    let mut started = Server::adopt(&server, copy);
    started.launch();
    assert_eq!(started.sql(DATABASE, "select (select count(*) from in_one) + (select count(*) from in_two)"), "40000");
}

#[test]
fn a_damaged_source_is_backed_up_and_is_a_finding() {
    let mut server = Server::start();
    data::fill(&server);
    server.sql("postgres", "checkpoint");
    let path = server.sql(DATABASE, "select pg_relation_filepath('shop.customer')");
    let home = Home::new(&server, DATABASE);
    server.kill();
    shell(
        &server.data_dir,
        &format!("printf '\\377\\001\\377' | dd of={path} bs=1 seek=6000 conv=notrunc status=none"),
    );
    server.launch();
    let ran = home.run(&["backup", POLICY, "--job", "physical", "--output", "json"]).expect(3);
    let report = ran.json();
    assert_eq!(report["bad_pages"], 1, "{report:#}");
    assert_eq!(report["findings"][0]["object"], format!("{path} block 0"));
    assert!(ran.stderr.contains("DAMAGE IN THE SOURCE"), "{ran:?}");
    assert_eq!(manifest(&home)["pages"]["bad_count"], 1, "it is kept");
}

#[test]
fn sources_that_cannot_give_a_base_backup_say_what_to_change() {
    for (conf, word) in [
        ("wal_level = minimal\nmax_wal_senders = 0", "wal_level = replica"),
        ("max_wal_senders = 0", "max_wal_senders = 10"),
    ] {
        let server = Server::start_with(Options { conf: conf.to_owned(), ..Options::default() });
        data::fill(&server);
        let home = Home::new(&server, DATABASE);
        let ran = home.run(&["backup", POLICY, "--job", "physical"]).expect(1);
        assert!(ran.stderr.contains(word), "{ran:?}");
        home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    }
    let server = Server::start();
    data::fill(&server);
    server.sql("postgres", "create role weak login; grant pg_read_all_data to weak");
    let home = Home::for_url(&server.url(DATABASE).replace("postgres@", "weak@"));
    let ran = home.run(&["backup", POLICY, "--job", "logical"]).expect(1);
    assert!(ran.stderr.contains("GRANT SELECT ON LARGE OBJECT"), "no right reads all large objects: {ran:?}");
    server.sql(DATABASE, "select lo_unlink(oid) from pg_largeobject_metadata");
    let ran = home.run(&["backup", POLICY, "--job", "physical"]).expect(1);
    assert!(ran.stderr.contains("ALTER ROLE weak REPLICATION"), "{ran:?}");
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    // pg_read_all_data reads pg_authid too: only a role without it has to do without passwords.
    server.sql("postgres", "create role narrow login");
    server.sql("postgres", "create database own owner narrow");
    let home = Home::for_url(&server.url("own").replace("postgres@", "narrow@"));
    let ran = home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    assert!(ran.stderr.contains("may not read password hashes"), "{ran:?}");
    assert!(manifest(&home)["tools"]["pg_dumpall"].as_str().unwrap().contains("--no-role-passwords"));
}

#[test]
fn a_standby_gives_base_backups_too() {
    let primary = Server::start_with(Options { conf: "hot_standby_feedback = on".to_owned(), ..Options::default() });
    data::fill(&primary);
    let copy = primary.data_dir.parent().unwrap().join("standby");
    std::fs::create_dir(&copy).unwrap();
    std::fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    if let Some((uid, gid)) = unprivileged() {
        std::os::unix::fs::chown(&copy, Some(uid), Some(gid)).unwrap();
    }
    let cloned = ran(command(&primary.programs.path("pg_basebackup"))
        .args(["-R", "-X", "stream", "-c", "fast", "-U", "postgres", "-h"])
        .arg(&primary.socket_dir)
        .arg("-D")
        .arg(&copy));
    assert_eq!(cloned.code, 0, "{cloned:?}");
    let mut standby = Server::adopt(&primary, copy);
    standby.launch();
    assert_eq!(standby.sql("postgres", "select pg_is_in_recovery()"), "t");
    primary.sql(DATABASE, "create table late as select 1 as n");
    let committed = primary.sql("postgres", "select extract(epoch from clock_timestamp())").parse::<f64>().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while standby.try_sql(DATABASE, "select n from late").is_err() {
        assert!(Instant::now() < deadline, "{}", standby.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let home = Home::new(&standby, DATABASE);
    home.run(&["backup", POLICY]).expect(0);
    let manifests: Vec<serde_json::Value> = std::fs::read_dir(home.store().join(POLICY))
        .unwrap()
        .map(|entry| {
            serde_json::from_slice(&std::fs::read(entry.unwrap().path().join("manifest.json")).unwrap()).unwrap()
        })
        .collect();
    assert_eq!(manifests.len(), 2);
    for manifest in manifests {
        assert_eq!(manifest["fingerprint"]["server"]["in_recovery"], true);
        let at: jiff::Timestamp = manifest["recovery_point"]["at"].as_str().unwrap().parse().unwrap();
        // Not a promise that it is after the commit (a standby may end earlier), but never in the future.
        assert!(at.as_microsecond() as f64 / 1e6 < committed + 60.0);
    }
}

#[test]
fn a_swapped_source_is_said_loudly() {
    let (first, second) = (Server::start(), Server::start());
    for server in [&first, &second] {
        data::fill(server);
    }
    let home = Home::new(&first, DATABASE);
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    let policy = home.path().join("policies/orders.toml");
    let text = std::fs::read_to_string(&policy).unwrap();
    std::fs::write(&policy, text.replace(first.socket_dir.to_str().unwrap(), second.socket_dir.to_str().unwrap()))
        .unwrap();
    let ran = home.run(&["backup", POLICY, "--job", "logical", "--output", "json"]).expect(0);
    assert!(ran.json()["warnings"].to_string().contains("ANOTHER SERVER"), "{ran:?}");
    assert!(ran.stderr.contains("ANOTHER SERVER"), "{ran:?}");
}

#[test]
fn sigterm_ends_a_base_backup_and_nothing_is_left() {
    let server = Server::start();
    data::fill(&server);
    server.sql(DATABASE, "create table bulk as select n, repeat(md5(n::text), 8) x from generate_series(1, 500000) n");
    let home = Home::new(&server, DATABASE);
    let mut child = home.command(&["backup", POLICY, "--job", "physical"]).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let parts = || shell(home.path(), "find store -type f 2>/dev/null | wc -l || true").trim().parse::<u32>().unwrap();
    while parts() == 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(parts(), 0, "{}", shell(home.path(), "find store"));
    home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
}
