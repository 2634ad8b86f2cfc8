//! `lifeboat metrics`.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

use super::{Cli, Exit, Failure, Output, output};
use crate::domain::check::Broke;
use crate::domain::watch::Listen;
use crate::engine::interrupt;
use crate::engine::watch::Watcher;
use crate::judge::metrics::{FAMILIES, samples};
use crate::telemetry::metrics::Form;
use crate::web::Listening;

/// The `schema` of `--output json`.
const SCHEMA: &str = "lifeboat.metrics/1";

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write them to this file, whole or not at all: for the textfile collector of node_exporter. Its name must end in .prom.
    #[arg(long, value_name = "FILE", conflicts_with = "serve")]
    textfile: Option<PathBuf>,
    /// As OpenMetrics 1.0 instead of Prometheus' older text format.
    #[arg(long, conflicts_with_all = ["textfile", "serve"])]
    openmetrics: bool,
    /// Answer for /metrics, /healthz and /readyz until stopped: at `[serve] listen`, or where this says (loopback only).
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1)]
    serve: Option<Option<SocketAddr>>,
}

impl Args {
    /// Whether it hears a signal itself.
    pub fn stops_itself(&self) -> bool {
        self.serve.is_some()
    }
}

/// Runs the verb.
pub async fn run(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let watcher = Arc::new(Watcher::new(Arc::new(cli.house()?)));
    if let Some(at) = args.serve {
        return serve(watcher, at).await;
    }
    if let Some(file) = &args.textfile {
        let text = watcher.metrics(Form::Classic).await.whole().await?;
        write_whole(file, &text)?;
        return Ok(Exit::Ok);
    }
    match cli.output {
        Output::Json => output::print_json(&document(&watcher).await),
        Output::Table => {
            let form = if args.openmetrics { Form::OpenMetrics } else { Form::Classic };
            output::print(&watcher.metrics(form).await.whole().await?);
        }
    }
    Ok(Exit::Ok)
}

async fn serve(watcher: Arc<Watcher>, at: Option<SocketAddr>) -> Result<Exit, Failure> {
    let listen = match at {
        None => watcher.house().config.watch.listen(),
        Some(address) if address.ip().is_loopback() => Listen::Tcp(address.to_string()),
        Some(address) => {
            let hint = "write it in lifeboat.toml: [serve] listen = \"…\" and exposed = true";
            let why = format!("`{address}` can be reached from other machines, and there is no log-in");
            return Err(Failure::usage(Broke::hinted(why, hint)));
        }
    };
    let listening = Listening::bind(&listen).await?;
    output::say(&format!("metrics and health at {}", listening.address()));
    let (stop, stopped) = watch::channel(false);
    let answering = listening.run(watcher, stopped);
    tokio::pin!(answering);
    tokio::select! {
        () = &mut answering => return Err(Broke::new("nobody answers for metrics any more").into()),
        _ = interrupt::asked_to_stop() => {}
    }
    // A scrape that is under way comes to its end, unless it takes too long.
    let _ = stop.send(true);
    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), answering).await;
    Ok(Exit::Ok)
}

async fn document(watcher: &Watcher) -> serde_json::Value {
    let (world, now) = (watcher.world().await, crate::clock::now());
    let rows = samples(&world, env!("CARGO_PKG_VERSION"), now);
    let metrics: Vec<serde_json::Value> = FAMILIES
        .iter()
        .zip(rows)
        .flat_map(|(family, row)| {
            row.into_iter().map(move |sample| {
                let labels: serde_json::Map<String, serde_json::Value> = family
                    .labels
                    .iter()
                    .zip(sample.labels)
                    .map(|(name, value)| ((*name).to_owned(), value.into()))
                    .collect();
                serde_json::json!({ "name": family.name, "labels": labels, "value": sample.value })
            })
        })
        .collect();
    serde_json::json!({ "schema": SCHEMA, "at": now, "metrics": metrics })
}

/// Under another name first: a collector never sees half of it.
fn write_whole(file: &Path, text: &str) -> Result<(), Failure> {
    if file.extension().is_none_or(|extension| extension != "prom") {
        let hint = "node_exporter reads only files whose name ends in .prom";
        return Err(Failure::usage(Broke::hinted(format!("{} is not such a file", file.display()), hint)));
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = (|| {
        let mut temporary = tempfile::Builder::new().prefix(".lifeboat-").tempfile_in(folder)?;
        temporary.write_all(text.as_bytes())?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        temporary.as_file().set_permissions(mode)?;
        temporary.as_file().sync_all()?;
        temporary.persist(file).map_err(|error| error.error)
    })();
    written.map(drop).map_err(|error| {
        let hint = "name a file in a folder that can be written, such as the collector's own";
        Broke::hinted(format!("{} could not be written: {error}", file.display()), hint).into()
    })
}
