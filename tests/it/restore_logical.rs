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

async fn brought_back(home: &Home, server: &Server) -> (Scratch, Result<RestoreFacts, Stop>) {
    let (manifest, opener) = opened(home);
    let mut scratch = scratch(home, server).await;
    scratch.prepare_empty(&manifest.fingerprint).await.unwrap();
    scratch.start(&manifest.fingerprint).await.unwrap();
    let what = PutBack {
        store: store::open_url(home.store().to_str().unwrap()).unwrap(),
        manifest: &manifest,
        opener: &opener,
        server: scratch.server().unwrap(),
        whole_server: true,
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
         copy (select 1) to program 'touch {}'; return true; exception when insufficient_privilege then {on_refusal}; end $$",
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
    server.sql("shop", &format!("create or replace function ok(i int) returns bool language plpgsql as $$ begin copy (select 1) to program 'touch {}'; return true; end $$", marker.display()));
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
    let refused = home.run(&["restore", POLICY, "--to-database", &server.url("taken")]).expect(1);
    assert!(refused.stderr.contains("not empty") && refused.stderr.contains("hint:"), "{refused:?}");
    assert_eq!(server.sql("taken", "select precious()"), "1");
    server.sql("postgres", "create database free");
    let done =
        home.run(&["restore", POLICY, "--to-database", &server.url("free"), "--output", "json"]).expect(0).json();
    assert_eq!(done["schema"], "lifeboat.restore/1");
    assert_eq!(server.sql("free", "select i from t"), "1");
}
