//! Damage to every file of an artifact: each try is a finding that names the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifeboat::engine::verify::{Conclusion, Reading, Target, verify_stores};
use lifeboat::progress::Silent;

use super::{Dice, seed, tries};
use crate::support::artifacts::{Yard, backup, policy};
use crate::support::home::walk;

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

/// Damages an artifact so many times and gives how often, by kind, file and the first finding.
async fn run(tries: u64) {
    let seed = seed();
    let yard = Yard::new();
    yard.whole_backup(1).await;
    let root = yard.path(&format!("{}/{}", policy(), backup(1)));
    let files: BTreeMap<_, _> =
        walk(&root).into_iter().map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect();
    let stores = BTreeMap::from([("primary".parse().unwrap(), yard.store.clone())]);
    let reading = Reading {
        opener: Some(yard.opener.clone()),
        trusted: yard.trusted.clone(),
        threads: 2,
        progress: Arc::new(Silent),
    };
    let mut dice = Dice::new(seed);
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for number in 1..=tries {
        let (kind, mut changed) = damage(&mut dice, &files);
        changed.retain(|path, bytes| files[path] != *bytes);
        for (path, bytes) in &changed {
            std::fs::write(path, bytes).unwrap();
        }
        let report = verify_stores(&stores, &Target::Policy(policy()), &[], &reading).await;
        for path in changed.keys() {
            std::fs::write(path, &files[path]).unwrap();
        }
        let findings: Vec<_> = report.backups.iter().flat_map(|backup| &backup.findings).collect();
        let again = format!(
            "try {number}, {kind} of {:?}; again: LIFEBOAT_FAULTS_SEED={seed} LIFEBOAT_FAULTS_TRIES={number} make faults\n{report:#?}",
            changed.keys()
        );
        if changed.is_empty() {
            assert_eq!(report.conclusion(), Conclusion::NothingFound, "{again}");
            *counts.entry(format!("{kind}: same bytes, nothing found")).or_default() += 1;
            continue;
        }
        assert_eq!(report.conclusion(), Conclusion::Found, "not seen: {again}");
        let names: Vec<_> = changed.keys().map(|path| name_of(&root, path)).collect();
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
        *counts.entry(format!("{kind}: {}", findings[0].code)).or_default() += 1;
    }
    for (what, count) in counts {
        println!("flips seed={seed} {what} {count}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_to_any_file_is_a_finding_that_names_it() {
    run(tries(300).min(300)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: make faults"]
async fn long_damage_to_any_file_is_a_finding_that_names_it() {
    run(tries(10_000)).await;
}
