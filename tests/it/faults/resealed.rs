//! Plaintext that was damaged before it was sealed, with every hash and the signature right: only a drill can see it. Pages of
//! tables are `lifeboat drill --mutate`'s business (`tests/it/mutate.rs`); here it is the dump and the globals.

use std::sync::Arc;

use lifeboat::domain::artifact::{Manifest, StreamKind};
use lifeboat::seal::{self, Opener, SealOptions, Sealer, Signer, TrustedSigners};
use lifeboat::store::{FileStore, Store};

use crate::support::artifacts::{blocking, policy};
use crate::support::data::DATABASE;
use crate::support::home::{Home, POLICY};
use crate::support::invariants::Kept;
use crate::support::server::Server;

/// Exchanges text of equal length in the only part of a stream, and makes all that is said about it right again.
async fn exchange(home: &Home, globals: bool, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let key = |name: &str| home.path().join("keys").join(name);
    let store: Arc<dyn Store> = Arc::new(FileStore::open(&home.store()).unwrap());
    let trusted = TrustedSigners::read(&[key("signing.pub.pem")]).unwrap();
    let (_, id) = seal::list_backups(&*store, Some(&policy()), &trusted).await.unwrap().pop().unwrap();
    let mut manifest: Manifest = seal::load_manifest(&*store, &policy(), &id, &trusted).await.unwrap().manifest;
    let recipients = manifest.recipients.clone();
    let stream = manifest.streams.iter_mut().find(|stream| (stream.kind == StreamKind::Globals) == globals).unwrap();
    assert_eq!(stream.parts.len(), 1);
    let part = &mut stream.parts[0];
    let object = format!("{POLICY}/{id}/{}", part.key);
    let sealed = store.get(&object).await.unwrap();
    let opener = Opener::read(&[key("working.agekey")]).unwrap();
    let mut plain = opener.open_part(part, &sealed).unwrap();
    let at = plain.windows(from.len()).position(|window| window == from.as_bytes());
    let at = at.unwrap_or_else(|| panic!("{from:?} is not in the stream"));
    plain[at..at + to.len()].copy_from_slice(to.as_bytes());
    // Sealed in a store of its own, and taken over.
    let aside = tempfile::tempdir().unwrap();
    let other: Arc<dyn Store> = Arc::new(FileStore::open(&aside.path().join("aside")).unwrap());
    let options = SealOptions { recipients, level: 1, part_bytes: plain.len(), threads: 1 };
    let sealer = Sealer::new(Arc::clone(&other), "aside".to_owned(), options).unwrap();
    let new = blocking(move || {
        let mut writer = sealer.stream("base", StreamKind::Tar);
        writer.write(&plain).unwrap();
        writer.finish().unwrap().parts.remove(0)
    })
    .await;
    let bytes = other.get(&format!("aside/{}", new.key)).await.unwrap();
    (part.plain_blake3, part.sealed_bytes, part.sealed_sha256) =
        (new.plain_blake3, new.sealed_bytes, new.sealed_sha256);
    for name in [object.as_str(), &format!("{POLICY}/{id}/manifest.json"), &format!("{POLICY}/{id}/manifest.json.sig")]
    {
        store.delete(name).await.unwrap();
    }
    store.put_new(&object, bytes).await.unwrap();
    let signer = Signer::read(&key("signing.pem")).unwrap();
    seal::store_manifest(&*store, &manifest, &signer).await.unwrap();
    // The catalog would know the manifest's old hash.
    for file in ["lifeboat.db", "lifeboat.db-wal", "lifeboat.db-shm"] {
        let _ = std::fs::remove_file(home.path().join(file));
    }
    home.run(&["catalog", "rebuild"]).expect(0);
}

#[tokio::test]
async fn damage_that_was_sealed_and_signed_is_seen_by_a_drill_alone() {
    damaged_before_sealing(3).await;
}

#[tokio::test]
#[ignore = "long form: make faults"]
async fn long_damage_that_was_sealed_and_signed_is_seen_by_a_drill_alone() {
    damaged_before_sealing(1).await;
}

/// Every so many of the damages.
async fn damaged_before_sealing(step: usize) {
    let server = Server::start();
    server.sql("postgres", &format!("create database {DATABASE}"));
    server.sql("postgres", "create role shop_reader connection limit 3");
    let sql = "create table item (id int primary key, name text not null, price int check (price > 17), sold bool default true); \
               create sequence ticket start 4711; select nextval('ticket'); create index by_name on item (name); \
               insert into item select n, md5(n::text), n + 100 from generate_series(1, 500) n; \
               create function twice(n int) returns int language sql immutable as 'select n * 2'; \
               grant select on item to shop_reader; create view dear as select id from item where price > 444";
    server.sql(DATABASE, sql);
    let home = Home::new(&server, DATABASE);
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    let kept = Kept::of(&home);
    let row = server.sql(DATABASE, "select name from item where id = 250");
    let other = format!("{}{}", if row.starts_with('0') { '1' } else { '0' }, &row[1..]);
    let damages = [
        // Itself: red comes from the damage, and not from sealing again.
        (false, row.as_str(), row.as_str(), None),
        (false, "'public.ticket', 4711", "'public.ticket', 4710", Some("check sequences failed")),
        (false, "select n * 2", "select n * 3", Some("check completeness failed")),
        (false, row.as_str(), other.as_str(), Some("check content failed")),
        (false, "price > 17", "price > 16", Some("check completeness failed")),
        (false, "price > 444", "price > 445", Some("check completeness failed")),
        (true, "CONNECTION LIMIT 3", "CONNECTION LIMIT 4", Some("check completeness failed")),
        (false, "DEFAULT true", "DEFAULT null", Some("check completeness failed")),
        (true, "CREATE ROLE shop_reader", "CREATE ROLE shop_raeder", Some("ALTER ROLE shop_reader: it was refused")),
    ];
    for (globals, from, to, said) in damages.into_iter().step_by(step) {
        exchange(&home, globals, from, to).await;
        let verified = home.run(&["verify", POLICY]);
        assert_eq!(verified.code, 0, "from outside it is whole: {from:?} to {to:?}: {verified:#?}");
        let drill = home.run(&["drill", POLICY, "--drill", "restore-logical"]);
        match said {
            None => assert_eq!(drill.code, 0, "{drill:#?}"),
            Some(said) => {
                assert_eq!(drill.code, 3, "{from:?} to {to:?}: {drill:#?}");
                let first = drill.stdout.lines().find(|line| line.starts_with("  - ")).unwrap();
                assert!(
                    first.contains(said),
                    "{from:?} to {to:?}: {said:?} is not what is red first: {}",
                    drill.stdout
                );
            }
        }
        kept.put_back(&home);
    }
}
