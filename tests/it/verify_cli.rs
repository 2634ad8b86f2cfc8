//! Verification: what is right is said to be right, what is wrong is found, what was not looked at is never good.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::Timestamp;
use lifeboat::catalog::{Catalog, Opened, SqliteCatalog, Trial};
use lifeboat::domain::check::Broke;
use lifeboat::domain::config::{Config, Keys, Limits, ScratchConfig, StoreConfig, StorePlace};
use lifeboat::domain::copies::CopyRecord;
use lifeboat::domain::exposure::Covered;
use lifeboat::domain::ids::{BackupId, PlaceName, PolicyName, RunId};
use lifeboat::domain::ledger::{LastRead, Shelf, ShelfRead};
use lifeboat::domain::mutation::DrillTest;
use lifeboat::domain::policy::{
    BackupJob, ContentPlan, Databases, Encryption, Method, Objectives, PasswordSource, Policy, Source,
};
use lifeboat::domain::run::{ArtifactRecord, Event, EventId, Proof, Run, RunOutcome, Work};
use lifeboat::domain::summary::DrillSummary;
use lifeboat::domain::transcript::Transcript;
use lifeboat::domain::units::{ByteSize, Span};
use lifeboat::engine::House;
use lifeboat::engine::verify::{Conclusion, Depth, Reading, Report, Target, verify, verify_stores};
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
    assert!(seal::list_backups(&*yard.store, None, &yard.trusted).await.is_err());
}

/// A catalog that knows these artifacts and remembers events.
#[derive(Default)]
struct Memory {
    known: Vec<ArtifactRecord>,
    events: Mutex<Vec<Event>>,
    read: Mutex<Vec<lifeboat::domain::ledger::Reading>>,
    broken_at: Option<usize>,
}

#[async_trait]
impl Catalog for Memory {
    async fn append(&self, _at: Timestamp, name: &PolicyName, _run: RunId, event: Event) -> Result<(), Broke> {
        assert_eq!(name, &policy());
        let mut events = self.events.lock().unwrap();
        if self.broken_at == Some(events.len()) {
            return Err(Broke::new("the catalog is gone"));
        }
        events.push(event);
        Ok(())
    }
    async fn deliver(
        &self,
        _id: EventId,
        at: Timestamp,
        policy: &PolicyName,
        run: RunId,
        event: Event,
    ) -> Result<(), Broke> {
        self.append(at, policy, run, event).await
    }
    async fn read_back_late(&self, readings: Vec<lifeboat::domain::ledger::Reading>) -> Result<(), Broke> {
        self.read_back(readings).await
    }
    async fn runs(&self, _policy: Option<&PolicyName>, _limit: usize) -> Result<Vec<Run>, Broke> {
        Ok(vec![])
    }
    async fn run(&self, _run: RunId) -> Result<Option<Run>, Broke> {
        Ok(None)
    }
    async fn transcript(&self, _run: RunId) -> Result<Option<Transcript>, Broke> {
        Ok(None)
    }
    async fn transcripts(&self, _policy: &PolicyName, _limit: usize) -> Result<Vec<Transcript>, Broke> {
        Ok(vec![])
    }
    async fn copies(&self, _policy: &PolicyName) -> Result<Vec<CopyRecord>, Broke> {
        Ok(vec![])
    }
    async fn drills(&self, _policy: &PolicyName, _limit: usize) -> Result<Vec<DrillSummary>, Broke> {
        Ok(vec![])
    }
    async fn newest_runs(&self, _policy: &PolicyName, _of_each: usize) -> Result<Vec<Run>, Broke> {
        Ok(vec![])
    }
    async fn drill_tests(&self, _policy: &PolicyName, _limit: usize) -> Result<Vec<DrillTest>, Broke> {
        Ok(vec![])
    }
    async fn drill_test(&self, _run: RunId) -> Result<Option<DrillTest>, Broke> {
        Ok(None)
    }
    async fn artifacts(&self, _policy: &PolicyName) -> Result<Vec<ArtifactRecord>, Broke> {
        Ok(self.known.clone())
    }
    async fn scratches_owed(&self) -> Result<Vec<(PolicyName, RunId, String)>, Broke> {
        Ok(vec![])
    }
    async fn adopt(&self, _at: Timestamp, _records: Vec<ArtifactRecord>) -> Result<u64, Broke> {
        Ok(0)
    }
    async fn cover(&self, _policy: &PolicyName, _covered: Covered) -> Result<(), Broke> {
        Ok(())
    }
    async fn covered(&self, _policy: &PolicyName, _since: Timestamp) -> Result<Vec<Covered>, Broke> {
        Ok(vec![])
    }
    async fn immutability(&self, _policy: &PolicyName) -> Result<Vec<Trial>, Broke> {
        Ok(vec![])
    }
    async fn read_back(&self, readings: Vec<lifeboat::domain::ledger::Reading>) -> Result<(), Broke> {
        self.read.lock().unwrap().extend(readings);
        Ok(())
    }
    async fn last_read(
        &self,
        _policy: &PolicyName,
        _store: &PlaceName,
        _shelf: &Shelf,
    ) -> Result<Vec<LastRead>, Broke> {
        Ok(vec![])
    }
    async fn read_wrong(&self, _policy: &PolicyName) -> Result<Vec<LastRead>, Broke> {
        Ok(vec![])
    }
    async fn shelves_read(&self, _policy: &PolicyName, _since: Timestamp) -> Result<Vec<ShelfRead>, Broke> {
        Ok(vec![])
    }
    async fn forget_read(&self, _store: &PlaceName, _keys: Vec<String>) -> Result<(), Broke> {
        Ok(())
    }
    async fn next_sequence(&self, _policy: &PolicyName) -> Result<u64, Broke> {
        Ok(1)
    }
    async fn taken(&self, _policy: &PolicyName) -> Result<Vec<Timestamp>, Broke> {
        Ok(self.known.iter().map(|record| record.finished_at).collect())
    }
    async fn proofs(&self, _policy: &PolicyName) -> Result<Vec<Proof>, Broke> {
        Ok(vec![])
    }
    async fn find(&self, backup: &BackupId) -> Result<Vec<(PolicyName, PlaceName)>, Broke> {
        let found = self.known.iter().filter(|record| record.backup == *backup);
        Ok(found.map(|record| (record.policy.clone(), record.store.clone())).collect())
    }
}

/// A house around a yard's store, with one policy.
fn house(yard: &Yard, catalog: &Arc<Memory>) -> House {
    let folder = yard.folder.path().to_owned();
    let job = BackupJob {
        name: "nightly".parse().unwrap(),
        method: Method::Physical,
        schedule: None,
        terms: Default::default(),
        store: place("primary"),
        copies: vec![],
        copy_within: None,
        retention: None,
        part_size: None,
        level: 3,
        read: Default::default(),
    };
    let policy = Policy {
        name: policy(),
        owner: "dba".to_owned(),
        tier: None,
        source: Source {
            kind: lifeboat::domain::policy::SourceKind::Server,
            url: "postgresql:///orders".to_owned(),
            password: PasswordSource::Default,
            tls: None,
            tls_ca: None,
            databases: Databases::Url,
            site: None,
        },
        objectives: Objectives { rpo: Span::ZERO, rto: Span::ZERO, proof_max_age: Span::ZERO, allowances: vec![] },
        backups: vec![job],
        wal: None,
        lock: None,
        encryption: Encryption { recipients: vec![yard.recipient.clone()] },
        read_back_within: None,
        content: ContentPlan::default(),
        drills: vec![],
        file: folder.clone(),
    };
    let config = Config {
        file: folder.clone(),
        catalog: folder.clone().into(),
        policies: folder.clone(),
        drills: folder.clone(),
        reports: folder.clone(),
        stores: BTreeMap::from([(
            place("primary"),
            StoreConfig {
                place: StorePlace::File { path: folder.join("store") },
                media: "disk".parse().unwrap(),
                site: None,
            },
        )]),
        keys: Keys::default(),
        scratch: ScratchConfig { dir: folder, user: "postgres".to_owned(), preload: vec![], servers: BTreeMap::new() },
        bin_dirs: vec![],
        limits: Limits { parallel: 2, connect_timeout: Span::from_secs(5) },
        watch: Default::default(),
        schedule: Default::default(),
        serve: Default::default(),
    };
    let aside = Opened::from(SqliteCatalog::open(&yard.folder.path().join("queue.db")).unwrap());
    House {
        config,
        policies: vec![policy].into(),
        drills: vec![],
        warnings: vec![],
        catalog: catalog.clone(),
        queue: aside.queue,
        outbox: aside.outbox,
        stand_ins: Default::default(),
        only: None,
        buckets: Default::default(),
        fence: None,
    }
}

fn record(number: u32) -> ArtifactRecord {
    let at = "2026-01-31T03:00:00Z".parse().unwrap();
    ArtifactRecord {
        backup: backup(number),
        policy: policy(),
        job: "nightly".parse().unwrap(),
        method: Method::Physical,
        store: place("primary"),
        sequence: 1,
        started_at: at,
        finished_at: at,
        recovery_point: at,
        plain_bytes: ByteSize(0),
        sealed_bytes: ByteSize(0),
        manifest_sha256: String::new(),
        system_identifier: String::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_planned_before_it_begins_and_its_end_is_written_down() {
    let yard = Yard::new();
    yard.whole_backup(1).await;
    let all = Target::Policy(policy());
    let catalog = Arc::new(Memory { known: vec![record(1)], ..Memory::default() });
    let (run, report) = verify(&house(&yard, &catalog), &all, None, &reading(&yard)).await.unwrap();
    assert!(run.is_some());
    assert_eq!(report.conclusion(), Conclusion::NothingFound);
    let events = catalog.events.lock().unwrap().clone();
    assert_eq!(events[0], Event::Planned { work: Work::Verify, scheduled_for: None });
    assert!(matches!(&events[1], Event::Started { pid, pid_started, host }
        if *pid == std::process::id() && *pid_started > 0 && !host.is_empty()));
    assert_eq!(events[2..], [Event::Finished { outcome: RunOutcome::Succeeded }]);

    // What the catalog knows and the store lacks is found, by policy and by id.
    let catalog = Arc::new(Memory { known: vec![record(1), record(2)], ..Memory::default() });
    for target in [all.clone(), Target::Backup(backup(2))] {
        let (_, report) = verify(&house(&yard, &catalog), &target, None, &reading(&yard)).await.unwrap();
        assert_eq!(codes(&report), ["artifact_missing"]);
        let last = catalog.events.lock().unwrap().last().cloned().unwrap();
        assert_eq!(last, Event::Finished { outcome: RunOutcome::Found(1) });
    }
    // Nobody knows it: nothing was run.
    let (run, report) =
        verify(&house(&yard, &catalog), &Target::Backup(backup(9)), None, &reading(&yard)).await.unwrap();
    assert_eq!((run, report.conclusion()), (None, Conclusion::Unproven));
    let unknown = verify(&house(&yard, &catalog), &all, Some(&place("primery")), &reading(&yard)).await.unwrap_err();
    assert!(unknown.hint.unwrap().contains("primary"));

    // A catalog that fails closes before anything is read; one that fails at the end does not take the result away.
    for (broken_at, begun) in [(0, false), (1, false), (2, true)] {
        let catalog = Arc::new(Memory { broken_at: Some(broken_at), ..Memory::default() });
        match verify(&house(&yard, &catalog), &all, None, &reading(&yard)).await {
            Err(broke) => assert!(!begun && broke.error.contains("catalog is gone")),
            Ok((_, report)) => {
                assert!(begun && report.backups.len() == 1);
                assert_eq!((report.conclusion(), report.troubles[0].place.as_str()), (Conclusion::Broke, "catalog"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_never_made_is_not_made_by_looking() {
    let yard = Yard::new();
    let store = yard.path("");
    std::fs::remove_dir(&store).unwrap();
    let all = Target::Policy(policy());
    let catalog = Arc::new(Memory::default());
    let (_, report) = verify(&house(&yard, &catalog), &all, None, &reading(&yard)).await.unwrap();
    assert_eq!(report.conclusion(), Conclusion::Unproven);
    // Once a backup is known to be there, it is trouble: perhaps a disk that is not mounted.
    let catalog = Arc::new(Memory { known: vec![record(1)], ..Memory::default() });
    let (_, report) = verify(&house(&yard, &catalog), &all, None, &reading(&yard)).await.unwrap();
    assert_eq!((report.conclusion(), codes(&report)), (Conclusion::Broke, vec![]));
    assert!(matches!(
        catalog.events.lock().unwrap().last(),
        Some(Event::Finished { outcome: RunOutcome::Broke { .. } })
    ));
    assert!(!store.exists());
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
