//! How a service that runs for months asks for memory.
//!
//! glibc gives up to eight pools for each core to the threads of a process, and each keeps what it was once asked for: what thousands of policies need for a moment
//! then stays with as many pools as there were threads that needed it. With two pools a service takes little more than half. How many there may be is read
//! from the environment when a process begins, so a service begins once more, with that said: as the same process, before it has opened anything.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The names under which who starts a process says it himself.
const SAID: [&str; 2] = ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"];
const ARENAS: &str = "2";

/// Begins once more with few pools, unless somebody said how many. Where that cannot be done, all goes on as it is.
pub(super) fn few() {
    if SAID.iter().any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    let words: Vec<OsString> = std::env::args_os().collect();
    if let (Ok(program), Some((name, rest))) = (std::env::current_exe(), words.split_first()) {
        // Comes back only with an error.
        let _ = Command::new(program).arg0(name).args(rest).env(SAID[0], ARENAS).exec();
    }
}
