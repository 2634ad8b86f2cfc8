//! Second places, locks and retention: what other judges found, as drift.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::of;
use crate::domain::drift::{Drift, Severity};
use crate::domain::ids::PlaceName;
use crate::domain::immutability::Immutability;
use crate::domain::observed::Observed;
use crate::domain::policy::Policy;
use crate::domain::units::Span;
use crate::judge::retention::Plan;

/// A trial of a lock that is older than this proves nothing any more.
pub const TRIAL_HOLDS: Span = Span::from_secs(30 * 86_400);

/// Whether a store withstands deletion, by the newest trial of it.
pub fn withstands(at: Timestamp, found: &Observed<Immutability>, now: Timestamp) -> Observed<bool> {
    let age = Span::between(at, now);
    match found {
        _ if age > TRIAL_HOLDS => Observed::Unknown(format!("deleting from it was last tried {age} ago")),
        Observed::Known(tried) => Observed::Known(tried.holds()),
        Observed::Absent => Observed::Absent,
        Observed::Unknown(why) => Observed::Unknown(why.clone()),
    }
}

/// The stores that are said to be locked, against what came of trying.
pub fn locks(
    policy: &Policy,
    locked: impl IntoIterator<Item = PlaceName>,
    tried: &BTreeMap<PlaceName, Observed<bool>>,
) -> Vec<Drift> {
    let locked: Vec<PlaceName> = locked.into_iter().collect();
    let declared = policy.lock.as_ref().map(|lock| format!("{} for {}", lock.mode.as_str(), lock.keep));
    let mut found = Vec::new();
    if let (Some(declared), true) = (&declared, locked.is_empty()) {
        let drift = of(policy, "lock_nowhere", Severity::Critical, "[lock]");
        let drift = drift.saying(format!("what is stored is locked, {declared}"), "no store of the policy is locked");
        found.push(drift.mended_by("write locked = true for a store with object lock; or leave [lock] out"));
    }
    for name in locked {
        let object = format!("store {name}");
        let declared = match &declared {
            Some(declared) => format!("nobody can delete from it, {declared}"),
            None => "nobody can delete from it".to_owned(),
        };
        let again = "try it: lifeboat check --immutability";
        let drift = match tried.get(&name) {
            Some(Observed::Known(true)) => continue,
            Some(Observed::Known(false)) => of(policy, "lock_failed", Severity::Critical, object)
                .saying(declared, "it does not withstand deletion: something was destroyed when it was tried, or the bucket has no lock")
                .mended_by("see which: lifeboat check --immutability; then take the right away, or make a bucket with object lock (docs/s3.md)"),
            Some(Observed::Absent) => of(policy, "lock_unproven", Severity::Unproven, object)
                .saying(declared, "its service knows no object lock")
                .mended_by("keep a copy in a bucket of a service that does: docs/s3.md"),
            Some(Observed::Unknown(why)) => {
                of(policy, "lock_unproven", Severity::Unproven, object).saying(declared, why.clone()).mended_by(again)
            }
            None => of(policy, "lock_unproven", Severity::Unproven, object)
                .saying(declared, "deleting from it was never tried")
                .mended_by(again),
        };
        found.push(drift);
        if policy.lock.is_none() {
            let drift = of(policy, "lock_undeclared", Severity::Warning, format!("store {name}"));
            let drift =
                drift.saying("it is locked", "the policy does not say for how long: the bucket's own default counts");
            found.push(drift.mended_by("write [lock] mode = \"compliance\", keep = \"30d\" in the policy"));
        }
    }
    found
}

/// What stands against the declared retention in a store. A policy that never took as many backups as it is to keep does not fall short
/// of them yet (`taken`); and of what else a prune finds, others tell: drills, manifests, stores.
pub fn retention(policy: &Policy, place: &PlaceName, plan: &Plan, taken: usize) -> Vec<Drift> {
    let wanted: u32 = policy.backups.iter().filter_map(|job| Some(job.retention.as_ref()?.at_least)).sum();
    let young = taken < usize::try_from(wanted).unwrap_or(usize::MAX);
    let findings = plan.findings.iter().filter(|finding| !young && finding.code == "retention_shortfall");
    let standstill = plan.standstill.iter().filter(|finding| finding.code.starts_with("clock_"));
    let found = findings.map(|finding| {
        let drift = of(policy, &finding.code, Severity::Warning, format!("{place}: {}", finding.object));
        let drift = drift.saying("backups are kept as the policy's retention says", finding.message.clone());
        drift.mended_by(format!("lifeboat prune {} --dry-run tells what is kept, and why", policy.name))
    });
    let still = standstill.map(|finding| {
        let drift = of(policy, "retention_stands_still", Severity::Warning, format!("store {place}"));
        let drift = drift.saying("what no retention keeps is deleted", finding.message.clone());
        drift.mended_by(format!("lifeboat prune {} --dry-run tells more", policy.name))
    });
    found.chain(still).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::bucket::{Lock, LockMode};
    use crate::domain::check::Finding;
    use crate::domain::immutability::Attempt;
    use crate::domain::policy::Retention;
    use crate::domain::sample::{self, at};

    fn tried(withstood: bool) -> Observed<Immutability> {
        let attempt = Attempt { what: "delete".into(), withstood, answer: "AccessDenied".into() };
        Observed::Known(Immutability { versioning: true, locking: true, attempts: vec![attempt] })
    }

    #[test]
    fn a_trial_proves_something_for_thirty_days() {
        let (then, soon, late) = (at("2026-01-01T00:00:00Z"), at("2026-01-31T00:00:00Z"), at("2026-01-31T00:00:01Z"));
        assert_eq!(withstands(then, &tried(true), soon), Observed::Known(true));
        assert_eq!(withstands(then, &tried(false), soon), Observed::Known(false));
        assert!(matches!(withstands(then, &tried(true), late), Observed::Unknown(_)));
        assert_eq!(withstands(then, &Observed::Absent, soon), Observed::Absent);
        let none = Observed::Known(Immutability { versioning: false, locking: true, attempts: vec![] });
        assert_eq!(withstands(then, &none, soon), Observed::Known(false));
    }

    #[test]
    fn a_lock_is_drift_until_it_was_seen_to_hold() {
        let mut policy = sample::policy();
        policy.lock = Some(Lock { mode: LockMode::Compliance, keep: Span::from_secs(86_400) });
        let far: PlaceName = "far".parse().unwrap();
        let codes = |locked: &[PlaceName], tried: Option<Observed<bool>>, policy: &Policy| -> Vec<(String, Severity)> {
            let tried = tried.map(|tried| (far.clone(), tried)).into_iter().collect();
            locks(policy, locked.to_vec(), &tried).into_iter().map(|drift| (drift.code, drift.severity)).collect()
        };
        let one = [far.clone()];
        assert_eq!(codes(&one, Some(Observed::Known(true)), &policy), []);
        for (seen, code, severity) in [
            (Some(Observed::Known(false)), "lock_failed", Severity::Critical),
            (Some(Observed::Absent), "lock_unproven", Severity::Unproven),
            (Some(Observed::Unknown("x".into())), "lock_unproven", Severity::Unproven),
            (None, "lock_unproven", Severity::Unproven),
        ] {
            assert_eq!(codes(&one, seen, &policy), [(code.to_owned(), severity)]);
        }
        assert_eq!(codes(&[], None, &policy), [("lock_nowhere".to_owned(), Severity::Critical)]);
        policy.lock = None;
        assert_eq!(codes(&[], None, &policy), []);
        let undeclared = codes(&one, Some(Observed::Absent), &policy);
        assert_eq!(undeclared[1], ("lock_undeclared".to_owned(), Severity::Warning));
    }

    #[test]
    fn what_stands_against_retention_is_told_with_its_place() {
        let place: PlaceName = "primary".parse().unwrap();
        let mut policy = sample::policy();
        policy.backups.truncate(1);
        policy.backups[0].retention = Some(Retention { at_least: 3, ..Retention::default() });
        let plan = Plan {
            backups: Vec::new(),
            findings: vec![Finding::new("retention_shortfall", "job nightly", "2 are there, 3 are to be")],
            standstill: vec![
                Finding::new("nothing_proven", "policy", "no drill proved any"),
                Finding::new("clock_jump", "clock", "it is a year ahead"),
            ],
        };
        let told = |taken: usize| -> Vec<(String, String)> {
            let found = retention(&policy, &place, &plan, taken);
            found.into_iter().map(|drift| (drift.code, drift.object)).collect()
        };
        let still = ("retention_stands_still".to_owned(), "store primary".to_owned());
        let short = ("retention_shortfall".to_owned(), "primary: job nightly".to_owned());
        assert_eq!(told(3), [short.clone(), still.clone()], "just as many");
        assert_eq!(told(5), [short, still.clone()]);
        assert_eq!(told(2), [still], "it has not taken as many yet");
    }
}
