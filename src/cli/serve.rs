//! `lifeboat serve` and `lifeboat worker`.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Cli, Exit, Failure};
use crate::domain::check::Broke;
use crate::engine::serve::{self, Background, Role, Shared, Source};
use crate::engine::watch::Watcher;
use crate::load;
use crate::web::Listening;

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
    // An address that cannot be had is told before anything is begun.
    let listening = match role {
        Role::Serve => Some(Listening::bind(&house.config.watch.listen).await?),
        Role::Worker => None,
    };
    let more = move |shared: &Arc<Shared>, end: &watch::Receiver<bool>| {
        let Some(listening) = listening else { return Vec::new() };
        tracing::info!(address = listening.address(), "metrics and health are answered");
        let watcher = Arc::new(Watcher::of_service(shared));
        let answering = listening.run(Arc::clone(&watcher), end.clone());
        vec![
            Background { name: "web", work: Box::pin(answering) },
            Background { name: "alarms", work: Box::pin(watcher.run(end.clone())) },
        ]
    };
    serve::run(house, source, role, Box::new(more)).await?;
    Ok(Exit::Ok)
}
