//! Exit codes: one documented type.

use std::process::ExitCode;

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Proven, met, nothing found.
    Ok = 0,
    /// An unexpected error.
    Error = 1,
    /// Usage or configuration.
    Usage = 2,
    /// A finding: failed, missed, drift.
    Finding = 3,
    /// Unproven.
    Unproven = 4,
    /// Of `wal fetch` alone: a server that asks must stop. Below 126 it would take the log to end, and open with what it has.
    ServerMustStop = 200,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Shown under every `--help`.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  proven / met / nothing found
  1  unexpected error
  2  usage or configuration
  3  a finding: failed, missed, drift
  4  unproven
  (wal fetch, for a server's restore_command: 0 there, 1 certainly not there, 200 anything else)
A command that is stopped by Ctrl-C or SIGTERM cleans up and ends with 4 (drill, verify) or 1 (all others).";
