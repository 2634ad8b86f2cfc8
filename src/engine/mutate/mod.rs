//! A test of a drill: the drill is repeated on copies with one known fault each, and must turn red every time.
//!
//! ```text
//! the drill as it is → must be proven → for each fault: a copy with it → the whole drill → did it turn red? → the score
//! ```
//! Nothing of this touches the store: a copy is the store seen through an [`overlay`] in memory. Each mutated drill is the user's
//! own, by the same code as always; what it says is never a proof nor a failure of the policy, because [`aside`] keeps it out of
//! the catalog.

mod artifact;
mod aside;
mod overlay;
mod pages;
mod sql;

use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;

use self::artifact::{Altered, Original};
use self::aside::Aside;
use super::{House, drill, house, interrupt, process};
use crate::clock::now;
use crate::domain::check::{Broke, Stop};
use crate::domain::drill::{Drill, KeyChoice, Pick, Step};
use crate::domain::mutation::{Baseline, Came, DrillTest, MUTATIONS_SCHEMA, Mutated, Mutation, NotMutated, Victim};
use crate::domain::policy::Policy;
use crate::domain::run::{Event, RunOutcome, Work};
use crate::domain::transcript::{Transcript, Verdict};
use crate::domain::units::Span;
use crate::judge;
use crate::judge::mutation::Ground;
use crate::progress::Progress;
use crate::telemetry::run_span;
use tracing::Instrument;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Only these; none: all that apply.
    pub only: Option<Vec<Mutation>>,
    /// What victims are chosen by.
    pub seed: u32,
}

impl Asked {
    fn mutations(&self) -> Vec<Mutation> {
        let wanted = |one: &Mutation| self.only.as_ref().is_none_or(|only| only.contains(one));
        Mutation::ALL.iter().copied().filter(wanted).collect()
    }
}

/// A mutation, and its victim or why it does not apply.
pub type Choice = (Mutation, Result<Victim, String>);

/// What applies to the backup that the drill would bring back, without doing anything.
pub async fn list(house: &House, policy: &Policy, drill: &Drill, asked: &Asked) -> Result<Vec<Choice>, Broke> {
    let house = house.of_drill(drill);
    let backup = drill::would_bring_back(&house, policy, drill).await.map_err(unusable)?;
    let original = Original::open(&house, policy, &backup).await?;
    Ok(choices(&original, drill, asked))
}

fn unusable(stop: Stop) -> Broke {
    match stop {
        Stop::Broke(broke) => broke,
        Stop::Found(findings) => {
            let what = findings.first().map_or_else(String::new, |one| format!(": {}: {}", one.object, one.message));
            Broke::hinted(format!("the backup is bad as it is{what}"), "run the drill without --mutate first")
        }
    }
}

fn choices(original: &Original<'_>, drill: &Drill, asked: &Asked) -> Vec<Choice> {
    let ground =
        Ground { manifest: &original.sealed.manifest, drill, older: original.older.as_ref(), seed: asked.seed };
    asked.mutations().into_iter().map(|one| (one, judge::mutation::choose(one, ground))).collect()
}

/// Tests a drill, and writes down what came of it.
pub async fn run(
    house: &House,
    policy: &Policy,
    drill: &Drill,
    asked: &Asked,
    progress: &dyn Progress,
) -> Result<DrillTest, Broke> {
    let run = house::new_run();
    let work = Work::Mutate { drill: drill.name.clone(), mutation: None };
    house.record(&policy.name, run, Event::Planned { work, scheduled_for: None }).await?;
    house.record(&policy.name, run, process::started()).await?;
    let span = run_span(Some(&policy.name), run, &Work::Mutate { drill: drill.name.clone(), mutation: None });
    let tested = test(&house.of_drill(drill), policy, drill, asked, progress).instrument(span).await;
    let outcome = match &tested {
        Ok(_) => RunOutcome::Succeeded,
        Err(broke) => RunOutcome::Broke { error: broke.error.clone(), hint: broke.hint.clone() },
    };
    let tested = tested.map(|test| DrillTest { run, ..test });
    if let Ok(test) = &tested {
        house.record(&policy.name, run, Event::DrillTested(Box::new(test.clone()))).await?;
    }
    house.record(&policy.name, run, Event::Finished { outcome }).await?;
    tested
}

async fn test(
    house: &House,
    policy: &Policy,
    drill: &Drill,
    asked: &Asked,
    progress: &dyn Progress,
) -> Result<DrillTest, Broke> {
    // A drill that is asked to stop ends in good order by itself; this one tells that no other is to begin.
    let mut stop = Box::pin(interrupt::asked_to_stop());
    let mut stopped = move || stop.as_mut().now_or_never();
    stopped();
    let started_at = now();
    progress.say("first the drill as it is");
    let transcript = drill::run(house, policy, drill, progress).await?;
    let mut test = begun(&transcript, asked, started_at);
    if let Some(signal) = stopped() {
        return Err(interrupted(signal));
    }
    let Some(backup) = transcript.backup.as_ref().filter(|_| test.baseline.verdict == Verdict::Proven) else {
        test.finished_at = now();
        return Ok(test);
    };
    let original = Original::open(house, policy, &backup.id).await?;
    let choices = choices(&original, drill, asked);
    let count = choices.iter().filter(|(_, chosen)| chosen.is_ok()).count();
    for (mutation, chosen) in choices {
        match chosen {
            Err(why) => test.not_mutated.push(NotMutated { what: mutation.to_string(), why }),
            Ok(victim) => {
                let told = Told { of: format!("{}/{count} {mutation}", test.mutations.len() + 1), to: progress };
                let mutated = one(house, &original, drill, mutation, victim, &told).await?;
                if let Some(signal) = stopped() {
                    return Err(interrupted(signal));
                }
                progress.say(&format!("{} {}: {}", told.of, mutated.victim.name, word(&mutated)));
                test.mutations.push(mutated);
            }
        }
    }
    test.not_mutated.extend(judge::mutation::not_mutable(drill));
    test.score = Some(judge::mutation::score(&test.mutations));
    test.finished_at = now();
    Ok(test)
}

fn begun(transcript: &Transcript, asked: &Asked, started_at: jiff::Timestamp) -> DrillTest {
    DrillTest {
        schema: MUTATIONS_SCHEMA.to_owned(),
        run: transcript.run,
        policy: transcript.policy.clone(),
        drill: transcript.drill.name.clone(),
        backup: transcript.backup.as_ref().map(|backup| backup.id.clone()),
        method: transcript.backup.as_ref().map(|backup| backup.method),
        seed: asked.seed,
        only: asked.only.clone(),
        started_at,
        finished_at: started_at,
        baseline: Baseline {
            run: transcript.run,
            verdict: transcript.judgement.verdict,
            reasons: transcript.judgement.reasons.clone(),
        },
        mutations: Vec::new(),
        not_mutated: Vec::new(),
        score: None,
    }
}

fn interrupted(signal: &str) -> Broke {
    Broke::hinted(
        format!("the test of the drill was interrupted by {signal}: it has no score"),
        "what was restored for it is removed; run it again",
    )
}

fn word(mutated: &Mutated) -> &'static str {
    match mutated.came {
        Came::Caught { .. } => "caught",
        Came::Missed { .. } => "NOT caught",
        Came::Broke { .. } => "broke",
    }
}

/// One fault on a fresh copy, and the whole drill on that.
async fn one(
    house: &House,
    original: &Original<'_>,
    drill: &Drill,
    mutation: Mutation,
    victim: Victim,
    progress: &dyn Progress,
) -> Result<Mutated, Broke> {
    let began = Instant::now();
    progress.stage("make a copy with a fault");
    // The same backup as the baseline's, whatever would be picked by now.
    let mut drill = Drill { pick: Pick::Id(original.sealed.manifest.backup.clone()), ..drill.clone() };
    if let Some(sabotage) = sql::sabotage(mutation, &victim) {
        let first = drill.steps.iter().position(|step| matches!(step, Step::Check(_) | Step::Destroy));
        drill.steps.insert(first.unwrap_or(drill.steps.len()), Step::Sabotage(sabotage));
    }
    let mut mutated = Mutated {
        mutation,
        breaks: mutation.breaks().to_owned(),
        expected: mutation.expected(),
        victim,
        red: Vec::new(),
        came: Came::Missed { why: String::new() },
        run: house::new_run(),
        took: Span::ZERO,
    };
    match Altered::make(original, mutation, &mut mutated.victim).await {
        Err(broke) => mutated.came = Came::Broke { error: broke.error, hint: broke.hint },
        Ok(altered) => {
            if altered.identity.is_some() {
                // The house of the copy has that one, and no choice.
                drill.keys = KeyChoice::Working;
            }
            let copy = house_of_copy(house, original, &drill, mutation, altered);
            let transcript = drill::run(&copy, original.policy, &drill, progress).await?;
            mutated.run = transcript.run;
            mutated.red = judge::mutation::reds(&transcript, &mutated.victim);
            mutated.came = judge::mutation::came(mutation, &transcript, &mutated.red);
        }
    }
    mutated.took = Span::from_std(began.elapsed());
    Ok(mutated)
}

/// The same house, in which one store is the altered copy, and whose catalog takes in nothing of what the drill says.
fn house_of_copy(house: &House, original: &Original<'_>, drill: &Drill, mutation: Mutation, altered: Altered) -> House {
    let mut config = house.config.clone();
    config.keys.trusted_signers.extend(altered.trusted);
    if let Some(identity) = altered.identity {
        config.keys.identities = vec![identity];
    }
    let work = Work::Mutate { drill: drill.name.clone(), mutation: Some(mutation) };
    let resigned = altered.manifest_sha256.map(|sha256| (original.sealed.manifest.backup.clone(), sha256));
    House {
        config,
        policies: Arc::clone(&house.policies),
        drills: house.drills.clone(),
        warnings: Vec::new(),
        queue: Arc::clone(&house.queue),
        catalog: Arc::new(Aside { catalog: Arc::clone(&house.catalog), work, resigned }),
        outbox: Arc::clone(&house.outbox),
        stand_ins: [(original.place.clone(), altered.store)].into(),
        only: house.only.clone(),
        buckets: Default::default(),
        fence: None,
    }
}

/// Tells which mutation is at work; what a mutated drill would say to a person is left out.
struct Told<'a> {
    of: String,
    to: &'a dyn Progress,
}

impl Progress for Told<'_> {
    fn stage(&self, what: &str) {
        self.to.stage(&format!("{}: {what}", self.of));
    }
    fn expect(&self, bytes: u64) {
        self.to.expect(bytes);
    }
    fn moved(&self, bytes: u64) {
        self.to.moved(bytes);
    }
    fn say(&self, _sentence: &str) {}
}
