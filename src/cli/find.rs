//! `lifeboat find`.

use super::progress::Bar;
use super::restore::moment;
use super::{Cli, Exit, Failure, Output, output};
use crate::domain::check::{Broke, Stop};
use crate::engine::restore::{self, Request, Target, Wanted};
use crate::judge::wal::{Follow, Until};
use crate::render::plain;

/// The `schema` of the JSON document.
const SCHEMA: &str = "lifeboat.find/1";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Ends with 0 if the moment can be reached, and with 3 if it cannot: then it names the nearest one that can, and what stops it."
)]
pub struct Args {
    /// Whose backups and log.
    #[arg(value_name = "POLICY")]
    policy: String,
    /// A moment with its zone (2026-01-31T03:00:00+01:00), a place in the log (16/B374D848), or `latest`.
    #[arg(long, value_name = "TIME|LSN")]
    reach: String,
    /// Follow this timeline; left out: the newest that goes on from the backup.
    #[arg(long, value_name = "NUMBER")]
    timeline: Option<u32>,
}

/// Runs the verb.
pub async fn run(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let house = cli.house()?;
    let policy = house.policy(&args.policy).map_err(Failure::usage)?;
    let until = match args.reach.parse() {
        Ok(lsn) => Until::Lsn(lsn),
        Err(_) => moment(&args.reach).map_err(Failure::usage)?,
    };
    let wanted = Wanted { until, before: false, follow: args.timeline.map_or(Follow::Latest, Follow::Timeline) };
    let request = Request {
        stores: house.stores_of(policy)?.into_values().collect(),
        opener: house.opener()?,
        trusted: house.trusted()?,
        policy: Some(policy.name.clone()),
        backup: None,
        method: None,
        target: Target::Folder("DIR".into()),
        tablespaces: Vec::new(),
        accept_unsigned: false,
        with_roles: false,
        until: None,
        bin_dirs: Vec::new(),
        parallel: house.config.limits.parallel,
    };
    let bar = Bar::new("find");
    let foretold = restore::foretell(&request, &wanted, &bar).await;
    bar.finish();
    let foretold = match foretold {
        Ok(foretold) => foretold,
        Err(Stop::Broke(broke)) => return Err(broke.into()),
        Err(Stop::Found(findings)) => {
            let first = findings.first().map_or(String::new(), |one| format!("{}: {}", one.object, one.message));
            return Err(Failure { exit: Exit::Finding, ..Broke::new(plain(&first)).into() });
        }
    };
    let exit = if foretold.reachable { Exit::Ok } else { Exit::Finding };
    if cli.output == Output::Json {
        output::print_json(&serde_json::json!({ "schema": SCHEMA, "policy": policy.name, "found": foretold }));
        return Ok(exit);
    }
    for warning in &foretold.warnings {
        output::warn(&Broke::new(plain(warning)));
    }
    match &foretold.backup {
        Some(backup) => {
            let option = if matches!(wanted.until, Until::Lsn(_)) { "--until-lsn" } else { "--until" };
            output::print(&format!(
                "reachable: from backup {backup}, {}\n  lifeboat restore {} --to DIR {option} {}\n",
                plain(&foretold.words),
                policy.name,
                args.reach
            ));
        }
        None => output::print(&format!("not reachable: {}\n", plain(&foretold.words))),
    }
    Ok(exit)
}
