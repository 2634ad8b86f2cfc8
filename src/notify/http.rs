//! Receivers over HTTP.

use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Client, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value as Json;
use sha2::Sha256;

use super::{Undelivered, secret};
use crate::domain::alarm::Letter;
use crate::domain::units::Span;
use crate::domain::watch::{Secret, Target};
use crate::render::letter as render;

/// So much of an answer is kept.
const ANSWER_BYTES: usize = 200;

pub(super) async fn slack(client: &Client, url: &Target, letter: &Letter) -> Result<String, Undelivered> {
    let url = secret::url(url)?;
    post(client, &url, "", render::slack(letter).to_string(), letter, None).await
}

pub(super) async fn alertmanager(client: &Client, url: &Target, letter: &Letter) -> Result<String, Undelivered> {
    let url = secret::url(url)?;
    let body = render::alertmanager(letter, crate::clock::now()).to_string();
    post(client, &url, "/api/v2/alerts", body, letter, None).await
}

pub(super) async fn pagerduty(
    client: &Client,
    url: &Target,
    key: &Secret,
    letter: &Letter,
) -> Result<String, Undelivered> {
    let (url, key) = (secret::url(url)?, secret::read(key)?);
    let mut answers = Vec::new();
    for mut event in render::pagerduty(letter) {
        if let Json::Object(event) = &mut event {
            event.insert("routing_key".to_owned(), key.expose_secret().into());
        }
        answers.push(post(client, &url, "/v2/enqueue", event.to_string(), letter, None).await?);
    }
    Ok(answers.join("; "))
}

pub(super) async fn webhook(
    client: &Client,
    url: &Target,
    sign: Option<&Secret>,
    letter: &Letter,
) -> Result<String, Undelivered> {
    let url = secret::url(url)?;
    let body = render::webhook(letter).to_string();
    let signed = match sign {
        Some(key) => Some(signature(secret::read(key)?.expose_secret(), crate::clock::now().as_second(), &body)),
        None => None,
    };
    post(client, &url, "", body, letter, signed).await
}

/// The header `Lifeboat-Signature`: the moment, and HMAC-SHA256 of `<moment>.<body>` in hexadecimal.
pub fn signature(key: &str, at: i64, body: &str) -> String {
    // A key of any length will do: longer ones are hashed first.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.as_bytes()) else { return String::new() };
    mac.update(format!("{at}.{body}").as_bytes());
    format!("t={at},v1={}", hex::encode(mac.finalize().into_bytes()))
}

async fn post(
    client: &Client,
    base: &SecretString,
    path: &str,
    body: String,
    letter: &Letter,
    signed: Option<String>,
) -> Result<String, Undelivered> {
    let url = format!("{}{path}", base.expose_secret());
    let mut request = client
        .post(url)
        .header("content-type", "application/json")
        .header("idempotency-key", letter.id.to_string())
        .header("lifeboat-letter", letter.id.to_string());
    if let Some(signed) = signed {
        request = request.header("lifeboat-signature", signed);
    }
    let response = request.body(body).send().await;
    let response =
        response.map_err(|error| Undelivered::new(format!("it could not be sent: {}", without_url(error))))?;
    let status = response.status();
    let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse::<i64>().ok());
    let text = response.text().await.unwrap_or_default();
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(ANSWER_BYTES).collect();
    let answer = format!("{}{}{text}", status.as_u16(), if text.is_empty() { "" } else { " " });
    let answer = crate::telemetry::redact::redact(&answer);
    if status.is_success() {
        return Ok(answer);
    }
    Err(Undelivered {
        why: format!("the receiver answered {answer}"),
        // Such a letter is never taken. All else may be mended: a wrong URL, a revoked key, a proxy in between.
        hopeless: matches!(
            status,
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY
        ),
        retry_after: retry_after.filter(|seconds| (0..86_400).contains(seconds)).map(Span::from_secs),
    })
}

/// What went wrong with all its causes, and without the URL, which may be the secret.
pub(super) fn without_url(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(one) = cause {
        text.push_str(&format!(": {one}"));
        cause = one.source();
    }
    crate::telemetry::redact::redact(&text)
}

#[cfg(test)]
mod tests {
    use super::signature;

    #[test]
    fn a_signature_is_what_openssl_says() {
        // printf '%s' '1700000000.{"a":1}' | openssl dgst -sha256 -hmac key
        let signed = signature("key", 1_700_000_000, "{\"a\":1}");
        let (at, mac) = signed.split_once(",v1=").unwrap();
        assert_eq!((at, mac.len()), ("t=1700000000", 64));
        assert_ne!(signed, signature("key", 1_700_000_001, "{\"a\":1}"));
        assert_ne!(signed, signature("kez", 1_700_000_000, "{\"a\":1}"));
        assert_ne!(signed, signature("key", 1_700_000_000, "{\"a\":2}"));
    }
}
