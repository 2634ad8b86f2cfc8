//! Marks on backups, and backups in a second store.

use std::sync::Arc;

use lifeboat::domain::artifact::SIGNATURE_NAME;
use lifeboat::domain::check::{Broke, Finding, Stop};
use lifeboat::domain::ledger::Depth;
use lifeboat::domain::mark::{Act, MARK_FORMAT, Mark};
use lifeboat::seal::{self, Brought, Original, TrustedSigners, Way};
use lifeboat::store::{FileStore, Store};

use crate::support::artifacts::{Yard, backup, code, policy};

fn mark(number: u32, act: Act) -> Mark {
    Mark {
        format: MARK_FORMAT.to_owned(),
        policy: policy(),
        backup: backup(number),
        number: 77,
        act,
        by: "ann".to_owned(),
        reason: "case 7".to_owned(),
        at: "2026-01-31T03:00:00Z".parse().unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_are_numbered_and_add_up_in_their_order() {
    let yard = Yard::new();
    let put = async |act| seal::put_mark(&*yard.store, mark(1, act), &yard.signer, &yard.trusted).await.unwrap().number;
    let load = async || seal::load_marks(&*yard.store, &policy(), &backup(1), &yard.trusted).await.unwrap();
    assert_eq!(load().await, Default::default());
    assert_eq!([put(Act::Hold).await, put(Act::Hold).await, put(Act::Tombstone).await], [1, 2, 3]);
    let marks = load().await;
    assert_eq!((marks.holds.len(), marks.last, marks.doubts.len()), (2, 3, 0));
    assert_eq!(marks.tombstone.as_ref().map(|mark| mark.number), Some(3));
    let all = seal::list_tombstones(&*yard.store, None, &yard.trusted).await.unwrap();
    assert_eq!(
        all.into_iter().collect::<Vec<_>>(),
        [((policy(), backup(1)), Mark { number: 3, ..mark(1, Act::Tombstone) })]
    );
    let other = "billing".parse().unwrap();
    assert!(seal::list_tombstones(&*yard.store, Some(&other), &yard.trusted).await.unwrap().is_empty());
    assert_eq!(seal::list_tombstones(&*yard.store, Some(&policy()), &yard.trusted).await.unwrap().len(), 1);
    assert_eq!([put(Act::Release).await, put(Act::Undelete).await], [4, 5]);
    let marks = load().await;
    assert_eq!((marks.holds.len(), marks.tombstone, marks.last), (0, None, 5));
    assert!(seal::list_tombstones(&*yard.store, None, &yard.trusted).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_nobody_trusted_has_made_is_a_doubt_and_is_stepped_over() {
    let yard = Yard::new();
    let path = |number: &str| yard.path(&format!("orders/{}/marks/{number}.jsonl", backup(1)));
    let put = async |act| seal::put_mark(&*yard.store, mark(1, act), &yard.signer, &yard.trusted).await.unwrap();
    let load =
        async |trusted: &TrustedSigners| seal::load_marks(&*yard.store, &policy(), &backup(1), trusted).await.unwrap();
    put(Act::Hold).await;
    let good = std::fs::read_to_string(path("00001")).unwrap();
    let (line, signature) = good.trim_end().split_once('\n').unwrap();
    seal::put_mark(&*yard.store, mark(2, Act::Tombstone), &yard.signer, &yard.trusted).await.unwrap();
    let of_another = std::fs::read_to_string(yard.path(&format!("orders/{}/marks/00001.jsonl", backup(2)))).unwrap();
    for (text, why) in [
        (format!("{line}\n"), "not signed"),
        (format!("{line}\nnonsense\n"), "signature cannot be read"),
        (format!("{line}\n{}\n", signature.replace("signature/1", "signature/9")), "another format"),
        (format!("{}\n{signature}\n", line.replace("hold", "tombstone")), "signature"),
        (of_another, "under another's name"),
    ] {
        std::fs::write(path("00002"), &text).unwrap();
        let marks = load(&yard.trusted).await;
        assert_eq!((marks.holds.len(), marks.last, &marks.tombstone), (1, 1, &None), "{text}");
        let doubt = &marks.doubts[0];
        assert!(doubt.code == "mark_doubted" && doubt.message.contains(why), "{doubt:?}");
    }
    // Its number is taken; the next one is free.
    assert_eq!(put(Act::Hold).await.number, 3);
    std::fs::copy(path("00001"), path("00005")).unwrap();
    for name in ["00000", "7", "0000x", "000010"] {
        std::fs::copy(path("00001"), path(name)).unwrap();
    }
    let marks = load(&yard.trusted).await;
    assert_eq!((marks.holds.len(), marks.last, marks.doubts.len()), (2, 3, 6));
    // Where nobody is trusted, nobody's mark counts.
    let marks = load(&TrustedSigners::default()).await;
    assert_eq!((marks.holds.len(), marks.last), (0, 0));
    let stranger = Yard::new();
    let doubts = load(&stranger.trusted).await.doubts;
    assert_eq!(doubts.iter().filter(|doubt| doubt.message.contains("not trusted")).count(), 4, "{doubts:?}");
}

#[test]
fn an_object_belongs_to_the_backup_in_whose_folder_it_lies() {
    let key = format!("orders/{}/base/00001.zst.age", backup(1));
    assert_eq!(seal::owner_of(&key), Some(((policy(), backup(1)), "base/00001.zst.age")));
    for key in ["orders", "orders/x", "orders/nonsense/manifest.json", "orders/wal/00000001/x.jsonl", "No/x/y"] {
        assert_eq!(seal::owner_of(key), None, "{key}");
    }
}

#[test]
fn only_what_was_read_says_something_of_an_object() {
    let came = |code: Option<&str>| code.map_or(Ok(()), |code| Err(Stop::Found(vec![Finding::new(code, "part", "x")])));
    let depth = |code: Option<&str>| {
        let came = came(code);
        seal::depth_of(Depth::Opened, &came).map(|(depth, finding)| (depth, finding.is_some()))
    };
    assert_eq!(depth(None), Some((Depth::Opened, false)));
    assert_eq!(depth(Some("wrong_key")), Some((Depth::Sealed, false)), "it is as it was stored");
    for code in ["part_decrypt", "part_decompress", "plain_length", "plain_hash", "part_size"] {
        assert_eq!(depth(Some(code)), Some((Depth::Opened, true)), "{code}");
    }
    for code in ["part_hash", "part_length", "part_missing"] {
        assert_eq!(depth(Some(code)), Some((Depth::Sealed, true)), "{code}");
    }
    let broke: Result<(), Stop> = Err(Broke::new("timeout").into());
    assert!(seal::depth_of(Depth::Opened, &broke).is_none(), "it was not read");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_backup_exists_when_all_of_it_is_there() {
    let yard = Yard::new();
    let manifest = yard.whole_backup(1).await;
    let to: Arc<dyn Store> = Arc::new(FileStore::open(&yard.folder.path().join("second")).unwrap());
    let way = Way { from: yard.store.clone(), to: to.clone(), into: to.clone() };
    let original = Original::open(&*yard.store, &policy(), &backup(1), &yard.trusted).await.unwrap();
    let object = |name: &str| yard.path(&format!("orders/{}/{name}", backup(1)));
    let length = |name: &str| std::fs::metadata(object(name)).unwrap().len();
    assert_eq!(original.bytes(), length("manifest.json") + length(SIGNATURE_NAME));
    assert!(!original.is_named(&way).await.unwrap());
    for part in manifest.streams.iter().flat_map(|stream| &stream.parts) {
        assert_eq!(original.bring(&way, part, false).await.unwrap(), Brought::Copied);
        assert_eq!(original.bring(&way, part, true).await.unwrap(), Brought::Already);
        assert_eq!(original.bring(&way, part, false).await.unwrap(), Brought::Already);
    }
    assert_eq!(original.name(&way).await.unwrap(), Brought::Copied);
    assert!(original.is_named(&way).await.unwrap());
    assert_eq!(original.name(&way).await.unwrap(), Brought::Already);
    let keys = |list: Vec<lifeboat::store::ObjectInfo>| {
        list.into_iter().map(|object| (object.key, object.bytes)).collect::<Vec<_>>()
    };
    assert_eq!(keys(to.list("").await.unwrap()), keys(yard.store.list("").await.unwrap()));

    // Only one of the two names is there: it is not named yet, and naming it adds the other.
    let copied = |name: &str| yard.folder.path().join(format!("second/orders/{}/{name}", backup(1)));
    std::fs::remove_file(copied("manifest.json")).unwrap();
    assert!(!original.is_named(&way).await.unwrap());
    assert_eq!(original.name(&way).await.unwrap(), Brought::Copied);
    // Another one stands there.
    std::fs::write(copied("manifest.json"), b"another").unwrap();
    assert_eq!(original.is_named(&way).await.map_err(code), Err("copy_corrupt".to_owned()));
    assert_eq!(code(original.name(&way).await.unwrap_err()), "copy_corrupt");
    // A part that is damaged there, here, or not there.
    let part = &manifest.streams[0].parts[0];
    std::fs::write(copied(&part.key), b"damaged").unwrap();
    let Err(Stop::Found(found)) = original.bring(&way, part, true).await else { panic!() };
    assert_eq!(
        (found[0].code.as_str(), found[0].object.as_str()),
        ("copy_corrupt", format!("part {}", part.key).as_str())
    );
    assert!(found[0].message.contains("nothing is ever replaced"), "{}", found[0].message);
    assert_eq!(code(original.bring(&way, part, false).await.unwrap_err()), "copy_corrupt");
    std::fs::remove_file(copied(&part.key)).unwrap();
    std::fs::write(object(&part.key), b"damaged").unwrap();
    assert_eq!(code(original.bring(&way, part, true).await.unwrap_err()), "part_length");
    assert!(!copied(&part.key).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_have_what_it_took_is_not_believed() {
    let yard = Yard::new();
    let manifest = yard.whole_backup(1).await;
    let open = |name: &str| -> Arc<dyn Store> { Arc::new(FileStore::open(&yard.folder.path().join(name)).unwrap()) };
    let way = Way { from: yard.store.clone(), to: open("read"), into: open("written") };
    let original = Original::open(&*yard.store, &policy(), &backup(1), &yard.trusted).await.unwrap();
    let part = &manifest.streams[0].parts[0];
    let Err(Stop::Found(found)) = original.bring(&way, part, false).await else { panic!() };
    let told = (found[0].code.as_str(), found[0].object.as_str());
    assert_eq!(told, ("copy_object_missing", format!("part {}", part.key).as_str()));
    assert_eq!(code(original.name(&way).await.unwrap_err()), "copy_object_missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgery_is_not_spread() {
    let yard = Yard::new();
    yard.whole_backup(1).await;
    let open = async |trusted: &TrustedSigners| {
        Original::open(&*yard.store, &policy(), &backup(1), trusted).await.map(|_| ()).map_err(code)
    };
    assert_eq!(open(&yard.trusted).await, Ok(()));
    assert_eq!(open(&Yard::new().trusted).await, Err("signer_untrusted".to_owned()));
    assert_eq!(open(&TrustedSigners::default()).await, Err("signer_untrusted".to_owned()));
    let manifest = yard.path(&format!("orders/{}/manifest.json", backup(1)));
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("nightly", "daily")).unwrap();
    assert!(open(&yard.trusted).await.is_err());
}
