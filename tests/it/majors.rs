//! Other major versions than this system's own: real servers of 13, 14, 16, 17 and 18, and what each of them has of its own.

use crate::support::data::{self, DATABASE};
use crate::support::home::{Home, POLICY, walk};
use crate::support::majors;
use crate::support::server::{Options, Server, command};

/// What 18 has and 15 has not.
const EIGHTEEN: &str = "
create extension if not exists btree_gist;
create table shop.computed (a int, b int generated always as (a * 2) virtual, c int generated always as (a * 3) stored);
insert into shop.computed (a) select generate_series(1, 100);
create table shop.checked (a int constraint a_there not null, b int, constraint positive check (b > 0) not enforced);
insert into shop.checked select n, -n from generate_series(1, 20) n;
alter table shop.checked add constraint b_there not null b not valid;
create table shop.stay (room int, during daterange, primary key (room, during without overlaps));
insert into shop.stay select n, daterange('2026-01-01', '2026-01-05') from generate_series(1, 10) n;
create table shop.visit (room int, during daterange, foreign key (room, period during) references shop.stay (room, period during));
insert into shop.visit select n, daterange('2026-01-02', '2026-01-03') from generate_series(1, 10) n;
create collation shop.plain (provider = builtin, locale = 'C.UTF-8');
create table shop.sorted (t text collate shop.plain primary key);
insert into shop.sorted select 'ä' || n from generate_series(1, 50) n;
create publication changes for table shop.computed with (publish_generated_columns = stored);
analyze;
";

fn filled(major: u32) -> (Server, Home) {
    let initdb = match major {
        17.. => vec!["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"],
        _ => vec!["--locale=C"],
    };
    let server = Server::start_with(Options { major: Some(major), initdb, ..Options::default() });
    data::fill(&server);
    if major >= 18 {
        server.sql(DATABASE, EIGHTEEN);
    }
    let home = Home::new(&server, DATABASE);
    (server, home)
}

fn proven(home: &Home, major: u32, drill: &str) {
    let transcript = home.run(&["drill", POLICY, "--drill", drill, "--output", "json"]).expect(0).json();
    assert_eq!(transcript["judgement"]["verdict"], "proven", "{major} {drill}: {:#}", transcript["judgement"]);
    let checks = transcript["checks"].as_array().unwrap();
    assert!(checks.len() >= 9, "{checks:#?}");
    for check in checks {
        assert_eq!(check["outcome"], "passed", "{major} {drill}: {check:#}");
    }
    let tools = &transcript["tools"];
    assert!(tools["postgres"].as_str().unwrap().starts_with(&format!("{major}.")), "{tools:#}");
    if drill == "restore-logical" && [13, 14, 17].contains(&major) {
        assert!(tools["pg_restore"].as_str().unwrap().starts_with("18."), "the mix is written down: {tools:#}");
    }
}

/// Both methods, all shipped checks, and a restored folder that starts.
fn main_job(major: u32) {
    if !majors::here(major) {
        return;
    }
    let (mut server, home) = filled(major);
    home.run(&["backup", POLICY]).expect(0);
    home.run(&["verify", POLICY]).expect(0);
    let rows = server.sql(DATABASE, "select count(*), sum(total) from shop.orders");
    server.destroy();
    proven(&home, major, "restore-latest");
    proven(&home, major, "restore-logical");
    let back = home.path().join("back");
    home.run(&["restore", POLICY, "--to", back.to_str().unwrap()]).expect(0);
    let mut restored = Server::adopt(&server, back);
    restored.launch();
    assert_eq!(restored.sql(DATABASE, "select count(*), sum(total) from shop.orders"), rows, "{major}");
}

#[test]
fn both_methods_are_proven_on_13() {
    main_job(13);
}

#[test]
fn both_methods_are_proven_on_14() {
    main_job(14);
}

#[test]
fn both_methods_are_proven_on_16() {
    main_job(16);
}

#[test]
fn both_methods_are_proven_on_17() {
    main_job(17);
}

#[test]
fn both_methods_are_proven_on_18() {
    main_job(18);
}

#[test]
fn what_18_has_of_its_own_turns_red_when_it_is_broken() {
    if !majors::here(18) {
        return;
    }
    let (_server, home) = filled(18);
    home.run(&["backup", POLICY]).expect(0);
    let faults = [
        (
            "drop publication changes; alter table shop.computed alter b set expression as (a * 4)",
            "completeness",
            "computed",
        ),
        ("alter table shop.checked drop constraint positive", "completeness", "positive"),
        ("alter table shop.visit drop constraint visit_room_during_fkey", "completeness", "visit_room_during_fkey"),
        ("drop publication changes; update shop.computed set a = 7 where a = 8", "content", "computed"),
    ];
    for method in ["physical", "logical"] {
        for (sql, check, object) in faults {
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
check.name = "{check}"
"#
            );
            home.write_drill("broken", &text);
            let transcript = home.run(&["drill", POLICY, "--drill", "broken", "--output", "json"]).expect(3).json();
            let found = transcript["checks"].to_string();
            assert!(found.contains("failed") && found.contains(object), "{method}: {sql}: {found}");
        }
    }
}

#[test]
fn programs_that_cannot_serve_an_old_server_are_named() {
    if !majors::here(13) {
        return;
    }
    let (_server, home) = filled(13);
    home.run(&["backup", POLICY]).expect(0);
    let dirs = majors::bin_dirs(13).unwrap();
    // Only the client tools are left: no server of another major version is taken in its stead.
    home.edit_config(|text| text.replace(&format!("{:?}, ", dirs[0]), ""));
    for drill in ["restore-latest", "restore-logical"] {
        let ran = home.run(&["drill", POLICY, "--drill", drill]).expect(4);
        assert!(format!("{}{}", ran.stdout, ran.stderr).contains("PostgreSQL 13 programs"), "{ran:?}");
    }
    assert!(walk(&home.scratch()).is_empty());
    let told = command(&dirs[1].join("pg_dump")).arg("--version").output().unwrap();
    assert!(String::from_utf8_lossy(&told.stdout).contains(" 18."));
}
