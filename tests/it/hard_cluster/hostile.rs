//! Many databases, templates, roles and tablespaces with odd names, and settings that make every connection hostile.

use super::*;
use crate::support::server::{Options, Server, unprivileged};

const CLUSTER: &str = r#"
set statement_timeout = 0;
create role boss superuser login password 'hush-boss' valid until '2031-02-03 04:05:06+00' connection limit 7;
create role "Wéird ""role"" $1; --" login bypassrls createdb password 'hush-weird';
create role "a b" nologin inherit;
create role grp;
create role grp2 noinherit;
grant grp to "a b" with admin option;
grant grp2 to grp;
grant pg_read_all_data, pg_monitor to "Wéird ""role"" $1; --";
alter role boss set work_mem = '7MB';
alter role "a b" set search_path = 'evil, "q uote"';
alter role boss set log_statement = 'all';
comment on role boss is 'the boss''s';
create database orders;
create database "named ""db"" é" owner "a b" connection limit 5;
create database in_space tablespace ts_one;
comment on database orders is 'a comment''s';
grant connect, temp on database orders to "a b";
revoke all on database orders from public;
grant create on database "named ""db"" é" to grp with grant option;
alter role "a b" in database "named ""db"" é" set temp_tablespaces = 'ts_two';
grant create on tablespace ts_one to grp;
comment on tablespace ts_one is 'tablespace one';
alter tablespace "t w%o" owner to grp;
create database closed;
create database own_tpl is_template true;
create database closed_tpl is_template true;
"#;

const ORDERS: &str = r#"
create table t (id int primary key, v text);
insert into t select g, 'v' || g from generate_series(1, 5000) g;
create table in_ts (a int) tablespace ts_one;
insert into in_ts values (1);
create index in_other on t (v) tablespace "t w%o";
create unlogged table u (a int);
insert into u values (7);
create sequence sq;
select nextval('sq');
create function shout() returns event_trigger language plpgsql as $$ begin raise exception 'no DDL here'; end $$;
create event trigger no_ddl on ddl_command_start execute function shout();
"#;

/// Last: from here on no connection is an easy one.
const HOSTILE: &str = "
alter database closed allow_connections false;
alter database closed_tpl allow_connections false;
alter database orders set default_transaction_read_only = on;
alter database orders set search_path = evil;
alter database orders set app.secret = 'hush-secret';
alter database orders set idle_in_transaction_session_timeout = '1ms';
alter database orders set statement_timeout = 1;
alter role all set lock_timeout = '1ms';
alter role postgres set default_transaction_isolation = 'serializable';
alter role boss in database orders set work_mem = '11MB'";

fn hostile() -> Server {
    let server = Server::start();
    let place = |name: &str| {
        let place = server.data_dir.parent().unwrap().join(name);
        std::fs::create_dir(&place).unwrap();
        if let Some((uid, gid)) = unprivileged() {
            std::os::unix::fs::chown(&place, Some(uid), Some(gid)).unwrap();
        }
        place.display().to_string()
    };
    server.sql(
        "postgres",
        &format!("create tablespace ts_one location '{}' with (seq_page_cost = 1.5)", place("ts one")),
    );
    server.sql("postgres", &format!("create tablespace \"t w%o\" location '{}'", place("t w%o")));
    if server.programs.major >= 15 {
        // Alone in its statement: making a tablespace cannot be part of a transaction.
        server.sql("postgres", "alter system set allow_in_place_tablespaces = on");
        server.sql("postgres", "select pg_reload_conf()");
        std::thread::sleep(std::time::Duration::from_millis(200));
        server.sql("postgres", "create tablespace ts_two location ''");
    } else {
        server.sql("postgres", &format!("create tablespace ts_two location '{}'", place("two")));
    }
    for statement in CLUSTER.split(";\n").filter(|statement| !statement.trim().is_empty()) {
        server.sql("postgres", statement);
    }
    server.sql("orders", ORDERS);
    server.sql("in_space", "create table s as select generate_series(1, 100) a");
    for template in ["template1", "own_tpl", "closed", "closed_tpl"] {
        server.sql(template, &format!("create table in_{template} as select 1 a"));
    }
    for statement in HOSTILE.split(";\n") {
        server.sql("postgres", statement);
    }
    server
}

#[test]
fn a_hostile_cluster_comes_back_and_what_nobody_could_see_is_named() {
    let server = hostile();
    let home = Home::new(&server, "orders");
    home.run(&["check", "--output", "json"]);
    let said = backup(&home, "physical");
    assert!(said.contains("`closed`") && said.contains("`closed_tpl`"), "{said}");
    let transcript = drill(&home, PHYSICAL, 4);
    for check in transcript["checks"].as_array().unwrap() {
        assert_eq!(check["outcome"], "passed", "{check:#}");
    }
    assert_eq!(unchecked(&transcript, "content", true), ["database closed", "database closed_tpl"]);
    assert_eq!(
        unchecked(&transcript, "content", false),
        ["database closed", "database closed_tpl", "table public.u in database orders"]
    );

    // Faults in what belongs to no database, and in templates; the object that the right check must name.
    let found = broken(
        &home,
        "physical",
        &[
            (None, "alter database orders connection limit 3"),
            (None, "alter database own_tpl is_template false"),
            (None, "comment on database orders is 'another'"),
            (None, "alter role all reset lock_timeout"),
            (None, "alter tablespace ts_one reset (seq_page_cost)"),
            (None, "revoke create on tablespace ts_one from grp"),
            (None, "alter tablespace \"t w%o\" owner to postgres"),
            (None, "comment on role boss is null"),
            (None, "revoke admin option for grp from \"a b\""),
            (None, "alter role \"Wéird \"\"role\"\" $1; --\" nobypassrls"),
            (None, "alter role boss valid until '2031-02-03 04:05:07+00' password null"),
            (None, "revoke create on database \"named \"\"db\"\" é\" from grp"),
            (None, "alter role boss in database orders reset work_mem"),
            (Some("own_tpl"), "drop table in_own_tpl"),
            (Some("template1"), "update in_template1 set a = 2"),
            (Some("in_space"), "delete from s where a = 5"),
        ],
        &["completeness", "content", "settings"],
    );
    assert_named(
        &found,
        &[
            "completeness: attributes of database orders",
            "completeness: attributes of database own_tpl",
            "completeness: comment on database orders",
            "completeness: setting of all roles lock_timeout",
            "completeness: attributes of tablespace ts_one",
            "completeness: grants on tablespace ts_one",
            "completeness: attributes of tablespace \"t w%o\"",
            "completeness: comment on role boss",
            "completeness: role a b",
            "completeness: role Wéird \"role\" $1; --",
            "completeness: role boss",
            "completeness: grant grp on database in database named \"db\" é",
            "settings: database orders",
            "completeness: table public.in_own_tpl in database own_tpl",
            "content: table public.in_template1 in database template1",
            "content: table public.s in database in_space",
        ],
    );

    // Without the two that nobody gets into, nothing is left to doubt.
    server.sql("postgres", "drop database closed");
    server.sql("postgres", "alter database closed_tpl is_template false");
    server.sql("postgres", "drop database closed_tpl");
    backup(&home, "physical");
    proven(&home, PHYSICAL);
    for file in ["manifest.json", "manifest.json.sig"] {
        let text = std::fs::read_to_string(home.newest_backup().join(file)).unwrap();
        assert!(!text.contains("hush") && !text.contains("SCRAM"), "no secret is written down: {file}");
    }
}

#[test]
fn a_dump_of_all_databases_says_which_it_does_not_hold() {
    let server = hostile();
    let home = Home::new(&server, "orders");
    databases(&home, "\"all\"");
    let said = backup(&home, "logical");
    assert!(said.contains("template1") && !said.contains("hush"), "{said}");
    let transcript = drill(&home, LOGICAL, 4);
    let left_out = ["database closed", "database closed_tpl", "database template1"];
    assert_eq!(unchecked(&transcript, "content", true), left_out);
    for check in transcript["checks"].as_array().unwrap() {
        assert_eq!(check["outcome"], "passed", "{check:#}");
    }
    databases(&home, r#"["orders", "in_space", "own_tpl", 'named "db" é']"#);
    backup(&home, "logical");
    proven(&home, LOGICAL);
    let found = broken(
        &home,
        "logical",
        &[
            (None, "alter database in_space connection limit 3"),
            (None, "comment on database orders is 'another'"),
            (None, "alter role all reset lock_timeout"),
            (None, "alter tablespace ts_one reset (seq_page_cost)"),
            (None, "revoke create on tablespace ts_one from grp"),
            (None, "comment on tablespace ts_one is null"),
            (None, "revoke pg_monitor from \"Wéird \"\"role\"\" $1; --\""),
            (None, "alter role \"a b\" in database \"named \"\"db\"\" é\" reset temp_tablespaces"),
            (Some("own_tpl"), "drop table in_own_tpl"),
            (None, "update public.t set v = 'x' where id = 77"),
        ],
        &["completeness", "content", "settings"],
    );
    assert_named(
        &found,
        &[
            "completeness: attributes of database in_space",
            "completeness: comment on database orders",
            "completeness: setting of all roles lock_timeout",
            "completeness: attributes of tablespace ts_one",
            "completeness: grants on tablespace ts_one",
            "completeness: comment on tablespace ts_one",
            "completeness: role Wéird \"role\" $1; --",
            "settings: database named \"db\" é",
            "completeness: table public.in_own_tpl in database own_tpl",
            "content: table public.t in database orders",
        ],
    );
}

#[test]
fn templates_that_nobody_touched_are_no_reason_for_doubt_and_nobody_stays_in_them() {
    let server = Server::start_with(Options::default());
    server.sql("postgres", "create database orders");
    server.sql("orders", "create table t as select generate_series(1, 10) a");
    let home = Home::new(&server, "orders");
    databases(&home, "\"all\"");
    home.run(&["backup", POLICY]).expect(0);
    proven(&home, LOGICAL);
    let transcript = proven(&home, PHYSICAL);
    let content = check(&transcript, "encodings")["looked_at"].to_string();
    assert!(content.contains("\"count\":3"), "orders, postgres and template1: {content}");
}
