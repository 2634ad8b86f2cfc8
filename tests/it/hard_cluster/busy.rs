//! Sources that go on working while they are backed up.

use std::process::{Child, Stdio};
use std::time::Duration;

use super::*;
use crate::support::server::{Server, command};

/// Runs a psql of its own against the server.
fn beside(server: &Server, database: &str, script: &str) -> Child {
    command(&server.programs.path("psql"))
        .args(["-X", "-q", "-U", "postgres", "-h"])
        .arg(&server.socket_dir)
        .args(["-d", database, "-c", script])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn writers_do_not_turn_a_good_backup_red() {
    let server = Server::start();
    server.sql("postgres", "create database orders");
    let pgbench = server.programs.path("pgbench");
    if !pgbench.is_file() {
        eprintln!("SKIPPED: pgbench is not installed here");
        return;
    }
    let socket = server.socket_dir.display().to_string();
    let bench = |args: &[&str]| {
        let mut bench = command(&pgbench);
        bench.args(["-U", "postgres", "-h", &socket]).args(args).arg("orders");
        bench.stdout(Stdio::null()).stderr(Stdio::null());
        bench
    };
    assert!(bench(&["-i", "-s", "2", "-q"]).status().unwrap().success());
    let home = Home::new(&server, "orders");
    let mut writers = bench(&["-c", "2", "-T", "60"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    home.run(&["backup", POLICY]).expect(0);
    writers.kill().unwrap();
    writers.wait().unwrap();
    let content = check(&proven(&home, LOGICAL), "content")["looked_at"].to_string();
    assert!(content.contains("\"count\":4"), "all four tables: {content}");
    let transcript = proven(&home, PHYSICAL);
    let moved = unchecked(&transcript, "content", false);
    assert!(moved.iter().all(|one| one.starts_with("table public.pgbench_")), "{moved:?}");
    assert!(unchecked(&transcript, "content", true).is_empty());
    // What was written meanwhile excuses nothing else.
    let found = broken(
        &home,
        "physical",
        &[(None, "alter table pgbench_accounts drop constraint pgbench_accounts_pkey")],
        &["completeness"],
    );
    assert_named(&found, &["pgbench_accounts_pkey"]);
}

#[test]
fn settings_and_sequences_that_are_altered_while_a_physical_backup_is_taken_are_unchecked() {
    let server = Server::start();
    server.sql("postgres", "create database orders");
    // Enough to read that there is time to alter things; zeros, so that it costs little.
    server.sql(
        "orders",
        "create table t as select g a, repeat('x', 500) b from generate_series(1, 400000) g;
         create sequence back; select setval('back', 500); create sequence still; select setval('still', 70);
         create table ids (id serial primary key); insert into ids select from generate_series(1, 90); alter database orders set work_mem = '5MB'",
    );
    let home = Home::new(&server, "orders");
    // The server says of a stream when it has begun.
    home.edit_policy(|text| text.replace("method = \"physical\"\n", "method = \"physical\"\nread = \"stream\"\n"));
    let mut running = home.command(&["backup", POLICY, "--job", "physical"]);
    let mut running = running.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It has looked, once the base backup streams.
    let streams = "select count(*) from pg_stat_progress_basebackup where phase ~ 'streaming'";
    for _ in 0..2000 {
        if server.sql("postgres", streams) != "0" {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut altering = beside(
        &server,
        "orders",
        "alter database orders set work_mem = '6MB'; alter database orders connection limit 9; alter sequence back restart; \
         truncate ids restart identity; alter role all set lock_timeout = '9s'",
    );
    assert!(altering.wait().unwrap().success());
    assert_ne!(server.sql("postgres", streams), "0", "it was all done while the backup was taken");
    assert!(running.wait().unwrap().success());
    let transcript = proven(&home, PHYSICAL);
    for (name, object) in [
        ("settings", "database orders"),
        ("sequences", "sequence public.back in database orders"),
        ("sequences", "sequence public.ids_id_seq in database orders"),
        ("completeness", "attributes of database orders"),
        ("completeness", "setting of all roles lock_timeout"),
    ] {
        let all = unchecked(&transcript, name, false);
        assert!(all.iter().any(|one| one == object), "{name}: {object}: {all:?}");
    }
    // None of that excuses another object.
    let faults = [
        (None, "select setval('still', 60)"),
        (None, "alter database postgres set work_mem = '6MB'"),
        (None, "comment on database orders is 'new'"),
    ];
    let found = broken(&home, "physical", &faults, &["sequences", "settings", "completeness"]);
    assert_named(
        &found,
        &[
            "sequences: sequence public.still",
            "settings: database postgres",
            "completeness: comment on database orders",
        ],
    );
}
