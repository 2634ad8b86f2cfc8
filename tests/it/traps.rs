//! The nine traps that plain tools fall into, each shown to be real first, and then that a drill does not fall into it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use lifeboat::domain::artifact::{Manifest, MemberKind, StreamKind};
use lifeboat::domain::ids::BackupId;
use lifeboat::seal::{self, Member, SealOptions, Sealer, Signer};
use lifeboat::store;
use sha2::{Digest, Sha256};

use super::restore_logical::opened;
use crate::support::artifacts::blocking;
use crate::support::copies::copied_with;
use crate::support::data::{self, DATABASE};
use crate::support::home::{Home, POLICY, Ran, ran};
use crate::support::server::{Options, Server, command, unprivileged};

/// Seals the members of the newest physical backup again, as `change` leaves them (none: left out), with `extra` ones, under
/// the same keys and a right signature: a genuine artifact of a bad copy.
pub async fn resealed(
    home: &Home,
    number: u32,
    extra: &[(&str, &str)],
    change: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>,
    amend: impl Fn(&mut Manifest),
) -> BackupId {
    let (mut manifest, opener) = opened(home);
    let old = home.store().join(POLICY).join(manifest.backup.as_str());
    let mut tarred = Vec::new();
    for part in &manifest.streams[0].parts {
        tarred.extend(opener.open_part(part, &std::fs::read(old.join(&part.key)).unwrap()).unwrap());
    }
    let mut members: Vec<(tar::Header, String, Vec<u8>)> = Vec::new();
    for entry in tar::Archive::new(tarred.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().trim_end_matches('/').to_owned();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        let replaced = extra.iter().any(|(name, _)| *name == path);
        if let Some(bytes) = change(&path, bytes).filter(|_| !replaced) {
            members.push((entry.header().clone(), path, bytes));
        }
    }
    for (path, text) in extra {
        let mut header = tar::Header::new_ustar();
        header.set_path(path).unwrap();
        header.set_mode(0o600);
        header.set_entry_type(tar::EntryType::Regular);
        members.insert(0, (header, (*path).to_owned(), text.as_bytes().to_vec()));
    }
    let id = BackupId::new(manifest.started_at + jiff::SignedDuration::from_secs(1), number);
    let store = store::open_url(home.store().to_str().unwrap()).unwrap();
    let recipients = manifest.recipients.clone();
    let options = SealOptions { recipients, level: 1, part_bytes: 16 << 20, threads: 2 };
    let sealer = Sealer::new(store.clone(), format!("{POLICY}/{id}"), options).unwrap();
    let stream = blocking(move || {
        let mut writer = sealer.stream("base", StreamKind::Tar);
        for (mut header, path, bytes) in members {
            header.set_size(bytes.len() as u64);
            header.set_cksum();
            let folder = header.entry_type() == tar::EntryType::Directory;
            let kind = if folder { MemberKind::Folder } else { MemberKind::File };
            let (mode, size) = (header.mode().unwrap() & 0o777, bytes.len() as u64);
            writer.write(header.as_bytes()).unwrap();
            writer.member(Member { path, kind, mode, size }).unwrap();
            writer.write(&bytes).unwrap();
            writer.write(&vec![0; bytes.len().next_multiple_of(512) - bytes.len()]).unwrap();
        }
        writer.write(&[0; 1024]).unwrap();
        writer.finish().unwrap()
    })
    .await;
    manifest.backup = id.clone();
    manifest.sequence += u64::from(number);
    manifest.streams = vec![stream];
    amend(&mut manifest);
    let signer = Signer::read(&home.path().join("keys/signing.pem")).unwrap();
    seal::store_manifest(&*store, &manifest, &signer).await.unwrap();
    id
}

fn drill_of(home: &Home, id: &BackupId) -> Ran {
    home.run(&["drill", POLICY, "--drill", "restore-latest", "--backup", id.as_str(), "--output", "json"])
}

/// PostgreSQL's program, as superuser of the server.
fn program(server: &Server, name: &str, args: &[&str]) -> Ran {
    let mut command = command(&server.programs.path(name));
    command.env("PGHOST", &server.socket_dir).env("PGUSER", "postgres").args(args);
    ran(&mut command)
}

fn open_folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("lb-trap-").tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    folder
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A database of rows that compress badly, and its logical backup.
fn rows() -> (Server, Home, tempfile::TempDir) {
    let server = Server::start();
    server.sql("postgres", "create database orders");
    server.sql(DATABASE, "create table t as select i, md5(i::text) as word from generate_series(1, 20000) i");
    let home = Home::new(&server, DATABASE);
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    (server, home, open_folder())
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_flipped_bit_in_an_uncompressed_dump() {
    let (server, home, folder) = rows();
    let dump = folder.path().join("dump");
    assert_eq!(program(&server, "pg_dump", &["-Fc", "-Z0", "-f", text(&dump), DATABASE]).code, 0);
    let bytes = std::fs::read(&dump).unwrap();
    let word = server.sql(DATABASE, "select word from t where i = 10000");
    let at = bytes.windows(32).position(|window| window == word.as_bytes()).unwrap();
    flip(&dump, at + 5);
    server.sql("postgres", "create database wrong");
    assert_eq!(program(&server, "pg_restore", &["-d", "wrong", text(&dump)]).code, 0, "the trap: nothing is said");
    assert_eq!(server.sql("wrong", "select count(*) from t"), "20000", "and the count of rows is right");
    assert_ne!(server.sql("wrong", "select word from t where i = 10000"), word);

    let part = home.newest_backup().join("base/00000.zst.age");
    let length = std::fs::metadata(&part).unwrap().len();
    flip(&part, usize::try_from(length / 2).unwrap());
    let drilled = home.run(&["drill", POLICY, "--drill", "restore-logical", "--output", "json"]).expect(3);
    assert!(drilled.stdout.contains("part_hash"), "{drilled:?}");
}

#[test]
fn a_plain_dump_cut_short() {
    let (server, home, folder) = rows();
    let dump = folder.path().join("dump.sql");
    assert_eq!(program(&server, "pg_dump", &["-Fp", "-f", text(&dump), DATABASE]).code, 0);
    let whole = std::fs::read(&dump).unwrap();
    // Between two statements: after the rows, before what else there is.
    let at = whole.windows(4).position(|window| window == b"\n\\.\n").unwrap() + 4;
    let start = whole.windows(5).position(|window| window == b"COPY ").unwrap();
    std::fs::write(&dump, &whole[..start]).unwrap();
    assert!(at < whole.len());
    server.sql("postgres", "create database wrong");
    let psql = program(&server, "psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "wrong", "-f", text(&dump)]);
    assert_eq!(psql.code, 0, "the trap: {psql:?}");
    assert_eq!(server.sql("wrong", "select count(*) from t"), "0", "all rows are gone");

    let part = home.newest_backup().join("base/00000.zst.age");
    let bytes = std::fs::read(&part).unwrap();
    std::fs::write(&part, &bytes[..bytes.len() / 2]).unwrap();
    let drilled = home.run(&["drill", POLICY, "--drill", "restore-logical", "--output", "json"]).expect(3);
    assert!(drilled.stdout.contains("part_length"), "{drilled:?}");
}

/// Whether `age` is here; without it a trap cannot be shown.
fn age_is_here() -> bool {
    let here = Command::new("age").arg("--version").output().is_ok_and(|output| output.status.success());
    if !here {
        println!("not tried: age is not installed");
    }
    here
}

#[test]
fn a_dump_that_is_killed_in_a_pipe_to_age() {
    if !age_is_here() {
        return;
    }
    let (server, home, folder) = rows();
    let (sealed, pg_dump) = (folder.path().join("dump.age"), server.programs.path("pg_dump"));
    let identity = home.path().join("keys/working.agekey");
    let (_, opener) = opened(&home);
    let recipient = &opener.recipients()[0];
    // age starts late, so that pg_dump stands at a full pipe when it is killed.
    let script = format!(
        "sh -c '{} {DATABASE} & p=$!; sleep 0.5; kill -9 $p' | (sleep 1; age -r {recipient} -o {})",
        pg_dump.display(),
        sealed.display()
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).env("PGHOST", &server.socket_dir).env("PGUSER", "postgres");
    assert_eq!(ran(&mut shell).code, 0, "the trap: nobody notices");
    let opened = Command::new("age").args(["-d", "-i"]).arg(&identity).arg(&sealed).output().unwrap();
    assert!(opened.status.success(), "it is a valid age file");
    let rows = String::from_utf8_lossy(&opened.stdout).lines().filter(|line| line.contains('\t')).count();
    assert!(rows > 0 && rows < 20_000, "with {rows} of 20000 rows");

    // The producer of a lifeboat backup dies in the same way: no backup exists.
    let before = home.newest_backup();
    let fake = folder.path().join("bin");
    std::fs::create_dir(&fake).unwrap();
    for entry in std::fs::read_dir(&server.programs.dir).unwrap().flatten() {
        std::os::unix::fs::symlink(entry.path(), fake.join(entry.file_name())).unwrap();
    }
    std::fs::remove_file(fake.join("pg_dump")).unwrap();
    let dying = format!(
        "#!/bin/sh\nif [ \"$1\" = --version ]; then exec {0} --version; fi\n{0} \"$@\" | head -c 3000\nkill -9 $$\n",
        pg_dump.display()
    );
    std::fs::write(fake.join("pg_dump"), dying).unwrap();
    std::fs::set_permissions(fake.join("pg_dump"), std::fs::Permissions::from_mode(0o755)).unwrap();
    home.edit_config(|text| text.replace("bin_dirs = []", &format!("bin_dirs = [\"{}\"]", fake.display())));
    home.run(&["backup", POLICY, "--job", "logical"]).expect(1);
    assert_eq!(home.newest_backup(), before, "no manifest for a stream whose producer did not exit 0");
}

/// A server that archives its log, a base backup of it without log, and three segments of 6,000 rows each.
fn archived() -> (Server, tempfile::TempDir, PathBuf, PathBuf) {
    let folder = open_folder();
    let (archive, copy) = (folder.path().join("archive"), folder.path().join("copy"));
    for dir in [&archive, &copy] {
        std::fs::create_dir(dir).unwrap();
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).unwrap();
        if let Some((uid, gid)) = unprivileged() {
            std::os::unix::fs::chown(dir, Some(uid), Some(gid)).unwrap();
        }
    }
    let conf = format!("archive_mode = on\narchive_command = 'cp %p {}/%f'\n", archive.display());
    let server = Server::start_with(Options { conf, ..Options::default() });
    server.sql("postgres", "create table t (i int)");
    let taken = program(&server, "pg_basebackup", &["-c", "fast", "-X", "none", "-D", text(&copy)]);
    assert_eq!(taken.code, 0, "{taken:?}");
    for _ in 0..3 {
        server.sql("postgres", "insert into t select generate_series(1, 6000)");
        let segment = server.sql("postgres", "select pg_walfile_name(pg_current_wal_lsn())");
        server.sql("postgres", "select pg_switch_wal()");
        let deadline = Instant::now() + Duration::from_secs(60);
        while server.sql("postgres", "select last_archived_wal from pg_stat_archiver") < segment {
            assert!(Instant::now() < deadline, "the log is not archived");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let mut segments: Vec<PathBuf> = std::fs::read_dir(&archive).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_none());
    segments.sort();
    // The hole: the one before the last.
    std::fs::remove_file(&segments[segments.len() - 2]).unwrap();
    (server, folder, archive, copy)
}

#[test]
fn a_hole_in_the_log_and_what_the_plain_server_makes_of_it() {
    let (server, _folder, archive, copy) = archived();
    let conf = copy.join("postgresql.auto.conf");
    let socket = archive.parent().unwrap();
    let settings = |rest: &str| {
        let text = format!(
            "unix_socket_directories = '{}'\nport = 6001\narchive_mode = off\nhot_standby = on\n{rest}\n",
            socket.display()
        );
        std::fs::write(&conf, text).unwrap();
        std::fs::write(copy.join("recovery.signal"), "").unwrap();
    };
    let log = socket.join("log");
    let pg_ctl = |what: &[&str]| {
        let mut command = command(&server.programs.path("pg_ctl"));
        command.args(["-D", text(&copy), "-l", text(&log)]).args(what);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).status().unwrap().success()
    };
    let fetch = format!("cp {}/%f %p", archive.display());

    settings(&format!("restore_command = '{fetch} || exit 255'"));
    pg_ctl(&["-w", "start"]);
    let deadline = Instant::now() + Duration::from_secs(30);
    while pg_ctl(&["status"]) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(!pg_ctl(&["status"]), "above 125 recovery stops: right");

    // With a target pg_ctl may say that the server runs, and it ends a moment later. What counts is the server's state.
    settings(&format!("restore_command = '{fetch}'\nrecovery_target_time = '2040-01-01'"));
    let said = pg_ctl(&["-w", "start"]);
    let deadline = Instant::now() + Duration::from_secs(30);
    while pg_ctl(&["status"]) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(!pg_ctl(&["status"]), "the server is gone");
    println!("pg_ctl -w start had said that it runs: {said}");
    let words = std::fs::read_to_string(&log).unwrap();
    assert!(words.contains("recovery ended before configured recovery target"), "{words}");

    settings(&format!("restore_command = '{fetch}'"));
    let deadline = Instant::now() + Duration::from_secs(30);
    assert!(pg_ctl(&["-w", "start"]), "the trap: without a target it starts");
    let asked = |sql: &str| {
        let mut psql = command(&server.programs.path("psql"));
        psql.args(["-XAt", "-h", text(socket), "-p", "6001", "-U", "postgres", "-c", sql]);
        ran(&mut psql).stdout.trim().to_owned()
    };
    // It answers before its recovery is over.
    while asked("select pg_is_in_recovery()") != "f" && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    let rows = asked("select count(*) from t");
    pg_ctl(&["-m", "immediate", "stop"]);
    assert!(["6000", "12000"].contains(&rows.as_str()), "{rows} of 18000 rows, and nothing was said");
    assert!(std::fs::read_to_string(&log).unwrap().contains("archive recovery complete"));
}

#[tokio::test]
async fn a_hole_in_the_log_that_a_backup_holds() {
    let server = Server::start();
    data::fill(&server);
    let home = Home::new(&server, DATABASE);
    home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    let (manifest, _) = opened(&home);
    let wal = manifest.wal.clone().unwrap();
    let is_log = |path: &str| {
        path.strip_prefix("pg_wal/").is_some_and(|name| name.len() == 24 && name.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    let inside = usize::try_from(wal.start.0 % (16 << 20)).unwrap() + 200;
    type Change<'a> = Box<dyn Fn(&str, Vec<u8>) -> Option<Vec<u8>> + 'a>;
    type Amend = fn(&mut Manifest);
    let as_it_is: Amend = |_| {};
    let cases: [(&str, Change<'_>, Amend, &[&str]); 5] = [
        (
            "zeroed",
            Box::new(|path, mut bytes| {
                if is_log(path) {
                    bytes[inside..].fill(0);
                }
                Some(bytes)
            }),
            as_it_is,
            &["wal_missing", "wal_invalid", "checkpoint_record"],
        ),
        (
            "missing",
            Box::new(|path, bytes| (!is_log(path)).then_some(bytes)),
            as_it_is,
            &["wal_missing", "checkpoint_record"],
        ),
        (
            "truncated",
            Box::new(|path, mut bytes| {
                if is_log(path) {
                    bytes.truncate(inside);
                }
                Some(bytes)
            }),
            as_it_is,
            &["wal_missing", "wal_invalid", "checkpoint_record", "file_damaged"],
        ),
        (
            "short",
            Box::new(|_, bytes| Some(bytes)),
            |manifest| manifest.wal.as_mut().unwrap().end.0 += 64 << 20,
            &["log_short"],
        ),
        (
            "timeline",
            Box::new(|_, bytes| Some(bytes)),
            |manifest| manifest.wal.as_mut().unwrap().timeline = 2,
            &["timeline"],
        ),
    ];
    for (number, (name, change, amend, codes)) in (1..).zip(cases) {
        let id = resealed(&home, number, &[], change, amend).await;
        let drilled = drill_of(&home, &id);
        assert_eq!(drilled.code, 3, "{name}: {drilled:?}");
        let found = codes.iter().any(|code| drilled.stdout.contains(&format!("\"{code}\"")));
        assert!(found, "{name}: {codes:?} {}", drilled.stdout);
        std::fs::remove_dir_all(home.store().join(POLICY).join(id.as_str())).unwrap();
    }
    // The same hands that alter nothing: the way of doing it is not what is found.
    let id = resealed(&home, 9, &[], |_, bytes| Some(bytes), |_| {}).await;
    drill_of(&home, &id).expect(0);
}

#[tokio::test]
async fn plaintext_that_age_gives_out_before_it_finds_the_error() {
    if !age_is_here() {
        return;
    }
    let server = Server::start();
    data::fill(&server);
    let home = Home::new(&server, DATABASE);
    home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    let (mut manifest, _) = opened(&home);
    let folder = home.newest_backup();
    let key = manifest.streams[0].parts[0].key.clone();
    let path = folder.join(&key);
    let bytes = std::fs::read(&path).unwrap();
    let cut = &bytes[..bytes.len() * 9 / 10];
    std::fs::write(&path, cut).unwrap();
    let identity = home.path().join("keys/working.agekey");
    let opened = Command::new("age").args(["-d", "-i"]).arg(&identity).arg(&path).output().unwrap();
    assert!(!opened.status.success() && opened.stdout.len() > cut.len() / 2, "the trap: most of it is out already");

    // Signed as it is, so that nothing but age itself can find it.
    let part = &mut manifest.streams[0].parts[0];
    part.sealed_bytes = cut.len() as u64;
    part.sealed_sha256 = hex::encode(Sha256::digest(cut));
    let old = manifest.backup.clone();
    manifest.backup = BackupId::new(manifest.started_at + jiff::SignedDuration::from_secs(1), 1);
    let place = home.store().join(POLICY);
    std::fs::rename(place.join(old.as_str()), place.join(manifest.backup.as_str())).unwrap();
    for name in ["manifest.json", "manifest.json.sig"] {
        std::fs::remove_file(place.join(manifest.backup.as_str()).join(name)).unwrap();
    }
    let store = store::open_url(text(&home.store())).unwrap();
    let signer = Signer::read(&home.path().join("keys/signing.pem")).unwrap();
    seal::store_manifest(&*store, &manifest, &signer).await.unwrap();
    let drilled = drill_of(&home, &manifest.backup).expect(3);
    assert!(drilled.stdout.contains("part_decrypt"), "{drilled:?}");
    let transcript = drilled.json();
    assert!(transcript["scratch"]["server_version"].is_null(), "no server was started on it: {transcript}");
}

#[test]
fn a_check_function_in_a_dump_that_a_superuser_restores() {
    let server = Server::start();
    let folder = open_folder();
    let marker = folder.path().join("marker");
    server.sql("postgres", "create database orders");
    server.sql(DATABASE, "create function ok(i int) returns bool language sql as 'select true'");
    server.sql(DATABASE, "create table t (i int check (public.ok(i))); insert into t values (1), (2)");
    server.sql(DATABASE, &format!("create or replace function ok(i int) returns bool language plpgsql as $$ begin copy (select 1) to program 'cat > {}'; return true; exception when insufficient_privilege then return true; end $$", marker.display()));
    let dump = folder.path().join("dump");
    assert_eq!(program(&server, "pg_dump", &["-Fc", "-f", text(&dump), DATABASE]).code, 0);
    server.sql("postgres", "create database victim");
    assert_eq!(program(&server, "pg_restore", &["-d", "victim", text(&dump)]).code, 0);
    assert!(marker.exists(), "the trap: a command of the operating system ran");
    std::fs::remove_file(&marker).unwrap();

    let home = Home::new(&server, DATABASE);
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    home.run(&["drill", POLICY, "--drill", "restore-logical"]).expect(0);
    assert!(!marker.exists());
}

#[tokio::test]
async fn a_restored_cluster_with_its_own_configuration() {
    let server = Server::start();
    data::fill(&server);
    let folder = open_folder();
    let marker = folder.path().join("archived");
    let hostile = format!("archive_mode = on\narchive_command = 'touch {}'\n", marker.display());
    let copy = copied_with(&server, |data| {
        let auto = data.join("postgresql.auto.conf");
        let old = std::fs::read_to_string(&auto).unwrap();
        std::fs::write(&auto, old + &hostile).unwrap();
    });
    copy.sql("postgres", "create table x(); select pg_switch_wal()");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !marker.exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(marker.exists(), "the trap: the copy does what the original did");
    drop(copy);
    std::fs::remove_file(&marker).unwrap();

    let home = Home::new(&server, DATABASE);
    home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    let id = resealed(&home, 1, &[("postgresql.auto.conf", &hostile)], |_, bytes| Some(bytes), |_| {}).await;
    drill_of(&home, &id).expect(0);
    assert!(!marker.exists());
}
