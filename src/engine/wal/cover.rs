//! What a file that was handed over adds to the series of what the stores can bring back.

use jiff::Timestamp;

use crate::domain::check::{Broke, Stop};
use crate::domain::exposure::Covered;
use crate::domain::ids::PlaceName;
use crate::domain::lsn::Lsn;
use crate::domain::policy::Policy;
use crate::domain::wal::{WalName, WalRecord};
use crate::engine::House;
use crate::seal;

/// Writes down that everything up to the last commit of a segment can be brought back: if it goes on from what was written down before, or from a
/// backup. Behind a hole nothing is covered until there is a backup again.
pub(super) async fn cover(house: &House, policy: &Policy, place: &PlaceName, record: &WalRecord) -> Result<(), Broke> {
    let (WalName::Segment(_), Some(contents)) = (record.name, &record.contents) else { return Ok(()) };
    if !contents.whole {
        return Ok(());
    }
    let now = crate::clock::now();
    let before = house.catalog.covered(&policy.name, now).await?;
    let goes_on = before.iter().filter(|one| one.until.is_some_and(|until| until >= contents.start));
    let so_far = match goes_on.map(|one| one.covered).max() {
        Some(covered) => covered,
        None => match backup_behind(house, policy, place, record).await? {
            Some(recovery_point) => recovery_point,
            None => return Ok(()),
        },
    };
    let covered = contents.last_commit.map_or(so_far, |last| last.at.max(so_far));
    let until = contents.start.0.checked_add(record.plain_bytes).map(Lsn);
    house.catalog.cover(&policy.name, Covered { at: now, covered, until }).await
}

/// The recovery point of the newest backup, if it ends in this segment or behind it.
async fn backup_behind(
    house: &House,
    policy: &Policy,
    place: &PlaceName,
    record: &WalRecord,
) -> Result<Option<Timestamp>, Broke> {
    let (store, trusted) = (house.store(place)?, house.trusted()?);
    for (_, backup) in seal::list_backups(&*store, Some(&policy.name), &trusted).await?.into_iter().rev() {
        let sealed = match seal::load_manifest(&*store, &policy.name, &backup, &trusted).await {
            Ok(sealed) => sealed,
            // That is for `verify` to say.
            Err(Stop::Found(_)) => continue,
            Err(Stop::Broke(broke)) => return Err(broke),
        };
        if let (Some(range), Some(contents)) = (&sealed.manifest.wal, &record.contents) {
            let behind = range.timeline == record.name.timeline() && range.end >= contents.start;
            return Ok(behind.then_some(sealed.manifest.recovery_point.at));
        }
    }
    Ok(None)
}
