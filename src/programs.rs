//! PostgreSQL's own programs: where they are, which version they are, how they are told who to connect to.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use crate::domain::inventory::major_in;
use crate::probe::Endpoint;

/// The newest major version that is looked for.
const NEWEST_MAJOR: u32 = 25;

/// Programs that speak to a server of their own major version or of an older one. All others belong to one major version: they make,
/// read or run a data folder.
const CLIENTS: [&str; 5] = ["pg_dump", "pg_dumpall", "pg_restore", "pg_basebackup", "psql"];

/// The programs of one major version, all from one folder; client programs may be newer, and then have a folder of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// The folder.
    pub dir: PathBuf,
    /// The major version.
    pub major: u32,
    /// `pg_dump --version` and so on say this: `15.18`.
    pub version: String,
    /// Client programs, when they are not those of `dir`.
    clients: Option<Box<Programs>>,
}

/// Why no programs could be had.
#[derive(Debug, thiserror::Error)]
pub enum ProgramsError {
    /// None of that version is installed.
    #[error("PostgreSQL {major} programs ({wanted}) were not found in {looked}")]
    Missing {
        /// Wanted major version.
        major: u32,
        /// Which programs.
        wanted: String,
        /// Where was looked.
        looked: String,
    },
    /// One is there and does not run.
    #[error("{program} does not run")]
    Broken {
        /// Its path.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl ProgramsError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            ProgramsError::Missing { major, .. } => format!(
                "install them (Debian: apt-get install postgresql-{major}), or name their folder in lifeboat.toml: [postgres] bin_dirs = [\"…\"]"
            ),
            ProgramsError::Broken { program, .. } => {
                format!("run `{} --version` by hand and see what it says", program.display())
            }
        }
    }
}

impl Programs {
    /// Finds the programs of `major` that include all of `wanted`: in `bin_dirs`, then in the usual folders, then in `PATH`.
    pub fn find(bin_dirs: &[PathBuf], major: u32, wanted: &[&str]) -> Result<Programs, ProgramsError> {
        Programs::find_in(&candidates(bin_dirs, major), major, wanted)
    }

    fn find_in(dirs: &[PathBuf], major: u32, wanted: &[&str]) -> Result<Programs, ProgramsError> {
        let mut looked = Vec::new();
        for dir in dirs {
            looked.push(dir.display().to_string());
            if !wanted.iter().all(|name| dir.join(name).is_file()) {
                continue;
            }
            let Some(first) = wanted.first() else { continue };
            let version = version_of(&dir.join(first))?;
            if major_in(&version) == Some(major) {
                return Ok(Programs { dir: dir.clone(), major, version, clients: None });
            }
        }
        Err(ProgramsError::Missing { major, wanted: wanted.join(", "), looked: looked.join(", ") })
    }

    /// Programs for a server of `major`. What makes or runs a data folder is of that version. Clients are of that version too, or else
    /// newer ones (they speak to older servers, never to newer ones): those that `bin_dirs` holds before others, then the oldest.
    pub fn for_server(bin_dirs: &[PathBuf], major: u32, wanted: &[&str]) -> Result<Programs, ProgramsError> {
        Programs::for_dump(bin_dirs, major, major, wanted)
    }

    /// The same, with clients of `dumped_by` or newer: an older `pg_restore` does not read what a newer `pg_dump` wrote.
    pub fn for_dump(
        bin_dirs: &[PathBuf],
        major: u32,
        dumped_by: u32,
        wanted: &[&str],
    ) -> Result<Programs, ProgramsError> {
        let least = major.max(dumped_by);
        let (clients, servers): (Vec<&str>, Vec<&str>) =
            wanted.iter().copied().partition(|name| CLIENTS.contains(name));
        if clients.is_empty() || least == major {
            let together = Programs::find(bin_dirs, major, wanted);
            if together.is_ok() || clients.is_empty() {
                return together;
            }
        }
        let clients = Programs::find(bin_dirs, least, &clients).or_else(|missing| {
            let newer = || least + 1..=NEWEST_MAJOR;
            let named = newer().find_map(|newer| Programs::find_in(bin_dirs, newer, &clients).ok());
            let usual = || newer().find_map(|newer| Programs::find(bin_dirs, newer, &clients).ok());
            named.or_else(usual).ok_or(missing)
        });
        if servers.is_empty() {
            return clients;
        }
        let servers = Programs::find(bin_dirs, major, &servers)?;
        Ok(Programs { clients: Some(Box::new(clients?)), ..servers })
    }

    fn of(&self, name: &str) -> &Programs {
        self.clients.as_deref().filter(|_| CLIENTS.contains(&name)).unwrap_or(self)
    }

    /// The path of one of them.
    pub fn path(&self, name: &str) -> PathBuf {
        self.of(name).dir.join(name)
    }

    /// The major version of one of them.
    pub fn major_of(&self, name: &str) -> u32 {
        self.of(name).major
    }

    /// What each folder holds: its path and its version; the server's first.
    pub fn folders(&self) -> Vec<(&Path, &str)> {
        let own = (self.dir.as_path(), self.version.as_str());
        std::iter::once(own)
            .chain(self.clients.iter().map(|clients| (clients.dir.as_path(), clients.version.as_str())))
            .collect()
    }

    /// A client program on its way to a server: who to connect to is in its environment, never in argv; of the caller's
    /// environment only what programs need to run goes along; messages come in English. `wrap` goes before the program, so
    /// that it runs in a sandbox; empty: as it is.
    pub fn client(&self, name: &str, endpoint: &Endpoint, wrap: &[OsString]) -> std::process::Command {
        let program = self.path(name);
        let mut command = match wrap.split_first() {
            None => std::process::Command::new(&program),
            Some((first, rest)) => {
                let mut command = std::process::Command::new(first);
                command.args(rest).arg(&program);
                command
            }
        };
        // A terminal's Ctrl-C is for lifeboat, which then ends its programs and says why.
        command.process_group(0);
        command.env_clear();
        for name in ["PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("LC_ALL", "C").envs(endpoint.libpq_env());
        command
    }

    /// For manifests and transcripts: name to version.
    pub fn record(&self, names: &[&str]) -> BTreeMap<String, String> {
        names.iter().map(|name| ((*name).to_owned(), self.of(name).version.clone())).collect()
    }

    /// The newest major version that has an `initdb`, for servers that nobody asked a version of (the demo's own source).
    pub fn newest(bin_dirs: &[PathBuf], wanted: &[&str]) -> Result<Programs, ProgramsError> {
        let found = (13..=NEWEST_MAJOR).rev().find_map(|major| Programs::find(bin_dirs, major, wanted).ok());
        found.ok_or_else(|| ProgramsError::Missing {
            major: 15,
            wanted: wanted.join(", "),
            looked: "the usual folders".to_owned(),
        })
    }
}

fn candidates(bin_dirs: &[PathBuf], major: u32) -> Vec<PathBuf> {
    let mut dirs = bin_dirs.to_vec();
    dirs.push(PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")));
    dirs.push(PathBuf::from(format!("/usr/pgsql-{major}/bin")));
    dirs.push(PathBuf::from(format!("/opt/homebrew/opt/postgresql@{major}/bin")));
    if let Some(path) = std::env::var_os("PATH") {
        dirs.extend(std::env::split_paths(&path));
    }
    dirs
}

fn version_of(program: &Path) -> Result<String, ProgramsError> {
    let output = std::process::Command::new(program)
        .arg("--version")
        .output()
        .map_err(|source| ProgramsError::Broken { program: program.to_owned(), source })?;
    let text = String::from_utf8_lossy(&output.stdout);
    // "pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
    Ok(text.split_whitespace().nth(2).unwrap_or_default().to_owned())
}

impl From<ProgramsError> for crate::domain::check::Broke {
    fn from(error: ProgramsError) -> crate::domain::check::Broke {
        crate::domain::check::Broke { error: error.to_string(), hint: Some(error.hint()) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A folder with programs that say which version they are.
    fn folder(root: &Path, version: &str, names: &[&str]) -> PathBuf {
        let dir = root.join(version);
        std::fs::create_dir_all(&dir).unwrap();
        for name in names {
            std::fs::write(dir.join(name), format!("#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")).unwrap();
            std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        dir
    }

    #[test]
    fn servers_are_of_their_version_and_clients_may_be_newer() {
        let root = tempfile::tempdir().unwrap();
        let dirs = [
            folder(root.path(), "23.1", &["postgres", "initdb"]),
            folder(root.path(), "25.3", &["postgres", "initdb", "pg_dump", "pg_restore"]),
            folder(root.path(), "24.2", &["pg_restore"]),
            folder(root.path(), "22.9", &["pg_restore", "pg_dump"]),
        ];
        let find = |major, dumped_by, wanted: &[&str]| Programs::for_dump(&dirs, major, dumped_by, wanted);
        let mixed = find(23, 23, &["postgres", "pg_restore"]).unwrap();
        assert_eq!(
            (mixed.path("postgres"), mixed.path("pg_restore")),
            (dirs[0].join("postgres"), dirs[2].join("pg_restore"))
        );
        assert_eq!((mixed.major_of("initdb"), mixed.major_of("pg_restore")), (23, 24));
        let record = mixed.record(&["postgres", "pg_restore"]);
        assert_eq!((record["postgres"].as_str(), record["pg_restore"].as_str()), ("23.1", "24.2"));
        assert_eq!(find(23, 25, &["postgres", "pg_restore"]).unwrap().major_of("pg_restore"), 25, "as new as the dump");
        assert_eq!(find(25, 25, &["postgres", "pg_dump"]).unwrap().folders().len(), 1);
        assert_eq!(find(22, 22, &["pg_restore"]).unwrap().version, "22.9");
        for (major, wanted) in [(22, "postgres"), (24, "initdb"), (23, "pg_verifybackup")] {
            let missing = find(major, major, &[wanted, "pg_restore"]).unwrap_err().to_string();
            assert!(missing.contains(&format!("PostgreSQL {major} programs")) && missing.contains(wanted), "{missing}");
        }
    }

    #[test]
    fn versions_are_read() {
        for (text, major) in
            [("15.18", Some(15)), ("19beta1", Some(19)), ("20devel", Some(20)), ("", None), ("x", None)]
        {
            assert_eq!(major_in(text), major, "{text}");
        }
    }
}
