//! `lifeboat status`.

use jiff::Timestamp;

use crate::domain::policy::Policy;
use crate::domain::transcript::Verdict;
use crate::domain::units::Span;
use crate::engine::House;
use crate::judge::freshness::{Known, standing};
use crate::judge::{ledger, spool};
use crate::render::status::{self, Stand};

use super::{Cli, Exit, Failure, Output, output};

/// Runs and drills that are looked back on. A policy's daily backups and weekly drills of several years fit in.
const LOOK_BACK: usize = 1_000;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this policy, in full.
    #[arg(value_name = "POLICY")]
    policy: Option<String>,
    /// How far exposure is looked back on: its worst, and for how much of the time it was within the RPO.
    #[arg(long, value_name = "TIME", default_value = "30d")]
    window: Span,
}

/// Runs the verb.
pub async fn run(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let house = cli.house()?;
    let (text, exit) = show(&house, args, cli.output, crate::clock::now()).await?;
    output::print(&text);
    Ok(exit)
}

async fn show(house: &House, args: &Args, form: Output, now: Timestamp) -> Result<(String, Exit), Failure> {
    let policies: Vec<&Policy> = match &args.policy {
        Some(name) => vec![house.policy(name).map_err(Failure::usage)?],
        None => house.policies.iter().collect(),
    };
    let mut stands = Vec::with_capacity(policies.len());
    for policy in policies {
        stands.push(stand(house, policy, args.window, now).await?);
    }
    let (width, color) = (output::width(), output::color_on_stdout());
    let text = match (form, stands.as_slice()) {
        (Output::Json, _) => format!("{:#}", status::document(&stands, now)),
        (Output::Table, [only]) if args.policy.is_some() => status::full(only, now, width, color),
        (Output::Table, all) => status::lines(all, now, width, color),
    };
    Ok((text, exit(status::overall(&stands))))
}

async fn stand<'a>(house: &House, policy: &'a Policy, back: Span, now: Timestamp) -> Result<Stand<'a>, Failure> {
    let artifacts = house.catalog.artifacts(&policy.name).await?;
    let transcripts = house.catalog.transcripts(&policy.name, LOOK_BACK).await?;
    let runs = house.catalog.runs(Some(&policy.name), LOOK_BACK).await?;
    let tests = house.catalog.drill_tests(&policy.name, LOOK_BACK).await?;
    let coverage = house.catalog.covered(&policy.name, now.checked_sub(back.0).unwrap_or(Timestamp::MIN)).await?;
    let known = Known { artifacts: &artifacts, coverage: &coverage, transcripts: &transcripts, runs: &runs };
    let mut standing = standing(policy, known, back, now);
    let since = ledger::since(policy.read_back_within, now);
    let read_back = ledger::of_backups(&artifacts, &house.catalog.shelves_read(&policy.name, since).await?);
    ledger::weigh(&mut standing, read_back.as_ref());
    spool::weigh(&mut standing, crate::engine::wal::waiting(policy).await.as_ref());
    let copies = house.catalog.copies(&policy.name).await?;
    Ok(Stand { policy, standing, artifacts, transcripts, runs, tests, copies, read_back })
}

/// The exit code of a verdict.
pub(super) fn exit(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Proven => Exit::Ok,
        Verdict::Failed => Exit::Finding,
        Verdict::Unproven => Exit::Unproven,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::report::tests::house;
    use crate::domain::policy::Method;
    use crate::domain::run::Event;
    use crate::domain::sample::{self, at};

    #[tokio::test]
    async fn exit_codes_follow_the_worst_policy() {
        let (house, _folder) = house().await;
        let all = Args { policy: None, window: Span::from_secs(86_400) };
        let now = at("2026-11-20T15:00:00Z");
        let (text, exit) = show(&house, &all, Output::Table, now).await.unwrap();
        assert_eq!(exit, Exit::Unproven);
        assert!(text.contains("lifeboat backup orders"), "{text}");

        let policy = &house.policies[0].name;
        house.catalog.adopt(now, vec![sample::artifact(Method::Physical, "2026-11-20T03:00:00Z", 1)]).await.unwrap();
        for name in ["restore-latest", "restore-logical"] {
            let mut transcript = sample::judged(sample::physical());
            transcript.drill.name = name.parse().unwrap();
            let event = Event::Drilled(Box::new(transcript));
            house.catalog.append(now, policy, sample::run(1), event).await.unwrap();
        }
        let (text, exit) = show(&house, &all, Output::Table, now).await.unwrap();
        assert_eq!(exit, Exit::Ok, "{text}");
        assert!(text.contains("9 hours ago"), "{text}");

        let event = Event::Drilled(Box::new(sample::judged(sample::logical_with_findings())));
        house.catalog.append(now, policy, sample::run(2), event).await.unwrap();
        let one = Args { policy: Some("orders".to_owned()), window: Span::from_secs(86_400) };
        let (text, exit) = show(&house, &one, Output::Json, now).await.unwrap();
        assert_eq!(exit, Exit::Finding);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["schema"], "lifeboat.status/1");
        assert_eq!(json["policies"][0]["verdict"], "failed");
        let (text, _) = show(&house, &one, Output::Table, now).await.unwrap();
        assert!(text.contains("Backup jobs") && text.contains("worst"), "{text}");

        let wrong = Args { policy: Some("order".to_owned()), window: Span::from_secs(86_400) };
        let failure = show(&house, &wrong, Output::Table, now).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.hint.unwrap().contains("orders"));
    }
}
