//! A program whose standard output becomes a stream.
//!
//! The law of this file: what it gave out is used only after it has exited 0. A program that was killed in the middle leaves
//! a stream that looks whole to every format without a trailer.

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::domain::check::Broke;

/// Bytes that are handed on at once.
const CHUNK_BYTES: usize = 256 << 10;
/// How much of what a program says on standard error is kept: the end.
const WORDS_AT_MOST: usize = 64 << 10;

/// A program that exited 0.
#[derive(Debug)]
pub struct Ended<S> {
    /// What its bytes went into.
    pub state: S,
    /// What it said on standard error: warnings.
    pub words: String,
}

/// A child in a process group of its own. Dropping this kills the group, if it still runs: a dropped future leaves no
/// program behind, and a Ctrl-C at the terminal is ours to handle.
struct Running(Arc<Mutex<Child>>);

impl Running {
    /// Kills the group, but never after the child was reaped: its number may be somebody else's by then.
    fn kill(&self) {
        let mut child = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(child.try_wait(), Ok(None)) {
            if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
                let _ = kill_process_group(pid, Signal::KILL);
            }
            let _ = child.kill();
        }
    }

    /// Waits without holding the lock, so that it can be killed meanwhile.
    fn wait(&self) -> std::io::Result<ExitStatus> {
        loop {
            let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner).try_wait()?;
            match seen {
                Some(status) => return Ok(status),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a program and hands its standard output to `use_bytes`, in order, on a blocking thread. Gives `state` back only when
/// the program has exited 0; else `state` is dropped. Memory is one chunk, whatever the length of the stream.
pub async fn run<S, F>(mut command: Command, state: S, mut use_bytes: F) -> Result<Ended<S>, Broke>
where
    S: Send + 'static,
    F: FnMut(&mut S, &[u8]) -> Result<(), Broke> + Send + 'static,
{
    let name = name_of(&command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(|error| {
        Broke::hinted(format!("{name} could not be started: {error}"), "check that it is installed and may be run")
    })?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let child = Arc::new(Mutex::new(child));
    let guard = Running(Arc::clone(&child));
    let (Some(mut stdout), Some(stderr)) = (stdout, stderr) else {
        return Err(Broke::new(format!("{name} has no output to read")));
    };
    let listener = std::thread::spawn(move || last_words(stderr));
    let title = name.clone();
    let work = tokio::task::spawn_blocking(move || {
        let running = Running(child);
        let mut state = state;
        let mut chunk = vec![0; CHUNK_BYTES];
        let passed = loop {
            match fill(&mut stdout, &mut chunk) {
                Ok(0) => break Ok(()),
                Ok(length) => {
                    if let Err(broke) = use_bytes(&mut state, &chunk[..length]) {
                        break Err(broke);
                    }
                }
                Err(error) => break Err(Broke::new(format!("{title}'s output could not be read: {error}"))),
            }
        };
        if passed.is_err() {
            running.kill();
        }
        drop(stdout);
        let status = running.wait();
        let words = listener.join().unwrap_or_default();
        passed?;
        let status = status.map_err(|error| Broke::new(format!("how {title} ended is not known: {error}")))?;
        if status.success() { Ok(Ended { state, words }) } else { Err(why_it_failed(&title, status, &words)) }
    });
    let ended = work.await.map_err(|error| Broke::new(format!("the thread that read {name} died: {error}")))?;
    drop(guard);
    ended
}

/// Reads until the chunk is full or the stream ends: fewer, larger pieces for the sealer.
fn fill(from: &mut impl Read, chunk: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < chunk.len() {
        match from.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The end of what is said on standard error.
fn last_words(mut from: impl Read) -> String {
    let mut words = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        words.extend_from_slice(&piece[..length]);
        if words.len() > 2 * WORDS_AT_MOST {
            words.drain(..words.len() - WORDS_AT_MOST);
        }
    }
    let start = words.len().saturating_sub(WORDS_AT_MOST);
    String::from_utf8_lossy(&words[start..]).into_owned()
}

fn name_of(command: &Command) -> String {
    let path = std::path::Path::new(command.get_program());
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn why_it_failed(name: &str, status: ExitStatus, words: &str) -> Broke {
    let said: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let shown = said[said.len().saturating_sub(6)..].join("; ");
    let said = if shown.is_empty() { String::new() } else { format!(": {shown}") };
    match status.signal() {
        Some(signal) => Broke::hinted(
            format!("{name} was killed by signal {signal} before it was done{said}"),
            "somebody or the kernel (out of memory: see dmesg) killed it; nothing was kept, take the backup again",
        ),
        None => Broke::hinted(
            format!("{name} failed with exit code {}{said}", status.code().unwrap_or(-1)),
            hint_for(words).unwrap_or("the source's own log says more"),
        ),
    }
}

/// What to do about what a PostgreSQL program, or the server itself, said.
pub fn hint_for(words: &str) -> Option<&'static str> {
    let hints = [
        (
            "row-level security",
            "the role may not see all rows: use one with BYPASSRLS (ALTER ROLE … BYPASSRLS), or the tables' owner",
        ),
        (
            "must be superuser or replication role",
            "give the role the right: ALTER ROLE … REPLICATION; or use a logical backup",
        ),
        (
            "permission denied to start WAL sender",
            "give the role the right: ALTER ROLE … REPLICATION; or use a logical backup",
        ),
        (
            "no pg_hba.conf entry for replication",
            "add a line for this role with the database `replication` to pg_hba.conf of the source, and reload it",
        ),
        ("max_wal_senders", "raise max_wal_senders on the source, or wait until other replication connections end"),
        (
            "has already been removed",
            "the source recycled WAL that the backup needs: raise wal_keep_size, or free a replication slot for lifeboat",
        ),
        ("standby was promoted", "the source stopped being a standby; take the backup again"),
        (
            "permission denied for large object",
            "no role but their owner and superusers reads all large objects: GRANT SELECT ON LARGE OBJECT …, or use the owner",
        ),
        ("permission denied", "give the role the right to read everything: GRANT pg_read_all_data TO …"),
        ("No space left on device", "free space where the message says"),
        ("password", "check the password and where it comes from: passfile, password_file or password_env"),
        ("server closed the connection", "the source went away; see its log, and take the backup again"),
        ("terminating connection", "the source ended the connection; see its log, and take the backup again"),
        ("server version mismatch", "install the programs of the source's major version, or newer"),
    ];
    hints.into_iter().find(|(said, _)| words.contains(said)).map(|(_, hint)| hint)
}
