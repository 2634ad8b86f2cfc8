//! The log: its form, the run in each line, and no secrets in it.

use crate::support::home::{Home, POLICY, ran};
use crate::support::server::{Options, Server};

#[test]
fn every_line_of_a_run_names_it_and_no_line_holds_a_secret() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Server::start_with(Options { tcp_port: Some(port), ..Options::default() });
    server.sql("postgres", "create database orders");
    server.sql("postgres", "create role keeper superuser login password 'pass w0rd+by/env'");
    server.sql("orders", "create table t as select 'ROWCONTENT' || n as x from generate_series(1, 100) n");
    let home = Home::new(&server, "orders");
    home.edit_config(|text| format!("{text}\n[log]\nformat = \"json\"\n"));
    let url = |text: &str| text.replace(&server.url("orders"), &format!("postgresql://keeper@127.0.0.1:{port}/orders"));
    home.edit_policy(|text| url(&text).replace("[source]", "[source]\npassword_env = \"ORDERS_PASSWORD\""));
    let secret = "pass w0rd+by/env";
    let talkative = |args: &[&str]| {
        let mut command = home.command(args);
        ran(command.env("RUST_LOG", "trace").env("ORDERS_PASSWORD", secret))
    };
    let backup = talkative(&["backup", POLICY, "--job", "logical", "--output", "json"]).expect(0);
    let run = backup.json()["run"].as_str().unwrap_or_else(|| panic!("{}", backup.stdout)).to_owned();
    // Lines that are not of the log are progress and results.
    let lines: Vec<serde_json::Value> = backup
        .stderr
        .lines()
        .filter(|line| line.starts_with('{'))
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let of_run = |line: &serde_json::Value| {
        line["fields"]["run"] == run.as_str()
            || line["spans"]
                .as_array()
                .is_some_and(|spans| spans.iter().any(|span| span["run"] == run.as_str() && span["policy"] == POLICY))
    };
    let ours: Vec<&serde_json::Value> = lines
        .iter()
        .filter(|line| line["target"].as_str().is_some_and(|target| target.starts_with("lifeboat::engine")))
        .collect();
    assert!(ours.len() >= 3, "{lines:#?}");
    assert!(ours.iter().all(|line| of_run(line)), "{ours:#?}");
    assert!(ours.iter().any(|line| line["fields"]["event"] == "committed"), "{ours:#?}");
    // The most talkative libraries too: those that speak while a run is at work carry its name.
    assert!(lines.iter().filter(|line| of_run(line)).count() > ours.len());

    let drill = talkative(&["drill", POLICY, "--drill", "restore-logical"]);
    for said in [&backup.stderr, &drill.stderr] {
        for form in [secret, "pass%20w0rd%2Bby%2Fenv", "ROWCONTENT1", "cGFzcyB3MHJkK2J5L2Vudg"] {
            let line = said.lines().find(|line| line.contains(form));
            assert!(line.is_none(), "{form}: {line:?}");
        }
        assert!(!said.contains("AGE-SECRET-KEY-1"));
    }
}

#[test]
fn level_and_form_are_as_configured_and_rust_log_wins() {
    let bench = super::Bench::new(
        "[log]\nformat = \"json\"\nlevel = \"info\"\n[[notify]]\nname = \"n\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:1\"",
    );
    bench.write("policies/broken.txt", "");
    let said = bench.run(&["verify", "orders"]);
    let lines: Vec<&str> = said.stderr.lines().filter(|line| line.starts_with('{')).collect();
    for line in &lines {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(["INFO", "WARN", "ERROR"].contains(&line["level"].as_str().unwrap()), "{line}");
    }
    assert!(!lines.is_empty(), "{said:?}");
    let mut command = bench.command(&["verify", "orders"]);
    let said = ran(command.env("RUST_LOG", "off"));
    assert!(said.stderr.lines().all(|line| !line.starts_with('{')), "{said:?}");
}
