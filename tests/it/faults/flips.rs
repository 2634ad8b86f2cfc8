//! Damage to every file of an artifact: each try is a finding that names the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifeboat::domain::ids::PlaceName;
use lifeboat::engine::verify::{Conclusion, Reading, Target, verify_stores};
use lifeboat::progress::Silent;
use lifeboat::seal::{Opener, TrustedSigners};
use lifeboat::store::{FileStore, Store};

use super::{Dice, seed, tries};
use crate::support::artifacts::{Yard, backup, policy};
use crate::support::data::DATABASE;
use crate::support::home::{Home, POLICY, walk};
use crate::support::invariants::left;
use crate::support::server::Server;

/// One damage, as changed files. The bytes may come out the same.
fn damage(dice: &mut Dice, files: &BTreeMap<PathBuf, Vec<u8>>) -> (&'static str, BTreeMap<PathBuf, Vec<u8>>) {
    let path = files.keys().nth(dice.below(files.len())).unwrap();
    let mut bytes = files[path].clone();
    let at = dice.below(bytes.len());
    let kind = match dice.below(6) {
        0 => {
            bytes[at] ^= 1 << dice.below(8);
            "flip"
        }
        1 => {
            bytes[at] = bytes[at].wrapping_add(1 + u8::try_from(dice.below(255)).unwrap());
            "byte"
        }
        2 => {
            bytes.truncate(at);
            "cut"
        }
        3 => {
            let more = 1 + dice.below(100);
            bytes.extend((0..more).map(|_| dice.roll().to_le_bytes()[0]));
            "append"
        }
        4 => {
            let end = (at + 1 + dice.below(500)).min(bytes.len());
            bytes[at..end].fill(0);
            "zeroes"
        }
        _ => {
            let other = files.keys().nth(dice.below(files.len())).unwrap();
            let swapped = BTreeMap::from([(path.clone(), files[other].clone()), (other.clone(), bytes)]);
            return ("swap", swapped);
        }
    };
    (kind, BTreeMap::from([(path.clone(), bytes)]))
}

/// How a finding names this file.
fn name_of(root: &Path, path: &Path) -> String {
    let inside = path.strip_prefix(root).unwrap().to_str().unwrap();
    if inside.starts_with("manifest") { "manifest".to_owned() } else { format!("part {inside}") }
}

/// What is read, and with what.
struct Desk {
    stores: BTreeMap<PlaceName, Arc<dyn Store>>,
    reading: Reading,
    seed: u64,
    dice: Dice,
    counts: BTreeMap<String, u64>,
}

impl Desk {
    fn new(store: Arc<dyn Store>, opener: Opener, trusted: TrustedSigners) -> Desk {
        let reading = Reading { opener: Some(opener), trusted, threads: 2, progress: Arc::new(Silent) };
        let stores = BTreeMap::from([("primary".parse().unwrap(), store)]);
        Desk { stores, reading, seed: seed(), dice: Dice::new(seed()), counts: BTreeMap::new() }
    }

    fn count(&mut self, what: String) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// One damage to the artifact in this folder. `also` looks at the damaged store too, where bytes were changed.
    async fn hit(
        &mut self,
        number: u64,
        root: &Path,
        files: &BTreeMap<PathBuf, Vec<u8>>,
        also: Option<&dyn Fn() -> String>,
    ) {
        let (kind, mut changed) = damage(&mut self.dice, files);
        changed.retain(|path, bytes| files[path] != *bytes);
        for (path, bytes) in &changed {
            std::fs::write(path, bytes).unwrap();
        }
        let report = verify_stores(&self.stores, &Target::Policy(policy()), &[], &self.reading).await;
        let seen = also.filter(|_| !changed.is_empty()).map(|look| look());
        for path in changed.keys() {
            std::fs::write(path, &files[path]).unwrap();
        }
        let findings: Vec<_> = report.backups.iter().flat_map(|backup| &backup.findings).collect();
        let again = format!(
            "try {number}, {kind} of {:?}; again: LIFEBOAT_FAULTS_SEED={} LIFEBOAT_FAULTS_TRIES={number} make faults\n{report:#?}",
            changed.keys(),
            self.seed
        );
        if changed.is_empty() {
            assert_eq!(report.conclusion(), Conclusion::NothingFound, "{again}");
            self.count(format!("{kind}: same bytes, nothing found"));
            return;
        }
        assert_eq!(report.conclusion(), Conclusion::Found, "not seen: {again}");
        let names: Vec<_> = changed.keys().map(|path| name_of(root, path)).collect();
        // A manifest that cannot be believed is said, and no part is looked at by it.
        let wanted: Vec<_> = match names.iter().find(|name| *name == "manifest") {
            Some(manifest) => vec![manifest],
            None => names.iter().collect(),
        };
        for name in wanted {
            assert!(
                findings.iter().any(|finding| finding.object.starts_with(name.as_str())),
                "{name} not named: {again}"
            );
        }
        let code = findings[0].code.clone();
        self.count(format!("{kind}: {code}"));
        if let Some(seen) = seen {
            self.count(format!("drill of a {kind}: {seen}"));
        }
    }

    fn say(&self, what: &str) {
        for (kind, count) in &self.counts {
            println!("flips {what} seed={} {kind} {count}", self.seed);
        }
    }
}

fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    walk(root).into_iter().map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect()
}

/// Damages a synthetic artifact so many times.
async fn synthetic(tries: u64) {
    let yard = Yard::new();
    yard.whole_backup(1).await;
    let root = yard.path(&format!("{}/{}", policy(), backup(1)));
    let files = files(&root);
    let mut desk = Desk::new(yard.store.clone(), yard.opener.clone(), yard.trusted.clone());
    for number in 1..=tries {
        desk.hit(number, &root, &files, None).await;
    }
    desk.say("synthetic");
}

/// Damages real backups of both methods, by turns, so many times; each `share`th goes through a whole drill too.
async fn real(tries: u64, share: u64) {
    let server = Server::start();
    server.sql("postgres", &format!("create database {DATABASE}"));
    server.sql(DATABASE, "create table item as select n as id, md5(n::text) as name from generate_series(1, 500) n");
    let home = Home::new(&server, DATABASE);
    let mut artifacts = vec![];
    for (job, drill) in [("logical", "restore-logical"), ("physical", "restore-latest")] {
        home.run(&["backup", POLICY, "--job", job]).expect(0);
        let known: Vec<PathBuf> = artifacts.iter().map(|(_, root, _)| root).cloned().collect();
        let mut roots = std::fs::read_dir(home.store().join(POLICY)).unwrap().map(|entry| entry.unwrap().path());
        let root = roots.find(|root| !known.contains(root)).unwrap();
        artifacts.push((drill, root.clone(), files(&root)));
    }
    let key = |name: &str| vec![home.path().join("keys").join(name)];
    let mut desk = Desk::new(
        Arc::new(FileStore::open(&home.store()).unwrap()),
        Opener::read(&key("working.agekey")).unwrap(),
        TrustedSigners::read(&key("signing.pub.pem")).unwrap(),
    );
    for number in 1..=tries {
        // Those that go through a drill too are of either backup by turns.
        let (drill, root, files) = &artifacts[usize::try_from((number / share + number) % 2).unwrap()];
        let look = || {
            let ran = home.run(&["drill", POLICY, "--drill", drill]);
            assert!([3, 4].contains(&ran.code), "a drill of a damaged backup, try {number}: {ran:#?}");
            assert!(!ran.stderr.contains("panicked"), "{ran:#?}");
            format!("{drill} exit {}", ran.code)
        };
        desk.hit(number, root, files, (number % share == 0).then_some(&look as &dyn Fn() -> String)).await;
    }
    // Nothing of all this was left: both are as good as before.
    for (drill, ..) in &artifacts {
        home.run(&["drill", POLICY, "--drill", drill]).expect(0);
    }
    assert!(left(&home).is_empty(), "{:?}", left(&home));
    desk.say("real");
    assert!(desk.counts.keys().any(|kind| kind.starts_with("drill of")), "no drill looked at any of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_to_any_file_is_a_finding_that_names_it() {
    synthetic(tries(300).min(300)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_to_a_real_backup_is_seen_by_verify_and_by_a_drill() {
    real(tries(40).clamp(10, 40), 10).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: make faults"]
async fn long_damage_to_any_file_is_a_finding_that_names_it() {
    synthetic(tries(10_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: make faults"]
async fn long_damage_to_a_real_backup_is_seen_by_verify_and_by_a_drill() {
    real(tries(10_000).max(100), 100).await;
}
