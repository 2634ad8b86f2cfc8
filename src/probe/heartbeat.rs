//! `lifeboat.heartbeat`: its table, its beat, and what of it is there.

use jiff::Timestamp;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::session::{cell, fixed, row};
use super::snapshot::{micros, timestamp};
use super::{Endpoint, ProbeError};
use crate::domain::check::Broke;
use crate::domain::heartbeat::{Around, Beat, Beats};

/// What makes the table, for the owner of the database (or a superuser). Safe to run again.
pub const TABLE: &str = "create schema if not exists lifeboat;
create table if not exists lifeboat.heartbeat (
    epoch        bigint      not null,
    seq          bigint      not null primary key,
    committed_at timestamptz not null
) with (fillfactor = 70);
comment on table lifeboat.heartbeat is 'A numbered row every few seconds: what of it comes back after a recovery says how much was lost.'";

/// Rows that are kept: more than a day of them at ten seconds each.
const KEPT: i64 = 10_000;

/// Writes beats, over one connection.
pub struct Beater {
    client: Client,
    epoch: i64,
}

impl Beater {
    /// Connects; a new epoch begins.
    pub async fn begin(endpoint: &Endpoint) -> Result<Beater, Broke> {
        let client = fixed(endpoint).await?;
        let sql = "select coalesce(max(epoch), 0) + 1 as epoch from lifeboat.heartbeat";
        let epoch = match row(&client, "reading the heartbeat", sql).await {
            Ok(row) => cell(&row, "epoch")?,
            Err(error) => return Err(missing(endpoint, error)),
        };
        // A heartbeat that is not on the source's disk would not be one.
        let durable = "set synchronous_commit = on";
        client
            .batch_execute(durable)
            .await
            .map_err(|error| ProbeError::sql("fixing the session's settings", &error))?;
        Ok(Beater { client, epoch })
    }

    /// Commits the next row.
    pub async fn beat(&mut self) -> Result<(), Broke> {
        let sql = "insert into lifeboat.heartbeat (epoch, seq, committed_at)
            select $1, coalesce(max(seq), 0) + 1, clock_timestamp() from lifeboat.heartbeat returning seq";
        let doing = "writing a heartbeat";
        let written = self.client.query_one(sql, &[&self.epoch]).await;
        let written: i64 = cell(&written.map_err(|error| ProbeError::sql(doing, &error))?, "seq")?;
        let old = "delete from lifeboat.heartbeat where seq <= $1";
        self.client
            .execute(old, &[&(written - KEPT)])
            .await
            .map_err(|error| ProbeError::sql("removing old heartbeats", &error))?;
        Ok(())
    }
}

fn missing(endpoint: &Endpoint, error: ProbeError) -> Broke {
    let broke = Broke::from(error);
    Broke::hinted(
        format!("{endpoint} has no heartbeat that this role may write: {}", broke.error),
        "`lifeboat init --heartbeat` makes its table, or prints what makes it",
    )
}

/// What a database has of the heartbeat; none: no table, or no row.
pub async fn beats(client: &Client) -> Result<Option<Beats>, ProbeError> {
    let sql = format!(
        "select count(*) as count, coalesce(min(seq), 0) as first, coalesce(max(seq), 0) as last,
                {} as last_at, {} as latest_at from lifeboat.heartbeat having count(*) > 0",
        micros("(array_agg(committed_at order by seq desc))[1]"),
        micros("max(committed_at)")
    );
    let found = match client.query_opt(&sql, &[]).await {
        Ok(found) => found,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(ProbeError::sql("reading the heartbeat", &error)),
    };
    let Some(row) = found else { return Ok(None) };
    Ok(Some(Beats {
        count: cell(&row, "count")?,
        first: cell(&row, "first")?,
        last: Beat { seq: cell(&row, "last")?, committed_at: timestamp(&row, "last_at")? },
        latest_at: timestamp(&row, "latest_at")?,
    }))
}

fn is_missing(error: &tokio_postgres::Error) -> bool {
    matches!(error.code(), Some(code) if *code == SqlState::UNDEFINED_TABLE || *code == SqlState::INVALID_SCHEMA_NAME)
}

/// The last number at or before a moment, and the first behind it, as the source has them.
pub async fn around(client: &Client, at: Timestamp) -> Result<Around, Broke> {
    let sql = "select max(seq) filter (where committed_at <= $1::text::timestamptz) as before,
                      min(seq) filter (where committed_at > $1::text::timestamptz) as behind from lifeboat.heartbeat";
    let row = client.query_one(sql, &[&at.to_string()]).await;
    let row = row.map_err(|error| ProbeError::sql("reading the heartbeat", &error))?;
    Ok(Around { before: cell(&row, "before")?, behind: cell(&row, "behind")? })
}
