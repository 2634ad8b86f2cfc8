//! What a manifest may not be like: each row is one thing wrong with an otherwise right one, and the code that says so.

use lifeboat::domain::artifact::{Manifest, MemberKind, Part, Slice, Stream, StreamKind};
use lifeboat::seal::{is_inside, manifest_findings};

use crate::support::artifacts::{backup, manifest, policy};

fn part(key: &str, plain_bytes: u64, members: Vec<Slice>) -> Part {
    let hash = "0123456789abcdef".repeat(4);
    Part { key: key.to_owned(), plain_bytes, plain_blake3: hash.clone(), sealed_bytes: 9, sealed_sha256: hash, members }
}

fn slice(path: &str, size: u64, offset: u64, bytes: u64, at: u64) -> Slice {
    Slice { path: path.to_owned(), kind: MemberKind::File, mode: 0o600, size, offset, bytes, at }
}

/// Two parts; `a` lies in both, then `b`, and an empty `c`.
fn right() -> Manifest {
    let first = part("base/00000.zst.age", 100, vec![slice("dir/a", 60, 0, 50, 50)]);
    let rest = vec![slice("dir/a", 60, 50, 10, 0), slice("b", 20, 0, 20, 30), slice("c", 0, 0, 0, 50)];
    let second = part("base/00001.zst.age", 100, rest);
    let base = Stream { name: "base".into(), kind: StreamKind::Tar, parts: vec![first, second], plain_bytes: 200 };
    let dump = StreamKind::Dump { database: "shop".into() };
    let dump = Stream {
        name: "dump/shop".into(),
        kind: dump,
        parts: vec![part("dump/shop/00000.zst.age", 5, vec![])],
        plain_bytes: 5,
    };
    let globals = vec![part("globals.sql.zst.age", 7, vec![])];
    let globals = Stream { name: "globals".into(), kind: StreamKind::Globals, parts: globals, plain_bytes: 7 };
    manifest(&backup(1), vec![base, dump, globals], vec!["age1".to_owned()])
}

fn codes(manifest: &Manifest) -> Vec<String> {
    manifest_findings(manifest, &policy(), &backup(1)).into_iter().map(|finding| finding.code).collect()
}

#[test]
fn each_fault_of_a_manifest_has_its_code() {
    assert_eq!(codes(&right()), Vec::<String>::new());
    type Change = fn(&mut Manifest);
    let rows: &[(&str, &str, Change)] = &[
        ("format", "manifest_shape", |m| m.format = "lifeboat.manifest/2".into()),
        ("another backup", "identity", |m| m.backup = backup(2)),
        ("another policy", "identity", |m| m.policy = "payments".parse().unwrap()),
        ("nobody can open it", "manifest_shape", |m| m.recipients.clear()),
        ("nothing in it", "manifest_shape", |m| m.streams.clear()),
        ("two streams of a name", "stream_name", |m| m.streams[1].name = "base".into()),
        ("stream leaves", "stream_name", |m| m.streams[1].name = "../x".into()),
        ("globals that are none", "stream_name", |m| m.streams[2].kind = StreamKind::Tar),
        ("other globals", "stream_name", |m| m.streams[1].kind = StreamKind::Globals),
        ("two globals parts", "stream_parts", |m| {
            let again = m.streams[2].parts[0].clone();
            m.streams[2].parts.push(again);
        }),
        ("part leaves", "part_key", |m| m.streams[1].parts[0].key = "../../other/base/00000.zst.age".into()),
        ("absolute part", "part_key", |m| m.streams[1].parts[0].key = "/etc/passwd".into()),
        ("part of another stream", "part_key", |m| m.streams[1].parts[0].key = "base/00002.zst.age".into()),
        ("part twice", "part_key", |m| m.streams[0].parts[1].key = "base/00000.zst.age".into()),
        ("part out of order", "part_key", |m| m.streams[0].parts[1].key = "base/00007.zst.age".into()),
        ("huge part", "part_size", |m| {
            m.streams[1].parts[0].plain_bytes = (1 << 30) + 1;
            m.streams[1].plain_bytes = (1 << 30) + 1;
        }),
        ("sum", "stream_length", |m| m.streams[0].plain_bytes = 201),
        ("sum overflows", "stream_length", |m| m.streams[0].parts[0].plain_bytes = u64::MAX),
        ("hash is no hash", "manifest_shape", |m| m.streams[1].parts[0].sealed_sha256 = "zz".into()),
        ("hash in capitals", "manifest_shape", |m| m.streams[1].parts[0].plain_blake3.make_ascii_uppercase()),
        ("member leaves", "slice_path", |m| m.streams[0].parts[1].members[1].path = "../../etc/cron.d/x".into()),
        ("absolute member", "slice_path", |m| m.streams[0].parts[1].members[1].path = "/etc/cron.d/x".into()),
        ("member twice", "slice_path", |m| m.streams[0].parts[1].members[2].path = "b".into()),
        ("member of a dump", "slice_stream", |m| m.streams[1].parts[0].members.push(slice("x", 0, 0, 0, 0))),
        ("beyond the member", "slice_range", |m| m.streams[0].parts[1].members[1].size = 19),
        ("beyond the part", "slice_range", |m| m.streams[0].parts[1].members[1].at = 90),
        ("overlap", "slice_range", |m| m.streams[0].parts[1].members[1].at = 5),
        ("offset overflows", "slice_range", |m| m.streams[0].parts[1].members[1].offset = u64::MAX),
        ("folder with bytes", "slice_range", |m| m.streams[0].parts[1].members[1].kind = MemberKind::Folder),
        ("gap in a member", "slice_cover", |m| {
            let slice = &mut m.streams[0].parts[1].members[0];
            (slice.offset, slice.bytes) = (51, 9);
        }),
        ("another mode further on", "slice_cover", |m| m.streams[0].parts[1].members[0].mode = 0o4755),
        ("another name further on", "slice_cover", |m| {
            m.streams[0].parts[1].members[0].path = "base/other".to_owned();
        }),
        ("end missing", "slice_cover", |m| {
            m.streams[0].parts[1].members.remove(0);
        }),
        ("beginning missing", "slice_cover", |m| m.streams[0].parts[0].members.clear()),
        ("end of the last missing", "slice_cover", |m| {
            m.streams[0].parts[1].members[2].size = 1;
        }),
    ];
    for (what, code, change) in rows {
        let mut changed = right();
        change(&mut changed);
        let found = codes(&changed);
        assert!(found.iter().any(|found| found == code), "{what}: {found:?}");
    }
}

#[test]
fn a_folder_may_be_told_of_twice_and_findings_end() {
    let mut twice = right();
    for _ in 0..2 {
        let folder = Slice { kind: MemberKind::Folder, ..slice("pg_wal", 0, 0, 0, 60) };
        twice.streams[0].parts[1].members.push(folder);
    }
    assert_eq!(codes(&twice), Vec::<String>::new());
    let mut hopeless = right();
    hopeless.streams[0].parts = vec![part("x", 0, vec![]); 5_000];
    assert_eq!(codes(&hopeless).len(), 100);
}

#[test]
fn the_largest_part_is_right() {
    let mut full = right();
    full.streams[1].parts[0].plain_bytes = 1 << 30;
    full.streams[1].plain_bytes = 1 << 30;
    assert_eq!(codes(&full), Vec::<String>::new());
}

#[test]
fn paths_inside_and_outside() {
    for path in ["a", "a/b", "..a", "a..", "a/...", "a\\b", "-"] {
        assert!(is_inside(path), "{path:?}");
    }
    for path in ["", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\0"] {
        assert!(!is_inside(path), "{path:?}");
    }
}
