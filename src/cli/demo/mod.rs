//! `lifeboat demo`: the whole main job on a throw-away server.
//!
//! It is the product's own verbs, one after the other, on real parts: nothing here is staged but the disaster. It ends with
//! exit code 0 only if both drills are proven *and* both planted faults and the second before the mistake are found.

mod mistake;
mod shop;
mod source;
mod story;

use std::path::{Path, PathBuf};
use std::time::Instant;

use self::shop::Customers;
use self::source::Source;
use self::story::Story;
use super::{Cli, Exit, Failure, init, output, report};
use crate::domain::check::{Broke, CheckName, Outcome};
use crate::domain::config::StorePlace;
use crate::domain::drill::{Drill, Sabotage, Step};
use crate::domain::policy::Policy;
use crate::domain::transcript::{Transcript, Verdict};
use crate::domain::units::{ByteSize, Span};
use crate::engine::{self, House, interrupt};
use crate::load;
use crate::programs::Programs;
use crate::progress::Silent;
use crate::render;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Keep the throw-away folder (store, keys, configuration) and say where it is.
    #[arg(long)]
    keep: bool,
    /// Where the reports go: the only thing that stays.
    #[arg(long, value_name = "DIR", default_value = "demo-reports")]
    reports: PathBuf,
}

/// Runs the verb.
pub async fn run(_cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let folder = tempfile::Builder::new()
        .prefix("lifeboat-demo-")
        .tempdir()
        .map_err(|error| Broke::new(format!("no temporary folder could be made: {error}")))?;
    source::open_to_walk(folder.path())?;
    let done = tokio::select! {
        done = perform(args, folder.path()) => done,
        signal = interrupt::asked_to_stop() => Err(Broke::new(format!("the demo was interrupted by {signal}")).into()),
    };
    if args.keep {
        output::print(&format!("kept: {}", folder.keep().display()));
    }
    done
}

async fn perform(args: &Args, folder: &Path) -> Result<Exit, Failure> {
    let story = Story::begin();
    let programs = Programs::newest(&[], &["initdb", "postgres", "pg_dump", "pg_restore", "pg_basebackup"])
        .map_err(Broke::from)?;

    story.chapter("A PostgreSQL server of our own");
    let mut source = Source::start(folder, &programs).await?;
    story.say(&format!("PostgreSQL {} on a socket, nothing else", programs.version));
    let size = shop::fill(&source.endpoint("postgres"), &|what| story.say(what)).await?;
    story.say(&format!("database {}: {}", shop::DATABASE, ByteSize(size)));

    story.chapter("lifeboat init: a configuration, a policy, keys");
    let house = configure(folder, &source.url(shop::DATABASE), &args.reports)?;
    let policy = house.policy(shop::DATABASE)?;
    story.say(&format!(
        "policy {}: RPO {}, RTO {}, two recipients (a working key, an escrow key)",
        policy.name, policy.objectives.rpo, policy.objectives.rto
    ));

    story.chapter("lifeboat backup, both ways, while customers order");
    let customers = Customers::arrive(&source.endpoint("postgres")).await?;
    for job in &policy.backups {
        let report = engine::backup::run(&house, policy, job, &Silent).await?;
        story.say(&report.one_line());
    }

    story.chapter("lifeboat wal stream, and a mistake: back to the second before it");
    let saw_mistake = mistake::undo(&house, policy, &source, &story).await?;

    story.chapter("The disaster: kill -9, and the data folder is deleted");
    source.lose()?;
    let lost = Instant::now();
    let orders = customers.leave().await;
    story.say(&format!("{orders} orders were placed meanwhile; the server is gone"));

    story.chapter("lifeboat drill: bring it back in a sandbox, check everything, judge");
    let mut proofs = Vec::new();
    for drill in drills(&house, policy)? {
        let transcript = engine::drill::run(&house, policy, &drill, &Silent).await?;
        output::print(&render::report::terminal(&transcript, output::width(), output::color_on_stdout()));
        let page = write_page(&args.reports, &transcript)?;
        proofs.push((transcript, page));
    }

    story.chapter("Would it have noticed? One byte of a copy of the artifact is flipped");
    let tampered = with_flipped_byte(&house, folder)?;
    let drill = drills(&house, policy)?.swap_remove(0);
    let flipped = engine::drill::run(&tampered, policy, &drill, &Silent).await?;
    let saw_flip = story.planted(&flipped, CheckName::Manifest);

    story.chapter("Would it have noticed? One table is dropped in a copy of the scratch");
    let drill = with_dropped_table(drill);
    let dropped = engine::drill::run(&house, policy, &drill, &Silent).await?;
    let saw_drop = story.planted(&dropped, CheckName::Completeness);
    write_page(&args.reports, &dropped)?;

    story.chapter("What was proved");
    story.sum_up(&proofs, lost.elapsed());
    let proven = proofs.iter().all(|(transcript, _)| transcript.judgement.verdict == Verdict::Proven);
    if proven && saw_flip && saw_drop && saw_mistake {
        Ok(Exit::Ok)
    } else if proven {
        Err(Broke::new("a planted fault, or the mistake, was not found: that is a defect of lifeboat itself").into())
    } else {
        Ok(Exit::Finding)
    }
}

/// What a person would type: `lifeboat init URL`, then read it back.
fn configure(folder: &Path, url: &str, reports: &Path) -> Result<House, Failure> {
    let home = folder.join("home");
    init::write(&home, url, shop::DATABASE, None)?;
    let loaded = load::load(&home.join("lifeboat.toml")).map_err(|errors| Broke::new(errors.render(false)))?;
    let mut house = House::build(loaded)?;
    house.config.scratch.dir = folder.join("scratch");
    house.config.reports = reports.to_owned();
    Ok(house)
}

fn drills(house: &House, policy: &Policy) -> Result<Vec<Drill>, Broke> {
    policy.drills.iter().map(|used| house.drill(&used.drill).cloned()).collect()
}

/// The same house over a copy of its store in which one byte is not what it was.
fn with_flipped_byte(house: &House, folder: &Path) -> Result<House, Broke> {
    let broke = |error: std::io::Error| Broke::new(format!("the store could not be copied: {error}"));
    let mut config = house.config.clone();
    for (name, store) in &mut config.stores {
        // The demo made it, a folder.
        let StorePlace::File { path } = &mut store.place else { continue };
        let copy = folder.join(format!("tampered-{name}"));
        for entry in walkdir::WalkDir::new(&*path).into_iter().flatten() {
            let Ok(below) = entry.path().strip_prefix(&*path) else { continue };
            let target = copy.join(below);
            if entry.file_type().is_dir() {
                std::fs::create_dir_all(&target).map_err(broke)?;
                continue;
            }
            let mut bytes = std::fs::read(entry.path()).map_err(broke)?;
            if below.ends_with("base/00000.zst.age") {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x01;
            }
            std::fs::write(&target, bytes).map_err(broke)?;
        }
        *path = copy;
    }
    Ok(House {
        config,
        policies: house.policies.clone(),
        drills: house.drills.clone(),
        warnings: Vec::new(),
        catalog: std::sync::Arc::clone(&house.catalog),
        outbox: std::sync::Arc::clone(&house.outbox),
        queue: std::sync::Arc::clone(&house.queue),
        stand_ins: Default::default(),
        only: None,
        buckets: Default::default(),
        fence: None,
    })
}

fn with_dropped_table(mut drill: Drill) -> Drill {
    let after = drill.steps.iter().position(|step| matches!(step, Step::Restore(_))).map_or(0, |at| at + 1);
    let sabotage = Sabotage { sql: "drop table shop.line_item".to_owned(), database: None };
    drill.steps.insert(after, Step::Sabotage(sabotage));
    drill
}

fn write_page(reports: &Path, transcript: &Transcript) -> Result<PathBuf, Failure> {
    let path = reports.join(format!("{}-{}.html", transcript.drill.name, transcript.run));
    report::write_page(&path, transcript)?;
    Ok(path.canonicalize().unwrap_or(path))
}

/// Whether a check of a drill turned red, and what it named: the table before what went with it.
fn red(transcript: &Transcript, name: CheckName) -> Option<String> {
    transcript.checks.iter().filter(|check| check.name == name).find_map(|check| match &check.outcome {
        Outcome::Failed(findings) => {
            let gravest = findings.iter().find(|finding| finding.code == "table_missing").or(findings.first());
            gravest.map(|finding| format!("{}: {}", finding.object, finding.message))
        }
        Outcome::Passed | Outcome::Broke { .. } | Outcome::Unchecked(_) => None,
    })
}

/// A span of the monotonic clock, for people.
fn spell(duration: std::time::Duration) -> String {
    Span::from_std(duration).to_string()
}
