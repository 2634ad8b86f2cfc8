//! What a source says of its log: how far it is, what it has finished, and what became of that.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::session::{cell, parsed, row, rows};
use super::snapshot::{micros, timestamp};
use super::{Endpoint, ProbeError, session};
use crate::domain::check::Broke;
use crate::domain::observed::Observed;
use crate::domain::wal::{Archived, Finished, Segment, SourceLog, WalName};

/// Asks it. A standby is asked nothing: its log is its primary's.
pub async fn source_log(endpoint: &Endpoint, slot: &str) -> Result<SourceLog, Broke> {
    let client = session::fixed(endpoint).await?;
    let server = super::server(&client).await?;
    if server.in_recovery {
        let hint = "name the primary in the policy's source";
        return Err(Broke::hinted(format!("{endpoint} is a standby: what it has finished is its primary's"), hint));
    }
    Ok(SourceLog {
        system_identifier: server.system_identifier,
        clock: server.clock,
        segment_bytes: server.wal_segment_bytes,
        current: Segment::holding(server.timeline, server.lsn, server.wal_segment_bytes),
        archiver: archiver(&client).await?,
        finished: finished(&client).await?,
        receiver: receiver(&client, slot).await?,
    })
}

async fn archiver(client: &Client) -> Result<Option<Archived>, ProbeError> {
    let sql = format!(
        "select current_setting('archive_mode') as mode, last_archived_wal as archived, {} as archived_at,
                last_failed_wal as failed, {} as failed_at
           from pg_stat_archiver",
        micros("coalesce(last_archived_time, 'epoch')"),
        micros("coalesce(last_failed_time, 'epoch')"),
    );
    let row = row(client, "asking the archiver", &sql).await?;
    if cell::<String>(&row, "mode")? == "off" {
        return Ok(None);
    }
    // Histories and labels are archived too: of them nothing follows for segments.
    let segment = |column: &str, at: &str| -> Result<_, ProbeError> {
        let name: Option<String> = cell(&row, column)?;
        Ok(match name.and_then(|name| name.parse().ok()) {
            Some(WalName::Segment(segment)) => Some((segment, timestamp(&row, at)?)),
            _ => None,
        })
    };
    Ok(Some(Archived { last: segment("archived", "archived_at")?, failed: segment("failed", "failed_at")? }))
}

/// The segments that it still has, and which of them are not archived yet; needs `pg_monitor` and PostgreSQL 12.
async fn finished(client: &Client) -> Result<Observed<Vec<Finished>>, ProbeError> {
    let sql = format!(
        "select w.name, {} as at, exists (select from pg_ls_archive_statusdir() s where s.name = w.name || '.ready') as ready
           from pg_ls_waldir() w where w.name ~ '^[0-9A-F]{{24}}$' order by w.name",
        micros("w.modification")
    );
    let found = match client.query(&sql, &[]).await {
        Ok(found) => found,
        Err(error)
            if error.code().is_some_and(|code| {
                [SqlState::INSUFFICIENT_PRIVILEGE, SqlState::UNDEFINED_FUNCTION].contains(code)
            }) =>
        {
            let why = "its folders of the log may not be listed: grant pg_monitor to the role (PostgreSQL 12 or later)";
            return Ok(Observed::Unknown(why.to_owned()));
        }
        Err(error) => return Err(ProbeError::sql("listing the log", &error)),
    };
    let mut all = Vec::new();
    for row in &found {
        if let WalName::Segment(segment) = parsed(row, "name")? {
            all.push(Finished { segment, at: timestamp(row, "at")?, ready: cell(row, "ready")? });
        }
    }
    Ok(Observed::Known(all))
}

/// Whether somebody receives under the policy's slot; none: there is no such slot.
async fn receiver(client: &Client, slot: &str) -> Result<Option<bool>, ProbeError> {
    // A slot's name is letters, digits and underscores: PostgreSQL takes no others.
    let name = slot.replace('\'', "");
    let sql = format!("select active from pg_replication_slots where slot_name = '{name}'");
    let found = rows(client, "looking for the slot", &sql).await?;
    found.first().map(|row| cell(row, "active")).transpose()
}
