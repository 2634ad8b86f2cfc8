//! `lifeboat alarms`.

use jiff::Timestamp;
use serde_json::json;

use super::{Cli, Exit, Failure, Output, output};
use crate::domain::alarm::{Alarm, Waiting};
use crate::domain::drift::Severity;
use crate::domain::ids::{PlaceName, PolicyName};
use crate::domain::units::Span;
use crate::judge::metrics::severity;
use crate::render::{ago, plain};

/// The `schema` of `--output json`.
const SCHEMA: &str = "lifeboat.alarms/1";
/// Letters that are named one by one.
const LETTERS: usize = 1_000;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only those of this policy.
    #[arg(value_name = "POLICY")]
    policy: Option<String>,
    /// Also those that were over in this time.
    #[arg(long, value_name = "TIME", default_value = "1d")]
    over: Span,
}

/// A letter that was given up.
type GivenUp = (crate::domain::alarm::LetterId, PlaceName, Timestamp, String);

/// Runs the verb: exit 3 while an alarm is open that nobody has taken on.
pub async fn run(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let house = cli.house()?;
    let policy: Option<&PolicyName> = match &args.policy {
        Some(name) => Some(&house.policy(name).map_err(Failure::usage)?.name),
        None => None,
    };
    let now = crate::clock::now();
    let since = now.checked_sub(args.over.0).unwrap_or(Timestamp::MIN);
    let known = house.outbox.alarms().await?.alarms;
    let mut alarms: Vec<Alarm> = known
        .into_iter()
        .filter(|alarm| policy.is_none() || alarm.what.key.policy.as_ref() == policy)
        .filter(|alarm| alarm.resolved_at.is_none_or(|at| at >= since))
        .collect();
    alarms.sort_by_key(|alarm| {
        (!alarm.is_open(), alarm.is_acknowledged(now), std::cmp::Reverse(alarm.what.severity), alarm.what.key.clone())
    });
    let waiting = house.outbox.waiting(LETTERS).await?;
    let given_up: Vec<GivenUp> =
        house.outbox.given_up(LETTERS).await?.into_iter().filter(|(_, _, at, _)| *at >= since).collect();
    match cli.output {
        Output::Json => output::print(&format!("{:#}", document(&alarms, &waiting, &given_up, now))),
        Output::Table => output::print(&page(&alarms, &waiting, &given_up, now)),
    }
    let unheard = alarms.iter().any(|alarm| alarm.is_open() && !alarm.is_acknowledged(now));
    Ok(if unheard { Exit::Finding } else { Exit::Ok })
}

fn state(alarm: &Alarm, now: Timestamp) -> &'static str {
    match (alarm.is_open(), alarm.is_acknowledged(now)) {
        (true, false) => "open",
        (true, true) => "acknowledged",
        (false, _) => "over",
    }
}

fn document(alarms: &[Alarm], waiting: &[Waiting], given_up: &[GivenUp], now: Timestamp) -> serde_json::Value {
    let one = |alarm: &Alarm| {
        json!({
            "alarm": alarm.what.key.to_string(),
            "state": state(alarm, now),
            "policy": alarm.what.key.policy,
            "kind": alarm.what.key.kind,
            "subject": alarm.what.key.subject,
            "severity": alarm.what.severity,
            "summary": alarm.what.summary,
            "hint": alarm.what.hint,
            "since": alarm.what.since,
            "opened_at": alarm.opened_at,
            "resolved_at": alarm.resolved_at,
            "resolved_why": alarm.resolved_why,
            "acknowledged": alarm.acknowledged,
            "told": alarm.told,
            "episode": alarm.episode,
        })
    };
    let letter = |waiting: &Waiting| {
        json!({
            "letter": waiting.letter.id,
            "to": waiting.letter.to,
            "written_at": waiting.letter.at,
            "tries": waiting.tries,
            "next_try": waiting.next_try,
            "last_error": waiting.last_error,
            "alarms": waiting.letter.items.iter().map(|item| item.what.key.to_string()).collect::<Vec<_>>(),
        })
    };
    let lost = |(letter, to, at, why): &GivenUp| json!({ "letter": letter, "to": to, "at": at, "why": why });
    json!({
        "schema": SCHEMA,
        "at": now,
        "alarms": alarms.iter().map(one).collect::<Vec<_>>(),
        "letters_waiting": waiting.iter().map(letter).collect::<Vec<_>>(),
        "letters_given_up": given_up.iter().map(lost).collect::<Vec<_>>(),
    })
}

fn page(alarms: &[Alarm], waiting: &[Waiting], given_up: &[GivenUp], now: Timestamp) -> String {
    let mut out = String::new();
    if alarms.is_empty() {
        out.push_str("no alarm is open. (They are decided on by `lifeboat serve` and `lifeboat notify`.)\n");
    }
    for alarm in alarms {
        let word = match alarm.what.severity {
            _ if !alarm.is_open() => "over",
            Severity::Critical | Severity::Warning | Severity::Unproven => severity(alarm.what.severity),
        };
        out.push_str(&format!("{word:<9} {}\n", plain(&alarm.what.summary)));
        let opened = ago(Span::between(alarm.opened_at, now));
        out.push_str(&format!("          {}, opened {opened}", alarm.what.key));
        if let Some(at) = alarm.resolved_at {
            out.push_str(&format!(", over {}", ago(Span::between(at, now))));
        }
        out.push('\n');
        if let Some(ack) = alarm.acknowledged.as_ref().filter(|_| alarm.is_open()) {
            let until = ack.until.map_or(String::new(), |until| format!(", until {until:.0}"));
            let why = ack.why.as_deref().map_or(String::new(), |why| format!(": {}", plain(why)));
            out.push_str(&format!("          taken on by {}{until}{why}\n", plain(&ack.by)));
        } else if alarm.is_open() {
            out.push_str(&format!("          next: {}\n", alarm.what.hint));
        }
    }
    for one in waiting {
        let Waiting { letter, tries, next_try, last_error } = one;
        let why = last_error.as_deref().map_or(String::new(), |why| format!(": {}", plain(why)));
        let tried = if *tries == 0 { "not tried yet".to_owned() } else { format!("tried {tries} times{why}") };
        out.push_str(&format!(
            "waits     a letter to {} of {:.0}, {tried}; next at {next_try:.0}\n",
            letter.to, letter.at
        ));
    }
    for (letter, to, at, why) in given_up {
        out.push_str(&format!("given up  letter {letter} to {to} at {at:.0}: {}\n", plain(why)));
    }
    out
}
