//! What is common to the output of all verbs.

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Failure, Output};
use crate::domain::check::Broke;
use crate::engine::sweep::Swept;

/// Whether standard error takes colours: a terminal, and no `NO_COLOR`.
pub fn color_on_stderr() -> bool {
    std::io::stderr().is_terminal() && no_color_unset()
}

/// Whether standard output takes colours.
pub fn color_on_stdout() -> bool {
    std::io::stdout().is_terminal() && no_color_unset()
}

fn no_color_unset() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether a result could not be written.
static LOST: AtomicBool = AtomicBool::new(false);

/// Writes a result to standard output; a closed pipe is nobody's error.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let newline: &[u8] = if text.ends_with('\n') { b"" } else { b"\n" };
    let written = out.write_all(text.as_bytes()).and_then(|()| out.write_all(newline)).and_then(|()| out.flush());
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        LOST.store(true, Ordering::Relaxed);
        say(&format!("error: the result could not be written to standard output: {error}"));
    }
}

/// Whether a result was lost on its way to standard output: then success would be a lie.
pub fn lost_a_result() -> bool {
    LOST.load(Ordering::Relaxed)
}

/// Writes a line to standard error. One that cannot be written is passed over: that must not end a backup or a drill half-way.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Writes a JSON document to standard output.
pub fn print_json(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => print(&text),
        Err(error) => say(&format!("error: the result could not be written as JSON: {error}")),
    }
}

/// Writes a failure to standard error; with `--output json` also a document to standard output.
pub fn print_failure(failure: &Failure, output: Output) {
    let (red, cyan, plain) = if color_on_stderr() { ("\x1b[1;31m", "\x1b[36m", "\x1b[0m") } else { ("", "", "") };
    say(&format!("{red}error:{plain} {}", failure.text.trim_end()));
    if let Some(hint) = &failure.hint {
        say(&format!("{cyan}hint:{plain} {hint}"));
    }
    if output == Output::Json {
        print_json(&serde_json::json!({
            "schema": "lifeboat.error/1",
            "error": failure.text,
            "hint": failure.hint,
            "exit_code": failure.exit as u8,
        }));
    }
}

/// Writes a warning to standard error.
pub fn warn(broke: &Broke) {
    let (yellow, cyan, plain) = if color_on_stderr() { ("\x1b[1;33m", "\x1b[36m", "\x1b[0m") } else { ("", "", "") };
    say(&format!("{yellow}warning:{plain} {}", broke.error));
    if let Some(hint) = &broke.hint {
        say(&format!("{cyan}hint:{plain} {hint}"));
    }
}

/// Says what killed runs had left behind.
pub fn say_swept(swept: &Swept) {
    for run in &swept.abandoned {
        say(&format!("swept: {run} had died before it ended; it counts for nothing"));
    }
    for scratch in &swept.scratches {
        say(&format!("swept: scratch {scratch} is removed"));
    }
    for trouble in &swept.troubles {
        warn(&Broke::new(trouble.clone()));
    }
}

/// Columns of the terminal: as the shell says, else as the terminal says, else 100; within what tables can be made for.
pub fn width() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let seen = || rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| usize::from(size.ws_col));
    said.or_else(seen).filter(|columns| *columns > 0).unwrap_or(100).clamp(60, 160)
}
