//! `backup_manifest`, in PostgreSQL's own form (its manual, "Backup Manifest Format"), so that `pg_verifybackup` reads it.

use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::domain::artifact::WalRange;

/// The first major version whose manifests name the cluster.
const NAMES_CLUSTER_FROM: u32 = 17;

/// The files that were read whole.
#[derive(Debug, Default)]
pub struct Listing(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    text: String,
    files: u64,
}

/// The manifest's text, in pieces: it can be long, and need not be there twice.
#[derive(Debug)]
pub struct Text {
    /// All up to the first file.
    pub head: String,
    /// The files.
    pub files: String,
    /// All after the last file.
    pub tail: String,
}

impl Text {
    /// Its length, in bytes.
    pub fn len(&self) -> usize {
        self.head.len() + self.files.len() + self.tail.len()
    }
}

impl Listing {
    /// A file has been read to its end. (`crc` as PostgreSQL keeps it in memory: little-endian.)
    pub fn add(&self, path: &str, size: u64, modified: i64, crc: u32) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let separator = if lines.files == 0 { "" } else { ",\n" };
        let modified =
            Timestamp::from_second(modified).unwrap_or(Timestamp::UNIX_EPOCH).strftime("%Y-%m-%d %H:%M:%S GMT");
        let path = serde_json::Value::from(path);
        let sum = hex::encode(crc.to_le_bytes());
        // Writing to a string cannot fail.
        let _ = write!(
            lines.text,
            "{separator}{{ \"Path\": {path}, \"Size\": {size}, \"Last-Modified\": \"{modified}\", \
             \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"{sum}\" }}"
        );
        lines.files += 1;
    }

    /// How many files were read whole.
    pub fn files(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).files
    }

    /// The whole manifest; the listing is empty afterwards.
    pub fn finish(&self, major: u32, system_identifier: u64, wal: &WalRange) -> Text {
        let lines = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let head = if major >= NAMES_CLUSTER_FROM {
            format!(
                "{{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": {system_identifier},\n\"Files\": [\n"
            )
        } else {
            "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n".to_owned()
        };
        let mut tail = format!(
            "\n],\n\"WAL-Ranges\": [\n{{ \"Timeline\": {}, \"Start-LSN\": \"{}\", \"End-LSN\": \"{}\" }}\n],\n",
            wal.timeline, wal.start, wal.end
        );
        // The sum is over all lines before its own.
        let mut sum = Sha256::new();
        for piece in [&head, &lines.text, &tail] {
            sum.update(piece);
        }
        let _ = writeln!(tail, "\"Manifest-Checksum\": \"{}\"}}", hex::encode(sum.finalize()));
        Text { head, files: lines.text, tail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::lsn::Lsn;

    fn text(major: u32) -> String {
        let listing = Listing::default();
        listing.add("base/5/\"odd\"\n", 3, 0, 0x0403_0201);
        listing.add("PG_VERSION", 0, 1_600_000_000, 0);
        assert_eq!(listing.files(), 2);
        let text = listing.finish(major, 7, &WalRange { timeline: 1, start: Lsn(0x200_0028), end: Lsn(0x200_0100) });
        let joined = format!("{}{}{}", text.head, text.files, text.tail);
        assert_eq!(joined.len(), text.len());
        joined
    }

    #[test]
    fn it_is_json_and_its_sum_is_over_what_stands_before() {
        let text = text(15);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["Files"][0]["Path"], "base/5/\"odd\"\n");
        assert_eq!(value["Files"][0]["Checksum"], "01020304");
        assert_eq!(value["Files"][1]["Last-Modified"], "2020-09-13 12:26:40 GMT");
        assert_eq!(value["WAL-Ranges"][0]["End-LSN"], "0/2000100");
        let before = text.split("\"Manifest-Checksum\"").next().unwrap();
        assert_eq!(value["Manifest-Checksum"], hex::encode(Sha256::digest(before)));
        assert!(value.get("System-Identifier").is_none() && text.ends_with("}\n"));
    }

    #[test]
    fn newer_ones_name_the_cluster() {
        let value: serde_json::Value = serde_json::from_str(&text(17)).unwrap();
        assert_eq!(
            (value["PostgreSQL-Backup-Manifest-Version"].as_u64(), value["System-Identifier"].as_u64()),
            (Some(2), Some(7))
        );
    }
}
