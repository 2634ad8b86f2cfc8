//! What came of copying.

use jiff::Timestamp;
use serde::Serialize;

use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::ids::{BackupId, PlaceName};
use crate::domain::run::RunOutcome;
use crate::domain::units::{ByteSize, Span};

/// How it went with one backup, or with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is in the second store now, verified there.
    Copied,
    /// It was there already.
    Already,
    /// Something is wrong with it, here or there: it was not copied.
    Found,
    /// It could not be copied; that says nothing about it.
    Broke,
}

/// One backup and one second store.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Copied {
    /// Which backup.
    pub backup: BackupId,
    /// From which store.
    pub from: PlaceName,
    /// Into which.
    pub to: PlaceName,
    /// How it went.
    pub state: State,
    /// Parts that were written.
    pub written: u64,
    /// Parts that were there already, and were read and right.
    pub there: u64,
    /// Bytes of all its objects.
    pub bytes: ByteSize,
    /// How long it took.
    pub took: Span,
    /// When all of it was durable and verified there, if that was now.
    pub durable_at: Option<Timestamp>,
    /// From the end of the backup to that moment.
    pub lag: Option<Span>,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
    /// Why it could not be copied.
    pub broke: Option<Broke>,
}

/// The log of a policy and one second store.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogCopied {
    /// From which store.
    pub from: PlaceName,
    /// Into which.
    pub to: PlaceName,
    /// How it went.
    pub state: State,
    /// Files that were written.
    pub written: u64,
    /// Files that were there already.
    pub there: u64,
    /// Bytes of the files that were written.
    pub bytes: ByteSize,
    /// How long it took.
    pub took: Span,
    /// What is wrong with files of it, here or there.
    pub findings: Vec<Finding>,
    /// Why the rest could not be copied.
    pub broke: Option<Broke>,
}

/// What came of copying.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Each backup and store that was looked at, the newest backup first.
    pub copies: Vec<Copied>,
    /// Each store that the log is copied into.
    pub logs: Vec<LogCopied>,
    /// Stores that could not be used at all.
    pub troubles: Vec<Broke>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// The word over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// Everything is in its second store.
    Whole,
    /// Something is wrong with a backup or a copy.
    Found,
    /// Something could not be copied.
    Broke,
    /// There was nothing to copy.
    Nothing,
}

impl Report {
    /// The word over it. A finding is certain, whatever else broke.
    pub fn conclusion(&self) -> Conclusion {
        let is = |wanted| {
            let copies = self.copies.iter().map(|one| one.state);
            copies.chain(self.logs.iter().map(|one| one.state)).any(|state| state == wanted)
        };
        if is(State::Found) {
            Conclusion::Found
        } else if is(State::Broke) || !self.troubles.is_empty() {
            Conclusion::Broke
        } else if self.copies.is_empty() {
            Conclusion::Nothing
        } else {
            Conclusion::Whole
        }
    }

    /// Everything that is wrong, with the place where.
    pub fn findings(&self) -> impl Iterator<Item = (String, &Finding)> {
        let of_copies = self.copies.iter().flat_map(|one| {
            let place = format!("backup {}, {} to {}", one.backup, one.from, one.to);
            one.findings.iter().map(move |finding| (place.clone(), finding))
        });
        let of_logs = self.logs.iter().flat_map(|one| {
            let place = format!("log, {} to {}", one.from, one.to);
            one.findings.iter().map(move |finding| (place.clone(), finding))
        });
        of_copies.chain(of_logs)
    }

    /// Why anything could not be copied, with the place where.
    pub fn brokes(&self) -> impl Iterator<Item = (String, &Broke)> {
        let of_copies = self.copies.iter().filter_map(|one| {
            Some((format!("backup {}, {} to {}", one.backup, one.from, one.to), one.broke.as_ref()?))
        });
        let of_logs =
            self.logs.iter().filter_map(|one| Some((format!("log, {} to {}", one.from, one.to), one.broke.as_ref()?)));
        self.troubles.iter().map(|broke| ("copy".to_owned(), broke)).chain(of_copies).chain(of_logs)
    }

    /// For the catalog.
    pub(super) fn outcome(&self) -> RunOutcome {
        match self.conclusion() {
            Conclusion::Whole | Conclusion::Nothing => RunOutcome::Succeeded,
            Conclusion::Found => RunOutcome::Found(self.findings().count().max(1) as u64),
            Conclusion::Broke => {
                let first = self.brokes().next().map(|(_, broke)| broke.clone());
                let Broke { error, hint } = first.unwrap_or_else(|| Broke::new("something could not be copied"));
                RunOutcome::Broke { error, hint }
            }
        }
    }
}

impl Copied {
    pub(super) fn begin(backup: &BackupId, from: &PlaceName, to: &PlaceName) -> Copied {
        Copied {
            backup: backup.clone(),
            from: from.clone(),
            to: to.clone(),
            state: State::Already,
            written: 0,
            there: 0,
            bytes: ByteSize(0),
            took: Span::ZERO,
            durable_at: None,
            lag: None,
            findings: Vec::new(),
            broke: None,
        }
    }

    pub(super) fn stopped(&mut self, stop: Stop) {
        match stop {
            Stop::Found(findings) => {
                self.state = State::Found;
                self.findings.extend(findings);
            }
            Stop::Broke(broke) => {
                self.state = State::Broke;
                self.broke.get_or_insert(broke);
            }
        }
    }
}

impl LogCopied {
    pub(super) fn begin(from: &PlaceName, to: &PlaceName) -> LogCopied {
        LogCopied {
            from: from.clone(),
            to: to.clone(),
            state: State::Already,
            written: 0,
            there: 0,
            bytes: ByteSize(0),
            took: Span::ZERO,
            findings: Vec::new(),
            broke: None,
        }
    }

    /// What it adds up to.
    pub(super) fn settle(&mut self) {
        self.state = match (&self.broke, self.findings.is_empty(), self.written) {
            (_, false, _) => State::Found,
            (Some(_), true, _) => State::Broke,
            (None, true, 0) => State::Already,
            (None, true, _) => State::Copied,
        };
    }
}
