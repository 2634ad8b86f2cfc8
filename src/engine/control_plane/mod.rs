//! lifeboat's own recovery: its catalog and configuration, sealed like any other backup, and brought back from there.
//!
//! ```text
//! origin.json            what this is, when and where it was taken, and which secrets are not in it
//! HOW-TO.txt             what a person does with it
//! config/lifeboat.toml   config/policies/*.toml   config/drills/*.toml   config/trusted/*.pem
//! catalog/00000.jsonl …  the export of the catalog, in pieces
//! ```
//! No private key and no password is in it: those are kept elsewhere, or whoever has the store has everything.

mod layout;
mod take;

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use layout::{Laid, lay_out};
pub use take::take;

/// The `schema` of `origin.json`.
pub const ORIGIN_SCHEMA: &str = "lifeboat.control-plane/1";
/// Where `lifeboat.toml` lies in it.
pub const CONFIG: &str = "config/lifeboat.toml";

/// `origin.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// [`ORIGIN_SCHEMA`].
    pub schema: String,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// On which machine.
    pub host: String,
    /// By which version.
    pub lifeboat: String,
    /// Where `lifeboat.toml` was: its relative paths are meant from there.
    pub config: PathBuf,
    /// Files that it names and that are not in here, because they are secrets: they must be kept elsewhere.
    pub needs: Vec<PathBuf>,
}
