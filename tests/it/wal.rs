//! The log: pushed as `archive_command` does, brought back by `wal fetch` and `restore --until`, with real servers.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use lifeboat::backup::wal::scan;
use lifeboat::domain::lsn::Lsn;
use lifeboat::domain::wal::WalName;

use crate::support::data::DATABASE;
use crate::support::home::{Home, POLICY, Ran, walk};
use crate::support::recovered::{recovered, started};
use crate::support::server::{Options, Server, unprivileged};

/// A server with small segments that copies finished ones into a folder, a home for it, and rows that are numbered as they are committed.
pub struct Bench {
    pub server: Server,
    pub home: Home,
    pub archive: PathBuf,
    _folder: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Bench {
        let folder = tempfile::Builder::new().prefix("lb-archive-").tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let archive = folder.path().to_owned();
        let conf = format!(
            "archive_mode = on\narchive_command = 'cp %p {}/%f.tmp && mv {0}/%f.tmp {0}/%f'",
            archive.display()
        );
        let server = Server::start_with(Options {
            conf,
            initdb: vec!["--locale=C.UTF-8", "--wal-segsize=1"],
            ..Options::default()
        });
        server.sql("postgres", &format!("create database {DATABASE}"));
        server.sql(DATABASE, "create table beat (n int primary key, at timestamptz not null)");
        let home = Home::new(&server, DATABASE);
        Bench { server, home, archive, _folder: folder }
    }

    /// Commits rows `from` to `to`, each in a transaction of its own; gives the server's time after the last one.
    pub fn beat(&self, from: i32, to: i32) -> String {
        for n in from..=to {
            self.server.sql(DATABASE, &format!("insert into beat values ({n}, clock_timestamp())"));
        }
        self.now()
    }

    pub fn now(&self) -> String {
        let sql = "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
        let now = self.server.sql(DATABASE, sql);
        std::thread::sleep(std::time::Duration::from_millis(5));
        now
    }

    /// Ends the segment, waits until the server has archived it, and pushes everything.
    pub fn archive(&self) -> Vec<String> {
        let last = self.server.sql(DATABASE, "select pg_walfile_name(pg_switch_wal())");
        for _ in 0..1000 {
            if self.archive.join(&last).exists() {
                return self.push_all();
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("{last} was not archived: {}", self.server.log());
    }

    /// Pushes all that the server has archived; gives the names.
    fn push_all(&self) -> Vec<String> {
        let mut names: Vec<String> = walk(&self.archive)
            .into_iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .filter(|name| !name.ends_with(".tmp"))
            .collect();
        names.sort();
        for name in &names {
            self.push(name).expect(0);
        }
        names
    }

    pub fn push(&self, name: &str) -> Ran {
        self.home.run(&["wal", "push", POLICY, self.archive.join(name).to_str().unwrap()])
    }

    fn fetch(&self, name: &str, to: &Path) -> Ran {
        self.home.run(&["wal", "fetch", POLICY, name, to.to_str().unwrap()])
    }

    /// Restores with these arguments into a new folder; what it said, and the folder.
    fn restore(&self, name: &str, args: &[&str]) -> (Ran, PathBuf) {
        let to = self.home.path().join(name);
        let ran = self.home.run(&[&["restore", POLICY, "--to", to.to_str().unwrap()], args].concat());
        (ran, to)
    }

    /// Restores, starts a server on it, and gives the numbers that are there: how many, and the greatest.
    pub fn brought(&self, name: &str, args: &[&str]) -> (i32, Server) {
        recovered(&self.home, &self.server, name, args)
    }

    /// The object of a file, and its record.
    pub fn objects(&self, name: &str) -> (PathBuf, PathBuf) {
        let folder = self.home.store().join(POLICY).join("wal").join(&name[..8]);
        (folder.join(format!("{name}.zst.age")), folder.join(format!("{name}.jsonl")))
    }
}

#[test]
fn what_a_server_archives_comes_back_as_it_was_and_nothing_else_does() {
    let bench = Bench::new();
    bench.home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    bench.beat(1, 20);
    let names = bench.archive();
    let segment = names.iter().rev().find(|name| name.len() == 24).unwrap().clone();
    assert!(names.iter().any(|name| name.ends_with(".backup")), "{names:?}");
    let to = bench.home.path().join("back");
    for name in &names {
        bench.fetch(name, &to).expect(0);
        assert_eq!(std::fs::read(&to).unwrap(), std::fs::read(bench.archive.join(name)).unwrap(), "{name}");
    }
    // Again is a success; other bytes under that name are not, and change nothing.
    bench.push(&segment).expect(0);
    let (object, record) = bench.objects(&segment);
    let before = (std::fs::read(&object).unwrap(), std::fs::read(&record).unwrap());
    let path = bench.archive.join(&segment);
    let good = std::fs::read(&path).unwrap();
    let mut other = good.clone();
    *other.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &other).unwrap();
    let refused = bench.push(&segment).expect(1);
    assert!(refused.stderr.contains("other bytes") && refused.stderr.contains("hint:"), "{refused:?}");
    assert_eq!(before, (std::fs::read(&object).unwrap(), std::fs::read(&record).unwrap()));

    // A segment under another's name, cut short, of another cluster, or no segment at all.
    let wrong = bench.archive.join("0000000100000000000000F0");
    std::fs::write(&wrong, &good).unwrap();
    assert!(bench.push("0000000100000000000000F0").expect(1).stderr.contains("another segment"));
    let mut stranger = good.clone();
    stranger[24] ^= 1;
    std::fs::write(&path, &stranger).unwrap();
    assert!(bench.push(&segment).expect(1).stderr.contains("of another one"), "a stranger's segment");
    std::fs::write(&path, &good[..good.len() / 2]).unwrap();
    assert!(bench.push(&segment).expect(1).stderr.contains("bytes, and segments"));
    std::fs::write(&path, b"no segment").unwrap();
    assert!(bench.push(&segment).expect(1).stderr.contains("too short"));
    for (name, text) in
        [("00000002.history", "nonsense"), ("00000002.history", "2\t0/5000000\tx\n"), ("00000002.history", "")]
    {
        std::fs::write(bench.archive.join(name), text).unwrap();
        assert!(bench.push(name).expect(1).stderr.contains("no history"), "{text:?}");
    }
    assert!(bench.push("README").expect(1).stderr.contains("name of a file of the log"));
    assert!(bench.push("0000000100000000000000F1").expect(1).stderr.contains("cannot be read"));
    bench.home.run(&["wal", "push", "nobody", path.to_str().unwrap()]).expect(2);
}

#[test]
fn a_server_is_told_of_absence_only_where_it_is_certain() {
    let bench = Bench::new();
    bench.home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    let names = bench.archive();
    let segment = names.iter().rev().find(|name| name.len() == 24).unwrap();
    let to = bench.home.path().join("back");
    let absent = bench.fetch("0000000100000000000000F0", &to).expect(1);
    assert!(absent.stderr.contains("is not in the store") && !to.exists(), "{absent:?}");
    let told = |ran: Ran, says: &str| {
        assert!(ran.code == 200 && ran.stderr.contains(says) && !to.exists(), "{says}: {ran:?}");
    };
    told(bench.fetch("nonsense", &to), "name of a file of the log");
    told(bench.home.run(&["wal", "fetch", "nobody", segment, "x"]), "nobody");
    told(bench.home.run(&["wal", "fetch", POLICY, segment]), "required");
    told(bench.home.run(&["wal", "-v", "--output", "json", "fetch", POLICY, segment]), "required");
    told(bench.home.run(&["wal", "fetch", POLICY, segment, "/nope/x"]), "cannot be written");
    told(bench.home.run(&["--config", "none.toml", "wal", "fetch", POLICY, segment, "x"]), "no configuration");

    // Each damage is a stop, and never an absence.
    let (object, record) = bench.objects(segment);
    let good = (std::fs::read(&object).unwrap(), std::fs::read(&record).unwrap());
    let flipped = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    for (path, bytes, says) in [
        (&object, flipped(&good.0, good.0.len() / 2), "SHA-256"),
        (&object, good.0[..good.0.len() - 1].to_vec(), "length"),
        (&record, flipped(&good.1, 40), "signature"),
        (&record, good.1[..60].to_vec(), "not signed"),
        (&record, vec![], "not signed"),
    ] {
        std::fs::write(path, bytes).unwrap();
        told(bench.fetch(segment, &to), says);
        std::fs::write(&object, &good.0).unwrap();
        std::fs::write(&record, &good.1).unwrap();
    }
    std::fs::remove_file(&object).unwrap();
    told(bench.fetch(segment, &to), "its object is not");
    // Another's record, rightly signed, under this name.
    std::fs::write(&object, &good.0).unwrap();
    let (_, before) = bench.objects(names.iter().find(|name| name.len() == 24).unwrap());
    std::fs::copy(before, &record).unwrap();
    told(bench.fetch(segment, &to), "another file");
    std::fs::write(&record, &good.1).unwrap();

    // An empty folder where the store should be: nothing is certain.
    let store = bench.home.store();
    std::fs::rename(&store, store.with_extension("away")).unwrap();
    told(bench.fetch(segment, &to), "no such folder");
    std::fs::create_dir(&store).unwrap();
    told(bench.fetch(segment, &to), "holds nothing of policy");
    std::fs::remove_dir(&store).unwrap();
    std::fs::rename(store.with_extension("away"), &store).unwrap();
    bench.fetch(segment, &to).expect(0);
}

#[test]
fn a_killed_push_leaves_no_gap() {
    let bench = Bench::new();
    bench.home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    bench.beat(1, 3);
    let names = bench.archive();
    let segment = names.iter().rev().find(|name| name.len() == 24).unwrap();
    let (object, record) = bench.objects(segment);
    // Killed between the object and its record: what is there names nothing, and cannot be compared.
    std::fs::remove_file(&record).unwrap();
    bench.fetch(segment, &bench.home.path().join("back")).expect(1);
    bench.push(segment).expect(0);
    bench.fetch(segment, &bench.home.path().join("back")).expect(0);
    assert!(object.exists() && object.with_file_name(format!("{segment}.1.zst.age")).exists());
    // Ten at once: one object and one record win, and all are told so.
    std::fs::remove_file(&record).unwrap();
    std::thread::scope(|scope| {
        let pushing: Vec<_> = (0..10).map(|_| scope.spawn(|| bench.push(segment))).collect();
        for push in pushing {
            push.join().unwrap().expect(0);
        }
    });
    bench.home.run(&["verify", POLICY, "--wal"]).expect(0);
}

#[test]
fn every_target_is_reached_and_nothing_behind_it() {
    let bench = Bench::new();
    bench.beat(1, 2);
    bench.home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    let at_four = bench.beat(3, 4);
    let xid = bench
        .server
        .sql(DATABASE, "begin; insert into beat values (5, clock_timestamp()); select pg_current_xact_id(); commit");
    let lsn = bench.server.sql(DATABASE, "select pg_current_wal_insert_lsn()");
    bench.beat(6, 7);
    bench.server.sql(DATABASE, "select pg_create_restore_point('before the mistake')");
    bench.beat(8, 9);
    bench.archive();
    let at_nine = bench.now();

    // What was handed over counts as covered, as far as it goes on from the backup.
    let status = bench.home.run(&["status", POLICY, "--output", "json"]).json();
    let covered = &status["policies"][0]["covered"];
    assert!(covered["until"].is_string() && covered["covered"].as_str().unwrap() > at_four.as_str(), "{covered}");
    assert_eq!(bench.brought("latest", &["--until", "latest"]).0, 9);
    assert_eq!(bench.brought("time", &["--until", &at_four]).0, 4);
    assert_eq!(bench.brought("xid", &["--until-xid", &xid]).0, 5);
    assert_eq!(bench.brought("before", &["--until-xid", &xid, "--before"]).0, 4);
    assert_eq!(bench.brought("lsn", &["--until-lsn", &lsn]).0, 5);
    assert_eq!(bench.brought("name", &["--until-name", "before the mistake"]).0, 7);
    assert_eq!(bench.brought("alone", &[]).0, 2);
    // Somebody who does not know of the log must hear of it.
    let (told, _) = bench.restore("told", &[]);
    assert!(told.expect(0).stderr.contains("--until latest brings it back too"), "nothing was said of the log");
    // The same moment with another zone.
    let moved = at_four.replace('Z', "+00:00");
    assert_eq!(bench.brought("zone", &["--until", &moved]).0, 4);

    // Beyond reach: refused before anything is written, with the nearest moment.
    for (args, says) in [
        (vec!["--until", at_nine.as_str()], "nearest reachable moment"),
        (vec!["--until", "2099-01-01T00:00:00Z"], "nearest reachable moment"),
        (vec!["--until", "2000-01-01T00:00:00Z"], "ends after"),
        (vec!["--until-lsn", "FF/0"], "cannot be reached"),
        (vec!["--until-lsn", "0/1"], "ends after"),
        (vec!["--until-name", "never"], "before the mistake"),
        (vec!["--until", "latest", "--timeline", "7"], "no history of timeline 7"),
    ] {
        let (ran, to) = bench.restore("refused", &args);
        let ran = ran.expect(1);
        assert!(ran.stderr.contains(says) && ran.stderr.contains("hint:") && !to.exists(), "{args:?}: {ran:?}");
    }
    // And told beforehand.
    let find = |moment: &str| bench.home.run(&["find", POLICY, "--reach", moment]);
    for reachable in [&at_four, &lsn, "latest"] {
        let found = find(reachable).expect(0);
        assert!(
            found.stdout.contains("reachable: from backup") && found.stdout.contains("lifeboat restore"),
            "{found:?}"
        );
    }
    for beyond in [&at_nine, "FF/0", "2000-01-01T00:00:00Z"] {
        assert!(find(beyond).expect(3).stdout.starts_with("not reachable: "));
    }
    find("yesterday").expect(2);

    // Wrong use.
    for args in [
        vec!["--until", "yesterday"],
        vec!["--until", "2026-01-31T03:00:00"],
        vec!["--until-lsn", "x"],
        vec!["--until", "latest", "--before"],
        vec!["--before"],
        vec!["--timeline", "1"],
        vec!["--until", "latest", "--until-xid", "5"],
    ] {
        let (ran, to) = bench.restore("misused", &args);
        assert!(ran.code == 2 && !to.exists(), "{args:?}: {ran:?}");
    }
    let url = bench.server.url("other");
    bench.home.run(&["restore", POLICY, "--to-database", &url, "--until", "latest"]).expect(2);
}

#[test]
fn timelines_are_followed_and_left_behind() {
    let bench = Bench::new();
    bench.home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    bench.beat(1, 4);
    let lsn = bench.server.sql(DATABASE, "select pg_current_wal_insert_lsn()");
    bench.beat(5, 6);
    bench.archive();
    // A recovery to row 4 makes timeline 2, which goes on with other rows.
    let (count, second) = bench.brought("second", &["--until-lsn", &lsn]);
    assert_eq!(count, 4);
    second.sql(
        DATABASE,
        "insert into beat values (5, clock_timestamp()), (6, clock_timestamp()), (7, clock_timestamp())",
    );
    second.sql(DATABASE, "select pg_switch_wal()");
    for path in walk(&second.data_dir.join("pg_wal")) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Ok(parsed) = name.parse::<WalName>() else { continue };
        // Files for later segments are recycled ones, with what an earlier segment held.
        let place = |parsed: WalName| match parsed {
            WalName::Segment(segment) => segment.start(1 << 20),
            _ => None,
        };
        let whole = scan(&std::fs::read(&path).unwrap())
            .is_ok_and(|(_, contents)| contents.whole && Some(contents.start) == place(parsed));
        if parsed.timeline() == 2 && (whole || name.ends_with(".history")) {
            std::fs::copy(&path, bench.archive.join(&name)).unwrap();
            bench.push(&name).expect(0);
        }
    }
    // And the first one goes on as well.
    bench.beat(7, 9);
    bench.archive();
    assert_eq!(bench.brought("newest", &["--until", "latest"]).0, 7);
    assert_eq!(bench.brought("first", &["--until", "latest", "--timeline", "1"]).0, 9);
    let (_, third) = bench.brought("branch", &["--until", "latest", "--timeline", "2"]);
    assert_eq!(third.sql(DATABASE, "select timeline_id from pg_control_checkpoint()"), "3");
    // A search over time stays on one timeline, and says which to restore.
    for (timeline, options) in [("2", vec![]), ("1", vec!["--timeline", "1"])] {
        let args = [&["find", POLICY, "--holds", "select count(*) < 6 from beat"], options.as_slice()].concat();
        let found = bench.home.run(&args).expect(0).stdout;
        assert!(
            found.contains(&format!("timeline {timeline}, log"))
                && found.contains(&format!(" --timeline {timeline}\n")),
            "{found}"
        );
    }
    // Without the segment in which timeline 2 begins, a server would replay timeline 1 to the end of its own: it is not asked to.
    let first = walk(&bench.home.store().join(POLICY).join("wal/00000002"));
    let first = first
        .iter()
        .filter(|path| path.to_str().unwrap().ends_with(".jsonl") && !path.to_str().unwrap().contains("history"));
    let first = first.min().unwrap().clone();
    let record = std::fs::read(&first).unwrap();
    std::fs::remove_file(&first).unwrap();
    let (ran, to) = bench.restore("branch-missing", &["--until", "latest"]);
    assert!(ran.code == 1 && ran.stderr.contains("with which timeline 2 begins") && !to.exists(), "{ran:?}");
    std::fs::write(&first, record).unwrap();
    // A backup of timeline 1 that ends behind the branch cannot follow timeline 2.
    bench.home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    let newest = bench.home.newest_backup();
    let id = newest.file_name().unwrap().to_str().unwrap();
    let (ran, _) = bench.restore("no-way", &["--until", "latest", "--timeline", "2", "--backup", id]);
    assert!(ran.code == 1 && ran.stderr.contains("left timeline 1 at"), "{ran:?}");
    bench.home.run(&["verify", POLICY, "--wal"]).expect(0);
}

/// FAULTS: a hole, and a server that opens with a third of the rows.
#[test]
fn each_fault_of_any_segment_is_seen_and_named() {
    let bench = Bench::new();
    bench.home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    // The moment before the last row: it can be reached only with all of the log.
    let mut last = String::new();
    // The long form: thirty segments, and every fault for each of them.
    let long = std::env::var_os("LIFEBOAT_WAL_LONG").is_some();
    for n in 1..=if long { 30 } else { 12 } {
        last = bench.now();
        bench.beat(n, n);
        bench.archive();
    }
    let verify = || bench.home.run(&["verify", POLICY, "--wal", "--output", "json"]);
    let right = verify().expect(0);
    assert_eq!(right.json()["stores"][0]["findings"], serde_json::json!([]));
    let end = bench.home.newest_backup().join("manifest.json");
    let manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(end).unwrap()).unwrap();
    let end: Lsn = manifest["wal"]["end"].as_str().unwrap().parse().unwrap();
    let needed: Vec<String> = walk(&bench.archive)
        .into_iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .filter(|name| match name.parse() {
            Ok(WalName::Segment(segment)) => segment.next(1 << 20).unwrap().start(1 << 20).unwrap() > end,
            _ => false,
        })
        .collect();
    let (newest, needed) = {
        let mut sorted = needed;
        sorted.sort();
        (sorted.pop().unwrap(), sorted)
    };
    assert!(needed.len() >= 11, "{needed:?}");
    let faults = |at: usize| if long { 0..5 } else { at % 5..at % 5 + 1 };
    let all = needed.iter().enumerate().flat_map(|(at, name)| faults(at).map(move |fault| (fault, name)));
    let mut tried = 0;
    for (at, name) in all {
        tried += 1;
        let (object, record) = bench.objects(name);
        let good = (std::fs::read(&object).unwrap(), std::fs::read(&record).unwrap());
        let (_, other) = bench.objects(&newest);
        match at {
            0 => {
                std::fs::remove_file(&object).unwrap();
                std::fs::remove_file(&record).unwrap();
            }
            1 => std::fs::write(&object, &good.0[..good.0.len() / 2]).unwrap(),
            2 => {
                let mut bytes = good.0.clone();
                bytes[good.0.len() / 3] ^= 4;
                std::fs::write(&object, bytes).unwrap();
            }
            3 => std::fs::write(&record, std::fs::read(&other).unwrap()).unwrap(),
            _ => std::fs::remove_file(&object).unwrap(),
        }
        let found = verify();
        assert!(found.code == 3 && found.stdout.contains(name.as_str()), "{at} {name}: {found:?}");
        // What is told to restore: `latest` says where it stops, a moment behind the hole is refused or ends in a finding; nothing is opened short.
        let (ran, to) = bench.restore("hole", &["--until", &last]);
        assert!([1, 3].contains(&ran.code) && ran.stderr.contains(name.as_str()), "{at}: {ran:?}");
        assert!(!to.exists() || to.join("RESTORE-INCOMPLETE.txt").exists(), "{at}");
        let _ = std::fs::remove_dir_all(to);
        std::fs::write(&object, &good.0).unwrap();
        std::fs::write(&record, &good.1).unwrap();
    }
    println!("wal faults: {tried} of {} segments, each seen and named", needed.len());
    verify().expect(0);
    // From outside nothing is wrong either, and nothing is proved.
    let outside = bench.home.run(&["verify", POLICY, "--wal", "--sealed-only"]).expect(4);
    assert!(outside.stdout.contains("unproven"), "{outside:?}");
}

#[test]
fn a_real_archive_command_and_a_real_restore_command() {
    let bench = Bench::new();
    let Some((uid, gid)) = unprivileged() else {
        println!("SKIPPED: not root: the archive command would run as ourselves, as in the other tests");
        return;
    };
    bench.home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    // Everything belongs to the server's user, as it would on a database's host.
    for path in walk(bench.home.path()) {
        std::os::unix::fs::chown(&path, Some(uid), Some(gid)).unwrap();
    }
    let folders =
        std::process::Command::new("chown").args(["-R", &format!("{uid}:{gid}")]).arg(bench.home.path()).status();
    assert!(folders.unwrap().success());
    let lifeboat = bench.home.path().join("lifeboat");
    std::fs::copy(assert_cmd::cargo::cargo_bin!("lifeboat"), &lifeboat).unwrap();
    std::fs::set_permissions(&lifeboat, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = bench.home.path().join("lifeboat.toml");
    let call = format!("{} --config {} wal", lifeboat.display(), config.display());
    bench.server.sql(DATABASE, &format!("alter system set archive_command = '{call} push {POLICY} %p'"));
    bench.server.sql(DATABASE, "select pg_reload_conf()");
    bench.beat(1, 5);
    let last = bench.server.sql(DATABASE, "select pg_walfile_name(pg_switch_wal())");
    let (_, record) = bench.objects(&last);
    for _ in 0..1000 {
        if record.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(record.exists(), "{}", bench.server.log());

    // A server that asks for each file itself.
    let to = bench.home.path().join("back");
    bench.home.run(&["restore", POLICY, "--to", to.to_str().unwrap()]).expect(0);
    for path in walk(&to).into_iter().chain([to.clone()]) {
        std::os::unix::fs::chown(&path, Some(uid), Some(gid)).unwrap();
    }
    let conf = to.join("postgresql.auto.conf");
    std::fs::write(&conf, format!("restore_command = '{call} fetch {POLICY} %f %p'\n")).unwrap();
    std::fs::write(to.join("recovery.signal"), "").unwrap();
    for path in [conf, to.join("recovery.signal")] {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
    }
    let back = started(&bench.server, to);
    assert_eq!(back.sql(DATABASE, "select count(*) from beat"), "5");
}

/// A drill of our own: the backup and the log behind it, or the backup alone.
fn drill(bench: &Bench, until: &str, checks: &str) {
    let text = format!(
        "[drill]\nname = \"pit\"\ndescription = \"the log too\"\nbackup = {{ pick = \"latest\", method = \"physical\" }}\nloss = \"now\"\n\
         [scratch]\nkind = \"cluster\"\nisolation = \"required\"\n[[steps]]\nrestore.until = \"{until}\"\n\
         [[steps]]\nawait-ready = {{ query = \"select 1\", within = \"5s\", timeout = \"1m\" }}\n{checks}"
    );
    bench.home.write_drill("pit", &text);
}

fn asks(sql: &str) -> String {
    format!("[[steps]]\ncheck = {{ name = \"assert\", sql = \"{sql}\", is = true }}\n")
}

fn named(name: &str) -> String {
    format!("[[steps]]\ncheck.name = \"{name}\"\n")
}

#[test]
fn a_drill_replays_the_log_and_measures_what_would_be_lost() {
    let bench = Bench::new();
    bench.beat(1, 2);
    bench.home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    bench.beat(3, 8);
    bench.archive();
    let last = bench
        .server
        .sql(DATABASE, "select to_char(max(at) at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') from beat");
    // Committed, and not in the store when it is lost.
    bench.beat(9, 9);
    let seen = |count: i32| asks(&format!("select count(*) = {count} and max(n) = {count} from beat"));
    let ran = |code: i32| bench.home.run(&["drill", POLICY, "--drill", "pit", "--output", "json"]).expect(code).json();

    drill(
        &bench,
        "latest",
        &(named("manifest") + &named("page_checksums") + &named("amcheck") + &named("content") + &seen(8)),
    );
    let transcript = ran(0);
    let log = &transcript["log"];
    // The commit that the row's own clock was read just before.
    let commit: jiff::Timestamp = log["last_commit"].as_str().unwrap().parse().unwrap();
    let row: jiff::Timestamp = last.parse().unwrap();
    let after = commit.duration_since(row);
    assert!(!after.is_negative() && after.as_millis() < 1_000, "{commit} and {row}");
    let lost: jiff::Timestamp = transcript["lost_at"].as_str().unwrap().parse().unwrap();
    let rpa = transcript["judgement"]["rpa"].as_f64().unwrap();
    assert!((rpa - lost.duration_since(commit).as_secs_f64()).abs() < 0.01, "{rpa}");
    let report = bench.home.run(&["report", POLICY]).expect(0);
    assert!(report.stdout.contains("log behind it") && report.stdout.contains("replayed to"), "{}", report.stdout);

    drill(&bench, "backup", &(named("completeness") + &named("content") + &seen(2)));
    let alone = ran(0);
    assert!(alone.get("log").is_none() && alone["judgement"]["rpa"].as_f64().unwrap() > rpa, "{alone}");

    // What was changed at the source since is no finding, and no proof either.
    bench.server.sql(DATABASE, "create table later (n int); create index on beat (at)");
    bench.archive();
    drill(&bench, "latest", &named("completeness"));
    let changed = ran(4);
    assert!(changed["judgement"]["reasons"].to_string().contains("may have been changed at the source"), "{changed}");
    drill(&bench, "latest", &(named("manifest") + &seen(9)));
    ran(0);

    // A row that is asked for and not there is a finding, as ever.
    drill(&bench, "latest", &seen(10));
    ran(3);
}

#[test]
fn a_drill_fails_on_a_hole_in_the_log_and_names_it() {
    let bench = Bench::new();
    bench.home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    let mut names = vec![];
    for n in 1..=4 {
        bench.beat(n, n);
        names = bench.archive();
    }
    let segments: Vec<&String> = names.iter().filter(|name| name.len() == 24).collect();
    let hole = segments[segments.len() - 2];
    drill(&bench, "latest", &asks("select true"));
    let ran = |code: i32| bench.home.run(&["drill", POLICY, "--drill", "pit"]).expect(code).stdout;
    ran(0);
    let (object, record) = bench.objects(hole);
    let good = (std::fs::read(&object).unwrap(), std::fs::read(&record).unwrap());
    std::fs::remove_file(&record).unwrap();
    assert!(ran(3).contains(hole.as_str()), "a hole");
    std::fs::write(&record, &good.1).unwrap();
    std::fs::remove_file(&object).unwrap();
    assert!(ran(3).contains(hole.as_str()), "an object that is gone");
    let mut bytes = good.0.clone();
    bytes[good.0.len() / 2] ^= 1;
    std::fs::write(&object, bytes).unwrap();
    assert!(ran(3).contains(hole.as_str()), "a flipped bit");
    std::fs::write(&object, &good.0).unwrap();
    let mut text = good.1.clone();
    text[30] ^= 1;
    std::fs::write(&record, text).unwrap();
    assert!(ran(3).contains(hole.as_str()), "a record that nobody signed");
    std::fs::write(&record, &good.1).unwrap();
    ran(0);
    // The end of it is lost: that is no hole, and the loss is larger.
    let newest = bench.objects(segments[segments.len() - 1]);
    std::fs::remove_file(newest.0).unwrap();
    std::fs::remove_file(newest.1).unwrap();
    drill(&bench, "latest", &asks("select count(*) = 3 from beat"));
    ran(0);
    assert!(walk(&bench.home.scratch()).is_empty());
}

#[test]
fn the_runbook_brings_the_log_back_with_public_tools_alone() {
    let bench = Bench::new();
    drill(&bench, "latest", &asks("select true"));
    bench.home.edit_policy(|text| text.replace("use = \"restore-latest\"", "use = \"pit\""));
    bench.home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    bench.beat(1, 5);
    bench.archive();
    let runbook = bench.home.run(&["runbook", POLICY]).expect(0).stdout;
    let block = runbook.split("```sh\n").find(|block| block.contains("../wal/")).expect("a block about the log");
    let commands = block.split("```").next().unwrap();
    let (ran, to) = bench.restore("by-hand", &[]);
    ran.expect(0);
    let done = std::process::Command::new("bash")
        .args(["-euc", commands])
        .current_dir(bench.home.newest_backup())
        .env("KEY", bench.home.path().join("keys/escrow.agekey"))
        .env("TARGET", &to)
        .status();
    assert!(done.unwrap().success(), "{commands}");
    std::fs::write(to.join("postgresql.auto.conf"), "restore_command = false\n").unwrap();
    if let Some((uid, gid)) = unprivileged() {
        walk(&to).iter().for_each(|path| std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap());
    }
    let back = started(&bench.server, to);
    assert_eq!(back.sql(DATABASE, "select count(*) from beat"), "5");
}
