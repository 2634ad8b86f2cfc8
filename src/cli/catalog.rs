//! `lifeboat catalog`.

mod carry;
mod look;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use crate::catalog::{CatalogError, SqliteCatalog};
use crate::domain::check::Broke;
use crate::domain::config::CatalogPlace;
use crate::domain::ids::PolicyName;
use crate::engine::House;
use crate::engine::adopt::{self, Found, Reads, StoreSeen, TakenIn};
use crate::load;

use super::{Cli, Exit, Failure, Output, output};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Bring the schema up to date, and say from what to what. On a server only this does.
    Migrate,
    /// Look at all of it: what holds it, each event, and whether everything that is told of them agrees. Findings: exit 3.
    Check,
    /// Write all of it out as lines, as of one moment, with a digest at the end.
    Export(carry::ExportArgs),
    /// Take an export in, all or nothing, into an empty catalog of either kind.
    Import(carry::ImportArgs),
    /// Take in from the stores what the catalog does not know; a damaged catalog is moved aside and made anew.
    Rebuild,
    /// What was run, newest first.
    Runs {
        /// Only of this policy.
        #[arg(value_name = "POLICY")]
        policy: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: usize,
    },
}

/// Runs the verb.
pub async fn run(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    match &args.verb {
        Verb::Migrate => look::migrate(cli).await,
        Verb::Check => look::check(cli).await,
        Verb::Export(args) => carry::export(cli, args).await,
        Verb::Import(args) => carry::import(cli, args).await,
        Verb::Rebuild => {
            let (house, aside) = house_with_a_sound_catalog(cli)?;
            let rebuilt = rebuild(&house, aside, crate::clock::now()).await?;
            match cli.output {
                Output::Json => output::print_json(&rebuilt),
                Output::Table => output::print(&rebuilt.table()),
            }
            Ok(rebuilt.exit())
        }
        Verb::Runs { policy, limit } => runs(cli, policy.as_deref(), *limit).await,
    }
}

/// As [`Cli::house`], but a catalog that cannot be read is moved aside first.
fn house_with_a_sound_catalog(cli: &Cli) -> Result<(House, Option<PathBuf>), Failure> {
    if let Some(missing) = crate::engine::house::config_missing(&cli.config) {
        return Err(Failure::usage(missing));
    }
    let loaded = load::load(&cli.config).map_err(|errors| Failure {
        exit: Exit::Usage,
        text: errors.render(output::color_on_stderr()),
        hint: None,
    })?;
    let aside = match &loaded.config.catalog {
        CatalogPlace::Sqlite(path) => set_aside_if_damaged(path, crate::clock::now())?,
        // What is on a server is never moved from here: it may be everybody's.
        CatalogPlace::Postgres(_) => None,
    };
    Ok((House::build(loaded)?, aside))
}

/// Moves a damaged catalog, with its log, to a name of its own. What it holds may yet be of use, so nothing is deleted.
fn set_aside_if_damaged(catalog: &Path, now: Timestamp) -> Result<Option<PathBuf>, Broke> {
    if !catalog.exists() {
        return Ok(None);
    }
    match SqliteCatalog::examine(catalog) {
        Ok(()) => return Ok(None),
        Err(CatalogError::Corrupt { .. }) => {}
        Err(other) => return Err(other.into()),
    }
    let beside = |side: &str| {
        let mut name = catalog.as_os_str().to_owned();
        name.push(side);
        PathBuf::from(name)
    };
    let mark = format!(".corrupt-{}", now.strftime("%Y%m%dT%H%M%SZ"));
    let aside = beside(&mark);
    for side in ["", "-wal", "-shm"] {
        let (from, to) = (beside(side), beside(&format!("{mark}{side}")));
        if side.is_empty() || from.exists() {
            if to.exists() {
                return Err(Broke::hinted(format!("{} is already there", to.display()), "try again in a second"));
            }
            std::fs::rename(&from, &to).map_err(|error| {
                Broke::hinted(
                    format!("the damaged catalog {} cannot be moved aside: {error}", from.display()),
                    "look at the permissions of its folder",
                )
            })?;
        }
    }
    Ok(Some(aside))
}

/// What a rebuild did.
#[derive(Debug, Serialize)]
struct Rebuilt {
    schema: &'static str,
    /// Where the damaged catalog lies now.
    moved_aside: Option<PathBuf>,
    stores: Vec<StoreSeen>,
    /// Artifacts that were not known before.
    adopted: u64,
    /// What is wrong with artifacts; those were not taken in.
    findings: Vec<Found>,
    /// What could not be looked at.
    errors: Vec<Broke>,
}

/// Takes in from every configured store.
async fn rebuild(house: &House, moved_aside: Option<PathBuf>, now: Timestamp) -> Result<Rebuilt, Failure> {
    let TakenIn { stores, adopted, findings, errors } = adopt::take_in(house, Reads::All, now).await?;
    Ok(Rebuilt { schema: "lifeboat.catalog-rebuild/1", moved_aside, stores, adopted, findings, errors })
}

impl Rebuilt {
    fn exit(&self) -> Exit {
        if !self.findings.is_empty() {
            Exit::Finding
        } else if !self.errors.is_empty() {
            Exit::Error
        } else {
            Exit::Ok
        }
    }

    fn table(&self) -> String {
        let mut text = String::new();
        if let Some(aside) = &self.moved_aside {
            text.push_str(&format!(
                "the catalog was damaged; it lies at {} now\nits runs and drills cannot be made again from the stores: drill anew\n",
                aside.display()
            ));
        }
        for seen in &self.stores {
            text.push_str(&format!("{}: {} in {}\n", seen.store, count(seen.backups as u64, "backup"), seen.url));
        }
        text.push_str(&format!("taken in: {}\n", count(self.adopted, "artifact")));
        for found in &self.findings {
            let Found { store, policy, backup, finding } = found;
            let line = format!("{store} {policy}/{backup}: {}: {} [{}]", finding.object, finding.message, finding.code);
            text.push_str(&format!("✗ {}\n", crate::render::plain(&line)));
        }
        for broke in &self.errors {
            text.push_str(&format!("! {}\n", crate::render::plain(&broke.error)));
            if let Some(hint) = &broke.hint {
                text.push_str(&format!("  hint: {}\n", crate::render::plain(hint)));
            }
        }
        text
    }
}

fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

async fn runs(cli: &Cli, policy: Option<&str>, limit: usize) -> Result<Exit, Failure> {
    let house = cli.house()?;
    // A policy that is configured no more still has its runs; one that never was is a slip of the pen.
    let name: Option<PolicyName> = match policy {
        None => None,
        Some(name) => Some(
            name.parse().map_err(|error: crate::domain::ids::BadId| Failure::usage(Broke::new(error.to_string())))?,
        ),
    };
    let runs = house.catalog.runs(name.as_ref(), limit).await?;
    if let (Some(name), true) = (policy, runs.is_empty()) {
        house.policy(name).map_err(Failure::usage)?;
    }
    match cli.output {
        Output::Json => output::print_json(&serde_json::json!({ "schema": "lifeboat.runs/1", "runs": runs })),
        Output::Table => {
            output::print(&crate::render::status::runs(&runs, output::width(), output::color_on_stdout()));
        }
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample::at;

    #[test]
    fn a_damaged_catalog_is_moved_aside_and_a_sound_one_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lifeboat.db");
        let now = at("2026-11-20T00:00:00Z");
        assert_eq!(set_aside_if_damaged(&path, now).unwrap(), None, "there is none yet");
        drop(SqliteCatalog::open(&path).unwrap());
        assert_eq!(set_aside_if_damaged(&path, now).unwrap(), None);
        std::fs::write(&path, "rubbish ".repeat(1_000)).unwrap();
        let aside = set_aside_if_damaged(&path, now).unwrap().unwrap();
        assert_eq!(aside, folder.path().join("lifeboat.db.corrupt-20261120T000000Z"));
        assert!(std::fs::read_to_string(&aside).unwrap().starts_with("rubbish"));
        drop(SqliteCatalog::open(&path).unwrap());
        // Twice in the same second: nothing is overwritten.
        std::fs::write(&path, "rubbish ".repeat(1_000)).unwrap();
        assert!(set_aside_if_damaged(&path, now).is_err());
        assert!(path.exists());
    }
}
