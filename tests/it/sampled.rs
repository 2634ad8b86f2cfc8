//! Large tables of which only a sample is digested: by keys for dumps, by pages for physical copies.

use std::collections::BTreeMap;
use std::path::Path;

use lifeboat::domain::inventory::{Content, Snapshot};
use lifeboat::domain::policy::ContentPlan;
use lifeboat::domain::units::ByteSize;
use lifeboat::probe::{self, Digested, Endpoint, OpenSnapshot, RowFilter, Sample};
use serde_json::Value;

use crate::support::copies::{copied, copied_with};
use crate::support::home::{Home, POLICY};
use crate::support::server::{Options, Server};

const TENTH: ContentPlan = ContentPlan { sample_over: Some(ByteSize(8192)), sample_percent: 10 };

/// One with a key, one without, one that is too small for a sample, one of few pages whose values lie elsewhere, and a view.
const TABLES: &str = "create table keyed (a int primary key, b text); insert into keyed select i, 'row ' || i from generate_series(1, 20000) i; \
    create table keyless (b text); insert into keyless select 'row ' || i from generate_series(1, 20000) i; \
    create table small (a int primary key); insert into small select generate_series(1, 50); \
    create table long (a int primary key, b text); alter table long alter b set storage external; \
    insert into long select i, repeat(i::text, 5000) from generate_series(1, 40) i; \
    create materialized view view as select * from keyed";

fn digested(
    endpoint: &Endpoint,
    sample: &Sample<'_>,
    filter: &RowFilter,
    parallel: usize,
) -> (Vec<Digested>, Snapshot) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let open = OpenSnapshot::open(endpoint).await.unwrap();
        (probe::digest(&open, sample, filter, parallel).await.unwrap(), open.snapshot.clone())
    })
}

fn contents(digested: &[Digested]) -> BTreeMap<&str, &Content> {
    digested.iter().map(|one| (one.table.name.as_str(), one.table.content.known().expect(&one.table.name))).collect()
}

/// The tables of a copy, as a drill looks at them.
fn of_copy(copy: &Server, taken: &BTreeMap<&str, &Content>, snapshot: &Snapshot) -> Vec<Digested> {
    let own_from = copy.sql("postgres", "select pg_snapshot_xmax(pg_current_snapshot())").parse().unwrap();
    of_copy_from(copy, taken, snapshot, own_from)
}

fn of_copy_from(copy: &Server, taken: &BTreeMap<&str, &Content>, snapshot: &Snapshot, own_from: u64) -> Vec<Digested> {
    let filter = RowFilter::AsOf { snapshot: snapshot.clone(), own_from };
    digested(&copy.endpoint("postgres"), &Sample::Same(taken), &filter, 2).0
}

#[test]
fn pages_are_the_same_in_a_copy_and_all_rows_are_counted() {
    let server = Server::start();
    server.sql("postgres", TABLES);
    let endpoint = server.endpoint("postgres");
    let (before, snapshot) = digested(&endpoint, &Sample::Pages(&TENTH, 7), &RowFilter::All, 2);
    let before = contents(&before);
    for table in ["public.keyed", "public.keyless"] {
        let content = before[table];
        assert_eq!((content.rows, content.percent), (20_000, 10), "{table}");
        assert!(content.pages.is_some_and(|pages| pages.seed == 7 && pages.blocks > 50), "{table}: {content:?}");
        assert!((1_800..2_600).contains(&content.digested), "{} of 20000 is not about a tenth", content.digested);
    }
    let long = before["public.long"];
    assert!((long.rows, long.pages.unwrap().blocks) == (40, 1) && long.digested == 40, "a page is the least: {long:?}");
    for (table, rows) in [("public.small", 50), ("public.view", 20_000)] {
        let content = before[table];
        assert_eq!((content.digested, content.percent, content.pages), (rows, 100, None), "{table}");
    }
    // The same whoever reads, and others from another seed.
    for parallel in [1, 3] {
        let (again, _) = digested(&endpoint, &Sample::Pages(&TENTH, 7), &RowFilter::All, parallel);
        assert_eq!(contents(&again), before, "{parallel} connections");
    }
    let (others, _) = digested(&endpoint, &Sample::Pages(&TENTH, 8), &RowFilter::All, 2);
    assert_ne!(contents(&others)["public.keyless"].digest, before["public.keyless"].digest);

    // The source goes on: rows at the end of the table, beyond the pages that there were.
    server.sql("postgres", "insert into keyed select i, 'row ' || i from generate_series(20001, 40000) i");
    let copy = copied(&server);
    let after = of_copy(&copy, &before, &snapshot);
    assert_eq!(contents(&after), before);
    let writes = |all: &[Digested], table: &str| all.iter().find(|one| one.table.name == table).unwrap().writes;
    assert_eq!(writes(&after, "public.keyed").meanwhile, 20_000, "those that were written meanwhile are told apart");
    assert_eq!(writes(&after, "public.keyless").meanwhile, 0);

    // A row that the copy loses or wins is seen wherever it lay, for all are counted.
    let own_from = copy.sql("postgres", "select pg_snapshot_xmax(pg_current_snapshot())").parse().unwrap();
    for place in ["min", "max"] {
        copy.sql("postgres", &format!("delete from keyless where ctid = (select {place}(ctid) from keyless)"));
    }
    copy.sql("postgres", "insert into small values (51); update keyed set b = 'x' where a = 1");
    let now = of_copy_from(&copy, &before, &snapshot, own_from);
    assert_eq!(contents(&now)["public.keyless"].rows, 19_998);
    assert_eq!((writes(&now, "public.small").own, writes(&now, "public.keyed").own), (1, 1));
    assert_eq!(contents(&now)["public.view"], before["public.view"]);
}

#[test]
fn what_is_altered_behind_the_servers_back_is_seen_where_the_sample_looks() {
    let server = Server::start_with(Options { checksums: false, ..Options::default() });
    server.sql("postgres", TABLES);
    server.sql("postgres", "checkpoint");
    let (before, snapshot) = digested(&server.endpoint("postgres"), &Sample::Pages(&TENTH, 7), &RowFilter::All, 2);
    let before = contents(&before);
    let file = server.sql("postgres", "select pg_relation_filepath('keyless')");
    // One page after another: `row` becomes `Row` in all of its rows.
    let pages = before["public.keyless"].pages.unwrap().blocks as usize;
    let alter = |data: &Path, which: &dyn Fn(usize) -> bool| {
        let path = data.join(&file);
        let mut bytes = std::fs::read(&path).unwrap();
        for page in (0..pages).filter(|page| which(*page)) {
            let page = &mut bytes[page * 8192..(page + 1) * 8192];
            for at in 0..page.len() - 4 {
                if &page[at..at + 4] == b"row " {
                    page[at] = b'R';
                }
            }
        }
        std::fs::write(&path, bytes).unwrap();
    };
    let differs = |which: &dyn Fn(usize) -> bool| {
        let copy = copied_with(&server, |data| alter(data, which));
        let after = of_copy(&copy, &before, &snapshot);
        let (then, now) = (before["public.keyless"], contents(&after)["public.keyless"].clone());
        assert_eq!((then.rows, then.digested, then.pages), (now.rows, now.digested, now.pages));
        then.digest != now.digest
    };
    assert!(differs(&|_| true));
    assert!(!differs(&|_| false), "nothing was altered");
    // What is looked at is one stretch of a tenth of the pages: one of these is in it, whatever the seed.
    assert!(pages > 100);
    assert!(differs(&|page| page % 10 == 3));
}

fn sampled_home(server: &Server) -> Home {
    let home = Home::new(server, "orders");
    home.edit_policy(|text| {
        text.replacen("[encryption]", "[content]\nsample_over = \"8 KiB\"\nsample_percent = 5\n\n[encryption]", 1)
    });
    home
}

fn table<'a>(manifest: &'a Value, name: &str) -> &'a Value {
    let databases = manifest["fingerprint"]["databases"].as_array().unwrap();
    let orders = databases.iter().find(|one| one["name"] == "orders").unwrap();
    &orders["tables"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap()["content"]["known"]
}

#[test]
fn a_sampled_backup_of_either_method_is_proven_and_says_what_was_not_looked_at() {
    let server = Server::start();
    server.sql("postgres", "create database orders");
    server.sql("orders", TABLES);
    let home = sampled_home(&server);
    for (job, drill, by_pages) in [("physical", "restore-latest", true), ("logical", "restore-logical", false)] {
        home.run(&["backup", POLICY, "--job", job]).expect(0);
        let manifest = std::fs::read(home.newest_backup().join("manifest.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let keyed = table(&manifest, "public.keyed");
        assert!(keyed["percent"] == 5 && keyed["rows"] == 20_000, "{keyed}");
        assert_eq!(keyed["pages"].is_object(), by_pages, "{job}: {keyed}");
        // What has no key can be sampled by its pages alone.
        assert_eq!(table(&manifest, "public.keyless")["percent"], if by_pages { 5 } else { 100 }, "{job}");
        let transcript = home.run(&["drill", POLICY, "--drill", drill, "--output", "json"]).expect(0).json();
        assert_eq!(transcript["judgement"]["verdict"], "proven", "{:#}", transcript["judgement"]);
        let content = transcript["checks"].as_array().unwrap().iter().find(|one| one["name"] == "content").unwrap();
        assert_eq!(content["outcome"], "passed");
        let part = content["unchecked"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["object"].as_str().unwrap().starts_with("part of table public.keyed"));
        let why = part.unwrap_or_else(|| panic!("{content:#}"))["why"].as_str().unwrap();
        assert!(why.contains("of 20000 rows were digested") && why.contains("all were counted"), "{why}");
        // A drill whose copy loses a single row somewhere.
        let sabotage = format!(
            "[drill]\nname = \"loss\"\ndescription = \"lose a row on purpose\"\nbackup = {{ pick = \"latest\", method = \"{job}\" }}\n\
             [scratch]\nkind = \"cluster\"\nisolation = \"required\"\n[[steps]]\nrestore.until = \"latest\"\n\
             [[steps]]\nsabotage.sql = \"delete from keyed where a = 12345\"\n[[steps]]\ncheck.name = \"content\"\n"
        );
        home.write_drill("loss", &sabotage);
        let transcript = home.run(&["drill", POLICY, "--drill", "loss", "--output", "json"]).expect(3).json();
        assert!(transcript["checks"].to_string().contains("table public.keyed"), "{:#}", transcript["checks"]);
    }
}
