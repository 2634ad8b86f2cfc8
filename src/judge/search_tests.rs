use proptest::prelude::*;

use super::*;

fn at(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(1_700_000_000_000_000 + micros).unwrap()
}

fn one(from: i64, last: i64) -> Reachable {
    Reachable { from: at(from), last: at(last) }
}

fn all(moments: &Moments) -> Vec<i64> {
    (0..moments.count()).map(|index| moments.at(index).duration_since(at(0)).as_micros() as i64).collect()
}

const S: i64 = 1_000_000;

#[test]
fn moments_are_whole_seconds_and_the_two_ends() {
    let found = window(&[one(S / 2, 3 * S + 1)], None, None).unwrap();
    assert_eq!(all(&found.moments), [S / 2, S, 2 * S, 3 * S, 3 * S + 1]);
    assert!(found.moments.is_end_of_log(4) && !found.moments.is_end_of_log(3) && found.warnings.is_empty());
    let found = window(&[one(0, 9 * S)], Some(at(S)), Some(at(2 * S + 5))).unwrap();
    assert_eq!((all(&found.moments), found.moments.end()), (vec![S, 2 * S, 2 * S + 5], End::At(at(2 * S + 5))));
    assert!(!found.moments.is_end_of_log(2));
    // The last commit itself is brought back by the whole log alone.
    let found = window(&[one(0, 2 * S)], None, Some(at(2 * S))).unwrap();
    assert_eq!((all(&found.moments), found.moments.end()), (vec![0, S, 2 * S], End::OfLog(at(2 * S))));
}

#[test]
fn what_cannot_be_brought_back_is_left_out_and_said() {
    let hole = [one(0, 2 * S), one(10 * S, 12 * S), one(S, 2 * S)];
    let found = window(&hole, Some(at(-5)), Some(at(99 * S))).unwrap();
    assert_eq!(all(&found.moments), [0, S, 10 * S, 11 * S, 12 * S]);
    assert!(found.warnings[0].contains("nothing before") && found.warnings[1].contains("goes to"), "{found:?}");
    // Both ends in the hole, or one.
    assert!(window(&hole, Some(at(3 * S)), Some(at(9 * S))).is_err());
    let found = window(&hole, Some(at(S)), Some(at(9 * S))).unwrap();
    assert_eq!((all(&found.moments), found.warnings.len()), (vec![S, 2 * S - 1], 1));
    let found = window(&hole, Some(at(3 * S)), None).unwrap();
    assert_eq!((all(&found.moments), found.warnings.len()), (vec![10 * S, 11 * S, 12 * S], 1));
    // A later backup closes it.
    let closed = [one(0, 2 * S), one(2 * S, 4 * S)];
    assert_eq!(all(&window(&closed, None, None).unwrap().moments), [0, S, 2 * S, 3 * S, 4 * S]);
    assert!(window(&[], None, None).is_err() && window(&[one(5, 5)], None, None).is_err());
    assert!(window(&closed, Some(at(5 * S)), None).is_err() && window(&closed, None, Some(at(-1))).is_err());
}

#[test]
fn the_edges_of_what_can_be_brought_back_are_exact() {
    let hole = [one(0, 2 * S), one(10 * S, 12 * S)];
    // A backup without a commit behind it adds no moment, and is not the end.
    let found = window(&[hole[0], one(10 * S, 10 * S)], None, None).unwrap();
    assert_eq!((found.moments.end(), found.warnings), (End::OfLog(at(2 * S)), vec![]));
    // Asked for from the first moment to the last: nothing is smaller than that.
    assert_eq!(window(&hole, Some(at(0)), Some(at(12 * S))).unwrap().warnings, Vec::<String>::new());
    // The last commit before a hole comes back with none that is behind it.
    let found = window(&hole, None, Some(at(2 * S))).unwrap();
    assert_eq!((all(&found.moments), found.warnings.len()), (vec![0, S, 2 * S - 1], 1));
    // Of a stretch of one microsecond its beginning alone comes back.
    let short = [hole[0], one(5 * S, 5 * S + 1), hole[1]];
    assert_eq!(all(&window(&short, None, Some(at(8 * S))).unwrap().moments), [0, S, 5 * S]);
    // The first moment behind a hole is one.
    let found = window(&hole, None, Some(at(10 * S))).unwrap();
    assert_eq!((all(&found.moments), found.warnings.len()), (vec![0, S, 10 * S], 0));
}

#[test]
fn the_first_moment_that_is_not_before_another_is_found() {
    let hole = [one(0, 2 * S), one(10 * S, 12 * S)];
    let moments = window(&hole, None, Some(at(11 * S + 5))).unwrap().moments;
    assert_eq!(all(&moments), [0, S, 10 * S, 11 * S, 11 * S + 5]);
    for (asked, index) in [
        (-1, 0),
        (0, 0),
        (1, 1),
        (S, 1),
        (S + 1, 2),
        (5 * S, 2),
        (10 * S, 2),
        (10 * S + 1, 3),
        (11 * S, 3),
        (11 * S + 1, 4),
        (11 * S + 5, 4),
        (11 * S + 6, 5),
    ] {
        assert_eq!(moments.first_from(at(asked)), index, "{asked}");
    }
    // The end of the log is behind every moment.
    let moments = window(&hole, None, None).unwrap().moments;
    for (asked, index) in [(11 * S, 3), (11 * S + 1, 4), (12 * S, 4), (99 * S, 4)] {
        assert_eq!(moments.first_from(at(asked)), index, "{asked}");
    }
}

/// A log: when its transactions ended, in its order; and how many of them leave it true.
struct World {
    log: Vec<i64>,
    good: usize,
}

impl World {
    /// How many are replayed: a server stops at the first that is later.
    fn replayed(&self, moments: &Moments, index: u64) -> usize {
        let until = moments.at(index);
        let stop = self.log.iter().position(|ended| at(*ended) > until).filter(|_| !moments.is_end_of_log(index));
        stop.unwrap_or(self.log.len())
    }

    fn look(&self, moments: &Moments, index: u64, silent: bool) -> Seen {
        let replayed = self.replayed(moments, index);
        let time = |place: Option<usize>| place.and_then(|place| self.log.get(place)).map(|ended| at(*ended));
        let (last, stop) = (time(replayed.checked_sub(1)), time(Some(replayed)));
        Seen {
            index,
            holds: replayed <= self.good,
            last_replayed: last.filter(|_| !silent),
            stopped_before: stop.filter(|_| !silent),
        }
    }

    /// Searches, and holds what is said against what is; gives the number of restores.
    fn search(&self, moments: &Moments, silent: bool) -> u32 {
        let mut search = Search::new(moments.clone());
        let mut asked = std::collections::BTreeSet::new();
        let holds = |index| self.replayed(moments, index) <= self.good;
        for looked in 0..10_000 {
            match search.next() {
                Next::Look(index) => {
                    assert!(asked.insert(index), "{index} is asked for twice");
                    search.tell(self.look(moments, index, silent)).unwrap();
                }
                Next::Done(Outcome::Never) => return looked.max(u32::from(holds(0)) * 10_000),
                Next::Done(Outcome::Still) => {
                    assert!(holds(moments.count() - 1));
                    return looked;
                }
                Next::Done(Outcome::Between(low, high)) => {
                    assert!(low + 1 == high && holds(low) && !holds(high));
                    return looked;
                }
            }
        }
        panic!("it does not end");
    }
}

proptest! {
    #[test]
    fn the_answer_is_right_and_takes_no_more_restores_than_promised(
        mut log in proptest::collection::vec(-5 * S..400 * S, 1..60), good in 0..62_usize,
        from in 0..200 * S, length in 1..200 * S, silent in any::<bool>(), to_the_end in any::<bool>(),
    ) {
        log.sort_unstable();
        let last = (from + length).max(log[log.len() - 1]);
        log.push(last);
        let until = (!to_the_end).then(|| at(from + length));
        let moments = window(&[one(-9 * S, last)], Some(at(from)), until).unwrap().moments;
        let world = World { good: good.min(log.len()), log };
        let end = if to_the_end { last } else { from + length };
        let seconds = (end - from + S - 1) / S;
        prop_assert!(world.search(&moments, silent) <= at_most(seconds as u64), "{:?}", moments);
    }

    /// Commits stand in the log nearly in the order of their times; clocks are set back. The answer is right all the same.
    #[test]
    fn disorder_costs_restores_and_not_the_answer(
        log in proptest::collection::vec(-5 * S..300 * S, 1..40), good in 0..42_usize, from in 0..100 * S,
    ) {
        let last = *log.iter().max().unwrap();
        prop_assume!(last > from);
        let moments = window(&[one(-9 * S, last)], Some(at(from)), None).unwrap().moments;
        let world = World { good: good.min(log.len()), log };
        prop_assert!(world.search(&moments, false) < 100);
    }

    #[test]
    fn holes_are_stepped_over(
        log in proptest::collection::vec(0..100 * S, 1..40), good in 0..42_usize,
        cuts in proptest::collection::vec(0..100 * S, 2..8),
    ) {
        let mut log = log;
        log.sort_unstable();
        let mut cuts = cuts;
        cuts.sort_unstable();
        let reachable: Vec<Reachable> = cuts.chunks(2).filter(|pair| pair.len() == 2).map(|pair| one(pair[0], pair[1])).collect();
        let Ok(found) = window(&reachable, None, None) else { return Ok(()) };
        let world = World { good: good.min(log.len()), log };
        prop_assert!(world.search(&found.moments, true) < 100);
    }
}

#[test]
fn a_quiet_log_takes_few_restores() {
    // A day without a commit but one in the middle.
    let world = World { log: vec![S, 43_200 * S + 5, 86_400 * S], good: 1 };
    let moments = window(&[one(0, 86_400 * S)], None, None).unwrap().moments;
    assert!(world.search(&moments, false) <= 3);
    assert!((16..=19).contains(&world.search(&moments, true)));
}

#[test]
fn a_window_is_halved_and_its_ends_are_looked_at() {
    for (seconds, restores) in [(0, 2), (1, 2), (2, 3), (3, 4), (4, 4), (86_400, 19)] {
        assert_eq!(at_most(seconds), restores, "{seconds}");
    }
}

#[test]
fn two_answers_of_one_state_are_a_contradiction() {
    let moments = window(&[one(0, 100 * S)], None, None).unwrap().moments;
    let mut search = Search::new(moments);
    let seen = |index, holds, stop| Seen { index, holds, last_replayed: None, stopped_before: Some(at(stop)) };
    assert_eq!(search.next(), Next::Look(50));
    search.tell(seen(50, false, 60 * S)).unwrap();
    assert_eq!(search.next(), Next::Look(25));
    assert_eq!(search.tell(seen(25, true, 60 * S)), Err(Contradiction));
}
