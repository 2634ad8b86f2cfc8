use super::*;
use crate::domain::artifact::{Part, Slice, Stream, StreamKind, WalRange};
use crate::domain::check::CheckName;
use crate::domain::drill::Sabotage;
use crate::domain::inventory::{Content, LargeObjects, Object, Sequence, Snapshot};
use crate::domain::observed::Observed;
use crate::domain::sample;
use crate::domain::transcript::Verdict;

fn database() -> Database {
    let object = |kind: &str, identity: &str| Object {
        kind: kind.to_owned(),
        identity: identity.to_owned(),
        definition: String::new(),
        owner: None,
    };
    let content = |rows, percent| Observed::Known(Content { rows, digested: rows, percent, digest: String::new() });
    let table = |name: &str, content| Table { name: name.to_owned(), content, bytes: 8192 };
    let sequence = |name: &str, last: i64, is_called: bool| Sequence {
        name: name.to_owned(),
        last_value: Observed::Known(last),
        is_called,
        moved_to: None,
    };
    Database {
        name: "shop".to_owned(),
        oid: 16_384,
        owner: "app".to_owned(),
        encoding: "UTF8".to_owned(),
        locale: "libc collate=C ctype=C".to_owned(),
        collation_version: None,
        collation_actual: None,
        settings: vec![],
        snapshot: Snapshot { taken_at: jiff::Timestamp::UNIX_EPOCH, xmin: 1, xmax: 1, xip: vec![] },
        extensions: vec![],
        collations: vec![],
        objects: vec![
            object("table", "shop.full"),
            object("table", "shop.empty"),
            object("table", "shop.sampled"),
            object("materialized view", "shop.derived"),
            object("index", "shop.full_pkey"),
            object("index", "shop.empty_pkey"),
            object("index", "shop.by_name"),
            object("constraint", "full_pkey on shop.full"),
            object("constraint", "empty_pkey on shop.empty"),
            object("constraint", "positive on shop.full"),
            object("constraint", "positive on shop.a_domain"),
            object("grant", "PUBLIC on table shop.full"),
            object("grant", "reader on table shop.full"),
            object("grant", "reader on schema shop"),
        ],
        tables: vec![
            table("shop.full", content(9, 100)),
            table("shop.empty", content(0, 100)),
            table("shop.sampled", content(9, 10)),
            table("shop.derived", content(9, 100)),
        ],
        sequences: vec![sequence("shop.used", 42, true), sequence("shop.fresh", 1, false)],
        large_objects: LargeObjects { count: 0, digest: Observed::Absent },
        changed_meanwhile: Vec::new(),
    }
}

fn manifest() -> Manifest {
    let slice = |path: &str, bytes| Slice {
        path: path.to_owned(),
        kind: MemberKind::File,
        mode: 0o600,
        size: bytes,
        offset: 0,
        bytes,
        at: 0,
    };
    let part = |key: &str, members| Part {
        key: key.to_owned(),
        plain_bytes: 1,
        plain_blake3: String::new(),
        sealed_bytes: 1,
        sealed_sha256: String::new(),
        members,
    };
    let files = [
        ("base/16384/16400", 8192),
        ("base/16384/16400_fsm", 8192),
        ("base/16384/1259", 8192),
        ("base/16384/16500", 100),
        ("base/1/16600", 8192),
        ("base/4/1259", 8192),
        ("pg_wal/00000001000000010000007F", 16 << 20),
    ];
    let members = files.map(|(path, bytes)| slice(path, bytes)).to_vec();
    let mut manifest = sample::manifest();
    manifest.streams = vec![Stream {
        name: "base".to_owned(),
        kind: StreamKind::Tar,
        parts: vec![part("base/00000.zst.age", members), part("base/00001.zst.age", vec![])],
        plain_bytes: 2,
    }];
    manifest.wal = Some(WalRange { timeline: 1, start: Lsn(0x1_7F00_0028), end: Lsn(0x1_8000_0000) });
    manifest.fingerprint.databases = vec![database()];
    manifest
}

fn chosen(mutation: Mutation, manifest: &Manifest, kind: ScratchKind) -> Result<String, String> {
    let mut drill = sample::physical().drill;
    drill.scratch.kind = kind;
    choose(mutation, Ground { manifest, drill: &drill, older: None, seed: 1 }).map(|victim| victim.name)
}

#[test]
fn victims_are_what_the_mutation_can_break_and_a_check_can_see() {
    let manifest = manifest();
    for (mutation, name) in [
        (Mutation::RowChanged, "shop.full"),
        (Mutation::TableDropped, "shop.full"),
        (Mutation::IndexDropped, "shop.by_name"),
        (Mutation::IndexBroken, "shop.full_pkey"),
        (Mutation::ConstraintDropped, "positive on shop.full"),
        (Mutation::GrantRevoked, "reader on table shop.full"),
        (Mutation::SequenceShifted, "shop.used"),
        (Mutation::PageFlipped, "base/16384/16400"),
        (Mutation::UnreadPageFlipped, "base/4/1259"),
        (Mutation::WalLost, "pg_wal/00000001000000010000007F"),
        (Mutation::PartsSwapped, "base/00000.zst.age"),
        (Mutation::SettingChanged, "shop"),
    ] {
        assert_eq!(chosen(mutation, &manifest, ScratchKind::Cluster).as_deref(), Ok(name), "{mutation}");
    }
}

#[test]
fn what_does_not_apply_says_why() {
    let physical = manifest();
    let mut logical = manifest();
    logical.method = Method::Logical;
    let mut unchecked = manifest();
    unchecked.fingerprint.server.data_checksums = false;
    let (cluster, database) = (ScratchKind::Cluster, ScratchKind::Database);
    for (mutation, manifest, kind, why) in [
        (Mutation::GlobalsLost, &physical, cluster, "data folder"),
        (Mutation::WalLost, &logical, cluster, "no log"),
        (Mutation::PageFlipped, &logical, cluster, "not pages"),
        (Mutation::PageFlipped, &unchecked, cluster, "no page checksums"),
        (Mutation::RoleMissing, &logical, database, "not restored"),
        (Mutation::IndexBroken, &logical, database, "not ours"),
        (Mutation::LargeObjectLost, &logical, cluster, "no large object"),
        (Mutation::ExtensionMissing, &logical, cluster, "no database has an extension"),
        (Mutation::CollationChanged, &logical, cluster, "has a version"),
        (Mutation::ArtifactReplayed, &logical, cluster, "no older backup"),
    ] {
        let said = chosen(mutation, manifest, kind).unwrap_err();
        assert!(said.contains(why), "{mutation}: {said}");
    }
}

#[test]
fn the_seed_alone_chooses() {
    let mut manifest = manifest();
    let mut names = BTreeSet::new();
    let template = manifest.fingerprint.databases[0].tables[0].clone();
    for n in 0..20 {
        let name = format!("shop.t{n}");
        manifest.fingerprint.databases[0].tables.push(Table { name: name.clone(), ..template.clone() });
        let object = crate::domain::inventory::Object {
            kind: "table".to_owned(),
            identity: name,
            definition: String::new(),
            owner: None,
        };
        manifest.fingerprint.databases[0].objects.push(object);
    }
    let drill = sample::physical().drill;
    for seed in 0..50 {
        let once = || choose(Mutation::RowDeleted, Ground { manifest: &manifest, drill: &drill, older: None, seed });
        assert_eq!(once(), once());
        names.insert(once().unwrap().name);
    }
    assert!(names.len() > 10, "{names:?}");
}

#[test]
fn only_a_finding_that_counts_catches() {
    let victim = Victim { name: "shop.full".to_owned(), database: Some("shop".to_owned()) };
    let finding = |object: &str| Outcome::Failed(vec![Finding::new("x", object, "wrong")]);
    let broke = || Outcome::Broke { error: "no answer".to_owned(), hint: None };
    let caught = |as_expected| Came::Caught { as_expected };
    type Change = Box<dyn Fn(&mut Transcript)>;
    let set = |name: CheckName, outcome: Outcome| -> Change {
        Box::new(move |transcript| {
            let check = transcript.checks.iter_mut().find(|check| check.name == name).unwrap();
            check.outcome = outcome.clone();
        })
    };
    let sabotaged = |ended: Ended| -> Change {
        Box::new(move |transcript| {
            let mut record = transcript.steps[3].clone();
            record.step = Step::Sabotage(Sabotage { sql: String::new(), database: None });
            record.ended = ended.clone();
            transcript.steps.push(record);
        })
    };
    let failed_step = || Ended::Broke { error: "no room".to_owned(), hint: None };
    let cases: Vec<(&str, Change, Option<Came>)> = vec![
        ("nothing", Box::new(|_| {}), None),
        ("the right check", set(CheckName::Content, finding("table shop.full")), Some(caught(true))),
        ("another object", set(CheckName::Content, finding("table shop.other")), Some(caught(false))),
        ("another check", set(CheckName::Amcheck, finding("table shop.full")), Some(caught(false))),
        ("not required", set(CheckName::Settings, finding("table shop.full")), None),
        ("a check that broke", set(CheckName::Content, broke()), None),
        (
            "the mutation failed",
            sabotaged(failed_step()),
            Some(Came::Broke { error: "no room".to_owned(), hint: None }),
        ),
    ];
    for (says, change, expected) in cases {
        let mut transcript = sample::physical();
        change(&mut transcript);
        let transcript = sample::judged(transcript);
        let red = reds(&transcript, &victim);
        let came = came(Mutation::RowChanged, &transcript, &red);
        match expected {
            Some(expected) => assert_eq!(came, expected, "{says}"),
            None => assert!(matches!(came, Came::Missed { .. }), "{says}: {came:?}"),
        }
    }
}

#[test]
fn a_stale_backup_is_caught_by_the_objective() {
    let mut transcript = sample::physical();
    transcript.objectives.rpo = crate::domain::units::Span::from_secs(1);
    let transcript = sample::judged(transcript);
    assert_eq!(transcript.judgement.verdict, Verdict::Failed);
    let victim = Victim { name: "recovery point".to_owned(), database: None };
    let red = reds(&transcript, &victim);
    assert_eq!(came(Mutation::BackupStale, &transcript, &red), Came::Caught { as_expected: true });
}

#[test]
fn names_are_told_apart_where_they_can_be() {
    assert_eq!(on("a on b.c"), Some(("a", "b.c")));
    assert_eq!(on("\"a on b\" on c"), None);
    assert_eq!(beside("\"a.b\".\"c\"", "k"), "\"a.b\".k");
}
