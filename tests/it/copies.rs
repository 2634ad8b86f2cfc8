//! Copies in a second store: brought there verified, never over anything, gone on with after a kill, compared, drilled and restored from
//! alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use lifeboat::catalog::{Catalog, SqliteCatalog};
use lifeboat::domain::artifact::{Manifest, StreamKind};
use lifeboat::domain::ids::BackupId;
use lifeboat::seal::{self, Signer};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::artifacts::{Yard, blocking, manifest, noise, policy};
use crate::support::home::{Ran, peak, ran, walk};

/// A yard with two stores and a configuration, and no server: nothing here needs one.
struct Bench {
    yard: Yard,
}

/// Longer than any test is old.
const EVER: &str = "copy_within = \"100000d\"\n";

impl Bench {
    fn new() -> Bench {
        Bench::with(EVER)
    }

    /// `within`: a line of the job.
    fn with(within: &str) -> Bench {
        let bench = Bench { yard: Yard::new() };
        for folder in ["policies", "drills"] {
            std::fs::create_dir(bench.path(folder)).unwrap();
        }
        let config = "[stores.primary]\nkind = \"file\"\npath = \"store\"\nsite = \"berlin\"\n\n\
             [stores.dr-region]\nkind = \"file\"\npath = \"far\"\nmedia = \"tape\"\nsite = \"dublin\"\n\n\
             [keys]\nsigning = \"signing.pem\"\ntrusted_signers = [\"signing.pub.pem\"]\n\n\
             [limits]\nparallel = 2\n";
        std::fs::write(bench.path("lifeboat.toml"), config).unwrap();
        let text = format!(
            "[policy]\nname = \"orders\"\nowner = \"dba\"\n\n\
             [source]\nurl = \"postgresql://nobody@/nothing?host=/nowhere\"\nsite = \"berlin\"\n\n\
             [objectives]\nrpo = \"1h\"\nrto = \"1h\"\nproof_max_age = \"1d\"\n\n\
             [[backup]]\nname = \"nightly\"\nmethod = \"physical\"\nstore = \"primary\"\ncopies = [\"dr-region\"]\n{within}\n\
             [encryption]\nrecipients = [\"{}\"]\n",
            bench.yard.recipient
        );
        std::fs::write(bench.path("policies/orders.toml"), text).unwrap();
        bench
    }

    fn path(&self, below: &str) -> PathBuf {
        self.yard.folder.path().join(below)
    }

    fn far(&self) -> PathBuf {
        self.path("far")
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("lifeboat"));
        command.args(args).current_dir(self.yard.folder.path()).env_remove("LIFEBOAT_CONFIG").env("NO_COLOR", "1");
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        ran(&mut self.command(args))
    }

    /// A backup that ended so long ago, of so many parts of noise.
    async fn backup(&self, number: u32, ago: SignedDuration, parts: usize, part_bytes: usize) -> Manifest {
        self.signed_by(&self.yard.signer, number, ago, parts, part_bytes).await
    }

    async fn signed_by(
        &self,
        signer: &Signer,
        number: u32,
        ago: SignedDuration,
        parts: usize,
        part_bytes: usize,
    ) -> Manifest {
        let ended = lifeboat::clock::now().checked_sub(ago).unwrap();
        let id = BackupId::new(ended, number);
        let sealer = self.yard.sealer(&format!("{}/{id}", policy()), part_bytes);
        let mut writer = sealer.stream("base", StreamKind::Tar);
        let stream = blocking(move || {
            for part in 0..parts {
                writer.write(&noise(u64::from(number) + part as u64, part_bytes)).unwrap();
            }
            writer.finish().unwrap()
        })
        .await;
        let mut made = manifest(&id, vec![stream], vec![self.yard.recipient.clone()]);
        (made.started_at, made.finished_at, made.recovery_point.at, made.sequence) =
            (ended, ended, ended, u64::from(number));
        seal::store_manifest(&*self.yard.store, &made, signer).await.unwrap();
        made
    }

    fn object(&self, store: &str, backup: &BackupId, name: &str) -> PathBuf {
        self.path(store).join("orders").join(backup.as_str()).join(name)
    }

    /// Loses the catalog.
    fn forget(&self) {
        for side in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(self.path(&format!("lifeboat.db{side}")));
        }
    }

    /// A second store that was filled by other means.
    fn mirror(&self) {
        for file in walk(&self.path("store")) {
            let to = self.far().join(file.strip_prefix(self.path("store")).unwrap());
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(&file, &to).unwrap();
        }
    }

    /// Fails if a manifest in the second store is there without all of its parts.
    fn no_manifest_without_its_parts(&self) {
        for path in walk(&self.far()).iter().filter(|path| path.ends_with("manifest.json")) {
            let manifest: Manifest = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            assert!(path.with_extension("json.sig").is_file());
            for part in manifest.streams.iter().flat_map(|stream| &stream.parts) {
                let bytes = std::fs::read(path.parent().unwrap().join(&part.key)).unwrap_or_default();
                assert_eq!(hex::encode(Sha256::digest(&bytes)), part.sealed_sha256, "{path:?} {}", part.key);
            }
        }
    }
}

fn hours(count: i64) -> SignedDuration {
    SignedDuration::from_hours(count)
}

fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn states(document: &Value) -> Vec<String> {
    let copies = document["policies"][0]["copies"].as_array().unwrap();
    copies.iter().map(|copy| copy["state"].as_str().unwrap().to_owned()).collect()
}

fn drifts(document: &Value) -> Vec<(String, String)> {
    let text = |drift: &Value, key: &str| drift[key].as_str().unwrap().to_owned();
    let all = document["policies"][0]["drift"].as_array().unwrap().iter();
    // What falls short of the rule is beside the comparison.
    let compared = all.filter(|drift| text(drift, "code").starts_with("copy_"));
    compared.map(|drift| (text(drift, "code"), text(drift, "object"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_the_same_bytes_is_written_down_and_is_made_once() {
    let bench = Bench::new();
    let first = bench.backup(1, hours(2), 3, 10_000).await;
    let second = bench.backup(2, hours(1), 3, 10_000).await;
    let copied = bench.run(&["copy", "orders", "--output", "json"]).expect(0).json();
    assert_eq!(states(&copied), ["copied", "copied"]);
    assert_eq!(copied["policies"][0]["copies"][0]["backup"], second.backup.as_str(), "the newest first");
    let names = |folder: &Path| -> BTreeSet<PathBuf> {
        walk(folder).iter().map(|path| path.strip_prefix(folder).unwrap().to_owned()).collect()
    };
    assert_eq!(names(&bench.path("store")), names(&bench.far()));
    for file in walk(&bench.path("store")) {
        let copy = bench.far().join(file.strip_prefix(bench.path("store")).unwrap());
        assert_eq!(std::fs::read(&file).unwrap(), std::fs::read(copy).unwrap());
    }
    let catalog = SqliteCatalog::open(&bench.path("lifeboat.db")).unwrap();
    let known = catalog.copies(&policy()).await.unwrap();
    assert_eq!(known.len(), 2);
    assert!(known.iter().all(|copy| copy.lag.0 >= hours(1) && copy.lag.0 < hours(3) && !copy.already), "{known:?}");
    assert_eq!(catalog.find(&first.backup).await.unwrap().len(), 1, "the catalog knows the copy");

    let again = bench.run(&["copy", "--output", "json"]).expect(0).json();
    assert_eq!(states(&again), ["already", "already"]);
    assert_eq!(catalog.copies(&policy()).await.unwrap().len(), 2, "what is known is not written down again");

    bench.run(&["copies", "orders", "--read"]).expect(0);
    let listed = bench.run(&["copies", "orders", "--output", "json"]).expect(4).json();
    assert_eq!(listed["policies"][0]["comparison"], "unproven", "what was not read is not good");
    // Folders lock nothing, and only so many are told to be elsewhere.
    let ruled = bench.run(&["copies", "orders", "--read", "--rule", "--output", "json"]).expect(3).json();
    let rules = ruled["policies"][0]["rules"].as_array().unwrap();
    let verdicts: Vec<&str> = rules.iter().map(|rule| rule["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["proven", "proven", "proven", "failed", "proven"], "{rules:?}");

    drop(catalog);
    // Known no more, it is read where it is, and nothing is written.
    bench.forget();
    let anew = bench.run(&["copy", "--output", "json"]).expect(0).json();
    assert_eq!(states(&anew), ["already", "already"]);
    assert_eq!(anew["policies"][0]["copies"][0]["there"], 3);
    let catalog = SqliteCatalog::open(&bench.path("lifeboat.db")).unwrap();
    assert!(catalog.copies(&policy()).await.unwrap().iter().all(|copy| copy.already));
    drop(catalog);
    // And the stores alone tell of both.
    bench.forget();
    assert!(bench.run(&["catalog", "rebuild"]).expect(0).stdout.contains("taken in: 4 artifacts"));
    // What one object lost comes back.
    std::fs::remove_file(bench.object("far", &first.backup, "base/00001.zst.age")).unwrap();
    bench.run(&["copy"]).expect(0);
    bench.run(&["copies", "--read"]).expect(0);
    // A copy that was there and is no more is not one that was never made.
    std::fs::remove_dir_all(bench.far().join("orders").join(second.backup.as_str())).unwrap();
    let gone = bench.run(&["copies", "--read", "--output", "json"]).expect(3).json();
    let object = format!("backup {} in dr-region: all of it", second.backup);
    assert_eq!(drifts(&gone), [("copy_missing".to_owned(), object)]);
    bench.run(&["copy"]).expect(0);
    bench.run(&["copies", "--read"]).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_missing_one_stale_one_corrupted_are_reported_as_exactly_that() {
    let bench = Bench::with("copy_within = \"1h\"\n");
    let lacking = bench.backup(1, hours(5), 3, 10_000).await;
    let corrupted = bench.backup(2, hours(4), 3, 10_000).await;
    let sound = bench.backup(3, hours(3), 3, 10_000).await;
    bench.mirror();
    let stale = bench.backup(4, hours(2), 3, 10_000).await;
    std::fs::remove_file(bench.object("far", &lacking.backup, "base/00001.zst.age")).unwrap();
    damage(&bench.object("far", &corrupted.backup, "base/00002.zst.age"));
    let missing =
        ("copy_object_missing".to_owned(), format!("backup {} in dr-region: part base/00001.zst.age", lacking.backup));
    let corrupt =
        ("copy_corrupt".to_owned(), format!("backup {} in dr-region: part base/00002.zst.age", corrupted.backup));
    let behind = ("copy_stale".to_owned(), "job nightly in dr-region".to_owned());

    // A list does not show bytes of the same length: that is unproven, and what it shows is found all the same.
    let listed = bench.run(&["copies", "orders", "--output", "json"]).expect(3).json();
    assert_eq!(drifts(&listed), [missing.clone(), behind.clone()]);
    let read = bench.run(&["copies", "orders", "--read", "--output", "json"]).expect(3).json();
    assert_eq!(drifts(&read), [corrupt.clone(), missing.clone(), behind.clone()]);
    let declared = read["policies"][0]["drift"][2]["declared"].as_str().unwrap();
    assert!(declared.contains(stale.backup.as_str()), "{declared}");
    // What was wrong when it was read stays so in a list.
    let listed = bench.run(&["copies", "orders", "--output", "json"]).expect(3).json();
    assert_eq!(drifts(&listed), [corrupt.clone(), missing, behind.clone()]);
    // Cut short, it does.
    let part = bench.object("far", &corrupted.backup, "base/00002.zst.age");
    let bytes = std::fs::read(&part).unwrap();
    std::fs::write(&part, &bytes[..bytes.len() - 1]).unwrap();
    let cut = bench.run(&["copies", "orders", "--output", "json"]).expect(3).json();
    assert!(drifts(&cut).contains(&corrupt), "{cut}");
    let table = bench.run(&["copies", "orders"]).expect(3);
    for words in ["copy_stale", "copy_corrupt", "copy_object_missing", "→ lifeboat copy", "FOUND: 3 differences"] {
        assert!(table.stdout.contains(words), "{words}: {table:?}");
    }
    // Copying mends what can be mended, and leaves what is wrong where it is.
    let copied = bench.run(&["copy", "--output", "json"]).expect(3).json();
    assert_eq!(states(&copied), ["copied", "already", "found", "copied"]);
    assert_eq!(std::fs::read(&part).unwrap().len(), bytes.len() - 1, "nothing is replaced");
    assert_eq!(copied["policies"][0]["copies"][0]["backup"], stale.backup.as_str());
    std::fs::remove_dir_all(bench.far().join("orders").join(corrupted.backup.as_str())).unwrap();
    bench.run(&["copy"]).expect(0);
    let late = bench.run(&["copies", "--read", "--output", "json"]).expect(3).json();
    assert!(drifts(&late).iter().all(|(code, _)| code == "copy_lag"), "they are there, and came late: {late}");
    bench.no_manifest_without_its_parts();
    let _ = sound;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forged_or_damaged_is_not_spread() {
    let bench = Bench::new();
    let (stranger, _) = seal::generate_signing_key().unwrap();
    let key = bench.path("stranger.pem");
    crate::support::artifacts::write_mode(&key, &stranger, 0o600);
    let stranger = Signer::read(&key).unwrap();
    let forged = bench.signed_by(&stranger, 1, hours(4), 3, 10_000).await;
    let unsigned = bench.backup(2, hours(3), 3, 10_000).await;
    std::fs::remove_file(bench.object("store", &unsigned.backup, "manifest.json.sig")).unwrap();
    let damaged = bench.backup(3, hours(2), 3, 10_000).await;
    damage(&bench.object("store", &damaged.backup, "base/00000.zst.age"));
    let good = bench.backup(4, hours(1), 3, 10_000).await;
    let copied = bench.run(&["copy", "orders", "--output", "json"]).expect(3).json();
    assert_eq!(states(&copied), ["copied", "found", "found", "found"]);
    let codes: Vec<&str> = copied["policies"][0]["copies"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|copy| copy["findings"].as_array().unwrap())
        .map(|finding| finding["code"].as_str().unwrap())
        .collect();
    assert_eq!(codes, ["part_hash", "signature_missing", "signer_untrusted"]);
    for bad in [&forged, &unsigned] {
        assert!(!bench.far().join("orders").join(bad.backup.as_str()).exists());
    }
    assert!(!bench.object("far", &damaged.backup, "base/00000.zst.age").exists());
    assert!(!bench.object("far", &damaged.backup, "manifest.json").exists());
    assert!(bench.object("far", &good.backup, "manifest.json").is_file());

    // One that was good when it was copied, and was forged since: the copy's catalog and store know better.
    let manifest = bench.object("store", &good.backup, "manifest.json");
    let good_manifest = std::fs::read(&manifest).unwrap();
    let signature = bench.object("store", &good.backup, "manifest.json.sig");
    for path in [&manifest, &signature] {
        std::fs::remove_file(path).unwrap();
    }
    let mut swapped = good.clone();
    swapped.sequence += 1;
    seal::store_manifest(&*bench.yard.store, &swapped, &bench.yard.signer).await.unwrap();
    let again = bench.run(&["copy", "orders", "--output", "json"]).expect(3).json();
    assert_eq!(again["policies"][0]["copies"][0]["findings"][0]["code"], "manifest_swapped");
    assert_eq!(std::fs::read(bench.object("far", &good.backup, "manifest.json")).unwrap(), good_manifest);

    // Nobody is trusted: then nothing can be told from a forgery.
    let config = std::fs::read_to_string(bench.path("lifeboat.toml")).unwrap();
    let config = config.replace("signing = \"signing.pem\"\ntrusted_signers = [\"signing.pub.pem\"]\n", "");
    std::fs::write(bench.path("lifeboat.toml"), config).unwrap();
    let refused = bench.run(&["copy", "orders"]).expect(1);
    assert!(refused.stderr.contains("nobody is trusted") && refused.stderr.contains("hint:"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_at_the_destination_are_a_finding_and_stay() {
    let bench = Bench::new();
    let made = bench.backup(1, hours(1), 3, 10_000).await;
    for (name, bytes) in [
        ("base/00001.zst.age", b"somebody else's".as_slice()),
        ("manifest.json.sig", b"{}".as_slice()),
        ("manifest.json", b"{}".as_slice()),
    ] {
        let there = bench.object("far", &made.backup, name);
        std::fs::create_dir_all(there.parent().unwrap()).unwrap();
        std::fs::write(&there, bytes).unwrap();
        let copied = bench.run(&["copy", "orders", "--output", "json"]).expect(3).json();
        assert_eq!(states(&copied), ["found"], "{name}");
        assert_eq!(copied["policies"][0]["copies"][0]["findings"][0]["code"], "copy_corrupt", "{name}");
        assert_eq!(std::fs::read(&there).unwrap(), bytes, "{name}");
        assert_eq!(bench.object("far", &made.backup, "manifest.json").exists(), name == "manifest.json");
        std::fs::remove_file(&there).unwrap();
    }
    bench.run(&["copy", "orders"]).expect(0);
    bench.no_manifest_without_its_parts();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_anywhere_the_next_run_goes_on() {
    let bench = Bench::new();
    let made = bench.backup(1, hours(1), 60, 200_000).await;
    let (mut cut, mut after) = (0, 0);
    for round in 0..8 {
        let before = walk(&bench.far()).len();
        let mut child = bench.command(&["copy", "orders"]).stdout(std::process::Stdio::null()).spawn().unwrap();
        // Each time a little further: never by the clock, always by what is there.
        while walk(&bench.far()).len() < before + 1 + round && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        bench.no_manifest_without_its_parts();
        let whole = bench.object("far", &made.backup, "manifest.json").exists();
        cut += usize::from(!whole);
        after += usize::from(whole);
    }
    assert!(cut > 0, "no kill met a copy that was under way ({after} came after it)");
    let done = bench.run(&["copy", "orders", "--output", "json"]).expect(0).json();
    assert!(after > 0 || done["policies"][0]["copies"][0]["there"].as_u64().unwrap() > 0, "it went on: {done}");
    bench.no_manifest_without_its_parts();
    bench.run(&["copies", "--read"]).expect(0);
    let runs = bench.run(&["catalog", "runs", "orders"]).expect(0);
    assert!(runs.stdout.contains("copy"), "{runs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_used_is_told_and_costs_the_others_nothing() {
    let bench = Bench::new();
    bench.backup(1, hours(1), 3, 10_000).await;
    for (args, words) in [
        (vec!["copy", "orders", "--to", "primry"], "did you mean `primary`"),
        (vec!["copy", "orders", "--to", "primary"], "nowhere to copy"),
        (vec!["copy", "orders", "--from", "primary", "--to", "primary"], "into itself"),
        (vec!["copy", "orders", "--backup", "yesterday"], "is not a"),
        (vec!["copy", "nobody"], "no policy `nobody`"),
        (vec!["copies", "nobody"], "no policy `nobody`"),
        (vec!["restore", "orders", "--to", "x", "--from", "far"], "no store `far`"),
    ] {
        let refused = bench.run(&args).expect(2);
        assert!(refused.stderr.contains(words), "{args:?}: {refused:?}");
    }
    let unknown = bench.run(&["copy", "orders", "--backup", "20260131T030000Z-0a1b2c3d"]).expect(1);
    assert!(unknown.stdout.contains("has no backup 20260131T030000Z-0a1b2c3d"), "{unknown:?}");
    // Where the copies are to go there is a file: no folder.
    std::fs::write(bench.far(), "no folder").unwrap();
    let broke = bench.run(&["copy", "orders"]).expect(1);
    assert!(broke.stdout.contains("hint:"), "{broke:?}");
    let unseen = bench.run(&["copies", "orders", "--read", "--output", "json"]).expect(4).json();
    assert_eq!(drifts(&unseen), [("copy_unseen".to_owned(), "store dr-region".to_owned())]);
    std::fs::remove_file(bench.far()).unwrap();
    bench.run(&["copy", "orders"]).expect(0);
    // Once copies are known to be there, a folder that is gone is not made anew.
    std::fs::rename(bench.far(), bench.path("away")).unwrap();
    let unmounted = bench.run(&["copy", "orders"]).expect(1);
    assert!(unmounted.stdout.contains("is it mounted?") && !bench.far().exists(), "{unmounted:?}");
    bench.run(&["copies", "orders", "--read"]).expect(4);
    // Nor is the first one, and from the second all of it comes back.
    std::fs::rename(bench.path("away"), bench.far()).unwrap();
    std::fs::rename(bench.path("store"), bench.path("lost")).unwrap();
    bench.run(&["copy", "orders"]).expect(1);
    bench.run(&["copies", "orders", "--read"]).expect(4);
    std::fs::create_dir(bench.path("store")).unwrap();
    bench.run(&["copy", "orders", "--from", "dr-region", "--to", "primary"]).expect(0);
    bench.run(&["verify", "orders", "--sealed-only"]).expect(4);
    bench.run(&["copies", "orders", "--read"]).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_that_of_the_parts_in_flight() {
    let mut peaks = Vec::new();
    for parts in [24, 96] {
        let bench = Bench::new();
        bench.backup(1, hours(1), parts, 4 << 20).await;
        peaks.push(peak(&mut bench.command(&["copy", "orders"]), 0).0);
        bench.no_manifest_without_its_parts();
    }
    // Two parts in flight, and what the threads that carried earlier ones have not given back: neither grows with the backup.
    // What the program itself takes differs from build to build.
    let [few, many] = peaks[..] else { unreachable!("two sizes") };
    assert!(many < few + 64, "96 MiB were copied at a peak of {few} MiB, 384 MiB at {many} MiB");
}
