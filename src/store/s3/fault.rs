//! What went wrong with a request, in our words, and what to do about it.

use std::future::Future;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

use super::S3Store;
use crate::store::StoreError;

/// A request that did not succeed.
#[derive(Debug)]
pub(super) struct Fault {
    /// The service's own word for it: `NoSuchKey`.
    pub(super) code: Option<String>,
    /// The status of the answer; none: there was none.
    pub(super) status: Option<u16>,
    /// In words.
    why: String,
}

/// Credentials that were right once.
const WORN_OUT: [&str; 5] =
    ["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken", "RequestExpired"];

impl Fault {
    fn of<E>(error: &SdkError<E, HttpResponse>) -> Fault
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let code = ProvideErrorMetadata::code(error).map(str::to_owned);
        let status = error.raw_response().map(|response| response.status().as_u16());
        let message = ProvideErrorMetadata::message(error);
        let why = match (&code, status) {
            (Some(code), Some(status)) => match message {
                Some(message) => format!("{code} ({status}): {message}"),
                None => format!("{code} ({status})"),
            },
            (None, Some(status)) if !matches!(error, SdkError::ResponseError(_)) => format!("HTTP status {status}"),
            _ => causes(error),
        };
        Fault { code, status, why }
    }

    /// In words.
    pub(super) fn words(&self) -> &str {
        &self.why
    }

    pub(super) fn is(&self, codes: &[&str]) -> bool {
        self.code.as_deref().is_some_and(|code| codes.contains(&code))
    }

    /// Whether the key is certainly not there.
    pub(super) fn is_absence(&self) -> bool {
        self.is(&["NoSuchKey", "NotFound"]) || (self.status == Some(404) && self.code.is_none())
    }

    /// Whether a write was refused because the key is there.
    pub(super) fn is_taken(&self) -> bool {
        self.is(&["PreconditionFailed"]) || self.status == Some(412)
    }

    /// Whether it is not known what the server did.
    pub(super) fn is_open(&self) -> bool {
        self.status.is_none_or(|status| status >= 500 || status == 408 || (200..300).contains(&status))
    }

    /// What to do about it.
    fn hint(&self) -> &'static str {
        match (self.code.as_deref(), self.status) {
            (Some("NoSuchBucket"), _) => "make the bucket, or correct its name, region or endpoint in lifeboat.toml",
            (Some("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidClientTokenId"), _) => {
                "the credentials are not those of this service: look at profile, env or role of the store"
            }
            (Some(code), _) if WORN_OUT.contains(&code) => "the credentials have expired: log in again",
            (Some("RequestTimeTooSkewed"), _) => "this machine's clock is wrong: set it by NTP",
            (Some("InvalidObjectState"), _) => "the object is in an archive: restore it there first",
            (Some("NotImplemented"), _) => {
                "the server does not know a part of the request: try conditional_writes = false or checksums = false"
            }
            (Some("KMS.NotFoundException" | "KMS.DisabledException"), _) => "look at the store's kms_key",
            (_, Some(403)) => {
                "these credentials may not do it: docs/s3.md has the least rights that each duty needs; under object lock it \
                 is meant so"
            }
            (_, Some(301 | 307 | 400)) => "is the store's region right, and its endpoint, and path_style?",
            (_, Some(429 | 503)) => "the service asks for fewer requests: lower the store's parallel, or try later",
            (_, Some(_)) => "the service itself failed: try again later",
            (_, None) => {
                "is the endpoint right, and does the network reach it? A proxy is taken from HTTPS_PROXY and NO_PROXY, \
                 a private authority from the store's ca"
            }
        }
    }
}

/// An error and what it came from, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    // The service's answers are one line; what is none is shown as it is.
    if text.is_empty() { DisplayErrorContext(error).to_string() } else { text }
}

impl S3Store {
    /// Makes a request, in turn; once more with fresh credentials, if they had run out.
    pub(super) async fn ask<T, E, F>(&self, request: impl Fn(Client) -> F) -> Result<Result<T, Fault>, StoreError>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let unusable = |why: String| StoreError::Unusable { store: self.bucket.url(), why };
        let _turn = self.turns.acquire().await.map_err(|error| unusable(error.to_string()))?;
        let mut fresh = false;
        loop {
            let fault = match request(self.speaker.client().await?).await {
                Ok(done) => return Ok(Ok(done)),
                Err(error) => Fault::of(&error),
            };
            if fresh || !fault.is(&WORN_OUT) {
                return Ok(Err(fault));
            }
            fresh = true;
            self.speaker.forget().await;
        }
    }

    /// The error to give.
    pub(super) fn failed(&self, doing: &'static str, key: &str, fault: Fault) -> StoreError {
        let (store, hint) = (self.bucket.url(), fault.hint());
        if fault.is(&["NoSuchBucket"]) {
            return StoreError::Unusable { store, why: "there is no such bucket".to_owned() };
        }
        StoreError::Service { doing, key: key.to_owned(), store, why: fault.why, hint }
    }

    /// The error of an answer that was no good, or stopped.
    pub(super) fn broken(&self, doing: &'static str, key: &str, why: impl Into<String>) -> StoreError {
        let why = why.into();
        let hint = "try again; if it stays so, look at the network and at the service's own status";
        StoreError::Service { doing, key: key.to_owned(), store: self.bucket.url(), why, hint }
    }
}
