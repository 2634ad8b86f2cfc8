//! What a manifest says a data folder holds, verified before a byte is written: paths that stay inside, members that are whole.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::artifact::{Manifest, MemberKind, Slice, StreamKind};
use crate::domain::check::Finding;

/// Findings that are told one by one; a manifest that is all wrong is wrong enough with these.
const TOLD_AT_MOST: usize = 100;

/// Files without which a server does not start, or starts from the wrong place in the log.
const NEEDED: [&str; 3] = ["PG_VERSION", "global/pg_control", "backup_label"];

/// A file or a folder that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub kind: MemberKind,
    pub mode: u32,
    pub size: u64,
    /// Where it is cut, and whether it lies in one piece.
    pub cuts: Vec<u64>,
}

/// All members by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub members: BTreeMap<String, Member>,
}

impl Plan {
    /// Folders that must be there, parents before children.
    pub(super) fn folders(&self) -> BTreeMap<String, u32> {
        let mut folders = BTreeMap::new();
        for (path, member) in &self.members {
            for (at, _) in path.match_indices('/') {
                folders.entry(path[..at].to_owned()).or_insert(0o700);
            }
            if member.kind == MemberKind::Folder {
                folders.insert(path.clone(), member.mode);
            }
        }
        folders
    }
}

/// A path that cannot leave the folder it is put into.
fn stays_inside(path: &str) -> bool {
    !path.is_empty()
        && path.len() < 1024
        && !path.contains(['\0', '\\'])
        && path.split('/').all(|segment| !segment.is_empty() && segment != "." && segment != "..")
}

/// What is wrong with the data folder that a manifest describes: nothing of it is to be written unless this is empty.
pub fn plan_findings(manifest: &Manifest) -> Vec<Finding> {
    draw(manifest).err().unwrap_or_default()
}

/// Adds the members up. Everything that is wrong is a finding; with findings nothing is to be written.
pub(super) fn draw(manifest: &Manifest) -> Result<Plan, Vec<Finding>> {
    let mut findings = Vec::new();
    let mut tell = |code: &str, path: &str, message: String| {
        if findings.len() < TOLD_AT_MOST {
            findings.push(Finding::new(code, format!("member {path}"), message));
        }
    };
    let mut pieces: BTreeMap<&str, Vec<&Slice>> = BTreeMap::new();
    let streams = manifest.streams.iter().filter(|stream| stream.kind == StreamKind::Tar);
    for part in streams.flat_map(|stream| &stream.parts) {
        for slice in &part.members {
            let ends = slice.at.checked_add(slice.bytes);
            if ends.is_none_or(|end| end > part.plain_bytes) {
                tell("member_outside_part", &slice.path, format!("its bytes lie outside of part {}", part.key));
            }
            pieces.entry(&slice.path).or_default().push(slice);
        }
    }
    let mut plan = Plan::default();
    for (path, mut slices) in pieces {
        if !stays_inside(path) {
            tell("member_path", path, "its path leaves the data folder".to_owned());
            continue;
        }
        slices.sort_by_key(|slice| (slice.offset, slice.bytes));
        let Some(first) = slices.first() else { continue };
        let same = |slice: &&Slice| (slice.kind, slice.mode, slice.size) == (first.kind, first.mode, first.size);
        if !slices.iter().all(same) {
            tell("member_contradiction", path, "it has several kinds, modes or sizes".to_owned());
            continue;
        }
        let (mut next, mut cuts) = (0u64, Vec::new());
        let mut whole = true;
        for (at, slice) in slices.iter().enumerate() {
            // A folder may be named twice (its tablespace's stream begins with it); a file of no bytes may not.
            let repeated = at > 0 && slice.bytes == 0 && first.kind == MemberKind::File;
            if slice.offset != next || repeated {
                whole = false;
            }
            if at > 0 {
                cuts.push(slice.offset);
            }
            next = slice.offset.saturating_add(slice.bytes);
        }
        if !whole || next != first.size || (first.kind == MemberKind::Folder && next != 0) {
            let message = "its pieces in the parts do not add up to it: a piece is missing or there twice";
            tell("member_incomplete", path, format!("{message} ({} of {} bytes)", next.min(first.size), first.size));
            continue;
        }
        let member = Member { kind: first.kind, mode: first.mode, size: first.size, cuts };
        plan.members.insert(path.to_owned(), member);
    }
    let files: BTreeSet<&str> = plan
        .members
        .iter()
        .filter(|(_, member)| member.kind == MemberKind::File)
        .map(|(path, _)| path.as_str())
        .collect();
    for path in plan.members.keys() {
        if let Some((at, _)) = path.match_indices('/').find(|(at, _)| files.contains(&path[..*at])) {
            tell("member_contradiction", path, format!("{} is a file, and a folder too", &path[..at]));
        }
    }
    for needed in NEEDED {
        if !files.contains(needed) {
            tell("member_missing", needed, "a data folder cannot be without it".to_owned());
        }
    }
    if findings.is_empty() { Ok(plan) } else { Err(findings) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::artifact::{Basis, MANIFEST_FORMAT, Part, RecoveryPoint, Stream};
    use crate::domain::ids::BackupId;
    use crate::domain::inventory::{Fingerprint, Server};
    use crate::domain::lsn::Lsn;
    use crate::domain::policy::Method;
    use crate::domain::units::Span;

    fn slice(path: &str, size: u64, offset: u64, bytes: u64) -> Slice {
        Slice { path: path.to_owned(), kind: MemberKind::File, mode: 0o600, size, offset, bytes, at: 0 }
    }

    fn manifest(slices: Vec<Slice>) -> Manifest {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let mut members: Vec<Slice> = NEEDED.iter().map(|path| slice(path, 4, 0, 4)).collect();
        members.extend(slices);
        let part = Part {
            key: "base/00000.zst.age".into(),
            plain_bytes: 1000,
            plain_blake3: String::new(),
            sealed_bytes: 0,
            sealed_sha256: String::new(),
            members,
        };
        Manifest {
            format: MANIFEST_FORMAT.into(),
            backup: BackupId::new(now, 1),
            policy: "p".parse().unwrap(),
            job: "j".parse().unwrap(),
            sequence: 1,
            method: Method::Physical,
            started_at: now,
            finished_at: now,
            recovery_point: RecoveryPoint { at: now, lsn: None, basis: Basis::EndOfBackup },
            wal: None,
            streams: vec![Stream { name: "base".into(), kind: StreamKind::Tar, parts: vec![part], plain_bytes: 1000 }],
            recipients: vec![],
            pages: None,
            fingerprint: Fingerprint {
                server: Server {
                    system_identifier: "1".into(),
                    version_num: 150_000,
                    version: "15".into(),
                    data_checksums: true,
                    in_recovery: false,
                    timeline: 1,
                    lsn: Lsn(0),
                    clock: now,
                    wal_segment_bytes: 16 << 20,
                    settings: Default::default(),
                },
                roles: vec![],
                tablespaces: vec![],
                databases: vec![],
                unseen: vec![],
                changed_meanwhile: vec![],
                shared: None,
            },
            tools: Default::default(),
            clock_skew: Span::ZERO,
        }
    }

    fn codes(slices: Vec<Slice>) -> Vec<String> {
        draw(&manifest(slices)).err().unwrap_or_default().into_iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn whole_members_are_taken_and_cuts_are_kept() {
        let plan = draw(&manifest(vec![slice("base/1/2", 100, 60, 40), slice("base/1/2", 100, 0, 60)])).unwrap();
        assert_eq!(plan.members["base/1/2"].cuts, [60]);
        assert_eq!(plan.folders().keys().collect::<Vec<_>>(), ["base", "base/1", "global"]);
    }

    #[test]
    fn holes_overlaps_and_doubles_are_findings() {
        for (slices, code) in [
            (vec![slice("a", 100, 0, 60)], "member_incomplete"),
            (vec![slice("a", 100, 10, 90)], "member_incomplete"),
            (vec![slice("a", 100, 0, 60), slice("a", 100, 50, 50)], "member_incomplete"),
            (vec![slice("a", 100, 0, 100), slice("a", 100, 0, 100)], "member_incomplete"),
            (vec![slice("a", 0, 0, 0), slice("a", 0, 0, 0)], "member_incomplete"),
            (vec![slice("a", 100, 0, 60), slice("a", 99, 60, 39)], "member_contradiction"),
            (vec![slice("a", 4, 0, 4), slice("a/b", 4, 0, 4)], "member_contradiction"),
            (vec![slice("a", 2000, 0, 2000)], "member_outside_part"),
            (vec![slice("a", u64::MAX, 0, u64::MAX)], "member_outside_part"),
        ] {
            assert_eq!(codes(slices.clone()), [code], "{slices:?}");
        }
    }

    #[test]
    fn paths_that_leave_the_folder_are_findings() {
        for path in ["../x", "/etc/passwd", "a/../../x", "a//b", "", "./a", "a/", "a\0b"] {
            assert_eq!(codes(vec![slice(path, 4, 0, 4)]), ["member_path"], "{path:?}");
        }
    }

    #[test]
    fn a_data_folder_without_its_label_is_a_finding() {
        let mut without = manifest(vec![]);
        without.streams[0].parts[0].members.retain(|slice| slice.path != "backup_label");
        let findings = draw(&without).unwrap_err();
        assert_eq!((findings.len(), findings[0].code.as_str()), (1, "member_missing"));
    }
}
