//! The catalog on a real PostgreSQL server: the same contracts, and what is a server's own: versions, rights, restarts, silence.

use std::time::Duration;

use lifeboat::catalog::{Catalog, Migrated, Opened, PostgresCatalog, migrate};
use lifeboat::domain::check::Broke;
use lifeboat::domain::config::CatalogServer;
use lifeboat::domain::policy::PasswordSource;
use lifeboat::domain::run::{Event, Work};
use lifeboat::domain::units::Span;

use crate::support::catalog::{opened, place};
use crate::support::sample::{self, at};
use crate::support::server::{Options, Server};
use crate::{catalog, queue};

fn planned() -> Event {
    Event::Planned { work: Work::Verify, scheduled_for: None }
}

async fn append(opened: &dyn Catalog, n: u128) -> Result<(), Broke> {
    opened.append(at("2026-11-20T03:00:00Z"), &"orders".parse().unwrap(), sample::run(n), planned()).await
}

/// What the first question to a catalog there ends with.
async fn refused(place: &CatalogServer) -> Broke {
    match PostgresCatalog::open(place) {
        Ok(catalog) => catalog.runs(None, 1).await.unwrap_err(),
        Err(broke) => broke,
    }
}

/// An error that says this, with a hint that says that.
fn says(broke: &Broke, what: &str, hint: &str) {
    assert!(broke.error.contains(what), "{}", broke.error);
    assert!(broke.hint.as_ref().is_some_and(|text| text.contains(hint)), "{}: {:?}", broke.error, broke.hint);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_keeps_the_contracts() {
    let server = Server::start();
    let one = opened(&server, "lifeboat").await;
    catalog::contract(&*one.catalog).await;
    catalog::ledger(&*one.catalog).await;
    catalog::late(&*one.catalog).await;
    catalog::recorded(&*opened(&server, "recorded").await.catalog).await;
    catalog::in_little(&*opened(&server, "little").await.catalog).await;
    let two = opened(&server, "second").await;
    queue::contract(&two).await;
    let three = opened(&server, "third").await;
    let others = (0..4).map(|_| Opened::from(PostgresCatalog::open(&place(&server, "third")).unwrap()));
    queue::claimers_at_once(others.collect()).await;
    let others = (0..4).map(|_| Opened::from(PostgresCatalog::open(&place(&server, "third")).unwrap()));
    queue::enders_at_once(others.collect()).await;
    let other = PostgresCatalog::open(&place(&server, "third")).unwrap().into();
    queue::waiters_wake(&three, &other).await;
    // Which schema it is, is told apart.
    assert_eq!(one.catalog.runs(None, 100).await.unwrap().len(), 6);
    assert!(opened(&server, "fourth").await.catalog.runs(None, 100).await.unwrap().is_empty());

    // A catalog of a version in which ends had no numbers.
    let five = opened(&server, "fifth").await;
    queue::leave_ends(&five).await;
    catalog::leave_a_drill(&*five.catalog).await;
    server.sql(
        "postgres",
        "set search_path = fifth; drop trigger drill_is_summarized on event; drop function drill_is_summarized; drop view drill_summarized; drop table drill_summary;
         drop trigger queue_end_is_numbered on queue; drop trigger queue_ended_is_numbered on queue;
         drop function queue_end_is_numbered, queue_ended_is_numbered; drop index queue_undone; drop sequence queue_ended_no;
         alter table queue drop column ended_no; alter table queue drop column lease; create index queue_ended on queue (ended_at) where ended;
         delete from refinery_schema_history where version >= 8",
    );
    let here = place(&server, "fifth");
    assert_eq!(migrate(&here).await.unwrap().from, Some(7));
    catalog::the_drill_is_told_in_little(&PostgresCatalog::open(&here).unwrap()).await;
    queue::ends_have_numbers(&PostgresCatalog::open(&here).unwrap().into()).await;

    // Nothing that happened can be changed.
    for sql in [
        "update lifeboat.event set at = '2020-01-01T00:00:00Z'",
        "delete from lifeboat.event",
        "truncate lifeboat.event",
        "update lifeboat.coverage set covered = 0",
        "insert into lifeboat.event (seq, at, policy, run, kind, body) overriding system value select seq, at, policy, run, kind, body from lifeboat.event",
        "update lifeboat.drill_summary set summary = '{}'",
        "truncate lifeboat.drill_summary",
        "delete from second.queue",
        "truncate second.queue",
        "update second.queue set ended = false",
        "update second.queue set planned = '{}'",
    ] {
        let coverage = "insert into lifeboat.coverage values ('orders', 1, 1, null) on conflict do nothing";
        server.sql("postgres", coverage);
        assert!(server.try_sql("postgres", sql).is_err(), "{sql} must be refused");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_is_made_on_demand_and_versions_are_kept_apart() {
    let server = Server::start();
    let here = place(&server, "lifeboat");
    says(&refused(&here).await, "holds no catalog yet", "lifeboat catalog migrate");
    // Several at once: one makes it, the others find it made.
    let all = futures_util::future::join_all((0..4).map(|_| migrate(&here))).await;
    let made = all.iter().filter(|done| done.as_ref().unwrap().from.is_none()).count();
    let latest = all[0].as_ref().unwrap().to;
    assert_eq!(made, 1, "{all:?}");
    assert_eq!(migrate(&here).await.unwrap(), Migrated { from: Some(latest), to: latest });
    let catalog = PostgresCatalog::open(&here).unwrap();
    append(&catalog, 1).await.unwrap();

    // A newer one is refused by who asks and by who would migrate.
    server.sql(
        "postgres",
        "insert into lifeboat.refinery_schema_history values (999, 'later', '2030-01-01T00:00:00Z', '1')",
    );
    says(&refused(&here).await, "newer lifeboat", "that version");
    says(&migrate(&here).await.unwrap_err(), "newer lifeboat", "that version");
    server.sql("postgres", "delete from lifeboat.refinery_schema_history where version = 999");
    // A history that is not ours is somebody else's; one that cannot be read does not panic.
    for change in ["checksum = '1'", "checksum = 'x'", "applied_on = 'x'", "name = 'other'"] {
        server.sql("postgres", &format!("begin; create table if not exists keep as select * from lifeboat.refinery_schema_history; update lifeboat.refinery_schema_history set {change} where version = 1; commit"));
        says(&refused(&here).await, "is no catalog", "another schema");
        says(&migrate(&here).await.unwrap_err(), "is no catalog", "another schema");
        server.sql("postgres", "begin; delete from lifeboat.refinery_schema_history; insert into lifeboat.refinery_schema_history select * from keep; commit");
    }
    assert_eq!(PostgresCatalog::open(&here).unwrap().runs(None, 10).await.unwrap().len(), 1);

    // An older one says what to do.
    server.sql("postgres", "drop table keep; create schema older; create table older.refinery_schema_history (like lifeboat.refinery_schema_history)");
    says(&refused(&place(&server, "older")).await, "holds no catalog yet", "migrate");
    // Somebody else's tables are left alone.
    server.sql("postgres", "create schema theirs; create table theirs.event (a int)");
    let theirs = place(&server, "theirs");
    says(&refused(&theirs).await, "is no catalog", "another schema");
    says(&migrate(&theirs).await.unwrap_err(), "is no catalog", "another schema");
    assert_eq!(
        server.sql("postgres", "select count(*) from pg_class where relnamespace = 'theirs'::regnamespace"),
        "1"
    );
    // A catalog that lost a table.
    server.sql("postgres", "drop table lifeboat.event cascade");
    says(&catalog.runs(None, 1).await.unwrap_err(), "damaged", "catalog check");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_and_what_cannot_are_told_in_words() {
    let port = crate::support::s3::free_port();
    let server = Server::start_with(Options { tcp_port: Some(port), ..Options::default() });
    let here = place(&server, "lifeboat");
    migrate(&here).await.unwrap();
    server.sql("postgres", "create role nobody login password 'right'; create role reader login; grant usage on schema lifeboat to reader; grant select on all tables in schema lifeboat to reader");
    let hba = server.data_dir.join("pg_hba.conf");
    std::fs::write(&hba, "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n").unwrap();
    server.sql("postgres", "select pg_reload_conf()");
    let by_tcp = |password: PasswordSource| CatalogServer {
        url: format!("postgresql://nobody@127.0.0.1:{port}/postgres"),
        password,
        ..here.clone()
    };
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("password");
    std::fs::write(&secret, "wrong-s3cret\n").unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let broke = refused(&by_tcp(PasswordSource::File(secret.clone()))).await;
    says(&broke, "password authentication failed", "check the password");
    assert!(!format!("{broke:?}").contains("s3cret"));
    says(&refused(&by_tcp(PasswordSource::Default)).await, "password missing", "password_file");
    says(&refused(&by_tcp(PasswordSource::File("/nowhere".into()))).await, "/nowhere", "0600");
    // In, and without any right: another's schema cannot be looked into, and none can be made.
    std::fs::write(&secret, "right\n").unwrap();
    let nobody = by_tcp(PasswordSource::File(secret));
    says(&refused(&nobody).await, "may not", "must own the schema");
    says(&migrate(&CatalogServer { schema: "fresh".to_owned(), ..nobody }).await.unwrap_err(), "may not", "own");
    let reader = CatalogServer { url: here.url.replace("postgres@", "reader@"), ..here.clone() };
    let reader = PostgresCatalog::open(&reader).unwrap();
    assert!(reader.runs(None, 1).await.unwrap().is_empty());
    says(&append(&reader, 1).await.unwrap_err(), "may not write an event", "must own the schema");

    let none = CatalogServer { url: server.url("nothing"), ..here.clone() };
    says(&refused(&none).await, "cannot be reached", "no database nothing");
    let closed = CatalogServer { url: "postgresql://postgres@127.0.0.1:1/postgres".to_owned(), ..here.clone() };
    says(&refused(&closed).await, "cannot be reached", "host and port");

    // Read-only: reading goes on, writing says why not.
    let catalog = PostgresCatalog::open(&here).unwrap();
    append(&catalog, 1).await.unwrap();
    std::fs::write(server.data_dir.join("standby.signal"), "").unwrap();
    let mut server = server;
    server.kill();
    server.launch();
    assert_eq!(catalog.runs(None, 10).await.unwrap().len(), 1, "it connects again by itself");
    says(&append(&catalog, 2).await.unwrap_err(), "read-only", "primary");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_answering_is_an_error_in_bounded_time_and_is_found_again() {
    let mut server = Server::start();
    let here = CatalogServer { timeout: Span::from_secs(2), ..place(&server, "lifeboat") };
    migrate(&here).await.unwrap();
    let catalog = PostgresCatalog::open(&here).unwrap();
    append(&catalog, 1).await.unwrap();
    server.kill_hard();
    let broke = append(&catalog, 2).await.unwrap_err();
    assert!(broke.hint.is_some(), "{broke}");
    server.launch();
    append(&catalog, 3).await.unwrap();

    // Stopped, not ended: nothing is refused and nothing is answered.
    server.pause();
    for _ in 0..2 {
        let asked = tokio::time::timeout(Duration::from_secs(60), append(&catalog, 4)).await;
        let broke = asked.expect("it hangs").unwrap_err();
        assert!(broke.error.contains("2 s") && broke.hint.is_some(), "{broke}");
    }
    let fresh = PostgresCatalog::open(&here).unwrap();
    let asked = tokio::time::timeout(Duration::from_secs(60), fresh.runs(None, 1)).await;
    assert!(asked.expect("it hangs").is_err());
    server.resume();
    append(&catalog, 5).await.unwrap();
    let runs = catalog.runs(None, 10).await.unwrap();
    for n in [1, 3, 5] {
        assert!(runs.iter().any(|run| run.id == sample::run(n)), "what was promised to be written is there: {n}");
    }
    // A lock that somebody holds for ever is no reason to wait for ever.
    let keeper = server.endpoint("postgres").connect().await.unwrap();
    keeper.batch_execute("begin; lock table lifeboat.event").await.unwrap();
    assert!(append(&catalog, 6).await.is_err());
    keeper.batch_execute("rollback").await.unwrap();
    append(&catalog, 6).await.unwrap();
}
