//! `lifeboat check --immutability`.

use serde_json::json;

use crate::cli::{Cli, Exit, Failure, Output, output};
use crate::domain::observed::Observed;
use crate::domain::policy::Policy;
use crate::engine::immutability::{self, Tried};

/// Tries to destroy what the locked stores hold, and says what came of it.
pub(super) async fn run(cli: &Cli) -> Result<Exit, Failure> {
    let house = cli.house()?;
    let policies: Vec<&Policy> = house.policies.iter().collect();
    let trials = immutability::try_all(&house, &policies).await?;
    let exit = trials.iter().map(exit_of).max_by_key(gravity).unwrap_or(Exit::Unproven);
    match cli.output {
        Output::Json => output::print_json(&json!({
            "schema": "lifeboat.immutability/1",
            "trials": trials.iter().map(document).collect::<Vec<_>>(),
            "exit_code": exit as u8,
        })),
        Output::Table => {
            for trial in &trials {
                output::print(&words(trial));
            }
        }
    }
    if trials.is_empty() {
        output::say("no store is said to be locked, so nothing is known to withstand deletion");
        output::say("hint: write locked = true for an S3 store with object lock, and [lock] in the policy: docs/s3.md");
    }
    Ok(exit)
}

fn exit_of(trial: &Tried) -> Exit {
    match &trial.found {
        Err(_) => Exit::Error,
        Ok(Observed::Known(tried)) if tried.holds() => Exit::Ok,
        Ok(Observed::Known(tried)) if tried.attempts.is_empty() => Exit::Unproven,
        Ok(Observed::Known(_)) => Exit::Finding,
        Ok(Observed::Absent | Observed::Unknown(_)) => Exit::Unproven,
    }
}

fn gravity(exit: &Exit) -> u8 {
    match exit {
        Exit::Ok => 0,
        Exit::Unproven => 1,
        Exit::Finding => 2,
        _ => 3,
    }
}

fn verdict(trial: &Tried) -> &'static str {
    match exit_of(trial) {
        Exit::Ok => "immutable",
        Exit::Finding => "NOT immutable",
        _ => "unproven",
    }
}

fn words(trial: &Tried) -> String {
    let head = format!("{} / {}: {} ({})", trial.policy, trial.store, verdict(trial), trial.mode.as_str());
    let mut lines = vec![head];
    match &trial.found {
        Err(broke) => {
            lines.push(format!("  it could not be tried: {}", broke.error));
            lines.extend(broke.hint.as_ref().map(|hint| format!("  hint: {hint}")));
        }
        Ok(Observed::Absent) => lines.push("  this store knows no lock".to_owned()),
        Ok(Observed::Unknown(why)) => lines.push(format!("  {why}")),
        Ok(Observed::Known(tried)) => {
            lines.extend(tried.attempts.iter().map(|attempt| {
                let came = if attempt.withstood { "withstood" } else { "DESTROYED" };
                format!("  {came}: {}: {}", attempt.what, attempt.answer)
            }));
            if tried.attempts.is_empty() {
                lines.extend(tried.gaps().into_iter().map(|gap| format!("  {gap}")));
            }
        }
    }
    lines.join("\n")
}

fn document(trial: &Tried) -> serde_json::Value {
    let (found, error) = match &trial.found {
        Ok(found) => (serde_json::to_value(found).ok(), None),
        Err(broke) => (None, Some(&broke.error)),
    };
    json!({
        "policy": trial.policy,
        "store": trial.store,
        "mode": trial.mode.as_str(),
        "verdict": verdict(trial),
        "found": found,
        "error": error,
    })
}
