//! PostgreSQL's own programs: where they are, which version they are, how they are told who to connect to.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use crate::probe::Endpoint;

/// The newest major version that is looked for.
const NEWEST_MAJOR: u32 = 25;

/// The programs of one major version, all from one folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// The folder.
    pub dir: PathBuf,
    /// The major version.
    pub major: u32,
    /// `pg_dump --version` and so on say this: `15.18`.
    pub version: String,
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
        let mut looked = Vec::new();
        for dir in candidates(bin_dirs, major) {
            looked.push(dir.display().to_string());
            if !wanted.iter().all(|name| dir.join(name).is_file()) {
                continue;
            }
            let Some(first) = wanted.first() else { continue };
            let version = version_of(&dir.join(first))?;
            if version.split(['.', 'b', 'r', 'd']).next().and_then(|text| text.parse().ok()) == Some(major) {
                return Ok(Programs { dir, major, version });
            }
        }
        Err(ProgramsError::Missing { major, wanted: wanted.join(", "), looked: looked.join(", ") })
    }

    /// Programs for a server of `major`: of that version, or else the oldest newer ones (PostgreSQL's clients speak to older
    /// servers, never to newer ones).
    pub fn for_server(bin_dirs: &[PathBuf], major: u32, wanted: &[&str]) -> Result<Programs, ProgramsError> {
        Programs::find(bin_dirs, major, wanted).or_else(|missing| {
            let newer = (major + 1..=NEWEST_MAJOR).find_map(|newer| Programs::find(bin_dirs, newer, wanted).ok());
            newer.ok_or(missing)
        })
    }

    /// The path of one of them.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
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
        names.iter().map(|name| ((*name).to_owned(), self.version.clone())).collect()
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
