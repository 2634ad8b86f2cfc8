//! The kind `database`: databases of our own on a scratch server that is not ours.

use tokio_postgres::{Client, SimpleQueryMessage};

use super::Started;
use crate::domain::check::{Broke, Stop};
use crate::domain::config::{ScratchConfig, ScratchServer};
use crate::domain::drill::{IsolationDemand, ScratchPlan};
use crate::domain::ids::{RunId, SCRATCH_PREFIX};
use crate::domain::transcript::Isolation;
use crate::probe::Endpoint;

/// The permission to make databases whose names begin with this run's on one server.
#[derive(Debug)]
pub(super) struct OnServer {
    pub name: String,
    endpoint: Endpoint,
    pub isolation: Isolation,
    _work: tempfile::TempDir,
    pub work_dir: std::path::PathBuf,
    gone: bool,
}

pub(super) fn open(server: &ScratchServer) -> Result<Endpoint, Broke> {
    let timeout = std::time::Duration::from_secs(10);
    Ok(Endpoint::open(&server.url, &server.password, server.tls, server.tls_ca.as_deref(), timeout)?)
}

/// The first column of every row.
pub(super) async fn column(client: &Client, sql: &str) -> Result<Vec<String>, Broke> {
    let rows = client.simple_query(sql).await.map_err(|error| {
        Broke::new(format!("the scratch server did not answer: {}", crate::probe::endpoint::root_cause(&error)))
    })?;
    let texts = rows.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
        _ => None,
    });
    Ok(texts.collect())
}

/// An identifier in double quotes.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl OnServer {
    pub(super) async fn provision(
        run: RunId,
        plan: &ScratchPlan,
        config: &ScratchConfig,
        sources: &[String],
    ) -> Result<OnServer, Broke> {
        if plan.isolation == IsolationDemand::Required {
            return Err(Broke::hinted(
                "a scratch database on a server that runs elsewhere cannot be cut off from the network, and the drill demands it",
                "use kind = \"cluster\", or say isolation = \"preferred\"",
            ));
        }
        let place = plan.server.as_ref().ok_or_else(|| {
            let hint = "name it in the drill: [scratch] server = \"…\"";
            Broke::hinted("a scratch of the kind `database` needs the name of a scratch server", hint)
        })?;
        let server = config.servers.get(place).ok_or_else(|| {
            let known: Vec<&str> = config.servers.keys().map(|name| name.as_str()).collect();
            let hint = format!("lifeboat.toml has these under [scratch.servers]: {}", known.join(", "));
            Broke::hinted(format!("there is no scratch server `{place}`"), hint)
        })?;
        let endpoint = open(server)?;
        let client = endpoint.connect().await?;
        // By what the server is, not by what it is called: a name can be another's tomorrow.
        let identifier = column(&client, "select system_identifier::text from pg_control_system()").await;
        let identifier = identifier.ok().and_then(|rows| rows.into_iter().next()).filter(|text| !text.is_empty());
        let identifier = identifier.ok_or_else(|| {
            Broke::hinted(
                format!(
                    "the scratch server `{place}` does not tell its system identifier, so it may be a source: refused"
                ),
                "its role must be able to call pg_control_system()",
            )
        })?;
        if sources.contains(&identifier) {
            return Err(Broke::hinted(
                format!(
                    "the scratch server `{place}` is the source of a policy or a backup (system identifier {identifier}): refused"
                ),
                "a scratch is never made on a source or a copy of one; name another server",
            ));
        }
        let may = column(
            &client,
            "select (rolcreatedb or rolsuper) and not pg_is_in_recovery() from pg_roles where rolname = current_user",
        )
        .await?;
        if may.first().map(String::as_str) != Some("t") {
            return Err(Broke::hinted(
                format!("role {} may not make databases on the scratch server `{place}`", endpoint.user),
                "ALTER ROLE … CREATEDB, on a server that is not a standby",
            ));
        }
        let work = tempfile::Builder::new().prefix(SCRATCH_PREFIX).tempdir().map_err(|error| {
            Broke::hinted(format!("could not make a folder for dumps: {error}"), "see TMPDIR, and whether it has room")
        })?;
        Ok(OnServer {
            name: run.scratch_name(),
            isolation: Isolation {
                network: false,
                processes: false,
                files: false,
                user: endpoint.user.clone(),
                means: "a server that is not ours".to_owned(),
            },
            endpoint,
            work_dir: work.path().to_owned(),
            _work: work,
            gone: false,
        })
    }

    pub(super) fn server(&self) -> Endpoint {
        self.endpoint.clone()
    }

    pub(super) async fn start(&self) -> Result<Started, Stop> {
        let client = self.endpoint.connect().await.map_err(Broke::from)?;
        let ask = |sql: &'static str| column(&client, sql);
        let first = |rows: Vec<String>| rows.into_iter().next().unwrap_or_default();
        let version = first(ask("select current_setting('server_version')").await?);
        let version = version.split(' ').next().unwrap_or_default().to_owned();
        let odd = |what: &str| Broke::new(format!("the scratch server gave no {what}"));
        let next_xid = first(ask("select pg_snapshot_xmax(pg_current_snapshot())").await?);
        let lsn = first(ask("select checkpoint_lsn from pg_control_checkpoint()").await?);
        let timeline = first(ask("select timeline_id from pg_control_checkpoint()").await?);
        Ok(Started {
            facts: vec![format!("scratch server {} runs {version}", self.endpoint)],
            server_version: version,
            next_xid: next_xid.parse().map_err(|_| odd("transaction identifier"))?,
            replayed_to: lsn.parse().map_err(|_| odd("log position"))?,
            timeline: timeline.parse().map_err(|_| odd("timeline"))?,
            last_replayed: None,
            stopped_before: None,
        })
    }

    pub(super) fn rename(&self, databases: &[String]) -> Vec<(String, String)> {
        let name = |(at, old): (usize, &String)| (old.clone(), format!("{}-{}", self.name, at + 1));
        databases.iter().enumerate().map(name).collect()
    }

    /// Drops this run's databases, and looks that they are gone.
    pub(super) async fn remove(&mut self) -> Result<(), Broke> {
        if !self.gone {
            let name = self.name.clone();
            let removed = drop_databases(&self.endpoint, |run| run.scratch_name() == name).await;
            if let Some(broke) = removed.1.into_iter().next() {
                return Err(broke);
            }
            self.gone = true;
        }
        Ok(())
    }
}

impl Drop for OnServer {
    fn drop(&mut self) {
        if self.gone {
            return;
        }
        // Dropping databases waits for the server, which a destructor cannot do on a runtime's own thread.
        let (endpoint, name) = (self.endpoint.clone(), self.name.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            let removed = runtime.block_on(drop_databases(&endpoint, |run| run.scratch_name() == name));
            for broke in removed.1 {
                tracing::error!(scratch = %name, "{broke}");
            }
        });
        let _ = thread.join();
    }
}

/// The run that a database's name belongs to: exactly `lifeboat-<run>-<n>`, nothing that only looks like it.
pub(super) fn run_of(database: &str) -> Option<RunId> {
    let (run, number) = database.strip_prefix(SCRATCH_PREFIX)?.rsplit_once('-')?;
    let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let run: RunId = plain.then(|| run.parse().ok()).flatten()?;
    (database == format!("{}-{number}", run.scratch_name())).then_some(run)
}

const LIST: &str = "select datname from pg_database where datname like 'lifeboat-%' order by 1";

/// The runs that have a database on a server.
pub(super) async fn runs_on(endpoint: &Endpoint) -> Result<Vec<RunId>, Broke> {
    let client = endpoint.connect().await?;
    Ok(column(&client, LIST).await?.iter().filter_map(|name| run_of(name)).collect())
}

/// Drops the subscriptions of a database: with one it cannot be dropped. Nothing is asked of the publisher, whose slot belongs to
/// the source. What fails here shows when the database is dropped.
async fn drop_subscriptions(database: &Endpoint) -> Result<(), Broke> {
    const MINE: &str = "select subname from pg_subscription where subdbid = (select oid from pg_database where datname = current_database())";
    let client = database.connect().await?;
    for name in column(&client, MINE).await? {
        let name = quoted(&name);
        for change in ["disable", "set (slot_name = none)"] {
            column(&client, &format!("alter subscription {name} {change}")).await?;
        }
        column(&client, &format!("drop subscription {name}")).await?;
    }
    Ok(())
}

/// Drops the databases of those runs that `doomed` names. Gives what was dropped and seen to be gone, and what could not be.
pub(super) async fn drop_databases(endpoint: &Endpoint, doomed: impl Fn(RunId) -> bool) -> (Vec<String>, Vec<Broke>) {
    let (mut dropped, mut broken) = (Vec::new(), Vec::new());
    let client = match endpoint.connect().await {
        Ok(client) => client,
        Err(error) => return (dropped, vec![error.into()]),
    };
    let names = match column(&client, LIST).await {
        Ok(names) => names,
        Err(broke) => return (dropped, vec![broke]),
    };
    for name in names.into_iter().filter(|name| run_of(name).is_some_and(&doomed)) {
        // A template or a database that takes no connections cannot be dropped, or its sessions not be ended.
        let release = format!("alter database {} with is_template false", quoted(&name));
        let _ = client.simple_query(&release).await;
        if let Err(broke) = drop_subscriptions(&endpoint.with_database(&name)).await {
            tracing::debug!(database = %name, "{broke}");
        }
        let sql = format!("drop database if exists {} with (force)", quoted(&name));
        let why = match client.simple_query(&sql).await {
            Ok(_) => None,
            Err(error) => Some(crate::probe::endpoint::root_cause(&error)),
        };
        let still = column(&client, LIST).await.map(|names| names.contains(&name));
        match (why, still) {
            (None, Ok(false)) => dropped.push(name),
            (why, _) => broken.push(Broke::hinted(
                format!("scratch database {name} on {endpoint} could not be dropped: {}", why.unwrap_or_default()),
                "it holds a copy of production data: drop it by hand",
            )),
        }
    }
    (dropped, broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_runs_are_ours() {
        let run = RunId(uuid::Uuid::now_v7());
        assert_eq!(run_of(&format!("lifeboat-{run}-12")), Some(run));
        for name in ["lifeboat-", "lifeboat-prod-1", "lifeboat", "orders"] {
            assert_eq!(run_of(name), None, "{name}");
        }
        assert_eq!(run_of(&format!("lifeboat-{run}")), None);
        assert_eq!(run_of(&format!("lifeboat-{run}-")), None);
        assert_eq!(run_of(&format!("lifeboat-{run}-1x")), None);
        assert_eq!(run_of(&format!("lifeboat-{}-1", run.to_string().to_uppercase())), None);
    }
}
