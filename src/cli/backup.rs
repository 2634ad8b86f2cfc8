//! `lifeboat backup`.

use serde_json::Value;

use super::backup_hold::What;
use super::progress::Bar;
use super::{Cli, Exit, Failure, Output, output};
use crate::domain::check::Broke;
use crate::domain::policy::{BackupJob, Policy};
use crate::engine::backup::{self, BackupReport, INTERRUPTED};
use crate::engine::copy;
use crate::engine::house::unknown;
use crate::engine::sweep::{self, Leftover};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    /// Which policy.
    #[arg(value_name = "POLICY", required = true)]
    policy: Option<String>,
    /// Only this backup job of the policy; without it, all of them in order.
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
    #[command(subcommand)]
    what: Option<What>,
}

impl Args {
    /// Whether it hears a signal itself and ends in good order.
    pub fn stops_itself(&self) -> bool {
        self.what.is_none()
    }
}

/// Runs the verb.
pub async fn run(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    if let Some(what) = &args.what {
        return what.run(cli).await;
    }
    let house = cli.house()?;
    let policy = house.policy(args.policy.as_deref().unwrap_or_default()).map_err(Failure::usage)?;
    let jobs = jobs_of(policy, args.job.as_deref()).map_err(Failure::usage)?;
    output::say_swept(&sweep::sweep(&house).await?);
    // A store that cannot be listed cannot be written either: the backup itself will say so, and be on record.
    say_leftovers(&sweep::leftovers(&house, policy).await.unwrap_or_default());
    let mut results = Vec::new();
    for job in jobs {
        let bar = Bar::new(&format!("{}/{}", policy.name, job.name));
        let mut result = backup::run(&house, policy, job, &bar).await;
        if let Ok(report) = &mut result {
            // The backup is what it is, whatever becomes of its copies.
            report.copied(copy::after_backup(&house, policy, job, &report.backup, &bar).await);
        }
        bar.finish();
        let interrupted = match &result {
            Ok(report) => report.copy_troubles.iter().any(|broke| broke.error.starts_with(INTERRUPTED)),
            Err(broke) => broke.error.starts_with(INTERRUPTED),
        };
        if cli.output == Output::Table {
            show(job, &result);
        }
        results.push((job, result));
        // One job that breaks does not cost the others their backup; a person who says stop means all of it.
        if interrupted {
            break;
        }
    }
    if cli.output == Output::Json {
        let documents: Vec<Value> = results.iter().map(|(job, result)| document(job, result)).collect();
        match documents.as_slice() {
            [only] => output::print_json(only),
            several => output::print_json(&serde_json::json!({ "schema": "lifeboat.backups/1", "backups": several })),
        }
    }
    Ok(exit_of(results.iter().map(|(_, result)| result)))
}

/// The jobs that are meant: one by name, or all.
fn jobs_of<'a>(policy: &'a Policy, name: Option<&str>) -> Result<Vec<&'a BackupJob>, Broke> {
    let Some(name) = name else { return Ok(policy.backups.iter().collect()) };
    let names = policy.backups.iter().map(|job| job.name.as_str());
    let found = policy.backups.iter().find(|job| job.name.as_str() == name);
    found.map(|job| vec![job]).ok_or_else(|| unknown("backup job", name, names))
}

/// The gravest: what broke, then what was found.
fn exit_of<'a>(results: impl Iterator<Item = &'a Result<BackupReport, Broke>>) -> Exit {
    let mut exit = Exit::Ok;
    for result in results {
        match result {
            Err(_) => return Exit::Error,
            Ok(report) if report.of_copies().brokes().next().is_some() => return Exit::Error,
            Ok(report) if !report.findings.is_empty() || report.of_copies().findings().next().is_some() => {
                exit = Exit::Finding;
            }
            Ok(_) => {}
        }
    }
    exit
}

/// What broken or killed backups left in the stores: harmless, and not counted; a person may want the room.
fn say_leftovers(leftovers: &[Leftover]) {
    for left in leftovers {
        output::say(&format!(
            "leftover: backup {} in store {} has {} objects ({}) and no manifest: it counts for nothing",
            left.backup, left.store, left.objects, left.bytes
        ));
    }
}

fn show(job: &BackupJob, result: &Result<BackupReport, Broke>) {
    match result {
        Ok(report) => {
            output::print(&report.one_line());
            show_copies(report);
        }
        Err(broke) => output::print_failure(
            &Failure {
                exit: Exit::Error,
                text: format!("backup job `{}`: {}", job.name, broke.error),
                hint: broke.hint.clone(),
            },
            Output::Table,
        ),
    }
}

/// What became of the copies: that there are none is said as loudly as that there is no backup.
fn show_copies(report: &BackupReport) {
    let copies = report.of_copies();
    for one in &copies.copies {
        let done = one.lag.map(|lag| format!(", durable there {lag} after the backup")).unwrap_or_default();
        output::print(&format!("{}: {} in {}{done}", report.backup, super::copy::word(one.state), one.to));
    }
    for one in copies.logs.iter().filter(|one| one.written > 0) {
        let files = super::verify::counted(one.written, "file");
        output::print(&format!("the log: {files} copied to {} ({})", one.to, one.bytes));
    }
    let wrong = super::copy::remarks(&copies);
    if !wrong.is_empty() {
        output::say(&format!("THE BACKUP IS TAKEN, AND NOT ALL OF ITS COPIES:\n{}", wrong.trim_end()));
        output::say(&format!("    hint: once that is mended, `lifeboat copy {}` goes on", report.policy));
    }
}

fn document(job: &BackupJob, result: &Result<BackupReport, Broke>) -> Value {
    match result {
        Ok(report) => serde_json::to_value(report)
            .unwrap_or_else(|error| serde_json::json!({ "schema": "lifeboat.error/1", "error": error.to_string() })),
        Err(broke) => serde_json::json!({
            "schema": "lifeboat.error/1",
            "job": job.name,
            "error": broke.error,
            "hint": broke.hint,
            "exit_code": Exit::Error as u8,
        }),
    }
}
