//! What of a connection URL may be repeated in an error: nothing that may be a password.

/// A URL with anything that could be a password taken out: whatever stands between the first colon and the last `@`, and the
/// value of every `password=` and of every parameter that is not known to be harmless. The URL may be no URL at all, so rather too much goes than too little.
pub(super) fn redact(url: &str) -> String {
    let mut text = url.to_owned();
    if let Some(at) = text.rfind('@') {
        // Only what stands before is a scheme: else a password may stand there too.
        let scheme = |head: &str| head.bytes().all(|byte| byte.is_ascii_alphabetic());
        let start =
            text.split_once("://").filter(|(head, _)| scheme(head)).map_or(0, |(head, _)| head.len() + 3).min(at);
        if let Some(colon) = text[start..at].find(':') {
            text.replace_range(start + colon + 1..at, "…");
        }
    }
    let mut from = 0;
    while let Some(found) = text[from..].to_ascii_lowercase().find("password=") {
        let value = from + found + "password=".len();
        let end = text[value..].find(['&', ' ']).map_or(text.len(), |length| value + length);
        text.replace_range(value..end, "…");
        from = value;
    }
    let Some((head, query)) = text.split_once('?') else { return text };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((key, _)) if SHOWN.contains(&key) => pair.to_owned(),
        Some((key, _)) if is_plain_name(key) => format!("{key}=…"),
        _ => "…".to_owned(),
    });
    format!("{head}?{}", pairs.collect::<Vec<_>>().join("&"))
}

/// Parameters whose values are no secrets. Of all others none is shown: `passwrod=` is not known to be one either.
const SHOWN: [&str; 10] = [
    "application_name",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "port",
    "sslmode",
    "sslrootcert",
    "target_session_attrs",
    "user",
];

/// What the driver says, unless it repeats something of the URL that is no plain name: it cuts URLs otherwise than we do, and that may be a
/// password.
pub(super) fn harmless(said: &str) -> String {
    match said.split('`').nth(1) {
        Some(quoted) if !is_plain_name(quoted) => "a parameter is not known".to_owned(),
        _ => said.to_owned(),
    }
}

/// Whether this has letters and `_` only, as the names of parameters have.
pub(super) fn is_plain_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
}
