//! `lifeboat prune`.

use std::fmt::Write as _;

use super::verify::{counted, hinted, sentence};
use super::{Cli, Exit, Failure, Output, output};
use crate::domain::ids::PlaceName;
use crate::domain::policy::Policy;
use crate::domain::units::{ByteSize, Span};
use crate::engine::House;
use crate::engine::prune::{self, Asked, PRUNE_SCHEMA, Pruned, StorePruned};
use crate::engine::sweep;
use crate::judge::retention::orphans::Orphan;
use crate::judge::retention::{Entry, Fate};
use crate::render::plain;

/// So many names that are not known are told one by one.
const NAMED: usize = 20;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A backup is deleted in two steps. First it is marked: from then on it counts for no drill, no restore and no status, and can be brought back by `lifeboat backup undelete`. When the grace time is over, the next \
prune removes it. Without `retention` in its job a backup is kept for ever.

Never deleted, whatever the retention says: the last proven backup of a job and its last one of all, one on hold (`lifeboat backup hold`), one that its store has locked or may have, one whose manifest cannot be \
believed, and log that a backup needs. Nothing at all is deleted while the clock is in doubt, while a store of the policy cannot be looked into, or while drills are declared and no backup is known to be proven.

  lifeboat prune --dry-run            what would be done, and why
  lifeboat prune orders               do it: from a timer, once a day")]
pub struct Args {
    /// Only this policy; without it, all of them.
    #[arg(value_name = "POLICY")]
    policy: Option<String>,
    /// Only in this store.
    #[arg(long, value_name = "NAME")]
    store: Option<String>,
    /// Change nothing: tell what would be done with each backup, and why.
    #[arg(long)]
    dry_run: bool,
    /// For how long what was deleted can be brought back.
    #[arg(long, value_name = "TIME", default_value = "24h")]
    grace: Span,
    /// How long objects that belong to no backup are left alone.
    #[arg(long, value_name = "TIME", default_value = "7d")]
    orphans_after: Span,
}

/// Runs the verb.
pub async fn run(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let house = cli.house()?;
    let policies: Vec<&Policy> = match &args.policy {
        Some(name) => vec![house.policy(name).map_err(Failure::usage)?],
        None => house.policies.iter().collect(),
    };
    let only = args.store.as_deref().map(|name| place(&house, name)).transpose()?;
    let goes_there = |policy: &&&Policy| {
        only.as_ref().is_none_or(|only| args.policy.is_some() || House::places_of(policy).contains(only))
    };
    if !args.dry_run {
        // A backup whose process died must not be taken for one that is at work.
        output::say_swept(&sweep::sweep(&house).await?);
    }
    let asked =
        Asked { only: only.clone(), dry_run: args.dry_run, grace: args.grace, orphans_after: args.orphans_after };
    let mut all = Vec::new();
    for policy in policies.iter().filter(goes_there) {
        all.push(prune::prune(&house, policy, &asked, crate::clock::now()).await?);
    }
    let exit = exit(&all);
    match cli.output {
        Output::Json => output::print_json(&serde_json::json!({
            "schema": PRUNE_SCHEMA, "dry_run": args.dry_run, "exit_code": exit as u8, "policies": all,
        })),
        Output::Table => output::print(&table(&all)),
    }
    Ok(exit)
}

fn place(house: &House, name: &str) -> Result<PlaceName, Failure> {
    let names = || house.config.stores.keys().map(PlaceName::as_str);
    let found = house.config.stores.keys().find(|known| known.as_str() == name);
    found.cloned().ok_or_else(|| Failure::usage(crate::engine::house::unknown("store", name, names())))
}

/// What could not be done, then what stands against it.
fn exit(all: &[Pruned]) -> Exit {
    if all.iter().any(Pruned::broke) {
        Exit::Error
    } else if all.iter().any(|pruned| pruned.against() > 0) {
        Exit::Finding
    } else {
        Exit::Ok
    }
}

fn table(all: &[Pruned]) -> String {
    let mut text = String::new();
    // A String takes all that is written to it.
    for pruned in all {
        for store in &pruned.stores {
            let _ = writeln!(text, "policy {} in {} ({})", pruned.policy, store.store, plain(&store.url));
            of_store(&mut text, store, pruned.dry_run);
        }
        for trouble in &pruned.troubles {
            let _ = writeln!(text, "! {}", hinted(&trouble.place, &trouble.error, trouble.hint.as_deref()));
        }
        if pruned.stores.is_empty() && pruned.troubles.is_empty() {
            let _ = writeln!(text, "policy {}: nothing was ever written to its stores", pruned.policy);
        }
    }
    if text.is_empty() { "no policy is configured: `lifeboat init URL` writes a first one".to_owned() } else { text }
}

fn of_store(text: &mut String, store: &StorePruned, dry_run: bool) {
    for entry in &store.plan.backups {
        let _ = writeln!(text, "  {}", line(entry));
    }
    for backup in &store.leaving {
        let _ = writeln!(text, "  going   {backup}  its removal came to no end, and is gone on with");
    }
    for finding in store.plan.standstill.iter().chain(&store.plan.findings) {
        let _ = writeln!(text, "  ✗ {}", sentence(finding));
    }
    for spared in &store.spared {
        let _ = writeln!(text, "  ✗ spared: {}", plain(spared));
    }
    of_log(text, store, dry_run);
    for orphan in &store.orphans {
        let _ = writeln!(text, "  {}", left_over(orphan));
    }
    for key in store.unknown.iter().take(NAMED) {
        let _ = writeln!(text, "  ? {}: lifeboat calls nothing so; it is left alone", plain(key));
    }
    if store.unknown.len() > NAMED {
        let _ = writeln!(text, "  ? and {} more", store.unknown.len() - NAMED);
    }
    for trouble in &store.troubles {
        let _ = writeln!(text, "  ! {}", hinted(&trouble.place, &trouble.error, trouble.hint.as_deref()));
    }
    let _ = writeln!(text, "  {}", conclusion(store, dry_run));
}

fn of_log(text: &mut String, store: &StorePruned, dry_run: bool) {
    let plan = &store.log.plan;
    if let (Some(first), Some(last)) = (plan.delete.first(), plan.delete.last()) {
        let what = if dry_run || store.log.removed == 0 { "delete" } else { "deleted" };
        let count = counted(plan.delete.len() as u64, "file");
        let _ = writeln!(text, "  log     {what} {count}, {first} to {last}: {}", plain(&plan.reasons.join("; ")));
    }
    for remark in &plan.remarks {
        let _ = writeln!(text, "  log     {}", plain(remark));
    }
}

fn line(entry: &Entry) -> String {
    let fate = match entry.fate {
        Fate::Keep => "keep",
        Fate::Delete => "delete",
        Fate::Wait => "waits",
        Fate::Remove => "remove",
        Fate::Spare => "spare",
    };
    let job = entry.job.as_ref().map_or("?", |job| job.as_str());
    plain(&format!("{fate:<6}  {}  {job}  {}", entry.backup, entry.reasons.join("; ")))
}

fn left_over(orphan: &Orphan) -> String {
    let what = match (&orphan.backup, orphan.keys.as_slice()) {
        (Some(backup), keys) => format!("{} of backup {backup}", counted(keys.len() as u64, "object")),
        (None, [key]) => key.clone(),
        (None, keys) => counted(keys.len() as u64, "object"),
    };
    let fate = if orphan.goes { "remove" } else { "keep" };
    plain(&format!("{fate:<6}  orphan: {what} ({}): {}", orphan.bytes, orphan.why))
}

fn conclusion(store: &StorePruned, dry_run: bool) -> String {
    let fate = |fate| store.plan.with(fate).count() as u64;
    let orphans = store.orphans.iter().filter(|orphan| orphan.goes);
    if dry_run {
        return format!(
            "would delete {}, remove {}, {} of the log and {} that belong to nothing: nothing was changed",
            counted(fate(Fate::Delete), "backup"),
            counted(fate(Fate::Remove) + store.leaving.len() as u64, "backup"),
            counted(store.log.plan.delete.len() as u64, "file"),
            counted(orphans.map(|orphan| orphan.keys.len() as u64).sum(), "object"),
        );
    }
    let bytes = store.removed.iter().map(|removed| removed.bytes.0).sum::<u64>().saturating_add(store.log.bytes.0);
    format!(
        "deleted {}, removed {}, {} of the log and {} that belonged to nothing ({})",
        counted(store.deleted.len() as u64, "backup"),
        counted(store.removed.len() as u64, "backup"),
        counted(store.log.removed, "file"),
        counted(store.orphans_removed, "object"),
        ByteSize(bytes),
    )
}
