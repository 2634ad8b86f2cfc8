//! What is answered over HTTP: metrics and health. To this machine alone, unless the configuration says otherwise.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::{StreamExt, stream};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use crate::domain::check::Broke;
use crate::domain::ids::RunId;
use crate::domain::watch::Listen;
use crate::engine::watch::Watcher;
use crate::telemetry::metrics::Form;

/// How long the catalog may take to answer before this process is not ready.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// A place to be asked at.
pub enum Listening {
    /// An address.
    Tcp(TcpListener),
    /// A socket in the file system.
    Unix(UnixListener, PathBuf),
}

impl Listening {
    /// Begins to listen.
    pub async fn bind(listen: &Listen) -> Result<Listening, Broke> {
        let taken = |shown: String, error: std::io::Error| {
            let hint = "another lifeboat may listen there; name another place: [serve] listen in lifeboat.toml";
            Broke::hinted(format!("{shown} cannot be listened on: {error}"), hint)
        };
        match listen {
            Listen::Tcp(address) => {
                let listener = TcpListener::bind(address).await;
                listener.map(Listening::Tcp).map_err(|error| taken(address.clone(), error))
            }
            Listen::Unix(path) => {
                let shown = path.display().to_string();
                forget_dead_socket(path);
                let listener = UnixListener::bind(path).map_err(|error| taken(shown.clone(), error))?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))
                    .map_err(|error| taken(shown, error))?;
                Ok(Listening::Unix(listener, path.clone()))
            }
        }
    }

    /// Where it listens, as a person would type it.
    pub fn address(&self) -> String {
        match self {
            Listening::Tcp(listener) => {
                listener.local_addr().map_or_else(|_| "an address".to_owned(), |address| format!("http://{address}"))
            }
            Listening::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }

    /// Answers until it is told to stop.
    pub async fn run(self, watcher: Arc<Watcher>, mut stop: watch::Receiver<bool>) {
        let router = router(watcher);
        let told = async move { drop(stop.wait_for(|stop| *stop).await) };
        let ended = match self {
            Listening::Tcp(listener) => axum::serve(listener, router).with_graceful_shutdown(told).await,
            Listening::Unix(listener, path) => {
                let ended = axum::serve(listener, router).with_graceful_shutdown(told).await;
                // Whoever comes next makes it anew.
                let _ = std::fs::remove_file(path);
                ended
            }
        };
        if let Err(error) = ended {
            tracing::error!("nobody answers for metrics and health any more: {error}");
        }
    }
}

/// A socket on which nobody listens any more is in the way of the next one. Nothing else is removed.
fn forget_dead_socket(path: &Path) {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        let _ = std::fs::remove_file(path);
    }
}

/// What is answered.
pub fn router(watcher: Arc<Watcher>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .with_state(watcher)
}

async fn metrics(State(watcher): State<Arc<Watcher>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let form = Form::accepted(accept);
    let mut text = watcher.metrics(form).await;
    let first = match text.next().await {
        Some(Ok(first)) => first,
        Some(Err(broke)) => return plain(StatusCode::INTERNAL_SERVER_ERROR, &format!("{broke}\n")),
        None => String::new(),
    };
    // An error further on breaks the answer off: a scraper does not take half of it for all.
    let rest = stream::unfold(text, |mut text| async { text.next().await.map(|part| (part, text)) });
    let parts = stream::once(async { Ok(first) })
        .chain(rest)
        .map(|part| part.map_err(|broke| std::io::Error::other(broke.error)));
    answer(StatusCode::OK, form.media_type(), Body::from_stream(parts))
}

/// The process is alive, and each of its loops moves.
async fn health(State(watcher): State<Arc<Watcher>>) -> Response {
    let stuck = watcher.stuck();
    if stuck.is_empty() {
        return plain(StatusCode::OK, "ok\n");
    }
    let lines = stuck.iter().map(|(of, silent)| format!("{of} has not moved for {} s\n", silent.as_secs()));
    plain(StatusCode::SERVICE_UNAVAILABLE, &lines.collect::<String>())
}

/// The catalog answers.
async fn ready(State(watcher): State<Arc<Watcher>>) -> Response {
    let house = watcher.house();
    let asked = house.catalog.run(RunId(uuid::Uuid::nil()));
    match tokio::time::timeout(READY_WITHIN, asked).await {
        Ok(Ok(_)) => plain(StatusCode::OK, "ready\n"),
        Ok(Err(broke)) => {
            tracing::warn!("not ready: the catalog does not answer: {broke}");
            plain(StatusCode::SERVICE_UNAVAILABLE, "the catalog does not answer\n")
        }
        Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "the catalog does not answer in time\n"),
    }
}

fn plain(status: StatusCode, text: &str) -> Response {
    answer(status, "text/plain; charset=utf-8", Body::from(text.to_owned()))
}

fn answer(status: StatusCode, media_type: &'static str, body: Body) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    (status, headers, body).into_response()
}
