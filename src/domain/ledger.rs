//! What was read back from the stores, when, how deep, and what was wrong with it.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::check::Finding;
use super::ids::{BackupId, PlaceName, PolicyName, RunId};
use super::units::{ByteSize, Span};

/// How deep an object was looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    /// Its length and the hash of its bytes, as they are stored.
    Sealed,
    /// All that, and what is in it: decrypted, decompressed, the plaintext's length and hash.
    Opened,
}

/// Of what an object is a part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Shelf {
    /// Of a backup.
    Backup(BackupId),
    /// Of the log.
    Log,
}

impl fmt::Display for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shelf::Backup(backup) => backup.fmt(f),
            Shelf::Log => f.pad("wal"),
        }
    }
}

impl From<Shelf> for String {
    fn from(shelf: Shelf) -> String {
        shelf.to_string()
    }
}

impl FromStr for Shelf {
    type Err = super::ids::BadId;

    fn from_str(text: &str) -> Result<Shelf, Self::Err> {
        if text == "wal" { Ok(Shelf::Log) } else { text.parse().map(Shelf::Backup) }
    }
}

impl TryFrom<String> for Shelf {
    type Error = super::ids::BadId;

    fn try_from(text: String) -> Result<Shelf, Self::Error> {
        text.parse()
    }
}

/// Which policy's and which shelf's object a key names; none: no object of a backup or of the log.
pub fn owner_of(key: &str) -> Option<(PolicyName, Shelf)> {
    let mut segments = key.splitn(3, '/');
    let (policy, shelf) = (segments.next()?.parse().ok()?, segments.next()?.parse().ok()?);
    segments.next().filter(|rest| !rest.is_empty())?;
    Some((policy, shelf))
}

/// That one object was read from its first byte to its last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// In which store.
    pub store: PlaceName,
    /// Of which policy.
    pub policy: PolicyName,
    /// Of what it is a part.
    pub shelf: Shelf,
    /// Which object, by its whole key.
    pub key: String,
    /// How long it must be.
    pub bytes: ByteSize,
    /// When: the moment at which the run began that read it, so that it is never told to be fresher than it is.
    pub at: Timestamp,
    /// How deep; of one that is wrong: at which depth that was seen.
    pub depth: Depth,
    /// By which run; none: by one that is not written down.
    pub run: Option<RunId>,
    /// What was wrong; none: it was right.
    pub finding: Option<Finding>,
}

/// What is known of one object's readings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRead {
    /// In which store.
    pub store: PlaceName,
    /// Of what it is a part.
    pub shelf: Shelf,
    /// Which object.
    pub key: String,
    /// How long it must be.
    pub bytes: ByteSize,
    /// When it was last right, however deep.
    pub sealed_at: Option<Timestamp>,
    /// When it was last opened and right.
    pub opened_at: Option<Timestamp>,
    /// By which run it was last right.
    pub run: Option<RunId>,
    /// What is wrong with it; none: it was not wrong, or has been right since, at least as deep.
    pub wrong: Option<Wrong>,
}

/// What is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrong {
    /// Since when that is known.
    pub since: Timestamp,
    /// When it was last seen.
    pub at: Timestamp,
    /// At which depth.
    pub depth: Depth,
    /// By which run.
    pub run: Option<RunId>,
    /// What.
    pub finding: Finding,
}

impl LastRead {
    /// When it was last looked at, right or wrong, however deep.
    pub fn looked_at(&self) -> Option<Timestamp> {
        self.sealed_at.max(self.wrong.as_ref().map(|wrong| wrong.at))
    }

    /// When it was last right at this depth; none: never, or it is wrong now.
    pub fn right_at(&self, depth: Depth) -> Option<Timestamp> {
        match depth {
            _ if self.wrong.is_some() => None,
            Depth::Sealed => self.sealed_at,
            Depth::Opened => self.opened_at,
        }
    }
}

/// What the readings of one shelf add up to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShelfRead {
    /// In which store.
    pub store: PlaceName,
    /// Which.
    pub shelf: Shelf,
    /// How many of its objects were ever right.
    pub objects: u64,
    /// How long those are.
    pub bytes: ByteSize,
    /// How long those are that were right since the moment that was asked for.
    pub recent: ByteSize,
    /// When that one was right that was not for the longest time.
    pub oldest: Option<Timestamp>,
    /// How many are wrong.
    pub wrong: u64,
}

/// How much may be read in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// So much of all that is stored, in hundredths of a percent.
    Share(u32),
    /// So many stored bytes.
    Bytes(ByteSize),
    /// For so long: nothing is begun after that.
    Time(Span),
}

/// Why a text is not a budget.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a budget: {why}")]
pub struct BadBudget {
    /// What was written.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl FromStr for Budget {
    type Err = BadBudget;

    fn from_str(text: &str) -> Result<Budget, BadBudget> {
        let bad = |why| BadBudget { text: text.to_owned(), why };
        let trimmed = text.trim();
        if let Some(percent) = trimmed.strip_suffix('%') {
            let share = hundredths(percent.trim()).filter(|share| (1..=10_000).contains(share));
            return share.map(Budget::Share).ok_or_else(|| bad("a share is from 0.01% to 100%"));
        }
        if let Ok(span) = trimmed.parse::<Span>() {
            return if span > Span::ZERO { Ok(Budget::Time(span)) } else { Err(bad("it is no time at all")) };
        }
        // "20M" is one slip of the finger away from "20m", which is a time: sizes are written out.
        if !trimmed.ends_with(['B', 'b']) {
            return Err(bad("it is a share (10%), a size (2GiB) or a time (20m)"));
        }
        match trimmed.parse::<ByteSize>() {
            Ok(ByteSize(0)) => Err(bad("it is no bytes at all")),
            Ok(bytes) => Ok(Budget::Bytes(bytes)),
            Err(_) => Err(bad("it is a share (10%), a size (2GiB) or a time (20m)")),
        }
    }
}

/// A decimal number with at most two places, in hundredths.
fn hundredths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 3 || part.len() > 2 || !digits(whole) || !digits(part) {
        return None;
    }
    let part: u32 = format!("{part:0<2}").parse().ok()?;
    Some(whole.parse::<u32>().ok()? * 100 + part)
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Budget::Share(share) if share % 100 == 0 => write!(f, "{}%", share / 100),
            Budget::Share(share) => write!(f, "{}.{:02}%", share / 100, share % 100),
            Budget::Bytes(bytes) => bytes.fmt(f),
            Budget::Time(span) => span.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_shares_sizes_and_times() {
        for (text, budget, printed) in [
            ("10%", Budget::Share(1_000), "10%"),
            ("0.5 %", Budget::Share(50), "0.50%"),
            ("100%", Budget::Share(10_000), "100%"),
            ("33.33%", Budget::Share(3_333), "33.33%"),
            ("2GiB", Budget::Bytes(ByteSize(2 << 30)), "2.0 GiB"),
            ("500 MB", Budget::Bytes(ByteSize(500_000_000)), "476.8 MiB"),
            ("1B", Budget::Bytes(ByteSize(1)), "1 B"),
            ("20m", Budget::Time(Span::from_secs(1_200)), "20m"),
            ("1h 30m", Budget::Time(Span::from_secs(5_400)), "1h 30m"),
        ] {
            let read: Budget = text.parse().unwrap();
            assert_eq!((read, read.to_string().as_str()), (budget, printed), "{text}");
        }
        for text in [
            "", "10", "0%", "101%", "0.001%", "1e1%", "-1%", "%", ".5%", "0s", "0B", "20M", "2G", "4096", "ten", "5 B%",
        ] {
            assert!(text.parse::<Budget>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_key_tells_whose_object_it_is() {
        let of = |key: &str| owner_of(key).map(|(policy, shelf)| (policy.to_string(), shelf.to_string()));
        let id = "20260131T030000Z-0a1b2c3d";
        let some = |shelf: &str| Some(("orders".to_owned(), shelf.to_owned()));
        assert_eq!(of(&format!("orders/{id}/base/00000.zst.age")), some(id));
        assert_eq!(of("orders/wal/00000001/000000010000000000000001.zst.age"), some("wal"));
        for key in ["", "orders", "orders/wal", "orders/wal/", "orders/x/y", "Orders/wal/x", &format!("orders/{id}")] {
            assert_eq!(of(key), None, "{key:?}");
        }
    }

    #[test]
    fn what_was_looked_at_counts_at_the_depth_that_is_asked_for() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut one = LastRead {
            store: "primary".parse().unwrap(),
            shelf: Shelf::Log,
            key: "k".to_owned(),
            bytes: ByteSize(1),
            sealed_at: Some(at(9)),
            opened_at: Some(at(5)),
            run: None,
            wrong: None,
        };
        assert_eq!(
            (one.looked_at(), one.right_at(Depth::Sealed), one.right_at(Depth::Opened)),
            (Some(at(9)), Some(at(9)), Some(at(5)))
        );
        let finding = Finding::new("plain_hash", "part x", "wrong");
        one.wrong = Some(Wrong { since: at(6), at: at(8), depth: Depth::Opened, run: None, finding });
        assert_eq!(
            (one.looked_at(), one.right_at(Depth::Sealed), one.right_at(Depth::Opened)),
            (Some(at(9)), None, None)
        );
        one.sealed_at = None;
        assert_eq!(one.looked_at(), Some(at(8)));
    }
}
