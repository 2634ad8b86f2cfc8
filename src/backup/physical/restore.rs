//! Puts a physical backup back into a folder.

mod flush;
mod plan;
mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, fchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::flush::Flush;
use self::plan::Plan;
pub use self::plan::plan_findings;
use self::tally::Tally;
use super::page::{self, PAGE_BYTES};
use crate::domain::artifact::{Manifest, MemberKind, PageTally, Part, StreamKind};
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::transcript::RestoreFacts;
use crate::progress::Progress;
use crate::seal::{self, Opener};
use crate::store::Store;

/// A file that may lie in an otherwise empty target: it says that a restore has not come to its end.
pub const INCOMPLETE: &str = "RESTORE-INCOMPLETE.txt";
/// What can make a server start, and the name it has until everything else is whole.
const CONTROL: &str = "global/pg_control";
const CONTROL_UNTIL_WHOLE: &str = "global/pg_control.not-whole-yet";

/// What is put back, and where.
pub struct PutBack<'a> {
    /// Where the artifact is.
    pub store: Arc<dyn Store>,
    /// What it is.
    pub manifest: &'a Manifest,
    /// What opens it.
    pub opener: &'a Opener,
    /// The data folder to make: must not exist, or be empty. Everything in it will belong to the folder's owner.
    pub data_dir: PathBuf,
    /// Tablespaces that get a folder of their own, by object identifier; all others stay inside the data folder, which
    /// PostgreSQL 15 and later starts on only with `allow_in_place_tablespaces = on`.
    pub tablespaces: Vec<(u32, PathBuf)>,
    /// Whether to wait until everything is on disk (a real restore), or not (a scratch).
    pub durable: bool,
    /// Threads.
    pub parallel: usize,
    /// Who listens.
    pub progress: &'a dyn Progress,
}

/// Opens parts in parallel and writes files, verifying page checksums in the same pass. What can make a server start
/// (`global/pg_control`) is put in place last, when everything else is whole. Wrong page checksums are told in the facts
/// and stop nothing: one bad page must not cost a whole database on the real day.
pub async fn put_back(what: &PutBack<'_>) -> Result<RestoreFacts, Stop> {
    let plan = plan::draw(what.manifest).map_err(Stop::Found)?;
    let ground = Arc::new(Ground::lay(what, plan)?);
    let mut facts = RestoreFacts::default();
    let prefix = format!("{}/{}", what.manifest.policy, what.manifest.backup);
    for stream in what.manifest.streams.iter().filter(|stream| stream.kind == StreamKind::Tar) {
        let here = Arc::clone(&ground);
        let use_part = move |_: usize, part: &Part, plain: Vec<u8>| here.write_part(part, &plain);
        let store = Arc::clone(&what.store);
        let (parts, plain, sealed) =
            seal::for_each_part(store, &prefix, stream, what.opener, what.parallel, use_part).await?;
        facts.parts += parts;
        facts.plain_bytes += plain;
        facts.sealed_bytes += sealed;
        what.progress.moved(plain);
    }
    let manifest = what.manifest.clone();
    let finish = tokio::task::spawn_blocking(move || ground.finish(&manifest)).await;
    facts.pages = Some(finish.map_err(|error| Broke::new(error.to_string()))??);
    Ok(facts)
}

/// The folders, laid out and ready for files.
struct Ground {
    plan: Plan,
    data_dir: PathBuf,
    mapped: BTreeMap<String, PathBuf>,
    owner: Option<(u32, u32)>,
    tally: Option<Tally>,
    /// Where everything must be on disk at the end.
    flush: Option<Flush>,
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> Broke {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room, and restore into a new folder",
        io::ErrorKind::PermissionDenied => "see who owns the folder; restoring as root keeps the folder's owner",
        io::ErrorKind::AlreadyExists => "the folder was not empty: nothing is ever replaced",
        _ => "see what the system's log says about that disk",
    };
    Broke::hinted(format!("could not {doing} {}: {error}", path.display()), hint)
}

/// Bits that PostgreSQL allows: its own, and reading for its group.
fn folder_mode(mode: u32) -> u32 {
    0o700 | (mode & 0o050)
}

fn file_mode(mode: u32) -> u32 {
    0o600 | (mode & 0o040)
}

/// Makes a folder, or takes one that is there and empty.
fn claim(dir: &Path) -> Result<(), Broke> {
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut inside = std::fs::read_dir(dir).map_err(|error| failed("look into", dir, &error))?;
            if inside.any(|entry| entry.map_or(true, |entry| entry.file_name() != INCOMPLETE)) {
                let error = format!("{} is not empty, and nothing is ever replaced", dir.display());
                return Err(Broke::hinted(error, "name a folder that does not exist yet"));
            }
            Ok(())
        }
        Err(error) => Err(failed("make", dir, &error)),
    }
}

impl Ground {
    fn lay(what: &PutBack<'_>, plan: Plan) -> Result<Ground, Stop> {
        claim(&what.data_dir)?;
        let found = std::fs::metadata(&what.data_dir).map_err(|error| failed("look at", &what.data_dir, &error))?;
        let owner = rustix::process::geteuid().is_root().then(|| (found.uid(), found.gid()));
        let mut mapped = BTreeMap::new();
        for (oid, dir) in &what.tablespaces {
            claim(dir)?;
            if let Some((uid, gid)) = owner {
                chown(dir, Some(uid), Some(gid)).map_err(|error| failed("give away", dir, &error))?;
            }
            let dir = dir.canonicalize().map_err(|error| failed("find", dir, &error))?;
            mapped.insert(format!("pg_tblspc/{oid}"), dir);
        }
        let checksums = what.manifest.fingerprint.server.data_checksums;
        let tally = checksums.then(Tally::default);
        let folders = mapped.values().chain([&what.data_dir]);
        let flush = what.durable.then(|| Flush::begin(folders)).transpose()?;
        let ground = Ground { plan, data_dir: what.data_dir.clone(), mapped, owner, tally, flush };
        for (path, mode) in ground.plan.folders() {
            if ground.mapped.contains_key(&path) {
                continue;
            }
            let place = ground.place(&path);
            let made = std::fs::DirBuilder::new().mode(0o700).create(&place);
            made.map_err(|error| failed("make", &place, &error))?;
            let mode = std::fs::Permissions::from_mode(folder_mode(mode));
            std::fs::set_permissions(&place, mode).map_err(|error| failed("set the mode of", &place, &error))?;
            if let Some((uid, gid)) = owner {
                chown(&place, Some(uid), Some(gid)).map_err(|error| failed("give away", &place, &error))?;
            }
        }
        Ok(ground)
    }

    /// Where a member is written. Links are made only at the end, so no path on the way there can be one.
    fn place(&self, path: &str) -> PathBuf {
        if path == CONTROL {
            return self.data_dir.join(CONTROL_UNTIL_WHOLE);
        }
        let elsewhere = self
            .mapped
            .iter()
            .find_map(|(link, dir)| path.strip_prefix(link.as_str())?.strip_prefix('/').map(|rest| dir.join(rest)));
        elsewhere.unwrap_or_else(|| self.data_dir.join(path))
    }

    /// Whether the file is left out. `tablespace_map` would make the server replace the folders of tablespaces by links to
    /// where they were on the source; the links that are wanted are made here.
    fn left_out(path: &str) -> bool {
        path == "tablespace_map"
    }

    fn write_part(&self, part: &Part, plain: &[u8]) -> Result<(), Broke> {
        for slice in &part.members {
            let Some(member) = self.plan.members.get(&slice.path) else { continue };
            if member.kind == MemberKind::Folder || Ground::left_out(&slice.path) {
                continue;
            }
            let range = usize::try_from(slice.at).ok().zip(usize::try_from(slice.at + slice.bytes).ok());
            let bytes = range
                .and_then(|(from, to)| plain.get(from..to))
                .ok_or_else(|| Broke::new(format!("part {} is shorter than it was verified to be", part.key)))?;
            let place = self.place(&slice.path);
            let file = self.open(&place, member.mode, member.cuts.is_empty())?;
            file.write_all_at(bytes, slice.offset).map_err(|error| failed("write", &place, &error))?;
            if let (Some(tally), Some(first)) = (&self.tally, page::first_block(&slice.path)) {
                tally.pass(&slice.path, first, slice.offset, bytes);
            }
            if let Some(flush) = &self.flush {
                flush.written(file, place, bytes.len());
            }
        }
        Ok(())
    }

    /// A file in one piece is made new; one in several pieces is made by whichever comes first. Never through a link.
    fn open(&self, place: &Path, mode: u32, in_one_piece: bool) -> Result<File, Broke> {
        let mut options = OpenOptions::new();
        options.write(true).mode(file_mode(mode)).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
        if in_one_piece {
            options.create_new(true)
        } else {
            options.create(true).truncate(false)
        };
        let file = options.open(place).map_err(|error| failed("make", place, &error))?;
        if let Some((uid, gid)) = self.owner {
            fchown(&file, Some(uid), Some(gid)).map_err(|error| failed("give away", place, &error))?;
        }
        Ok(file)
    }

    /// Looks at what was cut, makes the links, brings everything to disk, and only then lets a server start.
    fn finish(&self, manifest: &Manifest) -> Result<PageTally, Stop> {
        self.sizes()?;
        let pages = match &self.tally {
            Some(tally) => {
                self.cut_pages(tally)?;
                tally.settle(manifest)
            }
            None => PageTally::default(),
        };
        for (link, dir) in &self.mapped {
            let place = self.data_dir.join(link);
            symlink(dir, &place).map_err(|error| failed("link", &place, &error))?;
            if let Some((uid, gid)) = self.owner {
                std::os::unix::fs::lchown(&place, Some(uid), Some(gid))
                    .map_err(|error| failed("give away", &place, &error))?;
            }
        }
        if let Some(flush) = &self.flush {
            flush.all()?;
        }
        let (from, to) = (self.data_dir.join(CONTROL_UNTIL_WHOLE), self.data_dir.join(CONTROL));
        std::fs::rename(&from, &to).map_err(|error| failed("put in place", &to, &error))?;
        if let Some(flush) = &self.flush {
            flush.folder(&to)?;
        }
        Ok(pages)
    }

    /// Every file is there with its size: what was written is looked at, not remembered.
    fn sizes(&self) -> Result<(), Stop> {
        let mut findings = Vec::new();
        for (path, member) in &self.plan.members {
            if member.kind == MemberKind::Folder || Ground::left_out(path) {
                continue;
            }
            let place = self.place(path);
            let found = match std::fs::symlink_metadata(&place) {
                Ok(found) => Some(found.len()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                // A disk that cannot be asked says nothing about the backup.
                Err(error) => return Err(failed("look at", &place, &error).into()),
            };
            if found != Some(member.size) && findings.len() < 100 {
                let is = found.map_or_else(|| "no file".to_owned(), |bytes| format!("{bytes} bytes"));
                let finding = Finding::new("member_incomplete", format!("member {path}"), "it was not restored whole");
                findings.push(finding.with(format!("{} bytes", member.size), is));
            }
        }
        if findings.is_empty() { Ok(()) } else { Err(Stop::Found(findings)) }
    }

    /// Pages that no part holds whole: those at a cut, and the last one of a file that ends in the middle of one.
    fn cut_pages(&self, tally: &Tally) -> Result<(), Broke> {
        let page = PAGE_BYTES as u64;
        for (path, member) in &self.plan.members {
            let Some(first) = page::first_block(path).filter(|_| member.kind == MemberKind::File) else { continue };
            let ends = member.cuts.iter().copied().chain([member.size]);
            let blocks: BTreeSet<u64> = ends.filter(|end| end % page != 0).map(|end| end / page).collect();
            if blocks.is_empty() {
                continue;
            }
            let place = self.place(path);
            let file = File::open(&place).map_err(|error| failed("read", &place, &error))?;
            for block in blocks {
                let mut bytes = [0u8; PAGE_BYTES];
                let length = usize::try_from((member.size - block * page).min(page)).unwrap_or(PAGE_BYTES);
                file.read_exact_at(&mut bytes[..length], block * page)
                    .map_err(|error| failed("read", &place, &error))?;
                tally.look(path, first, block, &bytes);
            }
        }
        Ok(())
    }
}
