//! A wire to a real S3 server that breaks: whatever happens on it, an object is whole or not there, and nobody is told otherwise.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use aws_sdk_s3::Client;
use bytes::Bytes;
use lifeboat::domain::bucket::Bucket;
use lifeboat::domain::units::{ByteSize, Span};
use lifeboat::store::{Duty, S3Store, Store, StoreError};

use crate::support::faulty::{Asked, Fault, Wire};
use crate::support::s3::{Kind, S3Server};

/// All that can happen.
const FAULTS: [Fault; 16] = [
    Fault::Answer(500, "InternalError"),
    Fault::Answer(503, "SlowDown"),
    Fault::Answer(503, "ServiceUnavailable"),
    Fault::Answer(403, "ExpiredToken"),
    Fault::Answer(403, "RequestTimeTooSkewed"),
    Fault::Answer(403, "AccessDenied"),
    Fault::Answer(404, "NoSuchBucket"),
    Fault::Answer(400, "RequestTimeout"),
    Fault::AnswerAfter(500, "InternalError"),
    Fault::AnswerAfter(503, "SlowDown"),
    Fault::Hang,
    Fault::Reset,
    Fault::ResetInRequest,
    Fault::ResetAfter,
    Fault::CutBody,
    Fault::FlipBody,
];

/// A generator of numbers that a seed names.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// The bucket behind the wire, impatient.
fn impatient(server: &S3Server, wire: &Wire, name: &str) -> Bucket {
    let mut bucket = server.bucket(name, "db");
    bucket.endpoint = Some(wire.endpoint());
    bucket.piece = ByteSize(5 << 20);
    bucket.parallel = 2;
    bucket.patience.connect = Span::from_secs(2);
    bucket.patience.read = Span::from_std(Duration::from_millis(1500));
    bucket.patience.operation = Span::from_secs(10);
    bucket.patience.attempts = 3;
    bucket.patience.backoff = Span::from_std(Duration::from_millis(5));
    bucket
}

async fn bytes_of(client: &Client, bucket: &str, key: &str) -> Option<Bytes> {
    let got = client.get_object().bucket(bucket).key(key).send().await.ok()?;
    Some(got.body.collect().await.unwrap().into_bytes())
}

async fn uploads(client: &Client, bucket: &str) -> usize {
    client.list_multipart_uploads().bucket(bucket).send().await.unwrap().uploads().len()
}

/// Backups of three parts and a manifest, with faults at random requests; then what is there is looked at past the wire.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_breaks_an_object_is_whole_or_not_there() {
    let Some(server) = S3Server::start(Kind::Weed) else { return };
    server.make_bucket("faults", false).await;
    let (client, wire) = (server.client(), Wire::to(server.port()));
    let seed = std::env::var("LIFEBOAT_FAULTS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| getrandom::u64().unwrap() >> 1);
    let wanted = std::env::var("LIFEBOAT_S3_FAULTS").ok().and_then(|count| count.parse().ok()).unwrap_or(80_u32);
    println!("seed {seed}: LIFEBOAT_FAULTS_SEED={seed} does the same again");
    let mut dice = Dice(seed);
    let injected = Arc::new(AtomicU32::new(0));
    let mut came_of_it: BTreeMap<&str, u32> = BTreeMap::new();
    let mut round = 0;
    while injected.load(SeqCst) < wanted {
        round += 1;
        let backup = format!("p/b{round}");
        // Fresh: what one round used up of the budget is not the next one's want.
        let store = S3Store::new(impatient(&server, &wire, "faults"), Duty::Backup, None);
        let fault = FAULTS[usize::try_from(dice.roll(16)).unwrap()];
        let (from, times) = (u32::try_from(dice.roll(14)).unwrap(), u32::try_from(1 + dice.roll(4)).unwrap());
        let only = ["PUT", "POST", "GET", "HEAD", "DELETE", ""][usize::try_from(dice.roll(6)).unwrap()];
        let seen = AtomicU32::new(0);
        let count = Arc::clone(&injected);
        wire.script(move |asked: &Asked| {
            if !only.is_empty() && asked.method != only {
                return None;
            }
            let number = seen.fetch_add(1, SeqCst);
            let hit = (from..from + times).contains(&number);
            hit.then(|| {
                count.fetch_add(1, SeqCst);
                fault
            })
        });
        let said = format!("seed {seed}, round {round}: {fault:?} at {only} {from}, {times} times");
        let content: Vec<(String, Bytes)> = (0..3_u8)
            .map(|part| {
                // One in twelve is written in pieces.
                let length =
                    if dice.roll(12) == 0 { 11_000_000 } else { usize::try_from(1 + dice.roll(200_000)).unwrap() };
                (format!("{backup}/base/0000{part}.zst.age"), Bytes::from(vec![part ^ round as u8; length]))
            })
            .chain([(format!("{backup}/manifest.json"), Bytes::from(format!("{{\"{backup}\":true}}")))])
            .collect();
        // As a backup does it: the first error ends it.
        let mut failed = None;
        let mut claimed = Vec::new();
        for (key, bytes) in &content {
            match store.put_new(key, bytes.clone()).await {
                Ok(()) => claimed.push(key.clone()),
                Err(StoreError::AlreadyThere { .. }) => panic!("{said}: {key} was not there, and was said to be"),
                Err(error) => {
                    assert!(error.hint().is_some(), "{said}: {error}");
                    failed = Some(error);
                    break;
                }
            }
        }
        // And as a drill reads it, over the same wire.
        for (key, bytes) in content.iter().filter(|(key, _)| claimed.contains(key)) {
            match store.get(key).await {
                Ok(read) if fault == Fault::FlipBody => {
                    // Of an object in pieces the service keeps no checksum of the whole: the seal has its own.
                    let different = read.iter().zip(bytes).filter(|(a, b)| a != b).count();
                    assert!(read.len() == bytes.len() && different <= 1, "{said}: {key}");
                }
                Ok(read) => assert_eq!(read, *bytes, "{said}: {key}"),
                Err(StoreError::NotFound { .. }) => panic!("{said}: {key} is there, and was said not to be"),
                Err(error) => assert!(error.hint().is_some(), "{said}: {error}"),
            }
        }
        match store.list(&format!("{backup}/")).await {
            Ok(listed) => {
                let listed: Vec<String> = listed.into_iter().map(|object| object.key).collect();
                assert!(claimed.iter().all(|key| listed.contains(key)), "{said}: {listed:?}");
            }
            Err(error) => assert!(error.hint().is_some(), "{said}: {error}"),
        }
        wire.mend();
        // An abort that did not get through is made up for at the end of the work, as `backup` and `copy` do it.
        if uploads(&client, "faults").await > 0 {
            *came_of_it.entry("rounds after which an upload was still to be aborted").or_default() += 1;
        }
        store.settle().await.unwrap();
        assert_eq!(uploads(&client, "faults").await, 0, "{said}");
        for (key, bytes) in &content {
            let there = bytes_of(&client, "faults", &format!("db/{key}")).await;
            let is_claimed = claimed.contains(key);
            match there {
                Some(there) => assert_eq!(there, *bytes, "{said}: {key}"),
                None => assert!(!is_claimed, "{said}: {key} was said to be written, and is not there"),
            }
        }
        let manifest = bytes_of(&client, "faults", &format!("db/{backup}/manifest.json")).await;
        if manifest.is_some() {
            assert_eq!(claimed.len().max(3), claimed.len(), "{said}: a manifest without its parts");
        }
        let outcome = match failed {
            None => "backups that were whole in spite of it",
            Some(_) => "backups that ended with an error and its hint",
        };
        *came_of_it.entry(outcome).or_default() += 1;
    }
    println!("{} faults in {round} rounds: {came_of_it:?}", injected.load(SeqCst));
    assert!(came_of_it.len() >= 2, "some survived and some did not: {came_of_it:?}");
}

/// What a person is told.
#[tokio::test(flavor = "multi_thread")]
async fn each_fault_that_stays_is_said_with_what_to_do() {
    let Some(server) = S3Server::start(Kind::Weed) else { return };
    server.make_bucket("faults", false).await;
    let wire = Wire::to(server.port());
    let store = S3Store::new(server.bucket("faults", "db"), Duty::Backup, None);
    store.put_new("p/there", Bytes::from_static(b"there")).await.unwrap();
    for (fault, word, hint) in [
        (Fault::Answer(500, "InternalError"), "InternalError (500)", "failed"),
        (Fault::Answer(503, "SlowDown"), "SlowDown (503)", "parallel"),
        (Fault::Answer(403, "ExpiredToken"), "ExpiredToken (403)", "expired"),
        (Fault::Answer(403, "RequestTimeTooSkewed"), "RequestTimeTooSkewed (403)", "NTP"),
        (Fault::Answer(403, "AccessDenied"), "AccessDenied (403)", "docs/s3.md"),
        (Fault::Answer(404, "NoSuchBucket"), "no such bucket", "lifeboat.toml"),
        (Fault::Hang, "", "endpoint"),
        (Fault::Reset, "", "endpoint"),
    ] {
        let store = S3Store::new(impatient(&server, &wire, "faults"), Duty::Backup, None);
        wire.script(move |_| Some(fault));
        for error in [
            store.put_new("p/new", Bytes::from_static(b"new")).await.unwrap_err(),
            store.put_new("p/large", Bytes::from(vec![1; 11_000_000])).await.unwrap_err(),
            store.get("p/there").await.unwrap_err(),
            store.list("p/").await.unwrap_err(),
            store.delete("p/there").await.unwrap_err(),
        ] {
            let told = format!("{error}, hint: {}", error.hint().unwrap());
            assert!(told.contains(word) && told.contains(hint), "{fault:?}: {told}");
            assert!(
                !matches!(error, StoreError::NotFound { .. } | StoreError::AlreadyThere { .. }),
                "{fault:?}: {told}"
            );
        }
        wire.mend();
        store.settle().await.unwrap();
        assert_eq!(uploads(&server.client(), "faults").await, 0, "{fault:?}");
    }
}

/// A right that one verb lacks is said, and is not taken for something else.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_is_no_absence() {
    let Some(server) = S3Server::start(Kind::Weed) else { return };
    server.make_bucket("rights", false).await;
    let admin = S3Store::new(server.bucket("rights", "db"), Duty::Backup, None);
    admin.put_new("p/b/manifest.json", Bytes::from_static(b"{}")).await.unwrap();
    let mut bucket = server.bucket("rights", "db");
    bucket.login.file = Some(server.credentials_of("reader", "AKIDREADER"));
    bucket.backup = Some(bucket.login.clone());
    bucket.backup.as_mut().unwrap().file = Some(server.credentials_of("writer", "AKIDWRITER"));
    let reader = S3Store::new(bucket.clone(), Duty::Read, None);
    let writer = S3Store::new(bucket, Duty::Backup, None);
    assert_eq!(reader.get("p/b/manifest.json").await.unwrap(), Bytes::from_static(b"{}"));
    let refused = reader.put_new("p/b/forged", Bytes::from_static(b"x")).await.unwrap_err();
    assert!(refused.to_string().contains("AccessDenied"), "{refused}");
    let refused = reader.delete("p/b/manifest.json").await.unwrap_err();
    assert!(refused.to_string().contains("AccessDenied"), "{refused}");
    writer.put_new("p/b/new", Bytes::from_static(b"x")).await.unwrap();
    writer.put_new("p/b/large", Bytes::from(vec![7; 40_000_000])).await.unwrap();
    // It cannot look whose the object is; that it is there, it was told.
    let taken = writer.put_new("p/b/new", Bytes::from_static(b"y")).await.unwrap_err();
    assert!(matches!(taken, StoreError::AlreadyThere { .. }), "{taken}");
    let refused = writer.get("p/b/manifest.json").await.unwrap_err();
    assert!(matches!(refused, StoreError::Service { .. }), "{refused}");
    let none = S3Store::new(server.bucket("nowhere", "db"), Duty::Read, None);
    let missing = none.list("").await.unwrap_err();
    assert!(matches!(missing, StoreError::Unusable { .. }), "a bucket that is not there is not empty: {missing:?}");
}
