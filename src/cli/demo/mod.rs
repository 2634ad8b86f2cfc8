//! `lifeboat demo`.

use super::{Cli, Exit, Failure};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
pub async fn run(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let _ = (cli, args);
    todo!()
}
