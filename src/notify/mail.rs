//! Mail over SMTP.

use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use secrecy::ExposeSecret;

use super::{Undelivered, secret};
use crate::domain::alarm::Letter;
use crate::domain::units::Span;
use crate::domain::watch::{Mail, MailTls};
use crate::render::letter as render;

/// Sends a letter as one mail. Its `Message-ID` is the letter's: a second copy is known as such.
pub(super) async fn send(mail: &Mail, timeout: Span, letter: &Letter) -> Result<String, Undelivered> {
    let address = |text: &str| {
        text.parse::<Mailbox>().map_err(|error| Undelivered::new(format!("`{text}` is not a mail address: {error}")))
    };
    let from = address(&mail.from)?;
    let domain = from.email.domain().to_owned();
    let mut message = Message::builder()
        .from(from)
        .message_id(Some(format!("<{}@{domain}>", letter.id)))
        .subject(render::subject(letter))
        .header(ContentType::TEXT_PLAIN);
    for to in &mail.to {
        message = message.to(address(to)?);
    }
    let message = message
        .body(render::text(letter))
        .map_err(|error| Undelivered::new(format!("the mail could not be made: {error}")))?;
    let transport = transport(mail, timeout)?;
    match transport.send(message).await {
        Ok(answer) => Ok(answer.message().collect::<Vec<_>>().join(" ")),
        Err(error) => Err(Undelivered {
            why: crate::telemetry::redact::redact(&with_causes(&error)),
            // 552 and 554: the message itself is refused. Others (an address, a log-in) may be mended.
            hopeless: error.status().is_some_and(|code| matches!(code.to_string().as_str(), "552" | "554")),
            retry_after: None,
        }),
    }
}

fn transport(mail: &Mail, timeout: Span) -> Result<AsyncSmtpTransport<Tokio1Executor>, Undelivered> {
    let parameters = || {
        TlsParameters::new(mail.host.clone()).map_err(|error| Undelivered::new(format!("TLS cannot be had: {error}")))
    };
    let tls = match mail.tls {
        MailTls::Tls => Tls::Wrapper(parameters()?),
        // Without it nothing is sent.
        MailTls::Starttls => Tls::Required(parameters()?),
        MailTls::None => Tls::None,
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&mail.host)
        .port(mail.port)
        .tls(tls)
        .timeout(Some(timeout.to_std()));
    if let (Some(user), Some(password)) = (&mail.user, &mail.password) {
        let password = secret::read(password)?;
        builder = builder.credentials(Credentials::new(user.clone(), password.expose_secret().to_owned()));
    }
    Ok(builder.build())
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = format!("the mail could not be sent: {error}");
    let mut cause = error.source();
    while let Some(one) = cause {
        let said = one.to_string();
        if !text.contains(&said) {
            text.push_str(&format!(": {said}"));
        }
        cause = one.source();
    }
    text
}
