//! What is known of each policy at a moment, in little: what metrics and alarms are made from.

use jiff::Timestamp;

use super::drift::Drift;
use super::ids::{DrillName, JobName, PolicyName, RunId};
use super::observed::Observed;
use super::policy::Method;
use super::transcript::Verdict;
use super::units::{ByteSize, Span};

/// What is known of a policy. What depends on the time of day is derived when it is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyFacts {
    /// Which.
    pub name: PolicyName,
    /// Who answers for it.
    pub owner: String,
    /// How much the business depends on it.
    pub tier: Option<String>,
    /// What is allowed to be lost.
    pub rpo: Span,
    /// How long a recovery may take.
    pub rto: Span,
    /// How old a proof may be.
    pub proof_max_age: Span,
    /// Where it stood when it was looked at.
    pub verdict: Verdict,
    /// The newest moment that the stores can bring back; none: there is no backup.
    pub brings_back: Option<Timestamp>,
    /// When its first backup that is known was durable.
    pub first_backup_at: Option<Timestamp>,
    /// Stored bytes of all its backups in all stores.
    pub stored_bytes: ByteSize,
    /// How many backups that is.
    pub backups: u64,
    /// Its backup jobs.
    pub jobs: Vec<JobFacts>,
    /// Its drills, and those that were run by hand.
    pub drills: Vec<DrillFacts>,
    /// What waits in its spool; absent: nothing, or it has none.
    pub spool: Observed<SpoolFacts>,
    /// What the newest look at drift found, and when that was; none: nobody looked.
    pub drift: Option<(Timestamp, Vec<Drift>)>,
}

/// What waits in a spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolFacts {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: ByteSize,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptState {
    /// What was to be done was done, or judged.
    Done,
    /// It could not be done.
    Broke,
    /// Its process went away.
    Abandoned,
    /// It was never begun.
    Missed,
}

/// The newest run of a job or a drill that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Which run.
    pub run: RunId,
    /// When it ended.
    pub at: Timestamp,
    /// How.
    pub state: AttemptState,
    /// From start to end.
    pub took: Option<Span>,
}

/// What is known of a backup job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobFacts {
    /// Which.
    pub name: JobName,
    /// How it takes backups.
    pub method: Method,
    /// Whether it runs by a schedule.
    pub scheduled: bool,
    /// The newest run that has ended.
    pub attempt: Option<Attempt>,
    /// The newest backup.
    pub success: Option<Success>,
}

/// A backup that is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Success {
    /// When it was durable.
    pub at: Timestamp,
    /// Plaintext.
    pub plain_bytes: ByteSize,
    /// Stored.
    pub sealed_bytes: ByteSize,
    /// How long it took.
    pub took: Span,
}

/// What is known of a drill.
#[derive(Clone, Debug, PartialEq)]
pub struct DrillFacts {
    /// Which.
    pub name: DrillName,
    /// Whether the policy names it.
    pub declared: bool,
    /// Whether it runs by a schedule.
    pub scheduled: bool,
    /// The newest run that has ended.
    pub attempt: Option<Attempt>,
    /// The newest that was judged.
    pub judged: Option<Judged>,
    /// When the newest that proved something ended.
    pub proven_at: Option<Timestamp>,
}

/// A drill that was judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Which run.
    pub run: RunId,
    /// When it ended.
    pub at: Timestamp,
    /// In one word.
    pub verdict: Verdict,
    /// What was measured.
    pub rpa: Option<Span>,
    /// See there.
    pub rta: Option<Span>,
    /// From beginning to end.
    pub took: Span,
    /// Names of the checks that found something wrong.
    pub red: Vec<String>,
    /// Names of the checks that could not be made, or saw nothing.
    pub dark: Vec<String>,
    /// When this proof is too old to be one.
    pub valid_until: Option<Timestamp>,
}

impl PolicyFacts {
    /// What would be lost now; none: there is no backup, or a clock is wrong.
    pub fn exposure(&self, now: Timestamp) -> Option<Span> {
        let exposure = Span::between(self.brings_back?, now);
        // The recovery point is by the source's clock: a little ahead of ours is no miracle, more is not to be believed.
        (exposure >= Span(-(self.rpo.0 / 10))).then(|| exposure.max(Span::ZERO))
    }

    /// Where it stands now: what was seen when it was looked at, and what has become too old since.
    pub fn verdict(&self, now: Timestamp) -> Verdict {
        if self.verdict == Verdict::Failed || self.exposure(now).is_some_and(|exposure| exposure > self.rpo) {
            return Verdict::Failed;
        }
        let old = self.drills.iter().filter(|drill| drill.declared).any(|drill| drill.expired(self.proof_max_age, now));
        if self.verdict == Verdict::Unproven || self.exposure(now).is_none() || old {
            return Verdict::Unproven;
        }
        Verdict::Proven
    }
}

impl DrillFacts {
    /// Whether its newest judgement was a proof, and is none any more.
    pub fn expired(&self, oldest: Span, now: Timestamp) -> bool {
        self.judged.as_ref().is_some_and(|judged| {
            judged.verdict == Verdict::Proven
                && (Span::between(judged.at, now) > oldest || judged.valid_until.is_none_or(|until| until < now))
        })
    }
}

/// One job and one drill, which proved ten minutes after the backup; an hour may be lost and a proof be a day old.
#[cfg(test)]
pub fn sample() -> PolicyFacts {
    use super::sample::{at, run};

    PolicyFacts {
        name: "orders".parse().unwrap(),
        owner: "dba".to_owned(),
        tier: None,
        rpo: Span::from_secs(3_600),
        rto: Span::from_secs(1_800),
        proof_max_age: Span::from_secs(86_400),
        verdict: Verdict::Proven,
        brings_back: Some(at("2026-01-01T00:00:00Z")),
        first_backup_at: Some(at("2026-01-01T00:00:00Z")),
        stored_bytes: ByteSize(7),
        backups: 1,
        jobs: vec![JobFacts {
            name: "nightly".parse().unwrap(),
            method: Method::Physical,
            scheduled: true,
            attempt: None,
            success: Some(Success {
                at: at("2026-01-01T00:00:10Z"),
                plain_bytes: ByteSize(1_000),
                sealed_bytes: ByteSize(100),
                took: Span::from_secs(10),
            }),
        }],
        drills: vec![DrillFacts {
            name: "restore-latest".parse().unwrap(),
            declared: true,
            scheduled: true,
            attempt: None,
            judged: Some(Judged {
                run: run(1),
                at: at("2026-01-01T00:10:00Z"),
                verdict: Verdict::Proven,
                rpa: Some(Span::from_secs(5)),
                rta: None,
                took: Span::from_secs(60),
                red: vec![],
                dark: vec![],
                valid_until: Some(at("2026-01-02T00:10:00Z")),
            }),
            proven_at: Some(at("2026-01-01T00:10:00Z")),
        }],
        spool: Observed::Unknown("no right".to_owned()),
        drift: None,
    }
}
