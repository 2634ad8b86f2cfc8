//! What a server's last words mean: are the data bad, or can it just not run here?

use std::path::Path;

use jiff::Timestamp;

use super::StoppedBefore;
use crate::domain::check::{Broke, Finding, Stop};

/// What a message says is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The data: a finding with this code.
    Data(&'static str),
    /// This machine: what to do about it.
    Machine(&'static str),
}

/// Messages of this machine's making. They are looked for first: `could not open file … Permission denied` is no damage.
const MACHINE: [(&str, &str); 33] = [
    ("No space left on device", "make room in the folder of the scratch ([scratch] dir)"),
    ("Permission denied", "see which file the message names, and who owns it"),
    ("Operation not permitted", "see which file the message names, and what the sandbox forbids"),
    ("Too many open files", "raise the limit of open files (ulimit -n)"),
    ("Read-only file system", "give the scratch a folder that can be written ([scratch] dir)"),
    ("Input/output error", "the disk under the scratch folder fails; try another ([scratch] dir)"),
    ("out of memory", "give the machine more memory, or drill on a larger one"),
    ("could not map anonymous shared memory", "give the machine more memory, or drill on a larger one"),
    ("could not create shared memory segment", "raise the limits of shared memory (kernel.shmmax, kernel.shmall)"),
    ("could not resize shared memory segment", "raise the limits of shared memory"),
    ("could not create semaphores", "raise the limits of semaphores (kernel.sem)"),
    ("could not load library", "install that extension's package on this machine, for this major version"),
    ("could not access file", "install that extension's package on this machine, for this major version"),
    ("could not find function", "install that extension's package on this machine, in the source's version"),
    ("resource manager with ID", "name the library that writes that log in lifeboat.toml: [scratch] preload = [\"…\"]"),
    (
        "database locale is incompatible",
        "install the source's locale on this machine (Debian: locales-all), or drill where it is",
    ),
    (
        "is not recognized by setlocale",
        "install the source's locale on this machine (Debian: locales-all), or drill where it is",
    ),
    ("invalid locale name", "install the source's locale on this machine (Debian: locales-all), or drill where it is"),
    ("ICU is not supported", "use PostgreSQL programs that were built with ICU"),
    ("could not open collator", "use PostgreSQL programs whose ICU knows the source's locale"),
    ("could not create lock file", "see which file the message names"),
    ("lock file", "another server runs on that folder or port; end it first"),
    ("could not bind", "see whether the socket's folder is there and writable"),
    ("could not create any Unix-domain sockets", "see whether the socket's folder is there and writable"),
    ("Unix-domain socket path", "choose a shorter folder for the scratch ([scratch] dir)"),
    ("has wrong ownership", "restore again: the folder must belong to the user who runs the server"),
    ("has invalid permissions", "restore again: the folder must have mode 0700"),
    ("unrecognized configuration parameter", "this server version does not know the setting; report it"),
    ("invalid value for parameter", "this machine does not know that value; see the message"),
    ("configuration file", "see the message"),
    ("maximum number of prepared transactions", "the source's max_prepared_transactions is not in the fingerprint"),
    ("insufficient parameter settings", "the source's settings are not in the fingerprint"),
    ("was not compiled with", "use PostgreSQL programs built like the source's"),
];

/// Messages that say that the data are bad.
const DATA: [(&str, &str); 38] = [
    ("could not locate a valid checkpoint record", "checkpoint_record"),
    ("could not locate required checkpoint record", "checkpoint_record"),
    ("invalid primary checkpoint", "checkpoint_record"),
    ("invalid checkpoint", "checkpoint_record"),
    ("could not find redo location", "wal_missing"),
    ("WAL ends before end of online backup", "wal_missing"),
    ("WAL ends before consistent recovery point", "wal_missing"),
    ("recovery ended before configured recovery target", "wal_missing"),
    ("requested WAL segment", "wal_missing"),
    ("\"pg_wal/", "wal_missing"),
    ("requested timeline", "timeline"),
    ("unexpected timeline ID", "timeline"),
    ("is not a child of", "timeline"),
    ("incorrect checksum in control file", "control_file"),
    ("global/pg_control", "control_file"),
    ("control file", "control_file"),
    ("could not find the database system", "control_file"),
    ("does not contain a valid", "data_folder"),
    ("is not a valid data directory", "data_folder"),
    ("is missing", "data_folder"),
    ("database files are incompatible", "data_folder"),
    ("backup_label", "backup_label"),
    ("tablespace_map", "backup_label"),
    ("invalid page in block", "page_checksum"),
    ("page verification failed", "page_checksum"),
    ("references to invalid pages", "wal_invalid"),
    ("invalid record", "wal_invalid"),
    ("invalid magic number", "wal_invalid"),
    ("invalid resource manager", "wal_invalid"),
    ("in log segment", "wal_invalid"),
    ("could not access status of transaction", "transaction_status"),
    ("could not read block", "file_damaged"),
    ("could not read file", "file_damaged"),
    ("could not open file", "file_missing"),
    ("could not open directory", "file_missing"),
    ("could not stat", "file_missing"),
    ("unexpected directory entry", "tablespace"),
    ("No such file or directory", "file_missing"),
];

/// The cause of one message; none: it says neither.
pub(super) fn cause(message: &str) -> Option<Cause> {
    let find = |table: &[(&'static str, &'static str)]| {
        table.iter().find(|(words, _)| message.contains(words)).map(|(_, meaning)| *meaning)
    };
    // A library is looked for by a bare name, a file of the data folder by its path in it.
    let library = message.contains("could not access file") && !message.contains('/');
    let machine = find(&MACHINE).filter(|_| library || !message.contains("could not access file"));
    machine.map(Cause::Machine).or_else(|| find(&DATA).map(Cause::Data)).or_else(|| {
        let damaged = message.contains("invalid") || message.contains("corrupt");
        damaged.then_some(Cause::Data("data_invalid"))
    })
}

/// Errors of the machine that no data can cause. A server may say one in passing, and end later over what came of it.
const OF_THE_DISK: [&str; 6] = [
    "Input/output error",
    "No space left on device",
    "Disk quota exceeded",
    "Read-only file system",
    "Too many open files",
    "Cannot allocate memory",
];

/// What the log of a server that ended says. `same_major`: the programs are those of the data's major version.
/// `libraries`: what the source preloads.
pub(super) fn last_words(log: &str, same_major: bool, libraries: &str) -> Stop {
    let grave: Vec<String> = messages(log);
    let Some(first) = grave.iter().find(|message| cause(message).is_some()).or(grave.first()) else {
        let tail: Vec<&str> = log.lines().rev().take(3).collect();
        let said = tail.into_iter().rev().collect::<Vec<_>>().join("; ");
        let error = format!("the scratch server ended without a reason in its log ({said})");
        return Broke::hinted(error, "was it killed for want of memory? see the kernel's log").into();
    };
    // The control file of another version: the wrong programs, if they are not the ones that the data ask for.
    let incompatible = first.contains("incompatible with server") || first.contains("PG_CONTROL_VERSION");
    match cause(first) {
        Some(Cause::Data(_)) if incompatible && !same_major => Broke::hinted(
            format!("the scratch server does not fit the data: {first}"),
            "use programs of the source's major version ([postgres] bin_dirs)",
        )
        .into(),
        Some(Cause::Data(code)) => match in_passing(log) {
            Some(line) => Broke::hinted(
                format!("the scratch server cannot run here: {line}; later: {first}"),
                "this is of the machine under the scratch folder, and nothing is proved either way ([scratch] dir)",
            )
            .into(),
            None => Finding::new(code, "data folder", format!("the restored server does not start: {first}")).into(),
        },
        Some(Cause::Machine(hint)) => {
            let hint = match first.contains("resource manager") && !libraries.is_empty() {
                true => format!("{hint}; the source preloads {libraries}"),
                false => hint.to_owned(),
            };
            Broke::hinted(format!("the scratch server cannot run here: {first}"), hint).into()
        }
        None => Broke::hinted(
            format!("the scratch server ended: {first}"),
            "this message is not known to mean bad data, so nothing is proved either way",
        )
        .into(),
    }
}

/// Where a recovery that was to end at a moment has ended, by the server's log; broke, if it was not there. Two sides are looked at: nothing later was
/// replayed, and what was left out is later.
pub(super) fn stopped_at(log: &str, until: Timestamp, replayed: Option<Timestamp>) -> Result<StoppedBefore, Broke> {
    let wrong = |what: String| {
        let hint = "nothing was asked of it, and it is ended; see whether the log holds a later transaction";
        Broke::hinted(format!("the scratch server did not stop at {until}: {what}"), hint)
    };
    if let Some(later) = replayed.filter(|replayed| *replayed > until) {
        return Err(wrong(format!("it has replayed a transaction of {later}")));
    }
    let words = ["recovery stopping before commit of transaction ", "recovery stopping before abort of transaction "];
    let rest = log.lines().rev().find_map(|line| words.iter().find_map(|words| line.split_once(words)));
    let (_, rest) = rest.ok_or_else(|| wrong("its log does not say that recovery reached it".to_owned()))?;
    let parsed = rest.split_once(", time ").and_then(|(xid, at)| Some((xid.parse().ok()?, at.trim().parse().ok()?)));
    let (xid, at) = parsed.ok_or_else(|| wrong(format!("its log says `{rest}`, which cannot be read")))?;
    if at <= until {
        return Err(wrong(format!("it stopped before transaction {xid} of {at}")));
    }
    Ok(StoppedBefore { xid, at })
}

/// The first line, of any level, in which the machine is at fault.
fn in_passing(log: &str) -> Option<&str> {
    let line = log.lines().find(|line| OF_THE_DISK.iter().any(|words| line.ends_with(words)))?;
    Some(line.split_once(":  ").map_or(line, |(_, message)| message))
}

/// FATAL and PANIC messages of a log, each with its DETAIL. Those that the shutdown itself brings are left out.
fn messages(log: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    // What is said before the log is set up (`postgres: could not find the database system`) counts only if nothing else is.
    let mut early: Vec<String> = Vec::new();
    let mut grave = false;
    for line in log.lines() {
        let level = ["FATAL:  ", "PANIC:  "].iter().find_map(|level| line.split_once(level));
        if let Some((_, message)) = level {
            let echo = ["the database system is", "terminating connection", "terminating background"];
            grave = !echo.iter().any(|words| message.starts_with(words));
            if grave {
                found.push(message.to_owned());
            }
        } else if let Some((_, detail)) = line.split_once("DETAIL:  ").filter(|_| grave) {
            if let Some(last) = found.last_mut() {
                last.push_str(&format!(" ({detail})"));
            }
        } else if let Some(rest) = line.strip_prefix("postgres: ") {
            early.push(rest.to_owned());
        } else if ["LOG:  ", "ERROR:  ", "WARNING:  "].iter().any(|level| line.contains(level)) {
            grave = false;
        }
    }
    if found.is_empty() { early } else { found }
}

/// The end of a log file, without reading all of a long one.
pub(super) fn tail(path: &Path) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(256 << 10)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_real_servers_are_told_apart() {
        for (message, expected) in [
            ("could not locate a valid checkpoint record", Some("checkpoint_record")),
            ("could not locate required checkpoint record", Some("checkpoint_record")),
            ("could not find redo location referenced by checkpoint record", Some("wal_missing")),
            ("WAL ends before end of online backup", Some("wal_missing")),
            ("could not open file \"pg_wal/000000010000000000000002\": No such file or directory", Some("wal_missing")),
            ("requested timeline 2 is not a child of this server's history", Some("timeline")),
            ("incorrect checksum in control file", Some("control_file")),
            ("could not read file \"global/pg_control\": read 100 of 296", Some("control_file")),
            ("could not open file \"/s/data/global/pg_control\": No such file or directory", Some("control_file")),
            ("could not open directory \"pg_notify\": No such file or directory", Some("file_missing")),
            ("could not access status of transaction 733", Some("transaction_status")),
            ("could not access file \"no_such_lib\": No such file or directory", None),
            ("could not load library \"/usr/lib/x.so\": undefined symbol", None),
            ("database locale is incompatible with operating system", None),
            ("could not open file \"base/5/1259\": Permission denied", None),
            ("could not write to file \"pg_wal/xlogtemp.31\": No space left on device", None),
            ("could not map anonymous shared memory: Cannot allocate memory", None),
        ] {
            match (cause(message), expected) {
                (Some(Cause::Data(code)), Some(wanted)) => assert_eq!(code, wanted, "{message}"),
                (Some(Cause::Machine(_)), None) => {}
                (other, _) => panic!("{message}: {other:?}"),
            }
        }
        assert_eq!(cause("something never heard of"), None);
    }

    #[test]
    fn a_recovery_has_stopped_at_its_moment_only_if_both_sides_say_so() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let until = at("2026-01-31T03:00:00Z");
        let says = |time: &str| {
            format!("x LOG:  recovery stopping before commit of transaction 740, time {time}\nx LOG:  redo done\n")
        };
        let good = says("2026-01-31 04:30:00.000001+01:30");
        let stopped = stopped_at(&good, until, Some(until)).unwrap();
        assert_eq!(stopped, StoppedBefore { xid: 740, at: at("2026-01-31T03:00:00.000001Z") });
        assert_eq!(stopped_at(&good.replace("commit", "abort"), until, None), Ok(stopped));
        for (log, replayed, wrong) in [
            (good.clone(), Some(at("2026-01-31T03:00:00.000001Z")), "has replayed"),
            (says("2026-01-31 03:00:00+00"), None, "stopped before transaction 740"),
            (says("yesterday"), None, "cannot be read"),
            ("x LOG:  redo done at 0/5000028\n".to_owned(), None, "does not say"),
        ] {
            let broke = stopped_at(&log, until, replayed).unwrap_err();
            assert!(broke.error.contains(wrong), "{wrong}: {}", broke.error);
        }
    }

    #[test]
    fn a_log_without_a_reason_proves_nothing() {
        let Stop::Broke(broke) = last_words("2026 LOG:  starting\n", true, "") else { panic!() };
        assert!(broke.error.contains("without a reason"), "{}", broke.error);
    }

    #[test]
    fn what_is_said_before_the_log_counts_only_alone() {
        let early = "postgres: could not write file \"x\": No such file or directory\n";
        assert!(matches!(last_words(early, true, ""), Stop::Found(_)));
        let log = format!("{early}x FATAL:  could not map anonymous shared memory\n");
        assert!(matches!(last_words(&log, true, ""), Stop::Broke(_)));
    }

    #[test]
    fn what_a_failing_disk_brings_about_is_no_finding() {
        let log = "x LOG:  could not rename file \"a\": Input/output error\n\
                   x FATAL:  could not open file \"pg_wal/000000010000000000000003\": No such file or directory\n";
        let Stop::Broke(broke) = last_words(log, true, "") else { panic!() };
        assert!(
            broke.error.contains("could not rename file \"a\"") && broke.error.contains("pg_wal"),
            "{}",
            broke.error
        );
        // A name that ends so is none of the machine's words.
        let log = log.replace("Input/output error", "Input/output error.");
        assert!(matches!(last_words(&log, true, ""), Stop::Found(_)));
    }

    #[test]
    fn wrong_programs_are_not_bad_data() {
        let log = "x FATAL:  database files are incompatible with server\nx DETAIL:  The data directory was initialized by PostgreSQL version 14\n";
        assert!(matches!(last_words(log, false, ""), Stop::Broke(_)));
        assert!(matches!(last_words(log, true, ""), Stop::Found(_)));
    }
}
