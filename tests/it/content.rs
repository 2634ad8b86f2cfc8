//! What digests of tables see, and what they must not: on real servers, type by type.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use lifeboat::domain::inventory::Content;
use lifeboat::domain::policy::ContentPlan;
use lifeboat::domain::units::ByteSize;
use lifeboat::probe::{self, Endpoint, OpenSnapshot, RowFilter, Sample};

use crate::support::copies::dumped;
use crate::support::server::{Options, Server};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn planned(endpoint: &Endpoint, plan: &ContentPlan, parallel: usize) -> BTreeMap<String, Content> {
    let tables = runtime().block_on(async {
        let open = OpenSnapshot::open(endpoint).await.unwrap();
        probe::digest_tables(&open, &Sample::Keys(plan), &RowFilter::All, parallel).await.unwrap()
    });
    let known = |table: lifeboat::domain::inventory::Table| {
        let content = table.content.known().unwrap_or_else(|| panic!("{}: {:?}", table.name, table.content)).clone();
        (table.name, content)
    };
    tables.into_iter().map(known).collect()
}

fn digests(endpoint: &Endpoint) -> BTreeMap<String, Content> {
    planned(endpoint, &ContentPlan::default(), 2)
}

/// One column of nearly every type, under names that need quoting; two rows of values, one of NULLs.
const EVERY_TYPE: &str = r#"
    create extension hstore; create extension citext; create extension ltree;
    create schema "Odd ""schema""
🚤";
    create type mood as enum ('sad', 'it''s, "ok"');
    create type pair as (a int, b text, c float8);
    create type span as range (subtype = float8);
    create domain email as citext check (value ~ '@');
    create domain weight as float8;
    create domain heavier as weight check (value > 0 or value = 'NaN');
    create domain pairs as pair;
    -- Whoever owns a type may write what it becomes when somebody casts it to text: here, an end to the work.
    create function hostile(mood) returns text language plpgsql as $$ begin raise exception 'hostile'; end $$;
    create function hostile(pair) returns text language plpgsql as $$ begin raise exception 'hostile'; end $$;
    create function hostile(span) returns text language plpgsql as $$ begin raise exception 'hostile'; end $$;
    create cast (mood as text) with function hostile(mood) as implicit;
    create cast (pair as text) with function hostile(pair) as implicit;
    create cast (span as text) with function hostile(span) as implicit;
    create table "Odd ""schema""
🚤"."every
""type""" (
        "select" bool, i2 int2, i4 int4, i8 int8, o oid, r float4, d float8, d2 float8, n numeric, n2 numeric(10, 2), t text, v varchar(20),
        b char(9), na name, c1 "char", raw bytea, da date, ts timestamp, tz timestamptz, ti time, tt timetz, iv interval, u uuid, ip inet,
        net cidr, m macaddr, m8 macaddr8, js json, jb jsonb, cash money, bits bit(3), vbits bit varying, e mood, p pair, ps pair[], sp span, msp int4multirange,
        em email, we weight, he heavier, dp pairs, x xml, h hstore, l ltree, tv tsvector, tq tsquery, rc regclass, rp regprocedure, rt regtype,
        pt point, bx box, arr text[], farr float8[], tarr timestamptz[], barr bytea[], marr money[], iarr interval[], lsn pg_lsn, snap pg_snapshot, jp jsonpath,
        twice int generated always as (i4 * 2) stored, dropped int
    );
    alter table "Odd ""schema""
🚤"."every
""type""" drop column dropped;
    insert into "Odd ""schema""
🚤"."every
""type""" values (
        true, 1, -2, 3, 4000000000, 0.1, 1.0 / 3, 'inf'::float8 - 'inf'::float8, 1.50, 'NaN', E'a\tb\n"\\', 'x ', 'y  ', 'n', 'q', '\x00ff5c',
        '2024-02-03', 'infinity', '2024-02-03 04:05:06.789+09', '24:00', '01:02:03.5+05:30', '-1 mon 2 days -03:04:05.6', '6ecd8c99-4036-403d-bf84-cf8400f67836',
        '10.1.2.3/8', '2001:db8::/32', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', '{"b": 1,  "a": 1.0}', '{"b": 1,  "a": 1.0}', 12.34, '101', '10101',
        'it''s, "ok"', (1, null, 'NaN'), array[(1, '', -0.0)::pair, null], span(0.1, 1e300), '{[1,3),[5,9)}', 'Me@x', '-inf', 'NaN', (1, 'x', 'NaN'),
        '<?xml version="1.0" encoding="UTF-8"?><a>é</a>', 'a=>NULL, b=>"1"', 'Top.Science', 'fat:1A cat', 'fat & !cat', 'mood_rows', 'hostile(mood)', 'mood',
        point('inf'::float8 - 'inf'::float8, -0.0), '((0,0),(1,1))', array['NULL', null, ''], array['inf'::float8 - 'inf'::float8, 0.1],
        array['2024-02-03 04:05:06+09'::timestamptz], array['\x00ff'::bytea], array[1234.5::money], array['1 day -1 hour'::interval], '16/B374D848', '10:20:10,14', '$.a[*] ? (@ > 1)'
    );
    insert into "Odd ""schema""
🚤"."every
""type""" values (
        false, 0, 0, 0, 0, '-inf', -0.0, 0.0, 'NaN', 0.00, '', '', '', '', '', '', '-infinity', '4713-01-01 BC', '-infinity', '00:00', '00:00-15:59', '0',
        '00000000-0000-0000-0000-000000000000', '::1', '0.0.0.0/0', '00:00:00:00:00:00', '00:00:00:00:00:00:00:00', 'null', 'null', 0, '000', '',
        'sad', (null, null, null), '{}', 'empty', '{}', 'a@b', 0, 1, null, '', '', '', '', '', 0, 0, 0,
        '(0,0)', '((0,0),(0,0))', '{}', '{}', '{}', '{}', '{}', '{}', '0/0', '1:1:', '$'
    );
    insert into "Odd ""schema""
🚤"."every
""type""" values (null);
"#;

fn every_type(server: &Server) {
    server.sql("postgres", "create database shop");
    server.sql(
        "shop",
        &EVERY_TYPE.replacen("create table \"Odd", "create table mood_rows (m mood); create table \"Odd", 1),
    );
}

#[test]
fn every_type_prints_alike_whatever_the_settings_and_comes_back_from_a_dump() {
    let server = Server::start();
    every_type(&server);
    let cast = server.try_sql("shop", "insert into mood_rows values ('sad'); select m::text from mood_rows");
    assert!(cast.is_err_and(|words| words.contains("hostile")), "the cast must be one that would be noticed");
    let apart = "select float8send('inf'::float8 - 'inf'::float8) <> float8send('NaN')";
    if server.sql("shop", apart) != "t" {
        eprintln!("this processor has one NaN only: that several digest alike is not seen here");
    }
    server.sql("shop", "insert into mood_rows values ('sad')");
    let before = digests(&server.endpoint("shop"));
    assert_eq!(before["\"Odd \"\"schema\"\"\n🚤\".\"every\n\"\"type\"\"\""].rows, 3);
    let settings = [
        "datestyle = 'German, DMY'",
        "intervalstyle = 'iso_8601'",
        "extra_float_digits = -15",
        "bytea_output = escape",
        "timezone = 'Asia/Kathmandu'",
        "lc_monetary = 'C.UTF-8'",
        "search_path = '\"Odd \"\"schema\"\"\n🚤\"', public",
        "xmloption = document",
        "xmlbinary = hex",
        "quote_all_identifiers = on",
        "standard_conforming_strings = off",
        "default_transaction_isolation = 'serializable'",
    ];
    for setting in settings {
        server.sql("postgres", &format!("alter database shop set {setting}"));
    }
    let copy = dumped(&server, "shop");
    // `pg_dump` and `pg_restore` themselves would stumble over these two.
    for setting in settings.into_iter().chain(["client_encoding = 'LATIN1'", "array_nulls = off"]) {
        server.sql("postgres", &format!("alter role postgres set {setting}"));
    }
    assert_eq!(digests(&server.endpoint("shop")), before);
    copy.sql("postgres", "alter database shop reset all");
    assert_eq!(digests(&copy.endpoint("shop")), before, "a dump that was restored");
    // Each column is in the digest: one after the other loses a value, `i4`, by which the row is found, as the last.
    let name = "\"Odd \"\"schema\"\"\n🚤\".\"every\n\"\"type\"\"\"";
    let columns = copy.sql(
        "shop",
        &format!(
            "select quote_ident(attname) from pg_attribute where attrelid = '{name}'::regclass and attnum > 0 \
             and not attisdropped and attgenerated = '' order by attname = 'i4'"
        ),
    );
    assert!(columns.lines().count() > 50);
    let mut seen = BTreeSet::from([before[name].digest.clone()]);
    for column in columns.lines() {
        copy.sql("shop", &format!("update {name} set {column} = null where i4 = -2"));
        assert!(seen.insert(digests(&copy.endpoint("shop"))[name].digest.clone()), "{column}");
    }
}

/// Tables of which all must have different digests, and lists of tables of which all must have the same.
const APART: &[(&str, &[&str])] = &[
    (
        "null, empty, missing",
        &["(a text); insert into # values (null)", "(a text); insert into # values ('')", "(a text)"],
    ),
    (
        "floats",
        &[
            "(a float8); insert into # values (0.0)",
            "(a float8); insert into # values ('-0')",
            "(a float8); insert into # values ('NaN')",
            "(a float8); insert into # values ('inf')",
            "(a float8); insert into # values ('-inf')",
            "(a float8); insert into # values (0.1)",
            "(a float8); insert into # values (0.1::float4)",
            "(a float8); insert into # values (5e-324)",
            "(a float8); insert into # values (null)",
        ],
    ),
    (
        "numerics",
        &[
            "(a numeric); insert into # values (1.0)",
            "(a numeric); insert into # values (1.00)",
            "(a numeric); insert into # values ('NaN')",
            "(a numeric); insert into # values (null)",
        ],
    ),
    (
        "spaces",
        &[
            "(a char(5)); insert into # values ('a')",
            "(a char(6)); insert into # values ('a')",
            "(a text); insert into # values ('a')",
            "(a text); insert into # values ('a ')",
        ],
    ),
    (
        "one bit of a megabyte",
        &[
            "as select set_bit(decode(repeat('00', 1048576), 'hex'), 4194304, 0) as a",
            "as select set_bit(decode(repeat('00', 1048576), 'hex'), 4194304, 1) as a",
            "as select set_bit(decode(repeat('00', 1048576), 'hex'), 8388607, 1) as a",
        ],
    ),
    ("values of two columns", &["as select 1 as a, 2 as b", "as select 2 as a, 1 as b"]),
    (
        "values of two rows",
        &[
            "as values (1, 'x'), (2, 'y'), (3, 'z')",
            "as values (1, 'y'), (2, 'x'), (3, 'z')",
            "as values (1, 'x'), (2, 'x'), (3, 'z')",
        ],
    ),
    (
        "duplicates",
        &[
            "as values (1), (1), (2)",
            "as values (1), (2), (2)",
            "as values (1), (2)",
            "as values (1), (1)",
            "as values (1)",
            "as select 1 where false",
        ],
    ),
    (
        "where a value ends",
        &[
            "as select 'ab' as a, 'c' as b",
            "as select 'a' as a, 'bc' as b",
            "as select 'abc' as a, '' as b",
            "as select 'abc' as a, null::text as b",
        ],
    ),
    (
        "rows without columns",
        &["()", "(); insert into # default values", "(); insert into # default values; insert into # default values"],
    ),
    (
        "arrays",
        &[
            "as select '{NULL}'::text[] as a",
            "as select '{\"NULL\"}'::text[] as a",
            "as select '{}'::text[] as a",
            "as select '{{NULL}}'::text[] as a",
            "as select '[0:0]={NULL}'::text[] as a",
        ],
    ),
    (
        "records",
        &[
            "(a r); insert into # values ((null, null))",
            "(a r); insert into # values (null)",
            "(a r); insert into # values (('', null))",
        ],
    ),
];

const ALIKE: &[(&str, &[&str])] = &[
    ("the order of rows", &["as values (1, 'x'), (2, 'y')", "as values (2, 'y'), (1, 'x')"]),
    ("the order of columns", &["as select 1 as a, 'x' as b", "as select 'x' as b, 1 as a"]),
    (
        "a column that was dropped",
        &[
            "(a int, b int); insert into # values (1, 2)",
            "(a int, z text, b int); insert into # values (1, 'z', 2); alter table # drop z",
        ],
    ),
    (
        "a column with a default that is not stored",
        &[
            "(a int); insert into # values (1); alter table # add b int default 7",
            "(a int, b int); insert into # values (1, 7)",
        ],
    ),
    (
        "how a value is stored",
        &[
            "(a text); alter table # alter a set storage external; insert into # values (repeat('x', 100000))",
            "(a text); insert into # values (repeat('x', 100000))",
        ],
    ),
    (
        "a domain",
        &["(a float8, b int); insert into # values ('NaN', 1)", "(a w, b i); insert into # values ('NaN', 1)"],
    ),
    (
        "not a number",
        &[
            "as select 'NaN'::float8 as a, 'NaN'::float4 as b",
            "as select 'inf'::float8 - 'inf'::float8 as a, 'inf'::float4 - 'inf'::float4 as b",
        ],
    ),
];

#[test]
fn rows_that_differ_digest_apart_and_rows_that_do_not_digest_alike() {
    let server = Server::start();
    let mut sql =
        "create type r as (a text, b text); create domain w as float8; create domain ii as int; create domain i as ii;"
            .to_owned();
    let name = |kind: &str, group: usize, at: usize| format!("{kind}_{group}_{at}");
    for (kind, groups) in [("apart", APART), ("alike", ALIKE)] {
        for (group, (_, tables)) in groups.iter().enumerate() {
            for (at, table) in tables.iter().enumerate() {
                let name = name(kind, group, at);
                sql.push_str(&format!("create table {name} {};", table.replace('#', &name)));
            }
        }
    }
    server.sql("postgres", &sql);
    let seen = digests(&server.endpoint("postgres"));
    for (kind, groups) in [("apart", APART), ("alike", ALIKE)] {
        for (group, (says, tables)) in groups.iter().enumerate() {
            let of_group = (0..tables.len()).map(|at| &seen[&format!("public.{}", name(kind, group, at))].digest);
            let different = of_group.collect::<BTreeSet<_>>().len();
            assert_eq!(different, if kind == "apart" { tables.len() } else { 1 }, "{says}");
        }
    }
    assert!(seen.values().all(|content| content.method() == "lb2"));
}

#[test]
fn a_row_that_moves_and_the_last_of_many_columns_are_seen() {
    let server = Server::start();
    let columns = (0..1600).map(|at| format!("\"c\"\"\n{at}🚤\" int4")).collect::<Vec<_>>().join(", ");
    server.sql("postgres", &format!("create table broad ({columns}); insert into broad values (1), (2)"));
    server.sql(
        "postgres",
        "create table parts (a int, b text) partition by list (a); create table one partition of parts for values in (1); \
         create table two partition of parts for values in (2); insert into parts values (1, 'x'), (1, 'y'), (2, 'z'); \
         create table parent (a int, b int); create table child (c int) inherits (parent); create table keyed (a int primary key, b int); \
         insert into parent values (1, 2); insert into child values (1, 2, 3); insert into keyed select i, i from generate_series(1, 3000) i",
    );
    let endpoint = server.endpoint("postgres");
    let plan = ContentPlan { sample_over: Some(ByteSize(8192)), sample_percent: 7 };
    let (before, sampled) = (digests(&endpoint), planned(&endpoint, &plan, 2));
    assert!(!before.contains_key("public.parts"));
    assert_eq!((before["public.one"].rows, before["public.two"].rows, before["public.parent"].rows), (2, 1, 1));
    assert_eq!(before["public.broad"].rows, 2);
    server.sql(
        "postgres",
        "update broad set \"c\"\"\n1599🚤\" = 3 where \"c\"\"\n0🚤\" = 2; update parts set a = 2 where b = 'y'",
    );
    server.sql("postgres", "delete from child; insert into parent values (1, 2); update keyed set b = -b");
    let after = digests(&endpoint);
    for table in ["broad", "one", "two", "parent", "child", "keyed"] {
        let table = format!("public.{table}");
        assert_ne!(before[&table].digest, after[&table].digest, "{table}");
    }
    let resampled = planned(&endpoint, &plan, 2);
    let (then, now) = (&sampled["public.keyed"], &resampled["public.keyed"]);
    assert_eq!((then.rows, then.digested), (3000, now.digested));
    assert_ne!(then.digest, now.digest, "a sample sees that all rows changed");
}

#[test]
fn bytes_are_hashed_in_the_databases_own_encoding() {
    let server =
        Server::start_with(Options { initdb: vec!["--locale=C", "--encoding=SQL_ASCII"], ..Options::default() });
    let fill = |last: &str| {
        // What no encoding knows, beside text of one.
        format!(
            "create table t (a text, b text[]); insert into t values (E'\\xff\\xfe{last}', array[E'\\xc3(']), ('é', null)"
        )
    };
    for (database, last) in [("one", "\\x80"), ("other", "\\x81"), ("again", "\\x80")] {
        server.sql("postgres", &format!("create database {database}"));
        server.sql(database, &fill(last));
    }
    server.sql("postgres", "create database latin encoding 'LATIN1' template template0");
    // As escapes: what a client says is converted by the encoding that it had when it began to say it.
    let fill = "create table U&\"\\00e9\" (U&\"\\00fc\" text primary key, b text[]); \
                insert into U&\"\\00e9\" values (U&'\\00df', array[U&'\\00f6'])";
    server.sql("latin", fill);
    let look = |database: &str| digests(&server.endpoint(database));
    assert_ne!(look("one"), look("other"));
    assert_eq!(look("one"), look("again"));
    let latin = look("latin");
    assert_eq!(latin["public.\"é\""].rows, 1, "a name that the database writes otherwise than we do");
    server.sql("latin", "update U&\"\\00e9\" set U&\"\\00fc\" = 's'");
    assert_ne!(look("latin"), latin);
}

/// What `docs/benchmarks.md` says of digests. The first method's SQL stands here to be measured against, in the same run.
#[test]
#[ignore = "a measurement of some minutes: cargo test --release --test it content::measure -- --ignored --exact --nocapture"]
fn measure() {
    let server = Server::start_with(Options {
        conf: "shared_buffers = 1GB\nfsync = off\nmax_wal_size = 8GB\nautovacuum = off\n".to_owned(),
        ..Options::default()
    });
    server.sql("postgres", "create database narrow");
    server.sql("postgres", "create database wide");
    server.sql(
        "narrow",
        "create table t (aid int, bid int, abalance int, filler char(84)); \
         insert into t select i, i / 100000, 0, '' from generate_series(1, 3000000) i",
    );
    server.sql(
        "wide",
        "create table t as select i::int8 as id, md5(i::text) as a, repeat(md5(i::text), 8) as b, now() + i * interval '1 s' as c, \
         (i / 7.0)::numeric(12, 4) as d, i / 3.0::float8 as e, jsonb_build_object('k', i, 'v', md5(i::text)) as f, \
         array[i, i + 1] as g, i % 2 = 0 as h, decode(md5(i::text), 'hex') as j, null::text as k from generate_series(1, 500000) i",
    );
    for database in ["narrow", "wide"] {
        server.sql(database, "vacuum (freeze, analyze) t");
        let bytes: f64 = server.sql(database, "select pg_table_size('t')").parse().unwrap();
        let rows: f64 = server.sql(database, "select count(*) from t").parse().unwrap();
        for connections in [1, 2] {
            for method in ["lb1", "lb2", "lb1", "lb2"] {
                let (began, server_cpu, own_cpu) = (Instant::now(), server_cpu(&server), ticks("self", 13..15));
                if method == "lb1" {
                    first_method(&server, database, connections)
                } else {
                    drop(planned(
                        &server.endpoint(database),
                        &ContentPlan::default(),
                        usize::try_from(connections).unwrap(),
                    ))
                }
                let wall = began.elapsed().as_secs_f64();
                // The server's processes are counted when they have ended.
                std::thread::sleep(std::time::Duration::from_millis(500));
                let (server_cpu, own_cpu) = (self::server_cpu(&server) - server_cpu, ticks("self", 13..15) - own_cpu);
                println!(
                    "{database}, {connections} connection(s), {method}: {wall:.2} s, {:.2} M rows/s, {:.0} MB/s; processor: server {server_cpu:.2} s, lifeboat {own_cpu:.2} s",
                    rows / wall / 1e6,
                    bytes / wall / 1e6
                );
            }
        }
    }
}

/// The memory that rows of 256 MiB need, one connection and two.
#[test]
#[ignore = "a measurement: cargo test --test it content::measure_memory -- --ignored --exact --nocapture"]
fn measure_memory() {
    let server = Server::start();
    server.sql(
        "postgres",
        "create table a as select i, convert_to(repeat('x', 268435456), 'UTF8') as raw from generate_series(1, 6) i; \
         create table b as select * from a",
    );
    for connections in [1, 2] {
        planned(&server.endpoint("postgres"), &ContentPlan::default(), connections);
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        println!("{connections} connection(s): {peak}");
    }
}

/// Seconds of processor time in these fields of `/proc/…/stat` (100 ticks a second everywhere).
fn ticks(process: &str, fields: std::ops::Range<usize>) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    stat.split_whitespace().collect::<Vec<_>>()[fields].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>()
        / 100.0
}

fn server_cpu(server: &Server) -> f64 {
    let pid = std::fs::read_to_string(server.data_dir.join("postmaster.pid")).unwrap();
    ticks(pid.lines().next().unwrap(), 15..17)
}

fn first_method(server: &Server, database: &str, connections: u64) {
    let columns = "select string_agg(quote_ident(attname), ', ' order by attname) from pg_attribute where attrelid = 't'::regclass and attnum > 0";
    let columns = server.sql(database, columns);
    let blocks: u64 = server.sql(database, "select pg_relation_size('t') / 8192").parse().unwrap();
    let lanes: Vec<String> = (0..4).map(|lane| format!("sum(substring(h, {}, 64)::int8)", lane * 64 + 1)).collect();
    let half = blocks / connections + 1;
    std::thread::scope(|scope| {
        for at in 0..connections {
            let sql = format!(
                "set jit = off; set max_parallel_workers_per_gather = 0; set extra_float_digits = 3; \
                 select count(h), {} from (select ('x' || encode(sha256(convert_to(row({columns})::text, getdatabaseencoding())), 'hex'))::bit(256) as h \
                 from only t where ctid >= '({},0)' and ctid < '({},0)' offset 0) x",
                lanes.join(", "),
                at * half,
                (at + 1) * half
            );
            scope.spawn(move || server.sql(database, &sql));
        }
    });
}
