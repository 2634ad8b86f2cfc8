//! `lifeboat verify --budget`.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::progress::Bar;
use super::verify::{counted, hinted, sentence};
use super::{Cli, Exit, Failure, Output, output};
use crate::domain::ids::PlaceName;
use crate::domain::ledger::Budget;
use crate::domain::policy::Policy;
use crate::domain::units::Span;
use crate::engine::House;
use crate::engine::ledger::{Covered, Walk, walk};
use crate::engine::verify::{Conclusion, Reading};
use crate::render::{ago, plain};

/// The `schema` of the JSON document.
const SCHEMA: &str = "lifeboat.verify-budget/1";

pub(super) async fn run(
    cli: &Cli,
    house: &House,
    policies: &[&Policy],
    only: Option<&PlaceName>,
    budget: Budget,
    reading: &Reading,
    bar: &Bar,
) -> Result<Exit, Failure> {
    let now = crate::clock::now();
    let walked = walk(house, policies, only, budget, reading, now).await;
    bar.finish();
    let walk = walked?;
    let exit = exit(&walk);
    match cli.output {
        Output::Json => output::print_json(&document(&walk, exit)),
        Output::Table => output::print(&page(&walk, now)),
    }
    Ok(exit)
}

fn exit(walk: &Walk) -> Exit {
    match walk.conclusion() {
        Conclusion::NothingFound => Exit::Ok,
        Conclusion::Found => Exit::Finding,
        Conclusion::Broke => Exit::Error,
        Conclusion::Unproven => Exit::Unproven,
    }
}

/// For machines.
fn document(walk: &Walk, exit: Exit) -> serde_json::Value {
    serde_json::json!({
        "schema": SCHEMA,
        "conclusion": walk.conclusion(),
        "exit_code": exit as u8,
        "walk": walk,
    })
}

/// For people: how much of each policy was read back, what is wrong, the conclusion.
fn page(walk: &Walk, now: Timestamp) -> String {
    let mut text = String::new();
    // A String takes all that is written to it.
    for policy in &walk.policies {
        let _ = writeln!(text, "{}", covered(policy, now));
    }
    if let Some(forecast) = &walk.forecast {
        let every = forecast.every.map(|every| format!(", which takes {every} as often as they came so far"));
        let _ = writeln!(
            text,
            "at this pace {} read everything{}",
            counted(forecast.runs, "run"),
            every.unwrap_or_default()
        );
        for slow in walk.policies.iter().filter(|one| one.within < forecast.every && one.within.is_some()) {
            let within = slow.within.unwrap_or(Span::ZERO);
            let _ = writeln!(text, "! {}: that is too slow: within {within} is promised", slow.policy);
        }
    }
    for found in &walk.found {
        let _ = writeln!(text, "✗ {} in {}: {}", plain(&found.key), found.store, sentence(&found.finding));
    }
    for trouble in &walk.troubles {
        let _ = writeln!(text, "! {}", hinted(&trouble.place, &trouble.error, trouble.hint.as_deref()));
    }
    for reason in &walk.unproven {
        let _ = writeln!(text, "? unproven: {}", plain(reason));
    }
    text + &conclusion(walk)
}

fn covered(policy: &Covered, now: Timestamp) -> String {
    let coverage = &policy.coverage;
    let when = policy.within.map_or("at least once".to_owned(), |within| format!("within {within}"));
    let oldest = coverage.oldest.map(|at| format!(", the oldest {}", ago(Span::between(at, now)))).unwrap_or_default();
    let never = match coverage.never {
        0 => String::new(),
        never => format!(", {} never ({})", counted(never, "object"), coverage.never_bytes),
    };
    format!(
        "{}: {} % of {} in {} read back and right {when}{oldest}{never}",
        policy.policy,
        percent(coverage.share),
        coverage.bytes,
        counted(coverage.objects, "object"),
    )
}

/// `83.3`, of hundredths of a percent, rounded down.
pub(super) fn percent(share: u32) -> String {
    format!("{}.{}", share / 100, share % 100 / 10)
}

fn conclusion(walk: &Walk) -> String {
    let depth = if walk.opened { "opened" } else { "looked at from outside" };
    let gone = if walk.gone > 0 { format!("; {} went meanwhile", counted(walk.gone, "object")) } else { String::new() };
    let looked = format!(
        "{} ({}) read back and {depth} in {}, of a budget of {}{gone}",
        counted(walk.objects, "object"),
        walk.bytes,
        walk.took,
        walk.budget
    );
    match walk.conclusion() {
        Conclusion::NothingFound => format!("nothing found: {looked}, all right"),
        Conclusion::Found => format!("FOUND: {} in {looked}", counted(walk.found.len() as u64, "finding")),
        Conclusion::Broke => format!("could not be verified: {looked} until then; see above"),
        Conclusion::Unproven => format!("unproven: {looked}, nothing wrong was seen, and not everything was looked at"),
    }
}
