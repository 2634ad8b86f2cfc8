//! Wrong input to every command: one clear error with a hint, and the right exit code.

use crate::support::data::{self, DATABASE};
use crate::support::home::{Home, POLICY, Ran, walk};
use crate::support::server::{Options, Server};

#[track_caller]
fn refused(ran: Ran, code: i32, word: &str) {
    let ran = ran.expect(code);
    assert!(ran.stderr.contains("error"), "{ran:?}");
    assert!(ran.stderr.contains("hint") || ran.stderr.contains("help"), "what to do: {ran:?}");
    assert!(ran.stderr.contains(word), "`{word}` is not in it: {ran:?}");
    assert!(!ran.stderr.contains("panicked"), "{ran:?}");
    assert!(ran.stdout.is_empty(), "nothing on standard output: {ran:?}");
}

#[test]
fn names_that_are_not_there_and_configurations_that_are_wrong() {
    let home = Home::for_url("postgresql://nobody@/nothing?host=/nowhere");
    for verb in ["backup", "drill", "runbook", "verify", "status", "restore"] {
        let args: &[&str] = match verb {
            "restore" => &["restore", "oders", "--to", "somewhere"],
            _ => &[verb, "oders"],
        };
        refused(home.run(args), 2, "orders");
    }
    refused(home.run(&["backup", POLICY, "--job", "logicl"]), 2, "logical");
    refused(home.run(&["drill", POLICY, "--drill", "restore-latst"]), 2, "restore-latest");
    refused(home.run(&["report", "00000000-0000-7000-8000-000000000000"]), 2, "00000000");
    refused(home.run(&["report", "not-a-run"]), 2, "not-a-run");
    refused(home.run(&["drill", POLICY, "--backup", "junk"]), 2, "junk");
    std::fs::create_dir(home.store()).unwrap();
    refused(home.run(&["drill", POLICY, "--backup", "20260131T030000Z-0a1b2c3d"]), 2, "20260131T030000Z-0a1b2c3d");
    refused(home.run(&["backpu", POLICY]), 2, "backup");
    refused(home.run(&["backup"]), 2, "POLICY");
    refused(home.run(&["backup", POLICY, "--config", "nowhere.toml"]), 2, "init");
    refused(home.run(&["restore", POLICY]), 2, "--to");

    let policy = home.path().join("policies/orders.toml");
    let good = std::fs::read_to_string(&policy).unwrap();
    for (bad, word) in [
        ("", "policy"),
        ("[policy", "orders.toml"),
        ("name = 3", "orders.toml"),
        (&good.replace("rpo = ", "rop = "), "rpo"),
        (&good.replace("[source]", "[source]\npassword = \"x\""), "password"),
    ] {
        std::fs::write(&policy, bad).unwrap();
        let ran = home.run(&["status"]).expect(2);
        assert!(ran.stderr.contains(word) && ran.stderr.contains("orders.toml"), "{bad:?}: {ran:?}");
        home.run(&["check"]).expect(2);
    }
    std::fs::write(
        &policy,
        good.replace("rpo = \"", "rpo = \"x").replace("rto = \"", "rto = \"y").replace("tier", "teir"),
    )
    .unwrap();
    let all = home.run(&["check"]).expect(2);
    for word in ["rpo", "rto", "teir"] {
        assert!(all.stderr.contains(word), "all errors at once, `{word}` too: {}", all.stderr);
    }
}

#[test]
fn servers_that_cannot_be_reached_and_passwords_that_are_wrong() {
    let nowhere = Home::for_url("postgresql://nobody@/nothing?host=/nowhere");
    refused(nowhere.run(&["backup", POLICY]), 1, "/nowhere");
    nowhere.run(&["check"]).expect(3);

    let port = 28_731;
    let server = Server::start_with(Options { tcp_port: Some(port), ..Options::default() });
    data::fill(&server);
    server.sql("postgres", "create role backup login superuser password 'canary-4b1d'");
    let hba = "local all all trust\nhost all,replication all 127.0.0.1/32 scram-sha-256\n";
    std::fs::write(server.data_dir.join("pg_hba.conf"), hba).unwrap();
    server.sql("postgres", "select pg_reload_conf()");
    let home = Home::for_url(&format!("postgresql://backup@127.0.0.1:{port}/{DATABASE}"));
    refused(home.run(&["backup", POLICY]), 1, "password");
    let policy = home.path().join("policies/orders.toml");
    let good = std::fs::read_to_string(&policy).unwrap();
    std::fs::write(&policy, good.replace("[source]\n", "[source]\npassword_env = \"ORDERS_PASSWORD\"\n")).unwrap();
    refused(home.run(&["backup", POLICY]), 1, "ORDERS_PASSWORD");
    let with =
        |password: &str, args: &[&str]| crate::support::home::ran(home.command(args).env("ORDERS_PASSWORD", password));
    refused(with("wrong-canary", &["backup", POLICY]), 1, "password");
    with("canary-4b1d", &["backup", POLICY]).expect(0);
    with("canary-4b1d", &["drill", POLICY]).expect(0);
    with("canary-4b1d", &["report", POLICY, "--html"]).expect(0);
    for file in walk(home.path()) {
        let bytes = std::fs::read(&file).unwrap();
        let found = bytes.windows(11).any(|window| window == b"canary-4b1d");
        assert!(!found, "the password is in {}", file.display());
    }
}

#[test]
fn folders_that_cannot_be_written_and_keys_that_others_can_read() {
    let server = Server::start();
    data::fill(&server);
    let home = Home::new(&server, DATABASE);
    let key = home.path().join("keys/signing.pem");
    let mode = |mode| std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    mode(0o644);
    refused(home.run(&["backup", POLICY]), 1, "signing.pem");
    mode(0o600);
    std::fs::write(home.path().join("file"), "").unwrap();
    home.edit_config(|text| text.replace("path = \"store\"", "path = \"file\""));
    refused(home.run(&["backup", POLICY]), 1, "file");
    home.edit_config(|text| text.replace("path = \"file\"", "path = \"/proc/store\""));
    refused(home.run(&["backup", POLICY]), 1, "/proc/store");
    home.edit_config(|text| text.replace("path = \"/proc/store\"", "path = \"store\""));
    let again = home.run(&["init", "postgresql://a@/b", "--policy", POLICY, "--dir", home.path().to_str().unwrap()]);
    refused(again, 2, "lifeboat.toml");
    refused(home.run(&["init", "postgresql://a:secret@/b", "--dir", "/tmp/never"]), 2, "password");
    home.run(&["backup", POLICY]).expect(0);
    std::fs::write(home.path().join("lifeboat.db"), "not a database at all, but long enough to be read as one")
        .unwrap();
    refused(home.run(&["status"]), 1, "catalog rebuild");
    home.run(&["catalog", "rebuild"]).expect(0);
    home.run(&["drill", POLICY]).expect(0);
}
