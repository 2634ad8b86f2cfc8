use proptest::prelude::*;

use super::*;
use crate::domain::ledger::Shelf;
use crate::domain::policy::Method;
use crate::domain::sample;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn unit(key: u32, bytes: u64, read: Option<i64>) -> Unit<u32> {
    Unit { key, bytes, looked_at: read.map(at), right_at: read.map(at) }
}

fn keys(units: &[Unit<u32>], plan: &Plan) -> Vec<u32> {
    plan.order.iter().map(|at| units[*at].key).collect()
}

#[test]
fn the_never_read_come_first_then_the_longest_unread_then_by_key() {
    let units = [
        unit(5, 10, Some(70)),
        unit(3, 10, Some(20)),
        unit(9, 10, None),
        unit(1, 10, Some(70)),
        unit(2, 10, None),
        unit(4, 10, Some(10)),
        // Dated in a time to come: nobody can have read it then.
        unit(7, 10, Some(900)),
    ];
    let all = plan(&units, Budget::Time(Span::from_secs(1)), at(100));
    assert_eq!((keys(&units, &all), all.bytes), (vec![2, 7, 9, 4, 3, 1, 5], 70));
    for (budget, wanted) in [
        (Budget::Bytes(ByteSize(1)), vec![2]),
        (Budget::Bytes(ByteSize(10)), vec![2]),
        (Budget::Bytes(ByteSize(11)), vec![2, 7]),
        (Budget::Share(1), vec![2]),
        (Budget::Share(2_857), vec![2, 7]),
        (Budget::Share(5_000), vec![2, 7, 9, 4]),
        (Budget::Share(10_000), vec![2, 7, 9, 4, 3, 1, 5]),
        (Budget::Bytes(ByteSize(u64::MAX)), vec![2, 7, 9, 4, 3, 1, 5]),
    ] {
        assert_eq!(keys(&units, &plan(&units, budget, at(100))), wanted, "{budget:?}");
    }
    assert_eq!(plan::<u32>(&[], Budget::Share(10_000), at(1)), Plan { order: vec![], bytes: 0 });
}

#[test]
fn one_object_that_is_larger_than_the_budget_is_read_and_then_the_next() {
    let mut units = [unit(1, 1_000_000, None), unit(2, 0, None), unit(3, 1, None)];
    for (now, wanted) in [(10, 1), (20, 2), (30, 3), (40, 1)] {
        let plan = plan(&units, Budget::Bytes(ByteSize(1)), at(now));
        assert_eq!(keys(&units, &plan), [wanted]);
        units[plan.order[0]].looked_at = Some(at(now));
    }
}

#[test]
fn what_is_damaged_does_not_keep_the_others_from_their_turn() {
    // Looked at, and never right: it is read again when its turn comes, and not before.
    let wrong = Unit { key: 1, bytes: 10, looked_at: Some(at(50)), right_at: None };
    let units = [wrong, unit(2, 10, Some(40)), unit(3, 10, Some(60))];
    assert_eq!(keys(&units, &plan(&units, Budget::Share(10_000), at(100))), [2, 1, 3]);
    let covered = coverage(&units, None, at(100));
    assert_eq!((covered.never, covered.recent, covered.share), (0, 2, 6_666));
}

#[test]
fn coverage_counts_what_was_right_in_the_declared_time() {
    let units = [unit(1, 10, Some(90)), unit(2, 30, Some(40)), unit(3, 60, None), unit(4, 0, Some(500))];
    let found = coverage(&units, Some(Span::from_secs(20)), at(100));
    assert_eq!((found.objects, found.bytes.0, found.never, found.never_bytes.0), (4, 100, 1, 60));
    assert_eq!((found.recent, found.recent_bytes.0, found.share, found.oldest), (1, 10, 1_000, Some(at(40))));
    let found = coverage(&units, Some(Span::from_secs(60)), at(100));
    assert_eq!((found.recent_bytes.0, found.share), (40, 4_000));
    assert_eq!(coverage(&units, None, at(100)).share, 4_000);
    // Nearly all is not all, and an empty object that was never read keeps it from being all.
    let mut units = [unit(1, 1_000_000, Some(90)), unit(2, 1, None)];
    assert_eq!(coverage(&units, None, at(100)).share, 9_999);
    units[1] = unit(2, 0, None);
    assert_eq!(coverage(&units, None, at(100)).share, 9_999);
    assert_eq!(coverage(&units[..1], None, at(100)).share, 10_000);
    assert_eq!(coverage::<u32>(&[], None, at(100)).share, 10_000);
}

#[test]
fn a_forecast_goes_by_how_often_it_was_read_so_far() {
    let day = 86_400;
    let found = forecast(100, 10, &[at(0), at(2 * day), at(day)], at(3 * day)).unwrap();
    assert_eq!(found, Forecast { runs: 10, every: Some(Span::from_secs(10 * day)) });
    assert_eq!(forecast(101, 10, &[], at(0)), Some(Forecast { runs: 11, every: None }));
    assert_eq!(forecast(5, 10, &[], at(0)).unwrap().runs, 1);
    // The run that is under way is none of the earlier ones.
    assert_eq!(forecast(100, 10, &[at(0), at(3 * day)], at(3 * day)).unwrap().every, Some(Span::from_secs(30 * day)));
    assert_eq!(forecast(100, 10, &[at(day)], at(day)).unwrap().every, None);
    assert_eq!(forecast(100, 0, &[at(0)], at(10)), None);
    assert_eq!(forecast(u64::MAX, 1, &[at(0)], at(i64::from(u32::MAX))).unwrap().runs, u64::MAX);
}

#[test]
fn of_backups_only_what_is_known_to_be_read_counts() {
    let mut one = sample::artifact(Method::Physical, "2026-11-20T03:00:00Z", 1);
    one.sealed_bytes = ByteSize(100);
    let mut two = sample::artifact(Method::Physical, "2026-11-19T03:00:00Z", 2);
    two.sealed_bytes = ByteSize(100);
    let artifacts = [one.clone(), two];
    assert_eq!(of_backups(&artifacts, &[]), None);
    let shelf = |shelf: Shelf, recent: u64, wrong: u64| ShelfRead {
        store: one.store.clone(),
        shelf,
        objects: 1,
        bytes: ByteSize(recent),
        recent: ByteSize(recent),
        oldest: Some(at(7)),
        wrong,
    };
    let mine = || Shelf::Backup(one.backup.clone());
    let found = of_backups(&artifacts, &[shelf(mine(), 50, 0)]).unwrap();
    assert_eq!(found, Backups { share: 2_500, oldest: Some(at(7)), wrong: 0 });
    // The log's are no part of the share; what is wrong with it is told all the same.
    let found = of_backups(&artifacts, &[shelf(mine(), 900, 1), shelf(Shelf::Log, 50, 2)]).unwrap();
    assert_eq!((found.share, found.wrong), (5_000, 3));
    // What is wrong with the log is told, though nothing is known of any backup.
    let found = of_backups(&artifacts, &[shelf(Shelf::Log, 50, 2)]).unwrap();
    assert_eq!(found, Backups { share: 0, oldest: None, wrong: 2 });
    // All of it is all; of nothing nothing was read.
    let whole = of_backups(&artifacts[..1], &[shelf(mine(), 100, 0)]).unwrap();
    assert_eq!(whole.share, 10_000);
    let mut empty = one.clone();
    empty.sealed_bytes = ByteSize(0);
    assert_eq!(of_backups(&[empty], &[shelf(mine(), 0, 0)]).unwrap().share, 0);
    // What was wrong with a backup that is known no more is nobody's business.
    let gone = Shelf::Backup("20200101T000000Z-00000000".parse().unwrap());
    assert_eq!(of_backups(&artifacts, &[shelf(gone, 50, 2)]), None);
}

#[test]
fn what_was_wrong_when_it_was_read_weighs_more_than_a_good_drill() {
    let good = Standing { wrong: vec!["something small".to_owned()], ..Standing::bare(Verdict::Proven) };
    let told = |backups: Option<Backups>| {
        let mut standing = good.clone();
        weigh(&mut standing, backups.as_ref());
        standing
    };
    let wrong = |wrong| Some(Backups { share: 5_000, oldest: None, wrong });
    assert_eq!((told(None), told(wrong(0))), (good.clone(), good.clone()));
    let one = told(wrong(1));
    assert_eq!((one.verdict, one.wrong.len()), (Verdict::Failed, 2));
    assert!(one.wrong[0].starts_with("1 stored object was wrong"), "{:?}", one.wrong);
    assert!(told(wrong(2)).wrong[0].starts_with("2 stored objects were wrong"));
}

fn sizes() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(prop_oneof![0_u64..5, 0_u64..1_000, Just(16 << 20)], 1..60)
}

proptest! {
    /// With a share of all in each run, all is read in as many runs as that share goes into it, whatever the sizes.
    #[test]
    fn all_is_read_in_as_many_runs_as_the_share_promises(sizes in sizes(), share in 1_u32..=10_000) {
        let mut units: Vec<Unit<u32>> = sizes.iter().zip(0..).map(|(bytes, key)| unit(key, *bytes, None)).collect();
        for run in 0..10_000_u32.div_ceil(share) {
            let now = at(i64::from(run) + 1);
            let plan = plan(&units, Budget::Share(share), now);
            prop_assert!(!plan.order.is_empty());
            for place in plan.order {
                units[place] = Unit { looked_at: Some(now), right_at: Some(now), ..units[place] };
            }
        }
        prop_assert!(units.iter().all(|unit| unit.right_at.is_some()));
    }

    /// The order of the list does not matter, nothing is there twice, and nothing was left that had waited longer.
    #[test]
    fn a_plan_is_deterministic_and_fair(
        objects in prop::collection::vec((0_u64..100, prop::option::of(0_i64..50)), 1..40),
        budget in prop_oneof![
            (1_u32..=10_000).prop_map(Budget::Share),
            (1_u64..2_000).prop_map(|bytes| Budget::Bytes(ByteSize(bytes))),
        ],
    ) {
        let units: Vec<Unit<u32>> = objects.iter().zip(0..).map(|((bytes, read), key)| unit(key, *bytes, *read)).collect();
        let chosen = plan(&units, budget, at(40));
        let mut mirrored = units.clone();
        mirrored.reverse();
        let (keys_here, keys_there) = (keys(&units, &chosen), keys(&mirrored, &plan(&mirrored, budget, at(40))));
        prop_assert_eq!(&keys_here, &keys_there);
        let mut distinct = keys_here.clone();
        distinct.sort_unstable();
        distinct.dedup();
        prop_assert_eq!(distinct.len(), keys_here.len());
        let looked = |unit: &Unit<u32>| unit.looked_at.filter(|looked| *looked <= at(40));
        let latest = chosen.order.iter().map(|place| looked(&units[*place])).max().unwrap();
        let left = units.iter().filter(|unit| !keys_here.contains(&unit.key));
        prop_assert!(left.map(looked).all(|waited| waited >= latest));
    }

    /// An object that has just come is read before any that was ever looked at.
    #[test]
    fn what_is_new_comes_first(old in prop::collection::vec(0_i64..50, 1..20), new in 1_usize..5) {
        let mut units: Vec<Unit<u32>> = old.iter().zip(100..).map(|(read, key)| unit(key, 10, Some(*read))).collect();
        units.extend((0..new).map(|key| unit(1_000 + u32::try_from(key).unwrap(), 10, None)));
        let all = plan(&units, Budget::Time(Span::from_secs(1)), at(60));
        prop_assert!(keys(&units, &all)[..new].iter().all(|key| *key >= 1_000));
    }
}

#[test]
fn what_was_read_back_counts_whole_right_and_lately_or_not_at_all() {
    let read = |key: &str, sealed: Option<i64>| LastRead {
        store: "far".parse().unwrap(),
        shelf: Shelf::Log,
        key: key.to_owned(),
        bytes: ByteSize(7),
        sealed_at: sealed.map(at),
        opened_at: None,
        run: None,
        wrong: None,
    };
    let objects = [("a".to_owned(), Some(7)), ("b".to_owned(), None)];
    let within = Some(Span::from_secs(100));
    let judged = |all: &[LastRead], within| read_back(&objects, all, within, at(1_000));
    let both = [read("a", Some(950)), read("b", Some(900))];
    assert_eq!(judged(&both, within), ReadBack::Lately(at(900)));
    let not = |all: &[LastRead], within| match judged(all, within) {
        ReadBack::Not(why) => why,
        other => panic!("{other:?}"),
    };
    assert!(not(&both, None).contains("no time is declared"));
    assert!(not(&both[..1], within).contains("1 of its 2 objects"));
    assert!(not(&[read("a", Some(950)), read("b", Some(899))], within).contains("within"), "too long ago");
    assert!(not(&[read("a", Some(950)), read("b", Some(1_001))], within).contains("1 of"), "dated in a time to come");
    assert!(not(&[read("a", Some(950)), read("b", None)], within).contains("1 of"));
    let longer = LastRead { bytes: ByteSize(8), ..read("a", Some(950)) };
    assert!(not(&[longer, both[1].clone()], within).contains("1 of"), "another object of that name");
    assert!(matches!(read_back(&[], &both, within, at(1_000)), ReadBack::Not(_)), "nothing is not all");
    let finding = crate::domain::check::Finding::new("part_hash", "part a", "wrong");
    let wrong = Wrong { since: at(960), at: at(970), depth: Depth::Sealed, run: None, finding };
    let bad = LastRead { wrong: Some(wrong.clone()), ..read("a", Some(950)) };
    for within in [within, None] {
        assert_eq!(
            judged(&[bad.clone(), both[1].clone()], within),
            ReadBack::Wrong(Box::new(wrong.clone()), "a".to_owned())
        );
    }
}
