//! The command line: one file a verb.

pub mod exit;
pub mod output;
pub mod progress;

mod ack;
mod alarms;
mod alone;
mod arenas;
mod backup;
mod backup_hold;
mod catalog;
mod check;
mod copies;
mod copy;
mod demo;
mod drift;
mod drill;
mod find;
mod init;
mod metrics;
mod mutate;
mod notify;
mod prune;
mod report;
mod restore;
mod runbook;
mod schedule;
mod serve;
mod status;
mod verify;
mod verify_budget;
mod verify_wal;
mod wal;
mod wal_acknowledge;
mod wal_fetch;
mod wal_flush;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand, ValueEnum};

use crate::domain::check::Broke;
use crate::engine::serve::Role;
use crate::engine::{House, interrupt};
use crate::load::{self, LoadErrors};
use crate::telemetry::log::{self, Early};

pub use exit::Exit;

/// Backup and disaster-recovery verifier for PostgreSQL: a backup is a promise, lifeboat is the proof.
#[derive(Debug, Parser)]
#[command(name = "lifeboat", version, after_help = exit::EXIT_CODES, max_term_width = 110)]
pub struct Cli {
    /// The configuration.
    #[arg(long, short, global = true, value_name = "FILE", env = "LIFEBOAT_CONFIG", default_value = "lifeboat.toml")]
    pub config: PathBuf,
    /// How results are written to standard output. (Logs and progress go to standard error.)
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Say more on standard error; twice for still more.
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    #[command(subcommand)]
    verb: Verb,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For machines: one JSON document with a `schema`.
    Json,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write a first configuration, a policy and fresh keys.
    Init(init::Args),
    /// Validate the configuration, then try every connection, store, key and program.
    Check(check::Args),
    /// Take a sealed backup.
    Backup(backup::Args),
    /// Rehearse a recovery in a sandbox, and judge it.
    Drill(drill::Args),
    /// Bring a database back, for the real day.
    Restore(Box<restore::Args>),
    /// Tell how far a restore could get, or the last moment at which something still held.
    Find(find::Args),
    /// Read artifacts back and verify them, without restoring.
    Verify(verify::Args),
    /// Delete what no retention keeps: never the last proven backup, nor one on hold.
    Prune(prune::Args),
    /// Copy what is missing into second stores, verified there.
    Copy(copy::Args),
    /// Compare the copies in second stores with the first, and judge 3-2-1-1-0.
    Copies(copies::Args),
    /// The log: into the store (archive_command), and back (restore_command).
    Wal(wal::Args),
    /// Where every policy stands.
    Status(status::Args),
    /// Where the world is not as it was declared.
    Drift(drift::Args),
    /// Metrics of every policy, as Prometheus reads them: printed, to a file, or over HTTP.
    Metrics(metrics::Args),
    /// What somebody must hear of: alarms that are open, taken on, or over lately, and letters that wait.
    Alarms(alarms::Args),
    /// Take an alarm on: nobody else is woken for it.
    Ack(ack::Args),
    /// Tell those who are to be told: once, for ever, or a test.
    Notify(notify::Args),
    /// The report of one drill.
    Report(report::Args),
    /// The runbook of a policy: what a human does with public tools.
    Runbook(runbook::Args),
    /// Plan what is due, do it, receive the log: the service.
    Serve(serve::Args),
    /// Do what a service on another machine plans.
    Worker(serve::Args),
    /// What will run when, and why; what waits and runs now.
    Schedule(schedule::Args),
    /// Look after the catalog.
    Catalog(catalog::Args),
    /// The whole main job on a throw-away server, in under two minutes.
    Demo(demo::Args),
}

impl Verb {
    /// As it is typed.
    fn name(&self) -> &'static str {
        match self {
            Verb::Init(_) => "init",
            Verb::Check(_) => "check",
            Verb::Backup(_) => "backup",
            Verb::Drill(_) => "drill",
            Verb::Restore(_) => "restore",
            Verb::Find(_) => "find",
            Verb::Verify(_) => "verify",
            Verb::Prune(_) => "prune",
            Verb::Copy(_) => "copy",
            Verb::Copies(_) => "copies",
            Verb::Wal(_) => "wal",
            Verb::Status(_) => "status",
            Verb::Drift(_) => "drift",
            Verb::Metrics(_) => "metrics",
            Verb::Alarms(_) => "alarms",
            Verb::Ack(_) => "ack",
            Verb::Notify(_) => "notify",
            Verb::Report(_) => "report",
            Verb::Runbook(_) => "runbook",
            Verb::Serve(_) => "serve",
            Verb::Worker(_) => "worker",
            Verb::Schedule(_) => "schedule",
            Verb::Catalog(_) => "catalog",
            Verb::Demo(_) => "demo",
        }
    }

    /// Whether it hears a signal itself and ends in good order.
    fn stops_itself(&self) -> bool {
        match self {
            Verb::Drill(_) | Verb::Restore(_) | Verb::Verify(_) | Verb::Copy(_) | Verb::Prune(_) | Verb::Demo(_) => {
                true
            }
            Verb::Serve(_) | Verb::Worker(_) => true,
            Verb::Backup(args) => args.stops_itself(),
            Verb::Wal(args) => args.stops_itself(),
            Verb::Find(args) => args.makes_scratches(),
            Verb::Metrics(args) => args.stops_itself(),
            Verb::Notify(args) => args.stops_itself(),
            Verb::Init(_)
            | Verb::Check(_)
            | Verb::Copies(_)
            | Verb::Status(_)
            | Verb::Drift(_)
            | Verb::Alarms(_)
            | Verb::Ack(_)
            | Verb::Report(_)
            | Verb::Runbook(_)
            | Verb::Schedule(_)
            | Verb::Catalog(_) => false,
        }
    }
}

/// Why a command could not do its work.
#[derive(Debug)]
pub struct Failure {
    /// Which exit code.
    pub exit: Exit,
    /// What and what to do; several lines when the configuration is wrong in several places.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// Wrong usage or configuration.
    pub fn usage(broke: Broke) -> Failure {
        Failure { exit: Exit::Usage, text: broke.error, hint: broke.hint }
    }
}

impl From<Broke> for Failure {
    fn from(broke: Broke) -> Failure {
        Failure { exit: Exit::Error, text: broke.error, hint: broke.hint }
    }
}

impl Cli {
    /// Loads the configuration and builds the house; what is wrong with it is exit code 2.
    pub fn house(&self) -> Result<House, Failure> {
        House::build(self.load(load::load)?).map_err(Failure::from)
    }

    /// Loads the configuration, or what of it somebody needs.
    fn load<T>(&self, load: impl FnOnce(&Path) -> Result<T, LoadErrors>) -> Result<T, Failure> {
        if let Some(missing) = crate::engine::house::config_missing(&self.config) {
            return Err(Failure::usage(missing));
        }
        load(&self.config).map_err(|errors| Failure {
            exit: Exit::Usage,
            text: errors.render(output::color_on_stderr()),
            hint: None,
        })
    }

    /// Whether every failure must keep a server from going on.
    fn stops_a_server(&self) -> bool {
        matches!(&self.verb, Verb::Wal(args) if args.stops_a_server())
    }

    /// Verbs that hold nothing are dropped where they are when the process is asked to stop; the others see to it themselves,
    /// for there is something to be cleaned up.
    async fn dispatch_or_stop(&self) -> Result<Exit, Failure> {
        if self.verb.stops_itself() {
            return self.dispatch().await;
        }
        tokio::select! {
            biased;
            ended = self.dispatch() => ended,
            signal = interrupt::asked_to_stop() => Err(Broke::hinted(
                format!("stopped by {signal} before its end"),
                "nothing was half changed; run it again",
            )
            .into()),
        }
    }

    async fn dispatch(&self) -> Result<Exit, Failure> {
        match &self.verb {
            Verb::Init(args) => init::run(self, args).await,
            Verb::Check(args) => check::run(self, args).await,
            Verb::Backup(args) => backup::run(self, args).await,
            Verb::Drill(args) => drill::run(self, args).await,
            Verb::Restore(args) => restore::run(self, args).await,
            Verb::Find(args) => find::run(self, args).await,
            Verb::Verify(args) => verify::run(self, args).await,
            Verb::Prune(args) => prune::run(self, args).await,
            Verb::Copy(args) => copy::run(self, args).await,
            Verb::Copies(args) => copies::run(self, args).await,
            Verb::Wal(args) => wal::run(self, args).await,
            Verb::Status(args) => status::run(self, args).await,
            Verb::Drift(args) => drift::run(self, args).await,
            Verb::Metrics(args) => metrics::run(self, args).await,
            Verb::Alarms(args) => alarms::run(self, args).await,
            Verb::Ack(args) => ack::run(self, args).await,
            Verb::Notify(args) => notify::run(self, args).await,
            Verb::Report(args) => report::run(self, args).await,
            Verb::Runbook(args) => runbook::run(self, args).await,
            Verb::Serve(args) => serve::run(self, args, Role::Serve).await,
            Verb::Worker(args) => serve::run(self, args, Role::Worker).await,
            Verb::Schedule(args) => schedule::run(self, args).await,
            Verb::Catalog(args) => catalog::run(self, args).await,
            Verb::Demo(args) => demo::run(self, args).await,
        }
    }
}

/// Says what is wrong with the arguments (or what was asked for, as `--help`), and how that ends.
pub fn misused(error: &clap::Error) -> Exit {
    // A closed pipe is nobody's error.
    let _ = error.print();
    match error.exit_code() {
        0 => Exit::Ok,
        _ => for_a_server().unwrap_or(Exit::Usage),
    }
}

/// How a server must be answered when something breaks, also before the arguments are understood; none: no server asks.
///
/// One that asks for a file takes 2, or a panic's 101, for the end of the log. One that is process 1 of a container inherits what a fetch
/// leaves behind, and takes all but 0 and 1 for a crash of its own.
fn for_a_server() -> Option<Exit> {
    let words: Vec<OsString> = std::env::args_os().collect();
    // Options may stand between the two; where in doubt the server stops.
    let are = |second: &str| ["wal", second].iter().all(|word| words.iter().any(|one| one == word));
    if are("fetch") { Some(Exit::ServerMustStop) } else { are("ahead").then_some(Exit::Error) }
}

/// From here on a panic ends the process with what a server must be answered.
pub fn guard() {
    if let Some(exit) = for_a_server() {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            tell(panic);
            std::process::exit(i32::from(exit as u8));
        }));
    }
}

/// What can be done before there is a runtime: all of it, where a server waits for a segment that was fetched ahead.
pub fn at_once(cli: &Cli) -> Option<Exit> {
    match &cli.verb {
        Verb::Wal(args) => args.at_once(cli),
        Verb::Serve(_) | Verb::Worker(_) => {
            arenas::few();
            None
        }
        _ => None,
    }
}

/// How a command ends that could not even be begun.
pub fn not_begun(cli: &Cli) -> Exit {
    if cli.stops_a_server() { Exit::ServerMustStop } else { Exit::Error }
}

/// Runs the command that the arguments name.
pub async fn main(cli: Cli) -> Exit {
    let traces = log::start(&Early::read(&cli.config), cli.verbose);
    interrupt::listen();
    let exit = match cli.dispatch_or_stop().await {
        Ok(exit) => exit,
        Err(failure) => {
            output::print_failure(&failure, cli.output);
            if cli.stops_a_server() { Exit::ServerMustStop } else { failure.exit }
        }
    };
    // What is sent of traces is waited for a little, and never changes how it ends.
    if let Some(traces) = traces {
        let _ = tokio::task::spawn_blocking(move || traces.end()).await;
    }
    // Work that came to its end in spite of the signal is whole, and says nothing of it.
    if let (Some(signal), true) = (interrupt::heard(), exit != Exit::Ok) {
        output::say(&format!("interrupted: `lifeboat {}` was stopped by {signal}", cli.verb.name()));
    }
    if exit == Exit::Ok && output::lost_a_result() { Exit::Error } else { exit }
}
