//! One named assertion about a restored database, and what came of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::heartbeat::Beat;
use super::units::{ByteSize, Span};

/// The checks that lifeboat knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckName {
    /// Every part present, lengths and hashes right, signature right, identity is the one asked for.
    Manifest,
    /// Every heap and index page of a physical restore.
    PageChecksums,
    /// Heap and B-tree structure.
    Amcheck,
    /// Every object of the fingerprint.
    Completeness,
    /// The rows of every table.
    Content,
    /// Sequences' values.
    Sequences,
    /// Extensions and their versions.
    Extensions,
    /// Collations and the versions of their providers.
    Collations,
    /// Encodings and locales of the databases.
    Encodings,
    /// Settings of server, databases and roles.
    Settings,
    /// The numbered rows of the heartbeat.
    Heartbeat,
    /// The user's own SQL.
    Assert,
    /// The user's readiness query within its latency.
    Readiness,
    /// lifeboat itself: its configuration is read, its catalog is whole and knows what the stores hold.
    ControlPlane,
}

impl CheckName {
    /// All of them, in the order in which reports show them.
    pub const ALL: [CheckName; 14] = [
        CheckName::Manifest,
        CheckName::PageChecksums,
        CheckName::Amcheck,
        CheckName::Completeness,
        CheckName::Content,
        CheckName::Sequences,
        CheckName::Extensions,
        CheckName::Collations,
        CheckName::Encodings,
        CheckName::Settings,
        CheckName::Heartbeat,
        CheckName::Assert,
        CheckName::Readiness,
        CheckName::ControlPlane,
    ];

    /// Those that look at a server.
    pub fn of_servers() -> Vec<CheckName> {
        CheckName::ALL.into_iter().filter(|name| *name != CheckName::ControlPlane).collect()
    }

    /// The word used in drills and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            CheckName::Manifest => "manifest",
            CheckName::PageChecksums => "page_checksums",
            CheckName::Amcheck => "amcheck",
            CheckName::Completeness => "completeness",
            CheckName::Content => "content",
            CheckName::Sequences => "sequences",
            CheckName::Extensions => "extensions",
            CheckName::Collations => "collations",
            CheckName::Encodings => "encodings",
            CheckName::Settings => "settings",
            CheckName::Heartbeat => "heartbeat",
            CheckName::Assert => "assert",
            CheckName::Readiness => "readiness",
            CheckName::ControlPlane => "control_plane",
        }
    }
}

impl fmt::Display for CheckName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for CheckName {
    type Err = String;

    fn from_str(text: &str) -> Result<CheckName, String> {
        CheckName::ALL.into_iter().find(|name| name.as_str() == text).ok_or_else(|| format!("`{text}` is not a check"))
    }
}

/// The user's own question to the restored database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assertion {
    /// One statement that returns one row with one column.
    pub sql: String,
    /// In which database; none: the policy's.
    pub database: Option<String>,
    /// What the answer must be.
    pub expect: Expectation,
}

/// What an answer must be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expectation {
    /// Exactly this truth value.
    Is(bool),
    /// Exactly this text, as PostgreSQL prints the value.
    Equals(String),
    /// A number from the first to the second, both included.
    Within(f64, f64),
}

/// What came of one check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckResult {
    /// Which.
    pub name: CheckName,
    /// What the user calls it: the check's name, or for assertions the question.
    pub title: String,
    /// Whether the verdict depends on it.
    pub required: bool,
    /// What came of it.
    pub outcome: Outcome,
    /// What it looked at, and how much: `41 tables`, `1.2 GiB`. A check that looked at nothing has not passed.
    pub looked_at: Vec<Measure>,
    /// What it could not look at, each with the reason. Never counted as good.
    pub unchecked: Vec<Unchecked>,
    /// The newest heartbeat that was seen, if it was looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beat: Option<Beat>,
    /// How long it took.
    pub took: Span,
}

/// How one check ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// What was looked at is right.
    Passed,
    /// The backup is bad.
    Failed(Vec<Finding>),
    /// The checker broke; the backup may be good or bad.
    Broke {
        /// What went wrong.
        error: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Nothing was looked at.
    Unchecked(String),
}

impl Outcome {
    /// One word for tables.
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Failed(_) => "failed",
            Outcome::Broke { .. } => "broke",
            Outcome::Unchecked(_) => "unchecked",
        }
    }
}

/// Something wrong with a *backup*. (Something wrong with the checker is an error, and another type.)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// A stable word for machines: `table_missing`, `page_checksum`, `part_hash`.
    pub code: String,
    /// Which object: `table public.orders`, `part base/00003.zst.age`.
    pub object: String,
    /// One sentence for people.
    pub message: String,
    /// What was expected, when it can be said in a few words; never a row's content.
    pub expected: Option<String>,
    /// What was found instead.
    pub found: Option<String>,
}

impl Finding {
    /// A finding without an expected and a found value.
    pub fn new(code: &str, object: impl Into<String>, message: impl Into<String>) -> Finding {
        Finding { code: code.to_owned(), object: object.into(), message: message.into(), expected: None, found: None }
    }

    /// The same, with what was expected and what was found.
    pub fn with(mut self, expected: impl Into<String>, found: impl Into<String>) -> Finding {
        self.expected = Some(expected.into());
        self.found = Some(found.into());
        self
    }
}

/// How much of what was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measure {
    /// How many, in units of `what`.
    pub count: u64,
    /// Of what, in the plural: `tables`, `rows`, `pages`, `bytes`.
    pub what: String,
}

impl fmt::Display for Measure {
    /// `157,286 pages`, `1 table`, `1.2 GiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.what == "bytes" {
            return fmt::Display::fmt(&ByteSize(self.count), f);
        }
        let digits = self.count.to_string();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        if self.count != 1 {
            return write!(f, " {}", self.what);
        }
        // `databases without any`: the noun is the word before.
        let end = self.what.find(" without ").unwrap_or(self.what.len());
        let (noun, rest) = self.what.split_at(end);
        let one = noun.strip_suffix("es").filter(|stem| stem.ends_with('x')).or(noun.strip_suffix('s')).unwrap_or(noun);
        write!(f, " {one}{rest}")
    }
}

impl Measure {
    /// So many of these.
    pub fn new(count: u64, what: &str) -> Measure {
        Measure { count, what: what.to_owned() }
    }
}

/// Something that a check could not look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unchecked {
    /// Which object.
    pub object: String,
    /// Why not.
    pub why: String,
    /// It was meant to be looked at and could not be seen: a drill that requires the check is not proven.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grave: bool,
    /// The source changed it while the backup was taken, so that there is nothing to compare it with. A proof says how many there were.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub meanwhile: bool,
}

impl Unchecked {
    /// What cannot be looked at by its nature, or was declared not to be: listed, and no reason to doubt the rest.
    pub fn inherent(object: impl Into<String>, why: impl Into<String>) -> Unchecked {
        Unchecked { object: object.into(), why: why.into(), grave: false, meanwhile: false }
    }

    /// What was meant to be looked at and could not be seen.
    pub fn grave(object: impl Into<String>, why: impl Into<String>) -> Unchecked {
        Unchecked { grave: true, ..Unchecked::inherent(object, why) }
    }

    /// What the source changed while the backup was taken.
    pub fn meanwhile(object: impl Into<String>, why: impl Into<String>) -> Unchecked {
        Unchecked { meanwhile: true, ..Unchecked::inherent(object, why) }
    }
}

/// Something that could not be done: says nothing about a backup. What crosses the seams between rooms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{error}")]
pub struct Broke {
    /// What went wrong, in one sentence.
    pub error: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Broke {
    /// Without a hint.
    pub fn new(error: impl Into<String>) -> Broke {
        Broke { error: error.into(), hint: None }
    }

    /// With one.
    pub fn hinted(error: impl Into<String>, hint: impl Into<String>) -> Broke {
        Broke { error: error.into(), hint: Some(hint.into()) }
    }
}

/// Why something stopped early: the backup is bad, or the work could not be done. The two are never mixed up.
#[derive(Clone, Debug, PartialEq)]
pub enum Stop {
    /// The backup is bad.
    Found(Vec<Finding>),
    /// The work could not be done.
    Broke(Broke),
}

impl From<Broke> for Stop {
    fn from(broke: Broke) -> Stop {
        Stop::Broke(broke)
    }
}

impl From<Finding> for Stop {
    fn from(finding: Finding) -> Stop {
        Stop::Found(vec![finding])
    }
}

#[cfg(test)]
mod tests {
    use super::Measure;

    #[test]
    fn measures_read_well() {
        for (count, what, text) in [
            (0, "tables", "0 tables"),
            (1, "tables", "1 table"),
            (1, "B-tree indexes", "1 B-tree index"),
            (2, "B-tree indexes", "2 B-tree indexes"),
            (1, "databases without any", "1 database without any"),
            (2, "databases without any", "2 databases without any"),
            (157_286, "pages", "157,286 pages"),
            (1_000_000, "rows", "1,000,000 rows"),
            (1_288_490_189, "bytes", "1.2 GiB"),
        ] {
            assert_eq!(Measure::new(count, what).to_string(), text);
        }
    }
}
