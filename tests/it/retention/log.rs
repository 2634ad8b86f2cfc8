//! The log goes as far as no backup needs it, and is never found missing for it.

use std::sync::Arc;

use lifeboat::domain::ids::BackupId;
use lifeboat::domain::policy::Retention;
use lifeboat::domain::units::Span;
use lifeboat::domain::wal::WalName;
use lifeboat::engine::ledger::Eyes;
use lifeboat::engine::wal::{Audit, audit};
use lifeboat::seal;
use lifeboat::store::Store;

use super::bench::{Bench, days, first_segment, place};
use crate::support::artifacts::policy;

async fn numbers(bench: &Bench) -> Vec<u64> {
    let names = seal::list_wal(&*bench.yard.store, &policy()).await.unwrap();
    let number = |name: &WalName| match name {
        WalName::Segment(segment) => u64::from(segment.log) * 4096 + u64::from(segment.segment),
        other => panic!("{other}"),
    };
    names.iter().map(number).collect()
}

pub async fn audited(bench: &Bench) -> Audit {
    let store: Arc<dyn Store> = bench.yard.store.clone();
    let eyes = Eyes { trusted: &bench.yard.trusted, opener: Some(&bench.yard.opener), witness: None };
    audit(&store, &place(), bench.policy(), &eyes, None, 2).await.unwrap()
}

fn reach(audit: &Audit, backup: &BackupId) -> String {
    audit.reach.iter().find(|(id, _)| id == backup).unwrap().1.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn log_before_the_oldest_backup_goes_with_the_backup_that_needed_it() {
    let bench = Bench::new(Retention { keep: Some(days(2)), at_least: 1, ..Retention::default() });
    bench.take_days((0..4).rev()).await;
    bench.push(first_segment(4)..first_segment(0) + 5).await;
    let before = reach(&audited(&bench).await, &bench.id(1));
    let first = bench.prune(&bench.asked(Span::ZERO)).await;
    // What was only deleted can be brought back, and keeps its log.
    assert_eq!(numbers(&bench).await, (first_segment(3)..first_segment(0) + 5).collect::<Vec<_>>());
    assert_eq!((first.stores[0].log.removed, first.broke()), (5, false));
    bench.prune(&bench.asked(Span::ZERO)).await;
    let third = bench.prune(&bench.asked(Span::ZERO)).await;
    assert!(!third.broke(), "{third:#?}");
    assert_eq!(numbers(&bench).await, (first_segment(1)..first_segment(0) + 5).collect::<Vec<_>>());
    let audit = audited(&bench).await;
    assert_eq!((audit.findings, audit.missing.len()), (vec![], 0));
    assert_eq!(reach(&audited(&bench).await, &bench.id(1)), before);
    assert!(bench.keys().await.iter().all(|key| !key.contains(".hole")), "nobody has to answer for anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_leaves_older_backups_what_is_theirs_and_nothing_is_found_missing() {
    let mut bench = Bench::new(Retention { keep: Some(days(30)), at_least: 1, ..Retention::default() });
    bench.keep_log(days(2));
    bench.take_days((0..6).rev()).await;
    bench.push(first_segment(5) - 3..first_segment(0) + 5).await;
    let newest = reach(&audited(&bench).await, &bench.id(0));
    let pruned = bench.prune(&bench.asked(Span::ZERO)).await;
    assert!(!pruned.broke() && pruned.against() == 0, "{pruned:#?}");
    // Two days and three hours ago is the last backup before the window.
    let mut wanted: Vec<u64> = (first_segment(2)..first_segment(0) + 5).collect();
    wanted.extend([5, 4, 3].into_iter().flat_map(|ago| [first_segment(ago), first_segment(ago) + 1]));
    wanted.sort();
    assert_eq!(numbers(&bench).await, wanted);
    let audit = audited(&bench).await;
    assert_eq!((&audit.findings, audit.missing.len(), audit.acknowledged.len()), (&vec![], 0, 3), "{audit:#?}");
    assert!(reach(&audit, &bench.id(4)).contains("acknowledged by lifeboat prune"), "{audit:#?}");
    for ago in [2, 1, 0] {
        assert_eq!(reach(&audit, &bench.id(ago)), newest, "every moment of the window is within reach");
    }
    // A day later, and by a run that was stopped when it had only answered for it.
    bench.keep_log(days(1));
    let plan = bench.prune(&lifeboat::engine::prune::Asked { dry_run: true, ..bench.asked(Span::ZERO) }).await;
    assert_eq!((plan.stores[0].log.plan.delete.len(), plan.stores[0].log.plan.holes.len()), (3, 1));
    bench.prune(&bench.asked(Span::ZERO)).await;
    let audit = audited(&bench).await;
    assert_eq!((audit.findings, audit.acknowledged.len()), (vec![], 4));
    // Something that is really missing is still found.
    let lost = seal::list_wal(&*bench.yard.store, &policy()).await.unwrap().into_iter().rev().nth(2).unwrap();
    seal::remove_wal(&*bench.yard.store, &policy(), lost).await.unwrap();
    assert!(audited(&bench).await.findings.iter().any(|finding| finding.code == "wal_hole"));
}
