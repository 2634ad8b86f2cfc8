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
            let said = format!("{error} {error:?}");
            assert!(!said.contains("hunter2secret"), "an error repeats a password: {said}");
        }
    }
});
