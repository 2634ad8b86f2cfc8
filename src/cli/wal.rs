//! `lifeboat wal`.

use std::path::PathBuf;

use super::progress::Bar;
use super::wal_fetch::Fetch;
use super::{Cli, Exit, Failure, Output, output};
use crate::domain::check::Broke;
use crate::engine::wal;

/// The `schema` of the JSON document.
const SCHEMA: &str = "lifeboat.wal-push/1";

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Seal one file of the log into the store: for archive_command.
    #[command(
        after_help = "In the source's postgresql.conf:\n  archive_mode = on\n  archive_command = 'lifeboat --config /etc/lifeboat/lifeboat.toml wal push POLICY %p'\n\nThe same bytes again are a success, other bytes under the same name an error. Until it succeeds the server keeps the file and asks again.\n\nWith a spool in the policy, a store that takes nothing is stood in for by a folder on this machine:\n  [wal]\n  spool = { dir = \"/var/spool/lifeboat/orders\", max = \"10 GiB\" }\nIt ends with 0 then too, and warns: the store does not have the file. The next push brings it there first, or `lifeboat wal flush`."
    )]
    Push {
        /// Whose log.
        #[arg(value_name = "POLICY")]
        policy: String,
        /// The file: `%p`.
        #[arg(value_name = "PATH")]
        path: PathBuf,
    },
    /// Receive the log over the replication protocol, and keep it durable in the store within a second.
    #[command(
        after_help = "In the policy:\n  [wal]\n  stream = true\n  heartbeat = \"10s\"   # needs its table: lifeboat init --heartbeat\n\nRuns until it is asked to stop (SIGTERM, Ctrl-C); a source that goes away is waited for. The source keeps what is not durable yet, under the slot lifeboat_POLICY: set max_slot_wal_keep_size there, so that a receiver that is gone cannot fill its disk. Drop the slot when no receiver is wanted any more: select pg_drop_replication_slot('lifeboat_POLICY')."
    )]
    Stream {
        /// Whose log.
        #[arg(value_name = "POLICY")]
        policy: String,
        /// End, with an error, when the connection to the source is lost.
        #[arg(long)]
        no_loop: bool,
    },
    /// Bring what waits in the spool into the store: by hand, or from a timer.
    #[command(after_help = super::wal_flush::HELP)]
    Flush {
        /// Whose log.
        #[arg(value_name = "POLICY")]
        policy: String,
    },
    /// Answer for a stretch of the log that is lost for good.
    Acknowledge(super::wal_acknowledge::Args),
    /// Bring one file of the log back: for restore_command.
    #[command(
        after_help = "In a server's postgresql.conf:\n  restore_command = 'lifeboat --config /etc/lifeboat/lifeboat.toml wal fetch POLICY %f %p'\n\nExit codes: 0 it is there, whole and verified; 1 it is certainly not in the store; 200 anything else, and the server stops.\n\nA process stays behind that keeps the next segments ready in a folder lifeboat.ahead beside %p. It ends, and takes the folder away, when recovery does, or when nobody has asked for 30 seconds."
    )]
    Fetch {
        /// Whose log.
        #[arg(value_name = "POLICY")]
        policy: String,
        /// The file's name: `%f`.
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        fetch: Fetch,
    },
    /// What `fetch` leaves behind.
    #[command(hide = true)]
    Ahead {
        /// Whose log.
        policy: String,
        #[command(flatten)]
        fetch: Fetch,
    },
}

impl Args {
    /// Whether it hears a signal itself and ends in good order.
    pub fn stops_itself(&self) -> bool {
        matches!(self.what, What::Stream { .. })
    }

    /// Whether every failure must keep a server from going on.
    pub fn stops_a_server(&self) -> bool {
        matches!(self.what, What::Fetch { .. })
    }

    /// What can be done before anything is begun: a segment that was fetched ahead is there.
    pub fn at_once(&self, cli: &Cli) -> Option<Exit> {
        match &self.what {
            What::Fetch { policy, name, fetch } => fetch.at_once(cli, policy, name),
            What::Push { .. }
            | What::Stream { .. }
            | What::Flush { .. }
            | What::Acknowledge(_)
            | What::Ahead { .. } => None,
        }
    }
}

/// Runs the verb.
pub async fn run(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    match &args.what {
        What::Push { policy, path } => {
            let house = cli.house()?;
            let policy = house.policy(policy).map_err(Failure::usage)?;
            let pushed = wal::push(&house, policy, path).await?;
            for warning in &pushed.warnings {
                output::warn(&Broke::new(warning.clone()));
            }
            if cli.output == Output::Json {
                let spooled = pushed.spooled;
                output::print_json(&serde_json::json!({ "schema": SCHEMA, "spooled": spooled, "pushed": pushed }));
            } else if cli.verbose > 0 {
                let already = if pushed.already { "was there already" } else { "is sealed" };
                output::say(&format!("{} {already}: {}", pushed.record.name, pushed.record.key));
            }
            Ok(Exit::Ok)
        }
        What::Stream { policy, no_loop } => {
            let house = cli.house()?;
            let policy = house.policy(policy).map_err(Failure::usage)?;
            wal::stream(&house, policy, *no_loop, &Bar::new("wal stream")).await?;
            Ok(Exit::Ok)
        }
        What::Acknowledge(args) => super::wal_acknowledge::run(cli, args).await,
        What::Flush { policy } => super::wal_flush::run(cli, policy).await,
        What::Fetch { policy, name, fetch } => fetch.run(cli, policy, name).await,
        What::Ahead { policy, fetch } => Ok(fetch.fill(cli, policy).await),
    }
}
