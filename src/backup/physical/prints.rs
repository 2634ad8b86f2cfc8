//! The fingerprint of a physical backup's databases, under snapshots that were opened before the backup began.
//!
//! They stay open until it is over: rows that are deleted meanwhile are then still in the copy, and a restored server can be
//! compared row by row with what was visible at the snapshot. A print that cannot be had does not cost the backup: the
//! database is named as unseen, and a drill that must compare it is not proven.

use std::time::Instant;

use tokio_postgres::Client;

use crate::backup::Taking;
use crate::backup::session::{self, Listed};
use crate::domain::check::Broke;
use crate::domain::inventory::{Change, Changed, Database, Object, Role, Tablespace, Unseen};
use crate::domain::units::Span;
use crate::probe::{self, Endpoint, OpenSnapshot, RowFilter, Sample};

/// Snapshots that are held open at once: each is a connection. The databases beyond that many are looked at one by one before
/// the backup begins.
const HELD_AT_MOST: usize = 16;

/// What is known of the databases, and what it cost.
#[derive(Debug, Default)]
pub struct Prints {
    /// Databases that were looked at.
    pub databases: Vec<Database>,
    /// Those that could not be, and why.
    pub unseen: Vec<Unseen>,
    /// What should be known of all this: sentences.
    pub warnings: Vec<String>,
    /// How long it took.
    pub took: Span,
    held: Vec<OpenSnapshotOf>,
    /// The names of all, templates last.
    order: Vec<String>,
}

/// A database whose snapshot is open.
struct OpenSnapshotOf {
    name: String,
    snapshot: OpenSnapshot,
}

impl std::fmt::Debug for OpenSnapshotOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenSnapshotOf({})", self.name)
    }
}

impl Prints {
    /// Opens a snapshot in every database that can be connected to. Templates are looked at here and left at once: while somebody is in one,
    /// no database can be made from it.
    pub async fn open(taking: &Taking<'_>, listed: &[Listed]) -> Prints {
        let mut prints = Prints::default();
        let lasting = |one: &&Listed| one.connectable && !one.template;
        let early = listed.iter().filter(lasting).count().saturating_sub(HELD_AT_MOST);
        let mut seen = 0;
        // Templates last: a backup's first database is that which people ask when they name none.
        let (templates, others): (Vec<&Listed>, Vec<&Listed>) = listed.iter().partition(|one| one.template);
        for one in others.into_iter().chain(templates) {
            prints.order.push(one.name.clone());
            if !one.connectable {
                prints.leave_out(&one.name, "it accepts no connections (datallowconn is off)");
                continue;
            }
            match OpenSnapshot::open(&taking.endpoint.with_database(&one.name)).await {
                Err(broke) => prints.leave_out(&one.name, &broke.error),
                Ok(snapshot) => {
                    let open = OpenSnapshotOf { name: one.name.clone(), snapshot };
                    if one.template || seen < early {
                        let began = Instant::now();
                        prints.look(taking, &open).await;
                        prints.took = prints.took.saturating_add(Span::from_std(began.elapsed()));
                    } else {
                        prints.held.push(open);
                    }
                }
            }
            seen += 1;
        }
        prints
    }

    /// Looks at the databases whose snapshots are open; they stay open.
    pub async fn look_at_all(&mut self, taking: &Taking<'_>) {
        let began = Instant::now();
        let held = std::mem::take(&mut self.held);
        for open in &held {
            self.look(taking, open).await;
        }
        self.held = held;
        // Those that were left early come where they were found.
        self.databases.sort_by_key(|one| self.order.iter().position(|name| *name == one.name));
        self.took = self.took.saturating_add(Span::from_std(began.elapsed()));
    }

    async fn look(&mut self, taking: &Taking<'_>, open: &OpenSnapshotOf) {
        match print_of(taking, &open.snapshot).await {
            Ok(database) => self.databases.push(database),
            Err(broke) => self.leave_out(&open.name, &broke.error),
        }
    }

    /// Looks at all definitions once more when the backup is over, and gives what changed of the server itself. What changed of
    /// a database is noted with it. Where this cannot be done the judgement becomes too strict, never too lenient.
    pub async fn look_again(
        &mut self,
        endpoint: &Endpoint,
        client: &Client,
        listed: &[Listed],
        (roles, tablespaces, shared): (&[Role], &[Tablespace], &[Object]),
    ) -> Vec<Changed> {
        let mut changed = match session::databases(client, endpoint).await {
            Ok(now) => self.note_databases(listed, &now),
            Err(broke) => {
                self.warnings.push(format!("the databases were not listed again when the backup was over: {broke}"));
                Vec::new()
            }
        };
        match probe::roles(client).await {
            Ok(now) => changed.extend(probe::changed_roles(roles, &now)),
            Err(broke) => self.warnings.push(format!("the roles were not looked at again: {broke}")),
        }
        match probe::tablespaces(client).await {
            Ok(now) => changed.extend(probe::changed_tablespaces(tablespaces, &now)),
            Err(broke) => self.warnings.push(format!("the tablespaces were not looked at again: {broke}")),
        }
        match probe::shared_objects(client).await {
            Ok(now) => changed.extend(probe::changed_objects(shared, &now)),
            Err(error) => {
                self.warnings.push(format!("what belongs to the whole server was not looked at again: {error}"))
            }
        }
        let gone = |name: &str| changed.iter().any(|one| one.kind == "database" && one.identity == name);
        for database in self.databases.iter_mut().filter(|one| !gone(&one.name)) {
            if let Err(error) = probe::note_changes(&endpoint.with_database(&database.name), database).await {
                let why = format!("the definitions of {} were not looked at again: {error}", database.name);
                self.warnings.push(why);
            }
        }
        changed
    }

    fn note_databases(&mut self, before: &[Listed], now: &[Listed]) -> Vec<Changed> {
        let missing = |one: &Listed, there: &[Listed]| there.iter().all(|other| other.name != one.name);
        for made in now.iter().filter(|one| missing(one, before)) {
            let why = "made while the backup was taken".to_owned();
            self.unseen.push(Unseen { database: made.name.clone(), why, meanwhile: true });
        }
        let mut changed = Vec::new();
        for gone in before.iter().filter(|one| missing(one, now)) {
            for unseen in self.unseen.iter_mut().filter(|one| one.database == gone.name) {
                unseen.meanwhile = true;
            }
            changed.push(Changed { kind: "database".to_owned(), identity: gone.name.clone(), how: Change::Gone });
        }
        changed
    }

    fn leave_out(&mut self, name: &str, why: &str) {
        self.unseen.push(Unseen { database: name.to_owned(), why: why.to_owned(), meanwhile: false });
        self.warnings
            .push(format!("the content of database `{name}` was not recorded, so no drill can compare it: {why}"));
    }
}

async fn print_of(taking: &Taking<'_>, snapshot: &OpenSnapshot) -> Result<Database, Broke> {
    // Nobody shall know beforehand which pages are looked at.
    let seed = getrandom::u32().map_err(|error| Broke::new(format!("no number could be drawn: {error}")))?;
    let sample = Sample::Pages(&taking.content, seed);
    let tables = probe::digest_tables(snapshot, &sample, &RowFilter::All, taking.parallel).await?;
    probe::database(snapshot, tables).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_database_is_left_out_in_silence() {
        let listed = |names: &[&str]| -> Vec<Listed> {
            let of = |name: &&str| Listed {
                name: (*name).to_owned(),
                oid: 1,
                connectable: true,
                template: false,
                bytes: None,
            };
            names.iter().map(of).collect()
        };
        let mut prints = Prints::default();
        prints.leave_out("locked", "permission denied");
        prints.leave_out("dropped", "it does not exist");
        let changed =
            prints.note_databases(&listed(&["shop", "locked", "dropped"]), &listed(&["shop", "locked", "new"]));
        let seen: Vec<_> = prints.unseen.iter().map(|one| (one.database.as_str(), one.meanwhile)).collect();
        assert_eq!(seen, [("locked", false), ("dropped", true), ("new", true)]);
        assert_eq!((changed.len(), changed[0].identity.as_str(), changed[0].how), (1, "dropped", Change::Gone));
    }
}
