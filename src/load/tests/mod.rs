//! Files as people write them, good and bad.

mod many;
mod wrong;

use std::path::{Path, PathBuf};

use super::{FileKind, LoadErrors, Loaded, load, load_page, schema};
use crate::domain::check::{CheckName, Expectation};
use crate::domain::drill::{IsolationDemand, KeyChoice, Loss, Pick, ScratchKind, Step};
use crate::domain::policy::{Databases, Method, PasswordSource};
use crate::domain::units::{ByteSize, Span};

const KEY_1: &str = "age1sfwak3acd37y239aj52cce09qmeu4sks5k6c8hwgmfytcglshvkquvpj54";
const KEY_2: &str = "age1s6w5ynfuczp9v7wax7v2s6l992aa55m99sm4kzkkgss36fq4jdlqzm73rt";

const CONFIG: &str = "\
[stores.primary]
kind = \"file\"
path = \"store\"
[stores.dr-region]
kind = \"file\"
path = \"/mnt/dr\"
[scratch.servers.spare]
url = \"postgresql://scratch@/postgres?host=/run/spare\"
";

/// The policy of DESIGN §11, with real recipients.
fn policy() -> String {
    format!(
        r#"[policy]
name = "orders"
owner = "payments-dba"
tier = "critical"

[source]
kind = "postgres"
url = "postgresql://lifeboat@/orders?host=/run/postgresql"

[objectives]
rpo = "5m"
rto = "30m"
proof_max_age = "7d"
allowances = {{ detect = "5m", decide = "5m", cut_over = "2m" }}

[[backup]]
name = "nightly"
method = "physical"
schedule = "0 3 * * *"
timezone = "Europe/Berlin"
store = "primary"
copies = ["dr-region"]
retention = {{ keep = "14d", weekly = 8, monthly = 12, at_least = 3 }}

[wal]
stream = true
heartbeat = "10s"

[encryption]
recipients = ["{KEY_1}", "{KEY_2}"]

[[drill]]
use = "point-in-time"
schedule = "0 5 * * 0"
"#
    )
}

/// The drill of DESIGN §11.
const DRILL: &str = r#"[drill]
name = "point-in-time"
description = "Lose the primary now; bring back the last committed order"
backup = { pick = "latest" }    # latest | oldest | random | id
loss = "now"                    # now | random | a time

[scratch]
kind = "cluster"                # cluster | database | rds
isolation = "required"

[[steps]]
restore.until = "latest"
[[steps]]
await-ready = { query = "select 1 from orders limit 1", within = "200ms", timeout = "10m" }
[[steps]]
check.name = "page_checksums"
[[steps]]
check = { name = "assert", sql = "select count(*) > 0 from orders", is = true }
"#;

fn write(folder: &Path, config: &str, policy: &str, drill: &str) {
    for name in ["policies", "drills"] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
    }
    std::fs::write(folder.join("lifeboat.toml"), config).unwrap();
    std::fs::write(folder.join("policies/orders.toml"), policy).unwrap();
    std::fs::write(folder.join("drills/pit.toml"), drill).unwrap();
}

fn load_texts(config: &str, policy: &str, drill: &str) -> Result<Loaded, LoadErrors> {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), config, policy, drill);
    load(&folder.path().join("lifeboat.toml"))
}

/// Errors as `file:line:column: message · hint`, one a line, without the folder.
fn told(errors: &LoadErrors) -> Vec<String> {
    let errors = errors.json();
    let one = |error: &serde_json::Value| {
        let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
        let file = text("file").rsplit('/').next().unwrap_or_default().to_owned();
        format!("{file}:{}:{}: {} · {}", error["line"], error["column"], text("message"), text("hint"))
    };
    errors.as_array().unwrap().iter().map(one).collect()
}

#[test]
fn the_examples_of_the_design_parse_as_a_whole() {
    let loaded = load_texts(CONFIG, &policy(), DRILL).unwrap_or_else(|errors| panic!("{errors}"));
    let policy = &loaded.policies[0];
    assert_eq!(policy.objectives.rpo, Span::from_secs(300));
    let allowances: Vec<&str> = policy.objectives.allowances.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(allowances, ["detect", "decide", "cut_over"], "in the order in which they happen");
    let job = &policy.backups[0];
    assert_eq!((job.method, job.store.as_str(), job.level), (Method::Physical, "primary", 3));
    assert_eq!(job.schedule.as_ref().unwrap().timezone, "Europe/Berlin");
    assert_eq!(policy.drills[0].schedule.as_ref().unwrap().timezone, "UTC");
    assert_eq!(job.retention.as_ref().unwrap().weekly, 8);
    assert_eq!(policy.source.databases, Databases::Url);
    assert_eq!(policy.content.sample_over, None);
    let drill = &loaded.drills[0];
    assert_eq!((&drill.pick, drill.loss, drill.method), (&Pick::Latest, Loss::Now, None));
    assert_eq!(drill.steps.first(), Some(&Step::Provision));
    assert_eq!(drill.steps.last(), Some(&Step::Destroy));
    assert_eq!(drill.steps.len(), 6);
    let Step::Check(assertion) = &drill.steps[4] else { panic!("{:?}", drill.steps) };
    assert_eq!(assertion.assertion.as_ref().unwrap().expect, Expectation::Is(true));
    assert_eq!((job.copies[0].as_str(), job.copy_within), ("dr-region", None));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn what_only_a_receiver_uses_is_told_where_there_is_none() {
    let text = policy().replace("stream = true\n", "");
    let loaded = load_texts(CONFIG, &text, DRILL).unwrap();
    assert!(loaded.warnings.iter().any(|one| one.contains("wal.heartbeat does nothing")), "{:?}", loaded.warnings);
}

#[test]
fn everything_that_can_be_said_is_read() {
    let config = "[catalog]\npath = \"/var/lib/c.db\"\n[folders]\nreports = \"out\"\n[stores.primary]\nkind = \"file\"\npath = \"s\"\n\
        [keys]\nsigning = \"k/s.pem\"\nidentities = [\"k/a\"]\ntrusted_signers = [\"k/p\"]\n[scratch]\ndir = \"/x\"\nuser = \"nobody\"\n\
        preload = [\"pg_stat_statements\"]\n[scratch.servers.spare]\nurl = \"postgresql://s@db.example.com/postgres\"\npassword_env = \"PW\"\n\
        tls = \"require\"\ntls_ca = \"ca.pem\"\n[postgres]\nbin_dirs = [\"/opt/pg/bin\"]\n[limits]\nparallel = 2\nconnect_timeout = \"3s\"\n";
    let policy = format!(
        "[policy]\nname = \"a\"\nowner = \"b\"\n[source]\nurl = \"postgresql://u@h.example.com/d\"\ndatabases = [\"x\", \"y\"]\npassfile = \"../pass\"\n\
        tls = \"disable\"\n[objectives]\nrpo = \"1h\"\nrto = \"1h\"\nproof_max_age = \"1d\"\n[[backup]]\nname = \"l\"\nmethod = \"physical\"\n\
        schedule = \"every 6h\"\nstore = \"primary\"\npart_size = \"64 MiB\"\nlevel = 19\nread = \"stream\"\n[content]\nsample_over = \"1 GiB\"\nsample_percent = 7\n\
        [encryption]\nrecipients = [\"{KEY_1}\"]\n"
    );
    let drill = "[drill]\nname = \"d\"\nbackup = { pick = \"20260131T030000Z-0a1b2c3d\", method = \"logical\" }\nloss = \"2026-01-31T04:00:00+01:00\"\n\
        [scratch]\nkind = \"database\"\nserver = \"spare\"\n[[steps]]\nrestore.until = \"latest\"\n[[steps]]\nsabotage = { sql = \"drop table t\", database = \"x\" }\n\
        [[steps]]\nawait-ready.query = \"select 1\"\n[[steps]]\ncheck = { name = \"amcheck\", heapallindexed = true, required = false, timeout = \"5m\" }\n\
        [[steps]]\ncheck = { name = \"assert\", sql = \"select 42\", equals = 42, database = \"x\" }\n\
        [[steps]]\ncheck = { name = \"assert\", sql = \"select 42\", within = [40, 44.5] }\n";
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), config, &policy, drill);
    let loaded = load(&folder.path().join("lifeboat.toml")).unwrap_or_else(|errors| panic!("{errors}"));
    let config = &loaded.config;
    assert_eq!(config.catalog, PathBuf::from("/var/lib/c.db").into());
    assert_eq!(config.reports, folder.path().join("out"));
    assert_eq!(config.keys.signing, Some(folder.path().join("k/s.pem")));
    assert_eq!((config.limits.parallel, config.limits.connect_timeout), (2, Span::from_secs(3)));
    let server = config.scratch.servers.values().next().unwrap();
    assert_eq!(server.password, PasswordSource::Env("PW".to_owned()));
    let policy = &loaded.policies[0];
    assert_eq!(policy.source.password, PasswordSource::Passfile(folder.path().join("policies/../pass")));
    assert_eq!(policy.source.databases, Databases::Named(vec!["x".to_owned(), "y".to_owned()]));
    assert_eq!((policy.backups[0].part_size, policy.backups[0].level), (Some(ByteSize(64 << 20)), 19));
    assert_eq!(policy.backups[0].read, crate::domain::policy::ReadBy::Stream);
    assert_eq!((policy.content.sample_over, policy.content.sample_percent), (Some(ByteSize(1 << 30)), 7));
    let drill = &loaded.drills[0];
    assert_eq!((drill.scratch.kind, drill.scratch.isolation), (ScratchKind::Database, IsolationDemand::Preferred));
    assert!(matches!(drill.pick, Pick::Id(_)) && matches!(drill.loss, Loss::At(_)));
    let Step::AwaitReady(ready) = &drill.steps[3] else { panic!("{:?}", drill.steps) };
    assert_eq!((ready.within, ready.timeout), (Span::from_secs(1), Span::from_secs(600)));
    let Step::Check(check) = &drill.steps[4] else { panic!("{:?}", drill.steps) };
    assert!(check.name == CheckName::Amcheck && check.heapallindexed && !check.required);
    let expects: Vec<Expectation> = drill.steps[5..7]
        .iter()
        .map(|step| match step {
            Step::Check(check) => check.assertion.as_ref().unwrap().expect.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(expects, [Expectation::Equals("42".to_owned()), Expectation::Within(40.0, 44.5)]);
    for part in ["\"disable\"", "\"require\"", "only one recipient", "runs no drill"] {
        assert!(loaded.warnings.iter().any(|warning| warning.contains(part)), "{part}: {:?}", loaded.warnings);
    }
}

#[test]
fn all_errors_of_all_files_come_at_once() {
    let policy =
        policy().replace("rpo = \"5m\"", "rpo = \"5\"").replace("tier", "teir").replace("\"primary\"", "\"none\"");
    let errors =
        load_texts(&CONFIG.replace("kind", "kidn"), &policy, &DRILL.replace("isolation", "isolatoin")).unwrap_err();
    let files: Vec<String> = told(&errors).iter().map(|line| line.split(':').next().unwrap().to_owned()).collect();
    let of = |name: &str| files.iter().filter(|file| *file == name).count();
    assert_eq!((of("lifeboat.toml"), of("orders.toml"), of("pit.toml")), (4, 3, 1), "{:#?}", told(&errors));
    let text = errors.render(false);
    for part in ["8 things are wrong", "orders.toml:11:7", "rpo = \"5\"", "hint: did you mean `tier`?", "pit.toml:9:1"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn files_that_cannot_be_read_are_told_and_follow_up_errors_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("lifeboat.toml");
    write(folder.path(), CONFIG, &policy(), DRILL);
    std::fs::write(folder.path().join("drills/pit.toml"), b"[drill]\nname = \"\xff\"\n").unwrap();
    let errors = told(&load(&config).unwrap_err());
    assert_eq!(errors.len(), 1, "that the drill is not there would only follow: {errors:#?}");
    assert!(errors[0].starts_with("pit.toml:2:9: this is not UTF-8"), "{errors:#?}");

    for (text, part) in [("", "it is empty"), (" \n\n", "it is empty"), ("[drill", "this is not TOML")] {
        std::fs::write(folder.path().join("drills/pit.toml"), text).unwrap();
        let errors = told(&load(&config).unwrap_err());
        assert!(errors.len() == 1 && errors[0].contains(part), "{text:?}: {errors:#?}");
    }
    std::fs::remove_file(folder.path().join("drills/pit.toml")).unwrap();
    std::fs::create_dir(folder.path().join("drills/pit.toml")).unwrap();
    let errors = told(&load(&config).unwrap_err());
    assert!(errors.len() == 1 && errors[0].contains("it is a folder"), "{errors:#?}");

    assert!(told(&load(&folder.path().join("none.toml")).unwrap_err())[0].contains("not there"));
    assert!(told(&load(folder.path()).unwrap_err()).iter().any(|line| line.contains("it is a folder")));
}

#[test]
fn names_are_unique_across_files() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), CONFIG, &policy(), DRILL);
    std::fs::write(folder.path().join("policies/second.toml"), policy()).unwrap();
    std::fs::write(folder.path().join("drills/zwei.toml"), DRILL).unwrap();
    let twice =
        policy().replace("[wal]", "[[backup]]\nname = \"nightly\"\nmethod = \"logical\"\nstore = \"primary\"\n[wal]");
    std::fs::write(folder.path().join("policies/third.toml"), twice.replace("\"orders\"", "\"third\"")).unwrap();
    let errors = told(&load(&folder.path().join("lifeboat.toml")).unwrap_err());
    for part in [
        "second.toml:2:8: there is already a policy `orders`",
        "zwei.toml:2:8: there is already a drill",
        "third.toml:26:8: there is already a backup job",
    ] {
        assert!(errors.iter().any(|line| line.starts_with(part)), "{part}: {errors:#?}");
    }
    assert_eq!(errors.len(), 3, "{errors:#?}");
}

#[test]
fn folders_that_are_missing_or_empty_are_warnings() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("lifeboat.toml");
    std::fs::write(&config, CONFIG).unwrap();
    let loaded = load(&config).unwrap();
    assert!(loaded.warnings.iter().any(|warning| warning.contains("there is no folder")), "{:?}", loaded.warnings);
    std::fs::create_dir(folder.path().join("policies")).unwrap();
    std::fs::write(folder.path().join("policies/.hidden.toml"), "not read").unwrap();
    std::fs::write(folder.path().join("policies/README"), "not read").unwrap();
    let loaded = load(&config).unwrap();
    assert!(loaded.warnings.iter().any(|warning| warning.contains("holds no policy")), "{:?}", loaded.warnings);
    std::fs::write(folder.path().join("policies/orders.toml"), policy()).unwrap();
    let errors = told(&load(&config).unwrap_err());
    assert!(errors[0].contains("no drill `point-in-time`") && errors[0].contains("drills/NAME.toml"), "{errors:#?}");
}

#[test]
fn drills_that_can_prove_nothing_are_warned_of() {
    let only_restore = &DRILL[..DRILL.find("[[steps]]\nawait").unwrap()];
    let loaded = load_texts(CONFIG, &policy(), only_restore).unwrap();
    assert!(loaded.warnings.iter().any(|warning| warning.contains("it checks nothing")), "{:?}", loaded.warnings);
    let logical = DRILL.replace("pick = \"latest\"", "method = \"logical\"");
    let loaded = load_texts(CONFIG, &policy(), &logical).unwrap();
    assert!(loaded.warnings.iter().any(|warning| warning.contains("no job takes one")), "{:?}", loaded.warnings);
    let later = policy().replace("\"physical\"", "\"barman\"");
    let loaded = load_texts(CONFIG, &later, DRILL).unwrap();
    assert!(loaded.warnings.iter().any(|warning| warning.contains("\"barman\" is not done")), "{:?}", loaded.warnings);
}

#[test]
fn the_schemas_describe_every_key_and_have_no_null() {
    for kind in [FileKind::Config, FileKind::Policy, FileKind::Drill] {
        let schema = schema(kind);
        assert!(!schema.to_string().contains("null"), "{kind:?}");
        assert!(!schema.to_string().contains("$ref"), "{kind:?}");
        every_property(&schema, "", &mut |path, property| {
            assert!(property["description"].is_string(), "{kind:?}: {path} has no description");
        });
        assert_eq!(schema["additionalProperties"], false);
    }
    let policy = schema(FileKind::Policy);
    assert_eq!(policy.pointer("/properties/objectives/properties/rpo/format").unwrap(), "duration-text");
    assert_eq!(policy.pointer("/properties/backup/minItems").unwrap(), 1);
}

fn every_property(schema: &serde_json::Value, path: &str, look: &mut impl FnMut(&str, &serde_json::Value)) {
    if let Some(properties) = schema.get("properties").and_then(serde_json::Value::as_object) {
        for (key, property) in properties {
            let path = format!("{path}.{key}");
            look(&path, property);
            every_property(property, &path, look);
        }
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(inner) {
            every_property(inner, path, look);
        }
    }
}

#[test]
fn a_drill_can_demand_one_store_and_the_escrow_keys() {
    let config = format!("{CONFIG}\n[keys]\nescrow = [\"keys/escrow.agekey\"]\n");
    let text = policy().replacen("copies = ", "copy_within = \"6h\"\ncopies = ", 1);
    let demanding =
        |from: &str| DRILL.replacen("loss = ", &format!("from = \"{from}\"\nkeys = \"escrow\"\nloss = "), 1);
    let loaded = load_texts(&config, &text, &demanding("dr-region")).unwrap();
    assert_eq!(loaded.drills[0].from.as_ref().unwrap().as_str(), "dr-region");
    assert_eq!(loaded.drills[0].keys, KeyChoice::Escrow);
    assert!(loaded.config.keys.escrow[0].ends_with("keys/escrow.agekey"));
    assert_eq!(loaded.policies[0].backups[0].copy_within, Some(Span::from_secs(6 * 3_600)));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    // A store that no backup gets to can be demanded, and that is said.
    let lonely = text.replacen("copies = [\"dr-region\"]\n", "", 1).replacen("copy_within = \"6h\"\n", "", 1);
    let loaded = load_texts(&config, &lonely, &demanding("dr-region")).unwrap();
    assert!(loaded.warnings[0].contains("no job's backups get there"), "{:?}", loaded.warnings);
}
