//! `lifeboat drill`: rehearse a recovery.

use std::path::PathBuf;

use super::progress::Bar;
use super::{Cli, Exit, Failure, Output, mutate, output, report};
use crate::domain::check::Broke;
use crate::domain::drill::{Drill, KeyChoice, Pick};
use crate::domain::ids::{BackupId, BadId, DrillName};
use crate::domain::policy::Policy;
use crate::domain::transcript::{Transcript, Verdict};
use crate::engine::{self, House, house, interrupt, sweep};
use crate::render;
use crate::seal::Opener;

/// In characters, as every name.
const LONGEST_NAME: usize = 63;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy whose database is to be brought back.
    policy: String,
    /// One of its drills; without it, all of them in their order.
    #[arg(long, value_name = "NAME")]
    drill: Option<String>,
    /// Bring back this backup, whatever the drill would pick.
    #[arg(long, value_name = "ID")]
    backup: Option<String>,
    /// Use this store alone, whatever the drill says: no other is opened.
    #[arg(long, value_name = "STORE")]
    from: Option<String>,
    /// Open the backup with this age identity, and none of the configured ones; may be repeated.
    #[arg(long, value_name = "KEYFILE")]
    identity: Vec<PathBuf>,
    #[command(flatten)]
    test: mutate::Args,
}

/// Runs the verb: exit code 0 only if every drill is proven.
pub async fn run(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let house = cli.house()?;
    let policy = house.policy(&args.policy).map_err(Failure::usage)?;
    let drills = chosen(&house, policy, args).map_err(Failure::usage)?;
    if let Some(id) = &args.backup {
        let id: BackupId = id.parse().map_err(|error: BadId| Failure::usage(unknown_backup(error.to_string())))?;
        for drill in &drills {
            if !engine::drill::is_known(&house.of_drill(drill), policy, &id).await? {
                let error = format!("no store of policy {} holds backup {id}, and none ever did", policy.name);
                return Err(Failure::usage(unknown_backup(error)));
            }
        }
    }
    let swept = sweep::sweep(&house).await?;
    output::say_swept(&swept);
    if args.test.wanted() {
        return mutate::run(cli, &house, policy, &drills, &args.test).await;
    }
    let mut transcripts = Vec::new();
    for drill in &drills {
        let bar = Bar::new(&format!("{}/{}", policy.name, drill.name));
        let transcript = engine::drill::run(&house, policy, drill, &bar).await?;
        bar.finish();
        let page = write_page(&house, &transcript);
        if cli.output == Output::Table {
            output::print(&render::report::terminal(&transcript, output::width(), output::color_on_stdout()));
            match page {
                Ok(path) => output::print(&format!("report: {}", path.display())),
                Err(broke) => output::warn(&broke),
            }
        }
        transcripts.push(transcript);
        // Who says stop means all of it, not the next drill.
        if interrupt::heard().is_some() {
            break;
        }
    }
    if cli.output == Output::Json {
        match transcripts.as_slice() {
            [only] => output::print_json(only),
            several => {
                output::print_json(&serde_json::json!({ "schema": "lifeboat.transcripts/1", "drills": several }))
            }
        }
    }
    let all_ran = transcripts.len() == drills.len();
    Ok(match worst(&transcripts) {
        Exit::Ok if !all_ran => Exit::Unproven,
        exit => exit,
    })
}

fn unknown_backup(error: String) -> Broke {
    Broke::hinted(error, "`lifeboat status POLICY` lists the backups")
}

fn chosen(house: &House, policy: &Policy, args: &Args) -> Result<Vec<Drill>, Broke> {
    let names = policy.drills.iter().map(|used| &used.drill);
    let mut drills: Vec<Drill> = match &args.drill {
        None => names.map(|name| house.drill(name).cloned()).collect::<Result<_, _>>()?,
        Some(wanted) => {
            // A drill that the policy does not use can still be run by hand.
            let known = house.drills.iter().map(|drill| drill.name.as_str());
            let drill = house.drills.iter().find(|drill| drill.name.as_str() == wanted);
            vec![drill.cloned().ok_or_else(|| house::unknown("drill", wanted, known))?]
        }
    };
    if drills.is_empty() {
        return Err(Broke::hinted(
            format!("policy {} uses no drill", policy.name),
            "add one to the policy: [[drill]] use = \"restore-latest\"; or name one with --drill",
        ));
    }
    if let Some(name) = &args.from {
        let from = house::place(house, name)?;
        for drill in drills.iter_mut().filter(|drill| drill.from.as_ref() != Some(&from)) {
            drill.from = Some(from.clone());
            drill.name = named_apart(&drill.name, &format!("from-{from}"));
        }
    }
    if !args.identity.is_empty() {
        // Wrong usage is known before anything is begun.
        Opener::read(&args.identity)?;
        for drill in &mut drills {
            drill.keys = KeyChoice::Given(args.identity.clone());
            drill.name = named_apart(&drill.name, "by-key");
        }
    }
    if let Some(id) = &args.backup {
        let id: BackupId = id.parse().map_err(|error: BadId| unknown_backup(error.to_string()))?;
        for drill in &mut drills {
            drill.pick = Pick::Id(id.clone());
            drill.method = None;
        }
    }
    Ok(drills)
}

/// What was done by hand with another store or key stands under a name of its own: it is no proof of the drill as it is declared.
fn named_apart(name: &DrillName, how: &str) -> DrillName {
    let room = LONGEST_NAME.saturating_sub(how.len() + 1);
    let short = name.as_str().get(..room).unwrap_or(name.as_str()).trim_end_matches('-');
    let apart: String = format!("{short}-{how}").chars().take(LONGEST_NAME).collect();
    apart.trim_matches('-').parse().unwrap_or_else(|_| name.clone())
}

/// The report as a page, in the folder of reports. That it could not be written does not change a verdict.
fn write_page(house: &House, transcript: &Transcript) -> Result<PathBuf, Broke> {
    let path = report::default_page(house, transcript);
    report::write_page(&path, transcript).map(|()| path).map_err(|failure| {
        let hint =
            format!("the drill is in the catalog: lifeboat report {} --html writes its page again", transcript.run);
        Broke::hinted(failure.text, hint)
    })
}

/// A finding beats an unproven drill, and both beat a proven one.
fn worst(transcripts: &[Transcript]) -> Exit {
    let has = |verdict| transcripts.iter().any(|transcript| transcript.judgement.verdict == verdict);
    if has(Verdict::Failed) {
        Exit::Finding
    } else if has(Verdict::Unproven) || transcripts.is_empty() {
        Exit::Unproven
    } else {
        Exit::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drill_with_another_store_or_key_is_not_the_declared_one() {
        let apart = |name: &str, how: &str| named_apart(&name.parse().unwrap(), how).to_string();
        assert_eq!(apart("restore-latest", "from-dr-region"), "restore-latest-from-dr-region");
        let long = "a".repeat(63);
        for how in ["by-key".to_owned(), format!("from-{long}")] {
            let name = apart(&long, &how);
            assert!(name.len() <= 63 && name != long, "{name}");
        }
    }
}
