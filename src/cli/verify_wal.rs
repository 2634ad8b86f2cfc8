//! `lifeboat verify POLICY --wal`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::verify::{counted, sentence};
use super::{Cli, Exit, Failure, Output, output};
use crate::domain::ids::{PlaceName, PolicyName};
use crate::engine::House;
use crate::engine::ledger::{Eyes, Record};
use crate::engine::wal::{self, Audit, Limit};
use crate::render::plain;
use crate::seal::{Opener, Witness};

/// The `schema` of the JSON document.
const SCHEMA: &str = "lifeboat.verify-wal/1";

pub(super) async fn run(
    cli: &Cli,
    house: &House,
    policy: &PolicyName,
    only: Option<&PlaceName>,
    opener: Option<&Opener>,
) -> Result<Exit, Failure> {
    let trusted = house.trusted()?;
    let plan = house.policy(policy.as_str()).map_err(Failure::usage)?;
    // A second store is looked into when it is named.
    let stores = match only {
        Some(only) => BTreeMap::from([(only.clone(), house.store(only)?)]),
        None => house.stores_of(plan)?,
    };
    let outside = wal::outside(house, plan).await;
    let record = Record::new(house, crate::clock::now(), BTreeMap::from([(policy.clone(), None)]));
    let witness = Arc::clone(&record) as Arc<dyn Witness>;
    let eyes = Eyes { trusted: &trusted, opener, witness: Some(&witness) };
    let mut audits = Vec::new();
    for (place, store) in &stores {
        let outside = outside.as_ref().filter(|outside| outside.place == *place);
        let audit = wal::audit(store, place, plan, &eyes, outside, house.config.limits.parallel).await;
        // What was read is written down, whatever ended it.
        record.flush().await?;
        audits.push(audit?);
    }
    let exit = exit(&audits, trusted.is_empty());
    match cli.output {
        Output::Json => output::print_json(&serde_json::json!({
            "schema": SCHEMA,
            "policy": policy,
            "exit_code": exit as u8,
            "stores": audits,
        })),
        Output::Table => output::print(&table(policy, &audits, exit)),
    }
    Ok(exit)
}

/// Nothing seen, or seen only from outside, proves nothing.
fn exit(audits: &[Audit], nobody_vouches: bool) -> Exit {
    let found = audits.iter().any(|audit| !audit.findings.is_empty());
    let verified: u64 = audits.iter().map(|audit| audit.verified).sum();
    match (found, verified) {
        (true, _) => Exit::Finding,
        (false, 0) => Exit::Unproven,
        (false, _) if nobody_vouches || audits.iter().any(|audit| !audit.opened) => Exit::Unproven,
        (false, _) => Exit::Ok,
    }
}

fn table(policy: &PolicyName, audits: &[Audit], exit: Exit) -> String {
    let mut text = String::new();
    // A String takes all that is written to it.
    for audit in audits {
        let _ = writeln!(text, "The log of {policy} in {}", audit.store);
        for stretch in &audit.found {
            let commit = stretch.last_commit.map(|last| format!(", last commit {}", last.at)).unwrap_or_default();
            let count = counted(stretch.segments, "segment");
            let _ = writeln!(
                text,
                "  FOUND    timeline {}: {} to {}, {count}{commit}",
                stretch.timeline, stretch.first, stretch.last
            );
        }
        for name in &audit.missing {
            let _ = writeln!(text, "  MISSING  {name}");
        }
        for Limit { hole, limits } in &audit.acknowledged {
            let limits: Vec<String> = limits.iter().map(ToString::to_string).collect();
            let limits = match limits.as_slice() {
                [] => "it limits no backup".to_owned(),
                [one] => format!("it limits backup {one}"),
                [first, .., last] => format!("it limits backups {first} to {last}"),
            };
            let _ = writeln!(text, "  ACKNOWLEDGED {} to {}: {}; {limits}", hole.from, hole.to, plain(&hole.words()));
        }
        for one in &audit.uploading {
            let _ = writeln!(text, "  UPLOADING {}: {}", one.name, plain(&one.words));
        }
        for one in &audit.delayed {
            let (age, why) = (one.age, plain(&one.why));
            let _ = writeln!(text, "  DELAYED  {}: finished by {:.0}, {age} ago; {why}", one.segment, one.finished_by);
        }
        for remark in &audit.remarks {
            let _ = writeln!(text, "  ! {}", plain(remark));
        }
        for (backup, words) in &audit.reach {
            let _ = writeln!(text, "  backup {backup} can be brought {}", plain(words));
        }
        for finding in &audit.findings {
            let _ = writeln!(text, "✗ {}", sentence(finding));
        }
    }
    let files: u64 = audits.iter().map(|audit| audit.verified).sum();
    let findings: usize = audits.iter().map(|audit| audit.findings.len()).sum();
    let looked = format!("{} of the log read back", counted(files, "file"));
    let _ = match exit {
        Exit::Ok => writeln!(text, "nothing found: {looked}, all right"),
        Exit::Finding => writeln!(text, "FOUND: {} in {looked}", counted(findings as u64, "finding")),
        _ if files == 0 => writeln!(text, "unproven: there is no log of {policy} in its stores"),
        _ => writeln!(
            text,
            "unproven: {looked}, nothing wrong was seen, and nothing was opened or nobody vouches for it"
        ),
    };
    text
}
