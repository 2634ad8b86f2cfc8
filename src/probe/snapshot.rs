//! A snapshot that is held open and exported, so that `pg_dump` and several connections see one state.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use tokio_postgres::{Client, Row};

use crate::domain::check::Broke;
use crate::domain::inventory::{Sequence, Snapshot};
use crate::domain::units::Span;

use super::session::{cell, read_only, row, run};
use super::{Endpoint, ProbeError, sequences};

/// A read-only, repeatable-read transaction, open as long as this lives, with fixed session settings.
pub struct OpenSnapshot {
    /// Its connection.
    pub client: Client,
    /// How further connections get in.
    pub endpoint: Endpoint,
    /// For `pg_dump --snapshot` and `SET TRANSACTION SNAPSHOT`.
    pub exported: String,
    /// What it sees, and the source's clock at its start.
    pub snapshot: Snapshot,
    /// The sequences at its start. They are outside of transactions: read here, before any dump can begin, a dump can only hold
    /// the same values or later ones.
    pub sequences: Vec<Sequence>,
}

impl OpenSnapshot {
    /// Opens it in the endpoint's database.
    pub async fn open(endpoint: &Endpoint) -> Result<OpenSnapshot, Broke> {
        Ok(OpenSnapshot::try_open(endpoint).await?)
    }

    /// The same, with an error that tells damage from other trouble.
    pub async fn try_open(endpoint: &Endpoint) -> Result<OpenSnapshot, ProbeError> {
        let client = read_only(endpoint).await?;
        let sequences = sequences::sequences(&client).await?;
        // Asked before the transaction takes its snapshot: whatever was committed before this moment is in it. (A
        // clock_timestamp() inside the first statement would be later than the snapshot, and promise too much.)
        let doing = "reading the server's clock";
        let clock = row(&client, doing, &format!("select {} as now", micros("clock_timestamp()"))).await?;
        let taken_at = timestamp(&clock, "now")?;
        let begin = "begin transaction isolation level repeatable read, read only, not deferrable";
        run(&client, "opening a snapshot", begin).await?;
        let sql = "select pg_export_snapshot() as exported, pg_current_snapshot()::text as seen";
        let row = row(&client, "exporting a snapshot", sql).await?;
        let snapshot = parse(&cell::<String>(&row, "seen")?, taken_at)?;
        Ok(OpenSnapshot { client, endpoint: endpoint.clone(), exported: cell(&row, "exported")?, snapshot, sequences })
    }
}

/// SQL for a time in whole microseconds since 1970: exact, and independent of DateStyle.
pub fn micros(time: &str) -> String {
    format!("(extract(epoch from {time}) * 1000000)::int8")
}

/// Such a time.
pub fn timestamp(row: &Row, column: &str) -> Result<Timestamp, ProbeError> {
    Timestamp::from_microsecond(cell(row, column)?)
        .map_err(|error| ProbeError::Answer { doing: format!("reading {column}"), why: error.to_string() })
}

/// Reads `xmin:xmax:xip,xip`.
fn parse(text: &str, taken_at: Timestamp) -> Result<Snapshot, ProbeError> {
    let bad = || ProbeError::Answer { doing: "reading the snapshot".to_owned(), why: format!("`{text}` is not one") };
    let mut fields = text.split(':');
    let mut number = || fields.next().and_then(|field| field.parse::<u64>().ok()).ok_or_else(bad);
    let (xmin, xmax) = (number()?, number()?);
    let running = fields.next().ok_or_else(bad)?;
    let xip = running.split(',').filter(|xid| !xid.is_empty()).map(|xid| xid.parse().map_err(|_| bad()));
    Ok(Snapshot { taken_at, xmin, xmax, xip: xip.collect::<Result<_, _>>()? })
}

/// How far the runner's clock is from a server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skew {
    /// Runner's clock less the server's.
    pub skew: Span,
    /// The truth is at most this far from it: half of the round trip.
    pub error: Span,
    /// The runner's time of it.
    pub at: Timestamp,
}

/// Asks several times and keeps the answer with the shortest round trip.
pub async fn measure_skew(client: &Client) -> Result<Skew, ProbeError> {
    let doing = "comparing the clocks";
    let sql = format!("select {} as now", micros("clock_timestamp()"));
    let asking = client.prepare(&sql).await.map_err(|error| ProbeError::sql(doing, &error))?;
    let mut best: Option<Skew> = None;
    for _ in 0..8 {
        let (at, began) = (crate::clock::now(), Instant::now());
        let row = client.query_one(&asking, &[]).await.map_err(|error| ProbeError::sql(doing, &error))?;
        let half = SignedDuration::try_from(began.elapsed() / 2).unwrap_or(SignedDuration::MAX);
        let middle = at.saturating_add(half).unwrap_or(at);
        let skew = Skew { skew: Span::between(timestamp(&row, "now")?, middle), error: Span(half), at: middle };
        if best.is_none_or(|best| skew.error < best.error) {
            best = Some(skew);
        }
    }
    best.ok_or_else(|| ProbeError::Answer { doing: doing.to_owned(), why: "the server gave no time".to_owned() })
}

/// Runner's clock less the server's clock, from the round trip with the smallest error; and the runner's time of it.
pub async fn clock_skew(client: &Client) -> Result<(Span, Timestamp), Broke> {
    let measured = measure_skew(client).await?;
    Ok((measured.skew, measured.at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_read() {
        let at = Timestamp::UNIX_EPOCH;
        assert_eq!(parse("740:740:", at).unwrap(), Snapshot { taken_at: at, xmin: 740, xmax: 740, xip: vec![] });
        assert_eq!(
            parse("4294967999:4294968010:4294967999,4294968004", at).unwrap(),
            Snapshot {
                taken_at: at,
                xmin: 4_294_967_999,
                xmax: 4_294_968_010,
                xip: vec![4_294_967_999, 4_294_968_004]
            }
        );
        for text in ["", "1", "1:2", "a:b:", "1:2:x", "-1:2:"] {
            assert!(parse(text, at).is_err(), "{text:?} must be refused");
        }
    }
}
