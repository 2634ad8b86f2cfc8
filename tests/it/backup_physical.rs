//! Base backups of real servers: through `pg_basebackup` and through lifeboat's own replication client.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lifeboat::backup::moved::Moved;
use lifeboat::backup::physical::base::Piece;
use lifeboat::backup::physical::pages::Again;
use lifeboat::backup::physical::pump::{Pump, Pumped};
use lifeboat::backup::physical::{by_program, page, pg_basebackup, stream_base, wal_of};
use lifeboat::backup::wire::Wire;
use lifeboat::domain::artifact::PageTally;
use lifeboat::domain::check::Broke;
use lifeboat::domain::policy::{PasswordSource, TlsMode};
use lifeboat::probe::Endpoint;
use lifeboat::programs::Programs;

use crate::support::server::{Options, Server, command, unprivileged};
use crate::support::sink::VecSink;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Takes a base backup into memory: by the program, or by the wire.
fn base(
    server: &Server,
    endpoint: &Endpoint,
    programs: Option<&Programs>,
    pages: bool,
) -> Result<Pumped<VecSink>, Broke> {
    let pump = Pump::new(VecSink::default(), pages);
    let moved = Moved::default();
    runtime().block_on(stream_base(endpoint, server.programs.major, programs, "it's a test", pump, &moved))
}

fn tally(pumped: Pumped<VecSink>) -> (PageTally, VecSink) {
    let wal = wal_of(&pumped).unwrap();
    assert!(wal.start < wal.end && wal.timeline == 1, "{wal:?}");
    let pages = pumped.pages.unwrap();
    let again = vec![Again::Unread; pages.suspects().len()];
    (pages.settle(wal.start, wal.end, &again), pumped.sink)
}

/// Unpacks with the system's tar, as somebody without lifeboat would.
fn unpack(server: &Server, sink: &VecSink) -> PathBuf {
    let copy = server.data_dir.parent().unwrap().join("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::write(copy.with_extension("tar"), &sink.bytes).unwrap();
    let shell = |script: String| {
        let ran = std::process::Command::new("sh").args(["-ec", &script]).output().unwrap();
        assert!(ran.status.success(), "{script}: {}", String::from_utf8_lossy(&ran.stderr));
    };
    shell(format!("tar -x -C {0} -f {0}.tar && chmod 0700 {0}", copy.display()));
    if let Some((uid, gid)) = unprivileged() {
        shell(format!("chown -R {uid}:{gid} {}", copy.display()));
    }
    copy
}

fn verify(server: &Server, copy: &Path) {
    let ran = command(&server.programs.path("pg_verifybackup")).arg(copy).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

fn fill(server: &Server) {
    server.sql("postgres", "create table t as select n, md5(n::text) x from generate_series(1, 50000) n");
    server.sql("postgres", "create index on t (x); checkpoint");
}

#[test]
fn the_checksum_is_postgresqls_own() {
    let mut server = Server::start();
    fill(&server);
    server.sql("postgres", "vacuum");
    server.sql("postgres", "checkpoint");
    server.kill();
    let mut seen = 0;
    let mut files = vec![(server.data_dir.join("global"), "global".to_owned())];
    for entry in std::fs::read_dir(server.data_dir.join("base")).unwrap().flatten() {
        files.push((entry.path(), format!("base/{}", entry.file_name().to_str().unwrap())));
    }
    for (folder, prefix) in files {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let Some(first) = page::first_block(&format!("{prefix}/{}", entry.file_name().to_str().unwrap())) else {
                continue;
            };
            let bytes = std::fs::read(entry.path()).unwrap();
            let (pages, rest) = bytes.as_chunks::<{ page::PAGE_BYTES }>();
            assert!(rest.is_empty());
            for (at, one) in pages.iter().enumerate() {
                if one.iter().any(|byte| *byte != 0) {
                    assert_eq!(page::checksum(one, first + at as u32), page::stored_checksum(one), "{entry:?} {at}");
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 1500, "only {seen} pages");
}

#[test]
fn a_base_backup_by_the_program_unpacks_verifies_and_starts() {
    let server = Server::start();
    fill(&server);
    let pumped = base(&server, &server.endpoint("postgres"), Some(&server.programs), true).unwrap();
    let (pages, sink) = tally(pumped);
    assert!(pages.enabled && pages.verified > 1500 && pages.bad_count == 0, "{pages:?}");
    let copy = unpack(&server, &sink);
    verify(&server, &copy);
    let mut started = Server::adopt(&server, copy);
    started.launch();
    assert_eq!(
        started.sql("postgres", "select count(*), min(x) from t"),
        server.sql("postgres", "select count(*), min(x) from t")
    );
}

#[test]
fn two_tablespaces_become_folders_of_one_tar_over_the_wire() {
    let server = Server::start();
    fill(&server);
    for name in ["one", "two"] {
        let place = server.data_dir.parent().unwrap().join(format!("space {name}"));
        std::fs::create_dir(&place).unwrap();
        if let Some((uid, gid)) = unprivileged() {
            std::os::unix::fs::chown(&place, Some(uid), Some(gid)).unwrap();
        }
        server.sql("postgres", &format!("create tablespace {name} location '{}'", place.display()));
        server.sql(
            "postgres",
            &format!("create table in_{name} tablespace {name} as select n from generate_series(1, 30000) n"),
        );
    }
    let spaces = server.sql("postgres", "select string_agg(oid::text, ' ') from pg_tablespace where oid > 16383");
    let refused = base(&server, &server.endpoint("postgres"), Some(&server.programs), true).unwrap_err();
    assert!(refused.error.contains("pg_basebackup"), "the program cannot do it: {refused}");

    let (pages, sink) = tally(base(&server, &server.endpoint("postgres"), None, true).unwrap());
    assert!(pages.verified > 1700 && pages.bad_count == 0, "{pages:?}");
    for oid in spaces.split(' ') {
        let inside = format!("pg_tblspc/{oid}/PG_");
        let of_space = sink.members.iter().filter(|(member, _)| member.path.starts_with(&inside));
        assert!(of_space.map(|(member, _)| member.size).sum::<u64>() > 1 << 20, "tablespace {oid}");
    }
    let copy = unpack(&server, &sink);
    assert!(
        std::fs::symlink_metadata(copy.join("pg_tblspc").join(spaces.split(' ').next().unwrap())).unwrap().is_dir()
    );
    verify(&server, &copy);
    let conf = std::fs::read_to_string(copy.join("postgresql.conf")).unwrap();
    std::fs::write(copy.join("postgresql.conf"), conf + "\nallow_in_place_tablespaces = on\n").unwrap();
    let mut started = Server::adopt(&server, copy);
    started.launch();
    assert_eq!(
        started.sql("postgres", "select (select sum(n) from in_one), (select count(*) from in_two)"),
        "450015000|30000"
    );
}

#[test]
fn a_flipped_page_is_named_by_both_ways_and_does_not_cost_the_backup() {
    let mut server = Server::start();
    fill(&server);
    let path = server.sql("postgres", "select pg_relation_filepath('t')");
    server.kill();
    let file = std::fs::File::options().read(true).write(true).open(server.data_dir.join(&path)).unwrap();
    let at = 3 * 8192 + 5000;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
    server.launch();
    for programs in [Some(&server.programs), None] {
        let (pages, _) = tally(base(&server, &server.endpoint("postgres"), programs, true).unwrap());
        assert_eq!((pages.bad_count, pages.bad.as_slice()), (1, [format!("{path} block 3")].as_slice()));
    }
}

#[test]
fn a_source_without_checksums_is_backed_up_and_nothing_is_claimed() {
    let server = Server::start_with(Options { checksums: false, ..Options::default() });
    fill(&server);
    let pumped = base(&server, &server.endpoint("postgres"), Some(&server.programs), false).unwrap();
    assert!(pumped.pages.is_none());
    verify(&server, &unpack(&server, &pumped.sink));
}

/// Kills the only process of this program that writes to us, once it has written something.
fn kill_when_seen(moved: &Moved, seen: impl Fn() -> Option<u32> + Send + 'static) -> std::thread::JoinHandle<bool> {
    let moved = moved.clone();
    std::thread::spawn(move || {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if let (1.., Some(pid)) = (moved.so_far(), seen()) {
                let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
                return rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    })
}

/// The process that has this text in its arguments.
fn process_with(text: &str) -> Option<u32> {
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = String::from_utf8_lossy(&std::fs::read(entry.path().join("cmdline")).ok()?).into_owned();
        line.contains(text).then_some(pid)
    })
}

#[test]
fn kill_9_of_the_program_is_an_error_and_not_a_short_backup() {
    let server = Server::start();
    server.sql("postgres", "create table big as select n, repeat(md5(n::text), 8) x from generate_series(1, 400000) n");
    let label = format!("kill-{}", std::process::id());
    let mut command = pg_basebackup(&server.programs, &server.endpoint("postgres"), &label);
    command.arg("--max-rate=40M");
    let moved = Moved::default();
    let killer = kill_when_seen(&moved, {
        let label = label.clone();
        move || process_with(&label)
    });
    let pump = Pump::new(VecSink::default(), true);
    let broke = runtime().block_on(by_program(command, pump, &moved)).unwrap_err();
    assert!(killer.join().unwrap(), "it was killed");
    assert!(broke.error.contains("signal 9") && broke.hint.is_some(), "{broke}");
}

#[test]
fn a_dropped_backup_leaves_no_program_behind() {
    let server = Server::start();
    fill(&server);
    let label = format!("drop-{}", std::process::id());
    let mut command = pg_basebackup(&server.programs, &server.endpoint("postgres"), &label);
    command.arg("--max-rate=32k");
    let moved = Moved::default();
    runtime().block_on(async {
        let taking = by_program(command, Pump::new(VecSink::default(), true), &moved);
        tokio::time::timeout(Duration::from_secs(2), taking).await.expect_err("32 kB a second take longer");
    });
    let deadline = Instant::now() + Duration::from_secs(5);
    while process_with(&label).is_some() {
        assert!(Instant::now() < deadline, "the program still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_source_that_dies_in_the_middle_is_an_error_over_the_wire_too() {
    let mut server = Server::start();
    server.sql("postgres", "create table big as select n, repeat(md5(n::text), 8) x from generate_series(1, 200000) n");
    let endpoint = server.endpoint("postgres");
    let major = server.programs.major;
    let broke = runtime().block_on(async {
        let wire = Wire::connect(&endpoint).await.unwrap();
        let mut bytes = 0;
        wire.base_backup("dies", major, async |piece| {
            if let Piece::Data(data) = piece {
                bytes += data.len();
                if bytes > 4 << 20 {
                    server.kill_hard();
                }
            }
            Ok(())
        })
        .await
        .unwrap_err()
    });
    assert!(broke.error.contains("lost") || broke.error.contains("terminating"), "{broke}");
    assert!(broke.hint.is_some());
}

#[test]
fn passwords_and_rights_over_the_wire() {
    let port = 28_611;
    let server = Server::start_with(Options { tcp_port: Some(port), ..Options::default() });
    fill(&server);
    server.sql("postgres", "create role good login replication password 'pässword'");
    server.sql("postgres", "create role weak login password 'x'");
    server.sql("postgres", "set password_encryption = 'md5'; create role old login replication password 'old'");
    server.sql("postgres", "create role plain login replication password 'plain'");
    let hba = "local all all trust\nlocal replication all trust\nhost replication old 127.0.0.1/32 md5\n\
        host replication plain 127.0.0.1/32 password\nhost replication all 127.0.0.1/32 scram-sha-256\n";
    std::fs::write(server.data_dir.join("pg_hba.conf"), hba).unwrap();
    server.sql("postgres", "select pg_reload_conf()");
    let folder = tempfile::tempdir().unwrap();
    let login = |role: &str, password: Option<&str>| {
        let source = match password {
            None => PasswordSource::Default,
            Some(password) => {
                let path = folder.path().join(role);
                std::fs::write(&path, password).unwrap();
                std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
                PasswordSource::File(path)
            }
        };
        let url = format!("postgresql://{role}@127.0.0.1:{port}/postgres");
        Endpoint::open(&url, &source, Some(TlsMode::Disable), None, Duration::from_secs(5)).unwrap()
    };
    for (role, password) in [("good", "pässword"), ("old", "old"), ("plain", "plain")] {
        let pumped = base(&server, &login(role, Some(password)), None, true).unwrap();
        assert!(tally(pumped).0.verified > 1000, "{role}");
    }
    for (role, password, word) in [
        ("good", Some("wrong"), "password"),
        ("old", Some("wrong"), "password"),
        ("good", None, "asks for a password"),
        ("nobody", Some("x"), "password"),
        ("weak", Some("x"), "superuser or replication role"),
    ] {
        let broke = base(&server, &login(role, password), None, true).unwrap_err();
        assert!(broke.error.contains(word), "{role}: {broke}");
        assert!(broke.hint.as_ref().is_some_and(|hint| hint.len() > 20), "{role}: {broke:?}");
    }
    let program = base(&server, &login("weak", Some("x")), Some(&server.programs), true).unwrap_err();
    assert!(program.hint.as_ref().is_some_and(|hint| hint.contains("REPLICATION")), "{program:?}");
    assert!(!program.error.contains("pässword"));

    let url = format!("postgresql://good@127.0.0.1:{port}/postgres");
    let secured = Endpoint::open(&url, &PasswordSource::Default, Some(TlsMode::Require), None, Duration::from_secs(5));
    let broke = base(&server, &secured.unwrap(), None, true).unwrap_err();
    assert!(broke.error.contains("does not speak TLS"), "{broke}");
}
