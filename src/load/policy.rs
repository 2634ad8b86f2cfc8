//! Policies: the rules between their keys, and their way into the domain.

use std::path::Path;

use super::document::{Document, Entry, Node, Value};
use super::login;
use super::problem::Problems;
use super::raw::RawDatabases;
use super::raw::policy::{RawJob, RawLockMode, RawPolicy, RawRead, SourceKind};
use super::timetable;
use crate::domain::bucket::{Lock, LockMode};
use crate::domain::policy::{
    BackupJob, ContentPlan, Databases, DrillUse, Encryption, Method, Objectives, Policy, ReadBy, Retention, Schedule,
    Source, Spool, WalPlan,
};
use crate::domain::units::{ByteSize, Span};

/// zstd's level when a job names none.
const LEVEL: i32 = 3;

/// What the shape alone cannot say. Works on files that have other errors too.
pub(super) fn rules(document: &Document, problems: &mut Problems) {
    let root = &document.root;
    if let Some(source) = root.get("source") {
        login::rules(document, source, problems);
    }
    let jobs = root.get("backup").map(Node::items).unwrap_or_default();
    for (at, job) in jobs.iter().enumerate() {
        let name = |job: &Node| job.get("name").and_then(Node::text).map(str::to_owned);
        if let (Some(node), Some(this)) = (job.get("name"), name(job))
            && jobs[..at].iter().any(|earlier| name(earlier).as_ref() == Some(&this))
        {
            let message = format!("there is already a backup job `{this}` in this policy");
            problems.add(document.problem(&node.span, message).hint("give each job a name of its own"));
        }
        zone_needs_schedule(document, job, problems);
        timetable::terms_rules(document, job, problems);
        let method = job.get("method").and_then(Node::text);
        if let Some(read) = job.entry("read")
            && method.is_some_and(|method| method != "physical")
        {
            let message = "`read` says how the files of a physical backup are read; this job takes another";
            problems.add(document.problem(&read.span, message).hint("leave it out, or use method = \"physical\""));
        }
        if let Some(retention) = job.entry("retention") {
            keeps_something(document, retention, problems);
        }
        let store = job.get("store").and_then(Node::text);
        let copies = job.get("copies").map(Node::items).unwrap_or_default();
        for (at, copy) in copies.iter().enumerate().filter(|(_, copy)| copy.text().is_some()) {
            if copy.text() == store {
                let message = "a copy in the same store is no copy";
                problems.add(document.problem(&copy.span, message).hint("name another store"));
            } else if copies[..at].iter().any(|earlier| earlier.text() == copy.text()) {
                let message = "this store stands there twice, and holds one copy";
                problems.add(document.problem(&copy.span, message).hint("leave one of them out"));
            }
        }
        document.more_than_none(job, "copy_within", problems);
        if let Some(within) = job.entry("copy_within").filter(|_| copies.is_empty()) {
            let message = "`copy_within` without `copies` says nothing";
            let hint = "add copies = [\"STORE\"], or leave both out";
            problems.add(document.problem(&within.span, message).hint(hint));
        }
    }
    for drill in root.get("drill").map(Node::items).unwrap_or_default() {
        zone_needs_schedule(document, drill, problems);
        timetable::terms_rules(document, drill, problems);
    }
    let recipients = root.get("encryption.recipients").map(Node::items).unwrap_or_default();
    for (at, recipient) in recipients.iter().enumerate() {
        if recipient.text().is_some() && recipients[..at].iter().any(|earlier| earlier.text() == recipient.text()) {
            let message = "this recipient stands there twice";
            let hint = "two different keys are wanted: a working key, and an escrow key that is kept elsewhere";
            problems.add(document.problem(&recipient.span, message).hint(hint));
        }
    }
    for key in [
        "objectives.rpo",
        "objectives.rto",
        "objectives.proof_max_age",
        "wal.heartbeat",
        "wal.lag",
        "wal.keep",
        "lock.keep",
        "verify.within",
    ] {
        document.more_than_none(root, key, problems);
    }
    if let Some(max) = root.get("wal.spool.max")
        && max.text().and_then(|text| text.parse::<ByteSize>().ok()) == Some(ByteSize(0))
    {
        let hint = "write how much may wait for the store, such as \"10 GiB\"; or leave the spool out";
        problems.add(document.problem(&max.span, "`wal.spool.max` is no room at all").hint(hint));
    }
    if let Some(percent) = root.get("content").and_then(|content| content.entry("sample_percent"))
        && root.get("content.sample_over").is_none()
    {
        let message = "`sample_percent` without `sample_over` samples nothing";
        let hint = "add sample_over = \"100 GiB\", the size above which tables are sampled; or leave both out";
        problems.add(document.problem(&percent.span, message).hint(hint));
    }
}

/// A retention that names nothing to keep would delete all but the last.
fn keeps_something(document: &Document, retention: &Entry, problems: &mut Problems) {
    let named = |node: &Node| match &node.value {
        Value::Integer(count) => *count != 0,
        // A time, or something that is wrong in another way.
        _ => node.text().and_then(|text| text.parse::<Span>().ok()) != Some(Span::ZERO),
    };
    if matches!(retention.node.value, Value::Table(_))
        && !retention.node.entries().iter().any(|entry| named(&entry.node))
    {
        let hint = "write how long, such as { keep = \"14d\", weekly = 8, at_least = 3 }; left out, every backup is kept for ever";
        problems.add(document.problem(&retention.span, "this retention keeps nothing").hint(hint));
    }
}

fn zone_needs_schedule(document: &Document, table: &Node, problems: &mut Problems) {
    if let Some(zone) = table.entry("timezone")
        && table.get("schedule").is_none()
    {
        let hint = "add schedule = \"0 3 * * *\"; or leave both out, to run it only by hand";
        problems.add(document.problem(&zone.span, "`timezone` without `schedule` says nothing").hint(hint));
    }
}

/// The domain's policy, of a file in which nothing is wrong; `warnings` gets what is valid and still not well.
pub(super) fn convert(
    raw: RawPolicy,
    document: &Document,
    file: &Path,
    folder: &Path,
    warnings: &mut Vec<String>,
) -> Policy {
    let name = raw.policy.name.0;
    let mut warn = |sentence: String| warnings.push(format!("policy {name}: {sentence}"));
    let not_done = "is not done by this version";
    if raw.source.kind == SourceKind::Rds {
        warn(format!("source.kind \"rds\" {not_done}: the source is treated as any PostgreSQL server"));
    }
    if raw.encryption.recipients.len() < 2 {
        warn("there is only one recipient: if its key is lost, every backup is; add an escrow key".to_owned());
    }
    if raw.drill.is_empty() {
        warn("it runs no drill, so nothing of it can ever be proven".to_owned());
    }
    let allowed: Span = raw.objectives.allowances.values().map(|span| span.0).sum();
    if allowed >= raw.objectives.rto.0 {
        warn(format!(
            "the allowances ({allowed}) use up the whole RTO ({}): no drill can meet it",
            raw.objectives.rto.0
        ));
    }
    if let Some(wal) = &raw.wal
        && !wal.stream
    {
        for (key, there) in [("heartbeat", wal.heartbeat.is_some()), ("lag", wal.lag.is_some())] {
            if there {
                warn(format!(
                    "wal.{key} does nothing without wal.stream = true: `lifeboat wal stream` is what uses it"
                ));
            }
        }
    }
    for job in &raw.backup {
        if !matches!(job.method, Method::Logical | Method::Physical) {
            let (job, method) = (&job.name.0, job.method.as_str());
            warn(format!("job {job}: method \"{method}\" {not_done}: the job never runs"));
        }
    }
    if let Some(sentence) = login::tls_warning(&format!("policy {name}"), &raw.source.url.0.0, raw.source.tls) {
        warnings.push(sentence);
    }
    // In the order in which they are written, which is the order in which they happen.
    let mut allowances: Vec<(String, Span)> =
        raw.objectives.allowances.into_iter().map(|(name, span)| (name, span.0)).collect();
    let place =
        |name: &str| document.root.get("objectives.allowances").and_then(|all| Some(all.entry(name)?.span.start));
    allowances.sort_by_key(|(name, _)| place(name));
    let source = Source {
        password: login::password(
            folder,
            raw.source.passfile.as_ref(),
            raw.source.password_file.as_ref(),
            raw.source.password_env,
        ),
        url: raw.source.url.0.0,
        tls: raw.source.tls,
        tls_ca: raw.source.tls_ca.map(|path| path.0.resolve(folder)),
        databases: match raw.source.databases {
            None => Databases::Url,
            Some(RawDatabases::All) => Databases::All,
            Some(RawDatabases::Named(names)) => Databases::Named(names),
        },
        site: raw.source.site.map(|site| site.0),
    };
    let drills = raw.drill.into_iter().map(|drill| DrillUse {
        drill: drill.drill.0,
        schedule: schedule(drill.schedule.map(|when| when.0.0), drill.timezone.map(|zone| zone.0.0)),
        terms: timetable::terms(drill.jitter, drill.catch_up, drill.window, drill.needs),
    });
    Policy {
        name,
        owner: raw.policy.owner.0.0,
        tier: raw.policy.tier,
        source,
        objectives: Objectives {
            rpo: raw.objectives.rpo.0,
            rto: raw.objectives.rto.0,
            proof_max_age: raw.objectives.proof_max_age.0,
            allowances,
        },
        backups: raw.backup.into_iter().map(job).collect(),
        wal: raw.wal.map(|wal| WalPlan {
            stream: wal.stream,
            lag: wal.lag.map(|span| span.0),
            heartbeat: wal.heartbeat.map(|span| span.0),
            spool: wal.spool.map(|spool| Spool { dir: spool.dir.0.resolve(folder), max: spool.max.0 }),
            keep: wal.keep.map(|span| span.0),
        }),
        lock: raw.lock.map(|lock| Lock {
            mode: match lock.mode {
                RawLockMode::Governance => LockMode::Governance,
                RawLockMode::Compliance => LockMode::Compliance,
            },
            keep: lock.keep.0,
        }),
        encryption: Encryption { recipients: raw.encryption.recipients.into_iter().map(|text| text.0.0).collect() },
        read_back_within: raw.verify.map(|verify| verify.within.0),
        content: raw.content.map_or_else(ContentPlan::default, |content| ContentPlan {
            sample_over: content.sample_over.map(|size| size.0),
            sample_percent: content.sample_percent.unwrap_or(ContentPlan::default().sample_percent),
        }),
        drills: drills.collect(),
        file: file.to_owned(),
    }
}

fn job(raw: RawJob) -> BackupJob {
    BackupJob {
        name: raw.name.0,
        method: raw.method,
        schedule: schedule(raw.schedule.map(|when| when.0.0), raw.timezone.map(|zone| zone.0.0)),
        terms: timetable::terms(raw.jitter, raw.catch_up, None, raw.needs),
        store: raw.store.0,
        copies: raw.copies.into_iter().map(|name| name.0).collect(),
        copy_within: raw.copy_within.map(|span| span.0),
        retention: raw.retention.map(|raw| Retention {
            keep: raw.keep.map(|span| span.0),
            daily: raw.daily,
            weekly: raw.weekly,
            monthly: raw.monthly,
            yearly: raw.yearly,
            at_least: raw.at_least,
        }),
        part_size: raw.part_size.map(|size| size.0),
        level: raw.level.unwrap_or(LEVEL),
        read: match raw.read {
            None | Some(RawRead::Auto) => ReadBy::Auto,
            Some(RawRead::Local) => ReadBy::Local,
            Some(RawRead::Stream) => ReadBy::Stream,
        },
    }
}

fn schedule(text: Option<String>, zone: Option<String>) -> Option<Schedule> {
    text.map(|text| Schedule { text, timezone: zone.unwrap_or_else(|| "UTC".to_owned()) })
}
