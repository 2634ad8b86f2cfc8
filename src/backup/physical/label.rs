//! What a base backup says about itself: `backup_label` and `backup_manifest`.

use serde::Deserialize;

use crate::domain::artifact::WalRange;
use crate::domain::check::Broke;
use crate::domain::lsn::Lsn;

/// Where the backup began in the log: `START WAL LOCATION: 0/2000028 (file 000000010000000000000002)`.
pub fn start_of(label: &[u8]) -> Result<Lsn, Broke> {
    let text = String::from_utf8_lossy(label);
    text.lines()
        .find_map(|line| line.strip_prefix("START WAL LOCATION: "))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|word| word.parse().ok())
        .ok_or_else(|| unreadable("backup_label", "it has no START WAL LOCATION"))
}

/// The timeline on which it began: `START TIMELINE: 1`.
pub fn timeline_of(label: &[u8]) -> Result<u32, Broke> {
    let text = String::from_utf8_lossy(label);
    text.lines()
        .find_map(|line| line.strip_prefix("START TIMELINE: "))
        .and_then(|word| word.trim().parse().ok())
        .ok_or_else(|| unreadable("backup_label", "it has no START TIMELINE"))
}

/// One range of `WAL-Ranges`.
#[derive(Deserialize)]
struct Range {
    #[serde(rename = "Timeline")]
    timeline: u32,
    #[serde(rename = "Start-LSN")]
    start: Lsn,
    #[serde(rename = "End-LSN")]
    end: Lsn,
}

/// The log that the backup needs, from the end of its `backup_manifest` (the manifest can be long, its end is not).
/// After a switch of timelines there are several ranges: the needed stretch is from the first start to the last end.
pub fn wal_of(manifest_tail: &[u8]) -> Result<WalRange, Broke> {
    let text = String::from_utf8_lossy(manifest_tail);
    let key = "\"WAL-Ranges\":";
    let at = text.rfind(key).ok_or_else(|| unreadable("backup_manifest", "it has no WAL-Ranges"))?;
    let rest = text.get(at + key.len()..).unwrap_or_default();
    let ranges = serde_json::Deserializer::from_str(rest).into_iter::<Vec<Range>>().next();
    let ranges = match ranges {
        Some(Ok(ranges)) => ranges,
        Some(Err(error)) => return Err(unreadable("backup_manifest", &error.to_string())),
        None => return Err(unreadable("backup_manifest", "its WAL-Ranges are cut off")),
    };
    let last = ranges.iter().max_by_key(|range| range.end);
    let first = ranges.iter().map(|range| range.start).min();
    match (first, last) {
        (Some(start), Some(last)) if start <= last.end => {
            Ok(WalRange { timeline: last.timeline, start, end: last.end })
        }
        _ => Err(unreadable("backup_manifest", "its WAL-Ranges are empty")),
    }
}

fn unreadable(what: &str, why: &str) -> Broke {
    Broke::hinted(
        format!("the source's {what} cannot be understood: {why}"),
        "this server is newer than lifeboat knows, or its base backup was cut; look at the server's log",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_in_the_label() {
        let label =
            "START WAL LOCATION: 16/B374D848 (file 0000000100000016000000B3)\nCHECKPOINT LOCATION: 16/B374D880\n";
        assert_eq!(start_of(label.as_bytes()).unwrap().to_string(), "16/B374D848");
        assert_eq!(timeline_of(b"LABEL: x\nSTART TIMELINE: 12\n").unwrap(), 12);
        assert!(timeline_of(label.as_bytes()).is_err());
        for label in ["", "START WAL LOCATION: ", "START WAL LOCATION: x (file y)", "start wal location: 0/1 (file"] {
            assert!(start_of(label.as_bytes()).is_err(), "{label}");
        }
    }

    #[test]
    fn the_end_is_in_the_manifest() {
        let tail = r#"... "Checksum": "x" }
],
"WAL-Ranges": [
{ "Timeline": 2, "Start-LSN": "0/5000000", "End-LSN": "0/6000100" },
{ "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/5000000" }
],
"Manifest-Checksum": "abc"}
"#;
        let wal = wal_of(tail.as_bytes()).unwrap();
        assert_eq!((wal.timeline, wal.start.0, wal.end.0), (2, 0x200_0028, 0x600_0100));
        for tail in [
            "",
            "\"WAL-Ranges\":",
            "\"WAL-Ranges\": []",
            "\"WAL-Ranges\": [{ \"Timeline\": 1,",
            "\"WAL-Ranges\": [{ \"Timeline\": 1, \"Start-LSN\": \"x\", \"End-LSN\": \"0/1\" }]",
        ] {
            assert!(wal_of(tail.as_bytes()).is_err(), "{tail}");
        }
    }
}
