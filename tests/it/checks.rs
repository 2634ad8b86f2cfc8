//! Every check on real copies: green with how much it looked at, and red with the object named when the copy is broken.

mod meanwhile;
mod questions;

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use lifeboat::checks::{self, Subject};
use lifeboat::domain::artifact::{
    Basis, MANIFEST_FORMAT, Manifest, PageTally, Part, RecoveryPoint, Stream, StreamKind, WalRange,
};
use lifeboat::domain::check::{Assertion, CheckName, CheckResult, Expectation, Finding, Outcome};
use lifeboat::domain::drill::Check;
use lifeboat::domain::ids::BackupId;
use lifeboat::domain::inventory::{Fingerprint, Unseen};
use lifeboat::domain::lsn::Lsn;
use lifeboat::domain::observed::Observed;
use lifeboat::domain::policy::{ContentPlan, Method};
use lifeboat::domain::transcript::RestoreFacts;
use lifeboat::domain::units::Span;
use lifeboat::probe::{self, OpenSnapshot, RowFilter, Sample};
use lifeboat::seal::SealedManifest;

use crate::support::copies::{RICH, copied, copied_with, dumped};
use crate::support::server::{Options, Server};

/// What a backup of `databases` would have written down.
fn sealed(source: &Server, method: Method, databases: &[&str]) -> SealedManifest {
    let fingerprint = run(async {
        let client = probe::session::read_only(&source.endpoint("postgres")).await.unwrap();
        let server = probe::server(&client).await.unwrap();
        let mut seen = Vec::new();
        for name in databases {
            let open = OpenSnapshot::open(&source.endpoint(name)).await.unwrap();
            let tables =
                probe::digest_tables(&open, &Sample::Keys(&ContentPlan::default()), &RowFilter::All, 2).await.unwrap();
            seen.push(probe::database(&open, tables).await.unwrap());
        }
        Fingerprint {
            server,
            roles: probe::roles(&client).await.unwrap(),
            tablespaces: probe::tablespaces(&client).await.unwrap(),
            databases: seen,
            unseen: Vec::new(),
            changed_meanwhile: Vec::new(),
            shared: None,
        }
    });
    let part = Part {
        key: "base/00000.zst.age".to_owned(),
        plain_bytes: 1,
        plain_blake3: String::new(),
        sealed_bytes: 1,
        sealed_sha256: String::new(),
        members: Vec::new(),
    };
    let stream = |name: &str, kind| Stream { name: name.to_owned(), kind, parts: vec![part.clone()], plain_bytes: 1 };
    let at = fingerprint.server.clock;
    let manifest = Manifest {
        format: MANIFEST_FORMAT.to_owned(),
        backup: BackupId::new(at, 1),
        policy: "shop".parse().unwrap(),
        job: "nightly".parse().unwrap(),
        sequence: 1,
        method,
        started_at: at,
        finished_at: at,
        recovery_point: RecoveryPoint { at, lsn: None, basis: Basis::SnapshotStart },
        wal: None,
        streams: vec![stream("base", StreamKind::Tar), stream("globals", StreamKind::Globals)],
        recipients: Vec::new(),
        pages: None,
        fingerprint,
        tools: BTreeMap::new(),
        clock_skew: Span::ZERO,
    };
    SealedManifest {
        manifest,
        sha256: String::new(),
        signed_by: Observed::Known("key".to_owned()),
        signer_trusted: true,
        findings: Vec::new(),
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

/// A restored copy, ready to be checked.
struct Case {
    sealed: SealedManifest,
    facts: RestoreFacts,
    copy: Server,
    databases: Vec<(String, String)>,
    whole_server: bool,
    own_from: Option<u64>,
}

impl Case {
    fn logical(source: &Server) -> Case {
        let sealed = sealed(source, Method::Logical, &["shop"]);
        Case::new(sealed, dumped(source, "shop"))
    }

    /// `between` happens after the fingerprint and before the copy is made, as on a busy source.
    fn physical(source: &Server, databases: &[&str], between: impl FnOnce(&Server)) -> Case {
        let mut sealed = sealed(source, Method::Physical, databases);
        between(source);
        let copy = copied(source);
        let end: Lsn = source.sql("postgres", "select pg_current_wal_lsn()").parse().unwrap();
        // Every copy has it, and these tests look at the others.
        let why = "not of this test".to_owned();
        let aside = Unseen { database: "postgres".to_owned(), why, meanwhile: false };
        sealed.manifest.fingerprint.unseen.push(aside);
        sealed.manifest.wal = Some(WalRange { timeline: 1, start: sealed.manifest.fingerprint.server.lsn, end });
        Case::new(sealed, copy)
    }

    fn new(sealed: SealedManifest, copy: Server) -> Case {
        let next = "select pg_snapshot_xmax(pg_current_snapshot())";
        let own_from =
            (sealed.manifest.method == Method::Physical).then(|| copy.sql("postgres", next).parse().unwrap());
        let names = sealed.manifest.fingerprint.databases.iter().map(|one| one.name.clone());
        let databases = names.map(|name| (name.clone(), name)).collect();
        let facts = RestoreFacts { parts: 2, plain_bytes: 2, sealed_bytes: 2, ..RestoreFacts::default() };
        Case { sealed, facts, copy, databases, whole_server: true, own_from }
    }

    fn run(&self, check: &Check) -> CheckResult {
        let subject = Subject {
            heartbeat: lifeboat::domain::heartbeat::BeatTerms::default(),
            sealed: &self.sealed,
            restored: &self.facts,
            server: self.copy.endpoint("postgres"),
            databases: self.databases.clone(),
            default_database: self.databases[0].1.clone(),
            whole_server: self.whole_server,
            own_from: self.own_from,
            programs: &self.copy.programs,
            wrap: Vec::new(),
            parallel: 2,
        };
        run(checks::run(check, &subject))
    }

    fn check(&self, name: CheckName) -> CheckResult {
        self.run(&plain(name))
    }

    fn sql(&self, sql: &str) {
        self.copy.sql(&self.databases[0].1, sql);
    }
}

fn plain(name: CheckName) -> Check {
    Check { name, required: true, assertion: None, heapallindexed: true, timeout: None }
}

fn findings(result: &CheckResult) -> Vec<Finding> {
    match &result.outcome {
        Outcome::Failed(findings) => findings.clone(),
        Outcome::Passed | Outcome::Unchecked(_) => Vec::new(),
        Outcome::Broke { error, hint } => panic!("{} broke: {error} ({hint:?})", result.title),
    }
}

fn has(result: &CheckResult, code: &str, object: &str) -> bool {
    findings(result).iter().any(|finding| finding.code == code && finding.object == object)
}

fn looked(result: &CheckResult, what: &str) -> u64 {
    result.looked_at.iter().find(|measure| measure.what == what).map_or(0, |measure| measure.count)
}

fn skipped<'a>(result: &'a CheckResult, object: &str) -> Option<&'a str> {
    result.unchecked.iter().find(|one| one.object == object).map(|one| one.why.as_str())
}

fn shop() -> Server {
    let server = Server::start();
    server.sql("postgres", "create database shop");
    server.sql("shop", RICH);
    server
}

/// The checks that compare a copy with its fingerprint, and what each must have looked at.
const COMPARING: [(CheckName, &str); 8] = [
    (CheckName::Amcheck, "B-tree indexes"),
    (CheckName::Completeness, "columns"),
    (CheckName::Content, "rows"),
    (CheckName::Sequences, "sequences"),
    (CheckName::Extensions, "extensions"),
    (CheckName::Collations, "collations"),
    (CheckName::Encodings, "databases"),
    (CheckName::Settings, "databases"),
];

/// What breaks a copy; the check that must turn red, with which code and object.
const FAULTS: [(&str, CheckName, &str, &str); 20] = [
    (
        "update orders set total = total + 0.01 where id = 77",
        CheckName::Content,
        "content_differs",
        "table public.orders",
    ),
    (
        "delete from events_2024 where payload = '{\"i\": 7}'",
        CheckName::Content,
        "content_differs",
        "table public.events_2024",
    ),
    (
        "insert into customers (name) values ('one more')",
        CheckName::Content,
        "content_differs",
        "table public.customers",
    ),
    ("select lo_put(70001, 2, 'X')", CheckName::Content, "large_objects_differ", "large objects"),
    ("select setval('counted', 245)", CheckName::Sequences, "sequence_behind", "sequence public.counted"),
    ("drop index customers_mail", CheckName::Completeness, "index_missing", "index public.customers_mail"),
    (
        "alter table orders alter weight type float4",
        CheckName::Completeness,
        "column_changed",
        "column public.orders.weight",
    ),
    (
        "alter table orders alter total drop default",
        CheckName::Completeness,
        "column_changed",
        "column public.orders.total",
    ),
    (
        "alter table orders alter customer set (n_distinct = 3)",
        CheckName::Completeness,
        "column_changed",
        "column public.orders.customer",
    ),
    (
        "alter table orders drop constraint orders_total_check",
        CheckName::Completeness,
        "constraint_missing",
        "constraint orders_total_check on public.orders",
    ),
    ("drop function add_one(int)", CheckName::Completeness, "function_missing", "function public.add_one(i integer)"),
    (
        "create or replace view open_orders as select o.id, c.name from orders o join customers c on c.id = o.customer",
        CheckName::Completeness,
        "view_changed",
        "view public.open_orders",
    ),
    (
        "alter table orders disable trigger touched",
        CheckName::Completeness,
        "trigger_changed",
        "trigger touched on public.orders",
    ),
    ("drop policy own on customers", CheckName::Completeness, "policy_missing", "policy own on public.customers"),
    (
        "revoke select on orders from report",
        CheckName::Completeness,
        "grant_missing",
        "grant report on table public.orders",
    ),
    ("grant all on orders to public", CheckName::Completeness, "grant_extra", "grant PUBLIC on table public.orders"),
    ("alter table child owner to app", CheckName::Completeness, "owner_changed", "table public.child"),
    (
        "drop owned by \"Weird \"\"role\"\" ü\"; drop role \"Weird \"\"role\"\" ü\"",
        CheckName::Completeness,
        "role_missing",
        "role Weird \"role\" ü",
    ),
    ("alter role app superuser", CheckName::Completeness, "role_changed", "role app"),
    (
        "drop table \"Order \"\"lines\"\" 🚤\nx\"",
        CheckName::Completeness,
        "table_missing",
        "table public.\"Order \"\"lines\"\" 🚤\nx\"",
    ),
];

fn green_then_red(case: &Case) {
    for (name, what) in COMPARING {
        let result = case.check(name);
        assert_eq!(result.outcome, Outcome::Passed, "{name}");
        assert!(looked(&result, what) > 0, "{name} looked at {:?}", result.looked_at);
    }
    // What amcheck brought is gone again: the copy is as it was.
    assert_eq!(case.check(CheckName::Completeness).outcome, Outcome::Passed);
    assert_eq!(case.check(CheckName::Extensions).outcome, Outcome::Passed);
    for (fault, name, code, object) in FAULTS {
        assert!(!has(&case.check(name), code, object), "{code} {object} before {fault}");
        case.sql(fault);
        let result = case.check(name);
        assert!(has(&result, code, object), "{fault}: no {code} {object} in {:#?}", findings(&result));
    }
    case.sql("drop extension hstore cascade; alter database shop set work_mem = '1MB'");
    assert!(has(&case.check(CheckName::Extensions), "extension_missing", "extension hstore"));
    assert!(has(&case.check(CheckName::Settings), "settings_changed", "database shop"));
    case.sql("drop collation german cascade");
    assert!(has(&case.check(CheckName::Collations), "collation_missing", "collation public.german"));
    case.copy.sql("postgres", "drop database shop");
    for name in [CheckName::Completeness, CheckName::Content, CheckName::Encodings, CheckName::Sequences] {
        assert!(has(&case.check(name), "database_missing", "database shop"), "{name}");
    }
}

#[test]
fn a_restored_dump_is_green_and_every_fault_in_it_is_named() {
    let source = shop();
    green_then_red(&Case::logical(&source));
}

#[test]
fn a_physical_copy_is_green_and_every_fault_in_it_is_named() {
    let source = shop();
    let case = Case::physical(&source, &["shop"], |_| {});
    let content = case.check(CheckName::Content);
    assert!(skipped(&content, "table public.scratchpad").unwrap().contains("unlogged"));
    assert!(skipped(&content, "table public.elsewhere").unwrap().contains("foreign"));
    let amcheck = case.check(CheckName::Amcheck);
    assert!(skipped(&amcheck, "index public.orders_status").unwrap().contains("hash"));
    assert!(skipped(&amcheck, "index public.customers_extra").unwrap().contains("gin"));
    assert_eq!(case.copy.sql("shop", "select count(*) from pg_extension where extname = 'amcheck'"), "0");
    green_then_red(&case);
}

#[test]
fn a_busy_source_gives_unchecked_tables_and_neither_good_nor_bad_ones() {
    let source = Server::start();
    source.sql("postgres", "create database shop");
    source.sql("shop", "create table cold (a int); insert into cold select generate_series(1, 1000); create table appended (a int);
        insert into appended select generate_series(1, 1000); create table updated (a int); insert into updated select generate_series(1, 1000);
        create table consumed (a int); insert into consumed select generate_series(1, 1000); create table emptied (a int);
        insert into emptied select generate_series(1, 1000); checkpoint");
    let case = Case::physical(&source, &["shop"], |source| {
        source.sql(
            "shop",
            "insert into appended select generate_series(1, 500); update updated set a = a + 1 where a < 10;
            delete from consumed where a < 10; truncate emptied; create table made (a int)",
        );
    });
    let content = case.check(CheckName::Content);
    assert_eq!(content.outcome, Outcome::Passed);
    assert_eq!((looked(&content, "tables"), looked(&content, "rows")), (2, 2000), "{:?}", content.unchecked);
    for table in ["updated", "consumed", "emptied", "made"] {
        let why = skipped(&content, &format!("table public.{table}"));
        assert!(why.is_some_and(|why| why.contains("while")), "{table}: {why:?}");
    }
    // The same kinds of change, made in the copy, are findings: in cold tables and in hot ones.
    for (sabotage, table) in [
        ("delete from cold where a = 5", "cold"),
        ("update updated set a = 0 where a = 500", "updated"),
        ("insert into appended values (0)", "appended"),
    ] {
        case.sql(sabotage);
        assert!(
            has(&case.check(CheckName::Content), "content_differs", &format!("table public.{table}")),
            "{sabotage}"
        );
    }
    case.sql("truncate cold");
    assert!(has(&case.check(CheckName::Content), "content_differs", "table public.cold"));
    // Where every table was hot, nothing was looked at: that is not a good word.
    source.sql("shop", "drop table emptied, made");
    let hot = Case::physical(&source, &["shop"], |source| {
        let all = ["cold", "appended", "updated", "consumed"].map(|table| format!("update {table} set a = a + 1"));
        source.sql("shop", &all.join("; "));
    });
    assert!(matches!(hot.check(CheckName::Content).outcome, Outcome::Unchecked(why) if why.contains("and 4 more")));
}

/// Flips bytes in the middle of block `block` of a file.
fn flip(file: &Path, block: u64) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut bytes = [0_u8; 64];
    file.read_exact_at(&mut bytes, block * 8192 + 8000).unwrap();
    file.write_all_at(&bytes.map(|byte| byte ^ 0xA5), block * 8192 + 8000).unwrap();
}

fn corrupted(checksums: bool) -> Case {
    let source = Server::start_with(Options { checksums, ..Options::default() });
    source.sql("postgres", "create database shop");
    source.sql("shop", "create table good (a int primary key); insert into good select generate_series(1, 1000);
        create table orders (id int primary key, note text); insert into orders select i, 'note ' || i from generate_series(1, 20000) i;
        create table customers (id int primary key, name text); insert into customers select i, 'name ' || i from generate_series(1, 20000) i");
    source.sql("postgres", "checkpoint");
    let sealed = sealed(&source, Method::Physical, &["shop"]);
    let path = |relation: &str| source.sql("shop", &format!("select pg_relation_filepath('{relation}')"));
    let (heap, index) = (path("orders"), path("customers_pkey"));
    let copy = copied_with(&source, |data| {
        flip(&data.join(&heap), 3);
        flip(&data.join(&index), 5);
    });
    Case::new(sealed, copy)
}

#[test]
fn flipped_pages_are_found_in_heap_and_index() {
    let case = corrupted(true);
    let amcheck = case.check(CheckName::Amcheck);
    assert!(has(&amcheck, "heap_corrupt", "table public.orders"), "{:#?}", findings(&amcheck));
    assert!(has(&amcheck, "index_corrupt", "index public.customers_pkey"), "{:#?}", findings(&amcheck));
    assert!(!findings(&amcheck).iter().any(|finding| finding.object.contains("good")));
    assert!(looked(&amcheck, "tables") > 50, "the others were looked at all the same");
    let content = case.check(CheckName::Content);
    assert!(has(&content, "table_unreadable", "table public.orders"), "{:#?}", findings(&content));
    assert_eq!(findings(&content).len(), 1);
}

#[test]
fn flipped_pages_are_found_without_checksums_too() {
    let case = corrupted(false);
    let content = case.check(CheckName::Content);
    assert!(findings(&content).iter().any(|finding| finding.object == "table public.orders"), "{content:#?}");
    let amcheck = case.check(CheckName::Amcheck);
    assert!(findings(&amcheck).iter().any(|finding| finding.object == "index public.customers_pkey"), "{amcheck:#?}");
}

#[test]
fn where_only_a_database_was_restored_the_rest_is_unchecked_and_nothing_is_installed() {
    let source = Server::start();
    source.sql("postgres", "create database shop");
    source.sql(
        "shop",
        "create role app; create table orders (id serial primary key); alter table orders owner to app;
        grant select on orders to public; insert into orders default values; alter database shop set work_mem = '7MB'",
    );
    let mut case = Case::logical(&source);
    case.whole_server = false;
    case.copy.sql("postgres", "alter database shop rename to \"lifeboat-x-0\"");
    case.databases = vec![("shop".to_owned(), "lifeboat-x-0".to_owned())];
    case.facts.parts = 1;
    case.sql("alter table orders owner to postgres");
    for name in
        [CheckName::Manifest, CheckName::Completeness, CheckName::Content, CheckName::Sequences, CheckName::Encodings]
    {
        let result = case.check(name);
        assert_eq!(result.outcome, Outcome::Passed, "{name}: {result:#?}");
    }
    assert!(skipped(&case.check(CheckName::Manifest), "globals").is_some());
    let completeness = case.check(CheckName::Completeness);
    for object in ["owners", "1 grants", "2 roles"] {
        assert!(skipped(&completeness, object).is_some(), "{object}: {:?}", completeness.unchecked);
    }
    assert!(matches!(case.check(CheckName::Settings).outcome, Outcome::Unchecked(_)));
    assert!(matches!(case.check(CheckName::Amcheck).outcome, Outcome::Unchecked(why) if why.contains("amcheck")));
    case.sql("delete from orders");
    assert!(has(&case.check(CheckName::Content), "content_differs", "table public.orders"));
}

#[test]
fn manifest_and_pages_are_judged_by_what_passed_while_restoring() {
    let source = Server::start();
    source.sql("postgres", "create database shop");
    let mut case = Case::physical(&source, &["shop"], |_| {});
    assert_eq!(case.check(CheckName::Manifest).outcome, Outcome::Passed);
    case.facts.parts = 1;
    assert!(matches!(case.check(CheckName::Manifest).outcome, Outcome::Broke { .. }), "a part was not seen");
    case.facts.parts = 2;
    case.sealed.signer_trusted = false;
    assert!(has(&case.check(CheckName::Manifest), "signer_untrusted", "manifest"));
    case.sealed.findings = vec![Finding::new("signature_wrong", "manifest signature", "wrong")];
    assert!(has(&case.check(CheckName::Manifest), "signature_wrong", "manifest signature"));

    let tally = PageTally { enabled: true, verified: 90, empty: 2, in_flight: 8, bad: vec![], bad_count: 0 };
    assert!(matches!(case.check(CheckName::PageChecksums).outcome, Outcome::Broke { .. }), "no page was looked at");
    case.sealed.manifest.pages = Some(tally.clone());
    case.facts.pages = Some(tally.clone());
    let good = case.check(CheckName::PageChecksums);
    assert_eq!((good.outcome.clone(), looked(&good, "pages")), (Outcome::Passed, 90));
    let with = |change: fn(&mut PageTally)| {
        let mut changed = tally.clone();
        change(&mut changed);
        Some(changed)
    };
    case.facts.pages =
        with(|pages| (pages.bad, pages.bad_count, pages.verified) = (vec!["base/5/1259 block 3".to_owned()], 2, 88));
    let bad = case.check(CheckName::PageChecksums);
    assert!(has(&bad, "page_checksum", "page base/5/1259 block 3") && has(&bad, "page_checksum", "1 further pages"));
    case.facts.pages = with(|pages| pages.verified = 0);
    assert!(!matches!(case.check(CheckName::PageChecksums).outcome, Outcome::Passed));
    case.facts.pages =
        with(|pages| *pages = PageTally { in_flight: pages.in_flight + 90, verified: 0, ..pages.clone() });
    assert!(matches!(case.check(CheckName::PageChecksums).outcome, Outcome::Unchecked(_)));
    case.facts.pages = with(|pages| pages.enabled = false);
    let off = case.check(CheckName::PageChecksums);
    assert!(matches!(off.outcome, Outcome::Unchecked(ref why) if why.contains("checksums are off on the source")));
    case.facts.pages = None;
    case.sealed.manifest.method = Method::Logical;
    assert!(matches!(case.check(CheckName::PageChecksums).outcome, Outcome::Unchecked(why) if why.contains("logical")));
}

#[test]
fn a_server_that_does_not_answer_breaks_the_check_and_fails_nothing() {
    let source = Server::start();
    source.sql("postgres", "create database shop");
    let mut case = Case::logical(&source);
    case.copy.kill();
    for (name, _) in COMPARING {
        assert!(matches!(case.check(name).outcome, Outcome::Broke { .. }), "{name}");
    }
    let late = case.run(&Check { timeout: Some(Span::ZERO), ..plain(CheckName::Content) });
    assert!(matches!(late.outcome, Outcome::Broke { .. }));
    assert_ne!(case.sealed.manifest.started_at, Timestamp::UNIX_EPOCH);
}
