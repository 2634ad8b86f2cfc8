//! A sealed physical backup comes back whole, with its tablespaces, or not at all.

use std::os::unix::fs::FileExt;

use lifeboat::backup::physical::{PutBack, put_back};
use lifeboat::domain::artifact::Manifest;
use lifeboat::domain::check::Stop;
use lifeboat::domain::transcript::RestoreFacts;
use lifeboat::progress::Silent;
use lifeboat::scratch::Scratch;
use lifeboat::seal::Opener;
use lifeboat::store;

use super::restore_logical::{opened, scratch};
use crate::support::home::{Home, POLICY};
use crate::support::server::{Options, Server, command, unprivileged};

async fn into(
    scratch: &Scratch,
    home: &Home,
    manifest: &Manifest,
    opener: &Opener,
    tablespaces: Vec<(u32, std::path::PathBuf)>,
) -> Result<RestoreFacts, Stop> {
    let what = PutBack {
        store: store::open_url(home.store().to_str().unwrap()).unwrap(),
        manifest,
        opener,
        data_dir: scratch.data_dir().unwrap().to_owned(),
        tablespaces,
        durable: false,
        parallel: 2,
        progress: &Silent,
    };
    put_back(&what).await
}

async fn ask(scratch: &Scratch, sql: &str) -> String {
    let client = scratch.server().unwrap().connect().await.unwrap();
    let rows = client.simple_query(sql).await.unwrap();
    let first = rows.iter().find_map(|row| match row {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    first.unwrap()
}

/// A server with rows in a tablespace, and its physical backup.
fn backed_up(spaces: &std::path::Path) -> (Server, Home) {
    if let Some((uid, gid)) = unprivileged() {
        std::os::unix::fs::chown(spaces, Some(uid), Some(gid)).unwrap();
    }
    let server = Server::start_with(Options { initdb: vec!["--locale=C.UTF-8"], ..Options::default() });
    server.sql("postgres", "create database shop");
    server.sql("postgres", &format!("create tablespace fast location '{}'", spaces.display()));
    server.sql("shop", "create table far (i int, t text) tablespace fast");
    server.sql("shop", "insert into far select i, repeat('x', 300) from generate_series(1, 20000) i");
    server.sql("shop", "create table near as select * from far");
    let home = Home::new(&server, "shop");
    home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    (server, home)
}

#[tokio::test]
async fn a_copy_with_tablespaces_starts_in_place_and_mapped() {
    let spaces = tempfile::Builder::new().prefix("lb-space-").tempdir().unwrap();
    let (server, home) = backed_up(spaces.path());
    let (manifest, opener) = opened(&home);
    const SUM: &str = "select (select sum(i) from far) + (select sum(i) from near)";
    for mapped in [false, true] {
        let mut scratch = scratch(&home, &server).await;
        let elsewhere = scratch.work_dir().join("fast");
        let oid = manifest.fingerprint.tablespaces[0].oid;
        let maps = if mapped { vec![(oid, elsewhere.clone())] } else { vec![] };
        let facts = into(&scratch, &home, &manifest, &opener, maps).await.unwrap();
        let pages = facts.pages.unwrap();
        let taken = manifest.pages.clone().unwrap();
        assert!(pages.enabled && pages.verified > 1000, "{pages:?}");
        assert_eq!(pages.verified + pages.empty + pages.in_flight, taken.verified + taken.empty + taken.in_flight);
        assert_eq!(pages.bad_count, 0);
        let link = scratch.data_dir().unwrap().join(format!("pg_tblspc/{oid}"));
        assert_eq!(link.symlink_metadata().unwrap().is_symlink(), mapped);
        let verified = command(&server.programs.path("pg_verifybackup"))
            .args(["-n", "-i", "tablespace_map"])
            .arg(scratch.data_dir().unwrap())
            .output()
            .unwrap();
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
        let started = scratch.start(&manifest.fingerprint, None).await.unwrap();
        assert!(started.replayed_to >= manifest.wal.as_ref().unwrap().end, "{started:?}");
        let shop = scratch.server().unwrap().with_database("shop").connect().await.unwrap();
        let row = shop.query_one(SUM, &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 2 * 20_000 * 20_001 / 2);
        assert_eq!(ask(&scratch, "select count(*) from pg_tablespace where spcname = 'fast'").await, "1");
        scratch.destroy().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_not_whole_leaves_nothing_to_start() {
    let spaces = tempfile::Builder::new().prefix("lb-space-").tempdir().unwrap();
    let (server, home) = backed_up(spaces.path());
    let (manifest, opener) = opened(&home);
    let alter = |change: &dyn Fn(&mut Manifest)| {
        let mut altered = manifest.clone();
        change(&mut altered);
        altered
    };
    let cases = [
        (
            alter(&|manifest| {
                for part in &mut manifest.streams[0].parts {
                    part.members.retain(|slice| slice.path != "global/pg_control");
                }
            }),
            "member_missing",
        ),
        (
            alter(&|manifest| {
                let slice = manifest.streams[0].parts[0].members.iter_mut().find(|slice| slice.bytes > 0).unwrap();
                slice.path = "../outside".to_owned();
            }),
            "member_path",
        ),
        (
            alter(&|manifest| {
                let slice = manifest.streams[0].parts[0].members.iter_mut().find(|slice| slice.bytes > 1).unwrap();
                slice.bytes -= 1;
            }),
            "member_incomplete",
        ),
    ];
    for (altered, code) in cases {
        let scratch = scratch(&home, &server).await;
        let Err(Stop::Found(findings)) = into(&scratch, &home, &altered, &opener, vec![]).await else {
            panic!("{code}")
        };
        assert!(findings.iter().any(|finding| finding.code == code), "{findings:?}");
        assert_eq!(std::fs::read_dir(scratch.data_dir().unwrap()).unwrap().count(), 0, "nothing was written");
        scratch.destroy().await.unwrap();
    }
    // A part that is gone is found after other parts were written: still nothing that starts.
    let parts = &manifest.streams[0].parts;
    let last = home.newest_backup().join(&parts[parts.len() - 1].key);
    std::fs::remove_file(last).unwrap();
    let scratch = scratch(&home, &server).await;
    assert!(matches!(into(&scratch, &home, &manifest, &opener, vec![]).await, Err(Stop::Found(_))));
    assert!(!scratch.data_dir().unwrap().join("global/pg_control").exists());
    scratch.destroy().await.unwrap();
}

#[tokio::test]
async fn a_damaged_page_is_counted_and_named_as_the_backup_did() {
    let mut server = Server::start();
    server.sql("postgres", "create table t as select i, repeat('x', 100) from generate_series(1, 5000) i");
    server.sql("postgres", "checkpoint");
    let path = server.sql("postgres", "select pg_relation_filepath('t')");
    server.kill();
    let file = std::fs::OpenOptions::new().write(true).open(server.data_dir.join(&path)).unwrap();
    file.write_all_at(&[0xff; 16], 3 * 8192 + 4000).unwrap();
    server.launch();
    let home = Home::new(&server, "postgres");
    let ran = home.run(&["backup", POLICY, "--job", "physical"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    let (manifest, opener) = opened(&home);
    let scratch = scratch(&home, &server).await;
    let pages = into(&scratch, &home, &manifest, &opener, vec![]).await.unwrap().pages.unwrap();
    assert_eq!(pages.bad, [format!("{path} block 3")]);
    assert_eq!(Some(pages), manifest.pages, "every page once, however the parts were cut");
    scratch.destroy().await.unwrap();
    let target = home.path().join("target");
    let restored = home.run(&["restore", POLICY, "--to", target.to_str().unwrap()]).expect(3);
    assert!(restored.stderr.contains("block 3") && target.join("global/pg_control").exists(), "{restored:?}");
}
