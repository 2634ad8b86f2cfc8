//! The runbook of a policy: what a human does with public tools.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use jiff::Timestamp;

use crate::domain::artifact::Manifest;
use crate::domain::config::Config;
use crate::domain::drill::{Drill, KeyChoice, Step};
use crate::domain::ids::PlaceName;
use crate::domain::inventory::Role;
use crate::domain::policy::{Method, Policy};
use crate::domain::run::ArtifactRecord;
use crate::domain::transcript::{Phase, Transcript};
use crate::domain::units::Span;

use super::instruct::{block, instruct, quote, signature};
use super::place;
use super::words::{self, plain};

/// The newest artifact of one method.
#[derive(Clone, Copy)]
pub struct Artifact<'a> {
    /// What the catalog knows of it.
    pub record: &'a ArtifactRecord,
    /// What it is made of, if its store could be read.
    pub manifest: Option<&'a Manifest>,
}

/// All that a runbook is made of.
pub struct Facts<'a> {
    /// Of which policy.
    pub policy: &'a Policy,
    /// The policy's drills.
    pub drills: Vec<&'a Drill>,
    /// The newest artifact of each method where it is taken to; then that in each second store.
    pub artifacts: Vec<Artifact<'a>>,
    /// Transcripts of the policy's drills, newest first.
    pub transcripts: &'a [Transcript],
    /// Where things are.
    pub config: &'a Config,
    /// When it is written.
    pub now: Timestamp,
}

impl<'a> Facts<'a> {
    /// Transcripts that show how a recovery goes: not those that broke their scratch on purpose.
    fn rehearsed(&self) -> impl Iterator<Item = &'a Transcript> {
        self.transcripts.iter().filter(|transcript| !transcript.sabotages())
    }
}

/// What the steps are done from: an artifact, where it lies, and what opens it.
pub struct Source<'a> {
    pub(super) artifact: Artifact<'a>,
    pub(super) store: String,
    /// Commands that bring it there first.
    pub(super) fetch: Option<String>,
    pub(super) key: &'a str,
    pub(super) signers: &'a [String],
    pub(super) database: &'a str,
    /// Who may do everything in the restored server.
    pub(super) admin: String,
}

impl Source<'_> {
    /// The backup's own folder.
    pub(super) fn folder(&self) -> String {
        let record = self.artifact.record;
        format!("{}/{}/{}", self.store.trim_end_matches('/'), record.policy, record.backup)
    }

    /// Version of the source, as far as it is known.
    pub(super) fn version(&self) -> Option<u32> {
        self.artifact.manifest.map(|manifest| manifest.fingerprint.server.major())
    }
}

/// Inline code in Markdown, whatever is in it.
pub(super) fn code(text: &str) -> String {
    let text = plain(text);
    if text.contains('`') { format!("`` {text} ``") } else { format!("`{text}`") }
}

/// Text between other text in Markdown: what would format is escaped.
fn prose(text: &str) -> String {
    let mut out = String::new();
    for c in plain(text).chars() {
        if matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '|' | '&') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// The runbook, as Markdown.
pub fn markdown(facts: &Facts<'_>) -> String {
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = title(&mut out, facts);
    let _ = symptoms(&mut out, facts);
    let _ = assessment(&mut out, facts);
    let _ = steps(&mut out, facts);
    let _ = escalation(&mut out, facts);
    let _ = prevention(&mut out, facts);
    out
}

fn title(out: &mut String, facts: &Facts<'_>) -> std::fmt::Result {
    let policy = facts.policy;
    writeln!(out, "# Runbook: bring back `{}`\n", policy.name)?;
    writeln!(out, "Owner: **{}**  ", prose(&policy.owner))?;
    if let Some(tier) = &policy.tier {
        writeln!(out, "Tier: {}  ", prose(tier))?;
    }
    writeln!(
        out,
        "Written: {} by `lifeboat runbook {}`; write it anew after every backup.\n",
        words::moment(facts.now),
        policy.name
    )?;
    writeln!(out, "## Description\n")?;
    writeln!(
        out,
        "{} is lost or wrong, and must come back from its backup: at most **{}** of data lost (RPO), \
         within **{}** (RTO).\n",
        match policy.is_of_control_plane() {
            true => "lifeboat itself, its catalog or its configuration,".to_owned(),
            false => format!("The database behind {}", code(&policy.source.url)),
        },
        policy.objectives.rpo,
        policy.objectives.rto
    )?;
    if facts.artifacts.is_empty() {
        writeln!(out, "**There is no backup yet.** Take one: `lifeboat backup {}`.\n", policy.name)?;
    } else {
        writeln!(out, "| newest backup | method | brings back | size | store |\n|---|---|---|---|---|")?;
        for Artifact { record, .. } in &facts.artifacts {
            writeln!(
                out,
                "| `{}` | {} | {} | {} ({} stored) | {} |",
                record.backup,
                record.method.as_str(),
                words::moment(record.recovery_point),
                record.plain_bytes,
                record.sealed_bytes,
                code(&place::address(facts.config, record))
            )?;
        }
        writeln!(out)?;
    }
    match facts.rehearsed().next() {
        None => writeln!(out, "These steps have **never been rehearsed**: no drill has run.\n"),
        Some(last) => writeln!(
            out,
            "Last rehearsed: {} (drill `{}`, **{}**, recovery time {}).\n",
            words::moment(last.finished_at),
            last.drill.name,
            last.judgement.verdict.as_str(),
            last.judgement.rta.map_or("not measured".to_owned(), |rta| rta.to_string())
        ),
    }
}

fn symptoms(out: &mut String, facts: &Facts<'_>) -> std::fmt::Result {
    writeln!(out, "## Symptoms\n\nYou need this runbook when one of these is true and will not mend itself:\n")?;
    if facts.policy.is_of_control_plane() {
        writeln!(out, "- the machine that lifeboat ran on is gone, or its disk;")?;
        writeln!(out, "- the catalog is damaged, or a catalog server and all of its own backups are lost;")?;
        return writeln!(out, "- policies, drills or `lifeboat.toml` are gone, or nobody trusts them any more.\n");
    }
    writeln!(out, "- the server does not start, or its disk or machine is gone;")?;
    writeln!(out, "- it logs `invalid page`, `could not read block`, `PANIC`, or `pg_amcheck` finds corruption;")?;
    writeln!(out, "- rows, tables or databases were deleted or overwritten by mistake or by an attacker;")?;
    writeln!(
        out,
        "- `lifeboat status {}` shows what would be lost now, and how old the last proof is.\n",
        facts.policy.name
    )
}

fn assessment(out: &mut String, facts: &Facts<'_>) -> std::fmt::Result {
    writeln!(out, "## First assessment\n")?;
    writeln!(
        out,
        "1. **Touch nothing of what is left.** Do not start, vacuum or overwrite the old data folder; copy it if there is room."
    )?;
    if facts.policy.is_of_control_plane() {
        writeln!(
            out,
            "2. Every backup can be restored without lifeboat's own: `lifeboat restore POLICY --store … --identity …`."
        )?;
        writeln!(out, "   If a database is lost at this very moment, do that first.\n")?;
        return verify_first(out, facts, 3);
    }
    writeln!(out, "2. Is it really gone?\n")?;
    writeln!(out, "{}", block(&format!("pg_isready -d {}", quote(&facts.policy.source.url))))?;
    writeln!(
        out,
        "3. Is there a standby that is still good? Promoting it loses less. A standby has copied every mistake, though."
    )?;
    writeln!(
        out,
        "4. From when must the data be? These backups bring back the moments in the table above, not later ones."
    )?;
    verify_first(out, facts, 5)
}

fn verify_first(out: &mut String, facts: &Facts<'_>, number: u32) -> std::fmt::Result {
    writeln!(
        out,
        "{number}. Is the backup that you are about to use the one that was made? Verify it before anything else:\n"
    )?;
    let verify = format!("lifeboat verify {}", facts.policy.name);
    match facts.artifacts.first().map(|artifact| source(facts, *artifact)) {
        None => writeln!(out, "{}", block(&verify)),
        Some((source, key, signers)) => {
            let source = Source { key: &key, signers: &signers, ..source };
            let fetch = source.fetch.as_deref().unwrap_or_default();
            let folder = quote(&source.folder());
            let by_hand = format!("{verify}\n# or by hand:\n{fetch}cd -- {folder}\n{}", signature(&source));
            writeln!(out, "{}", block(&by_hand))
        }
    }
}

fn steps(out: &mut String, facts: &Facts<'_>) -> std::fmt::Result {
    let policy = facts.policy;
    let then = match policy.is_of_control_plane() {
        true => "what to do with the folder that it made",
        false => "how to start the server",
    };
    writeln!(
        out,
        "## Steps\n\n### With lifeboat\n\nOne command does all of what follows, refuses to overwrite anything, and prints {then}:\n"
    )?;
    let mut commands = format!("lifeboat restore {} --to \"$HOME/restored\"\n", policy.name);
    if let Some(artifact) = facts.artifacts.first() {
        let key = identity(facts.config);
        commands.push_str(&format!(
            "# on a machine that has neither configuration nor catalog:\nlifeboat restore {} --store {} --identity {} --to \"$HOME/restored\"",
            policy.name,
            quote(&place::address(facts.config, artifact.record)),
            quote(&key)
        ));
    }
    for store in second_stores(facts) {
        commands.push_str(&format!(
            "\n# if the first store is gone too, from {store} alone:\nlifeboat restore {} --from {store} --to \"$HOME/restored\"",
            policy.name
        ));
    }
    writeln!(out, "{}", block(&commands))?;
    for drill in &facts.drills {
        by_hand(out, facts, drill)?;
    }
    if facts.drills.is_empty() {
        writeln!(
            out,
            "The policy names no drill: there are no rehearsed steps to follow by hand. Declare one (`[[drill]]`).\n"
        )?;
    }
    Ok(())
}

/// Stores that hold copies, by name, each once.
fn second_stores<'a>(facts: &'a Facts<'_>) -> BTreeSet<&'a PlaceName> {
    let stores = facts.artifacts.iter().map(|artifact| &artifact.record.store);
    stores.filter(|store| facts.policy.backups.iter().all(|job| job.store != **store)).collect()
}

fn by_hand(out: &mut String, facts: &Facts<'_>, drill: &Drill) -> std::fmt::Result {
    writeln!(out, "### By hand: {}\n", drill.name)?;
    if !drill.description.is_empty() {
        writeln!(out, "{}\n", prose(&drill.description))?;
    }
    match (&drill.from, &drill.keys) {
        (Some(from), KeyChoice::Escrow) => {
            writeln!(out, "From the store `{from}` alone, and with the escrow key alone.\n")?;
        }
        (Some(from), KeyChoice::Working | KeyChoice::Given(_)) => writeln!(out, "From the store `{from}` alone.\n")?,
        (None, KeyChoice::Escrow) => writeln!(out, "With the escrow key alone.\n")?,
        (None, KeyChoice::Working | KeyChoice::Given(_)) => {}
    }
    let fits = |artifact: &&Artifact<'_>| {
        drill.method.is_none_or(|method| artifact.record.method == method)
            && drill.from.as_ref().is_none_or(|from| artifact.record.store == *from)
    };
    let Some(artifact) = facts.artifacts.iter().find(fits) else {
        let method = drill.method.map_or("any", Method::as_str);
        return writeln!(out, "There is no backup for it yet (method: {method}).\n");
    };
    let last = facts.rehearsed().find(|transcript| transcript.drill.name == drill.name);
    match last {
        None => writeln!(out, "This drill has never run: no times are known.\n")?,
        Some(last) => writeln!(
            out,
            "Times are those of the drill of {} ({}).\n",
            words::moment(last.finished_at),
            last.judgement.verdict.as_str()
        )?,
    }
    let (source, key, signers) = source(facts, *artifact);
    let key = match &drill.keys {
        KeyChoice::Working => key,
        KeyChoice::Escrow => first_of(&facts.config.keys.escrow),
        KeyChoice::Given(files) => first_of(files),
    };
    let source = Source { key: &key, signers: &signers, ..source };
    for (index, step) in drill.steps.iter().enumerate() {
        let took = last.and_then(|last| took(last, step)).map_or_else(String::new, |took| format!(" ({took})"));
        writeln!(out, "#### {}. {}{took}\n", index + 1, super::instruct::heading(step))?;
        writeln!(out, "{}", instruct(step, &source))?;
    }
    Ok(())
}

/// How long a step took: all of its records.
fn took(transcript: &Transcript, step: &Step) -> Option<Span> {
    let times: Vec<Span> =
        transcript.steps.iter().filter(|record| &record.step == step).map(|record| record.took).collect();
    (!times.is_empty()).then(|| times.into_iter().sum())
}

fn escalation(out: &mut String, facts: &Facts<'_>) -> std::fmt::Result {
    let objectives = &facts.policy.objectives;
    writeln!(out, "## Escalation\n")?;
    writeln!(out, "- Tell **{}** at once, before step 1.", prose(&facts.policy.owner))?;
    writeln!(
        out,
        "- If the end is not in sight half way through the RTO ({}), say so and call for help.",
        Span(objectives.rto.0 / 2)
    )?;
    for (name, span) in &objectives.allowances {
        writeln!(out, "- The promise leaves {span} to {}.", prose(&words::allowance(name)))?;
    }
    if let Some(last) = facts.rehearsed().find(|transcript| !transcript.judgement.phases.is_empty()) {
        writeln!(out, "\nTimes of the last drill, to know whether you are late:\n\n| phase | took |\n|---|---|")?;
        for (phase, span) in &last.judgement.phases {
            let phase: Phase = *phase;
            writeln!(out, "| {} | {span} |", phase.as_str())?;
        }
    }
    writeln!(out)
}

fn prevention(out: &mut String, facts: &Facts<'_>) -> std::fmt::Result {
    let policy = facts.policy;
    writeln!(out, "## Prevention\n")?;
    writeln!(
        out,
        "- Rehearse: `lifeboat drill {}`. A proof holds for {}.",
        policy.name, policy.objectives.proof_max_age
    )?;
    writeln!(out, "- Look: `lifeboat status {}` says what is wrong before the day on which it matters.", policy.name)?;
    writeln!(
        out,
        "- Keep an identity that opens the backups, and this runbook, off the machines that can be lost with the database."
    )?;
    if facts.policy.backups.iter().all(|job| job.copies.is_empty()) {
        writeln!(out, "- Keep a copy of the store in a second place.")?;
    } else {
        writeln!(out, "- Compare the copies in the second place: `lifeboat copies {} --read`.", policy.name)?;
    }
    writeln!(
        out,
        "- Afterwards: take a new backup of the restored server at once, write down what was slow, and change this policy or its drills."
    )
}

/// The source of an artifact, and the texts that it borrows.
fn source<'a>(facts: &'a Facts<'_>, artifact: Artifact<'a>) -> (Source<'a>, String, Vec<String>) {
    let signers = facts.config.keys.trusted_signers.iter().map(|path| path.display().to_string()).collect();
    let source = Source {
        artifact,
        store: place::folder(facts.config, artifact.record),
        fetch: place::fetch(facts.config, artifact.record),
        key: "",
        signers: &[],
        database: database(&facts.policy.source.url),
        admin: admin(artifact, &facts.policy.source.url),
    };
    (source, identity(facts.config), signers)
}

fn identity(config: &Config) -> String {
    first_of(&config.keys.identities)
}

fn first_of(files: &[PathBuf]) -> String {
    files.first().map_or("KEYFILE".to_owned(), |path| path.display().to_string())
}

/// A superuser that can log in, by what the backup says of its source: `postgres` if it is one. Else the URL's role.
fn admin(artifact: Artifact<'_>, url: &str) -> String {
    let roles = artifact.manifest.map(|manifest| manifest.fingerprint.roles.as_slice()).unwrap_or_default();
    let can = |role: &&Role| {
        // Settings come last, and hold any words.
        let words = || role.attributes.split(' ').take_while(|word| *word != "set");
        ["superuser", "login"].iter().all(|wanted| words().any(|word| word == *wanted))
    };
    let mut able = roles.iter().filter(can).map(|role| role.name.as_str());
    let first = able.next();
    let best = if able.any(|name| name == "postgres") { Some("postgres") } else { first };
    // Of a dump the new server's own superuser is left as it is only if the roles that come back do not demote it.
    let given = user(url).filter(|_| artifact.record.method == Method::Physical);
    best.or(given).unwrap_or("postgres").to_owned()
}

/// The role that a connection URL names.
fn user(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?']).next()?;
    let user = authority.rsplit_once('@')?.0;
    Some(user.split(':').next().unwrap_or(user)).filter(|user| !user.is_empty() && !user.contains('%'))
}

/// The database that a connection URL names.
fn database(url: &str) -> &str {
    let path = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    match path.split_once('/') {
        Some((_, database)) if !database.is_empty() => database,
        _ => "postgres",
    }
}

#[cfg(test)]
#[path = "runbook_tests.rs"]
mod tests;
