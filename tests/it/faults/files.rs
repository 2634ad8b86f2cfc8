//! Damage to the files that lifeboat itself lives on: configuration, policies, drills, keys, catalog.

use std::path::Path;

use super::{Dice, seed};
use crate::support::data::DATABASE;
use crate::support::home::{Home, POLICY, Ran, ran};
use crate::support::invariants::{left, remember};
use crate::support::server::Server;

const VERBS: [(&str, &[&str]); 5] = [
    ("status", &["status", POLICY]),
    ("backup", &["backup", POLICY, "--job", "logical"]),
    ("drill", &["drill", POLICY, "--drill", "restore-logical"]),
    ("verify", &["verify", POLICY]),
    ("restore", &["restore", POLICY, "--to-database", "postgresql://nobody@/back?host=/nowhere"]),
];

/// Each file, the verbs that must notice that it is damaged, and how they may end.
const FILES: [(&str, &[&str], &[i32]); 7] = [
    ("lifeboat.toml", &["status", "backup", "drill", "verify", "restore"], &[2]),
    ("policies/orders.toml", &["status", "backup", "drill", "verify", "restore"], &[2]),
    ("drills/restore-logical.toml", &["status", "drill"], &[2]),
    ("keys/signing.pem", &["backup"], &[1, 2]),
    ("keys/working.agekey", &["drill", "restore", "verify"], &[1, 2, 4]),
    ("keys/signing.pub.pem", &["drill", "restore", "verify"], &[1, 2, 4]),
    ("lifeboat.db", &["status", "backup", "drill", "verify", "restore"], &[1]),
];

/// What is done to a file; none: a folder lies in its place.
fn damages(good: &[u8]) -> Vec<(&'static str, Option<Vec<u8>>)> {
    // In the middle of a word of the last line that says something.
    let text = String::from_utf8_lossy(good);
    let last = text.lines().rev().find(|line| !line.starts_with(['#', '-']) && line.len() > 8).unwrap_or("");
    let at = if last.is_empty() { good.len() / 2 } else { text.rfind(last).unwrap_or(0) + 3 };
    let mut nul = good.to_vec();
    nul[..8].fill(0);
    vec![
        ("cut", Some(good[..at.min(good.len())].to_vec())),
        ("empty", Some(vec![])),
        ("garbage", Some((0..2000_u32).map(|n| (n * 151 % 256) as u8 | 0x80).collect())),
        ("begins with NUL", Some(nul)),
        ("a folder", None),
    ]
}

fn put(path: &Path, bytes: Option<&[u8]>) {
    let mode = std::fs::metadata(path).unwrap().permissions();
    std::fs::remove_file(path).unwrap();
    match bytes {
        Some(bytes) => {
            std::fs::write(path, bytes).unwrap();
            std::fs::set_permissions(path, mode).unwrap();
        }
        None => std::fs::create_dir(path).unwrap(),
    }
}

fn said_well(ran: &Ran, what: &str) -> Option<String> {
    let panicked = ran.stderr.contains("panicked");
    let silent = ran.code != 0
        && !["error", "hint", "UNPROVEN", "FOUND"].iter().any(|word| (ran.stderr.clone() + &ran.stdout).contains(word));
    (panicked || silent).then(|| format!("{what}: {ran:#?}"))
}

#[test]
fn damage_to_configuration_keys_and_catalog_is_said_and_harms_nothing() {
    let server = Server::start();
    server.sql("postgres", &format!("create database {DATABASE}"));
    server.sql(DATABASE, "create table item as select 1 as id");
    let home = Home::new(&server, DATABASE);
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    let good = remember(&home);
    let mut wrong: Vec<String> = vec![];
    let mut tried = 0;
    for (name, verbs, codes) in FILES {
        let path = home.path().join(name);
        let bytes = std::fs::read(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions();
        for (damage, changed) in damages(&bytes) {
            if name == "lifeboat.db" && damage == "empty" {
                // SQLite's way to say "a new database"; the stores are what counts then.
                continue;
            }
            for (verb, args) in VERBS.iter().filter(|(verb, _)| verbs.contains(verb)) {
                put(&path, changed.as_deref());
                let ran = home.run(args);
                let what = format!("{name} {damage}, {verb}");
                tried += 1;
                let file = name.rsplit('/').next().unwrap();
                if !codes.contains(&ran.code) {
                    wrong.push(format!("{what}: exit {}: {}{}", ran.code, ran.stdout, ran.stderr));
                } else if !(ran.stderr.clone() + &ran.stdout).contains(file) {
                    wrong.push(format!("{what}: the file is not named: {}{}", ran.stdout, ran.stderr));
                } else if !ran.stderr.contains("hint") && ran.code == 1 {
                    wrong.push(format!("{what}: no hint: {}", ran.stderr));
                }
                wrong.extend(said_well(&ran, &what));
                if remember(&home) != good {
                    wrong.push(format!("{what}: the store is not as it was"));
                }
                if changed.is_none() {
                    std::fs::remove_dir(&path).unwrap();
                    std::fs::write(&path, "").unwrap();
                }
                std::fs::write(&path, &bytes).unwrap();
                std::fs::set_permissions(&path, mode.clone()).unwrap();
            }
        }
    }
    // Bits at random: never a panic, and a key that was changed opens and proves nothing.
    let (seed, mut dice) = (seed(), Dice::new(seed()));
    for (name, args) in FILES[..6].iter().map(|(name, ..)| *name).flat_map(|name| {
        let args: &[&str] = if name.starts_with("keys") { &["verify", POLICY] } else { &["runbook", POLICY] };
        std::iter::repeat_n((name, args), 8)
    }) {
        let path = home.path().join(name);
        let bytes = std::fs::read(&path).unwrap();
        let at = dice.below(bytes.len());
        if bytes[at] == b'\n' || name == "keys/signing.pem" {
            continue;
        }
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << dice.below(8);
        std::fs::write(&path, &flipped).unwrap();
        let ran = home.run(args);
        std::fs::write(&path, &bytes).unwrap();
        tried += 1;
        let what = format!("{name}, a bit of byte {at}, seed {seed}");
        wrong.extend(said_well(&ran, &what));
        let line = bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if name.starts_with("keys") && ran.code == 0 && bytes[line] != b'#' {
            wrong.push(format!("{what}: a damaged key and exit 0: {ran:#?}"));
        }
        if !name.starts_with("keys") && ![0, 1, 2].contains(&ran.code) {
            wrong.push(format!("{what}: {ran:#?}"));
        }
    }
    println!("files tried {tried}");
    assert!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(remember(&home), good);
    // Nowhere to say it: a drill goes on and is proven, a result that is lost is no success.
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    ran(home.command(&["-vv", "drill", POLICY, "--drill", "restore-logical"]).stderr(full())).expect(0);
    let lost = ran(home.command(&["runbook", POLICY]).stdout(full())).expect(1);
    assert!(lost.stderr.contains("could not be written"), "{lost:?}");
    assert!(left(&home).is_empty(), "{:?}", left(&home));
}
