//! Base backups that are read from the data folder itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lifeboat::backup::moved::Moved;
use lifeboat::backup::physical::local::{self, Ground, Reader};
use lifeboat::backup::session;
use lifeboat::domain::artifact::{MemberKind, PageTally, StreamKind};
use lifeboat::domain::check::Broke;
use lifeboat::domain::policy::ReadBy;
use lifeboat::probe;
use lifeboat::seal::{Fill, Member};

use crate::support::artifacts::{Yard, blocking, noise};
use crate::support::data::{self, DATABASE};
use crate::support::home::{Home, POLICY, ran, walk};
use crate::support::server::{Options, Server, command, unprivileged};

/// Makes the physical job read as said.
fn read_by(home: &Home, way: &str) {
    home.edit_policy(|text| {
        text.replace("method = \"physical\"\n", &format!("method = \"physical\"\nread = \"{way}\"\n"))
    });
}

fn manifest(home: &Home) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(home.newest_backup().join("manifest.json")).unwrap()).unwrap()
}

fn read_from(home: &Home) -> String {
    manifest(home)["tools"]["files_read_by"].as_str().unwrap().to_owned()
}

fn shell(script: &str) -> String {
    let ran = ran(Command::new("bash").args(["-euo", "pipefail", "-c", script]));
    assert_eq!(ran.code, 0, "{script}\n{ran:?}");
    ran.stdout
}

/// Unpacks the newest backup as somebody without lifeboat would, verifies it, and gives the folder.
fn unpack(server: &Server, home: &Home) -> PathBuf {
    let copy = server.data_dir.parent().unwrap().join(format!("copy-{}", getrandom()));
    std::fs::create_dir(&copy).unwrap();
    shell(&format!(
        r#"cd {}; for p in base/*.age; do age -d -i {} "$p"; done | zstd -d | tar -x -C {copy} && chmod 0700 {copy}"#,
        home.newest_backup().display(),
        home.path().join("keys/working.agekey").display(),
        copy = copy.display(),
    ));
    if let Some((uid, gid)) = unprivileged() {
        shell(&format!("chown -R {uid}:{gid} {}", copy.display()));
    }
    let verified = ran(command(&server.programs.path("pg_verifybackup")).arg(&copy));
    assert_eq!(verified.code, 0, "{verified:?}");
    copy
}

fn getrandom() -> u64 {
    std::process::id().into()
}

fn start(server: &Server, copy: PathBuf) -> Server {
    let conf = std::fs::read_to_string(copy.join("postgresql.conf")).unwrap();
    std::fs::write(copy.join("postgresql.conf"), conf + "\nallow_in_place_tablespaces = on\n").unwrap();
    let mut started = Server::adopt(server, copy);
    started.launch();
    started
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

fn tools_are_here() -> bool {
    let here = ["age", "zstd"].iter().all(|tool| Command::new(tool).arg("--version").output().is_ok());
    if !here {
        eprintln!("SKIPPED: age and zstd are not installed here");
    }
    here
}

#[test]
fn a_local_backup_is_proven_and_opens_with_public_tools() {
    let server = Server::start();
    data::fill(&server);
    for name in ["one", "two"] {
        tablespace(&server, name);
        let table = format!("create table shop.in_{name} tablespace {name} as select generate_series(1, 20000) n");
        server.sql(DATABASE, &table);
    }
    server.sql(DATABASE, "create unlogged table shop.fleeting as select generate_series(1, 50000) n; checkpoint");
    let unlogged = server.sql(DATABASE, "select pg_relation_filepath('shop.fleeting')");
    let home = Home::new(&server, DATABASE);
    read_by(&home, "local");
    home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    assert_eq!(read_from(&home), "lifeboat, from the data folder");
    let manifest = manifest(&home);
    assert!(manifest["pages"]["verified"].as_u64().unwrap() > 1700, "{}", manifest["pages"]);
    assert_eq!(manifest["pages"]["bad_count"], 0);
    assert_eq!(server.sql("postgres", "select count(*) from pg_replication_slots"), "0");
    assert!(server.log().lines().all(|line| !line.contains("WARNING")), "{}", server.log());
    home.run(&["drill", POLICY, "--drill", "restore-latest"]).expect(0);
    if !tools_are_here() {
        return;
    }
    let copy = unpack(&server, &home);
    for gone in ["postmaster.pid", "tablespace_map", &unlogged] {
        assert!(!copy.join(gone).exists(), "{gone}");
    }
    for there in [&format!("{unlogged}_init"), "pg_replslot", "pg_notify", "pg_twophase", "pg_wal/archive_status"] {
        assert!(copy.join(there).exists(), "{there}");
    }
    let started = start(&server, copy);
    let question =
        "select (select count(*) from shop.in_one) + (select sum(n) from shop.in_two), sum(total) from shop.orders";
    assert_eq!(started.sql(DATABASE, question), server.sql(DATABASE, question));
    assert_eq!(started.sql(DATABASE, "select count(*) from shop.fleeting"), "0");
}

#[test]
fn the_stream_is_taken_where_the_folder_is_not_certain_and_why_is_on_record() {
    let server = Server::start();
    data::fill(&server);
    let home = Home::new(&server, DATABASE);
    read_by(&home, "stream");
    home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    assert_eq!(read_from(&home), "the replication protocol: the job says so");

    server.sql("postgres", "create role weak login replication in role pg_read_all_data");
    let home = Home::for_url(&server.url(DATABASE).replace("postgres@", "weak@"));
    home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    assert!(read_from(&home).contains("GRANT EXECUTE ON FUNCTION pg_backup_start"), "{}", read_from(&home));
    read_by(&home, "local");
    let ran = home.run(&["backup", POLICY, "--job", "physical"]).expect(1);
    assert!(ran.stderr.contains("read = \"local\"") && ran.stderr.contains("hint"), "{ran:?}");
    server.sql(DATABASE, "grant execute on function pg_backup_start, pg_backup_stop to weak");
    let ran = home.run(&["backup", POLICY, "--job", "physical"]).expect(1);
    assert!(ran.stderr.contains("pg_read_all_settings"), "{ran:?}");
    server.sql("postgres", "grant pg_read_all_settings to weak");
    home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    assert_eq!(read_from(&home), "lifeboat, from the data folder");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// The folder, if it is this server's; `change` alters what is known of the server before it is looked for.
async fn ground(server: &Server, tag: &str, identifier: Option<&str>) -> Result<Arc<Ground>, String> {
    let endpoint = server.endpoint("postgres");
    let client = session::plain(&endpoint).await.unwrap();
    let mut known = probe::server(&client).await.unwrap();
    if let Some(identifier) = identifier {
        identifier.clone_into(&mut known.system_identifier);
    }
    let tablespaces = probe::tablespaces(&client).await.unwrap();
    local::choose(ReadBy::Auto, (&client, &endpoint), &known, &tablespaces, Some(tag)).await.unwrap()
}

#[test]
fn the_folder_of_another_cluster_is_not_read() {
    let server = Server::start();
    server.sql("postgres", "select pg_create_physical_replication_slot('lifeboat_0123')");
    runtime().block_on(async {
        assert!(ground(&server, "0123", None).await.is_ok());
        let other = ground(&server, "4567", None).await.unwrap_err();
        assert!(other.contains("another server's"), "{other}");
        let other = ground(&server, "0123", Some("7300000000000000001")).await.unwrap_err();
        assert!(other.contains("another cluster's"), "{other}");
    });
}

/// Takes a base backup with tiny parts, as `take` does; gives the tally of pages and the bytes of the tar.
fn take(server: &Server, yard: &Yard, part_bytes: usize) -> Result<(PageTally, Vec<u8>), Broke> {
    server.sql("postgres", "select pg_create_physical_replication_slot('lifeboat_77', true)");
    runtime().block_on(async {
        let found = ground(server, "77", None).await.unwrap();
        let sealer = yard.sealer("orders/x", part_bytes);
        let (endpoint, moved) = (server.endpoint("postgres"), Moved::default());
        let writer = sealer.stream("base", StreamKind::Tar);
        let pumped = local::read(found, &endpoint, "it's a test", writer, true, &moved).await?;
        let wal = lifeboat::backup::physical::wal_of(&pumped).unwrap();
        let tally = pumped.pages.unwrap().settle(wal.start, wal.end, &[]);
        let stream = blocking(move || pumped.sink.finish().unwrap()).await;
        let (sender, receiver) = std::sync::mpsc::channel();
        let give = move |bytes| sender.send(bytes).map_err(|_| Broke::new("gone"));
        lifeboat::seal::read_stream(yard.store.clone(), "orders/x", &stream, &yard.opener, 2, give).await.unwrap();
        Ok((tally, receiver.into_iter().flatten().collect()))
    })
}

#[test]
fn segments_of_other_sizes_and_tiny_parts_start() {
    for (size, part_bytes) in [("--wal-segsize=1", 100_000), ("--wal-segsize=64", 3 << 20)] {
        let server = Server::start_with(Options { initdb: vec!["--locale=C.UTF-8", size], ..Options::default() });
        server.sql("postgres", "create table t as select n, md5(n::text) x from generate_series(1, 20000) n");
        let yard = Yard::new();
        let (pages, tar) = take(&server, &yard, part_bytes).unwrap();
        assert!(pages.verified > 1000 && pages.bad_count == 0, "{pages:?}");
        let copy = server.data_dir.parent().unwrap().join("copy");
        std::fs::create_dir(&copy).unwrap();
        std::fs::write(copy.with_extension("tar"), &tar).unwrap();
        shell(&format!("tar -x -C {0} -f {0}.tar && chmod 0700 {0}", copy.display()));
        if let Some((uid, gid)) = unprivileged() {
            shell(&format!("chown -R {uid}:{gid} {}", copy.display()));
        }
        let verified = ran(command(&server.programs.path("pg_verifybackup")).arg(&copy));
        assert_eq!(verified.code, 0, "{size}: {verified:?}");
        let started = start(&server, copy);
        assert_eq!(
            started.sql("postgres", "select count(*), max(x) from t"),
            server.sql("postgres", "select count(*), max(x) from t")
        );
    }
}

#[test]
fn a_flipped_page_is_named_and_does_not_cost_the_backup() {
    let mut server = Server::start();
    server.sql("postgres", "create table t as select n, md5(n::text) x from generate_series(1, 50000) n");
    server.sql("postgres", "checkpoint");
    let path = server.sql("postgres", "select pg_relation_filepath('t')");
    server.kill();
    let place = server.data_dir.join(&path);
    let mut bytes = std::fs::read(&place).unwrap();
    bytes[3 * 8192 + 5000] ^= 4;
    std::fs::write(&place, bytes).unwrap();
    server.launch();
    let (pages, _) = take(&server, &Yard::new(), 65_536).unwrap();
    assert_eq!((pages.bad_count, pages.bad.as_slice()), (1, [format!("{path} block 3")].as_slice()));
}

/// SQL again and again, on sessions of its own, until it is told to stop.
fn busy<'s>(scope: &'s std::thread::Scope<'s, '_>, server: &'s Server, stop: &'s AtomicBool, sql: &'s str) {
    scope.spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            server.sql(DATABASE, sql);
        }
    });
}

#[test]
fn a_busy_source_is_copied_whole() {
    if !tools_are_here() {
        return;
    }
    let server = Server::start();
    data::fill(&server);
    server.sql(
        DATABASE,
        "create table account as select id, 100 as money, repeat('x', 200) as pad from generate_series(1, 200000) id; \
         alter table account add primary key (id); create table seen (at timestamptz); create table round (n int, t text)",
    );
    let home = Home::new(&server, DATABASE);
    read_by(&home, "local");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Money is moved, never made; the moments of commits are written down.
        let transfer = "do $$ declare giver int; taker int; begin for i in 1..50 loop
              giver := 1 + floor(random() * 200000); taker := 1 + floor(random() * 200000);
              update account set money = money - 1 where id = giver;
              update account set money = money + 1 where id = taker;
              insert into seen values (clock_timestamp()); end loop; end $$";
        busy(scope, &server, &stop, transfer);
        busy(
            scope,
            &server,
            &stop,
            "create table if not exists brief as select generate_series(1, 5000) n; drop table brief; truncate round; \
             insert into round select n, md5(n::text) from generate_series(1, 20000) n; checkpoint",
        );
        std::thread::sleep(Duration::from_millis(300));
        let backup = home.run(&["backup", POLICY, "--job", "physical"]);
        stop.store(true, Ordering::Relaxed);
        backup.expect(0);
    });
    let manifest = manifest(&home);
    assert_eq!(manifest["pages"]["bad_count"], 0, "{}", manifest["pages"]);
    let started = start(&server, unpack(&server, &home));
    let total = "select sum(money) - 100 * count(*) from account";
    assert!(["0", ""].contains(&started.sql(DATABASE, "select nullif(count(*), 200000) from account").as_str()));
    // An account that is chosen for both is counted once each way; the sum only moves by whole transactions.
    assert_eq!(started.sql(DATABASE, total), "0");
    let point = manifest["recovery_point"]["at"].as_str().unwrap();
    let lost = format!("select count(*) from seen where at < timestamptz '{point}' - interval '2 seconds'");
    assert_eq!(
        started.sql(DATABASE, &lost),
        server.sql(DATABASE, &lost),
        "all that was committed before the recovery point"
    );
    started.sql(DATABASE, "create extension if not exists amcheck");
    started.sql(
        DATABASE,
        "select bt_index_check('account_pkey', true), (select count(*) from verify_heapam('account')) = 0",
    );
}

#[test]
fn a_source_that_is_killed_while_its_files_are_read_leaves_no_backup() {
    let mut server = Server::start();
    data::fill(&server);
    server.sql(DATABASE, "create table bulk as select n, repeat(md5(n::text), 8) x from generate_series(1, 400000) n");
    let home = Home::new(&server, DATABASE);
    read_by(&home, "local");
    let mut child =
        home.command(&["backup", POLICY, "--job", "physical"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while walk(&home.store()).is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    server.kill();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(walk(&home.store()).is_empty(), "{:?}", walk(&home.store()));
}

/// A reader of a made folder that was never a server's: what happens to its files meanwhile is ours to say.
fn reader(folder: &Path, yard: &Yard, part_bytes: usize) -> Reader {
    let found = Ground {
        data_dir: folder.to_owned(),
        version_folder: "PG_15_202209061".to_owned(),
        tablespaces: [].into(),
        segment_bytes: 16 << 20,
        major: 15,
    };
    let writer = yard.sealer("orders/x", part_bytes).stream("base", StreamKind::Tar);
    Reader::new(Arc::new(found), writer, true, Moved::default(), Arc::default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_is_named_and_ends_the_backup() {
    let yard = Yard::new();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("global")).unwrap();
    std::fs::write(folder.path().join("PG_VERSION"), "15").unwrap();
    let without = reader(folder.path(), &yard, 50_000);
    let broke = blocking(move || without.files().err().unwrap()).await;
    assert!(broke.error.contains("global/pg_control") && broke.hint.is_some(), "{broke}");
    // A folder that is no folder any more.
    let missing = reader(&folder.path().join("nothing"), &yard, 50_000);
    let broke = blocking(move || missing.files().err().unwrap()).await;
    assert!(broke.error.contains("nothing"), "{broke}");
}

/// Bytes known by their offset; fails where told, and counts what was asked for.
struct Known {
    bytes: Vec<u8>,
    fail_at: u64,
    asked: AtomicUsize,
}

impl Fill for Known {
    fn fill(&self, offset: u64, into: &mut [u8]) -> Result<(), Broke> {
        self.asked.fetch_add(into.len(), Ordering::Relaxed);
        if (offset..offset + into.len() as u64).contains(&self.fail_at) {
            return Err(Broke::hinted("could not read base/5/1: EIO", "replace the disk"));
        }
        let from = usize::try_from(offset).unwrap();
        into.copy_from_slice(&self.bytes[from..from + into.len()]);
        Ok(())
    }
}

fn known(length: usize, fail_at: u64) -> Arc<Known> {
    Arc::new(Known { bytes: noise(length as u64, length), fail_at, asked: AtomicUsize::new(0) })
}

fn file(path: &str, size: usize) -> Member {
    Member { path: path.to_owned(), kind: MemberKind::File, mode: 0o600, size: size as u64 }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_for_later_are_where_they_would_be_and_are_cut_at_pages_only() {
    let yard = Yard::new();
    for (number, part_bytes) in [8192, 10_000, 30_000, 1 << 20].into_iter().enumerate() {
        let prefix = format!("orders/{number}");
        let sealer = yard.sealer(&prefix, part_bytes);
        let (later, small) = (known(100_000, u64::MAX), noise(1, 700));
        let (fill, literal) = (Arc::clone(&later), small.clone());
        let stream = blocking(move || {
            let fill: Arc<dyn Fill> = fill;
            let mut writer = sealer.stream("base", StreamKind::Tar);
            for name in ["a", "b"] {
                writer.write(&[b'h'; 512]).unwrap();
                writer.member(file(name, 100_000)).unwrap();
                writer.write_later(100_000, 8192, &fill).unwrap();
                writer.write(&[b'h'; 512]).unwrap();
                writer.member(file(&format!("{name}{name}"), 700)).unwrap();
                writer.write(&literal).unwrap();
            }
            writer.settle().unwrap();
            writer.write(&[0; 1024]).unwrap();
            writer.finish().unwrap()
        })
        .await;
        let expected: Vec<u8> = [vec![b'h'; 512], later.bytes.clone(), vec![b'h'; 512], small]
            .concat()
            .repeat(2)
            .into_iter()
            .chain(vec![0; 1024])
            .collect();
        let (sender, receiver) = std::sync::mpsc::channel();
        let give = move |bytes| sender.send(bytes).map_err(|_| Broke::new("gone"));
        lifeboat::seal::read_stream(yard.store.clone(), &prefix, &stream, &yard.opener, 2, give).await.unwrap();
        assert!(receiver.into_iter().flatten().collect::<Vec<u8>>() == expected, "{part_bytes}");
        assert_eq!(later.asked.load(Ordering::Relaxed), 200_000, "every byte is asked for once");
        for part in &stream.parts {
            assert!(part.plain_bytes <= part_bytes as u64);
            let cut =
                part.members.iter().filter(|slice| slice.size == 100_000 && slice.offset + slice.bytes < slice.size);
            assert!(cut.into_iter().all(|slice| (slice.offset + slice.bytes).is_multiple_of(8192)), "{part:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_that_cannot_be_read_ends_the_stream_and_says_why() {
    let yard = Yard::new();
    let sealer = yard.sealer("orders/x", 20_000);
    let broke = blocking(move || {
        let fill: Arc<dyn Fill> = known(200_000, 100_000);
        let mut writer = sealer.stream("base", StreamKind::Tar);
        writer.member(file("a", 200_000)).unwrap();
        let failed = writer.write_later(200_000, 8192, &fill).and_then(|()| writer.settle());
        Broke::from(failed.unwrap_err())
    })
    .await;
    assert_eq!(
        (broke.error.as_str(), broke.hint.as_deref()),
        ("could not read base/5/1: EIO", Some("replace the disk"))
    );
    let sealer = yard.sealer("orders/y", 20_000);
    blocking(move || {
        let fill: Arc<dyn Fill> = known(10, u64::MAX);
        let mut writer = sealer.stream("base", StreamKind::Tar);
        assert!(writer.write_later(10, 1, &fill).is_err(), "it is of no member");
        writer.member(file("a", 10)).unwrap();
        assert!(writer.write_later(10, 100_000, &fill).is_err(), "no part holds so much");
        assert!(writer.write_later(11, 1, &fill).is_err(), "more than the member has");
    })
    .await;
}
