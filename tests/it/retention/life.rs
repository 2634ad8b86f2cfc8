//! What is deleted, what is brought back, what stays whatever the retention says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use jiff::SignedDuration;
use lifeboat::domain::ids::BackupId;
use lifeboat::domain::mark::Act;
use lifeboat::domain::observed::Observed;
use lifeboat::domain::policy::Retention;
use lifeboat::domain::units::Span;
use lifeboat::engine::prune::{self, Asked, Marking, Pruned};
use lifeboat::engine::verify::{Conclusion, Reading, Target, verify, verify_stores};
use lifeboat::judge::retention::Fate;
use lifeboat::progress::Silent;
use lifeboat::seal::{self, Signer};
use lifeboat::store::{Protection, Store};

use super::bench::{Bench, Meanwhile, Odd, Told, days, place};
use crate::support::artifacts::{policy, write_mode};

fn three_days() -> Retention {
    Retention { keep: Some(days(3)), at_least: 2, ..Retention::default() }
}

fn reading(bench: &Bench) -> Reading {
    Reading {
        opener: Some(bench.yard.opener.clone()),
        trusted: bench.yard.trusted.clone(),
        threads: 2,
        progress: Arc::new(Silent),
    }
}

/// Verifies as the verb does, with what the catalog knows.
pub async fn conclusion(bench: &Bench) -> Conclusion {
    verify(&bench.house, &Target::Policy(policy()), None, &reading(bench)).await.unwrap().1.conclusion()
}

async fn say(bench: &Bench, act: Act, backup: BackupId) -> prune::Marked {
    let marking = Marking { backup, act, by: "ada".to_owned(), reason: "case 7".to_owned() };
    prune::mark(&bench.house, &marking, lifeboat::clock::now()).await.unwrap()
}

fn fates(bench: &Bench, pruned: &Pruned, fate: Fate) -> Vec<i64> {
    pruned.stores[0].plan.with(fate).map(|entry| bench.ago(&entry.backup)).collect()
}

fn codes(pruned: &Pruned) -> Vec<&str> {
    let plan = &pruned.stores[0].plan;
    plan.standstill.iter().chain(&plan.findings).map(|finding| finding.code.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_deleted_can_be_brought_back_and_is_then_removed() {
    let bench = Bench::new(three_days());
    bench.take_days((0..6).rev()).await;
    let before = bench.keys().await;
    let dry = bench.prune(&Asked { dry_run: true, ..bench.asked(days(1)) }).await;
    assert_eq!((fates(&bench, &dry, Fate::Delete), dry.run), (vec![5, 4, 3], None));
    assert_eq!((bench.keys().await, bench.offered().await), (before, vec![5, 4, 3, 2, 1, 0]), "nothing was changed");

    let pruned = bench.prune(&bench.asked(days(1))).await;
    assert_eq!((pruned.stores[0].deleted.len(), pruned.against(), pruned.broke()), (3, 0, false), "{pruned:#?}");
    assert_eq!((bench.counted().await, bench.offered().await), (vec![2, 1, 0], vec![2, 1, 0]));
    assert_eq!(conclusion(&bench).await, Conclusion::NothingFound);
    let again = bench.prune(&bench.asked(days(1))).await;
    assert_eq!((again.stores[0].deleted.len(), again.stores[0].removed.len()), (0, 0));
    assert_eq!(fates(&bench, &again, Fate::Wait), [5, 4, 3]);

    let back = say(&bench, Act::Undelete, bench.id(4)).await;
    assert_eq!((back.marks.len(), back.troubles.len()), (1, 0), "{back:?}");
    assert_eq!((bench.counted().await, bench.offered().await), (vec![4, 2, 1, 0], vec![4, 2, 1, 0]));
    assert_eq!(conclusion(&bench).await, Conclusion::NothingFound);

    // It is no longer kept by anything: it is deleted anew, and its time begins anew.
    let gone = bench.prune(&bench.asked(Span::ZERO)).await;
    let removed: Vec<i64> = gone.stores[0].removed.iter().map(|one| bench.ago(&one.backup)).collect();
    assert_eq!((removed, gone.stores[0].deleted.len()), (vec![5, 3], 1), "{gone:#?}");
    assert_eq!(conclusion(&bench).await, Conclusion::NothingFound, "what was removed is not missed");
    bench.prune(&bench.asked(Span::ZERO)).await;
    let left: BTreeSet<String> =
        bench.keys().await.iter().map(|key| key.split('/').nth(1).unwrap().to_owned()).collect();
    assert_eq!(left, [2, 1, 0].map(|ago| bench.id(ago).to_string()).into());
    assert_eq!(bench.house.catalog.next_sequence(&policy()).await.unwrap(), 1_001, "numbers are never given twice");
    let nothing = bench.prune(&bench.asked(Span::ZERO)).await;
    assert!(nothing.stores[0].removed.is_empty() && nothing.stores[0].deleted.is_empty() && !nothing.broke());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_removed_by_another_machine_is_told_to_the_catalog() {
    let bench = Bench::new(three_days());
    bench.take_days((0..6).rev()).await;
    bench.prune(&bench.asked(days(1))).await;
    // This machine's catalog never heard of it: as if it were made again from the store before.
    let other = Bench { house: Bench::new(three_days()).house, ..bench };
    let mut house = other.house;
    house.config.stores.values_mut().for_each(|store| {
        store.place = lifeboat::domain::config::StorePlace::File { path: other.yard.folder.path().join("store") };
    });
    house.config.keys.signing = Some(other.yard.folder.path().join("signing.pem"));
    house.config.keys.trusted_signers = vec![other.yard.public_key.clone()];
    let other = Bench { house, ..other };
    for ago in [5, 0] {
        let sealed = seal::load_manifest(&*other.yard.store, &policy(), &other.id(ago), &other.yard.trusted).await;
        let sealed = sealed.unwrap();
        let record = lifeboat::domain::run::ArtifactRecord::of(&sealed.manifest, &sealed.sha256, &place());
        other.house.catalog.adopt(other.now, vec![record]).await.unwrap();
    }
    assert_eq!(other.offered().await, [5, 0]);
    assert_eq!(conclusion(&other).await, Conclusion::NothingFound, "what is marked in the store need not be there");
    other.prune(&other.asked(Span::ZERO)).await;
    assert_eq!(other.offered().await, [0]);
    assert_eq!(conclusion(&other).await, Conclusion::NothingFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_locks_and_proofs_keep_what_the_retention_would_not() {
    let mut bench = Bench::new(Retention { keep: Some(days(2)), at_least: 1, ..Retention::default() });
    bench.take_days((0..8).rev()).await;
    std::sync::Arc::make_mut(&mut bench.house.policies)[0].drills.push(lifeboat::domain::policy::DrillUse {
        drill: "restore-latest".parse().unwrap(),
        schedule: None,
        terms: Default::default(),
    });
    let still = bench.prune(&bench.asked(days(1))).await;
    assert_eq!((codes(&still), fates(&bench, &still, Fate::Delete)), (vec!["nothing_proven"], vec![]));
    assert_eq!(still.against(), 1);
    bench.prove(6, 4).await;
    let held = say(&bench, Act::Hold, bench.id(7)).await;
    assert_eq!((held.marks.len(), held.objects), (1, 0), "a folder knows no holds of its own: {held:?}");
    let until = lifeboat::clock::now().checked_add(SignedDuration::from_hours(1)).unwrap();
    let locked = |protection| Some((bench.id(5).to_string(), Observed::Known(protection)));
    let store = Odd {
        locked: locked(Protection { until: Some(until), legal_hold: false }),
        ..Odd::over(bench.yard.store.clone())
    };
    let now = lifeboat::clock::now();
    let pruned = bench.prune_through(Arc::new(store), &bench.asked(Span::ZERO), now).await.unwrap();
    assert_eq!((fates(&bench, &pruned, Fate::Keep), pruned.against()), (vec![7, 6, 5, 1, 0], 0), "{pruned:#?}");
    let why = |ago: i64| {
        let entry = pruned.stores[0].plan.backups.iter().find(|entry| entry.backup == bench.id(ago)).unwrap();
        entry.reasons.join("; ")
    };
    assert!(why(7).contains("on hold by ada") && why(6).contains("the last proven one") && why(5).contains("locked"));

    // A hold or a lock that came after the deletion is in the way of the removal.
    say(&bench, Act::Hold, bench.id(4)).await;
    let part = format!("{}/base/00001", bench.id(3));
    let unknown = Observed::Unknown("access denied".to_owned());
    let store = Odd { locked: Some((part, unknown)), ..Odd::over(bench.yard.store.clone()) };
    let pruned = bench.prune_through(Arc::new(store), &bench.asked(Span::ZERO), lifeboat::clock::now()).await.unwrap();
    assert_eq!(fates(&bench, &pruned, Fate::Spare), [4]);
    assert!(pruned.stores[0].spared[0].contains("access denied"), "{pruned:#?}");
    let removed: Vec<i64> = pruned.stores[0].removed.iter().map(|one| bench.ago(&one.backup)).collect();
    // The one that was locked before has no lock now, and is only deleted.
    assert_eq!(removed, [2]);
    assert_eq!(bench.counted().await, [7, 6, 1, 0]);
    let (holds, findings, _) = prune::holds(&bench.house, &[bench.policy()]).await.unwrap();
    assert_eq!((holds.len(), findings.len()), (2, 0));

    say(&bench, Act::Release, bench.id(4)).await;
    say(&bench, Act::Release, bench.id(7)).await;
    for _ in 0..2 {
        bench.prune(&bench.asked(Span::ZERO)).await;
    }
    assert_eq!(bench.counted().await, [6, 1, 0]);
    assert_eq!(conclusion(&bench).await, Conclusion::NothingFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_trusted_has_marked_hides_nothing_and_is_found() {
    let bench = Bench::new(three_days());
    bench.take_days((0..5).rev()).await;
    let store = &*bench.yard.store;
    let (private, _) = seal::generate_signing_key().unwrap();
    let stranger = bench.yard.folder.path().join("stranger.pem");
    write_mode(&stranger, &private, 0o600);
    let stranger = Signer::read(&stranger).unwrap();
    let mark = |ago: i64| lifeboat::domain::mark::Mark {
        format: lifeboat::domain::mark::MARK_FORMAT.to_owned(),
        policy: policy(),
        backup: bench.id(ago),
        number: 0,
        act: Act::Tombstone,
        by: "mallory".to_owned(),
        reason: String::new(),
        at: bench.now,
    };
    seal::put_mark(store, mark(0), &stranger, &bench.yard.trusted).await.unwrap();
    store
        .put_new(&format!("{}/{}/marks/00001.jsonl", policy(), bench.id(4)), Bytes::from_static(b"{}\n"))
        .await
        .unwrap();
    // A right mark of one backup laid under another.
    let right = seal::put_mark(store, mark(3), &bench.yard.signer, &bench.yard.trusted).await.unwrap();
    let text = store.get(&format!("{}/{}/marks/{:05}.jsonl", policy(), bench.id(3), right.number)).await.unwrap();
    store.put_new(&format!("{}/{}/marks/00001.jsonl", policy(), bench.id(2)), text.clone()).await.unwrap();
    // And one from before, under a new number, after it was taken back.
    say(&bench, Act::Undelete, bench.id(3)).await;
    store.put_new(&format!("{}/{}/marks/00003.jsonl", policy(), bench.id(3)), text).await.unwrap();
    assert_eq!(bench.counted().await, [4, 3, 2, 1, 0]);
    let stores: BTreeMap<_, Arc<dyn Store>> = BTreeMap::from([(place(), bench.yard.store.clone())]);
    let report = verify_stores(&stores, &Target::Policy(policy()), &[], &reading(&bench)).await;
    let doubted: Vec<i64> =
        report.backups.iter().filter(|one| !one.findings.is_empty()).map(|one| bench.ago(&one.backup)).collect();
    assert_eq!((report.conclusion(), doubted), (Conclusion::Found, vec![4, 3, 2, 0]));
    // They may be holds that cannot be read any more: nothing of them is deleted.
    let pruned = bench.prune(&bench.asked(Span::ZERO)).await;
    assert_eq!(codes(&pruned), ["mark_doubted"; 4]);
    assert_eq!(fates(&bench, &pruned, Fate::Keep).len(), 5);
    // A mark that is right is told apart from them, whatever number is taken.
    let held = say(&bench, Act::Hold, bench.id(0)).await;
    assert_eq!((held.marks[0].1.number, held.troubles.len()), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_that_cannot_be_believed_and_too_few_backups_are_findings() {
    let bench = Bench::new(Retention { at_least: 3, ..Retention::default() });
    bench.take_days((0..3).rev()).await;
    std::fs::write(bench.yard.path(&format!("{}/{}/manifest.json.sig", policy(), bench.id(2))), "{}").unwrap();
    let pruned = bench.prune(&bench.asked(Span::ZERO)).await;
    assert_eq!(codes(&pruned), ["manifest_doubted", "retention_shortfall"]);
    assert_eq!((fates(&bench, &pruned, Fate::Keep), pruned.against()), (vec![2, 1, 0], 2));
    assert!(pruned.stores[0].log.plan.remarks[0].contains("not known what 1 backups need"), "{pruned:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_deletes_nothing() {
    let bench = Bench::new(three_days());
    bench.take_days((0..8).rev()).await;
    let before = bench.keys().await;
    let year = SignedDuration::from_hours(365 * 24);
    let now = lifeboat::clock::now();
    let store = || bench.yard.store.clone();
    let asked = bench.asked(Span::ZERO);
    // This machine alone is a year ahead, or late.
    let ahead = bench.prune_through(store(), &asked, now.checked_add(year).unwrap()).await.unwrap();
    assert_eq!(codes(&ahead), ["clock_jump"]);
    let late = bench.prune_through(store(), &asked, now.checked_sub(year).unwrap()).await.unwrap();
    assert!(codes(&late).contains(&"clock_behind"), "{late:#?}");
    // The store is another day away than this machine: told by what it says of something that it just wrote.
    for (seconds, code) in [(-3_600, "clock_apart"), (3_600, "clock_behind")] {
        let odd = Odd { ahead: seconds, ..Odd::over(store()) };
        let apart = bench.prune_through(Arc::new(odd), &asked, lifeboat::clock::now()).await.unwrap();
        assert_eq!(codes(&apart), [code], "{seconds}");
        assert!(apart.stores[0].deleted.is_empty() && apart.against() == 1);
    }
    assert_eq!(bench.keys().await, before, "nothing was changed, and nothing was left behind");
    assert_eq!(bench.prune(&asked).await.stores[0].deleted.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_nothing_goes_after_a_while_and_never_while_a_backup_is_taken() {
    let bench = Bench::new(three_days());
    bench.take_days((0..2).rev()).await;
    let (store, dead) = (bench.yard.store.clone(), bench.id(1_000 / 24));
    bench.yard.seal_bytes(&format!("{}/{dead}", policy()), 1_000, vec![7; 2_500]).await;
    for key in ["notes.txt", "20260131T030000Z-0a1b2c3d/strange", "wal/00000001/000000010000000000000009.zst.age"] {
        store.put_new(&format!("{}/{key}", policy()), Bytes::from_static(b"x")).await.unwrap();
    }
    std::fs::write(bench.yard.path(&format!("{}/{dead}/.lifeboat-tmp-00aa", policy())), "half").unwrap();
    let now = Asked { orphans_after: Span::ZERO, ..bench.asked(Span::ZERO) };
    let young = bench.prune(&bench.asked(Span::ZERO)).await;
    assert!(young.stores[0].orphans.iter().all(|orphan| !orphan.goes) && young.stores[0].orphans.len() == 2);
    // A backup that this process takes: the id of the leftover is older, but one of its second may be.
    let run = lifeboat::engine::house::new_run();
    let work = lifeboat::domain::run::Work::Backup { job: "nightly".parse().unwrap() };
    let planned = lifeboat::domain::run::Event::Planned { work, scheduled_for: None };
    let catalog = &bench.house.catalog;
    catalog.append(bench.moment(50), &policy(), run, planned).await.unwrap();
    catalog.append(bench.moment(50), &policy(), run, lifeboat::engine::process::started()).await.unwrap();
    let busy = bench.prune(&now).await;
    let of_dead = |pruned: &Pruned| pruned.stores[0].orphans.iter().any(|one| one.goes && one.backup.is_some());
    assert!(!of_dead(&busy), "{busy:#?}");
    let outcome = lifeboat::domain::run::RunOutcome::Succeeded;
    catalog.append(bench.now, &policy(), run, lifeboat::domain::run::Event::Finished { outcome }).await.unwrap();
    let done = bench.prune(&now).await;
    assert!(of_dead(&done) && done.stores[0].orphans_removed == 4, "{done:#?}");
    assert_eq!(done.stores[0].unknown, ["20260131T030000Z-0a1b2c3d/strange", "notes.txt"]);
    let keys = bench.keys().await;
    assert!(!keys.iter().any(|key| key.contains(dead.as_str()) || key.contains("wal/")), "{keys:?}");
    assert!(keys.iter().any(|key| key.ends_with("notes.txt")) && keys.iter().any(|key| key.ends_with("strange")));
    assert!(store.half_written("").await.unwrap().is_empty());
    assert_eq!(conclusion(&bench).await, Conclusion::NothingFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_drill_proves_while_a_prune_is_at_work_stays() {
    let bench = Bench::new(three_days());
    bench.take_days((0..7).rev()).await;
    bench.prove(1, 0).await;
    // The first mark goes to the oldest one; meanwhile a drill proves one that the plan deletes too.
    let store = Meanwhile {
        under: bench.yard.store.clone(),
        catalog: Told(bench.house.catalog.clone()),
        proof: Some(bench.proof(4, 0)).into(),
    };
    let pruned = bench.prune_through(Arc::new(store), &bench.asked(days(1)), lifeboat::clock::now()).await.unwrap();
    assert_eq!(fates(&bench, &pruned, Fate::Delete), [6, 5, 4, 3]);
    let deleted: Vec<i64> = pruned.stores[0].deleted.iter().map(|id| bench.ago(id)).collect();
    assert_eq!(deleted, [6, 5, 3]);
    let spared = &pruned.stores[0].spared;
    assert!(spared.len() == 1 && spared[0].contains("proved it since"), "{spared:?}");
    assert_eq!(bench.counted().await, [4, 2, 1, 0]);
}
