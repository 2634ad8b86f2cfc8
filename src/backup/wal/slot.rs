//! The replication slot that keeps the source's log until it is durable here.

use tokio_postgres::Client;

use crate::backup::session::asked;
use crate::domain::check::Broke;
use crate::domain::ids::PolicyName;
use crate::domain::lsn::Lsn;
use crate::probe::Endpoint;

/// PostgreSQL cuts longer names.
const NAME_AT_MOST: usize = 63;

/// A slot, as the source has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// From where on the source keeps its log.
    pub keeps_from: Option<Lsn>,
    /// Whether the source has given it up, because it would have kept too much.
    pub lost: bool,
    /// Whether it was made just now.
    pub fresh: bool,
}

/// What the slot of a policy is called. Policies' names have no underscores, so no two policies share one.
pub fn name_of(policy: &PolicyName) -> String {
    let name = format!("lifeboat_{}", policy.as_str().replace('-', "_"));
    if name.len() <= NAME_AT_MOST {
        return name;
    }
    let hash = blake3::hash(policy.as_str().as_bytes()).to_hex();
    format!("{}_{}", &name[..NAME_AT_MOST - 9], &hash[..8])
}

/// The slot, made if it is not there. One that the source has given up is made anew: it holds nothing any more.
pub async fn hold(client: &Client, endpoint: &Endpoint, name: &str) -> Result<Slot, Broke> {
    let refused = |error: tokio_postgres::Error| {
        let hint = "raise max_replication_slots, or drop a slot that nobody uses: select * from pg_replication_slots";
        let broke = asked(endpoint, &error);
        if broke.error.contains("max_replication_slots") { Broke::hinted(broke.error, hint) } else { broke }
    };
    if let Some(slot) = look(client, endpoint, name).await? {
        if !slot.lost {
            return Ok(slot);
        }
        client.execute("select pg_catalog.pg_drop_replication_slot($1)", &[&name]).await.map_err(refused)?;
    }
    client
        .execute("select pg_catalog.pg_create_physical_replication_slot($1, true)", &[&name])
        .await
        .map_err(refused)?;
    let made = look(client, endpoint, name).await?;
    made.map(|slot| Slot { fresh: true, ..slot })
        .ok_or_else(|| Broke::new(format!("{endpoint} made the slot {name}, and does not have it")))
}

async fn look(client: &Client, endpoint: &Endpoint, name: &str) -> Result<Option<Slot>, Broke> {
    let question = "select restart_lsn::text, coalesce(wal_status = 'lost', false), slot_type::text, active_pid \
        from pg_catalog.pg_replication_slots where slot_name = $1";
    let Some(row) = client.query_opt(question, &[&name]).await.map_err(|error| asked(endpoint, &error))? else {
        return Ok(None);
    };
    let (keeps_from, lost, kind, active): (Option<String>, bool, String, Option<i32>) =
        (row.get(0), row.get(1), row.get(2), row.get(3));
    if kind != "physical" {
        return Err(Broke::hinted(
            format!("{endpoint} has a slot {name} already, and it is a {kind} one"),
            "somebody else made it: drop or rename it",
        ));
    }
    if let Some(pid) = active {
        return Err(Broke::hinted(
            format!(
                "the slot {name} of {endpoint} is in use by process {pid} of the source: another receiver is at work"
            ),
            "one receiver for each policy: stop the other, or wait until the source has noticed that it is gone (wal_sender_timeout)",
        ));
    }
    let keeps_from = keeps_from.and_then(|text| text.parse().ok());
    Ok(Some(Slot { name: name.to_owned(), keeps_from, lost, fresh: false }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_two_policies_have_two_names_that_postgresql_takes_whole() {
        let name = |text: &str| name_of(&text.parse().unwrap());
        assert_eq!(name("orders-eu"), "lifeboat_orders_eu");
        let (one, other) = (name(&"a".repeat(63)), name(&format!("{}b", "a".repeat(62))));
        assert_ne!(one, other);
        for name in [one, other] {
            assert_eq!(name.len(), 63);
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'));
        }
    }
}
