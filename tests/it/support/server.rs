//! A real PostgreSQL server for one test: own folder, socket only, ended by its own process id.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lifeboat::probe::Endpoint;
use lifeboat::programs::Programs;

/// How a server is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// `initdb --data-checksums`.
    pub checksums: bool,
    /// Further lines of `postgresql.conf`.
    pub conf: String,
    /// Further arguments of `initdb`.
    pub initdb: Vec<&'static str>,
    /// Listen on this loopback port too.
    pub tcp_port: Option<u16>,
    /// Environment of the server, when it is started again.
    pub env: Vec<(&'static str, String)>,
    /// A major version; none: the newest of this system. See [`super::majors::bin_dirs`].
    pub major: Option<u32>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            checksums: true,
            conf: String::new(),
            initdb: vec!["--locale=C.UTF-8"],
            tcp_port: None,
            env: vec![],
            major: None,
        }
    }
}

/// A running server; superuser `postgres`, no password over the socket.
pub struct Server {
    pub programs: Programs,
    pub data_dir: PathBuf,
    pub socket_dir: PathBuf,
    pub port: u16,
    /// What `[postgres] bin_dirs` must be, so that lifeboat finds programs for it.
    pub bin_dirs: Vec<PathBuf>,
    /// Environment that it is started with.
    pub env: Vec<(&'static str, String)>,
    postmaster: Option<Child>,
    _folder: tempfile::TempDir,
}

/// The user and group that servers run as: ourselves, or `postgres` (else `nobody`) when we are root.
pub fn unprivileged() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &str| {
        passwd.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields.first() == Some(&name)).then(|| (fields[2].parse().unwrap(), fields[3].parse().unwrap()))
        })
    };
    Some(find("postgres").or_else(|| find("nobody")).expect("a user to run the server as"))
}

/// A command that runs as the unprivileged user.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some((uid, gid)) = unprivileged() {
        command.uid(uid).gid(gid);
    }
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir("/");
    command
}

impl Server {
    /// A server with the defaults.
    pub fn start() -> Server {
        Server::start_with(Options::default())
    }

    /// A server made as said.
    pub fn start_with(options: Options) -> Server {
        let (bin_dirs, programs) = match options.major {
            None => (Vec::new(), Programs::newest(&[], &["initdb", "postgres", "pg_dump", "pg_basebackup"])),
            Some(major) => {
                let dirs = super::majors::bin_dirs(major).unwrap_or_else(|| panic!("PostgreSQL {major} is not here"));
                let wanted = ["initdb", "postgres", "pg_dump", "pg_basebackup", "psql"];
                let programs = Programs::for_server(&dirs, major, &wanted);
                (dirs, programs)
            }
        };
        let programs = programs.unwrap();
        let folder = tempfile::Builder::new().prefix("lb-test-").tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        if let Some((uid, gid)) = unprivileged() {
            chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let (data_dir, socket_dir) = (folder.path().join("data"), folder.path().join("socket"));
        for dir in [&data_dir, &socket_dir] {
            std::fs::create_dir(dir).unwrap();
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).unwrap();
            if let Some((uid, gid)) = unprivileged() {
                chown(dir, Some(uid), Some(gid)).unwrap();
            }
        }
        let mut initdb = command(&programs.path("initdb"));
        initdb.args(["--no-sync", "--username=postgres", "--auth=trust", "--encoding=UTF8", "-D"]).arg(&data_dir);
        initdb.args(&options.initdb);
        if options.checksums {
            initdb.arg("--data-checksums");
        } else if programs.major >= 18 {
            initdb.arg("--no-data-checksums");
        }
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let listen = options.tcp_port.map_or("''".to_owned(), |_| "'127.0.0.1'".to_owned());
        let port = options.tcp_port.unwrap_or(5432);
        let conf = format!(
            "\nlisten_addresses = {listen}\nport = {port}\nunix_socket_directories = '{}'\nfsync = off\nwal_level = replica\nmax_wal_senders = 10\nlog_min_messages = warning\n{}\n",
            socket_dir.display(),
            options.conf
        );
        let file = data_dir.join("postgresql.conf");
        let before = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, before + &conf).unwrap();
        let mut server = Server {
            programs,
            data_dir,
            socket_dir,
            port,
            bin_dirs,
            env: options.env.clone(),
            postmaster: None,
            _folder: folder,
        };
        server.launch();
        server
    }

    /// A server over a restored data folder beside another server's; not started yet. Its own socket comes by the command
    /// line, so that nothing in the folder need be changed.
    pub fn adopt(other: &Server, data_dir: PathBuf) -> Server {
        let folder = tempfile::Builder::new().prefix("lb-test-").tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let socket_dir = folder.path().join("socket");
        std::fs::create_dir(&socket_dir).unwrap();
        if let Some((uid, gid)) = unprivileged() {
            chown(&socket_dir, Some(uid), Some(gid)).unwrap();
        }
        let (programs, bin_dirs) = (other.programs.clone(), other.bin_dirs.clone());
        Server { programs, data_dir, socket_dir, port: 5432, bin_dirs, env: vec![], postmaster: None, _folder: folder }
    }

    /// Starts the postmaster again after [`Server::kill`].
    pub fn launch(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        self.spawn();
        loop {
            if std::os::unix::net::UnixStream::connect(self.socket_dir.join(format!(".s.PGSQL.{}", self.port))).is_ok()
                && self.try_sql("postgres", "select 1").is_ok()
            {
                return;
            }
            assert!(Instant::now() < deadline, "the server did not start: {}", self.log());
            // Children of a postmaster that was killed take a moment to notice; until then a new one refuses to start.
            let ended = self.postmaster.as_mut().is_none_or(|child| matches!(child.try_wait(), Ok(Some(_))));
            if ended && self.log().contains("shared memory block") {
                self.spawn();
            }
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    fn spawn(&mut self) {
        let log = std::fs::File::create(self.socket_dir.join("../server.log")).unwrap();
        let child = command(&self.programs.path("postgres"))
            .arg("-D")
            .arg(&self.data_dir)
            .arg("-k")
            .arg(&self.socket_dir)
            .args(["-p", &self.port.to_string()])
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.postmaster = Some(child);
    }

    /// What the server logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.socket_dir.join("../server.log")).unwrap_or_default()
    }

    /// kill -9 of the postmaster.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.postmaster.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// kill -9 of all its processes at once, as when the machine dies.
    pub fn kill_hard(&mut self) {
        let Some(mut child) = self.postmaster.take() else { return };
        let parent = child.id().to_string();
        let children = Command::new("pgrep").args(["-P", &parent]).output().unwrap();
        let children = String::from_utf8_lossy(&children.stdout).into_owned();
        let status = Command::new("kill").arg("-9").arg(&parent).args(children.split_whitespace()).status();
        // One of them may have ended by itself meanwhile.
        assert!(status.is_ok() && !children.is_empty());
        child.wait().unwrap();
    }

    /// Every process of it: the postmaster and its children.
    fn processes(&self) -> Vec<String> {
        let Some(child) = &self.postmaster else { return Vec::new() };
        let parent = child.id().to_string();
        let children = Command::new("pgrep").args(["-P", &parent]).output().unwrap();
        let children = String::from_utf8_lossy(&children.stdout).into_owned();
        std::iter::once(parent.as_str()).chain(children.split_whitespace()).map(str::to_owned).collect()
    }

    fn signal_all(&self, signal: &str) {
        // A process may have ended by itself meanwhile.
        let _ = Command::new("kill").arg(signal).args(self.processes()).stderr(Stdio::null()).status();
    }

    /// SIGSTOP of all its processes: it takes connections, and answers nothing.
    pub fn pause(&self) {
        self.signal_all("-STOP");
        // One that was forked meanwhile is a child now.
        self.signal_all("-STOP");
    }

    /// SIGCONT after [`Server::pause`].
    pub fn resume(&self) {
        self.signal_all("-CONT");
    }

    /// kill -9, and the data folder is gone.
    pub fn destroy(&mut self) {
        self.kill();
        std::thread::sleep(Duration::from_millis(100));
        std::fs::remove_dir_all(&self.data_dir).unwrap();
    }

    /// A connection URL for policies.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@/{database}?host={}&port={}", self.socket_dir.display(), self.port)
    }

    /// How to get in, as superuser.
    pub fn endpoint(&self, database: &str) -> Endpoint {
        Endpoint::socket(&self.socket_dir, self.port, "postgres", database)
    }

    /// Runs SQL with psql; gives what it prints (unaligned, tuples only).
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The same, and an error is the caller's business.
    pub fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let output = command(&self.programs.path("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"])
            .arg(&self.socket_dir)
            .args(["-p", &self.port.to_string(), "-d", database, "-c", sql])
            .output()
            .unwrap();
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.resume();
        if let Some(child) = &mut self.postmaster {
            // SIGINT first (fast shutdown), so that its children go too; then make sure.
            if let Some(pid) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
            }
            let deadline = Instant::now() + Duration::from_secs(5);
            while Instant::now() < deadline {
                if matches!(child.try_wait(), Ok(Some(_))) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            self.kill();
        }
    }
}
