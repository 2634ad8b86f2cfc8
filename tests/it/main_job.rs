//! The main job as a user would do it: the real binary, a real server, both methods.

use crate::support::data::{self, DATABASE};
use crate::support::home::{Home, POLICY, Ran};
use crate::support::server::Server;

/// The two shipped drills, by the method that each brings back.
const DRILLS: [(&str, &str); 2] = [("physical", "restore-latest"), ("logical", "restore-logical")];

fn backed_up() -> (Server, Home) {
    let server = Server::start();
    data::fill(&server);
    let home = Home::new(&server, DATABASE);
    home.run(&["backup", POLICY]).expect(0);
    (server, home)
}

/// The check of a drill's JSON.
fn check<'a>(transcript: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    let checks = transcript["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no check {name}: {checks:#?}"))
}

fn drill(home: &Home, name: &str) -> Ran {
    home.run(&["drill", POLICY, "--drill", name, "--output", "json"])
}

#[test]
fn both_methods_bring_a_lost_database_back_and_prove_it() {
    let (mut server, home) = backed_up();
    server.destroy();
    for (method, name) in DRILLS {
        let transcript = drill(&home, name).expect(0).json();
        assert_eq!(transcript["judgement"]["verdict"], "proven", "{method}: {:#}", transcript["judgement"]);
        assert_eq!(transcript["backup"]["method"], method);
        assert!(transcript["judgement"]["rpa"].as_f64().unwrap() >= 0.0);
        assert!(transcript["judgement"]["rta"].as_f64().unwrap() > 0.0);
        assert_eq!(transcript["scratch"]["isolation"]["network"], true, "the scratch was cut off");
        assert!(transcript["scratch"]["destroyed_at"].is_string(), "and is gone");
        let checks = transcript["checks"].as_array().unwrap();
        assert!(checks.len() >= 9, "{checks:#?}");
        for check in checks {
            assert_eq!(check["outcome"], "passed", "{method} {check:#}");
            assert!(!check["looked_at"].as_array().unwrap().is_empty(), "{method} {check:#}");
        }
        let content = &check(&transcript, "content")["looked_at"];
        assert!(content.to_string().contains("25050"), "every row was looked at: {content}");
    }
    let scratch: Vec<_> = std::fs::read_dir(home.scratch()).unwrap().collect();
    assert!(scratch.is_empty(), "{scratch:?}");
    let status = home.run(&["status"]).expect(0);
    assert!(status.stdout.contains(POLICY) && status.stdout.contains("proven"), "{status:?}");
}

#[test]
fn what_is_broken_in_the_copy_turns_the_right_check_red() {
    let (_server, home) = backed_up();
    // What is done to the scratch; the check that must turn red; what it must name.
    let faults = [
        ("drop table shop.orders_new", "completeness", "orders_new"),
        ("drop index shop.customer_twice", "completeness", "customer_twice"),
        ("alter table shop.customer drop constraint customer_email_key", "completeness", "customer_email_key"),
        ("alter table shop.customer disable trigger touch", "completeness", "touch"),
        ("alter table shop.customer alter name type varchar(100)", "completeness", "name"),
        ("revoke select on shop.customer from shop_reader", "completeness", "customer"),
        ("drop owned by \"odd \"\"role\"\"\"; drop role \"odd \"\"role\"\"\"", "completeness", "odd"),
        ("select lo_unlink(oid) from pg_largeobject_metadata", "content", "large object"),
        ("update shop.customer set email = 'x' where id = 77", "content", "customer"),
        ("delete from shop.orders where id = 5", "content", "orders"),
        ("select setval('shop.ticket', 4712)", "sequences", "ticket"),
        ("drop extension pg_trgm cascade", "extensions", "pg_trgm"),
        ("alter database orders set work_mem = '9MB'", "settings", "database orders"),
    ];
    for (method, _) in DRILLS {
        for (sql, name, object) in faults {
            let text = format!(
                r#"
[drill]
name = "broken"
description = "break the copy on purpose"
backup = {{ pick = "latest", method = "{method}" }}
[scratch]
kind = "cluster"
isolation = "required"
[[steps]]
restore.until = "latest"
[[steps]]
sabotage.sql = '''{sql}'''
[[steps]]
check.name = "{name}"
"#
            );
            home.write_drill("broken", &text);
            let transcript = drill(&home, "broken").expect(3).json();
            let outcome = &check(&transcript, name)["outcome"];
            let findings = outcome["failed"].as_array().unwrap_or_else(|| panic!("{method}: {sql}: {outcome:#}"));
            let named = findings.iter().any(|finding| finding["object"].as_str().unwrap().contains(object));
            assert!(named, "{method}: {sql}: {findings:#?}");
        }
    }
}

#[test]
fn a_sabotaged_drill_is_never_proven_even_if_nothing_is_seen() {
    let (_server, home) = backed_up();
    let text = r#"
[drill]
name = "harmless"
description = "sabotage that does nothing"
backup = { pick = "latest", method = "logical" }
[scratch]
kind = "cluster"
[[steps]]
restore.until = "latest"
[[steps]]
sabotage.sql = "select 1"
[[steps]]
check.name = "sequences"
"#;
    home.write_drill("harmless", text);
    let transcript = drill(&home, "harmless").expect(4).json();
    assert_eq!(transcript["judgement"]["verdict"], "unproven");
    assert_eq!(check(&transcript, "sequences")["outcome"], "passed");
}

#[test]
fn damaged_artifacts_are_named_and_never_restored() {
    let (_server, home) = backed_up();
    let backup = home.newest_backup();
    let part = backup.join("base/00000.zst.age");
    let whole = std::fs::read(&part).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x10;
    let (cut, swapped) = (&whole[..whole.len() - 1], std::fs::read(backup.join("globals.sql.zst.age")).ok());
    let mut faults: Vec<(&str, Option<Vec<u8>>)> =
        vec![("flipped", Some(flipped)), ("cut", Some(cut.to_vec())), ("empty", Some(Vec::new())), ("gone", None)];
    faults.extend(swapped.map(|bytes| ("swapped", Some(bytes))));
    let method = if backup.join("globals.sql.zst.age").is_file() { "restore-logical" } else { "restore-latest" };
    for (fault, bytes) in faults {
        match bytes {
            Some(bytes) => std::fs::write(&part, bytes).unwrap(),
            None => std::fs::remove_file(&part).unwrap(),
        }
        let verified = home.run(&["verify", POLICY]).expect(3);
        assert!(verified.stdout.contains("base/00000.zst.age"), "{fault}: {verified:?}");
        let transcript = drill(&home, method).expect(3).json();
        assert_eq!(transcript["judgement"]["verdict"], "failed", "{fault}");
        let manifest = &check(&transcript, "manifest")["outcome"];
        assert!(manifest.to_string().contains("base/00000.zst.age"), "{fault}: {manifest}");
        assert!(transcript["judgement"]["rta"].is_null(), "{fault}: the clock had not stopped");
        std::fs::write(&part, &whole).unwrap();
    }
    home.run(&["verify", POLICY]).expect(0);
}

#[test]
fn a_forged_or_unsigned_manifest_is_a_finding() {
    let (_server, home) = backed_up();
    let backup = home.newest_backup();
    let (manifest, signature) = (backup.join("manifest.json"), backup.join("manifest.json.sig"));
    let (text, sig) = (std::fs::read_to_string(&manifest).unwrap(), std::fs::read(&signature).unwrap());

    std::fs::write(&manifest, text.replacen("\"sequence\":", "\"sequence\": 1", 1)).unwrap();
    let forged = home.run(&["verify", POLICY]).expect(3);
    assert!(forged.stdout.contains("manifest_hash") || forged.stdout.contains("signature"), "{forged:?}");
    std::fs::write(&manifest, &text).unwrap();

    std::fs::remove_file(&signature).unwrap();
    home.run(&["verify", POLICY]).expect(3);
    home.run(&["drill", POLICY]).expect(3);
    std::fs::write(&signature, &sig).unwrap();

    // A key that nobody here trusts.
    std::fs::remove_file(home.path().join("keys/signing.pub.pem")).unwrap();
    let other = Home::for_url("postgresql://nobody@/nothing?host=/nowhere");
    std::fs::copy(other.path().join("keys/signing.pub.pem"), home.path().join("keys/signing.pub.pem")).unwrap();
    let untrusted = home.run(&["verify", POLICY]).expect(3);
    assert!(untrusted.stdout.contains("signer_untrusted"), "{untrusted:?}");
}

#[test]
fn a_wrong_key_is_a_finding() {
    let (_server, home) = backed_up();
    let other = Home::for_url("postgresql://nobody@/nothing?host=/nowhere");
    for key in ["keys/working.agekey", "keys/escrow.agekey"] {
        std::fs::copy(other.path().join(key), home.path().join(key)).unwrap();
    }
    for (_, name) in DRILLS {
        let transcript = drill(&home, name).expect(3).json();
        assert!(transcript.to_string().contains("wrong_key"), "{:#}", transcript["judgement"]);
    }
}

#[test]
fn a_scratch_that_cannot_start_is_unproven_and_not_failed() {
    let (_server, home) = backed_up();
    home.edit_config(|text| text.replace("preload = []", "preload = [\"no_such_library\"]"));
    for (_, name) in DRILLS {
        let transcript = drill(&home, name).expect(4).json();
        assert_eq!(transcript["judgement"]["verdict"], "unproven");
        assert!(transcript.to_string().contains("no_such_library"), "{:#}", transcript["steps"]);
        assert!(transcript["scratch"]["destroyed_at"].is_string());
    }
}

#[test]
fn a_drill_without_a_backup_is_unproven() {
    let server = Server::start();
    data::fill(&server);
    let home = Home::new(&server, DATABASE);
    let ran = home.run(&["drill", POLICY, "--drill", "restore-latest"]).expect(4);
    assert!(ran.stdout.contains("lifeboat backup"), "it says what to do: {ran:?}");
    home.run(&["verify", POLICY]).expect(4);
    home.run(&["status"]).expect(4);
}

#[test]
fn a_damaged_newest_backup_is_not_passed_over_for_an_older_one() {
    let (_server, home) = backed_up();
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    let newest = home.newest_backup();
    std::fs::write(newest.join("manifest.json"), "{}").unwrap();
    for side in ["lifeboat.db", "lifeboat.db-wal", "lifeboat.db-shm"] {
        let _ = std::fs::remove_file(home.path().join(side));
    }
    let transcript = drill(&home, "restore-logical").expect(3).json();
    assert!(check(&transcript, "manifest")["outcome"].to_string().contains("manifest_"), "{:#}", transcript["checks"]);
}

#[test]
fn an_artifact_that_was_swapped_after_it_was_taken_is_a_finding() {
    let (server, home) = backed_up();
    // The same keys, another catalog: somebody who can sign takes a backup and puts it under an older one's name.
    let backup = home.newest_backup();
    let signed = std::fs::read_to_string(backup.join("manifest.json")).unwrap();
    drop(server);
    let pretty = signed.replacen('{', "{ ", 1);
    let key = home.path().join("keys/signing.pem");
    let file = home.path().join("other.json");
    std::fs::write(&file, &pretty).unwrap();
    let sign = std::process::Command::new("openssl")
        .args(["pkeyutl", "-sign", "-rawin", "-inkey", key.to_str().unwrap(), "-in", file.to_str().unwrap()])
        .output();
    let Ok(sign) = sign else {
        eprintln!("SKIPPED: openssl is not installed here");
        return;
    };
    assert!(sign.status.success(), "{sign:?}");
    let mut signature: serde_json::Value =
        serde_json::from_slice(&std::fs::read(backup.join("manifest.json.sig")).unwrap()).unwrap();
    let base64 = |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    signature["signature"] = base64(&sign.stdout).into();
    signature["sha256"] = sha256(&file).into();
    std::fs::write(backup.join("manifest.json"), pretty).unwrap();
    std::fs::write(backup.join("manifest.json.sig"), signature.to_string()).unwrap();
    let method = if backup.join("globals.sql.zst.age").is_file() { "restore-logical" } else { "restore-latest" };
    let transcript = drill(&home, method).expect(3).json();
    assert!(check(&transcript, "manifest")["outcome"].to_string().contains("manifest_swapped"), "{transcript:#}");
}

fn sha256(file: &std::path::Path) -> String {
    let output = std::process::Command::new("sha256sum").arg(file).output().unwrap();
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().unwrap().to_owned()
}

#[test]
fn a_wrong_question_says_nothing_about_the_backup() {
    let (_server, home) = backed_up();
    for (query, code) in [("selekt 1", 4), ("select 1 from no_such_table", 3)] {
        let text = format!(
            r#"
[drill]
name = "question"
description = "ask"
backup = {{ pick = "latest", method = "physical" }}
[scratch]
kind = "cluster"
[[steps]]
restore.until = "latest"
[[steps]]
await-ready = {{ query = "{query}", within = "1s", timeout = "2s" }}
[[steps]]
check.name = "manifest"
"#
        );
        home.write_drill("question", &text);
        drill(&home, "question").expect(code);
    }
}
