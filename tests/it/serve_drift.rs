//! Drift by schedule: what the service found is in the catalog, for metrics and alarms, and its runs are runs like any other.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::retention::Days;
use crate::serve::Service;
use crate::support::home::Home;

#[test]
fn the_service_looks_for_drift_and_what_it_finds_becomes_a_metric_and_an_alarm() {
    let days = Days::of(Home::for_url("postgresql://nobody@/orders?host=/nowhere"), 2, 1);
    let home = &days.home;
    let shown = home.run(&["schedule"]);
    assert!(!shown.stdout.contains("drift"), "nothing of it unless it is asked for: {shown:?}");
    home.edit_config(|text| format!("{text}\n[schedule]\ndrift = \"every 1m\"\njitter = \"0s\"\n"));
    let shown = home.run(&["schedule"]).expect(0);
    assert!(shown.stdout.contains("drift"), "{shown:?}");
    let service = Service::start(home, "serve");
    let connection = rusqlite::Connection::open(home.path().join("lifeboat.db")).unwrap();
    connection.busy_timeout(Duration::from_secs(20)).unwrap();
    let ended = "select count(*) from event where kind = 'finished'
        and run in (select run from event where kind = 'planned' and body like '%\"drift\"%')";
    let until = Instant::now() + Duration::from_secs(240);
    while connection.query_row(ended, [], |row| row.get::<_, i64>(0)).unwrap() == 0 {
        assert!(Instant::now() < until, "it never looked");
        std::thread::sleep(Duration::from_millis(200));
    }
    drop(connection);
    service.signal(Signal::TERM);
    assert_eq!(service.end().0, Some(0));
    let runs = home.run(&["catalog", "runs", "--output", "json"]).expect(0).json();
    let runs = runs["runs"].as_array().unwrap();
    let drift = runs.iter().find(|run| run["work"] == "drift" && run["state"]["ended"].is_object()).unwrap();
    assert!(drift["scheduled_for"].is_string() && drift["state"]["ended"]["found"].as_u64() > Some(0), "{drift}");
    // The source cannot be reached: that is one of them.
    let metrics = home.run(&["metrics"]).expect(0).stdout;
    let lines = |name: &str| metrics.lines().filter(|line| line.starts_with(name)).collect::<Vec<_>>().join("\n");
    assert!(lines("lifeboat_drift_findings").contains("source_unreachable"), "{}", lines("lifeboat_drift"));
    assert!(lines("lifeboat_drift_checked_timestamp_seconds").contains("orders"), "{}", lines("lifeboat_drift"));
    home.run(&["catalog", "check"]).expect(0);
}

#[test]
fn a_wrong_schedule_of_drift_is_told_with_its_place() {
    let home = Home::for_url("postgresql://nobody@/orders?host=/nowhere");
    home.edit_config(|text| format!("{text}\n[schedule]\ndrift = \"every now\"\n"));
    let refused = home.run(&["schedule"]).expect(2);
    assert!(refused.stderr.contains("every now") && refused.stderr.contains("lifeboat.toml:"), "{}", refused.stderr);
}
