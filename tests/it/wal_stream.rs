//! The log received over the replication protocol: what was acknowledged comes back, whoever is killed.

use std::time::{Duration, Instant};

use crate::support::data::DATABASE;
use crate::support::home::{POLICY, walk};
use crate::support::receiver::{Bench, Receiver};
use crate::support::recovered::recovered;
use crate::support::server::Server;

#[test]
fn what_was_received_comes_back_whole_segments_and_the_one_that_is_not() {
    let bench = Bench::new("");
    bench.backup();
    let check = || bench.home.run(&["check"]).stdout;
    assert!(check().contains("no receiver has ever been here"), "{}", check());
    let mut receiver = bench.receiver();
    bench.beat(1, 5);
    assert!(check().contains("nothing bounds what the slot"), "{}", check());
    bench.server.sql("postgres", "alter system set max_slot_wal_keep_size = '1GB'");
    bench.server.sql("postgres", "select pg_reload_conf()");
    // Several segments, and then part of one.
    bench.server.sql(DATABASE, "create table fill as select repeat(md5(n::text), 30) from generate_series(1, 5000) n");
    bench.beat(6, 9);
    bench.wait_until_durable(&mut receiver);
    assert_eq!(bench.brought("running"), 9);
    bench.beat(10, 12);
    bench.wait_until_durable(&mut receiver);
    assert!(check().contains("a receiver is at work; the source keeps"), "{}", check());
    receiver.stop();
    assert!(check().contains("no receiver is at work, and the source keeps"), "{}", check());
    assert_eq!(bench.brought("stopped"), 12);
    // The series from which exposure is told.
    let status = bench.home.run(&["status", POLICY, "--output", "json"]);
    let policy = &status.json()["policies"][0];
    assert!(policy["covered"]["until"].is_string() && policy["exposure"].as_f64().unwrap() < 60.0, "{policy}");
    assert!(policy["exposure_window"]["within_rpo_percent"].as_f64().unwrap() > 99.0, "{policy}");
    let status = bench.home.run(&["status", POLICY, "--window", "1h"]).stdout;
    assert!(status.contains("since the log in the store ended") && status.contains("within the RPO for"), "{status}");
    bench.home.run(&["status", "--window", "often"]).expect(2);
    // What is there is what the server has: segments byte by byte, and of the last one a beginning.
    let log = bench.home.store().join(POLICY).join("wal/00000001");
    let names: Vec<String> =
        walk(&log).iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    let whole: Vec<&String> =
        names.iter().filter(|name| name.len() == "000000010000000000000001.jsonl".len()).collect();
    let pieces = names.iter().filter(|name| name.ends_with(".piece.jsonl")).count();
    assert!(whole.len() > 3 && pieces > 0, "{names:?}");
    for name in whole {
        let name = name.strip_suffix(".jsonl").unwrap();
        let to = bench.home.path().join("fetched");
        bench.home.run(&["wal", "fetch", POLICY, name, to.to_str().unwrap()]).expect(0);
        let own = bench.server.data_dir.join("pg_wal").join(name);
        if let Ok(own) = std::fs::read(own) {
            assert!(own == std::fs::read(&to).unwrap(), "{name} differs");
        }
    }
    bench.home.run(&["verify", POLICY, "--wal"]).expect(0);
    // A second receiver goes on where the first one ended.
    bench.beat(13, 14);
    let mut receiver = bench.receiver();
    bench.wait_until_durable(&mut receiver);
    receiver.stop();
    assert_eq!(bench.brought("again"), 14);
}

/// Random moments without a seed to be replayed: what is tried is printed.
fn some(below: u64) -> u64 {
    getrandom::u64().unwrap() % below
}

#[test]
fn a_receiver_that_is_killed_again_and_again_leaves_no_gap() {
    let bench = Bench::new("lag = \"100ms\"");
    bench.backup();
    let mut n = 0;
    for round in 0..6 {
        let receiver = bench.receiver();
        // Enough for a few segments, so that it is killed within one, between two, and while one is sealed.
        let fill =
            format!("create table fill{round} as select repeat(md5(n::text), 30) from generate_series(1, 3000) n");
        bench.server.sql(DATABASE, &fill);
        bench.beat(n + 1, n + 5);
        n += 5;
        std::thread::sleep(Duration::from_millis(some(400)));
        receiver.kill();
    }
    // The source has kept what was not durable.
    let mut receiver = bench.receiver();
    bench.beat(n + 1, n + 1);
    bench.wait_until_durable(&mut receiver);
    receiver.stop();
    bench.home.run(&["verify", POLICY, "--wal"]).expect(0);
    assert_eq!(bench.brought("back"), n + 1);
}

#[test]
fn a_source_that_restarts_is_waited_for_and_a_second_receiver_is_not_let_in() {
    let mut bench = Bench::new("");
    bench.backup();
    let mut receiver = bench.receiver();
    bench.beat(1, 3);
    let second = bench.home.run(&["wal", "stream", POLICY]).expect(1);
    assert!(second.stderr.contains("is in use by process") && second.stderr.contains("hint:"), "{second:?}");
    bench.server.kill();
    receiver.wait_for("trying again");
    bench.server.launch();
    bench.beat(4, 6);
    bench.wait_until_durable(&mut receiver);
    receiver.stop();
    assert_eq!(bench.brought("back"), 6);
    // And one that is told not to wait ends, with an error.
    let mut receiver = Receiver::start_with(&bench.home, &["--no-loop"]);
    bench.beat(7, 7);
    bench.wait_until_durable(&mut receiver);
    bench.server.kill();
    assert_eq!(receiver.child.wait().unwrap().code(), Some(1), "{}", receiver.said());
    assert!(receiver.said().contains("was lost"), "{}", receiver.said());
    bench.server.launch();
    assert_eq!(bench.brought("ended"), 7);
}

#[test]
fn what_cannot_be_received_is_refused_in_words() {
    let bench = Bench::new("");
    let refused = |ran: crate::support::home::Ran, code: i32, says: &str| {
        let ran = ran.expect(code);
        assert!(ran.stderr.contains(says) && ran.stderr.contains("hint:"), "{says}: {ran:?}");
    };
    refused(bench.home.run(&["wal", "stream", "nobody"]), 2, "no policy");
    // A policy of another cluster: its backups say so.
    bench.backup();
    let other = Server::start();
    other.sql("postgres", &format!("create database {DATABASE}"));
    let (ours, theirs) = (bench.server.url(DATABASE), other.url(DATABASE));
    bench.home.edit_policy(|text| text.replace(&ours, &theirs));
    refused(bench.home.run(&["wal", "stream", POLICY]), 1, "the backups of policy orders are of");
    bench.home.edit_policy(|text| text.replace(&theirs, "postgresql://postgres@/postgres?host=/nowhere"));
    refused(bench.home.run(&["wal", "stream", POLICY]), 1, "could not connect");
    bench.home.edit_policy(|text| text.replace("postgresql://postgres@/postgres?host=/nowhere", &ours));
    bench.home.edit_policy(|text| text.replace("stream = true", "stream = false"));
    refused(bench.home.run(&["wal", "stream", POLICY]), 1, "does not receive the log");
    bench.home.edit_policy(|text| text.replace("stream = false", "stream = true\nlag = \"0s\""));
    bench.home.run(&["wal", "stream", POLICY]).expect(2);
}

#[test]
fn a_store_that_takes_nothing_costs_no_log() {
    let bench = Bench::new("lag = \"100ms\"");
    bench.backup();
    let mut receiver = bench.receiver();
    bench.beat(1, 2);
    bench.wait_until_durable(&mut receiver);
    let log = bench.home.store().join(POLICY).join("wal");
    let away = log.with_extension("away");
    std::fs::rename(&log, &away).unwrap();
    std::fs::write(&log, "in the way").unwrap();
    bench.beat(3, 5);
    bench.server.sql(DATABASE, "create table fill as select repeat(md5(n::text), 30) from generate_series(1, 5000) n");
    receiver.wait_for("nothing can be stored");
    let end = bench.server.sql(DATABASE, "select pg_current_wal_flush_lsn()");
    let sql =
        format!("select bool_or(flush_lsn >= '{end}') from pg_stat_replication where application_name = 'lifeboat'");
    assert_eq!(bench.server.sql(DATABASE, &sql), "f", "told to be durable, and is not");
    // Longer than the server waits for somebody who says nothing.
    std::thread::sleep(Duration::from_secs(6));
    receiver.must_run();
    std::fs::remove_file(&log).unwrap();
    std::fs::rename(&away, &log).unwrap();
    bench.beat(6, 6);
    bench.wait_until_durable(&mut receiver);
    receiver.wait_for("takes the log again");
    receiver.stop();
    assert_eq!(bench.brought("back"), 6);
}

#[test]
fn a_log_that_the_source_has_not_kept_leaves_a_hole_that_is_said_and_seen() {
    let bench = Bench::new("");
    bench.backup();
    let mut receiver = bench.receiver();
    bench.beat(1, 2);
    bench.wait_until_durable(&mut receiver);
    receiver.stop();
    bench.server.sql(DATABASE, "select pg_drop_replication_slot('lifeboat_orders')");
    for round in 0..3 {
        let fill =
            format!("create table fill{round} as select repeat(md5(n::text), 30) from generate_series(1, 30000) n");
        bench.server.sql(DATABASE, &fill);
        bench.server.sql(DATABASE, "checkpoint");
    }
    bench.beat(3, 4);
    let mut receiver = bench.receiver();
    assert!(receiver.said().contains("a HOLE in the log"), "{}", receiver.said());
    bench.wait_until_durable(&mut receiver);
    let verified = bench.home.run(&["verify", POLICY, "--wal"]).expect(3);
    assert!(verified.stdout.contains("wal_hole"), "{verified:?}");
    // A backup behind it goes on again.
    bench.backup();
    bench.beat(5, 6);
    bench.wait_until_durable(&mut receiver);
    receiver.stop();
    assert_eq!(bench.brought("back"), 6);
}

#[test]
fn a_promoted_standby_is_followed_onto_its_timeline() {
    let bench = Bench::new("");
    bench.backup();
    let mut receiver = bench.receiver();
    bench.beat(1, 3);
    bench.wait_until_durable(&mut receiver);
    // A standby out of a restore, which then follows the primary by itself.
    let folder = bench.home.path().join("standby");
    crate::support::recovered::restored(&bench.home, &folder, &[]);
    let conf = format!(
        "primary_conninfo = 'host={} port={} user=postgres'\nrecovery_target_timeline = 'latest'\n",
        bench.server.socket_dir.display(),
        bench.server.port
    );
    let auto = folder.join("postgresql.auto.conf");
    let text = std::fs::read_to_string(&auto).unwrap_or_default();
    std::fs::write(&auto, text + &conf).unwrap();
    std::fs::write(folder.join("standby.signal"), "").unwrap();
    let mut standby = Server::adopt(&bench.server, folder);
    standby.launch();
    bench.beat(4, 6);
    bench.wait_until_durable(&mut receiver);
    let begun = Instant::now();
    while standby.try_sql(DATABASE, "select max(n) from beat").is_ok_and(|n| n != "6") {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", standby.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let clock = "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
    let at_six = bench.server.sql(DATABASE, clock);
    bench.server.sql(DATABASE, "select pg_create_restore_point('before the switch')");
    // A restore point alone is not written out; a commit behind it is.
    bench.server.sql(DATABASE, "create table written ()");
    bench.wait_until_durable(&mut receiver);
    receiver.stop();
    let before = bench.server.sql(DATABASE, "select pg_current_wal_lsn()");
    let begun = Instant::now();
    while standby.sql(DATABASE, &format!("select pg_last_wal_replay_lsn() >= '{before}'")) != "t" {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", standby.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let (ours, theirs) = (bench.server.url(DATABASE), standby.url(DATABASE));
    let mut bench = bench;
    bench.server.kill();
    standby.sql("postgres", "select pg_promote()");
    bench.home.edit_policy(|text| text.replace(&ours, &theirs));
    for n in 7..=9 {
        standby.sql(DATABASE, &format!("insert into beat values ({n}, clock_timestamp())"));
    }
    let old = std::mem::replace(&mut bench.server, standby);
    let mut receiver = bench.receiver();
    let at_nine = bench.server.sql(DATABASE, clock);
    bench.server.sql(DATABASE, "select pg_create_restore_point('after the switch')");
    let numbered = "begin; insert into beat values (10, clock_timestamp()); select pg_current_xact_id(); commit";
    let xid = bench.server.sql(DATABASE, numbered);
    bench.beat(11, 11);
    bench.wait_until_durable(&mut receiver);
    assert!(receiver.said().contains("timeline 2"), "{}", receiver.said());
    receiver.stop();
    assert_eq!(bench.brought("latest"), 11);
    // Each kind of target, before the switch and after it: what lies before it is there, and nothing of what follows.
    for (name, args, expected) in [
        ("lsn", vec!["--until-lsn", &before], 6),
        ("time", vec!["--until", &at_six], 6),
        ("point", vec!["--until-name", "before the switch"], 6),
        ("time-after", vec!["--until", &at_nine], 9),
        ("point-after", vec!["--until-name", "after the switch"], 9),
        ("xid", vec!["--until-xid", &xid], 10),
        ("before-xid", vec!["--until-xid", &xid, "--before"], 9),
    ] {
        let (count, back) = recovered(&bench.home, &bench.server, name, &args);
        assert_eq!(count, expected, "{name}");
        drop(back);
    }
    drop(old);
    bench.home.run(&["verify", POLICY, "--wal"]).expect(0);
}

/// What is received of each major version comes back.
fn received_of(major: u32) {
    if !crate::support::majors::here(major) {
        return;
    }
    let bench = Bench::of(Some(major), "lag = \"200ms\"\nheartbeat = \"200ms\"");
    bench.home.run(&["init", "--heartbeat"]).expect(0);
    bench.backup();
    let mut receiver = bench.receiver();
    bench.server.sql(DATABASE, "create table fill as select repeat(md5(n::text), 30) from generate_series(1, 3000) n");
    bench.beat(1, 6);
    bench.wait_until_durable(&mut receiver);
    receiver.stop();
    let (count, back) = recovered(&bench.home, &bench.server, "back", &["--until", "latest"]);
    assert_eq!(count, 6, "{major}");
    assert!(back.sql(DATABASE, "select count(*) from lifeboat.heartbeat").parse::<i32>().unwrap() > 0);
    bench.home.run(&["verify", POLICY, "--wal"]).expect(0);
}

#[test]
fn the_log_of_13_is_received() {
    received_of(13);
}

#[test]
fn the_log_of_14_is_received() {
    received_of(14);
}

#[test]
fn the_log_of_16_is_received() {
    received_of(16);
}

#[test]
fn the_log_of_17_is_received() {
    received_of(17);
}

#[test]
fn the_log_of_18_is_received() {
    received_of(18);
}
