//! `lifeboat backup hold`, `release`, `holds`, `undelete`.

use super::verify::{counted, hinted, sentence};
use super::{Cli, Exit, Failure, Output, output};
use crate::domain::check::Broke;
use crate::domain::ids::BackupId;
use crate::domain::mark::{Act, words_fault};
use crate::domain::policy::Policy;
use crate::engine::prune::{self, Marked, Marking};
use crate::render::plain;

/// The `schema` of the JSON document.
const SCHEMA: &str = "lifeboat.marks/1";

/// What is said of a backup that is there.
#[derive(Debug, clap::Subcommand)]
pub(super) enum What {
    /// Keep a backup, whatever its retention says, until it is released.
    Hold {
        /// Its id (20260131T030000Z-0a1b2c3d).
        #[arg(value_name = "BACKUP-ID")]
        backup: String,
        /// Who holds it.
        #[arg(long, value_name = "WHO")]
        by: String,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// End all holds on a backup.
    Release {
        /// Its id.
        #[arg(value_name = "BACKUP-ID")]
        backup: String,
        /// Who releases it.
        #[arg(long, value_name = "WHO")]
        by: String,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// List the holds that stand.
    Holds {
        /// Only of this policy.
        #[arg(value_name = "POLICY")]
        policy: Option<String>,
    },
    /// Bring back a backup that was deleted and is not removed yet.
    Undelete {
        /// Its id.
        #[arg(value_name = "BACKUP-ID")]
        backup: String,
        /// Who brings it back.
        #[arg(long, value_name = "WHO")]
        by: String,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

impl What {
    pub(super) async fn run(&self, cli: &Cli) -> Result<Exit, Failure> {
        match self {
            What::Hold { backup, by, reason } => mark(cli, backup, Act::Hold, by, Some(reason)).await,
            What::Release { backup, by, reason } => mark(cli, backup, Act::Release, by, reason.as_ref()).await,
            What::Undelete { backup, by, reason } => mark(cli, backup, Act::Undelete, by, reason.as_ref()).await,
            What::Holds { policy } => holds(cli, policy.as_deref()).await,
        }
    }
}

async fn mark(cli: &Cli, backup: &str, act: Act, by: &str, reason: Option<&String>) -> Result<Exit, Failure> {
    let house = cli.house()?;
    let backup: BackupId = backup.parse().map_err(|error: crate::domain::ids::BadId| {
        Failure::usage(Broke::hinted(error.to_string(), "`lifeboat prune --dry-run` lists what there is"))
    })?;
    for (what, text) in [("--by", Some(by)), ("--reason", reason.map(String::as_str))] {
        if let Some(fault) = text.and_then(words_fault) {
            let hint = "it stands in the store and in every report: write a line of it";
            return Err(Failure::usage(Broke::hinted(format!("{what} {fault}"), hint)));
        }
    }
    let reason = reason.cloned().unwrap_or_default();
    let marking = Marking { backup, act, by: by.to_owned(), reason };
    let marked = prune::mark(&house, &marking, crate::clock::now()).await?;
    let exit = if marked.troubles.is_empty() { Exit::Ok } else { Exit::Error };
    match cli.output {
        Output::Json => output::print_json(&serde_json::json!({
            "schema": SCHEMA, "backup": marking.backup, "act": act, "exit_code": exit as u8, "marked": marked,
        })),
        Output::Table => output::print(&told(&marking, &marked)),
    }
    Ok(exit)
}

fn told(marking: &Marking, marked: &Marked) -> String {
    let mut lines = Vec::new();
    for (place, mark) in &marked.marks {
        lines.push(format!("{} in {place}: {}", marking.backup, mark.words()));
    }
    for place in &marked.unchanged {
        let why = match marking.act {
            Act::Hold | Act::Tombstone => "nothing was changed",
            Act::Release => "there was no hold on it",
            Act::Undelete => "it was not deleted",
        };
        lines.push(format!("{} in {place}: {why}", marking.backup));
    }
    if marked.objects > 0 {
        lines.push(format!("the stores' own hold was changed on {}", counted(marked.objects, "object")));
    }
    let mut text = lines.iter().map(|line| plain(line)).collect::<Vec<_>>().join("\n");
    for trouble in &marked.troubles {
        text.push_str(&format!("\n! {}", hinted(&trouble.place, &trouble.error, trouble.hint.as_deref())));
    }
    text
}

async fn holds(cli: &Cli, policy: Option<&str>) -> Result<Exit, Failure> {
    let house = cli.house()?;
    let policies: Vec<&Policy> = match policy {
        Some(name) => vec![house.policy(name).map_err(Failure::usage)?],
        None => house.policies.iter().collect(),
    };
    let (holds, findings, troubles) = prune::holds(&house, &policies).await?;
    let exit = match (troubles.is_empty(), findings.is_empty()) {
        (false, _) => Exit::Error,
        (true, false) => Exit::Finding,
        (true, true) => Exit::Ok,
    };
    if cli.output == Output::Json {
        output::print_json(&serde_json::json!({
            "schema": SCHEMA, "exit_code": exit as u8, "holds": holds, "findings": findings, "troubles": troubles,
        }));
        return Ok(exit);
    }
    let line = |hold: &prune::HoldOf| {
        plain(&format!("{}/{} in {}: {}", hold.mark.policy, hold.mark.backup, hold.store, hold.mark.words()))
    };
    let mut lines: Vec<String> = holds.iter().map(line).collect();
    lines.extend(findings.iter().map(|finding| format!("✗ {}", sentence(finding))));
    let hint = |one: &prune::Trouble| format!("! {}", hinted(&one.place, &one.error, one.hint.as_deref()));
    lines.extend(troubles.iter().map(hint));
    output::print(if lines.is_empty() { "no backup is on hold".to_owned() } else { lines.join("\n") }.as_str());
    Ok(exit)
}
