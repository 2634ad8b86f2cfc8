//! `lifeboat copy`: what is missing in second stores.

use comfy_table::{ContentArrangement, Table, presets};

use super::progress::Bar;
use super::verify::{hinted, sentence};
use super::{Cli, Exit, Failure, Output, output};
use crate::domain::check::Broke;
use crate::domain::ids::{BackupId, BadId, RunId};
use crate::domain::policy::Policy;
use crate::domain::units::ByteSize;
use crate::engine::copy::{self, Asked, Conclusion, Copied, LogCopied, Report, State};
use crate::engine::{House, house};
use crate::render::plain;

/// The `schema` of the JSON document.
const SCHEMA: &str = "lifeboat.copy/1";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each object is read, compared with its signed hash, written if it is not there, and read back where it is now. Nothing is ever replaced, no key is needed, and a run that was killed is gone on with by the next.

  lifeboat copy                    what is missing in the copies that policies declare
  lifeboat copy orders --to usb    all backups and the log into another store
  lifeboat copy orders --from dr-region --to primary
                                   back again, after the first store was lost")]
pub struct Args {
    /// Which policy's backups; without it, those of every policy that declares copies.
    #[arg(value_name = "POLICY")]
    policy: Option<String>,
    /// Only this backup, and not the log.
    #[arg(long, value_name = "ID", requires = "policy")]
    backup: Option<String>,
    /// Into this store, whatever the policy says.
    #[arg(long, value_name = "STORE", requires = "policy")]
    to: Option<String>,
    /// From this store, and not from where the backups were taken to.
    #[arg(long, value_name = "STORE", requires = "policy")]
    from: Option<String>,
}

/// Runs the verb.
pub async fn run(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let house = cli.house()?;
    let asked = asked(&house, args).map_err(Failure::usage)?;
    let policies = policies(&house, args, &asked).map_err(Failure::usage)?;
    let mut done: Vec<(&Policy, RunId, Report)> = Vec::new();
    for policy in policies {
        let bar = Bar::new(policy.name.as_str());
        let copied = copy::run(&house, policy, &asked, &bar).await;
        bar.finish();
        let (run, report) = copied?;
        if cli.output == Output::Table {
            output::print(&table(policy, &report));
        }
        done.push((policy, run, report));
    }
    let exit = worst(done.iter().map(|(_, _, report)| report.conclusion()));
    if cli.output == Output::Json {
        let policies: Vec<_> = done.iter().map(|(policy, run, report)| document(policy, *run, report)).collect();
        output::print_json(&serde_json::json!({ "schema": SCHEMA, "exit_code": exit as u8, "policies": policies }));
    }
    Ok(exit)
}

fn asked(house: &House, args: &Args) -> Result<Asked, Broke> {
    let place = |name: &Option<String>| name.as_deref().map(|name| house::place(house, name)).transpose();
    let backup = args.backup.as_deref().map(str::parse::<BackupId>).transpose();
    let backup = backup
        .map_err(|error: BadId| Broke::hinted(error.to_string(), "`lifeboat status POLICY` lists the backups"))?;
    Ok(Asked { backup, from: place(&args.from)?, to: place(&args.to)? })
}

/// The one that was named, or all that have something to copy.
fn policies<'a>(house: &'a House, args: &Args, asked: &Asked) -> Result<Vec<&'a Policy>, Broke> {
    if let Some(name) = &args.policy {
        let policy = house.policy(name)?;
        return copy::misasked(policy, asked).map_or(Ok(vec![policy]), Err);
    }
    let all: Vec<&Policy> = house.policies.iter().filter(|policy| copy::misasked(policy, asked).is_none()).collect();
    if all.is_empty() {
        let hint = "declare them in a policy: [[backup]] copies = [\"STORE\"]; or name a policy and a store with --to";
        return Err(Broke::hinted("no policy declares copies", hint));
    }
    Ok(all)
}

fn of(conclusion: Conclusion) -> Exit {
    match conclusion {
        Conclusion::Whole => Exit::Ok,
        Conclusion::Found => Exit::Finding,
        Conclusion::Broke => Exit::Error,
        Conclusion::Nothing => Exit::Unproven,
    }
}

/// A finding is certain, whatever else broke; nothing to copy is not everything copied.
fn worst(all: impl Iterator<Item = Conclusion>) -> Exit {
    let all: Vec<Exit> = all.map(of).collect();
    let order = [Exit::Finding, Exit::Error, Exit::Unproven];
    order.into_iter().find(|exit| all.contains(exit)).unwrap_or(Exit::Ok)
}

fn document(policy: &Policy, run: RunId, report: &Report) -> serde_json::Value {
    serde_json::json!({
        "policy": policy.name,
        "run": run,
        "conclusion": report.conclusion(),
        "copies": report.copies,
        "logs": report.logs,
        "troubles": report.troubles,
        "notes": report.notes,
    })
}

fn table(policy: &Policy, report: &Report) -> String {
    let mut text = String::new();
    if !report.copies.is_empty() || !report.logs.is_empty() {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(["backup", "from", "to", "written", "there", "size", "after the backup", "result"]);
        for one in &report.copies {
            table.add_row(row(one));
        }
        for one in &report.logs {
            table.add_row(log_row(one));
        }
        text.push_str(&format!("{table}\n"));
    }
    text + &remarks(report) + &conclusion(policy, report)
}

/// Everything that is wrong, and what a person should know.
pub(super) fn remarks(report: &Report) -> String {
    let mut text = String::new();
    for (place, finding) in report.findings() {
        text.push_str(&format!("✗ {place}: {}\n", sentence(finding)));
    }
    for (place, broke) in report.brokes() {
        text.push_str(&format!("! {}\n", hinted(&place, &broke.error, broke.hint.as_deref())));
    }
    for note in &report.notes {
        text.push_str(&format!("- {}\n", plain(note)));
    }
    text
}

pub(super) fn word(state: State) -> &'static str {
    match state {
        State::Copied => "copied",
        State::Already => "there already",
        State::Found => "NOT COPIED: found",
        State::Broke => "NOT COPIED: broke",
    }
}

fn row(one: &Copied) -> [String; 8] {
    [
        one.backup.to_string(),
        one.from.to_string(),
        one.to.to_string(),
        one.written.to_string(),
        one.there.to_string(),
        one.bytes.to_string(),
        one.lag.map_or("–".to_owned(), |lag| lag.to_string()),
        word(one.state).to_owned(),
    ]
}

fn log_row(one: &LogCopied) -> [String; 8] {
    [
        "the log".to_owned(),
        one.from.to_string(),
        one.to.to_string(),
        one.written.to_string(),
        one.there.to_string(),
        one.bytes.to_string(),
        "–".to_owned(),
        word(one.state).to_owned(),
    ]
}

fn conclusion(policy: &Policy, report: &Report) -> String {
    let written = report.copies.iter().filter(|one| one.state == State::Copied).count();
    let there = report.copies.iter().filter(|one| one.state == State::Already).count();
    let bytes = ByteSize(report.copies.iter().filter(|one| one.state == State::Copied).map(|one| one.bytes.0).sum());
    let did = format!("{}: {written} copied ({bytes}), {there} there already", policy.name);
    match report.conclusion() {
        Conclusion::Whole => did,
        Conclusion::Found => format!("FOUND: {did}; what is wrong was not copied, see above"),
        Conclusion::Broke => format!("could not be copied: {did}; see above"),
        Conclusion::Nothing => format!("unproven: {}: there is no backup to copy", policy.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_outweighs_what_broke_and_nothing_is_not_everything() {
        use Conclusion::{Broke, Found, Nothing, Whole};
        for (all, exit) in [
            (vec![Whole], Exit::Ok),
            (vec![Whole, Nothing], Exit::Unproven),
            (vec![Nothing, Broke], Exit::Error),
            (vec![Broke, Found, Whole], Exit::Finding),
        ] {
            assert_eq!(worst(all.into_iter()), exit);
        }
    }
}
