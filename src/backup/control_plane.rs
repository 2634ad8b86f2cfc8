//! lifeboat's own files as one tar, and back: small files that are at hand as bytes.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use tar::{EntryType, Header};

use crate::domain::artifact::{Manifest, MemberKind, Part, Stream, StreamKind};
use crate::domain::check::{Broke, Stop};
use crate::domain::transcript::RestoreFacts;
use crate::seal::{self, Member, Opener, StreamWriter, is_inside};
use crate::store::Store;

/// A tar is made of blocks of so many bytes.
const BLOCK: usize = 512;

/// Writes files into the tar of a backup. **Blocking.**
pub struct Tar {
    stream: StreamWriter,
}

impl Tar {
    /// On a stream of the kind `Tar` that nothing was written to.
    pub fn new(stream: StreamWriter) -> Tar {
        Tar { stream }
    }

    /// A whole file, readable for its owner alone.
    pub fn file(&mut self, path: &str, bytes: &[u8]) -> Result<(), Broke> {
        let size = bytes.len() as u64;
        let mut header = Header::new_ustar();
        let named = header.set_path(path);
        named.map_err(|error| Broke::new(format!("{path} cannot be named in a tar: {error}")))?;
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_size(size);
        header.set_cksum();
        self.stream.write(header.as_bytes())?;
        self.stream.member(Member { path: path.to_owned(), kind: MemberKind::File, mode: 0o600, size })?;
        self.stream.write(bytes)?;
        self.stream.write(&[0; BLOCK][..bytes.len().next_multiple_of(BLOCK) - bytes.len()])?;
        Ok(())
    }

    /// The end of the tar; waits until all of it is durable.
    pub fn finish(mut self) -> Result<Stream, Broke> {
        self.stream.write(&[0; 2 * BLOCK])?;
        Ok(self.stream.finish()?)
    }
}

/// Puts the files of such a tar into an empty folder. Nothing is replaced, and nothing is written outside of it.
pub async fn unpack(
    store: Arc<dyn Store>,
    manifest: &Manifest,
    opener: &Opener,
    dir: &Path,
    parallel: usize,
) -> Result<RestoreFacts, Stop> {
    let mut facts = RestoreFacts::default();
    let prefix = format!("{}/{}", manifest.policy, manifest.backup);
    for stream in manifest.streams.iter().filter(|stream| stream.kind == StreamKind::Tar) {
        let folder = dir.to_owned();
        let use_part = move |_: usize, part: &Part, plain: Vec<u8>| write_part(&folder, part, &plain);
        let store = Arc::clone(&store);
        let (parts, plain, sealed) = seal::for_each_part(store, &prefix, stream, opener, parallel, use_part).await?;
        facts.parts += parts;
        facts.plain_bytes += plain;
        facts.sealed_bytes += sealed;
    }
    Ok(facts)
}

fn write_part(dir: &Path, part: &Part, plain: &[u8]) -> Result<(), Broke> {
    for slice in part.members.iter().filter(|slice| slice.kind == MemberKind::File) {
        let place = dir.join(&slice.path);
        let failed = |error: &io::Error| Broke::new(format!("{} cannot be written: {error}", place.display()));
        let range = usize::try_from(slice.at).ok().zip(usize::try_from(slice.at.saturating_add(slice.bytes)).ok());
        let bytes = range.and_then(|(from, to)| plain.get(from..to)).filter(|_| is_inside(&slice.path));
        let bytes = bytes.ok_or_else(|| Broke::new(format!("part {} does not hold what it says", part.key)))?;
        let folder = place.parent().unwrap_or(dir);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| failed(&error))?;
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
        // A file in several pieces is made by whichever comes first.
        if slice.bytes == slice.size {
            options.create_new(true)
        } else {
            options.create(true).truncate(false)
        };
        let file = options.open(&place).map_err(|error| failed(&error))?;
        file.write_all_at(bytes, slice.offset).map_err(|error| failed(&error))?;
        file.sync_all().map_err(|error| failed(&error))?;
    }
    Ok(())
}
