//! A physical backup into a data folder.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::choose::Chosen;
use super::database::quoted;
use super::until::Course;
use super::{Done, INCOMPLETE, Request, refuse_without_room};
use crate::backup::{control_plane, physical};
use crate::domain::artifact::Manifest;
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::units::ByteSize;
use crate::programs::Programs;
use crate::progress::Progress;

/// Settings that make a server act on other systems, or need something of this machine. What came back has them as they were.
const ACTING: [&str; 12] = [
    "archive_command",
    "archive_library",
    "archive_cleanup_command",
    "recovery_end_command",
    "restore_command",
    "primary_conninfo",
    "synchronous_standby_names",
    "shared_preload_libraries",
    "session_preload_libraries",
    "listen_addresses",
    "ssl_cert_file",
    "data_directory",
];

fn failed(doing: &str, path: &Path, error: &io::Error) -> Broke {
    let hint = "see whether the folder above exists and who may write there";
    Broke::hinted(format!("could not {doing} {}: {error}", path.display()), hint)
}

/// A target must not exist, or be an empty folder.
pub(super) fn refuse_unless_free(dir: &Path) -> Result<(), Broke> {
    let taken = || {
        let error =
            format!("{} is there already and is not an empty folder; nothing is ever overwritten", dir.display());
        Broke::hinted(error, "name a folder that does not exist yet")
    };
    match std::fs::symlink_metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = parent_of(dir);
            if parent.is_dir() { Ok(()) } else { Err(failed("use", &parent, &io::ErrorKind::NotFound.into())) }
        }
        Err(error) => Err(failed("look at", dir, &error)),
        Ok(found) if !found.is_dir() => Err(taken()),
        Ok(_) => {
            let mut inside = std::fs::read_dir(dir).map_err(|error| failed("look into", dir, &error))?;
            if inside.next().is_none() { Ok(()) } else { Err(taken()) }
        }
    }
}

fn parent_of(dir: &Path) -> PathBuf {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Who is to run the server, when root restores: the owner of the folder above, or `postgres` if that is root too.
fn owner_for(parent: &Path) -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let above = std::fs::metadata(parent).ok().map(|found| (found.uid(), found.gid())).filter(|(uid, _)| *uid != 0);
    above.or_else(|| user(|name, _| name == "postgres").map(|(_, uid, gid)| (uid, gid)))
}

fn user(wanted: impl Fn(&str, u32) -> bool) -> Option<(String, u32, u32)> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let (name, uid, gid) = (*fields.first()?, fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
        wanted(name, uid).then(|| (name.to_owned(), uid, gid))
    })
}

pub(super) async fn restore(
    request: &Request,
    chosen: &Chosen,
    course: Option<&Course>,
    dir: &Path,
    progress: &dyn Progress,
) -> Result<Done, Stop> {
    let manifest = &chosen.sealed.manifest;
    let tablespaces = mapped(manifest, &request.tablespaces)?;
    let log = course.map_or(0, |course| course.bytes().0);
    let needed = ByteSize(manifest.plain_bytes().0.saturating_add(log));
    refuse_without_room(&parent_of(dir), needed, "the data folder")?;
    let owner = owner_for(&parent_of(dir));
    let places = || tablespaces.iter().map(|(_, place)| place.as_path()).chain([dir]);
    places().try_for_each(refuse_unless_free)?;
    places().try_for_each(|place| make(place, owner))?;
    // First of all, so that even a restore that is killed leaves a folder that says what it is.
    mark(dir, "it was interrupted, or is still at work\n").map_err(|error| failed("write into", dir, &error))?;
    progress.say(&format!("writing {} into {}", manifest.plain_bytes(), dir.display()));
    let what = physical::PutBack {
        store: Arc::clone(&chosen.store),
        manifest,
        opener: &request.opener,
        data_dir: dir.to_owned(),
        tablespaces: tablespaces.clone(),
        durable: true,
        parallel: request.parallel,
        progress,
    };
    let facts = match physical::put_back(&what).await {
        Ok(facts) => facts,
        Err(stop) => {
            mark_incomplete(dir, &stop);
            return Err(stop);
        }
    };
    if let Some(course) = course
        && let Err(stop) = course.prepare(request, dir, progress).await
    {
        mark_incomplete(dir, &stop);
        return Err(stop);
    }
    let mut warnings = Vec::new();
    let in_place: Vec<&str> = manifest
        .fingerprint
        .tablespaces
        .iter()
        .filter(|space| !tablespaces.iter().any(|(oid, _)| *oid == space.oid))
        .map(|space| space.name.as_str())
        .collect();
    if !in_place.is_empty() {
        allow_in_place(dir, manifest, owner)?;
        warnings.push(format!(
            "tablespaces {} are inside of the data folder now, and postgresql.auto.conf allows that (allow_in_place_tablespaces); --tablespace NAME=DIR gives one a folder",
            in_place.join(", ")
        ));
    }
    warnings.extend(acting(dir, manifest));
    let pages = facts.pages.filter(|pages| pages.enabled);
    let findings = pages.iter().filter(|pages| pages.bad_count > 0).map(|pages| {
        let message = format!("{} pages have a wrong checksum: {}", pages.bad_count, pages.bad.join(", "));
        Finding::new("page_checksum", "data folder", message)
    });
    let findings: Vec<Finding> = findings.collect();
    unmark(dir).map_err(|error| failed("remove the mark from", dir, &error))?;
    Ok(Done {
        target: dir.display().to_string(),
        pages: pages.map(|pages| (pages.verified, pages.bad_count)),
        commands: commands(request, manifest, dir),
        warnings,
        findings,
    })
}

/// lifeboat's own backup into a folder.
pub(super) async fn restore_own(
    request: &Request,
    chosen: &Chosen,
    dir: &Path,
    progress: &dyn Progress,
) -> Result<Done, Stop> {
    let manifest = &chosen.sealed.manifest;
    refuse_without_room(&parent_of(dir), manifest.plain_bytes(), "the folder")?;
    refuse_unless_free(dir)?;
    make(dir, None)?;
    mark(dir, "it was interrupted, or is still at work\n").map_err(|error| failed("write into", dir, &error))?;
    progress.say(&format!("writing {} into {}", manifest.plain_bytes(), dir.display()));
    let store = Arc::clone(&chosen.store);
    if let Err(stop) = control_plane::unpack(store, manifest, &request.opener, dir, request.parallel).await {
        mark_incomplete(dir, &stop);
        return Err(stop);
    }
    unmark(dir).map_err(|error| failed("remove the mark from", dir, &error))?;
    let shown = dir.display();
    Ok(Done {
        target: shown.to_string(),
        pages: None,
        commands: vec![
            format!("cat {shown}/HOW-TO.txt"),
            format!("cd {shown}/config"),
            "cat ../catalog/*.jsonl > ../catalog.jsonl && lifeboat catalog import ../catalog.jsonl".to_owned(),
            "lifeboat catalog rebuild && lifeboat check && lifeboat status".to_owned(),
        ],
        warnings: vec![
            "keys and password files are not in it: origin.json names them; bring them from where they are kept"
                .to_owned(),
        ],
        findings: Vec::new(),
    })
}

fn make(dir: &Path, owner: Option<(u32, u32)>) -> Result<(), Broke> {
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        // It was there and empty: its owner is the one that somebody wanted.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed("make", dir, &error)),
        Ok(()) => match owner {
            Some((uid, gid)) => chown(dir, Some(uid), Some(gid)).map_err(|error| failed("give away", dir, &error)),
            None => Ok(()),
        },
    }
}

/// Folders of tablespaces by object identifier.
fn mapped(manifest: &Manifest, wanted: &[(String, PathBuf)]) -> Result<Vec<(u32, PathBuf)>, Broke> {
    let known = &manifest.fingerprint.tablespaces;
    wanted
        .iter()
        .map(|(name, dir)| {
            let found = known.iter().find(|space| space.name == *name).ok_or_else(|| {
                crate::engine::house::unknown("tablespace", name, known.iter().map(|space| space.name.as_str()))
            })?;
            let dir = std::path::absolute(dir).map_err(|error| failed("find", dir, &error))?;
            Ok((found.oid, dir))
        })
        .collect()
}

/// From version 15 on a server does not start on folders where it expects links, unless this is said.
fn allow_in_place(dir: &Path, manifest: &Manifest, owner: Option<(u32, u32)>) -> Result<(), Broke> {
    use std::io::Write as _;
    if manifest.fingerprint.server.major() < 15 {
        return Ok(());
    }
    let path = dir.join("postgresql.auto.conf");
    let append = || -> io::Result<()> {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&path)?;
        file.write_all(b"\n# added by lifeboat restore: tablespaces are folders inside of pg_tblspc\nallow_in_place_tablespaces = 'on'\n")?;
        file.sync_all()?;
        if let Some((uid, gid)) = owner {
            chown(&path, Some(uid), Some(gid))?;
        }
        Ok(())
    };
    append().map_err(|error| failed("write", &path, &error))
}

/// What is not whole says so.
fn mark_incomplete(dir: &Path, stop: &Stop) {
    let why = match stop {
        Stop::Found(findings) => {
            findings.iter().map(|finding| format!("{}: {}\n", finding.object, finding.message)).collect::<String>()
        }
        Stop::Broke(broke) => format!("{}\n", broke.error),
    };
    // The error itself is what matters, and the mark without it is there already.
    let _ = mark(dir, &why);
}

fn mark(dir: &Path, why: &str) -> io::Result<()> {
    use std::io::Write as _;
    let text = format!(
        "This folder is not whole: `lifeboat restore` did not come to its end. Start no server on it. Remove the folder, and\n\
         restore again, or another backup (lifeboat restore … --backup ID), or from another store.\n\n{why}"
    );
    let mut file = std::fs::File::create(dir.join(INCOMPLETE))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::File::open(dir)?.sync_all()
}

fn unmark(dir: &Path) -> io::Result<()> {
    std::fs::remove_file(dir.join(INCOMPLETE))?;
    std::fs::File::open(dir)?.sync_all()
}

/// What of the restored configuration would act at the first start.
fn acting(dir: &Path, manifest: &Manifest) -> Vec<String> {
    let mut warnings = Vec::new();
    if !dir.join("postgresql.conf").is_file() {
        warnings.push(
            "the source keeps postgresql.conf and pg_hba.conf outside of its data folder (as Debian does): they are not part of the backup, write them before the start"
                .to_owned(),
        );
    }
    let settings = &manifest.fingerprint.server.settings;
    let act: Vec<String> = ACTING
        .iter()
        .filter_map(|name| settings.get(*name).filter(|value| !value.is_empty()).map(|value| (name, value)))
        .filter(|(_, value)| !value.contains("(disabled)"))
        // A value can hold a password (primary_conninfo): names are enough.
        .map(|(name, _)| (*name).to_owned())
        .collect();
    if !act.is_empty() {
        warnings.push(format!(
            "the source's configuration sets {}: at its first start this copy acts on the same systems as the lost server did; see postgresql.conf and postgresql.auto.conf first, or start it with the quiet command",
            act.join(", ")
        ));
    }
    for signal in ["standby.signal", "recovery.signal"] {
        if dir.join(signal).is_file() {
            warnings.push(format!("{signal} came back with the copy: remove it, or the server stays a standby"));
        }
    }
    warnings
}

/// How the server is started, as whom.
fn commands(request: &Request, manifest: &Manifest, dir: &Path) -> Vec<String> {
    let major = manifest.fingerprint.server.major();
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let data = quoted(&absolute.display().to_string());
    let pg_ctl = match Programs::find(&request.bin_dirs, major, &["pg_ctl", "postgres"]) {
        Ok(programs) => programs.path("pg_ctl").display().to_string(),
        Err(_) => format!("pg_ctl  # of PostgreSQL {major}, which is not installed here:"),
    };
    let owner = std::fs::metadata(dir).map(|found| found.uid()).unwrap_or_default();
    let runs_as = match rustix::process::geteuid().is_root() {
        true => user(|_, uid| uid == owner).map(|(name, ..)| format!("runuser -u {name} -- ")).unwrap_or_default(),
        false => String::new(),
    };
    let log = quoted(&absolute.join("server.log").display().to_string());
    vec![
        format!("{runs_as}{pg_ctl} -D {data} -l {log} -w start"),
        format!(
            "{runs_as}{pg_ctl} -D {data} -l {log} -w start -o \"-c archive_mode=off -c max_logical_replication_workers=0 -c primary_conninfo='' -c listen_addresses=''\"  # quiet: reached by its socket only, acts on nothing"
        ),
    ]
}
