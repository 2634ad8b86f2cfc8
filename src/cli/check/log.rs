//! The log of a source: whether it would get into the store, and what it may cost the source.

use tokio_postgres::Client;

use super::tried::Tried;
use crate::backup::wal::slot;
use crate::domain::check::Broke;
use crate::domain::policy::{Method, Policy};
use crate::domain::units::ByteSize;
use crate::probe::heartbeat::beats;

const AREA: &str = "log";
/// A slot that holds more than this has no receiver that keeps up.
const HELD: u64 = 1 << 30;

const ARCHIVER: &str = "select current_setting('archive_mode'), current_setting('archive_command'), \
    last_failed_time is not null and (last_archived_time is null or last_failed_time > last_archived_time), \
    coalesce(last_failed_wal, ''), archived_count from pg_catalog.pg_stat_archiver";
const SLOT: &str = "select active, coalesce(wal_status, ''), \
    coalesce(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), restart_lsn), 0)::int8, \
    current_setting('max_slot_wal_keep_size') from pg_catalog.pg_replication_slots where slot_name = $1";

/// Tries all that a policy's log needs.
pub(super) async fn check(policy: &Policy, client: &Client, standby: bool, tried: &mut Vec<Tried>) {
    if !policy.backups.iter().any(|job| job.method == Method::Physical) {
        return;
    }
    let name = policy.name.as_str();
    let subject = format!("{name}: into the store");
    if standby {
        tried.push(Tried::not_tried(AREA, subject, "a standby: its primary writes the log"));
        return;
    }
    let streams = policy.wal.as_ref().is_some_and(|wal| wal.stream);
    let archives = archiver(client).await;
    match (streams, archives) {
        (true, _) => tried.push(Tried::of(AREA, format!("{name}: slot"), held(policy, client).await)),
        (false, Ok(Some(said))) => tried.push(Tried::ok(AREA, subject, said)),
        (false, Ok(None)) => {
            let why = "neither wal.stream nor archive_command: the recovery point is that of the backups alone";
            tried.push(Tried::not_tried(AREA, subject, why));
        }
        (false, Err(broke)) => tried.push(Tried::wrong(AREA, subject, broke)),
    }
    if streams && policy.wal.as_ref().is_some_and(|wal| wal.heartbeat.is_some()) {
        let result = match beats(client).await {
            Ok(Some(beats)) => Ok(format!("{} rows; the newest is of {}", beats.count, beats.last.committed_at)),
            Ok(None) => match client.query_one("select to_regclass('lifeboat.heartbeat') is not null", &[]).await {
                Ok(row) if row.get::<_, bool>(0) => {
                    Ok("its table is there, and empty: `lifeboat wal stream` writes it".to_owned())
                }
                _ => Err(Broke::hinted("there is no table lifeboat.heartbeat", "lifeboat init --heartbeat")),
            },
            Err(error) => Err(error.into()),
        };
        tried.push(Tried::of(AREA, format!("{name}: heartbeat"), result));
    }
}

/// What `archive_command` does, if there is one; one that fails is an error.
async fn archiver(client: &Client) -> Result<Option<String>, Broke> {
    let row = client.query_one(ARCHIVER, &[]).await.map_err(|error| super::source::question_failed(&error))?;
    let (mode, command, fails): (&str, &str, bool) = (row.get(0), row.get(1), row.get(2));
    if mode == "off" || command.is_empty() || command == "(disabled)" {
        return Ok(None);
    }
    if fails {
        let error = format!("archive_command fails: {} is not archived", row.get::<_, &str>(3));
        return Err(Broke::hinted(error, "the server's log says why; until then it keeps its log on its own disk"));
    }
    if !command.contains("wal push") {
        return Ok(Some("archive_command is not lifeboat's: this log is none that lifeboat can bring back".to_owned()));
    }
    Ok(Some(format!("archive_command works: {} files archived", row.get::<_, i64>(4))))
}

/// What the slot of the policy holds back on the source's disk, and whether that is bounded.
async fn held(policy: &Policy, client: &Client) -> Result<String, Broke> {
    let name = slot::name_of(&policy.name);
    let row = client.query_opt(SLOT, &[&name]).await.map_err(|error| super::source::question_failed(&error))?;
    let Some(row) = row else {
        let hint = format!("lifeboat wal stream {}", policy.name);
        return Err(Broke::hinted(format!("no slot {name}: no receiver has ever been here"), hint));
    };
    let (active, status, held, limit): (bool, &str, i64, &str) = (row.get(0), row.get(1), row.get(2), row.get(3));
    let kept = ByteSize(u64::try_from(held).unwrap_or_default());
    if status == "lost" {
        let hint = format!("start `lifeboat wal stream {0}`, and take a backup: lifeboat backup {0}", policy.name);
        return Err(Broke::hinted(format!("the source has given up the slot {name}: the log has a hole"), hint));
    }
    if !active {
        let error =
            format!("no receiver is at work, and the source keeps {kept} of its log for one under the slot {name}");
        let hint = format!(
            "start `lifeboat wal stream {}`; or drop the slot: select pg_drop_replication_slot('{name}')",
            policy.name
        );
        return Err(Broke::hinted(error, hint));
    }
    if kept.0 > HELD {
        let error = format!("the receiver does not keep up: the source keeps {kept} of its log under the slot {name}");
        return Err(Broke::hinted(error, "see what `lifeboat wal stream` says: is the store too slow, or down?"));
    }
    if limit == "-1" {
        let error =
            format!("a receiver is at work, but nothing bounds what the slot {name} may keep on the source's disk");
        let hint =
            "alter system set max_slot_wal_keep_size = '64GB' (less than the disk has), and select pg_reload_conf()";
        return Err(Broke::hinted(error, hint));
    }
    Ok(format!("a receiver is at work; the source keeps {kept} for it, at most {limit}"))
}
