//! Every row of every table is there, as it was.

use std::collections::{BTreeMap, BTreeSet};

use super::{Comparison, Terms};
use crate::domain::check::Finding;
use crate::domain::inventory::{Content, FOREIGN, LargeObjects, Table, UNLOGGED, UNREADABLE};
use crate::domain::observed::Observed;

/// A table of the restored copy, and the traces that writing left in it.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundTable {
    /// The table; in a physical copy without the rows that were written after the source's snapshot.
    pub table: Table,
    /// Whether the source went on writing to it between its snapshot and the end of the backup.
    pub meanwhile: bool,
    /// Rows that the restored server itself has written, or ended.
    pub own_rows: u64,
}

/// The large objects of the restored copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundLargeObjects {
    /// All together.
    pub all: LargeObjects,
    /// As for tables.
    pub meanwhile: bool,
}

const MEANWHILE: &str = "changed while it was being backed up";

/// Compares tables. `derived` are the materialized views: a dump holds their query only.
///
/// A physical copy is of the end of the backup, the fingerprint of its beginning. Where the rows that both can have are the same, the
/// table has passed. Where they are not, and the table was written to meanwhile, nothing can be said; and where it was not, it is wrong.
pub fn tables(expected: &[Table], found: &[FoundTable], derived: &BTreeSet<&str>, terms: Terms) -> Comparison {
    let mut comparison = Comparison::default();
    let there: BTreeMap<&str, &FoundTable> = found.iter().map(|one| (one.table.name.as_str(), one)).collect();
    for table in expected {
        let object = format!("table {}", table.name);
        match there.get(table.name.as_str()) {
            None => {
                comparison.findings.push(Finding::new("table_missing", object, "the table is not in the restored copy"))
            }
            Some(found) => one(&mut comparison, object, table, found, derived.contains(table.name.as_str()), terms),
        }
    }
    let known: BTreeSet<&str> = expected.iter().map(|table| table.name.as_str()).collect();
    for extra in found.iter().filter(|one| !known.contains(one.table.name.as_str())) {
        let object = format!("table {}", extra.table.name);
        if terms.physical && extra.meanwhile && extra.own_rows == 0 {
            comparison.moved(object, "made while the backup was taken: the fingerprint does not have it");
        } else {
            let message = "the restored copy has a table that the source did not have";
            comparison.findings.push(Finding::new("table_extra", object, message));
        }
    }
    comparison
}

fn one(comparison: &mut Comparison, object: String, expected: &Table, found: &FoundTable, derived: bool, terms: Terms) {
    match (&expected.content, &found.table.content) {
        (_, Observed::Unknown(why)) if why.starts_with(UNREADABLE) => {
            comparison.findings.push(Finding::new("table_unreadable", object, why.clone()));
        }
        (Observed::Unknown(why), _) if why.starts_with(FOREIGN) => comparison.skip(object, why.clone()),
        (_, Observed::Unknown(why)) if terms.physical && why.starts_with(UNLOGGED) => {
            comparison.skip(object, why.clone());
        }
        (Observed::Unknown(why), _) | (_, Observed::Unknown(why)) => comparison.blind(object, why.clone()),
        (Observed::Absent, Observed::Absent) => comparison.looked(1, "tables"),
        (Observed::Known(before), Observed::Known(now))
            if (before.percent, before.pages) != (now.percent, now.pages) =>
        {
            let words = |one: &Content| {
                let by = if one.pages.is_some() { "by their pages" } else { "by their keys" };
                if one.percent < 100 {
                    format!("{} of a hundred rows, chosen {by},", one.percent)
                } else {
                    "all rows".to_owned()
                }
            };
            let why = format!("{} were digested on the source, {} here", words(before), words(now));
            comparison.blind(object, why);
        }
        // Their counts are of one method: where those differ, the rows do.
        (Observed::Known(before), Observed::Known(now))
            if before.method() != now.method() && (before.rows, before.digested) == (now.rows, now.digested) =>
        {
            let why = format!(
                "it has the {} rows that it had, but what is in them cannot be compared: the backup has digests of method {}, \
                 this lifeboat makes {}; take a new backup, or drill this one with the version that took it",
                now.rows,
                before.method(),
                now.method()
            );
            comparison.blind(object, why);
        }
        (Observed::Known(before), Observed::Known(now)) if before == now => {
            comparison.looked(1, "tables");
            comparison.looked(now.digested, "rows");
            if now.digested < now.rows {
                let why = format!(
                    "{} of {} rows were digested, as the policy says; all were counted",
                    now.digested, now.rows
                );
                comparison.skip(format!("part of {object}"), why);
            }
        }
        (before, now) if found.own_rows > 0 => {
            let message = format!(
                "its rows are not those of the source: {} were written or deleted after the restore",
                found.own_rows
            );
            comparison.findings.push(differs(object, &message, before, now));
        }
        (before, now) if terms.physical => {
            if found.meanwhile {
                comparison.moved(object, MEANWHILE);
            } else {
                comparison.findings.push(differs(object, "its rows are not those of the source", before, now));
            }
        }
        // Where there are foreign servers it is not refreshed on a server that is not ours; a refresh that fails is the restore's own finding.
        (Observed::Known(_), Observed::Absent) if derived && !terms.whole_server => {
            comparison.skip(object, "a dump holds its query and not its rows, and it was not refreshed here");
        }
        // A view that was filled on the source and is empty here was not refreshed: that is a failed restore.
        (Observed::Known(_), Observed::Known(_)) if derived => {
            let why = "a dump holds its query and not its rows: refreshed by the restore, it came out otherwise than the source had it";
            comparison.skip(object, why);
        }
        (before, now) => comparison.findings.push(differs(object, "its rows are not those of the source", before, now)),
    }
}

fn differs(object: String, message: &str, before: &Observed<Content>, now: &Observed<Content>) -> Finding {
    Finding::new("content_differs", object, message).with(in_words(before), in_words(now))
}

fn in_words(content: &Observed<Content>) -> String {
    match content {
        Observed::Known(content) => {
            let digest: String = content.value().chars().take(12).collect();
            format!("{} rows, digest {digest}…", content.rows)
        }
        Observed::Absent => "never filled".to_owned(),
        Observed::Unknown(why) => why.clone(),
    }
}

/// Compares the large objects.
pub fn large_objects(expected: &LargeObjects, found: &FoundLargeObjects, terms: Terms) -> Comparison {
    let mut comparison = Comparison::default();
    let object = "large objects";
    let (before, now) = (expected, &found.all);
    let words = |all: &LargeObjects| match &all.digest {
        Observed::Known(digest) => {
            format!("{} large objects, digest {}…", all.count, digest.chars().take(12).collect::<String>())
        }
        Observed::Absent | Observed::Unknown(_) => format!("{} large objects", all.count),
    };
    let wrong = |message: &str| Finding::new("large_objects_differ", object, message).with(words(before), words(now));
    let meanwhile = terms.physical && found.meanwhile;
    match (&before.digest, &now.digest) {
        (_, Observed::Unknown(why)) if why.starts_with(UNREADABLE) => comparison.findings.push(wrong(why)),
        _ if before.count != now.count && meanwhile => comparison.moved(object, MEANWHILE),
        _ if before.count != now.count => comparison.findings.push(wrong("there are not as many as on the source")),
        (Observed::Known(a), Observed::Known(b)) if a == b => comparison.looked(now.count, object),
        (Observed::Known(_), Observed::Known(_)) if meanwhile => comparison.moved(object, MEANWHILE),
        (Observed::Known(_), Observed::Known(_)) => {
            comparison.findings.push(wrong("their content is not that of the source"));
        }
        // There are none on either side, so there is no content to compare.
        _ if before.count == 0 => {}
        (Observed::Unknown(why), _) | (_, Observed::Unknown(why)) => comparison.blind(object, why.clone()),
        (Observed::Absent, _) | (_, Observed::Absent) => comparison.blind(object, "their content was not digested"),
    }
    comparison
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::check::Outcome;
    use crate::domain::inventory::Pages;

    const PHYSICAL: Terms = Terms { physical: true, whole_server: true };
    const LOGICAL: Terms = Terms { physical: false, whole_server: true };

    fn content(rows: u64, digest: &str) -> Observed<Content> {
        Observed::Known(Content { rows, digested: rows, percent: 100, pages: None, digest: digest.to_owned() })
    }

    fn table(content: Observed<Content>) -> Table {
        Table { name: "public.orders".to_owned(), content, bytes: 8192 }
    }

    fn found(content: Observed<Content>, meanwhile: bool, own_rows: u64) -> FoundTable {
        FoundTable { table: table(content), meanwhile, own_rows }
    }

    fn word(before: Observed<Content>, now: FoundTable, terms: Terms, derived: bool) -> String {
        let derived = if derived { BTreeSet::from(["public.orders"]) } else { BTreeSet::new() };
        match tables(&[table(before)], &[now], &derived, terms).outcome() {
            Outcome::Failed(findings) => findings[0].code.clone(),
            other => other.word().to_owned(),
        }
    }

    #[test]
    fn every_pair_of_observations_has_its_word() {
        let good = || content(3, "aaaa");
        let other = || content(3, "bbbb");
        let unknown = || Observed::Unknown("the role may not read it".to_owned());
        let damaged = || Observed::Unknown(format!("{UNREADABLE}invalid page"));
        let of =
            |pages| Observed::Known(Content { rows: 3, digested: 1, percent: 5, pages, digest: "aaaa".to_owned() });
        let part = || of(None);
        let paged = |seed| of(Some(Pages { blocks: 9, seed }));
        for (before, now, meanwhile, own, terms, derived, expected) in [
            (good(), good(), false, 0, LOGICAL, false, "passed"),
            (good(), good(), true, 0, PHYSICAL, false, "passed"),
            (good(), other(), false, 0, LOGICAL, false, "content_differs"),
            (good(), other(), false, 0, PHYSICAL, false, "content_differs"),
            (good(), content(4, "aaaa"), false, 0, LOGICAL, false, "content_differs"),
            (good(), other(), true, 0, PHYSICAL, false, "unchecked"),
            (good(), other(), true, 0, LOGICAL, false, "content_differs"),
            (good(), other(), true, 2, PHYSICAL, false, "content_differs"),
            (good(), other(), false, 0, LOGICAL, true, "unchecked"),
            (good(), other(), false, 0, PHYSICAL, true, "content_differs"),
            (good(), Observed::Absent, false, 0, LOGICAL, true, "content_differs"),
            (good(), Observed::Absent, false, 0, Terms { whole_server: false, ..LOGICAL }, true, "unchecked"),
            (good(), Observed::Absent, false, 0, Terms { whole_server: false, ..LOGICAL }, false, "content_differs"),
            (Observed::Absent, good(), false, 0, LOGICAL, true, "content_differs"),
            (Observed::Absent, Observed::Absent, false, 0, LOGICAL, true, "passed"),
            (good(), unknown(), false, 0, LOGICAL, false, "unchecked"),
            (unknown(), good(), false, 0, LOGICAL, false, "unchecked"),
            (good(), damaged(), true, 0, PHYSICAL, false, "table_unreadable"),
            (unknown(), damaged(), false, 0, LOGICAL, false, "table_unreadable"),
            (part(), good(), false, 0, LOGICAL, false, "unchecked"),
            (paged(1), part(), false, 0, PHYSICAL, false, "unchecked"),
            (paged(1), paged(2), false, 0, PHYSICAL, false, "unchecked"),
            (paged(1), paged(1), false, 0, PHYSICAL, false, "passed"),
            (part(), part(), false, 0, LOGICAL, false, "passed"),
            (good(), content(3, "lb2:aaaa"), false, 0, LOGICAL, false, "unchecked"),
            (good(), content(3, "lb2:aaaa"), false, 0, PHYSICAL, false, "unchecked"),
            (good(), content(3, "lb2:aaaa"), true, 2, PHYSICAL, false, "unchecked"),
            (content(3, "lb3:aaaa"), content(3, "lb2:aaaa"), false, 0, LOGICAL, false, "unchecked"),
            (good(), content(4, "lb2:bbbb"), false, 0, LOGICAL, false, "content_differs"),
            (good(), content(4, "lb2:bbbb"), false, 0, PHYSICAL, false, "content_differs"),
            (content(3, "lb2:aaaa"), content(3, "lb2:aaaa"), false, 0, LOGICAL, false, "passed"),
            (content(3, "lb2:aaaa"), content(3, "lb2:bbbb"), false, 0, LOGICAL, false, "content_differs"),
        ] {
            let says = format!("{before:?} → {now:?}, meanwhile {meanwhile}, own {own}, {terms:?}, derived {derived}");
            assert_eq!(word(before, found(now, meanwhile, own), terms, derived), expected, "{says}");
        }
    }

    #[test]
    fn what_nobody_could_read_is_grave_and_what_nobody_promised_is_not() {
        let good = || content(3, "aaaa");
        let unknown = |why: &str| Observed::Unknown(why.to_owned());
        let damaged = || unknown(&format!("{UNREADABLE}invalid page"));
        let part =
            || Observed::Known(Content { rows: 3, digested: 1, percent: 5, pages: None, digest: "aaaa".to_owned() });
        for (before, now, terms, grave) in [
            (unknown("permission denied"), good(), LOGICAL, true),
            (unknown("permission denied"), unknown("unlogged: x"), LOGICAL, true),
            (good(), unknown("timeout"), PHYSICAL, true),
            (damaged(), good(), PHYSICAL, true),
            (part(), good(), LOGICAL, true),
            (good(), content(3, "lb2:aaaa"), LOGICAL, true),
            (part(), part(), LOGICAL, false),
            (unknown("foreign: x"), unknown("foreign: x"), LOGICAL, false),
            (good(), unknown("foreign: x"), LOGICAL, true),
            (good(), unknown("unlogged: x"), PHYSICAL, false),
            (good(), unknown("unlogged: x"), LOGICAL, true),
        ] {
            let says = format!("{before:?} → {now:?}");
            let made = tables(&[table(before)], &[found(now, false, 0)], &BTreeSet::new(), terms);
            assert_eq!(made.unchecked.iter().map(|one| one.grave).collect::<Vec<_>>(), [grave], "{says}");
        }
        let all = |count| LargeObjects { count, digest: unknown_digest() };
        let grave = |count| {
            let found = FoundLargeObjects { all: all(count), meanwhile: false };
            large_objects(&all(count), &found, LOGICAL).unchecked.iter().any(|one| one.grave)
        };
        assert!(grave(1) && !grave(0));
    }

    fn unknown_digest() -> Observed<String> {
        Observed::Unknown("only a superuser can read them".to_owned())
    }

    #[test]
    fn lost_and_additional_tables_are_found() {
        let none = BTreeSet::new();
        let lost = tables(&[table(content(1, "a"))], &[], &none, LOGICAL);
        assert_eq!(lost.findings[0].code, "table_missing");
        let extra = tables(&[], &[found(content(1, "a"), false, 0)], &none, PHYSICAL);
        assert_eq!(extra.findings[0].code, "table_extra");
        let made = tables(&[], &[found(content(1, "a"), true, 0)], &none, PHYSICAL);
        assert!(made.findings.is_empty());
        assert!(matches!(made.outcome(), Outcome::Unchecked(_)));
    }

    #[test]
    fn sampled_tables_pass_and_say_so() {
        let part =
            Observed::Known(Content { rows: 300, digested: 14, percent: 5, pages: None, digest: "a".to_owned() });
        let comparison = tables(&[table(part.clone())], &[found(part, false, 0)], &BTreeSet::new(), LOGICAL);
        assert!(comparison.unchecked[0].why.contains("14 of 300"));
        assert_eq!(comparison.looked_at[1].count, 14);
    }

    #[test]
    fn no_row_is_in_a_finding() {
        let comparison = tables(
            &[table(content(1, "0123456789abcdef"))],
            &[found(content(2, "fedcba9876543210"), false, 0)],
            &BTreeSet::new(),
            LOGICAL,
        );
        let finding = &comparison.findings[0];
        assert_eq!(finding.expected.as_deref(), Some("1 rows, digest 0123456789ab…"));
        assert_eq!(finding.found.as_deref(), Some("2 rows, digest fedcba987654…"));
    }

    #[test]
    fn large_objects_are_compared_by_count_and_content() {
        let all = |count, digest: Observed<&str>| LargeObjects {
            count,
            digest: match digest {
                Observed::Known(digest) => Observed::Known(digest.to_owned()),
                Observed::Absent => Observed::Absent,
                Observed::Unknown(why) => Observed::Unknown(why),
            },
        };
        let word = |before: &LargeObjects, now: LargeObjects, meanwhile: bool, terms: Terms| {
            large_objects(before, &FoundLargeObjects { all: now, meanwhile }, terms).outcome().word()
        };
        let before = all(2, Observed::Known("a"));
        assert_eq!(word(&before, all(2, Observed::Known("a")), false, LOGICAL), "passed");
        assert_eq!(word(&before, all(2, Observed::Known("b")), false, LOGICAL), "failed");
        assert_eq!(word(&before, all(1, Observed::Known("a")), false, LOGICAL), "failed");
        assert_eq!(word(&before, all(1, Observed::Unknown("no".to_owned())), true, LOGICAL), "failed");
        assert_eq!(word(&before, all(3, Observed::Known("b")), true, PHYSICAL), "unchecked");
        assert_eq!(word(&before, all(2, Observed::Known("b")), true, PHYSICAL), "unchecked");
        assert_eq!(word(&before, all(2, Observed::Unknown("no".to_owned())), false, LOGICAL), "unchecked");
        assert_eq!(word(&before, all(2, Observed::Unknown(format!("{UNREADABLE}x"))), false, LOGICAL), "failed");
    }
}
