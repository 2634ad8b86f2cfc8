//! `verify --wal` and what it says of the log that is not in the store; holes that somebody answers for.

use std::sync::Arc;
use std::time::Duration;

use lifeboat::domain::wal::WalName;
use lifeboat::seal::{Opener, Placed, Signer, WalFile, WalSealer};
use lifeboat::store::FileStore;

use crate::support::data::DATABASE;
use crate::support::home::{POLICY, Ran};
use crate::support::receiver;
use crate::wal::Bench;

fn verify(bench: &Bench) -> Ran {
    bench.home.run(&["--output", "json", "verify", POLICY, "--wal"])
}

/// The audit of the only store.
fn audit(ran: &Ran) -> serde_json::Value {
    ran.json()["stores"][0].clone()
}

/// A bench with a backup and rows in so many segments, each pushed; gives their names.
fn pushed(rows: i32) -> (Bench, Vec<String>) {
    let bench = Bench::new();
    bench.home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    let mut names = Vec::new();
    for n in 1..=rows {
        bench.beat(n, n);
        names.push(bench.server.sql(DATABASE, "select pg_walfile_name(pg_current_wal_lsn())"));
        bench.archive();
    }
    (bench, names)
}

/// Ends the segment that is being written; gives its name.
fn finish(bench: &Bench) -> String {
    bench.server.sql(DATABASE, "select pg_walfile_name(pg_switch_wal())")
}

fn rpo(bench: &Bench, span: &str) {
    bench.home.edit_policy(|text| {
        let line = |line: &str| if line.starts_with("rpo") { format!("rpo = \"{span}\"") } else { line.to_owned() };
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    });
}

/// Puts a file into the log that the policy's own side has signed, whatever it says.
fn put(bench: &Bench, name: &str, text: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let key = |name: &str| bench.home.path().join("keys").join(name);
    let store = Arc::new(FileStore::open_existing(&bench.home.store()).unwrap());
    let recipients = Opener::read(&[key("working.agekey")]).unwrap().recipients();
    let signer = Signer::read(&key("signing.pem")).unwrap();
    let sealer = WalSealer::new(store, POLICY.parse().unwrap(), &recipients, 3, signer).unwrap();
    let name: WalName = name.parse().unwrap();
    let bytes = text.as_bytes().to_vec().into();
    let file = WalFile { name, system_identifier: None, contents: None, bytes };
    let placed = runtime.block_on(sealer.put(&file, lifeboat::clock::now())).unwrap();
    assert!(matches!(placed, Placed::Stored(_)), "{placed:?}");
}

#[test]
fn what_the_source_has_finished_is_on_its_way_then_late_and_then_a_finding() {
    let (bench, _) = pushed(2);
    let right = audit(&verify(&bench).expect(0));
    for state in ["uploading", "delayed", "missing", "findings"] {
        assert_eq!(right[state], serde_json::json!([]), "{state}: {right}");
    }
    bench.server.sql(DATABASE, "alter system set archive_command = 'false'");
    bench.server.sql(DATABASE, "select pg_reload_conf()");
    bench.beat(3, 3);
    let name = finish(&bench);
    let young = audit(&verify(&bench).expect(0));
    assert_eq!(young["uploading"][0]["name"], name.as_str(), "{young}");
    assert!(young["uploading"][0]["words"].as_str().unwrap().contains("waits for its archive_command"), "{young}");
    rpo(&bench, "2s");
    std::thread::sleep(Duration::from_secs(3));
    let late = verify(&bench).expect(3);
    let late = audit(&late);
    assert_eq!((&late["delayed"][0]["segment"], &late["uploading"]), (&name.as_str().into(), &serde_json::json!([])));
    assert_eq!(late["findings"][0]["code"], "wal_delayed");
    let table = bench.home.run(&["verify", POLICY, "--wal"]).expect(3).stdout;
    assert!(table.contains(&format!("DELAYED  {name}: finished by")), "{table}");
    assert!(table.contains("archive_command failed last with"), "{table}");

    // Who may not list the source's folders hears only what the archiver says, and that it is not all.
    rpo(&bench, "26h");
    bench.server.sql("postgres", "create role plain login");
    let theirs = bench.server.url(DATABASE).replace("postgres@", "plain@");
    let ours = bench.server.url(DATABASE);
    assert_ne!(ours, theirs);
    bench.home.edit_policy(|text| text.replace(&ours, &theirs));
    let blind = audit(&verify(&bench).expect(0));
    let remarks = blind["remarks"].to_string();
    assert!(remarks.contains("pg_monitor") && remarks.contains("since when cannot be told"), "{blind}");
    bench.home.edit_policy(|text| text.replace(&theirs, &ours));

    // It comes after all.
    bench.server.sql(DATABASE, "alter system reset archive_command");
    bench.server.sql(DATABASE, "select pg_reload_conf()");
    bench.archive();
    let right = audit(&verify(&bench).expect(0));
    assert_eq!((&right["uploading"], &right["delayed"]), (&serde_json::json!([]), &serde_json::json!([])));
    // Neither side has it any more.
    let lost = finish_and_lose(&bench);
    let gone = verify(&bench).expect(3);
    assert!(audit(&gone)["missing"].to_string().contains(&lost), "{gone:?}");
    // A source that is away is said to be, and nothing is made up.
    let Bench { mut server, home, .. } = bench;
    server.kill();
    let away = home.run(&["--output", "json", "verify", POLICY, "--wal"]).expect(0);
    assert!(audit(&away)["remarks"].to_string().contains("could not be asked"), "{away:?}");
}

/// A segment that the source was told is archived, which nobody pushed, and which it has recycled.
fn finish_and_lose(bench: &Bench) -> String {
    bench.beat(4, 4);
    let lost = finish(bench);
    for _ in 0..500 {
        bench.server.sql(DATABASE, "select pg_switch_wal()");
        bench.server.sql(DATABASE, "create table if not exists filler (n int); insert into filler values (1)");
        bench.server.sql(DATABASE, "checkpoint");
        if !bench.server.data_dir.join("pg_wal").join(&lost).exists() {
            return lost;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{lost} was not recycled");
}

#[test]
fn what_waits_in_the_spool_or_is_there_in_pieces_is_on_its_way() {
    let (bench, _) = pushed(1);
    bench.home.edit_policy(|text| format!("{text}\n[wal]\nspool = {{ dir = \"../spool\", max = \"64 MiB\" }}\n"));
    bench.beat(2, 2);
    let name = finish(&bench);
    for _ in 0..500 {
        if bench.archive.join(&name).exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let store = bench.home.store();
    std::fs::rename(&store, store.with_extension("away")).unwrap();
    bench.push(&name).expect(0);
    std::fs::rename(store.with_extension("away"), &store).unwrap();
    let waits = audit(&verify(&bench).expect(0));
    assert_eq!(waits["uploading"][0]["name"], name.as_str());
    assert!(
        waits["uploading"][0]["words"].as_str().unwrap().contains("in the spool")
            && waits["delayed"] == serde_json::json!([])
    );
    rpo(&bench, "1s");
    std::thread::sleep(Duration::from_secs(2));
    assert!(verify(&bench).expect(3).stdout.contains("wal_delayed"));

    let bench = receiver::Bench::new("lag = \"100ms\"");
    bench.backup();
    let mut receiver = bench.receiver();
    bench.beat(1, 3);
    bench.wait_until_durable(&mut receiver);
    let states = || bench.home.run(&["verify", POLICY, "--wal"]).expect(0).stdout;
    let running = states();
    assert!(running.contains("UPLOADING") && running.contains("a receiver is at work"), "{running}");
    receiver.stop();
    let stopped = states();
    assert!(!stopped.contains("UPLOADING") && stopped.contains("no receiver is at work"), "{stopped}");
}

#[test]
fn a_history_that_says_nothing_and_a_timeline_without_its_beginning_are_findings() {
    let (bench, names) = pushed(2);
    let end = bench.server.sql(DATABASE, "select pg_current_wal_lsn()");
    put(&bench, "00000002.history", "nonsense\n");
    let found = verify(&bench).expect(3);
    assert!(found.stdout.contains("wal_history") && found.stdout.contains("00000002.history"), "{found:?}");
    for suffix in [".zst.age", ".jsonl"] {
        std::fs::remove_file(bench.home.store().join(POLICY).join(format!("wal/00000002/00000002.history{suffix}")))
            .unwrap();
    }
    verify(&bench).expect(0);
    // It branched off within the last segment, and nothing else of it is there.
    let lsn: lifeboat::domain::lsn::Lsn = end.parse().unwrap();
    put(
        &bench,
        "00000002.history",
        &format!("1\t{}\tno recovery target specified\n", lifeboat::domain::lsn::Lsn(lsn.0 - (1 << 19))),
    );
    let found = verify(&bench).expect(3);
    let branch = names.last().unwrap().replacen("00000001", "00000002", 1);
    assert!(found.stdout.contains("wal_branch") && audit(&found)["missing"].to_string().contains(&branch), "{found:?}");
}

/// Waits until the source has recycled a segment.
fn recycled(bench: &Bench, name: &str) {
    for _ in 0..500 {
        bench.server.sql(DATABASE, "create table if not exists filler (n int); insert into filler values (1)");
        bench.server.sql(DATABASE, "select pg_switch_wal()");
        bench.server.sql(DATABASE, "checkpoint");
        if !bench.server.data_dir.join("pg_wal").join(name).exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{name} was not recycled");
}

/// Nobody has a segment any more.
fn lose(bench: &Bench, name: &str) {
    let (object, record) = bench.objects(name);
    for path in [object, record, bench.archive.join(name)] {
        std::fs::remove_file(path).unwrap();
    }
}

fn acknowledge(bench: &Bench, args: &[&str]) -> Ran {
    bench.home.run(&[&["wal", "acknowledge", POLICY], args].concat())
}

const WHO: [&str; 4] = ["--owner", "Ada of payments", "--reason", "disk of db3, INC-812"];

#[test]
fn a_hole_that_somebody_answers_for_is_no_finding_and_still_a_hole() {
    let (bench, names) = pushed(5);
    recycled(&bench, &names[4]);
    bench.beat(6, 6);
    bench.archive();
    let moment = bench.now();
    bench.beat(7, 7);
    bench.archive();
    lose(&bench, &names[1]);
    assert!(verify(&bench).expect(3).stdout.contains("wal_hole"));
    let drill = |backup: &str, code: i32| {
        let text = format!(
            "[drill]\nname = \"pit\"\ndescription = \"the log too\"\nbackup = {{ pick = \"{backup}\", method = \"physical\" }}\nloss = \"now\"\n\
             [scratch]\nkind = \"cluster\"\n[[steps]]\nrestore.until = \"latest\"\n\
             [[steps]]\nawait-ready = {{ query = \"select 1\", within = \"5s\", timeout = \"1m\" }}\n\
             [[steps]]\ncheck = {{ name = \"assert\", sql = \"select count(*) >= 7 from beat\", is = true }}\n"
        );
        bench.home.write_drill("pit", &text);
        bench.home.run(&["drill", POLICY, "--drill", "pit"]).expect(code).stdout
    };

    // What is not lost, or asked wrongly, is refused, and nothing is written.
    let next = |name: &str, by: u64| {
        let WalName::Segment(segment) = name.parse().unwrap() else { panic!("{name}") };
        (0..by).fold(segment, |segment, _| segment.next(1 << 20).unwrap()).to_string()
    };
    let asked = |from: &str, to: Option<&str>, owner: &str, reason: &str, code: i32, says: &str| {
        let to = to.map_or(vec![], |to| vec!["--to", to]);
        let args = [vec!["--from", from], to, vec!["--owner", owner, "--reason", reason]].concat();
        let ran = acknowledge(&bench, &args).expect(code);
        assert!(ran.stderr.contains(says) && ran.stderr.contains("hint:"), "{args:?}: {ran:?}");
        assert!(
            !crate::support::home::walk(&bench.home.store()).iter().any(|path| path.to_str().unwrap().contains("hole"))
        );
    };
    let lost = names[1].as_str();
    asked("nonsense", None, "Ada", "why", 2, "neither a segment nor a position");
    asked("00000002.history", None, "Ada", "why", 2, "neither a segment nor a position");
    asked("0000000100000000FFFFFFFF", None, "Ada", "why", 2, "no segment is called");
    asked(lost, Some("x/y"), "Ada", "why", 2, "neither a segment nor a position");
    asked(lost, Some(&names[0]), "Ada", "why", 2, "does not lie behind");
    asked(lost, Some(&lost.replacen("00000001", "00000002", 1)), "Ada", "why", 2, "does not lie behind");
    asked(lost, None, " ", "why", 2, "the owner is empty");
    asked(lost, None, "Ada", "", 2, "the reason is empty");
    asked(lost, None, "Ada", "two\nlines", 2, "more than one line");
    asked(&names[0], None, "Ada", "why", 1, "it is not lost");
    asked(lost, Some(&names[2]), "Ada", "why", 1, "it is not lost");
    asked("000000010000000000000001", None, "Ada", "why", 1, "no backup needs");
    asked(&next(&names[4], 200), None, "Ada", "why", 1, "the log ends before it");
    let last = bench.server.sql(DATABASE, "select pg_walfile_name(pg_current_wal_lsn())");
    asked(&last, None, "Ada", "why", 1, "the source still has");
    acknowledge(&bench, &["--from", lost]).expect(2);
    acknowledge(&bench, &["--list", "--from", lost]).expect(2);
    bench.home.run(&["wal", "acknowledge", "nobody", "--list"]).expect(2);
    assert!(acknowledge(&bench, &["--list"]).expect(0).stdout.contains("no hole is acknowledged"));

    let done = acknowledge(&bench, &[&["--from", lost], &WHO[..]].concat()).expect(0);
    assert!(done.stdout.contains(&format!("{lost} to {lost}: acknowledged by Ada of payments on")), "{done:?}");
    let again = acknowledge(&bench, &[&["--from", lost], &WHO[..]].concat()).expect(1);
    assert!(again.stderr.contains("already"), "{again:?}");
    let shown = bench.home.run(&["verify", POLICY, "--wal"]).expect(0).stdout;
    for says in ["ACKNOWLEDGED", lost, "Ada of payments", "INC-812", "it limits backup 20"] {
        assert!(shown.contains(says), "{says}: {shown}");
    }
    assert!(!shown.contains("MISSING"), "{shown}");
    assert!(acknowledge(&bench, &["--list"]).expect(0).stdout.contains("INC-812"));
    let catalog = bench.home.path().join("lifeboat.db");
    let events = rusqlite::Connection::open(&catalog).unwrap();
    let count: i64 =
        events.query_row("select count(*) from event where kind = 'hole_acknowledged'", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 1);
    drop(events);

    // It brings nothing back.
    let beyond = bench.home.run(&["find", POLICY, "--reach", &moment]).expect(3).stdout;
    assert!(beyond.contains(lost) && beyond.contains("Ada of payments"), "{beyond}");
    let until = |name: &str| bench.brought(name, &["--until", "latest"]).0;
    assert_eq!(until("stops"), 1);
    let to = bench.home.path().join("told");
    let told = bench.home.run(&["restore", POLICY, "--to", to.to_str().unwrap(), "--until", "latest"]).expect(0);
    assert!(told.stderr.contains(lost) && told.stderr.contains("Ada of payments"), "{told:?}");
    assert!(drill("latest", 3).contains(lost), "a drill that has to go over it");

    // It outlives the catalog, and not its signature.
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", catalog.display()));
    }
    bench.home.run(&["catalog", "rebuild"]).expect(0);
    verify(&bench).expect(0);
    let record = bench.objects(lost).1.with_file_name(format!("{lost}.hole.jsonl"));
    let good = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, good.replacen("Ada", "Bob", 1)).unwrap();
    let forged = verify(&bench).expect(3);
    assert!(forged.stdout.contains("wal_signature") && forged.stdout.contains("wal_hole"), "{forged:?}");
    acknowledge(&bench, &["--list"]).expect(3);
    std::fs::write(&record, &good).unwrap();

    // One that is damaged, next to it, by a position: then both limit the backup.
    let object = bench.objects(&names[2]).0;
    let bytes = std::fs::read(&object).unwrap();
    std::fs::write(&object, &bytes[..bytes.len() / 2]).unwrap();
    let found = audit(&verify(&bench).expect(3));
    assert_eq!((&found["uploading"], &found["delayed"]), (&serde_json::json!([]), &serde_json::json!([])), "{found}");
    let WalName::Segment(damaged) = names[2].parse().unwrap() else { panic!() };
    let lsn = damaged.start(1 << 20).unwrap();
    let place = lifeboat::domain::lsn::Lsn(lsn.0 + 77).to_string();
    acknowledge(&bench, &[&["--from", &place, "--to", &place], &WHO[..]].concat()).expect(0);
    verify(&bench).expect(0);
    // It was found again after all: that is said.
    std::fs::write(&object, &bytes).unwrap();
    assert!(audit(&verify(&bench).expect(0))["remarks"].to_string().contains("is there, although"));

    // Behind it all is as it was.
    bench.home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    bench.beat(8, 8);
    bench.archive();
    assert_eq!(until("behind"), 8);
    drill("latest", 0);
    let shown = bench.home.run(&["verify", POLICY, "--wal"]).expect(0).stdout;
    assert_eq!(shown.matches("behind it is a hole").count(), 1, "{shown}");
}

#[test]
fn without_a_log_or_with_what_waits_nothing_is_acknowledged() {
    let bench = Bench::new();
    let name = "00000001000000000000000A";
    let ask = |says: &str| {
        let ran = acknowledge(&bench, &[&["--from", name], &WHO[..]].concat()).expect(1);
        assert!(ran.stderr.contains(says) && ran.stderr.contains("hint:"), "{says}: {ran:?}");
    };
    bench.home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    verify(&bench).expect(4);
    ask("there is no log of orders");
    bench.beat(1, 1);
    bench.archive();
    ask("there is no physical backup");
}

#[test]
fn a_source_of_which_nobody_keeps_a_log_is_no_finding_and_no_proof() {
    let server = crate::support::server::Server::start_with(crate::support::server::Options {
        initdb: vec!["--locale=C.UTF-8", "--wal-segsize=1"],
        ..Default::default()
    });
    server.sql("postgres", &format!("create database {DATABASE}"));
    let home = crate::support::home::Home::new(&server, DATABASE);
    home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    server.sql(DATABASE, "select pg_switch_wal()");
    let ran = home.run(&["--output", "json", "verify", POLICY, "--wal"]).expect(4);
    assert!(audit(&ran)["remarks"].to_string().contains("nobody keeps a log"), "{ran:?}");
}
