//! Every object, role, tablespace and database that was there is there, as it was.

use std::collections::{BTreeMap, BTreeSet};

use super::{Comparison, Terms};
use crate::domain::check::Finding;
use crate::domain::inventory::{Fingerprint, Object, Role, Tablespace, Unseen};

/// Kinds of objects that need roles of the source: they cannot be compared where only a database was restored.
const NEED_ROLES: [&str; 5] = ["grant", "default privileges", "user mapping", "policy", "large object owner"];

/// Kinds of objects that a scratch database is restored without, because they would act on other systems.
const LEFT_OUT: [&str; 2] = ["subscription", "event trigger"];

/// How the kinds of objects that hang on a table end: when the table is missing, they are not named one by one.
const HANGERS: [&str; 5] = ["constraint", "trigger", "rule", "policy", "grant"];

/// What a fingerprint leaves out of a kind of objects on purpose: of what kind, what, and why. Said wherever such objects were compared.
const NOT_TAKEN: [(&str, &str, &str); 4] = [
    ("user mapping", "options of user mappings", "they hold passwords: not even a digest of them is taken"),
    ("subscription", "connections of subscriptions", "they hold passwords, and restored ones are disabled"),
    ("foreign server", "passwords, secrets and tokens of foreign servers", "not even a digest of them is taken"),
    ("grant", "who granted each privilege", "a dump grants as the owner"),
];

/// Compares the objects of one database.
pub fn objects(expected: &[Object], found: &[Object], terms: Terms) -> Comparison {
    let mut comparison = Comparison::default();
    let (expected, found) = (keyed(expected), keyed(found));
    let lost_tables: BTreeSet<&str> =
        expected.keys().filter(|key| is_relation(key.0) && !found.contains_key(*key)).map(|key| key.1).collect();
    let mut skipped: BTreeMap<&str, u64> = BTreeMap::new();
    let mut compared: BTreeMap<&str, u64> = BTreeMap::new();
    let mut hung: BTreeMap<&str, u64> = BTreeMap::new();
    let mut lost_members: BTreeMap<&str, u64> = BTreeMap::new();
    let mut more_members: BTreeMap<&str, u64> = BTreeMap::new();
    let mut findings = Vec::new();
    for (key, object) in &expected {
        let (kind, identity) = *key;
        if !terms.whole_server && NEED_ROLES.contains(&kind) {
            *skipped.entry(kind).or_default() += 1;
            continue;
        }
        match found.get(key) {
            Some(there) => {
                *compared.entry(kind).or_default() += 1;
                if there.definition != object.definition {
                    findings.push(changed(kind, identity, object, there));
                }
                if terms.whole_server && there.owner != object.owner {
                    findings.push(owner_changed(kind, identity, object, there));
                }
            }
            None if kind == "invalid index" && !terms.physical => {
                let why = "it was invalid on the source already, and a dump leaves invalid indexes out";
                comparison.skip(format!("index {identity}"), why);
            }
            None if kind == "pending detachment" && !terms.physical => {
                let why = "its detachment was interrupted on the source, and a dump attaches it again";
                comparison.skip(format!("partition {identity}"), why);
            }
            None if kind == "extension member" && !members(&found, identity) => {
                *lost_members.entry(extension(identity)).or_default() += 1;
            }
            None if !terms.whole_server && LEFT_OUT.contains(&kind) => {
                let why = "on a server that is not ours it could act outside: left out on purpose";
                comparison.skip(format!("{kind} {identity}"), why);
            }
            None => match hangs_on(kind, identity, &lost_tables) {
                Some(table) => *hung.entry(table).or_default() += 1,
                None => findings.push(missing(kind, identity)),
            },
        }
    }
    for finding in &mut findings {
        let table = finding.object.split_once(' ').map_or("", |(_, identity)| identity);
        if let Some(count) = hung.get(table).filter(|_| finding.code.ends_with("_missing")) {
            finding.message = format!("{}, nor are {count} things that hang on it", finding.message);
        }
    }
    for key in found.keys().filter(|key| !expected.contains_key(*key)) {
        let (kind, identity) = *key;
        if !terms.whole_server && NEED_ROLES.contains(&kind) {
            continue;
        }
        if kind == "extension member" && !members(&expected, identity) {
            *more_members.entry(extension(identity)).or_default() += 1;
            continue;
        }
        // Every new database has a schema `public`; a dump of one that has none does not say so.
        if terms.physical || (kind, identity) != ("schema", "public") {
            findings.push(extra(kind, identity));
        }
    }
    for (name, count) in lost_members {
        let message = format!("none of its {count} members is in the restored copy");
        findings.push(Finding::new("extension_members_missing", format!("extension {name}"), message));
    }
    for (name, count) in more_members {
        let message = format!("the restored copy has {count} members of an extension that had none on the source");
        findings.push(Finding::new("extension_members_extra", format!("extension {name}"), message));
    }
    for (kind, what, why) in NOT_TAKEN {
        if compared.contains_key(kind) {
            comparison.skip(what, why);
        }
    }
    for (kind, count) in compared {
        comparison.looked(count, &plural(kind));
    }
    for (kind, count) in skipped {
        comparison.skip(format!("{count} {}", plural(kind)), "the source's roles are not on the scratch server");
    }
    if !terms.whole_server {
        comparison.skip("owners", "the source's roles are not on the scratch server");
    }
    comparison.findings = findings;
    comparison
}

type Key<'a> = (&'a str, &'a str);

fn keyed(objects: &[Object]) -> BTreeMap<Key<'_>, &Object> {
    objects.iter().map(|object| ((object.kind.as_str(), object.identity.as_str()), object)).collect()
}

/// The extension that a member belongs to.
fn extension(member: &str) -> &str {
    member.split_once(": ").map_or(member, |(name, _)| name)
}

/// Whether any member of the same extension is among these: else the extension itself is what is missing, and is named once.
fn members(objects: &BTreeMap<Key<'_>, &Object>, member: &str) -> bool {
    let prefix = format!("{}: ", extension(member));
    let from = ("extension member", prefix.as_str());
    objects
        .range::<Key<'_>, _>(from..)
        .next()
        .is_some_and(|((kind, identity), _)| *kind == "extension member" && identity.starts_with(&prefix))
}

fn is_relation(kind: &str) -> bool {
    matches!(kind, "table" | "view" | "materialized view" | "foreign table")
}

/// Which of these tables it hangs on. Names may hold dots and ` on ` themselves, so every way to cut the identity is tried.
fn hangs_on<'a>(kind: &str, identity: &'a str, tables: &BTreeSet<&'a str>) -> Option<&'a str> {
    if kind == "column" {
        return identity.match_indices('.').find_map(|(at, _)| tables.get(identity.get(..at)?).copied());
    }
    let after = |cut: &'static str| {
        identity.match_indices(cut).find_map(|(at, _)| tables.get(identity.get(at + cut.len()..)?).copied())
    };
    if HANGERS.contains(&kind) { after(" on ").or_else(|| after(" on table ")) } else { None }
}

fn missing(kind: &str, identity: &str) -> Finding {
    Finding::new(
        &code(kind, "missing"),
        format!("{kind} {identity}"),
        format!("the {kind} is not in the restored copy"),
    )
}

fn extra(kind: &str, identity: &str) -> Finding {
    let message = format!("the restored copy has a {kind} that the source did not have");
    Finding::new(&code(kind, "extra"), format!("{kind} {identity}"), message)
}

fn changed(kind: &str, identity: &str, before: &Object, now: &Object) -> Finding {
    let message = format!("the {kind} is defined otherwise than on the source");
    Finding::new(&code(kind, "changed"), format!("{kind} {identity}"), message)
        .with(format!("definition {}", before.definition), format!("definition {}", now.definition))
}

fn owner_changed(kind: &str, identity: &str, before: &Object, now: &Object) -> Finding {
    let name = |object: &Object| object.owner.clone().unwrap_or_else(|| "nobody".to_owned());
    Finding::new("owner_changed", format!("{kind} {identity}"), format!("the {kind} belongs to another role"))
        .with(name(before), name(now))
}

fn code(kind: &str, what: &str) -> String {
    format!("{}_{what}", kind.replace(' ', "_"))
}

fn plural(kind: &str) -> String {
    match kind {
        "index" => "indexes".to_owned(),
        "invalid index" => "invalid indexes".to_owned(),
        "policy" => "policies".to_owned(),
        "operator family" => "operator families".to_owned(),
        "operator class" => "operator classes".to_owned(),
        "text search dictionary" => "text search dictionaries".to_owned(),
        "default privileges" | "statistics" => kind.to_owned(),
        _ => format!("{kind}s"),
    }
}

/// Compares the roles. Roles that only the restored server has are a finding of a physical copy alone: a server that was made for a
/// logical one has roles of its own.
pub fn roles(expected: &[Role], found: &[Role], terms: Terms) -> Comparison {
    let mut comparison = Comparison::default();
    if !terms.whole_server {
        comparison.skip(
            format!("{} roles", expected.len()),
            "only databases were restored, on a server with roles of its own",
        );
        return comparison;
    }
    for role in expected {
        let object = format!("role {}", role.name);
        let Some(there) = found.iter().find(|there| there.name == role.name) else {
            comparison.findings.push(Finding::new("role_missing", object, "the role is not on the restored server"));
            continue;
        };
        comparison.looked(1, "roles");
        if there.attributes != role.attributes {
            let message = "the role's attributes or settings are others";
            let finding = Finding::new("role_changed", object.clone(), message);
            comparison.findings.push(finding.with(&role.attributes, &there.attributes));
        }
        if there.member_of != role.member_of {
            let finding = Finding::new("membership_changed", object.clone(), "the role is a member of other roles");
            comparison.findings.push(finding.with(role.member_of.join(", "), there.member_of.join(", ")));
        }
        match (role.has_password.known(), there.has_password.known()) {
            (Some(before), Some(now)) if before != now => {
                let word = |has: &bool| if *has { "a password" } else { "no password" };
                let finding = Finding::new("role_password", object, "whether the role has a password has changed");
                comparison.findings.push(finding.with(word(before), word(now)));
            }
            (Some(_), Some(_)) => {}
            (None, _) | (_, None) => {
                comparison.skip(format!("password of {object}"), "nobody but a superuser sees whether there is one");
            }
        }
    }
    if terms.physical {
        for role in found.iter().filter(|role| !expected.iter().any(|one| one.name == role.name)) {
            let message = "the restored server has a role that the source did not have";
            comparison.findings.push(Finding::new("role_extra", format!("role {}", role.name), message));
        }
    }
    comparison
}

/// Compares the tablespaces: by name, for a sandbox has them in folders of its own.
pub fn tablespaces(expected: &[Tablespace], found: &[Tablespace], terms: Terms) -> Comparison {
    let mut comparison = Comparison::default();
    for space in expected {
        let object = format!("tablespace {}", space.name);
        if !terms.whole_server || !terms.physical {
            comparison.skip(object, "a dump is restored into the sandbox's own tablespace");
        } else if found.iter().any(|there| there.name == space.name && there.oid == space.oid) {
            comparison.looked(1, "tablespaces");
        } else {
            let message = "the tablespace is not on the restored server";
            comparison.findings.push(Finding::new("tablespace_missing", object, message));
        }
    }
    comparison
}

/// Every database of the backup is there. `found` are the names that they had, of those that are there.
pub fn databases<'a>(expected: impl Iterator<Item = &'a str>, found: &[&str]) -> Comparison {
    let mut comparison = Comparison::default();
    for name in expected {
        if found.contains(&name) {
            comparison.looked(1, "databases");
        } else {
            let message = "the database is not on the restored server";
            comparison.findings.push(Finding::new("database_missing", format!("database {name}"), message));
        }
    }
    comparison
}

/// Databases without a fingerprint: whatever is looked for, in these it was not.
pub fn unseen(all: &[Unseen]) -> Comparison {
    let mut comparison = Comparison::default();
    for one in all {
        let object = format!("database {}", one.database);
        if one.meanwhile {
            comparison.moved(object, one.why.clone());
        } else {
            let why = format!("it was not looked at when the backup was taken: {}", one.why);
            comparison.blind(object, why);
        }
    }
    comparison
}

/// Databases of a physical copy that the backup's fingerprint does not know at all. `found` are those of the restored server, but templates.
pub fn additional_databases(fingerprint: &Fingerprint, found: &[String]) -> Comparison {
    let mut comparison = Comparison::default();
    let known = |name: &String| {
        fingerprint.databases.iter().any(|one| one.name == *name)
            || fingerprint.unseen.iter().any(|one| one.database == *name)
    };
    for name in found.iter().filter(|name| !known(name)) {
        let message = "the restored server has a database that the fingerprint of the source does not name";
        comparison.findings.push(Finding::new("database_extra", format!("database {name}"), message));
    }
    comparison
}

#[cfg(test)]
#[path = "completeness_tests.rs"]
mod tests;
