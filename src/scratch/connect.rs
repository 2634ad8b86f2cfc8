//! The first connections to a scratch server, and what they see.

use std::path::Path;

use tokio_postgres::{Client, SimpleQueryMessage};

use super::startup::{Cause, cause};
use super::{Started, cluster};
use crate::domain::check::{Broke, Stop};
use crate::domain::inventory::Fingerprint;
use crate::probe::{Endpoint, EndpointError};

/// The superusers of the source that may log in, the customary one first.
pub(super) fn superusers(fingerprint: &Fingerprint) -> Vec<String> {
    let word = |attributes: &str, wanted: &str| attributes.split([' ', ',']).any(|word| word == wanted);
    let mut names: Vec<String> = fingerprint
        .roles
        .iter()
        .filter(|role| word(&role.attributes, "superuser") && word(&role.attributes, "login"))
        .map(|role| role.name.clone())
        .collect();
    names.sort_by_key(|name| name != "postgres");
    names
}

/// Every way in that is worth a try: each superuser, to each database that may be there.
pub(super) fn ways(fingerprint: &Fingerprint, socket_dir: &Path) -> Vec<Endpoint> {
    let mut users = superusers(fingerprint);
    if !users.iter().any(|user| user == "postgres") {
        users.push("postgres".to_owned());
    }
    let mut databases = vec!["postgres".to_owned(), "template1".to_owned()];
    databases.extend(fingerprint.databases.iter().map(|database| database.name.clone()));
    let pairs = users.iter().flat_map(|user| databases.iter().map(move |database| (user, database)));
    pairs.map(|(user, database)| Endpoint::socket(socket_dir, 5432, user, database)).collect()
}

/// What one try brought.
pub(super) enum Answer {
    /// It takes connections, recovery has ended, and this role is a superuser.
    Ready,
    /// Not yet.
    NotYet,
    /// It runs, but this role or database is no way in.
    NotThisWay(String),
    /// It runs, and there is no use in waiting.
    Never(Stop),
}

/// Tries one way in.
pub(super) async fn attempt(way: &Endpoint) -> Answer {
    let client = match way.connect().await {
        Ok(client) => client,
        Err(EndpointError::Connect { why, .. }) => {
            let no_way =
                ["does not exist", "is not permitted to log in", "not currently accepting", "too many connections for"];
            if no_way.iter().any(|words| why.contains(words)) {
                return Answer::NotThisWay(why);
            }
            // The server refuses by a word of its own only when it runs: everything else is a matter of waiting.
            return match cause(&why) {
                Some(Cause::Machine(hint)) if why.contains("locale") => {
                    Answer::Never(Broke::hinted(format!("the restored server cannot be used here: {why}"), hint).into())
                }
                _ => Answer::NotYet,
            };
        }
        Err(error) => return Answer::Never(Stop::Broke(error.into())),
    };
    match row(&client, "select pg_is_in_recovery(), rolsuper from pg_roles where rolname = current_user").await {
        Ok(answer) => match (answer.first().map(String::as_str), answer.get(1).map(String::as_str)) {
            (Some("f"), Some("t")) => Answer::Ready,
            (Some("f"), _) => Answer::NotThisWay(format!("role {} is not a superuser", way.user)),
            _ => Answer::NotYet,
        },
        Err(_) => Answer::NotYet,
    }
}

/// The columns of the one row of a query, as text.
async fn row(client: &Client, sql: &str) -> Result<Vec<String>, Broke> {
    let messages = client.simple_query(sql).await.map_err(|error| {
        let why = crate::probe::endpoint::root_cause(&error);
        Broke::hinted(format!("the scratch server did not answer: {why}"), "see its log, while it is there")
    })?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.ok_or_else(|| Broke::new("the scratch server gave no answer"))?;
    Ok((0..row.len()).map(|at| row.get(at).unwrap_or_default().to_owned()).collect())
}

/// What the server shows when it takes its first connection. That it acts on nothing outside is seen, not assumed.
pub(super) async fn look(server: &Endpoint, log: &str, restore_command: &str) -> Result<Started, Stop> {
    let client = server.connect().await.map_err(Broke::from)?;
    // Asked first: whatever is written later belongs to the scratch itself.
    let seen = row(
        &client,
        "select pg_snapshot_xmax(pg_current_snapshot()), checkpoint_lsn, timeline_id, current_setting('server_version'), \
                current_setting('listen_addresses'), current_setting('archive_mode'), current_setting('primary_conninfo'), \
                current_setting('max_logical_replication_workers'), current_setting('restore_command'), \
                to_char(pg_last_xact_replay_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') \
         from pg_control_checkpoint()",
    )
    .await?;
    let text = |at: usize| seen.get(at).map(String::as_str).unwrap_or_default();
    let quiet = [(4, ""), (5, "off"), (6, ""), (7, "0"), (8, restore_command)];
    if let Some((at, _)) = quiet.iter().find(|(at, wanted)| text(*at) != *wanted) {
        let names = [
            "listen_addresses",
            "archive_mode",
            "primary_conninfo",
            "max_logical_replication_workers",
            "restore_command",
        ];
        let name = names.get(at - 4).unwrap_or(&"a setting");
        let hint = "nothing was asked of it, and it is ended; report this";
        return Err(Broke::hinted(format!("the scratch server runs with {name} = '{}'", text(*at)), hint).into());
    }
    let odd = |what: &str| Broke::new(format!("the scratch server gave no {what}"));
    let next_xid = text(0).parse().map_err(|_| odd("transaction identifier"))?;
    let replayed_to = text(1).parse().map_err(|_| odd("log position"))?;
    let timeline = text(2).parse().map_err(|_| odd("timeline"))?;
    let last_replayed = match text(9) {
        "" => None,
        at => Some(at.parse().map_err(|_| odd("time of the last transaction"))?),
    };
    let version = text(3).split(' ').next().unwrap_or_default().to_owned();
    let mut facts =
        vec![format!("server {version} takes connections on timeline {timeline}, its log ends at {replayed_to}")];
    for words in ["redo starts at", "consistent recovery state reached at", "redo done at"] {
        if let Some((_, rest)) = log.lines().rev().find_map(|line| line.split_once(words)) {
            facts.push(format!("{words}{}", rest.split(" system usage").next().unwrap_or(rest)));
        }
    }
    Ok(Started { server_version: version, facts, next_xid, replayed_to, timeline, last_replayed, stopped_before: None })
}

/// Opens every database that takes connections: one whose files or locale are missing shows only now.
pub(super) async fn every_database(server: &Endpoint) -> Result<(), Stop> {
    let client = server.connect().await.map_err(Broke::from)?;
    let names = client
        .simple_query("select datname from pg_database where datallowconn order by 1")
        .await
        .map_err(|error| Broke::new(format!("the databases could not be listed: {error}")))?;
    let (mut findings, mut broken) = (Vec::new(), None);
    for message in names {
        let SimpleQueryMessage::Row(row) = message else { continue };
        let name = row.get(0).unwrap_or_default();
        let Err(error) = server.with_database(name).connect().await else { continue };
        let why = match &error {
            EndpointError::Connect { why, .. } => why.clone(),
            other => other.to_string(),
        };
        match cause(&why) {
            Some(Cause::Data(code)) => findings.push(cluster::unusable_database(name, code, &why)),
            Some(Cause::Machine(hint)) => {
                broken = Some(Broke::hinted(format!("database {name} cannot be used here: {why}"), hint));
            }
            None => broken = Some(Broke::hinted(format!("database {name} cannot be opened: {why}"), error.hint())),
        }
    }
    match (findings.is_empty(), broken) {
        (false, _) => Err(Stop::Found(findings)),
        (true, Some(broke)) => Err(broke.into()),
        (true, None) => Ok(()),
    }
}
