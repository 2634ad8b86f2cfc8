//! Names and identifiers that become folder names, object keys or process tags: checked once, when made.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not the identifier that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}: {rule}")]
pub struct BadId {
    /// What was written.
    pub text: String,
    /// Which identifier was wanted.
    pub what: &'static str,
    /// What it must look like.
    pub rule: &'static str,
}

/// The rule for every name that people choose.
pub const NAME_RULE: &str = "1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit";

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $type(String);

        impl $type {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
                let good = (1..=63).contains(&text.len())
                    && text.bytes().all(inside)
                    && !text.starts_with('-')
                    && !text.ends_with('-');
                if good {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(BadId { text: text.to_owned(), what: $what, rule: NAME_RULE })
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = BadId;

            fn try_from(text: String) -> Result<Self, BadId> {
                text.parse()
            }
        }
    };
}

name_type!(
    /// The name of a policy; the first folder of its artifacts in a store.
    PolicyName, "policy name"
);
name_type!(
    /// The name of a backup job, unique in its policy.
    JobName, "backup job name"
);
name_type!(
    /// The name of a drill; the file name of `drills/<name>.toml`.
    DrillName, "drill name"
);
name_type!(
    /// The name of a store or a scratch server in `lifeboat.toml`.
    PlaceName, "name"
);

/// The identity of one backup: the second it began, and eight random hexadecimal digits. Sorts by time; it is a folder name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BackupId(String);

impl BackupId {
    /// For a backup that begins at `at`; `random` keeps two of the same second apart.
    pub fn new(at: Timestamp, random: u32) -> BackupId {
        BackupId(format!("{}-{random:08x}", at.strftime("%Y%m%dT%H%M%SZ")))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The second at which it was begun, by the runner's clock; none for a date that no calendar has.
    pub fn began_at(&self) -> Option<Timestamp> {
        let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", self.0.get(..16)?).ok()?;
        jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()
    }
}

impl FromStr for BackupId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<BackupId, BadId> {
        let bytes = text.as_bytes();
        let good = bytes.len() == 25
            && bytes.iter().enumerate().all(|(at, byte)| match at {
                8 => *byte == b'T',
                15 => *byte == b'Z',
                16 => *byte == b'-',
                0..=14 => byte.is_ascii_digit(),
                _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(byte),
            });
        if good {
            Ok(BackupId(text.to_owned()))
        } else {
            let rule = "such as 20260131T030000Z-0a1b2c3d";
            Err(BadId { text: text.to_owned(), what: "backup id", rule })
        }
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<BackupId> for String {
    fn from(id: BackupId) -> String {
        id.0
    }
}

impl TryFrom<String> for BackupId {
    type Error = BadId;

    fn try_from(text: String) -> Result<BackupId, BadId> {
        text.parse()
    }
}

/// The identity of one execution of a job, a drill, a restore or a verification (UUID version 7: it sorts by time).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub Uuid);

impl RunId {
    /// The name that marks a scratch folder, database or server as belonging to this run.
    pub fn scratch_name(&self) -> String {
        format!("{SCRATCH_PREFIX}{}", self.0)
    }
}

/// Every scratch has a name with this prefix; the sweep touches nothing else.
pub const SCRATCH_PREFIX: &str = "lifeboat-";

impl FromStr for RunId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<RunId, BadId> {
        let rule = "a UUID such as lifeboat prints after each run";
        Uuid::parse_str(text).map(RunId).map_err(|_| BadId { text: text.to_owned(), what: "run id", rule })
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_folder_are_refused() {
        for text in ["", "..", "a/b", "a.b", "-a", "a-", "A", "ä", " a", &"a".repeat(64)] {
            assert!(text.parse::<PolicyName>().is_err(), "{text:?}");
        }
        for text in ["a", "orders", "orders-2", &"a".repeat(63)] {
            assert!(text.parse::<PolicyName>().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn backup_ids_round_trip_and_sort_by_time() {
        let at: Timestamp = "2026-01-31T03:00:00Z".parse().unwrap();
        let id = BackupId::new(at, 0x0a1b_2c3d);
        assert_eq!(id.as_str(), "20260131T030000Z-0a1b2c3d");
        assert_eq!(id.as_str().parse::<BackupId>().unwrap(), id);
        assert_eq!(id.began_at(), Some(at));
        assert_eq!("20269931T030000Z-0a1b2c3d".parse::<BackupId>().unwrap().began_at(), None);
        assert!(BackupId::new(at + jiff::SignedDuration::from_secs(1), 0) > id);
        for text in ["", "..", "20260131T030000Z-0A1B2C3D", "20260131T030000Z-0a1b2c3d/", "2026-01-31T03:00:00Z-00000"]
        {
            assert!(text.parse::<BackupId>().is_err(), "{text:?}");
        }
    }
}
