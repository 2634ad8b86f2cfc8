//! `[catalog]`: the rules between its keys, and its way into the domain.

use std::path::Path;

use super::document::Document;
use super::login;
use super::problem::Problems;
use super::raw::config::RawCatalog;
use crate::domain::config::{CatalogPlace, CatalogServer};
use crate::domain::units::Span;

/// Nobody waits longer for the catalog's answer, when nothing is said: long enough for a server at work, short enough for a run.
const TIMEOUT: Span = Span::from_secs(15);
/// What is only for a server.
const OF_A_SERVER: [&str; 8] =
    ["passfile", "password_file", "password_env", "tls", "tls_ca", "schema", "timeout", "spool"];

/// What the shape alone cannot say.
pub(super) fn rules(document: &Document, problems: &mut Problems) {
    let Some(table) = document.root.get("catalog") else { return };
    login::rules(document, table, problems);
    document.more_than_none(&document.root, "catalog.timeout", problems);
    match (table.entry("url"), table.entry("path")) {
        (Some(url), Some(_)) => {
            let message = "the catalog has both `path` and `url`, and can only be in one place";
            problems.add(document.problem(&url.span, message).hint("keep path for one machine, url for a fleet"));
        }
        (None, _) => {
            for entry in table.entries().iter().filter(|entry| OF_A_SERVER.contains(&entry.key.as_str())) {
                let message = format!("`{}` is for a catalog on a server, and there is no `url`", entry.key);
                problems.add(
                    document
                        .problem(&entry.span, message)
                        .hint("write url = \"postgresql://lifeboat@catalog.example.com/lifeboat\", or leave it out"),
                );
            }
        }
        (Some(_), None) => {}
    }
    if let Some((node, name)) = table.get("schema").and_then(|node| Some((node, node.text()?)))
        && !is_schema(name)
    {
        let message = format!("`{name}` is no name for the catalog's schema");
        let hint = "1 to 63 of a-z, 0-9 and _, beginning with a letter, and not with pg_";
        problems.add(document.problem(&node.span, message).hint(hint));
    }
}

/// Plain names only: they are also sent as the words of notifications, and people type them.
fn is_schema(name: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=63).contains(&name.len())
        && name.bytes().all(inside)
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.starts_with("pg_")
}

/// The domain's place, of a table in which nothing is wrong.
pub(super) fn convert(
    raw: RawCatalog,
    folder: &Path,
    connect_timeout: Span,
    warnings: &mut Vec<String>,
) -> CatalogPlace {
    let Some(url) = raw.url else {
        return raw.path.map_or_else(|| folder.join("lifeboat.db"), |path| path.0.resolve(folder)).into();
    };
    warnings.extend(login::tls_warning("the catalog", &url.0.0, raw.tls));
    let password = login::password(folder, raw.passfile.as_ref(), raw.password_file.as_ref(), raw.password_env);
    CatalogPlace::Postgres(Box::new(CatalogServer {
        url: url.0.0,
        password,
        tls: raw.tls,
        tls_ca: raw.tls_ca.map(|path| path.0.resolve(folder)),
        schema: raw.schema.map_or_else(|| "lifeboat".to_owned(), |schema| schema.0.0),
        timeout: raw.timeout.map_or(TIMEOUT, |span| span.0),
        connect_timeout,
        spool: raw.spool.map_or_else(|| folder.join("catalog-spool"), |path| path.0.resolve(folder)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_schemas_are_plain() {
        for name in ["lifeboat", "a", "lifeboat_2", &"a".repeat(63)] {
            assert!(is_schema(name), "{name}");
        }
        for name in ["", "pg_mine", "2a", "_a", "Lifeboat", "a-b", "a\"b", "a b", &"a".repeat(64)] {
            assert!(!is_schema(name), "{name}");
        }
    }
}
