//! Metrics, as numbers with names: from what is known and the time of day. Names and units are Prometheus' conventions. What is not known is
//! left out: an absent sample can be alerted on, and a 0 would be a lie.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::alarm::{Alarm, Post};
use crate::domain::drift::Severity;
use crate::domain::facts::{AttemptState, DrillFacts, JobFacts, PolicyFacts};
use crate::domain::observed::Observed;
use crate::domain::queue::Tally;
use crate::domain::transcript::Verdict;
use crate::domain::units::{ByteSize, Span};

/// What a family of samples measures in: part of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds; also of moments, since 1970.
    Seconds,
    /// Bytes.
    Bytes,
    /// None.
    None,
}

/// Whether it may go down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It may.
    Gauge,
    /// It only grows; its name ends in `_total`.
    Counter,
}

/// A family of samples.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// Its whole name.
    pub name: &'static str,
    /// Gauge or counter.
    pub kind: Kind,
    /// In which unit.
    pub unit: Unit,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

/// One number.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Values of the family's labels, in its order.
    pub labels: Vec<String>,
    /// The number.
    pub value: f64,
}

macro_rules! families {
    ($($constant:ident $name:literal $kind:ident $unit:ident [$($label:literal),*] $help:literal;)*) => {
        /// The families in their order.
        #[expect(non_camel_case_types, clippy::upper_case_acronyms, reason = "named as the constants that stand for their places")]
        enum Order { $($constant),* }
        $(const $constant: usize = Order::$constant as usize;)*
        /// Every family that there is; docs/monitoring.md lists them.
        pub const FAMILIES: &[Family] = &[
            $(Family { name: $name, kind: Kind::$kind, unit: Unit::$unit, labels: &[$($label),*], help: $help }),*
        ];
    };
}

families! {
    BUILD "lifeboat_build_info" Gauge None ["version"] "Which lifeboat this is; always 1";
    CATALOG_UP "lifeboat_catalog_up" Gauge None [] "Whether the catalog answered when it was last asked";
    GATHERED "lifeboat_gathered_timestamp_seconds" Gauge Seconds [] "When all of this was last looked up";
    GATHER_TOOK "lifeboat_gather_duration_seconds" Gauge Seconds [] "How long that took";
    POLICIES "lifeboat_policies" Gauge None ["seen"] "Policies that are configured, by whether they could be looked at";
    RELOAD_OK "lifeboat_config_reload_success" Gauge None [] "Whether the configuration that was last read is the one in use";
    RELOADED "lifeboat_config_last_success_timestamp_seconds" Gauge Seconds [] "When a configuration was last taken over";
    INFO "lifeboat_policy_info" Gauge None ["policy", "owner", "tier"] "Who answers for a policy, and how much depends on it; always 1";
    VERDICT "lifeboat_policy_verdict" Gauge None ["policy", "verdict"] "Where a policy stands: 1 for the one word that holds of proven, failed, unproven";
    RPO "lifeboat_objective_rpo_seconds" Gauge Seconds ["policy"] "Declared: greatest loss of data, as time";
    RTO "lifeboat_objective_rto_seconds" Gauge Seconds ["policy"] "Declared: greatest time from the loss to a working database";
    PROOF_MAX "lifeboat_objective_proof_age_seconds" Gauge Seconds ["policy"] "Declared: greatest age of a proof";
    EXPOSURE "lifeboat_exposure_seconds" Gauge Seconds ["policy"] "What would be lost now, as time; absent: there is no backup";
    RECOVERY_POINT "lifeboat_recovery_point_timestamp_seconds" Gauge Seconds ["policy"] "The newest moment that the stores can bring back";
    BACKUPS "lifeboat_backups" Gauge None ["policy"] "Backups in all stores";
    STORED "lifeboat_stored_bytes" Gauge Bytes ["policy"] "Stored bytes of all its backups in all stores, without the log";
    JOB_SUCCESS "lifeboat_backup_last_success_timestamp_seconds" Gauge Seconds ["policy", "job"] "When the newest backup of a job was durable";
    JOB_ATTEMPT "lifeboat_backup_last_attempt_timestamp_seconds" Gauge Seconds ["policy", "job"] "When the newest run of a job ended, however";
    JOB_GOOD "lifeboat_backup_last_attempt_success" Gauge None ["policy", "job"] "Whether that run took a backup";
    JOB_PLAIN "lifeboat_backup_size_bytes" Gauge Bytes ["policy", "job"] "Plaintext of the newest backup of a job";
    JOB_SEALED "lifeboat_backup_stored_bytes" Gauge Bytes ["policy", "job"] "Stored bytes of the newest backup of a job";
    JOB_TOOK "lifeboat_backup_duration_seconds" Gauge Seconds ["policy", "job"] "How long the newest backup of a job took";
    JOB_RATE "lifeboat_backup_rate_bytes_per_second" Gauge None ["policy", "job"] "Plaintext by time of the newest backup of a job";
    DRILL_VERDICT "lifeboat_drill_verdict" Gauge None ["policy", "drill", "verdict"] "The newest judgement of a drill: 1 for the one word that holds of proven, failed, unproven";
    DRILL_JUDGED "lifeboat_drill_last_judged_timestamp_seconds" Gauge Seconds ["policy", "drill"] "When that was";
    DRILL_ATTEMPT "lifeboat_drill_last_attempt_timestamp_seconds" Gauge Seconds ["policy", "drill"] "When the newest run of a drill ended, however";
    DRILL_PROOF "lifeboat_drill_last_proof_timestamp_seconds" Gauge Seconds ["policy", "drill"] "When a drill last proved a backup";
    PROOF_AGE "lifeboat_proof_age_seconds" Gauge Seconds ["policy", "drill"] "How old that proof is; absent: there never was one";
    DRILL_TOOK "lifeboat_drill_duration_seconds" Gauge Seconds ["policy", "drill"] "How long the newest judged drill took in all";
    RPA "lifeboat_drill_rpa_seconds" Gauge Seconds ["policy", "drill"] "Achieved: the recovery point that the newest judged drill measured; absent: it measured none";
    RTA "lifeboat_drill_rta_seconds" Gauge Seconds ["policy", "drill"] "Achieved: the recovery time that the newest judged drill measured, allowances included; absent: it measured none";
    SPOOL_FILES "lifeboat_spool_files" Gauge None ["policy"] "Files of the log that wait in the spool for the store; absent: it has no spool, or that cannot be looked into";
    SPOOL_BYTES "lifeboat_spool_bytes" Gauge Bytes ["policy"] "Their bytes";
    FINDINGS "lifeboat_drift_findings" Gauge None ["policy", "code", "severity"] "What is not as it was declared, when drift was last looked for";
    DRIFT_AT "lifeboat_drift_checked_timestamp_seconds" Gauge Seconds ["policy"] "When drift was last looked for; absent: never";
    ALARM "lifeboat_alarm_open" Gauge None ["policy", "kind", "subject", "severity", "acknowledged"] "Alarms that are not over; always 1";
    LETTERS "lifeboat_letters_waiting" Gauge None ["notifier"] "Letters that no receiver has answered for yet";
    LETTERS_AGE "lifeboat_letters_oldest_waiting_seconds" Gauge Seconds ["notifier"] "How long the oldest of them waits";
    DELIVERED "lifeboat_letters_delivered_total" Counter None ["notifier"] "Letters that a receiver answered for";
    GIVEN_UP "lifeboat_letters_given_up_total" Counter None ["notifier"] "Letters that were not delivered and are not tried any more";
    QUEUE "lifeboat_queue_runs" Gauge None ["state"] "Runs in the queue: waiting for their time, due, running";
    QUEUE_AGE "lifeboat_queue_oldest_due_seconds" Gauge Seconds [] "How long the oldest run that is due waits for a worker; 0: none does";
    RUNS "lifeboat_runs_ended_total" Counter None ["how"] "Runs that ended, by how: finished, abandoned (its process went away or its lease ran out), missed";
    LEASES "lifeboat_leases_lost_total" Counter None [] "Leases of runs that this process lost before the run had ended";
    PLANNED "lifeboat_planner_last_success_timestamp_seconds" Gauge Seconds [] "When the planner of this process last came to its end without an error";
    SCRATCH "lifeboat_scratch_bytes" Gauge Bytes [] "Bytes in the folder of scratch clusters; absent: they could not be counted";
}

/// Whether the configuration in use is the one that was last read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reload {
    /// The newest that was read was taken over.
    pub ok: bool,
    /// When one was last taken over.
    pub taken_at: Timestamp,
}

/// All that is known at a moment.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Each policy that could be looked at.
    pub policies: Vec<Arc<PolicyFacts>>,
    /// Policies that could not.
    pub unseen: u64,
    /// Alarms, as they were last decided on; none: they could not be read.
    pub alarms: Option<Vec<Alarm>>,
    /// What became of letters; none: see there.
    pub post: Option<Post>,
    /// The queue; none: there is none, or it could not be read.
    pub queue: Option<Tally>,
    /// How many runs ended how.
    pub ended: Option<BTreeMap<String, u64>>,
    /// Bytes of scratch clusters.
    pub scratch: Option<ByteSize>,
    /// What became of the newest reading of the configuration; none: it is read once.
    pub reload: Option<Reload>,
    /// Leases that this process lost; none: it holds none.
    pub leases_lost: Option<u64>,
    /// When the planner of this process last came to its end; none: it has none, or never did.
    pub planned_at: Option<Timestamp>,
    /// Whether the catalog answered.
    pub catalog_up: bool,
    /// When all this was looked up; none: it never was.
    pub gathered_at: Option<Timestamp>,
    /// How long that took.
    pub took: Option<Span>,
}

/// The samples of every family, in the order of [`FAMILIES`].
pub fn samples(world: &World, version: &str, now: Timestamp) -> Vec<Vec<Sample>> {
    samples_of(0..FAMILIES.len(), world, version, now)
}

/// The same of some families: of thousands of policies all samples at once would need much room.
pub fn samples_of(families: Range<usize>, world: &World, version: &str, now: Timestamp) -> Vec<Vec<Sample>> {
    let mut to = Sheet { from: families.start, rows: families.map(|_| Vec::new()).collect() };
    to.put(BUILD, &[version], Some(1.0));
    to.put(CATALOG_UP, &[], Some(truth(world.catalog_up)));
    to.put(GATHERED, &[], world.gathered_at.map(moment));
    to.put(GATHER_TOOK, &[], world.took.map(Span::as_secs_f64));
    to.put(POLICIES, &["true"], Some(world.policies.len() as f64));
    to.put(POLICIES, &["false"], Some(world.unseen as f64));
    to.put(RELOAD_OK, &[], world.reload.map(|reload| truth(reload.ok)));
    to.put(RELOADED, &[], world.reload.map(|reload| moment(reload.taken_at)));
    for facts in &world.policies {
        policy(facts, now, &mut to);
    }
    for alarm in world.alarms.iter().flatten().filter(|alarm| alarm.is_open()) {
        let key = &alarm.what.key;
        let of = key.policy.as_ref().map_or("", |policy| policy.as_str());
        let acknowledged = if alarm.is_acknowledged(now) { "true" } else { "false" };
        to.put(ALARM, &[of, key.kind.as_str(), &key.subject, severity(alarm.what.severity), acknowledged], Some(1.0));
    }
    for (name, count) in world.post.iter().flat_map(|post| &post.by_notifier) {
        let name = [name.as_str()];
        to.put(LETTERS, &name, Some(count.waiting as f64));
        to.put(LETTERS_AGE, &name, count.waiting_since.map(|since| age(since, now)));
        to.put(DELIVERED, &name, Some(count.delivered as f64));
        to.put(GIVEN_UP, &name, Some(count.given_up as f64));
    }
    if let Some(waiting) = &world.queue {
        queue(waiting, now, &mut to);
    }
    if let Some(ended) = &world.ended {
        for how in ["finished", "abandoned", "missed"] {
            to.put(RUNS, &[how], Some(ended.get(how).copied().unwrap_or(0) as f64));
        }
    }
    to.put(LEASES, &[], world.leases_lost.map(|lost| lost as f64));
    to.put(PLANNED, &[], world.planned_at.map(moment));
    to.put(SCRATCH, &[], world.scratch.map(|bytes| bytes.0 as f64));
    to.rows
}

/// A row of samples for each family, from one on.
struct Sheet {
    from: usize,
    rows: Vec<Vec<Sample>>,
}

impl Sheet {
    fn put(&mut self, family: usize, labels: &[&str], value: Option<f64>) {
        let row = family.checked_sub(self.from).and_then(|at| self.rows.get_mut(at));
        if let (Some(value), Some(row)) = (value, row) {
            row.push(Sample { labels: labels.iter().map(|label| (*label).to_owned()).collect(), value });
        }
    }

    /// One word of three holds.
    fn verdict(&mut self, family: usize, labels: &[&str], holds: Verdict) {
        for verdict in [Verdict::Proven, Verdict::Failed, Verdict::Unproven] {
            let labels: Vec<&str> = labels.iter().copied().chain([verdict.as_str()]).collect();
            self.put(family, &labels, Some(truth(verdict == holds)));
        }
    }
}

fn policy(facts: &PolicyFacts, now: Timestamp, to: &mut Sheet) {
    let name = facts.name.as_str();
    let of = [name];
    to.put(INFO, &[name, &facts.owner, facts.tier.as_deref().unwrap_or_default()], Some(1.0));
    to.verdict(VERDICT, &of, facts.verdict(now));
    to.put(RPO, &of, Some(facts.rpo.as_secs_f64()));
    to.put(RTO, &of, Some(facts.rto.as_secs_f64()));
    to.put(PROOF_MAX, &of, Some(facts.proof_max_age.as_secs_f64()));
    to.put(EXPOSURE, &of, facts.exposure(now).map(Span::as_secs_f64));
    to.put(RECOVERY_POINT, &of, facts.brings_back.map(moment));
    to.put(BACKUPS, &of, Some(facts.backups as f64));
    to.put(STORED, &of, Some(facts.stored_bytes.0 as f64));
    facts.jobs.iter().for_each(|one| job(name, one, to));
    facts.drills.iter().for_each(|one| drill(name, one, now, to));
    if let Observed::Known(spool) = &facts.spool {
        to.put(SPOOL_FILES, &of, Some(spool.files as f64));
        to.put(SPOOL_BYTES, &of, Some(spool.bytes.0 as f64));
    }
    if let Some((at, drifts)) = &facts.drift {
        to.put(DRIFT_AT, &of, Some(moment(*at)));
        let mut counts: BTreeMap<(&str, Severity), f64> = BTreeMap::new();
        for drift in drifts {
            *counts.entry((&drift.code, drift.severity)).or_default() += 1.0;
        }
        for ((code, bad), count) in counts {
            to.put(FINDINGS, &[name, code, severity(bad)], Some(count));
        }
    }
}

fn job(policy: &str, job: &JobFacts, to: &mut Sheet) {
    let of = [policy, job.name.as_str()];
    if let Some(attempt) = &job.attempt {
        to.put(JOB_ATTEMPT, &of, Some(moment(attempt.at)));
        to.put(JOB_GOOD, &of, Some(truth(attempt.state == AttemptState::Done)));
    }
    if let Some(success) = &job.success {
        let seconds = success.took.as_secs_f64();
        to.put(JOB_SUCCESS, &of, Some(moment(success.at)));
        to.put(JOB_PLAIN, &of, Some(success.plain_bytes.0 as f64));
        to.put(JOB_SEALED, &of, Some(success.sealed_bytes.0 as f64));
        to.put(JOB_TOOK, &of, Some(seconds));
        to.put(JOB_RATE, &of, (seconds > 0.0).then(|| success.plain_bytes.0 as f64 / seconds));
    }
}

fn drill(policy: &str, drill: &DrillFacts, now: Timestamp, to: &mut Sheet) {
    let of = [policy, drill.name.as_str()];
    to.put(DRILL_ATTEMPT, &of, drill.attempt.as_ref().map(|attempt| moment(attempt.at)));
    if let Some(judged) = &drill.judged {
        to.verdict(DRILL_VERDICT, &of, judged.verdict);
        to.put(DRILL_JUDGED, &of, Some(moment(judged.at)));
        to.put(DRILL_TOOK, &of, Some(judged.took.as_secs_f64()));
        to.put(RPA, &of, judged.rpa.map(Span::as_secs_f64));
        to.put(RTA, &of, judged.rta.map(Span::as_secs_f64));
    }
    to.put(DRILL_PROOF, &of, drill.proven_at.map(moment));
    to.put(PROOF_AGE, &of, drill.proven_at.map(|at| age(at, now)));
}

fn queue(queue: &Tally, now: Timestamp, to: &mut Sheet) {
    let due = || queue.due_at.iter().filter(|at| **at <= now);
    to.put(QUEUE, &["running"], Some(queue.running as f64));
    to.put(QUEUE, &["due"], Some(due().count() as f64));
    to.put(QUEUE, &["waiting"], Some((queue.due_at.len() - due().count()) as f64));
    to.put(QUEUE_AGE, &[], Some(due().min().map_or(0.0, |at| age(*at, now))));
}

/// The word for a severity.
pub fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Unproven => "unproven",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

fn truth(yes: bool) -> f64 {
    if yes { 1.0 } else { 0.0 }
}

fn moment(at: Timestamp) -> f64 {
    at.as_microsecond() as f64 / 1e6
}

fn age(since: Timestamp, now: Timestamp) -> f64 {
    Span::between(since, now).max(Span::ZERO).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::drift::Drift;
    use crate::domain::facts::{Attempt, sample as facts};
    use crate::domain::sample::{at, run};

    fn value(sheet: &[Vec<Sample>], name: &str, labels: &[&str]) -> Option<f64> {
        let family = FAMILIES.iter().position(|family| family.name == name).unwrap();
        let found: Vec<f64> =
            sheet[family].iter().filter(|sample| sample.labels == labels).map(|sample| sample.value).collect();
        assert!(found.len() < 2, "{name} {labels:?} stands there twice");
        found.first().copied()
    }

    #[test]
    fn time_makes_a_policy_fail_without_a_new_look_and_unknown_is_absent() {
        let world = World { policies: vec![Arc::new(facts())], ..World::default() };
        let sheet = samples(&world, "1", at("2026-01-01T00:30:00Z"));
        assert_eq!(value(&sheet, "lifeboat_exposure_seconds", &["orders"]), Some(1_800.0));
        assert_eq!(value(&sheet, "lifeboat_policy_verdict", &["orders", "proven"]), Some(1.0));
        assert_eq!(value(&sheet, "lifeboat_backup_rate_bytes_per_second", &["orders", "nightly"]), Some(100.0));
        assert_eq!(value(&sheet, "lifeboat_proof_age_seconds", &["orders", "restore-latest"]), Some(1_200.0));
        for (absent, labels) in [
            ("lifeboat_spool_files", vec!["orders"]),
            ("lifeboat_drill_rta_seconds", vec!["orders", "restore-latest"]),
            ("lifeboat_drift_checked_timestamp_seconds", vec!["orders"]),
            ("lifeboat_scratch_bytes", vec![]),
            ("lifeboat_queue_oldest_due_seconds", vec![]),
            ("lifeboat_config_reload_success", vec![]),
        ] {
            assert_eq!(value(&sheet, absent, &labels), None, "{absent}");
        }
        let later = samples(&world, "1", at("2026-01-01T02:00:00Z"));
        assert_eq!(value(&later, "lifeboat_policy_verdict", &["orders", "failed"]), Some(1.0));
        assert_eq!(value(&later, "lifeboat_policy_verdict", &["orders", "proven"]), Some(0.0));
    }

    #[test]
    fn a_proof_that_has_become_too_old_is_none() {
        let fresh = PolicyFacts { rpo: Span::from_secs(10 * 86_400), ..facts() };
        let world = World { policies: vec![Arc::new(fresh)], ..World::default() };
        let sheet = samples(&world, "1", at("2026-01-03T00:00:00Z"));
        assert_eq!(value(&sheet, "lifeboat_policy_verdict", &["orders", "unproven"]), Some(1.0));
    }

    #[test]
    fn what_is_counted_is_counted_right() {
        let now = at("2026-01-01T00:30:00Z");
        let drift = |code: &str, severity| Drift {
            code: code.to_owned(),
            severity,
            policy: None,
            object: String::new(),
            declared: String::new(),
            observed: String::new(),
            since: None,
            mend: String::new(),
        };
        let found = vec![
            drift("orphans", Severity::Warning),
            drift("orphans", Severity::Warning),
            drift("orphans", Severity::Unproven),
            drift("tls_weak", Severity::Critical),
        ];
        let mut all = PolicyFacts { drift: Some((now, found)), ..facts() };
        let attempt = |state| Some(Attempt { run: run(9), at: at("2026-01-01T00:00:20.5Z"), state, took: None });
        all.jobs[0].attempt = attempt(AttemptState::Done);
        let mut broke = all.jobs[0].clone();
        (broke.name, broke.attempt) = ("dump".parse().unwrap(), attempt(AttemptState::Broke));
        broke.success.as_mut().unwrap().took = Span::ZERO;
        all.jobs.push(broke);
        let due_at = ["2026-01-01T00:29:00Z", "2026-01-01T00:30:00Z", "2026-01-01T00:30:01Z"].map(at);
        let due_at = due_at.into_iter().chain(["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"].map(at)).collect();
        let queue = Some(Tally { running: 4, due_at });
        let sheet = samples(&World { policies: vec![Arc::new(all)], queue, ..World::default() }, "1", now);
        for (name, labels, wanted) in [
            ("lifeboat_drift_findings", vec!["orders", "orphans", "warning"], Some(2.0)),
            ("lifeboat_drift_findings", vec!["orders", "orphans", "unproven"], Some(1.0)),
            ("lifeboat_drift_findings", vec!["orders", "tls_weak", "critical"], Some(1.0)),
            ("lifeboat_backup_last_attempt_success", vec!["orders", "nightly"], Some(1.0)),
            ("lifeboat_backup_last_attempt_success", vec!["orders", "dump"], Some(0.0)),
            ("lifeboat_backup_last_attempt_timestamp_seconds", vec!["orders", "dump"], Some(1_767_225_620.5)),
            ("lifeboat_backup_rate_bytes_per_second", vec!["orders", "dump"], None),
            ("lifeboat_queue_runs", vec!["running"], Some(4.0)),
            ("lifeboat_queue_runs", vec!["due"], Some(2.0)),
            ("lifeboat_queue_runs", vec!["waiting"], Some(3.0)),
            ("lifeboat_queue_oldest_due_seconds", vec![], Some(60.0)),
        ] {
            assert_eq!(value(&sheet, name, &labels), wanted, "{name} {labels:?}");
        }
    }

    #[test]
    fn every_family_is_named_by_convention() {
        for family in FAMILIES {
            let name = family.name;
            assert!(name.starts_with("lifeboat_") && !family.help.is_empty() && !family.help.ends_with('.'), "{name}");
            assert_eq!(family.kind == Kind::Counter, name.ends_with("_total"), "{name}");
            let per = name.contains("_per_");
            assert_eq!(family.unit == Unit::Seconds, name.ends_with("_seconds"), "{name}");
            assert_eq!(family.unit == Unit::Bytes, name.ends_with("_bytes") && !per, "{name}");
            assert_eq!(FAMILIES.iter().filter(|other| other.name == name).count(), 1, "{name}");
        }
    }
}
