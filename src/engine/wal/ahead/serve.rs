//! What a fetch does with the folder: looks there first, says how far it is, and sees to it that nothing stays.

use std::path::Path;

use super::super::temporary;
use super::folder::Folder;
use super::{At, FORMAT, Origin, beside, depth, place};
use crate::domain::wal::Segment;

/// A segment was given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Whether few are left, and nobody is filling.
    pub hungry: bool,
}

/// Gives a segment out, if it was fetched ahead for the same call and nothing that the call depends on has changed since. None: it must
/// be fetched; whatever goes wrong here is no error.
pub fn serve(call: &[String], segment: Segment, to: &Path, ahead: usize) -> Option<Served> {
    let folder = Folder::open(&beside(to)).ok()?;
    let at = folder.at().filter(|at| at.origin.call == call && at.origin.is_unchanged())?;
    let key = at.origin.key(segment);
    let there = folder.segments().ok()?;
    for (_, name) in there.iter().filter(|(one, _)| *one == segment) {
        if !folder.verifies(name, segment, at.segment_bytes, &key) {
            folder.remove(name);
        } else if folder.give(name, to).is_ok() {
            let left = there.iter().filter(|(one, _)| place(one) > place(&segment)).count();
            let few = left * 2 < depth(ahead, at.segment_bytes);
            // What a fetch that was killed left. Another fetch would write over it, but there may be none.
            let _ = std::fs::remove_file(temporary(to));
            // Where it cannot be written, whoever fills ends for want of news, and later fetches go to the store.
            let _ = folder.set_at(&At { segment, ..at });
            return Some(Served { hungry: few && nobody_fills(&folder) });
        }
    }
    None
}

/// After a segment came out of a store: the next ones are wanted. Whether somebody must be started who fetches them.
pub fn begin(origin: Origin, segment: Segment, segment_bytes: u64, to: &Path, ahead: usize) -> bool {
    if depth(ahead, segment_bytes) == 0 {
        return false;
    }
    let begun = Folder::make(&beside(to)).and_then(|folder| {
        folder.set_at(&At { format: FORMAT.to_owned(), segment, segment_bytes, origin })?;
        Ok(folder)
    });
    begun.is_ok_and(|folder| nobody_fills(&folder))
}

/// After a segment was certainly absent: a recovery ends here, unless an older timeline goes on. Then the folder goes.
pub fn end(segment: Segment, to: &Path) {
    let Ok(folder) = Folder::open(&beside(to)) else { return };
    let goes_on = folder.segments().is_ok_and(|there| there.iter().any(|(one, _)| place(one) >= place(&segment)));
    if !goes_on {
        folder.forget_at();
        // Whoever fills sees it and clears up; else it is done here.
        if let Ok(Some(lock)) = folder.lock() {
            folder.clear(lock);
        }
    }
}

fn nobody_fills(folder: &Folder) -> bool {
    matches!(folder.lock(), Ok(Some(_)))
}
