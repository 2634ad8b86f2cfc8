//! `lifeboat restore`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::alone::{Alone, Means};
use super::progress::Bar;
use super::{Cli, Exit, Failure, Output, output};
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::ids::{BackupId, BadId};
use crate::domain::lsn::BadLsn;
use crate::domain::policy::{Method, PasswordSource, Policy};
use crate::engine::restore::{self, Request, Restored, Target, Wanted};
use crate::engine::{House, house};
use crate::judge::wal::{Follow, Until};
use crate::probe::Endpoint;
use crate::render::plain;
use crate::seal::{Opener, TrustedSigners};
use crate::store::Store;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without a configuration, a store and a key are enough:\n  lifeboat restore --store /mnt/backups --identity escrow.agekey --to /var/lib/postgresql/15/restored\n\nThe password of --to-database comes from PGPASSWORD, PGPASSFILE, ~/.pgpass or --passfile, never from the URL."
)]
pub struct Args {
    /// Which policy's backup; may be left out with --store, if the store holds one policy only.
    #[arg(value_name = "POLICY")]
    policy: Option<String>,
    /// Which backup: its id, or `latest`.
    #[arg(long, value_name = "ID", default_value = "latest")]
    backup: String,
    /// Which method's backup: physical for --to, logical for --to-database.
    #[arg(long, value_name = "METHOD", value_parser = ["physical", "logical"])]
    method: Option<String>,
    /// Restore a physical backup into this folder, which must not exist or be empty.
    #[arg(long, value_name = "DIR", required_unless_present = "to_database", conflicts_with = "to_database")]
    to: Option<PathBuf>,
    /// Restore a logical backup into the database that this URL names, which must not exist or be empty.
    #[arg(long, value_name = "URL")]
    to_database: Option<String>,
    /// Replay the log behind the backup, to a moment with its zone (2026-01-31T03:00:00+01:00), or to its end: `latest`.
    /// Left out: what the backup itself brings back.
    #[arg(long, value_name = "TIME", group = "target", requires = "to")]
    until: Option<String>,
    /// Replay the log to this place in it.
    #[arg(long, value_name = "LSN", group = "target", requires = "to")]
    until_lsn: Option<String>,
    /// Replay the log to this restore point (pg_create_restore_point).
    #[arg(long, value_name = "NAME", group = "target", requires = "to")]
    until_name: Option<String>,
    /// Replay the log to this transaction.
    #[arg(long, value_name = "XID", group = "target", requires = "to")]
    until_xid: Option<u64>,
    /// Stop just before that moment, place or transaction, and not just after it.
    #[arg(long, requires = "target")]
    before: bool,
    /// Follow this timeline; left out: the newest that goes on from the backup.
    #[arg(long, value_name = "NUMBER", requires = "target")]
    timeline: Option<u32>,
    /// Give a tablespace a folder of its own; may be repeated.
    #[arg(long, value_name = "NAME=DIR")]
    tablespace: Vec<String>,
    /// A passfile for --to-database.
    #[arg(long, value_name = "FILE", requires = "to_database")]
    passfile: Option<PathBuf>,
    /// Use this configured store alone: no other is opened. For the day on which the first one is gone.
    #[arg(long, value_name = "STORE", conflicts_with = "store")]
    from: Option<String>,
    #[command(flatten)]
    alone: Alone,
    /// Go on although the signature is missing, wrong or a stranger's.
    #[arg(long)]
    accept_unsigned: bool,
    /// Make the roles that the server lacks, and keep owners and grants; needs a superuser, or CREATEROLE.
    #[arg(long, requires = "to_database")]
    with_roles: bool,
    /// A folder with PostgreSQL's programs, to look in first; may be repeated.
    #[arg(long, value_name = "DIR")]
    bin_dir: Vec<PathBuf>,
}

/// Runs the verb.
pub async fn run(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let bar = Bar::new("restore");
    let mut elsewhere = None;
    let restored = match args.alone.open().map_err(Failure::usage)? {
        Some(means) => {
            let request = request_alone(args, means).map_err(Failure::usage)?;
            refuse_target(&request).await?;
            restore::restore(&request, &bar).await
        }
        None => {
            let house = cli.house()?;
            let name = args.policy.as_deref().ok_or_else(|| {
                let hint = "lifeboat restore POLICY …; or, without a configuration: --store URL --identity KEYFILE";
                Failure::usage(Broke::hinted("which policy's backup?", hint))
            })?;
            let policy = house.policy(name).map_err(Failure::usage)?;
            let stores = stores(&house, policy, args.from.as_deref()).await?;
            let mut request = request(args, stores, house.opener()?, house.trusted()?).map_err(Failure::usage)?;
            request.policy = Some(policy.name.clone());
            request.bin_dirs.extend(house.config.bin_dirs.iter().cloned());
            request.parallel = house.config.limits.parallel;
            refuse_target(&request).await?;
            let restored = restore::recorded(&house, &policy.name, &mut request, &bar).await;
            if restored.is_err() && args.from.is_none() {
                elsewhere = restore::copies_elsewhere(&house, policy).await;
            }
            restored
        }
    };
    bar.finish();
    let elsewhere = elsewhere.as_deref();
    match restored {
        Ok(restored) => {
            show(cli, &restored);
            Ok(if restored.findings.is_empty() { Exit::Ok } else { Exit::Finding })
        }
        Err(Stop::Broke(broke)) => Err(Failure { text: plain(&broke.error), ..broke.into() }),
        Err(Stop::Found(findings)) => Err(found(&findings, elsewhere)),
    }
}

/// The stores that are looked into: those that the policy's backups are taken to, or the one that was named.
async fn stores(house: &House, policy: &Policy, from: Option<&str>) -> Result<Vec<Arc<dyn Store>>, Failure> {
    if let Some(name) = from {
        let place = house::place(house, name).map_err(Failure::usage)?;
        return Ok(vec![house.store(&place)?]);
    }
    match house.stores_of(policy) {
        Ok(stores) => Ok(stores.into_values().collect()),
        Err(broke) => {
            let hint = restore::copies_elsewhere(house, policy).await.or(broke.hint);
            Err(Broke { hint, ..broke }.into())
        }
    }
}

/// A target that cannot be used is wrong usage, and known before anything is written.
async fn refuse_target(request: &Request) -> Result<(), Failure> {
    match restore::unusable_target(request).await? {
        Some(broke) => Err(Failure::usage(broke)),
        None => Ok(()),
    }
}

/// A store and a key, on a machine that has nothing else.
fn request_alone(args: &Args, means: Means) -> Result<Request, Broke> {
    let mut request = request(args, means.stores, means.opener, means.trusted)?;
    request.policy =
        args.policy.as_deref().map(str::parse).transpose().map_err(|error: BadId| {
            Broke::hinted(error.to_string(), "leave it out if the store holds one policy only")
        })?;
    Ok(request)
}

fn request(
    args: &Args,
    stores: Vec<Arc<dyn Store>>,
    opener: Opener,
    trusted: TrustedSigners,
) -> Result<Request, Broke> {
    let backup = match args.backup.as_str() {
        "latest" => None,
        id => Some(id.parse::<BackupId>().map_err(|error| Broke::hinted(error.to_string(), "or say `latest`"))?),
    };
    let tablespaces = args.tablespace.iter().map(|text| match text.split_once('=') {
        Some((name, dir)) if !name.is_empty() && !dir.is_empty() => Ok((name.to_owned(), PathBuf::from(dir))),
        _ => Err(Broke::hinted(format!("`{text}` does not say which folder"), "write --tablespace NAME=DIR")),
    });
    let target = match (&args.to, &args.to_database) {
        (Some(dir), _) => Target::Folder(dir.clone()),
        (None, Some(url)) => Target::Database(Box::new(database(args, url)?)),
        (None, None) => return Err(Broke::hinted("where to?", "say --to DIR or --to-database URL")),
    };
    Ok(Request {
        stores,
        opener,
        trusted,
        policy: None,
        backup,
        method: args.method.as_deref().map(|word| if word == "logical" { Method::Logical } else { Method::Physical }),
        target,
        tablespaces: tablespaces.collect::<Result<_, _>>()?,
        accept_unsigned: args.accept_unsigned,
        with_roles: args.with_roles,
        until: wanted(args)?,
        bin_dirs: args.bin_dir.clone(),
        parallel: std::thread::available_parallelism().map_or(2, usize::from),
    })
}

/// `latest`, or a time with its zone.
pub(super) fn moment(text: &str) -> Result<Until, Broke> {
    if text == "latest" {
        return Ok(Until::Latest);
    }
    text.parse::<jiff::Timestamp>().map(Until::Time).map_err(|error| {
        let hint = "write the zone too: 2026-01-31T03:00:00Z or 2026-01-31T03:00:00+01:00; or `latest`";
        Broke::hinted(format!("`{text}` is not a moment: {error}"), hint)
    })
}

/// To where the log is to be replayed.
fn wanted(args: &Args) -> Result<Option<Wanted>, Broke> {
    let until = match (&args.until, &args.until_lsn, &args.until_name, args.until_xid) {
        (Some(text), ..) => moment(text)?,
        (None, Some(text), ..) => Until::Lsn(text.parse().map_err(|error: BadLsn| Broke::new(error.to_string()))?),
        (None, None, Some(name), _) => Until::Name(name.clone()),
        (None, None, None, Some(xid)) => Until::Xid(xid),
        (None, None, None, None) => return Ok(None),
    };
    if args.before && matches!(until, Until::Latest | Until::Name(_)) {
        return Err(Broke::hinted(
            "--before needs a moment, a place or a transaction",
            "a restore point is a place between transactions",
        ));
    }
    let follow = args.timeline.map_or(Follow::Latest, Follow::Timeline);
    Ok(Some(Wanted { until, before: args.before, follow }))
}

/// The server and database of `--to-database`, with a password from where libpq would look for one.
fn database(args: &Args, url: &str) -> Result<Endpoint, Broke> {
    let password = match &args.passfile {
        Some(file) => PasswordSource::Passfile(file.clone()),
        None if std::env::var_os("PGPASSWORD").is_some() => PasswordSource::Env("PGPASSWORD".to_owned()),
        None => PasswordSource::Default,
    };
    Ok(Endpoint::open(url, &password, None, None, Duration::from_secs(10))?)
}

fn show(cli: &Cli, restored: &Restored) {
    if cli.output == Output::Json {
        output::print_json(restored);
        return;
    }
    // What is wrong or must be known goes where it is seen even when the commands go into a file.
    for warning in &restored.warnings {
        output::say(&format!("warning: {}", plain(warning)));
    }
    for finding in &restored.findings {
        output::say(&format!("finding: {}: {}", plain(&finding.object), plain(&finding.message)));
    }
    let pages = restored.pages.map(|(verified, bad)| format!(", {verified} page checksums right, {bad} wrong"));
    let mut text = format!(
        "Restored {} of {} into {}\n  brings back {} ({}, {} in {}{}){}\n\nNext:\n",
        restored.backup,
        restored.policy,
        plain(&restored.target),
        restored.recovery_point,
        restored.method.as_str(),
        restored.plain_bytes,
        restored.took,
        pages.unwrap_or_default(),
        restored
            .log
            .as_ref()
            .map(|log| format!("\n  and then, when it is started: {}", plain(log)))
            .unwrap_or_default(),
    );
    for command in &restored.commands {
        text.push_str(&format!("  {}\n", plain(command)));
    }
    output::print(&text);
}

/// Why the backup was not brought back: every finding by name.
fn found(findings: &[Finding], elsewhere: Option<&str>) -> Failure {
    let mut text = "the backup is not what it should be, and was not brought back".to_owned();
    for finding in findings {
        let line = format!("{}: {} [{}]", finding.object, finding.message, finding.code);
        text.push_str(&format!("\n  {}", plain(&line)));
    }
    let signature = findings.iter().all(|finding| finding.code.starts_with("sign"));
    let hint = match elsewhere {
        Some(elsewhere) => elsewhere,
        None if signature => "if you know where it comes from, go on with --accept-unsigned",
        None => "restore another backup (--backup ID), or from another store (--from STORE, --store URL)",
    };
    Failure { exit: Exit::Finding, text, hint: Some(hint.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_manifest_says_does_not_steer_a_terminal() {
        let failure = found(&[Finding::new("part_hash", "part \u{1b}]0;owned\u{7}", "\u{1b}[2J it was changed")], None);
        assert!(!failure.text.contains('\u{1b}') && failure.text.contains("it was changed"), "{}", failure.text);
    }
}
