//! What a person sees: status, report, runbook, catalog through the real program; and the runbook's own commands, done by
//! a shell with public tools on a real backup.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use assert_cmd::Command as Program;
use lifeboat::catalog::{Catalog, SqliteCatalog};
use lifeboat::domain::artifact::{Manifest, Part, Stream, StreamKind};
use lifeboat::domain::check::CheckName;
use lifeboat::domain::config::{Config, StoreConfig, StorePlace};
use lifeboat::domain::inventory::{Content, Database, LargeObjects, Snapshot, Table, Tablespace};
use lifeboat::domain::observed::Observed;
use lifeboat::domain::policy::Method;
use lifeboat::domain::run::{Event, Work};
use lifeboat::domain::transcript::Transcript;
use lifeboat::render::runbook::{Artifact, Facts, markdown};

use crate::support::sample::{self, at};
use crate::support::server::{Server, command, unprivileged};

fn lifeboat(folder: &Path) -> Program {
    let mut program = Program::new(env!("CARGO_BIN_EXE_lifeboat"));
    program.current_dir(folder).env_remove("LIFEBOAT_CONFIG").env("COLUMNS", "120").env("NO_COLOR", "1");
    program
}

/// A folder with a configuration, a policy `orders`, its two drills, and an empty store.
fn configured() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for dir in ["policies", "drills", "store"] {
        fs::create_dir(folder.path().join(dir)).unwrap();
    }
    fs::write(folder.path().join("lifeboat.toml"), "[stores.primary]\nkind = \"file\"\npath = \"store\"\n").unwrap();
    let policy = r#"
[policy]
name = "orders"
owner = "payments-dba"
[source]
kind = "postgres"
url = "postgresql://lifeboat@/orders?host=/run/postgresql"
[objectives]
rpo = "10000d"
rto = "30m"
proof_max_age = "10000d"
allowances = { detect = "5m", decide = "5m", cut_over = "2m" }
[[backup]]
name = "nightly"
method = "physical"
store = "primary"
[encryption]
recipients = ["age1sfwak3acd37y239aj52cce09qmeu4sks5k6c8hwgmfytcglshvkquvpj54", "age1s6w5ynfuczp9v7wax7v2s6l992aa55m99sm4kzkkgss36fq4jdlqzm73rt"]
[[drill]]
use = "restore-latest"
"#;
    fs::write(folder.path().join("policies/orders.toml"), policy).unwrap();
    let drill = r#"
[drill]
name = "restore-latest"
description = "Bring the newest backup back"
backup = { pick = "latest" }
loss = "now"
[scratch]
kind = "cluster"
isolation = "required"
[[steps]]
restore.until = "latest"
[[steps]]
check.name = "manifest"
"#;
    fs::write(folder.path().join("drills/restore-latest.toml"), drill).unwrap();
    folder
}

/// Puts a drill into the folder's catalog.
fn drilled(folder: &Path, transcript: &Transcript) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let catalog = SqliteCatalog::open(&folder.join("lifeboat.db")).unwrap();
        let work = Work::Drill { drill: transcript.drill.name.clone() };
        for event in [Event::Planned { work, scheduled_for: None }, Event::Drilled(Box::new(transcript.clone()))] {
            catalog.append(transcript.started_at, &transcript.policy, transcript.run, event).await.unwrap();
        }
        let artifact = sample::artifact(Method::Physical, "2026-11-20T03:00:00Z", 12);
        catalog.adopt(transcript.started_at, vec![artifact]).await.unwrap();
    });
}

fn text(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn without_a_configuration_every_verb_says_how_to_get_one() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in
        [&["status"][..], &["report"], &["runbook", "orders"], &["catalog", "rebuild"], &["catalog", "runs"]]
    {
        let output = lifeboat(folder.path()).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output));
        assert!(text(&output).contains("lifeboat init"), "{arguments:?}: {}", text(&output));
    }
}

#[test]
fn status_of_a_new_configuration_is_unproven_and_says_what_to_do() {
    let folder = configured();
    for arguments in [&["status"][..], &["status", "orders"]] {
        let output = lifeboat(folder.path()).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(4), "{}", text(&output));
        assert!(text(&output).contains("lifeboat backup orders"), "{}", text(&output));
    }
    let output = lifeboat(folder.path()).args(["status", "--output", "json"]).output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((json["schema"].as_str(), json["verdict"].as_str()), (Some("lifeboat.status/1"), Some("unproven")));
    let output = lifeboat(folder.path()).args(["status", "ordesr"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("did you mean `orders`"), "{}", text(&output));
}

#[test]
fn status_shows_a_page_of_many_policies() {
    let folder = configured();
    let text_of = |name: &str| fs::read_to_string(folder.path().join("policies").join(name)).unwrap();
    for name in ["alpha", "billing", "stock", "users"] {
        let policy = text_of("orders.toml").replacen("name = \"orders\"", &format!("name = \"{name}\""), 1);
        fs::write(folder.path().join(format!("policies/{name}.toml")), policy).unwrap();
    }
    let page = |arguments: &[&str]| {
        let output = lifeboat(folder.path()).arg("status").args(arguments).output().unwrap();
        (output.status.code().unwrap(), text(&output), output.stdout)
    };
    let (code, told, _) = page(&["--page", "2", "--per-page", "2"]);
    assert_eq!(code, 4, "{told}");
    assert!(told.contains("orders") && told.contains("stock") && !told.contains("billing"), "{told}");
    assert!(told.contains("page 2 of 3, of 5 policies in all"), "{told}");
    let (_, _, json) = page(&["--page", "3", "--per-page", "2", "--output", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["page"], serde_json::json!({ "number": 3, "of": 3, "per_page": 2, "policies_in_all": 5 }));
    assert_eq!(json["policies"].as_array().unwrap().len(), 1);
    assert_eq!(json["policies"][0]["policy"], "users");
    for (wrong, says) in [
        (&["--page", "4", "--per-page", "2"][..], "name one from 1 to 3"),
        (&["--page", "0"], "--page"),
        (&["--page", "1", "--per-page", "0"], "--per-page"),
        (&["--page", "1", "orders"], "cannot be used with"),
        (&["--per-page", "3"], "--page"),
    ] {
        let (code, told, _) = page(wrong);
        assert!(code == 2 && told.contains(says), "{wrong:?}: {told}");
    }
    // A file that is wrong is told on its page, and by all that read every file.
    fs::write(folder.path().join("policies/users.toml"), "[policy]").unwrap();
    assert_eq!(page(&["--page", "1", "--per-page", "2"]).0, 4);
    assert_eq!(page(&["--page", "3", "--per-page", "2"]).0, 2);
    assert_eq!(page(&[]).0, 2);
}

#[test]
fn a_report_has_the_exit_code_of_its_verdict() {
    let folder = configured();
    let output = lifeboat(folder.path()).arg("report").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let samples = [(sample::broken_start(), 4), (sample::logical_with_findings(), 3), (sample::physical(), 0)];
    for (sample, code) in samples {
        let transcript = sample::judged(sample);
        drilled(folder.path(), &transcript);
        let run = transcript.run.to_string();
        let output = lifeboat(folder.path()).args(["report", &run]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        let output = lifeboat(folder.path()).args(["report", &run, "--output", "json"]).output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        assert_eq!(serde_json::from_slice::<Transcript>(&output.stdout).unwrap(), transcript);
        let output = lifeboat(folder.path()).args(["report", &run, "--html"]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        let page = folder.path().join(format!("reports/orders-{run}.html"));
        assert!(text(&output).contains(page.file_name().unwrap().to_str().unwrap()));
        assert!(fs::read_to_string(page).unwrap().contains("</html>"));
    }
    let output = lifeboat(folder.path()).args(["report", "orders"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "the newest: {}", text(&output));
    let output = lifeboat(folder.path()).args(["catalog", "runs", "orders", "--limit", "2"]).output().unwrap();
    assert_eq!(text(&output).lines().count(), 3, "{}", text(&output));
}

#[test]
fn a_damaged_catalog_is_an_error_until_it_is_rebuilt() {
    let folder = configured();
    fs::write(folder.path().join("lifeboat.db"), "rubbish ".repeat(2_000)).unwrap();
    let output = lifeboat(folder.path()).arg("status").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("lifeboat catalog rebuild"), "{}", text(&output));
    let output = lifeboat(folder.path()).args(["catalog", "rebuild"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("lifeboat.db.corrupt-"), "{}", text(&output));
    assert_eq!(lifeboat(folder.path()).arg("status").output().unwrap().status.code(), Some(4));
}

/// A place in which the unprivileged user works by hand.
struct Bench {
    folder: tempfile::TempDir,
    server: Server,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::Builder::new().prefix("lb-runbook-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let bench = Bench { folder, server: Server::start() };
        bench.own(bench.folder.path());
        bench
    }

    fn own(&self, path: &Path) {
        if let Some((uid, gid)) = unprivileged() {
            chown(path, Some(uid), Some(gid)).unwrap();
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a script as the unprivileged user, in the folder; gives what it says.
    fn bash(&self, script: &str) -> String {
        let bin = self.server.programs.path("psql");
        let path = format!("{}:/usr/bin:/bin", bin.parent().unwrap().display());
        let mut shell: Command = command(Path::new("/bin/bash"));
        let output = shell
            .args(["-e", "-o", "pipefail", "-c", script])
            .current_dir(self.folder.path())
            .env("PATH", path)
            .env("HOME", self.folder.path())
            .env("PGHOST", &self.server.socket_dir)
            .env("PGUSER", "postgres")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}\n{}", text(&output));
        text(&output)
    }

    fn config(&self) -> Config {
        let mut config = sample::config();
        config.stores.insert(
            "primary".parse().unwrap(),
            StoreConfig {
                place: StorePlace::File { path: self.path("store") },
                media: "disk".parse().unwrap(),
                site: None,
            },
        );
        config.keys.identities = vec![self.path("key")];
        config.keys.trusted_signers = vec![self.path("signing.pub.pem")];
        config
    }

    /// Cuts `plain` into parts below `stream`, each a whole age file of whole zstd frames, as DESIGN §3 has it.
    fn seal(&self, backup: &Path, stream: &str, plain: &str, kind: StreamKind) -> Stream {
        let folder = backup.join(stream).display().to_string();
        self.bash(&format!(
            "mkdir -p '{folder}'; split -b 4M -d -a 5 '{plain}' '{folder}/'
             for p in '{folder}'/*; do zstd -q < \"$p\" | age -r $(age-keygen -y key) -o \"$p.zst.age\"; rm \"$p\"; done"
        ));
        let mut keys: Vec<String> = fs::read_dir(backup.join(stream))
            .unwrap()
            .map(|entry| format!("{stream}/{}", entry.unwrap().file_name().to_string_lossy()))
            .collect();
        keys.sort();
        assert!(keys.len() > 1, "the test wants several parts");
        let parts = keys
            .into_iter()
            .map(|key| {
                let sum = self.bash(&format!("sha256sum < '{}'", backup.join(&key).display()));
                Part {
                    sealed_sha256: sum.split_whitespace().next().unwrap().to_owned(),
                    key,
                    plain_bytes: 0,
                    plain_blake3: String::new(),
                    sealed_bytes: 0,
                    members: Vec::new(),
                }
            })
            .collect();
        Stream { name: stream.to_owned(), kind, parts, plain_bytes: 0 }
    }

    /// Writes the manifest, and its signature by openssl.
    fn sign(&self, backup: &Path, manifest: &Manifest) {
        fs::write(backup.join("manifest.json"), serde_json::to_string_pretty(manifest).unwrap()).unwrap();
        self.own(&backup.join("manifest.json"));
        self.bash(&format!(
            "cd '{}'; openssl pkeyutl -sign -inkey ../../../signing.pem -rawin -in manifest.json -out raw
             printf '{{\"signature\": \"%s\"}}' $(base64 -w 0 raw) > manifest.json.sig; rm raw",
            backup.display()
        ));
    }

    /// All commands of the drill's steps, but the clean-up.
    fn script(runbook: &str, drill: &str) -> String {
        let (_, steps) = runbook.split_once(&format!("### By hand: {drill}\n")).unwrap();
        let steps = steps.split("\n### ").next().unwrap();
        let steps = steps.split("\n## ").next().unwrap();
        let steps = steps.split("Clean up, after a rehearsal").next().unwrap();
        let blocks = steps.split("```sh\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
        blocks.collect::<Vec<_>>().join("\n")
    }
}

fn database(name: &str, tables: &[(&str, u64)]) -> Database {
    Database {
        name: name.to_owned(),
        oid: 0,
        owner: "postgres".to_owned(),
        encoding: "UTF8".to_owned(),
        locale: String::new(),
        collation_version: None,
        collation_actual: None,
        settings: Vec::new(),
        snapshot: Snapshot { taken_at: at("2026-11-20T03:00:00Z"), xmin: 0, xmax: 0, xip: Vec::new() },
        extensions: Vec::new(),
        collations: Vec::new(),
        objects: Vec::new(),
        tables: tables
            .iter()
            .map(|(name, rows)| Table {
                name: (*name).to_owned(),
                content: Observed::Known(Content {
                    rows: *rows,
                    digested: *rows,
                    percent: 100,
                    pages: None,
                    digest: String::new(),
                }),
                bytes: 0,
            })
            .collect(),
        sequences: Vec::new(),
        large_objects: LargeObjects { count: 0, digest: Observed::Absent },
        changed_meanwhile: Vec::new(),
    }
}

#[test]
fn the_runbook_brings_both_kinds_of_backup_back_with_public_tools_alone() {
    let bench = Bench::new();
    bench.bash("mkdir fast store; age-keygen -o key 2> recipient; openssl genpkey -algorithm ed25519 -out signing.pem; openssl pkey -in signing.pem -pubout -out signing.pub.pem");
    let server = &bench.server;
    let fast = bench.path("fast");
    server.sql("postgres", &format!("create tablespace fast location '{}'", fast.display()));
    server.sql("postgres", "create database orders");
    server.sql("postgres", "create role clerk login");
    server.sql("orders", lifeboat::probe::heartbeat::TABLE);
    server.sql("orders", "insert into lifeboat.heartbeat values (1, 1, now())");
    server.sql(
        "orders",
        "create table orders as select g as id, md5(g::text) || md5((g * 7)::text) as note from generate_series(1, 60000) g;
         create table quick (a int primary key) tablespace fast; insert into quick select generate_series(1, 500);
         grant select on orders to clerk",
    );
    let tables = [("public.orders", 60_000), ("public.quick", 500)];
    let oid: u32 = server.sql("postgres", "select oid from pg_tablespace where spcname = 'fast'").parse().unwrap();

    // Physical: a tar of the data folder, with the tablespace as a folder in it, as lifeboat's own stream has it.
    let base = sample::artifact(Method::Physical, "2026-11-20T03:00:00Z", 12);
    let base_folder = bench.path("store/orders").join(base.backup.as_str());
    bench.bash(&format!(
        "pg_basebackup -D data -Fp -X fetch -c fast -T '{0}'='{1}'
         rm data/pg_tblspc/{oid}; mv '{1}' data/pg_tblspc/{oid}; tar -C data -cf base.tar .; rm -r data; mkdir -p '{2}'",
        fast.display(),
        bench.path("fast-copy").display(),
        base_folder.display()
    ));
    let mut manifest = sample::manifest();
    manifest.fingerprint.roles = vec![lifeboat::domain::inventory::Role {
        name: "postgres".to_owned(),
        attributes: "superuser inherit createrole createdb login".to_owned(),
        has_password: lifeboat::domain::observed::Observed::Absent,
        member_of: Vec::new(),
    }];
    manifest.streams = vec![bench.seal(&base_folder, "base", "base.tar", StreamKind::Tar)];
    manifest.fingerprint.databases = vec![database("orders", &tables)];
    manifest.fingerprint.tablespaces =
        vec![Tablespace { oid, name: "fast".to_owned(), location: fast.display().to_string() }];
    bench.sign(&base_folder, &manifest);

    // Logical: a custom-format dump of the database (its own tablespace is not in it), and the roles.
    server.sql("orders", "alter table quick set tablespace pg_default");
    let dump = sample::artifact(Method::Logical, "2026-11-20T02:00:00Z", 11);
    let dump_folder = bench.path("store/orders").join(dump.backup.as_str());
    bench.bash(&format!(
        "mkdir -p '{0}'; pg_dump -Fc -Z0 -f orders.dump orders
         pg_dumpall --roles-only | zstd -q | age -r $(age-keygen -y key) -o '{0}/globals.sql.zst.age'",
        dump_folder.display()
    ));
    let mut of_dump = manifest.clone();
    of_dump.method = Method::Logical;
    of_dump.fingerprint.tablespaces.clear();
    let kind = StreamKind::Dump { database: "orders".to_owned() };
    of_dump.streams = vec![bench.seal(&dump_folder, "base", "orders.dump", kind)];
    bench.sign(&dump_folder, &of_dump);

    let names: Vec<CheckName> =
        CheckName::of_servers().into_iter().filter(|name| *name != CheckName::PageChecksums).collect();
    let physical = sample::drill("restore-latest", Method::Physical, &CheckName::of_servers());
    let logical = sample::drill("restore-logical", Method::Logical, &names);
    let (policy, config) = (sample::policy(), bench.config());
    let facts = Facts {
        policy: &policy,
        drills: vec![&physical, &logical],
        artifacts: vec![
            Artifact { record: &base, manifest: Some(&manifest) },
            Artifact { record: &dump, manifest: Some(&of_dump) },
        ],
        transcripts: &[],
        config: &config,
        now: at("2026-11-21T08:00:00Z"),
    };
    let runbook = markdown(&facts);
    for drill in ["restore-latest", "restore-logical"] {
        let script = Bench::script(&runbook, drill);
        let proof = "
            psql -X -At -h \"$SOCKET\" -U postgres -d orders -c \"select 'rows ' || count(*) || ' ' || max(note) from orders\"
            psql -X -At -h \"$SOCKET\" -U postgres -d orders -c \"select 'quick ' || count(*) from quick\"
            psql -X -At -h \"$SOCKET\" -U postgres -d orders -c \"select 'clerk ' || has_table_privilege('clerk', 'orders', 'select')\"
            pg_ctl -D \"$TARGET\" -m immediate stop; rm -rf -- \"$TARGET\" \"$SOCKET\" restored-tablespaces";
        let said = bench.bash(&format!("{script}\n{proof}"));
        let newest = server.sql("orders", "select max(note) from orders");
        for sign in [
            &format!("rows 60000 {newest}"),
            "quick 500",
            "clerk true",
            "parts: right",
            "Signature Verified Successfully",
            "sound",
        ] {
            assert!(said.contains(sign), "{drill}: {sign} is missing in\n{said}");
        }
        assert!(!said.contains("rows expected"), "{drill}: counts differ\n{said}");
        if drill == "restore-latest" {
            assert!(said.contains("backup successfully verified"), "{said}");
        }
    }
}

/// The shell itself says that every command block is well formed.
#[test]
fn every_block_is_shell() {
    let (policy, mut config) = (sample::policy(), sample::config());
    config.keys.identities = vec!["/etc/life boat/it's a key".into()];
    let record = sample::artifact(Method::Physical, "2026-11-20T03:00:00Z", 12);
    let dump = sample::artifact(Method::Logical, "2026-11-20T02:00:00Z", 11);
    let manifest = sample::manifest();
    let physical = sample::physical().drill;
    let logical = sample::drill("restore-logical", Method::Logical, &CheckName::of_servers());
    let facts = Facts {
        policy: &policy,
        drills: vec![&physical, &logical],
        artifacts: vec![
            Artifact { record: &record, manifest: Some(&manifest) },
            Artifact { record: &dump, manifest: None },
        ],
        transcripts: &[],
        config: &config,
        now: at("2026-11-21T08:00:00Z"),
    };
    let text = markdown(&facts);
    let blocks: Vec<&str> = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("\n```").next()).collect();
    assert!(blocks.len() > 15, "{}", blocks.len());
    for commands in blocks {
        let done = Command::new("bash").args(["-n", "-c", commands]).output().unwrap();
        assert!(done.status.success(), "{commands}\n{}", String::from_utf8_lossy(&done.stderr));
    }
}

/// Writes the samples as pages into the folder that `LIFEBOAT_SAMPLE_PAGES` names, to be looked at by a person.
#[test]
fn sample_pages_are_written_where_one_asks_for_them() {
    let folder = std::env::var_os("LIFEBOAT_SAMPLE_PAGES").map(PathBuf::from);
    let fallback = tempfile::tempdir().unwrap();
    let folder = folder.unwrap_or_else(|| fallback.path().to_owned());
    let samples = [
        ("proven", sample::physical()),
        ("failed", sample::logical_with_findings()),
        ("unproven", sample::broken_start()),
    ];
    for (name, sample) in samples {
        let page = lifeboat::render::html::page(&sample::judged(sample));
        assert!(page.contains(&format!(">✓ {name}<")) || page.contains(&format!(" {name}</div>")), "{name}");
        fs::write(folder.join(format!("{name}.html")), page).unwrap();
    }
}
