//! `lifeboat drill --mutate`: the drill itself is tested.

use super::progress::Bar;
use super::{Cli, Exit, Failure, Output, output, report};
use crate::domain::check::Broke;
use crate::domain::drill::{Drill, Step};
use crate::domain::mutation::{DrillTest, Mutation};
use crate::domain::policy::Policy;
use crate::engine::mutate::{self, Asked};
use crate::engine::{House, house};
use crate::render;

/// Arguments of a test.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Test the drill: repeat it on copies of the backup with one known fault each, and report which faults turn it red.
    /// The backup itself is not touched. Takes one drill's time for each fault (exit code 3: a fault was not seen).
    #[arg(long)]
    mutate: bool,
    /// With --mutate: only these faults, by name.
    #[arg(long, value_name = "NAME", value_delimiter = ',', requires = "mutate")]
    only: Vec<String>,
    /// With --mutate: which faults apply to the backup, and why others do not; nothing is run.
    #[arg(long, requires = "mutate")]
    list: bool,
    /// With --mutate: choose tables, parts and the like as the test with this seed did.
    #[arg(long, value_name = "N", requires = "mutate")]
    seed: Option<u32>,
}

impl Args {
    /// Whether a test is wanted at all.
    pub fn wanted(&self) -> bool {
        self.mutate
    }

    fn asked(&self) -> Result<Asked, Failure> {
        let mutation = |name: &String| {
            let known = Mutation::ALL.iter().map(|one| one.as_str());
            name.parse().map_err(|_| Failure::usage(house::unknown("mutation", name, known)))
        };
        let only: Vec<Mutation> = self.only.iter().map(mutation).collect::<Result<_, _>>()?;
        let random = || getrandom::u32().map_err(|error| Broke::new(format!("no random number could be had: {error}")));
        let seed = self.seed.map_or_else(random, Ok)?;
        Ok(Asked { only: (!only.is_empty()).then_some(only), seed })
    }
}

/// Tests these drills. Exit code 0: every fault that was tried was seen.
pub async fn run(cli: &Cli, house: &House, policy: &Policy, drills: &[Drill], args: &Args) -> Result<Exit, Failure> {
    let asked = args.asked()?;
    if let Some(drill) = drills.iter().find(|drill| drill.steps.iter().any(|step| matches!(step, Step::Sabotage(_)))) {
        let error = format!("drill {} breaks its scratch itself, so it is never proven", drill.name);
        return Err(Failure::usage(Broke::hinted(error, "test a drill without `sabotage` steps")));
    }
    if args.list {
        return list(cli, house, policy, drills, &asked).await;
    }
    let mut tests = Vec::new();
    for drill in drills {
        let bar = Bar::new(&format!("{}/{}", policy.name, drill.name));
        // A test that was interrupted or broke has no score: unproven, as a drill would be.
        let unproven = |broke: Broke| Failure { exit: Exit::Unproven, text: broke.error, hint: broke.hint };
        let test = mutate::run(house, policy, drill, &asked, &bar).await.map_err(unproven)?;
        bar.finish();
        let page = report::write_test_page(house, &test);
        if cli.output == Output::Table {
            output::print(&render::mutations::terminal(&test, output::width(), output::color_on_stdout()));
            match page {
                Ok(path) => output::print(&format!("report: {}", path.display())),
                Err(failure) => output::warn(&Broke { error: failure.text, hint: failure.hint }),
            }
        }
        tests.push(test);
    }
    if cli.output == Output::Json {
        output::print_json(&render::mutations::document(&tests));
    }
    Ok(exit(&tests))
}

async fn list(cli: &Cli, house: &House, policy: &Policy, drills: &[Drill], asked: &Asked) -> Result<Exit, Failure> {
    let mut document = Vec::new();
    for drill in drills {
        let choices = mutate::list(house, policy, drill, asked).await?;
        if cli.output == Output::Table {
            output::print(&render::mutations::list(&drill.name, &choices, output::width(), output::color_on_stdout()));
        }
        document.push(render::mutations::list_document(&drill.name, asked.seed, &choices));
    }
    if cli.output == Output::Json {
        output::print_json(&serde_json::json!({ "schema": "lifeboat.mutation-list/1", "drills": document }));
    }
    Ok(Exit::Ok)
}

/// A fault that was not seen is a finding about the drill; a score that is not whole proves nothing.
pub(super) fn exit(tests: &[DrillTest]) -> Exit {
    let any = |wanted: fn(&DrillTest) -> bool| tests.iter().any(wanted);
    if any(|test| test.score.is_some_and(|score| score.caught < score.applied)) {
        Exit::Finding
    } else if tests.is_empty() || any(|test| test.score.is_none_or(|score| score.applied == 0 || score.broke > 0)) {
        Exit::Unproven
    } else {
        Exit::Ok
    }
}
