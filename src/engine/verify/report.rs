//! What came of a verification.

use jiff::Timestamp;
use serde::Serialize;

use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::ids::{BackupId, PlaceName, PolicyName};
use crate::domain::observed::Observed;
use crate::domain::policy::Method;
use crate::domain::run::RunOutcome;
use crate::domain::transcript::Verdict;
use crate::domain::units::{ByteSize, Span};

/// How deep a backup was looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    /// Not even the manifest could be read.
    Nothing,
    /// Manifest and signature; each part's length and SHA-256.
    Sealed,
    /// All that, and each part decrypted, decompressed, its plaintext's length and BLAKE3.
    Opened,
}

/// One backup in one store, read back.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verified {
    /// Where.
    pub store: PlaceName,
    /// Of which policy.
    pub policy: PolicyName,
    /// Which backup.
    pub backup: BackupId,
    /// How it was taken, if the manifest could be read.
    pub method: Option<Method>,
    /// The moment that it brings back, if the manifest could be read.
    pub recovery_point: Option<Timestamp>,
    /// How deep it was looked into.
    pub depth: Depth,
    /// Parts that were right.
    pub parts: u64,
    /// Parts that there must be.
    pub parts_of: u64,
    /// Stored bytes that were read and right.
    pub sealed_bytes: ByteSize,
    /// Plaintext that was right; none when nothing was opened.
    pub plain_bytes: ByteSize,
    /// Who signed it.
    pub signed_by: Observed<String>,
    /// Whether the configuration trusts them.
    pub signer_trusted: bool,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
    /// What was not seen, so that it is not proven: one sentence each.
    pub unproven: Vec<String>,
    /// Why reading it ended early; says nothing about the backup.
    pub broke: Option<Broke>,
    /// How long it took.
    pub took: Span,
}

/// A store that could not be read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trouble {
    /// Which store, or `catalog`.
    pub place: String,
    /// What went wrong.
    pub error: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What came of a verification.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Each backup that was looked at, by store, oldest first.
    pub backups: Vec<Verified>,
    /// What could not be reached.
    pub troubles: Vec<Trouble>,
    /// What was not seen, beside what each backup says.
    pub unproven: Vec<String>,
}

/// The word over a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// Everything was read and is right.
    NothingFound,
    /// Something is wrong with a backup.
    Found,
    /// Something could not be read.
    Broke,
    /// Nothing wrong was seen, and not everything was looked at.
    Unproven,
}

impl Report {
    /// The word over it. A finding is certain whatever else broke; nothing looked at is never good.
    pub fn conclusion(&self) -> Conclusion {
        if self.count_findings() > 0 {
            Conclusion::Found
        } else if !self.troubles.is_empty() || self.backups.iter().any(|backup| backup.broke.is_some()) {
            Conclusion::Broke
        } else if self.backups.is_empty()
            || !self.unproven.is_empty()
            || self.backups.iter().any(|backup| !backup.unproven.is_empty() || backup.depth != Depth::Opened)
        {
            Conclusion::Unproven
        } else {
            Conclusion::NothingFound
        }
    }

    /// How many findings there are.
    pub fn count_findings(&self) -> u64 {
        self.backups.iter().map(|backup| backup.findings.len() as u64).sum()
    }

    /// Takes in that a place could not be reached.
    pub(super) fn trouble(&mut self, place: impl Into<String>, broke: Broke) {
        let Broke { error, hint } = broke;
        self.troubles.push(Trouble { place: place.into(), error, hint });
    }

    /// For the catalog.
    pub(super) fn outcome(&self) -> RunOutcome {
        match self.conclusion() {
            Conclusion::NothingFound => RunOutcome::Succeeded,
            Conclusion::Found => RunOutcome::Found(self.count_findings()),
            Conclusion::Unproven => RunOutcome::Judged(Verdict::Unproven),
            Conclusion::Broke => {
                let of_backups = self.backups.iter().filter_map(|backup| backup.broke.clone());
                let of_places = self.troubles.iter().map(|trouble| Broke {
                    error: format!("{}: {}", trouble.place, trouble.error),
                    hint: trouble.hint.clone(),
                });
                let first = of_places.chain(of_backups).next();
                let Broke { error, hint } = first.unwrap_or_else(|| Broke::new("a store could not be read"));
                RunOutcome::Broke { error, hint }
            }
        }
    }
}

impl Verified {
    /// Before anything was looked at.
    pub(super) fn begin(store: &PlaceName, policy: &PolicyName, backup: &BackupId) -> Verified {
        Verified {
            store: store.clone(),
            policy: policy.clone(),
            backup: backup.clone(),
            method: None,
            recovery_point: None,
            depth: Depth::Nothing,
            parts: 0,
            parts_of: 0,
            sealed_bytes: ByteSize(0),
            plain_bytes: ByteSize(0),
            signed_by: Observed::Unknown("the manifest was not read".to_owned()),
            signer_trusted: false,
            findings: Vec::new(),
            unproven: Vec::new(),
            broke: None,
            took: Span::ZERO,
        }
    }

    /// Takes in why something stopped; a manifest that is not there is an artifact that is not there.
    pub(super) fn stopped(&mut self, stop: Stop) {
        match stop {
            Stop::Broke(broke) => {
                self.broke.get_or_insert(broke);
            }
            Stop::Found(findings) => {
                for mut finding in findings {
                    if finding.code == "manifest_missing" {
                        finding.code = "artifact_missing".to_owned();
                        finding.message =
                            format!("the catalog knows this backup in the store {}, which lacks it", self.store);
                    }
                    self.findings.push(finding);
                }
            }
        }
    }
}
