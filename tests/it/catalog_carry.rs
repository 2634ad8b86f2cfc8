//! A catalog carried out and in, looked at from all sides, and made and changed by the command.

use std::sync::Arc;

use lifeboat::catalog::{self, Carry, Opened, PostgresCatalog, SqliteCatalog};
use lifeboat::domain::check::Broke;
use lifeboat::domain::run::Event;
use lifeboat::engine::carry::{export, import};

use crate::support::home::{Home, POLICY};
use crate::support::sample;
use crate::support::server::Server;
use crate::support::{catalog as stage, data};
use crate::{catalog as contract, queue};

/// A catalog with everything in it that a catalog can hold.
async fn fill(opened: &Opened) {
    queue::contract(opened).await;
    queue::leave_something(opened).await;
    contract::ledger(&*opened.catalog).await;
    contract::late(&*opened.catalog).await;
    contract::leave_coverage(&*opened.catalog).await;
    crate::watching::leave_alarms_and_letters(&*opened.outbox).await;
}

async fn exported(carry: &Arc<dyn Carry>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let whole = export(Arc::clone(carry), &mut bytes).await.unwrap();
    assert_eq!(whole.rows as usize + 2, bytes.split(|byte| *byte == b'\n').count() - 1);
    bytes
}

async fn imported(carry: &Arc<dyn Carry>, bytes: &[u8]) -> Result<u64, Broke> {
    import(Arc::clone(carry), &mut &bytes[..]).await.map(|whole| whole.rows)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_export_goes_through_both_kinds_and_comes_out_the_same() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    let sqlite = |name: &str| -> (Opened, Arc<dyn Carry>) {
        let path = folder.path().join(name);
        (SqliteCatalog::open(&path).unwrap().into(), Arc::new(SqliteCatalog::open(&path).unwrap()))
    };
    let postgres = async |schema: &str| -> (Opened, Arc<dyn Carry>) {
        let opened = stage::opened(&server, schema).await;
        let carry: Arc<dyn Carry> = Arc::new(PostgresCatalog::open(&stage::place(&server, schema)).unwrap());
        (opened, carry)
    };
    let (first, out) = sqlite("first.db");
    fill(&first).await;
    let bytes = exported(&out).await;
    for kind in [
        "{\"event\":",
        "{\"covered\":",
        "{\"read\":",
        "{\"place\":",
        "{\"sequence\":",
        "{\"token\":",
        "\"holder\":",
        "\"wrong\":{",
        "{\"alarm\":{",
        "\"acknowledged\":{",
        "{\"letter\":{",
        "{\"post\":{",
        "{\"drift_seen\":{",
    ] {
        assert!(String::from_utf8_lossy(&bytes).contains(kind), "no row with {kind}");
    }
    assert_eq!(exported(&out).await, bytes, "the same catalog, the same bytes");
    let (second, other) = postgres("second").await;
    imported(&other, &bytes).await.unwrap();
    assert_eq!(exported(&other).await, bytes, "from SQLite to PostgreSQL");
    let (third, again) = sqlite("third.db");
    imported(&again, &exported(&other).await).await.unwrap();
    assert_eq!(exported(&again).await, bytes, "and back");
    // They answer alike, and go on alike.
    let policy = "late".parse().unwrap();
    for opened in [&second, &third] {
        assert_eq!(opened.catalog.runs(None, 1_000).await.unwrap(), first.catalog.runs(None, 1_000).await.unwrap());
        assert_eq!(opened.catalog.artifacts(&policy).await.unwrap(), first.catalog.artifacts(&policy).await.unwrap());
        assert_eq!(opened.queue.places().await.unwrap(), first.queue.places().await.unwrap());
        let alarms = async |opened: &Opened| opened.outbox.alarms().await.unwrap();
        assert_eq!(alarms(opened).await.alarms, alarms(&first).await.alarms);
        assert_eq!(opened.outbox.waiting(10).await.unwrap(), first.outbox.waiting(10).await.unwrap());
        assert_eq!(opened.outbox.post().await.unwrap(), first.outbox.post().await.unwrap());
        assert_eq!(opened.outbox.drift_seen().await.unwrap(), first.outbox.drift_seen().await.unwrap());
        // Who decided on the alarms before the import is refused; the letters are delivered, each once.
        assert!(!opened.outbox.settle(0, vec![], vec![]).await.unwrap());
        crate::watching::deliver_what_waits(&*opened.outbox).await;
    }
    let numbers = [
        first.catalog.next_sequence(&policy).await.unwrap(),
        second.catalog.next_sequence(&policy).await.unwrap(),
        third.catalog.next_sequence(&policy).await.unwrap(),
    ];
    assert_eq!(numbers, [numbers[0]; 3]);
    // One that was filled on a server goes the other way.
    let (fourth, out) = postgres("fourth").await;
    fill(&fourth).await;
    let bytes = exported(&out).await;
    let (_, into) = sqlite("fifth.db");
    imported(&into, &bytes).await.unwrap();
    assert_eq!(exported(&into).await, bytes);
    // An empty one too.
    let (_, empty) = postgres("empty").await;
    let nothing = exported(&empty).await;
    let (_, into) = sqlite("empty.db");
    imported(&into, &nothing).await.unwrap();
    assert_eq!(exported(&into).await, nothing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_import_is_all_or_nothing() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    let source = folder.path().join("source.db");
    let filled: Opened = SqliteCatalog::open(&source).unwrap().into();
    fill(&filled).await;
    let bytes = exported(&(Arc::new(SqliteCatalog::open(&source).unwrap()) as Arc<dyn Carry>)).await;
    stage::opened(&server, "target").await;
    let postgres: Arc<dyn Carry> = Arc::new(PostgresCatalog::open(&stage::place(&server, "target")).unwrap());
    let sqlite: Arc<dyn Carry> = Arc::new(SqliteCatalog::open(&folder.path().join("target.db")).unwrap());
    let text = String::from_utf8(bytes.clone()).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let without = |at: usize| [&lines[..at], &lines[at + 1..]].concat().concat();
    let twice = [&lines[..5], &lines[4..]].concat().concat();
    let bad: Vec<(&str, String)> = vec![
        ("nothing", String::new()),
        ("a text", "this is no export\n".to_owned()),
        ("another format", text.replacen("lifeboat.catalog/2", "lifeboat.catalog/9", 1)),
        ("the last line is missing", without(lines.len() - 1)),
        ("half of the last line", text[..text.len() - 20].to_owned()),
        ("a row is missing", without(7)),
        ("a row comes twice", twice),
        ("a word was changed", text.replacen("nightly", "mightly", 1)),
        ("a row with an unknown key", text.replacen("{\"event\":{", "{\"event\":{\"more\":1,", 1)),
        ("something comes after the end", format!("{text}{}", lines[3])),
        ("it was cut in the middle", text[..text.len() / 2].to_owned()),
    ];
    for target in [&sqlite, &postgres] {
        let nothing = exported(target).await;
        for (what, file) in &bad {
            let broke = imported(target, file.as_bytes()).await.expect_err(what);
            assert!(broke.hint.is_some() && broke.error.contains("nothing"), "{what}: {broke}");
            assert_eq!(exported(target).await, nothing, "{what}: and yet something was taken in");
        }
        imported(target, &bytes).await.unwrap();
        let broke = imported(target, &bytes).await.unwrap_err();
        assert!(broke.error.contains("already"), "{broke}");
        assert_eq!(exported(target).await, bytes);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_export_of_an_older_lifeboat_is_taken_in() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    // As it was written before alarms and letters were in it.
    let lines = [
        r#"{"format":"lifeboat.catalog/1"}"#,
        r#"{"event":{"id":"01928c4e-7b00-7000-8000-000000000009","at":"2026-11-20T03:00:00Z","policy":"orders","run":"01928c4e-7b00-7000-8000-000000000001","event":{"scratch_made":{"name":"lifeboat-x"}}}}"#,
        r#"{"sequence":{"policy":"orders","given":3}}"#,
        r#"{"token":{"given":7}}"#,
    ];
    let mut text = lines.join("\n") + "\n";
    let sha256 = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(text.as_bytes()));
    text.push_str(&format!("{{\"end\":{{\"rows\":3,\"sha256\":\"{sha256}\"}}}}\n"));
    stage::opened(&server, "target").await;
    let postgres: Arc<dyn Carry> = Arc::new(PostgresCatalog::open(&stage::place(&server, "target")).unwrap());
    let sqlite: Arc<dyn Carry> = Arc::new(SqliteCatalog::open(&folder.path().join("target.db")).unwrap());
    for target in [&sqlite, &postgres] {
        assert_eq!(imported(target, text.as_bytes()).await.unwrap(), 3);
        // It goes out in today's format, with the same rows.
        let out = String::from_utf8(exported(target).await).unwrap();
        let rows: Vec<&str> = out.lines().collect();
        assert_eq!((rows[0], &rows[1..4]), (r#"{"format":"lifeboat.catalog/2"}"#, &lines[1..4]));
    }
}

/// A home whose catalog is on a server.
pub(crate) fn home_on(source: &Server, database: &str, catalog: &Server) -> Home {
    let home = Home::new(source, database);
    let place = format!("url = \"{}\"\ntimeout = \"2s\"\n#", catalog.url("postgres"));
    home.edit_config(|text| text.replace("path = \"lifeboat.db\"", &place));
    home
}

#[test]
fn the_command_makes_examines_and_carries_a_catalog() {
    let server = Server::start();
    data::fill(&server);
    let home = home_on(&server, data::DATABASE, &server);
    // Before there is one, nothing is run.
    let refused = home.run(&["backup", POLICY, "--job", "logical"]).expect(1);
    assert!(
        refused.stderr.contains("holds no catalog yet") && refused.stderr.contains("catalog migrate"),
        "{refused:?}"
    );
    assert!(!home.store().join(POLICY).exists());
    let made = home.run(&["catalog", "migrate", "--output", "json"]).expect(0).json();
    assert!(made["from"].is_null() && made["to"].as_i64() >= Some(1), "{made}");
    let again = home.run(&["catalog", "migrate"]).expect(0);
    assert!(again.stdout.contains("up to date"), "{again:?}");
    home.run(&["check"]);
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    let runs = home.run(&["catalog", "runs", "--output", "json"]).expect(0).json();
    assert_eq!(runs["runs"].as_array().unwrap().len(), 1);
    let checked = home.run(&["catalog", "check", "--output", "json"]).expect(0).json();
    assert_eq!((checked["schema"].as_str(), checked["runs"].as_u64()), (Some("lifeboat.catalog-check/1"), Some(1)));
    assert_eq!(checked["findings"].as_array().unwrap().len(), 0);

    // Out, and into a file beside.
    let file = home.path().join("catalog.jsonl");
    let told = home.run(&["catalog", "export", "catalog.jsonl", "--output", "json"]).expect(0).json();
    assert_eq!(std::fs::metadata(&file).unwrap().len() > 0, told["rows"].as_u64() > Some(3));
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions()) & 0o777,
        0o600
    );
    let taken = home.run(&["catalog", "export", "catalog.jsonl"]).expect(1);
    assert!(taken.stderr.contains("hint"), "an export replaces nothing: {taken:?}");
    let streamed = home.run(&["catalog", "export"]).expect(0);
    assert_eq!(streamed.stdout, std::fs::read_to_string(&file).unwrap());
    let status = home.run(&["status"]).expect(4).stdout;
    // What the stores hold is taken in by a new schema too.
    home.edit_config(|text| text.replace("timeout = \"2s\"", "timeout = \"2s\"\nschema = \"anew\""));
    home.run(&["catalog", "rebuild"]).expect(1);
    home.run(&["catalog", "migrate"]).expect(0);
    let rebuilt = home.run(&["catalog", "rebuild", "--output", "json"]).expect(0).json();
    assert_eq!(rebuilt["adopted"], 1, "{rebuilt}");
    assert_eq!(home.run(&["catalog", "rebuild", "--output", "json"]).expect(0).json()["adopted"], 0);
    home.edit_config(|text| text.replace("\nschema = \"anew\"", ""));
    home.edit_config(|text| {
        text.replace("[catalog]\nurl", "[catalog]\npath = \"lifeboat.db\"\n# url").replace("\ntimeout", "\n# timeout")
    });
    home.run(&["catalog", "import", "catalog.jsonl"]).expect(0);
    home.run(&["catalog", "import", "catalog.jsonl"]).expect(1);
    assert_eq!(home.run(&["catalog", "export"]).expect(0).stdout, streamed.stdout);
    let moved = home.run(&["status"]).expect(4).stdout;
    assert_eq!(moved.lines().count(), status.lines().count());
    home.run(&["catalog", "check"]).expect(0);
    let migrated = home.run(&["catalog", "migrate"]).expect(0);
    assert!(migrated.stdout.contains("up to date"), "{migrated:?}");
}

#[test]
fn what_is_wrong_with_a_catalog_is_found() {
    let server = Server::start();
    let home = home_on(&server, "postgres", &server);
    home.run(&["catalog", "migrate"]).expect(0);
    home.run(&["catalog", "check"]).expect(0);
    let codes = || {
        let found = home.run(&["catalog", "check", "--output", "json"]).expect(3).json();
        let codes = found["findings"].as_array().unwrap().iter().map(|one| one["code"].as_str().unwrap().to_owned());
        codes.collect::<Vec<_>>()
    };
    let insert = |kind: &str, body: &str| {
        let sql = format!(
            "insert into lifeboat.event (at, policy, run, kind, body) values ('2026-11-20T03:00:00Z', 'orders', '01928c4e-7b00-7000-8000-000000000001', '{kind}', '{body}')"
        );
        server.sql("postgres", &sql);
    };
    server.sql("postgres", "alter table lifeboat.event disable trigger event_is_never_changed");
    assert_eq!(codes(), ["guard_missing"]);
    server.sql("postgres", "alter table lifeboat.event enable trigger event_is_never_changed");
    // Drills in little that are gone, changed, or of nothing.
    let body = serde_json::to_string(&Event::Drilled(Box::new(sample::physical()))).unwrap();
    insert("drilled", &body.replace('\'', "''"));
    home.run(&["catalog", "check"]).expect(0);
    let unguarded = |sql: &str| {
        let set =
            |how: &str| format!("alter table lifeboat.drill_summary {how} trigger drill_summary_is_never_changed;");
        server.sql("postgres", &format!("{}{sql};{}", set("disable"), set("enable")));
    };
    unguarded("update lifeboat.drill_summary set summary = jsonb_set(summary, '{judgement,verdict}', '\"proven\"')");
    assert_eq!(codes(), ["summary_disagrees"], "what says that it was proven, and was not");
    unguarded("update lifeboat.drill_summary set policy = 'billing'");
    assert_eq!(codes(), ["summary_disagrees", "summary_disagrees"], "missing here, and of nothing there");
    unguarded("delete from lifeboat.drill_summary");
    assert_eq!(codes(), ["summary_disagrees"]);
    server.sql(
        "postgres",
        "insert into lifeboat.drill_summary select seq, policy, summary from lifeboat.drill_summarized",
    );
    // A run that a schedule planned, and that nobody will do.
    insert("planned", r#"{"planned":{"work":"verify","scheduled_for":"2026-11-20T03:00:00Z"}}"#);
    assert_eq!(codes(), ["run_without_place"]);
    // A view that lies.
    server.sql("postgres", "create or replace view lifeboat.scratch_owed as select 1::bigint as seq, 'orders' collate \"C\" as policy, '01928c4e-7b00-7000-8000-000000000002'::uuid as run, 'lifeboat-x' as name");
    assert_eq!(codes(), ["run_without_place", "view_disagrees"]);
    // A process of this machine that is no more.
    let host = String::from_utf8(std::process::Command::new("uname").arg("-n").output().unwrap().stdout).unwrap();
    insert("started", &format!(r#"{{"started":{{"host":"{}","pid":4000000,"pid_started":1}}}}"#, host.trim()));
    assert_eq!(codes(), ["view_disagrees", "run_died"]);
    // What nobody can read ends the comparison, and is told.
    insert("finished", r#"{"finished":{"outcome":"nonsense"}}"#);
    assert_eq!(codes(), ["event_unreadable"]);
    insert("missed", r#"{"abandoned":{"why":"x"}}"#);
    assert_eq!(codes(), ["event_unreadable", "event_unreadable"]);

    // The same on a file: damage, and a place in the queue of nobody.
    home.edit_config(|text| {
        text.replace("[catalog]\nurl", "[catalog]\npath = \"lifeboat.db\"\n# url").replace("\ntimeout", "\n# timeout")
    });
    home.run(&["catalog", "check"]).expect(0);
    let path = home.path().join("lifeboat.db");
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute("insert into queue (run, policy, work, scheduled_for, attempt, due_at, priority, needs, planned) values ('01928c4e-7b00-7000-8000-000000000003', 'orders', '\"verify\"', 0, 1, 0, 1, '[]', ?1)",
        [r#"{"run":"01928c4e-7b00-7000-8000-000000000003","key":{"policy":"orders","work":"verify","scheduled_for":"2026-11-20T03:00:00Z","attempt":1},"due_at":"2026-11-20T03:00:00Z","not_after":null,"priority":1,"alone_on":null,"needs":[]}"#]).unwrap();
    assert_eq!(codes(), ["place_without_run"]);
    raw.execute("insert into drill_summary (seq, policy, summary) values (7, 'orders', '{}')", []).unwrap();
    assert_eq!(codes(), ["summary_disagrees", "place_without_run"]);
    drop(raw);
    for side in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(path.with_file_name(format!("lifeboat.db{side}")));
    }
    std::fs::write(&path, "rubbish ".repeat(1_000)).unwrap();
    assert_eq!(codes(), ["file_damaged"]);
    assert!(catalog::waiting(&home.path().join("nowhere")).files == 0);
}

#[test]
fn a_wrong_configuration_of_the_catalog_is_told_with_its_place() {
    let home = Home::for_url("postgresql://nobody@/nothing?host=/nowhere");
    let wrong = |catalog: &str, said: &str| {
        let file = home.path().join("lifeboat.toml");
        let before = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, before.replace("path = \"lifeboat.db\"", catalog)).unwrap();
        let refused = home.run(&["catalog", "runs"]).expect(2);
        std::fs::write(&file, before).unwrap();
        assert!(
            refused.stderr.contains(said) && refused.stderr.contains("lifeboat.toml:"),
            "{said}: {}",
            refused.stderr
        );
    };
    let url = "url = \"postgresql://lifeboat@/lifeboat?host=/run/postgresql\"";
    wrong(&format!("path = \"lifeboat.db\"\n{url}"), "both `path` and `url`");
    wrong("schema = \"mine\"", "there is no `url`");
    wrong(&format!("{url}\nschema = \"pg_mine\""), "pg_mine");
    wrong(&format!("{url}\npassfile = \"a\"\npassword_file = \"b\""), "second place for the password");
    wrong(&format!("{url}\ntimeout = \"0s\""), "timeout");
    wrong("url = \"postgresql://lifeboat:s3cret@/lifeboat\"", "password");
    wrong("url = \"mysql://lifeboat@/lifeboat\"", "postgresql://");
    wrong(&format!("{url}\nshema = \"mine\""), "schema");
}
