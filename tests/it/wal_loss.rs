//! A source that dies: what the drill measures is what was really lost.

use std::time::Duration;

use jiff::Timestamp;
use lifeboat::probe::Endpoint;

use crate::support::data::DATABASE;
use crate::support::home::POLICY;
use crate::support::receiver::{Bench, Receiver};
use crate::support::recovered::recovered;

const DRILL: &str = r#"
[drill]
name = "lost"
backup = { pick = "latest", method = "physical" }
loss = "now"
[scratch]
kind = "cluster"
isolation = "preferred"
[[steps]]
restore.until = "latest"
[[steps]]
check.name = "heartbeat"
[[steps]]
check = { name = "assert", sql = "select count(*) = max(n) from beat", is = true }
[[steps]]
check = { name = "assert", sql = "select max(n) from beat", within = [0, 100000000] }
"#;

/// Random moments without a seed to be replayed: what is tried is printed.
fn some(below: u64) -> u64 {
    getrandom::u64().unwrap() % below
}

/// How many trials: `LIFEBOAT_LOSS_TRIALS`, else a few.
fn trials() -> u64 {
    std::env::var("LIFEBOAT_LOSS_TRIALS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

/// A client that commits one row after the other until the server dies; gives when each was acknowledged.
async fn commit_until_it_dies(source: Endpoint, busy: bool) -> Vec<Timestamp> {
    let client = source.connect().await.unwrap();
    let mut acknowledged = Vec::new();
    loop {
        let n = i32::try_from(acknowledged.len() + 1).unwrap();
        if client.execute("insert into beat values ($1, clock_timestamp())", &[&n]).await.is_err() {
            return acknowledged;
        }
        acknowledged.push(lifeboat::clock::now());
        if busy {
            let fill = "insert into fill select repeat(md5(n::text), 20) from generate_series(1, 200) n";
            if client.execute(fill, &[]).await.is_err() {
                return acknowledged;
            }
        } else {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_measured_recovery_point_is_what_was_really_lost() {
    const BEAT: Duration = Duration::from_millis(500);
    for trial in 0..trials() {
        // Busy or idle; and every other time the receiver dies in the same moment, with all that it had not made durable.
        let (busy, both) = (trial % 2 == 1, trial % 4 >= 2);
        let Bench { mut server, home } = Bench::new("heartbeat = \"500ms\"");
        server.sql(DATABASE, "create table fill (t text)");
        home.run(&["init", "--heartbeat"]).expect(0);
        home.write_drill("lost", DRILL);
        home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
        let mut receiver = Receiver::start(&home);
        let source = server.endpoint(DATABASE);
        let client = tokio::spawn(commit_until_it_dies(source, busy));
        tokio::time::sleep(Duration::from_millis(1_500 + some(1_500))).await;
        if both {
            receiver.kill();
            server.kill_hard();
        } else {
            server.kill_hard();
            receiver.wait_for("trying again");
            receiver.stop();
        }
        let acknowledged = client.await.unwrap();
        std::fs::remove_dir_all(&server.data_dir).unwrap();

        let drill = home.run(&["drill", POLICY, "--drill", "lost", "--output", "json"]).expect(0).json();
        let judged = &drill["judgement"];
        assert!(judged["reasons"].to_string().contains("measured: heartbeat"), "{judged}");
        let lost_at: Timestamp = drill["lost_at"].as_str().unwrap().parse().unwrap();
        let measured = judged["rpa"].as_f64().unwrap();
        let (found, back) = recovered(&home, &server, "back", &["--until", "latest"]);
        drop(back);
        let came_back = usize::try_from(found).unwrap();
        // A commit that the client had not heard of yet may be there too.
        let newest = acknowledged[came_back.clamp(1, acknowledged.len()) - 1];
        let truth = lost_at.duration_since(newest).as_secs_f64();
        let lost = acknowledged.last().unwrap().duration_since(newest).as_secs_f64();
        let known = acknowledged.len();
        println!(
            "loss trial={trial} busy={busy} both={both} acknowledged={known} came_back={came_back} lost={lost:.3}s measured={measured:.3}s truth={truth:.3}s"
        );
        assert!((measured - truth).abs() <= BEAT.as_secs_f64() + 0.1, "measured {measured}, truth {truth}");
        assert!(lost < 2.0, "{lost} s of acknowledged rows are lost");
    }
}

#[test]
fn a_random_moment_is_brought_back_with_both_sides_of_it() {
    let bench = Bench::new("heartbeat = \"400ms\"");
    bench.home.run(&["init", "--heartbeat"]).expect(0);
    bench.home.write_drill("moment", include_str!("../../drills/moment.toml"));
    let drill = || bench.home.run(&["drill", POLICY, "--drill", "moment", "--output", "json"]);
    bench.backup();
    let said = drill().expect(4).json();
    assert!(said["judgement"]["reasons"].to_string().contains("no moment to go to"), "{said}");

    // The heart beats before, while and after the backup is taken whose window it is.
    let mut receiver = bench.receiver();
    std::thread::sleep(Duration::from_millis(2_500));
    std::fs::remove_dir_all(bench.home.newest_backup()).unwrap();
    bench.backup();
    bench.beat(1, 20);
    std::thread::sleep(Duration::from_secs(1));
    bench.beat(21, 30);
    bench.wait_until_durable(&mut receiver);
    for _ in 0..2 {
        let proven = drill().expect(0).json();
        let check = &proven["checks"][0];
        let looked = check["looked_at"].to_string();
        assert!(check["name"] == "heartbeat" && looked.contains("sides of the moment"), "{check}");
        let lost_at: Timestamp = proven["lost_at"].as_str().unwrap().parse().unwrap();
        let beat: Timestamp = check["beat"]["committed_at"].as_str().unwrap().parse().unwrap();
        assert!(beat <= lost_at, "{check}");
    }
    // A row that is missing in the middle, as `drill --mutate` takes it away.
    let test = ["drill", POLICY, "--drill", "moment", "--mutate", "--only", "heartbeat_lost", "--output", "json"];
    let tested = bench.home.run(&test).expect(0).json();
    assert_eq!(tested["tests"][0]["mutations"][0]["came"]["caught"]["as_expected"], true, "{tested:#}");
    // A row that the source had, and that is not in the copy: the heartbeat says so.
    bench.home.write_drill("gap", &include_str!("../../drills/moment.toml").replace("name = \"moment\"", "name = \"gap\"").replace(
        "[[steps]]\nawait-ready",
        "[[steps]]\nsabotage.sql = \"delete from lifeboat.heartbeat where seq = (select max(seq) from lifeboat.heartbeat)\"\n[[steps]]\nawait-ready",
    ));
    let found = bench.home.run(&["drill", POLICY, "--drill", "gap", "--output", "json"]).expect(3).json();
    assert!(found["checks"][0]["outcome"].to_string().contains("heartbeat_missing"), "{}", found["checks"][0]);
    // The source does not answer: the last row is young enough, and the next one is not known.
    receiver.stop();
    let mut bench = bench;
    bench.server.kill();
    let ran = bench.home.run(&["drill", POLICY, "--drill", "moment", "--output", "json"]).expect(0).json();
    assert!(ran["checks"][0]["unchecked"].to_string().contains("could not be asked"), "{}", ran["checks"][0]);
    bench.server.launch();
    let moment = "2026-01-31T03:00:00Z";
    for (loss, until, says) in [
        ("now", "moment", "needs a loss that says which"),
        ("random", "latest", "is not known to the second"),
        ("sometime", "moment", "is not a moment of loss"),
    ] {
        let text = include_str!("../../drills/moment.toml");
        let text = text.replace("loss = \"random\"", &format!("loss = \"{loss}\""));
        let text = text.replace("restore.until = \"moment\"", &format!("restore.until = \"{until}\""));
        bench.home.write_drill("moment", &text);
        let ran = bench.home.run(&["drill", POLICY, "--drill", "moment"]).expect(2);
        assert!(ran.stderr.contains(says), "{loss}, {until}: {ran:?}");
    }
    // A time that no backup reaches back to.
    let text = include_str!("../../drills/moment.toml").replace("loss = \"random\"", &format!("loss = \"{moment}\""));
    bench.home.write_drill("moment", &text);
    let early = bench.home.run(&["drill", POLICY, "--drill", "moment"]).expect(4);
    assert!(early.stdout.contains("durable before the loss"), "{early:?}");
}
