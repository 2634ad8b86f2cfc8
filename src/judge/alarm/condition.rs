//! What is wrong now, from what is known. The sentences hold names, numbers and moments only: what a program or a database said may be row content.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::domain::alarm::{AlarmKey, AlarmKind, Condition, Post};
use crate::domain::drift::{Drift, Severity};
use crate::domain::facts::{Attempt, AttemptState, DrillFacts, JobFacts, PolicyFacts};
use crate::domain::transcript::Verdict;
use crate::domain::units::Span;

/// Drifts that are alarms of their own kind already.
const TOLD_OTHERWISE: [&str; 6] =
    ["rpo_exposed", "proof_stale", "proof_missing", "drill_failed", "drill_unproven", "backup_missing"];

/// Everything that is wrong with a policy now.
pub fn of_policy(facts: &PolicyFacts, now: Timestamp) -> Vec<Condition> {
    let mut found = Vec::new();
    let of = Of { facts };
    let name = &facts.name;
    if facts.brings_back.is_none() {
        let scheduled = facts.jobs.iter().any(|job| job.scheduled);
        let severity = if scheduled { Severity::Critical } else { Severity::Warning };
        let summary = format!("{name}: there is no backup: nothing can be brought back");
        found.push(of.wrong(AlarmKind::NoBackup, "", severity, summary, format!("lifeboat backup {name}"), None));
    }
    if let Some(exposure) = facts.exposure(now).filter(|exposure| *exposure > facts.rpo) {
        let summary = format!("{name}: {exposure} of data would be lost now, and {} is allowed (RPO)", facts.rpo);
        let since = facts.brings_back.and_then(|at| at.checked_add(facts.rpo.0).ok());
        let hint = format!("lifeboat backup {name}; lifeboat status {name} tells what stands in its way");
        found.push(of.wrong(AlarmKind::ExposureOverRpo, "", Severity::Critical, summary, hint, since));
    }
    facts.jobs.iter().for_each(|job| of.job(job, &mut found));
    facts.drills.iter().filter(|drill| drill.declared).for_each(|drill| of.drill(drill, now, &mut found));
    if let Some((at, drifts)) = &facts.drift {
        of.drifts(*at, drifts, &mut found);
    }
    found
}

/// What is wrong with the telling itself: letters to somebody were given up, and none has arrived since.
pub fn lifeboat_itself(post: &Post) -> Vec<Condition> {
    let given_up = post.by_notifier.iter().filter(|(_, count)| {
        count.given_up_at.is_some_and(|given_up| count.delivered_at.is_none_or(|delivered| delivered < given_up))
    });
    given_up
        .map(|(name, count)| Condition {
            key: AlarmKey { policy: None, kind: AlarmKind::LetterGivenUp, subject: name.to_string() },
            severity: Severity::Critical,
            summary: format!("letters to {name} do not arrive: {} were given up", count.given_up),
            hint: format!("lifeboat notify --test {name}; lifeboat alarms tells what was not delivered"),
            since: count.given_up_at,
            tier: None,
            owner: "lifeboat".to_owned(),
        })
        .collect()
}

/// Nothing is wrong.
pub(super) fn test(by: &str) -> Condition {
    Condition {
        key: AlarmKey { policy: None, kind: AlarmKind::LetterGivenUp, subject: "test".to_owned() },
        severity: Severity::Warning,
        summary: format!("TEST: nothing is wrong. {by} tries whether letters of lifeboat arrive here"),
        hint: "nothing is to be done".to_owned(),
        since: None,
        tier: None,
        owner: "lifeboat".to_owned(),
    }
}

struct Of<'a> {
    facts: &'a PolicyFacts,
}

impl Of<'_> {
    fn wrong(
        &self,
        kind: AlarmKind,
        subject: &str,
        severity: Severity,
        summary: String,
        hint: String,
        since: Option<Timestamp>,
    ) -> Condition {
        Condition {
            key: AlarmKey { policy: Some(self.facts.name.clone()), kind, subject: subject.to_owned() },
            severity,
            summary,
            hint,
            since,
            tier: self.facts.tier.clone(),
            owner: self.facts.owner.clone(),
        }
    }

    fn job(&self, job: &JobFacts, found: &mut Vec<Condition>) {
        let Some(attempt) = &job.attempt else { return };
        let (name, work) = (&self.facts.name, format!("backup {}", job.name));
        let hint = format!("lifeboat status {name} says why; lifeboat backup {name} --job {}", job.name);
        if attempt.state == AttemptState::Broke {
            let summary = format!("{name}: the last {work} broke at {:.0} (run {})", attempt.at, attempt.run);
            let subject = job.name.as_str();
            found.push(self.wrong(AlarmKind::BackupBroke, subject, Severity::Warning, summary, hint, Some(attempt.at)));
        } else {
            found.extend(self.never_ended(attempt, &work, hint));
        }
    }

    /// A run that did not happen, or did not end.
    fn never_ended(&self, attempt: &Attempt, work: &str, hint: String) -> Option<Condition> {
        let name = &self.facts.name;
        let (kind, summary) = match attempt.state {
            AttemptState::Missed => (
                AlarmKind::RunMissed,
                format!("{name}: a run was missed at {:.0}: {work} (run {})", attempt.at, attempt.run),
            ),
            AttemptState::Abandoned => {
                let summary =
                    format!("{name}: the last {work} never ended, seen at {:.0} (run {})", attempt.at, attempt.run);
                (AlarmKind::RunAbandoned, summary)
            }
            AttemptState::Done | AttemptState::Broke => return None,
        };
        Some(self.wrong(kind, &work.replace(' ', "/"), Severity::Warning, summary, hint, Some(attempt.at)))
    }

    fn drill(&self, drill: &DrillFacts, now: Timestamp, found: &mut Vec<Condition>) {
        let (name, title) = (&self.facts.name, &drill.name);
        let hint = format!("lifeboat report {name}; then lifeboat drill {name} --drill {title}");
        if let Some(attempt) = &drill.attempt
            && drill.judged.as_ref().is_none_or(|judged| judged.run != attempt.run && judged.at < attempt.at)
        {
            let work = format!("drill {title}");
            if matches!(attempt.state, AttemptState::Broke) {
                let summary = format!(
                    "{name}: the last {work} broke at {:.0}: nothing was proved (run {})",
                    attempt.at, attempt.run
                );
                found.push(self.wrong(
                    AlarmKind::DrillUnproven,
                    title.as_str(),
                    Severity::Warning,
                    summary,
                    hint.clone(),
                    Some(attempt.at),
                ));
            }
            found.extend(self.never_ended(attempt, &work, hint.clone()));
        }
        let Some(judged) = &drill.judged else {
            let oldest = self.facts.proof_max_age;
            let begun = self.facts.first_backup_at.map(|first| Span::between(first, now));
            if begun.is_some_and(|age| age > oldest) {
                let summary =
                    format!("{name}: the drill {title} has never been judged, and a proof may be {oldest} old");
                found.push(self.wrong(AlarmKind::ProofExpired, title.as_str(), Severity::Warning, summary, hint, None));
            }
            return;
        };
        let red = |list: &[String]| if list.is_empty() { String::new() } else { format!(": {}", list.join(", ")) };
        match judged.verdict {
            Verdict::Failed => {
                let why = match judged.red.is_empty() {
                    true => ": an objective was missed".to_owned(),
                    false => format!(": these checks found something: {}", judged.red.join(", ")),
                };
                let summary = format!("{name}: the drill {title} failed at {:.0}{why} (run {})", judged.at, judged.run);
                found.push(self.wrong(
                    AlarmKind::DrillFailed,
                    title.as_str(),
                    Severity::Critical,
                    summary,
                    hint,
                    Some(judged.at),
                ));
            }
            Verdict::Unproven => {
                let summary = format!(
                    "{name}: the drill {title} proved nothing at {:.0}{} (run {})",
                    judged.at,
                    red(&judged.dark),
                    judged.run
                );
                found.push(self.wrong(
                    AlarmKind::DrillUnproven,
                    title.as_str(),
                    Severity::Warning,
                    summary,
                    hint,
                    Some(judged.at),
                ));
            }
            Verdict::Proven if drill.expired(self.facts.proof_max_age, now) => {
                let age = Span::between(judged.at, now);
                let summary = format!(
                    "{name}: the proof of {title} has expired: it is {age} old, and {} is allowed",
                    self.facts.proof_max_age
                );
                found.push(self.wrong(
                    AlarmKind::ProofExpired,
                    title.as_str(),
                    Severity::Warning,
                    summary,
                    hint,
                    judged.valid_until,
                ));
            }
            Verdict::Proven => {}
        }
    }

    /// One alarm a code: a hundred orphans are one thing to look at.
    fn drifts(&self, at: Timestamp, drifts: &[Drift], found: &mut Vec<Condition>) {
        let mut by_code: BTreeMap<&str, Vec<&Drift>> = BTreeMap::new();
        for drift in drifts.iter().filter(|drift| !TOLD_OTHERWISE.contains(&drift.code.as_str())) {
            by_code.entry(&drift.code).or_default().push(drift);
        }
        for (code, drifts) in by_code {
            let Some(first) = drifts.first() else { continue };
            let severity = drifts.iter().map(|drift| drift.severity).max().unwrap_or(Severity::Unproven);
            let others = if drifts.len() > 1 { format!(" and {} more", drifts.len() - 1) } else { String::new() };
            let name = &self.facts.name;
            let summary = format!("{name}: drift {code}, seen at {at:.0}: {}{others}", first.object);
            let since = drifts.iter().filter_map(|drift| drift.since).min();
            found.push(self.wrong(AlarmKind::Drift, code, severity, summary, format!("lifeboat drift {name}"), since));
        }
    }
}

#[cfg(test)]
#[path = "condition_tests.rs"]
mod tests;
