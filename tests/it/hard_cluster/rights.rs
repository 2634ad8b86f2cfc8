//! Sources that do not show everything: standbys, roles without rights, hidden rows.

use super::*;
use crate::support::server::{Server, command};

fn filled() -> Server {
    let server = Server::start();
    server.sql("postgres", "create database orders");
    server.sql(
        "orders",
        "create table t as select generate_series(1, 1000) a; create table hidden (a int, who text); insert into hidden values (1, 'x'), (2, 'y');
         create role keeper login replication; grant pg_read_all_data to keeper",
    );
    server
}

fn as_keeper(server: &Server) -> Home {
    Home::for_url(&server.url("orders").replacen("postgres@", "keeper@", 1))
}

#[test]
fn a_role_without_superuser_proves_all_and_one_that_is_refused_something_proves_nothing() {
    let server = filled();
    if server.programs.major < 14 {
        eprintln!("SKIPPED: pg_read_all_data came with version 14");
        return;
    }
    let home = as_keeper(&server);
    home.run(&["backup", POLICY]).expect(0);
    proven(&home, LOGICAL);
    let transcript = proven(&home, PHYSICAL);
    let passwords = unchecked(&transcript, "completeness", false);
    assert!(passwords.iter().all(|one| !one.starts_with("password")), "pg_authid can be read: {passwords:?}");

    // Rows that are hidden from it: a dump is an error, a physical backup is taken and proves nothing.
    server.sql("orders", "alter table hidden enable row level security; create policy p on hidden using (who = 'x')");
    let ran = home.run(&["backup", POLICY, "--job", "logical"]).expect(1);
    assert!(ran.stderr.contains("row-level security") && ran.stderr.contains("BYPASSRLS"), "{ran:?}");
    backup(&home, "physical");
    let transcript = drill(&home, PHYSICAL, 4);
    assert_eq!(unchecked(&transcript, "content", true), ["table public.hidden in database orders"]);
    server.sql("postgres", "alter role keeper bypassrls");
    home.run(&["backup", POLICY]).expect(0);
    proven(&home, LOGICAL);
    proven(&home, PHYSICAL);
}

#[test]
fn what_a_role_may_not_read_or_enter_leaves_a_drill_unproven() {
    let server = filled();
    server.sql("postgres", "create database shut");
    server.sql("postgres", "revoke connect on database shut from public");
    server.sql("orders", "revoke pg_read_all_data from keeper; grant select on t to keeper");
    let home = as_keeper(&server);
    let ran = home.run(&["backup", POLICY, "--job", "logical"]).expect(1);
    assert!(ran.stderr.contains("hidden"), "{ran:?}");
    let said = backup(&home, "physical");
    assert!(said.contains("`shut`"), "{said}");
    let transcript = drill(&home, PHYSICAL, 4);
    assert_eq!(transcript["judgement"]["verdict"], "unproven");
    assert_eq!(unchecked(&transcript, "content", true), ["database shut", "table public.hidden in database orders"]);
}

#[test]
fn a_standby_is_backed_up_by_both_methods() {
    let server = filled();
    let folder = server.data_dir.parent().unwrap().join("standby");
    let ran = command(&server.programs.path("pg_basebackup"))
        .args(["-U", "postgres", "-c", "fast", "-R", "-h"])
        .arg(&server.socket_dir)
        .arg("-D")
        .arg(&folder)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let mut standby = Server::adopt(&server, folder);
    standby.launch();
    assert_eq!(standby.sql("postgres", "select pg_is_in_recovery()"), "t");
    server.sql("orders", "insert into t select generate_series(1001, 1500)");
    for _ in 0..100 {
        if standby.sql("orders", "select count(*) from t") == "1500" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let home = Home::new(&standby, "orders");
    home.run(&["backup", POLICY]).expect(0);
    for (name, method) in [(LOGICAL, "logical"), (PHYSICAL, "physical")] {
        let transcript = proven(&home, name);
        assert!(check(&transcript, "content")["looked_at"].to_string().contains("1502"), "{method}");
        let faults = [(None, "delete from t where a = 1400"), (None, "alter table hidden alter who type varchar(9)")];
        let found = broken(&home, method, &faults, &["content", "completeness"]);
        assert_named(&found, &["content: table public.t", "completeness: column public.hidden.who"]);
    }
}
