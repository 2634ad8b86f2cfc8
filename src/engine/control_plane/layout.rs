//! A configuration that works where it was brought back: the files are as they were, and one beside them says where things are now.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{CONFIG, ORIGIN_SCHEMA, Origin};
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::config::Keys;
use crate::load::{self, Loaded};

/// What was laid out.
pub struct Laid {
    /// What the configuration says, with a catalog of its own in the folder.
    pub loaded: Loaded,
    /// What the backup says of itself.
    pub origin: Origin,
    /// The pieces of the catalog's export, in order.
    pub export: Vec<PathBuf>,
}

/// Reads what was unpacked into `dir`. The catalog is a new file there; keys are those that were brought along; stores are where they were.
pub fn lay_out(dir: &Path, keys: &Keys) -> Result<Laid, Stop> {
    let wrong = |code: &str, object: &str, message: String| Stop::from(Finding::new(code, object, message));
    let read = |name: &str| {
        std::fs::read_to_string(dir.join(name))
            .map_err(|error| wrong("control_plane_file", name, format!("it is not in the backup: {error}")))
    };
    let origin: Origin = serde_json::from_str(&read("origin.json")?)
        .map_err(|error| wrong("control_plane_file", "origin.json", format!("it cannot be read: {error}")))?;
    if origin.schema != ORIGIN_SCHEMA {
        let message = format!("it is written as `{}`, which this version does not know", origin.schema);
        return Err(wrong("control_plane_file", "origin.json", message));
    }
    let mut table: Table = read(CONFIG)?
        .parse()
        .map_err(|error: toml::de::Error| wrong("configuration_wrong", CONFIG, error.message().to_owned()))?;
    place(&mut table, origin.config.parent().unwrap_or(Path::new("/")), keys);
    let file = dir.join("config").join("lifeboat.here.toml");
    let text = toml::to_string(&table).map_err(|error| Broke::new(error.to_string()))?;
    std::fs::write(&file, text)
        .map_err(|error| Broke::new(format!("{} cannot be written: {error}", file.display())))?;
    let loaded = load::load(&file).map_err(|errors| {
        wrong("configuration_wrong", "configuration", format!("it is not valid: {}", errors.render(false)))
    })?;
    Ok(Laid { loaded, origin, export: pieces(dir)? })
}

/// Says where things are now.
fn place(table: &mut Table, before: &Path, keys: &Keys) {
    let text = |path: &Path| Value::String(path.display().to_string());
    let all = |paths: &[PathBuf]| Value::Array(paths.iter().map(|path| text(path)).collect());
    let folders = ["policies", "drills", "reports"].map(|name| (name.to_owned(), Value::String(name.to_owned())));
    table.insert("folders".to_owned(), Value::Table(Table::from_iter(folders)));
    let catalog = [("path".to_owned(), Value::String("lifeboat.db".to_owned()))];
    table.insert("catalog".to_owned(), Value::Table(Table::from_iter(catalog)));
    let mut held = Table::new();
    held.insert("identities".to_owned(), all(&keys.identities));
    held.insert("escrow".to_owned(), all(&keys.escrow));
    held.insert("trusted_signers".to_owned(), all(&keys.trusted_signers));
    held.extend(keys.signing.as_deref().map(|path| ("signing".to_owned(), text(path))));
    table.insert("keys".to_owned(), Value::Table(held));
    let stores = table.get_mut("stores").and_then(Value::as_table_mut);
    for store in stores.into_iter().flat_map(|stores| stores.iter_mut()).filter_map(|(_, store)| store.as_table_mut()) {
        // Paths in lifeboat.toml are meant from its own folder, which was another.
        for key in ["path", "ca"] {
            if let Some(Value::String(path)) = store.get_mut(key) {
                *path = before.join(&*path).display().to_string();
            }
        }
    }
}

/// The pieces of the export, in order; a gap would be seen by its digest.
fn pieces(dir: &Path) -> Result<Vec<PathBuf>, Broke> {
    let folder = dir.join("catalog");
    let listed = std::fs::read_dir(&folder)
        .map_err(|error| Broke::new(format!("{} cannot be read: {error}", folder.display())))?;
    let mut found: Vec<PathBuf> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.sort();
    Ok(found)
}
