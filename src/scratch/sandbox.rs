//! What keeps a scratch server apart from the world: namespaces and an unprivileged user. Tried at the moment it is needed
//! and recorded as it was seen, never as it was meant.

use std::ffi::OsString;
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

/// Ways to be apart, the strongest first: `unshare`'s arguments, and how it is called in reports.
fn ways() -> [(&'static [&'static str], &'static str); 3] {
    [
        (&["-n", "-i", "-p", "--fork", "--kill-child", "--mount-proc"], "unshare -n -i -p"),
        (&["-n", "-i"], "unshare -n -i"),
        (&["-n"], "unshare -n"),
    ]
}

/// Finds the strongest sandbox in which PostgreSQL's programs run and `folder` can be written, by running something in it.
pub(super) fn probe(
    configured_user: &str,
    folder: &Path,
    programs: &Programs,
    demand: IsolationDemand,
) -> Result<Sandbox, Broke> {
    let (user, owner) = unprivileged(configured_user)?;
    let drop_rights: Vec<OsString> = match owner {
        Some((uid, gid)) => {
            // Changing the user clears the signal that `--kill-child` asked the kernel for, so it is asked for again.
            let mut args: Vec<OsString> = vec!["setpriv".into()];
            args.extend([format!("--reuid={uid}").into(), format!("--regid={gid}").into(), "--clear-groups".into()]);
            args.push("--no-new-privs".into());
            args
        }
        None => vec!["setpriv".into(), "--no-new-privs".into()],
    };
    let own = own_namespaces();
    let mut complaints = Vec::new();
    for (args, means) in ways() {
        let forks = args.contains(&"--fork");
        let mut wrap: Vec<OsString> = vec!["unshare".into()];
        if owner.is_none() {
            wrap.push("-c".into());
        }
        wrap.extend(args.iter().map(OsString::from));
        wrap.push("--".into());
        wrap.extend(drop_rights.iter().cloned());
        if forks {
            wrap.extend(["--pdeathsig".into(), "KILL".into()]);
        }
        wrap.push("--".into());
        match look(&wrap, folder, programs) {
            Ok(seen) if seen.alone && Some(&seen.network) != own.0.as_ref() => {
                let processes = own.1.is_some() && Some(&seen.processes) != own.1.as_ref();
                let means = format!("{means}{}, setpriv", if owner.is_none() { " -c" } else { "" });
                return Ok(Sandbox { wrap, owner, isolation: Isolation { network: true, processes, user, means } });
            }
            Ok(_) => complaints.push(format!("`{means}` gave a network that is not empty")),
            Err(why) => complaints.push(format!("`{means}`: {why}")),
        }
    }
    if demand == IsolationDemand::Required {
        let why = complaints.first().map_or("", String::as_str);
        return Err(Broke::hinted(
            format!("this machine gives a scratch no network of its own ({why}), and the drill demands it"),
            "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, or a container with CAP_SYS_ADMIN), or say isolation = \"preferred\" in the drill",
        ));
    }
    let mut bare = if owner.is_some() { drop_rights } else { Vec::new() };
    if owner.is_some() {
        bare.push("--".into());
    }
    look(&bare, folder, programs).map_err(|why| unusable(&why, folder, &user, programs))?;
    let means = if owner.is_some() { "setpriv only" } else { "none" }.to_owned();
    Ok(Sandbox { wrap: bare, owner, isolation: Isolation { network: false, processes: false, user, means } })
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
    network: PathBuf,
    processes: PathBuf,
    /// The only interface is the loopback one.
    alone: bool,
}

/// Runs a question in the sandbox: which namespaces it has, what its network holds, whether it can write and run.
fn look(wrap: &[OsString], folder: &Path, programs: &Programs) -> Result<Seen, String> {
    const ASK: &str = "readlink /proc/self/ns/net && readlink /proc/self/ns/pid && test -w \"$1\" && cd \"$1\" && \"$2\" --version >/dev/null && cat /proc/self/net/dev";
    let mut words = wrap.iter().cloned().chain(["sh".into(), "-c".into(), ASK.into(), "sh".into()]);
    let Some(first) = words.next() else { return Err("nothing to run".to_owned()) };
    let output = Command::new(first)
        .args(words)
        .arg(folder)
        .arg(programs.path("postgres"))
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
            (true, 2) => format!("it may not write to {}", folder.display()),
            (true, _) => format!("it ended with {}", output.status),
            (false, _) => words,
        });
    }
    let mut lines = text.lines();
    let mut next = || PathBuf::from(lines.next().unwrap_or_default());
    let (network, processes) = (next(), next());
    let alone = lines.skip(2).all(|line| line.trim_start().starts_with("lo:"));
    Ok(Seen { network, processes, alone })
}

fn own_namespaces() -> (Option<PathBuf>, Option<PathBuf>) {
    (std::fs::read_link("/proc/self/ns/net").ok(), std::fs::read_link("/proc/self/ns/pid").ok())
}

/// The `PATH` of everything that runs in a sandbox: nothing of the caller's.
pub(super) const SANE_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
