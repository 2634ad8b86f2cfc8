//! Comparisons of the restored databases with the fingerprint: probe what is there, let the judge compare.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Client;

use super::{Subject, trouble};
use crate::domain::check::{Broke, Stop};
use crate::domain::inventory::{Change, Changed, Content, Database, UNREADABLE};
use crate::domain::observed::Observed;
use crate::judge::integrity::{self, Comparison, FoundLargeObjects, FoundTable, Pace};
use crate::probe::{self, Endpoint, Fault, OpenSnapshot, ProbeError, RowFilter, Sample, Traces, session};

/// What may have happened to a definition while a backup was taken.
const CHANGES: [Change; 3] = [Change::Made, Change::Gone, Change::Altered];
/// What may have happened to something whose state is compared, and not its definition: that it was altered explains no other content.
const THERE_OR_NOT: [Change; 2] = [Change::Made, Change::Gone];

/// A database of the fingerprint, and where it is now.
struct Restored<'a> {
    expected: &'a Database,
    endpoint: Endpoint,
    /// `database shop`.
    object: String,
}

/// The databases that are there; those that are not are findings.
async fn restored<'a>(subject: &Subject<'a>) -> Result<(Vec<Restored<'a>>, Comparison), Stop> {
    let client = session::read_only(&subject.server).await.map_err(|error| trouble(error, "server"))?;
    let sql = "select datname::text as name from pg_database where datallowconn";
    let rows = session::rows(&client, "listing the databases", sql).await.map_err(|error| trouble(error, "server"))?;
    let names = rows.iter().map(|row| session::cell(row, "name")).collect::<Result<BTreeSet<String>, _>>();
    let names = names.map_err(|error| trouble(error, "server"))?;
    let all = &subject.manifest().fingerprint.databases;
    let there: Vec<Restored<'a>> = all
        .iter()
        .filter_map(|expected| {
            let (_, now) = subject.databases.iter().find(|(before, _)| *before == expected.name)?;
            let endpoint = subject.server.with_database(now);
            names.contains(now).then(|| Restored { expected, endpoint, object: format!("database {}", expected.name) })
        })
        .collect();
    let found: Vec<&str> = there.iter().map(|one| one.expected.name.as_str()).collect();
    let mut comparison = integrity::databases(all.iter().map(|one| one.name.as_str()), &found);
    // That a database is there is not yet something that was looked at.
    comparison.looked_at.clear();
    let fingerprint = &subject.manifest().fingerprint;
    comparison.excuse(&fingerprint.changed_meanwhile, &[Change::Gone]);
    comparison.add(integrity::unseen(&fingerprint.unseen));
    Ok((there, comparison))
}

/// All that the restored server has, but `template0`: those too that accept no connections. Older backups did not look at templates.
async fn names_of_databases(client: &Client, templates: bool) -> Result<Vec<String>, Stop> {
    let sql = format!(
        "select datname::text as name from pg_database where (datname <> 'template0' or datallowconn) and ({templates} or not datistemplate) order by 1"
    );
    let rows = session::rows(client, "listing the databases", &sql).await.map_err(|error| trouble(error, "server"))?;
    let names = rows.iter().map(|row| session::cell(row, "name")).collect::<Result<Vec<String>, _>>();
    names.map_err(|error| trouble(error, "server"))
}

/// Names a database in what is said about it, where there are several.
fn place(mut one: Comparison, restored: &Restored<'_>, several: bool) -> Comparison {
    if several {
        let name = &restored.expected.name;
        for object in one.findings.iter_mut().map(|finding| &mut finding.object) {
            *object = format!("{object} in database {name}");
        }
        for object in one.unchecked.iter_mut().map(|unchecked| &mut unchecked.object) {
            *object = format!("{object} in database {name}");
        }
    }
    one
}

/// A database that has none of what is looked for, neither at the source nor in the copy: it was asked, and that is what was seen.
fn or_none(mut one: Comparison) -> Comparison {
    let silent = one.findings.is_empty() && one.unchecked.is_empty();
    if silent && one.looked_at.iter().all(|measure| measure.count == 0) {
        one.looked(1, "databases without any");
    }
    one
}

async fn connected(restored: &Restored<'_>) -> Result<Client, Stop> {
    session::read_only(&restored.endpoint).await.map_err(|error| trouble(error, &restored.object))
}

pub(super) async fn completeness(subject: &Subject<'_>) -> Result<Comparison, Stop> {
    let terms = subject.terms();
    let expected = &subject.manifest().fingerprint;
    let (databases, mut all) = restored(subject).await?;
    let several = databases.len() > 1;
    for one in &databases {
        let client = connected(one).await?;
        let objects = probe::objects(&client).await.map_err(|error| trouble(error, &one.object))?;
        let mut compared = integrity::objects(&one.expected.objects, &objects, terms);
        compared.excuse(&one.expected.changed_meanwhile, &CHANGES);
        all.add(place(compared, one, several));
    }
    let client = session::read_only(&subject.server).await.map_err(|error| trouble(error, "server"))?;
    let mut server = integrity::roles(&expected.roles, &probe::roles(&client).await?, terms);
    server.add(integrity::tablespaces(&expected.tablespaces, &probe::tablespaces(&client).await?, terms));
    let mut names = BTreeSet::new();
    for database in &expected.databases {
        names.insert(session::quoted(&client, &database.name).await.map_err(|error| trouble(error, "server"))?);
    }
    let shared = probe::shared_objects(&client).await.map_err(|error| trouble(error, "server"))?;
    server.add(integrity::shared(expected, &shared, &names, terms));
    server.excuse(&expected.changed_meanwhile, &CHANGES);
    all.add(server);
    if terms.physical && terms.whole_server {
        all.add(integrity::additional_databases(
            expected,
            &names_of_databases(&client, expected.shared.is_some()).await?,
        ));
    }
    all.looked(databases.len() as u64, "databases");
    Ok(all)
}

pub(super) async fn content(subject: &Subject<'_>) -> Result<Comparison, Stop> {
    let terms = subject.terms();
    let (databases, mut all) = restored(subject).await?;
    let several = databases.len() > 1;
    for one in &databases {
        let filter = match (terms.physical, subject.own_from) {
            (false, _) => RowFilter::All,
            (true, Some(own_from)) => RowFilter::AsOf { snapshot: one.expected.snapshot.clone(), own_from },
            (true, None) => {
                let error =
                    "the first transaction of the restored server is not known, so its own rows cannot be told apart";
                return Err(Broke::new(error).into());
            }
        };
        let damaged = |error| trouble(error, &one.object);
        let open = OpenSnapshot::try_open(&one.endpoint).await.map_err(damaged)?;
        // Before anything else reads the tables: dead rows may be cleared away by whoever comes along.
        let traces = traces(subject, &open.client, &filter).await.map_err(damaged)?;
        let taken = one.expected.tables.iter().filter_map(|table| Some((table.name.as_str(), table.content.known()?)));
        let taken: BTreeMap<&str, &Content> = taken.collect();
        let digested = probe::digest(&open, &Sample::Same(&taken), &filter, subject.parallel).await.map_err(damaged)?;
        let altered = altered_tables(one.expected);
        let found: Vec<FoundTable> = digested
            .into_iter()
            .map(|digested| {
                let dead = traces.get(&digested.table.name).copied().unwrap_or_default();
                let writes = digested.writes;
                let written = writes.meanwhile > 0 || writes.remade || dead.meanwhile > 0;
                let meanwhile = written || altered.contains(&digested.table.name);
                FoundTable { table: digested.table, meanwhile, own_rows: writes.own.max(dead.own) }
            })
            .collect();
        let objects = one.expected.objects.iter();
        let derived: BTreeSet<&str> =
            objects.filter(|one| one.kind == "materialized view").map(|one| one.identity.as_str()).collect();
        let mut compared = integrity::tables(&one.expected.tables, &found, &derived, terms);
        compared.excuse(&as_tables(one.expected), &THERE_OR_NOT);
        all.add(place(or_none(compared), one, several));
        let large = match probe::large_objects(&open.client).await {
            Err(error) if error.fault() == Fault::Damaged => crate::domain::inventory::LargeObjects {
                count: one.expected.large_objects.count,
                digest: Observed::Unknown(format!("{UNREADABLE}{error}")),
            },
            other => other.map_err(damaged)?,
        };
        let dead = traces.get("pg_catalog.pg_largeobject").copied().unwrap_or_default();
        let large = FoundLargeObjects { all: large, meanwhile: dead.meanwhile > 0 && dead.own == 0 };
        all.add(place(integrity::large_objects(&one.expected.large_objects, &large, terms), one, several));
    }
    Ok(all)
}

/// Whatever can hold rows is called a table where rows are compared.
fn as_tables(expected: &Database) -> Vec<Changed> {
    let relations = expected
        .changed_meanwhile
        .iter()
        .filter(|one| matches!(one.kind.as_str(), "table" | "materialized view" | "foreign table"));
    relations.map(|one| Changed { kind: "table".to_owned(), ..one.clone() }).collect()
}

/// Tables whose columns were not the same at the end of the backup: their rows print otherwise, before or after.
fn altered_tables(expected: &Database) -> BTreeSet<String> {
    let tables = as_tables(expected).into_iter().map(|one| one.identity);
    // The last part of a column's identity is its name, which may hold dots in quotes: every way to cut is taken.
    let columns = expected.changed_meanwhile.iter().filter(|one| one.kind == "column");
    let cut = columns.flat_map(|one| one.identity.match_indices('.').filter_map(|(at, _)| one.identity.get(..at)));
    tables.chain(cut.map(str::to_owned)).collect()
}

/// Traces of writing since the fingerprint. Where they cannot be read there are none: then a difference is a finding, which may be too
/// strict and is never too lenient.
async fn traces(
    subject: &Subject<'_>,
    client: &Client,
    filter: &RowFilter,
) -> Result<BTreeMap<String, Traces>, ProbeError> {
    let RowFilter::AsOf { snapshot, own_from } = filter else { return Ok(BTreeMap::new()) };
    match probe::traces(client, subject.manifest().fingerprint.server.lsn, snapshot, *own_from).await {
        Err(error) if error.fault() == Fault::Denied => Ok(BTreeMap::new()),
        other => other,
    }
}

pub(super) async fn sequences(subject: &Subject<'_>) -> Result<Comparison, Stop> {
    let (databases, mut all) = restored(subject).await?;
    let several = databases.len() > 1;
    for one in &databases {
        let client = connected(one).await?;
        let damaged = |error| trouble(error, &one.object);
        let found = probe::sequences(&client).await.map_err(damaged)?;
        let paces: BTreeMap<String, Pace> = probe::paces(&client)
            .await
            .map_err(damaged)?
            .into_iter()
            .map(|(name, pace)| {
                (name, Pace { increment: pace.increment, cycles: pace.cycles, unlogged: pace.unlogged })
            })
            .collect();
        let mut compared = integrity::sequences(&one.expected.sequences, &found, &paces, subject.terms());
        compared.excuse(&one.expected.changed_meanwhile, &THERE_OR_NOT);
        all.add(place(or_none(compared), one, several));
    }
    Ok(all)
}

pub(super) async fn extensions(subject: &Subject<'_>) -> Result<Comparison, Stop> {
    let (databases, mut all) = restored(subject).await?;
    let several = databases.len() > 1;
    for one in &databases {
        let client = connected(one).await?;
        let found = probe::extensions(&client).await.map_err(|error| trouble(error, &one.object))?;
        let mut compared = integrity::extensions(&one.expected.extensions, &found, subject.terms());
        compared.excuse(&one.expected.changed_meanwhile, &CHANGES);
        all.add(place(or_none(compared), one, several));
    }
    Ok(all)
}

/// What the database itself is now, with its collations.
async fn described(one: &Restored<'_>) -> Result<Database, Stop> {
    let damaged = |error| trouble(error, &one.object);
    let open = OpenSnapshot::try_open(&one.endpoint).await.map_err(damaged)?;
    let mut found = probe::describe(&open).await.map_err(damaged)?;
    found.collations = probe::collations(&open.client).await.map_err(damaged)?;
    Ok(found)
}

pub(super) async fn collations(subject: &Subject<'_>) -> Result<Comparison, Stop> {
    let (databases, mut all) = restored(subject).await?;
    let several = databases.len() > 1;
    for one in &databases {
        let found = described(one).await?;
        let mut compared = integrity::collations(one.expected, &found, subject.terms());
        compared.excuse(&one.expected.changed_meanwhile, &THERE_OR_NOT);
        all.add(place(or_none(compared), one, several));
    }
    Ok(all)
}

pub(super) async fn encodings(subject: &Subject<'_>) -> Result<Comparison, Stop> {
    let (databases, mut all) = restored(subject).await?;
    for one in &databases {
        all.add(integrity::encodings(one.expected, &described(one).await?));
    }
    Ok(all)
}

pub(super) async fn settings(subject: &Subject<'_>) -> Result<Comparison, Stop> {
    let (databases, mut all) = restored(subject).await?;
    for one in &databases {
        let mut compared = integrity::database_settings(one.expected, &described(one).await?, subject.terms());
        compared.excuse(&one.expected.changed_meanwhile, &[Change::Altered]);
        all.add(compared);
    }
    if subject.whole_server {
        let client = session::read_only(&subject.server).await.map_err(|error| trouble(error, "server"))?;
        let found = probe::server(&client).await?;
        all.add(integrity::server(&subject.manifest().fingerprint.server, &found, subject.terms()));
    } else {
        all.skip("settings of the server", "the scratch server has its own");
    }
    Ok(all)
}
