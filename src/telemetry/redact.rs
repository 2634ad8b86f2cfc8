//! Secrets are kept out of logs. First they are never logged; and behind that, every secret that was read in this process is known here, and is
//! replaced in whatever is written, also by libraries at their most talkative.

use std::io::{self, Write};
use std::sync::{PoisonError, RwLock};

/// What stands in a secret's place.
pub const MASK: &str = "***";

/// Shorter ones would hit ordinary words, and protect nothing.
const SHORTEST: usize = 4;

/// The secrets that were read in this process, in each form in which they may be written; the longest first.
static SECRETS: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// From here on this is a secret.
pub fn hide(secret: &str) {
    let secret = secret.trim();
    if secret.len() < SHORTEST {
        return;
    }
    let encoded = percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC).to_string();
    let escaped = serde_json::to_string(secret).unwrap_or_default();
    let debugged = format!("{secret:?}");
    let bytes = format!("{:?}", secret.as_bytes());
    let forms =
        [secret, &encoded, escaped.trim_matches('"'), debugged.trim_matches('"'), bytes.trim_matches(['[', ']'])];
    let mut known = SECRETS.write().unwrap_or_else(PoisonError::into_inner);
    for form in forms {
        if !known.iter().any(|one| one == form) {
            known.push(form.to_owned());
        }
    }
    known.sort_by_key(|one| std::cmp::Reverse(one.len()));
}

/// The text without any secret that is known, and without what looks like a password in a URL.
pub fn redact(text: &str) -> String {
    let mut text = mask_logins(text);
    for secret in SECRETS.read().unwrap_or_else(PoisonError::into_inner).iter() {
        if text.contains(secret.as_str()) {
            text = text.replace(secret.as_str(), MASK);
        }
    }
    text
}

/// `scheme://user:password@host` and `password=…`, wherever they come from.
fn mask_logins(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, login)) = next_login(rest) {
        let after = &rest[at..];
        let end = after
            .find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '&' | ',' | ')' | '}'))
            .unwrap_or(after.len());
        let hidden = if login {
            after[..end].rfind('@').map(|sign| (after[..sign].find(':').map_or(sign, |colon| colon + 1), sign))
        } else {
            Some((0, end))
        };
        match hidden {
            Some((from, to)) if from < to => {
                out.push_str(&rest[..at + from]);
                out.push_str(MASK);
                rest = &rest[at + to..];
            }
            _ => {
                out.push_str(&rest[..at]);
                rest = &rest[at..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// Where the next may stand, and whether it is one of a URL.
fn next_login(text: &str) -> Option<(usize, bool)> {
    let url = text.find("://").map(|at| (at + 3, true));
    let word = text.find("password=").map(|at| (at + 9, false));
    match (url, word) {
        (Some(url), Some(word)) => Some(url.min(word)),
        (one, other) => one.or(other),
    }
}

/// Writes to standard error, a whole line at a time, without secrets.
#[derive(Debug, Default)]
pub struct Quiet {
    line: Vec<u8>,
}

impl Write for Quiet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return Ok(());
        }
        io::stderr().lock().write_all(redact(&String::from_utf8_lossy(&line)).as_bytes())
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A log that cannot be written ends nothing half-way.
        let _ = self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_secrets_go_in_every_form_and_logins_by_their_look() {
        hide("p@ss \"w0rd");
        hide("abc");
        for (said, shown) in [
            ("it is p@ss \"w0rd!", "it is ***!"),
            ("{\"x\":\"p@ss \\\"w0rd\"}", "{\"x\":\"***\"}"),
            ("?k=p%40ss%20%22w0rd", "?k=***"),
            ("abc stays", "abc stays"),
            ("at postgresql://me:hunter2@h/d now", "at postgresql://me:***@h/d now"),
            (
                "at postgresql://me@h/d and host=/x password=hunter2 port=1",
                "at postgresql://me@h/d and host=/x password=*** port=1",
            ),
            ("https://a/b https://c:8333/d", "https://a/b https://c:8333/d"),
            ("bytes [112, 64, 115, 115, 32, 34, 119, 48, 114, 100]", "bytes [***]"),
        ] {
            assert_eq!(redact(said), shown);
        }
    }
}
