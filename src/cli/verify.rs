//! `lifeboat verify`.

use std::fmt::Write as _;
use std::sync::Arc;

use comfy_table::{ContentArrangement, Table, presets};

use crate::domain::check::{Broke, Finding};
use crate::domain::ids::{BackupId, RunId};
use crate::domain::ledger::Budget;
use crate::domain::policy::Policy;
use crate::domain::units::ByteSize;
use crate::engine::House;
use crate::engine::house::place;
use crate::engine::verify::{self, Conclusion, Depth, Reading, Report, Target, Verified};
use crate::progress::Progress;
use crate::render::plain;

use super::progress::Bar;
use super::{Cli, Exit, Failure, Output, output, verify_budget, verify_wal};

/// The `schema` of the JSON document.
const SCHEMA: &str = "lifeboat.verify/1";

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A policy, all of whose backups are verified, or the id of one backup (20260131T030000Z-0a1b2c3d).
    #[arg(value_name = "POLICY|BACKUP-ID", required_unless_present = "budget")]
    target: Option<String>,
    /// Look only into this store.
    #[arg(long, value_name = "NAME")]
    store: Option<String>,
    /// Verify the policy's log instead of its backups: every file of it, and that none is missing.
    #[arg(long)]
    wal: bool,
    /// Read only so much (10%, 2GiB or 20m) of what the policy (or every one) has in its stores, copies and log too: what was never read
    /// first, then what was not for the longest time. The next run goes on from there.
    #[arg(long, value_name = "SHARE|SIZE|TIME", conflicts_with = "wal")]
    budget: Option<Budget>,
    /// Use no key: verify lengths, hashes and signature only. That leaves it unproven whether anything decrypts.
    #[arg(long)]
    sealed_only: bool,
}

/// Runs the verb.
pub async fn run(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let house = cli.house()?;
    let target = args.target.as_deref().map(|text| target(&house, text)).transpose()?;
    let store = args.store.as_deref().map(|name| place(&house, name)).transpose().map_err(Failure::usage)?;
    // Without a key in the configuration much can still be verified; a key that cannot be read is an error.
    let opener = if args.sealed_only || house.config.keys.identities.is_empty() { None } else { Some(house.opener()?) };
    if args.wal {
        let Some(Target::Policy(policy)) = &target else {
            let hint = "lifeboat verify POLICY --wal";
            return Err(Failure::usage(Broke::hinted("the log is that of a policy, not of one backup", hint)));
        };
        return verify_wal::run(cli, &house, policy, store.as_ref(), opener.as_ref()).await;
    }
    let words = args.target.as_deref().unwrap_or("verify");
    let bar = Arc::new(Bar::new(words));
    let reading = Reading {
        opener,
        trusted: house.trusted()?,
        threads: house.config.limits.parallel,
        progress: Arc::clone(&bar) as Arc<dyn Progress>,
    };
    let target = match (args.budget, target) {
        (None, Some(target)) => target,
        (None, None) => {
            return Err(Failure::usage(Broke::hinted("nothing to verify is named", "lifeboat verify POLICY")));
        }
        (Some(budget), target) => {
            let policies = of_target(&house, target)?;
            return verify_budget::run(cli, &house, &policies, store.as_ref(), budget, &reading, &bar).await;
        }
    };
    let (run, report) = verify::verify(&house, &target, store.as_ref(), &reading).await?;
    bar.finish();
    match cli.output {
        Output::Json => output::print_json(&document(words, run, &report)),
        Output::Table => output::print(&table(&report)),
    }
    Ok(exit(&report))
}

/// Whose stores a budget is spent on.
fn of_target(house: &House, target: Option<Target>) -> Result<Vec<&Policy>, Failure> {
    match target {
        None if house.policies.is_empty() => {
            Err(Failure::usage(Broke::hinted("no policy is configured", "`lifeboat init URL` writes a first one")))
        }
        None => Ok(house.policies.iter().collect()),
        Some(Target::Policy(name)) => Ok(vec![house.policy(name.as_str()).map_err(Failure::usage)?]),
        Some(Target::Backup(_)) => {
            let hint = "name a policy, or none for all of them; one backup is read as a whole without --budget";
            Err(Failure::usage(Broke::hinted("a budget is for a policy, not for one backup", hint)))
        }
    }
}

/// A backup id looks like nothing else; everything else is a policy's name.
fn target(house: &House, text: &str) -> Result<Target, Failure> {
    if let Ok(backup) = text.parse::<BackupId>() {
        return Ok(Target::Backup(backup));
    }
    house.policy(text).map(|policy| Target::Policy(policy.name.clone())).map_err(Failure::usage)
}

fn exit(report: &Report) -> Exit {
    match report.conclusion() {
        Conclusion::NothingFound => Exit::Ok,
        Conclusion::Found => Exit::Finding,
        Conclusion::Broke => Exit::Error,
        Conclusion::Unproven => Exit::Unproven,
    }
}

/// For machines.
fn document(target: &str, run: Option<RunId>, report: &Report) -> serde_json::Value {
    serde_json::json!({
        "schema": SCHEMA,
        "target": target,
        "run": run,
        "conclusion": report.conclusion(),
        "exit_code": exit(report) as u8,
        "backups": report.backups,
        "troubles": report.troubles,
        "unproven": report.unproven,
    })
}

/// For people: a line a backup, then everything that is wrong, then the conclusion.
fn table(report: &Report) -> String {
    let mut text = String::new();
    if !report.backups.is_empty() {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(["backup", "store", "recovery point", "parts", "stored", "verified", "result"]);
        for backup in &report.backups {
            table.add_row(row(backup));
        }
        let _ = writeln!(text, "{table}");
    }
    let mut section = |mark: &str, lines: Vec<String>| {
        for line in lines {
            let _ = writeln!(text, "{mark} {line}");
        }
    };
    for backup in &report.backups {
        let name = format!("{}/{} in {}", backup.policy, backup.backup, backup.store);
        section("✗", backup.findings.iter().map(|finding| format!("{name}: {}", sentence(finding))).collect());
        section("!", backup.broke.iter().map(|broke| hinted(&name, &broke.error, broke.hint.as_deref())).collect());
    }
    let troubles = report.troubles.iter();
    section("!", troubles.map(|trouble| hinted(&trouble.place, &trouble.error, trouble.hint.as_deref())).collect());
    let mut unproven = report.unproven.clone();
    for reason in report.backups.iter().flat_map(|backup| &backup.unproven) {
        // Every backup has the same reasons: said once.
        if !unproven.contains(reason) {
            unproven.push(reason.clone());
        }
    }
    section("?", unproven.into_iter().map(|reason| format!("unproven: {}", plain(&reason))).collect());
    text + &conclusion(report)
}

fn row(backup: &Verified) -> [String; 7] {
    let result = match (&backup.broke, backup.findings.len(), backup.unproven.is_empty()) {
        (_, count @ 1.., _) => counted(count as u64, "finding"),
        (Some(_), _, _) => "could not be read".to_owned(),
        (None, 0, false) => "unproven".to_owned(),
        (None, 0, true) => "right".to_owned(),
    };
    let depth = match backup.depth {
        Depth::Nothing => "nothing",
        Depth::Sealed => "lengths, SHA-256, signature",
        Depth::Opened => "signature, SHA-256, decrypted, BLAKE3",
    };
    [
        backup.backup.to_string(),
        backup.store.to_string(),
        backup.recovery_point.map_or("?".to_owned(), |at| format!("{at:.0}")),
        format!("{} of {}", backup.parts, backup.parts_of),
        backup.sealed_bytes.to_string(),
        depth.to_owned(),
        result,
    ]
}

pub(super) fn sentence(finding: &Finding) -> String {
    let mut text = plain(&format!("{}: {} [{}]", finding.object, finding.message, finding.code));
    if let (Some(expected), Some(found)) = (&finding.expected, &finding.found) {
        let _ = write!(text, "\n    expected {}\n    found    {}", plain(expected), plain(found));
    }
    text
}

pub(super) fn hinted(place: &str, error: &str, hint: Option<&str>) -> String {
    let text = plain(&format!("{place}: {error}"));
    hint.map_or_else(|| text.clone(), |hint| format!("{text}\n    hint: {}", plain(hint)))
}

fn conclusion(report: &Report) -> String {
    let read = ByteSize(report.backups.iter().map(|backup| backup.sealed_bytes.0).sum());
    let parts = report.backups.iter().map(|backup| backup.parts).sum();
    let looked =
        format!("{} ({}, {read}) read back", counted(report.backups.len() as u64, "backup"), counted(parts, "part"));
    match report.conclusion() {
        Conclusion::NothingFound => format!("nothing found: {looked}, all right"),
        Conclusion::Found => format!("FOUND: {} in {looked}", counted(report.count_findings(), "finding")),
        Conclusion::Broke => format!("could not be verified: {looked} until then; see above"),
        Conclusion::Unproven => format!("unproven: {looked}, nothing wrong was seen, and not everything was looked at"),
    }
}

pub(super) fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::observed::Observed;
    use crate::domain::units::Span;
    use crate::engine::verify::Trouble;

    fn verified() -> Verified {
        Verified {
            store: "primary".parse().unwrap(),
            policy: "orders".parse().unwrap(),
            backup: "20260131T030000Z-0a1b2c3d".parse().unwrap(),
            method: None,
            recovery_point: Some("2026-01-31T03:00:00Z".parse().unwrap()),
            depth: Depth::Opened,
            parts: 3,
            parts_of: 3,
            sealed_bytes: ByteSize(1 << 20),
            plain_bytes: ByteSize(3 << 20),
            signed_by: Observed::Known("key".to_owned()),
            signer_trusted: true,
            findings: vec![],
            unproven: vec![],
            broke: None,
            took: Span::ZERO,
        }
    }

    fn report(backup: Verified) -> Report {
        Report { backups: vec![backup], ..Report::default() }
    }

    #[test]
    fn people_read_what_was_verified_what_is_wrong_and_what_is_not_known() {
        let good = table(&report(verified()));
        for part in ["20260131T030000Z-0a1b2c3d", "3 of 3", "1.0 MiB", "nothing found: 1 backup (3 parts, 1.0 MiB)"] {
            assert!(good.contains(part), "{part}: {good}");
        }
        let finding = Finding::new("part_hash", "part base/00001.zst.age", "it was changed").with("aa", "bb");
        let steering = Finding::new("part_hash", "part \u{1b}]0;x\u{7}", "gone").with("\u{1b}[2J", "bb");
        let bad = table(&report(Verified { findings: vec![finding, steering], ..verified() }));
        assert!(!bad.contains('\u{1b}') && !bad.contains('\u{7}'), "{bad:?}");
        for part in [
            "FOUND: 2 findings in",
            "part base/00001.zst.age: it was changed [part_hash]",
            "expected aa",
            "found    bb",
        ] {
            assert!(bad.contains(part), "{part}: {bad}");
        }
        let dark = table(&report(Verified { depth: Depth::Sealed, unproven: vec!["no key".to_owned()], ..verified() }));
        assert!(dark.contains("? unproven: no key") && !dark.contains("nothing found"), "{dark}");
        let trouble = Trouble { place: "far".to_owned(), error: "gone".to_owned(), hint: Some("mount it".to_owned()) };
        let broke = table(&Report { troubles: vec![trouble], ..report(verified()) });
        assert!(broke.contains("! far: gone") && broke.contains("hint: mount it"), "{broke}");
    }

    #[test]
    fn exit_codes_follow_the_worst_that_is_certain() {
        let finding = Finding::new("x", "y", "z");
        let broke = Some(Broke::new("gone"));
        let unproven = vec!["no key".to_owned()];
        for (backup, expected) in [
            (verified(), Exit::Ok),
            (Verified { unproven: unproven.clone(), ..verified() }, Exit::Unproven),
            (Verified { depth: Depth::Sealed, ..verified() }, Exit::Unproven),
            (Verified { broke: broke.clone(), ..verified() }, Exit::Error),
            (Verified { broke: broke.clone(), unproven, ..verified() }, Exit::Error),
            (Verified { broke, findings: vec![finding], ..verified() }, Exit::Finding),
        ] {
            let report = report(backup);
            assert_eq!(exit(&report), expected, "{report:?}");
            let document = document("orders", None, &report);
            assert_eq!(document["exit_code"], expected as u8);
            assert_eq!(document["schema"], "lifeboat.verify/1");
            assert_eq!(document["backups"][0]["backup"], "20260131T030000Z-0a1b2c3d");
        }
        assert_eq!(exit(&Report::default()), Exit::Unproven);
    }
}
