//! The main job against a real S3 server, with the commands that a folder takes.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use lifeboat::domain::bucket::{Bucket, ServerEncryption};
use lifeboat::domain::units::ByteSize;
use lifeboat::store::{Duty, S3Store, Store};

use crate::support::data::{self, DATABASE};
use crate::support::faulty::Wire;
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
    let checked = home.run(&["check", "--output", "json"]);
    assert!(checked.stdout.contains("s3://backups/db: an object was written, read, listed and deleted"), "{checked:?}");
    home.run(&["backup", POLICY]).expect(0);
    let verified = home.run(&["verify", POLICY]).expect(0);
    assert!(verified.stdout.contains("2 backups"), "{verified:?}");
    let drilled = home.run(&["drill", POLICY]).expect(0);
    assert!(drilled.stdout.matches("PROVEN").count() == 2, "{drilled:?}");
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

/// The key of every object, and how many versions and markers of it there are.
async fn delete_everything(client: &aws_sdk_s3::Client, bucket: &str) -> usize {
    let listed = client.list_objects_v2().bucket(bucket).send().await.unwrap();
    for object in listed.contents() {
        client.delete_object().bucket(bucket).key(object.key().unwrap()).send().await.unwrap();
    }
    listed.contents().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_locked_withstands_deletion_and_comes_back_from_its_versions() {
    let Some(s3) = S3Server::start(Kind::Weed) else { return };
    s3.make_bucket("locked", true).await;
    let server = Server::start();
    data::fill(&server);
    let expected = server.sql(DATABASE, QUESTION);
    let home = home_in(&s3, &server, "locked");
    // Nothing is said to be locked: nothing is proved.
    let none = home.run(&["check", "--immutability"]).expect(4);
    assert!(none.stderr.contains("hint:"), "{none:?}");
    home.edit_config(|text| text.replace("bucket = \"locked\"\n", "bucket = \"locked\"\nlocked = true\n"));
    home.edit_policy(|text| format!("{text}\n[lock]\nmode = \"compliance\"\nkeep = \"1h\"\n"));
    let drift = || home.run(&["drift", POLICY, "--output", "json"]).stdout;
    assert!(drift().contains("lock_unproven"), "{}", drift());
    let tried = home.run(&["check", "--immutability"]).expect(0);
    assert!(!drift().contains("lock_"), "{}", drift());
    assert!(tried.stdout.contains("orders / primary: immutable (compliance)"), "{tried:?}");
    assert_eq!(tried.stdout.matches("withstood").count(), 5, "{tried:?}");
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);

    // Each object is locked, for an hour.
    let client = s3.client();
    let listed = client.list_objects_v2().bucket("locked").prefix("db/orders/").send().await.unwrap();
    assert!(listed.contents().len() >= 4, "{listed:?}");
    for object in listed.contents() {
        let key = object.key().unwrap();
        let lock = client.get_object_retention().bucket("locked").key(key).send().await.unwrap();
        let until = lock.retention.and_then(|retention| retention.retain_until_date).unwrap().secs();
        let left = until - lifeboat::clock::now().as_second();
        assert!((3_000..=3_601).contains(&left), "{key} is locked for {left} s");
    }

    // Somebody deletes all that they may, and it looks gone.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let before = lifeboat::clock::now();
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert!(delete_everything(&client, "locked").await >= 4);
    let gone = home.run(&["verify", POLICY]);
    assert_eq!(gone.code, 3, "{gone:?}");
    let key = home.path().join("keys/working.agekey");
    let url = |as_of: &str| {
        format!(
            "s3://locked/db?endpoint={}&path_style=true&region=us-east-1&credentials={}{as_of}",
            s3.endpoint(),
            s3.credentials().display()
        )
    };
    let fresh = Server::start();
    let database = fresh.url("back");
    let restore = |url: &str| {
        home.run(&["restore", "--store", url, "--identity", key.to_str().unwrap(), "--to-database", &database])
    };
    let nothing = restore(&url(""));
    assert_ne!(nothing.code, 0, "{nothing:?}");
    restore(&url(&format!("&as_of={before}"))).expect(0);
    assert_eq!(fresh.sql("back", QUESTION), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_without_lock_is_never_called_immutable() {
    let Some(s3) = S3Server::start(Kind::Weed) else { return };
    s3.make_bucket("plain", false).await;
    let server = Server::start();
    data::fill(&server);
    let home = home_in(&s3, &server, "plain");
    home.edit_config(|text| text.replace("bucket = \"plain\"\n", "bucket = \"plain\"\nlocked = true\n"));
    home.edit_policy(|text| format!("{text}\n[lock]\nmode = \"governance\"\nkeep = \"1h\"\n"));
    let tried = home.run(&["check", "--immutability"]).expect(4);
    assert!(tried.stdout.contains("unproven") && tried.stdout.contains("keeps no versions"), "{tried:?}");
    let drift = home.run(&["drift", POLICY, "--output", "json"]).stdout;
    assert!(drift.contains("lock_failed"), "{drift}");
    // Nor is a backup written that would not be locked as was promised.
    let refused = home.run(&["backup", POLICY, "--job", "logical"]).expect(1);
    assert!(refused.stderr.contains("hint:"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_duty_works_with_a_login_of_its_own_and_no_more() {
    let Some(s3) = S3Server::start(Kind::Weed) else { return };
    s3.make_bucket("duties", false).await;
    let server = Server::start();
    data::fill(&server);
    let home = home_in(&s3, &server, "duties");
    let (writer, reader) = (s3.credentials_of("writer", "AKIDWRITER"), s3.credentials_of("reader", "AKIDREADER"));
    home.edit_config(|text| {
        let begin = text.find("login = ").expect("the store has a login");
        let end = begin + text[begin..].find('\n').expect("of one line");
        format!(
            "{}login = {{ file = \"{}\" }}\nbackup_login = {{ file = \"{}\" }}{}",
            &text[..begin],
            reader.display(),
            writer.display(),
            &text[end..]
        )
    });
    home.run(&["backup", POLICY]).expect(0);
    home.run(&["verify", POLICY]).expect(0);
    home.run(&["drill", POLICY, "--drill", "restore-logical"]).expect(0);
    // The reader's login cannot write, and says so.
    home.edit_config(|text| text.replace(&writer.display().to_string(), &reader.display().to_string()));
    let refused = home.run(&["backup", POLICY, "--job", "logical"]).expect(1);
    assert!(refused.stderr.contains("AccessDenied") && refused.stderr.contains("hint:"), "{refused:?}");
    // Others must not be able to read a secret.
    std::fs::set_permissions(&reader, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let open = home.run(&["verify", POLICY]).expect(1);
    assert!(open.stdout.contains("chmod 600") || open.stderr.contains("chmod 600"), "{open:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_of_a_bucket_takes_versions_and_uploads_too_and_nothing_that_is_locked() {
    let Some(s3) = S3Server::start(Kind::Weed) else { return };
    s3.make_bucket("versions", true).await;
    let server = Server::start();
    data::fill(&server);
    let home = home_in(&s3, &server, "versions");
    home.edit_policy(|text| {
        let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("retention")).collect();
        kept.join("\n").replace("method = \"logical\"", "method = \"logical\"\nretention = { at_least = 1 }") + "\n"
    });
    let client = s3.client();
    let versions = |prefix: String| {
        let client = client.clone();
        async move {
            let found = client.list_object_versions().bucket("versions").prefix(prefix).send().await.unwrap();
            found.versions().len() + found.delete_markers().len()
        }
    };
    let mut ids: Vec<String> = Vec::new();
    for _ in 0..3 {
        let taken = home.run(&["backup", POLICY, "--job", "logical", "--output", "json"]).expect(0);
        let is_id = |word: &&str| word.parse::<lifeboat::domain::ids::BackupId>().is_ok();
        ids.push(taken.stdout.split('"').find(is_id).expect("a backup").to_owned());
    }
    home.run(&["drill", POLICY, "--drill", "restore-logical"]).expect(0);
    // The second is held, by the store itself too; the first may go.
    let hold = home.run(&["backup", "hold", &ids[1], "--by", "legal", "--reason", "a case"]).expect(0);
    assert!(hold.stdout.contains(&ids[1]), "{hold:?}");
    let manifest = format!("db/{POLICY}/{}/manifest.json", ids[1]);
    let legal = client.get_object_legal_hold().bucket("versions").key(&manifest).send().await.unwrap();
    assert_eq!(legal.legal_hold.unwrap().status.unwrap().as_str(), "ON");
    let upload = client
        .create_multipart_upload()
        .bucket("versions")
        .key(format!("db/{POLICY}/20260101T000000Z-0badcafe/base/00000.zst.age"));
    upload.send().await.unwrap();
    home.run(&["prune", POLICY]).expect(0);
    home.run(&["prune", POLICY, "--grace", "0s", "--orphans-after", "0s"]).expect(0);
    assert_eq!(versions(format!("db/{POLICY}/{}/", ids[0])).await, 0, "not even a version is left");
    assert!(versions(format!("db/{POLICY}/{}/", ids[1])).await >= 4, "what is held is there");
    let uploads = client.list_multipart_uploads().bucket("versions").send().await.unwrap();
    assert_eq!(uploads.uploads().len(), 0, "{uploads:?}");
    home.run(&["backup", "release", &ids[1], "--by", "legal"]).expect(0);

    // From now on what is written is locked; and stays, whatever the counts say.
    home.edit_config(|text| text.replace("bucket = \"versions\"\n", "bucket = \"versions\"\nlocked = true\n"));
    home.edit_policy(|text| format!("{text}\n[lock]\nmode = \"governance\"\nkeep = \"1h\"\n"));
    for _ in 0..2 {
        home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    }
    home.run(&["drill", POLICY, "--drill", "restore-logical"]).expect(0);
    let pruned = home.run(&["prune", POLICY, "--dry-run"]);
    assert!(pruned.stdout.contains("lock"), "{pruned:?}");
    home.run(&["prune", POLICY]);
    home.run(&["prune", POLICY, "--grace", "0s"]);
    let verified = home.run(&["verify", POLICY]).expect(0);
    assert!(verified.stdout.contains("2 backups"), "the two that are locked: {verified:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_a_second_place_for_a_folder_and_suffices_alone() {
    let Some(s3) = S3Server::start(Kind::Weed) else { return };
    s3.make_bucket("second", false).await;
    let server = Server::start();
    data::fill(&server);
    let home = Home::new(&server, DATABASE);
    home.edit_config(|text| format!("{text}\n{}", s3.toml("dr-region", "second")));
    home.edit_policy(|text| text.replace("store = \"primary\"", "store = \"primary\"\ncopies = [\"dr-region\"]"));
    home.run(&["backup", POLICY]).expect(0);
    home.run(&["copies", POLICY, "--read"]).expect(0);
    // One object is missing there.
    let client = s3.client();
    let listed = client.list_objects_v2().bucket("second").prefix("db/").send().await.unwrap();
    let part = listed.contents().iter().filter_map(|object| object.key()).find(|key| key.contains("/base/0000"));
    let part = part.expect("a part").to_owned();
    let kept = client.get_object().bucket("second").key(&part).send().await.unwrap();
    let kept = kept.body.collect().await.unwrap().into_bytes();
    client.delete_object().bucket("second").key(&part).send().await.unwrap();
    let missing = home.run(&["copies", POLICY]).expect(3);
    assert!(missing.stdout.contains("copy_object_missing"), "{missing:?}");
    let drift = home.run(&["drift", POLICY, "--output", "json"]).stdout;
    assert!(drift.contains("copy_object_missing"), "{drift}");
    let body = aws_sdk_s3::primitives::ByteStream::from(kept);
    client.put_object().bucket("second").key(&part).body(body).send().await.unwrap();
    // The first place is gone.
    std::fs::rename(home.store(), home.path().join("away")).unwrap();
    home.run(&["drill", POLICY, "--from", "dr-region", "--drill", "restore-logical"]).expect(0);
    let target = home.path().join("restored");
    home.run(&["restore", POLICY, "--from", "dr-region", "--to", target.to_str().unwrap()]).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_gone_through_where_the_environment_names_one() {
    let Some(s3) = S3Server::start(Kind::Weed) else { return };
    s3.make_bucket("proxied", false).await;
    let server = Server::start();
    data::fill(&server);
    let home = home_in(&s3, &server, "proxied");
    let wire = Wire::to(s3.port());
    let seen = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&seen);
    wire.script(move |_| {
        count.fetch_add(1, SeqCst);
        None
    });
    let run = |no_proxy: &str| {
        let mut command = home.command(&["backup", POLICY, "--job", "logical"]);
        ran(command.env("http_proxy", wire.endpoint()).env("HTTP_PROXY", wire.endpoint()).env("NO_PROXY", no_proxy))
            .expect(0);
        seen.swap(0, SeqCst)
    };
    assert!(run("") >= 4, "every request of the backup");
    assert_eq!(run("127.0.0.1"), 0, "and none where it is not to be used");
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_dressed_as_the_store_says() {
    let Some(s3) = S3Server::start(Kind::Weed) else { return };
    s3.make_bucket("dressed", false).await;
    let client = s3.client();
    let mut bucket = s3.bucket("dressed", "db");
    bucket.tags = vec![("team".to_owned(), "dba & co".to_owned()), ("tier".to_owned(), "1".to_owned())];
    bucket.storage_class = Some("STANDARD_IA".to_owned());
    bucket.piece = ByteSize(5 << 20);
    bucket.encryption = ServerEncryption::S3;
    let store = S3Store::new(bucket.clone(), Duty::Backup, None);
    // At once, and in pieces.
    for (key, length) in [("p/small", 10), ("p/large", 12_000_000)] {
        let bytes = bytes::Bytes::from(vec![7; length]);
        store.put_new(key, bytes.clone()).await.unwrap();
        assert_eq!(store.get(key).await.unwrap(), bytes);
        let whole = format!("db/{key}");
        let head = client.head_object().bucket("dressed").key(&whole).send().await.unwrap();
        assert_eq!(head.server_side_encryption.unwrap().as_str(), "AES256", "{key}");
        assert_eq!(head.storage_class.map(|class| class.as_str().to_owned()).as_deref(), Some("STANDARD_IA"), "{key}");
        let tags = client.get_object_tagging().bucket("dressed").key(&whole).send().await.unwrap();
        let mut tags: Vec<_> = tags.tag_set.into_iter().map(|tag| (tag.key, tag.value)).collect();
        tags.sort();
        assert_eq!(tags, bucket.tags, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_assumed_where_the_login_names_one() {
    let Some(s3) = S3Server::start(Kind::Moto) else { return };
    s3.make_bucket("roles", false).await;
    let wire = Wire::to(s3.port());
    let posts = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&posts);
    wire.script(move |asked| {
        count.fetch_add(u32::from(asked.method == "POST"), SeqCst);
        None
    });
    let mut bucket = s3.bucket("roles", "db");
    bucket.endpoint = Some(wire.endpoint());
    let put = |bucket: &Bucket, key: &'static str| {
        let store = S3Store::new(bucket.clone(), Duty::Backup, None);
        async move { store.put_new(key, bytes::Bytes::from_static(b"x")).await.unwrap() }
    };
    put(&bucket, "p/without").await;
    assert_eq!(posts.load(SeqCst), 0);
    bucket.login.role = Some("arn:aws:iam::123456789012:role/lifeboat".to_owned());
    bucket.login.external_id = Some("acme".to_owned());
    put(&bucket, "p/with").await;
    assert_eq!(posts.load(SeqCst), 1, "AssumeRole is a POST, and objects are PUT");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_more_than_a_page_are_whole() {
    use futures_util::{StreamExt, TryStreamExt};
    for kind in [Kind::Weed, Kind::Moto] {
        let Some(s3) = S3Server::start(kind) else { continue };
        s3.make_bucket("pages", true).await;
        let mut bucket = s3.bucket("pages", "db");
        bucket.parallel = 16;
        let store = S3Store::new(bucket.clone(), Duty::Backup, None);
        let keys: Vec<String> = (0..1_005).map(|number| format!("p/{number:05}")).collect();
        let puts = futures_util::stream::iter(keys.clone()).map(|key| {
            let store = store.clone();
            async move { store.put_new(&key, bytes::Bytes::from_static(b"x")).await }
        });
        puts.buffer_unordered(16).try_collect::<Vec<()>>().await.unwrap();
        let names = |list: Vec<lifeboat::store::ObjectInfo>| -> Vec<String> {
            list.into_iter().map(|object| object.key).collect()
        };
        assert_eq!(names(store.list("p/").await.unwrap()), keys, "{kind:?}");
        bucket.as_of = Some(lifeboat::clock::now().checked_add(jiff::SignedDuration::from_secs(60)).unwrap());
        let as_it_was = S3Store::new(bucket, Duty::Read, None);
        assert_eq!(names(as_it_was.list("p/").await.unwrap()), keys, "{kind:?}, by versions");
    }
}
