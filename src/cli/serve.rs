//! `lifeboat serve` and `lifeboat worker`.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Cli, Exit, Failure};
use crate::domain::check::Broke;
use crate::domain::watch::Watch;
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
    let listening = match role {
        Role::Serve => listen(&house.config.watch).await?,
        Role::Worker => None,
    };
    let more = move |shared: &Arc<Shared>, end: &watch::Receiver<bool>| {
        let mut parts = Vec::new();
        if role == Role::Worker {
            return parts;
        }
        let watcher = Arc::new(Watcher::of_service(shared));
        if let Some(listening) = listening {
            tracing::info!(address = listening.address(), "metrics and health are answered");
            let answering = listening.run(Arc::clone(&watcher), end.clone());
            parts.push(Background { name: "web", work: Box::pin(answering) });
        }
        parts.push(Background { name: "alarms", work: Box::pin(watcher.run(end.clone())) });
        parts
    };
    serve::run(house, source, role, Box::new(more)).await?;
    Ok(Exit::Ok)
}

/// An address that was asked for and cannot be had is told before anything is begun; where nobody asked, another lifeboat of this machine may have it.
async fn listen(watch: &Watch) -> Result<Option<Listening>, Broke> {
    match (Listening::bind(&watch.listen()).await, &watch.listen) {
        (Ok(listening), _) => Ok(Some(listening)),
        (Err(broke), Some(_)) => Err(broke),
        (Err(broke), None) => {
            super::output::warn(&broke);
            Ok(None)
        }
    }
}
