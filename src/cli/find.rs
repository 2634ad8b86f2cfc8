//! `lifeboat find`.

use jiff::Timestamp;

use super::progress::Bar;
use super::restore::moment;
use super::{Cli, Exit, Failure, Output, output};
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::policy::Policy;
use crate::engine::find::{self, Asked, Ending, Found, Look, Transaction, Trouble};
use crate::engine::restore::{self, Request, Target, Wanted};
use crate::engine::{House, sweep};
use crate::judge::wal::{Follow, Until};
use crate::render::plain;

/// The `schema` of the JSON document of `--reach`.
const SCHEMA: &str = "lifeboat.find/1";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("sought").required(true).args(["reach", "holds"]),
    after_help = "\
--reach ends with 0 if the moment can be reached, and with 3 if it cannot: then it names the nearest one that can, and what stops it.

--holds restores to one moment after another, each in a scratch of its own that is destroyed again, and halves the time between: a day takes at most 19 restores, mostly far fewer. \
It ends with 0 when it has the last second at which the answer was true and the first at which it was not (false, NULL, or the table is not there), and with 3 if it was not true at the \
beginning of the window, or still is at its end. It takes it that what is not true any more does not become true again: of several changes it finds one. The question is asked \
read-only; now() is the scratch's clock.

  lifeboat find orders --holds 'select count(*) > 0 from customers where id = 42'"
)]
pub struct Args {
    /// Whose backups and log.
    #[arg(value_name = "POLICY")]
    policy: String,
    /// Whether this can be reached: a moment with its zone (2026-01-31T03:00:00+01:00), a place in the log (16/B374D848), or `latest`.
    #[arg(long, value_name = "TIME|LSN")]
    reach: Option<String>,
    /// The last moment at which this was true: a statement that gives one row with one boolean column.
    #[arg(long, value_name = "SQL")]
    holds: Option<String>,
    /// Look from this moment on, with its zone; left out: from the earliest that can be brought back.
    #[arg(long, value_name = "TIME", conflicts_with = "reach")]
    since: Option<String>,
    /// Look up to this moment, with its zone; left out: to the end of the log.
    #[arg(long, value_name = "TIME", conflicts_with = "reach")]
    before: Option<String>,
    /// Ask in this database; left out: the policy's.
    #[arg(long, value_name = "NAME", conflicts_with = "reach")]
    database: Option<String>,
    /// Follow this timeline; left out: the newest that goes on from the backup.
    #[arg(long, value_name = "NUMBER")]
    timeline: Option<u32>,
}

impl Args {
    /// Whether there are scratches to be destroyed when it is asked to stop.
    pub fn makes_scratches(&self) -> bool {
        self.holds.is_some()
    }
}

/// Runs the verb.
pub async fn run(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let house = cli.house()?;
    let policy = house.policy(&args.policy).map_err(Failure::usage)?;
    let request = request(&house, policy)?;
    let follow = args.timeline.map_or(Follow::Latest, Follow::Timeline);
    match (&args.reach, &args.holds) {
        (Some(place), _) => reach(cli, policy, &request, place, follow).await,
        (None, Some(sql)) => {
            let asked = asked(args, sql, follow).map_err(Failure::usage)?;
            holds(cli, &house, policy, &request, &asked).await
        }
        (None, None) => Err(Failure::usage(Broke::hinted("what is to be found?", "say --reach TIME or --holds SQL"))),
    }
}

/// Where is looked, and what opens it.
pub(super) fn request(house: &House, policy: &Policy) -> Result<Request, Broke> {
    Ok(Request {
        stores: house.stores_of(policy)?.into_values().collect(),
        opener: house.opener()?,
        trusted: house.trusted()?,
        policy: Some(policy.name.clone()),
        backup: None,
        method: None,
        target: Target::Folder("DIR".into()),
        tablespaces: Vec::new(),
        accept_unsigned: false,
        with_roles: false,
        until: None,
        bin_dirs: Vec::new(),
        parallel: house.config.limits.parallel,
    })
}

async fn reach(cli: &Cli, policy: &Policy, request: &Request, place: &str, follow: Follow) -> Result<Exit, Failure> {
    let until = match place.parse() {
        Ok(lsn) => Until::Lsn(lsn),
        Err(_) => moment(place).map_err(Failure::usage)?,
    };
    let wanted = Wanted { until, before: false, follow };
    let bar = Bar::new("find");
    let foretold = restore::foretell(request, &wanted, &bar).await;
    bar.finish();
    let foretold = foretold.map_err(stopped)?;
    let exit = if foretold.reachable { Exit::Ok } else { Exit::Finding };
    if cli.output == Output::Json {
        output::print_json(&serde_json::json!({ "schema": SCHEMA, "policy": policy.name, "found": foretold }));
        return Ok(exit);
    }
    for warning in &foretold.warnings {
        output::warn(&Broke::new(plain(warning)));
    }
    match &foretold.backup {
        Some(backup) => {
            let option = if matches!(wanted.until, Until::Lsn(_)) { "--until-lsn" } else { "--until" };
            output::print(&format!(
                "reachable: from backup {backup}, {}\n  lifeboat restore {} --to DIR {option} {place}\n",
                plain(&foretold.words),
                policy.name,
            ));
        }
        None => output::print(&format!("not reachable: {}\n", plain(&foretold.words))),
    }
    Ok(exit)
}

fn asked(args: &Args, sql: &str, follow: Follow) -> Result<Asked, Broke> {
    let time = |text: &Option<String>| match text.as_deref().map(moment).transpose()? {
        None => Ok(None),
        // Servers know whole microseconds.
        Some(Until::Time(at)) => Ok(Timestamp::from_microsecond(at.as_microsecond()).ok()),
        Some(_) => {
            let hint = "write it with its zone: 2026-01-31T03:00:00Z; left out, --before is the end of the log";
            Err(Broke::hinted("a window needs moments", hint))
        }
    };
    let (since, before) = (time(&args.since)?, time(&args.before)?);
    if let (Some(since), Some(before)) = (since, before)
        && since >= before
    {
        let hint = "--since comes first, and --before after it";
        return Err(Broke::hinted(format!("there is no time between {since} and {before}"), hint));
    }
    Ok(Asked { sql: sql.to_owned(), database: args.database.clone(), since, before, follow })
}

async fn holds(cli: &Cli, house: &House, policy: &Policy, request: &Request, asked: &Asked) -> Result<Exit, Failure> {
    output::say_swept(&sweep::sweep(house).await?);
    let bar = Bar::new("find");
    let found = find::run(house, policy, request, asked, &bar).await;
    bar.finish();
    let found = found.map_err(|trouble| match trouble {
        Trouble::Misasked(broke) => Failure { text: plain(&broke.error), ..Failure::usage(broke) },
        Trouble::Stop(stop) => stopped(stop),
    })?;
    if cli.output == Output::Json {
        output::print_json(&found);
    } else {
        output::print(&told(&found));
    }
    Ok(match found.ending {
        Ending::Between { .. } => Exit::Ok,
        Ending::Never | Ending::Still => Exit::Finding,
    })
}

/// Why a search ended early.
pub(super) fn stopped(stop: Stop) -> Failure {
    match stop {
        Stop::Broke(broke) => Failure { text: plain(&broke.error), ..broke.into() },
        Stop::Found(findings) => {
            let line = |one: &Finding| plain(&format!("{}: {}", one.object, one.message));
            let text = findings.iter().map(line).collect::<Vec<_>>().join("\n  ");
            Failure { exit: Exit::Finding, ..Broke::new(text).into() }
        }
    }
}

/// The result, for people.
pub(super) fn told(found: &Found) -> String {
    let restores = |count: usize| if count == 1 { "1 restore".to_owned() } else { format!("{count} restores") };
    let took = restores(found.looks.len());
    let why = |look: &Look| look.why.as_deref().map_or(String::new(), |why| format!(" ({})", plain(why)));
    match &found.ending {
        Ending::Between { holds_at, held, gone_at, gone } => {
            let said = |next: Transaction| format!("\n  the next transaction is {}, at {}", next.xid, next.at);
            let next = held.next.map_or(String::new(), said);
            let apart = gone_at.duration_since(*holds_at) > jiff::SignedDuration::from_secs(1);
            let hole = if apart { "\n  no moment in between can be brought back" } else { "" };
            let timeline =
                if found.timeline_matters { format!(" --timeline {}", found.timeline) } else { String::new() };
            format!(
                "holds at {holds_at} (backup {}, timeline {}, log position {})\nno longer at {gone_at}{}{next}{hole}\n  found with {took}\n\n  lifeboat restore {} --to DIR --until {holds_at}{timeline}\n",
                held.backup,
                held.timeline,
                held.log_position,
                why(gone),
                found.policy,
            )
        }
        Ending::Never => {
            let why = found.looks.last().map_or(String::new(), why);
            format!(
                "does not hold at {}, the beginning of what was searched{why}: nothing vanished in it\n  found with {took}; look earlier with --since, or see whether the question is right\n",
                found.since
            )
        }
        Ending::Still => {
            let end = found.looks.last().map_or(found.before, |look| look.moment.max(found.before));
            format!(
                "still holds at {end}, the end of what was searched: nothing vanished in it\n  found with {took}; what is later than that is not in it\n"
            )
        }
    }
}
