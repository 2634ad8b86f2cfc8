//! `lifeboat wal flush`.

use super::{Cli, Exit, Failure, Output, output};
use crate::domain::check::Broke;
use crate::engine::wal;
use crate::render::plain;

/// The `schema` of the JSON document.
const SCHEMA: &str = "lifeboat.wal-flush/1";

/// Shown under its `--help`.
pub(super) const HELP: &str = "\
The next push does the same. From a timer it is done too where the source writes nothing:
  lifeboat --config /etc/lifeboat/lifeboat.toml wal flush orders

Exit codes: 0 nothing waits any more; 1 the store takes nothing, or a file stays: it is said which, and why.";

/// Runs the verb.
pub(super) async fn run(cli: &Cli, policy: &str) -> Result<Exit, Failure> {
    let house = cli.house()?;
    let policy = house.policy(policy).map_err(Failure::usage)?;
    let Some(flushed) = wal::flush(&house, policy).await? else {
        let hint = "write [wal] spool = { dir = \"…\", max = \"10 GiB\" } in the policy";
        return Err(Failure::usage(Broke::hinted(format!("policy {} has no spool", policy.name), hint)));
    };
    if let Some(down) = &flushed.down {
        output::warn(&Broke { error: format!("the store takes nothing: {}", plain(&down.error)), ..down.clone() });
    }
    for sentence in &flushed.stuck {
        output::warn(&Broke::new(plain(sentence)));
    }
    let exit = if flushed.left.is_none() && flushed.down.is_none() && flushed.stuck.is_empty() {
        Exit::Ok
    } else {
        Exit::Error
    };
    if cli.output == Output::Json {
        output::print_json(&serde_json::json!({
            "schema": SCHEMA, "policy": policy.name, "exit_code": exit as u8, "flushed": flushed,
        }));
    } else {
        let left = flushed.left.map_or_else(
            || "nothing waits any more".to_owned(),
            |left| format!("{} ({}) still waiting, since {:.0}", left.files, left.bytes, left.since),
        );
        output::print(&format!("{} of the log brought into the store; {left}", flushed.moved.len()));
    }
    Ok(exit)
}
