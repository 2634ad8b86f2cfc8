//! lifeboat's own configuration of a scratch server: nothing of the source's is trusted.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::Path;

use super::Recovery;
use crate::domain::inventory::Server;

/// The lines of `pg_hba.conf`: the socket's folder is 0700, so whoever gets here is the server's own user or root.
pub(super) const HBA: &str = "# written by lifeboat: only the socket, whose folder is private\nlocal all all trust\n";

/// Settings that recovery refuses to run with when they are smaller than the source's, and their least value here.
const NUMBERS: [(&str, u64); 6] = [
    ("max_connections", 40),
    ("max_worker_processes", 8),
    ("max_prepared_transactions", 0),
    ("max_locks_per_transaction", 64),
    ("max_wal_senders", 0),
    ("max_replication_slots", 10),
];

/// Settings that change what a query means, and act on nothing outside.
const MEANINGS: [&str; 10] = [
    "TimeZone",
    "DateStyle",
    "IntervalStyle",
    "default_text_search_config",
    "search_path",
    "array_nulls",
    "bytea_output",
    "standard_conforming_strings",
    "xmlbinary",
    "xmloption",
];

/// What is written, and which of the source's settings were taken over.
pub(super) struct Conf {
    /// `postgresql.conf`.
    pub text: String,
    /// `max_connections=100`, …
    pub taken: Vec<String>,
}

/// The configuration for a server like `source`. `fresh`: an empty cluster that a dump is loaded into, which needs no log to recover from.
pub(super) fn compose(source: &Server, major: u32, socket_dir: &Path, preload: &[String], fresh: bool) -> Conf {
    let mut text = String::from(FIXED);
    let mut taken = Vec::new();
    let mut set = |name: &str, value: &str| {
        // A String takes all that is written to it.
        let _ = writeln!(text, "{name} = {}", quote(value));
    };
    set("unix_socket_directories", &socket_dir.display().to_string());
    set("shared_preload_libraries", &preload.join(", "));
    if major >= 15 {
        set("allow_in_place_tablespaces", "on");
        set("log_startup_progress_interval", "5s");
    }
    if major >= 17 {
        set("event_triggers", "off");
    }
    // It must hold two segments of the log, however long the source's are.
    set("min_wal_size", &format!("{}MB", (source.wal_segment_bytes >> 19).max(80)));
    for (name, least) in NUMBERS {
        if fresh && name == "max_wal_senders" {
            continue;
        }
        let there = source.settings.get(name).and_then(|value| value.parse::<u64>().ok());
        if let Some(value) = there {
            taken.push(format!("{name}={value}"));
        }
        if let Some(value) = there.map_or((least > 0).then_some(least), |value| Some(value.max(least))) {
            set(name, &value.to_string());
        }
    }
    if source.settings.get("track_commit_timestamp").is_some_and(|value| value == "on") {
        set("track_commit_timestamp", "on");
        taken.push("track_commit_timestamp=on".to_owned());
    }
    for name in MEANINGS {
        let there = source.settings.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        if let Some((_, value)) = there.filter(|(_, value)| !value.contains(|c: char| c.is_control())) {
            set(name, value);
            taken.push(format!("{name}={value}"));
        }
    }
    if fresh {
        set("wal_level", "minimal");
        set("max_wal_senders", "0");
    } else {
        set("wal_level", "replica");
    }
    Conf { text, taken }
}

const FIXED: &str = "\
# written by lifeboat for a scratch server: nothing of the source's configuration is used
listen_addresses = ''
port = 5432
unix_socket_permissions = 0700
ssl = off
# it acts on nothing outside
archive_mode = off
archive_command = ''
restore_command = ''
archive_cleanup_command = ''
recovery_end_command = ''
primary_conninfo = ''
primary_slot_name = ''
synchronous_standby_names = ''
max_logical_replication_workers = 0
local_preload_libraries = ''
session_preload_libraries = ''
dynamic_library_path = '$libdir'
# it is thrown away
fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum = off
jit = off
restart_after_crash = off
checkpoint_timeout = '1d'
max_wal_size = '8GB'
shared_buffers = '128MB'
maintenance_work_mem = '128MB'
# its shared memory is in its own folder, and goes with it
dynamic_shared_memory_type = mmap
# what is damaged must show
ignore_checksum_failure = off
zero_damaged_pages = off
ignore_invalid_pages = off
# its log is read by lifeboat, and holds no row and no password
logging_collector = off
log_destination = 'stderr'
log_line_prefix = '%m [%p] '
log_min_messages = warning
log_min_error_statement = panic
log_error_verbosity = default
log_statement = none
log_min_duration_statement = -1
log_parameter_max_length_on_error = 0
lc_messages = 'C'
";

/// The command that a server in recovery asks for files of the log: it has all of them already.
pub(super) const NOWHERE_ELSE: &str = "exit 1";

/// Lines for a server that replays the log in its `pg_wal`. They stand behind all others, and win.
pub(super) fn replaying(recovery: &Recovery) -> String {
    let timeline = recovery.timeline;
    let mut text = format!(
        "# the log to be replayed lies in pg_wal\nrestore_command = '{NOWHERE_ELSE}'\nrecovery_target_timeline = '{timeline}'\nrecovery_target_action = 'promote'\n"
    );
    if let Some(until) = recovery.until {
        let until = until.strftime("%Y-%m-%d %H:%M:%S%.6f+00");
        // A String takes all that is written to it.
        let _ = writeln!(text, "recovery_target_time = '{until}'\nrecovery_target_inclusive = on");
    }
    text
}

/// Makes a server begin with recovery.
pub(super) fn signal(data_dir: &Path, owner: Option<(u32, u32)>) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(data_dir.join("recovery.signal"))?;
    owner.map_or(Ok(()), |(uid, gid)| fchown(&file, Some(uid), Some(gid)))
}

/// A value in `postgresql.conf`.
fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// Files of a data folder that would make the server follow, listen to or load something: they are taken away.
const UNWANTED: [&str; 8] = [
    "standby.signal",
    "recovery.signal",
    "postmaster.pid",
    "postmaster.opts",
    "current_logfiles",
    "postgresql.auto.conf",
    "postgresql.conf",
    "recovery.conf",
];

/// Puts `conf` in the place of whatever configuration `data_dir` has.
pub(super) fn write(data_dir: &Path, conf: &Conf, owner: Option<(u32, u32)>) -> std::io::Result<()> {
    for name in UNWANTED.iter().chain(&["pg_hba.conf", "pg_ident.conf"]) {
        absent(std::fs::remove_file(data_dir.join(name)))?;
    }
    // Replication slots of the source would hold back the log, and logical ones refuse this wal_level.
    let slots = data_dir.join("pg_replslot");
    for slot in std::fs::read_dir(&slots).into_iter().flatten() {
        let path = slot?.path();
        if path.symlink_metadata()?.is_dir() { std::fs::remove_dir_all(path)? } else { std::fs::remove_file(path)? }
    }
    for (name, text) in [
        ("postgresql.conf", conf.text.as_str()),
        ("postgresql.auto.conf", ""),
        ("pg_hba.conf", HBA),
        ("pg_ident.conf", ""),
    ] {
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(data_dir.join(name))?;
        file.write_all(text.as_bytes())?;
        if let Some((uid, gid)) = owner {
            fchown(&file, Some(uid), Some(gid))?;
        }
    }
    Ok(())
}

/// A file that is not there is as good as removed.
fn absent(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_leave_their_quotes() {
        assert_eq!(quote("a'b\\c"), "'a''b\\\\c'");
    }

    #[test]
    fn a_recovery_ends_where_the_log_does_or_at_a_moment() {
        let to_the_end = replaying(&Recovery { timeline: 7, until: None });
        assert!(to_the_end.contains("recovery_target_timeline = '7'\n") && !to_the_end.contains("target_time "));
        let until = Some("2026-01-31T03:00:00.25+01:00".parse().unwrap());
        let to_a_moment = replaying(&Recovery { timeline: 7, until });
        assert!(to_a_moment.contains("recovery_target_time = '2026-01-31 02:00:00.250000+00'\n"), "{to_a_moment}");
        assert!(to_a_moment.contains("recovery_target_inclusive = on\n"));
    }

    #[test]
    fn a_server_with_long_segments_can_start() {
        let mut source = crate::scratch::tests::server();
        for (megabytes, expected) in [(1, "80MB"), (16, "80MB"), (64, "128MB"), (1024, "2048MB")] {
            source.wal_segment_bytes = megabytes << 20;
            let conf = compose(&source, 15, Path::new("/s"), &[], false);
            assert!(conf.text.contains(&format!("min_wal_size = '{expected}'\n")), "{megabytes}");
        }
    }

    #[test]
    fn a_setting_with_a_line_break_is_not_taken_over() {
        let mut source = crate::scratch::tests::server();
        source.settings.insert("TimeZone".into(), "UTC'\narchive_command = 'touch /tmp/x".into());
        source.settings.insert("max_connections".into(), "7; evil".into());
        source.settings.insert("max_locks_per_transaction".into(), "256".into());
        let conf = compose(&source, 15, Path::new("/s"), &[], false);
        assert!(!conf.text.contains("touch"), "{}", conf.text);
        assert!(!conf.text.contains("evil"), "{}", conf.text);
        assert!(conf.text.contains("max_locks_per_transaction = '256'\n"));
        assert_eq!(conf.taken, ["max_locks_per_transaction=256"]);
        assert!(conf.text.contains("wal_level = 'replica'") && conf.text.contains("listen_addresses = ''"));
    }
}
