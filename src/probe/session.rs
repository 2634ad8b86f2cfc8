//! Connections whose answers do not depend on how a role or a database was set up.

use tokio_postgres::types::FromSql;
use tokio_postgres::{Client, Row};

use super::{Endpoint, ProbeError};

/// Everything that changes how a value prints or which rows are seen, fixed. Without this a digest would depend on
/// `ALTER ROLE … SET`, `ALTER DATABASE … SET` and `postgresql.conf`, which differ between a source and its sandbox.
const FIXED: &str = "set search_path = pg_catalog; set datestyle = 'ISO, YMD'; set intervalstyle = postgres; \
    set timezone = 'UTC'; set extra_float_digits = 3; set bytea_output = hex; set xmlbinary = base64; \
    set xmloption = content; set lc_monetary = 'C'; set lc_numeric = 'C'; set lc_time = 'C'; \
    set standard_conforming_strings = on; set quote_all_identifiers = off; set array_nulls = on; \
    set statement_timeout = 0; set lock_timeout = '5min'; set idle_in_transaction_session_timeout = 0; \
    set row_security = off; set synchronize_seqscans = off; set jit = off; \
    set max_parallel_workers_per_gather = 0; set default_transaction_isolation = 'read committed'; \
    set default_transaction_deferrable = off";

/// A connection with fixed settings that cannot write.
///
/// `row_security = off` turns a policy that would hide rows into an error. The source's own parallel workers are left
/// alone: how many connections work at once is our caller's decision.
pub async fn read_only(endpoint: &Endpoint) -> Result<Client, ProbeError> {
    let client = fixed(endpoint).await?;
    run(&client, "fixing the session's settings", "set default_transaction_read_only = on").await?;
    Ok(client)
}

/// The same, but it can write: for what a check has to install in a scratch.
pub async fn fixed(endpoint: &Endpoint) -> Result<Client, ProbeError> {
    let client = endpoint.connect().await?;
    run(&client, "fixing the session's settings", FIXED).await?;
    let newer = "select set_config(name, '0', false) from pg_settings where name in ('transaction_timeout', 'idle_session_timeout')";
    run(&client, "fixing the session's settings", newer).await?;
    Ok(client)
}

/// Runs statements that give no rows.
pub async fn run(client: &Client, doing: &str, sql: &str) -> Result<(), ProbeError> {
    client.batch_execute(sql).await.map_err(|error| ProbeError::sql(doing, &error))
}

/// Asks.
pub async fn rows(client: &Client, doing: &str, sql: &str) -> Result<Vec<Row>, ProbeError> {
    client.query(sql, &[]).await.map_err(|error| ProbeError::sql(doing, &error))
}

/// Asks for one row.
pub async fn row(client: &Client, doing: &str, sql: &str) -> Result<Row, ProbeError> {
    client.query_one(sql, &[]).await.map_err(|error| ProbeError::sql(doing, &error))
}

/// A name as PostgreSQL would write it.
pub async fn quoted(client: &Client, name: &str) -> Result<String, ProbeError> {
    let doing = "quoting a name";
    let row = client.query_one("select quote_ident($1) as name", &[&name]).await;
    cell(&row.map_err(|error| ProbeError::sql(doing, &error))?, "name")
}

/// One value of a row, by the name of its column.
pub fn cell<'a, T: FromSql<'a>>(row: &'a Row, column: &str) -> Result<T, ProbeError> {
    row.try_get(column).map_err(|error| ProbeError::sql(format!("reading {column}"), &error))
}

/// A value that SQL gives as text and that must parse.
pub fn parsed<T: std::str::FromStr>(row: &Row, column: &str) -> Result<T, ProbeError> {
    let text: String = cell(row, column)?;
    text.parse().map_err(|_| ProbeError::Answer {
        doing: format!("reading {column}"),
        why: format!("`{text}` is not what PostgreSQL gives there"),
    })
}

/// `150018` of the server at the other end.
pub async fn version_num(client: &Client) -> Result<u32, ProbeError> {
    let doing = "reading the server's version";
    let row = row(client, doing, "select current_setting('server_version_num') as version").await?;
    parsed(&row, "version")
}

/// SQL for one `name=value` of `ALTER ROLE … SET` or `ALTER DATABASE … SET`. Settings that people invent (`app.jwt_secret`) and
/// those with telling names are digested: they are compared, and never written down.
pub fn setting(pair: &str) -> String {
    format!(
        "case when {pair} ~* '^[^=]*([.]|password|secret|token|conninfo|credential)' \
         then split_part({pair}, '=', 1) || '=sha256:' || left(encode(sha256(convert_to({pair}, getdatabaseencoding())), 'hex'), 16) \
         else {pair} end"
    )
}
