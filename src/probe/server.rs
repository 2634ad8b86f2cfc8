//! The fingerprint of a server.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::ProbeError;
use super::session::{cell, parsed, row, rows, setting, version_num};
use super::snapshot::{micros, timestamp};
use crate::domain::check::Broke;
use crate::domain::inventory::{Role, Server, Tablespace};
use crate::domain::observed::Observed;

/// Settings that a server must have to replay this server's log, or that say what the log holds: recorded even at their defaults.
const NEEDED: &str = "'max_connections','max_worker_processes','max_prepared_transactions','max_locks_per_transaction',
    'max_wal_senders','track_commit_timestamp','wal_level','shared_preload_libraries'";

/// The server itself.
pub async fn server(client: &Client) -> Result<Server, Broke> {
    Ok(try_server(client).await?)
}

async fn try_server(client: &Client) -> Result<Server, ProbeError> {
    let doing = "reading what the server is";
    // A timeline is read from where the log is being written, not from the last checkpoint, which may be before a promotion.
    let sql = format!(
        "select (select system_identifier::text from pg_control_system()) as identifier,
                current_setting('server_version_num') as num, current_setting('server_version') as version,
                current_setting('data_checksums') = 'on' as checksums, r.standby, {} as clock,
                case when r.standby then coalesce(pg_last_wal_replay_lsn(), '0/0') else pg_current_wal_lsn() end::text as lsn,
                case when r.standby then (select timeline_id::int8 from pg_control_checkpoint())
                     else ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int8 end as timeline,
                (select setting::int8 from pg_settings where name = 'wal_segment_size') as segment
           from (select pg_is_in_recovery() as standby offset 0) r",
        micros("clock_timestamp()")
    );
    let row = row(client, doing, &sql).await?;
    let unsigned = |column: &str| cell::<i64>(&row, column).map(i64::unsigned_abs);
    Ok(Server {
        system_identifier: cell(&row, "identifier")?,
        version_num: parsed(&row, "num")?,
        version: cell(&row, "version")?,
        data_checksums: cell(&row, "checksums")?,
        in_recovery: cell(&row, "standby")?,
        timeline: unsigned("timeline")?.try_into().unwrap_or_default(),
        lsn: parsed(&row, "lsn")?,
        clock: timestamp(&row, "clock")?,
        wal_segment_bytes: unsigned("segment")?,
        settings: settings(client).await?,
    })
}

/// Left out: what is set for this role or database only (`ALTER … SET`: compared where it belongs), what belongs to the machine and not to the data (paths, addresses), what may hold a password or name where one is, and what
/// our own session has set.
async fn settings(client: &Client) -> Result<BTreeMap<String, String>, ProbeError> {
    let sql = format!(
        "select name, coalesce(case when source = 'session' then reset_val else setting end, '') as setting from pg_settings
          where (name in ({NEEDED}) or source not in ('default', 'override', 'session', 'client')
                 or source = 'session' and reset_val is distinct from boot_val)
            and name not in ('data_directory', 'hba_file', 'config_file', 'ident_file', 'external_pid_file', 'port',
                             'unix_socket_directories', 'unix_socket_group', 'listen_addresses', 'log_directory',
                             'log_filename', 'primary_conninfo', 'archive_command', 'archive_cleanup_command', 'archive_library',
                             'restore_command', 'recovery_end_command', 'ssl_passphrase_command', 'application_name',
                             'krb_server_keyfile', 'stats_temp_directory', 'cluster_name')
            and (name in ({NEEDED}) or lower(name) not in (
                  select lower(split_part(c, '=', 1)) from pg_db_role_setting s, unnest(s.setconfig) c
                   where s.setdatabase in (0, (select oid from pg_database where datname = current_database()))
                     and s.setrole in (0, (select oid from pg_roles where rolname = session_user))))
            and name !~ '^(ssl_.*_file|ssl_.*_dir|bonjour.*|syslog_.*)$' and name !~* '(password|secret|token|conninfo|credential)'
            and name !~ '^lc_|^timezone|^TimeZone|^log_timezone' and (name !~ '\\.' or name ~ '^(pg_stat_statements|auto_explain)\\.')"
    );
    let mut settings = BTreeMap::new();
    for row in rows(client, "reading the settings", &sql).await? {
        settings.insert(cell(&row, "name")?, cell(&row, "setting")?);
    }
    Ok(settings)
}

/// Its roles, but for PostgreSQL's own.
pub async fn roles(client: &Client) -> Result<Vec<Role>, Broke> {
    Ok(try_roles(client).await?)
}

async fn try_roles(client: &Client) -> Result<Vec<Role>, ProbeError> {
    let doing = "reading the roles";
    let major = version_num(client).await? / 10_000;
    let may = row(client, doing, "select has_table_privilege('pg_authid', 'SELECT') as may").await?;
    let passwords: bool = cell(&may, "may")?;
    let password = if passwords {
        "(select a.rolpassword is not null from pg_authid a where a.oid = r.oid)"
    } else {
        "null::bool"
    };
    let options = if major >= 16 {
        "case when m.inherit_option then ' inherit' else ' noinherit' end || case when m.set_option then '' else ' noset' end"
    } else {
        "''"
    };
    // A validity is compared as a moment, whatever the zone it is printed in: settings of the session are fixed.
    let sql = format!(
        "select r.rolname::text as name, {password} as has_password,
                concat_ws(' ', case when rolsuper then 'superuser' end, case when rolinherit then 'inherit' else 'noinherit' end,
                  case when rolcreaterole then 'createrole' end, case when rolcreatedb then 'createdb' end,
                  case when rolcanlogin then 'login' end, case when rolreplication then 'replication' end,
                  case when rolbypassrls then 'bypassrls' end,
                  case when rolconnlimit <> -1 then 'connection limit ' || rolconnlimit end,
                  case when rolvaliduntil is not null and rolvaliduntil <> 'infinity' then 'valid until ' || rolvaliduntil end,
                  (select string_agg('set ' || {setting}, ' ' order by s) from unnest(rolconfig) s)) as attributes,
                array(select distinct quote_ident(g.rolname) || case when m.admin_option then ' admin' else '' end || {options}
                        from pg_auth_members m join pg_roles g on g.oid = m.roleid where m.member = r.oid order by 1) as member_of
           from pg_roles r where r.rolname !~ '^pg_' order by 1",
        setting = setting("s")
    );
    let all = rows(client, doing, &sql).await?;
    let why = "only a superuser can see whether a role has a password";
    all.iter()
        .map(|row| {
            Ok(Role {
                name: cell(row, "name")?,
                attributes: cell(row, "attributes")?,
                has_password: cell::<Option<bool>>(row, "has_password")?
                    .map_or_else(|| Observed::Unknown(why.to_owned()), Observed::Known),
                member_of: cell(row, "member_of")?,
            })
        })
        .collect()
}

/// Its tablespaces, but for PostgreSQL's own.
pub async fn tablespaces(client: &Client) -> Result<Vec<Tablespace>, Broke> {
    let sql = "select oid::int8 as oid, spcname::text as name, pg_tablespace_location(oid) as location
                 from pg_tablespace where spcname !~ '^pg_' order by 2";
    let read = async {
        let all = rows(client, "reading the tablespaces", sql).await?;
        let each = all.iter().map(|row| {
            Ok(Tablespace {
                oid: cell::<i64>(row, "oid")?.try_into().unwrap_or_default(),
                name: cell(row, "name")?,
                location: cell(row, "location")?,
            })
        });
        each.collect::<Result<Vec<_>, ProbeError>>()
    };
    Ok(read.await?)
}
