//! What a source must be like for a base backup, and the means that hold its log while one is taken.

use tokio_postgres::Client;

use crate::backup::session::{self, asked};
use crate::domain::check::Broke;
use crate::domain::inventory::Server;
use crate::probe::Endpoint;

use super::page::PAGE_BYTES;
use super::pages::{Again, Suspect};

/// The oldest major version whose base backups have a manifest.
const OLDEST_MAJOR: u32 = 13;

/// Refuses what cannot work, before anything is begun, in words that say what to change.
pub async fn refuse_early(client: &Client, endpoint: &Endpoint, server: &Server) -> Result<(), Broke> {
    if server.major() < OLDEST_MAJOR {
        return Err(Broke::hinted(
            format!("the source is PostgreSQL {}; base backups need 13 or newer", server.version),
            "use a logical backup, or upgrade",
        ));
    }
    let question = "select current_setting('wal_level'), current_setting('max_wal_senders')::int, \
        current_setting('block_size')::int, \
        (select rolsuper or rolreplication from pg_roles where rolname = current_user)";
    let row = client.query_one(question, &[]).await.map_err(|error| asked(endpoint, &error))?;
    let (wal_level, senders, block): (String, i32, i32) = (row.get(0), row.get(1), row.get(2));
    if wal_level == "minimal" {
        return Err(Broke::hinted(
            "the source runs with wal_level = minimal: no base backup can be taken of it",
            "set wal_level = replica on the source and restart it; or use a logical backup",
        ));
    }
    if senders == 0 {
        return Err(Broke::hinted(
            "the source runs with max_wal_senders = 0: no base backup can be taken of it",
            "set max_wal_senders = 10 on the source and restart it; or use a logical backup",
        ));
    }
    if usize::try_from(block) != Ok(PAGE_BYTES) {
        return Err(Broke::hinted(
            format!("the source was built with pages of {block} bytes; lifeboat knows only {PAGE_BYTES}"),
            "use a logical backup",
        ));
    }
    if row.get::<_, Option<bool>>(3) != Some(true) {
        return Err(Broke::hinted(
            format!("role {} may not take base backups: it lacks REPLICATION", endpoint.user),
            format!("as superuser: ALTER ROLE {} REPLICATION; or use a logical backup", endpoint.user),
        ));
    }
    Ok(())
}

/// Holds the source's log from now on, by a temporary slot that lives as long as this session. A source that has no slot to
/// give is backed up all the same (its log may be recycled too early, and then the backup fails): why is in the second place.
pub async fn hold_log(endpoint: &Endpoint, tag: &str) -> Result<(Client, Option<String>), Broke> {
    let client = session::plain(endpoint).await?;
    let name = format!("lifeboat_{tag}");
    let made = client.execute("select pg_create_physical_replication_slot($1, true, true)", &[&name]).await;
    let why_not = made.err().map(|error| crate::probe::endpoint::root_cause(&error));
    Ok((client, why_not))
}

/// Reads suspect pages again, now that the backup is over. A role that may not read files of the server leaves them unread.
pub async fn read_again(client: &Client, suspects: &[Suspect]) -> Vec<Again> {
    let mut again = Vec::with_capacity(suspects.len());
    for suspect in suspects {
        again.push(read_one(client, suspect).await);
        // The first refusal is the answer to all: a thousand more would only fill the source's log.
        if again.last() == Some(&Again::Unread) {
            break;
        }
    }
    again.resize(suspects.len(), Again::Unread);
    again
}

async fn read_one(client: &Client, suspect: &Suspect) -> Again {
    let Some(first) = super::page::first_block(&suspect.path) else { return Again::Unread };
    let block = first.wrapping_add(suspect.block_in_file as u32);
    let offset = (suspect.block_in_file * PAGE_BYTES as u64).cast_signed();
    let question = "select pg_read_binary_file($1, $2, $3, true)";
    let mut seen = Again::Unread;
    // It may be being written just now, too.
    for _ in 0..3 {
        let row = client.query_one(question, &[&suspect.path, &offset, &(PAGE_BYTES as i64)]).await;
        let Ok(row) = row else { return Again::Unread };
        // A file that is gone was dropped or cut meanwhile, by a record in the log.
        let Some(bytes) = row.get::<_, Option<Vec<u8>>>(0) else { return Again::Wrong };
        seen = Again::of(&bytes, block);
        if matches!(seen, Again::Right(_)) {
            return seen;
        }
    }
    if seen == Again::Unread { Again::Wrong } else { seen }
}
