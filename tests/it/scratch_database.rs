//! Drills on a scratch server that is not ours: the shipped one passes, nothing in it acts outside, and what is left is known.

use lifeboat::clock;
use lifeboat::domain::ids::RunId;
use lifeboat::domain::run::Event;
use lifeboat::engine::{House, sweep};
use lifeboat::load::load;

use crate::support::data::{self, DATABASE};
use crate::support::home::{Home, POLICY};
use crate::support::server::Server;

const NAME: &str = "scratch-database";
const DATABASES: &str = "select count(*) from pg_database where datname like 'lifeboat-%'";

/// A source with a logical backup, and another server to drill on.
fn ground(sql: &str) -> (Server, Server, Home) {
    let (source, spare) = (Server::start(), Server::start());
    data::fill(&source);
    for line in sql.lines() {
        source.sql(DATABASE, line);
    }
    let home = Home::new(&source, DATABASE);
    home.edit_config(|text| format!("{text}\n[scratch.servers.spare]\nurl = \"{}\"\n", spare.url("postgres")));
    let shipped = std::fs::read_to_string(format!("{}/drills/{NAME}.toml", env!("CARGO_MANIFEST_DIR"))).unwrap();
    home.write_drill(NAME, &shipped);
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    (source, spare, home)
}

fn drill(home: &Home, code: i32) -> serde_json::Value {
    home.run(&["drill", POLICY, "--drill", NAME, "--output", "json"]).expect(code).json()
}

#[test]
fn the_shipped_drill_passes_and_says_with_what_rights() {
    let (mut source, spare, home) = ground("");
    source.destroy();
    let transcript = drill(&home, 0);
    assert_eq!(transcript["judgement"]["verdict"], "proven", "{:#}", transcript["judgement"]);
    assert!(transcript["scratch"]["destroyed_at"].is_string());
    assert!(transcript.to_string().contains("is a superuser of the scratch server"), "{:#}", transcript["steps"]);
    assert_eq!(spare.sql("postgres", DATABASES), "0");
}

#[test]
fn what_acts_on_other_systems_is_not_restored_there() {
    let hostile = "create extension postgres_fdw\n\
        create server far foreign data wrapper postgres_fdw options (host '/nowhere')\n\
        create user mapping for postgres server far options (user 'boss', password 'a-secret')\n\
        create materialized view shop.sums as select count(*) as n from shop.customer\n\
        create subscription sub connection 'host=/nowhere dbname=x' publication p with (connect = false)\n\
        create function shop.seen() returns event_trigger language plpgsql as $$ begin raise exception 'it ran'; end $$\n\
        create event trigger watch on ddl_command_end execute function shop.seen()";
    let (_source, spare, home) = ground(hostile);
    let transcript = drill(&home, 0);
    let steps = transcript["steps"].to_string();
    for left in ["SUBSCRIPTION - sub", "EVENT TRIGGER - watch", "USER MAPPING", "MATERIALIZED VIEW DATA shop sums"] {
        let said = format!("left out, for it could act outside: {DATABASE}: {left}");
        assert!(steps.contains(&said), "{left}: {:#}", transcript["steps"]);
    }
    let checks = transcript["checks"].to_string();
    for unchecked in ["subscription sub", "event trigger watch", "table shop.sums"] {
        assert!(checks.contains(unchecked), "{unchecked}: {:#}", transcript["checks"]);
    }
    assert_eq!(spare.sql("postgres", "select count(*) from pg_subscription"), "0");
    assert_eq!(spare.sql("postgres", DATABASES), "0");
}

#[test]
fn while_a_source_is_unknown_no_database_is_made_anywhere() {
    let (_source, spare, home) = ground("");
    let policies = home.path().join("policies");
    let text = std::fs::read_to_string(policies.join(format!("{POLICY}.toml"))).unwrap();
    let url = text.lines().find(|line| line.starts_with("url")).unwrap();
    let other = text
        .replace(&format!("\"{POLICY}\""), "\"stock\"")
        .replace(url, "url = \"postgresql://nobody@/nothing?host=/nowhere\"");
    std::fs::write(policies.join("stock.toml"), other).unwrap();
    let transcript = drill(&home, 4);
    assert!(transcript.to_string().contains("policy stock cannot be told apart"), "{:#}", transcript["steps"]);
    assert_eq!(spare.sql("postgres", DATABASES), "0");
    // A cluster of its own can be no source.
    home.run(&["drill", POLICY, "--drill", "restore-logical"]).expect(0);
}

#[tokio::test]
async fn a_scratch_that_is_gone_is_owed_no_more_and_one_that_may_be_there_is() {
    let (_source, mut spare, home) = ground("");
    std::fs::create_dir_all(home.scratch()).unwrap();
    let config = home.path().join("lifeboat.toml");
    let house = House::build(load(&config).unwrap_or_else(|errors| panic!("{}", errors.render(false)))).unwrap();
    let policy = POLICY.parse().unwrap();
    let owe = async || {
        let run = RunId(uuid::Uuid::now_v7());
        let event = Event::ScratchMade { name: run.scratch_name() };
        house.catalog.append(clock::now(), &policy, run, event).await.unwrap();
        run
    };
    let owed = async || house.catalog.scratches_owed().await.unwrap().len();
    // Two databases of one run, and a run that was killed before it made anything.
    let run = owe().await;
    owe().await;
    for number in [1, 2] {
        spare.sql("postgres", &format!("create database \"lifeboat-{run}-{number}\""));
    }
    let swept = sweep::sweep(&house).await.unwrap();
    assert_eq!((swept.scratches.len(), swept.troubles), (2, vec![]));
    assert_eq!(owed().await, 0);
    assert_eq!(spare.sql("postgres", DATABASES), "0");

    // A server that does not answer may hold it.
    owe().await;
    spare.kill();
    assert_eq!(sweep::sweep(&house).await.unwrap().troubles.len(), 1);
    assert_eq!(owed().await, 1);
}
