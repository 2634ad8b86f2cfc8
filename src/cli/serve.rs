//! `lifeboat serve` and `lifeboat worker`.

use super::{Cli, Exit, Failure};
use crate::domain::check::Broke;
use crate::engine::serve::{self, Role, Source};
use crate::load;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Runs until it is asked to stop. The first SIGTERM or Ctrl-C: nothing new is begun, and what runs may come to its end within [serve] drain; the second stops it at once, cleanly. SIGHUP, or a change of a file: \
policies and drills are read again, all of them or, when one is wrong, none.

Any number of `serve` and `worker` may share one catalog: of each run there is one, whoever plans it, and one does it at a time. What a machine does at once, and what it offers:
  [serve]
  workers = 4          # 0: only plan
  backups = 2
  drills = 1
  [worker]
  labels = [\"pg17\"]    # for [[drill]] needs = [\"pg17\"]

docs/serve.md, docs/schedule.md")]
pub struct Args {}

/// Runs the verb.
pub async fn run(cli: &Cli, _args: &Args, role: Role) -> Result<Exit, Failure> {
    let house = cli.house()?;
    if role == Role::Worker && house.config.serve.workers == 0 {
        let hint = "set [serve] workers to 1 or more in lifeboat.toml";
        return Err(Failure::usage(Broke::hinted("a worker that may do nothing at once does nothing", hint)));
    }
    let source = Source {
        file: cli.config.clone(),
        load: |file| load::load(file).map_err(|errors| errors.render(super::output::color_on_stderr())),
    };
    serve::run(house, source, role).await?;
    Ok(Exit::Ok)
}
