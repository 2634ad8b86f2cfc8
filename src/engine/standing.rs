//! Where policies stand, by the catalog and by this machine: no source and no store is asked.

use jiff::Timestamp;

use super::{House, wal};
use crate::catalog::{Asked, Reach, Recorded};
use crate::domain::check::Broke;
use crate::domain::policy::Policy;
use crate::domain::units::Span;
use crate::domain::wal::Waiting;
use crate::judge::freshness::{self, Known, Standing};
use crate::judge::ledger::{self, Backups};
use crate::judge::spool;

/// Drills that are looked back on: weekly ones of several years.
pub const LOOK_BACK: usize = 1_000;
/// Runs of each work that are looked back on. It is the newest that has ended that counts, and not many of one work are under way at once.
const OF_EACH: usize = 10;
/// Policies that are asked for in one question: more would keep too much in memory at once.
pub const AT_ONCE: usize = 25;

/// What is asked about policies.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// How far exposure is looked back on.
    pub back: Span,
    /// Whether tests of drills and copies are wanted too.
    pub whole: bool,
}

/// Where a policy stands, and what that was judged from.
pub struct Stood<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// Where it stands.
    pub standing: Standing,
    /// What is on record of it.
    pub recorded: Recorded,
    /// How much of its backups was read back; none: nobody ever did.
    pub read_back: Option<Backups>,
    /// What waits in its spool.
    pub spool: Result<Option<Waiting>, Broke>,
}

/// Of these policies, in this order. Not more than [`AT_ONCE`] are asked for at once: who has more asks again.
pub async fn of<'a>(
    house: &House,
    policies: &[&'a Policy],
    question: Question,
    now: Timestamp,
) -> Result<Vec<Stood<'a>>, Broke> {
    let asked = |policy: &&Policy| Asked {
        policy: policy.name.clone(),
        read_since: ledger::since(policy.read_back_within, now),
    };
    let asked: Vec<Asked> = policies.iter().map(asked).collect();
    let covered_since = now.checked_sub(question.back.0).unwrap_or(Timestamp::MIN);
    let reach = Reach { look_back: LOOK_BACK, of_each: OF_EACH, covered_since, whole: question.whole };
    let recorded = house.catalog.recorded(&asked, reach).await?;
    let mut stood = Vec::with_capacity(recorded.len());
    for (policy, recorded) in policies.iter().zip(recorded) {
        let mut standing = freshness::standing(policy, known(&recorded), question.back, now);
        let read_back = ledger::of_backups(&recorded.artifacts, &recorded.shelves);
        ledger::weigh(&mut standing, read_back.as_ref());
        let spool = wal::waiting(policy).await;
        spool::weigh(&mut standing, spool.as_ref());
        stood.push(Stood { policy, standing, recorded, read_back, spool });
    }
    Ok(stood)
}

fn known(recorded: &Recorded) -> Known<'_> {
    Known {
        artifacts: &recorded.artifacts,
        coverage: &recorded.coverage,
        drills: &recorded.drills,
        runs: &recorded.runs,
    }
}
