//! `lifeboat catalog export` and `import`.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::{Cli, Exit, Failure, Output, output};
use crate::catalog;
use crate::domain::check::Broke;
use crate::engine::carry::{self, Whole};
use crate::load;

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// Into this new file (mode 0600). Default: to standard output.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// The export; - for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Serialize)]
struct Carried<'a> {
    schema: &'static str,
    file: &'a Path,
    rows: u64,
    sha256: &'a str,
}

pub(super) async fn export(cli: &Cli, args: &ExportArgs) -> Result<Exit, Failure> {
    let config = cli.load(load::load)?.config;
    let source = catalog::carry(&config.catalog)?;
    let Some(path) = &args.file else {
        carry::export(source, &mut BufWriter::new(std::io::stdout())).await?;
        return Ok(Exit::Ok);
    };
    let broke = |error: std::io::Error| {
        Broke::hinted(
            format!("{}: {error}", path.display()),
            "name a file that is not there, in a folder that can be written",
        )
    };
    if path.exists() {
        return Err(broke(std::io::ErrorKind::AlreadyExists.into()).into());
    }
    // Under another name until it is whole and durable: a cut export must not look like one.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(broke)?;
    let whole = {
        let mut to = BufWriter::new(file.as_file_mut());
        let whole = carry::export(source, &mut to).await?;
        to.flush().map_err(broke)?;
        whole
    };
    file.as_file().sync_all().map_err(broke)?;
    file.persist_noclobber(path).map_err(|error| broke(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(broke)?;
    tell(cli, "lifeboat.catalog-export/1", path, &whole, "written to");
    Ok(Exit::Ok)
}

pub(super) async fn import(cli: &Cli, args: &ImportArgs) -> Result<Exit, Failure> {
    let config = cli.load(load::load)?.config;
    let target = catalog::carry(&config.catalog)?;
    let path = &args.file;
    let whole = if path.as_os_str() == "-" {
        carry::import(target, &mut BufReader::new(std::io::stdin())).await?
    } else {
        let file = File::open(path).map_err(|error| {
            Broke::hinted(format!("{}: {error}", path.display()), "name an export of `lifeboat catalog export`")
        })?;
        carry::import(target, &mut BufReader::new(file)).await?
    };
    tell(cli, "lifeboat.catalog-import/1", path, &whole, "taken in from");
    Ok(Exit::Ok)
}

fn tell(cli: &Cli, schema: &'static str, file: &Path, whole: &Whole, done: &str) {
    match cli.output {
        Output::Json => output::print_json(&Carried { schema, file, rows: whole.rows, sha256: &whole.sha256 }),
        Output::Table => {
            output::print(&format!("{} rows {done} {}, sha256 {}", whole.rows, file.display(), whole.sha256));
        }
    }
}
