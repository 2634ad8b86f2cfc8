//! `lifeboat catalog migrate` and `check`.

use serde_json::json;

use super::super::{Cli, Exit, Failure, Output, output};
use crate::catalog::{self, CatalogError, Migrated, SqliteCatalog};
use crate::domain::check::Finding;
use crate::domain::config::CatalogPlace;
use crate::engine::House;
use crate::engine::examine::{self, Examined};
use crate::load;

pub(super) async fn migrate(cli: &Cli) -> Result<Exit, Failure> {
    let config = cli.load(load::load)?.config;
    let migrated = match &config.catalog {
        CatalogPlace::Sqlite(path) => SqliteCatalog::migrate(path)?,
        CatalogPlace::Postgres(server) => catalog::migrate(server).await?,
    };
    let Migrated { from, to } = &migrated;
    match cli.output {
        Output::Json => output::print_json(&json!({ "schema": "lifeboat.catalog-migrate/1", "from": from, "to": to })),
        Output::Table => output::print(&match from {
            None => format!("the catalog was made: schema version {to}"),
            Some(from) if from == to => format!("the catalog is up to date: schema version {to}"),
            Some(from) => format!("the catalog was brought from schema version {from} to {to}"),
        }),
    }
    Ok(Exit::Ok)
}

pub(super) async fn check(cli: &Cli) -> Result<Exit, Failure> {
    let loaded = cli.load(load::load)?;
    let examined = match damaged(&loaded.config.catalog)? {
        Some(finding) => Examined {
            schema: "lifeboat.catalog-check/1",
            events: 0,
            runs: 0,
            spool: None,
            findings: vec![finding],
            unchecked: vec!["all else: the catalog cannot be opened".to_owned()],
        },
        None => examine::examine(&House::build(loaded)?).await?,
    };
    match cli.output {
        Output::Json => output::print_json(&examined),
        Output::Table => output::print(&table(&examined)),
    }
    Ok(if examined.findings.is_empty() { Exit::Ok } else { Exit::Finding })
}

/// A file that cannot even be opened as a catalog: that is what was asked for, and no error.
fn damaged(place: &CatalogPlace) -> Result<Option<Finding>, Failure> {
    match place {
        CatalogPlace::Sqlite(path) => match SqliteCatalog::examine(path) {
            Ok(()) => Ok(None),
            // What can be opened is looked at more closely.
            Err(CatalogError::Corrupt { .. }) if SqliteCatalog::open(path).is_ok() => Ok(None),
            Err(CatalogError::Corrupt { path, why }) => {
                Ok(Some(Finding::new("file_damaged", path.display().to_string(), why)))
            }
            Err(other) => Err(crate::domain::check::Broke::from(other).into()),
        },
        CatalogPlace::Postgres(_) => Ok(None),
    }
}

fn table(examined: &Examined) -> String {
    let mut text = format!("{} events of {} runs were read\n", examined.events, examined.runs);
    if let Some(waiting) = examined.spool.filter(|waiting| waiting.files > 0) {
        text.push_str(&format!(
            "{} files ({} bytes) wait on this machine for the catalog\n",
            waiting.files, waiting.bytes
        ));
    }
    for finding in &examined.findings {
        let line = format!("{}: {} [{}]", finding.object, finding.message, finding.code);
        text.push_str(&format!("✗ {}\n", crate::render::plain(&line)));
    }
    for what in &examined.unchecked {
        text.push_str(&format!("? not looked at: {what}\n"));
    }
    if examined.findings.is_empty() && examined.unchecked.is_empty() {
        text.push_str("nothing is wrong with it\n");
    }
    text
}
