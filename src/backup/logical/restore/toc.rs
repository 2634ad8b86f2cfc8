//! The table of contents of a dump, and who restores which of its entries.

/// An entry, as `pg_restore --list` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the dump.
    pub id: u32,
    /// The whole line.
    pub line: String,
    /// The line without numbers: `TABLE public t alice`.
    pub title: String,
}

/// Reads a list. Comments and what is no entry are passed over.
pub fn read(list: &str) -> Vec<Entry> {
    list.lines().filter_map(entry).collect()
}

/// Reads one line: `215; 1259 16517 TABLE s t alice`.
pub fn entry(line: &str) -> Option<Entry> {
    let (id, rest) = line.split_once("; ")?;
    let mut words = rest.splitn(3, ' ');
    let (table, object, title) = (words.next()?, words.next()?, words.next()?);
    table.parse::<u32>().ok()?;
    object.parse::<u32>().ok()?;
    Some(Entry { id: id.trim().parse().ok()?, line: line.to_owned(), title: title.to_owned() })
}

/// Who restores an entry, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A role without rights beyond its own database.
    Restorer,
    /// The superuser: nobody else can make it.
    Superuser,
    /// The database itself and its properties: lifeboat makes it.
    Database,
    /// Grants: when everything has its owner.
    Grants,
    /// Materialized views: when grants are there, for their queries run as their owners.
    Refresh,
    /// Event triggers: last of all, for they would fire on all that comes after.
    EventTrigger,
}

const SUPERUSER_ONLY: [&str; 19] = [
    "EXTENSION ",
    "COMMENT - EXTENSION ",
    "PROCEDURAL LANGUAGE ",
    "FOREIGN DATA WRAPPER ",
    "SERVER ",
    "FOREIGN SERVER ",
    "USER MAPPING ",
    "FOREIGN TABLE ",
    "CAST ",
    "OPERATOR CLASS ",
    "OPERATOR FAMILY ",
    "TRANSFORM ",
    "ACCESS METHOD ",
    "TEXT SEARCH TEMPLATE ",
    "TEXT SEARCH PARSER ",
    "SHELL TYPE ",
    "PUBLICATION ",
    "SUBSCRIPTION ",
    "COMMENT - PUBLICATION ",
];

/// Who restores it.
pub fn who(title: &str) -> Who {
    let begins = |words: &[&str]| words.iter().any(|word| title.starts_with(word));
    if begins(&["DATABASE ", "ACL - DATABASE ", "COMMENT - DATABASE ", "SECURITY LABEL - DATABASE "]) {
        Who::Database
    } else if begins(&["ACL ", "DEFAULT ACL "]) {
        Who::Grants
    } else if begins(&["MATERIALIZED VIEW DATA "]) {
        Who::Refresh
    } else if begins(&["EVENT TRIGGER ", "COMMENT - EVENT TRIGGER "]) {
        Who::EventTrigger
    } else if begins(&SUPERUSER_ONLY) {
        Who::Superuser
    } else {
        Who::Restorer
    }
}

/// Whether an entry is rows, and not a definition.
pub fn is_data(title: &str) -> bool {
    ["TABLE DATA ", "BLOBS ", "SEQUENCE SET ", "STATISTICS DATA "].iter().any(|word| title.starts_with(word))
}

/// Whether restoring an entry can run functions of the dump: rows pass triggers and constraints, indexes and constraints
/// pass over rows.
pub fn runs_code(title: &str) -> bool {
    let kinds = ["INDEX ", "CONSTRAINT ", "CHECK CONSTRAINT ", "FK CONSTRAINT ", "STATISTICS "];
    is_data(title) || kinds.iter().any(|word| title.starts_with(word))
}

/// Whether an entry acts on other systems, or on whoever comes along, as soon as it is there; or keeps what logs in to others.
pub fn acts_outside(title: &str) -> bool {
    let of = ["COMMENT - ", "SECURITY LABEL - "].iter().find_map(|prefix| title.strip_prefix(prefix)).unwrap_or(title);
    ["SUBSCRIPTION ", "EVENT TRIGGER ", "USER MAPPING "].iter().any(|kind| of.starts_with(kind))
}

/// Those entries that are not restored on a scratch server that is not ours, where nothing keeps what they do in. A materialized view is
/// filled by its query, which may read foreign tables: never where there is a foreign server.
pub fn left_out(entries: &[Entry]) -> Vec<&Entry> {
    let foreign =
        entries.iter().any(|entry| ["SERVER ", "FOREIGN SERVER "].iter().any(|kind| entry.title.starts_with(kind)));
    let fills = |entry: &Entry| foreign && entry.title.starts_with("MATERIALIZED VIEW DATA ");
    entries.iter().filter(|entry| acts_outside(&entry.title) || fills(entry)).collect()
}

/// Stretches of neighbours that the same one restores, in order.
pub fn stretches(entries: &[Entry]) -> Vec<(Who, Vec<&Entry>)> {
    let mut all: Vec<(Who, Vec<&Entry>)> = Vec::new();
    for entry in entries {
        let who = who(&entry.title);
        match all.last_mut() {
            Some((last, list)) if *last == who => list.push(entry),
            _ => all.push((who, vec![entry])),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_outside_is_left_out() {
        let list = "1; 0 1 SUBSCRIPTION - sub boss\n2; 0 2 EVENT TRIGGER - e boss\n3; 0 3 COMMENT - EVENT TRIGGER e boss\n\
            4; 0 4 USER MAPPING - USER MAPPING boss SERVER far boss\n5; 0 5 MATERIALIZED VIEW DATA s m boss\n6; 0 6 TABLE s t boss\n";
        let ids = |list: &str| left_out(&read(list)).iter().map(|entry| entry.id).collect::<Vec<_>>();
        assert_eq!(ids(list), [1, 2, 3, 4]);
        assert_eq!(ids(&format!("{list}7; 1417 16500 SERVER - far boss\n")), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn lists_are_read_and_shared_out() {
        let list = ";\n; Archive created\n7; 2615 16516 SCHEMA - s alice\n2; 3079 16388 EXTENSION - hstore \n\
            3460; 0 0 COMMENT - EXTENSION hstore \n216; 1259 16517 TABLE s t alice\n3461; 0 0 ACL s TABLE t alice\n\
            3302; 3466 16532 EVENT TRIGGER - et postgres\n3450; 0 16525 MATERIALIZED VIEW DATA s m postgres\n";
        let entries = read(list);
        assert_eq!(entries.len(), 7);
        let shares: Vec<(Who, usize)> = stretches(&entries).iter().map(|(who, list)| (*who, list.len())).collect();
        let expected = [
            (Who::Restorer, 1),
            (Who::Superuser, 2),
            (Who::Restorer, 1),
            (Who::Grants, 1),
            (Who::EventTrigger, 1),
            (Who::Refresh, 1),
        ];
        assert_eq!(shares, expected);
        assert!(is_data("TABLE DATA s t alice") && !is_data("MATERIALIZED VIEW s m"));
    }
}
