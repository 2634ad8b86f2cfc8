//! The spool: a store that is down costs no log, whoever is killed, and nobody is told that it is safe.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use lifeboat::domain::ids::{BackupId, PolicyName};
use lifeboat::engine::wal::Log;
use lifeboat::judge::wal::{self, Follow};
use lifeboat::seal::{self, Opener, TrustedSigners};
use lifeboat::store::{FileStore, Store};

use crate::support::data::DATABASE;
use crate::support::home::{POLICY, Ran, ran, walk};
use crate::support::receiver::Receiver;
use crate::wal::Bench;

/// A bench with a backup and a spool of this size, beside the store.
fn bench(max: &str) -> (Bench, PathBuf) {
    let bench = Bench::new();
    bench.home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    bench.archive();
    bench.home.edit_policy(|text| format!("{text}\n[wal]\nspool = {{ dir = \"../spool\", max = \"{max}\" }}\n"));
    let spool = bench.home.path().join("spool");
    (bench, spool)
}

/// The store is renamed while this is there.
struct Away(PathBuf);

impl Away {
    fn take(bench: &Bench) -> Away {
        let store = bench.home.store();
        std::fs::rename(&store, store.with_extension("away")).unwrap();
        Away(store)
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        std::fs::rename(self.0.with_extension("away"), &self.0).unwrap();
    }
}

fn flush(bench: &Bench) -> Ran {
    bench.home.run(&["wal", "flush", POLICY])
}

/// What lies in the spool: records and objects.
fn lying(spool: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let files = walk(spool).into_iter().filter(|path| path.to_str().unwrap().contains("/wal/"));
    let (mut records, mut objects): (Vec<_>, Vec<_>) =
        files.partition(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    records.sort();
    objects.sort();
    (records, objects)
}

/// The last commit that the store could bring back, of what it had by a moment.
fn last_commit_by(bench: &Bench, by: Option<jiff::Timestamp>) -> Option<jiff::Timestamp> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let policy: PolicyName = POLICY.parse().unwrap();
    let store: Arc<dyn Store> = Arc::new(FileStore::open_existing(&bench.home.store()).unwrap());
    let key = |name: &str| bench.home.path().join("keys").join(name);
    let opener = Opener::read(&[key("working.agekey")]).unwrap();
    let trusted = TrustedSigners::read(&[key("signing.pub.pem")]).unwrap();
    let backup: BackupId = bench.home.newest_backup().file_name().unwrap().to_str().unwrap().parse().unwrap();
    runtime.block_on(async {
        let log = Log::list(&[Arc::clone(&store)], &policy, &trusted).await.unwrap();
        let sealed = seal::load_manifest(&*store, &policy, &backup, &trusted).await.unwrap();
        let (archive, findings) = log.behind(&sealed.manifest, &opener, by).await.unwrap();
        assert_eq!(findings, vec![]);
        wal::reach(sealed.manifest.wal.as_ref().unwrap(), &archive, Follow::Latest)
            .unwrap()
            .last_commit
            .map(|last| last.at)
    })
}

/// Ends the segment and waits for it; gives the name of its file, which nobody has pushed.
fn segment(bench: &Bench) -> String {
    let last = bench.server.sql(DATABASE, "select pg_walfile_name(pg_switch_wal())");
    for _ in 0..1000 {
        if bench.archive.join(&last).exists() {
            return last;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{last} was not archived");
}

#[test]
fn what_waits_in_the_spool_is_told_and_comes_back_with_the_store() {
    let (bench, spool) = bench("64 MiB");
    bench.beat(1, 3);
    bench.archive();
    let status = || ran(bench.home.command(&["status", POLICY]).env("COLUMNS", "160")).stdout;
    assert!(!spool.exists() && !status().contains("spool"), "nothing waits");
    assert!(flush(&bench).expect(0).stdout.contains("nothing waits"));
    let before_away = bench.now().parse::<jiff::Timestamp>().unwrap();
    let away = Away::take(&bench);
    bench.beat(4, 6);
    let names = bench.archive();
    bench.beat(7, 8);
    let last = segment(&bench);
    let path = bench.archive.join(&last);
    let push = || bench.home.run(&["--output", "json", "wal", "push", POLICY, path.to_str().unwrap()]);
    let pushed = push().expect(0);
    assert_eq!((&pushed.json()["spooled"], &pushed.json()["pushed"]["already"]), (&true.into(), &false.into()));
    for says in ["takes nothing", "is in the spool", "of the log", "since", "left", "does NOT have them"] {
        assert!(pushed.stderr.contains(says), "{says}: {pushed:?}");
    }
    // The same again is a success, other bytes are not, and change nothing.
    assert_eq!(push().expect(0).json()["pushed"]["already"], true);
    let good = std::fs::read(&path).unwrap();
    let mut other = good.clone();
    *other.last_mut().unwrap() ^= 1;
    let before = lying(&spool).1.iter().map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>();
    std::fs::write(&path, other).unwrap();
    assert!(push().expect(1).stderr.contains("other bytes"));
    std::fs::write(&path, &good).unwrap();
    assert_eq!(std::fs::metadata(&spool).unwrap().permissions().mode() & 0o777, 0o700);
    // All that the server ever archived was pushed again, and so waits.
    let (records, objects) = lying(&spool);
    assert_eq!((records.len(), objects.len()), (names.len() + 1, names.len() + 1));
    assert!(flush(&bench).expect(1).stderr.contains("takes nothing"));
    drop(away);
    let in_spool = lifeboat::clock::now();

    let said = status();
    assert!(said.contains("wait in the spool since") && said.contains("the store does not have them"), "{said}");
    assert_ne!(bench.home.run(&["status", POLICY]).code, 0);
    assert!(bench.home.run(&["find", POLICY, "--reach", "latest"]).stdout.contains("reachable"));
    assert_eq!(bench.brought("before", &["--until", "latest"]).0, 3);
    let flushed = bench.home.run(&["--output", "json", "wal", "flush", POLICY]).expect(0).json();
    assert_eq!(flushed["flushed"]["moved"].as_array().unwrap().len(), names.len() + 1);
    assert_eq!(lying(&spool), (vec![], vec![]));
    assert!(!status().contains("spool"));
    // It was sealed before, and counts as stored from now on: a loss before that would have cost it.
    assert!(last_commit_by(&bench, Some(in_spool)).is_none_or(|last| last <= before_away));
    assert!(last_commit_by(&bench, None).is_some_and(|last| last > before_away));
    // What came into the store is what had waited, byte for byte.
    let (object, record) = bench.objects(&last);
    assert!(before.contains(&std::fs::read(&object).unwrap()));
    assert!(std::fs::read_to_string(record).unwrap().contains("\"stored_at\""));
    bench.home.run(&["verify", POLICY, "--wal"]).expect(0);
    assert_eq!(bench.brought("after", &["--until", "latest"]).0, 8);
}

#[test]
fn the_next_push_and_a_receiver_bring_it_there_first_and_the_oldest_first() {
    let (bench, spool) = bench("64 MiB");
    let away = Away::take(&bench);
    bench.beat(1, 2);
    let first = segment(&bench);
    bench.push(&first).expect(0);
    drop(away);
    bench.beat(3, 3);
    let second = segment(&bench);
    let pushed = bench.push(&second).expect(0);
    assert!(!pushed.stderr.contains("spool"), "{pushed:?}");
    assert!(bench.objects(&first).1.exists() && bench.objects(&second).1.exists());
    assert_eq!(lying(&spool), (vec![], vec![]));
    let away = Away::take(&bench);
    bench.beat(4, 5);
    let third = segment(&bench);
    bench.push(&third).expect(0);
    drop(away);
    bench.home.edit_policy(|text| text.replace("[wal]\n", "[wal]\nstream = true\n"));
    let receiver = Receiver::start(&bench.home);
    assert!(bench.objects(&third).1.exists());
    receiver.stop();
    assert_eq!(lying(&spool), (vec![], vec![]));
    assert_eq!(bench.brought("back", &["--until", "latest"]).0, 5);
}

#[test]
fn beyond_the_bound_the_source_keeps_its_log() {
    let (bench, spool) = bench("40 KiB");
    let away = Away::take(&bench);
    let (mut spooled, mut refused) = (0, None);
    for n in 1..=40 {
        bench.beat(n, n);
        let name = segment(&bench);
        let ran = bench.push(&name);
        if ran.code == 1 {
            assert!(ran.stderr.contains("is full") && ran.stderr.contains("hint:"), "{ran:?}");
            refused = Some((name, n));
            break;
        }
        ran.expect(0);
        spooled += 1;
    }
    let (name, n) = refused.expect("the bound was never reached");
    let bytes: u64 = walk(&spool).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(spooled > 0 && bytes <= 40 << 10, "{spooled} files, {bytes} bytes");
    // What is there already needs no room.
    assert_eq!(bench.push(&name).code, 1);
    drop(away);
    let names = bench.archive();
    assert!(names.contains(&name) && bench.objects(&name).1.exists());
    assert_eq!(lying(&spool), (vec![], vec![]));
    bench.home.run(&["verify", POLICY, "--wal"]).expect(0);
    assert_eq!(bench.brought("back", &["--until", "latest"]).0, n);
}

#[test]
fn what_differs_or_is_damaged_stays_and_is_said_and_is_in_nobodys_way() {
    let (bench, spool) = bench("64 MiB");
    let away = Away::take(&bench);
    bench.beat(1, 1);
    let name = segment(&bench);
    bench.push(&name).expect(0);
    drop(away);
    // Another got there meanwhile, with other bytes.
    std::fs::rename(&spool, spool.with_extension("aside")).unwrap();
    let path = bench.archive.join(&name);
    let good = std::fs::read(&path).unwrap();
    let mut other = good.clone();
    *other.last_mut().unwrap() ^= 1;
    std::fs::write(&path, other).unwrap();
    bench.push(&name).expect(0);
    std::fs::write(&path, good).unwrap();
    std::fs::rename(spool.with_extension("aside"), &spool).unwrap();
    let said = flush(&bench).expect(1);
    assert!(said.stderr.contains(&name) && said.stderr.contains("with other bytes"), "{said:?}");
    bench.beat(2, 2);
    let next = segment(&bench);
    let pushed = bench.push(&next).expect(0);
    assert!(pushed.stderr.contains(&name) && bench.objects(&next).1.exists(), "{pushed:?}");
    assert_eq!(lying(&spool).0.len(), 1);
    // The store's is taken away by hand: then the spool's own goes there. But not if it is not what was signed, or is not whole.
    let (object, record) = bench.objects(&name);
    std::fs::remove_file(&object).unwrap();
    std::fs::remove_file(&record).unwrap();
    let (records, objects) = lying(&spool);
    for (path, at, says) in [(&records[0], 40, "signature"), (&objects[0], 400, "SHA-256")] {
        let bytes = std::fs::read(path).unwrap();
        let mut broken = bytes.clone();
        broken[at] ^= 1;
        std::fs::write(path, broken).unwrap();
        let said = flush(&bench).expect(1);
        assert!(said.stderr.contains(says) && !record.exists(), "{says}: {said:?}");
        std::fs::write(path, bytes).unwrap();
    }
    // A damaged one in the store is no reason to let go of a good one.
    flush(&bench).expect(0);
    let (good, of) = (std::fs::read(&object).unwrap(), std::fs::read(&record).unwrap());
    let away = Away::take(&bench);
    bench.push(&name).expect(0);
    drop(away);
    std::fs::write(&object, &good[..good.len() / 2]).unwrap();
    let said = flush(&bench).expect(1);
    assert!(said.stderr.contains("length") && lying(&spool).0.len() == 1, "{said:?}");
    std::fs::write(&object, good).unwrap();
    flush(&bench).expect(0);
    assert_eq!(of, std::fs::read(&record).unwrap());
}

#[test]
fn killed_at_any_moment_it_leaves_no_gap_and_no_litter() {
    let (bench, spool) = bench("64 MiB");
    let mut random = [0_u8; 64];
    getrandom::fill(&mut random).unwrap();
    let mut waits = random.iter().map(|byte| Duration::from_micros(u64::from(*byte) * 400));
    let mut killed = |args: &[&str]| {
        let wait = waits.next().unwrap();
        let mut child = bench.home.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(wait);
        child.kill().unwrap();
        println!("killed after {wait:?}: {:?}", child.wait().unwrap().code());
    };
    for round in 0..4 {
        let away = Away::take(&bench);
        for n in [round * 3 + 1, round * 3 + 2, round * 3 + 3] {
            bench.beat(n, n);
            let path = bench.archive.join(segment(&bench));
            for _ in 0..3 {
                killed(&["wal", "push", POLICY, path.to_str().unwrap()]);
            }
            // The server asks until it hears of success.
            bench.home.run(&["wal", "push", POLICY, path.to_str().unwrap()]).expect(0);
        }
        drop(away);
        for _ in 0..3 {
            killed(&["wal", "flush", POLICY]);
        }
        flush(&bench).expect(0);
        assert_eq!(lying(&spool), (vec![], vec![]));
    }
    bench.home.run(&["verify", POLICY, "--wal"]).expect(0);
    assert_eq!(bench.brought("back", &["--until", "latest"]).0, 12);
}

#[test]
fn a_carrier_that_was_killed_between_any_two_steps_is_followed_by_another() {
    let (bench, spool) = bench("64 MiB");
    let away = Away::take(&bench);
    bench.beat(1, 1);
    let name = segment(&bench);
    bench.push(&name).expect(0);
    drop(away);
    let (records, objects) = lying(&spool);
    let (object, record) = bench.objects(&name);
    let waiting = (std::fs::read(&records[0]).unwrap(), std::fs::read(&objects[0]).unwrap());
    let again = || {
        for (path, bytes) in [(&records[0], &waiting.0), (&objects[0], &waiting.1)] {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    };
    // The object was there, and its record was not: it is taken for what it is.
    std::fs::create_dir_all(object.parent().unwrap()).unwrap();
    std::fs::copy(&objects[0], &object).unwrap();
    flush(&bench).expect(0);
    assert!(record.exists() && !object.with_file_name(format!("{name}.1.zst.age")).exists());
    // An object of another, killed push has that name: this one gets another, and the record says so.
    again();
    std::fs::remove_file(&record).unwrap();
    std::fs::write(&object, b"sealed by another").unwrap();
    flush(&bench).expect(0);
    assert!(object.with_file_name(format!("{name}.1.zst.age")).exists());
    bench.home.run(&["verify", POLICY, "--wal"]).expect(0);
    // Both were there, and nothing was taken away; or only the object was.
    again();
    flush(&bench).expect(0);
    again();
    std::fs::remove_file(&objects[0]).unwrap();
    {
        // While the store cannot be asked, a record without its object is no success.
        let _away = Away::take(&bench);
        assert!(bench.push(&name).expect(1).stderr.contains("not the file itself"));
    }
    flush(&bench).expect(0);
    assert_eq!(lying(&spool), (vec![], vec![]));
    // Two at once, and ten, in both directions.
    let at_once = |args: &[&str]| {
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..10).map(|_| scope.spawn(|| ran(&mut bench.home.command(args)))).collect();
            running.into_iter().for_each(|one| drop(one.join().unwrap().expect(0)));
        });
    };
    let path = bench.archive.join(&name);
    let away = Away::take(&bench);
    at_once(&["wal", "push", POLICY, path.to_str().unwrap()]);
    assert_eq!((lying(&spool).0.len(), lying(&spool).1.len()), (1, 1));
    drop(away);
    at_once(&["wal", "flush", POLICY]);
    assert_eq!(lying(&spool), (vec![], vec![]));
    bench.home.run(&["verify", POLICY, "--wal"]).expect(0);
}

#[test]
fn a_spool_is_asked_for_and_tried_beforehand() {
    let bench = Bench::new();
    assert!(flush(&bench).expect(2).stderr.contains("has no spool"));
    let plain = std::fs::read_to_string(bench.home.path().join("policies/orders.toml")).unwrap();
    let with = |spool: &str| bench.home.edit_policy(|_| format!("{plain}\n[wal]\nspool = {spool}\n"));
    for (spool, says) in [
        ("{ dir = \"x\" }", "max"),
        ("{ max = \"1 GiB\" }", "dir"),
        ("{ dir = \"x\", max = \"0\" }", "no room at all"),
        ("{ dir = \"x\", max = \"much\" }", "much"),
        ("{ dir = \"x\", max = \"1 GiB\", min = 1 }", "min"),
        ("\"x\"", "spool"),
    ] {
        with(spool);
        let ran = bench.home.run(&["check", "--offline"]).expect(2);
        assert!(ran.stderr.contains(says), "{spool}: {ran:?}");
    }
    let tried = || {
        let json = bench.home.run(&["--output", "json", "check"]).json();
        let tried = json["tried"].as_array().unwrap().iter().find(|one| one["area"] == "spool").unwrap().clone();
        tried.to_string()
    };
    with("{ dir = \"../spool\", max = \"1 MiB\" }");
    assert!(tried().contains("will be made"), "{}", tried());
    with("{ dir = \"nowhere/spool\", max = \"1 MiB\" }");
    assert!(tried().contains("no folder"), "{}", tried());
    // No spool, or none that can be made: the file is refused, and the source keeps it.
    bench.home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    let name = segment(&bench);
    let _away = Away::take(&bench);
    assert!(bench.push(&name).expect(1).stderr.contains("parent folder"), "{:?}", bench.push(&name));
    bench.home.edit_policy(|_| plain.clone());
    assert!(bench.push(&name).expect(1).stderr.contains("is not there"), "{:?}", bench.push(&name));
}
