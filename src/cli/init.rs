//! `lifeboat init`: a first configuration that runs, with keys of its own.

mod control_plane;
mod heartbeat;
mod store;

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Cli, Exit, Failure, Output, output};
use crate::domain::check::Broke;
use crate::domain::ids::PolicyName;
use crate::load;
use crate::probe::Endpoint;
use crate::seal;

/// The drills that `init` writes are the shipped ones.
const RESTORE_LATEST: &str = include_str!("../../drills/restore-latest.toml");
const RESTORE_LOGICAL: &str = include_str!("../../drills/restore-logical.toml");
const CONFIG: &str = include_str!("init/lifeboat.toml");
const POLICY: &str = include_str!("init/policy.toml");

/// The policy's source when no URL is given: the local server, as its superuser.
const LOCAL: &str = "postgresql://postgres@/postgres?host=/var/run/postgresql";

/// The first store's folder, beside the configuration.
const STORE: &str = "store";

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The database to protect: a connection URL without a password.
    #[arg(value_name = "URL", conflicts_with = "url")]
    source: Option<String>,
    /// The same.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Where to write.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// The policy's name [default: the database's].
    #[arg(long, value_name = "NAME")]
    policy: Option<PolicyName>,
    /// The first store: a folder, or a bucket as s3://BUCKET/PREFIX?region=…&endpoint=… (docs/s3.md); paths are read from the folder of the configuration.
    #[arg(long, value_name = "DIR|URL", default_value = STORE)]
    store: PathBuf,
    /// Write nothing; make the heartbeat's table in the source of a policy that is there already (--policy, or the only one).
    #[arg(long, conflicts_with_all = ["source", "url", "dir", "store"])]
    heartbeat: bool,
    /// Add a policy and a drill for lifeboat itself, its catalog and its configuration, to the configuration that is there (--config); the recipients
    /// and the store are those of --policy, or of the first one.
    #[arg(long, conflicts_with_all = ["source", "url", "dir", "store", "heartbeat"])]
    control_plane: bool,
}

/// A file to be written: its path from the folder, its text, and whether only its owner may read it.
struct NewFile {
    path: String,
    text: String,
    private: bool,
}

/// Runs the verb.
pub async fn run(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    if args.heartbeat {
        return heartbeat::make(cli, args.policy.as_ref()).await;
    }
    if args.control_plane {
        return control_plane::make(cli, args.policy.as_ref());
    }
    let url = args.source.as_deref().or(args.url.as_deref()).unwrap_or(LOCAL);
    let policy = match &args.policy {
        Some(name) => name.clone(),
        None => {
            let endpoint = Endpoint::parse(url).map_err(|error| Failure::usage(Broke::from(error)))?;
            name_after(&endpoint.database)?
        }
    };
    let written = write(&args.dir, url, policy.as_str(), Some(&args.store))?;
    report(cli, args, &policy, &written);
    Ok(Exit::Ok)
}

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// Paths from the folder.
    pub files: Vec<String>,
    /// What the loader says about it.
    pub warnings: Vec<String>,
}

/// Writes a configuration, a policy for the database of `url` (a connection URL without a password), the shipped drills and
/// fresh keys into `dir`; `store` is the first store's folder or a bucket's URL, `store` beside the configuration if none is said. Everything
/// is written or nothing, and nothing that exists is replaced.
pub fn write(dir: &Path, url: &str, policy: &str, store: Option<&Path>) -> Result<Written, Failure> {
    Endpoint::parse(url).map_err(|error| Failure::usage(Broke::from(error)))?;
    let policy: PolicyName = policy.parse().map_err(|error: crate::domain::ids::BadId| {
        Failure::usage(Broke::hinted(error.to_string(), "choose another with --policy NAME"))
    })?;
    let store = store.map_or(Some(STORE), Path::to_str).filter(|path| !path.is_empty()).ok_or_else(|| {
        Failure::usage(Broke::hinted("the store's path is empty or not UTF-8", "name another folder with --store"))
    })?;
    let store = &store::First::read(store).map_err(Failure::usage)?;
    // What exists is told before anything is made, keys included.
    let paths = files(&policy, url, store, &Keys::default()).into_iter().map(|file| file.path);
    let existing: Vec<String> = paths.filter(|path| dir.join(path).symlink_metadata().is_ok()).collect();
    if !existing.is_empty() {
        let list = existing.join(", ");
        let error = format!("these files are already in {}: {list}; nothing was written", dir.display());
        let hint = "choose another folder with --dir, or move them away; `lifeboat init` never replaces anything";
        return Err(Failure::usage(Broke::hinted(error, hint)));
    }
    let files = files(&policy, url, store, &Keys::generate()?);
    write_all(dir, &files).map_err(Failure::usage)?;
    let loaded = load::load(&dir.join("lifeboat.toml")).map_err(|errors| Failure {
        exit: Exit::Error,
        text: format!("what is in {} now does not load: {}", dir.display(), errors.render(false)),
        hint: Some(
            "files that were there before may be the cause; else this is a fault of lifeboat: report it".to_owned(),
        ),
    })?;
    Ok(Written { files: files.into_iter().map(|file| file.path).collect(), warnings: loaded.warnings })
}

fn name_after(database: &str) -> Result<PolicyName, Failure> {
    load::slug(database).parse().map_err(|_| {
        let error = format!("no policy name can be made of the database's name `{database}`");
        Failure::usage(Broke::hinted(error, "choose one with --policy NAME"))
    })
}

/// Fresh keys, as texts.
#[derive(Default)]
struct Keys {
    working: (String, String),
    escrow: (String, String),
    signing: (String, String),
}

impl Keys {
    fn generate() -> Result<Keys, Failure> {
        Ok(Keys {
            working: seal::generate_identity(),
            escrow: seal::generate_identity(),
            signing: seal::generate_signing_key().map_err(Broke::from)?,
        })
    }
}

fn files(policy: &PolicyName, url: &str, store: &store::First, keys: &Keys) -> Vec<NewFile> {
    let open = |path: &str, text: String| NewFile { path: path.to_owned(), text, private: false };
    let private = |path: &str, text: &str| NewFile { path: path.to_owned(), text: text.to_owned(), private: true };
    let policy_text = POLICY
        .replace("@NAME@", policy.as_str())
        .replace("@URL@", &toml_string(url))
        .replace("@WORKING@", &keys.working.1)
        .replace("@ESCROW@", &keys.escrow.1);
    vec![
        open("lifeboat.toml", CONFIG.replace("@STORE@", &store.table())),
        open(&format!("policies/{policy}.toml"), policy_text),
        open("drills/restore-latest.toml", RESTORE_LATEST.to_owned()),
        open("drills/restore-logical.toml", RESTORE_LOGICAL.to_owned()),
        open(".gitignore", gitignore(store)),
        private("keys/working.agekey", &keys.working.0),
        private("keys/escrow.agekey", &keys.escrow.0),
        private("keys/signing.pem", &keys.signing.0),
        open("keys/signing.pub.pem", keys.signing.1.clone()),
    ]
}

/// A TOML basic string; JSON's escapes are a subset of TOML's.
fn toml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Keeps keys, catalog, backups and reports out of a repository that holds the configuration.
fn gitignore(store: &store::First) -> String {
    let mut text = "# Keys, backups and what lifeboat writes down do not belong into a repository.\n\
                    /keys/\n/lifeboat.db*\n/reports/\n"
        .to_owned();
    let store::First::Folder(folder) = store else { return text };
    let inside = Path::new(folder.trim_start_matches("./"));
    let plain = inside.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if inside.is_relative() && plain {
        text.push_str(&format!("/{}/\n", inside.display()));
    }
    text
}

/// Writes all files or none: what was written before an error is removed again.
fn write_all(dir: &Path, files: &[NewFile]) -> Result<(), Broke> {
    let mut made: Vec<PathBuf> = Vec::new();
    let written = (|| {
        make_folder(dir, 0o755, &mut made)?;
        for file in files {
            let folder = dir.join(&file.path).parent().map(Path::to_owned).unwrap_or_default();
            make_folder(&folder, if file.private { 0o700 } else { 0o755 }, &mut made)?;
        }
        for file in files {
            let path = dir.join(&file.path);
            let mode = if file.private { 0o600 } else { 0o644 };
            let fail = |error: std::io::Error| {
                let hint =
                    "check that the folder can be written and that the disk is not full; nothing was left behind";
                Broke::hinted(format!("{} could not be written: {error}", path.display()), hint)
            };
            let mut out =
                std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).map_err(fail)?;
            made.push(path.clone());
            out.write_all(file.text.as_bytes()).and_then(|()| out.sync_all()).map_err(fail)?;
        }
        Ok(())
    })();
    if written.is_err() {
        for path in made.iter().rev() {
            // A folder that others have put something into stays.
            let _ = if path.is_dir() { std::fs::remove_dir(path) } else { std::fs::remove_file(path) };
        }
    }
    written
}

fn make_folder(path: &Path, mode: u32, made: &mut Vec<PathBuf>) -> Result<(), Broke> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_folder(parent, 0o755, made)?;
    }
    std::fs::DirBuilder::new().mode(mode).create(path).map_err(|error| {
        let error = format!("the folder {} could not be made: {error}", path.display());
        Broke::hinted(error, "choose another with --dir, or make it yourself")
    })?;
    made.push(path.to_owned());
    Ok(())
}

fn report(cli: &Cli, args: &Args, policy: &PolicyName, written: &Written) {
    if cli.output == Output::Json {
        output::print_json(&json!({
            "schema": "lifeboat.init/1",
            "dir": args.dir.display().to_string(),
            "policy": policy,
            "written": written.files,
            "warnings": written.warnings,
        }));
        return;
    }
    let config = args.dir.join("lifeboat.toml");
    let with = if args.dir == Path::new(".") { String::new() } else { format!(" --config {}", config.display()) };
    let mut text = format!("Written to {}:\n", args.dir.display());
    for name in &written.files {
        text.push_str(&format!("  {name}\n"));
    }
    for warning in &written.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    if args.source.is_none() && args.url.is_none() {
        text.push_str(&format!(
            "\nNo URL was given: policies/{policy}.toml names the local server. Set its url first.\n"
        ));
    }
    text.push_str(&format!(
        "\nBefore anything else: move {} off this machine, and keep a copy of working.agekey elsewhere too.\n\
         A backup that was lost together with its keys is lost.\n\
         \nThen:\n  lifeboat check{with}\n  lifeboat backup {policy}{with}\n  lifeboat drill {policy}{with}\n",
        args.dir.join("keys/escrow.agekey").display(),
    ));
    output::print(&text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        let recipient = || age::x25519::Identity::generate().to_public().to_string();
        let pair = || ("SECRET\n".to_owned(), recipient());
        Keys { working: pair(), escrow: pair(), signing: ("PRIVATE\n".to_owned(), "PUBLIC\n".to_owned()) }
    }

    fn folder_named(path: &str) -> store::First {
        store::First::read(path).unwrap()
    }

    #[test]
    fn what_is_written_loads_without_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let url = "postgresql://lifeboat@/Orders%20DB?host=/run/postgresql";
        let policy = name_after(&Endpoint::parse(url).unwrap().database).unwrap();
        assert_eq!(policy.as_str(), "orders-db");
        let dir = folder.path().join("new/place");
        write_all(&dir, &files(&policy, url, &folder_named("/srv/\"odd\" place"), &keys())).unwrap();
        let loaded = load::load(&dir.join("lifeboat.toml")).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(loaded.warnings, Vec::<String>::new());
        assert_eq!(loaded.policies[0].source.url, url);
        assert_eq!(loaded.policies[0].backups.len(), 2);
        assert_eq!(loaded.policies[0].encryption.recipients.len(), 2);
        assert_eq!(loaded.drills.len(), 2);
    }

    #[test]
    fn private_keys_are_private_and_kept_out_of_the_repository() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        write_all(folder.path(), &files(&"a".parse().unwrap(), LOCAL, &folder_named(STORE), &keys())).unwrap();
        let mode = |path: &str| std::fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
        for path in ["keys/working.agekey", "keys/escrow.agekey", "keys/signing.pem"] {
            assert_eq!(mode(path), 0o600, "{path}");
        }
        assert_eq!(mode("keys"), 0o700);
        let ignored = std::fs::read_to_string(folder.path().join(".gitignore")).unwrap();
        for path in ["/keys/", "/lifeboat.db*", "/store/", "/reports/"] {
            assert!(ignored.lines().any(|line| line == path), "{path}");
        }
        assert!(!gitignore(&folder_named("/srv/backups")).contains("srv"));
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = files(&"a".parse().unwrap(), LOCAL, &folder_named(STORE), &keys());
        // A file is in the way of its folder.
        files.push(NewFile { path: "lifeboat.toml/inside".to_owned(), text: String::new(), private: false });
        write_all(folder.path(), &files).unwrap_err();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
