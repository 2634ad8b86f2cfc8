//! A catalog looked at from all sides: what holds it, each event, and whether all that it tells agrees.

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::mpsc;

use super::{House, process};
use crate::catalog::{self, Carried, Carry, UNDER_WAY, UNREADABLE, Waiting};
use crate::domain::check::{Broke, Finding};
use crate::domain::config::CatalogPlace;
use crate::judge::books::Books;

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Examined {
    /// Of this document.
    pub schema: &'static str,
    /// How many events were read.
    pub events: u64,
    /// How many runs they tell of.
    pub runs: usize,
    /// What waits on this machine for a catalog that was away.
    pub spool: Option<Waiting>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What could not be looked at, and why.
    pub unchecked: Vec<String>,
}

/// Examines the catalog of a house. Findings are about the catalog; an error says that it could not be looked at.
pub async fn examine(house: &House) -> Result<Examined, Broke> {
    let mut examined = Examined {
        schema: "lifeboat.catalog-check/1",
        events: 0,
        runs: 0,
        spool: None,
        findings: Vec::new(),
        unchecked: Vec::new(),
    };
    if let CatalogPlace::Postgres(server) = &house.config.catalog {
        // A first question delivers what waits; what is left then could not be.
        house.catalog.scratches_owed().await?;
        let waiting = catalog::waiting(&server.spool);
        if waiting.damaged > 0 {
            let object = format!("spool {}", server.spool.display());
            let message = format!("{} of its files are damaged: look at them, then remove them", waiting.damaged);
            examined.findings.push(Finding::new("spool_damaged", object, message));
        }
        examined.spool = Some(waiting);
    }
    let carried = catalog::carry(&house.config.catalog)?;
    examined.findings.extend(carried.inspect().await?);
    if examined.findings.iter().any(|finding| finding.code == UNREADABLE || finding.code == "file_damaged") {
        let why = "whether the views agree with the events: not all events can be read";
        examined.unchecked.push(why.to_owned());
        return Ok(examined);
    }
    let books = add_up(carried, &mut examined).await?;
    examined.runs = books.runs();
    examined.findings.extend(compare(house, &books).await?);
    Ok(examined)
}

async fn add_up(carried: Arc<dyn Carry>, examined: &mut Examined) -> Result<Books, Broke> {
    let (sender, mut rows) = mpsc::channel(UNDER_WAY);
    let reading = tokio::spawn(async move { carried.export(sender).await });
    let mut books = Books::default();
    while let Some(row) = rows.recv().await {
        match row {
            Carried::Event { policy, run, event, .. } => {
                examined.events += 1;
                books.event(&policy, run, &event);
            }
            Carried::Place { planned, ended, .. } => books.place(&planned, ended.is_some()),
            Carried::Covered { .. } | Carried::Read { .. } | Carried::Sequence { .. } | Carried::Token { .. } => {}
            Carried::Alarm(_) | Carried::Letter(_) | Carried::Post { .. } | Carried::DriftSeen { .. } => {}
        }
    }
    reading.await.map_err(|_| Broke::new("the examination stopped early"))??;
    Ok(books)
}

/// What the catalog itself says, against the books. Somebody may be at work: what differs is looked at once more.
async fn compare(house: &House, books: &Books) -> Result<Vec<Finding>, Broke> {
    let mut found = books.queue();
    for policy in books.policies() {
        found.extend(books.artifacts(&policy, &house.catalog.artifacts(&policy).await?));
        found.extend(books.proofs(&policy, &house.catalog.proofs(&policy).await?));
    }
    found.extend(books.owed(&house.catalog.scratches_owed().await?));
    let runs = house.catalog.runs(None, usize::MAX).await?;
    found.extend(books.states(&runs));
    for run in runs.iter().filter(|run| process::is_gone(&run.state)) {
        let message = format!(
            "{} of {} was begun on this machine, and its process is gone; the next drill, backup or restore writes that down",
            run.work.title(),
            run.policy
        );
        found.push(Finding::new("run_died", format!("run {}", run.id), message));
    }
    Ok(found)
}
