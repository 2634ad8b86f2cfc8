//! Runs `pg_restore` and reads what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use super::toc::{self, Entry};
use crate::domain::check::{Broke, Finding, Stop};
use crate::probe::Endpoint;
use crate::programs::Programs;

/// A file for the programs of the sandbox: it belongs to the owner of its folder, and goes when this goes.
#[derive(Debug)]
pub(super) struct WorkFile {
    pub path: PathBuf,
    pub file: std::fs::File,
}

impl WorkFile {
    pub(super) fn make(dir: &Path, name: &str) -> Result<WorkFile, Broke> {
        let path = dir.join(name);
        let make = || -> std::io::Result<std::fs::File> {
            let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            if rustix::process::geteuid().is_root() {
                let owner = std::fs::metadata(dir)?;
                fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
            }
            Ok(file)
        };
        let file = make().map_err(|error| {
            Broke::hinted(format!("could not write {}: {error}", path.display()), "see whether its folder has room")
        })?;
        Ok(WorkFile { path, file })
    }
}

impl Drop for WorkFile {
    fn drop(&mut self) {
        // Its folder goes with the scratch anyway; this only frees the room earlier.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// How `pg_restore` is run.
pub(super) struct Runner<'a> {
    pub programs: &'a Programs,
    pub wrap: &'a [std::ffi::OsString],
    pub work_dir: &'a Path,
    pub dump: &'a Path,
    pub jobs: usize,
    pub no_tablespaces: bool,
    /// Whether the server is older than a setting that this `pg_restore` sets on every connection: see [`newer_setting`].
    pub older_server: bool,
    /// Whether the server is older than `CREATE DATABASE … LOCALE_PROVIDER` (15), which a newer `pg_dump` always writes.
    pub no_locale_provider: bool,
}

/// `pg_restore` from 17 on begins every connection with a setting that older servers do not know, and says so as an error. That one is
/// passed over. Jobs that run side by side would say it in the middle of each other's entries, so there is only one then.
const NEWER_SETTING: [&str; 2] = [
    "ERROR:  unrecognized configuration parameter \"transaction_timeout\"",
    "Command was: SET transaction_timeout = 0;",
];

/// Whether that happens between a `pg_restore` and a server.
pub(super) fn newer_setting(pg_restore: u32, server: u32) -> bool {
    pg_restore >= 17 && server < 17
}

/// What was said: about entries that failed, by their number; about rows; and everything else.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub failed: BTreeMap<u32, String>,
    /// Rows that were refused: `pg_restore` names only the table.
    pub rows: Vec<String>,
    pub warnings: Vec<String>,
}

impl<'a> Runner<'a> {
    /// The same, one entry after the other.
    pub(super) fn serial(&self) -> Runner<'a> {
        Runner { jobs: 1, ..*self }
    }

    /// A restore that is asked to stop takes the program with it.
    async fn run(&self, endpoint: &Endpoint, args: Vec<std::ffi::OsString>) -> Result<Output, Broke> {
        let mut command = self.programs.client("pg_restore", endpoint, self.wrap);
        command.args(args).arg(self.dump).current_dir(self.work_dir).stdin(Stdio::null());
        let output = tokio::process::Command::from(command).kill_on_drop(true).output().await;
        output.map_err(|error| {
            let hint = "see whether PostgreSQL's client programs are installed";
            Broke::hinted(format!("pg_restore does not run: {error}"), hint)
        })
    }

    fn list_file(&self, entries: &[&Entry]) -> Result<WorkFile, Broke> {
        let mut list = WorkFile::make(self.work_dir, &format!("list-{}", uuid::Uuid::now_v7()))?;
        let text: String = entries.iter().map(|entry| format!("{}\n", entry.line)).collect();
        list.file.write_all(text.as_bytes()).map_err(|error| {
            Broke::hinted(
                format!("could not write {}: {error}", list.path.display()),
                "see whether its folder has room",
            )
        })?;
        Ok(list)
    }

    /// The dump's entries of one section.
    pub(super) async fn list(&self, endpoint: &Endpoint, section: &str) -> Result<Vec<Entry>, Stop> {
        let args = vec!["--create".into(), "--list".into(), format!("--section={section}").into()];
        let output = self.run(endpoint, args).await?;
        if !output.status.success() {
            return Err(fatal(&String::from_utf8_lossy(&output.stderr)));
        }
        Ok(toc::read(&String::from_utf8_lossy(&output.stdout)))
    }

    /// The SQL of some entries, without running it.
    pub(super) async fn script(&self, endpoint: &Endpoint, entries: &[&Entry], create: bool) -> Result<String, Stop> {
        if entries.is_empty() {
            return Ok(String::new());
        }
        let list = self.list_file(entries)?;
        let mut args: Vec<std::ffi::OsString> = vec!["--file=-".into(), "--use-list".into(), list.path.clone().into()];
        args.extend(create.then(|| "--create".into()));
        let output = self.run(endpoint, args).await?;
        if !output.status.success() {
            return Err(fatal(&String::from_utf8_lossy(&output.stderr)));
        }
        match String::from_utf8(output.stdout) {
            Ok(script) => Ok(script),
            Err(error) => decoded(endpoint, error.into_bytes()).await,
        }
    }

    /// Restores some entries into the endpoint's database. `bare`: without owners and grants.
    ///
    /// Jobs that run side by side write into each other's messages: which entries failed can be told, but not why. So those
    /// are tried once more, each alone. What failed left nothing behind, for an entry is one statement or one transaction.
    pub(super) async fn restore(&self, endpoint: &Endpoint, entries: &[&Entry], bare: bool) -> Result<Said, Stop> {
        let mut heard = self.attempt(endpoint, entries, bare).await?;
        if !self.older_server && self.jobs.min(entries.len()) > 1 && !heard.entries.is_empty() {
            let mut said = Said { warnings: std::mem::take(&mut heard.said.warnings), ..Said::default() };
            for entry in entries.iter().filter(|entry| heard.entries.contains(&entry.id)) {
                let again = self.serial().attempt(endpoint, &[*entry], bare).await?.said;
                said.failed.extend(again.failed);
                said.rows.extend(again.rows);
                said.warnings.extend(again.warnings);
            }
            heard.said = said;
        }
        let said = heard.said;
        if let Some(why) = said.failed.values().chain(&said.rows).find(|why| environment(why).is_some()) {
            let hint = environment(why).unwrap_or_default();
            return Err(Broke::hinted(format!("pg_restore could not work here: {why}"), hint).into());
        }
        Ok(said)
    }

    async fn attempt(&self, endpoint: &Endpoint, entries: &[&Entry], bare: bool) -> Result<Heard, Stop> {
        if entries.is_empty() {
            return Ok(Heard::default());
        }
        let list = self.list_file(entries)?;
        let name = endpoint.database.replace('\\', "\\\\").replace('\'', "\\'");
        let jobs = if self.older_server { 1 } else { self.jobs.clamp(1, entries.len()) };
        let mut args: Vec<std::ffi::OsString> = vec![
            "--no-password".into(),
            // Without it errors come without the entries that they are about.
            "--verbose".into(),
            format!("--dbname=dbname='{name}'").into(),
            "--use-list".into(),
            list.path.clone().into(),
            format!("--jobs={jobs}").into(),
        ];
        args.extend(bare.then_some(["--no-owner", "--no-privileges"]).into_iter().flatten().map(Into::into));
        args.extend(self.no_tablespaces.then(|| "--no-tablespaces".into()));
        let output = self.run(endpoint, args).await?;
        let text = String::from_utf8_lossy(&output.stderr);
        let known: BTreeSet<u32> = entries.iter().map(|entry| entry.id).collect();
        let heard = hear(&text, &known, self.older_server);
        if !output.status.success() {
            // It says so when it went on to the end in spite of errors; else it stopped, for a reason of its own.
            let Some(ignored) = heard.ignored else { return Err(fatal(&text)) };
            heard.all_of(ignored, jobs > 1)?;
        } else if heard.errors > 0 {
            heard.all_of(0, jobs > 1)?;
        }
        Ok(heard)
    }
}

/// A script in the encoding of the dump, which it names itself: read by the server, that knows them all. Lossless or an error.
async fn decoded(endpoint: &Endpoint, script: Vec<u8>) -> Result<String, Stop> {
    let head = String::from_utf8_lossy(script.get(..4096).unwrap_or(&script)).into_owned();
    let named = head.split_once("SET client_encoding = '").and_then(|(_, rest)| rest.split_once('\''));
    let encoding = named.map(|(name, _)| name.to_owned());
    let encoding =
        encoding.ok_or_else(|| Finding::new("dump_damaged", "dump", "its text names no encoding and is not UTF-8"))?;
    let client = endpoint.connect().await.map_err(Broke::from)?;
    let row = client.query_one("select convert_from($1, $2::text::name)", &[&script, &encoding]).await;
    let row = row.map_err(|error| {
        let why = crate::probe::endpoint::root_cause(&error);
        let hint = "names that are no text in their database's encoding cannot be restored by lifeboat: use pg_restore by hand";
        Broke::hinted(format!("names in the dump cannot be read as {encoding}: {why}"), hint)
    })?;
    Ok(row.get(0))
}

/// What was heard of one run, and how much of it there was.
#[derive(Debug, Default)]
struct Heard {
    said: Said,
    /// Entries that an error was about.
    entries: BTreeSet<u32>,
    /// Errors that were printed.
    errors: u64,
    /// Those of them that say no more than [`NEWER_SETTING`].
    passed_over: u64,
    /// Errors that `pg_restore` says it has passed over.
    ignored: Option<u64>,
}

impl Heard {
    /// Whether all that `pg_restore` counted was heard. By itself it counts errors. With jobs it counts entries, and after the
    /// first that failed every one that the same job did: at least as many as failed.
    fn all_of(&self, ignored: u64, jobs: bool) -> Result<(), Broke> {
        let entries = self.entries.len() as u64;
        let all = if jobs { entries <= ignored && self.errors <= entries } else { self.errors == ignored };
        if all && (entries > 0 || self.errors == self.passed_over) {
            return Ok(());
        }
        let errors = self.errors;
        Err(Broke::hinted(
            format!(
                "pg_restore counted {ignored} failures; {errors} errors about {entries} entries could be told apart"
            ),
            "try again with parallel = 1 under [limits] in lifeboat.toml; if that says the same, run pg_restore by hand and see",
        ))
    }
}

/// Reads `pg_restore`'s standard error. Details, contexts and commands are left out: they hold rows.
fn hear(text: &str, known: &BTreeSet<u32>, older_server: bool) -> Heard {
    let (mut heard, mut current) = (Heard::default(), None::<u32>);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some((_, entry)) = line.split_once("from TOC entry ") {
            current = toc::entry(entry).map(|entry| entry.id).filter(|id| known.contains(id));
            heard.entries.extend(current);
        } else if let Some((_, message)) = line.split_once("pg_restore: error: ") {
            heard.errors += 1;
            let message = message.strip_prefix("could not execute query: ").unwrap_or(message);
            let [error, command] = NEWER_SETTING;
            if older_server && current.is_none() && message == error && lines.peek() == Some(&command) {
                heard.passed_over += 1;
                continue;
            }
            let message = without_rows(message);
            match current {
                _ if message.starts_with("COPY failed") => heard.said.rows.push(message),
                Some(id) => {
                    heard.said.failed.entry(id).or_insert(message);
                }
                None => heard.said.warnings.push(message),
            }
        } else if let Some((_, message)) = line.split_once("pg_restore: warning: ") {
            match message.strip_prefix("errors ignored on restore: ") {
                Some(count) => heard.ignored = count.trim().parse().ok(),
                None => heard.said.warnings.push(without_rows(message)),
            }
        }
    }
    heard
}

/// A message up to the value that it quotes: `invalid input syntax for type integer: "…"`.
fn without_rows(message: &str) -> String {
    let quoting = [
        "invalid input syntax",
        "invalid byte sequence",
        "out of range",
        "malformed",
        "value too long",
        "missing data",
        "extra data",
    ];
    match message.find(": \"").filter(|_| quoting.iter().any(|words| message.contains(words))) {
        // `COPY failed for table "t": ERROR: …: "value"`: the table may be told, the value not.
        Some(_) => message.rsplit_once(": \"").map_or(message, |(head, _)| head).to_owned(),
        None => message.to_owned(),
    }
}

/// What to do, when a message is about this machine and not about the dump.
pub(super) fn environment(message: &str) -> Option<&'static str> {
    let table = [
        ("No space left on device", "make room where the server keeps its data"),
        ("could not extend file", "make room where the server keeps its data"),
        ("Input/output error", "the disk under the server's data, or under the scratch folder, fails; try another"),
        ("Read-only file system", "give the scratch a folder that can be written ([scratch] dir)"),
        ("Too many open files", "raise the limit of open files (ulimit -n)"),
        ("out of memory", "give the machine more memory"),
        ("out of shared memory", "raise max_locks_per_transaction of the server"),
        ("server closed the connection", "see the server's log"),
        ("terminating connection", "see the server's log"),
        ("connection to server", "see the server's log"),
        ("no connection to the server", "see the server's log"),
        (
            "could not open extension control file",
            "install that extension's package on this machine, for this major version",
        ),
        ("is not available", "install that extension's package on this machine, for this major version"),
        ("has no installation script", "install that extension's package in the source's version"),
        ("could not access file", "install that extension's package on this machine, for this major version"),
        ("could not load library", "install that extension's package on this machine, for this major version"),
        ("must be loaded via", "name that library in lifeboat.toml: [scratch] preload = [\"…\"]"),
        ("invalid locale name", "install the source's locale on this machine (Debian: locales-all)"),
        ("could not create locale", "install the source's locale on this machine (Debian: locales-all)"),
        ("could not open collator", "use PostgreSQL programs whose ICU knows the source's locale"),
        ("unsupported version", "use programs of the source's major version or newer"),
    ];
    table.iter().find(|(words, _)| message.contains(words)).map(|(_, hint)| *hint)
}

/// What it means that `pg_restore` stopped by itself.
fn fatal(text: &str) -> Stop {
    let errors: Vec<String> = text
        .lines()
        .filter_map(|line| line.split_once("pg_restore: error: "))
        .map(|(_, message)| without_rows(message))
        .collect();
    let said = errors.first().cloned().unwrap_or_else(|| "it ended without saying why".to_owned());
    let damaged = [
        "input file",
        "unexpected end of file",
        "magic string",
        "valid archive",
        "unexpected section",
        "unexpected block",
        "could not find block",
        "corrupt",
        "entry ID",
        "unexpected data offset",
        "unrecognized",
        "invalid",
    ];
    if let Some(hint) = environment(&said) {
        return Broke::hinted(format!("pg_restore could not work here: {said}"), hint).into();
    }
    if damaged.iter().any(|words| said.contains(words)) {
        return Finding::new("dump_damaged", "dump", format!("pg_restore cannot read the dump: {said}")).into();
    }
    Broke::hinted(format!("pg_restore failed: {said}"), "run it by hand on a copy and see").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newer_setting_is_passed_over_and_only_on_an_older_server() {
        let said = |error: &str, command: &str, count: u64| {
            format!(
                "pg_restore: while INITIALIZING:\n\
                 pg_restore: error: could not execute query: {error}\n{command}\n\
                 pg_restore: warning: errors ignored on restore: {count}\n"
            )
        };
        let [error, command] = NEWER_SETTING;
        let none = BTreeSet::new();
        let good = hear(&said(error, command, 1), &none, true);
        assert!(good.said.warnings.is_empty() && good.all_of(1, false).is_ok());
        assert!(good.all_of(2, false).is_err(), "an error that was not heard is not passed over");
        for (error, command, older) in [
            (error, command, false),
            (error, "Command was: SET transaction_timeout = 1;", true),
            (error, "Command was: CREATE FUNCTION f() …", true),
            ("ERROR:  unrecognized configuration parameter \"row_security\"", command, true),
        ] {
            let heard = hear(&said(error, command, 1), &none, older);
            assert!(heard.all_of(1, false).is_err(), "{error} {command} {older}");
        }
    }

    #[test]
    fn failures_are_heard_by_entry_and_without_rows() {
        let text = "pg_restore: while PROCESSING TOC:\n\
            pg_restore: from TOC entry 215; 1255 16390 FUNCTION public f() postgres\n\
            pg_restore: error: could not execute query: ERROR:  permission denied for language c\n\
            Command was: CREATE FUNCTION secret\n\
            pg_restore: from TOC entry 3449; 0 16517 TABLE DATA s t alice\n\
            pg_restore: error: COPY failed for table \"t\": ERROR:  invalid input syntax for type integer: \"hush\"\n\
            CONTEXT:  COPY t, line 1, column i: \"hush\"\n\
            pg_restore: warning: errors ignored on restore: 2\n";
        let heard = hear(text, &BTreeSet::from([215, 3449]), false);
        assert_eq!((heard.errors, heard.ignored, heard.entries.len()), (2, Some(2), 2));
        assert!(heard.all_of(2, false).is_ok() && heard.all_of(3, true).is_ok());
        assert!(
            heard.all_of(3, false).is_err() && heard.all_of(1, true).is_err(),
            "what was not heard is not passed over"
        );
        let strange = hear(text, &BTreeSet::from([1]), false);
        assert!(strange.all_of(2, false).is_err(), "errors of no entry that was asked for");
        let said = heard.said;
        assert_eq!(said.failed[&215], "ERROR:  permission denied for language c");
        assert_eq!(said.rows, ["COPY failed for table \"t\": ERROR:  invalid input syntax for type integer"]);
        assert_eq!(said.warnings, Vec::<String>::new());
    }

    #[test]
    fn a_damaged_dump_is_a_finding_and_a_lost_server_is_not() {
        for text in [
            "pg_restore: error: could not read from input file: end of file",
            "pg_restore: error: did not find magic string in file header",
        ] {
            assert!(matches!(fatal(text), Stop::Found(_)), "{text}");
        }
        for text in ["pg_restore: error: connection to server on socket \"x\" failed: No such file", ""] {
            assert!(matches!(fatal(text), Stop::Broke(_)), "{text}");
        }
    }
}
