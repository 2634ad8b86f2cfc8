//! Where copies are not as they were declared.

use std::collections::BTreeSet;

use super::rule::{is_pending, terms_of};
use super::{Ground, Rule, Ruled};
use crate::domain::check::Finding;
use crate::domain::copies::{Held, Spread};
use crate::domain::drift::{Drift, Severity};
use crate::domain::ids::PlaceName;
use crate::domain::observed::Observed;
use crate::domain::transcript::Verdict;
use crate::domain::units::Span;

fn drift(ground: &Ground<'_>, code: &str, severity: Severity, object: String) -> Drift {
    Drift {
        code: code.to_owned(),
        severity,
        policy: Some(ground.policy.clone()),
        object,
        declared: String::new(),
        observed: String::new(),
        since: None,
        mend: String::new(),
    }
}

/// Stores that could not be looked at, each once.
pub(super) fn unseen(ground: &Ground<'_>, drifts: &mut Vec<Drift>) {
    let mut told: BTreeSet<&PlaceName> = BTreeSet::new();
    let of_backups = ground.backups.iter().flat_map(|spread| &spread.held).filter_map(|held| match &held.seen {
        Observed::Unknown(why) => Some((&held.store, why)),
        Observed::Known(_) | Observed::Absent => None,
    });
    let of_logs = ground.logs.iter().filter_map(|log| Some((&log.store, log.unseen.as_ref()?)));
    let of_places = ground.places.iter().filter_map(|place| Some((&place.name, place.unseen.as_ref()?)));
    for (store, why) in of_places.chain(of_backups).chain(of_logs) {
        if told.insert(store) {
            drifts.push(Drift {
                declared: "it holds copies".to_owned(),
                observed: why.clone(),
                mend: "see why it cannot be read, and look again".to_owned(),
                ..drift(ground, "copy_unseen", Severity::Unproven, format!("store {store}"))
            });
        }
    }
}

/// What is wrong with a backup where it is.
pub(super) fn found(ground: &Ground<'_>, spread: &Spread, drifts: &mut Vec<Drift>) {
    for held in &spread.held {
        let Observed::Known(findings) = &held.seen else { continue };
        for finding in findings {
            let object = format!("backup {} in {}: {}", spread.backup, held.store, finding.object);
            drifts.push(of_finding(ground, object, finding));
        }
    }
}

fn of_finding(ground: &Ground<'_>, object: String, finding: &Finding) -> Drift {
    let mend = match finding.code.as_str() {
        "copy_object_missing" | "copy_missing" => "`lifeboat copy` brings it back from a store that has it".to_owned(),
        _ => "remove this copy from the store, and copy it again; find out who changed it".to_owned(),
    };
    Drift {
        declared: finding.expected.clone().unwrap_or_else(|| "as its signed manifest says".to_owned()),
        observed: finding
            .found
            .clone()
            .map_or_else(|| finding.message.clone(), |it| format!("{}: {it}", finding.message)),
        mend,
        ..drift(ground, &finding.code, Severity::Critical, object)
    }
}

/// Copies that came, and came too late.
pub(super) fn late(ground: &Ground<'_>, spread: &Spread, drifts: &mut Vec<Drift>) {
    let Some(terms) = terms_of(ground, spread) else { return };
    for held in spread.held.iter().filter(|held| terms.copies.contains(&held.store)) {
        if let Some(lag) = held.lag.filter(|lag| *lag > terms.within && matches!(held.seen, Observed::Known(_))) {
            drifts.push(Drift {
                declared: format!("within {}", terms.within),
                observed: format!("{lag} after the backup"),
                since: Some(spread.finished_at),
                mend: "run `lifeboat copy` more often, or allow more time: [[backup]] copy_within".to_owned(),
                ..drift(ground, "copy_lag", Severity::Warning, format!("backup {} in {}", spread.backup, held.store))
            });
        }
    }
}

/// Copies that are not there: behind the newest one of their job the store is stale, before it they are missing.
pub(super) fn absent(ground: &Ground<'_>, drifts: &mut Vec<Drift>) {
    for terms in ground.terms {
        for store in &terms.copies {
            let mut of_job: Vec<&Spread> = ground.backups.iter().filter(|spread| spread.job == terms.job).collect();
            of_job.sort_by_key(|spread| (spread.finished_at, spread.backup.clone()));
            let seen =
                |spread: &Spread| spread.held.iter().find(|held| held.store == *store).map(|held| held.seen.clone());
            // What is only in the second store any more is no lack of it.
            let lacks = |spread: &&&Spread| {
                matches!(seen(spread), Some(Observed::Absent))
                    && spread.held.iter().any(|held| held.store != *store && matches!(held.seen, Observed::Known(_)))
            };
            let newest = of_job.iter().rposition(|spread| matches!(seen(spread), Some(Observed::Known(_))));
            let (older, newer) = of_job.split_at(newest.unwrap_or(0));
            for spread in older.iter().filter(lacks) {
                if is_pending(ground, spread, store) {
                    continue;
                }
                drifts.push(Drift {
                    declared: format!("a copy in {store}"),
                    observed: "it is not there, and newer ones are".to_owned(),
                    since: Some(spread.finished_at),
                    mend: format!("lifeboat copy {}", ground.policy),
                    ..drift(ground, "copy_missing", Severity::Warning, format!("backup {} in {store}", spread.backup))
                });
            }
            let waiting: Vec<&&Spread> = newer.iter().filter(lacks).collect();
            let overdue = waiting.iter().any(|spread| !is_pending(ground, spread, store));
            if let (Some(first), None, false) = (waiting.first(), newest, overdue) {
                // Nothing is late, and nothing was ever seen to work.
                drifts.push(Drift {
                    declared: format!("backup {} of job {}, within {}", first.backup, terms.job, terms.within),
                    observed: "it has none yet, and none is late".to_owned(),
                    since: Some(first.finished_at),
                    mend: format!("lifeboat copy {}", ground.policy),
                    ..drift(ground, "copy_pending", Severity::Unproven, format!("job {} in {store}", terms.job))
                });
            }
            if let (Some(last), true) = (waiting.last(), overdue) {
                let has = newest.and_then(|at| of_job.get(at)).map(|spread| spread.backup.to_string());
                drifts.push(Drift {
                    declared: format!("backup {} of job {}, within {}", last.backup, terms.job, terms.within),
                    observed: format!(
                        "{}; {} newer not there",
                        has.map_or("it has none".to_owned(), |has| format!("its newest is {has}")),
                        waiting.len()
                    ),
                    since: waiting.first().map(|spread| spread.finished_at),
                    mend: format!("lifeboat copy {}", ground.policy),
                    ..drift(ground, "copy_stale", Severity::Warning, format!("job {} in {store}", terms.job))
                });
            }
        }
    }
}

pub(super) fn logs(ground: &Ground<'_>, drifts: &mut Vec<Drift>) {
    for log in ground.logs {
        for finding in &log.findings {
            drifts.push(of_finding(ground, format!("{} in {}", finding.object, log.store), finding));
        }
        let within = ground.terms.iter().filter(|terms| terms.copies.contains(&log.store)).map(|terms| terms.within);
        let within = within.min().unwrap_or(Span::ZERO);
        // One whose age could not be read is taken to be old.
        let overdue = log.missing_since.is_none_or(|since| Span::between(since, ground.now) > within);
        if let (Some((first, last)), true) = (&log.between, log.missing > 0 && overdue) {
            drifts.push(Drift {
                declared: format!("{} files, each within {within}", log.files),
                observed: format!("{} are not there: {first} to {last}", log.missing),
                since: log.missing_since,
                mend: format!("lifeboat copy {}", ground.policy),
                ..drift(ground, "copy_log_missing", Severity::Warning, format!("log in {}", log.store))
            });
        }
    }
}

/// Stores whose bytes were not read, each once: a change of the same length would not be seen.
pub(super) fn unverified(ground: &Ground<'_>, drifts: &mut Vec<Drift>) {
    for place in ground.places {
        let held = || ground.backups.iter().flat_map(|spread| &spread.held).filter(|held| held.store == place.name);
        let unread = held().filter(|held| {
            matches!(held.seen, Observed::Known(_)) && !matches!(held.verified, Observed::Known(_)) && !is_bad(held)
        });
        let (count, log) = (unread.count(), ground.logs.iter().any(|log| log.store == place.name && !log.read));
        if count > 0 || (log && held().any(|held| matches!(held.seen, Observed::Known(_)))) {
            let what = match count {
                0 => "the log was".to_owned(),
                1 => "1 backup was".to_owned(),
                count => format!("{count} backups were"),
            };
            drifts.push(Drift {
                declared: "every byte is as its signed manifest says".to_owned(),
                observed: format!("{what} listed, and not read"),
                mend: format!(
                    "lifeboat copies {0} --read; or lifeboat verify {0} --budget …, until all is read",
                    ground.policy
                ),
                ..drift(ground, Rule::Errors.code(), Severity::Unproven, format!("store {}", place.name))
            });
        }
    }
}

fn is_bad(held: &Held) -> bool {
    matches!(&held.seen, Observed::Known(findings) if !findings.is_empty())
}

pub(super) fn falls_short(ground: &Ground<'_>, ruled: &Ruled) -> Option<Drift> {
    let severity = match ruled.verdict {
        Verdict::Proven => return None,
        Verdict::Failed => Severity::Warning,
        Verdict::Unproven => Severity::Unproven,
    };
    Some(Drift {
        declared: ruled.rule.demand().to_owned(),
        observed: ruled.reason.clone(),
        mend: ruled.rule.mend().to_owned(),
        ..drift(ground, ruled.rule.code(), severity, format!("policy {}", ground.policy))
    })
}
