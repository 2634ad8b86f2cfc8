//! What sources and scratch servers have in common: how to get in.

use std::path::Path;

use super::document::{Document, Node};
use super::format::{FilePath, Variable, Written};
use super::problem::Problems;
use crate::domain::policy::{PasswordSource, TlsMode};
use crate::probe::Endpoint;

/// At most one place can hold the password.
pub(super) fn rules(document: &Document, table: &Node, problems: &mut Problems) {
    let places: Vec<_> =
        ["passfile", "password_file", "password_env"].iter().filter_map(|key| table.entry(key)).collect();
    if let [first, second, ..] = places.as_slice() {
        let message = format!("`{}` is a second place for the password, after `{}`", second.key, first.key);
        problems.add(document.problem(&second.span, message).hint("keep one of passfile, password_file, password_env"));
    }
}

/// Where the password comes from.
pub(super) fn password(
    folder: &Path,
    passfile: Option<&Written<FilePath>>,
    file: Option<&Written<FilePath>>,
    env: Option<Written<Variable>>,
) -> PasswordSource {
    match (passfile, file, env) {
        (Some(path), _, _) => PasswordSource::Passfile(path.0.resolve(folder)),
        (None, Some(path), _) => PasswordSource::File(path.0.resolve(folder)),
        (None, None, Some(name)) => PasswordSource::Env(name.0.0),
        (None, None, None) => PasswordSource::Default,
    }
}

/// A sentence, when a remote server could be anybody's. A socket and loopback need no TLS.
pub(super) fn tls_warning(who: &str, url: &str, tls: Option<TlsMode>) -> Option<String> {
    let endpoint = Endpoint::parse(url).ok()?;
    if endpoint.is_socket() || matches!(endpoint.host.as_str(), "localhost" | "127.0.0.1" | "::1") {
        return None;
    }
    let what = match tls.unwrap_or_else(|| endpoint.tls_mode()) {
        TlsMode::VerifyFull => return None,
        TlsMode::Require => "tls is \"require\": the connection is encrypted, but anybody may answer",
        TlsMode::Disable => "tls is \"disable\": everything goes over the network in the clear",
    };
    Some(format!("{who}: {what} at {}; set tls = \"verify-full\", with tls_ca if need be", endpoint.host))
}
