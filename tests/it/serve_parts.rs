//! The parts of `lifeboat serve` that the other tests do not reach: receivers of the log, a run that does not end in the time to drain, two services on one catalog, letters
//! of two watchers, and a catalog that is spoken to over TLS.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use lifeboat::catalog::{Opened, SqliteCatalog};
use lifeboat::domain::queue::{Hold, Planned, RunKey, Worker};
use lifeboat::domain::run::{Event, EventId, RunOutcome, Work};
use lifeboat::domain::units::Span;
use lifeboat::engine::house::new_run;
use lifeboat::judge::due::{Class, label};
use rustix::process::Signal;

use crate::serve::{Service, ask, ground, scheduled, wait_for};
use crate::support::catalog;
use crate::support::data::DATABASE;
use crate::support::ears::Ears;
use crate::support::home::{Home, POLICY, walk};
use crate::support::receiver::Bench;
use crate::support::s3::{certificates, free_port};
use crate::support::server::{Options, Server, unprivileged};

/// Longer than anything here takes on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(240);

#[track_caller]
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < until, "{what} never came");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until everything that the source has written is durable at a receiver.
fn durable(bench: &Bench) {
    let end = bench.server.sql(DATABASE, "select pg_current_wal_flush_lsn()");
    let sql = format!(
        "select coalesce(bool_or(flush_lsn >= '{end}'), false) from pg_stat_replication where application_name = 'lifeboat'"
    );
    until("all of the log", || bench.server.sql(DATABASE, &sql) == "t");
}

fn slots_in_use(bench: &Bench) -> String {
    bench.server.sql(DATABASE, "select count(*) from pg_replication_slots where active")
}

#[test]
fn a_service_receives_the_log_is_killed_and_catches_up() {
    let mut bench = Bench::new("lag = \"100ms\"");
    bench.backup();
    // The service only plans: what is seen here is its receiver.
    bench.home.edit_config(|text| format!("{text}\n[serve]\nworkers = 0\n"));
    let service = Service::start(&bench.home, "serve");
    bench.beat(1, 4);
    durable(&bench);
    service.signal(Signal::KILL);
    service.end();
    // Nobody receives; the source keeps it.
    bench.beat(5, 8);
    assert_eq!(bench.brought("killed"), 4, "what was durable is all there");
    let mut service = Service::start(&bench.home, "serve");
    durable(&bench);
    bench.beat(9, 10);
    durable(&bench);
    // The source goes away and comes back.
    bench.server.kill();
    service.hear("trying again");
    bench.server.launch();
    bench.beat(11, 12);
    durable(&bench);
    // The policy does not want it any more, and then it does.
    let with = "stream = true";
    bench.home.edit_policy(|text| text.replace(with, "stream = false"));
    service.signal(Signal::HUP);
    service.hear("policies were read again");
    until("the end of the receiver", || slots_in_use(&bench) == "0");
    bench.beat(13, 14);
    bench.home.edit_policy(|text| text.replace("stream = false", with));
    service.signal(Signal::HUP);
    service.hear("policies were read again");
    durable(&bench);
    service.signal(Signal::TERM);
    let (code, said) = service.end();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(slots_in_use(&bench), "0", "it has let go of the source");
    bench.home.run(&["verify", POLICY, "--wal"]).expect(0);
    assert_eq!(bench.brought("whole"), 14);
}

/// Its first run of something that is scheduled once a year, due now.
fn due_now(work: Work) -> Planned {
    let yearly = lifeboat::judge::instants::Instants::of("@yearly", "UTC").unwrap();
    let now = lifeboat::clock::now();
    let scheduled_for = yearly.newest(now - SignedDuration::from_hours(24 * 400), now).unwrap();
    planned(work, scheduled_for)
}

fn planned(work: Work, scheduled_for: Timestamp) -> Planned {
    Planned {
        run: new_run(),
        needs: BTreeSet::from([label(Class::of(&work)).unwrap()]),
        key: RunKey { policy: POLICY.parse().unwrap(), work, scheduled_for, attempt: 1 },
        due_at: scheduled_for,
        not_after: None,
        priority: 40,
        alone_on: None,
        caught_up: None,
    }
}

/// A drill that fails or passes by a question of its own, after so many seconds of thinking.
fn write_drill(home: &Home, name: &str, seconds: u32, passes: bool) {
    let text = std::fs::read_to_string(home.path().join("drills/restore-logical.toml")).unwrap();
    let text = text.replacen("name = \"restore-logical\"", &format!("name = \"{name}\""), 1);
    let asks = format!("select {passes} from (select pg_sleep({seconds})) slept");
    home.write_drill(
        name,
        &format!("{text}\n[[steps]]\ncheck = {{ name = \"assert\", sql = \"{asks}\", is = true }}\n"),
    );
}

#[tokio::test]
async fn a_run_that_does_not_end_in_the_time_to_drain_is_stopped_cleanly() {
    let (_server, home) = ground();
    home.edit_config(|text| text.replace("drain = \"2m\"", "drain = \"1s\""));
    home.run(&["backup", POLICY]).expect(0);
    write_drill(&home, "slow", 600, true);
    scheduled(&home, "@yearly", "@yearly");
    home.edit_policy(|text| text.replace("use = \"restore-logical\"", "use = \"slow\""));
    let queue = Opened::from(SqliteCatalog::open(&home.path().join("lifeboat.db")).unwrap()).queue;
    let slow = due_now(Work::Drill { drill: "slow".parse().unwrap() });
    queue.plan(lifeboat::clock::now(), vec![slow.clone()]).await.unwrap();
    let mut service = Service::start(&home, "serve");
    wait_for(&home, "the drill's scratch", "select name from scratch_owed");
    service.signal(Signal::TERM);
    service.hear("nothing new is begun");
    service.hear("it did not end in the time to drain, and is stopped");
    let (code, said) = service.end();
    assert_eq!(code, Some(0), "asked to end, it ended in good order: {said}");
    let how = ask(&home, &format!("select how from queue where run = '{}' and ended = 1", slow.run));
    assert_eq!(how, ["unproven"], "a drill that was stopped proves nothing: {said}");
    let ends = "select count(*) || '' from event where kind in ('finished', 'abandoned', 'missed') and run = ";
    assert_eq!(ask(&home, &format!("{ends}'{}'", slow.run)), ["1"]);
    assert_eq!(ask(&home, "select name from scratch_owed"), Vec::<String>::new(), "{said}");
    assert!(walk(&home.scratch()).is_empty(), "{:?}", walk(&home.scratch()));
    let transcript = ask(&home, "select body from event where kind = 'drilled' order by seq desc limit 1").remove(0);
    assert!(transcript.contains("was interrupted by the end of the time to drain"), "{transcript}");
}

#[tokio::test]
async fn a_run_that_no_machine_takes_is_told_of() {
    let home = Home::for_url("postgresql://nobody@/orders?host=/nowhere");
    scheduled(&home, "@yearly", "@yearly");
    let queue = Opened::from(SqliteCatalog::open(&home.path().join("lifeboat.db")).unwrap()).queue;
    let mut waits = due_now(Work::Drill { drill: "restore-logical".parse().unwrap() });
    waits.needs.insert("big-disk".parse().unwrap());
    queue.plan(lifeboat::clock::now(), vec![waits.clone()]).await.unwrap();
    let mut service = Service::start(&home, "serve");
    service.hear("no machine that offers big-disk has taken it for");
    service.signal(Signal::TERM);
    let (code, said) = service.end();
    assert!(code == Some(0) && said.contains(&waits.run.to_string()), "{said}");
    let shown = home.run(&["schedule", "--output", "json"]).expect(0).json();
    let run = shown["runs"].as_array().unwrap().iter().find(|run| run["stage"] == "waiting").unwrap();
    assert!(run["why"].to_string().contains("no machine that offers big-disk has taken it for"), "{shown}");
}

/// Everything that is scheduled every minute was planned and done up to some minutes ago; so whoever begins to plan finds something to do at once.
async fn done_until_some_minutes_ago(opened: &Opened, works: &[Work]) {
    let now = opened.queue.now().await.unwrap();
    let minute = now.as_second().div_euclid(60) * 60;
    let scheduled_for = Timestamp::from_second(minute - 240).unwrap();
    let runs = works.iter().map(|work| planned(work.clone(), scheduled_for)).collect();
    opened.queue.plan(now, runs).await.unwrap();
    let labels = Class::ALL.into_iter().filter_map(label).collect();
    let worker = Worker { name: "the one before".to_owned(), labels };
    while let Some(claim) = opened.queue.claim(now, &worker, Span::from_secs(60)).await.unwrap() {
        let done = Event::Finished { outcome: RunOutcome::Succeeded };
        assert_eq!(opened.queue.append_held(now, &claim, EventId::new(), done).await.unwrap(), Hold::Held);
    }
}

/// All that is scheduled in the home.
fn every_minute(home: &Home) -> Vec<Work> {
    home.run(&["backup", POLICY]).expect(0);
    scheduled(home, "every 1m", "every 1m");
    home.edit_config(|text| {
        let housekeeping = "prune = \"every 1m\"\nverify = \"every 1m\"\njitter = \"0s\"\n";
        text.replace("[schedule]\n", &format!("[schedule]\n{housekeeping}"))
    });
    let backup = |job: &str| Work::Backup { job: job.parse().unwrap() };
    let drill = |drill: &str| Work::Drill { drill: drill.parse().unwrap() };
    let jobs = [backup("logical"), backup("physical"), drill("restore-latest"), drill("restore-logical")];
    jobs.into_iter().chain([Work::Prune, Work::ReadBack]).collect()
}

/// What must be so of any catalog after services have shared it: `ask` asks it, `run` and `event` are its tables.
fn once_each(ask: &dyn Fn(&str) -> Vec<String>, works: usize) {
    let none = |sql: &str| assert_eq!(ask(sql), Vec::<String>::new(), "{sql}");
    none(
        "select run from event where run in (select run from queue) and kind = 'planned' group by run having count(*) <> 1",
    );
    none("select run from event where kind in ('finished', 'abandoned', 'missed') group by run having count(*) > 1");
    none("select run from event where kind = 'started' group by run having count(*) > 1");
    none(
        "select work from queue where how in ('succeeded', 'found') group by policy, work, scheduled_for having count(*) > 1",
    );
    // What was made up for is told once.
    none(
        "select queue.work from event join queue on queue.run = event.run where kind = 'caught_up' group by queue.work, event.body having count(*) > 1",
    );
    let told = "select distinct queue.work from event join queue on queue.run = event.run where kind = 'caught_up'";
    assert_eq!(ask(told).len(), works, "each schedule had something to make up for");
}

const CAUGHT_UP: &str = "select distinct queue.work from event join queue on queue.run = event.run where kind = 'caught_up' and queue.ended";

#[tokio::test]
async fn two_services_on_one_file_plan_and_do_each_instant_once() {
    let (_server, home) = ground();
    let works = every_minute(&home);
    let opened = Opened::from(SqliteCatalog::open(&home.path().join("lifeboat.db")).unwrap());
    done_until_some_minutes_ago(&opened, &works).await;
    let services = [Service::start(&home, "serve"), Service::start(&home, "serve")];
    until("all that was due", || ask(&home, CAUGHT_UP).len() == works.len());
    end_well(services, &home);
    once_each(&|sql| ask(&home, sql), works.len());
}

fn end_well(services: [Service; 2], home: &Home) {
    for service in &services {
        service.signal(Signal::TERM);
    }
    for service in services {
        let (code, said) = service.end();
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("lifeboat serves") && !said.contains("panicked"), "{said}");
    }
    assert!(walk(&home.scratch()).is_empty(), "{:?}", walk(&home.scratch()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_services_on_a_server_plan_and_do_each_instant_once_and_write_each_letter_once() {
    let (server, home) = ground();
    let opened = catalog::opened(&server, "lifeboat").await;
    home.use_catalog(&server.url("postgres"), "");
    let ears = Ears::open();
    home.edit_config(|text| {
        format!(
            "{text}\n[[notify]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"{}/in\"\n[[route]]\nto = [\"hook\"]\n",
            ears.url()
        )
    });
    let works = every_minute(&home);
    write_drill(&home, "by-hand", 0, false);
    home.edit_policy(|text| format!("{text}\n[[drill]]\nuse = \"by-hand\"\n"));
    done_until_some_minutes_ago(&opened, &works).await;
    let services = [Service::start(&home, "serve"), Service::start(&home, "serve")];
    let asks = |sql: &str| -> Vec<String> {
        server.sql("postgres", &format!("set search_path = lifeboat; {sql}")).lines().map(str::to_owned).collect()
    };
    // A drill that fails, and passes later; two watchers see both.
    let told = |news: &str| {
        let key = format!("{POLICY}/drill_failed/by-hand");
        let of_letter = |heard: &crate::support::ears::Heard| {
            let alarms = heard.json()["alarms"].as_array().unwrap().clone();
            alarms.iter().filter(|one| one["news"] == news && one["alarm"] == key.as_str()).count()
        };
        ears.taken().iter().map(of_letter).sum::<usize>()
    };
    home.run(&["drill", POLICY, "--drill", "by-hand"]).expect(3);
    until("a letter of it", || told("opened") > 0);
    write_drill(&home, "by-hand", 0, true);
    home.run(&["drill", POLICY, "--drill", "by-hand"]).expect(0);
    until("a letter of its end", || told("resolved") > 0);
    until("all that was due", || asks(CAUGHT_UP).len() == works.len());
    end_well(services, &home);
    once_each(&asks, works.len());
    assert_eq!((told("opened"), told("resolved")), (1, 1));
    // Of whatever else was told: each piece of news once, each letter once.
    let names: Vec<String> =
        ears.taken().iter().filter_map(|heard| heard.header("idempotency-key").map(str::to_owned)).collect();
    assert_eq!(names.len(), ears.taken().len(), "each has a name");
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    let mut news: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for heard in ears.taken() {
        for one in heard.json()["alarms"].as_array().unwrap() {
            let text = |name: &str| one[name].as_str().unwrap().to_owned();
            news.entry(text("alarm")).or_default().push(text("news"));
        }
    }
    for (alarm, told) in news {
        assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "{alarm} was told twice: {told:?}");
    }
}

/// The authority's and the server's files, for PostgreSQL to read.
fn with_certificates() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let key = folder.path().join("server.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    if let Some((uid, gid)) = unprivileged() {
        chown(&key, Some(uid), Some(gid)).unwrap();
    }
    folder
}

#[test]
fn a_catalog_over_tls_is_believed_by_its_authority_alone() {
    let (files, others) = (with_certificates(), with_certificates());
    let port = free_port();
    let at = |dir: &Path, name: &str| dir.join(name).display().to_string();
    let conf = format!(
        "listen_addresses = '127.0.0.1, 127.0.0.2'\nssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'",
        at(files.path(), "server.pem"),
        at(files.path(), "server.key")
    );
    let server = Server::start_with(Options { conf, tcp_port: Some(port), ..Options::default() });
    // Whoever comes without is turned away.
    let hba = server.data_dir.join("pg_hba.conf");
    let lines = std::fs::read_to_string(&hba).unwrap();
    std::fs::write(&hba, format!("hostnossl all all 127.0.0.1/32 reject\n{lines}")).unwrap();
    server.sql("postgres", "select pg_reload_conf()");
    let in_the_clear = format!("postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable");
    until("the new pg_hba.conf", || {
        let mut psql = std::process::Command::new(server.programs.path("psql"));
        !psql.args(["-X", "-c", "select 1", &in_the_clear]).output().unwrap().status.success()
    });
    server.sql("postgres", "create database orders");
    let home = Home::new(&server, "orders");
    let url = |host: &str| format!("postgresql://postgres@{host}:{port}/postgres");
    let migrates = |url: &str, more: &str, code: i32| {
        let before = std::fs::read_to_string(home.path().join("lifeboat.toml")).unwrap();
        home.use_catalog(url, more);
        let ran = home.run(&["catalog", "migrate"]).expect(code);
        if code != 0 {
            std::fs::write(home.path().join("lifeboat.toml"), before).unwrap();
        }
        ran
    };
    let ca = |dir: &Path| format!("tls = \"verify-full\"\ntls_ca = \"{}\"", at(dir, "ca.pem"));
    let refused = |url: &str, more: &str, words: &str| {
        let ran = migrates(url, more, 1);
        let said = ran.stderr.to_lowercase();
        assert!(
            said.contains(words) && said.contains("hint:") && !said.contains("panicked"),
            "{words}: {}",
            ran.stderr
        );
        let made = server.sql("postgres", "select count(*) from pg_namespace where nspname = 'lifeboat'");
        assert_eq!(made, "0", "nothing was made over a connection that is not believed");
    };
    refused(&url("127.0.0.1"), &ca(others.path()), "certificate");
    refused(&url("127.0.0.1"), "tls = \"verify-full\"", "certificate");
    refused(&url("127.0.0.2"), &ca(files.path()), "127.0.0.2");
    refused(&url("127.0.0.1"), "tls = \"disable\"", "pg_hba.conf");
    migrates(&url("127.0.0.1"), &ca(files.path()), 0);
    // All connections of a service are over TLS, also the one over which it is woken.
    let mut service = Service::start(&home, "serve");
    service.hear("planned=");
    let sessions =
        "select count(*) filter (where ssl) || ' of ' || count(*) from pg_stat_activity join pg_stat_ssl using (pid)
                    where client_addr is not null";
    let seen = server.sql("postgres", sessions);
    let (over_tls, all) = seen.split_once(" of ").unwrap();
    assert!(over_tls == all && over_tls != "0", "{seen}");
    service.signal(Signal::TERM);
    let (code, said) = service.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}
