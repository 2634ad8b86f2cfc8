//! What a manifest must be like before anything is done by it. Pure: a manifest comes from outside, and may be forged,
//! damaged or another backup's.

use std::collections::HashSet;

use crate::domain::artifact::{MANIFEST_FORMAT, Manifest, MemberKind, Slice, Stream, StreamKind};
use crate::domain::check::Finding;
use crate::domain::ids::{BackupId, PolicyName};

use super::{GLOBALS_STREAM, MAX_FINDINGS, MAX_PART_BYTES, MAX_PARTS, part_key};

/// Whether a relative path stays inside the folder it is joined to: no empty, `.` or `..` segment, not absolute, no NUL.
pub fn is_inside(path: &str) -> bool {
    !path.contains('\0') && path.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
}

/// What is wrong with a manifest that was asked for as this backup of this policy. The first hundred.
pub fn manifest_findings(manifest: &Manifest, policy: &PolicyName, backup: &BackupId) -> Vec<Finding> {
    let mut findings = Vec::new();
    if manifest.format != MANIFEST_FORMAT {
        let message = "the manifest is of a format that this version does not know";
        findings
            .push(Finding::new("manifest_shape", "manifest", message).with(MANIFEST_FORMAT, manifest.format.as_str()));
    }
    let (asked, says) = (format!("{policy}/{backup}"), format!("{}/{}", manifest.policy, manifest.backup));
    if asked != says {
        let message = "the manifest is that of another backup";
        findings.push(Finding::new("identity", "manifest", message).with(asked, says));
    }
    if manifest.recipients.is_empty() {
        findings.push(Finding::new("manifest_shape", "manifest", "the manifest names nobody who can open the backup"));
    }
    if manifest.streams.is_empty() {
        findings.push(Finding::new(
            "manifest_shape",
            "manifest",
            "the manifest names no stream: there is nothing in this backup",
        ));
    }
    let (mut names, mut keys) = (HashSet::new(), HashSet::new());
    for stream in &manifest.streams {
        if !names.insert(stream.name.as_str()) {
            findings.push(stream_finding(stream, "stream_name", "two streams have this name"));
        }
        check_stream(stream, &mut keys, &mut findings);
    }
    findings.truncate(MAX_FINDINGS);
    findings
}

fn stream_finding(stream: &Stream, code: &str, message: &str) -> Finding {
    Finding::new(code, format!("stream {:?}", stream.name), message)
}

fn check_stream<'a>(stream: &'a Stream, keys: &mut HashSet<&'a str>, findings: &mut Vec<Finding>) {
    if !is_inside(&stream.name) {
        findings.push(stream_finding(stream, "stream_name", "the stream's name could leave the backup's folder"));
    }
    let single = stream.name == GLOBALS_STREAM;
    if single != (stream.kind == StreamKind::Globals) {
        findings.push(stream_finding(
            stream,
            "stream_name",
            "only the globals stream is called `globals`, and it always is",
        ));
    }
    if stream.parts.len() > if single { 1 } else { MAX_PARTS } {
        findings.push(stream_finding(stream, "stream_parts", "the stream has more parts than there can be"));
    }
    let mut total: u64 = 0;
    for (index, part) in stream.parts.iter().enumerate() {
        let mut bad = |code: &str, message: &str| {
            findings.push(Finding::new(code, format!("part {}", part.key), message));
        };
        if !is_inside(&part.key) {
            bad("part_key", "the part's key could leave the backup's folder");
        } else if !keys.insert(&part.key) {
            bad("part_key", "the part is named twice");
        } else if part.key != part_key(&stream.name, index) {
            bad("part_key", &format!("part {index} of this stream must be {}", part_key(&stream.name, index)));
        }
        if part.plain_bytes > MAX_PART_BYTES {
            bad("part_size", "the part claims more than 1 GiB of plaintext");
        }
        for (what, hash) in [("BLAKE3", &part.plain_blake3), ("SHA-256", &part.sealed_sha256)] {
            if hash.len() != 64 || !hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
                bad("manifest_shape", &format!("the part's {what} is not 64 lower-case hexadecimal digits"));
            }
        }
        total = total.saturating_add(part.plain_bytes);
    }
    if total != stream.plain_bytes {
        let found = stream_finding(stream, "stream_length", "the parts do not add up to the stream's length");
        findings.push(found.with(stream.plain_bytes.to_string(), total.to_string()));
    }
    check_slices(stream, findings);
}

/// The slices must give every member once, whole, and in order.
fn check_slices(stream: &Stream, findings: &mut Vec<Finding>) {
    let mut paths = HashSet::new();
    let mut open: Option<&Slice> = None;
    let mut bad = |code: &str, slice: &Slice, message: &str| {
        findings.push(Finding::new(code, format!("member {:?} of stream {:?}", slice.path, stream.name), message));
    };
    for part in &stream.parts {
        let mut from = 0;
        for slice in &part.members {
            if stream.kind != StreamKind::Tar {
                bad("slice_stream", slice, "only a tar has members");
            }
            if !is_inside(&slice.path) {
                bad("slice_path", slice, "the member's path could leave its folder");
            }
            let (end, at_end) = (slice.offset.checked_add(slice.bytes), slice.at.checked_add(slice.bytes));
            if end.is_none_or(|end| end > slice.size) {
                bad("slice_range", slice, "the slice reaches past the member's end");
            }
            if at_end.is_none_or(|end| end > part.plain_bytes) || slice.at < from {
                bad(
                    "slice_range",
                    slice,
                    &format!("the slice overlaps another or reaches past the end of part {}", part.key),
                );
            }
            if slice.kind == MemberKind::Folder && slice.size != 0 {
                bad("slice_range", slice, "a folder has no bytes");
            }
            match open.take() {
                Some(begun) if begun.path == slice.path => {
                    let same = (begun.kind, begun.mode, begun.size) == (slice.kind, slice.mode, slice.size);
                    if !same || Some(slice.offset) != begun.offset.checked_add(begun.bytes) {
                        bad("slice_cover", slice, "the slice does not go on where the one before it ended");
                    }
                }
                before => {
                    if let Some(begun) = before {
                        bad("slice_cover", begun, "the member is cut: its last slices are missing");
                    }
                    if slice.offset != 0 {
                        bad("slice_cover", slice, "the member does not begin at its beginning");
                    }
                    // A folder may be told of twice; a file's second copy would overwrite the first.
                    if !paths.insert(slice.path.as_str()) && slice.kind == MemberKind::File {
                        bad("slice_path", slice, "the member is there twice");
                    }
                }
            }
            if end.is_some_and(|end| end < slice.size) {
                open = Some(slice);
            }
            from = at_end.unwrap_or(u64::MAX);
        }
    }
    if let Some(begun) = open {
        bad("slice_cover", begun, "the member is cut: its last slices are missing");
    }
}
