//! Copies of a test server, made with PostgreSQL's own programs: a dump restored elsewhere, a base backup that was started.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use super::server::{Options, Server, command, unprivileged};

/// A schema with one of nearly everything, with names that need quoting.
pub const RICH: &str = include_str!("rich.sql");

/// Restores database `name` of `source` into a fresh server, globals first.
pub fn dumped(source: &Server, name: &str) -> Server {
    let target = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let (globals, dump) = (folder.path().join("globals.sql"), folder.path().join("dump"));
    let run = |program: &str, server: &Server, args: &[&str]| {
        let mut command = std::process::Command::new(server.programs.path(program));
        command.env_clear().env("LC_ALL", "C").env("PGHOST", &server.socket_dir).env("PGUSER", "postgres").args(args);
        let output = command.output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), words)
    };
    let done = |(good, words): (bool, String)| assert!(good, "{words}");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    done(run("pg_dumpall", source, &["--globals-only", "-f", &text(&globals)]));
    // `CREATE ROLE postgres` fails, and must: it is there already.
    run("psql", &target, &["-X", "-q", "-d", "postgres", "-f", &text(&globals)]);
    done(run("pg_dump", source, &["-Fc", "-f", &text(&dump), name]));
    done(run("pg_restore", &target, &["--create", "--exit-on-error", "-d", "postgres", &text(&dump)]));
    target
}

/// Copies the whole server with `pg_basebackup` and starts the copy.
pub fn copied(source: &Server) -> Server {
    copied_with(source, |_| {})
}

/// The same; the copy's data folder can be altered before it is started.
pub fn copied_with(source: &Server, alter: impl FnOnce(&Path)) -> Server {
    let mut target = Server::start_with(Options::default());
    target.destroy();
    std::fs::create_dir(&target.data_dir).unwrap();
    std::fs::set_permissions(&target.data_dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    own(&target.data_dir);
    let output = command(&source.programs.path("pg_basebackup"))
        .args(["-U", "postgres", "--checkpoint=fast", "--no-sync", "-X", "stream", "-h"])
        .arg(&source.socket_dir)
        .args(["-p", &source.port.to_string(), "-D"])
        .arg(&target.data_dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&output.stderr));
    let auto = target.data_dir.join("postgresql.auto.conf");
    let socket = format!("unix_socket_directories = '{}'\nport = {}\n", target.socket_dir.display(), target.port);
    std::fs::write(&auto, socket).unwrap();
    own(&auto);
    alter(&target.data_dir);
    target.launch();
    target
}

fn own(path: &Path) {
    if let Some((uid, gid)) = unprivileged() {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
}
