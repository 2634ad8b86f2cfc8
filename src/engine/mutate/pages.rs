//! Faults inside of a part: it is opened, changed, and sealed again to the same recipients, as a damaged source would give it.

use std::sync::Arc;

use super::artifact::Original;
use super::overlay::Overlay;
use super::unusable;
use crate::domain::artifact::{Manifest, MemberKind, Slice, StreamKind};
use crate::domain::check::Broke;
use crate::judge::mutation::page_files;
use crate::seal::{SealOptions, Sealer};
use crate::store::Store;

const PAGE_BYTES: usize = 8192;
/// Bytes of a page's header (`PageHeaderData`), after which its line pointers come.
const PAGE_HEADER: u16 = 24;

/// Flips one bit in a page of a heap: of this file, or of the next one that has such a page. Gives the page as findings name it.
pub async fn flip(
    original: &Original<'_>,
    overlay: &Arc<Overlay>,
    manifest: &mut Manifest,
    file: &str,
    unread: bool,
) -> Result<String, Broke> {
    let files: Vec<String> = page_files(manifest, unread).into_iter().map(str::to_owned).collect();
    let from = files.iter().position(|path| path == file).unwrap_or(0);
    let start = manifest.wal.as_ref().map_or(u64::MAX, |wal| wal.start.0);
    for path in files[from..].iter().chain(&files[..from]) {
        let Some((stream, part, slice)) = first_slice(manifest, path) else { continue };
        let mut plain = open(original, manifest, stream, part).await?;
        let at = usize::try_from(slice.at).map_err(|_| out_of_range())?;
        let bytes = usize::try_from(slice.bytes).map_err(|_| out_of_range())?;
        let member = plain.get_mut(at..at.saturating_add(bytes)).ok_or_else(out_of_range)?;
        let found = member.chunks_exact_mut(PAGE_BYTES).enumerate().find(|(_, page)| is_old_heap_page(page, start));
        if let Some((block, page)) = found {
            // The last byte of a heap page belongs to its first row.
            page[PAGE_BYTES - 1] ^= 0x04;
            reseal(original, overlay, manifest, stream, part, plain).await?;
            return Ok(format!("{path} block {block}"));
        }
    }
    Err(Broke::new("no file of the backup begins with a page of rows that was written before the backup began"))
}

/// A page with rows and nothing special at its end, as only heaps have, that recovery will not write anew.
fn is_old_heap_page(page: &[u8], start: u64) -> bool {
    let short = |at: usize| u16::from_le_bytes([page[at], page[at + 1]]);
    let word = |at: usize| u64::from(u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]));
    let lsn = word(0) << 32 | word(4);
    let (lower, upper, special) = (short(12), short(14), short(16));
    lower > PAGE_HEADER && lower <= upper && upper < special && usize::from(special) == PAGE_BYTES && lsn < start
}

/// Writes zeros over a file, wherever its pieces lie.
pub async fn blank(
    original: &Original<'_>,
    overlay: &Arc<Overlay>,
    manifest: &mut Manifest,
    path: &str,
) -> Result<(), Broke> {
    let mut pieces = Vec::new();
    for (stream, one) in manifest.streams.iter().enumerate() {
        for (part, of) in one.parts.iter().enumerate() {
            let slices: Vec<Slice> = of.members.iter().filter(|slice| slice.path == path).cloned().collect();
            if !slices.is_empty() {
                pieces.push((stream, part, slices));
            }
        }
    }
    for (stream, part, slices) in pieces {
        let mut plain = open(original, manifest, stream, part).await?;
        for slice in slices {
            let at = usize::try_from(slice.at).map_err(|_| out_of_range())?;
            let bytes = usize::try_from(slice.bytes).map_err(|_| out_of_range())?;
            plain.get_mut(at..at.saturating_add(bytes)).ok_or_else(out_of_range)?.fill(0);
        }
        reseal(original, overlay, manifest, stream, part, plain).await?;
    }
    Ok(())
}

fn out_of_range() -> Broke {
    Broke::new("a member of the backup lies outside of its part")
}

fn first_slice(manifest: &Manifest, path: &str) -> Option<(usize, usize, Slice)> {
    manifest.streams.iter().enumerate().filter(|(_, stream)| stream.kind == StreamKind::Tar).find_map(|(index, one)| {
        one.parts.iter().enumerate().find_map(|(number, part)| {
            let first = |slice: &&Slice| slice.kind == MemberKind::File && slice.path == path && slice.offset == 0;
            part.members.iter().find(first).map(|slice| (index, number, slice.clone()))
        })
    })
}

async fn open(original: &Original<'_>, manifest: &Manifest, stream: usize, part: usize) -> Result<Vec<u8>, Broke> {
    let part = manifest.streams[stream].parts[part].clone();
    let sealed = original.store.get(&original.key(&part.key)).await?;
    let opener = original.opener.clone();
    let opened = tokio::task::spawn_blocking(move || opener.open_part(&part, &sealed)).await;
    opened.map_err(|error| Broke::new(error.to_string()))?.map_err(unusable)
}

/// Seals this plaintext in the place of a part, and corrects what the manifest says about it.
async fn reseal(
    original: &Original<'_>,
    overlay: &Arc<Overlay>,
    manifest: &mut Manifest,
    stream: usize,
    part: usize,
    plain: Vec<u8>,
) -> Result<(), Broke> {
    let options =
        SealOptions { recipients: manifest.recipients.clone(), level: 1, part_bytes: plain.len().max(1), threads: 1 };
    // Beside the backup: in the overlay there is room for a folder of the test's own.
    let aside = format!("{}/{}-mutated", original.policy.name, manifest.backup);
    let sealer = Sealer::new(Arc::clone(overlay) as Arc<dyn Store>, aside.clone(), options)?;
    let sealed = tokio::task::spawn_blocking(move || {
        let mut writer = sealer.stream("base", StreamKind::Tar);
        writer.write(&plain)?;
        writer.finish()
    });
    let sealed = sealed.await.map_err(|error| Broke::new(error.to_string()))??;
    let new = sealed.parts.into_iter().next().ok_or_else(|| Broke::new("nothing was sealed"))?;
    let from = format!("{aside}/{}", new.key);
    let bytes = overlay.get(&from).await?;
    overlay.remove(&from);
    let place = &mut manifest.streams[stream].parts[part];
    overlay.replace(&original.key(&place.key), bytes);
    place.plain_blake3 = new.plain_blake3;
    place.sealed_bytes = new.sealed_bytes;
    place.sealed_sha256 = new.sealed_sha256;
    Ok(())
}
