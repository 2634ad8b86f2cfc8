//! `lifeboat ack`.

use serde_json::json;

use super::{Cli, Exit, Failure, Output, output};
use crate::domain::alarm::Alarm;
use crate::domain::check::Broke;
use crate::domain::units::Span;
use crate::engine::house::unknown;
use crate::judge::alarm::acknowledge;

/// The `schema` of `--output json`.
const SCHEMA: &str = "lifeboat.ack/1";
/// How often it is tried again when the alarms change meanwhile.
const ATTEMPTS: usize = 8;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An alarm as `lifeboat alarms` names it, or a policy: then all of its alarms that are open.
    #[arg(value_name = "ALARM|POLICY")]
    what: String,
    /// Who takes it on. Default: whoever runs this.
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Why, or what is being done.
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    /// For how long: after that it is told again. Default: until it is over.
    #[arg(long = "for", value_name = "TIME")]
    lasting: Option<Span>,
}

/// Runs the verb.
pub async fn run(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let house = cli.house()?;
    if args.lasting == Some(Span::ZERO) {
        return Err(Failure::usage(Broke::hinted("`--for 0s` is no time at all", "write how long, such as --for 4h")));
    }
    let by = match &args.by {
        Some(by) => by.clone(),
        None => std::env::var("SUDO_USER")
            .or_else(|_| std::env::var("USER"))
            .map_err(|_| Failure::usage(Broke::hinted("it is not known who takes it on", "say so: --by NAME")))?,
    };
    for _ in 0..ATTEMPTS {
        let known = house.outbox.alarms().await?;
        let now = crate::clock::now();
        let meant = |alarm: &&Alarm| {
            let key = &alarm.what.key;
            key.to_string() == args.what || key.policy.as_ref().is_some_and(|policy| policy.as_str() == args.what)
        };
        let open = || known.alarms.iter().filter(|alarm| alarm.is_open());
        let taken: Vec<Alarm> = open()
            .filter(meant)
            .filter_map(|alarm| acknowledge(alarm, &by, args.why.as_deref(), args.lasting, now))
            .collect();
        if taken.is_empty() {
            return Err(nothing(&known.alarms, &args.what, &house));
        }
        if house.outbox.settle(known.version, taken.clone(), Vec::new()).await? {
            tell(cli.output, &taken);
            return Ok(Exit::Ok);
        }
    }
    Err(Broke::hinted("the alarms change faster than this can be written down", "try again").into())
}

/// Why there is nothing to take on.
fn nothing(known: &[Alarm], what: &str, house: &crate::engine::House) -> Failure {
    let is_policy = house.policies.iter().any(|policy| policy.name.as_str() == what);
    let was = known.iter().any(|alarm| alarm.what.key.to_string() == what);
    let open: Vec<String> = known.iter().filter(|one| one.is_open()).map(|one| one.what.key.to_string()).collect();
    Failure::usage(match (is_policy, was) {
        (true, _) => Broke::hinted(format!("no alarm of the policy {what} is open"), "lifeboat alarms lists all"),
        (false, true) => {
            Broke::hinted(format!("the alarm {what} is over"), "lifeboat alarms lists those that are open")
        }
        (false, false) if open.is_empty() => {
            Broke::hinted(format!("there is no alarm `{what}`, and none is open"), "lifeboat alarms lists all")
        }
        (false, false) => unknown("alarm", what, open.iter().map(String::as_str)),
    })
}

fn tell(form: Output, taken: &[Alarm]) {
    match form {
        Output::Json => output::print_json(&json!({
            "schema": SCHEMA,
            "acknowledged": taken.iter().map(|alarm| json!({
                "alarm": alarm.what.key.to_string(),
                "acknowledged": alarm.acknowledged,
            })).collect::<Vec<_>>(),
        })),
        Output::Table => {
            for alarm in taken {
                output::print(&format!("{} is taken on; nobody else is woken for it", alarm.what.key));
            }
        }
    }
}
