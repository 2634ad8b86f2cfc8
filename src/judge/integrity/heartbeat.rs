//! Whether the heartbeat came back as far as it must, and no further.

use super::Comparison;
use crate::domain::check::Finding;
use crate::domain::heartbeat::{BeatTerms, Beats};
use crate::domain::observed::Observed;

/// Without the source's word, the last row may be so many intervals older than the moment.
const LATE: i32 = 3;
const TABLE: &str = "table lifeboat.heartbeat";

/// Judges what is there of the heartbeat.
pub fn heartbeat(seen: Option<&Beats>, terms: &BeatTerms) -> Comparison {
    let mut comparison = Comparison::default();
    let mut wrong = |code: &str, message: &str, expected: String, found: String| {
        comparison.findings.push(Finding::new(code, TABLE, message).with(expected, found));
    };
    let Some(seen) = seen else {
        match &terms.around {
            Observed::Known(around) if around.before.is_some() => wrong(
                "heartbeat_lost",
                "the source had heartbeats at that moment, and none came back",
                format!("number {}", around.before.unwrap_or_default()),
                "none".to_owned(),
            ),
            _ => comparison.blind(
                TABLE,
                "there is no heartbeat in the restored copy: `lifeboat init --heartbeat`, and `[wal] heartbeat`",
            ),
        }
        return comparison;
    };
    let last = seen.last;
    let numbered = last.seq - seen.first + 1;
    if seen.count != numbered {
        wrong(
            "heartbeat_gap",
            "a heartbeat is missing in the middle",
            format!("{numbered} from {} to {}", seen.first, last.seq),
            seen.count.to_string(),
        );
    }
    if let Some(moment) = terms.moment {
        if seen.latest_at > moment {
            wrong(
                "heartbeat_beyond",
                "a heartbeat came back that was committed after the moment",
                format!("none after {moment}"),
                seen.latest_at.to_string(),
            );
        }
        match &terms.around {
            Observed::Known(around) => match around.before {
                Some(before) if before != last.seq => wrong(
                    if last.seq < before { "heartbeat_missing" } else { "heartbeat_beyond" },
                    "the last heartbeat is not the last that the source had at that moment",
                    format!("number {before}"),
                    format!("number {}", last.seq),
                ),
                Some(_) if around.behind.is_none() => {
                    comparison.skip("next heartbeat", "the source has none behind that moment yet");
                }
                Some(_) => comparison.looked(2, "sides of the moment"),
                None => comparison.blind("last heartbeat", "the source has none of that time any more"),
            },
            Observed::Absent => comparison.blind("last heartbeat", "the source has no heartbeat"),
            Observed::Unknown(why) => {
                let age = moment.duration_since(last.committed_at);
                match terms.every {
                    Some(every) if age <= every.0 * LATE => {
                        comparison.skip("next heartbeat", format!("the source could not be asked: {why}"));
                    }
                    _ => comparison.blind(
                        "last heartbeat",
                        format!("whether it is the last before the moment is not known: the source could not be asked ({why})"),
                    ),
                }
            }
        }
    }
    comparison.looked(seen.count.unsigned_abs(), "heartbeats");
    comparison.beat = Some(last);
    comparison
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::check::Outcome;
    use crate::domain::heartbeat::{Around, Beat};
    use crate::domain::units::Span;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Numbers 5 to 9, the last committed at 90.
    fn beats() -> Beats {
        Beats { count: 5, first: 5, last: Beat { seq: 9, committed_at: at(90) }, latest_at: at(90) }
    }

    fn terms(moment: Option<i64>, around: Observed<Around>) -> BeatTerms {
        BeatTerms { moment: moment.map(at), around, every: Some(Span::from_secs(10)) }
    }

    fn around(before: i64, behind: i64) -> Observed<Around> {
        Observed::Known(Around { before: Some(before), behind: Some(behind) })
    }

    fn codes(seen: Option<&Beats>, terms: &BeatTerms) -> Vec<String> {
        match heartbeat(seen, terms).outcome() {
            Outcome::Failed(findings) => findings.into_iter().map(|finding| finding.code).collect(),
            Outcome::Passed => vec!["passed".to_owned()],
            Outcome::Unchecked(_) => vec!["unchecked".to_owned()],
            Outcome::Broke { .. } => vec!["broke".to_owned()],
        }
    }

    fn grave(seen: Option<&Beats>, terms: &BeatTerms) -> bool {
        heartbeat(seen, terms).unchecked.iter().any(|one| one.grave)
    }

    #[test]
    fn rows_must_be_there_without_a_gap() {
        let terms = terms(None, Observed::Absent);
        assert_eq!(codes(Some(&beats()), &terms), ["passed"]);
        assert_eq!(heartbeat(Some(&beats()), &terms).beat, Some(beats().last));
        assert_eq!(codes(Some(&Beats { count: 4, ..beats() }), &terms), ["heartbeat_gap"]);
        assert_eq!(codes(None, &terms), ["unchecked"]);
    }

    #[test]
    fn a_moment_has_two_sides() {
        assert_eq!(codes(Some(&beats()), &terms(Some(95), around(9, 10))), ["passed"]);
        assert!(!grave(Some(&beats()), &terms(Some(95), around(9, 10))));
        assert_eq!(codes(Some(&beats()), &terms(Some(95), around(10, 11))), ["heartbeat_missing"]);
        assert_eq!(codes(Some(&beats()), &terms(Some(95), around(8, 9))), ["heartbeat_beyond"]);
        assert_eq!(codes(Some(&beats()), &terms(Some(85), around(8, 9))), ["heartbeat_beyond", "heartbeat_beyond"]);
        let set_back = Beats { latest_at: at(99), ..beats() };
        assert_eq!(codes(Some(&set_back), &terms(Some(95), around(9, 10))), ["heartbeat_beyond"]);
        assert_eq!(codes(None, &terms(Some(95), around(9, 10))), ["heartbeat_lost"]);
        assert_eq!(codes(None, &terms(Some(95), Observed::Known(Around::default()))), ["unchecked"]);
    }

    #[test]
    fn without_the_sources_word_the_last_row_must_be_young() {
        let away = || Observed::Unknown("it is away".to_owned());
        assert_eq!(codes(Some(&beats()), &terms(Some(120), away())), ["passed"]);
        assert!(!grave(Some(&beats()), &terms(Some(120), away())));
        assert!(grave(Some(&beats()), &terms(Some(121), away())));
        assert!(grave(Some(&beats()), &BeatTerms { every: None, ..terms(Some(91), away()) }));
        assert!(grave(Some(&beats()), &terms(Some(95), Observed::Absent)));
        assert!(grave(Some(&beats()), &terms(Some(95), Observed::Known(Around { before: None, behind: Some(3) }))));
    }
}
