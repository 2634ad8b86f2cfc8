//! Holes of the log that somebody answers for.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ids::PolicyName;
use super::wal::Segment;

/// The `format` of an acknowledgement.
pub const HOLE_FORMAT: &str = "lifeboat.wal-hole/1";

/// A stretch of the log that is lost for good, and who says so. It brings nothing back: every recovery still stops before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledged {
    /// [`HOLE_FORMAT`].
    pub format: String,
    /// Of which policy's log.
    pub policy: PolicyName,
    /// The first segment of it.
    pub from: Segment,
    /// The last, on the same timeline.
    pub to: Segment,
    /// How long segments are.
    pub segment_bytes: u64,
    /// Who answers for it.
    pub owner: String,
    /// Why it is lost.
    pub reason: String,
    /// When it was said, by the runner's clock.
    pub at: Timestamp,
}

impl Acknowledged {
    /// Whether a segment lies in it.
    pub fn covers(&self, segment: Segment) -> bool {
        self.from <= segment && segment <= self.to
    }

    /// Why this is no such stretch, if it is none.
    pub fn fault(&self) -> Option<&'static str> {
        if self.from.timeline != self.to.timeline || self.from > self.to {
            Some("its first segment does not lie before its last")
        } else if self.from.start(self.segment_bytes).is_none() || self.to.start(self.segment_bytes).is_none() {
            Some("no segments of its length have such names")
        } else if self.owner.trim().is_empty() || self.reason.trim().is_empty() {
            Some("it has no owner or no reason")
        } else {
            None
        }
    }

    /// Who, when, why.
    pub fn words(&self) -> String {
        format!("acknowledged by {} on {}: {}", self.owner, self.at.strftime("%Y-%m-%d"), self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hole(from: (u32, u32), to: (u32, u32)) -> Acknowledged {
        let segment = |(timeline, segment)| Segment { timeline, log: 0, segment };
        Acknowledged {
            format: HOLE_FORMAT.to_owned(),
            policy: "orders".parse().unwrap(),
            from: segment(from),
            to: segment(to),
            segment_bytes: 1 << 20,
            owner: "dba".to_owned(),
            reason: "the disk died".to_owned(),
            at: "2026-01-31T03:00:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn it_covers_its_own_timeline_from_end_to_end() {
        let one = hole((1, 3), (1, 5));
        for (timeline, segment, covered) in [(1, 2, false), (1, 3, true), (1, 5, true), (1, 6, false), (2, 4, false)] {
            assert_eq!(one.covers(Segment { timeline, log: 0, segment }), covered, "{timeline} {segment}");
        }
        assert_eq!(one.words(), "acknowledged by dba on 2026-01-31: the disk died");
    }

    #[test]
    fn what_is_no_stretch_or_has_no_owner_is_none() {
        assert_eq!(hole((1, 3), (1, 3)).fault(), None);
        for (from, to) in [((1, 4), (1, 3)), ((1, 3), (2, 3)), ((1, 3), (1, 9999))] {
            assert!(hole(from, to).fault().is_some(), "{from:?} {to:?}");
        }
        assert!(Acknowledged { owner: " ".to_owned(), ..hole((1, 3), (1, 3)) }.fault().is_some());
        assert!(Acknowledged { reason: String::new(), ..hole((1, 3), (1, 3)) }.fault().is_some());
    }
}
