//! Sources that have less than most: no sequences, no tables at all, no page checksums.

use crate::support::home::{Home, POLICY};
use crate::support::server::{Options, Server};

fn check<'a>(transcript: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    transcript["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap()
}

#[test]
fn a_database_with_nothing_but_one_table_is_proven_and_so_is_an_empty_one() {
    let server = Server::start();
    server.sql("postgres", "create database plain");
    for sql in ["create table t (a int)", "drop table t"] {
        server.sql("plain", sql);
        let home = Home::new(&server, "plain");
        home.run(&["backup", POLICY]).expect(0);
        for name in ["restore-latest", "restore-logical"] {
            let transcript = home.run(&["drill", POLICY, "--drill", name, "--output", "json"]).expect(0).json();
            let looked = &check(&transcript, "sequences")["looked_at"];
            assert!(looked.to_string().contains("databases without any"), "{looked}");
        }
    }
}

#[test]
fn a_source_without_page_checksums_is_backed_up_and_its_pages_are_never_called_good() {
    let server = Server::start_with(Options { checksums: false, ..Options::default() });
    server.sql("postgres", "create database plain");
    server.sql("plain", "create table t as select n from generate_series(1, 1000) n");
    let home = Home::new(&server, "plain");
    home.run(&["backup", POLICY]).expect(0);
    let unproven = home.run(&["drill", POLICY, "--drill", "restore-latest", "--output", "json"]).expect(4).json();
    let pages = &check(&unproven, "page_checksums")["outcome"];
    assert!(pages["unchecked"].as_str().unwrap().contains("pg_checksums"), "it says how to mend it: {pages}");
    // The user may decide to do without them; then it is the user's word, and it stands in the report.
    let drill = std::fs::read_to_string(home.path().join("drills/restore-latest.toml")).unwrap();
    let without =
        drill.replace("check.name = \"page_checksums\"", "check = { name = \"page_checksums\", required = false }");
    assert_ne!(drill, without);
    home.write_drill("restore-latest", &without);
    let proven = home.run(&["drill", POLICY, "--drill", "restore-latest", "--output", "json"]).expect(0).json();
    assert!(check(&proven, "page_checksums")["outcome"]["unchecked"].is_string());
    home.run(&["drill", POLICY, "--drill", "restore-logical"]).expect(0);
}

#[test]
fn the_role_that_the_readme_describes_is_enough_for_a_proof_and_less_is_not() {
    let server = Server::start();
    crate::support::data::fill(&server);
    server.sql(
        "postgres",
        "create role lifeboat login replication; grant pg_read_all_data, pg_read_all_settings, pg_monitor to lifeboat;
         alter role lifeboat set lo_compat_privileges = on; create role weak login replication",
    );
    let url = server.url(crate::support::data::DATABASE);
    let home = Home::for_url(&url.replace("postgres@", "lifeboat@"));
    home.run(&["backup", POLICY]).expect(0);
    home.run(&["drill", POLICY]).expect(0);
    // A role that may replicate and read nothing: the bytes are all there, and nobody could compare them.
    let home = Home::for_url(&url.replace("postgres@", "weak@"));
    home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    home.run(&["check"]).expect(3);
    let unproven = home.run(&["drill", POLICY, "--drill", "restore-latest", "--output", "json"]).expect(4).json();
    assert!(unproven["judgement"]["reasons"].to_string().contains("content"), "{:#}", unproven["judgement"]);
}
