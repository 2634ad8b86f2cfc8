//! Real disks that are full or read-only, mounted over the store in a namespace of their own.

use std::process::{Command, Stdio};

use crate::support::data::{self, DATABASE};
use crate::support::home::{Home, POLICY, ran};
use crate::support::invariants::{broken, left, remember};
use crate::support::server::Server;

#[tokio::test]
async fn a_full_and_a_read_only_store_are_said_and_harm_nothing() {
    let can = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    if !can.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: this user cannot mount in a namespace: no full or read-only disk was tried");
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
            let mut command = Command::new("unshare");
            command
                .args(["-m", "sh", "-c", &text, "sh"])
                .arg(home.store())
                .arg(assert_cmd::cargo::cargo_bin!("lifeboat"));
            command.current_dir(home.path()).stdin(Stdio::null()).env_remove("LIFEBOAT_CONFIG").env("NO_COLOR", "1");
            let ran = ran(&mut command).expect(1);
            let said = ran.stderr.contains(word) && ran.stderr.contains("store");
            assert!(said, "{job}: {word:?} and where: {ran:#?}");
            let wrong = broken(&home, &good).await;
            assert!(wrong.is_empty(), "{wrong:?}\n{ran:#?}");
        }
    }
    home.run(&["backup", POLICY]).expect(0);
    home.run(&["drill", POLICY]).expect(0);
    assert!(left(&home).is_empty(), "{:?}", left(&home));
    // The checker of invariants can fail: a part that is gone is seen, both as harm and as a manifest without its part.
    let part = good.keys().find(|path| path.extension().is_some_and(|ending| ending == "age")).unwrap();
    std::fs::remove_file(part).unwrap();
    assert_eq!(broken(&home, &good).await.len(), 2);
}
