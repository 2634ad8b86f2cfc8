//! Terms of scheduled runs (in policies), and `[schedule]`, `[serve]`, `[worker]` (in `lifeboat.toml`).

use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::ids::PlaceName;
use crate::domain::ledger::Budget;
use crate::domain::units::Span;
use crate::load::format::{Clock, When, Words, Written, Zone};

/// A part of the day in which drills may be begun.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawWindow {
    /// From this time on, by the wall clock of the schedule's time zone.
    pub(in crate::load) from: Written<Clock>,
    /// Until this time; when it is not after `from`, that of the next day.
    pub(in crate::load) to: Written<Clock>,
    /// On which days it opens. Default: every day.
    #[serde(default)]
    pub(in crate::load) days: Vec<RawDay>,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::load) enum RawDay {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

/// What is done for every policy by schedule. Nothing of it unless it is asked for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawSchedule {
    /// When what no retention keeps is deleted (`lifeboat prune`): five cron fields, @daily, or "every 6h". Left out: never.
    pub(in crate::load) prune: Option<Written<When>>,
    /// When what is missing in second stores is copied (`lifeboat copy`). Left out: only after each backup.
    pub(in crate::load) copy: Option<Written<When>>,
    /// When a part of all that is stored is read back (`lifeboat verify --budget`). Left out: never.
    pub(in crate::load) verify: Option<Written<When>>,
    /// How much is read back each time. Default: 5%.
    pub(in crate::load) verify_budget: Option<Written<Budget>>,
    /// When what is declared is compared with what is there (`lifeboat drift`); what is found is in metrics and alarms. Left out: never.
    pub(in crate::load) drift: Option<Written<When>>,
    /// The IANA time zone of these. Default: UTC.
    pub(in crate::load) timezone: Option<Written<Zone>>,
    /// Spreads these over so much time, so that not all policies come at once. Default: 15m.
    pub(in crate::load) jitter: Option<Written<Span>>,
    /// How often a run that broke, was abandoned or proved nothing is done at all, the first time included. Default: 3.
    #[schemars(range(min = 1, max = 10))]
    pub(in crate::load) attempts: Option<u8>,
    /// How long after its end it is tried again; twice as long after each further attempt. Default: 5m.
    pub(in crate::load) backoff: Option<Written<Span>>,
}

/// How much this machine does (`lifeboat serve`, `lifeboat worker`).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawServe {
    /// Where metrics and health are answered: an address and a port, or unix:PATH. Default: 127.0.0.1:9464, which only this machine can reach.
    pub(in crate::load) listen: Option<Written<Words>>,
    /// Whether `listen` may be an address that other machines reach. There is no log-in: whoever gets there reads all metrics. Default: false.
    pub(in crate::load) exposed: Option<bool>,
    /// Runs at once. 0: `lifeboat serve` only plans. Default: 4.
    #[schemars(range(min = 0, max = 64))]
    pub(in crate::load) workers: Option<u8>,
    /// Backups at once. Default: 2.
    #[schemars(range(min = 0, max = 64))]
    pub(in crate::load) backups: Option<u8>,
    /// Drills at once. Default: 1.
    #[schemars(range(min = 0, max = 64))]
    pub(in crate::load) drills: Option<u8>,
    /// Prunes, copies, verifications and looks at drift at once. Default: 1.
    #[schemars(range(min = 0, max = 64))]
    pub(in crate::load) housekeeping: Option<u8>,
    /// How long what runs may take to its end when the service is asked to stop. Default: 10m.
    pub(in crate::load) drain: Option<Written<Span>>,
    /// How long after its last sign of life a worker is taken for gone. Default: 1m.
    pub(in crate::load) lease: Option<Written<Span>>,
}

/// What this machine offers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawWorker {
    /// Labels that backups and drills can need, such as "pg17" or "big-disk".
    #[serde(default)]
    pub(in crate::load) labels: Vec<Written<PlaceName>>,
}
