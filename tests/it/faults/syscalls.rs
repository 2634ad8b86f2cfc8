//! The Nth system call fails, is interrupted, or is the last: N = 1, 2, 3, … through every verb that touches a backup.
//!
//! The long form sweeps in rounds: one N for every verb and fault, those that no longer fire left out. `LIFEBOAT_FAULTS_MINUTES`
//! ends it early and it says how far it came, `LIFEBOAT_FAULTS_FROM` is the N to go on from, `LIFEBOAT_FAULTS_WORKS` picks verbs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::strace::{DEAD, FAULTS, Fault, Hurt, hurt, is_here};
use super::{Dice, number, seed, tries};
use crate::support::data::DATABASE;
use crate::support::home::{Home, POLICY, walk};
use crate::support::invariants::{Kept, broken, left};
use crate::support::server::Server;

/// What is hurt: a name, the arguments, and the job and drill that are tried afterwards.
struct Work {
    name: &'static str,
    args: &'static [&'static str],
    drill: &'static str,
}

const WORKS: [Work; 6] = [
    Work { name: "backup-logical", args: &["backup", POLICY, "--job", "logical"], drill: "restore-logical" },
    Work { name: "backup-physical", args: &["backup", POLICY, "--job", "physical"], drill: "restore-latest" },
    Work { name: "drill-logical", args: &["drill", POLICY, "--drill", "restore-logical"], drill: "restore-logical" },
    Work { name: "drill-physical", args: &["drill", POLICY, "--drill", "restore-latest"], drill: "restore-latest" },
    Work { name: "verify", args: &["verify", POLICY], drill: "" },
    Work { name: "restore", args: &["restore", POLICY, "--to", "back"], drill: "" },
];

/// A tiny database with a backup of each method, and what a restore of it looks like.
struct Bench {
    home: Home,
    kept: Kept,
    restored: BTreeMap<PathBuf, Vec<u8>>,
    _server: Server,
}

impl Bench {
    fn new() -> Bench {
        let server = Server::start();
        server.sql("postgres", &format!("create database {DATABASE}"));
        let sql = "create table item (id int primary key, name text not null); create sequence ticket; \
                   insert into item select n, md5(n::text) from generate_series(1, 500) n; analyze";
        server.sql(DATABASE, sql);
        let home = Home::new(&server, DATABASE);
        home.run(&["backup", POLICY]).expect(0);
        home.run(WORKS[5].args).expect(0);
        let restored = tree(&home.path().join("back"));
        assert!(restored.len() > 500, "{}", restored.len());
        let bench = Bench { kept: Kept::of(&home), home, restored, _server: server };
        bench.put_back();
        bench
    }

    fn put_back(&self) {
        let _ = std::fs::remove_dir_all(self.home.path().join("back"));
        self.kept.put_back(&self.home);
    }

    /// One try; gives whether it fired, and what does not hold.
    async fn one(&self, work: &Work, fault: Fault, nth: usize) -> (Hurt, Vec<String>) {
        let home = &self.home;
        let hurt = hurt(home, fault, nth, work.args);
        if hurt.impossible {
            self.put_back();
            return (hurt, vec![]);
        }
        let mut wrong = Vec::from_iter(unfit(work, fault, &hurt));
        wrong.extend(broken(home, &self.kept.store).await);
        let code = hurt.ran.code;
        match work.name {
            "restore" => wrong.extend(self.half_restored(code)),
            "verify" => {}
            _ if !hurt.fired() || before_main(&hurt) => {}
            _ => {
                let before = self.kept.manifests();
                let after = Kept::of(home).manifests();
                let made = after.difference(&before).count();
                if work.args[0] == "backup" && code == 0 && made != 1 {
                    wrong.push(format!("a backup that is said to be good, and {made} new manifests"));
                }
                if work.args[0] == "backup" && code == 0 {
                    let verified = home.run(&["verify", POLICY]);
                    if verified.code != 0 {
                        wrong.push(format!("a backup that is said to be good is not: {verified:?}"));
                    }
                }
                let next = home.run(&["drill", POLICY, "--drill", work.drill]);
                if next.code != 0 {
                    wrong.push(format!("the next drill ended with {}: {}{}", next.code, next.stdout, next.stderr));
                }
            }
        }
        wrong.extend(left(home).into_iter().map(|what| format!("left of a scratch: {what}")));
        self.put_back();
        (hurt, wrong)
    }

    /// A restore that was not said to be good must look it; one that was must be all there.
    fn half_restored(&self, code: i32) -> Option<String> {
        let back = self.home.path().join("back");
        let whole = tree(&back) == self.restored;
        let says = !back.exists() || back.join("RESTORE-INCOMPLETE.txt").exists() || walk(&back).is_empty();
        match (code, whole, says) {
            (0, false, _) => Some("a restore that is said to be good differs from the one before".to_owned()),
            (_, false, false) => Some("a restore that broke does not say that it is not whole".to_owned()),
            _ => None,
        }
    }
}

/// The files of a folder, by their path inside.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let inside = |path: PathBuf| (path.strip_prefix(folder).unwrap().to_owned(), std::fs::read(&path).unwrap());
    walk(folder).into_iter().map(inside).collect()
}

/// The dynamic loader reads and opens too, and ends by itself.
fn before_main(hurt: &Hurt) -> bool {
    hurt.ran.code == 127 && hurt.ran.stderr.contains("error while loading shared libraries")
}

/// Why this is no way to end.
fn unfit(work: &Work, fault: Fault, hurt: &Hurt) -> Option<String> {
    let (code, words) = (hurt.ran.code, &hurt.ran.stderr);
    let fit: &[i32] = match work.args[0] {
        _ if words.contains("panicked") => &[],
        _ if !hurt.fired() => &[0],
        _ if before_main(hurt) => &[127],
        _ if fault.kills() && hurt.hit_lifeboat() => &[DEAD],
        _ if fault.interrupts() && hurt.only_lifeboat() => &[0],
        // A configuration or key that cannot be read is 2.
        "backup" | "restore" => &[0, 1, 2],
        _ => &[0, 1, 2, 4],
    };
    let why = match code {
        124 => "it hangs",
        3 => "a fault of the machine is called one of the backup",
        0 => "nothing is said",
        _ => "an unexpected exit code",
    };
    (!fit.contains(&code)).then(|| format!("{why}: exit {code}\n{}{words}", hurt.ran.stdout))
}

/// One try, printed; failures as text.
async fn attempt(bench: &Bench, work: &Work, fault: Fault, nth: usize) -> (bool, Option<String>) {
    let began = Instant::now();
    let (hurt, wrong) = bench.one(work, fault, nth).await;
    let mut hit: BTreeMap<&str, usize> = BTreeMap::new();
    for victim in &hurt.victims {
        *hit.entry(victim).or_default() += 1;
    }
    let Fault { calls, effect } = fault;
    let what = format!("{} {calls} {effect} when={nth}", work.name);
    let holds = match (hurt.impossible, wrong.is_empty()) {
        (true, _) => "not judged: it cannot happen",
        (false, true) => "holds",
        (false, false) => "BROKEN",
    };
    let took = began.elapsed().as_millis();
    println!("syscalls {what} fired={} hit={hit:?} code={} {holds} {took}ms", hurt.fired(), hurt.ran.code);
    (hurt.fired(), (!wrong.is_empty()).then(|| format!("{what}, hit {hit:?}, exit {}: {wrong:#?}", hurt.ran.code)))
}

#[tokio::test]
async fn a_hurt_system_call_harms_nothing_that_was_good() {
    if !is_here() {
        println!("SKIPPED: strace is not installed: no system call was hurt");
        return;
    }
    let (seed, bench) = (seed(), Bench::new());
    let mut dice = Dice::new(seed);
    let mut fired = 0;
    for _ in 0..tries(4).min(6) {
        let work = &WORKS[dice.below(WORKS.len())];
        let fault = FAULTS[dice.below(FAULTS.len())];
        let (hit, wrong) = attempt(&bench, work, fault, 1 + dice.below(3)).await;
        assert_eq!(wrong, None, "LIFEBOAT_FAULTS_SEED={seed}");
        fired += usize::from(hit);
    }
    assert!(fired > 0, "no fault fired: nothing was tried");
}

#[tokio::test]
#[ignore = "long form: make faults"]
async fn long_sweep_of_hurt_system_calls() {
    if !is_here() {
        println!("SKIPPED: strace is not installed: no system call was hurt");
        return;
    }
    let end = Instant::now() + Duration::from_secs(60 * number("LIFEBOAT_FAULTS_MINUTES", 600));
    let picked = std::env::var("LIFEBOAT_FAULTS_WORKS").unwrap_or_default();
    let works = WORKS.iter().filter(|work| picked.is_empty() || picked.split(',').any(|name| name == work.name));
    let mut open: Vec<(&Work, Fault)> = works.flat_map(|work| FAULTS.map(|fault| (work, fault))).collect();
    assert!(!open.is_empty(), "LIFEBOAT_FAULTS_WORKS={picked} picks nothing");
    let bench = Bench::new();
    let mut nth = usize::try_from(number("LIFEBOAT_FAULTS_FROM", 1)).unwrap();
    let mut counts: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    let mut broken: Vec<String> = vec![];
    let mut came = None;
    'rounds: while !open.is_empty() {
        let mut still = vec![];
        for (place, (work, fault)) in open.iter().enumerate() {
            if Instant::now() > end {
                came = Some(format!("N={nth}, after {place} of {} pairs of verb and fault", open.len()));
                break 'rounds;
            }
            let (fired, wrong) = attempt(&bench, work, *fault, nth).await;
            if let Some(wrong) = wrong {
                println!("{wrong}");
                broken.push(wrong);
            }
            if fired {
                *counts.entry((work.name, fault.calls, fault.effect)).or_default() += 1;
                still.push((*work, *fault));
            }
        }
        open = still;
        // Every one at first, then sparser: ×1.5.
        nth += (nth / 2).max(1).min(if nth < 8 { 1 } else { usize::MAX });
    }
    for ((work, calls, effect), count) in &counts {
        println!("sweep {work} {calls} {effect} fired {count}");
    }
    println!("sweep came to {}", came.unwrap_or_else(|| format!("its end: nothing fires at N={nth}")));
    let names: BTreeSet<_> = counts.keys().map(|(work, ..)| *work).collect();
    println!("sweep fired {} times in {names:?}, broken {}", counts.values().sum::<usize>(), broken.len());
    assert!(broken.is_empty(), "{} of the tries did not hold:\n{}", broken.len(), broken.join("\n"));
}
