//! `lifeboat wal fetch`, and the process that it leaves behind to fetch what will be asked for next.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::alone::{Alone, Means};
use super::{Cli, Exit, Failure, output};
use crate::domain::check::{Broke, Stop};
use crate::domain::ids::{BadId, PolicyName};
use crate::domain::wal::WalName;
use crate::engine::house;
use crate::engine::wal::ahead::{self, Fill, Origin, Served};
use crate::engine::wal::{self, Fetched};
use crate::load;
use crate::render::plain;

/// What both have to know.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Fetch {
    /// Where to: `%p`.
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Keep so many of the next segments ready in a folder lifeboat.ahead beside PATH, 256 MiB at most; 0: none.
    #[arg(long, value_name = "N", default_value_t = ahead::SEGMENTS)]
    ahead: usize,
    #[command(flatten)]
    alone: Alone,
}

impl Fetch {
    /// Gives out what was fetched ahead.
    pub fn at_once(&self, cli: &Cli, policy: &str, name: &str) -> Option<Exit> {
        let Ok(WalName::Segment(segment)) = name.parse() else { return None };
        let call = self.call(cli, policy).filter(|_| self.ahead > 0)?;
        let Served { hungry } = ahead::serve(&call, segment, &self.path, self.ahead)?;
        if hungry {
            self.leave_one_behind(&call);
        }
        Some(Exit::Ok)
    }

    /// Fetches one file.
    pub async fn run(&self, cli: &Cli, policy: &str, name: &str) -> Result<Exit, Failure> {
        let name: WalName = name.parse().map_err(bad)?;
        let (means, policy, files) = self.means(cli, policy)?;
        let (stores, trusted, opener) = (&means.stores, &means.trusted, &means.opener);
        // As it is now: what is changed while it is fetched makes another origin.
        let origin = self.call(cli, policy.as_str()).map(|call| (Origin::new(call.clone(), files, stores), call));
        match (wal::fetch(stores, &policy, name, trusted, opener, &self.path).await, name) {
            (Ok(Fetched::Written(length)), WalName::Segment(segment)) => {
                if let Some((origin, call)) = origin
                    && ahead::begin(origin, segment, length, &self.path, self.ahead)
                {
                    self.leave_one_behind(&call);
                }
                Ok(Exit::Ok)
            }
            (Ok(Fetched::Written(_)), _) => Ok(Exit::Ok),
            // No failure: the one answer that lets a server end its recovery.
            (Ok(Fetched::Absent), _) => {
                if let WalName::Segment(segment) = name {
                    ahead::end(segment, &self.path);
                }
                output::say(&format!("{name} is not in the store"));
                Ok(Exit::Error)
            }
            (Err(Stop::Broke(broke)), _) => Err(broke.into()),
            (Err(Stop::Found(findings)), _) => {
                let said = findings.iter().map(|one| format!("{}: {} [{}]", one.object, one.message, one.code));
                let text = plain(&said.collect::<Vec<_>>().join("\n  "));
                let hint = "the server stops here; see what is left with `lifeboat verify POLICY --wal`";
                Err(Failure { exit: Exit::Finding, text, hint: Some(hint.to_owned()) })
            }
        }
    }

    /// The process that was left behind. Nobody hears it: whatever goes wrong, the fetch that wants the segment will find and say it.
    pub async fn fill(&self, cli: &Cli, policy: &str) -> Exit {
        // The server signals its children by their group, and has nothing to tell this one.
        let _ = rustix::process::setsid();
        let Ok((means, policy, files)) = self.means(cli, policy) else { return Exit::Error };
        if let Some(call) = self.call(cli, policy.as_str()) {
            let origin = Origin::new(call, files, &means.stores);
            let fill = Fill {
                stores: &means.stores,
                policy: &policy,
                trusted: &means.trusted,
                opener: &means.opener,
                origin: &origin,
                to: &self.path,
                ahead: self.ahead,
            };
            ahead::fill(&fill).await;
        }
        Exit::Ok
    }

    /// Stores and keys, and the files that they come from. No catalog, no drill.
    fn means(&self, cli: &Cli, policy: &str) -> Result<(Means, PolicyName, Vec<PathBuf>), Failure> {
        if let Some(means) = self.alone.open()? {
            return Ok((means, policy.parse::<PolicyName>().map_err(bad)?, self.alone.files()));
        }
        let loaded = cli.load(load::load_without_drills)?;
        let (config, keys) = (&loaded.config, &loaded.config.keys);
        let policy = house::policy_named(&loaded.policies, policy).map_err(Failure::usage)?;
        let stores = house::stores_to_read(config, policy)?;
        let trusted = crate::seal::TrustedSigners::read(&keys.trusted_signers).map_err(Broke::from)?;
        let files = [cli.config.clone(), policy.file.clone()].into_iter().chain(keys.identities.iter().cloned());
        let files = files.chain(keys.trusted_signers.iter().cloned()).collect();
        Ok((Means { stores, opener: house::opener(keys)?, trusted }, policy.name.clone(), files))
    }

    /// This call in words that mean the same wherever they are read; none if it cannot be told in words.
    fn call(&self, cli: &Cli, policy: &str) -> Option<Vec<String>> {
        let mut call = vec![policy.to_owned()];
        if self.alone.is_given() {
            call.extend(self.alone.words()?);
        } else {
            let config = std::path::absolute(&cli.config).ok()?;
            call.push(format!("--config={}", config.to_str()?));
        }
        Some(call)
    }

    /// Starts it. That it cannot be started makes later fetches slower, and no more.
    fn leave_one_behind(&self, call: &[String]) {
        let Ok(program) = std::env::current_exe() else { return };
        let mut command = Command::new(program);
        command.arg0("lifeboat").args(["wal", "ahead", &format!("--ahead={}", self.ahead)]);
        let (policy, options) = call.split_first().unzip();
        command.args(options.into_iter().flatten()).arg("--").args(policy).arg(&self.path);
        // Its output would keep the server's log open, and whoever reads it waiting.
        let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    }
}

fn bad(error: BadId) -> Failure {
    Failure::usage(Broke::new(error.to_string()))
}
