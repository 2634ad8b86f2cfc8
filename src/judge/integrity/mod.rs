//! Whether a restored database is the one that was backed up: comparisons of fingerprints.
//!
//! Each comparison says what is wrong, what was looked at and how much, and what could not be looked at and why. Nothing is
//! ever left out in silence: what is not in `findings` was either equal and is counted in `looked_at`, or is in `unchecked`.

mod completeness;
mod content;
mod heartbeat;
mod places;
mod sequences;
mod shared;

pub use completeness::{additional_databases, databases, objects, roles, tablespaces, unseen};
pub use content::{FoundLargeObjects, FoundTable, large_objects, tables};
pub use heartbeat::heartbeat;
pub use places::{collations, database_settings, encodings, extensions, server};
pub use sequences::{Pace, sequences};
pub use shared::shared;

use std::collections::BTreeSet;

use crate::domain::check::{Finding, Measure, Outcome, Unchecked};
use crate::domain::heartbeat::Beat;
use crate::domain::inventory::{Change, Changed};

/// Under which terms a copy is compared with its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// It was copied page by page; otherwise it was dumped and made anew.
    pub physical: bool,
    /// The whole server was restored, with its roles and tablespaces, under the databases' own names.
    pub whole_server: bool,
}

/// What a comparison showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// What is wrong with the copy.
    pub findings: Vec<Finding>,
    /// What was compared, and how much of it.
    pub looked_at: Vec<Measure>,
    /// What could not be compared.
    pub unchecked: Vec<Unchecked>,
    /// The newest heartbeat, if that is what was looked at.
    pub beat: Option<Beat>,
}

impl Comparison {
    /// Takes in another one: measures of the same thing add up.
    pub fn add(&mut self, other: Comparison) {
        self.findings.extend(other.findings);
        self.unchecked.extend(other.unchecked);
        self.beat = self.beat.or(other.beat);
        for measure in other.looked_at {
            self.looked(measure.count, &measure.what);
        }
    }

    /// So many of these were compared.
    pub fn looked(&mut self, count: u64, what: &str) {
        match self.looked_at.iter_mut().find(|measure| measure.what == what) {
            Some(measure) => measure.count += count,
            None => self.looked_at.push(Measure::new(count, what)),
        }
    }

    /// This cannot be compared by its nature, or was declared not to be.
    pub fn skip(&mut self, object: impl Into<String>, why: impl Into<String>) {
        self.unchecked.push(Unchecked::inherent(object, why));
    }

    /// This was meant to be compared and could not be seen: without it the check proves nothing.
    pub fn blind(&mut self, object: impl Into<String>, why: impl Into<String>) {
        self.unchecked.push(Unchecked::grave(object, why));
    }

    /// This was changed by the source while the backup was taken.
    pub fn moved(&mut self, object: impl Into<String>, why: impl Into<String>) {
        self.unchecked.push(Unchecked::meanwhile(object, why));
    }

    /// Takes back those findings that the source itself explains, because it made, dropped or altered just that thing while the backup was
    /// taken: something that was made may be there, something that was dropped may be missing, something that was altered may be
    /// either way. All that is listed; nothing else is excused.
    pub fn excuse(&mut self, changed: &[Changed], what: &[Change]) {
        if changed.is_empty() || self.findings.is_empty() {
            return;
        }
        let known: BTreeSet<(String, Change)> = changed
            .iter()
            .filter(|one| what.contains(&one.how))
            .map(|one| (format!("{} {}", one.kind, one.identity), one.how))
            .collect();
        for finding in std::mem::take(&mut self.findings) {
            let how = match finding.code.as_str() {
                code if code.ends_with("_missing") => Change::Gone,
                code if code.ends_with("_extra") => Change::Made,
                _ => Change::Altered,
            };
            if known.contains(&(finding.object.clone(), how)) {
                let word = match how {
                    Change::Made => "made",
                    Change::Gone => "dropped",
                    Change::Altered => "altered",
                };
                self.moved(finding.object, format!("{word} by the source while the backup was taken"));
            } else {
                self.findings.push(finding);
            }
        }
    }

    /// One word for all of it: failed if anything is wrong; unchecked if nothing at all was compared; only else passed.
    pub fn outcome(&self) -> Outcome {
        if !self.findings.is_empty() {
            return Outcome::Failed(self.findings.clone());
        }
        if self.looked_at.iter().all(|measure| measure.count == 0) {
            let first = self.unchecked.first().map(|one| format!("{}: {}", one.object, one.why));
            let more = self.unchecked.len().saturating_sub(1);
            return Outcome::Unchecked(match (first, more) {
                (None, _) => "there was nothing to look at".to_owned(),
                (Some(first), 0) => first,
                (Some(first), more) => format!("{first}; and {more} more"),
            });
        }
        Outcome::Passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_looked_at_has_not_passed() {
        assert!(matches!(Comparison::default().outcome(), Outcome::Unchecked(_)));
        let mut comparison = Comparison::default();
        comparison.looked(0, "tables");
        comparison.skip("table public.a", "changed while it was being backed up");
        assert!(matches!(comparison.outcome(), Outcome::Unchecked(why) if why.contains("public.a")));
        comparison.looked(1, "tables");
        assert_eq!(comparison.outcome(), Outcome::Passed);
        comparison.findings.push(Finding::new("x", "y", "z"));
        assert!(matches!(comparison.outcome(), Outcome::Failed(_)));
    }

    #[test]
    fn only_what_the_source_did_itself_is_excused() {
        let all = [Change::Made, Change::Gone, Change::Altered];
        for (code, object, excused) in [
            ("table_extra", "table public.made", true),
            ("table_missing", "table public.made", false),
            ("table_missing", "table public.gone", true),
            ("table_changed", "table public.altered", true),
            ("owner_changed", "table public.altered", true),
            ("table_missing", "table public.altered", false),
            ("table_extra", "table public.other", false),
            ("view_missing", "view public.gone", false),
        ] {
            let changed = [("made", Change::Made), ("gone", Change::Gone), ("altered", Change::Altered)]
                .map(|(name, how)| Changed { kind: "table".to_owned(), identity: format!("public.{name}"), how });
            let mut comparison = Comparison::default();
            comparison.findings.push(Finding::new(code, object, "x"));
            comparison.excuse(&changed, &all);
            assert_eq!(comparison.findings.is_empty(), excused, "{code} {object}");
            assert_eq!(comparison.unchecked.iter().any(|one| one.meanwhile && !one.grave), excused, "{code} {object}");
        }
    }

    #[test]
    fn measures_of_one_thing_add_up() {
        let mut all = Comparison::default();
        for count in [2, 3] {
            let mut one = Comparison::default();
            one.looked(count, "tables");
            all.add(one);
        }
        assert_eq!(all.looked_at, [Measure::new(5, "tables")]);
    }
}
