//! How the file is opened: made if need be, marked as ours, and brought up to date.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::QueryError;
use crate::catalog::error::{BUSY_SECONDS, CatalogError};

mod migrations {
    refinery::embed_migrations!("src/catalog/migrations/sqlite");
}

/// `PRAGMA application_id` of a catalog ("LBOA"): tells it from any other program's SQLite file.
const APPLICATION_ID: i64 = 0x4C42_4F41;

pub(super) fn open(path: &Path) -> Result<Connection, CatalogError> {
    make_file(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let sqlite = |error: rusqlite::Error| CatalogError::sqlite("open the file", path, &error);
    let mut connection = Connection::open_with_flags(path, flags).map_err(sqlite)?;
    connection.busy_timeout(Duration::from_secs(BUSY_SECONDS)).map_err(sqlite)?;
    // Two processes that make the same new file are in each other's way for a moment (the switch to the write-ahead log
    // and the first migration do not wait for locks in every case): each step can be repeated without harm.
    let mut attempt = 0;
    loop {
        attempt += 1;
        match prepare(&mut connection, path) {
            Ok(()) => return Ok(connection),
            Err(CatalogError::Sqlite { .. } | CatalogError::Locked { .. }) if attempt < 10 => {
                std::thread::sleep(Duration::from_millis(20 * attempt));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Makes the folder (0700) and an empty file (0600) if they are not there: SQLite itself would make it readable for all.
fn make_file(path: &Path) -> Result<(), CatalogError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|source| CatalogError::Folder { folder: folder.to_owned(), source })?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(CatalogError::Open { path: path.to_owned(), why: error.to_string() }),
    }
}

fn prepare(connection: &mut Connection, path: &Path) -> Result<(), CatalogError> {
    let sqlite = |error: rusqlite::Error| CatalogError::sqlite("set up the file", path, &error);
    // In this order: whoever makes a catalog marks it before it has a table, and may be doing so just now.
    let foreign: i64 = connection
        .query_row("select count(*) from sqlite_schema where name <> 'refinery_schema_history'", [], |row| row.get(0))
        .map_err(sqlite)?;
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(sqlite)?;
    if application != APPLICATION_ID && foreign > 0 {
        return Err(CatalogError::Foreign { path: path.to_owned() });
    }
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(())).map_err(sqlite)?;
    connection.pragma_update(None, "synchronous", "full").map_err(sqlite)?;
    if application != APPLICATION_ID {
        connection.pragma_update(None, "application_id", APPLICATION_ID).map_err(sqlite)?;
    }
    history_is_sound(connection).map_err(|error| error.at(path))?;
    migrations::migrations::runner().run(connection).map(|_| ()).map_err(|error| migration_error(path, &error))
}

/// The migration library panics on a history that it cannot parse: look first.
fn history_is_sound(connection: &Connection) -> Result<(), QueryError> {
    let exists: Option<i64> = connection
        .query_row("select 1 from sqlite_schema where name = 'refinery_schema_history'", [], |row| row.get(0))
        .optional()?;
    if exists.is_none() {
        return Ok(());
    }
    let mut statement = connection.prepare("select applied_on, checksum from refinery_schema_history")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    for row in rows {
        let (applied_on, checksum) = row?;
        if applied_on.parse::<Timestamp>().is_err() || checksum.parse::<u64>().is_err() {
            return Err(QueryError::Row("the history of its schema cannot be read".to_owned()));
        }
    }
    Ok(())
}

fn migration_error(path: &Path, error: &refinery::Error) -> CatalogError {
    use refinery::error::Kind;
    let (path, why) = (path.to_owned(), error.to_string());
    match error.kind() {
        Kind::MissingVersion(_) => CatalogError::Newer { path, why },
        Kind::DivergentVersion(..) => CatalogError::Corrupt { path, why },
        Kind::Connection(_, source) => match source.downcast_ref::<rusqlite::Error>() {
            Some(error) => CatalogError::sqlite("bring the schema up to date", &path, error),
            None => CatalogError::Sqlite { doing: "bring the schema up to date", path, why },
        },
        _ => CatalogError::Sqlite { doing: "bring the schema up to date", path, why },
    }
}
