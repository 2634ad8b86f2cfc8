//! Segments that `wal fetch` keeps ready: what is given out is right, or comes from the store, whatever happened to what lay ready.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::data::DATABASE;
use crate::support::home::{Home, POLICY, Ran, walk};
use crate::support::recovered::{numbers, out_of_recovery, restored};
use crate::support::server::{Options, Server, command, unprivileged};

const AHEAD: &str = "lifeboat.ahead";

/// A source, a home whose store holds a backup and the log behind it, and the same log as it was.
struct Bench {
    server: Server,
    home: Home,
    archive: PathBuf,
    /// All segments behind the backup.
    segments: Vec<String>,
    rows: i32,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new(segments: i32) -> Bench {
        let folder = tempfile::Builder::new().prefix("lb-archive-").tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let archive = folder.path().to_owned();
        let copy = format!("cp %p {}/%f.tmp && mv {0}/%f.tmp {0}/%f", archive.display());
        let conf = format!("archive_mode = on\narchive_command = '{copy}'");
        let initdb = vec!["--locale=C.UTF-8", "--wal-segsize=1"];
        let server = Server::start_with(Options { conf, initdb, ..Options::default() });
        server.sql("postgres", &format!("create database {DATABASE}"));
        server.sql(DATABASE, "create table beat (n int primary key, at timestamptz not null)");
        let home = Home::new(&server, DATABASE);
        home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
        // The segment in which the backup ended is behind it too.
        let first = server.sql(DATABASE, "select pg_walfile_name(pg_switch_wal())");
        let (each, mut last) = (20, String::new());
        for at in 0..segments {
            let (from, to) = (at * each + 1, (at + 1) * each);
            server.sql(DATABASE, &format!("insert into beat select n, now() from generate_series({from}, {to}) n"));
            last = server.sql(DATABASE, "select pg_walfile_name(pg_switch_wal())");
        }
        until("the last segment is archived", || archive.join(&last).exists());
        let mut names: Vec<String> =
            walk(&archive).iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        for name in &names {
            home.run(&["wal", "push", POLICY, archive.join(name).to_str().unwrap()]).expect(0);
        }
        let segments = names.into_iter().filter(|name| name.len() == 24 && *name > first).collect();
        Bench { rows: numbers(&server), server, home, archive, segments, _folder: folder }
    }

    fn original(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.archive.join(name)).unwrap()
    }

    /// The object of a segment, and its record.
    fn objects(&self, name: &str) -> [PathBuf; 2] {
        let folder = self.home.store().join(POLICY).join("wal").join(&name[..8]);
        [folder.join(format!("{name}.zst.age")), folder.join(format!("{name}.jsonl"))]
    }

    /// A folder like a server's `pg_wal`, with its destination.
    fn destination(&self, name: &str) -> PathBuf {
        let folder = self.home.path().join(name).join("pg_wal");
        std::fs::create_dir_all(&folder).unwrap();
        folder.join("RECOVERYXLOG")
    }

    fn fetch(&self, name: &str, to: &Path) -> Ran {
        self.home.run(&["wal", "fetch", POLICY, name, to.to_str().unwrap()])
    }

    /// Fetches a segment, and fails unless it is the right one.
    fn fetched(&self, name: &str, to: &Path) {
        self.fetch(name, to).expect(0);
        assert_eq!(std::fs::read(to).unwrap(), self.original(name), "{name}");
        std::fs::remove_file(to).unwrap();
    }

    /// Fetches the first segment to a new destination, and waits until the second lies ready; its file, and the destination.
    fn ready(&self, name: &str) -> (PathBuf, PathBuf) {
        let to = self.destination(name);
        self.fetched(&self.segments[0], &to);
        (self.lies_ready(&self.segments[1], &to), to)
    }

    fn lies_ready(&self, name: &str, to: &Path) -> PathBuf {
        let there = || ahead(to).into_iter().find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(name));
        until(&format!("{name} lies ready"), || there().is_some());
        there().unwrap()
    }

    /// Damages the object of a segment in the store for as long as `work` takes.
    fn with_damage(&self, name: &str, work: impl FnOnce()) {
        let [object, _] = self.objects(name);
        let good = std::fs::read(&object).unwrap();
        let mut bytes = good.clone();
        bytes[good.len() / 2] ^= 1;
        std::fs::write(&object, bytes).unwrap();
        work();
        std::fs::write(&object, good).unwrap();
    }

    /// A restored folder that asks for each file itself, and what it asks with.
    fn recovering(&self, name: &str, options: &str) -> PathBuf {
        let to = self.home.path().join(name);
        restored(&self.home, &to, &[]);
        let lifeboat = self.home.path().join("lifeboat");
        if !lifeboat.exists() {
            std::fs::copy(assert_cmd::cargo::cargo_bin!("lifeboat"), &lifeboat).unwrap();
            std::fs::set_permissions(&lifeboat, PermissionsExt::from_mode(0o755)).unwrap();
        }
        let config = self.home.path().join("lifeboat.toml");
        let (lifeboat, config) = (lifeboat.display(), config.display());
        let restore = format!("restore_command = '{lifeboat} --config {config} wal fetch {options} {POLICY} %f %p'\n");
        std::fs::write(to.join("postgresql.auto.conf"), format!("{restore}archive_mode = off\n")).unwrap();
        std::fs::write(to.join("recovery.signal"), "").unwrap();
        // Everything belongs to the server's user, as it would on a database's host.
        if let Some((uid, gid)) = unprivileged() {
            let owner = format!("{uid}:{gid}");
            assert!(Command::new("chown").args(["-R", &owner]).arg(self.home.path()).status().unwrap().success());
        }
        to
    }

    /// Processes of this home that were started as `lifeboat … wal <word> …`.
    fn processes(&self, word: &str) -> Vec<Pid> {
        let home = self.home.path().to_str().unwrap();
        let ours = |id: &str| {
            let words = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            let words: Vec<String> =
                words.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            let lifeboat = words.first().is_some_and(|first| first.ends_with("lifeboat"));
            lifeboat && words.iter().any(|one| one == word) && words.iter().any(|one| one.contains(home))
        };
        let ids =
            std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
        ids.filter(|id| ours(id)).filter_map(|id| Pid::from_raw(id.parse().ok()?)).collect()
    }

    fn kill(&self, word: &str) -> bool {
        let processes = self.processes(word);
        for id in &processes {
            let _ = kill_process(*id, Signal::KILL);
        }
        !processes.is_empty()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // They would end by themselves a little later.
        self.kill("ahead");
    }
}

/// What is done to a file that lies ready.
type Change<'a> = &'a dyn Fn(&Path);
/// What is done before or after.
type Step<'a> = &'a dyn Fn();

/// What lies ready beside a destination.
fn ahead(to: &Path) -> Vec<PathBuf> {
    let segment = |path: &PathBuf| path.file_name().unwrap().len() == 24 + 1 + 64;
    walk(&to.with_file_name(AHEAD)).into_iter().filter(segment).collect()
}

#[track_caller]
fn until(what: &str, mut seen: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !seen() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it did not come to pass that {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Numbers that look random, from a seed that is printed.
struct Dice(u64);

impl Dice {
    fn new() -> Dice {
        let seed = u64::from(std::process::id()) * 2_654_435_761;
        println!("seed {seed}");
        Dice(seed | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Nothing of lifeboat's is in `pg_wal`, or in a moment is no more.
fn nothing_stays(data: &Path) {
    let entries = || std::fs::read_dir(data.join("pg_wal")).unwrap().flatten();
    until("nothing of ours is in pg_wal", || {
        !entries().any(|one| one.file_name().to_string_lossy().contains("lifeboat"))
    });
}

#[test]
fn a_server_that_asks_gets_every_row_back_and_nothing_of_ours_stays() {
    let bench = Bench::new(24);
    for (name, options) in [("with", ""), ("without", "--ahead 0"), ("few", "--ahead 2")] {
        let data = bench.recovering(name, options);
        let mut back = Server::adopt(&bench.server, data.clone());
        back.launch();
        out_of_recovery(&back);
        assert_eq!(numbers(&back), bench.rows, "{name}");
        nothing_stays(&data);
        until("nobody fills any more", || bench.processes("ahead").is_empty());
    }
    // A server that stops at a target never hears that the log has an end.
    let data = bench.recovering("target", "");
    let conf = data.join("postgresql.auto.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    let target = "recovery_target = 'immediate'\nrecovery_target_action = 'promote'\n";
    std::fs::write(&conf, text + target).unwrap();
    let mut back = Server::adopt(&bench.server, data.clone());
    back.launch();
    out_of_recovery(&back);
    nothing_stays(&data);
}

#[test]
fn segments_lie_ready_for_the_next_fetch_and_no_other() {
    let bench = Bench::new(24);
    let (_, to) = bench.ready("ready");
    // It comes from where it lies: the store could not give it any more.
    bench.with_damage(&bench.segments[1], || bench.fetched(&bench.segments[1], &to));
    bench.with_damage(&bench.segments[1], || drop(bench.fetch(&bench.segments[1], &to).expect(200)));
    // The process follows, and never holds more than it was told to.
    for (at, name) in bench.segments.iter().enumerate().skip(2) {
        if let Some(next) = bench.segments.get(at + 1) {
            bench.lies_ready(next, &to);
        }
        assert!(ahead(&to).len() <= 17, "{:?}", ahead(&to));
        bench.with_damage(name, || bench.fetched(name, &to));
    }
    // A server that begins again somewhere else.
    bench.fetched(&bench.segments[3], &to);
    bench.lies_ready(&bench.segments[4], &to);
    // One that goes back by one gets it from the store: what was given out is not there twice.
    bench.fetched(&bench.segments[3], &to);
    // The end: nothing stays.
    let absent = "0000000100000000000000F0";
    until("the folder is gone", || {
        bench.fetch(absent, &to).expect(1);
        !to.with_file_name(AHEAD).exists()
    });
    // Switched off, nothing is made.
    let to = bench.destination("off");
    let args = ["wal", "fetch", "--ahead", "0", POLICY, &bench.segments[0], to.to_str().unwrap()];
    bench.home.run(&args).expect(0);
    assert!(!to.with_file_name(AHEAD).exists());
}

#[test]
fn what_was_changed_where_it_lay_is_never_given_out() {
    let bench = Bench::new(4);
    let (first, second) = (&bench.segments[1], &bench.segments[2]);
    let flip = |path: &Path, at: usize| {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[at] ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    let half = |path: &Path| std::fs::write(path, &std::fs::read(path).unwrap()[..1 << 19]).unwrap();
    let longer = |path: &Path| std::fs::write(path, [std::fs::read(path).unwrap(), vec![0; 9]].concat()).unwrap();
    let outside = bench.home.path().join("outside");
    std::fs::write(&outside, vec![7; 1 << 20]).unwrap();
    // Another segment, whole and under its own right hash, with this one's name before it.
    let swapped = |path: &Path| {
        let folder = path.parent().unwrap();
        let other = bench.lies_ready(second, &folder.with_file_name("RECOVERYXLOG"));
        let name = other.file_name().unwrap().to_str().unwrap().replace(second.as_str(), first);
        std::fs::remove_file(path).unwrap();
        std::fs::rename(other, folder.join(name)).unwrap();
    };
    let linked = |path: &Path| {
        std::fs::remove_file(path).unwrap();
        symlink(&outside, path).unwrap();
    };
    let piped = |path: &Path| {
        std::fs::remove_file(path).unwrap();
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    let open_to_all = |path: &Path| {
        flip(path, 99);
        std::fs::set_permissions(path.parent().unwrap(), PermissionsExt::from_mode(0o777)).unwrap();
    };
    let folder_linked = |path: &Path| {
        let folder = path.parent().unwrap();
        std::fs::rename(folder, folder.with_file_name("elsewhere")).unwrap();
        symlink(folder.with_file_name("elsewhere"), folder).unwrap();
    };
    let no_news = |path: &Path| std::fs::write(path.with_file_name("at"), "{}").unwrap();
    let (start, middle, end) =
        (|path: &Path| flip(path, 0), |path: &Path| flip(path, 1 << 19), |path: &Path| flip(path, (1 << 20) - 1));
    let changes: [(&str, Change<'_>); 11] = [
        ("start", &start),
        ("middle", &middle),
        ("end", &end),
        ("half", &half),
        ("longer", &longer),
        ("swapped", &swapped),
        ("linked", &linked),
        ("piped", &piped),
        ("open", &open_to_all),
        ("folder", &folder_linked),
        ("news", &no_news),
    ];
    for (name, change) in changes {
        let (path, to) = bench.ready(name);
        // Who fills is ended only when all that a change takes is there.
        bench.lies_ready(second, &to);
        bench.kill("ahead");
        change(&path);
        // Where the store cannot help, nothing is given out at all.
        bench.with_damage(first, || {
            bench.fetch(first, &to).expect(200);
            assert!(!to.exists(), "{name}");
        });
        bench.fetched(first, &to);
        bench.fetched(second, &to);
    }
    assert_eq!(std::fs::read(&outside).unwrap(), vec![7; 1 << 20], "it was written through a link");
}

#[test]
fn what_was_fetched_for_another_store_policy_or_key_is_not_given_out() {
    let bench = Bench::new(4);
    let name = &bench.segments[1];
    let (home, config) = (bench.home.path(), bench.home.path().join("lifeboat.toml"));
    let other = home.join("other.toml");
    std::fs::copy(&config, &other).unwrap();
    let touch = |path: &Path| {
        let text = std::fs::read(path).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let (store, key) = (bench.home.store(), home.join("keys/working.agekey"));
    let (store, key) = (store.to_str().unwrap(), key.to_str().unwrap());
    // A store of somebody else that has never heard of the segment.
    let stranger = home.join("stranger");
    assert!(Command::new("cp").args(["-r", store]).arg(&stranger).status().unwrap().success());
    for path in bench.objects(name) {
        std::fs::remove_file(stranger.join(path.strip_prefix(bench.home.store()).unwrap())).unwrap();
    }
    let stranger = stranger.to_str().unwrap();

    let policy = home.join(format!("policies/{POLICY}.toml"));
    let replaced = || {
        let away = bench.home.store().with_extension("away");
        std::fs::rename(bench.home.store(), &away).unwrap();
        assert!(Command::new("cp").args(["-r", stranger, store]).status().unwrap().success());
    };
    let back = || {
        std::fs::remove_dir_all(store).unwrap();
        std::fs::rename(bench.home.store().with_extension("away"), store).unwrap();
    };
    let nothing = || {};
    let by_store = ["--store", stranger, "--identity", key];
    let by_config = ["--config", other.to_str().unwrap()];
    let cases: [(&str, &[&str], Step<'_>, Step<'_>); 5] = [
        ("store", &by_store, &nothing, &nothing),
        ("config", &by_config, &nothing, &nothing),
        ("changed", &[], &|| touch(&config), &nothing),
        ("policy", &[], &|| touch(&policy), &nothing),
        ("replaced", &[], &replaced, &back),
    ];
    for (case, args, before, after) in cases {
        let (_, to) = bench.ready(case);
        bench.with_damage(name, || {
            before();
            let ran = bench.home.run(&[&["wal", "fetch", POLICY, name, to.to_str().unwrap()], args].concat());
            assert!([1, 200].contains(&ran.code) && !to.exists(), "{case}: {ran:?}");
            after();
        });
        // And the process that filled for the other one does not stand in the way.
        bench.fetched(name, &to);
        until("the next one lies ready", || {
            bench.fetched(&bench.segments[2], &to);
            !ahead(&to).is_empty()
        });
    }
    // The same store and key in other words are fetched ahead too.
    let to = bench.destination("alone");
    let args = |name: &str| ["wal", "fetch", POLICY, name, to.to_str().unwrap()].map(str::to_owned);
    let alone = |name: &str| {
        let args = args(name);
        let args: Vec<&str> = args.iter().map(String::as_str).chain(["--store", store, "--identity", key]).collect();
        bench.home.run(&args).expect(0);
        assert_eq!(std::fs::read(&to).unwrap(), bench.original(name));
    };
    alone(&bench.segments[0]);
    bench.lies_ready(name, &to);
    bench.with_damage(name, || alone(name));
}

#[test]
fn a_hole_and_a_damage_are_told_as_they_are_without_it() {
    let bench = Bench::new(10);
    let (hole, damaged) = (&bench.segments[7], &bench.segments[4]);
    for path in bench.objects(hole) {
        std::fs::remove_file(path).unwrap();
    }
    bench.with_damage(damaged, || {
        for options in [&["--ahead", "16"][..], &["--ahead", "1"], &["--ahead", "0"]] {
            let to = bench.destination(&options.concat());
            for name in &bench.segments {
                let path = to.to_str().unwrap();
                let ran = bench.home.run(&[&["wal", "fetch", POLICY, name, path], options].concat());
                let wanted = if name == hole {
                    1
                } else if name == damaged {
                    200
                } else {
                    0
                };
                assert_eq!((ran.code, to.exists()), (wanted, wanted == 0), "{name} {options:?}: {ran:?}");
                if wanted == 0 {
                    assert_eq!(std::fs::read(&to).unwrap(), bench.original(name), "{name}");
                    std::fs::remove_file(&to).unwrap();
                }
                // Time enough for what lies behind to be fetched, if it were.
                std::thread::sleep(Duration::from_millis(60));
            }
        }
    });
    let (_, to) = bench.ready("behind");
    bench.lies_ready(&bench.segments[6], &to);
    let behind = ahead(&to).iter().any(|path| path.to_str().unwrap().contains(bench.segments[8].as_str()));
    assert!(!behind, "what lies behind a hole is not wanted: {:?}", ahead(&to));
    // A newer timeline that does not have it says nothing of the older one.
    let newer = bench.segments[1].replacen("00000001", "00000002", 1);
    bench.fetch(&newer, &to).expect(1);
    bench.with_damage(&bench.segments[1], || bench.fetched(&bench.segments[1], &to));
}

#[test]
fn whoever_is_killed_and_whenever_no_wrong_byte_is_given_out() {
    let bench = Bench::new(12);
    let mut dice = Dice::new();
    let to = bench.destination("killed");
    let mut given = 0;
    for round in 0..6 {
        for name in &bench.segments {
            loop {
                let args = ["wal", "fetch", POLICY, name, to.to_str().unwrap()];
                let mut fetch = bench.home.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
                std::thread::sleep(Duration::from_micros(dice.below(if round % 2 == 0 { 60_000 } else { 8_000 })));
                if dice.below(3) == 0 {
                    bench.kill("ahead");
                }
                if dice.below(2) == 0 {
                    fetch.kill().unwrap();
                }
                let ended = fetch.wait().unwrap();
                // A server looks at the file only after a success, and removes it before it asks again.
                if ended.success() {
                    assert_eq!(std::fs::read(&to).unwrap(), bench.original(name), "{name}");
                    given += 1;
                } else {
                    assert_eq!(ended.code(), None, "{name}");
                }
                let _ = std::fs::remove_file(&to);
                if ended.success() {
                    break;
                }
            }
        }
    }
    assert_eq!(given, 6 * bench.segments.len());
}

#[test]
fn a_server_whose_fetches_are_killed_gets_every_row_back() {
    let bench = Bench::new(24);
    let data = bench.recovering("killed", "");
    let back = Server::adopt(&bench.server, data.clone());
    let start = || -> Child {
        let mut postgres = command(&back.programs.path("postgres"));
        postgres.arg("-D").arg(&data).arg("-k").arg(&back.socket_dir).args(["-p", &back.port.to_string()]);
        postgres.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let (mut dice, mut server, begun) = (Dice::new(), start(), Instant::now());
    let (mut kills, mut starts) = (0, 1);
    while back.try_sql(DATABASE, "select pg_is_in_recovery()") != Ok("f".to_owned()) {
        assert!(begun.elapsed() < Duration::from_secs(120), "{kills} kills, {starts} starts");
        if kills < 20 {
            std::thread::sleep(Duration::from_millis(dice.below(30)));
            let word = if dice.below(3) == 0 { "ahead" } else { "fetch" };
            kills += i32::from(bench.kill(word));
        }
        if server.try_wait().unwrap().is_some() {
            (server, starts) = (start(), starts + 1);
        }
    }
    println!("{kills} kills, {starts} starts");
    assert_eq!(numbers(&back), bench.rows);
    nothing_stays(&data);
    let id = Pid::from_raw(server.id().cast_signed()).unwrap();
    kill_process(id, Signal::INT).unwrap();
    server.wait().unwrap();
}
