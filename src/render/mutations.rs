//! What came of a test of a drill, for terminals, pages and machines.

use askama::Template;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::domain::ids::DrillName;
use crate::domain::mutation::{Came, DrillTest, MUTATIONS_SCHEMA, Mutated, Mutation, Victim};
use crate::domain::units::Span;

use super::layout::{Cell, Paint, Tone, hanging, table};
use super::words::{self, ago, plain};

/// The score in a few words: `17/18`.
pub fn score(test: &DrillTest) -> String {
    match &test.score {
        Some(score) => format!("{}/{}", score.caught, score.applied),
        None => "not measured".to_owned(),
    }
}

/// The newest test of each drill that was of all mutations, the newest first.
pub fn newest<'a>(tests: &'a [DrillTest]) -> Vec<&'a DrillTest> {
    let mut newest: Vec<&'a DrillTest> = Vec::new();
    for test in tests.iter().filter(|test| test.only.is_none() && test.score.is_some()) {
        if !newest.iter().any(|known| known.drill == test.drill) {
            newest.push(test);
        }
    }
    newest
}

/// One line of a status: `detection of restore-latest: 18/18, 2 days ago`.
pub fn line(test: &DrillTest, now: Timestamp) -> String {
    let missed: Vec<&str> = missed(test).map(|one| one.mutation.as_str()).collect();
    let missed = if missed.is_empty() { String::new() } else { format!("; not caught: {}", missed.join(", ")) };
    let broke = match &test.score {
        Some(score) if score.broke > 0 => format!("; {} could not be tried", score.broke),
        _ => String::new(),
    };
    format!(
        "detection of {}: {}, {}{missed}{broke}",
        test.drill,
        score(test),
        ago(Span::between(test.finished_at, now))
    )
}

fn missed(test: &DrillTest) -> impl Iterator<Item = &Mutated> {
    test.mutations.iter().filter(|one| matches!(one.came, Came::Missed { .. }))
}

/// What a mutation came to: word, tone, and by what it was caught or why not.
fn came(one: &Mutated) -> (&'static str, Tone, String) {
    match &one.came {
        Came::Caught { as_expected } => {
            let mut by: Vec<&str> = one.red.iter().filter(|red| red.required).map(|red| red.title.as_str()).collect();
            by.dedup();
            let by = by.join(", ");
            let expected = one.expected.as_str();
            match as_expected {
                true => ("✓ caught", Tone::Good, format!("by {by}")),
                false => ("✓ caught", Tone::Good, format!("by {by}; meant for it is {expected}")),
            }
        }
        Came::Missed { why } => {
            ("✗ NOT caught", Tone::Bad, format!("{why}; meant for it is {}", one.expected.as_str()))
        }
        Came::Broke { error, .. } => ("? broke", Tone::Doubt, error.clone()),
    }
}

/// One sentence over everything.
fn verdict(test: &DrillTest) -> (Tone, String) {
    let Some(score) = &test.score else {
        let why = test.baseline.reasons.first().cloned().unwrap_or_default();
        let word = test.baseline.verdict.as_str();
        return (
            Tone::Doubt,
            format!("NOT MEASURED: the drill is {word} without any mutation, so that it turns red says nothing: {why}"),
        );
    };
    let chosen = if test.only.is_some() { " of those that were chosen" } else { "" };
    let said = format!("DETECTED {} of {} known faults{chosen}", score.caught, score.applied);
    let others = match score.by_others {
        0 => String::new(),
        n => format!("; {n} of them not by what is meant for it"),
    };
    let broke = match score.broke {
        0 => String::new(),
        n => format!("; {n} could not be tried"),
    };
    let tone = match (score.caught == score.applied, score.broke) {
        (false, _) => Tone::Bad,
        (true, 0) if score.applied > 0 => Tone::Good,
        (true, _) => Tone::Doubt,
    };
    (tone, format!("{said}{others}{broke}"))
}

/// For a terminal.
pub fn terminal(test: &DrillTest, width: usize, color: bool) -> String {
    let (width, paint) = (width.clamp(60, 160), Paint(color));
    let mut out = String::new();
    let (tone, sentence) = verdict(test);
    hanging(&mut out, "", &plain(&sentence), width);
    out = paint.paint(tone, out.trim_end());
    out.push_str(&format!("\n{} · drill {} · {}\n", test.policy, test.drill, of_backup(test)));
    if !test.mutations.is_empty() {
        out.push('\n');
        let rows: Vec<Vec<Cell>> = test
            .mutations
            .iter()
            .map(|one| {
                let (word, tone, how) = came(one);
                vec![
                    (word.to_owned(), Some(tone)),
                    (one.mutation.to_string(), None),
                    (plain(&place(one)), None),
                    (plain(&how), None),
                    (one.took.to_string(), Some(Tone::Faint)),
                ]
            })
            .collect();
        table(&mut out, &["", "mutation", "done to", "", "took"], &rows, width, paint);
    }
    let findings: Vec<&Mutated> = missed(test).collect();
    if !findings.is_empty() {
        out.push('\n');
        out.push_str(&paint.paint(Tone::Strong, "Findings about the drill"));
        out.push('\n');
        for one in findings {
            hanging(&mut out, "  - ", &plain(&finding(one)), width);
        }
    }
    if !test.not_mutated.is_empty() {
        out.push('\n');
        out.push_str(&paint.paint(Tone::Strong, "Not tried"));
        out.push('\n');
        for one in &test.not_mutated {
            hanging(&mut out, "  - ", &plain(&format!("{}: {}", one.what, one.why)), width);
        }
    }
    out
}

fn place(one: &Mutated) -> String {
    match &one.victim.database {
        Some(database) => format!("{} in {database}", one.victim.name),
        None => one.victim.name.trim().to_owned(),
    }
}

fn finding(one: &Mutated) -> String {
    format!("the drill does not see when {} ({}; done to {})", one.breaks, one.mutation, place(one))
}

fn of_backup(test: &DrillTest) -> String {
    let backup = test.backup.as_ref().map_or("no backup".to_owned(), |backup| format!("backup {backup}"));
    format!("{backup} · seed {} · run {}", test.seed, test.run)
}

/// For machines.
pub fn document(tests: &[DrillTest]) -> Value {
    json!({ "schema": MUTATIONS_SCHEMA, "tests": tests })
}

/// What applies to a backup and what does not, for a terminal.
pub fn list(drill: &DrillName, choices: &[Choice], width: usize, color: bool) -> String {
    let rows: Vec<Vec<Cell>> = choices
        .iter()
        .map(|(mutation, chosen)| {
            let (tone, victim) = match chosen {
                Ok(victim) => (None, victim.name.trim().to_owned()),
                Err(why) => (Some(Tone::Faint), format!("does not apply: {why}")),
            };
            vec![
                (mutation.to_string(), tone),
                (mutation.breaks().to_owned(), tone),
                (mutation.expected().as_str().to_owned(), tone),
                (plain(&victim), tone),
            ]
        })
        .collect();
    let mut out = format!("drill {drill}\n");
    table(
        &mut out,
        &["mutation", "what it does", "meant for it", "done to"],
        &rows,
        width.clamp(60, 160),
        Paint(color),
    );
    out
}

/// The same for machines.
pub fn list_document(drill: &DrillName, seed: u32, choices: &[Choice]) -> Value {
    let mutations: Vec<Value> = choices
        .iter()
        .map(|(mutation, chosen)| {
            json!({
                "mutation": mutation,
                "breaks": mutation.breaks(),
                "expected": mutation.expected(),
                "victim": chosen.as_ref().ok(),
                "why_not": chosen.as_ref().err(),
            })
        })
        .collect();
    json!({ "drill": drill, "seed": seed, "mutations": mutations })
}

/// A mutation, and what it would be done to, or why it does not apply.
pub type Choice = (Mutation, Result<Victim, String>);

#[derive(Template)]
#[template(path = "mutations.html")]
struct Page {
    policy: String,
    drill: String,
    class: &'static str,
    sentence: String,
    of: String,
    finished: String,
    rows: Vec<Row>,
    findings: Vec<String>,
    not_tried: Vec<(String, String)>,
}

struct Row {
    class: &'static str,
    word: &'static str,
    mutation: &'static str,
    breaks: String,
    place: String,
    how: String,
    took: String,
}

fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "good",
        Tone::Bad => "bad",
        Tone::Doubt => "doubt",
        Tone::Strong | Tone::Faint => "",
    }
}

/// As a page that stands alone.
pub fn page(test: &DrillTest) -> String {
    let (tone, sentence) = verdict(test);
    let rows = test.mutations.iter().map(|one| {
        let (word, tone, how) = came(one);
        Row {
            class: class(tone),
            word,
            mutation: one.mutation.as_str(),
            breaks: plain(&one.breaks),
            place: plain(&place(one)),
            how: plain(&how),
            took: one.took.to_string(),
        }
    });
    let page = Page {
        policy: test.policy.to_string(),
        drill: test.drill.to_string(),
        class: class(tone),
        sentence: plain(&sentence),
        of: of_backup(test),
        finished: words::moment(test.finished_at),
        rows: rows.collect(),
        findings: missed(test).map(|one| plain(&finding(one))).collect(),
        not_tried: test.not_mutated.iter().map(|one| (plain(&one.what), plain(&one.why))).collect(),
    };
    // Rendering writes into memory; the only error is one of formatting, which nothing here returns.
    page.render().unwrap_or_else(|error| format!("<!doctype html><p>the report cannot be shown: {error}</p>"))
}

#[cfg(test)]
#[path = "mutations_tests.rs"]
mod tests;
