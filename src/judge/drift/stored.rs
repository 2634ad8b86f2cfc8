//! What the stores hold, and what was read back from them.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{NAMED, of};
use crate::domain::check::{Broke, Finding};
use crate::domain::drift::{Drift, Severity};
use crate::domain::ids::{BackupId, PlaceName};
use crate::domain::ledger::LastRead;
use crate::domain::policy::Policy;
use crate::domain::units::{ByteSize, Span};
use crate::judge::ledger::{Unit, since};

/// A store that cannot be looked into: nothing is known of it, good or bad.
pub fn unreachable(policy: &Policy, place: &PlaceName, broke: &Broke) -> Drift {
    let drift = of(policy, "store_unreachable", Severity::Unproven, format!("store {place}"));
    let hint = broke.hint.clone().unwrap_or_else(|| "mend that first; `lifeboat check` tries it".to_owned());
    drift.saying("backups are kept there", format!("it cannot be looked into: {}", broke.error)).mended_by(hint)
}

/// A store that is not there, although backups are known in it.
pub fn missing(policy: &Policy, place: &PlaceName, known: usize) -> Drift {
    let drift = of(policy, "store_missing", Severity::Critical, format!("store {place}"));
    let drift = drift.saying(format!("{known} backups are known in it"), "it is not there");
    drift.mended_by("see whether it is mounted; if it is lost, take a backup into another store")
}

/// What is wrong with a manifest, or that a backup is gone.
pub fn manifest(policy: &Policy, place: &PlaceName, key: &str, finding: &Finding) -> Drift {
    let (declared, mend) = match finding.code.as_str() {
        "signature_missing" | "signer_untrusted" | "signature_wrong" => (
            "every backup is signed by a key that is trusted",
            "find out who wrote it; add the key to [keys] trusted_signers only if it is yours; else take a new backup",
        ),
        "artifact_missing" => {
            ("the catalog knows it", "find out who removed it; `lifeboat catalog rebuild` makes the catalog forget it")
        }
        _ => ("a manifest is as it was signed", "bring it back from a copy, or take a new backup"),
    };
    let drift = of(policy, &finding.code, Severity::Critical, format!("{place}: {key}"));
    drift.saying(declared, finding.message.clone()).mended_by(mend)
}

/// Nobody is trusted to have signed, so nobody vouches for anything.
pub fn nobody_vouches(policy: &Policy) -> Drift {
    let drift = of(policy, "signers_undeclared", Severity::Unproven, "[keys] trusted_signers");
    let drift = drift
        .saying("backups are signed by a key that is trusted", "no trusted signer is configured: anybody can sign");
    drift.mended_by("name the public key of the backup side: [keys] trusted_signers = [\"…\"]")
}

/// Who can open the newest backup of a job, against who is to.
pub fn recipients(policy: &Policy, backup: &BackupId, began: Timestamp, found: &[String]) -> Option<Drift> {
    let declared: BTreeSet<&String> = policy.encryption.recipients.iter().collect();
    let found: BTreeSet<&String> = found.iter().collect();
    let (lacks, more) = (declared.difference(&found).count(), found.difference(&declared).count());
    let (severity, observed) = match (lacks, more) {
        (0, 0) => return None,
        // Somebody who must be able to open it cannot: on the day of the loss that may be the only one who is left.
        (1.., _) => (Severity::Critical, format!("{lacks} of them cannot open it")),
        (0, _) => (Severity::Warning, format!("{more} more can open it")),
    };
    let drift = of(policy, "recipients_differ", severity, format!("backup {backup}"));
    let drift = drift.saying(format!("{} recipients", declared.len()), observed).since(Some(began));
    Some(drift.mended_by(format!("take a new backup: lifeboat backup {}", policy.name)))
}

/// What lies in a store without a manifest.
pub fn orphan(policy: &Policy, place: &PlaceName, backup: &BackupId, objects: u64, bytes: ByteSize) -> Drift {
    let drift = of(policy, "orphans", Severity::Warning, format!("{place}: {}/{backup}", policy.name));
    let observed = format!("{objects} objects ({bytes}) of a backup that was never finished");
    let drift = drift.saying("a store holds whole backups", observed).since(backup.began_at());
    drift.mended_by("harmless, but they take room: `lifeboat prune` removes them after a grace time")
}

/// What of one store was not read back in the declared time. `born`: since when each of the units is there.
pub fn overdue<K>(policy: &Policy, place: &PlaceName, units: &[(Unit<K>, Timestamp)], now: Timestamp) -> Option<Drift> {
    let within = policy.read_back_within?;
    let from = since(Some(within), now);
    let right = |unit: &Unit<K>| unit.right_at.filter(|at| *at <= now);
    // What came a moment ago cannot have waited too long.
    let late: Vec<&(Unit<K>, Timestamp)> =
        units.iter().filter(|(unit, born)| right(unit).unwrap_or(*born).max(*born) < from).collect();
    let first = late.iter().map(|(unit, born)| right(unit).unwrap_or(*born).max(*born)).min()?;
    let bytes = ByteSize(late.iter().fold(0, |sum, (unit, _)| sum.saturating_add(unit.bytes)));
    let never = late.iter().filter(|(unit, _)| right(unit).is_none()).count();
    let never = if never > 0 { format!(", {never} of them never") } else { String::new() };
    let observed = format!(
        "{} of {} objects ({bytes}) were not read back and right for longer{never}; the first waits {}",
        late.len(),
        units.len(),
        Span::between(first, now)
    );
    let drift = of(policy, "read_back_overdue", Severity::Warning, format!("store {place}"));
    let drift = drift.saying(format!("all of it is read back within {within}"), observed);
    let drift = drift.since(first.checked_add(within.0).ok());
    Some(drift.mended_by(format!("lifeboat verify {} --budget 10%, as often as it takes", policy.name)))
}

/// What was wrong when it was last read, and was not right since. `is_named`: whether anything still names the object.
pub fn wrong(policy: &Policy, read: &[LastRead], is_named: impl Fn(&LastRead) -> bool) -> Vec<Drift> {
    let still: Vec<&LastRead> = read.iter().filter(|one| is_named(one)).collect();
    let mut found: Vec<Drift> = Vec::new();
    for one in still.iter().take(NAMED) {
        let Some(wrong) = &one.wrong else { continue };
        let drift = of(policy, "read_back_wrong", Severity::Critical, format!("{}: {}", one.store, one.key));
        let observed = format!("{} [{}]", wrong.finding.message, wrong.finding.code);
        let drift = drift.saying("every object is as it was signed", observed).since(Some(wrong.since));
        found.push(drift.mended_by(format!(
            "bring the object back from a copy, or take a new backup; then lifeboat verify {}",
            policy.name
        )));
    }
    if still.len() > NAMED {
        let drift = of(policy, "read_back_wrong", Severity::Critical, "and others");
        let observed = format!("{} more objects are wrong", still.len() - NAMED);
        found.push(drift.saying("every object is as it was signed", observed).mended_by("as above"));
    }
    found
}
