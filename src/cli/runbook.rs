//! `lifeboat runbook`.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::domain::artifact::Manifest;
use crate::domain::check::{Broke, Stop};
use crate::domain::drill::Drill;
use crate::domain::ids::PlaceName;
use crate::domain::policy::{Method, Policy};
use crate::domain::run::ArtifactRecord;
use crate::engine::House;
use crate::render::runbook::{Artifact, Facts, markdown};
use crate::seal;

use super::{Cli, Exit, Failure, Output, output};

/// Drills that are looked back on for the times of the steps.
const LOOK_BACK: usize = 50;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Of which policy.
    #[arg(value_name = "POLICY")]
    policy: String,
}

/// Runs the verb.
pub async fn run(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let house = cli.house()?;
    let policy = house.policy(&args.policy).map_err(Failure::usage)?;
    let (text, gaps) = write(&house, policy, crate::clock::now()).await?;
    for gap in gaps {
        output::say(&format!("warning: {gap}"));
    }
    match cli.output {
        Output::Table => output::print(&text),
        Output::Json => output::print_json(&serde_json::json!({
            "schema": "lifeboat.runbook/1",
            "policy": policy.name,
            "markdown": text,
        })),
    }
    Ok(Exit::Ok)
}

/// The runbook, and what could not be looked up for it.
async fn write(house: &House, policy: &Policy, now: Timestamp) -> Result<(String, Vec<String>), Failure> {
    let mut gaps = Vec::new();
    let mut newest = Vec::new();
    let artifacts = house.catalog.artifacts(&policy.name).await?;
    // Where backups are taken to comes first: a copy is for the day on which that is gone.
    let taken_to = |store: &PlaceName| !House::is_copy(policy, store);
    let seconds: BTreeSet<&PlaceName> =
        artifacts.iter().map(|record| &record.store).filter(|store| !taken_to(store)).collect();
    let of = |method| artifacts.iter().filter(move |record| record.method == method);
    let methods = [Method::Physical, Method::Logical, Method::ControlPlane];
    let firsts = methods.into_iter().map(|method| of(method).find(|record| taken_to(&record.store)));
    let copies = seconds
        .iter()
        .flat_map(|store| methods.into_iter().map(move |method| of(method).find(|record| record.store == **store)));
    for record in firsts.chain(copies).flatten() {
        let manifest = match manifest(house, record).await {
            Ok(manifest) => Some(manifest),
            Err(why) => {
                gaps.push(format!(
                    "the manifest of {} in {} could not be used, so its steps are general: {why}",
                    record.backup, record.store
                ));
                None
            }
        };
        newest.push((record, manifest));
    }
    let mut drills: Vec<&Drill> = Vec::new();
    for used in &policy.drills {
        match house.drill(&used.drill) {
            Ok(drill) => drills.push(drill),
            Err(broke) => gaps.push(broke.error),
        }
    }
    let transcripts = house.catalog.transcripts(&policy.name, LOOK_BACK).await?;
    let artifacts = newest.iter().map(|(record, manifest)| Artifact { record, manifest: manifest.as_ref() }).collect();
    let facts = Facts { policy, drills, artifacts, transcripts: &transcripts, config: &house.config, now };
    Ok((markdown(&facts), gaps))
}

/// The manifest, if there is nothing against it: commands are not made from one that may be forged.
async fn manifest(house: &House, record: &ArtifactRecord) -> Result<Manifest, Broke> {
    let store = house.store(&record.store)?;
    let loaded = seal::load_manifest(&*store, &record.policy, &record.backup, &house.trusted()?).await;
    let first = |findings: &[crate::domain::check::Finding]| {
        Broke::new(findings.first().map_or("it is bad".to_owned(), |f| format!("{}: {}", f.object, f.message)))
    };
    match loaded {
        Ok(sealed) if sealed.findings.is_empty() => Ok(sealed.manifest),
        Ok(sealed) => Err(first(&sealed.findings)),
        Err(Stop::Found(findings)) => Err(first(&findings)),
        Err(Stop::Broke(broke)) => Err(broke),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::report::tests::house;
    use crate::domain::sample::at;

    #[tokio::test]
    async fn a_drill_that_is_not_there_is_a_gap_and_not_a_silence() {
        let (house, _folder) = house().await;
        let (text, gaps) = write(&house, &house.policies[0], at("2026-11-21T08:00:00Z")).await.unwrap();
        assert!(text.contains("### By hand: restore-latest") && text.contains("There is no backup yet"), "{text}");
        assert_eq!(gaps.len(), 1);
        assert!(gaps[0].contains("restore-logical"));
    }
}
