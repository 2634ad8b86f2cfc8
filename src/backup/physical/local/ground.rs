//! Whether the source's data folder can be read here, and that it is the source's: proved, not believed.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_postgres::Client;

use super::super::page::{self, PAGE_BYTES};
use super::super::pages::{Again, Suspect};
use super::{control, file, mode};
use crate::domain::check::Broke;
use crate::domain::inventory::{Server, Tablespace};
use crate::domain::policy::ReadBy;
use crate::probe::Endpoint;
use crate::probe::endpoint::root_cause;

/// File systems that another machine can write to: what is read there need not be what the server wrote. (Magic numbers of
/// `statfs(2)`: NFS, SMB, SMB2, CIFS, FUSE, 9P, Ceph, AFS, GFS2, OCFS2.)
const SHARED_FILE_SYSTEMS: [u32; 10] = [
    0x6969,
    0x517B,
    0xFE53_4D42,
    0xFF53_4D42,
    0x6573_5546,
    0x0102_1997,
    0x00C3_6400,
    0x5346_414F,
    0x0116_1970,
    0x7461_636F,
];

/// A data folder that is the source's own.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The folder.
    pub data_dir: PathBuf,
    /// The folder inside of each tablespace that is this version's.
    pub version_folder: String,
    /// Tablespaces that were there before the backup began.
    pub tablespaces: BTreeSet<u32>,
    /// Bytes of a segment of the log.
    pub segment_bytes: u64,
    /// The server's major version.
    pub major: u32,
}

/// The folder, if the files are to be read from it; else why they are read from the server. `held`: the tag of the slot that
/// holds the log, by which the folder is known.
pub async fn choose(
    read: ReadBy,
    (client, endpoint): (&Client, &Endpoint),
    server: &Server,
    tablespaces: &[Tablespace],
    held: Option<&str>,
) -> Result<Result<Arc<Ground>, String>, Broke> {
    if read == ReadBy::Stream {
        return Ok(Err("the job says so".to_owned()));
    }
    match prove(client, endpoint, server, tablespaces, held).await {
        Ok(ground) => Ok(Ok(Arc::new(ground))),
        Err(why) if read == ReadBy::Local => Err(Broke::hinted(
            format!("the source's data folder cannot be read here, and the job says read = \"local\": {why}"),
            "mend that; or write read = \"auto\", which then reads over the replication protocol",
        )),
        Err(why) => Ok(Err(why)),
    }
}

async fn prove(
    client: &Client,
    endpoint: &Endpoint,
    server: &Server,
    tablespaces: &[Tablespace],
    held: Option<&str>,
) -> Result<Ground, String> {
    if server.in_recovery {
        return Err("the source is a standby".to_owned());
    }
    let tag = held.ok_or("the source has no replication slot by which its data folder could be known")?;
    let functions = mode::functions(server.major());
    let question = "select (select setting from pg_settings where name = 'data_directory'), \
        has_function_privilege($1::text, 'execute') and has_function_privilege($2::text, 'execute')";
    let asked = client.query_one(question, &[&functions[0], &functions[1]]).await;
    let row = asked.map_err(|error| format!("the source did not say where it is: {}", root_cause(&error)))?;
    if !row.get::<_, bool>(1) {
        let [start, stop] = functions;
        return Err(format!(
            "the role may not begin a backup: GRANT EXECUTE ON FUNCTION {start}, {stop} to it, in the policy's database"
        ));
    }
    let Some(data_dir) = row.get::<_, Option<String>>(0).map(PathBuf::from) else {
        return Err("the role may not ask where it is: GRANT pg_read_all_settings to it".to_owned());
    };
    let (shared_is_fine, tag, server) = (endpoint.is_socket(), tag.to_owned(), server.clone());
    let oids = tablespaces.iter().map(|one| one.oid).collect();
    let looking = tokio::task::spawn_blocking(move || look(data_dir, &tag, shared_is_fine, &server, oids));
    looking.await.map_err(|error| format!("the thread that looked at it died: {error}"))?
}

/// Paths are not said: the reason becomes a part of the manifest.
fn look(
    data_dir: PathBuf,
    tag: &str,
    shared_is_fine: bool,
    server: &Server,
    tablespaces: BTreeSet<u32>,
) -> Result<Ground, String> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => "its data folder is not on this machine".to_owned(),
        _ => format!("its data folder cannot be read by lifeboat's user: {error}"),
    };
    if !data_dir.is_absolute() {
        return Err("its data folder has no absolute path".to_owned());
    }
    std::fs::File::open(data_dir.join("PG_VERSION")).map_err(unreadable)?;
    std::fs::read_dir(&data_dir).map_err(unreadable)?;
    // A slot with a name of 64 random bits was made a moment ago: a folder that has it is that server's, and no copy of it.
    let slot = std::fs::symlink_metadata(data_dir.join(format!("pg_replslot/lifeboat_{tag}")));
    match slot {
        Ok(found) if found.is_dir() => {}
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(unreadable(error)),
        _ => return Err("the folder of that path on this machine is another server's".to_owned()),
    }
    let control = control::read(&data_dir).map_err(unreadable)?;
    if control.system_identifier.to_string() != server.system_identifier {
        return Err("the folder of that path on this machine is another cluster's".to_owned());
    }
    if !shared_is_fine && is_shared(&data_dir).map_err(unreadable)? {
        return Err("its data folder is on a shared file system, and the server may be on another machine".to_owned());
    }
    Ok(Ground {
        data_dir,
        version_folder: format!("PG_{}_{}", server.major(), control.catalog_version),
        tablespaces,
        segment_bytes: server.wal_segment_bytes,
        major: server.major(),
    })
}

fn is_shared(folder: &Path) -> io::Result<bool> {
    // The magic numbers have 32 bits; the field is as wide as a word of the machine.
    let kind = rustix::fs::statfs(folder)?.f_type as u32;
    Ok(SHARED_FILE_SYSTEMS.contains(&kind))
}

impl Ground {
    /// Where a member lies. The links of tablespaces are followed, as the server does.
    pub fn place(&self, path: &str) -> PathBuf {
        self.data_dir.join(path)
    }

    /// Reads suspect pages again, now that the backup is over.
    pub fn read_again(&self, suspects: &[Suspect]) -> Vec<Again> {
        suspects.iter().map(|suspect| self.read_one(suspect)).collect()
    }

    fn read_one(&self, suspect: &Suspect) -> Again {
        let Some(first) = page::first_block(&suspect.path) else { return Again::Unread };
        let block = first.wrapping_add(suspect.block_in_file as u32);
        // A file that is gone was dropped meanwhile, by a record in the log: what is in the backup stays a suspect.
        let Ok(file) = file::open(&self.place(&suspect.path)) else { return Again::Wrong };
        let mut bytes = [0; PAGE_BYTES];
        for _ in 0..3 {
            if file.read_exact_at(&mut bytes, suspect.block_in_file * PAGE_BYTES as u64).is_ok()
                && let right @ Again::Right(_) = Again::of(&bytes, block)
            {
                return right;
            }
        }
        Again::Wrong
    }
}
