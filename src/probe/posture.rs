//! How a source is set up, as far as a recovery depends on it. The role needs no more than the right to connect.

use tokio_postgres::{Client, Row};

use super::session::{cell, read_only, row, rows, run};
use super::snapshot::{micros, timestamp};
use super::{Endpoint, ProbeError};
use crate::domain::check::Broke;
use crate::domain::ids::PolicyName;
use crate::domain::posture::{Archiver, Posture, Slot};
use crate::domain::units::ByteSize;

/// Asks it; none of the questions may hang. `policy`: whose log an archive command must push to be ours.
pub async fn posture(endpoint: &Endpoint, policy: &PolicyName) -> Result<Posture, Broke> {
    Ok(ask(endpoint, policy).await?)
}

async fn ask(endpoint: &Endpoint, policy: &PolicyName) -> Result<Posture, ProbeError> {
    let client = read_only(endpoint).await?;
    run(&client, "fixing the session's settings", "set statement_timeout = '30s'").await?;
    let sql = "select current_setting('wal_level') as wal_level, current_setting('fsync') = 'on' as fsync,
               current_setting('full_page_writes') = 'on' as full_page_writes,
               current_setting('data_checksums') = 'on' as checksums, pg_is_in_recovery() as standby";
    let server = row(&client, "reading the server's settings", sql).await?;
    let in_recovery: bool = cell(&server, "standby")?;
    // Every cluster has a database `postgres`, which is no more than its template as long as nobody uses it.
    let sql = "select datname::text as name from pg_database
                where datallowconn and not datistemplate
                  and (datname <> 'postgres' or not has_database_privilege(oid, 'CONNECT')
                       or pg_database_size(oid) > (select pg_database_size(t.oid) from pg_database t
                                                    where t.datname = 'template1' and has_database_privilege(t.oid, 'CONNECT')) + 1048576)
                order by 1";
    let databases = rows(&client, "reading the databases", sql).await?;
    Ok(Posture {
        system_identifier: system_identifier(&client).await,
        in_recovery,
        wal_level: cell(&server, "wal_level")?,
        fsync: cell(&server, "fsync")?,
        full_page_writes: cell(&server, "full_page_writes")?,
        data_checksums: cell(&server, "checksums")?,
        archiver: archiver(&client, policy).await?,
        databases: databases.iter().map(|row| cell(row, "name")).collect::<Result<_, _>>()?,
        database: endpoint.database.clone(),
        slots: slots(&client, in_recovery).await?,
    })
}

async fn system_identifier(client: &Client) -> Option<String> {
    let row = client.query_one("select system_identifier::text from pg_control_system()", &[]).await.ok()?;
    row.try_get(0).ok()
}

async fn archiver(client: &Client, policy: &PolicyName) -> Result<Option<Archiver>, ProbeError> {
    // The command itself may hold what is nobody's business: only whose it is is asked.
    let sql = format!(
        "select current_setting('archive_mode') <> 'off'
                and (current_setting('archive_command') not in ('', '(disabled)')
                     or coalesce(current_setting('archive_library', true), '') <> '') as archives,
                current_setting('archive_command') ~ 'wal push.*[^a-z0-9-]{policy}([^a-z0-9-]|$)' as ours,
                last_archived_wal as archived, {} as archived_at, last_failed_wal as failed, {} as failed_at
           from pg_stat_archiver",
        micros("coalesce(last_archived_time, 'epoch')"),
        micros("coalesce(last_failed_time, 'epoch')"),
    );
    let row = row(client, "asking the archiver", &sql).await?;
    if !cell::<bool>(&row, "archives")? {
        return Ok(None);
    }
    let file = |name: &str, at: &str| -> Result<_, ProbeError> {
        let name: Option<String> = cell(&row, name)?;
        name.map(|name| Ok((name, timestamp(&row, at)?))).transpose()
    };
    Ok(Some(Archiver {
        is_ours: cell(&row, "ours")?,
        last: file("archived", "archived_at")?,
        failed: file("failed", "failed_at")?,
    }))
}

async fn slots(client: &Client, in_recovery: bool) -> Result<Vec<Slot>, ProbeError> {
    let end = if in_recovery { "pg_last_wal_replay_lsn()" } else { "pg_current_wal_lsn()" };
    let sql = format!(
        "select slot_name::text as name, active, coalesce(wal_status, '') = 'lost' as lost,
                pg_wal_lsn_diff({end}, restart_lsn)::int8 as holds
           from pg_replication_slots where not temporary order by 1"
    );
    let slot = |row: &Row| -> Result<Slot, ProbeError> {
        let holds: Option<i64> = cell(row, "holds")?;
        Ok(Slot {
            name: cell(row, "name")?,
            active: cell(row, "active")?,
            holds: holds.map(|bytes| ByteSize(u64::try_from(bytes).unwrap_or_default())),
            lost: cell(row, "lost")?,
        })
    };
    rows(client, "reading the replication slots", &sql).await?.iter().map(slot).collect()
}
