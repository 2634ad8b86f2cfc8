//! Checks that are made while the bytes pass: their facts are already there.

use super::Subject;
use crate::domain::artifact::{PageTally, StreamKind};
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::observed::Observed;
use crate::domain::transcript::RestoreFacts;
use crate::judge::integrity::Comparison;
use crate::seal::SealedManifest;

/// Signature and identity are right, and every part of the manifest was fetched, verified and opened.
/// `whole`: roles were to come back too.
pub fn manifest(sealed: &SealedManifest, restored: &RestoreFacts, whole: bool) -> Result<Comparison, Stop> {
    let mut comparison = Comparison { findings: sealed.findings.clone(), ..Comparison::default() };
    match &sealed.signed_by {
        Observed::Known(_) if sealed.signer_trusted => comparison.looked(1, "signatures"),
        // The seal's own findings say more when there are some; but without a trusted signature this never passes in silence.
        Observed::Known(_) | Observed::Absent if comparison.findings.is_empty() => {
            let message = "the manifest is not signed by a key that is trusted here";
            comparison.findings.push(Finding::new("signer_untrusted", "manifest", message));
        }
        Observed::Unknown(why) => comparison.blind("manifest signature", why.clone()),
        Observed::Known(_) | Observed::Absent => {}
    }
    let parts = |globals: bool| -> u64 {
        let streams = sealed.manifest.streams.iter().filter(|one| (one.kind == StreamKind::Globals) == globals);
        streams.map(|one| one.parts.len() as u64).sum()
    };
    let (globals, data) = (parts(true), parts(false));
    let seen = restored.parts;
    if seen == globals + data {
        comparison.looked(seen, "parts");
    } else if !whole && seen == data {
        comparison.looked(seen, "parts");
        comparison.skip("globals", "roles are not restored on a scratch server that has its own");
    } else if comparison.findings.is_empty() {
        let error = format!("{seen} parts were verified while restoring, and the manifest names {}", globals + data);
        return Err(Broke::hinted(error, "restore again; `lifeboat verify` reads every part without restoring").into());
    }
    comparison.looked(restored.sealed_bytes, "stored bytes");
    Ok(comparison)
}

/// Every page that was restored has the checksum that it should have.
pub(super) fn page_checksums(subject: &Subject<'_>) -> Result<Comparison, Stop> {
    let mut comparison = Comparison::default();
    let Some(pages) = &subject.restored.pages else {
        if subject.terms().physical {
            let error = "no pages were looked at while restoring";
            return Err(Broke::hinted(error, "restore again: page checksums are verified in the same pass").into());
        }
        comparison.skip("pages", "a logical backup has no pages");
        return Ok(comparison);
    };
    let bad = |tally: &PageTally, message: &str| -> Vec<Finding> {
        let mut findings: Vec<Finding> =
            tally.bad.iter().map(|page| Finding::new("page_checksum", format!("page {page}"), message)).collect();
        let more = tally.bad_count.saturating_sub(findings.len() as u64);
        if more > 0 {
            findings.push(Finding::new("page_checksum", format!("{more} further pages"), message));
        }
        findings
    };
    comparison.findings = bad(pages, "the checksum of the page is wrong");
    if let Some(source) = &subject.manifest().pages {
        if comparison.findings.is_empty() {
            comparison.findings = bad(source, "the checksum of the page was wrong when the backup was taken");
        }
        let (then, now) = (all(source), all(pages));
        if comparison.findings.is_empty() && source.enabled && now < then {
            let error = format!("{now} pages were looked at while restoring, {then} when the backup was taken");
            return Err(Broke::hinted(error, "restore again, and report it if it stays so").into());
        }
    }
    if !pages.enabled {
        let why = "checksums are off on the source: a flipped bit in a page would not be seen (pg_checksums --enable turns them on; or the drill says required = false)";
        comparison.skip("pages", why);
        return Ok(comparison);
    }
    comparison.looked(pages.verified, "pages");
    if pages.in_flight > 0 {
        let why = "they were being written while the backup was taken: recovery writes them anew from the log";
        comparison.skip(format!("{} pages", pages.in_flight), why);
    }
    Ok(comparison)
}

fn all(tally: &PageTally) -> u64 {
    tally.verified + tally.empty + tally.in_flight + tally.bad_count
}
