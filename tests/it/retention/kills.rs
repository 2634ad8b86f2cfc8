//! Stopped at every step: the store is consistent, and the next prune comes to the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use lifeboat::domain::policy::Retention;
use lifeboat::domain::units::Span;
use lifeboat::engine::prune::Asked;
use lifeboat::engine::verify::Conclusion;
use lifeboat::seal;

use super::bench::{Bench, Odd, days, first_segment};
use super::life::conclusion;
use super::log::audited;
use crate::support::artifacts::policy;

async fn bench() -> Bench {
    let mut bench = Bench::new(Retention { keep: Some(days(3)), daily: 1, at_least: 1, ..Retention::default() });
    bench.keep_log(days(1));
    bench.take_days((0..5).rev()).await;
    bench.push(first_segment(4) - 1..first_segment(0) + 2).await;
    bench.yard.seal_bytes(&format!("{}/{}", policy(), bench.id(40)), 1_000, vec![7; 1_500]).await;
    bench
}

fn asked(bench: &Bench) -> Asked {
    Asked { orphans_after: Span::ZERO, ..bench.asked(Span::ZERO) }
}

/// All that must hold whatever was come to.
async fn consistent(bench: &Bench, step: i64) {
    let counted = bench.counted().await;
    assert!([vec![4, 3, 2, 1, 0], vec![3, 2, 1, 0], vec![2, 1, 0]].contains(&counted), "step {step}: {counted:?}");
    for ago in counted {
        let loaded = seal::load_manifest(&*bench.yard.store, &policy(), &bench.id(ago), &bench.yard.trusted).await;
        assert!(loaded.unwrap().findings.is_empty(), "step {step}");
    }
    assert_eq!(conclusion(bench).await, Conclusion::NothingFound, "step {step}");
    let audit = audited(bench).await;
    assert_eq!((audit.findings, audit.missing), (vec![], vec![]), "step {step}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_at_the_nth_question_whichever_it_is() {
    // Undisturbed: what comes of it, and how many questions that takes.
    let right = bench().await;
    let whole = Arc::new(Odd::over(right.yard.store.clone()));
    for _ in 0..3 {
        let pruned = right.prune_through(whole.clone(), &asked(&right), lifeboat::clock::now()).await.unwrap();
        assert!(!pruned.broke() && pruned.against() == 0, "{pruned:#?}");
    }
    let names = |bench: &Bench, keys: Vec<String>| -> Vec<String> {
        let holes = |key: &String| !key.contains(".hole");
        let short =
            |key: String| (0..5).fold(key, |key, ago| key.replace(bench.id(ago).as_str(), &format!("day-{ago}")));
        keys.into_iter().filter(holes).map(short).collect()
    };
    let wanted = names(&right, right.keys().await);
    assert_eq!(right.counted().await, [2, 1, 0]);
    consistent(&right, -1).await;

    // The first prune deletes and takes log away, the second one removes.
    for round in 0..2 {
        let (mut step, mut stopped) = (0, 0);
        loop {
            let bench = bench().await;
            if round == 1 {
                bench.prune(&asked(&bench)).await;
            }
            // Until the first object is written or deleted it only looks: there a few steps are enough.
            let looks = Arc::new(Odd::over(bench.yard.store.clone()));
            let dry = Asked { dry_run: true, ..asked(&bench) };
            bench.prune_through(looks.clone(), &dry, lifeboat::clock::now()).await.unwrap();
            let looks = i64::try_from(looks.asked.load(Ordering::SeqCst)).unwrap();
            if step < looks {
                step = (step + 9).min(looks);
            }
            let odd = Arc::new(Odd { left: AtomicI64::new(step), ..Odd::over(bench.yard.store.clone()) });
            let ended = bench.prune_through(odd.clone(), &asked(&bench), lifeboat::clock::now()).await;
            let came_through = odd.left.load(Ordering::SeqCst) >= 0;
            consistent(&bench, step).await;
            if came_through {
                assert!(!ended.unwrap().broke());
            } else {
                stopped += 1;
                // A lock that could not be asked for is a finding, all else is an error.
                assert!(
                    ended.is_ok_and(|pruned| pruned.broke() || pruned.against() > 0),
                    "step {step}: it must be said"
                );
            }
            for _ in 0..3 {
                let next = bench.prune(&asked(&bench)).await;
                assert!(!next.broke() && next.against() == 0, "step {step}: {next:#?}");
            }
            consistent(&bench, step).await;
            assert_eq!(names(&bench, bench.keys().await), wanted, "step {step}");
            assert_eq!(bench.offered().await, [2, 1, 0], "step {step}");
            if came_through {
                break;
            }
            step += 1;
        }
        assert!(stopped > 20, "round {round}: {stopped} steps");
    }
}
