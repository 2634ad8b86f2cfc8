use super::*;
use crate::domain::check::CheckName;
use crate::domain::mutation::{Baseline, Guard, NotMutated, Red};
use crate::domain::sample::{at, run};
use crate::domain::transcript::Verdict;
use crate::judge::mutation as judged;

fn mutated(mutation: Mutation, came: Came) -> Mutated {
    let red = Red {
        guard: Guard::Check(CheckName::Content),
        title: "content".to_owned(),
        required: true,
        names_victim: true,
        first: "content_differs: table <b>".to_owned(),
    };
    Mutated {
        mutation,
        breaks: mutation.breaks().to_owned(),
        victim: Victim { name: "shop.<b>".to_owned(), database: Some("shop".to_owned()) },
        expected: mutation.expected(),
        red: if matches!(came, Came::Caught { .. }) { vec![red] } else { Vec::new() },
        came,
        run: run(2),
        took: Span::from_secs(3),
    }
}

fn test(mutations: Vec<Mutated>) -> DrillTest {
    DrillTest {
        schema: MUTATIONS_SCHEMA.to_owned(),
        run: run(9),
        policy: "orders".parse().unwrap(),
        drill: "restore-latest".parse().unwrap(),
        backup: None,
        method: None,
        seed: 7,
        only: None,
        started_at: at("2026-11-20T05:00:00Z"),
        finished_at: at("2026-11-20T05:02:00Z"),
        baseline: Baseline { run: run(1), verdict: Verdict::Proven, reasons: vec!["restored".to_owned()] },
        score: Some(judged::score(&mutations)),
        mutations,
        not_mutated: vec![NotMutated { what: "globals_lost".to_owned(), why: "no globals".to_owned() }],
    }
}

#[test]
fn what_was_not_caught_is_a_finding_about_the_drill_everywhere() {
    let test = test(vec![
        mutated(Mutation::RowChanged, Came::Caught { as_expected: true }),
        mutated(Mutation::IndexBroken, Came::Caught { as_expected: false }),
        mutated(Mutation::SequenceShifted, Came::Missed { why: "nothing turned red".to_owned() }),
        mutated(Mutation::WalLost, Came::Broke { error: "no room".to_owned(), hint: None }),
    ]);
    let text = terminal(&test, 120, false);
    for said in [
        "DETECTED 2 of 3 known faults; 1 of them not by what is meant for it; 1 could not be tried",
        "by content; meant for it is amcheck",
        "the drill does not see when a sequence stands one step behind",
        "globals_lost: no globals",
        "seed 7",
    ] {
        assert!(text.contains(said), "{said}:\n{text}");
    }
    let page = page(&test);
    assert!(page.contains("sequence_shifted") && page.contains("shop.&#60;b&#62;") && !page.contains("<b>"), "{page}");
    let now = at("2026-11-22T05:02:00Z");
    assert_eq!(
        line(&test, now),
        "detection of restore-latest: 2/3, 2 days ago; not caught: sequence_shifted; 1 could not be tried"
    );
    assert_eq!(document(&[test])["tests"][0]["score"]["caught"], 2);
}

#[test]
fn a_drill_that_is_not_proven_as_it_is_has_no_score() {
    let mut unmeasured = test(Vec::new());
    unmeasured.score = None;
    unmeasured.baseline.verdict = Verdict::Failed;
    assert!(terminal(&unmeasured, 100, false).starts_with("NOT MEASURED: the drill is failed without any mutation"));
    let mut chosen = test(vec![mutated(Mutation::RowChanged, Came::Caught { as_expected: true })]);
    chosen.only = Some(vec![Mutation::RowChanged]);
    let whole = test(vec![mutated(Mutation::RowChanged, Came::Caught { as_expected: true })]);
    let tests = [unmeasured, chosen, whole.clone(), whole.clone()];
    assert_eq!(newest(&tests), [&whole], "neither a test without a score nor one of a few mutations");
}
