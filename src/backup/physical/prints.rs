//! The fingerprint of a physical backup's databases, under snapshots that were opened before the backup began.
//!
//! They stay open until it is over: rows that are deleted meanwhile are then still in the copy, and a restored server can be
//! compared row by row with what was visible at the snapshot. A print that cannot be had does not cost the backup: the
//! database is left out and said, and a drill will find nothing to compare it with.

use std::time::Instant;

use crate::backup::Taking;
use crate::backup::session::Listed;
use crate::domain::check::Broke;
use crate::domain::inventory::Database;
use crate::domain::units::Span;
use crate::probe::{self, OpenSnapshot, RowFilter};

/// Snapshots that are held open at once: each is a connection. The databases beyond that many are looked at one by one before
/// the backup begins.
const HELD_AT_MOST: usize = 16;

/// What is known of the databases, and what it cost.
#[derive(Debug, Default)]
pub struct Prints {
    /// Databases that were looked at.
    pub databases: Vec<Database>,
    /// Those that could not be, and why: sentences.
    pub warnings: Vec<String>,
    /// How long it took.
    pub took: Span,
    held: Vec<OpenSnapshotOf>,
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
    /// Opens a snapshot in every database that can be connected to.
    pub async fn open(taking: &Taking<'_>, listed: &[Listed]) -> Prints {
        let mut prints = Prints::default();
        let early = listed.iter().filter(|one| one.connectable).count().saturating_sub(HELD_AT_MOST);
        let mut seen = 0;
        for one in listed {
            if !one.connectable {
                prints.leave_out(&one.name, "it accepts no connections (datallowconn is off)");
                continue;
            }
            match OpenSnapshot::open(&taking.endpoint.with_database(&one.name)).await {
                Err(broke) => prints.leave_out(&one.name, &broke.error),
                Ok(snapshot) => {
                    let open = OpenSnapshotOf { name: one.name.clone(), snapshot };
                    if seen < early {
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
        self.took = self.took.saturating_add(Span::from_std(began.elapsed()));
    }

    async fn look(&mut self, taking: &Taking<'_>, open: &OpenSnapshotOf) {
        match print_of(taking, &open.snapshot).await {
            Ok(database) => self.databases.push(database),
            Err(broke) => self.leave_out(&open.name, &broke.error),
        }
    }

    fn leave_out(&mut self, name: &str, why: &str) {
        self.warnings
            .push(format!("the content of database `{name}` was not recorded, so no drill can compare it: {why}"));
    }
}

async fn print_of(taking: &Taking<'_>, snapshot: &OpenSnapshot) -> Result<Database, Broke> {
    let tables = probe::digest_tables(snapshot, &taking.content, &RowFilter::All, taking.parallel).await?;
    probe::database(snapshot, tables).await
}
