//! The coverage ledger: with small budgets all is read in its turn, what is damaged is found by name, and nothing is told to be read that was not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use lifeboat::catalog::{self, Opened};
use lifeboat::domain::artifact::{Manifest, StreamKind};
use lifeboat::domain::config::{Config, Keys, Limits, ScratchConfig, StoreConfig, StorePlace};
use lifeboat::domain::ids::PlaceName;
use lifeboat::domain::ledger::{Budget, Depth, LastRead, Shelf};
use lifeboat::domain::policy::{
    BackupJob, ContentPlan, Databases, Encryption, Method, Objectives, PasswordSource, Policy, Source,
};
use lifeboat::domain::run::{ArtifactRecord, RunOutcome, RunState, Work};
use lifeboat::domain::units::Span;
use lifeboat::domain::wal::{Segment, WalName};
use lifeboat::engine::House;
use lifeboat::engine::ledger::{Walk, walk};
use lifeboat::engine::verify::{Conclusion, Reading, Target, verify};
use lifeboat::progress::Silent;
use lifeboat::seal::{Placed, WalFile, WalSealer};
use lifeboat::store::{ObjectInfo, Store, StoreError};

use crate::support::artifacts::{Yard, backup, manifest, noise, policy};
use crate::support::home::ran;

fn place(name: &str) -> PlaceName {
    name.parse().unwrap()
}

/// The n-th day.
fn day(number: i64) -> Timestamp {
    let first: Timestamp = "2026-02-01T04:00:00Z".parse().unwrap();
    first + jiff::SignedDuration::from_hours(24 * number)
}

fn reading(yard: &Yard) -> Reading {
    Reading { opener: Some(yard.opener.clone()), trusted: yard.trusted.clone(), threads: 3, progress: Arc::new(Silent) }
}

/// A house around a yard's store, with one policy, copies in a second store if it is wanted, and a catalog of its own.
fn house(yard: &Yard, catalog: &str, copies: bool) -> House {
    let folder = yard.folder.path().to_owned();
    let job = BackupJob {
        name: "nightly".parse().unwrap(),
        method: Method::Physical,
        schedule: None,
        terms: Default::default(),
        store: place("primary"),
        copy_within: None,
        copies: if copies { vec![place("far")] } else { vec![] },
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
        encryption: Encryption { recipients: vec![yard.recipient.clone()] },
        lock: None,
        read_back_within: Some("10d".parse().unwrap()),
        content: ContentPlan::default(),
        drills: vec![],
        file: folder.clone(),
    };
    let store = |name: &str| StoreConfig {
        place: StorePlace::File { path: folder.join(name) },
        media: "disk".parse().unwrap(),
        site: None,
    };
    let config = Config {
        file: folder.clone(),
        catalog: folder.join(catalog).into(),
        policies: folder.clone(),
        drills: folder.clone(),
        reports: folder.clone(),
        stores: BTreeMap::from([(place("primary"), store("store")), (place("far"), store("far"))]),
        keys: Keys::default(),
        scratch: ScratchConfig {
            dir: folder.clone(),
            user: "postgres".to_owned(),
            preload: vec![],
            servers: BTreeMap::new(),
        },
        bin_dirs: vec![],
        limits: Limits { parallel: 2, connect_timeout: Span::from_secs(5) },
        watch: Default::default(),
        schedule: Default::default(),
        serve: Default::default(),
    };
    let Opened { catalog, queue, outbox } = catalog::open(&config.catalog).unwrap();
    House {
        catalog,
        queue,
        outbox,
        config,
        policies: vec![policy].into(),
        drills: vec![],
        warnings: vec![],
        stand_ins: Default::default(),
        only: None,
        buckets: Default::default(),
        fence: None,
    }
}

async fn log_file(yard: &Yard, number: u32) -> WalName {
    let sealer =
        WalSealer::new(yard.store.clone(), policy(), std::slice::from_ref(&yard.recipient), 3, yard.signer.clone())
            .unwrap();
    let name = WalName::Segment(Segment { timeline: 1, log: 0, segment: number });
    let bytes = noise(u64::from(number), 20_000).into();
    let file = WalFile { name, system_identifier: None, contents: None, bytes };
    assert!(matches!(sealer.put(&file, day(0)).await.unwrap(), Placed::Stored(_)));
    name
}

/// Two backups of five parts each and ten files of the log.
async fn filled() -> Yard {
    let yard = Yard::new();
    for number in 1..=2 {
        yard.whole_backup(number).await;
    }
    for number in 1..=10 {
        log_file(&yard, number).await;
    }
    yard
}

async fn walked(house: &House, budget: &str, sight: &Reading, now: Timestamp) -> Walk {
    let policies: Vec<&Policy> = house.policies.iter().collect();
    walk(house, &policies, None, budget.parse().unwrap(), sight, now).await.unwrap()
}

/// All that the ledger knows of parts and files of the log in a store, by key.
async fn ledger_of(house: &House, store: &str) -> BTreeMap<String, LastRead> {
    let mut all = BTreeMap::new();
    for shelf in [Shelf::Backup(backup(1)), Shelf::Backup(backup(2)), Shelf::Log] {
        let read = house.catalog.last_read(&policy(), &place(store), &shelf).await.unwrap();
        all.extend(read.into_iter().map(|one| (one.key.clone(), one)));
    }
    all.retain(|key, _| !key.ends_with("manifest.json"));
    all
}

/// What was read on a day.
async fn read_on(house: &House, now: Timestamp) -> BTreeSet<String> {
    let all = ledger_of(house, "primary").await;
    all.into_values().filter(|one| one.looked_at() == Some(now)).map(|one| one.key).collect()
}

fn keys(walk: &Walk) -> Vec<&str> {
    walk.found.iter().map(|found| found.key.as_str()).collect()
}

fn flip(path: &Path) -> Vec<u8> {
    let good = std::fs::read(path).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    std::fs::write(path, bad).unwrap();
    good
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_tenths_read_everything_once_and_two_catalogs_do_it_alike() {
    let yard = filled().await;
    let (one, two) = (house(&yard, "one.db", false), house(&yard, "two.db", false));
    let mut seen = BTreeSet::new();
    let mut bytes = 0;
    for run in 0..10 {
        let here = walked(&one, "10%", &reading(&yard), day(run)).await;
        let there = walked(&two, "10%", &Reading { threads: 1, ..reading(&yard) }, day(run)).await;
        assert_eq!(here.conclusion(), Conclusion::NothingFound, "{here:#?}");
        assert_eq!((here.objects, here.bytes, here.planned), (there.objects, there.bytes, here.objects));
        let read = read_on(&one, day(run)).await;
        assert_eq!(read, read_on(&two, day(run)).await, "run {run}");
        // As long as something was never read, nothing is read twice.
        if seen.len() < 20 {
            assert!(!read.is_empty());
        }
        bytes += here.bytes.0;
        seen.extend(read);
        let coverage = here.policies[0].coverage;
        assert_eq!(coverage.objects, 20);
        assert_eq!(coverage.never, 20 - seen.len() as u64, "run {run}");
    }
    assert_eq!(seen.len(), 20, "{seen:?}");
    let all = ledger_of(&one, "primary").await;
    assert!(all.values().all(|one| one.opened_at.is_some() && one.wrong.is_none() && one.run.is_some()), "{all:?}");
    let last = walked(&one, "10%", &reading(&yard), day(10)).await;
    assert_eq!(last.policies[0].coverage.share, 10_000, "within ten days: {last:?}");
    assert!(bytes >= last.policies[0].coverage.bytes.0);
    let forecast = last.forecast.unwrap();
    assert!((5..=10).contains(&forecast.runs), "{forecast:?}");
    assert_eq!(forecast.every, Some(Span::from_secs(86_400 * i64::try_from(forecast.runs).unwrap())));
    // Eleven days later nothing is within ten any more; what is read now is.
    let late = walked(&one, "1B", &reading(&yard), day(30)).await;
    assert_eq!((late.objects, late.policies[0].coverage.recent), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_comes_first_and_a_budget_too_small_still_reads_one() {
    let yard = filled().await;
    let house = house(&yard, "one.db", false);
    assert_eq!(walked(&house, "100%", &reading(&yard), day(0)).await.objects, 20);
    let name = log_file(&yard, 11).await;
    for (budget, now) in [("1B", 1), ("1ms", 2), ("0.01%", 3)] {
        let walk = walked(&house, budget, &reading(&yard), day(now)).await;
        assert_eq!(walk.conclusion(), Conclusion::NothingFound, "{budget}: {walk:?}");
        // Until a time is used up, each thread may have begun one.
        assert!(walk.objects == 1 || budget == "1ms" && (1..=3).contains(&walk.objects), "{budget}: {walk:?}");
        let read = read_on(&house, day(now)).await;
        assert_eq!(read.first().unwrap().contains(&name.to_string()), now == 1, "{budget}: {read:?}");
    }
    let long = walked(&house, "1h", &reading(&yard), day(4)).await;
    assert_eq!((long.objects, long.planned), (21, 21));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_flipped_byte_is_found_by_the_run_that_reaches_it_and_stays_until_it_is_right() {
    let yard = filled().await;
    let house = house(&yard, "one.db", false);
    let part = format!("orders/{}/base/00002.zst.age", backup(2));
    let log = "orders/wal/00000001/000000010000000000000005.zst.age".to_owned();
    for (key, first) in [(part, 0), (log, 30)] {
        let good = flip(&yard.path(&key));
        let mut reached = None;
        for run in first..first + 10 {
            let walk = walked(&house, "10%", &reading(&yard), day(run)).await;
            // The run that reads it, and no other before it.
            let read = read_on(&house, day(run)).await.contains(&key);
            assert_eq!(walk.conclusion(), if read { Conclusion::Found } else { Conclusion::NothingFound });
            if read {
                assert_eq!(keys(&walk), [key.as_str()]);
                reached = Some(day(run));
                break;
            }
        }
        let reached = reached.expect("ten tenths are all of it");
        let wrong = house.catalog.read_wrong(&policy()).await.unwrap();
        assert_eq!(wrong.len(), 1);
        let told = wrong[0].wrong.clone().unwrap();
        assert_eq!(
            (wrong[0].key.as_str(), told.since, told.finding.code.as_str()),
            (key.as_str(), reached, "part_hash")
        );
        // The run is written down with what it found.
        let run = house.catalog.run(told.run.unwrap()).await.unwrap().unwrap();
        assert_eq!((run.work, run.state), (Work::ReadBack, RunState::Ended(RunOutcome::Found(1))));
        std::fs::write(yard.path(&key), good).unwrap();
        assert_eq!(
            walked(&house, "100%", &reading(&yard), day(first + 20)).await.conclusion(),
            Conclusion::NothingFound
        );
        assert!(house.catalog.read_wrong(&policy()).await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_removed_meanwhile_is_no_finding_and_what_is_lost_is() {
    let yard = filled().await;
    let house = house(&yard, "one.db", false);
    walked(&house, "100%", &reading(&yard), day(0)).await;
    // Pruned as a whole: nothing names it any more, and the ledger forgets it.
    for file in std::fs::read_dir(yard.path(&format!("orders/{}", backup(1)))).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() { std::fs::remove_file(path).unwrap() } else { std::fs::remove_dir_all(path).unwrap() }
    }
    std::fs::remove_file(yard.path("orders/wal/00000001/000000010000000000000003.jsonl")).unwrap();
    std::fs::remove_file(yard.path("orders/wal/00000001/000000010000000000000003.zst.age")).unwrap();
    let after = walked(&house, "100%", &reading(&yard), day(1)).await;
    assert_eq!((after.conclusion(), after.objects), (Conclusion::NothingFound, 14), "{after:?}");
    assert_eq!(ledger_of(&house, "primary").await.len(), 14);
    // Lost: a manifest, or a record, still names it.
    let part = format!("orders/{}/base/00001.zst.age", backup(2));
    let log = "orders/wal/00000001/000000010000000000000004.zst.age".to_owned();
    for key in [&part, &log] {
        std::fs::remove_file(yard.path(key)).unwrap();
    }
    let lost = walked(&house, "100%", &reading(&yard), day(2)).await;
    assert_eq!(keys(&lost), [part.as_str(), log.as_str()]);
    let codes: Vec<&str> = lost.found.iter().map(|found| found.finding.code.as_str()).collect();
    assert_eq!(codes, ["part_missing", "wal_missing"]);
    // A backup that the catalog knows and the store lacks.
    let record = record_of(&yard.whole_backup(3).await);
    house.catalog.adopt(day(2), vec![record]).await.unwrap();
    let manifest = format!("orders/{}/manifest.json", backup(3));
    std::fs::remove_file(yard.path(&manifest)).unwrap();
    let lost = walked(&house, "1B", &reading(&yard), day(3)).await;
    assert_eq!(keys(&lost)[0], manifest);
    assert_eq!(lost.found[0].finding.code, "artifact_missing");
}

fn record_of(manifest: &Manifest) -> ArtifactRecord {
    ArtifactRecord::of(manifest, "00", &place("primary"))
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_read_in_their_own_store_and_a_store_that_is_gone_is_trouble() {
    let yard = filled().await;
    let house = house(&yard, "one.db", true);
    let first = walked(&house, "100%", &reading(&yard), day(0)).await;
    assert_eq!((first.conclusion(), first.objects), (Conclusion::Unproven, 20), "{first:?}");
    assert!(first.unproven[0].contains("far"), "{:?}", first.unproven);
    let copy = |from: &Path, to: &Path| {
        let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
        assert!(copied.success());
    };
    copy(&yard.folder.path().join("store"), &yard.folder.path().join("far"));
    let key = format!("orders/{}/globals.sql.zst.age", backup(2));
    flip(&yard.folder.path().join("far").join(&key));
    let both = walked(&house, "60%", &reading(&yard), day(1)).await;
    let found: Vec<_> = both.found.iter().map(|one| (one.store.as_str(), one.key.as_str())).collect();
    assert_eq!(found, [("far", key.as_str())], "what was never read first: {both:?}");
    assert_eq!((both.policies[0].coverage.objects, both.policies[0].coverage.never), (40, 0));
    assert_eq!((ledger_of(&house, "primary").await.len(), ledger_of(&house, "far").await.len()), (20, 20));
    let (primary, sight) = (place("primary"), reading(&yard));
    let only = walk(&house, &[&house.policies[0]], Some(&primary), Budget::Share(10_000), &sight, day(2)).await;
    assert_eq!(only.unwrap().conclusion(), Conclusion::NothingFound);

    // Known to hold backups, and gone: no empty store.
    let known = ArtifactRecord { store: place("far"), ..record_of(&yard.whole_backup(3).await) };
    house.catalog.adopt(day(2), vec![known]).await.unwrap();
    std::fs::remove_dir_all(yard.folder.path().join("far")).unwrap();
    let gone = walked(&house, "100%", &reading(&yard), day(3)).await;
    assert_eq!((gone.conclusion(), gone.troubles[0].place.as_str()), (Conclusion::Broke, "far"), "{gone:?}");
    assert_eq!(gone.objects, 25, "the other store is read all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_only_the_outside_is_told_to_be_read() {
    let yard = filled().await;
    let house = house(&yard, "one.db", false);
    let outside = walked(&house, "100%", &Reading { opener: None, ..reading(&yard) }, day(0)).await;
    assert_eq!((outside.conclusion(), outside.objects), (Conclusion::Unproven, 20));
    let all = ledger_of(&house, "primary").await;
    assert!(all.values().all(|one| one.sealed_at == Some(day(0)) && one.opened_at.is_none()), "{all:?}");
    // With a key nothing of that counts, and a stranger's key opens nothing.
    let inside = walked(&house, "1B", &reading(&yard), day(1)).await;
    assert_eq!((inside.policies[0].coverage.recent, inside.policies[0].coverage.never), (1, 0));
    let stranger = Reading { opener: Some(Yard::new().opener), ..reading(&yard) };
    let closed = walked(&house, "100%", &stranger, day(2)).await;
    assert_eq!(closed.conclusion(), Conclusion::Found);
    assert!(closed.found.iter().all(|found| found.finding.code == "wrong_key"), "{:?}", closed.found);
    assert!(house.catalog.read_wrong(&policy()).await.unwrap().is_empty(), "the bytes are right");
    let nobody = Reading { trusted: Default::default(), ..reading(&yard) };
    let walk = walked(&house, "100%", &nobody, day(3)).await;
    assert_eq!(walk.conclusion(), Conclusion::Unproven);
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_without_a_budget_feeds_the_ledger_and_an_unsigned_backup_is_not_told_to_be_right() {
    let yard = filled().await;
    let house = house(&yard, "one.db", false);
    let key = format!("orders/{}/base/00001.zst.age", backup(1));
    let good = flip(&yard.path(&key));
    let (run, report) = verify(&house, &Target::Policy(policy()), None, &reading(&yard)).await.unwrap();
    assert_eq!(report.conclusion(), Conclusion::Found);
    let all = ledger_of(&house, "primary").await;
    assert_eq!(all.len(), 10);
    assert_eq!(all.values().filter(|one| one.opened_at.is_some()).count(), 9);
    let wrong = all[&key].wrong.clone().unwrap();
    assert_eq!((wrong.finding.code.as_str(), wrong.run, wrong.depth), ("part_hash", run, Depth::Sealed));
    // Right again from outside is right again.
    std::fs::write(yard.path(&key), good).unwrap();
    verify(&house, &Target::Backup(backup(1)), None, &Reading { opener: None, ..reading(&yard) }).await.unwrap();
    assert!(house.catalog.read_wrong(&policy()).await.unwrap().is_empty());
    let signature = yard.path(&format!("orders/{}/manifest.json.sig", backup(2)));
    let signed = std::fs::read(&signature).unwrap();
    std::fs::remove_file(&signature).unwrap();
    let before = ledger_of(&house, "primary").await;
    verify(&house, &Target::Policy(policy()), None, &reading(&yard)).await.unwrap();
    let after = ledger_of(&house, "primary").await;
    let of_second = |all: &BTreeMap<String, LastRead>| -> Vec<LastRead> {
        all.values().filter(|one| one.shelf == Shelf::Backup(backup(2))).cloned().collect()
    };
    assert_eq!(of_second(&before), of_second(&after));
    assert_ne!(before, after);
    let wrong = house.catalog.read_wrong(&policy()).await.unwrap();
    assert_eq!(wrong[0].wrong.as_ref().unwrap().finding.code, "signature_missing");
    let walk = walked(&house, "100%", &reading(&yard), day(300)).await;
    assert_eq!((walk.conclusion(), walk.objects), (Conclusion::Found, 15), "{walk:?}");
    std::fs::write(&signature, signed).unwrap();
    verify(&house, &Target::Policy(policy()), None, &reading(&yard)).await.unwrap();
    assert!(house.catalog.read_wrong(&policy()).await.unwrap().is_empty());
}

/// A store that hands its objects out until it was asked so often, and then keeps everybody waiting.
#[derive(Debug)]
struct Stuck {
    inner: Arc<dyn Store>,
    room: AtomicUsize,
    given: Mutex<BTreeSet<String>>,
}

#[async_trait]
impl Store for Stuck {
    fn url(&self) -> String {
        self.inner.url()
    }
    async fn put_new(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.inner.put_new(key, bytes).await
    }
    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        if key.ends_with(".zst.age") {
            if self.room.fetch_update(SeqCst, SeqCst, |room| room.checked_sub(1)).is_err() {
                std::future::pending::<()>().await;
            }
            self.given.lock().unwrap().insert(key.to_owned());
        }
        self.inner.get(key).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.inner.list(prefix).await
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }
}

/// A backup of so many parts.
async fn many_parts(yard: &Yard, count: usize) {
    let stream = yard.seal_bytes(&format!("orders/{}", backup(1)), 100, noise(1, count * 100)).await;
    let mut manifest = manifest(&backup(1), vec![stream], vec![yard.recipient.clone()]);
    // A tar's parts say what they hold; these hold nothing that a tar could.
    manifest.streams[0].kind = StreamKind::Dump { database: "orders".to_owned() };
    manifest.method = Method::Logical;
    lifeboat::seal::store_manifest(&*yard.store, &manifest, &yard.signer).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_cut_loses_its_last_batch_and_tells_of_nothing_that_it_did_not_read() {
    let yard = Yard::new();
    many_parts(&yard, 700).await;
    for room in [0, 10, 300, 620] {
        let stuck =
            Arc::new(Stuck { inner: yard.store.clone(), room: AtomicUsize::new(room), given: Mutex::default() });
        let name = format!("cut-{room}.db");
        let mut house = house(&yard, &name, false);
        house.stand_ins.insert(place("primary"), stuck.clone());
        let (house, sight) = (Arc::new(house), reading(&yard));
        let (in_task, seeing) = (house.clone(), sight.clone());
        let task = tokio::spawn(async move { walked(&in_task, "100%", &seeing, day(0)).await });
        while stuck.room.load(SeqCst) > 0 || stuck.given.lock().unwrap().len() < room {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        task.abort();
        let _ = task.await;
        let read = ledger_of(&house, "primary").await;
        let given = stuck.given.lock().unwrap().clone();
        assert!(read.keys().all(|key| given.contains(key)), "{room}: a reading that did not happen");
        assert!(read.len() + 256 + sight.threads >= room, "{room}: only {} are written down", read.len());
        // The next run begins with what was not written down, and all of it comes to its turn.
        stuck.room.store(usize::MAX, SeqCst);
        stuck.given.lock().unwrap().clear();
        let next = walked(&house, "100%", &sight, day(1)).await;
        assert_eq!((next.conclusion(), next.objects), (Conclusion::NothingFound, 700));
        assert_eq!(next.policies[0].coverage.share, 10_000);
    }
}

/// The same yard as a configuration on disk, for the real binary.
fn configured(yard: &Yard) -> std::path::PathBuf {
    let folder = yard.folder.path();
    for name in ["policies", "drills"] {
        std::fs::create_dir(folder.join(name)).unwrap();
    }
    let config = "[catalog]\npath = \"lifeboat.db\"\n[stores.primary]\nkind = \"file\"\npath = \"store\"\n[keys]\nidentities = [\"identity.txt\"]\n\
        trusted_signers = [\"signing.pub.pem\"]\n";
    std::fs::write(folder.join("lifeboat.toml"), config).unwrap();
    let policy = format!(
        "[policy]\nname = \"orders\"\nowner = \"dba\"\n[source]\nurl = \"postgresql://lifeboat@/orders?host=/nowhere\"\n[objectives]\nrpo = \"1d\"\nrto = \"1h\"\n\
         proof_max_age = \"7d\"\n[[backup]]\nname = \"nightly\"\nmethod = \"logical\"\nstore = \"primary\"\n[encryption]\nrecipients = [\"{}\"]\n\
         [verify]\nwithin = \"30d\"\n",
        yard.recipient
    );
    std::fs::write(folder.join("policies/orders.toml"), policy).unwrap();
    folder.join("lifeboat.toml")
}

fn lifeboat(config: &Path, args: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("lifeboat"));
    command.arg("--config").arg(config).args(args).env_remove("LIFEBOAT_CONFIG").env("NO_COLOR", "1");
    command.stdin(std::process::Stdio::null());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_goes_round_and_survives_a_kill() {
    let yard = Yard::new();
    many_parts(&yard, 1_500).await;
    let config = configured(&yard);
    let rows = || {
        let raw = rusqlite::Connection::open(yard.folder.path().join("lifeboat.db")).unwrap();
        let sql = "select count(*) from ledger where opened_at is not null and key not like '%.json'";
        raw.query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap_or(0)
    };
    ran(&mut lifeboat(&config, &["catalog", "rebuild"])).expect(0);
    for _ in 0..3 {
        let before = rows();
        let mut child = lifeboat(&config, &["verify", "--budget", "100%", "--output", "json"]);
        let mut child = child.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        // In the middle of it: as soon as one more batch is there, or it is through.
        while rows() == before && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!((before..=1_500).contains(&rows()));
    }
    let run = |args: &[&str], code: i32| {
        let ran = ran(&mut lifeboat(&config, args));
        ran.expect(code)
    };
    let whole = run(&["verify", "orders", "--budget", "100%", "--output", "json"], 0).json();
    assert_eq!(
        (whole["schema"].as_str(), whole["walk"]["objects"].as_u64()),
        (Some("lifeboat.verify-budget/1"), Some(1_500))
    );
    assert_eq!(whole["walk"]["policies"][0]["coverage"]["share"], 10_000);
    assert_eq!(rows(), 1_500);
    let part = yard.path(&format!("orders/{}/base/00700.zst.age", backup(1)));
    let good = flip(&part);
    let found = run(&["verify", "--budget", "100%"], 3);
    assert!(found.stdout.contains("base/00700.zst.age") && found.stdout.contains("FOUND: 1 finding"), "{found:?}");
    // Another part of it, read and right, takes nothing away.
    let next = run(&["verify", "--budget", "10%"], 0);
    assert!(next.stdout.contains("within 30d") && next.stdout.contains("nothing found"), "{next:?}");
    let status = run(&["status", "orders"], 3);
    assert!(status.stdout.contains("1 stored object was wrong when last read back"), "{status:?}");
    let drift = run(&["drift"], 3);
    assert!(drift.stdout.contains("read_back_wrong") && drift.stdout.contains("base/00700.zst.age"), "{drift:?}");
    std::fs::write(&part, good).unwrap();
    run(&["verify", "--budget", "100%"], 0);
    let drift = ran(&mut lifeboat(&config, &["drift", "--output", "json"]));
    assert!(!drift.stdout.contains("read_back_wrong"), "{drift:?}");
    assert_eq!(drift.json()["schema"], "lifeboat.drift/1");
    // Wrong inputs.
    for (args, part) in [
        (vec!["verify"], "required"),
        (vec!["verify", "--budget", "20M"], "not a budget"),
        (vec!["verify", "--budget", "0%"], "a share is from"),
        (vec!["verify", "orders", "--wal", "--budget", "10%"], "cannot be used with"),
        (vec!["verify", "ordres", "--budget", "10%"], "did you mean `orders`"),
        (vec!["verify", "--budget", "10%", "--store", "primery"], "did you mean `primary`"),
        (vec!["verify", "20260131T030000Z-00000001", "--budget", "10%"], "not for one backup"),
        (vec!["drift", "ordres"], "did you mean `orders`"),
    ] {
        let wrong = run(&args, 2);
        assert!(wrong.stderr.contains(part), "{args:?}: {wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_without_errors_by_the_ledger_as_long_as_it_counts_and_no_longer() {
    use lifeboat::engine::copies::{self, Looking};
    use lifeboat::judge::copies::Rule;
    let yard = filled().await;
    let from = yard.path("");
    let copied = std::process::Command::new("cp").arg("-a").arg(&from).arg(yard.folder.path().join("far")).status();
    assert!(copied.unwrap().success());
    let mut house = house(&yard, "one.db", true);
    house.config.keys.trusted_signers = vec![yard.public_key.clone()];
    let ruled = async |house: &House, read: bool| {
        let immutable = BTreeMap::new();
        let looking = Looking { read, ledger: true, immutable: &immutable, progress: &Silent };
        let seen = copies::look(house, &house.policies[0], looking).await.unwrap();
        let judged = seen.judged(lifeboat::clock::now());
        let errors = judged.rules.iter().find(|ruled| ruled.rule == Rule::Errors).unwrap().clone();
        let codes: Vec<String> = judged.compared.iter().map(|drift| drift.code.clone()).collect();
        (errors.verdict, errors.reason, codes)
    };
    use lifeboat::domain::transcript::Verdict::{Failed, Proven, Unproven};
    let ago = |days: i64| lifeboat::clock::now() - jiff::SignedDuration::from_hours(24 * days);
    let (verdict, reason, codes) = ruled(&house, false).await;
    assert!(verdict == Unproven && reason.contains("5 of its 5 objects"), "{reason}");
    assert_eq!(codes, ["copies_unverified", "copies_unverified"]);
    // Half of it, read eleven days ago and three: what is older than promised does not count.
    let far = place("far");
    let all = async |house: &House, only: Option<&PlaceName>, now: Timestamp| {
        let policies: Vec<&Policy> = house.policies.iter().collect();
        walk(house, &policies, only, "100%".parse().unwrap(), &reading(&yard), now).await.unwrap()
    };
    let (near, old) = (all(&house, None, ago(11)).await, ruled(&house, false).await);
    assert_eq!(near.conclusion(), Conclusion::NothingFound);
    assert!(old.0 == Unproven && old.1.contains("within 10d"), "{old:?}");
    all(&house, Some(&far), ago(3)).await;
    assert_eq!(ruled(&house, false).await.0, Unproven, "one store is not all");
    all(&house, Some(&place("primary")), ago(2)).await;
    let (verdict, reason, codes) = ruled(&house, false).await;
    assert!(verdict == Proven && reason.contains("by the ledger"), "{reason}");
    assert_eq!(codes, Vec::<String>::new());
    // In this look.
    let (verdict, reason, _) = ruled(&house, true).await;
    assert!(verdict == Proven && !reason.contains("ledger"), "{reason}");
    // What it read is in the ledger from now on.
    let (_, reason, _) = ruled(&house, false).await;
    let today = lifeboat::clock::now().to_string();
    assert!(reason.contains(&today[..10]) || reason.contains(&ago(1).to_string()[..10]), "{reason}");
    // Wrong by the ledger is wrong, though the list looks right; and so it is until it was read again.
    let shelf = Shelf::Backup(backup(1));
    let one = house.catalog.last_read(&policy(), &far, &shelf).await.unwrap();
    let key = one.iter().find(|one| !one.key.ends_with("manifest.json")).unwrap().key.clone();
    let good = flip(&yard.folder.path().join("far").join(&key));
    all(&house, Some(&far), ago(0)).await;
    std::fs::write(yard.folder.path().join("far").join(&key), good).unwrap();
    let (verdict, reason, codes) = ruled(&house, false).await;
    assert!(verdict == Failed && codes == ["copy_corrupt"], "{reason} {codes:?}");
    assert_eq!(ruled(&house, true).await.0, Proven);
    // Without a declared time nothing counts.
    std::sync::Arc::make_mut(&mut house.policies)[0].read_back_within = None;
    let (verdict, reason, _) = ruled(&house, false).await;
    assert!(verdict == Unproven && reason.contains("[verify] within"), "{reason}");
}
