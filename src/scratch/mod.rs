//! The disposable target of a drill: safe by construction.
//!
//! A [`Scratch`] can only be made by [`Scratch::provision`], and nothing else can be destroyed. Each has the run in its
//! name and folder; the next start sweeps what a killed run left. An own scratch server never opens a TCP port, has no
//! network where the machine can give it none, trusts nothing of the source's configuration, and runs as an unprivileged user.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::domain::check::{Broke, Stop};
use crate::domain::config::ScratchConfig;
use crate::domain::drill::ScratchPlan;
use crate::domain::ids::{RunId, SCRATCH_PREFIX};
use crate::domain::inventory::Fingerprint;
use crate::domain::transcript::Isolation;
use crate::probe::Endpoint;
use crate::programs::Programs;

/// A disposable place.
pub struct Scratch {}

impl Scratch {
    /// Makes the place: a 0700 folder (`cluster`), or the permission to make one database (`database`). Starts nothing.
    /// `sources` are the system identifiers of every policy's source (as far as they could be asked) and of every artifact:
    /// a scratch *server* with one of them is refused.
    pub async fn provision(
        run: RunId,
        plan: &ScratchPlan,
        config: &ScratchConfig,
        programs: &Programs,
        sources: &[String],
    ) -> Result<Scratch, Broke> {
        let _ = (run, plan, config, programs, sources, SCRATCH_PREFIX);
        todo!()
    }

    /// Its name: `lifeboat-<run id>`.
    pub fn name(&self) -> &str {
        todo!()
    }

    /// The data folder that a physical restore makes (kind `cluster`).
    pub fn data_dir(&self) -> Option<&Path> {
        todo!()
    }

    /// A private folder for work in progress.
    pub fn work_dir(&self) -> PathBuf {
        todo!()
    }

    /// For a logical backup: makes an empty cluster (initdb) with the encoding and locale of the fingerprint. For the kind `database`: nothing.
    pub async fn prepare_empty(&mut self, fingerprint: &Fingerprint) -> Result<(), Broke> {
        let _ = fingerprint;
        todo!()
    }

    /// Writes lifeboat's own configuration over what was restored, starts the server and waits until recovery has ended and it takes connections.
    /// It believes the server's state and log, not pg_ctl. A server that says that its data are bad (an invalid checkpoint record, a missing WAL
    /// file) is a finding; one that cannot run here is broke.
    pub async fn start(&mut self, fingerprint: &Fingerprint) -> Result<Started, Stop> {
        let _ = fingerprint;
        todo!()
    }

    /// The restored server, as its superuser.
    pub fn server(&self) -> Result<Endpoint, Broke> {
        todo!()
    }

    /// What isolation was really had.
    pub fn isolation(&self) -> Isolation {
        todo!()
    }

    /// Arguments put before a client program so that it runs unprivileged and without network too.
    pub fn wrap(&self) -> Vec<OsString> {
        todo!()
    }

    /// Names that databases get here, by the name they had (kind `database`: `lifeboat-<run id>-<n>`); empty: the same.
    pub fn rename(&self, databases: &[String]) -> Vec<(String, String)> {
        let _ = databases;
        todo!()
    }

    /// Stops the server by its own process, and removes everything. Says so only when it has looked.
    pub async fn destroy(self) -> Result<(), Broke> {
        todo!()
    }
}

/// What starting a server showed.
#[derive(Clone, Debug, PartialEq)]
pub struct Started {
    /// `server_version`.
    pub server_version: String,
    /// Sentences with numbers: how far the log was replayed, which settings were taken over.
    pub facts: Vec<String>,
    /// The next transaction identifier when the server took its first connection.
    pub next_xid: u64,
}

/// Finds and removes what killed runs left: folders and their servers in the scratch folder, databases on scratch servers. `alive` says whether a run still has its
/// process. Gives the names that were swept, and what could not be.
pub async fn sweep(config: &ScratchConfig, alive: &(dyn Fn(RunId) -> bool + Send + Sync)) -> (Vec<String>, Vec<Broke>) {
    let _ = (config, alive);
    todo!()
}
