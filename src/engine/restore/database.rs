//! A logical backup into a database.

use std::sync::Arc;

use super::choose::Chosen;
use super::{Done, Request, refuse_without_room};
use crate::backup::logical;
use crate::domain::artifact::{Manifest, StreamKind};
use crate::domain::check::{Broke, Stop};
use crate::domain::units::ByteSize;
use crate::probe::Endpoint;
use crate::programs::Programs;
use crate::progress::Progress;

pub(super) async fn restore(
    request: &Request,
    chosen: &Chosen,
    endpoint: &Endpoint,
    progress: &dyn Progress,
) -> Result<Done, Stop> {
    let (manifest, database) = only_one(&chosen.sealed.manifest, &endpoint.database, request.with_roles)?;
    let server = reach(endpoint).await?;
    let client = server.connect().await.map_err(Broke::from)?;
    let row = client.query_one("select current_setting('server_version_num')::int4 / 10000", &[]).await;
    let major = row.map_err(|error| Broke::new(format!("the server did not tell its version: {error}")))?;
    let major: i32 = major.get(0);
    // Its programs must be as new as the server, and as what wrote the dump.
    let major = u32::try_from(major).unwrap_or_default();
    let programs = Programs::for_dump(&request.bin_dirs, major, manifest.dumped_by(), &["pg_restore"]);
    let programs = programs.map_err(Broke::from)?;
    let work = tempfile::Builder::new().prefix("lifeboat-restore-").tempdir();
    let work =
        work.map_err(|error| Broke::hinted(format!("could not make a folder for the dump: {error}"), "see TMPDIR"))?;
    let bytes = manifest.streams.iter().map(|stream| stream.plain_bytes).sum();
    refuse_without_room(work.path(), ByteSize(bytes), "the dump, while it is restored,")?;
    let what = logical::PutBack {
        store: Arc::clone(&chosen.store),
        manifest: &manifest,
        opener: &request.opener,
        server,
        whole_server: false,
        with_roles: request.with_roles,
        rename: vec![(database, endpoint.database.clone())],
        work_dir: work.path().to_owned(),
        programs: &programs,
        wrap: Vec::new(),
        parallel: request.parallel,
        progress,
    };
    let facts = logical::put_back(&what).await?;
    let psql = format!(
        "psql -h {} -p {} -U {} -d {}",
        quoted(&endpoint.host),
        endpoint.port,
        quoted(&endpoint.user),
        quoted(&endpoint.database)
    );
    Ok(Done {
        target: endpoint.to_string(),
        pages: None,
        commands: vec![psql, format!("{}  # once, so that plans are good", "ANALYZE;")],
        warnings: facts.warnings,
        findings: Vec::new(),
    })
}

/// A word for a shell.
pub(super) fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/_.-:@".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// The backup's one dump that is meant: the only one, or that of the database's name.
fn only_one(manifest: &Manifest, name: &str, with_roles: bool) -> Result<(Manifest, String), Broke> {
    let names: Vec<&String> = manifest
        .streams
        .iter()
        .filter_map(|stream| match &stream.kind {
            StreamKind::Dump { database } => Some(database),
            StreamKind::Tar | StreamKind::Globals => None,
        })
        .collect();
    let database = match names.as_slice() {
        [only] => (*only).clone(),
        several if several.iter().any(|one| *one == name) => name.to_owned(),
        several => {
            let list = several.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(Broke::hinted(
                format!("the backup holds several databases ({list}) and none called {name}"),
                "name the database in the URL as it is called in the backup; bring it back under that name",
            ));
        }
    };
    let mut manifest = manifest.clone();
    manifest.streams.retain(|stream| match &stream.kind {
        StreamKind::Dump { database: name } => *name == database,
        StreamKind::Globals => with_roles,
        StreamKind::Tar => false,
    });
    Ok((manifest, database))
}

/// Why the database cannot be restored into, if it is there and somebody has put something into it.
pub(super) async fn unusable(endpoint: &Endpoint) -> Result<Option<Broke>, Broke> {
    let client = reach(endpoint).await?.connect().await.map_err(Broke::from)?;
    let there = client.query_opt("select 1 from pg_database where datname = $1", &[&endpoint.database]).await;
    match there.map_err(|error| Broke::new(format!("the server did not tell its databases: {error}")))? {
        None => Ok(None),
        Some(_) => logical::taken(&endpoint.connect().await.map_err(Broke::from)?, &endpoint.database).await,
    }
}

/// The server, in a database that is there.
async fn reach(endpoint: &Endpoint) -> Result<Endpoint, Broke> {
    let mut last = None;
    for database in ["postgres", "template1", endpoint.database.as_str()] {
        let there = endpoint.with_database(database);
        match there.connect().await {
            Ok(_) => return Ok(there),
            Err(error) => last = last.or(Some(error)),
        }
    }
    Err(last.map_or_else(|| Broke::new("the server cannot be reached"), Broke::from))
}
