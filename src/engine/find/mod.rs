//! The last moment at which a question was still answered with yes: "just before the rows vanished".
//!
//! ```text
//! what can be brought back? → which moment next (judge::search) → restore to it in a scratch → ask → destroy → … → two neighbours
//! ```
//! Each look is a run of its own in the catalog, for a scratch is owed a sweep under the name of its run.

mod ask;
mod look;
mod survey;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use self::look::Looker;
use self::survey::Ground;
use super::house::new_run;
use super::ledger::Record;
use super::restore::Request;
use super::{House, interrupt, process};
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::ids::{BackupId, PolicyName};
use crate::domain::lsn::Lsn;
use crate::domain::policy::Policy;
use crate::domain::run::{Event, RunOutcome, Work};
use crate::domain::units::Span;
use crate::judge::search::{Next, Outcome, Search, Seen, at_most};
use crate::judge::wal::Follow;
use crate::probe::Endpoint;
use crate::progress::Progress;
use crate::seal::Witness;
use crate::telemetry::run_span;
use tracing::Instrument;

/// The `schema` of what a search reports.
pub const FIND_SCHEMA: &str = "lifeboat.find/2";

/// What is sought.
#[derive(Clone, Debug)]
pub struct Asked {
    /// One statement that gives one row with one truth value.
    pub sql: String,
    /// In which database; none: the policy's.
    pub database: Option<String>,
    /// From when on, by the source's clock; none: from the earliest moment that can be brought back.
    pub since: Option<Timestamp>,
    /// Up to when; none: to the end of the log.
    pub before: Option<Timestamp>,
    /// Along which timeline.
    pub follow: Follow,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    /// [`FIND_SCHEMA`].
    pub schema: &'static str,
    /// Of which policy.
    pub policy: PolicyName,
    /// What was asked.
    pub sql: String,
    /// In which database.
    pub database: String,
    /// The first moment of the window.
    pub since: Timestamp,
    /// The last one.
    pub before: Timestamp,
    /// The most restores that the window could have taken.
    pub most_looks: u32,
    /// The timeline that was followed.
    pub timeline: u32,
    /// Whether there are others, so that a restore must be told which.
    pub timeline_matters: bool,
    /// How it ended.
    pub ending: Ending,
    /// Every restore, in order.
    pub looks: Vec<Look>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// How a search ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It held, and then not any more.
    Between {
        /// The last moment at which it held: that of `held`, or a later one to which nothing changed.
        holds_at: Timestamp,
        /// The restore that showed it.
        held: Box<Look>,
        /// The first moment at which it did not hold.
        gone_at: Timestamp,
        /// The restore that showed that.
        gone: Box<Look>,
    },
    /// It did not hold at the beginning of the window.
    Never,
    /// It still held at the end of the window.
    Still,
}

/// One restore to a moment, and the answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Look {
    /// To which moment; at the end of the log, that of the last transaction.
    pub moment: Timestamp,
    /// Whether all of the log was replayed.
    pub end_of_log: bool,
    /// From which backup.
    pub backup: BackupId,
    /// Along which timeline.
    pub timeline: u32,
    /// How many segments of the log were brought.
    pub segments: u64,
    /// Where replay ended.
    pub log_position: Lsn,
    /// When the last transaction ended that was replayed.
    pub last_replayed: Option<Timestamp>,
    /// The first transaction that was not replayed; none at the end of the log.
    pub next: Option<Transaction>,
    /// Whether it held.
    pub holds: bool,
    /// Why it did not, in words.
    pub why: Option<String>,
    /// From the first byte to the answer, in seconds.
    pub took: Span,
}

/// A transaction of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Transaction {
    /// Its identifier.
    pub xid: u64,
    /// When it ended, by the source's clock.
    pub at: Timestamp,
}

/// Why nothing was found.
#[derive(Debug)]
pub enum Trouble {
    /// The question cannot be asked of any database.
    Misasked(Broke),
    /// Something is wrong with a backup or the log, or something broke.
    Stop(Stop),
}

impl From<Stop> for Trouble {
    fn from(stop: Stop) -> Trouble {
        Trouble::Stop(stop)
    }
}

impl From<Broke> for Trouble {
    fn from(broke: Broke) -> Trouble {
        Trouble::Stop(broke.into())
    }
}

impl From<Finding> for Trouble {
    fn from(finding: Finding) -> Trouble {
        Trouble::Stop(finding.into())
    }
}

impl Trouble {
    fn outcome(&self) -> RunOutcome {
        match self {
            Trouble::Stop(Stop::Found(findings)) => RunOutcome::Found(findings.len() as u64),
            Trouble::Misasked(broke) | Trouble::Stop(Stop::Broke(broke)) => {
                RunOutcome::Broke { error: broke.error.clone(), hint: broke.hint.clone() }
            }
        }
    }
}

/// Searches, and writes it down. `request` says where backups are looked for and what opens them.
pub async fn run(
    house: &House,
    policy: &Policy,
    request: &Request,
    asked: &Asked,
    progress: &dyn Progress,
) -> Result<Found, Trouble> {
    let (run, began) = (new_run(), crate::clock::now());
    // What it reads of the stores is read back: it need not be read again to know that it is right.
    let record = Record::new(house, began, BTreeMap::from([(policy.name.clone(), Some(run))]));
    let mut watched = request.clone();
    if !request.accept_unsigned {
        watched.opener = request.opener.watched(Arc::clone(&record) as Arc<dyn Witness>);
    }
    let request = &watched;
    house.record(&policy.name, run, Event::Planned { work: Work::Find { at: None }, scheduled_for: None }).await?;
    house.record(&policy.name, run, process::started()).await?;
    let span = run_span(Some(&policy.name), run, &Work::Find { at: None });
    let found = search(house, policy, request, asked, &record, progress).instrument(span).await;
    note(&record, progress).await;
    let outcome = found.as_ref().map_or_else(Trouble::outcome, |_| RunOutcome::Succeeded);
    house.record(&policy.name, run, Event::Finished { outcome }).await?;
    found
}

/// Writes down what was read so far; an answer is not lost because that cannot be done.
async fn note(record: &Record, progress: &dyn Progress) {
    if let Err(broke) = record.flush().await {
        progress.say(&format!("warning: what was read back could not be written down: {broke}"));
    }
}

async fn search(
    house: &House,
    policy: &Policy,
    request: &Request,
    asked: &Asked,
    record: &Record,
    progress: &dyn Progress,
) -> Result<Found, Trouble> {
    progress.stage("read what the log holds");
    let ground = tokio::select! {
        ground = Ground::survey(request, asked, progress) => ground?,
        signal = interrupt::asked_to_stop() => return Err(interrupted(signal).into()),
    };
    let database = match &asked.database {
        Some(name) => name.clone(),
        None => Endpoint::parse(&policy.source.url).map_err(Broke::from)?.database,
    };
    let moments = ground.moments.clone();
    let (since, before) = (moments.at(0), moments.end().at());
    // The last second may be a part of one.
    let seconds = before.duration_since(since).as_secs_f64().ceil() as u64;
    let mut found = Found {
        schema: FIND_SCHEMA,
        policy: policy.name.clone(),
        sql: asked.sql.clone(),
        database,
        since,
        before,
        most_looks: at_most(seconds),
        timeline: ground.timeline,
        timeline_matters: ground.timeline_matters(),
        ending: Ending::Still,
        looks: Vec::new(),
        warnings: ground.warnings.clone(),
    };
    for warning in &found.warnings {
        progress.say(&format!("warning: {warning}"));
    }
    progress.say(&format!("from {since} to {before}: at most {} restores", found.most_looks));
    let mut looker = Looker { house, policy, request, ground: &ground, sql: &asked.sql, warnings: Vec::new() };
    let mut search = Search::new(moments.clone());
    // Which look showed an edge: the newest of its kind, for the edges only move towards each other.
    let (mut held, mut gone): (Option<Look>, Option<Look>) = (None, None);
    found.ending = loop {
        match search.next() {
            Next::Look(index) => {
                let look = looker.look(index, &found.database, found.looks.len() + 1, progress).await?;
                // After each: what many restores read is not held in memory.
                note(record, progress).await;
                let seen = Seen {
                    index,
                    holds: look.holds,
                    last_replayed: look.last_replayed,
                    stopped_before: look.next.map(|next| next.at),
                };
                search.tell(seen).map_err(|_| contradiction(&look))?;
                *if look.holds { &mut held } else { &mut gone } = Some(look.clone());
                found.looks.push(look);
            }
            Next::Done(Outcome::Never) => break Ending::Never,
            Next::Done(Outcome::Still) => break Ending::Still,
            Next::Done(Outcome::Between(low, high)) => {
                let both =
                    held.zip(gone).ok_or_else(|| Broke::new("the search ended without having seen both sides"))?;
                let (held, gone) = both;
                let gone_at = if moments.is_end_of_log(high) { gone.moment } else { moments.at(high) };
                break Ending::Between { holds_at: moments.at(low), held: held.into(), gone_at, gone: gone.into() };
            }
        }
    };
    found.warnings.extend(looker.warnings);
    Ok(found)
}

fn interrupted(signal: &str) -> Broke {
    Broke::hinted(format!("interrupted: the search was stopped by {signal}"), "nothing is left of it; run it again")
}

fn contradiction(look: &Look) -> Broke {
    Broke::hinted(
        format!(
            "at {} the question has another answer than before, though nothing was changed in between",
            look.moment
        ),
        "ask for what is stored only: now(), random() and the like are those of the scratch server",
    )
}
