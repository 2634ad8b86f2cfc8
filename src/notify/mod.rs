//! Delivers letters. One attempt each: when to try again is decided elsewhere, and that something was delivered only a receiver's answer tells.

mod http;
mod mail;
mod secret;

use std::time::Duration;

use crate::domain::alarm::Letter;
use crate::domain::units::Span;
use crate::domain::watch::{Notifier, NotifierKind};

pub use http::signature;

/// Why a letter did not arrive, as far as can be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Undelivered {
    /// In one sentence, without any secret.
    pub why: String,
    /// No later attempt can do better: the receiver does not take such a letter.
    pub hopeless: bool,
    /// The receiver asked not to be tried before.
    pub retry_after: Option<Span>,
}

impl Undelivered {
    fn new(why: impl Into<String>) -> Undelivered {
        Undelivered { why: why.into(), hopeless: false, retry_after: None }
    }
}

/// Delivers letters over connections that are kept.
pub struct Carrier {
    client: reqwest::Client,
}

impl Carrier {
    /// A new one.
    pub fn new() -> Result<Carrier, Undelivered> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("lifeboat/", env!("CARGO_PKG_VERSION")))
            // A receiver that moved must be named anew: a secret URL is not followed to wherever.
            .redirect(reqwest::redirect::Policy::none())
            .pool_idle_timeout(Duration::from_secs(30))
            .build()
            .map_err(|error| Undelivered::new(format!("no connections can be made: {}", http::without_url(error))))?;
        Ok(Carrier { client })
    }

    /// Tries once, for no longer than the notifier's time. Gives what the receiver answered.
    pub async fn deliver(&self, to: &Notifier, letter: &Letter) -> Result<String, Undelivered> {
        let attempt = async {
            match &to.kind {
                NotifierKind::Slack { url } => http::slack(&self.client, url, letter).await,
                NotifierKind::PagerDuty { url, key } => http::pagerduty(&self.client, url, key, letter).await,
                NotifierKind::Alertmanager { url } => http::alertmanager(&self.client, url, letter).await,
                NotifierKind::Webhook { url, sign } => http::webhook(&self.client, url, sign.as_ref(), letter).await,
                NotifierKind::Email(mail) => mail::send(mail, to.timeout, letter).await,
            }
        };
        match tokio::time::timeout(to.timeout.to_std(), attempt).await {
            Ok(answer) => answer,
            Err(_) => Err(Undelivered::new(format!("no answer within {}", to.timeout))),
        }
    }
}
