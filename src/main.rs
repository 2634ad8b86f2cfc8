//! The binary: arguments in, exit code out.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use lifeboat::cli::{self, Cli};

fn main() -> ExitCode {
    cli::guard();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return cli::misused(&error).into(),
    };
    if let Some(done) = cli::at_once(&cli) {
        return done.into();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: the runtime could not be started: {error}");
            return cli::not_begun(&cli).into();
        }
    };
    runtime.block_on(cli::main(cli)).into()
}
