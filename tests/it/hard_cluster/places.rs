//! Encodings, locales, collations, the log's segments, checksums, settings that print values otherwise.

use std::io::Write as _;
use std::process::Stdio;

use super::*;
use crate::support::server::{Options, Server, command};

/// Texts in a client's own bytes, which need not be text at all.
fn raw(server: &Server, database: &str, encoding: &str, script: &[u8]) {
    let mut psql = command(&server.programs.path("psql"));
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-p", "5432", "-h"]);
    psql.arg(&server.socket_dir).env("PGCLIENTENCODING", encoding);
    let mut child = psql.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(script).unwrap();
    assert!(child.wait().unwrap().success(), "{database}");
}

const ENCODINGS: [(&str, &str, &str); 4] = [
    (
        "l1",
        "LATIN1",
        "create table \"tä\" (\"sp é\" text primary key, n int); insert into \"tä\" values ('é', 1), ('ÿ', 2); \
         comment on table \"tä\" is 'ö'; create function \"fü\"(\"ß\" text default 'ä') returns text language sql as 'select ''é''::text'; \
         create view \"vö\" as select \"sp é\" || 'ü' as \"x ñ\" from \"tä\"; grant select on \"vö\" to no_super",
    ),
    ("jp", "EUC_JP", "create table \"表\" (\"列\" text primary key); insert into \"表\" values ('日本'), ('語')"),
    ("w52", "WIN1252", "create table t (a text primary key); insert into t values ('€'), ('„x“'), ('Œ')"),
    ("sa", "SQL_ASCII", "create table t (a text primary key, n int)"),
];

fn with_all_encodings() -> Server {
    let server = Server::start_with(Options {
        checksums: false,
        conf: "timezone = 'Europe/Berlin'\ndatestyle = 'SQL, DMY'\nintervalstyle = 'sql_standard'\nextra_float_digits = -2".to_owned(),
        initdb: vec!["--locale-provider=icu", "--icu-locale=de-DE", "--locale=C.UTF-8", "--wal-segsize=1", "-g"],
        ..Options::default()
    });
    server.sql("postgres", "create role no_super; create role valid login valid until '2031-02-03 04:05:06+00'");
    server.sql("postgres", "create database orders");
    raw(
        &server,
        "orders",
        "UTF8",
        "create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         create collation tr (provider = icu, locale = 'tr-TR');
         create table t (id int primary key, a text collate ci unique, b text collate tr, c text, d timestamptz, e float8, f interval);
         insert into t select g, 'Äb' || g, 'ı' || g, 'ß' || g, '2026-03-29 01:00+00'::timestamptz + g * interval '1 hour', g / 7.0, g * interval '1 day 1 hour'
           from generate_series(1, 3000) g;
         create index t_b on t (b); create index t_c on t (c); create index t_c_c on t (c collate \"C\");
         alter role all set work_mem = '9MB'"
            .as_bytes(),
    );
    for (name, encoding, sql) in ENCODINGS {
        let make =
            format!("create database {name} template template0 encoding '{encoding}' locale 'C' locale_provider libc");
        server.sql("postgres", &make);
        raw(&server, name, "UTF8", sql.as_bytes());
    }
    let bytes = b"insert into t values ('caf\xe9', 1), ('\xff\xfe', 2);";
    raw(&server, "sa", "SQL_ASCII", bytes);
    // Bytes that WIN1252 has no character for, and EUC_JP no Unicode.
    raw(&server, "w52", "WIN1252", b"insert into t values ('\x81\x8d');");
    server
}

#[test]
fn every_encoding_comes_back_by_both_methods_and_a_source_without_checksums_is_a_finding() {
    let server = with_all_encodings();
    if server.programs.major < 15 {
        eprintln!("SKIPPED: ICU locales of databases came with version 15");
        return;
    }
    let home = Home::new(&server, "orders");
    databases(&home, "\"all\"");
    home.run(&["backup", POLICY]).expect(0);
    proven(&home, LOGICAL);

    // Everything else passes; that the pages have no checksums is said of the source, wherever one looks.
    let transcript = drill(&home, PHYSICAL, 4);
    for check in transcript["checks"].as_array().unwrap() {
        let expected = if check["name"] == "page_checksums" { "unchecked" } else { "passed" };
        let outcome =
            check["outcome"].as_str().unwrap_or_else(|| check["outcome"].as_object().unwrap().keys().next().unwrap());
        assert_eq!(outcome, expected, "{check:#}");
    }
    let environment = transcript["environment"].to_string();
    assert!(environment.contains("source_checksums_off"), "{environment}");
    let checked = home.run(&["check"]);
    assert!(checked.stdout.contains("checksums are off"), "{checked:?}");
    let status = home.run(&["status"]);
    assert!(status.stdout.contains("the source keeps no page checksums"), "{status:?}");
    let report = home.run(&["report"]);
    assert!(report.stdout.contains("page checksums"), "{report:?}");

    for method in ["physical", "logical"] {
        let found = broken(
            &home,
            method,
            &[
                (Some("l1"), "update \"tä\" set n = 3 where \"sp é\" = 'é'"),
                (Some("jp"), "delete from \"表\" where \"列\" = '語'"),
                (Some("w52"), "update t set a = 'E' where a = '€'"),
                (Some("sa"), "update t set a = 'cafe' where n = 1"),
                (Some("l1"), "drop view \"vö\""),
                (None, "update pg_collation set collversion = '1.0' where collname = 'tr'"),
                (None, "update pg_database set datcollversion = '1.0' where datname = 'orders'"),
                (None, "drop index t_c"),
                (None, "alter role valid valid until '2031-03-02 04:05:06+00'"),
            ],
            &["content", "completeness", "collations"],
        );
        assert_named(
            &found,
            &[
                "content: table public.\"tä\" in database l1",
                "content: table public.\"表\" in database jp",
                "content: table public.t in database w52",
                "content: table public.t in database sa",
                "completeness: view public.\"vö\"",
                "collations: collation public.tr",
                "collations: collation of the database",
                "completeness: index public.t_c",
                "completeness: role valid",
            ],
        );
    }
}

#[test]
fn a_collation_that_the_source_recorded_in_another_version_is_found_until_it_is_refreshed() {
    let server = Server::start();
    server.sql("postgres", "create database orders");
    server.sql(
        "orders",
        "create collation de (provider = icu, locale = 'de-DE'); create table t (a text collate de primary key); insert into t values ('ä');
         update pg_collation set collversion = '1.0' where collname = 'de'",
    );
    let home = Home::new(&server, "orders");
    backup(&home, "physical");
    let transcript = drill(&home, PHYSICAL, 3);
    let outcome = check(&transcript, "collations")["outcome"].to_string();
    assert!(outcome.contains("collation_version") && outcome.contains("public.de"), "{outcome}");
    server.sql("orders", "alter collation de refresh version");
    if server.programs.major >= 15 {
        server.sql("postgres", "alter database orders refresh collation version");
    }
    home.run(&["backup", POLICY]).expect(0);
    proven(&home, PHYSICAL);
    proven(&home, LOGICAL);
}

#[test]
fn long_segments_many_connections_and_transactions_that_are_not_over() {
    let server = Server::start_with(Options {
        conf: "max_prepared_transactions = 5\nmax_connections = 2000\ntrack_commit_timestamp = on".to_owned(),
        initdb: vec!["--locale=C.UTF-8", "--wal-segsize=64"],
        ..Options::default()
    });
    server.sql("postgres", "create database orders");
    server.sql("orders", "create table t as select generate_series(1, 1000) a; create table p (a int)");
    server
        .sql("orders", "begin; insert into t values (9001); insert into p values (1); prepare transaction 'in flight'");
    // Nobody's to wait for: it is open as long as the backups go on, and is then gone with its server.
    let socket = server.socket_dir.display().to_string();
    let mut open = command(&server.programs.path("psql"))
        .args(["-X", "-q", "-U", "postgres", "-h", &socket, "-d", "orders", "-c"])
        .arg("begin; delete from t where a < 500; insert into t values (8001); select pg_sleep(60)")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..100 {
        if server.sql(
            "postgres",
            "select count(*) from pg_stat_activity where query like '%pg_sleep(60)' and state = 'active'",
        ) != "0"
        {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let home = Home::new(&server, "orders");
    home.run(&["backup", POLICY]).expect(0);
    open.kill().unwrap();
    open.wait().unwrap();
    for name in [LOGICAL, PHYSICAL] {
        let transcript = proven(&home, name);
        let content = check(&transcript, "content")["looked_at"].to_string();
        assert!(content.contains("1000"), "{name}: what was committed, and no more: {content}");
    }
    // It is in the physical copy still, and can be ended there.
    let found = broken(
        &home,
        "physical",
        &[(None, "rollback prepared 'in flight'"), (None, "insert into p values (2)")],
        &["content"],
    );
    assert_named(&found, &["content: table public.p"]);
}
