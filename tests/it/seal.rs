//! The sealed stream: what goes in comes out, anything else is seen, and public tools open it.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use lifeboat::domain::artifact::{MemberKind, Stream, StreamKind};
use lifeboat::domain::check::{Broke, Finding, Stop};
use lifeboat::domain::observed::Observed;
use lifeboat::seal::{self, Member, Opener, SealError, Sealer, Signer, TrustedSigners};
use lifeboat::store::{FileStore, ObjectInfo, Store, StoreError};
use proptest::prelude::*;

use crate::support::artifacts::{Yard, backup, blocking, manifest, noise, policy, write_mode};

fn codes(stop: Stop) -> Vec<String> {
    match stop {
        Stop::Found(findings) => findings.into_iter().map(|finding| finding.code).collect(),
        Stop::Broke(broke) => panic!("a finding was expected, not an error: {broke}"),
    }
}

/// The whole plaintext, by `read_stream`.
async fn read_all(yard: &Yard, prefix: &str, stream: &Stream) -> Result<Vec<u8>, Stop> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let give = move |bytes| sender.send(bytes).map_err(|_| Broke::new("gone"));
    let (parts, plain, sealed) = seal::read_stream(yard.store.clone(), prefix, stream, &yard.opener, 3, give).await?;
    let all: Vec<u8> = receiver.into_iter().flatten().collect();
    assert_eq!((parts, plain), (stream.parts.len() as u64, all.len() as u64));
    assert_eq!(sealed, stream.parts.iter().map(|part| part.sealed_bytes).sum::<u64>());
    Ok(all)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_in_comes_out() {
    let yard = Yard::new();
    for (number, (length, part_bytes)) in
        [(0, 100), (1, 100), (100, 100), (101, 100), (1_000_000, 65_536), (300_000, 1 << 20)].into_iter().enumerate()
    {
        let prefix = format!("orders/{number}");
        let bytes = noise(number as u64, length);
        let stream = yard.seal_bytes(&prefix, part_bytes, bytes.clone()).await;
        assert_eq!(stream.parts.len(), length.div_ceil(part_bytes), "{length} in {part_bytes}");
        assert_eq!(stream.plain_bytes, length as u64);
        assert_eq!(read_all(&yard, &prefix, &stream).await.unwrap(), bytes);
        let objects = yard.store.list(&format!("{prefix}/")).await.unwrap();
        let keys: Vec<_> = stream.parts.iter().map(|part| format!("{prefix}/{}", part.key)).collect();
        assert_eq!(objects.into_iter().map(|object| object.key).collect::<Vec<_>>(), keys);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn globals_are_one_object_whatever_their_length() {
    let yard = Yard::new();
    let sealer = yard.sealer("orders/x", 10);
    let stream = blocking(move || {
        let mut writer = sealer.stream("globals", StreamKind::Globals);
        writer.write(&[b'-'; 5_000]).unwrap();
        writer.write(&[b';'; 5_000]).unwrap();
        writer.finish().unwrap()
    })
    .await;
    assert_eq!(stream.parts.len(), 1);
    assert_eq!(stream.parts[0].key, "globals.sql.zst.age");
    assert_eq!(read_all(&yard, "orders/x", &stream).await.unwrap().len(), 10_000);
}

/// One object opened by the public tools.
fn public_tools(yard: &Yard, script: &str) -> Option<Vec<u8>> {
    let tools = ["age", "zstd"].iter().all(|tool| Command::new(tool).arg("--version").output().is_ok());
    if !tools {
        eprintln!("SKIPPED: age and zstd are not here");
        return None;
    }
    let output = Command::new("sh")
        .args(["-e", "-c", script])
        .env("KEY", &yard.identity)
        .current_dir(yard.path("orders/x"))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success());
    Some(output.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn age_and_zstd_open_it_without_lifeboat() {
    let yard = Yard::new();
    let mut bytes = noise(7, 500_000);
    bytes.extend(vec![b'z'; 500_000]);
    let stream = yard.seal_bytes("orders/x", 70_000, bytes.clone()).await;
    assert_eq!(stream.parts.len(), 15);
    let script = "(for p in base/*.age; do age -d -i \"$KEY\" $p; done) | zstd -d";
    let Some(plain) = public_tools(&yard, script) else { return };
    assert!(plain == bytes, "{} bytes came back of {}", plain.len(), bytes.len());
    // Checksum and content size are in every frame: zstd itself sees damage, and knows how much room it needs.
    let listed =
        public_tools(&yard, "age -d -i \"$KEY\" base/00000.zst.age > ../one.zst; zstd -lv ../one.zst").unwrap();
    let listed = String::from_utf8(listed).unwrap();
    assert!(listed.contains("Check: XXH64") && listed.contains("(70000 B)"), "{listed}");
    let sums: String = stream.parts.iter().map(|part| format!("{}  {}\n", part.sealed_sha256, part.key)).collect();
    std::fs::write(yard.path("orders/x/SUMS"), sums).unwrap();
    public_tools(&yard, "sha256sum --quiet -c SUMS").unwrap();
}

/// A store that fails, waits or lies as told.
#[derive(Debug)]
struct Faulty {
    inner: Arc<dyn Store>,
    puts: AtomicUsize,
    fail_at: usize,
}

#[async_trait]
impl Store for Faulty {
    fn url(&self) -> String {
        self.inner.url()
    }
    async fn put_new(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        if self.puts.fetch_add(1, Ordering::SeqCst) >= self.fail_at {
            let source = std::io::Error::from_raw_os_error(28);
            return Err(StoreError::Io { doing: "write", key: key.to_owned(), store: self.url(), source });
        }
        self.inner.put_new(key, bytes).await
    }
    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        if self.puts.fetch_add(1, Ordering::SeqCst) >= self.fail_at {
            let source = std::io::Error::from_raw_os_error(5);
            return Err(StoreError::Io { doing: "read", key: key.to_owned(), store: self.url(), source });
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

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_stops_the_writer_with_the_real_cause() {
    let yard = Yard::new();
    for fail_at in [0, 1, 5] {
        let store = Arc::new(Faulty { inner: yard.store.clone(), puts: AtomicUsize::new(0), fail_at });
        let sealer = Sealer::new(store.clone(), format!("orders/{fail_at}"), yard.options(1_000, 2)).unwrap();
        let error = blocking(move || {
            let mut writer = sealer.stream("base", StreamKind::Tar);
            for _ in 0..1_000 {
                writer.write(&[7; 500])?;
            }
            writer.finish()
        })
        .await
        .unwrap_err();
        let broke = Broke::from(error);
        assert!(broke.error.contains("No space left") && broke.hint.unwrap().contains("full"), "{}", broke.error);
        assert!(store.puts.load(Ordering::SeqCst) < 20, "it goes on writing after a failure");
    }
    // A failure of the very last part is one of finish().
    let store = Arc::new(Faulty { inner: yard.store.clone(), puts: AtomicUsize::new(0), fail_at: 2 });
    let sealer = Sealer::new(store, "orders/last".to_owned(), yard.options(1_000, 2)).unwrap();
    let error = blocking(move || {
        let mut writer = sealer.stream("base", StreamKind::Tar);
        writer.write(&[7; 2_500]).unwrap();
        writer.finish()
    })
    .await
    .unwrap_err();
    assert!(matches!(error, SealError::Store(StoreError::Io { .. })), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_writer_never_closes_its_last_part() {
    let yard = Yard::new();
    let sealer = yard.sealer("orders/x", 1_000);
    blocking(move || {
        let mut writer = sealer.stream("base", StreamKind::Tar);
        writer.write(&[7; 3_000]).unwrap();
        drop(writer);
    })
    .await;
    let stored = yard.store.list("").await.unwrap();
    assert!(stored.len() <= 2, "the third part was full, but nobody said that the stream was: {stored:?}");
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(yard.store.list("").await.unwrap(), stored, "nothing lands after the writer is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_options_and_bad_members_are_refused() {
    let yard = Yard::new();
    let try_with = |change: &dyn Fn(&mut seal::SealOptions)| {
        let mut options = yard.options(1_000, 2);
        change(&mut options);
        Sealer::new(yard.store.clone(), "orders/x".to_owned(), options).err().expect("refused").to_string()
    };
    assert!(try_with(&|options| options.part_bytes = 0).contains("part_size"));
    assert!(try_with(&|options| options.part_bytes = (1 << 30) + 1).contains("part_size"));
    assert!(try_with(&|options| options.level = 0).contains("level"));
    assert!(try_with(&|options| options.recipients.clear()).contains("recipient"));
    assert!(try_with(&|options| options.recipients.push("age1nonsense".to_owned())).contains("age1nonsense"));
    assert!(Sealer::new(yard.store.clone(), "../x".to_owned(), yard.options(10, 1)).is_err());

    let member = |path: &str, size| Member { path: path.to_owned(), kind: MemberKind::File, mode: 0o600, size };
    for path in ["", "/a", "../a", "a/../b", "a//b", "./a"] {
        let mut writer = yard.sealer("orders/x", 100).stream("base", StreamKind::Tar);
        assert!(matches!(writer.member(member(path, 1)), Err(SealError::Refused(_))), "{path:?}");
    }
    let mut writer = yard.sealer("orders/x", 100).stream("base", StreamKind::Tar);
    writer.member(member("a", 5)).unwrap();
    blocking(move || {
        writer.write(b"123").unwrap();
        assert!(writer.member(member("b", 5)).unwrap_err().to_string().contains("2 bytes"));
        assert!(writer.finish().unwrap_err().to_string().contains("2 bytes of member"));
    })
    .await;
    let mut writer = yard.sealer("orders/x", 100).stream("db", StreamKind::Dump { database: "d".to_owned() });
    assert!(writer.member(member("a", 0)).is_err(), "a dump has no members");

    let folder = |path: &str, size| Member { kind: MemberKind::Folder, ..member(path, size) };
    let mut writer = yard.sealer("orders/x", 100).stream("base", StreamKind::Tar);
    assert!(writer.member(folder("base", 5)).unwrap_err().to_string().contains("5 bytes"));
    assert!(writer.member(member("file/", 1)).is_err(), "only a folder's name may end so");
    writer.member(folder("base/", 0)).unwrap();
    writer.member(member("base/1", 5)).unwrap();
    let stream = blocking(move || {
        writer.write(b"123").unwrap();
        // The end of the member, and what comes behind it.
        writer.write(b"45PADDING").unwrap();
        writer.finish().unwrap()
    })
    .await;
    let slices = stream.parts[0].members.iter().map(|one| (one.path.as_str(), one.offset, one.bytes, one.at));
    assert_eq!(slices.collect::<Vec<_>>(), [("base", 0, 0, 0), ("base/1", 0, 3, 0), ("base/1", 3, 2, 3)]);
}

/// What a test feeds a writer.
#[derive(Clone, Debug)]
enum Feed {
    Bytes(Vec<u8>),
    Member(usize),
}

fn feeds() -> impl Strategy<Value = Vec<Feed>> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..300).prop_map(Feed::Bytes);
    let member = prop_oneof![Just(0), 0..5_usize, 0..700_usize].prop_map(Feed::Member);
    proptest::collection::vec(prop_oneof![bytes, member], 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// However a stream is written and cut: the parts are the stream, and the slices give each member exactly.
    #[test]
    fn cutting_loses_nothing(feeds in feeds(), part_bytes in 1..400_usize, chop in 1..97_usize, threads in 1..4_usize) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(async {
            let yard = Yard::new();
            let (mut whole, mut members) = (Vec::new(), Vec::new());
            let sealer =
                Sealer::new(yard.store.clone(), "orders/x".to_owned(), yard.options(part_bytes, threads)).unwrap();
            let mut writer = sealer.stream("base", StreamKind::Tar);
            let mut script = Vec::new();
            for (number, feed) in feeds.iter().enumerate() {
                match feed {
                    Feed::Bytes(bytes) => script.push((None, bytes.clone())),
                    Feed::Member(size) => {
                        let data = noise(number as u64, *size);
                        members.push((format!("m/{number}"), data.clone()));
                        script.push((Some(format!("m/{number}")), data));
                    }
                }
                whole.extend_from_slice(&script.last().unwrap().1);
            }
            let stream = blocking(move || {
                for (path, data) in script {
                    if let Some(path) = path {
                        let size = data.len() as u64;
                        writer.member(Member { path, kind: MemberKind::File, mode: 0o640, size }).unwrap();
                    }
                    for piece in data.chunks(chop) {
                        writer.write(piece).unwrap();
                    }
                }
                writer.finish().unwrap()
            }).await;
            let read = read_all(&yard, "orders/x", &stream).await.unwrap();
            assert!(read == whole);
            assert!(stream.parts.iter().all(|part| part.plain_bytes <= part_bytes as u64));
            let mut offset = 0;
            let mut found: Vec<(String, Vec<u8>)> = Vec::new();
            for part in &stream.parts {
                for slice in &part.members {
                    if slice.offset == 0 {
                        found.push((slice.path.clone(), Vec::new()));
                    }
                    let (path, data) = found.last_mut().unwrap();
                    assert_eq!((&slice.path, slice.offset), (&*path, data.len() as u64));
                    let from = usize::try_from(offset + slice.at).unwrap();
                    data.extend_from_slice(&whole[from..from + usize::try_from(slice.bytes).unwrap()]);
                }
                offset += part.plain_bytes;
            }
            assert_eq!(found, members);
            if !stream.parts.is_empty() {
                let made = manifest(&backup(1), vec![stream], vec![yard.recipient.clone()]);
                assert_eq!(seal::manifest_findings(&made, &policy(), &backup(1)), vec![]);
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flipped_byte_and_every_cut_is_found() {
    let yard = Yard::new();
    let made = yard.whole_backup(1).await;
    let seed: u64 = std::env::var("LIFEBOAT_SEED").ok().map_or(20_260_131, |text| text.parse().unwrap());
    eprintln!("seed {seed} (LIFEBOAT_SEED replays another)");
    let random = noise(seed, 24 * 400);
    let objects = yard.store.list("").await.unwrap();
    assert_eq!(objects.len(), 4 + 1 + 2);
    for try_number in 0..400 {
        let number = |at: usize| {
            let from = try_number * 24 + at * 8;
            usize::try_from(u64::from_le_bytes(random[from..from + 8].try_into().unwrap()) >> 1).unwrap()
        };
        let object = &objects[number(0) % objects.len()];
        let path = yard.path(&object.key);
        let good = std::fs::read(&path).unwrap();
        let at = number(1) % good.len();
        let bad = if number(2).is_multiple_of(3) {
            good[..at].to_vec()
        } else {
            let mut bad = good.clone();
            bad[at] ^= 1 << (number(2) % 8);
            bad
        };
        std::fs::write(&path, &bad).unwrap();
        let found = findings_of(&yard, 1).await;
        assert!(!found.is_empty(), "seed {seed}, try {try_number}: {} at {at} was not found", object.key);
        std::fs::write(&path, &good).unwrap();
    }
    assert_eq!(findings_of(&yard, 1).await, vec![]);
    assert_eq!(made.streams[0].parts.len(), 4);
}

/// All that is wrong with a backup, as verification sees it.
async fn findings_of(yard: &Yard, number: u32) -> Vec<Finding> {
    let loaded = match seal::load_manifest(&*yard.store, &policy(), &backup(number), &yard.trusted).await {
        Ok(loaded) => loaded,
        Err(Stop::Found(findings)) => return findings,
        Err(Stop::Broke(broke)) => panic!("{broke}"),
    };
    let mut findings = loaded.findings;
    for stream in &loaded.manifest.streams {
        let prefix = format!("{}/{}", policy(), backup(number));
        match seal::for_each_part(yard.store.clone(), &prefix, stream, &yard.opener, 2, |_, _, _| Ok(())).await {
            Ok(_) => {}
            Err(Stop::Found(found)) => findings.extend(found),
            Err(Stop::Broke(broke)) => panic!("{broke}"),
        }
    }
    findings
}

#[tokio::test(flavor = "multi_thread")]
async fn blame_is_precise() {
    let yard = Yard::new();
    let stream = yard.seal_bytes("orders/x", 100_000, noise(1, 80_000)).await;
    let part = &stream.parts[0];
    let sealed = yard.store.get(&format!("orders/x/{}", part.key)).await.unwrap().to_vec();
    assert_eq!(yard.opener.open_part(part, &sealed).unwrap(), noise(1, 80_000));

    // Outside in. A forger who can write the hashes too is seen one layer further in.
    let claim = |sealed: &[u8]| {
        let mut part = part.clone();
        part.sealed_bytes = sealed.len() as u64;
        part.sealed_sha256 = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(sealed));
        part
    };
    let open = |part: &lifeboat::domain::artifact::Part, sealed: &[u8]| {
        codes(yard.opener.open_part(part, sealed).unwrap_err())
    };
    let mut flipped = sealed.clone();
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(open(part, &sealed[1..]), ["part_length"]);
    assert_eq!(open(part, &flipped), ["part_hash"]);
    assert_eq!(open(&claim(&flipped), &flipped), ["part_decrypt"]);
    for cut in [0, 1, 30, 150, 70_000, sealed.len() - 1] {
        assert_eq!(open(&claim(&sealed[..cut]), &sealed[..cut]), ["part_decrypt"], "cut at {cut}");
    }
    // A cut at a chunk's edge: every chunk that is there is authentic, the last one is missing.
    let edge = sealed.len() - (80_000 % 65_536 + 16 + 40);
    assert_eq!(open(&claim(&sealed[..edge]), &sealed[..edge]), ["part_decrypt"]);

    let seal_raw = |inside: &[u8]| {
        let recipient: age::x25519::Recipient = yard.recipient.parse().unwrap();
        age::encrypt(&recipient, inside).unwrap()
    };
    let frame = zstd::encode_all(&noise(1, 80_000)[..], 3).unwrap();
    for (inside, code) in [
        (b"not zstd".to_vec(), "part_decompress"),
        (frame[..frame.len() - 9].to_vec(), "part_decompress"),
        ([&frame[..], b"garbage"].concat(), "part_decompress"),
        (zstd::encode_all(&noise(1, 79_999)[..], 3).unwrap(), "plain_length"),
        ([frame.clone(), frame.clone()].concat(), "plain_length"),
        (zstd::encode_all(&vec![0; 200 << 20][..], 1).unwrap(), "plain_length"),
        (zstd::encode_all(&noise(2, 80_000)[..], 3).unwrap(), "plain_hash"),
        // No frame at all is no stream of zstd's.
        (Vec::new(), "part_decompress"),
    ] {
        let sealed = seal_raw(&inside);
        assert_eq!(open(&claim(&sealed), &sealed), [code], "{} bytes inside", inside.len());
    }
    let several = seal_raw(
        &[zstd::encode_all(&noise(1, 80_000)[..7], 3).unwrap(), zstd::encode_all(&noise(1, 80_000)[7..], 3).unwrap()]
            .concat(),
    );
    assert!(yard.opener.open_part(&claim(&several), &several).is_ok(), "several whole frames are fine");

    let mut greedy = claim(&sealed);
    greedy.plain_bytes = (1 << 30) + 1;
    assert_eq!(open(&greedy, &sealed), ["part_size"]);
    let other = Yard::new();
    match other.opener.open_part(part, &sealed) {
        Err(Stop::Found(findings)) => {
            assert_eq!(findings[0].code, "wrong_key");
            assert!(findings[0].found.as_ref().unwrap().contains(&other.recipient));
        }
        opened => panic!("{opened:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_given_out_after_a_gap() {
    let yard = Yard::new();
    let bytes = noise(1, 5_000);
    let stream = yard.seal_bytes("orders/x", 1_000, bytes.clone()).await;
    std::fs::remove_file(yard.path("orders/x/base/00002.zst.age")).unwrap();
    let (sender, given) = std::sync::mpsc::channel();
    let give = move |bytes| sender.send(bytes).map_err(|_| Broke::new("gone"));
    let stop = seal::read_stream(yard.store.clone(), "orders/x", &stream, &yard.opener, 2, give).await.unwrap_err();
    assert_eq!(codes(stop), ["part_missing"]);
    assert_eq!(given.into_iter().flatten().collect::<Vec<u8>>(), bytes[..2_000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_bad_parts_are_named_and_a_broken_store_is_no_finding() {
    let yard = Yard::new();
    let stream = yard.seal_bytes("orders/x", 1_000, noise(1, 9_500)).await;
    std::fs::remove_file(yard.path("orders/x/base/00007.zst.age")).unwrap();
    std::fs::write(yard.path("orders/x/base/00002.zst.age"), "short").unwrap();
    std::fs::write(yard.path("orders/x/extra"), "an orphan is harmless").unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let used = move |_: usize, _: &_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    let stop = seal::for_each_part(yard.store.clone(), "orders/x", &stream, &yard.opener, 3, used).await.unwrap_err();
    assert_eq!(codes(stop), ["part_length", "part_missing"]);
    assert_eq!(seen.load(Ordering::SeqCst), 8);
    let stop = seal::for_each_sealed(yard.store.clone(), "orders/x", &stream, 3, None, |_, _| ()).await.unwrap_err();
    assert_eq!(codes(stop), ["part_length", "part_missing"]);
    assert_eq!(codes(read_all(&yard, "orders/x", &stream).await.unwrap_err()), ["part_length", "part_missing"]);

    let store = Arc::new(Faulty { inner: yard.store.clone(), puts: AtomicUsize::new(0), fail_at: 5 });
    let stop = seal::for_each_part(store, "orders/x", &stream, &yard.opener, 2, |_, _, _| Ok(())).await.unwrap_err();
    assert!(matches!(&stop, Stop::Broke(broke) if broke.error.contains("Input/output error")), "{stop:?}");
    let refuse = |index: usize, _: &_, _| if index == 1 { Err(Broke::new("no room")) } else { Ok(()) };
    let stop = seal::for_each_part(yard.store.clone(), "orders/x", &stream, &yard.opener, 2, refuse).await.unwrap_err();
    assert_eq!(stop, Stop::Broke(Broke::new("no room")));
    let full = |_: Vec<u8>| Err(Broke::new("the reader went away"));
    let stop = seal::read_stream(yard.store.clone(), "orders/x", &stream, &yard.opener, 2, full).await.unwrap_err();
    assert_eq!(stop, Stop::Broke(Broke::new("the reader went away")));
    let die = |_: usize, _: &_, _| panic!("a bug in whoever uses the parts");
    let stop = seal::for_each_part(yard.store.clone(), "orders/x", &stream, &yard.opener, 2, die).await.unwrap_err();
    assert!(matches!(stop, Stop::Broke(_)), "{stop:?}");
}

/// A part that opens, and is not as long as the manifest says, by one byte or by all that a part may have.
#[tokio::test(flavor = "multi_thread")]
async fn the_length_of_the_plaintext_is_exact() {
    let yard = Yard::new();
    let stream = yard.seal_bytes("p", 1 << 20, noise(1, 5000)).await;
    let part = &stream.parts[0];
    let sealed = std::fs::read(yard.path(&format!("p/{}", part.key))).unwrap();
    assert_eq!(yard.opener.open_part(part, &sealed).unwrap(), noise(1, 5000));
    for (claimed, code, found) in [
        (4999, "plain_length", "more than 4999 bytes"),
        (5001, "plain_length", "5000 bytes"),
        (0, "plain_length", "more than 0 bytes"),
        (seal::MAX_PART_BYTES, "plain_length", "5000 bytes"),
        (seal::MAX_PART_BYTES + 1, "part_size", ""),
    ] {
        let part = lifeboat::domain::artifact::Part { plain_bytes: claimed, ..part.clone() };
        let Err(Stop::Found(findings)) = yard.opener.open_part(&part, &sealed) else { panic!("{claimed}") };
        assert_eq!((findings.len(), findings[0].code.as_str()), (1, code), "{claimed}: {findings:?}");
        assert_eq!(findings[0].found.as_deref().unwrap_or_default(), found, "{claimed}");
    }
}

#[test]
fn keys_are_read_strictly_and_never_shown() {
    let yard = Yard::new();
    let dir = yard.folder.path();
    let (text, recipient) = seal::generate_identity();
    let secret = text.lines().last().unwrap().to_owned();
    assert!(secret.starts_with("AGE-SECRET-KEY-1") && text.contains(&format!("# public key: {recipient}")));
    let (other, other_recipient) = seal::generate_identity();
    let file = dir.join("two");
    write_mode(&file, &format!("# a comment\r\n\n{text}\r\n  {}", other.lines().last().unwrap()), 0o400);
    let opener = Opener::read(&[file]).unwrap();
    assert_eq!(opener.recipients(), [recipient.clone(), other_recipient]);

    let mut shown = format!("{opener:?} {:?} {:?}", yard.signer, yard.trusted);
    assert!(shown.contains(&recipient) && shown.contains(&format!("{:?}", yard.signer.public_key())), "{shown}");
    let mut cases = vec![
        ("age-open", text.clone(), 0o644, "mode 0644"),
        ("age-group", text.clone(), 0o640, "chmod 600"),
        ("age-cut", format!("# x\n{}", &secret[..secret.len() - 1]), 0o600, "line 2"),
        ("age-public", recipient.clone(), 0o600, "AGE-SECRET-KEY-1"),
        ("age-plugin", "AGE-PLUGIN-YUBIKEY-1QQQQQQ".to_owned(), 0o600, "not supported"),
        ("age-ssh", "-----BEGIN OPENSSH PRIVATE KEY-----".to_owned(), 0o600, "not supported"),
        ("age-post-quantum", "AGE-SECRET-KEY-PQ-1QQQQQQ".to_owned(), 0o600, "not supported"),
        ("age-sealed", "age-encryption.org/v1".to_owned(), 0o600, "itself encrypted"),
        ("age-armored", "-----BEGIN AGE ENCRYPTED FILE-----".to_owned(), 0o600, "itself encrypted"),
        ("age-long", "#".repeat((1 << 20) + 1), 0o600, "larger than any key file"),
        ("age-largest", "#".repeat(1 << 20), 0o600, "no age identity"),
        ("age-comment", "# nothing\n".to_owned(), 0o600, "no age identity"),
        ("age-empty", String::new(), 0o600, "empty"),
    ];
    cases.retain(|(name, text, mode, why)| {
        write_mode(&dir.join(name), text, *mode);
        let error = Opener::read(&[dir.join(name)]).unwrap_err().to_string();
        assert!(error.contains(why) && error.contains(name), "{error}");
        shown += &error;
        false
    });
    write_mode(&dir.join("age-full"), &format!("{text}{}", " ".repeat((1 << 20) - text.len())), 0o600);
    assert_eq!(Opener::read(&[dir.join("age-full")]).unwrap().recipients(), std::slice::from_ref(&recipient));
    assert!(
        Opener::read(&[]).is_err()
            && Opener::read(&[dir.join("absent")]).is_err()
            && Opener::read(&[dir.into()]).is_err()
    );

    let (private, public) = seal::generate_signing_key().unwrap();
    for (name, text, mode, why) in [
        ("sig-open", private.clone(), 0o604, "chmod 600"),
        ("sig-public", public.clone(), 0o600, "a public key"),
        ("sig-age", text.clone(), 0o600, "not PEM"),
        ("sig-cut", private.replace("M", "A"), 0o600, "a private key (damaged"),
        (
            "sig-rsa",
            "-----BEGIN RSA PRIVATE KEY-----\nx\n-----END RSA PRIVATE KEY-----\n".to_owned(),
            0o600,
            "rsa private key",
        ),
    ] {
        write_mode(&dir.join(name), &text, mode);
        let error = Signer::read(&dir.join(name)).unwrap_err().to_string();
        assert!(error.contains(why) && error.contains(name), "{error}");
        shown += &error;
    }
    write_mode(&dir.join("trust-private"), &private, 0o600);
    let error = TrustedSigners::read(&[dir.join("trust-private")]).unwrap_err().to_string();
    assert!(error.contains("a private key"), "{error}");
    shown += &error;

    assert!(seal::recipient_of(&recipient).is_ok());
    for foreign in ["ssh-ed25519 AAAA", "age1yubikey1qqqq", "age1pq1qqqq"] {
        assert!(seal::recipient_of(foreign).unwrap_err().contains("not supported"), "{foreign}");
    }
    assert!(!seal::recipient_of("age1").unwrap_err().contains("not supported"));
    for text in ["", "age1", "ssh-ed25519 AAAA", &secret, &secret.to_lowercase()] {
        shown += &seal::recipient_of(text).unwrap_err();
    }
    for text in ["ssh-ed25519 AAAA", "age1yubikey1qqqq", "age1pq1qqqq"] {
        assert!(seal::recipient_of(text).unwrap_err().contains("not supported"), "{text}");
    }
    assert!(seal::recipient_of("nobody").unwrap_err().contains("`nobody`"));
    let body = private.lines().nth(1).unwrap();
    for secret in [&secret[16..], &secret.to_lowercase()[16..], body] {
        assert!(!shown.contains(secret) && !shown.contains(&secret[..20]), "a secret was shown");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_verifies_a_manifest() {
    use base64::Engine;
    let yard = Yard::new();
    let made = yard.whole_backup(1).await;
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("SKIPPED: openssl is not here");
        return;
    }
    let dir = yard.path(&format!("orders/{}", made.backup));
    let signature = std::fs::read(dir.join("manifest.json.sig")).unwrap();
    let signature: lifeboat::domain::artifact::SignatureFile = serde_json::from_slice(&signature).unwrap();
    let raw = base64::engine::general_purpose::STANDARD.decode(&signature.signature).unwrap();
    std::fs::write(dir.join("sig.bin"), raw).unwrap();
    let verify = || {
        let mut openssl = Command::new("openssl");
        openssl.args(["pkeyutl", "-verify", "-pubin", "-inkey"]).arg(&yard.public_key);
        openssl.args(["-rawin", "-in", "manifest.json", "-sigfile", "sig.bin"]).current_dir(&dir).output().unwrap()
    };
    let output = verify();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // And it reads our private key, as we read its.
    let pkey = |args: &[&str]| Command::new("openssl").args(args).current_dir(yard.folder.path()).output().unwrap();
    let public = pkey(&["pkey", "-in", "signing.pem", "-pubout"]);
    assert_eq!(String::from_utf8_lossy(&public.stdout), std::fs::read_to_string(&yard.public_key).unwrap());
    assert!(pkey(&["genpkey", "-algorithm", "ed25519", "-out", "theirs.pem"]).status.success());
    assert!(Signer::read(&yard.folder.path().join("theirs.pem")).is_ok());
    let mut bytes = std::fs::read(dir.join("manifest.json")).unwrap();
    bytes[10] ^= 1;
    std::fs::write(dir.join("manifest.json"), bytes).unwrap();
    assert!(!verify().status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_is_believed_only_when_all_is_right() {
    let yard = Yard::new();
    let made = yard.whole_backup(1).await;
    let dir = yard.path(&format!("orders/{}", made.backup));
    let load = |trusted: TrustedSigners| {
        let store = yard.store.clone();
        async move { seal::load_manifest(&*store, &policy(), &backup(1), &trusted).await }
    };
    let codes_of = |trusted: TrustedSigners| {
        let loading = load(trusted);
        async move {
            match loading.await {
                Ok(loaded) => loaded.findings.into_iter().map(|finding| finding.code).collect::<Vec<_>>(),
                Err(stop) => codes(stop),
            }
        }
    };
    let loaded = load(yard.trusted.clone()).await.unwrap();
    assert_eq!(loaded.manifest, made);
    assert_eq!(loaded.signed_by, Observed::Known(yard.signer.public_key()));
    assert!(loaded.signer_trusted && loaded.findings.is_empty());
    let (good, signature) = (std::fs::read(dir.join("manifest.json")).unwrap(), dir.join("manifest.json.sig"));
    let good_signature = std::fs::read(&signature).unwrap();

    let nobody = load(TrustedSigners::default()).await.unwrap();
    assert!(!nobody.signer_trusted && nobody.findings.is_empty());
    assert_eq!(codes_of(Yard::new().trusted.clone()).await, ["signer_untrusted"]);

    std::fs::remove_file(&signature).unwrap();
    assert_eq!(codes_of(yard.trusted.clone()).await, ["signature_missing"]);
    assert_eq!(load(yard.trusted.clone()).await.unwrap().signed_by, Observed::Absent);
    std::fs::write(&signature, "{}").unwrap();
    assert_eq!(codes_of(yard.trusted.clone()).await, ["signature_wrong"]);
    std::fs::write(&signature, &good_signature).unwrap();

    // A changed number: shape right, hash and signature wrong.
    let text = String::from_utf8(good.clone()).unwrap();
    let changed = text.replace("\"sequence\":1", "\"sequence\":2");
    assert_ne!(changed, text);
    std::fs::write(dir.join("manifest.json"), changed).unwrap();
    assert_eq!(codes_of(yard.trusted.clone()).await, ["signature_wrong", "manifest_hash"]);
    std::fs::write(dir.join("manifest.json"), "{\"format\":\"lifeboat.manifest/9\",\"new\":1}").unwrap();
    match load(yard.trusted.clone()).await {
        Err(Stop::Found(findings)) => {
            let shape = findings.last().unwrap();
            assert_eq!(shape.code, "manifest_shape");
            assert_eq!(shape.found.as_deref(), Some("lifeboat.manifest/9"));
        }
        loaded => panic!("{loaded:?}"),
    }
    // All of it is there, and nothing but its format is another.
    std::fs::write(dir.join("manifest.json"), text.replace("lifeboat.manifest/1", "lifeboat.manifest/9")).unwrap();
    assert!(load(yard.trusted.clone()).await.is_err(), "a manifest of an unknown format was taken");
    std::fs::write(dir.join("manifest.json"), "{\"format\":\"lifeboat.manifest/1\"}").unwrap();
    match load(yard.trusted.clone()).await {
        Err(Stop::Found(findings)) => {
            assert!(findings.last().unwrap().message.contains("cannot be read"), "{findings:?}")
        }
        loaded => panic!("{loaded:?}"),
    }
    for text in ["", "null", "[]", "not json"] {
        std::fs::write(dir.join("manifest.json"), text).unwrap();
        assert_eq!(codes_of(yard.trusted.clone()).await.last().unwrap(), "manifest_shape", "{text:?}");
    }

    // A good backup under another's name.
    yard.whole_backup(2).await;
    let two = yard.path(&format!("orders/{}", backup(2)));
    for name in ["manifest.json", "manifest.json.sig"] {
        std::fs::copy(two.join(name), dir.join(name)).unwrap();
    }
    assert_eq!(codes_of(yard.trusted.clone()).await, ["identity"]);
    std::fs::remove_file(dir.join("manifest.json")).unwrap();
    assert_eq!(codes_of(yard.trusted.clone()).await, ["manifest_missing"]);

    let store: Arc<dyn Store> = Arc::new(Faulty { inner: yard.store.clone(), puts: AtomicUsize::new(0), fail_at: 0 });
    let broken = seal::load_manifest(&*store, &policy(), &backup(2), &yard.trusted).await;
    assert!(matches!(broken, Err(Stop::Broke(_))), "{broken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_is_written_last_once_and_only_when_it_is_right() {
    let yard = Yard::new();
    let made = yard.whole_backup(1).await;
    let again = seal::store_manifest(&*yard.store, &made, &yard.signer).await;
    assert!(matches!(again, Err(SealError::Store(StoreError::AlreadyThere { .. }))), "{again:?}");
    let store = Faulty { inner: yard.store.clone(), puts: AtomicUsize::new(0), fail_at: 1 };
    let mut other = made.clone();
    other.backup = backup(3);
    assert!(seal::store_manifest(&store, &other, &yard.signer).await.is_err());
    let left: Vec<_> = yard.store.list(&format!("orders/{}", backup(3))).await.unwrap();
    assert_eq!(left.len(), 1);
    assert!(left[0].key.ends_with("manifest.json.sig"), "the signature comes first: {left:?}");

    other.backup = backup(4);
    other.streams[0].parts[1].key = "../../../etc/passwd".to_owned();
    let refused = seal::store_manifest(&*yard.store, &other, &yard.signer).await;
    assert!(matches!(refused, Err(SealError::Refused(_))), "{refused:?}");
    assert_eq!(yard.store.list(&format!("orders/{}", backup(4))).await.unwrap(), vec![]);

    yard.whole_backup(2).await;
    for stray in ["orders/manifest.json", "orders/x/manifest.json", "Orders/20260131T030000Z-00000009/manifest.json"] {
        yard.store.put_new(stray, Bytes::new()).await.unwrap();
    }
    let deep = format!("orders/{}/base/manifest.json", backup(5));
    yard.store.put_new(&deep, Bytes::new()).await.unwrap();
    let expected = vec![(policy(), backup(1)), (policy(), backup(2))];
    assert_eq!(seal::list_backups(&*yard.store, None, &yard.trusted).await.unwrap(), expected);
    assert_eq!(seal::list_backups(&*yard.store, Some(&policy()), &yard.trusted).await.unwrap(), expected);
    assert_eq!(seal::list_backups(&*yard.store, Some(&"order".parse().unwrap()), &yard.trusted).await.unwrap(), vec![]);
    let empty = FileStore::open(&yard.folder.path().join("empty")).unwrap();
    assert_eq!(seal::list_backups(&empty, None, &yard.trusted).await.unwrap(), vec![]);
}

/// Runs in a process of its own, whose memory it measures.
#[test]
fn memory_is_bounded_by_the_parts_in_flight() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "seal::inside_a_process_whose_memory_is_measured"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    eprintln!("{text}");
}

/// The most memory that this process ever had, in MiB (proc_pid_status(5)).
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by memory_is_bounded_by_the_parts_in_flight"]
async fn inside_a_process_whose_memory_is_measured() {
    const PART: usize = 4 << 20;
    let yard = Yard::new();
    let block = noise(3, 1 << 20);
    let before = peak_mib();
    let mut writer = yard.sealer("orders/x", PART).stream("base", StreamKind::Tar);
    let begun = std::time::Instant::now();
    let stream = blocking(move || {
        // Three quarters that compress, one that does not.
        for number in 0..192 {
            writer.write(if number % 4 == 0 { &block } else { &[0; 1 << 20] }).unwrap();
        }
        writer.finish().unwrap()
    })
    .await;
    let (sealing, sealed) = (peak_mib() - before, begun.elapsed());
    let (counted, count) = (Arc::new(AtomicUsize::new(0)), stream.parts.len());
    let counter = counted.clone();
    let give = move |bytes: Vec<u8>| {
        counter.fetch_add(bytes.len(), Ordering::SeqCst);
        Ok(())
    };
    let begun = std::time::Instant::now();
    seal::read_stream(yard.store.clone(), "orders/x", &stream, &yard.opener, 2, give).await.unwrap();
    let (both, opened) = (peak_mib() - before, begun.elapsed());
    eprintln!(
        "192 MiB in {count} parts: sealed in {sealed:?} with {sealing} MiB, opened in {opened:?}, {both} MiB in all"
    );
    assert_eq!(counted.load(Ordering::SeqCst), 192 << 20);
    // (threads + 2) parts, each as plaintext, compressed and sealed.
    assert!(sealing < 4 * 3 * 4 && both < 4 * 3 * 4 + 32, "{sealing} and {both} MiB");
}
