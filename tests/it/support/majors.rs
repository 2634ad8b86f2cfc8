//! Other major versions than this system's own, where `deploy/postgres-majors.sh` has put them.

use std::path::{Path, PathBuf};

/// Folders of programs for a server of one major version, as in `[postgres] bin_dirs`; none: there is no such server here.
///
/// 13, 14 and 17 come without client tools: those of 18 speak to them.
pub fn bin_dirs(major: u32) -> Option<Vec<PathBuf>> {
    let system = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
    if system.join("postgres").is_file() && system.join("pg_dump").is_file() {
        return Some(vec![system]);
    }
    let named = std::env::var_os("LIFEBOAT_POSTGRES_MAJORS").map(PathBuf::from);
    let root = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/postgres-majors"));
    let clients = if major == 16 { "16-clients" } else { "18" };
    let mut dirs = vec![root.join(major.to_string()).join("bin"), root.join(clients).join("bin")];
    dirs.dedup();
    let there = dirs.iter().all(|dir| dir.is_dir()) && dirs.first()?.join("postgres").is_file();
    there.then_some(dirs)
}

/// The same, and says why a test is skipped.
pub fn here(major: u32) -> bool {
    let here = bin_dirs(major).is_some();
    if !here {
        eprintln!("SKIPPED: PostgreSQL {major} is not here: run `make majors`");
    }
    here
}
