//! A working folder with a configuration that `lifeboat init` wrote, and the real binary.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::server::Server;

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Standard output as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Fails the test, with all that was said, unless the exit code is this one.
    #[track_caller]
    pub fn expect(self, code: i32) -> Ran {
        assert_eq!(self.code, code, "\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }
}

/// Runs a command to its end; the most memory that it ever had (`VmHWM` of proc_pid_status(5), the pages of its file among it) in
/// MiB, and its standard output.
#[track_caller]
pub fn peak(command: &mut Command, code: i32) -> (u64, String) {
    let out = tempfile::NamedTempFile::new().unwrap();
    let mut child = command.stdout(out.reopen().unwrap()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    let ended = loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let now = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        most = most.max(now.unwrap_or_default() / 1024);
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    };
    let said = std::fs::read_to_string(out.path()).unwrap();
    assert_eq!(ended.code(), Some(code), "{command:?}: {said}");
    assert!(most > 0, "the memory of {command:?} was never seen");
    (most, said)
}

/// A configured lifeboat for one source.
pub struct Home {
    pub folder: tempfile::TempDir,
}

/// The name of the policy.
pub const POLICY: &str = "orders";

impl Home {
    /// `lifeboat init` for a database of the server, with a scratch folder of its own.
    pub fn new(server: &Server, database: &str) -> Home {
        let home = Home::for_url(&server.url(database));
        if !server.bin_dirs.is_empty() {
            let dirs = format!("bin_dirs = {:?}", server.bin_dirs);
            home.edit_config(|text| text.replace("bin_dirs = []", &dirs));
        }
        home
    }

    /// The same, for any URL.
    pub fn for_url(url: &str) -> Home {
        let folder = tempfile::Builder::new().prefix("lb-home-").tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let home = Home { folder };
        home.run(&["init", url, "--policy", POLICY, "--dir", home.path().to_str().unwrap()]).expect(0);
        // Tests run side by side: each has a scratch folder of its own.
        let scratch = format!("[scratch]\ndir = \"{}\"", home.scratch().display());
        home.edit_config(|text| text.replace("[scratch]", &scratch));
        home
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of the store that init named.
    pub fn store(&self) -> PathBuf {
        self.path().join("store")
    }

    /// The folder of scratch clusters.
    pub fn scratch(&self) -> PathBuf {
        self.path().join("scratch")
    }

    /// Changes `lifeboat.toml`.
    pub fn edit_config(&self, change: impl FnOnce(String) -> String) {
        let file = self.path().join("lifeboat.toml");
        let before = std::fs::read_to_string(&file).unwrap();
        let after = change(before.clone());
        assert_ne!(before, after, "the change did not apply to {before}");
        std::fs::write(&file, after).unwrap();
    }

    /// From here on the catalog is on a server: schema `lifeboat`, with these further lines.
    pub fn use_catalog(&self, url: &str, more: &str) {
        self.edit_config(|text| {
            let lines = text.lines().filter(|line| !line.starts_with("path = \"lifeboat.db\""));
            let text = lines.collect::<Vec<_>>().join("\n");
            let text = text.replacen("[catalog]", &format!("[catalog]\nurl = \"{url}\"\n{more}"), 1);
            assert!(text.contains(url), "{text}");
            text + "\n"
        });
    }

    /// Changes the policy.
    pub fn edit_policy(&self, change: impl FnOnce(String) -> String) {
        let file = self.path().join(format!("policies/{POLICY}.toml"));
        let before = std::fs::read_to_string(&file).unwrap();
        let after = change(before.clone());
        assert_ne!(before, after, "the change did not apply to {before}");
        std::fs::write(&file, after).unwrap();
    }

    /// The command, ready to be changed and run.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("lifeboat"));
        command.args(args).current_dir(self.path()).stdin(Stdio::null());
        command.env_remove("LIFEBOAT_CONFIG").env_remove("RUST_LOG").env("NO_COLOR", "1");
        command
    }

    /// Runs the binary in the folder.
    pub fn run(&self, args: &[&str]) -> Ran {
        ran(&mut self.command(args))
    }

    /// A drill of our own, run by hand.
    pub fn write_drill(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(format!("drills/{name}.toml")), text).unwrap();
    }

    /// The folder of the newest backup in the store.
    pub fn newest_backup(&self) -> PathBuf {
        let mut found: Vec<PathBuf> = std::fs::read_dir(self.store().join(POLICY))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.join("manifest.json").is_file())
            .collect();
        found.sort();
        found.pop().expect("a backup")
    }
}

/// Runs a command to its end.
pub fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Every file below a folder; none if it is not there.
pub fn walk(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries
        .flatten()
        .flat_map(|entry| if entry.path().is_dir() { walk(&entry.path()) } else { vec![entry.path()] })
        .collect()
}
