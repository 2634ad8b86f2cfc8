//! What of a data folder belongs into a backup: the rules of PostgreSQL's own `src/backend/backup/basebackup.c`.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::super::pump::not_utf8;
use super::ground::Ground;
use crate::domain::check::Broke;

/// Folders that are there and empty: a server makes their content anew when it starts.
const EMPTIED: [&str; 7] =
    ["pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"];
/// Files of a running server, or of other backups, wherever they lie.
const LEFT_OUT: [&str; 10] = [
    "backup_label",
    "backup_label.old",
    "backup_manifest",
    "current_logfiles",
    "current_logfiles.tmp",
    "postgresql.auto.conf.tmp",
    "postmaster.opts",
    "postmaster.pid",
    "tablespace_map",
    "tablespace_map.old",
];
/// Files with these beginnings: of temporary tables and sorts, and a cache.
const LEFT_OUT_PREFIXES: [&str; 2] = ["pgsql_tmp", "pg_internal.init"];
/// It is read when all else has been.
pub const CONTROL: &str = "global/pg_control";

/// Something that belongs into the backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A folder.
    Folder(String, PathBuf),
    /// A folder that need not be one in the source.
    Made(String),
    /// A file.
    File(String, PathBuf),
    /// Something else: left out, and said.
    Odd(String),
}

type Each<'e> = &'e mut dyn FnMut(Found) -> Result<(), Broke>;

/// Goes through the folder. What vanishes meanwhile was dropped, and the log says so: it is left out. Memory is the names of
/// one folder and of those above it.
pub fn walk(ground: &Ground, each: Each<'_>) -> Result<(), Broke> {
    let root = ground.data_dir.as_path();
    // The root itself cannot vanish.
    std::fs::read_dir(root).map_err(|error| unreadable(root, &error))?;
    folder(ground, root, "", each)
}

fn folder(ground: &Ground, place: &Path, path: &str, each: Each<'_>) -> Result<(), Broke> {
    let mut entries = Vec::new();
    let listed = std::fs::read_dir(place).and_then(|listed| {
        for entry in listed {
            let entry = entry?;
            entries.push((entry.file_name(), entry.file_type()));
        }
        Ok(())
    });
    match listed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        listed => listed.map_err(|error| unreadable(place, &error))?,
    }
    entries.sort_by(|one, other| one.0.cmp(&other.0));
    let of_relations = is_database_folder(path);
    for (name, kind) in entries {
        let inner = place.join(&name);
        let kind = match kind {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            kind => kind.map_err(|error| unreadable(&inner, &error))?,
        };
        let name = utf8(name)?;
        let whole = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
        if LEFT_OUT.contains(&name.as_str()) || LEFT_OUT_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        if path.is_empty() && (kind.is_dir() || kind.is_symlink()) {
            if EMPTIED.contains(&name.as_str()) {
                each(Found::Made(whole))?;
                continue;
            }
            if name == "pg_wal" {
                // The log comes at the end, when it is known which of it is needed.
                each(Found::Made(whole))?;
                each(Found::Made("pg_wal/archive_status".to_owned()))?;
                if ground.major >= 17 {
                    each(Found::Made("pg_wal/summaries".to_owned()))?;
                }
                continue;
            }
        }
        if path == "pg_tblspc" && kind.is_symlink() {
            // One that was made since the backup began is made again by the log.
            if name.parse().is_ok_and(|oid: u32| ground.tablespaces.contains(&oid)) {
                tablespace(ground, &inner, &whole, each)?;
            }
        } else if kind.is_dir() {
            each(Found::Folder(whole.clone(), inner.clone()))?;
            folder(ground, &inner, &whole, each)?;
        } else if !kind.is_file() {
            each(Found::Odd(whole))?;
        } else if whole != CONTROL && !(of_relations && is_transient(place, &name)) {
            each(Found::File(whole, inner))?;
        }
    }
    Ok(())
}

/// Of a tablespace only this version's folder belongs to the cluster.
fn tablespace(ground: &Ground, link: &Path, path: &str, each: Each<'_>) -> Result<(), Broke> {
    let inner = link.join(&ground.version_folder);
    each(Found::Made(path.to_owned()))?;
    match std::fs::symlink_metadata(&inner) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(unreadable(&inner, &error)),
        Ok(_) => {
            let path = format!("{path}/{}", ground.version_folder);
            each(Found::Folder(path.clone(), inner.clone()))?;
            folder(ground, &inner, &path, each)
        }
    }
}

/// `base/5`, `pg_tblspc/16400/PG_15_202209061/5`.
fn is_database_folder(path: &str) -> bool {
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["base", oid] => is_number(oid),
        ["pg_tblspc", space, version, oid] => is_number(space) && version.starts_with("PG_") && is_number(oid),
        _ => false,
    }
}

/// A temporary relation, or the changing part of an unlogged one, which recovery makes anew from its `init` fork.
fn is_transient(folder: &Path, name: &str) -> bool {
    if is_temporary(name) {
        return true;
    }
    let stem = name.split_once('.').map_or(name, |(stem, _)| stem);
    let number = match stem.split_once('_') {
        None => stem,
        Some((number, "fsm" | "vm")) => number,
        Some(_) => return false,
    };
    is_number(number) && folder.join(format!("{number}_init")).symlink_metadata().is_ok()
}

/// `t3_16384`, `t3_16384_fsm.1`.
fn is_temporary(name: &str) -> bool {
    let Some((backend, rest)) = name.strip_prefix('t').and_then(|rest| rest.split_once('_')) else { return false };
    let rest = match rest.split_once('.') {
        Some((rest, segment)) if is_number(segment) => rest,
        Some(_) => return false,
        None => rest,
    };
    let number = match rest.split_once('_') {
        Some((number, "fsm" | "vm" | "init")) => number,
        Some(_) => return false,
        None => rest,
    };
    is_number(backend) && is_number(number)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn utf8(name: OsString) -> Result<String, Broke> {
    name.into_string().map_err(|name| not_utf8(&name.to_string_lossy()))
}

/// Something of the data folder that must be read and cannot be.
pub fn unreadable(place: &Path, error: &io::Error) -> Broke {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "run lifeboat as the server's user or root; or write read = \"stream\" into the job"
        }
        _ => "a disk that cannot be read loses data: see the system's log at once; nothing was kept of this backup",
    };
    Broke::hinted(format!("could not read {}: {error}", place.display()), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_relations_are_told_from_others() {
        for name in ["t3_16384", "t3_16384_fsm", "t3_16384_init.2", "t12_1.1"] {
            assert!(is_temporary(name), "{name}");
        }
        for name in ["16384", "t_16384", "t3_", "t3_x", "t3_16384_x", "t3_16384.x", "tx_1", "t3"] {
            assert!(!is_temporary(name), "{name}");
        }
    }

    #[test]
    fn the_changing_forks_of_unlogged_relations_stay_out() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["7_init", "7", "7_fsm", "7_vm", "7.1", "8", "8_fsm"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        for name in ["7", "7_fsm", "7_vm", "7.1", "7_vm.3"] {
            assert!(is_transient(folder.path(), name), "{name}");
        }
        for name in ["7_init", "8", "8_fsm", "pg_filenode.map", "PG_VERSION"] {
            assert!(!is_transient(folder.path(), name), "{name}");
        }
    }

    #[test]
    fn only_folders_of_databases_hold_relations() {
        for path in ["base/5", "pg_tblspc/16400/PG_15_202209061/5"] {
            assert!(is_database_folder(path), "{path}");
        }
        for path in ["base", "global", "base/pgsql_tmp", "pg_tblspc/16400/PG_15_202209061", "pg_xact"] {
            assert!(!is_database_folder(path), "{path}");
        }
    }

    #[test]
    fn what_belongs_into_a_backup_is_found_and_the_rest_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (root, space) = (folder.path().join("data"), folder.path().join("space"));
        for dir in
            ["base/5", "base/pgsql_tmp", "global", "pg_wal/archive_status", "pg_replslot/x", "pg_tblspc", "pg_twophase"]
        {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        for dir in ["PG_15_1/5", "PG_14_1/5"] {
            std::fs::create_dir_all(space.join(dir)).unwrap();
            std::fs::write(space.join(dir).join("9"), "").unwrap();
        }
        for file in [
            "PG_VERSION",
            "postmaster.pid",
            "postmaster.opts",
            "backup_label",
            "backup_label.old",
            "base/5/1",
            "base/5/t3_4",
            "base/5/7",
            "base/5/7_init",
            "base/5/pg_internal.init.12",
            "base/pgsql_tmp/pgsql_tmp1.0",
            "global/pg_control",
            "global/1262",
            "pg_wal/000000010000000000000001",
            "pg_replslot/x/state",
        ] {
            std::fs::write(root.join(file), "").unwrap();
        }
        for oid in ["16400", "16500"] {
            std::os::unix::fs::symlink(&space, root.join("pg_tblspc").join(oid)).unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", root.join("base/5/link")).unwrap();
        let ground = Ground {
            data_dir: root,
            version_folder: "PG_15_1".to_owned(),
            tablespaces: [16400].into(),
            segment_bytes: 16 << 20,
            major: 15,
        };
        let mut found = Vec::new();
        walk(&ground, &mut |one| {
            found.push(match one {
                Found::Folder(path, _) | Found::Made(path) => format!("{path}/"),
                Found::File(path, _) => path,
                Found::Odd(path) => format!("{path}?"),
            });
            Ok(())
        })
        .unwrap();
        assert_eq!(
            found,
            [
                "PG_VERSION",
                "base/",
                "base/5/",
                "base/5/1",
                "base/5/7_init",
                "base/5/link?",
                "global/",
                "global/1262",
                "pg_replslot/",
                "pg_tblspc/",
                "pg_tblspc/16400/",
                "pg_tblspc/16400/PG_15_1/",
                "pg_tblspc/16400/PG_15_1/5/",
                "pg_tblspc/16400/PG_15_1/5/9",
                "pg_twophase/",
                "pg_wal/",
                "pg_wal/archive_status/",
            ]
        );
    }
}
