//! All of a catalog, carried out of one and into another of either kind: a line a row, in an order that depends on nothing but the rows.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{PostgresCatalog, SqliteCatalog};
use crate::domain::alarm::{Alarm, Waiting};
use crate::domain::check::{Broke, Finding};
use crate::domain::config::CatalogPlace;
use crate::domain::drift::Drift;
use crate::domain::exposure::Covered;
use crate::domain::ids::{PlaceName, PolicyName, RunId};
use crate::domain::ledger::LastRead;
use crate::domain::queue::{EndedAs, Holder, Planned};
use crate::domain::run::{Event, EventId};
use crate::domain::summary::DrillSummary;

/// The format of an export.
pub const EXPORT_FORMAT: &str = "lifeboat.catalog/2";
/// What is read: the first had no alarms and letters.
pub const FORMATS_READ: [&str; 2] = ["lifeboat.catalog/1", EXPORT_FORMAT];
/// Rows that are under way between reader and writer, at most.
pub const UNDER_WAY: usize = 64;

/// One row. They come in the order of these variants, and of their keys; events in the order in which they were written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Carried {
    /// Something that happened.
    Event {
        /// Its name; none: written before events had names.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<EventId>,
        /// When.
        at: Timestamp,
        /// Of which policy.
        policy: PolicyName,
        /// Of which run.
        run: RunId,
        /// What.
        event: Box<Event>,
    },
    /// What the stores could bring back at a moment.
    Covered {
        /// Of which policy.
        policy: PolicyName,
        /// When, and how far.
        covered: Covered,
    },
    /// What was read back of an object.
    Read {
        /// Of which policy.
        policy: PolicyName,
        /// When, and what came of it.
        read: Box<LastRead>,
    },
    /// A planned run's place in the queue.
    Place {
        /// What is to be done.
        planned: Box<Planned>,
        /// How it ended; none: it has not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ended: Option<PlaceEnd>,
        /// Who does it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        holder: Option<Holder>,
    },
    /// The newest sequence number that a policy was given.
    Sequence {
        /// Which policy.
        policy: PolicyName,
        /// The number.
        given: u64,
    },
    /// The newest token that a claim was given.
    Token {
        /// The number; 0: none yet.
        given: u64,
    },
    /// An alarm as it was last decided on, with what was told of it and who took it on; those that are over too, for they are counted.
    Alarm(Box<Alarm>),
    /// A letter that no receiver has answered for. Whoever was at it is not carried: it waits.
    Letter(Box<Waiting>),
    /// What became of a notifier's letters that are done.
    Post {
        /// Whose.
        to: PlaceName,
        /// Letters that a receiver answered for.
        delivered: u64,
        /// When the last was delivered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        delivered_at: Option<Timestamp>,
        /// Letters that were given up.
        given_up: u64,
        /// When the last was given up.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        given_up_at: Option<Timestamp>,
    },
    /// What the newest look at drift found, on which alarms stand: without it they would seem to be over.
    DriftSeen {
        /// Of which policy; none: of the installation.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        policy: Option<PolicyName>,
        /// When.
        at: Timestamp,
        /// What.
        found: Vec<Drift>,
    },
}

/// How a place in the queue ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaceEnd {
    /// When, by the queue's own clock.
    pub at: Timestamp,
    /// In one word.
    pub how: EndedAs,
}

/// What an import is told.
#[derive(Debug)]
pub enum Load {
    /// A row.
    One(Carried),
    /// That was all, and it was whole: only now anything is there.
    All,
}

/// A catalog that can be carried.
#[async_trait]
pub trait Carry: Send + Sync {
    /// Sends all that there is, as of one moment. Ends early when nobody receives.
    async fn export(&self, to: mpsc::Sender<Carried>) -> Result<(), Broke>;
    /// Looks at what holds the rows, and reads each event: what is wrong with them.
    async fn inspect(&self) -> Result<Vec<Finding>, Broke>;
    /// Takes everything in, all or nothing: nothing when the rows end without [`Load::All`]. The catalog must be empty.
    async fn import(&self, from: mpsc::Receiver<Load>) -> Result<u64, Broke>;
}

/// The catalog that a configuration names, to be carried.
pub fn carry(place: &CatalogPlace) -> Result<Arc<dyn Carry>, Broke> {
    Ok(match place {
        CatalogPlace::Sqlite(path) => Arc::new(SqliteCatalog::open(path)?),
        CatalogPlace::Postgres(server) => Arc::new(PostgresCatalog::open(server)?),
    })
}

/// What an import into a catalog with something in it says.
pub(super) fn not_empty() -> Broke {
    Broke::hinted(
        "there is something in this catalog already: an import is only into an empty one",
        "name another file or another schema in [catalog]; `lifeboat catalog rebuild` adds what the stores hold",
    )
}

/// What an import whose rows broke off says.
pub(super) fn broken_off() -> Broke {
    Broke::hinted("the import was broken off, and nothing was taken in", "the reason is told beside this")
}

/// What a row that cannot be there says.
pub(super) fn bad_row(why: &str) -> Broke {
    Broke::hinted(
        format!("a row of the export cannot be taken in, so nothing was: {why}"),
        "is the file an unchanged export of `lifeboat catalog export`?",
    )
}

/// An event that cannot be read. Nothing that comes of events can be told then.
pub const UNREADABLE: &str = "event_unreadable";

/// What is told of it.
pub(super) fn unreadable(seq: i64, why: String) -> Finding {
    Finding::new(UNREADABLE, format!("event {seq}"), why)
}

/// Whether a drill in little tells what its transcript tells; what is wrong, if it does not. `summary`: as it is kept beside this event.
pub(super) fn summary_of(seq: i64, event: &Event, summary: Option<&str>) -> Option<Finding> {
    let told = summary.map(serde_json::from_str::<DrillSummary>);
    let why = match (event, told) {
        (Event::Drilled(transcript), Some(Ok(told))) if told == DrillSummary::from(&**transcript) => return None,
        (Event::Drilled(_), Some(_)) => "it tells something else than its transcript",
        (Event::Drilled(_), None) => "there is none of this drill: where its policy stands is told without it",
        (_, None) => return None,
        (_, Some(_)) => "it is of no drill",
    };
    Some(Finding::new("summary_disagrees", format!("summary {seq}"), why))
}

/// A summary of an event that is not there.
pub(super) fn summary_of_nothing(seq: i64) -> Finding {
    Finding::new("summary_disagrees", format!("summary {seq}"), "it is of no event of its policy")
}

/// Summaries of such.
pub(super) const OF_NOTHING: &str = "
    select seq from drill_summary told
    where not exists (select 1 from event where event.seq = told.seq and event.policy = told.policy) order by seq limit 20";
