//! What a database stands on: extensions, collations, encodings, settings. These tell a bad backup from a bad sandbox.

use std::collections::BTreeMap;

use super::{Comparison, Terms};
use crate::domain::check::Finding;
use crate::domain::inventory::{Collation, Database, Extension, Server};

/// Compares extensions: there, with the same version, in the same schema.
pub fn extensions(expected: &[Extension], found: &[Extension], terms: Terms) -> Comparison {
    let mut comparison = Comparison::default();
    let there: BTreeMap<&str, &Extension> = found.iter().map(|one| (one.name.as_str(), one)).collect();
    for extension in expected {
        let object = format!("extension {}", extension.name);
        let Some(now) = there.get(extension.name.as_str()) else {
            let message = "the extension is not in the restored copy";
            comparison.findings.push(Finding::new("extension_missing", object, message));
            continue;
        };
        comparison.looked(1, "extensions");
        if now.version != extension.version {
            let message = "the extension has another version: the sandbox does not have the source's";
            let finding = Finding::new("extension_version", object.clone(), message);
            comparison.findings.push(finding.with(&extension.version, &now.version));
        }
        if now.schema != extension.schema {
            let finding = Finding::new("extension_schema", object, "the extension is in another schema");
            comparison.findings.push(finding.with(&extension.schema, &now.schema));
        }
    }
    for extra in found.iter().filter(|one| !expected.iter().any(|before| before.name == one.name)) {
        // Every new database has plpgsql; a dump of one that has not does not say so.
        if terms.physical || extra.name != "plpgsql" {
            let message = "the restored copy has an extension that the source did not have";
            comparison.findings.push(Finding::new("extension_extra", format!("extension {}", extra.name), message));
        }
    }
    comparison
}

/// Compares collations, and the versions of what sorts by them. In a physical copy, indexes were built in the order that the source's
/// libraries give; where this machine's give another, they may be wrong. A dump's indexes are built here.
pub fn collations(expected: &Database, found: &Database, terms: Terms) -> Comparison {
    let mut comparison = Comparison::default();
    let database = Collation {
        name: "of the database".to_owned(),
        provider: provider(&expected.locale),
        recorded: expected.collation_version.clone(),
        actual: expected.collation_actual.clone(),
    };
    let database_now = Collation {
        name: database.name.clone(),
        provider: provider(&found.locale),
        recorded: found.collation_version.clone(),
        actual: found.collation_actual.clone(),
    };
    let there: BTreeMap<&str, &Collation> = found.collations.iter().map(|one| (one.name.as_str(), one)).collect();
    version(&mut comparison, &database, &database_now, terms);
    for collation in &expected.collations {
        match there.get(collation.name.as_str()) {
            Some(now) => version(&mut comparison, collation, now, terms),
            None => {
                let message = "the collation is not in the restored copy";
                let object = format!("collation {}", collation.name);
                comparison.findings.push(Finding::new("collation_missing", object, message));
            }
        }
    }
    comparison
}

fn provider(locale: &str) -> String {
    locale.split(' ').next().unwrap_or_default().to_owned()
}

fn version(comparison: &mut Comparison, before: &Collation, now: &Collation, terms: Terms) {
    let object = format!("collation {}", before.name);
    let words = |version: &Option<String>| version.clone().unwrap_or_else(|| "none".to_owned());
    if before.provider != now.provider {
        let finding = Finding::new("collation_provider", object, "the collation comes from another library");
        comparison.findings.push(finding.with(&before.provider, &now.provider));
        return;
    }
    if terms.physical && before.recorded != now.recorded {
        let finding = Finding::new(
            "collation_recorded",
            object,
            "the catalog of the copy has another version than that of the source",
        );
        comparison.findings.push(finding.with(words(&before.recorded), words(&now.recorded)));
        return;
    }
    match (&now.recorded, &now.actual) {
        (Some(recorded), Some(actual)) if recorded != actual => {
            let message = "indexes were built with another version of the collation: they are suspect until rebuilt";
            let finding = Finding::new("collation_version", object, message);
            comparison.findings.push(finding.with(recorded, actual));
        }
        _ if before.actual != now.actual && terms.physical => {
            let message = "the source sorts with another version than this machine: indexes are suspect here";
            let finding = Finding::new("collation_version", object, message);
            comparison.findings.push(finding.with(words(&before.actual), words(&now.actual)));
        }
        _ if before.actual != now.actual => {
            let (before, now) = (words(&before.actual), words(&now.actual));
            let why = format!(
                "the source sorts with version {before}, this machine with {now}: the order of texts may differ"
            );
            comparison.skip(format!("order of {object}"), why);
            comparison.looked(1, "collations");
        }
        _ => comparison.looked(1, "collations"),
    }
}

/// Compares encoding and locale of the database.
pub fn encodings(expected: &Database, found: &Database) -> Comparison {
    let mut comparison = Comparison::default();
    let object = format!("database {}", expected.name);
    comparison.looked(1, "databases");
    if expected.encoding != found.encoding {
        let finding = Finding::new("encoding_changed", object.clone(), "the database has another encoding");
        comparison.findings.push(finding.with(&expected.encoding, &found.encoding));
    }
    if expected.locale != found.locale {
        let finding =
            Finding::new("locale_changed", object, "the database has another locale: texts sort and compare otherwise");
        comparison.findings.push(finding.with(&expected.locale, &found.locale));
    }
    comparison
}

/// Compares the settings of the database, and its owner.
pub fn database_settings(expected: &Database, found: &Database, terms: Terms) -> Comparison {
    let mut comparison = Comparison::default();
    let object = format!("database {}", expected.name);
    if !terms.whole_server {
        comparison.skip(
            format!("settings of {object}"),
            "only its content was restored, into a database that was made for it",
        );
        return comparison;
    }
    comparison.looked(1, "databases");
    if expected.settings != found.settings {
        let finding = Finding::new(
            "settings_changed",
            object.clone(),
            "the settings of the database are others (ALTER DATABASE … SET)",
        );
        comparison.findings.push(finding.with(expected.settings.join(", "), found.settings.join(", ")));
    }
    if expected.owner != found.owner {
        let finding = Finding::new("owner_changed", object, "the database belongs to another role");
        comparison.findings.push(finding.with(&expected.owner, &found.owner));
    }
    comparison
}

/// Compares what the server itself is. Its settings are lifeboat's own in a sandbox, which trusts nothing of the source's
/// configuration; only those that recovery needs can be compared.
pub fn server(expected: &Server, found: &Server, terms: Terms) -> Comparison {
    const NEEDED: [&str; 5] = [
        "max_connections",
        "max_worker_processes",
        "max_prepared_transactions",
        "max_locks_per_transaction",
        "max_wal_senders",
    ];
    let mut comparison = Comparison::default();
    let mut differs = |code: &str, message: &str, before: String, now: String| {
        comparison.findings.push(Finding::new(code, "server", message).with(before, now));
    };
    if expected.major() != found.major() {
        differs(
            "server_version",
            "the server is of another major version",
            expected.version.clone(),
            found.version.clone(),
        );
    }
    if terms.physical {
        if expected.system_identifier != found.system_identifier {
            let (before, now) = (expected.system_identifier.clone(), found.system_identifier.clone());
            differs("system_identifier", "this is a copy of another server", before, now);
        }
        if expected.data_checksums != found.data_checksums {
            let word = |on: bool| if on { "on" } else { "off" }.to_owned();
            differs(
                "data_checksums",
                "page checksums are set otherwise",
                word(expected.data_checksums),
                word(found.data_checksums),
            );
        }
        for name in NEEDED {
            let number = |server: &Server| server.settings.get(name).and_then(|text| text.parse::<u64>().ok());
            if let (Some(before), Some(now)) = (number(expected), number(found))
                && now < before
            {
                differs(
                    "setting_too_low",
                    &format!("{name} is lower than recovery needs"),
                    before.to_string(),
                    now.to_string(),
                );
            }
        }
    }
    comparison.looked(1, "servers");
    let left = expected.settings.len() - if terms.physical { NEEDED.len().min(expected.settings.len()) } else { 0 };
    comparison.skip(format!("{left} settings of the server"), "the sandbox has a configuration of its own");
    comparison
}

#[cfg(test)]
pub(super) use tests::database as database_of_tests;

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::check::Outcome;
    use crate::domain::inventory::{LargeObjects, Snapshot};
    use crate::domain::lsn::Lsn;
    use crate::domain::observed::Observed;

    const PHYSICAL: Terms = Terms { physical: true, whole_server: true };
    const LOGICAL: Terms = Terms { physical: false, whole_server: true };

    pub fn database() -> Database {
        Database {
            name: "shop".to_owned(),
            oid: 16_384,
            owner: "app".to_owned(),
            encoding: "UTF8".to_owned(),
            locale: "libc collate=de_DE.utf8 ctype=de_DE.utf8".to_owned(),
            collation_version: Some("2.36".to_owned()),
            collation_actual: Some("2.36".to_owned()),
            settings: vec!["work_mem=64MB".to_owned()],
            snapshot: Snapshot { taken_at: Timestamp::UNIX_EPOCH, xmin: 1, xmax: 1, xip: vec![] },
            extensions: vec![],
            collations: vec![Collation {
                name: "public.german".to_owned(),
                provider: "icu".to_owned(),
                recorded: Some("153.120".to_owned()),
                actual: Some("153.120".to_owned()),
            }],
            objects: vec![],
            tables: vec![],
            sequences: vec![],
            large_objects: LargeObjects { count: 0, digest: Observed::Absent },
            changed_meanwhile: Vec::new(),
        }
    }

    fn first(comparison: &Comparison) -> String {
        match comparison.outcome() {
            Outcome::Failed(findings) => findings[0].code.clone(),
            other => other.word().to_owned(),
        }
    }

    #[test]
    fn extensions_are_compared_by_name_version_and_schema() {
        let one = |name: &str, version: &str, schema: &str| Extension {
            name: name.to_owned(),
            version: version.to_owned(),
            schema: schema.to_owned(),
        };
        let expected = [one("hstore", "1.8", "public")];
        for (found, code) in [
            (vec![one("hstore", "1.8", "public")], "passed"),
            (vec![one("hstore", "1.7", "public")], "extension_version"),
            (vec![one("hstore", "1.8", "ext")], "extension_schema"),
            (vec![], "extension_missing"),
            (vec![one("hstore", "1.8", "public"), one("dblink", "1.2", "public")], "extension_extra"),
            (vec![one("hstore", "1.8", "public"), one("plpgsql", "1.0", "pg_catalog")], "passed"),
        ] {
            assert_eq!(first(&extensions(&expected, &found, LOGICAL)), code, "{found:?}");
        }
    }

    #[test]
    fn another_version_of_a_collation_makes_indexes_suspect_where_they_were_copied() {
        assert_eq!(first(&collations(&database(), &database(), PHYSICAL)), "passed");
        type Change = fn(&mut Database);
        let changes: [(Change, &str, &str); 7] = [
            (|d| d.locale = "icu de-DE".to_owned(), "collation_provider", "collation_provider"),
            (|d| d.collation_actual = Some("2.41".to_owned()), "collation_version", "collation_version"),
            (|d| d.collations[0].actual = Some("153.121".to_owned()), "collation_version", "collation_version"),
            (|d| d.collations[0].recorded = None, "collation_recorded", "passed"),
            (|d| d.collations[0].provider = "libc".to_owned(), "collation_provider", "collation_provider"),
            (|d| d.collations.clear(), "collation_missing", "collation_missing"),
            (
                |d| {
                    d.collation_actual = Some("2.41".to_owned());
                    d.collation_version = Some("2.41".to_owned());
                },
                "collation_recorded",
                "passed",
            ),
        ];
        for (at, (change, physical, logical)) in changes.into_iter().enumerate() {
            let mut found = database();
            change(&mut found);
            assert_eq!(first(&collations(&database(), &found, PHYSICAL)), physical, "change {at}, physical");
            assert_eq!(first(&collations(&database(), &found, LOGICAL)), logical, "change {at}, logical");
        }
    }

    #[test]
    fn without_a_recorded_version_the_two_machines_are_compared() {
        let unrecorded = |actual: &str| {
            let mut one = database();
            one.collations[0].recorded = None;
            one.collations[0].actual = Some(actual.to_owned());
            one
        };
        let (before, now) = (unrecorded("153.120"), unrecorded("153.121"));
        assert_eq!(first(&collations(&before, &now, PHYSICAL)), "collation_version");
        let logical = collations(&before, &now, LOGICAL);
        assert!(logical.findings.is_empty(), "a dump's indexes are built here: {logical:?}");
        assert!(logical.unchecked[0].why.contains("153.120, this machine with 153.121"), "{logical:?}");
        assert_eq!(collations(&before, &before, LOGICAL).unchecked, []);
        assert_eq!(first(&collations(&before, &before, PHYSICAL)), "passed");
    }

    #[test]
    fn encodings_settings_and_owner_are_compared() {
        type Change = fn(&mut Database);
        let changes: [(Change, &str, &str); 5] = [
            (|_| {}, "passed", "passed"),
            (|d| d.encoding = "SQL_ASCII".to_owned(), "encoding_changed", "passed"),
            (|d| d.locale.push('x'), "locale_changed", "passed"),
            (|d| d.settings.clear(), "passed", "settings_changed"),
            (|d| d.owner.clear(), "passed", "owner_changed"),
        ];
        for (change, encoding, setting) in changes {
            let mut found = database();
            change(&mut found);
            assert_eq!(first(&encodings(&database(), &found)), encoding);
            assert_eq!(first(&database_settings(&database(), &found, LOGICAL)), setting);
        }
    }

    #[test]
    fn a_copy_of_another_server_is_found() {
        let server_of = |change: fn(&mut Server)| {
            let mut server = Server {
                system_identifier: "7000000000000000001".to_owned(),
                version_num: 150_018,
                version: "15.18".to_owned(),
                data_checksums: true,
                in_recovery: false,
                timeline: 1,
                lsn: Lsn(0),
                clock: Timestamp::UNIX_EPOCH,
                wal_segment_bytes: 16 << 20,
                settings: BTreeMap::from([("max_connections".to_owned(), "100".to_owned())]),
            };
            change(&mut server);
            server
        };
        let good = server_of(|_| {});
        for (found, physical, logical) in [
            (server_of(|_| {}), "passed", "passed"),
            (server_of(|s| s.system_identifier.push('1')), "system_identifier", "passed"),
            (server_of(|s| s.data_checksums = false), "data_checksums", "passed"),
            (server_of(|s| s.version_num = 160_000), "server_version", "server_version"),
            (
                server_of(|s| s.settings = BTreeMap::from([("max_connections".to_owned(), "10".to_owned())])),
                "setting_too_low",
                "passed",
            ),
        ] {
            assert_eq!(first(&server(&good, &found, PHYSICAL)), physical);
            assert_eq!(first(&server(&good, &found, LOGICAL)), logical);
        }
    }
}
