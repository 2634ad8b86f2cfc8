//! `lifeboat notify`.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::watch;

use super::{Cli, Exit, Failure, Output, output};
use crate::domain::check::Broke;
use crate::domain::watch::Notifier;
use crate::engine::house::unknown;
use crate::engine::interrupt;
use crate::engine::watch::{Decided, Delivery, Outcome, Watcher};
use crate::judge::alarm::test_letter;
use crate::notify::Carrier;

/// The `schema` of `--output json`.
const SCHEMA: &str = "lifeboat.notify/1";

/// Arguments.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Args {
    /// Send a marked letter to this notifier, or to all, and say what they answered.
    #[arg(long, value_name = "NAME", num_args = 0..=1)]
    test: Option<Option<String>>,
    /// Decide on alarms and deliver letters once: for cron, where `lifeboat serve` does not run.
    #[arg(long)]
    once: bool,
    /// The same again and again, until stopped.
    #[arg(long)]
    watch: bool,
}

impl Args {
    /// Whether it hears a signal itself.
    pub fn stops_itself(&self) -> bool {
        self.watch
    }
}

/// Runs the verb: exit 3 when a letter did not arrive.
pub async fn run(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let house = cli.house()?;
    if house.config.watch.notifiers.is_empty() {
        let hint = "write [[notify]] name = \"…\", kind = \"…\" in lifeboat.toml (docs/notifications.md)";
        return Err(Failure::usage(Broke::hinted("nobody is configured to be told", hint)));
    }
    if let Some(name) = &args.test {
        return test(cli, &house.config.watch.notifiers, name.as_deref()).await;
    }
    let watcher = Arc::new(Watcher::new(Arc::new(house)));
    if args.watch {
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(watcher.run(stopped));
        interrupt::asked_to_stop().await;
        let _ = stop.send(true);
        return running.await.map(|()| Exit::Ok).map_err(|_| Broke::new("the watching ended early").into());
    }
    let (decided, delivered) = watcher.once().await?;
    for policy in &decided.unseen {
        output::warn(&Broke::new(format!("{policy} could not be looked at: nothing is decided on it")));
    }
    match cli.output {
        Output::Json => output::print_json(&document(&decided, &delivered)),
        Output::Table => output::print(&page(&decided, &delivered)),
    }
    Ok(exit(&delivered, !decided.unseen.is_empty()))
}

fn exit(delivered: &[Delivery], unseen: bool) -> Exit {
    if delivered.iter().any(|one| !matches!(one.outcome, Outcome::Delivered(_))) {
        Exit::Finding
    } else if unseen {
        Exit::Unproven
    } else {
        Exit::Ok
    }
}

/// Sent at once and past the outbox: it is no alarm, and is not tried again.
async fn test(cli: &Cli, notifiers: &[Notifier], name: Option<&str>) -> Result<Exit, Failure> {
    let names = || notifiers.iter().map(|notifier| notifier.name.as_str());
    let chosen: Vec<&Notifier> = match name {
        None => notifiers.iter().collect(),
        Some(name) => {
            let found = notifiers.iter().find(|notifier| notifier.name.as_str() == name);
            vec![found.ok_or_else(|| Failure::usage(unknown("notifier", name, names())))?]
        }
    };
    let by = std::env::var("USER").unwrap_or_else(|_| "somebody".to_owned());
    let carrier = Carrier::new().map_err(|error| Broke::new(error.why))?;
    let (mut told, mut lines, mut good) = (Vec::new(), String::new(), true);
    for notifier in chosen {
        let letter = test_letter(&notifier.name, &by, crate::clock::now());
        let (ok, said) = match carrier.deliver(notifier, &letter).await {
            Ok(answer) => (true, answer),
            Err(undelivered) => (false, undelivered.why),
        };
        good &= ok;
        let word = if ok { "answered" } else { "did NOT take it" };
        lines.push_str(&format!("{} ({}) {word}: {said}\n", notifier.name, notifier.kind.as_str()));
        told.push(json!({
            "notifier": notifier.name, "kind": notifier.kind.as_str(), "letter": letter.id, "delivered": ok, "said": said,
        }));
    }
    match cli.output {
        Output::Json => output::print_json(&json!({ "schema": SCHEMA, "tested": told })),
        Output::Table => output::print(&lines),
    }
    Ok(if good { Exit::Ok } else { Exit::Finding })
}

fn document(decided: &Decided, delivered: &[Delivery]) -> serde_json::Value {
    let changed = decided.changed.iter().map(|alarm| {
        json!({ "alarm": alarm.what.key.to_string(), "open": alarm.is_open(), "severity": alarm.what.severity, "summary": alarm.what.summary })
    });
    json!({
        "schema": SCHEMA,
        "changed": changed.collect::<Vec<_>>(),
        "letters_written": decided.letters,
        "attempts": delivered,
        "unseen": decided.unseen,
    })
}

fn page(decided: &Decided, delivered: &[Delivery]) -> String {
    let mut out = String::new();
    for alarm in &decided.changed {
        let word = if alarm.is_open() { "open" } else { "over" };
        out.push_str(&format!("{word:<6} {}: {}\n", alarm.what.key, alarm.what.summary));
    }
    for one in delivered {
        out.push_str(&format!("letter to {}: {}\n", one.to, one.outcome));
    }
    if out.is_empty() {
        out.push_str("nothing is new, and no letter waits\n");
    }
    out
}
