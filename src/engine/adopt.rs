//! What the stores hold is taken into the catalog: after its loss, and where it was saved before the newest backups.

use jiff::Timestamp;
use serde::Serialize;

use super::House;
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::ids::{BackupId, PlaceName, PolicyName};
use crate::domain::run::ArtifactRecord;
use crate::seal::{self, SealedManifest};

/// What was taken in, and what was not.
#[derive(Debug, Default, Serialize)]
pub struct TakenIn {
    /// The stores that could be looked into.
    pub stores: Vec<StoreSeen>,
    /// Artifacts that were not known before.
    pub adopted: u64,
    /// What is wrong with artifacts; those were not taken in.
    pub findings: Vec<Found>,
    /// What could not be looked at.
    pub errors: Vec<Broke>,
}

/// A store that was looked into.
#[derive(Debug, Serialize)]
pub struct StoreSeen {
    /// Which.
    pub store: PlaceName,
    /// Where.
    pub url: String,
    /// How many backups it holds.
    pub backups: usize,
}

/// Something that is wrong with a backup.
#[derive(Debug, Serialize)]
pub struct Found {
    /// In which store.
    pub store: PlaceName,
    /// Of which policy.
    pub policy: PolicyName,
    /// Which.
    pub backup: BackupId,
    /// What.
    pub finding: Finding,
}

/// Which manifests are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Every one: what is wrong with one that is known is told too.
    All,
    /// Of those that the catalog does not know.
    Unknown,
}

/// Reads manifests in every configured store, of whatever policy, and takes in those that are good. A store that cannot be looked into does not keep the others back.
pub async fn take_in(house: &House, reads: Reads, now: Timestamp) -> Result<TakenIn, Broke> {
    let trusted = house.trusted()?;
    let (mut taken, mut records) = (TakenIn::default(), Vec::new());
    for name in house.config.stores.keys() {
        let listed = match house.store(name) {
            Ok(store) => {
                seal::list_backups(&*store, None, &trusted).await.map(|list| (store, list)).map_err(Broke::from)
            }
            Err(broke) => Err(broke),
        };
        let (store, backups) = match listed {
            Ok(listed) => listed,
            Err(broke) => {
                taken.errors.push(broke);
                continue;
            }
        };
        taken.stores.push(StoreSeen { store: name.clone(), url: store.url(), backups: backups.len() });
        let mut known: Option<(PolicyName, Vec<ArtifactRecord>)> = None;
        for (policy, backup) in backups {
            if reads == Reads::Unknown {
                if known.as_ref().is_none_or(|(of, _)| *of != policy) {
                    known = Some((policy.clone(), house.catalog.artifacts(&policy).await?));
                }
                let is = |record: &ArtifactRecord| record.backup == backup && record.store == *name;
                if known.as_ref().is_some_and(|(_, records)| records.iter().any(is)) {
                    continue;
                }
            }
            let findings = match seal::load_manifest(&*store, &policy, &backup, &trusted).await {
                Ok(sealed) => match against(&sealed) {
                    findings if findings.is_empty() => {
                        records.push(ArtifactRecord::of(&sealed.manifest, &sealed.sha256, name));
                        continue;
                    }
                    findings => findings,
                },
                Err(Stop::Found(findings)) => findings,
                Err(Stop::Broke(broke)) => {
                    taken.errors.push(broke);
                    continue;
                }
            };
            let found =
                |finding| Found { store: name.clone(), policy: policy.clone(), backup: backup.clone(), finding };
            taken.findings.extend(findings.into_iter().map(found));
        }
    }
    taken.adopted = house.catalog.adopt(now, records).await?;
    Ok(taken)
}

/// What speaks against a manifest. One that nobody trusted has signed is not taken in, or a forger could fill the catalog.
fn against(sealed: &SealedManifest) -> Vec<Finding> {
    let mut findings = sealed.findings.clone();
    if findings.is_empty() && (sealed.signed_by.known().is_none() || !sealed.signer_trusted) {
        let message = "no key that is trusted has signed it";
        findings.push(Finding::new("signer_untrusted", "manifest.json", message));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::observed::Observed;
    use crate::domain::sample;

    #[test]
    fn what_nobody_trusted_has_signed_is_not_taken_in() {
        let sealed = |signed_by, signer_trusted| SealedManifest {
            manifest: sample::manifest(),
            sha256: "00".to_owned(),
            signed_by,
            signer_trusted,
            findings: Vec::new(),
        };
        let key = || Observed::Known("key".to_owned());
        assert!(against(&sealed(key(), true)).is_empty());
        for bad in
            [sealed(key(), false), sealed(Observed::Absent, true), sealed(Observed::Unknown("?".to_owned()), true)]
        {
            assert_eq!(against(&bad).len(), 1);
        }
        let sealed = sealed(key(), true);
        let record = ArtifactRecord::of(&sealed.manifest, &sealed.sha256, &"primary".parse().unwrap());
        assert_eq!(record.recovery_point, sample::manifest().recovery_point.at);
        assert_eq!(record.plain_bytes, sample::manifest().plain_bytes());
    }
}
