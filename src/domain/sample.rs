//! Transcripts, artifacts and policies with fixed content, for tests. The integration tests take in this file too, and
//! none of its users needs all of it.

#![allow(dead_code, reason = "shared by several test crates")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;

use crate::domain::artifact::{Basis, MANIFEST_FORMAT, Manifest, RecoveryPoint, Stream, StreamKind};
use crate::domain::check::{Assertion, CheckName, CheckResult, Expectation, Finding, Measure, Outcome, Unchecked};
use crate::domain::config::{Config, Keys, Limits, ScratchConfig, StoreConfig, StorePlace};
use crate::domain::drill::{
    AwaitReady, Check, Drill, IsolationDemand, Loss, Pick, Restore, ScratchKind, ScratchPlan, Step, Target,
};
use crate::domain::ids::{BackupId, RunId};
use crate::domain::inventory::{Fingerprint, Server, Tablespace};
use crate::domain::lsn::Lsn;
use crate::domain::observed::Observed;
use crate::domain::policy::{
    BackupJob, ContentPlan, Databases, DrillUse, Encryption, Method, Objectives, PasswordSource, Policy, Source,
};
use crate::domain::run::ArtifactRecord;
use crate::domain::transcript::{
    BackupUsed, Ended, Isolation, Judgement, Phase, ScratchUsed, StepRecord, TRANSCRIPT_SCHEMA, Transcript, Verdict,
};
use crate::domain::units::{ByteSize, Span};

/// A moment, from RFC 3339.
pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The `n`th run.
pub fn run(n: u128) -> RunId {
    RunId(uuid::Uuid::from_u128(0x0192_8c4e_7b00_7000_8000_0000_0000_0000 + n))
}

/// RPO 24 h, RTO 30 min, proof for 7 days, 12 min of allowances.
pub fn objectives() -> Objectives {
    Objectives {
        rpo: Span::from_secs(86_400),
        rto: Span::from_secs(1_800),
        proof_max_age: Span::from_secs(7 * 86_400),
        allowances: vec![
            ("detect".to_owned(), Span::from_secs(300)),
            ("decide".to_owned(), Span::from_secs(300)),
            ("cut_over".to_owned(), Span::from_secs(120)),
        ],
    }
}

/// A policy for the database `orders` with a physical and a logical job.
pub fn policy() -> Policy {
    let job = |name: &str, method| BackupJob {
        name: name.parse().unwrap(),
        method,
        schedule: None,
        terms: Default::default(),
        store: "primary".parse().unwrap(),
        copies: Vec::new(),
        copy_within: None,
        retention: None,
        part_size: None,
        level: 3,
        read: Default::default(),
    };
    let drill = |name: &str| DrillUse { drill: name.parse().unwrap(), schedule: None, terms: Default::default() };
    Policy {
        name: "orders".parse().unwrap(),
        owner: "payments-dba".to_owned(),
        tier: Some("critical".to_owned()),
        source: Source {
            kind: crate::domain::policy::SourceKind::Server,
            url: "postgresql://lifeboat@/orders?host=/run/postgresql".to_owned(),
            password: PasswordSource::Default,
            tls: None,
            tls_ca: None,
            databases: Databases::Url,
            site: None,
        },
        objectives: objectives(),
        backups: vec![job("nightly", Method::Physical), job("dump", Method::Logical)],
        wal: None,
        lock: None,
        encryption: Encryption { recipients: vec!["age1working".to_owned(), "age1escrow".to_owned()] },
        read_back_within: None,
        content: ContentPlan::default(),
        drills: vec![drill("restore-latest"), drill("restore-logical")],
        file: PathBuf::from("policies/orders.toml"),
    }
}

/// The artifact of a backup that began at `started` and took 40 s.
pub fn artifact(method: Method, started: &str, sequence: u64) -> ArtifactRecord {
    let started_at = at(started);
    ArtifactRecord {
        backup: BackupId::new(started_at, u32::try_from(sequence).unwrap()),
        policy: "orders".parse().unwrap(),
        job: if method == Method::Physical { "nightly" } else { "dump" }.parse().unwrap(),
        method,
        store: "primary".parse().unwrap(),
        sequence,
        started_at,
        finished_at: started_at + Span::from_secs(40).0,
        recovery_point: started_at + Span::from_secs(if method == Method::Physical { 38 } else { 0 }).0,
        plain_bytes: ByteSize(1_288_490_189),
        sealed_bytes: ByteSize(402_653_184),
        manifest_sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned(),
        system_identifier: "7412345678901234567".to_owned(),
    }
}

/// A configuration with one store.
pub fn config() -> Config {
    Config {
        file: PathBuf::from("/etc/lifeboat/lifeboat.toml"),
        catalog: PathBuf::from("/var/lib/lifeboat/lifeboat.db").into(),
        policies: PathBuf::from("/etc/lifeboat/policies"),
        drills: PathBuf::from("/etc/lifeboat/drills"),
        reports: PathBuf::from("/var/lib/lifeboat/reports"),
        stores: BTreeMap::from([(
            "primary".parse().unwrap(),
            StoreConfig {
                place: StorePlace::File { path: PathBuf::from("/srv/backups") },
                media: "disk".parse().unwrap(),
                site: None,
            },
        )]),
        keys: Keys {
            identities: vec![PathBuf::from("/etc/lifeboat/keys/working.agekey")],
            escrow: Vec::new(),
            signing: Some(PathBuf::from("/etc/lifeboat/keys/signing.pem")),
            trusted_signers: vec![PathBuf::from("/etc/lifeboat/keys/signing.pub.pem")],
        },
        scratch: ScratchConfig {
            dir: PathBuf::from("/var/tmp/lifeboat"),
            user: "postgres".to_owned(),
            preload: Vec::new(),
            servers: BTreeMap::new(),
        },
        bin_dirs: Vec::new(),
        limits: Limits { parallel: 2, connect_timeout: Span::from_secs(10) },
        watch: Default::default(),
        schedule: Default::default(),
        serve: Default::default(),
    }
}

/// The manifest of the physical sample: a server with one tablespace.
pub fn manifest() -> Manifest {
    let record = artifact(Method::Physical, "2026-11-20T03:00:00Z", 12);
    Manifest {
        format: MANIFEST_FORMAT.to_owned(),
        backup: record.backup,
        policy: record.policy,
        job: record.job,
        sequence: record.sequence,
        method: record.method,
        started_at: record.started_at,
        finished_at: record.finished_at,
        recovery_point: RecoveryPoint { at: record.recovery_point, lsn: None, basis: Basis::EndOfBackup },
        wal: None,
        streams: vec![Stream {
            name: "base".to_owned(),
            kind: StreamKind::Tar,
            parts: Vec::new(),
            plain_bytes: record.plain_bytes.0,
        }],
        recipients: policy().encryption.recipients,
        pages: None,
        fingerprint: Fingerprint {
            server: Server {
                system_identifier: record.system_identifier,
                version_num: 150_014,
                version: "15.14".to_owned(),
                data_checksums: true,
                in_recovery: false,
                timeline: 1,
                lsn: Lsn(0x5A00_0028),
                clock: record.started_at,
                wal_segment_bytes: 16 << 20,
                settings: BTreeMap::new(),
            },
            roles: Vec::new(),
            tablespaces: vec![Tablespace { oid: 16_500, name: "fast".to_owned(), location: "/mnt/fast/pg".to_owned() }],
            databases: Vec::new(),
            unseen: Vec::new(),
            changed_meanwhile: Vec::new(),
            shared: None,
        },
        tools: BTreeMap::new(),
        clock_skew: Span::from_millis(12),
    }
}

/// A check of a drill.
pub fn check(name: CheckName, required: bool) -> Check {
    Check { name, required, assertion: None, heapallindexed: false, timeout: None }
}

/// The question that the sample drills ask.
pub fn assertion() -> Assertion {
    Assertion { sql: "select count(*) > 0 from orders".to_owned(), database: None, expect: Expectation::Is(true) }
}

/// A drill with these checks.
pub fn drill(name: &str, method: Method, checks: &[CheckName]) -> Drill {
    let mut steps = vec![Step::Provision, Step::Restore(Restore { until: Target::Latest })];
    steps.push(Step::AwaitReady(AwaitReady {
        query: "select 1 from orders limit 1".to_owned(),
        database: None,
        within: Span::from_millis(200),
        timeout: Span::from_secs(600),
    }));
    for name in checks {
        let assertion = (*name == CheckName::Assert).then(assertion);
        steps.push(Step::Check(Check { assertion, ..check(*name, *name != CheckName::Settings) }));
    }
    steps.push(Step::Destroy);
    Drill {
        name: name.parse().unwrap(),
        description: "Lose the primary now; bring back the newest backup".to_owned(),
        pick: Pick::Latest,
        method: Some(method),
        loss: Loss::Now,
        from: None,
        keys: Default::default(),
        scratch: ScratchPlan { kind: ScratchKind::Cluster, server: None, isolation: IsolationDemand::Required },
        steps,
    }
}

/// A check that passed, having looked at something.
pub fn passed(name: CheckName, count: u64, what: &str) -> CheckResult {
    CheckResult {
        beat: None,
        name,
        title: if name == CheckName::Assert { assertion().sql } else { name.to_string() },
        required: name != CheckName::Settings,
        outcome: Outcome::Passed,
        looked_at: vec![Measure::new(count, what)],
        unchecked: Vec::new(),
        took: Span::from_millis(1_200),
    }
}

fn record(step: Step, phase: Option<Phase>, began: i64, took: i64, facts: &[&str]) -> StepRecord {
    StepRecord {
        step,
        phase,
        began: Span::from_millis(began),
        took: Span::from_millis(took),
        ended: Ended::Done,
        facts: facts.iter().map(|fact| (*fact).to_owned()).collect(),
    }
}

/// A physical drill in which everything went well, not judged yet.
pub fn physical() -> Transcript {
    let names = [
        CheckName::Manifest,
        CheckName::PageChecksums,
        CheckName::Amcheck,
        CheckName::Completeness,
        CheckName::Content,
        CheckName::Assert,
        CheckName::Settings,
    ];
    let drill = drill("restore-latest", Method::Physical, &names);
    let mut steps = vec![
        record(
            Step::Provision,
            Some(Phase::Provision),
            0,
            120,
            &["made a private folder for a server of version 15.14"],
        ),
        record(
            drill.steps[1].clone(),
            Some(Phase::Restore),
            120,
            14_300,
            &["opened 74 parts (384.0 MiB stored, 1.2 GiB plain)", "verified 157286 page checksums"],
        ),
        record(drill.steps[1].clone(), Some(Phase::Start), 14_420, 2_100, &["replayed the log to 0/5A000138"]),
        record(drill.steps[2].clone(), Some(Phase::Ready), 16_520, 40, &["the query answered in 3ms"]),
    ];
    let mut began = 16_560;
    for step in &drill.steps[3..drill.steps.len() - 1] {
        let required = matches!(step, Step::Check(check) if check.required);
        steps.push(record(step.clone(), required.then_some(Phase::Checks), began, 1_200, &[]));
        began += 1_200;
    }
    steps.push(record(Step::Destroy, None, began, 300, &["stopped the server and removed its folder"]));
    let mut amcheck = passed(CheckName::Amcheck, 118, "relations");
    amcheck.unchecked = vec![Unchecked::inherent("index public.orders_note_gin", "amcheck cannot read gin indexes")];
    let artifact = artifact(Method::Physical, "2026-11-20T03:00:00Z", 12);
    Transcript {
        schema: TRANSCRIPT_SCHEMA.to_owned(),
        run: run(1),
        policy: "orders".parse().unwrap(),
        owner: "payments-dba".to_owned(),
        objectives: objectives(),
        drill,
        started_at: at("2026-11-20T05:00:00Z"),
        finished_at: at("2026-11-20T05:00:26Z"),
        lost_at: at("2026-11-20T05:00:00Z"),
        backup: Some(BackupUsed {
            id: artifact.backup.clone(),
            method: Method::Physical,
            store: "primary".to_owned(),
            place: None,
            opened_by: Vec::new(),
            why: "the newest physical backup of the policy".to_owned(),
            started_at: artifact.started_at,
            finished_at: artifact.finished_at,
            recovery_point: artifact.recovery_point,
            basis: Basis::EndOfBackup,
            manifest_sha256: artifact.manifest_sha256,
            signed_by: Observed::Known("MCowBQYDK2VwAyEA3p7bfXt9wbTTW2HC7OQ1Nz8=".to_owned()),
            signer_trusted: true,
            plain_bytes: artifact.plain_bytes,
            sealed_bytes: artifact.sealed_bytes,
            server_version: "15.14".to_owned(),
        }),
        log: None,
        scratch: Some(ScratchUsed {
            kind: ScratchKind::Cluster,
            name: run(1).scratch_name(),
            server_version: Some("15.14".to_owned()),
            isolation: Isolation {
                network: true,
                processes: true,
                files: true,
                user: "postgres".to_owned(),
                means: "unshare -n -i -p, setpriv".to_owned(),
            },
            destroyed_at: Some(at("2026-11-20T05:00:26Z")),
        }),
        steps,
        checks: vec![
            passed(CheckName::Manifest, 74, "parts"),
            passed(CheckName::PageChecksums, 157_286, "pages"),
            amcheck,
            passed(CheckName::Completeness, 412, "objects"),
            passed(CheckName::Content, 41, "tables"),
            passed(CheckName::Assert, 1, "answers"),
            passed(CheckName::Settings, 31, "settings"),
        ],
        clock_skew: Observed::Known(Span::from_millis(12)),
        tools: BTreeMap::from([
            ("lifeboat".to_owned(), "0.1.0".to_owned()),
            ("postgres".to_owned(), "15.14".to_owned()),
        ]),
        environment: Vec::new(),
        judgement: unjudged(),
    }
}

/// A logical drill in which a table was lost and a row was changed, not judged yet.
pub fn logical_with_findings() -> Transcript {
    let mut transcript = physical();
    let names = [CheckName::Manifest, CheckName::Completeness, CheckName::Content, CheckName::Sequences];
    transcript.run = run(2);
    transcript.drill = drill("restore-logical", Method::Logical, &names);
    let artifact = artifact(Method::Logical, "2026-11-20T02:00:00Z", 11);
    if let Some(backup) = &mut transcript.backup {
        backup.id = artifact.backup;
        backup.method = Method::Logical;
        backup.basis = Basis::SnapshotStart;
        backup.started_at = artifact.started_at;
        backup.finished_at = artifact.finished_at;
        backup.recovery_point = artifact.recovery_point;
        backup.why = "the newest logical backup of the policy".to_owned();
    }
    if let Some(scratch) = &mut transcript.scratch {
        scratch.name = run(2).scratch_name();
        scratch.isolation.network = false;
        scratch.isolation.means = "setpriv".to_owned();
    }
    transcript.drill.scratch.isolation = IsolationDemand::Preferred;
    transcript.environment = vec![Finding::new(
        "no_network_isolation",
        "scratch",
        "the scratch server was not cut off from the network, because this machine allows no namespaces",
    )];
    let steps = transcript.drill.steps.clone();
    transcript.steps.truncate(4);
    for (record, step) in transcript.steps.iter_mut().zip([&steps[0], &steps[1], &steps[1], &steps[2]]) {
        record.step = step.clone();
    }
    transcript.steps[1].facts = vec!["restored 3 databases with pg_restore, 2 jobs".to_owned()];
    transcript.steps[2].facts = Vec::new();
    for (index, step) in steps[3..].iter().enumerate() {
        let phase = matches!(step, Step::Check(_)).then_some(Phase::Checks);
        transcript.steps.push(record(step.clone(), phase, 16_560 + 900 * i64::try_from(index).unwrap(), 900, &[]));
    }
    let mut completeness = passed(CheckName::Completeness, 411, "objects");
    completeness.outcome = Outcome::Failed(vec![
        Finding::new(
            "table_missing",
            "table public.line_items",
            "the table is in the fingerprint and was not restored",
        )
        .with("present", "absent"),
    ]);
    let mut content = passed(CheckName::Content, 40, "tables");
    content.outcome = Outcome::Failed(vec![
        Finding::new(
            "content_differs",
            "table public.<script>alert(1)</script>",
            "the rows are not those that were backed up",
        )
        .with("20000 rows, digest 5f1d", "20000 rows, digest 9c02"),
    ]);
    let mut sequences = passed(CheckName::Sequences, 0, "sequences");
    sequences.looked_at.clear();
    sequences.outcome = Outcome::Broke {
        error: "the connection was closed: out of memory".to_owned(),
        hint: Some("give the scratch server more memory, and run the drill again".to_owned()),
    };
    transcript.checks = vec![passed(CheckName::Manifest, 21, "parts"), completeness, content, sequences];
    transcript
}

/// A physical drill whose server could not be started, not judged yet.
pub fn broken_start() -> Transcript {
    let mut transcript = physical();
    transcript.run = run(3);
    if let Some(scratch) = &mut transcript.scratch {
        scratch.name = run(3).scratch_name();
        scratch.server_version = None;
    }
    for (index, record) in transcript.steps.iter_mut().enumerate() {
        match index {
            0 | 1 => {}
            2 => {
                record.ended = Ended::Broke {
                    error: "the scratch server did not start: could not load library \"pg_cron\"".to_owned(),
                    hint: Some("name it in lifeboat.toml: [scratch] preload = [\"pg_cron\"]".to_owned()),
                };
                record.facts.clear();
            }
            _ if record.step == Step::Destroy => {}
            _ => {
                record.ended = Ended::Skipped;
                record.took = Span::ZERO;
                record.facts.clear();
            }
        }
    }
    for check in &mut transcript.checks[2..] {
        check.outcome = Outcome::Unchecked("the drill did not get that far".to_owned());
        check.looked_at.clear();
        check.unchecked.clear();
        check.took = Span::ZERO;
    }
    transcript.backup.as_mut().unwrap().signed_by = Observed::Absent;
    transcript.backup.as_mut().unwrap().signer_trusted = false;
    transcript
}

/// No judgement.
pub fn unjudged() -> Judgement {
    Judgement {
        verdict: Verdict::Unproven,
        reasons: vec!["not judged yet".to_owned()],
        rpa: None,
        rta: None,
        phases: Vec::new(),
        valid_until: None,
    }
}

/// The same transcript, judged.
pub fn judged(mut transcript: Transcript) -> Transcript {
    transcript.judgement = crate::judge::drill::judge(&transcript);
    transcript
}
