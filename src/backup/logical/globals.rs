//! Roles, memberships, settings and tablespaces: what `pg_dump` leaves out.

use std::process::Command;

use tokio_postgres::Client;

use crate::backup::{Taking, producer};
use crate::domain::check::Broke;
use crate::domain::inventory::{Object, Role};
use crate::probe;
use crate::programs::Programs;

/// Globals are a few hundred bytes a role. A longer text is nothing that `pg_dumpall --globals-only` writes.
const AT_MOST: usize = 256 << 20;
/// Times that globals are read when roles change under our hands.
const TRIES: usize = 3;

/// The SQL of the globals, and the roles that it makes.
pub struct Globals {
    /// What `pg_dumpall` wrote.
    pub sql: Vec<u8>,
    /// The same roles, as the probe sees them.
    pub roles: Vec<Role>,
    /// What belongs to the whole server.
    pub shared: Vec<Object>,
    /// Whether passwords are in it. They are hashes, sealed like everything else.
    pub passwords: bool,
}

/// Dumps globals, and reads roles and what else belongs to the whole server before and after: it must be the same, for globals have no snapshot.
pub async fn globals(taking: &Taking<'_>, programs: &Programs, client: &Client) -> Result<Globals, Broke> {
    let passwords = may_read_passwords(client).await;
    let mut before = (probe::roles(client).await?, probe::shared_objects(client).await?);
    for _ in 0..TRIES {
        let command = pg_dumpall(taking, programs, passwords);
        let ended = producer::run(command, Vec::new(), |sql: &mut Vec<u8>, bytes: &[u8]| {
            if sql.len() + bytes.len() > AT_MOST {
                return Err(Broke::hinted(
                    "pg_dumpall --globals-only wrote more than 256 MiB",
                    "look at the source's roles: something makes very many of them",
                ));
            }
            sql.extend_from_slice(bytes);
            Ok(())
        })
        .await?;
        let mut sql = ended.state;
        sql.extend_from_slice(settings_of_all_roles(client).await?.as_bytes());
        let after = (probe::roles(client).await?, probe::shared_objects(client).await?);
        if after == before {
            let (roles, shared) = after;
            return Ok(Globals { sql, roles, shared, passwords });
        }
        before = after;
    }
    Err(Broke::hinted(
        "the source's roles changed each time that they were read",
        "take the backup again when nobody makes or changes roles",
    ))
}

/// `ALTER ROLE ALL SET …`: pg_dumpall leaves it out. Written as pg_dumpall writes the settings of one role: those that are lists are
/// not quoted as one.
async fn settings_of_all_roles(client: &Client) -> Result<String, Broke> {
    let question = "select format('ALTER ROLE ALL SET %s TO %s;', \
            (select string_agg(quote_ident(part), '.') from unnest(string_to_array(name, '.')) part), \
            case when lower(name) in ('local_preload_libraries', 'search_path', 'session_preload_libraries', 'shared_preload_libraries', \
                                      'temp_tablespaces', 'unix_socket_directories', 'createrole_self_grant', 'debug_io_direct', 'log_connections') \
                 then coalesce(nullif(value, ''), '''''') else quote_literal(value) end) \
        from pg_db_role_setting s, unnest(s.setconfig) c, \
             lateral (select split_part(c, '=', 1) as name, substr(c, strpos(c, '=') + 1) as value offset 0) pair \
        where s.setdatabase = 0 and s.setrole = 0 order by 1";
    let broke =
        |error: tokio_postgres::Error| Broke::new(format!("the settings of all roles could not be read: {error}"));
    let rows = client.query(question, &[]).await.map_err(broke)?;
    let lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    if lines.is_empty() { Ok(String::new()) } else { Ok(format!("\n{}\n", lines.join("\n"))) }
}

/// Superusers read `pg_authid`, and whoever has `pg_read_all_data`: asked, not guessed from the role's attributes.
async fn may_read_passwords(client: &Client) -> bool {
    let question = "select has_table_privilege('pg_catalog.pg_authid', 'select')";
    client.query_one(question, &[]).await.is_ok_and(|row| row.get(0))
}

fn pg_dumpall(taking: &Taking<'_>, programs: &Programs, passwords: bool) -> Command {
    let mut command = programs.client("pg_dumpall", &taking.endpoint, &[]);
    command.args(["--globals-only", "--no-password"]);
    // Unlike pg_dump it prints times as the role's own settings say, and `03/02/2031` is another day to the next server.
    command.env("PGDATESTYLE", "ISO, YMD").env("PGTZ", "UTC");
    // It would look for `postgres` or `template1`, which the role need not be let into. The name is quoted, for pg_dumpall
    // reads an argument with `=` in it as a connection string.
    command.arg(format!("--database={}", conninfo(&taking.endpoint.database)));
    if !passwords {
        command.arg("--no-role-passwords");
    }
    command
}

/// `dbname='…'`, quoted as libpq's connection strings are.
fn conninfo(database: &str) -> String {
    format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn database_names_cannot_become_other_parameters() {
        assert_eq!(conninfo("orders"), "dbname='orders'");
        assert_eq!(conninfo("a' host='evil"), r"dbname='a\' host=\'evil'");
        assert_eq!(conninfo(r"a\"), r"dbname='a\\'");
    }
}
