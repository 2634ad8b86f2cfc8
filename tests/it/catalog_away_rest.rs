//! The catalog goes away in the middle of a copy, a prune, a verification with a budget, a look at drift: each goes on as far as that is safe, and
//! what it did is known afterwards.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use lifeboat::catalog::{Opened, PostgresCatalog};
use lifeboat::domain::ids::RunId;
use lifeboat::domain::queue::{Planned, RunKey};
use lifeboat::domain::run::Work;
use lifeboat::engine::house::new_run;
use lifeboat::judge::due::{Class, label};
use rustix::process::Signal;

use crate::catalog_away::{begin, end, events, spooled, until};
use crate::retention::Days;
use crate::serve::Service;
use crate::support::catalog::place;
use crate::support::home::{Home, POLICY, walk};
use crate::support::server::{Server, command};

/// A home with six backups of many parts, whose catalog is on this server.
fn days(catalog: &Server) -> Days {
    let home = Home::for_url("postgresql://nobody@/orders?host=/nowhere");
    let place = format!("url = \"{}\"\ntimeout = \"30s\"\n#", catalog.url("postgres"));
    home.edit_config(|text| text.replace("path = \"lifeboat.db\"", &place));
    home.run(&["catalog", "migrate"]).expect(0);
    Days::of(home, 6, 60)
}

/// Whoever writes such a row waits, until [`goes_on`].
fn waits_at(catalog: &Server, table: &str, when: &str) {
    catalog.sql(
        "postgres",
        &format!(
            "create function lifeboat.wait_here() returns trigger language plpgsql as $$ begin perform pg_catalog.pg_sleep(300); return new; end $$;
             create trigger wait_here before insert on lifeboat.{table} for each row {when} execute function lifeboat.wait_here()"
        ),
    );
}

fn goes_on(catalog: &Server) {
    catalog.sql("postgres", "drop function lifeboat.wait_here cascade");
}

/// The catalog is killed while this waits in it.
fn killed_while_it_waits(catalog: &mut Server) {
    let waits =
        "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and query not like '%pg_stat_activity%'";
    until("it writes into the catalog", || catalog.sql("postgres", waits) != "0");
    catalog.kill_hard();
}

/// Nobody reads this table until the catalog is killed, which it is when somebody wants to.
fn killed_when_it_asks(catalog: &mut Server, table: &str, run: impl FnOnce() -> Child) -> Child {
    let mut psql = command(&catalog.programs.path("psql"));
    psql.args(["-X", "-q", "-U", "postgres", "-d", "postgres", "-h"]).arg(&catalog.socket_dir);
    let mut keeper = psql.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut talk = keeper.stdin.take().unwrap();
    let lock = format!("begin; lock table lifeboat.{table} in access exclusive mode;\n");
    talk.write_all(lock.as_bytes()).unwrap();
    let of = |granted: &str| {
        format!("select count(*) from pg_locks where {granted} and relation = 'lifeboat.{table}'::regclass")
    };
    until("the table is locked", || catalog.sql("postgres", &of("granted and mode = 'AccessExclusiveLock'")) == "1");
    let running = run();
    until("it asks", || catalog.sql("postgres", &of("not granted")) != "0");
    catalog.kill_hard();
    drop(talk);
    keeper.wait().unwrap();
    running
}

#[test]
fn a_copy_goes_on_and_what_it_did_is_delivered() {
    let mut catalog = Server::start();
    let days = days(&catalog);
    let home = &days.home;
    home.edit_config(|text| {
        text.replace(
            "[keys]",
            "[stores.far]\nkind = \"file\"\npath = \"far\"\n[stores.tape]\nkind = \"file\"\npath = \"tape\"\n[keys]",
        )
    });
    home.edit_policy(|text| {
        text.replace(
            "method = \"physical\"\n",
            "method = \"physical\"\ncopies = [\"far\", \"tape\"]\ncopy_within = \"30d\"\n",
        )
    });
    waits_at(&catalog, "event", "when (new.kind = 'committed')");
    let running = begin(home, &["copy", POLICY]);
    killed_while_it_waits(&mut catalog);
    let ran = end(running).expect(0);
    assert!(ran.stderr.contains("waits in"), "{}", ran.stderr);
    assert_eq!(spooled(home).len(), 1);
    // A new run is not begun.
    let refused = home.run(&["copy", POLICY]).expect(1);
    assert!(refused.stderr.contains("no run is begun that cannot be written down"), "{}", refused.stderr);
    catalog.launch();
    goes_on(&catalog);
    home.run(&["catalog", "check"]).expect(0);
    assert!(spooled(home).is_empty());
    assert_eq!(events(&catalog, "copied"), "12", "six, into each of two stores");
    let runs = home.run(&["catalog", "runs", "--output", "json"]).expect(0).json();
    assert_eq!(runs["runs"][0]["state"]["ended"], "succeeded", "{runs}");
    home.run(&["copies", POLICY, "--read"]).expect(0);
    let again = home.run(&["copy", POLICY]).expect(0);
    assert!(events(&catalog, "copied") == "12" || again.stdout.contains("nothing"), "{again:?}");
}

#[test]
fn a_prune_deletes_nothing_more_and_the_next_one_goes_on() {
    let mut catalog = Server::start();
    let days = days(&catalog);
    let home = &days.home;
    waits_at(&catalog, "event", "when (new.kind = 'marked')");
    let running = begin(home, &["prune", POLICY, "--output", "json"]);
    killed_while_it_waits(&mut catalog);
    let ran = end(running).expect(1);
    let store = &ran.json()["policies"][0]["stores"][0];
    assert_eq!(store["deleted"].as_array().unwrap().len(), 1, "{store}");
    let trouble = &store["troubles"][0];
    assert!(trouble["error"].as_str().unwrap().contains("nothing more is deleted"), "{store}");
    assert!(trouble["hint"].as_str().unwrap().contains("the next prune goes on"), "{store}");
    let marks = || walk(&home.store()).iter().filter(|path| path.display().to_string().contains("/marks/")).count();
    assert_eq!(marks(), 1, "{:?}", walk(&home.store()));
    catalog.launch();
    goes_on(&catalog);
    let runs = home.run(&["catalog", "runs", "--output", "json"]).expect(0).json();
    assert!(runs["runs"][0]["state"]["ended"]["broke"]["error"].as_str().unwrap().contains("nothing more"), "{runs}");
    assert_eq!(events(&catalog, "marked"), "1", "what was done is known");
    let next = home.run(&["prune", POLICY, "--output", "json"]).expect(0).json();
    assert_eq!(next["policies"][0]["stores"][0]["deleted"].as_array().unwrap().len(), 3, "{next}");
    assert_eq!(events(&catalog, "marked"), "4");
    home.run(&["verify", POLICY]).expect(0);
    home.run(&["catalog", "check"]).expect(0);
}

/// A run in the queue that is due now.
fn plan_now(catalog: &Server, work: Work) -> RunId {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let opened = Opened::from(PostgresCatalog::open(&place(catalog, "lifeboat")).unwrap());
        let now = opened.queue.now().await.unwrap();
        let run = new_run();
        let planned = Planned {
            run,
            needs: BTreeSet::from([label(Class::of(&work)).unwrap()]),
            key: RunKey { policy: POLICY.parse().unwrap(), work, scheduled_for: now, attempt: 1 },
            due_at: now,
            not_after: None,
            priority: 60,
            alone_on: None,
            caught_up: None,
        };
        assert_eq!(opened.queue.plan(now, vec![planned]).await.unwrap(), [run]);
        run
    })
}

#[test]
fn a_claimed_prune_deletes_nothing_while_nobody_can_say_whether_it_is_still_its() {
    let mut catalog = Server::start();
    let days = days(&catalog);
    let home = &days.home;
    home.edit_config(|text| format!("{text}\n[serve]\nlease = \"3s\"\nworkers = 1\ndrain = \"60s\"\n"));
    waits_at(&catalog, "event", "when (new.kind = 'marked')");
    let run = plan_now(&catalog, Work::Prune);
    let worker = Service::of(home.command(&["worker"]));
    killed_while_it_waits(&mut catalog);
    let marks = || walk(&home.store()).iter().filter(|path| path.display().to_string().contains("/marks/")).count();
    // Longer than its lease: somebody else might have taken it over by now.
    let back_at = Instant::now() + Duration::from_secs(8);
    while Instant::now() < back_at {
        assert_eq!(marks(), 1, "nothing more is deleted");
        std::thread::sleep(Duration::from_millis(100));
    }
    catalog.launch();
    goes_on(&catalog);
    let how = format!("select coalesce(how, '') from lifeboat.queue where run = '{run}'");
    until("it comes to its end", || !catalog.sql("postgres", &how).is_empty());
    worker.signal(Signal::TERM);
    let (code, said) = worker.end();
    assert_eq!(code, Some(0), "{said}");
    // Its lease was nobody else's, so it went on, or it stopped where it was: what it did is known either way, and the next prune does what is left.
    assert_eq!(events(&catalog, "marked"), marks().to_string(), "{said}");
    let wanted = if marks() == 4 { "succeeded" } else { "broke" };
    assert_eq!(catalog.sql("postgres", &how), wanted, "{said}");
    home.run(&["prune", POLICY]).expect(0);
    assert_eq!((events(&catalog, "marked").as_str(), marks()), ("4", 4));
    home.run(&["verify", POLICY]).expect(0);
    home.run(&["catalog", "check"]).expect(0);
}

#[test]
fn a_verification_with_a_budget_goes_on_once_it_knows_what_to_read() {
    let mut catalog = Server::start();
    let days = days(&catalog);
    let home = &days.home;
    // What to read is told by the catalog: without it nothing is read, and the run has an end.
    let running = killed_when_it_asks(&mut catalog, "ledger", || begin(home, &["verify", POLICY, "--budget", "100%"]));
    let refused = end(running).expect(1);
    assert!(refused.stderr.contains("hint:"), "{}", refused.stderr);
    catalog.launch();
    let runs = home.run(&["catalog", "runs", "--output", "json"]).expect(0).json();
    assert!(runs["runs"][0]["state"]["ended"]["broke"].is_object(), "{runs}");
    assert_eq!(catalog.sql("postgres", "select count(*) from lifeboat.ledger"), "0");

    waits_at(&catalog, "ledger", "");
    let running = begin(home, &["verify", POLICY, "--budget", "100%", "--output", "json"]);
    killed_while_it_waits(&mut catalog);
    let ran = end(running).expect(0);
    assert!(ran.stderr.contains("waits in"), "{}", ran.stderr);
    assert_eq!(ran.json()["walk"]["objects"], 360, "{}", ran.stdout);
    catalog.launch();
    goes_on(&catalog);
    let runs = home.run(&["catalog", "runs", "--output", "json"]).expect(0).json();
    assert_eq!(runs["runs"][0]["state"]["ended"], "succeeded", "{runs}");
    assert!(spooled(home).is_empty());
    // Six manifests, and their parts.
    assert_eq!(catalog.sql("postgres", "select count(*) from lifeboat.ledger where opened_at is not null"), "366");
    home.run(&["catalog", "check"]).expect(0);
}

#[test]
fn a_look_at_drift_ends_clearly_and_leaves_what_was_seen_before() {
    let mut catalog = Server::start();
    let days = days(&catalog);
    let home = &days.home;
    home.run(&["drift"]).expect(3);
    let seen = "select at from lifeboat.drift_seen where policy = 'orders'";
    let before = catalog.sql("postgres", seen);
    let running = killed_when_it_asks(&mut catalog, "ledger", || begin(home, &["drift"]));
    let refused = end(running).expect(1);
    assert!(refused.stderr.contains("hint:") && refused.stdout.is_empty(), "{refused:?}");
    catalog.launch();
    assert_eq!(catalog.sql("postgres", seen), before);
    assert!(spooled(home).is_empty());
}
