//! `lifeboat wal fetch`: one file of the log out of the stores, for a server's `restore_command`.

use std::path::Path;
use std::sync::Arc;

use super::log::put_together;
use super::{Sync, write_whole};
use crate::backup::wal::header;
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::ids::PolicyName;
use crate::domain::wal::{Segment, WalName, chain};
use crate::seal::{self, Opener, TrustedSigners};
use crate::store::Store;

/// So often the pieces of a segment may be taken away while they are read: they go once.
const TRIES: usize = 3;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// It is where it was wanted, whole and verified, and has so many bytes.
    Written(u64),
    /// It is certainly in none of the stores, which hold other things of this policy.
    Absent,
}

/// Brings a file back to `to`. Only certain absence is [`Fetched::Absent`]: a server that hears of it takes the log to end there.
pub async fn fetch(
    stores: &[Arc<dyn Store>],
    policy: &PolicyName,
    name: WalName,
    trusted: &TrustedSigners,
    opener: &Opener,
    to: &Path,
) -> Result<Fetched, Stop> {
    for store in stores {
        if let Some((_, bytes)) = seal::fetch_wal(&**store, policy, name, trusted, opener).await? {
            return write(to, bytes).await;
        }
    }
    if let WalName::Segment(segment) = name {
        for store in stores {
            if let Some(bytes) = unfinished(&**store, policy, segment, trusted, opener).await? {
                return write(to, bytes).await;
            }
        }
    }
    for store in stores {
        // A store that holds nothing at all of the policy may be an empty folder where a disk is not mounted.
        let known = !seal::list_wal(&**store, policy).await?.is_empty()
            || !seal::list_backups(&**store, Some(policy), trusted).await.map_err(Broke::from)?.is_empty();
        if !known {
            let error =
                format!("{} holds nothing of policy {policy}: it cannot be said that {name} is not there", store.url());
            return Err(Broke::hinted(error, "is it mounted, and is it the right store?").into());
        }
    }
    if stores.is_empty() {
        return Err(Broke::new("no store is named").into());
    }
    Ok(Fetched::Absent)
}

async fn write(to: &Path, bytes: Vec<u8>) -> Result<Fetched, Stop> {
    let (path, length) = (to.to_owned(), bytes.len() as u64);
    let written = tokio::task::spawn_blocking(move || write_whole(&path, &bytes, None, Sync::Theirs)).await;
    let written = written.map_err(|error| Broke::new(format!("the writing thread stopped: {error}")))?;
    written.map_err(|error| {
        Broke::hinted(format!("{} cannot be written: {error}", to.display()), "restore_command gives it as %p")
    })?;
    Ok(Fetched::Written(length))
}

/// A segment that the server had not finished: as much of it as was received, and zeros behind it.
async fn unfinished(
    store: &dyn Store,
    policy: &PolicyName,
    segment: Segment,
    trusted: &TrustedSigners,
    opener: &Opener,
) -> Result<Option<Vec<u8>>, Stop> {
    for _ in 0..TRIES {
        let names = seal::list_wal(store, policy).await?;
        let pieces = names.iter().filter_map(|name| match name {
            WalName::Piece(piece) if piece.segment == segment => Some(*piece),
            _ => None,
        });
        let chain = chain(&pieces.collect::<Vec<_>>());
        let whole = async || {
            let fetched = seal::fetch_wal(store, policy, WalName::Segment(segment), trusted, opener).await?;
            Ok::<_, Stop>(fetched.map(|(_, bytes)| bytes))
        };
        // Pieces go when their segment is there as a whole: since it was asked for, maybe.
        let Some(first) = chain.first() else { return whole().await };
        let Some((_, beginning)) = seal::fetch_wal(store, policy, WalName::Piece(*first), trusted, opener).await?
        else {
            continue;
        };
        let header = header(&beginning)
            .map_err(|error| Finding::new("wal_record", format!("log {segment}"), error.to_string()))?;
        match put_together(store, policy, &chain, header.segment_bytes, trusted, opener).await? {
            Some(bytes) => return Ok(Some(bytes)),
            None => {
                if let Some(bytes) = whole().await? {
                    return Ok(Some(bytes));
                }
            }
        }
    }
    Err(Broke::new(format!("the pieces of {segment} were taken away again and again while they were read")).into())
}
