//! `pg_dump` as a producer: what it says and how it ends.

use std::process::Command;
use std::time::Duration;

use lifeboat::backup::logical::pg_dump;
use lifeboat::backup::producer::{self, Ended};
use lifeboat::domain::check::Broke;

use crate::support::server::{Server, command};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn collect(command: Command) -> Result<Ended<Vec<u8>>, Broke> {
    runtime().block_on(producer::run(command, Vec::new(), |all: &mut Vec<u8>, bytes: &[u8]| {
        all.extend_from_slice(bytes);
        Ok(())
    }))
}

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// Holds a snapshot open with psql, as the probe does, and gives its name.
fn dump(server: &Server, database: &str, role: &str) -> Result<Ended<Vec<u8>>, Broke> {
    let endpoint = server.endpoint(database).with_user(role);
    runtime().block_on(async {
        let client = endpoint.connect().await.unwrap();
        client.batch_execute("begin isolation level repeatable read read only").await.unwrap();
        let exported: String = client.query_one("select pg_export_snapshot()", &[]).await.unwrap().get(0);
        let command = pg_dump(&server.programs, &endpoint, &exported);
        // Rows that come after the snapshot are not in the dump.
        if role == "postgres" {
            server.sql(database, "insert into t values (-1)");
        }
        producer::run(command, Vec::new(), |all: &mut Vec<u8>, bytes: &[u8]| {
            all.extend_from_slice(bytes);
            Ok(())
        })
        .await
    })
}

#[test]
fn databases_with_odd_names_are_dumped_under_the_snapshot() {
    let server = Server::start();
    for name in ["plain", "a=b", "dbname='x' host=evil", "quote\"d 'ü' \\ ☃", " lead"] {
        server.sql("postgres", &format!("create database \"{}\"", name.replace('"', "\"\"")));
        let endpoint = server.endpoint(name);
        runtime().block_on(async {
            let client = endpoint.connect().await.unwrap();
            client.batch_execute("create table t as select n from generate_series(1, 1000) n").await.unwrap();
            let writer = endpoint.connect().await.unwrap();
            client.batch_execute("begin isolation level repeatable read read only").await.unwrap();
            let exported: String = client.query_one("select pg_export_snapshot()", &[]).await.unwrap().get(0);
            writer.batch_execute("insert into t values (-77)").await.unwrap();
            let command = pg_dump(&server.programs, &endpoint, &exported);
            let shown = format!("{command:?}");
            let argv = shown.rsplit("pg_dump\"").next().unwrap();
            assert!(!argv.contains(name), "the name is in the environment, not in argv: {argv}");
            let ended = producer::run(command, Vec::new(), |all: &mut Vec<u8>, bytes: &[u8]| {
                all.extend_from_slice(bytes);
                Ok(())
            })
            .await
            .unwrap();
            assert!(ended.state.starts_with(b"PGDMP"), "{name}");
            let restored = listing(&server, &ended.state);
            assert!(restored.contains("\n1000\n") && !restored.contains("\n-77\n"), "{name}");
        });
    }
}

/// What pg_restore makes of a dump, as SQL.
fn listing(server: &Server, dump: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump");
    std::fs::write(&file, dump).unwrap();
    let mut command = Command::new(server.programs.path("pg_restore"));
    let ran = command.args(["--file=-"]).arg(&file).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

#[test]
fn row_security_and_missing_rights_are_errors_and_not_fewer_rows() {
    let server = Server::start();
    server.sql("postgres", "create table t as select n from generate_series(1, 10) n");
    server.sql("postgres", "create role reader login; grant pg_read_all_data to reader");
    server.sql("postgres", "alter table t enable row level security; create policy few on t using (n < 3)");
    let broke = dump(&server, "postgres", "reader").unwrap_err();
    assert!(broke.error.contains("pg_dump failed") && broke.error.contains("row-level security"), "{broke}");
    assert!(broke.hint.unwrap().contains("BYPASSRLS"));
    server.sql("postgres", "alter role reader bypassrls");
    assert!(dump(&server, "postgres", "reader").is_ok());
    server.sql("postgres", "revoke pg_read_all_data from reader");
    let broke = dump(&server, "postgres", "reader").unwrap_err();
    assert!(broke.error.contains("permission denied"), "{broke}");
    assert!(broke.hint.unwrap().contains("pg_read_all_data"));
}

#[test]
fn kill_9_of_pg_dump_is_an_error_and_not_a_short_dump() {
    let server = Server::start();
    server.sql("postgres", "create table big as select n, repeat(md5(n::text), 8) x from generate_series(1, 300000) n");
    let endpoint = server.endpoint("postgres");
    let broke = runtime().block_on(async {
        let client = endpoint.connect().await.unwrap();
        client.batch_execute("begin isolation level repeatable read read only").await.unwrap();
        let exported: String = client.query_one("select pg_export_snapshot()", &[]).await.unwrap().get(0);
        let text = format!("--snapshot={exported}");
        let socket = server.socket_dir.display().to_string();
        let command = pg_dump(&server.programs, &endpoint, &exported);
        let mut killed = false;
        producer::run(command, 0usize, move |all: &mut usize, bytes: &[u8]| {
            *all += bytes.len();
            if *all > 4 << 20 && !killed {
                killed = kill_dump_of(&text, &socket);
            }
            Ok(())
        })
        .await
        .unwrap_err()
    });
    assert!(broke.error.contains("pg_dump was killed by signal 9"), "{broke}");
}

/// The dump with this snapshot, of the server with this socket: snapshots of other servers have the same names.
fn kill_dump_of(text: &str, socket: &str) -> bool {
    let Some(pid) = std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let read =
            |name: &str| Some(String::from_utf8_lossy(&std::fs::read(entry.path().join(name)).ok()?).into_owned());
        (read("cmdline")?.contains(text) && read("environ")?.contains(socket)).then_some(pid)
    }) else {
        return false;
    };
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).is_ok()
}

#[test]
fn only_exit_0_counts() {
    let ended = collect(sh("printf abc; echo warning >&2")).unwrap();
    assert_eq!((ended.state.as_slice(), ended.words.trim()), (b"abc".as_slice(), "warning"));
    let broke = collect(sh("printf abc; echo 'error: no' >&2; exit 3")).unwrap_err();
    assert!(broke.error.contains("exit code 3") && broke.error.contains("error: no"), "{broke}");
    let broke = collect(sh("printf abc; kill -TERM $$")).unwrap_err();
    assert!(broke.error.contains("signal 15"), "{broke}");
    let broke = collect(Command::new("/nowhere/pg_dump")).unwrap_err();
    assert!(broke.error.contains("pg_dump could not be started"), "{broke}");
}

#[test]
fn a_program_that_talks_without_end_is_cut_and_does_not_hang() {
    let script = "i=0; while [ $i -lt 20000 ]; do echo 'a line of complaint, again and again' >&2; i=$((i+1)); done; echo last >&2; exit 1";
    let broke = collect(sh(script)).unwrap_err();
    assert!(broke.error.contains("last") && broke.error.len() < 1000, "{} bytes", broke.error.len());
}

#[test]
fn a_sink_that_fails_ends_the_program() {
    let began = std::time::Instant::now();
    let broke = runtime()
        .block_on(producer::run(sh("yes; sleep 60"), (), |(): &mut (), _: &[u8]| Err(Broke::new("the store is full"))))
        .unwrap_err();
    assert_eq!(broke.error, "the store is full");
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn children_of_the_program_go_with_it() {
    let mark = format!("7{}", std::process::id());
    let running = || {
        let ran =
            command(std::path::Path::new("/usr/bin/pgrep")).args(["-f", &format!("sleep {mark}")]).output().unwrap();
        ran.status.success()
    };
    let script = format!("sleep {mark} & sleep {mark}");
    runtime().block_on(async {
        let work = producer::run(sh(&script), (), |(): &mut (), _: &[u8]| Ok(()));
        tokio::time::timeout(Duration::from_millis(500), work).await.expect_err("it sleeps");
    });
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while running() {
        assert!(std::time::Instant::now() < deadline, "a child still runs");
        std::thread::sleep(Duration::from_millis(20));
    }
}
