//! Connection URLs. A password in one is refused and never repeated.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lifeboat::probe::Endpoint;

fuzz_target!(|url: &str| {
    match Endpoint::parse(url) {
        Ok(endpoint) => {
            assert!(endpoint.password().is_none());
            let _ = (endpoint.to_string(), endpoint.tls_mode(), endpoint.is_socket(), endpoint.libpq_env());
        }
        Err(error) => {
            // Where it stands in the place of a password, and nowhere else: a database may be called so.
            let (secret, query) = ("hunter2secret", url.split_once('?').unwrap_or_default().1);
            let placed = query.split('&').any(|pair| pair.strip_suffix(secret).is_some_and(|key| key.ends_with("password=")));
            let guarded = (placed || url.contains(":hunter2secret@")) && url.matches(secret).count() == 1;
            let said = format!("{error} {error:?}");
            assert!(!guarded || !said.contains(secret), "an error repeats a password: {said}");
        }
    }
});
