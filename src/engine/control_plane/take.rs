//! Takes lifeboat's own backup: small files first, then the catalog as it streams out.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tokio::runtime::Handle;

use super::{CONFIG, ORIGIN_SCHEMA, Origin};
use crate::backup::Taken;
use crate::backup::control_plane::Tar;
use crate::catalog;
use crate::clock::now;
use crate::domain::artifact::{Basis, RecoveryPoint, Stream, StreamKind};
use crate::domain::check::Broke;
use crate::domain::config::{Config, StorePlace};
use crate::domain::inventory::{Fingerprint, Server};
use crate::domain::lsn::Lsn;
use crate::domain::policy::{PasswordSource, Policy};
use crate::domain::units::Span;
use crate::engine::carry::{self, Whole};
use crate::engine::{House, process};
use crate::progress::Progress;
use crate::seal::Sealer;

/// About so long is one piece of the catalog's export.
const PIECE: usize = 4 << 20;

/// What a human does with it; the same words stand in docs/control-plane.md.
const HOW_TO: &str = "\
This is lifeboat's own backup: its configuration and its catalog. To go on from it on a new machine:

1. Install lifeboat, PostgreSQL's programs, age and zstd.
2. Copy config/ to where lifeboat is to live. origin.json names the secrets that belong beside it (keys, password files): bring them
   from where they are kept, with mode 0600.
3. cat catalog/*.jsonl > catalog.jsonl && lifeboat catalog import catalog.jsonl
4. lifeboat catalog rebuild     takes in the backups that are newer than this one
5. lifeboat check && lifeboat status

Without step 3 everything can still be restored: `lifeboat catalog rebuild` makes a catalog from the stores alone. What is lost then are the
records of past runs and drills.
";

/// Takes the backup; all of it is durable on return.
pub async fn take(house: &House, sealer: &Sealer, progress: &dyn Progress) -> Result<Taken, Broke> {
    progress.stage("catalog and configuration");
    let stream = sealer.stream("base", StreamKind::Tar);
    // Before anything is read: what is in it is at least as new.
    let taken_at = now();
    let (origin, files) = (origin(house, taken_at), files(&house.config)?);
    let (source, runtime) = (catalog::carry(&house.config.catalog)?, Handle::current());
    // What seals waits for the store, so all of this is on a thread of its own.
    let written = tokio::task::spawn_blocking(move || -> Result<(Stream, Whole), Broke> {
        let mut pieces = Pieces { tar: Tar::new(stream), waiting: Vec::new(), number: 0, broke: None };
        let text = serde_json::to_vec_pretty(&origin).map_err(|error| Broke::new(error.to_string()))?;
        pieces.tar.file("origin.json", &text)?;
        pieces.tar.file("HOW-TO.txt", HOW_TO.as_bytes())?;
        for (path, file) in files {
            let bytes = std::fs::read(&file).map_err(|error| {
                Broke::hinted(format!("{} cannot be read: {error}", file.display()), "look at its owner and mode")
            })?;
            pieces.tar.file(&path, &bytes)?;
        }
        let exported = runtime.block_on(carry::export(source, &mut pieces));
        // A piece that could not be sealed is the cause of an export that could not be written.
        if let Some(broke) = pieces.broke.take() {
            return Err(broke);
        }
        let whole = exported?;
        pieces.cut()?;
        Ok((pieces.tar.finish()?, whole))
    });
    let (stream, whole) = written.await.map_err(|error| Broke::new(error.to_string()))??;
    progress.say(&format!("{} records of the catalog", whole.rows));
    Ok(Taken {
        streams: vec![stream],
        recovery_point: RecoveryPoint { at: taken_at, lsn: None, basis: Basis::SnapshotStart },
        wal: None,
        pages: None,
        fingerprint: fingerprint(taken_at),
        tools: BTreeMap::new(),
        clock_skew: Span::ZERO,
        warnings: Vec::new(),
        digest_took: Span::ZERO,
    })
}

/// The export, cut into files of the tar: their lengths must be known before they are written.
struct Pieces {
    tar: Tar,
    waiting: Vec<u8>,
    number: u32,
    broke: Option<Broke>,
}

impl Pieces {
    fn cut(&mut self) -> Result<(), Broke> {
        if !self.waiting.is_empty() {
            self.tar.file(&format!("catalog/{:05}.jsonl", self.number), &self.waiting)?;
            self.number += 1;
            self.waiting.clear();
        }
        Ok(())
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= PIECE
            && let Err(broke) = self.cut()
        {
            let error = io::Error::other(broke.error.clone());
            self.broke = Some(broke);
            return Err(error);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn origin(house: &House, taken_at: jiff::Timestamp) -> Origin {
    Origin {
        schema: ORIGIN_SCHEMA.to_owned(),
        taken_at,
        host: process::host(),
        lifeboat: env!("CARGO_PKG_VERSION").to_owned(),
        config: house.config.file.clone(),
        needs: secrets(house),
    }
}

/// The files of the configuration, by the path that they get.
fn files(config: &Config) -> Result<Vec<(String, PathBuf)>, Broke> {
    let mut files = vec![(CONFIG.to_owned(), config.file.clone())];
    for (name, folder) in [("policies", &config.policies), ("drills", &config.drills)] {
        let listed = std::fs::read_dir(folder).map_err(|error| {
            Broke::hinted(format!("{} cannot be read: {error}", folder.display()), "look at its owner and mode")
        })?;
        let mut found: Vec<PathBuf> = listed
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .collect();
        found.sort();
        for path in found {
            let file = file_name(&path);
            if !file.starts_with('.') {
                files.push((format!("config/{name}/{file}"), path));
            }
        }
    }
    for (number, path) in config.keys.trusted_signers.iter().enumerate() {
        files.push((format!("config/trusted/{number}-{}", file_name(path)), path.clone()));
    }
    Ok(files)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Files with secrets that the configuration names.
fn secrets(house: &House) -> Vec<PathBuf> {
    let config = &house.config;
    let mut needs: BTreeSet<PathBuf> = config.keys.identities.iter().chain(&config.keys.signing).cloned().collect();
    let mut password = |source: &PasswordSource| match source {
        PasswordSource::Passfile(path) | PasswordSource::File(path) => {
            needs.insert(path.clone());
        }
        PasswordSource::Default | PasswordSource::Env(_) => {}
    };
    house.policies.iter().for_each(|policy: &Policy| password(&policy.source.password));
    config.scratch.servers.values().for_each(|server| password(&server.password));
    for store in config.stores.values() {
        if let StorePlace::S3(bucket) = &store.place {
            let logins = [Some(&bucket.login), bucket.backup.as_ref(), bucket.prune.as_ref()];
            needs.extend(logins.into_iter().flatten().filter_map(|login| login.file.clone()));
        }
    }
    needs.into_iter().collect()
}

/// What stands where a server's fingerprint stands: there is none.
fn fingerprint(at: jiff::Timestamp) -> Fingerprint {
    Fingerprint {
        server: Server {
            system_identifier: "lifeboat-control-plane".to_owned(),
            version_num: 0,
            version: format!("lifeboat {}", env!("CARGO_PKG_VERSION")),
            data_checksums: false,
            in_recovery: false,
            timeline: 0,
            lsn: Lsn(0),
            clock: at,
            wal_segment_bytes: 0,
            settings: BTreeMap::new(),
        },
        roles: Vec::new(),
        tablespaces: Vec::new(),
        databases: Vec::new(),
        unseen: Vec::new(),
        changed_meanwhile: Vec::new(),
        shared: None,
    }
}
