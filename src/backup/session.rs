//! Sessions on the source for questions that are not part of a fingerprint.

use jiff::Timestamp;
use tokio_postgres::Client;

use crate::domain::check::Broke;
use crate::domain::lsn::Lsn;
use crate::domain::policy::Databases;
use crate::probe::endpoint::root_cause;
use crate::probe::{self, Endpoint};

/// A session on which nothing of the role's or the database's own settings gets in the way: not its search path, not its
/// time limits (a session that holds a slot is idle for hours), and not how it prints a time: answers go into the fingerprint.
pub async fn plain(endpoint: &Endpoint) -> Result<Client, Broke> {
    let client = probe::session::fixed(endpoint).await?;
    client.batch_execute("set lock_timeout = 0").await.map_err(|error| asked(endpoint, &error))?;
    Ok(client)
}

/// A question went wrong.
pub fn asked(endpoint: &Endpoint, error: &tokio_postgres::Error) -> Broke {
    let words = root_cause(error);
    let hint = super::producer::hint_for(&words).unwrap_or("check that the source still runs; its log says more");
    Broke::hinted(format!("{endpoint} did not answer: {words}"), hint)
}

/// A database of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its object identifier.
    pub oid: u32,
    /// Whether it accepts connections.
    pub connectable: bool,
    /// Whether it is a template: new databases are made from it, for which nobody else may be in it meanwhile.
    pub template: bool,
    /// Bytes on disk, where the role may ask.
    pub bytes: Option<u64>,
}

/// All databases but `template0`, oldest first. Into that one nobody gets, unless somebody opened it on purpose.
pub async fn databases(client: &Client, endpoint: &Endpoint) -> Result<Vec<Listed>, Broke> {
    let question = "select datname::text, oid, datallowconn, \
        case when has_database_privilege(oid, 'connect') then pg_database_size(oid) end, datistemplate \
        from pg_database where datname <> 'template0' or datallowconn order by oid";
    let rows = client.query(question, &[]).await.map_err(|error| asked(endpoint, &error))?;
    let listed = rows.iter().map(|row| Listed {
        name: row.get(0),
        oid: row.get(1),
        connectable: row.get(2),
        bytes: row.get::<_, Option<i64>>(3).and_then(|bytes| bytes.try_into().ok()),
        template: row.get(4),
    });
    Ok(listed.collect())
}

/// Those of them that a policy wants in a logical backup.
pub fn wanted(all: &[Listed], databases: &Databases, of_url: &str) -> Result<Vec<Listed>, Broke> {
    let named: Vec<&str> = match databases {
        Databases::All => {
            // Templates of users are databases too; PostgreSQL's own are there in every server, and cannot be made anew.
            let held = |one: &&Listed| one.connectable && !is_builtin_template(&one.name);
            let found: Vec<Listed> = all.iter().filter(held).cloned().collect();
            if found.is_empty() {
                return Err(Broke::hinted(
                    "the source has no database that accepts connections",
                    "template1 is not dumped; name a database in the policy: [source] databases",
                ));
            }
            return Ok(found);
        }
        Databases::Url => vec![of_url],
        Databases::Named(names) => names.iter().map(String::as_str).collect(),
    };
    let mut found: Vec<Listed> = Vec::new();
    for name in named {
        let one = all.iter().find(|one| one.name == name).ok_or_else(|| missing(name, all))?;
        if !one.connectable {
            return Err(Broke::hinted(
                format!("the database `{name}` accepts no connections (datallowconn is off)"),
                "allow them, take it out of the policy's databases, or use a physical backup",
            ));
        }
        if !found.iter().any(|have| have.oid == one.oid) {
            found.push(one.clone());
        }
    }
    Ok(found)
}

/// The templates that every server has: a dump of one could not be restored under its name.
pub fn is_builtin_template(name: &str) -> bool {
    matches!(name, "template0" | "template1")
}

fn missing(name: &str, all: &[Listed]) -> Broke {
    let names = || all.iter().map(|one| one.name.as_str());
    let nearest = names().max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name)));
    let hint = match nearest {
        Some(near) if strsim::jaro(near, name) > 0.7 => format!("did you mean `{near}`?"),
        _ => format!("there are: {}", names().collect::<Vec<_>>().join(", ")),
    };
    Broke::hinted(format!("the source has no database `{name}`"), hint)
}

/// The source's clock and, read after it, its place in the log: what was committed before that moment lies before that place.
pub async fn clock_and_place(client: &Client) -> Result<(Timestamp, Lsn), tokio_postgres::Error> {
    let question = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint, \
        (case when pg_is_in_recovery() then coalesce(pg_last_wal_replay_lsn(), '0/0') else pg_current_wal_insert_lsn() end)::text";
    let row = client.query_one(question, &[]).await?;
    let at = Timestamp::from_microsecond(row.get(0)).unwrap_or(Timestamp::MIN);
    // A server that prints another form of LSN would be seen as "after every end": the sample is then not used.
    let lsn = row.get::<_, String>(1).parse().unwrap_or(Lsn(u64::MAX));
    Ok((at, lsn))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(name: &str, oid: u32, connectable: bool) -> Listed {
        Listed { name: name.to_owned(), oid, connectable, template: name.starts_with("template"), bytes: None }
    }

    #[test]
    fn a_policy_gets_the_databases_that_it_names_or_a_clear_error() {
        let all = [
            listed("template1", 1, true),
            listed("postgres", 5, true),
            listed("orders", 16384, true),
            listed("closed", 16385, false),
            listed("template_own", 16386, true),
        ];
        let names = |databases: Databases| {
            wanted(&all, &databases, "orders").map(|found| found.into_iter().map(|one| one.name).collect::<Vec<_>>())
        };
        assert_eq!(names(Databases::Url).unwrap(), ["orders"]);
        assert_eq!(names(Databases::All).unwrap(), ["postgres", "orders", "template_own"]);
        let twice = Databases::Named(vec!["orders".to_owned(), "postgres".to_owned(), "orders".to_owned()]);
        assert_eq!(names(twice).unwrap(), ["orders", "postgres"]);
        let error = names(Databases::Named(vec!["order".to_owned()])).unwrap_err();
        assert_eq!(
            (error.error.as_str(), error.hint.as_deref()),
            ("the source has no database `order`", Some("did you mean `orders`?"))
        );
        let error = names(Databases::Named(vec!["closed".to_owned()])).unwrap_err();
        assert!(error.error.contains("accepts no connections"), "{error}");
    }
}
