//! Waiting for the queue: told by the server where it can be, by the clock else.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::PostgresCatalog;
use super::error::{ServerError, Trouble};
use super::link::Link;

/// On which channel; the payload names the schema.
pub(super) const CHANNEL: &str = "lifeboat_queue";
/// How long who waits sleeps when nobody tells it anything.
const POLL: Duration = Duration::from_secs(2);
/// How long a listener that lost its server waits before it tries again.
const AGAIN: Duration = Duration::from_secs(2);

/// What was told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// How often.
    pub(super) times: u64,
    /// Whether somebody listens.
    pub(super) listening: bool,
}

impl PostgresCatalog {
    /// Until something was told, or so long.
    pub(super) async fn until_told(&self, at_most: Duration) {
        let mut told = self.told.subscribe();
        self.listen();
        let before = told.borrow_and_update().times;
        let sleep = if told.borrow().listening { at_most } else { at_most.min(POLL) };
        let heard = async {
            while told.changed().await.is_ok() {
                if told.borrow_and_update().times != before {
                    return;
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = heard => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }

    /// Somebody listens from the first time on that somebody waits.
    fn listen(&self) {
        let mut listener = self.listener.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if listener.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
            *listener = Some(tokio::spawn(keep_listening(self.link.clone(), self.told.clone())));
        }
    }
}

async fn keep_listening(link: Link, told: watch::Sender<Told>) {
    loop {
        if let Err(trouble) = listen(&link, &told).await {
            tracing::debug!(?trouble, "nobody listens to the catalog's queue");
        }
        told.send_modify(|told| told.listening = false);
        tokio::time::sleep(AGAIN).await;
    }
}

async fn listen(link: &Link, told: &watch::Sender<Told>) -> Result<(), Trouble> {
    let endpoint = link.endpoint().map_err(ServerError::from)?;
    let (sender, mut notices) = mpsc::unbounded_channel();
    let client = endpoint.listen(sender).await.map_err(ServerError::from)?;
    client.batch_execute(&format!("listen {CHANNEL}")).await?;
    // What happened before somebody listened was not heard.
    told.send_modify(|told| *told = Told { times: told.times.wrapping_add(1), listening: true });
    loop {
        match tokio::time::timeout(Duration::from_secs(60), notices.recv()).await {
            Ok(Some(schema)) if schema == link.schema() => {
                told.send_modify(|told| told.times = told.times.wrapping_add(1))
            }
            Ok(Some(_)) => {}
            Ok(None) => return Ok(()),
            // A connection that is dead in silence would be listened to for ever.
            Err(_) => match tokio::time::timeout(link.within(), client.batch_execute("select 1")).await {
                Ok(answer) => answer?,
                Err(_) => return Ok(()),
            },
        }
    }
}
