//! A sealed logical backup comes back into a sandbox as it was, and what it carries gets no rights.

use std::collections::BTreeMap;
use std::path::Path;

use lifeboat::backup::logical::{PutBack, put_back};
use lifeboat::domain::artifact::Manifest;
use lifeboat::domain::check::Stop;
use lifeboat::domain::config::ScratchConfig;
use lifeboat::domain::drill::{IsolationDemand, ScratchKind, ScratchPlan};
use lifeboat::domain::ids::RunId;
use lifeboat::domain::transcript::RestoreFacts;
use lifeboat::probe::Endpoint;
use lifeboat::progress::Silent;
use lifeboat::scratch::Scratch;
use lifeboat::seal::Opener;
use lifeboat::store;

use crate::support::copies::{RICH, dumped};
use crate::support::home::{Home, POLICY};
use crate::support::server::Server;

/// The newest backup of a home, and what opens it.
pub fn opened(home: &Home) -> (Manifest, Opener) {
    let text = std::fs::read_to_string(home.newest_backup().join("manifest.json")).unwrap();
    let opener = Opener::read(&[home.path().join("keys/working.agekey")]).unwrap();
    (serde_json::from_str(&text).unwrap(), opener)
}

/// A scratch cluster of the home's own.
pub async fn scratch(home: &Home, server: &Server) -> Scratch {
    let plan = ScratchPlan { kind: ScratchKind::Cluster, server: None, isolation: IsolationDemand::Required };
    let config =
        ScratchConfig { dir: home.scratch(), user: "postgres".into(), preload: vec![], servers: BTreeMap::new() };
    Scratch::provision(RunId(uuid::Uuid::now_v7()), &plan, &config, &server.programs, &[]).await.unwrap()
}

pub async fn brought_back(home: &Home, server: &Server) -> (Scratch, Result<RestoreFacts, Stop>) {
    let (manifest, opener) = opened(home);
    let mut scratch = scratch(home, server).await;
    scratch.prepare_empty(&manifest.fingerprint).await.unwrap();
    scratch.start(&manifest.fingerprint, None).await.unwrap();
    let what = PutBack {
        store: store::open_url(home.store().to_str().unwrap()).unwrap(),
        manifest: &manifest,
        opener: &opener,
        server: scratch.server().unwrap(),
        whole_server: true,
        with_roles: false,
        rename: scratch.rename(&[]),
        work_dir: scratch.work_dir(),
        programs: &server.programs,
        wrap: scratch.wrap(),
        parallel: 2,
        progress: &Silent,
    };
    let facts = put_back(&what).await;
    (scratch, facts)
}

/// What PostgreSQL's own program says of a server or a database.
fn printed(server: &Server, program: &str, endpoint: &Endpoint, args: &[&str]) -> Vec<String> {
    let output = std::process::Command::new(server.programs.path(program))
        .env_clear()
        .envs(endpoint.libpq_env())
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
        .map(str::to_owned)
        .collect()
}

fn assert_same(source: Vec<String>, restored: Vec<String>) {
    let lost: Vec<_> = source.iter().filter(|line| !restored.contains(line)).collect();
    let new: Vec<_> = restored.iter().filter(|line| !source.contains(line)).collect();
    assert!(lost.is_empty() && new.is_empty(), "lost {lost:#?}\nnew {new:#?}");
}

#[tokio::test]
async fn a_rich_database_comes_back_with_owners_grants_and_settings() {
    let server = Server::start();
    server.sql("postgres", "create database shop");
    server.sql("shop", RICH);
    server.sql("shop", "create materialized view mv as select count(*) as n from orders; alter materialized view mv owner to app; grant select on orders to app; refresh materialized view mv");
    server.sql("shop", "create function on_ddl() returns event_trigger language plpgsql as 'begin end'; create event trigger watch_too on ddl_command_end execute function on_ddl()");
    server.sql("shop", "alter database shop set work_mem = '8MB'; alter role app in database shop set search_path = 'public'; alter database shop owner to app; alter default privileges for role app grant select on tables to report; comment on database shop is 'the shop'");
    let home = Home::new(&server, "shop");
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    let (scratch, facts) = brought_back(&home, &server).await;
    let facts = facts.unwrap();
    assert!(facts.superuser_entries.iter().any(|entry| entry.contains("EXTENSION - hstore")), "{facts:?}");
    let by_superuser = |kind: &str| facts.superuser_entries.iter().any(|entry| entry.contains(kind));
    assert!(!by_superuser("shop: TABLE ") && !by_superuser("TABLE DATA"), "{:#?}", facts.superuser_entries);
    let there = scratch.server().unwrap();
    let here = server.endpoint("shop");
    let schema = ["--create", "--schema-only", "shop"];
    // Compared with what PostgreSQL's own programs bring back as superuser: a dump of a dump prints some conditions otherwise.
    let reference = dumped(&server, "shop");
    let plainly = printed(&server, "pg_dump", &reference.endpoint("shop"), &schema);
    assert_same(plainly, printed(&server, "pg_dump", &there, &schema));
    let rows = ["--data-only", "--inserts", "shop"];
    let plainly = printed(&server, "pg_dump", &reference.endpoint("shop"), &rows);
    assert_same(plainly, printed(&server, "pg_dump", &there, &rows));
    let roles = ["--globals-only"];
    assert_same(printed(&server, "pg_dumpall", &here, &roles), printed(&server, "pg_dumpall", &there, &roles));
    let left = std::fs::read_dir(scratch.work_dir()).unwrap().count();
    assert_eq!(left, 0, "no dump stays behind");
    scratch.destroy().await.unwrap();
}

/// A database whose constraint runs a program when a row is checked, if it may.
fn hostile(server: &Server, marker: &Path, on_refusal: &str) {
    server.sql("postgres", "create database shop");
    let evil = format!(
        "create or replace function ok(i int) returns bool language plpgsql as $$ begin \
         copy (select 1) to program 'cat > {}'; return true; exception when insufficient_privilege then {on_refusal}; end $$",
        marker.display()
    );
    server.sql("shop", "create function ok(i int) returns bool language sql as 'select true'");
    server.sql("shop", "create table t (i int check (public.ok(i))); insert into t values (1), (2)");
    server.sql("shop", &evil);
}

#[tokio::test]
async fn code_in_a_dump_runs_without_rights() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let marker = folder.path().join("marker");
    hostile(&server, &marker, "return true");
    server.sql("shop", "insert into t values (3)");
    assert!(marker.exists(), "the attack works for a superuser");
    std::fs::remove_file(&marker).unwrap();
    let home = Home::new(&server, "shop");
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    let (scratch, facts) = brought_back(&home, &server).await;
    assert!(facts.is_ok(), "{facts:?}");
    assert!(!marker.exists(), "it ran as a role without rights");
    scratch.destroy().await.unwrap();

    // One that fails when it is refused is a finding, and is not tried again with more rights.
    server.sql("shop", &format!("create or replace function ok(i int) returns bool language plpgsql as $$ begin copy (select 1) to program 'cat > {}'; return true; end $$", marker.display()));
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    let (scratch, facts) = brought_back(&home, &server).await;
    let Err(Stop::Found(findings)) = facts else { panic!("{facts:?}") };
    assert_eq!(findings[0].code, "restore_error");
    assert!(findings[0].object.contains("TABLE DATA"), "{findings:?}");
    assert!(!marker.exists());
    scratch.destroy().await.unwrap();
}

#[test]
fn a_database_that_is_not_empty_is_refused() {
    let server = Server::start();
    server.sql("postgres", "create database shop");
    server.sql("shop", "create table t as select 1 as i");
    let home = Home::new(&server, "shop");
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    server.sql("postgres", "create database taken");
    server.sql("taken", "create function precious() returns int language sql as 'select 1'");
    let refused = home.run(&["restore", POLICY, "--to-database", &server.url("taken")]).expect(2);
    assert!(refused.stderr.contains("not empty") && refused.stderr.contains("hint:"), "{refused:?}");
    assert_eq!(server.sql("taken", "select precious()"), "1");
    server.sql("postgres", "create database free");
    let done =
        home.run(&["restore", POLICY, "--to-database", &server.url("free"), "--output", "json"]).expect(0).json();
    assert_eq!(done["schema"], "lifeboat.restore/1");
    assert_eq!(server.sql("free", "select i from t"), "1");
}

#[tokio::test]
async fn what_only_a_superuser_can_make_is_made_by_it_and_listed() {
    let server = Server::start();
    server.sql("postgres", "create role app");
    server.sql("postgres", "create database shop");
    server.sql("shop", "create function next(int) returns int language internal immutable strict as 'int4inc'");
    server.sql("shop", "alter function next(int) owner to app; create view v as select next(1) as one");
    server.sql("shop", "create table t (i int check (next(i) > 0)); create index t_next on t (next(i))");
    server.sql("shop", "alter table t owner to app; insert into t select generate_series(1, 100)");
    let home = Home::new(&server, "shop");
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    let (scratch, facts) = brought_back(&home, &server).await;
    let facts = facts.unwrap();
    let by_superuser = |kind: &str| facts.superuser_entries.iter().any(|entry| entry.contains(kind));
    assert!(by_superuser("FUNCTION public next(integer)"), "{facts:#?}");
    assert!(!by_superuser("INDEX ") && !by_superuser("TABLE DATA"), "{facts:#?}");
    let (there, here) = (scratch.server().unwrap(), server.endpoint("shop"));
    for args in [["--create", "--schema-only", "shop"], ["--data-only", "--inserts", "shop"]] {
        assert_same(printed(&server, "pg_dump", &here, &args), printed(&server, "pg_dump", &there, &args));
    }
    scratch.destroy().await.unwrap();
    home.run(&["drill", POLICY, "--drill", "restore-logical"]).expect(0);
}

/// An index that says it is unique over rows that are not.
fn two_of_one(server: &Server) {
    server.sql("postgres", "create database shop");
    server.sql("shop", "create table t (i int); create unique index only_one on t (i); create index more on t (i)");
    server.sql("shop", "create table u as select 1 as i; create index other on u (i); insert into t values (1)");
    let flag =
        |value: &str| format!("update pg_index set indisunique = {value} where indexrelid = 'only_one'::regclass");
    server.sql("shop", &flag("false"));
    server.sql("shop", "insert into t values (1)");
    server.sql("shop", &flag("true"));
}

#[tokio::test]
async fn an_index_that_cannot_be_built_is_a_finding_that_names_it() {
    let server = Server::start();
    two_of_one(&server);
    let home = Home::new(&server, "shop");
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    let (scratch, facts) = brought_back(&home, &server).await;
    let Err(Stop::Found(findings)) = facts else { panic!("{facts:?}") };
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].object.contains("INDEX public only_one"), "{findings:?}");
    assert!(findings[0].message.contains("could not create unique index"), "{findings:?}");
    scratch.destroy().await.unwrap();
    let failed = home.run(&["drill", POLICY, "--drill", "restore-logical"]).expect(3);
    assert!(failed.stdout.contains("only_one"), "{failed:?}");
}

#[test]
fn roles_come_along_only_when_they_are_asked_for_and_none_is_left_out_in_silence() {
    let server = Server::start();
    server.sql(
        "postgres",
        "create role app login password 'x' valid until '2040-01-01'; create role report; grant report to app",
    );
    server.sql("postgres", "create role here nologin");
    server.sql("postgres", "create database shop owner app");
    server.sql("shop", "create table t (i int); alter table t owner to app; grant select on t to report");
    server.sql("shop", "create policy p on t to app, here using (true); alter table t enable row level security; insert into t values (1)");
    let home = Home::new(&server, "shop");
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);

    let fresh = Server::start();
    fresh.sql("postgres", "create role here login");
    let url = fresh.url("shop");
    let refused = home.run(&["restore", POLICY, "--to-database", &url]).expect(1);
    assert!(refused.stderr.contains("\"app\"") && refused.stderr.contains("--with-roles"), "{refused:?}");
    assert!(!refused.stderr.contains("\"here\""), "{refused:?}");
    let databases = "select count(*) from pg_database where datname = 'shop'";
    assert_eq!(fresh.sql("postgres", databases), "0", "nothing was written");

    home.run(&["restore", POLICY, "--to-database", &url, "--with-roles"]).expect(0);
    let policies = "select string_agg(array_to_string(roles, ' '), ' ') from pg_policies";
    for question in [
        policies,
        "select tableowner from pg_tables where tablename = 't'",
        "select relacl from pg_class where relname = 't'",
        "select pg_get_userbyid(datdba) from pg_database where datname = 'shop'",
        "select rolvaliduntil, rolpassword from pg_authid where rolname = 'app'",
        "select pg_has_role('app', 'report', 'member')",
        "select i from t",
    ] {
        assert_eq!(server.sql("shop", question), fresh.sql("shop", question), "{question}");
    }
    assert_eq!(
        fresh.sql("shop", "select rolcanlogin from pg_roles where rolname = 'here'"),
        "t",
        "it was there: untouched"
    );

    // By a role that may make roles and databases and has no other right.
    let third = Server::start();
    third.sql("postgres", "create role maker login createrole createdb");
    let url = third.url("shop").replace("postgres@", "maker@");
    home.run(&["restore", POLICY, "--to-database", &url, "--with-roles"]).expect(0);
    let made = "select count(*) from pg_roles where rolname in ('app', 'report', 'here')";
    assert_eq!(third.sql("postgres", made), "3");
}
