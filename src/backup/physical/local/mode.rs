//! Backup mode: `pg_backup_start` and `pg_backup_stop`, and their older names.

use tokio_postgres::Client;

use crate::backup::session::asked;
use crate::domain::check::Broke;
use crate::domain::lsn::Lsn;
use crate::probe::Endpoint;

/// The first major version with the new names.
const RENAMED_IN: u32 = 15;

/// What the server says when backup mode ends.
#[derive(Clone, Debug)]
pub struct Stopped {
    /// The log is needed up to here.
    pub end: Lsn,
    /// `backup_label`.
    pub label: String,
    /// `tablespace_map`: tablespaces when the backup began.
    pub map: String,
}

/// Functions that a role must be allowed to call.
pub fn functions(major: u32) -> [&'static str; 2] {
    if major >= RENAMED_IN {
        ["pg_backup_start(text,boolean)", "pg_backup_stop(boolean)"]
    } else {
        ["pg_start_backup(text,boolean,boolean)", "pg_stop_backup(boolean,boolean)"]
    }
}

/// Begins, with a checkpoint at once. It ends with the session, too.
pub async fn start(client: &Client, endpoint: &Endpoint, major: u32, label: &str) -> Result<(), Broke> {
    let sql = if major >= RENAMED_IN {
        "select pg_backup_start($1, true)::text"
    } else {
        "select pg_start_backup($1, true, false)::text"
    };
    client.query_one(sql, &[&label]).await.map_err(|error| asked(endpoint, &error))?;
    Ok(())
}

/// Ends. It does not wait for an archive: the log that is needed is read from the server's own folder.
pub async fn stop(client: &Client, endpoint: &Endpoint, major: u32) -> Result<Stopped, Broke> {
    let function = if major >= RENAMED_IN { "pg_backup_stop(false)" } else { "pg_stop_backup(false, false)" };
    let sql = format!("select lsn::text, labelfile, coalesce(spcmapfile, '') from {function}");
    let row = client.query_one(&sql, &[]).await.map_err(|error| asked(endpoint, &error))?;
    let end: String = row.get(0);
    let end = end.parse().map_err(|_| {
        Broke::hinted(format!("the source ended the backup at `{end}`, which is no place in a log"), "see its log")
    })?;
    Ok(Stopped { end, label: row.get(1), map: row.get(2) })
}
