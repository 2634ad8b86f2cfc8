//! No sequence has gone back.

use std::collections::BTreeMap;

use super::{Comparison, Terms};
use crate::domain::check::Finding;
use crate::domain::inventory::Sequence;
use crate::domain::observed::Observed;

/// How a sequence moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// By how much each value differs from the one before.
    pub increment: i64,
    /// Whether it begins again at its end.
    pub cycles: bool,
    /// Whether it is outside of the log, as the tables are that such sequences belong to.
    pub unlogged: bool,
}

/// How many values ahead PostgreSQL writes a sequence to its log (`SEQ_LOG_VALS`): after recovery it may stand so much further.
const LOGGED_AHEAD: u128 = 32;

/// Compares values. `paces` are those of the restored copy (completeness compares them with the source's).
///
/// Sequences are outside of transactions. The fingerprint reads them before the backup begins, so the copy has the same value or a later
/// one: one that has gone *back* would hand out numbers twice, and is a finding. One that is further than the log's own reserve was
/// moved while the backup was taken, or afterwards: where the source was looked at again after the backup it is known which, and a
/// sequence that went beyond that is a finding too; else it is unchecked.
pub fn sequences(
    expected: &[Sequence],
    found: &[Sequence],
    paces: &BTreeMap<String, Pace>,
    terms: Terms,
) -> Comparison {
    let mut comparison = Comparison::default();
    let there: BTreeMap<&str, &Sequence> = found.iter().map(|one| (one.name.as_str(), one)).collect();
    for sequence in expected {
        let object = format!("sequence {}", sequence.name);
        let Some(now) = there.get(sequence.name.as_str()) else {
            comparison.findings.push(Finding::new(
                "sequence_missing",
                object,
                "the sequence is not in the restored copy",
            ));
            continue;
        };
        let (before, after) = match (&sequence.last_value, &now.last_value) {
            (Observed::Known(before), Observed::Known(after)) => (*before, *after),
            (Observed::Unknown(why), _) | (_, Observed::Unknown(why)) => {
                comparison.blind(object, why.clone());
                continue;
            }
            (Observed::Absent, _) | (_, Observed::Absent) => {
                comparison.blind(object, "it has no value");
                continue;
            }
        };
        if (before, sequence.is_called) == (after, now.is_called) {
            comparison.looked(1, "sequences");
            continue;
        }
        let Some(pace) = paces.get(&sequence.name) else {
            comparison.blind(object, "how it moves is not known");
            continue;
        };
        // Whether it is unlogged on the source too, completeness compares.
        if pace.unlogged && terms.physical {
            comparison.skip(object, "it is unlogged: a physical backup does not hold where it stood");
            continue;
        }
        let ahead = (i128::from(after) - i128::from(before)) * i128::from(pace.increment.signum());
        // A value that was not handed out yet is one step behind one that was.
        let back = ahead < 0 || (ahead == 0 && sequence.is_called && !now.is_called);
        let reserve = LOGGED_AHEAD * u128::from(pace.increment.unsigned_abs());
        // The source itself may set a sequence back (RESTART, setval, TRUNCATE … RESTART IDENTITY); then a copy may hold what it was or what it is.
        let set_back = sequence
            .moved_to
            .is_some_and(|to| (i128::from(to) - i128::from(before)) * i128::from(pace.increment.signum()) < 0);
        if set_back && !pace.cycles {
            comparison.moved(object, "set back by the source while the backup was taken");
        } else if back && pace.cycles {
            comparison.skip(
                object,
                "it has another value, and it begins again at its end: whether it went back cannot be said",
            );
        } else if back {
            let message = "the sequence has gone back: it would hand out numbers that are in use";
            let finding = Finding::new("sequence_behind", object, message);
            comparison.findings.push(finding.with(value(before, sequence.is_called), value(after, now.is_called)));
        } else if let Some(moved_to) = sequence.moved_to.filter(|_| !pace.cycles) {
            // It was looked at before and after the backup. One that stood still must stand there still; one that moved may be
            // anywhere between, and in a physical copy as far ahead as the log wrote it.
            let moved = (i128::from(moved_to) - i128::from(before)) * i128::from(pace.increment.signum());
            let slack = if terms.physical && moved != 0 { i128::try_from(reserve).unwrap_or(i128::MAX) } else { 0 };
            if ahead <= moved.saturating_add(slack) {
                comparison.looked(1, "sequences");
            } else {
                let message = "the sequence is further than it ever was while the backup was taken";
                let finding = Finding::new("sequence_ahead", object, message);
                comparison.findings.push(finding.with(format!("at most {moved_to}"), value(after, now.is_called)));
            }
        } else if terms.physical && ahead.unsigned_abs() <= reserve {
            comparison.looked(1, "sequences");
        } else {
            let (before, after) = (value(before, sequence.is_called), value(after, now.is_called));
            let why = format!(
                "further than the fingerprint ({before}, now {after}): moved while the backup was taken, or later"
            );
            comparison.skip(object, why);
        }
    }
    for extra in found.iter().filter(|one| !expected.iter().any(|before| before.name == one.name)) {
        let message = "the restored copy has a sequence that the source did not have";
        comparison.findings.push(Finding::new("sequence_extra", format!("sequence {}", extra.name), message));
    }
    comparison
}

fn value(last: i64, is_called: bool) -> String {
    if is_called { last.to_string() } else { format!("{last}, not handed out") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::check::Outcome;

    fn sequence(last: i64, is_called: bool) -> Sequence {
        Sequence { name: "public.s".to_owned(), last_value: Observed::Known(last), is_called, moved_to: None }
    }

    fn word(before: &Sequence, now: &Sequence, increment: i64, cycles: bool, physical: bool) -> String {
        let paces = BTreeMap::from([("public.s".to_owned(), Pace { increment, cycles, unlogged: false })]);
        let terms = Terms { physical, whole_server: true };
        match sequences(std::slice::from_ref(before), std::slice::from_ref(now), &paces, terms).outcome() {
            Outcome::Failed(findings) => findings[0].code.clone(),
            other => other.word().to_owned(),
        }
    }

    #[test]
    fn a_sequence_may_not_go_back() {
        for (before, now, increment, cycles, physical, expected) in [
            (sequence(10, true), sequence(10, true), 1, false, false, "passed"),
            (sequence(10, true), sequence(9, true), 1, false, false, "sequence_behind"),
            (sequence(10, true), sequence(9, true), 1, false, true, "sequence_behind"),
            (sequence(10, true), sequence(10, false), 1, false, false, "sequence_behind"),
            (sequence(10, false), sequence(10, true), 1, false, false, "unchecked"),
            (sequence(10, true), sequence(42, true), 1, false, true, "passed"),
            (sequence(10, true), sequence(43, true), 1, false, true, "unchecked"),
            (sequence(10, true), sequence(11, true), 1, false, false, "unchecked"),
            (sequence(-10, true), sequence(-9, true), -1, false, false, "sequence_behind"),
            (sequence(-10, true), sequence(-42, true), -1, false, true, "passed"),
            (sequence(10, true), sequence(1, true), 1, true, false, "unchecked"),
            (sequence(i64::MAX, true), sequence(i64::MIN, true), 1, false, false, "sequence_behind"),
        ] {
            let says = format!("{before:?} → {now:?} by {increment}, cycles {cycles}, physical {physical}");
            assert_eq!(word(&before, &now, increment, cycles, physical), expected, "{says}");
        }
    }

    #[test]
    fn a_finding_says_where_it_stood_and_whether_that_was_handed_out() {
        let paces = BTreeMap::from([("public.s".to_owned(), Pace { increment: 1, cycles: false, unlogged: false })]);
        let terms = Terms { physical: false, whole_server: true };
        let finding = &sequences(&[sequence(10, true)], &[sequence(7, false)], &paces, terms).findings[0];
        assert_eq!((finding.expected.as_deref(), finding.found.as_deref()), (Some("10"), Some("7, not handed out")));
    }

    #[test]
    fn a_sequence_may_not_be_beyond_where_it_was_when_the_backup_was_over() {
        for (moved_to, now, physical, expected) in [
            (10, 10, false, "passed"),
            (10, 11, false, "sequence_ahead"),
            (10, 11, true, "sequence_ahead"),
            (12, 11, false, "passed"),
            (12, 12, false, "passed"),
            (12, 13, false, "sequence_ahead"),
            (12, 44, true, "passed"),
            (12, 45, true, "sequence_ahead"),
            (12, 9, false, "sequence_behind"),
            (1, 1, true, "unchecked"),
            (1, 5, false, "unchecked"),
            (1, 10, true, "passed"),
        ] {
            let before = Sequence { moved_to: Some(moved_to), ..sequence(10, true) };
            let says = format!("10, later {moved_to}, restored {now}, physical {physical}");
            assert_eq!(word(&before, &sequence(now, true), 1, false, physical), expected, "{says}");
        }
    }

    #[test]
    fn an_unlogged_sequence_starts_anew_in_a_physical_copy_only() {
        let paces = BTreeMap::from([("public.s".to_owned(), Pace { increment: 1, cycles: false, unlogged: true })]);
        let compare = |physical| {
            let terms = Terms { physical, whole_server: true };
            sequences(&[sequence(10, true)], &[sequence(1, false)], &paces, terms)
        };
        assert_eq!(compare(false).findings[0].code, "sequence_behind");
        let copy = compare(true);
        assert!(copy.findings.is_empty() && copy.unchecked[0].why.contains("unlogged"), "{copy:?}");
        assert!(!copy.unchecked[0].grave);
    }

    #[test]
    fn lost_additional_and_unreadable_sequences_do_not_pass() {
        let terms = Terms { physical: false, whole_server: true };
        let one = [sequence(1, true)];
        let none = BTreeMap::new();
        assert_eq!(sequences(&one, &[], &none, terms).findings[0].code, "sequence_missing");
        assert_eq!(sequences(&[], &one, &none, terms).findings[0].code, "sequence_extra");
        let unknown = [Sequence { last_value: Observed::Unknown("no".to_owned()), ..sequence(1, true) }];
        assert!(matches!(sequences(&unknown, &one, &none, terms).outcome(), Outcome::Unchecked(_)));
        assert!(sequences(&unknown, &one, &none, terms).unchecked.iter().all(|one| one.grave));
        assert!(matches!(sequences(&one, &[sequence(2, true)], &none, terms).outcome(), Outcome::Unchecked(_)));
    }
}
