//! `init` for a bucket, and the escrow keys that `check` tries.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::retention::Days;
use crate::support::data::{self, DATABASE};
use crate::support::home::{Home, POLICY, Ran, ran};
use crate::support::s3::{Kind, S3Server};
use crate::support::server::Server;

fn lifeboat(dir: &Path, args: &[&str]) -> Ran {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("lifeboat"));
    ran(command.args(args).current_dir(dir).env_remove("LIFEBOAT_CONFIG").env("NO_COLOR", "1"))
}

#[tokio::test(flavor = "multi_thread")]
async fn init_for_a_bucket_gives_a_configuration_that_backs_up_into_it() {
    let Some(s3) = S3Server::start(Kind::Weed) else { return };
    s3.make_bucket("backups", false).await;
    let server = Server::start();
    data::fill(&server);
    let folder = tempfile::Builder::new().prefix("lb-bucket-").tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let url = format!(
        "s3://backups/db?region=us-east-1&endpoint={}&credentials={}",
        s3.endpoint(),
        s3.credentials().display()
    );
    let made = lifeboat(folder.path(), &["init", &server.url(DATABASE), "--policy", POLICY, "--store", &url]).expect(0);
    assert!(!made.stdout.contains("warning"), "{made:?}");
    let text = std::fs::read_to_string(folder.path().join("lifeboat.toml")).unwrap();
    for line in ["kind = \"s3\"", "bucket = \"backups\"", "prefix = \"db\"", "region = \"us-east-1\""] {
        assert!(text.lines().any(|one| one == line), "{line}: {text}");
    }
    let checked = lifeboat(folder.path(), &["check", "--output", "json"]);
    assert!(checked.stdout.contains("s3://backups/db: an object was written, read, listed and deleted"), "{checked:?}");
    lifeboat(folder.path(), &["backup", POLICY, "--job", "logical"]).expect(0);
    let verified = lifeboat(folder.path(), &["verify", POLICY]).expect(0);
    assert!(verified.stdout.contains("1 backup"), "{verified:?}");
    assert!(!folder.path().join("store").exists(), "nothing is beside the bucket");
    let ignored = std::fs::read_to_string(folder.path().join(".gitignore")).unwrap();
    assert!(!ignored.contains("s3"), "{ignored}");
}

#[test]
fn init_tells_what_is_wrong_with_a_store() {
    let folder = tempfile::tempdir().unwrap();
    for (url, said) in [
        ("s3://", "bucket"),
        ("s3://acme:9000/x", "port"),
        ("s3://acme?regoin=x", "there are: region"),
        ("s3://acme?endpoint=localhost:9000", "endpoint"),
        ("s3://KEY:SECRET@acme/x", "no credentials stand in it"),
        ("s3://acme?as_of=2026-01-01T00:00:00Z", "as_of"),
        ("gs://acme", "no kind of store"),
    ] {
        let refused = lifeboat(folder.path(), &["init", "postgresql://lifeboat@/orders", "--store", url]).expect(2);
        assert!(refused.stderr.contains(said) && refused.stderr.contains("hint:"), "{url}: {}", refused.stderr);
        assert!(!refused.stderr.contains("SECRET"), "{}", refused.stderr);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{url}: nothing was written");
    }
}

fn tried(home: &Home, subject: &str) -> Option<(String, String)> {
    let checked = home.run(&["check", "--output", "json"]).json();
    let all = checked["tried"].as_array().unwrap().clone();
    let word = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    let one = all.iter().find(|one| word(one, "subject") == subject)?;
    Some((word(one, "result"), word(one, "detail")))
}

#[test]
fn the_escrow_keys_are_tried_before_they_are_needed() {
    let days = Days::of(Home::for_url("postgresql://nobody@/orders?host=/nowhere"), 1, 2);
    let home = &days.home;
    assert_eq!(tried(home, "escrow"), None, "they are not to be on this machine");
    home.edit_config(|text| text.replace("[keys]", "[keys]\nescrow = [\"keys/escrow.agekey\"]"));
    assert_eq!(tried(home, "escrow").unwrap().0, "ok");
    // It is a recipient of the policy, and that backup was not sealed for it.
    let (came, detail) = tried(home, "orders: escrow").unwrap();
    assert!(came == "wrong" && detail.contains("was not opened with the escrow key"), "{came} {detail}");
    // One that was is opened with it.
    home.edit_config(|text| text.replace("escrow = [\"keys/escrow.agekey\"]", "escrow = [\"keys/working.agekey\"]"));
    let (came, detail) = tried(home, "orders: escrow").unwrap();
    assert!(came == "ok" && detail.contains("was opened with it alone"), "{came} {detail}");
    // A stranger's.
    let (secret, _) = lifeboat::seal::generate_identity();
    let path = home.path().join("keys/stranger.agekey");
    std::fs::write(&path, secret).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    home.edit_config(|text| text.replace("escrow = [\"keys/working.agekey\"]", "escrow = [\"keys/stranger.agekey\"]"));
    let (came, detail) = tried(home, "orders: escrow").unwrap();
    assert!(came == "wrong" && detail.contains("none of the 2 recipients is an escrow key"), "{came} {detail}");
    // Without a backup it is only known to be a recipient.
    home.edit_config(|text| text.replace("escrow = [\"keys/stranger.agekey\"]", "escrow = [\"keys/escrow.agekey\"]"));
    std::fs::remove_dir_all(home.store().join(POLICY)).unwrap();
    let (came, detail) = tried(home, "orders: escrow").unwrap();
    assert!(came == "not_tried" && detail.contains("no backup is there"), "{came} {detail}");
    std::fs::remove_file(home.path().join("keys/escrow.agekey")).unwrap();
    assert_eq!(tried(home, "escrow").unwrap().0, "wrong");
    assert_eq!(tried(home, "orders: escrow").unwrap().0, "not_tried");
}
