//! `lifeboat copies`: the stores beside each other, and 3-2-1-1-0.

use comfy_table::{ContentArrangement, Table, presets};

use super::progress::Bar;
use super::{Cli, Exit, Failure, Output, output, status};
use crate::domain::check::Broke;
use crate::domain::copies::{Held, ReadBy, Spread};
use crate::domain::drift::{Drift, Severity};
use crate::domain::observed::Observed;
use crate::domain::policy::Policy;
use crate::domain::transcript::Verdict;
use crate::engine::House;
use crate::engine::copies::{self, Looking, Seen};
use crate::engine::immutability;
use crate::judge::copies::{Judged, Ruled};
use crate::render::plain;

/// The `schema` of the JSON document.
const SCHEMA: &str = "lifeboat.copies/1";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Lists and signed manifests are compared: what is missing, cut or late is found. A change of the same length is only found by reading: without --read it is unproven that there is none. The rule of 3-2-1-1-0 is shown beside it; with --rule it counts for the exit code.")]
pub struct Args {
    /// Which policy's; without it, those of every policy that declares copies.
    #[arg(value_name = "POLICY")]
    policy: Option<String>,
    /// Read every byte in every store, and compare its hash. No key is needed.
    #[arg(long)]
    read: bool,
    /// Fail if the rule of 3-2-1-1-0 is not met, too.
    #[arg(long)]
    rule: bool,
}

/// Runs the verb.
pub async fn run(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let house = cli.house()?;
    let policies = policies(&house, args).map_err(Failure::usage)?;
    let mut all: Vec<(Seen, Judged)> = Vec::new();
    for policy in policies {
        let bar = Bar::new(policy.name.as_str());
        // Tried by `check`; nothing is tried here.
        let immutable = immutability::known(&house, policy, crate::clock::now()).await?;
        let looking = Looking { read: args.read, ledger: true, immutable: &immutable, progress: &bar };
        let seen = copies::look(&house, policy, looking).await;
        bar.finish();
        let seen = seen?;
        let judged = seen.judged(crate::clock::now());
        if cli.output == Output::Table {
            output::print(&table(&seen, &judged, args.read));
        }
        all.push((seen, judged));
    }
    let verdict = worst(all.iter().map(|(_, judged)| verdict(judged, args.rule)));
    let exit = status::exit(verdict);
    if cli.output == Output::Json {
        let policies: Vec<_> = all.iter().map(|(seen, judged)| document(seen, judged, args)).collect();
        output::print_json(&serde_json::json!({
            "schema": SCHEMA, "exit_code": exit as u8, "verdict": verdict, "read": args.read, "policies": policies,
        }));
    }
    Ok(exit)
}

fn policies<'a>(house: &'a House, args: &Args) -> Result<Vec<&'a Policy>, Broke> {
    if let Some(name) = &args.policy {
        return Ok(vec![house.policy(name)?]);
    }
    let declares = |policy: &&Policy| policy.backups.iter().any(|job| !job.copies.is_empty());
    let all: Vec<&Policy> = house.policies.iter().filter(declares).collect();
    if all.is_empty() {
        let hint = "declare them in a policy: [[backup]] copies = [\"STORE\"]; or name a policy";
        return Err(Broke::hinted("no policy declares copies", hint));
    }
    Ok(all)
}

fn verdict(judged: &Judged, rule: bool) -> Verdict {
    let compared = judged.comparison();
    if rule { worst([compared, judged.rule()].into_iter()) } else { compared }
}

fn worst(verdicts: impl Iterator<Item = Verdict>) -> Verdict {
    let all: Vec<Verdict> = verdicts.collect();
    let order = [Verdict::Failed, Verdict::Unproven];
    order.into_iter().find(|one| all.contains(one)).unwrap_or(Verdict::Proven)
}

fn document(seen: &Seen, judged: &Judged, args: &Args) -> serde_json::Value {
    serde_json::json!({
        "policy": seen.policy,
        "verdict": verdict(judged, args.rule),
        "comparison": judged.comparison(),
        "rule": judged.rule(),
        "source_site": seen.source_site,
        "stores": seen.places,
        "terms": seen.terms,
        "backups": seen.backups,
        "logs": seen.logs,
        "drift": judged.compared.iter().chain(&judged.short).collect::<Vec<_>>(),
        "rules": judged.rules,
        "rules_by_backup": judged.backups,
    })
}

fn table(seen: &Seen, judged: &Judged, read: bool) -> String {
    let mut text = format!("Copies of {}\n", seen.policy);
    if !seen.backups.is_empty() {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
        let stores = seen.places.iter().map(|place| place.name.to_string());
        table.set_header(["backup".to_owned(), "job".to_owned()].into_iter().chain(stores));
        for spread in &seen.backups {
            table.add_row(row(seen, spread, read));
        }
        text.push_str(&format!("{table}\n"));
    }
    for log in &seen.logs {
        let there = log.files.saturating_sub(log.missing);
        text.push_str(&format!("the log in {}: {there} of {} files\n", log.store, log.files));
    }
    for drift in &judged.compared {
        text.push_str(&line(drift));
    }
    text.push_str("3-2-1-1-0\n");
    for ruled in &judged.rules {
        text.push_str(&rule(ruled));
    }
    text + &conclusion(judged)
}

fn row(seen: &Seen, spread: &Spread, read: bool) -> Vec<String> {
    let cell = |held: Option<&Held>| match held.map(|held| &held.seen) {
        None => "–".to_owned(),
        Some(Observed::Absent) => "not there".to_owned(),
        Some(Observed::Unknown(_)) => "not seen".to_owned(),
        Some(Observed::Known(findings)) if !findings.is_empty() => {
            super::verify::counted(findings.len() as u64, "finding")
        }
        Some(Observed::Known(_)) if read => "read, right".to_owned(),
        Some(Observed::Known(_)) if held.is_some_and(|held| held.read_by == Some(ReadBy::Ledger)) => {
            "read back, right".to_owned()
        }
        Some(Observed::Known(_)) => "listed".to_owned(),
    };
    let stores = seen.places.iter().map(|place| cell(spread.held.iter().find(|held| held.store == place.name)));
    [spread.backup.to_string(), spread.job.to_string()].into_iter().chain(stores).collect()
}

fn line(drift: &Drift) -> String {
    let mark = if drift.severity == Severity::Unproven { "? unproven:" } else { "✗" };
    let since = drift.since.map(|at| format!(", since {at:.0}")).unwrap_or_default();
    let text = format!(
        "{mark} {} [{}]\n    declared {}\n    observed {}{since}\n    → {}",
        drift.object, drift.code, drift.declared, drift.observed, drift.mend
    );
    text.lines().map(|line| plain(line) + "\n").collect()
}

fn rule(ruled: &Ruled) -> String {
    let sign = match ruled.verdict {
        Verdict::Proven => "✓",
        Verdict::Failed => "✗",
        Verdict::Unproven => "?",
    };
    format!("  {sign} {}: {} ({})\n", ruled.rule.demand(), ruled.verdict.as_str(), plain(&ruled.reason))
}

fn conclusion(judged: &Judged) -> String {
    let is = |bad: bool| judged.compared.iter().filter(|drift| (drift.severity != Severity::Unproven) == bad).count();
    match judged.comparison() {
        Verdict::Proven => "nothing found: every copy that is due is there, was read, and is right".to_owned(),
        Verdict::Failed => format!("FOUND: {}", super::verify::counted(is(true) as u64, "difference")),
        Verdict::Unproven if !judged.declared => "unproven: the policy declares no copies".to_owned(),
        Verdict::Unproven if judged.backups.is_empty() => "unproven: there is no backup".to_owned(),
        Verdict::Unproven => {
            format!(
                "unproven: nothing wrong was seen, and {} not looked at",
                match is(false) {
                    1 => "one thing was".to_owned(),
                    many => format!("{many} things were"),
                }
            )
        }
    }
}
