//! The disposable target of a drill: safe by construction.
//!
//! A [`Scratch`] can only be made by [`Scratch::provision`], and nothing else can be destroyed. Each has the run in its
//! name and folder; the next start sweeps what a killed run left. An own scratch server never opens a TCP port, has no
//! network where the machine can give it none, trusts nothing of the source's configuration, and runs as an unprivileged user.

mod cluster;
mod conf;
mod connect;
mod database;
mod folder;
mod process;
mod sandbox;
mod startup;
mod sweep;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::domain::check::{Broke, Stop};
use crate::domain::config::ScratchConfig;
use crate::domain::drill::{ScratchKind, ScratchPlan};
use crate::domain::ids::RunId;
use crate::domain::inventory::Fingerprint;
use crate::domain::lsn::Lsn;
use crate::domain::transcript::Isolation;
use crate::probe::Endpoint;
use crate::programs::Programs;

pub use sandbox::{try_out, unprivileged};
pub use sweep::{is_absent, sweep};

/// A disposable place. Dropping it without [`Scratch::destroy`] (a panic, a cancelled future) removes it too, as well as it can.
#[derive(Debug)]
pub struct Scratch {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Cluster(Box<cluster::Cluster>),
    Database(Box<database::OnServer>),
    Folder(folder::Folder),
}

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
        let kind = match plan.kind {
            ScratchKind::Cluster => {
                let (config, programs, demand) = (config.clone(), programs.clone(), plan.isolation);
                let made =
                    tokio::task::spawn_blocking(move || cluster::Cluster::provision(run, &config, &programs, demand));
                let made = made.await.map_err(|error| Broke::new(error.to_string()))?;
                Kind::Cluster(Box::new(made?))
            }
            ScratchKind::Database => {
                Kind::Database(Box::new(database::OnServer::provision(run, plan, config, sources).await?))
            }
            ScratchKind::Folder => {
                let hint = "a drill of a server has [scratch] kind = \"cluster\" or \"database\"";
                return Err(Broke::hinted("in a folder only lifeboat itself is brought back", hint));
            }
        };
        Ok(Scratch { kind })
    }

    /// Makes a private folder (`folder`), for what needs no server.
    pub fn folder(run: RunId, config: &ScratchConfig) -> Result<Scratch, Broke> {
        Ok(Scratch { kind: Kind::Folder(folder::Folder::provision(run, config)?) })
    }

    /// Its name: `lifeboat-<run id>`.
    pub fn name(&self) -> &str {
        match &self.kind {
            Kind::Cluster(cluster) => &cluster.name,
            Kind::Database(database) => &database.name,
            Kind::Folder(folder) => &folder.name,
        }
    }

    /// The data folder that a physical restore fills (kind `cluster`): there, empty, and owned by whom the server runs as.
    pub fn data_dir(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Cluster(cluster) => Some(&cluster.data_dir),
            Kind::Database(_) | Kind::Folder(_) => None,
        }
    }

    /// A private folder for work in progress; what is in it must belong to the folder's owner, who runs the programs.
    pub fn work_dir(&self) -> PathBuf {
        match &self.kind {
            Kind::Cluster(cluster) => cluster.work_dir(),
            Kind::Database(database) => database.work_dir.clone(),
            Kind::Folder(folder) => folder.folder.clone(),
        }
    }

    /// For a logical backup: makes an empty cluster (initdb) with the checksums, the segment size and a superuser of the
    /// source. Databases bring their own encoding and locale when they are made. For the kind `database`: nothing.
    pub async fn prepare_empty(&mut self, fingerprint: &Fingerprint) -> Result<(), Broke> {
        match &mut self.kind {
            Kind::Cluster(cluster) => cluster.prepare_empty(fingerprint).await,
            Kind::Database(_) => Ok(()),
            Kind::Folder(_) => Err(no_server()),
        }
    }

    /// Writes lifeboat's own configuration over what was restored, starts the server and waits until recovery has ended and it takes connections.
    /// It believes the server's state and log, not pg_ctl. A server that says that its data are bad (an invalid checkpoint record, a missing WAL
    /// file) is a finding; one that cannot run here is broke.
    /// `recovery`: the log in `pg_wal` is that of an archive, to be replayed so far; a server that was to stop at a moment and did not is broke.
    pub async fn start(&mut self, fingerprint: &Fingerprint, recovery: Option<Recovery>) -> Result<Started, Stop> {
        match &mut self.kind {
            Kind::Cluster(cluster) => cluster.start(fingerprint, recovery).await,
            Kind::Database(_) if recovery.is_some() => {
                Err(Broke::new("a database on a scratch server replays no log").into())
            }
            Kind::Database(database) => database.start().await,
            Kind::Folder(_) => Err(no_server().into()),
        }
    }

    /// The restored server, as its superuser.
    pub fn server(&self) -> Result<Endpoint, Broke> {
        match &self.kind {
            Kind::Cluster(cluster) => cluster.server(),
            Kind::Database(database) => Ok(database.server()),
            Kind::Folder(_) => Err(no_server()),
        }
    }

    /// What isolation was really had.
    pub fn isolation(&self) -> Isolation {
        match &self.kind {
            Kind::Cluster(cluster) => cluster.sandbox.isolation.clone(),
            Kind::Database(database) => database.isolation.clone(),
            Kind::Folder(_) => Isolation { means: "nothing is started in it".to_owned(), ..Isolation::default() },
        }
    }

    /// Arguments put before a client program so that it runs unprivileged and without network too.
    pub fn wrap(&self) -> Vec<OsString> {
        match &self.kind {
            Kind::Cluster(cluster) => cluster.sandbox.wrap.clone(),
            Kind::Database(_) | Kind::Folder(_) => Vec::new(),
        }
    }

    /// Names that databases get here, by the name they had (kind `database`: `lifeboat-<run id>-<n>`); empty: the same.
    pub fn rename(&self, databases: &[String]) -> Vec<(String, String)> {
        match &self.kind {
            Kind::Cluster(_) | Kind::Folder(_) => Vec::new(),
            Kind::Database(database) => database.rename(databases),
        }
    }

    /// Stops the server by its own process, and removes everything. Says so only when it has looked.
    pub async fn destroy(self) -> Result<(), Broke> {
        match self.kind {
            Kind::Cluster(mut cluster) => {
                let removed = tokio::task::spawn_blocking(move || cluster.remove()).await;
                removed.map_err(|error| Broke::new(error.to_string()))?
            }
            Kind::Database(mut database) => database.remove().await,
            Kind::Folder(mut folder) => folder.remove(),
        }
    }
}

fn no_server() -> Broke {
    Broke::new("there is no server in a folder")
}

/// How far a server replays the archive's log that lies in its `pg_wal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Along this timeline.
    pub timeline: u32,
    /// Up to this moment by the source's clock, whole microseconds, what was committed at it included; none: to the end of the log. The log must
    /// hold a transaction that ended later: only there does a server stop.
    pub until: Option<Timestamp>,
}

/// The transaction whose end stopped a recovery, and which was not replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoppedBefore {
    /// Which.
    pub xid: u64,
    /// When it ended, by the source's clock: later than the moment that was asked for.
    pub at: Timestamp,
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
    /// Where the log ended that was replayed: the place of the checkpoint that ends recovery. A physical backup is whole
    /// only if this is at or after the end of its WAL.
    pub replayed_to: Lsn,
    /// The timeline that the server is on.
    pub timeline: u32,
    /// When the last transaction ended that was replayed, by the source's clock; none: none was.
    pub last_replayed: Option<Timestamp>,
    /// Where recovery to a moment stopped; never absent when one was asked for.
    pub stopped_before: Option<StoppedBefore>,
}

#[cfg(test)]
mod tests {
    use crate::domain::inventory::Server;
    use crate::domain::lsn::Lsn;

    /// A source for tests.
    pub(super) fn server() -> Server {
        Server {
            system_identifier: "1".to_owned(),
            version_num: 150_000,
            version: "15.0".to_owned(),
            data_checksums: true,
            in_recovery: false,
            timeline: 1,
            lsn: Lsn(0),
            clock: jiff::Timestamp::UNIX_EPOCH,
            wal_segment_bytes: 16 << 20,
            settings: Default::default(),
        }
    }
}
