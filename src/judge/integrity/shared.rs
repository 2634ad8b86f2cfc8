//! What belongs to the whole server: attributes, comments, grants, settings.

use std::collections::BTreeSet;

use super::{Comparison, Terms};
use crate::domain::check::Finding;
use crate::domain::inventory::{ATTRIBUTES_OF_DATABASE, COMMENT_ON_DATABASE, Fingerprint, Object};

/// Compares it. `found` is all that the restored server has; `databases`, quoted, those that it should have of this backup.
pub fn shared(expected: &Fingerprint, found: &[Object], databases: &BTreeSet<String>, terms: Terms) -> Comparison {
    let mut comparison = Comparison::default();
    let what = "attributes, comments and grants of databases, roles and tablespaces";
    let Some(before) = &expected.shared else {
        comparison.skip(what, "the backup is older than this check: it did not record them");
        return comparison;
    };
    if !terms.whole_server {
        comparison.skip(what, "only databases were restored, on a server that has its own");
        return comparison;
    }
    for object in before.iter().filter(|object| terms.physical || is_held(object, databases)) {
        let name = format!("{} {}", object.kind, object.identity);
        let of_tablespace = object.kind.ends_with("tablespace");
        match found.iter().find(|there| (&there.kind, &there.identity) == (&object.kind, &object.identity)) {
            None if of_tablespace && !terms.physical && expected.server.major() < 15 => {
                comparison.skip(name, "before version 15 a dump is restored without its tablespaces");
            }
            None => comparison.findings.push(Finding::new(
                &code(object, "missing"),
                name,
                "it is not on the restored server",
            )),
            Some(there) => {
                comparison.looked(1, "shared attributes");
                if there.definition != object.definition {
                    let finding =
                        Finding::new(&code(object, "changed"), name.clone(), "it is otherwise than on the source");
                    let digest = |object: &Object| format!("definition {}", object.definition);
                    comparison.findings.push(finding.with(digest(object), digest(there)));
                }
                if there.owner != object.owner {
                    let owner = |object: &Object| object.owner.clone().unwrap_or_else(|| "nobody".to_owned());
                    let finding = Finding::new(&code(object, "owner"), name, "it belongs to another role");
                    comparison.findings.push(finding.with(owner(object), owner(there)));
                }
            }
        }
    }
    // A server that was made for a dump has databases of its own.
    let is_new =
        |there: &&Object| !before.iter().any(|one| (&one.kind, &one.identity) == (&there.kind, &there.identity));
    for extra in found.iter().filter(|there| terms.physical || is_held(there, databases)).filter(is_new) {
        let name = format!("{} {}", extra.kind, extra.identity);
        comparison.findings.push(Finding::new(&code(extra, "extra"), name, "the source did not have it"));
    }
    comparison
}

/// What is about a database is of this backup only if the database is.
fn is_held(object: &Object, databases: &BTreeSet<String>) -> bool {
    let of_database = [ATTRIBUTES_OF_DATABASE, COMMENT_ON_DATABASE].contains(&object.kind.as_str());
    !of_database || databases.contains(&object.identity)
}

fn code(object: &Object, what: &str) -> String {
    format!("{}_{what}", object.kind.replace(' ', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::inventory::SETTING_OF_ALL_ROLES;
    use crate::domain::sample;

    const PHYSICAL: Terms = Terms { physical: true, whole_server: true };
    const LOGICAL: Terms = Terms { physical: false, whole_server: true };

    fn one(kind: &str, identity: &str, definition: &str) -> Object {
        Object {
            kind: kind.to_owned(),
            identity: identity.to_owned(),
            definition: definition.to_owned(),
            owner: Some("app".to_owned()),
        }
    }

    #[test]
    fn what_is_lost_altered_or_new_is_named_and_other_databases_are_not_asked_for() {
        let mut fingerprint = sample::manifest().fingerprint;
        let before = vec![one(ATTRIBUTES_OF_DATABASE, "shop", "a"), one(SETTING_OF_ALL_ROLES, "work_mem", "b")];
        let names = BTreeSet::from(["shop".to_owned()]);
        let codes = |fingerprint: &Fingerprint, found: &[Object], terms| -> Vec<String> {
            shared(fingerprint, found, &names, terms).findings.into_iter().map(|one| one.code).collect()
        };
        assert_eq!(shared(&fingerprint, &before, &names, PHYSICAL).unchecked.len(), 1, "an older backup");
        fingerprint.shared = Some(before.clone());
        assert!(codes(&fingerprint, &before, PHYSICAL).is_empty());
        assert_eq!(codes(&fingerprint, &before[..1], LOGICAL), ["setting_of_all_roles_missing"]);
        let altered = [one(ATTRIBUTES_OF_DATABASE, "shop", "x"), before[1].clone()];
        assert_eq!(codes(&fingerprint, &altered, LOGICAL), ["attributes_of_database_changed"]);
        let mut sold = before.clone();
        sold[0].owner = None;
        assert_eq!(codes(&fingerprint, &sold, LOGICAL), ["attributes_of_database_owner"]);
        let more = [before[0].clone(), before[1].clone(), one(COMMENT_ON_DATABASE, "postgres", "p")];
        assert_eq!(codes(&fingerprint, &more, PHYSICAL), ["comment_on_database_extra"]);
        assert!(codes(&fingerprint, &more, LOGICAL).is_empty(), "its own database");
        let elsewhere = Terms { physical: false, whole_server: false };
        assert_eq!(shared(&fingerprint, &[], &names, elsewhere).unchecked.len(), 1);
    }

    #[test]
    fn before_15_a_dump_comes_back_without_its_tablespaces() {
        let mut fingerprint = sample::manifest().fingerprint;
        let names = BTreeSet::new();
        for (kind, major, terms, found) in [
            ("comment on tablespace", 14, LOGICAL, "unchecked"),
            ("comment on tablespace", 15, LOGICAL, "comment_on_tablespace_missing"),
            ("comment on tablespace", 16, LOGICAL, "comment_on_tablespace_missing"),
            ("comment on tablespace", 14, PHYSICAL, "comment_on_tablespace_missing"),
            ("comment on role", 14, LOGICAL, "comment_on_role_missing"),
        ] {
            fingerprint.server.version_num = major * 10_000;
            fingerprint.shared = Some(vec![one(kind, "fast", "a")]);
            let compared = shared(&fingerprint, &[], &names, terms);
            let codes = compared.findings.iter().map(|one| one.code.as_str());
            let seen: Vec<&str> = codes.chain(compared.unchecked.iter().map(|_| "unchecked")).collect();
            assert_eq!(seen, [found], "{kind} {major} {terms:?}");
        }
    }
}
