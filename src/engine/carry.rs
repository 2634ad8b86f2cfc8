//! A catalog written out as lines, and read in again: a header, a line a row, and at the end how many there were and their hash.

use std::io::{BufRead, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::catalog::{Carried, Carry, EXPORT_FORMAT, FORMATS_READ, Load, UNDER_WAY};
use crate::domain::check::Broke;

/// What was carried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Whole {
    /// How many rows.
    pub rows: u64,
    /// SHA-256 of all lines before the last, in hexadecimal.
    pub sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Last {
    End(Whole),
}

/// Writes all of a catalog, as of one moment, in constant memory.
pub async fn export(catalog: Arc<dyn Carry>, to: &mut (dyn Write + Send)) -> Result<Whole, Broke> {
    let (sender, mut rows) = mpsc::channel(UNDER_WAY);
    let reading = tokio::spawn(async move { catalog.export(sender).await });
    let mut hashed = Sha256::new();
    let mut written = write(to, &mut hashed, &Header { format: EXPORT_FORMAT.to_owned() });
    let mut count = 0;
    while written.is_ok() {
        let Some(row) = rows.recv().await else { break };
        written = write(to, &mut hashed, &row);
        count += 1;
    }
    drop(rows);
    let read = reading.await.map_err(|_| Broke::new("the export stopped early"))?;
    written?;
    read?;
    let whole = Whole { rows: count, sha256: hex::encode(hashed.finalize()) };
    write(to, &mut Sha256::new(), &Last::End(whole.clone()))?;
    to.flush().map_err(unwritten)?;
    Ok(whole)
}

fn write<T: Serialize>(to: &mut (dyn Write + Send), hashed: &mut Sha256, value: &T) -> Result<(), Broke> {
    let mut line =
        serde_json::to_vec(value).map_err(|error| Broke::new(format!("a row cannot be written: {error}")))?;
    line.push(b'\n');
    hashed.update(&line);
    to.write_all(&line).map_err(unwritten)
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed on by map_err")]
fn unwritten(error: std::io::Error) -> Broke {
    Broke::hinted(format!("the export cannot be written: {error}"), "is there room?")
}

/// Reads an export into an empty catalog: all of it, or nothing.
pub async fn import(catalog: Arc<dyn Carry>, from: &mut (dyn BufRead + Send)) -> Result<Whole, Broke> {
    let (sender, rows) = mpsc::channel(UNDER_WAY);
    let writing = tokio::spawn(async move { catalog.import(rows).await });
    let read = feed(from, &sender).await;
    drop(sender);
    let written = writing.await.map_err(|_| Broke::new("the import stopped early"))?;
    match (read, written) {
        (Ok(whole), Ok(_)) => Ok(whole),
        // Who writes knows why nobody takes rows any more; else the file is what is wrong.
        (Err(Fed::Refused) | Ok(_), Err(broke)) | (Err(Fed::Bad(broke)), _) => Err(broke),
        (Err(Fed::Refused), Ok(_)) => Err(Broke::new("the import stopped early")),
    }
}

enum Fed {
    /// The file is no whole export.
    Bad(Broke),
    /// Nobody takes rows any more.
    Refused,
}

async fn feed(from: &mut (dyn BufRead + Send), to: &mpsc::Sender<Load>) -> Result<Whole, Fed> {
    let bad = |number: u64, why: String| {
        Fed::Bad(Broke::hinted(
            format!("line {number} of the export: {why}; nothing was taken in"),
            "take the export again: it must be whole and unchanged",
        ))
    };
    let (mut hashed, mut line, mut number) = (Sha256::new(), Vec::new(), 0);
    loop {
        line.clear();
        number += 1;
        let length = from.read_until(b'\n', &mut line).map_err(|error| bad(number, error.to_string()))?;
        if length == 0 || line.last() != Some(&b'\n') {
            return Err(bad(number, "it ends too early".to_owned()));
        }
        if number == 1 {
            match serde_json::from_slice::<Header>(&line) {
                Ok(header) if FORMATS_READ.contains(&header.format.as_str()) => {}
                Ok(header) => {
                    let known = FORMATS_READ.join("` or `");
                    return Err(bad(number, format!("its format is `{}`, not `{known}`", header.format)));
                }
                Err(_) => return Err(bad(number, "this is no export of a catalog".to_owned())),
            }
        } else if line.starts_with(b"{\"end\":") {
            let Last::End(whole) = serde_json::from_slice(&line).map_err(|error| bad(number, error.to_string()))?;
            let seen = Whole { rows: number - 2, sha256: hex::encode(hashed.finalize()) };
            if whole != seen {
                return Err(bad(
                    number,
                    format!(
                        "it says {} rows and {}, and there are {} and {}",
                        whole.rows, whole.sha256, seen.rows, seen.sha256
                    ),
                ));
            }
            if !from.fill_buf().map_err(|error| bad(number, error.to_string()))?.is_empty() {
                return Err(bad(number + 1, "there is something after its end".to_owned()));
            }
            to.send(Load::All).await.map_err(|_| Fed::Refused)?;
            return Ok(whole);
        } else {
            let row: Carried = serde_json::from_slice(&line).map_err(|error| bad(number, error.to_string()))?;
            to.send(Load::One(row)).await.map_err(|_| Fed::Refused)?;
        }
        hashed.update(&line);
    }
}
