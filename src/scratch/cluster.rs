//! The kind `cluster`: an own server in an own folder.
//!
//! ```text
//! <scratch.dir>/lifeboat-<run>/   0700, the server's user
//!   maker                         which process made it
//!   data/                         the data folder
//!   s/                            the socket (elsewhere, when its path would be too long; `socket_folder` says where)
//!   work/                         dumps while they are restored
//!   server.log
//! ```

use std::ffi::OsStr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::sandbox::{Namespaces, SANE_PATH, Sandbox};
use super::{Recovery, Started, conf, connect, process, sandbox, startup};
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::config::ScratchConfig;
use crate::domain::drill::IsolationDemand;
use crate::domain::ids::RunId;
use crate::domain::inventory::Fingerprint;
use crate::probe::Endpoint;
use crate::programs::Programs;

/// The socket's path is part of a fixed array of 108 bytes in the kernel's interface; PostgreSQL refuses from 107 on.
const SOCKET_PATH_BYTES: usize = 100;
/// A server that neither ends, nor answers, nor writes to its log for so long has hung. It logs every few seconds while it replays.
const SILENCE: Duration = Duration::from_secs(3600);
/// A server that was started and is not seen among the processes for so long is not waited for any more.
const UNSEEN: Duration = Duration::from_secs(20);

/// An own server.
#[derive(Debug)]
pub(super) struct Cluster {
    pub name: String,
    /// Canonical.
    pub folder: PathBuf,
    pub data_dir: PathBuf,
    socket_dir: PathBuf,
    pub sandbox: Sandbox,
    demand: IsolationDemand,
    programs: Programs,
    preload: Vec<String>,
    fresh: bool,
    child: Option<Child>,
    server: Option<Endpoint>,
    gone: bool,
}

fn failed(doing: &str, path: &Path, error: &std::io::Error) -> Broke {
    Broke::hinted(
        format!("could not {doing} {}: {error}", path.display()),
        "see whether the folder of scratches ([scratch] dir) exists, can be written and has room",
    )
}

/// Says in a scratch's folder which process made it.
pub(super) fn note_maker(folder: &Path) -> Result<(), Broke> {
    let (me, path) = (std::process::id(), folder.join("maker"));
    let text = format!("{me} {}\n", process::started(me).unwrap_or_default());
    std::fs::write(&path, text).map_err(|error| failed("write", &path, &error))
}

fn make_private(path: &Path, owner: Option<(u32, u32)>) -> Result<(), Broke> {
    let made = std::fs::DirBuilder::new().mode(0o700).create(path);
    made.map_err(|error| failed("make", path, &error))?;
    match owner {
        Some((uid, gid)) => chown(path, Some(uid), Some(gid)).map_err(|error| failed("give away", path, &error)),
        None => Ok(()),
    }
}

impl Cluster {
    pub(super) fn provision(
        run: RunId,
        config: &ScratchConfig,
        programs: &Programs,
        demand: IsolationDemand,
    ) -> Result<Cluster, Broke> {
        let name = run.scratch_name();
        if !config.dir.is_dir() {
            // Others must be able to pass through it: the server runs as another user than root.
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&config.dir);
            made.map_err(|error| failed("make", &config.dir, &error))?;
        }
        let dir = config.dir.canonicalize().map_err(|error| failed("find", &config.dir, &error))?;
        let (user, owner) = sandbox::unprivileged(&config.user)?;
        let folder = dir.join(&name);
        make_private(&folder, owner)?;
        let mut cluster = Cluster {
            data_dir: folder.join("data"),
            socket_dir: folder.join("s"),
            sandbox: Sandbox {
                wrap: Vec::new(),
                owner,
                isolation: crate::domain::transcript::Isolation { user, ..Default::default() },
            },
            demand,
            programs: programs.clone(),
            preload: config.preload.clone(),
            fresh: false,
            child: None,
            server: None,
            gone: false,
            name,
            folder,
        };
        // From here on the folder is removed again when anything fails: by Drop.
        note_maker(&cluster.folder)?;
        if cluster.socket_dir.as_os_str().len() + "/.s.PGSQL.5432".len() > SOCKET_PATH_BYTES {
            cluster.socket_dir = PathBuf::from("/tmp").join(&cluster.name);
            // Written first, so that a kill in between leaves nothing that the sweep does not know.
            cluster.note("socket_folder", &cluster.socket_dir.display().to_string())?;
        }
        make_private(&cluster.socket_dir, owner)?;
        let folders = [cluster.folder.as_path(), cluster.socket_dir.as_path()];
        cluster.sandbox = sandbox::probe(&config.user, &folders, programs, demand)?;
        make_private(&cluster.data_dir, owner)?;
        make_private(&cluster.work_dir(), owner)?;
        Ok(cluster)
    }

    fn note(&self, name: &str, text: &str) -> Result<(), Broke> {
        let path = self.folder.join(name);
        std::fs::write(&path, text).map_err(|error| failed("write", &path, &error))
    }

    pub(super) fn work_dir(&self) -> PathBuf {
        self.folder.join("work")
    }

    /// A program in the sandbox: nothing of the caller's environment, working in the scratch folder.
    fn program(&self, name: &str) -> Command {
        let program = self.programs.path(name).into_os_string();
        let mut words = self.sandbox.wrap.iter().map(|word| word.as_os_str()).chain([program.as_os_str()]);
        let mut command = Command::new(words.next().unwrap_or(OsStr::new("false")));
        command.args(words).env_clear().env("PATH", SANE_PATH).env("LC_ALL", "C").env("TZ", "UTC");
        command.current_dir(&self.folder).stdin(Stdio::null());
        // A terminal's Ctrl-C is for lifeboat, which then ends its server in good order.
        command.process_group(0);
        command
    }

    pub(super) async fn prepare_empty(&mut self, fingerprint: &Fingerprint) -> Result<(), Broke> {
        let superuser = connect::superusers(fingerprint).into_iter().next().unwrap_or_else(|| "postgres".to_owned());
        let mut initdb = self.program("initdb");
        // Every database is made from template0 with its own encoding and locale; these are only the cluster's defaults.
        initdb.args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C"]);
        if self.programs.major >= 14 {
            initdb.arg("--no-instructions");
        }
        initdb.arg(format!("--username={superuser}")).arg("--pgdata").arg(&self.data_dir);
        if fingerprint.server.data_checksums {
            initdb.arg("--data-checksums");
        } else if self.programs.major >= 18 {
            initdb.arg("--no-data-checksums");
        }
        let megabytes = fingerprint.server.wal_segment_bytes >> 20;
        if megabytes.is_power_of_two() && megabytes <= 1024 {
            initdb.arg(format!("--wal-segsize={megabytes}"));
        }
        let output = tokio::task::spawn_blocking(move || initdb.output()).await;
        let output = output.map_err(|error| Broke::new(error.to_string()))?;
        let output = output.map_err(|error| failed("run initdb for", &self.data_dir, &error))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said
                .lines()
                .find(|line| line.contains("error"))
                .or(said.lines().next())
                .unwrap_or("no reason given")
                .to_owned();
            return Err(Broke::hinted(
                format!("initdb could not make an empty cluster: {said}"),
                "run it by hand as the scratch's user and see",
            ));
        }
        self.fresh = true;
        Ok(())
    }

    pub(super) async fn start(
        &mut self,
        fingerprint: &Fingerprint,
        recovery: Option<Recovery>,
    ) -> Result<Started, Stop> {
        if self.child.is_some() {
            return Err(Broke::new("the scratch server runs already").into());
        }
        let major = self.programs.major;
        let mut conf = conf::compose(&fingerprint.server, major, &self.socket_dir, &self.preload, self.fresh);
        conf.text.extend(recovery.as_ref().map(conf::replaying));
        conf::write(&self.data_dir, &conf, self.sandbox.owner)
            .and_then(|()| if recovery.is_some() { conf::signal(&self.data_dir, self.sandbox.owner) } else { Ok(()) })
            .map_err(|error| failed("write the configuration into", &self.data_dir, &error))?;
        let log = self.folder.join("server.log");
        let options = || std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&log);
        let (out, err) = (options(), options());
        let mut command = self.program("postgres");
        command.arg("-D").arg(&self.data_dir);
        command.stdout(out.map_err(|error| failed("write", &log, &error))?);
        command.stderr(err.map_err(|error| failed("write", &log, &error))?);
        let child = command.spawn().map_err(|error| failed("run the server of", &self.data_dir, &error))?;
        self.child = Some(child);

        let libraries = fingerprint.server.settings.get("shared_preload_libraries").cloned().unwrap_or_default();
        let same_major = fingerprint.server.major() == major;
        let server = self.await_server(fingerprint, &log, same_major, &libraries).await?;
        let restore_command = if recovery.is_some() { conf::NOWHERE_ELSE } else { "" };
        let said = startup::tail(&log);
        let mut started = connect::look(&server, &said, restore_command).await?;
        if let Some(until) = recovery.and_then(|recovery| recovery.until) {
            started.stopped_before = Some(startup::stopped_at(&said, until, started.last_replayed)?);
        }
        connect::every_database(&server).await?;
        if !conf.taken.is_empty() {
            started.facts.push(format!("settings taken over from the source: {}", conf.taken.join(", ")));
        }
        self.server = Some(server);
        Ok(started)
    }

    /// Waits for the server's own word: that it takes connections and is not in recovery any more. pg_ctl's word is not asked.
    async fn await_server(
        &mut self,
        fingerprint: &Fingerprint,
        log: &Path,
        same_major: bool,
        libraries: &str,
    ) -> Result<Endpoint, Stop> {
        let mut ways = connect::ways(fingerprint, &self.socket_dir);
        let began = Instant::now();
        let mut last_sign = (began, String::new());
        let mut refused = Vec::new();
        let mut isolation_seen = false;
        loop {
            let ended = self.child.as_mut().map(Child::try_wait).transpose();
            if let Some(status) = ended.map_err(|error| Broke::new(error.to_string()))?.flatten() {
                self.child = None;
                tracing::debug!(%status, "the scratch server ended while starting");
                return Err(startup::last_words(&startup::tail(log), same_major, libraries));
            }
            // Before the first connection: nothing is asked of a server that is not as it should be.
            if !isolation_seen {
                isolation_seen = self.see_isolation(began.elapsed() > UNSEEN)?;
            }
            if !isolation_seen {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            if let Some(way) = ways.first().cloned() {
                match connect::attempt(&way).await {
                    connect::Answer::Ready => return Ok(way),
                    connect::Answer::NotYet => {}
                    connect::Answer::NotThisWay(why) => {
                        refused.push(why);
                        ways.remove(0);
                        continue;
                    }
                    connect::Answer::Never(stop) => return Err(stop),
                }
            } else {
                refused.dedup();
                return Err(Broke::hinted(
                    format!("no superuser of the restored server can log in ({})", refused.join("; ")),
                    "a drill asks its questions as a superuser: give one of the source's superusers LOGIN",
                )
                .into());
            }
            let sign = last_line(log);
            if sign != last_sign.1 {
                last_sign = (Instant::now(), sign);
            } else if last_sign.0.elapsed() > SILENCE {
                let minutes = SILENCE.as_secs() / 60;
                let error = format!("the scratch server neither answers nor logs anything for {minutes} minutes");
                return Err(Broke::hinted(error, format!("see {} while it runs", log.display())).into());
            }
            // Each try leaves a line in the log: seldom, when the replay is long.
            let pause = (began.elapsed() / 20).clamp(Duration::from_millis(20), Duration::from_millis(500));
            tokio::time::sleep(pause).await;
        }
    }

    /// Looks at the namespaces of the very server that runs, and records them; `false`: there is no server yet. A server that was
    /// to be apart and is not is not used.
    fn see_isolation(&mut self, last_chance: bool) -> Result<bool, Broke> {
        let servers = process::inside(&self.folder);
        let servers = servers.iter().filter(|process| process.program == "postgres");
        let theirs: Vec<Namespaces> =
            servers.map(|process| Namespaces::of(&PathBuf::from(format!("/proc/{}", process.pid)))).collect();
        if theirs.is_empty() && !last_chance {
            return Ok(false);
        }
        let own = Namespaces::own();
        let apart = |of: fn(&Namespaces) -> &Option<PathBuf>| {
            let other = |one: &Namespaces| of(one).is_some() && of(one) != of(&own);
            of(&own).is_some() && !theirs.is_empty() && theirs.iter().all(other)
        };
        let isolation = &mut self.sandbox.isolation;
        isolation.network = apart(|one| &one.network);
        isolation.processes = apart(|one| &one.processes);
        isolation.files = isolation.files && isolation.processes && apart(|one| &one.mounts);
        if self.demand == IsolationDemand::Required && !(isolation.network && isolation.files) {
            return Err(Broke::hinted(
                "the scratch server shares this machine's network or files, though it was started apart from them",
                "nothing was asked of it, and it is ended; see `lsns`",
            ));
        }
        Ok(true)
    }

    pub(super) fn server(&self) -> Result<Endpoint, Broke> {
        self.server.clone().ok_or_else(|| Broke::new("the scratch server was not started"))
    }

    /// Ends the server and removes the folder. Blocking.
    pub(super) fn remove(&mut self) -> Result<(), Broke> {
        if self.gone {
            return Ok(());
        }
        self.server = None;
        process::ask_to_end(&self.folder);
        if let Some(child) = &mut self.child {
            let deadline = Instant::now() + Duration::from_secs(5);
            while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let left = process::kill_all(&self.folder, Duration::from_secs(10));
        if let Some(mut child) = self.child.take() {
            // Its own child: killing what has ended is an error that does not matter, waiting for it is what does.
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(process) = left.first() {
            return Err(Broke::hinted(
                format!("process {} ({}) of scratch {} does not end", process.pid, process.program, self.name),
                "end it by hand; the next start sweeps the folder",
            ));
        }
        remove_folder(&self.folder)?;
        self.gone = true;
        Ok(())
    }
}

/// The last line of a server's log that is not an answer to our own knocking.
fn last_line(log: &Path) -> String {
    let tail = startup::tail(log);
    tail.lines().rev().find(|line| !line.contains("the database system is")).unwrap_or_default().to_owned()
}

/// Removes a scratch folder and the socket folder that it names, and looks that both are gone.
pub(super) fn remove_folder(folder: &Path) -> Result<(), Broke> {
    let name = folder.file_name().unwrap_or_default();
    let elsewhere = Path::new("/tmp").join(name);
    if std::fs::read_to_string(folder.join("socket_folder")).is_ok_and(|text| Path::new(text.trim()) == elsewhere) {
        remove_all(&elsewhere)?;
    }
    remove_all(folder)
}

fn remove_all(folder: &Path) -> Result<(), Broke> {
    let mut last = None;
    // A process that was just killed may still let go of a file.
    for _ in 0..20 {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => last = Some(error),
            _ => {}
        }
        if std::fs::symlink_metadata(folder).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let why = last.map_or("it is still there".to_owned(), |error| error.to_string());
    Err(Broke::hinted(
        format!("the scratch folder {} could not be removed: {why}", folder.display()),
        "it holds a copy of production data: remove it by hand",
    ))
}

impl Drop for Cluster {
    /// For a panic or a cancelled future: whoever calls `destroy` gets to know how it went.
    fn drop(&mut self) {
        if let Err(broke) = self.remove() {
            tracing::error!(scratch = %self.name, "{broke}");
        }
    }
}

/// The finding for a database that cannot be opened.
pub(super) fn unusable_database(name: &str, code: &'static str, why: &str) -> Finding {
    Finding::new(code, format!("database {name}"), format!("the restored database cannot be opened: {why}"))
}
