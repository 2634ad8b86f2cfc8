//! Delivers what waits in the outbox: to each notifier its letters in their order, and to all of them side by side.

use std::collections::BTreeSet;
use std::fmt;

use futures_util::future::join_all;
use jiff::Timestamp;
use serde::Serialize;

use crate::catalog::Outbox;
use crate::catalog::outbox::Held;
use crate::domain::alarm::LetterId;
use crate::domain::check::Broke;
use crate::domain::ids::PlaceName;
use crate::domain::queue::Hold;
use crate::domain::units::Span;
use crate::domain::watch::Notifier;
use crate::judge::alarm::next_try;
use crate::notify::Carrier;

/// A letter is held for one attempt and this: who holds it longer has died over it.
const GRACE: Span = Span::from_secs(30);
/// Letters to one notifier in one go, at most: then the others of this process get their turn.
const IN_ONE_GO: usize = 100;
/// After this a letter to somebody who is not configured (any more, or on this machine) is given up.
const STRANGER: Span = Span::from_secs(3 * 86_400);

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// Which letter.
    pub letter: LetterId,
    /// To whom.
    pub to: PlaceName,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The receiver answered for it; here is what it said.
    Delivered(String),
    /// It did not arrive, and is tried again.
    PutOff {
        /// Why.
        why: String,
        /// When.
        next_try: Timestamp,
    },
    /// It did not arrive, and is not tried again.
    GivenUp(String),
    /// It took longer than it may, and somebody else is at it now. It may have arrived.
    Lost,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Delivered(answer) => write!(f, "delivered: {answer}"),
            Outcome::PutOff { why, next_try } => write!(f, "not delivered ({why}); it is tried again at {next_try:.0}"),
            Outcome::GivenUp(why) => write!(f, "given up: {why}"),
            Outcome::Lost => f.write_str("it took too long, and is tried by another"),
        }
    }
}

/// Tries every letter whose time has come. `clock`: the time of day.
pub async fn deliver(
    outbox: &dyn Outbox,
    notifiers: &[Notifier],
    clock: &(dyn Fn() -> Timestamp + Sync),
) -> Result<Vec<Delivery>, Broke> {
    let waiting = outbox.waiting(10_000).await?;
    if waiting.is_empty() {
        return Ok(Vec::new());
    }
    let carrier = Carrier::new().map_err(|error| Broke::new(error.why))?;
    let each = notifiers.iter().map(|notifier| to_one(outbox, notifier, &carrier, clock));
    let mut done = Vec::new();
    for tried in join_all(each).await {
        done.extend(tried?);
    }
    let strangers: BTreeSet<&PlaceName> = waiting
        .iter()
        .map(|one| &one.letter.to)
        .filter(|to| notifiers.iter().all(|notifier| notifier.name != **to))
        .collect();
    for to in strangers {
        done.extend(to_stranger(outbox, to, clock).await?);
    }
    Ok(done)
}

async fn to_one(
    outbox: &dyn Outbox,
    notifier: &Notifier,
    carrier: &Carrier,
    clock: &(dyn Fn() -> Timestamp + Sync),
) -> Result<Vec<Delivery>, Broke> {
    let mut done = Vec::new();
    for _ in 0..IN_ONE_GO {
        let hold = notifier.timeout.saturating_add(GRACE);
        let Some(held) = outbox.take(&notifier.name, clock(), hold).await? else { break };
        let letter = &held.waiting.letter;
        let outcome = match carrier.deliver(notifier, letter).await {
            Ok(answer) => {
                let hold = outbox.delivered(&held, clock(), &answer).await?;
                ended(hold, Outcome::Delivered(answer))
            }
            Err(undelivered) => {
                let (now, why) = (clock(), undelivered.why);
                let age = Span::between(letter.at, now);
                if undelivered.hopeless || age >= notifier.give_up_after {
                    let why = if undelivered.hopeless { why } else { format!("{why}, for {age}") };
                    give_up(outbox, &held, now, why).await?
                } else {
                    let next_try = next_try(letter.id, held.waiting.tries, undelivered.retry_after, now);
                    let hold = outbox.put_off(&held, next_try, &why).await?;
                    ended(hold, Outcome::PutOff { why, next_try })
                }
            }
        };
        done.push(Delivery { letter: letter.id, to: notifier.name.clone(), outcome });
    }
    Ok(done)
}

async fn to_stranger(
    outbox: &dyn Outbox,
    to: &PlaceName,
    clock: &(dyn Fn() -> Timestamp + Sync),
) -> Result<Option<Delivery>, Broke> {
    let now = clock();
    let Some(held) = outbox.take(to, now, GRACE).await? else { return Ok(None) };
    let why = format!("no notifier {to} is configured on this machine");
    let outcome = if Span::between(held.waiting.letter.at, now) >= STRANGER {
        give_up(outbox, &held, now, why).await?
    } else {
        let next_try = next_try(held.waiting.letter.id, held.waiting.tries, None, now);
        ended(outbox.put_off(&held, next_try, &why).await?, Outcome::PutOff { why, next_try })
    };
    Ok(Some(Delivery { letter: held.waiting.letter.id, to: to.clone(), outcome }))
}

async fn give_up(outbox: &dyn Outbox, held: &Held, now: Timestamp, why: String) -> Result<Outcome, Broke> {
    let hold = outbox.give_up(held, now, &why).await?;
    let (letter, to) = (&held.waiting.letter.id, &held.waiting.letter.to);
    tracing::error!(%letter, notifier = %to, "a letter is given up: {why}");
    Ok(ended(hold, Outcome::GivenUp(why)))
}

fn ended(hold: Hold, outcome: Outcome) -> Outcome {
    match hold {
        Hold::Held => outcome,
        Hold::Lost => Outcome::Lost,
    }
}
