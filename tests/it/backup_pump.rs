//! The tar pump: many archives in, one tar out, however the bytes are cut; nothing that leaves the folder gets through.

use std::collections::BTreeMap;
use std::io::Read;

use lifeboat::backup::physical::pump::{Pump, Pumped};
use lifeboat::domain::artifact::MemberKind;
use proptest::prelude::*;
use tar::{EntryType, Header};

use crate::support::sink::VecSink;

/// One member of an archive.
#[derive(Clone, Debug)]
struct Entry {
    name: String,
    kind: EntryType,
    data: Vec<u8>,
}

fn file(name: &str, data: &[u8]) -> Entry {
    Entry { name: name.to_owned(), kind: EntryType::Regular, data: data.to_vec() }
}

fn other(name: &str, kind: EntryType) -> Entry {
    Entry { name: name.to_owned(), kind, data: Vec::new() }
}

/// An archive as a server sends it. The name goes in raw, for bad ones must get in too.
fn archive(entries: &[Entry], end: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        let mut header = Header::new_ustar();
        header.as_mut_bytes()[..entry.name.len()].copy_from_slice(entry.name.as_bytes());
        header.set_entry_type(entry.kind);
        header.set_mode(if entry.kind == EntryType::Regular { 0o600 } else { 0o700 });
        header.set_size(entry.data.len() as u64);
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(&entry.data);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    if end {
        out.resize(out.len() + 1024, 0);
    }
    out
}

const WAL: &str =
    r#""WAL-Ranges": [ { "Timeline": 1, "Start-LSN": "0/28", "End-LSN": "0/100" } ], "Manifest-Checksum": "x" }"#;

fn manifest() -> Entry {
    file("backup_manifest", WAL.as_bytes())
}

/// Feeds archives in pieces of these lengths, over and over.
fn pump(archives: &[(Option<u32>, Vec<u8>)], pieces: &[usize]) -> Result<Pumped<VecSink>, String> {
    let mut pump = Pump::new(VecSink::default(), true);
    let mut lengths = pieces.iter().cycle();
    let mut run = |pump: &mut Pump<VecSink>| {
        for (tablespace, bytes) in archives {
            pump.archive(*tablespace)?;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (now, later) = rest.split_at((*lengths.next().unwrap()).clamp(1, rest.len()));
                pump.feed(now)?;
                rest = later;
            }
        }
        Ok(())
    };
    run(&mut pump).and_then(|()| pump.finish()).map_err(|broke: lifeboat::domain::check::Broke| broke.error)
}

/// What a reader that is not ours sees in the tar.
fn unpacked(bytes: &[u8]) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(bytes).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().trim_end_matches('/').to_owned();
        let mut data = Vec::new();
        entry.read_to_end(&mut data).unwrap();
        let data = (entry.header().entry_type() == EntryType::Regular).then_some(data);
        assert!(found.insert(path, data).is_none(), "a member twice");
    }
    found
}

fn one(entries: &[Entry]) -> Result<Pumped<VecSink>, String> {
    pump(&[(None, archive(entries, true))], &[4096])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_cut_gives_the_same_one_tar(
        sizes in prop::collection::vec(0usize..3000, 1..8),
        pieces in prop::collection::vec(1usize..2000, 1..6),
        end in any::<bool>(),
    ) {
        let data = |seed: usize, size: usize| (0..size).map(|at| (at * 7 + seed) as u8).collect::<Vec<u8>>();
        let mut base = vec![file("backup_label", b"START WAL LOCATION: 0/28 (file 1)\n"), other("base/", EntryType::Directory)];
        let mut space = vec![other("PG_15_202209061/", EntryType::Directory)];
        let mut expected = BTreeMap::new();
        for (at, size) in sizes.iter().enumerate() {
            base.push(file(&format!("base/{at}"), &data(at, *size)));
            space.push(file(&format!("PG_15_202209061/{at}"), &data(at + 9, *size)));
            expected.insert(format!("base/{at}"), data(at, *size));
            expected.insert(format!("pg_tblspc/16400/PG_15_202209061/{at}"), data(at + 9, *size));
        }
        base.push(other("pg_tblspc/16400/", EntryType::Symlink));
        base.push(manifest());
        let archives = [(Some(16400), archive(&space, end)), (None, archive(&base, end))];
        let cut = pump(&archives, &pieces).unwrap();
        let whole = pump(&archives, &[usize::MAX]).unwrap();
        prop_assert_eq!(&cut.sink.bytes, &whole.sink.bytes);
        prop_assert_eq!(&cut.sink.members, &whole.sink.members);
        let seen = unpacked(&cut.sink.bytes);
        for (path, data) in &expected {
            prop_assert_eq!(seen.get(path).and_then(Option::as_ref), Some(data), "{}", path);
        }
        prop_assert_eq!(seen.len() as u64, cut.members);
        // Every member is announced at the very byte where its data begins.
        for (member, at) in &cut.sink.members {
            let data = seen.get(&member.path).unwrap();
            match (member.kind, data) {
                (MemberKind::File, Some(data)) => {
                    prop_assert_eq!(&cut.sink.bytes[*at..*at + data.len()], data.as_slice());
                    prop_assert_eq!(member.size, data.len() as u64);
                }
                (MemberKind::Folder, None) => prop_assert_eq!(member.size, 0),
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert_eq!(cut.sink.members.last().map(|(member, _)| member.path.as_str()), Some("backup_manifest"));
        prop_assert!(cut.label.starts_with(b"START WAL"));
        prop_assert!(lifeboat::backup::physical::wal_of(&cut).is_ok());
    }

    #[test]
    fn a_cut_or_flipped_archive_never_counts_as_whole(cut in 1usize..2048, at in 0usize..512, bit in 0u8..8) {
        let whole = archive(&[file("base/1", &[1; 700]), manifest()], false);
        let short = whole[..whole.len() - cut.min(whole.len() - 1)].to_vec();
        prop_assert!(pump(&[(None, short)], &[100]).is_err());
        // A flip in a header is either seen by its sum, or lies in bytes that mean nothing and changes nothing.
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << bit;
        if let Ok(pumped) = pump(&[(None, flipped)], &[100]) {
            let seen = unpacked(&pumped.sink.bytes);
            prop_assert_eq!(seen.get("base/1"), Some(&Some(vec![1; 700])));
        }
    }
}

#[test]
fn what_could_leave_the_folder_is_refused() {
    for name in ["/etc/passwd", "../x", "base/../../x", "base//x", "./", ".", "..", "base/./x"] {
        let error = one(&[file(name, b"x"), manifest()]).unwrap_err();
        assert!(error.contains("is not a path inside the data folder"), "{name}: {error}");
    }
    for (name, kind) in [
        ("base/link", EntryType::Symlink),
        ("pg_tblspc/x", EntryType::Symlink),
        ("base/link", EntryType::Link),
        ("dev", EntryType::Char),
        ("dev", EntryType::Block),
        ("fifo", EntryType::Fifo),
        ("long", EntryType::GNULongName),
        ("pax", EntryType::XHeader),
    ] {
        assert!(one(&[other(name, kind), manifest()]).is_err(), "{name} {kind:?}");
    }
    assert!(one(&[file("./base/x", b"x"), manifest()]).is_ok(), "a leading ./ is harmless");
}

#[test]
fn what_is_missing_or_too_much_is_seen() {
    assert!(one(&[file("base/1", b"x")]).unwrap_err().contains("no backup_manifest"));
    assert!(one(&[manifest(), file("base/1", b"x")]).unwrap_err().contains("follows backup_manifest"));
    let link = other("pg_tblspc/16400", EntryType::Symlink);
    assert!(one(&[link, manifest()]).unwrap_err().contains("tablespace 16400"));
    assert!(one(&[file("tablespace_map", b"16400 /srv"), manifest()]).unwrap_err().contains("tablespace was made"));
    assert!(one(&[file("tablespace_map", b""), manifest()]).is_ok());
    let mut trailing = archive(&[manifest()], true);
    trailing.extend_from_slice(&[1; 512]);
    assert!(pump(&[(None, trailing)], &[512]).unwrap_err().contains("follows the end"));
}
