//! The main job against a real S3 server, with the commands that a folder takes.

use std::process::Command;

use crate::support::data::{self, DATABASE};
use crate::support::home::{Home, POLICY, ran};
use crate::support::s3::{Kind, S3Server, client_at};
use crate::support::server::Server;

const QUESTION: &str = "select sum(total), count(*) from shop.orders";

/// A home whose store is a bucket, and nothing else is different.
fn home_in(s3: &S3Server, server: &Server, bucket: &str) -> Home {
    let home = Home::new(server, DATABASE);
    home.edit_config(|text| {
        let begin = text.find("[stores.primary]").expect("init writes a store");
        let end = text[begin + 1..].find("\n[").map_or(text.len(), |at| begin + 1 + at);
        format!("{}{}{}", &text[..begin], s3.toml("primary", bucket), &text[end..])
    });
    home
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_drill_verify_and_restore_with_nothing_work_in_a_bucket() {
    let Some(s3) = S3Server::start(Kind::Weed) else { return };
    s3.make_bucket("backups", false).await;
    let mut server = Server::start();
    data::fill(&server);
    let expected = server.sql(DATABASE, QUESTION);
    let home = home_in(&s3, &server, "backups");
    let checked = home.run(&["check"]);
    assert!(checked.stdout.contains("s3://backups/db: an object was written, read, listed and deleted"), "{checked:?}");
    home.run(&["backup", POLICY]).expect(0);
    let verified = home.run(&["verify", POLICY]).expect(0);
    assert!(verified.stdout.contains("2 backups"), "{verified:?}");
    let drilled = home.run(&["drill", POLICY]).expect(0);
    assert!(drilled.stdout.contains("proven"), "{drilled:?}");
    std::fs::remove_file(home.path().join("lifeboat.db")).unwrap();
    for side in ["lifeboat.db-wal", "lifeboat.db-shm"] {
        let _ = std::fs::remove_file(home.path().join(side));
    }
    home.run(&["catalog", "rebuild"]).expect(0);
    let status = home.run(&["status", POLICY, "--output", "json"]);
    assert!(status.stdout.contains("primary"), "{status:?}");
    let runbook = home.run(&["runbook", POLICY]).expect(0);
    assert!(runbook.stdout.contains("aws s3 cp") && runbook.stdout.contains("s3://backups/db"), "{}", runbook.stdout);
    server.destroy();

    // Another machine: the bucket's address, credentials, and the escrow key.
    let elsewhere = tempfile::Builder::new().prefix("lb-elsewhere-").tempdir().unwrap();
    std::fs::set_permissions(elsewhere.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let key = elsewhere.path().join("key");
    std::fs::rename(home.path().join("keys/escrow.agekey"), &key).unwrap();
    let url = format!(
        "s3://backups/db?endpoint={}&region=us-east-1&path_style=true&credentials={}",
        s3.endpoint(),
        s3.credentials().display()
    );
    drop(home);
    let target = elsewhere.path().join("data");
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("lifeboat"));
    command.args(["restore", "--store", &url, "--identity", key.to_str().unwrap(), "--to", target.to_str().unwrap()]);
    ran(command.current_dir(elsewhere.path()).env_remove("LIFEBOAT_CONFIG")).expect(0);
    let mut back = Server::adopt(&server, target);
    back.launch();
    assert_eq!(back.sql(DATABASE, QUESTION), expected);
}

/// A backup that is killed while it writes leaves uploads; the next one throws them away, and they never count.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backup_leaves_no_upload_for_long_and_no_manifest() {
    let Some(s3) = S3Server::start(Kind::Weed) else { return };
    s3.make_bucket("backups", false).await;
    let server = Server::start();
    data::fill(&server);
    let home = home_in(&s3, &server, "backups");
    // What a killed process leaves: an upload that nobody ends.
    let client = client_at(&s3.endpoint());
    let begun = |key: &str| {
        let request = client.create_multipart_upload().bucket("backups").key(key);
        async move { request.send().await.unwrap() }
    };
    let left = "db/orders/20260101T000000Z-0badcafe/base/00000.zst.age";
    begun(left).await;
    let uploads = || async { client.list_multipart_uploads().bucket("backups").send().await.unwrap().uploads().len() };
    assert_eq!(uploads().await, 1);
    let taken = home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    assert!(taken.stderr.contains("leftover"), "{taken:?}");
    let verified = home.run(&["verify", POLICY]).expect(0);
    assert!(verified.stdout.contains("1 backup"), "{verified:?}");
}
