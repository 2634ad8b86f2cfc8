//! Fingerprints and digests on real servers: the same for a faithful copy, another for any change.

use std::collections::BTreeMap;

use lifeboat::domain::inventory::{Database, Snapshot, Table, UNREADABLE};
use lifeboat::domain::lsn::Lsn;
use lifeboat::domain::observed::Observed;
use lifeboat::domain::policy::ContentPlan;
use lifeboat::domain::units::ByteSize;
use lifeboat::probe::{self, Endpoint, OpenSnapshot, RowFilter, Sample};

use crate::support::copies::{RICH, copied, dumped};
use crate::support::server::Server;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn digests(endpoint: &Endpoint, plan: &ContentPlan, filter: &RowFilter) -> Vec<Table> {
    runtime().block_on(async {
        let open = OpenSnapshot::open(endpoint).await.unwrap();
        probe::digest_tables(&open, &Sample::Keys(plan), filter, 2).await.unwrap()
    })
}

fn fingerprint(endpoint: &Endpoint) -> Database {
    runtime().block_on(async {
        let open = OpenSnapshot::open(endpoint).await.unwrap();
        let tables =
            probe::digest_tables(&open, &Sample::Keys(&ContentPlan::default()), &RowFilter::All, 2).await.unwrap();
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
        let (mut then, mut now) = (content(&before.tables), content(&after.tables));
        if copy.sql("shop", "select count(*) from scratchpad") == "0" {
            // An unlogged table comes back empty from a physical copy; `RowFilter::AsOf` knows that.
            assert!(then.remove("public.scratchpad").is_some() && now.remove("public.scratchpad").is_some());
        }
        assert_eq!(then, now);
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

#[test]
fn any_change_of_a_row_changes_the_digest_and_its_order_does_not() {
    let server = Server::start();
    server.sql("postgres", "create table t (a int primary key, b text, c float8); insert into t select i, 'x' || i, i / 7.0 from generate_series(1, 500) i; create table empty (x int)");
    let endpoint = server.endpoint("postgres");
    let look = || {
        let tables = digests(&endpoint, &ContentPlan::default(), &RowFilter::All);
        tables.iter().find(|table| table.name == "public.t").unwrap().content.known().unwrap().clone()
    };
    let base = look();
    assert_eq!((base.rows, base.digested, base.percent), (500, 500, 100));
    // The same rows, written in another order and to other places.
    server.sql(
        "postgres",
        "create table u as select * from t order by b desc; truncate t; insert into t select * from u; drop table u",
    );
    server.sql("postgres", "vacuum full t");
    assert_eq!(look(), base);
    for (change, back) in [
        ("update t set c = c + 1e-14 where a = 250", "update t set c = 250 / 7.0 where a = 250"),
        ("update t set b = null where a = 1", "update t set b = 'x1' where a = 1"),
        ("update t set b = '' where a = 2", "update t set b = 'x2' where a = 2"),
        ("delete from t where a = 500", "insert into t values (500, 'x500', 500 / 7.0)"),
        ("insert into t values (501, 'x', 1)", "delete from t where a = 501"),
        // Two rows swap a value: counts, sums and sets of each column stay the same.
        (
            "update t set b = case a when 1 then 'x2' else 'x1' end where a in (1, 2)",
            "update t set b = 'x' || a where a in (1, 2)",
        ),
    ] {
        server.sql("postgres", change);
        assert_ne!(look(), base, "{change}");
        server.sql("postgres", back);
        assert_eq!(look(), base, "{back}");
    }
    // An equal pair of rows does not vanish, as it would under XOR.
    server.sql("postgres", "insert into empty values (1), (1)");
    let tables = digests(&endpoint, &ContentPlan::default(), &RowFilter::All);
    let twice = content(&tables)["public.empty"].clone();
    server.sql("postgres", "truncate empty");
    let tables = digests(&endpoint, &ContentPlan::default(), &RowFilter::All);
    assert_ne!(&twice, content(&tables)["public.empty"]);
}

#[test]
fn a_table_read_by_ranges_has_the_digest_of_the_whole() {
    let server = Server::start();
    // More than one range of 16,384 blocks: short rows in pages that are nearly empty.
    server.sql(
        "postgres",
        "create table wide (a int, pad text) with (fillfactor = 10); alter table wide alter pad set storage plain; \
        insert into wide select i, repeat('x', 7000) from generate_series(1, 17000) i",
    );
    let endpoint = server.endpoint("postgres");
    let look = |parallel| {
        runtime().block_on(async {
            let open = OpenSnapshot::open(&endpoint).await.unwrap();
            probe::digest_tables(&open, &Sample::Keys(&ContentPlan::default()), &RowFilter::All, parallel)
                .await
                .unwrap()
        })
    };
    let whole = look(1);
    assert_eq!(whole[0].content.known().unwrap().rows, 17_000);
    assert_eq!(whole, look(3));
}

#[test]
fn sampling_takes_the_same_rows_wherever_the_table_is() {
    let server = Server::start();
    let make = "create table t (a int primary key, b text); insert into t select i, 'x' || i from generate_series(1, 5000) i; \
        create table keyless (a int); insert into keyless select generate_series(1, 5000)";
    server.sql("postgres", make);
    server.sql("postgres", "create database other");
    server.sql("other", make);
    server.sql("other", "update t set b = b where a % 3 = 0");
    let plan = ContentPlan { sample_over: Some(ByteSize(8192)), sample_percent: 10 };
    let (one, other) = (
        digests(&server.endpoint("postgres"), &plan, &RowFilter::All),
        digests(&server.endpoint("other"), &plan, &RowFilter::All),
    );
    assert_eq!(content(&one), content(&other));
    let sampled = content(&one)["public.t"].known().unwrap();
    assert_eq!((sampled.rows, sampled.percent), (5000, 10));
    assert!((300..700).contains(&sampled.digested), "{} of 5000 is not about a tenth", sampled.digested);
    let whole = content(&one)["public.keyless"].known().unwrap();
    assert_eq!((whole.percent, whole.digested), (100, 5000), "without a key there is no choice");
    let full = digests(&server.endpoint("postgres"), &ContentPlan::default(), &RowFilter::All);
    assert_eq!(content(&full)["public.t"].known().unwrap().digested, 5000);
}

#[test]
fn the_snapshot_is_of_its_start_and_does_not_move() {
    let server = Server::start();
    server.sql("postgres", "create table t (a int); create sequence s; select nextval('s')");
    let endpoint = server.endpoint("postgres");
    runtime().block_on(async {
        let before = endpoint.connect().await.unwrap();
        let clock = |row: tokio_postgres::Row| jiff::Timestamp::from_microsecond(row.get(0)).unwrap();
        let sql = "select (extract(epoch from clock_timestamp()) * 1000000)::int8";
        let earliest = clock(before.query_one(sql, &[]).await.unwrap());
        let open = OpenSnapshot::open(&endpoint).await.unwrap();
        let latest = clock(before.query_one(sql, &[]).await.unwrap());
        assert!(earliest <= open.snapshot.taken_at && open.snapshot.taken_at <= latest);
        before.batch_execute("insert into t values (1); select nextval('s')").await.unwrap();
        let tables =
            probe::digest_tables(&open, &Sample::Keys(&ContentPlan::default()), &RowFilter::All, 2).await.unwrap();
        assert_eq!(tables[0].content.known().unwrap().rows, 0, "workers see the exported snapshot");
        assert_eq!(open.sequences[0].last_value, Observed::Known(1), "sequences are read when it is opened");
        assert!(open.client.batch_execute("create table x ()").await.is_err(), "a probe cannot write");
        let skew = probe::measure_skew(&before).await.unwrap();
        assert!(
            skew.skew.0.abs() <= skew.error.0 + jiff::SignedDuration::from_millis(50),
            "{skew:?}: one machine, one clock"
        );
    });
}

#[test]
fn a_role_that_may_not_look_gives_unknown_and_never_a_number() {
    let server = rich();
    server.sql("shop", "create role blind login; grant select on events_2024 to blind");
    let endpoint = server.endpoint("shop").with_user("blind");
    let seen = fingerprint(&endpoint);
    let tables = content(&seen.tables);
    assert!(
        matches!(tables["public.orders"], Observed::Unknown(why) if why.contains("42501") && !why.starts_with(UNREADABLE))
    );
    assert!(tables["public.events_2024"].known().is_some());
    assert!(seen.sequences.iter().all(|one| matches!(one.last_value, Observed::Unknown(_))), "{:?}", seen.sequences);
    assert!(matches!(seen.large_objects.digest, Observed::Unknown(_)));
    // A policy that hides rows makes the table unknown too: half of it is not its content.
    server.sql(
        "shop",
        "grant select on customers to blind; create policy few on customers for select to blind using (id < 10)",
    );
    let tables = digests(&endpoint, &ContentPlan::default(), &RowFilter::All);
    assert!(matches!(content(&tables)["public.customers"], Observed::Unknown(_)));
    runtime().block_on(async {
        let client = endpoint.connect().await.unwrap();
        let roles = probe::roles(&client).await.unwrap();
        assert!(roles.iter().all(|role| matches!(role.has_password, Observed::Unknown(_))));
    });
}

#[test]
fn the_server_and_its_roles_are_read_without_secrets() {
    let server = rich();
    server.sql("postgres", "alter system set primary_conninfo = 'host=x password=canary-in-conninfo'");
    server.sql("postgres", "alter system set work_mem = '9MB'");
    server.sql("postgres", "select pg_reload_conf()");
    std::thread::sleep(std::time::Duration::from_millis(300));
    let (seen, roles) = runtime().block_on(async {
        let client = probe::session::read_only(&server.endpoint("shop")).await.unwrap();
        (probe::server(&client).await.unwrap(), probe::roles(&client).await.unwrap())
    });
    assert_eq!(seen.system_identifier, server.sql("postgres", "select system_identifier from pg_control_system()"));
    assert_eq!((seen.timeline, seen.wal_segment_bytes, seen.data_checksums), (1, 16 << 20, true));
    assert_eq!(seen.settings["work_mem"], "9216", "what the server has, not what our session set");
    assert_eq!(seen.settings["max_connections"], "100");
    assert!(!seen.settings.contains_key("search_path") && !seen.settings.contains_key("data_directory"));
    let app = roles.iter().find(|role| role.name == "app").unwrap();
    assert_eq!(app.has_password, Observed::Known(true));
    assert_eq!(app.member_of, ["report admin"]);
    assert!(app.attributes.starts_with("inherit login connection limit 7"), "{}", app.attributes);
    assert!(app.attributes.contains("work_mem=12MB") && app.attributes.contains("app.jwt_secret=sha256:"));
    assert!(roles.iter().any(|role| role.name == "Weird \"role\" ü"));
    let written = format!("{}{}", serde_json::to_string(&seen).unwrap(), serde_json::to_string(&roles).unwrap());
    assert!(!written.contains("canary") && !written.contains("SCRAM"), "{written}");
}

#[test]
fn bytes_that_are_no_text_are_digested_in_sql_ascii() {
    let server = Server::start();
    server.sql("postgres", "create database raw encoding 'SQL_ASCII' locale 'C' template template0");
    server.sql("raw", "set client_encoding = 'SQL_ASCII'; create table t (a text); insert into t values (convert_from('\\xff', 'SQL_ASCII'))");
    let tables = digests(&server.endpoint("raw"), &ContentPlan::default(), &RowFilter::All);
    assert_eq!(content(&tables)["public.t"].known().unwrap().rows, 1);
}

#[tokio::test]
async fn large_objects_have_one_digest_whoever_may_read_them() {
    let server = Server::start();
    server.sql(
        "postgres",
        "create role reader login; alter role reader set lo_compat_privileges = on; create role blind login",
    );
    // An ordinary one, an empty one, one with a hole, one that ends in zeros, one of exactly two pages.
    server.sql(
        "postgres",
        "select lo_from_bytea(1001, decode(repeat('00ff10', 3000), 'hex')); select lo_from_bytea(1002, '');
         select lo_from_bytea(1003, 'begin'); select lo_put(1003, 100000, 'end');
         select lo_from_bytea(1004, decode('41' || repeat('00', 5000), 'hex')); select lo_from_bytea(1005, decode(repeat('ab', 4096), 'hex'))",
    );
    let seen = async |user: &str| {
        let endpoint = server.endpoint("postgres").with_user(user);
        let open = OpenSnapshot::open(&endpoint).await.unwrap();
        lifeboat::probe::large_objects(&open.client).await.unwrap()
    };
    let all = seen("postgres").await;
    assert!(all.digest.known().is_some() && all.count == 5, "{all:?}");
    assert_eq!(seen("reader").await, all);
    assert!(seen("blind").await.digest.known().is_none());
    server.sql("postgres", "select lo_put(1003, 50000, 'x')");
    let changed = seen("postgres").await;
    assert_ne!(changed, all);
    assert_eq!(seen("reader").await, changed);
}

/// Of the pages of a heap only those are read that were written at a place in the log or later, whatever that place is.
#[test]
fn pages_are_chosen_by_when_they_were_written() {
    let server = Server::start();
    let endpoint = server.endpoint("postgres");
    server.sql(
        "postgres",
        "create table old (id int); insert into old select generate_series(1, 1000); create table new (id int)",
    );
    let now = |sql: &str| server.sql("postgres", sql).trim().to_owned();
    let seen = |from: Lsn, xmin: u64| {
        let taken_at = jiff::Timestamp::UNIX_EPOCH;
        let snapshot = Snapshot { taken_at, xmin, xmax: xmin, xip: vec![] };
        runtime().block_on(async {
            let client = probe::session::fixed(&endpoint).await.unwrap();
            probe::traces(&client, from, &snapshot, 1 << 40).await.unwrap()
        })
    };
    let before: Lsn = now("select pg_current_wal_insert_lsn()").parse().unwrap();
    now("insert into new values (1), (2); delete from new where id = 1");
    let after: Lsn = now("select pg_current_wal_insert_lsn()").parse().unwrap();
    // Every transaction counts as one of meanwhile, so all that is looked at is told.
    let all = seen(Lsn(0), 3);
    assert_eq!((all["public.old"].meanwhile, all["public.new"].meanwhile), (1000, 2), "{all:?}");
    let later = seen(before, 3);
    assert_eq!(later.keys().collect::<Vec<_>>(), ["public.new"], "{later:?}");
    for none in [after, Lsn(1 << 32), Lsn(1 << 40 | 1), Lsn(u64::MAX)] {
        assert_eq!(seen(none, 3).len(), 0, "{none:?}");
    }
}
