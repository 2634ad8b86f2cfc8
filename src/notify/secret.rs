//! Secrets of notifiers: read when they are needed, so that a new one needs no restart, and known to the log as such.

use std::os::unix::fs::PermissionsExt;

use secrecy::SecretString;

use super::Undelivered;
use crate::domain::watch::{Secret, Target};

/// Reads a secret.
pub(super) fn read(secret: &Secret) -> Result<SecretString, Undelivered> {
    let text = match secret {
        Secret::Env(name) => {
            std::env::var(name).map_err(|_| Undelivered::new(format!("the environment variable {name} is not set")))?
        }
        Secret::File(path) => {
            let shown = path.display();
            let unreadable = |error: std::io::Error| Undelivered::new(format!("{shown} cannot be read: {error}"));
            let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode();
            if mode & 0o077 != 0 {
                let why = format!("{shown} can be read by others (mode {:04o}): chmod 0600 it", mode & 0o7777);
                return Err(Undelivered::new(why));
            }
            let text = std::fs::read_to_string(path).map_err(unreadable)?;
            text.lines().next().unwrap_or_default().to_owned()
        }
    };
    let text = text.trim();
    if text.is_empty() {
        return Err(Undelivered::new("the secret is empty"));
    }
    crate::telemetry::redact::hide(text);
    Ok(SecretString::from(text))
}

/// Reads where a receiver is.
pub(super) fn url(target: &Target) -> Result<SecretString, Undelivered> {
    match target {
        Target::Plain(url) => Ok(SecretString::from(url.as_str())),
        Target::Secret(secret) => read(secret),
    }
}
