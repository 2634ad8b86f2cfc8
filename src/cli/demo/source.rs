//! The demo's own PostgreSQL source: a throw-away server on a socket, which the demo will destroy.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::domain::check::Broke;
use crate::probe::Endpoint;
use crate::programs::Programs;
use crate::scratch;

/// A running server. Dropping it kills it.
pub struct Source {
    data: PathBuf,
    socket: PathBuf,
    postmaster: Option<Child>,
}

/// The superuser of the demo's source.
const SUPERUSER: &str = "dba";

impl Source {
    /// Makes a cluster in `folder` and starts it.
    pub async fn start(folder: &Path, programs: &Programs) -> Result<Source, Broke> {
        let (data, socket) = (folder.join("source"), folder.join("socket"));
        let (_, owner) = scratch::unprivileged("postgres")?;
        for dir in [&data, &socket] {
            let made = std::fs::DirBuilder::new().mode(0o700).create(dir).and_then(|()| match &owner {
                Some((uid, gid)) => chown(dir, Some(*uid), Some(*gid)),
                None => Ok(()),
            });
            made.map_err(|error| Broke::new(format!("{} could not be made: {error}", dir.display())))?;
        }
        let mut initdb = unprivileged(&programs.path("initdb"), owner);
        initdb.args(["--no-sync", "--data-checksums", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]);
        initdb.arg(format!("--username={SUPERUSER}")).arg("-D").arg(&data);
        let output = initdb.output().map_err(|error| Broke::new(format!("initdb does not run: {error}")))?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Broke::hinted(format!("initdb failed: {words}"), "is there room in the temporary folder?"));
        }
        let mut postgres = unprivileged(&programs.path("postgres"), owner);
        postgres.arg("-D").arg(&data).arg("-k").arg(&socket);
        // The demo's data are worth nothing: no fsync. (A real source must never run so.)
        for setting in ["listen_addresses=", "fsync=off", "max_wal_size=2GB", "shared_buffers=128MB"] {
            postgres.arg("-c").arg(setting);
        }
        let log = std::fs::File::create(folder.join("source.log"))
            .map_err(|error| Broke::new(format!("the source's log could not be made: {error}")))?;
        let postmaster = postgres.stderr(log).spawn().map_err(|error| Broke::new(format!("postgres: {error}")))?;
        let mut source = Source { data, socket, postmaster: Some(postmaster) };
        source.await_ready(folder).await?;
        Ok(source)
    }

    async fn await_ready(&mut self, folder: &Path) -> Result<(), Broke> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let Err(error) = self.endpoint("postgres").connect().await else { return Ok(()) };
            let ended = self.postmaster.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
            if ended || Instant::now() > deadline {
                let log = std::fs::read_to_string(folder.join("source.log")).unwrap_or_default();
                return Err(Broke::hinted(format!("the demo's source did not start: {error}"), log.trim().to_owned()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// How to get in.
    pub fn endpoint(&self, database: &str) -> Endpoint {
        Endpoint::socket(&self.socket, 5432, SUPERUSER, database)
    }

    /// The URL for a policy.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://{SUPERUSER}@/{database}?host={}", self.socket.display())
    }

    /// The disaster: kill -9, and its files are deleted.
    pub fn lose(&mut self) -> Result<(), Broke> {
        self.kill();
        // Its children notice that the postmaster is gone, and end within a moment.
        for _ in 0..50 {
            match std::fs::remove_dir_all(&self.data) {
                Ok(()) => return Ok(()),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
        Err(Broke::new(format!("{} could not be removed", self.data.display())))
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.postmaster.take() {
            // Nothing more can be done about a process that is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A command with a bare environment, as the user that servers run as.
fn unprivileged(program: &Path, owner: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    if let Some((uid, gid)) = owner {
        command.uid(uid).gid(gid);
    }
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A folder that the server's user can walk into, and nobody else's business.
pub fn open_to_walk(folder: &Path) -> Result<(), Broke> {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711))
        .map_err(|error| Broke::new(format!("{}: {error}", folder.display())))
}
