//! Files of the log in a store, from a spool into it, and in a second one: what was put there is there, and anything else is seen.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use base64::Engine;
use ed25519_dalek::Signer as _;
use ed25519_dalek::pkcs8::DecodePrivateKey;
use lifeboat::domain::artifact::{SIGNATURE_FORMAT, SignatureFile};
use lifeboat::domain::check::Stop;
use lifeboat::domain::hole::{Acknowledged, HOLE_FORMAT};
use lifeboat::domain::ledger::Depth;
use lifeboat::domain::wal::{Piece, Segment, WAL_FORMAT, WalName, WalRecord};
use lifeboat::seal::{
    self, Brought, Carried, CarryError, LogFile, LogList, Placed, SealError, Seen, Theirs, TrustedSigners, WalFile,
    WalSealer, Way, Witness,
};
use lifeboat::store::{FileStore, Store, StoreError};
use sha2::{Digest, Sha256};

use crate::support::artifacts::{Yard, code, noise, policy};

const MIB: u64 = 1 << 20;

fn segment(number: u32) -> Segment {
    Segment { timeline: 1, log: 0, segment: number }
}

fn name(number: u32) -> WalName {
    WalName::Segment(segment(number))
}

fn file(number: u32, seed: u64) -> WalFile {
    let system_identifier = Some("7300000000000000001".to_owned());
    WalFile { name: name(number), system_identifier, contents: None, bytes: noise(seed, 20_000).into() }
}

fn now() -> jiff::Timestamp {
    "2026-01-31T03:00:00Z".parse().unwrap()
}

fn sealer(yard: &Yard, store: &Arc<dyn Store>) -> WalSealer {
    let recipients = std::slice::from_ref(&yard.recipient);
    WalSealer::new(store.clone(), policy(), recipients, 3, yard.signer.clone()).unwrap()
}

/// Puts one file into the yard's own store.
async fn put(yard: &Yard, number: u32) -> WalRecord {
    match sealer(yard, &yard.store).put(&file(number, u64::from(number)), now()).await.unwrap() {
        Placed::Stored(record) => record,
        other => panic!("{other:?}"),
    }
}

fn record_path(yard: &Yard, number: u32) -> PathBuf {
    yard.path(&format!("orders/wal/00000001/{}.jsonl", name(number)))
}

fn object_path(yard: &Yard, record: &WalRecord) -> PathBuf {
    yard.path(&format!("orders/wal/{}", record.key))
}

/// Another store beside the yard's own.
fn second(yard: &Yard) -> Arc<dyn Store> {
    Arc::new(FileStore::open(&yard.folder.path().join("second")).unwrap())
}

fn way(yard: &Yard, to: &Arc<dyn Store>) -> Way {
    Way { from: yard.store.clone(), to: to.clone(), into: to.clone() }
}

/// What is said, and who signs it, as lifeboat writes both down.
fn signed_by_hand(yard: &Yard, says: &impl serde::Serialize, format: &str) -> Vec<u8> {
    let pem = std::fs::read_to_string(yard.folder.path().join("signing.pem")).unwrap();
    let key = ed25519_dalek::SigningKey::from_pkcs8_pem(&pem).unwrap();
    let line = serde_json::to_vec(says).unwrap();
    let signature = SignatureFile {
        format: format.to_owned(),
        sha256: hex::encode(Sha256::digest(&line)),
        public_key: yard.signer.public_key(),
        signature: base64::engine::general_purpose::STANDARD.encode(key.sign(&line).to_bytes()),
    };
    [&line[..], b"\n", &serde_json::to_vec(&signature).unwrap(), b"\n"].concat()
}

async fn check(yard: &Yard, number: u32) -> Result<Option<WalRecord>, Stop> {
    seal::check_wal(&*yard.store, &policy(), name(number), &yard.trusted, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_put_once_comes_back_and_is_never_replaced() {
    let yard = Yard::new();
    let sealer = sealer(&yard, &yard.store);
    let record = put(&yard, 5).await;
    let object = std::fs::read(object_path(&yard, &record)).unwrap();
    assert_eq!(record.key, "00000001/000000010000000000000005.zst.age");
    assert_eq!((record.plain_bytes, record.sealed_bytes), (20_000, object.len() as u64));
    assert_eq!(record.sealed_sha256, hex::encode(Sha256::digest(&object)));
    assert_eq!((record.format.as_str(), record.sealed_at, record.stored_at), (WAL_FORMAT, now(), None));
    assert_eq!(sealer.put(&file(5, 5), now()).await.unwrap(), Placed::Already(record.clone()));
    assert_eq!(sealer.put(&file(5, 99), now()).await.unwrap(), Placed::Differs(record.clone()));
    assert_eq!(std::fs::read(object_path(&yard, &record)).unwrap(), object);

    let list = seal::list_wal(&*yard.store, &policy()).await.unwrap();
    assert_eq!(list, BTreeSet::from([name(5)]));
    let fetched = seal::fetch_wal(&*yard.store, &policy(), name(5), &yard.trusted, &yard.opener).await.unwrap();
    assert_eq!(fetched.unwrap(), (record.clone(), noise(5, 20_000)));
    assert_eq!(check(&yard, 5).await.unwrap(), Some(record.clone()));
    assert_eq!(check(&yard, 6).await.unwrap(), None);
    let none = seal::fetch_wal(&*yard.store, &policy(), name(6), &yard.trusted, &yard.opener).await.unwrap();
    assert!(none.is_none());

    assert_eq!(seal::remove_wal(&*yard.store, &policy(), name(5)).await.unwrap(), record.sealed_bytes);
    assert_eq!(yard.store.list("").await.unwrap(), []);
    assert_eq!(seal::remove_wal(&*yard.store, &policy(), name(5)).await.unwrap(), 0);
    put(&yard, 5).await;
    sealer.remove(name(5)).await.unwrap();
    assert_eq!(yard.store.list("").await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_room_or_nobody_to_open_it_is_not_written() {
    let yard = Yard::new();
    let sealer = sealer(&yard, &yard.store);
    let SealError::NoRoom { bytes, .. } = sealer.put_within(&file(5, 5), now(), 0).await.unwrap_err() else { panic!() };
    assert!(bytes > 20_000, "{bytes}");
    // Sealing adds a few bytes that nobody can foresee.
    assert!(matches!(sealer.put_within(&file(5, 5), now(), 20_000).await, Err(SealError::NoRoom { .. })));
    assert_eq!(yard.store.list("").await.unwrap(), []);
    let room = bytes + 4_096;
    assert!(matches!(sealer.put_within(&file(5, 5), now(), room).await.unwrap(), Placed::Stored(_)));
    let written: u64 = yard.store.list("").await.unwrap().iter().map(|object| object.bytes).sum();
    assert!(20_000 < written && written <= room, "{written}");
    for recipients in [vec![], vec!["age1nonsense".to_owned()]] {
        let made = WalSealer::new(yard.store.clone(), policy(), &recipients, 3, yard.signer.clone());
        assert!(matches!(made, Err(SealError::Key(_))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_writer_left_is_stepped_over() {
    let yard = Yard::new();
    let taken = |number: usize| {
        let number = if number == 0 { String::new() } else { format!(".{number}") };
        format!("orders/wal/00000001/{}{number}.zst.age", name(5))
    };
    yard.store.put_new(&taken(0), b"left behind"[..].into()).await.unwrap();
    let record = put(&yard, 5).await;
    assert_eq!(record.key, "00000001/000000010000000000000005.1.zst.age");
    assert!(check(&yard, 5).await.unwrap().is_some());
    sealer(&yard, &yard.store).remove(name(5)).await.unwrap();
    for number in 1..100 {
        yard.store.put_new(&taken(number), b"left behind"[..].into()).await.unwrap();
    }
    let full = sealer(&yard, &yard.store).put(&file(5, 5), now()).await;
    assert!(matches!(full, Err(SealError::Store(StoreError::AlreadyThere { .. }))));
    assert!(!record_path(&yard, 5).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_not_what_was_signed_is_a_finding_by_its_own_word() {
    let yard = Yard::new();
    let (record, path) = (put(&yard, 5).await, record_path(&yard, 5));
    let good = std::fs::read_to_string(&path).unwrap();
    let (line, signature) = good.trim_end().split_once('\n').unwrap();
    put(&yard, 6).await;
    let other = std::fs::read_to_string(record_path(&yard, 6)).unwrap();
    let by_hand = |change: &dyn Fn(&mut WalRecord)| {
        let mut record = record.clone();
        change(&mut record);
        signed_by_hand(&yard, &record, SIGNATURE_FORMAT)
    };
    let text = |text: String| text.into_bytes();
    for (bytes, wanted) in [
        (by_hand(&|_| {}), None),
        (text(format!("{line}\n")), Some("wal_signature")),
        (text(String::new()), Some("wal_signature")),
        (text(format!("{line}\nnonsense\n")), Some("wal_record")),
        (text(format!("{}\n{signature}\n", line.replace("20000", "20001"))), Some("wal_signature")),
        (signed_by_hand(&yard, &record, "other/1"), Some("wal_record")),
        (signed_by_hand(&yard, &"nonsense", SIGNATURE_FORMAT), Some("wal_record")),
        (by_hand(&|record| record.format = "other/1".to_owned()), Some("wal_record")),
        (by_hand(&|record| record.policy = "billing".parse().unwrap()), Some("wal_swapped")),
        (by_hand(&|record| record.key = "../../other/globals.sql.zst.age".to_owned()), Some("wal_record")),
        (text(other), Some("wal_swapped")),
    ] {
        std::fs::write(&path, &bytes).unwrap();
        let found = check(&yard, 5).await;
        assert_eq!(found.map(|_| ()).map_err(code).err().as_deref(), wanted, "{}", String::from_utf8_lossy(&bytes));
    }
    std::fs::write(&path, &good).unwrap();
    // Somebody else's key; and where nobody is named, whoever signed.
    let stranger = Yard::new();
    let by = async |trusted: &TrustedSigners| {
        seal::check_wal(&*yard.store, &policy(), name(5), trusted, None).await.map(|_| ()).map_err(code)
    };
    assert_eq!(by(&stranger.trusted).await, Err("signer_untrusted".to_owned()));
    assert_eq!(by(&TrustedSigners::default()).await, Ok(()));
    // A record that cannot be read keeps its file from being taken away by what it says.
    std::fs::write(&path, "nonsense\n").unwrap();
    assert!(matches!(sealer(&yard, &yard.store).put(&file(5, 5), now()).await, Err(SealError::Refused(_))));
    assert_eq!(seal::remove_wal(&*yard.store, &policy(), name(5)).await.unwrap(), 0);
    assert!(!path.exists() && object_path(&yard, &record).exists());
}

/// Key, length, depth, and the word for what was wrong.
type Heard = (String, u64, Depth, Option<String>);

#[derive(Debug, Default)]
struct Ear(Mutex<Vec<Heard>>);

impl Witness for Ear {
    fn saw(&self, seen: Seen<'_>) {
        let finding = seen.finding.map(|finding| finding.code.clone());
        self.0.lock().unwrap().push((seen.key.to_owned(), seen.bytes, seen.depth, finding));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_an_object_is_seen_and_told_to_who_listens() {
    let yard = Yard::new();
    let record = put(&yard, 5).await;
    let path = object_path(&yard, &record);
    let good = std::fs::read(&path).unwrap();
    let key = "orders/wal/00000001/000000010000000000000005.zst.age".to_owned();
    assert_eq!(seal::wal_key(&policy(), name(5)), key);
    let mut flipped = good.clone();
    flipped[9_000] ^= 1;
    for (bytes, wanted) in [
        (Some(&good[..]), None),
        (Some(&good[..9_000]), Some("part_length")),
        (Some(&flipped[..]), Some("part_hash")),
        (None, Some("wal_missing")),
    ] {
        std::fs::remove_file(&path).unwrap();
        if let Some(bytes) = bytes {
            std::fs::write(&path, bytes).unwrap();
        }
        let ear = Arc::new(Ear::default());
        let witness: Arc<dyn Witness> = ear.clone();
        let found = seal::check_wal(&*yard.store, &policy(), name(5), &yard.trusted, Some(&witness)).await;
        assert_eq!(found.map(|_| ()).map_err(code).err().as_deref(), wanted);
        let opener = yard.opener.watched(ear.clone());
        let found = seal::fetch_wal(&*yard.store, &policy(), name(5), &yard.trusted, &opener).await;
        assert_eq!(found.map(|_| ()).map_err(code).err().as_deref(), wanted);
        let (length, deep) = if wanted.is_none() { (good.len() as u64, Depth::Opened) } else { (0, Depth::Sealed) };
        let told = wanted.map(str::to_owned);
        let heard = [(key.clone(), length, Depth::Sealed, told.clone()), (key.clone(), length, deep, told)];
        assert_eq!(*ear.0.lock().unwrap(), heard);
        if bytes.is_none() {
            std::fs::write(&path, &good).unwrap();
        }
    }
    // What is not there is nothing that was read.
    let ear = Arc::new(Ear::default());
    let witness: Arc<dyn Witness> = ear.clone();
    seal::check_wal(&*yard.store, &policy(), name(6), &yard.trusted, Some(&witness)).await.unwrap();
    assert!(ear.0.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_know_a_file_by_its_record_in_its_own_folder() {
    let yard = Yard::new();
    put(&yard, 5).await;
    let (piece, whole) =
        (Piece { segment: segment(5), from: 0, to: 99 }, Piece { segment: segment(7), from: 0, to: 9 });
    for key in [
        "orders/wal/00000002/000000010000000000000006.jsonl",
        "orders/wal/00000001/nonsense.jsonl",
        "orders/wal/00000002/000000010000000000000006.hole.jsonl",
        "orders/wal/00000001/000000010000000000000008.hole.jsonl",
        "orders/wal/00000001/000000010000000000000009.zst.age",
        "billing/wal/00000001/000000010000000000000009.jsonl",
    ] {
        yard.store.put_new(key, b"four"[..].into()).await.unwrap();
    }
    assert_eq!(seal::list_wal(&*yard.store, &policy()).await.unwrap(), BTreeSet::from([name(5)]));
    let objects = yard.store.list("").await.unwrap();
    let dated = objects.iter().find(|object| object.key.ends_with("0005.jsonl")).unwrap().modified;
    for (by, count) in [(dated, 1), (dated - jiff::SignedDuration::from_millis(1), 0)] {
        assert_eq!(seal::list_wal_by(&*yard.store, &policy(), Some(by)).await.unwrap().len(), count);
    }
    let list = LogList::of(&*yard.store, &policy()).await.unwrap();
    assert_eq!(list.files.keys().copied().collect::<Vec<_>>(), [name(5)]);
    assert_eq!(list.files[&name(5)], std::fs::metadata(record_path(&yard, 5)).unwrap().len());
    assert_eq!(list.holes.iter().collect::<Vec<_>>(), [(&"000000010000000000000008".to_owned(), &4)]);
    assert_eq!((list.object(name(9)), list.object(name(8)), list.objects.len()), (Some(4), None, 2));
    assert!(list.is_superfluous(&WalName::Piece(piece)));
    assert!(!list.is_superfluous(&WalName::Piece(whole)) && !list.is_superfluous(&name(5)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_gives_a_file_away_only_when_the_store_has_it() {
    let yard = Yard::new();
    let spool = second(&yard);
    let (filler, carrier) = (sealer(&yard, &spool), sealer(&yard, &yard.store));
    let later = now() + jiff::SignedDuration::from_secs(60);
    let carry = async |number: u32| carrier.carry(&*spool, name(number), &yard.trusted, later).await;
    assert_eq!(carry(5).await.unwrap(), Carried::Gone);

    let Placed::Stored(spooled) = filler.put(&file(5, 5), now()).await.unwrap() else { panic!() };
    let Carried::Stored(stored) = carry(5).await.unwrap() else { panic!() };
    assert_eq!(stored, WalRecord { stored_at: Some(later), ..spooled });
    assert_eq!((spool.list("").await.unwrap(), check(&yard, 5).await.unwrap()), (vec![], Some(stored)));

    // Killed after the object and before the record: the same object is taken, not a second one.
    let Placed::Stored(spooled) = filler.put(&file(6, 6), now()).await.unwrap() else { panic!() };
    let key = format!("orders/wal/{}", spooled.key);
    yard.store.put_new(&key, spool.get(&key).await.unwrap()).await.unwrap();
    let Carried::Stored(stored) = carry(6).await.unwrap() else { panic!() };
    assert_eq!(stored.key, spooled.key);

    // Another writer was killed there: its object is stepped over, and the record names the right one.
    yard.store.put_new(&format!("orders/wal/00000001/{}.zst.age", name(13)), b"left behind"[..].into()).await.unwrap();
    filler.put(&file(13, 13), now()).await.unwrap();
    let Carried::Stored(stored) = carry(13).await.unwrap() else { panic!() };
    assert_eq!(stored.key, format!("00000001/{}.1.zst.age", name(13)));

    // The store has the same already, or something else.
    put(&yard, 7).await;
    filler.put(&file(7, 7), now()).await.unwrap();
    assert!(matches!(carry(7).await.unwrap(), Carried::Stored(_)));
    put(&yard, 8).await;
    filler.put(&file(8, 99), now()).await.unwrap();
    assert!(matches!(carry(8).await.unwrap(), Carried::Differs(_)));
    assert_eq!(spool.list("").await.unwrap().len(), 2, "it stays");

    // What lies in the store is damaged: the only good one is here.
    let record = put(&yard, 9).await;
    filler.put(&file(9, 9), now()).await.unwrap();
    std::fs::write(object_path(&yard, &record), b"damaged").unwrap();
    assert!(matches!(carry(9).await, Err(CarryError::Found(found)) if found[0].code == "part_length"));
    assert_eq!(spool.list("").await.unwrap().len(), 4);

    // What somebody else has sealed gets no signature here.
    let stranger = Yard::new();
    let by_stranger =
        WalSealer::new(spool.clone(), policy(), std::slice::from_ref(&yard.recipient), 3, stranger.signer.clone());
    by_stranger.unwrap().put(&file(10, 10), now()).await.unwrap();
    assert!(matches!(carry(10).await, Err(CarryError::Found(found)) if found[0].code == "signer_untrusted"));
    // Nor what is damaged in the spool.
    let Placed::Stored(spooled) = filler.put(&file(11, 11), now()).await.unwrap() else { panic!() };
    std::fs::write(yard.folder.path().join("second/orders/wal").join(&spooled.key), b"damaged").unwrap();
    assert!(matches!(carry(11).await, Err(CarryError::Found(found)) if found[0].code == "part_length"));
    assert!(!record_path(&yard, 11).exists());

    // A store that takes nothing takes the next one neither.
    filler.put(&file(12, 12), now()).await.unwrap();
    std::fs::rename(yard.path("orders"), yard.path("away")).unwrap();
    std::fs::write(yard.path("orders"), b"a file where a folder was").unwrap();
    let broken = carry(12).await;
    assert!(matches!(broken, Err(CarryError::Store(_))), "{broken:?}");
}

fn hole(from: u32, to: u32) -> Acknowledged {
    Acknowledged {
        format: HOLE_FORMAT.to_owned(),
        policy: policy(),
        from: segment(from),
        to: segment(to),
        segment_bytes: MIB,
        owner: "dba".to_owned(),
        reason: "the disk died".to_owned(),
        at: now(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_is_answered_for_once_and_only_by_who_is_trusted() {
    let yard = Yard::new();
    let sealer = sealer(&yard, &yard.store);
    assert!(sealer.put_hole(&hole(8, 9)).await.unwrap() && sealer.put_hole(&hole(3, 4)).await.unwrap());
    assert!(!seal::put_hole(&*yard.store, &hole(3, 7), &yard.signer).await.unwrap());
    put(&yard, 5).await;
    let load = async || seal::load_holes(&*yard.store, &policy(), &yard.trusted).await.unwrap();
    assert_eq!(load().await, (vec![hole(3, 4), hole(8, 9)], vec![]));

    let path = yard.path("orders/wal/00000001/000000010000000000000003.hole.jsonl");
    let by_hand = |hole: Acknowledged| signed_by_hand(&yard, &hole, SIGNATURE_FORMAT);
    for (bytes, wanted) in [
        (serde_json::to_vec(&hole(3, 4)).unwrap(), "wal_signature"),
        (signed_by_hand(&yard, &"nonsense", SIGNATURE_FORMAT), "wal_record"),
        (by_hand(Acknowledged { format: "other/1".to_owned(), ..hole(3, 4) }), "wal_record"),
        (by_hand(Acknowledged { owner: " ".to_owned(), ..hole(3, 4) }), "wal_record"),
        (by_hand(Acknowledged { policy: "billing".parse().unwrap(), ..hole(3, 4) }), "wal_swapped"),
        (by_hand(hole(2, 4)), "wal_swapped"),
    ] {
        std::fs::write(&path, &bytes).unwrap();
        let (holes, findings) = load().await;
        let codes: Vec<&str> = findings.iter().map(|finding| finding.code.as_str()).collect();
        assert_eq!((holes, codes), (vec![hole(8, 9)], vec![wanted]), "{}", String::from_utf8_lossy(&bytes));
        let to = second(&yard);
        let brought = seal::bring_hole(&way(&yard, &to), &policy(), "000000010000000000000003", &yard.trusted).await;
        assert_eq!(code(brought.unwrap_err()), wanted);
        assert_eq!(to.list("").await.unwrap(), []);
    }
    std::fs::remove_file(&path).unwrap();
    let to = second(&yard);
    let bring = async |first: &str| seal::bring_hole(&way(&yard, &to), &policy(), first, &yard.trusted).await.unwrap();
    assert!(!bring("000000010000000000000003").await && bring("000000010000000000000008").await);
    assert!(bring("000000010000000000000008").await, "it is there already");
    let there = seal::load_holes(&*to, &policy(), &yard.trusted).await.unwrap();
    assert_eq!(there, (vec![hole(8, 9)], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_store_gets_object_and_record_as_they_are() {
    let yard = Yard::new();
    let to = second(&yard);
    let (record, way) = (put(&yard, 5).await, way(&yard, &to));
    let open = async |number| LogFile::open(&*yard.store, &policy(), name(number), &yard.trusted).await.unwrap();
    assert!(open(6).await.is_none());
    let log = open(5).await.unwrap();
    assert_eq!(log.record, record);
    assert!(log.is_named(&way, &yard.trusted).await.unwrap().is_none());
    assert_eq!(log.bring(&way, false).await.unwrap(), Some(Brought::Copied));
    for there in [true, false] {
        assert_eq!(log.bring(&way, there).await.unwrap(), Some(Brought::Already), "{there}");
    }
    assert_eq!(log.name(&way, &yard.trusted).await.unwrap(), Brought::Copied);
    assert_eq!(log.name(&way, &yard.trusted).await.unwrap(), Brought::Already);
    assert!(matches!(log.is_named(&way, &yard.trusted).await.unwrap(), Some(Theirs::Same)));
    let fetched = seal::fetch_wal(&*to, &policy(), name(5), &yard.trusted, &yard.opener).await.unwrap();
    assert_eq!(fetched.unwrap().1, noise(5, 20_000));

    // The other store's object is damaged: nothing is replaced, and it is told by the file's name.
    let copy = yard.folder.path().join("second/orders/wal").join(&record.key);
    std::fs::write(&copy, b"damaged").unwrap();
    let Err(Stop::Found(found)) = log.bring(&way, true).await else { panic!() };
    assert_eq!(
        (found[0].code.as_str(), found[0].object.as_str()),
        ("copy_corrupt", format!("log {}", name(5)).as_str())
    );
    // Ours is damaged or gone.
    std::fs::remove_file(&copy).unwrap();
    let good = std::fs::read(object_path(&yard, &record)).unwrap();
    std::fs::write(object_path(&yard, &record), b"damaged").unwrap();
    assert_eq!(code(log.bring(&way, true).await.unwrap_err()), "part_length");
    std::fs::remove_file(object_path(&yard, &record)).unwrap();
    assert_eq!(code(log.bring(&way, true).await.unwrap_err()), "part_missing");
    std::fs::remove_file(record_path(&yard, 5)).unwrap();
    assert_eq!(log.bring(&way, true).await.unwrap(), None, "it was taken away, record first");
    assert!(!copy.exists());
    std::fs::write(object_path(&yard, &record), b"damaged").unwrap();
    assert_eq!(code(log.bring(&way, true).await.unwrap_err()), "part_length", "damage is told all the same");
    std::fs::write(object_path(&yard, &record), good).unwrap();
    assert_eq!(log.bring(&way, true).await.unwrap(), Some(Brought::Copied));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_store_may_have_sealed_the_same_log_by_itself_but_no_other() {
    let yard = Yard::new();
    let to = second(&yard);
    let way = way(&yard, &to);
    for number in [5, 6] {
        put(&yard, number).await;
    }
    let theirs = sealer(&yard, &to);
    theirs.put(&file(5, 5), now()).await.unwrap();
    theirs.put(&file(6, 99), now()).await.unwrap();
    let open =
        async |number| LogFile::open(&*yard.store, &policy(), name(number), &yard.trusted).await.unwrap().unwrap();
    let same = open(5).await;
    assert!(matches!(same.is_named(&way, &yard.trusted).await.unwrap(), Some(Theirs::Equal(_))));
    assert_eq!(same.name(&way, &yard.trusted).await.unwrap(), Brought::Already);
    let other = open(6).await;
    assert_eq!(other.is_named(&way, &yard.trusted).await.map(|_| ()).map_err(code), Err("copy_corrupt".to_owned()));
    assert_eq!(code(other.name(&way, &yard.trusted).await.unwrap_err()), "copy_corrupt");
    // By somebody who is not trusted it is as good as none.
    let stranger = Yard::new();
    assert_eq!(
        same.is_named(&way, &stranger.trusted).await.map(|_| ()).map_err(code),
        Err("signer_untrusted".to_owned())
    );
    assert_eq!(code(same.name(&way, &stranger.trusted).await.unwrap_err()), "copy_corrupt");
}
