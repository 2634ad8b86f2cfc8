//! `lifeboat init --heartbeat`: the one table that lifeboat keeps in a source.

use crate::cli::{Cli, Exit, Failure, Output, output};
use crate::domain::check::Broke;
use crate::domain::ids::PolicyName;
use crate::probe::heartbeat::{TABLE, beats};
use crate::probe::session;

/// Makes the table in a policy's source. Safe to run again. A role that may not is told what its owner has to run.
pub(super) async fn make(cli: &Cli, wanted: Option<&PolicyName>) -> Result<Exit, Failure> {
    let house = cli.house()?;
    let policy = match (wanted, &*house.policies) {
        (Some(name), _) => house.policy(name.as_str()).map_err(Failure::usage)?,
        (None, [only]) => only,
        (None, _) => {
            let names: Vec<&str> = house.policies.iter().map(|policy| policy.name.as_str()).collect();
            let hint = format!("name one with --policy: {}", names.join(", "));
            return Err(Failure::usage(Broke::hinted("a heartbeat is for the source of one policy", hint)));
        }
    };
    let endpoint = house.source(&policy.source)?;
    let client = session::fixed(&endpoint).await.map_err(Broke::from)?;
    let there = beats(&client).await.map_err(Broke::from)?;
    if let Err(error) = session::run(&client, "making the heartbeat's table", TABLE).await {
        let broke = Broke::from(error);
        let hint = format!(
            "as a superuser or the owner of the database {}:\n{TABLE};\n{}",
            endpoint.database,
            grants(&endpoint.user)
        );
        return Err(Broke::hinted(broke.error, hint).into());
    }
    let declared = policy.wal.as_ref().is_some_and(|wal| wal.stream && wal.heartbeat.is_some());
    if cli.output == Output::Json {
        output::print_json(&serde_json::json!({
            "schema": "lifeboat.init-heartbeat/1", "policy": policy.name, "table": "lifeboat.heartbeat",
            "beats": there.map(|beats| beats.count), "declared": declared,
        }));
        return Ok(Exit::Ok);
    }
    let said = match there {
        Some(beats) => format!("it is there, with {} rows; the newest is of {}", beats.count, beats.last.committed_at),
        None => "it is there, and empty".to_owned(),
    };
    output::print(&format!("lifeboat.heartbeat in {endpoint}: {said}\n"));
    if !declared {
        let file = policy.file.display();
        output::print(&format!(
            "To have it written, add to {file}:\n  [wal]\n  stream = true\n  heartbeat = \"10s\"\nand run: lifeboat wal stream {}\n",
            policy.name
        ));
    }
    Ok(Exit::Ok)
}

/// What a role needs that does not own the table.
fn grants(role: &str) -> String {
    let role = role.replace('"', "\"\"");
    format!(
        "grant usage on schema lifeboat to \"{role}\";\ngrant select, insert, delete on lifeboat.heartbeat to \"{role}\";"
    )
}
