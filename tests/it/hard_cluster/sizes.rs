//! Very many tables, and a table of several files.

use super::*;
use crate::support::home::peak;
use crate::support::server::{Options, Server};

/// What lifeboat itself may take, whatever the size of the source.
const PEAK_MIB: u64 = 256;

/// Tables of one row and one index each.
fn many_tables(count: u64) {
    let began = std::time::Instant::now();
    let conf = "autovacuum = off\nmax_locks_per_transaction = 256".to_owned();
    let server = Server::start_with(Options { conf, ..Options::default() });
    server.sql("postgres", "create database orders");
    for first in (1..=count).step_by(500) {
        let last = (first + 499).min(count);
        server.sql(
            "orders",
            &format!(
                "do $$ begin for i in {first}..{last} loop
                   execute format('create table t%s (id int primary key, v text); insert into t%s values (1, %s)', i, i, i);
                 end loop; end $$"
            ),
        );
    }
    let home = Home::new(&server, "orders");
    eprintln!("{count} tables made in {:?}", began.elapsed());
    for (job, name) in [("logical", LOGICAL), ("physical", PHYSICAL)] {
        let began = std::time::Instant::now();
        let (most, _) = peak(&mut home.command(&["backup", POLICY, "--job", job]), 0);
        let manifest = std::fs::metadata(home.newest_backup().join("manifest.json")).unwrap().len();
        eprintln!("{job} backup: {:?}, at most {most} MiB, manifest {} KiB", began.elapsed(), manifest >> 10);
        assert!(most < PEAK_MIB, "{job} backup took {most} MiB");
        assert!(manifest < count * 1500 + (2 << 20), "a manifest of {manifest} bytes");
        let began = std::time::Instant::now();
        let (most, text) = peak(&mut home.command(&["drill", POLICY, "--drill", name, "--output", "json"]), 0);
        eprintln!("{job} drill: {:?}, at most {most} MiB", began.elapsed());
        assert!(most < PEAK_MIB, "{job} drill took {most} MiB");
        let transcript: Value = serde_json::from_str(&text).unwrap();
        let content = check(&transcript, "content")["looked_at"].to_string();
        assert!(content.contains(&format!("\"count\":{count}")), "{content}");
        if job == "logical" {
            continue;
        }
        let last = format!("update t{count} set v = 'x'");
        let drop = format!("drop table t{}", count - 1);
        let found = broken(&home, job, &[(None, &last), (None, &drop)], &["content", "completeness"]);
        assert_named(
            &found,
            &[&format!("content: table public.t{count}"), &format!("completeness: table public.t{}", count - 1)],
        );
    }
}

#[test]
fn two_thousand_tables_come_back() {
    many_tables(2000);
}

#[test]
#[ignore = "ten minutes: run by hand, with --run-ignored"]
fn twenty_thousand_tables_come_back() {
    many_tables(20_000);
}

/// A heap of that many bytes, nearly all of it pages that were emptied: PostgreSQL writes each of them, and keeps a last row at the end.
fn large_table(gigabytes: u64) {
    let conf = "autovacuum = off\nmax_wal_size = '8GB'\nshared_buffers = '256MB'\nwal_compression = on".to_owned();
    let server = Server::start_with(Options { conf, ..Options::default() });
    server.sql("postgres", "create database orders");
    // Toast is kept out of it: each row is nearly a page long, and is not compressed.
    server.sql(
        "orders",
        "create table big (id int, v text) with (fillfactor = 100); alter table big alter v set storage plain",
    );
    let rows = (gigabytes << 30) / 8192 + 100;
    server.sql(
        "orders",
        &format!(
            "begin; truncate big; insert into big select g, repeat('0', 8000) from generate_series(1, {rows}) g; commit"
        ),
    );
    server.sql("orders", &format!("delete from big where id > 10 and id <= {rows} - 10"));
    server.sql("orders", "vacuum (truncate false, freeze) big");
    let files = server.sql("orders", "select pg_relation_filepath('big')");
    assert!(server.data_dir.join(format!("{files}.{gigabytes}")).is_file(), "it has more than {gigabytes} files");
    let home = Home::new(&server, "orders");
    for (job, name) in [("logical", LOGICAL), ("physical", PHYSICAL)] {
        let began = std::time::Instant::now();
        let (most, _) = peak(&mut home.command(&["backup", POLICY, "--job", job]), 0);
        let stored: u64 =
            crate::support::home::walk(&home.newest_backup()).iter().map(|file| file.metadata().unwrap().len()).sum();
        eprintln!("{job} backup: {:?}, at most {most} MiB, {} MiB stored", began.elapsed(), stored >> 20);
        assert!(most < PEAK_MIB && stored < 200 << 20, "{job}: {most} MiB, {stored} bytes stored");
        let began = std::time::Instant::now();
        let (most, text) = peak(&mut home.command(&["drill", POLICY, "--drill", name, "--output", "json"]), 0);
        eprintln!("{job} drill: {:?}, at most {most} MiB", began.elapsed());
        assert!(most < PEAK_MIB, "{job} drill took {most} MiB");
        let transcript: Value = serde_json::from_str(&text).unwrap();
        assert!(check(&transcript, "content")["looked_at"].to_string().contains("\"count\":20"), "{transcript:#}");
    }
    // The last row lies in the last file.
    let last = format!("update big set v = 'x' where id = {rows}");
    assert_named(&broken(&home, "physical", &[(None, &last)], &["content"]), &["content: table public.big"]);
}

#[test]
#[ignore = "a minute, and 3 GB of disk: run by hand, with --run-ignored"]
fn a_table_of_two_files_comes_back() {
    large_table(1);
}

#[test]
#[ignore = "minutes, and 15 GB of disk: run by hand, with --run-ignored"]
fn a_table_of_six_files_comes_back() {
    large_table(5);
}
