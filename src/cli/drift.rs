//! `lifeboat drift`.

use super::{Cli, Exit, Failure, Output, output};
use crate::domain::drift::{Drift, Severity};
use crate::domain::ids::PolicyName;
use crate::domain::policy::Policy;
use crate::engine::drift;
use crate::render;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this policy; none: all of them.
    #[arg(value_name = "POLICY")]
    policy: Option<String>,
}

/// Runs the verb.
pub async fn run(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let house = cli.house()?;
    let policies: Vec<&Policy> = match &args.policy {
        Some(name) => vec![house.policy(name).map_err(Failure::usage)?],
        None => house.policies.iter().collect(),
    };
    let now = crate::clock::now();
    let found = drift::find(&house, &policies, now).await?;
    let exit = exit(&found, policies.len());
    // For metrics and alarms: what was found stands until the next look.
    let of = |policy: Option<&PolicyName>| found.iter().filter(|one| one.policy.as_ref() == policy).cloned().collect();
    let mut seen: Vec<(Option<PolicyName>, Vec<Drift>)> =
        policies.iter().map(|policy| (Some(policy.name.clone()), of(Some(&policy.name)))).collect();
    if args.policy.is_none() {
        seen.push((None, of(None)));
    }
    if let Err(broke) = house.outbox.note_drift(now, seen).await {
        output::warn(&broke);
    }
    match cli.output {
        Output::Json => output::print(&format!("{:#}", render::drift::document(&found, now, exit as u8))),
        Output::Table => {
            let (width, color) = (output::width(), output::color_on_stdout());
            output::print(&render::drift::page(&found, policies.len(), now, width, color));
        }
    }
    Ok(exit)
}

/// Nothing to compare with proves nothing.
fn exit(found: &[Drift], policies: usize) -> Exit {
    let worst = found.iter().map(|drift| drift.severity).max();
    match worst {
        Some(Severity::Critical | Severity::Warning) => Exit::Finding,
        Some(Severity::Unproven) => Exit::Unproven,
        None if policies == 0 => Exit::Unproven,
        None => Exit::Ok,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_decides_how_it_ends() {
        let drift = |severity| Drift {
            code: "x".to_owned(),
            severity,
            policy: None,
            object: "y".to_owned(),
            declared: "a".to_owned(),
            observed: "b".to_owned(),
            since: None,
            mend: "c".to_owned(),
        };
        use Severity::{Critical, Unproven, Warning};
        for (severities, expected) in [
            (vec![], Exit::Ok),
            (vec![Unproven], Exit::Unproven),
            (vec![Unproven, Warning], Exit::Finding),
            (vec![Critical, Unproven], Exit::Finding),
        ] {
            let found: Vec<Drift> = severities.iter().map(|severity| drift(*severity)).collect();
            assert_eq!(exit(&found, 1), expected, "{severities:?}");
        }
        assert_eq!(exit(&[], 0), Exit::Unproven, "no policy promises anything");
    }
}
