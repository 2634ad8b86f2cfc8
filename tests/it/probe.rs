//! Fingerprints and digests on real servers: the same for a faithful copy, another for any change.

use std::collections::BTreeMap;

use lifeboat::domain::inventory::{Database, Table, UNREADABLE};
use lifeboat::domain::observed::Observed;
use lifeboat::domain::policy::ContentPlan;
use lifeboat::domain::units::ByteSize;
use lifeboat::probe::{self, Endpoint, OpenSnapshot, RowFilter};

use crate::support::copies::{RICH, copied, dumped};
use crate::support::server::Server;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn digests(endpoint: &Endpoint, plan: &ContentPlan, filter: &RowFilter) -> Vec<Table> {
    runtime().block_on(async {
        let open = OpenSnapshot::open(endpoint).await.unwrap();
        probe::digest_tables(&open, plan, filter, 2).await.unwrap()
    })
}

fn fingerprint(endpoint: &Endpoint) -> Database {
    runtime().block_on(async {
        let open = OpenSnapshot::open(endpoint).await.unwrap();
        let tables = probe::digest_tables(&open, &ContentPlan::default(), &RowFilter::All, 2).await.unwrap();
        probe::database(&open, tables).await.unwrap()
    })
}

fn content(tables: &[Table]) -> BTreeMap<&str, &Observed<lifeboat::domain::inventory::Content>> {
    tables.iter().map(|table| (table.name.as_str(), &table.content)).collect()
}

fn rich() -> Server {
    let server = Server::start();
    server.sql("postgres", "create database shop");
    server.sql("shop", RICH);
    server.sql("postgres", "alter database shop set statement_timeout = '9min'");
    server
}

#[test]
fn a_faithful_copy_has_the_same_fingerprint_whether_it_was_dumped_or_copied() {
    let source = rich();
    // Settings of role and database that change how values print must not matter.
    for setting in [
        "datestyle = 'German'",
        "intervalstyle = 'sql_standard'",
        "extra_float_digits = 0",
        "bytea_output = escape",
        "timezone = 'Asia/Tokyo'",
        "lc_monetary = 'C.UTF-8'",
        "search_path = '\"Odd \"\"schema\"\"\"'",
    ] {
        source.sql("postgres", &format!("alter role postgres set {setting}"));
    }
    let before = fingerprint(&source.endpoint("shop"));
    let kinds: std::collections::BTreeSet<&str> = before.objects.iter().map(|object| object.kind.as_str()).collect();
    for kind in [
        "schema",
        "table",
        "view",
        "materialized view",
        "foreign table",
        "column",
        "index",
        "constraint",
        "sequence",
        "function",
        "procedure",
        "aggregate",
        "trigger",
        "rule",
        "policy",
        "event trigger",
        "operator",
        "type",
        "enum",
        "range",
        "domain",
        "collation",
        "text search configuration",
        "foreign data wrapper",
        "foreign server",
        "user mapping",
        "publication",
        "statistics",
        "comment",
        "default privileges",
        "grant",
    ] {
        assert!(kinds.contains(kind), "no {kind} among {kinds:?}");
    }
    for copy in [dumped(&source, "shop"), copied(&source)] {
        copy.sql("postgres", "alter role postgres reset all");
        let after = fingerprint(&copy.endpoint("shop"));
        assert_eq!(content(&before.tables), content(&after.tables));
        for object in &before.objects {
            let there = after.objects.iter().find(|one| one.kind == object.kind && one.identity == object.identity);
            assert_eq!(there, Some(object));
        }
        assert_eq!(before.objects, after.objects);
        assert_eq!(before.sequences, after.sequences);
        assert_eq!(before.large_objects, after.large_objects);
        assert_eq!(before.extensions, after.extensions);
        assert_eq!(before.collations, after.collations);
        assert_eq!(
            (before.encoding.as_str(), &before.locale, &before.settings),
            ("UTF8", &after.locale, &after.settings)
        );
        assert_eq!(before.owner, after.owner);
    }
    let tables = content(&before.tables);
    assert_eq!(tables["public.orders"].known().unwrap().rows, 5000);
    assert_eq!(tables["public.\"Order \"\"lines\"\" 🚤\nx\""].known().unwrap().rows, 4);
    assert_eq!(tables["public.nothing_in_it"].known().unwrap().rows, 1);
    assert_eq!(tables["public.unfilled"], &Observed::Absent);
    assert!(matches!(tables["public.elsewhere"], Observed::Unknown(why) if why.contains("foreign")));
    assert_eq!(before.large_objects.count, 2);
    let written = serde_json::to_string(&before).unwrap();
    assert!(!written.contains("canary"), "a secret is in the fingerprint");
}
