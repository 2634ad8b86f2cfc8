//! Verification: what is right is said to be right, what is wrong is found, what was not looked at is never good.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lifeboat::domain::ids::PlaceName;
use lifeboat::engine::verify::{Conclusion, Depth, Reading, Report, Target, verify_stores};
use lifeboat::progress::{Progress, Silent};
use lifeboat::seal::{self, TrustedSigners};
use lifeboat::store::Store;

use crate::support::artifacts::{Yard, backup, policy};

fn place(name: &str) -> PlaceName {
    name.parse().unwrap()
}

fn reading(yard: &Yard) -> Reading {
    Reading { opener: Some(yard.opener.clone()), trusted: yard.trusted.clone(), threads: 2, progress: Arc::new(Silent) }
}

fn stores(yard: &Yard) -> BTreeMap<PlaceName, Arc<dyn Store>> {
    BTreeMap::from([(place("primary"), yard.store.clone())])
}

async fn of_policy(yard: &Yard, reading: &Reading) -> Report {
    verify_stores(&stores(yard), &Target::Policy(policy()), &[], reading).await
}

fn codes(report: &Report) -> Vec<&str> {
    report.backups.iter().flat_map(|backup| &backup.findings).map(|finding| finding.code.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_to_verify_is_unproven() {
    let yard = Yard::new();
    let report = of_policy(&yard, &reading(&yard)).await;
    assert_eq!(report.conclusion(), Conclusion::Unproven);
    // Parts without a manifest are no backup.
    yard.seal_bytes(&format!("{}/{}", policy(), backup(1)), 100, vec![7; 1_000]).await;
    assert_eq!(of_policy(&yard, &reading(&yard)).await.conclusion(), Conclusion::Unproven);
    assert_eq!(Report::default().conclusion(), Conclusion::Unproven);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_a_right_backup_is_read_once() {
    #[derive(Default)]
    struct Counting(AtomicU64, AtomicU64);
    impl Progress for Counting {
        fn stage(&self, _what: &str) {}
        fn expect(&self, bytes: u64) {
            self.0.fetch_add(bytes, Ordering::SeqCst);
        }
        fn moved(&self, bytes: u64) {
            self.1.fetch_add(bytes, Ordering::SeqCst);
        }
        fn say(&self, _sentence: &str) {}
    }
    let yard = Yard::new();
    let (one, two) = (yard.whole_backup(1).await, yard.whole_backup(2).await);
    let progress = Arc::new(Counting::default());
    let report = of_policy(&yard, &Reading { progress: progress.clone(), ..reading(&yard) }).await;
    assert_eq!(report.conclusion(), Conclusion::NothingFound, "{report:#?}");
    assert_eq!(report.backups.iter().map(|found| found.backup.clone()).collect::<Vec<_>>(), [backup(1), backup(2)]);
    for (found, made) in report.backups.iter().zip([&one, &two]) {
        assert_eq!((found.parts, found.parts_of, found.depth), (5, 5, Depth::Opened));
        assert_eq!((found.sealed_bytes, found.plain_bytes), (made.sealed_bytes(), made.plain_bytes()));
        assert!(found.signer_trusted && found.method == Some(made.method));
    }
    let bytes = one.sealed_bytes().0 + two.sealed_bytes().0;
    assert_eq!((progress.0.load(Ordering::SeqCst), progress.1.load(Ordering::SeqCst)), (bytes, bytes));
    let only = verify_stores(&stores(&yard), &Target::Backup(backup(2)), &[], &reading(&yard)).await;
    assert_eq!((only.backups.len(), only.conclusion()), (1, Conclusion::NothingFound));
    let none = verify_stores(&stores(&yard), &Target::Backup(backup(3)), &[], &reading(&yard)).await;
    assert_eq!(none.conclusion(), Conclusion::Unproven);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_or_without_trust_it_stays_unproven() {
    let yard = Yard::new();
    yard.whole_backup(1).await;
    let report = of_policy(&yard, &Reading { opener: None, ..reading(&yard) }).await;
    assert_eq!(report.conclusion(), Conclusion::Unproven);
    let found = &report.backups[0];
    assert_eq!((found.depth, found.parts, found.plain_bytes.0), (Depth::Sealed, 5, 0));
    assert!(found.unproven[0].contains("decrypts"), "{:?}", found.unproven);
    let report = of_policy(&yard, &Reading { trusted: TrustedSigners::default(), ..reading(&yard) }).await;
    assert_eq!((report.conclusion(), codes(&report)), (Conclusion::Unproven, vec![]));
    assert!(report.backups[0].unproven[0].contains("trusted"), "{:?}", report.backups[0].unproven);
    // Damage is seen without a key too.
    std::fs::write(yard.path(&format!("orders/{}/base/00001.zst.age", backup(1))), "x").unwrap();
    let report = of_policy(&yard, &Reading { opener: None, ..reading(&yard) }).await;
    assert_eq!((report.conclusion(), codes(&report)), (Conclusion::Found, vec!["part_length"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_damage_is_named() {
    let yard = Yard::new();
    yard.whole_backup(1).await;
    yard.whole_backup(2).await;
    let dir = yard.path(&format!("orders/{}", backup(1)));
    let part = dir.join("base/00002.zst.age");
    let good = std::fs::read(&part).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 4;
    for (bytes, code) in [
        (Some(flipped), "part_hash"),
        (Some(good[..5].to_vec()), "part_length"),
        (Some(vec![]), "part_length"),
        (None, "part_missing"),
    ] {
        match bytes {
            Some(bytes) => std::fs::write(&part, bytes).unwrap(),
            None => std::fs::remove_file(&part).unwrap(),
        }
        let report = of_policy(&yard, &reading(&yard)).await;
        assert_eq!((report.conclusion(), codes(&report)), (Conclusion::Found, vec![code]));
        let bad = &report.backups[0];
        assert!(bad.findings[0].object.contains("base/00002.zst.age") && bad.parts == 4, "{bad:?}");
        assert!(report.backups[1].findings.is_empty());
    }
    std::fs::write(&part, &good).unwrap();

    // Another's key: said once for each backup, and what can be seen without it is still looked at.
    let other = Yard::new();
    let report = of_policy(&yard, &Reading { opener: Some(other.opener.clone()), ..reading(&yard) }).await;
    assert_eq!((report.conclusion(), codes(&report)), (Conclusion::Found, vec!["wrong_key", "wrong_key"]));
    let finding = &report.backups[0].findings[0];
    assert!(finding.expected.as_ref().unwrap().contains(&yard.recipient), "{finding:?}");
    assert_eq!(report.backups[0].parts, 5);

    // Known to the catalog, and gone from the store; known in a store that was not looked into.
    std::fs::remove_file(dir.join("manifest.json")).unwrap();
    let known = [(place("primary"), policy(), backup(1)), (place("primary"), policy(), backup(2))];
    let report = verify_stores(&stores(&yard), &Target::Policy(policy()), &known, &reading(&yard)).await;
    assert_eq!((report.conclusion(), codes(&report)), (Conclusion::Found, vec!["artifact_missing"]));
    let known = [(place("elsewhere"), policy(), backup(2))];
    let report = verify_stores(&stores(&yard), &Target::Policy(policy()), &known, &reading(&yard)).await;
    assert_eq!((report.conclusion(), report.unproven.len()), (Conclusion::Unproven, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_manifest_reaches_nothing_outside_its_backup() {
    let yard = Yard::new();
    let mut made = yard.whole_backup(1).await;
    // Signed by somebody who is trusted, and still: a key that points out of the folder.
    made.streams[0].parts[0].key = "../../../signing.pem".to_owned();
    let bytes = serde_json::to_vec(&made).unwrap();
    std::fs::write(yard.path(&format!("orders/{}/manifest.json", backup(1))), bytes).unwrap();
    let report = of_policy(&yard, &reading(&yard)).await;
    assert_eq!(report.conclusion(), Conclusion::Found);
    assert!(codes(&report).contains(&"part_key"), "{:?}", codes(&report));
    assert!(report.backups[0].broke.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_read_is_no_finding() {
    let yard = Yard::new();
    yard.whole_backup(1).await;
    let known = [(place("primary"), policy(), backup(1))];
    std::fs::rename(yard.path(""), yard.folder.path().join("unmounted")).unwrap();
    let report = verify_stores(&stores(&yard), &Target::Policy(policy()), &known, &reading(&yard)).await;
    assert_eq!((report.conclusion(), codes(&report)), (Conclusion::Broke, vec![]));
    assert_eq!(report.troubles[0].place, "primary");
    assert!(report.troubles[0].hint.as_ref().unwrap().contains("mounted"));
    assert!(seal::list_backups(&*yard.store, None).await.is_err());
}

#[test]
fn the_command_says_what_is_wrong_with_its_arguments() {
    let lifeboat = || assert_cmd::Command::cargo_bin("lifeboat").unwrap();
    lifeboat().arg("verify").assert().code(2);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("none.toml");
    let output = lifeboat().args(["verify", "orders", "--config"]).arg(config).assert().code(2);
    let said = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
    assert!(said.contains("none.toml") && said.contains("hint:"), "{said}");
}
