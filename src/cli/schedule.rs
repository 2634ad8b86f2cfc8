//! `lifeboat schedule`.

use comfy_table::{ContentArrangement, Table, presets};
use jiff::Timestamp;

use super::{Cli, Exit, Failure, Output, output};
use crate::domain::policy::Policy;
use crate::judge::due::{self, Entry, Stage};
use crate::render::plain;

/// The `schema` of the JSON document.
const SCHEMA: &str = "lifeboat.schedule/1";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
First what is done now, then what waits in the queue, then what comes. An instant is that of the schedule; a run is due after its jitter, and when its window opens. It is told from this machine's configuration: \
what it does not offer another one may.")]
pub struct Args {
    /// How many runs that are still to be planned.
    #[arg(long, value_name = "N", default_value_t = 20)]
    next: usize,
    /// Only of this policy.
    #[arg(long, short, value_name = "POLICY")]
    policy: Option<String>,
}

/// Runs the verb.
pub async fn run(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let house = cli.house()?;
    let policies: Vec<Policy> = match &args.policy {
        Some(name) => vec![house.policy(name).map_err(Failure::usage)?.clone()],
        None => house.policies.to_vec(),
    };
    let lines = due::lines(&policies, &house.config.schedule);
    let scheduled = lines.len();
    let now = house.queue.now().await?;
    let planned = house.queue.planned_up_to().await?;
    let mut places = house.queue.places().await?;
    places.retain(|place| args.policy.as_ref().is_none_or(|name| place.planned.key.policy.as_str() == name));
    let entries = due::ahead(lines, &planned, &places, &house.config.serve.labels, args.next, now);
    match cli.output {
        Output::Json => output::print_json(&serde_json::json!({
            "schema": SCHEMA,
            "now": now,
            "schedules": scheduled,
            "runs": entries.iter().map(document).collect::<Vec<_>>(),
        })),
        Output::Table => output::print(&page(&entries, scheduled, now)),
    }
    Ok(Exit::Ok)
}

fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Running => "running",
        Stage::Waiting => "waiting",
        Stage::Ahead => "ahead",
    }
}

fn document(entry: &Entry) -> serde_json::Value {
    serde_json::json!({
        "policy": entry.key.policy,
        "work": entry.key.work,
        "title": entry.key.work.title(),
        "run": entry.run,
        "stage": stage(entry.stage),
        "scheduled_for": entry.key.scheduled_for,
        "local": entry.local,
        "schedule": entry.schedule.as_ref().map(|(text, _)| text),
        "timezone": entry.schedule.as_ref().map(|(_, zone)| zone),
        "attempt": entry.key.attempt,
        "due_at": entry.due_at,
        "not_after": entry.not_after,
        "worker": entry.holder.as_ref().map(|holder| &holder.worker),
        "lease_until": entry.holder.as_ref().map(|holder| holder.until),
        "why": entry.why,
    })
}

fn page(entries: &[Entry], scheduled: usize, now: Timestamp) -> String {
    if entries.is_empty() {
        return match scheduled {
            0 => "no policy has a schedule: add schedule = \"0 3 * * *\" to its [[backup]] and [[drill]]".to_owned(),
            _ => "nothing is due before the calendar ends".to_owned(),
        };
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(output::width()).unwrap_or(u16::MAX));
    table.set_header(["", "policy", "work", "instant", "in UTC", "due (UTC)", "why"]);
    for entry in entries {
        table.add_row([
            stage(entry.stage).to_owned(),
            entry.key.policy.to_string(),
            entry.key.work.title(),
            entry.local.clone(),
            minute(entry.key.scheduled_for),
            second(entry.due_at),
            plain(&entry.why.join("; ")),
        ]);
    }
    format!("{table}\nnow {} UTC; {scheduled} schedules", second(now))
}

fn minute(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M").to_string()
}

fn second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}
