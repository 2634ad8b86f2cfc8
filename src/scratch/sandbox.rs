//! What keeps a scratch server apart from the world: namespaces (a socket in a folder needs no network, so the machine's folders are
//! hidden too) and an unprivileged user. Tried at the moment it is needed
//! and recorded as it was seen, never as it was meant.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::domain::check::Broke;
use crate::domain::drill::IsolationDemand;
use crate::domain::transcript::Isolation;
use crate::programs::Programs;

/// Arguments that put a program into the sandbox, and what they were seen to give.
#[derive(Clone, Debug)]
pub(super) struct Sandbox {
    /// Goes before the program.
    pub wrap: Vec<OsString>,
    /// As seen.
    pub isolation: Isolation,
    /// Who owns the files, when lifeboat is root and the server is not.
    pub owner: Option<(u32, u32)>,
}

/// The user that servers run as when lifeboat is root: the configured one, else `postgres`, else `nobody`.
pub fn unprivileged(configured: &str) -> Result<(String, Option<(u32, u32)>), Broke> {
    let me = rustix::process::geteuid();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let users: Vec<(&str, u32, u32)> = passwd
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            Some((*fields.first()?, fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
        })
        .collect();
    if !me.is_root() {
        let name = users.iter().find(|user| user.1 == me.as_raw()).map(|user| user.0.to_owned());
        return Ok((name.unwrap_or_else(|| format!("uid {}", me.as_raw())), None));
    }
    let wanted: &[&str] =
        if configured.is_empty() { &["postgres", "nobody"] } else { &[configured, "postgres", "nobody"] };
    let found = wanted.iter().find_map(|name| users.iter().find(|user| user.0 == *name && user.1 != 0));
    let (name, uid, gid) = found.ok_or_else(|| {
        Broke::hinted(
            "lifeboat runs as root and there is no unprivileged user to run a scratch server as",
            "name one in lifeboat.toml: [scratch] user = \"…\"; or run lifeboat as an ordinary user",
        )
    })?;
    Ok(((*name).to_owned(), Some((*uid, *gid))))
}

/// A way to be apart.
struct Way {
    /// `unshare`'s arguments.
    args: &'static [&'static str],
    /// How it is called in reports.
    means: &'static str,
    /// Whether the host's files are hidden too. That needs a process namespace: `/proc/<pid>/root` of another process of the
    /// same user is a door to all of them.
    files: bool,
}

/// Ways to be apart, the strongest first.
const WAYS: [Way; 4] = [
    Way {
        args: &["-m", "-n", "-i", "-p", "--fork", "--kill-child", "--mount-proc"],
        means: "unshare -m -n -i -p",
        files: true,
    },
    Way {
        args: &["-n", "-i", "-p", "--fork", "--kill-child", "--mount-proc"],
        means: "unshare -n -i -p",
        files: false,
    },
    Way { args: &["-n", "-i"], means: "unshare -n -i", files: false },
    Way { args: &["-n"], means: "unshare -n", files: false },
];

/// Hides the host's files: whatever lies at the top but for the system's own folders is covered by an empty one, and so are shared
/// memory and lifeboat's own configuration. Then the folders to be kept (arguments up to `--`, the first is the one to work in) are
/// put back at their places (the first two can be written), through handles that were opened before; no handle and no working folder of before is left open. The rest
/// of the arguments is run.
const HIDE: &str = r#"set -e
umask 022
work=$1
last=3
while [ "$1" != -- ]; do
  eval "exec $last<\"\$1\"; kept$last=\$1"
  last=$((last + 1))
  shift
done
shift
for top in /* /.[!.]*; do
  [ -d "$top" ] && [ ! -L "$top" ] || continue
  case "$top" in
    /bin | /sbin | /lib* | /usr | /etc | /dev | /proc | /sys | /nix | /gnu) continue ;;
    /tmp) mount -t tmpfs -o mode=1777,size=64m tmpfs "$top" ;;
    *) mount -t tmpfs -o mode=0755,size=1m tmpfs "$top" ;;
  esac
done
[ ! -d /dev/shm ] || mount -t tmpfs -o mode=1777 tmpfs /dev/shm
[ ! -d /etc/lifeboat ] || mount -t tmpfs -o mode=0755,size=1m tmpfs /etc/lifeboat
at=3
while [ $at -lt $last ]; do
  eval "path=\$kept$at"
  mkdir -p "$path"
  mount -c --rbind "/proc/self/fd/$at" "$path"
  eval "exec $at<&-"
  # Programs and dictionaries are only read; the first two are the scratch's own.
  [ $at -lt 5 ] || mount -o remount,bind,ro "$path" 2>/dev/null || :
  at=$((at + 1))
done
cd "$work"
exec "$@"
"#;

/// What a hidden sandbox still sees beside the system's own folders: the scratch's, PostgreSQL's programs wherever they are, and
/// Debian's dictionaries.
fn kept(folders: &[&Path], programs: &Programs) -> Vec<PathBuf> {
    let mut kept: Vec<PathBuf> = folders.iter().map(|path| path.to_path_buf()).collect();
    let mut keep = |path: PathBuf| {
        if path.is_dir() && !SHOWN.iter().any(|shown| path.starts_with(shown)) && !kept.contains(&path) {
            kept.push(path);
        }
    };
    for bin in programs.folders().into_iter().filter_map(|(dir, _)| dir.canonicalize().ok()) {
        match bin.parent().filter(|above| is_installation(above)) {
            Some(above) => keep(above.to_owned()),
            None => {
                keep(bin.clone());
                for name in ["lib", "lib64", "share"] {
                    keep(bin.parent().map(|above| above.join(name)).unwrap_or_default());
                }
            }
        }
    }
    keep("/var/cache/postgresql".into());
    kept
}

/// Folders that [`HIDE`] leaves as they are.
const SHOWN: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/etc", "/nix", "/gnu"];
/// A shell's handles have one digit, and the first three are taken.
const KEPT_AT_MOST: usize = 7;

/// Whether a folder is one installation's and nothing else's, so that it may be shown as a whole.
fn is_installation(folder: &Path) -> bool {
    const PARTS: [&str; 9] = ["bin", "lib", "lib64", "share", "include", "doc", "man", "etc", "libexec"];
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().all(|entry| PARTS.iter().any(|part| entry.file_name() == *part))
}

/// The arguments of one way, without the program.
fn wrap(way: &Way, owner: Option<(u32, u32)>, drop_rights: &[OsString], kept: &[PathBuf]) -> Vec<OsString> {
    let mut wrap: Vec<OsString> = vec!["unshare".into()];
    if owner.is_none() {
        // Only root may mount, be it the root of a user namespace.
        wrap.push(if way.files { "-r" } else { "-c" }.into());
    }
    wrap.extend(way.args.iter().map(OsString::from));
    wrap.push("--".into());
    if way.files {
        wrap.extend(["sh".into(), "-c".into(), HIDE.into(), "sh".into()]);
        wrap.extend(kept.iter().map(|path| path.clone().into_os_string()));
        wrap.push("--".into());
        if owner.is_none() {
            // Back to being an ordinary user, who has no power over the namespaces around.
            let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            wrap.extend(["unshare".into(), "-U".into(), format!("--map-user={uid}").into()]);
            wrap.extend([format!("--map-group={gid}").into(), "--".into()]);
        }
    }
    wrap.extend(drop_rights.iter().cloned());
    if way.args.contains(&"--fork") {
        // Changing the user clears the signal that `--kill-child` asked the kernel for, so it is asked for again.
        wrap.extend(["--pdeathsig".into(), "KILL".into()]);
    }
    wrap.push("--".into());
    wrap
}

/// Tries a sandbox in a folder of its own below `dir`, as a drill would have it, and says what is really had. Nothing is left.
pub fn try_out(
    configured_user: &str,
    dir: &Path,
    programs: &Programs,
    demand: IsolationDemand,
) -> Result<Isolation, Broke> {
    let failed = |error: std::io::Error| {
        let hint = "name a folder that can be written: [scratch] dir";
        Broke::hinted(format!("no sandbox can be tried in {}: {error}", dir.display()), hint)
    };
    let (_, owner) = unprivileged(configured_user)?;
    let folder = tempfile::Builder::new().prefix(".lifeboat-check-").tempdir_in(dir).map_err(failed)?;
    if let Some((uid, gid)) = owner {
        std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid)).map_err(failed)?;
    }
    let place = folder.path().canonicalize().map_err(failed)?;
    probe(configured_user, &[&place, &place], programs, demand).map(|sandbox| sandbox.isolation)
}

/// Finds the strongest sandbox in which PostgreSQL's programs run and the first of `folders` can be written, by running something
/// in it. `folders` are the scratch's own, which stay visible. With isolation `required` there is but one way: network and files
/// both out of reach.
pub(super) fn probe(
    configured_user: &str,
    folders: &[&Path],
    programs: &Programs,
    demand: IsolationDemand,
) -> Result<Sandbox, Broke> {
    let (user, owner) = unprivileged(configured_user)?;
    let folder = folders.first().copied().unwrap_or(Path::new("/"));
    let mut drop_rights: Vec<OsString> = vec!["setpriv".into()];
    if let Some((uid, gid)) = owner {
        drop_rights.extend([format!("--reuid={uid}").into(), format!("--regid={gid}").into(), "--clear-groups".into()]);
    }
    drop_rights.push("--no-new-privs".into());
    let own = Namespaces::own();
    let kept = kept(folders, programs);
    let witness = Witness::make();
    let mut complaints = Vec::new();
    for way in WAYS.iter().filter(|way| way.files || demand != IsolationDemand::Required) {
        let means = way.means;
        if way.files && kept.len() > KEPT_AT_MOST {
            complaints.push(format!(
                "PostgreSQL's programs are spread over {} folders: too many to show",
                kept.len() - folders.len()
            ));
            continue;
        }
        let wrap = wrap(way, owner, &drop_rights, &kept);
        let seen = match look(&wrap, folder, programs, &witness) {
            Ok(seen) => seen,
            Err(why) => {
                complaints.push(format!("`{means}`: {why}"));
                continue;
            }
        };
        let processes = own.processes.is_some() && seen.namespaces.processes != own.processes;
        if !seen.alone || seen.namespaces.network == own.network {
            complaints.push(format!("`{means}` gave a network that is not empty"));
        } else if way.files && (!processes || seen.namespaces.mounts == own.mounts) {
            complaints.push(format!("`{means}` gave no files or processes of its own"));
        } else if let Some(socket) = seen.reachable.filter(|_| way.files) {
            complaints.push(format!("`{means}` leaves {socket} of this machine in reach"));
        } else {
            let means = format!("{means}{}, setpriv", if owner.is_none() { " in a user namespace" } else { "" });
            let isolation = Isolation { network: true, processes, files: way.files, user, means };
            return Ok(Sandbox { wrap, owner, isolation });
        }
    }
    if demand == IsolationDemand::Required {
        let why = complaints.first().map_or("", String::as_str);
        return Err(Broke::hinted(
            format!(
                "this machine gives a scratch no network and no files of its own ({why}), and the drill demands both"
            ),
            "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, or a container with CAP_SYS_ADMIN), or say isolation = \"preferred\" in the drill",
        ));
    }
    let mut bare = if owner.is_some() { drop_rights } else { Vec::new() };
    if owner.is_some() {
        bare.push("--".into());
    }
    look(&bare, folder, programs, &witness).map_err(|why| unusable(&why, folder, &user, programs))?;
    let means = if owner.is_some() { "setpriv only" } else { "none" }.to_owned();
    let isolation = Isolation { network: false, processes: false, files: false, user, means };
    Ok(Sandbox { wrap: bare, owner, isolation })
}

fn unusable(why: &str, folder: &Path, user: &str, programs: &Programs) -> Broke {
    Broke::hinted(
        format!("a scratch server cannot run here as user {user}: {why}"),
        format!(
            "user {user} must be able to reach {} ([scratch] dir) and run {}",
            folder.display(),
            programs.path("postgres").display()
        ),
    )
}

struct Seen {
    namespaces: Namespaces,
    /// The only interface is the loopback one.
    alone: bool,
    /// A socket of this machine that can be seen from in there; or that nothing could be tried.
    reachable: Option<String>,
}

/// The namespaces of a process, as far as they can be seen.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    pub network: Option<PathBuf>,
    pub processes: Option<PathBuf>,
    pub mounts: Option<PathBuf>,
}

impl Namespaces {
    /// Those of any process, by its folder in `/proc`.
    pub(super) fn of(proc: &Path) -> Namespaces {
        let read = |name: &str| std::fs::read_link(proc.join("ns").join(name)).ok();
        Namespaces { network: read("net"), processes: read("pid"), mounts: read("mnt") }
    }

    /// Those of lifeboat itself.
    pub(super) fn own() -> Namespaces {
        Namespaces::of(Path::new("/proc/self"))
    }
}

/// Sockets that must not be seen in a sandbox: one of our own, open to everybody, and every other that something on this machine
/// listens at.
struct Witness {
    own: Option<(tempfile::TempDir, std::os::unix::net::UnixListener)>,
    sockets: Vec<String>,
}

impl Witness {
    fn make() -> Witness {
        let mut sockets: Vec<String> = std::fs::read_to_string("/proc/net/unix")
            .unwrap_or_default()
            .lines()
            .filter(|line| line.split_whitespace().nth(3) == Some("00010000"))
            .filter_map(|line| line.find(" /").and_then(|at| line.get(at + 1..)).map(str::to_owned))
            .take(SOCKETS_TRIED)
            .collect();
        let make = |dir: &str| {
            let mut builder = tempfile::Builder::new();
            let open = std::fs::Permissions::from_mode(0o755);
            let folder = builder.prefix("lifeboat-seen-").permissions(open).tempdir_in(dir).ok()?;
            let path = folder.path().join("socket");
            let listener = std::os::unix::net::UnixListener::bind(&path).ok()?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).ok()?;
            Some((path.to_str()?.to_owned(), (folder, listener)))
        };
        let own = ["/tmp", "/var/tmp", "/run"].into_iter().find_map(make).map(|(path, own)| {
            sockets.insert(0, path);
            own
        });
        Witness { own, sockets }
    }
}

/// Most sockets of the machine that are tried.
const SOCKETS_TRIED: usize = 2000;

/// Runs a question in the sandbox: which namespaces it has, what its network holds, whether it can write and run, and which
/// of the machine's sockets it sees.
fn look(wrap: &[OsString], folder: &Path, programs: &Programs, witness: &Witness) -> Result<Seen, String> {
    const ASK: &str = r#"readlink /proc/self/ns/net && readlink /proc/self/ns/pid && readlink /proc/self/ns/mnt &&
        test -w "$1" && cd "$1" && "$2" --version >/dev/null && cat /proc/self/net/dev && shift 2 || exit 1
        for socket; do if test -S "$socket"; then echo "sees $socket"; fi; done"#;
    let mut words = wrap.iter().cloned().chain(["sh".into(), "-c".into(), ASK.into(), "sh".into()]);
    let Some(first) = words.next() else { return Err("nothing to run".to_owned()) };
    let output = Command::new(first)
        .args(words)
        .arg(folder)
        .arg(programs.path("postgres"))
        .args(&witness.sockets)
        .env_clear()
        .env("PATH", SANE_PATH)
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(match (words.is_empty(), text.lines().count()) {
            (true, 3) => format!("it may not write to {}", folder.display()),
            (true, _) => format!("it ended with {}", output.status),
            (false, _) => words,
        });
    }
    let mut lines = text.lines();
    let mut next = || lines.next().filter(|line| !line.is_empty()).map(PathBuf::from);
    let namespaces = Namespaces { network: next(), processes: next(), mounts: next() };
    let (sees, devices): (Vec<&str>, Vec<&str>) = lines.skip(2).partition(|line| line.starts_with("sees "));
    let alone = devices.iter().all(|line| line.trim_start().starts_with("lo:"));
    let reachable = match (&witness.own, sees.first()) {
        (_, Some(line)) => Some(line.trim_start_matches("sees ").to_owned()),
        (None, None) => Some("perhaps a socket (none could be made to try it)".to_owned()),
        (Some(_), None) => None,
    };
    Ok(Seen { namespaces, alone, reachable })
}

/// The `PATH` of everything that runs in a sandbox: nothing of the caller's.
pub(super) const SANE_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
