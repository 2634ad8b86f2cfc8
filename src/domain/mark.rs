//! Marks on a backup: that it must stay, that it is to go, and that neither is so any more. They are only ever added.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::check::Finding;
use super::ids::{BackupId, PolicyName};

/// The `format` of a mark.
pub const MARK_FORMAT: &str = "lifeboat.mark/1";
/// Longest name of who marks, and longest reason, in bytes.
pub const MARK_WORDS: usize = 1_000;

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// It must stay, whatever its retention says.
    Hold,
    /// All holds before this are over.
    Release,
    /// It no longer counts, and is removed after a while.
    Tombstone,
    /// It counts again.
    Undelete,
}

/// One mark on a backup in one store: signed, and never replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// [`MARK_FORMAT`].
    pub format: String,
    /// Of which policy.
    pub policy: PolicyName,
    /// On which backup.
    pub backup: BackupId,
    /// Counts up with the marks on this backup in this store, from 1: an old mark under a new number is seen.
    pub number: u32,
    /// What it says.
    pub act: Act,
    /// Who says so.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, by the runner's clock.
    pub at: Timestamp,
}

impl Mark {
    /// Who, when, why.
    pub fn words(&self) -> String {
        let what = match self.act {
            Act::Hold => "on hold by",
            Act::Release => "released by",
            Act::Tombstone => "deleted by",
            Act::Undelete => "brought back by",
        };
        let reason = if self.reason.is_empty() { String::new() } else { format!(": {}", self.reason) };
        format!("{what} {} since {}{reason}", self.by, self.at.strftime("%Y-%m-%d"))
    }
}

/// Why a text cannot stand in a mark, if it cannot.
pub fn words_fault(text: &str) -> Option<&'static str> {
    if text.trim().is_empty() {
        Some("is empty")
    } else if text.len() > MARK_WORDS {
        Some("is longer than 1000 bytes")
    } else if text.chars().any(char::is_control) {
        Some("has more than one line")
    } else {
        None
    }
}

/// What the marks on one backup add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Holds that stand.
    pub holds: Vec<Mark>,
    /// It was deleted, and that stands.
    pub tombstone: Option<Mark>,
    /// Marks that nobody who is trusted has made. They change nothing, but what they may have said is unknown.
    pub doubts: Vec<Finding>,
    /// The highest number of those that are believed.
    pub last: u32,
}

impl Marks {
    /// Takes in the next mark, in the order of their numbers.
    pub fn add(&mut self, mark: Mark) {
        match mark.act {
            Act::Hold => self.holds.push(mark),
            Act::Release => self.holds.clear(),
            Act::Tombstone => self.tombstone = Some(mark),
            Act::Undelete => self.tombstone = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(number: u32, act: Act) -> Mark {
        Mark {
            format: MARK_FORMAT.to_owned(),
            policy: "orders".parse().unwrap(),
            backup: "20260131T030000Z-0a1b2c3d".parse().unwrap(),
            number,
            act,
            by: "ada".to_owned(),
            reason: "case 7".to_owned(),
            at: "2026-01-31T03:00:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn marks_add_up_in_their_order() {
        let of = |acts: &[Act]| {
            let mut marks = Marks::default();
            for (number, act) in (1..).zip(acts) {
                marks.add(mark(number, *act));
            }
            (marks.holds.len(), marks.tombstone.map(|mark| mark.number))
        };
        assert_eq!(of(&[]), (0, None));
        assert_eq!(of(&[Act::Hold, Act::Hold, Act::Tombstone]), (2, Some(3)));
        assert_eq!(of(&[Act::Hold, Act::Release]), (0, None));
        assert_eq!(of(&[Act::Release, Act::Hold]), (1, None));
        assert_eq!(of(&[Act::Tombstone, Act::Undelete]), (0, None));
        assert_eq!(of(&[Act::Tombstone, Act::Undelete, Act::Tombstone]), (0, Some(3)));
        assert_eq!(of(&[Act::Tombstone, Act::Release]), (0, Some(1)), "a release brings nothing back");
    }

    #[test]
    fn a_mark_is_told_in_words_and_has_words() {
        assert_eq!(mark(1, Act::Hold).words(), "on hold by ada since 2026-01-31: case 7");
        assert_eq!(words_fault("Ada, payments"), None);
        for text in ["", " ", "a\nb", &"x".repeat(1_001)] {
            assert!(words_fault(text).is_some(), "{text:?}");
        }
    }
}
