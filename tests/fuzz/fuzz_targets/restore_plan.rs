//! The slices of a manifest that is otherwise whole, drawn from the input: what both the shape check and the restore plan
//! let pass must cover every member once, inside of the folder.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use lifeboat::backup::physical::plan_findings;
use lifeboat::domain::artifact::{Manifest, MemberKind, Part, Slice};
use lifeboat::seal::manifest_findings;

const WHOLE: &[u8] = include_bytes!("../whole_manifest.json");

/// Path; whether a folder; size, offset, bytes, place in the part; whether those are huge.
type Cut<'a> = (&'a str, bool, [u16; 4], bool);

fuzz_target!(|parts: Vec<(u16, Vec<Cut>)>| {
    let mut manifest: Manifest = serde_json::from_slice(WHOLE).expect("the file in this folder is a manifest");
    let stream = manifest.streams.first_mut().expect("it has a stream");
    let needed = std::mem::take(&mut stream.parts);
    let hash = "0".repeat(64);
    for (index, (plain, cuts)) in parts.into_iter().enumerate() {
        let members = cuts.into_iter().map(|(path, folder, [size, offset, bytes, at], huge)| {
            let wide = |number: u16| if huge { u64::MAX - u64::from(number) } else { u64::from(number) };
            let kind = if folder { MemberKind::Folder } else { MemberKind::File };
            let (size, offset, bytes, at) = (wide(size), wide(offset), wide(bytes), u64::from(at));
            Slice { path: path.to_owned(), kind, mode: 0o600, size, offset, bytes, at }
        });
        stream.parts.push(Part {
            key: format!("base/{:05}.zst.age", index + 1),
            plain_bytes: u64::from(plain),
            plain_blake3: hash.clone(),
            sealed_bytes: 1,
            sealed_sha256: hash.clone(),
            members: members.collect(),
        });
    }
    stream.parts.splice(0..0, needed.into_iter().take(1));
    stream.plain_bytes = stream.parts.iter().map(|part| part.plain_bytes).sum();
    let shape = manifest_findings(&manifest, &manifest.policy, &manifest.backup);
    let plan = plan_findings(&manifest);
    if !shape.is_empty() || !plan.is_empty() {
        return;
    }
    // Both let it pass: then every byte of every member is there once, and no path leaves the folder.
    let mut covered: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for part in &manifest.streams[0].parts {
        for slice in &part.members {
            let segments = slice.path.split('/');
            assert!(!slice.path.is_empty() && segments.clone().all(|segment| !matches!(segment, "" | "." | "..")));
            assert!(slice.at + slice.bytes <= part.plain_bytes && slice.offset + slice.bytes <= slice.size);
            let seen = covered.entry(&slice.path).or_insert((0, slice.size));
            seen.0 += slice.bytes;
            assert_eq!(seen.1, slice.size);
        }
    }
    assert!(covered.values().all(|(seen, size)| seen == size));
});
