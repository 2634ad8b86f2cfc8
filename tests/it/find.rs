//! `find --holds`: what vanished is bracketed to the second, by restores of real backups with a real log behind them.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use lifeboat::catalog::{Catalog, SqliteCatalog};
use lifeboat::domain::run::Work;

use crate::kills::{descendant, servers_in, start};
use crate::support::data::DATABASE;
use crate::support::home::{POLICY, Ran};
use crate::wal::Bench;

/// Commits rows for so long, one about every twentieth of a second; gives the next number.
fn traffic(bench: &Bench, mut n: i32, for_so_long: Duration) -> i32 {
    let until = Instant::now() + for_so_long;
    while Instant::now() < until {
        bench.beat(n, n);
        n += 1;
        std::thread::sleep(Duration::from_millis(40));
    }
    n
}

fn find(bench: &Bench, args: &[&str]) -> Ran {
    bench.home.run(&[&["find", POLICY], args].concat())
}

fn time(value: &serde_json::Value) -> Timestamp {
    value.as_str().unwrap_or_else(|| panic!("no time: {value}")).parse().unwrap()
}

/// Between which two moments it vanished; and that no more restores were made than the window allows.
fn bracket(bench: &Bench, sql: &str, args: &[&str]) -> (Timestamp, Timestamp, serde_json::Value) {
    let ran = find(bench, &[&["--holds", sql, "--output", "json"], args].concat()).expect(0);
    let found = ran.json();
    assert_eq!(found["schema"], "lifeboat.find/2");
    let seconds = time(&found["before"]).duration_since(time(&found["since"])).as_secs_f64();
    let looks = found["looks"].as_array().unwrap().len();
    let most = seconds.max(1.0).log2().ceil() as usize + 2;
    assert!(looks <= most && found["most_looks"].as_u64().unwrap() as usize == most, "{looks} of {most}: {found}");
    let between = &found["ending"]["between"];
    let (holds_at, gone_at) = (time(&between["holds_at"]), time(&between["gone_at"]));
    assert!(gone_at > holds_at && gone_at.duration_since(holds_at).as_secs_f64() <= 1.0, "{between}");
    // For people: the same, with the command.
    assert!(ran.stderr.contains("at most") && ran.stderr.contains("it does not hold: "), "{}", ran.stderr);
    (holds_at, gone_at, found)
}

fn nothing_is_left(bench: &Bench) {
    let left: Vec<_> = std::fs::read_dir(bench.home.scratch()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(servers_in(&bench.home).is_empty(), "{:?}", servers_in(&bench.home));
}

async fn nothing_is_owed(bench: &Bench) {
    let catalog = SqliteCatalog::open(&bench.home.path().join("lifeboat.db")).unwrap();
    assert_eq!(catalog.scratches_owed().await.unwrap(), []);
    let runs = catalog.runs(None, 1000).await.unwrap();
    assert!(runs.iter().any(|run| matches!(run.work, Work::Find { at: Some(_) })));
    assert!(runs.iter().all(|run| run.ended_at.is_some()), "{runs:?}");
}

#[tokio::test]
async fn what_vanished_is_bracketed_to_the_second() {
    let bench = Bench::new();
    let sql = |text: &str| bench.server.sql(DATABASE, text);
    // The zone in which the scratch's log tells when it stopped.
    sql("alter system set timezone = 'Asia/Kolkata'");
    sql("select pg_reload_conf()");
    sql(
        "create table customers (id int primary key); insert into customers select generate_series(1, 50); create table lost (n int)",
    );
    bench.home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    let half_way = traffic(&bench, 1, Duration::from_secs(2));
    let random = Duration::from_millis(getrandom::u64().unwrap() % 3000);
    println!("random: {random:?}");
    let half_way = traffic(&bench, half_way, random);
    let before: Timestamp = bench.now().parse().unwrap();
    sql("delete from customers where id = 42");
    let after: Timestamp = bench.now().parse().unwrap();
    let half_way = traffic(&bench, half_way, Duration::from_secs(2));
    bench.home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    let half_way = traffic(&bench, half_way, Duration::from_secs(2));
    let dropped: (Timestamp, _) = (bench.now().parse().unwrap(), sql("drop table lost"));
    let end = traffic(&bench, half_way, Duration::from_secs(2));
    sql("delete from customers where id = 7");
    bench.archive();

    let there = "select count(*) > 0 from customers where id = 42";
    let (holds_at, gone_at, found) = bracket(&bench, there, &[]);
    assert!(holds_at < after && gone_at >= before, "{holds_at} {before} {after} {gone_at}");
    assert_eq!(found["ending"]["between"]["gone"]["why"], "the answer is false");
    let first_backup = found["ending"]["between"]["held"]["backup"].clone();
    // What is named is what comes back.
    for (name, at, count) in [("held", holds_at, "1"), ("gone", gone_at, "0")] {
        let (_, back) = bench.brought(name, &["--until", &at.to_string()]);
        assert_eq!(back.sql(DATABASE, "select count(*) from customers where id = 42"), count, "{name}");
    }
    // A table that is not there any more, after another backup; and a window of our own.
    let since = holds_at.to_string();
    let (holds_at, gone_at, found) = bracket(&bench, "select count(*) = 0 from lost", &["--since", &since]);
    assert!(gone_at >= dropped.0 && holds_at < gone_at, "{found}");
    assert!(found["ending"]["between"]["gone"]["why"].as_str().unwrap().contains("does not exist"), "{found}");
    assert_eq!(found["since"], since);
    assert_ne!(found["ending"]["between"]["held"]["backup"], first_backup, "{found}");
    // The very last transaction of the log: no moment lies behind it.
    let (_, _, found) = bracket(&bench, "select count(*) > 0 from customers where id = 7", &[]);
    assert_eq!(found["ending"]["between"]["gone"]["end_of_log"], true);

    // For people.
    let ran = find(&bench, &["--holds", there, "--before", &gone_at.to_string()]).expect(0);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0].starts_with("holds at 20") && lines[0].contains("timeline 1, log position"), "{ran:?}");
    assert!(lines[1].starts_with("no longer at 20") && lines[2].contains("the next transaction is "), "{ran:?}");
    assert!(ran.stdout.contains(&format!("lifeboat restore {POLICY} --to DIR --until 20")), "{ran:?}");

    // Nothing vanished.
    let never = find(&bench, &["--holds", "select count(*) > 0 from customers where id = 99"]).expect(3);
    assert!(never.stdout.starts_with("does not hold at ") && never.stdout.contains("nothing vanished"), "{never:?}");
    let never = find(&bench, &["--holds", "select true", "--database", "ordrs"]).expect(3);
    assert!(never.stdout.contains("there is no database ordrs"), "{never:?}");
    let still = find(&bench, &["--holds", &format!("select count(*) < {end} from beat")]).expect(3);
    assert!(still.stdout.starts_with("still holds at ") && still.stdout.contains("nothing vanished"), "{still:?}");
    nothing_is_left(&bench);
    nothing_is_owed(&bench).await;
}

#[test]
fn wrong_questions_and_windows_are_refused() {
    let bench = Bench::new();
    // Rows that are there at every moment: the first look may be at one before any traffic.
    for n in [1, 2] {
        bench.beat(n, n);
    }
    bench.home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    let nothing = find(&bench, &["--holds", "select true"]).expect(1);
    assert!(nothing.stderr.contains("holds no log") && nothing.stderr.contains("hint:"), "{nothing:?}");
    traffic(&bench, 3, Duration::from_secs(2));
    bench.archive();
    for (sql, code, says) in [
        ("selec true", 2, "syntax error"),
        ("select true; select true", 2, "cannot insert multiple commands"),
        ("select 1", 1, "must give a truth value"),
        ("select true, true", 1, "must give one"),
        ("select true from beat", 1, "several rows"),
        ("select true where false", 1, "no row"),
        ("select 1 / 0 > 0", 1, "division by zero"),
        ("select $1::bool", 1, "parameters"),
        ("with gone as (delete from beat returning n) select count(*) = 0 from gone", 1, "read-only transaction"),
    ] {
        let ran = find(&bench, &["--holds", sql]);
        assert!(ran.code == code && ran.stderr.contains(says) && ran.stderr.contains("hint:"), "{sql}: {ran:?}");
    }
    let no = "2026-01-31T03:00:00Z";
    for (args, code) in [
        (vec!["--holds", "select true", "--since", "2026-02-01T00:00:00Z", "--before", no], 2),
        (vec!["--holds", "select true", "--since", no, "--before", no], 2),
        (vec!["--holds", "select true", "--since", "2026-01-31T03:00:00"], 2),
        (vec!["--holds", "select true", "--before", "latest"], 2),
        (vec!["--holds", "select true", "--reach", "latest"], 2),
        (vec!["--reach", "latest", "--since", no], 2),
        (vec![], 2),
        (vec!["--holds", "select true", "--since", "2099-01-01T00:00:00Z"], 1),
        (vec!["--holds", "select true", "--before", "2000-01-01T00:00:00Z"], 1),
    ] {
        let ran = find(&bench, &args);
        assert_eq!(ran.code, code, "{args:?}: {ran:?}");
    }
    nothing_is_left(&bench);
}

#[tokio::test]
async fn a_search_that_is_killed_or_stopped_leaves_no_scratch() {
    let bench = Bench::new();
    bench.home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    traffic(&bench, 1, Duration::from_secs(3));
    bench.archive();
    let args = ["find", POLICY, "--holds", "select count(*) < 10 from beat"];
    let mut child = start(&mut bench.home.command(&args));
    descendant(child.id(), "postgres").expect("a scratch server");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(std::fs::read_dir(bench.home.scratch()).unwrap().next().is_some(), "the copy is still there");
    let next = bench.home.run(&args).expect(0);
    assert!(next.stderr.contains("swept: scratch lifeboat-"), "{next:?}");
    nothing_is_left(&bench);
    let child = start(&mut bench.home.command(&args));
    descendant(child.id(), "postgres").expect("a scratch server");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(1) && said.contains("stopped by SIGTERM"), "{said}");
    nothing_is_left(&bench);
    nothing_is_owed(&bench).await;
}

#[test]
fn a_hole_in_the_log_widens_the_bracket_and_is_said() {
    let bench = Bench::new();
    let sql = |text: &str| bench.server.sql(DATABASE, text);
    sql("create table customers (id int primary key); insert into customers values (42), (43)");
    bench.home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    let next = traffic(&bench, 1, Duration::from_secs(1));
    bench.archive();
    let next = traffic(&bench, next, Duration::from_millis(1500));
    sql("delete from customers where id = 42");
    let next = traffic(&bench, next, Duration::from_millis(1500));
    let names = bench.archive();
    let lost = names.iter().rfind(|name| name.len() == 24).unwrap();
    bench.home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    traffic(&bench, next, Duration::from_secs(2));
    bench.archive();
    let (object, record) = bench.objects(lost);
    std::fs::remove_file(object).unwrap();
    std::fs::remove_file(record).unwrap();
    let found = find(&bench, &["--holds", "select count(*) = 2 from customers"]).expect(0);
    assert!(found.stdout.contains("no moment in between can be brought back"), "{found:?}");
    // It vanished where nothing can be seen: the moment of the last commit before the hole, and the end of the next backup.
    let json = find(&bench, &["--holds", "select count(*) = 2 from customers", "--output", "json"]).expect(0).json();
    let between = &json["ending"]["between"];
    assert_ne!(between["held"]["backup"], between["gone"]["backup"]);
    let middle = time(&between["holds_at"]).saturating_add(jiff::SignedDuration::from_millis(1500)).unwrap();
    let still =
        find(&bench, &["--holds", "select count(*) = 2 from customers", "--before", &middle.to_string()]).expect(3);
    assert!(still.stdout.starts_with("still holds") && still.stderr.contains("has a hole there"), "{still:?}");
    nothing_is_left(&bench);
}

#[test]
#[ignore = "long form: an hour of traffic, sixty times as fast as the clock"]
fn a_delete_in_an_hour_of_traffic_is_found_to_the_second() {
    let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
    if !std::path::Path::new(library).exists() {
        println!("SKIPPED: faketime is not installed: no hour went by");
        return;
    }
    let mut bench = Bench::new();
    bench.server.sql(DATABASE, "create table customers (id int primary key)");
    bench.server.sql(DATABASE, "insert into customers select generate_series(1, 50)");
    bench.home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    bench.server.kill();
    bench.server.env = vec![
        ("LD_PRELOAD", library.to_owned()),
        ("FAKETIME", "+0 x60".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    bench.server.launch();
    let random = Duration::from_millis(5_000 + getrandom::u64().unwrap() % 50_000);
    let next = traffic(&bench, 1, random);
    let before: Timestamp = bench.now().parse().unwrap();
    bench.server.sql(DATABASE, "delete from customers where id = 42");
    let after: Timestamp = bench.now().parse().unwrap();
    traffic(&bench, next, Duration::from_secs(61).saturating_sub(random));
    bench.archive();
    let (holds_at, gone_at, found) = bracket(&bench, "select count(*) > 0 from customers where id = 42", &[]);
    let window = time(&found["before"]).duration_since(time(&found["since"])).as_secs();
    let looks = found["looks"].as_array().unwrap().len();
    println!("find: {before} to {after}, found {holds_at} to {gone_at}; window {window} s, {looks} restores");
    assert!(window >= 3_500, "{window}");
    assert!(holds_at <= after && gone_at >= before, "{before} to {after}: {holds_at} to {gone_at}");
}
