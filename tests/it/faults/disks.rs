//! Real disks that are full or read-only, mounted over the store in a namespace of their own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::data::{self, DATABASE};
use crate::support::home::{Home, POLICY, Ran, ran};
use crate::support::invariants::{broken, left, remember};
use crate::support::server::Server;

fn can_mount() -> bool {
    let can = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    let can = can.is_ok_and(|output| output.status.success());
    if !can {
        println!("SKIPPED: this user cannot mount in a namespace: no full or read-only disk was tried");
    }
    can
}

/// Runs a shell script in a mount namespace of its own; `$1` and `$2` are this folder and lifeboat.
fn apart(home: &Home, script: &str, folder: &Path) -> Ran {
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(folder).arg(assert_cmd::cargo::cargo_bin!("lifeboat"));
    command.current_dir(home.path()).stdin(Stdio::null()).env_remove("LIFEBOAT_CONFIG").env("NO_COLOR", "1");
    ran(&mut command)
}

#[tokio::test]
async fn a_full_and_a_read_only_store_are_said_and_harm_nothing() {
    stores().await;
}

#[tokio::test]
async fn a_full_and_a_read_only_scratch_disk_prove_nothing_and_keep_nothing() {
    scratches(&["64k", "24m", "52m"]).await;
}

#[tokio::test]
#[ignore = "long form: make faults"]
async fn long_scratch_disks_of_every_size_prove_nothing_or_all() {
    let sizes: Vec<String> = (1..=32).map(|step| format!("{}m", step * 4)).collect();
    scratches(&sizes.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

/// A small database with a backup of each method, what is good of it, and the folder of scratch, empty.
fn small() -> (Server, Home, BTreeMap<PathBuf, Vec<u8>>) {
    let server = Server::start();
    server.sql("postgres", &format!("create database {DATABASE}"));
    server.sql(DATABASE, "create table item as select n as id, md5(n::text) as name from generate_series(1, 500) n");
    let home = Home::new(&server, DATABASE);
    home.run(&["backup", POLICY]).expect(0);
    let good = remember(&home);
    std::fs::create_dir_all(home.scratch()).unwrap();
    (server, home, good)
}

/// Drills of both methods with these sizes of scratch disk, and with a read-only one.
async fn scratches(sizes: &[&str]) {
    if !can_mount() {
        return;
    }
    let (_server, home, good) = small();
    let mut disks = vec!["mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\"".to_owned()];
    disks.extend(sizes.iter().map(|size| format!("mount -t tmpfs -o size={size},mode=755 tmpfs \"$1\"")));
    let (mut unproven, mut wrong) = (0, vec![]);
    for mount in &disks {
        for drill in ["restore-logical", "restore-latest"] {
            let script = format!(
                "{mount} || exit 99; \"$2\" drill {POLICY} --drill {drill}; code=$?; \
                 [ -z \"$(find \"$1\" -mindepth 1)\" ] || {{ find \"$1\" -mindepth 1 -maxdepth 2; exit 98; }}; exit $code"
            );
            let ran = apart(&home, &script, &home.scratch());
            println!("scratch disk {mount} {drill} code={}", ran.code);
            let said = ran.stdout.clone() + &ran.stderr;
            let reason = ["No space left", "Read-only file system"].iter().any(|word| said.contains(word));
            match ran.code {
                0 => {}
                4 if reason => unproven += 1,
                code => wrong.push(format!("{mount} {drill}: exit {code}: {said}")),
            }
            wrong.extend(broken(&home, &good).await);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(unproven >= 4, "the smallest and the read-only one cannot have been enough: {unproven}");
    home.run(&["drill", POLICY]).expect(0);
    assert!(left(&home).is_empty(), "{:?}", left(&home));
}

#[tokio::test]
async fn a_scratch_disk_that_breaks_in_the_middle_proves_nothing_false() {
    breaking_scratches(&[24]).await;
}

#[tokio::test]
#[ignore = "long form: make faults"]
async fn long_scratch_disks_that_break_in_the_middle_prove_nothing_false() {
    breaking_scratches(&(1..=24).map(|step| step * 4).collect::<Vec<_>>()).await;
}

/// A disk that says it is large and can keep only so many MiB: an image on a file system that is too small for it, by a loop device. What it cannot keep is
/// an error when it is written, if the file system waits for that, or is lost and found out later. Its cache is emptied again and again, so it is found out.
const BREAKING: &str = "
    mkdir \"$1.disk\" && mount -t tmpfs -o size=SIZEm tmpfs \"$1.disk\" && truncate -s 400m \"$1.disk/image\" && mkfs.ext4 -q -F \"$1.disk/image\" &&
    mount -o loop,SYNC \"$1.disk/image\" \"$1\" && rmdir \"$1/lost+found\" && chmod 755 \"$1\" || exit 99
    while sleep 1; do echo 1 > /proc/sys/vm/drop_caches; done 2>/dev/null &
    cleaner=$!
    \"$2\" drill POLICY --drill DRILL; code=$?
    kill $cleaner
    exit $code";

/// Drills of both methods, with scratch on disks that keep only so much.
async fn breaking_scratches(sizes: &[u32]) {
    if !can_mount() {
        return;
    }
    let (_server, home, good) = small();
    let (mut codes, mut wrong) = (BTreeMap::<String, u32>::new(), vec![]);
    for size in sizes {
        for (sync, drill) in ["sync", "async"]
            .into_iter()
            .flat_map(|sync| ["restore-logical", "restore-latest"].map(|drill| (sync, drill)))
        {
            let script = BREAKING.replace("SIZE", &size.to_string()).replace("SYNC", sync);
            let script = script.replace("POLICY", POLICY).replace("DRILL", drill);
            let ran = apart(&home, &script, &home.scratch());
            let _ = std::fs::remove_dir(home.scratch().with_extension("disk"));
            if ran.code == 99 {
                println!("SKIPPED: no loop device can be had here: no disk that breaks was tried: {}", ran.stderr);
                return;
            }
            println!(
                "breaking disk {size} MiB {sync} {drill} code={} {}",
                ran.code,
                ran.stdout.lines().next().unwrap_or_default()
            );
            *codes.entry(format!("{sync} {}", ran.code)).or_default() += 1;
            if !matches!(ran.code, 0 | 4) {
                wrong.push(format!("{size} MiB {sync} {drill}: exit {}: {}{}", ran.code, ran.stdout, ran.stderr));
            }
            wrong.extend(broken(&home, &good).await);
        }
    }
    println!("{codes:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(codes.contains_key("sync 4"), "it broke for nobody: {codes:?}");
    home.run(&["drill", POLICY]).expect(0);
    assert!(left(&home).is_empty(), "{:?}", left(&home));
}

async fn stores() {
    if !can_mount() {
        return;
    }
    let server = Server::start();
    data::fill(&server);
    let home = Home::new(&server, DATABASE);
    home.run(&["backup", POLICY]).expect(0);
    let good = remember(&home);
    let disks = [
        ("mount -t tmpfs -o size=64k tmpfs \"$1\"", "No space left"),
        ("mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\"", "Read-only file system"),
    ];
    for (mount, word) in disks {
        for job in ["logical", "physical"] {
            let text = format!(
                "{mount} || exit 99; before=$(find \"$1\" -name manifest.json | wc -l); \"$2\" backup {POLICY} --job {job}; code=$?; \
                 after=$(find \"$1\" -name manifest.json | wc -l); [ $before = $after ] || exit 98; exit $code"
            );
            let ran = apart(&home, &text, &home.store()).expect(1);
            let said = ran.stderr.contains(word) && ran.stderr.contains("store");
            assert!(said, "{job}: {word:?} and where: {ran:#?}");
            let wrong = broken(&home, &good).await;
            assert!(wrong.is_empty(), "{wrong:?}\n{ran:#?}");
        }
    }
    // What happens cannot be written down: then it must not happen.
    for verb in ["backup", "drill", "verify"] {
        let catalog = home.path().join("lifeboat.db");
        let mount = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" || exit 99";
        let ran = apart(&home, &format!("{mount}; \"$2\" {verb} {POLICY}"), &catalog).expect(1);
        assert!(ran.stderr.contains("readonly") && ran.stderr.contains("hint"), "{verb}: {ran:#?}");
        assert_eq!(remember(&home), good, "{verb}");
    }
    home.run(&["backup", POLICY]).expect(0);
    home.run(&["drill", POLICY]).expect(0);
    assert!(left(&home).is_empty(), "{:?}", left(&home));
    // The checker of invariants can fail: a part that is gone is seen, both as harm and as a manifest without its part.
    let part = good.keys().find(|path| path.extension().is_some_and(|ending| ending == "age")).unwrap();
    std::fs::remove_file(part).unwrap();
    assert_eq!(broken(&home, &good).await.len(), 2);
}
