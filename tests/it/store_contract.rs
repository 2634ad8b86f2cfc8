//! What every store must do, run over each that there is; and what a folder does when its disk fails.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use lifeboat::domain::check::Broke;
use lifeboat::domain::units::ByteSize;
use lifeboat::store::{Duty, FileStore, S3Store, Store, StoreError, open_url};

use crate::support::s3::{Kind, S3Server};
use crate::support::server::unprivileged;

fn keys(list: &[lifeboat::store::ObjectInfo]) -> Vec<&str> {
    list.iter().map(|object| object.key.as_str()).collect()
}

/// The contract at the door of `store`.
async fn contract(store: Arc<dyn Store>) {
    assert_eq!(store.list("").await.unwrap(), vec![], "a new store is empty");
    assert_eq!(store.list("nothing/here/").await.unwrap(), vec![]);
    assert!(matches!(store.get("a/b").await, Err(StoreError::NotFound { .. })));
    assert!(matches!(store.get("a").await, Err(StoreError::NotFound { .. })));

    let big = Bytes::from((0..12_000_000_u32).map(|i| (i % 251) as u8).collect::<Vec<u8>>());
    store.put_new("p/one/base/00000.zst.age", big.clone()).await.unwrap();
    store.put_new("p/one/base/16384/00000.zst.age", Bytes::from_static(b"x")).await.unwrap();
    store.put_new("p/one/manifest.json", Bytes::from_static(b"{}")).await.unwrap();
    store.put_new("p/one-b/empty", Bytes::new()).await.unwrap();
    store.put_new("top", Bytes::from_static(b"t")).await.unwrap();
    assert_eq!(store.get("p/one/base/00000.zst.age").await.unwrap(), big);
    assert_eq!(store.get("p/one-b/empty").await.unwrap(), Bytes::new());

    // Sorted by the key's bytes, where `-` comes before `/`; a prefix is a piece of text, not a folder.
    let all = store.list("").await.unwrap();
    let sorted =
        ["p/one-b/empty", "p/one/base/00000.zst.age", "p/one/base/16384/00000.zst.age", "p/one/manifest.json", "top"];
    assert_eq!(keys(&all), sorted);
    assert_eq!(all[1].bytes, 12_000_000);
    let age = lifeboat::clock::now().duration_since(all[1].modified).as_secs();
    assert!((-5..600).contains(&age), "written {age} s ago");
    assert_eq!(keys(&store.list("p/one/base/0").await.unwrap()), ["p/one/base/00000.zst.age"]);
    assert_eq!(store.list("p/one").await.unwrap().len(), 4);
    assert_eq!(store.list("p/one/").await.unwrap().len(), 3);

    // Nothing is replaced, and the refusal changes nothing.
    let again = store.put_new("p/one/manifest.json", Bytes::from_static(b"forged")).await;
    assert!(matches!(again, Err(StoreError::AlreadyThere { .. })), "{again:?}");
    assert_eq!(store.get("p/one/manifest.json").await.unwrap(), Bytes::from_static(b"{}"));

    for key in ["", "/etc/passwd", "../out", "a/../../out", "a//b", "a/", "./a", "a\0b", &"k".repeat(2_000)] {
        assert!(matches!(store.put_new(key, Bytes::new()).await, Err(StoreError::BadKey(_))), "{key:?}");
        assert!(matches!(store.get(key).await, Err(StoreError::BadKey(_))), "{key:?}");
        assert!(matches!(store.delete(key).await, Err(StoreError::BadKey(_))), "{key:?}");
    }
    assert!(matches!(store.list("../").await, Err(StoreError::BadKey(_))));
    store.put_new("odd/back\\slash and ünïcode", Bytes::from_static(b"o")).await.unwrap();
    assert_eq!(store.get("odd/back\\slash and ünïcode").await.unwrap(), Bytes::from_static(b"o"));

    // Of many who write the same key at once exactly one wins, and its bytes are whole.
    let racers: Vec<_> = (0..16_u8)
        .map(|racer| {
            let store = store.clone();
            tokio::spawn(async move { store.put_new("race/x", Bytes::from(vec![racer; 100_000])).await })
        })
        .collect();
    let mut winners = 0;
    for racer in racers {
        match racer.await.unwrap() {
            Ok(()) => winners += 1,
            Err(StoreError::AlreadyThere { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    let won = store.get("race/x").await.unwrap();
    assert!(winners == 1 && won.len() == 100_000 && won.iter().all(|byte| *byte == won[0]), "{winners}");

    for key in keys(&store.list("").await.unwrap()) {
        store.delete(key).await.unwrap();
        store.delete(key).await.unwrap();
        assert!(matches!(store.get(key).await, Err(StoreError::NotFound { .. })));
    }
    assert_eq!(store.list("").await.unwrap(), vec![]);
    // A key that was deleted is free again.
    store.put_new("p/one/manifest.json", Bytes::from_static(b"again")).await.unwrap();
    assert_eq!(store.get("p/one/manifest.json").await.unwrap(), Bytes::from_static(b"again"));
    store.delete("p/one/manifest.json").await.unwrap();
    assert_eq!(store.half_written("").await.unwrap(), vec![], "nothing is left half written");
}

/// Buckets of each server keep the contract: whole, part of one, with versions and lock, in pieces, read back.
async fn buckets(kind: Kind) {
    let Some(server) = S3Server::start(kind) else { return };
    server.make_bucket("whole", false).await;
    server.make_bucket("versions", true).await;
    let mut pieces = server.bucket("whole", "db/in pieces");
    // The contract's largest object then has three.
    pieces.piece = ByteSize(5 << 20);
    pieces.read_back = true;
    let mut plain = server.bucket("whole", "plain");
    plain.checksums = false;
    for bucket in [server.bucket("versions", "db"), pieces, plain, server.bucket("whole", "")] {
        eprintln!("{}", bucket.url());
        contract(Arc::new(S3Store::new(bucket, Duty::Backup, None))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_of_seaweedfs_keep_the_contract() {
    buckets(Kind::Weed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_of_seaweedfs_over_tls_keep_the_contract() {
    buckets(Kind::WeedTls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_of_moto_keep_the_contract() {
    buckets(Kind::Moto).await;
}

fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("lb-store-").tempdir().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_keeps_the_contract() {
    let dir = folder();
    contract(Arc::new(FileStore::open(&dir.path().join("store")).unwrap())).await;
    let store = FileStore::open(&dir.path().join("store")).unwrap();
    store.put_new("p", Bytes::from_static(b"a name")).await.unwrap();
    let below = store.put_new("p/one", Bytes::new()).await;
    assert!(below.is_err(), "a file cannot be a folder too: {below:?}");
    store.delete("p").await.unwrap();
    let left: Vec<_> = std::fs::read_dir(dir.path().join("store")).unwrap().collect();
    assert!(left.is_empty(), "empty folders and temporary files are gone: {left:?}");
}

#[tokio::test]
async fn a_folder_is_private_hides_what_is_half_written_and_follows_no_links() {
    let dir = folder();
    let root = dir.path().join("store");
    let store = FileStore::open(&root).unwrap();
    store.put_new("p/b/x", Bytes::from_static(b"x")).await.unwrap();
    for (path, mode) in [("", 0o700), ("p", 0o700), ("p/b", 0o700), ("p/b/x", 0o600)] {
        let found = std::fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(found, mode, "{path}");
    }
    std::fs::write(root.join("p/b/.lifeboat-tmp-0123"), "half").unwrap();
    assert_eq!(keys(&store.list("").await.unwrap()), ["p/b/x"]);
    assert_eq!(keys(&store.half_written("p/").await.unwrap()), ["p/b/.lifeboat-tmp-0123"]);
    assert!(matches!(store.get("p/b/.lifeboat-tmp-0123").await, Err(StoreError::BadKey(_))));
    store.delete("p/b/.lifeboat-tmp-0123").await.unwrap();
    assert_eq!(store.half_written("").await.unwrap(), vec![]);

    let outside = dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "s").unwrap();
    symlink(&outside, root.join("p/link")).unwrap();
    symlink(outside.join("secret"), root.join("p/file")).unwrap();
    assert_eq!(keys(&store.list("").await.unwrap()), ["p/b/x"]);
    for key in ["p/link/secret", "p/file"] {
        assert!(matches!(store.get(key).await, Err(StoreError::Io { .. })), "{key}");
        assert!(matches!(store.delete(key).await, Err(StoreError::Io { .. })), "{key}");
    }
    assert!(matches!(store.put_new("p/link/new", Bytes::new()).await, Err(StoreError::Io { .. })));
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
}

#[tokio::test]
async fn a_folder_that_went_away_is_not_an_empty_store() {
    let dir = folder();
    let root = dir.path().join("store");
    let store = FileStore::open(&root).unwrap();
    store.put_new("p/x", Bytes::from_static(b"x")).await.unwrap();
    std::fs::rename(&root, dir.path().join("elsewhere")).unwrap();
    assert!(matches!(store.get("p/x").await, Err(StoreError::Unusable { .. })));
    assert!(matches!(store.list("").await, Err(StoreError::Unusable { .. })));
    assert!(matches!(store.put_new("p/y", Bytes::new()).await, Err(StoreError::Unusable { .. })));
    assert!(!root.exists(), "and it is not made again");
}

#[test]
fn paths_that_cannot_be_a_store_say_why() {
    let dir = folder();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for (path, why) in [(file.clone(), "not a folder"), (dir.path().join("no/such"), "parent"), (file.join("x"), "")] {
        let error = FileStore::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::Unusable { .. }) && error.hint().is_some(), "{error:?}");
        assert!(error.to_string().contains(why), "{error}");
    }
    let path = dir.path().join("a folder");
    std::fs::create_dir(&path).unwrap();
    let text = path.display().to_string();
    let url = format!("file://{}", text.replace(' ', "%20"));
    assert_eq!(open_url(&text).unwrap().url(), open_url(&url).unwrap().url());
    let typo = dir.path().join("typo");
    for (url, why) in [
        ("s3://bucket/x?colour=red", "no option `colour`"),
        ("s3://", "bucket"),
        ("ftp://host/x", "no kind of store"),
        ("file://host/x", "three slashes"),
        ("", "empty"),
        (typo.to_str().unwrap(), "no such folder"),
    ] {
        let error = open_url(url).unwrap_err().to_string();
        assert!(error.contains(why), "{url}: {error}");
    }
    assert!(!typo.exists(), "a misspelt path is not made");
}

/// Runs one of the tests below again in another process: under another user, another mount, a debugger that injects
/// errors. Gives its output.
fn again(test: &str, command: &mut Command, folder: &Path) -> String {
    let output = command
        .args([std::env::current_exe().unwrap().as_os_str(), "--ignored".as_ref(), "--exact".as_ref()])
        .args(["--nocapture", &format!("store_contract::{test}")])
        .env("LIFEBOAT_TEST_FOLDER", folder)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    text
}

fn given_folder() -> std::path::PathBuf {
    std::env::var_os("LIFEBOAT_TEST_FOLDER").expect("run by another test").into()
}

#[test]
fn a_read_only_folder_can_be_read_and_says_why_it_takes_nothing() {
    let dir = folder();
    let root = dir.path().join("store");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("x"), "x").unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o555)).unwrap();
    let exe = std::env::current_exe().unwrap();
    // Root writes everywhere: go on as somebody else, from a copy of this program that they may run.
    let mut command = Command::new("env");
    if let Some((uid, gid)) = unprivileged() {
        let copy = dir.path().join("it");
        std::fs::copy(&exe, &copy).unwrap();
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
        let output = Command::new("setpriv")
            .args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()])
            .arg(&copy)
            .args(["--ignored", "--exact", "--nocapture", "store_contract::inside_a_read_only_folder"])
            .env("LIFEBOAT_TEST_FOLDER", &root)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    } else {
        again("inside_a_read_only_folder", &mut command, &root);
    }
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
#[ignore = "run by a_read_only_folder_can_be_read_and_says_why_it_takes_nothing"]
async fn inside_a_read_only_folder() {
    let store = FileStore::open(&given_folder()).unwrap();
    assert_eq!(store.get("x").await.unwrap(), Bytes::from_static(b"x"));
    let broke = Broke::from(store.put_new("p/y", Bytes::new()).await.unwrap_err());
    assert!(
        broke.error.contains("Permission denied") && broke.hint.unwrap().contains("may not write"),
        "{}",
        broke.error
    );
    let parent = FileStore::open(&given_folder().join("new")).unwrap_err();
    assert!(matches!(parent, StoreError::Unusable { .. }), "{parent:?}");
}

#[test]
fn a_full_disk_is_an_error_and_leaves_nothing() {
    let dir = folder();
    let tmpfs = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, "sh"]).arg(dir.path());
        command
    };
    let mount = "mount -t tmpfs -o size=1m lifeboat-test \"$1\"";
    if !tmpfs(mount).status().is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: a small tmpfs cannot be mounted here (needs root and `unshare -m`)");
        return;
    }
    again("inside_a_full_disk", &mut tmpfs(&format!("{mount} && shift && exec \"$@\"")), dir.path());
}

#[tokio::test]
#[ignore = "run by a_full_disk_is_an_error_and_leaves_nothing"]
async fn inside_a_full_disk() {
    let root = given_folder().join("store");
    let store = FileStore::open(&root).unwrap();
    store.put_new("p/small", Bytes::from(vec![1; 1_000])).await.unwrap();
    let broke = Broke::from(store.put_new("p/b/large", Bytes::from(vec![1; 4 << 20])).await.unwrap_err());
    assert!(broke.error.contains("No space left") && broke.error.contains("p/b/large"), "{}", broke.error);
    assert!(broke.hint.unwrap().contains("disk is full"));
    assert_eq!(keys(&store.list("").await.unwrap()), ["p/small"]);
    assert_eq!(std::fs::read_dir(root.join("p/b")).unwrap().count(), 0, "the temporary file is gone");
    store.put_new("p/b/fits", Bytes::from(vec![1; 1_000])).await.unwrap();
}

/// Whether system calls can be made to fail.
fn can_inject() -> bool {
    let traced = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
    let can = traced.is_ok_and(|status| status.success());
    if !can {
        eprintln!("SKIPPED: strace is not here, or may not trace");
    }
    can
}

#[test]
fn file_systems_without_rename_noreplace_and_without_links_keep_the_contract() {
    if !can_inject() {
        return;
    }
    let no_noreplace = ["-e", "inject=renameat2:error=EINVAL"];
    let no_links = ["-e", "inject=link,linkat:error=EPERM"];
    for missing in [&no_noreplace[..], &[no_noreplace, no_links].concat()] {
        let dir = folder();
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-e", "trace=renameat2,link,linkat"]).args(missing);
        let log = again("inside_an_old_file_system", &mut strace, dir.path());
        assert!(log.contains("renameat2(") && log.contains("(INJECTED)"), "{log}");
        assert_eq!(log.contains("EPERM"), missing.len() > 2, "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by file_systems_without_rename_noreplace_and_without_links_keep_the_contract"]
async fn inside_an_old_file_system() {
    let root = given_folder().join("store");
    contract(Arc::new(FileStore::open(&root).unwrap())).await;
    assert_eq!(std::fs::read_dir(root).unwrap().count(), 0, "no temporary file is left");
}

#[test]
fn a_failed_fsync_is_final() {
    if !can_inject() {
        return;
    }
    // The first fsync of put_new is that of a new folder's parent, later ones the file's and its folder's: fail each in turn.
    for number in 1..=4 {
        let dir = folder();
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-e", "trace=fsync,fdatasync"]);
        strace.args(["-e", &format!("inject=fsync:error=EIO:when={number}")]);
        std::fs::create_dir(dir.path().join("store")).unwrap();
        let log = again("inside_a_failing_disk", &mut strace, dir.path());
        assert!(log.contains("(INJECTED)"), "{log}");
        assert_eq!(log.matches("fsync(").count(), number, "not tried again: {log}");
    }
}

#[tokio::test]
#[ignore = "run by a_failed_fsync_is_final"]
async fn inside_a_failing_disk() {
    let store = FileStore::open(&given_folder().join("store")).unwrap();
    let error = store.put_new("p/b/x", Bytes::from_static(b"x")).await.unwrap_err();
    let broke = Broke::from(error);
    assert!(
        broke.error.contains("Input/output error") && broke.hint.unwrap().contains("disk itself"),
        "{}",
        broke.error
    );
    assert_eq!(store.list("").await.unwrap(), vec![], "what is not durable is not there");
}
